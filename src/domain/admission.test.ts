/**
 * Which reservations are confirmed: worked examples of the allocator's design (one class, a margin of five minutes and steps
 * of one), windows, quotas, soft leases, machines by name and series; and that what is offered is possible.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { BookedLab } from '../../test/reservations/booked-lab.ts'
import { kindOf, LIMITS, START_MS } from '../../test/support/lab.ts'
import { type Admitted, admitSeries } from './admission.ts'
import { NO_QUOTA } from './quota.ts'
import { isRefusal, type Refusal } from './refusal.ts'

const [A, B, Z] = [1, 2, 26] as const

const MINUTE_MS = 60_000

function iso(minute: number): string {
  return new Date(START_MS + minute * MINUTE_MS).toISOString()
}

function assertNo(answer: unknown, code: string, details?: object): void {
  assert.ok(isRefusal(answer), `not refused: ${JSON.stringify(answer)}`)
  assert.equal(answer.code, code)
  if (details !== undefined) assert.deepEqual(answer.details, details)
}

function assertPinned(answer: Admitted | Refusal, pinned: object): void {
  assert.ok(!isRefusal(answer), isRefusal(answer) ? answer.message : '')
  assert.deepEqual(answer.pinned, pinned)
}

describe('admission', () => {
  it('counts leases that may still run, and offers the earliest later start (example 7)', () => {
    const lab = new BookedLab({ small: 3 })
    lab.lease(1, A, 100)
    lab.lease(2, A, 100)
    assertNo(lab.admit(B, 2, 60, 90), 'reservation_full', {
      countMax: 1,
      earliestFrom: iso(105),
      otherTypes: [],
    })
    assertPinned(lab.admit(B, 2, 105, 135), [['small', 2]])
    assertNo(lab.admit(B, 2, 104, 134), 'reservation_full')
    assertPinned(lab.admit(B, 1, 60, 90), [['small', 1]])
  })

  it('has nothing to offer where a lease has no end (example 10)', () => {
    const lab = new BookedLab({ small: 2 })
    lab.lease(1, A, null)
    assertNo(lab.admit(B, 2, 120, 180), 'reservation_full', {
      countMax: 1,
      earliestFrom: null,
      otherTypes: [],
    })
    assert.ok(!isRefusal(lab.bookFor(B, [kindOf()], 120, 180)))
    assertNo(lab.ask(A, { minutes: null, waits: false }), 'lease_reserved', { offerSeconds: 115 * 60 })
  })

  it('counts the cleaning behind a window', () => {
    const lab = new BookedLab({ small: 1 })
    lab.bookFor(A, [kindOf()], 60, 90)
    assertNo(lab.admit(B, 1, 94, 100), 'reservation_full', {
      countMax: 0,
      earliestFrom: iso(95),
      otherTypes: [],
    })
    assertPinned(lab.admit(B, 1, 95, 100), [['small', 1]])
    assertNo(lab.admit(B, 1, 30, 56), 'reservation_full')
    assertPinned(lab.admit(B, 1, 30, 55), [['small', 1]])
  })

  it('does not delay a request that was promised machines', () => {
    const lab = new BookedLab({ small: 2 })
    lab.lease(1, Z, 30)
    lab.ask(A, { count: 2, minutes: 60 })
    assertNo(lab.admit(B, 1, 40, 50), 'reservation_full')
    assertPinned(lab.admit(B, 1, 20, 30), [['small', 1]])
  })

  it('offers other types that are free', () => {
    const lab = new BookedLab({ small: 1, medium: 2, large: 1, 'large,os=debian': 1 })
    lab.lease(1, Z, null)
    const no = lab.admit(A, 2, 60, 90, 'small')
    assertNo(no, 'wish_impossible')
    lab.lease(2, Z, null)
    assertNo(lab.admit(A, 1, 60, 90, 'small'), 'reservation_full', {
      countMax: 0,
      earliestFrom: null,
      otherTypes: ['large', 'medium'],
    })
  })

  it('finds places for kinds that overlap', () => {
    const lab = new BookedLab({ 'small,os=debian': 1, 'small,os=ubuntu': 1 })
    const wish = [kindOf(), kindOf({ labels: { os: 'debian' } })]
    const reservation = lab.bookFor(A, wish, 60, 90)
    assert.ok(!isRefusal(reservation))
    assert.deepEqual(Object.fromEntries(reservation.pinned), { 'small,os=debian': 1, 'small,os=ubuntu': 1 })
  })

  it('counts only ready machines where the next cleaning may not be over', () => {
    const lab = new BookedLab({ small: 2 })
    lab.lease(1, Z, 1)
    lab.advanceTo(2)
    // Machine 1 is expected back at 6.
    assertNo(lab.admit(A, 2, 6, 30), 'reservation_full', {
      countMax: 1,
      earliestFrom: iso(7),
      otherTypes: [],
    })
    assertPinned(lab.admit(A, 2, 7, 30), [['small', 2]])
    assertPinned(lab.admit(A, 1, 6, 30), [['small', 1]])
    lab.bookFor(B, [kindOf()], 10, 20)
    assertNo(lab.admit(A, 2, 6, 30), 'reservation_full')
    assertNo(lab.admit(A, 1, 6, 30), 'reservation_full')
  })

  it('does not count machines that a shrink has yet to take', () => {
    const lab = new BookedLab({ small: 3 })
    lab.setPool({ target: 2 })
    assertNo(lab.admit(A, 3, 60, 90), 'reservation_full', { countMax: 2, earliestFrom: null, otherTypes: [] })
    assertPinned(lab.admit(A, 2, 60, 90), [['small', 2]])
    lab.lease(2, Z, null)
    assertNo(lab.bookFor(A, [kindOf({ vmId: 1 }), kindOf()], 60, 90), 'reservation_full')
    assert.ok(!isRefusal(lab.bookFor(A, [kindOf({ vmId: 1 })], 60, 90)))
  })

  it('leaves the book as it was', () => {
    const lab = new BookedLab({ small: 3, large: 1 })
    lab.lease(1, A, 100)
    lab.lease(4, A, null, 10)
    const before = JSON.stringify([...(lab.book.classes.get('small')?.timeline.steps(START_MS, null) ?? [])])
    lab.admit(B, 2, 60, 90)
    lab.admit(B, 5, 60, 90)
    lab.admit(B, 1, 60, 90, 'large')
    lab.bookFor(B, [kindOf({ vmId: 1, count: 9 })], 200, 300)
    assert.equal(
      JSON.stringify([...(lab.book.classes.get('small')?.timeline.steps(START_MS, null) ?? [])]),
      before,
    )
    assert.equal(lab.book.classes.get('large')?.timeline.at(START_MS), 0)
  })

  it('offers a start that is admitted, and a number that is', () => {
    const lease = fc.record({ end: fc.option(fc.integer({ min: 1, max: 400 })) })
    const booked = fc.record({
      from: fc.integer({ min: 0, max: 300 }),
      length: fc.integer({ min: 1, max: 120 }),
      count: fc.integer({ min: 1, max: 3 }),
    })
    fc.assert(
      fc.property(
        fc.array(lease, { maxLength: 4 }),
        fc.array(booked, { maxLength: 8 }),
        booked,
        (leases, bookings, asked) => {
          const lab = new BookedLab({ small: 4, large: 2 })
          for (const [i, { end }] of leases.entries()) lab.lease(i + 1, Z, end)
          for (const { from, length, count } of bookings)
            lab.bookFor(A, [kindOf({ count })], from, from + length)
          const count = asked.count + 1
          const no = lab.admit(B, count, asked.from, asked.from + asked.length, 'small')
          if (!isRefusal(no)) return
          const { countMax, earliestFrom, otherTypes } = no.details as {
            countMax: number
            earliestFrom: string | null
            otherTypes: string[]
          }
          const admits = (n: number, fromMinute: number, type: string) =>
            !isRefusal(lab.admit(B, n, fromMinute, fromMinute + asked.length, type))
          if (countMax > 0) assert.ok(admits(countMax, asked.from, 'small'))
          assert.ok(countMax < count && !admits(countMax + 1, asked.from, 'small'))
          for (const type of otherTypes) assert.ok(admits(count, asked.from, type))
          const offered = earliestFrom === null ? null : (Date.parse(earliestFrom) - START_MS) / MINUTE_MS
          // Within the next cleaning time, a start may be possible that is not looked for.
          for (let minute = asked.from; minute < (offered ?? 700); minute++)
            assert.ok(!admits(count, minute, 'small') || minute < 5)
          if (offered !== null) assert.ok(admits(count, offered, 'small'))
        },
      ),
      { numRuns: 200, endOnFailure: 'BERTH_MUTANT' in process.env },
    )
  })
})

describe('a window', () => {
  const DAY = 24 * 60
  for (const [what, from, to, code, policy] of [
    ['without length', 60, 60, 'window_empty', {}],
    ['that ends before it begins', 60, 59, 'window_empty', {}],
    ['in the past', -2, 60, 'window_past', {}],
    ['behind the horizon', 60, 90 * DAY + 1, 'window_far', {}],
    ['longer than the longest lease', 60, 122, 'window_long', { leaseSecondsMax: 3_600 }],
  ] as const)
    it(`${what} is refused`, () => assertNo(new BookedLab({ small: 1 }, policy).admit(A, 1, from, to), code))

  for (const [what, from, to, policy] of [
    ['that begins a step of the grid ago', -1, 60, {}],
    ['up to the horizon', 90 * DAY - 60, 90 * DAY, {}],
    ['as long as the longest lease', 60, 120, { leaseSecondsMax: 3_600 }],
  ] as const)
    it(`${what} is possible`, () =>
      assertPinned(new BookedLab({ small: 1 }, policy).admit(A, 1, from, to), [['small', 1]]))
})

describe('a quota', () => {
  const quota = { ...NO_QUOTA, machinesMax: 3 }

  it('refuses what is more than all of it', () => {
    assertNo(new BookedLab({ small: 9 }, { quota }).admit(A, 4, 60, 90), 'quota_never', { count: 4 })
    const vcpu = { ...NO_QUOTA, vcpuMax: 8 }
    assertNo(new BookedLab({ large: 9 }, { quota: vcpu }).admit(A, 2, 60, 90), 'quota_never', { count: 2 })
    const hours = { ...NO_QUOTA, hoursWeekMax: 2 }
    assertNo(new BookedLab({ small: 9 }, { quota: hours }).admit(A, 1, 60, 181), 'quota_never')
    assertPinned(new BookedLab({ small: 9 }, { quota: hours }).admit(A, 1, 60, 180), [['small', 1]])
  })

  it('counts own reservations in the window, at each instant', () => {
    const lab = new BookedLab({ small: 9 }, { quota })
    lab.bookFor(A, [kindOf({ count: 2 })], 60, 90)
    lab.bookFor(A, [kindOf({ count: 2 })], 90, 120)
    lab.bookFor(B, [kindOf({ count: 2 })], 60, 90)
    assertNo(lab.admit(A, 2, 30, 61), 'quota_full', { count: 2 })
    assertPinned(lab.admit(A, 1, 30, 180), [['small', 1]])
    assertPinned(lab.admit(A, 2, 30, 60), [['small', 2]])
    assertNo(lab.admit(A, 2, 119, 180), 'quota_full', { count: 2 })
    assertPinned(lab.admit(A, 3, 120, 180), [['small', 3]])
  })

  it('counts own leases that may still run then', () => {
    const lab = new BookedLab({ small: 9 }, { quota })
    lab.lease(1, A, 60)
    lab.lease(2, A, null)
    assertNo(lab.admit(A, 2, 59, 90), 'quota_full')
    assertPinned(lab.admit(A, 2, 60, 90), [['small', 2]])
    assertNo(lab.admit(A, 3, 60, 90), 'quota_full')
  })
})

describe('a soft lease', () => {
  /** Three machines, all held by soft leases with a grace of 10 minutes: the first since minute 0, the third since 2. */
  function soft(): BookedLab {
    const lab = new BookedLab({ small: 3 })
    lab.lease(1, A, null, 10)
    lab.advanceTo(1)
    lab.lease(2, A, null, 10)
    lab.advanceTo(2)
    lab.lease(3, A, null, 10)
    return lab
  }

  it('ends for a reservation, the longest held first, in time for cleaning', () => {
    const answer = soft().admit(B, 2, 60, 90)
    assertPinned(answer, [['small', 2]])
    assert.deepEqual((answer as Admitted).notices, [
      { vmId: 1, endsAtMs: START_MS + 55 * MINUTE_MS },
      { vmId: 2, endsAtMs: START_MS + 55 * MINUTE_MS },
    ])
  })

  it('is left alone where others are free', () => {
    const lab = new BookedLab({ small: 2 })
    lab.lease(1, A, null, 10)
    const answer = lab.admit(B, 1, 60, 90)
    assertPinned(answer, [['small', 1]])
    assert.deepEqual((answer as Admitted).notices, [])
  })

  it('has its grace', () => {
    assertNo(soft().admit(B, 1, 16, 90), 'reservation_full')
    assertPinned(soft().admit(B, 1, 17, 90), [['small', 1]])
  })

  it('is not ended when that is not enough', () => {
    const lab = soft()
    lab.lease(2, A, null)
    assertNo(lab.admit(B, 3, 60, 90), 'reservation_full')
    assert.equal(lab.book.classes.get('small')?.timeline.at(lab.at(60)), 0)
  })

  it('is ended only if that is of use, and no more of them than it takes', () => {
    const lab = new BookedLab({ small: 1, large: 1 })
    lab.lease(1, A, null, 10)
    lab.advanceTo(1)
    lab.lease(2, A, null, 10)
    const large = lab.admit(B, 1, 60, 90, 'large') as Admitted
    assert.deepEqual(
      large.notices.map(({ vmId }) => vmId),
      [2],
    )
    const any = lab.admit(B, 1, 60, 90) as Admitted
    assert.deepEqual(
      any.notices.map(({ vmId }) => vmId),
      [1],
    )
  })
})

describe('a machine that is booked by name', () => {
  it('is moved into a class of its own', () => {
    const lab = new BookedLab({ small: 2 })
    const booking = lab.booking(A, [kindOf({ vmId: 1 })], 60, 90)
    const facts = { named: lab.named, vcpuOf: LIMITS.vcpuOf }
    const answer = admitSeries(lab.book, [booking], false, lab.nowMs, facts)
    assert.ok(!isRefusal(answer))
    assert.deepEqual(answer.admitted[0]?.pinned, [['small#1', 1]])
    assert.deepEqual(answer.admitted[0]?.moves, [{ vmId: 1, classKey: 'small#1' }])
  })

  it('is refused when the others of its class cannot do without it', () => {
    // Any machine over [5, 15), and this one over [10, 20): by count both fit, by machine they may not.
    const lab = new BookedLab({ small: 2 })
    lab.lease(1, Z, null)
    lab.bookFor(A, [kindOf()], 5, 15)
    assertNo(lab.bookFor(B, [kindOf({ vmId: 2 })], 10, 20), 'vm_entangled', { vmId: 2, count: 0 })
    assertNo(lab.bookFor(B, [kindOf({ vmId: 2 })], 30, 40), 'vm_entangled', { vmId: 2, count: 1 })
  })

  it('counts from when it comes back', () => {
    const lab = new BookedLab({ small: 2 })
    lab.lease(1, Z, 55)
    assertNo(lab.bookFor(A, [kindOf({ vmId: 1 })], 59, 90), 'reservation_full', {
      countMax: 0,
      earliestFrom: iso(60),
      otherTypes: [],
    })
    assert.ok(!isRefusal(lab.bookFor(A, [kindOf({ vmId: 1 })], 60, 90)))
    lab.lease(2, Z, null)
    assertNo(lab.bookFor(A, [kindOf({ vmId: 2 })], 60, 90), 'reservation_full')
  })

  it('is had from a soft lease', () => {
    const lab = new BookedLab({ small: 2 })
    lab.lease(1, B, null, 10)
    const booking = lab.booking(A, [kindOf({ vmId: 1 })], 60, 90)
    const facts = { named: lab.named, vcpuOf: LIMITS.vcpuOf }
    const answer = admitSeries(lab.book, [booking], false, lab.nowMs, facts)
    assert.ok(!isRefusal(answer))
    assert.deepEqual(answer.admitted[0]?.pinned, [['small#1', 1]])
    assert.deepEqual(answer.admitted[0]?.notices, [{ vmId: 1, endsAtMs: lab.at(55) }])
  })

  it('is impossible when there is no such machine', () => {
    const lab = new BookedLab({ small: 2 })
    assertNo(lab.bookFor(A, [kindOf({ vmId: 77 })], 60, 90), 'wish_impossible')
    assertNo(lab.bookFor(A, [kindOf({ vmId: 1, type: 'large' })], 60, 90), 'wish_impossible')
    assertNo(lab.bookFor(A, [kindOf({ vmId: 1, count: 2 })], 60, 90), 'wish_impossible')
  })

  it('leaves its class to others in the same wish', () => {
    const lab = new BookedLab({ small: 2 })
    const reservation = lab.bookFor(A, [kindOf({ vmId: 1 }), kindOf()], 60, 90)
    assert.ok(!isRefusal(reservation))
    assert.deepEqual(Object.fromEntries(reservation.pinned), { small: 1, 'small#1': 1 })
    assertNo(lab.bookFor(A, [kindOf({ vmId: 1 }), kindOf({ count: 2 })], 60, 90), 'wish_impossible')
  })
})

describe('a series', () => {
  function series(
    lab: BookedLab,
    wish: Parameters<BookedLab['booking']>[1],
    froms: readonly number[],
    partial = false,
  ) {
    const bookings = froms.map((from) => lab.booking(A, wish, from, from + 30))
    return admitSeries(lab.book, bookings, partial, lab.nowMs, { named: lab.named, vcpuOf: LIMITS.vcpuOf })
  }

  /** Two machines; both are booked over [120, 150). */
  function busy(): BookedLab {
    const lab = new BookedLab({ small: 2 })
    lab.bookFor(B, [kindOf({ count: 2 })], 120, 150)
    return lab
  }

  it('is refused with the windows that do not fit', () => {
    const no = series(busy(), [kindOf()], [60, 120, 180, 240])
    assertNo(no, 'series_full')
    const { failed, count, windows } = (no as Refusal).details as {
      failed: number
      count: number
      windows: { from: string; to: string; code: string }[]
    }
    assert.deepEqual([failed, count], [1, 4])
    assert.deepEqual(
      windows.map(({ from, to, code }) => [from, to, code]),
      [[iso(120), iso(150), 'reservation_full']],
    )
  })

  it('takes the rest when that is wanted', () => {
    const answer = series(busy(), [kindOf()], [60, 120, 180], true)
    assert.ok(!isRefusal(answer))
    assert.deepEqual(
      answer.admitted.map(({ booking }) => (booking.fromMs - START_MS) / MINUTE_MS),
      [60, 180],
    )
    assert.deepEqual(
      answer.failed.map(({ refusal }) => refusal.code),
      ['reservation_full'],
    )
  })

  it('is refused when nothing of it fits', () => {
    assertNo(series(busy(), [kindOf()], [120], true), 'series_full')
  })

  it('counts its own windows', () => {
    const lab = new BookedLab({ small: 2 })
    assert.ok(!isRefusal(series(lab, [kindOf()], [60, 70])))
    assertNo(series(lab, [kindOf()], [60, 70, 80]), 'series_full')
    assertNo(series(lab, [kindOf({ vmId: 1 })], [60, 70]), 'series_full')
    const quota = { ...NO_QUOTA, machinesMax: 1 }
    assertNo(series(new BookedLab({ small: 2 }, { quota }), [kindOf()], [60, 70]), 'series_full')
    assertNo(series(lab, [kindOf()], [3, 4, 5]), 'series_full')
  })

  it('moves a machine once', () => {
    const answer = series(new BookedLab({ small: 2 }), [kindOf({ vmId: 1 })], [60, 120])
    assert.ok(!isRefusal(answer))
    assert.deepEqual(
      answer.admitted.map(({ moves }) => moves.length),
      [1, 0],
    )
  })

  it('ends a soft lease once', () => {
    const lab = new BookedLab({ small: 1 })
    lab.lease(1, B, null, 10)
    const answer = series(lab, [kindOf()], [60, 120])
    assert.ok(!isRefusal(answer))
    assert.deepEqual(
      answer.admitted.map(({ notices }) => notices.length),
      [1, 0],
    )
  })
})
