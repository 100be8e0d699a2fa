/** How a lease is given back by its name, by its holder, or taken from the holder by an admin who says why. */
import { leasesEnded } from './check-in.ts'
import type { Rule } from './decision.ts'
import type { Lease } from './lease.ts'
import { calledLease, type LeaseCall, leaseCallNeeds } from './lease-call.ts'
import { isRefusal, refusal } from './refusal.ts'
import type { Vm } from './vm.ts'

export interface ReleaseLease extends LeaseCall {
  readonly kind: 'releaseLease'
  /** Why an admin takes it from somebody else; null: its holder gives it back. */
  readonly reason: string | null
}

/** Refused: `reason_missing` (of an admin who is not the holder); calls as in lease-call.ts. */
export const releaseLease: Rule<ReleaseLease, { vm: Vm; lease: Lease }> = {
  needs: leaseCallNeeds,

  decide(view, command) {
    const called = calledLease(view, command, 'holder')
    if (isRefusal(called)) return called
    const { caller, vm, lease } = called
    const own = lease.userId === caller.id
    const { reason, requestId } = command
    if (!own && reason === null) return refusal('reason_missing')
    const by = own ? 'checked_in' : 'released'
    const said = reason === null ? {} : { reason }
    const changes = leasesEnded(view, [{ vm, by, actorId: caller.id, requestId, ...said }])
    const ended: Lease = { ...lease, endedAtMs: view.nowMs, endedBy: by, dueAtMs: null }
    return { changes, reply: { vm: changes.vms[0] as Vm, lease: ended } }
  },
}
