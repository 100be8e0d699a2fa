/** A list that is always sorted. What an entry is sorted by may change only while it is not in the list. */
export class Line<T> {
  readonly #compare: (a: T, b: T) => number
  readonly #entries: T[]

  /** `compare` has to tell any two entries apart. */
  constructor(compare: (a: T, b: T) => number, entries: Iterable<T> = []) {
    this.#compare = compare
    this.#entries = [...entries].sort(compare)
  }

  get first(): T | undefined {
    return this.#entries[0]
  }

  get entries(): readonly T[] {
    return this.#entries
  }

  add(entry: T): void {
    this.#entries.splice(this.indexOf(entry), 0, entry)
  }

  remove(entry: T): void {
    const index = this.indexOf(entry)
    if (this.#entries[index] === entry) this.#entries.splice(index, 1)
  }

  /** Where an entry is, or would be. */
  indexOf(entry: T): number {
    let from = 0
    let to = this.#entries.length
    while (from < to) {
      const middle = (from + to) >>> 1
      if (this.#compare(this.#entries[middle] as T, entry) < 0) from = middle + 1
      else to = middle
    }
    return from
  }
}
