/**
 * /api/v1 as its clients meet it: signing in, tokens and what ends them, calls that are repeated under a key, pages, picked fields,
 * ETags, limits, previews, and the documentation. What every answer has to look like is v1-conformance.test.ts's to say.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { testClock } from '../support/clock.ts'
import { rememberHashes } from '../support/remembered-hashes.ts'
import { until } from '../support/server-process.ts'
import { type Reply, startTestServer, type TestServer } from '../support/test-server.ts'

const ADA = { name: 'Ada', email: 'ada@example.org', password: 'ada-pw' }
const BOB = { name: 'Bob', email: 'bob@example.org', password: 'bob-pw' }

type Client = (
  method: string,
  path: string,
  body?: unknown,
  headers?: Record<string, string>,
) => Promise<Reply>

function clientOf(server: TestServer, token: string): Client {
  return (method, path, body, headers = {}) =>
    server.call(method, `/api/v1${path}`, body, { authorization: `Bearer ${token}`, ...headers })
}

async function signIn(server: TestServer, { email, password }: typeof ADA): Promise<string> {
  const reply = await server.call('POST', '/api/v1/tokens', { email, password })
  assert.equal(reply.status, 201, JSON.stringify(reply.body))
  return reply.body.token
}

/** A server with an admin and a user, and a client for each. */
async function serve(
  settings: Parameters<typeof startTestServer>[0] = {},
  options: Parameters<typeof startTestServer>[1] = {},
) {
  const server = await startTestServer(settings, options)
  rememberHashes(server.berth.hasher)
  assert.equal((await server.call('POST', '/api/v1/users', ADA)).status, 201)
  const ada = clientOf(server, await signIn(server, ADA))
  assert.equal((await ada('POST', '/users', BOB)).status, 201)
  const bob = clientOf(server, await signIn(server, BOB))
  return { server, ada, bob }
}

function assertProblem({ status, body, headers }: Reply, expected: number, code: string): void {
  assert.equal(status, expected, JSON.stringify(body))
  assert.equal(body.code, code)
  assert.match(headers.get('content-type') ?? '', /^application\/problem\+json/)
}

describe('the first user', () => {
  it('needs the setup code where there is one, and no token; the next one needs a token', async () => {
    const server = await startTestServer({ host: '0.0.0.0', setupCode: 'sixteen-letters!' })
    try {
      const create = (headers = {}) => server.call('POST', '/api/v1/users', ADA, headers)
      assertProblem(await create(), 401, 'setup_code_wrong')
      assertProblem(await create({ 'x-setup-code': 'another' }), 401, 'setup_code_wrong')
      const made = await create({ 'x-setup-code': 'sixteen-letters!' })
      assert.deepEqual([made.status, made.body.role], [201, 'admin'])
      assertProblem(await create({ 'x-setup-code': 'sixteen-letters!' }), 401, 'token_missing')
    } finally {
      await server.stop()
    }
  })
})

describe('signing in and tokens', () => {
  let server: TestServer
  let ada: Client
  let bob: Client
  before(async () => {
    ;({ server, ada, bob } = await serve())
  })
  after(() => server.stop())

  it('does not tell whether it was the e-mail or the password', async () => {
    for (const wrong of [
      { email: ADA.email, password: 'wrong' },
      { email: 'nobody@example.org', password: ADA.password },
    ]) {
      const reply = await server.call('POST', '/api/v1/tokens', wrong)
      assertProblem(reply, 401, 'email_or_password_wrong')
      assert.equal(reply.headers.get('www-authenticate'), 'Bearer')
    }
  })

  it('shows the secret once; the store has its hash only', async () => {
    const { body } = await ada('POST', '/tokens', { name: 'ci', expires_in: 'PT1H' })
    assert.match(body.token, /^berth_[\w-]{43}$/)
    assert.equal(Date.parse(body.expires_at) - Date.parse(body.created_at), 3_600_000)
    const shown = await ada('GET', `/tokens/${body.id}`)
    assert.equal('token' in shown.body, false)
    const kept = await server.berth.reads.token(body.id)
    assert.equal(JSON.stringify(kept).includes(body.token), false)
  })

  it('calls as their owner, and not any more once they are revoked', async () => {
    const { body } = await bob('POST', '/tokens', {})
    const client = clientOf(server, body.token)
    assert.equal((await client('GET', '/users/me')).body.email, BOB.email)
    assert.equal((await bob('DELETE', `/tokens/${body.id}`)).status, 204)
    assertProblem(await client('GET', '/users/me'), 401, 'token_invalid')
    assert.notEqual((await bob('GET', `/tokens/${body.id}`)).body.revoked_at, null)
  })

  it('are their owner’s business, and admins’', async () => {
    const { body } = await ada('POST', '/tokens', {})
    assertProblem(await bob('GET', `/tokens/${body.id}`), 404, 'token_unknown')
    assertProblem(await bob('DELETE', `/tokens/${body.id}`), 404, 'token_unknown')
    assertProblem(await bob('GET', '/tokens?user=1'), 403, 'not_allowed')
    const { id: bobId } = (await bob('GET', '/users/me')).body
    const ofBob = await ada('GET', `/tokens?user=${bobId}`)
    assert.ok(ofBob.body.items.every((token: { user_id: number }) => token.user_id === bobId))
    assert.equal((await ada('DELETE', `/tokens/${ofBob.body.items.at(-1).id}`)).status, 204)
    bob = clientOf(server, await signIn(server, BOB))
  })

  it('end with another password, and when their owner is deleted', async () => {
    const eve = { name: 'Eve', email: 'eve@example.org', password: 'eve-pw' }
    const { body: made } = await ada('POST', '/users', eve)
    const first = clientOf(server, await signIn(server, eve))
    assert.equal((await first('PATCH', `/users/${made.id}`, { password: 'new' })).status, 200)
    assertProblem(await first('GET', '/users/me'), 401, 'token_invalid')
    const second = clientOf(server, await signIn(server, { ...eve, password: 'new' }))
    assert.equal((await ada('DELETE', `/users/${made.id}`)).status, 204)
    assertProblem(await second('GET', '/users/me'), 401, 'token_invalid')
  })

  it('that are over are refused', async () => {
    const clock = testClock()
    const timed = await serve({}, { schedule: clock.schedule })
    try {
      const { body } = await timed.bob('POST', '/tokens', { expires_in: 'PT1H' })
      const client = clientOf(timed.server, body.token)
      assert.equal((await client('GET', '/users/me')).status, 200)
      clock.skip(3_600_000)
      assertProblem(await client('GET', '/users/me'), 401, 'token_invalid')
    } finally {
      await timed.server.stop()
    }
  })
})

describe('a call under a key', () => {
  let server: TestServer
  let ada: Client
  let bob: Client
  before(async () => {
    ;({ server, ada, bob } = await serve())
  })
  after(() => server.stop())

  const pool = (name: string) => ({ name, size: 0 })
  const keyed = (key: string) => ({ 'idempotency-key': key })
  const eventsOf = async (type: string) =>
    (await server.berth.reads.events({ afterId: 0, rowsMax: 1_000 })).filter((event) => event.type === type)

  it('has one effect and the same answer, also when it comes many times at once', async () => {
    const calls = await Promise.all(
      Array.from({ length: 8 }, () => ada('POST', '/pools', pool('one'), keyed('a'))),
    )
    const [first] = calls
    for (const { status, body, headers } of calls) {
      assert.deepEqual([status, body], [201, first?.body])
      assert.equal(headers.get('location'), '/api/v1/pools/one')
      assert.equal(headers.get('etag'), first?.headers.get('etag'))
    }
    const replayed = calls.map(({ headers }) => headers.get('idempotency-replayed'))
    assert.equal(replayed.filter((value) => value === 'true').length, 7)
    assert.equal((await eventsOf('pool.created')).length, 1)
  })

  it('is refused when the key was used for another body, path or query', async () => {
    await ada('POST', '/pools', pool('two'), keyed('b'))
    assertProblem(await ada('POST', '/pools', pool('three'), keyed('b')), 422, 'idempotency_key_reused')
    assertProblem(await ada('POST', '/tokens', {}, keyed('b')), 422, 'idempotency_key_reused')
  })

  it('is somebody’s own', async () => {
    const mine = await ada('POST', '/tokens', { name: 'x' }, keyed('c'))
    const other = await bob('POST', '/tokens', { name: 'x' }, keyed('c'))
    assert.notEqual(mine.body.id, other.body.id)
  })

  it('that was refused is judged anew', async () => {
    assertProblem(
      await ada('POST', '/pools', { ...pool('four'), type_mix: { giant: 1 } }, keyed('d')),
      400,
      'field_invalid',
    )
    assert.equal((await ada('POST', '/pools', pool('four'), keyed('d'))).status, 201)
  })

  it('shows a secret once, and says that it was a replay', async () => {
    const { email, password } = BOB
    const sign = (given: string) =>
      server.call('POST', '/api/v1/tokens', { email, password: given }, keyed('e'))
    const first = await sign(password)
    assert.equal(first.body.replayed, false)
    const again = await sign(password)
    assert.deepEqual(again.body, { ...first.body, token: null, replayed: true })
    assert.equal(again.headers.get('idempotency-replayed'), 'true')
    assertProblem(await sign('wrong'), 401, 'email_or_password_wrong')
  })
})

describe('lists', () => {
  let server: TestServer
  let ada: Client
  before(async () => {
    ;({ server, ada } = await serve())
    for (let i = 0; i < 5; i++) await ada('POST', '/pools', { name: `pool-${i}`, size: 0 })
  })
  after(() => server.stop())

  it('come in pages that leave out nothing and repeat nothing', async () => {
    for (const [path, key] of [
      ['/pools', 'name'],
      ['/users', 'id'],
      ['/vm-types', 'name'],
      ['/tokens', 'id'],
    ] as const) {
      const whole = (await ada('GET', path)).body
      assert.equal(whole.next, null)
      const seen: unknown[] = []
      let cursor = ''
      do {
        const page = await ada('GET', `${path}?limit=2${cursor}`)
        assert.ok(page.body.items.length <= 2)
        seen.push(...page.body.items.map((item: Record<string, unknown>) => item[key]))
        cursor = page.body.next === null ? '' : `&cursor=${page.body.next}`
      } while (cursor !== '')
      assert.deepEqual(
        seen,
        whole.items.map((item: Record<string, unknown>) => item[key]),
      )
    }
  })

  it('refuse a cursor that they did not give', async () => {
    const { next } = (await ada('GET', '/vm-types?limit=1')).body
    for (const cursor of ['x', next, `${next}A`]) {
      const reply = await ada('GET', `/pools?cursor=${cursor}`)
      assertProblem(reply, 400, 'field_invalid')
      assert.equal(reply.body.field, 'cursor')
    }
  })

  it('give the fields that are wanted, and refuse those that there are none of', async () => {
    const reply = await ada('GET', '/pools?fields=name,size&limit=1')
    assert.deepEqual(reply.body.items, [{ name: 'pool-0', size: 0 }])
    assert.match(reply.headers.get('content-type') ?? '', /^application\/vnd\.berth\.partial\+json/)
    assertProblem(await ada('GET', '/pools?fields=name,password_hash'), 400, 'field_invalid')
  })
})

describe('pools', () => {
  let server: TestServer
  let ada: Client
  let bob: Client
  before(async () => {
    ;({ server, ada, bob } = await serve())
  })
  after(() => server.stop())

  const POLICIES = {
    type_mix: { small: 1 },
    cleaning: 'manual',
    labels: { os: 'debian' },
    aliases: ['builders'],
    lease_default: 'PT1H',
    lease_max: 'P1DT12H',
    no_show_after: null,
    users: [2],
    quota: { machines: 2, vcpu: null, hours_week: 40, waiting: 5 },
    units: { small: 0.5 },
    weights: { low: 1, normal: 3, high: 9 },
    priority_max: { admin: 'high', user: 'normal' },
  }
  const sizeIs = (name: string, size: number) =>
    until(async () => {
      const { body } = await ada('GET', `/pools/${name}/size`)
      return body.size === size && body.existing === size
    })

  it('are made with their policies, and shown with them', async () => {
    const made = await ada('POST', '/pools', { name: 'build', size: 3, ...POLICIES })
    assert.equal(made.status, 201, JSON.stringify(made.body))
    const shown = await ada('GET', '/pools/build')
    for (const [name, value] of Object.entries(POLICIES)) assert.deepEqual(shown.body[name], value, name)
    assert.equal((await bob('GET', '/pools/builders')).body.name, 'build', 'an alias leads to it')
    await sizeIs('build', 3)
    const { machines } = (await ada('GET', '/pools/build')).body
    assert.equal(machines.existing, 3)
    assertProblem(await bob('POST', '/pools', { name: 'mine' }), 403, 'not_allowed')
    assertProblem(await ada('POST', '/pools', { name: 'builders' }), 409, 'pool_name_taken')
    assertProblem(await ada('POST', '/pools', { name: 'x', provider: 'none' }), 400, 'field_invalid')
  })

  it('change for whoever has seen them as they are', async () => {
    const { headers } = await ada('GET', '/pools/build')
    const etag = headers.get('etag') ?? ''
    const changed = await ada('PATCH', '/pools/build', { lease_default: 'PT2H' }, { 'if-match': etag })
    assert.deepEqual([changed.status, changed.body.lease_default], [200, 'PT2H'])
    assert.notEqual(changed.headers.get('etag'), etag)
    assertProblem(
      await ada('PATCH', '/pools/build', { lease_default: 'PT3H' }, { 'if-match': etag }),
      412,
      'etag_stale',
    )
    const again = await ada('PATCH', '/pools/build', { lease_default: 'PT3H' }, { 'if-match': '*' })
    assert.equal(again.status, 200)
  })

  it('tell what a size would do before it is done, and what it waits for afterwards', async () => {
    const before = await ada('GET', '/pools/build')
    const preview = await ada('PUT', '/pools/build/size?dry_run=true', { size: 5 })
    assert.deepEqual(preview.body, {
      size: 5,
      existing: 3,
      to_make: 2,
      to_remove: 0,
      waits_for: {},
      in_the_way: [],
      dry_run: true,
    })
    assert.equal((await ada('GET', '/pools/build')).headers.get('etag'), before.headers.get('etag'))
    assert.equal((await ada('PUT', '/pools/build/size', { size: 5 })).body.to_make, 2)
    await sizeIs('build', 5)
    const cordoned = await ada('POST', '/machines/1/cordon')
    assert.deepEqual([cordoned.status, cordoned.body.state], [200, 'cordoned'])
    const shrunk = await ada('PUT', '/pools/build/size', { size: 0 })
    assert.deepEqual([shrunk.body.to_remove, shrunk.body.waits_for], [4, { cordoned: 1 }])
    assert.deepEqual(shrunk.body.in_the_way, [{ id: 1, state: 'cordoned', until: null }])
  })

  it('go when they are empty, and not before', async () => {
    assertProblem(await ada('DELETE', '/pools/build'), 409, 'pool_not_empty')
    assert.equal((await ada('DELETE', '/machines/1')).status, 204)
    await until(async () => (await ada('DELETE', '/pools/build')).status === 204)
    assertProblem(await ada('GET', '/pools/build'), 404, 'pool_unknown')
    assertProblem(await ada('GET', '/pools/builders'), 404, 'pool_unknown')
    assert.equal((await ada('POST', '/pools', { name: 'build', aliases: ['builders'] })).status, 201)
  })

  it('are the pools of the original API too', async () => {
    await ada('POST', '/pools', { name: 'default', size: 2, type_mix: { large: 1 } })
    await sizeIs('default', 2)
    const { body } = await server.call('GET', '/vmdetails')
    assert.equal(Object.keys(body.VM_details).length, 2)
  })
})

describe('machines', () => {
  let server: TestServer
  let ada: Client
  let bob: Client
  before(async () => {
    ;({ server, ada, bob } = await serve())
    await ada('POST', '/pools', { name: 'default', size: 3, type_mix: { small: 2, large: 1 } })
    // On PostgreSQL pools are filled side by side: one after the other, their machines have known ids.
    await until(async () => (await ada('GET', '/machines?state=ready')).body.items.length === 3)
    await ada('POST', '/pools', { name: 'other', size: 3, type_mix: { small: 1 }, aliases: ['another'] })
    await until(async () => (await ada('GET', '/machines?state=ready')).body.items.length === 6)
    const { id: userid } = (await bob('GET', '/users/me')).body
    const held = await server.call('POST', '/checkout_vm', {
      auth: { userid, password: BOB.password },
      vmid: 1,
    })
    assert.equal(held.status, 201)
    await ada('POST', '/machines/2/cordon')
  })
  after(() => server.stop())

  const ids = async (query: string, client = ada) =>
    (await client('GET', `/machines${query}`)).body.items.map(({ id }: { id: number }) => id)

  it('are listed by pool, states and size, by ascending id over all pools', async () => {
    const all = await ids('')
    assert.deepEqual(
      all,
      all.toSorted((a: number, b: number) => a - b),
    )
    assert.equal(all.length, 6)
    assert.deepEqual((await ids('?pool=default')).length, 3)
    assert.deepEqual(await ids('?pool=another'), await ids('?pool=other'))
    assert.deepEqual(await ids('?state=leased,cordoned'), [1, 2])
    assert.deepEqual(await ids('?state=cordoned,leased,leased'), [1, 2])
    assert.equal((await ids('?type=large')).length, 1)
    assert.deepEqual(await ids('?label=os=debian'), [])
    const first = await ada('GET', '/machines?limit=4')
    assert.equal(first.body.items.length, 4)
    assert.deepEqual(await ids(`?limit=4&cursor=${first.body.next}`), all.slice(4))
    assertProblem(await ada('GET', '/machines?pool=none'), 404, 'pool_unknown')
    assertProblem(await ada('GET', '/machines?state=broken'), 400, 'field_invalid')
  })

  it('tell their address and their holder to whom it concerns', async () => {
    const [toBob, toAda] = [await bob('GET', '/machines/1'), await ada('GET', '/machines/1')]
    assert.deepEqual(toBob.body, toAda.body)
    assert.notEqual(toBob.body.address, null)
    const others = (await bob('GET', '/machines?state=ready')).body.items
    for (const vm of others) assert.deepEqual([vm.address, vm.holder_id, vm.failure], [null, null, null])
    assertProblem(await bob('GET', '/machines/99'), 404, 'vm_unknown')
  })

  it('are kept out of use, let back, and destroyed by admins', async () => {
    assertProblem(await bob('POST', '/machines/2/uncordon'), 403, 'not_allowed')
    const back = await ada('POST', '/machines/2/uncordon', undefined, { 'idempotency-key': 'u' })
    assert.equal(back.status, 200)
    const again = await ada('POST', '/machines/2/uncordon', undefined, { 'idempotency-key': 'u' })
    assert.deepEqual([again.status, again.body], [200, back.body])
    assertProblem(await ada('POST', '/machines/1/cordon'), 409, 'vm_state_wrong')
    assertProblem(await ada('DELETE', '/machines/1'), 409, 'vm_leased')
    assert.equal((await ada('DELETE', '/machines/3')).status, 204)
  })
})

describe('limits', () => {
  it('are told with every call; who exceeds them is told when to come back', async () => {
    const clock = testClock()
    const { server, ada, bob } = await serve(
      { rateLimit: 4, rateLimitAddress: 1_000 },
      { schedule: clock.schedule },
    )
    try {
      clock.skip(60_000)
      for (let left = 3; left >= 0; left--) {
        const { status, headers } = await ada('GET', '/users/me')
        assert.equal(status, 200)
        assert.equal(headers.get('ratelimit-policy'), '"token";q=4;w=60')
        assert.match(headers.get('ratelimit') ?? '', new RegExp(`^"token";r=${left};t=\\d+$`))
      }
      const refused = await ada('GET', '/users/me')
      assertProblem(refused, 429, 'rate_limited')
      const seconds = Number(refused.headers.get('retry-after'))
      assert.ok(seconds > 1 && seconds <= 15, `${seconds}`)
      assert.equal((await bob('GET', '/users/me')).status, 200, 'others are not concerned')
      clock.skip(seconds * 1_000)
      assert.equal((await ada('GET', '/users/me')).status, 200)
    } finally {
      await server.stop()
    }
  })

  it('hold for an address without a token, and for tokens that nobody has', async () => {
    const server = await startTestServer({ rateLimit: 0, rateLimitAddress: 3 })
    try {
      const guess = (n: number) =>
        server.call('GET', '/api/v1/users/me', undefined, {
          authorization: `Bearer berth_${`${n}`.padStart(43, 'x')}`,
        })
      for (let i = 0; i < 3; i++) assertProblem(await guess(i), 401, 'token_invalid')
      assertProblem(await guess(3), 429, 'rate_limited')
      assertProblem(await server.call('GET', '/api/v1/users/me'), 429, 'rate_limited')
    } finally {
      await server.stop()
    }
  })

  it('are off at 0, and the headers with them', async () => {
    const { server, ada } = await serve()
    try {
      const { headers } = await ada('GET', '/users/me')
      assert.equal(headers.get('ratelimit'), null)
      assert.equal(headers.get('ratelimit-policy'), null)
    } finally {
      await server.stop()
    }
  })
})

describe('the documentation', () => {
  it('is a page without scripts and without anything from elsewhere, with a place for every code', async () => {
    const server = await startTestServer()
    try {
      const response = await fetch(`${server.url}/docs`)
      const page = await response.text()
      assert.equal(response.status, 200)
      assert.match(
        response.headers.get('content-security-policy') ?? '',
        /^default-src 'none'; style-src 'sha256-/,
      )
      assert.doesNotMatch(page, /<script|\bsrc=|https?:|style=/)
      const { body } = await server.call('GET', '/api/v1/none')
      const [, anchor] = (body.type as string).split('#')
      assert.ok(page.includes(`id="${anchor}"`), body.type)
      const links = [...page.matchAll(/href="#([^"]+)"/g)].map(([, to]) => to)
      for (const to of links) assert.ok(page.includes(`id="${to}"`), `#${to} leads nowhere`)
    } finally {
      await server.stop()
    }
  })
})
