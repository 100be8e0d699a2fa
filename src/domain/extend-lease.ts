/**
 * How a lease gets another end: later, as long as that takes nothing from a booking or from what was promised to somebody who
 * waits, or earlier. A refused extension says until when it would be possible.
 */
import type { Rule } from './decision.ts'
import { extensionRefusal } from './extension.ts'
import type { Lease } from './lease.ts'
import { planned } from './lease.ts'
import { calledLease, claimedBy, type LeaseCall, leaseCallNeeds } from './lease-call.ts'
import { chargedTag, chargeOf } from './order.ts'
import { isContended, marginMs, type Pool } from './pool.ts'
import { hoursOf } from './quota.ts'
import { hoursRefusal } from './quota-use.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import type { Flow } from './request.ts'
import { isoTime } from './reservation.ts'
import type { User } from './user.ts'
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
 * Refused: `lease_endless` (moved by an amount), `lease_end_past`, `lease_too_long`, `extension_promised`,
 * `extension_reserved`, `hours_full`;
 * calls as in lease-call.ts.
 */
export const extendLease: Rule<ExtendLease, { vm: Vm; lease: Lease }> = {
  needs(command, needs) {
    leaseCallNeeds(command, needs)
    needs.usageOf.add(command.actor.userId)
  },

  decide(view, command) {
    const called = calledLease(view, command, 'holder')
    if (isRefusal(called)) return called
    const { caller, vm, lease, pool } = called
    const endsAtMs = newEnd(lease, command)
    if (isRefusal(endsAtMs)) return endsAtMs
    if (endsAtMs === lease.endsAtMs) return { changes: { events: [] }, reply: { vm, lease } }
    const override = command.override && caller.role === 'admin'
    const no =
      endRefusal(view, pool, vm, lease, endsAtMs, override) ??
      (caller.id === lease.userId ? longerRefusal(view, pool, caller, lease, endsAtMs) : null)
    if (no !== null) return no
    const { minutes, flows } = charge(view, pool, vm, lease, endsAtMs)
    const chargedMinutes = lease.chargedMinutes + minutes
    const extended = planned({ ...lease, endsAtMs, warned: false, chargedMinutes }, pool.warnSeconds)
    const freeAtMs = endsAtMs === null ? null : endsAtMs + marginMs(pool, vm.type)
    const changed = { ...vm, freeAtMs }
    return {
      changes: {
        vms: [changed],
        leases: [extended],
        reservations: claimedBy(view, lease),
        flows,
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
  if (endsAtMs !== null && endsAtMs <= view.nowMs)
    return refusal('lease_end_past', { endsAt: isoTime(endsAtMs) })
  const { leaseSecondsMax } = pool
  const seconds = endsAtMs === null ? null : Math.ceil((endsAtMs - lease.fromMs) / 1_000)
  if (leaseSecondsMax !== null && (seconds === null || seconds > leaseSecondsMax))
    return refusal('lease_too_long', { durationSeconds: seconds, leaseSecondsMax })
  const book = view.book(pool.id)
  const held = book?.vms.get(vm.id)
  if (book === undefined || held === undefined || lease.endsAtMs === null) return null
  const answer = extensionRefusal(book, held, lease.endsAtMs, endsAtMs)
  return override && answer?.code === 'extension_promised' ? null : answer
}

/** Why the hours of a week are not enough for the time that a lease gets more. */
function longerRefusal(
  view: View,
  pool: Pool,
  user: User,
  lease: Lease,
  endsAtMs: number | null,
): Refusal | null {
  if (lease.endsAtMs === null) return null
  const seconds = endsAtMs === null ? null : (endsAtMs - lease.endsAtMs) / 1_000
  return seconds !== null && seconds <= 0 ? null : hoursRefusal(view, pool, user, hoursOf(1, seconds))
}

/** While others wait, the time that a lease gets more is charged like a grant of it. */
function charge(
  view: View,
  pool: Pool,
  vm: Vm,
  lease: Lease,
  endsAtMs: number | null,
): { minutes: number; flows: Flow[] } {
  const seconds = endsAtMs === null || lease.endsAtMs === null ? null : (endsAtMs - lease.endsAtMs) / 1_000
  const book = view.book(pool.id)
  if (
    !isContended(pool) ||
    book === undefined ||
    lease.endsAtMs === null ||
    (seconds !== null && seconds <= 0)
  )
    return { minutes: 0, flows: [] }
  const minutes = chargeOf(pool, vm.class, seconds)
  const tag = chargedTag(book.queue.tagOf(lease.userId, pool.queue.v), minutes, lease.weight)
  return { minutes, flows: [{ poolId: pool.id, userId: lease.userId, tag }] }
}
