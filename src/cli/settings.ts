/**
 * What an operator can set for `berth serve`: each as an option and as an environment variable, with its unit and default in
 * the help. A value that makes no sense is refused at the start, by name.
 */
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { TypeMix } from '../domain/pool.ts'
import { VM_TYPE_NAMES, vmTypeNamed } from '../domain/vm-type.ts'
import { addDatabaseOptions, type DatabaseSettings } from './database-options.ts'

export interface ServeSettings extends DatabaseSettings {
  readonly host: string
  readonly port: number
  readonly databaseConnections: number
  /** What the first user has to present where a code is asked for; null: each server draws one and prints it. */
  readonly setupCode: string | null
  readonly logLevel: string
  readonly allowReset: boolean
  readonly allowedHosts: readonly string[]
  readonly originalApi: 'on' | 'off'
  readonly rateLimit: number
  readonly rateLimitAddress: number
  readonly poolCleaning: 'manual' | 'automatic'
  readonly typeMix: TypeMix
  readonly providerSecondsMax: number
  readonly simulatedDelayMs: number
  readonly simulatedFaultRate: number
  readonly simulatedSeed: number
}

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']

/** Adds the options of `ServeSettings` to a command. */
export function addServeOptions(command: Command): Command {
  return addDatabaseOptions(command)
    .addOption(
      new Option('--database-connections <number>', 'connections of this server to PostgreSQL, 3 to 500')
        .env('BERTH_DATABASE_CONNECTIONS')
        .default(16)
        .argParser(integer(3, 500)),
    )
    .addOption(
      new Option(
        '--host <address>',
        'address to listen on; another than loopback asks the first user for a setup code',
      )
        .env('BERTH_HOST')
        .default('127.0.0.1'),
    )
    .addOption(
      new Option('--port <number>', 'TCP port to listen on, 0 to 65535; 0: any free one')
        .env('BERTH_PORT')
        .default(8080)
        .argParser(integer(0, 65_535)),
    )
    .addOption(
      new Option(
        '--setup-code <code>',
        'what the first user has to present on another address than loopback, 16 characters at least; servers that share a database should share it. Better set in the environment',
      )
        .env('BERTH_SETUP_CODE')
        .default(null, 'each server draws one and prints it')
        .argParser(setupCode),
    )
    .addOption(
      new Option('--log-level <level>', 'how much to log; debug logs every request')
        .env('BERTH_LOG_LEVEL')
        .choices(LOG_LEVELS)
        .default('info'),
    )
    .addOption(
      new Option('--allow-reset [yes|no]', 'let anybody wipe everything with GET /truncate_tables')
        .env('BERTH_ALLOW_RESET')
        .preset('yes')
        .default(false, 'no')
        .argParser(yesOrNo),
    )
    .addOption(
      new Option(
        '--allowed-hosts <names>',
        'host names that clients call this server by, separated by commas; * for any. Always allowed: localhost, IP addresses, this machine’s name',
      )
        .env('BERTH_ALLOWED_HOSTS')
        .default([], 'none')
        .argParser((text) =>
          text
            .split(',')
            .map((name) => name.trim())
            .filter((name) => name !== ''),
        ),
    )
    .addOption(
      new Option(
        '--original-api <on|off>',
        'serve the original API at the root; its reads need no credentials',
      )
        .env('BERTH_ORIGINAL_API')
        .choices(['on', 'off'])
        .default('on'),
    )
    .addOption(
      new Option(
        '--rate-limit <calls>',
        'calls of /api/v1 that one token may make in a minute on this server; 0: any number',
      )
        .env('BERTH_RATE_LIMIT')
        .default(6_000)
        .argParser(integer(0, 1_000_000_000)),
    )
    .addOption(
      new Option(
        '--rate-limit-address <calls>',
        'calls of /api/v1 that one address may make in a minute without a token on this server; 0: any number',
      )
        .env('BERTH_RATE_LIMIT_ADDRESS')
        .default(600)
        .argParser(integer(0, 1_000_000_000)),
    )
    .addOption(
      new Option(
        '--pool-cleaning <manual|automatic>',
        'for a pool that is made by the original API: machines that were checked in wait for an admin, or are cleaned by a worker',
      )
        .env('BERTH_POOL_CLEANING')
        .choices(['manual', 'automatic'])
        .default('manual'),
    )
    .addOption(
      new Option(
        '--type-mix <mix>',
        'for a pool that is made by the original API: shares of the VM types, as small=2,large=1',
      )
        .env('BERTH_TYPE_MIX')
        .default({ small: 1, medium: 1, large: 1, xlarge: 1 }, 'all types evenly')
        .argParser(typeMix),
    )
    .addOption(
      new Option(
        '--provider-seconds-max <seconds>',
        'time that a provider has for one call, 1 to 86400 seconds',
      )
        .env('BERTH_PROVIDER_SECONDS_MAX')
        .default(600)
        .argParser(integer(1, 86_400)),
    )
    .addOption(
      new Option(
        '--simulated-delay-ms <ms>',
        'time that each call to simulated machines takes, in milliseconds',
      )
        .env('BERTH_SIMULATED_DELAY_MS')
        .default(0)
        .argParser(integer(0, 86_400_000)),
    )
    .addOption(
      new Option('--simulated-fault-rate <share>', 'share of calls to simulated machines that fail, 0 to 1')
        .env('BERTH_SIMULATED_FAULT_RATE')
        .default(0)
        .argParser(share),
    )
    .addOption(
      new Option(
        '--simulated-seed <number>',
        'what addresses, delays and faults of simulated machines follow from',
      )
        .env('BERTH_SIMULATED_SEED')
        .default(1)
        .argParser(integer(0, 0xffff_ffff)),
    )
}

function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text.trim() === '' || !Number.isInteger(value) || value < min || value > max)
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`)
    return value
  }
}

function setupCode(text: string): string {
  if (!/^[\x21-\x7e]{16,200}$/.test(text))
    throw new InvalidArgumentError('It must be 16 to 200 printable ASCII characters without spaces.')
  return text
}

function yesOrNo(text: string): boolean {
  const word = text.trim().toLowerCase()
  if (['yes', 'true', 'on', '1'].includes(word)) return true
  if (['no', 'false', 'off', '0', ''].includes(word)) return false
  throw new InvalidArgumentError('It must be yes or no.')
}

function share(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !(value >= 0 && value <= 1))
    throw new InvalidArgumentError('It must be a number from 0 to 1.')
  return value
}

function typeMix(text: string): TypeMix {
  const mix: Partial<Record<(typeof VM_TYPE_NAMES)[number], number>> = {}
  for (const part of text.split(',')) {
    const [name = '', shareText = ''] = part.split('=')
    const type = vmTypeNamed(name.trim())
    const value = Number(shareText)
    if (type === null || shareText.trim() === '' || !Number.isInteger(value) || value < 1)
      throw new InvalidArgumentError(
        `'${part}' is not TYPE=SHARE, with a type of ${VM_TYPE_NAMES.join(', ')} and a whole share from 1.`,
      )
    mix[type] = value
  }
  return mix
}
