#!/usr/bin/env node
/** The `berth` command. */
import { Command } from 'commander'
import type { BackupSettings } from './backup.ts'
import { addDatabaseOptions, type DatabaseSettings } from './database-options.ts'
import type { ExportSettings } from './export.ts'
import type { MigrateSettings } from './migrate.ts'
import { serve } from './serve.ts'
import { addServeOptions, type ServeSettings } from './settings.ts'

const program = new Command('berth')
  .description('Reserve virtual machines from shared pools.')
  .showHelpAfterError('(--help tells all options, with units and defaults)')

addServeOptions(program.command('serve').description('run a server')).action((settings: ServeSettings) =>
  serve(settings),
)

addDatabaseOptions(
  program.command('migrate').description('bring a database to what this program expects; servers do it too'),
)
  .option('--status', 'change nothing; tell what was done and what is missing (exit code 3)', false)
  .action(async (settings: MigrateSettings) => (await import('./migrate.ts')).migrateDatabase(settings))

addDatabaseOptions(
  program.command('export').description('write a whole installation as text, beside servers that go on'),
)
  .option('--file <path>', 'write to a file that only its owner can read, instead of standard output')
  .option('--force', 'overwrite the file', false)
  .action(async ({ file = null, ...settings }: ExportSettings) =>
    (await import('./export.ts')).exportInstallation({ ...settings, file }),
  )

addDatabaseOptions(
  program.command('import').description('put an exported installation into an empty database'),
)
  .argument('[file]', 'what berth export wrote; - or nothing: standard input')
  .action(async (file: string | undefined, settings: DatabaseSettings) =>
    (await import('./import.ts')).importInstallation(file, settings),
  )

addDatabaseOptions(
  program.command('backup').description('copy a SQLite database, beside a server that goes on'),
)
  .argument('<file>', 'where the copy goes')
  .option('--force', 'overwrite the file', false)
  .action(async (file: string, settings: BackupSettings) =>
    (await import('./backup.ts')).backUpDatabase(file, settings),
  )

program
  .command('console')
  .description('try the services on a seeded server in memory, with a clock to move')
  .action(async () => (await import('./console.ts')).runConsole())

await program.parseAsync()
