/** Takes back what users have who were deleted: what they wait for, what they booked, and their machines, a slice a batch. */
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
        await giveUp(submit, reads, userId)
        const answer = await submit({ kind: 'releaseLeaver', userId, machinesMax })
        if (isRefusal(answer)) return { at: 'wake' }
      }
      return { at: leavers.length > 0 ? 'once' : 'wake' }
    },
  }
}

/** Gives up what a user waits for and has booked. */
async function giveUp(submit: Submit, reads: Reads, userId: number): Promise<void> {
  const all = { after: '', rowsMax: 1_000 }
  for (const { id } of await reads.requests({ userId, state: 'waiting' }, all))
    await submit({ kind: 'forgetWish', requestId: id, reservationId: null })
  for (const state of ['confirmed', 'active'] as const)
    for (const { id } of await reads.reservations({ userId, state }, all))
      await submit({ kind: 'forgetWish', requestId: null, reservationId: id })
}
