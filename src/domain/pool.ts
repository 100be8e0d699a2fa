/**
 * What a pool is, how many machines it has in each state, and which types new machines get. `target` is the size that
 * an admin asked for; workers bring what exists to it, a slice at a time. Surplus machines (more exist than the target)
 * cannot be checked out: a shrink that was accepted is never eaten up by later checkouts.
 */
import { VM_STATES, type VmState } from './vm.ts'
import { VM_TYPE_NAMES, type VmType } from './vm-type.ts'

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
}

export interface Pool extends PoolPolicy {
  readonly id: number
  readonly name: string
  readonly target: number
  readonly createdAtMs: number
}

/** How many machines a pool has, by type and state. Kept with every change of a machine, never counted. */
export type Tally = Partial<Record<VmType, Partial<Record<VmState, number>>>>

/** Machines of one state over all types. */
export function countIn(tally: Tally, state: VmState): number {
  let count = 0
  for (const type of VM_TYPE_NAMES) count += tally[type]?.[state] ?? 0
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

/** Adds `by` to the count of one type and state, in place. */
export function countUp(tally: Tally, type: VmType, state: VmState, by: number): void {
  const states = tally[type] ?? {}
  tally[type] = states
  states[state] = (states[state] ?? 0) + by
}

/**
 * The types of the next `n` machines, so that the pool comes as near to its mix as it can: each goes to the type that is
 * furthest below its share of the pool as it is then, the first in the order of VM types when several are equal.
 */
export function nextTypes(mix: TypeMix, tally: Tally, n: number): VmType[] {
  const shares = VM_TYPE_NAMES.filter((type) => (mix[type] ?? 0) > 0).map((type) => {
    const states = tally[type] ?? {}
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
