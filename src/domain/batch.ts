/**
 * How the commands of one batch are decided: each in the order in which they came, seeing what those before it changed; then the
 * batch is settled (settlement.ts), and those that had to wait for that get their answers.
 */
import { type Command, decide } from './command.ts'
import { Joining } from './decision.ts'
import { isRefusal, type Refusal } from './refusal.ts'
import { Settlement } from './settlement.ts'
import type { MoreNeeds, WorkingSet } from './working-set.ts'

export interface Decided {
  /** The command's reply or refusal. */
  readonly answer: () => unknown | Refusal
  /** False: the answer is known only once the batch is settled. */
  readonly isSettled: boolean
}

export class BatchDecisions {
  readonly #set: WorkingSet
  readonly #settlement: Settlement

  constructor(set: WorkingSet) {
    this.#set = set
    this.#settlement = new Settlement(set)
  }

  /** Decides a command. Throws on a bug. */
  decide(command: Command): Decided {
    const decision = decide(this.#set, command)
    if (isRefusal(decision)) return { answer: () => decision, isSettled: true }
    if (decision instanceof Joining) {
      const { joiner, conclude } = decision
      this.#settlement.add(joiner)
      return { answer: () => conclude(this.#settlement.outcomeOf(joiner)), isSettled: false }
    }
    const { changes, reply } = decision
    this.#set.apply(changes)
    return { answer: () => reply, isSettled: true }
  }

  /** Settles what the commands left. Returns what has to be loaded before it can go on; null: the batch can be saved. */
  settle(): MoreNeeds | null {
    return this.#settlement.step()
  }
}
