/**
 * What somebody wants: up to eight kinds of machines, all or nothing, in one pool. A kind names a type, labels or one machine
 * (everything that is given has to match) and says how many. `place` decides whether so many machines of each class serve a
 * wish, and which: exactly, also when kinds overlap.
 *
 * While a request waits, its length counts as the next longer step of a short list: wishes for the same kinds and step get the
 * same answer to "does it fit now", so it is asked once for all of them.
 */

import { type ClassKey, classOf, type Labels, type VmClass } from './vm-class.ts'
import type { VmType } from './vm-type.ts'

export interface Kind {
  /** null: any type. */
  readonly type: VmType | null
  /** Labels that a machine must have; {}: any. */
  readonly labels: Labels
  /** One machine by id, which stands in a class of its own; null: any. */
  readonly vmId: number | null
  readonly count: number
  /** Nothing but machines of this class; undefined: of any that matches. Set by Berth for a machine that was named. */
  readonly classKey?: ClassKey
}

/** 1 to 8 kinds, all or nothing. */
export type Wish = readonly Kind[]

export const KINDS_MAX = 8

/** Which classes serve a wish: for each kind (by its place in the wish) machines of classes. */
export type Placement = readonly {
  readonly kind: number
  readonly classKey: ClassKey
  readonly count: number
}[]

/** Whether machines of a class are what a kind asks for. */
export function matches(kind: Kind, vmClass: VmClass): boolean {
  if (kind.classKey !== undefined && kind.classKey !== vmClass.key) return false
  if (kind.vmId !== null && kind.vmId !== vmClass.soloVmId) return false
  if (kind.type !== null && kind.type !== vmClass.type) return false
  for (const name in kind.labels) if (vmClass.labels[name] !== kind.labels[name]) return false
  return true
}

/** How many machines a wish is for. */
export function countWished(wish: Wish): number {
  let count = 0
  for (const kind of wish) count += kind.count
  return count
}

/**
 * Machines for all kinds of a wish among so many of each class, or null when there are not enough. A kind takes from the
 * fullest class first; when it finds nothing left, kinds that were served before move to other classes (a flow along
 * augmenting paths, so a placement is found whenever there is one).
 */
export function place(wish: Wish, capacity: ReadonlyMap<ClassKey, number>): Placement | null {
  const [only] = wish
  if (wish.length === 1 && only !== undefined) return placeOne(only, capacity)
  const classes = [...capacity].filter(([, count]) => count > 0).sort(([, a], [, b]) => b - a)
  const keys = classes.map(([key]) => key)
  const left = classes.map(([, count]) => count)
  const suits = wish.map((kind) => keys.map((key) => matches(kind, classOf(key))))
  const taken = wish.map(() => keys.map(() => 0))
  for (const [kind, { count }] of wish.entries()) {
    let missing = count
    while (missing > 0) {
      const moved = augment(kind, missing, suits, taken, left)
      if (moved === 0) return null
      missing -= moved
    }
  }
  return taken.flatMap((counts, kind) =>
    counts.flatMap((count, i) => (count === 0 ? [] : [{ kind, classKey: keys[i] as ClassKey, count }])),
  )
}

/** The same for a wish of one kind, which has nobody to move: most are, and settling asks for them again and again. */
function placeOne(kind: Kind, capacity: ReadonlyMap<ClassKey, number>): Placement | null {
  const suitable: [ClassKey, number][] = []
  for (const entry of capacity) if (entry[1] > 0 && matches(kind, classOf(entry[0]))) suitable.push(entry)
  if (suitable.length > 1) suitable.sort(([, a], [, b]) => b - a)
  const placement: { kind: number; classKey: ClassKey; count: number }[] = []
  let missing = kind.count
  for (const [classKey, free] of suitable) {
    if (missing === 0) break
    const count = Math.min(missing, free)
    placement.push({ kind: 0, classKey, count })
    missing -= count
  }
  return missing === 0 ? placement : null
}

/** As many machines of a wish as can be had, and what is missing. */
export interface Partly {
  readonly placement: Placement
  /** [] when it is all there. */
  readonly missing: Wish
}

/**
 * The most machines for a wish among so many of each class. Kinds are served in their order, each with as many as those before it leave
 * possible; what can be placed together is a polymatroid, so whatever cannot be added to is the most.
 */
export function placeMost(wish: Wish, capacity: ReadonlyMap<ClassKey, number>): Partly {
  const whole = place(wish, capacity)
  if (whole !== null) return { placement: whole, missing: [] }
  if ([...capacity.values()].every((count) => count <= 0)) return { placement: [], missing: wish }
  const served: Kind[] = wish.map((kind) => ({ ...kind, count: 0 }))
  let placement: Placement = []
  for (const [i, kind] of wish.entries()) {
    let fewest = 0
    let most = kind.count
    while (fewest < most) {
      const count = Math.ceil((fewest + most) / 2)
      served[i] = { ...kind, count }
      const found = place(served, capacity)
      if (found === null) most = count - 1
      else {
        fewest = count
        placement = found
      }
    }
    served[i] = { ...kind, count: fewest }
  }
  const missing = wish.map((kind, i) => ({ ...kind, count: kind.count - (served[i] as Kind).count }))
  return { placement, missing: missing.filter(({ count }) => count > 0) }
}

/**
 * Takes up to `wanted` machines for a kind: from a class that has some left, or from one whose present taker moves on, in as
 * many steps as it needs. Returns how many; 0: none can be had. `taken` (by kind and class) and `left` are changed.
 */
function augment(
  kind: number,
  wanted: number,
  suits: readonly (readonly boolean[])[],
  taken: number[][],
  left: number[],
): number {
  /** By class: which kind would take from it. */
  const taker = new Map<number, number>()
  /** By kind: the class that it would leave. */
  const leaves = new Map<number, number>()
  const kinds = [kind]
  for (let next = kinds.shift(); next !== undefined; next = kinds.shift())
    for (let i = 0; i < left.length; i++) {
      if (!suits[next]?.[i] || taker.has(i)) continue
      taker.set(i, next)
      if ((left[i] as number) > 0) return move(i)
      for (const [other, counts] of taken.entries())
        if (other !== kind && !leaves.has(other) && (counts[i] as number) > 0) {
          leaves.set(other, i)
          kinds.push(other)
        }
    }
  return 0

  /** Moves along the path that ends at class `last`, as many as every step of it allows. */
  function move(last: number): number {
    const steps: { by: number; to: number; from: number | undefined }[] = []
    for (let to: number | undefined = last; to !== undefined; ) {
      const by = taker.get(to) as number
      const from = by === kind ? undefined : leaves.get(by)
      steps.push({ by, to, from })
      to = from
    }
    let moved = Math.min(wanted, left[last] as number)
    for (const { by, from } of steps)
      if (from !== undefined) moved = Math.min(moved, taken[by]?.[from] as number)
    left[last] = (left[last] as number) - moved
    for (const { by, to, from } of steps) {
      const counts = taken[by] as number[]
      counts[to] = (counts[to] as number) + moved
      if (from !== undefined) counts[from] = (counts[from] as number) - moved
    }
    return moved
  }
}

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS

const STEPS_MS: readonly number[] = [
  ...[5, 10, 15, 20, 30, 45, 60, 90].map((minutes) => minutes * MINUTE_MS),
  ...[2, 3, 4, 6, 8, 12].map((hours) => hours * HOUR_MS),
  ...[1, 2, 3, 5, 7, 14].map((days) => days * DAY_MS),
]

/** The step that a lease of so many seconds counts as while its request waits; null (for ever): without end, or longer than any step. */
export function stepMs(durationSeconds: number | null): number | null {
  if (durationSeconds === null) return null
  return STEPS_MS.find((step) => step >= durationSeconds * 1_000) ?? null
}

/** A text that two wishes share when they ask for the same kinds. */
export function wishKey(wish: Wish): string {
  return JSON.stringify(
    wish.map(({ type, labels, vmId, count }) => [type, Object.entries(labels).sort(), vmId, count]),
  )
}
