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

CREATE TABLE flow (
  pool_id INTEGER NOT NULL,
  user_id INTEGER NOT NULL,
  tag REAL NOT NULL,
  PRIMARY KEY (pool_id, user_id)
) STRICT, WITHOUT ROWID;

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
  ended_at_ms INTEGER, ends_at_ms INTEGER, ended_by TEXT, request_id TEXT, reservation_id TEXT, soft_grace_seconds INTEGER, heartbeat_seconds INTEGER, beat_by_ms INTEGER, due_at_ms INTEGER, warned INTEGER NOT NULL DEFAULT 0, charged_minutes REAL NOT NULL DEFAULT 0, weight REAL NOT NULL DEFAULT 1, purpose TEXT, labels TEXT, shared_with TEXT,
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
, policy TEXT NOT NULL DEFAULT '{}', queue TEXT NOT NULL DEFAULT '{}') STRICT;

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
, quota TEXT) STRICT;

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
  created_at_ms INTEGER NOT NULL, class TEXT NOT NULL DEFAULT '', free_at_ms INTEGER,
  CHECK ((state = 'leased') = (holder_id IS NOT NULL))
) STRICT;

CREATE INDEX answer_at ON answer (at_ms);

CREATE INDEX lease_due ON lease (pool_id, due_at_ms) WHERE due_at_ms IS NOT NULL;

CREATE INDEX lease_ended ON lease (user_id, ended_at_ms) WHERE ended_at_ms IS NOT NULL;

CREATE INDEX request_until ON request (pool_id, until_ms) WHERE state = 'waiting';

CREATE INDEX request_user ON request (user_id);

CREATE INDEX request_waiter ON request (user_id) WHERE state = 'waiting';

CREATE INDEX request_waiting ON request (pool_id) WHERE state = 'waiting';

CREATE INDEX reservation_active ON reservation (pool_id, to_ms) WHERE state = 'active';

CREATE INDEX reservation_confirmed ON reservation (pool_id, from_ms) WHERE state = 'confirmed';

CREATE INDEX reservation_series ON reservation (series_id) WHERE series_id IS NOT NULL;

CREATE INDEX reservation_user ON reservation (user_id);

CREATE INDEX token_user ON token (user_id);

CREATE UNIQUE INDEX user_email ON user (email) WHERE state = 'active';

CREATE INDEX user_leaving ON user (id) WHERE state = 'leaving';

CREATE INDEX vm_aside ON vm (pool_id) WHERE state <> 'ready' AND state <> 'leased';

CREATE INDEX vm_due ON vm (pool_id, state, due_at_ms) WHERE due_at_ms IS NOT NULL;

CREATE INDEX vm_holder ON vm (holder_id) WHERE holder_id IS NOT NULL;

CREATE INDEX vm_pool ON vm (pool_id);

CREATE INDEX vm_ready ON vm (pool_id) WHERE state = 'ready';

CREATE INDEX vm_ready_class ON vm (pool_id, class) WHERE state = 'ready';

CREATE INDEX vm_stopped ON vm (pool_id) WHERE power = 'stopped';

CREATE INDEX vm_type ON vm (pool_id, type);
