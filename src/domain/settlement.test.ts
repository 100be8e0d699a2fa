import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { aPool, aUser, NOW_MS, vmsOf, World } from '../../test/support/world.ts'
import type { Command } from './command.ts'
import { EMPTY_QUEUE } from './pool.ts'
import { isRefusal } from './refusal.ts'

const admin = { userId: 2, credentialVersion: 1 }
const ada = { userId: 1, credentialVersion: 1 }

function joining(waitSeconds: number | null): Command {
  return {
    kind: 'join',
    actor: ada,
    id: 'req-1',
    pool: 'default',
    wish: [{ type: null, labels: {}, vmId: null, count: 1 }],
    terms: {
      durationSeconds: 600,
      durationSecondsMin: null,
      softGraceSeconds: null,
      heartbeatSeconds: null,
      purpose: null,
      labels: {},
    },
    priority: 'normal',
    waitSeconds,
    requestId: 'r1',
  }
}

function aWorld(...states: ('ready' | 'leased')[]): World {
  const vms = vmsOf(...states)
  const users = [aUser(1), aUser(2, { role: 'admin' })]
  return new World({ users, vms, pools: [aPool({ target: states.length })] })
}

/** What was answered: a refusal's code, or that it was none. */
function codesOf(answers: readonly unknown[]): string[] {
  return answers.map((answer) => (isRefusal(answer) ? answer.code : 'yes'))
}

describe('who asked before a reset that begins in the same batch', () => {
  const reset: Command = { kind: 'beginReset', actor: admin, allowed: false, requestId: 'r2' }

  for (const [what, state] of [
    ['a machine that is ready', 'ready'],
    ['one that somebody holds', 'leased'],
  ] as const)
    it(`is given nothing: ${what}`, () => {
      const world = aWorld(state)
      assert.deepEqual(codesOf(world.batch(joining(null), reset)), ['resetting', 'yes'])
      assert.deepEqual(world.states(), [state])
      assert.equal(world.tables.requests.size, 0)
    })

  it('is given nothing: one that is yet to be made, when the reset is done at once', () => {
    const world = new World({ users: [aUser(1), aUser(2, { role: 'admin' })], pools: [aPool({ target: 1 })] })
    assert.deepEqual(codesOf(world.batch(joining(null), reset)), ['resetting', 'yes'])
    assert.equal(world.tables.pools.size + world.tables.requests.size, 0)
  })
})

describe('who is deleted in the batch in which they asked', () => {
  const gone: Command = { kind: 'deleteUser', actor: admin, userId: 1, requestId: 'r2' }

  for (const state of ['ready', 'leased'] as const)
    it(`neither gets nor waits for a machine that is ${state}`, () => {
      const world = aWorld(state)
      assert.deepEqual(codesOf(world.batch(joining(null), gone)), ['caller_unknown', 'yes'])
      assert.deepEqual(world.states(), [state])
      assert.equal(world.tables.requests.size, 0)
    })
})

describe('a machine that is late', () => {
  it('is expected half a margin later, in whole milliseconds: stores keep no others', () => {
    const cleaning = { small: { meanMs: 3, deviationMs: 0 } }
    const pool = aPool({ target: 1, cleaning: 'automatic', queue: { ...EMPTY_QUEUE, cleaning } })
    const vms = vmsOf('maintenance').map((vm) => ({ ...vm, freeAtMs: NOW_MS + 1_000 }))
    const world = new World({ users: [aUser(1)], vms, pools: [pool] })
    assert.deepEqual(codesOf(world.batch(joining(null))), ['yes'])
    world.nowMs += 400_000
    world.batch({ kind: 'tickPool', poolId: 1, rowsMax: 10 })
    assert.equal(world.vm(1).freeAtMs, world.nowMs + 2)
  })
})
