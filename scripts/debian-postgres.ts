/**
 * PostgreSQL 15 as Debian packages it, with its own tools (initdb, pg_basebackup, pg_ctl): a primary, a standby that follows
 * it, and what happens to them. Each in a folder of its own, on a free port of 127.0.0.1; root runs them as the user postgres.
 */
import { execFile, spawn, spawnSync } from 'node:child_process'
import { existsSync, rmSync } from 'node:fs'
import { appendFile, chmod, chown, mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Client } from 'pg'
import { freePort } from './embedded-postgres.ts'

const BIN = '/usr/lib/postgresql/15/bin'
const START_MS_MAX = 30_000

export interface DebianPostgres {
  readonly url: string
  /** Runs statements on a connection of their own. */
  query(sql: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>
  /** A new standby of it, which has caught up and follows. */
  standby(): Promise<DebianPostgres>
  /** From now on its commits wait until the standby has them on its disk. */
  waitForStandby(): Promise<void>
  /** Holds what it sends to its standby, as a network that has stalled does. */
  stallStandby(): Promise<void>
  /** Makes a standby take changes. Resolves when it does. */
  promote(): Promise<void>
  /** Ends all its processes at once, as a machine that loses its power does. Returns when that was, by the stopwatch. */
  kill(): Promise<number>
  /** Ends it, whatever state it is in, and removes its folder. */
  remove(): Promise<void>
}

/** Throws with one line when Debian's PostgreSQL 15 is not there. */
export function requireDebianPostgres(): void {
  if (existsSync(join(BIN, 'pg_basebackup'))) return
  throw new Error(
    `this needs ${BIN} (Debian: apt-get update && apt-get install -y --no-install-recommends postgresql-15)`,
  )
}

/** Starts a new and empty PostgreSQL. */
export async function startDebianPostgres(): Promise<DebianPostgres> {
  return start(async (data, run) => {
    await run('initdb', '-D', data, '-U', 'postgres', '--auth=trust', '--encoding=UTF8', '--locale=C', '-N')
    await appendFile(join(data, 'postgresql.conf'), 'wal_level = replica\nsynchronous_commit = on\n')
  })
}

type Run = (program: string, ...args: string[]) => Promise<unknown>

async function start(fill: (data: string, run: Run) => Promise<void>): Promise<DebianPostgres> {
  requireDebianPostgres()
  const owner = await ownerOfProcesses()
  const folder = await mkdtemp(join(tmpdir(), 'berth-failover-'))
  await chmod(folder, 0o700)
  if (owner.uid !== undefined && owner.gid !== undefined) await chown(folder, owner.uid, owner.gid)
  const data = join(folder, 'data')
  let end = async () => {}
  // It goes with whoever started it, also when that one is not left the time to remove it.
  const leave = () => {
    const stop = ['stop', '-D', data, '-m', 'immediate', '-t', '5']
    // It fails when nothing runs there.
    spawnSync(join(BIN, 'pg_ctl'), stop, { ...owner, cwd: folder, stdio: 'ignore' })
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 20 })
  }
  process.once('exit', leave)
  const run: Run = (program, ...args) =>
    promisify(execFile)(join(BIN, program), args, { ...owner, cwd: folder, timeout: START_MS_MAX })
  const remove = async () => {
    await end()
    process.removeListener('exit', leave)
    await rm(folder, { recursive: true, force: true, maxRetries: 10 })
  }
  try {
    await fill(data, run)
    const port = await freePort()
    const log = join(folder, 'log')
    const options = {
      listen_addresses: '127.0.0.1',
      unix_socket_directories: '',
      // In files, which go with the folder, even when it is killed.
      dynamic_shared_memory_type: 'mmap',
    }
    const flags = Object.entries(options).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    const output = await open(log, 'a')
    const child = spawn(join(BIN, 'postgres'), ['-D', data, '-p', `${port}`, ...flags], {
      ...owner,
      cwd: folder,
      // A group of its own, so that all its processes can be told from others.
      detached: true,
      stdio: ['ignore', output.fd, output.fd],
    })
    const pid = child.pid ?? 0
    const isRunning = () => child.exitCode === null && child.signalCode === null
    const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
    const quit = () => process.kill(pid, 'SIGQUIT')
    await output.close()
    const kill = async () => {
      const segment = await sharedMemoryOf(data)
      await killAll(pid)
      const killedMs = performance.now()
      await ended
      // What a killed one leaves behind outside its folder.
      if (segment !== null) await promisify(execFile)('ipcrm', ['-m', segment]).catch(() => {})
      return killedMs
    }
    end = async () => {
      if (isRunning()) quit()
      await ended
    }
    const url = `postgres://postgres@127.0.0.1:${port}/postgres`
    const query: DebianPostgres['query'] = (sql, values) => queried(url, sql, values)
    for (const endMs = Date.now() + START_MS_MAX; ; await sleep(20)) {
      const up = await query('SELECT 1').catch(() => null)
      if (up !== null) break
      if (Date.now() > endMs || !isRunning())
        throw new Error(`PostgreSQL did not start: ${await readFile(log, 'utf8')}`)
    }
    return { url, query, kill, remove, ...followed(url, query), promote: () => promoted(run, data, query) }
  } catch (error) {
    await remove()
    throw error
  }
}

function followed(
  url: string,
  query: DebianPostgres['query'],
): Pick<DebianPostgres, 'standby' | 'waitForStandby' | 'stallStandby'> {
  const senders = async () =>
    (await query("SELECT pid FROM pg_stat_replication WHERE state = 'streaming'")).map(({ pid }) =>
      Number(pid),
    )
  return {
    async standby() {
      const standby = await start(async (data, run) => {
        // -R: it begins as a standby of the one that it was copied from.
        await run('pg_basebackup', '-d', url, '-D', data, '-R', '-X', 'stream', '--checkpoint=fast', '-N')
        // The copy has the settings of the primary. After its promotion nobody follows it: commits must not wait for somebody.
        await appendFile(join(data, 'postgresql.auto.conf'), "synchronous_standby_names = ''\n")
      })
      while ((await senders()).length === 0) await sleep(20)
      return standby
    },
    async waitForStandby() {
      await query("ALTER SYSTEM SET synchronous_standby_names = '*'")
      await query('SELECT pg_reload_conf()')
      for (;;) {
        const [row] = await query("SELECT count(*) AS n FROM pg_stat_replication WHERE sync_state = 'sync'")
        if (Number(row?.n) > 0) return
        await sleep(20)
      }
    },
    async stallStandby() {
      for (const pid of await senders()) process.kill(pid, 'SIGSTOP')
    },
  }
}

async function promoted(run: Run, data: string, query: DebianPostgres['query']): Promise<void> {
  await run('pg_ctl', 'promote', '-D', data, '-W')
  for (;;) {
    const [row] = await query('SELECT pg_is_in_recovery() AS standby')
    if (row?.standby === false) return
    await sleep(5)
  }
}

async function queried(
  url: string,
  sql: string,
  values: readonly unknown[] = [],
): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5_000 })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(sql, [...values])).rows
  } finally {
    await client.end()
  }
}

/** Ends a postmaster and all that it has started. They are in groups of their own, so they are found by their parent. */
async function killAll(postmaster: number): Promise<void> {
  // Stopped first, so that it neither starts anything nor tells anybody anything meanwhile.
  process.kill(postmaster, 'SIGSTOP')
  const children = await readFile(`/proc/${postmaster}/task/${postmaster}/children`, 'utf8')
  const pids = children.trim().split(/\s+/).filter(Boolean).map(Number)
  for (const pid of [postmaster, ...pids])
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended by itself.
    }
}

/** The segment of shared memory by which it keeps a second one out of its folder. */
async function sharedMemoryOf(data: string): Promise<string | null> {
  const lines = (await readFile(join(data, 'postmaster.pid'), 'utf8')).split('\n')
  return lines[6]?.trim().split(/\s+/)[1] ?? null
}

/** Whom its processes run as: PostgreSQL refuses to run as root. */
async function ownerOfProcesses(): Promise<{ uid?: number; gid?: number }> {
  if (process.getuid?.() !== 0) return {}
  const account = /^postgres:[^:]*:(\d+):(\d+):/m.exec(await readFile('/etc/passwd', 'utf8'))
  if (account === null) throw new Error('there is no user postgres, whom root could run PostgreSQL as')
  return { uid: Number(account[1]), gid: Number(account[2]) }
}
