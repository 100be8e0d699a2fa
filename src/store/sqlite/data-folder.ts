/**
 * Who owns a data folder: one server at a time. The owner holds an exclusive lock on a small file beside the database;
 * the operating system frees it when the process ends, however it ends.
 */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { StoreRefusesToOpen } from '../port.ts'

export interface DataFolder {
  readonly databasePath: string
  release(): void
}

const SQLITE_BUSY = 5

/**
 * Makes the folder (readable by its owner only) if need be, and takes it. Throws `StoreRefusesToOpen` when it cannot be
 * written, or another server has it.
 */
export function takeDataFolder(path: string): DataFolder {
  let lock: DatabaseSync
  try {
    syncEntries(path, mkdirSync(path, { recursive: true, mode: 0o700 }))
    lock = new DatabaseSync(join(path, 'berth.lock'), { timeout: 0 })
  } catch (error) {
    throw new StoreRefusesToOpen(`the data folder ${path} cannot be written: ${reasonOf(error)}`)
  }
  try {
    lock.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    lock.close()
    const busy = (error as { errcode?: number }).errcode === SQLITE_BUSY
    throw new StoreRefusesToOpen(
      busy
        ? `the data folder ${path} is in use by another Berth server`
        : `the data folder ${path} cannot be written: ${reasonOf(error)}`,
    )
  }
  return { databasePath: databasePathIn(path), release: () => lock.close() }
}

function databasePathIn(path: string): string {
  return join(path, 'berth.db')
}

/** The database of a data folder that somebody else may own, to read it. Null when there is none. */
export function existingDatabaseIn(path: string): string | null {
  const databasePath = databasePathIn(path)
  return existsSync(databasePath) ? databasePath : null
}

/** Makes the entries of new folders survive power loss: those from `first`, the topmost that was made, down to `path`. */
function syncEntries(path: string, first: string | undefined): void {
  if (first === undefined) return
  const top = dirname(resolve(first))
  let folder = resolve(path)
  do {
    folder = dirname(folder)
    const descriptor = openSync(folder, 'r')
    fsyncSync(descriptor)
    closeSync(descriptor)
  } while (folder !== top && folder !== dirname(folder))
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
