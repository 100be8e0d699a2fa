/**
 * How pools come, how their policies change, and how they go. A pool is deleted when it is empty: size 0, no machine left, nobody
 * waiting, nothing booked. Its row stays, retired under a name that nobody can ask for, because past leases and events point at it; its name is
 * free again. Names and aliases are one space: each leads to one pool.
 */
import { type Actor, authorized, type Rule } from './decision.ts'
import { etagFits, etagOf } from './etag.ts'
import { countExisting, countIn, DEFAULT_POLICY, EMPTY_QUEUE, type Pool, type PoolPolicy } from './pool.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import type { View } from './working-set.ts'

const POLICIES = Object.keys(DEFAULT_POLICY) as (keyof PoolPolicy)[]

/** Tells one set of a pool's name, size and policies from another. */
export function poolEtag(pool: Pool): string {
  return etagOf([pool.name, pool.target, ...POLICIES.map((name) => pool[name])])
}

export interface CreatePool {
  readonly kind: 'createPool'
  readonly actor: Actor
  readonly name: string
  readonly size: number
  readonly policy: Partial<PoolPolicy>
  readonly requestId: string
}

/** Refused: `pool_name_taken`, `field_invalid`; callers as in decision.ts. */
export const createPool: Rule<CreatePool, { pool: Pool }> = {
  needs({ actor }, needs) {
    needs.userIds.add(actor.userId)
    needs.installation = true
    needs.allPools = true
  },

  decide(view, { actor, name, size, policy, requestId }) {
    const caller = authorized(view, actor, 'pool.change')
    if (isRefusal(caller)) return caller
    const { installation } = view
    const pool: Pool = {
      ...DEFAULT_POLICY,
      ...policy,
      id: installation.nextPoolId,
      name,
      target: size,
      createdAtMs: view.nowMs,
      queue: EMPTY_QUEUE,
    }
    const no = nameRefusal(view, pool) ?? policyRefusal(view, pool)
    if (no !== null) return no
    return {
      changes: {
        installation: { ...installation, nextPoolId: pool.id + 1 },
        pools: [pool],
        events: [
          {
            type: 'pool.created',
            actorId: caller.id,
            poolId: pool.id,
            requestId,
            data: { name, size, ...policy },
          },
        ],
      },
      reply: { pool },
    }
  },
}

export interface ChangePool {
  readonly kind: 'changePool'
  readonly actor: Actor
  /** The pool's name. */
  readonly pool: string
  /** null: as it is. Machines that are in use above it go when they come back. */
  readonly size: number | null
  readonly policy: Partial<PoolPolicy>
  readonly ifMatch: readonly string[] | null
  readonly requestId: string
}

/** Refused: `pool_unknown`, `etag_stale`, `pool_name_taken`, `field_invalid`; callers as in decision.ts. */
export const changePool: Rule<ChangePool, { pool: Pool }> = {
  needs({ actor, pool, policy }, needs) {
    needs.userIds.add(actor.userId)
    needs.poolNames.add(pool)
    // Sizes of machine and names of pools must not change meanwhile.
    if (policy.typeMix !== undefined || policy.units !== undefined) needs.installation = true
    if (policy.aliases !== undefined) needs.allPools = true
  },

  decide(view, command) {
    const caller = authorized(view, command.actor, 'pool.change')
    if (isRefusal(caller)) return caller
    const pool = seen(view, command.pool, command.ifMatch)
    if (isRefusal(pool)) return pool
    const { size, policy, requestId } = command
    const changed: Pool = { ...pool, ...policy, target: size ?? pool.target }
    const no =
      (policy.aliases === undefined ? null : nameRefusal(view, changed)) ?? policyRefusal(view, changed)
    if (no !== null) return no
    if (poolEtag(changed) === poolEtag(pool)) return { changes: { events: [] }, reply: { pool } }
    const names = POLICIES.filter((name) => etagOf(pool[name]) !== etagOf(changed[name]))
    const data = Object.fromEntries(names.map((name) => [name, [pool[name], changed[name]]]))
    const about = { actorId: caller.id, poolId: pool.id, requestId }
    return {
      changes: {
        pools: [changed],
        events: [
          ...(names.length === 0 ? [] : [{ type: 'pool.changed' as const, ...about, data }]),
          ...(changed.target === pool.target
            ? []
            : [{ type: 'pool.resized' as const, ...about, data: { from: pool.target, to: changed.target } }]),
        ],
      },
      reply: { pool: changed },
    }
  },
}

export interface DeletePool {
  readonly kind: 'deletePool'
  readonly actor: Actor
  /** The pool's name. */
  readonly pool: string
  readonly ifMatch: readonly string[] | null
  readonly requestId: string
}

/** Refused: `pool_unknown`, `etag_stale`, `pool_not_empty`; callers as in decision.ts. */
export const deletePool: Rule<DeletePool, null> = {
  needs({ actor, pool }, needs) {
    needs.userIds.add(actor.userId)
    needs.poolNames.add(pool)
  },

  decide(view, command) {
    const caller = authorized(view, command.actor, 'pool.change')
    if (isRefusal(caller)) return caller
    const pool = seen(view, command.pool, command.ifMatch)
    if (isRefusal(pool)) return pool
    const tally = view.tally(pool.id)
    const machines = countExisting(tally) + countIn(tally, 'deleting')
    const { waiting, booked } = pool.queue
    if (pool.target > 0 || machines > 0 || waiting > 0 || booked > 0)
      return refusal('pool_not_empty', { pool: pool.name, size: pool.target, machines, waiting, booked })
    return {
      changes: {
        pools: [{ ...pool, name: `${pool.name}~${pool.id}`, aliases: [], retired: true }],
        events: [
          {
            type: 'pool.deleted',
            actorId: caller.id,
            poolId: pool.id,
            requestId: command.requestId,
            data: { name: pool.name },
          },
        ],
      },
      reply: null,
    }
  },
}

function seen(view: View, name: string, ifMatch: readonly string[] | null): Pool | Refusal {
  const pool = view.poolNamed(name)
  if (pool === undefined || pool.retired) return refusal('pool_unknown', { pool: name })
  return etagFits(ifMatch, poolEtag(pool))
    ? pool
    : refusal('etag_stale', { etag: (ifMatch ?? []).join(', ') })
}

/** Why a pool cannot have its name and aliases; all pools have to be loaded. */
function nameRefusal(view: View, pool: Pool): Refusal | null {
  const others = view.poolsWhere(({ id, retired }) => id !== pool.id && !retired)
  const taken = new Set(others.flatMap(({ name, aliases }) => [name, ...aliases]))
  const mine = new Set<string>()
  for (const name of [pool.name, ...pool.aliases]) {
    if (taken.has(name) || mine.has(name)) return refusal('pool_name_taken', { name })
    mine.add(name)
  }
  return null
}

/** Why policies do not go together. */
function policyRefusal(view: View, pool: Pool): Refusal | null {
  const types = view.installation.vmTypes.map(({ name }) => name)
  const mix = Object.entries(pool.typeMix)
  const strange = [...mix.map(([type]) => type), ...Object.keys(pool.units)].find(
    (type) => !types.includes(type),
  )
  if (strange !== undefined) {
    const field = strange in pool.typeMix ? 'type_mix' : 'units'
    return refusal('field_invalid', { field, value: strange, allowed: `of the sizes ${types.join(', ')}` })
  }
  if (!mix.some(([, share]) => (share ?? 0) > 0))
    return refusal('field_invalid', {
      field: 'type_mix',
      value: pool.typeMix,
      allowed: 'at least one share above 0',
    })
  const { leaseSecondsDefault, leaseSecondsMax } = pool
  if (leaseSecondsMax !== null && (leaseSecondsDefault === null || leaseSecondsDefault > leaseSecondsMax))
    return refusal('field_invalid', {
      field: 'lease_default',
      value: leaseSecondsDefault === null ? 'without end' : `${leaseSecondsDefault} s`,
      allowed: `at most lease_max (${leaseSecondsMax} s)`,
    })
  return null
}
