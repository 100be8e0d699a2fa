/**
 * `npm run failover`: shows once, on this machine, that a PostgreSQL with a synchronous standby can be lost under load and
 * nothing that was acknowledged is. Two servers, a primary and a standby; clients check machines out and in over both servers
 * and write down what they were answered; the primary is killed, the standby promoted; the servers find it by themselves; then
 * what the clients know is compared with what the new primary holds. Exit code 1 when something is missing.
 *
 * `-- --stall` holds what the primary sends to the standby shortly before the kill. `-- --asynchronous` does that too, without
 * waiting for the standby at commits, and tells how much is lost then. `-- --rounds N` does it all so many times.
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { countUp, type Tally } from '../src/domain/pool.ts'
import { REFUSALS } from '../src/domain/refusal.ts'
import type { VmState } from '../src/domain/vm.ts'
import type { VmType } from '../src/domain/vm-type.ts'
import { type DebianPostgres, requireDebianPostgres, startDebianPostgres } from './debian-postgres.ts'

export interface FailoverSettings {
  /** False: commits do not wait for the standby. */
  readonly synchronous: boolean
  /** How long the standby has been sent nothing when the primary is killed; 0: it is sent everything to the end. */
  readonly stallMs: number
  readonly say: (line: string) => void
}

export interface FailoverResult {
  readonly acknowledgedBefore: number
  readonly acknowledgedAfter: number
  /** Calls that were told that nothing was done. */
  readonly refused: number
  /** Calls of which the caller does not know what became: told so, or not answered. */
  readonly unknown: number
  /** From the kill to the promoted standby's taking changes. */
  readonly promotedMs: number
  /** From then to the first call that each server acknowledged. */
  readonly foundMs: readonly number[]
  /** The longest time in which nothing was acknowledged by any server. */
  readonly gapMs: number
  /** What was acknowledged and is not there, one line each. */
  readonly lost: readonly string[]
  /** What does not agree with itself, or was done although it was refused, one line each. */
  readonly wrong: readonly string[]
}

const SERVERS = 2
const CLIENTS = 32
const USERS = 8
const MACHINES = 400
const BEFORE_MS = 3_000
/** What an operator, or a program that watches, takes to decide. */
const DECISION_MS = 1_000
const AFTER_MS = 5_000
const FOUND_MS_MAX = 30_000
const CALL_MS_MAX = 40_000
const REFUSED_PAUSE_MS = 25

const MAIN = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))
const ADMIN = { userid: 1, password: 'admin-pw' }

export async function failover(settings: FailoverSettings): Promise<FailoverResult> {
  const { say } = settings
  const ends: (() => Promise<void>)[] = []
  try {
    const primary = await startDebianPostgres()
    ends.push(() => primary.remove())
    const standby = await primary.standby()
    ends.push(() => standby.remove())
    if (settings.synchronous) await primary.waitForStandby()
    say(`primary and ${settings.synchronous ? 'synchronous' : 'asynchronous'} standby are up`)

    const servers: RunningServer[] = []
    for (let n = 0; n < SERVERS; n++) {
      const server = await startServer([primary.url, standby.url])
      ends.push(() => server.end())
      servers.push(server)
    }
    await prepareInstallation(servers)

    const load = startLoad(servers)
    ends.push(() => load.stop())
    await sleep(BEFORE_MS)
    if (settings.stallMs > 0) {
      await primary.stallStandby()
      await sleep(settings.stallMs)
    }
    const killedMs = await primary.kill()
    say('the primary is killed')
    await sleep(DECISION_MS)
    await standby.promote()
    const promotedMs = performance.now()
    say('the standby is promoted')
    const found = await Promise.all(servers.map((_, i) => load.firstAcknowledged(i, promotedMs)))
    say('each server has found it')
    await sleep(AFTER_MS)
    await load.stop()
    say('the load has ended')

    const { calls } = load
    const acknowledged = calls.filter(({ outcome }) => outcome === 'acknowledged')
    const times = acknowledged.map(({ answeredMs }) => answeredMs).sort((a, b) => a - b)
    const gaps = times.slice(1).map((atMs, i) => atMs - (times[i] ?? atMs))
    return {
      acknowledgedBefore: times.filter((atMs) => atMs < killedMs).length,
      acknowledgedAfter: times.filter((atMs) => atMs >= killedMs).length,
      refused: calls.filter(({ outcome }) => outcome === 'refused').length,
      unknown: calls.filter(({ outcome }) => outcome === 'unknown').length,
      promotedMs: promotedMs - killedMs,
      foundMs: found.map((atMs) => atMs - promotedMs),
      gapMs: gaps.reduce((longest, gap) => Math.max(longest, gap), 0),
      ...(await compare(calls, standby)),
    }
  } finally {
    for (const end of ends.reverse()) await end().catch((error: unknown) => say(`at the end: ${error}`))
  }
}

interface RunningServer {
  readonly url: string
  end(): Promise<void>
}

/** The real program, on a free port. */
async function startServer(databases: readonly string[]): Promise<RunningServer> {
  const outer = Object.entries(process.env).filter(([name]) => !/^(BERTH_|NODE_TEST_)/.test(name))
  const child = spawn(process.execPath, [MAIN, 'serve', '--port', '0'], {
    env: { ...Object.fromEntries(outer), BERTH_DATABASE: databases.join(',') },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const url = await new Promise<string>((resolve, reject) => {
    void ended.then(() => reject(new Error('a server ended before it listened')))
    createInterface({ input: child.stdout }).on('line', (line) => {
      const entry = JSON.parse(line) as { msg: string; url: string }
      if (entry.msg === 'listening') resolve(entry.url)
    })
  })
  return {
    url,
    async end() {
      child.kill('SIGTERM')
      const patience = setTimeout(kill, 15_000)
      await ended
      clearTimeout(patience)
      process.removeListener('exit', kill)
    },
  }
}

/** An admin, users, and machines. Then each server is asked once for each user, so that it knows the passwords. */
async function prepareInstallation(servers: readonly RunningServer[]): Promise<void> {
  const [first] = servers
  if (first === undefined) throw new Error('no server')
  const must = async ({ url }: RunningServer, path: string, body: object) => {
    const { status, text } = await post(url, path, body)
    if (status !== 201) throw new Error(`${path} answered ${status}: ${text}`)
  }
  await must(first, '/user', { name: 'Admin', email: 'admin@example.org', password: ADMIN.password })
  for (let n = 0; n < USERS; n++)
    await must(first, '/user', {
      auth: ADMIN,
      name: `User ${n}`,
      email: `user${n}@example.org`,
      password: userOf(n).password,
    })
  await must(first, '/create_resource_pool', { auth: ADMIN, pool_size: MACHINES })
  for (const server of servers)
    await Promise.all(
      [ADMIN, ...Array.from({ length: USERS }, (_, n) => userOf(n))].map((auth) =>
        post(server.url, '/checkin_vm', { auth, vmid: MACHINES }),
      ),
    )
}

/** Ids are given in the order in which users are made; the first is the admin's. */
function userOf(n: number) {
  const user = n % USERS
  return { userid: user + 2, password: `pw-${user}` }
}

type Step = 'checkout' | 'check-in' | 'maintenance'

/** The fact that each step leaves behind. */
const EVENTS = {
  checkout: 'vm.checked_out',
  'check-in': 'vm.checked_in',
  maintenance: 'vm.returned',
} as const satisfies Record<Step, string>

const PATHS = {
  checkout: '/checkout_vm',
  'check-in': '/checkin_vm',
  maintenance: '/maintenance',
} as const satisfies Record<Step, string>

/** One call, and what whoever sent it knows. */
interface Call {
  readonly requestId: string
  readonly step: Step
  readonly userId: number
  /** The machine that it was about, as far as its sender knows. */
  readonly vmId: number | null
  readonly server: number
  readonly outcome: 'acknowledged' | 'refused' | 'unknown'
  readonly answeredMs: number
}

interface Load {
  readonly calls: readonly Call[]
  /** When a server first acknowledged something after that moment. */
  firstAcknowledged(server: number, afterMs: number): Promise<number>
  stop(): Promise<void>
}

/** Clients that check out, check in and bring back machines without a pause, each call on the next server. */
function startLoad(servers: readonly RunningServer[]): Load {
  const calls: Call[] = []
  let stopping = false

  async function client(n: number): Promise<void> {
    const user = userOf(n)
    let sent = 0
    async function call(step: Step, vmId: number | null): Promise<Call> {
      const server = (n + sent) % servers.length
      const requestId = `c${n}-${++sent}`
      const body = {
        auth: step === 'maintenance' ? ADMIN : user,
        ...(vmId === null ? {} : { vmid: vmId }),
      }
      const answer = await post(servers[server]?.url ?? '', PATHS[step], body, requestId).catch(() => null)
      const done = {
        requestId,
        step,
        userId: user.userid,
        vmId: answer?.status === 201 ? Number(JSON.parse(answer.text)['VM Details']['vm-Id']) : vmId,
        server,
        outcome: outcomeOf(answer),
        answeredMs: performance.now(),
      }
      calls.push(done)
      if (done.outcome !== 'acknowledged') await sleep(REFUSED_PAUSE_MS)
      return done
    }
    /** Again until it is acknowledged, or refused because a call of which nothing was known had done it. */
    async function settle(step: Step, vmId: number): Promise<void> {
      let doubt = false
      while (!stopping) {
        const { outcome } = await call(step, vmId)
        if (outcome === 'acknowledged' || (outcome === 'refused' && doubt)) return
        doubt ||= outcome === 'unknown'
      }
    }
    while (!stopping) {
      const { outcome, vmId } = await call('checkout', null)
      if (outcome !== 'acknowledged' || vmId === null) continue
      await settle('check-in', vmId)
      await settle('maintenance', vmId)
    }
  }

  const clients = Promise.all(Array.from({ length: CLIENTS }, (_, n) => client(n)))
  return {
    calls,
    async firstAcknowledged(server, afterMs) {
      for (let seen = 0; performance.now() < afterMs + FOUND_MS_MAX; await sleep(5)) {
        for (; seen < calls.length; seen++) {
          const call = calls[seen]
          if (call?.server === server && call.outcome === 'acknowledged' && call.answeredMs > afterMs)
            return call.answeredMs
        }
      }
      throw new Error(`server ${server} has acknowledged nothing ${FOUND_MS_MAX} ms after the promotion`)
    },
    async stop() {
      stopping = true
      await clients
    },
  }
}

function outcomeOf(answer: { status: number; text: string } | null): Call['outcome'] {
  if (answer === null) return 'unknown'
  if (answer.status === 201) return 'acknowledged'
  if (answer.status >= 500 && answer.status !== 503) return 'unknown'
  return answer.text.includes(REFUSALS.outcome_unknown.text()) ? 'unknown' : 'refused'
}

async function post(url: string, path: string, body: object, requestId?: string) {
  const response = await fetch(url + path, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(requestId === undefined ? {} : { 'x-request-id': requestId }),
    },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(CALL_MS_MAX),
  })
  return { status: response.status, text: await response.text() }
}

/** Holds what the clients know against what the database has: each fact carries the id of the request that asked for it. */
async function compare(
  calls: readonly Call[],
  database: DebianPostgres,
): Promise<Pick<FailoverResult, 'lost' | 'wrong'>> {
  const rows = await database.query(
    `SELECT event.request_id, event.type, event.vm_id, lease.user_id, lease.from_ms, lease.ended_at_ms
     FROM event
     LEFT JOIN lease ON lease.vm_id = event.vm_id AND lease.generation = (event.data::json ->> 'generation')::bigint
     WHERE event.request_id IS NOT NULL`,
  )
  const facts = new Map(rows.map((row) => [String(row.request_id), row]))
  const lost: string[] = []
  const wrong: string[] = []
  for (const { requestId, step, userId, vmId, outcome } of calls) {
    const fact = facts.get(requestId)
    if (outcome === 'refused' && fact !== undefined)
      wrong.push(`${step} ${requestId} was refused and is done: ${JSON.stringify(fact)}`)
    if (outcome !== 'acknowledged') continue
    const isThere = fact?.type === EVENTS[step] && Number(fact.vm_id) === vmId
    const isLeased = step === 'maintenance' || Number(fact?.user_id) === userId
    const isEnded = step !== 'check-in' || fact?.ended_at_ms !== null
    if (!isThere || !isLeased || !isEnded)
      lost.push(`${step} ${requestId} of machine ${vmId} for user ${userId}: ${JSON.stringify(fact ?? null)}`)
  }
  for (const [what, sql] of CONTRADICTIONS)
    for (const row of await database.query(sql)) wrong.push(`${what}: ${JSON.stringify(row)}`)
  wrong.push(...(await wrongTallies(database)))
  return { lost, wrong }
}

/** Rows that each of these finds contradict each other. */
const CONTRADICTIONS: readonly (readonly [string, string])[] = [
  [
    'a machine with two open leases',
    'SELECT vm_id, count(*) FROM lease WHERE ended_at_ms IS NULL GROUP BY vm_id HAVING count(*) > 1',
  ],
  [
    'an open lease without its holder, or the other way round',
    `SELECT vm.id, vm.state, vm.holder_id, lease.vm_id, lease.user_id
     FROM (SELECT * FROM vm WHERE holder_id IS NOT NULL OR state = 'leased') AS vm
     FULL JOIN (SELECT * FROM lease WHERE ended_at_ms IS NULL) AS lease
       ON lease.vm_id = vm.id AND lease.generation = vm.generation AND lease.user_id = vm.holder_id
     WHERE vm.id IS NULL OR lease.vm_id IS NULL`,
  ],
  [
    'a lease that began before the one before it had ended, or a generation is missing',
    `SELECT * FROM (
       SELECT vm_id, generation, from_ms, row_number() OVER one AS n, lag(ended_at_ms, 1, 0) OVER one AS before_ms
       FROM lease WINDOW one AS (PARTITION BY vm_id ORDER BY generation)) AS ordered
     WHERE generation <> n OR before_ms IS NULL OR before_ms > from_ms`,
  ],
  [
    'leases and the events that tell of them differ in number',
    `SELECT * FROM (SELECT
       (SELECT count(*) FROM lease) - (SELECT count(*) FROM event WHERE type = 'vm.checked_out') AS began,
       (SELECT count(*) FROM lease WHERE ended_at_ms IS NOT NULL)
         - (SELECT count(*) FROM event WHERE type = 'vm.checked_in') AS ended) AS difference
     WHERE began <> 0 OR ended <> 0`,
  ],
  [
    'a machine is not in the state that its last event tells of',
    `SELECT vm.id, vm.state, last.type FROM vm JOIN (
       SELECT DISTINCT ON (vm_id) vm_id, type FROM event
       WHERE type IN ('vm.checked_out', 'vm.checked_in', 'vm.returned') ORDER BY vm_id, id DESC) AS last
       ON last.vm_id = vm.id
     WHERE vm.state <> CASE last.type
       WHEN 'vm.checked_out' THEN 'leased' WHEN 'vm.checked_in' THEN 'maintenance' ELSE 'ready' END`,
  ],
]

async function wrongTallies(database: DebianPostgres): Promise<string[]> {
  const wrong: string[] = []
  const counted = await database.query(
    'SELECT pool_id, type, state, count(*) AS n FROM vm GROUP BY pool_id, type, state',
  )
  for (const { id, tally } of await database.query('SELECT id, tally FROM pool')) {
    const recount: Tally = {}
    for (const { pool_id, type, state, n } of counted)
      if (pool_id === id) countUp(recount, type as VmType, state as VmState, Number(n))
    const [kept, found] = [JSON.parse(String(tally)) as Tally, recount].map(shownTally)
    if (kept !== found) wrong.push(`the tally of pool ${id} is ${kept}, its machines are ${found}`)
  }
  return wrong
}

function shownTally(tally: Tally): string {
  return Object.entries(tally)
    .flatMap(([type, states]) =>
      Object.entries(states ?? {}).map(([state, n]) => [`${type} ${state}`, n] as const),
    )
    .filter(([, n]) => n !== 0)
    .map(([what, n]) => `${n} ${what}`)
    .sort()
    .join(', ')
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(2)} s`
}

/** The figures of one run, as lines. */
export function figures(result: FailoverResult): string[] {
  return [
    `acknowledged before the kill ${result.acknowledgedBefore}, after it ${result.acknowledgedAfter}`,
    `refused meanwhile ${result.refused}, unknown to the caller ${result.unknown}`,
    `killed to promoted ${seconds(result.promotedMs)}; promoted to the first acknowledged call of each server ${result.foundMs.map(seconds).join(', ')}`,
    `longest time without any acknowledged call ${seconds(result.gapMs)}`,
    `acknowledged and lost: ${result.lost.length}; contradictions: ${result.wrong.length}`,
  ]
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      asynchronous: { type: 'boolean', default: false },
      stall: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '1' },
    },
  })
  requireDebianPostgres()
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
  for (let round = 1; round <= Number(values.rounds); round++) {
    const beganMs = performance.now()
    const result = await failover({
      synchronous: !values.asynchronous,
      stallMs: values.stall || values.asynchronous ? 300 : 0,
      say: (line) => console.log(`${seconds(performance.now() - beganMs).padStart(8)}  ${line}`),
    })
    for (const line of figures(result)) console.log(line)
    for (const line of [...result.lost, ...result.wrong].slice(0, 10)) console.log(`  ${line}`)
    if (values.asynchronous) console.log('(commits did not wait for the standby: only told, not judged)')
    else if (result.lost.length + result.wrong.length > 0) process.exitCode = 1
  }
}

if (import.meta.main)
  await main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
  })
