/**
 * The way of every change: how commands come together in batches, that nothing is answered before its commit stands, and
 * what becomes of a batch when a command, the store or a watcher fails. On a store of plain Maps, without real time.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { MemoryStore } from '../../test/support/memory-store.ts'
import {
  ADMIN,
  actor,
  aPool,
  assertRefused,
  aUser,
  aVm,
  NOW_MS,
  type Rows,
  tablesOf,
  USER,
  vmsOf,
} from '../../test/support/world.ts'
import type { Command } from '../domain/command.ts'
import type { Actor } from '../domain/decision.ts'
import { isRefusal } from '../domain/refusal.ts'
import type { Needs } from '../domain/working-set.ts'
import { type Batch, type Store, StoreConflict, StoreUnavailable } from '../store/port.ts'
import { type Commit, LANE_SETTINGS, Lane, type LaneSettings } from './lane.ts'
import type { Schedule } from './schedule.ts'

const SCHEDULE: Schedule = {
  now: () => NOW_MS,
  sleep: () => Promise.reject(new Error('nobody sleeps here')),
  pause: () => setImmediate(),
  random: () => 0.5,
}

/** A store that can be made to fail or to wait, and tells what it was asked for. */
class ProbeStore implements Store {
  readonly inner: MemoryStore
  readonly told: string[] = []
  /** Asked before each step; what it throws, the step throws. */
  before: (step: 'begin' | 'commit', needs: Needs) => Promise<void> | void = () => {}
  /** Changes what a batch is given. */
  given: (rows: Batch['rows']) => Batch['rows'] = (rows) => rows

  constructor(inner: MemoryStore) {
    this.inner = inner
  }

  readonly neighbours = null

  get reads() {
    return this.inner.reads
  }

  async begin(needs: Needs): Promise<Batch> {
    this.told.push('begin')
    await this.before('begin', needs)
    const batch = await this.inner.begin(needs)
    return {
      rows: this.given(batch.rows),
      more: (more) => batch.more(more),
      commit: async (set) => {
        this.told.push('commit')
        try {
          await this.before('commit', needs)
        } catch (error) {
          await batch.release()
          throw error
        }
        const committed = await batch.commit(set)
        this.told.push('committed')
        return committed
      },
      release: () => {
        this.told.push('release')
        return batch.release()
      },
    }
  }

  close(): Promise<void> {
    return this.inner.close()
  }
}

function laneOver(rows: Rows, settings: Partial<LaneSettings> = {}, schedule: Schedule = SCHEDULE) {
  const tables = tablesOf(rows)
  const store = new ProbeStore(new MemoryStore({ now: () => NOW_MS, tables }))
  const commits: Commit[] = []
  const sizes: number[] = []
  const failures: [string, string][] = []
  const watcher = {
    committed: (commit: Commit) => void commits.push(commit),
    measured: ({ commands }: { commands: number }) => void sizes.push(commands),
    failed: (command: Command | null, error: unknown) =>
      void failures.push([command?.kind ?? 'watcher', (error as Error).message]),
  }
  const lane = new Lane(store, schedule, watcher, { ...LANE_SETTINGS, ...settings })
  const checkout = (vmId: number | null = null) =>
    lane.submit({ kind: 'checkout', actor: USER, pool: 'default', vmId, type: null, requestId: 'r' })
  return { tables, store, lane, watcher, commits, sizes, failures, checkout }
}

/** A gate that is closed until it is opened. */
function gate() {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open: () => open() }
}

/** Lets everything run that can run. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await setImmediate()
}

/** What has become of a promise until now. */
function watch(promise: Promise<unknown>): { readonly state: string } {
  const watched = { state: 'waiting' }
  promise.then(
    (value) => {
      watched.state = isRefusal(value) ? value.code : 'accepted'
    },
    (error: Error) => {
      watched.state = `threw: ${error.message}`
    },
  )
  return watched
}

function idOf(answer: unknown): number {
  assert.ok(!isRefusal(answer), 'refused')
  return (answer as { vm: { id: number } }).vm.id
}

/** A pool of no types: planning a machine for it throws, as a bug in a rule would. */
const BROKEN_POOL = aPool({ id: 2, name: 'broken', target: 1, typeMix: {} })
const BROKEN = { kind: 'growPool', poolId: 2, machinesMax: 1, claimMs: 1 } as const

describe('a command under a key', () => {
  /** A lane, and a checkout under a key that answers with the machine and keeps less. */
  function keyedLane() {
    const laid = laneOver(
      { vms: vmsOf('ready', 'ready', 'ready') },
      {},
      { ...SCHEDULE, sleep: async () => {} },
    )
    const keyed = (key = 'k', fingerprint = 'f', actor: Actor = USER) =>
      laid.lane.submitKeyed(
        { kind: 'checkout', actor, pool: 'default', vmId: null, type: null, requestId: 'r' },
        {
          key,
          fingerprint,
          say: ({ vm }) => ({
            status: 201,
            body: { vm: vm.id, secret: 's' },
            kept: { vm: vm.id, secret: null },
            headers: { location: `/${vm.id}` },
          }),
        },
      )
    return { ...laid, keyed }
  }
  const first = { status: 201, body: { vm: 1, secret: 's' }, headers: { location: '/1' } }
  const again = { status: 201, body: { vm: 1, secret: null }, headers: { location: '/1' }, replayed: true }
  const shown = (said: unknown) => {
    const { kept: _, ...rest } = said as { kept?: unknown }
    return rest
  }

  it('has one effect and the same answer, without its secret, however often it comes', async () => {
    const { keyed, tables, commits } = keyedLane()
    assert.deepEqual(shown(await keyed()), { ...first, replayed: false })
    assert.deepEqual(await keyed(), again)
    assert.deepEqual(await Promise.all([keyed(), keyed()]), [again, again])
    assert.equal(tables.vmsWhere(({ state }) => state === 'leased').length, 1)
    assert.equal(commits.length, 1)
  })

  it('has one effect also when it comes twice in one batch', async () => {
    const { keyed, tables, sizes } = keyedLane()
    const [one, other] = await Promise.all([keyed(), keyed()])
    assert.deepEqual([shown(one), other], [{ ...first, replayed: false }, again])
    assert.deepEqual(sizes, [2])
    assert.equal(tables.vmsWhere(({ state }) => state === 'leased').length, 1)
  })

  it('is refused when the key was used for something else', async () => {
    const { keyed, tables } = keyedLane()
    await keyed()
    assertRefused(await keyed('k', 'other'), 'idempotency_key_reused')
    assert.equal(tables.vmsWhere(({ state }) => state === 'leased').length, 1)
  })

  it('is another one for another key, and for another caller', async () => {
    const { keyed } = keyedLane()
    const answers = await Promise.all([keyed(), keyed('l'), keyed('k', 'f', actor(3))])
    assert.deepEqual(
      answers.map((said) => (isRefusal(said) ? said.code : (said.body as { vm: number }).vm)),
      [1, 2, 3],
    )
  })

  it('that was refused is decided anew: a refusal changed nothing, and nothing is kept of it', async () => {
    const { keyed, tables, lane } = keyedLane()
    for (let i = 0; i < 3; i++) await keyed(`${i}`)
    assertRefused(await keyed('k'), 'none_free')
    assert.deepEqual([...tables.answers.keys()], ['2 0', '2 1', '2 2'])
    await lane.submit({ kind: 'checkIn', actor: USER, vmId: 2, generation: null, requestId: 'r' })
    await lane.submit({ kind: 'maintain', actor: ADMIN, vmId: 2, step: 'clean', requestId: 'r' })
    assert.equal(((await keyed('k')) as { replayed: boolean }).replayed, false)
  })

  it('whose answer was saved by another server meanwhile is decided again, and has that answer', async () => {
    const { keyed, store, tables } = keyedLane()
    let tries = 0
    store.before = async (step) => {
      if (step !== 'commit' || ++tries > 1) return
      tables.answers.set('2 k', {
        ...{ userId: 2, key: 'k', fingerprint: 'f', status: 201, headers: {}, atMs: NOW_MS },
        body: '{"vm":9}',
      })
      throw new StoreConflict('the key came meanwhile')
    }
    assert.deepEqual(await keyed(), { status: 201, body: { vm: 9 }, headers: {}, replayed: true })
    assert.equal(tables.vmsWhere(({ state }) => state === 'leased').length, 0)
  })
})

describe('a batch', () => {
  it('takes all commands that are handed in together, and commits once', async () => {
    const { checkout, sizes, commits, store } = laneOver({ vms: vmsOf('ready', 'ready', 'ready') })
    await Promise.all([checkout(), checkout(), checkout()])
    assert.deepEqual(sizes, [3])
    assert.equal(commits.length, 1)
    assert.deepEqual(store.told, ['begin', 'commit', 'committed'])
  })

  it('decides its commands in the order in which they came, each seeing those before it', async () => {
    const { checkout } = laneOver({ vms: vmsOf('ready', 'ready', 'ready') })
    const answers = await Promise.all([checkout(), checkout(2), checkout(), checkout()])
    assert.deepEqual(answers.slice(0, 3).map(idOf), [1, 2, 3])
    assert.ok(isRefusal(answers[3]) && answers[3].code === 'none_free')
  })

  it('is no larger than it may be; what is left over goes into the next one', async () => {
    const { checkout, sizes } = laneOver({ vms: vmsOf(...Array(7).fill('ready')) }, { batchMax: 3 })
    const answers = await Promise.all(Array.from({ length: 7 }, () => checkout()))
    assert.deepEqual(sizes, [3, 3, 1])
    assert.deepEqual(answers.map(idOf), [1, 2, 3, 4, 5, 6, 7])
  })

  it('of one command is one transaction a call', async () => {
    const { checkout, sizes } = laneOver({ vms: vmsOf('ready', 'ready') }, { batchMax: 1 })
    await Promise.all([checkout(), checkout()])
    assert.deepEqual(sizes, [1, 1])
  })

  it('is answered only once its commit stands, refusals too', async () => {
    const { checkout, store } = laneOver({ vms: [aVm(1)] })
    const commit = gate()
    store.before = (step) => (step === 'commit' ? commit.opened : undefined)
    const [first, second] = [watch(checkout()), watch(checkout())]
    await settle()
    assert.deepEqual([first.state, second.state], ['waiting', 'waiting'])
    commit.open()
    await settle()
    assert.deepEqual([first.state, second.state], ['accepted', 'none_free'])
  })

  it('that changes nothing is released without a commit, and nobody is told', async () => {
    const { checkout, store, commits, lane } = laneOver({ vms: [] })
    const answer = await checkout()
    assert.ok(isRefusal(answer))
    await lane.submit({ kind: 'releaseLeaver', userId: 9, machinesMax: 1 })
    assert.deepEqual(store.told, ['begin', 'release', 'begin', 'release'])
    assert.deepEqual(commits, [])
  })

  it('starts at once when enough commands wait, without a pause', async () => {
    const { checkout, store } = laneOver({ vms: vmsOf('ready', 'ready') }, { eagerMin: 2 })
    const first = checkout()
    assert.deepEqual(store.told, [])
    const second = checkout()
    assert.deepEqual(store.told, ['begin'])
    await Promise.all([first, second])
  })
})

describe('batches that overlap', () => {
  it('leave commands waiting while one is loaded, and take them all afterwards', async () => {
    const { checkout, store, sizes } = laneOver({ vms: vmsOf(...Array(5).fill('ready')) })
    const load = gate()
    store.before = (step) => (step === 'begin' ? load.opened : undefined)
    const first = checkout()
    await settle()
    const others = [checkout(), checkout(), checkout()]
    await settle()
    assert.deepEqual(store.told, ['begin'])
    load.open()
    assert.deepEqual((await Promise.all([first, ...others])).map(idOf), [1, 2, 3, 4])
    assert.deepEqual(sizes, [1, 3])
  })

  it('ask for the next one while one is being saved, when as many commands wait; it sees what that one changed', async () => {
    const { checkout, store, sizes } = laneOver({ vms: vmsOf('ready', 'ready', 'ready') }, { eagerMin: 1 })
    const commit = gate()
    store.before = (step) => (step === 'commit' ? commit.opened : undefined)
    const answers = [checkout()]
    await settle()
    assert.deepEqual(store.told, ['begin', 'commit'])
    answers.push(checkout())
    await settle()
    assert.deepEqual(store.told, ['begin', 'commit', 'begin'])
    commit.open()
    assert.deepEqual((await Promise.all(answers)).map(idOf), [1, 2])
    assert.deepEqual(sizes, [1, 1])
  })

  it('wait for the commit when fewer commands wait than are being saved', async () => {
    const { checkout, store, sizes } = laneOver({ vms: vmsOf(...Array(5).fill('ready')) }, { eagerMin: 3 })
    const commit = gate()
    store.before = (step) => (step === 'commit' ? commit.opened : undefined)
    const answers = [checkout(), checkout(), checkout()]
    await settle()
    answers.push(checkout())
    await settle()
    assert.deepEqual(store.told, ['begin', 'commit'])
    commit.open()
    assert.deepEqual((await Promise.all(answers)).map(idOf), [1, 2, 3, 4])
    assert.deepEqual(sizes, [3, 1])
  })
})

describe('a command that throws', () => {
  const rows = { vms: vmsOf('ready', 'ready'), pools: [aPool({ target: 2 }), BROKEN_POOL] }

  it('fails alone: the others of its batch are committed together, and it is told of once', async () => {
    const { lane, checkout, sizes, failures, tables } = laneOver(rows)
    const [first, broken, last] = [checkout(), watch(lane.submit(BROKEN)), checkout()]
    assert.deepEqual((await Promise.all([first, last])).map(idOf), [1, 2])
    await settle()
    assert.match(broken.state, /^threw: /)
    assert.deepEqual(sizes, [3])
    assert.deepEqual(
      failures.map(([kind]) => kind),
      ['growPool'],
    )
    assert.equal(tables.events.length, 2)
  })

  it('while its needs are collected fails alone too', async () => {
    const { lane, checkout, failures } = laneOver(rows)
    const malformed = { kind: 'checkIn', actor: null, vmId: 1, generation: null, requestId: 'r' } as never
    const [first, broken, last] = [checkout(), watch(lane.submit(malformed)), checkout()]
    assert.deepEqual((await Promise.all([first, last])).map(idOf), [1, 2])
    await settle()
    assert.match(broken.state, /^threw: /)
    assert.equal(failures.length, 1)
  })

  it('while its changes are applied leaves nothing of them behind', async () => {
    const pools = [aPool({ target: 1 }), aPool({ id: 2, name: 'b', target: 1 })]
    const vms = [aVm(1, { state: 'leased' }), aVm(2, { state: 'leased', poolId: 2 }), aVm(3)]
    const users = [aUser(1), aUser(2, { state: 'leaving' })]
    const { lane, store, tables } = laneOver({ pools, vms, users })
    // A store that forgets a pool: the first machine can be counted, the second one cannot.
    store.given = (loaded) => ({ ...loaded, pools: loaded.pools.filter(({ pool }) => pool.id === 1) })
    const before = tables.copy()
    const broken = watch(lane.submit({ kind: 'releaseLeaver', userId: 2, machinesMax: 9 }))
    await settle()
    assert.match(broken.state, /^threw: /)
    assert.deepEqual(tables.vms, before.vms)
    assert.deepEqual(tables.leases, before.leases)
  })

  it('does not stop the lane', async () => {
    const { lane, checkout } = laneOver(rows)
    await assert.rejects(lane.submit(BROKEN))
    assert.equal(idOf(await checkout()), 1)
  })
})

describe('a batch that cannot be saved', () => {
  it('for a reason of one command is taken apart: the others are saved, once each, in their order', async () => {
    const { lane, checkout, store, tables, failures, sizes } = laneOver({ vms: vmsOf('ready', 'ready') })
    store.before = (step, needs) => {
      if (step === 'commit' && needs.userIds.has(9)) throw new Error('a guard')
    }
    const culprit = lane.submit({
      kind: 'changeUser',
      actor: ADMIN,
      userId: 3,
      name: 'X',
      email: null,
      passwordHash: null,
      requestId: 'r',
    })
    store.before = (step, needs) => {
      if (step === 'commit' && needs.userIds.has(3)) throw new Error('a guard')
    }
    const [first, broken, last] = [checkout(), watch(culprit), checkout()]
    assert.deepEqual((await Promise.all([first, last])).map(idOf), [1, 2])
    await settle()
    assert.equal(broken.state, 'threw: a guard')
    assert.deepEqual(failures, [['changeUser', 'a guard']])
    assert.deepEqual(sizes, [1, 1])
    assert.equal(tables.events.length, 2)
    assert.equal(tables.users.get(3)?.name, 'User 3')
  })

  it('does not spoil the batch behind it', async () => {
    const { checkout, store } = laneOver({ vms: vmsOf('ready', 'ready', 'ready') }, { eagerMin: 1 })
    const commit = gate()
    let commits = 0
    store.before = async (step) => {
      if (step !== 'commit' || ++commits > 1) return
      await commit.opened
      throw new Error('a guard')
    }
    const first = watch(checkout(3))
    await settle()
    const second = checkout()
    await settle()
    commit.open()
    assert.equal(idOf(await second), 1)
    await settle()
    assert.equal(first.state, 'threw: a guard')
  })
})

describe('a store that is away', () => {
  for (const at of ['begin', 'commit'] as const)
    it(`at its ${at} has the whole batch refused with its reason, and nothing of it done`, async () => {
      const { checkout, store, tables, lane, commits, failures } = laneOver({ vms: vmsOf('ready', 'ready') })
      store.before = (step) => {
        if (step === at) throw new StoreUnavailable('the disk is full')
      }
      const answers = await Promise.all([checkout(), checkout()])
      for (const answer of answers) {
        assert.ok(isRefusal(answer))
        assert.equal(answer.code, 'store_unavailable')
        assert.deepEqual(answer.details, { reason: 'the disk is full' })
      }
      assert.deepEqual(store.told.filter((step) => step === 'begin').length, 1)
      assert.deepEqual([tables.events, commits, failures], [[], [], []])
      await lane.drain()
      store.before = () => {}
      assert.equal(idOf(await checkout()), 1)
    })
})

describe('a lane that is overloaded', () => {
  it('refuses what it cannot let wait, and answers what it has let in', async () => {
    const { checkout, lane, store } = laneOver({ vms: vmsOf(...Array(4).fill('ready')) }, { waitingMax: 2 })
    const load = gate()
    store.before = (step) => (step === 'begin' ? load.opened : undefined)
    const first = checkout()
    await settle()
    const waiting = [checkout(), checkout()]
    assert.equal(lane.waiting, 2)
    const no = await checkout()
    assert.ok(isRefusal(no))
    assert.equal(no.code, 'overloaded')
    assert.ok(no.retryAfterSeconds)
    load.open()
    assert.deepEqual((await Promise.all([first, ...waiting])).map(idOf), [1, 2, 3])
    assert.equal(lane.waiting, 0)
    assert.equal(idOf(await checkout()), 4)
  })
})

describe('draining', () => {
  it('ends at once when nothing waits or is under way', async () => {
    await laneOver({}).lane.drain()
  })

  it('ends when what waits and what is under way was answered', async () => {
    const { lane, checkout, store } = laneOver({ vms: vmsOf('ready', 'ready') }, { batchMax: 1 })
    const commit = gate()
    store.before = (step) => (step === 'commit' ? commit.opened : undefined)
    const answers = [watch(checkout()), watch(checkout())]
    const drained = watch(lane.drain())
    await settle()
    assert.equal(drained.state, 'waiting')
    commit.open()
    await settle()
    assert.deepEqual(
      [drained.state, ...answers.map(({ state }) => state)],
      ['accepted', 'accepted', 'accepted'],
    )
  })

  it('ends when commands throw, and when the store is away', async () => {
    const { lane, store } = laneOver({ pools: [BROKEN_POOL] })
    const broken = watch(lane.submit(BROKEN))
    await lane.drain()
    assert.match(broken.state, /^threw: /)
    store.before = () => {
      throw new StoreUnavailable('away')
    }
    const refused = watch(lane.submit(BROKEN))
    await lane.drain()
    assert.equal(refused.state, 'store_unavailable')
  })
})

describe('watchers', () => {
  it('are told of each commit once it stands: its events, the newest event’s id, and whether it left work', async () => {
    const { checkout, commits, lane } = laneOver({ vms: vmsOf('ready', 'ready') })
    await Promise.all([checkout(), checkout()])
    await lane.submit({ kind: 'deleteUser', actor: ADMIN, userId: 3, requestId: 'r' })
    assert.deepEqual(
      commits.map(({ events, lastEventId, leftWork }) => [
        events.map(({ type }) => type),
        lastEventId,
        leftWork,
      ]),
      [
        [['vm.checked_out', 'vm.checked_out'], 2, false],
        [['user.deleted'], 3, true],
      ],
    )
  })

  it('are told before whoever asked is answered', async () => {
    const { checkout, commits } = laneOver({ vms: [aVm(1)] })
    const told = await checkout().then(() => commits.length)
    assert.equal(told, 1)
  })

  it('that throw do not have commands done twice, or fail', async () => {
    const { checkout, watcher, tables } = laneOver({ vms: vmsOf('ready', 'ready', 'ready', 'ready') })
    watcher.committed = () => {
      throw new Error('a bug of the watcher')
    }
    const answers = [watch(checkout()), watch(checkout())]
    await settle()
    assert.equal(tables.events.length, 2, 'so many machines were given out')
    assert.deepEqual(
      answers.map(({ state }) => state),
      ['accepted', 'accepted'],
    )
  })
})
