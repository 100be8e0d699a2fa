/** The real world's clock, timers and randomness: the only file that touches them. */
import { randomBytes } from 'node:crypto'
import { setImmediate, setTimeout } from 'node:timers/promises'
import type { Schedule } from '../service/schedule.ts'

export const systemSchedule: Schedule = {
  now: () => Date.now(),
  async sleep(ms, signal) {
    try {
      await setTimeout(ms, undefined, signal === undefined ? {} : { signal })
    } catch (error) {
      if (!(error instanceof Error && error.name === 'AbortError')) throw error
    }
  },
  pause: () => setImmediate(),
  random: () => randomBytes(4).readUInt32LE() / 0x1_0000_0000,
}

/** Milliseconds of a clock that only goes forward, with fractions. */
export function stopwatch(): number {
  return performance.now()
}

export { randomBytes }
