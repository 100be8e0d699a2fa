/**
 * An installation as lines of text, the same from every database, so that it can move from one to another (docs/OPERATIONS.md
 * tells the format). A header; for each table a line that names its columns, and its rows by ascending key; at the end how many
 * rows there were, and a checksum over every line before. transfer-reader.ts reads it again.
 */
import { createHash } from 'node:crypto'
import { LEASE_ENDS } from '../domain/lease.ts'
import { PRIORITIES, REQUEST_STATES } from '../domain/request.ts'
import { RESERVATION_STATES } from '../domain/reservation.ts'
import { POWER_STATES, VM_STATES } from '../domain/vm.ts'
import type { ColumnType, Tables } from './tables.ts'

/** Grows whenever a table or a column comes or goes: then older programs must not read it. */
export const VERSION = 2

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

/** What values a column may have. */
export interface Column {
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

/** The columns with what they may hold, in their order. */
export function columnEntries(table: TransferTable): [string, Column][] {
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

const SHOWN_MAX = 60

/** A value as a refusal shows it: on one line, and not all of a long one. */
export function shown(value: unknown): string {
  const json = value === undefined ? 'missing' : JSON.stringify(value)
  return json.length > SHOWN_MAX ? `${json.slice(0, SHOWN_MAX)}…` : json
}
