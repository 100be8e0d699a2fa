/**
 * Where a request stands in its pool's queue, and when it will be its turn. The place is counted as the fair queue would serve
 * everybody from now on; the time is an estimate of which it is said how sure it is and what it rests on. Both are read from the
 * book, at a cost that grows with the rows that wait, not with the requests.
 */
import type { Book, BookClass } from './book.ts'
import { comparePlaces, expectedCost } from './order.ts'
import { headOf, type Row } from './queue.ts'

/** What other users were granted lately. */
export interface Arrivals {
  readonly machinesPerMinute: number
  readonly users: number
}

/** promised: it is granted by then unless machines fail; likely: many leases were seen, and few are before it; rough: anything else. */
type Sureness = 'promised' | 'likely' | 'rough'

type Ground = 'ends' | 'observed holds' | 'arrivals' | 'being made' | 'cleaning'

export interface Outlook {
  readonly earliestAtMs: number
  readonly likelyAtMs: number
  readonly latestAtMs: number
  readonly sure: Sureness
  readonly restsOn: readonly Ground[]
}

/** Of a request that waits: 1 is the next to be granted. */
export function positionOf(book: Book, requestId: string): number | null {
  const before = countBefore(book, requestId)
  return before === null ? null : before.requests + 1
}

/** What is before a request: requests of others and of its own user, and the machines that these want of the classes that it may use. */
interface Before {
  readonly requests: number
  readonly own: number
  readonly machines: number
}

function countBefore(book: Book, requestId: string): Before | null {
  const row = book.queue.rowOf(requestId)
  if (row === null || row.parked) return null
  const index = row.requests.findIndex(({ id }) => id === requestId)
  const own = countOwn(row, index)
  const rivals = new Set(book.classesOf(row.group))
  const { departed } = book.pool.queue
  const isOverdueHead = index === 0 && book.queue.isOverdue(row, departed)
  const tag = row.flow.tag + own.cost(book)
  let requests = isOverdueHead ? 0 : own.requests
  let machines = isOverdueHead ? 0 : own.machines
  for (const flow of book.queue.flows.values()) {
    if (flow === row.flow) continue
    const rows = [...flow.rows].filter(({ parked }) => !parked)
    if (rows.length === 0) continue
    const overdue = rows.filter((other) => isBeforeAsOverdue(book, other, isOverdueHead ? row : null))
    const byShare = isOverdueHead || flow.tag > tag ? 0 : served(book, rows, tag - flow.tag)
    const waiting = rows.reduce((sum, { requests: all }) => sum + all.length, 0)
    const passed = Math.min(waiting, Math.max(byShare, overdue.length))
    requests += passed
    machines += (passed / waiting) * machinesWanted(book, rows, rivals)
  }
  return { requests, own: own.requests, machines }
}

/** Whether a row is overdue, and before `other` if that is. */
function isBeforeAsOverdue(book: Book, row: Row, other: Row | null): boolean {
  const { departed } = book.pool.queue
  if (!book.queue.isOverdue(row, departed)) return false
  return other === null || comparePlaces(placeOf(row), placeOf(other), departed) < 0
}

function placeOf(row: Row): { tag: number; due: number | null; seq: number } {
  return { tag: row.flow.tag, due: row.due, seq: headOf(row).seq }
}

/** How many requests of a flow are granted until its tag has moved on by so much. */
function served(book: Book, rows: readonly Row[], tags: number): number {
  let waiting = 0
  let cost = 0
  for (const row of rows) {
    waiting += row.requests.length
    cost += row.requests.length * expectedCost(book.pool, headOf(row))
  }
  const mean = cost / waiting
  return Math.min(waiting, mean === 0 ? waiting : Math.floor(tags / mean) + 1)
}

/** The machines that rows want, as far as they may take them from some of these classes. */
function machinesWanted(book: Book, rows: readonly Row[], classes: ReadonlySet<BookClass>): number {
  let machines = 0
  for (const { group, requests } of rows)
    if (book.classesOf(group).some((vmClass) => classes.has(vmClass)))
      machines += group.count * requests.length
  return machines
}

/** The requests of the same user that come before the one at `index` of a row. */
function countOwn(row: Row, index: number) {
  const { seq } = row.requests[index] ?? headOf(row)
  const before = [...row.flow.rows].flatMap((other) => {
    if (other.parked) return []
    const count = other === row ? index : other.requests.filter((request) => request.seq < seq).length
    return count === 0 ? [] : [{ row: other, count }]
  })
  return {
    requests: before.reduce((sum, { count }) => sum + count, 0),
    machines: before.reduce((sum, { row: { group }, count }) => sum + group.count * count, 0),
    cost: (book: Book) =>
      before.reduce((sum, { row: other, count }) => sum + count * expectedCost(book.pool, headOf(other)), 0),
  }
}

/** Leases that have to have been seen before they say something. */
const HOLDS_MIN = 20

/** More machines than that before a request make the time a rough one. */
const MACHINES_SURE = 50

const MINUTE_MS = 60_000

/** When a request is likely to be granted; null: nothing is known of the leases that it waits for, or it is parked. */
export function estimateOf(book: Book, requestId: string, arrivals: Arrivals, nowMs: number): Outlook | null {
  const row = book.queue.rowOf(requestId)
  const before = countBefore(book, requestId)
  if (row === null || before === null) return null
  const promised = book.promises.find(
    (promise) => promise.requestId === requestId && promise.kind === 'timed',
  )
  const classes = book.classesOf(row.group)
  const { n, mean, m2 } = book.pool.queue.holds
  const perMinute = n === 0 ? 0 : endingOf(book, classes) / (mean + book.marginMs(classes) / MINUTE_MS)
  if (perMinute === 0) {
    if (promised === undefined) return null
    const atMs = promised.fromMs
    return { earliestAtMs: nowMs, likelyAtMs: atMs, latestAtMs: atMs, sure: 'promised', restsOn: ['ends'] }
  }
  const ready = classes.reduce((sum, vmClass) => sum + vmClass.ready, 0)
  const machines = Math.max(0, before.machines + row.group.count - ready)
  const variation = n > 1 && mean > 0 ? m2 / (n - 1) / mean ** 2 : 1
  const deviation = (1.28 * Math.sqrt(machines * Math.max(0.3, variation))) / perMinute
  const share = perMinute / (arrivals.users + 1)
  const ownMinutes = before.own / Math.max(share, perMinute - arrivals.machinesPerMinute)
  const likely = Math.max(machines / perMinute, ownMinutes)
  const latest = Math.max(likely, (1.25 * (before.own + 1)) / share) + deviation
  const atMs = (minutes: number) => nowMs + Math.round(Math.max(0, minutes) * MINUTE_MS)
  const latestAtMs = promised?.fromMs ?? atMs(latest)
  const isLikely = n >= HOLDS_MIN && machines <= MACHINES_SURE
  return {
    earliestAtMs: Math.min(latestAtMs, atMs(machines / perMinute - deviation)),
    likelyAtMs: Math.min(latestAtMs, atMs(likely)),
    latestAtMs,
    sure: promised !== undefined ? 'promised' : isLikely ? 'likely' : 'rough',
    restsOn: groundsOf(book, classes, arrivals),
  }
}

/** Machines of some classes that are leased until a known time. */
function endingOf(book: Book, classes: readonly BookClass[]): number {
  const keys = new Set(classes.map(({ key }) => key))
  let count = 0
  for (const vm of book.vms.values())
    if (vm.state === 'leased' && vm.freeAtMs !== null && keys.has(vm.class)) count++
  return count
}

function groundsOf(book: Book, classes: readonly BookClass[], arrivals: Arrivals): Ground[] {
  const keys = new Set(classes.map(({ key }) => key))
  const states = new Set<string>()
  for (const { class: key, state } of book.vms.values()) if (keys.has(key)) states.add(state)
  const grounds: Ground[] = ['ends', 'observed holds']
  if (arrivals.users > 0) grounds.push('arrivals')
  if (states.has('provisioning')) grounds.push('being made')
  if (states.has('maintenance')) grounds.push('cleaning')
  return grounds
}
