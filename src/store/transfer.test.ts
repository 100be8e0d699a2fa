/** The lines of an export, and what is refused of them: by line and column, and before anything could be kept. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  exportText,
  TRANSFER_TABLES,
  TransferRefused,
  type TransferRow,
  type TransferTable,
} from './transfer.ts'
import { readExport } from './transfer-reader.ts'

const ROWS: Record<TransferTable, TransferRow[]> = {
  installation: [[1, 'open', 3, 4, 2, null, '{"small":{"vcpu":2,"memoryMb":8192}}']],
  user: [
    [1, 'Ada "the first"\nLovelace', 'ada@example.org', 'admin', '$argon2id$ada', 1, 'active', 5, null],
    [2, 'Bob ü 🚀 \u2028', 'ada@example.org', 'user', '$argon2id$bob', 3, 'gone', 6, '{"machinesMax":2}'],
  ],
  pool: [
    [
      ...[
        1,
        'default',
        2,
        '{"small":1}',
        'manual',
        'simulated',
        '{"small":{"ready":1},"small,os=x":{"leased":1}}',
        7,
      ],
      ...['{"warnSeconds":60}', '{"v":1.5,"waiting":1,"booked":1}'],
    ],
  ],
  token: [
    ['tok_01', 1, 'laptop', 'aa11', 1, 7, null, 8, null, null],
    ['tok_02', 2, 'ci', 'bb22', 3, 7, 9, null, 8, 'read'],
  ],
  vm: [
    [
      1,
      1,
      'vm-1',
      'small',
      '10.0.0.1',
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
      8,
      'small',
      null,
    ],
    [3, 1, 'vm-3', 'small', '', 'stopped', 'leased', 2, 1, 9, null, 7, 10, 1, 'no', 8, 'small,os=x', 90],
  ],
  lease: [
    [
      3,
      1,
      1,
      2,
      8,
      9,
      90,
      'expired',
      'req_1',
      null,
      null,
      30,
      60,
      null,
      1,
      1.5,
      2,
      'a run',
      '{"ci":"7"}',
      '[1]',
    ],
    [3, 2, 1, 1, 9, null, null, null, null, 'res_1', 300, null, null, null, 0, 0, 1, null, null, null],
  ],
  request: [
    [
      'req_1',
      1,
      2,
      1,
      '[]',
      '{}',
      'high',
      'granted',
      8,
      80,
      8,
      null,
      0,
      null,
      null,
      '[{"vmId":3,"generation":1}]',
    ],
    ['req_2', 1, 2, 2, '[]', '{}', 'normal', 'waiting', 9, null, null, 40, 1, 9, 'res_1', '[]'],
  ],
  flow: [[1, 2, 30.25]],
  reservation: [
    ['res_1', 1, 1, '[]', 100, 200, '[["small",1]]', 'active', 1, 1, 3, 60, 1, 'ser_1', 'a course', '{}', 9],
  ],
  event: [
    [1, 5, 'user.created', null, null, null, 1, 'req-1', null],
    [4, 9, 'vm.checked_out', 1, 1, 3, 1, null, '{"generation":2}'],
  ],
}

async function exported(rows: Partial<Record<TransferTable, TransferRow[]>> = {}): Promise<string> {
  const all = { ...ROWS, ...rows }
  const source = {
    from: 'sqlite',
    migration: 1,
    async *rows(table: TransferTable) {
      for (const row of all[table]) yield [row]
    },
  } as const
  let text = ''
  for await (const part of exportText(source, 1_000)) text += part
  return text
}

async function read(text: string | Uint8Array, bytes = 1_000_000) {
  const all = Buffer.from(text as string)
  async function* chunks() {
    for (let at = 0; at < all.length; at += bytes) yield all.subarray(at, at + bytes)
  }
  const rows: Record<string, TransferRow[]> = {}
  for await (const slice of readExport(chunks())) {
    const list = rows[slice.table] ?? []
    list.push(...slice.rows)
    rows[slice.table] = list
  }
  return rows
}

/** The one line that an export is refused with. */
async function refusal(text: string | Uint8Array): Promise<string> {
  const error: unknown = await read(text).then(
    () => assert.fail('it was taken'),
    (error) => error,
  )
  assert.ok(error instanceof TransferRefused, `${(error as Error).stack}`)
  assert.doesNotMatch(error.message, /\n/)
  return error.message
}

/** An export with other lines, and a footer that is right for them. */
function resealed(text: string, edit: (lines: string[]) => unknown): string {
  const lines = text.trimEnd().split('\n').slice(0, -1)
  edit(lines)
  const rows: Record<string, number> = {}
  let table = ''
  for (const line of lines.slice(1)) {
    const value = JSON.parse(line)
    if (Array.isArray(value)) rows[table] = (rows[table] ?? 0) + 1
    else {
      table = value.table
      rows[table] = 0
    }
  }
  const before = lines.map((line) => `${line}\n`).join('')
  const sha256 = createHash('sha256').update(before).digest('hex')
  return `${before}${JSON.stringify({ end: true, rows, sha256 })}\n`
}

describe('an export', () => {
  it('is read as it was written, however it is cut into chunks', async () => {
    const text = await exported()
    for (const bytes of [1, 2, 7, 100, 1_000_000]) assert.deepEqual(await read(text, bytes), ROWS)
  })

  it('is a header, each table with its columns and rows, and an end', async () => {
    const lines = (await exported()).trimEnd().split('\n')
    assert.equal(lines[0], '{"berth":"export","version":2,"exportedAtMs":1000,"from":"sqlite","migration":1}')
    assert.equal(
      lines[1],
      '{"table":"installation","columns":["id","state","next_user_id","next_vm_id","next_pool_id","reset","vm_types"]}',
    )
    assert.equal(lines[2], '[1,"open",3,4,2,null,"{\\"small\\":{\\"vcpu\\":2,\\"memoryMb\\":8192}}"]')
    const tables = lines.flatMap((line) => JSON.parse(line).table ?? [])
    assert.deepEqual(tables, [...TRANSFER_TABLES])
    assert.match(
      lines.at(-1) ?? '',
      /^{"end":true,"rows":{"installation":1,"user":2,"token":2,"pool":1,"vm":2,"lease":2,"request":2,"flow":1,"reservation":1,"event":2},"sha256":"[0-9a-f]{64}"}$/,
    )
  })

  it('is read in slices, each of one table', async () => {
    const event = Array.from(
      { length: 4_500 },
      (_, i): TransferRow => [...[i + 1, 9, 'vm.made', null, null, null, null, null, null]],
    )
    const text = await exported({ event })
    const sizes: number[] = []
    async function* chunks() {
      yield Buffer.from(text)
    }
    for await (const { table, rows } of readExport(chunks())) if (table === 'event') sizes.push(rows.length)
    assert.deepEqual(sizes, [2_000, 2_000, 500])
  })
})

describe('an export that is damaged is refused', () => {
  it('cut off anywhere', async () => {
    const bytes = Buffer.from(await exported())
    // The last newline says nothing more.
    for (let length = 0; length < bytes.length - 1; length++) await refusal(bytes.subarray(0, length))
    assert.equal(await refusal(''), 'the export is empty')
    const lines = `${bytes}`.split('\n')
    assert.equal(
      await refusal(`${lines.slice(0, 5).join('\n')}\n`),
      'the export ends in the middle: there is no end after line 5',
    )
  })

  it('with any byte changed', async () => {
    const bytes = Buffer.from(await exported())
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 2), fc.integer({ min: 1, max: 255 }), async (at, by) => {
        const damaged = Buffer.from(bytes)
        damaged[at] = (damaged[at] ?? 0) ^ by
        await refusal(damaged)
      }),
      { numRuns: 500 },
    )
  })

  it('with a line left out, doubled, or put elsewhere', async () => {
    const lines = (await exported()).split('\n').slice(0, -1)
    for (const at of lines.keys()) {
      await refusal(`${lines.toSpliced(at, 1).join('\n')}\n`)
      await refusal(`${lines.toSpliced(at, 0, lines[at] ?? '').join('\n')}\n`)
      const moved = lines.toSpliced(at, 1).toSpliced((at + 2) % lines.length, 0, lines[at] ?? '')
      await refusal(`${moved.join('\n')}\n`)
    }
  })

  for (const [what, edit, said] of [
    [
      'another checksum',
      (end: string) => end.replace(/"sha256":"../, '"sha256":"zz'),
      /the checksum is another/,
    ],
    ['no checksum', (end: string) => end.replace(/,"sha256":.*/, '}'), /the checksum is another/],
    [
      'another count',
      (end: string) => end.replace('"vm":2', '"vm":3'),
      /says that vm has 3 rows, and there are 2/,
    ],
    ['a count that is missing', (end: string) => end.replace('"vm":2,', ''), /says that vm has missing rows/],
    ['something behind it', (end: string) => `${end}\n[1]`, /^line 29 .*behind the end/],
    ['a second end behind it', (end: string) => `${end}\n${end}`, /^line 29 .*behind the end/],
  ] as const)
    it(`with an end that has ${what}`, async () => {
      const lines = (await exported()).trimEnd().split('\n')
      lines.push(edit(lines.pop() ?? ''))
      assert.match(await refusal(`${lines.join('\n')}\n`), said)
    })
})

describe('an export whose lines are wrong is refused, even with a right end', () => {
  const HEADER = 0
  const AT = {
    installation: 1,
    user: 3,
    token: 6,
    pool: 9,
    vm: 11,
    lease: 14,
    request: 17,
    flow: 20,
    reservation: 22,
    event: 24,
  }

  it('is not refused when nothing is', async () => {
    assert.deepEqual(await read(resealed(await exported(), () => {})), ROWS)
  })

  for (const [what, line, from, to, said] of [
    ['no export', HEADER, /^.*$/, '{"name":"berth"}', /^line 1 of the export: this is no export of Berth$/],
    ['a list first', HEADER, /^.*$/, '[]', /this is no export of Berth/],
    ['null first', HEADER, /^.*$/, 'null', /this is no export of Berth/],
    [
      'a newer format',
      HEADER,
      '"version":2',
      '"version":3',
      /newer Berth \(format 3, this program knows 2\)/,
    ],
    ['an older format', HEADER, '"version":2', '"version":1', /version is 1, and this program reads 2/],
    ['no version', HEADER, '"version":2,', '', /version is missing/],
    ['no time', HEADER, '1000', '"now"', /exportedAtMs is "now", no whole number/],
    ['another origin', HEADER, 'sqlite', 'mysql', /from is "mysql"/],
    ['no migration', HEADER, '"migration":1', '"migration":null', /migration is null/],
    ['an unknown table', AT.vm, '"vm"', '"machine"', /^line 12 .*: this program knows no table "machine"$/],
    ['a table out of order', AT.vm, '"vm"', '"lease"', /table lease stands where vm should/],
    [
      'an unknown column',
      AT.vm,
      '"claim"',
      '"claims"',
      /^line 12 .*: vm: this program knows no column "claims"$/,
    ],
    ['a missing column', AT.vm, '"claim",', '', /vm: there is no column claim/],
    [
      'columns in another order',
      AT.user,
      '"id","name"',
      '"name","id"',
      /user: its columns should be id, name, /,
    ],
    ['no columns', AT.user, /"columns".*]/, '"columns":7', /user: its columns are not named/],
    ['neither row nor table', AT.user, /^.*$/, '7', /^line 4 .*: it is no row, no table and no end$/],
    [
      'a short row',
      AT.user + 1,
      ',5,null]',
      ',5]',
      /^line 5 .*: a row of user has 9 values, and this one 8$/,
    ],
    ['a long row', AT.user + 1, ',5,null]', ',5,5,5]', /and this one 10$/],
    [
      'a text for a number',
      AT.vm + 1,
      '[1,1,',
      '[1,"1",',
      /^line 13 .*: vm\.pool_id is "1", no whole number$/,
    ],
    ['a fraction', AT.vm + 1, '[1,1,', '[1,1.5,', /vm\.pool_id is 1\.5, no whole number/],
    [
      'a number beyond 2^53',
      AT.vm + 1,
      ',8,"small"',
      ',9007199254740993,"small"',
      /vm\.created_at_ms is .*no whole number/,
    ],
    ['a number for a text', AT.vm + 1, '"vm-1"', '1', /vm\.name is 1, no text/],
    ['null where there must be something', AT.vm + 1, '"vm-1"', 'null', /vm\.name is null, no text/],
    ['an id of zero', AT.vm + 1, '[1,', '[0,', /vm\.id is 0, less than 1/],
    ['a negative count', AT.vm + 1, '"ready",0', '"ready",-1', /vm\.generation is -1, less than 0/],
    [
      'an unknown state',
      AT.vm + 1,
      '"ready"',
      '"idle"',
      /vm\.state is "idle", none of provisioning, ready, /,
    ],
    ['an unknown type', AT.vm + 1, '"small"', '"tiny"', /vm\.type is "tiny", none of small$/],
    ['an unknown role', AT.user + 1, '"admin"', '"root"', /user\.role is "root", none of admin, user/],
    [
      'a hash that is no text',
      AT.user + 1,
      '"$argon2id$ada"',
      '12345',
      /user\.password_hash is something else, no text/,
    ],
    ['half a character', AT.user + 1, 'Ada', '\\ud83d', /user\.name holds characters that cannot be stored/],
    ['a zero character', AT.user + 1, 'Ada', '\\u0000', /user\.name holds characters that cannot be stored/],
    [
      'a mix that is no JSON',
      AT.pool + 1,
      '{\\"small\\":1}',
      'small',
      /pool\.type_mix is not the text of a JSON object/,
    ],
    [
      'data that is a list',
      AT.event + 2,
      '{\\"generation\\":2}',
      '[]',
      /event\.data is not the text of a JSON object/,
    ],
    ['a token of nobody', AT.token + 1, '"tok_01",1', '"tok_01",9', /token\.user_id 9 is no user’s/],
    ['a token twice', AT.token + 2, 'tok_02', 'tok_01', /token\.id tok_01 does not ascend/],
    ['two tokens with one hash', AT.token + 2, 'bb22', 'aa11', /token\.hash of "tok_02" is another token’s/],
    ['an id twice', AT.vm + 2, '[3,', '[1,', /^line 14 .*: vm\.id 1 does not ascend$/],
    ['a lease twice', AT.lease + 2, '[3,2,', '[3,1,', /lease\.vm_id, generation 3, 1 does not ascend/],
    [
      'two users with one e-mail',
      AT.user + 2,
      '"gone"',
      '"active"',
      /user\.email .*is another active user’s/,
    ],
    ['a machine of no pool', AT.vm + 1, '[1,1,', '[1,2,', /vm\.pool_id 2 is no pool’s/],
    [
      'a machine that nobody holds',
      AT.vm + 2,
      '"leased",2,1',
      '"leased",2,null',
      /vm\.holder_id is null in state leased/,
    ],
    ['a holder who is nobody', AT.vm + 2, '"leased",2,1', '"leased",2,9', /vm\.holder_id 9 is no user’s/],
    ['a lease of nobody', AT.lease + 1, '[3,1,1,2,', '[3,1,1,9,', /lease\.user_id 9 is no user’s/],
    ['a flag that is neither', AT.lease + 1, 'null,1,1.5', 'null,2,1.5', /lease\.warned is 2, more than 1/],
    [
      'a charge that is no number',
      AT.lease + 1,
      '1,1.5,2',
      '1,"x",2',
      /lease\.charged_minutes is "x", no number/,
    ],
    [
      'a negative charge',
      AT.lease + 1,
      '1,1.5,2',
      '1,-1.5,2',
      /lease\.charged_minutes is -1\.5, less than 0/,
    ],
    [
      'an unknown end',
      AT.lease + 1,
      '"expired"',
      '"lost"',
      /lease\.ended_by is "lost", none of checked_in, /,
    ],
    [
      'a list that is none',
      AT.lease + 1,
      '"[1]"',
      '"{}"',
      /lease\.shared_with is not the text of a JSON list/,
    ],
    [
      'a machine in a class of another type',
      AT.vm + 1,
      '"small",null]',
      '"large",null]',
      /vm\.class "large" is none/,
    ],
    ['a request twice', AT.request + 2, '"req_2"', '"req_1"', /request\.id req_1 does not ascend/],
    ['a request of nobody', AT.request + 1, ',1,2,1,', ',1,9,1,', /request\.user_id 9 is no user’s/],
    ['a request in no pool', AT.request + 1, ',1,2,1,', ',9,2,1,', /request\.pool_id 9 is no pool’s/],
    [
      'a request that no longer waits',
      AT.request + 2,
      '"waiting"',
      '"expired"',
      /pool "default" counts 1 waiting requests, and there are 0/,
    ],
    ['a flow of nobody', AT.flow + 1, '[1,2,', '[1,9,', /flow\.user_id 9 is no user’s/],
    [
      'a reservation that is over',
      AT.reservation + 1,
      '"active"',
      '"ended"',
      /pool "default" counts 1 standing reservations, and there are 0/,
    ],
    [
      'a reservation of nobody',
      AT.reservation + 1,
      '"res_1",1,1,',
      '"res_1",1,9,',
      /reservation\.user_id 9 is no/,
    ],
    ['a lease in no pool', AT.lease + 1, '[3,1,1,', '[3,1,9,', /lease\.pool_id 9 is no pool’s/],
    [
      'another tally',
      AT.pool + 1,
      '\\"ready\\":1',
      '\\"ready\\":2',
      /pool "default" counts 2 small machines in state ready, and there are 1/,
    ],
    [
      'a lease that did not end',
      AT.lease + 1,
      '8,9,90',
      '8,null,90',
      /1 machines are held, and 2 leases have not ended/,
    ],
    [
      'ids that are in use',
      AT.installation + 1,
      '"open",3,',
      '"open",2,',
      /next_user_id is the id of a user/,
    ],
    [
      'machine ids that are in use',
      AT.installation + 1,
      '3,4,2',
      '3,3,2',
      /next_vm_id is the id of a machine/,
    ],
    ['pool ids that are in use', AT.installation + 1, '3,4,2', '3,4,1', /next_pool_id is the id of a pool/],
    ['another installation', AT.installation + 1, '[1,', '[2,', /installation\.id is not 1/],
  ] as const)
    it(what, async () => {
      const text = resealed(await exported(), (lines) => {
        const before = lines[line] ?? ''
        lines[line] = before.replace(from, to)
        assert.notEqual(lines[line], before, 'the test changes nothing')
      })
      assert.match(await refusal(text), said)
    })

  it('no installation at all', async () => {
    assert.match(await refusal(await exported({ installation: [] })), /there is no row of installation/)
  })

  it('bytes that are no text, or compressed, and never shows much of what it found', async () => {
    assert.match(await refusal(Buffer.from([0x1f, 0x8b, 8, 0])), /compressed: unpack it first/)
    assert.match(await refusal(Buffer.from([0x7b, 0xff, 0x0a])), /^line 1 .*no UTF-8/)
    const text = await exported({ event: [[1, 1, 'x'.repeat(10_000), null, null, null, null, 7, null]] })
    assert.ok((await refusal(text)).length < 200)
  })
})
