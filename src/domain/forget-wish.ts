/** What a user who was deleted waits for or has booked is given up: nobody would be there to use it. */
import type { Rule } from './decision.ts'
import { isRefusal } from './refusal.ts'
import type { Request } from './request.ts'
import { givenUp } from './reservation.ts'

export interface ForgetWish {
  readonly kind: 'forgetWish'
  readonly requestId: string | null
  readonly reservationId: string | null
}

/** The workers' part of deleting a user. Never refused. */
export const forgetWish: Rule<ForgetWish, null> = {
  needs({ requestId, reservationId }, needs) {
    if (requestId !== null) needs.requestIds.add(requestId)
    if (reservationId !== null) needs.reservationIds.add(reservationId)
  },

  decide(view, { requestId, reservationId }) {
    const request = requestId === null ? undefined : view.request(requestId)
    const reservation = reservationId === null ? undefined : view.reservation(reservationId)
    const over = reservation === undefined ? null : givenUp(reservation)
    const cancelled: Request[] =
      request?.state === 'waiting'
        ? [{ ...request, state: 'cancelled', endedAtMs: view.nowMs, due: null, parked: false }]
        : []
    const given = over === null || isRefusal(over) ? [] : [over]
    return {
      changes: {
        requests: cancelled,
        reservations: given,
        events: [
          ...cancelled.map(({ id, poolId, userId }) => ({
            type: 'request.cancelled' as const,
            actorId: null,
            poolId,
            userId,
            data: { request: id },
          })),
          ...given.map(({ id, poolId, userId, state }) => ({
            type: state === 'cancelled' ? ('reservation.cancelled' as const) : ('reservation.ended' as const),
            actorId: null,
            poolId,
            userId,
            data: { reservation: id },
          })),
        ],
      },
      reply: null,
    }
  },
}
