/**
 * PostgreSQL is killed with SIGKILL under load, all of its processes at once, and started again two seconds later: the servers
 * say meanwhile that they are not ready, refuse what they cannot do, and go on by themselves.
 */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { acknowledgedByAll, onPostgres, SEED, startTrial } from '../support/fault-trial.ts'
import { startOwnPostgres } from '../support/postgres-process.ts'
import { until } from '../support/server-process.ts'

const KILLS = 5
const AWAY_MS = 2_000

it(`PostgreSQL is killed under load ${KILLS} times (seed ${SEED})`, async (context) => {
  const postgres = await startOwnPostgres()
  const { servers, traffic, random, during, finish } = await startTrial(onPostgres(postgres.url))
  const pids = servers.map(({ process }) => process.pid)
  for (let i = 0; i < KILLS; i++) {
    await during(async () => {
      await sleep(300 + 700 * random())
      await postgres.kill()
      const killedMs = performance.now()
      for (const server of servers) await until(async () => (await server.readiness()) === 503)
      await sleep(Math.max(0, killedMs + AWAY_MS - performance.now()))
      await postgres.start()
    })
    await acknowledgedByAll(traffic, performance.now(), 10)
    for (const server of servers) assert.equal(await server.readiness(), 200)
  }
  context.diagnostic(await finish())
  assert.deepEqual(
    servers.map(({ process }) => process.pid),
    pids,
    'no server was started again',
  )
})
