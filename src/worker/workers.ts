/** All sweeps that keep an installation going, started and stopped together. */
import { WORK_STATES } from '../domain/work.ts'
import type { Feed } from '../service/feed.ts'
import type { Submit } from '../service/lane.ts'
import type { Schedule } from '../service/schedule.ts'
import type { Tokens } from '../service/tokens.ts'
import type { Reads } from '../store/port.ts'
import { answerSweep } from './answer.ts'
import { type DueSettings, dueSweep } from './due.ts'
import { fitSweep } from './fit.ts'
import { leaverSweep } from './leaver.ts'
import type { Providers } from './provider-call.ts'
import { resetSweep } from './reset.ts'
import { runSweep } from './sweep.ts'
import { tickSweep } from './tick.ts'
import { tokenUseSweep } from './token-use.ts'

export interface WorkerSettings {
  readonly submit: Submit
  readonly reads: Reads
  readonly feed: Feed
  readonly schedule: Schedule
  readonly tokens: Pick<Tokens, 'takeUses'>
  readonly providers: Providers
  /** How long a provider has for one call. */
  readonly callMsMax: number
  readonly failed: (name: string, error: unknown) => void
}

/** Machines that one batch of a worker touches at most: a checkout beside it waits for no more than one such batch. */
const SLICE_MACHINES_MAX = 1_000

/** A claim outlasts the call by this, for the report to be committed in time. */
const CLAIM_MARGIN_MS = 30_000

export interface Workers {
  /** Ends all sweeps; resolves when none is under way any more. */
  stop(): Promise<void>
}

export function startWorkers(settings: WorkerSettings): Workers {
  const stopping = new AbortController()
  const due: DueSettings = {
    ...settings,
    stopping: stopping.signal,
    machinesMax: SLICE_MACHINES_MAX,
    claimMs: settings.callMsMax + CLAIM_MARGIN_MS,
  }
  const sweeps = [
    ...WORK_STATES.map((state) => dueSweep(state, due)),
    fitSweep(due),
    leaverSweep(due),
    resetSweep(due),
    tickSweep(due),
    answerSweep(settings),
    tokenUseSweep(settings),
  ]
  const running = sweeps.map((sweep) => runSweep(sweep, { ...settings, signal: stopping.signal }))
  return {
    async stop() {
      stopping.abort()
      await Promise.all(running)
    },
  }
}
