/**
 * The thread that the writer runs in. One message asks for a load, one for a save with commit, and seldom one between them for more
 * rows; each is answered in order.
 * A failure is told with SQLite's code, so that the store can tell a full disk from a bug.
 */
import { parentPort, workerData } from 'node:worker_threads'
import type { MoreNeeds } from '../../domain/working-set.ts'
import type { ChangedRows, FoundMore, FoundRows, WantedRows } from '../batch-rows.ts'
import { openDatabase } from './database.ts'
import { SqliteWriter } from './writer.ts'

export interface WriterSettings {
  readonly path: string
  /** Added to each commit: how a slower disk is measured on a fast one. */
  readonly commitDelayMs: number
}

export type WriterCall =
  | { readonly do: 'load'; readonly wanted: WantedRows }
  | { readonly do: 'more'; readonly needs: MoreNeeds; readonly nowMs: number }
  | { readonly do: 'save'; readonly changed: ChangedRows }
  | { readonly do: 'rollback' }
  | { readonly do: 'close' }

export type WriterAnswer =
  | { readonly found: FoundRows }
  | { readonly more: FoundMore }
  | { readonly lastEventId: number; readonly commitMs: number }
  | { readonly closed: true }
  | { readonly error: string; readonly code: number | null }

const port = parentPort
if (port === null) throw new Error('this file runs as a worker thread only')
const { path, commitDelayMs } = workerData as WriterSettings
const db = openDatabase(path)
const writer = new SqliteWriter(db)
const still = new Int32Array(new SharedArrayBuffer(4))

port.on('message', (call: WriterCall) => {
  try {
    if (call.do === 'load') port.postMessage({ found: writer.load(call.wanted) } satisfies WriterAnswer)
    else if (call.do === 'more')
      port.postMessage({ more: writer.more(call.needs, call.nowMs) } satisfies WriterAnswer)
    else if (call.do === 'save') {
      const beganMs = performance.now()
      const lastEventId = writer.save(call.changed)
      if (commitDelayMs > 0) Atomics.wait(still, 0, 0, commitDelayMs)
      port.postMessage({ lastEventId, commitMs: performance.now() - beganMs } satisfies WriterAnswer)
    } else if (call.do === 'rollback') writer.rollback()
    else {
      db.close()
      port.postMessage({ closed: true } satisfies WriterAnswer)
      port.close()
    }
  } catch (error) {
    writer.rollback()
    const { message, errcode } = error as { message: string; errcode?: number }
    port.postMessage({ error: message, code: errcode ?? null } satisfies WriterAnswer)
  }
})
