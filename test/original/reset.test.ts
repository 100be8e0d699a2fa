/**
 * Proves who may reset an installation by GET /truncate_tables, that a refused reset wipes nothing, and that a reset leaves the
 * first day: no users, no pool, ids from 1, credentials void, and a new event log that begins with the reset.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type RawReply, rawRequest } from '../support/raw-request.ts'
import {
  AS_ADMIN,
  AS_USER_2,
  contract,
  listOf,
  PARTIAL_AUTHS,
  type Row,
  raw,
  STRANGER,
  says,
  stats,
  USER_2,
  userRow,
  vmList,
} from '../support/rows.ts'
import { ADMIN, auth, seed, startTestServer, type TestServer } from '../support/test-server.ts'

const RESET = 'GET /truncate_tables'
const TABLES_CREATED = { message: 'Tables Created' }
const AUTH_FAILED = { Message: 'Authentication or Authorization failed' }
const WIPED = ['installation.reset'] as const

const FIRST_DAY: readonly Row[] = [
  ['there are no users', null, 'GET /user', null, 200, { User_Details: '[]' }],
  ['no pool', null, 'GET /vmpoolsize', null, 200, { 'vm pool size': '0' }],
  ['no machines', null, 'GET /vmdetails', null, 200, { VM_details: '[]' }],
  ['no numbers', null, 'GET /create_resource_pool/basicstats', null, 200, stats(0, 0, 0)],
  ['nobody holds anything', null, 'GET /checkout_vm/user/2', null, 400, { 'VM owned by user': '[]' }],
  ['the old credentials are void', AS_ADMIN, 'POST /checkout_vm', {}, 400, { message: 'Invalid User' }],
]

describe('a server without --allow-reset', () => {
  const { table } = contract({ allowReset: false })

  table('an empty installation', null, [
    ['anybody', null, RESET, null, 201, TABLES_CREATED, WIPED],
    ['again', null, RESET, null, 201, TABLES_CREATED, WIPED],
    ['with any auth', STRANGER, RESET, null, 201, TABLES_CREATED, WIPED],
  ])

  table('a reset that is refused', { users: 1, machines: 3, held: { 1: 2 } }, [
    ['no body', null, RESET, null, 401, AUTH_FAILED],
    ...PARTIAL_AUTHS.map(([name, who]): Row => [name, who, RESET, {}, 401, AUTH_FAILED]),
    ['a list as body', null, RESET, raw('[]'), 401, AUTH_FAILED],
    ['null as body', null, RESET, raw('null'), 401, AUTH_FAILED],
    ['a wrong password', auth(1, 'wrong'), RESET, null, 401, AUTH_FAILED],
    ['an unknown caller', STRANGER, RESET, null, 401, AUTH_FAILED],
    ['a caller who is no admin', AS_USER_2, RESET, null, 401, AUTH_FAILED],
    ['malformed JSON', null, RESET, raw('{"auth":'), 400, says(/^the body must be a JSON object/)],
    [
      'a body that is too large',
      null,
      RESET,
      raw(`"${'x'.repeat(70_000)}"`),
      413,
      says(/larger than 65536 bytes/),
    ],
    ['HEAD resets nothing', null, 'HEAD /truncate_tables', null, 405, null],
    [
      'nor does POST',
      AS_ADMIN,
      'POST /truncate_tables',
      null,
      405,
      says(/^POST is not possible here, only GET/),
    ],
    [
      'credentials in the query do not count',
      null,
      'GET /truncate_tables?userid=1&password=ada-pw',
      null,
      401,
      AUTH_FAILED,
    ],
    [
      'users are still there',
      null,
      'GET /user',
      null,
      200,
      listOf('User_Details', [userRow({ id: 1, ...ADMIN }), userRow(USER_2)]),
    ],
    ['machines too', null, 'GET /vmdetails', null, 200, vmList([1, USER_2.email], [2, 'idle'], [3, 'idle'])],
  ])

  table('a reset by an admin', { users: 1, machines: 3, held: { 1: 2 }, aside: [2] }, [
    ['the admin', AS_ADMIN, RESET, null, 201, TABLES_CREATED, ['installation.reset']],
    ...FIRST_DAY,
    [
      'a first user needs no auth',
      null,
      'POST /user',
      ADMIN,
      201,
      { message: 'User Created.' },
      ['user.created'],
    ],
    ['and has id 1', null, 'GET /user', null, 200, listOf('User_Details', [userRow({ id: 1, ...ADMIN })])],
    [
      'a pool is made',
      AS_ADMIN,
      'POST /create_resource_pool',
      { pool_size: 2 },
      201,
      { message: 'Resources Created.' },
      ['pool.created'],
    ],
    ['machines have ids from 1', null, 'GET /vmdetails', null, 200, vmList([1, 'idle'], [2, 'idle'])],
  ])

  table('remembered passwords', { users: 1 }, [
    ['a password is remembered', AS_USER_2, 'PATCH /user', { id: 2 }, 200, { Message: 'Update done' }],
    ['the reset', AS_ADMIN, RESET, { x: 1 }, 201, TABLES_CREATED, WIPED],
    [
      'a new first user',
      null,
      'POST /user',
      { ...ADMIN, password: 'p1' },
      201,
      { message: 'User Created.' },
      ['user.created'],
    ],
    ['the old admin’s password', AS_ADMIN, 'PATCH /user', { id: 1 }, 400, AUTH_FAILED],
    [
      'a new second user',
      auth(1, 'p1'),
      'POST /user',
      { ...USER_2, password: 'p2' },
      201,
      { message: 'User Created.' },
      ['user.created'],
    ],
    ['the old second user’s password', AS_USER_2, 'PATCH /user', { id: 2 }, 400, AUTH_FAILED],
    [
      'credentials whose user id is text',
      { auth: { userid: '1', password: 'p1' } },
      RESET,
      null,
      201,
      TABLES_CREATED,
      WIPED,
    ],
  ])
})

describe('a server with --allow-reset', () => {
  const { table } = contract({ allowReset: true })

  table('a reset by anybody', { users: 1, machines: 3, held: { 1: 2 } }, [
    ['no body', null, RESET, null, 201, TABLES_CREATED, WIPED],
    ...FIRST_DAY,
  ])
  table('a reset with credentials that fit nobody', { users: 1, machines: 1 }, [
    ['a wrong password', auth(1, 'wrong'), RESET, null, 201, TABLES_CREATED, WIPED],
    ...FIRST_DAY,
  ])
})

describe('what a reset records', () => {
  let server: TestServer
  before(async () => {
    server = await startTestServer()
  })
  after(() => server.stop())

  function reset(body: object | undefined): Promise<RawReply> {
    const text = body === undefined ? undefined : JSON.stringify(body)
    return rawRequest(server.url, {
      method: 'GET',
      path: '/truncate_tables',
      body: text,
      headers: { 'x-request-id': 'r-1' },
    })
  }
  const log = () => server.berth.reads.events({ afterId: 0, rowsMax: 1_000 })

  it('the new event log begins with the reset: who, by which request, and how much there was', async () => {
    await seed(server, { users: 2, machines: 3 })
    assert.equal((await server.call('POST', '/checkout_vm', AS_ADMIN)).status, 201)
    assert.equal((await reset(AS_ADMIN)).status, 201)
    const events = await log()
    assert.equal(events.length, 1)
    const [first] = events
    assert.ok(first !== undefined)
    assert.equal(first.type, 'installation.reset')
    assert.equal(first.actorId, 1)
    assert.equal(first.requestId, 'r-1')
    assert.ok(first.atMs > 0)
    assert.equal(first.data?.users, 3)
    assert.equal(first.data?.vms, 3)
  })

  it('no names, e-mails or passwords outlive it', async () => {
    assert.doesNotMatch(JSON.stringify(await log()), /ada|user2|example\.org|argon2/i)
  })

  it('a reset that is refused leaves the log as it is', async () => {
    await seed(server, { users: 0, machines: 0 })
    const before = await log()
    assert.equal((await reset(undefined)).status, 401)
    assert.equal((await reset(auth(1, 'wrong'))).status, 401)
    assert.deepEqual(await log(), before)
  })
})
