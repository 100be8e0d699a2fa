/**
 * What workers make of providers that fail, hang, reject or answer late: when they try again, when they give up, and that
 * work whose worker is lost is taken up by another. All by a clock that the test moves, on a store in memory.
 */

import assert from 'node:assert/strict'
import { afterEach, describe, it } from 'node:test'
import { manualClock } from '../../test/support/manual-clock.ts'
import type { EventType } from '../domain/event.ts'
import { isRefusal, refusal } from '../domain/refusal.ts'
import type { MachineRef, MadeMachine, Outcome, Provider } from '../provider/port.ts'
import { type Berth, openBerth } from '../service/berth.ts'
import { LANE_SETTINGS, type Submit } from '../service/lane.ts'
import { openSqliteStore } from '../store/sqlite/store.ts'
import { startWorkers, type Workers } from './workers.ts'

type Verb = 'make' | 'clean' | 'destroy'

/** What a provider does with one machine: answers, never answers, or breaks off the whole call. */
type Doing = 'ok' | 'hang' | { fail: string; permanent?: boolean } | { reject: string } | { afterMs: number }

/** What it does at the nth call (from 0) for a machine. */
type Script = (verb: Verb, nth: number, vmId: number) => Doing

const CALL_MS_MAX = 10_000
const CLAIM_MS = CALL_MS_MAX + 30_000
const ADMIN = { userId: 1, credentialVersion: 1 }
const NO_DISK = { fail: 'no disk' }
/** Longer than all tries take. */
const LONG_MS = 60_000

interface Call {
  readonly verb: Verb
  readonly vmIds: readonly number[]
  readonly atMs: number
  readonly signal: AbortSignal
}

interface World {
  readonly berth: Berth
  readonly clock: ReturnType<typeof manualClock>
  /** Calls to the provider, as they came. */
  readonly calls: readonly Call[]
  /** What workers logged as failed. */
  readonly problems: readonly string[]
  workers(submit?: Submit): Workers
  /** Makes a pool of one machine or more; returns once nothing more happens without time passing. */
  pool(size?: number, name?: string): Promise<void>
  /** Takes a machine and gives it back. */
  use(vmId: number, pool?: string): Promise<void>
  state(vmId: number, pool?: string): Promise<string | undefined>
  /** When calls of a kind were made, in milliseconds from the first. */
  times(verb: Verb, vmId?: number): number[]
  /** The data of all events of these types. */
  told(...types: EventType[]): Promise<unknown[]>
  close(): Promise<void>
}

let worlds: World[] = []
afterEach(async () => {
  for (const world of worlds) await world.close()
  worlds = []
})

async function aWorld(script: Script = () => 'ok', poolsOf: Record<string, Script> = {}): Promise<World> {
  const clock = manualClock()
  const { schedule } = clock
  const store = await openSqliteStore({ folder: null, now: schedule.now, pause: schedule.pause })
  const typeMix = { small: 1 }
  const berth = await openBerth({
    store,
    schedule,
    randomBytes: (n) => Buffer.alloc(n),
    lane: LANE_SETTINGS,
    poolPolicy: { typeMix, cleaning: 'automatic', provider: 'scripted' },
    setupCode: () => null,
    allowReset: false,
    hashesMax: 1,
  })
  const calls: Call[] = []
  const problems: string[] = []
  const started: Workers[] = []
  const over = new AbortController()
  const scripts = { scripted: script, ...poolsOf }
  const providers = new Map(
    Object.entries(scripts).map(([name, script]) => [name, scripted(name, script, calls)] as const),
  )

  function scripted(name: string, script: Script, calls: Call[]): Provider {
    const seen = new Map<string, number>()
    async function act<Value>(
      verb: Verb,
      machines: readonly MachineRef[],
      signal: AbortSignal,
      value: (machine: MachineRef) => Value,
    ): Promise<Outcome<Value>[]> {
      calls.push({ verb, vmIds: machines.map(({ vmId }) => vmId), atMs: clock.passedMs, signal })
      const plan = machines.map((machine) => {
        const key = `${verb} ${machine.vmId}`
        const nth = seen.get(key) ?? 0
        seen.set(key, nth + 1)
        return { machine, doing: script(verb, nth, machine.vmId) }
      })
      const outcomes: Outcome<Value>[] = []
      for (const { machine, doing } of plan) {
        if (doing === 'hang') await schedule.sleep(10 * LONG_MS, over.signal)
        else if (doing === 'ok') outcomes.push({ ok: true, value: value(machine) })
        else if ('reject' in doing) throw new Error(doing.reject)
        else if ('fail' in doing)
          outcomes.push({ ok: false, failure: doing.fail, permanent: doing.permanent ?? false })
        else {
          await schedule.sleep(doing.afterMs, over.signal)
          outcomes.push({ ok: true, value: value(machine) })
        }
      }
      return outcomes
    }
    const made = ({ vmId }: MachineRef): MadeMachine => ({ name: `m-${vmId}`, address: `10.0.0.${vmId}` })
    return {
      name,
      make: (machines, signal) => act('make', machines, signal, made),
      clean: (machines, signal) => act('clean', machines, signal, () => null),
      destroy: (machines, signal) => act('destroy', machines, signal, () => null),
    }
  }

  const requestId = 'test'
  const person = { name: 'Ada', email: 'ada@example.org', role: 'admin', passwordHash: '' } as const
  await accepted(berth.submit({ kind: 'createUser', actor: null, mayBeFirst: true, ...person, requestId }))
  const world: World = {
    berth,
    clock,
    calls,
    problems,
    workers(submit = berth.submit) {
      const workers = startWorkers({
        submit,
        reads: berth.reads,
        feed: berth.feed,
        schedule,
        tokens: berth.tokens,
        providers,
        callMsMax: CALL_MS_MAX,
        failed: (name, error) => problems.push(`${name}: ${(error as Error).message}`),
      })
      started.push(workers)
      return workers
    },
    async pool(size = 1, name = 'default') {
      const provider = name in poolsOf ? name : 'scripted'
      const policy = { typeMix, cleaning: 'automatic', provider } as const
      await accepted(berth.submit({ kind: 'sizePool', actor: ADMIN, pool: name, size, policy, requestId }))
      await clock.advance(0)
    },
    async use(vmId, pool = 'default') {
      const taken = { kind: 'checkout', actor: ADMIN, pool, vmId, type: null, requestId } as const
      await accepted(berth.submit(taken))
      await accepted(berth.submit({ kind: 'checkIn', actor: ADMIN, vmId, generation: null, requestId }))
      await clock.advance(0)
    },
    async state(vmId, pool = 'default') {
      return (await berth.reads.vm(pool, vmId))?.state
    },
    times(verb, vmId) {
      const of = calls.filter(
        (call) => call.verb === verb && (vmId === undefined || call.vmIds.includes(vmId)),
      )
      return of.map(({ atMs }) => atMs - (of[0]?.atMs ?? 0))
    },
    async told(...types) {
      const events = await berth.reads.events({ afterId: 0, rowsMax: 10_000 })
      return events.filter(({ type }) => types.includes(type)).map(({ data }) => data)
    },
    async close() {
      over.abort()
      const stopped = Promise.all(started.map((workers) => workers.stop()))
      await clock.advance(LONG_MS)
      await stopped
      await store.close()
    },
  }
  worlds.push(world)
  return world
}

async function accepted<T>(answer: Promise<T>): Promise<T> {
  const reply = await answer
  assert.ok(!isRefusal(reply), JSON.stringify(reply))
  return reply
}

describe('a provider that fails', () => {
  it('is asked again after 1, 2, 4 and 8 seconds, and not after the fifth time: the machine is failed', async () => {
    const world = await aWorld((verb) => (verb === 'make' ? NO_DISK : 'ok'))
    world.workers()
    await world.pool()
    await world.clock.advance(LONG_MS)
    assert.deepEqual(world.times('make'), [0, 1_000, 3_000, 7_000, 15_000])
    assert.equal(await world.state(1), 'failed')
    assert.deepEqual(await world.told('vm.failed'), [{ failure: 'no disk' }])
    assert.deepEqual(
      await world.told('vm.work_failed'),
      [1, 2, 3, 4].map((attempt) => ({ failure: 'no disk', attempt })),
    )
    assert.deepEqual(world.problems, [])
  })

  it('and then works makes the machine ready; the next piece of work has five tries again', async () => {
    const world = await aWorld((verb, nth) => {
      if (verb === 'make') return nth < 4 ? NO_DISK : 'ok'
      return nth < 3 ? { fail: 'no network' } : 'ok'
    })
    world.workers()
    await world.pool()
    await world.clock.advance(14_999)
    assert.equal(await world.state(1), 'provisioning')
    await world.clock.advance(1)
    assert.equal(await world.state(1), 'ready')
    await world.use(1)
    assert.equal(await world.state(1), 'maintenance')
    await world.clock.advance(LONG_MS)
    assert.deepEqual(world.times('clean'), [0, 1_000, 3_000, 7_000])
    assert.equal(await world.state(1), 'ready')
    assert.deepEqual(await world.told('vm.failed'), [])
  })

  it('on some machines of a call is asked again for those alone', async () => {
    const world = await aWorld((_verb, nth, vmId) => (vmId === 2 && nth === 0 ? NO_DISK : 'ok'))
    world.workers()
    await world.pool(3)
    assert.deepEqual(await Promise.all([1, 2, 3].map((vmId) => world.state(vmId))), [
      'ready',
      'provisioning',
      'ready',
    ])
    await world.clock.advance(1_000)
    assert.deepEqual(
      world.calls.map(({ vmIds }) => vmIds),
      [[1, 2, 3], [2]],
    )
    assert.equal(await world.state(2), 'ready')
  })

  it('for good is not asked again: the machine is failed at once', async () => {
    const world = await aWorld(() => ({ fail: 'no such image', permanent: true }))
    world.workers()
    await world.pool()
    await world.clock.advance(LONG_MS)
    assert.deepEqual(world.times('make'), [0])
    assert.equal(await world.state(1), 'failed')
    assert.deepEqual(await world.told('vm.failed', 'vm.work_failed'), [{ failure: 'no such image' }])
  })

  it('to destroy is asked for ever, each 5 minutes in the end, whatever it says', async () => {
    const fails = 11
    const world = await aWorld((verb, nth) =>
      verb === 'destroy' && nth < fails ? { fail: 'it will not go', permanent: true } : 'ok',
    )
    world.workers()
    await world.pool()
    await world.pool(0)
    await world.clock.advance(20 * LONG_MS)
    const times = world.times('destroy')
    assert.deepEqual(
      times.slice(1).map((atMs, i) => atMs - (times[i] ?? 0)),
      [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300].map((seconds) => seconds * 1_000),
    )
    assert.deepEqual(await world.told('vm.gone'), [{ vms: [[1, 1]] }])
    assert.deepEqual(await world.told('vm.failed'), [])
    assert.equal((await world.berth.reads.poolNamed('default'))?.stats.existing, 0)
  })

  it('is asked by nobody when this server does not have it: the machine is failed with that reason', async () => {
    const world = await aWorld()
    world.workers()
    const policy = { typeMix: { small: 1 }, cleaning: 'automatic', provider: 'elsewhere' } as const
    const sized = { actor: ADMIN, pool: 'far', size: 1, policy, requestId: 'test' }
    await accepted(world.berth.submit({ kind: 'sizePool', ...sized }))
    await world.clock.advance(LONG_MS)
    assert.deepEqual(world.calls, [])
    assert.equal(await world.state(1, 'far'), 'failed')
    assert.deepEqual(await world.told('vm.failed'), [{ failure: "this server has no provider 'elsewhere'" }])
  })
})

describe('a provider that does not answer as it should', () => {
  it('hangs: its time is over after the limit, it is told so, and the machine is tried again when its claim is over', async () => {
    const world = await aWorld((_verb, nth) => (nth === 0 ? 'hang' : 'ok'))
    world.workers()
    await world.pool()
    await world.clock.advance(CALL_MS_MAX - 1)
    assert.equal(world.calls[0]?.signal.aborted, false)
    await world.clock.advance(1)
    assert.equal(world.calls[0]?.signal.aborted, true)
    assert.equal(await world.state(1), 'provisioning')
    // It may still be acting: who comes sooner acts beside it.
    await world.clock.advance(CLAIM_MS - CALL_MS_MAX - 1)
    assert.deepEqual(world.times('make'), [0])
    await world.clock.advance(1)
    assert.deepEqual(world.times('make'), [0, CLAIM_MS])
    assert.equal(await world.state(1), 'ready')
    assert.deepEqual(await world.told('vm.work_failed'), [
      { failure: `no answer from the provider within ${CALL_MS_MAX} ms`, attempt: 1 },
    ])
  })

  it('ends soon after its time is over: the machine is tried again after the usual pause', async () => {
    const world = await aWorld((_verb, nth) => (nth === 0 ? { afterMs: CALL_MS_MAX + 500 } : 'ok'))
    world.workers()
    await world.pool()
    await world.clock.advance(CALL_MS_MAX + 1_500)
    assert.deepEqual(world.times('make'), [0, CALL_MS_MAX + 1_500])
    assert.equal(await world.state(1), 'ready')
  })

  it('rejects: that is a failure of every machine of the call', async () => {
    const world = await aWorld((_verb, nth) => (nth === 0 ? { reject: 'connection refused' } : 'ok'))
    world.workers()
    await world.pool(3)
    assert.deepEqual(
      await world.told('vm.work_failed'),
      [1, 2, 3].map(() => ({ failure: 'connection refused', attempt: 1 })),
    )
    await world.clock.advance(1_000)
    assert.deepEqual(world.calls.at(-1)?.vmIds, [1, 2, 3])
    assert.equal((await world.berth.reads.poolNamed('default'))?.stats.free, 3)
    assert.deepEqual(world.problems, [])
  })

  it('throws before it returns a promise: the same', async () => {
    const world = await aWorld()
    const broken = world.berth
    const fail = () => {
      throw new Error('out of memory')
    }
    const provider = { name: 'scripted', make: fail, clean: fail, destroy: fail } satisfies Provider
    const workers = startWorkers({
      ...{
        submit: broken.submit,
        reads: broken.reads,
        feed: broken.feed,
        schedule: world.clock.schedule,
        tokens: broken.tokens,
      },
      providers: new Map([[provider.name, provider]]),
      callMsMax: CALL_MS_MAX,
      failed: (_name, error) => assert.fail(String(error)),
    })
    await world.pool()
    await world.clock.advance(LONG_MS)
    assert.equal(await world.state(1), 'failed')
    assert.deepEqual(await world.told('vm.failed'), [{ failure: 'out of memory' }])
    const stopped = workers.stop()
    await world.clock.advance(0)
    await stopped
  })

  it('answers for fewer machines than it was asked about: the others count as failed', async () => {
    const world = await aWorld()
    const short: Provider = {
      name: 'scripted',
      make: async (machines) =>
        machines
          .slice(0, 1)
          .map(({ vmId }) => ({ ok: true, value: { name: `m-${vmId}`, address: '10.0.0.1' } })),
      clean: async () => [],
      destroy: async () => [],
    }
    const { berth, clock } = world
    const workers = startWorkers({
      ...{
        submit: berth.submit,
        reads: berth.reads,
        feed: berth.feed,
        schedule: clock.schedule,
        tokens: berth.tokens,
      },
      providers: new Map([[short.name, short]]),
      callMsMax: CALL_MS_MAX,
      failed: (_name, error) => assert.fail(String(error)),
    })
    await world.pool(2)
    assert.deepEqual([await world.state(1), await world.state(2)], ['ready', 'provisioning'])
    assert.deepEqual(await world.told('vm.work_failed'), [
      { failure: 'the provider did not answer for this machine', attempt: 1 },
    ])
    await clock.advance(1_000)
    assert.equal(await world.state(2), 'ready')
    const stopped = workers.stop()
    await clock.advance(0)
    await stopped
  })

  it('hangs on the machines of one pool: those of another go on', async () => {
    const world = await aWorld(() => 'ok', { stuck: (verb) => (verb === 'clean' ? 'hang' : 'ok') })
    world.workers()
    const machines = 12
    await world.pool(machines, 'stuck')
    await world.pool(1)
    const free = machines + 1
    assert.equal(await world.state(free), 'ready')
    // One by one, so that each is a call of its own.
    for (let vmId = 1; vmId <= machines; vmId++) await world.use(vmId, 'stuck')
    await world.use(free)
    assert.equal(await world.state(free), 'ready')
  })
})

describe('work whose worker is lost', () => {
  it('is taken up by another when its claim has run out', async () => {
    const world = await aWorld()
    world.workers()
    await world.pool()
    await world.use(1)
    await world.clock.advance(LONG_MS)
    assert.equal(await world.state(1), 'ready')
    const taken = { kind: 'checkout', actor: ADMIN, pool: 'default', vmId: 1, type: null } as const
    await accepted(world.berth.submit({ ...taken, requestId: 'test' }))
    const calls = world.calls.length
    // A worker elsewhere is quicker, and never comes back.
    const given = { kind: 'checkIn', actor: ADMIN, vmId: 1, generation: null, requestId: 'test' } as const
    const claim = {
      ...({ kind: 'claimWork', poolId: 1, state: 'maintenance' } as const),
      ...{ machinesMax: 10, claimMs: CLAIM_MS },
    }
    const [, { claimed }] = await Promise.all([
      accepted(world.berth.submit(given)),
      accepted(world.berth.submit(claim)) as Promise<{ claimed: readonly unknown[] }>,
    ])
    assert.equal(claimed.length, 1)
    await world.clock.advance(CLAIM_MS - 1)
    assert.equal(world.calls.length, calls)
    assert.equal(await world.state(1), 'maintenance')
    await world.clock.advance(1)
    assert.equal(world.calls.length, calls + 1)
    assert.equal(await world.state(1), 'ready')
  })

  it('is given up after five claims that nobody reported', async () => {
    const world = await aWorld()
    await world.pool()
    const grown = { kind: 'growPool', poolId: 1, machinesMax: 1, claimMs: CLAIM_MS } as const
    await accepted(world.berth.submit(grown))
    const claim = {
      ...({ kind: 'claimWork', poolId: 1, state: 'provisioning' } as const),
      ...{ machinesMax: 10, claimMs: CLAIM_MS },
    }
    for (let i = 2; i <= 5; i++) {
      await world.clock.advance(CLAIM_MS)
      await accepted(world.berth.submit(claim))
      assert.equal(await world.state(1), 'provisioning')
    }
    world.workers()
    await world.clock.advance(CLAIM_MS)
    assert.deepEqual(world.calls, [])
    assert.equal(await world.state(1), 'failed')
    assert.deepEqual(await world.told('vm.failed'), [{ failure: 'no answer within the time limit' }])
  })

  it('and comes back late changes nothing: the machine is in the hands of another', async () => {
    const again = { afterMs: 8_000 }
    const world = await aWorld((_verb, nth) => (nth === 0 ? NO_DISK : nth === 1 ? again : 'ok'))
    // The reports of the first worker take longer than its claims last.
    const slow: Submit = async (command) => {
      if (command.kind === 'reportWork') await world.clock.schedule.sleep(CLAIM_MS + 5_000)
      return world.berth.submit(command)
    }
    const first = world.workers(slow)
    await world.pool()
    const stopped = first.stop()
    world.workers()
    await world.clock.advance(CLAIM_MS)
    assert.deepEqual(world.times('make'), [0, CLAIM_MS])
    const before = await world.berth.reads.lastEventId()
    await world.clock.advance(5_000)
    await stopped
    assert.equal(await world.berth.reads.lastEventId(), before)
    await world.clock.advance(3_000)
    assert.equal(await world.state(1), 'ready')
    await world.clock.advance(LONG_MS)
    assert.equal(world.calls.length, 2)
    assert.deepEqual(await world.told('vm.work_failed', 'vm.failed'), [])
  })

  it('and is told of its claim only when it is over begins nothing', async () => {
    const world = await aWorld()
    // The claim was committed at once; word of it is a second longer on its way than the claim lasts.
    const slow: Submit = async (command) => {
      const answer = await world.berth.submit(command)
      if (command.kind === 'growPool') await world.clock.schedule.sleep(CLAIM_MS + 1_000)
      return answer
    }
    world.workers(slow)
    await world.pool()
    await world.clock.advance(CLAIM_MS)
    assert.deepEqual([world.calls.length, await world.state(1)], [1, 'ready'])
    await world.clock.advance(LONG_MS)
    assert.equal(world.calls.length, 1, 'the provider made a machine that somebody may hold by now')
  })

  it('because its report could not be saved is logged, and done again when the claim has run out', async () => {
    const world = await aWorld()
    let lost = 0
    const away: Submit = async (command) => {
      if (command.kind === 'reportWork' && lost++ === 0) throw new Error('the disk is full')
      return world.berth.submit(command)
    }
    world.workers(away)
    await world.pool()
    assert.deepEqual(world.problems, ['fit: the disk is full'])
    assert.equal(await world.state(1), 'provisioning')
    await world.clock.advance(CLAIM_MS)
    assert.deepEqual(world.times('make'), [0, CLAIM_MS])
    assert.equal(await world.state(1), 'ready')
  })
})

describe('a report that the store cannot take', () => {
  it('is tried again until it can, so that the work is not done twice', async () => {
    const world = await aWorld()
    let refusals = 0
    const full: Submit = async (command) => {
      if (command.kind === 'reportWork' && refusals++ < 3)
        return refusal('store_unavailable', { reason: 'the disk is full' }) as never
      return world.berth.submit(command)
    }
    world.workers(full)
    await world.pool()
    assert.equal(await world.state(1), 'provisioning')
    await world.clock.advance(5_000)
    assert.equal(await world.state(1), 'ready')
    assert.deepEqual([world.times('make'), world.problems], [[0], []])
  })
})

describe('a machine that is removed while a worker is busy with it', () => {
  it('is destroyed only when that worker’s time is over, and what the worker says does not bring it back', async () => {
    const world = await aWorld((verb) => (verb === 'make' ? { afterMs: 5_000 } : 'ok'))
    world.workers()
    await world.pool()
    await world.clock.advance(2_000)
    await accepted(world.berth.submit({ kind: 'deleteVm', actor: ADMIN, vmId: 1, requestId: 'test' }))
    await world.clock.advance(CLAIM_MS - 2_001)
    assert.deepEqual(world.times('destroy'), [])
    assert.deepEqual(await world.told('vm.made'), [])
    await world.clock.advance(1)
    assert.deepEqual(world.times('destroy'), [0])
    assert.deepEqual(await world.told('vm.gone'), [{ vms: [[1, 1]] }])
    await world.clock.advance(LONG_MS)
    assert.deepEqual(world.times('make'), [0])
    assert.equal((await world.berth.reads.poolNamed('default'))?.stats.existing, 0)
  })
})

describe('workers that are told to stop', () => {
  it('wait a moment for a provider that hangs, and no longer', async () => {
    const world = await aWorld(() => 'hang')
    const workers = world.workers()
    await world.pool()
    let stopped = false
    void workers.stop().then(() => {
      stopped = true
    })
    await world.clock.advance(0)
    assert.ok(!stopped, 'the provider got no moment to end')
    await world.clock.advance(3_000)
    assert.ok(stopped, 'the stop waits until the time of the provider is over')
  })

  it('leave the machines of a call that does not end to nobody until its time is over', async () => {
    const world = await aWorld((_verb, nth) => (nth === 0 ? 'hang' : 'ok'))
    const workers = world.workers()
    await world.pool()
    const stopped = workers.stop()
    await world.clock.advance(3_000)
    await stopped
    world.workers()
    await world.clock.advance(CLAIM_MS - 4_000)
    assert.equal(world.calls.length, 1, 'another worker acts on a machine beside the one that hangs')
    await world.clock.advance(5_000)
    assert.deepEqual([world.calls.length, await world.state(1)], [2, 'ready'])
  })

  it('give the machines of a call that ends at once to others at once', async () => {
    const world = await aWorld((_verb, nth) => (nth === 0 ? { afterMs: 500 } : 'ok'))
    const workers = world.workers()
    await world.pool()
    const stopped = workers.stop()
    await world.clock.advance(500)
    await stopped
    world.workers()
    await world.clock.advance(1_000)
    assert.deepEqual([world.calls.length, await world.state(1)], [2, 'ready'])
  })

  it('do not count that against a machine: it is tried again, even if this was the last of its tries', async () => {
    const world = await aWorld((_verb, nth) => (nth < 4 ? NO_DISK : nth === 4 ? 'hang' : 'ok'))
    const workers = world.workers()
    await world.pool()
    await world.clock.advance(15_000)
    assert.equal(world.calls.length, 5)
    const stopped = workers.stop()
    await world.clock.advance(CLAIM_MS)
    await stopped
    assert.equal(await world.state(1), 'provisioning')
    world.workers()
    await world.clock.advance(LONG_MS)
    assert.equal(await world.state(1), 'ready')
  })

  it('begin no further slice', async () => {
    const world = await aWorld(() => ({ afterMs: 1 }))
    const workers = world.workers()
    await world.pool(5_000)
    const begun = world.calls.length
    const stopped = workers.stop()
    await world.clock.advance(LONG_MS)
    await stopped
    assert.equal(world.calls.length, begun)
  })
})
