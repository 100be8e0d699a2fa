/** Runs read statements on connections of their own, beside the batches. */
import type { PoolClient } from 'pg'
import type { Event } from '../../domain/event.ts'
import type { Reads, Slice } from '../port.ts'
import { type ReadStatements, readStatements } from '../read-statements.ts'
import { type Arguments, readsOver, type StatementRunner } from '../reads.ts'
import type { Statement } from '../statement.ts'
import { eventOf, type Tables } from '../tables.ts'
import type { Connections } from './connections.ts'
import { isConnectionLost, storeError } from './errors.ts'
import { eventCursor } from './event-cursor.ts'
import { Flight, type Prepared, prepared, type Row, type Value } from './statement.ts'

export class PostgresReader implements StatementRunner {
  readonly #connections: Connections
  readonly #prepared = new Map<Statement<unknown>, Prepared>()

  constructor(connections: Connections) {
    this.#connections = connections
  }

  async all<R, Value>(statement: Statement<R>, args: Arguments, value: (row: R) => Value): Promise<Value[]> {
    const rows = await this.#with((client) => this.#run(new Flight(client), statement, args))
    return rows.map(value)
  }

  async first<R, Value>(
    statement: Statement<R>,
    args: Arguments,
    value: (row: R) => Value,
  ): Promise<Value | null> {
    const rows = await this.#with((client) => this.#run(new Flight(client), statement, args))
    return rows[0] === undefined ? null : value(rows[0])
  }

  /** The newest cursor of events. */
  async cursor(namespace: number): Promise<number> {
    return (await this.#with((client) => eventCursor(client, namespace, async () => null))).cursor
  }

  /** Events of a statement up to the cursor. */
  async events(statement: Statement<Tables['event']>, slice: Slice, namespace: number): Promise<Event[]> {
    const { cursor, answer } = await this.#with((client) =>
      eventCursor(client, namespace, (flight) => this.#send(flight, statement, { ...slice })),
    )
    return answer.filter(({ id }) => id <= cursor).map(eventOf)
  }

  async #run<R>(flight: Flight, statement: Statement<R>, args: Arguments): Promise<readonly R[]> {
    const rows = this.#send(flight, statement, args)
    await flight.landed()
    return rows
  }

  #send<R>(flight: Flight, statement: Statement<R>, args: Arguments): Promise<readonly R[]> {
    const known = this.#prepare(statement)
    const values = valuesOf(statement, args)
    return (statement.asTuples ? flight.tuples(known, values) : flight.rows(known, values)) as Promise<Row>
  }

  #prepare(statement: Statement<unknown>): Prepared {
    let known = this.#prepared.get(statement)
    if (known === undefined) {
      known = prepared(statement.sql)
      this.#prepared.set(statement, known)
    }
    return known
  }

  async #with<T>(use: (client: PoolClient) => Promise<T>): Promise<T> {
    const client = await this.#connections.forReads()
    try {
      const answer = await use(client)
      client.release()
      return answer
    } catch (error) {
      client.release(isConnectionLost(error))
      throw storeError(error)
    }
  }
}

/** `Reads` over PostgreSQL. */
export function postgresReads(reader: PostgresReader, namespace: number): Reads {
  const statements: ReadStatements = readStatements('postgres')
  return {
    ...readsOver(reader, statements),
    events: (slice) => reader.events(statements.events, slice, namespace),
    accountEvents: (slice) => reader.events(statements.accountEvents, slice, namespace),
    lastEventId: () => reader.cursor(namespace),
  }
}

function valuesOf(statement: Statement<unknown>, args: Arguments): Value[] {
  return statement.argumentNames.map((name) => {
    const value = args[name]
    if (value === undefined) throw new Error(`no argument '${name}' for: ${statement.sql}`)
    return value
  })
}
