/**
 * Which change of a machine's state is legal, and what triggers it. This table alone decides that.
 *
 *   provisioning → ready → leased → maintenance → ready …
 *
 * - provisioning: the provider is making it; it has no address yet.
 * - ready: proven alive and free; a checkout may take it.
 * - leased: one user holds it (holderId, generation).
 * - maintenance: given back. A pool with automatic cleaning has a worker clean it; with manual cleaning it waits for an admin.
 * - failed: the provider gave up on it; an admin retries or deletes.
 * - cordoned: an admin keeps it out of use.
 * - deleting: the provider is destroying it; then the row is gone. Nothing leads back.
 */
import type { Vm, VmState } from './vm.ts'

interface Step {
  readonly from: readonly VmState[]
  readonly to: VmState
}

export const LIFECYCLE = {
  made: { from: ['provisioning'], to: 'ready' },
  checkOut: { from: ['ready'], to: 'leased' },
  checkIn: { from: ['leased'], to: 'maintenance' },
  /** To another holder, who gets a new generation. */
  transfer: { from: ['leased'], to: 'leased' },
  /** By an admin in a pool with manual cleaning, by a worker in one with automatic cleaning. */
  clean: { from: ['maintenance'], to: 'ready' },
  /** The provider failed as often as is allowed. */
  giveUp: { from: ['provisioning', 'maintenance'], to: 'failed' },
  /** An admin wants a failed machine tried again: it is cleaned like one that was given back. */
  retry: { from: ['failed'], to: 'maintenance' },
  /** The same for a machine that was never made, also when it is let back after a cordon: there is nothing to clean. */
  remake: { from: ['failed', 'cordoned'], to: 'provisioning' },
  cordon: { from: ['ready', 'maintenance', 'failed'], to: 'cordoned' },
  uncordon: { from: ['cordoned'], to: 'maintenance' },
  remove: { from: ['provisioning', 'ready', 'maintenance', 'failed', 'cordoned'], to: 'deleting' },
  /** Only a reset of the whole installation takes a machine from its holder and destroys it. */
  wipe: {
    from: ['provisioning', 'ready', 'leased', 'maintenance', 'failed', 'cordoned', 'deleting'],
    to: 'deleting',
  },
} as const satisfies Record<string, Step>

export type LifecycleStep = keyof typeof LIFECYCLE

/** True when `step` may be made from `state`. */
export function allows(state: VmState, step: LifecycleStep): boolean {
  return (LIFECYCLE[step].from as readonly VmState[]).includes(state)
}

/**
 * The machine after `step`, with `edit` applied. The work fields (due, attempts, failure) and the time it is expected back begin anew with each step,
 * because they belong to the state that is left. A claim that is outstanding becomes void, and the next work on the machine
 * waits until its worker's time is over. Throws when the step is not legal: callers ask `allows` first and refuse.
 */
export function move(vm: Vm, step: LifecycleStep, edit: Partial<Vm> = {}): Vm {
  if (!allows(vm.state, step)) throw new Error(`VM ${vm.id}: '${step}' is not legal in state '${vm.state}'`)
  const moved = {
    ...vm,
    state: LIFECYCLE[step].to,
    freeAtMs: null,
    dueAtMs: null,
    attempts: 0,
    failure: null,
    ...edit,
  }
  if (vm.busyUntilMs === null) return moved
  const dueAtMs = moved.dueAtMs === null ? null : Math.max(moved.dueAtMs, vm.busyUntilMs)
  return { ...moved, dueAtMs, claim: vm.claim + 1 }
}
