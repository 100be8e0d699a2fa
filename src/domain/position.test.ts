/** Places in the queue are those in which requests are granted, and times are when. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Lab } from '../../test/support/lab.ts'
import { type Arrivals, estimateOf, positionOf } from './position.ts'

const NOBODY: Arrivals = { machinesPerMinute: 0, users: 0 }

describe('a position', () => {
  it('counts turns of users, not requests', () => {
    const lab = new Lab({ small: 1 })
    lab.lease(1, 26, 10)
    const ids = [1, 1, 1, 2, 2, 3].map((user) => lab.join(user))
    lab.settle()
    assert.deepEqual(
      ids.map((id) => positionOf(lab.book, id)),
      // Where tags are equal, the others are counted first.
      [3, 5, 6, 3, 5, 3],
    )
  })

  it('is, but for ties, the order of grants', () => {
    const user = fc.record({
      count: fc.integer({ min: 1, max: 5 }),
      minutes: fc.constantFrom(10, 20, 30, 60),
    })
    const users = fc.array(user, { minLength: 1, maxLength: 5 })
    fc.assert(
      fc.property(users, (wishes) => {
        const lab = new Lab({ small: 1 }, { gridSeconds: 60 })
        lab.lease(1, 26, 10)
        const ids = wishes.flatMap(({ count, minutes }, i) =>
          Array.from({ length: count }, () => lab.join(1 + i, { minutes })),
        )
        lab.settle()
        const positions = new Map(ids.map((id) => [id, positionOf(lab.book, id) ?? 0]))
        lab.advanceTo(3_000)
        assert.equal(lab.granted.length, ids.length)
        for (const [i, { id }] of lab.granted.entries()) {
          const error = (positions.get(id) ?? 0) - (i + 1)
          assert.ok(
            error >= 0 && error < wishes.length,
            `${id} was granted as number ${i + 1}, not ${positions.get(id)}`,
          )
        }
      }),
    )
  })

  it('has overdue requests before everybody', () => {
    const lab = new Lab({ small: 1 })
    lab.lease(1, 26, 10)
    const a = lab.join(1)
    lab.flows.set(2, { poolId: 1, userId: 2, tag: 10_000 })
    lab.book.queue.setTag(2, 10_000)
    const b = lab.join(2, { dueIn: 0 })
    lab.settle()
    assert.equal(positionOf(lab.book, b), 1)
    assert.equal(positionOf(lab.book, a), 2)
  })

  it('is none of who is not there, or parked', () => {
    const lab = new Lab(
      { small: 2 },
      { quota: { machinesMax: 1, vcpuMax: null, hoursWeekMax: null, waitingMax: null } },
    )
    lab.lease(1, 1, 10)
    const a = lab.join(1)
    lab.settle()
    assert.equal(positionOf(lab.book, a), null)
    assert.equal(positionOf(lab.book, 'r999'), null)
    assert.equal(estimateOf(lab.book, a, NOBODY, lab.nowMs), null)
  })
})

describe('an estimate', () => {
  const holds = { n: 30, mean: 25, m2: 30 * 25 }

  it('ends with the promise, if there is one', () => {
    const lab = new Lab({ small: 1 }, { gridSeconds: 60 })
    lab.lease(1, 26, 10)
    const a = lab.join(1)
    lab.settle()
    const estimate = estimateOf(lab.book, a, NOBODY, lab.nowMs)
    assert.equal(estimate?.sure, 'promised')
    assert.equal(estimate?.latestAtMs, lab.at(15))
  })

  it('rests on how long leases last: the machines before a request, at the rate at which machines come back', () => {
    const lab = new Lab({ small: 3 })
    lab.setPool({ queue: { ...lab.pool.queue, holds } })
    for (const vmId of [1, 2, 3]) lab.lease(vmId, 26, 30)
    lab.join(1)
    const b = lab.join(2, { count: 2 })
    lab.settle()
    // Three machines in 30 minutes each, cleaning included: one each ten minutes, and three are wanted.
    const estimate = estimateOf(lab.book, b, NOBODY, lab.nowMs)
    assert.equal(estimate?.likelyAtMs, lab.at(30))
    assert.equal(estimate?.sure, 'likely')
    assert.ok((estimate?.earliestAtMs ?? 0) < lab.at(30) && (estimate?.latestAtMs ?? 0) > lab.at(30))
    assert.deepEqual(estimate?.restsOn, ['ends', 'observed holds'])
  })

  it('is later for whoever has many before it, while others come', () => {
    const lab = new Lab({ small: 3 })
    lab.setPool({ queue: { ...lab.pool.queue, holds } })
    for (const vmId of [1, 2, 3]) lab.lease(vmId, 26, 30)
    const ids = Array.from({ length: 10 }, () => lab.join(1))
    lab.settle()
    const last = ids.at(-1) ?? assert.fail()
    const alone = estimateOf(lab.book, last, NOBODY, lab.nowMs)
    const among = estimateOf(lab.book, last, { machinesPerMinute: 0.05, users: 2 }, lab.nowMs)
    assert.ok((alone?.likelyAtMs ?? 0) < (among?.likelyAtMs ?? 0))
    assert.deepEqual(among?.restsOn, ['ends', 'observed holds', 'arrivals'])
  })

  it('is rough when little is known, and none when nothing is', () => {
    const lab = new Lab({ small: 2 })
    lab.lease(1, 26, null)
    lab.lease(2, 26, null)
    const a = lab.join(1)
    lab.settle()
    assert.equal(estimateOf(lab.book, a, NOBODY, lab.nowMs), null)
    const other = new Lab({ small: 2 })
    other.setPool({ queue: { ...other.pool.queue, holds: { ...holds, n: 3 } } })
    other.lease(1, 26, 10)
    other.lease(2, 26, 10)
    other.join(2)
    const b = other.join(1)
    other.settle()
    assert.equal(estimateOf(other.book, b, NOBODY, other.nowMs)?.sure, 'rough')
  })
})
