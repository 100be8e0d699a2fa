/**
 * How a lease gets another end: later, as long as that takes nothing from a booking or from what was promised to somebody who
 * waits, or earlier. A refused extension says until when it would be possible.
 */
import type { Rule } from './decision.ts'
import type { Lease } from './lease.ts'
import { planned } from './lease.ts'
import { calledLease, type LeaseCall, leaseCallNeeds } from './lease-call.ts'
import { chargeExtension } from './order.ts'
import { isContended, marginMs, type Pool } from './pool.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import type { Vm } from './vm.ts'
import type { View } from './working-set.ts'

export interface ExtendLease extends LeaseCall {
  readonly kind: 'extendLease'
  /** The new end (null: without end), or by how much the present one moves. */
  readonly to: { readonly endsAtMs: number | null } | { readonly bySeconds: number }
  /** True: an admin gives the lease what was promised to somebody else. Bookings are never overridden. */
  readonly override: boolean
}

/**
 * Refused: `lease_endless` (moved by an amount), `lease_end_past`, `lease_too_long`, `machines_promised`, `machines_reserved`;
 * calls as in lease-call.ts.
 */
export const extendLease: Rule<ExtendLease, { vm: Vm; lease: Lease }> = {
  needs: leaseCallNeeds,

  decide(view, command) {
    const called = calledLease(view, command, 'holder')
    if (isRefusal(called)) return called
    const { caller, vm, lease, pool } = called
    const endsAtMs = newEnd(lease, command)
    if (isRefusal(endsAtMs)) return endsAtMs
    if (endsAtMs === lease.endsAtMs) return { changes: { events: [] }, reply: { vm, lease } }
    const override = command.override && caller.role === 'admin'
    const no = endRefusal(view, pool, vm, lease, endsAtMs, override)
    if (no !== null) return no
    const charged = isContended(pool)
      ? chargeExtension(pool, view.book(pool.id)?.flow(lease.userId), lease, vm, endsAtMs)
      : null
    const extended = planned(
      { ...lease, endsAtMs, warned: false, chargedMinutes: charged?.chargedMinutes ?? lease.chargedMinutes },
      pool.warnSeconds,
    )
    const freeAtMs = endsAtMs === null ? null : endsAtMs + marginMs(pool, vm.type)
    const changed = { ...vm, freeAtMs }
    return {
      changes: {
        vms: [changed],
        leases: [extended],
        ...(charged === null ? {} : { flows: [charged.flow] }),
        events: [
          {
            type: 'lease.extended',
            actorId: caller.id,
            poolId: pool.id,
            vmId: vm.id,
            userId: lease.userId,
            requestId: command.requestId,
            data: { generation: lease.generation, endsAtMs: [lease.endsAtMs, endsAtMs] },
          },
        ],
      },
      reply: { vm: changed, lease: extended },
    }
  },
}

function newEnd(lease: Lease, { to, vmId, generation }: ExtendLease): number | null | Refusal {
  if ('endsAtMs' in to) return to.endsAtMs
  if (lease.endsAtMs === null) return refusal('lease_endless', { lease: `${vmId}-${generation}` })
  return lease.endsAtMs + to.bySeconds * 1_000
}

function endRefusal(
  view: View,
  pool: Pool,
  vm: Vm,
  lease: Lease,
  endsAtMs: number | null,
  override: boolean,
): Refusal | null {
  if (endsAtMs !== null && endsAtMs <= view.nowMs) return refusal('lease_end_past', { endsAtMs })
  const { leaseSecondsMax } = pool
  const seconds = endsAtMs === null ? null : Math.ceil((endsAtMs - lease.fromMs) / 1_000)
  if (leaseSecondsMax !== null && (seconds === null || seconds > leaseSecondsMax))
    return refusal('lease_too_long', { durationSeconds: seconds, leaseSecondsMax })
  const later = lease.endsAtMs !== null && (endsAtMs === null || endsAtMs > lease.endsAtMs)
  const book = view.book(pool.id)
  if (!later || book === undefined) return null
  const answer = book.mayExtend(vm.class, lease.endsAtMs, endsAtMs)
  if (answer === null || (override && answer.code === 'machines_promised')) return null
  return refusal(answer.code, { pool: pool.name, offerMs: answer.offerMs })
}
