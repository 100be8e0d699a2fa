/** The questions of `Reads` about leases, requests, reservations and the machines of a pool, compiled as read-statements.ts says. */
import { sql } from 'kysely'
import type { RequestState } from '../domain/request.ts'
import type { ReservationState } from '../domain/reservation.ts'
import type { VmState } from '../domain/vm.ts'
import { LEASE_COLUMNS } from './lease.ts'
import type { LeaseFilter, RequestFilter, ReservationFilter, VmOfPoolFilter } from './port.ts'
import { REQUEST_COLUMNS } from './request.ts'
import { RESERVATION_COLUMNS } from './reservation.ts'
import {
  compilerFor,
  type Dialect,
  FilteredStatement,
  place,
  tupleStatement,
  writtenStatement,
} from './statement.ts'
import { VM_COLUMNS } from './tables.ts'
import { usageStatements } from './usage.ts'

type Filters<Filter> = FilteredStatement<Omit<Filter, 'running'>>

/** A state that an index is for: it has to be in the text of the statement. */
type Literal<Filter, States extends string> = FilteredStatement<Filter & { readonly [S in States]?: 1 }>

/** A machine’s labels as they stand in its class, each between two commas. */
const LABELS = sql<string>`replace(class, '#', ',') || ','`

export function allocationStatements(dialect: Dialect) {
  const db = compilerFor(dialect)
  const leases = db.selectFrom('lease')
  const requests = db.selectFrom('request').select(REQUEST_COLUMNS)
  const reservations = db.selectFrom('reservation').select(RESERVATION_COLUMNS)
  const vms = db.selectFrom('vm').select(VM_COLUMNS)
  const rowsMax = place('rowsMax')
  const behind = sql<boolean>`(vm_id, generation) > (${place('vmId')}, ${place('generation')})`

  const runningLeases: Filters<LeaseFilter> = new FilteredStatement((has) => {
    let query = db
      .selectFrom('vm')
      .innerJoin('lease', (join) =>
        join.onRef('lease.vm_id', '=', 'vm.id').onRef('lease.generation', '=', 'vm.generation'),
      )
      .select(LEASE_COLUMNS.map((column) => `lease.${column}` as const))
      .where('vm.state', '=', sql.lit('leased'))
      .where('vm.id', '>', place('vmId'))
      .orderBy('vm.id')
      .limit(rowsMax)
    // The sign keeps the pool's index out of it: a holder has fewer machines.
    if (has('userId')) query = query.where('vm.holder_id', '=', place('userId'))
    if (has('poolId'))
      query = query.where(has('userId') ? sql<number>`+vm.pool_id` : 'vm.pool_id', '=', place('poolId'))
    return tupleStatement(query)
  })

  const endedLeases: Filters<LeaseFilter> = new FilteredStatement((has) => {
    let query = leases.select(LEASE_COLUMNS).where('ended_at_ms', 'is not', null).limit(rowsMax)
    if (has('poolId')) query = query.where('pool_id', '=', place('poolId'))
    if (!has('userId')) return tupleStatement(query.where(behind).orderBy('vm_id').orderBy('generation'))
    return tupleStatement(
      query
        .where('user_id', '=', place('userId'))
        .where('ended_at_ms', '>=', place('endedAtMs'))
        .where(
          sql<boolean>`(ended_at_ms, vm_id, generation) > (${place('endedAtMs')}, ${place('vmId')}, ${place('generation')})`,
        )
        .orderBy('ended_at_ms')
        .orderBy('vm_id')
        .orderBy('generation'),
    )
  })

  const requestsWhere: Literal<RequestFilter, 'waiting'> = new FilteredStatement((has) => {
    let query = requests.where('id', '>', place<string>('after')).orderBy('id').limit(rowsMax)
    if (has('userId')) query = query.where('user_id', '=', place('userId'))
    if (has('poolId')) query = query.where('pool_id', '=', place('poolId'))
    if (has('state')) query = query.where('state', '=', place<RequestState>('state'))
    if (has('waiting')) query = query.where('state', '=', sql.lit('waiting'))
    return tupleStatement(query)
  })

  const reservationsWhere: Literal<ReservationFilter, 'confirmed' | 'active'> = new FilteredStatement(
    (has) => {
      let query = reservations.where('id', '>', place<string>('after')).orderBy('id').limit(rowsMax)
      if (has('userId')) query = query.where('user_id', '=', place('userId'))
      if (has('poolId')) query = query.where('pool_id', '=', place('poolId'))
      if (has('seriesId')) query = query.where('series_id', '=', place<string>('seriesId'))
      if (has('state')) query = query.where('state', '=', place<ReservationState>('state'))
      for (const state of ['confirmed', 'active'] as const)
        if (has(state)) query = query.where('state', '=', sql.lit(state))
      if (has('toMs')) query = query.where('from_ms', '<', place('toMs'))
      if (has('fromMs')) query = query.where('to_ms', '>', place('fromMs'))
      return tupleStatement(query)
    },
  )

  const vmsOfPool: FilteredStatement<VmOfPoolFilter> = new FilteredStatement((has) => {
    let query = vms
      .where('pool_id', '=', place('poolId'))
      .where('id', '>', place('afterId'))
      .orderBy('id')
      .limit(rowsMax)
    if (has('class')) query = query.where('class', '=', place<string>('class'))
    if (has('type')) query = query.where('type', '=', place<string>('type'))
    if (has('state')) query = query.where('state', '=', place<VmState>('state'))
    // Without the label the text is shorter. LIKE would take an underscore for any character.
    if (has('label'))
      query = query.where(sql<boolean>`replace(${LABELS}, ${place('label')}, ',') <> ${LABELS}`)
    return tupleStatement(query)
  })

  return {
    vmById: tupleStatement(vms.where('id', '=', place('id'))),
    vmsOfPool,
    lease: tupleStatement(
      leases
        .select(LEASE_COLUMNS)
        .where('vm_id', '=', place('vmId'))
        .where('generation', '=', place('generation')),
    ),
    runningLeases,
    endedLeases,
    request: tupleStatement(requests.where('id', '=', place<string>('id'))),
    requestsWhere,
    reservation: tupleStatement(reservations.where('id', '=', place<string>('id'))),
    reservationsWhere,
    // When time alone gives a pool's queue something to do.
    nextTickAtMs: writtenStatement(
      dialect,
      `SELECT min(at_ms) FROM (
         SELECT min(due_at_ms) AS at_ms FROM lease WHERE pool_id = :poolId AND due_at_ms IS NOT NULL
         UNION ALL SELECT min(until_ms) FROM request WHERE pool_id = :poolId AND state = 'waiting'
         UNION ALL SELECT min(from_ms) FROM reservation WHERE pool_id = :poolId AND state = 'confirmed'
         UNION ALL SELECT min(to_ms) FROM reservation WHERE pool_id = :poolId AND state = 'active'
         UNION ALL SELECT min(from_ms + no_show_seconds * 1000) FROM reservation
                   WHERE pool_id = :poolId AND state = 'active' AND claimed = 0) AS times`,
    ),
    usage: usageStatements(dialect),
  }
}
