/** The steps that make the SQLite database what this program expects, in order, and how they are done. */
import type { DatabaseSync } from 'node:sqlite'
import { type DoneMigration, type Migration, type MigrationStatus, missingSteps } from '../migration.ts'

export const MIGRATIONS: readonly Migration[] = [
  {
    id: 1,
    name: 'users, pools, machines, leases, events',
    sql: `
      CREATE TABLE installation (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        state TEXT NOT NULL CHECK (state IN ('open', 'resetting')),
        next_user_id INTEGER NOT NULL,
        next_vm_id INTEGER NOT NULL,
        next_pool_id INTEGER NOT NULL,
        reset TEXT
      ) STRICT;
      INSERT INTO installation VALUES (1, 'open', 1, 1, 1, NULL);

      CREATE TABLE user (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        email TEXT NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('admin', 'user')),
        password_hash TEXT NOT NULL,
        credential_version INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('active', 'leaving', 'gone')),
        created_at_ms INTEGER NOT NULL
      ) STRICT;
      CREATE UNIQUE INDEX user_email ON user (email) WHERE state = 'active';
      CREATE INDEX user_leaving ON user (id) WHERE state = 'leaving';

      CREATE TABLE pool (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        target INTEGER NOT NULL CHECK (target >= 0),
        type_mix TEXT NOT NULL,
        cleaning TEXT NOT NULL CHECK (cleaning IN ('manual', 'automatic')),
        provider TEXT NOT NULL,
        tally TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL
      ) STRICT;

      CREATE TABLE vm (
        id INTEGER PRIMARY KEY,
        pool_id INTEGER NOT NULL REFERENCES pool (id),
        name TEXT NOT NULL,
        type TEXT NOT NULL,
        address TEXT NOT NULL,
        -- Not with IN: SQLite would build a temporary index for the list at each write.
        power TEXT NOT NULL CHECK (power = 'running' OR power = 'stopped'),
        state TEXT NOT NULL CHECK (state = 'ready' OR state = 'leased' OR state = 'maintenance' OR
          state = 'provisioning' OR state = 'deleting' OR state = 'failed' OR state = 'cordoned'),
        generation INTEGER NOT NULL,
        -- No foreign key: it would give each update a statement journal. The lease that is begun with each hold has one.
        holder_id INTEGER,
        leased_at_ms INTEGER,
        due_at_ms INTEGER,
        claim INTEGER NOT NULL,
        busy_until_ms INTEGER,
        attempts INTEGER NOT NULL,
        failure TEXT,
        created_at_ms INTEGER NOT NULL,
        CHECK ((state = 'leased') = (holder_id IS NOT NULL))
      ) STRICT;
      -- The row's id closes each of these indexes, so within equal keys they are in the order of ids.
      CREATE INDEX vm_pool ON vm (pool_id);
      CREATE INDEX vm_type ON vm (pool_id, type);
      CREATE INDEX vm_stopped ON vm (pool_id) WHERE power = 'stopped';
      CREATE INDEX vm_ready ON vm (pool_id) WHERE state = 'ready';
      CREATE INDEX vm_ready_type ON vm (pool_id, type) WHERE state = 'ready';
      CREATE INDEX vm_aside ON vm (pool_id) WHERE state <> 'ready' AND state <> 'leased';
      CREATE INDEX vm_holder ON vm (holder_id) WHERE holder_id IS NOT NULL;
      CREATE INDEX vm_due ON vm (pool_id, state, due_at_ms) WHERE due_at_ms IS NOT NULL;

      CREATE TABLE lease (
        vm_id INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        pool_id INTEGER NOT NULL REFERENCES pool (id),
        user_id INTEGER NOT NULL REFERENCES user (id),
        from_ms INTEGER NOT NULL,
        ended_at_ms INTEGER,
        PRIMARY KEY (vm_id, generation)
      ) STRICT, WITHOUT ROWID;

      CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        type TEXT NOT NULL,
        actor_id INTEGER,
        pool_id INTEGER,
        vm_id INTEGER,
        user_id INTEGER,
        request_id TEXT,
        data TEXT
      ) STRICT;
    `,
  },
  {
    id: 2,
    name: 'tokens, answers, sizes of machine',
    sql: `
      CREATE TABLE token (
        id TEXT PRIMARY KEY,
        user_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        hash TEXT NOT NULL UNIQUE,
        credential_version INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL,
        expires_at_ms INTEGER,
        last_used_at_ms INTEGER,
        revoked_at_ms INTEGER,
        scopes TEXT
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX token_user ON token (user_id);

      CREATE TABLE answer (
        user_id INTEGER NOT NULL,
        key TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        status INTEGER NOT NULL,
        body TEXT NOT NULL,
        headers TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (user_id, key)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX answer_at ON answer (at_ms);

      ALTER TABLE installation ADD COLUMN vm_types TEXT NOT NULL DEFAULT '{"small":{"vcpu":2,"memoryMb":8192},"medium":{"vcpu":4,"memoryMb":16384},"large":{"vcpu":8,"memoryMb":65536},"xlarge":{"vcpu":16,"memoryMb":131072}}';
    `,
  },
  {
    id: 3,
    name: 'classes, policies, leases with terms, requests, flows, reservations',
    sql: `
      ALTER TABLE user ADD COLUMN quota TEXT;

      ALTER TABLE pool ADD COLUMN policy TEXT NOT NULL DEFAULT '{}';
      ALTER TABLE pool ADD COLUMN queue TEXT NOT NULL DEFAULT '{}';

      ALTER TABLE vm ADD COLUMN class TEXT NOT NULL DEFAULT '';
      ALTER TABLE vm ADD COLUMN free_at_ms INTEGER;
      UPDATE vm SET class = type;
      DROP INDEX vm_ready_type;
      CREATE INDEX vm_ready_class ON vm (pool_id, class) WHERE state = 'ready';

      ALTER TABLE lease ADD COLUMN ends_at_ms INTEGER;
      ALTER TABLE lease ADD COLUMN ended_by TEXT;
      ALTER TABLE lease ADD COLUMN request_id TEXT;
      ALTER TABLE lease ADD COLUMN reservation_id TEXT;
      ALTER TABLE lease ADD COLUMN soft_grace_seconds INTEGER;
      ALTER TABLE lease ADD COLUMN heartbeat_seconds INTEGER;
      ALTER TABLE lease ADD COLUMN beat_by_ms INTEGER;
      ALTER TABLE lease ADD COLUMN due_at_ms INTEGER;
      ALTER TABLE lease ADD COLUMN warned INTEGER NOT NULL DEFAULT 0;
      ALTER TABLE lease ADD COLUMN charged_minutes REAL NOT NULL DEFAULT 0;
      ALTER TABLE lease ADD COLUMN weight REAL NOT NULL DEFAULT 1;
      ALTER TABLE lease ADD COLUMN purpose TEXT;
      ALTER TABLE lease ADD COLUMN labels TEXT;
      ALTER TABLE lease ADD COLUMN shared_with TEXT;
      UPDATE lease SET ended_by = 'checked_in' WHERE ended_at_ms IS NOT NULL;
      CREATE INDEX lease_due ON lease (pool_id, due_at_ms) WHERE due_at_ms IS NOT NULL;
      -- By the end, not the beginning: what somebody used in a week is found however long ago it began. Those that run are
      -- found by their machines (vm_holder), so that a checkout writes no entry here.
      CREATE INDEX lease_ended ON lease (user_id, ended_at_ms) WHERE ended_at_ms IS NOT NULL;

      -- Their states are checked by nothing but the domain: these rows change with each grant.
      CREATE TABLE request (
        id TEXT PRIMARY KEY NOT NULL,
        pool_id INTEGER NOT NULL,
        user_id INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        wish TEXT NOT NULL,
        terms TEXT NOT NULL,
        priority TEXT NOT NULL,
        state TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        until_ms INTEGER,
        ended_at_ms INTEGER,
        due INTEGER,
        parked INTEGER NOT NULL,
        collect_since_ms INTEGER,
        reservation_id TEXT,
        leases TEXT NOT NULL
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX request_waiting ON request (pool_id) WHERE state = 'waiting';
      CREATE INDEX request_until ON request (pool_id, until_ms) WHERE state = 'waiting';
      CREATE INDEX request_waiter ON request (user_id) WHERE state = 'waiting';
      CREATE INDEX request_user ON request (user_id);

      CREATE TABLE flow (
        pool_id INTEGER NOT NULL,
        user_id INTEGER NOT NULL,
        tag REAL NOT NULL,
        PRIMARY KEY (pool_id, user_id)
      ) STRICT, WITHOUT ROWID;

      CREATE TABLE reservation (
        id TEXT PRIMARY KEY NOT NULL,
        pool_id INTEGER NOT NULL,
        user_id INTEGER NOT NULL,
        wish TEXT NOT NULL,
        from_ms INTEGER NOT NULL,
        to_ms INTEGER NOT NULL,
        pinned TEXT NOT NULL,
        state TEXT NOT NULL,
        at_risk INTEGER NOT NULL,
        missing INTEGER NOT NULL,
        confirmed_seq INTEGER NOT NULL,
        no_show_seconds INTEGER,
        claimed INTEGER NOT NULL,
        series_id TEXT,
        purpose TEXT,
        labels TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX reservation_confirmed ON reservation (pool_id, from_ms) WHERE state = 'confirmed';
      CREATE INDEX reservation_active ON reservation (pool_id, to_ms) WHERE state = 'active';
      CREATE INDEX reservation_user ON reservation (user_id);
      CREATE INDEX reservation_series ON reservation (series_id) WHERE series_id IS NOT NULL;
    `,
  },
]

/**
 * Brings the database to the newest step, all missing ones in one transaction. Returns the steps that were done now. Throws
 * `StoreRefusesToOpen` when the database is newer than the program.
 */
export function migrate(
  db: DatabaseSync,
  nowMs: number,
  migrations: readonly Migration[] = MIGRATIONS,
): readonly Migration[] {
  db.exec('BEGIN IMMEDIATE')
  try {
    db.exec(
      'CREATE TABLE IF NOT EXISTS migration (id INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at_ms INTEGER NOT NULL) STRICT',
    )
    const missing = missingSteps(migrations, doneSteps(db))
    for (const { id, name, sql } of missing) {
      db.exec(sql)
      db.prepare('INSERT INTO migration VALUES (?, ?, ?)').run(id, name, nowMs)
    }
    db.exec('COMMIT')
    return missing
  } catch (error) {
    db.exec('ROLLBACK')
    throw error
  }
}

/** What has been done to the database. Changes nothing. Throws `StoreRefusesToOpen` when the database is newer. */
export function migrationStatus(
  db: DatabaseSync,
  migrations: readonly Migration[] = MIGRATIONS,
): MigrationStatus {
  const known = db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'migration'").get() !== undefined
  const done = known ? doneSteps(db) : []
  return { done, missing: missingSteps(migrations, done) }
}

function doneSteps(db: DatabaseSync): DoneMigration[] {
  const rows = db.prepare('SELECT id, name, applied_at_ms FROM migration ORDER BY id').all()
  return rows.map((row) => ({
    id: Number(row.id),
    name: String(row.name),
    appliedAtMs: Number(row.applied_at_ms),
  }))
}
