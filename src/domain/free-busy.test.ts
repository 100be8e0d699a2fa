/** What is free when: spans that meet, over which nothing changes, and that say what the timelines say. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { BookedLab } from '../../test/reservations/booked-lab.ts'
import { kindOf } from '../../test/support/lab.ts'
import { freeBusy, spare } from './free-busy.ts'

describe('what is free', () => {
  it('falls where reservations and leases take machines, and rises when they are clean again', () => {
    const lab = new BookedLab({ small: 2, large: 1 })
    lab.lease(3, 1, 10)
    lab.bookFor(2, [kindOf({ type: 'small', count: 2 })], 20, 30)
    const spans = freeBusy(lab.book, lab.at(0), lab.at(60)).map(({ fromMs, toMs, free }) => {
      return [(fromMs - lab.at(0)) / 60_000, (toMs - lab.at(0)) / 60_000, Object.fromEntries(free)]
    })
    assert.deepEqual(spans, [
      [0, 15, { small: 2, large: 0 }],
      [15, 20, { small: 2, large: 1 }],
      [20, 35, { small: 0, large: 1 }],
      [35, 60, { small: 2, large: 1 }],
    ])
  })

  it('covers the time that is asked for in spans that meet and differ, and says what the timelines say', () => {
    const booked = fc.record({
      from: fc.integer({ min: 0, max: 500 }),
      length: fc.integer({ min: 1, max: 120 }),
      count: fc.integer({ min: 1, max: 3 }),
    })
    fc.assert(
      fc.property(
        fc.array(booked, { maxLength: 12 }),
        fc.integer({ min: 0, max: 300 }),
        (bookings, begin) => {
          const lab = new BookedLab({ small: 2, large: 1 })
          lab.lease(1, 1, 17)
          for (const { from, length, count } of bookings)
            lab.bookFor(2, [kindOf({ count })], from, from + length)
          const [fromMs, toMs] = [lab.at(begin), lab.at(600)]
          const spans = freeBusy(lab.book, fromMs, toMs)
          assert.deepEqual([spans[0]?.fromMs, spans.at(-1)?.toMs], [fromMs, toMs])
          for (const [i, span] of spans.entries()) {
            const next = spans[i + 1]
            if (next !== undefined) {
              assert.equal(next.fromMs, span.toMs)
              assert.notDeepEqual(next.free, span.free)
            }
            assert.deepEqual([...span.free.keys()].sort(), ['large', 'small'])
            for (const [key, free] of span.free) {
              const { timeline } = lab.book.classes.get(key) ?? assert.fail(key)
              for (let ms = span.fromMs; ms < span.toMs; ms += 60_000)
                assert.equal(Math.max(0, timeline.at(ms)), free)
            }
          }
        },
      ),
      { numRuns: 100 },
    )
  })
})

describe('what can be spared', () => {
  it('is what no reservation needs, ever, and whatever was promised', () => {
    const lab = new BookedLab({ small: 4 })
    lab.bookFor(2, [kindOf({ count: 2 })], 20, 30)
    lab.bookFor(2, [kindOf({ count: 1 })], 500, 530)
    assert.equal(spare(lab.book, 'small', lab.nowMs), 2)
    lab.lease(1, 1, null)
    assert.equal(spare(lab.book, 'small', lab.nowMs), 1)
    lab.ask(3, { count: 4 })
    assert.equal(spare(lab.book, 'small', lab.nowMs), 1)
    assert.equal(spare(lab.book, 'large', lab.nowMs), 0)
  })
})
