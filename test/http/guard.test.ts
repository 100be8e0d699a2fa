/**
 * Proves that web pages of other sites can change nothing: whatever a browser marks as coming from elsewhere (Origin,
 * Sec-Fetch-Site), or sends under a name that is not this server's (DNS rebinding), is a 403 and leaves no trace; and that
 * programs, pages of this server and probes pass.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { rawRequest } from '../support/raw-request.ts'
import { ADMIN, AS_ADMIN, seed, startTestServer, type TestServer } from '../support/test-server.ts'

const NAMES = ['berth.example.org', 'Pool.Example.Org']

/** Every call that changes something, each of which would succeed. The reset comes last. */
const MUTATIONS: readonly (readonly [call: string, fields: object, status: number])[] = [
  ['POST /user', { name: 'Carl', email: 'carl@example.org', password: 'pw' }, 201],
  ['PATCH /user', { id: 2, name: 'Changed' }, 200],
  ['POST /checkout_vm', { vmid: 2 }, 201],
  ['POST /checkin_vm', { vmid: 1 }, 201],
  ['POST /maintenance', { vmid: 4 }, 201],
  ['DELETE /vmdetails/id/3', {}, 200],
  ['POST /create_resource_pool', { pool_size: 5 }, 201],
  ['POST /resizevmpool', { pool_size: 6 }, 200],
  ['DELETE /user/id/2', {}, 200],
  ['GET /truncate_tables', {}, 201],
]

/** Marks of a foreign page; `$PORT` is the server's port. */
const FOREIGN: readonly (readonly [name: string, headers: Record<string, string>])[] = [
  ['the Origin of another site', { origin: 'https://evil.example' }],
  ['an Origin that begins like this server', { origin: 'http://127.0.0.1.evil.example' }],
  ['an Origin of this host on another port', { origin: 'http://127.0.0.1:1' }],
  ['an Origin of this host without a port', { origin: 'http://127.0.0.1' }],
  ['an Origin of this server in another scheme', { origin: 'ftp://127.0.0.1:$PORT' }],
  ['an Origin that another name of this server has', { origin: 'http://localhost:$PORT' }],
  ['Origin null', { origin: 'null' }],
  ['an empty Origin', { origin: '' }],
  ['Sec-Fetch-Site cross-site', { 'sec-fetch-site': 'cross-site' }],
  ['Sec-Fetch-Site same-site', { 'sec-fetch-site': 'same-site' }],
  ['a Sec-Fetch-Site of the future', { 'sec-fetch-site': 'other-site' }],
  [
    'a foreign site with an Origin of this server',
    { origin: 'http://127.0.0.1:$PORT', 'sec-fetch-site': 'cross-site' },
  ],
  ['a Host of another name', { host: 'evil.example' }],
  ['a Host of another name on this port', { host: 'evil.example:$PORT' }],
  ['a Host of another name with an Origin to match', { host: 'evil.example', origin: 'http://evil.example' }],
  ['a Host that begins like this server', { host: '127.0.0.1.evil.example' }],
  ['a Host that ends like this server', { host: 'evil-berth.example.org' }],
  ['a Host below a name of this server', { host: 'evil.berth.example.org' }],
  ['a Host that only looks like localhost', { host: 'localhost.evil.example' }],
  ['a Host in brackets that is no address', { host: '[evil.example]' }],
  ['a Host in decimal', { host: '2130706433' }],
]

/** What programs and pages of this server send. */
const OURS: readonly (readonly [name: string, headers: Record<string, string>])[] = [
  ['nothing of the kind', {}],
  ['the Origin of this server', { origin: 'http://127.0.0.1:$PORT' }],
  ['the Origin of this server behind TLS', { origin: 'https://127.0.0.1:$PORT' }],
  ['Sec-Fetch-Site same-origin', { origin: 'http://127.0.0.1:$PORT', 'sec-fetch-site': 'same-origin' }],
  ['Sec-Fetch-Site none', { 'sec-fetch-site': 'none' }],
  ['localhost', { host: 'localhost:$PORT' }],
  ['localhost without a port', { host: 'localhost' }],
  ['a page of localhost', { host: 'localhost:$PORT', origin: 'http://localhost:$PORT' }],
  ['a name below localhost', { host: 'berth.localhost' }],
  ['another IP address', { host: '192.0.2.7:8080' }],
  ['an IPv6 address', { host: '[2001:db8::7]:8080' }],
  ['an IPv6 address without a port', { host: '[::1]' }],
  ['an allowed name', { host: 'berth.example.org' }],
  ['an allowed name with a port', { host: 'berth.example.org:443' }],
  ['an allowed name in another case', { host: 'BERTH.example.ORG' }],
  ['an allowed name that was given in another case', { host: 'pool.example.org' }],
  ['an allowed name with a dot at its end', { host: 'berth.example.org.' }],
  ['a page of an allowed name', { host: 'berth.example.org', origin: 'https://berth.example.org' }],
  ['a browser', { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0', cookie: 'x=1' }],
]

function withPort(headers: Record<string, string>, url: string): Record<string, string> {
  const { port } = new URL(url)
  return Object.fromEntries(
    Object.entries(headers).map(([key, value]) => [key, value.replace('$PORT', port)]),
  )
}

async function send(
  server: TestServer,
  call: string,
  fields: object | null,
  headers: Record<string, string>,
) {
  const [method = '', path = ''] = call.split(' ')
  const reply = await rawRequest(server.url, {
    method,
    path,
    headers: { 'content-type': 'application/json', ...withPort(headers, server.url) },
    body: fields === null ? undefined : JSON.stringify({ ...AS_ADMIN, ...fields }),
  })
  return { status: reply.status, body: reply.text === '' ? null : JSON.parse(reply.text) }
}

/** Users 1 and 2; machines 1 (held by the admin) to 4 (under maintenance). */
async function furnish(server: TestServer): Promise<void> {
  await seed(server, { users: 1, machines: 4 })
  for (const [path, vmid] of [
    ['/checkout_vm', 1],
    ['/checkout_vm', 4],
    ['/checkin_vm', 4],
  ] as const)
    assert.equal((await server.call('POST', path, { ...AS_ADMIN, vmid })).status, 201)
}

describe('foreign pages', () => {
  let server: TestServer
  let lastEventId: number
  before(async () => {
    server = await startTestServer({ allowReset: true, allowedHosts: NAMES })
    await furnish(server)
    lastEventId = await server.berth.reads.lastEventId()
  })
  after(() => server.stop())

  for (const [name, headers] of FOREIGN)
    for (const [call, fields] of MUTATIONS)
      it(`${call} with ${name} is refused and changes nothing`, async () => {
        const { status, body } = await send(server, call, fields, headers)
        assert.equal(status, 403, JSON.stringify(body))
        assert.deepEqual(Object.keys(body), ['message'])
        assert.match(body.message, /may not send requests here|is not a name of this server/)
        assert.equal(await server.berth.reads.lastEventId(), lastEventId)
      })

  it('a foreign name reads nothing either', async () => {
    for (const path of ['/user', '/vmdetails', '/vmpoolsize', '/checkout_vm/user/1', '/maintenance'])
      assert.equal((await send(server, `GET ${path}`, null, { host: 'evil.example' })).status, 403, path)
  })

  it('a foreign page is told nothing of a preflight', async () => {
    const headers = { origin: 'https://evil.example', 'access-control-request-method': 'POST' }
    const reply = await rawRequest(server.url, { method: 'OPTIONS', path: '/checkout_vm', headers })
    assert.ok(reply.status >= 400)
    assert.deepEqual(
      Object.keys(reply.headers).filter((name) => name.startsWith('access-control-')),
      [],
    )
  })

  it('no answer lets a foreign page read it', async () => {
    const reply = await rawRequest(server.url, {
      method: 'GET',
      path: '/user',
      headers: { origin: 'https://evil.example' },
    })
    assert.equal(reply.headers['access-control-allow-origin'], undefined)
  })

  it('a refusal before the body leaves the connection in order', async () => {
    const refused = await send(server, 'POST /checkout_vm', { vmid: 2 }, { origin: 'null' })
    assert.equal(refused.status, 403)
    assert.equal((await send(server, 'GET /vmpoolsize', null, {})).status, 200)
  })

  for (const [name, headers] of OURS)
    it(`${name} passes`, async () => {
      const { status, body } = await send(server, 'PATCH /user', { id: 2 }, headers)
      assert.deepEqual([status, body], [200, { Message: 'Update done' }])
    })

  for (const [call, fields, status] of MUTATIONS)
    it(`${call} without a foreign mark succeeds`, async () => {
      const reply = await send(server, call, fields, {})
      assert.equal(reply.status, status, JSON.stringify(reply.body))
    })
})

describe('a server that any name may call', () => {
  let server: TestServer
  before(async () => {
    server = await startTestServer({ allowedHosts: ['*'] })
    await seed(server, { users: 0, machines: 0 })
  })
  after(() => server.stop())

  it('takes every Host', async () => {
    assert.equal((await send(server, 'PATCH /user', { id: 1 }, { host: 'whatever.example' })).status, 200)
  })

  it('still refuses foreign origins', async () => {
    const headers = { host: 'whatever.example', origin: 'https://evil.example' }
    assert.equal((await send(server, 'PATCH /user', { id: 1 }, headers)).status, 403)
  })
})

describe('probes', () => {
  let server: TestServer
  before(async () => {
    server = await startTestServer()
  })
  after(() => server.stop())

  for (const path of ['/healthz', '/readyz', '/metrics'])
    for (const method of ['GET', 'HEAD'])
      it(`${method} ${path} passes with any Host and Origin`, async () => {
        for (const headers of [
          { host: 'evil.example' },
          { host: '' },
          { origin: 'null' },
          { host: 'berth:9999' },
        ])
          assert.equal((await rawRequest(server.url, { method, path, headers })).status, 200)
      })

  it('other methods on them do not', async () => {
    for (const path of ['/healthz', '/readyz', '/metrics'])
      assert.equal(
        (await rawRequest(server.url, { method: 'POST', path, headers: { host: 'evil.example' } })).status,
        405,
      )
  })
})

describe('a browser', () => {
  let server: TestServer
  before(async () => {
    server = await startTestServer({ allowReset: true })
    await seed(server, { users: 0, machines: 1 })
  })
  after(() => server.stop())

  // Browsers mark a GET only towards https and localhost, so each of these alone has to do.
  const MARKS: readonly (readonly [name: string, headers: Record<string, string>])[] = [
    [
      'the name of Firefox',
      { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0' },
    ],
    [
      'the name of Chromium',
      { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0.0.0 Safari/537.36' },
    ],
    ['the Origin of this server', { origin: 'http://127.0.0.1:$PORT' }],
    ['a Referer', { referer: 'http://127.0.0.1:$PORT/' }],
    ['a cookie', { cookie: 'a=b' }],
    ['Sec-Fetch-Site same-origin', { 'sec-fetch-site': 'same-origin' }],
    ['Sec-Fetch-Site none', { 'sec-fetch-site': 'none' }],
    [
      'all marks of an image',
      { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'image' },
    ],
    ['Sec-Fetch-Dest image', { 'sec-fetch-dest': 'image' }],
  ]
  for (const [name, headers] of MARKS)
    it(`with ${name} cannot reset, even with an admin’s credentials`, async () => {
      for (const fields of [null, {}]) {
        const { status, body } = await send(server, 'GET /truncate_tables', fields, headers)
        assert.equal(status, 403)
        assert.match(body.message, /may not send requests here/)
      }
      assert.equal((await server.berth.reads.activeUsers({ afterId: 0, rowsMax: 9 })).length, 1)
    })

  it('is not what a program with Node’s fetch is: that resets', async () => {
    // It sends `User-Agent: node` and `Sec-Fetch-Mode: cors`, and no other mark.
    const response = await fetch(`${server.url}/truncate_tables`)
    assert.deepEqual([response.status, await response.json()], [201, { message: 'Tables Created' }])
    assert.equal((await server.call('POST', '/user', ADMIN)).status, 201)
  })

  it('is not what any other program is: that resets', async () => {
    assert.deepEqual(
      await send(server, 'GET /truncate_tables', null, { 'user-agent': 'python-requests/2.32' }),
      {
        status: 201,
        body: { message: 'Tables Created' },
      },
    )
    assert.equal((await server.call('POST', '/user', ADMIN)).status, 201)
  })
})
