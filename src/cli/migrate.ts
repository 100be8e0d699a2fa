/** `berth migrate`: brings a database to what this program expects, or tells what that would take. */
import type { Migration, MigrationStatus } from '../store/migration.ts'
import { withConnection } from '../store/postgres/address.ts'
import { makeSchema, migrate, migrationStatus } from '../store/postgres/migrations.ts'
import { folderStatus, withFolder } from '../store/sqlite/beside.ts'
import type { DatabaseSettings } from './database-options.ts'
import { forOperator } from './operator.ts'
import { systemSchedule } from './system.ts'

export interface MigrateSettings extends DatabaseSettings {
  readonly status: boolean
}

/** The exit code of --status when steps are missing. */
const MISSING = 3

export function migrateDatabase(settings: MigrateSettings): Promise<void> {
  return forOperator(async () => {
    if (!settings.status) {
      const done = await doMissing(settings)
      for (const { id, name } of done) process.stdout.write(`migration ${id} done: ${name}\n`)
      if (done.length === 0) process.stdout.write('no migration is missing\n')
      return
    }
    const status = await statusOf(settings)
    process.stdout.write(tableOf(status))
    if (status.missing.length > 0) process.exitCode = MISSING
  })
}

function doMissing({ data, database, databaseSchema }: DatabaseSettings): Promise<readonly Migration[]> {
  const nowMs = systemSchedule.now()
  if (database === null) return withFolder(data, nowMs, (_, migrated) => migrated)
  const target = { urls: database, schema: databaseSchema }
  return withConnection(target, systemSchedule.now, async (client) => {
    await makeSchema(client, databaseSchema)
    return migrate(client, nowMs)
  })
}

function statusOf({ data, database, databaseSchema }: DatabaseSettings): Promise<MigrationStatus> {
  if (database === null) return folderStatus(data)
  const target = { urls: database, schema: databaseSchema }
  return withConnection(target, systemSchedule.now, (client) => migrationStatus(client))
}

function tableOf({ done, missing }: MigrationStatus): string {
  const rows = [
    ['id', 'done', 'name'],
    ...done.map(({ id, name, appliedAtMs }) => [`${id}`, new Date(appliedAtMs).toISOString(), name]),
    ...missing.map(({ id, name }) => [`${id}`, 'missing', name]),
  ]
  const width = (at: number) => Math.max(...rows.map((row) => row[at]?.length ?? 0))
  return rows
    .map(([id = '', when = '', name]) => `${id.padStart(width(0))}  ${when.padEnd(width(1))}  ${name}\n`)
    .join('')
}
