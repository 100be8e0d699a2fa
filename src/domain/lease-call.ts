/**
 * Which lease a call means, and whether the caller may make it. A call names a lease by machine and generation; once the machine
 * has been handed on or given back, the name means nothing any more, and nothing changes.
 */
import { type Actor, knownCaller } from './decision.ts'
import type { Lease } from './lease.ts'
import { may } from './permission.ts'
import type { Pool } from './pool.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import { claimed, type Reservation } from './reservation.ts'
import type { User } from './user.ts'
import type { Vm } from './vm.ts'
import type { Needs, View } from './working-set.ts'

export interface LeaseCall {
  readonly actor: Actor
  readonly vmId: number
  readonly generation: number
  /** The generation that the caller presented as a condition; null: none. */
  readonly ifGeneration: number | null
  readonly requestId: string
}

export interface CalledLease {
  readonly caller: User
  readonly vm: Vm
  readonly lease: Lease
  readonly pool: Pool
}

export function leaseCallNeeds(command: LeaseCall, needs: Needs): void {
  needs.userIds.add(command.actor.userId)
  needs.vmIds.add(command.vmId)
}

/** The reservation behind a lease, once its holder is seen to use it; none when there is none, or that is known. */
export function claimedBy(view: View, { poolId, reservationId }: Lease): Reservation[] {
  const reservation = reservationId === null ? undefined : view.book(poolId)?.reservations.get(reservationId)
  if (reservation === undefined || reservation.claimed) return []
  const now = claimed(reservation)
  return isRefusal(now) ? [] : [now]
}

/** Who may call: its holder and admins; those it is shared with; admins alone. */
export type LeaseCallers = 'holder' | 'shared' | 'admin'

/**
 * The lease that is meant. Refused: `lease_unknown` (also to those whose business it is not), `lease_over`, `generation_stale`,
 * `not_allowed`; callers as in decision.ts.
 */
export function calledLease(view: View, command: LeaseCall, callers: LeaseCallers): CalledLease | Refusal {
  const caller = knownCaller(view, command.actor)
  if (isRefusal(caller)) return caller
  const { vmId, generation, ifGeneration } = command
  const unknown = refusal('lease_unknown', { lease: `${vmId}-${generation}` })
  const vm = view.vm(vmId)
  if (vm === undefined || vm.state === 'deleting' || generation > vm.generation || generation < 1)
    return unknown
  const admin = may(caller.role, 'lease.release')
  const lease = view.lease(vmId)
  if (lease === undefined || lease.generation !== generation)
    return refusal('lease_over', { lease: `${vmId}-${generation}` })
  const own = lease.userId === caller.id
  const shared = lease.sharedWith.includes(caller.id)
  if (!own && !shared && !admin) return unknown
  if (callers === 'admin' ? !admin : callers === 'holder' && !own && !admin)
    return refusal('not_allowed', { action: 'lease.release', role: caller.role })
  if (ifGeneration !== null && ifGeneration !== generation)
    return refusal('generation_stale', { vmId, generation: ifGeneration })
  const pool = view.pool(vm.poolId)
  if (pool === undefined) throw new Error(`pool ${vm.poolId} of VM ${vm.id} was not loaded`)
  return { caller, vm, lease, pool }
}
