/**
 * Two servers on one database are like one: what real clients were told by both, call by call, can be explained by one order of
 * holder changes for each machine, in which every call took effect between its being sent and its being answered.
 */
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { onPostgres, SEED, startTrial, type TrialSettings } from '../support/fault-trial.ts'
import { startOwnPostgres } from '../support/postgres-process.ts'

const LOAD_MS = 10_000

const TRIALS: Record<string, TrialSettings> = {
  'a few machines that many want': { machines: 4, clients: 16, pauseMs: 1 },
  'as many machines as clients': { machines: 16, clients: 16, pauseMs: 1 },
  'machines that workers clean': {
    machines: 16,
    clients: 16,
    pauseMs: 1,
    cleaning: 'automatic',
    args: ['--simulated-delay-ms', '20'],
  },
}

describe(`two servers without a fault (seed ${SEED})`, async () => {
  const postgres = await startOwnPostgres()
  for (const [title, settings] of Object.entries(TRIALS))
    it(title, async (context) => {
      const trial = await startTrial(onPostgres(postgres.url), settings)
      await trial.during(() => sleep(LOAD_MS))
      context.diagnostic(await trial.finish())
    })
})
