/** `berth migrate`, with and without --status, on both databases, and what it says when it cannot. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { MIGRATIONS as POSTGRES_MIGRATIONS } from '../../src/store/postgres/migrations.ts'
import { MIGRATIONS as SQLITE_MIGRATIONS } from '../../src/store/sqlite/migrations.ts'
import { done, refused, runProgram } from '../support/one-line.ts'
import { dropSchema, queryPostgres, temporarySchema, testPostgresUrl } from '../support/postgres.ts'
import { startServerProcess, temporaryFolder } from '../support/server-process.ts'

const TIME = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`

/** Runs through the life of a database that `where` names. */
async function life(
  where: readonly string[],
  migrations: typeof SQLITE_MIGRATIONS,
  makeNewer: () => Promise<void>,
) {
  const status = () => runProgram(['migrate', '--status', ...where])
  const missing = await status()
  assert.deepEqual({ code: missing.code, stderr: missing.stderr }, { code: 3, stderr: [] })
  assert.match(missing.stdout[0] ?? '', /^id +done +name$/)
  assert.deepEqual(
    missing.stdout.slice(1).map((line) => line.trim().split(/ {2,}/)),
    migrations.map(({ id, name }) => [`${id}`, 'missing', name]),
  )

  assert.deepEqual(
    await done(['migrate', ...where]),
    migrations.map(({ id, name }) => `migration ${id} done: ${name}`),
  )
  assert.deepEqual(await done(['migrate', ...where]), ['no migration is missing'])
  const whole = await status()
  assert.deepEqual({ code: whole.code, stderr: whole.stderr }, { code: 0, stderr: [] })
  assert.equal(whole.stdout.length, 1 + migrations.length)
  for (const line of whole.stdout.slice(1)) assert.match(line, new RegExp(`^ *\\d+ +${TIME}  \\S`))

  await makeNewer()
  for (const more of [[], ['--status']])
    assert.match(
      await refused(['migrate', ...more, ...where]),
      /^berth: the database was written by a newer Berth \(.*9999.*\): start the newer program$/,
    )
}

describe('berth migrate', () => {
  it('makes, tells and refuses on SQLite', async () => {
    const data = join(await temporaryFolder(), 'data')
    await life(['--data', data], SQLITE_MIGRATIONS, async () => {
      const db = new DatabaseSync(join(data, 'berth.db'))
      db.exec("INSERT INTO migration VALUES (9999, 'from the future', 0)")
      db.close()
    })
  })

  it('makes, tells and refuses on PostgreSQL, and makes the schema', async () => {
    const schema = await temporarySchema()
    await dropSchema(schema)
    try {
      const where = ['--database', testPostgresUrl(), '--database-schema', schema]
      await life(where, POSTGRES_MIGRATIONS, async () => {
        await queryPostgres("INSERT INTO migration VALUES (9999, 'from the future', 0)", schema)
      })
    } finally {
      await dropSchema(schema)
    }
  })

  it('--status makes no folder', async () => {
    const data = join(await temporaryFolder(), 'data')
    await runProgram(['migrate', '--status', '--data', data])
    assert.equal(existsSync(data), false)
  })

  it('--status looks beside a server; without it the folder has to be free', async () => {
    const server = await startServerProcess()
    assert.equal(
      (await done(['migrate', '--status', '--data', server.folder])).length,
      SQLITE_MIGRATIONS.length + 1,
    )
    assert.equal(
      await refused(['migrate', '--data', server.folder]),
      `berth: the data folder ${server.folder} is in use by another Berth server`,
    )
    server.kill('SIGTERM')
    await server.exited
  })

  it('says what is no database', async () => {
    const data = await temporaryFolder()
    await writeFile(join(data, 'berth.db'), 'something else entirely. '.repeat(200))
    for (const more of [[], ['--status']])
      assert.match(
        await refused(['migrate', '--data', data, ...more]),
        /^berth: the database .*berth\.db cannot be used: file is not a database$/,
      )
  })
})

describe('a PostgreSQL that cannot be used is told in one line, with its place and without its password', () => {
  const { host, username, password } = new URL(testPostgresUrl())
  const at = (url: string) => ({ env: { BERTH_DATABASE: url } })

  for (const [what, url, said] of [
    [
      'nobody listens',
      'postgres://ada:secret@127.0.0.1:1/berth',
      /postgres:\/\/ada:\*\*\*@127\.0\.0\.1:1\/berth: .*ECONNREFUSED/,
    ],
    [
      'no such host',
      'postgres://ada:secret@nowhere.invalid/berth',
      /@nowhere\.invalid\/berth: .*(ENOTFOUND|EAI_AGAIN)/,
    ],
    [
      'no such database',
      `postgres://${username}:${password}@${host}/nothing_here`,
      /\/nothing_here: .*does not exist/,
    ],
    [
      'a wrong password',
      `postgres://${username}:secret@${host}/postgres`,
      /: .*password authentication failed/,
    ],
    [
      'neither of two',
      `postgres://ada:secret@127.0.0.1:1/a,postgres://ada:secret@127.0.0.1:2/b`,
      /:1\/a: .*ECONNREFUSED.*; .*:2\/b: .*ECONNREFUSED/,
    ],
  ] as const)
    it(what, async () => {
      for (const command of ['migrate', 'export']) {
        const line = await refused([command], at(url))
        assert.match(line, /^berth: postgres:\/\/\w+:\*\*\*@/)
        assert.match(line, said)
        assert.doesNotMatch(line, /secret/)
      }
    })

  it('the second of two is used when the first does not answer', async () => {
    const schema = await temporarySchema()
    const env = {
      BERTH_DATABASE: `postgres://ada:secret@127.0.0.1:1/a,${testPostgresUrl()}`,
      BERTH_DATABASE_SCHEMA: schema,
    }
    assert.equal((await done(['migrate'], { env })).length, POSTGRES_MIGRATIONS.length)
  })

  it('the user may not make tables', async () => {
    const schema = await temporarySchema()
    const role = `r_${schema}`
    await queryPostgres(
      `CREATE ROLE ${role} LOGIN PASSWORD 'secret'; GRANT USAGE ON SCHEMA ${schema} TO ${role}`,
    )
    try {
      const env = {
        BERTH_DATABASE: `postgres://${role}:secret@${host}/postgres`,
        BERTH_DATABASE_SCHEMA: schema,
      }
      const line = await refused(['migrate'], { env })
      assert.match(line, /^berth: postgres:\/\/r_\w+:\*\*\*@.*: permission denied for schema/)
    } finally {
      await queryPostgres(`REVOKE ALL ON SCHEMA ${schema} FROM ${role}; DROP ROLE ${role}`)
    }
  })
})
