/** Which database the options name, and what is refused. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Command, CommanderError } from 'commander'
import { addDatabaseOptions, type DatabaseSettings } from './database-options.ts'

/** What a command is given for these words and this environment; else what it printed. */
async function settled(args: readonly string[], env: Record<string, string> = {}): Promise<unknown> {
  let said = ''
  let got: DatabaseSettings | null = null
  const command = addDatabaseOptions(new Command('test'))
    .exitOverride()
    .configureOutput({ writeErr: (text) => (said += text) })
    .action((settings: DatabaseSettings) => {
      got = settings
    })
  Object.assign(process.env, env)
  try {
    await command.parseAsync([...args], { from: 'user' })
    return got
  } catch (error) {
    assert.ok(error instanceof CommanderError && error.exitCode === 1, `${error}`)
    return said.trim()
  } finally {
    for (const name of Object.keys(env)) delete process.env[name]
  }
}

const NOTHING = { data: './data', database: null, databaseSchema: null }
const A = 'postgres://ada:secret@a/berth'
const B = 'postgresql://ada:secret@b/berth'

describe('the database that options name', () => {
  it('is a data folder unless another is named', async () => {
    assert.deepEqual(await settled([]), NOTHING)
    assert.deepEqual(await settled(['--data', 'x']), { ...NOTHING, data: 'x' })
    assert.deepEqual(await settled([], { BERTH_DATA: 'y' }), { ...NOTHING, data: 'y' })
  })

  it('is PostgreSQL at one URL or several, in a schema', async () => {
    assert.deepEqual(await settled(['--database', A]), { ...NOTHING, database: [A] })
    const both = { BERTH_DATABASE: `${A}, ${B}`, BERTH_DATABASE_SCHEMA: 'berth' }
    const expected = { ...NOTHING, database: [A, B], databaseSchema: 'berth' }
    assert.deepEqual(await settled([], both), expected)
    assert.deepEqual(await settled([], { ...both, BERTH_DATA: 'y' }), { ...expected, data: 'y' })
  })

  it('is the folder on the command line, whatever the environment says', async () => {
    assert.deepEqual(await settled(['--data', 'x'], { BERTH_DATABASE: A }), { ...NOTHING, data: 'x' })
  })

  it('is refused when the command line names two', async () => {
    assert.match(`${await settled(['--data', 'x', '--database', A])}`, /give one of them/)
  })

  for (const [what, value, part] of [
    ['another database', 'mysql://ada:secret@a/berth', /its value is not a URL like postgres/],
    ['a host alone', 'ada:secret@a', /its value is not a URL/],
    ['nothing', '', /its value is not a URL/],
    ['a port that is none', 'postgres://ada:secret@a:port/berth', /its value is not a URL/],
    ['one of two', `${A},secret`, /part 2 of its value/],
    ['a comma at the end', `${A},`, /part 2 of its value/],
  ] as const)
    it(`is refused without showing a password: ${what}`, async () => {
      for (const said of [
        await settled(['--database', value]),
        await settled([], { BERTH_DATABASE: value }),
      ]) {
        assert.match(`${said}`, /^error: option '--database <urls>' is invalid: /)
        assert.match(`${said}`, part)
        assert.doesNotMatch(`${said}`, /secret|\n/)
      }
    })

  it('is refused when the schema has no name, or one that PostgreSQL would cut off', async () => {
    for (const name of ['', ' ', 'ü'.repeat(32)])
      assert.match(`${await settled(['--database', A, '--database-schema', name])}`, /1 to 63 bytes/)
  })
})
