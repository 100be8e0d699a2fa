/**
 * Which database a command works on: the embedded one in a data folder, or PostgreSQL. The same options for every command.
 * What is said on the command line counts more than what the environment says.
 */
import { type Command, Option } from 'commander'

export interface DatabaseSettings {
  /** The data folder of the embedded database; of no meaning when `database` is given. */
  readonly data: string
  /** postgres:// URLs, of which the first that takes changes is used; null: the embedded database. */
  readonly database: readonly string[] | null
  /** The schema of Berth's tables in PostgreSQL; null: the first of the user's search path. */
  readonly databaseSchema: string | null
}

/** Adds the options of `DatabaseSettings` to a command. */
export function addDatabaseOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--data <folder>', 'folder of the embedded database; a server makes it if it is not there')
        .env('BERTH_DATA')
        .default('./data'),
    )
    .addOption(
      new Option(
        '--database <urls>',
        'use PostgreSQL (15 or newer) instead: postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=FILE. Several, separated by commas: the first that takes changes is used. Better set in the environment: a command line can be read by others',
      )
        .env('BERTH_DATABASE')
        .default(null, 'the embedded database')
        .argParser((text) => postgresUrls(command, text)),
    )
    .addOption(
      new Option('--database-schema <name>', 'schema of the tables in PostgreSQL; made if it is not there')
        .env('BERTH_DATABASE_SCHEMA')
        .default(null, 'the first of the search path')
        .argParser((text) => schemaName(command, text)),
    )
    .hook('preAction', (_, called) => settleDatabase(called))
}

function postgresUrls(command: Command, text: string): readonly string[] {
  const urls = text.split(',').map((url) => url.trim())
  for (const [i, url] of urls.entries()) {
    if (/^postgres(ql)?:\/\//i.test(url) && URL.canParse(url)) continue
    const which = urls.length === 1 ? 'its value' : `part ${i + 1} of its value`
    // In words of its own: those of commander would show the value, and with it a password.
    command.error(
      `error: option '--database <urls>' is invalid: ${which} is not a URL like postgres://user:password@host:5432/database (special characters in a password, commas too, have to be percent-encoded).`,
    )
  }
  return urls
}

function schemaName(command: Command, text: string): string {
  // What PostgreSQL keeps of a name is 63 bytes.
  if (text.trim() === '' || Buffer.byteLength(text) > 63)
    command.error("error: option '--database-schema <name>' is invalid: it must be a name of 1 to 63 bytes.")
  return text
}

function settleDatabase(command: Command): void {
  const from = (name: string) => command.getOptionValueSource(name)
  if (from('data') !== 'cli' || command.getOptionValue('database') === null) return
  if (from('database') === 'cli')
    command.error('error: --data names the embedded database and --database PostgreSQL: give one of them.')
  command.setOptionValue('database', null)
}
