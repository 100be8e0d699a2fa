/**
 * Who may give a machine back, and what becomes of it: it goes to maintenance, where a pool with automatic cleaning has
 * a worker clean it once it has cooled down, and one with manual cleaning waits for an admin. A caller may present the
 * generation of the lease they mean; when the machine has been leased again since, nothing changes. Every lease ends the same
 * way, however it comes to its end.
 */
import { type Actor, authorized, type Rule } from './decision.ts'
import type { NewEvent } from './event.ts'
import type { Lease, LeaseEnd } from './lease.ts'
import { move } from './lifecycle.ts'
import { truedTag, usedMinutes } from './order.ts'
import { isContended, marginMs, type Pool, type QueueState } from './pool.ts'
import { isRefusal, refusal } from './refusal.ts'
import type { Flow } from './request.ts'
import type { Vm } from './vm.ts'
import type { Changes, View } from './working-set.ts'

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
    const { requestId } = command
    const changes = leasesEnded(view, [{ vm, by: 'checked_in', actorId: caller.id, requestId }])
    return { changes, reply: { vm: changes.vms[0] as Vm } }
  },
}

/** How the lease on a machine comes to its end. */
export interface EndOfLease {
  readonly vm: Vm
  readonly by: LeaseEnd
  /** null: Berth itself. */
  readonly actorId: number | null
  readonly requestId?: string
  /** What the one who ended it said about it. */
  readonly reason?: string
}

/** What follows when leases end now: the machines go to maintenance, and what was charged becomes what was used. */
export function leasesEnded(
  view: View,
  ends: readonly EndOfLease[],
): Changes & { readonly vms: readonly Vm[] } {
  const pools = new Map<number, Pool>()
  const flows = new Map<string, Flow>()
  const leases: Lease[] = []
  // In one order, however they came: sums of fractions depend on it.
  const inOrder = [...ends].sort((a, b) => a.vm.id - b.vm.id)
  for (const { vm, by } of inOrder) {
    const lease = view.lease(vm.id)
    const pool = pools.get(vm.poolId) ?? view.pool(vm.poolId)
    if (lease === undefined || pool === undefined)
      throw new Error(`the lease or pool of VM ${vm.id} was not loaded`)
    leases.push({ ...lease, endedBy: by })
    pools.set(pool.id, { ...pool, queue: { ...pool.queue, holds: withHold(pool.queue, lease, view.nowMs) } })
    if (!isContended(pool) || lease.chargedMinutes === 0) continue
    const key = `${pool.id} ${lease.userId}`
    const { v } = pool.queue
    const tag = flows.get(key)?.tag ?? view.book(pool.id)?.queue.tagOf(lease.userId, v) ?? v
    const used = usedMinutes(pool, vm.class, view.nowMs - lease.fromMs)
    flows.set(key, { poolId: pool.id, userId: lease.userId, tag: truedTag(tag, v, lease, used) })
  }
  return {
    vms: inOrder.map(({ vm }) => givenBack(view, vm)),
    leases,
    pools: [...pools.values()],
    flows: [...flows.values()],
    events: inOrder.map(checkedIn),
  }
}

/** The pool's record of how long leases last, with one more. */
function withHold({ holds }: QueueState, { fromMs }: Lease, nowMs: number): QueueState['holds'] {
  const minutes = (nowMs - fromMs) / 60_000
  const n = holds.n + 1
  const off = minutes - holds.mean
  const mean = holds.mean + off / n
  return { n, mean, m2: holds.m2 + off * (minutes - mean) }
}

/** The machine after its lease ended: due for a worker, once it has cooled down, where cleaning is automatic. */
function givenBack(view: View, vm: Vm): Vm {
  const pool = view.pool(vm.poolId)
  if (pool === undefined) throw new Error(`pool ${vm.poolId} of VM ${vm.id} was not loaded`)
  return move(vm, 'checkIn', {
    holderId: null,
    leasedAtMs: null,
    freeAtMs: view.nowMs + marginMs(pool, vm.type),
    dueAtMs: pool.cleaning === 'automatic' ? view.nowMs + pool.coolDownSeconds * 1_000 : null,
  })
}

/** The fact that `vm`'s lease ended. */
function checkedIn({ vm, by, actorId, requestId, reason }: EndOfLease): NewEvent {
  return {
    type: 'vm.checked_in',
    actorId,
    poolId: vm.poolId,
    vmId: vm.id,
    ...(vm.holderId === null ? {} : { userId: vm.holderId }),
    ...(requestId === undefined ? {} : { requestId }),
    data: {
      generation: vm.generation,
      ...(by === 'checked_in' ? {} : { by }),
      ...(reason === undefined ? {} : { reason }),
    },
  }
}
