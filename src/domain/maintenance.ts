/**
 * What an admin may do with a machine that nobody holds: bring it back from maintenance to the pool, keep it out of use
 * (cordon) and let it back, try a failed one again, and delete it. Deleting takes the machine out of the pool's size.
 */
import { type Actor, authorized, knownCaller, type Rule } from './decision.ts'
import type { EventType } from './event.ts'
import { allows, LIFECYCLE, type LifecycleStep, move } from './lifecycle.ts'
import { may } from './permission.ts'
import { isRefusal, refusal } from './refusal.ts'
import type { Vm } from './vm.ts'
import type { View } from './working-set.ts'

/** The lifecycle steps that an admin makes by hand, and the fact that each leaves behind. */
const STEPS = {
  clean: 'vm.returned',
  cordon: 'vm.cordoned',
  uncordon: 'vm.uncordoned',
  retry: 'vm.retried',
} as const satisfies Partial<Record<LifecycleStep, EventType>>

export interface Maintain {
  readonly kind: 'maintain'
  readonly actor: Actor
  readonly vmId: number
  readonly step: keyof typeof STEPS
  readonly requestId: string
}

/**
 * Refused: `vm_unknown` (judged before the role, as the original's clients know it), `not_allowed`, `vm_state_wrong`, `vm_busy`;
 * callers as in decision.ts.
 */
export const maintain: Rule<Maintain, { vm: Vm }> = {
  needs(command, needs) {
    needs.userIds.add(command.actor.userId)
    needs.vmIds.add(command.vmId)
    // A cordon takes a machine that a checkout of the same batch was loaded for.
    if (command.step === 'cordon') needs.takers++
  },

  decide(view, command) {
    const caller = knownCaller(view, command.actor)
    if (isRefusal(caller)) return caller
    const vm = view.vm(command.vmId)
    if (vm === undefined || vm.state === 'deleting') return refusal('vm_unknown', { vmId: command.vmId })
    if (!may(caller.role, 'vm.maintain'))
      return refusal('not_allowed', { action: 'vm.maintain', role: caller.role })
    if (!allows(vm.state, command.step)) {
      const allowed = LIFECYCLE[command.step].from.join(', ')
      return refusal('vm_state_wrong', { vmId: vm.id, state: vm.state, allowed })
    }
    // Whoever got it next would have it cleaned under their hands.
    if (LIFECYCLE[command.step].to === 'ready' && vm.busyUntilMs !== null && vm.busyUntilMs > view.nowMs)
      return refusal('vm_busy', { vmId: vm.id })
    const moved = moveByHand(view, vm, command.step)
    return {
      changes: {
        vms: [moved],
        events: [
          {
            type: STEPS[command.step],
            actorId: caller.id,
            poolId: vm.poolId,
            vmId: vm.id,
            requestId: command.requestId,
          },
        ],
      },
      reply: { vm: moved },
    }
  },
}

/** What an admin sends to maintenance is cleaned like what a holder gave back; what was never made is made. */
function moveByHand(view: View, vm: Vm, step: Maintain['step']): Vm {
  if (LIFECYCLE[step].to === 'maintenance' && vm.address === '')
    return move(vm, 'remake', { dueAtMs: view.nowMs })
  const automatic = view.pool(vm.poolId)?.cleaning === 'automatic'
  const dueAtMs = LIFECYCLE[step].to === 'maintenance' && automatic ? view.nowMs : null
  return move(vm, step, { dueAtMs })
}

export interface DeleteVm {
  readonly kind: 'deleteVm'
  readonly actor: Actor
  readonly vmId: number
  readonly requestId: string
}

/** Refused: `not_allowed`, `vm_unknown`, `vm_leased`; callers as in decision.ts. */
export const deleteVm: Rule<DeleteVm, null> = {
  needs(command, needs) {
    needs.userIds.add(command.actor.userId)
    needs.vmIds.add(command.vmId)
    needs.takers++
  },

  decide(view, command) {
    const caller = authorized(view, command.actor, 'vm.delete')
    if (isRefusal(caller)) return caller
    const vm = view.vm(command.vmId)
    if (vm === undefined || vm.state === 'deleting') return refusal('vm_unknown', { vmId: command.vmId })
    if (!allows(vm.state, 'remove')) return refusal('vm_leased', { vmId: vm.id })
    const pool = view.pool(vm.poolId)
    if (pool === undefined) throw new Error(`pool ${vm.poolId} of VM ${vm.id} was not loaded`)
    return {
      changes: {
        pools: [{ ...pool, target: Math.max(0, pool.target - 1) }],
        vms: [removed(vm, view.nowMs)],
        events: [
          {
            type: 'vm.removed',
            actorId: caller.id,
            poolId: vm.poolId,
            vmId: vm.id,
            requestId: command.requestId,
          },
        ],
      },
      reply: null,
    }
  },
}

/** The machine on its way out: due to be destroyed once no worker may be busy with it (lifecycle.ts). */
export function removed(vm: Vm, nowMs: number, step: 'remove' | 'wipe' = 'remove'): Vm {
  return move(vm, step, { holderId: null, leasedAtMs: null, dueAtMs: nowMs })
}
