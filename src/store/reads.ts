/**
 * Answers the questions of `Reads` over any database that can run a statement: only the way in which a statement is run
 * differs between databases.
 */

import { FIRST_DAY } from '../domain/reset.ts'
import type { User } from '../domain/user.ts'
import type { Holding, Reads, VmFilter } from './port.ts'
import type { ReadStatements, Statement } from './read-statements.ts'
import {
  eventOf,
  installationOf,
  poolReadingOf,
  type Tables,
  userOf,
  type VmListingRow,
  vmListingOf,
} from './tables.ts'

export type Arguments = Readonly<Record<string, string | number>>

/** Runs a statement of `ReadStatements`. */
export interface StatementRunner {
  all<Row>(statement: Statement<Row>, args: Arguments): Promise<Row[]>
  first<Row>(statement: Statement<Row>, args: Arguments): Promise<Row | undefined>
}

const NOTHING: Arguments = {}

/** `Reads` over `runner`. */
export function readsOver(runner: StatementRunner, statements: ReadStatements): Reads {
  async function user(id: number): Promise<User | null> {
    const row = await runner.first(statements.user, { id })
    return row === undefined ? null : userOf(row as Tables['user'])
  }

  async function holding(row: VmListingRow | undefined, holderId: number | null): Promise<Holding | null> {
    if (row === undefined || holderId === null) return null
    const holder = await user(holderId)
    return holder === null ? null : { vm: vmListingOf(row), holder }
  }

  return {
    user,
    async userByEmail(email) {
      const row = await runner.first(statements.userByEmail, { email })
      return row === undefined ? null : userOf(row)
    },
    async activeUsers(slice) {
      return (await runner.all(statements.activeUsers, { ...slice })).map(userOf)
    },
    async anyUser() {
      return (await runner.first(statements.anyUser, NOTHING)) !== undefined
    },
    async leavers(rowsMax) {
      return (await runner.all(statements.leavers, { rowsMax })).map((row) => row.id)
    },
    async pool(id) {
      const row = await runner.first(statements.pool, { id })
      return row === undefined ? null : poolReadingOf(row)
    },
    async poolNamed(name) {
      const row = await runner.first(statements.poolNamed, { name })
      return row === undefined ? null : poolReadingOf(row)
    },
    async pools() {
      return (await runner.all(statements.pools, NOTHING)).map(poolReadingOf)
    },
    async vm(pool, id) {
      const row = await runner.first(statements.vm, { pool, id })
      return row === undefined ? null : vmListingOf(row)
    },
    async vms(pool, filter, slice) {
      const rows = await runner.all(statements.vms[filter.by], { pool, ...slice, ...argumentsOf(filter) })
      return rows.map(vmListingOf)
    },
    async heldByUser(pool, userId) {
      const row = await runner.first(statements.heldByUser, { pool, userId })
      return holding(row, userId)
    },
    async holderOf(pool, vmId) {
      const row = await runner.first(statements.holderOf, { pool, id: vmId })
      return holding(row, row?.holder_id ?? null)
    },
    async nextDueAtMs(state) {
      return (await runner.first(statements.nextDueAtMs, { state }))?.due_at_ms ?? null
    },
    async installation() {
      const row = await runner.first(statements.installation, NOTHING)
      return row === undefined ? FIRST_DAY : installationOf(row)
    },
    async events(slice) {
      return (await runner.all(statements.events, { ...slice })).map(eventOf)
    },
    async lastEventId() {
      return (await runner.first(statements.lastEventId, NOTHING))?.id ?? 0
    },
    async ping() {
      await runner.first(statements.installation, NOTHING)
    },
  }
}

function argumentsOf(filter: VmFilter): Arguments {
  const { by: _, ...rest } = filter
  return rest
}
