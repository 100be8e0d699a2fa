/** Which database a command works on: the embedded one in a data folder, or PostgreSQL. The same options for every command. */
import { type Command, InvalidArgumentError, Option } from 'commander'

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
      new Option('--data <folder>', 'folder of the embedded database; made if it is not there')
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
        .argParser(postgresUrls),
    )
    .addOption(
      new Option('--database-schema <name>', 'schema of the tables in PostgreSQL; made if it is not there')
        .env('BERTH_DATABASE_SCHEMA')
        .default(null, 'the first of the search path')
        .argParser(schemaName),
    )
}

/** A URL as it may be shown: without the password. */
export function withoutPassword(url: string): string {
  try {
    const shown = new URL(url)
    if (shown.password !== '') shown.password = '***'
    if (shown.searchParams.has('password')) shown.searchParams.set('password', '***')
    return shown.href
  } catch {
    return 'postgres://***'
  }
}

function postgresUrls(text: string): readonly string[] {
  const urls = text.split(',').map((url) => url.trim())
  for (const url of urls)
    if (!/^postgres(ql)?:\/\//.test(url) || !URL.canParse(url))
      throw new InvalidArgumentError(
        `'${withoutPassword(url)}' is not a URL like postgres://user:password@host:5432/database (a password with special characters has to be percent-encoded).`,
      )
  return urls
}

function schemaName(text: string): string {
  // What PostgreSQL keeps of a name is 63 bytes.
  if (text.trim() === '' || Buffer.byteLength(text) > 63)
    throw new InvalidArgumentError('It must be a name of 1 to 63 bytes.')
  return text
}
