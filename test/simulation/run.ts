/**
 * One simulated run: an installation is made, servers start, clients use them and faults strike for so many steps; then the
 * faults stop, one server is left, and time passes until everything is as it should be. The same choices give the same run.
 */
import { createHash } from 'node:crypto'
import type { Command } from '../../src/domain/command.ts'
import type { PoolPolicy } from '../../src/domain/pool.ts'
import { isRefusal } from '../../src/domain/refusal.ts'
import type { Vm } from '../../src/domain/vm.ts'
import { Lane } from '../../src/service/lane.ts'
import type { Store } from '../../src/store/port.ts'
import { type ChoiceRecord, type ChoiceSource, Choices, type Details } from './choices.ts'
import { Clients, POOL_POLICY, POOLS } from './clients.ts'
import { type FaultKind, FaultPlan } from './faults.ts'
import { Machines } from './machines.ts'
import { ModelDatabase } from './model-store.ts'
import { type Breach, Promises } from './promises.ts'
import { owner, Scheduler, STARTS_AT_MS } from './scheduler.ts'
import { Host, Server, textOf, type World } from './server.ts'
import { SqliteDatabase } from './sqlite-database.ts'

export type StoreKind = 'model' | 'sqlite'

export interface RunSettings {
  readonly source: ChoiceSource
  /** Steps in which faults may strike. */
  readonly steps: number
  /** Which store; null: as the choices say. */
  readonly store: StoreKind | null
  /** Which kinds of faults; null: as the choices say. */
  readonly faults: readonly FaultKind[] | null
  /** True: keeps what happened as lines. */
  readonly traced: boolean
}

export interface RunResult {
  readonly breach: Breach | null
  /** Steps until the breach, or until the faults stopped. */
  readonly steps: number
  readonly stepsInAll: number
  readonly record: ChoiceRecord
  readonly store: StoreKind
  readonly commits: number
  readonly calls: number
  /** How often what was reached. */
  readonly counts: ReadonlyMap<string, number>
  readonly lines: readonly string[]
  /** A digest of all lines. */
  readonly hash: string
}

/** Time that may pass after the last fault until all is well: clocks that were wrong by an hour included. */
const SETTLING_MS_MAX = 8 * 3_600_000
/** As much of it as may pass at once while nothing is due. */
const SLEEP_MS_MAX = 1_800_000
const SETTLING_STEPS_MAX = 60_000

const CHAOS_PAUSES_MS = [600, 0, 10, 100, 3_000] as const
const FREEZES_MS = [50, 1_000, 7_000, 40_000, 70_000] as const
const CLOCK_ERRORS_MS = [0, 900, -900, 45_000, -45_000, 3_600_000, -3_600_000] as const
const AWAY_MS = [50, 500, 3_000] as const

export async function simulate(settings: RunSettings): Promise<RunResult> {
  const lines: string[] = []
  const choices = new Choices(settings.source)
  const promises = new Promises()
  // What a run is like at all comes first, so that it is the same however the rest goes.
  const kind = settings.store ?? (choices.pick('plan', [9, 1]) === 1 ? 'sqlite' : 'model')
  const inOrderPermille = [0, 500, 900][choices.pick('plan', [2, 1, 1])] ?? 0
  const hostCount = kind === 'sqlite' ? 1 : 1 + choices.pick('plan', [1, 3, 2])
  const clientCount = 2 + choices.pick('plan', 4)
  const batchMax = [256, 1, 2][choices.pick('plan', [3, 1, 1])] ?? 256
  const faults = new FaultPlan(choices, settings.faults)
  const scheduler = new Scheduler(choices, inOrderPermille)
  const database =
    kind === 'model'
      ? new ModelDatabase(scheduler, faults, promises)
      : new SqliteDatabase(scheduler, faults, promises)
  if (database instanceof SqliteDatabase) await database.open()
  const machines = new Machines(scheduler, faults, promises)
  promises.watch(database.tables, machines)
  const hosts = Array.from({ length: hostCount }, (_, i) => new Host(`server ${'ABC'[i]}`))
  const world: World = {
    choices,
    scheduler,
    faults,
    promises,
    machines,
    database,
    hosts,
    batchMax,
    reports: [],
  }
  if (settings.traced) promises.note = (text) => void lines.push(`${timeOf(scheduler)} ${text()}`)

  const rejected = (error: unknown) => promises.broken('no-bug', `nobody caught: ${textOf(error)}`)
  process.on('unhandledRejection', rejected)
  const restoreAborts = cheapAborts()
  let steps = 0
  const clients = new Clients(world, clientCount)
  try {
    promises.note(
      () =>
        `${kind} store, ${hostCount} servers, ${clientCount} clients, faults: ${faults.kinds.join(', ') || 'none'}`,
    )
    await found(world)
    for (const host of hosts) new Server(world, host)
    clients.start()
    const chaos = new Chaos(world)
    chaos.start()
    await turns(() => {
      if (promises.breach !== null || steps >= settings.steps) return false
      steps++
      while (!scheduler.next()) {
        const nextMs = scheduler.nextDueMs
        if (nextMs === null) return false
        scheduler.nowMs = nextMs
      }
      return true
    })
    if (promises.breach === null) await settle(world, clients)
  } catch (error) {
    promises.broken(textOf(error).includes('deadlock') ? 'deadlock' : 'no-bug', textOf(error))
  } finally {
    process.off('unhandledRejection', rejected)
    restoreAborts()
    if (database instanceof SqliteDatabase) await database.close().catch(() => {})
  }
  return {
    breach: promises.breach,
    steps,
    stepsInAll: scheduler.stepsDone,
    record: choices.record,
    store: kind,
    commits: promises.commits,
    calls: clients.calls,
    counts: promises.counts,
    lines,
    hash: createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 16),
  }
}

/**
 * Aborting without a reason makes an exception with a stack, which takes as long as all else in a step, and nobody looks at it.
 * Returns what puts things back.
 */
function cheapAborts(): () => void {
  const { prototype } = AbortController
  const { abort } = prototype
  prototype.abort = function (reason: unknown = 'over') {
    abort.call(this, reason)
  }
  return () => {
    prototype.abort = abort
  }
}

/** Calls `turn` again and again, each time after everything that followed from it has run, until it says no. */
function turns(turn: () => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const next = () => {
      try {
        if (turn()) setImmediate(next)
        else resolve()
      } catch (error) {
        reject(error)
      }
    }
    setImmediate(next)
  })
}

/** An installation to begin with: some users, a pool or two with machines that are ready. */
async function found(world: World): Promise<void> {
  const { choices, promises, database, machines } = world
  const founder = owner('founder')
  const store = database.connect(founder)
  const calm = choices.calm
  const pools = 1 + choices.pick('plan', 2)
  const cleaning = POOLS.map((): PoolPolicy['cleaning'] =>
    choices.pick('plan', [3, 1]) === 1 ? 'manual' : 'automatic',
  )
  const size = 2 + choices.pick('plan', 4)
  const failing = Array.from({ length: 2 * size }, () => choices.pick('plan', [9, 1]) === 1)
  choices.calm = true
  const founded = (async () => {
    const lane = laneOn(store)
    let n = 0
    const ask = async (command: Command): Promise<unknown> => {
      const requestId = `f${++n}`
      const named = 'requestId' in command ? ({ ...command, requestId } as Command) : command
      const call = promises.handedIn(requestId, named)
      const reply = await (lane.submit as (command: Command) => Promise<unknown>)(named)
      if (isRefusal(reply)) throw new Error(reply.message)
      if ('requestId' in command) promises.answered(call, reply)
      return reply
    }
    const requestId = ''
    const admin = { userId: 1, credentialVersion: 1 }
    const hash = { passwordHash: 'hash', requestId }
    const create = { kind: 'createUser', mayBeFirst: true, ...hash } as const
    await Promise.all([
      ask({ ...create, actor: null, name: 'Ada', email: 'ada@example.org', role: 'admin' }),
      ask({ ...create, actor: admin, name: 'Bob', email: 'bob@example.org', role: 'admin' }),
      ask({ ...create, actor: admin, name: 'Cy', email: 'cy@example.org', role: 'user' }),
      ask({ ...create, actor: admin, name: 'Dee', email: 'dee@example.org', role: 'user' }),
      ...POOLS.slice(0, pools).map((pool, i) => {
        const policy = { ...POOL_POLICY, cleaning: cleaning[i] ?? 'automatic' }
        return ask({ kind: 'sizePool', actor: admin, pool, size, policy, requestId })
      }),
    ])
    const grown = (await Promise.all(
      POOLS.slice(0, pools).map((_, i) =>
        ask({ kind: 'growPool', poolId: i + 1, machinesMax: 100, claimMs: 60_000 }),
      ),
    )) as { planned: Vm[] }[]
    const results = grown
      .flatMap(({ planned }) => planned)
      .map(({ id, claim }) => {
        if (failing.shift())
          return { vmId: id, claim, ok: false, failure: 'simulated', permanent: true } as const
        machines.vouched(id)
        return { vmId: id, claim, ok: true, made: { name: `vm-${id}`, address: `10.0.0.${id}` } } as const
      })
    await ask({ kind: 'reportWork', state: 'provisioning', results })
  })()
  let over = false
  void founded.finally(() => {
    over = true
  })
  await turns(() => !over && (world.scheduler.next() || true))
  await founded
  choices.calm = calm
}

function laneOn(store: Store): Lane {
  return new Lane(
    store,
    { now: () => STARTS_AT_MS, sleep: async () => {}, pause: async () => {}, random: () => 0.5 },
    { committed() {} },
  )
}

/** What strikes from outside: crashes, stops, freezes, clocks that jump, a database that is away. */
class Chaos {
  readonly #world: World
  readonly #self = owner('chaos')

  constructor(world: World) {
    this.#world = world
  }

  start(): void {
    const { choices, scheduler } = this.#world
    const how = choices.details('faults')
    scheduler.after(this.#self, 'chaos', how.among(CHAOS_PAUSES_MS), () => {
      if (choices.calm) return
      this.#strike(how)
      this.start()
    })
  }

  #strike(how: Details): void {
    const strikes = (kind: FaultKind) => how.chance(faults.permille(kind))
    const { faults, scheduler, promises, database, hosts } = this.#world
    for (const host of hosts) {
      const { server } = host
      if (server === null) {
        // What is down is started again, sooner or later.
        if (how.pick(2) === 0) new Server(this.#world, host)
      } else if (strikes('crash')) server.crash()
      else if (strikes('stop')) void server.stop()
      else if (strikes('freeze')) {
        const ms = how.among(FREEZES_MS)
        promises.note(() => `${host.name} is frozen for ${ms} ms`)
        promises.reached('a server is frozen')
        server.process.frozenUntilMs = scheduler.nowMs + ms
      }
      if (strikes('serverClock')) {
        host.clockErrorMs = how.among(CLOCK_ERRORS_MS)
        host.clockJumps++
        promises.note(() => `the clock of ${host.name} is wrong by ${host.clockErrorMs} ms now`)
        promises.reached('a server’s clock jumps')
      }
    }
    if (strikes('databaseClock')) {
      const errorMs = how.among(CLOCK_ERRORS_MS)
      if (errorMs > database.clockErrorMs) promises.jumps++
      database.clockErrorMs = errorMs
      promises.note(() => `the clock of the database is wrong by ${errorMs} ms now`)
      promises.reached('the database’s clock jumps')
    }
    if (strikes('databaseAway')) {
      database.awayUntilMs = scheduler.nowMs + how.among(AWAY_MS)
      promises.note(() => 'the database is away')
    }
    if (strikes('standstill')) {
      const ms = how.among(FREEZES_MS)
      scheduler.nowMs += ms
      promises.note(() => `nothing at all went on for ${ms} ms`)
    }
  }
}

/** No more faults: clocks are right, one server is left, and it has to bring everything to rest. */
async function settle(world: World, clients: Clients): Promise<void> {
  const { choices, scheduler, promises, database, hosts, machines } = world
  choices.calm = true
  promises.note(() => 'the faults stop; one server is left')
  const survivors = hosts.filter(({ server }) => server !== null && server.berth !== null)
  for (const host of hosts) {
    if (host.clockErrorMs !== 0) host.clockJumps++
    host.clockErrorMs = 0
    if (host.server !== null) host.server.process.frozenUntilMs = 0
    if (host.server !== null && host !== survivors[0]) host.server.crash()
  }
  if (database.clockErrorMs < 0) promises.jumps++
  database.clockErrorMs = 0
  const host = survivors[0] ?? hosts[0]
  if (host === undefined) return
  const server = host.server ?? new Server(world, host)
  clients.giveBack(server)
  const endsMs = scheduler.nowMs + SETTLING_MS_MAX
  const mostSteps = scheduler.stepsDone + SETTLING_STEPS_MAX
  /** What is not at rest yet. */
  const restless = (): string | null => {
    const unsettled = promises.unsettled(scheduler.nowMs)
    if (unsettled !== null) return unsettled
    if (machines.acting > 0) return 'a provider is still acting'
    const { owed } = clients
    if (owed.length > 0)
      return `the calls ${owed.map(({ requestId }) => requestId).join(', ')} were never answered`
    if ((server.readUpTo ?? 0) < promises.lastEventId)
      return `the follower of ${server.name} has read up to event ${server.readUpTo} of ${promises.lastEventId}`
    return null
  }
  await turns(() => {
    if (promises.breach !== null) return false
    if (scheduler.next()) return true
    const why = restless()
    if (why === null) return false
    const nextMs = scheduler.nextDueMs
    if (nextMs === null || nextMs > endsMs || scheduler.stepsDone > mostSteps) {
      promises.broken('converges', `${why}; waiting: ${scheduler.waiting.join('; ')}`)
      return false
    }
    // Sweeps look every second; until something is due there is nothing for them to see.
    const somethingMs = Math.min(promises.nextDueAtMs() ?? endsMs, scheduler.nextDeedMs ?? endsMs)
    const isAny = somethingMs < endsMs
    scheduler.nowMs = isAny ? Math.max(nextMs, Math.min(somethingMs, nextMs + SLEEP_MS_MAX)) : nextMs
    return true
  })
  if (promises.breach !== null) return
  await stopAtLast(world, server)
}

/** The last server stops in order, and leaves nothing open in the database. */
async function stopAtLast({ scheduler, promises, database }: World, server: Server): Promise<void> {
  void server.stop()
  let rounds = 0
  await turns(() => {
    // What was sent to the database and not answered may be carried out after its sender has stopped.
    if ((server.stopped && database.quiet) || promises.breach !== null) return false
    if (scheduler.next()) return true
    const nextMs = scheduler.nextDueMs
    if (nextMs === null || rounds++ > 1_000) {
      const what = server.stopped ? 'a batch is left open in the database' : `${server.name} does not stop`
      promises.broken('converges', `${what}; waiting: ${scheduler.waiting.join('; ')}`)
      return false
    }
    scheduler.nowMs = nextMs
    return true
  })
}

function timeOf(scheduler: Scheduler): string {
  const ms = scheduler.nowMs - STARTS_AT_MS
  return `+${String(ms).padStart(7)} ms #${String(scheduler.stepsDone).padEnd(4)}`
}
