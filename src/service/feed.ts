/**
 * Wakes those who wait for something to happen. The feed itself carries no facts: whoever is woken reads the store, from the
 * cursor they have reached or the row they wait for, so it makes no difference which server committed the change.
 */
import type { News } from '../store/port.ts'
import type { Commit } from './lane.ts'
import type { Schedule } from './schedule.ts'

export class Feed {
  readonly #cursor: (() => Promise<number>) | null
  #lastEventId: number
  #changed = new Signal()
  #work = new Signal()
  #asking: Promise<void> | null = null

  /**
   * `cursor` asks the store for its newest cursor, where other servers commit too: an event of ours may then have a higher id
   * than one of theirs that is still on its way. null: our commits are all there are.
   */
  constructor(lastEventId: number, cursor: (() => Promise<number>) | null = null) {
    this.#lastEventId = lastEventId
    this.#cursor = cursor
  }

  /** The newest event up to which all may be read. */
  get lastEventId(): number {
    return this.#lastEventId
  }

  /** Told after each commit of this server. */
  committed({ lastEventId, leftWork }: Pick<Commit, 'lastEventId' | 'leftWork'>): void {
    if (this.#cursor === null) this.#lastEventId = Math.max(this.#lastEventId, lastEventId)
    this.heard({ leftWork })
  }

  /** Told when another server may have committed something. */
  heard({ leftWork }: Pick<News, 'leftWork'>): void {
    this.#changed.fire()
    if (leftWork) this.#work.fire()
  }

  /** Resolves when there is an event after `afterId`, when `signal` is aborted, or never. Rejects when the store cannot be asked. */
  async after(afterId: number, signal: AbortSignal): Promise<void> {
    while (this.#lastEventId <= afterId && !signal.aborted) {
      const changed = this.#changed.wait(signal)
      await this.#ask()
      if (this.#lastEventId > afterId) return
      await changed
    }
  }

  /** Resolves when something has been committed since this call, or when `signal` is aborted. */
  change(signal: AbortSignal): Promise<void> {
    return this.#changed.wait(signal)
  }

  /** Asks the store how far the feed has come; many who want to know ask once. */
  async #ask(): Promise<void> {
    if (this.#cursor === null) return
    this.#asking ??= this.#cursor()
      .then((id) => {
        this.#lastEventId = Math.max(this.#lastEventId, id)
      })
      .finally(() => {
        this.#asking = null
      })
    await this.#asking
  }

  /** Resolves when something has happened since this call that may be work, or when `signal` is aborted. */
  work(signal: AbortSignal): Promise<void> {
    return this.#work.wait(signal)
  }
}

class Signal {
  #waiters = new Set<() => void>()

  fire(): void {
    const waiters = this.#waiters
    if (waiters.size === 0) return
    this.#waiters = new Set()
    for (const wake of waiters) wake()
  }

  wait(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiters.delete(wake)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      this.#waiters.add(wake)
      signal.addEventListener('abort', wake)
    })
  }
}

/** Waits until `test` says yes, asking again after each commit, for at most `msMax`. Tells whether it did. */
export async function waitUntil(
  feed: Feed,
  schedule: Schedule,
  msMax: number,
  test: () => Promise<boolean>,
): Promise<boolean> {
  const over = new AbortController()
  const timeout = schedule.sleep(msMax, over.signal).then(() => over.abort())
  try {
    for (;;) {
      const change = feed.change(over.signal)
      if (await test()) return true
      if (over.signal.aborted) return false
      await change
      // Many commits may come at once; asking once after them is enough.
      await schedule.pause()
    }
  } finally {
    over.abort()
    await timeout
  }
}
