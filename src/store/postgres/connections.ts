/**
 * Connections to PostgreSQL: a few for batches, a few for reads, and single ones for what needs one for itself. The first of
 * the addresses that takes changes is used; when it is lost, the next one is tried, so after a failover the servers find the
 * new primary by themselves. When all were tried, calls fail at once for a pause that doubles, instead of all waiting.
 */
import { Client, type ClientBase, type ClientConfig, Pool, type PoolClient, types } from 'pg'
import { StoreUnavailable } from '../port.ts'
import { messageOf } from './errors.ts'

export interface ConnectionSettings {
  /** postgres://user@host:port/database?options, with sslmode, sslrootcert, sslcert and sslkey as libpq has them. */
  readonly urls: readonly string[]
  /** The schema of Berth's tables; null: the one that the user's search path begins with. */
  readonly schema: string | null
  /** Connections for batches at most; each lane uses two when it is busy. */
  readonly batchesMax: number
  /** Connections for reads at most. */
  readonly readsMax: number
  /** Milliseconds of a clock that only goes forward: one that is set back would make a pause of it. */
  readonly now: () => number
}

const CONNECT_MS_MAX = 5_000
const PAUSE_MS_MIN = 100
const PAUSE_MS_MAX = 1_000

/** How long a batch waits for rows that others hold, and for one statement. */
const LOCK_MS_MAX = 5_000
const STATEMENT_MS_MAX = 10_000
/** A server that stops in the middle of a batch (it is paused, or cut off) holds its rows for no longer than this. */
const IDLE_MS_MAX = 5_000
/** When no answer came by then the connection is given up: the network may have swallowed it. */
const ANSWER_MS_MAX = 12_000

/**
 * Every statement of a batch finds its rows by an index, few among many. A planner that has not counted the tables yet, or has
 * counted them while they were small, would read them whole; and planning each statement anew costs more than running it.
 */
const PLANNING = `SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;
  SET plan_cache_mode = force_generic_plan`

const INT8 = 20

/** What the driver's pool says when all its connections are in use: the database is not to blame. */
const ALL_IN_USE = 'timeout exceeded when trying to connect'

/** Until when nobody tries to connect, and why. */
interface Away {
  readonly untilMs: number
  readonly reason: string
}

export class Connections {
  readonly #settings: ConnectionSettings
  /** Misses since the last connection that could be made; each turned to the next address. */
  #misses = 0
  /** Grows with each miss: whoever finds out late, about an address that was left, changes nothing. */
  #turn = 0
  #batches: Pool
  #reads: Pool
  #away: Away | null = null
  /** How many connections have broken, and how many had when each was made. */
  #breaks = 0
  readonly #madeAt = new WeakMap<PoolClient, number>()

  constructor(settings: ConnectionSettings) {
    this.#settings = settings
    this.#batches = this.#newPool(settings.batchesMax)
    this.#reads = this.#newPool(settings.readsMax)
  }

  /** A connection for a batch; give it back with `release`, with an error when it is in doubt. Throws `StoreUnavailable`. */
  forBatch(): Promise<PoolClient> {
    return this.#tried(() => this.#whole(this.#batches))
  }

  /** A connection for reads. Throws `StoreUnavailable`. */
  forReads(): Promise<PoolClient> {
    return this.#tried(() => this.#whole(this.#reads))
  }

  /** A connection of its own, without limits of time: for listening, migrations and moving. End it yourself. Throws `StoreUnavailable`. */
  single(): Promise<Client> {
    return this.#tried(async () => {
      const client = new Client({ ...this.#config(), query_timeout: 0, pipeline: false })
      client.on('error', () => {})
      try {
        await client.connect()
        await prepare(client, this.#settings.schema, 'SET statement_timeout = 0; SET lock_timeout = 0')
        return client
      } catch (error) {
        void client.end().catch(() => {})
        throw error
      }
    })
  }

  async close(): Promise<void> {
    await Promise.all([this.#batches.end(), this.#reads.end()])
  }

  /** Each address gets a try. */
  async #tried<T>(connect: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      const away = this.#away
      if (away !== null && this.#settings.now() < away.untilMs) throw new StoreUnavailable(away.reason)
      const turn = this.#turn
      try {
        const connection = await connect()
        if (turn === this.#turn) this.#reached()
        return connection
      } catch (error) {
        const reason = `the database cannot be reached (${messageOf(error)})`
        // Many may find out at the same time; the first of them counts.
        if (turn === this.#turn && messageOf(error) !== ALL_IN_USE) this.#missed(reason)
        if (tries >= this.#settings.urls.length) throw new StoreUnavailable(reason)
      }
    }
  }

  #reached(): void {
    this.#away = null
    this.#misses = 0
  }

  /** Turns to the next address; after the last of them comes a pause. */
  #missed(reason: string): void {
    const { urls, now } = this.#settings
    this.#turn++
    this.#misses++
    if (this.#misses % urls.length === 0) {
      const pauseMs = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** (this.#misses / urls.length - 1))
      this.#away = { untilMs: now() + pauseMs, reason }
    }
    if (urls.length === 1) return
    for (const pool of [this.#batches, this.#reads]) void pool.end()
    this.#batches = this.#newPool(this.#settings.batchesMax)
    this.#reads = this.#newPool(this.#settings.readsMax)
  }

  /**
   * A connection of a pool that was made after the last one broke. Those from before are likely to be broken too, and where the
   * network swallows everything, each of them would take its time to tell.
   */
  async #whole(pool: Pool): Promise<PoolClient> {
    for (;;) {
      const client = await pool.connect()
      if (this.#madeAt.get(client) === this.#breaks) return client
      client.release(true)
    }
  }

  #newPool(max: number): Pool {
    const { schema } = this.#settings
    const pool = new Pool({
      ...this.#config(),
      max,
      idleTimeoutMillis: 60_000,
      onConnect: (client) =>
        prepare(
          client,
          schema,
          `SET statement_timeout = ${STATEMENT_MS_MAX}; SET lock_timeout = ${LOCK_MS_MAX};
           SET idle_in_transaction_session_timeout = ${IDLE_MS_MAX}; ${PLANNING}`,
        ),
    })
    // A connection that breaks while nobody uses it is replaced when somebody does.
    pool.on('error', () => {})
    pool.on('connect', (client) => this.#madeAt.set(client, this.#breaks))
    pool.on('release', (error, client) => {
      if (error && this.#madeAt.get(client) === this.#breaks) this.#breaks++
    })
    return pool
  }

  #config(): ClientConfig {
    const { urls } = this.#settings
    return {
      connectionString: urls[this.#turn % urls.length] ?? '',
      application_name: 'berth',
      connectionTimeoutMillis: CONNECT_MS_MAX,
      query_timeout: ANSWER_MS_MAX,
      keepAlive: true,
      pipeline: true,
      types: {
        // Ids, counters and times stay far below 2^53.
        getTypeParser: (oid: number, format?: 'text' | 'binary') =>
          oid === INT8 ? Number : types.getTypeParser(oid, format as 'text'),
      },
    }
  }
}

/** Sets up a new connection. Throws when the server behind it takes no changes, or would not keep what it says it has. */
async function prepare(client: ClientBase, schema: string | null, limits: string): Promise<void> {
  // Whoever uses it meets the error at its next statement; without this, it would end the process.
  client.on('error', () => {})
  const path = schema === null ? '' : `; SET search_path = ${client.escapeIdentifier(schema)}`
  await client.query(`${limits}${path}`)
  const { rows } = await client.query(
    `SELECT pg_is_in_recovery() AS standby, current_setting('synchronous_commit') AS sync`,
  )
  if (rows[0]?.standby === true) throw new Error('it is a standby')
  // What is answered has to survive a power failure, whatever the database does for others.
  if (rows[0]?.sync === 'off') await client.query('SET synchronous_commit = on')
}
