/**
 * What may go wrong in one run, and how often. Which kinds of faults a run has is itself drawn from its seed: runs with few
 * kinds reach states that a run in which everything fails never reaches. When the faults are over, nothing fails any more.
 */
import type { Choices } from './choices.ts'

const KINDS = [
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

export type FaultKind = (typeof KINDS)[number]

/** In 1,000: how often a fault strikes where it may, by the level that the run has drawn for it. */
const LEVELS_PERMILLE = [0, 30, 150, 400] as const
const LEVEL_WEIGHTS = [50, 25, 15, 10]

/** How long something takes that takes long: around the time a provider has, and around the time a claim lasts. */
const DELAYS_MS = [20, 300, 2_000, 6_000, 20_000, 36_000, 50_000] as const

export class FaultPlan {
  readonly #choices: Choices
  readonly #permille = new Map<FaultKind, number>()

  constructor(choices: Choices) {
    this.#choices = choices
    for (const kind of KINDS)
      this.#permille.set(kind, LEVELS_PERMILLE[choices.pick('plan', LEVEL_WEIGHTS)] ?? 0)
  }

  /** Whether a fault strikes here and now. */
  strikes(kind: FaultKind): boolean {
    return this.#choices.chance('faults', this.#permille.get(kind) ?? 0)
  }

  /** One of `n` ways in which a fault may go. */
  choose(_what: string, n: number): number {
    return this.#choices.pick('faults', n)
  }

  /** How long something takes that takes long. */
  delayMs(): number {
    return this.#choices.among('faults', DELAYS_MS)
  }

  /** How long something takes that goes well. */
  pace(pacesMs: readonly number[]): number {
    return this.#choices.among('faults', pacesMs)
  }

  has(kind: FaultKind): boolean {
    return (this.#permille.get(kind) ?? 0) > 0
  }

  /** The kinds of faults that this run has. */
  get kinds(): FaultKind[] {
    return KINDS.filter((kind) => this.has(kind))
  }
}
