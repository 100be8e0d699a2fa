/**
 * Every question that `Reads` answers, written once for all databases and compiled once at the start: a statement is a text
 * with named places for its arguments. Compiling a query for each call would cost more than running it.
 */
import { type Compilable, sql } from 'kysely'
import { ACCOUNT_EVENTS } from '../domain/event.ts'
import type { VmState } from '../domain/vm.ts'
import type { VmType } from '../domain/vm-type.ts'
import { allocationStatements } from './allocation-statements.ts'
import type { VmFilter } from './port.ts'
import { compilerFor, type Dialect, place, type Statement, statement, tupleStatement } from './statement.ts'
import type { VmListingRow, VmTuple } from './tables.ts'

function listingStatement(query: Compilable<VmListingRow>): Statement<VmTuple> {
  return tupleStatement(query)
}

/** All read statements in `dialect`. */
export function readStatements(dialect: Dialect) {
  const db = compilerFor(dialect)
  const users = db.selectFrom('user').selectAll()
  const active = users.where('state', '=', sql.lit('active'))
  const tokens = db.selectFrom('token').selectAll()
  const pools = db.selectFrom('pool').selectAll()

  const poolId = db.selectFrom('pool').select('id').where('name', '=', place<string>('pool'))
  const listing = db
    .selectFrom('vm')
    .leftJoin('user as holder', 'holder.id', 'vm.holder_id')
    .where('vm.state', '<>', sql.lit('deleting'))
    .select([
      'vm.id',
      'vm.name',
      'vm.type',
      'vm.address',
      'vm.power',
      'vm.state',
      'holder.email as holder_email',
      'vm.created_at_ms',
      'vm.holder_id',
    ])
  const ofPool = listing.where('vm.pool_id', '=', poolId)
  // The sign keeps the pool's index out of it, where another finds fewer rows.
  const alsoOfPool = listing.where(sql<number>`+vm.pool_id`, '=', poolId)
  const sliced = (query: typeof listing) =>
    query.where('vm.id', '>', place('afterId')).orderBy('vm.id').limit(place('rowsMax'))
  const slice = sliced(ofPool)
  const holderId = db
    .selectFrom('user')
    .select('id')
    .where('email', '=', place<string>('email'))
    .where('state', '=', sql.lit('active'))
  const held = alsoOfPool.where('holder.state', '=', sql.lit('active'))

  const vms: Record<VmFilter['by'], Statement<VmTuple>> = {
    all: listingStatement(slice),
    type: listingStatement(slice.where('vm.type', '=', place<VmType>('type'))),
    running: listingStatement(slice.where('vm.power', '=', sql.lit('running'))),
    stopped: listingStatement(slice.where('vm.power', '=', sql.lit('stopped'))),
    ready: listingStatement(slice.where('vm.state', '=', sql.lit('ready'))),
    // In the words of the partial index vm_aside, so that it is used.
    aside: listingStatement(
      slice.where('vm.state', '<>', sql.lit('ready')).where('vm.state', '<>', sql.lit('leased')),
    ),
    holder: listingStatement(sliced(alsoOfPool).where('vm.holder_id', '=', holderId)),
  }

  return {
    user: statement(users.where('id', '=', place('id'))),
    userByEmail: statement(active.where('email', '=', place<string>('email'))),
    activeUsers: statement(active.where('id', '>', place('afterId')).orderBy('id').limit(place('rowsMax'))),
    anyUser: statement(
      db.selectFrom('user').select('id').where('state', '=', sql.lit('active')).limit(sql.lit(1)),
    ),
    token: statement(tokens.where('id', '=', place<string>('id'))),
    tokenByHash: statement(tokens.where('hash', '=', place<string>('hash'))),
    tokensOf: statement(tokens.where('user_id', '=', place('userId')).orderBy('id')),
    leavers: statement(
      db
        .selectFrom('user')
        .select('id')
        .where('state', '=', sql.lit('leaving'))
        .orderBy('id')
        .limit(place('rowsMax')),
    ),
    pool: statement(pools.where('id', '=', place('id'))),
    poolNamed: statement(pools.where('name', '=', place<string>('name'))),
    pools: statement(pools.orderBy('id')),
    vm: listingStatement(alsoOfPool.where('vm.id', '=', place('id'))),
    vms,
    heldByUser: listingStatement(
      held.where('vm.holder_id', '=', place('userId')).orderBy('vm.id').limit(sql.lit(1)),
    ),
    holderOf: listingStatement(held.where('vm.id', '=', place('id'))),
    nextDueAtMs: statement(
      db
        .selectFrom('vm')
        .select('due_at_ms')
        .where('pool_id', '=', place('poolId'))
        .where('state', '=', place<VmState>('state'))
        .where('due_at_ms', 'is not', null)
        .orderBy('due_at_ms')
        .limit(sql.lit(1)),
    ),
    installation: statement(db.selectFrom('installation').selectAll()),
    events: statement(
      db
        .selectFrom('event')
        .selectAll()
        .where('id', '>', place('afterId'))
        .orderBy('id')
        .limit(place('rowsMax')),
    ),
    accountEvents: statement(
      db
        .selectFrom('event')
        .selectAll()
        .where('id', '>', place('afterId'))
        // In the words of the partial index event_account, so that it is used.
        .where(
          'type',
          'in',
          ACCOUNT_EVENTS.map((type) => sql.lit(type)),
        )
        .orderBy('id')
        .limit(place('rowsMax')),
    ),
    lastEventId: statement(db.selectFrom('event').select('id').orderBy('id', 'desc').limit(sql.lit(1))),
    ...allocationStatements(dialect),
  }
}

export type ReadStatements = ReturnType<typeof readStatements>
