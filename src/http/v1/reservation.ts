/** Reservations: machines promised for a window of time, or for the windows of a series; and when a pool has how many free. */
import { type Static, Type } from 'typebox'
import { leaseId } from '../../domain/lease.ts'
import { may } from '../../domain/permission.ts'
import { isRefusal, type Refusal, refusal } from '../../domain/refusal.ts'
import { RESERVATION_STATES, type Reservation } from '../../domain/reservation.ts'
import type { Reserved } from '../../domain/reserve.ts'
import { HORIZON_MS } from '../../domain/timeline.ts'
import type { Berth } from '../../service/berth.ts'
import { busyCalendar } from '../../service/calendar.ts'
import { OCCURRENCES_MAX, occurrences, type Window } from '../../service/recurrence.ts'
import { leasesOf } from '../../service/reservation-leases.ts'
import type { TokenCaller } from '../../service/tokens.ts'
import { durationSeconds, durationText } from './duration.ts'
import { oneOutcome, pageOutcome } from './page.ts'
import { poolCalled } from './pool.ts'
import { type Call, type Outcome, perform, type Route, route, said } from './route.ts'
import {
  duration,
  fields,
  id,
  labels,
  mapOf,
  name,
  named,
  nullable,
  page,
  pageOf,
  strict,
  text,
  time,
  timeText,
  words,
} from './schema.ts'
import { listed, poolNameOf, poolNames, scope } from './whose.ts'
import { KIND_SHOWN, shownKinds, wishFields, wishOf } from './wish.ts'

const reservationName = Type.String({
  pattern: '^res_[0-9a-z]{26}$',
  examples: ['res_01kdvdna00zzzzzzzzzzzzzzzz'],
})
const seriesName = Type.String({
  pattern: '^ser_[0-9a-z]{26}$',
  examples: ['ser_01kdvdna00zzzzzzzzzzzzzzzz'],
})

const properties = {
  id: reservationName,
  pool: Type.String(),
  user_id: id,
  state: words(RESERVATION_STATES),
  kinds: Type.Array(KIND_SHOWN),
  from: time,
  to: time,
  at_risk: Type.Boolean({ description: 'machines failed, and it cannot be kept whole as things are' }),
  missing: Type.Integer({ minimum: 0, description: 'how many machines are missing while it is at risk' }),
  claimed: Type.Boolean({ description: 'its holder has said that they are there' }),
  no_show_after: nullable({
    ...duration,
    description: 'it ends when nobody has claimed it so long after its start; null: it does not',
  }),
  series_id: nullable(Type.String()),
  purpose: nullable(Type.String()),
  labels,
  created_at: time,
  leases: Type.Array(Type.String(), {
    description: 'while it is active: its leases that run, by name; [] in lists',
  }),
}

const RESERVATION = named('Reservation', strict(properties))

const FIELDS = Object.keys(properties)

function shown(
  reservation: Reservation,
  pool: string,
  leases: readonly string[] = [],
): Static<typeof RESERVATION> {
  const { noShowSeconds } = reservation
  return {
    id: reservation.id,
    pool,
    user_id: reservation.userId,
    state: reservation.state,
    kinds: shownKinds(reservation.wish),
    from: timeText(reservation.fromMs),
    to: timeText(reservation.toMs),
    at_risk: reservation.atRisk,
    missing: reservation.missing,
    claimed: reservation.claimed,
    no_show_after: noShowSeconds === null ? null : durationText(noShowSeconds),
    series_id: reservation.seriesId,
    purpose: reservation.purpose,
    labels: { ...reservation.labels },
    created_at: timeText(reservation.createdAtMs),
    leases: [...leases],
  }
}

const RECURRENCE = named(
  'Recurrence',
  strict({
    rule: Type.String({
      minLength: 1,
      maxLength: 500,
      description: 'an iCalendar recurrence rule (RFC 5545) that the first window is one of',
      examples: ['FREQ=DAILY;COUNT=3'],
    }),
    time_zone: Type.String({
      minLength: 1,
      maxLength: 64,
      description: 'whose clocks the windows follow: an IANA name',
      examples: ['Europe/Berlin'],
    }),
    except: Type.Optional(
      Type.Array(time, { maxItems: OCCURRENCES_MAX, description: 'starts of windows that are left out' }),
    ),
  }),
)

const CREATION = named(
  'ReservationCreation',
  strict({
    pool: name,
    ...wishFields,
    from: Type.Optional({ ...time, description: 'when the window begins; now when it is left out' }),
    to: Type.Optional({ ...time, description: 'when it ends; or say `duration`' }),
    duration: Type.Optional({ ...duration, description: 'how long the window is, in place of `to`' }),
    recurrence: Type.Optional(RECURRENCE),
    partial: Type.Optional(
      Type.Boolean({
        description: 'of a series: windows that cannot be had are left out, and listed as `failed`',
      }),
    ),
    no_show_after: Type.Optional(
      nullable({ ...duration, description: 'what the pool says when it is left out; null: never' }),
    ),
    purpose: Type.Optional(text(500)),
    labels: Type.Optional(labels),
  }),
)

type Creation = Static<typeof CREATION>

const RESERVED = named(
  'ReservationsMade',
  strict({
    series_id: nullable(Type.String()),
    reservations: Type.Array(RESERVATION),
    failed: Type.Array(
      strict({
        from: time,
        to: time,
        code: Type.String({ description: 'why not, as in a problem document' }),
        detail: Type.String(),
        details: Type.Unsafe<Record<string, unknown>>({ type: 'object' }),
      }),
      { description: 'windows that cannot be had' },
    ),
  }),
)

function outcomeOf({ reservations, failed }: Reserved, pool: string): Outcome {
  const [first] = reservations
  const seriesId = first?.seriesId ?? null
  const location = seriesId === null ? `/api/v1/reservations/${first?.id}` : `/api/v1/series/${seriesId}`
  const body: Static<typeof RESERVED> = {
    series_id: seriesId,
    reservations: reservations.map((reservation) => shown(reservation, pool)),
    failed: failed.map(({ fromMs, toMs, refusal: { code, message, details } }) => {
      return { from: timeText(fromMs), to: timeText(toMs), code, detail: message, details }
    }),
  }
  return said(201, body, { location })
}

/** The first or only window of a body. Refused: `field_missing`, `field_invalid`. */
function windowOf({ from, to, duration }: Creation, nowMs: number): Window | Refusal {
  if (to !== undefined && duration !== undefined)
    return refusal('field_invalid', { field: 'duration', value: duration, allowed: 'left out beside to' })
  const fromMs = from === undefined ? nowMs : Date.parse(from)
  if (to !== undefined) return { fromMs, toMs: Date.parse(to) }
  if (duration === undefined) return refusal('field_missing', { field: 'to' })
  return { fromMs, toMs: fromMs + (durationSeconds(duration) ?? 0) * 1_000 }
}

/** Clocks of servers and database may differ; whatever is too far ahead, the pool's rules say. */
const CLOCKS_MS = 60_000

/** The windows that a body means. Refused: as `windowOf` and `occurrences`, and `window_empty`. */
function windowsOf(body: Creation, nowMs: number): readonly Window[] | Refusal {
  const first = windowOf(body, nowMs)
  const { recurrence } = body
  if (isRefusal(first) || recurrence === undefined) return isRefusal(first) ? first : [first]
  const { fromMs, toMs } = first
  if (toMs <= fromMs)
    return refusal('window_empty', { field: 'to', from: timeText(fromMs), to: timeText(toMs) })
  const { rule, time_zone: timeZone, except = [] } = recurrence
  const series = { fromMs, toMs, rule, timeZone, except: except.map((start) => Date.parse(start)) }
  const untilMs = nowMs + HORIZON_MS - CLOCKS_MS
  const windows = occurrences(series, fromMs, untilMs - (toMs - fromMs))
  if (isRefusal(windows) || windows.length > 0) return windows
  const allowed = `a rule with a window until ${timeText(untilMs)}`
  return refusal('field_invalid', { field: 'recurrence.rule', value: rule, allowed })
}

async function reserveFor(call: Call<unknown, unknown, Creation>): Promise<Outcome | Refusal> {
  const { berth, caller, body, requestId } = call
  const { recurrence, partial = false, no_show_after: noShow } = body
  const wish = wishOf(body)
  if (isRefusal(wish)) return wish
  if (recurrence === undefined && body.partial !== undefined)
    return refusal('field_invalid', {
      field: 'partial',
      value: partial,
      allowed: 'left out without recurrence',
    })
  const windows = windowsOf(body, berth.schedule.now())
  if (isRefusal(windows)) return windows
  const reading = await poolCalled(berth, body.pool)
  if (isRefusal(reading)) return reading
  const pool = reading.pool.name
  const noShowSeconds = typeof noShow === 'string' ? (durationSeconds(noShow) ?? 0) : noShow
  const command = {
    kind: 'reserve',
    actor: caller,
    pool,
    wish,
    windows: windows.map((window) => ({ id: berth.newId('res'), ...window })),
    seriesId: recurrence === undefined ? null : berth.newId('ser'),
    partial,
    noShowSeconds,
    purpose: body.purpose ?? null,
    labels: body.labels ?? {},
    requestId,
  } as const
  return perform(call, command, (reserved) => outcomeOf(reserved, pool))
}

/** The reservation that is meant. Refused: `reservation_unknown`, also to those whose business it is not. */
async function called(
  { reads }: Berth,
  { userId, role }: TokenCaller,
  id: string,
): Promise<Reservation | Refusal> {
  const reservation = await reads.reservation(id)
  if (reservation !== null && (reservation.userId === userId || may(role, 'lease.release')))
    return reservation
  return refusal('reservation_unknown', { id })
}

async function shownWhole(berth: Berth, reservation: Reservation): Promise<Static<typeof RESERVATION>> {
  const leases = reservation.state === 'active' ? await leasesOf(berth.reads, reservation) : []
  return shown(reservation, await poolNameOf(berth, reservation.poolId), leases.map(leaseId))
}

/** Gives up a reservation and what it has of machines. */
async function giveUp({ berth, caller, requestId }: Call, reservation: Reservation) {
  const vmIds = (await leasesOf(berth.reads, reservation)).map(({ vmId }) => vmId)
  const { id } = reservation
  return berth.submit({ kind: 'cancelReservation', actor: caller, id, vmIds, requestId })
}

/** The reservations of a series in the order of their windows, as far as they are `caller`'s business. Refused: `series_unknown`. */
async function seriesOf(
  { reads }: Berth,
  { userId, role }: TokenCaller,
  seriesId: string,
): Promise<Reservation[] | Refusal> {
  const all = await reads.reservations({ seriesId }, { after: '', rowsMax: SERIES_ROWS_MAX })
  const theirs = all.filter((one) => one.userId === userId || may(role, 'lease.release'))
  theirs.sort((a, b) => a.fromMs - b.fromMs)
  return theirs.length > 0 ? theirs : refusal('series_unknown', { id: seriesId })
}

const SERIES_ROWS_MAX = 10_000

const SERIES = named(
  'Series',
  strict({ id: seriesName, pool: Type.String(), user_id: id, reservations: Type.Array(RESERVATION) }),
)

async function shownSeries(
  berth: Berth,
  seriesId: string,
  reservations: readonly Reservation[],
): Promise<Static<typeof SERIES>> {
  const { poolId = 0, userId = 0 } = reservations[0] ?? {}
  const pool = await poolNameOf(berth, poolId)
  return {
    id: seriesId,
    pool,
    user_id: userId,
    reservations: reservations.map((reservation) => shown(reservation, pool)),
  }
}

const FREE_DAYS = 7
const DAY_MS = 86_400_000

const range = strict({
  from: Type.Optional({ ...time, description: 'now when it is left out' }),
  to: Type.Optional({ ...time, description: `${FREE_DAYS} days after \`from\` when it is left out` }),
})

const FREE_BUSY = named(
  'FreeBusy',
  strict({
    pool: Type.String(),
    from: time,
    to: time,
    spans: Type.Array(
      strict({
        from: time,
        to: time,
        free: mapOf(Type.Integer({ minimum: 0 }), {
          description: 'machines that can be reserved over this time, by size and labels',
        }),
      }),
      { description: 'times over which nothing changes, one behind the other' },
    ),
  }),
)

/** What of a pool is free when. Refused: `pool_unknown`, `field_invalid`. */
async function freeOf({ berth, params, query }: Call<{ name: string }, Static<typeof range>>) {
  const nowMs = berth.schedule.now()
  const fromMs = query.from === undefined ? nowMs : Math.max(nowMs, Date.parse(query.from))
  const toMs = query.to === undefined ? fromMs + FREE_DAYS * DAY_MS : Date.parse(query.to)
  if (toMs <= fromMs || toMs > nowMs + HORIZON_MS)
    return refusal('field_invalid', {
      field: 'to',
      value: query.to ?? timeText(toMs),
      allowed: `after from, and until ${timeText(nowMs + HORIZON_MS)}`,
    })
  const reading = await poolCalled(berth, params.name)
  if (isRefusal(reading)) return reading
  const { name } = reading.pool
  const look = await berth.queue.free(name, fromMs, toMs)
  return isRefusal(look) ? look : { name, fromMs, toMs, nowMs, spans: look.free }
}

const byId = strict({ id: reservationName })
const bySeries = strict({ id: seriesName })

export const RESERVATION_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/reservations',
    id: 'createReservation',
    tag: 'reservations',
    summary: 'Reserve machines of a pool for a window, or for the windows of a series',
    description:
      'At its start the machines become leases of yours. A window that is full is refused with `details`: how many could be had, the earliest later start, and other sizes that are free. A series is reserved for the next 90 days, all windows or none unless `partial`.',
    auth: 'bearer',
    body: CREATION,
    answers: { 201: { description: 'the reservations', schema: RESERVED, headers: ['Location'] } },
    refusals: [
      'pool_unknown',
      'pool_closed_to_you',
      'vm_unknown',
      'window_empty',
      'window_past',
      'window_far',
      'window_long',
      'quota_never',
      'quota_full',
      'wish_impossible',
      'vm_entangled',
      'reservation_full',
      'series_full',
    ],
    handle: reserveFor,
  }),
  route({
    method: 'GET',
    path: '/reservations',
    id: 'listReservations',
    tag: 'reservations',
    summary: 'Your reservations; an admin: anybody’s',
    auth: 'bearer',
    query: strict({
      state: Type.Optional(words(RESERVATION_STATES)),
      series: Type.Optional(seriesName),
      from: Type.Optional({ ...time, description: 'those that end after this' }),
      to: Type.Optional({ ...time, description: 'those that begin before this' }),
      ...scope,
      ...page,
      fields,
    }),
    answers: { 200: { description: 'a page of reservations', schema: pageOf(RESERVATION) } },
    refusals: ['not_allowed', 'pool_unknown'],
    async handle(call) {
      const { berth, query } = call
      const whose = await listed(call, query)
      if (isRefusal(whose)) return whose
      const filter = {
        ...whose,
        ...(query.state === undefined ? {} : { state: query.state }),
        ...(query.series === undefined ? {} : { seriesId: query.series }),
        ...(query.from === undefined ? {} : { fromMs: Date.parse(query.from) }),
        ...(query.to === undefined ? {} : { toMs: Date.parse(query.to) }),
      }
      let pools = new Map<number, string>()
      return pageOutcome(query, {
        keys: /^res_[0-9a-z]+$/,
        async read(after, rowsMax) {
          const reservations = await berth.reads.reservations(filter, { after: after ?? '', rowsMax })
          pools = await poolNames(
            berth,
            reservations.map(({ poolId }) => poolId),
          )
          return reservations
        },
        key: (reservation) => reservation.id,
        show: (reservation) => shown(reservation, pools.get(reservation.poolId) ?? ''),
        fields: FIELDS,
      })
    },
  }),
  route({
    method: 'GET',
    path: '/reservations/{id}',
    id: 'getReservation',
    tag: 'reservations',
    summary: 'One reservation of yours',
    auth: 'bearer',
    params: byId,
    query: strict({ fields }),
    answers: { 200: { description: 'the reservation', schema: RESERVATION } },
    refusals: ['reservation_unknown'],
    async handle({ berth, caller, params, query }) {
      const reservation = await called(berth, caller, params.id)
      if (isRefusal(reservation)) return reservation
      return oneOutcome(query, FIELDS, await shownWhole(berth, reservation))
    },
  }),
  route({
    method: 'POST',
    path: '/reservations/{id}/claim',
    id: 'claimReservation',
    tag: 'reservations',
    summary: 'Say that you are there, so that it does not end as not used',
    auth: 'bearer',
    params: byId,
    answers: { 200: { description: 'the reservation', schema: RESERVATION } },
    refusals: ['reservation_unknown', 'reservation_over'],
    async handle(call): Promise<Outcome | Refusal> {
      const { berth, caller, params, requestId } = call
      const reservation = await called(berth, caller, params.id)
      if (isRefusal(reservation)) return reservation
      const { leases, pool } = await shownWhole(berth, reservation)
      const command = { kind: 'claimReservation', actor: caller, id: params.id, requestId } as const
      return perform(call, command, (reply) => said(200, shown(reply.reservation, pool, leases)))
    },
  }),
  route({
    method: 'DELETE',
    path: '/reservations/{id}',
    id: 'cancelReservation',
    tag: 'reservations',
    summary: 'Give up a reservation; what has begun of it ends',
    auth: 'bearer',
    params: byId,
    answers: { 200: { description: 'the reservation, given up', schema: RESERVATION } },
    refusals: ['reservation_unknown', 'reservation_over'],
    async handle(call): Promise<Outcome | Refusal> {
      const reservation = await called(call.berth, call.caller, call.params.id)
      if (isRefusal(reservation)) return reservation
      const done = await giveUp(call, reservation)
      return isRefusal(done) ? done : said(200, await shownWhole(call.berth, done.reservation))
    },
  }),
  route({
    method: 'GET',
    path: '/series/{id}',
    id: 'getSeries',
    tag: 'reservations',
    summary: 'The reservations of a series',
    auth: 'bearer',
    params: bySeries,
    answers: { 200: { description: 'the series', schema: SERIES } },
    refusals: ['series_unknown'],
    async handle({ berth, caller, params }) {
      const reservations = await seriesOf(berth, caller, params.id)
      if (isRefusal(reservations)) return reservations
      return said(200, await shownSeries(berth, params.id, reservations))
    },
  }),
  route({
    method: 'DELETE',
    path: '/series/{id}',
    id: 'cancelSeries',
    tag: 'reservations',
    summary: 'Give up what is to come of a series, and what is under way',
    auth: 'bearer',
    params: bySeries,
    answers: { 200: { description: 'the series, given up', schema: SERIES } },
    refusals: ['series_unknown'],
    async handle(call): Promise<Outcome | Refusal> {
      const { berth, caller, params } = call
      const reservations = await seriesOf(berth, caller, params.id)
      if (isRefusal(reservations)) return reservations
      const stands = reservations.filter(({ state }) => state === 'confirmed' || state === 'active')
      const answers = await Promise.all(stands.map((reservation) => giveUp(call, reservation)))
      // One that has ended by itself meanwhile is given up as well.
      const no = answers.find((answer) => isRefusal(answer) && answer.code !== 'reservation_over')
      if (isRefusal(no)) return no
      const now = await seriesOf(berth, caller, params.id)
      return isRefusal(now) ? now : said(200, await shownSeries(berth, params.id, now))
    },
  }),
  route({
    method: 'GET',
    path: '/pools/{name}/free-busy',
    id: 'getFreeBusy',
    tag: 'reservations',
    summary: 'When a pool has how many machines that can be reserved',
    auth: 'bearer',
    params: strict({ name }),
    query: range,
    answers: { 200: { description: 'what is free', schema: FREE_BUSY } },
    refusals: ['pool_unknown'],
    async handle(call): Promise<Outcome | Refusal> {
      const free = await freeOf(call)
      if (isRefusal(free)) return free
      const { name, fromMs, toMs, spans } = free
      return said(200, {
        pool: name,
        from: timeText(fromMs),
        to: timeText(toMs),
        spans: spans.map((span) => ({
          from: timeText(span.fromMs),
          to: timeText(span.toMs),
          free: Object.fromEntries(span.free),
        })),
      })
    },
  }),
  route({
    method: 'GET',
    path: '/pools/{name}/free-busy.ics',
    id: 'getFreeBusyCalendar',
    tag: 'reservations',
    summary: 'When nothing of a pool is free, as iCalendar (VFREEBUSY)',
    auth: 'bearer',
    params: strict({ name }),
    query: range,
    answers: { 200: { description: 'the calendar', schema: Type.String(), type: 'text/calendar' } },
    refusals: ['pool_unknown'],
    async handle(call): Promise<Outcome | Refusal> {
      const free = await freeOf(call)
      if (isRefusal(free)) return free
      return calendarOutcome(busyCalendar(free.name, free.spans, call.request.hostname, free.nowMs))
    },
  }),
]

/** iCalendar text, for the caller alone. */
export function calendarOutcome(text: string): Outcome {
  return said(200, text, { 'content-type': 'text/calendar; charset=utf-8', 'cache-control': 'private' })
}
