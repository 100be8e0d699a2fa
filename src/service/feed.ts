/**
 * Wakes those who wait for something to happen. The feed itself carries no facts: whoever is woken reads the store, from the
 * cursor they have reached or the row they wait for, so it makes no difference which server committed the change.
 */
import type { Commit } from './lane.ts'
import type { Schedule } from './schedule.ts'

export class Feed {
  #lastEventId: number
  #changed = new Signal()
  #work = new Signal()

  constructor(lastEventId: number) {
    this.#lastEventId = lastEventId
  }

  /** The newest event that is known to be committed. */
  get lastEventId(): number {
    return this.#lastEventId
  }

  /** Told after each commit. */
  committed({ lastEventId, leftWork }: Pick<Commit, 'lastEventId' | 'leftWork'>): void {
    this.#lastEventId = Math.max(this.#lastEventId, lastEventId)
    this.#changed.fire()
    if (leftWork) this.#work.fire()
  }

  /** Resolves when there is an event after `afterId`, when `signal` is aborted, or never. */
  async after(afterId: number, signal: AbortSignal): Promise<void> {
    while (this.#lastEventId <= afterId && !signal.aborted) await this.#changed.wait(signal)
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
      const seen = feed.lastEventId
      if (await test()) return true
      if (over.signal.aborted) return false
      await feed.after(seen, over.signal)
      // Many commits may come at once; asking once after them is enough.
      await schedule.pause()
    }
  } finally {
    over.abort()
    await timeout
  }
}
