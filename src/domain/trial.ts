/**
 * What if: changes of a book's timelines that are taken back. A trial may also move a named machine into a class of its own,
 * which the book does not have yet, so that whatever asks for that machine or for others like it is answered as if it stood there.
 */
import type { Book } from './book.ts'
import { Timeline } from './timeline.ts'
import type { VmState } from './vm.ts'
import { type ClassKey, classKeyOf, classOf } from './vm-class.ts'
import { matches, type Wish } from './wish.ts'

/** A machine that somebody names, as its row says. */
export interface NamedVm {
  readonly id: number
  readonly class: ClassKey
  readonly state: VmState
  readonly freeAtMs: number | null
}

/** A machine that is moved into another class. */
export interface Move {
  readonly vmId: number
  readonly classKey: ClassKey
}

export class Trial {
  readonly #book: Book
  readonly #nowMs: number
  /** How to take back what was done, the first first. */
  readonly #undo: (() => void)[] = []
  /** Classes that the book does not have: of one machine each, by class. */
  readonly #solo: Map<ClassKey, { readonly vm: NamedVm; readonly timeline: Timeline }> = new Map()

  constructor(book: Book, nowMs: number) {
    this.#book = book
    this.#nowMs = nowMs
  }

  /** `count` more machines of a class are free over [fromMs, toMs). */
  add(key: ClassKey, fromMs: number, toMs: number | null, count: number): void {
    const timeline = this.#solo.get(key)?.timeline ?? this.#book.classes.get(key)?.timeline
    if (timeline !== undefined) this.#add(timeline, fromMs, toMs, count)
  }

  /** The timelines of the classes that a wish may use: machines that nobody names first. */
  timelinesFor(wish: Wish): Map<ClassKey, Timeline> {
    const timelines = new Map(this.#book.classesFor(wish).map(({ key, timeline }) => [key, timeline]))
    for (const [key, { timeline }] of this.#solo)
      if (wish.some((kind) => matches(kind, classOf(key)))) timelines.set(key, timeline)
    return timelines
  }

  /** The timelines of all classes. */
  timelines(): Map<ClassKey, Timeline> {
    const timelines = new Map<ClassKey, Timeline>()
    for (const { key, timeline } of this.#book.classes.values()) timelines.set(key, timeline)
    for (const [key, { timeline }] of this.#solo) timelines.set(key, timeline)
    return timelines
  }

  /** Machines of a class that are ready. */
  readyOf(key: ClassKey): number {
    const solo = this.#solo.get(key)
    if (solo !== undefined) return solo.vm.state === 'ready' ? 1 : 0
    const ready = this.#book.classes.get(key)?.ready ?? 0
    return ready - this.#movedFrom(key, ({ state }) => state === 'ready')
  }

  /** Machines of a class that exist, in use or not. */
  existingOf(key: ClassKey): number {
    if (this.#solo.has(key)) return 1
    return (this.#book.classes.get(key)?.existing ?? 0) - this.#movedFrom(key, () => true)
  }

  /**
   * Moves a machine into a class of its own. False: the rest of its class cannot keep what is booked and promised without it. A
   * machine that never comes back by itself may be moved as well: its class does not count on it.
   */
  moveAway(vm: NamedVm): boolean {
    const { type, labels } = classOf(vm.class)
    const key = classKeyOf(type, labels, vm.id)
    const own = this.#book.classes.get(vm.class)
    if (own === undefined || vm.class === key || this.#solo.has(key)) return true
    const timeline = new Timeline(
      this.#book.gridMs,
      Math.floor(this.#nowMs / this.#book.gridMs) * this.#book.gridMs,
    )
    const backMs = this.#backMs(vm)
    if (backMs !== null) {
      timeline.add(backMs, null, 1)
      this.#add(own.timeline, backMs, null, -1)
      if (own.timeline.minFree(backMs, null) < 0) {
        this.undo(this.mark() - 1)
        return false
      }
    }
    this.#solo.set(key, { vm, timeline })
    this.#undo.push(() => this.#solo.delete(key))
    return true
  }

  /** The machines that were moved. */
  get moves(): Move[] {
    return [...this.#solo].map(([classKey, { vm }]) => ({ vmId: vm.id, classKey }))
  }

  /** A place to go back to. */
  mark(): number {
    return this.#undo.length
  }

  /** Takes back what was done since a mark; without one everything. */
  undo(mark = 0): void {
    for (const takeBack of this.#undo.splice(mark).reverse()) takeBack()
  }

  #add(timeline: Timeline, fromMs: number, toMs: number | null, count: number): void {
    timeline.add(fromMs, toMs, count)
    this.#undo.push(() => timeline.add(fromMs, toMs, -count))
  }

  /** From when on a machine can be used; null: nobody knows. */
  #backMs({ state, freeAtMs }: NamedVm): number | null {
    if (state === 'ready') return this.#nowMs
    if (freeAtMs === null || state === 'failed' || state === 'cordoned' || state === 'deleting') return null
    // Timelines round what is free inwards.
    return Math.ceil(freeAtMs / this.#book.gridMs) * this.#book.gridMs
  }

  #movedFrom(key: ClassKey, which: (vm: NamedVm) => boolean): number {
    let count = 0
    for (const { vm } of this.#solo.values()) if (vm.class === key && which(vm)) count++
    return count
  }
}
