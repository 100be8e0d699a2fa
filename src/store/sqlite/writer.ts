/**
 * The one connection that changes the database: a batch is loaded inside an immediate transaction and saved in the same
 * one. Synchronous, because SQLite is; in the server it runs in a thread of its own (writer-thread.ts), so that the event
 * loop goes on while the disk syncs. It obeys: what is legal was decided between load and save.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { VmState } from '../../domain/vm.ts'
import type { VmType } from '../../domain/vm-type.ts'
import type { MoreNeeds } from '../../domain/working-set.ts'
import type { ChangedRows, FoundMore, FoundRows, WantedRows } from '../batch-rows.ts'
import { type Tables, VM_COLUMNS, type VmTuple } from '../tables.ts'
import { AllocationRows } from './allocation-rows.ts'

const VM = VM_COLUMNS.join(', ')
const FIXED: readonly string[] = ['id', 'pool_id', 'type', 'created_at_ms']
/** Where in a machine’s row the columns are that change. */
const CHANGING = VM_COLUMNS.flatMap((column, at) => (FIXED.includes(column) ? [] : [at]))
/** Where rows of machines, requests and reservations have their pool. */
const POOL_AT = 1

export class SqliteWriter {
  readonly #db: DatabaseSync
  readonly #sql: ReturnType<typeof prepare>
  readonly #allocation: AllocationRows
  #lastEventId: number

  constructor(db: DatabaseSync) {
    this.#db = db
    this.#sql = prepare(db)
    this.#allocation = new AllocationRows(db)
    this.#lastEventId = Number(db.prepare('SELECT coalesce(max(id), 0) AS id FROM event').get()?.id)
  }

  /** Opens the transaction and reads every row that the batch wants. */
  load(wanted: WantedRows): FoundRows {
    const sql = this.#sql
    const allocation = this.#allocation
    sql.begin.run()
    const users: Tables['user'][] = []
    const pools = new Map<number, Tables['pool']>()
    const poolsByName = new Map<string, Tables['pool']>()
    const vms: VmTuple[] = []
    const seen = new Set<number>()

    const addPool = (row: unknown) => {
      if (row === undefined) return
      const pool = row as Tables['pool']
      pools.set(pool.id, pool)
      poolsByName.set(pool.name, pool)
    }
    const holdPool = (poolId: number) => {
      if (!pools.has(poolId)) addPool(sql.pool.get(poolId))
    }
    const addVm = (row: unknown) => {
      if (row === undefined) return
      const vm = row as VmTuple
      if (seen.has(vm[0] as number)) return
      seen.add(vm[0] as number)
      vms.push(vm)
      holdPool(vm[POOL_AT] as number)
    }
    const addVms = (rows: unknown[]) => {
      for (const row of rows) addVm(row)
      return rows.map((row) => (row as VmTuple)[0] as number)
    }

    for (const id of wanted.userIds) push(users, sql.user.get(id))
    for (const email of wanted.emails) push(users, sql.userByEmail.get(email))
    const tokens = new Map<string, Tables['token']>()
    const addToken = (row: unknown) => {
      if (row !== undefined) tokens.set((row as Tables['token']).id, row as Tables['token'])
    }
    for (const id of wanted.tokenIds) addToken(sql.token.get(id))
    for (const userId of wanted.tokensOf) for (const row of sql.tokensOf.all(userId)) addToken(row)
    const answers: Tables['answer'][] = []
    for (const [userId, key] of wanted.answers) push(answers, sql.answer.get(userId, key))
    if (wanted.oldestAnswers > 0)
      for (const row of sql.oldestAnswers.all(wanted.oldestAnswers)) push(answers, row)
    for (const id of wanted.poolIds) addPool(sql.pool.get(id))
    for (const name of wanted.poolNames) addPool(sql.poolNamed.get(name))
    if (wanted.allPools) for (const row of sql.pools.all()) addPool(row)
    for (const id of wanted.vmIds) addVm(sql.vm.get(id))

    const ready: { poolId: number; type: VmType | null; vmIds: readonly number[] }[] = []
    for (const name of wanted.readyAny) {
      const poolId = poolsByName.get(name)?.id
      if (poolId === undefined) continue
      ready.push({ poolId, type: null, vmIds: addVms(sql.ready.all(poolId, wanted.takers)) })
    }
    for (const [name, type] of wanted.readyOfType) {
      const pool = poolsByName.get(name)
      if (pool === undefined) continue
      const vmIds = addVms(allocation.readyOfType(pool, type, wanted.takers))
      ready.push({ poolId: pool.id, type, vmIds })
    }
    for (const [poolId] of wanted.removable) {
      addVms(sql.planned.all(poolId, wanted.takers + wanted.finishers))
      addVms(sql.highestReady.all(poolId, wanted.takers))
    }
    for (const [poolId, state, rowsMax] of wanted.due)
      addVms(sql.due.all(poolId, state, wanted.nowMs, rowsMax))
    for (const [userId, rowsMax] of wanted.heldBy) addVms(sql.heldBy.all(userId, rowsMax))
    if (wanted.standing > 0) addVms(sql.standing.all(wanted.standing))
    for (const [poolId, rowsMax] of wanted.dueLeases)
      for (const vmId of allocation.dueLeases(poolId, wanted.nowMs, rowsMax)) addVm(sql.vm.get(vmId))
    const requests = allocation.requests(wanted)
    const reservations = allocation.reservations(wanted)
    for (const row of [...requests, ...reservations]) holdPool(row[POOL_AT] as number)
    for (const [poolId] of [...wanted.dueLeases, ...wanted.dueRequests]) holdPool(poolId)

    return {
      nowMs: wanted.nowMs,
      installation: sql.installation.get() as unknown as Tables['installation'],
      users,
      tokens: [...tokens.values()],
      answers,
      pools: [...pools.values()],
      vms,
      leases: allocation.leasesOf(vms),
      requests,
      reservations,
      usage: allocation.usage(wanted.usageOf, wanted.nowMs),
      books: allocation.books(pools.values(), wanted),
      ready,
      census: wanted.census ? this.#census() : null,
    }
  }

  /** Reads what the batch wants beside, in the same transaction. */
  more(needs: MoreNeeds, nowMs: number): FoundMore {
    return this.#allocation.more(needs, nowMs)
  }

  /** Saves, commits durably, and returns the id of the newest event. Rolls back and throws when anything fails. */
  save(changed: ChangedRows): number {
    const before = this.#lastEventId
    try {
      this.#write(changed)
      this.#sql.commit.run()
      return this.#lastEventId
    } catch (error) {
      this.#lastEventId = before
      this.rollback()
      throw error
    }
  }

  rollback(): void {
    if (this.#db.isTransaction) this.#sql.rollback.run()
  }

  #write(changed: ChangedRows): void {
    const sql = this.#sql
    if (changed.wiped) {
      this.#allocation.wipe()
      for (const statement of sql.wipe) statement.run()
    }
    // E-mails may have passed from one user to another: all let go of theirs before anybody gets one.
    if (changed.users.length + changed.newUsers.length > 1)
      for (const row of changed.users) sql.updateUser.run({ ...row, state: 'gone' })
    for (const row of changed.users) sql.updateUser.run({ ...row })
    for (const row of changed.newUsers) sql.insertUser.run({ ...row })
    for (const id of changed.goneTokenIds) sql.deleteToken.run(id)
    for (const row of changed.tokens) sql.updateToken.run({ ...row })
    for (const row of changed.newTokens) sql.insertToken.run({ ...row })
    for (const [userId, key] of changed.goneAnswers) sql.deleteAnswer.run(userId, key)
    for (const row of changed.newAnswers) sql.insertAnswer.run({ ...row })
    for (const row of changed.newPools) sql.insertPool.run({ ...row })
    for (const row of changed.pools) sql.updatePool.run({ ...row })
    for (const { id, tally, queue } of changed.counted) sql.countPool.run(tally, queue, id)
    for (const vm of changed.newVms) sql.insertVm.run(...vm)
    for (const [vm, state, generation] of changed.vms) {
      const id = vm[0] as number
      const { changes } = sql.updateVm.run(...CHANGING.map((at) => vm[at] ?? null), id, state, generation)
      if (changes !== 1) throw new Error(`VM ${id} is no longer '${state}' at generation ${generation}`)
    }
    for (const id of changed.goneVmIds)
      if (sql.deleteVm.run(id).changes !== 1) throw new Error(`VM ${id} is not there or not 'deleting'`)
    this.#allocation.save(changed)
    for (const event of changed.events) sql.insertEvent.run(++this.#lastEventId, changed.nowMs, ...event)
    if (changed.installation !== null) sql.updateInstallation.run({ ...changed.installation })
  }

  #census(): { users: number; vms: number } {
    let vms = 0
    for (const pool of this.#sql.pools.all() as unknown as Tables['pool'][])
      for (const states of Object.values(JSON.parse(pool.tally) as Record<string, Record<VmState, number>>))
        for (const count of Object.values(states)) vms += count
    return { users: Number(this.#sql.countUsers.get()?.n), vms }
  }
}

function push<T>(list: T[], row: unknown): void {
  if (row !== undefined) list.push(row as T)
}

function prepare(db: DatabaseSync) {
  const tuples = (sql: string): StatementSync => {
    const statement = db.prepare(sql)
    statement.setReturnArrays(true)
    return statement
  }
  const vmValues = VM_COLUMNS.map(() => '?').join(', ')
  return {
    begin: db.prepare('BEGIN IMMEDIATE'),
    commit: db.prepare('COMMIT'),
    rollback: db.prepare('ROLLBACK'),

    installation: db.prepare('SELECT * FROM installation'),
    user: db.prepare('SELECT * FROM user WHERE id = ?'),
    userByEmail: db.prepare("SELECT * FROM user WHERE email = ? AND state = 'active'"),
    token: db.prepare('SELECT * FROM token WHERE id = ?'),
    tokensOf: db.prepare('SELECT * FROM token WHERE user_id = ?'),
    answer: db.prepare('SELECT * FROM answer WHERE user_id = ? AND key = ?'),
    oldestAnswers: db.prepare('SELECT * FROM answer ORDER BY at_ms LIMIT ?'),
    countUsers: db.prepare("SELECT count(*) AS n FROM user WHERE state = 'active'"),
    pool: db.prepare('SELECT * FROM pool WHERE id = ?'),
    poolNamed: db.prepare('SELECT * FROM pool WHERE name = ?'),
    pools: db.prepare('SELECT * FROM pool'),
    vm: tuples(`SELECT ${VM} FROM vm WHERE id = ?`),
    ready: tuples(`SELECT ${VM} FROM vm WHERE pool_id = ? AND state = 'ready' ORDER BY id LIMIT ?`),
    highestReady: tuples(
      `SELECT ${VM} FROM vm WHERE pool_id = ? AND state = 'ready' ORDER BY id DESC LIMIT ?`,
    ),
    planned: tuples(
      `SELECT ${VM} FROM vm WHERE pool_id = ? AND state = 'provisioning' AND state <> 'ready' AND state <> 'leased'
       ORDER BY id DESC LIMIT ?`,
    ),
    due: tuples(
      `SELECT ${VM} FROM vm WHERE pool_id = ? AND state = ? AND due_at_ms IS NOT NULL AND due_at_ms <= ?
       ORDER BY due_at_ms LIMIT ?`,
    ),
    heldBy: tuples(`SELECT ${VM} FROM vm WHERE holder_id = ? ORDER BY id LIMIT ?`),
    standing: tuples(`SELECT ${VM} FROM vm WHERE state <> 'deleting' ORDER BY id LIMIT ?`),

    insertUser: db.prepare(
      `INSERT INTO user (id, name, email, role, password_hash, credential_version, state, created_at_ms, quota)
       VALUES (:id, :name, :email, :role, :password_hash, :credential_version, :state, :created_at_ms, :quota)`,
    ),
    updateUser: named(
      db.prepare(
        `UPDATE user SET name = :name, email = :email, role = :role, password_hash = :password_hash,
         credential_version = :credential_version, state = :state, quota = :quota WHERE id = :id`,
      ),
    ),
    insertToken: db.prepare(
      `INSERT INTO token (id, user_id, name, hash, credential_version, created_at_ms, expires_at_ms, last_used_at_ms,
         revoked_at_ms, scopes)
       VALUES (:id, :user_id, :name, :hash, :credential_version, :created_at_ms, :expires_at_ms, :last_used_at_ms,
         :revoked_at_ms, :scopes)`,
    ),
    updateToken: named(
      db.prepare(
        'UPDATE token SET last_used_at_ms = :last_used_at_ms, revoked_at_ms = :revoked_at_ms WHERE id = :id',
      ),
    ),
    deleteToken: db.prepare('DELETE FROM token WHERE id = ?'),
    insertAnswer: db.prepare(
      `INSERT INTO answer (user_id, key, fingerprint, status, body, headers, at_ms)
       VALUES (:user_id, :key, :fingerprint, :status, :body, :headers, :at_ms)`,
    ),
    deleteAnswer: db.prepare('DELETE FROM answer WHERE user_id = ? AND key = ?'),
    insertPool: db.prepare(
      `INSERT INTO pool (id, name, target, type_mix, cleaning, provider, tally, created_at_ms, policy, queue)
       VALUES (:id, :name, :target, :type_mix, :cleaning, :provider, :tally, :created_at_ms, :policy, :queue)`,
    ),
    updatePool: named(
      db.prepare(
        `UPDATE pool SET name = :name, target = :target, type_mix = :type_mix, cleaning = :cleaning,
         provider = :provider, tally = :tally, policy = :policy, queue = :queue WHERE id = :id`,
      ),
    ),
    countPool: db.prepare('UPDATE pool SET tally = ?, queue = ? WHERE id = ?'),
    insertVm: db.prepare(`INSERT INTO vm (${VM}) VALUES (${vmValues})`),
    updateVm: db.prepare(
      `UPDATE vm SET ${CHANGING.map((at) => `${VM_COLUMNS[at]} = ?`).join(', ')}
       WHERE id = ? AND state = ? AND generation = ?`,
    ),
    deleteVm: db.prepare("DELETE FROM vm WHERE id = ? AND state = 'deleting'"),
    insertEvent: db.prepare('INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)'),
    updateInstallation: named(
      db.prepare(
        `UPDATE installation SET state = :state, next_user_id = :next_user_id, next_vm_id = :next_vm_id,
         next_pool_id = :next_pool_id, vm_types = :vm_types, reset = :reset WHERE id = :id`,
      ),
    ),
    wipe: ['event', 'vm', 'pool', 'token', 'answer', 'user'].map((table) =>
      db.prepare(`DELETE FROM ${table}`),
    ),
  }
}

/** Rows carry columns that an update leaves alone. */
function named(statement: StatementSync): StatementSync {
  statement.setAllowUnknownNamedParameters(true)
  return statement
}
