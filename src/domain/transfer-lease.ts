/**
 * How a lease passes to another user: the machine gets a new generation, so that nothing that the first holder still sends has
 * any effect, and the rest of the time is the receiver's, whose quota counts.
 */
import type { Rule } from './decision.ts'
import { mayUse } from './join.ts'
import type { Lease } from './lease.ts'
import { planned } from './lease.ts'
import { calledLease, type LeaseCall, leaseCallNeeds } from './lease-call.ts'
import { move } from './lifecycle.ts'
import { quotaRefusal } from './quota-use.ts'
import { isRefusal, refusal } from './refusal.ts'
import type { Vm } from './vm.ts'

export interface TransferLease extends LeaseCall {
  readonly kind: 'transferLease'
  readonly toUserId: number
}

/** Refused: `user_unknown`, `pool_closed_to_you`, `quota_full`; calls as in lease-call.ts. */
export const transferLease: Rule<TransferLease, { vm: Vm; lease: Lease }> = {
  needs(command, needs) {
    leaseCallNeeds(command, needs)
    needs.userIds.add(command.toUserId)
    needs.usageOf.add(command.toUserId)
  },

  decide(view, command) {
    const called = calledLease(view, command, 'holder')
    if (isRefusal(called)) return called
    const { caller, vm, lease, pool } = called
    const receiver = view.user(command.toUserId)
    if (receiver === undefined || receiver.state !== 'active')
      return refusal('user_unknown', { userId: command.toUserId })
    if (receiver.id === lease.userId) return { changes: { events: [] }, reply: { vm, lease } }
    const no =
      mayUse(pool, receiver) ??
      quotaRefusal(view, pool, receiver, [[vm.class, 1]], remaining(lease, view.nowMs))
    if (no !== null) return no
    const generation = vm.generation + 1
    const handed = move(vm, 'transfer', {
      generation,
      holderId: receiver.id,
      leasedAtMs: view.nowMs,
      freeAtMs: vm.freeAtMs,
    })
    const received = planned(
      {
        ...lease,
        generation,
        userId: receiver.id,
        fromMs: view.nowMs,
        beatByMs: lease.heartbeatSeconds === null ? null : view.nowMs + lease.heartbeatSeconds * 1_000,
        chargedMinutes: 0,
        sharedWith: [],
      },
      pool.warnSeconds,
    )
    const about = { poolId: pool.id, vmId: vm.id, requestId: command.requestId, actorId: caller.id }
    return {
      changes: {
        vms: [handed],
        leases: [received],
        endedBy: 'transferred',
        events: [
          {
            ...about,
            type: 'vm.checked_in',
            userId: lease.userId,
            data: { generation: lease.generation, by: 'transferred', to: receiver.id },
          },
          {
            ...about,
            type: 'vm.checked_out',
            userId: receiver.id,
            data: { generation, by: 'transferred', from: lease.userId },
          },
        ],
      },
      reply: { vm: handed, lease: received },
    }
  },
}

/** Seconds until a lease ends; null: it has no end. */
function remaining({ endsAtMs }: Lease, nowMs: number): number | null {
  return endsAtMs === null ? null : (endsAtMs - nowMs) / 1_000
}
