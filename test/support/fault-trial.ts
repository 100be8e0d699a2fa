/**
 * One fault of the real thing, from its seed to its judgement: servers on one database, clients at work on them, a fault that
 * begins and ends under their load, and then the question whether anything was lost, done twice, or left behind.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mulberry32 } from '../../src/provider/simulated.ts'
import { auditDatabase, auditPostgres, readDatabase } from './audit.ts'
import { readEvents, requireLedger, requireLegalLog } from './event-log.ts'
import { requireLinearizable, settled } from './history.ts'
import { query, type Row } from './postgres-query.ts'
import { parsed, type ServerProcess, startServerProcess, until } from './server-process.ts'
import { ADMIN, AS_ADMIN } from './test-server.ts'
import { Traffic, userOf } from './traffic.ts'

/** One that was printed by a failure, to have its draws again. */
export const SEED = Number(process.env.BERTH_TEST_SEED ?? Date.now() % 1_000_000)

/** Where the servers of a trial keep what they know. */
export interface TrialStore {
  /** The options that each server is started with. */
  readonly servers: readonly (readonly string[])[]
  /** Asks the database itself. */
  query(sql: string): Promise<Row[]>
  /** Fails unless the database is whole. */
  audit(): Promise<void>
}

/** A new schema of a PostgreSQL. `urls`: how each server reaches it; two of them, directly, unless given. */
export function onPostgres(url: string, urls: readonly string[] = [url, url]): TrialStore {
  const schema = `t_${randomBytes(6).toString('hex')}`
  return {
    servers: urls.map((database) => ['--database', database, '--database-schema', schema]),
    query: (sql) => query(url, sql, schema),
    audit: () => auditPostgres(url, schema),
  }
}

/** One server on a data folder. */
export function onSqlite(folder: string): TrialStore {
  return {
    servers: [['--data', folder]],
    query: async (sql) => readDatabase(folder, (all) => all(sql)),
    audit: async () => auditDatabase(folder),
  }
}

export interface TrialSettings {
  readonly cleaning?: 'manual' | 'automatic'
  readonly args?: readonly string[]
  readonly clients?: number
  readonly machines?: number
  readonly pauseMs?: number
  /** How long clients wait for an answer. */
  readonly patienceMs?: number
}

/** Fewer machines than clients, so that they are short at times, and each has many holders. */
const MACHINES = 10
const CLIENTS = 14
const PAUSE_MS = 3
const PATIENCE_MS = 8_000
/** So many changes have to be answered by each server, before the fault begins and before it counts as healed. */
const WARM_CHANGES = 50
const HEALED_CHANGES = 20

export interface Trial {
  readonly random: () => number
  readonly servers: readonly Member[]
  readonly traffic: Traffic
  /** The fault: what is measured is measured from its beginning to its end. May be called more than once. */
  during(fault: () => Promise<void>): Promise<void>
  /** Judges all of it, stops the servers, and returns one line of figures. */
  finish(): Promise<string>
}

/** One of the servers, which can be killed and started again at the same place. */
class Member {
  readonly #args: readonly string[]
  #process: ServerProcess
  readonly #before: string[] = []

  private constructor(process: ServerProcess, args: readonly string[]) {
    this.#process = process
    this.#args = args
  }

  static async start(args: readonly string[]): Promise<Member> {
    return new Member(await startServerProcess({ args }), args)
  }

  get process(): ServerProcess {
    return this.#process
  }

  get url(): string {
    return this.#process.url
  }

  /** What it has logged, by all of its processes. */
  get log(): readonly string[] {
    return [...this.#before, ...this.#process.stdout]
  }

  call(...call: Parameters<ServerProcess['call']>): ReturnType<ServerProcess['call']> {
    return this.#process.call(...call)
  }

  /** What /readyz answers; null: nothing. */
  async readiness(): Promise<number | null> {
    try {
      const reply = await fetch(`${this.url}/readyz`, { signal: AbortSignal.timeout(15_000) })
      await reply.text()
      return reply.status
    } catch {
      return null
    }
  }

  async kill(): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.#process.exited
  }

  async startAgain(): Promise<void> {
    this.#before.push(...this.#process.stdout)
    const { port } = new URL(this.url)
    this.#process = await startServerProcess({ args: [...this.#args, '--port', port] })
  }

  async stop(): Promise<void> {
    this.#process.kill('SIGTERM')
    assert.deepEqual(await this.#process.exited, { code: 0, signal: null }, this.#process.stderr.join('\n'))
  }
}

export async function startTrial(store: TrialStore, settings: TrialSettings = {}): Promise<Trial> {
  const { cleaning = 'manual', args = [], clients = CLIENTS, machines = MACHINES } = settings
  const random = mulberry32(SEED)
  const vmIds = Array.from({ length: machines }, (_, i) => i + 1)
  const servers: Member[] = []
  for (const own of store.servers)
    servers.push(
      await Member.start([...own, '--pool-cleaning', cleaning, '--provider-seconds-max', '1', ...args]),
    )
  const [first] = servers
  assert.ok(first !== undefined)
  await must(201, first.call('POST', '/user', ADMIN))
  for (let id = 2; id < 2 + clients; id++)
    await must(201, first.call('POST', '/user', { ...AS_ADMIN, ...userOf(id) }))
  await must(201, first.call('POST', '/create_resource_pool', { ...AS_ADMIN, pool_size: machines }))
  await until(() => isSettled(store))

  const traffic = new Traffic({
    urls: servers.map((server) => server.url),
    clients,
    vmIds,
    cleaning,
    random,
    pauseMs: settings.pauseMs ?? PAUSE_MS,
    patienceMs: settings.patienceMs ?? PATIENCE_MS,
  })
  // Passwords are checked once; from then on it goes fast.
  await acknowledgedByAll(traffic, performance.now(), WARM_CHANGES)

  let beganMs = Number.POSITIVE_INFINITY
  let endedMs = 0
  return {
    random,
    servers,
    traffic,
    async during(fault) {
      beganMs = Math.min(beganMs, performance.now())
      try {
        await fault()
      } finally {
        // What a client met explains more than what was waited for in vain.
        traffic.check()
      }
      endedMs = performance.now()
    },
    async finish() {
      const healedMs = await acknowledgedByAll(traffic, endedMs, HEALED_CHANGES)
      await traffic.stop()
      await within60s(endedMs, 'every machine is back in the pool', async () => {
        await traffic.giveAllBack()
        return isSettled(store)
      })
      assert.ok(await traffic.cycleOnEach(), 'a cycle on one of the servers')
      await within60s(endedMs, 'every machine is back in the pool', () => isSettled(store))
      const settledMs = performance.now()
      traffic.close()
      for (const server of servers) await server.stop()
      for (const server of servers) requireNoBug(server.log)
      await judge(store, traffic, { vmIds, cleaning })
      return figures(traffic, { beganMs, endedMs, healedMs, settledMs })
    },
  }
}

async function must(status: number, reply: Promise<{ status: number; body: unknown }>): Promise<void> {
  const got = await reply
  assert.equal(got.status, status, JSON.stringify(got.body))
}

/** Whether every machine is ready. */
async function isSettled(store: TrialStore): Promise<boolean> {
  const rows = await store.query("SELECT count(*) AS n FROM vm WHERE state <> 'ready'")
  return rows[0]?.n === 0
}

/** Waits until each of the servers in use has answered some changes after `sinceMs` with success; returns when the last one began to. */
export async function acknowledgedByAll(traffic: Traffic, sinceMs: number, changes: number): Promise<number> {
  return until(() => {
    traffic.check()
    const firsts = traffic.servers.map((server) =>
      traffic.acknowledgedMs(server).filter((atMs) => atMs > sinceMs),
    )
    return firsts.every((of) => of.length >= changes) && Math.max(...firsts.map(([first]) => first ?? 0))
  })
}

async function within60s(sinceMs: number, what: string, fact: () => Promise<boolean>): Promise<void> {
  await until(async () => {
    if (performance.now() - sinceMs > 60_000) throw new Error(`not true 60 s after the fault: ${what}`)
    return fact()
  })
}

/** What the store may say of itself during a fault. */
const OF_THE_STORE = ['StoreUnavailable', 'StoreConflict', 'OutcomeUnknown']

/** A fault is no excuse for a bug: nothing in the log may say that Berth itself is wrong. */
function requireNoBug(log: readonly string[]): void {
  const bugs = log.filter((line) => {
    const { msg, err } = (parsed(line) ?? {}) as { msg?: string; err?: { type?: string } }
    return (msg === 'a command failed' || msg === 'request failed') && !OF_THE_STORE.includes(err?.type ?? '')
  })
  assert.equal(bugs.length, 0, `${bugs.length} bugs in the log, the first is ${bugs[0]}`)
}

async function judge(
  store: TrialStore,
  { calls }: Traffic,
  machines: { readonly vmIds: readonly number[]; readonly cleaning: 'manual' | 'automatic' },
): Promise<void> {
  await store.audit()
  const events = await readEvents(store.query)
  requireLegalLog(events)
  const found = requireLedger(calls, events)
  // What the clients alone can tell, and then with what the database says of calls that were not answered.
  requireLinearizable(calls, machines)
  const known = settled(calls, (requestId) => found.get(requestId), performance.now())
  requireLinearizable(known, machines)
}

interface Times {
  readonly beganMs: number
  readonly endedMs: number
  readonly healedMs: number
  readonly settledMs: number
}

function figures(traffic: Traffic, { beganMs, endedMs, healedMs, settledMs }: Times): string {
  const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`
  const during = traffic
    .acknowledgedMs()
    .filter((atMs) => atMs >= beganMs && atMs <= Math.max(endedMs, healedMs))
    .sort((a, b) => a - b)
  const refused = [...traffic.refusals.values()].reduce((sum, n) => sum + n, 0)
  return [
    `acknowledged ${traffic.count('done')}`,
    `unknown ${traffic.count('unknown')}`,
    `answered 503 ${refused}`,
    `fault ${seconds(endedMs - beganMs)}`,
    `longest time without an acknowledged change ${seconds(longestGap([beganMs, ...during]))}`,
    `healed after ${seconds(healedMs - endedMs)}`,
    `nothing left behind after ${seconds(settledMs - endedMs)}`,
    `seed ${SEED}`,
  ].join(', ')
}

/** The longest time between two neighbours of ascending times. */
export function longestGap(timesMs: readonly number[]): number {
  return timesMs.reduce((max, atMs, i) => Math.max(max, atMs - (timesMs[i - 1] ?? atMs)), 0)
}
