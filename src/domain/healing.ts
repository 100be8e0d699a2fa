/**
 * Which reservations are kept when machines have failed, and which are not: the least is broken. Where more is booked than there
 * is, the latest confirmed of those in the way is taken out, until the rest fits; then those that were taken out come back, the
 * oldest first, where they fit, on their own classes or on others that their wishes match. What stays out is at risk: its holder
 * is told at once, and told again when it is safe. So a reservation whose holder was told nothing starts complete.
 *
 * Reservations are stronger than promises to requests that wait: promises are looked beneath, and settle lays them anew.
 */

import { pinnedOf } from './admission.ts'
import type { Book, Interval } from './book.ts'
import type { Pinned, Reservation } from './reservation.ts'
import { Trial } from './trial.ts'
import type { ClassKey } from './vm-class.ts'
import { countWished, place, placeMost } from './wish.ts'

/** Reservations that changed, as they are now; the others stay as they are. */
export interface Healed {
  /** Newly at risk, or with another number of missing machines: their holders have to be told. */
  readonly atRisk: readonly Reservation[]
  /** At risk no more: their holders have to be told. */
  readonly safe: readonly Reservation[]
  /** On other classes than before, which is nobody's concern. */
  readonly repinned: readonly Reservation[]
}

/**
 * What becomes of the reservations of a pool after machines of it were lost, came back later than expected, or came back. The book
 * stays as it is.
 */
export function heal(book: Book, nowMs: number): Healed {
  return book.withoutPromises(() => {
    const healing = new Healing(book, nowMs)
    healing.takeOut()
    const healed = healing.bringBack()
    healing.undo()
    return healed
  })
}

/** A reservation's hold on machines of one class. */
interface Hold {
  readonly reservation: Reservation
  readonly interval: Interval
}

/** The work of one call of `heal`. */
class Healing {
  readonly #book: Book
  readonly #nowMs: number
  readonly #trial: Trial
  readonly #out: Map<string, Reservation> = new Map()

  constructor(book: Book, nowMs: number) {
    this.#book = book
    this.#nowMs = nowMs
    this.#trial = new Trial(book, nowMs)
  }

  undo(): void {
    this.#trial.undo()
  }

  /** Takes out reservations until no class is booked beyond what it has: those at risk first, then the latest confirmed. */
  takeOut(): void {
    for (const reservation of this.#book.reservations.values())
      if (reservation.state === 'confirmed' && reservation.atRisk) this.#take(reservation)
    for (const { key, timeline } of this.#book.classes.values()) {
      let shortMs = timeline.firstBelow(this.#nowMs, null, 0)
      if (shortMs === null) continue
      const coming = this.#holdsOn(key)
      /** Those that have begun by `shortMs`, the latest confirmed last. */
      const begun: Hold[] = []
      while (shortMs !== null) {
        while (this.#gridDown(coming.at(-1)?.interval.fromMs) <= shortMs) insert(begun, coming.pop() as Hold)
        const latest = begun.pop()
        if (latest !== undefined) {
          // One that is over stays over: `shortMs` only grows.
          if (this.#gridUp(latest.interval.toMs) > shortMs) this.#take(latest.reservation)
        } else if (coming.length === 0) break
        else shortMs = this.#gridDown(coming.at(-1)?.interval.fromMs)
        shortMs = timeline.firstBelow(shortMs, null, 0)
      }
    }
  }

  /** Puts back what fits, and says what became of the others. */
  bringBack(): Healed {
    const oldestFirst = [...this.#out.values()].sort((a, b) => a.confirmedSeq - b.confirmedSeq)
    const healed = { atRisk: [] as Reservation[], safe: [] as Reservation[], repinned: [] as Reservation[] }
    const displaced: Reservation[] = []
    for (const reservation of oldestFirst)
      if (!this.#fitsAsBefore(reservation)) displaced.push(reservation)
      else {
        this.#lay(reservation, reservation.pinned)
        if (reservation.atRisk) healed.safe.push({ ...reservation, atRisk: false, missing: 0 })
      }
    const short: Reservation[] = []
    for (const reservation of displaced) {
      const placement = place(reservation.wish, this.#capacity(reservation))
      if (placement === null) {
        short.push(reservation)
        continue
      }
      const pinned = pinnedOf(placement)
      this.#lay(reservation, pinned)
      const kept = { ...reservation, pinned, atRisk: false, missing: 0 }
      if (reservation.atRisk) healed.safe.push(kept)
      else healed.repinned.push(kept)
    }
    for (const reservation of short) {
      const most = placeMost(reservation.wish, this.#capacity(reservation))
      this.#lay(reservation, pinnedOf(most.placement))
      const missing = countWished(most.missing)
      if (!reservation.atRisk || reservation.missing !== missing)
        healed.atRisk.push({ ...reservation, atRisk: true, missing })
    }
    return healed
  }

  /** Takes a reservation off all its classes. */
  #take(reservation: Reservation): void {
    if (this.#out.has(reservation.id)) return
    this.#out.set(reservation.id, reservation)
    for (const { classKey, fromMs, toMs, count } of this.#book.booked.get(reservation.id) ?? [])
      this.#trial.add(classKey, fromMs, toMs, count)
  }

  #lay({ fromMs, toMs }: Reservation, pinned: Pinned): void {
    for (const [key, count] of pinned) this.#trial.add(key, fromMs, toMs + this.#book.marginMsOf(key), -count)
  }

  #fitsAsBefore(reservation: Reservation): boolean {
    const capacity = this.#capacity(reservation)
    return reservation.pinned.every(([key, count]) => (capacity.get(key) ?? 0) >= count)
  }

  #capacity({ wish, fromMs, toMs }: Reservation): Map<ClassKey, number> {
    const capacity = new Map<ClassKey, number>()
    for (const [key, timeline] of this.#trial.timelinesFor(wish)) {
      const free = timeline.minFree(Math.max(fromMs, this.#nowMs), toMs + this.#book.marginMsOf(key))
      capacity.set(key, Math.max(0, free))
    }
    return capacity
  }

  /** What confirmed reservations hold of a class, the first to begin last. */
  #holdsOn(key: ClassKey): Hold[] {
    const holds: Hold[] = []
    for (const [id, intervals] of this.#book.booked) {
      if (this.#out.has(id)) continue
      const reservation = this.#book.reservations.get(id)
      if (reservation === undefined) continue
      for (const interval of intervals) if (interval.classKey === key) holds.push({ reservation, interval })
    }
    return holds.sort((a, b) => b.interval.fromMs - a.interval.fromMs)
  }

  /** Where the timeline has what begins at `ms`; infinite when there is nothing. */
  #gridDown(ms: number | undefined): number {
    const { gridMs } = this.#book
    return ms === undefined ? Number.POSITIVE_INFINITY : Math.floor(ms / gridMs) * gridMs
  }

  /** Where the timeline has what ends at `ms`; infinite when it does not end. */
  #gridUp(ms: number | null): number {
    const { gridMs } = this.#book
    return ms === null ? Number.POSITIVE_INFINITY : Math.ceil(ms / gridMs) * gridMs
  }
}

/** Puts a hold among others so that the latest confirmed is last. */
function insert(holds: Hold[], hold: Hold): void {
  let low = 0
  let high = holds.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((holds[middle] as Hold).reservation.confirmedSeq < hold.reservation.confirmedSeq) low = middle + 1
    else high = middle
  }
  holds.splice(low, 0, hold)
}
