/**
 * Who gets a machine at once, and which one. A checkout may name a machine, a type, or neither; "any" takes the free
 * machine with the lowest id. Machines that a shrink is about to remove are not free (pool.ts). Each checkout raises the
 * machine's generation, so whatever an earlier holder still sends is recognised as late.
 */
import { type Actor, authorized, type Rule } from './decision.ts'
import { move } from './lifecycle.ts'
import { countFree } from './pool.ts'
import { isRefusal, refusal } from './refusal.ts'
import type { User } from './user.ts'
import type { Vm } from './vm.ts'
import type { VmType } from './vm-type.ts'

export interface Checkout {
  readonly kind: 'checkout'
  readonly actor: Actor
  /** The pool's name. */
  readonly pool: string
  /** A machine by id; null: any. */
  readonly vmId: number | null
  /** A type; null: any. */
  readonly type: VmType | null
  readonly requestId: string
}

/** Refused: `vm_unknown`, `vm_not_free` (a named machine), `none_free`; callers as in decision.ts. */
export const checkout: Rule<Checkout, { vm: Vm; holder: User }> = {
  needs(command, needs) {
    needs.userIds.add(command.actor.userId)
    needs.poolNames.add(command.pool)
    needs.takers++
    if (command.vmId !== null) needs.vmIds.add(command.vmId)
    else if (command.type === null) needs.readyAny.add(command.pool)
    else {
      const types = needs.readyOfType.get(command.pool) ?? new Set()
      needs.readyOfType.set(command.pool, types.add(command.type))
    }
  },

  decide(view, command) {
    const holder = authorized(view, command.actor, 'vm.checkout')
    if (isRefusal(holder)) return holder
    const pool = view.poolNamed(command.pool)
    const free = pool === undefined ? 0 : countFree(pool, view.tally(pool.id))
    let vm: Vm | undefined
    if (command.vmId !== null) {
      vm = view.vm(command.vmId)
      if (vm === undefined || vm.poolId !== pool?.id || vm.state === 'deleting')
        return refusal('vm_unknown', { vmId: command.vmId })
      if (vm.state !== 'ready' || free === 0 || (command.type !== null && command.type !== vm.type))
        return refusal('vm_not_free', { vmId: vm.id })
    } else {
      vm = pool === undefined || free === 0 ? undefined : view.lowestReady(pool.id, command.type)
      if (vm === undefined) return refusal('none_free', { pool: command.pool, type: command.type })
    }
    const leased = move(vm, 'checkOut', {
      generation: vm.generation + 1,
      holderId: holder.id,
      leasedAtMs: view.nowMs,
    })
    return {
      changes: {
        vms: [leased],
        events: [
          {
            type: 'vm.checked_out',
            actorId: holder.id,
            poolId: vm.poolId,
            vmId: vm.id,
            userId: holder.id,
            requestId: command.requestId,
            data: { generation: leased.generation },
          },
        ],
      },
      reply: { vm: leased, holder },
    }
  },
}
