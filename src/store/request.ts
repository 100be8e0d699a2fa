/** A request and a place in the fair queue as rows, and back. */
import type { Flow, LeaseTerms, Priority, Request, RequestState } from '../domain/request.ts'
import type { Wish } from '../domain/wish.ts'
import type { ColumnTypes, Tables, Tuple } from './tables.ts'

/** The columns of a request in the order in which `requestOf` takes them. */
export const REQUEST: ColumnTypes<Tables['request']> = {
  id: 'text',
  pool_id: 'integer',
  user_id: 'integer',
  seq: 'integer',
  wish: 'text',
  terms: 'text',
  priority: 'text',
  state: 'text',
  created_at_ms: 'integer',
  until_ms: 'integer',
  ended_at_ms: 'integer',
  due: 'integer',
  parked: 'integer',
  collect_since_ms: 'integer',
  reservation_id: 'text',
  leases: 'text',
}

export const REQUEST_COLUMNS = Object.keys(REQUEST) as (keyof Tables['request'])[]

export function requestOf(row: Tuple): Request {
  return {
    id: row[0] as string,
    poolId: row[1] as number,
    userId: row[2] as number,
    seq: row[3] as number,
    wish: JSON.parse(row[4] as string) as Wish,
    terms: JSON.parse(row[5] as string) as LeaseTerms,
    priority: row[6] as Priority,
    state: row[7] as RequestState,
    createdAtMs: row[8] as number,
    untilMs: row[9] as number | null,
    endedAtMs: row[10] as number | null,
    due: row[11] as number | null,
    parked: row[12] === 1,
    collectSinceMs: row[13] as number | null,
    reservationId: row[14] as string | null,
    leases: JSON.parse(row[15] as string) as Request['leases'],
  }
}

export function requestTuple(request: Request): Tuple {
  return [
    request.id,
    request.poolId,
    request.userId,
    request.seq,
    JSON.stringify(request.wish),
    JSON.stringify(request.terms),
    request.priority,
    request.state,
    request.createdAtMs,
    request.untilMs,
    request.endedAtMs,
    request.due,
    request.parked ? 1 : 0,
    request.collectSinceMs,
    request.reservationId,
    JSON.stringify(request.leases),
  ]
}

/** The columns of a flow in the order in which `flowOf` takes them. */
export const FLOW: ColumnTypes<Tables['flow']> = { pool_id: 'integer', user_id: 'integer', tag: 'real' }

export const FLOW_COLUMNS = Object.keys(FLOW) as (keyof Tables['flow'])[]

export function flowOf(row: Tuple): Flow {
  return { poolId: row[0] as number, userId: row[1] as number, tag: row[2] as number }
}

export function flowTuple({ poolId, userId, tag }: Flow): Tuple {
  return [poolId, userId, tag]
}
