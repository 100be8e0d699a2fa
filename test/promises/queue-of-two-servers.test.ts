/**
 * Two servers on one PostgreSQL and one small pool, and more clients than machines: who waits at one server is granted what came
 * back at the other, nobody ever has what somebody else holds, and what both have in memory of the pool is what its rows say.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { systemSchedule } from '../../src/cli/system.ts'
import { Book } from '../../src/domain/book.ts'
import type { Joined } from '../../src/domain/decision.ts'
import { isRefusal } from '../../src/domain/refusal.ts'
import { Needs } from '../../src/domain/working-set.ts'
import { simulatedProvider } from '../../src/provider/simulated.ts'
import { Books } from '../../src/service/books.ts'
import { Feed } from '../../src/service/feed.ts'
import { LANE_SETTINGS, Lane, Traffic } from '../../src/service/lane.ts'
import { openPostgresStore } from '../../src/store/postgres/store.ts'
import { startWorkers } from '../../src/worker/workers.ts'
import { auditPostgres } from '../support/audit.ts'
import { bookTexts } from '../support/book-texts.ts'
import { dropSchema, queryPostgres, temporarySchema, testPostgresUrl } from '../support/postgres.ts'
import { until } from '../support/server-process.ts'

const POOL_ID = 1
const MACHINES = 6
/** Of each server. */
const CLIENTS = 16
const ROUNDS = 6

/** A lane, its books and its workers, without anything above. */
async function startServer(schema: string) {
  const bugs: string[] = []
  const store = await openPostgresStore({
    urls: [testPostgresUrl()],
    schema,
    connectionsMax: 8,
    schedule: systemSchedule,
    stopwatch: () => performance.now(),
    randomBytes,
  })
  const { reads } = store
  const feed = new Feed(await reads.lastEventId(), () => reads.lastEventId())
  store.neighbours?.listen((news) => feed.heard(news))
  const books = new Books()
  const watcher = {
    committed(commit: Parameters<Feed['committed']>[0]) {
      feed.committed(commit)
      store.neighbours?.tell({ leftWork: commit.leftWork, accountsChanged: false })
    },
    failed: (_: unknown, error: unknown) => void bugs.push(String(error)),
  }
  const lane = new Lane(store, systemSchedule, watcher, LANE_SETTINGS, new Traffic(), books)
  const { sleep } = systemSchedule
  const provider = simulatedProvider({ seed: 1, delayMs: 5, faultRate: 0, sleep })
  const workers = startWorkers({
    submit: lane.submit,
    reads,
    feed,
    schedule: systemSchedule,
    tokens: { takeUses: () => [] },
    providers: new Map([[provider.name, provider]]),
    callMsMax: 5_000,
    failed: (name, error) => void bugs.push(`${name}: ${error}`),
  })
  const stop = async () => {
    await workers.stop()
    await lane.drain()
    await store.close()
  }
  return { store, lane, reads, books, bugs, stop }
}

type Server = Awaited<ReturnType<typeof startServer>>

/** Users with a pool of machines that are ready. Returns the users' ids. */
async function found({ lane, reads }: Server): Promise<number[]> {
  const account = { mayBeFirst: true, name: 'User', passwordHash: 'hash', requestId: '' }
  const admin = { userId: 1, credentialVersion: 1 }
  const userIds: number[] = []
  for (let i = 0; i < 2 * CLIENTS; i++) {
    const role = i === 0 ? 'admin' : 'user'
    const email = `user${i}@example.org`
    const actor = i === 0 ? null : admin
    const answer = await lane.submit({ kind: 'createUser', actor, email, role, ...account } as const)
    assert.ok(!isRefusal(answer), JSON.stringify(answer))
    userIds.push(answer.user.id)
  }
  const policy = {
    typeMix: { small: 1, large: 1 },
    cleaning: 'automatic',
    gridSeconds: 1,
    marginSeconds: 1,
  } as const
  const size = {
    pool: 'default',
    size: MACHINES,
    policy: { ...policy, provider: 'simulated' },
    requestId: '',
  }
  assert.ok(!isRefusal(await lane.submit({ kind: 'sizePool', actor: admin, ...size })))
  await until(async () => (await reads.pool(POOL_ID))?.stats.free === MACHINES)
  return userIds
}

/** Who holds which machine, as far as clients were told and have not given back. */
class Hands {
  readonly #holders = new Map<number, number>()

  take(vmId: number, userId: number): void {
    const holder = this.#holders.get(vmId)
    assert.equal(
      holder,
      undefined,
      `machine ${vmId} was given to user ${userId}, and user ${holder} holds it`,
    )
    this.#holders.set(vmId, userId)
  }

  giveBack(vmId: number): void {
    this.#holders.delete(vmId)
  }
}

/** One client: asks, waits, extends, gives back, again and again. Returns how many calls it made. */
async function use({ lane, reads }: Server, userId: number, hands: Hands): Promise<number> {
  const actor = { userId, credentialVersion: 1 }
  let calls = 0
  for (let round = 0; round < ROUNDS; round++) {
    const id = `req-${userId}-${round}`
    const type = (userId + round) % 3 === 0 ? 'large' : null
    const count = (userId + round) % 5 === 0 ? 2 : 1
    const heartbeatSeconds = round === 3 && userId % 8 === 0 ? 1 : null
    const answer = await lane.submit({
      kind: 'join',
      actor,
      id,
      pool: 'default',
      wish: [{ type, labels: {}, vmId: null, count }],
      terms: {
        durationSeconds: round % 2 === 0 ? 600 : 1_200,
        durationSecondsMin: null,
        softGraceSeconds: null,
        heartbeatSeconds,
        purpose: null,
        labels: {},
      },
      priority: 'normal',
      waitSeconds: null,
      requestId: id,
    })
    assert.ok(!isRefusal(answer), JSON.stringify(answer))
    calls++
    const held = await leasesOf(answer, async () => (await reads.request(id))?.leases ?? [])
    // One that sends no heartbeats leaves its machines to the workers.
    if (heartbeatSeconds !== null) continue
    for (const { vmId } of held) hands.take(vmId, userId)
    for (const lease of held) {
      const call = { actor, ...lease, ifGeneration: lease.generation, requestId: '' }
      const extended = await lane.submit({
        kind: 'extendLease',
        ...call,
        to: { bySeconds: 60 },
        override: false,
      })
      const code = isRefusal(extended) ? extended.code : 'extended'
      assert.ok(['extended', 'extension_promised'].includes(code), code)
      hands.giveBack(lease.vmId)
      const released = await lane.submit({ kind: 'releaseLease', ...call, reason: null })
      assert.ok(!isRefusal(released), JSON.stringify(released))
      const again = await lane.submit({ kind: 'releaseLease', ...call, reason: null })
      assert.ok(isRefusal(again) && again.code === 'lease_over', JSON.stringify(again))
      calls += 3
    }
  }
  return calls
}

/** What somebody was granted, at once or after waiting. */
async function leasesOf(
  { leases }: Joined,
  granted: () => Promise<readonly { readonly vmId: number; readonly generation: number }[]>,
) {
  if (leases !== null) return leases.map(({ vm: { id: vmId, generation } }) => ({ vmId, generation }))
  for (;;) {
    const found = await granted()
    if (found.length > 0) return found
    await setTimeout(5)
  }
}

/** What a server has in memory of the pool, brought up to now, and what it would read. */
async function bookTextsOf({ store, books }: Server) {
  const kept = new Needs()
  kept.poolIds.add(POOL_ID)
  kept.books.add('default')
  for (const [poolId, version] of books.versions()) kept.bookVersions.set(poolId, version)
  assert.ok(kept.bookVersions.has(POOL_ID), 'the server has no book')
  const batch = await store.begin(kept)
  const { nowMs } = batch.rows
  const [followed] = batch.rows.books
  assert.ok(followed !== undefined && followed.whole === null, 'the book was read anew')
  const inMemory = bookTexts(books.current(followed, nowMs), nowMs)
  const { books: wholes } = await batch.more({
    books: [[POOL_ID, 0]],
    ready: [],
    vmIds: [],
    userIds: [],
    usageOf: [],
  })
  await batch.release()
  const whole = wholes[0]?.whole
  assert.ok(whole, 'the book was not read')
  return { inMemory, read: bookTexts(Book.of(whole, nowMs), nowMs) }
}

describe('two servers on one small pool', () => {
  it('grant what comes back to whoever waits at either, and know the same', async () => {
    const schema = await temporarySchema()
    const servers = [await startServer(schema), await startServer(schema)]
    try {
      const [first] = servers as [Server]
      const userIds = await found(first)
      const hands = new Hands()
      const calls = await Promise.all(
        userIds.map((userId, i) => use(servers[i % servers.length] as Server, userId, hands)),
      )
      assert.ok(calls.reduce((sum, n) => sum + n, 0) > 400)
      await until(async () => (await first.reads.pool(POOL_ID))?.stats.free === MACHINES)
      const left = await queryPostgres("SELECT id, state FROM request WHERE state <> 'granted'", schema)
      assert.deepEqual(left, [])
      const [{ n } = {}] = await queryPostgres('SELECT count(*) AS n FROM request', schema)
      assert.ok(Number(n) > 50, `only ${n} requests have waited`)
      await auditPostgres(testPostgresUrl(), schema)
      for (const server of servers) {
        const { inMemory, read } = await bookTextsOf(server)
        assert.deepEqual(inMemory, read)
        assert.deepEqual(server.bugs, [])
      }
    } finally {
      for (const server of servers) await server.stop()
      await dropSchema(schema)
    }
  })
})
