/**
 * What a user has, held against what they may have: the limits of the pool that they ask, and limits of their own over all pools.
 * Hours of the last seven days are counted over all pools, whoever limits them.
 */
import type { Pool } from './pool.ts'
import {
  hoursOf,
  isSameQuota,
  isWithin,
  machineLimit,
  NO_QUOTA,
  sumUsage,
  UNLIMITED,
  type Usage,
} from './quota.ts'
import { type Refusal, refusal } from './refusal.ts'
import type { User } from './user.ts'
import { type ClassKey, classOf } from './vm-class.ts'
import type { VmType } from './vm-type.ts'
import type { Usage as UserUsage, View } from './working-set.ts'

const HOUR_MS = 3_600_000

/** Whether anything limits what `user` may have of `pool`. */
export function isLimited(pool: Pool, user: User): boolean {
  return !isSameQuota(pool.quota, NO_QUOTA) || (user.quota !== null && !isSameQuota(user.quota, NO_QUOTA))
}

/** Whether what they hold elsewhere, or have used, has to be known before `user` is granted something of a contended pool. */
export function isLimitedElsewhere(pool: Pool, user: User): boolean {
  return pool.quota.hoursWeekMax !== null || (user.quota !== null && !isSameQuota(user.quota, NO_QUOTA))
}

/** How much more `user` may have, whatever the pool's limits of machines and processors say. */
export function headroomOf(view: View, pool: Pool, user: User): Usage {
  if (!isLimitedElsewhere(pool, user)) return UNLIMITED
  const usage = usageOf(view, user)
  const own = user.quota ?? NO_QUOTA
  const held = heldOf(view, usage.held)
  const hoursMax = Math.min(
    ...[own.hoursWeekMax, pool.quota.hoursWeekMax].map((max) => max ?? Number.POSITIVE_INFINITY),
  )
  return {
    machines: (own.machinesMax ?? Number.POSITIVE_INFINITY) - held.machines,
    vcpu: (own.vcpuMax ?? Number.POSITIVE_INFINITY) - held.vcpu,
    hours: hoursMax - usage.weekMs / HOUR_MS,
  }
}

function usageOf(view: View, user: User): UserUsage {
  const usage = view.usage(user.id)
  if (usage === undefined) throw new Error(`what user ${user.id} holds was not loaded`)
  return usage
}

/** Machines by class, as quotas count them. A type that is not known has no processors. */
function heldOf(view: View, held: UserUsage['held']): Usage {
  let machines = 0
  let vcpu = 0
  for (const [, vmClass, count] of held) {
    machines += count
    vcpu += count * vcpuOf(view, classOf(vmClass).type)
  }
  return { machines, vcpu, hours: 0 }
}

/** Processors of a machine of a type. */
export function vcpuOf(view: View, type: VmType): number {
  return view.installation.vmTypes.find(({ name }) => name === type)?.vcpu ?? 0
}

/**
 * Why `user` may not have so many more machines of `pool` for so long: `quota_never` when they are more than the quota itself,
 * `quota_full` else; null: they may.
 */
export function quotaRefusal(
  view: View,
  pool: Pool,
  user: User,
  more: readonly (readonly [vmClass: ClassKey, count: number])[],
  durationSeconds: number | null,
): Refusal | null {
  if (!isLimited(pool, user)) return null
  const { held } = usageOf(view, user)
  const inPool = held.filter(([poolId]) => poolId === pool.id)
  const added = heldOf(
    view,
    more.map(([vmClass, count]) => [pool.id, vmClass, count]),
  )
  const count = added.machines
  const wanted = { ...added, hours: hoursOf(count, durationSeconds) }
  const own = user.quota ?? NO_QUOTA
  const hoursMax = Math.min(own.hoursWeekMax ?? wanted.hours, pool.quota.hoursWeekMax ?? wanted.hours)
  if (
    !isWithin(added, machineLimit(pool.quota)) ||
    !isWithin(added, machineLimit(own)) ||
    wanted.hours > hoursMax
  )
    return refusal('quota_never', { count })
  if (!isWithin(sumUsage(heldOf(view, inPool), added), machineLimit(pool.quota)))
    return refusal('quota_full', { count })
  return isWithin(wanted, headroomOf(view, pool, user)) ? null : refusal('quota_full', { count })
}

/** Why a lease of `user` may not last so many hours longer; null: it may. */
export function hoursRefusal(view: View, pool: Pool, user: User, hours: number): Refusal | null {
  if (!isLimitedElsewhere(pool, user)) return null
  return hours <= headroomOf(view, pool, user).hours
    ? null
    : refusal('hours_full', { hours: Math.ceil(hours) })
}

/** Why `user` may not have one more request waiting, by their own quota; null: they may. */
export function waitingRefusal(view: View, user: User): Refusal | null {
  const waitingMax = user.quota?.waitingMax ?? null
  if (waitingMax === null) return null
  const waiting = view.usage(user.id)?.waiting ?? 0
  return waiting < waitingMax ? null : refusal('waiting_full', { waitingMax })
}
