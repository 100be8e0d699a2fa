/**
 * Whether a lease may last longer: if its machine is free from its present end until the new one, beside reservations and beside
 * the promises to requests that wait. Otherwise the latest end that would do is offered.
 */
import type { Book, BookVm } from './book.ts'
import { type Refusal, refusal } from './refusal.ts'

/**
 * Why the lease on `vm` that ends at `endsAtMs` may not end at `toMs` (null: never) instead; null: it may. An operator may do it
 * in spite of `extension_promised`, nobody in spite of `extension_reserved`.
 */
export function extensionRefusal(
  book: Book,
  vm: BookVm,
  endsAtMs: number,
  toMs: number | null,
): Refusal | null {
  const timeline = book.classes.get(vm.class)?.timeline
  // A lease without end keeps its machine anyway.
  if (timeline === undefined || vm.freeAtMs === null) return null
  const marginMs = book.marginMsOf(vm.class)
  const fromMs = book.gridUp(vm.freeAtMs)
  const untilMs = toMs === null ? null : toMs + marginMs
  if (untilMs !== null && untilMs <= fromMs) return null
  const tooFewAtMs = timeline.firstBelow(fromMs, untilMs, 1)
  if (tooFewAtMs === null) return null
  const offerMs = tooFewAtMs - marginMs
  const until = offerMs > endsAtMs ? new Date(offerMs).toISOString() : null
  const reserved = book.withoutPromises(() => timeline.firstBelow(fromMs, untilMs, 1) !== null)
  return refusal(reserved ? 'extension_reserved' : 'extension_promised', { until })
}
