/** What is written down or forgotten now and then: when, how much at a time, and that a refusal does no harm. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { manualClock } from '../../test/support/manual-clock.ts'
import { refusal } from '../domain/refusal.ts'
import type { Submit } from '../service/lane.ts'
import type { TokenUse } from '../service/tokens.ts'
import { answerSweep } from './answer.ts'
import { Tasks } from './sweep.ts'
import { tokenUseSweep } from './token-use.ts'

const tasks = new Tasks((error) => assert.fail(String(error)))
const MINUTE_MS = 60_000

function setUp() {
  const clock = manualClock()
  const asked: unknown[] = []
  const replies: unknown[] = []
  const submit = (async (command: unknown) => {
    asked.push(command)
    return replies.shift() ?? { forgotten: 0, noted: 0 }
  }) as Submit
  return { clock, asked, replies, submit, schedule: clock.schedule }
}

describe('answers', () => {
  it('are forgotten once a minute, at once again while there are more', async () => {
    const { clock, asked, replies, submit, schedule } = setUp()
    const sweep = answerSweep({ submit, schedule })
    assert.deepEqual(await sweep.run(tasks), { atMs: schedule.now() + MINUTE_MS })
    assert.deepEqual(asked, [])
    await clock.advance(MINUTE_MS)
    replies.push({ forgotten: 500 }, { forgotten: 3 }, refusal('resetting'))
    assert.deepEqual(await sweep.run(tasks), { at: 'once' })
    assert.deepEqual(await sweep.run(tasks), { atMs: schedule.now() + MINUTE_MS })
    assert.deepEqual(asked, Array(2).fill({ kind: 'forgetAnswers', rowsMax: 500 }))
    await clock.advance(MINUTE_MS)
    assert.deepEqual(await sweep.run(tasks), { atMs: schedule.now() + MINUTE_MS })
  })
})

describe('the use of tokens', () => {
  it('is written down once a minute, in slices', async () => {
    const { clock, asked, submit, schedule } = setUp()
    let uses: TokenUse[] = Array.from({ length: 250 }, (_, i) => ({
      tokenId: `tok_${i}`,
      userId: 1,
      atMs: i,
    }))
    const all = uses
    const takeUses = () => uses.splice(0)
    uses = [...uses]
    const sweep = tokenUseSweep({ submit, schedule, tokens: { takeUses } })
    await sweep.run(tasks)
    assert.deepEqual(asked, [])
    await clock.advance(MINUTE_MS)
    assert.deepEqual(await sweep.run(tasks), { atMs: schedule.now() + MINUTE_MS })
    const slices = [all.slice(0, 200), all.slice(200)]
    assert.deepEqual(
      asked,
      slices.map((slice) => ({ kind: 'noteTokenUse', uses: slice })),
    )
    await clock.advance(MINUTE_MS)
    await sweep.run(tasks)
    assert.equal(asked.length, 2)
  })
})
