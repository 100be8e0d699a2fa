/**
 * Leases, requests, flows, reservations and books in PostgreSQL: what a batch loads of them, and how it saves them. What other
 * servers changed of a book is kept for some versions (`pool_change`), so that a server follows without reading all of it.
 */
import type { PoolClient } from 'pg'
import type { MoreNeeds, Usage } from '../../domain/working-set.ts'
import type { ChangedBook, ChangedRows, FoundMore, WantedRows } from '../batch-rows.ts'
import { BOOK_VMS, type FoundBook, isBookWanted } from '../book.ts'
import { LEASE, LEASE_COLUMNS } from '../lease.ts'
import { FLOW, FLOW_COLUMNS, REQUEST, REQUEST_COLUMNS } from '../request.ts'
import { RESERVATION, RESERVATION_COLUMNS } from '../reservation.ts'
import { type ColumnType, queueOf, type Tables, type Tuple, VM_COLUMNS } from '../tables.ts'
import { usageArguments, usageOf, usageStatements } from '../usage.ts'
import { Flight, numbers, PG_TYPES, type Prepared, prepared, type Row, texts } from './statement.ts'

/** Versions of a pool whose changes are kept. */
const CHANGES_KEPT = 256

/** Columns of a lease that never change. */
const LEASE_FIXED = 5

const [request, flow, reservation] = [REQUEST_COLUMNS, FLOW_COLUMNS, RESERVATION_COLUMNS].map((columns) =>
  columns.join(', '),
)

/** `unnest` of one array for each column. */
function arraysOf(columns: readonly ColumnType[]): string {
  return `unnest(${columns.map((type, i) => `$${i + 1}::${PG_TYPES[type]}[]`).join(', ')})`
}

function upsertInto(table: string, columns: Readonly<Record<string, ColumnType>>, key: string): Prepared {
  const names = Object.keys(columns)
  const edits = names.filter((name) => !key.includes(name)).map((name) => `${name} = excluded.${name}`)
  return prepared(
    `INSERT INTO ${table} (${names.join(', ')}) SELECT * FROM ${arraysOf(Object.values(columns))}
     ON CONFLICT (${key}) DO UPDATE SET ${edits.join(', ')}`,
  )
}

const usage = usageStatements('postgres')

const SQL = {
  requests: prepared(`SELECT ${request} FROM request WHERE id = ANY ($1::text[])`),
  dueRequests: prepared(
    `SELECT ${request} FROM request WHERE pool_id = $1 AND state = 'waiting' AND until_ms <=
       coalesce($2::bigint, (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint))
     ORDER BY until_ms LIMIT $3`,
  ),
  reservations: prepared(`SELECT ${reservation} FROM reservation WHERE id = ANY ($1::text[])`),
  vms: prepared(`SELECT ${VM_COLUMNS.join(', ')} FROM vm WHERE id = ANY ($1::bigint[])`),
  runningLeases: prepared(
    `SELECT ${LEASE_COLUMNS.join(', ')} FROM lease WHERE vm_id = ANY ($1::bigint[]) AND ended_at_ms IS NULL`,
  ),
  readyOfClass: prepared(
    `SELECT ${VM_COLUMNS.join(', ')} FROM vm WHERE pool_id = $1 AND class = $2 AND state = 'ready' ORDER BY id LIMIT $3`,
  ),
  pools: prepared('SELECT * FROM pool WHERE id = ANY ($1::bigint[])'),
  shareUsers: prepared('SELECT * FROM "user" WHERE id = ANY ($1::bigint[]) ORDER BY id FOR SHARE'),
  changes: prepared(
    `SELECT pool_change.pool_id, pool_change.version, pool_change.change
     FROM unnest($1::bigint[], $2::bigint[]) AS had (pool_id, version)
     JOIN pool_change ON pool_change.pool_id = had.pool_id AND pool_change.version > had.version
     ORDER BY pool_change.pool_id, pool_change.version`,
  ),
  bookVms: prepared(`${BOOK_VMS} $1`),
  waiting: prepared(`SELECT ${request} FROM request WHERE pool_id = $1 AND state = 'waiting'`),
  flows: prepared(`SELECT ${flow} FROM flow WHERE pool_id = $1`),
  confirmed: prepared(`SELECT ${reservation} FROM reservation WHERE pool_id = $1 AND state = 'confirmed'`),
  active: prepared(`SELECT ${reservation} FROM reservation WHERE pool_id = $1 AND state = 'active'`),
  held: prepared(usage.held.sql),
  used: prepared(usage.used.sql),
  waits: prepared(usage.waiting.sql),

  insertLeases: prepared(
    `INSERT INTO lease (${LEASE_COLUMNS.join(', ')}) SELECT * FROM ${arraysOf(Object.values(LEASE))}`,
  ),
  updateLeases: prepared(
    `WITH changed AS (
       UPDATE lease SET ${LEASE_COLUMNS.slice(LEASE_FIXED)
         .map((column) => `${column} = new.${column}`)
         .join(', ')}
       FROM ${arraysOf(Object.values(LEASE))} AS new (${LEASE_COLUMNS.join(', ')})
       WHERE lease.vm_id = new.vm_id AND lease.generation = new.generation AND lease.ended_at_ms IS NULL
       RETURNING 1)
     SELECT expect((SELECT count(*) FROM changed), $${LEASE_COLUMNS.length + 1}, 'leases that change were running')`,
  ),
  saveRequests: upsertInto('request', REQUEST, 'id'),
  saveFlows: upsertInto('flow', FLOW, 'pool_id, user_id'),
  saveReservations: upsertInto('reservation', RESERVATION, 'id'),
  saveChange: prepared(
    `WITH old AS (DELETE FROM pool_change WHERE pool_id = $1 AND version <= $2::bigint - ${CHANGES_KEPT})
     INSERT INTO pool_change VALUES ($1, $2::bigint, $3)`,
  ),
}

type Found = Promise<readonly Tuple[]>

/** What `loadBatch` reads of leases, requests, reservations and changes of books, all in the same flight. */
export function readAllocation(flight: Flight, wanted: WantedRows, clockMs: number | null) {
  const requests: Found[] = []
  if (wanted.requestIds.length > 0) requests.push(flight.tuples(SQL.requests, [texts(wanted.requestIds)]))
  for (const [poolId, rowsMax] of wanted.dueRequests)
    requests.push(flight.tuples(SQL.dueRequests, [poolId, clockMs, rowsMax]))
  const reservations: Found =
    wanted.reservationIds.length > 0
      ? flight.tuples(SQL.reservations, [texts(wanted.reservationIds)])
      : Promise.resolve([])
  const changes: Found =
    wanted.bookVersions.length > 0 ? readChanges(flight, wanted.bookVersions) : Promise.resolve([])
  const usage = wanted.usageOf.map((userId) => readUsage(flight, userId, clockMs ?? wanted.nowMs))
  return { requests, reservations, changes, usage }
}

function readChanges(flight: Flight, versions: WantedRows['bookVersions']): Found {
  return flight.tuples(SQL.changes, [
    numbers(versions.map(([poolId]) => poolId)),
    numbers(versions.map(([, version]) => version)),
  ])
}

/** A book as far as it is known without reading all of it; `whole`: that is what is left. */
interface Followed {
  readonly row: Tables['pool']
  readonly book: FoundBook
  readonly whole: boolean
}

/** The books that a batch is to be given of the pools that it holds. */
export function wantedBooks(
  pools: readonly Tables['pool'][],
  { books, bookVersions }: Pick<WantedRows, 'books' | 'bookVersions'>,
  changes: readonly Tuple[],
): Followed[] {
  const versions = new Map(bookVersions)
  return pools.flatMap((row) => {
    const had = versions.get(row.id) ?? 0
    const book = followed(row, had, changes)
    // A server that has a book keeps it as long as that costs little.
    const isKept = had > 0 && !book.whole
    return isKept || isBookWanted(row, books) ? [book] : []
  })
}

function followed(row: Tables['pool'], had: number, changes: readonly Tuple[]): Followed {
  const { version } = queueOf(row)
  const since = changes
    .filter(([poolId, at]) => poolId === row.id && (at as number) <= version)
    .map(([, at, change]) => ({ version: at as number, change: change as string }))
  const contiguous =
    had > 0 && had + since.length === version && since.every((c, i) => c.version === had + i + 1)
  const book = { poolId: row.id, version, changes: contiguous ? since : [], rows: null }
  return { row, book, whole: !contiguous }
}

/** Reads all there is of those books that cannot be followed. */
export async function completeBooks(
  client: PoolClient,
  books: readonly Followed[],
): Promise<{ books: FoundBook[]; statements: number }> {
  if (!books.some(({ whole }) => whole)) return { books: books.map(({ book }) => book), statements: 0 }
  const flight = new Flight(client)
  const complete = books.map(async ({ row, book, whole }) => {
    if (!whole) return book
    const parts = [SQL.bookVms, SQL.waiting, SQL.flows, SQL.confirmed, SQL.active]
    const found = await Promise.all(parts.map((statement) => flight.tuples(statement, [row.id])))
    const [vms = [], requests = [], flows = [], confirmed = [], active = []] = found
    return { ...book, rows: { pool: row, vms, requests, flows, reservations: [...confirmed, ...active] } }
  })
  // Whoever waits for the parts of a book hears of a failure from `landed`.
  for (const book of complete) book.catch(() => {})
  await flight.landed()
  return { books: await Promise.all(complete), statements: flight.sent }
}

export interface LoadedMore {
  readonly found: FoundMore
  /** Statements that were sent. */
  readonly statements: number
}

/** What `Batch.more` reads: one round trip, and another one when a book has to be read whole. */
export async function readMore(client: PoolClient, needs: MoreNeeds, nowMs: number): Promise<LoadedMore> {
  const flight = new Flight(client)
  const poolIds = needs.books.map(([poolId]) => poolId)
  const pools = poolIds.length > 0 ? flight.rows(SQL.pools, [numbers(poolIds)]) : Promise.resolve([])
  const changes: Found = poolIds.length > 0 ? readChanges(flight, needs.books) : Promise.resolve([])
  const users =
    needs.userIds.length > 0
      ? flight.rows(SQL.shareUsers, [numbers(needs.userIds)])
      : Promise.resolve<Row[]>([])
  const ready = needs.ready.map((wanted) => flight.tuples(SQL.readyOfClass, [...wanted]))
  const usage = needs.usageOf.map((userId) => readUsage(flight, userId, nowMs))
  const isNaming = needs.vmIds.length > 0
  const vms: Found = isNaming ? flight.tuples(SQL.vms, [numbers(needs.vmIds)]) : Promise.resolve([])
  const leases: Found = isNaming
    ? flight.tuples(SQL.runningLeases, [numbers(needs.vmIds)])
    : Promise.resolve([])
  await flight.landed()

  const versions = new Map(needs.books)
  const since = await changes
  const books = (await pools).map((row) => followed(row, versions.get(row.id) ?? 0, since))
  const complete = await completeBooks(client, books)
  return {
    found: {
      books: complete.books,
      ready: await Promise.all(ready),
      vms: await vms,
      leases: await leases,
      users: await users,
      usage: await Promise.all(usage),
    },
    statements: flight.sent + complete.statements,
  }
}

async function readUsage(flight: Flight, userId: number, nowMs: number): Promise<Usage> {
  const args: Record<string, number> = usageArguments(userId, nowMs)
  const valuesOf = ({ argumentNames }: { argumentNames: readonly string[] }) =>
    argumentNames.map((name) => args[name] as number)
  const [held, used, waiting] = await Promise.all([
    flight.tuples(SQL.held, valuesOf(usage.held)),
    flight.tuples(SQL.used, valuesOf(usage.used)),
    flight.tuples(SQL.waits, valuesOf(usage.waiting)),
  ])
  return usageOf(userId, { held, used, waiting })
}

export function saveAllocation(flight: Flight, changed: ChangedRows): void {
  const { newLeases, leases, requests, flows, reservations } = changed
  if (newLeases.length > 0) void flight.rows(SQL.insertLeases, columnsOf(LEASE, newLeases))
  if (leases.length > 0) void flight.rows(SQL.updateLeases, [...columnsOf(LEASE, leases), leases.length])
  if (requests.length > 0) void flight.rows(SQL.saveRequests, columnsOf(REQUEST, requests))
  if (flows.length > 0) void flight.rows(SQL.saveFlows, columnsOf(FLOW, flows))
  if (reservations.length > 0) void flight.rows(SQL.saveReservations, columnsOf(RESERVATION, reservations))
}

export function saveBookChanges(flight: Flight, books: readonly ChangedBook[]): void {
  for (const { poolId, version, change } of books) void flight.rows(SQL.saveChange, [poolId, version, change])
}

/** Rows as one array for each column. */
function columnsOf(columns: Readonly<Record<string, ColumnType>>, rows: readonly Tuple[]): string[] {
  return Object.values(columns).map((type, at) => {
    const values = rows.map((row) => row[at] ?? null)
    return type === 'text' ? texts(values as string[]) : numbers(values as number[])
  })
}
