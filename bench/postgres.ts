/**
 * `npm run bench -- --database postgres`: two servers on one PostgreSQL (the one of the npm package, as it is but for the
 * number of connections), 128 connections, durable cycles over HTTP. What is compared is measured in turn, in one run.
 */
import { Client } from 'pg'
import { startPostgres } from '../scripts/embedded-postgres.ts'
import { cycling, type Client as LoadClient, type LoadResult, runLoad } from './load.ts'
import { ADMIN, type BenchServer, fill, newFolder, startServer, USERS, userOf } from './setup.ts'

export interface PostgresRow {
  readonly what: string
  readonly perSecond?: number
  readonly ratio?: number
  readonly p50Ms?: number
  readonly p99Ms?: number
  readonly note?: string
}

export interface PostgresOptions {
  readonly seconds: number
  readonly rounds: number
  readonly manyMachines: number
  readonly report: (row: PostgresRow) => void
}

const CONNECTIONS = 128
const FEW = 1_000
const POOLS = 4

interface Measured extends LoadResult {
  readonly statementsPerCommand: number
  readonly fsyncsPerCommand: number
  readonly commandsPerBatch: number
}

export async function benchPostgres({
  seconds,
  rounds,
  manyMachines,
  report,
}: PostgresOptions): Promise<void> {
  const postgres = await startPostgres(['-c', 'max_connections=200'])
  const db = new Client({ connectionString: postgres.url })
  await db.connect()
  try {
    for (const pools of [1, POOLS]) {
      const few = await newInstallation(postgres.url, db, `few_${pools}`, pools, FEW)
      const many = await newInstallation(postgres.url, db, `many_${pools}`, pools, manyMachines)
      const name = pools === 1 ? '1 pool' : `${pools} pools`
      const start = (installation: Installation, n: number, batchMax = 256) =>
        startServers(postgres.url, installation, n, batchMax)

      const pair = await start(few, 2)
      const off = await start(few, 2, 1)
      const [batched, single] = await inTurn(db, rounds, seconds, [pair, off], pools)
      await stopAll(off)
      report({
        what: `durable cycles, ${name}, 2 servers`,
        ...shown(batched),
        note: noteOf(batched),
      })
      report({
        what: `the same with one transaction a call`,
        ...shown(single),
        ratio: ratio(single, batched),
        note: `batching is ${(1 / ratio(single, batched)).toFixed(1)} times as fast; ${noteOf(single)}`,
      })

      const alone = await start(few, 1)
      const [two, one] = await inTurn(db, rounds, seconds, [pair, alone], pools)
      await stopAll(alone)
      report({
        what: `1 server instead of 2, ${name}`,
        ...shown(one),
        note: `with the second server: ${ratio(two, one).toFixed(2)} of this`,
      })

      const million = await start(many, 2)
      const [small, large] = await inTurn(db, rounds, seconds, [pair, million], pools)
      report({
        what: `durable cycles, ${name}, 2 servers, ${manyMachines.toLocaleString('en')} machines`,
        ...shown(large),
        ratio: ratio(large, small),
        note: `ratio: to ${FEW.toLocaleString('en')} machines; ${noteOf(large)}`,
      })
      await stopAll(pair)
      await stopAll(million)
    }
  } finally {
    await db.end()
    await postgres.stop()
  }
}

interface Installation {
  readonly schema: string
}

/** An installation with users, and machines evenly over its pools. */
async function newInstallation(
  url: string,
  db: Client,
  schema: string,
  pools: number,
  machines: number,
): Promise<Installation> {
  const [server] = await startServers(url, { schema }, 1, 256)
  if (server === undefined) throw new Error('no server')
  await fill(server.url, 4)
  await server.stop()
  const tally = JSON.stringify({ small: { ready: machines / pools } })
  await db.query(`SET search_path = ${schema}`)
  await db.query('TRUNCATE vm; DELETE FROM pool')
  await db.query(
    `INSERT INTO pool SELECT n, CASE n WHEN 1 THEN 'default' ELSE 'pool' || n END, $1::bigint, '{"small":1}', 'manual', 'simulated', $2, 0, 0
     FROM generate_series(1, $3::int) AS n`,
    [machines / pools, tally, pools],
  )
  await db.query(
    `INSERT INTO vm SELECT n, 1 + n % $2::bigint, 'vm-' || n, 'small', '100.64.0.1', 'running', 'ready', 0, NULL, NULL, NULL, 1, NULL, 0, NULL, 0, 'small'
     FROM generate_series(1, $1::bigint) AS n`,
    [machines, pools],
  )
  await db.query('UPDATE installation SET next_vm_id = $1, next_pool_id = $2', [machines + 1, pools + 1])
  await db.query('VACUUM ANALYZE')
  return { schema }
}

function startServers(
  url: string,
  { schema }: Installation,
  n: number,
  batchMax: number,
): Promise<BenchServer[]> {
  return Promise.all(
    Array.from({ length: n }, () =>
      startServer(newFolder(), { database: url, databaseSchema: schema, batchMax }),
    ),
  )
}

async function stopAll(servers: readonly BenchServer[]): Promise<void> {
  await Promise.all(servers.map((server) => server.stop()))
}

/** Measures sets of servers in turn, a few times; of each set the round with the median rate. */
async function inTurn(
  db: Client,
  rounds: number,
  seconds: number,
  sets: readonly (readonly BenchServer[])[],
  pools: number,
): Promise<[Measured, Measured]> {
  const results: Measured[][] = sets.map(() => [])
  for (const servers of sets) await measure(db, servers, 1, pools)
  for (let round = 0; round < rounds; round++)
    for (const [i, servers] of sets.entries()) results[i]?.push(await measure(db, servers, seconds, pools))
  const middle = results.map((list) => {
    const sorted = list.toSorted((a, b) => a.perSecond - b.perSecond)
    return sorted[Math.floor(sorted.length / 2)]
  })
  const [first, second] = middle
  if (first === undefined || second === undefined) throw new Error('nothing was measured')
  return [first, second]
}

/** All servers at once, the connections shared between them. */
async function measure(
  db: Client,
  servers: readonly BenchServer[],
  seconds: number,
  pools: number,
): Promise<Measured> {
  const before = await counts(db, servers)
  const each = CONNECTIONS / servers.length
  const results = await Promise.all(
    servers.map((server, s) => {
      const clients = Array.from({ length: each }, (_, i): LoadClient => {
        const n = s * each + i
        const { userid, password } = userOf(n % USERS)
        const pool = n % pools === 0 ? 'default' : `pool${1 + (n % pools)}`
        return cycling(userid, password, ADMIN, pool)
      })
      return runLoad({ url: server.url, clients, seconds })
    }),
  )
  const after = await counts(db, servers)
  for (const { errors, firstError } of results)
    if (errors > 0) throw new Error(`${errors} errors under load: ${firstError}`)
  const requests = results.reduce((sum, result) => sum + result.requests, 0)
  return {
    requests,
    seconds,
    perSecond: results.reduce((sum, result) => sum + result.perSecond, 0),
    p50Ms: Math.max(...results.map(({ p50Ms }) => p50Ms)),
    p99Ms: Math.max(...results.map(({ p99Ms }) => p99Ms)),
    maxMs: Math.max(...results.map(({ maxMs }) => maxMs)),
    errors: 0,
    firstError: null,
    statementsPerCommand: (after.statements - before.statements) / requests,
    fsyncsPerCommand: (after.fsyncs - before.fsyncs) / requests,
    commandsPerBatch: requests / (after.batches - before.batches),
  }
}

async function counts(db: Client, servers: readonly BenchServer[]) {
  const all = await Promise.all(servers.map((server) => server.counts()))
  // What backends have counted reaches the statistics after a moment.
  await new Promise((resolve) => setTimeout(resolve, 1_100))
  const { rows } = await db.query("SELECT sum(fsyncs)::float8 AS fsyncs FROM pg_stat_io WHERE object = 'wal'")
  return {
    batches: all.reduce((sum, { batches }) => sum + batches, 0),
    statements: all.reduce((sum, { statements }) => sum + statements, 0),
    fsyncs: Number(rows[0]?.fsyncs ?? 0),
  }
}

function shown({ perSecond, p50Ms, p99Ms }: Measured) {
  return { perSecond, p50Ms, p99Ms }
}

function noteOf({ commandsPerBatch, statementsPerCommand, fsyncsPerCommand }: Measured): string {
  return `${commandsPerBatch.toFixed(1)} commands a batch, ${statementsPerCommand.toFixed(2)} statements and ${fsyncsPerCommand.toFixed(3)} fsyncs a command`
}

function ratio(a: Measured, b: Measured): number {
  return a.perSecond / b.perSecond
}
