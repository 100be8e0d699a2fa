/**
 * The first half of a batch: it holds what the batch may change, in one order for all batches, and reads every row that it
 * wants. First the installation, then pools by id, then users by id; nothing is held after that, so batches cannot wait for
 * each other in a circle. Everything else is read by statements behind these, each of which sees what was committed until it began.
 */
import type { PoolClient } from 'pg'
import type { VmType } from '../../domain/vm-type.ts'
import type { FoundRows, WantedRows } from '../batch-rows.ts'
import { LEASE_COLUMNS } from '../lease.ts'
import { StoreConflict } from '../port.ts'
import { type Tables, type Tuple, VM_COLUMNS, type VmTuple } from '../tables.ts'
import { completeBooks, readAllocation, wantedBooks } from './allocation-rows.ts'
import { Flight, numbers, prepared, type Row, texts } from './statement.ts'

const VM = VM_COLUMNS.map((column) => `vm.${column}`).join(', ')
/** Machines that may be leased come with the lease that runs on them. */
const LEASED_VM = [VM, ...LEASE_COLUMNS.map((column) => `lease.${column}`)].join(', ')
const ITS_LEASE = `LEFT JOIN lease ON vm.holder_id IS NOT NULL AND lease.vm_id = vm.id AND lease.generation = vm.generation
       AND lease.ended_at_ms IS NULL`
const CLOCK_MS = '(SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)'

const SQL = {
  holdInstallation: prepared('SELECT id FROM installation FOR UPDATE'),
  holdPools: prepared(
    `SELECT * FROM pool WHERE id IN (
       SELECT id FROM pool WHERE name = ANY ($1::text[])
       UNION SELECT unnest($2::bigint[])
       UNION SELECT pool_id FROM vm WHERE id = ANY ($3::bigint[])
       UNION SELECT pool_id FROM vm WHERE holder_id = ANY ($4::bigint[])
       UNION SELECT pool_id FROM request WHERE id = ANY ($5::text[])
       UNION SELECT pool_id FROM reservation WHERE id = ANY ($6::text[]))
     ORDER BY id FOR UPDATE`,
  ),
  holdNamedPools: prepared(
    'SELECT * FROM pool WHERE name = ANY ($1::text[]) OR id = ANY ($2::bigint[]) ORDER BY id FOR UPDATE',
  ),
  holdAllPools: prepared('SELECT * FROM pool ORDER BY id FOR UPDATE'),
  holdUsers: prepared('SELECT * FROM "user" WHERE id = ANY ($1::bigint[]) ORDER BY id FOR UPDATE'),
  shareUsers: prepared('SELECT * FROM "user" WHERE id = ANY ($1::bigint[]) ORDER BY id FOR SHARE'),

  // The time is read here: behind everything that this batch may have waited for.
  installation: prepared(
    `SELECT *, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms FROM installation`,
  ),
  usersByEmail: prepared(`SELECT * FROM "user" WHERE email = ANY ($1::text[]) AND state = 'active'`),
  tokens: prepared('SELECT * FROM token WHERE id = ANY ($1::text[])'),
  tokensOf: prepared('SELECT * FROM token WHERE user_id = ANY ($1::bigint[])'),
  answers: prepared(
    `SELECT answer.* FROM unnest($1::bigint[], $2::text[]) AS wanted (user_id, key)
     JOIN answer ON answer.user_id = wanted.user_id AND answer.key = wanted.key`,
  ),
  oldestAnswers: prepared('SELECT * FROM answer ORDER BY at_ms LIMIT $1'),
  countUsers: prepared(`SELECT count(*) AS n FROM "user" WHERE state = 'active'`),
  tallies: prepared('SELECT tally FROM pool'),
  vms: prepared(`SELECT ${LEASED_VM} FROM vm ${ITS_LEASE} WHERE vm.id = ANY ($1::bigint[])`),
  ready: prepared(
    `SELECT ${VM} FROM vm WHERE pool_id = (SELECT id FROM pool WHERE name = $1) AND state = 'ready'
     ORDER BY id LIMIT $2`,
  ),
  readyOfType: prepared(
    `SELECT ${VM} FROM pool CROSS JOIN json_object_keys(pool.tally::json) AS key CROSS JOIN LATERAL (
       SELECT * FROM vm WHERE vm.pool_id = pool.id AND vm.class = key AND vm.state = 'ready' ORDER BY vm.id LIMIT $3) AS vm
     WHERE pool.name = $1 AND (key = $2 OR starts_with(key, $2 || ',') OR starts_with(key, $2 || '#'))
     ORDER BY vm.id LIMIT $3`,
  ),
  highestReady: prepared(
    `SELECT ${VM} FROM vm WHERE pool_id = $1 AND state = 'ready' ORDER BY id DESC LIMIT $2`,
  ),
  planned: prepared(
    `SELECT ${VM} FROM vm WHERE pool_id = $1 AND state = 'provisioning' AND state <> 'ready' AND state <> 'leased'
     ORDER BY id DESC LIMIT $2`,
  ),
  due: prepared(
    `SELECT ${VM} FROM vm WHERE pool_id = $1 AND state = $2 AND due_at_ms IS NOT NULL AND due_at_ms <=
       coalesce($3::bigint, ${CLOCK_MS})
     ORDER BY due_at_ms LIMIT $4`,
  ),
  dueLeases: prepared(
    `SELECT ${LEASED_VM} FROM lease JOIN vm ON vm.id = lease.vm_id
     WHERE lease.pool_id = $1 AND lease.due_at_ms IS NOT NULL AND lease.due_at_ms <= coalesce($2::bigint, ${CLOCK_MS})
     ORDER BY lease.due_at_ms LIMIT $3`,
  ),
  heldBy: prepared(
    `SELECT ${LEASED_VM} FROM vm ${ITS_LEASE} WHERE vm.holder_id = $1 ORDER BY vm.id LIMIT $2`,
  ),
  standing: prepared(
    `SELECT ${LEASED_VM} FROM vm ${ITS_LEASE} WHERE vm.state <> 'deleting' ORDER BY vm.id LIMIT $1`,
  ),
}

export interface Loaded {
  readonly found: FoundRows
  /** Statements that were sent. */
  readonly statements: number
}

/**
 * Begins a transaction on `client` and reads what `wanted` names. `wanted.nowMs` is the earliest time that the batch may have;
 * `clockMs` null: the database's clock. Throws the driver's errors, and `StoreConflict` when a machine came into a pool that is not held.
 */
export async function loadBatch(
  client: PoolClient,
  wanted: WantedRows,
  clockMs: number | null,
): Promise<Loaded> {
  const flight = new Flight(client)
  void flight.plain('BEGIN')
  if (wanted.installation) void flight.rows(SQL.holdInstallation, [])
  const pools = holdPools(flight, wanted)
  const holdUsers = wanted.changedUserIds.length > 0 ? SQL.holdUsers : SQL.shareUsers
  const users =
    wanted.userIds.length > 0 ? flight.rows(holdUsers, [numbers(wanted.userIds)]) : Promise.resolve([])
  const byEmail =
    wanted.emails.length > 0
      ? flight.rows(SQL.usersByEmail, [texts(wanted.emails)])
      : Promise.resolve<Row[]>([])
  const tokens: Promise<readonly Row[]>[] = []
  if (wanted.tokenIds.length > 0) tokens.push(flight.rows(SQL.tokens, [texts(wanted.tokenIds)]))
  if (wanted.tokensOf.length > 0) tokens.push(flight.rows(SQL.tokensOf, [numbers(wanted.tokensOf)]))
  const answers: Promise<readonly Row[]>[] = []
  if (wanted.answers.length > 0) {
    const userIds = numbers(wanted.answers.map(([userId]) => userId))
    answers.push(flight.rows(SQL.answers, [userIds, texts(wanted.answers.map(([, key]) => key))]))
  }
  if (wanted.oldestAnswers > 0) answers.push(flight.rows(SQL.oldestAnswers, [wanted.oldestAnswers]))
  const installation = flight.rows(SQL.installation, [])
  const found: Promise<readonly VmTuple[]>[] = []
  const look = (vms: Promise<readonly VmTuple[]>) => {
    found.push(vms)
    return vms
  }
  if (wanted.vmIds.length > 0) look(flight.tuples(SQL.vms, [numbers(wanted.vmIds)]))
  const ready: { pool: string; type: VmType | null; vms: Promise<readonly VmTuple[]> }[] = []
  for (const pool of wanted.readyAny)
    ready.push({ pool, type: null, vms: look(flight.tuples(SQL.ready, [pool, wanted.takers])) })
  for (const [pool, type] of wanted.readyOfType)
    ready.push({ pool, type, vms: look(flight.tuples(SQL.readyOfType, [pool, type, wanted.takers])) })
  for (const [poolId] of wanted.removable) {
    look(flight.tuples(SQL.planned, [poolId, wanted.takers + wanted.finishers]))
    look(flight.tuples(SQL.highestReady, [poolId, wanted.takers]))
  }
  for (const [poolId, state, rowsMax] of wanted.due)
    look(flight.tuples(SQL.due, [poolId, state, clockMs, rowsMax]))
  for (const [userId, rowsMax] of wanted.heldBy) look(flight.tuples(SQL.heldBy, [userId, rowsMax]))
  if (wanted.standing > 0) look(flight.tuples(SQL.standing, [wanted.standing]))
  for (const [poolId, rowsMax] of wanted.dueLeases)
    look(flight.tuples(SQL.dueLeases, [poolId, clockMs, rowsMax]))
  const allocation = readAllocation(flight, wanted, clockMs)
  const census = wanted.census ? countAll(flight) : null
  await flight.landed()

  const poolRows = (await pools) as readonly (Tables['pool'] & { at_ms: number })[]
  const row = (await installation)[0] as Tables['installation'] & { now_ms: number }
  const { now_ms, ...installationRow } = row
  const idOf = new Map(poolRows.map(({ id, name }) => [name, id]))
  const held = new Set(idOf.values())
  const vms = distinct(await Promise.all(found), held)
  const requests = distinct(await Promise.all(allocation.requests), held)
  const reservations = distinct([await allocation.reservations], held)
  const books = await completeBooks(client, wantedBooks(poolRows, wanted, await allocation.changes))
  return {
    found: {
      nowMs: Math.max(clockMs ?? now_ms, wanted.nowMs, ...poolRows.map(({ at_ms }) => at_ms)),
      installation: installationRow,
      users: [...(await users), ...(await byEmail)],
      tokens: (await Promise.all(tokens)).flat(),
      answers: (await Promise.all(answers)).flat(),
      pools: poolRows,
      vms: vms.map((row) => row.slice(0, VM_COLUMNS.length)),
      leases: vms
        .map((row) => row.slice(VM_COLUMNS.length))
        .filter(([vmId]) => vmId !== undefined && vmId !== null),
      requests,
      reservations,
      usage: await Promise.all(allocation.usage),
      books: books.books,
      ready: await Promise.all(
        ready.flatMap(({ pool, type, vms }) => {
          const poolId = idOf.get(pool)
          if (poolId === undefined) return []
          return [vms.then((rows) => ({ poolId, type, vmIds: rows.map((vm) => vm[0] as number) }))]
        }),
      ),
      census: await census,
    },
    statements: flight.sent + books.statements,
  }
}

function holdPools(flight: Flight, wanted: WantedRows): Promise<readonly Row[]> {
  const ids = [
    ...wanted.poolIds,
    ...wanted.removable.map(([poolId]) => poolId),
    ...wanted.due.map(([poolId]) => poolId),
    ...wanted.dueLeases.map(([poolId]) => poolId),
    ...wanted.dueRequests.map(([poolId]) => poolId),
  ]
  const names = [
    ...wanted.poolNames,
    ...wanted.readyAny.filter((name) => !wanted.poolNames.includes(name)),
    ...wanted.readyOfType.map(([name]) => name),
  ]
  if (wanted.allPools || wanted.standing > 0) return flight.rows(SQL.holdAllPools, [])
  const { vmIds, heldBy, requestIds, reservationIds } = wanted
  if (vmIds.length + heldBy.length + requestIds.length + reservationIds.length > 0)
    return flight.rows(SQL.holdPools, [
      texts(names),
      numbers(ids),
      numbers(vmIds),
      numbers(heldBy.map(([userId]) => userId)),
      texts(requestIds),
      texts(reservationIds),
    ])
  if (names.length === 0 && ids.length === 0) return Promise.resolve([])
  return flight.rows(SQL.holdNamedPools, [texts(names), numbers(ids)])
}

/** Each row once. A row of a pool that is not held came between two statements: the batch has to begin again. */
function distinct(lists: readonly (readonly Tuple[])[], held: ReadonlySet<number>): Tuple[] {
  const found = new Map<string | number | null, Tuple>()
  for (const list of lists)
    for (const row of list) {
      const [id = null, poolId] = row
      if (!held.has(poolId as number))
        throw new StoreConflict(`${id} came into a pool that the batch does not hold`)
      // Where a machine is found twice, it is once without its lease.
      if (row.length >= (found.get(id)?.length ?? 0)) found.set(id, row)
    }
  return [...found.values()]
}

async function countAll(flight: Flight): Promise<{ users: number; vms: number }> {
  const users = flight.rows(SQL.countUsers, [])
  const tallies = flight.rows(SQL.tallies, [])
  let vms = 0
  for (const { tally } of await tallies)
    for (const states of Object.values(JSON.parse(tally) as Record<string, Record<string, number>>))
      for (const count of Object.values(states)) vms += count
  return { users: (await users)[0].n, vms }
}
