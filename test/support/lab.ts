/**
 * A pool as its book sees it, with a clock of its own and without stores, lanes and workers: leases end, machines are cleaned,
 * reservations begin, and each batch settles. It does what the rules around the allocator do with its answers, machine by machine.
 */
import assert from 'node:assert/strict'
import { Book, type BookChange, type BookVm } from '../../src/domain/book.ts'
import { extensionRefusal } from '../../src/domain/extension.ts'
import { activeTag, chargedTag, chargeOf, truedTag, usedMinutes } from '../../src/domain/order.ts'
import { countUp, type Pool, type Tally } from '../../src/domain/pool.ts'
import { type Limits, UNLIMITED } from '../../src/domain/quota.ts'
import type { Refusal } from '../../src/domain/refusal.ts'
import type { Flow, Priority, Request } from '../../src/domain/request.ts'
import type { Reservation } from '../../src/domain/reservation.ts'
import { type Grant, type Join, type Settled, settle } from '../../src/domain/settle.ts'
import type { VmState } from '../../src/domain/vm.ts'
import type { ClassKey } from '../../src/domain/vm-class.ts'
import { FIRST_VM_TYPES } from '../../src/domain/vm-type.ts'
import type { Kind, Wish } from '../../src/domain/wish.ts'
import { aPool } from './world.ts'

export const MINUTE_MS = 60_000

/** When minute 0 of every lab is. */
export const START_MS = Date.UTC(2026, 0, 5)

export interface LabLease {
  readonly vmId: number
  readonly classKey: ClassKey
  readonly userId: number
  readonly request: Request | null
  readonly fromMs: number
  readonly endsAtMs: number | null
  readonly chargedMinutes: number
  readonly weight: number
}

/** A wish of one kind. */
export interface Wanted {
  readonly count?: number
  readonly minutes?: number | null
  readonly minutesMin?: number | null
  readonly type?: string | null
  readonly wish?: Wish
  readonly waits?: boolean
  readonly priority?: Priority
  readonly softGraceMinutes?: number | null
  /** After how many more departures it is overdue, if not after as many as usual. */
  readonly dueIn?: number | null
}

/** What happened to a request. */
export interface Told {
  readonly id: string
  readonly userId: number
  readonly atMinute: number
  readonly vmIds: readonly number[]
  readonly durationSeconds: number | null
}

export const LIMITS: Limits = {
  vcpuOf: (type) => FIRST_VM_TYPES.find(({ name }) => name === type)?.vcpu ?? 1,
  headroom: () => UNLIMITED,
}

export function kindOf(edit: Partial<Kind> = {}): Kind {
  return { type: null, labels: {}, vmId: null, count: 1, ...edit }
}

export class Lab {
  nowMs = START_MS
  pool: Pool
  readonly vms = new Map<number, BookVm>()
  readonly leases = new Map<number, LabLease>()
  readonly waiting = new Map<string, Request>()
  readonly flows = new Map<number, Flow>()
  readonly reservations = new Map<string, Reservation>()
  readonly granted: Told[] = []
  readonly notices: Settled['notices'][number][] = []
  limits: Limits = LIMITS
  /** Machines that were not ready when a reservation began. */
  missing = 0
  /** How long cleaning takes, if it is not as long as expected. */
  cleanMinutes: number | null = null
  book: Book
  /** The book of another server, which hears of a batch when it is over. */
  mirror: Book
  last: Settled | null = null
  #ids = 0
  #joins: Join[] = []
  /** What the present batch has changed so far. */
  #edits: Partial<BookChange>[] = []

  constructor(classes: Readonly<Record<ClassKey, number>>, policy: Partial<Pool> = {}) {
    const target = Object.values(classes).reduce((sum, count) => sum + count, 0)
    this.pool = aPool({ target, typeMix: {}, gridSeconds: 60, ...policy })
    let id = 0
    for (const [key, count] of Object.entries(classes))
      for (let i = 0; i < count; i++) this.#put(++id, key, 'ready', null)
    this.book = this.rebuilt()
    this.mirror = this.rebuilt()
  }

  get minute(): number {
    return (this.nowMs - START_MS) / MINUTE_MS
  }

  at(minute: number): number {
    return START_MS + minute * MINUTE_MS
  }

  tally(): Tally {
    const tally: Tally = {}
    for (const { class: key, state } of this.vms.values()) countUp(tally, key, state, 1)
    return tally
  }

  /** The book as a server would build it anew. */
  rebuilt(): Book {
    return Book.of(
      {
        ...this.#nothing(),
        vms: [...this.vms.values()].filter(({ state }) => state !== 'ready'),
        requests: [...this.waiting.values()],
        flows: [...this.flows.values()],
        reservations: [...this.reservations.values()].filter(
          ({ state }) => state === 'confirmed' || state === 'active',
        ),
      },
      this.nowMs,
    )
  }

  request(userId: number, wanted: Wanted = {}): Request {
    const { count = 1, minutes = 60, minutesMin = null, type = null, softGraceMinutes = null } = wanted
    const seconds = (value: number | null) => (value === null ? null : value * 60)
    return {
      id: `r${++this.#ids}`,
      poolId: this.pool.id,
      userId,
      seq: 0,
      wish: wanted.wish ?? [kindOf({ type, count })],
      terms: {
        durationSeconds: seconds(minutes),
        durationSecondsMin: seconds(minutesMin),
        softGraceSeconds: seconds(softGraceMinutes),
        heartbeatSeconds: null,
        purpose: null,
        labels: {},
      },
      priority: wanted.priority ?? 'low',
      state: 'waiting',
      createdAtMs: this.nowMs,
      untilMs: null,
      endedAtMs: null,
      due: wanted.dueIn == null ? null : this.pool.queue.departed + wanted.dueIn,
      parked: false,
      collectSinceMs: null,
      reservationId: null,
      leases: [],
    }
  }

  /** A request joins with the next batch. */
  join(userId: number, wanted: Wanted = {}): string {
    const request = this.request(userId, wanted)
    this.#joins.push({ request, waits: wanted.waits ?? true })
    return request.id
  }

  /** Joins alone in a batch that settles. */
  ask(userId: number, wanted: Wanted = {}): Told | Refusal | null {
    const id = this.join(userId, wanted)
    const { refused } = this.settle()
    const no = refused.find(({ request }) => request.id === id)
    return no?.refusal ?? this.toldOf(id)
  }

  toldOf(id: string): Told | null {
    return this.granted.find((told) => told.id === id) ?? null
  }

  /** A batch ends: settles, and does what it says. */
  settle(): Settled {
    const joins = this.#joins
    this.#joins = []
    const settled = settle(this.book, joins, this.nowMs, this.limits)
    this.last = settled
    this.pool = { ...this.pool, queue: this.book.pool.queue }
    const changed = new Map<number, BookVm>()
    for (const grant of settled.grants) for (const vm of this.#carryOut(grant)) changed.set(vm.id, vm)
    for (const notice of settled.notices) {
      this.notices.push(notice)
      changed.set(notice.vmId, this.#end(notice.vmId, notice.endsAtMs))
    }
    for (const request of settled.requests) this.waiting.set(request.id, request)
    for (const { request } of settled.grants) this.waiting.delete(request.id)
    for (const flow of settled.flows) this.flows.set(flow.userId, flow)
    const granted = settled.grants.map(({ request }) => ({ ...request, state: 'granted' as const }))
    const requests = [...settled.requests, ...granted]
    this.#apply({ vms: [...changed.values()], requests, flows: settled.flows })
    this.#tellMirror()
    return settled
  }

  /** Settles until nothing is left to do at once. */
  settleAll(): void {
    while (this.settle().more);
  }

  /** Ends a lease, as its holder or its end does: the machine is cleaned. */
  checkIn(vmId: number): void {
    const lease = this.leases.get(vmId)
    if (lease === undefined) return
    this.leases.delete(vmId)
    const { classKey, userId, fromMs } = lease
    const freeAtMs = this.nowMs + this.book.marginMsOf(classKey)
    const flows: Flow[] = []
    if (lease.request !== null) {
      const { v } = this.pool.queue
      const tag = this.flows.get(userId)?.tag ?? v
      const used = usedMinutes(this.pool, classKey, this.nowMs - fromMs)
      flows.push({ poolId: this.pool.id, userId, tag: truedTag(tag, v, lease, used) })
    }
    this.#apply({ vms: [this.#put(vmId, classKey, 'maintenance', freeAtMs)], flows })
  }

  /** A machine is clean, made, or repaired. */
  ready(vmId: number): void {
    const vm = this.#vm(vmId)
    if (vm.state !== 'ready') this.#apply({ vms: [this.#put(vmId, vm.class, 'ready', null)] })
  }

  fail(vmId: number): void {
    const vm = this.#vm(vmId)
    if (vm.state !== 'leased') this.#apply({ vms: [this.#put(vmId, vm.class, 'failed', null)] })
  }

  cancel(id: string): void {
    const request = this.waiting.get(id)
    if (request === undefined) return
    this.waiting.delete(id)
    this.#apply({ requests: [{ ...request, state: 'cancelled', endedAtMs: this.nowMs }] })
  }

  /** Asks for a later end of a lease; the refusal, or null when it was done. */
  extend(vmId: number, minute: number): Refusal | null {
    const lease = this.leases.get(vmId)
    assert.ok(lease !== undefined && lease.endsAtMs !== null, `machine ${vmId} has no lease with an end`)
    const no = extensionRefusal(this.book, this.#vm(vmId), lease.endsAtMs, this.at(minute))
    if (no !== null) return no
    const cost = chargeOf(this.pool, lease.classKey, (this.at(minute) - lease.endsAtMs) / 1_000)
    const { v } = this.pool.queue
    const tag = chargedTag(activeTag(this.flows.get(lease.userId)?.tag ?? v, v), cost, lease.weight)
    const vm = this.#end(vmId, this.at(minute))
    this.#apply({ vms: [vm], flows: [{ poolId: this.pool.id, userId: lease.userId, tag }] })
    return null
  }

  /** A machine is leased without the queue. */
  lease(
    vmId: number,
    userId: number,
    endMinute: number | null,
    softGraceMinutes: number | null = null,
  ): void {
    const { class: classKey } = this.#vm(vmId)
    const endsAtMs = endMinute === null ? null : this.at(endMinute)
    const lease = { vmId, classKey, userId, request: null, endsAtMs, chargedMinutes: 0, weight: 1 }
    this.leases.set(vmId, { ...lease, fromMs: this.nowMs })
    const freeAtMs = endsAtMs === null ? null : endsAtMs + this.book.marginMsOf(classKey)
    const soft =
      softGraceMinutes === null ? null : { graceSeconds: softGraceMinutes * 60, fromMs: this.nowMs }
    this.#apply({ vms: [this.#put(vmId, classKey, 'leased', freeAtMs, userId, soft)] })
  }

  /** Books machines of a class, unless they may be needed then. Says whether it did. */
  reserve(classKey: ClassKey, count: number, fromMinute: number, toMinute: number): boolean {
    const fromMs = this.at(fromMinute)
    const toMs = this.at(toMinute)
    const { timeline } = this.book.classes.get(classKey) ?? assert.fail(classKey)
    if (timeline.minFree(fromMs, toMs + this.book.marginMsOf(classKey)) < count) return false
    const reservation: Reservation = {
      id: `b${++this.#ids}`,
      poolId: this.pool.id,
      userId: 99,
      wish: [kindOf({ count })],
      fromMs,
      toMs,
      pinned: [[classKey, count]],
      state: 'confirmed',
      atRisk: false,
      missing: 0,
      confirmedSeq: this.#ids,
      noShowSeconds: null,
      claimed: false,
      seriesId: null,
      purpose: null,
      labels: {},
      createdAtMs: this.nowMs,
    }
    this.reservations.set(reservation.id, reservation)
    this.#apply({ reservations: [reservation] })
    return true
  }

  setPool(edit: Partial<Pool>): void {
    this.pool = { ...this.pool, ...edit }
    this.#apply({})
  }

  /** Lets time pass; whatever comes due is a batch of its own, which settles unless `settles` is false. */
  advanceTo(minute: number, settles = true): void {
    const untilMs = this.at(minute)
    for (;;) {
      const dueMs = this.#nextDueMs()
      if (dueMs === null || dueMs > untilMs) break
      this.nowMs = Math.max(this.nowMs, dueMs)
      this.tick()
      if (settles) this.settleAll()
    }
    this.nowMs = untilMs
  }

  /** Everything that is due now. */
  tick(): void {
    for (const lease of [...this.leases.values()])
      if (lease.endsAtMs !== null && lease.endsAtMs <= this.nowMs) this.checkIn(lease.vmId)
    for (const vm of [...this.vms.values()]) {
      const readyAtMs = this.#readyAtMs(vm)
      if (readyAtMs !== null && readyAtMs <= this.nowMs) this.ready(vm.id)
    }
    for (const reservation of [...this.reservations.values()])
      if (reservation.state === 'confirmed' && reservation.fromMs <= this.nowMs) this.#begin(reservation)
  }

  /** The reservation's machines are leased to its holder. */
  #begin(reservation: Reservation): void {
    const active: Reservation = { ...reservation, state: 'active' }
    this.reservations.set(active.id, active)
    const vms = active.pinned.flatMap(([classKey, count]) => {
      const ids = this.#readyOf(classKey).slice(0, count)
      this.missing += count - ids.length
      return ids.map((vmId) => {
        const { toMs: endsAtMs, userId } = active
        const lease = { vmId, classKey, userId, request: null, endsAtMs, chargedMinutes: 0, weight: 1 }
        this.leases.set(vmId, { ...lease, fromMs: this.nowMs })
        const freeAtMs = endsAtMs + this.book.marginMsOf(classKey)
        return this.#put(vmId, classKey, 'leased', freeAtMs, userId)
      })
    })
    this.#apply({ vms, reservations: [active] })
  }

  /** When something comes due next; null: never. */
  #nextDueMs(): number | null {
    const times: number[] = []
    for (const { endsAtMs } of this.leases.values()) if (endsAtMs !== null) times.push(endsAtMs)
    for (const vm of this.vms.values()) {
      const readyAtMs = this.#readyAtMs(vm)
      if (readyAtMs !== null) times.push(readyAtMs)
    }
    for (const { state, fromMs } of this.reservations.values()) if (state === 'confirmed') times.push(fromMs)
    const nextAtMs = this.last?.nextAtMs ?? null
    if (nextAtMs !== null && nextAtMs > this.nowMs) times.push(nextAtMs)
    return times.length === 0 ? null : Math.min(...times)
  }

  #readyAtMs({ state, freeAtMs, class: key }: BookVm): number | null {
    if (state !== 'maintenance' || freeAtMs === null) return null
    if (this.cleanMinutes === null) return freeAtMs
    return freeAtMs - this.book.marginMsOf(key) + this.cleanMinutes * MINUTE_MS
  }

  #carryOut({ request, placement, durationSeconds, weight }: Grant): BookVm[] {
    const { userId, terms } = request
    const endsAtMs = durationSeconds === null ? null : this.nowMs + durationSeconds * 1_000
    const vms = placement.flatMap(({ classKey, count }) => {
      const ids = this.#readyOf(classKey).slice(0, count)
      assert.equal(
        ids.length,
        count,
        `${count} machines of ${classKey} were granted, ${ids.length} are ready`,
      )
      return ids.map((vmId) => {
        const chargedMinutes = chargeOf(this.pool, classKey, durationSeconds)
        this.leases.set(vmId, {
          vmId,
          classKey,
          userId,
          request,
          fromMs: this.nowMs,
          endsAtMs,
          chargedMinutes,
          weight,
        })
        const freeAtMs = endsAtMs === null ? null : endsAtMs + this.book.marginMsOf(classKey)
        const grace = endsAtMs === null ? terms.softGraceSeconds : null
        const soft = grace === null ? null : { graceSeconds: grace, fromMs: this.nowMs }
        return this.#put(vmId, classKey, 'leased', freeAtMs, userId, soft)
      })
    })
    const told = { id: request.id, userId, atMinute: this.minute, durationSeconds }
    this.granted.push({ ...told, vmIds: vms.map(({ id }) => id) })
    return vms
  }

  /** A lease ends at another time. */
  #end(vmId: number, endsAtMs: number): BookVm {
    const lease = this.leases.get(vmId) ?? assert.fail(`machine ${vmId} is not leased`)
    this.leases.set(vmId, { ...lease, endsAtMs })
    const freeAtMs = endsAtMs + this.book.marginMsOf(lease.classKey)
    return this.#put(vmId, lease.classKey, 'leased', freeAtMs, lease.userId)
  }

  #readyOf(key: ClassKey): number[] {
    return [...this.vms.values()]
      .filter((vm) => vm.class === key && vm.state === 'ready')
      .map(({ id }) => id)
      .sort((a, b) => a - b)
  }

  #vm(vmId: number): BookVm {
    return this.vms.get(vmId) ?? assert.fail(`no machine ${vmId}`)
  }

  #put(
    id: number,
    key: ClassKey,
    state: VmState,
    freeAtMs: number | null,
    holderId: number | null = null,
    soft: BookVm['soft'] = null,
  ): BookVm {
    const vm = { id, class: key, state, freeAtMs, holderId, soft }
    this.vms.set(id, vm)
    return vm
  }

  #apply(edit: Partial<BookChange>): void {
    for (const flow of edit.flows ?? []) this.flows.set(flow.userId, flow)
    this.book.apply({ ...this.#nothing(), ...edit }, this.nowMs)
    this.#edits.push(edit)
  }

  /** The batch is committed: what it changed, each row as it is in the end. */
  #tellMirror(): void {
    const edits = this.#edits
    this.#edits = []
    const last = <T>(rows: readonly T[], keyOf: (row: T) => unknown) => [
      ...new Map(rows.map((row) => [keyOf(row), row])).values(),
    ]
    const change = {
      ...this.#nothing(),
      vms: last(
        edits.flatMap(({ vms = [] }) => vms),
        ({ id }) => id,
      ),
      requests: last(
        edits.flatMap(({ requests = [] }) => requests),
        ({ id }) => id,
      ),
      flows: last(
        edits.flatMap(({ flows = [] }) => flows),
        ({ userId }) => userId,
      ),
      reservations: last(
        edits.flatMap(({ reservations = [] }) => reservations),
        ({ id }) => id,
      ),
    }
    this.mirror.apply(change, this.nowMs)
  }

  #nothing(): BookChange {
    const tally = this.tally()
    return { pool: this.pool, tally, vms: [], gone: [], requests: [], flows: [], reservations: [] }
  }
}
