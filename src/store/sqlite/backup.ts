/**
 * A copy of the database while a server goes on writing it. All of it is of one moment, as the connection that is copied from
 * holds its snapshot; without that, SQLite would begin again with each commit of the server.
 */
import { backup, DatabaseSync } from 'node:sqlite'
import { StoreRefusesToOpen } from '../port.ts'

/** How many pages are copied at a time. */
const PAGES = 4_096

/** Copies `db` to a new file at `to`, and looks the copy through. Throws `StoreRefusesToOpen` when it is not whole. */
export async function backUp(db: DatabaseSync, to: string): Promise<void> {
  await backup(db, to, { rate: PAGES })
  const copy = new DatabaseSync(to)
  try {
    // One file alone, without a log beside it.
    copy.exec('PRAGMA journal_mode = DELETE')
    const found = copy.prepare('PRAGMA integrity_check').all().flatMap(Object.values)
    if (found.length !== 1 || found[0] !== 'ok')
      throw new StoreRefusesToOpen(`the copy is damaged, and so may be the database: ${found[0]}`)
  } finally {
    copy.close()
  }
}
