/**
 * What a server has in memory of a contended pool: when each machine comes back, who waits, what is booked. It is built from
 * rows and changed by the changes of each batch, so it says the same on every server that has seen the same batches.
 *
 * For each class there is one timeline of how many machines are free to be promised: ready ones, and those that are leased,
 * cleaned or made from the time on at which they come back, less reservations and promises. A machine that is late counts as
 * back in the timeline, but it is not ready, and only ready ones are granted.
 *
 * `settle` changes the book as if its grants had been carried out; which machines they are is decided afterwards, and the batch's
 * change, which has them, takes the place of what was laid for them.
 */
import { countFree, type Pool, marginMs as poolMarginMs, type Tally } from './pool.ts'
import { type Group, headOf, Queue } from './queue.ts'
import { isSameQuota } from './quota.ts'
import type { Flow, Request } from './request.ts'
import type { Reservation } from './reservation.ts'
import { Timeline } from './timeline.ts'
import type { VmState } from './vm.ts'
import { type ClassKey, classOf } from './vm-class.ts'
import type { VmType } from './vm-type.ts'
import { matches, type Placement, type Wish } from './wish.ts'

/** A machine as the allocator sees it. */
export interface BookVm {
  readonly id: number
  readonly class: ClassKey
  readonly state: VmState
  readonly freeAtMs: number | null
  readonly holderId: number | null
  /** Set while it is held by a soft lease. */
  readonly soft: { readonly graceSeconds: number; readonly fromMs: number } | null
}

/** What a batch changed of a pool, or all there is of it. */
export interface BookChange {
  readonly pool: Pool
  /** Counts after the batch. */
  readonly tally: Tally
  /** All there is: every machine but ready ones and those being destroyed. A change: each that changed, in its new state. */
  readonly vms: readonly BookVm[]
  /** Machines that are no longer there. */
  readonly gone: readonly number[]
  /** All there is: those that wait. A change: each in its new state. */
  readonly requests: readonly Request[]
  /** All there is: those that wait or whose tag is above the pool's virtual time. */
  readonly flows: readonly Flow[]
  /** All there is: those that are confirmed or active. */
  readonly reservations: readonly Reservation[]
}

/** The machines of one class. */
export interface BookClass {
  readonly key: ClassKey
  readonly ready: number
  /** Machines that are ready or will be again: leased, cleaned or made. */
  readonly usable: number
  /** Machines that exist, also failed and cordoned ones. */
  readonly existing: number
  readonly timeline: Timeline
  /** Machines held by soft leases, by id. */
  readonly soft: ReadonlyMap<number, BookVm>
}

interface OwnClass extends BookClass {
  ready: number
  usable: number
  existing: number
  soft: Map<number, BookVm>
}

/**
 * Machines kept for a waiting request.
 * timed: from the first time at which it fits; far: it fits only later than promises look ahead, so nothing may run past that
 * time on them; collected: no time can be known, so each that comes back is kept, for a while.
 */
export interface Promised {
  readonly requestId: string
  readonly kind: 'timed' | 'far' | 'collected'
  readonly placement: Placement
  readonly fromMs: number
  /** null: for ever. */
  readonly toMs: number | null
}

/** Something that takes machines of a class for a while. */
export interface Interval {
  readonly classKey: ClassKey
  readonly count: number
  readonly fromMs: number
  readonly toMs: number | null
}

/** Machines that were granted, and are not yet known one by one. */
interface Granted {
  readonly userId: number
  readonly classKey: ClassKey
  readonly count: number
  readonly freeAtMs: number | null
}

export class Book {
  readonly queue = new Queue()
  #pool: Pool
  readonly #classes: Map<ClassKey, OwnClass> = new Map()
  readonly #vms: Map<number, BookVm> = new Map()
  readonly #reservations: Map<string, Reservation> = new Map()
  readonly #booked: Map<string, readonly Interval[]> = new Map()
  readonly #held: Map<number, Map<VmType, number>> = new Map()
  #promises: Promised[] = []
  #granted: Granted[] = []
  #free = 0
  /** False: reservations have changed since they were looked through. */
  #isScanned = false
  #nextStartMs = Number.POSITIVE_INFINITY
  #isAnyAtRisk = false
  /** Counts how often something changed that decides who is granted what. */
  #changes = 0
  /** Users whose machines changed since they were last asked for. */
  readonly #touched: Set<number> = new Set()
  /** What settle knew when it last left nothing to do; null: it has to look. */
  settled: { readonly changes: number; readonly untilMs: number | null } | null = null
  #classesOf: WeakMap<Group, readonly BookClass[]> = new WeakMap()

  private constructor(pool: Pool) {
    this.#pool = pool
  }

  /** The book of all there is of a pool. */
  static of(all: BookChange, nowMs: number): Book {
    const book = new Book(all.pool)
    book.apply(all, nowMs)
    return book
  }

  /**
   * What a batch, or one command of it, changed. It may say again what the book knows already. What was granted and not yet known
   * machine by machine is forgotten: the change has it.
   */
  apply(change: BookChange, nowMs: number): void {
    const { pool } = change
    this.#forgetGranted()
    if (!isSameQuota(pool.quota, this.#pool.quota))
      for (const userId of this.queue.flows.keys()) this.touch(userId)
    const regrid = pool.gridSeconds !== this.#pool.gridSeconds
    const margins = [...this.#classes.keys()].map((key) => [key, this.marginMsOf(key)] as const)
    this.#pool = pool
    if (regrid) this.#layAnew(nowMs)
    else if (margins.some(([key, ms]) => this.marginMsOf(key) !== ms)) this.#layMargins(nowMs)
    this.#count(change.tally, nowMs)
    for (const vm of change.vms) this.putVm(vm, nowMs)
    for (const id of change.gone) this.#dropVm(id)
    for (const reservation of change.reservations) this.putReservation(reservation, nowMs)
    this.#putRequests(change.requests)
    for (const { userId, tag } of change.flows) this.#setTag(userId, tag)
    for (const { timeline } of this.#classes.values()) timeline.fold(nowMs)
  }

  get pool(): Pool {
    return this.#pool
  }

  get classes(): ReadonlyMap<ClassKey, BookClass> {
    return this.#classes
  }

  /** Machines that are neither ready nor being destroyed, by id. */
  get vms(): ReadonlyMap<number, BookVm> {
    return this.#vms
  }

  /** Those that are confirmed or active. */
  get reservations(): ReadonlyMap<string, Reservation> {
    return this.#reservations
  }

  /** What confirmed reservations take of the timelines, by id. */
  get booked(): ReadonlyMap<string, readonly Interval[]> {
    return this.#booked
  }

  /** When the next of the confirmed ones begins; infinite when there is none. */
  get nextStartMs(): number {
    this.#scan()
    return this.#nextStartMs
  }

  /** Whether something has to be seen to: more is booked than there is, or some reservation is at risk, and may be safe again. */
  isShort(nowMs: number): boolean {
    this.#scan()
    if (this.#isAnyAtRisk) return true
    return this.withoutPromises(() =>
      [...this.#classes.values()].some(({ timeline }) => timeline.minFree(nowMs, null) < 0),
    )
  }

  #scan(): void {
    if (this.#isScanned) return
    this.#isScanned = true
    this.#nextStartMs = Number.POSITIVE_INFINITY
    this.#isAnyAtRisk = false
    for (const { state, fromMs, atRisk } of this.#reservations.values()) {
      if (state === 'confirmed') this.#nextStartMs = Math.min(this.#nextStartMs, fromMs)
      if (atRisk) this.#isAnyAtRisk = true
    }
  }

  get promises(): readonly Promised[] {
    return this.#promises
  }

  /** Ready machines that a shrink leaves. */
  get free(): number {
    return this.#free
  }

  get changes(): number {
    return this.#changes
  }

  /** The classes that a group's requests may use. */
  classesOf(group: Group): readonly BookClass[] {
    let found = this.#classesOf.get(group)
    if (found === undefined) {
      found = this.classesFor(group.wish)
      this.#classesOf.set(group, found)
    }
    return found
  }

  /** The classes that a wish may use: machines that nobody names first. */
  classesFor(wish: Wish): readonly BookClass[] {
    const found = [...this.#classes.values()].filter(({ key }) =>
      wish.some((kind) => matches(kind, classOf(key))),
    )
    return found.sort(
      (a, b) => Number(a.key.includes('#')) - Number(b.key.includes('#')) || (a.key < b.key ? -1 : 1),
    )
  }

  /** The longest time that machines of these classes are out of use after a lease. */
  marginMs(classes: readonly BookClass[]): number {
    let longest = 0
    for (const { key } of classes) longest = Math.max(longest, this.marginMsOf(key))
    return longest
  }

  marginMsOf(key: ClassKey): number {
    return poolMarginMs(this.#pool, classOf(key).type)
  }

  get gridMs(): number {
    return this.#pool.gridSeconds * 1_000
  }

  /** Machines that a user holds in this pool, by type. */
  heldBy(userId: number): ReadonlyMap<VmType, number> {
    return this.#held.get(userId) ?? NOTHING_HELD
  }

  /** Users whose machines changed since this was last asked. */
  takeTouched(): number[] {
    const touched = [...this.#touched]
    this.#touched.clear()
    return touched
  }

  /** What else a user holds, or may hold, has changed: their parked requests have to be looked at. */
  touch(userId: number): void {
    this.#touched.add(userId)
    this.#changes++
  }

  /** Machines are kept for a request. */
  promise(promised: Promised): void {
    this.#promises.push(promised)
    this.#lay(promised, -1)
  }

  /** No promise stands. */
  clearPromises(): void {
    for (const promised of this.#promises) this.#lay(promised, 1)
    this.#promises = []
  }

  /** What `ask` answers when no promises stand. */
  withoutPromises<T>(ask: () => T): T {
    for (const promised of this.#promises) this.#lay(promised, 1)
    try {
      return ask()
    } finally {
      for (const promised of this.#promises) this.#lay(promised, -1)
    }
  }

  /** Machines of a class are granted to a user, and come back at `freeAtMs`. Which ones the batch's change will say. */
  grant(userId: number, classKey: ClassKey, count: number, freeAtMs: number | null): void {
    const granted = { userId, classKey, count, freeAtMs }
    this.#granted.push(granted)
    this.#layGranted(granted, 1)
    this.#free -= count
    this.#changes++
  }

  /** What settle made of the queue. */
  setQueue(queue: Pool['queue']): void {
    this.#pool = { ...this.#pool, queue }
  }

  /** A machine in its new state. */
  putVm(vm: BookVm, nowMs: number): void {
    this.#dropVm(vm.id)
    if (vm.state === 'ready' || vm.state === 'deleting') return
    this.#vms.set(vm.id, vm)
    const own = this.#class(vm.class, nowMs)
    const { freeAtMs } = vm
    if (comesBack(vm) && freeAtMs !== null) own.timeline.add(this.gridUp(freeAtMs), null, 1)
    if (vm.soft !== null) own.soft.set(vm.id, vm)
    if (vm.holderId !== null) this.#hold(vm.holderId, vm.class, 1)
    this.#changes++
  }

  #dropVm(id: number): void {
    const vm = this.#vms.get(id)
    if (vm === undefined) return
    this.#vms.delete(id)
    const own = this.#classes.get(vm.class) as OwnClass
    if (comesBack(vm) && vm.freeAtMs !== null) own.timeline.add(this.gridUp(vm.freeAtMs), null, -1)
    own.soft.delete(id)
    if (vm.holderId !== null) this.#hold(vm.holderId, vm.class, -1)
    this.#changes++
  }

  /** A reservation in its new state. */
  putReservation(reservation: Reservation, nowMs: number): void {
    const { id, state, pinned, fromMs, toMs } = reservation
    this.#isScanned = false
    for (const interval of this.#booked.get(id) ?? []) this.#layInterval(interval, 1, nowMs)
    this.#booked.delete(id)
    if (state === 'confirmed' || state === 'active') this.#reservations.set(id, reservation)
    else this.#reservations.delete(id)
    this.#changes++
    // The machines of an active one are leased.
    if (state !== 'confirmed') return
    const booked = pinned.map(([classKey, count]) => {
      const untilMs = toMs + this.marginMsOf(classKey)
      return { classKey, count, fromMs, toMs: untilMs }
    })
    for (const interval of booked) this.#layInterval(interval, -1, nowMs)
    this.#booked.set(id, booked)
  }

  /**
   * Cleaning is expected to take longer, or less long, than before: so does what is booked, as in a book that is built now. Else
   * two servers would not agree on what is free.
   */
  #layMargins(nowMs: number): void {
    this.#changes++
    for (const [id, booked] of this.#booked) {
      const { toMs } = this.#reservations.get(id) as Reservation
      if (booked.every((interval) => interval.toMs === toMs + this.marginMsOf(interval.classKey))) continue
      const laid = booked.map((interval) => ({
        ...interval,
        toMs: toMs + this.marginMsOf(interval.classKey),
      }))
      for (const interval of booked) this.#layInterval(interval, 1, nowMs)
      for (const interval of laid) this.#layInterval(interval, -1, nowMs)
      this.#booked.set(id, laid)
    }
  }

  #putRequests(requests: readonly Request[]): void {
    for (const request of requests) {
      const before = this.queue.rowOf(request.id)
      const wasFirst = before !== null && headOf(before).id === request.id
      // Settle has written it itself.
      if (before !== null && headOf(before) === request) continue
      if (request.state === 'waiting') this.queue.put(request)
      else this.queue.take(request.id)
      const after = this.queue.rowOf(request.id)
      if (wasFirst || (after !== null && headOf(after).id === request.id)) this.#changes++
    }
    for (const { id } of requests) {
      const row = this.queue.rowOf(id)
      if (row !== null && headOf(row).id === id) this.queue.believe(row)
    }
  }

  #setTag(userId: number, tag: number): void {
    if (this.queue.flows.get(userId)?.tag !== tag) this.#changes++
    this.queue.setTag(userId, tag)
  }

  #count(tally: Tally, nowMs: number): void {
    for (const key of new Set([...this.#classes.keys(), ...Object.keys(tally)])) {
      const states = tally[key] ?? {}
      const own = this.#class(key, nowMs)
      const { ready = 0, leased = 0, maintenance = 0, provisioning = 0, failed = 0, cordoned = 0 } = states
      const usable = ready + leased + maintenance + provisioning
      if (ready !== own.ready || usable !== own.usable) this.#changes++
      own.timeline.add(ALWAYS_MS, null, ready - own.ready)
      own.ready = ready
      own.usable = usable
      own.existing = usable + failed + cordoned
    }
    const free = countFree(this.#pool, tally)
    if (free !== this.#free) this.#changes++
    this.#free = free
  }

  #forgetGranted(): void {
    for (const granted of this.#granted) this.#layGranted(granted, -1)
    this.#granted = []
  }

  #layGranted({ userId, classKey, count, freeAtMs }: Granted, sign: 1 | -1): void {
    const own = this.#classes.get(classKey) as OwnClass
    own.ready -= sign * count
    own.timeline.add(ALWAYS_MS, null, -sign * count)
    if (freeAtMs !== null) own.timeline.add(this.gridUp(freeAtMs), null, sign * count)
    this.#hold(userId, classKey, sign * count)
  }

  #lay({ placement, fromMs, toMs }: Promised, sign: 1 | -1): void {
    for (const { classKey, count } of placement)
      this.#classes.get(classKey)?.timeline.add(fromMs, toMs, sign * count)
  }

  #layInterval({ classKey, count, fromMs, toMs }: Interval, sign: 1 | -1, nowMs: number): void {
    this.#class(classKey, nowMs).timeline.add(fromMs, toMs, sign * count)
  }

  #hold(userId: number, classKey: ClassKey, count: number): void {
    const { type } = classOf(classKey)
    const held = this.#held.get(userId) ?? new Map<VmType, number>()
    const after = (held.get(type) ?? 0) + count
    if (after === 0) held.delete(type)
    else held.set(type, after)
    if (held.size === 0) this.#held.delete(userId)
    else this.#held.set(userId, held)
    this.#touched.add(userId)
  }

  #class(key: ClassKey, nowMs: number): OwnClass {
    let own = this.#classes.get(key)
    if (own === undefined) {
      const timeline = new Timeline(this.gridMs, Math.floor(nowMs / this.gridMs) * this.gridMs)
      own = { key, ready: 0, usable: 0, existing: 0, timeline, soft: new Map() }
      this.#classes.set(key, own)
      this.#classesOf = new WeakMap()
    }
    return own
  }

  /** When a machine that is back at `ms` may be promised: timelines round what is free inwards. */
  gridUp(ms: number): number {
    return Math.ceil(ms / this.gridMs) * this.gridMs
  }

  /** The grid has changed. */
  #layAnew(nowMs: number): void {
    const vms = [...this.#vms.values()]
    const reservations = [...this.#reservations.values()]
    this.#classes.clear()
    this.#classesOf = new WeakMap()
    this.#vms.clear()
    this.#held.clear()
    this.#booked.clear()
    this.#promises = []
    for (const vm of vms) this.putVm(vm, nowMs)
    for (const reservation of reservations) this.putReservation(reservation, nowMs)
  }
}

/** Before all that timelines know. */
const ALWAYS_MS = Number.NEGATIVE_INFINITY

const NOTHING_HELD: ReadonlyMap<VmType, number> = new Map()

/** Whether a machine is ready again some day by itself. */
function comesBack({ state }: BookVm): boolean {
  return state === 'leased' || state === 'maintenance' || state === 'provisioning'
}
