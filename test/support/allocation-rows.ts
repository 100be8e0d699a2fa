/**
 * Leases, requests, flows, reservations and books in plain Maps: what `MemoryTables` loads of them, and what reads say. Written
 * without a look at how the databases do it, as every other store is compared with this one.
 */
import type { BookChange } from '../../src/domain/book.ts'
import type { Lease } from '../../src/domain/lease.ts'
import { isContended, type Pool, type Tally } from '../../src/domain/pool.ts'
import type { Request } from '../../src/domain/request.ts'
import { type Reservation, reservationDueAtMs } from '../../src/domain/reservation.ts'
import type { Vm } from '../../src/domain/vm.ts'
import { classOf } from '../../src/domain/vm-class.ts'
import {
  type LoadedBook,
  leaseKey,
  type MoreNeeds,
  type MoreRows,
  type Needs,
  type Usage,
} from '../../src/domain/working-set.ts'
import type { Reads, TextSlice } from '../../src/store/port.ts'
import type { MemoryTables } from './memory-store.ts'

const WEEK_MS = 7 * 24 * 60 * 60 * 1_000

/** The lease that runs on each of these machines that is held. */
export function leasesOf({ leases }: MemoryTables, vms: Iterable<Vm>): Lease[] {
  return [...vms].flatMap((vm) => {
    const lease =
      vm.holderId === null ? undefined : leases.get(leaseKey({ vmId: vm.id, generation: vm.generation }))
    return lease === undefined || lease.endedAtMs !== null ? [] : [lease]
  })
}

/** Machines whose leases are due for a worker, the longest due first. */
export function withDueLeases({ leases, vms }: MemoryTables, needs: Needs, nowMs: number): Vm[] {
  return [...needs.dueLeases].flatMap(([poolId, rowsMax]) => {
    const due = [...leases.values()].filter(
      (lease) => lease.poolId === poolId && lease.dueAtMs !== null && lease.dueAtMs <= nowMs,
    )
    return due
      .sort((a, b) => (a.dueAtMs ?? 0) - (b.dueAtMs ?? 0))
      .slice(0, rowsMax)
      .flatMap(({ vmId }) => vms.get(vmId) ?? [])
  })
}

export function requestsFor(tables: MemoryTables, needs: Needs, nowMs: number): Request[] {
  const all = [...tables.requests.values()]
  const due = [...needs.dueRequests].flatMap(([poolId, rowsMax]) =>
    all
      .filter(({ state, untilMs, ...request }) => {
        return request.poolId === poolId && state === 'waiting' && untilMs !== null && untilMs <= nowMs
      })
      .sort((a, b) => (a.untilMs ?? 0) - (b.untilMs ?? 0))
      .slice(0, rowsMax),
  )
  const named = all.filter(({ id }) => needs.requestIds.has(id))
  return [...new Map([...named, ...due].map((request) => [request.id, request])).values()]
}

/** The books that go with pools that are held. */
export function booksFor(tables: MemoryTables, needs: Needs, pools: Iterable<Pool>): LoadedBook[] {
  return [...pools]
    .filter((pool) => {
      const had = needs.bookVersions.get(pool.id) ?? 0
      return isContended(pool) || needs.books.has(pool.name) || (had > 0 && had === pool.queue.version)
    })
    .map((pool) => loadedBook(tables, pool.id, needs.bookVersions.get(pool.id) ?? 0))
}

function loadedBook(tables: MemoryTables, poolId: number, had: number): LoadedBook {
  const row = tables.pools.get(poolId)
  if (row === undefined) throw new Error(`there is no pool ${poolId}`)
  const { version } = row.pool.queue
  return { poolId, version, changes: [], whole: had > 0 && version === had ? null : wholeBook(tables, row) }
}

/** All there is of a pool's book. */
function wholeBook(tables: MemoryTables, { pool, tally }: { pool: Pool; tally: Tally }): BookChange {
  const ofPool = <Row extends { readonly poolId: number }>(rows: Iterable<Row>) =>
    [...rows].filter(({ poolId }) => poolId === pool.id)
  const requests = ofPool(tables.requests.values()).filter(({ state }) => state === 'waiting')
  const waiting = new Set(requests.map(({ userId }) => userId))
  const vms = ofPool(tables.vms.values()).filter(({ state }) => state !== 'ready' && state !== 'deleting')
  return {
    pool,
    tally,
    vms: vms.map((vm) => {
      const { id, state, freeAtMs, holderId } = vm
      const [lease] = leasesOf(tables, [vm])
      const isSoft = lease !== undefined && lease.softGraceSeconds !== null && lease.endsAtMs === null
      const soft = isSoft ? { graceSeconds: lease.softGraceSeconds, fromMs: lease.fromMs } : null
      return { id, class: vm.class, state, freeAtMs, holderId, soft }
    }),
    gone: [],
    requests,
    flows: ofPool(tables.flows.values()).filter(
      ({ tag, userId }) => tag > pool.queue.v || waiting.has(userId),
    ),
    reservations: ofPool(tables.reservations.values()).filter(stands),
  }
}

function stands({ state }: Reservation): boolean {
  return state === 'confirmed' || state === 'active'
}

/** What `Batch.more` loads, for a batch that has the machines `had`. */
export function loadMore(
  tables: MemoryTables,
  needs: MoreNeeds,
  had: ReadonlySet<number>,
  nowMs: number,
): MoreRows {
  const named = needs.vmIds.flatMap((id) => tables.vms.get(id) ?? []).filter(({ id }) => !had.has(id))
  return {
    books: needs.books
      .filter(([poolId]) => tables.pools.has(poolId))
      .map(([poolId, version]) => loadedBook(tables, poolId, version)),
    vms: [
      ...named,
      ...needs.ready.flatMap(([poolId, vmClass, count]) =>
        tables
          .vmsWhere(
            (vm) => vm.poolId === poolId && vm.class === vmClass && vm.state === 'ready' && !had.has(vm.id),
          )
          .slice(0, count),
      ),
    ],
    leases: leasesOf(
      tables,
      needs.vmIds.flatMap((id) => tables.vms.get(id) ?? []),
    ),
    users: needs.userIds.flatMap((id) => tables.users.get(id) ?? []),
    usage: needs.usageOf.map((userId) => usageOf(tables, userId, nowMs)),
  }
}

export function usageOf({ vms, leases, requests }: MemoryTables, userId: number, nowMs: number): Usage {
  const held = new Map<string, [number, string, number]>()
  for (const vm of vms.values()) {
    if (vm.holderId !== userId) continue
    const key = `${vm.poolId} ${vm.class}`
    held.set(key, [vm.poolId, vm.class, (held.get(key)?.[2] ?? 0) + 1])
  }
  let weekMs = 0
  for (const lease of leases.values()) {
    if (lease.userId !== userId) continue
    const untilMs = lease.endedAtMs ?? nowMs
    weekMs += Math.max(0, untilMs - Math.max(lease.fromMs, nowMs - WEEK_MS))
  }
  const waiting = [...requests.values()].filter((request) => {
    return request.userId === userId && request.state === 'waiting'
  })
  return { userId, held: [...held.values()], weekMs, waiting: waiting.length }
}

/** Books with everything in them in order, as no store promises any. */
export function comparableBooks(books: readonly LoadedBook[]): LoadedBook[] {
  const ordered = (change: BookChange): BookChange => ({
    ...change,
    vms: change.vms.toSorted((a, b) => a.id - b.id),
    requests: change.requests.toSorted((a, b) => (a.id < b.id ? -1 : 1)),
    flows: change.flows.toSorted((a, b) => a.userId - b.userId),
    reservations: change.reservations.toSorted((a, b) => (a.id < b.id ? -1 : 1)),
  })
  return books
    .map((book) => ({ ...book, whole: book.whole === null ? null : ordered(book.whole) }))
    .sort((a, b) => a.poolId - b.poolId)
}

type AllocationReads = Pick<
  Reads,
  | 'vmById'
  | 'vmsOfPool'
  | 'lease'
  | 'leases'
  | 'request'
  | 'requests'
  | 'reservation'
  | 'reservations'
  | 'nextTickAtMs'
  | 'usage'
>

export function allocationReads(tables: MemoryTables): AllocationReads {
  return {
    vmById: async (id) => tables.vms.get(id) ?? null,
    vmsOfPool: async (poolId, { label, ...filter }, { afterId, rowsMax }) =>
      tables
        .vmsWhere(
          (vm) => vm.poolId === poolId && vm.id > afterId && matches(vm, filter) && hasLabel(vm, label),
        )
        .slice(0, rowsMax),
    lease: async (vmId, generation) => tables.leases.get(leaseKey({ vmId, generation })) ?? null,
    async leases({ running, ...filter }, { after, rowsMax }) {
      const found = [...tables.leases.values()].filter(
        (lease) => (lease.endedAtMs === null) === running && matches(lease, filter),
      )
      const byEnd = !running && filter.userId !== undefined
      const placeOf = ({ vmId, generation, endedAtMs }: Pick<Lease, 'vmId' | 'generation' | 'endedAtMs'>) => [
        byEnd ? (endedAtMs ?? 0) : 0,
        vmId,
        generation,
      ]
      const compare = (a: readonly number[], b: readonly number[]) =>
        a.map((part, i) => part - (b[i] ?? 0)).find((difference) => difference !== 0) ?? 0
      return found
        .filter((lease) => after === null || compare(placeOf(lease), placeOf(after)) > 0)
        .sort((a, b) => compare(placeOf(a), placeOf(b)))
        .slice(0, rowsMax)
    },
    request: async (id) => tables.requests.get(id) ?? null,
    requests: async (filter, slice) => sliced(tables.requests.values(), filter, slice),
    reservation: async (id) => tables.reservations.get(id) ?? null,
    reservations: async ({ fromMs, toMs, ...filter }, slice) => {
      const overlapping = [...tables.reservations.values()].filter(
        (reservation) =>
          (fromMs === undefined || reservation.toMs > fromMs) &&
          (toMs === undefined || reservation.fromMs < toMs),
      )
      return sliced(overlapping, filter, slice)
    },
    async nextTickAtMs(poolId) {
      const ofPool = (row: { readonly poolId: number }) => row.poolId === poolId
      const times = [
        ...[...tables.leases.values()].filter(ofPool).map(({ dueAtMs }) => dueAtMs),
        ...[...tables.requests.values()]
          .filter(ofPool)
          .map(({ state, untilMs }) => (state === 'waiting' ? untilMs : null)),
        ...[...tables.reservations.values()].filter(ofPool).map(reservationDueAtMs),
      ].filter((atMs) => atMs !== null)
      return times.length === 0 ? null : Math.min(...times)
    },
    usage: async (userId, nowMs) => usageOf(tables, userId, nowMs),
  }
}

/** Whether a row has every value of a filter. */
function matches(row: object, filter: object): boolean {
  return Object.entries(filter).every(
    ([name, value]) => value === undefined || Reflect.get(row, name) === value,
  )
}

function hasLabel(vm: Vm, label: string | undefined): boolean {
  const [name = '', value] = label?.split('=') ?? []
  return label === undefined || classOf(vm.class).labels[name] === value
}

function sliced<Row extends { readonly id: string }>(
  rows: Iterable<Row>,
  filter: object,
  { after, rowsMax }: TextSlice,
): Row[] {
  return [...rows]
    .filter((row) => row.id > after && matches(row, filter))
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .slice(0, rowsMax)
}
