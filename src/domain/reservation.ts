/**
 * What a reservation is, and how it goes on: a promise of machines of a pool for a window of time. Once confirmed it is kept, or
 * its holder is told at once why not (`atRisk`). Whether it is confirmed is admission.ts's to say, what becomes of it when
 * machines fail is healing.ts's, and how it begins is reservation-start.ts's.
 *
 * It ends with its window, when its holder gives it up, or when nobody has used it for the agreed time.
 */
import type { Pool } from './pool.ts'
import { type Refusal, refusal } from './refusal.ts'
import { HORIZON_MS } from './timeline.ts'
import type { ClassKey, Labels } from './vm-class.ts'
import type { Wish } from './wish.ts'

/**
 * confirmed: its window is to come; active: its machines are leased to its holder; ended: its window is over, or all of it was
 * given back; cancelled: given up before its start; no_show: nobody used it within the agreed time.
 */
export const RESERVATION_STATES = ['confirmed', 'active', 'ended', 'cancelled', 'no_show'] as const

export type ReservationState = (typeof RESERVATION_STATES)[number]

/** Classes and how many machines of each. */
export type Pinned = readonly (readonly [classKey: ClassKey, count: number])[]

export interface Reservation {
  readonly id: string
  readonly poolId: number
  readonly userId: number
  readonly wish: Wish
  readonly fromMs: number
  readonly toMs: number
  /** The classes that serve it: class and how many machines. */
  readonly pinned: Pinned
  readonly state: ReservationState
  /** True when machines failed and it cannot be kept whole as things are; its holder has been told. */
  readonly atRisk: boolean
  /** How many machines are missing while it is at risk. */
  readonly missing: number
  /** Its place among the confirmed reservations of its pool: the latest is the first to be at risk. */
  readonly confirmedSeq: number
  /** It ends when nobody has used it so long after its start; null: it does not. */
  readonly noShowSeconds: number | null
  /** True once its holder called on it, or on one of its leases. */
  readonly claimed: boolean
  /** The series of a recurring reservation; null: a single one. */
  readonly seriesId: string | null
  readonly purpose: string | null
  readonly labels: Labels
  readonly createdAtMs: number
}

/** Why a window cannot be booked whatever is free. */
export function windowRefusal(pool: Pool, fromMs: number, toMs: number, nowMs: number): Refusal | null {
  const window = { from: isoTime(fromMs), to: isoTime(toMs) }
  if (fromMs >= toMs) return refusal('window_empty', { field: 'to', ...window })
  // Whoever books from now on may have read a clock that is a little behind.
  if (fromMs < nowMs - pool.gridSeconds * 1_000)
    return refusal('window_past', { field: 'from', ...window, now: isoTime(nowMs) })
  if (toMs > nowMs + HORIZON_MS)
    return refusal('window_far', { field: 'to', ...window, until: isoTime(nowMs + HORIZON_MS) })
  const secondsMax = pool.leaseSecondsMax
  if (secondsMax !== null && toMs - fromMs > secondsMax * 1_000)
    return refusal('window_long', { field: 'to', ...window, secondsMax })
  return null
}

/** When something is to be done about a reservation by itself: its start, its end, or that nobody used it; null: never. */
export function reservationDueAtMs(reservation: Reservation): number | null {
  const { state, fromMs, toMs } = reservation
  if (state === 'confirmed') return fromMs
  if (state !== 'active') return null
  return Math.min(toMs, noShowAtMs(reservation) ?? toMs)
}

/** Whether a confirmed reservation begins. */
export function begins({ state, fromMs, toMs }: Reservation, nowMs: number): boolean {
  return state === 'confirmed' && fromMs <= nowMs && nowMs < toMs
}

/** A reservation that is over by itself, as it is then; null: it is not. Its leases end with it. */
export function expired(reservation: Reservation, nowMs: number): Reservation | null {
  const { state, toMs } = reservation
  if (state !== 'confirmed' && state !== 'active') return null
  if (nowMs >= toMs) return { ...over(reservation), state: 'ended' }
  const showMs = state === 'active' ? noShowAtMs(reservation) : null
  return showMs !== null && nowMs >= showMs ? { ...over(reservation), state: 'no_show' } : null
}

/** A reservation that its holder gives up: before its start it is cancelled, later it ends, and its leases with it. */
export function givenUp(reservation: Reservation): Reservation | Refusal {
  const { id, state } = reservation
  if (state === 'confirmed') return { ...over(reservation), state: 'cancelled' }
  if (state === 'active') return { ...over(reservation), state: 'ended' }
  return refusal('reservation_over', { id, state })
}

/** A reservation after one of its leases ended, when so many are left and so many machines are still waited for: null while some are. */
export function givenBack(reservation: Reservation, leases: number, waiting: number): Reservation | null {
  if (reservation.state !== 'active' || leases + waiting > 0) return null
  return { ...over(reservation), state: 'ended' }
}

/** A reservation that its holder called on: from then on it is used. */
export function claimed(reservation: Reservation): Reservation | Refusal {
  const { id, state } = reservation
  if (state !== 'confirmed' && state !== 'active') return refusal('reservation_over', { id, state })
  return reservation.claimed ? reservation : { ...reservation, claimed: true }
}

function noShowAtMs({ claimed, noShowSeconds, fromMs }: Reservation): number | null {
  return claimed || noShowSeconds === null ? null : fromMs + noShowSeconds * 1_000
}

/** Nothing is at risk any more. */
function over(reservation: Reservation): Reservation {
  return { ...reservation, atRisk: false, missing: 0 }
}

/** An instant as refusals say it. */
export function isoTime(ms: number): string {
  return new Date(ms).toISOString()
}
