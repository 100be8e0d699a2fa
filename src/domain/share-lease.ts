/** Who beside its holder may see a leased machine's address and send its heartbeats. */
import type { Rule } from './decision.ts'
import type { Lease } from './lease.ts'
import { calledLease, claimedBy, type LeaseCall, leaseCallNeeds } from './lease-call.ts'
import { isRefusal, refusal } from './refusal.ts'
import type { Vm } from './vm.ts'

export const SHARED_WITH_MAX = 32

export interface ShareLease extends LeaseCall {
  readonly kind: 'shareLease'
  /** All users it is to be shared with, by id. */
  readonly userIds: readonly number[]
}

/** Refused: `user_unknown`; calls as in lease-call.ts. */
export const shareLease: Rule<ShareLease, { vm: Vm; lease: Lease }> = {
  needs(command, needs) {
    leaseCallNeeds(command, needs)
    for (const userId of command.userIds) needs.userIds.add(userId)
  },

  decide(view, command) {
    const called = calledLease(view, command, 'holder')
    if (isRefusal(called)) return called
    const { caller, vm, lease, pool } = called
    const sharedWith = [...new Set(command.userIds)].filter((id) => id !== lease.userId).sort((a, b) => a - b)
    for (const userId of sharedWith)
      if (view.user(userId)?.state !== 'active') return refusal('user_unknown', { userId })
    const shared = { ...lease, sharedWith }
    return {
      changes: {
        leases: [shared],
        reservations: claimedBy(view, lease),
        events: [
          {
            type: 'lease.shared',
            actorId: caller.id,
            poolId: pool.id,
            vmId: vm.id,
            userId: lease.userId,
            requestId: command.requestId,
            data: { generation: lease.generation, with: sharedWith },
          },
        ],
      },
      reply: { vm, lease: shared },
    }
  },
}
