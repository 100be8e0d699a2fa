/**
 * Why a request waits: one reason of a closed catalogue in a sentence, and what it rests on in fields. Who holds a machine is
 * shown as far as the one who asks may know it, which the caller decides.
 */
import type { Book, BookClass, BookVm } from './book.ts'
import { earliestFit, fitEmpty, fitNow, fitReady, fitSomeDay } from './fit.ts'
import { positionOf } from './position.ts'
import { type Group, headOf, type Row } from './queue.ts'
import { isoTime } from './reservation.ts'
import { COLLECT_MS } from './settle.ts'
import type { ClassKey } from './vm-class.ts'

/** The sentences; times are texts in UTC. */
export const REASONS = {
  ORDER: (d: { before: number }) =>
    `${d.before} ${plural(d.before, 'request is', 'requests are')} before yours; yours is served when their share is used.`,
  BUSY: (d: { ready: number; count: number; classes: string; at: string }) =>
    `${d.ready} of ${d.count} ${d.classes} are free; the next are expected back at ${d.at}.`,
  PROMISED: (d: { ready: number; at: string }) =>
    `${d.ready} ${plural(d.ready, 'machine is', 'machines are')} ready but promised to a request before yours from ${d.at}; a shorter lease may pass.`,
  RESERVED: (d: { ready: number }) =>
    `${d.ready} ${plural(d.ready, 'machine is', 'machines are')} ready but reserved for later; a shorter lease may be possible now.`,
  HELD: (d: { until: string }) => `Machines are being collected for a request before yours until ${d.until}.`,
  NO_END: (d: { count: number }) =>
    `${d.count} ${plural(d.count, 'machine that you need has a lease', 'machines that you need have leases')} without an end; no time can be promised.`,
  CLEANING: (d: { count: number; at: string }) =>
    `${d.count} ${plural(d.count, 'machine is', 'machines are')} being cleaned, expected at ${d.at}.`,
  MAKING: (d: { count: number; at: string }) =>
    `${d.count} ${plural(d.count, 'machine is', 'machines are')} being made, expected at ${d.at}.`,
  NO_MACHINES: (d: { usable: number; classes: string; count: number; failed: number; cordoned: number }) =>
    `Only ${d.usable} usable ${d.classes} exist now, you want ${d.count}: ${d.failed} failed, ${d.cordoned} cordoned.`,
  QUOTA: (d: { held: number; count: number }) =>
    `You hold ${d.held}; with ${d.count} more you would be over your quota. Your request waits beside the queue until some are back.`,
  SOFT_NOTICE: (d: { at: string }) => `The holder of a machine was asked for it; it comes back by ${d.at}.`,
  YOURS: () => 'It is your turn; the next batch grants it.',
} as const

export type ReasonCode = keyof typeof REASONS

/** What the book does not know, or not for everybody. */
export interface Viewpoint {
  /** Who holds a machine; null: it is not for the one who asks to know. */
  holderOf(vm: BookVm): string | null
  /** Machines whose soft leases were ended because somebody needs them. */
  readonly askedFor: ReadonlySet<number>
  /** What providers said when they last failed on machines of this pool. */
  readonly providerErrors: readonly string[]
}

export interface Explanation {
  readonly code: ReasonCode
  readonly text: string
  readonly sinceMs: number
  readonly position: number | null
  /** What it wants of the classes that it may use, and when each has more. */
  readonly missing: readonly {
    readonly classKey: ClassKey
    readonly ready: number
    readonly freeAtMs: number | null
  }[]
  readonly count: number
  readonly promisedAtMs: number | null
  /** After how many more departures its place does not change any more; null: it is not the first of its row, or parked. */
  readonly overdueIn: number | null
  readonly holders: readonly { readonly who: string | null; readonly untilMs: number | null }[]
  readonly making: readonly { readonly expectedAtMs: number | null }[]
  readonly cleaning: readonly { readonly expectedAtMs: number | null; readonly late: boolean }[]
  readonly providerErrors: readonly string[]
}

/** Holders of more machines are not listed. */
const HOLDERS_MAX = 20

/** Why a request waits; null: it does not. */
export function explain(
  book: Book,
  requestId: string,
  viewpoint: Viewpoint,
  nowMs: number,
): Explanation | null {
  const row = book.queue.rowOf(requestId)
  const request = row?.requests.find(({ id }) => id === requestId)
  if (row === null || request === undefined) return null
  const vms = vmsFor(book, row.group)
  const [code, text] = reasonOf(book, row, requestId, vms, viewpoint, nowMs)
  const inState = (state: BookVm['state']) => vms.filter((vm) => vm.state === state)
  const timed = book.promises.find((promise) => promise.requestId === requestId && promise.kind === 'timed')
  const isHead = headOf(row).id === requestId
  return {
    code,
    text,
    sinceMs: request.createdAtMs,
    position: positionOf(book, requestId),
    // What is kept for waiting requests, this one perhaps, says nothing of when machines come back.
    missing: book.withoutPromises(() =>
      book.classesOf(row.group).map(({ key, ready, timeline }) => ({
        classKey: key,
        ready,
        freeAtMs: timeline.nextRise(nowMs + 1),
      })),
    ),
    count: row.group.count,
    promisedAtMs: timed?.fromMs ?? null,
    overdueIn: isHead && row.due !== null ? Math.max(0, row.due - book.pool.queue.departed) : null,
    holders: inState('leased')
      .slice(0, HOLDERS_MAX)
      .map((vm) => ({
        who: viewpoint.holderOf(vm),
        untilMs: vm.freeAtMs === null ? null : vm.freeAtMs - book.marginMsOf(vm.class),
      })),
    making: inState('provisioning').map(({ freeAtMs }) => ({ expectedAtMs: freeAtMs })),
    cleaning: inState('maintenance').map(({ freeAtMs }) => ({
      expectedAtMs: freeAtMs,
      late: freeAtMs !== null && freeAtMs < nowMs,
    })),
    providerErrors: viewpoint.providerErrors,
  }
}

type Reason = readonly [code: ReasonCode, text: string]

function reasonOf(
  book: Book,
  row: Row,
  requestId: string,
  vms: readonly BookVm[],
  viewpoint: Viewpoint,
  nowMs: number,
): Reason {
  const { group } = row
  const classes = book.classesOf(group)
  const { count } = group
  if (row.parked) {
    const held = [...book.heldBy(row.flow.userId).values()].reduce((sum, machines) => sum + machines, 0)
    return ['QUOTA', REASONS.QUOTA({ held, count })]
  }
  const named = namesOf(classes)
  if (fitEmpty(book, group) === null) {
    const usable = sum(classes, ({ usable: machines }) => machines)
    const failed = vms.filter(({ state }) => state === 'failed').length
    const cordoned = vms.filter(({ state }) => state === 'cordoned').length
    return ['NO_MACHINES', REASONS.NO_MACHINES({ usable, classes: named, count, failed, cordoned })]
  }
  const first = book.queue.firstOf(group, book.pool.queue.departed)
  if (first !== row || headOf(row).id !== requestId) {
    const before = (positionOf(book, requestId) ?? 1) - 1
    return ['ORDER', REASONS.ORDER({ before: Math.max(1, before) })]
  }
  const ready = sum(classes, ({ ready: machines }) => machines)
  if (fitReady(book, group) !== null) return keptReason(book, group, requestId, ready, nowMs)
  return busyReason(book, group, vms, viewpoint, ready, nowMs)
}

/** Enough machines are ready: what are they kept for? */
function keptReason(book: Book, group: Group, requestId: string, ready: number, nowMs: number): Reason {
  const alone = book.withoutPromises(() => fitNow(book, group, group.lengthMs, nowMs))
  if (alone === null) return ['RESERVED', REASONS.RESERVED({ ready })]
  const keys = new Set(book.classesOf(group).map(({ key }) => key))
  const others = book.promises.filter(
    (promise) =>
      promise.requestId !== requestId && promise.placement.some(({ classKey }) => keys.has(classKey)),
  )
  const collected = others.find(({ kind }) => kind === 'collected')
  if (collected !== undefined) {
    const until = isoTime(collected.fromMs + COLLECT_MS)
    return ['HELD', REASONS.HELD({ until })]
  }
  const [promise] = others
  if (promise === undefined) return ['YOURS', REASONS.YOURS()]
  return ['PROMISED', REASONS.PROMISED({ ready, at: isoTime(promise.fromMs) })]
}

/** Too few machines are ready: where are they? */
function busyReason(
  book: Book,
  group: Group,
  vms: readonly BookVm[],
  viewpoint: Viewpoint,
  ready: number,
  nowMs: number,
): Reason {
  const lacking = group.count - ready
  const cleaned = comingBack(vms, 'maintenance', lacking)
  if (cleaned !== null) return ['CLEANING', REASONS.CLEANING(cleaned)]
  const made = comingBack(vms, 'provisioning', lacking)
  if (made !== null) return ['MAKING', REASONS.MAKING(made)]
  const asked = vms.find(({ id, freeAtMs }) => viewpoint.askedFor.has(id) && freeAtMs !== null)
  if (asked !== undefined)
    return ['SOFT_NOTICE', REASONS.SOFT_NOTICE({ at: isoTime(asked.freeAtMs ?? nowMs) })]
  const endless = vms.filter(({ state, freeAtMs }) => state === 'leased' && freeAtMs === null).length
  const isEndless = book.withoutPromises(
    () => fitSomeDay(book, group) === null && earliestFit(book, group, nowMs) === null,
  )
  if (isEndless) return ['NO_END', REASONS.NO_END({ count: endless })]
  const times = vms.flatMap(({ freeAtMs }) => (freeAtMs === null ? [] : [freeAtMs]))
  const classes = namesOf(book.classesOf(group))
  // None is away: a shrink is about to take those that are ready.
  if (times.length === 0) {
    const usable = Math.min(ready, Math.max(0, book.free))
    return [
      'NO_MACHINES',
      REASONS.NO_MACHINES({ usable, classes, count: group.count, failed: 0, cordoned: 0 }),
    ]
  }
  const at = isoTime(Math.min(...times))
  return ['BUSY', REASONS.BUSY({ ready, count: group.count, classes, at })]
}

/** When all that is lacking is in one state: how many are, and when the last that is needed comes back. */
function comingBack(
  vms: readonly BookVm[],
  state: BookVm['state'],
  lacking: number,
): { count: number; at: string } | null {
  const times = vms
    .flatMap((vm) => (vm.state === state && vm.freeAtMs !== null ? [vm.freeAtMs] : []))
    .sort((a, b) => a - b)
  const last = times[lacking - 1]
  return last === undefined ? null : { count: times.length, at: isoTime(last) }
}

function vmsFor(book: Book, group: Group): BookVm[] {
  const keys = new Set(book.classesOf(group).map(({ key }) => key))
  return [...book.vms.values()].filter((vm) => keys.has(vm.class))
}

function sum(classes: readonly BookClass[], count: (vmClass: BookClass) => number): number {
  return classes.reduce((total, vmClass) => total + count(vmClass), 0)
}

function namesOf(classes: readonly BookClass[]): string {
  return classes.map(({ key }) => key).join(' or ')
}

function plural(count: number, one: string, many: string): string {
  return count === 1 ? one : many
}
