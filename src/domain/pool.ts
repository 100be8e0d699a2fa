/**
 * What a pool is, how many machines it has in each state, and which types new machines get. `target` is the size that
 * an admin asked for; workers bring what exists to it, a slice at a time. Surplus machines (more exist than the target)
 * cannot be checked out: a shrink that was accepted is never eaten up by later checkouts.
 */
import { NO_QUOTA, type Quota } from './quota.ts'
import type { Priority } from './request.ts'
import type { Role } from './user.ts'
import { VM_STATES, type VmState } from './vm.ts'
import { type ClassKey, classOf, type Labels } from './vm-class.ts'
import type { VmType } from './vm-type.ts'

/** The largest pool that can be asked for. */
export const POOL_SIZE_MAX = 1_000_000

/** The pool that the original API works on. */
export const DEFAULT_POOL = 'default'

/** Shares by type, for instance {small: 2, large: 1}; a type that is missing gets none. */
export type TypeMix = Readonly<Partial<Record<VmType, number>>>

export const EVEN_MIX: TypeMix = { small: 1, medium: 1, large: 1, xlarge: 1 }

export interface PoolPolicy {
  readonly typeMix: TypeMix
  /** manual: a machine that was given back waits for an admin; automatic: a worker cleans it. */
  readonly cleaning: 'manual' | 'automatic'
  readonly provider: string
  /** What the provider is told of this pool: plain JSON that the provider understands. */
  readonly providerSettings: Readonly<Record<string, unknown>>
  /** Words that selectors over pools match. */
  readonly labels: Labels
  /** Other names by which the pool can be asked for. */
  readonly aliases: readonly string[]
  /** How long a lease is that says nothing of its length; null: without end. */
  readonly leaseSecondsDefault: number | null
  /** The longest lease; null: any, also without end. */
  readonly leaseSecondsMax: number | null
  /** How long before its end the holder of a lease is warned. */
  readonly warnSeconds: number
  /** How long a machine rests between check-in and cleaning. */
  readonly coolDownSeconds: number
  /** How long cleaning takes as long as none was observed, and where it is manual. */
  readonly marginSeconds: number
  /** How long making a machine takes as long as none was observed. */
  readonly makeSeconds: number
  /** The step of the capacity timeline. */
  readonly gridSeconds: number
  /** How long the holder of a soft lease keeps the machine once somebody needs it, unless agreed otherwise. */
  readonly softGraceSeconds: number
  /** How long nobody may use a reservation that has begun before it ends; null: for ever. */
  readonly noShowSeconds: number | null
  /** Who may use the pool, by id; null: everybody. Admins always may. */
  readonly userIds: readonly number[] | null
  /** What one user may have of this pool. */
  readonly quota: Quota
  /** What a machine of a type costs in the fair queue; 1 when a type is missing. */
  readonly units: Readonly<Partial<Record<VmType, number>>>
  /** What a request's cost is divided by, by its priority. */
  readonly weights: Readonly<Record<Priority, number>>
  /** The highest priority that each role may ask for. */
  readonly priorityMax: Readonly<Record<Role, Priority>>
  /** True once the pool was deleted: its past leases and events still point at it. */
  readonly retired: boolean
}

/** The policies of a pool for which nothing else was said. */
export const DEFAULT_POLICY: PoolPolicy = {
  typeMix: EVEN_MIX,
  cleaning: 'automatic',
  provider: 'simulated',
  providerSettings: {},
  labels: {},
  aliases: [],
  leaseSecondsDefault: null,
  leaseSecondsMax: null,
  warnSeconds: 600,
  coolDownSeconds: 0,
  marginSeconds: 300,
  makeSeconds: 300,
  gridSeconds: 300,
  softGraceSeconds: 300,
  noShowSeconds: 1_800,
  userIds: null,
  quota: NO_QUOTA,
  units: {},
  weights: { low: 1, normal: 2, high: 4 },
  priorityMax: { admin: 'high', user: 'high' },
  retired: false,
}

/** Mean and mean deviation of a time, each new observation counted for an eighth (RFC 6298). */
export interface Estimate {
  readonly meanMs: number
  readonly deviationMs: number
}

/** What a pool remembers of its queue and bookings between batches. */
export interface QueueState {
  /** Virtual time of the fair queue: the start tag in service. */
  readonly v: number
  /** Requests granted so far from the queue, or beside it while somebody waited. */
  readonly departed: number
  /** The number of the next request or reservation. */
  readonly nextSeq: number
  /** Requests that wait. */
  readonly waiting: number
  /** Reservations that are confirmed or active. */
  readonly booked: number
  /** Grows with every batch that changes the pool: tells whether what a server has in memory of it is current. */
  readonly version: number
  /** When the pool has to be settled though nothing happens; null: not because of the time. */
  readonly settleAtMs: number | null
  /** How long cleaning took, by type. */
  readonly cleaning: Readonly<Record<VmType, Estimate>>
  /** How long making took, by type. */
  readonly making: Readonly<Record<VmType, Estimate>>
  /** How long leases lasted, in minutes: number, mean and sum of squared differences from it (Welford). */
  readonly holds: { readonly n: number; readonly mean: number; readonly m2: number }
}

/** How long making a machine of `type` is expected to take. */
export function makeMs(pool: Pool, type: VmType): number {
  return bound(pool.queue.making[type]) ?? pool.makeSeconds * 1_000
}

/** The margin: how long a machine of `type` is expected to be out of use after its check-in. */
export function marginMs(pool: Pool, type: VmType): number {
  const restMs = pool.coolDownSeconds * 1_000
  const observed = pool.cleaning === 'manual' ? null : bound(pool.queue.cleaning[type])
  return restMs + (observed ?? pool.marginSeconds * 1_000)
}

/**
 * What a time rarely exceeds: its mean and four mean deviations (RFC 6298), rounded up to a step of an eighth to a quarter of it. Each
 * observation moves the estimate; where it moved a margin every time, all that is booked would be laid anew for nothing.
 */
function bound(estimate: Estimate | undefined): number | null {
  if (estimate === undefined) return null
  const ms = Math.max(1, estimate.meanMs + 4 * estimate.deviationMs)
  const stepMs = 2 ** Math.max(0, Math.floor(Math.log2(ms)) - 2)
  return Math.ceil(ms / stepMs) * stepMs
}

/** An estimate with one more observation. */
export function observed(estimate: Estimate | undefined, ms: number): Estimate {
  if (estimate === undefined) return { meanMs: ms, deviationMs: ms / 2 }
  const deviationMs = estimate.deviationMs * 0.75 + Math.abs(ms - estimate.meanMs) * 0.25
  return { meanMs: estimate.meanMs * 0.875 + ms * 0.125, deviationMs }
}

export const EMPTY_QUEUE: QueueState = {
  v: 0,
  departed: 0,
  nextSeq: 1,
  waiting: 0,
  booked: 0,
  version: 0,
  settleAtMs: null,
  cleaning: {},
  making: {},
  holds: { n: 0, mean: 0, m2: 0 },
}

export interface Pool extends PoolPolicy {
  readonly id: number
  readonly name: string
  readonly target: number
  readonly createdAtMs: number
  readonly queue: QueueState
}

/** True while requests wait or reservations stand: what is free is then for the whole queue to decide (settle.ts). */
export function isContended(pool: Pick<Pool, 'queue'>): boolean {
  return pool.queue.waiting > 0 || pool.queue.booked > 0
}

/** How many machines a pool has, by class and state. Kept with every change of a machine, never counted. */
export type Tally = Partial<Record<ClassKey, Partial<Record<VmState, number>>>>

/** Machines of one state over all classes. */
export function countIn(tally: Tally, state: VmState): number {
  let count = 0
  for (const key in tally) count += tally[key]?.[state] ?? 0
  return count
}

/** Machines that exist: all but those being destroyed. */
export function countExisting(tally: Tally): number {
  let count = 0
  for (const state of VM_STATES) if (state !== 'deleting') count += countIn(tally, state)
  return count
}

/** Machines that a shrink has yet to remove. */
export function surplus(pool: Pool, tally: Tally): number {
  return Math.max(0, countExisting(tally) - pool.target)
}

/** Machines that a checkout may take now. A shrink takes machines that are still being made before it takes ready ones. */
export function countFree(pool: Pool, tally: Tally): number {
  const doomed = Math.max(0, surplus(pool, tally) - countIn(tally, 'provisioning'))
  return Math.max(0, countIn(tally, 'ready') - doomed)
}

/** The smallest size that a pool can be shrunk to: what is neither ready nor being made stands in the way. */
export function sizeMin(tally: Tally): number {
  return countExisting(tally) - countIn(tally, 'ready') - countIn(tally, 'provisioning')
}

/** What a pool's machines are doing, as the original API sums it up. */
export interface PoolStats {
  readonly target: number
  readonly existing: number
  readonly free: number
  readonly leased: number
  readonly aside: number
}

export function poolStats(pool: Pool, tally: Tally): PoolStats {
  const existing = countExisting(tally)
  const free = countIn(tally, 'ready')
  const leased = countIn(tally, 'leased')
  return { target: pool.target, existing, free, leased, aside: existing - free - leased }
}

/** Adds `by` to the count of one class and state, in place. */
export function countUp(tally: Tally, vmClass: ClassKey, state: VmState, by: number): void {
  const states = tally[vmClass] ?? {}
  tally[vmClass] = states
  states[state] = (states[state] ?? 0) + by
}

/** Machines by type and state: the classes of each type taken together. */
export function countByType(tally: Tally): Map<VmType, Partial<Record<VmState, number>>> {
  const types = new Map<VmType, Partial<Record<VmState, number>>>()
  for (const [key, states] of Object.entries(tally)) {
    const { type } = classOf(key)
    const sums = types.get(type) ?? {}
    types.set(type, sums)
    for (const [state, count] of Object.entries(states ?? {}) as [VmState, number][])
      sums[state] = (sums[state] ?? 0) + count
  }
  return types
}

/**
 * The types of the next `n` machines, so that the pool comes as near to its mix as it can: each goes to the type that is
 * furthest below its share of the pool as it is then, the first in the order of the mix when several are equal.
 */
export function nextTypes(mix: TypeMix, tally: Tally, n: number): VmType[] {
  const counted = countByType(tally)
  const shares = Object.keys(mix)
    .filter((type) => (mix[type] ?? 0) > 0)
    .map((type) => {
      const states = counted.get(type) ?? {}
      const existing = VM_STATES.reduce(
        (sum, state) => (state === 'deleting' ? sum : sum + (states[state] ?? 0)),
        0,
      )
      return { type, share: mix[type] ?? 0, existing }
    })
  const sharesTotal = shares.reduce((sum, { share }) => sum + share, 0)
  let existingTotal = shares.reduce((sum, { existing }) => sum + existing, 0)
  const types: VmType[] = []
  for (let i = 0; i < n; i++) {
    existingTotal++
    // In whole numbers, so that equal needs are equal.
    const lack = ({ share, existing }: (typeof shares)[number]) =>
      share * existingTotal - existing * sharesTotal
    const neediest = shares.reduce((a, b) => (lack(b) > lack(a) ? b : a))
    neediest.existing++
    types.push(neediest.type)
  }
  return types
}

/** What a size would do to a pool: how many machines would be made, how many removed at once, and how many only when they come back. */
export interface SizePreview {
  readonly existing: number
  readonly made: number
  readonly removed: number
  /** Machines above the size that cannot be removed yet, by state. */
  readonly waitsFor: Readonly<Partial<Record<VmState, number>>>
}

export function sizePreview(tally: Tally, size: number): SizePreview {
  const existing = countExisting(tally)
  const above = Math.max(0, existing - size)
  const removed = Math.min(above, countIn(tally, 'ready') + countIn(tally, 'provisioning'))
  const standing = above > removed
  const waitsFor: Partial<Record<VmState, number>> = {}
  for (const state of VM_STATES) {
    const count = countIn(tally, state)
    if (standing && count > 0 && !['ready', 'provisioning', 'deleting'].includes(state))
      waitsFor[state] = count
  }
  return { existing, made: Math.max(0, size - existing), removed, waitsFor }
}
