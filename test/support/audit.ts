/**
 * Looks at the database of a server that is not running (or is: it only reads) and checks everything that must hold between
 * its tables, whatever happened before.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { countUp, type QueueState, type Tally } from '../../src/domain/pool.ts'
import type { VmState } from '../../src/domain/vm.ts'
import type { ClassKey } from '../../src/domain/vm-class.ts'
import { type Row, snapshot } from './postgres-query.ts'

/** Reads the database in a data folder, with one statement or several. */
export function readDatabase<T>(folder: string, read: (all: (sql: string) => Row[]) => T): T {
  const db = new DatabaseSync(join(folder, 'berth.db'), { readOnly: true, timeout: 5_000 })
  try {
    return read((sql) => db.prepare(sql).all() as Row[])
  } finally {
    db.close()
  }
}

/** Fails unless the database in `folder` is whole and its tables agree with each other. */
export function auditDatabase(folder: string): void {
  readDatabase(folder, (all) => {
    assert.deepEqual(all('PRAGMA integrity_check').map(Object.values), [['ok']])
    assert.deepEqual(all('PRAGMA foreign_key_check'), [], 'rows that point at nothing')
    // A reset clears the log, and its ids go on, so that nobody who has read up to an id takes an old one for new.
    const [first] = all('SELECT type FROM event ORDER BY id LIMIT 1')
    const isAfterReset = first?.type === 'installation.reset'
    assert.deepEqual(
      all('SELECT min(id) AS first, count(*) - (max(id) - min(id) + 1) AS missing FROM event').map(
        ({ first, missing }) => ({ first: isAfterReset ? 1 : (first ?? 1), missing: missing ?? 0 }),
      ),
      [{ first: 1, missing: 0 }],
      'event ids have a gap, or do not begin at 1',
    )
    judge((what) => all(QUESTIONS[what]))
  })
}

/** The same of a schema of a PostgreSQL database: all of it as of one moment. */
export async function auditPostgres(url: string, schema: string): Promise<void> {
  const names = Object.keys(QUESTIONS) as Question[]
  const answers = await snapshot(
    url,
    schema,
    names.map((name) => QUESTIONS[name]),
  )
  judge((what) => answers[names.indexOf(what)] ?? [])
}

/** Asked of either database. */
const QUESTIONS = {
  openLeases: 'SELECT vm_id, generation, user_id FROM lease WHERE ended_at_ms IS NULL ORDER BY vm_id',
  held: `SELECT id AS vm_id, generation, holder_id AS user_id FROM vm
    WHERE holder_id IS NOT NULL OR state = 'leased' ORDER BY id`,
  brokenLeases: `SELECT * FROM (
      SELECT vm_id, generation, from_ms, user_id,
        row_number() OVER one AS n, lag(ended_at_ms, 1, 0) OVER one AS before_ended_ms
      FROM lease WINDOW one AS (PARTITION BY vm_id ORDER BY generation)) AS numbered
    WHERE generation <> n OR before_ended_ms IS NULL OR before_ended_ms > from_ms`,
  wrongGenerations: `SELECT vm.id, vm.generation, count(lease.vm_id) AS leases
    FROM vm LEFT JOIN lease ON lease.vm_id = vm.id GROUP BY vm.id, vm.generation HAVING vm.generation <> count(lease.vm_id)`,
  unmatchedLeases: `SELECT (SELECT count(*) FROM lease) - (SELECT count(*) FROM event WHERE type = 'vm.checked_out') AS began,
      (SELECT count(*) FROM lease WHERE ended_at_ms IS NOT NULL)
        - (SELECT count(*) FROM event WHERE type = 'vm.checked_in') AS ended`,
  strays: `SELECT 'vm of no pool' AS what, id FROM vm WHERE pool_id NOT IN (SELECT id FROM pool)
    UNION ALL SELECT 'vm of no holder', id FROM vm WHERE holder_id NOT IN (SELECT id FROM "user")
    UNION ALL SELECT 'lease of no user', vm_id FROM lease WHERE user_id NOT IN (SELECT id FROM "user")
    UNION ALL SELECT 'request of no pool or user', seq FROM request
      WHERE pool_id NOT IN (SELECT id FROM pool) OR user_id NOT IN (SELECT id FROM "user")
    UNION ALL SELECT 'flow of no pool or user', user_id FROM flow
      WHERE pool_id NOT IN (SELECT id FROM pool) OR user_id NOT IN (SELECT id FROM "user")
    UNION ALL SELECT 'reservation of no pool or user', confirmed_seq FROM reservation
      WHERE pool_id NOT IN (SELECT id FROM pool) OR user_id NOT IN (SELECT id FROM "user")`,
  halfEnded: `SELECT vm_id, generation FROM lease
    WHERE (ended_at_ms IS NULL) <> (ended_by IS NULL) OR (ended_at_ms IS NOT NULL AND due_at_ms IS NOT NULL)`,
  pools: 'SELECT id, tally, queue FROM pool',
  waiting: `SELECT pool_id, count(*) AS n FROM request WHERE state = 'waiting' GROUP BY pool_id`,
  booked: `SELECT pool_id, count(*) AS n FROM reservation WHERE state IN ('confirmed', 'active') GROUP BY pool_id`,
  counts: 'SELECT pool_id, class, state, count(*) AS n FROM vm GROUP BY pool_id, class, state',
  idsGivenAgain: `SELECT * FROM installation WHERE next_vm_id <= (SELECT coalesce(max(id), 0) FROM vm)
      OR next_user_id <= (SELECT coalesce(max(id), 0) FROM "user")
      OR next_pool_id <= (SELECT coalesce(max(id), 0) FROM pool)`,
} as const
type Question = keyof typeof QUESTIONS

function judge(answer: (what: Question) => Row[]): void {
  assert.deepEqual(answer('openLeases'), answer('held'), 'open leases and holders of machines differ')
  assert.deepEqual(
    answer('brokenLeases'),
    [],
    'a lease of a machine began before the one before it ended, or a generation is missing',
  )
  assert.deepEqual(answer('wrongGenerations'), [], 'a machine has another generation than it has had leases')
  assert.deepEqual(
    answer('unmatchedLeases').map((row) => ({ ...row })),
    [{ began: 0, ended: 0 }],
    'leases and the events that tell of them differ in number',
  )
  assert.deepEqual(answer('strays'), [], 'rows that point at nothing')
  assert.deepEqual(answer('halfEnded'), [], 'leases that ended and do not say so in every column')
  for (const { id, tally, queue } of answer('pools')) {
    const { waiting = 0, booked = 0 } = JSON.parse(String(queue)) as Partial<QueueState>
    const rowsOf = (what: 'waiting' | 'booked') =>
      Number(answer(what).find(({ pool_id }) => pool_id === id)?.n ?? 0)
    assert.deepEqual(
      { waiting, booked },
      { waiting: rowsOf('waiting'), booked: rowsOf('booked') },
      `the queue of pool ${id}`,
    )
    const counted: Tally = {}
    for (const { pool_id, class: vmClass, state, n } of answer('counts'))
      if (pool_id === id) countUp(counted, vmClass as ClassKey, state as VmState, Number(n))
    assert.deepEqual(
      withoutZeros(JSON.parse(String(tally)) as Tally),
      withoutZeros(counted),
      `the tally of pool ${id} and its machines`,
    )
  }
  assert.deepEqual(answer('idsGivenAgain'), [], 'an id that is in use would be given again')
}

function withoutZeros(tally: Tally): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const [key, states] of Object.entries(tally))
    for (const [state, count] of Object.entries(states ?? {}))
      if (count !== 0) counts[`${key} ${state}`] = count
  return counts
}
