/**
 * Exports and backups beside servers that are under load: each holds one moment, in which all tables agree, and everything that
 * was answered before it began.
 */
import assert from 'node:assert/strict'
import { copyFile, mkdir, readFile } from 'node:fs/promises'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { it } from 'node:test'
import { auditDatabase, readDatabase } from '../support/audit.ts'
import { importFolder } from '../support/moving.ts'
import { done } from '../support/one-line.ts'
import { temporarySchema, testPostgresUrl } from '../support/postgres.ts'
import { rawRequest } from '../support/raw-request.ts'
import { type ServerProcess, startServerProcess, temporaryFolder } from '../support/server-process.ts'
import { AS_ADMIN, auth, seed, type TestServer } from '../support/test-server.ts'

const CLIENTS = 12
const MACHINES = 2_000
const ROUNDS = 3

interface Load {
  /** How many leases began, as far as was answered. */
  readonly checkouts: number
  /** E-mails of users that were made, as far as was answered. */
  readonly emails: readonly string[]
  stop(): Promise<void>
}

/** Checks machines out, in and back into the pool, and makes users, on all servers until it is stopped. */
function load(servers: readonly ServerProcess[]): Load {
  const agent = new Agent({ keepAlive: true, maxSockets: CLIENTS })
  const emails: string[] = []
  let checkouts = 0
  let stopping = false

  async function call(server: ServerProcess, path: string, body: object) {
    const headers = { 'content-type': 'application/json' }
    const options = { method: 'POST', path, headers, body: JSON.stringify(body), agent }
    const { status, text } = await rawRequest(server.url, options)
    assert.equal(status, 201, `${path}: ${text}`)
    return JSON.parse(text)
  }

  async function client(i: number): Promise<void> {
    const server = servers[i % servers.length] ?? assert.fail()
    const who = auth(2, 'pw-2')
    for (let n = 0; !stopping; n++) {
      if (i === 0 && n % 10 === 0) {
        const email = `made-${n}@example.org`
        await call(server, '/user', { ...AS_ADMIN, name: 'Made', email, password: 'made-pw' })
        emails.push(email)
      }
      const vmid = (await call(server, '/checkout_vm', who))['VM Details']['vm-Id']
      checkouts++
      await call(server, '/checkin_vm', { ...who, vmid })
      await call(server, '/maintenance', { ...AS_ADMIN, vmid })
    }
  }

  const clients = Promise.all(Array.from({ length: CLIENTS }, (_, i) => client(i)))
  return {
    get checkouts() {
      return checkouts
    },
    emails,
    async stop() {
      stopping = true
      await clients
      agent.destroy()
    },
  }
}

/** Fails unless the database in `folder` is whole and has all that `known` says. */
function compare(folder: string, known: { checkouts: number; emails: readonly string[] }): number {
  auditDatabase(folder)
  return readDatabase(folder, (all) => {
    const emails = new Set(all('SELECT email FROM user').map(({ email }) => email))
    assert.deepEqual(
      known.emails.filter((email) => !emails.has(email)),
      [],
    )
    assert.equal(all('SELECT 1 FROM vm').length, MACHINES)
    const leases = all('SELECT 1 FROM lease').length
    assert.ok(leases >= known.checkouts, `${leases} leases, and ${known.checkouts} were answered before`)
    return leases
  })
}

it('a SQLite server under load is exported and backed up, each of one moment', async () => {
  const server = await startServerProcess()
  await seed(server as unknown as TestServer, { users: 1, machines: MACHINES })
  const work = load([server])
  const folder = await temporaryFolder()
  let last: string | null = null
  try {
    for (let round = 1; round <= ROUNDS; round++) {
      const [file, copy, data, restored] = ['out', 'copy', 'data', 'restored'].map((name) =>
        join(folder, `${name}-${round}`),
      ) as [string, string, string, string]
      const beforeExport = { checkouts: work.checkouts, emails: [...work.emails] }
      await done(['export', '--data', server.folder, '--file', file])
      await importFolder(data, await readFile(file))
      const leases = compare(data, beforeExport)

      const beforeBackup = { checkouts: work.checkouts, emails: [...work.emails] }
      await done(['backup', '--data', server.folder, copy])
      await mkdir(restored)
      await copyFile(copy, join(restored, 'berth.db'))
      assert.ok(compare(restored, beforeBackup) >= leases)
      last = restored
    }
  } finally {
    await work.stop()
  }
  assert.ok(work.checkouts > 0 && work.emails.length > 0, 'there was no load')
  server.kill('SIGTERM')
  assert.deepEqual(await server.exited, { code: 0, signal: null })

  const again = await startServerProcess({ data: last ?? assert.fail() })
  assert.equal((await again.call('POST', '/checkout_vm', auth(2, 'pw-2'))).status, 201)
  again.kill('SIGTERM')
  assert.deepEqual(await again.exited, { code: 0, signal: null })
  auditDatabase(again.folder)
})

it('two servers on one PostgreSQL under load are exported, each time of one moment', async () => {
  const schema = await temporarySchema()
  const args = ['--database', testPostgresUrl(), '--database-schema', schema, '--database-connections', '8']
  const servers = await Promise.all([startServerProcess({ args }), startServerProcess({ args })])
  await seed(servers[0] as unknown as TestServer, { users: 1, machines: MACHINES })
  const work = load(servers)
  const folder = await temporaryFolder()
  try {
    for (let round = 1; round <= ROUNDS; round++) {
      const [file, data] = [join(folder, `out-${round}`), join(folder, `data-${round}`)]
      const before = { checkouts: work.checkouts, emails: [...work.emails] }
      await done(['export', ...args.slice(0, 4), '--file', file])
      await importFolder(data, await readFile(file))
      compare(data, before)
    }
  } finally {
    await work.stop()
  }
  assert.ok(work.checkouts > 0 && work.emails.length > 0, 'there was no load')
  for (const server of servers) {
    server.kill('SIGTERM')
    assert.deepEqual(await server.exited, { code: 0, signal: null }, server.stderr.join('\n'))
  }
})
