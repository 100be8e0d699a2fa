/** Who stands behind a token: looked up once, remembered for a while, forgotten as soon as it may not hold any more. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import { manualClock } from '../../test/support/manual-clock.ts'
import { MemoryTables, readsOf } from '../../test/support/memory-store.ts'
import { assertRefused, aUser } from '../../test/support/world.ts'
import { isRefusal } from '../domain/refusal.ts'
import type { Token } from '../domain/token.ts'
import { Tokens } from './tokens.ts'

function setUp() {
  const clock = manualClock()
  const tables = new MemoryTables()
  tables.users.set(2, aUser(2))
  let reads = 0
  const tokens = new Tokens({
    reads: readsOf(tables, async () => void reads++),
    schedule: clock.schedule,
    randomBytes,
  })
  const { secret, hash } = tokens.draw()
  const give = (edit: Partial<Token> = {}) =>
    tables.tokens.set('tok_1', {
      ...{
        id: 'tok_1',
        userId: 2,
        name: 'CI',
        hash,
        credentialVersion: 1,
        createdAtMs: 0,
        expiresAtMs: null,
      },
      ...{ lastUsedAtMs: null, revokedAtMs: null, scopes: null, ...edit },
    })
  give()
  return { clock, tables, tokens, secret, hash, give, reads: () => reads }
}

const CALLER = { userId: 2, credentialVersion: 1, role: 'user', tokenId: 'tok_1' }

describe('a token', () => {
  it('is a prefix and 256 random bits, and its hash does not tell it', () => {
    const { tokens } = setUp()
    const drawn = Array.from({ length: 50 }, () => tokens.draw())
    assert.equal(new Set(drawn.map(({ secret }) => secret)).size, 50)
    for (const { secret, hash } of drawn) {
      assert.match(secret, /^berth_[\w-]{43}$/)
      assert.match(hash, /^[0-9a-f]{64}$/)
    }
  })

  it('is looked up once, and remembered for a while', async () => {
    const { tokens, secret, reads, clock } = setUp()
    assert.equal(tokens.remembered(secret), null)
    assert.deepEqual(await tokens.lookUp(secret), CALLER)
    const before = reads()
    assert.deepEqual(tokens.remembered(secret), CALLER)
    assert.equal(reads(), before)
    await clock.advance(15 * 60_000)
    assert.equal(tokens.remembered(secret), null)
  })

  it('that nobody has, or that looks like none, is refused', async () => {
    const { tokens, secret, tables } = setUp()
    for (const wrong of [tokens.draw().secret, secret.slice(1), `${secret}x`, '', 'berth_'])
      assertRefused(await tokens.lookUp(wrong), 'token_invalid')
    tables.tokens.clear()
    assertRefused(await tokens.lookUp(secret), 'token_invalid')
  })

  it('that does not hold any more is refused', async () => {
    const { tokens, secret, give, tables, clock } = setUp()
    for (const edit of [
      { revokedAtMs: 1 },
      { expiresAtMs: clock.schedule.now() },
      { credentialVersion: 7 },
      { userId: 3 },
    ]) {
      give(edit)
      assertRefused(await tokens.lookUp(secret), 'token_invalid')
    }
    give()
    assert.ok(!isRefusal(await tokens.lookUp(secret)))
    tables.users.set(2, aUser(2, { state: 'leaving' }))
    assertRefused(await tokens.lookUp(secret), 'token_invalid')
  })

  it('is not remembered beyond its end', async () => {
    const { tokens, secret, give, clock } = setUp()
    give({ expiresAtMs: clock.schedule.now() + 1_000 })
    await tokens.lookUp(secret)
    await clock.advance(999)
    assert.deepEqual(tokens.remembered(secret), CALLER)
    await clock.advance(1)
    assert.equal(tokens.remembered(secret), null)
  })

  it('is forgotten with its user, and with everybody', async () => {
    const { tokens, secret } = setUp()
    await tokens.lookUp(secret)
    tokens.forget(3)
    assert.deepEqual(tokens.remembered(secret), CALLER)
    tokens.forget(2)
    assert.equal(tokens.remembered(secret), null)
    await tokens.lookUp(secret)
    tokens.forgetAll()
    assert.equal(tokens.remembered(secret), null)
  })

  it('that is forgotten while it is looked up is not remembered', async () => {
    const { tokens, secret } = setUp()
    const looking = tokens.lookUp(secret)
    tokens.forget(2)
    await looking
    assert.equal(tokens.remembered(secret), null)
  })

  it('is noted to be used, until that is taken', async () => {
    const { tokens, secret, clock } = setUp()
    await tokens.lookUp(secret)
    await clock.advance(5)
    tokens.remembered(secret)
    assert.deepEqual(tokens.takeUses(), [{ tokenId: 'tok_1', userId: 2, atMs: clock.schedule.now() }])
    assert.deepEqual(tokens.takeUses(), [])
  })
})
