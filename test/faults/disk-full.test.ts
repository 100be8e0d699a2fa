/**
 * The disk fills up under load: changes are refused as long as it is full, nothing that was answered is lost, and once there is
 * room again everything goes on by itself. The disk is a small file system in memory; only root may mount one, so this test
 * needs root.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmod, mkdtemp, open, rm, rmdir, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  acknowledgedByAll,
  onPostgres,
  onSqlite,
  SEED,
  startTrial,
  type Trial,
} from '../support/fault-trial.ts'
import { startOwnPostgres } from '../support/postgres-process.ts'
import { until } from '../support/server-process.ts'

const FULL_MS = 3_000
const DISK_FULL = /disk.*full/

const mounted = new Set<string>()
// After whatever was started on them has been ended.
after(async () => {
  for (const folder of mounted) {
    spawnSync('umount', ['--lazy', folder])
    await rmdir(folder)
  }
})

/** A file system of so many megabytes, in a folder of its own. */
async function smallDisk(megabytes: number): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-disk-'))
  const { status, stderr } = spawnSync(
    'mount',
    ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', folder],
    {
      encoding: 'utf8',
    },
  )
  assert.equal(status, 0, `this test needs root, to mount a file system: ${stderr}`)
  mounted.add(folder)
  await chmod(folder, 0o711)
  return folder
}

/** Fills what is left of the disk, again and again until `stop`, as whatever filled it would; then makes room. */
async function fill(folder: string, whileFull: () => Promise<void>): Promise<void> {
  const file = join(folder, 'ballast')
  const ballast = await open(file, 'w')
  const block = Buffer.alloc(4_096)
  let isFull = true
  const filling = (async () => {
    while (isFull) {
      const { bavail } = await statfs(folder)
      for (let i = 0; i < bavail; i++) if ((await ballast.write(block).catch(() => null)) === null) break
      await sleep(5)
    }
  })()
  try {
    await whileFull()
  } finally {
    isFull = false
    await filling
    await ballast.close()
    await rm(file)
  }
}

/** Refusals that say that the disk is full, so far. */
function refusedForTheDisk({ traffic }: Trial): number {
  return [...traffic.refusals].filter(([text]) => DISK_FULL.test(text)).reduce((sum, [, n]) => sum + n, 0)
}

describe(`the disk is full under load (seed ${SEED})`, () => {
  it('SQLite: changes are refused, reads go on', async (context) => {
    const disk = await smallDisk(24)
    const trial = await startTrial(onSqlite(join(disk, 'data')))
    const { servers, traffic } = trial
    await trial.during(() =>
      fill(disk, async () => {
        await until(() => refusedForTheDisk(trial) > 20)
        await sleep(FULL_MS)
        const [server] = servers
        assert.equal((await server?.call('GET', '/vmdetails'))?.status, 200)
        traffic.check()
      }),
    )
    context.diagnostic(await trial.finish())
  })

  it('PostgreSQL: changes are refused, reads go on, and it is started again when it gave up', async (context) => {
    const disk = await smallDisk(160)
    const postgres = await startOwnPostgres(
      ['-c', 'min_wal_size=32MB', '-c', 'max_wal_size=32MB', '-c', 'wal_recycle=off', '-c', 'autovacuum=off'],
      disk,
    )
    const trial = await startTrial(onPostgres(postgres.url))
    const { servers, traffic } = trial
    let starts = 0
    await trial.during(async () => {
      await fill(disk, async () => {
        await until(() => traffic.refusals.size > 0)
        await sleep(FULL_MS)
        if (postgres.isRunning())
          for (const server of servers) assert.equal((await server.call('GET', '/vmdetails')).status, 200)
      })
      // What its supervisor would do.
      if (!postgres.isRunning()) {
        await postgres.start()
        starts++
      }
    })
    await acknowledgedByAll(traffic, performance.now(), 10)
    for (const server of servers) assert.equal(await server.readiness(), 200)
    const said = [...traffic.refusals.keys()].map((text) => text.replace(/^.*?: /, '')).join('; ')
    context.diagnostic(`${await trial.finish()}; PostgreSQL started again ${starts} times; 503 said: ${said}`)
  })
})
