/** `berth export`: writes a whole installation as lines of text, all of it of one moment, beside servers that go on. */
import { createWriteStream } from 'node:fs'
import type { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { withConnection } from '../store/postgres/address.ts'
import { withPostgresSource } from '../store/postgres/transfer.ts'
import { withSnapshot } from '../store/sqlite/beside.ts'
import { sqliteSource } from '../store/sqlite/transfer.ts'
import { exportText, type TransferSource } from '../store/transfer.ts'
import type { DatabaseSettings } from './database-options.ts'
import { writeNewFile } from './new-file.ts'
import { forOperator } from './operator.ts'
import { systemSchedule } from './system.ts'

export interface ExportSettings extends DatabaseSettings {
  /** null: standard output. */
  readonly file: string | null
  readonly force: boolean
}

export function exportInstallation(settings: ExportSettings): Promise<void> {
  const { file, force } = settings
  return forOperator(() =>
    withSource(settings, async (source) => {
      if (file === null) return write(source, process.stdout, false)
      await writeNewFile(file, force, (path) => write(source, createWriteStream(path), true))
      process.stdout.write(`exported to ${file}\n`)
    }),
  )
}

function withSource(settings: DatabaseSettings, read: (source: TransferSource) => Promise<void>) {
  const { data, database, databaseSchema } = settings
  if (database === null) return withSnapshot(data, (db, path) => read(sqliteSource(db, path)))
  const target = { urls: database, schema: databaseSchema }
  return withConnection(target, systemSchedule.now, (client, shown) =>
    withPostgresSource(client, shown, read),
  )
}

function write(source: TransferSource, to: Writable, end: boolean): Promise<void> {
  return pipeline(exportText(source, systemSchedule.now()), to, { end })
}
