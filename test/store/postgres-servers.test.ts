/**
 * What several servers on one PostgreSQL owe each other: batches on one pool run one after the other and on different pools
 * side by side, nobody waits in a circle, a reader of events passes none that commits late, a lost answer to a commit is
 * settled, and word gets around.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, afterEach, describe, it } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { Client, type PoolClient } from 'pg'
import { systemSchedule } from '../../src/cli/system.ts'
import type { Event, NewEvent } from '../../src/domain/event.ts'
import { FIRST_DAY } from '../../src/domain/reset.ts'
import { type Changes, Needs, WorkingSet } from '../../src/domain/working-set.ts'
import { type News, type Store, StoreConflict, StoreUnavailable } from '../../src/store/port.ts'
import { Connections } from '../../src/store/postgres/connections.ts'
import { settleOutcome } from '../../src/store/postgres/outcome.ts'
import { openPostgresStore } from '../../src/store/postgres/store.ts'
import { dropSchema, queryPostgres, temporarySchema, testPostgresUrl } from '../support/postgres.ts'
import { until } from '../support/server-process.ts'
import { aPool, aUser, aVm } from '../support/world.ts'

const EVENT: NewEvent = { type: 'vm.made', actorId: null }
const POOLS = [1, 2, 3, 4].map((id) => aPool({ id, name: `pool ${id}` }))

let schema = ''
const stores: Store[] = []

/** Opens `n` stores on one new schema with four pools, as `n` servers would. */
async function servers(n: number): Promise<Store[]> {
  await end()
  schema = await temporarySchema()
  for (let i = 0; i < n; i++)
    stores.push(
      await openPostgresStore({
        urls: [testPostgresUrl()],
        schema,
        connectionsMax: 12,
        schedule: systemSchedule,
        stopwatch: () => performance.now(),
        randomBytes,
      }),
    )
  const [first] = stores
  if (first !== undefined)
    await save(first, {
      users: [1, 2, 3, 4].map((id) => aUser(id)),
      pools: POOLS,
      vms: POOLS.map(({ id }) => aVm(id, { poolId: id })),
      events: [],
    })
  return stores
}

async function end(): Promise<void> {
  for (const store of stores.splice(0)) await store.close()
  if (schema !== '') await dropSchema(schema)
  schema = ''
}

afterEach(end)

function needing(want: (needs: Needs) => void): Needs {
  const needs = new Needs()
  want(needs)
  return needs
}

const poolOf = (id: number) => needing((needs) => needs.poolIds.add(id))

async function save(store: Store, changes: Partial<Changes>, poolIds: readonly number[] = []): Promise<void> {
  const { users = [], pools = [], vms = [] } = changes
  const batch = await store.begin(
    needing((needs) => {
      for (const { id } of users) {
        needs.userIds.add(id)
        needs.changedUserIds.add(id)
      }
      for (const { id } of pools) needs.poolIds.add(id)
      for (const id of poolIds) needs.poolIds.add(id)
      for (const { id } of vms) needs.vmIds.add(id)
    }),
  )
  const set = new WorkingSet(batch.rows)
  set.apply({ events: [EVENT], ...changes })
  await batch.commit(set)
}

/** A connection of the test's own that holds a lock until it is told to let go. */
async function holdLock(key: number): Promise<{ release(): Promise<void> }> {
  const client = new Client({ connectionString: testPostgresUrl() })
  await client.connect()
  await client.query('SELECT pg_advisory_lock($1)', [key])
  return { release: () => client.end() }
}

/** From now on, the commit of a batch with an event about `vmId` waits for a lock. */
async function holdCommitsOf(vmId: number, key: number): Promise<void> {
  await queryPostgres(
    `CREATE FUNCTION wait_${vmId}() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN PERFORM pg_advisory_xact_lock_shared(${key}); RETURN NULL; END $$;
     CREATE CONSTRAINT TRIGGER wait_${vmId} AFTER INSERT ON event DEFERRABLE INITIALLY DEFERRED
       FOR EACH ROW WHEN (NEW.vm_id = ${vmId}) EXECUTE FUNCTION wait_${vmId}()`,
    schema,
  )
}

/** Resolves when a backend waits for the lock. */
async function untilWaiting(key: number): Promise<number> {
  return until(async () => {
    const [row] = await queryPostgres(
      `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = ${key}`,
    )
    return row === undefined ? null : Number(row.pid)
  })
}

async function allEvents(store: Store, afterId = 0): Promise<Event[]> {
  return store.reads.events({ afterId, rowsMax: 10_000 })
}

describe('batches of two servers', () => {
  it('on one pool run one after the other: the second sees what the first committed', async () => {
    const [a, b] = (await servers(2)) as [Store, Store]
    const first = await a.begin(poolOf(1))
    let begun = false
    const second = b.begin(poolOf(1)).then((batch) => {
      begun = true
      return batch
    })
    await setTimeout(100)
    assert.equal(begun, false)
    const set = new WorkingSet(first.rows)
    set.apply({ pools: [aPool({ id: 1, name: 'pool 1', target: 77 })], events: [EVENT] })
    await first.commit(set)
    const batch = await second
    assert.equal(batch.rows.pools[0]?.pool.target, 77)
    await batch.release()
  })

  it('on different pools run side by side', async () => {
    const [a, b] = (await servers(2)) as [Store, Store]
    const batches = [await a.begin(poolOf(1)), await b.begin(poolOf(2)), await a.begin(poolOf(3))]
    for (const batch of batches) await batch.release()
  })

  it('share users who only call, and are alone with users who change', async () => {
    const [a, b] = (await servers(2)) as [Store, Store]
    const reading = needing((needs) => needs.userIds.add(1))
    const changing = needing((needs) => {
      needs.userIds.add(1)
      needs.changedUserIds.add(1)
    })
    const readers = [await a.begin(reading), await b.begin(reading)]
    let alone = false
    const writer = b.begin(changing).then((batch) => {
      alone = true
      return batch
    })
    await setTimeout(100)
    assert.equal(alone, false)
    for (const batch of readers) await batch.release()
    await (await writer).release()
  })

  it('never wait for each other in a circle, whatever they hold', async () => {
    const all = await servers(2)
    let seed = 7
    const draw = (n: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
      return (seed >>> 8) % n
    }
    const run = async (store: Store) => {
      for (let i = 0; i < 40; i++) {
        const needs = new Needs()
        for (let k = draw(4); k > 0; k--) needs.poolIds.add(1 + draw(4))
        for (let k = draw(3); k > 0; k--) needs.vmIds.add(1 + draw(4))
        for (let k = draw(4); k > 0; k--) needs.userIds.add(1 + draw(4))
        for (const id of needs.userIds) if (draw(2) === 0) needs.changedUserIds.add(id)
        needs.installation = draw(5) === 0
        needs.allPools = draw(12) === 0
        const batch = await store.begin(needs)
        const set = new WorkingSet(batch.rows)
        set.apply({ events: [EVENT] })
        await batch.commit(set)
      }
    }
    await Promise.all([...all, ...all, ...all, ...all].map(run))
    assert.equal((await allEvents(all[0] as Store)).length, 8 * 40)
  })

  it('that change what they do not hold are a bug, and leave nothing behind', async () => {
    const [store] = (await servers(1)) as [Store]
    const cases: Partial<Changes>[] = [
      { users: [aUser(1, { name: 'Changed' })] },
      { pools: [aPool({ id: 1, name: 'pool 1', target: 5 })] },
      { installation: { ...FIRST_DAY, nextUserId: 9, nextVmId: 9, nextPoolId: 9 } },
    ]
    for (const changes of cases) {
      const seen = await store.begin(
        needing((needs) => {
          needs.poolIds.add(1)
          needs.userIds.add(1)
        }),
      )
      await seen.release()
      const set = new WorkingSet(seen.rows)
      set.apply({ ...changes, events: [EVENT] })
      const batch = await store.begin(new Needs())
      await assert.rejects(batch.commit(set), /does not hold/)
    }
    assert.equal((await allEvents(store)).length, 0)
  })

  it('begin again when a machine came into a pool that they do not hold', async () => {
    const [store] = (await servers(1)) as [Store]
    // A machine whose pool changes between two statements cannot be made from outside: its pool's row is not there at all.
    await queryPostgres(
      `INSERT INTO vm SELECT 99, 99, name, type, address, power, state, generation, holder_id, leased_at_ms, due_at_ms,
         claim, busy_until_ms, attempts, failure, created_at_ms, class FROM vm WHERE id = 1`,
      schema,
    )
    await assert.rejects(
      store.begin(needing((needs) => needs.vmIds.add(99))),
      (error: Error) => error instanceof StoreConflict,
    )
  })

  it('wait for held rows for some seconds only', async () => {
    const [a, b] = (await servers(2)) as [Store, Store]
    const first = await a.begin(poolOf(1))
    const began = performance.now()
    // Either the second gives up, or the first was idle for too long and its connection was ended.
    const second = await b.begin(poolOf(1)).then(
      (batch) => batch.release(),
      (error) => assert.ok(error instanceof StoreUnavailable, String(error)),
    )
    assert.equal(second, undefined)
    assert.ok(performance.now() - began < 9_000)
    await first.release()
    await save(b, { events: [EVENT] }, [1])
  })
})

describe('the time of a batch', () => {
  it('is the database’s, and for a pool it never runs backwards', async () => {
    const [a, b] = (await servers(2)) as [Store, Store]
    await save(a, { pools: [POOLS[0] ?? aPool()] }, [1])
    const aheadMs = Date.now() + 3_600_000
    await queryPostgres(`UPDATE pool SET at_ms = ${aheadMs} WHERE id = 1`, schema)
    const batch = await b.begin(poolOf(1))
    await batch.release()
    assert.equal(batch.rows.nowMs, aheadMs)
    const other = await a.begin(poolOf(2))
    await other.release()
    assert.ok(Math.abs(other.rows.nowMs - Date.now()) < 60_000)
  })
})

describe('reading events', () => {
  const KEY = 4_711

  it('does not pass a batch that drew its ids and has not committed', async () => {
    const [a, b] = (await servers(2)) as [Store, Store]
    await holdCommitsOf(1, KEY)
    const lock = await holdLock(KEY)
    const late = save(a, { events: [{ ...EVENT, vmId: 1 }] }, [1])
    await untilWaiting(KEY)
    await save(b, { events: [{ ...EVENT, vmId: 2 }] }, [2])
    assert.deepEqual(await allEvents(b), [])
    assert.deepEqual(await b.reads.accountEvents({ afterId: 0, rowsMax: 9 }), [])
    const stuckAt = await b.reads.lastEventId()
    await lock.release()
    await late
    const events = await allEvents(b)
    assert.deepEqual(
      events.map(({ id, vmId }) => [id, vmId]),
      [
        [1, 1],
        [2, 2],
      ],
    )
    assert.ok(stuckAt < 1)
    assert.equal(await a.reads.lastEventId(), 2)
  })

  it('passes a batch that drew its ids and failed', async () => {
    const [a, b] = (await servers(2)) as [Store, Store]
    await holdCommitsOf(1, KEY)
    const lock = await holdLock(KEY)
    const late = save(a, { events: [{ ...EVENT, vmId: 1 }] }, [1])
    const rejected = assert.rejects(late)
    const pid = await untilWaiting(KEY)
    await save(b, { events: [{ ...EVENT, vmId: 2 }] }, [2])
    await queryPostgres(`SELECT pg_terminate_backend(${pid})`)
    await rejected
    assert.deepEqual(
      (await allEvents(b)).map(({ vmId }) => vmId),
      [2],
    )
    await lock.release()
  })

  it('sees every event once and in order, while two servers commit on four pools', async () => {
    const all = await servers(2)
    let writing = true
    const seen: Event[] = []
    const follow = (async () => {
      const [store] = all as [Store]
      for (;;) {
        const last = !writing
        const events = await store.reads.events({ afterId: seen.at(-1)?.id ?? 0, rowsMax: 7 })
        seen.push(...events)
        if (last && events.length === 0) return
      }
    })()
    await Promise.all(
      all.flatMap((store, s) =>
        POOLS.map(async ({ id }) => {
          for (let i = 0; i < 60; i++)
            await save(
              store,
              { events: Array.from({ length: 1 + (i % 3) }, () => ({ ...EVENT, vmId: s })) },
              [id],
            )
        }),
      ),
    )
    writing = false
    await follow
    const rows = await queryPostgres('SELECT id FROM event ORDER BY id', schema)
    assert.equal(rows.length, 2 * 4 * 60 * 2)
    assert.deepEqual(
      seen.map(({ id }) => id),
      rows.map(({ id }) => id),
    )
  })
})

describe('a commit whose answer was lost', () => {
  const connections = () => {
    const made = new Connections({
      urls: [testPostgresUrl()],
      schema,
      batchesMax: 2,
      readsMax: 1,
      now: Date.now,
    })
    opened.push(made)
    return made
  }
  const opened: Connections[] = []
  after(async () => {
    for (const made of opened) await made.close()
  })

  const ID = '0190a0a0-0000-4000-8000-000000000001'

  function settle(atMs: number, connect?: () => Promise<PoolClient>) {
    const pool = connections()
    return settleOutcome(
      { id: ID, atMs },
      { connect: connect ?? (() => pool.forBatch()), now: Date.now, sleep: (ms) => setTimeout(ms) },
    )
  }

  it('was done when the batch’s id is there', async () => {
    await servers(1)
    const atMs = Date.now()
    await queryPostgres(`INSERT INTO batch VALUES (${atMs}, '${ID}', false)`, schema)
    assert.equal(await settle(atMs), 'committed')
    assert.equal(await settle(atMs), 'committed')
  })

  it('was not done when it is not, and never will be', async () => {
    await servers(1)
    const atMs = Date.now()
    assert.equal(await settle(atMs), 'void')
    assert.equal(await settle(atMs), 'void', 'asked again, because that answer was lost too')
    await assert.rejects(queryPostgres(`INSERT INTO batch VALUES (${atMs}, '${ID}', false)`, schema))
  })

  it('is waited for while it is on its way', async () => {
    await servers(1)
    const atMs = Date.now()
    const client = new Client({ connectionString: testPostgresUrl() })
    await client.connect()
    await client.query(`SET search_path = ${schema}`)
    await client.query('BEGIN')
    await client.query(`INSERT INTO batch VALUES (${atMs}, '${ID}', false)`)
    const settled = settle(atMs)
    await setTimeout(200)
    await client.query('COMMIT')
    await client.end()
    assert.equal(await settled, 'committed')
  })

  it('stays unknown when it is older than what is kept', async () => {
    await servers(1)
    await assert.rejects(settle(Date.now() - 3_600_000), { name: 'OutcomeUnknown' })
  })

  it('stays unknown when the database does not come back in time', async () => {
    await servers(1)
    let now = 0
    const gone = async () => {
      now += 3_000
      throw new StoreUnavailable('gone')
    }
    await assert.rejects(
      settleOutcome({ id: ID, atMs: 0 }, { connect: gone, now: () => now, sleep: async () => {} }),
      { name: 'OutcomeUnknown' },
    )
  })

  it('is tried again by whoever began it, when its connection was ended before', async () => {
    const [store] = (await servers(1)) as [Store]
    const key = 4_712
    await holdCommitsOf(1, key)
    const lock = await holdLock(key)
    const rejected = assert.rejects(save(store, { events: [{ ...EVENT, vmId: 1 }] }, [1]), {
      name: 'StoreConflict',
    })
    await queryPostgres(`SELECT pg_terminate_backend(${await untilWaiting(key)})`)
    await rejected
    await lock.release()
    assert.deepEqual(await allEvents(store), [])
  })
})

describe('word between servers', () => {
  it('reaches the others and not the one who sent it, and says what it is about', async () => {
    const [a, b] = (await servers(2)) as [Store, Store]
    const heard: News[][] = [[], []]
    for (const [i, store] of [a, b].entries()) store.neighbours?.listen((news) => heard[i]?.push(news))
    // The first word is that something may have been missed.
    await until(() => {
      a.neighbours?.tell({ leftWork: false, accountsChanged: true })
      return heard[1]?.some((news) => news.accountsChanged && !news.leftWork) ?? null
    })
    assert.ok(heard[0]?.every((news) => news.leftWork))
  })

  it('goes on after the connection was lost, and then says that something may have been missed', async () => {
    const [a, b] = (await servers(2)) as [Store, Store]
    const heard: News[] = []
    b.neighbours?.listen((news) => heard.push(news))
    const terminated = async () =>
      queryPostgres(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%${schema}%' AND pid <> pg_backend_pid()`,
      )
    await until(async () => (await terminated()).length > 0)
    await until(() => heard.some((news) => news.leftWork && news.accountsChanged))
    heard.length = 0
    await until(() => {
      a.neighbours?.tell({ leftWork: true, accountsChanged: false })
      return heard.some((news) => news.leftWork && !news.accountsChanged)
    })
  })
})
