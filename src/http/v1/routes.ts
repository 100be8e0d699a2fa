/**
 * /api/v1: Berth's own API, from one table of routes (route.ts). A call is judged in one order: who calls and how often
 * (gate.ts), whether the body is JSON, the role, then path, query, headers and body against the route's schemas, and then the
 * handler. Every "no" is a problem document (problem.ts).
 */
import { hash } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { may } from '../../domain/permission.ts'
import { isRefusal, type Refusal, refusal } from '../../domain/refusal.ts'
import type { Berth } from '../../service/berth.ts'
import type { TokenCaller } from '../../service/tokens.ts'
import { CALENDAR_ROUTES } from './calendar.ts'
import { docsRoute, documentRoute } from './docs.ts'
import { keepGate, type RateLimits } from './gate.ts'
import { LEASE_ROUTES } from './lease.ts'
import { POOL_ROUTES } from './pool.ts'
import { sayProblem } from './problem.ts'
import { REQUEST_ROUTES } from './request.ts'
import { RESERVATION_ROUTES } from './reservation.ts'
import type { Call, Outcome, Route } from './route.ts'
import { strict } from './schema.ts'
import { TOKEN_ROUTES } from './token.ts'
import { USER_ROUTES } from './user.ts'
import { type Check, checkOf } from './validation.ts'
import { VM_ROUTES } from './vm.ts'
import { VM_TYPE_ROUTES } from './vm-type.ts'

/** Every route of /api/v1 but its document. */
const ROUTES: readonly Route[] = [
  ...TOKEN_ROUTES,
  ...USER_ROUTES,
  ...VM_TYPE_ROUTES,
  ...POOL_ROUTES,
  ...VM_ROUTES,
  ...LEASE_ROUTES,
  ...REQUEST_ROUTES,
  ...RESERVATION_ROUTES,
  ...CALENDAR_ROUTES,
]

const PREFIX = '/api/v1'

export function v1Routes(app: FastifyInstance, berth: Berth, limits: RateLimits): void {
  // Whoever waits for a request is answered before the server stops.
  app.addHook('preClose', async () => berth.waits.stop())
  void app.register(async (v1) => {
    readBodies(v1)
    keepGate(v1, berth, limits)
    for (const route of [...ROUTES, documentRoute(ROUTES)]) addRoute(v1, berth, route)
  })
  docsRoute(app, ROUTES)
}

/** Carries a refusal out of the body parser, which knows only errors. */
export class RefusedCall extends Error {
  readonly refusal: Refusal
  constructor(no: Refusal) {
    super(no.message)
    this.refusal = no
  }
}

function readBodies(v1: FastifyInstance): void {
  v1.removeAllContentTypeParsers()
  v1.addContentTypeParser('application/json', { parseAs: 'string' }, (request, text, done) => {
    // Many clients name a type for every call, also for those that need no body.
    if (text === '' && request.method === 'DELETE') return done(null, undefined)
    let body: unknown
    try {
      body = JSON.parse(text as string)
    } catch (error) {
      return done(new RefusedCall(refusal('body_invalid', { reason: (error as Error).message })))
    }
    // Only an escape can make half a character of what was UTF-8.
    if ((text as string).includes('\\u') && !isWellFormed(body))
      return done(new RefusedCall(refusal('body_invalid', { reason: 'it holds half of a character' })))
    done(null, body)
  })
  v1.addContentTypeParser('*', (request, _payload, done) => {
    const contentType = request.headers['content-type'] ?? 'none'
    done(new RefusedCall(refusal('content_type_wrong', { contentType })))
  })
}

function isWellFormed(value: unknown): boolean {
  if (typeof value === 'string') return value.isWellFormed()
  if (typeof value !== 'object' || value === null) return true
  return Object.entries(value).every(([key, inner]) => key.isWellFormed() && isWellFormed(inner))
}

const EMPTY = strict({})

function addRoute(v1: FastifyInstance, berth: Berth, route: Route): void {
  const checkParams = route.params === undefined ? null : checkOf(route.params, 'path')
  const checkQuery = checkOf(route.query ?? EMPTY, 'query')
  const checkBody = bodyCheckOf(route)
  const { action, secrets = [], handle } = route
  const isPost = route.method === 'POST'
  const response: Record<string, unknown> = {}
  for (const [status, { schema, type }] of Object.entries(route.answers))
    if (schema !== null && type === undefined) response[status] = schema

  v1.route({
    method: route.method,
    url: PREFIX + route.path.replace(/\{(\w+)\}/g, ':$1'),
    config: { auth: route.auth },
    schema: { response },
    handler: async (request, reply) => {
      const caller = request.v1Caller
      if (action !== undefined && caller !== null && !may(caller.role, action))
        return sayProblem(reply, refusal('not_allowed', { action, role: caller.role }))
      const { params, query, body } = request
      const no = checkParams?.(params) ?? checkQuery(query) ?? checkBody(body)
      if (no !== null) return sayProblem(reply, no)
      const keyed = isPost ? keyOf(request, secrets) : null
      if (isRefusal(keyed)) return sayProblem(reply, keyed)
      const ifMatch = route.ifMatch ? etagsOf(request.headers['if-match']) : null
      if (isRefusal(ifMatch)) return sayProblem(reply, ifMatch)
      const call: Call = {
        berth,
        // Routes that need no token do not look at it, or know that there may be none.
        caller: caller as TokenCaller,
        params,
        query,
        body,
        requestId: request.id,
        address: request.ip,
        keyed,
        ifMatch,
        request,
      }
      const outcome = await handle(call, reply)
      return isRefusal(outcome) ? sayProblem(reply, outcome) : say(reply, outcome)
    },
  })
}

/** Calls that take no body are sent without one, or with an empty object. */
function bodyCheckOf({ method, body }: Route): Check {
  if (body !== undefined) return checkOf(body, 'body')
  if (method === 'GET') return () => null
  const check = checkOf(EMPTY, 'body')
  return (value) => (value === undefined || value === null ? null : check(value))
}

function say(reply: FastifyReply, { status, body, headers, replayed }: Outcome): unknown {
  reply.code(status)
  for (const name in headers) reply.header(name, headers[name])
  if (replayed) reply.header('idempotency-replayed', 'true')
  if (status === 204) return reply.send()
  return body
}

const KEY = /^[\x21-\x7e]{1,255}$/

/** The Idempotency-Key of a call, and what it asks for. Refused: `field_invalid`. */
function keyOf(request: FastifyRequest, secrets: readonly string[]): Call['keyed'] | Refusal {
  const key = request.headers['idempotency-key']
  if (key === undefined) return null
  if (typeof key !== 'string' || !KEY.test(key))
    return refusal('field_invalid', {
      field: 'idempotency-key',
      value: String(key),
      allowed: '1 to 255 printable ASCII characters without spaces',
    })
  // A fast hash of a password could be guessed from: where there is one, it is left out.
  const body =
    secrets.length === 0
      ? request.body
      : Object.fromEntries(Object.entries(request.body as object).filter(([name]) => !secrets.includes(name)))
  const fingerprint = hash('sha256', `${request.method} ${request.url}\n${JSON.stringify(body) ?? ''}`, 'hex')
  return { key, fingerprint }
}

const ETAGS = /^(?:W\/)?"[\x21\x23-\x7e]*"(?:\s*,\s*(?:W\/)?"[\x21\x23-\x7e]*")*$/

/** The ETags of an If-Match; null: there is none, or any will do. Refused: `field_invalid`. */
function etagsOf(header: string | undefined): readonly string[] | null | Refusal {
  if (header === undefined || header.trim() === '*') return null
  if (!ETAGS.test(header.trim()))
    return refusal('field_invalid', {
      field: 'if-match',
      value: header,
      allowed: 'ETags as the API gives them, separated by commas, or *',
    })
  return header.match(/(?:W\/)?"[^"]*"/g) ?? []
}
