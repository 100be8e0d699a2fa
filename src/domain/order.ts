/**
 * The order of a pool's fair queue: start-time fair queueing with one tag for each user who waits (a flow). A grant moves its
 * flow's tag on by what it costs (machine-minutes by weight), and the least tag comes first: shares are of grants from now on.
 * Waiting requests of one flow for the same kinds and length are a row. A row whose first request has seen enough departures is
 * overdue, and overdue rows come before all others: so age always wins in the end, and nobody starves.
 *
 * Only grants, and the settling of accounts at check-in, move tags: a cancelled request costs nothing. Whoever does not wait
 * saves nothing up: the tag begins at the pool's virtual time again.
 */
import type { Pool, QueueState } from './pool.ts'
import type { Priority, Request } from './request.ts'
import { type ClassKey, classOf } from './vm-class.ts'
import type { Placement } from './wish.ts'

/** No more than so much of a lease is charged when it begins or is extended. */
const CHARGED_MINUTES_MAX = 24 * 60

/** What a lease without end is charged as long as the pool has seen none come back. */
const HOLD_MINUTES_DEFAULT = 60

/** A lease that lasts longer than it was charged for is charged at most so many times as much in the end. */
const TRUE_UP_MAX = 4

/** What one machine of a class costs: its unit for each minute of the lease; without end: for as long as leases of the pool last. */
export function chargeOf(pool: Pool, classKey: ClassKey, durationSeconds: number | null): number {
  const { n, mean } = pool.queue.holds
  const minutes = durationSeconds !== null ? durationSeconds / 60 : n > 0 ? mean : HOLD_MINUTES_DEFAULT
  return Math.min(CHARGED_MINUTES_MAX, minutes) * unitOf(pool, classKey)
}

/** What a grant costs. */
export function costOf(pool: Pool, placement: Placement, durationSeconds: number | null): number {
  let cost = 0
  for (const { classKey, count } of placement) cost += count * chargeOf(pool, classKey, durationSeconds)
  return cost
}

function unitOf(pool: Pool, classKey: ClassKey): number {
  return pool.units[classOf(classKey).type] ?? 1
}

/** What a request's cost is divided by. It does not bring the request forward; it makes the ones behind it cheaper. */
export function weightOf(pool: Pool, priority: Priority): number {
  return pool.weights[priority]
}

/** The tag of a flow that begins to wait: it brings nothing along from the time when it did not. */
export function activeTag(tag: number, v: number): number {
  return Math.max(tag, v)
}

/** The tag after a grant or an extension. */
export function chargedTag(tag: number, minutes: number, weight: number): number {
  return tag + minutes / weight
}

/**
 * The tag after a lease ended: what was charged is replaced by what was used. It never falls below the virtual time, or somebody
 * who gives back early would get ahead of those who are served now.
 */
export function truedTag(
  tag: number,
  v: number,
  lease: { readonly chargedMinutes: number; readonly weight: number },
  usedMinutes: number,
): number {
  const used = Math.min(usedMinutes, TRUE_UP_MAX * lease.chargedMinutes)
  return Math.max(v, tag + (used - lease.chargedMinutes) / lease.weight)
}

/** What one machine of a class has cost in the end, by how long it was held. */
export function usedMinutes(pool: Pool, classKey: ClassKey, heldMs: number): number {
  return (heldMs / 60_000) * unitOf(pool, classKey)
}

/**
 * The queue after a grant to a flow that had `tag`, when the least tag that still waits is `leastTag`: the virtual time is the
 * tag in service, held back while somebody with a lower one waits, so that a small request that passes does not push it on.
 */
export function departed(queue: QueueState, tag: number, leastTag: number): QueueState {
  return { ...queue, departed: queue.departed + 1, v: Math.max(queue.v, Math.min(tag, leastTag)) }
}

/** At how many departures a row is overdue that begins to wait now, or whose next request does, beside so many rows. */
export function dueAfter(departures: number, rows: number): number {
  return departures + 32 + 4 * rows
}

/** What decides the place of a row: its flow's tag, when it is overdue, and the number of its first request. */
export interface Place {
  readonly tag: number
  readonly due: number | null
  readonly seq: number
}

export function isOverdue(place: Place, departures: number): boolean {
  return place.due !== null && place.due <= departures
}

/** Before 0: `a` comes first. Overdue rows by when they became it, then the others by tag; by arrival where equal. */
export function comparePlaces(a: Place, b: Place, departures: number): number {
  const aOverdue = isOverdue(a, departures)
  if (aOverdue !== isOverdue(b, departures)) return aOverdue ? -1 : 1
  return aOverdue ? compareDues(a, b) : compareTags(a, b)
}

export function compareTags(a: Place, b: Place): number {
  return a.tag - b.tag || a.seq - b.seq
}

/** Rows that are never overdue come last. */
export function compareDues(a: Place, b: Place): number {
  if (a.due === b.due) return a.seq - b.seq
  return (a.due ?? Number.POSITIVE_INFINITY) - (b.due ?? Number.POSITIVE_INFINITY)
}

const RANKS: Readonly<Record<Priority, number>> = { high: 0, normal: 1, low: 2 }

/** The order inside a row: by priority, then by arrival. */
export function compareRequests(
  a: { readonly priority: Priority; readonly seq: number },
  b: { readonly priority: Priority; readonly seq: number },
): number {
  return RANKS[a.priority] - RANKS[b.priority] || a.seq - b.seq
}

/** What a request will cost its flow, as far as it is known before it is granted. */
export function expectedCost(pool: Pool, { wish, terms, priority }: Request): number {
  let cost = 0
  for (const { type, count } of wish) cost += count * chargeOf(pool, type ?? '', terms.durationSeconds)
  return cost / weightOf(pool, priority)
}
