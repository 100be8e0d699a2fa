/**
 * A store that keeps its rows in plain Maps: the smallest honest implementation of the port. It loads exactly what `Needs`
 * asks for, guards each changed machine on commit, keeps the constraints that a database would, and runs batches one by one.
 * `MemoryTables` is its synchronous core, for tests of rules that want no store around them.
 */
import type { Answer } from '../../src/domain/answer.ts'
import { ACCOUNT_EVENTS, type Event } from '../../src/domain/event.ts'
import type { Lease } from '../../src/domain/lease.ts'
import { countByType, countUp, type Pool, poolStats, type Tally } from '../../src/domain/pool.ts'
import type { Flow, Request } from '../../src/domain/request.ts'
import type { Reservation } from '../../src/domain/reservation.ts'
import { FIRST_DAY } from '../../src/domain/reset.ts'
import type { Token } from '../../src/domain/token.ts'
import type { User } from '../../src/domain/user.ts'
import { VM_STATES, type Vm } from '../../src/domain/vm.ts'
import { VM_TYPE_NAMES } from '../../src/domain/vm-type.ts'
import type {
  Installation,
  LoadedRows,
  MoreNeeds,
  MoreRows,
  Needs,
  WorkingSet,
} from '../../src/domain/working-set.ts'
import type {
  Batch,
  Holding,
  PoolReading,
  Reads,
  Slice,
  Store,
  VmFilter,
  VmListing,
} from '../../src/store/port.ts'

import {
  allocationReads,
  booksFor,
  leasesOf,
  loadMore,
  requestsFor,
  usageOf,
  withDueLeases,
} from './allocation-rows.ts'

export interface PoolRow {
  readonly pool: Pool
  readonly tally: Tally
}

export class MemoryTables {
  installation: Installation = FIRST_DAY
  users = new Map<number, User>()
  tokens = new Map<string, Token>()
  /** By user id and key. */
  answers = new Map<string, Answer>()
  pools = new Map<number, PoolRow>()
  vms = new Map<number, Vm>()
  /** By machine and generation. */
  leases = new Map<string, Lease>()
  requests = new Map<string, Request>()
  /** By pool and user. */
  flows = new Map<string, Flow>()
  reservations = new Map<string, Reservation>()
  events: Event[] = []
  lastEventId = 0

  /** Every row that `needs` names; what a rule changes in it by mistake does not reach the tables. */
  load(needs: Needs, nowMs: number): LoadedRows {
    const users = [...this.users.values()].filter(
      (user) => needs.userIds.has(user.id) || (user.state === 'active' && needs.emails.has(user.email)),
    )
    const pools = new Map<number, PoolRow>()
    for (const row of this.pools.values())
      if (needs.allPools || needs.poolIds.has(row.pool.id) || needs.poolNames.has(row.pool.name))
        pools.set(row.pool.id, row)
    const idOfPool = (name: string) => [...pools.values()].find(({ pool }) => pool.name === name)?.pool.id
    const vms = new Map<number, Vm>()
    const add = (found: Vm[]) => {
      for (const vm of found) vms.set(vm.id, vm)
      return found.map((vm) => vm.id)
    }
    add(this.vmsWhere((vm) => needs.vmIds.has(vm.id)))

    const ready: { poolId: number; type: Vm['type'] | null; vmIds: number[] }[] = []
    for (const [name, types] of [
      ...[...needs.readyAny].map((name) => [name, [null]] as const),
      ...needs.readyOfType,
    ])
      for (const type of types) {
        const poolId = idOfPool(name)
        if (poolId === undefined) continue
        const free = this.vmsWhere(
          (vm) => vm.poolId === poolId && vm.state === 'ready' && (type === null || vm.type === type),
        )
        ready.push({ poolId, type, vmIds: add(free.slice(0, needs.takers)) })
      }
    for (const poolId of needs.removable.keys())
      for (const state of ['provisioning', 'ready']) {
        const removable = this.vmsWhere((vm) => vm.poolId === poolId && vm.state === state)
        const n = needs.takers + (state === 'provisioning' ? needs.finishers : 0)
        add(removable.reverse().slice(0, n))
      }
    for (const [poolId, states] of needs.due)
      for (const [state, rowsMax] of states) {
        const due = this.vmsWhere(
          (vm) => vm.poolId === poolId && vm.state === state && vm.dueAtMs !== null && vm.dueAtMs <= nowMs,
        )
        add(due.sort((a, b) => (a.dueAtMs ?? 0) - (b.dueAtMs ?? 0)).slice(0, rowsMax))
      }
    for (const [userId, rowsMax] of needs.heldBy)
      add(this.vmsWhere((vm) => vm.holderId === userId).slice(0, rowsMax))
    add(this.vmsWhere((vm) => vm.state !== 'deleting').slice(0, needs.standing))

    add(withDueLeases(this, needs, nowMs))
    const requests = requestsFor(this, needs, nowMs)
    const reservations = [...this.reservations.values()].filter(({ id }) => needs.reservationIds.has(id))

    const concerned = [...vms.values(), ...requests, ...reservations].map(({ poolId }) => poolId)
    for (const poolId of [...concerned, ...needs.dueLeases.keys(), ...needs.dueRequests.keys()]) {
      const row = this.pools.get(poolId)
      if (row !== undefined) pools.set(poolId, row)
    }
    return {
      nowMs,
      installation: this.installation,
      users,
      tokens: [...this.tokens.values()].filter(
        (token) => needs.tokenIds.has(token.id) || needs.tokensOf.has(token.userId),
      ),
      answers: [
        ...[...needs.answers.keys()].flatMap((key) => this.answers.get(key) ?? []),
        ...[...this.answers.values()].sort((a, b) => a.atMs - b.atMs).slice(0, needs.oldestAnswers),
      ],
      pools: [...pools.values()].map(({ pool, tally }) => ({ pool, tally: cloneOf(tally) })),
      vms: [...vms.values()],
      leases: leasesOf(this, vms.values()),
      requests,
      reservations,
      usage: [...needs.usageOf].map((userId) => usageOf(this, userId, nowMs)),
      books: booksFor(
        this,
        needs,
        [...pools.values()].map(({ pool }) => pool),
      ),
      ready,
      census: needs.census ? { users: this.activeUsers().length, vms: this.vms.size } : null,
    }
  }

  /** What a batch needs beside, that has the machines `had`. */
  more(needs: MoreNeeds, had: ReadonlySet<number>, nowMs: number): MoreRows {
    return loadMore(this, needs, had, nowMs)
  }

  /** Saves what changed, all or nothing, and returns the id of the newest event. */
  save(set: WorkingSet): number {
    const next = this.copy()
    if (set.wiped) {
      for (const rows of [next.users, next.tokens, next.answers, next.pools, next.vms, next.leases])
        rows.clear()
      for (const rows of [next.requests, next.flows, next.reservations]) rows.clear()
      next.events = []
    }
    next.#write(set)
    next.#check()
    Object.assign(this, next)
    return this.lastEventId
  }

  /** The same rows in tables of their own. */
  copy(): MemoryTables {
    const copy = new MemoryTables()
    copy.installation = this.installation
    copy.users = new Map(this.users)
    copy.tokens = new Map(this.tokens)
    copy.answers = new Map(this.answers)
    copy.pools = new Map(this.pools)
    copy.vms = new Map(this.vms)
    copy.leases = new Map(this.leases)
    copy.requests = new Map(this.requests)
    copy.flows = new Map(this.flows)
    copy.reservations = new Map(this.reservations)
    copy.events = [...this.events]
    copy.lastEventId = this.lastEventId
    return copy
  }

  #write(set: WorkingSet): void {
    for (const [id, user] of set.changedUsers) {
      must(this.users.has(id) !== set.newUserIds.has(id), `user ${id} is there already, or is not there`)
      this.users.set(id, user)
    }
    for (const id of set.goneTokens.keys()) this.tokens.delete(id)
    for (const [id, token] of set.changedTokens) {
      must(this.tokens.has(id) !== set.newTokenIds.has(id), `token ${id} is there already, or is not there`)
      this.tokens.set(id, token)
    }
    for (const key of set.goneAnswers.keys()) this.answers.delete(key)
    for (const [key, answer] of set.newAnswers) {
      must(!this.answers.has(key), `the key ${key} has an answer already`)
      this.answers.set(key, answer)
    }
    for (const id of new Set([...set.changedPools.keys(), ...set.countedPools])) {
      const pool = set.pool(id)
      if (pool === undefined) continue
      must(this.pools.has(id) !== set.newPoolIds.has(id), `pool ${id} is there already, or is not there`)
      this.pools.set(id, { pool, tally: cloneOf(set.tally(id)) })
    }
    for (const [id, vm] of set.changedVms) {
      const row = this.vms.get(id)
      const loaded = set.loadedVms.get(id)
      must(row?.state === loaded?.state, `VM ${id} is no longer in the state it was loaded in`)
      must(row?.generation === loaded?.generation, `VM ${id} is no longer at the generation it was loaded at`)
      this.vms.set(id, vm)
    }
    for (const id of set.goneVms) {
      must(this.vms.get(id)?.state === 'deleting', `VM ${id} is not there or not 'deleting'`)
      this.vms.delete(id)
    }
    for (const [key, lease] of set.changedLeases) {
      const before = this.leases.get(key)
      must((before === undefined) === set.newLeases.has(key), `lease ${key} began twice, or never`)
      must(before === undefined || before.endedAtMs === null, `lease ${key} has ended`)
      this.leases.set(key, lease)
    }
    for (const [id, request] of set.changedRequests) this.requests.set(id, request)
    for (const [key, flow] of set.changedFlows) this.flows.set(key, flow)
    for (const [id, reservation] of set.changedReservations) this.reservations.set(id, reservation)
    for (const event of set.events) {
      const { data, ...rest } = event
      this.events.push({
        ...rest,
        ...(data === undefined ? {} : { data: JSON.parse(JSON.stringify(data)) as Record<string, unknown> }),
        id: ++this.lastEventId,
        atMs: set.nowMs,
      })
    }
    if (set.installationChanged) this.installation = set.installation
  }

  /** What a database's constraints would refuse. */
  #check(): void {
    const emails = this.activeUsers().map((user) => user.email)
    must(new Set(emails).size === emails.length, 'an e-mail belongs to two active users')
    const hashes = [...this.tokens.values()].map(({ hash }) => hash)
    must(new Set(hashes).size === hashes.length, 'two tokens have one hash')
    const names = [...this.pools.values()].map(({ pool }) => pool.name)
    must(new Set(names).size === names.length, 'two pools have one name')
    for (const vm of this.vms.values()) {
      must(this.pools.has(vm.poolId), `VM ${vm.id} is of no pool`)
      must(vm.holderId === null || this.users.has(vm.holderId), `VM ${vm.id} is held by nobody known`)
      must((vm.state === 'leased') === (vm.holderId !== null), `VM ${vm.id}: leased and held differ`)
    }
  }

  /** Machines by ascending id. */
  vmsWhere(test: (vm: Vm) => boolean): Vm[] {
    return [...this.vms.values()].filter(test).sort(byId)
  }

  activeUsers(): User[] {
    return [...this.users.values()].filter((user) => user.state === 'active').sort(byId)
  }

  /** The tally of a pool, counted anew from its machines. */
  recount(poolId: number): Tally {
    const tally: Tally = {}
    for (const vm of this.vms.values()) if (vm.poolId === poolId) countUp(tally, vm.class, vm.state, 1)
    return tally
  }
}

export interface MemorySettings {
  /** The clock, in epoch milliseconds. */
  readonly now: () => number
  readonly tables?: MemoryTables
  /** Awaited at every step that a real store would wait at: a simulation lets others go first here. */
  readonly step?: () => Promise<void>
}

export class MemoryStore implements Store {
  readonly tables: MemoryTables
  readonly reads: Reads
  readonly neighbours = null
  readonly #now: () => number
  readonly #step: () => Promise<void>
  #lastNowMs = 0
  #closed = false
  /** Resolves when the batch under way has ended. */
  #ended: Promise<void> = Promise.resolve()

  constructor({ now, tables = new MemoryTables(), step = async () => {} }: MemorySettings) {
    this.tables = tables
    this.#now = now
    this.#step = step
    this.reads = readsOf(tables, async () => {
      if (this.#closed) throw new Error('the store is closed')
      await step()
    })
  }

  async begin(needs: Needs): Promise<Batch> {
    const before = this.#ended
    let end = () => {}
    this.#ended = new Promise((resolve) => {
      end = resolve
    })
    await before
    if (this.#closed) {
      end()
      throw new Error('the store is closed')
    }
    await this.#step()
    this.#lastNowMs = Math.max(this.#lastNowMs, this.#now())
    const rows = this.tables.load(needs, this.#lastNowMs)
    const had = new Set(rows.vms.map(({ id }) => id))
    let over = false
    return {
      rows,
      more: async (needs) => {
        must(!over, 'the batch has ended')
        await this.#step()
        const more = this.tables.more(needs, had, rows.nowMs)
        for (const { id } of more.vms) had.add(id)
        return more
      },
      commit: async (workingSet) => {
        must(!over, 'the batch has ended')
        over = true
        try {
          await this.#step()
          return { lastEventId: this.tables.save(workingSet), commitMs: 0 }
        } finally {
          end()
        }
      },
      release: async () => {
        must(!over, 'the batch has ended')
        over = true
        end()
      },
    }
  }

  async close(): Promise<void> {
    await this.#ended
    this.#closed = true
  }
}

/** The reads of a store over these tables, each behind a step. */
export function readsOf(tables: MemoryTables, step: () => Promise<void>): Reads {
  const listing = (vm: Vm): VmListing => ({
    id: vm.id,
    name: vm.name,
    type: vm.type,
    address: vm.address,
    power: vm.power,
    state: vm.state,
    holderEmail: vm.holderId === null ? null : (tables.users.get(vm.holderId)?.email ?? null),
    createdAtMs: vm.createdAtMs,
  })
  const poolCalled = (name: string) => [...tables.pools.values()].find(({ pool }) => pool.name === name)
  const standing = (pool: string, test: (vm: Vm) => boolean) => {
    const poolId = poolCalled(pool)?.pool.id
    return tables.vmsWhere((vm) => vm.poolId === poolId && vm.state !== 'deleting' && test(vm))
  }
  const holding = (vm: Vm | undefined): Holding | null => {
    const holder = vm === undefined || vm.holderId === null ? undefined : tables.users.get(vm.holderId)
    return vm === undefined || holder?.state !== 'active' ? null : { vm: listing(vm), holder }
  }
  const matches = (vm: Vm, filter: VmFilter): boolean => {
    if (filter.by === 'type') return vm.type === filter.type
    if (filter.by === 'running' || filter.by === 'stopped') return vm.power === filter.by
    if (filter.by === 'ready') return vm.state === 'ready'
    if (filter.by === 'aside') return vm.state !== 'ready' && vm.state !== 'leased'
    if (filter.by === 'holder') return holding(vm)?.holder.email === filter.email
    return filter.by === 'all'
  }
  const answers: Reads = {
    user: async (id) => tables.users.get(id) ?? null,
    userByEmail: async (email) => tables.activeUsers().find((user) => user.email === email) ?? null,
    activeUsers: async (slice) => sliced(tables.activeUsers(), slice),
    anyUser: async () => tables.activeUsers().length > 0,
    token: async (id) => tables.tokens.get(id) ?? null,
    tokenByHash: async (hash) => [...tables.tokens.values()].find((token) => token.hash === hash) ?? null,
    tokensOf: async (userId) =>
      [...tables.tokens.values()]
        .filter((token) => token.userId === userId)
        .sort((a, b) => (a.id < b.id ? -1 : 1)),
    leavers: async (rowsMax) => {
      const ids = [...tables.users.values()].filter(({ state }) => state === 'leaving').map(({ id }) => id)
      return ids.sort((a, b) => a - b).slice(0, rowsMax)
    },
    pool: async (id) => readingOf(tables.pools.get(id)),
    poolNamed: async (name) => readingOf(poolCalled(name)),
    pools: async () =>
      [...tables.pools.keys()]
        .sort((a, b) => a - b)
        .flatMap((id) => {
          const reading = readingOf(tables.pools.get(id))
          return reading === null || reading.pool.retired ? [] : [reading]
        }),
    vm: async (pool, id) => standing(pool, (vm) => vm.id === id).map(listing)[0] ?? null,
    vms: async (pool, filter, slice) =>
      sliced(
        standing(pool, (vm) => matches(vm, filter)),
        slice,
      ).map(listing),
    heldByUser: async (pool, userId) => holding(standing(pool, (vm) => vm.holderId === userId)[0]),
    holderOf: async (pool, vmId) => holding(standing(pool, (vm) => vm.id === vmId)[0]),
    nextDueAtMs: async (poolId, state) => {
      const due = tables
        .vmsWhere((vm) => vm.poolId === poolId && vm.state === state)
        .flatMap(({ dueAtMs }) => dueAtMs ?? [])
      return due.length === 0 ? null : Math.min(...due)
    },
    ...allocationReads(tables),
    installation: async () => tables.installation,
    events: async (slice) => sliced(tables.events, slice),
    accountEvents: async (slice) =>
      sliced(
        tables.events.filter(({ type }) => (ACCOUNT_EVENTS as readonly string[]).includes(type)),
        slice,
      ),
    lastEventId: async () => tables.events.at(-1)?.id ?? 0,
    ping: async () => {},
  }
  return new Proxy(answers, {
    get(target, name) {
      const answer = Reflect.get(target, name) as (...args: unknown[]) => Promise<unknown>
      return async (...args: unknown[]) => {
        await step()
        return answer(...args)
      }
    },
  })
}

/** Rows are replaced, never changed, so what was made of one stays right. */
const readings = new WeakMap<PoolRow, PoolReading>()

function readingOf(row: PoolRow | undefined): PoolReading | null {
  if (row === undefined) return null
  const known = readings.get(row)
  if (known !== undefined) return known
  const { pool, tally } = row
  const counted = countByType(tally)
  for (const type of VM_TYPE_NAMES) if (!counted.has(type)) counted.set(type, {})
  const states = [...counted].flatMap(([type, counts]) =>
    VM_STATES.map((state) => ({ type, state, count: counts[state] ?? 0 })),
  )
  const reading = { pool, stats: poolStats(pool, tally), states }
  readings.set(row, reading)
  return reading
}

function cloneOf(tally: Tally): Tally {
  const clone: Tally = {}
  for (const key in tally) clone[key] = { ...tally[key] }
  return clone
}

function sliced<Row extends { readonly id: number }>(rows: readonly Row[], slice: Slice): Row[] {
  return rows.filter(({ id }) => id > slice.afterId).slice(0, slice.rowsMax)
}

function byId(a: { readonly id: number }, b: { readonly id: number }): number {
  return a.id - b.id
}

function must(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise)
}
