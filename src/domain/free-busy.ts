/**
 * When a pool has how many machines free to be booked, by class: what its timelines say, reservations, promises and leases that may
 * still run taken off.
 */
import type { Book } from './book.ts'
import type { ClassKey } from './vm-class.ts'

/** A time over which nothing changes. */
export interface FreeSpan {
  readonly fromMs: number
  readonly toMs: number
  readonly free: ReadonlyMap<ClassKey, number>
}

/** What is free over [fromMs, toMs), in spans that meet. */
export function freeBusy(book: Book, fromMs: number, toMs: number): FreeSpan[] {
  const changes: { atMs: number; key: ClassKey; free: number }[] = []
  for (const { key, timeline } of book.classes.values())
    for (const step of timeline.steps(fromMs, toMs))
      changes.push({ atMs: step.fromMs, key, free: Math.max(0, step.free) })
  changes.sort((a, b) => a.atMs - b.atMs)
  const spans: FreeSpan[] = []
  let free = new Map<ClassKey, number>()
  for (const [i, change] of changes.entries()) {
    free.set(change.key, change.free)
    const untilMs = changes[i + 1]?.atMs ?? toMs
    if (untilMs === change.atMs) continue
    const before = spans.at(-1)
    if (before !== undefined && isSame(before.free, free))
      spans[spans.length - 1] = { ...before, toMs: untilMs }
    else spans.push({ fromMs: change.atMs, toMs: untilMs, free })
    free = new Map(free)
  }
  return spans
}

function isSame(a: ReadonlyMap<ClassKey, number>, b: ReadonlyMap<ClassKey, number>): boolean {
  if (a.size !== b.size) return false
  for (const [key, count] of b) if (a.get(key) !== count) return false
  return true
}

/** How many machines of a class could go for ever, so that every reservation would still be kept. Promises do not count. */
export function spare(book: Book, key: ClassKey, nowMs: number): number {
  const timeline = book.classes.get(key)?.timeline
  if (timeline === undefined) return 0
  return book.withoutPromises(() => Math.max(0, timeline.minFree(nowMs, null)))
}
