/**
 * `npm run bench [-- --quick] [-- --json FILE] [-- --database postgres]`: how fast Berth is, as ratios to a route of the same server that only reads and
 * writes the same shapes, measured in turn in one run. Machines are noisy: read the ratios, not the rates.
 * `npm run bench -- day [--quick]`: how long people wait with different orders of the queue, on a synthetic day (day.ts).
 */
import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { benchDay } from './day.ts'
import {
  type Client,
  cycling,
  get,
  type LoadResult,
  leasing,
  post,
  type QueueLoad,
  queueing,
  repeating,
  runLoad,
} from './load.ts'
import { benchPostgres } from './postgres.ts'
import {
  ADMIN,
  addMachines,
  type BenchServer,
  call,
  cleanAutomatically,
  fill,
  fillQueue,
  newFolder,
  OPEN_RACK,
  removeFolders,
  startServer,
  tokensOf,
  userOf,
  wishOf,
} from './setup.ts'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'string' },
    database: { type: 'string', default: 'sqlite' },
  },
})
if (!['sqlite', 'postgres'].includes(options.database))
  throw new Error(`--database ${options.database} is not possible: it must be sqlite or postgres`)
if (positionals.length > 1 || (positionals[0] ?? 'day') !== 'day')
  throw new Error(`${positionals.join(' ')} is not possible: it must be day, or nothing`)

const CONNECTIONS = 64
const SECONDS = options.quick ? 1 : 4
const ROUNDS = options.quick ? 1 : 3
const MANY = options.quick ? 20_000 : 1_000_000
const LIST = options.quick ? 10_000 : 100_000
const DISK_MS = 2

interface Row {
  readonly what: string
  readonly perSecond?: number
  /** To the row it is compared with. */
  readonly ratio?: number
  readonly p50Ms?: number
  readonly p99Ms?: number
  readonly note?: string
}

const rows: Row[] = []

function report(row: Row): void {
  rows.push(row)
  process.stderr.write(`  ${row.what}\n`)
}

function times<T>(n: number, make: (i: number) => T): T[] {
  return Array.from({ length: n }, (_, i) => make(i))
}

const cycles = (n = CONNECTIONS): Client[] =>
  times(n, (i) => {
    const { userid, password } = userOf(i)
    return cycling(userid, password, ADMIN)
  })
const noops = (): Client[] =>
  times(CONNECTIONS, (i) => repeating(post('/noop', { auth: userOf(i), vmid: 1 })))

async function load(server: BenchServer, clients: Client[], seconds = SECONDS): Promise<LoadResult> {
  const result = await runLoad({ url: server.url, clients, seconds })
  if (result.errors > 0) throw new Error(`${result.errors} errors under load: ${result.firstError}`)
  return result
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}

/** The no-op route and the clients in turn, a few times; the ratio is the median of the pairs. */
async function against(server: BenchServer, noop: () => Client[], clients: () => Client[]) {
  await load(server, clients(), 1)
  await load(server, noop(), 1)
  const pairs: { base: LoadResult; real: LoadResult }[] = []
  for (let i = 0; i < ROUNDS; i++)
    pairs.push({ base: await load(server, noop()), real: await load(server, clients()) })
  const middle = (pick: (pair: (typeof pairs)[number]) => number) => median(pairs.map(pick))
  return {
    base: {
      perSecond: middle(({ base }) => base.perSecond),
      p50Ms: middle(({ base }) => base.p50Ms),
      p99Ms: middle(({ base }) => base.p99Ms),
    },
    real: {
      perSecond: middle(({ real }) => real.perSecond),
      ratio: middle(({ base, real }) => real.perSecond / base.perSecond),
      p50Ms: middle(({ real }) => real.p50Ms),
      p99Ms: middle(({ real }) => real.p99Ms),
    },
  }
}

/** Everything about durable cycles, on the disk as it is or with some milliseconds added to each commit. */
async function durableCycles(few: string, many: string, commitDelayMs: number): Promise<void> {
  const disk = commitDelayMs === 0 ? '' : `, ${commitDelayMs} ms added to each commit`
  let server = await startServer(few, { commitDelayMs })
  const checked = await against(server, noops, cycles)
  report({ what: 'no-op POST', ...checked.base, note: 'the base of the next ratios' })
  report({ what: `durable cycles, credentials checked, 1,000 machines${disk}`, ...checked.real })
  const reads = times(8, (i) => repeating(get(`/vmdetails/id/${i + 1}`)))
  const [beside] = await Promise.all([load(server, reads), load(server, cycles(CONNECTIONS - 8))])
  report({ what: `reads by 8 connections beside ${CONNECTIONS - 8} with cycles${disk}`, ...shown(beside) })
  await server.stop()

  server = await startServer(few, { commitDelayMs, checkCredentials: false })
  const unchecked = await against(server, noops, cycles)
  report({ what: `durable cycles, credentials not checked${disk}`, ...unchecked.real })
  await server.stop()

  server = await startServer(few, { commitDelayMs, batchMax: 1 })
  const single = await against(server, noops, cycles)
  report({ what: `durable cycles, one transaction a call${disk}`, ...single.real })
  await server.stop()

  // The million is measured in turn with the thousand, so that a change of the machine's speed cancels out.
  const small = await startServer(few, { commitDelayMs })
  const large = await startServer(many, { commitDelayMs })
  const machines = MANY.toLocaleString('en')
  if (commitDelayMs === 0)
    report({
      what: `start to first answer, ${machines} machines`,
      note: `${large.startMs.toFixed(0)} ms; ${megabytes(await large.rssBytes())} resident at rest`,
    })
  await load(small, cycles(), 1)
  await load(large, cycles(), 1)
  const pairs: { a: LoadResult; b: LoadResult }[] = []
  for (let i = 0; i < ROUNDS; i++)
    pairs.push({ a: await load(small, cycles()), b: await load(large, cycles()) })
  report({
    what: `durable cycles, ${machines} machines${disk}`,
    perSecond: median(pairs.map(({ b }) => b.perSecond)),
    ratio: median(pairs.map(({ a, b }) => b.perSecond / a.perSecond)),
    p50Ms: median(pairs.map(({ b }) => b.p50Ms)),
    p99Ms: median(pairs.map(({ b }) => b.p99Ms)),
    note: 'ratio: to 1,000 machines',
  })
  await small.stop()
  await large.stop()
}

async function newPool(machines: number): Promise<string> {
  const folder = newFolder()
  const server = await startServer(folder)
  await fill(server.url, 1_000)
  await server.stop()
  if (machines > 1_000) addMachines(folder, machines)
  return folder
}

/** Checkout and check-in through /api/v1, each with a bearer token; workers clean beside it. */
async function v1Cycles(): Promise<void> {
  const folder = await newPool(1_000)
  cleanAutomatically(folder)
  const server = await startServer(folder)
  const tokens = await tokensOf(server.url)
  const clients = () =>
    times(CONNECTIONS, (i) => leasing(tokens[i % tokens.length] ?? '', { pool: 'default' }))
  const measured = await against(server, noops, clients)
  report({ what: '/api/v1: checkout and check-in with a bearer token', ...measured.real })
  await server.stop()
}

/** What waits and is booked in the pool of `queue`, beside those who are measured. */
const CROWD = options.quick ? 1_000 : 10_000
const CROWDED_MACHINES = options.quick ? 10_000 : 100_000
/** Machines that go from hand to hand among twice as many people. */
const CIRCULATING = 36

/** People who wait for machines that others give back, in a pool where thousands wait behind them, and in one where nobody else does. */
async function queue(): Promise<void> {
  const servers: BenchServer[] = []
  for (const crowd of [0, CROWD]) {
    const folder = await newPool(CIRCULATING)
    fillQueue(folder, { machines: CROWDED_MACHINES, free: CIRCULATING, waiting: crowd, booked: crowd })
    servers.push(await startServer(folder))
  }
  const rounds = await Promise.all(
    servers.map(async (server) => ({ server, tokens: await tokensOf(server.url), results: [] as Granted[] })),
  )
  for (let i = 0; i <= ROUNDS; i++)
    for (const { server, tokens, results } of rounds) {
      const result = await loadQueue(server, tokens)
      // The first round warms up.
      if (i > 0) results.push(result)
    }
  const [alone, crowded] = rounds.map(({ results }) => results) as [Granted[], Granted[]]
  const shown = (results: readonly Granted[]) => ({
    perSecond: median(results.map(({ perSecond }) => perSecond)),
    p50Ms: median(results.map(({ p50Ms }) => p50Ms)),
    p99Ms: median(results.map(({ p99Ms }) => p99Ms)),
  })
  const machines = CROWDED_MACHINES.toLocaleString('en')
  const note = 'grants/s; ms: from a check-in, over cleaning, to the answer of who waited for that machine'
  report({ what: `queue of ${2 * CIRCULATING} people, ${machines} machines`, ...shown(alone), note })
  const ratio = median(crowded.map(({ perSecond }, i) => perSecond / (alone[i] as Granted).perSecond))
  const others = CROWD.toLocaleString('en')
  const what = `the same, with ${others} others waiting and ${others} reservations`
  report({ what, ...shown(crowded), ratio, note: 'ratio: to the row before' })
  for (const server of servers) await server.stop()
}

interface Granted {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

async function loadQueue(server: BenchServer, tokens: readonly string[]): Promise<Granted> {
  const shared: QueueLoad = { grants: 0, grantMs: [], givenBackMs: new Map() }
  const clients = times(2 * CIRCULATING, (i) => {
    const { type, os } = wishOf(i)
    const body = { pool: 'default', type, selector: { os, rack: OPEN_RACK }, duration: 'PT5M', wait: 'PT10M' }
    return queueing(tokens[i % tokens.length] ?? '', body, shared)
  })
  const { seconds } = await load(server, clients)
  const sorted = shared.grantMs.sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
  return { perSecond: shared.grants / seconds, p50Ms: at(0.5), p99Ms: at(0.99) }
}

async function singleReads(folder: string): Promise<void> {
  const server = await startServer(folder)
  const noop = () => times(CONNECTIONS, () => repeating(get('/noop/id/1')))
  const real = () => times(CONNECTIONS, (i) => repeating(get(`/vmdetails/id/${i + 1}`)))
  const measured = await against(server, noop, real)
  report({ what: 'no-op GET', ...measured.base, note: 'the base of the next ratio' })
  report({ what: 'GET /vmdetails/id/:id', ...measured.real })
  await server.stop()
}

async function bigPool(): Promise<void> {
  const folder = newFolder()
  const server = await startServer(folder)
  report({
    what: 'start to first answer, empty folder',
    note: `${server.startMs.toFixed(0)} ms; ${megabytes(await server.rssBytes())} resident at rest`,
  })
  await fill(server.url, 200)
  await load(server, cycles(8), 1)

  const beganMs = performance.now()
  let seconds = 0
  const growing = call(server.url, '/resizevmpool', { auth: ADMIN, pool_size: LIST }).then(() => {
    seconds = (performance.now() - beganMs) / 1_000
  })
  const meanwhile: LoadResult[] = []
  while (seconds === 0) meanwhile.push(await load(server, cycles(8), 0.5))
  await growing
  report({
    what: `resize to ${LIST.toLocaleString('en')} machines; beside it 8 connections with cycles`,
    p99Ms: Math.max(...meanwhile.map((result) => result.p99Ms)),
    note: `${seconds.toFixed(2)} s until the answer`,
  })
  const alone = performance.now()
  await call(server.url, '/resizevmpool', { auth: ADMIN, pool_size: 2 * LIST })
  report({
    what: `resize by another ${LIST.toLocaleString('en')} machines, nothing beside it`,
    note: `${((performance.now() - alone) / 1_000).toFixed(2)} s until the answer`,
  })

  const before = await server.rssBytes()
  let listed = 0
  let bytes = 0
  let most = before
  const listing = (async () => {
    const listBeganMs = performance.now()
    const response = await fetch(`${server.url}/vmdetails`)
    for await (const chunk of response.body ?? []) {
      bytes += (chunk as Uint8Array).length
      if (bytes % 64 === 0) most = Math.max(most, await server.rssBytes())
    }
    listed = (performance.now() - listBeganMs) / 1_000
  })()
  const others: LoadResult[] = []
  while (listed === 0) {
    others.push(await load(server, cycles(8), 0.5))
    most = Math.max(most, await server.rssBytes())
  }
  await listing
  report({
    what: `GET /vmdetails of ${(2 * LIST).toLocaleString('en')} machines; beside it 8 connections with cycles`,
    p99Ms: Math.max(...others.map((result) => result.p99Ms)),
    note: `${megabytes(bytes)} in ${listed.toFixed(2)} s; resident ${megabytes(before)} before, ${megabytes(most)} at most`,
  })
  await server.stop()
}

function shown({ perSecond, p50Ms, p99Ms }: LoadResult) {
  return { perSecond, p50Ms, p99Ms }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1_048_576).toFixed(0)} MB`
}

function table(): string {
  const number = (value: number | undefined, digits: number) =>
    value === undefined
      ? ''
      : value.toLocaleString('en', { maximumFractionDigits: digits, minimumFractionDigits: digits })
  const lines = rows.map((row) => [
    row.what,
    number(row.perSecond, 0),
    number(row.ratio, 2),
    number(row.p50Ms, 2),
    number(row.p99Ms, 2),
    row.note ?? '',
  ])
  const head = ['what', 'calls/s', 'ratio', 'p50 ms', 'p99 ms', '']
  return [head, head.map(() => '---'), ...lines].map((line) => `| ${line.join(' | ')} |`).join('\n')
}

async function embedded(): Promise<void> {
  const few = await newPool(1_000)
  const many = await newPool(MANY)
  await durableCycles(few, many, 0)
  await durableCycles(few, many, DISK_MS)
  await singleReads(few)
  await v1Cycles()
  await queue()
  await bigPool()
}

async function speed(): Promise<void> {
  const onPostgres = options.database === 'postgres'
  try {
    if (onPostgres) await benchPostgres({ seconds: SECONDS, rounds: ROUNDS, manyMachines: MANY, report })
    else await embedded()
  } finally {
    removeFolders()
  }
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown processor'}, Node.js ${process.version}`
  const connections = onPostgres ? 128 : CONNECTIONS
  const result = { machine, connections, secondsEach: SECONDS, rounds: ROUNDS, rows }
  process.stdout.write(
    `${machine}, ${connections} keep-alive connections\n\n${table()}\n\n${JSON.stringify(result)}\n`,
  )
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(result, null, 2)}\n`)
}

if (positionals[0] === 'day') benchDay(options.quick ? 1 : 5)
else await speed()
