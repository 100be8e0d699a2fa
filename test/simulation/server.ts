/**
 * One simulated server: the real lanes, workers and feed on a store that is simulated, or on the real one in memory. It can
 * be crashed between any two of its steps, stopped, frozen, and started again on the same host. Somebody on it follows the events.
 */
import { isRefusal } from '../../src/domain/refusal.ts'
import type { Vm } from '../../src/domain/vm.ts'
import type { WorkResult, WorkState } from '../../src/domain/work.ts'
import { type Berth, openBerth } from '../../src/service/berth.ts'
import { LANE_SETTINGS, type Submit } from '../../src/service/lane.ts'
import type { Schedule } from '../../src/service/schedule.ts'
import { OutcomeUnknown, type Store, StoreConflict, StoreUnavailable } from '../../src/store/port.ts'
import { startWorkers, type Workers } from '../../src/worker/workers.ts'
import type { Choices } from './choices.ts'
import { POOL_POLICY } from './clients.ts'
import { delayMs, type FaultPlan } from './faults.ts'
import { CALL_MS_MAX, type Machines } from './machines.ts'
import type { Promises } from './promises.ts'
import { LOOK, type Owner, owner, type Scheduler } from './scheduler.ts'

/** What a server runs on: it outlives the server, and so does its wrong clock. */
export class Host {
  readonly name: string
  clockErrorMs = 0
  clockJumps = 0
  /** The server that runs on it now, if any does. */
  server: Server | null = null

  constructor(name: string) {
    this.name = name
  }
}

/** What servers of one run share. */
export interface World {
  readonly choices: Choices
  readonly scheduler: Scheduler
  readonly faults: FaultPlan
  readonly promises: Promises
  readonly machines: Machines
  readonly database: Database
  readonly hosts: readonly Host[]
  /** Commands per batch. */
  readonly batchMax: number
  /** Reports that workers have handed in, whatever became of them, the newest first. */
  readonly reports: Report[]
}

interface Report {
  readonly state: WorkState
  readonly results: readonly WorkResult[]
}

/** A database that servers connect to. */
export interface Database {
  connect(server: Owner): Store
  disconnect(server: Owner): void
  clockErrorMs: number
  awayUntilMs: number
  readonly quiet: boolean
}

/** What a server was told of a claim. */
interface ToldClaim {
  readonly untilMs: number
  readonly jumps: number
  readonly wipes: number
  readonly clockJumps: number
}

const EVENTS_READ_MAX = 7
const FOLLOWER_PAUSE_MS = 700

/** Whoever sleeps no longer than this only looks whether there is something to do. */
const LOOK_MS = 1_000

export function isStoreFault(error: unknown): boolean {
  return (
    error instanceof StoreUnavailable || error instanceof StoreConflict || error instanceof OutcomeUnknown
  )
}

export class Server {
  readonly name: string
  readonly host: Host
  readonly process: Owner
  readonly claims = new Map<number, ToldClaim>()
  /** Set while it takes calls. */
  berth: Berth | null = null
  /** Up to which event its follower has read. */
  readUpTo: number | null = null
  stopped = false
  readonly #world: World
  readonly #schedule: Schedule
  readonly #followed = new AbortController()
  #opened: Berth | null = null
  #workers: Workers | null = null
  #stopping = false
  /** Takes back what sleepers listen to: a combined signal that somebody listens to is kept for ever. */
  readonly #asleep = new Set<() => void>()
  #report: ((report: Report) => Promise<unknown>) | null = null

  constructor(world: World, host: Host) {
    this.#world = world
    this.host = host
    this.name = host.name
    this.process = owner(host.name)
    const { scheduler, choices } = world
    this.#schedule = {
      now: () => scheduler.nowMs + host.clockErrorMs,
      sleep: (ms, signal) => this.#sleep(ms, signal),
      pause: () => scheduler.park(this.process, 'pause'),
      random: () => choices.details('faults').pick(8) / 8,
    }
    host.server = this
    world.promises.note(() => `${this.name} starts`)
    void this.#open()
  }

  /** Somebody repeats a report of any server's workers, the newest but `nth`. */
  reportAgain(nth: number): void {
    const report = this.#world.reports[nth]
    if (report === undefined || !this.running || this.process.frozenUntilMs > this.#world.scheduler.nowMs)
      return
    void this.#report?.(report).catch(() => {})
  }

  get running(): boolean {
    return this.berth !== null && !this.process.dead
  }

  crash(): void {
    const { scheduler, database, promises } = this.#world
    promises.note(() => `${this.name} crashes`)
    promises.reached('a server crashes')
    this.#end()
    scheduler.bury(this.process)
    database.disconnect(this.process)
  }

  /** Stops it as an operator would: what is under way is finished first. */
  async stop(): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    this.#world.promises.note(() => `${this.name} is told to stop`)
    this.berth = null
    this.#followed.abort()
    await this.#workers?.stop()
    await this.#opened?.close()
    const { scheduler, database, promises } = this.#world
    promises.note(() => `${this.name} has stopped`)
    promises.reached('a server stops')
    this.stopped = true
    this.#end()
    scheduler.bury(this.process)
    database.disconnect(this.process)
  }

  #end(): void {
    for (const deafen of [...this.#asleep]) deafen()
    this.berth = null
    if (this.host.server === this) this.host.server = null
  }

  async #open(): Promise<void> {
    const { promises, machines, database, batchMax } = this.#world
    const store = database.connect(this.process)
    const schedule = this.#schedule
    for (;;) {
      try {
        this.#opened = await openBerth({
          store,
          schedule,
          randomBytes: (n) => Buffer.alloc(n),
          lane: { ...LANE_SETTINGS, batchMax },
          poolPolicy: POOL_POLICY,
          setupCode: () => null,
          allowReset: false,
          hashesMax: 1,
          rememberedMax: 1,
          failed: (command, error) => {
            if (!isStoreFault(error))
              promises.broken(
                'no-bug',
                `${this.name}: ${command?.kind ?? 'a batch'} failed: ${textOf(error)}`,
              )
          },
        })
        break
      } catch (error) {
        if (!isStoreFault(error)) promises.broken('no-bug', `${this.name} does not start: ${textOf(error)}`)
        await schedule.sleep(FOLLOWER_PAUSE_MS)
      }
    }
    if (this.#stopping) return
    const berth = this.#opened
    this.berth = berth
    const provider = machines.provider(this)
    this.#workers = startWorkers({
      submit: this.#watched(berth.submit),
      reads: berth.reads,
      feed: berth.feed,
      schedule,
      tokens: berth.tokens,
      providers: new Map([[provider.name, provider]]),
      callMsMax: CALL_MS_MAX,
      failed: (name, error) => {
        const refused = error instanceof Error && error.name === 'Error' && REFUSED.test(error.message)
        if (!isStoreFault(error) && !refused)
          promises.broken('no-bug', `${this.name}: the worker '${name}' failed: ${textOf(error)}`)
      },
    })
    void this.#follow(berth)
  }

  /** What workers hand in, watched: which claims they are told of, and what becomes of their reports. */
  #watched(submit: Submit): Submit {
    const { promises, faults, scheduler, reports } = this.#world
    const ask = submit as (command: unknown) => Promise<unknown>
    const report = async (command: Report) => {
      const voidOnes = promises.voidOnes(command.state, command.results)
      const { wipes } = promises
      const reply = await ask(command)
      if (!isRefusal(reply) && wipes === promises.wipes)
        promises.reported(command.results, voidOnes, reply as { accepted: number; late: number })
      return reply
    }
    this.#report = report
    const watched = async (command: { kind: string }): Promise<unknown> => {
      if (command.kind === 'reportWork') {
        const work = command as unknown as Report
        reports.unshift(work)
        const again = faults.strike('reportTwice')
        if (again !== null)
          scheduler.after(
            this.process,
            'a report once more',
            delayMs(again),
            () => void report(work).catch(() => {}),
          )
        return report(work)
      }
      const { wipes } = promises
      const { clockJumps } = this.host
      const reply = await ask(command)
      if (isRefusal(reply) || wipes !== promises.wipes) return reply
      const { claimed, planned } = (reply ?? {}) as { claimed?: Vm[]; planned?: Vm[] }
      if (claimed?.length === 0) promises.askedInVain(this, scheduler.nowMs)
      for (const vm of claimed ?? planned ?? []) {
        const claim = promises.toldOfClaim(vm)
        if (claim === null) this.claims.delete(vm.id)
        else this.claims.set(vm.id, { untilMs: claim.untilMs, jumps: claim.jumps, wipes, clockJumps })
      }
      return reply
    }
    return watched as Submit
  }

  /** Reads all events from the beginning on, as the audit log's readers do. */
  async #follow(berth: Berth): Promise<void> {
    const { promises } = this.#world
    const { signal } = this.#followed
    while (!signal.aborted) {
      const afterId = this.readUpTo ?? 0
      try {
        const events = await berth.reads.events({ afterId, rowsMax: EVENTS_READ_MAX })
        this.readUpTo = promises.read(`the follower of ${this.name}`, afterId, events)
        if (events.length === 0) await berth.feed.after(afterId, signal)
      } catch (error) {
        if (!isStoreFault(error)) promises.broken('no-bug', `the follower of ${this.name}: ${textOf(error)}`)
        await this.#schedule.sleep(FOLLOWER_PAUSE_MS, signal)
      }
    }
  }

  #sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const deafen = () => {
        this.#asleep.delete(deafen)
        signal?.removeEventListener('abort', wake)
      }
      const wake = () => {
        takeBack()
        deafen()
        resolve()
      }
      this.#asleep.add(deafen)
      const takeBack = this.#world.scheduler.after(
        this.process,
        ms <= LOOK_MS ? LOOK : 'sleep',
        Math.max(0, ms),
        wake,
      )
      signal?.addEventListener('abort', wake)
    })
  }
}

/** What workers throw when they were refused for a fault of the store. */
const REFUSED =
  /^(too many requests are waiting|the store cannot take changes now|the connection to the database was lost)/

export function textOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}
