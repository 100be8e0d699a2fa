/**
 * What somebody wants: up to eight kinds of machines, all or nothing, in one pool. A kind names a type, labels or one machine
 * (everything that is given has to match) and says how many.
 */

import type { ClassKey, Labels } from './vm-class.ts'
import type { VmType } from './vm-type.ts'

export interface Kind {
  /** null: any type. */
  readonly type: VmType | null
  /** Labels that a machine must have; {}: any. */
  readonly labels: Labels
  /** One machine by id; null: any. */
  readonly vmId: number | null
  readonly count: number
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
