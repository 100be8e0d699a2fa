/** Waking: nobody sleeps through what they wait for, nobody is woken for nothing, and waiting ends when it is told to. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { manualClock } from '../../test/support/manual-clock.ts'
import { Feed, waitUntil } from './feed.ts'

/** A signal that is never aborted. */
const NEVER = new AbortController().signal

/** What has become of a promise until now. */
function watch(promise: Promise<unknown>): { done: boolean; value?: unknown } {
  const watched: { done: boolean; value?: unknown } = { done: false }
  void promise.then((value) => Object.assign(watched, { done: true, value }))
  return watched
}

const turn = () => Promise.resolve()

describe('waiting for events', () => {
  it('ends at once when there are events after the cursor already', async () => {
    const feed = new Feed(5)
    assert.equal(feed.lastEventId, 5)
    await feed.after(4, NEVER)
  })

  it('ends with the commit that brings one after the cursor, and not before', async () => {
    const feed = new Feed(5)
    const waiting = watch(feed.after(6, NEVER))
    feed.committed({ lastEventId: 6, leftWork: false })
    await turn()
    assert.equal(waiting.done, false)
    feed.committed({ lastEventId: 7, leftWork: false })
    await turn()
    await turn()
    assert.equal(waiting.done, true)
  })

  it('wakes everybody who waits', async () => {
    const feed = new Feed(0)
    const waiting = [0, 0, 0].map((afterId) => watch(feed.after(afterId, NEVER)))
    feed.committed({ lastEventId: 1, leftWork: false })
    await turn()
    await turn()
    assert.deepEqual(
      waiting.map(({ done }) => done),
      [true, true, true],
    )
  })

  it('ends when it is aborted, then and at once when it was before', async () => {
    const feed = new Feed(0)
    const ending = new AbortController()
    const waiting = watch(feed.after(0, ending.signal))
    await turn()
    assert.equal(waiting.done, false)
    ending.abort()
    await turn()
    await turn()
    assert.equal(waiting.done, true)
    await feed.after(0, ending.signal)
  })

  it('never goes back: a commit that is told of late does not lower the newest event', () => {
    const feed = new Feed(0)
    feed.committed({ lastEventId: 9, leftWork: false })
    feed.committed({ lastEventId: 8, leftWork: false })
    assert.equal(feed.lastEventId, 9)
  })
})

describe('waiting for work', () => {
  it('ends with a commit that left work, and not with others', async () => {
    const feed = new Feed(0)
    const waiting = watch(feed.work(NEVER))
    feed.committed({ lastEventId: 1, leftWork: false })
    await turn()
    assert.equal(waiting.done, false)
    feed.committed({ lastEventId: 1, leftWork: true })
    await turn()
    assert.equal(waiting.done, true)
  })

  it('counts only what happens after it began', async () => {
    const feed = new Feed(0)
    feed.committed({ lastEventId: 1, leftWork: true })
    const waiting = watch(feed.work(NEVER))
    await turn()
    assert.equal(waiting.done, false)
  })

  it('ends when it is aborted', async () => {
    const ending = new AbortController()
    const waiting = watch(new Feed(0).work(ending.signal))
    ending.abort()
    await turn()
    assert.equal(waiting.done, true)
  })

  it('may begin again from within a wake-up without being woken by it', async () => {
    const feed = new Feed(0)
    let wakes = 0
    const again = (): Promise<void> => feed.work(NEVER).then(() => (++wakes < 5 ? again() : undefined))
    void again()
    feed.committed({ lastEventId: 1, leftWork: true })
    await turn()
    await turn()
    assert.equal(wakes, 1)
  })
})

describe('waiting until something is so', () => {
  it('ends at once when it is so already', async () => {
    const clock = manualClock()
    assert.equal(await waitUntil(new Feed(0), clock.schedule, 1_000, async () => true), true)
    assert.equal(clock.passedMs, 0)
  })

  it('asks again after each commit, and ends with yes', async () => {
    const clock = manualClock()
    const feed = new Feed(0)
    let asked = 0
    const waiting = watch(waitUntil(feed, clock.schedule, 1_000, async () => ++asked === 3))
    await clock.advance(0)
    assert.equal(asked, 1)
    feed.committed({ lastEventId: 1, leftWork: false })
    await clock.advance(0)
    assert.deepEqual([asked, waiting.done], [2, false])
    feed.committed({ lastEventId: 2, leftWork: false })
    await clock.advance(0)
    assert.deepEqual([asked, waiting.value], [3, true])
  })

  it('asks once after many commits that come together', async () => {
    const clock = manualClock()
    const feed = new Feed(0)
    let asked = 0
    void waitUntil(feed, clock.schedule, 1_000, async () => ++asked === 99)
    await clock.advance(0)
    for (let id = 1; id <= 20; id++) feed.committed({ lastEventId: id, leftWork: false })
    await clock.advance(0)
    assert.equal(asked, 2)
    await clock.advance(1_000)
  })

  it('misses no commit that comes while it asks', async () => {
    const clock = manualClock()
    const feed = new Feed(0)
    let so = false
    const waiting = watch(
      waitUntil(feed, clock.schedule, 1_000, async () => {
        const answer = so
        if (!so) {
          so = true
          feed.committed({ lastEventId: 1, leftWork: false })
        }
        return answer
      }),
    )
    await clock.advance(0)
    assert.equal(waiting.value, true)
  })

  it('ends with no when its time is over, after asking once more', async () => {
    const clock = manualClock()
    let asked = 0
    const waiting = watch(
      waitUntil(new Feed(0), clock.schedule, 1_000, async () => {
        asked++
        return false
      }),
    )
    await clock.advance(999)
    assert.deepEqual([waiting.done, asked], [false, 1])
    await clock.advance(1)
    assert.deepEqual([waiting.value, asked], [false, 2])
  })

  it('fails when asking fails, and leaves nobody sleeping', async () => {
    const clock = manualClock()
    const broken = waitUntil(new Feed(0), clock.schedule, 1_000, () => Promise.reject(new Error('away')))
    await assert.rejects(broken, /away/)
  })
})
