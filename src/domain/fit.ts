/**
 * What fits when: the questions of the allocator to the timelines of a book. A lease that begins at t needs its machines until
 * they are clean again, [t, t + length + margin); one that begins now needs machines that are ready besides. The margin is the
 * longest of the classes that the wish may use: one length for all of them makes the question simple, and errs on the safe side.
 */
import type { Book, BookClass } from './book.ts'
import type { Group } from './queue.ts'
import { earliest, type Fit } from './timeline.ts'
import type { ClassKey } from './vm-class.ts'
import { type Placement, place, type Wish } from './wish.ts'

/** How far ahead a promise is looked for. */
export const PROMISE_MS = 2 * 86_400_000

/** Machines for a lease of `lengthMs` (null: for ever) that begins now, or null. */
export function fitNow(book: Book, group: Group, lengthMs: number | null, nowMs: number): Placement | null {
  if (group.count > book.free) return null
  const classes = book.classesOf(group)
  const untilMs = lengthMs === null ? null : nowMs + lengthMs + book.marginMs(classes)
  return place(group.wish, capacityNow(classes, nowMs, untilMs))
}

/** The longest lease that can begin now. */
export interface Longest {
  readonly placement: Placement
  /** null: for ever. */
  readonly lengthMs: number | null
}

/** The longest lease for a wish that can begin now; null: none can. */
export function longestNow(book: Book, group: Group, nowMs: number): Longest | null {
  if (group.count > book.free) return null
  const classes = book.classesOf(group)
  const marginMs = book.marginMs(classes)
  let longest: Longest | null = null
  let untilMs = nowMs + 1
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const placement = place(group.wish, capacityNow(classes, nowMs, untilMs))
    if (placement === null) break
    const endMs = firstTooFew(book, placement, nowMs)
    if (endMs === null) return { placement, lengthMs: null }
    const lengthMs = endMs - marginMs - nowMs
    if (lengthMs > 0) longest = { placement, lengthMs }
    untilMs = endMs + 1
  }
  return longest
}

/** Each try moves on to classes that last longer; so many are enough for any wish that is not made to be hard. */
const TRIES_MAX = 64

/**
 * The first time within the days that promises look ahead at which a wish fits, and on which classes. It is asked for one step of
 * the grid more than it will be: the grant may come at any time within a step.
 */
export function earliestFit(book: Book, group: Group, nowMs: number): Fit | null {
  const classes = book.classesOf(group)
  const timelines = new Map(classes.map(({ key, timeline }) => [key, timeline]))
  return earliest(timelines, group.wish, place, promisedMs(book, group), nowMs, nowMs + PROMISE_MS)
}

/** How long machines are kept when they are promised. */
export function promisedMs(book: Book, group: Group): number | null {
  return group.lengthMs === null ? null : group.lengthMs + book.marginMs(book.classesOf(group)) + book.gridMs
}

/** Machines for a wish when all leases are over that have an end; null: others hold too many. */
export function fitSomeDay(book: Book, group: Group): Placement | null {
  return place(
    group.wish,
    capacity(book.classesOf(group), ({ timeline }) => timeline.at(SOME_DAY_MS)),
  )
}

/** Machines for a wish if nobody held any; null: there are too few. */
export function fitEmpty(book: Book, group: Group): Placement | null {
  return place(
    group.wish,
    capacity(book.classesOf(group), ({ usable }) => usable),
  )
}

/** Ready machines for a wish, whatever they are kept for. */
export function fitReady(book: Book, group: Group): Placement | null {
  if (group.count > book.free) return null
  return place(
    group.wish,
    capacity(book.classesOf(group), ({ ready }) => ready),
  )
}

/** Whether a pool has the machines of a wish, or will when it has been brought to its size. */
export function fitsEver(book: Book, wish: Wish): boolean {
  const counts = new Map<ClassKey, number>()
  let missing = book.pool.target
  for (const { key, existing } of book.classes.values()) {
    counts.set(key, existing)
    missing -= existing
  }
  if (missing > 0)
    for (const [type, share = 0] of Object.entries(book.pool.typeMix))
      if (share > 0) counts.set(type, (counts.get(type) ?? 0) + missing)
  return place(wish, counts) !== null
}

/** Behind all that timelines know. */
const SOME_DAY_MS = Number.POSITIVE_INFINITY

function capacityNow(
  classes: readonly BookClass[],
  nowMs: number,
  untilMs: number | null,
): Map<ClassKey, number> {
  return capacity(classes, ({ ready, timeline }) =>
    ready === 0 ? 0 : Math.min(ready, timeline.minFree(nowMs, untilMs)),
  )
}

function capacity(
  classes: readonly BookClass[],
  count: (vmClass: BookClass) => number,
): Map<ClassKey, number> {
  return new Map(classes.map((vmClass) => [vmClass.key, count(vmClass)]))
}

/** The first instant at which a class has fewer free machines than a placement takes of it. */
function firstTooFew(book: Book, placement: Placement, nowMs: number): number | null {
  let first: number | null = null
  for (const [key, count] of countByClass(placement)) {
    const below = book.classes.get(key)?.timeline.firstBelow(nowMs, null, count) ?? null
    if (below !== null && (first === null || below < first)) first = below
  }
  return first
}

/** How many machines of each class a placement takes. */
export function countByClass(placement: Placement): Map<ClassKey, number> {
  const counts = new Map<ClassKey, number>()
  for (const { classKey, count } of placement) counts.set(classKey, (counts.get(classKey) ?? 0) + count)
  return counts
}
