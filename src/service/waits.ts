/**
 * Who waits for what becomes of a request. They are woken one by one, by the commit that ended that request, so ten thousand who wait
 * cost nothing while others are granted. What other servers commit is found by asking which requests still wait: when one of them
 * gives word, and every second; the more who wait here, the more seldom.
 */
import type { Event, NewEvent } from '../domain/event.ts'
import type { Reads } from '../store/port.ts'
import type { Feed } from './feed.ts'
import type { Schedule } from './schedule.ts'

const ENDS: ReadonlySet<NewEvent['type']> = new Set([
  'request.granted',
  'request.cancelled',
  'request.expired',
])

const ROWS_MAX = 1_000
const LOOK_MS_MIN = 50
const LOOK_MS_EACH = 0.1

interface Waiter {
  readonly poolId: number
  readonly wake: () => void
}

export class Waits {
  readonly #reads: Reads
  readonly #feed: Feed
  readonly #schedule: Schedule
  /** False: all commits are of this server. */
  readonly #hasNeighbours: boolean
  readonly #waiters = new Map<string, Set<Waiter>>()
  readonly #stopping = new AbortController()
  #count = 0
  #looking = false

  constructor(reads: Reads, feed: Feed, schedule: Schedule, hasNeighbours: boolean) {
    this.#reads = reads
    this.#feed = feed
    this.#schedule = schedule
    this.#hasNeighbours = hasNeighbours
  }

  /** How many wait. */
  get count(): number {
    return this.#count
  }

  /** Aborted when the server stops: nobody is to wait any longer. */
  get stopping(): AbortSignal {
    return this.#stopping.signal
  }

  stop(): void {
    this.#stopping.abort()
    for (const id of [...this.#waiters.keys()]) this.#wake(id)
  }

  /** Told after each commit of this server. */
  committed(events: readonly (NewEvent | Event)[]): void {
    if (this.#count === 0) return
    for (const { type, data } of events) if (ENDS.has(type)) this.#wake(String(data?.request))
  }

  /**
   * Resolves when the request is said to wait no longer, when `signal` is aborted, or when the server stops. Look at it after this was
   * called, and not only before: what ended it in between is told to nobody.
   */
  ended(requestId: string, poolId: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted || this.#stopping.signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const waiters = this.#waiters.get(requestId) ?? new Set()
      this.#waiters.set(requestId, waiters)
      const wake = () => {
        waiters.delete(waiter)
        if (waiters.size === 0 && this.#waiters.get(requestId) === waiters) this.#waiters.delete(requestId)
        this.#count--
        signal.removeEventListener('abort', wake)
        resolve()
      }
      const waiter: Waiter = { poolId, wake }
      waiters.add(waiter)
      this.#count++
      signal.addEventListener('abort', wake)
      if (this.#hasNeighbours && !this.#looking) void this.#look()
    })
  }

  #wake(requestId: string): void {
    for (const { wake } of [...(this.#waiters.get(requestId) ?? [])]) wake()
  }

  /** As long as somebody waits, asks which requests of theirs do. */
  async #look(): Promise<void> {
    this.#looking = true
    const { signal } = this.#stopping
    try {
      while (this.#count > 0 && !signal.aborted) {
        const change = this.#feed.change(signal)
        await this.#schedule.sleep(LOOK_MS_MIN + LOOK_MS_EACH * this.#count, signal)
        await change
        // While the store is away, so is whatever ends requests.
        const waiting = await this.#stillWaiting().catch(() => null)
        if (waiting !== null) for (const id of [...this.#waiters.keys()]) if (!waiting.has(id)) this.#wake(id)
      }
    } finally {
      this.#looking = false
    }
  }

  /** Ids of requests that wait, of all pools for which somebody waits; those that somebody began to wait for meanwhile count as such. */
  async #stillWaiting(): Promise<Set<string>> {
    const ids = [...this.#waiters.keys()]
    const poolIds = new Set(ids.map((id) => [...(this.#waiters.get(id) ?? [])][0]?.poolId ?? 0))
    const waiting = new Set<string>()
    for (const poolId of poolIds)
      for (let after = ''; ; ) {
        const requests = await this.#reads.requests(
          { poolId, state: 'waiting' },
          { after, rowsMax: ROWS_MAX },
        )
        for (const { id } of requests) waiting.add(id)
        const last = requests.at(-1)
        if (last === undefined || requests.length < ROWS_MAX) break
        after = last.id
      }
    const asked = new Set(ids)
    for (const id of this.#waiters.keys()) if (!asked.has(id)) waiting.add(id)
    return waiting
  }
}
