/**
 * A reset that was begun is finished, even if the process is killed in the middle of it: the next server on the folder does
 * the rest by itself, without being asked. Its clock runs faster, so that the dead server's claims run out soon.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { auditDatabase, readDatabase } from '../support/audit.ts'
import { rawRequest } from '../support/raw-request.ts'
import { startServerProcess, temporaryFolder, until } from '../support/server-process.ts'
import { ADMIN, AS_ADMIN, auth, startTestServer } from '../support/test-server.ts'
import { timeLapse } from '../support/time-lapse.ts'

const MACHINES = 5_000
const SPEED = 40
const USER = { name: 'Bob', email: 'bob@example.org', password: 'bob-pw' }

/** What is in the database at a moment of a reset. */
interface Moment {
  readonly state: string
  readonly standing: number
  readonly deleting: number
}

function momentIn(data: string): Moment {
  return readDatabase(data, (all) => {
    const [row] = all(
      `SELECT state, (SELECT count(*) FROM vm WHERE state <> 'deleting') AS standing,
         (SELECT count(*) FROM vm WHERE state = 'deleting') AS deleting FROM installation`,
    )
    assert.ok(row)
    return { state: String(row.state), standing: Number(row.standing), deleting: Number(row.deleting) }
  })
}

const MOMENTS: Record<string, (moment: Moment) => boolean> = {
  'when it has just begun': ({ state }) => state === 'resetting',
  'when all machines are marked': ({ standing }) => standing === 0,
  'when some machines are gone': ({ standing, deleting }) => standing + deleting < MACHINES,
}

describe(`killed during the reset of ${MACHINES} machines`, () => {
  for (const [when, isNow] of Object.entries(MOMENTS))
    it(`${when}: the next server finishes it, and the installation is as on its first day`, async () => {
      const data = await temporaryFolder()
      const first = await startServerProcess({ data })
      const call = async (path: string, body: object) => {
        const reply = await first.call('POST', path, body)
        assert.equal(reply.status, 201, JSON.stringify(reply.body))
      }
      await call('/user', ADMIN)
      await call('/user', { ...AS_ADMIN, ...USER })
      await call('/create_resource_pool', { ...AS_ADMIN, pool_size: MACHINES })
      await call('/checkout_vm', auth(2, USER.password))
      await call('/checkout_vm', { ...AS_ADMIN, vmid: MACHINES })
      await call('/checkin_vm', { ...AS_ADMIN, vmid: MACHINES })
      first.kill('SIGTERM')
      assert.deepEqual(await first.exited, { code: 0, signal: null })

      // Destroying takes a while, and fails on every third machine at first.
      const slow = ['--simulated-delay-ms', '300', '--simulated-fault-rate', '0.3']
      const server = await startServerProcess({ data, args: ['--provider-seconds-max', '2', ...slow] })
      const reset = rawRequest(server.url, {
        method: 'GET',
        path: '/truncate_tables',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(AS_ADMIN),
      }).then(
        ({ text }) => assert.fail(`answered ${text}, although the server was to be killed before`),
        () => {},
      )
      await until(() => isNow(momentIn(data)))
      server.kill('SIGKILL')
      assert.deepEqual(await server.exited, { code: null, signal: 'SIGKILL' })
      await reset
      const moment = momentIn(data)
      assert.equal(moment.state, 'resetting', 'the server was killed too late')
      assert.ok(moment.standing + moment.deleting > 0, 'the server was killed too late')

      const settings = { data, providerSecondsMax: 2 }
      const next = await startTestServer(settings, { schedule: timeLapse(SPEED) })
      try {
        await until(async () => (await next.berth.reads.installation()).state === 'open')
        const [event, ...others] = await next.berth.reads.events({ afterId: 0, rowsMax: 100 })
        assert.ok(event)
        assert.deepEqual(
          { type: event.type, actorId: event.actorId, users: event.data?.users, vms: event.data?.vms },
          { type: 'installation.reset', actorId: 1, users: 2, vms: MACHINES },
        )
        assert.deepEqual(others, [])
        assert.deepEqual((await next.call('GET', '/user')).body, { User_Details: '[]' })
        assert.deepEqual((await next.call('GET', '/vmdetails')).body, { VM_details: '[]' })
        assert.deepEqual((await next.call('GET', '/vmpoolsize')).body, { 'vm pool size': '0' })
        // The old admin is nobody, and ids start at 1 again.
        const old = await next.call('POST', '/create_resource_pool', { ...AS_ADMIN, pool_size: 3 })
        assert.deepEqual(old.body, { message: 'Please create user first.' })
        const first = await next.call('POST', '/user', USER)
        assert.equal(first.status, 201, JSON.stringify(first.body))
        const auth1 = auth(1, USER.password)
        const made = await next.call('POST', '/create_resource_pool', { ...auth1, pool_size: 3 })
        assert.deepEqual(made.body, { message: 'Resources Created.' })
        const { VM_details } = (await next.call('GET', '/vmdetails')).body
        assert.deepEqual(Object.keys(VM_details), ['1', '2', '3'])
      } finally {
        await next.stop()
      }
      auditDatabase(data)
    })
})
