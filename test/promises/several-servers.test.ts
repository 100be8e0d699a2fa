/**
 * Two servers on one PostgreSQL are one Berth to their users: what one was told the other knows, at once where it matters and
 * within moments elsewhere, and work that is under way on one is not done by the other.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { dropSchema, queryPostgres, temporarySchema, testPostgresUrl } from '../support/postgres.ts'
import { until } from '../support/server-process.ts'
import { ADMIN, AS_ADMIN, auth, seed, startTestServer, type TestServer } from '../support/test-server.ts'

/** Two servers on a new schema, with an admin, users 2 and 3, and eight machines. */
async function withServers(
  settings: Parameters<typeof startTestServer>[0],
  test: (a: TestServer, b: TestServer, schema: string) => Promise<void>,
): Promise<void> {
  const schema = await temporarySchema()
  const where = { database: [testPostgresUrl()], databaseSchema: schema, ...settings }
  const [a, b] = await Promise.all([startTestServer(where), startTestServer(where)])
  try {
    await test(a, b, schema)
  } finally {
    await Promise.all([a.stop(), b.stop()])
    await dropSchema(schema)
  }
}

const BOB = auth(2, 'pw-2')

describe('what one server was told, another knows', () => {
  it('at once: users, machines, sizes and who holds what', () =>
    withServers({}, async (a, b) => {
      await seed(a, { users: 2, machines: 8 })
      const { status, body } = await b.call('POST', '/checkout_vm', BOB)
      assert.equal(status, 201)
      const vmid = body['VM Details']['vm-Id']
      const held = await a.call('GET', '/vmdetails/maped_to/user2@example.org')
      assert.deepEqual(Object.keys(held.body.VM_details), [`${vmid}`])
      assert.equal((await a.call('POST', '/checkin_vm', { ...auth(3, 'pw-3'), vmid })).status, 401)
      assert.equal((await a.call('POST', '/checkin_vm', { ...BOB, vmid })).status, 201)
      assert.equal((await b.call('POST', '/maintenance', { ...AS_ADMIN, vmid })).status, 201)
      assert.equal((await b.call('POST', '/resizevmpool', { ...AS_ADMIN, pool_size: 3 })).status, 200)
      assert.deepEqual((await a.call('GET', '/vmpoolsize')).body, { 'vm pool size': '3' })
    }))

  it('a password that was changed is refused at once, and no longer remembered within moments', () =>
    withServers({}, async (a, b) => {
      await seed(a, { users: 2, machines: 8 })
      assert.equal((await b.call('POST', '/checkout_vm', BOB)).status, 201)
      assert.notEqual(b.berth.credentials.remembered(2, 'pw-2'), null)
      const change = { ...AS_ADMIN, id: 2, password: 'new-pw' }
      assert.equal((await a.call('PATCH', '/user', change)).status, 200)
      assert.equal((await b.call('POST', '/checkout_vm', BOB)).status, 401)
      assert.equal((await b.call('POST', '/checkout_vm', auth(2, 'new-pw'))).status, 201)
      await until(() => b.berth.credentials.remembered(2, 'pw-2') === null)
    }))

  it('what is remembered is forgotten without any call to the other server', () =>
    withServers({}, async (a, b) => {
      await seed(a, { users: 2, machines: 8 })
      assert.equal((await b.call('POST', '/checkout_vm', BOB)).status, 201)
      const change = { ...AS_ADMIN, id: 2, password: 'new-pw' }
      assert.equal((await a.call('PATCH', '/user', change)).status, 200)
      await until(() => b.berth.credentials.remembered(2, 'pw-2') === null)
    }))

  it('a user who was deleted is nobody, and their machines come back', () =>
    withServers({}, async (a, b) => {
      await seed(a, { users: 2, machines: 8 })
      assert.equal((await b.call('POST', '/checkout_vm', BOB)).status, 201)
      assert.equal((await a.call('DELETE', '/user/id/2', AS_ADMIN)).status, 200)
      assert.equal((await b.call('POST', '/checkout_vm', BOB)).status, 400)
      const { body } = await b.call('GET', '/create_resource_pool/basicstats')
      assert.equal(body['Pool Stats'].VM_under_maintenance_in_Pool, 1)
    }))

  it('a reset makes both begin anew', () =>
    withServers({ allowReset: true }, async (a, b) => {
      await seed(a, { users: 2, machines: 8 })
      assert.equal((await b.call('POST', '/checkout_vm', BOB)).status, 201)
      assert.equal((await a.call('GET', '/truncate_tables')).status, 201)
      assert.deepEqual((await b.call('GET', '/user')).body, { User_Details: '[]' })
      assert.deepEqual((await b.call('GET', '/vmpoolsize')).body, { 'vm pool size': '0' })
      await until(() => b.berth.credentials.remembered(2, 'pw-2') === null)
      assert.equal((await b.call('POST', '/user', ADMIN)).status, 201)
      const { body } = await a.call('GET', '/user/id/1')
      assert.equal(body.User_Details[1].email, ADMIN.email)
    }))
})

describe('whoever waits on one server', () => {
  it('is told what another one granted', () =>
    withServers({}, async (a, b) => {
      await seed(a, { users: 2, machines: 1 })
      await until(
        async () =>
          (await b.call('GET', '/create_resource_pool/basicstats')).body['Pool Stats'].free_VM_in_pool === 1,
      )
      const as = async (server: TestServer, id: number) => {
        const credentials = { email: `user${id}@example.org`, password: `pw-${id}` }
        const { body } = await server.call('POST', '/api/v1/tokens', credentials)
        return { authorization: `Bearer ${body.token}` }
      }
      const [bob, eve] = [await as(a, 2), await as(b, 3)]
      const wish = { pool: 'default', duration: 'PT1H' }
      const held = await b.call('POST', '/api/v1/leases', wish, eve)
      assert.equal(held.status, 201, JSON.stringify(held.body))
      const queued = await a.call('POST', '/api/v1/leases', { ...wish, wait: 'PT1H' }, bob)
      assert.equal(queued.status, 202, JSON.stringify(queued.body))
      const at = `/api/v1/requests/${queued.body.request.id}`
      const answer = a.call('GET', `${at}?wait=PT30S`, undefined, bob)
      await until(() => a.berth.waits.count === 1)
      await b.call('DELETE', `/api/v1/leases/${held.body.leases[0].id}`, undefined, eve)
      const { id } = held.body.leases[0].machine
      assert.equal((await b.call('POST', '/maintenance', { ...AS_ADMIN, vmid: id })).status, 201)
      assert.equal((await answer).body.state, 'granted')
    }))
})

describe('the work of two servers', () => {
  it('is shared by claims: no machine is made or cleaned twice, and a pool grows to its size', () =>
    withServers({ poolCleaning: 'automatic', simulatedDelayMs: 20 }, async (a, b, schema) => {
      await seed(a, { users: 2, machines: 40 })
      for (let round = 0; round < 5; round++) {
        const given = await Promise.all(
          Array.from({ length: 20 }, (_, i) => (i % 2 ? a : b).call('POST', '/checkout_vm', BOB)),
        )
        const ids = given.map(({ status, body }) => {
          assert.equal(status, 201, JSON.stringify(body))
          return body['VM Details']['vm-Id']
        })
        assert.equal(new Set(ids).size, ids.length)
        for (const vmid of ids)
          assert.equal((await b.call('POST', '/checkin_vm', { ...BOB, vmid })).status, 201)
        await until(async () => {
          const { body } = await a.call('GET', '/create_resource_pool/basicstats')
          return body['Pool Stats'].free_VM_in_pool === 40
        })
      }
      const ranges = async (type: string) =>
        (await queryPostgres(`SELECT data FROM event WHERE type = '${type}'`, schema)).flatMap(
          ({ data }) => JSON.parse(String(data)).vms as [number, number][],
        )
      const count = (list: [number, number][]) => list.reduce((sum, [from, to]) => sum + to - from + 1, 0)
      assert.equal(count(await ranges('vm.made')), 40)
      assert.equal(count(await ranges('vm.cleaned')), 5 * 20)
    }))
})

describe('an API token', () => {
  const v1 = (server: TestServer, token: string) => {
    return (method: string, path: string, body?: unknown, headers = {}) =>
      server.call(method, `/api/v1${path}`, body, { authorization: `Bearer ${token}`, ...headers })
  }
  const signIn = async (server: TestServer) => {
    const { email, password } = ADMIN
    return (await server.call('POST', '/api/v1/tokens', { email, password })).body as {
      id: string
      token: string
    }
  }

  it('that was revoked on one server changes nothing on the other, at once, and is forgotten there within moments', () =>
    withServers({}, async (a, b) => {
      await seed(a, { users: 1, machines: 0 })
      const { id, token } = await signIn(a)
      assert.equal((await v1(b, token)('GET', '/users/me')).status, 200)
      assert.notEqual(b.berth.tokens.remembered(token), null)
      assert.equal((await v1(a, token)('DELETE', `/tokens/${id}`)).status, 204)
      const refused = await v1(b, token)('POST', '/pools', { name: 'lab' })
      assert.deepEqual([refused.status, refused.body.code], [401, 'token_invalid'])
      await until(() => b.berth.tokens.remembered(token) === null)
      assert.equal((await v1(b, token)('GET', '/users/me')).status, 401)
    }))

  it('and a key that is sent to both servers at once have one effect and one answer', () =>
    withServers({}, async (a, b, schema) => {
      await seed(a, { users: 1, machines: 0 })
      const { token } = await signIn(a)
      for (let round = 0; round < 5; round++) {
        const call = (server: TestServer) =>
          v1(server, token)(
            'POST',
            '/tokens',
            { name: `round ${round}` },
            { 'idempotency-key': `key ${round}`.replace(' ', '-') },
          )
        const answers = await Promise.all([a, b, a, b].map(call))
        for (const { status, body } of answers)
          assert.deepEqual([status, body.id], [201, answers[0]?.body.id])
        const shown = answers.filter(({ body }) => body.token !== null)
        assert.equal(shown.length, 1, 'the secret is shown once')
      }
      const [row] = await queryPostgres(`SELECT count(*) AS n FROM token WHERE name LIKE 'round %'`, schema)
      assert.equal(Number(row?.n), 5)
    }))
})
