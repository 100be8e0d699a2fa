/** Carries a reset through: marks machines for destruction, waits until they are gone, and wipes. */
import { isRefusal } from '../domain/refusal.ts'
import type { Submit } from '../service/lane.ts'
import type { Schedule } from '../service/schedule.ts'
import type { Reads } from '../store/port.ts'
import type { Sweep } from './sweep.ts'

/** How often to look whether the last machines are gone. */
const LOOK_AGAIN_MS = 20

export function resetSweep({
  submit,
  reads,
  machinesMax,
  schedule,
}: {
  submit: Submit
  reads: Reads
  machinesMax: number
  schedule: Schedule
}): Sweep {
  return {
    name: 'reset',
    async run() {
      if ((await reads.installation()).state !== 'resetting') return { at: 'wake' }
      const answer = await submit({ kind: 'continueReset', machinesMax })
      if (isRefusal(answer)) throw new Error(answer.message)
      if (answer.done || answer.marked > 0) return { at: 'once' }
      return { atMs: schedule.now() + LOOK_AGAIN_MS }
    },
  }
}
