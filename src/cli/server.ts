/** The composition root of a server: opens the store, starts workers and HTTP, and stops them in the right order. */

import type { AddressInfo } from 'node:net'
import { hostname } from 'node:os'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import { createApp } from '../http/app.ts'
import { createMetrics } from '../http/metrics.ts'
import { stopHttp, UnderWay } from '../http/stop.ts'
import { simulatedProvider } from '../provider/simulated.ts'
import { type Berth, openBerth } from '../service/berth.ts'
import { LANE_SETTINGS, type LaneSettings } from '../service/lane.ts'
import type { Schedule } from '../service/schedule.ts'
import { type Store, StoreUnavailable } from '../store/port.ts'
import { openPostgresStore } from '../store/postgres/store.ts'
import { openSqliteStore } from '../store/sqlite/store.ts'
import { startWorkers } from '../worker/workers.ts'
import type { ServeSettings } from './settings.ts'
import { randomBytes, stopwatch, systemSchedule } from './system.ts'

export interface ServerOptions {
  readonly settings: ServeSettings
  readonly log: Logger
  readonly schedule?: Schedule
  readonly lane?: LaneSettings
  /** Added to each commit; for measuring only. */
  readonly commitDelayMs?: number
  /** Stands in for the clock of PostgreSQL; for tests. */
  readonly databaseNow?: () => number
  /** Told of each batch that PostgreSQL committed; for measuring only. */
  readonly measured?: (batch: { statements: number }) => void
  /** Adds routes; for measuring only. */
  readonly extend?: (app: FastifyInstance) => void
  /** Told the setup code while there are no users: at the start, and after each reset. */
  readonly tellSetupCode?: (code: string) => void
  /** Told when the store is lost and the process should end. */
  readonly onLost?: (error: Error) => void
}

export interface Server {
  readonly berth: Berth
  /** Where it listens, as http://host:port. */
  readonly url: string
  /** What the first user has to present while there are no users; null when no code is asked for. */
  readonly setupCode: string | null
  /** Stops accepting, finishes what is under way, closes the store. */
  stop(): Promise<void>
}

/** The provider that there is. */
const PROVIDER = 'simulated'

/** Password hashes at the same time: more than this only take memory and turns from each other. */
const HASHES_MAX = 2

/** Starts a server. Throws `StoreRefusesToOpen`, or the system's error when it cannot listen. */
export async function startServer(options: ServerOptions): Promise<Server> {
  const schedule = options.schedule ?? systemSchedule
  const store = await openStore(options, schedule)
  try {
    return await compose(options, store, schedule)
  } catch (error) {
    await store.close()
    throw error
  }
}

function openStore(
  { settings, log, commitDelayMs = 0, onLost, databaseNow, measured }: ServerOptions,
  schedule: Schedule,
): Promise<Store> {
  if (settings.database !== null)
    return openPostgresStore({
      urls: settings.database,
      schema: settings.databaseSchema,
      connectionsMax: settings.databaseConnections,
      schedule,
      stopwatch,
      randomBytes,
      ...(databaseNow === undefined ? {} : { now: databaseNow }),
      ...(measured === undefined ? {} : { measured }),
    })
  return openSqliteStore({
    folder: settings.data,
    now: () => schedule.now(),
    pause: () => schedule.pause(),
    commitDelayMs,
    onLost(error) {
      log.fatal({ err: error }, 'the store is lost')
      onLost?.(error)
    },
  })
}

async function compose(options: ServerOptions, store: Store, schedule: Schedule): Promise<Server> {
  const { settings, log } = options
  // On an address that others reach, a stranger must not become the first user: at the start, or after a reset.
  const newSetupCode = () =>
    isLoopback(settings.host) ? null : (settings.setupCode ?? randomBytes(16).toString('hex'))
  let setupCode = newSetupCode()
  const tellSetupCode = () => {
    // One that the operator chose need not be told.
    if (setupCode !== null && settings.setupCode === null) options.tellSetupCode?.(setupCode)
  }
  const outage = new Outage(log)
  let berth: Berth | undefined
  const metrics = createMetrics({
    reads: () => store.reads,
    waiting: () => berth?.waiting() ?? 0,
    now: () => schedule.now(),
  })
  berth = await openBerth({
    store,
    schedule,
    randomBytes,
    lane: options.lane ?? LANE_SETTINGS,
    poolPolicy: { typeMix: settings.typeMix, cleaning: settings.poolCleaning, provider: PROVIDER },
    providers: [PROVIDER],
    setupCode: () => setupCode,
    wiped() {
      setupCode = newSetupCode()
      tellSetupCode()
    },
    allowReset: settings.allowReset,
    hashesMax: HASHES_MAX,
    measured(batch) {
      outage.over()
      metrics.batch(batch)
    },
    happened: (events) => metrics.happened(events),
    failed(command, error) {
      if (!outage.isOne(error)) log.error({ command: command?.kind, err: error }, 'a command failed')
    },
  })
  const simulated = simulatedProvider({
    seed: settings.simulatedSeed,
    delayMs: settings.simulatedDelayMs,
    faultRate: settings.simulatedFaultRate,
    sleep: (ms, signal) => schedule.sleep(ms, signal),
  })
  let stopping = false
  const underWay = new UnderWay()
  const app = createApp(berth, {
    log,
    metrics,
    hostNames: [hostname(), settings.host, ...settings.allowedHosts],
    requestIdPrefix: randomBytes(4).toString('hex'),
    underWay,
    stopping: () => stopping,
    originalApi: settings.originalApi === 'on',
    rateLimits: { perToken: settings.rateLimit, perAddress: settings.rateLimitAddress },
  })
  options.extend?.(app)
  await app.listen({ host: settings.host, port: settings.port })
  if (!(await store.reads.anyUser())) tellSetupCode()
  const workers = startWorkers({
    submit: berth.submit,
    reads: store.reads,
    feed: berth.feed,
    schedule,
    tokens: berth.tokens,
    providers: new Map([[simulated.name, simulated]]),
    callMsMax: settings.providerSecondsMax * 1_000,
    failed(name, error) {
      if (!outage.isOne(error)) log.error({ worker: name, err: error }, 'a worker failed; it goes on')
    },
  })
  return {
    berth,
    url: urlOf(app),
    get setupCode() {
      return setupCode
    },
    async stop() {
      stopping = true
      await stopHttp(app, underWay, schedule)
      // Requests under way may have waited for the workers, so these stop after them.
      await workers.stop()
      await berth.close()
      await store.close()
    },
  }
}

/** Tells once that the store is away, and once that it is back: everybody who meets it would tell it again and again. */
class Outage {
  readonly #log: Logger
  #away = false

  constructor(log: Logger) {
    this.#log = log
  }

  /** True when `error` says that the store is away; it has been told then. */
  isOne(error: unknown): boolean {
    if (!(error instanceof StoreUnavailable)) return false
    if (!this.#away) this.#log.warn({ reason: error.message }, 'the store is away: calls are answered 503')
    this.#away = true
    return true
  }

  /** Something was committed. */
  over(): void {
    if (this.#away) this.#log.info('the store is back')
    this.#away = false
  }
}

function urlOf(app: FastifyInstance): string {
  const { address, port, family } = app.server.address() as AddressInfo
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`
}

/** True for addresses that only this machine reaches. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}
