/** How reservations begin: complete, or with what can be spared, the rest as a request that waits first of all. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BookedLab } from '../../test/reservations/booked-lab.ts'
import { kindOf } from '../../test/support/lab.ts'
import { isRefusal } from './refusal.ts'
import { expired } from './reservation.ts'

const [A, B, C] = [1, 2, 3] as const

describe('a reservation', () => {
  it('becomes leases of its holder that end with it', () => {
    const lab = new BookedLab({ small: 3 })
    lab.bookFor(A, [kindOf({ count: 2 })], 60, 90)
    lab.advanceTo(60)
    const leases = [...lab.leases.values()]
    assert.deepEqual(
      leases.map(({ userId, fromMs, endsAtMs }) => [userId, fromMs, endsAtMs]),
      Array(2).fill([A, lab.at(60), lab.at(90)]),
    )
    assert.equal(lab.reservations.get('b1')?.state, 'active')
    assert.deepEqual(lab.started[0]?.missing, [])
    lab.advanceTo(95)
    assert.equal(lab.reservations.get('b1')?.state, 'ended')
    assert.equal([...lab.vms.values()].filter(({ state }) => state === 'ready').length, 3)
  })

  it('is charged like a grant', () => {
    const lab = new BookedLab({ small: 2 }, { units: { small: 3 }, weights: { low: 1, normal: 2, high: 4 } })
    lab.bookFor(A, [kindOf({ count: 2 })], 60, 90)
    lab.advanceTo(60)
    const { chargedMinutes, weight, durationSeconds } = lab.started[0] ?? assert.fail()
    assert.deepEqual([chargedMinutes, weight, durationSeconds], [2 * 3 * 30, 2, 1_800])
  })

  it('begins late when nobody looked at its start, and still ends in time', () => {
    const lab = new BookedLab({ small: 1 })
    lab.bookFor(A, [kindOf()], 60, 90)
    lab.nowMs = lab.at(80)
    lab.tick()
    assert.equal(lab.leases.get(1)?.endsAtMs, lab.at(90))
    assert.equal(lab.started[0]?.durationSeconds, 600)
  })

  it('ends with its window to the millisecond, whenever it begins', () => {
    for (const lateMs of [1, 333, 999, 60_007]) {
      const lab = new BookedLab({ small: 1 })
      lab.bookFor(A, [kindOf()], 60, 90)
      lab.nowMs = lab.at(60) + lateMs
      lab.tick()
      assert.equal(lab.leases.get(1)?.endsAtMs, lab.at(90), `${lateMs} ms late`)
    }
  })

  it('has as long to be used when it began late', () => {
    const lab = new BookedLab({ small: 1 })
    const reservation = lab.bookFor(A, [kindOf()], 60, 200)
    assert.ok(!isRefusal(reservation))
    lab.put({ ...reservation, noShowSeconds: 600 })
    lab.nowMs = lab.at(100)
    lab.tick()
    const begun = lab.reservations.get('b1') ?? assert.fail()
    assert.equal(expired(begun, lab.at(110) - 1), null)
    assert.equal(expired(begun, lab.at(110))?.state, 'no_show')
  })

  it('does not begin when its window is over', () => {
    const lab = new BookedLab({ small: 1 })
    lab.bookFor(A, [kindOf()], 60, 90)
    lab.nowMs = lab.at(90)
    lab.tick()
    assert.equal(lab.leases.size, 0)
    assert.equal(lab.reservations.get('b1')?.state, 'ended')
  })

  it('takes what the others can spare when it is at risk, and waits for the rest', () => {
    const lab = new BookedLab({ small: 4 })
    lab.bookFor(A, [kindOf({ count: 2 })], 70, 90)
    lab.bookFor(B, [kindOf({ count: 2 })], 60, 90)
    lab.fail(1)
    lab.advanceTo(60)
    const [started] = lab.started
    assert.deepEqual(started?.missing, [kindOf({ count: 1 })])
    assert.deepEqual(started?.placement, [{ kind: 0, classKey: 'small', count: 1 }])
    assert.deepEqual(started?.reservation.state, 'active')
    lab.advanceTo(70)
    assert.deepEqual(lab.started[1]?.missing, [])
    lab.ready(1)
    lab.settleAll()
    assert.deepEqual([...lab.leases.values()].map(({ userId }) => userId).sort(), [A, A, B, B])
  })

  it('begins before those that are at risk, at the same instant', () => {
    const lab = new BookedLab({ small: 2 })
    lab.bookFor(A, [kindOf()], 60, 90)
    lab.bookFor(B, [kindOf()], 60, 90)
    lab.fail(1)
    lab.advanceTo(60)
    assert.deepEqual(
      lab.started.map(({ reservation, missing }) => [reservation.id, missing.length]),
      [
        ['b1', 0],
        ['b2', 1],
      ],
    )
  })

  it('waits for machines that are late, whoever else would want them', () => {
    const lab = new BookedLab({ small: 1 })
    lab.cleanMinutes = 20
    lab.lease(1, C, 50)
    lab.bookFor(A, [kindOf()], 60, 90)
    lab.advanceTo(60)
    assert.deepEqual(lab.started[0]?.placement, [])
    assert.deepEqual(lab.started[0]?.missing, [kindOf()])
    lab.advanceTo(71)
    assert.equal(lab.leases.get(1)?.userId, A)
  })

  it('prefers the classes that it is pinned to', () => {
    const lab = new BookedLab({ small: 3, large: 2 })
    for (const id of [1, 2]) lab.lease(id, C, 50)
    const reservation = lab.bookFor(A, [kindOf({ count: 2 })], 52, 90)
    assert.ok(!isRefusal(reservation))
    assert.deepEqual(reservation.pinned, [['large', 2]])
    lab.advanceTo(56)
    assert.deepEqual(lab.started[0]?.placement, [{ kind: 0, classKey: 'large', count: 2 }])
  })

  it('leaves promises as they are beneath it', () => {
    const lab = new BookedLab({ small: 2 })
    lab.lease(1, C, 200)
    lab.bookFor(A, [kindOf()], 60, 90)
    lab.ask(B, { count: 2, minutes: 30 })
    lab.advanceTo(60)
    assert.equal(lab.leases.get(2)?.userId, A)
  })
})
