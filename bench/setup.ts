/** Prepares what is measured: server processes, users, and data folders with many machines. */
import { type ChildProcess, fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { VM_TYPE_NAMES } from '../src/domain/vm-type.ts'
import type { BenchServerSettings } from './server.ts'

export const ADMIN = { userid: 1, password: 'admin-password' }
export const USERS = 16

export function userOf(i: number): { userid: number; password: string } {
  return { userid: 2 + (i % USERS), password: `password-${2 + (i % USERS)}` }
}

export interface BenchServer {
  readonly url: string
  /** From the start of the process to the first answer. */
  readonly startMs: number
  rssBytes(): Promise<number>
  /** Batches that it has committed, and the statements of these. */
  counts(): Promise<{ batches: number; statements: number }>
  stop(): Promise<void>
}

const folders: string[] = []

export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'berth-bench-'))
  folders.push(folder)
  return folder
}

export function removeFolders(): void {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
}

export async function startServer(
  folder: string,
  settings: Partial<BenchServerSettings> = {},
): Promise<BenchServer> {
  const whole: BenchServerSettings = {
    folder,
    database: null,
    databaseSchema: null,
    batchMax: 256,
    commitDelayMs: 0,
    checkCredentials: true,
    ...settings,
  }
  const beganMs = performance.now()
  const child = fork(join(import.meta.dirname, 'server.ts'), [JSON.stringify(whole)])
  const { url } = (await message(child)) as { url: string }
  await (await fetch(`${url}/healthz`)).text()
  const startMs = performance.now() - beganMs
  return {
    url,
    startMs,
    async rssBytes() {
      const answer = message(child)
      child.send('memory')
      return ((await answer) as { rssBytes: number }).rssBytes
    },
    async counts() {
      const answer = message(child)
      child.send('counts')
      return (await answer) as { batches: number; statements: number }
    },
    async stop() {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGTERM')
      await ended
    },
  }
}

function message(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    child.once('message', resolve)
    child.once('exit', (code) => reject(new Error(`the server ended with code ${code}`)))
  })
}

export async function call(url: string, path: string, body: object): Promise<void> {
  const response = await fetch(url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  const text = await response.text()
  if (response.status >= 400) throw new Error(`POST ${path}: ${response.status} ${text}`)
}

/** Makes the admin, the users, and a pool of `machines` through the API. */
export async function fill(url: string, machines: number): Promise<void> {
  const admin = { name: 'Admin', email: 'admin@example.org', password: ADMIN.password }
  await call(url, '/user', admin)
  for (let i = 0; i < USERS; i++) {
    const { userid, password } = userOf(i)
    const user = { name: `User ${userid}`, email: `user${userid}@example.org`, password }
    await call(url, '/user', { auth: ADMIN, ...user })
  }
  await call(url, '/create_resource_pool', { auth: ADMIN, pool_size: machines })
}

/** Adds ready machines to the pool of a stopped server's folder, up to `machines`: a million by the API take a while. */
export function addMachines(folder: string, machines: number): void {
  const db = new DatabaseSync(join(folder, 'berth.db'))
  const first = Number(db.prepare('SELECT coalesce(max(id), 0) + 1 AS id FROM vm').get()?.id)
  const insert = db.prepare(
    "INSERT INTO vm VALUES (?, 1, ?, ?, '100.64.0.1', 'running', 'ready', 0, NULL, NULL, NULL, 1, NULL, 0, NULL, 1790000000000, ?, NULL)",
  )
  db.exec('PRAGMA synchronous = OFF; PRAGMA cache_size = -500000; BEGIN')
  for (let id = first; id <= machines; id++) {
    const type = VM_TYPE_NAMES[id % VM_TYPE_NAMES.length] ?? 'small'
    insert.run(id, `vm-${id}`, type, type)
  }
  const tally: Record<string, Record<string, number>> = {}
  for (const row of db.prepare('SELECT class, state, count(*) AS n FROM vm GROUP BY class, state').all())
    tally[String(row.class)] = { ...tally[String(row.class)], [String(row.state)]: Number(row.n) }
  db.prepare('UPDATE pool SET target = ?, tally = ?').run(machines, JSON.stringify(tally))
  db.prepare('UPDATE installation SET next_vm_id = ?').run(machines + 1)
  db.exec('COMMIT; PRAGMA wal_checkpoint(TRUNCATE)')
  db.close()
}
