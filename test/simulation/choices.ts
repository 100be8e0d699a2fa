/**
 * Everything in a simulated run that could have gone otherwise, as numbers: they are drawn from a seed and recorded, or taken
 * from a record. There are a few streams, so that leaving a fault out does not change what the clients do; and one number stands
 * for a whole move or fault with all its details, so that leaving one out does not change the next. In each stream 0 is the
 * plain choice (no fault, the oldest step first, the client does nothing), and it is what a record that is used up goes on
 * with: a shorter record, or one with more zeros, is a simpler run.
 */
import { mulberry32 } from '../../src/provider/simulated.ts'

export const STREAMS = ['plan', 'clients', 'order', 'faults'] as const

export type Stream = (typeof STREAMS)[number]

export type ChoiceRecord = Readonly<Record<Stream, readonly number[]>>

/** Where choices come from. */
export type ChoiceSource = { readonly seed: number } | { readonly record: ChoiceRecord }

/** Numbers that stand for a move or a fault, from 1 on. */
const TOKENS = 1 << 20

/** How one move or fault goes in detail. */
export class Details {
  readonly #random: (() => number) | null

  /** `token` 0: in all details the plain way. */
  constructor(token: number) {
    this.#random = token === 0 ? null : mulberry32(token)
  }

  /** One of `weights.length` choices, drawn by their weights; or one of so many that are equally likely. */
  pick(weights: readonly number[] | number): number {
    return this.#random === null ? 0 : drawn(this.#random(), weights)
  }

  /** One of `items`. */
  among<T>(items: readonly T[]): T {
    const item = items[this.pick(items.length)]
    if (item === undefined) throw new Error('there is nothing to choose from')
    return item
  }

  /** True with a chance of `permille` in 1,000. */
  chance(permille: number): boolean {
    return this.#random !== null && permille > 0 && this.pick([1_000 - permille, permille]) === 1
  }
}

export class Choices {
  readonly #recorded: Record<Stream, number[]> = { plan: [], clients: [], order: [], faults: [] }
  readonly #source: (stream: Stream, draw: (random: () => number) => number, n: number) => number
  /** True: nothing is drawn or recorded any more, and every choice is the plain one. */
  calm = false

  constructor(source: ChoiceSource) {
    this.#source = 'seed' in source ? fromSeed(source.seed) : fromRecord(source.record)
  }

  /** One of `weights.length` choices, drawn by their weights; or one of so many that are equally likely. */
  pick(stream: Stream, weights: readonly number[] | number): number {
    const n = typeof weights === 'number' ? weights : weights.length
    return n <= 1 ? 0 : this.#choose(stream, n, (random) => drawn(random(), weights))
  }

  /** One of `n`; the first of them in `permille` of 1,000 cases more than it should be. */
  pickEarly(stream: Stream, n: number, permille: number): number {
    return n <= 1
      ? 0
      : this.#choose(stream, n, (random) => (random() * 1_000 < permille ? 0 : Math.floor(random() * n)))
  }

  /** Something that goes this way or that in its details. */
  details(stream: Stream): Details {
    return new Details(this.#choose(stream, TOKENS, (random) => 1 + Math.floor(random() * (TOKENS - 1))))
  }

  /** Something that happens with a chance of `permille` in 1,000; null: it does not. 0 draws nothing. */
  strike(stream: Stream, permille: number): Details | null {
    if (permille === 0) return null
    const token = this.#choose(stream, TOKENS, (random) =>
      random() * 1_000 < permille ? 1 + Math.floor(random() * (TOKENS - 1)) : 0,
    )
    return token === 0 ? null : new Details(token)
  }

  get record(): ChoiceRecord {
    return this.#recorded
  }

  #choose(stream: Stream, n: number, draw: (random: () => number) => number): number {
    if (this.calm) return 0
    const choice = this.#source(stream, draw, n)
    this.#recorded[stream].push(choice)
    return choice
  }
}

function fromSeed(seed: number) {
  const randoms = new Map(STREAMS.map((stream, i) => [stream, mulberry32(Math.imul(seed, 0x9e37_79b1) + i)]))
  return (stream: Stream, draw: (random: () => number) => number): number => {
    const random = randoms.get(stream)
    if (random === undefined) throw new Error(`there is no stream ${stream}`)
    return draw(random)
  }
}

function fromRecord(record: ChoiceRecord) {
  const places: Record<Stream, number> = { plan: 0, clients: 0, order: 0, faults: 0 }
  return (stream: Stream, _draw: unknown, n: number): number => (record[stream][places[stream]++] ?? 0) % n
}

function drawn(random: number, weights: readonly number[] | number): number {
  if (typeof weights === 'number') return Math.floor(random * weights)
  let rest = random * weights.reduce((sum, weight) => sum + weight, 0)
  for (const [i, weight] of weights.entries()) {
    rest -= weight
    if (rest < 0) return i
  }
  return 0
}

/** A record as one word of a command line: streams separated by `/`, runs of zeros as `z` and their number. */
export function encodeRecord(record: ChoiceRecord): string {
  return STREAMS.map((stream) => encodeList(record[stream])).join('/')
}

function encodeList(list: readonly number[]): string {
  const words: string[] = []
  let zeros = 0
  for (const choice of list) {
    if (choice === 0) {
      zeros++
      continue
    }
    if (zeros > 0) words.push(zeros === 1 ? '0' : `z${zeros}`)
    zeros = 0
    words.push(String(choice))
  }
  return words.join(',')
}

/** The record that `encodeRecord` wrote. Throws when it is none. */
export function decodeRecord(text: string): ChoiceRecord {
  const lists = text.split('/')
  if (lists.length !== STREAMS.length || !/^[\d,z/]*$/.test(text))
    throw new Error(`'${text}' is no recorded schedule`)
  const [plan = [], clients = [], order = [], faults = []] = lists.map((list) =>
    list === ''
      ? []
      : list
          .split(',')
          .flatMap((word) =>
            word.startsWith('z') ? Array<number>(Number(word.slice(1))).fill(0) : [Number(word)],
          ),
  )
  return { plan, clients, order, faults }
}
