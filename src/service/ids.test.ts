/** Drawn ids: their shape, their order, and that all of their bits are used. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { idMaker } from './ids.ts'

describe('a drawn id', () => {
  it('is its prefix, ten digits of time and sixteen of chance', () => {
    const newId = idMaker(
      () => Date.UTC(2026, 0, 1),
      (n) => Buffer.alloc(n, 0xff),
    )
    assert.equal(newId('tok'), 'tok_01kdvdna00zzzzzzzzzzzzzzzz')
    assert.equal(
      idMaker(
        () => 0,
        (n) => Buffer.alloc(n),
      )('req'),
      `req_${'0'.repeat(26)}`,
    )
  })

  it('sorts by time, whatever the chance', () => {
    fc.assert(
      fc.property(
        fc.nat(2 ** 47),
        fc.integer({ min: 1, max: 2 ** 40 }),
        fc.uint8Array({ minLength: 10, maxLength: 10 }),
        fc.uint8Array({ minLength: 10, maxLength: 10 }),
        (ms, later, one, other) => {
          const first = idMaker(
            () => ms,
            () => Buffer.from(one),
          )('tok')
          const second = idMaker(
            () => ms + later,
            () => Buffer.from(other),
          )('tok')
          assert.ok(first < second, `${first} ${second}`)
        },
      ),
    )
  })

  it('is another for any other bytes', () => {
    const bytes = fc.uint8Array({ minLength: 10, maxLength: 10 })
    fc.assert(
      fc.property(bytes, bytes, (one, other) => {
        const made = [one, other].map((given) =>
          idMaker(
            () => 5,
            () => Buffer.from(given),
          )('tok'),
        )
        assert.equal(made[0] === made[1], Buffer.compare(one, other) === 0)
      }),
    )
  })
})
