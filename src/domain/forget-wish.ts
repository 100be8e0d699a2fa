/** What a user who was deleted waits for or has booked is given up: nobody would be there to use it. */
import type { Rule } from './decision.ts'
import { isRefusal } from './refusal.ts'
import { over, type Request } from './request.ts'
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
    const given = reservation === undefined ? null : givenUp(reservation)
    const cancelled: Request[] = request?.state === 'waiting' ? [over(request, 'cancelled', view.nowMs)] : []
    const gone = given === null || isRefusal(given) ? [] : [given]
    return {
      changes: {
        requests: cancelled,
        reservations: gone,
        events: [
          ...cancelled.map(({ id, poolId, userId }) => ({
            type: 'request.cancelled' as const,
            actorId: null,
            poolId,
            userId,
            data: { request: id },
          })),
          ...gone.map(({ id, poolId, userId, state }) => ({
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
