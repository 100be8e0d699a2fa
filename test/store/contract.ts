/**
 * What every store has to do, whatever database is behind it: load exactly what was asked for, save everything or nothing,
 * guard what changed meanwhile, and answer reads. `storeContract` declares the tests for one store; each test has its own.
 */

import assert from 'node:assert/strict'
import { afterEach, describe, it } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import fc from 'fast-check'
import type { Answer } from '../../src/domain/answer.ts'
import { needsOf } from '../../src/domain/command.ts'
import type { Event, NewEvent } from '../../src/domain/event.ts'
import { type Lease, plainLease } from '../../src/domain/lease.ts'
import { DEFAULT_POLICY, EMPTY_QUEUE, type Pool, type Tally } from '../../src/domain/pool.ts'
import { FIRST_DAY } from '../../src/domain/reset.ts'
import type { Token } from '../../src/domain/token.ts'
import type { User } from '../../src/domain/user.ts'
import { POWER_STATES, VM_STATES, type Vm, type VmState } from '../../src/domain/vm.ts'
import { VM_TYPE_NAMES } from '../../src/domain/vm-type.ts'
import { type Changes, type LoadedRows, Needs, WorkingSet } from '../../src/domain/working-set.ts'
import type { Store, VmFilter, VmListing } from '../../src/store/port.ts'
import { type Claimed, claimedIn, commandOf, comparable, histories, wholly } from '../support/histories.ts'
import {
  aPool,
  aUser,
  aVm,
  counts,
  decideAllIn,
  NOW_MS,
  unversioned,
  vmsOf,
  World,
} from '../support/world.ts'

interface OpenedStore {
  readonly store: Store
  /** All lease rows, for a store that lets a test look at them: reads do not show them yet. */
  readonly leases: (() => Lease[] | Promise<Lease[]>) | null
  /** Removes what a closed store leaves behind. */
  remove(): Promise<void>
}

export interface StoreUnderTest {
  readonly name: string
  /** Opens an empty store with this clock. */
  open(now: () => number): Promise<OpenedStore>
  /** How many random histories to play; few where opening takes long, and then one that fails is not made smaller. */
  readonly histories: number
}

const EVENT: NewEvent = { type: 'vm.made', actorId: null }
const FROM_START = { afterId: 0, rowsMax: 1_000 }

export function storeContract({ name, open, histories: historiesMax }: StoreUnderTest): void {
  let opened: OpenedStore | null = null
  let nowMs = NOW_MS

  async function fresh(): Promise<Store> {
    await end()
    nowMs = NOW_MS
    opened = await open(() => nowMs)
    return opened.store
  }

  async function end(): Promise<void> {
    const before = opened
    opened = null
    await before?.store.close()
    await before?.remove()
  }

  afterEach(end)

  describe(`${name}: loading`, () => {
    it('gives an empty store’s time and installation, and nothing that was not asked for', async () => {
      const store = await fresh()
      await save(store, { users: [aUser(1)], pools: [aPool()], vms: [aVm(1)] })
      assert.deepEqual(await loaded(store), {
        nowMs: NOW_MS,
        installation: FIRST_DAY,
        users: [],
        tokens: [],
        answers: [],
        pools: [],
        vms: [],
        leases: [],
        requests: [],
        reservations: [],
        usage: [],
        books: [],
        ready: [],
        census: null,
      })
    })

    it('gives users by id, in whatever state they are, and passes over ids that nobody has', async () => {
      const store = await fresh()
      const users = [aUser(1), aUser(2, { state: 'leaving' }), aUser(3, { state: 'gone' }), aUser(4)]
      await save(store, { users })
      const rows = await loaded(store, (needs) => add(needs.userIds, 1, 2, 3, 9))
      assert.deepEqual(byId(rows.users), users.slice(0, 3))
    })

    it('gives active users by e-mail, with its case', async () => {
      const store = await fresh()
      const email = 'a@example.org'
      await save(store, { users: [aUser(1), aUser(2, { email, state: 'gone' }), aUser(3, { email })] })
      const rows = await loaded(store, (needs) =>
        add(needs.emails, email, 'User1@example.org', 'nobody@example.org'),
      )
      assert.deepEqual(rows.users, [aUser(3, { email })])
    })

    it('gives pools by id and by name, each with its tally', async () => {
      const store = await fresh()
      const pools = [1, 2, 3, 4].map((id) => aPool({ id, name: `pool ${id}` }))
      await save(store, { pools, vms: [aVm(1), aVm(2, { poolId: 3, type: 'large', state: 'deleting' })] })
      const rows = await loaded(store, (needs) => {
        add(needs.poolIds, 1, 9)
        add(needs.poolNames, 'pool 1', 'pool 3', 'none')
      })
      assert.deepEqual(poolsById(rows.pools), [
        [pools[0], { 'small ready': 1 }],
        [pools[2], { 'large deleting': 1 }],
      ])
    })

    it('gives machines by id, with their pools', async () => {
      const store = await fresh()
      const pools = [aPool(), aPool({ id: 2, name: 'b' })]
      await save(store, { users: [aUser(2)], pools, vms: [aVm(1), aVm(2, { poolId: 2 }), aVm(3)] })
      const rows = await loaded(store, (needs) => add(needs.vmIds, 2, 9))
      assert.deepEqual(byId(rows.vms), [aVm(2, { poolId: 2 })])
      assert.deepEqual(poolsById(rows.pools), [[pools[1], { 'small ready': 1 }]])
    })

    it('gives rows as they were saved, every column of them', async () => {
      const store = await fresh()
      const user: User = {
        id: 2,
        name: 'Zoë "山田" O’Neil',
        email: "o'neil+x@example.org",
        role: 'admin',
        passwordHash: '$argon2id$v=19$…',
        credentialVersion: 12,
        quota: { machinesMax: 3, vcpuMax: null, hoursWeekMax: 40, waitingMax: 1 },
        state: 'active',
        createdAtMs: 1,
      }
      const pool: Pool = {
        ...DEFAULT_POLICY,
        labels: { site: 'A' },
        aliases: ['seven'],
        leaseSecondsMax: 3_600,
        userIds: [2],
        providerSettings: { image: 'x', list: [1, { deep: null }] },
        quota: { machinesMax: 2, vcpuMax: 8, hoursWeekMax: null, waitingMax: null },
        units: { large: 4 },
        queue: {
          ...EMPTY_QUEUE,
          v: 1.25,
          departed: 3,
          nextSeq: 9,
          cleaning: { small: { meanMs: 1.5, deviationMs: 0.25 } },
          holds: { n: 2, mean: 30.5, m2: 4.75 },
        },
        id: 7,
        name: 'pool "7" (ü)',
        target: 1_000_000,
        typeMix: { large: 3, small: 1 },
        cleaning: 'automatic',
        provider: 'elsewhere',
        createdAtMs: 2,
      }
      const vm: Vm = {
        id: 900_000,
        poolId: 7,
        name: 'vm "é"',
        type: 'xlarge',
        class: 'xlarge,os=debian#900000',
        freeAtMs: 9,
        address: 'fe80::1',
        power: 'stopped',
        state: 'leased',
        generation: 41,
        holderId: 2,
        leasedAtMs: 3,
        dueAtMs: 4,
        claim: 5,
        busyUntilMs: 8,
        attempts: 6,
        failure: 'it said "no"',
        createdAtMs: 7,
      }
      const bare = aVm(900_001, { poolId: 7, address: '', dueAtMs: null, failure: null })
      await save(store, { users: [user], pools: [pool], vms: [vm, bare] })
      const rows = await loaded(store, (needs) => {
        add(needs.userIds, 2)
        add(needs.vmIds, 900_000, 900_001)
      })
      assert.deepEqual(rows.users, [user])
      assert.deepEqual(byId(rows.vms), [vm, bare])
      assert.deepEqual(poolsById(rows.pools), [
        [pool, { 'xlarge,os=debian#900000 leased': 1, 'small ready': 1 }],
      ])
    })

    it('gives the ready machines of a pool with the lowest ids, as many as there are takers', async () => {
      const store = await fresh()
      const vms = [
        ...vmsOf('leased', 'ready', 'maintenance', 'ready', 'ready'),
        aVm(6, { poolId: 2 }),
        aVm(7, { type: 'large' }),
      ]
      await save(store, { users: [aUser(2)], pools: [aPool(), aPool({ id: 2, name: 'b' })], vms })
      const rows = await loaded(store, (needs) => {
        needs.takers = 3
        add(needs.poolNames, 'default', 'none')
        add(needs.readyAny, 'default', 'none')
      })
      assert.deepEqual(rows.ready, [{ poolId: 1, type: null, vmIds: [2, 4, 5] }])
      assert.deepEqual(idsOf(rows.vms), [2, 4, 5])
    })

    it('gives the ready machines of a type with the lowest ids, beside those of any type', async () => {
      const store = await fresh()
      const types = ['large', 'small', 'large', 'small', 'large', 'large'] as const
      await save(store, { pools: [aPool()], vms: types.map((type, i) => aVm(i + 1, { type })) })
      const rows = await loaded(store, (needs) => {
        needs.takers = 2
        add(needs.poolNames, 'default')
        add(needs.readyAny, 'default')
        needs.readyOfType.set('default', new Set(['large', 'xlarge']))
      })
      assert.deepEqual(
        rows.ready.toSorted((a, b) => `${a.type}`.localeCompare(`${b.type}`)),
        [
          { poolId: 1, type: 'large', vmIds: [1, 3] },
          { poolId: 1, type: null, vmIds: [1, 2] },
          { poolId: 1, type: 'xlarge', vmIds: [] },
        ],
      )
      assert.deepEqual(idsOf(rows.vms), [1, 2, 3])
    })

    it('gives machines that a shrink may take, of each kind those with the highest ids', async () => {
      const store = await fresh()
      const vms = [
        ...vmsOf('ready', 'provisioning', 'ready', 'ready', 'provisioning', 'provisioning', 'leased'),
        ...vmsOf('deleting', 'maintenance', 'failed', 'cordoned').map((vm) => ({ ...vm, id: vm.id + 7 })),
        aVm(12, { poolId: 2 }),
      ]
      await save(store, { users: [aUser(2)], pools: [aPool(), aPool({ id: 2, name: 'b' })], vms })
      const rows = await loaded(store, (needs) => {
        needs.takers = 2
        needs.removable.set(1, 2)
      })
      assert.deepEqual(idsOf(rows.vms), [3, 4, 5, 6])
      assert.deepEqual(
        rows.pools.map(({ pool }) => pool.id),
        [1],
      )
    })

    it('gives machines of a pool and state that are due, the longest due first', async () => {
      const store = await fresh()
      const due = (id: number, dueAtMs: number | null, state: Vm['state'] = 'maintenance') =>
        aVm(id, { state, dueAtMs })
      const vms = [
        due(1, NOW_MS - 1),
        due(2, NOW_MS + 1),
        due(3, NOW_MS - 3),
        due(4, null),
        due(5, NOW_MS - 2),
        due(6, NOW_MS - 9, 'deleting'),
        due(7, NOW_MS),
        due(8, NOW_MS - 4),
        { ...due(9, NOW_MS - 9), poolId: 2 },
      ]
      await save(store, { pools: [aPool(), aPool({ id: 2, name: 'b' })], vms })
      const some = await loaded(store, (needs) => needs.due.set(1, new Map([['maintenance', 3]])))
      assert.deepEqual(idsOf(some.vms), [3, 5, 8])
      const all = await loaded(store, (needs) => {
        needs.due.set(
          1,
          new Map<VmState, number>([
            ['maintenance', 9],
            ['deleting', 9],
          ]),
        )
      })
      assert.deepEqual(idsOf(all.vms), [1, 3, 5, 6, 7, 8])
      assert.deepEqual(poolsById(all.pools).length, 1)
    })

    it('gives machines that somebody holds, no more than asked for', async () => {
      const store = await fresh()
      const vms = vmsOf('leased', 'leased', 'ready', 'leased', 'leased')
      const other = aVm(6, { state: 'leased', holderId: 3 })
      await save(store, { users: [aUser(2), aUser(3)], pools: [aPool()], vms: [...vms, other] })
      const rows = await loaded(store, (needs) => needs.heldBy.set(2, 3).set(3, 3).set(9, 3))
      const holders = rows.vms.map((vm) => vm.holderId)
      assert.deepEqual(holders.toSorted(), [2, 2, 2, 3])
    })

    it('gives machines that stand, of whatever state but deleting, no more than asked for', async () => {
      const store = await fresh()
      await save(store, { users: [aUser(2)], pools: [aPool()], vms: vmsOf(...VM_STATES, 'deleting') })
      const some = await loaded(store, (needs) => {
        needs.standing = 4
      })
      assert.equal(some.vms.length, 4)
      const all = await loaded(store, (needs) => {
        needs.standing = 100
      })
      assert.deepEqual(
        new Set(all.vms.map(({ state }) => state)),
        new Set(VM_STATES.filter((state) => state !== 'deleting')),
      )
    })

    it('counts active users and all machines when it is asked for', async () => {
      const store = await fresh()
      const empty = await loaded(store, (needs) => {
        needs.census = true
      })
      assert.deepEqual(empty.census, { users: 0, vms: 0 })
      const users = [aUser(1), aUser(2), aUser(3, { state: 'leaving' }), aUser(4, { state: 'gone' })]
      const pools = [aPool(), aPool({ id: 2, name: 'b' })]
      const vms = [...vmsOf('ready', 'leased', 'deleting'), aVm(4, { poolId: 2 })]
      await save(store, { users, pools, vms })
      const rows = await loaded(store, (needs) => {
        needs.census = true
      })
      assert.deepEqual(rows.census, { users: 2, vms: 4 })
    })
  })

  describe(`${name}: saving`, () => {
    it('saves all that changed, old rows and new ones, and nothing else', async () => {
      const store = await fresh()
      const vms = [aVm(1), aVm(2, { state: 'leased' }), aVm(3, { state: 'deleting' })]
      await save(store, { users: [aUser(1), aUser(2)], pools: [aPool()], vms })
      const changed: Changes = {
        installation: { ...FIRST_DAY, nextUserId: 4, nextVmId: 5, nextPoolId: 3 },
        users: [aUser(2, { name: 'New', credentialVersion: 2, state: 'leaving' }), aUser(3)],
        pools: [aPool({ target: 9, cleaning: 'automatic' }), aPool({ id: 2, name: 'b' })],
        vms: [
          { ...aVm(2), state: 'maintenance', generation: 1, claim: 7, attempts: 2, dueAtMs: 8, failure: 'x' },
          aVm(4, { poolId: 2 }),
        ],
        gone: [aVm(3, { state: 'deleting' })],
        events: [EVENT],
      }
      await save(store, changed)
      const rows = await everything(store)
      assert.deepEqual(rows.installation, changed.installation)
      assert.deepEqual(byId(rows.users), [aUser(1), ...(changed.users ?? [])])
      assert.deepEqual(byId(rows.vms), [aVm(1), ...(changed.vms ?? [])])
      const [first, second] = changed.pools ?? []
      assert.deepEqual(poolsById(rows.pools), [
        [first, { 'small ready': 1, 'small maintenance': 1 }],
        [second, { 'small ready': 1 }],
      ])
    })

    it('keeps a reset under way', async () => {
      const store = await fresh()
      const reset = { actorId: 1, requestId: null, atMs: 5, users: 2, vms: 3 }
      const installation = { ...FIRST_DAY, state: 'resetting', reset } as const
      await save(store, { installation })
      assert.deepEqual((await loaded(store)).installation, installation)
      assert.deepEqual(await store.reads.installation(), installation)
    })

    it('gives events ids that go up by one and the time of their batch, and leaves out what they do not have', async () => {
      const store = await fresh()
      const full: NewEvent = {
        type: 'vm.checked_out',
        actorId: 1,
        poolId: 2,
        vmId: 3,
        userId: 4,
        requestId: 'r-1 "é"',
        data: { text: 'ä', list: [1, [2]], nothing: null },
      }
      const { lastEventId, commitMs } = await save(store, { events: [full, EVENT] })
      assert.equal(lastEventId, 2)
      assert.ok(commitMs >= 0)
      nowMs += 10
      assert.equal((await save(store, { events: [EVENT] })).lastEventId, 3)
      assert.deepEqual(await store.reads.events(FROM_START), [
        { id: 1, atMs: NOW_MS, ...full },
        { id: 2, atMs: NOW_MS, ...EVENT },
        { id: 3, atMs: NOW_MS + 10, ...EVENT },
      ])
    })

    it('saves machines that changed without leaving an event behind', async () => {
      const store = await fresh()
      await save(store, { pools: [aPool()], vms: [aVm(1, { state: 'deleting' })] })
      await save(store, { vms: [aVm(1, { state: 'deleting', claim: 2, attempts: 1 })], events: [] })
      const rows = await loaded(store, (needs) => add(needs.vmIds, 1))
      assert.deepEqual(rows.vms, [aVm(1, { state: 'deleting', claim: 2, attempts: 1 })])
    })

    it('changes nothing when a batch is released, and takes the next one', async () => {
      const store = await fresh()
      await save(store, { users: [aUser(1)], pools: [aPool()], vms: [aVm(1)] })
      const before = await everything(store)
      const needs = new Needs()
      add(needs.vmIds, 1)
      const batch = await store.begin(needs)
      new WorkingSet(batch.rows).apply({ vms: [aVm(1, { state: 'cordoned' })], events: [EVENT] })
      await batch.release()
      assert.deepEqual(await everything(store), before)
      await save(store, { users: [aUser(2)] })
    })

    it('shows reads what was committed as soon as the commit is told of', async () => {
      const store = await fresh()
      for (let id = 1; id <= 20; id++) {
        const reading = store.reads.user(id)
        assert.equal(await reading, null)
        await save(store, { users: [aUser(id)] })
        assert.deepEqual(await store.reads.user(id), aUser(id))
      }
    })

    it('saves leases as they begin and end, also within one batch', async () => {
      const store = await fresh()
      const { leases } = opened ?? assert.fail()
      // A database in memory shows them to nobody; the same code is looked at in a folder.
      if (leases === null) return
      const held = aVm(1, { state: 'leased', generation: 3, leasedAtMs: NOW_MS })
      await save(store, { users: [aUser(2)], pools: [aPool()], vms: [aVm(1, { generation: 2 }), aVm(2)] })
      await save(store, { vms: [held] })
      const first = plainLease({ vmId: 1, generation: 3, poolId: 1, userId: 2, fromMs: NOW_MS })
      assert.deepEqual(await leases(), [first])
      nowMs += 50
      await save(store, { vms: [{ ...held, state: 'maintenance', holderId: null, leasedAtMs: null }] })
      const ended = { endedAtMs: nowMs, endedBy: 'checked_in' } as const
      assert.deepEqual(await leases(), [{ ...first, ...ended }])
      const short = aVm(2, { state: 'leased', generation: 1, leasedAtMs: nowMs })
      await saveInSteps(store, { vms: [short] }, { vms: [aVm(2, { state: 'maintenance', generation: 1 })] })
      assert.deepEqual(await leases(), [
        { ...first, ...ended },
        { ...plainLease({ vmId: 2, generation: 1, poolId: 1, userId: 2, fromMs: nowMs }), ...ended },
      ])
    })

    it('wipes all rows but the events that come with it, and event ids go on from where they were', async () => {
      const store = await fresh()
      const { leases } = opened ?? assert.fail()
      await save(store, {
        installation: { ...FIRST_DAY, nextUserId: 9 },
        users: [aUser(1), aUser(2)],
        pools: [aPool()],
        vms: vmsOf('leased', 'ready'),
        events: [EVENT, EVENT],
      })
      const reset: NewEvent = { type: 'installation.reset', actorId: 1 }
      const { lastEventId } = await save(store, { wipe: true, installation: FIRST_DAY, events: [reset] })
      assert.equal(lastEventId, 3)
      const rows = await everything(store)
      assert.deepEqual([rows.users, rows.pools, rows.vms], [[], [], []])
      assert.deepEqual(rows.installation, FIRST_DAY)
      assert.deepEqual(rows.census, { users: 0, vms: 0 })
      assert.deepEqual(await store.reads.events(FROM_START), [{ id: 3, atMs: NOW_MS, ...reset }])
      assert.deepEqual((await leases?.()) ?? [], [])
    })

    it('saves what comes after a wipe in the same batch, under ids that were used before it', async () => {
      const store = await fresh()
      await save(store, { users: [aUser(1), aUser(2)], pools: [aPool()], vms: [aVm(1)] })
      await saveInSteps(
        store,
        { wipe: true, installation: FIRST_DAY },
        { users: [aUser(1, { name: 'New' })], pools: [aPool({ target: 3 })] },
      )
      const rows = await everything(store)
      assert.deepEqual(rows.users, [aUser(1, { name: 'New' })])
      assert.deepEqual(poolsById(rows.pools), [[aPool({ target: 3 }), {}]])
    })
  })

  describe(`${name}: sizes of machine and retired pools`, () => {
    it('are kept with the installation, in their order', async () => {
      const store = await fresh()
      const more = ['tiny', 'a-1'].map((name) => ({ name, vcpu: 1, memoryMb: 512 }))
      const vmTypes = [...FIRST_DAY.vmTypes, ...more]
      await save(store, { installation: { ...FIRST_DAY, vmTypes } })
      const { installation } = await loaded(store)
      assert.deepEqual(installation.vmTypes, vmTypes)
      assert.deepEqual(await store.reads.installation(), installation)
    })

    it('leave the list of pools, and are found by their ids', async () => {
      const store = await fresh()
      const retired = aPool({ name: 'default~1', retired: true })
      await save(store, { pools: [aPool(), aPool({ id: 2, name: 'b' })] })
      await save(store, { pools: [retired] })
      assert.deepEqual(
        (await store.reads.pools()).map(({ pool }) => pool.name),
        ['b'],
      )
      assert.equal((await store.reads.pool(1))?.pool.retired, true)
      assert.equal(await store.reads.poolNamed('default'), null)
    })
  })

  describe(`${name}: tokens`, () => {
    const token = (n: number, edit: Partial<Token> = {}): Token => ({
      id: `tok_0${n}`,
      userId: 1,
      name: `Zoë’s "${n}"`,
      hash: `hash ${n}`,
      credentialVersion: 3,
      createdAtMs: NOW_MS,
      expiresAtMs: null,
      lastUsedAtMs: null,
      revokedAtMs: null,
      scopes: null,
      ...edit,
    })
    const full = token(2, { userId: 2, expiresAtMs: 1, lastUsedAtMs: 2, revokedAtMs: 3, scopes: 'read' })
    const users = [aUser(1), aUser(2)]

    it('are loaded by id and by owner, and read by id, by hash and by owner', async () => {
      const store = await fresh()
      const tokens = [token(3), token(1), full]
      await save(store, { users, tokens })
      const byIds = await loaded(store, (needs) => add(needs.tokenIds, 'tok_02', 'tok_09'))
      assert.deepEqual(byIds.tokens, [full])
      const byOwner = await loaded(store, (needs) => {
        add(needs.tokensOf, 1, 9)
        add(needs.tokenIds, 'tok_01')
      })
      const ids = new Set(byOwner.tokens.map(({ id }) => id))
      assert.deepEqual([...ids].sort(), ['tok_01', 'tok_03'])
      const { reads } = store
      assert.deepEqual(await reads.token('tok_02'), full)
      assert.deepEqual(await reads.token('tok_09'), null)
      assert.deepEqual(await reads.tokenByHash('hash 1'), token(1))
      assert.deepEqual(await reads.tokenByHash('hash'), null)
      assert.deepEqual(await reads.tokensOf(1), [token(1), token(3)])
    })

    it('change when and whether they were used and revoked, and go', async () => {
      const store = await fresh()
      await save(store, { users, tokens: [token(1), token(2), token(3)] })
      const used = token(1, { lastUsedAtMs: 7 })
      const revoked = token(2, { revokedAtMs: 8 })
      await save(store, { tokens: [used, revoked], goneTokens: [token(3)], events: [] })
      assert.deepEqual(await store.reads.tokensOf(1), [used, revoked])
    })

    it('have hashes that no other has', async () => {
      const store = await fresh()
      await save(store, { users, tokens: [token(1)] })
      await assert.rejects(save(store, { tokens: [token(2, { hash: 'hash 1' })] }))
      assert.deepEqual(await store.reads.tokensOf(1), [token(1)])
    })

    it('go with a wipe', async () => {
      const store = await fresh()
      await save(store, { users, tokens: [token(1)] })
      await save(store, { wipe: true, installation: FIRST_DAY })
      assert.deepEqual(await store.reads.tokensOf(1), [])
    })
  })

  describe(`${name}: answers`, () => {
    const answer = (userId: number, key: string, edit: Partial<Answer> = {}): Answer => ({
      userId,
      key,
      fingerprint: 'f',
      status: 201,
      body: '{"a":"é \\"x\\""}',
      headers: { location: '/x' },
      atMs: NOW_MS,
      ...edit,
    })
    const keysOf = ({ answers }: LoadedRows) => answers.map(({ userId, key }) => `${userId} ${key}`).sort()
    const wanting = (needs: Needs, ...keys: [number, string][]) => {
      for (const [userId, key] of keys) needs.answers.set(`${userId} ${key}`, [userId, key])
    }

    it('are loaded by user and key, and the oldest of all', async () => {
      const store = await fresh()
      const odd = answer(1, 'a, "b" {c}', { atMs: NOW_MS + 1 })
      await save(store, {
        answers: [answer(0, 'k', { atMs: 5 }), answer(1, 'k'), odd, answer(2, 'k')],
        events: [],
      })
      const rows = await loaded(store, (needs) => wanting(needs, [1, odd.key], [2, 'none'], [0, 'k']))
      assert.deepEqual(keysOf(rows), ['0 k', `1 ${odd.key}`])
      assert.deepEqual(
        rows.answers.find(({ userId }) => userId === 1),
        odd,
      )
      const oldest = await loaded(store, (needs) => {
        needs.oldestAnswers = 3
      })
      assert.deepEqual(keysOf(oldest), ['0 k', '1 k', '2 k'])
    })

    it('go, and make room for another under the same key in the same batch', async () => {
      const store = await fresh()
      const [old, other] = [answer(1, 'k'), answer(1, 'other')]
      await save(store, { answers: [old, other] })
      const renewed = answer(1, 'k', { fingerprint: 'g', status: 200 })
      const needs = new Needs()
      wanting(needs, [1, 'k'])
      const batch = await store.begin(needs)
      const set = new WorkingSet(batch.rows)
      set.apply({ answers: [renewed], goneAnswers: [other], events: [] })
      await batch.commit(set)
      const rows = await loaded(store, (needs) => wanting(needs, [1, 'k'], [1, 'other']))
      assert.deepEqual(rows.answers, [renewed, other], 'what was not loaded does not go')
      await save(store, { wipe: true, installation: FIRST_DAY })
      const after = await loaded(store, (needs) => wanting(needs, [1, 'k'], [1, 'other']))
      assert.deepEqual(after.answers, [])
    })

    it('are one for each key: a second makes the whole batch fail', async () => {
      const store = await fresh()
      await save(store, { answers: [answer(1, 'k')] })
      await assert.rejects(save(store, { users: [aUser(1)], answers: [answer(1, 'k')] }))
      assert.equal(await store.reads.user(1), null)
    })
  })

  describe(`${name}: e-mails`, () => {
    const email = 'user1@example.org'

    it('belong to one active user, else the commit fails and leaves nothing behind', async () => {
      const store = await fresh()
      await save(store, { users: [aUser(1), aUser(2)] })
      const before = await everything(store)
      await assert.rejects(save(store, { users: [aUser(3, { email })] }))
      await assert.rejects(save(store, { users: [aUser(2, { email })] }))
      assert.deepEqual(await everything(store), before)
    })

    it('may have belonged to any number of users who have left', async () => {
      const store = await fresh()
      await save(store, {
        users: [aUser(1), aUser(2, { email, state: 'leaving' }), aUser(3, { email, state: 'gone' })],
      })
      await save(store, { users: [aUser(4, { email, state: 'gone' })] })
      assert.equal((await store.reads.userByEmail(email))?.id, 1)
    })

    it('pass from a user who is deleted to one who is made in the same batch', async () => {
      const store = await fresh()
      await save(store, { users: [aUser(1)] })
      await saveInSteps(store, { users: [aUser(1, { state: 'leaving' })] }, { users: [aUser(2, { email })] })
      assert.equal((await store.reads.userByEmail(email))?.id, 2)
    })

    it('pass from one user to another in the same batch, in whatever order their rows changed', async () => {
      const store = await fresh()
      await save(store, { users: [aUser(1), aUser(2)] })
      await saveInSteps(
        store,
        { users: [aUser(2, { name: 'First' })] },
        { users: [aUser(1, { email: 'other@example.org' })] },
        { users: [aUser(2, { name: 'First', email })] },
      )
      assert.equal((await store.reads.userByEmail(email))?.id, 2)
    })
  })

  describe(`${name}: guards`, () => {
    /** A batch that changes VM 1 and more, with rows that were loaded before `meanwhile` was saved. */
    async function commitLate(store: Store, meanwhile: Partial<Changes>, late: Partial<Changes>) {
      const needs = new Needs()
      add(needs.vmIds, 1, 2, 5)
      add(needs.poolIds, 1)
      add(needs.userIds, 1, 8)
      add(needs.changedUserIds, 1, 8)
      const first = await store.begin(needs)
      await first.release()
      const set = new WorkingSet(first.rows)
      set.apply({ users: [aUser(1, { name: 'Late' }), aUser(8)], ...late, events: [EVENT] })
      await save(store, meanwhile)
      const before = await everything(store)
      const lastEventId = await store.reads.lastEventId()
      const second = await store.begin(needs)
      await assert.rejects(second.commit(set))
      assert.deepEqual(await everything(store), before)
      assert.equal(await store.reads.lastEventId(), lastEventId)
      await save(store, { users: [aUser(7)] })
      assert.deepEqual(await store.reads.user(7), aUser(7))
    }

    const start: Partial<Changes> = {
      users: [aUser(1), aUser(2)],
      pools: [aPool()],
      vms: [aVm(1), aVm(2, { state: 'deleting' })],
    }
    const cases: [string, Partial<Changes>, Partial<Changes>][] = [
      [
        'a machine whose state changed meanwhile',
        { vms: [aVm(1, { state: 'cordoned' })] },
        { vms: [aVm(1, { state: 'leased', leasedAtMs: NOW_MS })] },
      ],
      [
        'a machine whose generation changed meanwhile',
        { vms: [aVm(1, { generation: 2 })] },
        { vms: [aVm(1, { state: 'leased', leasedAtMs: NOW_MS })] },
      ],
      [
        'a machine that went meanwhile',
        { gone: [aVm(2, { state: 'deleting' })] },
        { vms: [aVm(2, { state: 'deleting', claim: 9 })] },
      ],
      [
        'a machine that went meanwhile, and should go again',
        { gone: [aVm(2, { state: 'deleting' })] },
        { gone: [aVm(2, { state: 'deleting' })] },
      ],
      ['a machine that should go, but is not being destroyed', {}, { gone: [aVm(1)] }],
      ['a new machine under an id that is taken', { vms: [aVm(5)] }, { vms: [aVm(5)] }],
      ['a new user under an id that is taken', { users: [aUser(8)] }, {}],
      [
        'a new pool under a name that is taken',
        { pools: [aPool({ id: 2, name: 'b' })] },
        { pools: [aPool({ id: 3, name: 'b' })] },
      ],
    ]
    for (const [what, meanwhile, late] of cases)
      it(`abort a batch with ${what}, and leave nothing of it`, async () => {
        const store = await fresh()
        await save(store, start)
        await commitLate(store, meanwhile, late)
      })

    it('refuse to commit a batch that was released, and leave nothing of it', async () => {
      const store = await fresh()
      await save(store, start)
      const before = await everything(store)
      const batch = await store.begin(new Needs())
      const set = new WorkingSet(batch.rows)
      set.apply({ users: [aUser(8)], events: [EVENT] })
      await batch.release()
      await assert.rejects(batch.commit(set))
      assert.deepEqual(await everything(store), before)
    })

    it('refuse a holder of a machine that is not leased, and a leased machine without holder', async () => {
      const store = await fresh()
      await save(store, start)
      await assert.rejects(save(store, { vms: [aVm(1, { holderId: 2 })] }))
      await assert.rejects(save(store, { vms: [{ ...aVm(1), state: 'leased' }] }))
    })
  })

  describe(`${name}: batches`, () => {
    it('run one after the other: one that begins during another sees what that one commits', async () => {
      const store = await fresh()
      await save(store, { users: [aUser(1)] })
      const needs = new Needs()
      add(needs.userIds, 1)
      add(needs.changedUserIds, 1)
      const first = await store.begin(needs)
      const second = store.begin(needs)
      const set = new WorkingSet(first.rows)
      set.apply({ users: [aUser(1, { name: 'First' })], events: [EVENT] })
      // The lane asks for the next batch while one is being saved.
      await first.commit(set)
      const later = await second
      assert.equal(later.rows.users[0]?.name, 'First')
      await later.release()
    })

    it('behind one that fails see nothing of it', async () => {
      const store = await fresh()
      await save(store, { users: [aUser(1), aUser(2)] })
      const needs = new Needs()
      add(needs.userIds, 1, 2)
      add(needs.changedUserIds, 1, 2)
      const first = await store.begin(needs)
      const set = new WorkingSet(first.rows)
      set.apply({
        users: [aUser(1, { name: 'First' }), aUser(2, { email: 'user1@example.org' })],
        events: [EVENT],
      })
      const failing = assert.rejects(first.commit(set))
      const second = await store.begin(needs)
      await failing
      assert.deepEqual(byId(second.rows.users), [aUser(1), aUser(2)])
      const next = new WorkingSet(second.rows)
      next.apply({ users: [aUser(2, { name: 'Second' })], events: [EVENT] })
      await second.commit(next)
      assert.equal((await store.reads.user(2))?.name, 'Second')
      assert.equal((await store.reads.user(1))?.name, 'User 1')
    })
  })

  describe(`${name}: the end`, () => {
    /** An opened store whose end is up to the test. */
    async function ending(test: (store: Store) => Promise<void>): Promise<void> {
      const store = await fresh()
      const { remove } = opened ?? assert.fail()
      opened = null
      await test(store)
      await remove()
    }

    it('waits for the batch that is under way', () =>
      ending(async (store) => {
        const batch = await store.begin(new Needs())
        const set = new WorkingSet(batch.rows)
        set.apply({ users: [aUser(1)], events: [EVENT] })
        const closing = store.close()
        const committed = await soon(batch.commit(set))
        assert.equal(committed.lastEventId, 1)
        await soon(closing)
      }))

    it('lets nothing begin after it', () =>
      ending(async (store) => {
        await soon(store.close())
        await assert.rejects(soon(store.begin(new Needs())), (error: Error) => error.message !== LATE)
      }))
  })

  describe(`${name}: time`, () => {
    it('is the clock’s, and never runs backwards when the clock does', async () => {
      const store = await fresh()
      assert.equal((await loaded(store)).nowMs, NOW_MS)
      nowMs = NOW_MS + 500
      assert.equal((await loaded(store)).nowMs, NOW_MS + 500)
      nowMs = NOW_MS - 10_000
      assert.equal((await loaded(store)).nowMs, NOW_MS + 500)
      await save(store, {})
      assert.equal((await store.reads.events(FROM_START)).at(-1)?.atMs, NOW_MS + 500)
      nowMs = NOW_MS + 501
      assert.equal((await loaded(store)).nowMs, NOW_MS + 501)
    })
  })

  describe(`${name}: reads`, () => {
    it('of an empty store find nothing', async () => {
      const { reads } = await fresh()
      assert.deepEqual(
        [
          await reads.user(1),
          await reads.userByEmail('a'),
          await reads.activeUsers(FROM_START),
          await reads.anyUser(),
          await reads.leavers(9),
          await reads.pool(1),
          await reads.poolNamed('default'),
          await reads.pools(),
          await reads.vm('default', 1),
          await reads.vms('default', { by: 'all' }, FROM_START),
          await reads.heldByUser('default', 1),
          await reads.holderOf('default', 1),
          await reads.nextDueAtMs(1, 'deleting'),
          await reads.installation(),
          await reads.events(FROM_START),
          await reads.lastEventId(),
        ],
        [null, null, [], false, [], null, null, [], null, [], null, null, null, FIRST_DAY, [], 0],
      )
      await reads.ping()
    })

    it('find users: any by id, active ones by e-mail and in lists, leavers by themselves', async () => {
      const store = await fresh()
      const email = 'user1@example.org'
      const users = [
        aUser(1, { state: 'gone' }),
        aUser(2),
        aUser(3, { state: 'leaving' }),
        aUser(4, { email }),
        aUser(5, { state: 'leaving' }),
        aUser(6),
      ]
      await save(store, { users })
      const { reads } = store
      assert.deepEqual(await reads.user(1), users[0])
      assert.deepEqual(await reads.user(3), users[2])
      assert.equal((await reads.userByEmail(email))?.id, 4)
      assert.equal(await reads.userByEmail('User2@example.org'), null)
      assert.equal(await reads.userByEmail('user3@example.org'), null)
      assert.deepEqual(idsOf(await reads.activeUsers(FROM_START)), [2, 4, 6])
      assert.deepEqual(idsOf(await reads.activeUsers({ afterId: 2, rowsMax: 1 })), [4])
      assert.deepEqual(idsOf(await reads.activeUsers({ afterId: 6, rowsMax: 9 })), [])
      assert.deepEqual(await reads.leavers(9), [3, 5])
      assert.deepEqual(await reads.leavers(1), [3])
      assert.equal(await reads.anyUser(), true)
    })

    it('say that there is no user when all have left', async () => {
      const store = await fresh()
      await save(store, { users: [aUser(1, { state: 'leaving' }), aUser(2, { state: 'gone' })] })
      assert.equal(await store.reads.anyUser(), false)
    })

    it('find pools by id, by name and all, with what their machines are doing', async () => {
      const store = await fresh()
      const pools = [aPool({ target: 8 }), aPool({ id: 2, name: 'b' })]
      const vms = vmsOf(...VM_STATES).map((vm) => {
        const type = vm.id % 2 ? 'large' : 'small'
        return { ...vm, type, class: vm.id % 3 ? type : `${type},os=debian` }
      })
      await save(store, { users: [aUser(2)], pools, vms })
      const reading = await store.reads.pool(1)
      assert.deepEqual(reading && unversioned(reading.pool), pools[0])
      assert.deepEqual(reading?.stats, { target: 8, existing: 6, free: 1, leased: 1, aside: 4 })
      for (const type of VM_TYPE_NAMES)
        for (const state of VM_STATES) {
          const cells: readonly unknown[] = (reading?.states ?? []).filter(
            (of) => of.type === type && of.state === state,
          )
          const count = vms.filter((vm) => vm.type === type && vm.state === state).length
          assert.deepEqual(cells, [{ type, state, count }])
        }
      assert.deepEqual(await store.reads.poolNamed('default'), reading)
      assert.equal(await store.reads.poolNamed('Default'), null)
      assert.deepEqual(
        (await store.reads.pools()).map(({ pool }) => unversioned(pool)),
        pools,
      )
    })

    it('find a machine in its pool only, and not while it is being destroyed', async () => {
      const store = await fresh()
      const pools = [aPool(), aPool({ id: 2, name: 'b' })]
      await save(store, { users: [aUser(2)], pools, vms: vmsOf('leased', 'deleting', 'ready') })
      const { reads } = store
      assert.deepEqual(await reads.vm('default', 1), listing(aVm(1, { state: 'leased' })))
      assert.deepEqual(await reads.vm('default', 3), listing(aVm(3)))
      assert.equal(await reads.vm('default', 2), null)
      assert.equal(await reads.vm('b', 1), null)
      assert.equal(await reads.vm('none', 1), null)
      assert.equal(await reads.vm('default', 9), null)
    })

    it('list machines by every filter, in slices of any size, by ascending id', async () => {
      const store = await fresh()
      const vms: Vm[] = []
      for (const poolId of [1, 2])
        for (const state of VM_STATES)
          for (const type of VM_TYPE_NAMES)
            for (const power of POWER_STATES) {
              const id = vms.length + 1
              vms.push(aVm(id, { poolId, state, type, power, ...(state === 'leased' && heldBy(id)) }))
            }
      const pools = [aPool(), aPool({ id: 2, name: 'b' })]
      await save(store, { users: [aUser(2), aUser(3)], pools, vms: vms.toReversed() })
      const filters: [VmFilter, (vm: Vm) => boolean][] = [
        [{ by: 'all' }, () => true],
        [{ by: 'type', type: 'large' }, ({ type }) => type === 'large'],
        [{ by: 'stopped' }, ({ power }) => power === 'stopped'],
        [{ by: 'running' }, ({ power }) => power === 'running'],
        [{ by: 'ready' }, ({ state }) => state === 'ready'],
        [{ by: 'aside' }, ({ state }) => state !== 'ready' && state !== 'leased'],
        [{ by: 'holder', email: 'user2@example.org' }, ({ holderId }) => holderId === 2],
        [{ by: 'holder', email: 'User2@example.org' }, () => false],
        [{ by: 'holder', email: 'nobody@example.org' }, () => false],
      ]
      for (const [filter, test] of filters) {
        const expected = vms
          .filter((vm) => vm.poolId === 1 && vm.state !== 'deleting' && test(vm))
          .map(listing)
        for (const rowsMax of [1, 3, 1_000]) {
          const found: VmListing[] = []
          for (;;) {
            const afterId = found.at(-1)?.id ?? 0
            const slice = await store.reads.vms('default', filter, { afterId, rowsMax })
            assert.ok(slice.length <= rowsMax)
            if (slice.length === 0) break
            found.push(...slice)
          }
          assert.deepEqual(found, expected, JSON.stringify({ filter, rowsMax }))
        }
      }
      assert.deepEqual(await store.reads.vms('none', { by: 'all' }, FROM_START), [])
    })

    it('list under an e-mail what the active user who has it holds, and nothing of who had it before', async () => {
      const store = await fresh()
      const email = 'user2@example.org'
      const users = [aUser(2, { state: 'leaving' }), aUser(3, { email }), aUser(4, { email, state: 'gone' })]
      const vms = [aVm(1, { state: 'leased', holderId: 3 }), aVm(2, { state: 'leased', holderId: 2 })]
      await save(store, { users, pools: [aPool()], vms })
      assert.deepEqual(idsOf(await store.reads.vms('default', { by: 'holder', email }, FROM_START)), [1])
    })

    it('tell what an active user holds: the machine with the lowest id in the pool, and who holds a machine', async () => {
      const store = await fresh()
      const pools = [aPool(), aPool({ id: 2, name: 'b' })]
      const users = [aUser(2), aUser(3, { state: 'leaving' }), aUser(4)]
      const held = (id: number, holderId: number, poolId = 1) =>
        aVm(id, { state: 'leased', holderId, poolId })
      await save(store, { users, pools, vms: [held(1, 2, 2), held(5, 2), held(4, 2), held(6, 3), aVm(7)] })
      const { reads } = store
      const first = { vm: listing(held(4, 2)), holder: aUser(2) }
      assert.deepEqual(await reads.heldByUser('default', 2), first)
      assert.deepEqual((await reads.heldByUser('b', 2))?.vm.id, 1)
      assert.deepEqual(await reads.holderOf('default', 4), first)
      const nobody = [
        reads.heldByUser('default', 3),
        reads.heldByUser('default', 4),
        reads.heldByUser('none', 2),
        reads.holderOf('default', 1),
        reads.holderOf('default', 6),
        reads.holderOf('default', 7),
        reads.holderOf('default', 9),
      ]
      assert.deepEqual(
        await Promise.all(nobody),
        nobody.map(() => null),
      )
    })

    it('tell when the next machine of a pool and state is due, if any is', async () => {
      const store = await fresh()
      const due = (id: number, state: Vm['state'], dueAtMs: number | null) => aVm(id, { state, dueAtMs })
      await save(store, {
        pools: [aPool()],
        vms: [
          due(1, 'maintenance', 700),
          due(2, 'maintenance', 300),
          due(3, 'deleting', null),
          due(4, 'deleting', 1),
        ],
      })
      assert.equal(await store.reads.nextDueAtMs(1, 'maintenance'), 300)
      assert.equal(await store.reads.nextDueAtMs(1, 'deleting'), 1)
      assert.equal(await store.reads.nextDueAtMs(1, 'provisioning'), null)
    })

    it('give events after a cursor, in order, in slices', async () => {
      const store = await fresh()
      await save(store, { events: [EVENT, EVENT, EVENT] })
      await save(store, { events: [EVENT, EVENT] })
      const ids = async (afterId: number, rowsMax: number) =>
        idsOf(await store.reads.events({ afterId, rowsMax }))
      assert.deepEqual(await ids(0, 2), [1, 2])
      assert.deepEqual(await ids(2, 2), [3, 4])
      assert.deepEqual(await ids(4, 2), [5])
      assert.deepEqual(await ids(5, 2), [])
      assert.equal(await store.reads.lastEventId(), 5)
    })
  })

  describe(`${name}: histories`, () => {
    it('of random commands leave the same answers, rows, leases and events as in plain Maps', async () => {
      await fc.assert(
        fc.asyncProperty(histories, async (history) => {
          const store = await fresh()
          const { leases } = opened ?? assert.fail()
          const world = new World({ users: [], pools: [] })
          const claimed: Claimed[] = []
          for (const [moves, passMs] of history) {
            world.nowMs = nowMs += passMs
            const before = world.tables.copy()
            const commands = moves.map((move) => wholly(commandOf({ tables: before, claimed }, move)))
            const needs = new Needs()
            for (const command of commands) needsOf(command, needs)
            const batch = await store.begin(needs)
            const set = new WorkingSet(batch.rows)
            const answers = await decideAllIn(batch, set, commands)
            if (set.dirty) await batch.commit(set)
            else await batch.release()
            assert.deepEqual(answers.map(comparable), world.batch(...commands).map(comparable))
            for (const [i, command] of commands.entries()) claimed.push(...claimedIn(command, answers[i]))
          }
          const rows = await everything(store)
          const { tables } = world
          assert.deepEqual(rows.installation, tables.installation)
          assert.deepEqual(byId(rows.users), byId([...tables.users.values()]))
          assert.deepEqual(byId(rows.vms), byId([...tables.vms.values()]))
          assert.deepEqual(poolsById(rows.pools), poolsById([...tables.pools.values()]))
          assert.deepEqual(versions(rows.pools), versions([...tables.pools.values()]))
          assert.deepEqual(texts(await store.reads.events(FROM_START)), texts(tables.events))
          if (leases !== null) assert.deepEqual(sorted(await leases()), sorted([...tables.leases.values()]))
        }),
        { numRuns: historiesMax, endOnFailure: historiesMax < 10 },
      )
    })
  })
}

function add<T>(set: Set<T>, ...values: T[]): void {
  for (const value of values) set.add(value)
}

/** What a batch with these needs is given. */
async function loaded(store: Store, want: (needs: Needs) => unknown = () => {}) {
  const needs = new Needs()
  want(needs)
  const batch = await store.begin(needs)
  await batch.release()
  return batch.rows
}

/** Every row there is. */
function everything(store: Store) {
  return loaded(store, (needs) => {
    needs.census = true
    needs.allPools = true
    for (let id = 1; id <= 200; id++) {
      needs.userIds.add(id)
      needs.vmIds.add(id)
    }
  })
}

/** Saves changes in a batch of their own, with an event unless others are given. */
function save(store: Store, changes: Partial<Changes>) {
  return saveInSteps(store, changes)
}

/** Saves changes that come one after the other in one batch. */
async function saveInSteps(store: Store, ...steps: Partial<Changes>[]) {
  const needs = new Needs()
  for (const {
    users = [],
    tokens = [],
    goneTokens = [],
    pools = [],
    vms = [],
    gone = [],
    installation,
    wipe,
  } of steps) {
    if (installation !== undefined) needs.installation = true
    if (wipe) needs.allPools = true
    for (const { id } of users) {
      needs.userIds.add(id)
      needs.changedUserIds.add(id)
    }
    for (const { id, userId } of [...tokens, ...goneTokens]) {
      needs.tokenIds.add(id)
      needs.userIds.add(userId)
      needs.changedUserIds.add(userId)
    }
    for (const { id } of pools) needs.poolIds.add(id)
    for (const { id, poolId } of [...vms, ...gone]) {
      needs.vmIds.add(id)
      needs.poolIds.add(poolId)
    }
  }
  const batch = await store.begin(needs)
  const set = new WorkingSet(batch.rows)
  for (const step of steps) set.apply({ events: [EVENT], ...step })
  return batch.commit(set)
}

function byId<Row extends { readonly id: number }>(rows: readonly Row[]): Row[] {
  return rows.toSorted((a, b) => a.id - b.id)
}

function idsOf(rows: readonly { readonly id: number }[]): number[] {
  return byId(rows).map(({ id }) => id)
}

/** Pools by id, each once, with what is in the tally. */
function poolsById(rows: readonly { readonly pool: Pool; readonly tally: Tally }[]) {
  const pools = new Map(rows.map(({ pool, tally }) => [pool.id, [unversioned(pool), counts(tally)] as const]))
  return [...pools.values()].toSorted(([a], [b]) => a.id - b.id).map(([pool, tally]) => [pool, tally])
}

function versions(rows: readonly { readonly pool: Pool }[]): [number, number][] {
  return rows.map(({ pool }): [number, number] => [pool.id, pool.queue.version]).toSorted(([a], [b]) => a - b)
}

function sorted(leases: readonly Lease[]): Lease[] {
  return leases.toSorted((a, b) => a.vmId - b.vmId || a.generation - b.generation)
}

/** One machine in three is held by user 3, the others by user 2. */
function heldBy(id: number): Partial<Vm> {
  return { holderId: id % 3 === 0 ? 3 : 2 }
}

/** A machine as lists show it, where each holder still has the e-mail that users of tests have. */
function listing(vm: Vm): VmListing {
  return {
    id: vm.id,
    name: vm.name,
    type: vm.type,
    address: vm.address,
    power: vm.power,
    state: vm.state,
    holderEmail: vm.holderId === null ? null : `user${vm.holderId}@example.org`,
    createdAtMs: vm.createdAtMs,
  }
}

/** Events as texts, without their ids and in no order. */
function texts(events: readonly Event[]): string[] {
  return events
    .map(({ id: _, ...event }) =>
      JSON.stringify(Object.entries(event).sort(([a], [b]) => a.localeCompare(b))),
    )
    .sort()
}

const LATE = 'no answer within two seconds'

/** Fails when `promise` is never kept: an answer that does not come must not hold up the tests. */
function soon<T>(promise: Promise<T>): Promise<T> {
  const late = setTimeout(2_000, null, { ref: false }).then(() => assert.fail(LATE))
  return Promise.race([promise, late])
}
