/**
 * What became of a commit whose answer was lost. The batch's own id is inserted as a tombstone: that waits for the batch if it
 * is still on its way. If the tombstone gets the place, the batch can never commit any more; if the place is taken, the row
 * there tells whether it was committed. That row is written again: a primary that was killed while the batch waited for its
 * standby has it, and the standby may not, but whoever has waited for this commit knows that the standby has both. All of it
 * goes over a new connection, again and again until the time is over.
 */
import type { PoolClient } from 'pg'
import { OutcomeUnknown, StoreUnavailable } from '../port.ts'
import type { BatchId } from './batch-save.ts'
import { isConnectionLost, messageOf, storeError } from './errors.ts'
import { Flight, prepared } from './statement.ts'

/** How long to try; then whoever asked is told that it is not known. */
const SETTLE_MS_MAX = 10_000
const PAUSE_MS = 100

/** How long the ids of batches are kept. */
const KEPT_MS = 15 * 60_000

const SQL = {
  settle: prepared(
    `INSERT INTO batch AS known VALUES ($1, $2, true) ON CONFLICT (at_ms, id) DO UPDATE SET void = known.void
     RETURNING void, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms`,
  ),
  forget: prepared(
    'DELETE FROM batch WHERE at_ms < floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $1::bigint',
  ),
}

export interface OutcomeSettings {
  readonly connect: () => Promise<PoolClient>
  readonly now: () => number
  readonly sleep: (ms: number) => Promise<void>
}

/** Finds out whether a batch was committed, and sees to it that it never will be when it was not. Throws `OutcomeUnknown`. */
export async function settleOutcome(
  batch: BatchId,
  { connect, now, sleep }: OutcomeSettings,
): Promise<'committed' | 'void'> {
  const endMs = now() + SETTLE_MS_MAX
  let reason = ''
  do {
    try {
      const row = await askOutcome(batch, await connect())
      // A batch that is older than what is kept may have been committed and forgotten.
      if (row.now_ms - batch.atMs > KEPT_MS / 2 && row.void) throw new OutcomeUnknown('it was too long ago')
      return row.void ? 'void' : 'committed'
    } catch (error) {
      const known = storeError(error)
      if (!(known instanceof StoreUnavailable)) throw known
      reason = messageOf(known)
    }
    await sleep(PAUSE_MS)
  } while (now() < endMs)
  throw new OutcomeUnknown(reason)
}

async function askOutcome(
  { id, atMs }: BatchId,
  client: PoolClient,
): Promise<{ void: boolean; now_ms: number }> {
  try {
    const flight = new Flight(client)
    const rows = flight.rows(SQL.settle, [atMs, id])
    await flight.landed()
    client.release()
    return (await rows)[0]
  } catch (error) {
    client.release(isConnectionLost(error))
    throw error
  }
}

/** Forgets ids of batches that nobody will ask for any more. */
export async function forgetOldBatches(client: PoolClient): Promise<void> {
  const flight = new Flight(client)
  void flight.rows(SQL.forget, [KEPT_MS])
  await flight.landed()
}
