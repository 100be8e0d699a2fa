/**
 * What a server does about the others on the same database. Their word is a wake-up that may be lost, so it looks by itself
 * every second too. It follows the events that end what is remembered of a user or a token, from a cursor that skips none; a password
 * that was changed on another server is forgotten here within moments, and each batch checks its version again anyway.
 */
import type { Event } from '../domain/event.ts'
import type { Neighbours, Reads } from '../store/port.ts'
import type { Feed } from './feed.ts'
import type { Schedule } from './schedule.ts'

const LOOK_MS = 1_000
const SLICE_EVENTS = 1_000

export interface NeighbourhoodSettings {
  readonly neighbours: Neighbours
  readonly reads: Reads
  readonly feed: Feed
  readonly schedule: Schedule
  /** Where to begin following: what is remembered now is not older. */
  readonly afterId: number
  /** Told of each event after which something remembered may no longer hold. */
  readonly changed: (event: Event) => void
  readonly failed: (error: unknown) => void
}

export interface Neighbourhood {
  stop(): Promise<void>
}

export function joinNeighbourhood(settings: NeighbourhoodSettings): Neighbourhood {
  const { neighbours, feed, schedule } = settings
  const stopping = new AbortController()
  let wake = new AbortController()
  neighbours.listen((news) => {
    feed.heard(news)
    if (news.accountsChanged) wake.abort()
  })

  let cursor = settings.afterId
  async function follow(): Promise<void> {
    for (;;) {
      const events = await settings.reads.accountEvents({ afterId: cursor, rowsMax: SLICE_EVENTS })
      for (const event of events) settings.changed(event)
      cursor = events.at(-1)?.id ?? cursor
      if (events.length < SLICE_EVENTS) return
    }
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      await schedule.sleep(LOOK_MS, AbortSignal.any([wake.signal, stopping.signal]))
      if (!wake.signal.aborted) feed.heard({ leftWork: false })
      wake = new AbortController()
      try {
        await follow()
      } catch (error) {
        settings.failed(error)
        await schedule.sleep(LOOK_MS, stopping.signal)
      }
    }
  }

  const running = run()
  return {
    async stop() {
      stopping.abort()
      await running
    },
  }
}
