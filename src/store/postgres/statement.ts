/**
 * How statements are sent. Each is prepared once a connection under a name of its own; those of one step of a batch are sent
 * together without waiting for each other's answers, so a step takes one round trip, however many statements it has.
 */
import type { PoolClient, QueryArrayResult, QueryResult } from 'pg'
import type { ColumnType } from '../tables.ts'

/** A statement that is prepared under its name. */
export interface Prepared {
  readonly name: string
  readonly text: string
}

let statements = 0

/** A statement with a name that no other has. */
export function prepared(text: string): Prepared {
  return { name: `b${++statements}`, text }
}

/** What PostgreSQL calls the types of columns. */
export const PG_TYPES: Record<ColumnType, string> = {
  integer: 'bigint',
  real: 'double precision',
  text: 'text',
}

export type Value = string | number | boolean | null

// biome-ignore lint/suspicious/noExplicitAny: rows are read by those who wrote the statement
export type Row = any

/** Sends statements on one connection, all those of a step at once. */
export class Flight {
  readonly #client: PoolClient
  readonly #under: Promise<unknown>[] = []
  #sent = 0

  constructor(client: PoolClient) {
    this.#client = client
    this.#client.connection.stream.cork()
  }

  /** Statements that were sent. */
  get sent(): number {
    return this.#sent
  }

  plain(text: string): Promise<QueryResult> {
    return this.#follow(this.#client.query(text))
  }

  /** Rows as objects. */
  rows(statement: Prepared, values: readonly Value[]): Promise<readonly Row[]> {
    const { name, text } = statement
    return this.#follow(this.#client.query({ name, text, values: [...values] }).then(({ rows }) => rows))
  }

  /** Rows as lists of their columns. */
  tuples(statement: Prepared, values: readonly Value[]): Promise<readonly (string | number | null)[][]> {
    const { name, text } = statement
    const sent: Promise<QueryArrayResult<(string | number | null)[]>> = this.#client.query({
      name,
      text,
      values: [...values],
      rowMode: 'array',
    })
    return this.#follow(sent.then(({ rows }) => rows))
  }

  /** Lets everything go, and resolves when all answers are here. Rejects with the first failure, when all have ended. */
  async landed(): Promise<void> {
    this.#client.connection.stream.uncork()
    const failure = (await Promise.allSettled(this.#under)).find(({ status }) => status === 'rejected')
    if (failure !== undefined) throw (failure as PromiseRejectedResult).reason
  }

  #follow<T>(sent: Promise<T>): Promise<T> {
    this.#sent++
    this.#under.push(sent)
    // Whoever asked for the rows hears of a failure from `landed`.
    sent.catch(() => {})
    return sent
  }
}

/** Numbers as PostgreSQL writes an array of them. */
export function numbers(list: readonly (number | null)[]): string {
  return `{${list.map((value) => value ?? 'NULL').join(',')}}`
}

/** Texts as PostgreSQL writes an array of them. */
export function texts(list: readonly (string | null)[]): string {
  return `{${list.map((value) => (value === null ? 'NULL' : `"${value.replace(/["\\]/g, '\\$&')}"`)).join(',')}}`
}
