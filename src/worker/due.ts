/**
 * Works off the machines of one state that are due, pool by pool: claim a slice, act on it through the provider, report.
 * After a crash the claims run out and the work is taken up again, here or on another server.
 */
import { isRefusal } from '../domain/refusal.ts'
import type { WorkResult, WorkState } from '../domain/work.ts'
import type { Submit } from '../service/lane.ts'
import type { PoolReading, Reads } from '../store/port.ts'
import { type CallSettings, callProvider } from './provider-call.ts'
import type { NextSweep, Sweep, Tasks } from './sweep.ts'

export interface DueSettings extends CallSettings {
  readonly submit: Submit
  readonly reads: Reads
  readonly machinesMax: number
}

/** Slices of one pool that may be with its provider at the same time. A provider that hangs holds up its own pool only. */
const SLICES_OF_POOL_MAX = 8

export function dueSweep(state: WorkState, settings: DueSettings): Sweep {
  const { reads, schedule } = settings
  return {
    name: `due ${state}`,
    async run(tasks) {
      let nextMs = Number.POSITIVE_INFINITY
      for (const reading of await reads.pools()) {
        if (!reading.states.some((entry) => entry.state === state && entry.count > 0)) continue
        const dueAtMs = await reads.nextDueAtMs(reading.pool.id, state)
        if (dueAtMs === null) continue
        if (dueAtMs > schedule.now()) nextMs = Math.min(nextMs, dueAtMs)
        else if (await claimSlice(settings, state, reading, tasks)) nextMs = 0
      }
      return nextSweep(nextMs)
    },
  }
}

function nextSweep(nextMs: number): NextSweep {
  if (nextMs === 0) return { at: 'once' }
  return nextMs === Number.POSITIVE_INFINITY ? { at: 'wake' } : { atMs: nextMs }
}

/**
 * Claims what is due in a pool and has its provider act on it. False when it claimed nothing: the pool has enough under way, or
 * the clock of the store, which decides what is due, is behind this server's.
 */
async function claimSlice(
  settings: DueSettings,
  state: WorkState,
  { pool: { id: poolId } }: PoolReading,
  tasks: Tasks,
): Promise<boolean> {
  const { submit, schedule, machinesMax, claimMs } = settings
  const place = Array.from({ length: SLICES_OF_POOL_MAX }, (_, i) => `${poolId} ${i}`).find(
    (key) => !tasks.has(key),
  )
  if (place === undefined) return false
  const askedAtMs = schedule.now()
  const answer = await submit({ kind: 'claimWork', poolId, state, machinesMax, claimMs })
  if (isRefusal(answer)) throw new Error(answer.message)
  const { pool, claimed } = answer
  if (pool === null || claimed.length === 0) return false
  tasks.start(place, async () => {
    const beganAtMs = schedule.now()
    const results = await callProvider(settings, state, pool, claimed, askedAtMs)
    await report(settings, state, results, schedule.now() - beganAtMs)
    return true
  })
  return true
}

/** How often a report that the store cannot take now is tried again, and the pause before the first time; it doubles. */
const REPORT_TRIES_MAX = 6
const REPORT_PAUSE_MS = 250

/**
 * Reports what came of claimed work. While the store cannot take it (a full disk, say) it is tried again a few times. Throws
 * when it could not be recorded: the claim then runs out, and the work is done again.
 */
export async function report(
  { submit, schedule, stopping }: DueSettings,
  state: WorkState,
  results: readonly WorkResult[],
  tookMs: number,
): Promise<void> {
  for (let tries = 1; ; tries++) {
    const answer = await submit({ kind: 'reportWork', state, results, tookMs })
    if (!isRefusal(answer)) return
    if (tries >= REPORT_TRIES_MAX || stopping.aborted) throw new Error(answer.message)
    await schedule.sleep(REPORT_PAUSE_MS * 2 ** (tries - 1), stopping)
  }
}
