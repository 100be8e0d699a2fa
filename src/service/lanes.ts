/**
 * Which lane a command goes to. A store with one writer has one lane. Where batches on different pools can run side by side,
 * each pool has a lane of its own, and what concerns no pool alone (users, a reset) has another. Which pool a machine is of is
 * learned from what batches load; a command that names a machine never seen goes to the common lane. The choice is for speed
 * only: what keeps batches apart is that the store holds the rows that they may change.
 */
import { LRUCache } from 'lru-cache'
import { type Command, needsOf } from '../domain/command.ts'
import { type LoadedRows, Needs } from '../domain/working-set.ts'
import type { Store } from '../store/port.ts'
import { Books } from './books.ts'
import { Lane, type LaneSettings, type LaneWatcher, type Submit, type SubmitKeyed, Traffic } from './lane.ts'
import type { Schedule } from './schedule.ts'

/** Machines whose pool is remembered. Ids are dense, so four bytes each; those above are looked for by the store. */
const PLACES_MAX = 4_000_000
const PLACES_MIN = 1_024

/** Requests and reservations whose pool is remembered. */
const WAITS_MAX = 100_000

export class Lanes {
  readonly #common: Lane
  readonly #ofPools: Map<number, Lane> | null
  readonly #newLane: () => Lane
  readonly #poolIds = new Map<string, number>()
  /** The pool's id by a request's or reservation's. */
  readonly #poolsOfWaits = new LRUCache<string, number>({ max: WAITS_MAX })
  /** The pool's id by the machine's; 0: not known. */
  #places = new Int32Array(PLACES_MIN)

  constructor(store: Store, schedule: Schedule, watcher: LaneWatcher, settings?: LaneSettings) {
    const shared = store.neighbours !== null
    const learning: LaneWatcher = shared ? { ...watcher, loaded: (rows) => this.#learn(rows) } : watcher
    const traffic = new Traffic()
    const books = new Books()
    this.#newLane = () => new Lane(store, schedule, learning, settings, traffic, books)
    this.#common = this.#newLane()
    this.#ofPools = shared ? new Map() : null
  }

  /** Hands in a command, as `Lane.submit` does. */
  readonly submit: Submit = (command) => this.#laneOf(command as unknown as Command).submit(command)

  /** Hands in a command under a key, as `Lane.submitKeyed` does. */
  readonly submitKeyed: SubmitKeyed = (command, keyed) =>
    this.#laneOf(command as unknown as Command).submitKeyed(command, keyed)

  /** Commands that wait for a batch. */
  get waiting(): number {
    return this.#all().reduce((sum, lane) => sum + lane.waiting, 0)
  }

  /** Resolves when nothing is waiting or under way. */
  async drain(): Promise<void> {
    await Promise.all(this.#all().map((lane) => lane.drain()))
  }

  #all(): Lane[] {
    return [this.#common, ...(this.#ofPools?.values() ?? [])]
  }

  #laneOf(command: Command): Lane {
    if (this.#ofPools === null) return this.#common
    const poolId = this.#poolOf(command)
    if (poolId === undefined) return this.#common
    let lane = this.#ofPools.get(poolId)
    if (lane === undefined) {
      lane = this.#newLane()
      this.#ofPools.set(poolId, lane)
    }
    return lane
  }

  #poolOf(command: Command): number | undefined {
    const needs = new Needs()
    needsOf(command, needs)
    if (needs.allPools) return undefined
    for (const id of needs.poolIds) return id
    for (const name of needs.poolNames) return this.#poolIds.get(name)
    for (const id of needs.vmIds) return this.#places[id] || undefined
    for (const id of [...needs.requestIds, ...needs.reservationIds]) return this.#poolsOfWaits.get(id)
    return undefined
  }

  #learn({ pools, vms, requests, reservations }: LoadedRows): void {
    for (const { id, poolId } of [...requests, ...reservations]) this.#poolsOfWaits.set(id, poolId)
    for (const { pool } of pools) this.#poolIds.set(pool.name, pool.id)
    for (const { id, poolId } of vms) {
      if (id >= this.#places.length) this.#grow(id)
      // An id beyond the array is dropped by it.
      this.#places[id] = poolId
    }
  }

  #grow(id: number): void {
    if (id >= PLACES_MAX) return
    const larger = new Int32Array(Math.min(PLACES_MAX, Math.max(2 * this.#places.length, id + 1)))
    larger.set(this.#places)
    this.#places = larger
  }
}
