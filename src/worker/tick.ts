/**
 * Brings about what time alone does in pools: leases end, requests have waited long enough, reservations begin and end, and what
 * was promised for a time is granted then. Pools are looked at when something of theirs is due.
 */
import { isRefusal } from '../domain/refusal.ts'
import { expired, type Reservation } from '../domain/reservation.ts'
import type { Submit } from '../service/lane.ts'
import { leasesOf } from '../service/reservation-leases.ts'
import type { PoolReading, Reads } from '../store/port.ts'
import type { DueSettings } from './due.ts'
import type { NextSweep, Sweep } from './sweep.ts'

/** What is parked over a quota that counts more than its pool is looked at again after so long. */
const LOOK_MS = 1_000

export function tickSweep(settings: DueSettings): Sweep {
  const { reads, schedule } = settings
  const lookedAtMs = new Map<number, number>()
  return {
    name: 'tick',
    async run(tasks): Promise<NextSweep> {
      if ((await reads.installation()).state !== 'open') return { at: 'wake' }
      let nextMs = Number.POSITIVE_INFINITY
      for (const reading of await reads.pools()) {
        const { id, queue } = reading.pool
        const lookAtMs = queue.waiting === 0 ? null : (lookedAtMs.get(id) ?? 0) + LOOK_MS
        const times = [await reads.nextTickAtMs(id), queue.settleAtMs, lookAtMs].filter((ms) => ms !== null)
        const atMs = Math.min(...times)
        const key = `tick ${id}`
        if (atMs > schedule.now()) nextMs = Math.min(nextMs, atMs)
        else if (!tasks.has(key)) {
          lookedAtMs.set(id, schedule.now())
          tasks.start(key, () => tick(settings, reading))
        }
      }
      return nextMs === Number.POSITIVE_INFINITY ? { at: 'wake' } : { atMs: nextMs }
    },
  }
}

/** True when there was more than one command takes. */
async function tick(settings: DueSettings, { pool: { id: poolId } }: PoolReading): Promise<boolean> {
  const { submit, reads, schedule, machinesMax } = settings
  const answer = await submit({ kind: 'tickPool', poolId, rowsMax: machinesMax })
  if (isRefusal(answer)) throw new Error(answer.message)
  for (const state of ['confirmed', 'active'] as const)
    for (const reservation of await reads.reservations({ poolId, state, toMs: schedule.now() }, ALL))
      if (expired(reservation, schedule.now()) !== null) await expire(submit, reads, reservation)
  return answer.more
}

const ALL = { after: '', rowsMax: 1_000 } as const

async function expire(submit: Submit, reads: Reads, reservation: Reservation): Promise<void> {
  const vmIds = (await leasesOf(reads, reservation)).map(({ vmId }) => vmId)
  const answer = await submit({ kind: 'expireReservation', id: reservation.id, vmIds })
  if (isRefusal(answer)) throw new Error(answer.message)
}
