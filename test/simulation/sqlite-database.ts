/**
 * The real SQLite store, in memory, behind the same steps as the model: one server at a time uses it, and its crash rolls back
 * what is under way. Whatever it loads and whatever its reads say is compared with a model that is given the same commits.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Lease } from '../../src/domain/lease.ts'
import type { LoadedBook, Needs, WorkingSet } from '../../src/domain/working-set.ts'
import { type Batch, type Reads, type Store, StoreUnavailable } from '../../src/store/port.ts'
import { openSqliteStore } from '../../src/store/sqlite/store.ts'
import { comparableBooks } from '../support/allocation-rows.ts'
import { MemoryTables, readsOf } from '../support/memory-store.ts'
import type { FaultPlan } from './faults.ts'
import type { Promises } from './promises.ts'
import { type Owner, type Scheduler, STARTS_AT_MS } from './scheduler.ts'
import type { Database } from './server.ts'

export class SqliteDatabase implements Database {
  readonly tables = new MemoryTables()
  clockErrorMs = 0
  awayUntilMs = 0
  readonly #scheduler: Scheduler
  readonly #faults: FaultPlan
  readonly #promises: Promises
  #store: Store | null = null
  #lastNowMs = 0
  readonly #open = new Map<Batch, Owner>()

  constructor(scheduler: Scheduler, faults: FaultPlan, promises: Promises) {
    this.#scheduler = scheduler
    this.#faults = faults
    this.#promises = promises
  }

  async open(): Promise<void> {
    this.#store = await openSqliteStore({
      folder: null,
      now: () => this.nowMs,
      pause: async () => {},
    })
  }

  /** Its own time, which never runs backwards. */
  get nowMs(): number {
    this.#lastNowMs = Math.max(this.#lastNowMs, this.#scheduler.nowMs + this.clockErrorMs, STARTS_AT_MS)
    return this.#lastNowMs
  }

  get quiet(): boolean {
    return this.#open.size === 0
  }

  connect(server: Owner): Store {
    const store = this.#opened()
    const shadow = readsOf(this.tables, async () => {})
    return {
      begin: (needs) => this.#begin(server, needs),
      reads: this.#compared(server, store.reads, shadow),
      neighbours: null,
      close: async () => {},
    }
  }

  /** The process is gone: its transaction is rolled back. */
  disconnect(server: Owner): void {
    for (const [batch, owner] of this.#open)
      if (owner === server) {
        this.#open.delete(batch)
        void batch.release()
      }
  }

  async close(): Promise<void> {
    await this.#opened().close()
  }

  async #begin(server: Owner, needs: Needs): Promise<Batch> {
    await this.#way(server, 'begin')
    if (this.#faults.strikes('beginFails')) throw new StoreUnavailable('simulated: the disk cannot be read')
    const batch = await this.#opened().begin(needs)
    if (server.dead) {
      void batch.release()
      return new Promise(() => {})
    }
    this.#open.set(batch, server)
    const loadedAtMs = this.#scheduler.nowMs
    this.#compareLoaded(needs, batch)
    const had = new Set(batch.rows.vms.map(({ id }) => id))
    await this.#way(server, 'loaded')
    return {
      rows: batch.rows,
      more: async (more) => {
        await this.#way(server, 'more')
        const rows = await batch.more(more)
        const model = this.tables.more(more, had, batch.rows.nowMs)
        for (const { id } of rows.vms) had.add(id)
        this.#same('more machines', byId(rows.vms), byId(model.vms))
        this.#same('more users', byId(rows.users), byId(model.users))
        this.#same('usage', rows.usage, model.usage)
        this.#sameBooks(rows.books, model.books)
        return rows
      },
      commit: async (set) => {
        await this.#way(server, 'commit')
        const fails = this.#faults.strikes('commitFails')
        this.#open.delete(batch)
        if (fails) {
          await batch.release()
          throw new StoreUnavailable('simulated: the disk is full')
        }
        const committing = batch.commit(set)
        this.#follow(server, set, loadedAtMs)
        const committed = await committing
        const newest = this.tables.events.at(-1)?.id ?? 0
        if (committed.lastEventId !== newest)
          this.#promises.broken(
            'stores',
            `the newest event is ${committed.lastEventId} in SQLite and ${newest} in the model`,
          )
        await this.#way(server, 'answer to commit')
        return committed
      },
      release: async () => {
        this.#open.delete(batch)
        await batch.release()
      },
    }
  }

  #follow(server: Owner, set: WorkingSet, loadedAtMs: number): void {
    const { vms, users, pools, reservations } = this.tables
    const before = { vms, users, pools, reservations }
    this.tables.save(set)
    this.#promises.committed(server.name, set, before, loadedAtMs)
  }

  #compareLoaded(needs: Needs, { rows }: Batch): void {
    const expected = this.tables.load(needs, rows.nowMs)
    const same = this.#same.bind(this)
    same('the installation', rows.installation, expected.installation)
    same('users', byId(rows.users), byId(expected.users))
    same('machines', byId(rows.vms), byId(expected.vms))
    same('pools', byId(rows.pools.map(({ pool }) => pool)), byId(expected.pools.map(({ pool }) => pool)))
    same('leases', byMachine(rows.leases), byMachine(expected.leases))
    same('requests', byTextId(rows.requests), byTextId(expected.requests))
    same('reservations', byTextId(rows.reservations), byTextId(expected.reservations))
    this.#sameBooks(rows.books, expected.books)
    same('the census', rows.census, expected.census)
  }

  #sameBooks(mine: readonly LoadedBook[], theirs: readonly LoadedBook[]): void {
    this.#same('books', comparableBooks(mine), comparableBooks(theirs))
  }

  #same(what: string, mine: unknown, theirs: unknown): void {
    if (!isDeepStrictEqual(mine, theirs))
      this.#promises.broken(
        'stores',
        `SQLite loaded ${what} ${JSON.stringify(mine)}, the model ${JSON.stringify(theirs)}`,
      )
  }

  /** Reads, each of which has to say what the model says. */
  #compared(server: Owner, reads: Reads, shadow: Reads): Reads {
    return new Proxy(reads, {
      get: (target, name) => {
        const real = Reflect.get(target, name) as (...args: unknown[]) => Promise<unknown>
        const model = Reflect.get(shadow, name) as (...args: unknown[]) => Promise<unknown>
        return async (...args: unknown[]) => {
          await this.#way(server, 'read')
          const [mine, theirs] = await Promise.all([real.apply(target, args), model(...args)])
          if (!isAlike(mine, theirs))
            this.#promises.broken(
              'stores',
              `${String(name)}(${JSON.stringify(args)}) is ${JSON.stringify(mine)} in SQLite and ${JSON.stringify(theirs)} in the model`,
            )
          return mine
        }
      },
    })
  }

  #opened(): Store {
    if (this.#store === null) throw new Error('the store is not open')
    return this.#store
  }

  async #way(server: Owner, label: string): Promise<void> {
    await this.#scheduler.park(server, label, this.#faults.delayMs('slow'))
  }
}

function byId<Row extends { readonly id: number }>(rows: readonly Row[]): Row[] {
  return [...new Map(rows.map((row) => [row.id, row])).values()].sort((a, b) => a.id - b.id)
}

function byTextId<Row extends { readonly id: string }>(rows: readonly Row[]): Row[] {
  return rows.toSorted((a, b) => (a.id < b.id ? -1 : 1))
}

function byMachine(leases: readonly Lease[]): Lease[] {
  return leases.toSorted((a, b) => a.vmId - b.vmId || a.generation - b.generation)
}

/** Alike but for prototypes, undefined fields and the order of keys. */
function isAlike(a: unknown, b: unknown): boolean {
  const [textA, textB] = [JSON.stringify(a), JSON.stringify(b)]
  return (
    textA === textB ||
    (textA !== undefined && isDeepStrictEqual(JSON.parse(textA), JSON.parse(textB ?? 'null')))
  )
}
