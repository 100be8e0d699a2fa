/** The contract of stores, kept by SQLite in memory, by SQLite in a folder, and by the plain Maps that tests use. */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { Lease } from '../../src/domain/lease.ts'
import { Needs, WorkingSet } from '../../src/domain/working-set.ts'
import { LEASE_COLUMNS, leaseOf } from '../../src/store/lease.ts'
import { StoreRefusesToOpen } from '../../src/store/port.ts'
import { openSqliteStore } from '../../src/store/sqlite/store.ts'
import type { Tuple } from '../../src/store/tables.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { aUser, NOW_MS } from '../support/world.ts'
import { allocationContract } from './allocation-contract.ts'
import { type StoreUnderTest, storeContract } from './contract.ts'

const pause = () => setImmediate()

const STORES: StoreUnderTest[] = [
  {
    name: 'plain Maps',
    histories: 30,
    async open(now) {
      const store = new MemoryStore({ now })
      return {
        store,
        leases: () => [...store.tables.leases.values()],
        remove: async () => {},
      }
    },
  },
  {
    name: 'SQLite in memory',
    histories: 60,
    async open(now) {
      const store = await openSqliteStore({ folder: null, now, pause })
      return { store, leases: null, remove: async () => {} }
    },
  },
  {
    name: 'SQLite in a folder',
    histories: 3,
    async open(now) {
      const folder = await mkdtemp(join(tmpdir(), 'berth-store-'))
      const store = await openSqliteStore({ folder, now, pause })
      return {
        store,
        leases: () => leasesIn(folder),
        remove: () => rm(folder, { recursive: true, force: true }),
      }
    },
  },
]

function leasesIn(folder: string): Lease[] {
  const db = new DatabaseSync(join(folder, 'berth.db'), { readOnly: true, timeout: 5_000 })
  try {
    const rows = db.prepare(`SELECT ${LEASE_COLUMNS.join(', ')} FROM lease ORDER BY vm_id, generation`)
    rows.setReturnArrays(true)
    return rows.all().map((row) => leaseOf(row as unknown as Tuple))
  } finally {
    db.close()
  }
}

for (const store of STORES) {
  storeContract(store)
  allocationContract(store)
}

describe('a data folder', () => {
  async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
    const folder = await mkdtemp(join(tmpdir(), 'berth-store-'))
    try {
      await test(folder)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }

  async function addUser(store: Awaited<ReturnType<typeof openSqliteStore>>, id: number): Promise<void> {
    const needs = new Needs()
    needs.userIds.add(id)
    const batch = await store.begin(needs)
    const set = new WorkingSet(batch.rows)
    set.apply({ users: [aUser(id)], events: [{ type: 'user.created', actorId: null, userId: id }] })
    await batch.commit(set)
  }

  it('keeps what was saved, and event ids go on, when the store is opened again', () =>
    inFolder(async (folder) => {
      for (const id of [1, 2, 3]) {
        const store = await openSqliteStore({ folder, now: () => NOW_MS, pause })
        await addUser(store, id)
        assert.equal(await store.reads.lastEventId(), id)
        await store.close()
      }
      const store = await openSqliteStore({ folder, now: () => NOW_MS, pause })
      assert.equal((await store.reads.activeUsers({ afterId: 0, rowsMax: 9 })).length, 3)
      await store.close()
    }))

  it('keeps the time from running backwards when the clock was set back while the store was closed', () =>
    inFolder(async (folder) => {
      for (const [id, nowMs] of [
        [1, NOW_MS],
        [2, NOW_MS - 60_000],
      ] as const) {
        const store = await openSqliteStore({ folder, now: () => nowMs, pause })
        await addUser(store, id)
        await store.close()
      }
      const store = await openSqliteStore({ folder, now: () => NOW_MS, pause })
      const times = (await store.reads.events({ afterId: 0, rowsMax: 9 })).map(({ atMs }) => atMs)
      await store.close()
      assert.deepEqual(times, times.toSorted())
    }))

  it('belongs to one store at a time', () =>
    inFolder(async (folder) => {
      const store = await openSqliteStore({ folder, now: () => NOW_MS, pause })
      await assert.rejects(openSqliteStore({ folder, now: () => NOW_MS, pause }), StoreRefusesToOpen)
      await addUser(store, 1)
      await store.close()
      const next = await openSqliteStore({ folder, now: () => NOW_MS, pause })
      assert.equal(await next.reads.anyUser(), true)
      await next.close()
    }))

  it('that is a file, or whose database is no database, is refused with a line for the operator', () =>
    inFolder(async (folder) => {
      const file = join(folder, 'file')
      await writeFile(file, 'x')
      await assert.rejects(openSqliteStore({ folder: file, now: () => NOW_MS, pause }), StoreRefusesToOpen)
      await writeFile(join(folder, 'berth.db'), 'this is no database, however long it may be'.repeat(40))
      await assert.rejects(openSqliteStore({ folder, now: () => NOW_MS, pause }), (error: Error) => {
        assert.ok(error instanceof StoreRefusesToOpen)
        assert.ok(!error.message.includes('\n'))
        return true
      })
    }))
})
