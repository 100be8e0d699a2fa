/** Durations: what is one, how long it is, and that each has one text. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { durationSeconds, durationText } from './duration.ts'

const CASES: [string, number | null][] = [
  ['PT1H', 3_600],
  ['PT90S', 90],
  ['P1D', 86_400],
  ['P1DT12H30M1S', 131_401],
  ['P2W', 1_209_600],
  ['PT0S', 0],
  ['P', null],
  ['PT', null],
  ['P1DT', null],
  ['P1M', null],
  ['P1Y', null],
  ['P1W1D', null],
  ['PT1.5H', null],
  ['-PT1H', null],
  ['pt1h', null],
  ['1H', null],
  ['PT1H ', null],
  ['', null],
]

describe('a duration', () => {
  for (const [text, seconds] of CASES)
    it(`${text} is ${seconds === null ? 'none' : `${seconds} s`}`, () => {
      assert.equal(durationSeconds(text), seconds)
    })

  it('is the same after it was written and read', () => {
    fc.assert(
      fc.property(fc.nat(10 ** 9), (seconds) =>
        assert.equal(durationSeconds(durationText(seconds)), seconds),
      ),
    )
  })
})
