/**
 * Random histories of a pool with bookings: leases, extensions, machines that fail and are repaired, reservations that come, go and
 * begin. After each step it is recounted, minute by minute and machine by machine, that what was confirmed can be kept.
 */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { Reservation } from '../../src/domain/reservation.ts'
import { type ClassKey, classOf } from '../../src/domain/vm-class.ts'
import { countWished, matches, place, type Wish } from '../../src/domain/wish.ts'
import { kindOf } from '../support/lab.ts'
import { BookedLab } from './booked-lab.ts'

const MACHINES: Readonly<Record<ClassKey, number>> = { 'small,os=debian': 3, 'small,os=ubuntu': 2, large: 2 }
const VMS = 7

/** What is counted minute by minute: all windows end before that. */
const MINUTES_MAX = 900

const WISHES: readonly Wish[] = [
  [kindOf()],
  [kindOf({ count: 2 })],
  [kindOf({ type: 'small', count: 3 })],
  [kindOf({ type: 'small', labels: { os: 'debian' } })],
  [kindOf({ type: 'small', labels: { os: 'debian' }, count: 2 })],
  [kindOf({ type: 'large' })],
  [kindOf({ type: 'small', count: 2 }), kindOf({ labels: { os: 'ubuntu' } })],
]

/** Wishes of reservations only: a request that waits by name is another's concern. */
const NAMING: readonly Wish[] = [
  [kindOf({ vmId: 1 })],
  [kindOf({ vmId: 5 })],
  [kindOf({ vmId: 2 }), kindOf({ type: 'small' })],
]

const userId = fc.integer({ min: 1, max: 3 })
const vmId = fc.integer({ min: 1, max: VMS })
const wish = fc.constantFrom(...WISHES)
const minutes = fc.integer({ min: 1, max: 90 })

/** Something that happens; plain, so that a history can be read. */
export type Step =
  | {
      readonly do: 'join'
      readonly userId: number
      readonly wish: Wish
      readonly minutes: number | null
      readonly waits: boolean
    }
  | {
      readonly do: 'book'
      readonly userId: number
      readonly wish: Wish
      readonly after: number
      readonly minutes: number
    }
  | { readonly do: 'checkIn' | 'fail' | 'repair'; readonly vmId: number }
  | { readonly do: 'extend'; readonly vmId: number; readonly minutes: number }
  | { readonly do: 'giveUp'; readonly place: number }
  | { readonly do: 'advance'; readonly minutes: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('join' as const),
      userId,
      wish,
      minutes: fc.option(minutes, { freq: 8 }),
      waits: fc.boolean(),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('book' as const),
      userId,
      wish: fc.constantFrom(...WISHES, ...NAMING),
      after: fc.integer({ min: 0, max: 200 }),
      minutes,
    }),
  },
  {
    weight: 7,
    arbitrary: fc.record({
      do: fc.constantFrom('checkIn', 'checkIn', 'fail', 'fail', 'repair', 'repair', 'repair'),
      vmId,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('extend' as const), vmId, minutes }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('giveUp' as const), place: fc.nat(9) }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('advance' as const), minutes: fc.integer({ min: 1, max: 30 }) }),
  },
)

function take(lab: BookedLab, step: Step): void {
  switch (step.do) {
    case 'join':
      lab.join(step.userId, { wish: step.wish, minutes: step.minutes, waits: step.waits })
      break
    case 'book':
      lab.bookFor(step.userId, step.wish, lab.minute + step.after, lab.minute + step.after + step.minutes)
      break
    case 'checkIn':
      lab.checkIn(step.vmId)
      break
    case 'fail':
      lab.fail(step.vmId)
      break
    case 'repair':
      if (lab.vms.get(step.vmId)?.state === 'failed') lab.ready(step.vmId)
      break
    case 'extend': {
      const endsAtMs = lab.leases.get(step.vmId)?.endsAtMs ?? null
      if (endsAtMs !== null) lab.extend(step.vmId, (endsAtMs - lab.at(0)) / 60_000 + step.minutes)
      break
    }
    case 'giveUp': {
      const confirmed = [...lab.reservations.values()].filter(({ state }) => state === 'confirmed')
      const given = confirmed[step.place % Math.max(1, confirmed.length)]
      if (given !== undefined) lab.giveUp(given.id)
      break
    }
    case 'advance':
      lab.advanceTo(lab.minute + step.minutes)
  }
}

/** A history of at most `stepsMax` steps; true for each after which the pool settles. */
export function history(stepsMax: number): fc.Arbitrary<(readonly [Step, boolean])[]> {
  return fc.array(fc.tuple(step, fc.boolean()), { maxLength: stepsMax, size: 'max' })
}

/** Lives through a history; fails where something that was confirmed cannot be kept. */
export function live(steps: readonly (readonly [Step, boolean])[], gridSeconds: number): void {
  const lab = new BookedLab(MACHINES, { gridSeconds })
  for (const [step, settles] of steps) {
    if (lab.minute > MINUTES_MAX - 400) break
    take(lab, step)
    if (settles) lab.settleAll()
    assertKept(lab)
  }
}

function assertKept(lab: BookedLab): void {
  assert.deepEqual(lab.broken, [], 'began incomplete without having been told')
  const free = recount(lab)
  for (const [key, minutes] of free) {
    const short = minutes.findIndex((count) => count < 0)
    assert.equal(short, -1, `${key} is booked beyond what it has in minute ${short}, and nobody was told`)
  }
  for (const reservation of lab.reservations.values())
    if (reservation.state === 'confirmed' && reservation.atRisk) assertAtRisk(lab, reservation, free)
  for (const { vmId: id, endsAtMs } of lab.leases.values()) {
    assert.equal(lab.vms.get(id)?.state, 'leased')
    assert.ok(
      endsAtMs === null || endsAtMs > lab.nowMs - 60_000,
      `the lease of machine ${id} runs past its end`,
    )
  }
  assertAsRebuilt(lab)
}

/** How many machines of each class are free, minute by minute, without promises and without what is at risk. */
function recount(lab: BookedLab): Map<ClassKey, number[]> {
  const keys = [...lab.vms.values()].map((vm) => vm.class)
  for (const { pinned } of lab.reservations.values()) keys.push(...pinned.map(([key]) => key))
  const free = new Map(keys.map((key) => [key, new Array<number>(MINUTES_MAX).fill(0)]))
  const add = (key: ClassKey, from: number, to: number, count: number) => {
    const minutes = free.get(key) ?? assert.fail(key)
    for (let minute = Math.max(from, lab.minute); minute < Math.min(to, MINUTES_MAX); minute++)
      minutes[minute] = (minutes[minute] as number) + count
  }
  for (const { class: key, state, freeAtMs } of lab.vms.values())
    if (state === 'ready') add(key, 0, MINUTES_MAX, 1)
    else if ((state === 'leased' || state === 'maintenance') && freeAtMs !== null)
      add(key, (freeAtMs - lab.at(0)) / 60_000, MINUTES_MAX, 1)
  for (const { state, atRisk, pinned, fromMs, toMs } of lab.reservations.values())
    if (state === 'confirmed' && !atRisk)
      for (const [key, count] of pinned)
        add(key, (fromMs - lab.at(0)) / 60_000, (toMs - lab.at(0)) / 60_000 + 5, -count)
  return free
}

/** It is told rightly: as things are it does not fit, and so many are missing at least. */
function assertAtRisk(
  lab: BookedLab,
  reservation: Reservation,
  free: ReadonlyMap<ClassKey, readonly number[]>,
): void {
  const { id, wish: wanted, fromMs, toMs, missing } = reservation
  const from = Math.max(lab.minute, (fromMs - lab.at(0)) / 60_000)
  const to = (toMs - lab.at(0)) / 60_000 + 5
  const capacity = new Map<ClassKey, number>()
  for (const [key, minutes] of free)
    if (wanted.some((kind) => matches(kind, classOf(key))))
      capacity.set(key, Math.min(...minutes.slice(from, to)))
  assert.ok(missing >= 1 && missing <= countWished(wanted), `${id} misses ${missing}`)
  // Machines that came back by an early check-in are noticed with the next healing.
  lab.heal()
  // Counted in steps of the grid, less may fit than minute by minute.
  if (lab.pool.gridSeconds === 60 && lab.reservations.get(id)?.atRisk)
    assert.equal(place(wanted, capacity), null, `${id} is at risk and fits`)
}

/** The book says the same as one that is built anew. */
function assertAsRebuilt(lab: BookedLab): void {
  const rebuilt = lab.rebuilt()
  for (const [key, { timeline, ready }] of lab.book.classes) {
    const steps = lab.book.withoutPromises(() => [...timeline.steps(lab.nowMs, null)])
    const other = rebuilt.classes.get(key)
    const empty = [{ fromMs: lab.nowMs, free: 0 }]
    assert.deepEqual(steps, [...(other?.timeline.steps(lab.nowMs, null) ?? empty)], key)
    assert.equal(ready, other?.ready ?? 0)
  }
}
