/**
 * Which reservations are at risk when machines fail: a worked example of the allocator's design, and the rules one by one. That an
 * untold reservation starts complete whatever happens is shown by test/reservations.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BookedLab } from '../../test/reservations/booked-lab.ts'
import { kindOf } from '../../test/support/lab.ts'
import { isRefusal } from './refusal.ts'
import type { Reservation } from './reservation.ts'
import type { Wish } from './wish.ts'

const [A, B] = [1, 2] as const

function booked(lab: BookedLab, wish: Wish, from: number, to: number): Reservation {
  const reservation = lab.bookFor(A, wish, from, to)
  assert.ok(!isRefusal(reservation), isRefusal(reservation) ? reservation.message : '')
  return reservation
}

function any(count: number): Wish {
  return [kindOf({ count })]
}

describe('healing', () => {
  it('tells the latest confirmed, and tells it again when it is safe (example 8)', () => {
    const lab = new BookedLab({ small: 3 })
    booked(lab, any(2), 120, 180)
    booked(lab, any(1), 150, 200)
    lab.fail(3)
    assert.deepEqual(lab.told, ['b2 at risk: 1'])
    assert.deepEqual([lab.reservations.get('b2')?.atRisk, lab.reservations.get('b2')?.missing], [true, 1])
    lab.ready(3)
    assert.deepEqual(lab.told, ['b2 at risk: 1', 'b2 safe'])
    assert.equal(lab.reservations.get('b2')?.atRisk, false)
  })

  it('says nothing when nothing is short', () => {
    const lab = new BookedLab({ small: 3 })
    booked(lab, any(2), 120, 180)
    lab.fail(3)
    assert.deepEqual(lab.heal(), { atRisk: [], safe: [], repinned: [] })
    assert.deepEqual(lab.told, [])
  })

  it('says the same thing once', () => {
    const lab = new BookedLab({ small: 3 })
    booked(lab, any(3), 120, 180)
    lab.fail(3)
    lab.heal()
    assert.deepEqual(lab.told, ['b1 at risk: 1'])
    lab.fail(2)
    assert.deepEqual(lab.told, ['b1 at risk: 1', 'b1 at risk: 2'])
    lab.ready(3)
    assert.deepEqual(lab.told.slice(2), ['b1 at risk: 1'])
  })

  it('leaves those in peace that are not in the way', () => {
    const lab = new BookedLab({ small: 2 })
    booked(lab, any(2), 120, 180)
    booked(lab, any(1), 300, 330)
    booked(lab, any(2), 400, 430)
    lab.fail(2)
    assert.deepEqual(lab.told.toSorted(), ['b1 at risk: 1', 'b3 at risk: 1'])
  })

  it('brings back those that turn out to fit, the oldest first', () => {
    // At 100 the third has to go, at 200 the second: and without the second there is room for the third.
    const lab = new BookedLab({ small: 2 })
    booked(lab, any(1), 200, 250)
    booked(lab, any(1), 100, 250)
    booked(lab, any(1), 100, 150)
    lab.fail(2)
    assert.deepEqual(lab.told, ['b2 at risk: 1'])
  })

  it('moves what it can to other classes, which is nobody’s concern', () => {
    const lab = new BookedLab({ 'small,os=debian': 2, 'small,os=ubuntu': 1 })
    const { pinned } = booked(lab, any(1), 120, 180)
    assert.deepEqual(pinned, [['small,os=debian', 1]])
    booked(lab, [kindOf({ labels: { os: 'debian' } })], 120, 180)
    lab.fail(1)
    assert.deepEqual(lab.told, ['b2 at risk: 1'])
    lab.ready(1)
    assert.deepEqual(lab.told, ['b2 at risk: 1', 'b2 safe'])
    // Now the one that can move is the latest.
    lab.giveUp('b1')
    booked(lab, any(1), 150, 160)
    assert.deepEqual(lab.reservations.get('b3')?.pinned, [['small,os=debian', 1]])
    lab.fail(1)
    assert.deepEqual(lab.told.slice(2), [])
    assert.deepEqual(lab.reservations.get('b3')?.pinned, [['small,os=ubuntu', 1]])
    assert.equal(lab.reservations.get('b3')?.atRisk, false)
  })

  it('moves two only where both find a place', () => {
    const lab = new BookedLab({ 'small,os=debian': 3, 'small,os=ubuntu': 1 })
    booked(lab, [kindOf({ labels: { os: 'debian' } })], 120, 180)
    booked(lab, any(1), 120, 180)
    booked(lab, any(1), 120, 180)
    for (const id of ['b2', 'b3'])
      assert.deepEqual(lab.reservations.get(id)?.pinned, [['small,os=debian', 1]])
    lab.failTogether([1, 2])
    assert.deepEqual(lab.told, ['b3 at risk: 1'])
    assert.deepEqual(lab.reservations.get('b2')?.pinned, [['small,os=ubuntu', 1]])
  })

  it('counts one that is at risk against new ones', () => {
    const lab = new BookedLab({ small: 3 })
    booked(lab, any(2), 100, 150)
    booked(lab, any(1), 100, 150)
    lab.fail(3)
    assert.deepEqual(lab.told, ['b2 at risk: 1'])
    assert.ok(isRefusal(lab.bookFor(B, any(1), 120, 130)))
    assert.ok(!isRefusal(lab.bookFor(B, any(1), 160, 170)))
  })

  it('makes safe when another is given up', () => {
    const lab = new BookedLab({ small: 2 })
    booked(lab, any(1), 100, 150)
    booked(lab, any(1), 100, 150)
    lab.fail(2)
    lab.giveUp('b1')
    assert.deepEqual(lab.told, ['b2 at risk: 1', 'b2 safe'])
  })

  it('looks beneath promises, and leaves them', () => {
    const lab = new BookedLab({ small: 2 })
    lab.lease(1, B, 30)
    lab.ask(A, { count: 2, minutes: 60 })
    booked(lab, any(1), 200, 230)
    const before = lab.book.promises
    lab.heal()
    assert.deepEqual(lab.told, [])
    assert.equal(lab.book.promises, before)
  })

  it('says how many are missing after the safe ones, each at risk having what the older ones leave', () => {
    const lab = new BookedLab({ small: 4 })
    booked(lab, any(2), 100, 150)
    booked(lab, any(2), 100, 150)
    for (const id of [1, 2, 3]) lab.fail(id)
    assert.deepEqual(lab.told, ['b2 at risk: 1', 'b2 at risk: 2', 'b1 at risk: 1'])
  })
})
