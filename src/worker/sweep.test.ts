/**
 * How workers go about their work: when they look again, what wakes them, what they do after a failure, and how they end.
 * By a clock that the test moves; nothing here takes real time.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { manualClock } from '../../test/support/manual-clock.ts'
import { aPool } from '../../test/support/world.ts'
import { poolStats } from '../domain/pool.ts'
import { type Refusal, refusal } from '../domain/refusal.ts'
import { FIRST_DAY } from '../domain/reset.ts'
import { Feed } from '../service/feed.ts'
import type { Submit } from '../service/lane.ts'
import type { Reads } from '../store/port.ts'
import { dueSweep } from './due.ts'
import { fitSweep } from './fit.ts'
import { type NextSweep, runSweep, type Sweep, Tasks } from './sweep.ts'

const WAKE: NextSweep = { at: 'wake' }
const ONCE: NextSweep = { at: 'once' }

/** Sweeps that would go round for ever without time passing are ended after so many rounds. */
const ROUNDS_MAX = 100

/** A sweep that runs by a clock, and notes when it ran. */
function running(run: (tasks: Tasks, nowMs: number) => Promise<NextSweep>) {
  const clock = manualClock()
  const feed = new Feed(0)
  const ending = new AbortController()
  const times: number[] = []
  const problems: string[] = []
  const sweep: Sweep = {
    name: 'test',
    run(tasks) {
      times.push(clock.passedMs)
      if (times.length >= ROUNDS_MAX) ending.abort()
      return run(tasks, clock.schedule.now())
    },
  }
  const ended = { yes: false }
  const done = runSweep(sweep, {
    feed,
    schedule: clock.schedule,
    signal: ending.signal,
    failed: (name, error) => void problems.push(`${name}: ${(error as Error).message}`),
  }).then(() => {
    ended.yes = true
  })
  return {
    clock,
    times,
    problems,
    ended,
    work: () => feed.committed({ lastEventId: 1, leftWork: true }),
    noWork: () => feed.committed({ lastEventId: 1, leftWork: false }),
    async stop() {
      ending.abort()
      await clock.advance(0)
      await done
    },
    /** Tells it to end, without waiting for it. */
    end: () => ending.abort(),
  }
}

/** A promise that is kept when it is told to. */
function gate() {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open: () => open() }
}

describe('a sweep', () => {
  it('runs again at once as long as it found something to do', async () => {
    let left = 3
    const sweep = running(async () => (left-- > 0 ? ONCE : WAKE))
    await sweep.clock.advance(0)
    assert.deepEqual(sweep.times, [0, 0, 0, 0])
    await sweep.stop()
  })

  it('that found nothing looks again after a second, in case it was not woken', async () => {
    const sweep = running(async () => WAKE)
    await sweep.clock.advance(3_500)
    assert.deepEqual(sweep.times, [0, 1_000, 2_000, 3_000])
    await sweep.stop()
  })

  it('that knows when something is due runs then, and at least each second', async () => {
    let dueInMs = 300
    const sweep = running(async (_tasks, nowMs) => {
      const atMs = nowMs + dueInMs
      dueInMs = 60_000
      return { atMs }
    })
    await sweep.clock.advance(2_400)
    assert.deepEqual(sweep.times, [0, 300, 1_300, 2_300])
    await sweep.stop()
  })

  it('whose time has come already runs at once', async () => {
    let late = 2
    const sweep = running(async () => (late-- > 0 ? { atMs: 0 } : WAKE))
    await sweep.clock.advance(0)
    assert.deepEqual(sweep.times, [0, 0, 0])
    await sweep.stop()
  })

  it('is woken by work, and sleeps through commits that left none', async () => {
    const sweep = running(async () => WAKE)
    await sweep.clock.advance(100)
    sweep.noWork()
    await sweep.clock.advance(100)
    sweep.work()
    await sweep.clock.advance(100)
    assert.deepEqual(sweep.times, [0, 200])
    await sweep.stop()
  })

  it('misses no work that comes while it looks', async () => {
    const looking = gate()
    let looks = 0
    const sweep = running(async () => {
      if (++looks === 1) await looking.opened
      return WAKE
    })
    await sweep.clock.advance(0)
    sweep.work()
    looking.open()
    await sweep.clock.advance(0)
    assert.deepEqual(sweep.times, [0, 0])
    await sweep.stop()
  })

  it('that fails is told of, and repeated after a pause', async () => {
    let failures = 2
    const sweep = running(async () => {
      if (failures-- > 0) throw new Error('the store is away')
      return WAKE
    })
    await sweep.clock.advance(1_400)
    assert.deepEqual(sweep.times, [0, 500, 1_000])
    assert.deepEqual(sweep.problems, ['test: the store is away', 'test: the store is away'])
    await sweep.stop()
  })
})

describe('what a sweep has started', () => {
  it('goes on beside it, and wakes it when it has ended', async () => {
    const task = gate()
    let started = false
    const sweep = running(async (tasks) => {
      if (!started) tasks.start('a', () => task.opened.then(() => true))
      started = true
      return WAKE
    })
    await sweep.clock.advance(400)
    assert.deepEqual(sweep.times, [0])
    task.open()
    await sweep.clock.advance(0)
    assert.deepEqual(sweep.times, [0, 400])
    await sweep.stop()
  })

  it('is told of when it fails, and is over then', async () => {
    let started = false
    const sweep = running(async (tasks) => {
      if (!started) tasks.start('a', () => Promise.reject(new Error('no disk')))
      started = true
      return WAKE
    })
    await sweep.clock.advance(0)
    assert.deepEqual(sweep.problems, ['test: no disk'])
    await sweep.stop()
  })

  it('is known by its key until it has ended', async () => {
    const tasks = new Tasks(() => {})
    const task = gate()
    assert.equal(tasks.has('a'), false)
    tasks.start('a', () => task.opened.then(() => true))
    assert.deepEqual([tasks.has('a'), tasks.has('b')], [true, false])
    task.open()
    await tasks.allEnded()
    assert.equal(tasks.has('a'), false)
  })
})

describe('ending a sweep', () => {
  it('wakes it from its sleep', async () => {
    const sweep = running(async () => WAKE)
    await sweep.clock.advance(100)
    await sweep.stop()
    assert.deepEqual([sweep.times, sweep.ended.yes], [[0], true])
  })

  it('wakes it from the pause after a failure', async () => {
    const sweep = running(() => Promise.reject(new Error('away')))
    await sweep.clock.advance(100)
    await sweep.stop()
    assert.deepEqual([sweep.times, sweep.clock.passedMs], [[0], 100])
  })

  it('waits for what it has started, and starts nothing more', async () => {
    const task = gate()
    const sweep = running(async (tasks) => {
      if (!tasks.has('a')) tasks.start('a', () => task.opened.then(() => true))
      return WAKE
    })
    await sweep.clock.advance(0)
    sweep.end()
    await sweep.clock.advance(5_000)
    assert.equal(sweep.ended.yes, false)
    task.open()
    await sweep.clock.advance(0)
    assert.equal(sweep.ended.yes, true)
    assert.equal(sweep.times.length, 1)
  })

  it('that was told to end before it began never looks', async () => {
    const clock = manualClock()
    const signal = AbortSignal.abort()
    const sweep: Sweep = { name: 'test', run: () => assert.fail('it looked') }
    await runSweep(sweep, { feed: new Feed(0), schedule: clock.schedule, signal, failed: () => {} })
  })
})

describe('the sweep that works off what is due', () => {
  it('does not ask again and again, without a pause, when by the clock of the store nothing is due yet', async () => {
    const pool = aPool({ target: 1 })
    const states = [{ type: 'small', state: 'maintenance', count: 1 } as const]
    const clock = manualClock()
    const reads = {
      pools: async () => [{ pool, stats: poolStats(pool, {}), states }],
      nextDueAtMs: async () => clock.schedule.now() - 1,
    } as Pick<Reads, 'pools' | 'nextDueAtMs'> as Reads
    let asked = 0
    const submit = (async () => {
      asked++
      return { pool, claimed: [] }
    }) as unknown as Submit
    const { signal: stopping } = new AbortController()
    const limits = { machinesMax: 10, claimMs: 1_000, callMsMax: 1_000, providers: new Map() }
    const sweep = dueSweep('maintenance', { ...limits, submit, reads, schedule: clock.schedule, stopping })
    const worker = running((tasks) => sweep.run(tasks))
    await worker.clock.advance(0)
    await worker.stop()
    assert.equal(asked, 1)
  })
})

describe('the sweep that fits pools', () => {
  /** Runs it over one pool whose every command gets `answer`; tells how often it asked before time passed. */
  async function asks(existing: number, target: number, answer: unknown): Promise<number> {
    const pool = aPool({ target })
    const reading = { pool, stats: { ...poolStats(pool, {}), existing }, states: [] }
    const reads = {
      installation: async () => FIRST_DAY,
      pools: async () => [reading],
    } as Pick<Reads, 'installation' | 'pools'> as Reads
    let asked = 0
    const submit = (async () => {
      asked++
      return answer
    }) as Submit
    const { signal: stopping } = new AbortController()
    const limits = { machinesMax: 10, claimMs: 1_000, callMsMax: 1_000, providers: new Map() }
    const clock = manualClock()
    const sweep = fitSweep({ ...limits, submit, reads, schedule: clock.schedule, stopping })
    const worker = running((tasks) => sweep.run(tasks))
    await worker.clock.advance(0)
    await worker.stop()
    return asked
  }

  const away: Refusal = refusal('store_unavailable', { reason: 'the disk is full' })

  it('does not ask again and again, without a pause, for a growth that is refused', async () => {
    const asked = await asks(0, 5, away)
    assert.ok(asked <= 4, `asked ${asked} times`)
  })

  it('does not ask again and again, without a pause, for a shrink that is refused', async () => {
    const asked = await asks(5, 0, away)
    assert.ok(asked <= 4, `asked ${asked} times`)
  })

  it('does not ask again and again, without a pause, for a shrink that nothing can be removed for', async () => {
    const asked = await asks(5, 4, { removed: 0 })
    assert.ok(asked <= 4, `asked ${asked} times`)
  })
})
