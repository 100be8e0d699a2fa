/** Tokens: who gets one, how many, what ends them, and that nothing is done with one that does not hold. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  ADMIN,
  accepted,
  actor,
  assertRefused,
  aUser,
  NOW_MS,
  USER,
  vmsOf,
  World,
} from '../../test/support/world.ts'
import type { Actor } from './decision.ts'
import { TOKENS_MAX } from './token.ts'

const requestId = 'r'

function create(world: World, by: Actor, n = 1, lifetimeSeconds: number | null = null) {
  return world.run({
    kind: 'createToken',
    actor: by,
    id: `tok_${n}`,
    name: 'CI',
    hash: `hash ${n}`,
    lifetimeSeconds,
    requestId,
  })
}

function withToken(userId: number, n = 1, credentialVersion = 1): Actor {
  return { userId, credentialVersion, tokenId: `tok_${n}` }
}

function checkout(world: World, by: Actor) {
  return world.run({ kind: 'checkout', actor: by, pool: 'default', vmId: null, type: null, requestId })
}

function revoke(world: World, by: Actor, n = 1, userId = 2) {
  return world.run({ kind: 'revokeToken', actor: by, tokenId: `tok_${n}`, userId, requestId })
}

describe('making a token', () => {
  it('gives the caller one that stands for them, and records it without its secret', () => {
    const world = new World()
    const { token } = accepted(create(world, USER, 1, 60))
    assert.deepEqual(token, {
      id: 'tok_1',
      userId: 2,
      name: 'CI',
      hash: 'hash 1',
      credentialVersion: 1,
      createdAtMs: NOW_MS,
      expiresAtMs: NOW_MS + 60_000,
      lastUsedAtMs: null,
      revokedAtMs: null,
      scopes: null,
    })
    assert.deepEqual(world.tables.tokens.get('tok_1'), token)
    const { type, userId, data } = world.lastEvent
    assert.deepEqual(
      { type, userId, data },
      { type: 'token.created', userId: 2, data: { token: 'tok_1', name: 'CI' } },
    )
  })

  it('is possible with another token, but not with one that does not hold', () => {
    const world = new World()
    accepted(create(world, USER))
    accepted(create(world, withToken(2, 1), 2))
    assertRefused(create(world, withToken(2, 9), 3), 'token_invalid')
    assertRefused(create(world, withToken(3, 1), 3), 'token_invalid')
  })

  it('is refused to whoever has as many as one may have, until one of them does not hold any more', () => {
    const world = new World()
    for (let n = 1; n <= TOKENS_MAX; n++) accepted(create(world, USER, n, n === 1 ? 10 : null))
    assertRefused(create(world, USER, 1_000), 'too_many_tokens')
    accepted(create(world, actor(3), 1_001))
    world.nowMs += 10_000
    accepted(create(world, USER, 1_002))
    assert.ok(!world.tables.tokens.has('tok_1'), 'the one that is over is gone')
    assertRefused(create(world, USER, 1_003), 'too_many_tokens')
  })

  it('counts those that were made in the same batch', () => {
    const world = new World()
    for (let n = 1; n < TOKENS_MAX; n++) accepted(create(world, USER, n))
    const command = (n: number) =>
      ({
        kind: 'createToken',
        actor: USER,
        id: `tok_${n}`,
        name: '',
        hash: `hash ${n}`,
        lifetimeSeconds: null,
        requestId,
      }) as const
    const [first, second] = world.batch(command(500), command(501))
    accepted(first)
    assertRefused(second, 'too_many_tokens')
  })
})

describe('a token', () => {
  const ends: [string, (world: World) => unknown][] = [
    ['it was revoked', (world) => accepted(revoke(world, USER))],
    ['an admin revoked it', (world) => accepted(revoke(world, ADMIN))],
    [
      'its time is over',
      (world) => {
        world.nowMs += 60_000
      },
    ],
    [
      'its owner has another password',
      (world) =>
        accepted(
          world.run({
            kind: 'changeUser',
            actor: USER,
            userId: 2,
            name: null,
            email: null,
            passwordHash: 'new',
            requestId,
          }),
        ),
    ],
    [
      'its owner was deleted',
      (world) => world.run({ kind: 'deleteUser', actor: ADMIN, userId: 2, requestId }),
    ],
  ]
  for (const [why, end] of ends)
    it(`changes nothing any more once ${why}`, () => {
      const world = new World({ vms: vmsOf('ready', 'ready') })
      accepted(create(world, USER, 1, 60))
      accepted(checkout(world, withToken(2)))
      end(world)
      assertRefused(checkout(world, withToken(2)), 'token_invalid')
    })

  it('that is revoked changes nothing that is decided behind it in the same batch', () => {
    const world = new World({ vms: vmsOf('ready', 'ready') })
    accepted(create(world, USER))
    const [, checkedOut] = world.batch(
      { kind: 'revokeToken', actor: USER, tokenId: 'tok_1', userId: 2, requestId },
      { kind: 'checkout', actor: withToken(2), pool: 'default', vmId: null, type: null, requestId },
    )
    assertRefused(checkedOut, 'token_invalid')
  })

  it('goes on while its owner changes anything else', () => {
    const world = new World({ users: [aUser(1), aUser(2)], vms: vmsOf('ready') })
    accepted(create(world, USER))
    accepted(
      world.run({
        kind: 'changeUser',
        actor: USER,
        userId: 2,
        name: 'New',
        email: null,
        passwordHash: null,
        requestId,
      }),
    )
    accepted(checkout(world, withToken(2)))
  })
})

describe('revoking a token', () => {
  it('is refused to other users, who do not learn that it is there', () => {
    const world = new World()
    accepted(create(world, USER))
    assertRefused(revoke(world, actor(3)), 'token_unknown')
    assertRefused(revoke(world, actor(3), 1, 3), 'token_unknown')
    assertRefused(revoke(world, USER, 9), 'token_unknown')
  })

  it('again changes nothing', () => {
    const world = new World()
    accepted(create(world, USER))
    accepted(revoke(world, USER))
    const events = world.tables.events.length
    world.nowMs += 5
    assert.equal(accepted(revoke(world, USER)).token.revokedAtMs, NOW_MS)
    assert.equal(world.tables.events.length, events)
  })
})

describe('noting the use of tokens', () => {
  it('keeps the latest time, and passes over tokens that are gone or somebody else’s', () => {
    const world = new World()
    accepted(create(world, USER))
    const note = (userId: number, atMs: number, tokenId = 'tok_1') =>
      accepted(world.run({ kind: 'noteTokenUse', uses: [{ tokenId, userId, atMs }] })).noted
    assert.deepEqual([note(2, 50), note(2, 40), note(3, 90), note(2, 9, 'tok_9')], [1, 0, 0, 0])
    assert.equal(world.tables.tokens.get('tok_1')?.lastUsedAtMs, 50)
  })
})
