/**
 * The catalogue of refusals and its page, docs/REFUSALS.md, held against each other in both directions: codes, statuses,
 * texts, waiting times, and what the original API answers instead. And what every refusal is like.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { REFUSAL_ANSWERS } from '../http/original/answers.ts'
import { isRefusal, REFUSALS, type RefusalCode, refusal } from './refusal.ts'

const page = readFileSync(new URL('../../docs/REFUSALS.md', import.meta.url), 'utf8')
const codes = Object.keys(REFUSALS) as RefusalCode[]

/** The cells of each row that begins with a code, without back-ticks, by the code. */
function rowsOf(markdown: string): Map<string, string[]> {
  const rows = new Map<string, string[]>()
  for (const line of markdown.split('\n')) {
    if (!line.startsWith('| `')) continue
    const [code = '', ...cells] = line.slice(1, -1).split('|').map(plain)
    assert.ok(!rows.has(code), `${code} is listed twice`)
    rows.set(code, cells)
  }
  return rows
}

function plain(cell: string): string {
  return cell.trim().replace(/^`(.*)`$/, '$1')
}

const [catalogue = '', ...rest] = page.split('\n## What the original API answers\n')
const original = rest.join('')

/** Details of which each shows its own name. */
const NAMES = new Proxy({}, { get: (_, name) => `<${String(name)}>` })

describe('docs/REFUSALS.md', () => {
  const rows = rowsOf(catalogue)

  it('lists every refusal of the catalogue', () => {
    assert.deepEqual(
      codes.filter((code) => !rows.has(code)),
      [],
    )
  })

  it('lists no refusal that the catalogue does not have', () => {
    assert.deepEqual(
      [...rows.keys()].filter((code) => !(code in REFUSALS)),
      [],
    )
  })

  for (const code of codes)
    it(`gives the status, the text and the waiting time of ${code}, and says when it happens`, () => {
      const [status, retryAfter, text, when] = rows.get(code) ?? assert.fail('not listed')
      const { message, ...expected } = refusal(code, NAMES as never)
      assert.equal(Number(status), expected.status)
      assert.equal(retryAfter, `${expected.retryAfterSeconds ?? ''}`)
      assert.equal(text, message)
      assert.ok(when !== undefined && when !== '')
    })

  it('gives for each call of the original API exactly the refusals that it answers in its own words', () => {
    const sections = new Map(
      original
        .split('\n### ')
        .slice(1)
        .map((section) => [section.split('\n', 1)[0], rowsOf(section)] as const),
    )
    assert.deepEqual([...sections.keys()].sort(), Object.keys(REFUSAL_ANSWERS).sort())
    for (const [call, answers] of Object.entries(REFUSAL_ANSWERS)) {
      const expected = Object.entries(answers).map(([code, { status, body }]) => [
        code,
        [`${status}`, JSON.stringify(body)],
      ])
      assert.deepEqual(Object.fromEntries(sections.get(call) ?? []), Object.fromEntries(expected), call)
    }
  })
})

describe('a refusal', () => {
  it('is told from every reply, and from what is no object', () => {
    for (const code of codes) assert.equal(isRefusal(refusal(code, NAMES as never)), true)
    for (const value of [null, undefined, 'text', 7, {}, { code: 1 }, { user: {} }, []])
      assert.equal(isRefusal(value), false)
  })

  it('has an HTTP status of the sender’s or the server’s fault, and a wait only where trying again can help', () => {
    for (const code of codes) {
      const { status, retryAfterSeconds } = refusal(code, NAMES as never)
      assert.ok(status >= 400 && status < 600)
      if (status === 429 || status === 503) assert.ok(retryAfterSeconds !== null && retryAfterSeconds > 0)
    }
  })

  it('carries what its text was made of', () => {
    const details = { vmId: 3, generation: 2 }
    const no = refusal('generation_stale', details)
    assert.deepEqual(no.details, details)
    assert.equal(no.message, 'generation 2 of machine 3 is over: the machine has been leased again since')
    assert.deepEqual(refusal('no_users').details, {})
  })

  it('leaves out a value that must not be shown, and a type that was not asked for', () => {
    const hidden = refusal('field_invalid', { field: 'password', value: null, allowed: 'a text' })
    assert.equal(hidden.message, 'password must be a text')
    const any = refusal('none_free', { pool: 'default', type: null })
    assert.equal(any.message, 'no machine of pool "default" is free')
  })

  it('quotes any value whatever it is, cut to a bearable length', () => {
    for (const [value, quoted] of [
      [undefined, 'undefined'],
      [Number.NaN, 'null'],
      [{ a: [1] }, '{"a":[1]}'],
      [12n, 'bigint'],
      ['x'.repeat(5_000), `"${'x'.repeat(99)}…`],
    ] as const) {
      const { message } = refusal('vm_unknown', { vmId: value })
      assert.equal(message, `vmid ${quoted} is no machine`)
    }
  })

  it('quotes any value in one line of well-formed text of bearable length', () => {
    fc.assert(
      fc.property(fc.oneof(fc.anything(), fc.string({ unit: 'binary', maxLength: 300 })), (value) => {
        const { message } = refusal('field_invalid', { field: 'f', value, allowed: 'a text' })
        assert.ok(message.length < 200)
        assert.ok(message.isWellFormed())
        assert.ok(!message.includes('\n'))
      }),
      { numRuns: 150 },
    )
  })

  it('quotes long text without cutting a character in two', () => {
    const emoji = String.fromCodePoint(0x1f600)
    for (const text of [emoji.repeat(80), `x${emoji.repeat(80)}`]) {
      const { message } = refusal('email_taken', { email: text })
      assert.ok(message.isWellFormed())
    }
  })
})
