import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { bookTexts } from '../../test/support/book-texts.ts'
import { aPool, NOW_MS } from '../../test/support/world.ts'
import { Book, type BookChange } from './book.ts'
import { marginMs, type Pool } from './pool.ts'
import type { Reservation } from './reservation.ts'

const HOUR_MS = 3_600_000

const RESERVATION: Reservation = {
  id: 'res-1',
  poolId: 1,
  userId: 1,
  wish: [{ type: 'small', labels: {}, vmId: null, count: 1 }],
  fromMs: NOW_MS + HOUR_MS,
  toMs: NOW_MS + 2 * HOUR_MS,
  pinned: [['small', 1]],
  state: 'confirmed',
  atRisk: false,
  missing: 0,
  confirmedSeq: 1,
  noShowSeconds: null,
  claimed: false,
  seriesId: null,
  purpose: null,
  labels: {},
  createdAtMs: NOW_MS,
}

function all(pool: Pool): BookChange {
  const nothing = { vms: [], gone: [], requests: [], flows: [] }
  return { pool, tally: { small: { ready: 1 } }, ...nothing, reservations: [RESERVATION] }
}

function cleaningFor(meanMs: number): Pool {
  const pool = aPool({ target: 1, cleaning: 'automatic' })
  return { ...pool, queue: { ...pool.queue, cleaning: { small: { meanMs, deviationMs: 0 } } } }
}

describe('a book that hears that cleaning takes', () => {
  for (const [what, beforeMs, afterMs] of [
    ['longer', 60_000, 1_800_000],
    ['less long', 1_800_000, 60_000],
    ['as long as before', 60_000, 60_000],
  ] as const)
    it(`${what}, says what one that is built then says`, () => {
      const book = Book.of(all(cleaningFor(beforeMs)), NOW_MS)
      const pool = cleaningFor(afterMs)
      book.apply({ ...all(pool), reservations: [] }, NOW_MS)
      assert.deepEqual(bookTexts(book, NOW_MS), bookTexts(Book.of(all(pool), NOW_MS), NOW_MS))
      const endMs = RESERVATION.toMs + marginMs(pool, 'small')
      assert.deepEqual(
        book.booked.get('res-1')?.map(({ toMs }) => toMs),
        [endMs],
      )
    })
})
