/**
 * A lab (test/support/lab.ts) whose reservations are admitted, healed and begun by the rules, as the commands around them do. It
 * remembers what holders were told, and what each reservation got when it began.
 */
import assert from 'node:assert/strict'
import { type Admitted, admit, type Booking } from '../../src/domain/admission.ts'
import { type Healed, heal } from '../../src/domain/healing.ts'
import { isRefusal, type Refusal } from '../../src/domain/refusal.ts'
import { expired, givenUp, type Reservation } from '../../src/domain/reservation.ts'
import { type Started, startReservations } from '../../src/domain/reservation-start.ts'
import { movesBack } from '../../src/domain/solo-class.ts'
import type { Move, NamedVm } from '../../src/domain/trial.ts'
import type { Wish } from '../../src/domain/wish.ts'
import { kindOf, Lab, LIMITS } from '../support/lab.ts'

export class BookedLab extends Lab {
  /** What holders were told, in order: `b1 at risk: 2`, `b1 safe`. */
  readonly told: string[] = []
  readonly started: Started[] = []
  /** Reservations that began without all their machines, though their holders had been told nothing. */
  readonly broken: string[] = []
  #bookings = 0

  booking(userId: number, wish: Wish, fromMinute: number, toMinute: number): Booking {
    return { userId, wish, fromMs: this.at(fromMinute), toMs: this.at(toMinute) }
  }

  /** Machines by id, as their rows say. */
  get named(): ReadonlyMap<number, NamedVm> {
    return this.vms
  }

  /** Whether a booking is admitted; nothing changes. */
  admit(
    userId: number,
    count: number,
    fromMinute: number,
    toMinute: number,
    type: string | null = null,
  ): Admitted | Refusal {
    const booking = this.booking(userId, [kindOf({ type, count })], fromMinute, toMinute)
    return admit(this.book, booking, this.nowMs, { named: this.named, vcpuOf: LIMITS.vcpuOf })
  }

  /** Books it, if it is admitted. */
  bookFor(userId: number, wish: Wish, fromMinute: number, toMinute: number): Reservation | Refusal {
    const booking = this.booking(userId, wish, fromMinute, toMinute)
    const admitted = admit(this.book, booking, this.nowMs, { named: this.named, vcpuOf: LIMITS.vcpuOf })
    return isRefusal(admitted) ? admitted : this.confirm(admitted)
  }

  confirm({ booking, pinned, moves }: Admitted): Reservation {
    this.move(moves)
    const seq = ++this.#bookings
    const reservation: Reservation = {
      ...booking,
      id: `b${seq}`,
      poolId: this.pool.id,
      pinned,
      state: 'confirmed',
      atRisk: false,
      missing: 0,
      confirmedSeq: seq,
      noShowSeconds: null,
      claimed: false,
      seriesId: null,
      purpose: null,
      labels: {},
      createdAtMs: this.nowMs,
    }
    this.put(reservation)
    return reservation
  }

  /** Machines change their classes. */
  move(moves: readonly Move[]): void {
    for (const { vmId, classKey } of moves) {
      const vm = { ...(this.vms.get(vmId) ?? assert.fail(`no machine ${vmId}`)), class: classKey }
      const lease = this.leases.get(vmId)
      if (lease !== undefined) this.leases.set(vmId, { ...lease, classKey })
      this.vms.set(vmId, vm)
      const none = { gone: [], requests: [], flows: [], reservations: [] }
      this.book.apply({ ...none, pool: this.pool, tally: this.tally(), vms: [vm] }, this.nowMs)
    }
  }

  put(reservation: Reservation): void {
    this.reservations.set(reservation.id, reservation)
    this.book.putReservation(reservation, this.nowMs)
  }

  giveUp(id: string): void {
    const reservation = this.reservations.get(id) ?? assert.fail(id)
    const after = givenUp(reservation)
    if (!isRefusal(after)) this.put(after)
    this.heal()
  }

  heal(): Healed {
    const healed = heal(this.book, this.nowMs)
    for (const reservation of [...healed.atRisk, ...healed.safe, ...healed.repinned]) this.put(reservation)
    for (const { id, missing } of healed.atRisk) this.told.push(`${id} at risk: ${missing}`)
    for (const { id } of healed.safe) this.told.push(`${id} safe`)
    return healed
  }

  override fail(vmId: number): void {
    this.failTogether([vmId])
  }

  /** Machines that fail in one batch. */
  failTogether(vmIds: readonly number[]): void {
    for (const id of vmIds) super.fail(id)
    this.heal()
  }

  override ready(vmId: number): void {
    const { state } = this.vms.get(vmId) ?? assert.fail(`no machine ${vmId}`)
    super.ready(vmId)
    if (state === 'failed') this.heal()
  }

  /** Machines come back first, then what is over ends, then what is due begins. */
  override tick(): void {
    const booked = [...this.reservations.values()]
    this.reservations.clear()
    super.tick()
    for (const reservation of booked) this.reservations.set(reservation.id, reservation)
    for (const reservation of booked) {
      const over = expired(reservation, this.nowMs)
      if (over !== null) this.put(over)
    }
    this.move(movesBack(this.book))
    this.start()
  }

  /** Begins what is due, machine by machine. */
  start(): void {
    for (const started of startReservations(this.book, this.nowMs)) {
      const { reservation, placement, missing } = started
      this.started.push(started)
      if (missing.length > 0 && !this.reservations.get(reservation.id)?.atRisk)
        this.broken.push(reservation.id)
      this.reservations.set(reservation.id, reservation)
      const endMinute = (reservation.toMs - this.at(0)) / (this.at(1) - this.at(0))
      for (const { classKey, count } of placement) {
        const ready = [...this.vms.values()].filter((vm) => vm.class === classKey && vm.state === 'ready')
        assert.ok(
          ready.length >= count,
          `${reservation.id} gets ${count} of ${classKey}, ${ready.length} are ready`,
        )
        for (const { id } of ready.slice(0, count)) this.lease(id, reservation.userId, endMinute)
      }
      if (missing.length > 0)
        this.join(reservation.userId, { wish: missing, minutes: endMinute - this.minute })
    }
  }
}
