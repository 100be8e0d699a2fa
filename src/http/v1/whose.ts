/** Whose things a list shows, and of which pool: one's own, and for admins anybody's. */
import { Type } from 'typebox'
import { may } from '../../domain/permission.ts'
import { isRefusal, type Refusal, refusal } from '../../domain/refusal.ts'
import type { Berth } from '../../service/berth.ts'
import { poolCalled } from './pool.ts'
import type { Call } from './route.ts'
import { id, name } from './schema.ts'

/** What such a list takes in its query. */
export const scope = {
  user: Type.Optional({ ...id, description: 'those of a user, by id; for admins' }),
  pool: Type.Optional({
    ...name,
    description: 'those of a pool; an admin who names no user sees everybody’s',
  }),
}

/** Refused: `not_allowed`, `pool_unknown`. */
export async function listed(
  { berth, caller }: Pick<Call, 'berth' | 'caller'>,
  { user, pool }: { readonly user?: number; readonly pool?: string },
): Promise<{ readonly userId?: number; readonly poolId?: number } | Refusal> {
  const action = 'lease.release'
  const isAdmin = may(caller.role, action)
  if (user !== undefined && user !== caller.userId && !isAdmin)
    return refusal('not_allowed', { action, role: caller.role })
  const reading = pool === undefined ? null : await poolCalled(berth, pool)
  if (isRefusal(reading)) return reading
  const userId = user ?? (isAdmin && reading !== null ? undefined : caller.userId)
  return {
    ...(userId === undefined ? {} : { userId }),
    ...(reading === null ? {} : { poolId: reading.pool.id }),
  }
}

/** The name of a pool by its id, also of one that was deleted. */
export async function poolNameOf({ reads }: Berth, poolId: number): Promise<string> {
  return (await reads.pool(poolId))?.pool.name ?? ''
}

/** Names of pools by id. */
export async function poolNames(berth: Berth, poolIds: Iterable<number>): Promise<Map<number, string>> {
  const names = new Map<number, string>()
  for (const poolId of new Set(poolIds)) names.set(poolId, await poolNameOf(berth, poolId))
  return names
}
