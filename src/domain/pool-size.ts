/**
 * How a pool gets its size. An admin's wish only sets the target (the first one makes the pool); workers then bring what
 * exists to the target, one bounded slice a batch, so a million machines never hold up a checkout. Growing plans machines
 * of the types that the mix lacks; shrinking takes those being made first, then the ready ones with the highest ids, and
 * never one that somebody holds or that is in maintenance.
 */
import { type Actor, authorized, type Rule } from './decision.ts'
import { idRanges } from './event.ts'
import { spare } from './free-busy.ts'
import { removed } from './maintenance.ts'
import {
  countExisting,
  DEFAULT_POLICY,
  EMPTY_QUEUE,
  makeMs,
  nextTypes,
  type Pool,
  type PoolPolicy,
  type PoolStats,
  sizeMin,
  surplus,
} from './pool.ts'
import { isRefusal, refusal } from './refusal.ts'
import type { Vm } from './vm.ts'
import { type ClassKey, classKeyOf } from './vm-class.ts'
import type { View } from './working-set.ts'

export interface SizePool {
  readonly kind: 'sizePool'
  readonly actor: Actor
  /** The pool's name. */
  readonly pool: string
  readonly size: number
  /** What the pool is like if it has to be made. */
  readonly policy: Partial<PoolPolicy>
  readonly requestId: string
}

/** Refused: `size_below_use`; callers as in decision.ts. */
export const sizePool: Rule<SizePool, { poolId: number; outcome: 'created' | 'resized' | 'unchanged' }> = {
  needs(command, needs) {
    needs.userIds.add(command.actor.userId)
    needs.poolNames.add(command.pool)
    needs.installation = true
  },

  decide(view, command) {
    const caller = authorized(view, command.actor, 'pool.change')
    if (isRefusal(caller)) return caller
    const { size, requestId } = command
    const pool = view.poolNamed(command.pool)
    if (pool === undefined) {
      const { installation } = view
      const made: Pool = {
        ...DEFAULT_POLICY,
        ...command.policy,
        id: installation.nextPoolId,
        name: command.pool,
        target: size,
        createdAtMs: view.nowMs,
        queue: EMPTY_QUEUE,
      }
      return {
        changes: {
          installation: { ...installation, nextPoolId: made.id + 1 },
          pools: [made],
          events: [
            {
              type: 'pool.created',
              actorId: caller.id,
              poolId: made.id,
              requestId,
              data: { name: made.name, size },
            },
          ],
        },
        reply: { poolId: made.id, outcome: 'created' },
      }
    }
    if (size === pool.target)
      return { changes: { events: [] }, reply: { poolId: pool.id, outcome: 'unchanged' } }
    const least = sizeMin(view.tally(pool.id))
    if (size < least) return refusal('size_below_use', { size, sizeMin: least })
    return {
      changes: {
        pools: [{ ...pool, target: size }],
        events: [
          {
            type: 'pool.resized',
            actorId: caller.id,
            poolId: pool.id,
            requestId,
            data: { from: pool.target, to: size },
          },
        ],
      },
      reply: { poolId: pool.id, outcome: 'resized' },
    }
  },
}

export interface GrowPool {
  readonly kind: 'growPool'
  readonly poolId: number
  readonly machinesMax: number
  /** How long the worker that asked has for making them. */
  readonly claimMs: number
}

/** Plans the next machines up to the target, already claimed by the caller. Never refused. */
export const growPool: Rule<GrowPool, { pool: Pool | null; planned: Vm[] }> = {
  needs(command, needs) {
    needs.poolIds.add(command.poolId)
    needs.installation = true
  },

  decide(view, command) {
    const pool = view.pool(command.poolId)
    const tally = view.tally(command.poolId)
    const { installation, nowMs } = view
    const missing = pool === undefined ? 0 : pool.target - countExisting(tally)
    const n = Math.min(command.machinesMax, missing)
    if (pool === undefined || n <= 0 || installation.state !== 'open')
      return { changes: { events: [] }, reply: { pool: pool ?? null, planned: [] } }
    const planned = nextTypes(pool.typeMix, tally, n).map((type, i): Vm => {
      const id = installation.nextVmId + i
      return {
        id,
        poolId: pool.id,
        name: `${pool.name}-${id}`,
        type,
        class: classKeyOf(type, {}, null),
        address: '',
        power: 'stopped',
        state: 'provisioning',
        generation: 0,
        holderId: null,
        leasedAtMs: null,
        freeAtMs: nowMs + makeMs(pool, type),
        dueAtMs: nowMs + command.claimMs,
        // Ids begin anew with a reset. A claim that is numbered by the time fits no machine that had the id before.
        claim: nowMs,
        busyUntilMs: nowMs + command.claimMs,
        attempts: 1,
        failure: null,
        createdAtMs: nowMs,
      }
    })
    return {
      changes: {
        installation: { ...installation, nextVmId: installation.nextVmId + planned.length },
        vms: planned,
        events: [{ type: 'vm.planned', actorId: null, poolId: pool.id, data: { vms: rangesOf(planned) } }],
      },
      reply: { pool, planned },
    }
  },
}

export interface ShrinkPool {
  readonly kind: 'shrinkPool'
  readonly poolId: number
  readonly machinesMax: number
}

/** Marks surplus machines for destruction. Never refused; replies how many it marked. */
export const shrinkPool: Rule<ShrinkPool, { removed: number }> = {
  needs(command, needs) {
    needs.poolIds.add(command.poolId)
    needs.removable.set(command.poolId, command.machinesMax)
    needs.takers += command.machinesMax
  },

  decide(view, command) {
    const pool = view.pool(command.poolId)
    if (pool === undefined) return { changes: { events: [] }, reply: { removed: 0 } }
    const n = Math.min(command.machinesMax, surplus(pool, view.tally(pool.id)))
    const doomed = spared(view, pool.id, removable(view, pool.id)).slice(0, n)
    if (doomed.length === 0) return { changes: { events: [] }, reply: { removed: 0 } }
    return {
      changes: {
        vms: doomed.map((vm) => removed(vm, view.nowMs)),
        events: [{ type: 'vm.removed', actorId: null, poolId: pool.id, data: { vms: rangesOf(doomed) } }],
      },
      reply: { removed: doomed.length },
    }
  },
}

/** Machines that a shrink may take, in the order in which it takes them. */
function removable(view: View, poolId: number): Vm[] {
  const vms = view.vmsWhere(
    (vm) => vm.poolId === poolId && (vm.state === 'ready' || vm.state === 'provisioning'),
  )
  return vms.sort((a, b) => Number(a.state === 'ready') - Number(b.state === 'ready') || b.id - a.id)
}

/** Those of them without which all reservations are kept; machines that are being made are in nobody's plans yet. */
function spared(view: View, poolId: number, vms: readonly Vm[]): Vm[] {
  const book = view.book(poolId)
  if (book === undefined || book.reservations.size === 0) return [...vms]
  const left = new Map<ClassKey, number>()
  return vms.filter((vm) => {
    if (vm.state === 'provisioning') return true
    const count = left.get(vm.class) ?? spare(book, vm.class, view.nowMs)
    left.set(vm.class, count - 1)
    return count > 0
  })
}

function rangesOf(vms: readonly Vm[]): [number, number][] {
  return idRanges(vms.map((vm) => vm.id))
}

/** True when nothing is left to make, prepare or remove for the pool to have its size. */
export function isFitted(stats: PoolStats, provisioning: number): boolean {
  return stats.existing === stats.target && provisioning === 0
}
