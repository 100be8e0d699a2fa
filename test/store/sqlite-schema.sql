-- Made by the migrations: UPDATE_SCHEMA=1 node --test src/store/sqlite/migrations.test.ts

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

CREATE TABLE installation (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  state TEXT NOT NULL CHECK (state IN ('open', 'resetting')),
  next_user_id INTEGER NOT NULL,
  next_vm_id INTEGER NOT NULL,
  next_pool_id INTEGER NOT NULL,
  reset TEXT
, vm_types TEXT NOT NULL DEFAULT '{"small":{"vcpu":2,"memoryMb":8192},"medium":{"vcpu":4,"memoryMb":16384},"large":{"vcpu":8,"memoryMb":65536},"xlarge":{"vcpu":16,"memoryMb":131072}}') STRICT;

CREATE TABLE lease (
  vm_id INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  pool_id INTEGER NOT NULL REFERENCES pool (id),
  user_id INTEGER NOT NULL REFERENCES user (id),
  from_ms INTEGER NOT NULL,
  ended_at_ms INTEGER,
  PRIMARY KEY (vm_id, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE migration (id INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at_ms INTEGER NOT NULL) STRICT;

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

CREATE INDEX answer_at ON answer (at_ms);

CREATE INDEX token_user ON token (user_id);

CREATE UNIQUE INDEX user_email ON user (email) WHERE state = 'active';

CREATE INDEX user_leaving ON user (id) WHERE state = 'leaving';

CREATE INDEX vm_aside ON vm (pool_id) WHERE state <> 'ready' AND state <> 'leased';

CREATE INDEX vm_due ON vm (pool_id, state, due_at_ms) WHERE due_at_ms IS NOT NULL;

CREATE INDEX vm_holder ON vm (holder_id) WHERE holder_id IS NOT NULL;

CREATE INDEX vm_pool ON vm (pool_id);

CREATE INDEX vm_ready ON vm (pool_id) WHERE state = 'ready';

CREATE INDEX vm_ready_type ON vm (pool_id, type) WHERE state = 'ready';

CREATE INDEX vm_stopped ON vm (pool_id) WHERE power = 'stopped';

CREATE INDEX vm_type ON vm (pool_id, type);
