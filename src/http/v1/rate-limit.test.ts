/** How many calls may be made: bursts up to a minute's worth, then a steady rate, each caller for themselves. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { RateLimit } from './rate-limit.ts'

function limitOf(perMinute: number) {
  let nowMs = 1_000
  const limit = new RateLimit('token', perMinute, () => nowMs)
  return {
    limit,
    pass(ms: number) {
      nowMs += ms
    },
  }
}

describe('a limit', () => {
  it('lets a minute’s calls through at once, and then one for each part of the minute that passes', () => {
    const { limit, pass } = limitOf(3)
    const take = () => limit.take('a')
    assert.deepEqual(take(), { left: 2, fullAfterSeconds: 20, retryAfterSeconds: null })
    take()
    assert.deepEqual(take(), { left: 0, fullAfterSeconds: 60, retryAfterSeconds: null })
    assert.deepEqual(take(), { left: 0, fullAfterSeconds: 60, retryAfterSeconds: 20 })
    pass(19_000)
    assert.equal(take().retryAfterSeconds, 1)
    pass(1_000)
    assert.equal(take().retryAfterSeconds, null)
    assert.equal(take().retryAfterSeconds, 20)
  })

  it('counts each caller by themselves', () => {
    const { limit } = limitOf(1)
    assert.equal(limit.take('a').retryAfterSeconds, null)
    assert.equal(limit.take('b').retryAfterSeconds, null)
    assert.notEqual(limit.take('a').retryAfterSeconds, null)
  })

  it('writes its headers as the draft has them', () => {
    const { limit } = limitOf(100)
    assert.equal(limit.policy, '"token";q=100;w=60')
    assert.equal(limit.text(limit.take('a')), '"token";r=99;t=1')
  })

  it('never lets more through than a bucket and what flowed into it, and a call after Retry-After always', () => {
    const steps = fc.array(fc.nat(5_000), { minLength: 1, maxLength: 200 })
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 50 }), steps, (perMinute, passes) => {
        const { limit, pass } = limitOf(perMinute)
        let passedMs = 0
        let let_through = 0
        for (const ms of passes) {
          pass(ms)
          passedMs += ms
          const { retryAfterSeconds, left } = limit.take('a')
          assert.ok(left >= 0 && left <= perMinute)
          if (retryAfterSeconds === null) {
            let_through++
            continue
          }
          pass(retryAfterSeconds * 1_000)
          passedMs += retryAfterSeconds * 1_000
          assert.equal(limit.take('a').retryAfterSeconds, null)
          let_through++
        }
        assert.ok(let_through <= perMinute + (passedMs / 60_000) * perMinute + 1e-6)
      }),
    )
  })
})
