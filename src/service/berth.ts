/** What one Berth server is made of, below its shells: the store, the lane, the feed, the credentials. */
import type { Command } from '../domain/command.ts'
import { ACCOUNT_EVENTS, type EventType, type NewEvent } from '../domain/event.ts'
import type { PoolPolicy } from '../domain/pool.ts'
import type { Reads, Store } from '../store/port.ts'
import { Attempts } from './attempts.ts'
import { Credentials } from './credentials.ts'
import { Feed } from './feed.ts'
import { idMaker, type NewId } from './ids.ts'
import type { LaneSettings, Submit, SubmitKeyed } from './lane.ts'
import { Lanes } from './lanes.ts'
import { joinNeighbourhood } from './neighbourhood.ts'
import { type PasswordHasher, passwordHasher } from './password.ts'
import { QueueView } from './queue-view.ts'
import type { Schedule } from './schedule.ts'
import { Tokens } from './tokens.ts'
import { Waits } from './waits.ts'

export interface BerthSettings {
  readonly store: Store
  readonly schedule: Schedule
  readonly randomBytes: (n: number) => Buffer
  readonly lane: LaneSettings
  /** What pools that the original API makes are like. */
  readonly poolPolicy: Partial<PoolPolicy>
  /** What makes machines here, by name; left out: not known. */
  readonly providers?: readonly string[]
  /** The one-time code that the first user has to present now; null: none is asked for. */
  readonly setupCode: () => string | null
  /** Told when a reset is done: whoever comes first is the first user again. */
  readonly wiped?: () => void
  /** True: anybody may reset the installation. */
  readonly allowReset: boolean
  /** Password hashes computed at the same time. */
  readonly hashesMax: number
  /** How many callers and addresses are remembered, where that is fewer than usual. */
  readonly rememberedMax?: number
  readonly measured?: (batch: { commands: number; commitMs: number }) => void
  /** Told what each commit of this server brought. */
  readonly happened?: (events: readonly NewEvent[]) => void
  readonly failed?: (command: Command | null, error: unknown) => void
}

export interface Berth {
  readonly submit: Submit
  readonly submitKeyed: SubmitKeyed
  readonly reads: Reads
  readonly feed: Feed
  /** Whoever waits for what becomes of a request. */
  readonly waits: Waits
  /** Where requests stand. */
  readonly queue: QueueView
  readonly schedule: Schedule
  readonly credentials: Credentials
  readonly tokens: Tokens
  /** Draws an id that begins with a prefix. */
  readonly newId: NewId
  readonly hasher: PasswordHasher
  readonly settings: BerthSettings
  /** Follows other servers no longer, and resolves when no command is waiting or under way. */
  close(): Promise<void>
  /** Commands that wait for a batch. */
  waiting(): number
}

const ACCOUNT_TYPES: ReadonlySet<EventType> = new Set(ACCOUNT_EVENTS)

const HASHES_WAITING_MAX = 500

export async function openBerth(settings: BerthSettings): Promise<Berth> {
  const { store, schedule, randomBytes } = settings
  const hasher = passwordHasher({
    parallelMax: settings.hashesMax,
    waitingMax: HASHES_WAITING_MAX,
    randomBytes,
  })
  const credentials = new Credentials({
    reads: store.reads,
    hasher,
    attempts: new Attempts(() => schedule.now(), settings.rememberedMax),
    schedule,
    key: randomBytes(32),
    ...(settings.rememberedMax === undefined ? {} : { rememberedMax: settings.rememberedMax }),
  })
  const tokens = new Tokens({
    reads: store.reads,
    schedule,
    randomBytes,
    ...(settings.rememberedMax === undefined ? {} : { rememberedMax: settings.rememberedMax }),
  })
  const { reads, neighbours } = store
  const firstEventId = await reads.lastEventId()
  const feed = new Feed(firstEventId, neighbours === null ? null : () => reads.lastEventId())
  const waits = new Waits(reads, feed, schedule, neighbours !== null)
  let queue: QueueView | null = null
  let resetsUpTo = firstEventId
  const lanes = new Lanes(
    store,
    schedule,
    {
      committed(commit) {
        for (const event of commit.events) forgetChanged(credentials, tokens, event)
        if (commit.events.some(({ type }) => type === 'installation.reset')) {
          resetsUpTo = commit.lastEventId
          settings.wiped?.()
        }
        feed.committed(commit)
        waits.committed(commit.events)
        queue?.committed(commit.events)
        settings.happened?.(commit.events)
        const accountsChanged = commit.events.some(({ type }) => ACCOUNT_TYPES.has(type))
        neighbours?.tell({ leftWork: commit.leftWork, accountsChanged })
      },
      ...(settings.measured === undefined ? {} : { measured: settings.measured }),
      ...(settings.failed === undefined ? {} : { failed: settings.failed }),
    },
    settings.lane,
  )
  queue = new QueueView(lanes.submit, reads, schedule)
  const neighbourhood =
    neighbours === null
      ? null
      : joinNeighbourhood({
          neighbours,
          reads,
          feed,
          schedule,
          afterId: firstEventId,
          changed(event) {
            forgetChanged(credentials, tokens, event)
            if (event.type === 'installation.reset' && event.id > resetsUpTo) settings.wiped?.()
          },
          failed: (error) => settings.failed?.(null, error),
        })
  return {
    submit: lanes.submit,
    submitKeyed: lanes.submitKeyed,
    reads,
    feed,
    waits,
    queue,
    schedule,
    credentials,
    tokens,
    newId: idMaker(() => schedule.now(), randomBytes),
    hasher,
    settings,
    async close() {
      waits.stop()
      await neighbourhood?.stop()
      await lanes.drain()
    },
    waiting: () => lanes.waiting,
  }
}

function forgetChanged(credentials: Credentials, tokens: Tokens, event: NewEvent): void {
  if (event.type === 'installation.reset') {
    credentials.forgetAll()
    tokens.forgetAll()
  }
  if (event.userId === undefined || !ACCOUNT_TYPES.has(event.type)) return
  tokens.forget(event.userId)
  if (event.type !== 'token.revoked') credentials.forget(event.userId)
}
