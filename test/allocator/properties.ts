/** What must hold of the allocator, whatever happens to a pool. Each property is a name and a check that throws. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { Book } from '../../src/domain/book.ts'
import { countByClass } from '../../src/domain/fit.ts'
import { isRefusal } from '../../src/domain/refusal.ts'
import { type Join, settle } from '../../src/domain/settle.ts'
import { place } from '../../src/domain/wish.ts'
import { kindOf, Lab, LIMITS } from '../support/lab.ts'
import { History, type HistoryPlan, planOf, WITH_FAILURES, WITHOUT_FAILURES } from './history.ts'
import { Counts, canPlace, grantable, isOverQuota, orderedRows, suits } from './oracle.ts'

/** What a check needs to see of the step before. */
interface Before {
  readonly v: number
  readonly departed: number
  readonly overdue: { readonly id: string; readonly fromMs: number } | null
}

const BATCHES = [1, 1, 8]

export interface Property {
  readonly what: string
  /** Throws when it finds a history that breaks it. */
  check(runs: number, seed: number): void
}

/** Beside a deliberate mistake it is enough to know that there is a history that breaks the property. */
const endOnFailure = process.env.BERTH_MUTANT !== undefined

function assertProperty(property: fc.IRawProperty<unknown>, numRuns: number, seed: number): void {
  fc.assert(property, { numRuns, seed, endOnFailure })
}

/** A property of random histories: what must hold whenever a batch has settled. */
function always(
  what: string,
  plans: fc.Arbitrary<HistoryPlan>,
  holds: (history: History, before: Before) => void,
): Property {
  const run = (plan: HistoryPlan) => {
    const history = new History(plan)
    let before = seen(history)
    for (const step of plan.steps) {
      const settled = history.take(step)
      if (settled) holds(history, before)
      if (settled) before = seen(history)
    }
  }
  return { what, check: (runs, seed) => assertProperty(fc.property(plans, run), runs, seed) }
}

function seen({ lab }: History): Before {
  const { v, departed } = lab.pool.queue
  const first = orderedRows(lab)[0]?.head
  const isOverdue = first?.due != null && first.due <= departed
  const promised = lab.book.promises.find(
    ({ requestId, kind }) => requestId === first?.id && kind === 'timed',
  )
  const overdue =
    isOverdue && first !== undefined && promised !== undefined
      ? { id: first.id, fromMs: promised.fromMs }
      : null
  return { v, departed, overdue }
}

/** What is free, without promises, by class: now, and whenever it changes. */
function freeIn(book: Book, nowMs: number): Record<string, (readonly [atMs: number, free: number])[]> {
  return book.withoutPromises(() =>
    Object.fromEntries(
      [...book.classes].map(([key, { timeline }]) => [
        key,
        [nowMs, ...timeline.changes(nowMs, null)].map((ms) => [ms, timeline.at(ms)] as const),
      ]),
    ),
  )
}

function orderIn(book: Book): string[] {
  const { departed } = book.pool.queue
  return [...book.queue.groups.values()]
    .flatMap((group) => [...group.rows.values()])
    .filter(({ parked }) => !parked)
    .sort((a, b) => book.queue.comparePlaces(a, b, departed))
    .map((row) => row.requests.map(({ id }) => id).join())
}

const requestIdsOf = (lab: Lab) => orderedRows(lab).map(({ requests }) => requests.map(({ id }) => id).join())

const OK = planOf(WITHOUT_FAILURES, BATCHES)
const ANY = planOf(WITH_FAILURES, BATCHES)
const ONE_BY_ONE = planOf(WITHOUT_FAILURES, [1])

export const PROPERTIES: Readonly<Record<string, Property>> = {
  book: always('a book says what its rows say, and what counting says', ANY, ({ lab }) => {
    const counts = new Counts(lab)
    const free = counts.changes(lab.nowMs)
    assert.deepEqual(freeIn(lab.book, lab.nowMs), free)
    const anew = lab.rebuilt()
    assert.deepEqual(freeIn(anew, lab.nowMs), free)
    assert.deepEqual(orderIn(lab.book), requestIdsOf(lab))
    assert.deepEqual(orderIn(anew), requestIdsOf(lab))
    // Another server knows the same, without having settled anything.
    assert.deepEqual(freeIn(lab.mirror, lab.nowMs), free)
    assert.deepEqual(orderIn(lab.mirror), requestIdsOf(lab))
    for (const [key, { ready }] of lab.book.classes) assert.equal(ready, counts.ready.get(key) ?? 0)
  }),

  kept: always('reservations and promises are never more than what is free', OK, ({ lab }) => {
    assert.equal(lab.missing, 0)
    const counts = new Counts(lab)
    for (const { kind, placement, fromMs, toMs } of lab.book.promises)
      if (kind === 'timed')
        for (const { classKey, count } of placement) counts.take(classKey, fromMs, toMs, count)
    for (const key of counts.classKeys) assert.ok(counts.lowest(key, lab.nowMs, null) >= 0, key)
  }),

  quota: always('nobody is granted more than their quota; who is over it is parked', ANY, ({ lab }) => {
    const { machinesMax } = lab.pool.quota
    for (const { requests, flow, parked } of [...lab.book.queue.groups.values()].flatMap((group) => [
      ...group.rows.values(),
    ])) {
      const held = [...lab.leases.values()].filter(
        ({ userId, request }) => userId === flow.userId && request !== null,
      )
      assert.ok(machinesMax === null || held.length <= machinesMax)
      assert.equal(parked, isOverQuota(lab, requests[0] ?? assert.fail()))
    }
    const perUser = Map.groupBy(lab.leases.values(), ({ userId }) => userId)
    for (const [userId, leases] of perUser)
      assert.ok(userId === 99 || machinesMax === null || leases.length <= machinesMax)
  }),

  complete: always('nobody waits for what could be granted', ANY, ({ lab }) => {
    assert.equal(grantable(lab), null)
  }),

  late: always(
    'only machines that are ready are granted, whatever should be by now',
    planOf({ ...WITH_FAILURES, checkIn: 0, late: 3 }, BATCHES),
    // A lab that is granted more than what is ready stops at once.
    ({ lab }) => {
      for (const { ready } of lab.book.classes.values()) assert.ok(ready >= 0)
    },
  ),

  steady: always(
    'the promise to the first overdue request does not move later',
    ONE_BY_ONE,
    ({ lab }, before) => {
      const { overdue } = before
      if (overdue === null || !lab.waiting.has(overdue.id)) return
      const { departed } = lab.pool.queue
      const request = lab.waiting.get(overdue.id)
      if (request?.due == null || request.due > departed) return
      const promised = lab.book.promises.find(({ requestId }) => requestId === overdue.id)
      if (orderedRows(lab)[0]?.head.id !== overdue.id) return
      assert.ok(
        promised !== undefined && promised.kind === 'timed' && promised.fromMs <= overdue.fromMs,
        `${overdue.id}: ${overdue.fromMs}, then ${promised?.kind} ${promised?.fromMs}`,
      )
    },
  ),

  offers: always('what is offered instead of an extension is accepted', ONE_BY_ONE, ({ lab, ...history }) => {
    const { refusedExtension } = history
    if (refusedExtension === null) return
    const { vmId, refusal } = refusedExtension
    const until = refusal.details.until as string | null
    if (until === null || !lab.leases.has(vmId)) return
    const minute = (Date.parse(until) - lab.at(0)) / 60_000
    assert.equal(lab.extend(vmId, minute), null)
  }),

  idempotent: always('settling twice is settling once', ANY, ({ lab }) => {
    const { book } = lab
    const state = () => ({
      // What fits only behind all promises is kept from two days from now on.
      promises: book.promises.map((promised) => (promised.kind === 'far' ? promised.requestId : promised)),
      queue: book.pool.queue,
      order: orderIn(book),
    })
    const before = state()
    book.settled = null
    const again = settle(book, [], lab.nowMs, LIMITS)
    assert.deepEqual(again.grants, [])
    assert.deepEqual(again.requests, [])
    assert.deepEqual(state(), before)
  }),

  monotone: always(
    'virtual time and departures never fall, and no tag that waits is behind them at its beginning',
    ANY,
    ({ lab }, before) => {
      const { v, departed } = lab.pool.queue
      assert.ok(v >= before.v && departed >= before.departed)
      assert.ok(v <= lab.book.queue.leastTag)
      const request = lab.request(77, { type: 'small', count: 5 })
      const book = lab.rebuilt()
      settle(book, [{ request, waits: true }], lab.nowMs, LIMITS)
      const row = book.queue.rowOf(request.id)
      if (row !== null && book.pool.queue.departed === departed) assert.equal(row.flow.tag, v)
    },
  ),

  cancel: always(
    'a cancelled request that is neither first nor promised anything moves nobody',
    ANY,
    ({ lab }) => {
      for (const { head, requests } of orderedRows(lab)) {
        const last = requests.at(-1)
        if (last === undefined || last.id === head.id) continue
        const before = orderIn(lab.book).map((ids) => withoutId(ids, last.id))
        lab.cancel(last.id)
        const settled = lab.settle()
        assert.deepEqual(settled.grants, [])
        assert.deepEqual(orderIn(lab.book), before)
        return
      }
    },
  ),

  refused: always('a request that was refused leaves everything as it was', ANY, ({ lab }) => {
    const all = (book: Book) => {
      const { promises, pool, queue } = book
      const { nextSeq: _, ...state } = pool.queue
      return { promises, state, order: orderIn(book), free: freeIn(book, lab.nowMs), size: queue.size }
    }
    const book = lab.rebuilt()
    settle(book, [], lab.nowMs, LIMITS)
    const before = all(book)
    const request = lab.request(78, { type: 'small', count: 4, minutes: 300 })
    const { refused, grants } = settle(book, [{ request, waits: false }], lab.nowMs, LIMITS)
    assert.equal(refused.length + grants.length, 1)
    if (refused.length === 1) assert.deepEqual(all(book), before)
  }),

  returned: always(
    'what is granted and given back at once leaves all as it was, but for cleaning',
    ANY,
    ({ lab }) => {
      const before = freeIn(lab.book, lab.nowMs)
      const tags = new Map(lab.flows)
      const { v } = lab.pool.queue
      const notices = lab.notices.length
      const stranger = 1_000 + lab.granted.length
      const told = lab.ask(stranger, { minutes: 30, waits: false })
      // By its departure somebody may be overdue, and get something or end a soft lease.
      if (told === null || isRefusal(told) || lab.notices.length > notices) return
      if (lab.last?.grants.length !== 1) return
      for (const vmId of told.vmIds) {
        lab.checkIn(vmId)
        lab.ready(vmId)
      }
      assert.deepEqual(freeIn(lab.book, lab.nowMs), before)
      assert.equal(lab.flows.get(stranger)?.tag, Math.max(v, lab.pool.queue.v))
      for (const [userId, { tag }] of tags)
        if (userId !== stranger) assert.equal(lab.flows.get(userId)?.tag, tag)
    },
  ),

  arrival: always('the order in which users join in one batch does not matter', ANY, ({ lab }) => {
    const joins: Join[] = [11, 12, 13, 14].map((userId, i) => ({
      request: lab.request(userId, {
        type: i % 2 === 0 ? 'small' : null,
        count: 1 + (i % 3),
        minutes: 30 * (i + 1),
      }),
      waits: i !== 1,
    }))
    const outcome = (order: readonly Join[]) => {
      const book = lab.rebuilt()
      const v = book.pool.queue.v
      for (const [i, { request }] of joins.entries()) book.queue.setTag(request.userId, v + 1 + i * 7)
      const settled = settle(book, order, lab.nowMs, LIMITS)
      return {
        granted: settled.grants.map(({ request, placement }) => [request.id, [...countByClass(placement)]]),
        refused: settled.refused.map(({ request }) => request.id).sort(),
        promises: book.promises,
      }
    }
    assert.deepEqual(outcome([...joins].reverse()), outcome(joins))
  }),

  place: {
    what: 'machines for a wish are found exactly when there are any',
    check(runs, seed) {
      const keys = ['small', 'large', 'small,os=debian', 'small,os=ubuntu', 'large,os=debian']
      const kind = fc.record({
        type: fc.constantFrom(null, 'small', 'large'),
        labels: fc.constantFrom({}, {}, { os: 'debian' }, { os: 'ubuntu' }),
        count: fc.integer({ min: 1, max: 3 }),
      })
      const wishes = fc.array(kind.map(kindOf), { minLength: 1, maxLength: 4 })
      const counts = fc.tuple(...keys.map(() => fc.integer({ min: -1, max: 3 })))
      const property = fc.property(wishes, counts, (wish, numbers) => {
        const capacity = new Map(keys.map((key, i) => [key, numbers[i] as number]))
        const placement = place(wish, capacity)
        assert.equal(placement !== null, canPlace(wish, capacity))
        if (placement === null) return
        for (const [key, count] of countByClass(placement)) assert.ok(count <= (capacity.get(key) ?? 0))
        for (const [i, { count }] of wish.entries()) {
          let placed = 0
          for (const part of placement) if (part.kind === i) placed += part.count
          assert.equal(placed, count)
        }
        for (const { kind: i, classKey, count } of placement)
          assert.ok(count > 0 && suits(wish[i] ?? assert.fail(), classKey))
      })
      assertProperty(property, runs * 10, seed)
    },
  },

  fair: {
    what: 'two users who always wait get shares that differ by at most what one request of each costs (Goyal)',
    check(runs, seed) {
      const minutes = fc.array(fc.integer({ min: 5, max: 60 }), { minLength: 60, maxLength: 60 })
      const priority = fc.constantFrom('low' as const, 'normal' as const, 'high' as const)
      const property = fc.property(minutes, minutes, priority, priority, (a, b, priorityA, priorityB) => {
        const lab = new Lab({ small: 1 }, { gridSeconds: 60, marginSeconds: 60 })
        const flows = [
          { userId: 1, lengths: a, priority: priorityA },
          { userId: 2, lengths: b, priority: priorityB },
        ]
        // Of one group: what is asked for is never longer than its step.
        for (const { userId, lengths, priority } of flows)
          for (const length of lengths) lab.join(userId, { minutes: 46 + (length % 15), priority })
        lab.settle()
        const share = [0, 0]
        const largest = [0, 0]
        for (let i = 0; i < 60; i++) {
          lab.advanceTo(lab.minute + 61)
          for (const [index, { userId, priority }] of flows.entries()) {
            const weight = lab.pool.weights[priority]
            const told = lab.granted.filter((granted) => granted.userId === userId)
            if (told.length === 60) return
            const costs = told.map(({ durationSeconds }) => (durationSeconds ?? 0) / 60 / weight)
            share[index] = costs.reduce((sum, cost) => sum + cost, 0)
            largest[index] = 60 / weight
          }
          const difference = Math.abs((share[0] ?? 0) - (share[1] ?? 0))
          assert.ok(
            difference <= (largest[0] ?? 0) + (largest[1] ?? 0),
            `after ${i} hours: ${share.join(' and ')}`,
          )
        }
      })
      assertProperty(property, Math.ceil(runs / 20), seed)
    },
  },

  step: {
    what: 'a promise holds for a machine that is back at any time within its step of the grid',
    check(runs, seed) {
      const property = fc.property(fc.integer({ min: 0, max: 9 }), (halves) => {
        const lab = new Lab({ small: 1 }, { gridSeconds: 300 })
        lab.lease(1, 50, 15)
        const patient = lab.join(1, { minutes: 30 })
        lab.settle()
        for (let from = 40; from < 70; from++) if (lab.reserve('small', 1, from, from + 60)) break
        lab.cleanMinutes = 5 + halves / 2
        lab.advanceTo(30)
        assert.equal(lab.toldOf(patient)?.atMinute, 20 + halves / 2)
      })
      assertProperty(property, Math.ceil(runs / 10), seed)
    },
  },

  prompt: {
    what: 'who becomes overdue by a grant comes before all that is granted after it',
    check(runs, seed) {
      const minutes = fc.integer({ min: 1, max: 25 })
      const property = fc.property(minutes, minutes, fc.boolean(), (length, more, first) => {
        const lab = new Lab({ small: 2, large: 1 }, { gridSeconds: 60 })
        lab.lease(1, 50, 30)
        lab.flows.set(3, { poolId: 1, userId: 3, tag: 1_000 })
        lab.flows.set(4, { poolId: 1, userId: 4, tag: first ? 500 : 2_000 })
        lab.book = lab.rebuilt()
        // It is promised both small machines when the first comes back,
        lab.join(1, { type: 'small', count: 2 })
        // this one makes the next overdue, whose lease would run into that promise,
        lab.join(2, { type: 'large' })
        const overdue = lab.join(3, { type: 'small', minutes: 30 + more, dueIn: 1 })
        // and this one would end before it.
        lab.join(4, { type: 'small', minutes: length })
        lab.settle()
        assert.equal(lab.toldOf(overdue)?.atMinute, 0)
      })
      assertProperty(property, Math.ceil(runs / 10), seed)
    },
  },

  aged: {
    what: 'a request that is passed by more than its bound is promised something, and granted',
    check(runs, seed) {
      const property = fc.property(
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 0, max: 9 }),
        (extra, odd) => {
          const lab = new Lab({ small: 2 }, { gridSeconds: 60 })
          lab.lease(1, 50, 30 + odd)
          lab.lease(2, 50, 40)
          // Somebody who has been given much, and then new users, all the time.
          lab.flows.set(1, { poolId: 1, userId: 1, tag: 1_000_000 })
          lab.book = lab.rebuilt()
          const patient = lab.join(1, { count: 2, minutes: 10 })
          lab.settle()
          const due = lab.waiting.get(patient)?.due ?? assert.fail('it has no due')
          const bound = due - lab.pool.queue.departed
          for (let user = 100; user < 300 && lab.waiting.has(patient); user++) {
            for (let i = 0; i < extra; i++) lab.join(user * 10 + i, { minutes: 30 })
            lab.settle()
            lab.advanceTo(lab.minute + 13)
          }
          const told = lab.toldOf(patient) ?? assert.fail('it was never granted')
          const before = lab.granted.indexOf(told)
          assert.ok(before <= bound + 2, `${before} were granted before it, ${bound} is its bound`)
        },
      )
      assertProperty(property, Math.ceil(runs / 50), seed)
    },
  },
}

function withoutId(ids: string, id: string): string {
  return ids
    .split(',')
    .filter((other) => other !== id)
    .join()
}
