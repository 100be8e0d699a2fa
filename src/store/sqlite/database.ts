/**
 * How a connection to the database file is set up. Every commit is synced to disk before it is answered (synchronous=FULL);
 * the write-ahead log lets readers go on beside the writer.
 */
import { DatabaseSync } from 'node:sqlite'

/** Opens the writer's connection. */
export function openDatabase(path: string): DatabaseSync {
  const db = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: 5_000 })
  db.exec(`
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA cache_size = -65536;
    PRAGMA temp_store = MEMORY;
    PRAGMA wal_autocheckpoint = 4000;
    PRAGMA journal_size_limit = 67108864;
  `)
  return db
}

/** Opens a connection that can only read. */
export function openForReading(path: string): DatabaseSync {
  const db = new DatabaseSync(path, { readOnly: true, timeout: 5_000 })
  db.exec('PRAGMA cache_size = -16384; PRAGMA query_only = ON')
  return db
}
