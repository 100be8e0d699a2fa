/**
 * The allocator's questions answered the slow way, from the machines, leases and reservations of a lab: by counting at every
 * step of the grid and by trying every placement. It shares no code with timelines, places and books.
 */
import type { Request } from '../../src/domain/request.ts'
import { type ClassKey, classOf } from '../../src/domain/vm-class.ts'
import { type Kind, stepMs, type Wish } from '../../src/domain/wish.ts'
import type { Lab } from '../support/lab.ts'

const DAY_MS = 86_400_000

/** How many machines of each class are free at each step of the grid from now on; the last value is for ever. */
export class Counts {
  readonly gridMs: number
  readonly startMs: number
  readonly #free = new Map<ClassKey, Int32Array>()
  readonly ready = new Map<ClassKey, number>()
  readonly #slots: number

  constructor(lab: Lab) {
    this.gridMs = lab.pool.gridSeconds * 1_000
    this.startMs = Math.floor(lab.nowMs / this.gridMs) * this.gridMs
    this.#slots = (3 * DAY_MS) / this.gridMs
    for (const { class: key, state, freeAtMs } of lab.vms.values()) {
      const free = this.#of(key)
      if (state === 'ready') {
        this.ready.set(key, (this.ready.get(key) ?? 0) + 1)
        this.#add(free, this.startMs, null, 1)
      } else if (state !== 'failed' && state !== 'cordoned' && freeAtMs !== null)
        this.#add(free, Math.ceil(freeAtMs / this.gridMs) * this.gridMs, null, 1)
    }
    for (const { state, pinned, fromMs, toMs } of lab.reservations.values())
      if (state === 'confirmed')
        for (const [key, count] of pinned)
          this.take(key, fromMs, toMs + lab.pool.marginSeconds * 1_000, count)
  }

  take(key: ClassKey, fromMs: number, toMs: number | null, count: number): void {
    this.#add(this.#of(key), fromMs, toMs, -count)
  }

  lowest(key: ClassKey, fromMs: number, toMs: number | null): number {
    const [from, to] = this.#window(fromMs, toMs)
    const free = this.#of(key)
    let lowest = Number.POSITIVE_INFINITY
    for (let slot = from; slot < to; slot++) lowest = Math.min(lowest, free[slot] as number)
    return lowest
  }

  at(key: ClassKey, ms: number): number {
    return this.#of(key)[Math.min(this.#slots, Math.floor((ms - this.startMs) / this.gridMs))] as number
  }

  get classKeys(): ClassKey[] {
    return [...this.#free.keys()]
  }

  /** By class: what is free now, and whenever it changes. */
  changes(nowMs: number): Record<ClassKey, [atMs: number, free: number][]> {
    return Object.fromEntries(
      [...this.#free].map(([key, free]) => {
        const changes: [number, number][] = [[nowMs, free[0] as number]]
        for (let slot = 1; slot <= this.#slots; slot++)
          if (free[slot] !== free[slot - 1])
            changes.push([this.startMs + slot * this.gridMs, free[slot] as number])
        return [key, changes]
      }),
    )
  }

  /** Now, and every later instant at which some class has more. */
  rises(nowMs: number, untilMs: number): number[] {
    const rises = new Set([nowMs])
    for (const free of this.#free.values())
      for (let slot = 1; slot <= this.#slots; slot++) {
        const ms = this.startMs + slot * this.gridMs
        if (ms > untilMs) break
        if ((free[slot] as number) > (free[slot - 1] as number)) rises.add(ms)
      }
    return [...rises].sort((a, b) => a - b)
  }

  #of(key: ClassKey): Int32Array {
    let free = this.#free.get(key)
    if (free === undefined) {
      free = new Int32Array(this.#slots + 1)
      this.#free.set(key, free)
    }
    return free
  }

  #add(free: Int32Array, fromMs: number, toMs: number | null, count: number): void {
    const [from, to] = this.#window(fromMs, toMs)
    for (let slot = from; slot < to; slot++) free[slot] = (free[slot] as number) + count
  }

  #window(fromMs: number, toMs: number | null): [number, number] {
    const slot = (value: number) => Math.min(this.#slots + 1, Math.max(0, value))
    const from = slot(Math.floor((fromMs - this.startMs) / this.gridMs))
    const to = toMs === null ? this.#slots + 1 : slot(Math.ceil((toMs - this.startMs) / this.gridMs))
    return [from, to]
  }
}

export function suits({ type, labels, vmId }: Kind, key: ClassKey): boolean {
  const vmClass = classOf(key)
  return (
    (vmId === null || vmId === vmClass.soloVmId) &&
    (type === null || type === vmClass.type) &&
    Object.entries(labels).every(([name, value]) => vmClass.labels[name] === value)
  )
}

/** Whether a wish can be served: tries every way. */
export function canPlace(wish: Wish, capacity: ReadonlyMap<ClassKey, number>): boolean {
  const left = new Map(capacity)
  const units = wish.flatMap((kind) => Array.from({ length: kind.count }, () => kind))
  const tryFrom = (index: number): boolean => {
    const kind = units[index]
    if (kind === undefined) return true
    for (const [key, count] of left) {
      if (count < 1 || !suits(kind, key)) continue
      left.set(key, count - 1)
      if (tryFrom(index + 1)) return true
      left.set(key, count)
    }
    return false
  }
  return tryFrom(0)
}

/** Whether each request that waits is over its owner's quota, by id of the first request of its row. */
export function isOverQuota(lab: Lab, request: Request): boolean {
  const { machinesMax } = lab.pool.quota
  if (machinesMax === null) return false
  const held = [...lab.leases.values()].filter(({ userId }) => userId === request.userId).length
  return held + countOf(request) > machinesMax
}

function countOf({ wish }: Request): number {
  return wish.reduce((sum, { count }) => sum + count, 0)
}

interface OracleRow {
  readonly group: string
  readonly head: Request
  readonly requests: readonly Request[]
  readonly tag: number
}

const RANKS = { high: 0, normal: 1, low: 2 }

function groupOf({ wish, terms }: Request): string {
  return JSON.stringify([wish, stepMs(terms.durationSeconds), terms.durationSecondsMin])
}

/** The rows that wait and are not parked, in order. */
export function orderedRows(lab: Lab): OracleRow[] {
  const rows = new Map<string, Request[]>()
  for (const request of lab.waiting.values()) {
    const key = `${groupOf(request)} ${request.userId}`
    rows.set(key, [...(rows.get(key) ?? []), request])
  }
  const { departed, v } = lab.pool.queue
  const overdue = ({ head }: OracleRow) => head.due !== null && head.due <= departed
  return [...rows.values()]
    .map((requests) => {
      requests.sort((a, b) => RANKS[a.priority] - RANKS[b.priority] || a.seq - b.seq)
      const head = requests[0] as Request
      return { group: groupOf(head), head, requests, tag: lab.flows.get(head.userId)?.tag ?? v }
    })
    .filter(({ head }) => !head.parked)
    .sort((a, b) => {
      if (overdue(a) !== overdue(b)) return overdue(a) ? -1 : 1
      const first = overdue(a) ? (a.head.due as number) - (b.head.due as number) : a.tag - b.tag
      return first || a.head.seq - b.head.seq
    })
}

/**
 * Walks over everybody who waits, in order, lays the promises that are due to them, and says whom something could be granted
 * though it was not; null: nobody.
 */
export function grantable(lab: Lab): string | null {
  const counts = new Counts(lab)
  const { nowMs } = lab
  const marginMs = lab.pool.marginSeconds * 1_000
  const promised = new Set<ClassKey>()
  const blocked = new Set<string>()
  const { departed } = lab.pool.queue
  for (const { group, head, requests } of orderedRows(lab)) {
    const { wish, terms } = head
    const keys = counts.classKeys.filter((key) => wish.some((kind) => suits(kind, key)))
    const stepped = stepMs(terms.durationSeconds)
    const until = (fromMs: number, graceMs: number) =>
      stepped === null ? null : fromMs + stepped + marginMs + graceMs
    const capacity = (fromMs: number, graceMs: number) =>
      new Map(keys.map((key) => [key, counts.lowest(key, fromMs, until(fromMs, graceMs))]))
    const now = new Map(
      [...capacity(nowMs, 0)].map(([key, count]) => [key, Math.min(count, counts.ready.get(key) ?? 0)]),
    )
    if (canPlace(wish, now)) return requests.map(({ id }) => id).join()
    // Others of the same kind and length come later and get the same answer.
    if (blocked.has(group)) continue
    blocked.add(group)
    const standing = lab.book.promises.find(({ requestId }) => requestId === head.id)
    const usable = new Map<ClassKey, number>()
    for (const { class: key, state } of lab.vms.values())
      if (keys.includes(key) && state !== 'failed') usable.set(key, (usable.get(key) ?? 0) + 1)
    if ([...usable.keys()].every((key) => promised.has(key)) || !canPlace(wish, usable)) continue
    const atMs = counts
      .rises(nowMs, nowMs + 2 * DAY_MS)
      .find((ms) => canPlace(wish, capacity(ms, counts.gridMs)))
    if (atMs !== undefined) {
      if (standing?.kind !== 'timed' || standing.fromMs !== atMs)
        return `${head.id}: promised ${standing?.kind} ${standing?.fromMs}, not ${atMs}`
    } else if (standing === undefined) {
      const someDay = new Map(keys.map((key) => [key, counts.at(key, Number.POSITIVE_INFINITY)]))
      if (canPlace(wish, someDay) || (head.due !== null && head.due <= departed))
        return `${head.id}: nothing is kept for it`
      continue
    }
    // Which of several placements is promised is not for the oracle to say.
    for (const { classKey, count } of standing?.placement ?? []) {
      counts.take(classKey, standing?.fromMs ?? nowMs, standing?.toMs ?? null, count)
      promised.add(classKey)
    }
  }
  return null
}
