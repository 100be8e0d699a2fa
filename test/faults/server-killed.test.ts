/**
 * One of two servers is killed with SIGKILL under load, again and again, and started again: the other goes on, what was answered
 * is there, and what the dead one had in hand is done by whoever is there.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { acknowledgedByAll, longestGap, onPostgres, SEED, startTrial } from '../support/fault-trial.ts'
import { startOwnPostgres } from '../support/postgres-process.ts'

/** Longer than any stop of the survivor may be: what the dead one held is free as soon as its connections are gone. */
const GAP_MS_MAX = 3_000

const TRIALS = {
  'ten times, with machines that an admin brings back': { kills: 10, settings: {} },
  'three times, with machines that workers are cleaning': {
    kills: 3,
    settings: {
      cleaning: 'automatic',
      machines: 40,
      args: ['--simulated-delay-ms', '300'],
    },
  },
} as const

describe(`one of two servers is killed under load (seed ${SEED})`, async () => {
  const postgres = await startOwnPostgres()
  for (const [title, { kills, settings }] of Object.entries(TRIALS))
    it(title, async (context) => {
      const { servers, traffic, random, during, finish } = await startTrial(
        onPostgres(postgres.url),
        settings,
      )
      let longestMs = 0
      for (let i = 0; i < kills; i++)
        await during(async () => {
          const victim = i % 2
          const [dead, survivor] = [servers[victim], 1 - victim]
          assert.ok(dead !== undefined)
          await sleep(200 + 800 * random())
          const killedMs = performance.now()
          await dead.kill()
          await sleep(100 + 900 * random())
          await dead.startAgain()
          const backMs = performance.now()
          await acknowledgedByAll(traffic, backMs, 10)
          const times = traffic.acknowledgedMs(survivor).filter((atMs) => atMs >= killedMs)
          longestMs = Math.max(longestMs, longestGap([killedMs, ...times.sort((a, b) => a - b)]))
        })
      assert.ok(longestMs < GAP_MS_MAX, `the survivor stood still for ${longestMs} ms`)
      context.diagnostic(`${await finish()}; longest gap of the survivor ${Math.round(longestMs)} ms`)
    })
})
