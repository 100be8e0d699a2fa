/**
 * Who may give a machine back, and what becomes of it: it goes to maintenance, where a pool with automatic cleaning has
 * a worker clean it and one with manual cleaning waits for an admin. A caller may present the generation of the lease
 * they mean; when the machine has been leased again since, nothing changes. Machines of a deleted user come back the same way.
 */
import { type Actor, authorized, type Rule } from './decision.ts'
import type { NewEvent } from './event.ts'
import { move } from './lifecycle.ts'
import { isRefusal, refusal } from './refusal.ts'
import type { Vm } from './vm.ts'
import type { View } from './working-set.ts'

export interface CheckIn {
  readonly kind: 'checkIn'
  readonly actor: Actor
  readonly vmId: number
  /** The lease that is meant; null: the present one. */
  readonly generation: number | null
  readonly requestId: string
}

/** Refused: `vm_unknown`, `not_holder`, `generation_stale`; callers as in decision.ts. */
export const checkIn: Rule<CheckIn, { vm: Vm }> = {
  needs(command, needs) {
    needs.userIds.add(command.actor.userId)
    needs.vmIds.add(command.vmId)
  },

  decide(view, command) {
    const caller = authorized(view, command.actor, 'vm.checkin')
    if (isRefusal(caller)) return caller
    const vm = view.vm(command.vmId)
    if (vm === undefined || vm.state === 'deleting') return refusal('vm_unknown', { vmId: command.vmId })
    if (vm.holderId !== caller.id) return refusal('not_holder', { vmId: vm.id })
    if (command.generation !== null && command.generation !== vm.generation)
      return refusal('generation_stale', { vmId: vm.id, generation: command.generation })
    const given = givenBack(view, vm)
    const event = checkedIn(vm, caller.id)
    return {
      changes: { vms: [given], events: [{ ...event, requestId: command.requestId }] },
      reply: { vm: given },
    }
  },
}

/** The machine after its lease ended: due at once for a worker where cleaning is automatic. */
export function givenBack(view: View, vm: Vm): Vm {
  const automatic = view.pool(vm.poolId)?.cleaning === 'automatic'
  return move(vm, 'checkIn', {
    holderId: null,
    leasedAtMs: null,
    dueAtMs: automatic ? view.nowMs : null,
  })
}

/** The fact that `vm`'s lease ended; `actorId` null: by Berth itself. */
export function checkedIn(vm: Vm, actorId: number | null): NewEvent {
  return {
    type: 'vm.checked_in',
    actorId,
    poolId: vm.poolId,
    vmId: vm.id,
    ...(vm.holderId === null ? {} : { userId: vm.holderId }),
    data: { generation: vm.generation },
  }
}
