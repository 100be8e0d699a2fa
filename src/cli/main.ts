#!/usr/bin/env node
/** The `berth` command. */
import { Command } from 'commander'
import { serve } from './serve.ts'
import { addServeOptions, type ServeSettings } from './settings.ts'

const program = new Command('berth')
  .description('Reserve virtual machines from shared pools.')
  .showHelpAfterError('(--help tells all options, with units and defaults)')

addServeOptions(program.command('serve').description('run a server')).action((settings: ServeSettings) =>
  serve(settings),
)

program
  .command('console')
  .description('try the services on a seeded server in memory, with a clock to move')
  .action(async () => (await import('./console.ts')).runConsole())

await program.parseAsync()
