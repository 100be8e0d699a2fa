/** How passwords are stored and compared: what a hash looks like, what it says yes to, and how many may be computed at once. */
import assert from 'node:assert/strict'
import { argon2Sync } from 'node:crypto'
import { describe, it } from 'node:test'
import { HasherOverloaded, type PasswordHasher, passwordHasher } from './password.ts'

const PHC = /^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/

/** Bytes that are all different from those before: 0, 1, 2 and so on. */
function counting(): (n: number) => Buffer {
  let next = 0
  return (n) => Buffer.from(Array.from({ length: n }, () => next++ % 256))
}

function hasher(limits: { parallelMax?: number; waitingMax?: number } = {}): PasswordHasher {
  return passwordHasher({ parallelMax: 2, waitingMax: 50, ...limits, randomBytes: counting() })
}

describe('a password', () => {
  it('is stored as an argon2id PHC string at the cost that OWASP recommends, and not as itself', async () => {
    const phc = await hasher().hash('correct horse')
    assert.match(phc, PHC)
    assert.ok(!phc.includes('correct'))
  })

  it('is told from every other one', async () => {
    const { hash, verify } = hasher()
    const phc = await hash('correct horse')
    assert.equal(await verify('correct horse', phc), true)
    for (const other of ['', 'Correct horse', 'correct horse ', 'correct hors', 'correct horse\u0000'])
      assert.equal(await verify(other, phc), false, JSON.stringify(other))
  })

  it('has another hash each time, because each has a salt of its own', async () => {
    const { hash, verify } = hasher()
    const [first, second] = await Promise.all([hash('same'), hash('same')])
    assert.notEqual(first, second)
    assert.equal(await verify('same', first), true)
    assert.equal(await verify('same', second), true)
  })

  it('has the same hash for the same salt on every machine', async () => {
    assert.equal(await hasher().hash('same'), await hasher().hash('same'))
  })

  it('may be long, in any script, and is compared in full length', async () => {
    const { hash, verify } = hasher()
    const long = '密'.repeat(1_000)
    const phc = await hash(long)
    assert.equal(await verify(long, phc), true)
    assert.equal(await verify(`${long}x`, phc), false)
    assert.equal(await verify('密'.repeat(999), phc), false)
  })
})

describe('a stored hash', () => {
  it('is checked at the cost that it was made with, which may have been raised since', async () => {
    const cheap = cheapHash('password')
    assert.equal(await hasher().verify('password', cheap), true)
    assert.equal(await hasher().verify('Password', cheap), false)
  })

  it('that is none is a broken store: it throws instead of saying no', async () => {
    const { hash, verify } = hasher()
    const phc = await hash('x')
    for (const broken of ['', 'x', phc.slice(1), phc.replace('argon2id', 'argon2i'), `${phc}$`, '$2b$12$abc'])
      await assert.rejects(verify('x', broken), /PHC/, broken)
  })

  it('that there is none of, for a user who does not exist, is never right', async () => {
    for (const password of ['', 'x']) assert.equal(await hasher().verifyNobody(password), false)
  })
})

describe('computing hashes', () => {
  it('refuses when too many wait, and computes the others', async () => {
    const { hash, verify, verifyNobody } = hasher({ parallelMax: 1, waitingMax: 2 })
    const phc = await hash('x')
    const running = [verify('x', phc), verify('y', phc), verifyNobody('z')]
    for (const more of [verify('x', phc), hash('x'), verifyNobody('x')])
      await assert.rejects(more, HasherOverloaded)
    assert.deepEqual(await Promise.all(running), [true, false, false])
    assert.equal(await verify('x', phc), true)
  })

  it('goes on after one that failed', async () => {
    const { hash, verify } = hasher({ parallelMax: 1 })
    const impossible = '$argon2id$v=19$m=1,t=0,p=1$c29tZXNhbHQ$aGFzaA'
    await assert.rejects(verify('x', impossible))
    assert.match(await hash('x'), PHC)
  })
})

/** A hash at the lowest cost there is, as a program with older settings would have stored it. */
function cheapHash(password: string): string {
  const nonce = Buffer.from('somesalt')
  const cost = { memory: 8, passes: 1, parallelism: 1, tagLength: 24 }
  const tag = argon2Sync('argon2id', { message: password, nonce, ...cost })
  const text = (bytes: Buffer) => bytes.toString('base64').replaceAll('=', '')
  return `$argon2id$v=19$m=8,t=1,p=1$${text(nonce)}$${text(tag)}`
}
