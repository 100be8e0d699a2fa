/**
 * How much one user may have at the same time, or in a week, and whether a request is too much. Whoever is over a quota waits
 * parked, beside the queue; what is more than the whole quota is refused.
 */
import type { Pool } from './pool.ts'
import { type Refusal, refusal } from './refusal.ts'
import type { User } from './user.ts'
import { type ClassKey, classOf } from './vm-class.ts'
import { FIRST_VM_TYPES, type VmType } from './vm-type.ts'
import type { Usage as UserUsage, View } from './working-set.ts'

/** null: as much as there is. */
export interface Quota {
  readonly machinesMax: number | null
  readonly vcpuMax: number | null
  /** Machine-hours in the last seven days, what runs now counted until its end. */
  readonly hoursWeekMax: number | null
  /** Requests that wait at the same time. */
  readonly waitingMax: number | null
}

export const NO_QUOTA: Quota = { machinesMax: null, vcpuMax: null, hoursWeekMax: null, waitingMax: null }

export function isSameQuota(a: Quota, b: Quota): boolean {
  return (
    a.machinesMax === b.machinesMax &&
    a.vcpuMax === b.vcpuMax &&
    a.hoursWeekMax === b.hoursWeekMax &&
    a.waitingMax === b.waitingMax
  )
}

/** So much of something that quotas count. */
export interface Usage {
  readonly machines: number
  readonly vcpu: number
  readonly hours: number
}

export const NO_USAGE: Usage = { machines: 0, vcpu: 0, hours: 0 }

/** Infinity where there is no limit. */
export const UNLIMITED: Usage = {
  machines: Number.POSITIVE_INFINITY,
  vcpu: Number.POSITIVE_INFINITY,
  hours: Number.POSITIVE_INFINITY,
}

export function sumUsage(a: Usage, b: Usage): Usage {
  return { machines: a.machines + b.machines, vcpu: a.vcpu + b.vcpu, hours: a.hours + b.hours }
}

export function lessUsage(a: Usage, b: Usage): Usage {
  return { machines: a.machines - b.machines, vcpu: a.vcpu - b.vcpu, hours: a.hours - b.hours }
}

export function isUnlimited({ machines, vcpu, hours }: Usage): boolean {
  return Math.min(machines, vcpu, hours) === Number.POSITIVE_INFINITY
}

export function isWithin(usage: Usage, limit: Usage): boolean {
  return usage.machines <= limit.machines && usage.vcpu <= limit.vcpu && usage.hours <= limit.hours
}

/** What a pool's own quota leaves whoever holds nothing there. Hours are counted over all pools, by whoever knows them. */
export function machineLimit(quota: Quota): Usage {
  return {
    machines: quota.machinesMax ?? Number.POSITIVE_INFINITY,
    vcpu: quota.vcpuMax ?? Number.POSITIVE_INFINITY,
    hours: Number.POSITIVE_INFINITY,
  }
}

/** One machine has no more hours in a week than a week has. */
const HOURS_WEEK = 7 * 24

/** The hours of a week that so many leases may take. */
export function hoursOf(count: number, durationSeconds: number | null): number {
  return count * Math.min(HOURS_WEEK, durationSeconds === null ? HOURS_WEEK : durationSeconds / 3_600)
}

/** What settle is told of quotas that are not the pool's to know. */
export interface Limits {
  vcpuOf(type: VmType): number
  /**
   * How much more a user may have by quotas over all pools, without what is granted now; undefined: the batch does not hold that
   * user, so nothing is granted to them in it.
   */
  headroom(userId: number): Usage | undefined
}

/** Whether anything limits what `user` may have of `pool`. */
export function isLimited(pool: Pool, user: User): boolean {
  return !isSameQuota(pool.quota, NO_QUOTA) || (user.quota !== null && !isSameQuota(user.quota, NO_QUOTA))
}

/** What a user's own quota leaves them, given what they hold and have used; everything when they have none. */
export function headroomOf(view: View, user: User, usage: UserUsage | undefined): Usage {
  const { quota } = user
  if (quota === null) return UNLIMITED
  if (usage === undefined) throw new Error(`what user ${user.id} holds was not loaded`)
  const held = heldOf(view, usage.held)
  return {
    machines: (quota.machinesMax ?? Number.POSITIVE_INFINITY) - held.machines,
    vcpu: (quota.vcpuMax ?? Number.POSITIVE_INFINITY) - held.vcpu,
    hours: (quota.hoursWeekMax ?? Number.POSITIVE_INFINITY) - usage.weekMs / HOUR_MS,
  }
}

const HOUR_MS = 3_600_000

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
export function vcpuOf(_view: View, type: VmType): number {
  return FIRST_VM_TYPES.find(({ name }) => name === type)?.vcpu ?? 0
}

/**
 * Why `user` may not have so many more machines of `pool`: `quota_never` when they are more than the quota itself, `quota_full` else;
 * null: they may.
 */
export function quotaRefusal(
  view: View,
  pool: Pool,
  user: User,
  more: readonly (readonly [vmClass: ClassKey, count: number])[],
  durationSeconds: number | null,
): Refusal | null {
  if (!isLimited(pool, user)) return null
  const usage = view.usage(user.id)
  if (usage === undefined) throw new Error(`what user ${user.id} holds was not loaded`)
  const added = heldOf(
    view,
    more.map(([vmClass, count]) => [pool.id, vmClass, count]),
  )
  const wanted = { ...added, hours: hoursOf(added.machines, durationSeconds) }
  const inPool = heldOf(
    view,
    usage.held.filter(([poolId]) => poolId === pool.id),
  )
  if (!isWithin(added, machineLimit(pool.quota))) return refusal('quota_never', { count: added.machines })
  if (!isWithin(sumUsage(inPool, added), machineLimit(pool.quota)))
    return refusal('quota_full', { count: added.machines })
  const own = { ...user, quota: user.quota ?? NO_QUOTA }
  if (!isWithin(wanted, headroomOf(view, own, { ...usage, held: [], weekMs: 0 })))
    return refusal('quota_never', { count: added.machines })
  if (!isWithin(wanted, headroomOf(view, own, usage))) return refusal('quota_full', { count: added.machines })
  return null
}

/** Why `user` may not have one more request waiting, by their own quota; null: they may. */
export function waitingRefusal(view: View, user: User): Refusal | null {
  const waitingMax = user.quota?.waitingMax ?? null
  if (waitingMax === null) return null
  const waiting = view.usage(user.id)?.waiting ?? 0
  return waiting < waitingMax ? null : refusal('waiting_full', { waitingMax })
}
