/**
 * Which facts are recorded. An event is a row of the same commit as the change that it tells of; the audit log, the live
 * stream and whoever waits for something are readings of these rows, in the order of their ids. Making and removing
 * machines in bulk is one event a slice, with the ids as ranges.
 */
export type EventType =
  | 'user.created'
  | 'user.changed'
  | 'user.deleted'
  | 'user.gone'
  | 'token.created'
  | 'token.revoked'
  | 'vm_type.created'
  | 'vm_type.changed'
  | 'vm_type.deleted'
  | 'pool.created'
  | 'pool.changed'
  | 'pool.deleted'
  | 'pool.resized'
  | 'vm.planned'
  | 'vm.made'
  | 'vm.checked_out'
  | 'vm.checked_in'
  | 'vm.cleaned'
  | 'lease.extended'
  | 'lease.shared'
  | 'lease.ends_soon'
  | 'lease.wanted_back'
  | 'request.waiting'
  | 'request.granted'
  | 'request.cancelled'
  | 'request.expired'
  | 'reservation.confirmed'
  | 'reservation.cancelled'
  | 'reservation.started'
  | 'reservation.ended'
  | 'reservation.no_show'
  | 'reservation.at_risk'
  | 'reservation.safe'
  | 'vm.returned'
  | 'vm.work_failed'
  | 'vm.failed'
  | 'vm.retried'
  | 'vm.labelled'
  | 'vm.cordoned'
  | 'vm.uncordoned'
  | 'vm.removed'
  | 'vm.gone'
  | 'installation.reset_begun'
  | 'installation.reset'

/** One fact, before the store gives it an id and the batch's time. */
export interface NewEvent {
  readonly type: EventType
  /** Who did it; null: Berth itself (a worker). */
  readonly actorId: number | null
  readonly poolId?: number
  readonly vmId?: number
  /** The user that it is about. */
  readonly userId?: number
  /** The request that asked for it, as in the log. */
  readonly requestId?: string
  /** What else belongs to the fact: plain JSON without secrets. */
  readonly data?: Readonly<Record<string, unknown>>
}

export interface Event extends NewEvent {
  readonly id: number
  readonly atMs: number
}

/** Events after which what was remembered of a user's credentials may no longer hold. */
export const ACCOUNT_EVENTS = [
  'user.changed',
  'user.deleted',
  'token.revoked',
  'installation.reset',
] as const satisfies readonly EventType[]

/** Ascending ids as ranges, [first, last] each: how a bulk event names its machines. */
export function idRanges(ids: readonly number[]): [number, number][] {
  const ranges: [number, number][] = []
  for (const id of [...ids].sort((a, b) => a - b)) {
    const last = ranges.at(-1)
    if (last !== undefined && last[1] === id - 1) last[1] = id
    else ranges.push([id, id])
  }
  return ranges
}
