/**
 * Some hundreds of simulated schedules, each with faults of its own (the ten thousand are in test/faults), and that the
 * simulation can be believed: the same seed gives the same run, and runs get to where things go wrong.
 */
import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { decodeRecord, encodeRecord } from './choices.ts'
import { failureText } from './report.ts'
import { type RunResult, simulate } from './run.ts'
import { shrink } from './shrink.ts'

const SCHEDULES = 300
const STEPS = 400
/** How long a schedule that fails is shortened. */
const SHRINK_RUNS_MAX = 500

/** What some run has to get to; else a promise is not put to the test. */
const REACHED = [
  'a batch waits for a row',
  'a book follows another server’s batch',
  'a book is compared',
  'a late report',
  'a lease ends: expired',
  'a lease ends: heartbeat_missed',
  'a lease ends: no_show',
  'a reservation begins short',
  'a server crashes',
  'a server is frozen',
  'a server stops',
  'a server’s clock jumps',
  'an answer is given again',
  'the database’s clock jumps',
  'commit: conflict',
  'commit: found late',
  'commit: lost, done',
  'commit: lost, done later',
  'commit: lost, never done',
  'commit: unavailable',
  'event: installation.reset',
  'event: lease.ends_soon',
  'event: lease.extended',
  'event: lease.shared',
  'event: lease.wanted_back',
  'event: request.cancelled',
  'event: request.expired',
  'event: request.granted',
  'event: request.waiting',
  'event: reservation.at_risk',
  'event: reservation.cancelled',
  'event: reservation.confirmed',
  'event: reservation.ended',
  'event: reservation.no_show',
  'event: reservation.safe',
  'event: reservation.started',
  'event: user.changed',
  'event: user.gone',
  'event: vm.checked_in',
  'event: vm.checked_out',
  'event: vm.cleaned',
  'event: vm.cordoned',
  'event: vm.failed',
  'event: vm.gone',
  'event: vm.made',
  'event: vm.retried',
  'event: vm.returned',
  'event: vm.uncordoned',
  'event: vm.work_failed',
  'refused: caller_unknown',
  'refused: email_taken',
  'refused: extension_promised',
  'refused: extension_reserved',
  'refused: generation_stale',
  'refused: heartbeat_not_agreed',
  'refused: idempotency_key_reused',
  'refused: lease_over',
  'refused: lease_promised',
  'refused: lease_reserved',
  'refused: none_free',
  'refused: not_allowed',
  'refused: not_holder',
  'refused: password_wrong',
  'refused: request_over',
  'refused: reservation_full',
  'refused: reservation_over',
  'refused: resetting',
  'refused: series_full',
  'refused: store_unavailable',
  'refused: vm_busy',
  'refused: vm_not_free',
  'refused: vm_state_wrong',
  'refused: wish_impossible',
]

describe('simulated schedules', () => {
  const runs: RunResult[] = []

  before(async () => {
    for (let seed = 1; seed <= SCHEDULES; seed++) {
      const run = await simulate({ source: { seed }, steps: STEPS, store: null, faults: null, traced: false })
      runs.push(run)
      if (run.breach === null) continue
      const limits = { runsMax: SHRINK_RUNS_MAX, goOn: () => true }
      const shortest = await shrink(run, { store: null, faults: null }, limits)
      assert.fail(failureText({ seed, steps: STEPS, options: '', failed: run, shortest }))
    }
  })

  it('keep every promise', () => assert.equal(runs.length, SCHEDULES))

  it('run on the model of a shared database and on the real SQLite', () => {
    const kinds = new Set(runs.map(({ store }) => store))
    assert.deepEqual([...kinds].sort(), ['model', 'sqlite'])
  })

  for (const what of REACHED)
    it(`get to: ${what}`, () => assert.ok(runs.some(({ counts }) => (counts.get(what) ?? 0) > 0)))
})

describe('a simulated run', () => {
  for (const store of ['model', 'sqlite'] as const)
    it(`is the same each time, on ${store}`, async () => {
      for (let seed = 1; seed <= 8; seed++) {
        const settings = { source: { seed }, steps: STEPS, store, faults: null, traced: true } as const
        const [first, second] = [await simulate(settings), await simulate(settings)]
        assert.ok(first.lines.length > 50)
        assert.deepEqual(second.lines, first.lines)
        assert.equal(second.hash, first.hash)
      }
    })

  it('is another one with another seed', async () => {
    const hashes = new Set<string>()
    for (let seed = 1; seed <= 8; seed++)
      hashes.add(
        (await simulate({ source: { seed }, steps: 50, store: null, faults: null, traced: true })).hash,
      )
    assert.equal(hashes.size, 8)
  })

  it('can be replayed from the record of its choices', async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const first = await simulate({
        source: { seed },
        steps: STEPS,
        store: null,
        faults: null,
        traced: true,
      })
      const record = decodeRecord(encodeRecord(first.record))
      const again = await simulate({
        source: { record },
        steps: STEPS,
        store: null,
        faults: null,
        traced: true,
      })
      assert.deepEqual(again.lines, first.lines)
    }
  })

  it('of no choices at all is a calm one', async () => {
    const record = { plan: [], clients: [], order: [], faults: [] }
    const run = await simulate({ source: { record }, steps: STEPS, store: null, faults: null, traced: true })
    assert.equal(run.breach, null)
    assert.match(run.lines[0] ?? '', /faults: none/)
  })
})

describe('the record of a run', () => {
  it('is one word that keeps each choice', () => {
    const record = { plan: [0, 0, 0, 7], clients: [], order: [1, 0, 2], faults: [0] }
    const text = encodeRecord(record)
    assert.equal(text, 'z3,7//1,0,2/')
    assert.deepEqual(decodeRecord(text), { ...record, faults: [] })
  })

  it('is refused when it is none', () => {
    for (const text of ['', '1/2/3', 'a/b/c/d', '1/2/3/4/5'])
      assert.throws(() => decodeRecord(text), /no recorded schedule/)
  })
})
