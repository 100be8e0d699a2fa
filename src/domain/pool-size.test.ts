/** How a pool gets its size: the wish, and the slices in which workers follow it up and down. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  ADMIN,
  accepted,
  actor,
  aPool,
  assertRefused,
  aVm,
  NOW_MS,
  USER,
  unversioned,
  vmsOf,
  World,
} from '../../test/support/world.ts'
import {
  countExisting,
  DEFAULT_POLICY,
  EMPTY_QUEUE,
  EVEN_MIX,
  type PoolPolicy,
  poolStats,
  sizeMin,
} from './pool.ts'
import { isFitted, type SizePool } from './pool-size.ts'
import { VM_STATES } from './vm.ts'
import { VM_TYPE_NAMES } from './vm-type.ts'

const POLICY: Partial<PoolPolicy> = { typeMix: EVEN_MIX, cleaning: 'automatic', provider: 'simulated' }

function sizePool(size: number, edit: Partial<SizePool> = {}): SizePool {
  return { kind: 'sizePool', actor: ADMIN, pool: 'default', size, policy: POLICY, requestId: 'r1', ...edit }
}

function grow(machinesMax: number, poolId = 1) {
  return { kind: 'growPool', poolId, machinesMax, claimMs: 60_000 } as const
}

function shrink(machinesMax: number, poolId = 1) {
  return { kind: 'shrinkPool', poolId, machinesMax } as const
}

describe('the wish for a size', () => {
  it('makes the pool when there is none, with the policy that was given and no machines yet', () => {
    const world = new World({ pools: [] })
    const { poolId, outcome } = accepted(world.run(sizePool(7)))
    assert.deepEqual([poolId, outcome], [1, 'created'])
    assert.deepEqual(unversioned(world.pool()), {
      ...DEFAULT_POLICY,
      ...POLICY,
      id: 1,
      name: 'default',
      target: 7,
      createdAtMs: world.nowMs,
      queue: EMPTY_QUEUE,
    })
    assert.deepEqual(world.states(), [])
    const { type, actorId, requestId, data } = world.lastEvent
    assert.deepEqual(
      { type, actorId, requestId, data },
      { type: 'pool.created', actorId: 1, requestId: 'r1', data: { name: 'default', size: 7 } },
    )
  })

  it('makes a pool of size 0, which exists', () => {
    const world = new World({ pools: [] })
    accepted(world.run(sizePool(0)))
    assert.equal(world.pool().target, 0)
    assert.equal(accepted(world.run(sizePool(0))).outcome, 'unchanged')
  })

  it('gives pools ids of their own, each used once', () => {
    const world = new World({ pools: [] })
    const answers = world.batch(sizePool(1), sizePool(1, { pool: 'b' }), sizePool(1, { pool: 'b' }))
    assert.deepEqual(answers, [
      { poolId: 1, outcome: 'created' },
      { poolId: 2, outcome: 'created' },
      { poolId: 2, outcome: 'unchanged' },
    ])
  })

  it('sets the target of a pool that exists, keeps its policy, and changes no machine', () => {
    const world = new World({ vms: vmsOf('ready', 'leased') })
    assert.equal(accepted(world.run(sizePool(9))).outcome, 'resized')
    assert.deepEqual(unversioned(world.pool()), aPool({ target: 9 }))
    assert.deepEqual(world.states(), ['ready', 'leased'])
    assert.deepEqual(world.lastEvent.data, { from: 2, to: 9 })
  })

  it('changes nothing, and records nothing, when the pool has that size', () => {
    const world = new World({ vms: vmsOf('ready', 'leased') })
    assert.equal(accepted(world.run(sizePool(2))).outcome, 'unchanged')
    assert.deepEqual(world.tables.events, [])
  })

  for (const state of VM_STATES) {
    const inTheWay = !['ready', 'provisioning', 'deleting'].includes(state)
    it(`under the number of machines in state ${state} is ${inTheWay ? 'refused' : 'accepted'}`, () => {
      const world = new World({ vms: vmsOf(state, state, 'ready') })
      const answer = world.run(sizePool(1))
      if (inTheWay) {
        assertRefused(answer, 'size_below_use')
        assert.deepEqual('details' in answer && answer.details, { size: 1, sizeMin: 2 })
        assert.equal(world.pool().target, 3)
      } else if (state !== 'deleting') accepted(answer)
    })
  }

  it('down to exactly what is in use is accepted', () => {
    accepted(new World({ vms: vmsOf('leased', 'maintenance', 'ready') }).run(sizePool(2)))
  })

  it('is for admins', () => {
    const world = new World({ pools: [] })
    assertRefused(world.run(sizePool(7, { actor: USER })), 'not_allowed')
    assertRefused(world.run(sizePool(7, { actor: actor(9) })), 'caller_unknown')
    assert.equal(world.tables.pools.size, 0)
  })
})

describe('growing', () => {
  it('plans machines up to the target, already claimed by the worker that asked', () => {
    const world = new World({ vms: [aVm(5)], pools: [aPool({ target: 3 })] })
    const { pool, planned } = accepted(world.run(grow(100)))
    assert.deepEqual(pool && unversioned(pool), unversioned(world.pool()))
    assert.deepEqual(
      planned.map((vm) => vm.id),
      [6, 7],
    )
    const [first] = planned
    assert.deepEqual(first, {
      ...aVm(6, { name: 'default-6', type: 'medium', address: '', power: 'stopped', state: 'provisioning' }),
      claim: world.nowMs,
      attempts: 1,
      dueAtMs: world.nowMs + 60_000,
      busyUntilMs: world.nowMs + 60_000,
      freeAtMs: world.nowMs + aPool().makeSeconds * 1_000,
    })
    assert.equal(world.tables.installation.nextVmId, 8)
    assert.deepEqual(world.lastEvent.data, { vms: [[6, 7]] })
  })

  it('plans no more than a slice at a time, and goes on where it was', () => {
    const world = new World({ pools: [aPool({ target: 5 })] })
    const slices = [1, 2, 3, 4].map(() => accepted(world.run(grow(2))).planned.map((vm) => vm.id))
    assert.deepEqual(slices, [[1, 2], [3, 4], [5], []])
  })

  it('plans for two workers in one batch without planning anything twice', () => {
    const world = new World({ pools: [aPool({ target: 3 })] })
    const answers = world.batch(grow(2), grow(2)) as { planned: { id: number }[] }[]
    assert.deepEqual(
      answers.map(({ planned }) => planned.map((vm) => vm.id)),
      [[1, 2], [3]],
    )
  })

  it('counts every machine that exists, and none that is being destroyed', () => {
    const vms = vmsOf('failed', 'cordoned', 'maintenance', 'provisioning', 'deleting')
    const world = new World({ vms, pools: [aPool({ target: 5 })] })
    assert.equal(accepted(world.run(grow(100))).planned.length, 1)
  })

  it('plans nothing for a pool that has its size, has too many, or is not there', () => {
    const world = new World({ vms: vmsOf('ready', 'ready'), pools: [aPool({ target: 2 })] })
    assert.deepEqual(accepted(world.run(grow(9))), { pool: world.pool(), planned: [] })
    accepted(world.run(sizePool(1)))
    assert.deepEqual(accepted(world.run(grow(9))).planned, [])
    assert.deepEqual(accepted(world.run(grow(9, 7))), { pool: null, planned: [] })
  })

  it('gives machines ids above every id that was used before', () => {
    const world = new World({ vms: vmsOf('ready'), installation: { nextVmId: 40 } })
    world.run({ kind: 'deleteVm', actor: ADMIN, vmId: 1, requestId: 'r' })
    accepted(world.run(sizePool(1)))
    assert.deepEqual(
      accepted(world.run(grow(9))).planned.map((vm) => vm.id),
      [40],
    )
  })
})

describe('shrinking', () => {
  it('takes machines that are still being made first, then the ready ones with the highest ids', () => {
    const vms = vmsOf('ready', 'provisioning', 'ready', 'ready', 'provisioning', 'ready')
    const world = new World({ vms, pools: [aPool({ target: 0 })] })
    const order: number[] = []
    while (accepted(world.run(shrink(1))).removed > 0)
      order.push(...world.idsIn('deleting').filter((id) => !order.includes(id)))
    assert.deepEqual(order, [5, 2, 6, 4, 3, 1])
  })

  it('is given enough when machines that are being made are given up in the same batch', () => {
    const making = (id: number) =>
      aVm(id, { state: 'provisioning', address: '', attempts: 1, busyUntilMs: NOW_MS + 1_000 })
    const world = new World({ vms: [1, 2, 3, 4].map(making), pools: [aPool({ target: 3 })] })
    const results = [2, 3, 4].map(
      (vmId) => ({ vmId, claim: 1, ok: false, failure: 'no', permanent: true }) as const,
    )
    const [, shrunk] = world.batch({ kind: 'reportWork', state: 'provisioning', results }, shrink(1))
    assert.deepEqual(shrunk, { removed: 1 })
    assert.deepEqual(world.idsIn('deleting'), [1])
  })

  it('marks no more than a slice at a time, and stops at the target', () => {
    const world = new World({ vms: vmsOf(...Array(7).fill('ready')), pools: [aPool({ target: 2 })] })
    const counts = [1, 2, 3].map(() => accepted(world.run(shrink(3))).removed)
    assert.deepEqual(counts, [3, 2, 0])
    assert.deepEqual(world.idsIn('ready'), [1, 2])
  })

  it('names the machines as ranges in one fact a slice', () => {
    const world = new World({
      vms: vmsOf('ready', 'ready', 'leased', 'ready'),
      pools: [aPool({ target: 1 })],
    })
    accepted(world.run(shrink(9)))
    const { type, actorId, data } = world.lastEvent
    assert.deepEqual([type, actorId], ['vm.removed', null])
    const ranges = [
      [1, 2],
      [4, 4],
    ]
    assert.deepEqual(data, { vms: ranges })
  })

  it('never takes a machine that somebody holds or that is set aside', () => {
    const vms = vmsOf('leased', 'maintenance', 'failed', 'cordoned', 'ready')
    const world = new World({ vms, pools: [aPool({ target: 0 })] })
    assert.equal(accepted(world.run(shrink(9))).removed, 1)
    assert.deepEqual(world.states(), ['leased', 'maintenance', 'failed', 'cordoned', 'deleting'])
  })

  it('lets a worker that is making a machine finish before the machine is destroyed', () => {
    const until = NOW_MS + 60_000
    const busy = aVm(1, { state: 'provisioning', attempts: 1, dueAtMs: until, busyUntilMs: until })
    const world = new World({ vms: [busy], pools: [aPool({ target: 0 })] })
    accepted(world.run(shrink(9)))
    assert.equal(world.vm(1).dueAtMs, until)
  })

  it('marks enough in one batch with checkouts, and none of the machines that these took', () => {
    const world = new World({ vms: vmsOf(...Array(6).fill('ready')), pools: [aPool({ target: 4 })] })
    const checkout = {
      kind: 'checkout',
      actor: USER,
      pool: 'default',
      vmId: null,
      type: null,
      requestId: 'r',
    } as const
    world.batch(checkout, shrink(9), checkout)
    assert.deepEqual(world.states(), ['leased', 'leased', 'ready', 'ready', 'deleting', 'deleting'])
  })

  it('does nothing for a pool that is not there', () => {
    assert.deepEqual(accepted(new World().run(shrink(9, 7))), { removed: 0 })
  })
})

describe('a pool', () => {
  const states = fc.array(fc.constantFrom(...VM_STATES), { maxLength: 20 })

  it('comes to every size that is accepted, whatever its machines are doing', () => {
    fc.assert(
      fc.property(states, fc.nat(30), fc.integer({ min: 1, max: 7 }), (list, size, slice) => {
        const world = new World({ vms: vmsOf(...list) })
        const row = world.tables.pools.get(1)
        assert.ok(row)
        const wanted = Math.max(size, sizeMin(row.tally))
        accepted(world.run(sizePool(wanted)))
        for (let i = 0; i < 40; i++) world.batch(grow(slice), shrink(slice))
        assert.equal(countExisting(world.tables.recount(1)), wanted)
        for (const [i, before] of list.entries())
          if (before !== 'ready' && before !== 'provisioning') assert.equal(world.vm(i + 1).state, before)
      }),
      { numRuns: 40 },
    )
  })

  it('is fitted when as many exist as are wanted and none is being made', () => {
    const stats = poolStats(aPool({ target: 2 }), { small: { ready: 1, leased: 1 } })
    assert.equal(isFitted(stats, 0), true)
    assert.equal(isFitted(stats, 1), false)
    assert.equal(isFitted({ ...stats, target: 3 }, 0), false)
  })

  it('of machines of all types has all of them in its tally', () => {
    const vms = VM_TYPE_NAMES.map((type, i) => aVm(i + 1, { type }))
    const world = new World({ vms, pools: [aPool({ target: 8 })] })
    accepted(world.run(grow(9)))
    assert.deepEqual(world.tables.pools.get(1)?.tally, world.tables.recount(1))
  })
})
