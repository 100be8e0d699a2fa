/** The contract of stores, kept by PostgreSQL; each test has a schema of its own. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { systemSchedule } from '../../src/cli/system.ts'
import { Book } from '../../src/domain/book.ts'
import type { Lease } from '../../src/domain/lease.ts'
import { type LoadedBook, Needs, WorkingSet } from '../../src/domain/working-set.ts'
import { LEASE_COLUMNS, leaseOf } from '../../src/store/lease.ts'
import type { Store } from '../../src/store/port.ts'
import { openPostgresStore } from '../../src/store/postgres/store.ts'
import { dropSchema, queryPostgres, temporarySchema, testPostgresUrl } from '../support/postgres.ts'
import { aPool, aUser, NOW_MS } from '../support/world.ts'
import { allocationContract, aRequest } from './allocation-contract.ts'
import { storeContract } from './contract.ts'

const POSTGRES = {
  name: 'PostgreSQL',
  histories: 5,
  async open(now: () => number) {
    const schema = await temporarySchema()
    const store = await openPostgresStore({
      urls: [testPostgresUrl()],
      schema,
      connectionsMax: 6,
      schedule: systemSchedule,
      stopwatch: () => performance.now(),
      randomBytes,
      now,
    })
    return { store, schema, leases: () => leasesIn(schema), remove: () => dropSchema(schema) }
  },
}

storeContract(POSTGRES)
allocationContract(POSTGRES)

async function leasesIn(schema: string): Promise<Lease[]> {
  const rows = await queryPostgres(
    `SELECT ${LEASE_COLUMNS.join(', ')} FROM lease ORDER BY vm_id, generation`,
    schema,
  )
  return rows.map((row) => leaseOf(LEASE_COLUMNS.map((column) => row[column] as string | number | null)))
}

describe('books on PostgreSQL', () => {
  const silent = () =>
    Book.of(
      { pool: aPool(), tally: {}, vms: [], gone: [], requests: [], flows: [], reservations: [] },
      NOW_MS,
    )

  /** Changes the pool's only request in a batch that has the pool's book, or has not. */
  async function change(store: Store, seq: number, withBook: boolean): Promise<void> {
    const needs = new Needs()
    needs.poolIds.add(1)
    needs.requestIds.add('req_1')
    const batch = await store.begin(needs)
    const set = new WorkingSet(batch.rows)
    if (withBook) set.takeBook(1, silent())
    set.apply({ requests: [aRequest('req_1', { seq })], events: [] })
    await batch.commit(set)
  }

  async function bookSince(store: Store, version: number): Promise<LoadedBook> {
    const needs = new Needs()
    needs.poolIds.add(1)
    needs.bookVersions.set(1, version)
    const batch = await store.begin(needs)
    await batch.release()
    return batch.rows.books[0] ?? assert.fail('no book was given')
  }

  async function withPool(test: (store: Store, schema: string, version: number) => Promise<void>) {
    const { store, schema, remove } = await POSTGRES.open(() => NOW_MS)
    try {
      const needs = new Needs()
      needs.poolIds.add(1)
      const batch = await store.begin(needs)
      const set = new WorkingSet(batch.rows)
      set.apply({ users: [aUser(2)], pools: [aPool()], requests: [aRequest('req_1')], events: [] })
      await batch.commit(set)
      await test(store, schema, (await bookSince(store, 0)).version)
    } finally {
      await store.close()
      await remove()
    }
  }

  it('are followed by the changes that batches kept, one for each version', () =>
    withPool(async (store, _, version) => {
      for (const seq of [2, 3, 4]) await change(store, seq, true)
      const book = await bookSince(store, version + 1)
      assert.equal(book.whole, null)
      assert.deepEqual(
        book.changes.map(({ version: at, change }) => [at - version, change.requests[0]?.seq]),
        [
          [2, 3],
          [3, 4],
        ],
      )
    }))

  it('are read whole over a version whose change nobody kept, and by a server that is ahead of the pool', () =>
    withPool(async (store, _, version) => {
      await change(store, 2, true)
      await change(store, 3, false)
      await change(store, 4, true)
      for (const had of [version, version + 1, version + 9, 0]) {
        const book = await bookSince(store, had)
        assert.deepEqual([book.changes, book.whole?.requests[0]?.seq], [[], 4], `${had - version}`)
      }
      const { changes, whole } = await bookSince(store, version + 2)
      assert.deepEqual([changes.length, whole], [1, null])
    }))

  it('keep the changes of the newest versions only', () =>
    withPool(async (store, schema, version) => {
      await queryPostgres(
        `INSERT INTO pool_change SELECT 1, ${version} - n, '{}' FROM generate_series(0, 999) AS n ON CONFLICT DO NOTHING;
         INSERT INTO pool_change VALUES (2, 5, '{}')`,
        schema,
      )
      await change(store, 2, true)
      const kept = await queryPostgres(
        'SELECT pool_id, count(*)::int AS n, max(version) AS newest FROM pool_change GROUP BY pool_id ORDER BY pool_id',
        schema,
      )
      assert.deepEqual(
        kept.map(({ pool_id, n, newest }) => [Number(pool_id), n, Number(newest)]),
        [
          [1, 256, version + 1],
          [2, 1, 5],
        ],
      )
    }))
})
