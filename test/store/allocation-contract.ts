/**
 * What every store has to do with leases, requests, flows, reservations and books, whatever database is behind it.
 * `allocationContract` declares the tests for one store; plain Maps are what all of them are compared with.
 */
import assert from 'node:assert/strict'
import { afterEach, describe, it } from 'node:test'
import fc from 'fast-check'
import { Book, type BookChange } from '../../src/domain/book.ts'
import type { NewEvent } from '../../src/domain/event.ts'
import { LEASE_ENDS, type Lease, plainLease } from '../../src/domain/lease.ts'
import { EMPTY_QUEUE } from '../../src/domain/pool.ts'
import { PRIORITIES, REQUEST_STATES, type Request } from '../../src/domain/request.ts'
import { RESERVATION_STATES, type Reservation } from '../../src/domain/reservation.ts'
import { FIRST_DAY } from '../../src/domain/reset.ts'
import type { Vm } from '../../src/domain/vm.ts'
import { classKeyOf, classOf } from '../../src/domain/vm-class.ts'
import {
  type Changes,
  type LoadedBook,
  type MoreNeeds,
  Needs,
  WorkingSet,
} from '../../src/domain/working-set.ts'
import type { LeaseFilter, RequestFilter, ReservationFilter, Store } from '../../src/store/port.ts'
import { comparableBooks } from '../support/allocation-rows.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { aPool, aUser, aVm, NOW_MS } from '../support/world.ts'
import type { StoreUnderTest } from './contract.ts'

const EVENT: NewEvent = { type: 'vm.made', actorId: null }
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

/** A request that waits; user 2 made it in pool 1. */
export function aRequest(id: string, edit: Partial<Request> = {}): Request {
  return {
    id,
    poolId: 1,
    userId: 2,
    seq: 1,
    wish: [{ type: 'small', labels: {}, vmId: null, count: 1 }],
    terms: {
      durationSeconds: 3_600,
      durationSecondsMin: null,
      softGraceSeconds: null,
      heartbeatSeconds: null,
      purpose: null,
      labels: {},
    },
    priority: 'normal',
    state: 'waiting',
    createdAtMs: NOW_MS,
    untilMs: null,
    endedAtMs: null,
    due: null,
    parked: false,
    collectSinceMs: null,
    reservationId: null,
    leases: [],
    ...edit,
  }
}

/** A confirmed reservation of user 2 in pool 1, an hour long, a day from now. */
function aReservation(id: string, edit: Partial<Reservation> = {}): Reservation {
  return {
    id,
    poolId: 1,
    userId: 2,
    wish: [{ type: 'small', labels: {}, vmId: null, count: 1 }],
    fromMs: NOW_MS + DAY_MS,
    toMs: NOW_MS + DAY_MS + HOUR_MS,
    pinned: [['small', 1]],
    state: 'confirmed',
    atRisk: false,
    missing: 0,
    confirmedSeq: 1,
    noShowSeconds: null,
    claimed: false,
    seriesId: null,
    purpose: null,
    labels: {},
    createdAtMs: NOW_MS,
    ...edit,
  }
}

/** A machine that user 2 holds since the last lease but so many. */
function held(id: number, edit: Partial<Vm> = {}): Vm {
  return aVm(id, { state: 'leased', ...edit })
}

/** The lease of a machine that is held, with `edit` in it. */
function leaseOf(vm: Vm, edit: Partial<Lease> = {}): Lease {
  const { id: vmId, generation, poolId, holderId, leasedAtMs } = vm
  const hold = { vmId, generation, poolId, userId: holderId ?? 0, fromMs: leasedAtMs ?? 0 }
  return { ...plainLease(hold), ...edit }
}

const FULL_LEASE: Partial<Lease> = {
  endsAtMs: NOW_MS + HOUR_MS,
  requestId: 'req_1',
  reservationId: 'res_1',
  softGraceSeconds: 60,
  heartbeatSeconds: 30,
  beatByMs: NOW_MS + 30_000,
  dueAtMs: NOW_MS + 30_000,
  warned: true,
  chargedMinutes: 12.75,
  weight: 0.5,
  purpose: 'a run of "é"',
  labels: { ci: '7', branch: 'main' },
  sharedWith: [1, 3],
}

const FULL_REQUEST: Partial<Request> = {
  seq: 9,
  wish: [
    { type: null, labels: { os: 'debian' }, vmId: null, count: 2 },
    { type: 'large', labels: {}, vmId: 7, count: 1 },
  ],
  terms: {
    durationSeconds: null,
    durationSecondsMin: 60,
    softGraceSeconds: 1,
    heartbeatSeconds: 2,
    purpose: 'ü "q"',
    labels: { a: 'b' },
  },
  priority: 'high',
  createdAtMs: NOW_MS - 5,
  untilMs: NOW_MS + 5,
  due: 44,
  parked: true,
  collectSinceMs: NOW_MS - 1,
  reservationId: 'res_1',
  leases: [{ vmId: 3, generation: 4 }],
}

const FULL_RESERVATION: Partial<Reservation> = {
  wish: [{ type: 'large', labels: { os: 'x' }, vmId: null, count: 3 }],
  pinned: [
    ['large,os=x', 2],
    ['large,os=x#9', 1],
  ],
  state: 'active',
  atRisk: true,
  missing: 1,
  confirmedSeq: 5,
  noShowSeconds: 900,
  claimed: true,
  seriesId: 'ser_1',
  purpose: 'a course',
  labels: { room: '12' },
  createdAtMs: NOW_MS - 7,
}

/** A book that only remembers what it was told: whether a store tells it right is what is tested. */
class RememberedBook {
  #change: BookChange

  constructor(whole: BookChange) {
    this.#change = whole
  }

  apply({ pool, tally, vms, gone, requests, flows, reservations }: BookChange): void {
    const before = this.#change
    this.#change = {
      pool,
      tally,
      vms: merged(before.vms, vms, ({ id }) => id).filter(
        ({ id, state }) => !gone.includes(id) && state !== 'ready' && state !== 'deleting',
      ),
      gone: [],
      requests: merged(before.requests, requests, ({ id }) => id).filter(({ state }) => state === 'waiting'),
      flows: merged(before.flows, flows, ({ userId }) => userId),
      reservations: merged(before.reservations, reservations, ({ id }) => id).filter(
        ({ state }) => state === 'confirmed' || state === 'active',
      ),
    }
  }

  /** What it would be if it were read now. */
  get whole(): BookChange {
    const { requests, flows, pool } = this.#change
    const waiting = new Set(requests.map(({ userId }) => userId))
    const inUse = flows.filter(({ tag, userId }) => tag > pool.queue.v || waiting.has(userId))
    return { ...this.#change, flows: inUse }
  }
}

function merged<Row, Key>(before: readonly Row[], changed: readonly Row[], key: (row: Row) => Key): Row[] {
  return [...new Map([...before, ...changed].map((row) => [key(row), row])).values()]
}

/** Needs that hold and load everything that these changes are about. */
function needsFor(changes: Partial<Changes>): Needs {
  const needs = new Needs()
  const {
    users = [],
    pools = [],
    vms = [],
    gone = [],
    leases = [],
    requests = [],
    reservations = [],
  } = changes
  if (changes.installation !== undefined) needs.installation = true
  if (changes.wipe) needs.allPools = true
  for (const { id } of users) {
    needs.userIds.add(id)
    needs.changedUserIds.add(id)
  }
  for (const { id } of pools) needs.poolIds.add(id)
  for (const { id } of [...vms, ...gone]) needs.vmIds.add(id)
  for (const { vmId } of leases) needs.vmIds.add(vmId)
  for (const { id } of requests) needs.requestIds.add(id)
  for (const { id } of reservations) needs.reservationIds.add(id)
  const rows = [...vms, ...gone, ...leases, ...requests, ...reservations, ...(changes.flows ?? [])]
  for (const { poolId } of rows) needs.poolIds.add(poolId)
  return needs
}

/** Saves changes in a batch of their own. */
async function save(store: Store, changes: Partial<Changes>): Promise<void> {
  const batch = await store.begin(needsFor(changes))
  const set = new WorkingSet(batch.rows)
  set.apply({ events: [EVENT], ...changes })
  await batch.commit(set)
}

async function loaded(store: Store, want: (needs: Needs) => unknown) {
  const needs = new Needs()
  want(needs)
  const batch = await store.begin(needs)
  await batch.release()
  return batch.rows
}

/** What a batch that holds pool 1 is given when it asks for more; `had`: machines that it has already. */
async function more(store: Store, wanted: Partial<MoreNeeds>, had: readonly number[] = []) {
  const needs = new Needs()
  needs.poolIds.add(1)
  for (const id of had) needs.vmIds.add(id)
  const batch = await store.begin(needs)
  const rows = await batch.more({ books: [], ready: [], userIds: [], usageOf: [], vmIds: [], ...wanted })
  await batch.release()
  return rows
}

/** The book of pool 1 as a server is given it that has this version. */
async function bookOf(store: Store, version: number): Promise<LoadedBook> {
  const rows = await loaded(store, (needs) => {
    needs.poolIds.add(1)
    needs.books.add('default')
    needs.bookVersions.set(1, version)
  })
  const [book, ...others] = comparableBooks(rows.books)
  assert.ok(book !== undefined && others.length === 0)
  return book
}

async function wholeBook(store: Store): Promise<BookChange> {
  const { whole } = await bookOf(store, 0)
  return whole ?? assert.fail('the book was not given whole')
}

/** A book’s content with everything in it in order. */
function ordered(whole: BookChange): BookChange | null {
  const [book] = comparableBooks([{ poolId: 1, version: 0, changes: [], whole }])
  return book?.whole ?? null
}

function byText(a: { readonly id: string }, b: { readonly id: string }): number {
  return a.id < b.id ? -1 : 1
}

export function allocationContract({ name, open, histories }: StoreUnderTest): void {
  let opened: Awaited<ReturnType<StoreUnderTest['open']>> | null = null
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

  const START: Partial<Changes> = {
    users: [aUser(1), aUser(2), aUser(3)],
    pools: [aPool(), aPool({ id: 2, name: 'b' })],
  }

  describe(`${name}: leases`, () => {
    it('come back as they were saved, every column of them, with the machines that they are of', async () => {
      const store = await fresh()
      const lease = leaseOf(held(1), FULL_LEASE)
      await save(store, { ...START, vms: [held(1), held(2), aVm(3)], leases: [lease] })
      const rows = await loaded(store, (needs) => {
        for (const id of [1, 2, 3]) needs.vmIds.add(id)
      })
      assert.deepEqual(
        rows.leases.toSorted((a, b) => a.vmId - b.vmId),
        [lease, leaseOf(held(2))],
      )
      assert.deepEqual(await store.reads.lease(1, 1), lease)
      assert.equal(await store.reads.lease(1, 2), null)
      assert.deepEqual(await store.reads.vmById(2), held(2))
      assert.equal(await store.reads.vmById(9), null)
    })

    it('come with machines that somebody holds, and with those that stand', async () => {
      const store = await fresh()
      await save(store, {
        ...START,
        vms: [held(1), held(2, { poolId: 2 }), held(3, { holderId: 3 }), aVm(4)],
      })
      const ofHolder = await loaded(store, (needs) => needs.heldBy.set(2, 9))
      const standing = await loaded(store, (needs) => {
        needs.standing = 9
      })
      const ids = (leases: readonly Lease[]) => leases.map(({ vmId }) => vmId).sort()
      assert.deepEqual(ids(ofHolder.leases), [1, 2])
      assert.deepEqual(ids(standing.leases), [1, 2, 3])
    })

    it('change while they run, and end in every column', async () => {
      const store = await fresh()
      const lease = leaseOf(held(1), FULL_LEASE)
      await save(store, { ...START, vms: [held(1)], leases: [lease] })
      const changed = {
        ...lease,
        endsAtMs: null,
        warned: false,
        labels: {},
        sharedWith: [],
        dueAtMs: NOW_MS + 1,
      }
      await save(store, { leases: [changed] })
      assert.deepEqual(await store.reads.lease(1, 1), changed)
      nowMs += 1_000
      const charged = { ...changed, chargedMinutes: 1.5 }
      const freed = aVm(1, { state: 'maintenance', generation: 1 })
      await save(store, { vms: [freed], leases: [charged], endedBy: 'expired' })
      const ended = { ...charged, endedAtMs: nowMs, endedBy: 'expired', dueAtMs: null }
      assert.deepEqual(await store.reads.lease(1, 1), ended)
      const rows = await loaded(store, (needs) => needs.vmIds.add(1))
      assert.deepEqual(rows.leases, [])
    })

    it('that ended meanwhile do not change any more: the batch is aborted, and nothing of it is left', async () => {
      const store = await fresh()
      await save(store, { ...START, vms: [held(1)] })
      const needs = needsFor({ vms: [held(1)] })
      const first = await store.begin(needs)
      await first.release()
      const late = new WorkingSet(first.rows)
      late.apply({
        leases: [leaseOf(held(1), { warned: true })],
        requests: [aRequest('req_1')],
        events: [EVENT],
      })
      await save(store, { vms: [aVm(1, { state: 'maintenance', generation: 1 })] })
      const second = await store.begin(needs)
      await assert.rejects(second.commit(late))
      assert.equal((await store.reads.lease(1, 1))?.warned, false)
      assert.equal(await store.reads.request('req_1'), null)
    })

    it('that are due are given with their machines, the longest due first, and their pool', async () => {
      const store = await fresh()
      const due = [-1, 5, -3, null, -2, 0, -9]
      const vms = due.map((_, i) => held(i + 1, { poolId: i === 6 ? 2 : 1 }))
      const leases = vms.map((vm, i) =>
        leaseOf(vm, { dueAtMs: due[i] == null ? null : NOW_MS + (due[i] ?? 0) }),
      )
      await save(store, { ...START, vms, leases })
      const some = await loaded(store, (needs) => needs.dueLeases.set(1, 2).set(9, 2))
      assert.deepEqual(some.vms.map(({ id }) => id).sort(), [3, 5])
      assert.deepEqual(some.leases.map(({ vmId }) => vmId).sort(), [3, 5])
      assert.deepEqual(
        some.pools.map(({ pool }) => pool.id),
        [1],
      )
      const all = await loaded(store, (needs) => needs.dueLeases.set(1, 9))
      assert.deepEqual(all.vms.map(({ id }) => id).sort(), [1, 3, 5, 6])
    })
  })

  describe(`${name}: requests and reservations`, () => {
    it('come back as they were saved, every column of them, and hold their pools', async () => {
      const store = await fresh()
      const requests = [aRequest('req_1', { ...FULL_REQUEST, poolId: 2 }), aRequest('req_2')]
      const reservations = [aReservation('res_1', { ...FULL_RESERVATION, poolId: 2 }), aReservation('res_2')]
      await save(store, { ...START, requests, reservations })
      for (const want of [
        (needs: Needs) => needs.requestIds.add('req_1').add('req_9'),
        (needs: Needs) => needs.reservationIds.add('res_1').add('res_9'),
      ]) {
        const rows = await loaded(store, want)
        assert.deepEqual([...rows.requests, ...rows.reservations].length, 1)
        assert.deepEqual(
          rows.pools.map(({ pool }) => pool.id),
          [2],
        )
      }
      const all = await loaded(store, (needs) => {
        for (const id of ['req_1', 'req_2']) needs.requestIds.add(id)
        for (const id of ['res_1', 'res_2']) needs.reservationIds.add(id)
      })
      assert.deepEqual(all.requests.toSorted(byText), requests)
      assert.deepEqual(all.reservations.toSorted(byText), reservations)
      assert.deepEqual(await store.reads.request('req_1'), requests[0])
      assert.equal(await store.reads.request('res_1'), null)
      assert.deepEqual(await store.reads.reservation('res_1'), reservations[0])
      assert.equal(await store.reads.reservation('req_1'), null)
    })

    it('change in every column that may change, whether or not the batch had loaded them', async () => {
      const store = await fresh()
      await save(store, { ...START, requests: [aRequest('req_1')], reservations: [aReservation('res_1')] })
      const granted = aRequest('req_1', { ...FULL_REQUEST, state: 'granted', endedAtMs: NOW_MS + 3 })
      const active = aReservation('res_1', FULL_RESERVATION)
      await save(store, { requests: [granted], reservations: [active] })
      assert.deepEqual(await store.reads.request('req_1'), granted)
      assert.deepEqual(await store.reads.reservation('res_1'), active)
      const needs = new Needs()
      needs.poolIds.add(1)
      const batch = await store.begin(needs)
      const set = new WorkingSet(batch.rows)
      const over = { ...active, state: 'ended' } as const
      set.apply({ requests: [{ ...granted, leases: [] }], reservations: [over], events: [] })
      await batch.commit(set)
      assert.deepEqual(await store.reads.request('req_1'), { ...granted, leases: [] })
      assert.deepEqual(await store.reads.reservation('res_1'), over)
    })

    it('are counted in their pool while they wait and stand', async () => {
      const store = await fresh()
      const counted = async () => {
        const queue = (await store.reads.pool(1))?.pool.queue
        return [queue?.waiting, queue?.booked]
      }
      await save(store, {
        ...START,
        requests: [aRequest('req_1'), aRequest('req_2'), aRequest('req_3', { state: 'granted' })],
        reservations: [aReservation('res_1'), aReservation('res_2', { state: 'cancelled' })],
      })
      assert.deepEqual(await counted(), [2, 1])
      const batch = await store.begin(needsFor({ requests: [aRequest('req_2')] }))
      const set = new WorkingSet(batch.rows)
      for (const { whole } of batch.rows.books) if (whole !== null) set.takeBook(1, Book.of(whole, set.nowMs))
      set.apply({
        requests: [aRequest('req_2', { state: 'cancelled' })],
        reservations: [aReservation('res_1', { state: 'ended' })],
        events: [EVENT],
      })
      await batch.commit(set)
      assert.deepEqual(await counted(), [1, 0])
    })

    it('whose time to wait is over are given, the longest over first', async () => {
      const store = await fresh()
      const until = [-1, 5, -3, null, -2, 0]
      const requests = until.map((ms, i) =>
        aRequest(`req_${i + 1}`, { untilMs: ms === null ? null : NOW_MS + ms }),
      )
      const others = [
        aRequest('req_7', { untilMs: NOW_MS - 9, state: 'expired' }),
        aRequest('req_8', { untilMs: NOW_MS - 9, poolId: 2 }),
      ]
      await save(store, { ...START, requests: [...requests, ...others] })
      const some = await loaded(store, (needs) => needs.dueRequests.set(1, 2))
      assert.deepEqual(some.requests.map(({ id }) => id).sort(), ['req_3', 'req_5'])
      const all = await loaded(store, (needs) => needs.dueRequests.set(1, 9))
      assert.deepEqual(all.requests.map(({ id }) => id).sort(), ['req_1', 'req_3', 'req_5', 'req_6'])
    })

    it('go with a wipe, and so do flows and leases', async () => {
      const store = await fresh()
      await save(store, {
        ...START,
        vms: [held(1)],
        requests: [aRequest('req_1')],
        reservations: [aReservation('res_1')],
        flows: [{ poolId: 1, userId: 2, tag: 5 }],
      })
      await save(store, { wipe: true, installation: FIRST_DAY })
      assert.equal(await store.reads.request('req_1'), null)
      assert.equal(await store.reads.reservation('res_1'), null)
      assert.equal(await store.reads.lease(1, 1), null)
      await save(store, START)
      assert.deepEqual((await wholeBook(store)).flows, [])
    })
  })

  describe(`${name}: books`, () => {
    const CONTENDED: Partial<Changes> = {
      ...START,
      pools: [
        aPool({ queue: { ...EMPTY_QUEUE, v: 4.5 } }),
        aPool({ id: 2, name: 'b' }),
        aPool({ id: 3, name: 'c' }),
      ],
      vms: [
        aVm(1),
        held(2, { freeAtMs: NOW_MS + 7 }),
        held(3),
        aVm(4, { state: 'maintenance', freeAtMs: NOW_MS + 1 }),
        aVm(5, { state: 'deleting' }),
        aVm(6, { state: 'failed' }),
        held(7, { poolId: 2 }),
        held(8),
      ],
      leases: [
        leaseOf(held(3), { softGraceSeconds: 60 }),
        leaseOf(held(8), { softGraceSeconds: 60, endsAtMs: NOW_MS + 5 }),
      ],
      requests: [
        aRequest('req_1', { userId: 3 }),
        aRequest('req_2', { state: 'granted' }),
        aRequest('req_3', { poolId: 2 }),
      ],
      flows: [
        { poolId: 1, userId: 1, tag: 4.5 },
        { poolId: 1, userId: 2, tag: 4.75 },
        { poolId: 1, userId: 3, tag: 1 },
        { poolId: 2, userId: 1, tag: 9 },
      ],
      reservations: RESERVATION_STATES.map((state, i) => aReservation(`res_${i}`, { state })),
    }

    it('are whole for a server that has none: what is not ready, who waits, whose tag is ahead, what stands', async () => {
      const store = await fresh()
      await save(store, CONTENDED)
      const { version, changes, whole } = await bookOf(store, 0)
      const pool = (await store.reads.pool(1))?.pool
      assert.deepEqual([version, changes], [pool?.queue.version, []])
      assert.deepEqual(whole?.pool, pool)
      assert.deepEqual(whole?.tally.small?.leased, 3)
      const vm = (
        id: number,
        state: Vm['state'],
        freeAtMs: number | null,
        holderId: number | null = null,
      ) => {
        return { id, class: 'small', state, freeAtMs, holderId, soft: null }
      }
      assert.deepEqual(whole?.vms, [
        vm(2, 'leased', NOW_MS + 7, 2),
        { ...vm(3, 'leased', null, 2), soft: { graceSeconds: 60, fromMs: NOW_MS } },
        vm(4, 'maintenance', NOW_MS + 1),
        vm(6, 'failed', null),
        vm(8, 'leased', null, 2),
      ])
      assert.deepEqual(whole?.requests, [aRequest('req_1', { userId: 3 })])
      assert.deepEqual(
        whole?.flows.map(({ userId, tag }) => [userId, tag]),
        [
          [2, 4.75],
          [3, 1],
        ],
      )
      assert.deepEqual(
        whole?.reservations.map(({ state }) => state),
        ['confirmed', 'active'],
      )
    })

    it('come with pools that are contended or named, and no others', async () => {
      const store = await fresh()
      await save(store, CONTENDED)
      const poolIds = async (want: (needs: Needs) => unknown) =>
        (await loaded(store, want)).books.map(({ poolId }) => poolId).sort()
      assert.deepEqual(await poolIds((needs) => needs.poolIds.add(1).add(2).add(3)), [1, 2])
      assert.deepEqual(await poolIds((needs) => needs.vmIds.add(7)), [2])
      assert.deepEqual(await poolIds((needs) => needs.requestIds.add('req_3')), [2])
      assert.deepEqual(await poolIds((needs) => needs.poolIds.add(3)), [])
      assert.deepEqual(
        await poolIds((needs) => {
          needs.poolIds.add(3)
          needs.books.add('c')
        }),
        [3],
      )
    })

    it('are empty for a server that has the present version', async () => {
      const store = await fresh()
      await save(store, CONTENDED)
      const { version } = await bookOf(store, 0)
      assert.deepEqual(await bookOf(store, version), { poolId: 1, version, changes: [], whole: null })
    })

    it('have other versions after each batch that changes the pool, and after a reset none that was there before', async () => {
      const store = await fresh()
      await save(store, CONTENDED)
      const versions = [(await bookOf(store, 0)).version]
      for (const change of [
        { vms: [aVm(1, { state: 'cordoned' })] },
        { requests: [aRequest('req_1', { userId: 3, parked: true })] },
        { flows: [{ poolId: 1, userId: 1, tag: 9 }] },
        { leases: [leaseOf(held(2), { warned: true })] },
      ] satisfies Partial<Changes>[]) {
        await save(store, change)
        versions.push((await bookOf(store, 0)).version)
      }
      await save(store, { users: [aUser(3, { name: 'New' })] })
      assert.equal((await bookOf(store, 0)).version, versions.at(-1))
      nowMs++
      await save(store, { wipe: true, installation: FIRST_DAY })
      await save(store, START)
      versions.push((await bookOf(store, 0)).version)
      assert.deepEqual(
        versions,
        [...new Set(versions)].toSorted((a, b) => a - b),
      )
    })

    it('that follow what batches change say the same as those that are read whole', async () => {
      const store = await fresh()
      await save(store, CONTENDED)
      const whole = await wholeBook(store)
      let version = whole.pool.queue.version
      let book = new RememberedBook(whole)
      const steps: Partial<Changes>[] = [
        { vms: [held(1, { freeAtMs: NOW_MS + 60 })], leases: [leaseOf(held(1), { softGraceSeconds: 5 })] },
        { vms: [aVm(2, { state: 'maintenance', generation: 1 })], gone: [aVm(5, { state: 'deleting' })] },
        { requests: [aRequest('req_1', { userId: 3, state: 'granted' }), aRequest('req_4')] },
        { flows: [{ poolId: 1, userId: 3, tag: 7.5 }] },
        {
          reservations: [
            aReservation('res_0', { state: 'cancelled' }),
            aReservation('res_9', { atRisk: true }),
          ],
        },
        { vms: [aVm(4), aVm(9)] },
      ]
      for (const step of steps) {
        // Another server, which has the book, makes the change.
        const before = await wholeBook(store)
        const other = new RememberedBook(before)
        const batch = await store.begin(needsFor(step))
        const set = new WorkingSet(batch.rows)
        set.takeBook(1, Book.of(before, set.nowMs))
        set.apply({ events: [EVENT], ...step })
        other.apply(set.bookChange(1))
        await batch.commit(set)
        const given = await bookOf(store, version)
        for (const { change } of given.changes) book.apply(change)
        const said = given.whole ?? book.whole
        const expected = await wholeBook(store)
        assert.deepEqual(ordered(said), ordered(expected))
        if (given.whole !== null) book = new RememberedBook(given.whole)
        assert.deepEqual(ordered(other.whole), ordered(expected))
        version = given.version
      }
    })
  })

  describe(`${name}: more`, () => {
    it('gives ready machines of a class with the lowest ids, beside those that the batch has', async () => {
      const store = await fresh()
      const debian = classKeyOf('small', { os: 'debian' }, null)
      const vms = [
        ...[1, 2, 3, 4].map((id) => aVm(id)),
        ...[5, 6].map((id) => aVm(id, { class: debian })),
        aVm(7, { poolId: 2 }),
        held(8),
      ]
      await save(store, { ...START, vms })
      const ids = async (wanted: Partial<MoreNeeds>, had: readonly number[]) =>
        (await more(store, wanted, had)).vms.map(({ id }) => id)
      assert.deepEqual(await ids({ ready: [[1, 'small', 2]] }, []), [1, 2])
      assert.deepEqual(await ids({ ready: [[1, 'small', 2]] }, [1, 3]), [2, 4])
      assert.deepEqual(
        await ids(
          {
            ready: [
              [1, 'small', 9],
              [1, debian, 1],
            ],
          },
          [2],
        ),
        [1, 3, 4, 5],
      )
      assert.deepEqual(await ids({ ready: [[1, 'large', 9]] }, []), [])
    })

    it('gives no machine twice, however often it is asked', async () => {
      const store = await fresh()
      await save(store, { ...START, vms: [1, 2, 3].map((id) => aVm(id)) })
      const needs = new Needs()
      needs.poolIds.add(1)
      const batch = await store.begin(needs)
      const wanted: MoreNeeds = { books: [], ready: [[1, 'small', 2]], userIds: [], usageOf: [], vmIds: [] }
      const first = await batch.more(wanted)
      const second = await batch.more(wanted)
      await batch.release()
      assert.deepEqual(
        [...first.vms, ...second.vms].map(({ id }) => id),
        [1, 2, 3],
      )
    })

    it('gives users, and books of pools that are held', async () => {
      const store = await fresh()
      await save(store, { ...START, requests: [aRequest('req_1')] })
      const { users, books } = await more(store, { userIds: [3, 1, 9], books: [[1, 0]] })
      assert.deepEqual(
        users.toSorted((a, b) => a.id - b.id),
        [aUser(1), aUser(3)],
      )
      assert.deepEqual(comparableBooks(books), [await bookOf(store, 0)])
      const version = books[0]?.version ?? 0
      const known = await more(store, { books: [[1, version]] })
      assert.deepEqual(known.books, [{ poolId: 1, version, changes: [], whole: null }])
    })

    it('gives rows that the batch then may change', async () => {
      const store = await fresh()
      await save(store, { ...START, vms: [aVm(1)] })
      const needs = new Needs()
      needs.poolIds.add(1)
      const batch = await store.begin(needs)
      const set = new WorkingSet(batch.rows)
      set.addMore(
        await batch.more({ books: [], ready: [[1, 'small', 1]], userIds: [2], usageOf: [2], vmIds: [] }),
      )
      assert.deepEqual(set.usage(2), { userId: 2, held: [], weekMs: 0, waiting: 0 })
      set.apply({ vms: [held(1)], events: [EVENT] })
      await batch.commit(set)
      assert.equal((await store.reads.lease(1, 1))?.userId, 2)
    })

    it('is refused once the batch has ended', async () => {
      const store = await fresh()
      const batch = await store.begin(new Needs())
      await batch.release()
      await assert.rejects(batch.more({ books: [], ready: [], userIds: [], usageOf: [], vmIds: [] }))
    })

    it('tells what users hold, wait for and have used in a week, leases that began before it cut short', async () => {
      const store = await fresh()
      await save(store, {
        ...START,
        vms: [held(1), held(2, { poolId: 2 }), held(3), held(4, { holderId: 3 })],
      })
      nowMs += 2 * DAY_MS
      await save(store, {
        vms: [aVm(1, { state: 'maintenance', generation: 1 })],
        requests: [aRequest('req_1')],
      })
      const usageOf = async (at: number) => {
        nowMs = at
        const { usage } = await more(store, { usageOf: [2, 1], vmIds: [] })
        return usage.map(({ held, ...rest }) => ({ ...rest, held: held.toSorted() }))
      }
      const of = (weekMs: number) => ({
        userId: 2,
        weekMs,
        waiting: 1,
        held: [
          [1, 'small', 1],
          [2, 'small', 1],
        ],
      })
      const nothing = { userId: 1, weekMs: 0, waiting: 0, held: [] }
      assert.deepEqual(await usageOf(nowMs), [of(6 * DAY_MS), nothing])
      assert.deepEqual(await usageOf(NOW_MS + 8 * DAY_MS), [of(15 * DAY_MS), nothing])
      assert.deepEqual(await usageOf(NOW_MS + 30 * DAY_MS), [of(14 * DAY_MS), nothing])
      const read = await store.reads.usage(2, NOW_MS + 8 * DAY_MS)
      assert.deepEqual([read.weekMs, read.waiting, read.held.length], [15 * DAY_MS, 1, 2])
    })
  })

  describe(`${name}: reads of the allocation`, () => {
    const what = fc.constantFrom('lease', 'free', 'request', 'reservation', 'label', 'charge')
    const action = fc.record({ what, at: fc.nat(11), by: fc.nat(2), how: fc.nat(29) })

    /** What an action changes, given the rows that are there. */
    function changesOf(
      { what, at, by, how }: { what: string; at: number; by: number; how: number },
      { tables }: MemoryStore,
      atMs: number,
    ): Partial<Changes> | null {
      const userId = by + 1
      const vm = tables.vms.get(at + 1) ?? assert.fail()
      const lease = tables.leases.get(`${vm.id} ${vm.generation}`)
      const dueAtMs = how % 2 === 0 ? null : atMs + how
      const softGraceSeconds = how % 3 === 0 ? 60 : null
      if (what === 'lease' && vm.state === 'ready') {
        const generation = vm.generation + 1
        const taken: Vm = { ...vm, state: 'leased', generation, holderId: userId, leasedAtMs: atMs }
        return { vms: [taken], leases: [leaseOf(taken, { dueAtMs, softGraceSeconds, sharedWith: [how] })] }
      }
      if (what === 'free' && vm.state === 'leased') {
        const freed: Vm = { ...vm, state: 'ready', holderId: null, leasedAtMs: null }
        return { vms: [freed], endedBy: LEASE_ENDS[how % LEASE_ENDS.length] ?? 'expired' }
      }
      if (what === 'label' && vm.state === 'ready') {
        const labels = how % 3 === 0 ? {} : { os: how % 3 === 1 ? 'debian' : 'debian_12', rack: `${how % 2}` }
        return { vms: [{ ...vm, class: classKeyOf(vm.type, labels, how > 20 ? vm.id : null) }] }
      }
      if (what === 'charge' && lease?.endedAtMs === null)
        return { leases: [{ ...lease, chargedMinutes: how + 0.5 }] }
      const poolId = (at % 2) + 1
      if (what === 'request') {
        const state = REQUEST_STATES[how % REQUEST_STATES.length] ?? 'waiting'
        const priority = PRIORITIES[how % PRIORITIES.length] ?? 'low'
        const request = {
          poolId,
          userId: (at % 3) + 1,
          state,
          priority,
          untilMs: dueAtMs,
          parked: how % 2 > 0,
        }
        return { requests: [aRequest(`req_${at}`, request)], flows: [{ poolId, userId, tag: how / 4 }] }
      }
      if (what !== 'reservation') return null
      const state = RESERVATION_STATES[how % RESERVATION_STATES.length] ?? 'ended'
      const fromMs = atMs + how * 10
      const window = { fromMs, toMs: fromMs + 50, seriesId: at % 2 === 0 ? null : `ser_${by}` }
      const userOf = (at % 3) + 1
      return {
        reservations: [aReservation(`res_${at}`, { poolId, userId: userOf, state, missing: how, ...window })],
      }
    }

    const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined })
    const filters = fc.record({
      userId: optional(fc.integer({ min: 1, max: 3 })),
      poolId: optional(fc.integer({ min: 1, max: 2 })),
      running: fc.boolean(),
      request: optional(fc.constantFrom(...REQUEST_STATES)),
      reservation: optional(fc.constantFrom(...RESERVATION_STATES)),
      seriesId: optional(fc.constantFrom('ser_0', 'ser_1')),
      fromMs: optional(fc.nat(400)),
      toMs: optional(fc.nat(400)),
      label: optional(fc.constantFrom('os=debian', 'os=debian_12', 'rack=1', 'os=debianX12')),
      type: optional(fc.constantFrom('small', 'large')),
      state: optional(fc.constantFrom('ready', 'leased')),
      class: optional(fc.constantFrom('small', 'large,os=debian,rack=1')),
      rowsMax: fc.constantFrom(1, 3, 1_000),
    })

    /** All rows of a list that is taken in slices. */
    async function inSlices<Row>(take: (after: Row | undefined) => Promise<Row[]>): Promise<Row[]> {
      const rows: Row[] = []
      for (;;) {
        const slice = await take(rows.at(-1))
        if (slice.length === 0) return rows
        rows.push(...slice)
        assert.ok(rows.length < 1_000, 'the list does not end')
      }
    }

    async function readings(
      { reads }: Store,
      atMs: number,
      wanted: typeof filters extends fc.Arbitrary<infer F> ? F : never,
    ) {
      const { userId, poolId, running, seriesId, rowsMax, label, type, state, ...rest } = wanted
      const owner = { ...(userId && { userId }), ...(poolId && { poolId }) }
      const leases: LeaseFilter = { running, ...owner }
      const requests: RequestFilter = { ...owner, ...(rest.request && { state: rest.request }) }
      const reservations: ReservationFilter = {
        ...owner,
        ...(seriesId && { seriesId }),
        ...(rest.reservation && { state: rest.reservation }),
        ...(rest.fromMs !== undefined && { fromMs: NOW_MS + rest.fromMs }),
        ...(rest.toMs !== undefined && { toMs: NOW_MS + rest.toMs }),
      }
      const vms = {
        ...(label && { label }),
        ...(type && { type }),
        ...(state && ({ state } as { state: Vm['state'] })),
        ...(rest.class && { class: rest.class }),
      }
      return {
        leases: await inSlices<Lease>((after) => reads.leases(leases, { after: after ?? null, rowsMax })),
        requests: await inSlices<Request>((after) =>
          reads.requests(requests, { after: after?.id ?? '', rowsMax }),
        ),
        reservations: await inSlices<Reservation>((after) =>
          reads.reservations(reservations, { after: after?.id ?? '', rowsMax }),
        ),
        vms: await inSlices<Vm>((after) =>
          reads.vmsOfPool(poolId ?? 1, vms, { afterId: after?.id ?? 0, rowsMax }),
        ),
        next: [await reads.nextTickAtMs(1), await reads.nextTickAtMs(2), await reads.nextTickAtMs(9)],
        usage: await reads
          .usage(userId ?? 1, atMs)
          .then(({ held, ...usage }) => ({ ...usage, held: held.toSorted() })),
      }
    }

    it('say the same as plain Maps, whatever the rows and the filters, in slices of any size', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(action, { minLength: 10, maxLength: 60 }),
          fc.array(filters, { minLength: 5, maxLength: 5 }),
          async (actions, wanted) => {
            const store = await fresh()
            const maps = new MemoryStore({ now: () => nowMs })
            const vms = Array.from({ length: 12 }, (_, i) => {
              const type = i % 3 === 0 ? 'large' : 'small'
              return aVm(i + 1, { poolId: (i % 2) + 1, type, class: type })
            })
            for (const each of [store, maps]) await save(each, { ...START, vms })
            for (const action of actions) {
              const changes = changesOf(action, maps, nowMs)
              if (changes === null) continue
              for (const each of [store, maps]) await save(each, changes)
              nowMs += action.how
            }
            for (const one of wanted)
              assert.deepEqual(await readings(store, nowMs, one), await readings(maps, nowMs, one))
            assert.deepEqual(ordered(await wholeBook(store)), ordered(await wholeBook(maps)))
            const { tally } = await wholeBook(store)
            for (const key of Object.keys(tally)) assert.ok(['small', 'large'].includes(classOf(key).type))
          },
        ),
        { numRuns: histories, endOnFailure: histories < 10 },
      )
    })
  })
}
