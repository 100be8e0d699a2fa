/** How many machines of a wish can be had at most, when not all of them can. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { kindOf } from '../../test/support/lab.ts'
import { type ClassKey, classOf } from './vm-class.ts'
import { countWished, matches, placeMost, type Wish } from './wish.ts'

const CLASSES: readonly ClassKey[] = ['small,os=debian', 'small,os=ubuntu', 'large,os=debian', 'small#7']

const kind = fc
  .record({
    type: fc.constantFrom(null, 'small', 'large'),
    labels: fc.constantFrom({}, { os: 'debian' }, { os: 'ubuntu' }),
    vmId: fc.option(fc.constant(7), { freq: 8 }),
    count: fc.integer({ min: 1, max: 3 }),
  })
  .map(kindOf)

/** The most machines for a wish, by trying every class for every machine. */
function most(wish: Wish, capacity: ReadonlyMap<ClassKey, number>, i = 0): number {
  const first = wish[i]
  if (first === undefined) return 0
  const rest = wish.with(i, { ...first, count: first.count - 1 })
  if (first.count === 0) return most(wish, capacity, i + 1)
  let found = most(rest, capacity, i)
  for (const [key, count] of capacity)
    if (count > 0 && matches(first, classOf(key)))
      found = Math.max(found, 1 + most(rest, new Map(capacity).set(key, count - 1), i))
  return found
}

describe('what can be had of a wish', () => {
  it('is the most that trying every way finds', () => {
    const counts = fc.tuple(...CLASSES.map(() => fc.integer({ min: 0, max: 2 })))
    fc.assert(
      fc.property(fc.array(kind, { minLength: 1, maxLength: 3 }), counts, (wish, free) => {
        const capacity = new Map(CLASSES.map((key, i) => [key, free[i] as number]))
        const { placement, missing } = placeMost(wish, capacity)
        let placed = 0
        const left = new Map(capacity)
        for (const { kind: i, classKey, count } of placement) {
          assert.ok(matches(wish[i] ?? assert.fail(), classOf(classKey)))
          left.set(classKey, (left.get(classKey) as number) - count)
          placed += count
        }
        assert.ok([...left.values()].every((count) => count >= 0))
        assert.equal(placed, most(wish, capacity))
        assert.equal(countWished(missing), countWished(wish) - placed)
        assert.ok(missing.every(({ count }) => count > 0))
      }),
      { numRuns: 300, endOnFailure: 'BERTH_MUTANT' in process.env },
    )
  })
})
