/**
 * Work that was under way when the process was killed is done in the end. The real server is killed while its provider is
 * making, cleaning or destroying machines; on the same folder a server starts whose clock runs faster, so that the claims of
 * the dead one run out within a test's patience; it brings every machine to where it belongs.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { auditDatabase, readDatabase } from '../support/audit.ts'
import { type ServerProcess, startServerProcess, temporaryFolder, until } from '../support/server-process.ts'
import { ADMIN, AS_ADMIN, startTestServer, type TestServer } from '../support/test-server.ts'
import { timeLapse } from '../support/time-lapse.ts'

/** A claim lasts the provider's time and 30 seconds more. */
const PROVIDER_SECONDS = 1
const SPEED = 40

/** Each call to the provider takes 200 to 600 ms, and fails on every third machine. */
const SLOW_AND_FAULTY = ['--simulated-delay-ms', '400', '--simulated-fault-rate', '0.3']

type Server = Pick<ServerProcess, 'call'>

interface Stats {
  readonly total: number
  readonly free: number
  readonly aside: number
  readonly held: number
}

async function stats(server: Server): Promise<Stats> {
  const { status, body } = await server.call('GET', '/create_resource_pool/basicstats')
  assert.equal(status, 200, JSON.stringify(body))
  const stats = body['Pool Stats']
  const total = Number(stats.total_VM_count_in_pool)
  const { free_VM_in_pool: free, VM_under_maintenance_in_Pool: aside, allocated_VM_in_Pool: held } = stats
  assert.equal(total, free + aside + held)
  return { total, free, aside, held }
}

function start(data: string, ...args: string[]): Promise<ServerProcess> {
  const seconds = ['--provider-seconds-max', `${PROVIDER_SECONDS}`]
  return startServerProcess({ data, args: [...seconds, '--pool-cleaning', 'automatic', ...args] })
}

/** Sends a call that will not be answered, because the server is killed before. */
function unanswered(server: ServerProcess, path: string, body: object): Promise<void> {
  return server.call('POST', path, { ...AS_ADMIN, ...body }).then(
    ({ status }) => assert.fail(`answered ${status}, although the server was to be killed before`),
    () => {},
  )
}

async function must(status: number, reply: ReturnType<Server['call']>): Promise<void> {
  const got = await reply
  assert.equal(got.status, status, JSON.stringify(got.body))
}

async function kill(server: ServerProcess): Promise<void> {
  server.kill('SIGKILL')
  assert.deepEqual(await server.exited, { code: null, signal: 'SIGKILL' }, server.stderr.join('\n'))
}

async function stop(server: ServerProcess): Promise<void> {
  server.kill('SIGTERM')
  assert.deepEqual(await server.exited, { code: 0, signal: null }, server.stderr.join('\n'))
}

/** Runs `work` with a server in time lapse on the folder, which has no faults any more; audits the folder before and after. */
async function withNextServer(data: string, work: (server: TestServer) => Promise<void>): Promise<void> {
  auditDatabase(data)
  const settings = { data, poolCleaning: 'automatic', providerSecondsMax: PROVIDER_SECONDS } as const
  const server = await startTestServer(settings, { schedule: timeLapse(SPEED) })
  try {
    await work(server)
  } finally {
    await server.stop()
  }
  auditDatabase(data)
}

/** The states of all machines in the database, with their numbers. */
function states(data: string): Record<string, number> {
  return readDatabase(data, (all) =>
    Object.fromEntries(
      all('SELECT state, count(*) AS n FROM vm GROUP BY state').map(({ state, n }) => [state, Number(n)]),
    ),
  )
}

/** How many machines of a state a worker has taken in hand and not reported on yet. */
function inHand(data: string, state: string): number {
  const soon = Date.now() + 10_000
  return readDatabase(
    data,
    (all) => all(`SELECT id FROM vm WHERE state = '${state}' AND due_at_ms > ${soon}`).length,
  )
}

/** How often each machine is named by events of a type whose data lists machines. */
function told(data: string, type: string): Map<number, number> {
  const counts = new Map<number, number>()
  const rows = readDatabase(data, (all) => all(`SELECT data FROM event WHERE type = '${type}'`))
  for (const { data } of rows)
    for (const [first, last] of JSON.parse(String(data)).vms as [number, number][])
      for (let id = first; id <= last; id++) counts.set(id, (counts.get(id) ?? 0) + 1)
  return counts
}

describe('killed while a pool grows to 300 machines', () => {
  const moments: Record<string, (stats: Stats) => boolean> = {
    'when all are planned and none is made': ({ total }) => total === 300,
    'when most are made and the others wait for another try': ({ free }) => free > 0,
  }
  for (const [moment, isNow] of Object.entries(moments))
    it(`${moment}: all are ready in the end, each made once`, async () => {
      const data = await temporaryFolder()
      const server = await start(data, ...SLOW_AND_FAULTY)
      await must(201, server.call('POST', '/user', ADMIN))
      const resize = unanswered(server, '/create_resource_pool', { pool_size: 300 })
      await until(async () => isNow(await stats(server)))
      await kill(server)
      await resize
      const { provisioning = 0, ready = 0 } = states(data)
      assert.ok(provisioning > 0, 'the server was killed too late')
      assert.equal(provisioning + ready, 300)
      await withNextServer(data, async (next) => {
        await until(async () => (await stats(next)).free === 300)
        assert.deepEqual(await stats(next), { total: 300, free: 300, aside: 0, held: 0 })
        assert.deepEqual((await next.call('GET', '/vmpoolsize')).body, { 'vm pool size': '300' })
        const rows = Object.values((await next.call('GET', '/vmdetails')).body.VM_details) as {
          vm_ip: string
          vm_Status: string
        }[]
        assert.equal(new Set(rows.map(({ vm_ip }) => vm_ip)).size, 300)
        assert.ok(rows.every(({ vm_Status }) => vm_Status === 'running'))
      })
      const once = Array.from({ length: 300 }, (_, i) => [i + 1, 1] as const)
      assert.deepEqual(told(data, 'vm.planned'), new Map(once))
      assert.deepEqual(
        [...told(data, 'vm.made')].sort(([a], [b]) => a - b),
        once,
      )
    })
})

it('killed while machines are cleaned: all are ready again in the end, each cleaned once', async () => {
  const data = await temporaryFolder()
  const machines = 40
  const first = await start(data)
  await must(201, first.call('POST', '/user', ADMIN))
  await must(201, first.call('POST', '/create_resource_pool', { ...AS_ADMIN, pool_size: machines }))
  const ids = Array.from({ length: machines }, (_, i) => i + 1)
  for (const vmid of ids) await must(201, first.call('POST', '/checkout_vm', { ...AS_ADMIN, vmid }))
  await stop(first)

  const server = await start(data, ...SLOW_AND_FAULTY)
  const half = ids.slice(0, machines / 2)
  await Promise.all(half.map((vmid) => must(201, server.call('POST', '/checkin_vm', { ...AS_ADMIN, vmid }))))
  await until(() => inHand(data, 'maintenance') > 0)
  await kill(server)
  assert.ok(inHand(data, 'maintenance') > 0, 'the server was killed too late')
  assert.equal(states(data).leased, machines / 2)

  await withNextServer(data, async (next) => {
    await until(async () => (await stats(next)).free === machines / 2)
    assert.deepEqual(await stats(next), { total: machines, free: half.length, aside: 0, held: half.length })
  })
  assert.deepEqual(
    [...told(data, 'vm.cleaned')].sort(([a], [b]) => a - b),
    half.map((id) => [id, 1]),
  )
})

it('killed while a pool shrinks: what was to go is gone in the end, and nothing else', async () => {
  const data = await temporaryFolder()
  const first = await start(data)
  await must(201, first.call('POST', '/user', ADMIN))
  await must(201, first.call('POST', '/create_resource_pool', { ...AS_ADMIN, pool_size: 100 }))
  await stop(first)

  const server = await start(data, ...SLOW_AND_FAULTY)
  void server.call('POST', '/resizevmpool', { ...AS_ADMIN, pool_size: 30 }).catch(() => {})
  await until(() => inHand(data, 'deleting') === 70)
  await kill(server)
  assert.equal(inHand(data, 'deleting'), 70, 'the server was killed too late')

  await withNextServer(data, async (next) => {
    await until(() => (states(data).deleting ?? 0) === 0)
    assert.deepEqual(await stats(next), { total: 30, free: 30, aside: 0, held: 0 })
  })
  const gone = Array.from({ length: 70 }, (_, i) => [i + 31, 1])
  assert.deepEqual(
    [...told(data, 'vm.gone')].sort(([a], [b]) => a - b),
    gone,
  )
})
