import { countUp, type QueueState, type Tally } from '../domain/pool.ts'
import { VM_STATES, type VmState } from '../domain/vm.ts'
import { classOf } from '../domain/vm-class.ts'
import { VM_COLUMNS } from './tables.ts'
import { shown, type TransferRow, type TransferTable } from './transfer.ts'

interface PoolCounts {
  readonly name: string
  readonly tally: Tally
  readonly counted: Tally
  readonly queue: Partial<QueueState>
  waiting: number
  booked: number
}

const STANDING: readonly string[] = ['confirmed', 'active']

/** What rows say of each other, as far as it can be seen while they pass: users and pools are remembered, machines are counted. */
export class Wholeness {
  readonly #users = new Set<number>()
  readonly #emails = new Set<string>()
  readonly #hashes = new Set<string>()
  readonly #pools = new Map<number, PoolCounts>()
  readonly #names = new Set<string>()
  #types: readonly string[] = []
  #installation: TransferRow | null = null
  #lastVmId = 0
  #held = 0
  #openLeases = 0

  /** What is wrong with this row, given those before it. */
  add(table: TransferTable, row: TransferRow): string | null {
    if (table === 'installation') return this.#addInstallation(row)
    if (table === 'user') return this.#addUser(row)
    if (table === 'token') return this.#addToken(row)
    if (table === 'pool') return this.#addPool(row)
    if (table === 'vm') return this.#addVm(row)
    if (table === 'lease') return this.#addLease(row)
    if (table === 'request')
      return this.#addOfUser(table, row.slice(1), row[7] === 'waiting' ? 'waiting' : null)
    if (table === 'flow') return this.#addOfUser(table, row, null)
    if (table === 'reservation')
      return this.#addOfUser(table, row.slice(1), STANDING.includes(`${row[7]}`) ? 'booked' : null)
    return null
  }

  /** What is wrong with all of them together. */
  reason(): string | null {
    if (this.#installation === null) return 'there is no row of installation'
    const [, , nextUserId, nextVmId, nextPoolId] = this.#installation as readonly number[]
    const last = (ids: Iterable<number>) => [...ids].at(-1) ?? 0
    if ((nextUserId ?? 0) <= last(this.#users)) return 'next_user_id is the id of a user'
    if ((nextVmId ?? 0) <= this.#lastVmId) return 'next_vm_id is the id of a machine'
    if ((nextPoolId ?? 0) <= last(this.#pools.keys())) return 'next_pool_id is the id of a pool'
    for (const { name, tally, counted } of this.#pools.values())
      for (const key of new Set([...Object.keys(tally), ...Object.keys(counted)]))
        for (const state of VM_STATES) {
          const [said, found] = [tally[key]?.[state] ?? 0, counted[key]?.[state] ?? 0]
          if (said !== found)
            return `pool ${shown(name)} counts ${said} ${key} machines in state ${state}, and there are ${found}`
        }
    for (const { name, queue, waiting, booked } of this.#pools.values())
      for (const [what, said, found] of [
        ['waiting requests', queue.waiting ?? 0, waiting],
        ['standing reservations', queue.booked ?? 0, booked],
      ] as const)
        if (said !== found) return `pool ${shown(name)} counts ${said} ${what}, and there are ${found}`
    if (this.#held !== this.#openLeases)
      return `${this.#held} machines are held, and ${this.#openLeases} leases have not ended`
    return null
  }

  #addInstallation(row: TransferRow): string | null {
    if (row[0] !== 1) return 'installation.id is not 1'
    this.#types = Object.keys(JSON.parse(row[6] as string) as object)
    this.#installation = row
    return null
  }

  #addUser([id, , email, , , , state]: TransferRow): string | null {
    this.#users.add(id as number)
    if (state !== 'active') return null
    if (this.#emails.has(email as string)) return `user.email ${shown(email)} is another active user’s`
    this.#emails.add(email as string)
    return null
  }

  #addToken([id, userId, , hash]: TransferRow): string | null {
    if (!this.#users.has(userId as number)) return `token.user_id ${userId} is no user’s`
    if (this.#hashes.has(hash as string)) return `token.hash of ${shown(id)} is another token’s`
    this.#hashes.add(hash as string)
    return null
  }

  #addPool([id, name, , , , , tally, , , queue]: TransferRow): string | null {
    if (this.#names.has(name as string)) return `pool.name ${shown(name)} is another pool’s`
    this.#names.add(name as string)
    this.#pools.set(id as number, {
      name: name as string,
      tally: JSON.parse(tally as string) as Tally,
      counted: {},
      queue: JSON.parse(queue as string) as Partial<QueueState>,
      waiting: 0,
      booked: 0,
    })
    return null
  }

  #addVm(row: TransferRow): string | null {
    const [id, poolId, , type, , , state, , holderId] = row
    const vmClass = row[VM_COLUMNS.indexOf('class')] as string
    const pool = this.#pools.get(poolId as number)
    if (pool === undefined) return `vm.pool_id ${poolId} is no pool’s`
    if (holderId !== null && !this.#users.has(holderId as number))
      return `vm.holder_id ${holderId} is no user’s`
    if (this.#installation !== null && !this.#types.includes(type as string))
      return `vm.type is ${shown(type)}, none of ${this.#types.join(', ')}`
    if ((state === 'leased') !== (holderId !== null))
      return `vm.holder_id is ${shown(holderId)} in state ${state}`
    if (classOf(vmClass).type !== type) return `vm.class ${shown(vmClass)} is none of type ${shown(type)}`
    countUp(pool.counted, vmClass, state as VmState, 1)
    this.#lastVmId = id as number
    if (holderId !== null) this.#held++
    return null
  }

  /** A row that begins with its pool and its user. */
  #addOfUser(
    table: TransferTable,
    [poolId, userId]: TransferRow,
    counts: 'waiting' | 'booked' | null,
  ): string | null {
    const pool = this.#pools.get(poolId as number)
    if (pool === undefined) return `${table}.pool_id ${poolId} is no pool’s`
    if (!this.#users.has(userId as number)) return `${table}.user_id ${userId} is no user’s`
    if (counts !== null) pool[counts]++
    return null
  }

  #addLease([, , poolId, userId, , endedAtMs]: TransferRow): string | null {
    if (!this.#pools.has(poolId as number)) return `lease.pool_id ${poolId} is no pool’s`
    if (!this.#users.has(userId as number)) return `lease.user_id ${userId} is no user’s`
    if (endedAtMs === null) this.#openLeases++
    return null
  }
}
