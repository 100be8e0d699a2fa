/** Mistakes in the rules of reservations and in the timeline, and the test that finds each. */
import { describe, it } from 'node:test'
import { assertFound, type Plant } from '../support/planted.ts'

const KEPT = ['test/reservations/kept.test.ts', 'starts complete, unless its holder was told'] as const
const ARRAY = ['src/domain/timeline.test.ts', 'says the same as an array of one number a step'] as const
const EARLIEST = [
  'src/domain/timeline.test.ts',
  'is the first step at which trying every step finds one',
] as const
const OFFER = [
  'src/domain/admission.test.ts',
  'offers a start that is admitted, and a number that is',
] as const

function admission(name: string): readonly [string, string] {
  return ['src/domain/admission.test.ts', name]
}

function healing(name: string): readonly [string, string] {
  return ['src/domain/healing.test.ts', name]
}

function start(name: string): readonly [string, string] {
  return ['src/domain/reservation-start.test.ts', name]
}

const PLANTS: readonly (Plant & { readonly found: readonly [file: string, name: string] })[] = [
  {
    what: 'a window ends between steps and its last step is left out',
    file: 'src/domain/timeline.ts',
    from: 'Math.max(0, Math.ceil((toMs - this.#originMs) / this.#gridMs))',
    to: 'Math.max(0, Math.floor((toMs - this.#originMs) / this.#gridMs))',
    found: ARRAY,
  },
  {
    what: 'the lowest value of a chunk is remembered after a change',
    file: 'src/domain/timeline.ts',
    from: '    chunk.low = null\n',
    to: '',
    found: ARRAY,
  },
  {
    what: 'folding forgets what is folded',
    file: 'src/domain/timeline.ts',
    from: 'this.#before += chunk?.sum ?? 0',
    to: 'this.#before += 0',
    found: ['src/domain/timeline.test.ts', 'does not grow as time passes'],
  },
  {
    what: 'the search for the earliest fit jumps too far',
    file: 'src/domain/timeline.ts',
    from: 'if (riseMs !== null && riseMs < nextMs) nextMs = riseMs',
    to: 'if (riseMs !== null) nextMs = riseMs',
    found: EARLIEST,
  },
  {
    what: 'the search for the earliest fit of one class jumps too far',
    file: 'src/domain/timeline.ts',
    from: 'need === null ? free : need - 1',
    to: 'need === null ? free : need',
    found: EARLIEST,
  },
  {
    what: 'admission forgets the cleaning behind a window',
    file: 'src/domain/admission.ts',
    from: 'const untilMs = booking.toMs + this.#marginMs(timelines)',
    to: 'const untilMs = booking.toMs',
    found: KEPT,
  },
  {
    what: 'admission looks at the start of a window only',
    file: 'src/domain/admission.ts',
    from: 'const free = timeline.minFree(fromMs, untilMs)',
    to: 'const free = timeline.at(fromMs)',
    found: KEPT,
  },
  {
    what: 'admission hopes for machines that are being cleaned',
    file: 'src/domain/admission.ts',
    from: 'const isNear = booking.fromMs < this.#nowMs + this.#marginMs(timelines)',
    to: 'const isNear = false',
    found: admission('counts only ready machines where the next cleaning may not be over'),
  },
  {
    what: 'admission does not see promises',
    file: 'src/domain/admission.ts',
    from: '  const answers = bookings.map((booking) => admission.admit(booking))',
    to: '  const answers = book.withoutPromises(() => bookings.map((booking) => admission.admit(booking)))',
    found: admission('does not delay a request that was promised machines'),
  },
  {
    what: 'a series does not see its own windows',
    file: 'src/domain/admission.ts',
    from: 'this.#trial.add(key, fromMs, toMs + this.#book.marginMsOf(key), -count)',
    to: 'this.#trial.add(key, fromMs, toMs + this.#book.marginMsOf(key), 0 * count)',
    found: admission('counts its own windows'),
  },
  {
    what: 'an offered start is looked for without the cleaning',
    file: 'src/domain/admission.ts',
    from: 'earliest(timelines, wish, place, lengthMs + marginMs, beginMs, untilMs)',
    to: 'earliest(timelines, wish, place, lengthMs, beginMs, untilMs)',
    found: OFFER,
  },
  {
    what: 'a trial is not taken back',
    file: 'src/domain/trial.ts',
    from: 'timeline.add(fromMs, toMs, -count))',
    to: 'timeline.add(fromMs, toMs, 0))',
    found: admission('leaves the book as it was'),
  },
  {
    what: 'a named machine is moved away from bookings that need it',
    file: 'src/domain/trial.ts',
    from: 'if (own.timeline.minFree(backMs, null) < 0) {',
    to: 'if (own.timeline.minFree(backMs, null) < -9) {',
    found: KEPT,
  },
  {
    what: 'nothing is taken out when machines are lost',
    file: 'src/domain/healing.ts',
    from: '    healing.takeOut()\n',
    to: '',
    found: KEPT,
  },
  {
    what: 'as many machines as can be had are counted for the first kind only',
    file: 'src/domain/wish.ts',
    from: 'served[i] = { ...kind, count: fewest }',
    to: 'served[i] = { ...kind, count: i === 0 ? fewest : 0 }',
    found: ['src/domain/wish.test.ts', 'is the most that trying every way finds'],
  },
  {
    what: 'the oldest is at risk first',
    file: 'src/domain/healing.ts',
    from: 'if ((holds[middle] as Hold).reservation.confirmedSeq < hold.reservation.confirmedSeq) low = middle + 1',
    to: 'if ((holds[middle] as Hold).reservation.confirmedSeq > hold.reservation.confirmedSeq) low = middle + 1',
    found: healing('tells the latest confirmed, and tells it again when it is safe (example 8)'),
  },
  {
    what: 'what was taken out comes back without looking whether it fits',
    file: 'src/domain/healing.ts',
    from: 'if (!this.#fitsAsBefore(reservation)) displaced.push(reservation)',
    to: 'if (!this.#fitsAsBefore(reservation) && !reservation.atRisk) displaced.push(reservation)',
    found: KEPT,
  },
  {
    what: 'what was moved to other classes is not laid there',
    file: 'src/domain/healing.ts',
    from: '      this.#lay(reservation, pinned)\n      const kept',
    to: '      const kept',
    found: healing('moves two only where both find a place'),
  },
  {
    what: 'one that is at risk takes whatever is ready',
    file: 'src/domain/reservation-start.ts',
    from: 'capacity.set(key, Math.max(0, Math.min(ready, free)))',
    to: 'capacity.set(key, Math.max(free * 0, ready))',
    found: KEPT,
  },
  {
    what: 'ones at risk begin in their turn',
    file: 'src/domain/reservation-start.ts',
    from: 'Number(a.atRisk) - Number(b.atRisk) || a.confirmedSeq - b.confirmedSeq',
    to: 'b.confirmedSeq - a.confirmedSeq',
    found: start('begins before those that are at risk, at the same instant'),
  },
  {
    what: 'a reservation that begins needs its machines twice',
    file: 'src/domain/reservation-start.ts',
    from: 'if (other.id === id || other.atRisk)',
    to: 'if (other.atRisk)',
    found: KEPT,
  },
  {
    what: 'a reservation keeps no machines for the cleaning behind it',
    file: 'src/domain/book.ts',
    from: 'const untilMs = toMs + this.marginMsOf(classKey)',
    to: 'const untilMs = toMs',
    found: KEPT,
  },
]

describe('a mistake is found:', () => {
  for (const { found, ...plant } of PLANTS) it(plant.what, () => assertFound(plant, ...found))
})
