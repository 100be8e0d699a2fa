/**
 * Word between servers by LISTEN and NOTIFY, on a connection of its own. It is sent after the commit and never in it, because
 * commits that notify wait for each other; and at most once in some milliseconds, whatever was committed in between. When the
 * connection breaks it is opened again, and whoever listens is told that something may have been missed.
 */
import type { Client } from 'pg'
import type { Neighbours, News } from '../port.ts'

export interface NeighbourSettings {
  /** A connection of its own. */
  readonly connect: () => Promise<Client>
  /** The same for all servers on these tables, and for no others. */
  readonly channel: string
  /** Tells this server from the others. */
  readonly serverId: string
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>
}

const TELL_MS_MIN = 5
const ANSWER_MS_MAX = 5_000
const PAUSE_MS_MIN = 100
const PAUSE_MS_MAX = 2_000

const NOTHING: News = { leftWork: false, accountsChanged: false }
const ANYTHING: News = { leftWork: true, accountsChanged: true }

export class PostgresNeighbours implements Neighbours {
  readonly #settings: NeighbourSettings
  readonly #closing = new AbortController()
  readonly #running: Promise<void>
  #heard: (news: News) => void = () => {}
  #client: Client | null = null
  #toTell: News | null = null
  #telling: Promise<void> = Promise.resolve()

  constructor(settings: NeighbourSettings) {
    this.#settings = settings
    this.#running = this.#keepListening()
  }

  tell(news: News): void {
    if (this.#toTell !== null) {
      this.#toTell = both(this.#toTell, news)
      return
    }
    this.#toTell = news
    this.#telling = this.#telling.then(() => this.#tellNow())
  }

  listen(heard: (news: News) => void): void {
    this.#heard = heard
  }

  async close(): Promise<void> {
    await this.#telling
    this.#closing.abort()
    await this.#client?.end().catch(() => {})
    await this.#running
  }

  async #tellNow(): Promise<void> {
    const { channel, serverId, sleep } = this.#settings
    const { leftWork, accountsChanged } = this.#toTell ?? NOTHING
    this.#toTell = null
    const payload = JSON.stringify({ from: serverId, leftWork, accountsChanged })
    const client = this.#client
    const word = {
      text: 'SELECT pg_notify($1, $2)',
      values: [channel, payload],
      query_timeout: ANSWER_MS_MAX,
    }
    // Lost with the connection: the others look by themselves after a while. One that does not answer is given up.
    await client?.query(word).catch(() => void client.end().catch(() => {}))
    await sleep(TELL_MS_MIN, this.#closing.signal)
  }

  async #keepListening(): Promise<void> {
    const { connect, channel, sleep } = this.#settings
    const { signal } = this.#closing
    let pauseMs = PAUSE_MS_MIN
    while (!signal.aborted) {
      try {
        const client = await connect()
        const ended = new Promise<void>((resolve) => client.once('end', () => resolve()))
        client.on('notification', ({ payload }) => this.#receive(payload))
        await client.query(`LISTEN ${client.escapeIdentifier(channel)}`)
        this.#client = client
        if (signal.aborted) await client.end()
        pauseMs = PAUSE_MS_MIN
        this.#heard(ANYTHING)
        await ended
        this.#client = null
      } catch {
        // Tried again below; what cannot be reached is told by the batches.
      }
      await sleep(pauseMs, signal)
      pauseMs = Math.min(PAUSE_MS_MAX, 2 * pauseMs)
    }
  }

  #receive(payload: string | undefined): void {
    try {
      const news = JSON.parse(payload ?? '') as News & { from: string }
      if (news.from !== this.#settings.serverId) this.#heard(news)
    } catch {
      this.#heard(ANYTHING)
    }
  }
}

function both(a: News, b: News): News {
  return {
    leftWork: a.leftWork || b.leftWork,
    accountsChanged: a.accountsChanged || b.accountsChanged,
  }
}
