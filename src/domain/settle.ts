/**
 * Who is granted what now, and who is promised what: in order, everything that fits. `settle` runs once per batch, after its
 * commands have changed the book. It goes through the groups of waiting requests, always to the first in order: what fits is
 * granted; what does not fit lays a promise over the timeline, the earliest time at which it will fit; and whatever comes later is
 * granted only if it fits beside all promises. So a small request passes a large one exactly when that does not delay it. Passes
 * are repeated until one grants nothing, as each grant changes the order.
 *
 * A class carries one promise: the first request that has to wait for it is protected, the ones behind it have their order. Where
 * leases without end leave no time to promise, an overdue request has machines collected for it, one hour at most, and then
 * waits for its turn again: that bounds both how long it starves and how long machines idle for it.
 */
import { Agenda } from './agenda.ts'
import type { Book, BookVm, Promised } from './book.ts'
import {
  countByClass,
  earliestFit,
  fitEmpty,
  fitNow,
  fitReady,
  fitSomeDay,
  fitsEver,
  longestNow,
  PROMISE_MS,
  promisedMs,
} from './fit.ts'
import { activeTag, chargedTag, costOf, departed, dueAfter, weightOf } from './order.ts'
import { type Group, headOf, type Row } from './queue.ts'
import {
  hoursOf,
  isUnlimited,
  isWithin,
  type Limits,
  lessUsage,
  machineLimit,
  NO_USAGE,
  sumUsage,
  type Usage,
} from './quota.ts'
import { type Refusal, refusal } from './refusal.ts'
import type { Flow, Request } from './request.ts'
import type { Fit } from './timeline.ts'
import { type ClassKey, classOf } from './vm-class.ts'
import { countWished, matches, type Placement } from './wish.ts'

/** Requests of different kinds and lengths that may wait in a pool. */
const GROUPS_MAX = 256

/** Grants of one batch beside those to requests that it brought. */
const GRANTS_MAX = 256

/** How long machines are collected for a request at a time. */
export const COLLECT_MS = 3_600_000

/** A request that is new. */
export interface Join {
  readonly request: Request
  /** False: it is granted at once or refused. */
  readonly waits: boolean
}

export interface Grant {
  readonly request: Request
  readonly placement: Placement
  /** null: without end. */
  readonly durationSeconds: number | null
  readonly chargedMinutes: number
  readonly weight: number
}

export interface Settled {
  readonly grants: readonly Grant[]
  readonly refused: readonly { readonly request: Request; readonly refusal: Refusal }[]
  /** Those that wait, as far as they are new or changed. */
  readonly requests: readonly Request[]
  readonly flows: readonly Flow[]
  /** Soft leases that end, as somebody needs their machines. */
  readonly notices: readonly { readonly vmId: number; readonly endsAtMs: number }[]
  /** When time alone may change something; null: never. */
  readonly nextAtMs: number | null
  /** True when the next batch has to settle again at once. */
  readonly more: boolean
  /** Users that the next batch has to hold, as they are next in order. */
  readonly userIds: readonly number[]
}

/** Grants and promises of a pool; the book is left as if they had been carried out. */
export function settle(book: Book, joins: readonly Join[], nowMs: number, limits: Limits): Settled {
  const settlement = new Settlement(book, joins.length, nowMs, limits)
  settlement.join(joins)
  settlement.run()
  return settlement.end()
}

/** The work of one call of `settle`. */
class Settlement {
  readonly #book: Book
  readonly #nowMs: number
  readonly #limits: Limits
  readonly #grantsMax: number
  readonly #grants: Grant[] = []
  readonly #refused: { request: Request; refusal: Refusal }[] = []
  readonly #notices: { vmId: number; endsAtMs: number }[] = []
  /** Why a request that does not wait is refused whatever is free. */
  readonly #refusals = new Map<string, Refusal>()
  readonly #joined = new Set<string>()
  readonly #flows = new Set<number>()
  readonly #userIds = new Set<number>()
  /** What is granted in this settlement, by user. */
  readonly #usage = new Map<number, Usage>()
  #changed = false
  #more = false

  constructor(book: Book, joins: number, nowMs: number, limits: Limits) {
    this.#book = book
    this.#nowMs = nowMs
    this.#limits = limits
    this.#grantsMax = GRANTS_MAX + joins
  }

  join(joins: readonly Join[]): void {
    const { queue } = this.#book
    const { v } = this.#book.pool.queue
    let { nextSeq } = this.#book.pool.queue
    for (const { request: joining, waits } of joins) {
      const request = { ...joining, seq: nextSeq }
      const never = this.#neverRefusal(request, waits)
      if (never !== null) {
        this.#refused.push({ request, refusal: never })
        continue
      }
      nextSeq++
      const tooMany = waits ? this.#waitingRefusal(request) : null
      if (tooMany !== null) this.#refusals.set(request.id, tooMany)
      const wasActive = queue.isActive(request.userId)
      const row = queue.put(request, waits && tooMany === null)
      if (!wasActive) this.#setTag(request.userId, activeTag(queue.tagOf(request.userId, v), v))
      this.#joined.add(request.id)
      if (headOf(row).id === request.id) this.#changed = true
    }
    this.#book.setQueue({ ...this.#book.pool.queue, nextSeq })
  }

  /** Does what is to be done; nothing when nothing happened that could change the answer. */
  run(): void {
    const { queue, settled, changes } = this.#book
    if (queue.size === 0) this.#book.clearPromises()
    const isOver =
      settled?.untilMs !== undefined && settled.untilMs !== null && settled.untilMs <= this.#nowMs
    if (queue.size === 0 || (!this.#changed && settled?.changes === changes && !isOver)) return
    for (const id of this.#joined) {
      const row = queue.rowOf(id)
      if (row !== null) this.#book.touch(row.flow.userId)
    }
    this.#parkOrUnpark()
    this.#setDues()
    this.#endCollecting()
    while (this.#pass()) this.#parkOrUnpark()
    this.#refuseRest()
    const untilMs = this.#nextAtMs()
    this.#book.settled = this.#more ? null : { changes: this.#book.changes, untilMs }
  }

  end(): Settled {
    const book = this.#book
    const { queue } = book
    const { id: poolId, queue: before } = book.pool
    book.setQueue({ ...before, waiting: queue.size })
    const requests = new Map(queue.write().map((request) => [request.id, request]))
    for (const id of this.#joined) {
      const row = queue.rowOf(id)
      const request = row?.requests.find((waiting) => waiting.id === id)
      if (request !== undefined) requests.set(id, request)
    }
    const flows = [...this.#flows]
      .map((userId) => ({ poolId, userId, tag: queue.tagOf(userId, before.v) }))
      .filter(({ userId, tag }) => tag > before.v || queue.rowsOf(userId).size > 0)
    queue.forgetFlows(before.v)
    return {
      grants: this.#grants,
      refused: this.#refused,
      requests: [...requests.values()],
      flows,
      notices: this.#notices,
      nextAtMs: queue.size === 0 ? null : (book.settled?.untilMs ?? null),
      more: this.#more,
      userIds: [...this.#userIds],
    }
  }

  /** Grants what fits, in order; true: another pass may grant more. */
  #pass(): boolean {
    const book = this.#book
    book.clearPromises()
    const agenda = new Agenda(book.queue, book.pool.queue.departed)
    const promised = new Set<ClassKey>()
    let again = false
    for (let row = agenda.first; row !== undefined; row = agenda.first) {
      const { group } = row
      // In a busy pool these are nearly all: nothing is ready for them, and they would not be promised anything.
      if (!this.#isReady(group) && !this.#isUnpromised(group, promised)) {
        agenda.close(group)
        continue
      }
      if (this.#isOverQuota(row)) {
        agenda.change([group], () => this.#park(row))
        continue
      }
      const found = this.#find(row)
      if (found !== null) {
        const groups = [...row.flow.rows].map((own) => own.group)
        agenda.change(groups, () => this.#grant(row, found))
        again = true
        const { departed } = book.pool.queue
        if (!book.queue.becomesOverdue(departed)) continue
        // Promises that were laid, and rows that were asked, before this one became overdue come after it.
        if (promised.size > 0 || agenda.passed) return true
        agenda.sort(departed)
        continue
      }
      agenda.close(group)
      if (!group.waits) {
        this.#refuse(row)
        continue
      }
      if (!this.#isUnpromised(group, promised)) continue
      const noticesBefore = this.#notices.length
      const promise = this.#promiseFor(row)
      if (this.#notices.length > noticesBefore) again = true
      if (promise === null) continue
      book.promise(promise)
      for (const { classKey } of promise.placement) promised.add(classKey)
    }
    return again
  }

  #isReady(group: Group): boolean {
    for (const { ready } of this.#book.classesOf(group)) if (ready > 0) return true
    return false
  }

  /** Whether there are machines for a group of a class without a promise. */
  #isUnpromised(group: Group, promised: ReadonlySet<ClassKey>): boolean {
    for (const { key, usable } of this.#book.classesOf(group))
      if (usable > 0 && !promised.has(key)) return true
    return false
  }

  /** What can be granted to the first request of a row now, and may be in this batch; null: nothing. */
  #find(row: Row): Found | null {
    const found = this.#findFree(row)
    if (found === null) return null
    if (row.group.waits && this.#grants.length >= this.#grantsMax) {
      this.#more = true
      return null
    }
    if (this.#limits.headroom(row.flow.userId) === undefined) {
      this.#userIds.add(row.flow.userId)
      this.#more = true
      return null
    }
    return found
  }

  #findFree({ group, requests }: Row): Found | null {
    const wanted = this.#durationOf(requests[0] as Request)
    const placement = fitNow(this.#book, group, group.lengthMs, this.#nowMs)
    if (placement !== null) return { placement, durationSeconds: wanted }
    if (group.lengthMsMin === null) return null
    const longest = longestNow(this.#book, group, this.#nowMs)
    if (longest === null || longest.lengthMs === null || longest.lengthMs < group.lengthMsMin) return null
    const possible = Math.floor(longest.lengthMs / 1_000)
    const durationSeconds = wanted === null ? possible : Math.min(possible, wanted)
    return { placement: longest.placement, durationSeconds }
  }

  /** How long a request is granted machines: what stands for the missing ones of a reservation ends with it. */
  #durationOf({ terms, reservationId }: Request): number | null {
    const reservation = reservationId === null ? undefined : this.#book.reservations.get(reservationId)
    if (reservation === undefined) return terms.durationSeconds
    return Math.max(1, Math.floor((reservation.toMs - this.#nowMs) / 1_000))
  }

  #grant(row: Row, { placement, durationSeconds }: Found): void {
    const book = this.#book
    const { queue, pool } = book
    const request = headOf(row)
    const { userId, tag } = row.flow
    const usage = this.#usageOf(row)
    for (const [key, count] of countByClass(placement)) {
      const endsAtMs = durationSeconds === null ? null : this.#nowMs + durationSeconds * 1_000
      book.grant(userId, key, count, endsAtMs === null ? null : endsAtMs + book.marginMsOf(key))
    }
    this.#usage.set(userId, sumUsage(this.#usage.get(userId) ?? NO_USAGE, usage))
    const chargedMinutes = costOf(pool, placement, durationSeconds)
    const weight = weightOf(pool, request.priority)
    this.#grants.push({ request, placement, durationSeconds, chargedMinutes, weight })
    this.#joined.delete(request.id)
    const goesOn = row.requests.length > 1
    queue.take(request.id)
    this.#setTag(userId, chargedTag(tag, chargedMinutes, weight))
    book.setQueue(departed(pool.queue, tag, queue.leastTag))
    if (goesOn) queue.setRow(row, { due: this.#dueNow(), collectSinceMs: null })
    // Somebody who waits may need the machine of a soft lease at once, which the next batch knows.
    if (request.terms.softGraceSeconds !== null && queue.size > 0) this.#more = true
  }

  #refuse(row: Row): void {
    const request = headOf(row)
    const why = this.#refusals.get(request.id) ?? this.#refusalOf(row)
    this.#refused.push({ request, refusal: why })
    this.#joined.delete(request.id)
    this.#book.queue.take(request.id)
  }

  /** Why a request that does not wait is not granted, and what it could have instead. */
  #refusalOf(row: Row): Refusal {
    const { group } = row
    const { pool } = this.#book
    if (row.parked) return refusal('quota_full', { count: group.count })
    const types = new Set(group.wish.map(({ type }) => type))
    const [type = null] = types.size === 1 ? types : []
    if (fitReady(this.#book, group) === null) return refusal('none_free', { pool: pool.name, type })
    const longest = longestNow(this.#book, group, this.#nowMs)?.lengthMs ?? null
    const offerSeconds = longest === null ? null : Math.floor(longest / 1_000)
    const beside = this.#book.withoutPromises(() => fitNow(this.#book, group, group.lengthMs, this.#nowMs))
    return refusal(beside === null ? 'lease_reserved' : 'lease_promised', { offerSeconds })
  }

  /** Keeps machines for the first request of a row, which does not fit now; null: nothing can be kept for it. */
  #promiseFor(row: Row): Promised | null {
    const book = this.#book
    const { group } = row
    if (!this.#isSatisfiable(group)) return null
    const requestId = headOf(row).id
    const lengthMs = promisedMs(book, group)
    const until = (fromMs: number) => (lengthMs === null ? null : fromMs + lengthMs)
    const fit = this.#askSoftLeases(group, earliestFit(book, group, this.#nowMs))
    if (fit !== null) {
      if (row.collectSinceMs !== null) book.queue.setRow(row, { collectSinceMs: null })
      const { atMs, placement } = fit
      return { requestId, kind: 'timed', placement, fromMs: atMs, toMs: until(atMs) }
    }
    const far = fitSomeDay(book, group)
    if (far !== null) {
      const fromMs = this.#nowMs + PROMISE_MS
      return { requestId, kind: 'far', placement: far, fromMs, toMs: until(fromMs) }
    }
    const all = fitEmpty(book, group)
    if (all === null || !book.queue.isOverdue(row, book.pool.queue.departed)) return null
    const fromMs = row.collectSinceMs ?? this.#nowMs
    book.queue.setRow(row, { collectSinceMs: fromMs })
    return { requestId, kind: 'collected', placement: all, fromMs, toMs: null }
  }

  /**
   * Ends soft leases that a group can use, the longest held first and no more than it needs, if that brings its first request
   * forward from `present` (null: no time is known). Returns when it fits then.
   */
  #askSoftLeases(group: Group, present: Fit | null): Fit | null {
    const book = this.#book
    const soft = book.classesOf(group).flatMap(({ soft }) => longestHeld([...soft.values()], group.count))
    if (soft.length === 0) return present
    const ended = new Set(longestHeld(soft, soft.length))
    for (const vm of ended) book.putVm(this.#ending(vm), this.#nowMs)
    let fit = earliestFit(book, group, this.#nowMs)
    const isBetter = fit !== null && (present === null || fit.atMs < present.atMs)
    for (const vm of [...ended].reverse()) {
      book.putVm(vm, this.#nowMs)
      const without = isBetter ? earliestFit(book, group, this.#nowMs) : null
      if (!isBetter || (without !== null && fit !== null && without.atMs <= fit.atMs)) ended.delete(vm)
      else book.putVm(this.#ending(vm), this.#nowMs)
    }
    if (!isBetter) return present
    fit = earliestFit(book, group, this.#nowMs)
    for (const vm of ended) this.#notices.push({ vmId: vm.id, endsAtMs: this.#softEndMs(vm) })
    return fit
  }

  #ending(vm: BookVm): BookVm {
    return { ...vm, soft: null, freeAtMs: this.#softEndMs(vm) + this.#book.marginMsOf(vm.class) }
  }

  #softEndMs({ soft }: BookVm): number {
    return this.#nowMs + (soft?.graceSeconds ?? 0) * 1_000
  }

  /** What a row's first request adds to what its owner has. What matches several types counts as the largest. */
  #usageOf({ group, requests }: Row): Usage {
    const classes = this.#book.classesOf(group)
    let vcpu = 0
    for (const kind of group.wish) {
      let most = 0
      for (const { key } of classes) {
        const vmClass = classOf(key)
        if (matches(kind, vmClass)) most = Math.max(most, this.#limits.vcpuOf(vmClass.type))
      }
      vcpu += kind.count * most
    }
    const { durationSeconds } = (requests[0] as Request).terms
    return { machines: group.count, vcpu, hours: hoursOf(group.count, durationSeconds) }
  }

  /** What quotas leave a user; null: the batch cannot see all of them. */
  #leftOf(userId: number): { readonly inPool: Usage; readonly elsewhere: Usage | null } {
    const elsewhere = this.#limits.headroom(userId)
    const inPool = machineLimit(this.#book.pool.quota)
    return {
      inPool: isUnlimited(inPool) ? inPool : lessUsage(inPool, this.#heldBy(userId)),
      elsewhere: elsewhere === undefined ? null : lessUsage(elsewhere, this.#usage.get(userId) ?? NO_USAGE),
    }
  }

  /** Whether a row's first request is more than quotas leave its owner; one that cannot be seen now changes nothing. */
  #isOverQuota(row: Row, { inPool, elsewhere } = this.#leftOf(row.flow.userId)): boolean {
    // A reservation was admitted by the quota.
    if (headOf(row).reservationId !== null) return false
    if (isUnlimited(inPool) && elsewhere !== null && isUnlimited(elsewhere)) return false
    const usage = this.#usageOf(row)
    if (!isWithin(usage, inPool)) return true
    return elsewhere === null ? row.parked : !isWithin(usage, elsewhere)
  }

  #heldBy(userId: number): Usage {
    let held = NO_USAGE
    for (const [type, machines] of this.#book.heldBy(userId))
      held = sumUsage(held, { machines, vcpu: machines * this.#limits.vcpuOf(type), hours: 0 })
    return held
  }

  #park(row: Row): void {
    this.#book.queue.setRow(row, { parked: true, due: null, collectSinceMs: null })
  }

  /** Of users who hold more or less than before: brings rows back whose first requests their quota allows now, and parks the others. */
  #parkOrUnpark(): void {
    const { queue } = this.#book
    const { v } = this.#book.pool.queue
    for (const userId of this.#book.takeTouched()) {
      const rows = queue.rowsOf(userId)
      if (rows.size === 0) continue
      const left = this.#leftOf(userId)
      for (const row of rows) {
        const parked = this.#isOverQuota(row, left)
        if (parked === row.parked) continue
        if (parked) {
          this.#park(row)
          continue
        }
        if (!queue.isActive(userId)) this.#setTag(userId, activeTag(row.flow.tag, v))
        queue.setRow(row, { parked: false })
        queue.setRow(row, { due: row.group.waits ? this.#dueNow() : null })
      }
    }
  }

  /** Requests that do not wait and were not granted: there is nothing left for them, or their owner has too much. */
  #refuseRest(): void {
    for (const id of [...this.#joined]) {
      const row = this.#book.queue.rowOf(id)
      if (row !== null && !row.group.waits) this.#refuse(row)
    }
  }

  /** Rows that begin to wait, or can be served again, get the departure at which they are overdue; rows that cannot, lose it. */
  #setDues(): void {
    const { queue } = this.#book
    const due = this.#dueNow()
    for (const group of queue.groups.values()) {
      if (!group.waits) continue
      if (this.#isSatisfiable(group))
        for (const row of queue.rowsDue(group, false)) queue.setRow(row, { due })
      else
        for (const row of queue.rowsDue(group, true)) queue.setRow(row, { due: null, collectSinceMs: null })
    }
  }

  #dueNow(): number {
    return dueAfter(this.#book.pool.queue.departed, this.#book.queue.activeRows)
  }

  /** Whether a group's requests could be served if nobody held a machine. */
  #isSatisfiable(group: Group): boolean {
    return fitEmpty(this.#book, group) !== null
  }

  /** Requests for which machines were collected for long enough wait for their turn again. */
  #endCollecting(): void {
    const { queue } = this.#book
    for (const row of queue.collecting)
      if (row.collectSinceMs !== null && row.collectSinceMs + COLLECT_MS <= this.#nowMs)
        queue.setRow(row, { collectSinceMs: null, due: this.#dueNow() })
  }

  #setTag(userId: number, tag: number): void {
    this.#book.queue.setTag(userId, tag)
    this.#flows.add(userId)
  }

  /** When something can fit that does not now, though nothing happens: reservations end, promised times come. */
  #nextAtMs(): number | null {
    const { classes, promises, queue, gridMs } = this.#book
    if (queue.size === 0) return null
    const times: number[] = []
    for (const { ready, timeline } of classes.values()) {
      const riseMs = ready > 0 ? timeline.nextRise(this.#nowMs + 1) : null
      if (riseMs !== null) times.push(riseMs)
    }
    for (const { kind, fromMs, requestId } of promises) {
      const sinceMs = queue.rowOf(requestId)?.collectSinceMs ?? null
      if (kind === 'collected' && sinceMs !== null) times.push(sinceMs + COLLECT_MS)
      // What lies two days ahead moves on with the time.
      else if (kind === 'far') times.push(this.#nowMs + gridMs)
      else if (fromMs > this.#nowMs) times.push(fromMs)
    }
    return times.length === 0 ? null : Math.min(...times)
  }

  /** Why a request can never be granted. */
  #neverRefusal(request: Request, waits: boolean): Refusal | null {
    const { queue, pool } = this.#book
    const { wish } = request
    const count = countWished(wish)
    if (count > (pool.quota.machinesMax ?? Number.POSITIVE_INFINITY)) return refusal('quota_never', { count })
    if (!fitsEver(this.#book, wish)) return refusal('wish_impossible', { pool: pool.name })
    if (!waits || queue.groups.size < GROUPS_MAX || queue.groups.has(queue.groupKeyOf(request, true)))
      return null
    const waiting = [...queue.groups.values()].filter((group) => group.waits).length
    return waiting < GROUPS_MAX ? null : refusal('kinds_full', { groupsMax: GROUPS_MAX })
  }

  /** Why a request may not wait. */
  #waitingRefusal({ userId }: Request): Refusal | null {
    const { waitingMax } = this.#book.pool.quota
    if (waitingMax === null) return null
    let waiting = 0
    for (const { group, requests } of this.#book.queue.rowsOf(userId))
      if (group.waits) waiting += requests.length
    return waiting < waitingMax ? null : refusal('waiting_full', { waitingMax })
  }
}

interface Found {
  readonly placement: Placement
  readonly durationSeconds: number | null
}

/** The `count` machines that have been held the longest. */
function longestHeld(vms: readonly BookVm[], count: number): BookVm[] {
  const sinceMs = ({ soft }: BookVm) => soft?.fromMs ?? 0
  return [...vms].sort((a, b) => sinceMs(a) - sinceMs(b) || a.id - b.id).slice(0, count)
}
