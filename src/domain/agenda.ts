/**
 * The groups that a pass of settle has yet to ask, in the order of their first rows. It is sorted once, and kept sorted where a grant
 * changes the places of the few rows of one flow: asking all groups for the first again and again is what would cost most.
 */
import { Line } from './line.ts'
import type { Group, Queue, Row } from './queue.ts'

export class Agenda {
  readonly #queue: Queue
  readonly #groups: number
  /** Rows are overdue as after so many departures. */
  #departures = 0
  /** The first row of each group that is open. */
  readonly #firsts: Map<Group, Row> = new Map()
  #line: Line<Row>

  /** Opens all groups; rows are in their order after so many departures. */
  constructor(queue: Queue, departures: number) {
    this.#queue = queue
    this.#groups = queue.groups.size
    this.#line = this.#lined(queue.groups.values(), departures)
  }

  /** The row that is next. */
  get first(): Row | undefined {
    return this.#line.first
  }

  /** True when a group was closed. */
  get passed(): boolean {
    return this.#firsts.size < this.#groups
  }

  /** A group is not asked again. */
  close(group: Group): void {
    const first = this.#firsts.get(group)
    if (first === undefined) return
    this.#line.remove(first)
    this.#firsts.delete(group)
  }

  /** Rows of these groups change their places, or leave. */
  change(groups: readonly Group[], edit: () => void): void {
    const open = groups.filter((group) => this.#firsts.has(group))
    for (const group of open) this.close(group)
    edit()
    for (const group of open) {
      const row = this.#queue.firstOf(group, this.#departures)
      if (row === null) continue
      this.#firsts.set(group, row)
      this.#line.add(row)
    }
  }

  /** A row has become overdue, which changes its place. */
  sort(departures: number): void {
    this.#line = this.#lined([...this.#firsts.keys()], departures)
  }

  #lined(groups: Iterable<Group>, departures: number): Line<Row> {
    this.#departures = departures
    this.#firsts.clear()
    for (const group of groups) {
      const row = this.#queue.firstOf(group, departures)
      if (row !== null) this.#firsts.set(group, row)
    }
    return new Line((a, b) => this.#queue.comparePlaces(a, b, departures), this.#firsts.values())
  }
}
