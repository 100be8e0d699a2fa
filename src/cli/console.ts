/**
 * `npm run console`: a server in memory with some users and machines, and a prompt over its services. Time stands still
 * until it is moved: `clock.advance(60_000)`.
 */
import { start } from 'node:repl'
import { setImmediate } from 'node:timers/promises'
import { DEFAULT_POOL, EVEN_MIX } from '../domain/pool.ts'
import { simulatedProvider } from '../provider/simulated.ts'
import { createAccount } from '../service/account.ts'
import { openBerth } from '../service/berth.ts'
import type { Caller } from '../service/credentials.ts'
import { LANE_SETTINGS } from '../service/lane.ts'
import { setPoolSize } from '../service/pool-size.ts'
import type { Schedule } from '../service/schedule.ts'
import { openSqliteStore } from '../store/sqlite/store.ts'
import { startWorkers } from '../worker/workers.ts'
import { randomBytes } from './system.ts'

const STARTS_AT_MS = Date.UTC(2026, 0, 1, 9)
const MACHINES = 12

export async function runConsole(): Promise<void> {
  const clock = movableClock(STARTS_AT_MS)
  const store = await openSqliteStore({ folder: null, now: clock.schedule.now, pause: clock.schedule.pause })
  const berth = await openBerth({
    store,
    schedule: clock.schedule,
    randomBytes,
    lane: LANE_SETTINGS,
    poolPolicy: { typeMix: EVEN_MIX, cleaning: 'automatic', provider: 'simulated' },
    setupCode: () => null,
    allowReset: true,
    hashesMax: 1,
  })
  const { sleep } = clock.schedule
  const provider = simulatedProvider({ seed: 1, delayMs: 60_000, faultRate: 0, sleep })
  const workers = startWorkers({
    submit: berth.submit,
    reads: berth.reads,
    feed: berth.feed,
    schedule: clock.schedule,
    tokens: berth.tokens,
    providers: new Map([[provider.name, provider]]),
    callMsMax: 600_000,
    failed: (name, error) => process.stderr.write(`worker ${name}: ${String(error)}\n`),
  })
  const person = (name: string) =>
    ({ name, email: `${name}@example.org`, password: name, role: 'user' }) as const
  await createAccount(berth, null, person('ada'), true, 'console')
  const ada: Caller = { userId: 1, credentialVersion: 1, role: 'admin' }
  await createAccount(berth, ada, person('bob'), false, 'console')
  const bob: Caller = { userId: 2, credentialVersion: 1, role: 'user' }
  const sized = setPoolSize(berth, ada, DEFAULT_POOL, MACHINES, 'console')
  await clock.advance(120_000)
  await sized

  const requestId = 'console'
  const services = {
    berth,
    reads: berth.reads,
    clock,
    ada,
    bob,
    checkout: (actor: Caller, vmId: number | null = null, type = null) =>
      berth.submit({ kind: 'checkout', actor, pool: DEFAULT_POOL, vmId, type, requestId }),
    checkIn: (actor: Caller, vmId: number, generation: number | null = null) =>
      berth.submit({ kind: 'checkIn', actor, vmId, generation, requestId }),
    maintain: (actor: Caller, vmId: number, step: 'clean' | 'cordon' | 'uncordon' | 'retry') =>
      berth.submit({ kind: 'maintain', actor, vmId, step, requestId }),
    resize: (actor: Caller, size: number) => setPoolSize(berth, actor, DEFAULT_POOL, size, requestId),
    stats: async () => (await berth.reads.poolNamed(DEFAULT_POOL))?.stats,
    events: (afterId = 0) => berth.reads.events({ afterId, rowsMax: 50 }),
  }
  process.stdout.write(
    `A pool of ${MACHINES} machines, cleaned automatically (1 minute by the clock), an admin 'ada' and a user 'bob'.
Try: await checkout(bob) · await checkIn(bob, 1) · await stats() · await clock.advance(120_000) · await events()
All names: ${Object.keys(services).join(', ')}\n`,
  )
  const repl = start({ prompt: 'berth> ' })
  Object.assign(repl.context, services)
  repl.on('exit', async () => {
    const stopped = workers.stop()
    await clock.advance(3_600_000)
    await stopped
    await store.close()
  })
}

/** A clock that stands still until it is moved; sleepers wake when it passes their time. */
function movableClock(nowMs: number) {
  let now = nowMs
  const sleepers = new Set<{ atMs: number; wake: () => void }>()
  const schedule: Schedule = {
    now: () => now,
    sleep(ms, signal) {
      if (ms <= 0 || signal?.aborted) return Promise.resolve()
      return new Promise((resolve) => {
        const sleeper = {
          atMs: now + ms,
          wake() {
            sleepers.delete(sleeper)
            signal?.removeEventListener('abort', sleeper.wake)
            resolve()
          },
        }
        sleepers.add(sleeper)
        signal?.addEventListener('abort', sleeper.wake)
      })
    },
    pause: () => setImmediate(),
    random: () => 0.5,
  }

  /** Lets everything run that can run without time passing. */
  async function settle(): Promise<void> {
    for (let i = 0; i < 50; i++) await setImmediate()
  }

  return {
    schedule,
    get now() {
      return new Date(now).toISOString()
    },
    /** Moves the clock by `ms`, waking each sleeper at its time. */
    async advance(ms: number): Promise<string> {
      const until = now + ms
      for (;;) {
        await settle()
        const next = [...sleepers].sort((a, b) => a.atMs - b.atMs)[0]
        if (next === undefined || next.atMs > until) break
        now = next.atMs
        next.wake()
      }
      now = until
      await settle()
      return new Date(now).toISOString()
    },
  }
}
