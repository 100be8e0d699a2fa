/** The reset of the original API: a GET that wipes everything, for those who may. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { isRefusal, type Refusal, refusal } from '../../domain/refusal.ts'
import type { Berth } from '../../service/berth.ts'
import type { Caller } from '../../service/credentials.ts'
import { resetInstallation } from '../../service/reset.ts'
import type { Guard } from '../guard.ts'
import { MESSAGES, REFUSAL_ANSWERS } from './answers.ts'
import { callerOf, refuse, say } from './call.ts'
import { authOf, type Body } from './fields.ts'

export interface ResetSettings {
  readonly guard: Guard
  /** Reads the body of a request that the framework gives none (GET). Refused: `body_invalid`, `body_too_large`. */
  readonly rawBody: (request: FastifyRequest) => Promise<unknown | Refusal>
}

export function resetRoute(app: FastifyInstance, berth: Berth, { guard, rawBody }: ResetSettings): void {
  // A HEAD of this route would reset as well.
  app.get('/truncate_tables', { exposeHeadRoute: false }, async (request, reply) => {
    const no = REFUSAL_ANSWERS.reset
    const foreign = guard.judgeNoBrowser(request.headers)
    if (foreign !== null) return refuse(reply, foreign, no)
    const body = await rawBody(request)
    if (isRefusal(body)) return refuse(reply, body, no)
    let caller: Caller | null = null
    const auth = typeof body === 'object' && body !== null ? authOf(body as Body) : null
    if (auth !== null && !berth.settings.allowReset && (await berth.reads.anyUser())) {
      const known = await callerOf(berth, request, body as Body, 'installation.reset')
      if (isRefusal(known)) return refuse(reply, known, no)
      caller = known
    }
    const reset = await resetInstallation(berth, caller, request.id)
    if (isRefusal(reset)) return refuse(reply, reset, no)
    if (!reset.done) return refuse(reply, refusal('resetting'), no)
    return say(reply, { status: 201, body: MESSAGES.tablesCreated })
  })
}
