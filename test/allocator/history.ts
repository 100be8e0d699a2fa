/**
 * Random histories of a pool. A step is a name and two numbers, so that fast-check can make a history shorter; which machine,
 * lease or request it is about is found by counting.
 */
import fc from 'fast-check'
import { NO_QUOTA } from '../../src/domain/quota.ts'
import type { Refusal } from '../../src/domain/refusal.ts'
import { kindOf, Lab, MINUTE_MS, type Wanted } from '../support/lab.ts'

export type StepName =
  | 'join'
  | 'ask'
  | 'pass'
  | 'checkIn'
  | 'late'
  | 'ready'
  | 'fail'
  | 'repair'
  | 'cancel'
  | 'extend'
  | 'reserve'

export interface Step {
  readonly name: StepName
  readonly a: number
  readonly b: number
}

export interface HistoryPlan {
  readonly steps: readonly Step[]
  /** How many steps are one batch. */
  readonly batch: number
  /** Machines of a user at the same time; null: any number. */
  readonly machinesMax: number | null
}

const ALWAYS: Readonly<Partial<Record<StepName, number>>> = {
  join: 8,
  ask: 3,
  pass: 6,
  checkIn: 3,
  cancel: 1,
  extend: 2,
  reserve: 1,
}

/** Machines that fail break promises: with them only some properties hold. */
export const WITH_FAILURES = { ...ALWAYS, ready: 1, fail: 1, repair: 1 }

/** Histories in which machines do as they are expected to. */
export const WITHOUT_FAILURES = ALWAYS

export function planOf(
  weights: Readonly<Partial<Record<StepName, number>>>,
  batches: readonly number[],
): fc.Arbitrary<HistoryPlan> {
  const names = Object.entries(weights).flatMap(([name, weight]) =>
    Array.from({ length: weight }, () => name as StepName),
  )
  const step = fc.record({
    name: fc.constantFrom(...names),
    a: fc.integer({ min: 0, max: 999 }),
    b: fc.integer({ min: 0, max: 999 }),
  })
  return fc.record({
    steps: fc.array(step, { maxLength: 120, size: 'max' }),
    batch: fc.constantFrom(...batches),
    machinesMax: fc.constantFrom(null, null, 3),
  })
}

const CLASSES = { small: 3, 'small,os=debian': 2, large: 2 }
const CLASS_KEYS = Object.keys(CLASSES)

const MINUTES = [5, 7, 20, 30, 60, 90, 240]

const WISHES = [
  [kindOf({ type: 'small' })],
  [kindOf({ type: 'small', count: 2 })],
  [kindOf()],
  [kindOf({ count: 3 })],
  [kindOf({ type: 'large' })],
  [kindOf({ labels: { os: 'debian' } })],
  [kindOf({ type: 'small' }), kindOf({ labels: { os: 'debian' } })],
  [kindOf({ type: 'small', count: 4 }), kindOf({ type: 'large' })],
]

const PRIORITIES = ['low', 'normal', 'high'] as const

function pick<T>(list: readonly T[], number: number): T | undefined {
  return list[number % list.length]
}

/** A history under way. */
export class History {
  readonly lab: Lab
  readonly #batch: number
  #steps = 0
  /** True once a machine failed: promises may be late since. */
  failed = false
  /** The refused extension of the last step, with what was asked for. */
  refusedExtension: { readonly vmId: number; readonly refusal: Refusal } | null = null

  constructor(plan: HistoryPlan) {
    this.#batch = plan.batch
    this.lab = new Lab(CLASSES, {
      gridSeconds: 300,
      quota: { ...NO_QUOTA, machinesMax: plan.machinesMax },
    })
  }

  /** Does one step; true when its batch has settled behind it. */
  take(step: Step): boolean {
    this.refusedExtension = null
    this.#take(step)
    this.#steps++
    if (this.#steps % this.#batch !== 0) return false
    this.lab.settleAll()
    return true
  }

  #take({ name, a, b }: Step): void {
    const { lab } = this
    const leases = [...lab.leases.values()]
    const vms = [...lab.vms.values()]
    switch (name) {
      case 'join':
        lab.join(1 + (b % 5), wantedOf(a, b))
        break
      case 'ask':
        lab.join(1 + (b % 5), { ...wantedOf(a, b), waits: false })
        break
      case 'pass':
        // Also between the steps of the grid.
        lab.advanceTo(lab.minute + (a % 45) / 2, this.#batch === 1)
        break
      case 'checkIn': {
        const lease = pick(leases, a)
        if (lease !== undefined) lab.checkIn(lease.vmId)
        break
      }
      case 'late':
        // Nobody looks at what is due for a while.
        lab.nowMs += (a % 45) * 30_000
        break
      case 'ready': {
        const vm = pick(
          vms.filter(({ state }) => state === 'maintenance'),
          a,
        )
        if (vm !== undefined) lab.ready(vm.id)
        break
      }
      case 'fail': {
        const vm = pick(
          vms.filter(({ state }) => state === 'ready' || state === 'maintenance'),
          a,
        )
        if (vm !== undefined) lab.fail(vm.id)
        this.failed = true
        break
      }
      case 'repair': {
        const vm = pick(
          vms.filter(({ state }) => state === 'failed'),
          a,
        )
        if (vm !== undefined) lab.ready(vm.id)
        break
      }
      case 'cancel': {
        const id = pick([...lab.waiting.keys()], a)
        if (id !== undefined) lab.cancel(id)
        break
      }
      case 'extend': {
        const lease = pick(
          leases.filter(({ endsAtMs }) => endsAtMs !== null),
          a,
        )
        if (lease === undefined || lease.endsAtMs === null) break
        const minute = lab.minute + (lease.endsAtMs - lab.nowMs) / MINUTE_MS + 1 + (b % 200)
        const refusal = lab.extend(lease.vmId, minute)
        if (refusal !== null) this.refusedExtension = { vmId: lease.vmId, refusal }
        break
      }
      case 'reserve': {
        const from = lab.minute + 10 + (a % 300)
        lab.reserve(pick(CLASS_KEYS, b) as string, 1 + (a % 2), from, from + 15 + (b % 120))
        break
      }
    }
  }
}

function wantedOf(a: number, b: number): Wanted {
  const endless = a % 29 === 0
  return {
    wish: pick(WISHES, a) ?? [],
    minutes: endless ? null : (pick(MINUTES, b) ?? 60),
    minutesMin: !endless && b % 11 === 0 ? 5 : null,
    softGraceMinutes: endless && b % 2 === 0 ? 5 : null,
    priority: pick(PRIORITIES, a + b) ?? 'low',
    // Some have waited for long already, or nobody would be overdue in a short history.
    dueIn: a % 7 === 0 ? b % 6 : null,
  }
}
