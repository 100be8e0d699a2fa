/** The steps that make the PostgreSQL database what this program expects, in order, and how they are done. */
import type { ClientBase } from 'pg'
import { type DoneMigration, type Migration, type MigrationStatus, missingSteps } from '../migration.ts'
import { StoreRefusesToOpen } from '../port.ts'

export const MIGRATIONS: readonly Migration[] = [
  {
    id: 1,
    name: 'users, pools, machines, leases, events, batches',
    sql: `
      CREATE TABLE installation (
        id bigint PRIMARY KEY CHECK (id = 1),
        state text NOT NULL CHECK (state IN ('open', 'resetting')),
        next_user_id bigint NOT NULL,
        next_vm_id bigint NOT NULL,
        next_pool_id bigint NOT NULL,
        reset text
      );
      INSERT INTO installation VALUES (1, 'open', 1, 1, 1, NULL);

      CREATE TABLE "user" (
        id bigint PRIMARY KEY,
        name text NOT NULL,
        email text NOT NULL,
        role text NOT NULL CHECK (role IN ('admin', 'user')),
        password_hash text NOT NULL,
        credential_version bigint NOT NULL,
        state text NOT NULL CHECK (state IN ('active', 'leaving', 'gone')),
        created_at_ms bigint NOT NULL
      );
      CREATE UNIQUE INDEX user_email ON "user" (email) WHERE state = 'active';
      CREATE INDEX user_leaving ON "user" (id) WHERE state = 'leaving';

      CREATE TABLE pool (
        id bigint PRIMARY KEY,
        name text NOT NULL UNIQUE,
        target bigint NOT NULL CHECK (target >= 0),
        type_mix text NOT NULL,
        cleaning text NOT NULL CHECK (cleaning IN ('manual', 'automatic')),
        provider text NOT NULL,
        tally text NOT NULL,
        created_at_ms bigint NOT NULL,
        -- The time of the newest batch that changed this pool: the next one is not earlier, whatever the clock says.
        at_ms bigint NOT NULL
      ) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

      -- No foreign keys where rows change often: each row would be checked by itself. The batch holds the pool and the users
      -- that its rows point at, and no row of theirs goes while something points at it.
      CREATE TABLE vm (
        id bigint PRIMARY KEY,
        pool_id bigint NOT NULL,
        name text NOT NULL,
        type text NOT NULL,
        address text NOT NULL,
        power text NOT NULL CHECK (power IN ('running', 'stopped')),
        state text NOT NULL CHECK (state IN
          ('ready', 'leased', 'maintenance', 'provisioning', 'deleting', 'failed', 'cordoned')),
        generation bigint NOT NULL,
        holder_id bigint,
        leased_at_ms bigint,
        due_at_ms bigint,
        claim bigint NOT NULL,
        busy_until_ms bigint,
        attempts bigint NOT NULL,
        failure text,
        created_at_ms bigint NOT NULL,
        CHECK ((state = 'leased') = (holder_id IS NOT NULL))
      ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
      CREATE INDEX vm_pool ON vm (pool_id, id);
      CREATE INDEX vm_stopped ON vm (pool_id, id) WHERE power = 'stopped';
      CREATE INDEX vm_ready ON vm (pool_id, id) WHERE state = 'ready';
      CREATE INDEX vm_ready_type ON vm (pool_id, type, id) WHERE state = 'ready';
      CREATE INDEX vm_aside ON vm (pool_id, id) WHERE state <> 'ready' AND state <> 'leased';
      CREATE INDEX vm_holder ON vm (holder_id, id) WHERE holder_id IS NOT NULL;
      CREATE INDEX vm_due ON vm (pool_id, state, due_at_ms) WHERE due_at_ms IS NOT NULL;

      CREATE TABLE lease (
        vm_id bigint NOT NULL,
        generation bigint NOT NULL,
        pool_id bigint NOT NULL,
        user_id bigint NOT NULL,
        from_ms bigint NOT NULL,
        ended_at_ms bigint,
        PRIMARY KEY (vm_id, generation)
      ) WITH (fillfactor = 80);

      -- Ids are drawn while a shared advisory lock tells from where on (batch-save.ts), so that readers know which are settled.
      CREATE SEQUENCE event_id;
      CREATE TABLE event (
        id bigint PRIMARY KEY,
        at_ms bigint NOT NULL,
        type text NOT NULL,
        actor_id bigint,
        pool_id bigint,
        vm_id bigint,
        user_id bigint,
        request_id text,
        data text
      );
      CREATE INDEX event_account ON event (id)
        WHERE type IN ('user.changed', 'user.deleted', 'installation.reset');

      -- Which batches committed: asked when the answer to a commit was lost. void: it never will. Kept for some minutes.
      CREATE TABLE batch (
        at_ms bigint NOT NULL,
        id uuid NOT NULL,
        void boolean NOT NULL,
        PRIMARY KEY (at_ms, id)
      );

      CREATE FUNCTION expect(counted bigint, expected bigint, what text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
          IF counted <> expected THEN
            RAISE EXCEPTION '% of % %', counted, expected, what USING ERRCODE = 'BE001';
          END IF;
        END
      $$;
    `,
  },
  {
    id: 2,
    name: 'tokens, answers, sizes of machine',
    sql: `
      CREATE TABLE token (
        -- Compared byte by byte: in the order of their ids whatever the language of the database.
        id text COLLATE "C" PRIMARY KEY,
        user_id bigint NOT NULL,
        name text NOT NULL,
        hash text NOT NULL UNIQUE,
        credential_version bigint NOT NULL,
        created_at_ms bigint NOT NULL,
        expires_at_ms bigint,
        last_used_at_ms bigint,
        revoked_at_ms bigint,
        scopes text
      );
      CREATE INDEX token_user ON token (user_id, id);

      CREATE TABLE answer (
        user_id bigint NOT NULL,
        key text NOT NULL,
        fingerprint text NOT NULL,
        status bigint NOT NULL,
        body text NOT NULL,
        headers text NOT NULL,
        at_ms bigint NOT NULL,
        PRIMARY KEY (user_id, key)
      );
      CREATE INDEX answer_at ON answer (at_ms);

      ALTER TABLE installation ADD COLUMN vm_types text NOT NULL DEFAULT '{"small":{"vcpu":2,"memoryMb":8192},"medium":{"vcpu":4,"memoryMb":16384},"large":{"vcpu":8,"memoryMb":65536},"xlarge":{"vcpu":16,"memoryMb":131072}}';

      DROP INDEX event_account;
      CREATE INDEX event_account ON event (id)
        WHERE type IN ('user.changed', 'user.deleted', 'token.revoked', 'installation.reset');
    `,
  },
  {
    id: 3,
    name: 'classes, policies, leases with terms, requests, flows, reservations, changes of pools',
    sql: `
      ALTER TABLE "user" ADD COLUMN quota text;

      ALTER TABLE pool ADD COLUMN policy text NOT NULL DEFAULT '{}';
      ALTER TABLE pool ADD COLUMN queue text NOT NULL DEFAULT '{}';

      ALTER TABLE vm ADD COLUMN class text;
      ALTER TABLE vm ADD COLUMN free_at_ms bigint;
      UPDATE vm SET class = type;
      ALTER TABLE vm ALTER COLUMN class SET NOT NULL;
      DROP INDEX vm_ready_type;
      CREATE INDEX vm_ready_class ON vm (pool_id, class, id) WHERE state = 'ready';

      ALTER TABLE lease ADD COLUMN ends_at_ms bigint;
      ALTER TABLE lease ADD COLUMN ended_by text;
      ALTER TABLE lease ADD COLUMN request_id text;
      ALTER TABLE lease ADD COLUMN reservation_id text;
      ALTER TABLE lease ADD COLUMN soft_grace_seconds bigint;
      ALTER TABLE lease ADD COLUMN heartbeat_seconds bigint;
      ALTER TABLE lease ADD COLUMN beat_by_ms bigint;
      ALTER TABLE lease ADD COLUMN due_at_ms bigint;
      ALTER TABLE lease ADD COLUMN warned bigint NOT NULL DEFAULT 0;
      ALTER TABLE lease ADD COLUMN charged_minutes double precision NOT NULL DEFAULT 0;
      ALTER TABLE lease ADD COLUMN weight double precision NOT NULL DEFAULT 1;
      ALTER TABLE lease ADD COLUMN purpose text;
      ALTER TABLE lease ADD COLUMN labels text;
      ALTER TABLE lease ADD COLUMN shared_with text;
      UPDATE lease SET ended_by = 'checked_in' WHERE ended_at_ms IS NOT NULL;
      CREATE INDEX lease_due ON lease (pool_id, due_at_ms) WHERE due_at_ms IS NOT NULL;
      -- By the end, not the beginning: what somebody used in a week is found however long ago it began. Those that run are
      -- found by their machines (vm_holder), so that a checkout writes no entry here.
      CREATE INDEX lease_ended ON lease (user_id, ended_at_ms, vm_id, generation) WHERE ended_at_ms IS NOT NULL;

      -- Their states are checked by nothing but the domain: these rows change with each grant.
      CREATE TABLE request (
        -- Compared byte by byte, as everywhere else.
        id text COLLATE "C" PRIMARY KEY,
        pool_id bigint NOT NULL,
        user_id bigint NOT NULL,
        seq bigint NOT NULL,
        wish text NOT NULL,
        terms text NOT NULL,
        priority text NOT NULL,
        state text NOT NULL,
        created_at_ms bigint NOT NULL,
        until_ms bigint,
        ended_at_ms bigint,
        due bigint,
        parked bigint NOT NULL,
        collect_since_ms bigint,
        reservation_id text,
        leases text NOT NULL
      );
      CREATE INDEX request_waiting ON request (pool_id, id) WHERE state = 'waiting';
      CREATE INDEX request_until ON request (pool_id, until_ms) WHERE state = 'waiting';
      CREATE INDEX request_waiter ON request (user_id) WHERE state = 'waiting';
      CREATE INDEX request_user ON request (user_id, id);

      CREATE TABLE flow (
        pool_id bigint NOT NULL,
        user_id bigint NOT NULL,
        tag double precision NOT NULL,
        PRIMARY KEY (pool_id, user_id)
      );

      CREATE TABLE reservation (
        -- Compared byte by byte, as everywhere else.
        id text COLLATE "C" PRIMARY KEY,
        pool_id bigint NOT NULL,
        user_id bigint NOT NULL,
        wish text NOT NULL,
        from_ms bigint NOT NULL,
        to_ms bigint NOT NULL,
        pinned text NOT NULL,
        state text NOT NULL,
        at_risk bigint NOT NULL,
        missing bigint NOT NULL,
        confirmed_seq bigint NOT NULL,
        no_show_seconds bigint,
        claimed bigint NOT NULL,
        series_id text,
        purpose text,
        labels text NOT NULL,
        created_at_ms bigint NOT NULL
      );
      CREATE INDEX reservation_confirmed ON reservation (pool_id, from_ms) WHERE state = 'confirmed';
      CREATE INDEX reservation_active ON reservation (pool_id, to_ms) WHERE state = 'active';
      CREATE INDEX reservation_user ON reservation (user_id, id);
      CREATE INDEX reservation_series ON reservation (series_id, id) WHERE series_id IS NOT NULL;

      -- What each batch changed of a pool's book, so that other servers can follow; the newest versions only.
      CREATE TABLE pool_change (
        pool_id bigint NOT NULL,
        version bigint NOT NULL,
        change text NOT NULL,
        PRIMARY KEY (pool_id, version)
      );
    `,
  },
]

/** Taken while steps are done, so that servers that start together do them once. Any number that nobody else uses will do. */
const LOCK = 0x6265_7274

/**
 * Makes the schema that a connection was told to use, when it is not there. Servers that start together make it once: by itself
 * IF NOT EXISTS is no help against others who look at the same moment. Throws `StoreRefusesToOpen` when none was named.
 */
export async function makeSchema(client: ClientBase, schema: string | null): Promise<void> {
  const { rows } = await client.query('SELECT current_schema() AS found')
  if (rows[0]?.found !== null) return
  if (schema === null)
    throw new StoreRefusesToOpen('the search path of the database user begins with no schema that exists')
  await client.query('BEGIN')
  try {
    await client.query('SELECT pg_advisory_xact_lock($1, hashtext($2))', [LOCK, schema])
    await client.query(`CREATE SCHEMA IF NOT EXISTS ${client.escapeIdentifier(schema)}`)
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {})
    throw error
  }
}

/**
 * Brings the database that `client` is connected to up to the newest step, all missing ones in one transaction. Servers that
 * come at the same time wait for each other. Returns the steps that were done now. Throws `StoreRefusesToOpen` when the database is newer.
 */
export async function migrate(
  client: ClientBase,
  nowMs: number,
  migrations: readonly Migration[] = MIGRATIONS,
): Promise<readonly Migration[]> {
  await client.query('BEGIN')
  try {
    await client.query("SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = 0")
    // Per schema, as two installations in one database have nothing to do with each other.
    await client.query('SELECT pg_advisory_xact_lock($1, hashtext(current_schema()))', [LOCK])
    await client.query(
      'CREATE TABLE IF NOT EXISTS migration (id bigint PRIMARY KEY, name text NOT NULL, applied_at_ms bigint NOT NULL)',
    )
    const missing = missingSteps(migrations, await doneSteps(client))
    for (const { id, name, sql } of missing) {
      await client.query(sql)
      await client.query('INSERT INTO migration VALUES ($1, $2, $3)', [id, name, nowMs])
    }
    await client.query('COMMIT')
    return missing
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {})
    throw error
  }
}

/** What has been done to the database. Changes nothing. Throws `StoreRefusesToOpen` when the database is newer. */
export async function migrationStatus(
  client: ClientBase,
  migrations: readonly Migration[] = MIGRATIONS,
): Promise<MigrationStatus> {
  const { rows } = await client.query("SELECT to_regclass('migration') IS NOT NULL AS known")
  const done = rows[0]?.known === true ? await doneSteps(client) : []
  return { done, missing: missingSteps(migrations, done) }
}

async function doneSteps(client: ClientBase): Promise<DoneMigration[]> {
  const { rows } = await client.query('SELECT id, name, applied_at_ms FROM migration ORDER BY id')
  return rows.map((row) => ({
    id: Number(row.id),
    name: String(row.name),
    appliedAtMs: Number(row.applied_at_ms),
  }))
}
