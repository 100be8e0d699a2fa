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

/** How a lease is named: `machine-generation`. */
export function leaseId({ vmId, generation }: Pick<Lease, 'vmId' | 'generation'>): string {
  return `${vmId}-${generation}`
}

/** The warning comes this part of the lease's length before its end at the earliest, so a short lease is not warned at once. */
const WARNED_PART = 1 / 4

/** When the holder is told that the lease ends soon; null: it has no end, or they were told. */
export function warnAtMs(lease: Lease, warnSeconds: number): number | null {
  if (lease.endsAtMs === null || lease.warned) return null
  const lengthMs = lease.endsAtMs - lease.fromMs
  return lease.endsAtMs - Math.min(warnSeconds * 1_000, Math.floor(lengthMs * WARNED_PART))
}

/** The lease with `dueAtMs` as its other fields ask for. */
export function planned(lease: Lease, warnSeconds: number): Lease {
  const times = [lease.endsAtMs, lease.beatByMs, warnAtMs(lease, warnSeconds)].filter((ms) => ms !== null)
  return { ...lease, dueAtMs: lease.endedAtMs !== null || times.length === 0 ? null : Math.min(...times) }
}
