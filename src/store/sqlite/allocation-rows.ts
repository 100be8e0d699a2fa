/**
 * Leases, requests, flows, reservations and books on the writer's connection: what a batch loads of them, and how it saves them.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { type ClassKey, classOf } from '../../domain/vm-class.ts'
import type { VmType } from '../../domain/vm-type.ts'
import type { MoreNeeds, Usage } from '../../domain/working-set.ts'
import type { ChangedRows, FoundMore, WantedRows } from '../batch-rows.ts'
import { BOOK_VMS, type FoundBook, isBookWanted } from '../book.ts'
import { LEASE_COLUMNS } from '../lease.ts'
import { FLOW_COLUMNS, REQUEST_COLUMNS } from '../request.ts'
import { RESERVATION_COLUMNS } from '../reservation.ts'
import type { Statement } from '../statement.ts'
import { queueOf, type Tables, type Tuple, VM_COLUMNS } from '../tables.ts'
import { usageArguments, usageOf, usageStatements } from '../usage.ts'

/** Columns of a lease that never change. */
const LEASE_FIXED = 5

export class AllocationRows {
  readonly #sql: ReturnType<typeof prepare>

  constructor(db: DatabaseSync) {
    this.#sql = prepare(db)
  }

  /** The lease that runs on each of these machines that is held. */
  leasesOf(vms: readonly Tuple[]): Tuple[] {
    const leases: Tuple[] = []
    const [generationAt, holderAt] = [VM_COLUMNS.indexOf('generation'), VM_COLUMNS.indexOf('holder_id')]
    for (const vm of vms) {
      if (vm[holderAt] === null) continue
      const lease = this.#sql.lease.get(vm[0] as number, vm[generationAt] as number)
      if (lease !== undefined) leases.push(lease as unknown as Tuple)
    }
    return leases
  }

  /** Machines whose leases are due for a worker, the longest due first. */
  dueLeases(poolId: number, nowMs: number, rowsMax: number): number[] {
    return this.#tuples(this.#sql.dueLeases, poolId, nowMs, rowsMax).map((row) => row[0] as number)
  }

  /** The requests that a batch wants: those that it names, and those whose time to wait is over. */
  requests({ requestIds, dueRequests, nowMs }: WantedRows): Tuple[] {
    const { request, dueRequest } = this.#sql
    const found = new Map<string, Tuple>()
    for (const id of requestIds) for (const row of this.#tuples(request, id)) found.set(row[0] as string, row)
    for (const [poolId, rowsMax] of dueRequests)
      for (const row of this.#tuples(dueRequest, poolId, nowMs, rowsMax)) found.set(row[0] as string, row)
    return [...found.values()]
  }

  reservations({ reservationIds }: WantedRows): Tuple[] {
    return reservationIds.flatMap((id) => this.#tuples(this.#sql.reservation, id))
  }

  /** Ready machines of a type with the lowest ids, of whichever of the pool's classes. */
  readyOfType(pool: Tables['pool'], type: VmType, rowsMax: number): Tuple[] {
    const classes = Object.keys(JSON.parse(pool.tally) as object).filter((key) => classOf(key).type === type)
    const found = classes.map((key) => this.readyOfClass(pool.id, key, rowsMax))
    if (found.length <= 1) return found[0] ?? []
    return found
      .flat()
      .sort((a, b) => (a[0] as number) - (b[0] as number))
      .slice(0, rowsMax)
  }

  readyOfClass(poolId: number, vmClass: ClassKey, rowsMax: number): Tuple[] {
    return this.#tuples(this.#sql.readyOfClass, poolId, vmClass, rowsMax)
  }

  /** The books of those of these pools that are contended, whose book was asked for by name, or is current where it is asked from. */
  books(pools: Iterable<Tables['pool']>, wanted: Pick<WantedRows, 'books' | 'bookVersions'>): FoundBook[] {
    const versions = new Map(wanted.bookVersions)
    return [...pools].flatMap((row) => {
      const version = versions.get(row.id) ?? 0
      const isCurrent = version > 0 && version === queueOf(row).version
      return isCurrent || isBookWanted(row, wanted.books) ? [this.#book(row, version)] : []
    })
  }

  usage(userIds: readonly number[], nowMs: number): Usage[] {
    return userIds.map((userId) => this.#usage(userId, nowMs))
  }

  more(needs: MoreNeeds, nowMs: number): FoundMore {
    const sql = this.#sql
    const vms = needs.vmIds.flatMap((id) => this.#tuples(sql.vm, id))
    return {
      books: needs.books.flatMap(([poolId, version]) => {
        const row = sql.pool.get(poolId)
        return row === undefined ? [] : [this.#book(row as unknown as Tables['pool'], version)]
      }),
      ready: needs.ready.map(([poolId, vmClass, rowsMax]) => this.readyOfClass(poolId, vmClass, rowsMax)),
      vms,
      leases: this.leasesOf(vms),
      users: needs.userIds.flatMap((id) => (sql.user.get(id) ?? []) as unknown as Tables['user']),
      usage: this.usage(needs.usageOf, nowMs),
    }
  }

  save(changed: ChangedRows): void {
    const sql = this.#sql
    for (const lease of changed.newLeases) sql.insertLease.run(...lease)
    for (const lease of changed.leases) {
      const [vmId, generation] = lease
      const { changes } = sql.updateLease.run(
        ...lease.slice(LEASE_FIXED),
        vmId as number,
        generation as number,
      )
      if (changes !== 1) throw new Error(`the lease of VM ${vmId} at generation ${generation} does not run`)
    }
    for (const request of changed.requests) sql.saveRequest.run(...request)
    for (const flow of changed.flows) sql.saveFlow.run(...flow)
    for (const reservation of changed.reservations) sql.saveReservation.run(...reservation)
  }

  wipe(): void {
    for (const statement of this.#sql.wipe) statement.run()
  }

  #book(row: Tables['pool'], version: number): FoundBook {
    const present = queueOf(row).version
    const found = { poolId: row.id, version: present, changes: [] }
    if (version > 0 && version === present) return { ...found, rows: null }
    const sql = this.#sql
    return {
      ...found,
      rows: {
        pool: row,
        vms: this.#tuples(sql.bookVms, row.id),
        requests: this.#tuples(sql.waiting, row.id),
        flows: this.#tuples(sql.flows, row.id),
        reservations: [...this.#tuples(sql.confirmed, row.id), ...this.#tuples(sql.active, row.id)],
      },
    }
  }

  #usage(userId: number, nowMs: number): Usage {
    const args: Record<string, number> = usageArguments(userId, nowMs)
    const rows = ({ statement, names }: Asked) =>
      this.#tuples(statement, ...names.map((name) => args[name] as number))
    const { held, used, waiting } = this.#sql.usage
    return usageOf(userId, { held: rows(held), used: rows(used), waiting: rows(waiting) })
  }

  #tuples(statement: StatementSync, ...args: (string | number)[]): Tuple[] {
    return statement.all(...args) as unknown as Tuple[]
  }
}

/** A statement with the names of its arguments. */
interface Asked {
  readonly statement: StatementSync
  readonly names: readonly string[]
}

function prepare(db: DatabaseSync) {
  const tuples = (sql: string): StatementSync => {
    const statement = db.prepare(sql)
    statement.setReturnArrays(true)
    return statement
  }
  const asked = ({ sql, argumentNames }: Statement<Tuple>): Asked => ({
    statement: tuples(sql),
    names: argumentNames,
  })
  const [lease, request, flow, reservation] = [
    LEASE_COLUMNS,
    REQUEST_COLUMNS,
    FLOW_COLUMNS,
    RESERVATION_COLUMNS,
  ].map((columns) => columns.join(', '))
  const usage = usageStatements('sqlite')
  return {
    pool: db.prepare('SELECT * FROM pool WHERE id = ?'),
    user: db.prepare('SELECT * FROM user WHERE id = ?'),
    vm: tuples(`SELECT ${VM_COLUMNS.join(', ')} FROM vm WHERE id = ?`),
    lease: tuples(`SELECT ${lease} FROM lease WHERE vm_id = ? AND generation = ? AND ended_at_ms IS NULL`),
    dueLeases: tuples(
      `SELECT vm_id FROM lease WHERE pool_id = ? AND due_at_ms IS NOT NULL AND due_at_ms <= ?
       ORDER BY due_at_ms LIMIT ?`,
    ),
    request: tuples(`SELECT ${request} FROM request WHERE id = ?`),
    dueRequest: tuples(
      `SELECT ${request} FROM request WHERE pool_id = ? AND state = 'waiting' AND until_ms <= ?
       ORDER BY until_ms LIMIT ?`,
    ),
    reservation: tuples(`SELECT ${reservation} FROM reservation WHERE id = ?`),
    readyOfClass: tuples(
      `SELECT ${VM_COLUMNS.join(', ')} FROM vm WHERE pool_id = ? AND class = ? AND state = 'ready'
       ORDER BY id LIMIT ?`,
    ),
    bookVms: tuples(`${BOOK_VMS} ?`),
    waiting: tuples(`SELECT ${request} FROM request WHERE pool_id = ? AND state = 'waiting'`),
    flows: tuples(`SELECT ${flow} FROM flow WHERE pool_id = ?`),
    confirmed: tuples(`SELECT ${reservation} FROM reservation WHERE pool_id = ? AND state = 'confirmed'`),
    active: tuples(`SELECT ${reservation} FROM reservation WHERE pool_id = ? AND state = 'active'`),
    usage: { held: asked(usage.held), used: asked(usage.used), waiting: asked(usage.waiting) },

    insertLease: db.prepare(`INSERT INTO lease (${lease}) VALUES (${places(LEASE_COLUMNS)})`),
    updateLease: db.prepare(
      `UPDATE lease SET ${LEASE_COLUMNS.slice(LEASE_FIXED)
        .map((column) => `${column} = ?`)
        .join(', ')} WHERE vm_id = ? AND generation = ? AND ended_at_ms IS NULL`,
    ),
    saveRequest: db.prepare(upsertInto('request', REQUEST_COLUMNS, ['id'])),
    saveFlow: db.prepare(upsertInto('flow', FLOW_COLUMNS, ['pool_id', 'user_id'])),
    saveReservation: db.prepare(upsertInto('reservation', RESERVATION_COLUMNS, ['id'])),
    wipe: ['lease', 'request', 'flow', 'reservation'].map((table) => db.prepare(`DELETE FROM ${table}`)),
  }
}

function places(columns: readonly string[]): string {
  return columns.map(() => '?').join(', ')
}

function upsertInto(table: string, columns: readonly string[], key: readonly string[]): string {
  const edits = columns.filter((column) => !key.includes(column)).map((name) => `${name} = excluded.${name}`)
  return `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${places(columns)})
    ON CONFLICT (${key.join(', ')}) DO UPDATE SET ${edits.join(', ')}`
}
