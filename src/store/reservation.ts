/** A reservation as a row, and back. */
import type { Reservation, ReservationState } from '../domain/reservation.ts'
import type { Labels } from '../domain/vm-class.ts'
import type { Wish } from '../domain/wish.ts'
import type { ColumnTypes, Tables, Tuple } from './tables.ts'

/** The columns of a reservation in the order in which `reservationOf` takes them. */
export const RESERVATION: ColumnTypes<Tables['reservation']> = {
  id: 'text',
  pool_id: 'integer',
  user_id: 'integer',
  wish: 'text',
  from_ms: 'integer',
  to_ms: 'integer',
  pinned: 'text',
  state: 'text',
  at_risk: 'integer',
  missing: 'integer',
  confirmed_seq: 'integer',
  no_show_seconds: 'integer',
  claimed: 'integer',
  series_id: 'text',
  purpose: 'text',
  labels: 'text',
  created_at_ms: 'integer',
}

export const RESERVATION_COLUMNS = Object.keys(RESERVATION) as (keyof Tables['reservation'])[]

export function reservationOf(row: Tuple): Reservation {
  return {
    id: row[0] as string,
    poolId: row[1] as number,
    userId: row[2] as number,
    wish: JSON.parse(row[3] as string) as Wish,
    fromMs: row[4] as number,
    toMs: row[5] as number,
    pinned: JSON.parse(row[6] as string) as Reservation['pinned'],
    state: row[7] as ReservationState,
    atRisk: row[8] === 1,
    missing: row[9] as number,
    confirmedSeq: row[10] as number,
    noShowSeconds: row[11] as number | null,
    claimed: row[12] === 1,
    seriesId: row[13] as string | null,
    purpose: row[14] as string | null,
    labels: JSON.parse(row[15] as string) as Labels,
    createdAtMs: row[16] as number,
  }
}

export function reservationTuple(reservation: Reservation): Tuple {
  return [
    reservation.id,
    reservation.poolId,
    reservation.userId,
    JSON.stringify(reservation.wish),
    reservation.fromMs,
    reservation.toMs,
    JSON.stringify(reservation.pinned),
    reservation.state,
    reservation.atRisk ? 1 : 0,
    reservation.missing,
    reservation.confirmedSeq,
    reservation.noShowSeconds,
    reservation.claimed ? 1 : 0,
    reservation.seriesId,
    reservation.purpose,
    JSON.stringify(reservation.labels),
    reservation.createdAtMs,
  ]
}
