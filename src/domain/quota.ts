/**
 * How much one user may have at the same time, or in a week. Limits of a pool count what they hold of that pool; limits of their
 * own count everything. Over a limit, a request is parked: it waits beside the queue and holds up nobody.
 */
import type { Pool } from "./pool.ts"
import { type Refusal, refusal } from './refusal.ts'
import type { User } from './user.ts'
import { type ClassKey, classOf } from './vm-class.ts'
import { FIRST_VM_TYPES, type VmType, type VmTypeSpec } from './vm-type.ts'
import type { Usage, View } from './working-set.ts'

/** null: as much as there is. */
export interface Quota {
  readonly machinesMax: number | null
  readonly vcpuMax: number | null
  /** Machine-hours in the last seven days, what still runs counted until now. */
  readonly hoursWeekMax: number | null
  /** Requests that wait at the same time. */
  readonly waitingMax: number | null
}

export const NO_QUOTA: Quota = { machinesMax: null, vcpuMax: null, hoursWeekMax: null, waitingMax: null }

/** Machines by class. */
type Machines = readonly (readonly [vmClass: ClassKey, count: number])[]

/** Whether anything limits what `user` may have of `pool`. */
export function isLimited(pool: Pool, user: User): boolean {
  return [pool.quota, user.quota ?? NO_QUOTA].some((quota) => Object.values(quota).some((max) => max !== null))
}

const HOUR_MS = 3_600_000

/** What somebody has, to be held against a quota. */
interface Amounts {
  readonly machines: number
  readonly vcpu: number
  readonly hours: number
}

/**
 * Why `user` may not have `more` of `pool` beside what they have: `quota_never` when it is more than the quota itself,
 * `quota_full` else; null: they may.
 */
export function quotaRefusal(
  view: View,
  pool: Pool,
  user: User,
  more: Machines,
  usage: Usage | undefined,
): Refusal | null {
  if (!isLimited(pool, user)) return null
  if (usage === undefined) throw new Error(`what user ${user.id} holds was not loaded`)
  const wanted = amountsOf(view, more)
  const inPool = usage.held.flatMap(([id, vmClass, n]) => (id === pool.id ? [[vmClass, n] as const] : []))
  const all = usage.held.map(([, vmClass, n]) => [vmClass, n] as const)
  return (
    overRefusal(pool.quota, wanted, amountsOf(view, inPool), usage.weekMs) ??
    (user.quota === null ? null : overRefusal(user.quota, wanted, amountsOf(view, all), usage.weekMs))
  )
}

function amountsOf(view: View, machines: Machines): Omit<Amounts, 'hours'> {
  let count = 0
  let vcpu = 0
  for (const [vmClass, n] of machines) {
    count += n
    vcpu += n * vcpuOf(view.installation.vmTypes ?? FIRST_VM_TYPES, classOf(vmClass).type)
  }
  return { machines: count, vcpu }
}

/** A type that is not known counts nothing. */
function vcpuOf(types: readonly VmTypeSpec[], type: VmType): number {
  return types.find(({ name }) => name === type)?.vcpu ?? 0
}

function overRefusal(
  quota: Quota,
  wanted: Omit<Amounts, 'hours'>,
  held: Omit<Amounts, 'hours'>,
  weekMs: number,
): Refusal | null {
  const limits = [
    ['machines', quota.machinesMax, wanted.machines, held.machines],
    ['vcpu', quota.vcpuMax, wanted.vcpu, held.vcpu],
    ['hours a week', quota.hoursWeekMax, 0, weekMs / HOUR_MS],
  ] as const
  for (const [what, max, n, has] of limits) {
    if (max === null) continue
    if (n > max) return refusal('quota_never', { what, wanted: n, quota: max })
    if (n + has > max || (n === 0 && has >= max))
      return refusal('quota_full', { what, used: Math.round(has * 10) / 10, quota: max })
  }
  return null
}

/** Why `user` may not have one more request waiting; null: they may. */
export function waitingRefusal(pool: Pool, user: User, usage: Usage | undefined): Refusal | null {
  const maxima = [pool.quota.waitingMax, user.quota?.waitingMax ?? null].filter((max) => max !== null)
  if (maxima.length === 0) return null
  if (usage === undefined) throw new Error(`what user ${user.id} holds was not loaded`)
  const max = Math.min(...maxima)
  return usage.waiting < max ? null : refusal('queue_quota_full', { waiting: usage.waiting, quota: max })
}
