/**
 * The original API's contract as tables. A row says: who sends what, and what must come back, to the letter. The rows of a
 * table run in order on one installation, so a table can also tell a story. What a row must leave behind in the event log
 * stands last; a row that names nothing must leave nothing, and so must every refusal.
 */
import assert from 'node:assert/strict'
import { Agent } from 'node:http'
import { after, before, describe, it } from 'node:test'
import type { ServeSettings } from '../../src/cli/settings.ts'
import type { EventType } from '../../src/domain/event.ts'
import { VM_TYPE_NAMES } from '../../src/domain/vm-type.ts'
import { simulatedProvider } from '../../src/provider/simulated.ts'
import { START_DATE, testClock } from './clock.ts'
import { rawRequest } from './raw-request.ts'
import { rememberHashes } from './remembered-hashes.ts'
import { ADMIN, AS_ADMIN, auth, SETTINGS, seed, startTestServer, type TestServer } from './test-server.ts'

export { AS_ADMIN }

/** What an installation looks like before the first row; null: nobody and nothing there. */
type Given = {
  /** Users beside the admin (id 1); their ids begin at 2. */
  readonly users?: number
  /** 0: no pool. */
  readonly machines?: number
  /** Machine id → id of the user who holds it. */
  readonly held?: Readonly<Record<number, number>>
  /** Machines under maintenance. */
  readonly aside?: readonly number[]
} | null

type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE' | 'PUT' | 'HEAD' | 'OPTIONS'

export type Row = readonly [
  name: string,
  /** Keys that are put into the body before `body`: credentials; null: none. */
  who: object | null,
  call: `${Method} /${string}`,
  /** An object is sent as JSON with `who`; a `Raw` as it is; null: nothing beside `who`. */
  body: object | null,
  status: number,
  /** Compared whole; a function checks for itself. */
  answer: unknown,
  /** The types of the events that this call itself recorded. */
  events?: readonly EventType[],
]

/** A body that is sent as it is. */
class Raw {
  readonly text: string | undefined
  readonly contentType: string | null
  constructor(text: string | undefined, contentType: string | null) {
    this.text = text
    this.contentType = contentType
  }
}

export function raw(text: string | undefined, contentType: string | null = 'application/json'): Raw {
  return new Raw(text, contentType)
}

/** An answer of Berth's own: one key `message`, with a text like this. */
export function says(pattern: RegExp): (body: unknown) => void {
  return (body) => {
    assert.ok(typeof body === 'object' && body !== null)
    assert.deepEqual(Object.keys(body), ['message'])
    assert.match((body as { message: string }).message, pattern)
  }
}

/** A list of exactly these ids, in this order, whatever else its rows say. */
export function lists(key: string, ids: readonly number[]): (body: unknown) => void {
  return (body) => {
    assert.deepEqual(Object.keys(body as object), [key])
    const rows = (body as Record<string, Record<string, { id: number }>>)[key]
    assert.deepEqual(
      Object.entries(rows ?? {}).map(([id, row]) => [id, row.id]),
      ids.map((id) => [`${id}`, id]),
    )
  }
}

export const ADA = { ...ADMIN, id: 1 }
export const USER_2 = { id: 2, name: 'User 2', email: 'user2@example.org', password: 'pw-2' }
export const USER_3 = { id: 3, name: 'User 3', email: 'user3@example.org', password: 'pw-3' }
export const AS_USER_2 = auth(2, USER_2.password)
export const AS_USER_3 = auth(3, USER_3.password)
export const ADMIN_WRONG = auth(1, 'wrong')
export const USER_2_WRONG = auth(2, 'wrong')
/** Credentials of a user who never existed. */
export const STRANGER = auth(99, 'pw-99')

/** Every way in which credentials can be there only in part. */
export const PARTIAL_AUTHS: readonly (readonly [name: string, who: object | null])[] = [
  ['no auth', null],
  ['auth null', { auth: null }],
  ['auth a text', { auth: 'ada-pw' }],
  ['auth a number', { auth: 1 }],
  ['auth a list', { auth: [1, 'ada-pw'] }],
  ['auth empty', { auth: {} }],
  ['auth without userid', { auth: { password: 'ada-pw' } }],
  ['auth without password', { auth: { userid: 1 } }],
  ['userid null', { auth: { userid: null, password: 'ada-pw' } }],
  ['userid a word', { auth: { userid: 'ada', password: 'ada-pw' } }],
  ['userid an empty text', { auth: { userid: '', password: 'ada-pw' } }],
  ['userid a boolean', { auth: { userid: true, password: 'ada-pw' } }],
  ['userid a list', { auth: { userid: [1], password: 'ada-pw' } }],
  ['userid a fraction', { auth: { userid: 1.5, password: 'ada-pw' } }],
  ['password null', { auth: { userid: 1, password: null } }],
  ['password a number', { auth: { userid: 1, password: 1 } }],
  ['password an object', { auth: { userid: 1, password: {} } }],
]

/** The answer to `PARTIAL_AUTHS`. */
export const AUTH_MISSING = { message: 'auth parameters missing' }

/** `user` as the lists show it. */
export function userRow({ id, name, email }: { id: number; name: string; email: string }) {
  return { id, name, email }
}

/** `user` as the answers to checkout show it. */
export function userKeys({ id, name, email }: { id: number; name: string; email: string }) {
  return { 'user-Id': id, 'User-name': name, 'user-email': email }
}

const MADE = await simulatedProvider({
  seed: SETTINGS.simulatedSeed,
  delayMs: 0,
  faultRate: 0,
  sleep: async () => {},
}).make(
  Array.from({ length: 12 }, (_, i) => ({
    vmId: i + 1,
    pool: 'default',
    name: '',
    type: 'small',
    address: '',
  })),
  new AbortController().signal,
)

/** A machine of a pool that was made in one go. */
function machine(id: number): { name: string; address: string; type: string } {
  const made = MADE[id - 1]
  const type = VM_TYPE_NAMES[(id - 1) % VM_TYPE_NAMES.length]
  assert.ok(made?.ok && type !== undefined)
  return { ...made.value, type }
}

/** Machine `id` as the lists show it. */
export function vmRow(id: number, mapTo: string) {
  const { name, address, type } = machine(id)
  return {
    id,
    vm_name: name,
    vm_type: type,
    vm_ip: address,
    vm_Status: 'running',
    vm_map_to: mapTo,
    date_created: START_DATE,
  }
}

/** Machine `id` as the answers to checkout, check-in and maintenance show it. */
export function vmKeys(id: number) {
  const { name, address, type } = machine(id)
  return { 'vm-Id': id, hostname: name, 'ip-address': address, 'vm type': type }
}

export function checkedOut(id: number, user: { id: number; name: string; email: string }) {
  return { message: 'VM checkout complete.', 'VM Details': vmKeys(id), 'User Details': userKeys(user) }
}

export function checkedIn(id: number) {
  return { message: 'VM checkin complete.', 'VM Details': { ...vmKeys(id), 'VM tagged to': 'maintenance' } }
}

export function backInPool(id: number) {
  return { message: 'VM ready to use and available in pool.', 'VM Details': vmKeys(id) }
}

/** The whole answer of a list with these rows. */
export function listOf(key: string, rows: readonly { id: number }[]) {
  return { [key]: Object.fromEntries(rows.map((row) => [row.id, row])) }
}

export function vmList(...rows: readonly (readonly [id: number, mapTo: string])[]) {
  return listOf(
    'VM_details',
    rows.map(([id, mapTo]) => vmRow(id, mapTo)),
  )
}

export function stats(free: number, maintenance: number, allocated: number) {
  return {
    'Pool Stats': {
      total_VM_count_in_pool: `${free + maintenance + allocated}`,
      free_VM_in_pool: free,
      VM_under_maintenance_in_Pool: maintenance,
      allocated_VM_in_Pool: allocated,
    },
  }
}

/** The clock is put forward after a guess, so that wrong passwords fade and later rows are not slowed down. */
const AFTER_GUESS_MS = 120_000

interface Contract {
  /** Adds a table: its rows run in order on an installation that begins as `given`. */
  table(title: string, given: Given, rows: readonly Row[]): void
}

/** Starts a server for the tables of a test file. */
export function contract(settings: Partial<ServeSettings> = {}): Contract {
  const clock = testClock()
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  let server: TestServer
  let requests = 0
  before(async () => {
    server = await startTestServer({ allowReset: true, ...settings }, { schedule: clock.schedule })
    rememberHashes(server.berth.hasher)
  })
  after(async () => {
    agent.destroy()
    await server.stop()
  })

  async function run([, who, call, body, status, answer, events = []]: Row): Promise<void> {
    const [method, path] = call.split(' ') as [string, string]
    const requestId = `row-${++requests}`
    const sent =
      body instanceof Raw
        ? body
        : who === null && body === null
          ? raw(undefined, null)
          : raw(JSON.stringify({ ...who, ...body }))
    const reply = await rawRequest(server.url, {
      method,
      path,
      agent,
      body: sent.text,
      headers: {
        'x-request-id': requestId,
        ...(sent.contentType === null ? {} : { 'content-type': sent.contentType }),
      },
    })
    if (reply.status === 401 || who === STRANGER) clock.skip(AFTER_GUESS_MS)
    const got = reply.text === '' ? null : JSON.parse(reply.text)
    assert.equal(reply.status, status, `${call} answered ${reply.status} ${reply.text}`)
    if (status === 405) assert.match(reply.headers.allow ?? '', /^[A-Z]+(, [A-Z]+)*$/)
    if (method !== 'HEAD') {
      assert.match(reply.headers['content-type'] ?? '', /^application\/json\b/)
      if (typeof answer === 'function') answer(got)
      else assert.deepEqual(got, answer)
    }
    const log = await server.berth.reads.events({ afterId: 0, rowsMax: 10_000 })
    const recorded = log.filter((event) => event.requestId === requestId).map((event) => event.type)
    assert.deepEqual(recorded, events, 'the events that this call recorded')
  }

  async function arrange(given: Given): Promise<void> {
    const body = JSON.stringify(AS_ADMIN)
    const wiped = await rawRequest(server.url, { method: 'GET', path: '/truncate_tables', body, agent })
    assert.equal(wiped.status, 201, wiped.text)
    if (given === null) return
    const { users = 0, machines = 0, held = {}, aside = [] } = given
    await seed(server, { users, machines })
    const take = async (vmid: number, who: object) =>
      assert.equal((await server.call('POST', '/checkout_vm', { ...who, vmid })).status, 201)
    for (const [vmid, userId] of Object.entries(held))
      await take(Number(vmid), userId === 1 ? AS_ADMIN : auth(userId, `pw-${userId}`))
    for (const vmid of aside) {
      await take(vmid, AS_ADMIN)
      assert.equal((await server.call('POST', '/checkin_vm', { ...AS_ADMIN, vmid })).status, 201)
    }
  }

  return {
    table(title, given, rows) {
      describe(title, () => {
        before(() => arrange(given))
        for (const row of rows) it(`${short(row[2])}: ${row[0]}`, () => run(row))
      })
    },
  }
}

function short(call: string): string {
  return call.length <= 80 ? call : `${call.slice(0, 80)}…`
}
