/**
 * What a server has in memory of a contended pool: when each machine comes back, who waits, what is booked. It is built from
 * rows and changed by the changes of each batch, so it says the same on every server that has seen the same batches.
 */
import type { Pool, Tally } from './pool.ts'
import type { Flow, Request } from './request.ts'
import type { Reservation } from './reservation.ts'
import type { VmState } from './vm.ts'
import type { ClassKey } from './vm-class.ts'

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

/** The book of one pool. */
export interface Book {
  /** Takes in what a batch changed. */
  apply(change: BookChange, nowMs: number): void
}
