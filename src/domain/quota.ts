/**
 * How much one user may have at the same time, or in a week, and whether a request is too much. Whoever is over a quota waits
 * parked, beside the queue; what is more than the whole quota is refused.
 */
import type { VmType } from './vm-type.ts'

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
