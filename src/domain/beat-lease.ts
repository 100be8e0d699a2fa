/**
 * A heartbeat says that whoever works on a machine is still there. A lease that agreed to send them ends when none came in time;
 * a heartbeat moves only that limit, never the lease's end.
 */
import type { Rule } from './decision.ts'
import type { Lease } from './lease.ts'
import { planned } from './lease.ts'
import { calledLease, claimedBy, type LeaseCall, leaseCallNeeds } from './lease-call.ts'
import { isRefusal, refusal } from './refusal.ts'
import type { Vm } from './vm.ts'

export interface BeatLease extends LeaseCall {
  readonly kind: 'beatLease'
}

/** Refused: `heartbeat_not_agreed`; calls as in lease-call.ts. */
export const beatLease: Rule<BeatLease, { vm: Vm; lease: Lease }> = {
  needs: leaseCallNeeds,

  decide(view, command) {
    const called = calledLease(view, command, 'shared')
    if (isRefusal(called)) return called
    const { vm, lease, pool } = called
    if (lease.heartbeatSeconds === null)
      return refusal('heartbeat_not_agreed', { lease: `${vm.id}-${lease.generation}` })
    const beat = planned(
      { ...lease, beatByMs: view.nowMs + lease.heartbeatSeconds * 1_000 },
      pool.warnSeconds,
    )
    return {
      changes: { leases: [beat], reservations: claimedBy(view, lease), events: [] },
      reply: { vm, lease: beat },
    }
  },
}
