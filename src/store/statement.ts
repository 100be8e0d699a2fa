/**
 * A statement as it is kept: its text in the words of one database, with places for arguments that have names. Compiling a query
 * for each call would cost more than running it.
 */
import {
  type Compilable,
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely'
import type { Tables, Tuple } from './tables.ts'

export type Dialect = 'sqlite' | 'postgres'

/** A compiled statement: its text, and the names of its arguments in the order of their places. */
export interface Statement<Row> {
  readonly sql: string
  readonly argumentNames: readonly string[]
  /** True: rows come as lists of their columns, which is cheaper to make and to read than objects. */
  readonly asTuples: boolean
  /** Only for types: what a row looks like. */
  readonly row?: Row
}

/** A place in a statement that is filled in at each call. */
class Place {
  readonly name: string
  constructor(name: string) {
    this.name = name
  }
}

// The query builder wants a value of the column's type; a place stands for one until the call.
export function place<T = number>(name: string): T {
  return new Place(name) as T
}

export function compilerFor(dialect: Dialect): Kysely<Tables> {
  return new Kysely<Tables>({
    dialect: {
      createAdapter: () => (dialect === 'sqlite' ? new SqliteAdapter() : new PostgresAdapter()),
      createDriver: () => new DummyDriver(),
      createIntrospector: (db) =>
        dialect === 'sqlite' ? new SqliteIntrospector(db) : new PostgresIntrospector(db),
      createQueryCompiler: () =>
        dialect === 'sqlite' ? new SqliteQueryCompiler() : new PostgresQueryCompiler(),
    },
  })
}

export function statement<Row>(query: Compilable<Row>): Statement<Row> {
  return { ...compiledOf(query), asTuples: false }
}

/** A statement whose rows come as lists of the columns that it selects. */
export function tupleStatement(query: Compilable<unknown>): Statement<Tuple> {
  return { ...compiledOf(query), asTuples: true }
}

/** A statement that is written by hand, the same for all databases: `:name` is the place of an argument. */
export function writtenStatement(dialect: Dialect, text: string): Statement<Tuple> {
  const argumentNames: string[] = []
  const sql = text.replace(/:([a-z]+)\b/gi, (_, name: string) => {
    argumentNames.push(name)
    return dialect === 'sqlite' ? '?' : `$${argumentNames.length}`
  })
  return { sql, argumentNames, asTuples: true }
}

/** Statements that differ in which filters they have: each is compiled when it is first asked for. */
export class FilteredStatement<Filter extends object> {
  readonly #build: (has: (name: keyof Filter) => boolean) => Statement<Tuple>
  readonly #known = new Map<string, Statement<Tuple>>()

  constructor(build: (has: (name: keyof Filter) => boolean) => Statement<Tuple>) {
    this.#build = build
  }

  /** The statement with the filters that are given: their values are its arguments. */
  with(filter: Filter): Statement<Tuple> {
    const names = (Object.keys(filter) as (keyof Filter & string)[]).filter(
      (name) => filter[name] !== undefined,
    )
    const key = names.sort().join()
    let found = this.#known.get(key)
    if (found === undefined) {
      found = this.#build((name) => names.includes(name as keyof Filter & string))
      this.#known.set(key, found)
    }
    return found
  }
}

function compiledOf(query: Compilable<unknown>): Pick<Statement<never>, 'sql' | 'argumentNames'> {
  const compiled = query.compile()
  const argumentNames = compiled.parameters.map((parameter) => {
    if (!(parameter instanceof Place)) throw new Error(`a literal in a read statement: ${compiled.sql}`)
    return parameter.name
  })
  return { sql: compiled.sql, argumentNames }
}
