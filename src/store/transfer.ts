/**
 * An installation as lines of text, the same from every database, so that it can move from one to another (docs/OPERATIONS.md
 * tells the format). A header; for each table a line that names its columns, and its rows by ascending key; at the end how many
 * rows there were, and a checksum over every line before. Reading trusts nothing: each value, what rows say of each other, and
 * the end are checked, and whoever imports commits only when there was nothing wrong up to the end.
 */
import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import { LEASE_ENDS } from '../domain/lease.ts'
import { countUp, type QueueState, type Tally } from '../domain/pool.ts'
import { PRIORITIES, REQUEST_STATES } from '../domain/request.ts'
import { RESERVATION_STATES } from '../domain/reservation.ts'
import { POWER_STATES, VM_STATES, type VmState } from '../domain/vm.ts'
import { classOf } from '../domain/vm-class.ts'
import { type ColumnType, type Tables, VM_COLUMNS } from './tables.ts'

/** Grows whenever a table or a column comes or goes: then older programs must not read it. */
const VERSION = 2

/**
 * In an order in which rows can be inserted: what a row points at comes before it. Answers to Idempotency-Keys (`answer`) do not
 * move: they are kept for a day, and whoever moves an installation stops it first.
 */
export const TRANSFER_TABLES = [
  'installation',
  'user',
  'token',
  'pool',
  'vm',
  'lease',
  'request',
  'flow',
  'reservation',
  'event',
] as const

export type TransferTable = (typeof TRANSFER_TABLES)[number]

type TransferValue = string | number | null

/** A row's values in the order of `columnsOf`. */
export type TransferRow = readonly TransferValue[]

/** Where an export comes from: one snapshot of a database. */
export interface TransferSource {
  readonly from: 'sqlite' | 'postgres'
  /** The newest migration that was done. */
  readonly migration: number
  /** All rows of a table by ascending key, in slices. */
  rows(table: TransferTable): AsyncIterable<readonly TransferRow[]>
}

/** Some rows of one table. */
export interface TransferSlice {
  readonly table: TransferTable
  readonly rows: readonly TransferRow[]
}

/** How many rows of each table. */
export type TransferCounts = Record<TransferTable, number>

/** Something cannot be moved. The message is one line for the operator. */
export class TransferRefused extends Error {
  override readonly name = 'TransferRefused'
}

interface Column {
  readonly type: ColumnType
  readonly nullable: boolean
  readonly min?: number
  readonly max?: number
  readonly among?: readonly string[]
  /** The text of a JSON object, or of a list. */
  readonly json?: 'object' | 'list'
  /** Its value is never shown. */
  readonly secret?: true
}

const integer: Column = { type: 'integer', nullable: false }
const text: Column = { type: 'text', nullable: false }
const id: Column = { ...integer, min: 1 }
const count: Column = { ...integer, min: 0 }
const real: Column = { type: 'real', nullable: false, min: 0 }
/** 1: true, 0: false. */
const flag: Column = { ...integer, min: 0, max: 1 }
const json: Column = { ...text, json: 'object' }
const list: Column = { ...text, json: 'list' }
const among = (...values: readonly string[]): Column => ({ ...text, among: values })
const optional = (column: Column): Column => ({ ...column, nullable: true })

const COLUMNS: { readonly [T in TransferTable]: { readonly [C in keyof Tables[T]]: Column } } = {
  installation: {
    id: { ...integer, min: 1 },
    state: among('open', 'resetting'),
    next_user_id: id,
    next_vm_id: id,
    next_pool_id: id,
    reset: optional(json),
    vm_types: json,
  },
  user: {
    id,
    name: text,
    email: text,
    role: among('admin', 'user'),
    password_hash: { ...text, secret: true },
    credential_version: integer,
    state: among('active', 'leaving', 'gone'),
    created_at_ms: integer,
    quota: optional(json),
  },
  token: {
    id: text,
    user_id: id,
    name: text,
    hash: { ...text, secret: true },
    credential_version: integer,
    created_at_ms: integer,
    expires_at_ms: optional(integer),
    last_used_at_ms: optional(integer),
    revoked_at_ms: optional(integer),
    scopes: optional(text),
  },
  pool: {
    id,
    name: text,
    target: count,
    type_mix: json,
    cleaning: among('manual', 'automatic'),
    provider: text,
    tally: json,
    created_at_ms: integer,
    policy: json,
    queue: json,
  },
  vm: {
    id,
    pool_id: id,
    name: text,
    type: text,
    address: text,
    power: among(...POWER_STATES),
    state: among(...VM_STATES),
    generation: count,
    holder_id: optional(id),
    leased_at_ms: optional(integer),
    due_at_ms: optional(integer),
    claim: count,
    busy_until_ms: optional(integer),
    attempts: count,
    failure: optional(text),
    created_at_ms: integer,
    class: text,
    free_at_ms: optional(integer),
  },
  lease: {
    vm_id: id,
    generation: id,
    pool_id: id,
    user_id: id,
    from_ms: integer,
    ended_at_ms: optional(integer),
    ends_at_ms: optional(integer),
    ended_by: optional(among(...LEASE_ENDS)),
    request_id: optional(text),
    reservation_id: optional(text),
    soft_grace_seconds: optional(count),
    heartbeat_seconds: optional(count),
    beat_by_ms: optional(integer),
    due_at_ms: optional(integer),
    warned: flag,
    charged_minutes: real,
    weight: real,
    purpose: optional(text),
    labels: optional(json),
    shared_with: optional(list),
  },
  request: {
    id: text,
    pool_id: id,
    user_id: id,
    seq: count,
    wish: list,
    terms: json,
    priority: among(...PRIORITIES),
    state: among(...REQUEST_STATES),
    created_at_ms: integer,
    until_ms: optional(integer),
    ended_at_ms: optional(integer),
    due: optional(integer),
    parked: flag,
    collect_since_ms: optional(integer),
    reservation_id: optional(text),
    leases: list,
  },
  flow: {
    pool_id: id,
    user_id: id,
    tag: real,
  },
  reservation: {
    id: text,
    pool_id: id,
    user_id: id,
    wish: list,
    from_ms: integer,
    to_ms: integer,
    pinned: list,
    state: among(...RESERVATION_STATES),
    at_risk: flag,
    missing: count,
    confirmed_seq: count,
    no_show_seconds: optional(count),
    claimed: flag,
    series_id: optional(text),
    purpose: optional(text),
    labels: json,
    created_at_ms: integer,
  },
  event: {
    id,
    at_ms: integer,
    type: text,
    actor_id: optional(id),
    pool_id: optional(id),
    vm_id: optional(id),
    user_id: optional(id),
    request_id: optional(text),
    data: optional(json),
  },
}

/** The columns that move, in their order. */
export function columnsOf(table: TransferTable): readonly string[] {
  return Object.keys(COLUMNS[table])
}

/** The types of these columns. */
export function columnTypesOf(table: TransferTable): readonly Column['type'][] {
  return columnEntries(table).map(([, { type }]) => type)
}

/** The columns that a row is found by; they come first in it. */
export function keyOf(table: TransferTable): readonly string[] {
  if (table === 'lease') return ['vm_id', 'generation']
  return table === 'flow' ? ['pool_id', 'user_id'] : ['id']
}

function columnEntries(table: TransferTable): [string, Column][] {
  return Object.entries(COLUMNS[table])
}

export function noRows(): TransferCounts {
  return Object.fromEntries(TRANSFER_TABLES.map((table) => [table, 0])) as TransferCounts
}

/** The whole export as texts of some lines each. */
export async function* exportText(source: TransferSource, exportedAtMs: number): AsyncGenerator<string> {
  const hash = createHash('sha256')
  const hashed = (lines: string) => {
    hash.update(lines)
    return lines
  }
  const { from, migration } = source
  yield hashed(line({ berth: 'export', version: VERSION, exportedAtMs, from, migration }))
  const rows = noRows()
  for (const table of TRANSFER_TABLES) {
    yield hashed(line({ table, columns: columnsOf(table) }))
    for await (const slice of source.rows(table)) {
      rows[table] += slice.length
      yield hashed(slice.map(line).join(''))
    }
  }
  yield line({ end: true, rows, sha256: hash.digest('hex') })
}

function line(value: unknown): string {
  return `${JSON.stringify(value)}\n`
}

const SLICE_ROWS = 2_000
const NEWLINE = 10
const LINE_BYTES_MAX = 64 * 1024 * 1024
const END = Buffer.from('{"end":')

/**
 * Reads an export. Throws `TransferRefused`, with the line and the column, when anything is wrong with it; that is only known
 * when the last slice was taken and the generator has ended.
 */
export async function* readExport(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<TransferSlice> {
  const reader = new ExportReader()
  const hash = createHash('sha256')
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk])
    if (reader.lines === 0) requirePlain(rest)
    const last = rest.lastIndexOf(NEWLINE) + 1
    if (last === 0 && rest.length > LINE_BYTES_MAX)
      refuse(reader.lines + 1, 'it is longer than any line of an export')
    yield* readLines(rest.subarray(0, last), reader, hash)
    rest = rest.subarray(last)
  }
  yield* readLines(rest, reader, hash)
  reader.finish()
}

/** Reads whole lines. What is hashed ends where the footer begins. */
function* readLines(
  bytes: Buffer,
  reader: ExportReader,
  hash: ReturnType<typeof createHash>,
): Generator<TransferSlice> {
  if (!isUtf8(bytes)) refuse(reader.lines + 1, 'from here on it is no UTF-8')
  let hashedTo = 0
  for (let from = 0; from < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, from)
    const to = newline === -1 ? bytes.length : newline
    if (bytes.subarray(from, from + END.length).equals(END) && !reader.ended) {
      hash.update(bytes.subarray(hashedTo, from))
      hashedTo = bytes.length
      reader.end(bytes.toString('utf8', from, to), hash.digest('hex'))
    } else reader.read(bytes.toString('utf8', from, to))
    const slice = reader.take()
    if (slice !== null) yield slice
    from = to + 1
  }
  if (!reader.ended) hash.update(bytes.subarray(hashedTo))
}

function requirePlain(bytes: Buffer): void {
  if (bytes[0] === 0x1f && bytes[1] === 0x8b)
    throw new TransferRefused('the export is compressed: unpack it first (gunzip -c FILE | berth import)')
}

function refuse(lineNumber: number, reason: string): never {
  throw new TransferRefused(`line ${lineNumber} of the export: ${reason}`)
}

/** Checks line after line, and collects rows into slices. */
class ExportReader {
  lines = 0
  ended = false
  readonly #counts = noRows()
  readonly #whole = new Wholeness()
  #at = -1
  #checks: readonly ((value: unknown) => string | null)[] = []
  #names: readonly string[] = []
  #lastKey: Key = []
  #rows: TransferRow[] = []
  #ready: TransferSlice | null = null

  read(lineText: string): void {
    const lineNumber = ++this.lines
    if (this.ended) refuse(lineNumber, 'there is something behind the end')
    const value = parsed(lineText, lineNumber)
    if (lineNumber === 1) readHeader(value)
    else if (Array.isArray(value)) this.#row(value)
    else this.#table(value)
  }

  /** The footer. `sha256` is that of the lines that were read before it. */
  end(lineText: string, sha256: string): void {
    const lineNumber = ++this.lines
    if (lineNumber === 1) readHeader(parsed(lineText, lineNumber))
    const footer = parsed(lineText, lineNumber)
    if (this.#at !== TRANSFER_TABLES.length - 1) refuse(lineNumber, `there is no table ${this.#next()}`)
    this.#flush()
    const { rows, sha256: expected } = footer as { rows?: Record<string, unknown>; sha256?: unknown }
    for (const table of TRANSFER_TABLES) {
      const said = rows?.[table]
      const found = this.#counts[table]
      if (said !== found)
        refuse(lineNumber, `it says that ${table} has ${shown(said)} rows, and there are ${found}`)
    }
    if (expected !== sha256) refuse(lineNumber, 'the checksum is another: the export was changed or damaged')
    const reason = this.#whole.reason()
    if (reason !== null) throw new TransferRefused(`the export does not agree with itself: ${reason}`)
    this.ended = true
  }

  finish(): void {
    if (this.lines === 0) throw new TransferRefused('the export is empty')
    if (!this.ended)
      throw new TransferRefused(`the export ends in the middle: there is no end after line ${this.lines}`)
  }

  /** A slice that is full, or the last of its table. */
  take(): TransferSlice | null {
    const slice = this.#ready
    this.#ready = null
    return slice
  }

  #next(): string {
    return TRANSFER_TABLES[this.#at + 1] ?? 'more'
  }

  #table(value: unknown): void {
    const { table, columns } = (value ?? {}) as { table?: unknown; columns?: unknown }
    if (table === undefined) refuse(this.lines, 'it is no row, no table and no end')
    const known = TRANSFER_TABLES.find((name) => name === table)
    if (known === undefined) refuse(this.lines, `this program knows no table ${shown(table)}`)
    if (known !== this.#next()) refuse(this.lines, `table ${known} stands where ${this.#next()} should`)
    this.#flush()
    const wrong = wrongColumns(known, columns)
    if (wrong !== null) refuse(this.lines, `${known}: ${wrong}`)
    this.#at++
    this.#names = columnsOf(known)
    this.#checks = columnEntries(known).map(([, column]) => checkOf(column))
    this.#lastKey = []
  }

  #row(row: readonly unknown[]): void {
    const table = TRANSFER_TABLES[this.#at]
    if (table === undefined) refuse(this.lines, 'a row before the first table')
    if (row.length !== this.#checks.length)
      refuse(this.lines, `a row of ${table} has ${this.#checks.length} values, and this one ${row.length}`)
    for (let i = 0; i < row.length; i++) {
      const reason = this.#checks[i]?.(row[i]) ?? null
      if (reason !== null) refuse(this.lines, `${table}.${this.#names[i]} ${reason}`)
    }
    const key = row.slice(0, keyOf(table).length) as Key
    if (!ascends(this.#lastKey, key))
      refuse(this.lines, `${table}.${keyOf(table).join(', ')} ${key.join(', ')} does not ascend`)
    this.#lastKey = key
    const reason = this.#whole.add(table, row as TransferRow)
    if (reason !== null) refuse(this.lines, reason)
    this.#counts[table]++
    this.#rows.push(row as TransferRow)
    if (this.#rows.length >= SLICE_ROWS) this.#flush()
  }

  #flush(): void {
    const table = TRANSFER_TABLES[this.#at]
    if (table !== undefined && this.#rows.length > 0) this.#ready = { table, rows: this.#rows }
    this.#rows = []
  }
}

function parsed(lineText: string, lineNumber: number): unknown {
  try {
    return JSON.parse(lineText)
  } catch {
    return refuse(lineNumber, lineNumber === 1 ? 'this is no export of Berth' : 'it is no JSON')
  }
}

function readHeader(value: unknown): void {
  const { berth, version, exportedAtMs, from, migration } = (value ?? {}) as Record<string, unknown>
  if (berth !== 'export') refuse(1, 'this is no export of Berth')
  if (typeof version === 'number' && version > VERSION)
    refuse(
      1,
      `it was written by a newer Berth (format ${version}, this program knows ${VERSION}): use the newer program`,
    )
  if (version !== VERSION) refuse(1, `version is ${shown(version)}, and this program reads ${VERSION}`)
  if (!Number.isSafeInteger(exportedAtMs))
    refuse(1, `exportedAtMs is ${shown(exportedAtMs)}, no whole number`)
  if (from !== 'sqlite' && from !== 'postgres')
    refuse(1, `from is ${shown(from)}, and should be sqlite or postgres`)
  if (!Number.isSafeInteger(migration)) refuse(1, `migration is ${shown(migration)}, no whole number`)
}

function wrongColumns(table: TransferTable, columns: unknown): string | null {
  if (!Array.isArray(columns)) return 'its columns are not named'
  const known = columnsOf(table)
  const unknown = columns.find((name) => !known.includes(name))
  if (unknown !== undefined) return `this program knows no column ${shown(unknown)}`
  const missing = known.find((name) => !columns.includes(name))
  if (missing !== undefined) return `there is no column ${missing}`
  return columns.length === known.length && columns.every((name, i) => name === known[i])
    ? null
    : `its columns should be ${known.join(', ')}, in this order`
}

/** What is wrong with a value of a column; null when nothing is. */
function checkOf({
  type,
  nullable,
  min,
  max,
  among,
  json,
  secret,
}: Column): (value: unknown) => string | null {
  const seen = (value: unknown) => (secret ? 'something else' : shown(value))
  return (value) => {
    if (value === null && nullable) return null
    if (type !== 'text') {
      if (type === 'integer' && !Number.isSafeInteger(value)) return `is ${seen(value)}, no whole number`
      if (!Number.isFinite(value)) return `is ${seen(value)}, no number`
      if (max !== undefined && (value as number) > max) return `is ${seen(value)}, more than ${max}`
      return min !== undefined && (value as number) < min ? `is ${seen(value)}, less than ${min}` : null
    }
    if (typeof value !== 'string') return `is ${seen(value)}, no text`
    if (among !== undefined)
      return among.includes(value) ? null : `is ${seen(value)}, none of ${among.join(', ')}`
    if (!value.isWellFormed() || value.includes('\0')) return 'holds characters that cannot be stored'
    return json !== undefined && kindOfJson(value) !== json ? `is not the text of a JSON ${json}` : null
  }
}

function kindOfJson(value: string): 'object' | 'list' | null {
  try {
    const found: unknown = JSON.parse(value)
    if (Array.isArray(found)) return 'list'
    return typeof found === 'object' && found !== null ? 'object' : null
  } catch {
    return null
  }
}

const SHOWN_MAX = 60

/** A value as a refusal shows it: on one line, and not all of a long one. */
function shown(value: unknown): string {
  const json = value === undefined ? 'missing' : JSON.stringify(value)
  return json.length > SHOWN_MAX ? `${json.slice(0, SHOWN_MAX)}…` : json
}

type Key = readonly (number | string)[]

/** Texts are compared as both databases compare them: byte by byte, which for the ASCII of our ids is as JavaScript does. */
function ascends(before: Key, key: Key): boolean {
  for (const [i, part] of key.entries()) {
    const other = before[i]
    if (other === undefined || part > other) return true
    if (part < other) return false
  }
  return false
}

interface PoolCounts {
  readonly name: string
  readonly tally: Tally
  readonly counted: Tally
  readonly queue: Partial<QueueState>
  waiting: number
  booked: number
}

const STANDING: readonly string[] = ['confirmed', 'active']

/** What rows say of each other, as far as it can be seen while they pass: users and pools are remembered, machines are counted. */
class Wholeness {
  readonly #users = new Set<number>()
  readonly #emails = new Set<string>()
  readonly #hashes = new Set<string>()
  readonly #pools = new Map<number, PoolCounts>()
  readonly #names = new Set<string>()
  #types: readonly string[] = []
  #installation: TransferRow | null = null
  #lastVmId = 0
  #held = 0
  #openLeases = 0

  /** What is wrong with this row, given those before it. */
  add(table: TransferTable, row: TransferRow): string | null {
    if (table === 'installation') return this.#addInstallation(row)
    if (table === 'user') return this.#addUser(row)
    if (table === 'token') return this.#addToken(row)
    if (table === 'pool') return this.#addPool(row)
    if (table === 'vm') return this.#addVm(row)
    if (table === 'lease') return this.#addLease(row)
    if (table === 'request')
      return this.#addOfUser(table, row.slice(1), row[7] === 'waiting' ? 'waiting' : null)
    if (table === 'flow') return this.#addOfUser(table, row, null)
    if (table === 'reservation')
      return this.#addOfUser(table, row.slice(1), STANDING.includes(`${row[7]}`) ? 'booked' : null)
    return null
  }

  /** What is wrong with all of them together. */
  reason(): string | null {
    if (this.#installation === null) return 'there is no row of installation'
    const [, , nextUserId, nextVmId, nextPoolId] = this.#installation as readonly number[]
    const last = (ids: Iterable<number>) => [...ids].at(-1) ?? 0
    if ((nextUserId ?? 0) <= last(this.#users)) return 'next_user_id is the id of a user'
    if ((nextVmId ?? 0) <= this.#lastVmId) return 'next_vm_id is the id of a machine'
    if ((nextPoolId ?? 0) <= last(this.#pools.keys())) return 'next_pool_id is the id of a pool'
    for (const { name, tally, counted } of this.#pools.values())
      for (const key of new Set([...Object.keys(tally), ...Object.keys(counted)]))
        for (const state of VM_STATES) {
          const [said, found] = [tally[key]?.[state] ?? 0, counted[key]?.[state] ?? 0]
          if (said !== found)
            return `pool ${shown(name)} counts ${said} ${key} machines in state ${state}, and there are ${found}`
        }
    for (const { name, queue, waiting, booked } of this.#pools.values())
      for (const [what, said, found] of [
        ['waiting requests', queue.waiting ?? 0, waiting],
        ['standing reservations', queue.booked ?? 0, booked],
      ] as const)
        if (said !== found) return `pool ${shown(name)} counts ${said} ${what}, and there are ${found}`
    if (this.#held !== this.#openLeases)
      return `${this.#held} machines are held, and ${this.#openLeases} leases have not ended`
    return null
  }

  #addInstallation(row: TransferRow): string | null {
    if (row[0] !== 1) return 'installation.id is not 1'
    this.#types = Object.keys(JSON.parse(row[6] as string) as object)
    this.#installation = row
    return null
  }

  #addUser([id, , email, , , , state]: TransferRow): string | null {
    this.#users.add(id as number)
    if (state !== 'active') return null
    if (this.#emails.has(email as string)) return `user.email ${shown(email)} is another active user’s`
    this.#emails.add(email as string)
    return null
  }

  #addToken([id, userId, , hash]: TransferRow): string | null {
    if (!this.#users.has(userId as number)) return `token.user_id ${userId} is no user’s`
    if (this.#hashes.has(hash as string)) return `token.hash of ${shown(id)} is another token’s`
    this.#hashes.add(hash as string)
    return null
  }

  #addPool([id, name, , , , , tally, , , queue]: TransferRow): string | null {
    if (this.#names.has(name as string)) return `pool.name ${shown(name)} is another pool’s`
    this.#names.add(name as string)
    this.#pools.set(id as number, {
      name: name as string,
      tally: JSON.parse(tally as string) as Tally,
      counted: {},
      queue: JSON.parse(queue as string) as Partial<QueueState>,
      waiting: 0,
      booked: 0,
    })
    return null
  }

  #addVm(row: TransferRow): string | null {
    const [id, poolId, , type, , , state, , holderId] = row
    const vmClass = row[VM_COLUMNS.indexOf('class')] as string
    const pool = this.#pools.get(poolId as number)
    if (pool === undefined) return `vm.pool_id ${poolId} is no pool’s`
    if (holderId !== null && !this.#users.has(holderId as number))
      return `vm.holder_id ${holderId} is no user’s`
    if (this.#installation !== null && !this.#types.includes(type as string))
      return `vm.type is ${shown(type)}, none of ${this.#types.join(', ')}`
    if ((state === 'leased') !== (holderId !== null))
      return `vm.holder_id is ${shown(holderId)} in state ${state}`
    if (classOf(vmClass).type !== type) return `vm.class ${shown(vmClass)} is none of type ${shown(type)}`
    countUp(pool.counted, vmClass, state as VmState, 1)
    this.#lastVmId = id as number
    if (holderId !== null) this.#held++
    return null
  }

  /** A row that begins with its pool and its user. */
  #addOfUser(
    table: TransferTable,
    [poolId, userId]: TransferRow,
    counts: 'waiting' | 'booked' | null,
  ): string | null {
    const pool = this.#pools.get(poolId as number)
    if (pool === undefined) return `${table}.pool_id ${poolId} is no pool’s`
    if (!this.#users.has(userId as number)) return `${table}.user_id ${userId} is no user’s`
    if (counts !== null) pool[counts]++
    return null
  }

  #addLease([, , poolId, userId, , endedAtMs]: TransferRow): string | null {
    if (!this.#pools.has(poolId as number)) return `lease.pool_id ${poolId} is no pool’s`
    if (!this.#users.has(userId as number)) return `lease.user_id ${userId} is no user’s`
    if (endedAtMs === null) this.#openLeases++
    return null
  }
}
