/**
 * The books that this server has in memory, one for each pool that was contended lately (domain/book.ts). A book is used by one
 * batch at a time, since batches hold their pools' rows; it runs ahead of the store while that batch is being saved, so the next one
 * waits for the outcome, and a batch that fails takes its books with it.
 */
import { Book } from '../domain/book.ts'
import { isContended, type Pool } from '../domain/pool.ts'
import type { LoadedBook } from '../domain/working-set.ts'
import { StoreConflict } from '../store/port.ts'

interface Entry {
  readonly book: Book
  /** The version of the pool that it is of. */
  version: number
  /** When the pool was contended last, or its book was asked for. */
  wantedAtMs: number
}

/** A pool that has not been contended for so long has its book forgotten. */
const KEPT_MS = 60_000

export class Books {
  readonly #entries = new Map<number, Entry>()
  /** By pool: resolves when the batch that has its book is saved, or has failed. */
  readonly #saving = new Map<number, Promise<void>>()

  /** The version of each pool whose book is here, as the next batch will find it if the one before is saved. */
  versions(): Iterable<readonly [poolId: number, version: number]> {
    return [...this.#entries].map(([poolId, { version }]) => [poolId, version] as const)
  }

  version(poolId: number): number {
    return this.#entries.get(poolId)?.version ?? 0
  }

  /** Resolves when no earlier batch is using the book. */
  async free(poolId: number): Promise<void> {
    await this.#saving.get(poolId)
  }

  /** The pool's book as the store has it. Throws `StoreConflict` when this server's is not what the store took it for. */
  current(loaded: LoadedBook, nowMs: number): Book {
    const { poolId, version, changes, whole } = loaded
    if (whole !== null) {
      const book = Book.of(whole, nowMs)
      this.#entries.set(poolId, { book, version, wantedAtMs: nowMs })
      return book
    }
    const entry = this.#entries.get(poolId)
    if (entry !== undefined)
      for (const step of changes) {
        if (step.version !== entry.version + 1) continue
        entry.book.apply(step.change, nowMs)
        entry.version = step.version
      }
    if (entry?.version === version) return entry.book
    this.#entries.delete(poolId)
    throw new StoreConflict(`the book of pool ${poolId} is not at version ${version}`)
  }

  /** A batch is about to save what it changed: its books are ahead of the store until `saved` settles. */
  saving(pools: readonly Pool[], saved: Promise<unknown>, nowMs: number): void {
    for (const pool of pools) {
      const entry = this.#entries.get(pool.id)
      if (entry === undefined) continue
      entry.version = pool.queue.version
      if (isContended(pool)) entry.wantedAtMs = nowMs
      const settled = saved.then(
        () => {
          if (nowMs - entry.wantedAtMs > KEPT_MS) this.#drop(pool.id, entry)
        },
        () => this.#drop(pool.id, entry),
      )
      this.#saving.set(pool.id, settled)
      void settled.then(() => {
        if (this.#saving.get(pool.id) === settled) this.#saving.delete(pool.id)
      })
    }
  }

  /** The batch that used these books ends without being saved, and may have changed them. */
  drop(poolIds: Iterable<number>): void {
    for (const poolId of poolIds) this.#entries.delete(poolId)
  }

  #drop(poolId: number, entry: Entry): void {
    if (this.#entries.get(poolId) === entry) this.#entries.delete(poolId)
  }
}
