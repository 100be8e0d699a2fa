/**
 * How a worker goes about its work: sweep until nothing is due, then sleep until something is, until the feed says that
 * there may be work, or for a while at most. What a sweep starts goes on beside it, so a provider that hangs on one pool
 * holds up no other. A sweep that fails is logged and repeated after a pause; a worker never ends by itself.
 */
import type { Feed } from '../service/feed.ts'
import type { Schedule } from '../service/schedule.ts'

/** When to sweep again: at once, at a time, or when woken; also when a task has ended that asks for it. */
export type NextSweep = { readonly at: 'once' } | { readonly at: 'wake' } | { readonly atMs: number }

export interface Sweep {
  readonly name: string
  run(tasks: Tasks): Promise<NextSweep>
}

/** What a sweep has started and not yet finished, by key. */
export class Tasks {
  readonly #running = new Map<string, Promise<void>>()
  readonly #failed: (error: unknown) => void
  #again = () => {}
  #asked: Promise<void> = Promise.resolve()

  constructor(failed: (error: unknown) => void) {
    this.#failed = failed
    this.#listen()
  }

  has(key: string): boolean {
    return this.#running.has(key)
  }

  get size(): number {
    return this.#running.size
  }

  /** Starts a task. It tells whether there may be more to do at once: not when it was refused or found nothing. */
  start(key: string, task: () => Promise<boolean>): void {
    const running = task()
      .catch((error: unknown) => {
        this.#failed(error)
        return false
      })
      .then((more) => {
        this.#running.delete(key)
        if (more) this.#again()
      })
    this.#running.set(key, running)
  }

  /** Resolves when a task has ended that asks for another sweep. */
  askedForMore(): Promise<void> {
    return this.#asked
  }

  /** Forgets what tasks asked for until now: a sweep is about to look. */
  forgetAsked(): void {
    this.#listen()
  }

  #listen(): void {
    this.#asked = new Promise((resolve) => {
      this.#again = resolve
    })
  }

  async allEnded(): Promise<void> {
    await Promise.all(this.#running.values())
  }
}

/** The longest sleep: work of another server, or a missed wake-up, waits no longer than this. */
const SLEEP_MS_MAX = 1_000
const PAUSE_AFTER_FAILURE_MS = 500

export interface SweepSurroundings {
  readonly feed: Feed
  readonly schedule: Schedule
  readonly signal: AbortSignal
  readonly failed: (name: string, error: unknown) => void
}

/** Runs `sweep` again and again until `signal` is aborted; resolves when its tasks have ended too. */
export async function runSweep(sweep: Sweep, surroundings: SweepSurroundings): Promise<void> {
  const { feed, schedule, signal, failed } = surroundings
  const tasks = new Tasks((error) => failed(sweep.name, error))
  while (!signal.aborted) {
    const woken = new AbortController()
    const stop = () => woken.abort()
    signal.addEventListener('abort', stop)
    // Listening begins before the sweep looks, so what happens in between is not missed.
    const work = feed.work(woken.signal)
    tasks.forgetAsked()
    try {
      const next = await sweep.run(tasks)
      if ('at' in next && next.at === 'once') continue
      const sleepMs = 'atMs' in next ? Math.max(0, next.atMs - schedule.now()) : SLEEP_MS_MAX
      const slept = schedule.sleep(Math.min(SLEEP_MS_MAX, sleepMs), woken.signal)
      await Promise.race([work, tasks.askedForMore(), slept])
    } catch (error) {
      failed(sweep.name, error)
      await schedule.sleep(PAUSE_AFTER_FAILURE_MS, woken.signal)
    } finally {
      woken.abort()
      signal.removeEventListener('abort', stop)
    }
  }
  await tasks.allEnded()
}
