/**
 * What the pools' books say of who waits, for those who ask: places, expected times, reasons. All questions about a pool that come
 * within a second are asked as one, so a queue is as cheap to watch for ten thousand as for ten; what was answered is remembered for
 * that second. More questions than one look answers find nothing: a place that is not known is no reason to wait for it.
 */
import type { NewEvent } from '../domain/event.ts'
import type { PoolLook, RequestLook } from '../domain/look.ts'
import { isRefusal, type Refusal } from '../domain/refusal.ts'
import type { Reads } from '../store/port.ts'
import type { Submit } from './lane.ts'
import type { Schedule } from './schedule.ts'

const LOOK_MS = 1_000
const REQUESTS_MAX = 50
const PROVIDER_ERRORS_MAX = 5

/** Grants of the last so many minutes tell what others will want. */
const GRANTED_MINUTES = 60
const MINUTE_MS = 60_000

/** What is asked for together. */
interface Question {
  readonly requestIds: Set<string>
  readonly answer: Promise<PoolLook | Refusal>
}

interface Asked {
  lookedAtMs: number
  /** What goes with the next look; null: nobody has asked since the last one. */
  next: Question | null
  /** What the last looks said. */
  readonly known: Map<string, { readonly look: RequestLook; readonly untilMs: number }>
}

interface Granted {
  readonly userId: number
  readonly atMs: number
}

export class QueueView {
  readonly #submit: Submit
  readonly #reads: Reads
  readonly #schedule: Schedule
  /** By the pool's name; those with reasons apart. */
  readonly #asked = new Map<string, Asked>()
  readonly #pools = new Map<
    string,
    { readonly look: Promise<PoolLook | Refusal>; readonly untilMs: number }
  >()
  /** By the pool's id: what was granted lately, in the order in which it was. */
  readonly #granted = new Map<number, Granted[]>()

  constructor(submit: Submit, reads: Reads, schedule: Schedule) {
    this.#submit = submit
    this.#reads = reads
    this.#schedule = schedule
  }

  /** Told after each commit of this server. */
  committed(events: readonly NewEvent[]): void {
    const atMs = this.#schedule.now()
    for (const { type, poolId, userId } of events) {
      if (type !== 'vm.checked_out' || poolId === undefined || userId === undefined) continue
      const granted = this.#granted.get(poolId) ?? []
      this.#granted.set(poolId, granted)
      granted.push({ userId, atMs })
      if (granted.length > GRANTED_MAX) granted.splice(0, granted.length - GRANTED_MAX / 2)
    }
  }

  /** What the book of `pool` says of a request that waits; null: nothing, or too many ask. `why`: also why it waits. */
  async of(poolId: number, pool: string, requestId: string, why: boolean): Promise<RequestLook | null> {
    const asked = this.#askedOf(pool, why)
    const known = asked.known.get(requestId)
    if (known !== undefined && known.untilMs > this.#schedule.now()) return known.look
    asked.next ??= this.#plan(asked, poolId, pool, why)
    const { requestIds, answer } = asked.next
    if (requestIds.size >= REQUESTS_MAX && !requestIds.has(requestId)) return null
    requestIds.add(requestId)
    const look = await answer
    return isRefusal(look) ? null : (look.requests.get(requestId) ?? null)
  }

  /** How a pool stands, and why who comes first waits; at most a second old. Refused: `pool_unknown`, and what any command is. */
  pool(poolId: number, pool: string): Promise<PoolLook | Refusal> {
    const nowMs = this.#schedule.now()
    const known = this.#pools.get(pool)
    if (known !== undefined && known.untilMs > nowMs) return known.look
    const look = this.#look(poolId, pool, [], true)
    this.#pools.set(pool, { look, untilMs: nowMs + LOOK_MS })
    look.catch(() => this.#pools.delete(pool))
    return look
  }

  /** When how many machines of a pool are free. Refused: `pool_unknown`, and what any command is. */
  async free(pool: string, fromMs: number, toMs: number): Promise<PoolLook | Refusal> {
    return this.#submit({
      kind: 'lookAtPool',
      pool,
      requestIds: [],
      why: false,
      granted: [],
      grantedMinutes: GRANTED_MINUTES,
      providerErrors: [],
      free: { fromMs, toMs },
    })
  }

  #askedOf(pool: string, why: boolean): Asked {
    const key = `${why} ${pool}`
    const asked = this.#asked.get(key) ?? { lookedAtMs: 0, next: null, known: new Map() }
    this.#asked.set(key, asked)
    return asked
  }

  /** The next look at a pool: a second after the last one, with all who have asked until then. */
  #plan(asked: Asked, poolId: number, pool: string, why: boolean): Question {
    const requestIds = new Set<string>()
    const run = async () => {
      const waitMs = asked.lookedAtMs + LOOK_MS - this.#schedule.now()
      if (waitMs > 0) await this.#schedule.sleep(waitMs)
      else await this.#schedule.pause()
      asked.next = null
      const nowMs = this.#schedule.now()
      asked.lookedAtMs = nowMs
      const look = await this.#look(poolId, pool, [...requestIds], why)
      for (const [id, { untilMs }] of asked.known) if (untilMs <= nowMs) asked.known.delete(id)
      if (!isRefusal(look))
        for (const [id, one] of look.requests) asked.known.set(id, { look: one, untilMs: nowMs + LOOK_MS })
      return look
    }
    return { requestIds, answer: run() }
  }

  async #look(
    poolId: number,
    pool: string,
    requestIds: readonly string[],
    why: boolean,
  ): Promise<PoolLook | Refusal> {
    return this.#submit({
      kind: 'lookAtPool',
      pool,
      requestIds,
      why,
      granted: this.#grantedOf(poolId),
      grantedMinutes: GRANTED_MINUTES,
      providerErrors: why ? await this.#providerErrors(poolId) : [],
      free: null,
    })
  }

  /** Machines by user, of the last hour. */
  #grantedOf(poolId: number): [userId: number, machines: number][] {
    const sinceMs = this.#schedule.now() - GRANTED_MINUTES * MINUTE_MS
    const counts = new Map<number, number>()
    for (const { userId, atMs } of this.#granted.get(poolId) ?? [])
      if (atMs >= sinceMs) counts.set(userId, (counts.get(userId) ?? 0) + 1)
    return [...counts]
  }

  /** What providers said of the machines on which they have failed. */
  async #providerErrors(poolId: number): Promise<string[]> {
    const vms = await this.#reads.vmsOfPool(
      poolId,
      { state: 'failed' },
      { afterId: 0, rowsMax: PROVIDER_ERRORS_MAX },
    )
    return vms.map(({ id, failure }) => `machine ${id}: ${failure ?? 'unknown'}`)
  }
}

/** Grants that are remembered of a pool. */
const GRANTED_MAX = 20_000
