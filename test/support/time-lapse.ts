/** The real world's schedule in time lapse, so that what takes a minute by Berth's clock takes a test a second or two. */
import { systemSchedule } from '../../src/cli/system.ts'
import type { Schedule } from '../../src/service/schedule.ts'

/** Starts at the system's time; from then on, time passes `speed` times as fast. */
export function timeLapse(speed: number): Schedule {
  const beganMs = Date.now()
  return {
    ...systemSchedule,
    now: () => Math.floor(beganMs + (Date.now() - beganMs) * speed),
    sleep: (ms, signal) => systemSchedule.sleep(ms / speed, signal),
  }
}
