/**
 * What can be done with a reservation by its name: its holder says that they are there, or it is given up, by its holder or an
 * admin. Giving up one that has begun ends its leases as well.
 */
import { leasesEnded } from './check-in.ts'
import { type Actor, knownCaller, type Rule } from './decision.ts'
import type { EventType, NewEvent } from './event.ts'
import type { Lease } from './lease.ts'
import { may } from './permission.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import { over } from './request.ts'
import { claimed, expired, givenUp, type Reservation } from './reservation.ts'
import type { User } from './user.ts'
import type { Changes, Needs, View } from './working-set.ts'

interface ReservationCall {
  readonly actor: Actor
  readonly id: string
  readonly requestId: string
}

function called(
  view: View,
  { actor, id }: ReservationCall,
): { caller: User; reservation: Reservation } | Refusal {
  const caller = knownCaller(view, actor)
  if (isRefusal(caller)) return caller
  const reservation = view.reservation(id)
  if (reservation === undefined || (reservation.userId !== caller.id && !may(caller.role, 'lease.release')))
    return refusal('reservation_unknown', { id })
  return { caller, reservation }
}

function callNeeds({ actor, id }: ReservationCall, needs: Needs): void {
  needs.userIds.add(actor.userId)
  needs.reservationIds.add(id)
}

export interface ClaimReservation extends ReservationCall {
  readonly kind: 'claimReservation'
}

/** Its holder is there: it does not end as not used. Refused: `reservation_unknown`, `reservation_over`; callers as in decision.ts. */
export const claimReservation: Rule<ClaimReservation, { reservation: Reservation }> = {
  needs: callNeeds,

  decide(view, command) {
    const found = called(view, command)
    if (isRefusal(found)) return found
    const now = claimed(found.reservation)
    if (isRefusal(now)) return now
    const reservations = now === found.reservation ? [] : [now]
    return { changes: { reservations, events: [] }, reply: { reservation: now } }
  },
}

export interface CancelReservation extends ReservationCall {
  readonly kind: 'cancelReservation'
  /** The machines of its leases, as far as it has begun. */
  readonly vmIds: readonly number[]
}

/** Refused: `reservation_unknown`, `reservation_over`; callers as in decision.ts. */
export const cancelReservation: Rule<CancelReservation, { reservation: Reservation }> = {
  needs(command, needs) {
    callNeeds(command, needs)
    for (const vmId of command.vmIds) needs.vmIds.add(vmId)
  },

  decide(view, command) {
    const found = called(view, command)
    if (isRefusal(found)) return found
    const now = givenUp(found.reservation)
    if (isRefusal(now)) return now
    const { caller } = found
    const type = now.state === 'cancelled' ? 'reservation.cancelled' : 'reservation.ended'
    const by = caller.id === now.userId ? 'checked_in' : 'released'
    const who = { by, actorId: caller.id, requestId: command.requestId } as const
    return { changes: overNow(view, now, type, who, command.vmIds), reply: { reservation: now } }
  },
}

export interface ExpireReservation {
  readonly kind: 'expireReservation'
  readonly id: string
  /** The machines of its leases. */
  readonly vmIds: readonly number[]
}

/** The workers' part: ends a reservation whose window is over, or that nobody has used in time. Never refused. */
export const expireReservation: Rule<ExpireReservation, null> = {
  needs(command, needs) {
    needs.reservationIds.add(command.id)
    for (const vmId of command.vmIds) needs.vmIds.add(vmId)
  },

  decide(view, command) {
    const reservation = view.reservation(command.id)
    const now = reservation === undefined ? null : expired(reservation, view.nowMs)
    if (now === null) return { changes: { events: [] }, reply: null }
    const isNoShow = now.state === 'no_show'
    const type = isNoShow ? 'reservation.no_show' : 'reservation.ended'
    const who = { by: isNoShow ? 'no_show' : 'expired', actorId: null } as const
    return { changes: overNow(view, now, type, who, command.vmIds), reply: null }
  },
}

/** What follows when a reservation is over now: its leases end, and what its holder still waits for. */
function overNow(
  view: View,
  reservation: Reservation,
  type: EventType,
  who: {
    readonly by: Lease['endedBy'] & string
    readonly actorId: number | null
    readonly requestId?: string
  },
  vmIds: readonly number[],
): Changes {
  const vms = vmIds.flatMap((id) => {
    const vm = view.vm(id)
    return vm !== undefined && view.lease(id)?.reservationId === reservation.id ? [vm] : []
  })
  const ended = leasesEnded(
    view,
    vms.map((vm) => ({ vm, ...who })),
  )
  const waiting = [...(view.book(reservation.poolId)?.queue.requests() ?? [])]
    .filter(({ reservationId }) => reservationId === reservation.id)
    .map((request) => over(request, 'cancelled', view.nowMs))
  const event: NewEvent = {
    type,
    actorId: who.actorId,
    poolId: reservation.poolId,
    userId: reservation.userId,
    ...(who.requestId === undefined ? {} : { requestId: who.requestId }),
    data: { reservation: reservation.id },
  }
  return { ...ended, reservations: [reservation], requests: waiting, events: [...ended.events, event] }
}
