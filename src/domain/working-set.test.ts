/**
 * What the working set keeps right by itself when changes are applied: tallies, the lists of ready machines, e-mails, the
 * census and leases; and what it says has to be saved.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { aPool, aUser, aVm, NOW_MS, tablesOf, vmsOf } from '../../test/support/world.ts'
import type { NewEvent } from './event.ts'
import { plainLease } from './lease.ts'
import { countUp, type Tally } from './pool.ts'
import { FIRST_DAY } from './reset.ts'
import { VM_STATES, type Vm } from './vm.ts'
import { VM_TYPE_NAMES } from './vm-type.ts'
import { type Changes, Needs, WorkingSet } from './working-set.ts'

const EVENT: NewEvent = { type: 'vm.made', actorId: null }

/** Everything there is, loaded, with the ready machines of the pool `default` of any type and of each. */
function loaded(rows: Parameters<typeof tablesOf>[0]): WorkingSet {
  const tables = tablesOf(rows)
  const needs = new Needs()
  needs.takers = 1_000
  needs.census = true
  needs.allPools = true
  for (const id of tables.users.keys()) needs.userIds.add(id)
  for (const id of tables.vms.keys()) needs.vmIds.add(id)
  needs.readyAny.add('default')
  needs.readyOfType.set('default', new Set(VM_TYPE_NAMES))
  return new WorkingSet(tables.load(needs, NOW_MS))
}

function changes(edit: Partial<Changes>): Changes {
  return { events: [EVENT], ...edit }
}

function leased(vm: Vm, holderId: number, generation = vm.generation + 1): Vm {
  return { ...vm, state: 'leased', holderId, generation, leasedAtMs: NOW_MS }
}

function freed(vm: Vm, state: Vm['state'] = 'maintenance'): Vm {
  return { ...vm, state, holderId: null, leasedAtMs: null }
}

describe('a working set that was just loaded', () => {
  it('shows the rows, and has nothing to save', () => {
    const set = loaded({ vms: vmsOf('ready', 'leased') })
    assert.deepEqual(set.user(2), aUser(2))
    assert.deepEqual(set.userByEmail('user2@example.org'), aUser(2))
    assert.deepEqual(set.poolNamed('default'), set.pool(1))
    assert.deepEqual(set.vm(2), aVm(2, { state: 'leased' }))
    assert.deepEqual(set.census, { users: 3, vms: 2 })
    assert.equal(set.nowMs, NOW_MS)
    assert.equal(set.dirty, false)
  })

  it('knows nothing of what was not loaded', () => {
    const set = loaded({ pools: [] })
    assert.equal(set.user(9), undefined)
    assert.equal(set.userByEmail('nobody@example.org'), undefined)
    assert.equal(set.pool(9), undefined)
    assert.equal(set.poolNamed('other'), undefined)
    assert.equal(set.vm(9), undefined)
    assert.deepEqual(set.tally(9), {})
    assert.equal(set.lowestReady(9, null), undefined)
  })

  it('finds active users only by their e-mail', () => {
    const users = [aUser(1, { state: 'leaving' }), aUser(2, { state: 'gone' })]
    const set = loaded({ users })
    assert.equal(set.userByEmail('user1@example.org'), undefined)
    assert.equal(set.userByEmail('user2@example.org'), undefined)
    assert.equal(set.user(1)?.state, 'leaving')
  })

  it('takes rows that come more than once', () => {
    const { pool, tally } = tablesOf({ vms: [aVm(1)] }).pools.get(1) ?? assert.fail()
    const set = new WorkingSet({
      nowMs: NOW_MS,
      installation: FIRST_DAY,
      users: [aUser(1), aUser(1)],
      tokens: [],
      answers: [],
      pools: [
        { pool, tally },
        { pool, tally },
      ],
      vms: [aVm(1), aVm(1)],
      leases: [],
      requests: [],
      reservations: [],
      usage: [],
      books: [],
      ready: [{ poolId: 1, type: null, vmIds: [1] }],
      census: null,
    })
    set.apply(changes({ vms: [leased(aVm(1), 2)] }))
    assert.deepEqual(set.tally(1), { small: { ready: 0, leased: 1 } })
  })
})

describe('applying changes', () => {
  it('keeps tallies as if all machines were counted anew, whatever happens to them', () => {
    const change = fc.record({
      id: fc.integer({ min: 1, max: 8 }),
      state: fc.constantFrom(...VM_STATES, 'gone' as const),
      type: fc.constantFrom(...VM_TYPE_NAMES),
    })
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), (list) => {
        const set = loaded({ vms: vmsOf('ready', 'leased', 'maintenance') })
        for (const { id, state, type } of list) {
          const vm = set.vm(id)
          if (state === 'gone') set.apply(changes({ gone: vm === undefined ? [] : [vm] }))
          else if (vm !== undefined || !set.goneVms.has(id))
            set.apply(changes({ vms: [aVm(id, { type: vm?.type ?? type, state })] }))
        }
        const expected: Tally = {}
        for (const vm of set.vmsWhere(() => true)) countUp(expected, vm.type, vm.state, 1)
        for (const type of VM_TYPE_NAMES)
          for (const state of VM_STATES)
            assert.equal(set.tally(1)[type]?.[state] ?? 0, expected[type]?.[state] ?? 0)
      }),
    )
  })

  it('keeps the lowest ready machine right, of any type and of each', () => {
    const change = fc.record({
      id: fc.integer({ min: 1, max: 8 }),
      state: fc.constantFrom('ready', 'leased', 'maintenance'),
    })
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), (list) => {
        const vms = Array.from({ length: 8 }, (_, i) => aVm(i + 1, { type: i % 2 === 0 ? 'small' : 'large' }))
        const set = loaded({ vms })
        for (const { id, state } of list) {
          const vm = set.vm(id)
          assert.ok(vm)
          set.apply(changes({ vms: [state === 'leased' ? leased(vm, 2) : freed(vm, state as Vm['state'])] }))
          for (const type of [null, 'small', 'large'] as const) {
            const ready = set.vmsWhere((vm) => vm.state === 'ready' && (type === null || vm.type === type))
            assert.equal(set.lowestReady(1, type)?.id, ready[0]?.id)
          }
        }
      }),
    )
  })

  it('refuses to count a machine of a pool that was not loaded', () => {
    const set = loaded({ pools: [] })
    assert.throws(() => set.apply(changes({ vms: [aVm(1)] })), /pool 1 of VM 1 was not loaded/)
  })

  it('tells new rows from changed ones', () => {
    const set = loaded({ vms: vmsOf('ready') })
    const installation = { ...set.installation, nextUserId: 10 }
    set.apply(
      changes({
        users: [aUser(2, { name: 'New' }), aUser(9)],
        pools: [aPool({ target: 5 }), aPool({ id: 2, name: 'b' })],
        vms: [aVm(1, { state: 'cordoned' }), aVm(2)],
        installation,
      }),
    )
    assert.deepEqual([[...set.changedUsers.keys()], [...set.newUserIds]], [[2, 9], [9]])
    assert.deepEqual([[...set.changedPools.keys()], [...set.newPoolIds]], [[1, 2], [2]])
    assert.deepEqual([[...set.changedVms.keys()], [...set.loadedVms.keys()]], [[1, 2], [1]])
    assert.deepEqual(set.loadedVms.get(1), aVm(1))
    assert.equal(set.installationChanged, true)
    assert.equal(set.dirty, true)
    assert.deepEqual(set.events, [EVENT])
  })

  it('has a machine that changed and then went only go', () => {
    const set = loaded({ vms: vmsOf('deleting') })
    set.apply(changes({ vms: [aVm(1, { state: 'deleting', claim: 2 })] }))
    set.apply(changes({ gone: [aVm(1, { state: 'deleting', claim: 2 })] }))
    assert.deepEqual([[...set.changedVms.keys()], [...set.goneVms]], [[], [1]])
    assert.equal(set.vm(1), undefined)
  })

  it('says that a new row is new though it changes again in the same batch', () => {
    const set = loaded({})
    set.apply(changes({ users: [aUser(9)] }))
    set.apply(changes({ users: [aUser(9, { name: 'Again' })] }))
    assert.deepEqual([...set.newUserIds], [9])
    assert.equal(set.changedUsers.get(9)?.name, 'Again')
  })

  it('has nothing to save when a command changes nothing', () => {
    const set = loaded({})
    set.apply({ events: [] })
    assert.equal(set.dirty, false)
  })

  it('has to save machines that changed without leaving a fact behind', () => {
    const set = loaded({ vms: vmsOf('maintenance') })
    set.apply({ vms: [aVm(1, { state: 'maintenance', claim: 2 })], events: [] })
    assert.equal(set.dirty, true)
  })

  it('counts active users and all machines in the census', () => {
    const set = loaded({ vms: vmsOf('ready', 'deleting') })
    set.apply(changes({ users: [aUser(9)] }))
    assert.equal(set.census?.users, 4)
    set.apply(changes({ users: [aUser(9, { state: 'leaving' })] }))
    set.apply(changes({ users: [aUser(9, { state: 'gone' })] }))
    assert.equal(set.census?.users, 3)
    set.apply(changes({ vms: [aVm(3), aVm(4)] }))
    assert.equal(set.census?.vms, 4)
    set.apply(changes({ gone: [aVm(2, { state: 'deleting' })] }))
    assert.equal(set.census?.vms, 3)
  })
})

describe('e-mails', () => {
  it('lead to who has them now', () => {
    const set = loaded({})
    set.apply(changes({ users: [aUser(2, { email: 'new@example.org' })] }))
    assert.equal(set.userByEmail('user2@example.org'), undefined)
    assert.equal(set.userByEmail('new@example.org')?.id, 2)
    set.apply(changes({ users: [aUser(3, { email: 'user2@example.org' })] }))
    assert.equal(set.userByEmail('user2@example.org')?.id, 3)
    set.apply(changes({ users: [aUser(3, { email: 'user2@example.org', state: 'leaving' })] }))
    assert.equal(set.userByEmail('user2@example.org'), undefined)
  })

  it('stay with who has them when somebody who had them before changes', () => {
    const users = [aUser(1), aUser(2, { email: 'user1@example.org', state: 'leaving' })]
    const set = loaded({ users })
    set.apply(changes({ users: [aUser(2, { email: 'user1@example.org', state: 'gone' })] }))
    assert.equal(set.userByEmail('user1@example.org')?.id, 1)
  })
})

describe('leases', () => {
  it('begin with a holder and end without one, each under its generation', () => {
    const set = loaded({ vms: [aVm(1, { generation: 3 })] })
    const vm = leased(aVm(1, { generation: 3 }), 2)
    set.apply(changes({ vms: [vm] }))
    set.apply(changes({ vms: [freed(vm)] }))
    const lease = plainLease({ vmId: 1, generation: 4, poolId: 1, userId: 2, fromMs: NOW_MS })
    assert.deepEqual(
      [...set.changedLeases.values()],
      [{ ...lease, endedAtMs: NOW_MS, endedBy: 'checked_in' }],
    )
    assert.deepEqual([...set.newLeases], ['1 4'])
  })

  it('are not touched by changes that leave the holder as it is', () => {
    const vm = aVm(1, { state: 'leased' })
    const set = loaded({ vms: [vm] })
    set.apply(changes({ vms: [{ ...vm, name: 'renamed' }] }))
    assert.equal(set.changedLeases.size, 0)
  })

  it('end and begin when a machine goes from one holder to the next', () => {
    const vm = aVm(1, { state: 'leased' })
    const set = loaded({ vms: [vm] })
    set.apply(changes({ vms: [leased(vm, 3)] }))
    assert.deepEqual(
      [...set.changedLeases.values()].map(({ generation, userId, endedAtMs }) => [
        generation,
        userId,
        endedAtMs,
      ]),
      [
        [1, 2, NOW_MS],
        [2, 3, null],
      ],
    )
  })
})

describe('wiping', () => {
  it('leaves nothing of the rows and of what was to be saved, but what comes after it', () => {
    const set = loaded({ vms: vmsOf('ready') })
    set.apply(changes({ users: [aUser(9)], vms: [aVm(2), leased(aVm(1), 2)] }))
    set.apply({ wipe: true, installation: FIRST_DAY, events: [{ type: 'installation.reset', actorId: 1 }] })
    assert.equal(set.wiped, true)
    assert.deepEqual(set.census, { users: 0, vms: 0 })
    assert.equal(set.user(1), undefined)
    assert.equal(set.userByEmail('user1@example.org'), undefined)
    assert.equal(set.poolNamed('default'), undefined)
    assert.deepEqual(
      set.vmsWhere(() => true),
      [],
    )
    assert.equal(set.lowestReady(1, null), undefined)
    assert.deepEqual([set.changedUsers.size, set.changedPools.size, set.changedVms.size], [0, 0, 0])
    assert.deepEqual([set.goneVms.size, set.changedLeases.size], [0, 0])
    assert.deepEqual(set.events, [{ type: 'installation.reset', actorId: 1 }])
  })

  it('makes ids that are given out again those of new rows', () => {
    const set = loaded({ vms: vmsOf('ready') })
    set.apply({ wipe: true, installation: FIRST_DAY, events: [EVENT] })
    set.apply(changes({ users: [aUser(1)], pools: [aPool({ target: 1 })], vms: [aVm(1)] }))
    assert.deepEqual([[...set.newUserIds], [...set.newPoolIds]], [[1], [1]])
    assert.equal(set.loadedVms.has(1), false)
    assert.deepEqual(set.tally(1), { small: { ready: 1 } })
  })
})
