/** Reservations under /api/v1: windows and series, what begins of them, conflicts, calendars. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { until } from '../support/server-process.ts'
import type { Reply } from '../support/test-server.ts'
import {
  assertProblem,
  eventsOf,
  makePool,
  startV1Server,
  type V1Client,
  type V1Server,
} from '../support/v1-server.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

type Body = Reply['body']

let v1: V1Server
let ada: V1Client
let bob: V1Client
let eve: V1Client

before(async () => {
  v1 = await startV1Server()
  ;({ ada, bob, eve } = v1)
  await makePool(ada, 'lab', 3, { cleaning_time: 'PT5M', lease_default: 'PT1H', lease_max: 'P7D' })
})
after(() => v1.server.stop())

/** The full hour that begins so many hours after the next one, and so many days later. */
function hour(hours: number, days = 0): string {
  return new Date((Math.ceil(Date.now() / HOUR_MS) + hours) * HOUR_MS + days * DAY_MS).toISOString()
}

async function reserve(client: V1Client, body: object): Promise<Body> {
  const { status, body: answer } = await client('POST', '/reservations', { pool: 'lab', ...body })
  assert.equal(status, 201, JSON.stringify(answer))
  return answer
}

const cancel = async (client: V1Client, id: string) =>
  assert.equal((await client('DELETE', `/reservations/${id}`)).status, 200)

describe('a reservation', () => {
  it('is confirmed for a window, by its end or its length', async () => {
    const window = { from: hour(1), to: hour(3) }
    const reply = await bob('POST', '/reservations', {
      pool: 'lab',
      count: 2,
      ...window,
      purpose: 'demo',
      labels: { a: 'b' },
    })
    const [made] = reply.body.reservations
    assert.equal(reply.headers.get('location'), `/api/v1/reservations/${made.id}`)
    assert.deepEqual(
      [made.state, made.from, made.to, made.at_risk, made.claimed, made.series_id, made.purpose, made.labels],
      ['confirmed', window.from, window.to, false, false, null, 'demo', { a: 'b' }],
    )
    assert.deepEqual(made.kinds, [{ type: null, selector: {}, machine: null, count: 2 }])
    assert.deepEqual((await bob('GET', `/reservations/${made.id}`)).body, made)
    const second = (await reserve(bob, { from: hour(1), duration: 'PT2H' })).reservations[0]
    assert.equal(second.to, window.to)
    assert.deepEqual(await eventsOf(v1.server, 'reservation.'), [
      'reservation.confirmed',
      'reservation.confirmed',
    ])
    assert.equal((await ada('GET', '/pools/lab')).body.booked, 2)
    for (const { id } of [made, second])
      assert.equal((await bob('DELETE', `/reservations/${id}`)).body.state, 'cancelled')
    assertProblem(await bob('DELETE', `/reservations/${made.id}`), 409, 'reservation_over')
  })

  it('that does not fit is answered with what does', async () => {
    const made = (await reserve(eve, { count: 2, from: hour(1), to: hour(3) })).reservations[0]
    const full = await bob('POST', '/reservations', { pool: 'lab', count: 2, from: hour(2), to: hour(4) })
    assertProblem(full, 409, 'reservation_full')
    const { countMax, earliestFrom } = full.body.details
    assert.equal(countMax, 1)
    const offered = await reserve(bob, { count: 2, from: earliestFrom, duration: 'PT2H' })
    const smaller = await reserve(bob, { count: 1, from: hour(2), duration: 'PT30M' })
    for (const { id } of [...offered.reservations, ...smaller.reservations]) await cancel(bob, id)
    await cancel(eve, made.id)
  })

  it('is in the way of a lease that would run into it, and offers how long one may be', async () => {
    const made = (await reserve(eve, { count: 3, from: hour(1), to: hour(3) })).reservations[0]
    const no = await bob('POST', '/leases', { pool: 'lab', duration: 'PT6H' })
    assertProblem(no, 409, 'lease_reserved')
    const { offerSeconds } = no.body.details
    assert.ok(offerSeconds > 0 && offerSeconds <= 2 * 3_600)
    const { body } = await bob('POST', '/leases', { pool: 'lab', duration: `PT${offerSeconds}S` })
    const at = `/leases/${body.leases[0].id}`
    assertProblem(await bob('PATCH', at, { extend_by: 'PT3H' }), 409, 'extension_reserved')
    const shortened = await bob('POST', '/leases', { pool: 'lab', duration: 'PT6H', min_duration: 'PT5M' })
    assert.equal(shortened.status, 201, JSON.stringify(shortened.body))
    assert.equal((await bob('DELETE', at)).status, 200)
    assert.equal((await bob('DELETE', `/leases/${shortened.body.leases[0].id}`)).status, 200)
    await cancel(eve, made.id)
    await until(async () => (await ada('GET', '/pools/lab')).body.machines.free === 3)
  })

  it('becomes leases at its start, and they end with it', async () => {
    const { reservations } = await reserve(bob, { count: 2, duration: 'PT1H', purpose: 'now' })
    const at = `/reservations/${reservations[0].id}`
    const active = await until(async () => {
      const { body } = await bob('GET', at)
      return body.state === 'active' && body
    })
    assert.equal(active.leases.length, 2)
    const lease = (await bob('GET', `/leases/${active.leases[0]}`)).body
    assert.deepEqual([lease.reservation_id, lease.ends_at], [active.id, active.to])
    assert.equal((await bob('POST', `${at}/claim`)).body.claimed, true)
    const over = await bob('DELETE', at)
    assert.deepEqual([over.body.state, over.body.leases], ['ended', []])
    assert.equal((await bob('GET', `/leases/${lease.id}`)).body.ended_by, 'checked_in')
    assertProblem(await bob('POST', `${at}/claim`), 409, 'reservation_over')
    await until(async () => (await ada('GET', '/pools/lab')).body.machines.free === 3)
  })

  it('that nobody claims ends by itself', async () => {
    const { reservations } = await reserve(bob, { duration: 'PT1H', no_show_after: 'PT1S' })
    const at = `/reservations/${reservations[0].id}`
    await until(async () => (await bob('GET', at)).body.state === 'no_show')
    assert.ok((await eventsOf(v1.server, 'reservation.')).includes('reservation.no_show'))
    await until(async () => (await ada('GET', '/pools/lab')).body.machines.free === 3)
  })

  it('is its holder’s and admins’ business', async () => {
    const [{ id }] = (await reserve(bob, { from: hour(1), to: hour(2) })).reservations
    const at = `/reservations/${id}`
    assertProblem(await eve('GET', at), 404, 'reservation_unknown')
    assertProblem(await eve('POST', `${at}/claim`), 404, 'reservation_unknown')
    assertProblem(await eve('DELETE', at), 404, 'reservation_unknown')
    const ids = async (client: V1Client, query: string) =>
      (await client('GET', `/reservations${query}`)).body.items.map((one: Body) => one.id)
    assert.deepEqual(await ids(bob, '?state=confirmed'), [id])
    assert.deepEqual(await ids(bob, `?state=confirmed&from=${hour(2)}`), [])
    assert.deepEqual(await ids(bob, `?state=confirmed&to=${hour(1)}`), [])
    assert.deepEqual(await ids(eve, '?state=confirmed'), [])
    assertProblem(await eve('GET', '/reservations?user=2'), 403, 'not_allowed')
    assert.deepEqual(await ids(ada, '?pool=lab&state=confirmed'), [id])
    assert.equal((await ada('DELETE', at)).body.state, 'cancelled')
  })

  for (const [what, body, status, code, field] of [
    ['no end', {}, 400, 'field_missing', 'to'],
    ['an end and a length', { to: hour(2), duration: 'PT1H' }, 400, 'field_invalid', 'duration'],
    ['an end before its start', { from: hour(2), to: hour(1) }, 400, 'window_empty', 'to'],
    ['a window that is over', { from: hour(-9), to: hour(-8) }, 400, 'window_past', 'from'],
    ['a window too far ahead', { from: hour(0, 95), duration: 'PT1H' }, 400, 'window_far', 'to'],
    ['a window too long', { from: hour(1), duration: 'P8D' }, 409, 'window_long', 'to'],
    ['an unknown pool', { pool: 'nowhere', duration: 'PT1H' }, 404, 'pool_unknown', 'name'],
    ['more than there is', { from: hour(1), to: hour(2), count: 9 }, 409, 'wish_impossible', 'type'],
    [
      'a part of a single one',
      { from: hour(1), to: hour(2), partial: true },
      400,
      'field_invalid',
      'partial',
    ],
    [
      'a rule that is none',
      { from: hour(1), to: hour(2), recurrence: { rule: 'daily', time_zone: 'UTC' } },
      400,
      'field_invalid',
      'recurrence.rule',
    ],
    [
      'a zone that is none',
      { from: hour(1), to: hour(2), recurrence: { rule: 'FREQ=DAILY', time_zone: 'Mars' } },
      400,
      'field_invalid',
      'recurrence.time_zone',
    ],
    [
      'an empty series',
      { from: hour(2), to: hour(1), recurrence: { rule: 'FREQ=DAILY', time_zone: 'UTC' } },
      400,
      'window_empty',
      'to',
    ],
  ] as const)
    it(`is refused with ${what}`, async () => {
      const reply = await bob('POST', '/reservations', { pool: 'lab', ...body })
      assertProblem(reply, status, code)
      assert.equal(reply.body.field, field)
    })
})

describe('a series', () => {
  const daily = { from: hour(1), to: hour(2), recurrence: { rule: 'FREQ=DAILY;COUNT=4', time_zone: 'UTC' } }

  it('is a reservation for each of its windows, and is given up as one', async () => {
    const recurrence = { ...daily.recurrence, except: [hour(1, 2)] }
    const made = await reserve(bob, { ...daily, recurrence })
    assert.match(made.series_id, /^ser_/)
    assert.deepEqual(
      made.reservations.map((one: Body) => one.from),
      [hour(1), hour(1, 1), hour(1, 3)],
    )
    const at = `/series/${made.series_id}`
    assert.deepEqual((await bob('GET', at)).body.reservations, made.reservations)
    assert.equal((await bob('GET', `/reservations?series=${made.series_id}`)).body.items.length, 3)
    assertProblem(await eve('GET', at), 404, 'series_unknown')
    assertProblem(await eve('DELETE', at), 404, 'series_unknown')
    await cancel(bob, made.reservations[1].id)
    const over = (await bob('DELETE', at)).body
    assert.ok(over.reservations.every((one: Body) => one.state === 'cancelled'))
  })

  it('is had whole, or in part when that will do', async () => {
    const taken = (await reserve(eve, { count: 3, from: hour(1, 1), to: hour(2, 1) })).reservations[0]
    const no = await bob('POST', '/reservations', { pool: 'lab', ...daily })
    assertProblem(no, 409, 'series_full')
    assert.deepEqual([no.body.details.failed, no.body.details.count], [1, 4])
    const made = await reserve(bob, { ...daily, partial: true })
    assert.equal(made.reservations.length, 3)
    assert.deepEqual(
      made.failed.map((one: Body) => [one.from, one.code]),
      [[hour(1, 1), 'reservation_full']],
    )
    assert.equal((await bob('DELETE', `/series/${made.series_id}`)).status, 200)
    await cancel(eve, taken.id)
  })
})

describe('what is free when', () => {
  it('is told by spans, and as iCalendar', async () => {
    const made = (await reserve(eve, { count: 3, from: hour(1), to: hour(2) })).reservations[0]
    const { status, body } = await bob('GET', `/pools/lab/free-busy?to=${hour(6)}`)
    assert.equal(status, 200)
    const at = (time: string) => {
      const span = body.spans.find(({ from, to }: Body) => from <= time && time < to)
      return span?.free.small
    }
    assert.deepEqual([at(hour(0)), at(hour(1)), at(hour(3))], [3, 0, 3])
    assert.equal(body.spans.at(-1).to, hour(6))
    for (const query of [`?from=${hour(2)}&to=${hour(1)}`, `?to=${hour(0, 100)}`])
      assertProblem(await bob('GET', `/pools/lab/free-busy${query}`), 400, 'field_invalid')
    const response = await fetch(`${v1.server.url}/api/v1/pools/lab/free-busy.ics`, {
      headers: { authorization: `Bearer ${v1.secrets.bob}` },
    })
    assert.match(response.headers.get('content-type') ?? '', /^text\/calendar/)
    const text = await response.text()
    const from = hour(1).replace(/[-:]|\.000/g, '')
    assert.ok(text.includes(`FREEBUSY;FBTYPE=BUSY:${from}/`), text)
    await cancel(eve, made.id)
  })
})

describe('a calendar link', () => {
  const read = (url: string) => fetch(v1.server.url + url)

  it('shows reservations and leases, to whoever has it', async () => {
    const [made] = (await reserve(bob, { from: hour(1), to: hour(2), purpose: 'review' })).reservations
    const lease = (await bob('POST', '/leases', { pool: 'lab', duration: 'PT30M', purpose: 'debug' })).body
      .leases[0]
    const link = await bob('POST', '/calendar-links', undefined, { 'idempotency-key': 'link' })
    assert.equal(link.status, 201, JSON.stringify(link.body))
    const replay = await bob('POST', '/calendar-links', undefined, { 'idempotency-key': 'link' })
    assert.deepEqual(replay.body, { ...link.body, url: null })
    const response = await read(link.body.url)
    assert.equal(response.status, 200)
    assert.match(response.headers.get('content-type') ?? '', /^text\/calendar/)
    const text = await response.text()
    assert.ok(text.includes(`UID:reservation-${made.id}@`) && text.includes('SUMMARY:review'), text)
    assert.ok(text.includes(`UID:lease-${lease.id}@`) && text.includes('debug'), text)
    // It opens nothing else, and a token opens no calendar.
    const [, key] = link.body.url.split('key=')
    for (const path of ['/leases', '/users/me'])
      assertProblem(
        await v1.server.call('GET', `/api/v1${path}`, undefined, { authorization: `Bearer ${key}` }),
        401,
        'token_invalid',
      )
    assert.equal((await read(`/api/v1/calendar.ics?key=${v1.secrets.bob}`)).status, 400)
    assert.equal((await read(`/api/v1/calendar.ics?key=bcal_${'A'.repeat(43)}`)).status, 401)
    assert.equal((await bob('DELETE', `/tokens/${link.body.token_id}`)).status, 204)
    assert.equal((await read(link.body.url)).status, 401)
    assert.equal((await bob('DELETE', `/leases/${lease.id}`)).status, 200)
    await cancel(bob, made.id)
  })
})
