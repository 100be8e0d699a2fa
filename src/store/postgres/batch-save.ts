/**
 * The second half of a batch: everything that changed, guarded, and the commit, sent in one go. The batch's id goes first, so
 * that whoever loses the answer to the commit can find out what became of it (outcome.ts).
 *
 * Event ids come from a sequence, and batches of different pools commit in any order. So before a batch draws ids it takes a
 * shared lock whose number tells from where on it draws; whoever reads events asks for these locks, and reads no further than
 * the lowest of them (event-cursor.ts).
 */
import type { PoolClient } from 'pg'
import type { ChangedBook, ChangedRows } from '../batch-rows.ts'
import { StoreConflict } from '../port.ts'
import { VM_COLUMNS } from '../tables.ts'
import { saveAllocation, saveBookChanges } from './allocation-rows.ts'
import { CURSOR_BITS } from './event-cursor.ts'
import { Flight, numbers, prepared, texts } from './statement.ts'

/** Columns of a machine that change; each machine is found by its id, and by the state and generation it was loaded with. */
const VM_TYPES: Record<(typeof VM_COLUMNS)[number], 'bigint' | 'text'> = {
  id: 'bigint',
  pool_id: 'bigint',
  name: 'text',
  type: 'text',
  address: 'text',
  power: 'text',
  state: 'text',
  generation: 'bigint',
  holder_id: 'bigint',
  leased_at_ms: 'bigint',
  due_at_ms: 'bigint',
  claim: 'bigint',
  busy_until_ms: 'bigint',
  attempts: 'bigint',
  failure: 'text',
  created_at_ms: 'bigint',
  class: 'text',
  free_at_ms: 'bigint',
}
const FIXED: readonly string[] = ['id', 'pool_id', 'type', 'created_at_ms']
const CHANGING = VM_COLUMNS.filter((column) => !FIXED.includes(column))

/** `unnest` of one array for each column. */
function rowsOf(columns: readonly (readonly [string, 'bigint' | 'text'])[], first = 1): string {
  const arrays = columns.map(([, type], i) => `$${first + i}::${type}[]`).join(', ')
  return `unnest(${arrays}) AS new (${columns.map(([name]) => name).join(', ')})`
}

const VM_INSERTED = VM_COLUMNS.map((column) => [column, VM_TYPES[column]] as const)
const VM_UPDATED = [
  ...CHANGING.map((column) => [column, VM_TYPES[column]] as const),
  ['id', 'bigint'] as const,
  ['old_state', 'text'] as const,
  ['old_generation', 'bigint'] as const,
]

const SQL = {
  // The lock is taken before any id is drawn, and its number is from before it was taken.
  batch: prepared(
    `WITH drawing AS MATERIALIZED (
       SELECT pg_advisory_xact_lock_shared(($3::bigint << ${CURSOR_BITS}) | (last_value - (NOT is_called)::int))
       FROM event_id)
     INSERT INTO batch SELECT $1, $2, false FROM drawing`,
  ),
  letGoOfEmails: prepared(`UPDATE "user" SET state = 'gone' WHERE id = ANY ($1::bigint[])`),
  updateUsers: prepared(
    `UPDATE "user" SET name = new.name, email = new.email, role = new.role, password_hash = new.password_hash,
       credential_version = new.credential_version, state = new.state, quota = new.quota
     FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[])
       AS new (id, name, email, role, password_hash, credential_version, state, quota)
     WHERE "user".id = new.id`,
  ),
  insertUsers: prepared(
    `INSERT INTO "user" (id, name, email, role, password_hash, credential_version, state, quota, created_at_ms)
     SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
       $9::bigint[])`,
  ),
  insertTokens: prepared(
    `INSERT INTO token (id, user_id, name, hash, credential_version, created_at_ms, expires_at_ms, last_used_at_ms,
       revoked_at_ms, scopes)
     SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
       $9::bigint[], $10::text[])`,
  ),
  updateTokens: prepared(
    `UPDATE token SET last_used_at_ms = new.last_used_at_ms, revoked_at_ms = new.revoked_at_ms
     FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS new (id, last_used_at_ms, revoked_at_ms)
     WHERE token.id = new.id`,
  ),
  deleteTokens: prepared('DELETE FROM token WHERE id = ANY ($1::text[])'),
  insertAnswers: prepared(
    `INSERT INTO answer (user_id, key, fingerprint, status, body, headers, at_ms)
     SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::bigint[])`,
  ),
  // Of two that do this at once the second finds nothing: both forget what is over.
  deleteAnswers: prepared(
    `DELETE FROM answer USING unnest($1::bigint[], $2::text[]) AS gone (user_id, key)
     WHERE answer.user_id = gone.user_id AND answer.key = gone.key`,
  ),
  insertPools: prepared(
    `INSERT INTO pool (id, name, target, type_mix, cleaning, provider, tally, policy, queue, created_at_ms, at_ms)
     SELECT *, $11::bigint FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
       $9::text[], $10::bigint[])`,
  ),
  updatePools: prepared(
    `UPDATE pool SET name = new.name, target = new.target, type_mix = new.type_mix, cleaning = new.cleaning,
       provider = new.provider, tally = new.tally, policy = new.policy, queue = new.queue, at_ms = $10
     FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
       AS new (id, name, target, type_mix, cleaning, provider, tally, policy, queue)
     WHERE pool.id = new.id`,
  ),
  countPools: prepared(
    `UPDATE pool SET tally = new.tally, queue = new.queue, at_ms = $4
     FROM unnest($1::bigint[], $2::text[], $3::text[]) AS new (id, tally, queue) WHERE pool.id = new.id`,
  ),
  insertVms: prepared(
    `INSERT INTO vm (${VM_COLUMNS.join(', ')}) SELECT ${VM_COLUMNS.join(', ')} FROM ${rowsOf(VM_INSERTED)}`,
  ),
  updateVms: prepared(
    `WITH changed AS (
       UPDATE vm SET ${CHANGING.map((column) => `${column} = new.${column}`).join(', ')} FROM ${rowsOf(VM_UPDATED)}
       WHERE vm.id = new.id AND vm.state = new.old_state AND vm.generation = new.old_generation
       RETURNING 1)
     SELECT expect((SELECT count(*) FROM changed), $${VM_UPDATED.length + 1},
       'machines are in the state and at the generation that they were loaded with')`,
  ),
  deleteVms: prepared(
    `WITH gone AS (DELETE FROM vm WHERE id = ANY ($1::bigint[]) AND state = 'deleting' RETURNING 1)
     SELECT expect((SELECT count(*) FROM gone), $2, 'machines that should go are there and being destroyed')`,
  ),
  insertEvents: prepared(
    `WITH inserted AS (
       INSERT INTO event (id, at_ms, type, actor_id, pool_id, vm_id, user_id, request_id, data)
       SELECT nextval('event_id'), $8::bigint, new.type, new.actor_id, new.pool_id, new.vm_id, new.user_id, new.request_id, new.data
       FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::text[])
         WITH ORDINALITY AS new (type, actor_id, pool_id, vm_id, user_id, request_id, data, n)
       ORDER BY new.n
       RETURNING id)
     SELECT max(id) AS id FROM inserted`,
  ),
  lastEventId: prepared('SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS id FROM event_id'),
  updateInstallation: prepared(
    'UPDATE installation SET state = $1, next_user_id = $2, next_vm_id = $3, next_pool_id = $4, vm_types = $5, reset = $6',
  ),
}

export interface BatchId {
  readonly id: string
  /** The batch's time. */
  readonly atMs: number
}

/** What a batch changed: its rows, and what that means to books. */
export interface Changed {
  readonly rows: ChangedRows
  readonly books: readonly ChangedBook[]
}

export interface Saved {
  readonly lastEventId: number
  readonly statements: number
}

/** Saves and commits. Throws the driver's errors; an `Error` when a guard fails. `namespace` is the schema's (event-cursor.ts). */
export async function saveBatch(
  client: PoolClient,
  batch: BatchId,
  { rows: changed, books }: Changed,
  namespace: number,
): Promise<Saved> {
  const flight = new Flight(client)
  void flight.rows(SQL.batch, [batch.atMs, batch.id, namespace])
  if (changed.wiped) wipe(flight)
  saveUsers(flight, changed)
  saveTokens(flight, changed)
  saveAnswers(flight, changed)
  savePools(flight, changed)
  saveVms(flight, changed)
  saveAllocation(flight, changed)
  saveBookChanges(flight, books)
  const { installation } = changed
  if (installation !== null)
    void flight.rows(SQL.updateInstallation, [
      installation.state,
      installation.next_user_id,
      installation.next_vm_id,
      installation.next_pool_id,
      installation.vm_types,
      installation.reset,
    ])
  // Last, so that a batch that fails draws no ids.
  const lastEvent =
    changed.events.length > 0
      ? flight.rows(SQL.insertEvents, [...eventColumns(changed), changed.nowMs])
      : flight.rows(SQL.lastEventId, [])
  const commit = flight.plain('COMMIT')
  await flight.landed()
  const { command } = await commit
  if (command !== 'COMMIT') throw new StoreConflict(`the commit was answered by ${command}`)
  return { lastEventId: (await lastEvent)[0].id, statements: flight.sent }
}

/**
 * Rows go while everything is held. Those that other batches may be about to hold are deleted one by one: they wait for us,
 * and to lock their whole table would be to wait for them.
 */
function wipe(flight: Flight): void {
  for (const table of ['"user"', 'token', 'answer', 'vm', 'pool', 'request', 'flow', 'reservation'])
    void flight.plain(`DELETE FROM ${table}`)
  void flight.plain('TRUNCATE lease, event, pool_change')
}

function saveUsers(flight: Flight, { users, newUsers }: ChangedRows): void {
  const columns = (rows: typeof users) => [
    numbers(rows.map((row) => row.id)),
    texts(rows.map((row) => row.name)),
    texts(rows.map((row) => row.email)),
    texts(rows.map((row) => row.role)),
    texts(rows.map((row) => row.password_hash)),
    numbers(rows.map((row) => row.credential_version)),
    texts(rows.map((row) => row.state)),
    texts(rows.map((row) => row.quota)),
  ]
  // E-mails may have passed from one user to another: all let go of theirs before anybody gets one.
  if (users.length > 0 && users.length + newUsers.length > 1)
    void flight.rows(SQL.letGoOfEmails, [numbers(users.map((row) => row.id))])
  if (users.length > 0) void flight.rows(SQL.updateUsers, columns(users))
  if (newUsers.length > 0)
    void flight.rows(SQL.insertUsers, [
      ...columns(newUsers),
      numbers(newUsers.map((row) => row.created_at_ms)),
    ])
}

function saveTokens(flight: Flight, { tokens, newTokens, goneTokenIds }: ChangedRows): void {
  if (goneTokenIds.length > 0) void flight.rows(SQL.deleteTokens, [texts(goneTokenIds)])
  if (tokens.length > 0)
    void flight.rows(SQL.updateTokens, [
      texts(tokens.map((row) => row.id)),
      numbers(tokens.map((row) => row.last_used_at_ms)),
      numbers(tokens.map((row) => row.revoked_at_ms)),
    ])
  if (newTokens.length > 0)
    void flight.rows(SQL.insertTokens, [
      texts(newTokens.map((row) => row.id)),
      numbers(newTokens.map((row) => row.user_id)),
      texts(newTokens.map((row) => row.name)),
      texts(newTokens.map((row) => row.hash)),
      numbers(newTokens.map((row) => row.credential_version)),
      numbers(newTokens.map((row) => row.created_at_ms)),
      numbers(newTokens.map((row) => row.expires_at_ms)),
      numbers(newTokens.map((row) => row.last_used_at_ms)),
      numbers(newTokens.map((row) => row.revoked_at_ms)),
      texts(newTokens.map((row) => row.scopes)),
    ])
}

function saveAnswers(flight: Flight, { newAnswers, goneAnswers }: ChangedRows): void {
  if (goneAnswers.length > 0)
    void flight.rows(SQL.deleteAnswers, [
      numbers(goneAnswers.map(([userId]) => userId)),
      texts(goneAnswers.map(([, key]) => key)),
    ])
  if (newAnswers.length > 0)
    void flight.rows(SQL.insertAnswers, [
      numbers(newAnswers.map((row) => row.user_id)),
      texts(newAnswers.map((row) => row.key)),
      texts(newAnswers.map((row) => row.fingerprint)),
      numbers(newAnswers.map((row) => row.status)),
      texts(newAnswers.map((row) => row.body)),
      texts(newAnswers.map((row) => row.headers)),
      numbers(newAnswers.map((row) => row.at_ms)),
    ])
}

function savePools(flight: Flight, { pools, newPools, counted, nowMs }: ChangedRows): void {
  const columns = (rows: typeof pools) => [
    numbers(rows.map((row) => row.id)),
    texts(rows.map((row) => row.name)),
    numbers(rows.map((row) => row.target)),
    texts(rows.map((row) => row.type_mix)),
    texts(rows.map((row) => row.cleaning)),
    texts(rows.map((row) => row.provider)),
    texts(rows.map((row) => row.tally)),
    texts(rows.map((row) => row.policy)),
    texts(rows.map((row) => row.queue)),
  ]
  if (newPools.length > 0)
    void flight.rows(SQL.insertPools, [
      ...columns(newPools),
      numbers(newPools.map((row) => row.created_at_ms)),
      nowMs,
    ])
  if (pools.length > 0) void flight.rows(SQL.updatePools, [...columns(pools), nowMs])
  if (counted.length > 0)
    void flight.rows(SQL.countPools, [
      numbers(counted.map(({ id }) => id)),
      texts(counted.map(({ tally }) => tally)),
      texts(counted.map(({ queue }) => queue)),
      nowMs,
    ])
}

function saveVms(flight: Flight, { newVms, vms, goneVmIds }: ChangedRows): void {
  const column = (name: (typeof VM_COLUMNS)[number], rows: readonly (readonly unknown[])[]) => {
    const at = VM_COLUMNS.indexOf(name)
    const values = rows.map((row) => row[at])
    return VM_TYPES[name] === 'bigint' ? numbers(values as number[]) : texts(values as string[])
  }
  if (newVms.length > 0)
    void flight.rows(
      SQL.insertVms,
      VM_COLUMNS.map((name) => column(name, newVms)),
    )
  if (vms.length > 0) {
    const rows = vms.map(([row]) => row)
    void flight.rows(SQL.updateVms, [
      ...CHANGING.map((name) => column(name, rows)),
      column('id', rows),
      texts(vms.map(([, state]) => state)),
      numbers(vms.map(([, , generation]) => generation)),
      vms.length,
    ])
  }
  if (goneVmIds.length > 0) void flight.rows(SQL.deleteVms, [numbers(goneVmIds), goneVmIds.length])
}

function eventColumns({ events }: ChangedRows): string[] {
  const text = (at: number) => texts(events.map((event) => event[at] as string | null))
  const number = (at: number) => numbers(events.map((event) => event[at] as number | null))
  return [text(0), number(1), number(2), number(3), number(4), text(5), text(6)]
}
