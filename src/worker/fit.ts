/**
 * Brings what exists of each pool to its target: plans and makes missing machines, and marks surplus ones for destruction,
 * a slice at a time.
 */
import { isRefusal } from '../domain/refusal.ts'
import type { PoolReading } from '../store/port.ts'
import { type DueSettings, report } from './due.ts'
import { callProvider } from './provider-call.ts'
import type { Sweep } from './sweep.ts'

/** Slices of one pool that are made at the same time: while one is being saved, the next is planned. */
const SLICES_OF_POOL_MAX = 2

export function fitSweep(settings: DueSettings): Sweep {
  const { reads } = settings
  return {
    name: 'fit',
    async run(tasks) {
      if ((await reads.installation()).state !== 'open') return { at: 'wake' }
      for (const reading of await reads.pools()) {
        const { existing, target } = reading.stats
        if (existing < target) {
          for (let i = 0; i < SLICES_OF_POOL_MAX; i++) {
            const key = `grow ${reading.pool.id} ${i}`
            if (!tasks.has(key)) tasks.start(key, () => grow(settings, reading))
          }
        } else if (existing > target) {
          const key = `shrink ${reading.pool.id}`
          if (!tasks.has(key)) tasks.start(key, () => shrink(settings, reading))
        }
      }
      return { at: 'wake' }
    },
  }
}

/** Plans and makes slices until nothing is missing. True when it made some. */
async function grow(settings: DueSettings, { pool }: PoolReading): Promise<boolean> {
  const { submit, schedule, machinesMax, claimMs, stopping } = settings
  let grown = false
  while (!stopping.aborted) {
    const askedAtMs = schedule.now()
    const answer = await submit({ kind: 'growPool', poolId: pool.id, machinesMax, claimMs })
    if (isRefusal(answer) || answer.pool === null || answer.planned.length === 0) return grown
    grown = true
    const { pool: of, planned } = answer
    const beganAtMs = schedule.now()
    const results = await callProvider(settings, 'provisioning', of, planned, askedAtMs)
    await report(settings, 'provisioning', results, schedule.now() - beganAtMs)
  }
  return grown
}

/** Marks slices until no surplus can be removed. True when it marked some. */
async function shrink(
  { submit, machinesMax, stopping }: DueSettings,
  { pool }: PoolReading,
): Promise<boolean> {
  let shrunk = false
  while (!stopping.aborted) {
    const answer = await submit({ kind: 'shrinkPool', poolId: pool.id, machinesMax })
    if (isRefusal(answer) || answer.removed === 0) return shrunk
    shrunk = true
  }
  return shrunk
}
