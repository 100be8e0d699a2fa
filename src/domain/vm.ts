/**
 * What a machine is. A machine's state is also its place on the to-do list: `dueAtMs` says when a worker has to look at
 * it next (null: nobody's work), `claim` counts how often a worker took it, and a report must present the claim it was
 * given, so a worker that comes late changes nothing. A claim ends with the state it was made in; `busyUntilMs` remembers
 * that its worker may still be acting. Which state may follow which is lifecycle.ts's to say.
 */
import type { ClassKey } from './vm-class.ts'
import type { VmType } from './vm-type.ts'

export const VM_STATES = [
  'provisioning',
  'ready',
  'leased',
  'maintenance',
  'failed',
  'cordoned',
  'deleting',
] as const

export type VmState = (typeof VM_STATES)[number]

export const POWER_STATES = ['running', 'stopped'] as const

export type PowerState = (typeof POWER_STATES)[number]

export interface Vm {
  readonly id: number
  readonly poolId: number
  readonly name: string
  readonly type: VmType
  /** Its type, its labels, and whether it stands alone (vm-class.ts). */
  readonly class: ClassKey
  /** Where the machine is reached (an IP address or a host name); empty until it was made. */
  readonly address: string
  readonly power: PowerState
  readonly state: VmState
  /** How often this machine has been leased: the fencing token of its present lease. */
  readonly generation: number
  /** The user who holds the machine; null unless leased. */
  readonly holderId: number | null
  readonly leasedAtMs: number | null
  /**
   * When it is expected to be ready again, cleaning included, while it is leased, in maintenance or being made; null: not known
   * (a lease without end), or it is ready or out of use. The capacity timeline rests on this.
   */
  readonly freeAtMs: number | null
  /** From when on a worker may claim this machine; null: there is nothing to do for a worker. */
  readonly dueAtMs: number | null
  /** Grows by one when a worker claims this machine or a claim is made void; the first is the time at which it was planned. */
  readonly claim: number
  /** Until when the worker that claimed this machine may still be acting on it; null: no claim is outstanding. */
  readonly busyUntilMs: number | null
  /** How often the present piece of work has been tried. */
  readonly attempts: number
  /** What the provider said when it last failed on this machine. */
  readonly failure: string | null
  readonly createdAtMs: number
}
