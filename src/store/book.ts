/**
 * What a store loads of a pool's book (domain/book.ts): nothing when the server's is current, what batches changed since where
 * that is kept, else all there is.
 */
import type { BookChange, BookVm } from '../domain/book.ts'
import { isContended, type Pool } from '../domain/pool.ts'
import type { Flow } from '../domain/request.ts'
import type { VmState } from '../domain/vm.ts'
import type { LoadedBook } from '../domain/working-set.ts'
import { flowOf, requestOf } from './request.ts'
import { reservationOf } from './reservation.ts'
import { poolOf, queueOf, type Tables, type Tuple } from './tables.ts'

/**
 * The machines of a pool that are neither ready nor being destroyed, each with what `bookVmOf` takes. Where a lease without end
 * is soft, it says since when and how long it is kept.
 */
export const BOOK_VMS = `
  SELECT vm.id, vm.class, vm.state, vm.free_at_ms, vm.holder_id, soft.soft_grace_seconds, soft.from_ms
  FROM vm LEFT JOIN lease AS soft ON soft.vm_id = vm.id AND soft.generation = vm.generation AND soft.ended_at_ms IS NULL
    AND soft.ends_at_ms IS NULL AND soft.soft_grace_seconds IS NOT NULL
  WHERE vm.state <> 'ready' AND vm.state <> 'deleting' AND vm.pool_id = `

/** All rows that a book is made of. */
interface BookRows {
  readonly pool: Tables['pool']
  readonly vms: readonly Tuple[]
  readonly requests: readonly Tuple[]
  readonly flows: readonly Tuple[]
  readonly reservations: readonly Tuple[]
}

/** A book as a store found it: `rows` null when what was changed since is all that is missing. */
export interface FoundBook {
  readonly poolId: number
  readonly version: number
  /** The texts of the changes, in order. */
  readonly changes: readonly { readonly version: number; readonly change: string }[]
  readonly rows: BookRows | null
}

/** Whether the book of a pool is to be loaded with it. */
export function isBookWanted(row: Tables['pool'], wantedNames: readonly string[]): boolean {
  return wantedNames.includes(row.name) || isContended({ queue: queueOf(row) })
}

export function loadedBook({ poolId, version, changes, rows }: FoundBook): LoadedBook {
  return {
    poolId,
    version,
    changes: changes.map(({ version, change }) => ({ version, change: JSON.parse(change) as BookChange })),
    whole: rows === null ? null : wholeBook(rows),
  }
}

function wholeBook({ pool: row, vms, requests, flows, reservations }: BookRows): BookChange {
  const { pool, tally } = poolOf(row)
  const waiting = requests.map(requestOf)
  return {
    pool,
    tally,
    vms: vms.map(bookVmOf),
    gone: [],
    requests: waiting,
    flows: flowsInUse(flows.map(flowOf), pool, new Set(waiting.map(({ userId }) => userId))),
    reservations: reservations.map(reservationOf),
  }
}

/** Flows that differ from one that begins anew: of those who wait, or whose tag is ahead of the pool's virtual time. */
function flowsInUse(flows: readonly Flow[], pool: Pool, waiting: ReadonlySet<number>): Flow[] {
  return flows.filter(({ userId, tag }) => tag > pool.queue.v || waiting.has(userId))
}

function bookVmOf(row: Tuple): BookVm {
  const graceSeconds = row[5] as number | null
  return {
    id: row[0] as number,
    class: row[1] as string,
    state: row[2] as VmState,
    freeAtMs: row[3] as number | null,
    holderId: row[4] as number | null,
    soft: graceSeconds === null ? null : { graceSeconds, fromMs: row[6] as number },
  }
}
