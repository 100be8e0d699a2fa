/** All rows out of a SQLite database, and into an empty one. */
import type { DatabaseSync } from 'node:sqlite'
import { requireMigrated } from '../migration.ts'
import {
  columnsOf,
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

const SLICE_ROWS = 2_000

/** What `db` holds, where a transaction keeps its snapshot (beside.ts). Throws `StoreRefusesToOpen`. */
export function sqliteSource(db: DatabaseSync, path: string): TransferSource {
  const status = migrationStatus(db)
  requireMigrated(status, `the database ${path}`)
  return {
    from: 'sqlite',
    migration: status.done.at(-1)?.id ?? 0,
    async *rows(table) {
      const statement = db.prepare(
        `SELECT ${columnsOf(table).join(', ')} FROM ${table} ORDER BY ${keyOf(table).join(', ')}`,
      )
      statement.setReturnArrays(true)
      let slice: TransferRow[] = []
      for (const row of statement.iterate()) {
        slice.push(row as unknown as TransferRow)
        if (slice.length < SLICE_ROWS) continue
        yield slice
        slice = []
      }
      if (slice.length > 0) yield slice
    },
  }
}

/** Puts all rows into a database that has none, in one transaction. Throws `TransferRefused`; nothing was changed then. */
export async function importIntoSqlite(
  db: DatabaseSync,
  slices: AsyncIterable<TransferSlice>,
  path: string,
): Promise<TransferCounts> {
  db.exec('BEGIN IMMEDIATE')
  try {
    requireEmpty(db, path)
    // The row that the migration made.
    db.exec('DELETE FROM installation')
    const counts = noRows()
    const inserts = new Map<TransferTable, ReturnType<DatabaseSync['prepare']>>()
    for await (const { table, rows } of slices) {
      const insert = inserts.get(table) ?? db.prepare(insertInto(table))
      inserts.set(table, insert)
      for (const row of rows) insert.run(...row)
      counts[table] += rows.length
    }
    db.exec('COMMIT')
    return counts
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK')
    throw error
  }
}

function insertInto(table: TransferTable): string {
  const columns = columnsOf(table)
  return `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`
}

function requireEmpty(db: DatabaseSync, path: string): void {
  const used = db
    .prepare(
      `SELECT 1 FROM installation WHERE (state, next_user_id, next_vm_id, next_pool_id) <> ('open', 1, 1, 1)
       UNION ALL SELECT 1 FROM user UNION ALL SELECT 1 FROM token UNION ALL SELECT 1 FROM pool UNION ALL SELECT 1 FROM vm
       UNION ALL SELECT 1 FROM lease UNION ALL SELECT 1 FROM request UNION ALL SELECT 1 FROM flow
       UNION ALL SELECT 1 FROM reservation UNION ALL SELECT 1 FROM event LIMIT 1`,
    )
    .get()
  if (used !== undefined)
    throw new TransferRefused(`the database ${path} is not empty: import into one that was never used`)
}
