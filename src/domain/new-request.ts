/** How a request begins: what was asked, as it would wait. Its place in the queue is given by whoever lets it in. */
import type { Pool } from './pool.ts'
import type { LeaseTerms, Request } from './request.ts'
import type { View } from './working-set.ts'

/** The terms of a call of the original API. */
export const ENDLESS: LeaseTerms = {
  durationSeconds: null,
  durationSecondsMin: null,
  softGraceSeconds: null,
  heartbeatSeconds: null,
  purpose: null,
  labels: {},
}

/** What somebody asks for. */
export interface Asked extends Pick<Request, 'id' | 'wish' | 'terms' | 'priority'> {
  /** How long it may wait; 0: not at all; null: for ever. */
  readonly waitSeconds: number | null
}

/** A request that has no place in its pool's queue yet. */
export function newRequest(view: View, pool: Pool, userId: number, asked: Asked): Request {
  const { id, wish, terms, priority, waitSeconds } = asked
  return {
    id,
    poolId: pool.id,
    userId,
    seq: 0,
    wish,
    terms,
    priority,
    state: 'waiting',
    createdAtMs: view.nowMs,
    untilMs: waitSeconds === null ? null : view.nowMs + waitSeconds * 1_000,
    endedAtMs: null,
    due: null,
    parked: false,
    collectSinceMs: null,
    reservationId: null,
    leases: [],
  }
}
