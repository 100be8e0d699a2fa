/**
 * The way of every change: commands that arrive while a batch is under way wait, and the next batch takes them all, up to a
 * bound. A batch loads every row that its commands need, decides them in order, saves and commits once, and only then
 * answers. A command that throws (a bug) fails alone; the rest of its batch goes on. One lane is one writer at a time.
 */
import {
  type Command,
  type CommandKind,
  type CommandOf,
  decide,
  needsOf,
  type ReplyOf,
} from '../domain/command.ts'
import { isRefusal } from '../domain/decision.ts'
import type { NewEvent } from '../domain/event.ts'
import { type Refusal, refusal } from '../domain/refusal.ts'
import { Needs, WorkingSet } from '../domain/working-set.ts'
import { type Store, StoreUnavailable } from '../store/port.ts'
import type { Schedule } from './schedule.ts'

export interface LaneSettings {
  /** Commands per batch; 1: one transaction a call. */
  readonly batchMax: number
  /** Commands that may wait; more are refused as `overloaded`. */
  readonly waitingMax: number
}

export const LANE_SETTINGS: LaneSettings = { batchMax: 256, waitingMax: 20_000 }

/** What the lane tells those who watch it, after each commit. */
export interface LaneWatcher {
  committed(events: readonly NewEvent[], lastEventId: number): void
  measured?(batch: { commands: number; commitMs: number }): void
  /** A command threw: a bug, to be logged. */
  failed?(command: Command, error: unknown): void
}

/** Where commands are handed in. */
export type Submit = <K extends CommandKind>(
  command: CommandOf<K> & { kind: K },
) => Promise<ReplyOf<K> | Refusal>

interface Waiting {
  readonly command: Command
  readonly resolve: (reply: unknown) => void
  readonly reject: (error: unknown) => void
}

export class Lane {
  readonly #store: Store
  readonly #schedule: Schedule
  readonly #settings: LaneSettings
  readonly #watcher: LaneWatcher
  #waiting: Waiting[] = []
  #running: Promise<void> | null = null

  constructor(
    store: Store,
    schedule: Schedule,
    watcher: LaneWatcher,
    settings: LaneSettings = LANE_SETTINGS,
  ) {
    this.#store = store
    this.#schedule = schedule
    this.#watcher = watcher
    this.#settings = settings
  }

  /** Hands in a command. Resolves after the commit with the reply, or with a refusal; rejects on a bug only. */
  readonly submit: Submit = (command) => {
    if (this.#waiting.length >= this.#settings.waitingMax)
      return Promise.resolve(refusal('overloaded')) as never
    const answer = new Promise<never>((resolve, reject) => {
      this.#waiting.push({
        command: command as unknown as Command,
        resolve: resolve as (reply: unknown) => void,
        reject,
      })
    })
    this.#running ??= this.#run()
    return answer
  }

  /** Commands that wait for a batch. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** Resolves when nothing is waiting or under way. */
  async drain(): Promise<void> {
    while (this.#running !== null) await this.#running
  }

  async #run(): Promise<void> {
    // Requests that the event loop has read together belong into one batch.
    await this.#schedule.pause()
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, this.#settings.batchMax)
      await this.#runBatch(batch)
    }
    this.#running = null
  }

  async #runBatch(commands: readonly Waiting[]): Promise<void> {
    let answers: (() => void)[]
    try {
      answers = await this.#transact(commands)
    } catch (error) {
      if (error instanceof StoreUnavailable) {
        const away = refusal('store_unavailable', { reason: error.message })
        for (const waiting of commands) waiting.resolve(away)
        return
      }
      if (commands.length === 1) {
        for (const { command, reject } of commands) {
          this.#watcher.failed?.(command, error)
          reject(error)
        }
        return
      }
      // Something in this batch breaks loading or saving: alone, each command meets its own fate.
      for (const waiting of commands) await this.#runBatch([waiting])
      return
    }
    for (const answer of answers) answer()
  }

  /** Runs one batch, and returns what there is to answer once its commit stands. */
  async #transact(commands: readonly Waiting[]): Promise<(() => void)[]> {
    const needs = new Needs()
    for (const { command } of commands) needsOf(command, needs)
    const batch = await this.#store.begin(needs)
    let set: WorkingSet
    const answers: (() => void)[] = []
    try {
      set = new WorkingSet(batch.rows)
      for (const waiting of commands) answers.push(this.#decideOne(set, waiting))
    } catch (error) {
      await batch.release()
      throw error
    }
    if (!set.dirty) {
      await batch.release()
      return answers
    }
    const { lastEventId, commitMs } = await batch.commit(set)
    this.#watcher.measured?.({ commands: commands.length, commitMs })
    this.#watcher.committed(set.events, lastEventId)
    return answers
  }

  #decideOne(set: WorkingSet, { command, resolve, reject }: Waiting): () => void {
    try {
      const decision = decide(set, command)
      if (isRefusal(decision)) return () => resolve(decision)
      set.apply(decision.changes)
      return () => resolve(decision.reply)
    } catch (error) {
      this.#watcher.failed?.(command, error)
      return () => reject(error)
    }
  }
}
