/**
 * How a pool is looked at: what its book says of requests that wait, of who comes first, and of what is free when. Nothing changes.
 * It is a command because a book is used by one batch at a time.
 */
import type { Book } from './book.ts'
import type { Rule } from './decision.ts'
import { type Explanation, explain } from './explain.ts'
import { type FreeSpan, freeBusy } from './free-busy.ts'
import { estimateOf, positionOf } from './position.ts'
import { headOf, type Row } from './queue.ts'
import { refusal } from './refusal.ts'
import type { ClassKey } from './vm-class.ts'
import type { View } from './working-set.ts'

export interface LookAtPool {
  readonly kind: 'lookAtPool'
  /** The pool's name. */
  readonly pool: string
  /** Requests whose places are asked for. */
  readonly requestIds: readonly string[]
  /** True: and why they wait; and why the first of the pool does. */
  readonly why: boolean
  /** Machines that users were granted in the last so many minutes. */
  readonly granted: readonly (readonly [userId: number, machines: number])[]
  readonly grantedMinutes: number
  /** What providers said when they last failed on machines of the pool. */
  readonly providerErrors: readonly string[]
  /** When what is free is asked for; null: it is not. */
  readonly free: { readonly fromMs: number; readonly toMs: number } | null
}

/** What a book says of one request. */
export interface RequestLook {
  readonly position: number | null
  readonly outlook: ReturnType<typeof estimateOf>
  /** Holders are named by their ids. null: it was not asked for. */
  readonly explanation: Explanation | null
}

export interface PoolLook {
  readonly atMs: number
  readonly requests: ReadonlyMap<string, RequestLook>
  /** The request that comes first, when it was asked why it waits; null: nobody waits, or all are parked. */
  readonly first: { readonly id: string; readonly userId: number; readonly explanation: Explanation } | null
  readonly classes: readonly {
    readonly key: ClassKey
    readonly ready: number
    readonly usable: number
    readonly existing: number
  }[]
  readonly free: readonly FreeSpan[]
}

/** Refused: `pool_unknown`. */
export const lookAtPool: Rule<LookAtPool, PoolLook> = {
  needs({ pool }, needs) {
    needs.poolNames.add(pool)
    needs.books.add(pool)
  },

  decide(view, command) {
    const pool = view.poolNamed(command.pool)
    if (pool === undefined) return refusal('pool_unknown', { pool: command.pool })
    const book = view.book(pool.id)
    if (book === undefined) throw new Error(`the book of pool ${pool.id} was not loaded`)
    return { changes: { events: [] }, reply: lookOf(view, book, command) }
  },
}

function lookOf({ nowMs }: View, book: Book, command: LookAtPool): PoolLook {
  const { why, granted, grantedMinutes, providerErrors, free } = command
  const askedFor = new Set<number>()
  for (const { id, soft, freeAtMs } of book.vms.values())
    if (soft !== null && freeAtMs !== null) askedFor.add(id)
  const viewpoint = {
    holderOf: ({ holderId }: { readonly holderId: number | null }) =>
      holderId === null ? null : `${holderId}`,
    askedFor,
    providerErrors,
  }
  const explained = (id: string) => explain(book, id, viewpoint, nowMs)
  const requests = new Map<string, RequestLook>()
  for (const id of command.requestIds) {
    const row = book.queue.rowOf(id)
    if (row === null) continue
    const others = granted.filter(([userId]) => userId !== row.flow.userId)
    const machines = others.reduce((sum, [, count]) => sum + count, 0)
    const arrivals = { machinesPerMinute: machines / grantedMinutes, users: others.length }
    requests.set(id, {
      position: positionOf(book, id),
      outlook: estimateOf(book, id, arrivals, nowMs),
      explanation: why ? explained(id) : null,
    })
  }
  const head = why ? firstOf(book) : null
  const explanation = head === null ? null : explained(headOf(head).id)
  return {
    atMs: nowMs,
    requests,
    first:
      head === null || explanation === null
        ? null
        : { id: headOf(head).id, userId: head.flow.userId, explanation },
    classes: [...book.classes.values()].map(({ key, ready, usable, existing }) => ({
      key,
      ready,
      usable,
      existing,
    })),
    free: free === null ? [] : freeBusy(book, free.fromMs, free.toMs),
  }
}

/** The row that comes first of all; null: there is none that is not parked. */
function firstOf({ queue, pool }: Book): Row | null {
  let first: Row | null = null
  for (const group of queue.groups.values()) {
    const row = queue.firstOf(group, pool.queue.departed)
    if (row !== null && (first === null || queue.comparePlaces(row, first, pool.queue.departed) < 0))
      first = row
  }
  return first
}
