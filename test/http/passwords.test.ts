/**
 * Proves what credentials are worth: a changed password and a deleted user are void at once and everywhere, passwords are
 * neither stored nor logged as they are, what is remembered expires, an unknown user costs as much as a wrong password, and
 * guessing is slowed down without locking anybody out.
 */

import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { after, before, describe, it } from 'node:test'
import { pino } from 'pino'
import { systemSchedule } from '../../src/cli/system.ts'
import type { Command } from '../../src/domain/command.ts'
import { EVEN_MIX } from '../../src/domain/pool.ts'
import { isRefusal } from '../../src/domain/refusal.ts'
import type { User } from '../../src/domain/user.ts'
import { Attempts } from '../../src/service/attempts.ts'
import { Credentials } from '../../src/service/credentials.ts'
import { HasherOverloaded, type PasswordHasher } from '../../src/service/password.ts'
import type { Reads } from '../../src/store/port.ts'
import { testClock } from '../support/clock.ts'
import { rawRequest } from '../support/raw-request.ts'
import { rememberHashes } from '../support/remembered-hashes.ts'
import { AS_ADMIN, auth, type Reply, seed, startTestServer, type TestServer } from '../support/test-server.ts'

/** Every call with credentials, with fields that are in order; `$ID` is the caller's id. */
const CALLS: readonly (readonly [call: string, fields: object])[] = [
  ['POST /user', { name: 'N', email: 'n@example.org', password: 'n' }],
  ['PATCH /user', { id: '$ID', name: 'N' }],
  ['DELETE /user/id/99', {}],
  ['POST /create_resource_pool', { pool_size: 3 }],
  ['POST /resizevmpool', { pool_size: 3 }],
  ['DELETE /vmdetails/id/2', {}],
  ['POST /checkout_vm', { vmid: 2 }],
  ['POST /checkin_vm', { vmid: 1 }],
  ['POST /maintenance', { vmid: 3 }],
  ['GET /truncate_tables', {}],
]

const UNKNOWN_ID = 99

/** A server whose clock goes on by minutes with each guess, so that guesses do not slow each other down. */
function guessable() {
  const clock = testClock()
  const toNobody = new Map<string, { status: number; body: unknown }>()
  let server: TestServer
  return {
    async start(): Promise<TestServer> {
      server = await startTestServer({}, { schedule: clock.schedule })
      rememberHashes(server.berth.hasher)
      return server
    },
    async answer(call: string, who: { auth: { userid: number; password: string } }, fields: object) {
      const [method = '', path = ''] = call.split(' ')
      const id = who.auth.userid
      const body = JSON.stringify({ ...who, ...fields }).replace('"$ID"', `${id}`)
      const headers = { 'content-type': 'application/json' }
      const reply = await rawRequest(server.url, { method, path, headers, body })
      clock.skip(2 * 60_000)
      return { status: reply.status, body: JSON.parse(reply.text) }
    },
    /** What `call` answers to credentials that never were any good; asked once. */
    async answerToNobody(call: string, who: { auth: { userid: number; password: string } }, fields: object) {
      const known = toNobody.get(call) ?? (await this.answer(call, who, fields))
      toNobody.set(call, known)
      return known
    },
  }
}

describe('a password that was changed', () => {
  const credentials = guessable()
  const { start, answer } = credentials
  let server: TestServer
  before(async () => {
    server = await start()
    await seed(server, { users: 1, machines: 3 })
    const ok = async (path: string, body: object) =>
      assert.equal((await server.call('POST', path, body)).status, 201)
    await ok('/checkout_vm', { ...auth(2, 'pw-2'), vmid: 1 })
    await ok('/checkout_vm', { ...AS_ADMIN, vmid: 3 })
    await ok('/checkin_vm', { ...AS_ADMIN, vmid: 3 })
    const changed = await server.call('PATCH', '/user', { ...AS_ADMIN, id: 1, password: 'new-1' })
    assert.equal(changed.status, 200)
    const changedByAdmin = await server.call('PATCH', '/user', {
      ...auth(1, 'new-1'),
      id: 2,
      password: 'new-2',
    })
    assert.equal(changedByAdmin.status, 200)
  })
  after(() => server.stop())

  for (const [id, old] of [
    [1, 'ada-pw'],
    [2, 'pw-2'],
  ] as const)
    for (const [call, fields] of CALLS)
      it(`of user ${id} is like any wrong one for ${call}`, async () => {
        const lastEventId = await server.berth.reads.lastEventId()
        const got = await answer(call, auth(id, old), fields)
        assert.deepEqual(got, await credentials.answerToNobody(call, auth(id, 'never'), fields))
        assert.ok(got.status === 401 || (call === 'PATCH /user' && got.status === 400))
        assert.equal(await server.berth.reads.lastEventId(), lastEventId)
      })

  it('does not keep the new one from working', async () => {
    for (const [id, password] of [
      [2, 'new-2'],
      [1, 'new-1'],
    ] as const) {
      const got = await answer('PATCH /user', auth(id, password), { id })
      assert.deepEqual(got, { status: 200, body: { Message: 'Update done' } })
    }
    assert.equal((await answer('POST /checkin_vm', auth(2, 'new-2'), { vmid: 1 })).status, 201)
  })

  it('voids what was verified before and is decided after', async () => {
    const stale = { userId: 1, credentialVersion: 1 }
    const requestId = 'stale'
    const policy = { typeMix: EVEN_MIX, cleaning: 'manual', provider: 'simulated' } as const
    const commands: readonly Command[] = [
      {
        kind: 'createUser',
        actor: stale,
        mayBeFirst: true,
        name: 'N',
        email: 'n@x',
        role: 'user',
        passwordHash: 'x',
        requestId,
      },
      { kind: 'changeUser', actor: stale, userId: 1, name: 'N', email: null, passwordHash: null, requestId },
      { kind: 'deleteUser', actor: stale, userId: 2, requestId },
      { kind: 'sizePool', actor: stale, pool: 'default', size: 1, policy, requestId },
      { kind: 'checkout', actor: stale, pool: 'default', vmId: null, type: null, requestId },
      { kind: 'checkIn', actor: stale, vmId: 1, generation: null, requestId },
      { kind: 'maintain', actor: stale, vmId: 3, step: 'clean', requestId },
      { kind: 'deleteVm', actor: stale, vmId: 2, requestId },
      { kind: 'beginReset', actor: stale, allowed: false, requestId },
    ]
    for (const command of commands) {
      const got = await server.berth.submit(command)
      assert.ok(isRefusal(got), command.kind)
      assert.equal(got.code, 'password_wrong', command.kind)
    }
  })
})

it('of many calls at once, none that is sent after a change of password gets through with the old one', async () => {
  const server = await startTestServer()
  try {
    await seed(server, { users: 1, machines: 40 })
    const checkout = (password: string) => server.call('POST', '/checkout_vm', auth(2, password))
    assert.equal((await checkout('pw-2')).status, 201)
    const early = Array.from({ length: 20 }, () => checkout('pw-2'))
    const changed = await server.call('PATCH', '/user', { ...auth(2, 'pw-2'), id: 2, password: 'new' })
    assert.equal(changed.status, 200)
    const late = await Promise.all(Array.from({ length: 4 }, () => checkout('pw-2')))
    assert.deepEqual(
      late.map(({ status }) => status),
      [401, 401, 401, 401],
    )
    for (const { status } of await Promise.all(early)) assert.ok(status === 201 || status === 401)
    assert.equal((await checkout('new')).status, 201)
  } finally {
    await server.stop()
  }
})

describe('the credentials of a deleted user', () => {
  const credentials = guessable()
  const { start, answer } = credentials
  let server: TestServer
  before(async () => {
    server = await start()
    await seed(server, { users: 2, machines: 3 })
    const admin = { name: 'Eve', email: 'eve@example.org', password: 'pw-4', role: 'admin' }
    assert.equal((await server.call('POST', '/user', { ...AS_ADMIN, ...admin })).status, 201)
    assert.equal((await server.call('POST', '/checkout_vm', { ...auth(2, 'pw-2'), vmid: 1 })).status, 201)
    // All of them are remembered.
    for (const id of [2, 3, 4])
      assert.equal((await answer('PATCH /user', auth(id, `pw-${id}`), { id })).status, 200)
    for (const id of [2, 4])
      assert.equal((await server.call('DELETE', `/user/id/${id}`, AS_ADMIN)).status, 200)
  })
  after(() => server.stop())

  for (const id of [2, 4])
    for (const [call, fields] of CALLS)
      it(`of user ${id} are those of a user who never existed, for ${call}`, async () => {
        const lastEventId = await server.berth.reads.lastEventId()
        const got = await answer(call, auth(id, `pw-${id}`), fields)
        assert.deepEqual(got, await credentials.answerToNobody(call, auth(UNKNOWN_ID, 'x'), fields))
        assert.ok(got.status >= 400)
        assert.equal(await server.berth.reads.lastEventId(), lastEventId)
      })

  it('take nothing from others', async () => {
    assert.equal((await answer('PATCH /user', auth(3, 'pw-3'), { id: 3 })).status, 200)
  })
})

describe('passwords', () => {
  const SECRETS = ['s3cret-of-ada', 's3cret-of-bob', 's3cret-in-vain', 's3cret-changed']
  let server: TestServer
  let logged = ''
  const sink = new Writable({
    write(chunk, _encoding, done) {
      logged += String(chunk)
      done()
    },
  })
  before(async () => {
    server = await startTestServer({}, { log: pino({ level: 'trace' }, sink) })
    const [ada = '', bob = '', vain = '', changed = ''] = SECRETS
    const statuses = async (...replies: readonly Promise<Reply>[]) =>
      (await Promise.all(replies)).map(({ status }) => status)
    const user = (name: string, password: string) => ({ name, email: `${name}@example.org`, password })
    assert.deepEqual(await statuses(server.call('POST', '/user', user('ada', ada))), [201])
    assert.deepEqual(
      await statuses(server.call('POST', '/user', { ...auth(1, ada), ...user('bob', bob) })),
      [201],
    )
    assert.deepEqual(
      await statuses(server.call('POST', '/user', { ...auth(1, ada), ...user('cat', bob) })),
      [201],
    )
    assert.deepEqual(
      await statuses(
        server.call('POST', '/checkout_vm', auth(1, vain)),
        server.call('POST', '/user', { ...auth(1, ada), ...user('bob', vain) }),
        server.call('POST', '/user', { ...auth(1, ada), ...user('x', `${vain}\u0000`) }),
        server.call('POST', '/user', { ...auth(1, ada), name: 'x', email: 'x', password: [vain] }),
        server.call('PATCH', '/user', { ...auth(2, bob), id: 2, password: changed }),
      ),
      [401, 400, 400, 400, 200],
    )
    // A body that cannot be read quotes nothing of itself but a few letters.
    const broken = await rawRequest(server.url, {
      method: 'POST',
      path: '/user',
      headers: { 'content-type': 'application/json' },
      body: `{"auth":{"userid":1,"password":"${vain}"},}`,
    })
    assert.equal(broken.status, 400)
  })
  after(() => server.stop())

  it('are not in the log, even at its most talkative', () => {
    assert.ok(logged.includes('"requestId"'), 'requests were logged')
    for (const secret of SECRETS) assert.ok(!logged.includes(secret), secret)
  })

  it('are not in the files of the data folder', async () => {
    const files = await readdir(server.folder)
    assert.ok(files.length > 0)
    for (const file of files) {
      const bytes = await readFile(join(server.folder, file))
      for (const secret of SECRETS) assert.ok(!bytes.includes(secret), `${secret} in ${file}`)
    }
  })

  it('are not in the event log, nor are their hashes', async () => {
    const events = JSON.stringify(await server.berth.reads.events({ afterId: 0, rowsMax: 1_000 }))
    assert.doesNotMatch(events, /s3cret|argon2/)
  })

  it('are not in any answer, nor are their hashes', async () => {
    for (const path of ['/user', '/user/id/1', '/user/email/bob@example.org', '/metrics']) {
      const { text } = await rawRequest(server.url, { method: 'GET', path })
      assert.doesNotMatch(text, /s3cret|argon2|password_hash/i)
    }
  })

  it('are stored as argon2id, with a salt for each', async () => {
    const hashes = (await server.berth.reads.activeUsers({ afterId: 0, rowsMax: 9 })).map(
      (user) => user.passwordHash,
    )
    for (const hash of hashes) assert.match(hash, /^\$argon2id\$v=19\$m=19456,t=2,p=1\$/)
    assert.equal(new Set(hashes).size, hashes.length)
  })
})

describe('a password is compared to the letter', () => {
  const { start, answer } = guessable()
  let server: TestServer
  const LONG = 'x'.repeat(1_024)
  const EXACT: readonly (readonly [password: string, wrong: readonly string[]])[] = [
    ['Straße', ['straße', 'Strasse', 'Straße ', ' Straße', 'STRASSE', 'Stra']],
    ['e\u0301', ['\u00e9', 'e']],
    [LONG, [`${LONG}x`, LONG.slice(1), `${LONG.slice(1)}y`]],
    ['\ufffd', ['\u0000', '?', '']],
    ['null', ['', 'undefined']],
  ]
  before(async () => {
    server = await start()
    await seed(server, { users: 0, machines: 0 })
    for (const [i, [password]] of EXACT.entries()) {
      const made = await answer('POST /user', AS_ADMIN, { name: 'x', email: `x${i}@example.org`, password })
      assert.equal(made.status, 201)
    }
  })
  after(() => server.stop())

  for (const [i, [password, wrong]] of EXACT.entries())
    it(`${JSON.stringify(password.slice(0, 20))} is no other`, async () => {
      const id = i + 2
      for (const other of wrong)
        assert.equal(
          (await answer('PATCH /user', auth(id, other), { id })).status,
          400,
          JSON.stringify(other),
        )
      assert.equal((await answer('PATCH /user', auth(id, password), { id })).status, 200)
      for (const other of wrong)
        assert.equal(
          (await answer('PATCH /user', auth(id, other), { id })).status,
          400,
          JSON.stringify(other),
        )
    })
})

describe('guessing over HTTP', () => {
  // The clock stands, so that waits are exact.
  let nowMs = Date.UTC(2026, 2, 1)
  /** What guesses had to wait; the waits themselves are skipped. All other sleeps can be cut short by a signal. */
  let waits: number[] = []
  let server: TestServer
  const stranger = new Agent({ localAddress: '127.0.0.66' })
  const elsewhere = new Agent({ localAddress: '127.0.0.77' })
  before(async () => {
    server = await startTestServer(
      {},
      {
        schedule: {
          ...systemSchedule,
          now: () => nowMs,
          async sleep(ms, signal) {
            if (signal !== undefined) return systemSchedule.sleep(ms, signal)
            waits.push(ms)
          },
        },
      },
    )
    await seed(server, { users: 1, machines: 4 })
    assert.equal((await checkout(auth(2, 'pw-2'), false)).status, 201)
    // What is remembered is not looked at again, from wherever it comes.
    server.berth.credentials.forget(2)
  })
  after(async () => {
    stranger.destroy()
    elsewhere.destroy()
    await server.stop()
  })

  async function checkout(who: object, agent: Agent | false) {
    const headers = { 'content-type': 'application/json' }
    const body = JSON.stringify(who)
    return rawRequest(server.url, { method: 'POST', path: '/checkout_vm', headers, body, agent })
  }

  it('slows a stranger down, then refuses with 429 and Retry-After', async () => {
    const statuses: number[] = []
    for (let i = 0; i < 30 && statuses.at(-1) !== 429; i++)
      statuses.push((await checkout(auth(2, `guess ${i}`), stranger)).status)
    assert.deepEqual(statuses, [...Array(12).fill(401), 429])
    assert.deepEqual(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400])
    const refused = await checkout(auth(2, 'pw-2'), stranger)
    assert.equal(refused.status, 429)
    assert.match(refused.headers['retry-after'] ?? '', /^\d+$/)
    assert.deepEqual(Object.keys(JSON.parse(refused.text)), ['message'])
  })

  it('refuses the stranger for unknown users alike', async () => {
    assert.equal((await checkout(auth(UNKNOWN_ID, 'x'), stranger)).status, 429)
  })

  it('does not slow down who was right at their own address before', async () => {
    waits = []
    assert.equal((await checkout(auth(2, 'pw-2'), false)).status, 201)
    assert.deepEqual(waits, [])
    server.berth.credentials.forget(2)
  })

  it('keeps the guessed user waiting a second at most at a new address', async () => {
    waits = []
    assert.equal((await checkout(auth(2, 'pw-2'), elsewhere)).status, 201)
    assert.deepEqual(waits, [1_000])
  })

  it('is over after some minutes', async () => {
    nowMs += 15 * 60_000
    waits = []
    assert.equal((await checkout(auth(2, 'wrong'), stranger)).status, 401)
    assert.deepEqual(waits, [])
  })
})

/** One attempt: seconds since the one before, user, address, right or wrong, the wait in ms (null: refused). */
type Attempt = readonly [
  seconds: number,
  user: number,
  address: string,
  end: 'right' | 'wrong' | 'none',
  waitMs: number | null,
]

const HOME = '192.0.2.1'
const AWAY = '198.51.100.9'

/** Wrong passwords one after the other, each when the one before was judged. */
function wrongs(
  waits: readonly number[],
  user: number | ((i: number) => number),
  address: string | ((i: number) => string),
): Attempt[] {
  return waits.map((waitMs, i) => [
    0,
    typeof user === 'number' ? user : user(i),
    typeof address === 'string' ? address : address(i),
    'wrong',
    waitMs,
  ])
}

const SLOWER = [0, 0, 0, 0, 0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]
const SLOWER_FOR_USER = [0, 0, 0, 0, 0, 100, 200, 400, 800, 1_000, 1_000, 1_000]

const SCENARIOS: readonly (readonly [name: string, attempts: readonly Attempt[]])[] = [
  ['right passwords never wait', [...Array(50).keys()].map((): Attempt => [0, 1, HOME, 'right', 0])],
  [
    'five wrong passwords are free, then each waits twice as long, up to five seconds',
    wrongs(SLOWER, 1, AWAY),
  ],
  ['guesses at many users from one address share its line', wrongs(SLOWER, (i) => i, AWAY)],
  [
    'guesses at one user from many addresses wait for each other, up to a second',
    wrongs(SLOWER_FOR_USER, 1, (i) => `198.51.100.${i}`),
  ],
  [
    'guesses at many users from many addresses do not',
    wrongs(
      Array(30).fill(0),
      (i) => i,
      (i) => `198.51.100.${i}`,
    ),
  ],
  [
    'strangers elsewhere never delay a user who was right at this address',
    [
      [0, 1, HOME, 'right', 0],
      ...wrongs(SLOWER, 1, AWAY),
      ...wrongs(Array(9).fill(1_000), 1, (i) => `198.51.100.${100 + i}`),
      [0, 1, HOME, 'right', 0],
      [0, 1, HOME, 'right', 0],
    ],
  ],
  [
    'strangers at the same address who guess at others never delay them either',
    [
      [0, 1, HOME, 'right', 0],
      ...wrongs(SLOWER, (i) => i + 2, HOME),
      [0, 1, HOME, 'right', 0],
      [0, 1, HOME, 'right', 0],
    ],
  ],
  [
    'users who were right at an address can still guess only so fast there',
    [[0, 1, HOME, 'right', 0], ...wrongs(SLOWER, 1, HOME)],
  ],
  [
    'their own wrong passwords do not slow down others at that address',
    [[0, 1, HOME, 'right', 0], ...wrongs(SLOWER, 1, HOME), [0, 2, HOME, 'right', 0]],
  ],
  [
    'a user who is being guessed at waits a second at most at a new address',
    [...wrongs(SLOWER, 1, AWAY), [0, 1, HOME, 'right', 1_000], [0, 1, HOME, 'right', 0]],
  ],
  [
    'attempts that come at once stand in line',
    [
      ...wrongs([0, 0, 0, 0, 0], 1, AWAY),
      [0, 1, AWAY, 'none', 100],
      [0, 1, AWAY, 'none', 200],
      [0, 1, AWAY, 'none', 300],
    ],
  ],
  [
    'a line of more than ten seconds is refused, also to right passwords of new users',
    [
      ...wrongs(SLOWER, 1, AWAY),
      [0, 1, AWAY, 'none', 5_000],
      [0, 1, AWAY, 'none', 10_000],
      [0, 1, AWAY, 'none', null],
      [0, 2, AWAY, 'right', null],
      [0, 1, HOME, 'right', 1_000],
    ],
  ],
  [
    'a refused line opens again with time',
    [
      ...wrongs(SLOWER, 1, AWAY),
      [0, 1, AWAY, 'none', 5_000],
      [0, 1, AWAY, 'none', 10_000],
      [0, 1, AWAY, 'none', null],
      [20, 1, AWAY, 'wrong', 1_000],
    ],
  ],
  [
    'wrong passwords are forgotten within minutes',
    [...wrongs(SLOWER, 1, AWAY), [600, 1, AWAY, 'wrong', 0], [0, 1, AWAY, 'wrong', 0]],
  ],
  ['they count less and less', [...wrongs(SLOWER, 1, AWAY), [40, 1, AWAY, 'none', 400]]],
  [
    'all addresses of one IPv6 network (/64) share a line',
    wrongs(
      SLOWER,
      (i) => i,
      (i) => `2001:db8:1:2:${i}:2:3:4`,
    ),
  ],
  [
    'also those that are written short',
    wrongs(
      SLOWER,
      (i) => i,
      (i) => (i % 2 === 0 ? `2001:db8::${i + 1}:2:3:4` : `2001:db8::${i + 1}`),
    ),
  ],
  [
    'IPv6 networks have a line each',
    wrongs(
      Array(20).fill(0),
      (i) => i,
      (i) => `2001:db8:1:${i}::1`,
    ),
  ],
  [
    'IPv4 addresses have a line each, also when they are written as IPv6',
    wrongs(
      Array(20).fill(0),
      (i) => i,
      (i) => `::ffff:192.0.2.${i}`,
    ),
  ],
]

describe('how long attempts wait', () => {
  for (const [name, attempts] of SCENARIOS)
    it(name, () => {
      let now = 1_000_000
      const counts = new Attempts(() => now)
      for (const [i, [seconds, user, address, end, expected]] of attempts.entries()) {
        now += seconds * 1_000
        const waitMs = counts.begin(user, address)
        const told = `attempt ${i + 1} waits ${waitMs}, not ${expected}`
        if (waitMs === null || expected === null) assert.equal(waitMs, expected, told)
        // Failures fade all the time, so waits are a little shorter.
        else assert.ok(Math.abs(waitMs - expected) <= expected * 0.2, told)
        if (end === 'none' || waitMs === null) continue
        now += waitMs
        counts.end(user, address, end === 'right')
      }
    })
})

describe('the credential check', () => {
  const MINUTE = 60_000

  /** Credentials over users 1 to `users`, with a hasher that only counts, and a clock that stands. */
  function world(users = 3) {
    const rows = new Map<number, User>()
    const row = (id: number, password: string, edit: Partial<User> = {}): User => ({
      id,
      name: `User ${id}`,
      email: `u${id}@example.org`,
      role: 'user',
      passwordHash: `hash of ${password}`,
      credentialVersion: 1,
      quota: null,
      state: 'active',
      createdAtMs: 0,
      ...edit,
    })
    for (let id = 1; id <= users; id++) rows.set(id, row(id, `pw-${id}`))
    const calls: string[] = []
    const clock = { now: 1_000_000 }
    let held: Promise<void> | null = null
    const hasher: PasswordHasher = {
      hash: async (password) => `hash of ${password}`,
      async verify(password, phc) {
        calls.push('verify')
        await held
        return phc === `hash of ${password}`
      },
      async verifyNobody() {
        calls.push('verifyNobody')
        await held
        return false
      },
    }
    const reads = { user: async (id: number) => rows.get(id) ?? null } as unknown as Reads
    const attempts = new Attempts(() => clock.now)
    const schedule = {
      now: () => clock.now,
      async sleep(ms: number) {
        calls.push(`sleep ${Math.round(ms / 100) * 100}`)
      },
      pause: async () => {},
      random: () => 0,
    }
    const credentials = new Credentials({ reads, hasher, attempts, schedule, key: Buffer.alloc(32, 7) })
    return {
      rows,
      row,
      calls,
      clock,
      credentials,
      hasher,
      /** Checks wait from now on, until what is returned is called. */
      hold(): () => void {
        const { promise, resolve } = Promise.withResolvers<void>()
        held = promise
        return () => {
          held = null
          resolve()
        }
      },
    }
  }

  async function codeOf(answer: Promise<unknown>): Promise<string> {
    const got = await answer
    return isRefusal(got) ? got.code : 'right'
  }

  it('of an unknown user costs one hash, as a wrong password does', async () => {
    const { credentials, calls, rows, row } = world()
    rows.set(2, row(2, 'pw-2', { state: 'leaving', passwordHash: '' }))
    rows.set(3, row(3, 'pw-3', { state: 'gone', passwordHash: '' }))
    for (const [userId, code, call] of [
      [1, 'password_wrong', 'verify'],
      [2, 'caller_unknown', 'verifyNobody'],
      [3, 'caller_unknown', 'verifyNobody'],
      [99, 'caller_unknown', 'verifyNobody'],
      [-1, 'caller_unknown', 'verifyNobody'],
    ] as const) {
      calls.length = 0
      assert.equal(await codeOf(credentials.verify(userId, 'wrong', HOME)), code)
      assert.deepEqual(calls, [call])
    }
  })

  it('of a deleted user does not look at the old hash', async () => {
    const { credentials, calls, rows, row } = world()
    rows.set(1, row(1, 'pw-1', { state: 'leaving' }))
    assert.equal(await codeOf(credentials.verify(1, 'pw-1', HOME)), 'caller_unknown')
    assert.deepEqual(calls, ['verifyNobody'])
  })

  it('is remembered when it was right, for that user and that password', async () => {
    const { credentials } = world()
    assert.equal(credentials.remembered(1, 'pw-1'), null)
    const caller = await credentials.verify(1, 'pw-1', HOME)
    assert.deepEqual(caller, { userId: 1, credentialVersion: 1, role: 'user' })
    assert.deepEqual(credentials.remembered(1, 'pw-1'), caller)
    for (const [userId, password] of [
      [1, 'pw-2'],
      [1, 'pw-1 '],
      [1, ''],
      [2, 'pw-1'],
      [2, 'pw-2'],
      [99, 'pw-1'],
    ] as const)
      assert.equal(credentials.remembered(userId, password), null)
  })

  it('is not remembered when it was wrong', async () => {
    const { credentials } = world()
    assert.equal(await codeOf(credentials.verify(1, 'wrong', HOME)), 'password_wrong')
    assert.equal(credentials.remembered(1, 'wrong'), null)
    assert.equal(await codeOf(credentials.verify(99, 'x', HOME)), 'caller_unknown')
    assert.equal(credentials.remembered(99, 'x'), null)
  })

  it('that was wrong does not make a right one forgotten', async () => {
    const { credentials } = world()
    await credentials.verify(1, 'pw-1', HOME)
    await credentials.verify(1, 'wrong', HOME)
    assert.notEqual(credentials.remembered(1, 'pw-1'), null)
  })

  it('is remembered for fifteen minutes, however often it is used', async () => {
    const { credentials, clock } = world()
    await credentials.verify(1, 'pw-1', HOME)
    for (let minute = 1; minute < 15; minute++) {
      clock.now += MINUTE
      assert.notEqual(credentials.remembered(1, 'pw-1'), null, `after ${minute} minutes`)
    }
    clock.now += MINUTE - 1
    assert.notEqual(credentials.remembered(1, 'pw-1'), null)
    clock.now += 1
    assert.equal(credentials.remembered(1, 'pw-1'), null)
  })

  it('is remembered for ten thousand users; then the one who was not seen for longest is forgotten', async () => {
    const { credentials } = world(10_001)
    for (let id = 1; id <= 10_000; id++) await credentials.verify(id, `pw-${id}`, HOME)
    assert.notEqual(credentials.remembered(1, 'pw-1'), null)
    await credentials.verify(10_001, 'pw-10001', HOME)
    assert.equal(credentials.remembered(2, 'pw-2'), null)
    for (const id of [1, 3, 10_000, 10_001]) assert.notEqual(credentials.remembered(id, `pw-${id}`), null)
  })

  it('is forgotten when that user changes, and only theirs', async () => {
    const { credentials } = world()
    for (const id of [1, 2]) await credentials.verify(id, `pw-${id}`, HOME)
    credentials.forget(1)
    assert.equal(credentials.remembered(1, 'pw-1'), null)
    assert.notEqual(credentials.remembered(2, 'pw-2'), null)
    credentials.forgetAll()
    assert.equal(credentials.remembered(2, 'pw-2'), null)
  })

  for (const what of ['forget', 'forgetAll'] as const)
    it(`that was under way at a change is not remembered (${what})`, async () => {
      const { credentials, hold } = world()
      const release = hold()
      const checking = credentials.verify(1, 'pw-1', HOME)
      await new Promise(setImmediate)
      credentials[what](1)
      release()
      assert.equal(await codeOf(checking), 'right')
      assert.equal(credentials.remembered(1, 'pw-1'), null)
    })

  it('that was under way at a change of password says nothing about attempts after it', async () => {
    const { credentials, rows, row, hold } = world()
    const release = hold()
    const tooEarly = credentials.verify(1, 'new', HOME)
    await new Promise(setImmediate)
    rows.set(1, row(1, 'new', { credentialVersion: 2 }))
    credentials.forget(1)
    const after = credentials.verify(1, 'new', HOME)
    release()
    assert.equal(await codeOf(tooEarly), 'password_wrong')
    assert.deepEqual(await after, { userId: 1, credentialVersion: 2, role: 'user' })
  })

  it('waits before it hashes, and does not hash what is refused', async () => {
    const { credentials, calls } = world()
    for (let i = 0; i < 5; i++) await credentials.verify(1, `wrong ${i}`, AWAY)
    calls.length = 0
    assert.equal(await codeOf(credentials.verify(1, 'wrong', AWAY)), 'password_wrong')
    assert.deepEqual(calls, ['sleep 100', 'verify'])
    calls.length = 0
    // They come at once, so each stands behind the ones before.
    const codes = await Promise.all(
      Array.from({ length: 300 }, (_, i) => codeOf(credentials.verify(1, `wrong again ${i}`, AWAY))),
    )
    const refused = codes.filter((code) => code === 'too_many_attempts').length
    assert.ok(refused > 0)
    assert.equal(calls.filter((call) => call === 'verify').length, 300 - refused)
  })

  it('that could not be made for want of time is no wrong password', async () => {
    const { credentials, calls, hasher } = world()
    const { verify } = hasher
    hasher.verify = async () => {
      throw new HasherOverloaded()
    }
    for (let i = 0; i < 20; i++)
      assert.equal(await codeOf(credentials.verify(1, `pw ${i}`, HOME)), 'overloaded')
    hasher.verify = verify
    assert.equal(await codeOf(credentials.verify(1, 'pw-1', HOME)), 'right')
    assert.deepEqual(calls, ['verify'])
  })

  it('of one password by many calls at once is made once', async () => {
    const { credentials, calls } = world()
    const codes = await Promise.all(
      Array.from({ length: 20 }, () => codeOf(credentials.verify(1, 'pw-1', HOME))),
    )
    assert.deepEqual(new Set(codes), new Set(['right']))
    assert.deepEqual(calls, ['verify'])
  })

  it('of different passwords by many calls at once is made for each', async () => {
    const { credentials, calls } = world()
    const codes = await Promise.all(
      ['pw-1', 'wrong', 'pw-2'].map((password) => codeOf(credentials.verify(1, password, HOME))),
    )
    assert.deepEqual(codes, ['right', 'password_wrong', 'password_wrong'])
    assert.equal(calls.length, 3)
  })
})
