/** A provider whose calls last until the test says so: to look at machines that are being made or destroyed. */
import { systemSchedule } from '../../src/cli/system.ts'
import type { EventType } from '../../src/domain/event.ts'
import type { Berth } from '../../src/service/berth.ts'
import type { Schedule } from '../../src/service/schedule.ts'

const CALL_MS = 1_000_000

interface SlowProvider {
  /** For `startTestServer`. */
  readonly settings: { readonly simulatedDelayMs: number; readonly providerSecondsMax: number }
  readonly schedule: Schedule
  /** Lets calls end from now on, also those that have begun. */
  open(): void
  /** Makes calls last that begin from now on. */
  shut(): void
}

export function slowProvider(): SlowProvider {
  let gate = Promise.withResolvers<void>()
  return {
    settings: { simulatedDelayMs: CALL_MS, providerSecondsMax: 86_400 },
    schedule: {
      ...systemSchedule,
      async sleep(ms, signal) {
        const isCall = ms >= CALL_MS / 2 && ms <= CALL_MS * 1.5
        await (isCall ? gate.promise : systemSchedule.sleep(ms, signal))
      },
    },
    open: () => gate.resolve(),
    shut() {
      gate = Promise.withResolvers()
    },
  }
}

/** Resolves once an event of `type` has been recorded. */
export async function untilEvent({ feed, reads }: Berth, type: EventType): Promise<void> {
  const { signal } = new AbortController()
  for (;;) {
    const seen = feed.lastEventId
    const events = await reads.events({ afterId: 0, rowsMax: 10_000 })
    if (events.some((event) => event.type === type)) return
    await feed.after(seen, signal)
  }
}
