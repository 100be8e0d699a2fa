/**
 * The HTTP server: everything that is the same for all routes. What a request passes, in order: the router, the host and
 * origin check (guard.ts), the body's limit and parsing, the route; each may end it with a refusal. Whatever a route throws
 * is a bug: it is logged with the request's id and answered 500 without detail.
 */
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify'
import type { Logger } from 'pino'
import { Refusal, type RefusalCode, refusal } from '../domain/refusal.ts'
import type { Berth } from '../service/berth.ts'
import { storeRefusal } from '../service/store-refusal.ts'
import { Guard } from './guard.ts'
import type { Metrics } from './metrics.ts'
import { operationRoutes } from './operations.ts'
import { originalRoutes } from './original/routes.ts'
import type { UnderWay } from './stop.ts'
import type { RateLimits } from './v1/gate.ts'
import { isV1, PROBLEM_TYPE, problemOf, sayProblem } from './v1/problem.ts'
import { RefusedCall, v1Routes } from './v1/routes.ts'

export interface AppSettings {
  readonly log: Logger
  readonly metrics: Metrics
  /** Host names of this server, beside localhost and IP addresses. */
  readonly hostNames: readonly string[]
  /** Begins every request id: tells processes apart. */
  readonly requestIdPrefix: string
  readonly underWay: UnderWay
  /** True once the server is stopping: /readyz then says no. */
  readonly stopping: () => boolean
  /** Whether the original API is served. */
  readonly originalApi: boolean
  readonly rateLimits: RateLimits
}

const BODY_BYTES_MAX = 65_536
const REQUEST_MS_MAX = 30_000
const IDLE_MS_MAX = 75_000
const SILENT_MS_MAX = 120_000
const SLOW_MS = 1_000

export function createApp(berth: Berth, settings: AppSettings): FastifyInstance {
  const { log, metrics } = settings
  let requests = 0
  const app: FastifyInstance = fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    // A child logger for each request would cost more than most routes; lines that belong to one carry its id.
    childLoggerFactory: (logger) => logger,
    genReqId: (request) =>
      givenId(request.headers['x-request-id']) ?? `${settings.requestIdPrefix}-${++requests}`,
    bodyLimit: BODY_BYTES_MAX,
    // The whole request has to arrive within this; a silent connection is closed.
    requestTimeout: REQUEST_MS_MAX,
    keepAliveTimeout: IDLE_MS_MAX,
    connectionTimeout: SILENT_MS_MAX,
    // On a stop, requests that are under way and those on open connections are still answered.
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 1_000 },
    clientErrorHandler: refuseUnreadable,
    // The guard answers it, with a message.
    http: { requireHostHeader: false },
    frameworkErrors: (error, request, reply) => {
      reply.header('x-request-id', request.id)
      const no =
        error.code === 'FST_ERR_BAD_URL'
          ? refusal('path_invalid')
          : refusal('route_unknown', { method: request.method, path: request.url })
      void sendRefusal(request.url, reply as unknown as FastifyReply, no)
    },
  }) as unknown as FastifyInstance

  const guard = new Guard(settings.hostNames)
  const routes = new Map<string, Set<string>>()
  app.addHook('onRoute', (route) => {
    const methods = routes.get(route.url) ?? new Set()
    routes.set(route.url, methods)
    for (const method of [route.method].flat()) methods.add(method)
  })

  settings.underWay.follow(app)
  app.server.on('checkExpectation', (request: IncomingMessage, response: ServerResponse) => {
    const no = refusal('expectation_unknown', { expect: String(request.headers.expect) })
    const [type, body] = isV1(request.url ?? '')
      ? [PROBLEM_TYPE, problemOf(no, 'none')]
      : ['application/json', { message: no.message }]
    const text = JSON.stringify(body)
    response.writeHead(no.status, {
      'content-type': `${type}; charset=utf-8`,
      'content-length': Buffer.byteLength(text),
      connection: 'close',
    })
    response.end(text)
  })

  app.addHook('onRequest', (request, reply, next) => {
    reply.header('x-request-id', request.id)
    const no = request.is404 ? unrouted(routes, request, reply) : judge(guard, request)
    if (no === null) next()
    else void sendRefusal(request.url, reply, no)
  })

  app.addHook('onResponse', (request, reply, next) => {
    const ms = reply.elapsedTime
    const route = request.routeOptions.url ?? 'unknown'
    metrics.request(request.method, route, reply.statusCode, ms / 1_000)
    const slow = ms > SLOW_MS && !waits(request)
    if (slow || log.isLevelEnabled('debug')) {
      const line = { requestId: request.id, method: request.method, route, status: reply.statusCode, ms }
      if (slow) log.warn(line, 'slow request')
      else log.debug(line, 'request')
    }
    next()
  })

  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, text, done) => {
    try {
      done(null, JSON.parse(text as string))
    } catch (error) {
      done(new RefusedCall(refusal('body_invalid', { reason: (error as Error).message })))
    }
  })
  app.addContentTypeParser('*', (request, _payload, done) => {
    const type = request.headers['content-type'] ?? 'none'
    done(new RefusedCall(refusal('body_invalid', { reason: `content-type ${type} is not application/json` })))
  })

  app.setErrorHandler((error: FastifyError, request, reply) => {
    const no = storeRefusal(error) ?? refusalOf(error)
    if (no !== null) return sendRefusal(request.url, reply, no)
    log.error(
      { requestId: request.id, method: request.method, url: request.url.split('?', 1)[0], err: error },
      'request failed',
    )
    return sendRefusal(request.url, reply, refusal('internal_error', { requestId: request.id }))
  })

  operationRoutes(app, berth, metrics, settings.stopping)
  v1Routes(app, berth, settings.rateLimits)
  if (settings.originalApi) originalRoutes(app, berth, { guard, rawBody })
  return app
}

/** Long polls and streams are answered late on purpose. */
function waits({ query, headers }: FastifyRequest): boolean {
  return (
    (query as { wait?: unknown } | undefined)?.wait !== undefined || headers.accept === 'text/event-stream'
  )
}

/** Why a request meets no route: there is none of its path, or none of its method. */
function unrouted(
  routes: ReadonlyMap<string, ReadonlySet<string>>,
  { method, url }: FastifyRequest,
  reply: FastifyReply,
): Refusal {
  const path = url.split('?', 1)[0] ?? ''
  const methods = [...routes].flatMap(([pattern, of]) => (matches(pattern, path) ? [...of] : []))
  if (methods.length === 0) return refusal('route_unknown', { method, path })
  const allowed = [...new Set(methods)].join(', ')
  reply.header('allow', allowed)
  return refusal('method_wrong', { method, allowed })
}

const SAFE_METHODS = new Set(['GET', 'HEAD'])

/** Routes that probes and scrapers call, by whatever name they know the server. */
const PROBES = new Set(['/healthz', '/readyz', '/metrics'])

function judge(guard: Guard, request: FastifyRequest): Refusal | null {
  const { headers, method } = request
  const safe = SAFE_METHODS.has(method)
  if (safe && PROBES.has(request.routeOptions.url ?? '')) return null
  return guard.judgeHost(headers) ?? (safe ? null : guard.judgeOrigin(headers))
}

/** `url`: as it was asked for; it tells in whose words the answer is. */
function sendRefusal(url: string, reply: FastifyReply, no: Refusal): FastifyReply {
  if (isV1(url)) return reply.send(sayProblem(reply, no))
  if (no.retryAfterSeconds !== null) reply.header('retry-after', no.retryAfterSeconds)
  return reply.code(no.status).send({ message: no.message })
}

/** Answers what is no HTTP, and closes the connection: where the next request would begin is not known. */
function refuseUnreadable(error: Error & { code: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy(error)
    return
  }
  const codes: Partial<Record<string, RefusalCode>> = {
    HPE_HEADER_OVERFLOW: 'head_too_large',
    ERR_HTTP_REQUEST_TIMEOUT: 'request_slow',
  }
  const no = new Refusal(codes[error.code] ?? 'request_unreadable', { reason: error.message })
  const text = JSON.stringify({ message: no.message })
  const head = [
    `HTTP/1.1 ${no.status} ${STATUS_CODES[no.status]}`,
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(text)}`,
    'connection: close',
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${text}`)
}

/** The refusal behind an error of the framework that the sender is to blame for; null: a bug of ours. */
function refusalOf(error: FastifyError): Refusal | null {
  if (error instanceof RefusedCall) return error.refusal
  if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE')
    return refusal('body_too_large', { bytesMax: BODY_BYTES_MAX })
  const status = error.statusCode ?? 500
  return status >= 400 && status < 500 ? refusal('body_invalid', { reason: error.message }) : null
}

/** The JSON in the body of a request that the framework takes none from (GET); undefined when there is none. */
async function rawBody(request: FastifyRequest): Promise<unknown | Refusal> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request.raw) {
    bytes += (chunk as Buffer).length
    // The rest is read and dropped, so that the connection is in order for the answer.
    if (bytes <= BODY_BYTES_MAX) chunks.push(chunk as Buffer)
  }
  if (bytes > BODY_BYTES_MAX) return refusal('body_too_large', { bytesMax: BODY_BYTES_MAX })
  if (bytes === 0) return undefined
  try {
    return JSON.parse(Buffer.concat(chunks).toString())
  } catch (error) {
    return refusal('body_invalid', { reason: (error as Error).message })
  }
}

function givenId(header: string | string[] | undefined): string | null {
  return typeof header === 'string' && /^[\w.-]{1,64}$/.test(header) ? header : null
}

/** Whether a path is one of a route's pattern, in which a segment `:name` stands for any. */
function matches(pattern: string, path: string): boolean {
  const wanted = pattern.split('/')
  const given = path.split('/')
  return (
    wanted.length === given.length &&
    wanted.every((segment, i) => (segment.startsWith(':') ? given[i] !== '' : segment === given[i]))
  )
}
