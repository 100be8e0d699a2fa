/**
 * Who gets a machine at once, and which one. A checkout may name a machine, a type, or neither; "any" takes the free
 * machine with the lowest id. Machines that a shrink is about to remove are not free (pool.ts). Each checkout raises the
 * machine's generation, so whatever an earlier holder still sends is recognised as late.
 */
import { type Actor, authorized, Joining, type Rule } from './decision.ts'
import { move } from './lifecycle.ts'
import { ENDLESS, newRequest } from './new-request.ts'
import { countFree, isContended, type Pool } from './pool.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import type { User } from './user.ts'
import type { Vm } from './vm.ts'
import type { VmType } from './vm-type.ts'
import type { View } from './working-set.ts'

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
    if (pool === undefined) {
      if (command.vmId !== null) return refusal('vm_unknown', { vmId: command.vmId })
      return refusal('none_free', { pool: command.pool, type: command.type })
    }
    const named = command.vmId === null ? undefined : view.vm(command.vmId)
    if (command.vmId !== null) {
      if (named === undefined || named.poolId !== pool.id || named.state === 'deleting')
        return refusal('vm_unknown', { vmId: command.vmId })
      if (named.state !== 'ready' || (command.type !== null && command.type !== named.type))
        return refusal('vm_not_free', { vmId: named.id })
    }
    if (isContended(pool)) return joining(view, pool, holder, command)
    const isFree = countFree(pool, view.tally(pool.id)) > 0
    const vm = isFree ? (named ?? view.lowestReady(pool.id, command.type)) : undefined
    if (vm === undefined) return noneFree(command)
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

function noneFree({ vmId, pool, type }: Checkout): Refusal {
  return vmId === null ? refusal('none_free', { pool, type }) : refusal('vm_not_free', { vmId })
}

/** While others wait or have booked, a checkout asks like a request that will not wait, for a lease without end. */
function joining(view: View, pool: Pool, holder: User, command: Checkout): Joining<{ vm: Vm; holder: User }> {
  const kind = { type: command.type, labels: {}, vmId: command.vmId, count: 1 }
  const request = newRequest(view, pool, holder.id, {
    id: command.requestId,
    wish: [kind],
    terms: ENDLESS,
    priority: 'normal',
    waitSeconds: 0,
  })
  return new Joining({ request, user: holder, waits: false, callId: command.requestId }, (outcome) => {
    if (isRefusal(outcome)) return noneFree(command)
    const vm = outcome.leases?.[0]?.vm
    if (vm === undefined) throw new Error(`a checkout that does not wait was left waiting`)
    return { vm, holder }
  })
}
