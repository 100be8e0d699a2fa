/**
 * What a request is: a wish for machines, granted at once or waiting in its pool's queue until it is granted, given up by its
 * owner, or its time to wait is over.
 */

import type { Labels } from './vm-class.ts'
import type { Wish } from './wish.ts'

export const PRIORITIES = ['low', 'normal', 'high'] as const

export type Priority = (typeof PRIORITIES)[number]

export const REQUEST_STATES = ['waiting', 'granted', 'cancelled', 'expired'] as const

export type RequestState = (typeof REQUEST_STATES)[number]

/** What the leases of a request are to be like. */
export interface LeaseTerms {
  /** null: without end. */
  readonly durationSeconds: number | null
  /** Settle may shorten the lease by itself, but not below this; null: it may not. */
  readonly durationSecondsMin: number | null
  readonly softGraceSeconds: number | null
  readonly heartbeatSeconds: number | null
  readonly purpose: string | null
  readonly labels: Labels
}

export interface Request {
  readonly id: string
  readonly poolId: number
  readonly userId: number
  /** Its place among the requests of its pool, by arrival. */
  readonly seq: number
  readonly wish: Wish
  readonly terms: LeaseTerms
  readonly priority: Priority
  readonly state: RequestState
  readonly createdAtMs: number
  /** Until when it waits; null: for ever. */
  readonly untilMs: number | null
  readonly endedAtMs: number | null
  /**
   * At how many departures of the pool its row is overdue: set when it becomes the first of its row (its owner's requests for the
   * same kinds and length); null: it is not the first, or it is parked.
   */
  readonly due: number | null
  /** True while its owner holds too much to be granted it. */
  readonly parked: boolean
  /** Since when machines are collected for it, because no time can be promised; null: they are not. */
  readonly collectSinceMs: number | null
  /** The reservation whose missing machines it stands for. */
  readonly reservationId: string | null
  /** The leases that it was granted. */
  readonly leases: readonly { readonly vmId: number; readonly generation: number }[]
}

/** A place in a pool's fair queue: one for each user who waits there, or was served a short while ago. */
export interface Flow {
  readonly poolId: number
  readonly userId: number
  /** Start tag of its next request, in machine-minutes by weight. */
  readonly tag: number
}

/** A request that was given up, or has waited long enough: it has no place in the queue any more. */
export function over(request: Request, state: 'cancelled' | 'expired', atMs: number): Request {
  return { ...request, state, endedAtMs: atMs, due: null, parked: false }
}
