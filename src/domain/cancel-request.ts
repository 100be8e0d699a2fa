/** Who may give up a request that waits. Its owner's place in the fair queue does not change: only grants move it. */
import { type Actor, knownCaller, type Rule } from './decision.ts'
import { may } from './permission.ts'
import { isRefusal, refusal } from './refusal.ts'
import { over, type Request } from './request.ts'

export interface CancelRequest {
  readonly kind: 'cancelRequest'
  readonly actor: Actor
  readonly id: string
  readonly requestId: string
}

/** Refused: `request_unknown` (also to those whose business it is not), `request_over`; callers as in decision.ts. */
export const cancelRequest: Rule<CancelRequest, { request: Request }> = {
  needs(command, needs) {
    needs.userIds.add(command.actor.userId)
    needs.requestIds.add(command.id)
  },

  decide(view, command) {
    const caller = knownCaller(view, command.actor)
    if (isRefusal(caller)) return caller
    const request = view.request(command.id)
    if (request === undefined || (request.userId !== caller.id && !may(caller.role, 'lease.release')))
      return refusal('request_unknown', { id: command.id })
    if (request.state === 'cancelled') return { changes: { events: [] }, reply: { request } }
    if (request.state !== 'waiting') return refusal('request_over', { id: request.id, state: request.state })
    const cancelled = over(request, 'cancelled', view.nowMs)
    return {
      changes: {
        requests: [cancelled],
        events: [
          {
            type: 'request.cancelled',
            actorId: caller.id,
            poolId: request.poolId,
            userId: request.userId,
            requestId: command.requestId,
            data: { request: request.id },
          },
        ],
      },
      reply: { request: cancelled },
    }
  },
}
