/**
 * Proves that whatever is sent, nothing breaks and nothing changes: thousands of malformed requests to every route, most of
 * them with an admin's credentials, get no 5xx, every 4xx says why in JSON, the installation stays as it was, and the server
 * goes on working. The requests are drawn from a seed; to repeat a run, set BAD_INPUT_SEED to the one that it printed.
 */
import assert from 'node:assert/strict'
import { Agent, METHODS } from 'node:http'
import { after, before, describe, it } from 'node:test'
import { testClock } from '../support/clock.ts'
import { rawBytes, rawRequest } from '../support/raw-request.ts'
import { rememberHashes } from '../support/remembered-hashes.ts'
import { AS_ADMIN, auth, seed, startTestServer, type TestServer } from '../support/test-server.ts'

const REQUESTS = 3_000
const AT_ONCE = 8
const SEED = Number(process.env.BAD_INPUT_SEED ?? Math.floor(Math.random() * 2 ** 32))

/** A small seeded generator of numbers in [0, 1) (xorshift32). */
let state = SEED >>> 0 || 1
function random(): number {
  state ^= state << 13
  state ^= state >>> 17
  state ^= state << 5
  return (state >>> 0) / 2 ** 32
}

function below(n: number): number {
  return Math.floor(random() * n)
}

function chance(share: number): boolean {
  return random() < share
}

function pick<T>(list: readonly T[]): T {
  return list[below(list.length)] as T
}

/** JSON as text, for what JSON.stringify would not write. */
class Json {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

function deep(): Json {
  const levels = pick([1_000, 5_000, 15_000])
  return chance(0.5)
    ? new Json('['.repeat(levels) + ']'.repeat(levels))
    : new Json(`${'{"a":'.repeat(levels / 5)}1${'}'.repeat(levels / 5)}`)
}

function encode(value: unknown): string {
  if (value instanceof Json) return value.text
  if (Array.isArray(value)) return `[${value.map(encode).join(',')}]`
  if (typeof value === 'object' && value !== null)
    return `{${Object.entries(value)
      .map(([key, item]) => `${JSON.stringify(key)}:${encode(item)}`)
      .join(',')}}`
  return JSON.stringify(value)
}

const ODD_TEXTS = [
  'x'.repeat(5_000),
  'é'.repeat(3_000),
  '\ud800',
  'a\udfff b',
  '\ud83d\ude00\ud83d',
  '\u0000',
  'ada\u0000@example.org',
  '\u202edrowssap\u202c',
  '\u200b\ufeff',
  '🚢🚢🚢',
  '👩‍👩‍👧‍👦',
  'ﷺ',
  'a\u0301\u0301\u0301\u0301',
  '\r\nSet-Cookie: x=1',
  "' OR '1'='1",
  '1; DROP TABLE user; --',
  "') UNION SELECT password_hash FROM user --",
  '1\\',
  '%00',
  '%s%n%x',
  '#{7*7}{{7*7}}',
  '<script>alert(1)</script>',
  '../../etc/passwd',
  '__proto__',
  'constructor',
  'toString',
  'null',
  'undefined',
  'NaN',
  'true',
  '[object Object]',
]

/** Values that are no id of anything that exists, and no "any" either. */
const NO_IDS: readonly unknown[] = [
  -1,
  0,
  1.5,
  -1.5,
  99_999,
  2 ** 31,
  2 ** 53,
  2 ** 63,
  1e300,
  new Json('1e999'),
  new Json('-1e999'),
  new Json('-0'),
  new Json('1e-999'),
  new Json('9007199254740993'),
  new Json('9'.repeat(1_000)),
  true,
  false,
  '',
  ' ',
  '1 2',
  '+1',
  '-1',
  '1.0',
  '0x1',
  '1e0',
  '١',
  '１',
  '9'.repeat(15),
  '9'.repeat(500),
  [],
  [1],
  [[1]],
  {},
  { id: 1 },
  { $gt: 0 },
  { valueOf: 1, toString: 2 },
  ...ODD_TEXTS,
]

const NO_SIZES: readonly unknown[] = [
  null,
  undefined,
  ...NO_IDS.filter(
    (value) =>
      value !== 0 &&
      value !== 99_999 &&
      !(value instanceof Json && value.text.endsWith('0')) &&
      !(value instanceof Json && value.text === '1e-999'),
  ),
  1_000_001,
  '1000001',
]

const NO_USER_TEXTS: readonly unknown[] = [
  0,
  -1,
  1e300,
  new Json('1e999'),
  true,
  [],
  ['a'],
  {},
  { a: { b: [] } },
  '',
  '   ',
  '\t\n',
  'a\u0000b',
  'a\u001bb',
  '\ud800',
  'x\udc00y',
  'x'.repeat(1_025),
  'é'.repeat(5_000),
]

const OTHER_KEYS = [
  'x',
  '',
  '__proto__',
  'constructor',
  'prototype',
  'toJSON',
  'toString',
  'hasOwnProperty',
  'length',
  'then',
  'code',
  'message',
  'Message',
  'status',
  'details',
  'role',
  'state',
  'generation',
  'type',
  'setup_code',
  'ids',
  '\ud800',
  'é'.repeat(200),
]

function anything(): unknown {
  return chance(0.1)
    ? deep()
    : pick<unknown>([null, ...NO_IDS, ...NO_USER_TEXTS, { isAdmin: true, role: 'admin' }])
}

/** Credentials that are none. */
function noAuth(): Record<string, unknown> {
  const missing: readonly unknown[] = [
    undefined,
    null,
    true,
    1,
    '1:ada-pw',
    [],
    [1, 'ada-pw'],
    {},
    { userid: 1 },
    { password: 'ada-pw' },
    { userid: null, password: 'ada-pw' },
    { userid: 1, password: null },
    { userid: [1], password: 'ada-pw' },
    { userid: {}, password: 'ada-pw' },
    { userid: 1, password: ['ada-pw'] },
    { userid: 1, password: 0 },
    { userid: '1 OR 1=1', password: 'ada-pw' },
    { userid: pick(ODD_TEXTS), password: 'ada-pw' },
    { userid: 1, password: deep() },
    Object.fromEntries([['__proto__', { userid: 1, password: 'ada-pw' }]]),
    deep(),
  ]
  // Each of these costs a password hash, so there are few.
  const wrong: readonly unknown[] = [
    { userid: 1, password: pick([...ODD_TEXTS, '']) },
    { userid: pick([-1, 0, 1e300, 2 ** 63, 99_999, '99999', new Json('1e20')]), password: 'ada-pw' },
  ]
  return { auth: chance(0.03) ? pick(wrong) : pick(missing) }
}

function extras(): Record<string, unknown> {
  const n = chance(0.4) ? 1 + below(4) : 0
  return Object.fromEntries(Array.from({ length: n }, () => [pick(OTHER_KEYS), anything()]))
}

/** Removes keys without a value, which JSON does not have. */
function present(body: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined))
}

const GOOD_USER = { name: 'Carl', email: 'carl@example.org', password: 'carl-pw' }

interface Route {
  readonly method: string
  /** `:id` and `:word` are filled in. */
  readonly path: string
  /** Fields with which the call would change something. */
  readonly good: Record<string, unknown>
  /** Fields with which it cannot. */
  readonly bad?: () => Record<string, unknown>
}

const ROUTES: readonly Route[] = [
  { method: 'POST', path: '/user', good: GOOD_USER, bad: badUser },
  {
    method: 'PATCH',
    path: '/user',
    good: { id: 2, name: 'X' },
    bad: () =>
      chance(0.5)
        ? { id: pick([1, 2, '2']), [pick(['name', 'email', 'password'])]: pick(NO_USER_TEXTS) }
        : { id: pick([null, undefined, ...NO_IDS]), name: 'X' },
  },
  { method: 'DELETE', path: '/user/id/:id', good: {} },
  { method: 'POST', path: '/create_resource_pool', good: { pool_size: 9 }, bad: badSize },
  { method: 'POST', path: '/resizevmpool', good: { pool_size: 9 }, bad: badSize },
  { method: 'DELETE', path: '/vmdetails/id/:id', good: {} },
  { method: 'POST', path: '/checkout_vm', good: { vmid: 3 }, bad: badVm },
  { method: 'POST', path: '/checkin_vm', good: { vmid: 1 }, bad: badVm },
  { method: 'POST', path: '/maintenance', good: { vmid: 2 }, bad: badVm },
  { method: 'GET', path: '/truncate_tables', good: {} },
  { method: 'GET', path: '/user', good: {} },
  { method: 'GET', path: '/user/id/:id', good: {} },
  { method: 'GET', path: '/user/email/:word', good: {} },
  { method: 'GET', path: '/create_resource_pool/basicstats', good: {} },
  { method: 'GET', path: '/vmpoolsize', good: {} },
  { method: 'GET', path: '/vmdetails', good: {} },
  { method: 'GET', path: '/vmdetails/id/:id', good: {} },
  { method: 'GET', path: '/vmdetails/type/:word', good: {} },
  { method: 'GET', path: '/vmdetails/status/:word', good: {} },
  { method: 'GET', path: '/vmdetails/maped_to/:word', good: {} },
  { method: 'GET', path: '/vmdetails/types/:word', good: {} },
  { method: 'GET', path: '/maintenance', good: {} },
  { method: 'GET', path: '/checkout_vm/user/:id', good: {} },
  { method: 'GET', path: '/checkout_vm/vm/:id', good: {} },
  { method: 'GET', path: '/healthz', good: {} },
  { method: 'GET', path: '/readyz', good: {} },
  { method: 'GET', path: '/metrics', good: {} },
]

/** The routes that can change something: most requests go there. */
const CHANGES = ROUTES.filter(({ method, path }) => method !== 'GET' || path === '/truncate_tables')

function badUser(): Record<string, unknown> {
  const wrong = pick(['name', 'email', 'password'])
  return {
    ...GOOD_USER,
    [wrong]: chance(0.2) ? undefined : chance(0.1) ? deep() : pick([null, ...NO_USER_TEXTS]),
  }
}

function badSize(): Record<string, unknown> {
  return { pool_size: chance(0.1) ? deep() : pick(NO_SIZES) }
}

function badVm(): Record<string, unknown> {
  return { vmid: chance(0.1) ? deep() : pick(NO_IDS) }
}

const BAD_SEGMENTS = [
  '%',
  '%z',
  '%zz',
  '%ff',
  '%c0%80',
  '%ed%a0%80',
  '%f4%90%80%80',
  '%00',
  '%2e%2e',
  '..%2f..%2f',
  '%252e',
  'abc',
  '-1',
  '0',
  '99999',
  '1.5',
  '1;2',
  '1,2',
  '1+1',
  "1'--",
  '1%20OR%201=1',
  '__proto__',
  'constructor',
  'hasOwnProperty',
  '*',
  ':id',
  '%5B1%5D',
  'NaN',
  'a'.repeat(900),
  'a'.repeat(1_100),
  'a'.repeat(9_000),
  '%C3%A9'.repeat(400),
  '9'.repeat(600),
]

function segment(): string {
  return chance(0.4) ? encodeURIComponent(pick(ODD_TEXTS).toWellFormed()) : pick(BAD_SEGMENTS)
}

function pathOf({ path }: Route): string {
  const filled = path.replace(/:\w+/, () => segment())
  return chance(0.1) ? `${filled}?${segment()}=${segment()}` : filled
}

interface BadRequest {
  readonly route: string
  readonly method: string
  readonly path: string
  readonly headers: Record<string, string>
  readonly body: string | undefined
  /** True when it carries an admin's credentials. */
  readonly admin: boolean
}

const JSON_TYPE = { 'content-type': 'application/json' }
const NO_JSON_TYPES = [
  'text/plain',
  'text/html; charset=utf-16',
  'application/x-www-form-urlencoded',
  'multipart/form-data; boundary=x',
  'application/xml',
  'application/octet-stream',
  'application/jsonp',
  'json',
  ';',
  '',
  'a'.repeat(2_000),
]

/** A request that cannot change anything, in one of many ways. */
function badRequest(): BadRequest {
  const route = pick(chance(0.7) ? CHANGES : ROUTES)
  const name = `${route.method} ${route.path}`
  const odd = chance(0.05)
    ? {
        [pick(['x-request-id', 'x-setup-code', 'accept', 'cookie'])]: pick([
          '',
          '\u00ff',
          'x'.repeat(3_000),
          "';--",
        ]),
      }
    : {}
  const request = {
    route: name,
    method: route.method,
    path: pathOf(route),
    headers: { ...JSON_TYPE, ...odd },
  }
  const dice = random()
  if (dice < 0.08)
    return {
      ...request,
      method: pick(otherMethods(route)),
      body: encode({ ...AS_ADMIN, ...route.good }),
      admin: true,
    }
  if (dice < 0.12)
    return {
      ...request,
      route: 'unknown',
      path: pick(UNKNOWN_PATHS),
      body: encode({ ...AS_ADMIN, ...route.good }),
      admin: true,
    }
  if (route.method === 'GET' && route.path !== '/truncate_tables')
    return {
      ...request,
      headers: chance(0.5) ? {} : request.headers,
      body: chance(0.5) ? undefined : encode(anything()),
      admin: false,
    }
  const good = { ...AS_ADMIN, ...route.good }
  if (dice < 0.2) return { ...request, body: broken(encode(good)), admin: true }
  if (dice < 0.25 && route.path !== '/truncate_tables') {
    const type = pick(NO_JSON_TYPES)
    return {
      ...request,
      headers: chance(0.3) ? {} : { 'content-type': type },
      body: encode(good),
      admin: true,
    }
  }
  if (dice < 0.28)
    return { ...request, body: encode({ ...good, x: 'x'.repeat(66_000 + below(100_000)) }), admin: true }
  if (dice < 0.33)
    return {
      ...request,
      body: encode(pick([[good], [], null, 'x', 1, true, deep(), [[[[good]]]]])),
      admin: true,
    }
  if (dice < 0.5 || route.path === '/truncate_tables')
    return { ...request, body: encode(present({ ...extras(), ...route.good, ...noAuth() })), admin: false }
  return { ...request, body: encode(present({ ...extras(), ...route.bad?.(), ...AS_ADMIN })), admin: true }
}

/** Methods that the path has no call of. CONNECT is not a request, and HEAD of what can be read is a good one. */
function otherMethods({ path }: Route): string[] {
  const known = new Set(ROUTES.filter((route) => route.path === path).map((route) => route.method))
  return METHODS.filter((method) => method !== 'CONNECT' && method !== 'HEAD' && !known.has(method))
}

/** A JSON text that is none any more. */
function broken(text: string): string {
  return pick([
    () => text.slice(0, 1 + below(text.length - 1)),
    () => `${text}${pick(['}', ']', ',', '"', 'x', '{}', '\u0000'])}`,
    () => `${pick(['[', '{', '}', ")]}',\n", '\u0000', '//x\n', "'"])}${text}`,
    () => text.replaceAll('"', pick(["'", '', '\\"', '“'])),
    () => text.replace(':', pick([' ', '::', '=', ':undefined,', ':NaN,'])),
    () => '',
    () =>
      pick(['<xml/>', 'undefined', 'NaN', '\ufeff', '{"auth"', '{,}', '[1,]', '"\u0001"', '{"a":1e}', '01']),
  ])()
}

const UNKNOWN_PATHS = [
  '/nothing',
  '/user/',
  '/user/id',
  '/user/id/1/2',
  '/USER',
  '/vmdetails/id/1/',
  '/vmdetails/../user',
  '/.%2e/user',
  '//user',
  '/user//id/1',
  '/__proto__',
  '/constructor',
  '/%75ser/x',
  '/%zz',
  '/%',
  '/wp-login.php',
  '/.env',
  `/${'a/'.repeat(2_000)}`,
  `/${'a'.repeat(14_000)}`,
]

/** What no HTTP client would send. */
const ODD_BYTES: readonly (readonly [name: string, bytes: string | Buffer])[] = [
  ['no HTTP at all', 'hello\r\n\r\n'],
  ['a TLS greeting', Buffer.from('16030100c8010000c40303', 'hex')],
  ['a method that is none', 'FROB /user HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ['a method in small letters', 'get /user HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ['a path without a slash', 'GET user HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ['a path with a space', 'GET /user/id/1 2 HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ['a path with NUL', 'GET /user/id/\u0000 HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ['a path in raw UTF-8', 'GET /user/email/é🚢 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'],
  [
    'a path in raw Latin-1',
    Buffer.from('GET /user/email/\xe9 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n', 'latin1'),
  ],
  ['a path of 20,000 letters', `GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`],
  ['headers of 20,000 letters', `GET /user HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`],
  ['a header without a name', 'GET /user HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n'],
  ['a header with NUL', 'GET /user HTTP/1.1\r\nHost: localhost\r\nX: \u0000\r\n\r\n'],
  ['no Host', 'POST /checkout_vm HTTP/1.1\r\nConnection: close\r\n\r\n'],
  [
    'an unknown expectation',
    'POST /checkout_vm HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: x\r\nContent-Length: 0\r\n\r\n',
  ],
  ['a negative length', post('Content-Length: -1', '')],
  ['a length that is no number', post('Content-Length: ten', '')],
  ['two lengths', post('Content-Length: 2\r\nContent-Length: 3', '{}')],
  ['a length and chunks', post('Content-Length: 2\r\nTransfer-Encoding: chunked', '0\r\n\r\n')],
  ['chunks without a size', post('Transfer-Encoding: chunked', 'zz\r\n{}\r\n0\r\n\r\n')],
  ['an unknown transfer encoding', post('Transfer-Encoding: x', '{}')],
  ['a body that ends too early', post('Content-Length: 500', encode({ ...AS_ADMIN, vmid: 3 }))],
  ['a length that is too large', post('Content-Length: 99999999999', '{}')],
  ['a body in UTF-16', post('Content-Length: 4', Buffer.from('{}', 'utf16le'))],
  ['a body with invalid UTF-8', post('Content-Length: 9', Buffer.from('7b2278223a22ff227d', 'hex'))],
  ['a body in gzip', post('Content-Encoding: gzip\r\nContent-Length: 3', Buffer.from('1f8b08', 'hex'))],
]

function post(header: string, body: string | Buffer): Buffer {
  const head = `POST /checkout_vm HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n${header}\r\n\r\n`
  return Buffer.concat([Buffer.from(head), Buffer.from(body)])
}

/** Why an answer breaks the promise; null: it does not. */
function fault(method: string, status: number, contentType: string, text: string): string | null {
  if (status < 200 || status >= 500) return `status ${status}`
  if (method === 'HEAD' || status < 400) return null
  if (!/^application\/json\b/.test(contentType)) return `a ${status} of type "${contentType}"`
  try {
    const body = JSON.parse(text) as Record<string, unknown>
    // The original's own ways to say that there is nothing.
    if (
      body['VM owned by user'] === '[]' ||
      body['VM owner Details'] === '[]' ||
      body.Maintenance_VM_details === '[]'
    )
      return null
    const told = body.message ?? body.Message
    return typeof told === 'string' && told !== '' ? null : `a ${status} without a message`
  } catch {
    return `a ${status} that is no JSON`
  }
}

describe('bad input', () => {
  const clock = testClock()
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE })
  let server: TestServer
  let untouched: unknown
  before(async () => {
    server = await startTestServer({}, { schedule: clock.schedule })
    rememberHashes(server.berth.hasher)
    await seed(server, { users: 2, machines: 5 })
    const call = async (path: string, body: object) =>
      assert.equal((await server.call('POST', path, body)).status, 201)
    await call('/checkout_vm', { ...AS_ADMIN, vmid: 1 })
    await call('/checkout_vm', { ...AS_ADMIN, vmid: 2 })
    await call('/checkin_vm', { ...AS_ADMIN, vmid: 2 })
    untouched = await dump()
  })
  after(async () => {
    agent.destroy()
    await server.stop()
  })

  async function dump(): Promise<unknown> {
    const { reads } = server.berth
    const all = { afterId: 0, rowsMax: 1_000 }
    return structuredClone({
      users: await reads.activeUsers(all),
      leavers: await reads.leavers(100),
      pools: await reads.pools(),
      vms: await reads.vms('default', { by: 'all' }, all),
      installation: await reads.installation(),
      lastEventId: await reads.lastEventId(),
    })
  }

  it(`${REQUESTS} malformed requests break nothing and change nothing (BAD_INPUT_SEED=${SEED})`, async (t) => {
    t.diagnostic(`BAD_INPUT_SEED=${SEED}`)
    const faults: string[] = []
    const statuses = new Map<number, number>()
    const routes = new Map<string, number>()
    let admins = 0
    let sent = 0
    async function sendAll(): Promise<void> {
      while (sent++ < REQUESTS) {
        const request = badRequest()
        const { route, method, path, headers, body, admin } = request
        const told = `${method} ${path.slice(0, 100)} ${JSON.stringify(headers).slice(0, 100)} ${body?.slice(0, 300)}`
        try {
          // A head that is too long ends its connection, so that gets one of its own.
          const by = path.length < 7_000 ? agent : false
          const reply = await rawRequest(server.url, { method, path, headers, body, agent: by })
          const wrong = fault(method, reply.status, reply.headers['content-type'] ?? '', reply.text)
          if (wrong !== null) faults.push(`${wrong}: ${told} → ${reply.text.slice(0, 200)}`)
          if (reply.status === 401 || reply.status === 429) clock.skip(60_000)
          statuses.set(reply.status, (statuses.get(reply.status) ?? 0) + 1)
        } catch (error) {
          faults.push(`no answer (${String(error)}): ${told}`)
        }
        routes.set(route, (routes.get(route) ?? 0) + 1)
        if (admin) admins++
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, sendAll))
    t.diagnostic(`answers: ${JSON.stringify(Object.fromEntries(statuses))}`)
    assert.deepEqual(faults.slice(0, 20), [], `${faults.length} faults`)
    assert.deepEqual(await dump(), untouched, 'the installation changed')
    assert.equal(routes.size, ROUTES.length + 1, 'every route was called, and unknown ones')
    assert.ok(admins > REQUESTS * 0.25, `${admins} requests carried an admin's credentials`)
    for (const status of [400, 401, 404, 405, 413])
      assert.ok((statuses.get(status) ?? 0) > 10, `${status} was seen`)
  })

  for (const [name, bytes] of ODD_BYTES)
    it(`${name}: closed, or answered with a message`, async () => {
      const answer = await rawBytes(server.url, bytes)
      if (answer === '') return
      const [head = '', ...body] = answer.split('\r\n\r\n')
      const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1])
      const contentType = /^content-type: (.*)$/im.exec(head)?.[1] ?? ''
      // The body may come in chunks.
      const [text = ''] = /\{[\s\S]*\}/.exec(body.join('\r\n\r\n')) ?? []
      assert.equal(fault('', status, contentType, text), null, answer)
      assert.deepEqual(await dump(), untouched, 'the installation changed')
    })

  for (const [method, path, status] of [
    ['GET', '/truncate_tables', 413],
    ['GET', '/user', 200],
    ['PUT', '/user', 405],
    ['POST', '/nothing', 404],
    ['GET', '/user/id/%zz', 400],
  ] as const)
    it(`a body of 400,000 bytes to ${method} ${path} leaves the connection in order`, async () => {
      const one = new Agent({ keepAlive: true, maxSockets: 1 })
      try {
        const request = {
          method,
          path,
          headers: JSON_TYPE,
          body: JSON.stringify('x'.repeat(400_000)),
          agent: one,
        }
        assert.equal((await rawRequest(server.url, request)).status, status)
        const next = await rawRequest(server.url, { method: 'GET', path: '/healthz', agent: one })
        assert.equal(next.status, 200)
      } finally {
        one.destroy()
      }
    })

  it('afterwards a good checkout works', async () => {
    const reply = await server.call('POST', '/checkout_vm', auth(2, 'pw-2'))
    assert.equal(reply.status, 201)
    assert.equal(reply.body['VM Details']['vm-Id'], 3)
  })
})
