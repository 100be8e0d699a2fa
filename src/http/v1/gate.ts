/**
 * What every call of /api/v1 passes before its body is read: who calls, and how often they may. A token that is not known yet counts
 * against its address while it is looked up, so tokens cannot be guessed faster than an address may call.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify'
import { isRefusal, type Refusal, refusal } from '../../domain/refusal.ts'
import { networkOf } from '../../service/attempts.ts'
import type { Berth } from '../../service/berth.ts'
import type { TokenCaller } from '../../service/tokens.ts'
import { sayProblem } from './problem.ts'
import { RateLimit } from './rate-limit.ts'
import type { Route } from './route.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who calls /api/v1; null: nobody has said. */
    v1Caller: TokenCaller | null
  }
  interface FastifyContextConfig {
    /** What a route of /api/v1 wants of its callers. */
    auth?: Route['auth']
  }
}

export interface RateLimits {
  /** Calls a minute with one token; 0: any number. */
  readonly perToken: number
  /** Calls a minute from one address without a token; 0: any number. */
  readonly perAddress: number
}

const BEARER = /^Bearer +(\S+) *$/i

export function keepGate(v1: FastifyInstance, berth: Berth, limits: RateLimits): void {
  const now = () => berth.schedule.now()
  const ofToken = new RateLimit('token', limits.perToken, now)
  const ofAddress = new RateLimit('address', limits.perAddress, now)
  const { tokens } = berth

  v1.decorateRequest('v1Caller', null)
  v1.addHook('onRequest', (request, reply, next) => {
    const auth = request.routeOptions.config.auth ?? 'none'
    const header = request.headers.authorization
    if (header === undefined || auth === 'none') {
      const no = count(ofAddress, networkOf(request.ip), reply)
      return pass(reply, no ?? (auth === 'bearer' ? refusal('token_missing') : null), next)
    }
    const secret = BEARER.exec(header)?.[1]
    if (secret === undefined)
      return pass(reply, count(ofAddress, networkOf(request.ip), reply) ?? refusal('token_missing'), next)
    const known = tokens.remembered(secret)
    if (known !== null) {
      request.v1Caller = known
      return pass(reply, count(ofToken, known.tokenId, reply), next)
    }
    const no = count(ofAddress, networkOf(request.ip), reply)
    if (no !== null) return pass(reply, no, next)
    tokens.lookUp(secret).then((found) => admit(found, request, reply, next), next)
  })

  function admit(
    found: TokenCaller | Refusal,
    request: FastifyRequest,
    reply: FastifyReply,
    next: HookHandlerDoneFunction,
  ) {
    if (isRefusal(found)) return pass(reply, found, next)
    request.v1Caller = found
    pass(reply, count(ofToken, found.tokenId, reply), next)
  }
}

/** Counts a call, and tells the caller how many are left. Refused: `rate_limited`. */
function count(limit: RateLimit, caller: string, reply: FastifyReply): Refusal | null {
  if (!limit.limited) return null
  const allowance = limit.take(caller)
  reply.header('ratelimit-policy', limit.policy)
  reply.header('ratelimit', limit.text(allowance))
  if (allowance.retryAfterSeconds === null) return null
  reply.header('retry-after', allowance.retryAfterSeconds)
  return refusal('rate_limited', { policy: limit.name, perMinute: limit.perMinute })
}

function pass(reply: FastifyReply, no: Refusal | null, next: HookHandlerDoneFunction): void {
  if (no === null) next()
  else void reply.send(sayProblem(reply, no))
}
