/**
 * The server under measurement, in a process of its own: Berth as `berth serve` runs it, with two routes that do nothing but
 * read and write the same shapes. Settings come as JSON in the first argument; the parent asks for the memory in use with a
 * message, and ends it with SIGTERM.
 */
import { type Logger, pino } from 'pino'
import { type Server, startServer } from '../src/cli/server.ts'
import { EVEN_MIX } from '../src/domain/pool.ts'
import { LANE_SETTINGS } from '../src/service/lane.ts'
import { poolRoutes } from './pool-routes.ts'

export interface BenchServerSettings {
  readonly folder: string
  /** PostgreSQL instead of the folder's database. */
  readonly database: string | null
  readonly databaseSchema: string | null
  /** 1: one transaction a call. */
  readonly batchMax: number
  readonly commitDelayMs: number
  /** False: whoever names a user is believed to be an admin. */
  readonly checkCredentials: boolean
}

const settings = JSON.parse(process.argv[2] ?? '{}') as BenchServerSettings
const log: Logger = pino({ level: 'warn' })
const counted = { batches: 0, statements: 0 }
const server: Server = await startServer({
  log,
  settings: {
    host: '127.0.0.1',
    port: 0,
    data: settings.folder,
    database: settings.database === null ? null : [settings.database],
    databaseSchema: settings.databaseSchema,
    databaseConnections: 16,
    setupCode: null,
    logLevel: 'warn',
    allowReset: false,
    allowedHosts: [],
    originalApi: 'on',
    rateLimit: 0,
    rateLimitAddress: 0,
    poolCleaning: 'manual',
    typeMix: EVEN_MIX,
    providerSecondsMax: 600,
    simulatedDelayMs: 0,
    simulatedFaultRate: 0,
    simulatedSeed: 1,
  },
  lane: { ...LANE_SETTINGS, batchMax: settings.batchMax },
  commitDelayMs: settings.commitDelayMs,
  measured(batch) {
    counted.batches++
    counted.statements += batch.statements
  },
  extend(app) {
    poolRoutes(app, () => server.berth)
    // Like the routes under measurement, these return bodies: a reply that is returned costs more.
    app.post('/noop', async (_request, reply) => {
      reply.code(201)
      return {
        message: 'VM checkout complete.',
        'VM Details': {
          'vm-Id': 1,
          hostname: 'vm-000001',
          'ip-address': '100.119.121.178',
          'vm type': 'small',
        },
        'User Details': { 'user-Id': 1, 'User-name': 'User 1', 'user-email': 'user1@example.org' },
      }
    })
    app.get('/noop/id/:id', async () => ({
      VM_details: {
        1: {
          id: 1,
          vm_name: 'vm-000001',
          vm_type: 'small',
          vm_ip: '100.119.121.178',
          vm_Status: 'running',
          vm_map_to: 'idle',
          date_created: 'Mon, 23 Nov 2026 00:00:00 GMT',
        },
      },
    }))
  },
})
if (!settings.checkCredentials) {
  const { credentials } = server.berth
  credentials.remembered = (userId) => ({ userId, credentialVersion: 1, role: 'admin' })
}
process.on('message', () =>
  process.send?.({ rssBytes: process.memoryUsage.rss(), cpu: process.cpuUsage(), ...counted }),
)
process.on('SIGTERM', () => void server.stop().then(() => process.exit(0)))
process.send?.({ url: server.url })
