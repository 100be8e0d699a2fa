/** Confirmed reservations are kept, or their holders are told at once why not (promise 7), in random histories. */
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { history, live } from './histories.ts'

const RUNS = Number(process.env.BERTH_HISTORIES ?? 600)

describe('a confirmed reservation', () => {
  it('starts complete, unless its holder was told', () => {
    fc.assert(fc.property(history(120), fc.constantFrom(60, 300), live), {
      numRuns: RUNS,
      endOnFailure: 'BERTH_MUTANT' in process.env,
    })
  })
})
