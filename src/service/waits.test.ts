/** Whoever waits for a request is woken by what ended it, here or on another server, and by nothing else. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { manualClock } from '../../test/support/manual-clock.ts'
import type { Reads } from '../store/port.ts'
import { Feed } from './feed.ts'
import { Waits } from './waits.ts'

const NEVER = new AbortController().signal

/** Waits of a server, the requests that wait in pool 1 as its store has them, and how often it asked. */
function aServer(hasNeighbours: boolean) {
  const clock = manualClock()
  const waiting = new Set<string>()
  const asked: string[] = []
  const reads = {
    async requests({ poolId }: { poolId: number }, { after, rowsMax }: { after: string; rowsMax: number }) {
      asked.push(`${poolId} ${after}`)
      const ids = [...waiting].filter((id) => id > after).sort()
      return ids.slice(0, rowsMax).map((id) => ({ id }))
    },
  } as unknown as Reads
  const feed = new Feed(0)
  const waits = new Waits(reads, feed, clock.schedule, hasNeighbours)
  const woken: string[] = []
  const wait = (id: string, signal = NEVER) => {
    waiting.add(id)
    void waits.ended(id, 1, signal).then(() => woken.push(id))
  }
  return { clock, feed, waits, waiting, asked, woken, wait }
}

function ended(
  type: 'request.granted' | 'request.cancelled' | 'request.expired' | 'request.waiting',
  id: string,
) {
  return { type, actorId: null, data: { request: id } } as const
}

describe('whoever waits for a request', () => {
  it('is woken by the commit that ended it, and nobody else is', async () => {
    const { waits, wait, woken } = aServer(false)
    for (const id of ['a', 'b', 'c', 'd', 'a']) wait(id)
    assert.equal(waits.count, 5)
    waits.committed([
      ended('request.granted', 'a'),
      ended('request.waiting', 'b'),
      ended('request.expired', 'z'),
    ])
    await Promise.resolve()
    assert.deepEqual([woken, waits.count], [['a', 'a'], 3])
    waits.committed([ended('request.cancelled', 'b'), ended('request.expired', 'c')])
    await Promise.resolve()
    assert.deepEqual([woken, waits.count], [['a', 'a', 'b', 'c'], 1])
  })

  it('waits no longer when they have gone, or when the server stops', async () => {
    const { waits, wait, woken } = aServer(false)
    const gone = new AbortController()
    wait('a', gone.signal)
    wait('b')
    gone.abort()
    await Promise.resolve()
    assert.deepEqual([woken, waits.count], [['a'], 1])
    waits.stop()
    await Promise.resolve()
    assert.deepEqual([woken, waits.count], [['a', 'b'], 0])
    wait('c')
    wait('d', gone.signal)
    await Promise.resolve()
    assert.deepEqual(woken, ['a', 'b', 'c', 'd'])
  })

  it('is never asked about where no other server commits', async () => {
    const { wait, clock, feed, asked } = aServer(false)
    wait('a')
    feed.heard({ leftWork: false })
    await clock.advance(10_000)
    assert.deepEqual(asked, [])
  })
})

describe('whoever waits where other servers commit', () => {
  it('is woken once the store says that the request waits no more', async () => {
    const { wait, waiting, clock, feed, woken, waits } = aServer(true)
    wait('a')
    wait('b')
    waiting.delete('a')
    feed.heard({ leftWork: false })
    await clock.advance(1_000)
    assert.deepEqual([woken, waits.count], [['a'], 1])
    waiting.delete('b')
    await clock.advance(1_000)
    assert.deepEqual(woken, ['a'])
    feed.heard({ leftWork: false })
    await clock.advance(1_000)
    assert.deepEqual([woken, waits.count], [['a', 'b'], 0])
  })

  it('is asked about seldom when they are many, and all of them are found', async () => {
    const { wait, waiting, clock, feed, woken, asked } = aServer(true)
    const ids = Array.from({ length: 2_500 }, (_, i) => `r${`${i}`.padStart(5, '0')}`)
    for (const id of ids) wait(id)
    waiting.delete('r00007')
    waiting.delete('r02400')
    feed.heard({ leftWork: false })
    await clock.advance(60)
    assert.deepEqual([woken, asked.length], [['r00007', 'r02400'], 3])
    feed.heard({ leftWork: false })
    await clock.advance(250)
    assert.equal(asked.length, 3)
    await clock.advance(100)
    assert.equal(asked.length, 6)
  })
})
