/** A clock for tests: it starts on a known day, runs on with the real one, and can be put forward. */
import { systemSchedule } from '../../src/cli/system.ts'
import type { Schedule } from '../../src/service/schedule.ts'

const START_MS = Date.UTC(2026, 2, 1, 0, 1)

/** The day on which `testClock` starts, as an HTTP date. */
export const START_DATE = 'Sun, 01 Mar 2026 00:00:00 GMT'

interface TestClock {
  readonly schedule: Schedule
  skip(ms: number): void
}

export function testClock(): TestClock {
  const began = performance.now()
  let skipped = 0
  return {
    schedule: { ...systemSchedule, now: () => Math.floor(START_MS + performance.now() - began + skipped) },
    skip(ms) {
      skipped += ms
    },
  }
}
