/**
 * Real clients at work on several servers: each takes a machine, looks whether it is theirs, gives it back, and (where cleaning
 * is manual) has an admin bring it back to the pool, again and again. They go on whatever the servers do: a client that was not
 * answered asks what it holds, as somebody would, and goes on from there. Every call is written down as history.ts wants it.
 */
import { Agent } from 'node:http'
import { after } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Outcome, Place, RecordedCall } from './history.ts'
import { type RawReply, rawRequest } from './raw-request.ts'
import { AS_ADMIN, auth } from './test-server.ts'

export interface TrafficSettings {
  /** Where the servers are; a server that is started again is expected at the same place. */
  readonly urls: readonly string[]
  /** Each client is a user of its own: ids from 2. */
  readonly clients: number
  readonly vmIds: readonly number[]
  readonly cleaning: 'manual' | 'automatic'
  readonly random: () => number
  /** How long a client pauses between two calls, on the average. */
  readonly pauseMs: number
  /** How long a client waits for an answer. */
  readonly patienceMs: number
}

export const userOf = (id: number) => ({
  name: `User ${id}`,
  email: `user${id}@example.org`,
  password: `pw-${id}`,
})

/** How often a client asks for a certain machine instead of any. */
const NAMED_SHARE = 0.3
const LOOK_SHARE = 0.3
/** After a failure a client asks other servers for so long, and waits a little. */
const AVOID_MS = 500
const RETRY_MS = 25

type Sent =
  | { readonly outcome: 'done' | 'refused' | 'unavailable'; readonly body: Readonly<Record<string, unknown>> }
  | { readonly outcome: 'unknown' }

const atWork = new Set<Traffic>()

// A trial that failed leaves its clients at work, and the test would never end.
after(() => {
  for (const traffic of atWork) traffic.close()
})

export class Traffic {
  readonly calls: RecordedCall[] = []
  /** What 503 said, and how often. */
  readonly refusals = new Map<string, number>()
  readonly #clients: TrafficClient[]
  readonly #running: Promise<unknown>
  #failed: Error | null = null
  #stopping = false
  #servers: readonly number[]
  #requests = 0

  /** Begins at once. */
  constructor(settings: TrafficSettings) {
    this.#servers = settings.urls.map((_, i) => i)
    this.#clients = Array.from(
      { length: settings.clients },
      (_, i) => new TrafficClient(this, settings, 2 + i),
    )
    atWork.add(this)
    this.#running = Promise.all(
      this.#clients.map(async (client) => {
        while (!this.#stopping) await client.step()
      }),
    ).catch((error: Error) => {
      this.#failed = error
    })
  }

  /** Fails when a client met something that no client should. */
  check(): void {
    if (this.#failed !== null) throw this.#failed
  }

  /** When changes were answered with success, as performance.now() tells it, by one server or by any. */
  acknowledgedMs(server?: number): number[] {
    return this.calls
      .filter((call) => call.outcome === 'done' && call.what !== 'look')
      .filter((call) => server === undefined || call.server === server)
      .map(({ returnedAtMs }) => returnedAtMs)
  }

  count(outcome: Outcome): number {
    return this.calls.filter((call) => call.what !== 'look' && call.outcome === outcome).length
  }

  /** From now on only these servers are asked. */
  use(servers: readonly number[]): void {
    this.#servers = servers
  }

  get servers(): readonly number[] {
    return this.#servers
  }

  newRequestId(userId: number): string {
    return `u${userId}-${++this.#requests}`
  }

  /** Ends when every client has its last answer. */
  async stop(): Promise<void> {
    this.#stopping = true
    await this.#running
    this.check()
  }

  /** After the stop: everybody gives back what they hold and an admin brings it all back, once. */
  async giveAllBack(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.giveBack()))
  }

  /** After the stop: one cycle on each server. True when all of it was answered with success. */
  async cycleOnEach(): Promise<boolean> {
    const [client] = this.#clients
    if (client === undefined) return true
    for (const server of this.#servers) if (!(await client.cycle(server))) return false
    return true
  }

  close(): void {
    this.#stopping = true
    atWork.delete(this)
    for (const client of this.#clients) client.close()
  }
}

class TrafficClient {
  readonly #traffic: Traffic
  readonly #settings: TrafficSettings
  readonly #userId: number
  readonly #agents: readonly Agent[]
  readonly #avoidUntilMs: number[]
  /** Half of the clients stay with one server, whatever it does; the others ask now this one, now that. */
  readonly #home: number | null
  /** Machines that it holds, and machines that it gave back and has to bring back to the pool. */
  #held = new Set<number>()
  readonly #aside = new Set<number>()
  /** True after a call without an answer: what it holds has to be asked. */
  #isInDoubt = false

  constructor(traffic: Traffic, settings: TrafficSettings, userId: number) {
    this.#traffic = traffic
    this.#settings = settings
    this.#userId = userId
    this.#agents = settings.urls.map(() => new Agent({ keepAlive: true, maxSockets: 1 }))
    this.#avoidUntilMs = settings.urls.map(() => 0)
    this.#home = userId % 2 === 0 ? (userId / 2) % settings.urls.length : null
  }

  async step(): Promise<void> {
    const { random, pauseMs } = this.#settings
    await sleep(2 * pauseMs * random())
    const server = this.#pickServer()
    const [held] = this.#held
    const [aside] = this.#aside
    if (this.#isInDoubt) await this.#askWhatIsHeld(server)
    else if (held !== undefined) {
      if (random() < LOOK_SHARE) await this.#look(server, held)
      await this.#checkIn(server, held)
    } else if (aside !== undefined) await this.#maintain(server, aside)
    else await this.#checkout(server, random() < NAMED_SHARE ? this.#anyMachine() : null)
  }

  async giveBack(): Promise<void> {
    const server = this.#pickServer()
    await this.#askWhatIsHeld(server)
    for (const vmId of [...this.#held]) await this.#checkIn(server, vmId)
    for (const vmId of [...this.#aside]) await this.#maintain(server, vmId)
    if (this.#settings.cleaning === 'automatic') return
    // What a lost check-in left aside.
    for (const vmId of await this.#listed(server, 'maintenance')) await this.#maintain(server, vmId)
  }

  /** Takes a machine and gives it back, all on one server. */
  async cycle(server: number): Promise<boolean> {
    if ((await this.#checkout(server, null)) !== 'done') return false
    const [vmId = 0] = this.#held
    if ((await this.#checkIn(server, vmId)) !== 'done') return false
    return this.#settings.cleaning === 'automatic' || (await this.#maintain(server, vmId)) === 'done'
  }

  close(): void {
    for (const agent of this.#agents) agent.destroy()
  }

  /** Its own, if it has one that is in use; else one of those that did not fail just now, if there is one. */
  #pickServer(): number {
    const nowMs = performance.now()
    const { servers } = this.#traffic
    if (this.#home !== null && servers.includes(this.#home)) return this.#home
    const good = servers.filter((server) => (this.#avoidUntilMs[server] ?? 0) <= nowMs)
    const from = good.length > 0 ? good : servers
    return from[Math.floor(this.#settings.random() * from.length)] ?? 0
  }

  #anyMachine(): number {
    const { vmIds, random } = this.#settings
    return vmIds[Math.floor(random() * vmIds.length)] ?? 1
  }

  async #checkout(server: number, vmId: number | null): Promise<Outcome> {
    const body = {
      ...auth(this.#userId, userOf(this.#userId).password),
      ...(vmId === null ? {} : { vmid: vmId }),
    }
    const sent = await this.#send(server, { what: 'checkout', vmId, path: '/checkout_vm', body })
    if (sent.outcome === 'done') this.#held.add(vmIdOf(sent.body))
    return sent.outcome
  }

  async #checkIn(server: number, vmId: number): Promise<Outcome> {
    const body = { ...auth(this.#userId, userOf(this.#userId).password), vmid: vmId }
    const { outcome } = await this.#send(server, { what: 'checkIn', vmId, path: '/checkin_vm', body })
    // Refused: an earlier one that was not answered has been done meanwhile.
    if (outcome === 'done' || outcome === 'refused') {
      this.#held.delete(vmId)
      if (this.#settings.cleaning === 'manual') this.#aside.add(vmId)
    }
    return outcome
  }

  async #maintain(server: number, vmId: number): Promise<Outcome> {
    const body = { ...AS_ADMIN, vmid: vmId }
    const { outcome } = await this.#send(server, { what: 'maintain', vmId, path: '/maintenance', body })
    if (outcome === 'done' || outcome === 'refused') this.#aside.delete(vmId)
    return outcome
  }

  async #look(server: number, vmId: number): Promise<void> {
    const sent = await this.#send(server, { what: 'look', vmId, path: `/vmdetails/id/${vmId}` })
    if (sent.outcome === 'done' && rowsOf(sent.body).every(({ id }) => id !== vmId))
      throw new Error(`machine ${vmId} is nowhere: ${JSON.stringify(sent.body)}`)
  }

  /** Asks for the machines that it holds, and believes the answer. */
  async #askWhatIsHeld(server: number): Promise<void> {
    const { email } = userOf(this.#userId)
    const before = this.#held
    const sent = await this.#send(server, { what: 'look', vmId: null, path: `/vmdetails/maped_to/${email}` })
    if (sent.outcome !== 'done') return
    this.#held = new Set(rowsOf(sent.body).map(({ id }) => id))
    this.#isInDoubt = false
    if (this.#settings.cleaning === 'manual')
      for (const vmId of before) if (!this.#held.has(vmId)) this.#aside.add(vmId)
  }

  async #listed(server: number, place: string): Promise<number[]> {
    const sent = await this.#send(server, { what: 'look', vmId: null, path: `/vmdetails/maped_to/${place}` })
    return sent.outcome === 'done' ? rowsOf(sent.body).map(({ id }) => id) : []
  }

  /** Sends a call and writes down what came of it. */
  async #send(
    server: number,
    call: {
      readonly what: RecordedCall['what']
      readonly vmId: number | null
      readonly path: string
      readonly body?: object
    },
  ): Promise<Sent> {
    const { urls, patienceMs, random } = this.#settings
    const { what, path, body } = call
    const requestId = this.#traffic.newRequestId(this.#userId)
    const invokedAtMs = performance.now()
    let reply: RawReply | null = null
    let isNobodyThere = false
    try {
      reply = await rawRequest(urls[server] ?? '', {
        method: body === undefined ? 'GET' : 'POST',
        path,
        headers: { 'content-type': 'application/json', 'x-request-id': requestId },
        body: body === undefined ? undefined : JSON.stringify(body),
        agent: this.#agents[server] ?? false,
        silenceMsMax: patienceMs,
      })
    } catch (error) {
      // Nothing was sent, or the connection was lost, or the server is silent.
      isNobodyThere = (error as NodeJS.ErrnoException).code === 'ECONNREFUSED'
    }
    const returnedAtMs = performance.now()
    const parsed = reply === null ? {} : (JSON.parse(reply.text) as Record<string, unknown>)
    const outcome =
      reply !== null ? this.#outcomeOf(call, reply.status, parsed) : isNobodyThere ? 'unavailable' : 'unknown'
    const record: RecordedCall = {
      requestId,
      client: this.#userId,
      server,
      what,
      userId: what === 'maintain' ? 1 : this.#userId,
      vmId: what === 'checkout' && outcome === 'done' ? vmIdOf(parsed) : call.vmId,
      invokedAtMs,
      returnedAtMs: outcome === 'unknown' ? Number.POSITIVE_INFINITY : returnedAtMs,
      outcome,
    }
    if (what !== 'look') this.#traffic.calls.push(record)
    else if (outcome === 'done')
      for (const { id, vm_map_to } of rowsOf(parsed))
        this.#traffic.calls.push({ ...record, vmId: id, seen: placeOf(vm_map_to) })
    if (outcome === 'unknown' || outcome === 'unavailable') {
      if (outcome === 'unknown' && what !== 'look') this.#isInDoubt = true
      this.#avoidUntilMs[server] = returnedAtMs + AVOID_MS
      await sleep(RETRY_MS * (0.5 + random()))
    }
    return outcome === 'unknown' ? { outcome } : { outcome, body: parsed }
  }

  #outcomeOf(
    {
      what,
      vmId,
      path,
    }: { readonly what: RecordedCall['what']; readonly vmId: number | null; readonly path: string },
    status: number,
    body: Readonly<Record<string, unknown>>,
  ): Outcome {
    const text = String(body.message ?? '')
    if (status === 503) {
      const { refusals } = this.#traffic
      refusals.set(text, (refusals.get(text) ?? 0) + 1)
      if (/whether it was done could not be found out/.test(text)) return 'unknown'
      if (/^the store cannot take changes now: .|^too many requests are waiting/.test(text))
        return 'unavailable'
    }
    const expected = {
      checkout: [201, vmId === null ? /^No VM's are available/ : /^VM not available for use/],
      checkIn: [201, /^Unauthorized! Only Owner can check in/],
      maintain: [201, /^Unauthorized! Only Admin can bring VM back/],
      look: [200, null],
    } as const
    const [success, refusal] = expected[what]
    if (status === success) return 'done'
    if (refusal?.test(text)) return 'refused'
    throw new Error(`${what} ${path} of ${vmId} was answered ${status} ${JSON.stringify(body)}`)
  }
}

function rowsOf(body: Readonly<Record<string, unknown>>): { id: number; vm_map_to: string }[] {
  return typeof body.VM_details === 'object' ? Object.values(body.VM_details ?? {}) : []
}

function vmIdOf(body: Readonly<Record<string, unknown>>): number {
  return (body['VM Details'] as { 'vm-Id': number })['vm-Id']
}

function placeOf(mappedTo: string): Place {
  if (mappedTo === 'idle') return 'ready'
  if (mappedTo === 'maintenance') return 'maintenance'
  const id = /^user(\d+)@/.exec(mappedTo)?.[1]
  if (id === undefined) throw new Error(`nobody is called ${mappedTo}`)
  return Number(id)
}
