/** Which names, e-mails and passwords are acceptable, and what a refusal of one says. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { assertRefused } from '../../test/support/world.ts'
import { type UserTextField, userTextRefusal } from './user.ts'

const FIELDS: Record<UserTextField, number> = { name: 200, email: 320, password: 1024 }
const fields = Object.entries(FIELDS) as [UserTextField, number][]
const field = fc.constantFrom(...fields.map(([name]) => name))

/** Characters that no text may hold: control characters, and halves of a pair without the other. */
const forbidden = fc.oneof(
  fc.integer({ min: 0, max: 0x1f }),
  fc.constant(0x7f),
  fc.integer({ min: 0xd800, max: 0xdfff }),
)
const forbiddenText = forbidden.map((code) => String.fromCharCode(code))

const LONE_HIGH = String.fromCharCode(0xd83d)
const LONE_LOW = String.fromCharCode(0xde00)
const PAIR = LONE_HIGH + LONE_LOW

describe('the texts of a user', () => {
  for (const [name, lengthMax] of fields) {
    it(`${name} may have 1 to ${lengthMax} characters`, () => {
      assert.equal(userTextRefusal(name, 'x'), null)
      assert.equal(userTextRefusal(name, 'x'.repeat(lengthMax)), null)
      assertRefused(userTextRefusal(name, 'x'.repeat(lengthMax + 1)), 'field_invalid')
      assertRefused(userTextRefusal(name, ''), 'field_invalid')
    })

    it(`${name} may not be white space alone`, () => {
      for (const text of [' ', '   ', String.fromCharCode(0xa0)])
        assertRefused(userTextRefusal(name, text), 'field_invalid')
    })

    it(`${name} is missing when it is undefined or null, and invalid when it is no text`, () => {
      for (const value of [undefined, null]) {
        const no = userTextRefusal(name, value)
        assertRefused(no, 'field_missing')
        assert.deepEqual(no?.details, { field: name })
      }
      for (const value of [0, 7, true, false, [], ['x'], {}, { toString: () => 'x' }])
        assertRefused(userTextRefusal(name, value), 'field_invalid')
    })

    it(`${name} may have any script, emoji and inner white space`, () => {
      for (const text of ['Łukasz Żak', '山田 太郎', 'محمد', `${PAIR} x`, 'a b  c'])
        assert.equal(userTextRefusal(name, text), null)
    })
  }

  it('may hold no control characters and no half of a pair, wherever these stand', () => {
    const part = fc.string({ unit: 'grapheme', maxLength: 10 })
    fc.assert(
      fc.property(field, part, forbiddenText, part, (name, before, bad, after) => {
        const text = `${before}x${bad}x${after}`
        assertRefused(userTextRefusal(name, text), 'field_invalid')
      }),
    )
  })

  it('are refused with the field and what is allowed, and the value unless it is a password', () => {
    for (const [name] of fields) {
      const no = userTextRefusal(name, 42)
      assert.ok(no)
      assert.equal(no.details.value, name === 'password' ? null : 42)
      assert.ok(no.message.startsWith(name))
      assert.match(no.message, /must be a text/)
    }
  })

  it('never show a password that is refused', () => {
    for (const password of ['secret\n', `secret${LONE_HIGH}`, 'secret'.repeat(300)]) {
      const no = userTextRefusal('password', password)
      assert.ok(no)
      assert.ok(!JSON.stringify(no).includes('secret'))
    }
  })
})

describe('an e-mail', () => {
  it('may not be one of the words under which machines are listed by state, in any case, with any space around', () => {
    for (const word of ['idle', 'maintenance', 'IDLE', 'Maintenance', ' idle ', 'idle '])
      assertRefused(userTextRefusal('email', word), 'field_invalid')
  })

  it('may hold such a word, and a name may be one', () => {
    assert.equal(userTextRefusal('email', 'idle@example.org'), null)
    assert.equal(userTextRefusal('name', 'idle'), null)
    assert.equal(userTextRefusal('password', 'maintenance'), null)
  })

  it('need not look like an e-mail: clients of the original API use any text', () => {
    assert.equal(userTextRefusal('email', 'eve'), null)
  })
})
