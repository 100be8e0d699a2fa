/**
 * A database that several simulated servers share, modelled on the one that Berth runs on in earnest: a batch takes the rows
 * that it declared, in one order, waits while another batch holds one of them, loads what was committed last, and commits all
 * or nothing. It is not trusting: a batch that changes a row that it does not hold alone breaks a promise, whatever came of it.
 *
 * What goes wrong between a server and its database goes wrong here: it cannot be reached, a commit fails and nothing of it is
 * done, a commit is done and the answer is lost, or is done much later, or never.
 */
import type { Vm } from '../../src/domain/vm.ts'
import type {
  LoadedBook,
  LoadedRows,
  MoreNeeds,
  MoreRows,
  Needs,
  WorkingSet,
} from '../../src/domain/working-set.ts'
import { changedBooks } from '../../src/store/batch-rows.ts'
import {
  type Batch,
  type Committed,
  type News,
  OutcomeUnknown,
  type Store,
  StoreConflict,
  StoreUnavailable,
} from '../../src/store/port.ts'
import { MemoryTables, readsOf } from '../support/memory-store.ts'
import { delayMs, type FaultPlan } from './faults.ts'
import type { Promises } from './promises.ts'
import { type LockMode, type Row, RowLocks } from './row-locks.ts'
import { type Owner, owner, type Scheduler } from './scheduler.ts'

/** Versions of a pool whose changes are kept: few, so that servers have to read books whole as well. */
const CHANGES_KEPT = 3

/** What may become of a commit that does not simply succeed. */
const FAILED_COMMITS = [
  'unavailable',
  'conflict',
  'found late',
  'lost, done',
  'lost, done later',
  'lost, never done',
] as const

interface Transaction {
  readonly owner: Owner
  readonly poolIds: Set<number>
  /** The true time at which its rows were loaded: its own time was read then. */
  loadedAtMs: number
  /** What was sent to be committed. */
  sent: WorkingSet | null
  /** True when it goes on without its server, which has given it up. */
  detached: boolean
}

export class ModelDatabase {
  readonly tables = new MemoryTables()
  /** Added to the true time: how wrong the database's clock is. */
  clockErrorMs = 0
  /** Until when nobody can reach it. */
  awayUntilMs = 0
  readonly #scheduler: Scheduler
  readonly #faults: FaultPlan
  readonly #promises: Promises
  readonly #locks = new RowLocks()
  /** The database's own work, which goes on whatever becomes of the servers. */
  readonly #self = owner('database')
  readonly #open = new Set<Transaction>()
  readonly #listeners = new Map<Owner, (news: News) => void>()
  readonly #lastMsOfServer = new Map<Owner, number>()
  readonly #lastMsOfPool = new Map<number, number>()
  /** By pool: what the last batches changed of its book, as texts. */
  readonly #bookChanges = new Map<number, { readonly version: number; readonly change: string }[]>()

  constructor(scheduler: Scheduler, faults: FaultPlan, promises: Promises) {
    this.#scheduler = scheduler
    this.#faults = faults
    this.#promises = promises
  }

  /** A batch's time: the database's clock, but never earlier than a batch before it on the same server or on a pool that it holds. */
  #timeFor({ owner, poolIds }: Transaction): number {
    const clockMs = this.#scheduler.nowMs + this.clockErrorMs
    const ofPools = [...poolIds].map((id) => this.#lastMsOfPool.get(id) ?? 0)
    const nowMs = Math.max(clockMs, this.#lastMsOfServer.get(owner) ?? 0, ...ofPools)
    this.#lastMsOfServer.set(owner, nowMs)
    return nowMs
  }

  /** The store of one server. */
  connect(server: Owner): Store {
    return {
      begin: (needs) => this.#begin(server, needs),
      reads: readsOf(this.tables, async () => {
        await this.#way(server, 'read')
        if (this.#faults.strikes('readFails')) throw new StoreUnavailable('simulated: the read failed')
      }),
      neighbours: {
        tell: (news) => this.#tell(server, news),
        listen: (heard) => void this.#listeners.set(server, heard),
      },
      close: async () => {},
    }
  }

  /** What the database does when the connections of a server are gone: what was sent may still be carried out. */
  disconnect(server: Owner): void {
    this.#listeners.delete(server)
    for (const transaction of [...this.#open]) {
      if (transaction.owner !== server || transaction.detached) continue
      if (transaction.sent !== null && this.#faults.details().pick(2) === 1)
        this.#carryOut(transaction, transaction.sent)
      this.#end(transaction)
    }
  }

  /** True when no batch is under way. */
  get quiet(): boolean {
    return this.#open.size === 0 && this.#locks.quiet
  }

  async #begin(server: Owner, needs: Needs): Promise<Batch> {
    await this.#way(server, 'begin')
    if (this.#faults.strikes('beginFails'))
      throw new StoreUnavailable('simulated: the database cannot be reached')
    const transaction: Transaction = {
      owner: server,
      poolIds: new Set(),
      loadedAtMs: 0,
      sent: null,
      detached: false,
    }
    this.#open.add(transaction)
    try {
      const rows = await this.#lockAndLoad(transaction, needs)
      const had = new Set(rows.vms.map(({ id }) => id))
      return {
        rows,
        more: (more) => this.#more(transaction, more, had, rows.nowMs),
        commit: (set) => this.#commit(transaction, set),
        release: async () => this.#end(transaction),
      }
    } catch (error) {
      this.#end(transaction)
      throw error
    }
  }

  async #lockAndLoad(transaction: Transaction, needs: Needs): Promise<LoadedRows> {
    if (needs.installation) await this.#lock(transaction, 'installation', 'alone')
    for (const id of this.#poolIdsOf(needs)) {
      await this.#lock(transaction, `pool ${id}`, 'alone')
      transaction.poolIds.add(id)
    }
    const mode = needs.changedUserIds.size > 0 ? 'alone' : 'shared'
    for (const id of [...needs.userIds].sort((a, b) => a - b))
      await this.#lock(transaction, `user ${id}`, mode)
    await this.#scheduler.park(transaction.owner, 'load')
    transaction.loadedAtMs = this.#scheduler.nowMs
    const loaded = this.tables.load(needs, this.#timeFor(transaction))
    const held = loaded.pools.map(({ pool }) => pool.id)
    const rows = { ...loaded, books: this.#followed(held, loaded.books, needs.bookVersions) }
    const stranger = [...rows.vms, ...rows.requests, ...rows.reservations].find(
      ({ poolId }) => !transaction.poolIds.has(poolId),
    )
    if (stranger !== undefined)
      throw new StoreConflict(`row ${stranger.id} came to pool ${stranger.poolId} meanwhile`)
    return rows
  }

  async #more(
    transaction: Transaction,
    needs: MoreNeeds,
    had: Set<number>,
    nowMs: number,
  ): Promise<MoreRows> {
    try {
      await this.#way(transaction.owner, 'more')
      for (const id of [...needs.userIds].sort((a, b) => a - b))
        if (this.#locks.held(transaction, `user ${id}`) === null)
          await this.#lock(transaction, `user ${id}`, 'shared')
      const rows = this.tables.more(needs, had, nowMs)
      for (const { id } of rows.vms) had.add(id)
      const poolIds = needs.books.map(([poolId]) => poolId)
      return { ...rows, books: this.#followed(poolIds, rows.books, new Map(needs.books)) }
    } catch (error) {
      this.#end(transaction)
      throw error
    }
  }

  /** Books of these pools: what batches changed since the server's version where that is kept, else as they were loaded. */
  #followed(
    poolIds: readonly number[],
    loaded: readonly LoadedBook[],
    versions: ReadonlyMap<number, number>,
  ): LoadedBook[] {
    return poolIds.flatMap((poolId) => {
      const version = this.tables.pools.get(poolId)?.pool.queue.version ?? 0
      const had = versions.get(poolId) ?? 0
      const since = (this.#bookChanges.get(poolId) ?? []).filter((step) => step.version > had)
      if (had === 0 || had >= version || since.length !== version - had)
        return loaded.filter((book) => book.poolId === poolId)
      this.#promises.reached('a book follows another server’s batch')
      const changes = since.map(({ version, change }) => ({ version, change: JSON.parse(change) as never }))
      return [{ poolId, version, changes, whole: null }]
    })
  }

  /** The pools that the batch is about, as they are now, by ascending id. */
  #poolIdsOf(needs: Needs): number[] {
    const ids = new Set<number>()
    for (const { pool } of this.tables.pools.values())
      if (needs.allPools || needs.poolIds.has(pool.id) || needs.poolNames.has(pool.name)) ids.add(pool.id)
    const concerns = (vm: Vm) =>
      needs.vmIds.has(vm.id) || (vm.holderId !== null && needs.heldBy.has(vm.holderId))
    if (needs.vmIds.size > 0 || needs.heldBy.size > 0)
      for (const vm of this.tables.vms.values()) if (concerns(vm)) ids.add(vm.poolId)
    for (const { id, poolId } of this.tables.requests.values()) if (needs.requestIds.has(id)) ids.add(poolId)
    for (const { id, poolId } of this.tables.reservations.values())
      if (needs.reservationIds.has(id)) ids.add(poolId)
    for (const id of [...needs.dueLeases.keys(), ...needs.dueRequests.keys()])
      if (this.tables.pools.has(id)) ids.add(id)
    return [...ids].sort((a, b) => a - b)
  }

  async #lock(transaction: Transaction, row: Row, mode: LockMode): Promise<void> {
    let wake = () => {}
    const granted = new Promise<void>((resolve) => {
      wake = resolve
    })
    const tell = () => void this.#scheduler.after(transaction.owner, `row ${row} granted`, 0, wake)
    if (this.#locks.take(transaction, row, mode, tell)) return
    this.#promises.reached('a batch waits for a row')
    await granted
  }

  async #commit(transaction: Transaction, set: WorkingSet): Promise<Committed> {
    const { owner } = transaction
    try {
      if (set.wiped) await this.#lockAllUsers(transaction)
      transaction.sent = set
      await this.#way(owner, 'commit')
      const failure = this.#faults.strike('commitFails')
      const fate = failure === null ? 'done' : failure.among(FAILED_COMMITS)
      const late = failure === null ? 0 : delayMs(failure)
      if (fate !== 'done') this.#promises.reached(`commit: ${fate}`)
      if (fate === 'unavailable')
        throw new StoreUnavailable('simulated: the database went away before the commit')
      if (fate === 'conflict') throw new StoreConflict('simulated: the batch lost against another one')
      if (fate === 'lost, done later') {
        this.#scheduler.after(this.#self, 'late commit', late, () => {
          this.#carryOut(transaction, set)
          this.#end(transaction)
        })
        transaction.detached = true
        throw new OutcomeUnknown('simulated: the answer was lost, the commit is under way')
      }
      if (fate === 'lost, never done') throw new OutcomeUnknown('simulated: the commit was lost')
      const lastEventId = this.#apply(transaction, set)
      this.#end(transaction)
      if (fate === 'lost, done') throw new OutcomeUnknown('simulated: the answer was lost')
      await this.#way(owner, 'answer to commit', fate === 'found late' ? late : 0)
      // Whoever had to look whether it was done does not know which events it brought.
      return { lastEventId: fate === 'found late' ? 0 : lastEventId, commitMs: 0 }
    } catch (error) {
      if (!transaction.detached) this.#end(transaction)
      throw error
    }
  }

  /** Commits what nobody waits for any more. */
  #carryOut(transaction: Transaction, set: WorkingSet): void {
    try {
      this.#apply(transaction, set)
    } catch (error) {
      if (!(error instanceof StoreConflict)) throw error
    }
  }

  /** A wipe deletes the rows of all users: it waits for whoever holds one. */
  async #lockAllUsers(transaction: Transaction): Promise<void> {
    for (const id of [...this.tables.users.keys()].sort((a, b) => a - b))
      await this.#lock(transaction, `user ${id}`, 'alone')
  }

  #apply(transaction: Transaction, set: WorkingSet): number {
    this.#checkHeld(transaction, set)
    this.#checkEmails(set)
    this.#checkKeys(set)
    const { vms, users, pools, reservations } = this.tables
    const before = { vms, users, pools, reservations }
    const lastEventId = this.tables.save(set)
    if (set.wiped) for (const map of [this.#lastMsOfPool, this.#bookChanges]) map.clear()
    for (const { poolId, version, change } of changedBooks(set)) {
      const kept = this.#bookChanges.get(poolId)?.slice(1 - CHANGES_KEPT) ?? []
      this.#bookChanges.set(poolId, [...kept, { version, change }])
    }
    for (const id of set.countedPools) this.#lastMsOfPool.set(id, set.nowMs)
    this.#promises.committed(transaction.owner.name, set, before, transaction.loadedAtMs)
    return lastEventId
  }

  /** Rules between rows that no lock guards: the database has an index for each. */
  #checkEmails(set: WorkingSet): void {
    if (set.wiped) return
    const others = this.tables.activeUsers().filter(({ id }) => !set.changedUsers.has(id))
    const taken = new Set(others.map(({ email }) => email))
    for (const { state, email } of set.changedUsers.values())
      if (state === 'active' && taken.has(email))
        throw new StoreConflict(`the e-mail ${email} was taken meanwhile`)
  }

  #checkKeys(set: WorkingSet): void {
    for (const key of set.newAnswers.keys())
      if (!set.wiped && this.tables.answers.has(key) && !set.goneAnswers.has(key))
        throw new StoreConflict(`the key ${key} was answered meanwhile`)
  }

  #checkHeld(transaction: Transaction, set: WorkingSet): void {
    const must = (row: Row, what: string) => {
      if (this.#locks.held(transaction, row) !== 'alone')
        this.#promises.broken('held-rows', `a batch changes ${what} and does not hold the row '${row}' alone`)
    }
    if (set.installationChanged) must('installation', 'the installation')
    if (set.newUserIds.size > 0) must('installation', `the new user ${[...set.newUserIds].join(', ')}`)
    for (const id of set.changedUsers.keys()) if (!set.newUserIds.has(id)) must(`user ${id}`, `user ${id}`)
    for (const { id, userId } of [...set.changedTokens.values(), ...set.goneTokens.values()])
      must(`user ${userId}`, `token ${id}`)
    for (const id of new Set([...set.changedPools.keys(), ...set.countedPools]))
      if (!set.newPoolIds.has(id)) must(`pool ${id}`, `pool ${id}`)
    for (const vm of set.changedVms.values())
      if (!set.newPoolIds.has(vm.poolId)) must(`pool ${vm.poolId}`, `VM ${vm.id}`)
    const rows = [
      ...set.changedLeases.values(),
      ...set.changedRequests.values(),
      ...set.changedFlows.values(),
      ...set.changedReservations.values(),
    ]
    for (const { poolId } of rows)
      if (!set.newPoolIds.has(poolId))
        must(`pool ${poolId}`, `a lease, request or reservation of pool ${poolId}`)
    if (set.wiped) for (const id of this.tables.pools.keys()) must(`pool ${id}`, `pool ${id} (a wipe)`)
  }

  #end(transaction: Transaction): void {
    this.#open.delete(transaction)
    this.#locks.release(transaction)
  }

  /** The way to the database, or back. */
  async #way(server: Owner, label: string, extraMs = 0): Promise<void> {
    await this.#scheduler.park(server, label, extraMs + this.#faults.delayMs('slow'))
    if (this.awayUntilMs > this.#scheduler.nowMs && label !== 'commit' && label !== 'answer to commit')
      throw new StoreUnavailable('simulated: the database is away')
  }

  #tell(from: Owner, news: News): void {
    for (const [server, heard] of this.#listeners) {
      if (server === from || this.#faults.strikes('newsLost')) continue
      const times = this.#faults.strikes('newsTwice') ? 2 : 1
      for (let i = 0; i < times; i++) {
        this.#scheduler.after(server, 'news', this.#faults.delayMs('newsLate'), () => heard(news))
      }
    }
  }
}
