/**
 * The embedded store: one SQLite file in a data folder that one server owns, or one database in memory. Batches run one by
 * one on the writer; reads have a connection of their own in the calling thread, where a lookup takes a few microseconds.
 */
import type { DatabaseSync } from 'node:sqlite'
import { Worker } from 'node:worker_threads'
import type { Vm } from '../../domain/vm.ts'
import type { MoreNeeds, MoreRows, Needs, WorkingSet } from '../../domain/working-set.ts'
import {
  type ChangedRows,
  changedRows,
  type FoundRows,
  loadedRows,
  moreRows,
  wantedMore,
  wantedRows,
} from '../batch-rows.ts'
import {
  type Batch,
  type Committed,
  type Reads,
  type Store,
  StoreRefusesToOpen,
  StoreUnavailable,
} from '../port.ts'
import { readStatements } from '../read-statements.ts'
import { readsOver } from '../reads.ts'
import type { Dialect } from '../statement.ts'
import { type DataFolder, takeDataFolder } from './data-folder.ts'
import { openDatabase, openForReading } from './database.ts'
import { migrate } from './migrations.ts'
import { SqliteReader } from './reader.ts'
import { SqliteWriter } from './writer.ts'
import type { WriterAnswer, WriterCall, WriterSettings } from './writer-thread.ts'

const DIALECT: Dialect = 'sqlite'

export interface SqliteSettings {
  /** The data folder; null: in memory, gone with the process. */
  readonly folder: string | null
  /** The clock, in epoch milliseconds. */
  readonly now: () => number
  /** Lets everything else that is ready go first. */
  readonly pause: () => Promise<void>
  /** Added to each commit; for measuring only. */
  readonly commitDelayMs?: number
  /** Told when the writer is lost: nothing can be saved any more, and the process should end. */
  readonly onLost?: (error: Error) => void
}

/** Opens the store. Throws `StoreRefusesToOpen` with one line for the operator. */
export async function openSqliteStore(settings: SqliteSettings): Promise<Store> {
  if (settings.folder === null) {
    const db = openDatabase(':memory:')
    migrate(db, settings.now())
    return new SqliteStore(settings, new WriterInline(db), new SqliteReader(db, null), null)
  }
  const folder = takeDataFolder(settings.folder)
  try {
    const db = openDatabase(folder.databasePath)
    try {
      migrate(db, settings.now())
    } finally {
      db.close()
    }
    const writer = new WriterInThread(
      { path: folder.databasePath, commitDelayMs: settings.commitDelayMs ?? 0 },
      settings.onLost,
    )
    const reader = new SqliteReader(openForReading(folder.databasePath), settings.pause)
    return new SqliteStore(settings, writer, reader, folder)
  } catch (error) {
    folder.release()
    if (error instanceof StoreRefusesToOpen) throw error
    throw new StoreRefusesToOpen(
      `the database ${folder.databasePath} cannot be opened: ${(error as Error).message}`,
    )
  }
}

/** Asks the writer, wherever it runs. */
interface WriterPort {
  call(call: WriterCall): Promise<WriterAnswer>
  /** Sends a call that has no answer. */
  tell(call: WriterCall): void
}

class SqliteStore implements Store {
  readonly reads: Reads
  readonly neighbours = null
  readonly #settings: SqliteSettings
  readonly #writer: WriterPort
  readonly #reader: SqliteReader
  readonly #folder: DataFolder | null
  #lastNowMs: number
  #turn: Promise<void> = Promise.resolve()
  #closed = false

  constructor(settings: SqliteSettings, writer: WriterPort, reader: SqliteReader, folder: DataFolder | null) {
    this.#settings = settings
    this.#writer = writer
    this.#reader = reader
    this.#folder = folder
    this.#lastNowMs = reader.newestEventAtMs()
    this.reads = readsOver(reader, readStatements(DIALECT))
  }

  async begin(needs: Needs): Promise<Batch> {
    if (this.#closed) throw new Error('the store is closed')
    // One batch at a time: the next is loaded behind the commit or release of the one before.
    const before = this.#turn
    let over = () => {}
    this.#turn = new Promise((resolve) => {
      over = resolve
    })
    await before
    // A batch is never earlier than the one before it, whatever the system's clock does.
    this.#lastNowMs = Math.max(this.#lastNowMs, Math.floor(this.#settings.now()))
    try {
      const answer = await this.#writer.call({ do: 'load', wanted: wantedRows(needs, this.#lastNowMs) })
      return new SqliteBatch(this.#writer, this.#reader, expect(answer, 'found').found, over)
    } catch (error) {
      over()
      throw error
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#turn
    await this.#writer.call({ do: 'close' })
    this.#reader.close()
    this.#folder?.release()
  }
}

class SqliteBatch implements Batch {
  readonly rows: ReturnType<typeof loadedRows>
  readonly #writer: WriterPort
  readonly #reader: SqliteReader
  readonly #over: () => void
  /** Machines that the batch was given. */
  readonly #vms: Vm[]
  #ended = false

  constructor(writer: WriterPort, reader: SqliteReader, found: FoundRows, over: () => void) {
    this.#writer = writer
    this.#reader = reader
    this.#over = over
    this.rows = loadedRows(found)
    this.#vms = [...this.rows.vms]
  }

  async more(needs: MoreNeeds): Promise<MoreRows> {
    if (this.#ended) throw new Error('this batch was committed or released already')
    const wanted = wantedMore(needs, this.#vms)
    const answer = await this.#writer.call({ do: 'more', needs: wanted, nowMs: this.rows.nowMs })
    try {
      const rows = moreRows(expect(answer, 'more').more, needs, this.#vms)
      this.#vms.push(...rows.vms)
      return rows
    } catch (error) {
      await this.release()
      throw error
    }
  }

  async commit(workingSet: WorkingSet): Promise<Committed> {
    let changed: ChangedRows
    try {
      changed = changedRows(workingSet)
    } catch (error) {
      await this.release()
      throw error
    }
    const answer = await this.#end(() => this.#writer.call({ do: 'save', changed }))
    // Whoever is told of this commit has to see it.
    this.#reader.renew()
    return expect(answer, 'lastEventId')
  }

  async release(): Promise<void> {
    this.#end(() => this.#writer.tell({ do: 'rollback' }))
  }

  /** Sends the last call of this batch; whatever the next batch sends comes behind it. */
  #end<Result>(send: () => Result): Result {
    if (this.#ended) throw new Error('this batch was committed or released already')
    this.#ended = true
    try {
      return send()
    } finally {
      this.#over()
    }
  }
}

/** SQLite's primary result codes that say that the disk or the file cannot take changes, rather than that Berth is wrong. */
const UNAVAILABLE_CODES = new Map([
  [5, 'the database is locked by another program'],
  [8, 'the database is read-only'],
  [10, 'the disk reports an error'],
  [13, 'the disk is full'],
  [14, 'the database file cannot be opened'],
])

function expect<K extends string>(answer: WriterAnswer, key: K): Extract<WriterAnswer, Record<K, unknown>> {
  if ('error' in answer) {
    const reason = answer.code === null ? undefined : UNAVAILABLE_CODES.get(answer.code & 0xff)
    throw reason === undefined ? new Error(answer.error) : new StoreUnavailable(reason)
  }
  if (!(key in answer)) throw new Error(`the writer answered something else than '${key}'`)
  return answer as Extract<WriterAnswer, Record<K, unknown>>
}

class WriterInThread implements WriterPort {
  readonly #thread: Worker
  readonly #waiting: ((answer: WriterAnswer) => void)[] = []
  #lost: Error | null = null
  #closing = false

  constructor(workerData: WriterSettings, onLost: ((error: Error) => void) | undefined) {
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    this.#thread = new Worker(new URL(`./writer-thread.${extension}`, import.meta.url), { workerData })
    this.#thread.on('message', (answer: WriterAnswer) => this.#waiting.shift()?.(answer))
    const lose = (error: Error) => {
      if (this.#lost !== null || this.#closing) return
      this.#lost = error
      for (const answer of this.#waiting.splice(0)) answer({ error: error.message, code: null })
      onLost?.(error)
    }
    this.#thread.on('error', lose)
    this.#thread.on('exit', (code) => lose(new Error(`the writer thread ended with code ${code}`)))
  }

  call(call: WriterCall): Promise<WriterAnswer> {
    if (this.#lost !== null) return Promise.resolve({ error: this.#lost.message, code: null })
    if (call.do === 'close') this.#closing = true
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
      this.#thread.postMessage(call)
    })
  }

  tell(call: WriterCall): void {
    this.#thread.postMessage(call)
  }
}

/** The writer in the calling thread: for a database in memory, which no other thread can see. */
class WriterInline implements WriterPort {
  readonly #db: DatabaseSync
  readonly #writer: SqliteWriter

  constructor(db: DatabaseSync) {
    this.#db = db
    this.#writer = new SqliteWriter(db)
  }

  async call(call: WriterCall): Promise<WriterAnswer> {
    try {
      if (call.do === 'load') return { found: this.#writer.load(call.wanted) }
      if (call.do === 'more') return { more: this.#writer.more(call.needs, call.nowMs) }
      if (call.do === 'save') return { lastEventId: this.#writer.save(call.changed), commitMs: 0 }
      if (call.do === 'close') this.#db.close()
      return { closed: true }
    } catch (error) {
      this.#writer.rollback()
      const { message, errcode } = error as { message: string; errcode?: number }
      return { error: message, code: errcode ?? null }
    }
  }

  tell(_call: WriterCall): void {
    this.#writer.rollback()
  }
}
