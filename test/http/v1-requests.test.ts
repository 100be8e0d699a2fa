/** Requests under /api/v1: how they wait, where they stand, why, and how whoever waits for them is told. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { until } from '../support/server-process.ts'
import type { Reply } from '../support/test-server.ts'
import { assertProblem, makePool, startV1Server, type V1Client, type V1Server } from '../support/v1-server.ts'

let v1: V1Server
let ada: V1Client
let bob: V1Client
let eve: V1Client

before(async () => {
  v1 = await startV1Server()
  ;({ ada, bob, eve } = v1)
  await makePool(ada, 'lab', 1, { cleaning_time: 'PT5M' })
})
after(() => v1.server.stop())

type Body = Reply['body']

/** The one machine of the pool, leased to eve, and requests of bob behind it. */
async function queued(count: number, body: object = {}): Promise<{ held: Body; requests: Body[] }> {
  await until(async () => (await ada('GET', '/pools/lab')).body.machines.free === 1)
  const held = await eve('POST', '/leases', { pool: 'lab', duration: 'PT1H' })
  assert.equal(held.status, 201, JSON.stringify(held.body))
  const requests: Body[] = []
  for (let i = 0; i < count; i++) {
    const wish = { pool: 'lab', duration: 'PT30M', wait: 'PT2H', purpose: `job ${i}`, ...body }
    const { status, body: answer } = await bob('POST', '/leases', wish)
    assert.equal(status, 202, JSON.stringify(answer))
    requests.push(answer.request)
  }
  return { held: held.body.leases[0], requests }
}

const giveBack = async (client: V1Client, lease: string) =>
  assert.equal((await client('DELETE', `/leases/${lease}`)).status, 200)

describe('a request that waits', () => {
  it('tells what it is for, where it stands, and when it is likely to be granted', async () => {
    const { held, requests } = await queued(2)
    const [first, second] = requests
    assert.deepEqual([first.state, first.pool, first.user_id, first.purpose], ['waiting', 'lab', 2, 'job 0'])
    assert.equal(Date.parse(first.waits_until) - Date.parse(first.created_at), 7_200_000)
    const shown = (await bob('GET', `/requests/${first.id}`)).body
    assert.equal(shown.position, 1)
    assert.equal(shown.eta.sure, 'promised')
    assert.ok(Date.parse(shown.eta.latest) >= Date.parse(held.ends_at))
    assert.equal((await bob('GET', `/requests/${second.id}`)).body.position, 2)
    const picked = await bob('GET', `/requests/${first.id}?fields=id,position`)
    assert.deepEqual(Object.keys(picked.body), ['id', 'position'])
    const list = (await bob('GET', '/requests?state=waiting')).body.items
    assert.deepEqual(
      list.map(({ id }: Body) => id),
      [first.id, second.id],
    )
    for (const { id } of requests)
      assert.equal((await bob('DELETE', `/requests/${id}`)).body.state, 'cancelled')
    await giveBack(eve, held.id)
  })

  it('is its owner’s and admins’ business', async () => {
    const { held, requests } = await queued(1)
    const [{ id }] = requests as [Body]
    for (const [method, path] of [
      ['GET', `/requests/${id}`],
      ['GET', `/requests/${id}/explain`],
      ['DELETE', `/requests/${id}`],
    ] as const)
      assertProblem(await eve(method, path), 404, 'request_unknown')
    assertProblem(await eve('GET', '/requests?user=2'), 403, 'not_allowed')
    assert.equal((await ada('GET', `/requests/${id}`)).status, 200)
    assert.equal((await ada('GET', '/requests?pool=lab&state=waiting')).body.items[0].id, id)
    assert.equal((await ada('DELETE', `/requests/${id}`)).body.state, 'cancelled')
    assert.equal((await bob('DELETE', `/requests/${id}`)).body.state, 'cancelled')
    assertProblem(await bob('GET', `/requests/${id}/explain`), 409, 'request_over')
    await giveBack(eve, held.id)
  })

  it('is explained, to each as far as they may know', async () => {
    const { held, requests } = await queued(2)
    const [first, second] = requests
    const explained = (await bob('GET', `/requests/${first.id}/explain`)).body
    assert.equal(explained.code, 'BUSY')
    assert.match(explained.text, /^0 of 1 small are free; the next are expected back at /)
    assert.deepEqual(
      explained.holders.map((holder: Body) => holder.user_id),
      [null],
    )
    assert.ok(Date.parse(explained.holders[0].until) >= Date.parse(held.ends_at))
    const asAdmin = (await ada('GET', `/requests/${first.id}/explain`)).body
    assert.equal(asAdmin.holders[0].user_id, 3)
    const behind = (await bob('GET', `/requests/${second.id}/explain`)).body
    assert.deepEqual([behind.code, behind.position], ['ORDER', 2])
    const pool = (await bob('GET', '/pools/lab/explain')).body
    assert.deepEqual([pool.waiting, pool.first_request_id, pool.first.code], [2, first.id, 'BUSY'])
    assert.deepEqual(pool.classes, [{ class: 'small', ready: 0, usable: 1, existing: 1 }])
    assert.equal((await eve('GET', '/pools/lab/explain')).body.first_request_id, null)
    for (const { id } of requests) await bob('DELETE', `/requests/${id}`)
    await giveBack(eve, held.id)
  })

  it('is answered when it is granted, to whoever waits for that', async () => {
    const { held, requests } = await queued(2)
    const [first, second] = requests
    const answers = [first, second].map(({ id }) => bob('GET', `/requests/${id}?wait=PT30S`))
    await until(() => v1.server.berth.waits.count === 2)
    await giveBack(eve, held.id)
    const granted = (await answers[0])?.body
    assert.deepEqual([granted.state, granted.leases.length, granted.position], ['granted', 1, null])
    const lease = (await bob('GET', `/leases/${granted.leases[0]}`)).body
    assert.deepEqual([lease.request_id, lease.purpose], [first.id, 'job 0'])
    await bob('DELETE', `/requests/${second.id}`)
    assert.equal((await answers[1])?.body.state, 'cancelled')
    assert.equal(v1.server.berth.waits.count, 0)
    assertProblem(await bob('DELETE', `/requests/${first.id}`), 409, 'request_over')
    await giveBack(bob, lease.id)
  })

  it('is answered as it is when the time is over', async () => {
    const { held, requests } = await queued(1)
    const [{ id }] = requests as [Body]
    const waited = await bob('GET', `/requests/${id}?wait=PT1S`)
    assert.deepEqual([waited.body.state, waited.body.position], ['waiting', 1])
    assertProblem(await bob('GET', `/requests/${id}?wait=PT31S`), 400, 'field_invalid')
    await bob('DELETE', `/requests/${id}`)
    await giveBack(eve, held.id)
  })

  it('is followed as a stream, which ends with it', async () => {
    const { held, requests } = await queued(1)
    const [{ id }] = requests as [Body]
    const response = await fetch(`${v1.server.url}/api/v1/requests/${id}`, {
      headers: { authorization: `Bearer ${v1.secrets.bob}`, accept: 'text/event-stream' },
    })
    assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/)
    const told: string[] = []
    let text = ''
    for await (const chunk of response.body as ReadableStream<Uint8Array>) {
      text += new TextDecoder().decode(chunk)
      if (told.length === 0) await giveBack(eve, held.id)
      told.push(text)
    }
    const events = [...text.matchAll(/^event: (\w+)\ndata: (.*)$/gm)].map(([, name, data]) => [
      name,
      JSON.parse(data ?? '').state,
    ])
    assert.deepEqual(events, [
      ['waiting', 'waiting'],
      ['granted', 'granted'],
    ])
    const { leases } = (await bob('GET', `/requests/${id}`)).body
    await giveBack(bob, leases[0])
  })

  it('is forgotten by those who have gone', async () => {
    const { held, requests } = await queued(1)
    const [{ id }] = requests as [Body]
    const leaving = new AbortController()
    const gone = fetch(`${v1.server.url}/api/v1/requests/${id}?wait=PT30S`, {
      headers: { authorization: `Bearer ${v1.secrets.bob}` },
      signal: leaving.signal,
    })
    await until(() => v1.server.berth.waits.count === 1)
    leaving.abort()
    await assert.rejects(gone)
    await until(() => v1.server.berth.waits.count === 0)
    await bob('DELETE', `/requests/${id}`)
    await giveBack(eve, held.id)
  })
})

describe('the metrics', () => {
  it('tell how many wait, how long the oldest has, what is reserved, and how long grants took', async () => {
    const value = async (name: string) => {
      const text = await (await fetch(`${v1.server.url}/metrics`)).text()
      const line = text.split('\n').find((one) => one.startsWith(`${name} `))
      return line === undefined ? null : Number(line.split(' ')[1])
    }
    const before = (await value('berth_grant_seconds_count')) ?? 0
    const { held, requests } = await queued(2)
    const from = new Date(Date.now() + 86_400_000).toISOString()
    const booked = await bob('POST', '/reservations', { pool: 'lab', from, duration: 'PT1H' })
    assert.equal(booked.status, 201)
    assert.equal(await value('berth_queue_waiting{pool="lab"}'), 2)
    assert.equal(await value('berth_reservations{pool="lab",state="confirmed"}'), 1)
    assert.equal(await value('berth_reservations{pool="lab",state="active"}'), 0)
    await until(async () => ((await value('berth_queue_oldest_seconds{pool="lab"}')) ?? 0) > 0)
    assert.equal(await value('berth_grant_seconds_count'), before + 1)
    await bob('DELETE', `/requests/${requests[1].id}`)
    const granted = bob('GET', `/requests/${requests[0].id}?wait=PT30S`)
    await giveBack(eve, held.id)
    assert.equal((await granted).body.state, 'granted')
    assert.equal(await value('berth_grant_seconds_count'), before + 2)
    assert.equal(await value('berth_queue_waiting{pool="lab"}'), 0)
    assert.equal(await value('berth_queue_oldest_seconds{pool="lab"}'), 0)
    await giveBack(bob, (await granted).body.leases[0])
    await bob('DELETE', `/reservations/${booked.body.reservations[0].id}`)
  })
})

describe('a server that stops', () => {
  it('answers those who wait for a request', async () => {
    const other = await startV1Server()
    await makePool(other.ada, 'lab', 1)
    await other.eve('POST', '/leases', { pool: 'lab', duration: 'PT1H' })
    const { body } = await other.bob('POST', '/leases', { pool: 'lab', duration: 'PT1H', wait: 'forever' })
    assert.equal(body.request.waits_until, null)
    const answer = other.bob('GET', `/requests/${body.request.id}?wait=PT30S`)
    await until(() => other.server.berth.waits.count === 1)
    await other.server.stop()
    const { status, body: request } = await answer
    assert.deepEqual([status, request.state], [200, 'waiting'])
  })
})
