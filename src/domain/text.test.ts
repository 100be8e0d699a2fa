import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { isStorableText, storableText } from './text.ts'

const LONE = ['\ud83d', '\ude00', '\ude00\ud83d']

describe('storable text', () => {
  it('is well-formed Unicode without control characters', () => {
    for (const good of ['plain', '\ud83d\ude00', '']) assert.equal(isStorableText(good), true)
    for (const bad of [...LONE, 'a\u0000b', 'a\tb', 'a\u007fb']) assert.equal(isStorableText(bad), false)
  })

  it('comes back from UTF-8 as it was', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 30 }), (text) => {
        if (isStorableText(text)) assert.equal(Buffer.from(text, 'utf8').toString('utf8'), text)
      }),
    )
  })

  it('is what any text is brought to, and what is storable and not long stays as it is', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 3_000 }), (text) => {
        const kept = storableText(text)
        assert.ok(isStorableText(kept))
        if (isStorableText(text) && text.length <= 2_000) assert.equal(kept, text)
      }),
    )
    assert.equal(storableText('one\r\n  two\u0000'), 'one \u23ce two\ufffd')
    assert.equal(storableText(`${'x'.repeat(1_999)}\ud83d\ude00`).length, 2_000)
  })
})
