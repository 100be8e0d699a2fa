/**
 * Works off the machines of one state that are due: claim a slice, act on it through the provider, report. After a crash
 * the claims run out and the work is taken up again, here or on another server.
 */

import type { Pool } from '../domain/pool.ts'
import { isRefusal } from '../domain/refusal.ts'
import type { Vm } from '../domain/vm.ts'
import type { WorkResult, WorkState } from '../domain/work.ts'
import type { Submit } from '../service/lane.ts'
import type { Reads } from '../store/port.ts'
import { type CallSettings, callProvider } from './provider-call.ts'
import type { Sweep } from './sweep.ts'

export interface DueSettings extends CallSettings {
  readonly submit: Submit
  readonly reads: Reads
  readonly machinesMax: number
  readonly claimMs: number
}

/** Slices that may be with a provider at the same time, for each state. */
const SLICES_MAX = 8

export function dueSweep(state: WorkState, settings: DueSettings): Sweep {
  const { submit, reads, machinesMax, claimMs, schedule } = settings
  let slices = 0
  return {
    name: `due ${state}`,
    async run(tasks) {
      if (tasks.size >= SLICES_MAX) return { at: 'wake' }
      const dueAtMs = await reads.nextDueAtMs(state)
      if (dueAtMs === null) return { at: 'wake' }
      if (dueAtMs > schedule.now()) return { atMs: dueAtMs }
      const answer = await submit({ kind: 'claimWork', state, machinesMax, claimMs })
      if (isRefusal(answer)) throw new Error(answer.message)
      for (const [pool, vms] of byPool(answer.claimed))
        tasks.start(`${++slices}`, async () => {
          const results = await callProvider(settings, state, pool, vms)
          await report(settings, state, results)
        })
      return { at: 'once' }
    },
  }
}

/** Reports what came of claimed work. Throws when it could not be recorded: the claim then runs out, and it is done again. */
export async function report(
  { submit }: DueSettings,
  state: WorkState,
  results: readonly WorkResult[],
): Promise<void> {
  const answer = await submit({ kind: 'reportWork', state, results })
  if (isRefusal(answer)) throw new Error(answer.message)
}

function byPool(claimed: readonly { vm: Vm; pool: Pool }[]): [Pool, Vm[]][] {
  const pools = new Map<number, [Pool, Vm[]]>()
  for (const { vm, pool } of claimed) {
    const entry = pools.get(pool.id) ?? [pool, []]
    pools.set(pool.id, entry)
    entry[1].push(vm)
  }
  return [...pools.values()]
}
