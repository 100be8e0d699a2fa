/**
 * What was acknowledged survives the loss of the primary, where commits wait for a standby: the demonstration of
 * scripts/failover.ts, once, and the one case in which a primary has a commit that its standby has not.
 *
 * Needs PostgreSQL 15 of Debian (`apt-get install --no-install-recommends postgresql-15`).
 */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import {
  type DebianPostgres,
  requireDebianPostgres,
  startDebianPostgres,
} from '../../scripts/debian-postgres.ts'
import { failover, figures } from '../../scripts/failover.ts'
import { startServerProcess, until } from '../support/server-process.ts'
import { ADMIN, AS_ADMIN } from '../support/test-server.ts'

describe('failover', () => {
  before(requireDebianPostgres)

  it('the primary is killed under load and the standby promoted: nothing acknowledged is lost', async (context) => {
    const result = await failover({ synchronous: true, stallMs: 0, say: () => {} })
    for (const line of figures(result)) context.diagnostic(line)
    assert.deepEqual(result.lost, [])
    assert.deepEqual(result.wrong, [])
    assert.ok(result.acknowledgedBefore > 0 && result.acknowledgedAfter > 0)
  })

  it('a commit that the standby never got is not acknowledged, also when the primary has it', async () => {
    const primary = await startDebianPostgres()
    let standby: DebianPostgres | undefined
    try {
      standby = await primary.standby()
      await primary.waitForStandby()
      const server = await startServerProcess({ args: ['--database', primary.url] })
      assert.equal((await server.call('POST', '/user', ADMIN)).status, 201)
      assert.equal(
        (await server.call('POST', '/create_resource_pool', { ...AS_ADMIN, pool_size: 3 })).status,
        201,
      )
      await standby.remove()
      const answering = server.call('POST', '/checkout_vm', AS_ADMIN)
      const pid = await until(async () => {
        const [row] = await primary.query("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        return row === undefined ? null : Number(row.pid)
      })
      // PostgreSQL starts all its processes anew then, from what is on its disk.
      process.kill(pid, 'SIGKILL')
      await until(async () => {
        const held = await primary.query("SELECT id FROM vm WHERE state = 'leased'").catch(() => [])
        return held.length === 1
      })
      const { status, body } = await answering
      assert.equal(status, 503, JSON.stringify(body))
      server.kill('SIGKILL')
    } finally {
      await standby?.remove()
      await primary.remove()
    }
  })
})
