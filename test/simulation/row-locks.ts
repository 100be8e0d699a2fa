/**
 * Locks on rows, as a database keeps them for its transactions: many may share a row, one may have it alone, and who cannot
 * have it waits in line. Transactions take their rows in one order (installation, pools by id, users by id), so no two can
 * wait for each other; that is checked at each wait.
 */
export type LockMode = 'shared' | 'alone'

export type Row = 'installation' | `pool ${number}` | `user ${number}`

interface Wait {
  readonly transaction: object
  readonly mode: LockMode
  readonly granted: () => void
}

interface Lock {
  readonly holders: Map<object, LockMode>
  readonly line: Wait[]
}

export class RowLocks {
  readonly #locks = new Map<Row, Lock>()
  /** What each transaction holds or waits for. */
  readonly #rows = new Map<object, Set<Row>>()

  /** True when the transaction has the row now; else it will be told. Throws when that could never be. */
  take(transaction: object, row: Row, mode: LockMode, granted: () => void): boolean {
    let lock = this.#locks.get(row)
    if (lock === undefined) {
      lock = { holders: new Map(), line: [] }
      this.#locks.set(row, lock)
    }
    let rows = this.#rows.get(transaction)
    if (rows === undefined) {
      rows = new Set()
      this.#rows.set(transaction, rows)
    }
    rows.add(row)
    const held = lock.holders.get(transaction)
    if (held === 'alone' || held === mode) return true
    if (this.#fits(lock, transaction, mode) && (lock.line.length === 0 || held !== undefined)) {
      lock.holders.set(transaction, mode)
      return true
    }
    lock.line.push({ transaction, mode, granted })
    if (this.#waitsFor(transaction, transaction, new Set()))
      throw new Error(`deadlock: transactions wait for each other at the row '${row}'`)
    return false
  }

  held(transaction: object, row: Row): LockMode | null {
    return this.#locks.get(row)?.holders.get(transaction) ?? null
  }

  /** Gives back all rows of a transaction, and its places in line. */
  release(transaction: object): void {
    for (const row of this.#rows.get(transaction) ?? []) {
      const lock = this.#locks.get(row)
      if (lock === undefined) continue
      lock.holders.delete(transaction)
      const at = lock.line.findIndex((wait) => wait.transaction === transaction)
      if (at >= 0) lock.line.splice(at, 1)
      for (let first = lock.line[0]; first !== undefined; first = lock.line[0]) {
        if (!this.#fits(lock, first.transaction, first.mode)) break
        lock.line.shift()
        lock.holders.set(first.transaction, first.mode)
        first.granted()
      }
      if (lock.holders.size === 0 && lock.line.length === 0) this.#locks.delete(row)
    }
    this.#rows.delete(transaction)
  }

  /** True when nobody holds or waits for anything. */
  get quiet(): boolean {
    return this.#locks.size === 0
  }

  #fits(lock: Lock, transaction: object, mode: LockMode): boolean {
    for (const [holder, held] of lock.holders)
      if (holder !== transaction && (mode === 'alone' || held === 'alone')) return false
    return true
  }

  #waitsFor(from: object, goal: object, seen: Set<object>): boolean {
    for (const row of this.#rows.get(from) ?? []) {
      const lock = this.#locks.get(row)
      const place = lock?.line.findIndex(({ transaction }) => transaction === from) ?? -1
      if (lock === undefined || place < 0) continue
      const ahead = [
        ...lock.holders.keys(),
        ...lock.line.slice(0, place).map(({ transaction }) => transaction),
      ]
      for (const other of ahead) {
        if (other === from) continue
        if (other === goal) return true
        if (seen.has(other)) continue
        seen.add(other)
        if (this.#waitsFor(other, goal, seen)) return true
      }
    }
    return false
  }
}
