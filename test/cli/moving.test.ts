/** `berth export`, `import` and `backup` as whoever operates Berth meets them: from file to file, through pipes, and refused. */
import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { auditDatabase, readDatabase } from '../support/audit.ts'
import { bodyOf, exportFolder, exportSchema } from '../support/moving.ts'
import { done, refused, runProgram } from '../support/one-line.ts'
import { temporarySchema, testPostgresUrl } from '../support/postgres.ts'
import { startServerProcess, temporaryFolder } from '../support/server-process.ts'
import { seed, type TestServer } from '../support/test-server.ts'

/** A data folder that was used. */
async function usedFolder(machines = 4): Promise<string> {
  const server = await startServerProcess()
  await seed(server as unknown as TestServer, { users: 2, machines })
  server.kill('SIGTERM')
  await server.exited
  return server.folder
}

async function permissions(path: string): Promise<number> {
  return (await stat(path)).mode & 0o777
}

const used = await usedFolder()

describe('berth export and import', () => {
  it('carry an installation from SQLite to PostgreSQL and back', async () => {
    const folder = await temporaryFolder()
    const [out, back] = [join(folder, 'out.jsonl'), join(folder, 'back.jsonl')]
    const onPostgres = {
      env: { BERTH_DATABASE: testPostgresUrl(), BERTH_DATABASE_SCHEMA: await temporarySchema() },
    }
    assert.deepEqual(await done(['export', '--data', used, '--file', out]), [`exported to ${out}`])
    assert.equal(await permissions(out), 0o600)
    const events = readDatabase(used, (all) => all('SELECT 1 FROM event').length)
    const imported = [
      `imported 3 users, 0 tokens, 1 pools, 4 machines, 0 leases, 0 requests, 0 places in queues, 0 reservations, ${events} events`,
    ]
    assert.deepEqual(await done(['import', out], onPostgres), imported)
    await done(['export', '--file', back], onPostgres)
    const data = join(folder, 'data')
    assert.deepEqual(await done(['import', '--data', data, back]), imported)
    assert.equal(bodyOf(await exportFolder(data)), bodyOf(await readFile(out, 'utf8')))
    auditDatabase(data)
    // Only what was asked for is there.
    assert.deepEqual((await readdir(folder)).sort(), ['back.jsonl', 'data', 'out.jsonl'])

    const server = await startServerProcess({ data })
    assert.equal(
      (await server.call('POST', '/checkout_vm', { auth: { userid: 2, password: 'pw-2' } })).status,
      201,
    )
    server.kill('SIGTERM')
    await server.exited
  })

  it('into a PostgreSQL on which a server is running: it goes on with what has come', async () => {
    const folder = await temporaryFolder()
    const [out, back, data] = ['out', 'back', 'data'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ]
    const where = ['--database', testPostgresUrl(), '--database-schema', await temporarySchema()]
    await done(['export', '--data', used, '--file', out])
    const server = await startServerProcess({ args: where })
    await done(['import', out, ...where])
    const who = { auth: { userid: 2, password: 'pw-2' } }
    const { body } = await server.call('POST', '/checkout_vm', who)
    const vmid = body['VM Details']['vm-Id']
    assert.equal((await server.call('POST', '/checkin_vm', { ...who, vmid })).status, 201)
    server.kill('SIGTERM')
    assert.deepEqual(await server.exited, { code: 0, signal: null }, server.stderr.join('\n'))
    await done(['export', ...where, '--file', back])
    await done(['import', '--data', data, back])
    // No event has an id that was used, and none is missing.
    auditDatabase(data)
  })

  it('go through pipes', async () => {
    const lines = await done(['export', '--data', used])
    const file = join(await temporaryFolder(), 'piped')
    await writeFile(file, `${lines.join('\n')}\n`)
    const data = join(await temporaryFolder(), 'data')
    const under = ['sh', '-c', 'cat "$FILE" | "$@"', 'sh']
    for (const [args, to] of [
      [['import', '--data'], `${data}-1`],
      [['import', '-', '--data'], `${data}-2`],
    ] as const) {
      await done([...args, to], { under, env: { FILE: file } })
      assert.equal(bodyOf(await exportFolder(to)), bodyOf(`${lines.join('\n')}\n`))
    }
  })

  it('an export does not overwrite a file, unless it is told to', async () => {
    const file = join(await temporaryFolder(), 'out.jsonl')
    await writeFile(file, 'mine', { mode: 0o644 })
    assert.equal(
      await refused(['export', '--data', used, '--file', file]),
      `berth: ${file} is there already: choose another name, or overwrite it with --force`,
    )
    assert.equal(await readFile(file, 'utf8'), 'mine')
    await done(['export', '--data', used, '--file', file, '--force'])
    assert.equal(bodyOf(await readFile(file, 'utf8')), bodyOf(await exportFolder(used)))
    assert.equal(await permissions(file), 0o600)
  })

  it('an export ends in one line when whoever read it has gone', async () => {
    const many = await usedFolder(3_000)
    const under = ['sh', '-c', '"$@" | head -c 10', 'sh']
    const { stderr } = await runProgram(['export', '--data', many], { under })
    assert.deepEqual(stderr, ['berth: whoever read the output has gone before its end'])
  })

  for (const [what, args, said] of [
    [
      'there is no database',
      (folder: string) => ['export', '--data', join(folder, 'no')],
      /there is no database in the data folder .*no$/,
    ],
    [
      'the file cannot be made',
      (folder: string) => ['export', '--data', used, '--file', join(folder, 'no', 'file')],
      /ENOENT: no such file or directory, open '.*no\/\.file/,
    ],
    [
      'what to import is not there',
      (folder: string) => ['import', '--data', join(folder, 'data'), join(folder, 'no')],
      /ENOENT: no such file or directory, open '.*no'/,
    ],
    ['it is a folder', (folder: string) => ['import', '--data', join(folder, 'data'), folder], /EISDIR/],
  ] as const)
    it(`refuse: ${what}`, async () => {
      const line = await refused(args(await temporaryFolder()))
      assert.match(line, /^berth: /)
      assert.match(line, said)
    })

  it('refuse: a damaged file, a target that is used, a target that a server has', async () => {
    const folder = await temporaryFolder()
    const [whole, damaged, data] = ['whole', 'damaged', 'data'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ]
    await done(['export', '--data', used, '--file', whole])
    await writeFile(damaged, (await readFile(whole, 'utf8')).replace('user2@', 'user3@'))
    assert.match(
      await refused(['import', '--data', data, damaged]),
      /^berth: line \d+ of the export: user\.email "user3@example\.org" is another active user’s$/,
    )
    await done(['import', '--data', data, whole])
    assert.match(await refused(['import', '--data', data, whole]), /^berth: the database .* is not empty: /)
    const server = await startServerProcess()
    assert.match(
      await refused(['import', '--data', server.folder, whole]),
      /is in use by another Berth server$/,
    )
    server.kill('SIGTERM')
    await server.exited
    const schema = await temporarySchema()
    const env = { BERTH_DATABASE: testPostgresUrl(), BERTH_DATABASE_SCHEMA: schema }
    assert.match(
      await refused(['export'], { env }),
      /^berth: the database postgres:\/\/\w+:\*\*\*@\S+ holds no tables of Berth: berth migrate makes them$/,
    )
    assert.match(await refused(['import', damaged], { env }), /^berth: line \d+ of the export: /)
    await done(['import', whole], { env })
    assert.match(await refused(['import', whole], { env }), /:\*\*\*@\S+ is not empty: /)
    assert.equal(bodyOf(await exportSchema(schema)), bodyOf(await readFile(whole, 'utf8')))
  })

  it('export refuses a database that lacks migrations', async () => {
    const data = await temporaryFolder()
    const db = new DatabaseSync(join(data, 'berth.db'))
    db.exec('CREATE TABLE other (id)')
    db.close()
    assert.match(
      await refused(['export', '--data', data]),
      /berth\.db holds no tables of Berth: berth migrate/,
    )
  })
})

describe('berth backup', () => {
  it('makes one file that a server starts from', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'copy.db')
    assert.deepEqual(await done(['backup', '--data', used, file]), [`backed up to ${file}`])
    assert.equal(await permissions(file), 0o600)
    assert.deepEqual(await readdir(folder), ['copy.db'])
    const data = join(folder, 'data')
    await mkdir(data)
    await writeFile(join(data, 'berth.db'), await readFile(file))
    const server = await startServerProcess({ data })
    const { body } = await server.call('GET', '/user')
    assert.match(JSON.stringify(body), /user3@example\.org/)
    server.kill('SIGTERM')
    await server.exited
    auditDatabase(data)
  })

  it('does not overwrite a file, unless it is told to', async () => {
    const file = join(await temporaryFolder(), 'copy.db')
    await writeFile(file, 'mine')
    assert.match(await refused(['backup', '--data', used, file]), /is there already: /)
    assert.equal(await readFile(file, 'utf8'), 'mine')
    await done(['backup', '--data', used, file, '--force'])
    assert.notEqual(await readFile(file, 'utf8'), 'mine')
  })

  it('refuses what is no data folder of SQLite', async () => {
    const folder = await temporaryFolder()
    const file = join(folder, 'copy.db')
    assert.match(await refused(['backup', '--data', join(folder, 'no'), file]), /there is no database in/)
    assert.match(
      await refused(['backup', file], { env: { BERTH_DATABASE: testPostgresUrl() } }),
      /^berth: backup copies a SQLite database: for PostgreSQL use pg_dump, or berth export$/,
    )
    await writeFile(join(folder, 'berth.db'), 'something else entirely. '.repeat(200))
    assert.match(await refused(['backup', '--data', folder, file]), /cannot be used: file is not a database/)
    assert.deepEqual(await readdir(folder), ['berth.db'])
  })
})
