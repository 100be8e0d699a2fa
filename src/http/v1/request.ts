/** Requests: wishes that wait in a pool's queue, where they stand, why they wait, and when they are granted. */
import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import { type Static, Type } from 'typebox'
import { type Explanation, REASONS, type ReasonCode } from '../../domain/explain.ts'
import { leaseId } from '../../domain/lease.ts'
import type { RequestLook } from '../../domain/look.ts'
import { may } from '../../domain/permission.ts'
import { isRefusal, type Refusal, refusal } from '../../domain/refusal.ts'
import { PRIORITIES, REQUEST_STATES, type Request } from '../../domain/request.ts'
import type { Berth } from '../../service/berth.ts'
import type { TokenCaller } from '../../service/tokens.ts'
import { durationSeconds, durationText } from './duration.ts'
import { oneOutcome, pageOutcome } from './page.ts'
import { poolCalled } from './pool.ts'
import { type Outcome, type Route, route, said } from './route.ts'
import {
  duration,
  fields,
  id,
  labels,
  name,
  named,
  nullable,
  page,
  pageOf,
  strict,
  time,
  timeText,
  timeTextOrNull,
  words,
} from './schema.ts'
import { listed, poolNameOf, poolNames, scope } from './whose.ts'
import { KIND_SHOWN, shownKinds } from './wish.ts'

const requestName = Type.String({
  pattern: '^req_[0-9a-z]{26}$',
  examples: ['req_01kdvdna00zzzzzzzzzzzzzzzz'],
})

const ETA = named(
  'Eta',
  strict({
    earliest: time,
    likely: time,
    latest: time,
    sure: words(['promised', 'likely', 'rough'], {
      description: 'promised: granted by `latest` unless machines fail',
    }),
    rests_on: Type.Array(words(['ends', 'observed holds', 'arrivals', 'being made', 'cleaning'])),
  }),
)

const etaOrNull = Type.Unsafe<Static<typeof ETA> | null>({ anyOf: [ETA, { type: 'null' }] })

const properties = {
  id: requestName,
  pool: Type.String(),
  user_id: id,
  state: words(REQUEST_STATES),
  kinds: Type.Array(KIND_SHOWN),
  duration: nullable({ ...duration, description: 'null: without end' }),
  min_duration: nullable(duration),
  soft: Type.Boolean(),
  soft_grace: nullable(duration),
  heartbeat: nullable(duration),
  priority: words(PRIORITIES),
  purpose: nullable(Type.String()),
  labels,
  created_at: time,
  waits_until: nullable(Type.String({ format: 'date-time', description: 'null: for ever' })),
  ended_at: nullable(time),
  parked: Type.Boolean({ description: 'it waits beside the queue, as its owner has as much as they may' }),
  position: nullable(
    Type.Integer({ minimum: 1, description: '1: it comes next; null where it is not known, and in lists' }),
  ),
  eta: etaOrNull,
  leases: Type.Array(Type.String(), { description: 'what it was granted, by the names of the leases' }),
  reservation_id: nullable(
    Type.String({ description: 'the reservation whose missing machines it waits for' }),
  ),
}

export const REQUEST = named('Request', strict(properties))

const FIELDS = Object.keys(properties)

/** A request; `look` null: where it stands is not known. */
export function shownRequest(
  request: Request,
  pool: string,
  look: RequestLook | null,
): Static<typeof REQUEST> {
  const { terms, state } = request
  const lasting = (seconds: number | null) => (seconds === null ? null : durationText(seconds))
  const outlook = look?.outlook ?? null
  return {
    id: request.id,
    pool,
    user_id: request.userId,
    state,
    kinds: shownKinds(request.wish),
    duration: lasting(terms.durationSeconds),
    min_duration: lasting(terms.durationSecondsMin),
    soft: terms.softGraceSeconds !== null,
    soft_grace: lasting(terms.softGraceSeconds),
    heartbeat: lasting(terms.heartbeatSeconds),
    priority: request.priority,
    purpose: terms.purpose,
    labels: { ...terms.labels },
    created_at: timeText(request.createdAtMs),
    waits_until: timeTextOrNull(request.untilMs),
    ended_at: timeTextOrNull(request.endedAtMs),
    parked: request.parked,
    position: look?.position ?? null,
    eta:
      outlook === null
        ? null
        : {
            earliest: timeText(outlook.earliestAtMs),
            likely: timeText(outlook.likelyAtMs),
            latest: timeText(outlook.latestAtMs),
            sure: outlook.sure,
            rests_on: [...outlook.restsOn],
          },
    leases: request.leases.map(leaseId),
    reservation_id: request.reservationId,
  }
}

const EXPLANATION = named(
  'Explanation',
  strict({
    code: words(Object.keys(REASONS) as ReasonCode[]),
    text: Type.String({ description: 'the same in a sentence' }),
    since: time,
    position: nullable(Type.Integer({ minimum: 1 })),
    count: Type.Integer({ description: 'machines that are wanted' }),
    missing: Type.Array(
      strict({
        class: Type.String({ description: 'size and labels of machines that would do' }),
        ready: Type.Integer(),
        free_at: nullable(
          Type.String({ format: 'date-time', description: 'when there are more; null: not known' }),
        ),
      }),
    ),
    promised_at: nullable(time),
    overdue_in: nullable(
      Type.Integer({ description: 'after so many more grants in the pool nobody comes before it any more' }),
    ),
    holders: Type.Array(
      strict({
        user_id: nullable(Type.Integer({ description: 'null: not yours to know' })),
        until: nullable(time),
      }),
    ),
    making: Type.Array(strict({ expected_at: nullable(time) })),
    cleaning: Type.Array(strict({ expected_at: nullable(time), late: Type.Boolean() })),
    provider_errors: Type.Array(Type.String()),
  }),
)

const LISTED_MAX = 20

/** An explanation as `caller` may see it: admins see who holds machines, others see themselves. */
function shownExplanation(
  explanation: Explanation,
  { userId, role }: TokenCaller,
): Static<typeof EXPLANATION> {
  const isAdmin = may(role, 'lease.release')
  const ofUser = (who: string | null) =>
    who !== null && (isAdmin || Number(who) === userId) ? Number(who) : null
  return {
    code: explanation.code,
    text: explanation.text,
    since: timeText(explanation.sinceMs),
    position: explanation.position,
    count: explanation.count,
    missing: explanation.missing.map(({ classKey, ready, freeAtMs }) => ({
      class: classKey,
      ready,
      free_at: timeTextOrNull(freeAtMs),
    })),
    promised_at: timeTextOrNull(explanation.promisedAtMs),
    overdue_in: explanation.overdueIn,
    holders: explanation.holders.map(({ who, untilMs }) => ({
      user_id: ofUser(who),
      until: timeTextOrNull(untilMs),
    })),
    making: explanation.making
      .slice(0, LISTED_MAX)
      .map(({ expectedAtMs }) => ({ expected_at: timeTextOrNull(expectedAtMs) })),
    cleaning: explanation.cleaning
      .slice(0, LISTED_MAX)
      .map(({ expectedAtMs, late }) => ({ expected_at: timeTextOrNull(expectedAtMs), late })),
    provider_errors: isAdmin
      ? [...explanation.providerErrors]
      : explanation.providerErrors.map(() => 'a machine has failed'),
  }
}

/** The longest that an answer is held back: a server that stops waits for those under way. */
const WAIT_SECONDS_MAX = 30

/** How often a stream looks where its request stands, and how long it goes on. */
const STREAM_LOOK_MS = 2_000
const STREAM_MS_MAX = 10 * 60_000

/** The request that is meant. Refused: `request_unknown`, also to those whose business it is not. */
async function calledRequest(
  { reads }: Berth,
  { userId, role }: TokenCaller,
  id: string,
): Promise<Request | Refusal> {
  const request = await reads.request(id)
  if (request !== null && (request.userId === userId || may(role, 'lease.release'))) return request
  return refusal('request_unknown', { id })
}

/** Aborted when the caller has gone. */
function goneSignal(reply: FastifyReply): AbortSignal {
  const gone = new AbortController()
  reply.raw.once('close', () => gone.abort())
  return gone.signal
}

/** Waits until a request waits no longer, for at most so long. Returns it as it is then; null: it is there no more. */
async function awaited(
  berth: Berth,
  request: Request,
  msMax: number,
  gone: AbortSignal,
): Promise<Request | null> {
  const over = new AbortController()
  const signal = AbortSignal.any([over.signal, gone])
  const timeout = berth.schedule.sleep(msMax, signal).then(() => over.abort())
  try {
    const ended = berth.waits.ended(request.id, request.poolId, signal)
    const now = await berth.reads.request(request.id)
    if (now?.state !== 'waiting') return now
    await ended
    return await berth.reads.request(request.id)
  } finally {
    over.abort()
    await timeout
  }
}

async function lookAt(
  berth: Berth,
  request: Request,
  pool: string,
  why = false,
): Promise<RequestLook | null> {
  if (request.state !== 'waiting') return null
  return berth.queue.of(request.poolId, pool, request.id, why)
}

function eventText(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}

/** What becomes of a request, as server-sent events: named by its state, with the request as data. */
async function* changes(
  berth: Berth,
  first: Request,
  pool: string,
  gone: AbortSignal,
): AsyncGenerator<string> {
  const { schedule } = berth
  const untilMs = schedule.now() + STREAM_MS_MAX
  let told = ''
  for (let request: Request | null = first; request !== null; ) {
    const text: string = eventText(
      request.state,
      shownRequest(request, pool, await lookAt(berth, request, pool)),
    )
    yield text === told ? ': still waiting\n\n' : text
    told = text
    if (request.state !== 'waiting' || gone.aborted || berth.waits.stopping.aborted) return
    if (schedule.now() >= untilMs) return
    request = await awaited(berth, request, STREAM_LOOK_MS, gone)
  }
}

const byId = strict({ id: requestName })

export const REQUEST_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/requests',
    id: 'listRequests',
    tag: 'requests',
    summary: 'Your requests that had to wait; an admin: anybody’s',
    auth: 'bearer',
    query: strict({ state: Type.Optional(words(REQUEST_STATES)), ...scope, ...page, fields }),
    answers: { 200: { description: 'a page of requests', schema: pageOf(REQUEST) } },
    refusals: ['not_allowed', 'pool_unknown'],
    async handle(call) {
      const { berth, query } = call
      const whose = await listed(call, query)
      if (isRefusal(whose)) return whose
      const filter = { ...whose, ...(query.state === undefined ? {} : { state: query.state }) }
      let pools = new Map<number, string>()
      return pageOutcome(query, {
        keys: /^req_[0-9a-z]+$/,
        async read(after, rowsMax) {
          const requests = await berth.reads.requests(filter, { after: after ?? '', rowsMax })
          pools = await poolNames(
            berth,
            requests.map(({ poolId }) => poolId),
          )
          return requests
        },
        key: (request) => request.id,
        show: (request) => shownRequest(request, pools.get(request.poolId) ?? '', null),
        fields: FIELDS,
      })
    },
  }),
  route({
    method: 'GET',
    path: '/requests/{id}',
    id: 'getRequest',
    tag: 'requests',
    summary: 'One request: where it stands, and when it is likely to be granted',
    description:
      'With `wait`, the answer comes when it waits no longer, or after that time. With `Accept: text/event-stream`, each change of place, expected time and state is sent as an event named by the state; the stream ends with the request, or after ten minutes: then ask again.',
    auth: 'bearer',
    params: byId,
    query: strict({
      wait: Type.Optional({
        ...duration,
        description: `hold the answer back so long while it waits, at most PT${WAIT_SECONDS_MAX}S`,
        examples: ['PT0S'],
      }),
      fields,
    }),
    answers: { 200: { description: 'the request', schema: REQUEST, streams: true } },
    refusals: ['request_unknown'],
    async handle({ berth, caller, params, query, request: raw }, reply) {
      const seconds = query.wait === undefined ? 0 : (durationSeconds(query.wait) ?? 0)
      if (seconds > WAIT_SECONDS_MAX)
        return refusal('field_invalid', {
          field: 'wait',
          value: query.wait,
          allowed: `at most PT${WAIT_SECONDS_MAX}S`,
        })
      const request = await calledRequest(berth, caller, params.id)
      if (isRefusal(request)) return request
      const pool = await poolNameOf(berth, request.poolId)
      if (raw.headers.accept?.includes('text/event-stream')) {
        const events = Readable.from(changes(berth, request, pool, goneSignal(reply)), { objectMode: false })
        return said(200, events, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
      }
      const now =
        seconds === 0 || request.state !== 'waiting'
          ? request
          : await awaited(berth, request, seconds * 1_000, goneSignal(reply))
      if (now === null) return refusal('request_unknown', { id: params.id })
      return oneOutcome(query, FIELDS, shownRequest(now, pool, await lookAt(berth, now, pool)))
    },
  }),
  route({
    method: 'GET',
    path: '/requests/{id}/explain',
    id: 'explainRequest',
    tag: 'requests',
    summary: 'Why a request waits',
    auth: 'bearer',
    params: byId,
    answers: { 200: { description: 'the reason, and what it rests on', schema: EXPLANATION } },
    refusals: ['request_unknown', 'request_over', 'queue_busy'],
    async handle({ berth, caller, params }): Promise<Outcome | Refusal> {
      const request = await calledRequest(berth, caller, params.id)
      if (isRefusal(request)) return request
      const pool = await poolNameOf(berth, request.poolId)
      const look = await lookAt(berth, request, pool, true)
      if (look?.explanation != null) return said(200, shownExplanation(look.explanation, caller))
      const now = (await berth.reads.request(request.id)) ?? request
      if (now.state !== 'waiting') return refusal('request_over', { id: now.id, state: now.state })
      return refusal('queue_busy', { pool })
    },
  }),
  route({
    method: 'DELETE',
    path: '/requests/{id}',
    id: 'cancelRequest',
    tag: 'requests',
    summary: 'Give up a request that waits',
    auth: 'bearer',
    params: byId,
    answers: { 200: { description: 'the request, given up', schema: REQUEST } },
    refusals: ['request_unknown', 'request_over'],
    async handle({ berth, caller, params, requestId }) {
      const done = await berth.submit({ kind: 'cancelRequest', actor: caller, id: params.id, requestId })
      if (isRefusal(done)) return done
      return said(200, shownRequest(done.request, await poolNameOf(berth, done.request.poolId), null))
    },
  }),
  route({
    method: 'GET',
    path: '/pools/{name}/explain',
    id: 'explainPool',
    tag: 'pools',
    summary: 'How a pool stands: what is free, who waits, and why whoever comes first does',
    auth: 'bearer',
    params: strict({ name }),
    answers: { 200: { description: 'how it stands', schema: poolExplanation() } },
    refusals: ['pool_unknown'],
    async handle({ berth, caller, params }): Promise<Outcome | Refusal> {
      const reading = await poolCalled(berth, params.name)
      if (isRefusal(reading)) return reading
      const { pool } = reading
      const look = await berth.queue.pool(pool.id, pool.name)
      if (isRefusal(look)) return look
      const { first } = look
      const theirs = first !== null && (first.userId === caller.userId || may(caller.role, 'lease.release'))
      return said(200, {
        as_of: timeText(look.atMs),
        waiting: pool.queue.waiting,
        booked: pool.queue.booked,
        classes: look.classes.map(({ key, ...counts }) => ({ class: key, ...counts })),
        first_request_id: theirs ? first.id : null,
        first: first === null ? null : shownExplanation(first.explanation, caller),
      })
    },
  }),
]

function poolExplanation() {
  const count = Type.Integer({ minimum: 0 })
  return named(
    'PoolExplanation',
    strict({
      as_of: time,
      waiting: count,
      booked: count,
      classes: Type.Array(
        strict({
          class: Type.String({ description: 'size and labels' }),
          ready: Type.Integer(),
          usable: count,
          existing: count,
        }),
        { description: 'machines that are alike' },
      ),
      first_request_id: nullable(Type.String({ description: 'null: nobody waits, or it is not yours' })),
      first: Type.Unsafe<Static<typeof EXPLANATION> | null>({
        anyOf: [EXPLANATION, { type: 'null' }],
        description: 'why whoever comes first waits',
      }),
    }),
  )
}
