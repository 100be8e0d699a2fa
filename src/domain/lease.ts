/**
 * What a lease is: one holder's hold on one machine, from checkout to check-in. (machine, generation) names it, and whoever
 * calls on it may present that generation. It may have an end, a heartbeat that it ends without, or be soft: kept only as long
 * as nobody else needs the machine.
 */
import type { Labels } from './vm-class.ts'

export const LEASE_ENDS = [
  'checked_in',
  'expired',
  'heartbeat_missed',
  'released',
  'transferred',
  'no_show',
  'user_deleted',
  'reset',
] as const

export type LeaseEnd = (typeof LEASE_ENDS)[number]

export interface Lease {
  readonly vmId: number
  readonly generation: number
  readonly poolId: number
  readonly userId: number
  readonly fromMs: number
  /** null: without end. */
  readonly endsAtMs: number | null
  /** null: it still runs. */
  readonly endedAtMs: number | null
  readonly endedBy: LeaseEnd | null
  /** The request that it was granted to; null: a call of the original API. */
  readonly requestId: string | null
  /** The reservation that it fulfils. */
  readonly reservationId: string | null
  /** A lease without end that ends this long after somebody needs the machine; null: not soft. */
  readonly softGraceSeconds: number | null
  /** The lease ends when no heartbeat came for so long; null: none is expected. */
  readonly heartbeatSeconds: number | null
  /** By when the next heartbeat has to come. */
  readonly beatByMs: number | null
  /** When a worker has to look at it next: its warning, its end or its missed heartbeat; null: never. */
  readonly dueAtMs: number | null
  /** True once its holder was told that it ends soon. */
  readonly warned: boolean
  /** What it was charged in the pool's fair queue: machine-minutes, and the weight they were divided by. */
  readonly chargedMinutes: number
  readonly weight: number
  readonly purpose: string | null
  readonly labels: Labels
  /** Users who may see the machine's address beside the holder, by id. */
  readonly sharedWith: readonly number[]
}

/** The lease of a hold of which nothing more is known: a call of the original API. */
export function plainLease(hold: Pick<Lease, 'vmId' | 'generation' | 'poolId' | 'userId' | 'fromMs'>): Lease {
  return {
    ...hold,
    endsAtMs: null,
    endedAtMs: null,
    endedBy: null,
    requestId: null,
    reservationId: null,
    softGraceSeconds: null,
    heartbeatSeconds: null,
    beatByMs: null,
    dueAtMs: null,
    warned: false,
    chargedMinutes: 0,
    weight: 1,
    purpose: null,
    labels: {},
    sharedWith: [],
  }
}
