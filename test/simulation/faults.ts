/**
 * What may go wrong in one run, and how often. Which kinds of faults a run has is itself drawn from its seed: runs with few
 * kinds reach states that a run in which everything fails never reaches. When the faults are over, nothing fails any more.
 */
import type { Choices, Details } from './choices.ts'

export const FAULT_KINDS = [
  /** A step on the way to the database or back takes long. */
  'slow',
  'beginFails',
  'commitFails',
  'readFails',
  'newsLost',
  'newsTwice',
  'newsLate',
  'providerFails',
  'providerRejects',
  'providerHangs',
  'providerLate',
  /** It answers for fewer machines than it was asked about. */
  'providerShort',
  /** A call that was abandoned goes on for a while. */
  'providerEndsLate',
  /** A client's call is on its way for long, or its answer is. */
  'callLate',
  'callTwice',
  'callLost',
  /** What a worker reports is handed in twice, or again much later. */
  'reportTwice',
  'crash',
  'stop',
  'freeze',
  'serverClock',
  'databaseClock',
  'databaseAway',
  /** Nothing at all goes on for a while. */
  'standstill',
] as const

export type FaultKind = (typeof FAULT_KINDS)[number]

/** In 1,000: how often a fault strikes where it may, by the level that the run has drawn for it. */
const LEVELS_PERMILLE = [0, 30, 150, 400] as const
const LEVEL_WEIGHTS = [50, 25, 15, 10]
const ONLY_PERMILLE = 150

/** How long something takes that takes long: around the time a provider has, and around the time a claim lasts. */
const DELAYS_MS = [20, 300, 2_000, 6_000, 20_000, 36_000, 50_000] as const

/** How long something takes that takes long. */
export function delayMs(how: Details): number {
  return how.among(DELAYS_MS)
}

export class FaultPlan {
  readonly #choices: Choices
  readonly #permille = new Map<FaultKind, number>()

  /** `only`: the kinds that the run has, instead of those that are drawn. */
  constructor(choices: Choices, only: readonly FaultKind[] | null) {
    this.#choices = choices
    for (const kind of FAULT_KINDS) {
      const drawn = LEVELS_PERMILLE[choices.pick('plan', LEVEL_WEIGHTS)] ?? 0
      this.#permille.set(kind, only === null ? drawn : only.includes(kind) ? ONLY_PERMILLE : 0)
    }
  }

  /** Whether a fault strikes here and now, and how; null: it does not. */
  strike(kind: FaultKind): Details | null {
    return this.#choices.strike('faults', this.#permille.get(kind) ?? 0)
  }

  strikes(kind: FaultKind): boolean {
    return this.strike(kind) !== null
  }

  /** How long something is delayed that a fault may delay; 0: it is not. */
  delayMs(kind: FaultKind): number {
    const how = this.strike(kind)
    return how === null ? 0 : delayMs(how)
  }

  /** How something goes in detail that is no fault in itself. */
  details(): Details {
    return this.#choices.details('faults')
  }

  permille(kind: FaultKind): number {
    return this.#permille.get(kind) ?? 0
  }

  /** The kinds of faults that this run has. */
  get kinds(): FaultKind[] {
    return FAULT_KINDS.filter((kind) => this.permille(kind) > 0)
  }
}
