/** Pools: made with their policies, changed by those who have seen them, deleted when they are empty; names lead to one pool each. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { ADMIN, accepted, aPool, assertRefused, aVm, USER, vmsOf, World } from '../../test/support/world.ts'
import { DEFAULT_POLICY, EMPTY_QUEUE, type PoolPolicy, sizePreview, type Tally } from './pool.ts'
import { poolEtag } from './pool-policy.ts'
import { VM_STATES } from './vm.ts'

const requestId = 'r'

function create(world: World, name: string, policy: Partial<PoolPolicy> = {}, actor = ADMIN) {
  return world.run({ kind: 'createPool', actor, name, size: 3, policy, requestId })
}

function change(
  world: World,
  policy: Partial<PoolPolicy>,
  {
    size = null,
    ifMatch = null,
    pool = 'default',
  }: { size?: number | null; ifMatch?: string[] | null; pool?: string } = {},
) {
  return world.run({ kind: 'changePool', actor: ADMIN, pool, size, policy, ifMatch, requestId })
}

function remove(world: World, ifMatch: string[] | null = null) {
  return world.run({ kind: 'deletePool', actor: ADMIN, pool: 'default', ifMatch, requestId })
}

describe('making a pool', () => {
  it('gives it its name, its size and its policies, the usual ones where nothing is said', () => {
    const world = new World()
    const { pool } = accepted(create(world, 'lab', { typeMix: { large: 1 }, leaseSecondsDefault: 60 }))
    assert.deepEqual(pool, {
      ...DEFAULT_POLICY,
      ...{ typeMix: { large: 1 }, leaseSecondsDefault: 60 },
      ...{ id: 2, name: 'lab', target: 3, createdAtMs: world.nowMs, queue: pool.queue },
    })
    assert.deepEqual({ ...world.pool(2), queue: pool.queue }, pool)
    assert.equal(world.lastEvent.type, 'pool.created')
  })

  it('is for admins', () => assertRefused(create(new World(), 'lab', {}, USER), 'not_allowed'))

  it('is refused when its name or an alias leads to another pool, or is given twice', () => {
    const world = new World({ pools: [aPool({ aliases: ['old'] })] })
    for (const [name, aliases] of [
      ['default', []],
      ['old', []],
      ['lab', ['default']],
      ['lab', ['x', 'old']],
      ['lab', ['lab']],
      ['lab', ['x', 'x']],
    ] as [string, string[]][])
      assertRefused(create(world, name, { aliases }), 'pool_name_taken')
    accepted(create(world, 'lab', { aliases: ['x', 'y'] }))
  })
})

describe('policies', () => {
  const wrong: [string, Partial<PoolPolicy>, string][] = [
    ['a mix of a size that there is none of', { typeMix: { small: 1, giant: 0 } }, 'type_mix'],
    ['a mix of nothing', { typeMix: { small: 0 } }, 'type_mix'],
    ['a cost for a size that there is none of', { units: { giant: 2 } }, 'units'],
    [
      'leases that are usually longer than they may be',
      { leaseSecondsDefault: 9, leaseSecondsMax: 5 },
      'lease_default',
    ],
    ['leases that usually have no end where they must have one', { leaseSecondsMax: 5 }, 'lease_default'],
  ]
  for (const [what, policy, field] of wrong)
    it(`are refused: ${what}`, () => {
      const world = new World()
      for (const answer of [create(world, 'lab', policy), change(world, policy)]) {
        assertRefused(answer, 'field_invalid')
        assert.equal((answer as unknown as { details: { field: string } }).details.field, field)
      }
    })

  it('change one by one, with an event that tells what they were', () => {
    const world = new World()
    const { pool } = accepted(change(world, { warnSeconds: 5, labels: { os: 'debian' } }, { size: 4 }))
    assert.deepEqual(pool, { ...aPool(), warnSeconds: 5, labels: { os: 'debian' }, target: 4 })
    const [changed, resized] = world.tables.events.slice(-2)
    assert.deepEqual(changed?.data, { labels: [{}, { os: 'debian' }], warnSeconds: [600, 5] })
    assert.deepEqual(resized?.data, { from: 0, to: 4 })
  })

  it('that stay as they are leave no event', () => {
    const world = new World()
    accepted(change(world, { warnSeconds: 600, typeMix: { ...DEFAULT_POLICY.typeMix } }, { size: 0 }))
    assert.equal(world.tables.events.length, 0)
  })

  it('change for whoever has seen them as they are', () => {
    const world = new World()
    const seen = poolEtag(world.pool())
    accepted(change(world, { warnSeconds: 5 }, { ifMatch: [seen] }))
    assertRefused(change(world, { warnSeconds: 6 }, { ifMatch: [seen] }), 'etag_stale')
    accepted(change(world, { warnSeconds: 6 }, { ifMatch: [seen, poolEtag(world.pool())] }))
  })

  it('do not change of a pool that is not there', () => {
    assertRefused(change(new World(), { warnSeconds: 5 }, { pool: 'none' }), 'pool_unknown')
  })

  it('may say that aliases go to another pool once this one lets go of them', () => {
    const world = new World({ pools: [aPool({ aliases: ['old'] }), aPool({ id: 2, name: 'b' })] })
    assertRefused(change(world, { aliases: ['old'] }, { pool: 'b' }), 'pool_name_taken')
    accepted(change(world, { aliases: [] }))
    accepted(change(world, { aliases: ['old'] }, { pool: 'b' }))
  })
})

describe('the size of a pool', () => {
  it('may be below what is in use: the rest goes when it comes back', () => {
    const world = new World({ vms: vmsOf('leased', 'leased', 'ready') })
    assert.equal(accepted(change(world, {}, { size: 0 })).pool.target, 0)
  })

  it('is previewed: what would be made, removed at once, and waited for', () => {
    const tally: Tally = {
      small: { ready: 2, leased: 3, maintenance: 1 },
      large: { provisioning: 1, deleting: 4 },
    }
    assert.deepEqual(sizePreview(tally, 9), { existing: 7, made: 2, removed: 0, waitsFor: {} })
    assert.deepEqual(sizePreview(tally, 7), { existing: 7, made: 0, removed: 0, waitsFor: {} })
    assert.deepEqual(sizePreview(tally, 5), { existing: 7, made: 0, removed: 2, waitsFor: {} })
    assert.deepEqual(sizePreview(tally, 1), {
      ...{ existing: 7, made: 0, removed: 3 },
      waitsFor: { leased: 3, maintenance: 1 },
    })
  })

  it('is reached by what the preview says, however the machines stand', () => {
    const state = fc.constantFrom(...VM_STATES)
    fc.assert(
      fc.property(fc.array(state, { maxLength: 12 }), fc.nat(12), (states, size) => {
        const world = new World({ vms: vmsOf(...states) })
        const { made, removed, waitsFor } = sizePreview(world.tables.recount(1), size)
        const before = world.tables.vms.size
        const doomed = world.idsIn('deleting').length
        accepted(change(world, {}, { size }))
        const grown = accepted(world.run({ kind: 'growPool', poolId: 1, machinesMax: 100, claimMs: 1 }))
        accepted(world.run({ kind: 'shrinkPool', poolId: 1, machinesMax: 100 }))
        assert.equal(grown.planned.length, made)
        assert.equal(world.tables.vms.size - before, made)
        assert.equal(world.idsIn('deleting').length - doomed, removed)
        const existing = states.length - doomed + made - removed
        assert.equal(existing > size, Object.keys(waitsFor).length > 0)
      }),
    )
  })
})

describe('deleting a pool', () => {
  it('is possible when it is empty; its name is free again, and its row stays for what points at it', () => {
    const world = new World({ pools: [aPool({ aliases: ['old'] })] })
    assertRefused(remove(world, ['"other"']), 'etag_stale')
    accepted(remove(world))
    assert.deepEqual([world.pool().retired, world.pool().name], [true, 'default~1'])
    assertRefused(remove(world), 'pool_unknown')
    assertRefused(change(world, {}, { pool: 'default~1' }), 'pool_unknown')
    accepted(create(world, 'default', { aliases: ['old'] }))
  })

  for (const [why, pool, vms] of [
    ['it has a size', { target: 1 }, []],
    ['it has machines', {}, [aVm(1)]],
    ['its machines are being destroyed', {}, [aVm(1, { state: 'deleting' })]],
    ['somebody waits', { queue: { ...EMPTY_QUEUE, waiting: 1 } }, []],
    ['something is booked', { queue: { ...EMPTY_QUEUE, booked: 1 } }, []],
  ] as const)
    it(`is refused while ${why}`, () => {
      assertRefused(remove(new World({ pools: [aPool(pool)], vms })), 'pool_not_empty')
    })

  it('lets the original API make its pool anew in the same batch', () => {
    const world = new World()
    const answers = world.batch(
      { kind: 'deletePool', actor: ADMIN, pool: 'default', ifMatch: null, requestId },
      { kind: 'sizePool', actor: ADMIN, pool: 'default', size: 2, policy: {}, requestId },
    )
    assert.deepEqual(answers, [null, { poolId: 2, outcome: 'created' }])
  })
})
