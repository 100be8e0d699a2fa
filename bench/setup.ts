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

/** API tokens of the users, made as they make them. */
export async function tokensOf(url: string): Promise<string[]> {
  const tokens: string[] = []
  for (let i = 0; i < USERS; i++) {
    const { userid, password } = userOf(i)
    const response = await fetch(`${url}/api/v1/tokens`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ email: `user${userid}@example.org`, password }),
    })
    tokens.push(((await response.json()) as { token: string }).token)
  }
  return tokens
}

/** Lets workers clean what is given back to the pool of a stopped server's folder. */
export function cleanAutomatically(folder: string): void {
  const db = new DatabaseSync(join(folder, 'berth.db'))
  db.exec("UPDATE pool SET cleaning = 'automatic'")
  db.close()
}

const OSES = ['debian', 'ubuntu', 'rhel'] as const
const STEPS_MINUTES = [5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360] as const
const CLASSES = VM_TYPE_NAMES.length * OSES.length

/** What a pool is filled with by `fillQueue`. */
export interface Crowd {
  readonly machines: number
  /** So many are ready, of each class alike; the others are held for a day by people who wait for more. */
  readonly free: number
  readonly waiting: number
  readonly booked: number
}

/** The i-th of the wishes that people wait for: types, labels and lengths, 144 of them. */
export function wishOf(i: number): { type: string; os: string; minutes: number } {
  return {
    type: VM_TYPE_NAMES[i % VM_TYPE_NAMES.length] ?? 'small',
    os: OSES[Math.floor(i / VM_TYPE_NAMES.length) % OSES.length] ?? 'debian',
    minutes: STEPS_MINUTES[Math.floor(i / CLASSES) % STEPS_MINUTES.length] ?? 60,
  }
}

/** Where the machines stand that are ready, and those that the crowd holds and waits for: what is measured is not to run out. */
export const OPEN_RACK = 'a'
const CROWD_RACK = 'b'

const CROWD_USERS = 1_000
const CROWD_FIRST_ID = 10_001
/** Behind whoever is measured, and overdue after more grants than are measured. */
const CROWD_TAG = 1e9
const CROWD_DUE = 1e9

/**
 * Makes the pool of a stopped server's folder one of so many machines in 24 classes, nearly all of them held, with a crowd that waits
 * for these in 144 groups, and reservations over the next 80 days.
 */
export function fillQueue(folder: string, { machines, free, waiting, booked }: Crowd): void {
  const db = new DatabaseSync(join(folder, 'berth.db'))
  const nowMs = Date.now()
  const endMs = nowMs + 86_400_000
  db.exec('PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; BEGIN; DELETE FROM vm; DELETE FROM lease')
  const user = db.prepare(
    "INSERT INTO user (id, name, email, role, password_hash, credential_version, state, created_at_ms) VALUES (?, 'U', ?, 'user', '-', 1, 'active', ?)",
  )
  for (let i = 0; i < CROWD_USERS; i++) user.run(CROWD_FIRST_ID + i, `crowd${i}@example.org`, nowMs)
  const vm = db.prepare(
    "INSERT INTO vm VALUES (?, 1, ?, ?, '100.64.0.1', 'running', ?, ?, ?, ?, NULL, 1, NULL, 0, NULL, 1790000000000, ?, ?)",
  )
  const lease = db.prepare(
    'INSERT INTO lease (vm_id, generation, pool_id, user_id, from_ms, ends_at_ms, due_at_ms) VALUES (?, 1, 1, ?, ?, ?, ?)',
  )
  const tally: Record<string, { ready: number; leased: number }> = {}
  for (let id = 1; id <= machines; id++) {
    const { type, os } = wishOf(id)
    const key = `${type},os=${os},rack=${id <= free ? OPEN_RACK : CROWD_RACK}`
    const counts = tally[key] ?? { ready: 0, leased: 0 }
    tally[key] = counts
    const holder = id <= free ? null : CROWD_FIRST_ID + (id % CROWD_USERS)
    const untilMs = endMs + (id % 600) * 60_000
    if (holder === null) {
      counts.ready++
      vm.run(id, `vm-${id}`, type, 'ready', 0, null, null, key, null)
    } else {
      counts.leased++
      vm.run(id, `vm-${id}`, type, 'leased', 1, holder, nowMs, key, untilMs + 300_000)
      lease.run(id, holder, nowMs, untilMs, untilMs)
    }
  }
  const terms = { durationSecondsMin: null, softGraceSeconds: null, heartbeatSeconds: null }
  const request = db.prepare(
    "INSERT INTO request VALUES (?, 1, ?, ?, ?, ?, 'normal', 'waiting', ?, NULL, NULL, ?, 0, NULL, NULL, '[]')",
  )
  const isFirstOfRow = new Set<string>()
  for (let i = 0; i < waiting; i++) {
    // Each user asks again and again for the same few kinds.
    const userId = CROWD_FIRST_ID + (i % CROWD_USERS)
    const group = (userId * 5 + (Math.floor(i / CROWD_USERS) % 4) * 37) % (CLASSES * STEPS_MINUTES.length)
    const { type, os, minutes } = wishOf(group)
    const wish = [{ type, labels: { os, rack: CROWD_RACK }, vmId: null, count: 1 }]
    const lasts = { ...terms, durationSeconds: minutes * 60, purpose: null, labels: {} }
    const row = `${userId} ${group}`
    const due = isFirstOfRow.has(row) ? null : CROWD_DUE
    isFirstOfRow.add(row)
    request.run(`req_crowd${i}`, userId, i + 1, JSON.stringify(wish), JSON.stringify(lasts), nowMs, due)
  }
  const flow = db.prepare('INSERT INTO flow VALUES (1, ?, ?)')
  if (waiting > 0) for (let i = 0; i < CROWD_USERS; i++) flow.run(CROWD_FIRST_ID + i, CROWD_TAG + i)
  const reservation = db.prepare(
    "INSERT INTO reservation VALUES (?, 1, ?, ?, ?, ?, ?, 'confirmed', 0, 0, ?, NULL, 0, NULL, NULL, '{}', ?)",
  )
  for (let i = 0; i < booked; i++) {
    const { type, os } = wishOf(i)
    const fromMs = Math.ceil(nowMs / 3_600_000) * 3_600_000 + (36 + ((i * 7) % (80 * 24))) * 3_600_000
    const count = 1 + (i % 3)
    const wish = [{ type, labels: { os, rack: CROWD_RACK }, vmId: null, count }]
    const pinned = [[`${type},os=${os},rack=${CROWD_RACK}`, count]]
    const [wishText, pinnedText] = [JSON.stringify(wish), JSON.stringify(pinned)]
    const toMs = fromMs + (1 + (i % 5)) * 3_600_000
    reservation.run(
      `res_crowd${i}`,
      CROWD_FIRST_ID + (i % CROWD_USERS),
      wishText,
      fromMs,
      toMs,
      pinnedText,
      i,
      nowMs,
    )
  }
  const queue = { nextSeq: waiting + booked + 1, waiting, booked, version: nowMs * 1_000 }
  db.prepare("UPDATE pool SET target = ?, tally = ?, queue = ?, cleaning = 'automatic'").run(
    machines,
    JSON.stringify(tally),
    JSON.stringify(queue),
  )
  db.prepare('UPDATE installation SET next_vm_id = ?, next_user_id = ?').run(
    machines + 1,
    CROWD_FIRST_ID + CROWD_USERS,
  )
  db.exec('COMMIT; PRAGMA wal_checkpoint(TRUNCATE)')
  db.close()
}
