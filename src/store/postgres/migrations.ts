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
