/** Leases under /api/v1: asked for, changed, handed on and given back, and what each call is refused. */
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

let v1: V1Server
let ada: V1Client
let bob: V1Client
let eve: V1Client

before(async () => {
  v1 = await startV1Server()
  ;({ ada, bob, eve } = v1)
  await makePool(ada, 'lab', 6, {
    aliases: ['bench'],
    labels: { site: 'cellar' },
    lease_max: 'P30D',
    lease_default: 'PT1H',
  })
  await makePool(ada, 'loft', 2, { labels: { site: 'loft', fast: 'yes' }, type_mix: { large: 1 } })
  await makePool(ada, 'closed', 1, { users: [3] })
  await makePool(ada, 'empty', 0)
})
after(() => v1.server.stop())

const lease = async (client: V1Client, body: object): Promise<Reply['body']> => {
  const reply = await client('POST', '/leases', { duration: 'PT1H', ...body })
  assert.equal(reply.status, 201, JSON.stringify(reply.body))
  return reply.body.leases[0]
}

const release = async (client: V1Client, { id }: { id: string }) =>
  assert.equal((await client('DELETE', `/leases/${id}`)).status, 200)

describe('POST /leases', () => {
  it('gives a lease with all there is to know of it', async () => {
    const made = await lease(bob, {
      pool: 'bench',
      purpose: 'tests',
      labels: { ci: 'yes' },
      heartbeat: 'PT5M',
    })
    assert.match(made.id, /^\d+-1$/)
    assert.equal(made.pool, 'lab')
    assert.deepEqual(
      [made.user_id, made.generation, made.purpose, made.labels],
      [2, 1, 'tests', { ci: 'yes' }],
    )
    assert.equal(made.machine.type, 'small')
    assert.notEqual(made.machine.address, null)
    assert.equal(Date.parse(made.ends_at) - Date.parse(made.started_at), 3_600_000)
    assert.equal(made.heartbeat, 'PT5M')
    assert.equal(Date.parse(made.heartbeat_by) - Date.parse(made.started_at), 300_000)
    const shown = await bob('GET', `/leases/${made.id}`)
    assert.deepEqual(shown.body, made)
    assert.equal(shown.headers.get('etag'), '"1"')
    await release(bob, made)
  })

  it('takes machines by size, labels, name, number, and in several kinds, all or nothing', async () => {
    const two = await bob('POST', '/leases', { pool: 'lab', type: 'small', count: 2 })
    assert.deepEqual([two.status, two.body.leases.length], [201, 2])
    const free = (await ada('GET', '/machines?pool=lab&state=ready')).body.items
    const named = await bob('POST', '/leases', { pool: 'lab', machine: free[0].id })
    assert.equal(named.body.leases[0].machine.id, free[0].id)
    assertProblem(await eve('POST', '/leases', { pool: 'lab', machine: free[0].id }), 409, 'vm_not_free')
    const kinds = [{ machine: free[1].id }, { type: 'small', count: 2 }]
    const several = await bob('POST', '/leases', { pool: 'lab', kinds })
    assert.equal(several.body.leases.length, 3)
    assertProblem(await eve('POST', '/leases', { pool: 'lab' }), 409, 'none_free')
    const held = (await bob('GET', '/leases?limit=2')).body
    assert.equal(held.items.length, 2)
    const rest = (await bob('GET', `/leases?cursor=${held.next}`)).body
    assert.deepEqual([rest.items.length, rest.next], [4, null])
    for (const one of [...held.items, ...rest.items]) await release(bob, one)
    await until(async () => (await ada('GET', '/pools/lab')).body.machines.free === 6)
  })

  it('tries pools in turn, by name or by label', async () => {
    const [first, second] = [await lease(bob, { pool: 'loft' }), await lease(bob, { pools: ['loft', 'lab'] })]
    assert.deepEqual([first.pool, second.pool], ['loft', 'loft'])
    const third = await lease(bob, { pools: ['closed', 'empty', 'loft', 'lab'] })
    assert.equal(third.pool, 'lab')
    const labelled = await lease(bob, { pool_selector: { site: 'cellar' } })
    assert.equal(labelled.pool, 'lab')
    assertProblem(await bob('POST', '/leases', { pool_selector: { site: 'moon' } }), 400, 'field_invalid')
    // It waits in the first that may have what is wanted.
    const queued = await bob('POST', '/leases', { pools: ['closed', 'empty', 'loft'], wait: 'PT1H' })
    assert.deepEqual([queued.status, queued.body.request.pool], [202, 'loft'])
    assert.equal(queued.headers.get('location'), `/api/v1/requests/${queued.body.request.id}`)
    assert.equal((await bob('DELETE', `/requests/${queued.body.request.id}`)).body.state, 'cancelled')
    for (const one of [first, second, third, labelled]) await release(bob, one)
  })

  it('takes machines with labels, once an admin has said which have them', async () => {
    const free = (await ada('GET', '/machines?pool=lab&state=ready')).body.items
    const at = `/machines/${free[1].id}`
    assertProblem(await bob('PATCH', at, { labels: { os: 'debian' } }), 403, 'not_allowed')
    assert.deepEqual((await ada('PATCH', at, { labels: { os: 'debian' } })).body.labels, { os: 'debian' })
    const made = await lease(bob, { pool: 'lab', selector: { os: 'debian' } })
    assert.deepEqual([made.machine.id, made.machine.labels], [free[1].id, { os: 'debian' }])
    assertProblem(await eve('POST', '/leases', { pool: 'lab', selector: { os: 'debian' } }), 409, 'none_free')
    // Its lease goes on.
    assert.deepEqual((await ada('PATCH', at, { labels: {} })).body.labels, {})
    assert.equal((await bob('GET', `/leases/${made.id}`)).body.ended_at, null)
    await release(bob, made)
    assertProblem(await ada('PATCH', '/machines/9999', { labels: {} }), 404, 'vm_unknown')
  })

  it('is given back by a client that names the type of a body which it does not send', async () => {
    const { id } = await lease(bob, { pool: 'lab' })
    const json = { 'content-type': 'application/json' }
    assert.equal((await bob('DELETE', `/leases/${id}`, undefined, json)).status, 200)
  })

  it('has one effect under one key, whichever pool it was', async () => {
    const headers = { 'idempotency-key': 'once' }
    const body = { pools: ['empty', 'lab'], duration: 'PT1H' }
    const first = await bob('POST', '/leases', body, headers)
    const again = await bob('POST', '/leases', body, headers)
    assert.deepEqual([first.status, again.status], [201, 201])
    assert.deepEqual(again.body, first.body)
    assert.equal(again.headers.get('idempotency-replayed'), 'true')
    assert.equal((await bob('GET', '/leases')).body.items.length, 1)
    assertProblem(await bob('POST', '/leases', { ...body, count: 2 }, headers), 422, 'idempotency_key_reused')
    await release(bob, first.body.leases[0])
  })

  for (const [what, body, status, code, field] of [
    ['no pool', {}, 400, 'field_missing', 'pool'],
    ['an unknown pool', { pool: 'nowhere' }, 404, 'pool_unknown', 'name'],
    ['two ways to a pool', { pool: 'lab', pools: ['lab'] }, 400, 'field_invalid', 'pools'],
    ['two ways to a kind', { pool: 'lab', type: 'small', kinds: [{}] }, 400, 'field_invalid', 'type'],
    [
      'a machine twice',
      { pool: 'lab', kinds: [{ machine: 1 }, { machine: 1 }] },
      400,
      'field_invalid',
      'machine',
    ],
    ['two of one machine', { pool: 'lab', machine: 1, count: 2 }, 400, 'field_invalid', 'machine'],
    ['a machine of no pool', { pool: 'lab', machine: 9_999 }, 404, 'vm_unknown', 'id'],
    ['no length', { pool: 'lab', duration: 'PT0S' }, 400, 'field_invalid', 'duration'],
    ['a length in months', { pool: 'lab', duration: 'P1M' }, 400, 'field_invalid', 'duration'],
    ['too long a lease', { pool: 'lab', duration: 'P31D' }, 422, 'lease_too_long', 'duration'],
    ['no end where there has to be one', { pool: 'lab', duration: null }, 422, 'lease_too_long', 'duration'],
    [
      'less than the least',
      { pool: 'lab', duration: 'PT1H', min_duration: 'PT2H' },
      400,
      'field_invalid',
      'min_duration',
    ],
    [
      'a soft lease with an end',
      { pool: 'lab', soft: true, duration: 'PT1H' },
      400,
      'field_invalid',
      'duration',
    ],
    ['a grace of nothing', { pool: 'lab', soft_grace: 'PT1M' }, 400, 'field_invalid', 'soft_grace'],
    ['too high a priority', { pool: 'lab', priority: 'urgent' }, 400, 'field_invalid', 'priority'],
    ['a wait that is none', { pool: 'lab', wait: 'long' }, 400, 'field_invalid', 'wait'],
    ['a pool of others', { pool: 'closed' }, 403, 'pool_closed_to_you', 'pool'],
    ['what a pool does not have', { pool: 'lab', type: 'large' }, 409, 'wish_impossible', 'type'],
    ['more than a pool has', { pool: 'lab', count: 7 }, 409, 'wish_impossible', 'type'],
    [
      'labels that no machine has',
      { pool: 'lab', selector: { os: 'plan9' } },
      409,
      'wish_impossible',
      'type',
    ],
  ] as const)
    it(`refuses ${what}`, async () => {
      const reply = await bob('POST', '/leases', body)
      assertProblem(reply, status, code)
      assert.equal(reply.body.field, field)
    })
})

describe('a lease', () => {
  it('is its holder’s, admins’, and theirs with whom it is shared', async () => {
    const { id } = await lease(bob, { pool: 'lab', heartbeat: 'PT1M' })
    const at = `/leases/${id}`
    assertProblem(await eve('GET', at), 404, 'lease_unknown')
    assertProblem(await eve('POST', `${at}/heartbeat`), 404, 'lease_unknown')
    assert.equal((await ada('GET', at)).status, 200)
    const shared = await bob('POST', `${at}/share`, { users: [3] })
    assert.deepEqual([shared.status, shared.body.shared_with], [200, [3]])
    assert.notEqual((await eve('GET', at)).body.machine.address, null)
    assert.equal((await eve('POST', `${at}/heartbeat`)).status, 200)
    assertProblem(await eve('DELETE', at), 403, 'not_allowed')
    assertProblem(await eve('PATCH', at, { extend_by: 'PT1H' }), 403, 'not_allowed')
    assertProblem(await bob('POST', `${at}/share`, { users: [99] }), 404, 'user_unknown')
    assert.deepEqual((await bob('POST', `${at}/share`, { users: [] })).body.shared_with, [])
    assertProblem(await eve('GET', at), 404, 'lease_unknown')
    await release(bob, { id })
  })

  it('gets another end, later or earlier', async () => {
    const made = await lease(bob, { pool: 'lab' })
    const at = `/leases/${made.id}`
    const later = await bob('PATCH', at, { extend_by: 'PT30M' })
    assert.equal(Date.parse(later.body.ends_at) - Date.parse(made.ends_at), 1_800_000)
    const sooner = await bob('PATCH', at, { ends_at: made.ends_at })
    assert.equal(sooner.body.ends_at, made.ends_at)
    for (const [body, status, code] of [
      [{}, 400, 'field_invalid'],
      [{ extend_by: 'PT1H', ends_at: made.ends_at }, 400, 'field_invalid'],
      [{ extend_by: 'PT0S' }, 400, 'field_invalid'],
      [{ ends_at: 'tomorrow' }, 400, 'field_invalid'],
      [{ ends_at: made.started_at }, 422, 'lease_end_past'],
      [{ extend_by: 'P31D' }, 422, 'lease_too_long'],
      [{ ends_at: null }, 422, 'lease_too_long'],
    ] as const)
      assertProblem(await bob('PATCH', at, body), status, code)
    await release(bob, made)
    const endless = await lease(bob, { pool: 'loft', duration: null })
    assertProblem(await bob('PATCH', `/leases/${endless.id}`, { extend_by: 'PT1H' }), 409, 'lease_endless')
    await release(bob, endless)
  })

  it('is refused every call that presents another generation, and every call once it is over', async () => {
    const made = await lease(bob, { pool: 'lab', heartbeat: 'PT1M' })
    const at = `/leases/${made.id}`
    const calls = [
      ['PATCH', at, { extend_by: 'PT1H' }],
      ['POST', `${at}/heartbeat`, undefined],
      ['POST', `${at}/share`, { users: [3] }],
      ['POST', `${at}/transfer`, { user: 3 }],
      ['DELETE', at, undefined],
    ] as const
    for (const [method, path, body] of calls)
      assertProblem(await bob(method, path, body, { 'if-match': '"77"' }), 412, 'generation_stale')
    const before = (await bob('GET', at)).body
    assert.deepEqual([before.ends_at, before.shared_with], [made.ends_at, []])
    const fits = await bob('DELETE', at, undefined, { 'if-match': `"7", "${made.generation}"` })
    assert.deepEqual([fits.status, fits.body.ended_by, fits.body.machine.address], [200, 'checked_in', null])
    for (const [method, path, body] of calls) assertProblem(await bob(method, path, body), 410, 'lease_over')
    assert.equal((await bob('GET', at)).body.ended_at, fits.body.ended_at)
    const ended = (await bob('GET', '/leases?state=ended')).body.items
    assert.ok(ended.some(({ id }: { id: string }) => id === made.id))
  })

  it('is handed on with a new generation', async () => {
    const made = await lease(bob, { pool: 'lab' })
    const handed = await bob('POST', `/leases/${made.id}/transfer`, { user: 3 })
    assert.deepEqual(
      [handed.status, handed.body.user_id, handed.body.generation],
      [200, 3, made.generation + 1],
    )
    assert.equal(handed.body.ends_at, made.ends_at)
    assertProblem(await bob('DELETE', `/leases/${made.id}`), 410, 'lease_over')
    assertProblem(await bob('GET', `/leases/${handed.body.id}`), 404, 'lease_unknown')
    assertProblem(await eve('POST', `/leases/${handed.body.id}/transfer`, { user: 99 }), 404, 'user_unknown')
    await release(eve, handed.body)
  })

  it('is taken from its holder by an admin who says why', async () => {
    const made = await lease(bob, { pool: 'lab' })
    const at = `/leases/${made.id}`
    assertProblem(await ada('DELETE', at), 422, 'reason_missing')
    const taken = await ada('DELETE', `${at}?reason=fire%20drill`)
    assert.deepEqual([taken.status, taken.body.ended_by], [200, 'released'])
    const events = await v1.server.berth.reads.events({ afterId: 0, rowsMax: 10_000 })
    const { data, actorId } = events.findLast(({ type }) => type === 'vm.checked_in') ?? assert.fail()
    assert.deepEqual([actorId, data?.by, data?.reason], [1, 'released', 'fire drill'])
  })

  it('is soft: without end, with the grace of its pool', async () => {
    const made = await lease(bob, { pool: 'lab', soft: true, duration: undefined })
    assert.deepEqual([made.soft, made.ends_at, made.soft_grace !== null], [true, null, true])
    await release(bob, made)
  })

  it('sends no heartbeats unless that was agreed', async () => {
    const made = await lease(bob, { pool: 'lab' })
    assertProblem(await bob('POST', `/leases/${made.id}/heartbeat`), 409, 'heartbeat_not_agreed')
    await release(bob, made)
  })
})

describe('GET /leases', () => {
  it('shows one’s own, and to admins anybody’s', async () => {
    const [first, second] = [await lease(bob, { pool: 'lab' }), await lease(eve, { pool: 'lab' })]
    const ids = async (client: V1Client, query: string) =>
      (await client('GET', `/leases${query}`)).body.items.map(({ id }: { id: string }) => id)
    assert.deepEqual(await ids(bob, ''), [first.id])
    assert.deepEqual(await ids(bob, '?pool=lab'), [first.id])
    assert.deepEqual(await ids(bob, '?user=2'), [first.id])
    assertProblem(await bob('GET', '/leases?user=3'), 403, 'not_allowed')
    assert.deepEqual(await ids(ada, ''), [])
    assert.deepEqual(await ids(ada, '?user=3'), [second.id])
    assert.deepEqual((await ids(ada, '?pool=lab')).sort(), [first.id, second.id].sort())
    assert.deepEqual(await ids(ada, '?pool=loft'), [])
    assertProblem(await bob('GET', '/leases?pool=nowhere'), 404, 'pool_unknown')
    assertProblem(await bob('GET', '/leases?cursor=abc'), 400, 'field_invalid')
    for (const { id } of [first, second]) await ada('DELETE', `/leases/${id}?reason=over`)
  })

  it('was written down, event by event', async () => {
    const kinds = new Set(await eventsOf(v1.server, ''))
    for (const type of [
      'vm.checked_out',
      'vm.checked_in',
      'lease.extended',
      'lease.shared',
      'request.waiting',
    ])
      assert.ok(kinds.has(type), type)
  })
})
