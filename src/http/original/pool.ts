/** The pool, as the original API sizes it and sums it up. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { DEFAULT_POOL as POOL, POOL_SIZE_MAX } from '../../domain/pool.ts'
import { isRefusal, refusal } from '../../domain/refusal.ts'
import type { Berth } from '../../service/berth.ts'
import { setPoolSize } from '../../service/pool-size.ts'
import { basicStats, MESSAGES, POOL_SIZE_ALLOWED, REFUSAL_ANSWERS } from './answers.ts'
import { callerOf, refuse, say } from './call.ts'
import { bodyOf, wholeNumber } from './fields.ts'

export function poolRoutes(app: FastifyInstance, berth: Berth): void {
  app.post('/create_resource_pool', (request, reply) =>
    sizePool(request, reply, {
      created: [201, MESSAGES.resourcesCreated],
      resized: [201, MESSAGES.resourcesRecreated],
      unchanged: [201, MESSAGES.resourcesRecreated],
    }),
  )
  app.post('/resizevmpool', (request, reply) =>
    sizePool(request, reply, {
      created: [201, MESSAGES.resourcesCreated],
      resized: [200, MESSAGES.poolSizeUpdated],
      unchanged: [200, MESSAGES.nothingToUpdate],
    }),
  )

  async function sizePool(
    request: FastifyRequest,
    reply: FastifyReply,
    answers: Record<'created' | 'resized' | 'unchanged', readonly [number, object]>,
  ): Promise<unknown> {
    const no = REFUSAL_ANSWERS.sizePool
    const body = bodyOf(request)
    if (isRefusal(body)) return refuse(reply, body, no)
    const caller = await callerOf(berth, request, body, 'pool.change')
    if (isRefusal(caller)) {
      const none = caller.code === 'caller_unknown' && !(await berth.reads.anyUser())
      return refuse(reply, none ? refusal('no_users') : caller, no)
    }
    const value = body.pool_size
    if (value === undefined) return refuse(reply, refusal('field_missing', { field: 'pool_size' }), no)
    const size = wholeNumber(value)
    if (size === null || size > POOL_SIZE_MAX) {
      const wrong = { field: 'pool_size', value, allowed: POOL_SIZE_ALLOWED }
      return refuse(reply, refusal('field_invalid', wrong), no)
    }
    const sized = await setPoolSize(berth, caller, POOL, size, request.id)
    if (isRefusal(sized)) return refuse(reply, sized, no)
    const [status, message] = answers[sized.outcome]
    return say(reply, { status, body: message })
  }

  app.get('/create_resource_pool/basicstats', async () => {
    const reading = await berth.reads.poolNamed(POOL)
    return basicStats(reading?.stats ?? null)
  })
  app.get('/vmpoolsize', async () => {
    const reading = await berth.reads.poolNamed(POOL)
    return { 'vm pool size': String(reading?.pool.target ?? 0) }
  })
}
