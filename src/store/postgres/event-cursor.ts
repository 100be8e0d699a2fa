/**
 * How far events may be read. Batches draw ids from a sequence and commit in any order, so an event with a low id can come
 * after one with a higher id was seen; a reader that had gone on would never see it. While a batch is on its way it holds a
 * shared advisory lock whose number is the id behind which it draws (batch-save.ts). The cursor is the lowest such number, or
 * the sequence's own when there is none: all ids up to it are committed, or never will be.
 *
 * The order is what makes it right. A batch reads the sequence, takes its lock, and only then draws. A reader reads the
 * sequence, then the locks, and only then the events: a batch whose lock it did not see has either ended, and its events are
 * seen, or will draw ids above the one that was read from the sequence.
 */
import type { PoolClient } from 'pg'
import { Flight, prepared } from './statement.ts'

/** Ids stay below 2^44; the bits above tell the schema, so that two installations in one database do not mind each other. */
export const CURSOR_BITS = 44

const SQL = {
  newest: prepared('SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS id FROM event_id'),
  lowestDrawing: prepared(
    `SELECT min(((classid::bigint << 32) | objid::bigint) & ((1::bigint << ${CURSOR_BITS}) - 1)) AS id FROM pg_locks
     WHERE locktype = 'advisory' AND objsubid = 1 AND granted
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND ((classid::bigint << 32) | objid::bigint) >> ${CURSOR_BITS} = $1::bigint`,
  ),
}

/** The number of a connection's schema, below 2^19: with it, locks of other schemas are told apart (or only wait longer). */
export const NAMESPACE_SQL = "SELECT hashtext('berth ' || current_schema()) & 524287 AS namespace"

/** Reads the cursor, and with it whatever `read` sends behind it. */
export async function eventCursor<T>(
  client: PoolClient,
  namespace: number,
  read: (flight: Flight) => Promise<T>,
): Promise<{ cursor: number; answer: T }> {
  const flight = new Flight(client)
  const newest = flight.rows(SQL.newest, [])
  const lowest = flight.rows(SQL.lowestDrawing, [namespace])
  const answer = read(flight)
  answer.catch(() => {})
  await flight.landed()
  const cursor = Math.min((await newest)[0].id, (await lowest)[0].id ?? Number.POSITIVE_INFINITY)
  return { cursor, answer: await answer }
}
