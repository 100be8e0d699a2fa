/** A clock that stands still until a test moves it, for what runs on a schedule and on nothing else that takes time. */
import { setImmediate } from 'node:timers/promises'
import type { Schedule } from '../../src/service/schedule.ts'

/** So many turns of the event loop without a call to the schedule mean that everybody waits for time to pass. */
const QUIET_TURNS = 3

export interface ManualClock {
  readonly schedule: Schedule
  /** Milliseconds that have passed. */
  readonly passedMs: number
  /** Moves on by `ms`, waking each sleeper at its time, and returns when nobody has anything left to do. */
  advance(ms: number): Promise<void>
}

export function manualClock(startMs = Date.UTC(2026, 0, 1)): ManualClock {
  let passedMs = 0
  let calls = 0
  const sleepers = new Set<{ readonly atMs: number; wake(): void }>()
  const schedule: Schedule = {
    now() {
      calls++
      return startMs + passedMs
    },
    sleep(ms, signal) {
      calls++
      if (ms <= 0 || signal?.aborted) return Promise.resolve()
      return new Promise((resolve) => {
        const sleeper = {
          atMs: passedMs + ms,
          wake() {
            calls++
            sleepers.delete(sleeper)
            signal?.removeEventListener('abort', sleeper.wake)
            resolve()
          },
        }
        sleepers.add(sleeper)
        signal?.addEventListener('abort', sleeper.wake)
      })
    },
    pause() {
      calls++
      return setImmediate()
    },
    random: () => 0.5,
  }

  async function settle(): Promise<void> {
    for (let seen = -1; seen !== calls; ) {
      seen = calls
      for (let turn = 0; turn < QUIET_TURNS; turn++) await setImmediate()
    }
  }

  return {
    schedule,
    get passedMs() {
      return passedMs
    },
    async advance(ms) {
      const endMs = passedMs + ms
      for (;;) {
        await settle()
        const nextMs = Math.min(...[...sleepers].map(({ atMs }) => atMs))
        if (nextMs > endMs) break
        passedMs = nextMs
        for (const sleeper of [...sleepers]) if (sleeper.atMs === nextMs) sleeper.wake()
      }
      passedMs = endMs
      await settle()
    },
  }
}
