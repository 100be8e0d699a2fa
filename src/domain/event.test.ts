/** How bulk events name their machines. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { idRanges } from './event.ts'

describe('ranges of ids', () => {
  it('hold exactly the ids that were given, in as few ranges as there can be', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 60 })), (ids) => {
        const ranges = idRanges(ids)
        const covered = ranges.flatMap(([first, last]) =>
          Array.from({ length: last - first + 1 }, (_, i) => first + i),
        )
        assert.deepEqual(
          covered,
          [...ids].sort((a, b) => a - b),
        )
        for (const [i, [first]] of ranges.entries()) assert.ok(first > (ranges[i - 1]?.[1] ?? -1) + 1)
      }),
    )
  })

  it('leave the ids that were given in their order', () => {
    const ids = [3, 1, 2]
    assert.deepEqual(idRanges(ids), [[1, 3]])
    assert.deepEqual(ids, [3, 1, 2])
  })
})
