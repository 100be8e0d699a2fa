/**
 * How reservations begin: at the start of its window a reservation becomes leases of its holder, whatever quotas say, for it was
 * admitted. One that is not at risk finds its machines ready, unless cleaning is late; one that is at risk takes what the
 * others can spare. What is missing becomes a request of its holder that waits, and ends with the window as well.
 */
import { pinnedOf } from './admission.ts'
import type { Book } from './book.ts'
import { costOf, weightOf } from './order.ts'
import { begins, type Reservation } from './reservation.ts'
import { Trial } from './trial.ts'
import type { ClassKey } from './vm-class.ts'
import { type Partly, type Placement, place, placeMost, type Wish } from './wish.ts'

export interface Started {
  /** As it is now. */
  readonly reservation: Reservation
  /** Machines that are leased to its holder now, until its end. */
  readonly placement: Placement
  readonly durationSeconds: number
  /** What its holder is charged in the pool's fair queue. */
  readonly chargedMinutes: number
  readonly weight: number
  /** What its holder waits for, until the window ends and first of all; [] when it is complete. */
  readonly missing: Wish
}

/**
 * Begins the reservations whose time has come: those that are not at risk first, then the earlier confirmed. The book is left as if
 * their machines had been leased; which they are is decided afterwards.
 */
export function startReservations(book: Book, nowMs: number): Started[] {
  const due = [...book.reservations.values()].filter((reservation) => begins(reservation, nowMs))
  due.sort((a, b) => Number(a.atRisk) - Number(b.atRisk) || a.confirmedSeq - b.confirmedSeq)
  return due.map((reservation) => {
    const started = startOf(book, reservation, nowMs)
    book.putReservation(started.reservation, nowMs)
    for (const [key, count] of pinnedOf(started.placement))
      book.grant(reservation.userId, key, count, reservation.toMs + book.marginMsOf(key))
    return started
  })
}

/** What a reservation begins with, if it begins now. The book stays as it is. */
function startOf(book: Book, reservation: Reservation, nowMs: number): Started {
  const { placement, missing } = book.withoutPromises(() => machinesFor(book, reservation, nowMs))
  // To the millisecond: a lease that ran on past the window would run into what is booked behind it.
  const durationSeconds = (reservation.toMs - nowMs) / 1_000
  // Whoever got it late has as long to use it.
  const lateSeconds = Math.max(0, Math.floor((nowMs - reservation.fromMs) / 1_000))
  const noShowSeconds = reservation.noShowSeconds === null ? null : reservation.noShowSeconds + lateSeconds
  return {
    reservation: { ...reservation, state: 'active', atRisk: false, missing: 0, noShowSeconds },
    placement,
    durationSeconds,
    chargedMinutes: costOf(book.pool, placement, durationSeconds),
    weight: weightOf(book.pool, 'normal'),
    missing,
  }
}

/** Ready machines that no other reservation needs that is not at risk; those that it is pinned to before others. */
function machinesFor(book: Book, reservation: Reservation, nowMs: number): Partly {
  const { id, wish, toMs, pinned } = reservation
  const trial = new Trial(book, nowMs)
  for (const other of book.reservations.values())
    if (other.id === id || other.atRisk)
      for (const { classKey, fromMs, toMs: untilMs, count } of book.booked.get(other.id) ?? [])
        trial.add(classKey, fromMs, untilMs, count)
  const capacity = new Map<ClassKey, number>()
  for (const { key, ready, timeline } of book.classesFor(wish)) {
    const free = timeline.minFree(nowMs, toMs + book.marginMsOf(key))
    capacity.set(key, Math.max(0, Math.min(ready, free)))
  }
  trial.undo()
  const own = new Map(pinned.map(([key, count]) => [key, Math.min(count, capacity.get(key) ?? 0)]))
  const placement = place(wish, own)
  return placement === null ? placeMost(wish, capacity) : { placement, missing: [] }
}
