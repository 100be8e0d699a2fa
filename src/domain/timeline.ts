/**
 * How many machines of one class may still be promised at any instant: an integer step function on the pool's grid. Whatever
 * takes a machine (a lease, cleaning, a reservation, a promise) takes it off from one instant until another, and what fits is
 * one question: the lowest value in a window. It is made in memory from the rows of a pool, and never stored.
 *
 * Changes are rounded outwards: from down to the grid, to up. So whoever takes and gives back with the same instants leaves it
 * as it was, and whatever is laid over it (promises) is taken off again in the same way. Deltas lie in chunks that are made when
 * needed, each with its sum and its lowest prefix: a change or a question looks at the inside of two chunks and at the sums of the others.
 */
import type { ClassKey } from './vm-class.ts'
import { countWished, type Placement, type Wish } from './wish.ts'

/** How far ahead machines are booked. */
export const HORIZON_MS = 90 * 86_400_000

/** What is later than this after the origin counts as for ever. */
const SPAN_MS = 10 * 365 * 86_400_000

/** Grid steps of a chunk: a day of five-minute steps. */
const CHUNK_SLOTS = 288

interface Chunk {
  /** How much more is free from each grid step on than in the step before it. */
  readonly deltas: Int32Array
  sum: number
  /** The lowest value in it, seen from the value before it; null: to be found again. */
  low: number | null
}

/** From when on how many are free. */
export interface Step {
  readonly fromMs: number
  readonly free: number
}

/** How many machines of a class are free to be promised. Instants before the kept past count as its beginning. */
export class Timeline {
  readonly #gridMs: number
  readonly #originMs: number
  readonly #slotsMax: number
  /** The value before the first kept chunk. */
  #before = 0
  /** The number of the first kept chunk. */
  #first = 0
  /** Kept chunks in their order; null: nothing changes in it. */
  #chunks: (Chunk | null)[] = []

  /** Free: none, ever. Grid steps are counted from `originMs`. */
  constructor(gridMs: number, originMs: number) {
    this.#gridMs = gridMs
    this.#originMs = originMs
    this.#slotsMax = Math.floor(SPAN_MS / gridMs)
  }

  /** `count` more are free over [fromMs, toMs), fewer when it is negative; null: for ever. */
  add(fromMs: number, toMs: number | null, count: number): void {
    const from = this.#slot(fromMs)
    const to = this.#slotsEnd(fromMs, toMs)
    if (from >= to || count === 0) return
    this.#change(from, count)
    this.#change(to, -count)
  }

  /** How many are free at an instant. */
  at(ms: number): number {
    const slot = this.#kept(this.#slot(ms))
    const number = Math.floor(slot / CHUNK_SLOTS)
    let value = this.#valueBefore(number)
    const chunk = this.#chunks[number - this.#first]
    if (chunk) for (let i = 0; i <= slot % CHUNK_SLOTS; i++) value += chunk.deltas[i] as number
    return value
  }

  /** The lowest value over [fromMs, toMs); null: for ever. An empty window counts as its one instant. */
  minFree(fromMs: number, toMs: number | null): number {
    const from = this.#kept(this.#slot(fromMs))
    const to = Math.max(from + 1, this.#slotsEnd(fromMs, toMs))
    const last = Math.floor((to - 1) / CHUNK_SLOTS)
    let number = Math.floor(from / CHUNK_SLOTS)
    let value = this.#valueBefore(number)
    let lowest = Number.POSITIVE_INFINITY
    for (; number <= last; number++) {
      const index = number - this.#first
      if (index >= this.#chunks.length) return Math.min(lowest, value)
      const chunk = this.#chunks[index]
      if (!chunk) {
        if (value < lowest) lowest = value
        continue
      }
      const begin = number * CHUNK_SLOTS
      if (begin >= from && begin + CHUNK_SLOTS <= to) {
        lowest = Math.min(lowest, value + lowOf(chunk))
        value += chunk.sum
        continue
      }
      const end = Math.min(CHUNK_SLOTS, to - begin)
      for (let i = 0; i < end; i++) {
        value += chunk.deltas[i] as number
        if (begin + i >= from && value < lowest) lowest = value
      }
    }
    return lowest
  }

  /** The first instant of [fromMs, toMs) at which fewer than `n` are free; null: there is none. */
  firstBelow(fromMs: number, toMs: number | null, n: number): number | null {
    const from = this.#kept(this.#slot(fromMs))
    const to = Math.max(from + 1, this.#slotsEnd(fromMs, toMs))
    let number = Math.floor(from / CHUNK_SLOTS)
    let value = this.#valueBefore(number)
    for (; number * CHUNK_SLOTS < to; number++) {
      const begin = number * CHUNK_SLOTS
      const index = number - this.#first
      const chunk = this.#chunks[index]
      if (!chunk) {
        if (value < n) return Math.max(fromMs, this.#ms(Math.max(begin, from)))
        if (index >= this.#chunks.length) return null
        continue
      }
      if (begin >= from && value + lowOf(chunk) >= n) {
        value += chunk.sum
        continue
      }
      for (let i = 0; i < CHUNK_SLOTS && begin + i < to; i++) {
        value += chunk.deltas[i] as number
        if (begin + i >= from && value < n) return Math.max(fromMs, this.#ms(begin + i))
      }
    }
    return null
  }

  /** When the last step of [fromMs, toMs) is over in which at most `n` are free: infinite when that goes on for ever; null: there is none. */
  lastAtMostUntil(fromMs: number, toMs: number | null, n: number): number | null {
    const from = this.#kept(this.#slot(fromMs))
    const to = Math.max(from + 1, this.#slotsEnd(fromMs, toMs))
    const last = Math.floor((to - 1) / CHUNK_SLOTS)
    // From the back: the value behind a chunk is known, and taking its deltas off leads to the value before it.
    let number = Math.min(last, this.#first + this.#chunks.length - 1)
    let value = this.#valueBefore(number + 1)
    if (last > number && value <= n) return toMs === null ? Number.POSITIVE_INFINITY : this.#ms(to)
    for (; number >= this.#first && (number + 1) * CHUNK_SLOTS > from; number--) {
      const begin = number * CHUNK_SLOTS
      const chunk = this.#chunks[number - this.#first]
      if (!chunk) {
        if (value <= n) return this.#ms(Math.min(to, begin + CHUNK_SLOTS))
        continue
      }
      const before = value - chunk.sum
      if (begin + CHUNK_SLOTS <= to && before + lowOf(chunk) > n) {
        value = before
        continue
      }
      for (let i = CHUNK_SLOTS - 1; i >= 0 && begin + i >= from; i--) {
        if (begin + i < to && value <= n) return this.#ms(begin + i + 1)
        value -= chunk.deltas[i] as number
      }
    }
    return null
  }

  /** The first instant at or after `fromMs` at which more become free; null: there is none. */
  nextRise(fromMs: number): number | null {
    const from = this.#kept(Math.ceil((fromMs - this.#originMs) / this.#gridMs))
    for (let number = Math.floor(from / CHUNK_SLOTS); number - this.#first < this.#chunks.length; number++) {
      const chunk = this.#chunks[number - this.#first]
      if (!chunk) continue
      const begin = number * CHUNK_SLOTS
      for (let i = Math.max(0, from - begin); i < CHUNK_SLOTS; i++)
        if ((chunk.deltas[i] as number) > 0) return this.#ms(begin + i)
    }
    return null
  }

  /** The steps of the function over [fromMs, toMs): from when on how many are free. The first begins at `fromMs`. */
  *steps(fromMs: number, toMs: number | null): Generator<Step> {
    const from = this.#kept(this.#slot(fromMs))
    const to = Math.max(from + 1, this.#slotsEnd(fromMs, toMs))
    let number = Math.floor(from / CHUNK_SLOTS)
    let value = this.#valueBefore(number)
    let begun = false
    for (; number * CHUNK_SLOTS < to && number - this.#first < this.#chunks.length; number++) {
      const chunk = this.#chunks[number - this.#first]
      if (!chunk) continue
      const begin = number * CHUNK_SLOTS
      for (let i = 0; i < CHUNK_SLOTS && begin + i < to; i++) {
        const delta = chunk.deltas[i] as number
        if (!begun && begin + i > from) {
          yield { fromMs, free: value }
          begun = true
        }
        value += delta
        if (begun && delta !== 0) yield { fromMs: this.#ms(begin + i), free: value }
      }
    }
    if (!begun) yield { fromMs, free: value }
  }

  /** The instants after `fromMs` and before `toMs` (null: ever) at which the value changes. */
  *changes(fromMs: number, toMs: number | null): Generator<number> {
    for (const step of this.steps(fromMs, toMs)) if (step.fromMs > fromMs) yield step.fromMs
  }

  /** Forgets what changed before the chunk that `nowMs` is in, so that it does not grow with time. Later values stay. */
  fold(nowMs: number): void {
    const first = Math.floor(this.#slot(nowMs) / CHUNK_SLOTS)
    if (first <= this.#first) return
    for (const chunk of this.#chunks.splice(0, first - this.#first)) this.#before += chunk?.sum ?? 0
    this.#first = first
  }

  /** How many chunks it keeps in memory. */
  get chunks(): number {
    return this.#chunks.length
  }

  #change(slot: number, delta: number): void {
    if (slot >= this.#slotsMax) return
    const index = Math.floor(slot / CHUNK_SLOTS) - this.#first
    if (index < 0) {
      this.#before += delta
      return
    }
    while (this.#chunks.length <= index) this.#chunks.push(null)
    let chunk = this.#chunks[index]
    if (!chunk) {
      chunk = { deltas: new Int32Array(CHUNK_SLOTS), sum: 0, low: 0 }
      this.#chunks[index] = chunk
    }
    const at = slot % CHUNK_SLOTS
    chunk.deltas[at] = (chunk.deltas[at] as number) + delta
    chunk.sum += delta
    chunk.low = null
  }

  /** The value before chunk `number`. */
  #valueBefore(number: number): number {
    let value = this.#before
    const end = Math.min(number - this.#first, this.#chunks.length)
    for (let i = 0; i < end; i++) {
      const chunk = this.#chunks[i]
      if (chunk) value += chunk.sum
    }
    return value
  }

  #slot(ms: number): number {
    return Math.min(this.#slotsMax, Math.max(0, Math.floor((ms - this.#originMs) / this.#gridMs)))
  }

  /** The step behind the last one of a window; an empty window has no step. */
  #slotsEnd(fromMs: number, toMs: number | null): number {
    if (toMs === null) return this.#slotsMax
    if (toMs <= fromMs) return this.#slot(fromMs)
    return Math.min(this.#slotsMax, Math.max(0, Math.ceil((toMs - this.#originMs) / this.#gridMs)))
  }

  #kept(slot: number): number {
    return Math.max(slot, this.#first * CHUNK_SLOTS)
  }

  #ms(slot: number): number {
    return this.#originMs + slot * this.#gridMs
  }
}

function lowOf(chunk: Chunk): number {
  if (chunk.low !== null) return chunk.low
  const { deltas } = chunk
  let value = deltas[0] as number
  let low = value
  for (let i = 1; i < CHUNK_SLOTS; i++) {
    value += deltas[i] as number
    if (value < low) low = value
  }
  chunk.low = low
  return low
}

/** Finds machines for a wish among so many of each class (wish.ts). */
export type Place = (wish: Wish, capacity: ReadonlyMap<ClassKey, number>) => Placement | null

/** When a wish fits, and on which classes. */
export interface Fit {
  readonly atMs: number
  readonly placement: Placement
}

/**
 * The first instant t from `fromMs` to `untilMs` at which `place` finds the wish in what is free over all of [t, t + lengthMs);
 * null as length: for ever. Give it only timelines of classes that the wish may use: each costs a question.
 */
export function earliest(
  timelines: ReadonlyMap<ClassKey, Timeline>,
  wish: Wish,
  place: Place,
  lengthMs: number | null,
  fromMs: number,
  untilMs: number,
): Fit | null {
  const capacity = new Map<ClassKey, number>()
  // Of one class all machines have to come; of several, any might bring what is missing.
  const need = timelines.size === 1 ? countWished(wish) : null
  let atMs = fromMs
  for (;;) {
    const toMs = lengthMs === null ? null : atMs + lengthMs
    // Before what keeps a class low is over, it has no more for any later window than it has for this one.
    let nextMs = Number.POSITIVE_INFINITY
    for (const [key, timeline] of timelines) {
      const free = timeline.minFree(atMs, toMs)
      capacity.set(key, Math.max(0, free))
      const lowUntilMs = timeline.lastAtMostUntil(atMs, toMs, need === null ? free : need - 1)
      const riseMs = lowUntilMs === null ? null : timeline.nextRise(lowUntilMs)
      if (riseMs !== null && riseMs < nextMs) nextMs = riseMs
    }
    const placement = place(wish, capacity)
    if (placement !== null) return { atMs, placement }
    if (nextMs > untilMs) return null
    atMs = nextMs
  }
}
