/**
 * What was answered with success survives kill -9. The real server runs under load while every client writes down what it
 * was answered; the process is killed at a random moment, the database is audited, the server is started again on the same
 * folder, and what it says is compared with what the clients know. Only a call that was not answered may have gone either way.
 */
import assert from 'node:assert/strict'
import { Agent } from 'node:http'
import { it } from 'node:test'
import { mulberry32 } from '../../src/provider/simulated.ts'
import { auditDatabase } from '../support/audit.ts'
import { rawRequest } from '../support/raw-request.ts'
import { type ServerProcess, startServerProcess, temporaryFolder, until } from '../support/server-process.ts'
import { ADMIN, AS_ADMIN, auth } from '../support/test-server.ts'

const ROUNDS = 20
const CLIENTS = 32
const USERS = 8
const SIZE_MIN = 28
const SIZE_MAX = 48
const ANSWERS_MAX = 600

/** One that was printed by a failure, to have its draws again. */
const SEED = Number(process.env.BERTH_TEST_SEED ?? Date.now() % 1_000_000)

type Call =
  | { readonly what: 'checkout' }
  | { readonly what: 'checkin' | 'maintenance'; readonly vmId: number }
  | { readonly what: 'create user'; readonly email: string }
  | { readonly what: 'resize'; readonly size: number }

interface Client {
  readonly credentials: object
  readonly email: string
  /** The machine that it was given, and has not brought back to the pool yet. */
  vm: { readonly id: number; readonly place: 'held' | 'maintenance' } | null
  /** The call that was sent and not answered. */
  inFlight: Call | null
}

/** What all clients together know. */
interface Ledger {
  size: number
  readonly emails: Set<string>
}

const user = (id: number) => ({ name: `User ${id}`, email: `user${id}@example.org`, password: `pw-${id}` })

it(`${ROUNDS} times killed under load, nothing that was answered is lost (seed ${SEED})`, async () => {
  const random = mulberry32(SEED)
  const data = await temporaryFolder()
  const clients = Array.from({ length: CLIENTS }, (_, i): Client => {
    const id = 2 + (i % USERS)
    return { credentials: auth(id, user(id).password), email: user(id).email, vm: null, inFlight: null }
  })
  const ledger: Ledger = { size: SIZE_MAX, emails: new Set([ADMIN.email]) }
  let round = 0
  try {
    let server = await start(data)
    await must(201, server.call('POST', '/user', ADMIN))
    for (let id = 2; id < 2 + USERS; id++) {
      await must(201, server.call('POST', '/user', { ...AS_ADMIN, ...user(id) }))
      ledger.emails.add(user(id).email)
    }
    await must(201, server.call('POST', '/create_resource_pool', { ...AS_ADMIN, pool_size: SIZE_MAX }))
    for (round = 1; round <= ROUNDS; round++) {
      await loadAndKill(server, clients, ledger, random, round)
      auditDatabase(data)
      server = await start(data)
      await compare(server, clients, ledger)
    }
    server.kill('SIGTERM')
    assert.deepEqual(await server.exited, { code: 0, signal: null })
    auditDatabase(data)
  } catch (error) {
    throw new Error(
      `round ${round} with BERTH_TEST_SEED=${SEED}: ${error instanceof Error ? error.message : error}`,
      { cause: error },
    )
  }
})

function start(data: string): Promise<ServerProcess> {
  return startServerProcess({ data, args: ['--provider-seconds-max', '1'] })
}

async function must(status: number, reply: Promise<{ status: number; body: unknown }>): Promise<void> {
  const got = await reply
  assert.equal(got.status, status, JSON.stringify(got.body))
}

/** Lets all clients loose on the server, and kills it once it has given a random number of answers. */
async function loadAndKill(
  server: ServerProcess,
  clients: readonly Client[],
  ledger: Ledger,
  random: () => number,
  round: number,
): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: CLIENTS })
  const lastAnswer = 1 + Math.floor(random() * ANSWERS_MAX)
  /** Half the times at the very answer, else a little later. */
  const afterMs = Math.max(0, random() * 8 - 4)
  let answers = 0
  let killed = false
  const kill = () => {
    killed = true
    server.kill('SIGKILL')
  }

  /** Sends a call; null when the server was killed before it answered. */
  async function send(client: Client, call: Call, method: string, path: string, body: object) {
    client.inFlight = call
    try {
      const headers = { 'content-type': 'application/json' }
      const reply = await rawRequest(server.url, { method, path, headers, body: JSON.stringify(body), agent })
      client.inFlight = null
      if (++answers === lastAnswer) {
        if (afterMs === 0) kill()
        else setTimeout(kill, afterMs)
      }
      return { status: reply.status, body: JSON.parse(reply.text) }
    } catch (error) {
      if (killed) return null
      throw error
    }
  }

  async function step(client: Client, i: number): Promise<void> {
    const roll = random()
    // One client alone changes the size, so that what was answered last is what holds.
    if (i === 0 && roll < 0.2) {
      const size = SIZE_MIN + Math.floor(random() * (SIZE_MAX - SIZE_MIN + 1))
      const body = { ...AS_ADMIN, pool_size: size }
      const reply = await send(client, { what: 'resize', size }, 'POST', '/resizevmpool', body)
      if (reply?.status === 200) ledger.size = size
      else if (reply !== null) assert.match(reply.body.message, /currently in used VM/, JSON.stringify(reply))
    } else if (i === 1 && roll < 0.1) {
      const email = `made-${round}-${answers}@example.org`
      const body = { ...AS_ADMIN, name: 'Made', email, password: 'made-pw' }
      const reply = await send(client, { what: 'create user', email }, 'POST', '/user', body)
      if (reply === null) return
      assert.equal(reply.status, 201, JSON.stringify(reply.body))
      ledger.emails.add(email)
    } else if (client.vm === null) {
      const reply = await send(client, { what: 'checkout' }, 'POST', '/checkout_vm', client.credentials)
      if (reply?.status === 201) client.vm = { id: reply.body['VM Details']['vm-Id'], place: 'held' }
      else if (reply !== null) assert.match(reply.body.message, /^No VM's are available/)
    } else {
      const { id, place } = client.vm
      const [what, path, who, next] =
        place === 'held'
          ? (['checkin', '/checkin_vm', client.credentials, { id, place: 'maintenance' }] as const)
          : (['maintenance', '/maintenance', AS_ADMIN, null] as const)
      const reply = await send(client, { what, vmId: id }, 'POST', path, { ...who, vmid: id })
      if (reply === null) return
      assert.equal(reply.status, 201, `${what} of ${id}: ${JSON.stringify(reply)}`)
      client.vm = next
    }
  }

  // The first call of a user checks the password, which takes long; from then on it is remembered.
  const everybody = new Set([AS_ADMIN, ...clients.slice(0, USERS).map(({ credentials }) => credentials)])
  await Promise.all(
    Array.from(everybody, (who) => must(400, server.call('POST', '/maintenance', { ...who, vmid: 'none' }))),
  )
  await Promise.all(
    clients.map(async (client, i) => {
      while (!killed) await step(client, i)
    }),
  )
  const exit = await server.exited
  assert.deepEqual(exit, { code: null, signal: 'SIGKILL' }, server.stderr.join('\n'))
  agent.destroy()
}

/** Compares what the server says with what the clients know, and settles what was in flight by what came of it. */
async function compare(server: ServerProcess, clients: readonly Client[], ledger: Ledger): Promise<void> {
  const get = async (path: string) => {
    const { status, body } = await server.call('GET', path)
    assert.equal(status, 200, JSON.stringify(body))
    return body
  }

  // Users: all that were answered, and no others but those in flight.
  const users = Object.values((await get('/user')).User_Details as Record<string, { email: string }>)
  const emails = users.map(({ email }) => email)
  for (const { inFlight } of clients)
    if (inFlight?.what === 'create user' && emails.includes(inFlight.email)) ledger.emails.add(inFlight.email)
  assert.deepEqual(emails.sort(), [...ledger.emails].sort(), 'users')

  // The size: the last that was answered, or one in flight.
  const size = Number((await get('/vmpoolsize'))['vm pool size'])
  const sizes = clients.flatMap(({ inFlight }) => (inFlight?.what === 'resize' ? [inFlight.size] : []))
  assert.ok([ledger.size, ...sizes].includes(size), `size ${size}, answered was ${ledger.size}`)
  ledger.size = size

  // Counts: they add up at every moment, and reach the size. Machines are looked at when nothing changes around it.
  const rows = await until(async () => {
    const before = await get('/create_resource_pool/basicstats')
    const { VM_details } = await get('/vmdetails')
    const after = await get('/create_resource_pool/basicstats')
    const stats = before['Pool Stats']
    const { free_VM_in_pool: free, VM_under_maintenance_in_Pool: aside, allocated_VM_in_Pool: held } = stats
    assert.equal(Number(stats.total_VM_count_in_pool), free + aside + held)
    if (Number(stats.total_VM_count_in_pool) !== size) return null
    if (JSON.stringify(before) !== JSON.stringify(after)) return null
    const found = Object.values(VM_details as Record<string, { id: number; vm_map_to: string }>)
    assert.deepEqual(
      {
        free: found.filter(({ vm_map_to }) => vm_map_to === 'idle').length,
        aside: found.filter(({ vm_map_to }) => vm_map_to === 'maintenance').length,
        held: found.filter(({ vm_map_to }) => vm_map_to.includes('@')).length,
      },
      { free, aside, held },
    )
    return found
  })
  const mapped = new Map(rows.map((row) => [row.id, row.vm_map_to]))

  // Machines of clients: where the last answer put them, or where the call in flight would.
  for (const client of clients) {
    const { vm, inFlight, email } = client
    if (vm === null) continue
    const now = mapped.get(vm.id)
    if (vm.place === 'held') {
      const allowed = inFlight?.what === 'checkin' ? [email, 'maintenance'] : [email]
      assert.ok(now !== undefined && allowed.includes(now), `machine ${vm.id} of ${email}: ${now}`)
      if (now === 'maintenance') client.vm = { id: vm.id, place: 'maintenance' }
    } else if (inFlight?.what !== 'maintenance') {
      assert.equal(now, 'maintenance', `machine ${vm.id} was given back by ${email}`)
    } else {
      // It may have come back to the pool, and gone through somebody else's hands since.
      const others = clients.some((other) => other !== client && other.vm?.id === vm.id)
      if (now !== 'maintenance' || others) client.vm = null
    }
  }

  // Everybody who holds a machine was given it, or asked for one and was not answered.
  const known = new Set(clients.flatMap(({ vm }) => (vm?.place === 'held' ? [vm.id] : [])))
  assert.equal(
    known.size,
    clients.filter(({ vm }) => vm?.place === 'held').length,
    'one machine was given to two',
  )
  for (const [id, email] of mapped) {
    if (!email.includes('@') || known.has(id)) continue
    const asked = clients.find((client) => client.email === email && client.inFlight?.what === 'checkout')
    assert.ok(asked, `machine ${id} is held by ${email}, who did not ask for it`)
    asked.vm = { id, place: 'held' }
    asked.inFlight = null
  }
  for (const client of clients) client.inFlight = null
}
