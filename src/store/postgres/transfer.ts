/** All rows out of a PostgreSQL database, and into an empty one. */
import type { ClientBase } from 'pg'
import { requireMigrated } from '../migration.ts'
import {
  columnsOf,
  columnTypesOf,
  keyOf,
  noRows,
  type TransferCounts,
  TransferRefused,
  type TransferRow,
  type TransferSlice,
  type TransferSource,
  type TransferTable,
} from '../transfer.ts'
import { migrationStatus } from './migrations.ts'
import { numbers, PG_TYPES, texts } from './statement.ts'

const SLICE_ROWS = 5_000

/** Calls `read` with what the database holds, all of it of one moment. Throws `StoreRefusesToOpen`. */
export async function withPostgresSource<T>(
  client: ClientBase,
  where: string,
  read: (source: TransferSource) => Promise<T>,
): Promise<T> {
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
  try {
    const status = await migrationStatus(client)
    requireMigrated(status, `the database ${where}`)
    return await read({
      from: 'postgres',
      migration: status.done.at(-1)?.id ?? 0,
      rows: (table) => rowsOf(client, table),
    })
  } finally {
    await client.query('ROLLBACK').catch(() => {})
  }
}

async function* rowsOf(client: ClientBase, table: TransferTable): AsyncGenerator<readonly TransferRow[]> {
  const [columns, key] = [columnsOf(table), keyOf(table)].map((names) => names.join(', '))
  await client.query(
    `DECLARE moved NO SCROLL CURSOR FOR SELECT ${columns} FROM ${quoted(table)} ORDER BY ${key}`,
  )
  for (;;) {
    const { rows } = await client.query<TransferValues>({
      text: `FETCH ${SLICE_ROWS} FROM moved`,
      rowMode: 'array',
    })
    if (rows.length > 0) yield rows
    if (rows.length < SLICE_ROWS) break
  }
  await client.query('CLOSE moved')
}

type TransferValues = (string | number | null)[]

/**
 * Puts all rows into a database that has none, in one transaction. Servers that are running there wait for it, as nothing can
 * be begun in an empty installation without its row. Throws `TransferRefused`; nothing was changed then.
 */
export async function importIntoPostgres(
  client: ClientBase,
  slices: AsyncIterable<TransferSlice>,
  where: string,
): Promise<TransferCounts> {
  await client.query('BEGIN')
  let sent: Promise<unknown> = Promise.resolve()
  try {
    await client.query('SELECT id FROM installation FOR UPDATE')
    await requireEmpty(client, where)
    const counts = noRows()
    let newestMs = 0
    let lastEventId = 0
    for await (const slice of slices) {
      // The next slice is read while the database takes this one.
      await sent
      sent = slice.table === 'installation' ? updateInstallation(client, slice) : insert(client, slice)
      sent.catch(() => {})
      counts[slice.table] += slice.rows.length
      if (slice.table === 'event')
        for (const [id, atMs] of slice.rows as readonly (readonly number[])[]) {
          lastEventId = id ?? lastEventId
          newestMs = Math.max(newestMs, atMs ?? 0)
        }
    }
    await sent
    // No pool goes back behind what has happened.
    await client.query('UPDATE pool SET at_ms = greatest(created_at_ms, $1)', [newestMs])
    // Restarted, not set: that would not wait for the commit. And drawn once, as if by the newest event.
    if (lastEventId > 0) {
      await client.query(`ALTER SEQUENCE event_id RESTART WITH ${lastEventId}`)
      await client.query("SELECT nextval('event_id')")
    }
    await client.query('ANALYZE "user", token, pool, vm, lease, request, flow, reservation, event')
    await client.query('COMMIT')
    return counts
  } catch (error) {
    await sent.catch(() => {})
    await client.query('ROLLBACK').catch(() => {})
    throw error
  }
}

async function updateInstallation(client: ClientBase, { table, rows }: TransferSlice): Promise<void> {
  const columns = columnsOf(table)
  const values = columns.map((_, i) => `$${i + 1}`).join(', ')
  for (const row of rows)
    await client.query(`UPDATE installation SET (${columns.join(', ')}) = ROW (${values})`, [...row])
}

function insert(client: ClientBase, { table, rows }: TransferSlice): Promise<unknown> {
  const types = columnTypesOf(table)
  const arrays = types.map((type, i) => `$${i + 1}::${PG_TYPES[type]}[]`)
  const [more, value] = table === 'pool' ? [', at_ms', ', 0'] : ['', '']
  return client.query({
    name: `import ${table}`,
    text: `INSERT INTO ${quoted(table)} (${columnsOf(table).join(', ')}${more})
           SELECT *${value} FROM unnest(${arrays.join(', ')})`,
    values: types.map((type, i) => {
      const values = rows.map((row) => row[i] ?? null)
      return type === 'text' ? texts(values as string[]) : numbers(values as number[])
    }),
  })
}

async function requireEmpty(client: ClientBase, where: string): Promise<void> {
  const { rows } = await client.query(
    `SELECT 1 FROM installation WHERE (state, next_user_id, next_vm_id, next_pool_id) <> ('open', 1, 1, 1)
     UNION ALL SELECT 1 FROM "user" UNION ALL SELECT 1 FROM token UNION ALL SELECT 1 FROM pool UNION ALL SELECT 1 FROM vm
     UNION ALL SELECT 1 FROM lease UNION ALL SELECT 1 FROM request UNION ALL SELECT 1 FROM flow
     UNION ALL SELECT 1 FROM reservation UNION ALL SELECT 1 FROM event LIMIT 1`,
  )
  if (rows.length > 0)
    throw new TransferRefused(`the database ${where} is not empty: import into one that was never used`)
}

function quoted(table: TransferTable): string {
  return `"${table}"`
}
