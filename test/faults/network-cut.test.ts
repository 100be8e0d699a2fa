/**
 * The network between one of two servers and PostgreSQL is cut: connections are reset, bytes vanish without a word and arrive
 * late, answers to commits are lost. The other server reaches the database directly, and goes on.
 */
import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  acknowledgedByAll,
  longestGap,
  onPostgres,
  SEED,
  startTrial,
  type Trial,
  type TrialSettings,
} from '../support/fault-trial.ts'
import { startOwnPostgres } from '../support/postgres-process.ts'
import { until } from '../support/server-process.ts'
import { startProxy, type TcpProxy } from '../support/tcp-proxy.ts'

const LOST_ANSWERS = 50
/** What the cut-off server held is free after 5 s; the other goes on then at the latest. */
const GAP_MS_MAX = 8_000

describe(`one of two servers is cut off from PostgreSQL under load (seed ${SEED})`, async () => {
  const postgres = await startOwnPostgres()

  async function trial(
    context: TestContext,
    settings: TrialSettings,
    fault: (trial: Trial, network: TcpProxy) => Promise<void>,
  ): Promise<void> {
    const network = await startProxy({ host: '127.0.0.1', port: postgres.port })
    const through = postgres.url.replace(`:${postgres.port}/`, `:${network.port}/`)
    const started = await startTrial(onPostgres(postgres.url, [through, postgres.url]), settings)
    const beganMs = performance.now()
    await started.during(() => fault(started, network))
    const times = started.traffic.acknowledgedMs(1).filter((atMs) => atMs >= beganMs)
    const gapMs = longestGap([beganMs, ...times.sort((a, b) => a - b)])
    const line = await started.finish()
    assert.ok(gapMs < GAP_MS_MAX, `the other server stood still for ${gapMs} ms`)
    context.diagnostic(`${line}; longest gap of the other server ${Math.round(gapMs)} ms`)
  }

  it('connections are reset and refused for 4 s', (context) =>
    trial(context, {}, async ({ servers }, network) => {
      network.cut()
      await until(async () => (await servers[0]?.readiness()) === 503)
      assert.equal(await servers[1]?.readiness(), 200)
      await sleep(4_000)
      network.heal()
    }))

  const SWALLOWED = [
    { what: 'nothing arrives any more', seconds: 8, direction: undefined },
    { what: 'nothing arrives any more', seconds: 25, direction: undefined },
    { what: 'the database hears and is not heard', seconds: 25, direction: 'toClient' },
  ] as const
  for (const { what, seconds, direction } of SWALLOWED)
    it(`${what} for ${seconds} s, from the middle of a commit on, and what was sent arrives late`, (context) =>
      // Clients wait until the server has given up.
      trial(context, { patienceMs: 40_000 }, async (_, network) => {
        let isCommitting = false
        network.cutAt((piece) => {
          if (!isCommitting && piece.includes('COMMIT')) {
            isCommitting = true
            network.swallow(direction)
          }
          return null
        })
        await until(() => isCommitting)
        await sleep(seconds * 1_000)
        network.heal()
      }))

  it(`commits are cut off ${LOST_ANSWERS} times, half of them before their answer and half in the middle`, (context) =>
    trial(context, {}, async ({ random, traffic }, network) => {
      let lost = 0
      while (lost < LOST_ANSWERS) {
        let isCut = false
        network.cutAt((piece) => {
          if (isCut || !piece.includes('COMMIT')) return null
          isCut = true
          return lost % 2 === 0 ? 'answer' : 'piece'
        })
        await until(() => {
          traffic.check()
          return isCut
        })
        lost++
        await sleep(60 * random())
        if (lost % 10 === 0) await acknowledgedByAll(traffic, performance.now(), 3)
      }
      network.heal()
    }))

  it(`connections are reset ${LOST_ANSWERS} times, at any moment`, (context) =>
    trial(context, {}, async ({ random }, network) => {
      for (let i = 0; i < LOST_ANSWERS; i++) {
        await sleep(150 * random())
        network.reset()
      }
    }))
})
