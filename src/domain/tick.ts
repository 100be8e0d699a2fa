/**
 * What time alone brings about in a pool: leases end, by their end or for want of a heartbeat, and their holders are warned before;
 * requests have waited long enough; reservations begin and end. A worker asks for it when something is due, so that it comes about
 * also when every process was down at that moment.
 */
import { type EndOfLease, leasesEnded } from './check-in.ts'
import type { Rule } from './decision.ts'
import type { NewEvent } from './event.ts'
import { type Lease, planned, warnAtMs } from './lease.ts'
import { over, type Request } from './request.ts'

export interface TickPool {
  readonly kind: 'tickPool'
  readonly poolId: number
  /** How many leases, and how many requests, at most. */
  readonly rowsMax: number
}

/** Never refused. Tells whether more is due. */
export const tickPool: Rule<TickPool, { more: boolean }> = {
  needs({ poolId, rowsMax }, needs) {
    needs.poolIds.add(poolId)
    needs.dueLeases.set(poolId, Math.max(rowsMax, needs.dueLeases.get(poolId) ?? 0))
    needs.dueRequests.set(poolId, Math.max(rowsMax, needs.dueRequests.get(poolId) ?? 0))
  },

  decide(view, { poolId, rowsMax }) {
    const pool = view.pool(poolId)
    if (pool === undefined) return { changes: { events: [] }, reply: { more: false } }
    const { nowMs } = view
    const isDue = (ms: number | null) => ms !== null && ms <= nowMs
    const ends: EndOfLease[] = []
    const warned: Lease[] = []
    const due = view.leasesWhere((lease) => lease.poolId === poolId && isDue(lease.dueAtMs))
    for (const lease of due) {
      const vm = view.vm(lease.vmId)
      if (vm === undefined || vm.generation !== lease.generation) continue
      if (isDue(lease.endsAtMs)) ends.push({ vm, by: 'expired', actorId: null })
      else if (isDue(lease.beatByMs)) ends.push({ vm, by: 'heartbeat_missed', actorId: null })
      else if (isDue(warnAtMs(lease, pool.warnSeconds)))
        warned.push(planned({ ...lease, warned: true }, pool.warnSeconds))
    }
    const ended = leasesEnded(view, ends)
    const waited = view
      .requestsWhere(
        (request) => request.poolId === poolId && request.state === 'waiting' && isDue(request.untilMs),
      )
      .map((request) => over(request, 'expired', nowMs))
    return {
      changes: {
        ...ended,
        lookAgain: [poolId],
        leases: [...(ended.leases ?? []), ...warned],
        requests: waited,
        events: [...ended.events, ...warned.map(endsSoon), ...waited.map(expired)],
      },
      reply: { more: due.length >= rowsMax || waited.length >= rowsMax },
    }
  },
}

function endsSoon({ poolId, vmId, userId, generation, endsAtMs }: Lease): NewEvent {
  return { type: 'lease.ends_soon', actorId: null, poolId, vmId, userId, data: { generation, endsAtMs } }
}

function expired({ poolId, userId, id }: Request): NewEvent {
  return { type: 'request.expired', actorId: null, poolId, userId, data: { request: id } }
}
