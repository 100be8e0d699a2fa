/**
 * A whole server for one test: its own data folder (or, on PostgreSQL, schema), a free port, real HTTP. Tests that are run on both
 * databases choose by `runOn`.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Logger, pino } from 'pino'
import { type Server, type ServerOptions, startServer } from '../../src/cli/server.ts'
import type { ServeSettings } from '../../src/cli/settings.ts'
import { EVEN_MIX } from '../../src/domain/pool.ts'
import { dropSchema, temporarySchema, testPostgresUrl } from './postgres.ts'

export interface Reply {
  readonly status: number
  /** Parsed JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: bodies are compared whole, whatever they are
  readonly body: any
  readonly headers: Headers
}

export interface TestServer extends Server {
  /** The data folder; it is removed by `stop`. */
  readonly folder: string
  /** Sends a request with a JSON body, when one is given, and reads the answer. GETs may carry no body here. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Reply>
}

export const SETTINGS: Omit<ServeSettings, 'data'> = {
  host: '127.0.0.1',
  port: 0,
  logLevel: 'silent',
  database: null,
  databaseSchema: null,
  databaseConnections: 8,
  setupCode: null,
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
}

let database: 'sqlite' | 'postgres' = 'sqlite'

/** The database of servers that are started from now on without naming one. */
export function runOn(chosen: typeof database): void {
  database = chosen
}

/** Where a new server on PostgreSQL has its tables. */
async function newSchema() {
  return { database: [testPostgresUrl()], databaseSchema: await temporarySchema() }
}

export async function startTestServer(
  settings: Partial<ServeSettings> = {},
  options: Partial<Omit<ServerOptions, 'settings'>> = {},
): Promise<TestServer> {
  const folder = settings.data ?? (await mkdtemp(join(tmpdir(), 'berth-test-')))
  const log: Logger = pino({ level: 'silent' })
  const onPostgres = database === 'postgres' && settings.data === undefined && settings.database === undefined
  const where = onPostgres ? await newSchema() : null
  const now = options.schedule?.now
  const server = await startServer({
    log,
    ...(now === undefined ? {} : { databaseNow: now }),
    ...options,
    settings: { ...SETTINGS, ...settings, ...(where ?? {}), data: folder },
  })
  return {
    ...server,
    folder,
    async call(method, path, body, headers = {}) {
      const response = await fetch(server.url + path, {
        method,
        headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      const text = await response.text()
      return {
        status: response.status,
        body: text === '' ? null : JSON.parse(text),
        headers: response.headers,
      }
    },
    async stop() {
      await server.stop()
      if (settings.data === undefined) await rm(folder, { recursive: true, force: true })
      if (where !== null) await dropSchema(where.databaseSchema)
    },
  }
}

/** Credentials as the original API wants them. */
export function auth(userid: number, password: string): { auth: { userid: number; password: string } } {
  return { auth: { userid, password } }
}

export const ADMIN = { name: 'Ada', email: 'ada@example.org', password: 'ada-pw' }
export const AS_ADMIN = auth(1, ADMIN.password)

/** Makes the admin (id 1), `users` more users (ids from 2, password `pw-<id>`), and a pool of `machines`. */
export async function seed(server: TestServer, { users = 1, machines = 4 } = {}): Promise<void> {
  await expectStatus(201, server.call('POST', '/user', ADMIN))
  for (let id = 2; id < 2 + users; id++) {
    const user = { name: `User ${id}`, email: `user${id}@example.org`, password: `pw-${id}` }
    await expectStatus(201, server.call('POST', '/user', { ...AS_ADMIN, ...user }))
  }
  if (machines > 0)
    await expectStatus(
      201,
      server.call('POST', '/create_resource_pool', { ...AS_ADMIN, pool_size: machines }),
    )
}

async function expectStatus(status: number, reply: Promise<Reply>): Promise<void> {
  const got = await reply
  if (got.status !== status)
    throw new Error(`expected ${status}, got ${got.status}: ${JSON.stringify(got.body)}`)
}
