/** An installation that was in use moves from SQLite to PostgreSQL and back, and nothing of it is lost or changed. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { needsOf } from '../../src/domain/command.ts'
import { Needs, WorkingSet } from '../../src/domain/working-set.ts'
import { withFolder } from '../../src/store/sqlite/beside.ts'
import { openSqliteStore } from '../../src/store/sqlite/store.ts'
import { columnsOf, TRANSFER_TABLES } from '../../src/store/transfer.ts'
import { auditDatabase, readDatabase } from '../support/audit.ts'
import { type Claimed, claimedIn, commandOf, type History, histories, wholly } from '../support/histories.ts'
import { bodyOf, exportFolder, exportSchema, importFolder, importSchema } from '../support/moving.ts'
import { dropSchema, queryPostgres, temporarySchema } from '../support/postgres.ts'
import { temporaryFolder } from '../support/server-process.ts'
import { decideAllIn, NOW_MS, World } from '../support/world.ts'

const move = { by: 5, at: 0, how: 0, flag: true }

/** So that there is something to move: an admin, a user, and a pool of eight machines, some of them held. */
const OPENING: History = [
  [[{ ...move, kind: 'createUser' }], 1],
  [[{ ...move, kind: 'createUser', by: 1, how: 1, flag: false }], 1],
  [[{ ...move, kind: 'sizePool', how: 8 }], 1],
  [[{ ...move, kind: 'growPool', how: 2 }], 1],
  [[{ ...move, kind: 'reportWork', by: 0, how: 4 }], 1],
  [[{ ...move, kind: 'checkout', at: 0 }], 1],
  [[{ ...move, kind: 'checkout', at: 1 }], 1],
]

/** Plays a history on SQLite in `folder`. */
async function play(folder: string, history: History): Promise<void> {
  const world = new World({ users: [], pools: [] })
  const store = await openSqliteStore({ folder, now: () => world.nowMs, pause: () => setImmediate() })
  const claimed: Claimed[] = []
  for (const [moves, passMs] of [...OPENING, ...history]) {
    world.nowMs += passMs
    const before = world.tables.copy()
    const commands = moves.map((move) => wholly(commandOf({ tables: before, claimed }, move)))
    const needs = new Needs()
    for (const command of commands) needsOf(command, needs)
    const batch = await store.begin(needs)
    const set = new WorkingSet(batch.rows)
    const answers = await decideAllIn(batch, set, commands)
    for (const [i, command] of commands.entries()) claimed.push(...claimedIn(command, answers[i]))
    if (set.dirty) await batch.commit(set)
    else await batch.release()
    world.batch(...commands)
  }
  await store.close()
}

async function columnsIn(schema: string, table: string): Promise<string[]> {
  const rows = await queryPostgres(
    `SELECT column_name AS name FROM information_schema.columns
     WHERE table_schema = '${schema}' AND table_name = '${table}' ORDER BY ordinal_position`,
  )
  return rows.map(({ name }) => `${name}`)
}

describe('moving', () => {
  it('any history goes from SQLite to PostgreSQL and back, equal to the last byte', async () => {
    await fc.assert(
      fc.asyncProperty(histories, async (history) => {
        const [here, there] = [await temporaryFolder(), await temporaryFolder()]
        const schema = await temporarySchema()
        await play(here, history)
        const left = await exportFolder(here)
        assert.ok(left.split('\n').length > 12, 'the history left nothing to move')

        await importSchema(schema, left)
        const moved = await exportSchema(schema)
        assert.match(moved, /^{"berth":"export","version":2,"exportedAtMs":\d+,"from":"postgres",/)
        assert.equal(bodyOf(moved), bodyOf(left))

        await importFolder(there, moved)
        assert.equal(await exportFolder(there), left)
        // A reset under way ends leases without an event for each: its end wipes the log.
        const [installation] = readDatabase(there, (all) => all('SELECT state FROM installation'))
        if (installation?.state === 'open') auditDatabase(there)
        await dropSchema(schema)
      }),
      { numRuns: 12, endOnFailure: true },
    )
  })

  it('in PostgreSQL, ids of events go on, and no pool is earlier than what has happened', async () => {
    const folder = await temporaryFolder()
    await play(folder, [])
    const [last] = readDatabase(folder, (all) => all('SELECT max(id) AS id, max(at_ms) AS ms FROM event'))
    const schema = await temporarySchema()
    await importSchema(schema, await exportFolder(folder))
    const sequence = await queryPostgres('SELECT last_value::int AS at, is_called FROM event_id', schema)
    assert.deepEqual(sequence, [{ at: last?.id, is_called: true }])
    const [next] = await queryPostgres("SELECT nextval('event_id')::int AS id", schema)
    assert.equal(next?.id, Number(last?.id) + 1)
    assert.ok(Number(last?.ms) > NOW_MS)
    const pools = await queryPostgres('SELECT at_ms FROM pool', schema)
    assert.deepEqual(
      pools.map(({ at_ms }) => Number(at_ms)),
      [last?.ms],
    )
  })

  it('an installation that was never used moves too', async () => {
    const [here, there] = [await temporaryFolder(), await temporaryFolder()]
    const schema = await temporarySchema()
    await withFolder(here, NOW_MS, () => {})
    const left = await exportFolder(here)
    await importSchema(schema, left)
    assert.deepEqual(await queryPostgres('SELECT is_called FROM event_id', schema), [{ is_called: false }])
    await importFolder(there, await exportSchema(schema))
    assert.equal(await exportFolder(there), left)
  })

  it('takes every column of both databases', async () => {
    const folder = await temporaryFolder()
    const schema = await temporarySchema()
    await withFolder(folder, NOW_MS, () => {})
    await importSchema(schema, await exportFolder(folder))
    const db = new DatabaseSync(join(folder, 'berth.db'), { readOnly: true })
    for (const table of TRANSFER_TABLES) {
      const here = db.prepare(`SELECT name FROM pragma_table_info('${table}')`).all()
      assert.deepEqual(
        here.map(({ name }) => name),
        columnsOf(table),
      )
      // What PostgreSQL alone knows of a pool follows from the rest.
      const there = (await columnsIn(schema, table)).filter((name) => !(table === 'pool' && name === 'at_ms'))
      assert.deepEqual(there, columnsOf(table))
    }
    db.close()
    const tables = await queryPostgres(
      `SELECT table_name AS name FROM information_schema.tables WHERE table_schema = '${schema}'`,
    )
    assert.deepEqual(
      tables.map(({ name }) => name).sort(),
      [...TRANSFER_TABLES, 'answer', 'batch', 'migration', 'pool_change'].sort(),
      'a table that does not move',
    )
  })
})
