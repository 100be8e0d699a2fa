/**
 * How a batch comes to its end: everything that came back in it is there, everybody who asked in it is known, and now each pool
 * grants what can be granted. In a pool where nobody waits and nothing is booked, joiners take what is ready in the order in which they
 * came; else the pool's book decides (settle.ts). Classes and numbers are decided first; then machines are picked, of which the
 * batch may have to load some.
 */
import type { Notice } from './admission.ts'
import type { Book } from './book.ts'
import type { Joined, Joiner } from './decision.ts'
import type { NewEvent } from './event.ts'
import { heal } from './healing.ts'
import { type Lease, plainLease, planned } from './lease.ts'
import { move } from './lifecycle.ts'
import { ENDLESS, newRequest } from './new-request.ts'
import { countFree, isContended, marginMs, type Pool } from './pool.ts'
import {
  headroomOf,
  isLimited,
  isLimitedElsewhere,
  quotaRefusal,
  vcpuOf,
  waitingRefusal,
} from './quota-use.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import type { Request } from './request.ts'
import type { Reservation } from './reservation.ts'
import { type Started, startReservations } from './reservation-start.ts'
import { type Grant, type Join, type Settled, settle } from './settle.ts'
import { moveAlone, movesBack } from './solo-class.ts'
import type { Move } from './trial.ts'
import type { Vm } from './vm.ts'
import type { ClassKey } from './vm-class.ts'
import { countWished, type Placement, place, type Wish } from './wish.ts'
import type { MoreNeeds, WorkingSet } from './working-set.ts'

/** A grant whose machines are to be picked. `joiner` null: the request has waited. */
interface Pending extends Grant {
  readonly joiner: Joiner | null
  /** True: a reservation that begins, and no request. */
  readonly isStart: boolean
}

/** What settle has decided of a pool, to be applied when its machines are picked. */
interface Decided {
  readonly poolId: number
  readonly book: Book
  readonly settled: Settled
  readonly pending: readonly Pending[]
  readonly byId: ReadonlyMap<string, Joiner>
  readonly started: readonly Started[]
}

export class Settlement {
  readonly #set: WorkingSet
  #joiners: Joiner[] = []
  readonly #outcomes = new Map<Joiner, Joined | Refusal>()
  /** Pools that need not be looked at again. */
  readonly #settled = new Set<number>()
  #decided: Decided[] = []
  #rounds = 0
  #joined = 0

  constructor(set: WorkingSet) {
    this.#set = set
  }

  add(joiner: Joiner): void {
    this.#joiners.push(joiner)
  }

  /** What became of a joiner, once `step` has returned null. */
  outcomeOf(joiner: Joiner): Joined | Refusal {
    const outcome = this.#outcomes.get(joiner)
    if (outcome === undefined) throw new Error(`request ${joiner.request.id} was not settled`)
    return outcome
  }

  /** Goes as far as it can with what is loaded. Returns what it needs to go on; null: everything is settled. */
  step(): MoreNeeds | null {
    for (;;) {
      const needs = new More()
      this.#askSoftLeases(needs)
      this.#carryOut(needs)
      if (needs.any) return needs.list()
      this.#grantFree(needs)
      this.#settlePools(needs)
      if (needs.any) return needs.list()
      if (this.#decided.length === 0) return null
    }
  }

  /** Tells the holders of soft leases that end for a reservation of this batch. */
  #askSoftLeases(needs: More): void {
    const { notices } = this.#set
    for (const { vmId } of notices) if (this.#set.lease(vmId) === undefined) needs.vmIds.add(vmId)
    if (needs.any) return
    for (const notice of notices.splice(0)) {
      const { vm, lease, event } = this.#asked(notice)
      this.#set.apply({ vms: [vm], leases: [lease], events: [event] })
    }
  }

  /** Joiners of pools where nobody waits and nothing is booked take what is ready, in the order in which they came. */
  #grantFree(needs: More): void {
    const left: Joiner[] = []
    /** Behind one that has to wait, nobody of the same pool overtakes. */
    const held = new Set<number>()
    for (const joiner of this.#joiners) {
      const pool = this.#pool(joiner.request.poolId)
      if (held.has(pool.id) || isContended(pool) || !this.#tryFree(pool, joiner, needs)) {
        held.add(pool.id)
        left.push(joiner)
      }
    }
    this.#joiners = left
  }

  /** Grants or refuses a joiner by what is ready; false: rows have to be loaded for it, or it has to wait. */
  #tryFree(pool: Pool, joiner: Joiner, needs: More): boolean {
    const { request, user, waits } = joiner
    if (isLimited(pool, user) && this.#set.usage(user.id) === undefined) {
      needs.usageOf.add(user.id)
      return false
    }
    const placement = this.#placeFree(pool, request)
    const { durationSeconds } = request.terms
    const no =
      placement === null
        ? (this.#namedTaken(request) ?? refusal('none_free', { pool: pool.name, type: typeOf(request) }))
        : quotaRefusal(this.#set, pool, user, byClass(placement), durationSeconds)
    if (no?.code === 'quota_never' || (no !== null && !waits)) {
      this.#outcomes.set(joiner, no)
      return true
    }
    if (placement === null || no !== null) return false
    const granted = { request, placement, durationSeconds, chargedMinutes: 0, weight: 1 }
    const pending = { ...granted, joiner, isStart: false }
    if (!this.#hasMachines([pending], needs)) return false
    this.#set.apply(this.#leased(pool, [pending]))
    return true
  }

  /** Why a machine that a wish names cannot be had now; null: it can, or none is named. */
  #namedTaken({ wish }: Request): Refusal | null {
    const vms = wish.map(({ vmId }) => (vmId === null ? undefined : this.#set.vm(vmId)))
    return notReady(vms.filter((vm) => vm !== undefined))
  }

  /** Which classes serve a wish when nothing but what is ready counts. */
  #placeFree(pool: Pool, { wish }: Request): Placement | null {
    const tally = this.#set.tally(pool.id)
    if (countFree(pool, tally) < countWished(wish)) return null
    const ready = new Map(Object.entries(tally).map(([key, states]) => [key, states?.ready ?? 0]))
    const named: { kind: number; classKey: ClassKey; count: number }[] = []
    for (const [kind, { vmId }] of wish.entries()) {
      if (vmId === null) continue
      const vm = this.#set.vm(vmId)
      if (vm?.state !== 'ready') return null
      named.push({ kind, classKey: vm.class, count: 1 })
      ready.set(vm.class, (ready.get(vm.class) ?? 0) - 1)
    }
    const rest = place(
      wish.map((kind) => (kind.vmId === null ? kind : { ...kind, vmId: null, count: 0 })),
      ready,
    )
    return rest === null ? null : [...named, ...rest]
  }

  /** Pools with a book settle by it, once the joiners that are left have joined. */
  #settlePools(needs: More): void {
    const joiners = Map.groupBy(this.#joiners, ({ request }) => request.poolId)
    const poolIds = new Set([...this.#set.bookedPools, ...joiners.keys()])
    const books: [Pool, Book][] = []
    for (const poolId of poolIds) {
      if (this.#settled.has(poolId)) continue
      const pool = this.#pool(poolId)
      const book = this.#set.book(poolId)
      if (book === undefined) needs.books.add(poolId)
      else if (isContended(pool) || joiners.has(poolId)) {
        books.push([pool, book])
        for (const { user } of joiners.get(poolId) ?? []) this.#wantLimits(pool, user.id, needs)
        for (const userId of nextUserIds(book)) this.#wantLimits(pool, userId, needs)
        if (this.#set.lookedAgain.has(poolId)) this.#wantLate(pool, book, needs)
        for (const { vmId } of movesBack(book)) if (this.#set.vm(vmId) === undefined) needs.vmIds.add(vmId)
      }
    }
    if (needs.any) return
    for (const [pool, book] of books) {
      this.#settled.add(pool.id)
      this.#settlePool(pool, book, joiners.get(pool.id) ?? [])
    }
    this.#joiners = []
  }

  /** Who may be granted something has to be held by the batch, with what they hold if that is limited. */
  #wantLimits(pool: Pool, userId: number, needs: More): void {
    const user = this.#set.user(userId)
    if (user === undefined) needs.userIds.add(userId)
    else if (isLimitedElsewhere(pool, user) && this.#set.usage(userId) === undefined)
      needs.usageOf.add(userId)
  }

  /** What a look at the clock has to see: who is parked, as they may have given back elsewhere, and machines that are late. */
  #wantLate(pool: Pool, book: Book, needs: More): void {
    for (const userId of book.queue.parkedUserIds()) this.#wantLimits(pool, userId, needs)
    for (const id of lateIds(book, this.#set.nowMs)) if (this.#set.vm(id) === undefined) needs.vmIds.add(id)
  }

  #settlePool(pool: Pool, book: Book, joiners: readonly Joiner[]): void {
    const set = this.#set
    if (set.lookedAgain.has(pool.id)) this.#lookAgain(pool, book)
    this.#move(movesBack(book))
    this.#heal(book)
    const byId = new Map<string, Joiner>()
    const joining = joiners.flatMap((joiner) => {
      const joins = this.#joinOf(joiner, book)
      for (const { request } of joins) byId.set(request.id, joiner)
      return joins
    })
    const started = book.nextStartMs <= set.nowMs ? startReservations(book, set.nowMs) : []
    const missing = started.flatMap((start) =>
      start.missing.length === 0 ? [] : [missingRequest(set, pool, start)],
    )
    const joins = [...missing.map((request) => ({ request, waits: true })), ...joining]
    const settled = settle(book, joins, set.nowMs, {
      vcpuOf: (type) => vcpuOf(set, type),
      headroom(userId) {
        const user = set.user(userId)
        if (user === undefined || user.state !== 'active') return undefined
        if (isLimitedElsewhere(pool, user) && set.usage(userId) === undefined) return undefined
        return headroomOf(set, pool, user)
      },
    })
    for (const { request, refusal: no } of settled.refused) {
      const joiner = byId.get(request.id)
      if (joiner !== undefined) this.#outcomes.set(joiner, no)
    }
    const pending = settled.grants.map((grant) => {
      const joiner = byId.get(grant.request.id) ?? null
      return { ...grant, request: joiner?.request ?? grant.request, joiner, isStart: false }
    })
    this.#decided.push({ poolId: pool.id, book, settled, pending, byId, started })
  }

  /** Machines that are late are expected half a margin later; whoever is parked may have room by now. */
  #lookAgain(pool: Pool, book: Book): void {
    const late = lateIds(book, this.#set.nowMs).flatMap((id) => this.#set.vm(id) ?? [])
    const expected = late.map((vm) => ({ ...vm, freeAtMs: this.#set.nowMs + marginMs(pool, vm.type) / 2 }))
    if (expected.length > 0) this.#set.apply({ vms: expected, events: [] })
    for (const userId of book.queue.parkedUserIds()) book.touch(userId)
  }

  /** Reservations that cannot be kept as things are, and those that can again: their holders are told. */
  #heal(book: Book): void {
    if (!book.isShort(this.#set.nowMs)) return
    const { atRisk, safe, repinned } = heal(book, this.#set.nowMs)
    const reservations = [...atRisk, ...safe, ...repinned]
    if (reservations.length === 0) return
    const told = [
      ...atRisk.map((reservation) => riskEvent('reservation.at_risk', reservation)),
      ...safe.map((reservation) => riskEvent('reservation.safe', reservation)),
    ]
    this.#set.apply({ reservations, events: told })
  }

  /**
   * A joiner as settle takes it. Who waits for a machine by name has it set apart in a class of its own; who does not wait takes
   * one of its class, and that one is picked. Nothing: it was refused.
   */
  #joinOf(joiner: Joiner, book: Book): Join[] {
    const { request, waits } = joiner
    const tooMany = waits ? waitingRefusal(this.#set, joiner.user) : null
    if (tooMany !== null) {
      this.#outcomes.set(joiner, tooMany)
      return []
    }
    const vmIds = request.wish.flatMap(({ vmId }) => vmId ?? [])
    // Who does not wait has no id of their own: nothing is kept of the request.
    const named = waits ? request : { ...request, id: `${this.#joined++}` }
    if (vmIds.length === 0) return [{ request: named, waits }]
    const vms = vmIds.map((id) => this.#set.vm(id)).filter((vm) => vm !== undefined)
    const no = waits ? this.#setApart(book, vms) : notReady(vms)
    if (no !== null) {
      this.#outcomes.set(joiner, no)
      return []
    }
    if (waits) return [{ request, waits }]
    const classOfVm = new Map(vms.map((vm) => [vm.id, vm.class]))
    const wish = request.wish.map((kind) => {
      const classKey = kind.vmId === null ? undefined : classOfVm.get(kind.vmId)
      return classKey === undefined ? kind : { ...kind, vmId: null, classKey }
    })
    return [{ request: { ...named, wish }, waits }]
  }

  /** Machines that somebody waits for by name are moved into classes of their own. Refused: `vm_entangled`. */
  #setApart(book: Book, vms: readonly Vm[]): Refusal | null {
    for (const vm of vms) {
      const move = moveAlone(book, vm, this.#set.nowMs)
      if (isRefusal(move)) return move
      if (move !== null) this.#move([move])
    }
    return null
  }

  #move(moves: readonly Move[]): void {
    const vms = moves.flatMap(({ vmId, classKey }) => {
      const vm = this.#set.vm(vmId)
      return vm === undefined ? [] : [{ ...vm, class: classKey }]
    })
    if (vms.length > 0) this.#set.apply({ vms, events: [] })
  }

  /** Picks the machines for what was decided, and applies each pool's decisions as one change. */
  #carryOut(needs: More): void {
    for (const { poolId, pending, settled, started } of this.#decided) {
      this.#hasMachines(
        [...started.map((start) => startGrant(this.#set, this.#pool(poolId), start)), ...pending],
        needs,
      )
      for (const { vmId } of settled.notices) if (this.#set.lease(vmId) === undefined) needs.vmIds.add(vmId)
    }
    if (needs.any) return
    for (const { poolId, book, settled, pending, byId, started } of this.#decided) {
      const pool = this.#pool(poolId)
      const { v, departed, nextSeq } = book.pool.queue
      const settleAtMs = settled.more ? this.#set.nowMs : settled.nextAtMs
      const waiting = settled.requests.flatMap((request) => {
        const joiner = byId.get(request.id)
        if (joiner === undefined) return []
        this.#outcomes.set(joiner, { leases: null, waiting: request })
        return [{ ...waitsNow(request), requestId: joiner.callId }]
      })
      const begun = started.map((start) => startGrant(this.#set, pool, start))
      const leased = this.#leased(pool, [...begun, ...pending])
      const asked = settled.notices.map((notice) => this.#asked(notice))
      const queue = { ...pool.queue, v, departed, nextSeq, settleAtMs }
      const isSame = nextSeq === pool.queue.nextSeq && settleAtMs === pool.queue.settleAtMs
      // What only looks at a pool must not have to be saved.
      if (
        !isSame ||
        started.length + pending.length + settled.requests.length + settled.flows.length + asked.length > 0
      )
        this.#set.apply({
          pools: [{ ...pool, queue }],
          flows: settled.flows,
          requests: [...settled.requests, ...leased.requests],
          reservations: started.map(({ reservation }) => reservation),
          vms: [...leased.vms, ...asked.map(({ vm }) => vm)],
          leases: [...leased.leases, ...asked.map(({ lease }) => lease)],
          events: [
            ...started.map(startsNow),
            ...waiting,
            ...leased.events,
            ...asked.map(({ event }) => event),
          ],
        })
      if (settled.userIds.length === 0 || this.#rounds++ > ROUNDS_MAX) continue
      for (const userId of settled.userIds) book.touch(userId)
      this.#settled.delete(poolId)
    }
    this.#decided = []
  }

  /** Whether the ready machines that grants take are loaded; asks for those that are not. */
  #hasMachines(grants: readonly Pending[], needs: More): boolean {
    const wanted = new Map<string, number>()
    for (const { request, placement } of grants)
      for (const { classKey, count, kind } of placement) {
        if (this.#named(request, kind) !== null) continue
        const key = `${request.poolId} ${classKey}`
        wanted.set(key, (wanted.get(key) ?? 0) + count)
      }
    let has = true
    for (const [key, count] of wanted) {
      const at = key.indexOf(' ')
      const [poolId, classKey] = [Number(key.slice(0, at)), key.slice(at + 1)]
      const missing = count - this.#set.readyOf(poolId, classKey).length
      if (missing <= 0) continue
      has = false
      needs.ready.set(key, [poolId, classKey, missing])
    }
    return has
  }

  /** What grants change: machines are picked, the lowest ids first, and leased. Tells joiners of it. */
  #leased(pool: Pool, grants: readonly Pending[]) {
    const { nowMs } = this.#set
    const vms: Vm[] = []
    const leases: Lease[] = []
    const requests: Request[] = []
    const events: NewEvent[] = []
    const taken = new Set<number>()
    const named = new Set(grants.flatMap(({ request }) => request.wish.map(({ vmId }) => vmId)))
    for (const grant of grants) {
      const { request, joiner, durationSeconds, chargedMinutes, weight } = grant
      const picked = this.#picked(pool, grant, taken, named)
      const endsAtMs = durationSeconds === null ? null : Math.round(nowMs + durationSeconds * 1_000)
      const { heartbeatSeconds, softGraceSeconds, purpose, labels } = request.terms
      const granted = picked.map((ready) => {
        const vm = move(ready, 'checkOut', {
          generation: ready.generation + 1,
          holderId: request.userId,
          leasedAtMs: nowMs,
          freeAtMs: endsAtMs === null ? null : endsAtMs + marginMs(pool, ready.type),
        })
        const hold = { vmId: vm.id, generation: vm.generation, poolId: pool.id, userId: request.userId }
        const lease = planned(
          {
            ...plainLease({ ...hold, fromMs: nowMs }),
            endsAtMs,
            requestId: joiner === null && !grant.isStart ? request.id : null,
            reservationId: request.reservationId,
            softGraceSeconds,
            heartbeatSeconds,
            beatByMs: heartbeatSeconds === null ? null : nowMs + heartbeatSeconds * 1_000,
            chargedMinutes: chargedMinutes / picked.length,
            weight,
            purpose,
            labels,
          },
          pool.warnSeconds,
        )
        return { vm, lease }
      })
      vms.push(...granted.map(({ vm }) => vm))
      leases.push(...granted.map(({ lease }) => lease))
      events.push(...granted.map(({ lease }) => checkedOut(lease, joiner)))
      if (joiner !== null) this.#outcomes.set(joiner, { leases: granted, waiting: null })
      else if (!grant.isStart) {
        const refs = granted.map(({ vm: { id: vmId, generation } }) => ({ vmId, generation }))
        requests.push({
          ...request,
          state: 'granted',
          endedAtMs: nowMs,
          due: null,
          parked: false,
          leases: refs,
        })
        events.push(grantedNow(request, refs, nowMs))
      }
    }
    return { vms, leases, requests, events }
  }

  #picked(
    pool: Pool,
    { request, placement }: Pending,
    taken: Set<number>,
    named: ReadonlySet<number | null>,
  ): Vm[] {
    const ids = placement.flatMap(({ kind, classKey, count }) => {
      const vmId = this.#named(request, kind)
      if (vmId !== null) return [vmId]
      const free = this.#set.readyOf(pool.id, classKey).filter((id) => !taken.has(id) && !named.has(id))
      if (free.length < count) throw new Error(`pool ${pool.id} has too few ready machines of ${classKey}`)
      const some = free.slice(0, count)
      for (const id of some) taken.add(id)
      return some
    })
    return ids.map((id) => this.#set.vm(id) as Vm)
  }

  /** A soft lease that ends, as somebody needs its machine. */
  #asked({ vmId, endsAtMs }: Notice) {
    const vm = this.#set.vm(vmId)
    const lease = this.#set.lease(vmId)
    if (vm === undefined || lease === undefined) throw new Error(`the lease of VM ${vmId} was not loaded`)
    const pool = this.#pool(vm.poolId)
    const { generation, userId } = lease
    const event: NewEvent = {
      type: 'lease.wanted_back',
      actorId: null,
      poolId: pool.id,
      vmId,
      userId,
      data: { generation, endsAtMs },
    }
    return {
      vm: { ...vm, freeAtMs: endsAtMs + marginMs(pool, vm.type) },
      lease: planned({ ...lease, endsAtMs, warned: true }, pool.warnSeconds),
      event,
    }
  }

  /** The machine that a kind names, where it is loaded; one that stands alone is found by its class as well. */
  #named({ wish }: Request, kind: number): number | null {
    const vmId = wish[kind]?.vmId ?? null
    return vmId !== null && this.#set.vm(vmId) !== undefined ? vmId : null
  }

  #pool(poolId: number): Pool {
    const pool = this.#set.pool(poolId)
    if (pool === undefined) throw new Error(`pool ${poolId} was not loaded`)
    return pool
  }
}

/** How often a batch settles a pool again because somebody who comes next was not held yet. */
const ROUNDS_MAX = 8

/** What a settlement turns out to need. */
class More {
  readonly books = new Set<number>()
  readonly ready = new Map<string, readonly [poolId: number, vmClass: ClassKey, count: number]>()
  readonly vmIds = new Set<number>()
  readonly userIds = new Set<number>()
  readonly usageOf = new Set<number>()

  get any(): boolean {
    const sizes = [this.books, this.ready, this.vmIds, this.userIds, this.usageOf]
    return sizes.some(({ size }) => size > 0)
  }

  list(): MoreNeeds {
    return {
      books: [...this.books].map((poolId) => [poolId, 0]),
      ready: [...this.ready.values()],
      vmIds: [...this.vmIds],
      userIds: [...this.userIds],
      usageOf: [...this.usageOf],
    }
  }
}

/** The one type that a wish names, or null. */
function typeOf({ wish }: Request): string | null {
  const types = new Set(wish.map(({ type }) => type))
  const [type = null] = types.size === 1 ? types : []
  return type
}

function byClass(placement: Placement): [ClassKey, number][] {
  return placement.map(({ classKey, count }) => [classKey, count])
}

function checkedOut(
  { poolId, vmId, userId, generation, endsAtMs, requestId }: Lease,
  joiner: Joiner | null,
): NewEvent {
  return {
    type: 'vm.checked_out',
    actorId: joiner === null ? null : userId,
    poolId,
    vmId,
    userId,
    ...(joiner === null ? {} : { requestId: joiner.callId }),
    data: {
      generation,
      ...(endsAtMs === null ? {} : { endsAtMs }),
      ...(requestId === null ? {} : { request: requestId }),
    },
  }
}

function waitsNow({ id, poolId, userId, untilMs }: Request): NewEvent {
  return { type: 'request.waiting', actorId: userId, poolId, userId, data: { request: id, untilMs } }
}

function grantedNow(
  { id, poolId, userId, createdAtMs }: Request,
  leases: Request['leases'],
  nowMs: number,
): NewEvent {
  const data = { request: id, leases, waitedMs: nowMs - createdAtMs }
  return { type: 'request.granted', actorId: null, poolId, userId, data }
}

/** Owners of requests that may be granted next: as many of each group as machines that it may use are ready. */
function nextUserIds(book: Book): Set<number> {
  const userIds = new Set<number>()
  for (const group of book.queue.groups.values()) {
    const ready = book.classesOf(group).reduce((sum, vmClass) => sum + vmClass.ready, 0)
    for (const userId of book.queue.nextUserIds(group, Math.min(ready, NEXT_USERS_MAX))) userIds.add(userId)
  }
  return userIds
}

const NEXT_USERS_MAX = 256

function notReady(vms: readonly Vm[]): Refusal | null {
  const taken = vms.find(({ state }) => state !== 'ready')
  return taken === undefined ? null : refusal('vm_not_free', { vmId: taken.id })
}

/** A reservation that begins, as a grant: its machines are its holder's until its window ends. */
function startGrant(set: WorkingSet, pool: Pool, start: Started): Pending {
  const { reservation, placement, durationSeconds, chargedMinutes, weight } = start
  const request = requestOf(set, pool, reservation, reservation.id, reservation.wish)
  return { request, placement, durationSeconds, chargedMinutes, weight, joiner: null, isStart: true }
}

/** What a reservation lacks when it begins, as a request that comes before all others. */
function missingRequest(set: WorkingSet, pool: Pool, { reservation, missing }: Started): Request {
  const request = requestOf(set, pool, reservation, `${reservation.id}-rest`, missing)
  return { ...request, untilMs: reservation.toMs, due: pool.queue.departed }
}

function requestOf(set: WorkingSet, pool: Pool, reservation: Reservation, id: string, wish: Wish): Request {
  const { userId, purpose, labels, fromMs, toMs } = reservation
  const terms = { ...ENDLESS, durationSeconds: (toMs - fromMs) / 1_000, purpose, labels }
  const asked = { id, wish, terms, priority: 'normal', waitSeconds: null } as const
  return { ...newRequest(set, pool, userId, asked), reservationId: reservation.id }
}

function startsNow({ reservation, missing }: Started): NewEvent {
  const { id, poolId, userId } = reservation
  const data = { reservation: id, missing: countWished(missing) }
  return { type: 'reservation.started', actorId: null, poolId, userId, data }
}

function riskEvent(type: 'reservation.at_risk' | 'reservation.safe', reservation: Reservation): NewEvent {
  const { id, poolId, userId, missing, fromMs } = reservation
  return { type, actorId: null, poolId, userId, data: { reservation: id, missing, fromMs } }
}

/** Machines that should have been cleaned or made by now. */
function lateIds(book: Book, nowMs: number): number[] {
  const ids: number[] = []
  for (const { id, state, freeAtMs } of book.vms.values())
    if (freeAtMs !== null && freeAtMs <= nowMs && (state === 'maintenance' || state === 'provisioning'))
      ids.push(id)
  return ids.slice(0, LATE_MAX)
}

const LATE_MAX = 256
