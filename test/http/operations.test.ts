/**
 * Proves what operators rely on: probes, metrics with the right numbers, request ids, turning the original API off, and the
 * setup code that keeps strangers from becoming the first user.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { rawRequest } from '../support/raw-request.ts'
import { ADMIN, AS_ADMIN, auth, seed, startTestServer, type TestServer } from '../support/test-server.ts'

describe('probes and metrics', () => {
  let server: TestServer
  before(async () => {
    server = await startTestServer()
    await seed(server, { users: 1, machines: 6 })
    for (const [path, vmid] of [
      ['/checkout_vm', 1],
      ['/checkout_vm', 2],
      ['/checkin_vm', 2],
    ] as const)
      assert.equal((await server.call('POST', path, { ...auth(2, 'pw-2'), vmid })).status, 201)
  })
  after(() => server.stop())

  /** The samples of a metric, by their labels. */
  async function samples(name: string): Promise<Record<string, number>> {
    const { text } = await rawRequest(server.url, { method: 'GET', path: '/metrics' })
    return Object.fromEntries(
      [...text.matchAll(new RegExp(`^${name}(\\{[^}]*\\})? (.*)$`, 'gm'))].map(([, labels = '', value]) => [
        labels,
        Number(value),
      ]),
    )
  }

  it('/healthz says that it lives', async () => {
    const reply = await server.call('GET', '/healthz')
    assert.deepEqual([reply.status, reply.body], [200, { status: 'ok' }])
  })

  it('/readyz says that it is ready', async () => {
    const reply = await server.call('GET', '/readyz')
    assert.deepEqual([reply.status, reply.body], [200, { status: 'ready' }])
  })

  it('/metrics is text for Prometheus', async () => {
    const { status, headers, text } = await rawRequest(server.url, { method: 'GET', path: '/metrics' })
    assert.equal(status, 200)
    assert.match(headers['content-type'] ?? '', /^text\/plain; version=0\.0\.4/)
    assert.match(text, /^# HELP berth_pool_machines /m)
    assert.match(text, /^# TYPE berth_pool_machines gauge$/m)
    assert.match(text, /^process_resident_memory_bytes \d/m)
    assert.ok(text.endsWith('\n'))
  })

  it('/metrics counts machines by pool, type and state', async () => {
    const counts = Object.entries(await samples('berth_pool_machines')).filter(([, count]) => count > 0)
    assert.deepEqual(Object.fromEntries(counts), {
      '{pool="default",type="small",state="leased"}': 1,
      '{pool="default",type="medium",state="maintenance"}': 1,
      '{pool="default",type="large",state="ready"}': 1,
      '{pool="default",type="xlarge",state="ready"}': 1,
      '{pool="default",type="small",state="ready"}': 1,
      '{pool="default",type="medium",state="ready"}': 1,
    })
    assert.deepEqual(await samples('berth_pool_target_machines'), { '{pool="default"}': 6 })
  })

  it('/metrics follows what happens', async () => {
    const before = await samples('berth_commands_total')
    assert.equal((await server.call('POST', '/maintenance', { ...AS_ADMIN, vmid: 2 })).status, 201)
    const after = await samples('berth_commands_total')
    assert.equal((after[''] ?? 0) - (before[''] ?? 0), 1)
    const machines = await samples('berth_pool_machines')
    assert.equal(machines['{pool="default",type="medium",state="ready"}'], 2)
    assert.equal(machines['{pool="default",type="medium",state="maintenance"}'] ?? 0, 0)
    assert.deepEqual(await samples('berth_commands_waiting'), { '': 0 })
  })

  it('/metrics counts requests by the route’s pattern and status, never by path', async () => {
    for (const id of [1, 2, 3]) await server.call('GET', `/user/id/${id}`)
    await server.call('GET', '/secret-path/7')
    const requests = await samples('berth_http_request_duration_seconds_count')
    const count = (...labels: string[]) =>
      Object.entries(requests).find(([key]) => labels.every((label) => key.includes(label)))?.[1]
    assert.equal(count('method="GET"', 'route="/user/id/:id"', 'status="200"'), 3)
    assert.equal(count('route="/maintenance"', 'status="201"'), 1)
    assert.ok((count('route="unknown"', 'status="404"') ?? 0) >= 1)
    assert.doesNotMatch(Object.keys(requests).join(), /secret-path|id\/\d/)
  })

  it('a request id that was given comes back', async () => {
    for (const id of ['abc', 'a.b-c_D.9', 'x'.repeat(64)])
      assert.equal(
        (await server.call('GET', '/healthz', undefined, { 'x-request-id': id })).headers.get('x-request-id'),
        id,
      )
  })

  it('a request without an id, or with one that could do harm in a log, gets one', async () => {
    const seen = new Set<string>()
    for (const id of [undefined, undefined, '', 'a b', 'a"b', '{"x":1}', 'x'.repeat(65), 'é'])
      for (const path of ['/healthz', '/nothing', '/user/id/x']) {
        const headers: Record<string, string> = id === undefined ? {} : { 'x-request-id': id }
        const made = (await rawRequest(server.url, { method: 'GET', path, headers })).headers['x-request-id']
        assert.ok(typeof made === 'string')
        assert.match(made, /^[0-9a-f]{8}-\d+$/)
        seen.add(made)
      }
    assert.equal(seen.size, 24)
  })

  it('refusals carry the request id too', async () => {
    const headers = { 'x-request-id': 'mine' }
    for (const [method, path, body] of [
      ['POST', '/user', {}],
      ['POST', '/nothing', {}],
      ['PUT', '/user', {}],
    ] as const)
      assert.equal((await server.call(method, path, body, headers)).headers.get('x-request-id'), 'mine')
  })

  it('also those of paths that cannot be read', async () => {
    for (const path of ['/user/id/%zz', `/user/id/${'x'.repeat(2_000)}`]) {
      const reply = await server.call('GET', path, undefined, { 'x-request-id': 'mine' })
      assert.equal(reply.headers.get('x-request-id'), 'mine', path.slice(0, 20))
    }
  })

  it('events carry the id of the request that made them', async () => {
    await server.call('PATCH', '/user', { ...AS_ADMIN, id: 2, name: 'Traced' }, { 'x-request-id': 'trace-7' })
    const events = await server.berth.reads.events({ afterId: 0, rowsMax: 1_000 })
    assert.deepEqual(
      events
        .filter(({ requestId }) => requestId === 'trace-7')
        .map(({ type, actorId, userId }) => ({ type, actorId, userId })),
      [{ type: 'user.changed', actorId: 1, userId: 2 }],
    )
  })
})

it('metrics of an installation without a pool have no machines', async () => {
  const server = await startTestServer()
  try {
    const { status, text } = await rawRequest(server.url, { method: 'GET', path: '/metrics' })
    assert.equal(status, 200)
    assert.doesNotMatch(text, /^berth_pool_machines\{/m)
  } finally {
    await server.stop()
  }
})

it('a server that is stopping says that it is not ready, and answers what is under way', async () => {
  const server = await startTestServer()
  const { port } = new URL(server.url)
  const answer = await new Promise<string>((resolve, reject) => {
    let text = ''
    let stopped: Promise<void>
    const socket = connect(Number(port), '127.0.0.1', () => {
      // Half a request: the connection is in use when the stop begins.
      socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /readyz HTTP/1.1\r\n')
    })
    socket.once('error', reject)
    socket.on('data', (chunk) => {
      text += chunk.toString()
      if (stopped === undefined) {
        stopped = server.stop()
        socket.write('Host: localhost\r\n\r\n')
      }
    })
    socket.once('close', () => stopped.then(() => resolve(text), reject))
  })
  assert.match(
    answer,
    /HTTP\/1\.1 503 [\s\S]*retry-after: 2[\s\S]*\{"status":"not ready","reason":"stopping"\}/i,
  )
})

describe('the original API turned off', () => {
  let server: TestServer
  before(async () => {
    server = await startTestServer({ originalApi: 'off' })
  })
  after(() => server.stop())

  for (const call of [
    'POST /user',
    'PATCH /user',
    'GET /user',
    'GET /user/id/1',
    'GET /user/email/a@example.org',
    'DELETE /user/id/1',
    'POST /create_resource_pool',
    'GET /create_resource_pool/basicstats',
    'POST /resizevmpool',
    'GET /vmpoolsize',
    'GET /vmdetails',
    'GET /vmdetails/id/1',
    'GET /vmdetails/type/small',
    'GET /vmdetails/status/running',
    'GET /vmdetails/maped_to/idle',
    'GET /vmdetails/types/all',
    'DELETE /vmdetails/id/1',
    'POST /checkout_vm',
    'GET /checkout_vm/user/1',
    'GET /checkout_vm/vm/1',
    'POST /checkin_vm',
    'POST /maintenance',
    'GET /maintenance',
    'GET /truncate_tables',
  ])
    it(`${call} is a 404`, async () => {
      const [method = '', path = ''] = call.split(' ')
      const reply = await server.call(method, path, method === 'GET' ? undefined : { ...AS_ADMIN, ...ADMIN })
      assert.deepEqual([reply.status, reply.body], [404, { message: `there is no ${method} "${path}"` }])
    })

  it('probes and metrics stay', async () => {
    for (const path of ['/healthz', '/readyz', '/metrics'])
      assert.equal((await rawRequest(server.url, { method: 'GET', path })).status, 200)
  })
})

describe('the setup code', () => {
  const USERS = { User_Details: '[]' }
  const WRONG_CODES: readonly (readonly [name: string, headers: Record<string, string>, keys: object])[] = [
    ['no code', {}, {}],
    ['a wrong code as a header', { 'x-setup-code': 'wrong' }, {}],
    ['a wrong code in the body', {}, { setup_code: 'wrong' }],
    ['an empty code', { 'x-setup-code': '' }, {}],
    ['a code that is no text', {}, { setup_code: { length: 32 } }],
    ['a code null', {}, { setup_code: null }],
    ['a wrong code of the right length', { 'x-setup-code': '0'.repeat(32) }, {}],
    ['credentials instead', {}, AS_ADMIN],
  ]

  for (const where of ['header', 'body'] as const)
    it(`on a public address the first user needs it, in the ${where}`, async () => {
      const server = await startTestServer({ host: '0.0.0.0' })
      try {
        const { setupCode } = server
        assert.ok(setupCode !== null)
        assert.match(setupCode, /^[0-9a-f]{32}$/)
        for (const [name, headers, keys] of WRONG_CODES) {
          const refused = await server.call('POST', '/user', { ...ADMIN, ...keys }, headers)
          assert.equal(refused.status, 401, name)
          assert.deepEqual(Object.keys(refused.body), ['message'])
          assert.match(refused.body.message, /setup code/)
          assert.ok(!JSON.stringify(refused.body).includes(setupCode))
        }
        assert.deepEqual((await server.call('GET', '/user')).body, USERS)
        const made =
          where === 'header'
            ? await server.call('POST', '/user', ADMIN, { 'x-setup-code': setupCode })
            : await server.call('POST', '/user', { ...ADMIN, setup_code: setupCode })
        assert.deepEqual([made.status, made.body], [201, { message: 'User Created.' }])
        assert.equal((await server.call('PATCH', '/user', { ...AS_ADMIN, id: 1 })).status, 200)
        const second = { name: 'Eve', email: 'eve@example.org', password: 'x', setup_code: setupCode }
        const further = await server.call('POST', '/user', second, { 'x-setup-code': setupCode })
        assert.deepEqual([further.status, further.body], [400, { message: 'auth parameters missing' }])
      } finally {
        await server.stop()
      }
    })

  it('a code is used once: of many callers who have it, one becomes admin', async () => {
    const server = await startTestServer({ host: '0.0.0.0' })
    try {
      const { setupCode } = server
      assert.ok(setupCode !== null)
      const replies = await Promise.all(
        [1, 2, 3, 4].map((i) =>
          server.call(
            'POST',
            '/user',
            { ...ADMIN, email: `a${i}@example.org` },
            { 'x-setup-code': setupCode },
          ),
        ),
      )
      assert.deepEqual(replies.map(({ status }) => status).toSorted(), [201, 400, 400, 400])
      assert.equal((await server.berth.reads.activeUsers({ afterId: 0, rowsMax: 9 })).length, 1)
    } finally {
      await server.stop()
    }
  })

  it('a reset makes a new one, and tells it: the old one is worth nothing', async () => {
    const told: string[] = []
    const tellSetupCode = (code: string) => void told.push(code)
    const server = await startTestServer({ host: '0.0.0.0', allowReset: true }, { tellSetupCode })
    try {
      const [first = ''] = told
      assert.equal((await server.call('POST', '/user', ADMIN, { 'x-setup-code': first })).status, 201)
      assert.equal((await server.call('GET', '/truncate_tables')).status, 201)
      const second = told[1] ?? ''
      assert.notEqual(second, first)
      assert.equal(told.length, 2)
      for (const code of [undefined, first])
        assert.equal(
          (await server.call('POST', '/user', ADMIN, code === undefined ? {} : { 'x-setup-code': code }))
            .status,
          401,
        )
      assert.equal((await server.call('POST', '/user', ADMIN, { 'x-setup-code': second })).status, 201)
    } finally {
      await server.stop()
    }
  })

  it('a server that starts with users asks for one after a reset', async () => {
    const data = await mkdtemp(join(tmpdir(), 'berth-test-'))
    const before = await startTestServer({ data })
    await seed(before, { users: 0, machines: 0 })
    await before.stop()
    const told: string[] = []
    const tellSetupCode = (code: string) => void told.push(code)
    const settings = { host: '0.0.0.0', allowReset: true, data }
    const server = await startTestServer(settings, { tellSetupCode })
    try {
      assert.deepEqual(told, [])
      assert.equal((await server.call('GET', '/truncate_tables')).status, 201)
      assert.equal((await server.call('POST', '/user', ADMIN)).status, 401)
      assert.equal((await server.call('POST', '/user', ADMIN, { 'x-setup-code': told[0] ?? '' })).status, 201)
    } finally {
      await server.stop()
      await rm(data, { recursive: true, force: true })
    }
  })

  it('on a loopback address none is asked for', async () => {
    const server = await startTestServer({ host: '127.0.0.1' })
    try {
      assert.equal(server.setupCode, null)
      assert.equal((await server.call('POST', '/user', ADMIN)).status, 201)
    } finally {
      await server.stop()
    }
  })
})
