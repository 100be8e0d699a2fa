/**
 * How PostgreSQL comes to its newest step: once, however many servers start together; never half, and never one that a newer
 * program wrote. The schema that comes of it is checked in, in words that are the same for every version of PostgreSQL.
 */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import type { Client } from 'pg'
import type { Migration } from '../../src/store/migration.ts'
import { StoreRefusesToOpen } from '../../src/store/port.ts'
import { withConnection } from '../../src/store/postgres/address.ts'
import { MIGRATIONS, makeSchema, migrate, migrationStatus } from '../../src/store/postgres/migrations.ts'
import { dropSchema, queryPostgres, temporarySchema, testPostgresUrl } from '../support/postgres.ts'
import { NOW_MS } from '../support/world.ts'

const DUMP = new URL('postgres-schema.txt', import.meta.url)

const BROKEN: Migration = {
  id: MIGRATIONS.length + 1,
  name: 'breaks half way',
  sql: 'CREATE TABLE half (id bigint); INSERT INTO nowhere VALUES (1)',
}

function on<T>(schema: string, work: (client: Client) => Promise<T>): Promise<T> {
  return withConnection({ urls: [testPostgresUrl()], schema }, Date.now, work)
}

async function applied(schema: string): Promise<unknown[]> {
  const rows = await queryPostgres('SELECT id::int, applied_at_ms FROM migration ORDER BY id', schema)
  return rows.map(({ id, applied_at_ms }) => [id, Number(applied_at_ms)])
}

const DONE = MIGRATIONS.map(({ id }) => [id, NOW_MS])

/** Everything in a schema, sorted and without the schema's name. Names of constraints that PostgreSQL made up count too. */
async function schemaOf(schema: string): Promise<string> {
  const lines = await Promise.all(
    [
      `SELECT 'table ' || table_name || '.' || column_name AS name,
         concat_ws(' ', data_type, CASE is_nullable WHEN 'NO' THEN 'NOT NULL' END, 'DEFAULT ' || column_default) AS text
       FROM information_schema.columns WHERE table_schema = '${schema}' ORDER BY table_name, ordinal_position`,
      `SELECT 'storage ' || relname AS name, array_to_string(reloptions, ', ') AS text FROM pg_class
       WHERE relnamespace = '${schema}'::regnamespace AND reloptions IS NOT NULL ORDER BY relname`,
      // From version 18 on NOT NULL is listed here too.
      `SELECT 'constraint ' || conname AS name, pg_get_constraintdef(oid) AS text FROM pg_constraint
       WHERE connamespace = '${schema}'::regnamespace AND contype <> 'n' ORDER BY conname`,
      `SELECT 'index ' || indexname AS name, indexdef AS text FROM pg_indexes
       WHERE schemaname = '${schema}' ORDER BY indexname`,
      `SELECT 'sequence ' || sequencename AS name, data_type || ' from ' || start_value AS text FROM pg_sequences
       WHERE schemaname = '${schema}' ORDER BY sequencename`,
      `SELECT 'function ' || proname AS name, pg_get_functiondef(oid) AS text FROM pg_proc
       WHERE pronamespace = '${schema}'::regnamespace ORDER BY proname`,
      `SELECT 'trigger ' || tgname AS name, pg_get_triggerdef(oid) AS text FROM pg_trigger
       WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = '${schema}'::regnamespace) ORDER BY tgname`,
    ].map((sql) => queryPostgres(sql)),
  )
  const text = lines.flat().map(({ name, text }) => `${name}: ${text}`.replace(/\s+/g, ' ').trim())
  return `${text.join('\n').replaceAll(`${schema}.`, '')}\n`
}

describe('migrations of PostgreSQL', () => {
  it('have ascending ids, each used once', () => {
    assert.deepEqual(
      MIGRATIONS.map(({ id }) => id),
      MIGRATIONS.map((_, i) => i + 1),
    )
  })

  it('are done once each by eight that start together, and by nobody afterwards', async () => {
    const schema = await temporarySchema()
    const done = await Promise.all(
      Array.from({ length: 8 }, () => on(schema, (client) => migrate(client, NOW_MS))),
    )
    assert.deepEqual(done.map(({ length }) => length).sort(), [0, 0, 0, 0, 0, 0, 0, MIGRATIONS.length])
    assert.deepEqual(await applied(schema), DONE)
    const before = await schemaOf(schema)
    assert.deepEqual(await on(schema, (client) => migrate(client, NOW_MS + 1)), [])
    assert.equal(await schemaOf(schema), before)
    assert.deepEqual(await applied(schema), DONE)
  })

  it('are done once each by eight that start together where there is no schema yet', async () => {
    for (let round = 0; round < 8; round++) {
      const schema = await temporarySchema()
      await dropSchema(schema)
      try {
        const clients = Array.from({ length: 8 }, () =>
          on(schema, async (client) => {
            await makeSchema(client, schema)
            return migrate(client, NOW_MS)
          }),
        )
        const done = await Promise.all(clients)
        assert.deepEqual(done.map(({ length }) => length).sort(), [0, 0, 0, 0, 0, 0, 0, MIGRATIONS.length])
      } finally {
        await dropSchema(schema)
      }
    }
  })

  it('of two installations in one database have nothing to do with each other', async () => {
    const schemas = [await temporarySchema(), await temporarySchema()]
    await Promise.all(schemas.map((schema) => on(schema, (client) => migrate(client, NOW_MS))))
    for (const schema of schemas) assert.deepEqual(await applied(schema), DONE)
  })

  it('that a database does not have yet are done in their order', async () => {
    const schema = await temporarySchema()
    await on(schema, (client) => migrate(client, NOW_MS))
    const next = MIGRATIONS.length + 1
    const more = [
      ...MIGRATIONS,
      { id: next, name: 'a table', sql: 'CREATE TABLE later (id bigint)' },
      { id: next + 1, name: 'a column', sql: 'ALTER TABLE later ADD COLUMN name text' },
    ]
    const status = await on(schema, (client) => migrationStatus(client, more))
    assert.deepEqual(
      status.missing.map(({ id }) => id),
      [next, next + 1],
    )
    await on(schema, (client) => migrate(client, NOW_MS + 1, more))
    assert.deepEqual((await applied(schema)).slice(MIGRATIONS.length), [
      [next, NOW_MS + 1],
      [next + 1, NOW_MS + 1],
    ])
    await queryPostgres("INSERT INTO later VALUES (1, 'x')", schema)
  })

  it('of a newer program are refused in one line, and the database is left as it was', async () => {
    const schema = await temporarySchema()
    const newer = [...MIGRATIONS, { id: 99, name: 'from the future', sql: 'CREATE TABLE future (id bigint)' }]
    await on(schema, (client) => migrate(client, NOW_MS, newer))
    const before = [await schemaOf(schema), await applied(schema)]
    const isRefused = (error: Error) =>
      error instanceof StoreRefusesToOpen && /99/.test(error.message) && !error.message.includes('\n')
    await assert.rejects(
      on(schema, (client) => migrate(client, NOW_MS + 1)),
      isRefused,
    )
    await assert.rejects(
      on(schema, (client) => migrationStatus(client)),
      isRefused,
    )
    assert.deepEqual([await schemaOf(schema), await applied(schema)], before)
  })

  it('leave a fresh schema empty when one fails, and a used one at its step', async () => {
    const fresh = await temporarySchema()
    await assert.rejects(
      on(fresh, (client) => migrate(client, NOW_MS, [...MIGRATIONS, BROKEN])),
      /nowhere/,
    )
    assert.equal(await schemaOf(fresh), '\n')
    const used = await temporarySchema()
    await on(used, async (client) => {
      await migrate(client, NOW_MS)
      const before = await schemaOf(used)
      await assert.rejects(migrate(client, NOW_MS, [...MIGRATIONS, BROKEN]), /nowhere/)
      assert.equal(await schemaOf(used), before)
      assert.deepEqual(await applied(used), DONE)
      // The connection is good for more.
      assert.deepEqual(await migrate(client, NOW_MS), [])
    })
  })

  it('are told without being done', async () => {
    const schema = await temporarySchema()
    const before = await on(schema, (client) => migrationStatus(client))
    assert.deepEqual(before, { done: [], missing: MIGRATIONS })
    assert.equal(await schemaOf(schema), '\n')
    await on(schema, (client) => migrate(client, NOW_MS))
    assert.deepEqual(await on(schema, (client) => migrationStatus(client)), {
      done: MIGRATIONS.map(({ id, name }) => ({ id, name, appliedAtMs: NOW_MS })),
      missing: [],
    })
  })

  it('make the schema that is checked in', async () => {
    const schema = await temporarySchema()
    await on(schema, (client) => migrate(client, NOW_MS))
    const head =
      '# Made by the migrations: UPDATE_SCHEMA=1 npm test -- test/store/postgres-migrations.test.ts\n\n'
    const found = head + (await schemaOf(schema))
    if (process.env.UPDATE_SCHEMA === '1') writeFileSync(DUMP, found)
    assert.equal(found, readFileSync(DUMP, 'utf8'))
  })
})
