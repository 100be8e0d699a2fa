/**
 * Who goes next, and what time it is. Whatever the simulated servers wait for is a step that is parked here; one of those
 * that are due is chosen and resumed, and everything that follows from it without waiting again runs before the next one is
 * chosen. Time moves only when no step is due.
 */
import type { Choices } from './choices.ts'

/** On whose behalf steps are parked. The steps of one that is dead are never resumed. */
export interface Owner {
  readonly name: string
  dead: boolean
  /** Until when none of its steps is resumed, as if the process or its machine were suspended. */
  frozenUntilMs: number
}

export function owner(name: string): Owner {
  return { name, dead: false, frozenUntilMs: 0 }
}

interface Step {
  readonly owner: Owner
  readonly label: string
  readonly dueMs: number
  /** Grows with each step that is parked. */
  readonly serial: number
  resume(): void
}

/** The label of a step that only looks whether there is something to do. */
export const LOOK = 'look'

export const STARTS_AT_MS = Date.UTC(2026, 0, 1)

export class Scheduler {
  /** The true time; clocks of servers and of the database may be wrong. */
  nowMs = STARTS_AT_MS
  stepsDone = 0
  readonly #choices: Choices
  /** How often the oldest step is taken rather than any, of 1,000 times. */
  readonly #inOrderPermille: number
  #steps: Step[] = []
  #serial = 0

  constructor(choices: Choices, inOrderPermille: number) {
    this.#choices = choices
    this.#inOrderPermille = inOrderPermille
  }

  /** Waits for `ms` and then for its turn. */
  park(owner: Owner, label: string, ms = 0): Promise<void> {
    return new Promise((resolve) => void this.after(owner, label, ms, resolve))
  }

  /** Calls `resume` after `ms`, when it is its turn. Returns what takes it back. */
  after(owner: Owner, label: string, ms: number, resume: () => void): () => void {
    if (owner.dead) return () => {}
    const step = { owner, label, dueMs: this.nowMs + ms, serial: this.#serial++, resume }
    this.#steps.push(step)
    return () => {
      const at = this.#steps.indexOf(step)
      if (at >= 0) this.#steps.splice(at, 1)
    }
  }

  /** Forgets the steps of an owner that has died. */
  bury(owner: Owner): void {
    owner.dead = true
    this.#steps = this.#steps.filter((step) => step.owner !== owner)
  }

  /** Resumes one step that is due. False when there is none. */
  next(): boolean {
    const due = this.#steps.filter((step) => this.#dueMs(step) <= this.nowMs)
    if (due.length === 0) return false
    const step = due[this.#choices.pickEarly('order', due.length, this.#inOrderPermille)]
    if (step === undefined) return false
    this.#steps.splice(this.#steps.indexOf(step), 1)
    this.stepsDone++
    step.resume()
    return true
  }

  /** When the next step is due; null: none ever will be. */
  get nextDueMs(): number | null {
    return this.#earliestMs(() => true)
  }

  /** When the next step is due that is more than a look. */
  get nextDeedMs(): number | null {
    return this.#earliestMs(({ label }) => label !== LOOK)
  }

  #earliestMs(counts: (step: Step) => boolean): number | null {
    let nextMs = Number.POSITIVE_INFINITY
    for (const step of this.#steps) if (counts(step)) nextMs = Math.min(nextMs, this.#dueMs(step))
    return nextMs === Number.POSITIVE_INFINITY ? null : nextMs
  }

  /** What is waited for, for a message about a run that does not end. */
  get waiting(): string[] {
    return this.#steps.map(
      ({ owner, label, dueMs }) => `${owner.name}: ${label} (in ${dueMs - this.nowMs} ms)`,
    )
  }

  #dueMs({ owner, dueMs }: Step): number {
    return Math.max(dueMs, owner.frozenUntilMs)
  }
}
