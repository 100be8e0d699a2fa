/**
 * Everything in a simulated run that could have gone otherwise, as numbers: they are drawn from a seed and recorded, or taken
 * from a record. There are a few streams, so that leaving a fault out does not change what the clients do. In each of them 0
 * is the plain choice (no fault, the oldest step first, the client does nothing), and it is what a record that is used up
 * goes on with; so a shorter record, or one with more zeros, is a simpler run.
 */
import { mulberry32 } from '../../src/provider/simulated.ts'

export const STREAMS = ['plan', 'clients', 'order', 'faults'] as const

export type Stream = (typeof STREAMS)[number]

export type ChoiceRecord = Readonly<Record<Stream, readonly number[]>>

/** Where choices come from. */
export type ChoiceSource = { readonly seed: number } | { readonly record: ChoiceRecord }

export class Choices {
  readonly #drawn: Record<Stream, number[]> = { plan: [], clients: [], order: [], faults: [] }
  readonly #draw: (stream: Stream, weights: readonly number[] | number) => number
  /** True: nothing is drawn or recorded any more, and every choice is the plain one. */
  calm = false

  constructor(source: ChoiceSource) {
    this.#draw =
      'seed' in source
        ? fromSeed(source.seed)
        : (stream, weights) => this.#next(source.record, stream, weights)
  }

  /** One of `weights.length` choices, drawn by their weights; or one of so many that are equally likely. */
  pick(stream: Stream, weights: readonly number[] | number): number {
    const n = typeof weights === 'number' ? weights : weights.length
    if (this.calm || n <= 1) return 0
    const choice = this.#draw(stream, weights)
    this.#drawn[stream].push(choice)
    return choice
  }

  /** One of `items`. */
  among<T>(stream: Stream, items: readonly T[]): T {
    const item = items[this.pick(stream, items.length)]
    if (item === undefined) throw new Error('there is nothing to choose from')
    return item
  }

  /** True with a chance of `permille` in 1,000; 0 draws nothing. */
  chance(stream: Stream, permille: number): boolean {
    return permille > 0 && this.pick(stream, [1_000 - permille, permille]) === 1
  }

  get record(): ChoiceRecord {
    return this.#drawn
  }

  #next(record: ChoiceRecord, stream: Stream, weights: readonly number[] | number): number {
    const choice = record[stream][this.#drawn[stream].length] ?? 0
    if (typeof weights === 'number') return choice % weights
    const wrapped = choice % weights.length
    return (weights[wrapped] ?? 0) > 0 ? wrapped : 0
  }
}

function fromSeed(seed: number) {
  const randoms = STREAMS.map((_, i) => mulberry32(Math.imul(seed, 0x9e37_79b1) + i))
  return (stream: Stream, weights: readonly number[] | number): number => {
    const random = (randoms[STREAMS.indexOf(stream)] as () => number)()
    if (typeof weights === 'number') return Math.floor(random * weights)
    let rest = random * weights.reduce((sum, weight) => sum + weight, 0)
    for (const [i, weight] of weights.entries()) {
      rest -= weight
      if (rest < 0) return i
    }
    return 0
  }
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
