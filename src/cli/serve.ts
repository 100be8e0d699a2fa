/** `berth serve`: runs a server until it is told to stop. What an operator can mend is one line and exit code 1. */
import { type Logger, pino } from 'pino'
import { StoreRefusesToOpen } from '../store/port.ts'
import { withoutPassword } from '../store/postgres/address.ts'
import { isLoopback, type Server, startServer } from './server.ts'
import type { ServeSettings } from './settings.ts'

export async function serve(settings: ServeSettings): Promise<void> {
  const log: Logger = pino({ level: settings.logLevel, base: null })
  let server: Server
  try {
    server = await startServer({ settings, log, tellSetupCode, onLost: () => process.exit(1) })
  } catch (error) {
    const line = operatorLine(error, settings)
    if (line === null) throw error
    process.stderr.write(`berth: ${line}\n`)
    process.exitCode = 1
    return
  }
  const { database } = settings
  const where = database === null ? { data: settings.data } : { database: database.map(withoutPassword) }
  log.info({ url: server.url, ...where }, 'listening')
  if (!isLoopback(settings.host) && settings.originalApi === 'on')
    log.warn(
      'the reads of the original API need no credentials, and this address can be reached from outside; --original-api off turns that API off',
    )
  stopOnSignals(server, log)
}

/** Not in the log: whoever can read logs should not become admin by it. */
function tellSetupCode(code: string): void {
  process.stderr.write(
    `berth: there are no users yet. The first POST /user needs the header X-Setup-Code: ${code}\n`,
  )
}

function stopOnSignals(server: Server, log: Logger): void {
  let stopping = false
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.on(signal, () => {
      // Asked twice: whoever asks does not want to wait. What was answered is on disk.
      if (stopping) process.exit(1)
      stopping = true
      log.info({ signal }, 'stopping')
      server.stop().then(
        () => {
          log.info('stopped')
          process.exit(0)
        },
        (error: unknown) => {
          log.fatal({ err: error }, 'the stop failed')
          process.exit(1)
        },
      )
    })
}

/** The line that tells the operator what to mend; null when it is not theirs to mend. */
function operatorLine(error: unknown, { host, port }: ServeSettings): string | null {
  if (error instanceof StoreRefusesToOpen) return error.message
  const { code } = error as { code?: string }
  const reasons: Record<string, string> = {
    EADDRINUSE: `port ${port} on ${host} is in use by another program: stop it, or choose another with --port`,
    EACCES: `port ${port} on ${host} may not be opened by this user: choose one above 1023 with --port`,
    EADDRNOTAVAIL: `${host} is not an address of this machine: choose another with --host`,
    ENOTFOUND: `${host} is not an address or a name that can be found: choose another with --host`,
    EAI_AGAIN: `${host} is not an address or a name that can be found: choose another with --host`,
  }
  return code === undefined ? null : (reasons[code] ?? null)
}
