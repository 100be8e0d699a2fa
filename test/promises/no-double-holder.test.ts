/**
 * A machine never has two holders at once: many clients reach for the same machines at the same moment, each over a
 * connection of its own, and exactly as many succeed as there are machines. With batches as they are by default, and with
 * tiny ones, so that the clients' commands are spread over many transactions.
 */
import assert from 'node:assert/strict'
import { Agent } from 'node:http'
import { after, before, describe, it } from 'node:test'
import { LANE_SETTINGS, type LaneSettings } from '../../src/service/lane.ts'
import { auditDatabase } from '../support/audit.ts'
import { rawRequest } from '../support/raw-request.ts'
import { AS_ADMIN, auth, seed, startTestServer, type TestServer } from '../support/test-server.ts'

const CLIENTS = 64
/** Each user calls from several clients: what counts is the machine, not who asks. */
const USERS = 16
const ROUNDS = 20
const FREE = 10
const MACHINES = 30

const NONE_FREE = { message: "No VM's are available in pool for checkout.Please retry after some time." }
const NOT_FREE = { message: 'VM not available for use,Please select another VM.' }
const NOT_HOLDER = {
  message:
    'Unauthorized! Only Owner can check in the VM back to pool.Or you tried to check in someone else VM. ',
}

const LANES: Record<string, LaneSettings> = {
  'batches of 256': LANE_SETTINGS,
  'batches of 3': { ...LANE_SETTINGS, batchMax: 3, eagerMin: 1 },
}

interface Answer {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

interface Client {
  readonly userId: number
  readonly email: string
  readonly credentials: object
}

const clients = Array.from({ length: CLIENTS }, (_, i): Client => {
  const userId = 2 + (i % USERS)
  return { userId, email: `user${userId}@example.org`, credentials: auth(userId, `pw-${userId}`) }
})

for (const [title, lane] of Object.entries(LANES))
  describe(`with ${title}`, () => {
    const agent = new Agent({ keepAlive: true, maxSockets: CLIENTS })
    let server: TestServer

    before(async () => {
      server = await startTestServer({}, { lane })
      await seed(server, { users: USERS, machines: MACHINES })
      for (let vmid = 1; vmid <= MACHINES - FREE; vmid++)
        assert.equal((await post('/checkout_vm', { ...AS_ADMIN, vmid })).status, 201)
      // The first call of a user checks the password; from now on it is remembered, and all clients are equally quick.
      const users = clients.slice(0, USERS)
      await Promise.all(users.map(({ credentials }) => post('/checkin_vm', { ...credentials, vmid: 1 })))
    })
    after(async () => {
      agent.destroy()
      await server.stop()
    })

    async function post(path: string, body: object): Promise<Answer> {
      const headers = { 'content-type': 'application/json' }
      const text = JSON.stringify(body)
      const reply = await rawRequest(server.url, { method: 'POST', path, headers, body: text, agent })
      return { status: reply.status, body: JSON.parse(reply.text) }
    }

    const statuses = (answers: readonly Answer[], status: number) =>
      answers.filter((answer) => answer.status === status)

    /** Who holds which machine, as the server lists it, without the admin's. */
    async function holders(): Promise<[vmId: number, email: string][]> {
      const { VM_details } = (await server.call('GET', '/vmdetails')).body
      return Object.values(VM_details as Record<string, { id: number; vm_map_to: string }>)
        .filter(({ id }) => id > MACHINES - FREE)
        .map(({ id, vm_map_to }) => [id, vm_map_to] as [number, string])
        .filter(([, email]) => email !== 'idle')
    }

    async function giveBack(vmid: number, { credentials }: Client): Promise<void> {
      assert.equal((await post('/checkin_vm', { ...credentials, vmid })).status, 201)
      assert.equal((await post('/maintenance', { ...AS_ADMIN, vmid })).status, 201)
    }

    it('64 clients on the last 10 machines: exactly 10 get one each, all others are refused', async () => {
      for (let round = 0; round < ROUNDS; round++) {
        const answers = await Promise.all(clients.map(({ credentials }) => post('/checkout_vm', credentials)))
        for (const { status, body } of answers) if (status !== 201) assert.deepEqual(body, NONE_FREE)
        assert.equal(statuses(answers, 201).length, FREE)
        assert.equal(statuses(answers, 400).length, CLIENTS - FREE)
        const got = clients.flatMap((client, i) => {
          const details = answers[i]?.body['VM Details'] as { 'vm-Id': number } | undefined
          return details === undefined ? [] : [{ client, vmId: details['vm-Id'] }]
        })
        assert.equal(new Set(got.map(({ vmId }) => vmId)).size, FREE, 'a machine was given out twice')
        assert.deepEqual(
          new Map(got.map(({ client, vmId }) => [vmId, client.email])),
          new Map(await holders()),
        )
        await Promise.all(got.map(({ client, vmId }) => giveBack(vmId, client)))
        assert.deepEqual(await holders(), [])
      }
    })

    it('32 clients on one named machine: exactly one gets it, all others are refused', async () => {
      for (let round = 0; round < ROUNDS; round++) {
        const vmid = MACHINES - (round % FREE)
        const some = clients.slice(0, 32)
        const answers = await Promise.all(
          some.map(({ credentials }) => post('/checkout_vm', { ...credentials, vmid })),
        )
        const winners = some.filter((_, i) => answers[i]?.status === 201)
        const [winner] = winners
        assert.ok(winner)
        assert.equal(winners.length, 1)
        for (const { status, body } of answers)
          if (status !== 201) assert.deepEqual({ status, body }, { status: 400, body: NOT_FREE })
        assert.deepEqual(await holders(), [[vmid, winner.email]])
        await giveBack(vmid, winner)
      }
    })

    it('one machine checked in 16 times at once by its holder: exactly one check-in is taken', async () => {
      for (let round = 0; round < ROUNDS; round++) {
        const [client] = clients
        assert.ok(client)
        const vmid = MACHINES - (round % FREE)
        const held = { ...client.credentials, vmid }
        assert.equal((await post('/checkout_vm', held)).status, 201)
        const answers = await Promise.all(Array.from({ length: 16 }, () => post('/checkin_vm', held)))
        assert.equal(statuses(answers, 201).length, 1)
        for (const { status, body } of answers)
          if (status !== 201) assert.deepEqual({ status, body }, { status: 401, body: NOT_HOLDER })
        assert.equal((await post('/maintenance', { ...AS_ADMIN, vmid })).status, 201)
      }
    })

    it('check-ins, the way back to the pool and checkouts at once: each machine goes from holder to holder', async () => {
      // Every client takes a machine when it can and gives it back at once: the answers must alternate for each machine.
      const heldBy = new Map<number, string>()
      const cycle = async ({ credentials, email }: Client) => {
        for (let i = 0; i < 5; i++) {
          const { status, body } = await post('/checkout_vm', credentials)
          if (status !== 201) continue
          const vmid = (body['VM Details'] as { 'vm-Id': number })['vm-Id']
          assert.equal(heldBy.get(vmid), undefined, `machine ${vmid} was given to ${email} too`)
          heldBy.set(vmid, email)
          const back = post('/checkin_vm', { ...credentials, vmid })
          assert.equal((await back).status, 201)
          heldBy.delete(vmid)
          assert.equal((await post('/maintenance', { ...AS_ADMIN, vmid })).status, 201)
        }
      }
      await Promise.all(clients.map(cycle))
      assert.deepEqual(await holders(), [])
    })

    it('afterwards the leases of each machine follow each other without overlap', () => {
      auditDatabase(server.folder)
    })
  })
