/**
 * The connection that answers reads, in the calling thread. Taking and giving back SQLite's read lock costs as much as a
 * lookup, so reads that come together share one snapshot: it begins with the first, and ends when the event loop has done
 * what is ready, or with the next commit.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { Arguments, StatementRunner } from '../reads.ts'
import type { Statement } from '../statement.ts'

export class SqliteReader implements StatementRunner {
  readonly #db: DatabaseSync
  readonly #pause: (() => Promise<void>) | null
  readonly #prepared = new Map<Statement<unknown>, StatementSync>()
  readonly #begin: StatementSync
  readonly #commit: StatementSync
  #holding = false
  #ending = false

  /** `pause` null: each read stands alone, on a connection that is shared with the writer. */
  constructor(db: DatabaseSync, pause: (() => Promise<void>) | null) {
    this.#db = db
    this.#pause = pause
    this.#begin = db.prepare('BEGIN')
    this.#commit = db.prepare('COMMIT')
  }

  all<Row, Value>(statement: Statement<Row>, args: Arguments, value: (row: Row) => Value): Promise<Value[]> {
    try {
      this.#hold()
      const rows = this.#prepare(statement).all(...values(statement, args)) as unknown as Row[]
      return Promise.resolve(rows.map(value))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  first<Row, Value>(
    statement: Statement<Row>,
    args: Arguments,
    value: (row: Row) => Value,
  ): Promise<Value | null> {
    try {
      this.#hold()
      const row = this.#prepare(statement).get(...values(statement, args)) as unknown as Row | undefined
      return Promise.resolve(row === undefined ? null : value(row))
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** The time of the newest event, 0 when there is none: no batch may be earlier than that. */
  newestEventAtMs(): number {
    const row = this.#db.prepare('SELECT at_ms FROM event ORDER BY id DESC LIMIT 1').get()
    return Number(row?.at_ms ?? 0)
  }

  /** Lets the next read see what was committed until now. */
  renew(): void {
    if (!this.#holding) return
    this.#holding = false
    this.#commit.run()
  }

  close(): void {
    if (this.#db.isOpen) {
      this.renew()
      this.#db.close()
    }
  }

  #prepare(statement: Statement<unknown>): StatementSync {
    let prepared = this.#prepared.get(statement)
    if (prepared === undefined) {
      prepared = this.#db.prepare(statement.sql)
      prepared.setReturnArrays(statement.asTuples)
      this.#prepared.set(statement, prepared)
    }
    return prepared
  }

  #hold(): void {
    if (this.#pause === null) return
    if (!this.#holding) {
      this.#begin.run()
      this.#holding = true
    }
    if (this.#ending) return
    this.#ending = true
    void this.#pause().then(() => {
      this.#ending = false
      this.renew()
    })
  }
}

function values(statement: Statement<unknown>, args: Arguments): (string | number)[] {
  const list: (string | number)[] = []
  for (const name of statement.argumentNames) {
    const value = args[name]
    if (value === undefined) throw new Error(`no argument '${name}' for: ${statement.sql}`)
    list.push(value)
  }
  return list
}
