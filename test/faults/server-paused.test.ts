/**
 * One of two servers is stopped with SIGSTOP and goes on later, as if nothing had been: a machine that swaps, a virtual machine
 * that is moved. What it held is taken over meanwhile, and what it still sends then changes nothing of that.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { longestGap, onPostgres, SEED, startTrial } from '../support/fault-trial.ts'
import { startOwnPostgres } from '../support/postgres-process.ts'
import { query } from '../support/postgres-query.ts'
import { until } from '../support/server-process.ts'

/** A server that stops in the middle of a batch holds its rows for 5 s at most; then the other goes on. */
const GAP_MS_MAX = 8_000

describe(`one of two servers is paused under load (seed ${SEED})`, async () => {
  const postgres = await startOwnPostgres()

  it('in the middle of a batch, for 12 s', async (context) => {
    const { servers, traffic, random, during, finish } = await startTrial(onPostgres(postgres.url))
    const [paused] = servers
    assert.ok(paused !== undefined)
    let gapMs = 0
    await during(async () => {
      for (;;) {
        await sleep(50 * random())
        paused.process.kill('SIGSTOP')
        // A transaction that nobody goes on with stays; one of the other server's does not.
        await sleep(150)
        const [stuck] = await query(
          postgres.url,
          `SELECT count(*) AS n FROM pg_stat_activity
           WHERE state = 'idle in transaction' AND state_change < clock_timestamp() - interval '100 ms'`,
        )
        if (Number(stuck?.n) > 0) break
        paused.process.kill('SIGCONT')
      }
      const stoppedMs = performance.now()
      await sleep(12_000)
      paused.process.kill('SIGCONT')
      const times = traffic.acknowledgedMs(1).filter((atMs) => atMs >= stoppedMs)
      gapMs = longestGap([stoppedMs, ...times.sort((a, b) => a - b)])
    })
    assert.ok(gapMs < GAP_MS_MAX, `the other server stood still for ${gapMs} ms`)
    context.diagnostic(`${await finish()}; longest gap of the other server ${Math.round(gapMs)} ms`)
  })

  it('for longer than its claims on machines last', async (context) => {
    const store = onPostgres(postgres.url)
    const { servers, random, during, finish } = await startTrial(store, {
      cleaning: 'automatic',
      machines: 40,
      args: ['--simulated-delay-ms', '300'],
    })
    const [paused] = servers
    assert.ok(paused !== undefined)
    const claims = () =>
      store.query(
        "SELECT id, claim, generation FROM vm WHERE state = 'maintenance' AND busy_until_ms IS NOT NULL ORDER BY id",
      )
    let left: Awaited<ReturnType<typeof claims>> = []
    await during(async () => {
      for (;;) {
        await sleep(100 * random())
        paused.process.kill('SIGSTOP')
        const before = await claims()
        // Cleaning takes half a second at most: a claim that is older is the paused server's.
        await sleep(1_500)
        const after = new Set((await claims()).map((row) => JSON.stringify(row)))
        left = before.filter((row) => after.has(JSON.stringify(row)))
        if (left.length > 0) break
        paused.process.kill('SIGCONT')
      }
      // The other server waits until they have run out, and does the work.
      await until(async () => {
        const rows = await store.query(`SELECT id, claim FROM vm WHERE id IN (${left.map(({ id }) => id)})`)
        return rows.every(({ id, claim }) => Number(claim) > Number(left.find((row) => row.id === id)?.claim))
      })
      paused.process.kill('SIGCONT')
    })
    // The log is read by the trial: each machine was cleaned once for each time it was given back.
    context.diagnostic(`${await finish()}; claims that ran out ${left.length}`)
  })
})
