/**
 * Whether what concurrent callers were told can be explained by one order of their operations, each of which took effect at
 * one moment between its call and its answer. An operation without an answer may have taken effect at any moment after its
 * call, or never.
 *
 * The search is Wing and Gong's in the just-in-time form of Lowe ("Testing for linearizability", 2017): answers are gone
 * through by their time, and all configurations (a state, and which of the open operations have taken effect) that explain
 * those so far are kept; a configuration that cannot be brought to explain the next answer is dropped. When none is left,
 * that answer is the violation. Equal configurations are kept once, and one that used up more unanswered operations than another
 * that is otherwise equal is dropped: whatever it can still explain, the other can too.
 */

/** A state is a value that `===` compares. */
export type State = string | number

export interface Operation {
  readonly invokedAtMs: number
  /** Infinity: there was no answer. */
  readonly returnedAtMs: number
  /** The state that it leaves behind when it takes effect in `state`; null when what was answered is impossible there. */
  apply(state: State): State | null
  /** Unanswered operations of the same kind can stand in for each other; null: it is like no other. */
  readonly kind: string | null
  /** For the report. */
  readonly text: string
}

export interface Violation {
  /** The first answer that nothing explains. */
  readonly operation: Operation
  /** States that all answers before it allow. */
  readonly states: readonly State[]
}

interface Configuration {
  readonly state: State
  /** Open operations that have an answer to come, and have taken effect: ascending. */
  readonly done: readonly number[]
  /** Operations without an answer that have taken effect: ascending. */
  readonly used: readonly number[]
}

/**
 * The first answer that cannot be explained, or null when all can. `spontaneous` tells which states may follow a state by
 * themselves, at any moment.
 */
export function violationOf(
  initial: State,
  operations: readonly Operation[],
  spontaneous: (state: State) => readonly State[] = () => [],
): Violation | null {
  return new Search(operations, spontaneous).run(initial)
}

class Search {
  readonly #operations: readonly Operation[]
  readonly #spontaneous: (state: State) => readonly State[]
  /** Invoked, with an answer that is still to come. */
  readonly #open = new Set<number>()
  /** Invoked, and never answered: those of a kind together, in the order of their calls. */
  readonly #unanswered = new Map<string, number[]>()

  constructor(operations: readonly Operation[], spontaneous: (state: State) => readonly State[]) {
    this.#operations = operations
    this.#spontaneous = spontaneous
  }

  run(initial: State): Violation | null {
    let configurations: Configuration[] = [{ state: initial, done: [], used: [] }]
    for (const { i, isReturn } of this.#moments()) {
      if (!isReturn) {
        this.#invoke(i)
        continue
      }
      const next = this.#explaining(i, configurations)
      const operation = this.#operations[i]
      if (next.length === 0 && operation !== undefined)
        return { operation, states: [...new Set(configurations.map(({ state }) => state))] }
      this.#open.delete(i)
      configurations = withoutDominated(next)
    }
    return null
  }

  /** Calls and answers by their time; at the same time calls come first, so that such operations overlap. */
  #moments(): { i: number; atMs: number; isReturn: boolean }[] {
    const moments = this.#operations.flatMap(({ invokedAtMs, returnedAtMs }, i) => [
      { i, atMs: invokedAtMs, isReturn: false },
      ...(returnedAtMs === Number.POSITIVE_INFINITY ? [] : [{ i, atMs: returnedAtMs, isReturn: true }]),
    ])
    return moments.sort((a, b) => a.atMs - b.atMs || Number(a.isReturn) - Number(b.isReturn))
  }

  #invoke(i: number): void {
    const operation = this.#operations[i]
    if (operation === undefined) return
    if (operation.returnedAtMs !== Number.POSITIVE_INFINITY) {
      this.#open.add(i)
      return
    }
    const kind = operation.kind ?? `only ${i}`
    const alike = this.#unanswered.get(kind)
    if (alike === undefined) this.#unanswered.set(kind, [i])
    else alike.push(i)
  }

  /** All configurations that come of `configurations` and in which operation `i` has just taken effect, or had before. */
  #explaining(i: number, configurations: readonly Configuration[]): Configuration[] {
    const found = new Map<string, Configuration>()
    const seen = new Set<string>()
    const todo = [...configurations]
    for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
      const here = this.#withReads(at)
      const key = keyOf(here)
      if (seen.has(key)) continue
      seen.add(key)
      if (here.done.includes(i)) {
        const without = { ...here, done: here.done.filter((done) => done !== i) }
        found.set(keyOf(without), without)
        continue
      }
      todo.push(...this.#steps(here))
    }
    return [...found.values()]
  }

  /** What changes nothing takes effect as soon as it can: that never gets in the way of anything. */
  #withReads(configuration: Configuration): Configuration {
    const { state, done } = configuration
    const reads = [...this.#open].filter(
      (i) => !done.includes(i) && this.#operations[i]?.apply(state) === state,
    )
    return reads.length === 0 ? configuration : { ...configuration, done: ascending([...done, ...reads]) }
  }

  #steps({ state, done, used }: Configuration): Configuration[] {
    const steps: Configuration[] = this.#spontaneous(state).map((next) => ({ state: next, done, used }))
    for (const i of this.#open) {
      if (done.includes(i)) continue
      const next = this.#operations[i]?.apply(state) ?? null
      if (next !== null) steps.push({ state: next, done: ascending([...done, i]), used })
    }
    for (const alike of this.#unanswered.values()) {
      const i = alike.find((one) => !used.includes(one))
      if (i === undefined) continue
      const next = this.#operations[i]?.apply(state) ?? null
      if (next !== null && next !== state) steps.push({ state: next, done, used: ascending([...used, i]) })
    }
    return steps
  }
}

function withoutDominated(configurations: readonly Configuration[]): Configuration[] {
  if (configurations.length < 2) return [...configurations]
  const kept: Configuration[] = []
  for (const one of [...configurations].sort((a, b) => a.used.length - b.used.length)) {
    const dominated = kept.some(
      (other) =>
        other.state === one.state &&
        other.done.join() === one.done.join() &&
        other.used.every((i) => one.used.includes(i)),
    )
    if (!dominated) kept.push(one)
  }
  return kept
}

function ascending(numbers: number[]): number[] {
  return numbers.sort((a, b) => a - b)
}

function keyOf({ state, done, used }: Configuration): string {
  return `${state}|${done.join()}|${used.join()}`
}
