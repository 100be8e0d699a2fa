/**
 * The way of every change: commands that arrive while a batch is under way wait, and the next batch takes them all, up to a
 * bound. A batch loads every row that its commands need, decides them in order, saves and commits once, and only then
 * answers. A command that throws (a bug) fails alone; the rest of its batch goes on.
 *
 * Batches overlap by one step: while one is being saved, the next is already asked for, and the store loads it right behind
 * that commit. So the event loop parses and answers requests while the disk syncs, instead of the two waiting for each other.
 */
import type { Answer } from '../domain/answer.ts'
import { BatchDecisions } from '../domain/batch.ts'
import {
  actorOf,
  type Command,
  type CommandKind,
  type CommandOf,
  needsOf,
  type ReplyOf,
} from '../domain/command.ts'
import type { NewEvent } from '../domain/event.ts'
import { earlierAnswer } from '../domain/idempotency.ts'
import type { Pool } from '../domain/pool.ts'
import { isRefusal, type Refusal, refusal } from '../domain/refusal.ts'
import { leavesWork } from '../domain/work.ts'
import { type LoadedBook, type LoadedRows, Needs, WorkingSet } from '../domain/working-set.ts'
import { type Batch, type Committed, type Store, StoreConflict } from '../store/port.ts'
import { Books } from './books.ts'
import type { Schedule } from './schedule.ts'
import { storeRefusal } from './store-refusal.ts'

export interface LaneSettings {
  /** Commands per batch; 1: one transaction a call. */
  readonly batchMax: number
  /** So many waiting commands start a batch at once; fewer wait for what else the event loop has read. */
  readonly eagerMin: number
  /** Commands that may wait; more are refused as `overloaded`. */
  readonly waitingMax: number
}

/** How often a batch that lost against another is tried, and the pause before the second time; it doubles. */
const TRIES_MAX = 6
const RETRY_MS = 5

/**
 * How long a lane that has few commands waits for more while other lanes of this server are busy, unless one of their batches
 * ends before: a batch costs the same for one command as for ten, and on a busy machine that is what limits.
 */
const GATHER_MS_MAX = 5

/** Batches of all lanes of one server. */
export class Traffic {
  #underWay = 0
  #ended: (() => void)[] = []

  get busy(): boolean {
    return this.#underWay > 0
  }

  began(): void {
    this.#underWay++
  }

  ended(): void {
    this.#underWay--
    for (const tell of this.#ended.splice(0)) tell()
  }

  /** Resolves when a batch ends that is under way now or begins meanwhile. */
  nextEnd(): Promise<void> {
    return new Promise((resolve) => this.#ended.push(resolve))
  }
}

export const LANE_SETTINGS: LaneSettings = { batchMax: 256, eagerMin: 16, waitingMax: 20_000 }

/** What a commit brought. */
export interface Commit {
  readonly events: readonly NewEvent[]
  readonly lastEventId: number
  /** True when it left something to do for a worker. */
  readonly leftWork: boolean
}

/** What the lane tells those who watch it, after each commit. */
export interface LaneWatcher {
  committed(commit: Commit): void
  /** What a batch was given to decide on. */
  loaded?(rows: LoadedRows): void
  measured?(batch: { commands: number; commitMs: number }): void
  /** A command threw, or (null) one of these: a bug, to be logged. */
  failed?(command: Command | null, error: unknown): void
}

/** Where commands are handed in. */
export type Submit = <K extends CommandKind>(
  command: CommandOf<K> & { kind: K },
) => Promise<ReplyOf<K> | Refusal>

/** What is said to whoever called. */
export interface Said {
  readonly status: number
  /** Plain JSON; it holds what only this caller may see. */
  readonly body: unknown
  readonly headers: Readonly<Record<string, string>>
  /** What is kept of the body for a repeated call, where that is less: nobody is shown a secret twice. */
  readonly kept?: unknown
}

/** A call that may be repeated under its key, and then has the same answer and no second effect. */
export interface Keyed<K extends CommandKind> {
  readonly key: string
  /** A hash of what was asked for. */
  readonly fingerprint: string
  /** What the reply answers. Pure: it is called when the command was decided, before it is committed. */
  readonly say: (reply: ReplyOf<K>) => Said
}

/** Where commands are handed in under a key. Resolves with what is to be answered, whether that is new or from an earlier call. */
export type SubmitKeyed = <K extends CommandKind>(
  command: CommandOf<K> & { kind: K },
  keyed: Keyed<K>,
) => Promise<(Said & { readonly replayed: boolean }) | Refusal>

interface Waiting {
  readonly command: Command
  readonly keyed: Keyed<CommandKind> | null
  /** True for a command whose batch failed: it gets a batch to itself. */
  readonly alone: boolean
  readonly resolve: (reply: unknown) => void
  readonly reject: (error: unknown) => void
}

export class Lane {
  readonly #store: Store
  readonly #schedule: Schedule
  readonly #settings: LaneSettings
  readonly #watcher: LaneWatcher
  readonly #traffic: Traffic
  readonly #books: Books
  #waiting: Waiting[] = []
  /** True while a start is planned for when the event loop has read what there is. */
  #planned = false
  /** True while a batch is being loaded: the next one must see what it changes. */
  #loading = false
  /** Commands whose batch is being saved. */
  #committing = 0
  /** Batches that are not answered yet. */
  #underWay = 0
  #drained: (() => void)[] = []

  constructor(
    store: Store,
    schedule: Schedule,
    watcher: LaneWatcher,
    settings: LaneSettings = LANE_SETTINGS,
    traffic: Traffic = new Traffic(),
    books: Books = new Books(),
  ) {
    this.#store = store
    this.#schedule = schedule
    this.#watcher = watcher
    this.#settings = settings
    this.#traffic = traffic
    this.#books = books
  }

  /** Hands in a command. Resolves after the commit with the reply, or with a refusal; rejects on a bug only. */
  readonly submit: Submit = (command) => this.#handIn(command as unknown as Command, null)

  /** Hands in a command under a key: its answer is saved with its effect. Refused, beside what the rule says: `idempotency_key_reused`. */
  readonly submitKeyed: SubmitKeyed = (command, keyed) =>
    this.#handIn(command as unknown as Command, keyed as unknown as Keyed<CommandKind>)

  #handIn(command: Command, keyed: Keyed<CommandKind> | null): Promise<never> {
    if (this.#waiting.length >= this.#settings.waitingMax)
      return Promise.resolve(refusal('overloaded')) as never
    const answer = new Promise<never>((resolve, reject) => {
      this.#waiting.push({
        command,
        keyed,
        alone: false,
        resolve: resolve as (reply: unknown) => void,
        reject,
      })
    })
    this.#plan()
    return answer
  }

  /** Commands that wait for a batch. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** Resolves when nothing is waiting or under way. */
  async drain(): Promise<void> {
    while (this.#waiting.length > 0 || this.#underWay > 0)
      await new Promise<void>((resolve) => this.#drained.push(resolve))
  }

  #plan(): void {
    if (this.#loading || this.#waiting.length === 0) return
    const { eagerMin } = this.#settings
    if (this.#committing > 0) {
      // A slow disk is better used by one large batch after this commit than by a small one right behind it.
      if (this.#waiting.length >= Math.max(eagerMin, this.#committing)) this.#start()
    } else if (this.#waiting.length >= eagerMin) this.#start()
    else if (!this.#planned) {
      this.#planned = true
      void this.#gather().then(() => {
        this.#planned = false
        if (!this.#loading && this.#waiting.length > 0) this.#start()
      })
    }
  }

  /** Lets more commands come: those that the event loop has read, and for a moment others where this server is busy anyway. */
  async #gather(): Promise<void> {
    await this.#schedule.pause()
    if (!this.#traffic.busy || this.#underWay > 0 || this.#waiting.length >= this.#settings.eagerMin) return
    const over = new AbortController()
    await Promise.race([this.#traffic.nextEnd(), this.#schedule.sleep(GATHER_MS_MAX, over.signal)])
    over.abort()
  }

  #start(): void {
    const commands = this.#takeBatch()
    this.#loading = true
    this.#underWay++
    this.#traffic.began()
    void this.#runBatch(commands).finally(() => {
      this.#underWay--
      this.#traffic.ended()
      if (this.#waiting.length === 0 && this.#underWay === 0)
        for (const resolve of this.#drained.splice(0)) resolve()
    })
  }

  #takeBatch(): Waiting[] {
    const waiting = this.#waiting
    const firstAlone = waiting.findIndex(({ alone }) => alone)
    const shared = firstAlone < 0 ? waiting.length : Math.max(1, firstAlone)
    const n = Math.min(shared, this.#settings.batchMax)
    this.#waiting = waiting.slice(n)
    return waiting.slice(0, n)
  }

  async #runBatch(commands: readonly Waiting[]): Promise<void> {
    let answers: (() => void)[]
    try {
      answers = await this.#transactTillSettled(commands)
    } catch (error) {
      const no = storeRefusal(error)
      if (no !== null) {
        if (error instanceof StoreConflict) this.#watcher.failed?.(null, error)
        for (const waiting of commands) waiting.resolve(no)
        return
      }
      const [only, ...others] = commands
      if (only !== undefined && others.length === 0) {
        this.#watcher.failed?.(only.command, error)
        only.reject(error)
        return
      }
      // Something in this batch breaks loading or saving: alone, each command meets its own fate.
      this.#waiting.unshift(...commands.map((waiting) => ({ ...waiting, alone: true })))
      this.#plan()
      return
    }
    for (const answer of answers) answer()
  }

  /** Runs one batch, again when it lost against another one: nothing of it was done then, and deciding has no effects. */
  async #transactTillSettled(commands: readonly Waiting[]): Promise<(() => void)[]> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#transact(commands)
      } catch (error) {
        if (!(error instanceof StoreConflict) || tries >= TRIES_MAX) throw error
        // Two that met once should not meet again in step.
        await this.#schedule.sleep(RETRY_MS * 2 ** (tries - 1) * (0.5 + this.#schedule.random()))
      }
    }
  }

  /** Runs one batch, and returns what there is to answer once its commit stands. */
  async #transact(commands: readonly Waiting[]): Promise<(() => void)[]> {
    const needs = new Needs()
    const answers: (() => void)[] = []
    let committing: Promise<Committed>
    let set: WorkingSet
    try {
      for (const [poolId, version] of this.#books.versions()) needs.bookVersions.set(poolId, version)
      for (const { command, keyed } of commands) {
        needsOf(command, needs)
        if (keyed === null) continue
        const userId = actorOf(command)?.userId ?? 0
        needs.answers.set(`${userId} ${keyed.key}`, [userId, keyed.key])
      }
      const batch = await this.#store.begin(needs)
      set = new WorkingSet(batch.rows)
      try {
        this.#watcher.loaded?.(batch.rows)
        await this.#takeBooks(set, batch.rows.books)
        const decisions = new BatchDecisions(set)
        const keysWaiting = new Set<string>()
        const deciding = commands.map((waiting) => this.#decideOne(set, decisions, keysWaiting, waiting))
        await this.#settle(set, decisions, batch)
        const postponed: Waiting[] = []
        for (const [i, complete] of deciding.entries())
          if (complete === null) postponed.push(commands[i] as Waiting)
          else answers.push(complete())
        this.#waiting.unshift(...postponed)
      } catch (error) {
        this.#books.drop(set.bookedPools)
        if (error instanceof BatchEnded) throw error.cause
        await batch.release()
        throw error
      }
      if (!set.dirty) {
        await batch.release()
        return answers
      }
      this.#committing += commands.length
      committing = batch.commit(set).finally(() => {
        this.#committing -= commands.length
        this.#plan()
      })
      this.#books.saving(poolsWithBooks(set), committing, set.nowMs)
    } finally {
      this.#loading = false
      this.#plan()
    }
    const { lastEventId, commitMs } = await committing
    // It stands: whatever goes wrong from here on, nothing of it may be done again.
    try {
      this.#watcher.committed({ events: set.events, lastEventId, leftWork: leavesWork(set) })
      this.#watcher.measured?.({ commands: commands.length, commitMs })
    } catch (error) {
      this.#watcher.failed?.(null, error)
    }
    return answers
  }

  /** Gives the batch the books of its pools, once no earlier batch is using them. */
  async #takeBooks(set: WorkingSet, books: readonly LoadedBook[]): Promise<void> {
    for (const loaded of books) {
      await this.#books.free(loaded.poolId)
      set.takeBook(loaded.poolId, this.#books.current(loaded, set.nowMs))
    }
  }

  /** Settles the batch, loading what it turns out to need. */
  async #settle(set: WorkingSet, decisions: BatchDecisions, batch: Batch): Promise<void> {
    for (;;) {
      const wanted = decisions.settle()
      if (wanted === null) return
      const books = wanted.books.map(([poolId]) => [poolId, this.#books.version(poolId)] as const)
      const rows = await batch.more({ ...wanted, books }).catch((error: unknown) => {
        throw new BatchEnded(error)
      })
      set.addMore(rows)
      await this.#takeBooks(set, rows.books)
    }
  }

  /**
   * Decides a command. Returns how its answer is completed once the batch is settled, which returns how it is told once the batch
   * is saved; null: the command goes to the next batch, where the answer to an earlier one of the same key is known.
   */
  #decideOne(
    set: WorkingSet,
    decisions: BatchDecisions,
    keysWaiting: Set<string>,
    waiting: Waiting,
  ): Deciding | null {
    const { command, keyed, resolve, reject } = waiting
    const changes = set.changeCount
    try {
      if (keyed === null) {
        const answer = decisions.decide(command).answer
        return () => () => resolve(answer())
      }
      const earlier = earlierAnswer(set, actorOf(command), keyed.key, keyed.fingerprint)
      if (earlier !== null) return () => () => resolve(isRefusal(earlier) ? earlier : replayOf(earlier))
      const key = `${actorOf(command)?.userId} ${keyed.key}`
      if (keysWaiting.has(key)) return null
      const { answer, isSettled } = decisions.decide(command)
      const complete = () => {
        const reply = answer()
        if (isRefusal(reply)) return () => resolve(reply)
        const said = keyed.say(reply as never)
        set.apply({ answers: [answerOf(command, keyed, said, set.nowMs)], events: [] })
        return () => resolve({ ...said, replayed: false })
      }
      if (!isSettled) {
        keysWaiting.add(key)
        return complete
      }
      const told = complete()
      return () => told
    } catch (error) {
      // A working set in which a change failed half-way is good for nobody.
      if (set.changeCount !== changes) throw error
      this.#watcher.failed?.(command, error)
      return () => () => reject(error)
    }
  }
}

/** Completes an answer once its batch is settled, and returns how it is told once the batch is saved. */
type Deciding = () => () => void

/** Loading more failed, and the batch has ended with it. */
class BatchEnded extends Error {
  constructor(cause: unknown) {
    super('the batch has ended', { cause })
  }
}

function poolsWithBooks(set: WorkingSet): Pool[] {
  return [...set.bookedPools].flatMap((poolId) => set.pool(poolId) ?? [])
}

function answerOf(command: Command, keyed: Keyed<CommandKind>, said: Said, atMs: number): Answer {
  return {
    userId: actorOf(command)?.userId ?? 0,
    key: keyed.key,
    fingerprint: keyed.fingerprint,
    status: said.status,
    body: JSON.stringify(said.kept ?? said.body),
    headers: said.headers,
    atMs,
  }
}

function replayOf({ status, body, headers }: Answer): Said & { replayed: boolean } {
  return { status, body: JSON.parse(body) as unknown, headers, replayed: true }
}
