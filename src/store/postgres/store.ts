/**
 * The store on PostgreSQL, which any number of servers share. A batch holds the rows that it may change (batch-load.ts), is
 * decided, and is saved and committed in one go (batch-save.ts): two round trips. Batches on different pools run side by side.
 */
import type { PoolClient } from 'pg'
import type { Vm } from '../../domain/vm.ts'
import type { LoadedRows, MoreNeeds, MoreRows, Needs, WorkingSet } from '../../domain/working-set.ts'
import { changedBooks, changedRows, loadedRows, moreRows, wantedMore, wantedRows } from '../batch-rows.ts'
import {
  type Batch,
  type Committed,
  type Reads,
  type Store,
  StoreConflict,
  StoreRefusesToOpen,
} from '../port.ts'
import { readMore } from './allocation-rows.ts'
import { loadBatch } from './batch-load.ts'
import { type BatchId, type Changed, saveBatch } from './batch-save.ts'
import { Connections } from './connections.ts'
import { isConnectionLost, messageOf, storeError } from './errors.ts'
import { NAMESPACE_SQL } from './event-cursor.ts'
import { makeSchema, migrate } from './migrations.ts'
import { PostgresNeighbours } from './neighbours.ts'
import { forgetOldBatches, settleOutcome } from './outcome.ts'
import { PostgresReader, postgresReads } from './reader.ts'

export interface PostgresSettings {
  /** postgres:// URLs; the first of them that takes changes is used. */
  readonly urls: readonly string[]
  /** The schema of Berth's tables; null: the first of the user's search path. */
  readonly schema: string | null
  /** Connections at most: some for batches, some for reads, one to listen. */
  readonly connectionsMax: number
  /** This process's clock, timers and randomness; time-outs and pauses only. */
  readonly schedule: {
    now(): number
    sleep(ms: number, signal?: AbortSignal): Promise<void>
  }
  /** Milliseconds of a clock that only goes forward, with fractions. */
  readonly stopwatch: () => number
  readonly randomBytes: (n: number) => Buffer
  /** Stands in for the database's clock, in epoch milliseconds; for tests. */
  readonly now?: () => number
  /** Told the number of statements of each batch that committed; for measuring. */
  readonly measured?: (batch: { statements: number }) => void
}

/** How many of the connections are for reads. */
const READS_SHARE = 1 / 3
const FORGET_EVERY_MS = 60_000

/** Opens the store, and migrates its tables. Throws `StoreRefusesToOpen` with one line for the operator. */
export async function openPostgresStore(settings: PostgresSettings): Promise<Store> {
  const pooled = Math.max(2, settings.connectionsMax - 1)
  const readsMax = Math.max(1, Math.floor(pooled * READS_SHARE))
  const connections = new Connections({
    urls: settings.urls,
    schema: settings.schema,
    batchesMax: pooled - readsMax,
    readsMax,
    now: settings.stopwatch,
  })
  try {
    const client = await connections.single()
    try {
      await makeSchema(client, settings.schema)
      await migrate(client, Math.floor(settings.schedule.now()))
      const { rows } = await client.query(`${NAMESPACE_SQL}, current_schema() AS schema`)
      return new PostgresStore(settings, connections, Number(rows[0].namespace), String(rows[0].schema))
    } finally {
      await client.end()
    }
  } catch (error) {
    await connections.close()
    if (error instanceof StoreRefusesToOpen) throw error
    throw new StoreRefusesToOpen(`the database cannot be opened: ${messageOf(error)}`)
  }
}

class PostgresStore implements Store {
  readonly reads: Reads
  readonly neighbours: PostgresNeighbours
  readonly #settings: PostgresSettings
  readonly #connections: Connections
  readonly #namespace: number
  readonly #closing = new AbortController()
  readonly #housekeeping: Promise<void>
  /** Batches that have begun and not ended. */
  readonly #underWay = new Set<Promise<void>>()
  #lastNowMs = 0

  constructor(settings: PostgresSettings, connections: Connections, namespace: number, schema: string) {
    this.#settings = settings
    this.#connections = connections
    this.#namespace = namespace
    this.reads = postgresReads(new PostgresReader(connections), namespace)
    this.neighbours = new PostgresNeighbours({
      connect: () => connections.single(),
      channel: `berth ${schema}`.slice(0, 63),
      serverId: settings.randomBytes(8).toString('hex'),
      sleep: settings.schedule.sleep,
    })
    this.#housekeeping = this.#keepHouse()
  }

  async begin(needs: Needs): Promise<Batch> {
    if (this.#closing.signal.aborted) throw new Error('the store is closed')
    let end = () => {}
    const ended = new Promise<void>((resolve) => {
      end = resolve
    })
    this.#underWay.add(ended)
    const over = () => {
      this.#underWay.delete(ended)
      end()
    }
    try {
      const client = await this.#connections.forBatch()
      return await this.#load(client, needs, over)
    } catch (error) {
      over()
      throw storeError(error)
    }
  }

  async #load(client: PoolClient, needs: Needs, over: () => void): Promise<Batch> {
    const { now } = this.#settings
    try {
      const wanted = wantedRows(needs, this.#lastNowMs)
      const { found, statements } = await loadBatch(
        client,
        wanted,
        now === undefined ? null : Math.floor(now()),
      )
      this.#lastNowMs = Math.max(this.#lastNowMs, found.nowMs)
      return new PostgresBatch({
        settings: this.#settings,
        connections: this.#connections,
        namespace: this.#namespace,
        client,
        rows: loadedRows(found),
        statements,
        needs,
        over,
      })
    } catch (error) {
      await giveBack(client, error)
      throw error
    }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await Promise.all([...this.#underWay])
    await this.neighbours.close()
    await this.#housekeeping
    await this.#connections.close()
  }

  async #keepHouse(): Promise<void> {
    const { signal } = this.#closing
    while (!signal.aborted) {
      await this.#settings.schedule.sleep(FORGET_EVERY_MS, signal)
      if (signal.aborted) return
      const client = await this.#connections.forBatch().catch(() => null)
      if (client === null) continue
      await forgetOldBatches(client).then(
        () => client.release(),
        // The next time will do.
        () => client.release(true),
      )
    }
  }
}

interface BatchParts {
  readonly settings: PostgresSettings
  readonly connections: Connections
  readonly namespace: number
  readonly client: PoolClient
  readonly rows: LoadedRows
  readonly statements: number
  readonly needs: Needs
  readonly over: () => void
}

class PostgresBatch implements Batch {
  readonly rows: LoadedRows
  readonly #parts: BatchParts
  /** Machines that the batch was given. */
  readonly #vms: Vm[]
  /** Statements that were sent for `more`. */
  #more = 0
  #ended = false

  constructor(parts: BatchParts) {
    this.#parts = parts
    this.rows = parts.rows
    this.#vms = [...parts.rows.vms]
  }

  async more(needs: MoreNeeds): Promise<MoreRows> {
    if (this.#ended) throw new Error('this batch was committed or released already')
    const { client, over } = this.#parts
    try {
      const { found, statements } = await readMore(client, wantedMore(needs, this.#vms), this.rows.nowMs)
      this.#more += statements
      const rows = moreRows(found, needs, this.#vms)
      this.#vms.push(...rows.vms)
      return rows
    } catch (error) {
      this.#end()
      await giveBack(client, error)
      over()
      throw storeError(error)
    }
  }

  async commit(workingSet: WorkingSet): Promise<Committed> {
    this.#end()
    const { client, needs, namespace, settings, over } = this.#parts
    try {
      const beganMs = settings.stopwatch()
      const batch = { id: uuid(settings.randomBytes(16)), atMs: workingSet.nowMs }
      const changed = await this.#prepared(workingSet, needs)
      const lastEventId = await this.#save(client, batch, changed, namespace)
      return { lastEventId, commitMs: settings.stopwatch() - beganMs }
    } finally {
      over()
    }
  }

  async release(): Promise<void> {
    this.#end()
    const { client, over } = this.#parts
    try {
      await client.query('ROLLBACK')
      client.release()
    } catch {
      // It ends with its connection.
      client.release(true)
    } finally {
      over()
    }
  }

  #end(): void {
    if (this.#ended) throw new Error('this batch was committed or released already')
    this.#ended = true
  }

  async #prepared(workingSet: WorkingSet, needs: Needs): Promise<Changed> {
    try {
      requireHeld(workingSet, needs, this.rows)
      return { rows: changedRows(workingSet), books: changedBooks(workingSet) }
    } catch (error) {
      await giveBack(this.#parts.client, error)
      throw error
    }
  }

  async #save(client: PoolClient, batch: BatchId, changed: Changed, namespace: number): Promise<number> {
    const { settings, connections, statements } = this.#parts
    try {
      const saved = await saveBatch(client, batch, changed, namespace)
      client.release()
      settings.measured?.({ statements: statements + this.#more + saved.statements })
      return saved.lastEventId
    } catch (error) {
      await giveBack(client, error)
      if (!isConnectionLost(error)) throw storeError(error)
    }
    const outcome = await settleOutcome(batch, {
      connect: () => connections.forBatch(),
      now: settings.stopwatch,
      sleep: settings.schedule.sleep,
    })
    if (outcome === 'void') throw new StoreConflict('the connection was lost before the commit')
    return 0
  }
}

/** Ends the transaction of a batch that failed; a connection that is in doubt is closed. */
async function giveBack(client: PoolClient, error: unknown): Promise<void> {
  if (isConnectionLost(error)) {
    client.release(true)
    return
  }
  try {
    await client.query('ROLLBACK')
    client.release()
  } catch {
    client.release(true)
  }
}

/** What changes has to be held, else two batches could change it at once: a rule that does not say what it needs is a bug. */
function requireHeld(set: WorkingSet, needs: Needs, rows: LoadedRows): void {
  const pools = new Set(rows.pools.map(({ pool }) => pool.id))
  const missing = [
    ...[...set.changedUsers.keys()].filter((id) => !set.newUserIds.has(id) && !needs.changedUserIds.has(id)),
    ...tokensOf(set).filter((userId) => !needs.changedUserIds.has(userId)),
    ...[...set.countedPools].filter((id) => !set.newPoolIds.has(id) && !pools.has(id)),
    ...(set.installationChanged && !needs.installation ? ['installation'] : []),
    ...(set.wiped && !needs.allPools ? ['all pools'] : []),
  ]
  if (missing.length > 0) throw new Error(`the batch changes what it does not hold: ${missing.join(', ')}`)
}

/** Owners of tokens that change. */
function tokensOf(set: WorkingSet): number[] {
  return [...set.changedTokens.values(), ...set.goneTokens.values()].map(({ userId }) => userId)
}

function uuid(bytes: Buffer): string {
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
