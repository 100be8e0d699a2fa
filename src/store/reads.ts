/**
 * Answers the questions of `Reads` over any database that can run a statement: only the way in which a statement is run
 * differs between databases.
 */
import { FIRST_DAY } from '../domain/reset.ts'
import type { Holding, Reads, VmFilter } from './port.ts'
import type { ReadStatements, Statement } from './read-statements.ts'
import {
  eventOf,
  holderIdOf,
  installationOf,
  poolReadingOf,
  tokenOf,
  userOf,
  type VmTuple,
  vmListingOf,
} from './tables.ts'

export type Arguments = Readonly<Record<string, string | number>>

/** Runs a statement of `ReadStatements`, and makes of each row what is wanted. */
export interface StatementRunner {
  all<Row, Value>(statement: Statement<Row>, args: Arguments, value: (row: Row) => Value): Promise<Value[]>
  first<Row, Value>(
    statement: Statement<Row>,
    args: Arguments,
    value: (row: Row) => Value,
  ): Promise<Value | null>
}

const NOTHING: Arguments = {}

/** `Reads` over `runner`. */
export function readsOver(runner: StatementRunner, statements: ReadStatements): Reads {
  const user = (id: number) => runner.first(statements.user, { id }, userOf)

  async function holding(statement: Statement<VmTuple>, args: Arguments): Promise<Holding | null> {
    const row = await runner.first(statement, args, (tuple) => tuple)
    const holderId = row === null ? null : holderIdOf(row)
    const holder = holderId === null ? null : await user(holderId)
    return row === null || holder === null ? null : { vm: vmListingOf(row), holder }
  }

  return {
    user,
    userByEmail: (email) => runner.first(statements.userByEmail, { email }, userOf),
    activeUsers: (slice) => runner.all(statements.activeUsers, { ...slice }, userOf),
    anyUser: async () => (await runner.first(statements.anyUser, NOTHING, () => true)) ?? false,
    token: (id) => runner.first(statements.token, { id }, tokenOf),
    tokenByHash: (hash) => runner.first(statements.tokenByHash, { hash }, tokenOf),
    tokensOf: (userId) => runner.all(statements.tokensOf, { userId }, tokenOf),
    leavers: (rowsMax) => runner.all(statements.leavers, { rowsMax }, (row) => row.id),
    pool: (id) => runner.first(statements.pool, { id }, poolReadingOf),
    poolNamed: (name) => runner.first(statements.poolNamed, { name }, poolReadingOf),
    pools: async () => {
      const readings = await runner.all(statements.pools, NOTHING, poolReadingOf)
      return readings.filter(({ pool }) => !pool.retired)
    },
    vm: (pool, id) => runner.first(statements.vm, { pool, id }, vmListingOf),
    vms: (pool, filter, slice) =>
      runner.all(statements.vms[filter.by], { pool, ...slice, ...argumentsOf(filter) }, vmListingOf),
    heldByUser: (pool, userId) => holding(statements.heldByUser, { pool, userId }),
    holderOf: (pool, vmId) => holding(statements.holderOf, { pool, id: vmId }),
    nextDueAtMs: (poolId, state) =>
      runner.first(statements.nextDueAtMs, { poolId, state }, (row) => row.due_at_ms),
    installation: async () =>
      (await runner.first(statements.installation, NOTHING, installationOf)) ?? FIRST_DAY,
    events: (slice) => runner.all(statements.events, { ...slice }, eventOf),
    accountEvents: (slice) => runner.all(statements.accountEvents, { ...slice }, eventOf),
    lastEventId: async () => (await runner.first(statements.lastEventId, NOTHING, (row) => row.id)) ?? 0,
    async ping() {
      await runner.first(statements.installation, NOTHING, installationOf)
    },
  }
}

function argumentsOf(filter: VmFilter): Arguments {
  const { by: _, ...rest } = filter
  return rest
}
