/** Keys that were used before: the same call, another call, another caller, a caller who may not call any more, after a day. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { accepted, actor, assertRefused, NOW_MS, USER, World } from '../../test/support/world.ts'
import { ANSWER_KEPT_MS, type Answer } from './answer.ts'
import type { Actor } from './decision.ts'
import { earlierAnswer } from './idempotency.ts'
import { Needs, WorkingSet } from './working-set.ts'

const ANSWER: Answer = {
  userId: 2,
  key: 'k',
  fingerprint: 'f',
  status: 201,
  body: '{}',
  headers: {},
  atMs: NOW_MS,
}

function worldWith(...answers: Answer[]): World {
  const world = new World()
  for (const answer of answers) world.tables.answers.set(`${answer.userId} ${answer.key}`, answer)
  return world
}

function ask(world: World, caller: Actor | null, key = 'k', fingerprint = 'f') {
  const needs = new Needs()
  const userId = caller?.userId ?? 0
  needs.userIds.add(userId)
  needs.answers.set(`${userId} ${key}`, [userId, key])
  return earlierAnswer(new WorkingSet(world.tables.load(needs, world.nowMs)), caller, key, fingerprint)
}

describe('a key', () => {
  it('that was used for the same call has its answer', () => {
    assert.deepEqual(ask(worldWith(ANSWER), USER), ANSWER)
  })

  it('that was used for another call is refused', () => {
    assertRefused(ask(worldWith(ANSWER), USER, 'k', 'other'), 'idempotency_key_reused')
  })

  it('that nobody, or somebody else, has used is free', () => {
    for (const caller of [actor(3), null]) assert.equal(ask(worldWith(ANSWER), caller), null)
    assert.equal(ask(worldWith(ANSWER), USER, 'another'), null)
  })

  it('that was used without credentials has its answer for those without', () => {
    const answer = { ...ANSWER, userId: 0 }
    assert.deepEqual(ask(worldWith(answer), null), answer)
  })

  it('tells nothing to a caller who may not call any more', () => {
    assertRefused(ask(worldWith(ANSWER), actor(2, 7)), 'password_wrong')
    assertRefused(ask(worldWith(ANSWER), { ...USER, tokenId: 'gone' }), 'token_invalid')
  })

  it('is free again after a day', () => {
    const world = worldWith(ANSWER)
    world.nowMs += ANSWER_KEPT_MS - 1
    assert.deepEqual(ask(world, USER), ANSWER)
    world.nowMs += 1
    assert.equal(ask(world, USER), null)
  })
})

describe('forgetting answers', () => {
  it('drops those that are over, so many at a time, the oldest first', () => {
    const world = worldWith(...[5, 0, 3, 9].map((at) => ({ ...ANSWER, key: `${at}`, atMs: NOW_MS + at })))
    world.nowMs += ANSWER_KEPT_MS + 5
    const forget = () => accepted(world.run({ kind: 'forgetAnswers', rowsMax: 2 })).forgotten
    assert.equal(forget(), 2)
    assert.deepEqual([...world.tables.answers.keys()].sort(), ['2 5', '2 9'])
    assert.deepEqual([forget(), forget()], [1, 0])
  })
})
