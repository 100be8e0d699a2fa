/** How an installation goes back to its first day: who may ask, what goes on meanwhile, and what is left. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  ADMIN,
  accepted,
  actor,
  aPool,
  assertRefused,
  aVm,
  NOW_MS,
  USER,
  vmsOf,
  World,
} from '../../test/support/world.ts'
import type { Command } from './command.ts'
import { EVEN_MIX } from './pool.ts'
import { type BeginReset, FIRST_DAY } from './reset.ts'
import { VM_STATES } from './vm.ts'

function begin(edit: Partial<BeginReset> = {}): BeginReset {
  return { kind: 'beginReset', actor: ADMIN, allowed: false, requestId: 'r1', ...edit }
}

const goOn = { kind: 'continueReset', machinesMax: 100 } as const

const CLAIM = { kind: 'claimWork', poolId: 1, state: 'deleting', machinesMax: 100, claimMs: 1_000 } as const

/** Destroys every machine that is due, as workers do. */
function destroy(world: World): void {
  const results = accepted(world.run(CLAIM)).claimed.map((vm) => ({
    vmId: vm.id,
    claim: vm.claim,
    ok: true as const,
  }))
  world.run({ kind: 'reportWork', state: 'deleting', results })
}

describe('asking for a reset', () => {
  it('needs no credentials while there are no users', () => {
    assert.deepEqual(accepted(new World({ users: [] }).run(begin({ actor: null }))), { done: true })
  })

  it('needs an admin once there are users', () => {
    const world = new World()
    assertRefused(world.run(begin({ actor: null })), 'reset_not_allowed')
    assertRefused(world.run(begin({ actor: USER })), 'not_allowed')
    assertRefused(world.run(begin({ actor: actor(9) })), 'caller_unknown')
    assertRefused(world.run(begin({ actor: actor(1, 2) })), 'password_wrong')
    assert.equal(world.tables.users.size, 3)
    accepted(world.run(begin()))
  })

  it('is for anybody on a server that allows it', () => {
    assert.deepEqual(accepted(new World().run(begin({ actor: null, allowed: true }))), { done: true })
  })

  it('begins with the fact of who asked, and how much there was', () => {
    const world = new World({ vms: vmsOf('ready', 'leased') })
    assert.deepEqual(accepted(world.run(begin())), { done: false })
    const { type, actorId, requestId, data } = world.lastEvent
    assert.deepEqual(
      { type, actorId, requestId, data },
      { type: 'installation.reset_begun', actorId: 1, requestId: 'r1', data: { users: 3, vms: 2 } },
    )
    assert.equal(world.tables.installation.state, 'resetting')
  })
})

describe('a reset under way', () => {
  it('closes the installation to everybody but the workers', () => {
    const world = new World({ vms: vmsOf('ready', 'leased') })
    accepted(world.run(begin()))
    const requestId = 'r'
    const policy = { typeMix: EVEN_MIX, cleaning: 'manual', provider: 'simulated' } as const
    const closed: Command[] = [
      {
        kind: 'createUser',
        actor: ADMIN,
        mayBeFirst: true,
        name: 'x',
        email: 'x',
        role: 'user',
        passwordHash: 'x',
        requestId,
      },
      { kind: 'changeUser', actor: ADMIN, userId: 2, name: 'x', email: null, passwordHash: null, requestId },
      { kind: 'deleteUser', actor: ADMIN, userId: 2, requestId },
      { kind: 'releaseLeaver', userId: 2, machinesMax: 1 },
      { kind: 'sizePool', actor: ADMIN, pool: 'default', size: 9, policy, requestId },
      { kind: 'growPool', poolId: 1, machinesMax: 1, claimMs: 1 },
      { kind: 'shrinkPool', poolId: 1, machinesMax: 1 },
      { kind: 'checkout', actor: USER, pool: 'default', vmId: null, type: null, requestId },
      { kind: 'checkIn', actor: USER, vmId: 2, generation: null, requestId },
      { kind: 'maintain', actor: ADMIN, vmId: 1, step: 'cordon', requestId },
      { kind: 'deleteVm', actor: ADMIN, vmId: 1, requestId },
      begin(),
    ]
    for (const answer of world.batch(...closed)) assertRefused(answer, 'resetting')
    const open: Command[] = [CLAIM, { kind: 'reportWork', state: 'deleting', results: [] }, goOn]
    for (const answer of world.batch(...open)) accepted(answer)
  })

  it('marks machines in every state for destruction, a slice at a time', () => {
    const world = new World({ vms: vmsOf(...VM_STATES) })
    accepted(world.run(begin()))
    const marked = [1, 2, 3].map(() => accepted(world.run({ ...goOn, machinesMax: 4 })))
    assert.deepEqual(marked, [
      { marked: 4, done: false },
      { marked: 2, done: false },
      { marked: 0, done: false },
    ])
    assert.deepEqual(new Set(world.states()), new Set(['deleting']))
    for (const lease of world.tables.leases.values()) assert.equal(lease.endedAtMs, world.nowMs)
  })

  it('wipes nothing while a machine may still exist', () => {
    const world = new World({ vms: vmsOf('ready') })
    accepted(world.run(begin()))
    accepted(world.run(goOn))
    const [claimed] = accepted(world.run(CLAIM)).claimed
    assert.ok(claimed)
    const failure = { vmId: 1, claim: claimed.claim, ok: false, failure: 'no', permanent: true } as const
    accepted(world.run({ kind: 'reportWork', state: 'deleting', results: [failure] }))
    assert.deepEqual(accepted(world.run(goOn)), { marked: 0, done: false })
    assert.deepEqual(world.states(), ['deleting'])
  })

  it('ends on the first day: nothing is left but the fact of the reset, and ids begin at 1', () => {
    const world = new World({ vms: vmsOf('ready', 'leased', 'failed') })
    accepted(world.run(begin()))
    const beganAtMs = world.nowMs
    accepted(world.run(goOn))
    world.nowMs += 10
    destroy(world)
    assert.deepEqual(accepted(world.run(goOn)), { marked: 0, done: true })
    const { users, pools, vms, leases, installation, events } = world.tables
    assert.deepEqual([users.size, pools.size, vms.size, leases.size], [0, 0, 0, 0])
    assert.deepEqual(installation, FIRST_DAY)
    assert.equal(events.length, 1)
    const { type, actorId, requestId, data } = world.lastEvent
    assert.deepEqual(
      { type, actorId, requestId, data },
      {
        type: 'installation.reset',
        actorId: 1,
        requestId: 'r1',
        data: { atMs: beganAtMs, users: 3, vms: 3 },
      },
    )
  })

  it('is over at once where there are no machines', () => {
    const world = new World({ pools: [aPool({ target: 0 })] })
    assert.deepEqual(accepted(world.run(begin())), { done: true })
    assert.equal(world.tables.pools.size, 0)
    assert.equal(world.lastEvent.type, 'installation.reset')
  })

  it('has nothing to go on with when none was asked for', () => {
    const world = new World({ vms: vmsOf('ready') })
    assert.deepEqual(accepted(world.run(goOn)), { marked: 0, done: true })
    assert.deepEqual(world.states(), ['ready'])
  })
})

describe('a batch with a reset in it', () => {
  const first = {
    kind: 'createUser',
    actor: null,
    mayBeFirst: true,
    name: 'Eve',
    email: 'user2@example.org',
    role: 'user',
    passwordHash: 'x',
    requestId: 'r',
  } as const

  it('gives who comes after it the first day', () => {
    const world = new World()
    const [done, made] = world.batch(begin(), first)
    assert.deepEqual(done, { done: true })
    assert.equal(accepted(made as { user: { id: number; role: string } }).user.role, 'admin')
    assert.deepEqual([...world.tables.users.keys()], [1])
    assert.equal(world.user(1).email, 'user2@example.org')
  })

  it('refuses credentials of before', () => {
    const world = new World()
    const [, answer] = world.batch(begin(), {
      kind: 'deleteUser',
      actor: ADMIN,
      userId: 2,
      requestId: 'r',
    })
    assertRefused(answer, 'caller_unknown')
  })

  it('does not forget machines that were planned earlier in it, and are being made', () => {
    const world = new World({ pools: [aPool({ target: 2 })] })
    const [grown, reset] = world.batch(
      { kind: 'growPool', poolId: 1, machinesMax: 10, claimMs: 1_000 },
      begin(),
    )
    assert.equal(accepted(grown as { planned: unknown[] }).planned.length, 2)
    assert.deepEqual(reset, { done: false })
    assert.equal(world.tables.vms.size, 2)
  })

  it('makes way for machines with the same ids, which no report from before it fits', () => {
    const world = new World({ pools: [] })
    const size = { kind: 'sizePool', pool: 'default', size: 1, requestId: 'r' } as const
    const policy = { typeMix: { small: 1 }, cleaning: 'automatic', provider: 'simulated' } as const
    const grow = { kind: 'growPool', poolId: 1, machinesMax: 1, claimMs: 1_000 } as const
    const make = () => {
      accepted(world.run({ ...size, actor: ADMIN, policy }))
      const [vm] = accepted(world.run(grow)).planned
      assert.ok(vm)
      world.nowMs += 1_000
      return { vmId: vm.id, claim: vm.claim, ok: true } as const
    }
    const first = make()
    accepted(world.run(begin()))
    accepted(world.run(goOn))
    const claim = { kind: 'claimWork', poolId: 1, state: 'deleting', machinesMax: 1, claimMs: 1_000 } as const
    const [doomed] = accepted(world.run(claim)).claimed
    assert.ok(doomed)
    const results = [{ vmId: doomed.id, claim: doomed.claim, ok: true }] as const
    accepted(world.run({ kind: 'reportWork', state: 'deleting', results }))
    accepted(world.run(goOn))
    accepted(
      world.run({
        kind: 'createUser',
        actor: null,
        mayBeFirst: true,
        name: 'Ada',
        email: 'ada@example.org',
        role: 'admin',
        passwordHash: 'hash',
        requestId: 'r',
      }),
    )
    const second = make()
    assert.equal(second.vmId, first.vmId)
    assert.deepEqual(accepted(world.run({ kind: 'reportWork', state: 'provisioning', results: [first] })), {
      accepted: 0,
      late: 1,
    })
    assert.equal(world.vm(second.vmId).state, 'provisioning')
  })

  it('ends it when the last machine went earlier in it', () => {
    const gone = aVm(1, { state: 'deleting', claim: 1, dueAtMs: NOW_MS, busyUntilMs: NOW_MS })
    const world = new World({ vms: [gone] })
    accepted(world.run(begin()))
    const results = [{ vmId: 1, claim: 1, ok: true }] as const
    world.batch({ kind: 'reportWork', state: 'deleting', results }, goOn)
    accepted(world.run(goOn))
    assert.equal(world.tables.installation.state, 'open')
    assert.equal(world.tables.vms.size, 0)
  })
})
