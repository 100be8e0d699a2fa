/**
 * Whether a reservation is confirmed, and on which classes. It is when, over the whole of its window and the cleaning behind it,
 * its machines are free beside everything else that is certain or promised: leases that may still run, other reservations (also
 * those that are at risk), and what is kept for requests that wait. Soft leases end for it if it does not fit beside them.
 *
 * Within the next cleaning time only machines that are ready now count: that others come back in time is no more than hoped.
 * Who is refused is told what would be possible: the earliest later start, how many machines are free in the window, and other types.
 * A machine that is booked by name is moved into a class of its own, if the others of its class can do without it.
 */
import type { Book } from './book.ts'
import { hoursOf, isWithin, type Limits, machineLimit, NO_USAGE, sumUsage, type Usage } from './quota.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import { isoTime, type Pinned, windowRefusal } from './reservation.ts'
import { earliest, HORIZON_MS, Timeline } from './timeline.ts'
import { type Move, type NamedVm, Trial } from './trial.ts'
import { type ClassKey, classOf } from './vm-class.ts'
import type { VmType } from './vm-type.ts'
import { countWished, type Placement, place, placeMost, type Wish } from './wish.ts'

/** How far behind the wanted start a possible one is looked for. */
const ALTERNATIVE_MS = 14 * 86_400_000

/** What is to be reserved. */
export interface Booking {
  readonly userId: number
  readonly wish: Wish
  readonly fromMs: number
  readonly toMs: number
}

/** How a booking can be kept, and what has to be done for it at once. */
export interface Admitted {
  readonly booking: Booking
  readonly pinned: Pinned
  /** Machines that are booked by name, and the class of its own of each. */
  readonly moves: readonly Move[]
  /** Soft leases that end for it. */
  readonly notices: readonly Notice[]
}

export interface Notice {
  readonly vmId: number
  readonly endsAtMs: number
}

/** What an admission is told beside the book. */
export interface AdmissionFacts {
  /** Machines that the wish names, by id, as their rows say. */
  readonly named: ReadonlyMap<number, NamedVm>
  readonly vcpuOf: Limits['vcpuOf']
}

/** Whether a reservation can be confirmed. The book stays as it is. */
export function admit(
  book: Book,
  booking: Booking,
  nowMs: number,
  facts: AdmissionFacts,
): Admitted | Refusal {
  const [first] = admitEach(book, [booking], nowMs, facts)
  return first as Admitted | Refusal
}

/** The windows of a series that can be confirmed, and those that cannot. */
export interface AdmittedSeries {
  readonly admitted: readonly Admitted[]
  readonly failed: readonly { readonly booking: Booking; readonly refusal: Refusal }[]
}

/** Whether the windows of a series can be confirmed together: all of them, or, when `partial`, as many as can, the earlier ones first. */
export function admitSeries(
  book: Book,
  bookings: readonly Booking[],
  partial: boolean,
  nowMs: number,
  facts: AdmissionFacts,
): AdmittedSeries | Refusal {
  const admitted: Admitted[] = []
  const failed: { booking: Booking; refusal: Refusal }[] = []
  for (const [i, answer] of admitEach(book, bookings, nowMs, facts).entries())
    if (isRefusal(answer)) failed.push({ booking: bookings[i] as Booking, refusal: answer })
    else admitted.push(answer)
  if (admitted.length > 0 && (failed.length === 0 || partial)) return { admitted, failed }
  return refusal('series_full', {
    failed: failed.length,
    count: bookings.length,
    windows: failed.map(({ booking: { fromMs, toMs }, refusal: { code, message, details } }) => {
      return { from: isoTime(fromMs), to: isoTime(toMs), code, message, details }
    }),
  })
}

function admitEach(
  book: Book,
  bookings: readonly Booking[],
  nowMs: number,
  facts: AdmissionFacts,
): (Admitted | Refusal)[] {
  const admission = new Admission(book, nowMs, facts)
  const answers = bookings.map((booking) => admission.admit(booking))
  admission.undo()
  return answers
}

/** Where a booking fits, and which soft leases have to end for it. */
interface Found {
  readonly placement: Placement
  readonly notices: readonly Notice[]
}

/** The work of admitting bookings one after the other, each beside those before it. */
class Admission {
  readonly #book: Book
  readonly #nowMs: number
  readonly #facts: AdmissionFacts
  readonly #trial: Trial
  readonly #admitted: Admitted[] = []

  constructor(book: Book, nowMs: number, facts: AdmissionFacts) {
    this.#book = book
    this.#nowMs = nowMs
    this.#facts = facts
    this.#trial = new Trial(book, nowMs)
  }

  undo(): void {
    this.#trial.undo()
  }

  admit(booking: Booking): Admitted | Refusal {
    const mark = this.#trial.mark()
    const answer = this.#decide(booking)
    if (isRefusal(answer)) this.#trial.undo(mark)
    else this.#admitted.push(answer)
    return answer
  }

  #decide(booking: Booking): Admitted | Refusal {
    const { fromMs, toMs } = booking
    const movesBefore = this.#trial.moves.length
    const no =
      windowRefusal(this.#book.pool, fromMs, toMs, this.#nowMs) ??
      this.#neverRefusal(booking) ??
      this.#moveNamed(booking)
    if (no !== null) return no
    const found = this.#find(booking)
    if (found === null) return this.#full(booking)
    const pinned = pinnedOf(found.placement)
    const tooMuch = this.#quotaRefusal(booking, pinned)
    if (tooMuch !== null) return tooMuch
    for (const [key, count] of pinned) this.#trial.add(key, fromMs, toMs + this.#book.marginMsOf(key), -count)
    return { booking, pinned, moves: this.#trial.moves.slice(movesBefore), notices: found.notices }
  }

  /** Why a booking is refused whatever is free. */
  #neverRefusal({ wish, fromMs, toMs }: Booking): Refusal | null {
    const { machinesMax, hoursWeekMax } = this.#book.pool.quota
    const count = countWished(wish)
    const hours = hoursOf(count, (toMs - fromMs) / 1_000)
    if (count > (machinesMax ?? count) || hours > (hoursWeekMax ?? hours))
      return refusal('quota_never', { count })
    return null
  }

  /** Moves machines that the wish names into classes of their own. */
  #moveNamed({ wish, fromMs, toMs }: Booking): Refusal | null {
    for (const { vmId } of wish) {
      const vm = vmId === null ? undefined : this.#facts.named.get(vmId)
      if (vm === undefined || this.#trial.moveAway(vm)) continue
      const free = this.#book.classes
        .get(vm.class)
        ?.timeline.minFree(fromMs, toMs + this.#book.marginMsOf(vm.class))
      return refusal('vm_entangled', { vmId: vm.id, count: Math.max(0, free ?? 0) })
    }
    return null
  }

  #find(booking: Booking): Found | null {
    const placement = this.#place(booking)
    return placement === null ? this.#findBySoftLeases(booking) : { placement, notices: [] }
  }

  #place(booking: Booking): Placement | null {
    if (countWished(booking.wish) > this.#unshrunk(booking)) return null
    return place(booking.wish, this.#capacity(booking))
  }

  /** What is free over a booking's window and the cleaning behind it, by class. */
  #capacity(booking: Booking): Map<ClassKey, number> {
    const timelines = this.#trial.timelinesFor(booking.wish)
    const untilMs = booking.toMs + this.#marginMs(timelines)
    const isNear = booking.fromMs < this.#nowMs + this.#marginMs(timelines)
    const capacity = new Map<ClassKey, number>()
    const fromMs = Math.max(booking.fromMs, this.#nowMs)
    for (const [key, timeline] of timelines) {
      const free = timeline.minFree(fromMs, untilMs)
      const count = isNear ? Math.min(free, this.#readyFree(key, fromMs, untilMs)) : free
      capacity.set(key, Math.max(0, count))
    }
    return capacity
  }

  /** Machines of a class that are ready now and that nothing takes in a window. */
  #readyFree(key: ClassKey, fromMs: number, untilMs: number): number {
    const free = new Timeline(this.#book.gridMs, fromMs)
    free.add(fromMs, null, this.#trial.readyOf(key))
    for (const intervals of this.#book.booked.values())
      for (const { classKey, count, fromMs: begin, toMs: end } of intervals)
        if (classKey === key && overlaps(begin, end, fromMs, untilMs)) free.add(begin, end, -count)
    for (const { placement, fromMs: begin, toMs: end } of this.#book.promises)
      for (const { classKey, count } of placement)
        if (classKey === key && overlaps(begin, end, fromMs, untilMs)) free.add(begin, end, -count)
    for (const { booking, pinned } of this.#admitted) {
      const end = booking.toMs + this.#book.marginMsOf(key)
      for (const [classKey, count] of pinned)
        if (classKey === key && overlaps(booking.fromMs, end, fromMs, untilMs))
          free.add(booking.fromMs, end, -count)
    }
    return free.minFree(fromMs, untilMs)
  }

  /** How many machines of all classes together are free in a window, less those that a shrink has yet to take. */
  #unshrunk({ fromMs, toMs }: Booking): number {
    const doomed = this.#doomed()
    if (doomed === 0) return Number.POSITIVE_INFINITY
    let free = -doomed
    for (const [key, timeline] of this.#trial.timelines())
      free += Math.max(0, timeline.minFree(fromMs, toMs + this.#book.marginMsOf(key)))
    return free
  }

  #doomed(): number {
    let existing = 0
    for (const vmClass of this.#book.classes.values()) existing += vmClass.existing
    return Math.max(0, existing - this.#book.pool.target)
  }

  /** Where a booking fits when soft leases end before it: the longest held first, and no more than it takes. */
  #findBySoftLeases(booking: Booking): Found | null {
    const { gridMs } = this.#book
    const backMs = Math.floor(booking.fromMs / gridMs) * gridMs
    const ending: { key: ClassKey; vmId: number; endsAtMs: number; sinceMs: number }[] = []
    const noticed = new Set(this.#admitted.flatMap(({ notices }) => notices.map(({ vmId }) => vmId)))
    const moved = new Map(this.#trial.moves.map(({ vmId, classKey }) => [vmId, classKey]))
    const timelines = this.#trial.timelinesFor(booking.wish)
    for (const vmClass of this.#book.classes.values())
      for (const { id, freeAtMs, soft: terms } of vmClass.soft.values()) {
        const key = moved.get(id) ?? vmClass.key
        const endsAtMs = backMs - this.#book.marginMsOf(key)
        if (!timelines.has(key) || terms === null || freeAtMs !== null || noticed.has(id)) continue
        if (endsAtMs < this.#nowMs + terms.graceSeconds * 1_000) continue
        ending.push({ key, vmId: id, endsAtMs, sinceMs: terms.fromMs })
      }
    ending.sort((a, b) => a.sinceMs - b.sinceMs || a.vmId - b.vmId)
    const mark = this.#trial.mark()
    const ended: typeof ending = []
    let placement: Placement | null = null
    for (const soft of ending) {
      this.#trial.add(soft.key, backMs, null, 1)
      ended.push(soft)
      placement = this.#place(booking)
      if (placement !== null) break
    }
    if (placement === null) {
      this.#trial.undo(mark)
      return null
    }
    const needed: Notice[] = []
    for (const { key, vmId, endsAtMs } of ended.reverse()) {
      this.#trial.add(key, backMs, null, -1)
      const without = this.#place(booking)
      if (without !== null) {
        placement = without
        continue
      }
      this.#trial.add(key, backMs, null, 1)
      needed.push({ vmId, endsAtMs })
    }
    return { placement, notices: needed.reverse() }
  }

  #quotaRefusal({ userId, fromMs, toMs, wish }: Booking, pinned: Pinned): Refusal | null {
    const limit = machineLimit(this.#book.pool.quota)
    if (limit.machines === Number.POSITIVE_INFINITY && limit.vcpu === Number.POSITIVE_INFINITY) return null
    const count = countWished(wish)
    const wanted = this.#usageOf(pinned)
    if (!isWithin(wanted, limit)) return refusal('quota_never', { count })
    const own = this.#ownIn(userId, fromMs, toMs)
    // What somebody has grows only where something of it begins.
    const begins = [fromMs, ...own.map((part) => part.fromMs).filter((ms) => ms > fromMs)]
    for (const atMs of begins) {
      let usage = wanted
      for (const part of own) if (part.fromMs <= atMs && atMs < part.toMs) usage = sumUsage(usage, part.usage)
      if (!isWithin(usage, limit)) return refusal('quota_full', { count })
    }
    return null
  }

  /** What a user has in a window: reservations, and leases that may still run. */
  #ownIn(userId: number, fromMs: number, toMs: number): { fromMs: number; toMs: number; usage: Usage }[] {
    const own: { fromMs: number; toMs: number; usage: Usage }[] = []
    // Those that are active have leases.
    for (const reservation of this.#book.reservations.values())
      if (reservation.userId === userId && reservation.state === 'confirmed')
        own.push({
          fromMs: reservation.fromMs,
          toMs: reservation.toMs,
          usage: this.#usageOf(reservation.pinned),
        })
    for (const { booking, pinned } of this.#admitted)
      if (booking.userId === userId)
        own.push({ fromMs: booking.fromMs, toMs: booking.toMs, usage: this.#usageOf(pinned) })
    if (this.#book.heldBy(userId).size > 0)
      for (const vm of this.#book.vms.values()) {
        if (vm.holderId !== userId) continue
        const endMs =
          vm.freeAtMs === null ? Number.POSITIVE_INFINITY : vm.freeAtMs - this.#book.marginMsOf(vm.class)
        own.push({ fromMs: Number.NEGATIVE_INFINITY, toMs: endMs, usage: this.#usageOf([[vm.class, 1]]) })
      }
    return own.filter((part) => part.fromMs < toMs && part.toMs > fromMs)
  }

  #usageOf(pinned: Pinned): Usage {
    let usage = NO_USAGE
    for (const [key, count] of pinned) {
      const vcpu = count * this.#facts.vcpuOf(classOf(key).type)
      usage = sumUsage(usage, { machines: count, vcpu, hours: 0 })
    }
    return usage
  }

  #full(booking: Booking): Refusal {
    const { wish } = booking
    const timelines = this.#trial.timelinesFor(wish)
    const existing = new Map([...timelines.keys()].map((key) => [key, this.#trial.existingOf(key)]))
    if (place(wish, existing) === null) return refusal('wish_impossible', { pool: this.#book.pool.name })
    const { missing } = placeMost(wish, this.#capacity(booking))
    const most = countWished(wish) - countWished(missing)
    const earliestFromMs = this.#earliestFromMs(booking, timelines)
    return refusal('reservation_full', {
      countMax: Math.max(0, Math.min(most, this.#unshrunk(booking))),
      earliestFrom: earliestFromMs === null ? null : isoTime(earliestFromMs),
      otherTypes: this.#otherTypes(booking),
    })
  }

  /** The earliest later start of a window of the same length. */
  #earliestFromMs(
    { wish, fromMs, toMs }: Booking,
    timelines: ReadonlyMap<ClassKey, Timeline>,
  ): number | null {
    if (this.#doomed() > 0) return null
    const lengthMs = toMs - fromMs
    const marginMs = this.#marginMs(timelines)
    const beginMs = Math.max(fromMs, this.#nowMs + marginMs)
    const untilMs = Math.min(fromMs + ALTERNATIVE_MS, this.#nowMs + HORIZON_MS - lengthMs)
    if (beginMs > untilMs) return null
    return earliest(timelines, wish, place, lengthMs + marginMs, beginMs, untilMs)?.atMs ?? null
  }

  /** Types of which as many are free in the window, when the wish is for one kind. */
  #otherTypes(booking: Booking): VmType[] {
    const [kind, ...more] = booking.wish
    if (kind === undefined || more.length > 0 || kind.type === null || kind.vmId !== null) return []
    const types = new Set([...this.#book.classes.keys()].map((key) => classOf(key).type))
    types.delete(kind.type)
    return [...types].sort().filter((type) => this.#place({ ...booking, wish: [{ ...kind, type }] }) !== null)
  }

  /** The longest time that machines of these classes are out of use after a lease. */
  #marginMs(timelines: ReadonlyMap<ClassKey, Timeline>): number {
    let longest = 0
    for (const key of timelines.keys()) longest = Math.max(longest, this.#book.marginMsOf(key))
    return longest
  }
}

/** Machines by class, from those by kind and class. */
export function pinnedOf(placement: Placement): Pinned {
  const counts = new Map<ClassKey, number>()
  for (const { classKey, count } of placement) counts.set(classKey, (counts.get(classKey) ?? 0) + count)
  return [...counts]
}

function overlaps(fromMs: number, toMs: number | null, beginMs: number, endMs: number): boolean {
  return fromMs < endMs && (toMs === null || toMs > beginMs)
}
