/**
 * Answers the questions of `Reads` over any database that can run a statement: only the way in which a statement is run
 * differs between databases.
 */
import { FIRST_DAY } from '../domain/reset.ts'
import { leaseOf } from './lease.ts'
import type { Holding, LeaseSlice, Reads, VmFilter } from './port.ts'
import type { ReadStatements } from './read-statements.ts'
import { requestOf } from './request.ts'
import { reservationOf } from './reservation.ts'
import type { Statement } from './statement.ts'
import {
  eventOf,
  holderIdOf,
  installationOf,
  poolReadingOf,
  type Tuple,
  tokenOf,
  userOf,
  type VmTuple,
  vmListingOf,
  vmOf,
} from './tables.ts'
import { usageArguments, usageOf } from './usage.ts'

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
    vmById: (id) => runner.first(statements.vmById, { id }, vmOf),
    vmsOfPool(poolId, { label, ...filter }, slice) {
      const places = { ...filter, ...(label === undefined ? {} : { label: `,${label},` }) }
      return runner.all(statements.vmsOfPool.with(places), { ...places, poolId, ...slice }, vmOf)
    },
    lease: (vmId, generation) => runner.first(statements.lease, { vmId, generation }, leaseOf),
    leases({ running, ...filter }, { after, rowsMax }) {
      const statement = (running ? statements.runningLeases : statements.endedLeases).with(filter)
      return runner.all(statement, { ...filter, ...placeOf(after), rowsMax }, leaseOf)
    },
    request: (id) => runner.first(statements.request, { id }, requestOf),
    requests({ state, ...filter }, slice) {
      const places = { ...filter, ...(state === 'waiting' ? { waiting: 1 as const } : state && { state }) }
      return runner.all(statements.requestsWhere.with(places), { ...places, ...slice }, requestOf)
    },
    reservation: (id) => runner.first(statements.reservation, { id }, reservationOf),
    reservations({ state, ...filter }, slice) {
      const standing = state === 'confirmed' || state === 'active'
      const places = { ...filter, ...(standing ? { [state]: 1 as const } : state && { state }) }
      return runner.all(statements.reservationsWhere.with(places), { ...places, ...slice }, reservationOf)
    },
    nextTickAtMs: (poolId) =>
      runner.first(statements.nextTickAtMs, { poolId }, (row) => row[0] as number | null),
    async usage(userId, nowMs) {
      const args = usageArguments(userId, nowMs)
      const rows = (statement: Statement<Tuple>) => runner.all(statement, args, (row) => row)
      const { held, used, waiting } = statements.usage
      const answers = await Promise.all([rows(held), rows(used), rows(waiting)])
      return usageOf(userId, { held: answers[0], used: answers[1], waiting: answers[2] })
    },
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

/** Where a list of leases goes on, as its statements want to know it. */
function placeOf(after: LeaseSlice['after']): { vmId: number; generation: number; endedAtMs: number } {
  if (after === null) return { vmId: 0, generation: 0, endedAtMs: 0 }
  return { vmId: after.vmId, generation: after.generation, endedAtMs: after.endedAtMs ?? 0 }
}

function argumentsOf(filter: VmFilter): Arguments {
  const { by: _, ...rest } = filter
  return rest
}
