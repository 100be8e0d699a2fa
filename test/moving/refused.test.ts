/** What is not imported, and that nothing of it stays: into SQLite and into PostgreSQL alike. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { Needs, WorkingSet } from '../../src/domain/working-set.ts'
import { StoreRefusesToOpen } from '../../src/store/port.ts'
import { withFolder } from '../../src/store/sqlite/beside.ts'
import { openSqliteStore } from '../../src/store/sqlite/store.ts'
import { TransferRefused, type TransferRow, type TransferTable } from '../../src/store/transfer.ts'
import { exportFolder, exportSchema, importFolder, importSchema, textOf } from '../support/moving.ts'
import { queryPostgres, temporarySchema } from '../support/postgres.ts'
import { temporaryFolder } from '../support/server-process.ts'
import { aUser, NOW_MS } from '../support/world.ts'

const ROWS: Record<TransferTable, TransferRow[]> = {
  installation: [[1, 'open', 2, 9_001, 2, null, '{"small":{"vcpu":2,"memoryMb":8192}}']],
  user: [[1, 'Ada', 'ada@example.org', 'admin', 'hash', 1, 'active', NOW_MS, null]],
  token: [],
  pool: [
    [
      1,
      'default',
      9_000,
      '{"small":1}',
      'manual',
      'simulated',
      '{"small":{"ready":9000}}',
      NOW_MS,
      '{}',
      '{}',
    ],
  ],
  vm: Array.from({ length: 9_000 }, (_, i) => [
    ...[
      i + 1,
      1,
      `vm-${i + 1}`,
      'small',
      '',
      'running',
      'ready',
      0,
      null,
      null,
      null,
      0,
      null,
      0,
      null,
      NOW_MS,
      'small',
      null,
    ],
  ]),
  lease: [],
  request: [],
  flow: [],
  reservation: [],
  event: Array.from({ length: 5_000 }, (_, i) => [
    ...[i + 1, NOW_MS, 'vm.made', null, 1, null, null, null, null],
  ]),
}

/** An export of several slices. */
function anExport(rows: Partial<typeof ROWS> = {}): Promise<string> {
  const all = { ...ROWS, ...rows }
  return textOf({
    from: 'sqlite',
    migration: 1,
    async *rows(table) {
      yield all[table]
    },
  })
}

interface Target {
  import(text: string): Promise<unknown>
  export(): Promise<string>
}

const TARGETS: readonly (readonly [name: string, open: () => Promise<Target>])[] = [
  [
    'SQLite',
    async () => {
      const folder = await temporaryFolder()
      await withFolder(folder, NOW_MS, () => {})
      return { import: (text) => importFolder(folder, text), export: () => exportFolder(folder) }
    },
  ],
  [
    'PostgreSQL',
    async () => {
      const schema = await temporarySchema()
      const nothing = await temporaryFolder()
      await withFolder(nothing, NOW_MS, () => {})
      await importSchema(schema, await exportFolder(nothing))
      return { import: (text) => importSchema(schema, text), export: () => exportSchema(schema) }
    },
  ],
]

for (const [name, open] of TARGETS)
  describe(`into ${name}`, () => {
    it('an export that is wrong in its last lines leaves nothing, and a whole one can follow', async () => {
      const target = await open()
      const empty = await target.export()
      const text = await anExport()
      const lines = text.trimEnd().split('\n')
      const end = lines.at(-1) ?? ''
      for (const damaged of [
        text.slice(0, -300),
        text.slice(0, text.length / 2),
        `${lines.slice(0, -1).join('\n')}\n`,
        text.replace('"vm-8999"', '"vm-8x99"'),
        text.replace(end, end.replace(/"sha256":".{4}/, '"sha256":"0000')),
        `${text}[1]\n`,
        await anExport({
          event: ROWS.event.toSpliced(-1, 1, [4_999, 1, 'x', null, null, null, null, null, null]),
        }),
        await anExport({
          installation: [[1, 'open', 2, 9_000, 2, null, '{"small":{"vcpu":2,"memoryMb":8192}}']],
        }),
      ]) {
        await assert.rejects(target.import(damaged), TransferRefused)
        assert.equal(await target.export(), empty)
      }
      await target.import(text)
      assert.equal((await target.export()).split('\n').length, lines.length + 1)
    })

    it('nothing is imported where there is something', async () => {
      const target = await open()
      const text = await anExport()
      await target.import(text)
      const before = await target.export()
      await assert.rejects(
        target.import(text),
        (error: Error) => error instanceof TransferRefused && /is not empty/.test(error.message),
      )
      assert.equal(await target.export(), before)
    })

    it('of two imports at once one is done', async () => {
      const target = await open()
      const text = await anExport()
      const outcomes = await Promise.allSettled([target.import(text), target.import(text)])
      assert.deepEqual(outcomes.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
      assert.equal((await target.export()).split('\n').length, text.split('\n').length)
    })
  })

describe('nothing is imported', () => {
  it('into a folder that a server has', async () => {
    const folder = await temporaryFolder()
    const store = await openSqliteStore({ folder, now: () => NOW_MS, pause: () => setImmediate() })
    await assert.rejects(
      importFolder(folder, await anExport()),
      (error: Error) => error instanceof StoreRefusesToOpen && /in use by another/.test(error.message),
    )
    await store.close()
  })

  it('into a database of which only the event log is left', async () => {
    const folder = await temporaryFolder()
    const store = await openSqliteStore({ folder, now: () => NOW_MS, pause: () => setImmediate() })
    const batch = await store.begin(new Needs())
    const set = new WorkingSet(batch.rows)
    set.apply({ wipe: true, events: [{ type: 'installation.reset', actorId: null }] })
    await batch.commit(set)
    await store.close()
    await assert.rejects(importFolder(folder, await anExport()), /is not empty/)
  })

  it('into a PostgreSQL where somebody is adding the first user: it waits, and then refuses', async () => {
    const schema = await temporarySchema()
    const nothing = await temporaryFolder()
    await withFolder(nothing, NOW_MS, () => {})
    await importSchema(schema, await exportFolder(nothing))
    const { id, name, email, passwordHash } = aUser(1)
    const adding = queryPostgres(
      `BEGIN; SELECT 1 FROM installation FOR UPDATE; SELECT pg_sleep(0.7);
       INSERT INTO "user" VALUES (${id}, '${name}', '${email}', 'admin', '${passwordHash}', 1, 'active', 1);
       UPDATE installation SET next_user_id = 2; COMMIT`,
      schema,
    )
    await setTimeout(300)
    await assert.rejects(importSchema(schema, await anExport()), /is not empty/)
    await adding
    assert.equal((await queryPostgres('SELECT 1 FROM "user"', schema)).length, 1)
    assert.equal((await queryPostgres('SELECT 1 FROM vm', schema)).length, 0)
  })
})
