/** `berth backup`: a copy of the SQLite database as one file, of one moment, beside a server that goes on. */
import { backUp } from '../store/sqlite/backup.ts'
import { withSnapshot } from '../store/sqlite/beside.ts'
import type { DatabaseSettings } from './database-options.ts'
import { writeNewFile } from './new-file.ts'
import { CommandRefused, forOperator } from './operator.ts'

export interface BackupSettings extends DatabaseSettings {
  readonly force: boolean
}

export function backUpDatabase(file: string, { data, database, force }: BackupSettings): Promise<void> {
  return forOperator(async () => {
    if (database !== null)
      throw new CommandRefused('backup copies a SQLite database: for PostgreSQL use pg_dump, or berth export')
    await writeNewFile(file, force, (path) => withSnapshot(data, (db) => backUp(db, path)))
    process.stdout.write(`backed up to ${file}\n`)
  })
}
