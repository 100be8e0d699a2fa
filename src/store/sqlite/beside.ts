/**
 * A data folder's database for those who are not its server: looked at beside a server that may be running, without the
 * folder's lock, or changed while no server can be. What the operator can mend is told in one line that names the database.
 */
import type { DatabaseSync } from 'node:sqlite'
import type { Migration, MigrationStatus } from '../migration.ts'
import { StoreRefusesToOpen } from '../port.ts'
import { existingDatabaseIn, takeDataFolder } from './data-folder.ts'
import { openDatabase, openForReading } from './database.ts'
import { MIGRATIONS, migrate, migrationStatus } from './migrations.ts'

/** Reads the database in `folder`, one snapshot of it for all of `read`. Throws `StoreRefusesToOpen`. */
export async function withSnapshot<T>(
  folder: string,
  read: (db: DatabaseSync, path: string) => T | Promise<T>,
): Promise<T> {
  const path = existingDatabaseIn(folder)
  if (path === null) throw new StoreRefusesToOpen(`there is no database in the data folder ${folder}`)
  return telling(path, async () => {
    const db = openForReading(path)
    try {
      // The snapshot begins with the first read.
      db.exec('BEGIN; SELECT count(*) FROM sqlite_master')
      return await read(db, path)
    } finally {
      db.close()
    }
  })
}

/**
 * Takes `folder`, so that no server runs on it meanwhile, and brings its database to the newest step. Throws
 * `StoreRefusesToOpen`.
 */
export async function withFolder<T>(
  folder: string,
  nowMs: number,
  change: (db: DatabaseSync, migrated: readonly Migration[]) => T | Promise<T>,
): Promise<T> {
  const taken = takeDataFolder(folder)
  try {
    return await telling(taken.databasePath, async () => {
      const db = openDatabase(taken.databasePath)
      try {
        return await change(db, migrate(db, nowMs))
      } finally {
        db.close()
      }
    })
  } finally {
    taken.release()
  }
}

/** What has been done to the database in `folder`; where there is none, everything is missing. Changes nothing. */
export async function folderStatus(folder: string): Promise<MigrationStatus> {
  if (existingDatabaseIn(folder) === null) return { done: [], missing: MIGRATIONS }
  return withSnapshot(folder, (db) => migrationStatus(db))
}

/** SQLite's errors as one line; they are about the file or its disk. Those of a wrong statement are bugs, and stay what they are. */
async function telling<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const { code, errcode, message } = error as { code?: string; errcode?: number; message: string }
    if (code !== 'ERR_SQLITE_ERROR' || errcode === undefined || BUGS.has(errcode & 0xff)) throw error
    throw new StoreRefusesToOpen(`the database ${path} cannot be used: ${message}`)
  }
}

/** SQLITE_ERROR, SQLITE_CONSTRAINT, SQLITE_MISMATCH, SQLITE_MISUSE, SQLITE_RANGE. */
const BUGS = new Set([1, 19, 20, 21, 25])
