/**
 * Deliberate mistakes in the timeline and in the rules of reservations, each of which a test has to find: a test that has never failed
 * proves nothing.
 */
import type { Edit } from '../support/mistake.ts'

interface Mutant {
  readonly what: string
  readonly edits: readonly Edit[]
  /** The test that has to fail. */
  readonly found: readonly [file: string, name: string]
}

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

export const MUTANTS: Readonly<Record<string, Mutant>> = {
  'window-rounded-inwards': {
    what: 'a window ends between steps and its last step is left out',
    edits: [
      {
        file: 'src/domain/timeline.ts',
        from: 'Math.max(0, Math.ceil((toMs - this.#originMs) / this.#gridMs))',
        to: 'Math.max(0, Math.floor((toMs - this.#originMs) / this.#gridMs))',
      },
    ],
    found: ARRAY,
  },
  'low-remembered': {
    what: 'the lowest value of a chunk is remembered after a change',
    edits: [{ file: 'src/domain/timeline.ts', from: '    chunk.low = null\n', to: '' }],
    found: ARRAY,
  },
  'fold-forgets': {
    what: 'folding forgets what is folded',
    edits: [
      { file: 'src/domain/timeline.ts', from: 'this.#before += chunk?.sum ?? 0', to: 'this.#before += 0' },
    ],
    found: ['src/domain/timeline.test.ts', 'does not grow as time passes'],
  },
  'earliest-leaps': {
    what: 'the search for the earliest fit jumps too far',
    edits: [
      {
        file: 'src/domain/timeline.ts',
        from: 'if (riseMs !== null && riseMs < nextMs) nextMs = riseMs',
        to: 'if (riseMs !== null) nextMs = riseMs',
      },
    ],
    found: EARLIEST,
  },
  'earliest-of-one-leaps': {
    what: 'the search for the earliest fit of one class jumps too far',
    edits: [
      {
        file: 'src/domain/timeline.ts',
        from: 'need === null ? free : need - 1',
        to: 'need === null ? free : need',
      },
    ],
    found: EARLIEST,
  },
  'cleaning-forgotten': {
    what: 'admission forgets the cleaning behind a window',
    edits: [
      {
        file: 'src/domain/admission.ts',
        from: 'const untilMs = booking.toMs + this.#marginMs(timelines)',
        to: 'const untilMs = booking.toMs',
      },
    ],
    found: KEPT,
  },
  'start-of-window-only': {
    what: 'admission looks at the start of a window only',
    edits: [
      {
        file: 'src/domain/admission.ts',
        from: 'const free = timeline.minFree(fromMs, untilMs)',
        to: 'const free = timeline.at(fromMs)',
      },
    ],
    found: KEPT,
  },
  'hope-for-cleaning': {
    what: 'admission hopes for machines that are being cleaned',
    edits: [
      {
        file: 'src/domain/admission.ts',
        from: 'const isNear = booking.fromMs < this.#nowMs + this.#marginMs(timelines)',
        to: 'const isNear = false',
      },
    ],
    found: admission('counts only ready machines where the next cleaning may not be over'),
  },
  'promises-unseen': {
    what: 'admission does not see promises',
    edits: [
      {
        file: 'src/domain/admission.ts',
        from: '  const answers = bookings.map((booking) => admission.admit(booking))',
        to: '  const answers = book.withoutPromises(() => bookings.map((booking) => admission.admit(booking)))',
      },
    ],
    found: admission('does not delay a request that was promised machines'),
  },
  'series-unseen': {
    what: 'a series does not see its own windows',
    edits: [
      {
        file: 'src/domain/admission.ts',
        from: 'this.#trial.add(key, fromMs, toMs + this.#book.marginMsOf(key), -count)',
        to: 'this.#trial.add(key, fromMs, toMs + this.#book.marginMsOf(key), 0 * count)',
      },
    ],
    found: admission('counts its own windows'),
  },
  'offer-without-cleaning': {
    what: 'an offered start is looked for without the cleaning',
    edits: [
      {
        file: 'src/domain/admission.ts',
        from: 'earliest(timelines, wish, place, lengthMs + marginMs, beginMs, untilMs)',
        to: 'earliest(timelines, wish, place, lengthMs, beginMs, untilMs)',
      },
    ],
    found: OFFER,
  },
  'trial-kept': {
    what: 'a trial is not taken back',
    edits: [
      {
        file: 'src/domain/trial.ts',
        from: 'timeline.add(fromMs, toMs, -count))',
        to: 'timeline.add(fromMs, toMs, 0))',
      },
    ],
    found: admission('leaves the book as it was'),
  },
  'moved-needed-machine': {
    what: 'a named machine is moved away from bookings that need it',
    edits: [
      {
        file: 'src/domain/trial.ts',
        from: 'if (own.timeline.minFree(backMs, null) < 0) {',
        to: 'if (own.timeline.minFree(backMs, null) < -9) {',
      },
    ],
    found: KEPT,
  },
  'nothing-taken-out': {
    what: 'nothing is taken out when machines are lost',
    edits: [{ file: 'src/domain/healing.ts', from: '    healing.takeOut()\n', to: '' }],
    found: KEPT,
  },
  'first-kind-only': {
    what: 'as many machines as can be had are counted for the first kind only',
    edits: [
      {
        file: 'src/domain/wish.ts',
        from: 'served[i] = { ...kind, count: fewest }',
        to: 'served[i] = { ...kind, count: i === 0 ? fewest : 0 }',
      },
    ],
    found: ['src/domain/wish.test.ts', 'is the most that trying every way finds'],
  },
  'oldest-at-risk': {
    what: 'the oldest is at risk first',
    edits: [
      {
        file: 'src/domain/healing.ts',
        from: 'if ((holds[middle] as Hold).reservation.confirmedSeq < hold.reservation.confirmedSeq) low = middle + 1',
        to: 'if ((holds[middle] as Hold).reservation.confirmedSeq > hold.reservation.confirmedSeq) low = middle + 1',
      },
    ],
    found: healing('tells the latest confirmed, and tells it again when it is safe (example 8)'),
  },
  'back-without-fitting': {
    what: 'what was taken out comes back without looking whether it fits',
    edits: [
      {
        file: 'src/domain/healing.ts',
        from: 'if (!this.#fitsAsBefore(reservation)) displaced.push(reservation)',
        to: 'if (!this.#fitsAsBefore(reservation) && !reservation.atRisk) displaced.push(reservation)',
      },
    ],
    found: KEPT,
  },
  'moved-not-laid': {
    what: 'what was moved to other classes is not laid there',
    edits: [
      {
        file: 'src/domain/healing.ts',
        from: '      this.#lay(reservation, pinned)\n      const kept',
        to: '      const kept',
      },
    ],
    found: healing('moves two only where both find a place'),
  },
  'at-risk-takes-all': {
    what: 'one that is at risk takes whatever is ready',
    edits: [
      {
        file: 'src/domain/reservation-start.ts',
        from: 'capacity.set(key, Math.max(0, Math.min(ready, free)))',
        to: 'capacity.set(key, Math.max(free * 0, ready))',
      },
    ],
    found: KEPT,
  },
  'at-risk-in-turn': {
    what: 'ones at risk begin in their turn',
    edits: [
      {
        file: 'src/domain/reservation-start.ts',
        from: 'Number(a.atRisk) - Number(b.atRisk) || a.confirmedSeq - b.confirmedSeq',
        to: 'b.confirmedSeq - a.confirmedSeq',
      },
    ],
    found: start('begins before those that are at risk, at the same instant'),
  },
  'start-needs-twice': {
    what: 'a reservation that begins needs its machines twice',
    edits: [
      {
        file: 'src/domain/reservation-start.ts',
        from: 'if (other.id === id || other.atRisk)',
        to: 'if (other.atRisk)',
      },
    ],
    found: KEPT,
  },
  'booked-without-cleaning': {
    what: 'a reservation keeps no machines for the cleaning behind it',
    edits: [
      {
        file: 'src/domain/book.ts',
        from: 'const untilMs = toMs + this.marginMsOf(classKey)',
        to: 'const untilMs = toMs',
      },
    ],
    found: KEPT,
  },
}
