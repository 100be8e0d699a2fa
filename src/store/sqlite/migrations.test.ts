/**
 * How a database comes to its newest step: from nothing, again and again, never half, and never one that a newer program
 * wrote. The schema that comes of it is checked in; and the hot statements are held to the indexes that were made for them.
 */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { FIRST_VM_TYPES } from '../../domain/vm-type.ts'
import { StoreRefusesToOpen } from '../port.ts'
import { type ReadStatements, readStatements } from '../read-statements.ts'
import { vmTypesText } from '../tables.ts'
import { openDatabase } from './database.ts'
import { MIGRATIONS, migrate } from './migrations.ts'
import { SqliteWriter } from './writer.ts'

const NOW_MS = 1_767_225_600_000
const DUMP = new URL('../../../test/store/sqlite-schema.sql', import.meta.url)

function applied(db: DatabaseSync): unknown[] {
  return db
    .prepare('SELECT id, applied_at_ms FROM migration ORDER BY id')
    .all()
    .map((row) => Object.values(row))
}

function schemaOf(db: DatabaseSync): string {
  const rows = db
    .prepare('SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name')
    .all()
  const texts = rows.map(({ sql }) => `${sql}`.replace(/^ {6}/gm, ''))
  return `-- Made by the migrations: UPDATE_SCHEMA=1 node --test src/store/sqlite/migrations.test.ts\n\n${texts.join(';\n\n')};\n`
}

const BROKEN = {
  id: MIGRATIONS.length + 1,
  name: 'breaks half way',
  sql: 'CREATE TABLE half (id INTEGER) STRICT; INSERT INTO nowhere VALUES (1);',
}

describe('migrations', () => {
  it('have ascending ids, each used once', () => {
    assert.deepEqual(
      MIGRATIONS.map(({ id }) => id),
      MIGRATIONS.map((_, i) => i + 1),
    )
  })

  it('make a fresh database what the program expects, and note when', () => {
    const db = openDatabase(':memory:')
    migrate(db, NOW_MS)
    assert.deepEqual(
      applied(db),
      MIGRATIONS.map(({ id }) => [id, NOW_MS]),
    )
    const installation = { ...db.prepare('SELECT * FROM installation').get() }
    assert.deepEqual(installation, {
      id: 1,
      state: 'open',
      next_user_id: 1,
      next_vm_id: 1,
      next_pool_id: 1,
      vm_types: vmTypesText(FIRST_VM_TYPES),
      reset: null,
    })
    new SqliteWriter(db)
  })

  it('change nothing when they are repeated', () => {
    const db = openDatabase(':memory:')
    migrate(db, NOW_MS)
    db.exec('UPDATE installation SET next_user_id = 5')
    const schema = schemaOf(db)
    migrate(db, NOW_MS + 1)
    assert.equal(schemaOf(db), schema)
    assert.deepEqual(
      applied(db),
      MIGRATIONS.map(({ id }) => [id, NOW_MS]),
    )
    assert.equal(db.prepare('SELECT next_user_id AS id FROM installation').get()?.id, 5)
  })

  it('run those steps that a database does not have yet, in their order', () => {
    const db = openDatabase(':memory:')
    migrate(db, NOW_MS)
    const next = MIGRATIONS.length + 1
    const more = [
      ...MIGRATIONS,
      { id: next, name: 'a table', sql: 'CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT' },
      { id: next + 1, name: 'a column', sql: 'ALTER TABLE later ADD COLUMN name TEXT' },
    ]
    migrate(db, NOW_MS + 1, more)
    assert.deepEqual(applied(db).slice(MIGRATIONS.length), [
      [next, NOW_MS + 1],
      [next + 1, NOW_MS + 1],
    ])
    db.exec("INSERT INTO later VALUES (1, 'x')")
  })

  it('refuse a database of a newer program in one line, and leave it as it was', () => {
    const db = openDatabase(':memory:')
    const newer = [
      ...MIGRATIONS,
      { id: 99, name: 'from the future', sql: 'CREATE TABLE future (id INTEGER)' },
    ]
    migrate(db, NOW_MS, newer)
    const schema = schemaOf(db)
    const before = applied(db)
    assert.throws(
      () => migrate(db, NOW_MS + 1),
      (error: Error) =>
        error instanceof StoreRefusesToOpen && /99/.test(error.message) && !error.message.includes('\n'),
    )
    assert.equal(schemaOf(db), schema)
    assert.deepEqual(applied(db), before)
    assert.equal(db.isTransaction, false)
  })

  it('leave a fresh database empty when a step fails', () => {
    const db = openDatabase(':memory:')
    assert.throws(() => migrate(db, NOW_MS, [...MIGRATIONS, BROKEN]), /nowhere/)
    assert.deepEqual(db.prepare('SELECT name FROM sqlite_master').all(), [])
    assert.equal(db.isTransaction, false)
    migrate(db, NOW_MS)
  })

  it('leave a database at its step when a later one fails', () => {
    const db = openDatabase(':memory:')
    migrate(db, NOW_MS)
    const schema = schemaOf(db)
    assert.throws(() => migrate(db, NOW_MS, [...MIGRATIONS, BROKEN]), /nowhere/)
    assert.equal(schemaOf(db), schema)
    assert.equal(applied(db).length, MIGRATIONS.length)
  })

  it('make the schema that is checked in', () => {
    const db = openDatabase(':memory:')
    migrate(db, NOW_MS)
    const schema = schemaOf(db)
    if (process.env.UPDATE_SCHEMA === '1') writeFileSync(DUMP, schema)
    assert.equal(schema, readFileSync(DUMP, 'utf8'))
  })
})

/** A database that notes the statements that are prepared on it. */
class NotingDatabase extends DatabaseSync {
  readonly texts: string[] = []

  override prepare(sql: string): StatementSync {
    this.texts.push(sql)
    return super.prepare(sql)
  }
}

/** A pool of many machines, one in three hundred not ready; no statistics, as in a database that was never analysed. */
function filled(): NotingDatabase {
  const db = new NotingDatabase(':memory:')
  migrate(db, NOW_MS)
  db.exec(`
    INSERT INTO pool VALUES (1, 'default', 3000, '{}', 'manual', 'simulated', '{}', 0, '{}', '{}');
    INSERT INTO user VALUES (1, 'Ada', 'ada', 'admin', '', 1, 'active', 0, NULL);
    WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 3000)
    INSERT INTO vm (id, pool_id, name, type, address, power, state, generation, holder_id, due_at_ms, claim, attempts,
      created_at_ms, class)
    SELECT id, 1, 'vm', iif(id % 4 = 0, 'large', 'small'), '', 'running',
      iif(id % 300 = 0, 'maintenance', iif(id % 300 = 1, 'leased', 'ready')), 0, iif(id % 300 = 1, 1, NULL),
      iif(id % 300 = 0, id, NULL), 0, 0, 0, iif(id % 4 = 0, 'large', 'small') FROM n;
    WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 500)
    INSERT INTO event (id, at_ms, type) SELECT id, 0, 'vm.made' FROM n;
  `)
  return db
}

/** Filters of a list, by name; each value is a place in the statement. */
type Filters = Parameters<ReadStatements['reservationsWhere']['with']>[0]

/** Every read statement, and those with filters in the forms that have to be quick. */
function statementsIn(reads: ReadStatements): { readonly sql: string }[] {
  const { vms, usage, vmsOfPool, runningLeases, endedLeases, requestsWhere, reservationsWhere, ...others } =
    reads
  return [
    ...Object.values(vms),
    ...Object.values(usage),
    ...Object.values(others),
    vmsOfPool.with({}),
    runningLeases.with({ userId: 1 }),
    endedLeases.with({ userId: 1 }),
    ...REQUEST_LISTS.map((filter) => requestsWhere.with(filter)),
    ...RESERVATION_LISTS.map((filter) => reservationsWhere.with(filter)),
  ]
}

const REQUEST_LISTS = [{ userId: 1 }, { poolId: 1, waiting: 1 }] as const
const RESERVATION_LISTS: readonly Filters[] = [{ userId: 1 }, { seriesId: '' }]

/** What SQLite means to do for a statement, line by line. */
function planOf(db: DatabaseSync, sql: string): string[] {
  const places = sql.match(/\?/g)?.length ?? 0
  const plan = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...Array<number>(places).fill(1))
  return plan.map(({ detail }) => `${detail}`)
}

const SCAN_OF_VM = /^SCAN vm\b/
const SORT = /TEMP B-TREE/

describe('the indexes', () => {
  const db = filled()
  const reads = readStatements('sqlite')
  new SqliteWriter(db)
  const writes = db.texts.filter((sql) => /^\s*(SELECT|UPDATE|DELETE|INSERT)/.test(sql))

  /** Reads with the index that the step through the machines goes by. */
  const wanted: [string, { sql: string }, RegExp][] = [
    ['ready machines', reads.vms.ready, /USING INDEX vm_ready\b/],
    ['machines set aside', reads.vms.aside, /INDEX vm_aside\b/],
    ['machines of a type', reads.vms.type, /USING INDEX vm_type\b/],
    ['stopped machines', reads.vms.stopped, /USING INDEX vm_stopped\b/],
    ['running machines', reads.vms.running, /USING INDEX vm_pool\b|INTEGER PRIMARY KEY/],
    ['all machines', reads.vms.all, /USING INDEX vm_pool\b|INTEGER PRIMARY KEY/],
    ['machines of a holder', reads.vms.holder, /USING INDEX vm_holder\b/],
    ['what a user holds', reads.heldByUser, /USING INDEX vm_holder\b/],
    ['the next machine that is due', reads.nextDueAtMs, /INDEX vm_due\b/],
    ['a machine by id', reads.vm, /SEARCH vm USING INTEGER PRIMARY KEY/],
    ['the holder of a machine', reads.holderOf, /SEARCH vm USING INTEGER PRIMARY KEY/],
  ]
  for (const [what, { sql }, index] of wanted)
    it(`lead to ${what}, without looking at every machine`, () => {
      const plan = planOf(db, sql)
      const text = plan.join('\n')
      assert.ok(
        plan.some((line) => index.test(line)),
        text,
      )
      assert.ok(!plan.some((line) => SCAN_OF_VM.test(line)), text)
    })

  it('give machines in the order of their ids without sorting', () => {
    for (const { sql } of Object.values(reads.vms)) {
      const plan = planOf(db, sql)
      assert.ok(!plan.some((line) => SORT.test(line)), `${sql}\n${plan.join('\n')}`)
    }
  })

  /** Lists that are taken slice by slice, in the order of their index. */
  const lists: [string, { sql: string }, RegExp][] = [
    ['the leases that a user holds', reads.runningLeases.with({ userId: 1 }), /USING INDEX vm_holder\b/],
    ['the running leases of a pool', reads.runningLeases.with({ poolId: 1 }), /USING INDEX vm_pool\b/],
    ['the leases of a user that ended', reads.endedLeases.with({ userId: 1 }), /USING INDEX lease_ended\b/],
    ['the requests of a user', reads.requestsWhere.with({ userId: 1 }), /USING INDEX request_user\b/],
    [
      'the waiting requests of a pool',
      reads.requestsWhere.with({ poolId: 1, waiting: 1 }),
      /USING INDEX request_waiting\b/,
    ],
    [
      'the reservations of a user',
      reads.reservationsWhere.with({ userId: 1 }),
      /USING INDEX reservation_user\b/,
    ],
    [
      'the reservations of a series',
      reads.reservationsWhere.with({ seriesId: '' }),
      /USING INDEX reservation_series\b/,
    ],
  ]
  for (const [what, { sql }, index] of lists)
    it(`lead to ${what}, in order`, () => {
      const text = planOf(db, sql).join('\n')
      assert.match(text, index)
      assert.doesNotMatch(text, SORT)
    })

  it('lead to what a user holds, waits for and has used', () => {
    const { held, used, waiting } = reads.usage
    assert.match(planOf(db, held.sql).join('\n'), /USING INDEX vm_holder\b/)
    for (const index of [/INDEX lease_ended\b/, /INDEX vm_holder\b/])
      assert.match(planOf(db, used.sql).join('\n'), index)
    assert.match(planOf(db, waiting.sql).join('\n'), /INDEX request_waiter\b/)
  })

  it('lead to the next time at which a pool’s queue has something to do', () => {
    const text = planOf(db, reads.nextTickAtMs.sql).join('\n')
    for (const index of ['lease_due', 'request_until', 'reservation_confirmed', 'reservation_active'])
      assert.match(text, new RegExp(`INDEX ${index}\\b`))
  })

  it('lead to users, pools and events by id, by e-mail and by name', () => {
    const plans: [{ sql: string }, RegExp][] = [
      [reads.user, /SEARCH user USING INTEGER PRIMARY KEY/],
      [reads.userByEmail, /SEARCH user USING INDEX user_email/],
      [reads.leavers, /INDEX user_leaving/],
      [reads.pool, /SEARCH pool USING INTEGER PRIMARY KEY/],
      [reads.poolNamed, /SEARCH pool USING INDEX/],
      [reads.token, /SEARCH token USING PRIMARY KEY/],
      [reads.tokenByHash, /SEARCH token USING INDEX/],
      [reads.tokensOf, /SEARCH token USING INDEX token_user/],
      [reads.events, /SEARCH event USING INTEGER PRIMARY KEY/],
    ]
    for (const [{ sql }, index] of plans) assert.match(planOf(db, sql).join('\n'), index, sql)
  })

  /** Statements of the writer, by a piece of their text. */
  const hot: [string, RegExp, RegExp][] = [
    [
      'the lowest ready machines',
      /pool_id = \? AND state = 'ready' ORDER BY id LIMIT/,
      /USING INDEX vm_ready\b/,
    ],
    ['those of a class', /class = \? AND state = 'ready'/, /USING INDEX vm_ready_class\b/],
    ['the highest ready machines', /state = 'ready' ORDER BY id DESC/, /USING INDEX vm_ready\b/],
    ['machines that are being made', /state = 'provisioning'/, /INDEX vm_aside\b/],
    ['machines that are due', /state = \? AND due_at_ms IS NOT NULL AND due_at_ms <= \?/, /INDEX vm_due\b/],
    ['machines of a holder', /holder_id = \? ORDER BY/, /USING INDEX vm_holder\b/],
    ['a machine by id', /FROM vm WHERE id = \?$/, /INTEGER PRIMARY KEY/],
    ['a machine that changes', /^UPDATE vm/, /INTEGER PRIMARY KEY/],
    ['a machine that goes', /^DELETE FROM vm WHERE/, /INTEGER PRIMARY KEY/],
    ['a lease that runs', /FROM lease WHERE vm_id = \? AND generation = \?/, /PRIMARY KEY/],
    ['a lease that changes', /^UPDATE lease/, /PRIMARY KEY/],
    ['leases that are due', /FROM lease WHERE pool_id = \?/, /INDEX lease_due\b/],
    ['requests whose time is over', /until_ms <= \?/, /INDEX request_until\b/],
    ['a request', /FROM request WHERE id = \?/, /PRIMARY KEY/],
    ['a reservation', /FROM reservation WHERE id = \?/, /PRIMARY KEY/],
    ['a token', /FROM token WHERE id = \?$/, /PRIMARY KEY/],
    ['the tokens of a user', /FROM token WHERE user_id = \?$/, /INDEX token_user/],
    ['an answer', /FROM answer WHERE user_id/, /PRIMARY KEY/],
    ['the oldest answers', /FROM answer ORDER BY at_ms/, /INDEX answer_at/],
  ]
  for (const [what, piece, index] of hot)
    it(`lead a batch to ${what}, in order`, () => {
      const found = writes.filter((sql) => piece.test(sql))
      assert.notEqual(found.length, 0, `no statement like ${piece}`)
      for (const sql of found) {
        const plan = planOf(db, sql)
        const text = `${sql}\n${plan.join('\n')}`
        assert.ok(
          plan.some((line) => index.test(line)),
          text,
        )
        assert.ok(!plan.some((line) => SCAN_OF_VM.test(line) || SORT.test(line)), text)
      }
    })

  it('are each used by some statement', () => {
    const statements = statementsIn(reads).map(({ sql }) => sql)
    const plans = [...statements, ...writes].flatMap((sql) => planOf(db, sql)).join('\n')
    const indexes = db
      .prepare("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
      .all()
    const unused = indexes
      .map(({ name }) => `${name}`)
      .filter((name) => !new RegExp(`\\b${name}\\b`).test(plans))
    assert.deepEqual(unused, [])
  })
})
