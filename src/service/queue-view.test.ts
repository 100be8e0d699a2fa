/** Questions about a queue: many are asked as one, at most once a second, and none waits because too many ask. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { manualClock } from '../../test/support/manual-clock.ts'
import type { LookAtPool, PoolLook, RequestLook } from '../domain/look.ts'
import { isRefusal, refusal } from '../domain/refusal.ts'
import type { Reads } from '../store/port.ts'
import type { Submit } from './lane.ts'
import { QueueView } from './queue-view.ts'

/** A view of queues in which each request's position is how many looks there were. */
function aView() {
  const clock = manualClock()
  const looks: LookAtPool[] = []
  let refused = false
  const submit = (async (command: LookAtPool): Promise<PoolLook | ReturnType<typeof refusal>> => {
    looks.push(command)
    if (refused) return refusal('overloaded')
    const look: RequestLook = { position: looks.length, outlook: null, explanation: null }
    const requests = new Map(command.requestIds.map((id) => [id, look]))
    return { atMs: clock.passedMs, requests, first: null, classes: [], free: [] }
  }) as unknown as Submit
  const reads = { vmsOfPool: async () => [{ id: 7, failure: 'no disk' }] } as unknown as Reads
  const view = new QueueView(submit, reads, clock.schedule)
  const answers: [string, number | null][] = []
  const ask = (id: string, pool = 'lab', why = false) =>
    void view.of(1, pool, id, why).then((look) => answers.push([id, look?.position ?? null]))
  return { clock, looks, view, ask, answers, refuse: () => (refused = true) }
}

describe('questions about a queue', () => {
  it('that come together are asked as one, and answered anew after a second', async () => {
    const { clock, looks, ask, answers } = aView()
    for (const id of ['a', 'b', 'a']) ask(id)
    await clock.advance(0)
    assert.deepEqual(answers.splice(0), [
      ['a', 1],
      ['b', 1],
      ['a', 1],
    ])
    ask('a')
    ask('c')
    await clock.advance(900)
    // What is known is known; what is not waits for the next look.
    assert.deepEqual(answers.splice(0), [['a', 1]])
    await clock.advance(100)
    assert.deepEqual(answers.splice(0), [['c', 2]])
    assert.deepEqual(
      looks.map(({ requestIds }) => requestIds),
      [['a', 'b'], ['c']],
    )
    ask('a')
    await clock.advance(1_000)
    assert.deepEqual(answers, [['a', 3]])
  })

  it('are kept apart by pool, and by whether reasons are wanted', async () => {
    const { clock, looks, ask } = aView()
    ask('a')
    ask('a', 'loft')
    ask('a', 'lab', true)
    await clock.advance(0)
    assert.deepEqual(
      looks.map(({ pool, why, providerErrors }) => [pool, why, providerErrors.length]),
      [
        ['lab', false, 0],
        ['loft', false, 0],
        ['lab', true, 1],
      ],
    )
  })

  it('that are too many find nothing, and nobody waits for them', async () => {
    const { clock, looks, ask, answers } = aView()
    for (let i = 0; i < 60; i++) ask(`r${i}`)
    await clock.advance(0)
    assert.equal(answers.filter(([, position]) => position === null).length, 10)
    assert.equal(looks[0]?.requestIds.length, 50)
  })

  it('find nothing while a server cannot answer', async () => {
    const { clock, view, ask, answers, refuse } = aView()
    refuse()
    ask('a')
    await clock.advance(0)
    assert.deepEqual(answers, [['a', null]])
    assert.ok(isRefusal(await view.pool(1, 'lab')))
  })

  it('tell what users were granted in the last hour', async () => {
    const { clock, view, ask, looks } = aView()
    const granted = (userId: number) =>
      ({ type: 'vm.checked_out', actorId: userId, poolId: 1, userId }) as const
    view.committed([
      granted(2),
      granted(3),
      granted(2),
      { type: 'vm.checked_in', actorId: 2, poolId: 1, userId: 2 },
    ])
    await clock.advance(40 * 60_000)
    view.committed([granted(3)])
    ask('a')
    await clock.advance(30 * 60_000)
    ask('b')
    await clock.advance(0)
    assert.deepEqual(
      looks.map((look) => look.granted),
      [
        [
          [2, 2],
          [3, 2],
        ],
        [[3, 1]],
      ],
    )
  })
})
