/**
 * The timeline against a plain array of one number a grid step, for any history of changes; and the earliest fit against
 * trying every step.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { earliest, type Place, Timeline } from './timeline.ts'
import type { Wish } from './wish.ts'

const GRID_MS = 10
const ORIGIN_MS = 1_000
/** Some chunks and a half. */
const SLOTS = 288 * 4 + 100
const END_MS = ORIGIN_MS + SLOTS * GRID_MS

/** One number for each step, and one for all that come later. */
class Plain {
  readonly free = new Array<number>(SLOTS + 1).fill(0)

  window(fromMs: number, toMs: number | null): [from: number, to: number] {
    const from = Math.floor((fromMs - ORIGIN_MS) / GRID_MS)
    const to = toMs === null ? SLOTS + 1 : Math.ceil((toMs - ORIGIN_MS) / GRID_MS)
    return [from, toMs !== null && toMs <= fromMs ? from : to]
  }

  add(fromMs: number, toMs: number | null, count: number): void {
    const [from, to] = this.window(fromMs, toMs)
    for (let slot = from; slot < to; slot++) this.free[slot] = (this.free[slot] as number) + count
  }

  at(ms: number): number {
    return this.minFree(ms, ms)
  }

  minFree(fromMs: number, toMs: number | null): number {
    const [from, to] = this.window(fromMs, toMs)
    return Math.min(...this.free.slice(from, Math.max(from + 1, to)))
  }

  firstBelow(fromMs: number, toMs: number | null, n: number): number | null {
    const [from, to] = this.window(fromMs, toMs)
    for (let slot = from; slot < Math.max(from + 1, to); slot++)
      if ((this.free[slot] as number) < n) return Math.max(fromMs, ORIGIN_MS + slot * GRID_MS)
    return null
  }

  lastAtMostUntil(fromMs: number, toMs: number | null, n: number): number | null {
    const [from, to] = this.window(fromMs, toMs)
    const values = this.free.slice(from, Math.max(from + 1, to))
    const slot = from + values.findLastIndex((free) => free <= n)
    if (slot < from) return null
    return slot >= SLOTS ? Number.POSITIVE_INFINITY : ORIGIN_MS + (slot + 1) * GRID_MS
  }

  changes(fromMs: number, toMs: number | null): number[] {
    const [from, to] = this.window(fromMs, toMs)
    const found = []
    for (let slot = from + 1; slot < to; slot++)
      if (this.free[slot] !== this.free[slot - 1]) found.push(ORIGIN_MS + slot * GRID_MS)
    return found
  }
}

const instant = fc.oneof(
  fc.integer({ min: ORIGIN_MS, max: END_MS - 1 }),
  fc.integer({ min: 0, max: SLOTS - 1 }).map((slot) => ORIGIN_MS + slot * GRID_MS),
  // The borders of chunks.
  fc
    .integer({ min: 0, max: 4 * 3 })
    .map((i) => ORIGIN_MS + (Math.floor(i / 3) * 288 + (i % 3) - 1) * GRID_MS),
)
const from = instant.map((ms) => Math.max(ms, ORIGIN_MS))
const span = fc.record({
  fromMs: from,
  toMs: fc.oneof({ weight: 4, arbitrary: from }, { weight: 1, arbitrary: fc.constant(null) }),
})
const change = fc.record({ span, count: fc.integer({ min: -3, max: 3 }) })

describe('a timeline', () => {
  it('says the same as an array of one number a step', () => {
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 30 }),
        fc.array(span, { minLength: 12, maxLength: 12 }),
        (changes, asked) => {
          const timeline = new Timeline(GRID_MS, ORIGIN_MS)
          const plain = new Plain()
          changes.forEach(({ span: { fromMs, toMs }, count }, i) => {
            timeline.add(fromMs, toMs, count)
            plain.add(fromMs, toMs, count)
            // In between too: what it remembers has to be forgotten by the next change.
            const { fromMs: a, toMs: b } = asked[i % asked.length] as (typeof asked)[number]
            assert.equal(timeline.minFree(a, b), plain.minFree(a, b))
          })
          for (const { fromMs: a, toMs: b } of asked) {
            assert.equal(timeline.at(a), plain.at(a))
            assert.equal(timeline.minFree(a, b), plain.minFree(a, b))
            for (const n of [-1, 0, 1, 2]) {
              assert.equal(timeline.firstBelow(a, b, n), plain.firstBelow(a, b, n))
              assert.equal(timeline.lastAtMostUntil(a, b, n), plain.lastAtMostUntil(a, b, n))
            }
            assert.deepEqual(
              [...timeline.steps(a, b)],
              [a, ...plain.changes(a, b)].map((ms) => ({ fromMs: ms, free: plain.at(ms) })),
            )
            const rises = [ORIGIN_MS, ...plain.changes(ORIGIN_MS, null)].filter(
              (ms) => plain.at(ms) > (ms === ORIGIN_MS ? 0 : plain.at(ms - 1)),
            )
            assert.equal(timeline.nextRise(a), rises.find((ms) => ms >= a) ?? null)
          }
        },
      ),
      { numRuns: 300, endOnFailure: 'BERTH_MUTANT' in process.env },
    )
  })

  it('is as before when what was laid over it is taken off, also when time has passed in between', () => {
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 10 }),
        fc.array(span, { maxLength: 10 }),
        from,
        (changes, promises, nowMs) => {
          const timeline = new Timeline(GRID_MS, ORIGIN_MS)
          for (const { span: s, count } of changes) timeline.add(s.fromMs, s.toMs, count)
          const before = [...Array(SLOTS).keys()].map((slot) => timeline.at(ORIGIN_MS + slot * GRID_MS))
          for (const { fromMs, toMs } of promises) timeline.add(fromMs, toMs, -2)
          timeline.fold(nowMs)
          for (const { fromMs, toMs } of promises) timeline.add(fromMs, toMs, 2)
          for (let slot = Math.ceil((nowMs - ORIGIN_MS) / GRID_MS); slot < SLOTS; slot++)
            assert.equal(timeline.at(ORIGIN_MS + slot * GRID_MS), before[slot])
        },
      ),
      { numRuns: 100 },
    )
  })

  it('does not grow as time passes', () => {
    const timeline = new Timeline(GRID_MS, ORIGIN_MS)
    timeline.add(ORIGIN_MS, null, 5)
    for (let hour = 0; hour < 1_000; hour++) {
      const nowMs = ORIGIN_MS + hour * 1_000
      timeline.add(nowMs, nowMs + 3_000, -1)
      timeline.fold(nowMs)
      assert.ok(timeline.chunks <= 4, `${timeline.chunks} chunks`)
      assert.equal(timeline.at(nowMs), 5 - Math.min(hour + 1, 3))
    }
  })

  it('takes what is too far away for for ever, and takes it off again', () => {
    const timeline = new Timeline(300_000, 0)
    timeline.add(0, 8.64e15, -1)
    timeline.add(8.64e15 - 1, 8.64e15, -7)
    assert.equal(timeline.minFree(0, null), -1)
    assert.equal(timeline.at(8.64e15), -1)
    timeline.add(0, 8.64e15, 1)
    assert.equal(timeline.minFree(0, null), 0)
  })

  it('counts the time before its origin as the origin', () => {
    const timeline = new Timeline(300_000, 600_000)
    timeline.add(0, 900_000, -1)
    timeline.add(0, 300_000, -1)
    assert.deepEqual([timeline.at(0), timeline.at(600_000), timeline.at(900_000)], [-1, -1, 0])
  })
})

const WISH: Wish = [
  { type: 'small', labels: {}, vmId: null, count: 2 },
  { type: null, labels: {}, vmId: null, count: 1 },
]

/** Two of the class small, one more of any. */
const place: Place = (_, capacity) => {
  const small = capacity.get('small') ?? 0
  const large = capacity.get('large') ?? 0
  if (small < 2 || small + large < 3) return null
  const any = { kind: 1, classKey: large > 0 ? 'large' : 'small', count: 1 }
  return [{ kind: 0, classKey: 'small', count: 2 }, any]
}

describe('the earliest fit', () => {
  it('is the first step at which trying every step finds one', () => {
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 20 }),
        fc.array(change, { maxLength: 20 }),
        fc.record({ fromMs: from, untilMs: from }),
        fc.oneof(fc.integer({ min: 1, max: 4_000 }), fc.constant(null)),
        fc.boolean(),
        (small, large, { fromMs, untilMs }, lengthMs, isAlone) => {
          const timelines = new Map(
            (
              [
                ['small', small],
                ['large', large],
              ] as const
            )
              .slice(0, isAlone ? 1 : 2)
              .map(([key, changes]) => {
                const timeline = new Timeline(GRID_MS, ORIGIN_MS)
                timeline.add(ORIGIN_MS, null, 1)
                for (const { span: s, count } of changes) timeline.add(s.fromMs, s.toMs, count)
                return [key, timeline] as const
              }),
          )
          const fits = (atMs: number) => {
            const toMs = lengthMs === null ? null : atMs + lengthMs
            return place(
              WISH,
              new Map([...timelines].map(([key, t]) => [key, Math.max(0, t.minFree(atMs, toMs))])),
            )
          }
          const steps = [fromMs]
          for (let ms = ORIGIN_MS; ms <= untilMs; ms += GRID_MS) if (ms > fromMs) steps.push(ms)
          const expected = steps.find((ms) => fits(ms) !== null)
          const found = earliest(timelines, WISH, place, lengthMs, fromMs, untilMs)
          assert.equal(found?.atMs ?? null, expected ?? null)
          if (expected !== undefined) assert.deepEqual(found?.placement, fits(expected))
        },
      ),
      { numRuns: 800, endOnFailure: 'BERTH_MUTANT' in process.env },
    )
  })
})
