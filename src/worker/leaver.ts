/** Takes back the machines of users who were deleted, a slice a batch. */
import { isRefusal } from '../domain/refusal.ts'
import type { Submit } from '../service/lane.ts'
import type { Reads } from '../store/port.ts'
import type { Sweep } from './sweep.ts'

const USERS_MAX = 100

export function leaverSweep({
  submit,
  reads,
  machinesMax,
}: {
  submit: Submit
  reads: Reads
  machinesMax: number
}): Sweep {
  return {
    name: 'leaver',
    async run() {
      const leavers = await reads.leavers(USERS_MAX)
      for (const userId of leavers) {
        const answer = await submit({ kind: 'releaseLeaver', userId, machinesMax })
        if (isRefusal(answer)) return { at: 'wake' }
      }
      return { at: leavers.length > 0 ? 'once' : 'wake' }
    },
  }
}
