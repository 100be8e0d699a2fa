/**
 * What a reservation is: a promise of machines of a pool for a window of time. Once confirmed it is kept, or its holder is
 * told at once why not (`atRisk`).
 */
import type { ClassKey, Labels } from './vm-class.ts'
import type { Wish } from './wish.ts'

/**
 * confirmed: its window is to come; active: its machines are leased to its holder; ended: its window is over, or all of it was
 * given back; cancelled: given up before its start; no_show: nobody used it within the agreed time.
 */
export const RESERVATION_STATES = ['confirmed', 'active', 'ended', 'cancelled', 'no_show'] as const

export type ReservationState = (typeof RESERVATION_STATES)[number]

export interface Reservation {
  readonly id: string
  readonly poolId: number
  readonly userId: number
  readonly wish: Wish
  readonly fromMs: number
  readonly toMs: number
  /** The classes that serve it: class and how many machines. */
  readonly pinned: readonly (readonly [classKey: ClassKey, count: number])[]
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
