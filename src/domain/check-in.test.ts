/** Who may give a machine back, which lease is meant, and what becomes of the machine. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  ADMIN,
  accepted,
  actor,
  aPool,
  assertRefused,
  aUser,
  aVm,
  USER,
  World,
} from '../../test/support/world.ts'
import type { CheckIn } from './check-in.ts'
import { DEFAULT_POLICY } from './pool.ts'
import { VM_STATES } from './vm.ts'

function checkIn(edit: Partial<CheckIn> = {}): CheckIn {
  return { kind: 'checkIn', actor: USER, vmId: 1, generation: null, requestId: 'r1', ...edit }
}

const leased = aVm(1, { state: 'leased', generation: 4 })

describe('check-in', () => {
  it('sends the machine to maintenance, held by nobody, at the same generation', () => {
    const world = new World({ vms: [leased] })
    const { vm } = accepted(world.run(checkIn()))
    assert.deepEqual(vm, {
      ...leased,
      state: 'maintenance',
      holderId: null,
      leasedAtMs: null,
      freeAtMs: world.nowMs + DEFAULT_POLICY.marginSeconds * 1_000,
      claim: vm.claim,
    })
    assert.deepEqual(world.vm(1), vm)
  })

  it('waits for an admin where cleaning is manual, and is due for a worker at once where it is automatic', () => {
    for (const [cleaning, due] of [
      ['manual', false],
      ['automatic', true],
    ] as const) {
      const world = new World({ vms: [leased], pools: [aPool({ target: 1, cleaning })] })
      world.run(checkIn())
      assert.equal(world.vm(1).dueAtMs, due ? world.nowMs : null)
    }
  })

  it('leaves one fact behind: who, of whom, and of which lease', () => {
    const world = new World({ vms: [leased] })
    world.run(checkIn({ requestId: 'r9' }))
    const { id: _, ...event } = world.lastEvent
    assert.deepEqual(event, {
      atMs: world.nowMs,
      type: 'vm.checked_in',
      actorId: 2,
      poolId: 1,
      vmId: 1,
      userId: 2,
      requestId: 'r9',
      data: { generation: 4 },
    })
  })

  it('ends the lease', () => {
    const world = new World({ vms: [leased] })
    world.nowMs += 70
    world.run(checkIn())
    assert.equal(world.tables.leases.get('1 4')?.endedAtMs, world.nowMs)
  })

  it('is for the holder only: not for other users, and not for an admin', () => {
    const world = new World({ vms: [leased] })
    assertRefused(world.run(checkIn({ actor: actor(3) })), 'not_holder')
    assertRefused(world.run(checkIn({ actor: ADMIN })), 'not_holder')
    assert.deepEqual(world.vm(1), leased)
  })

  for (const state of VM_STATES.filter((state) => state !== 'leased'))
    it(`of a machine in state ${state} is refused`, () => {
      const world = new World({ vms: [aVm(1, { state, generation: 4 })] })
      assertRefused(world.run(checkIn()), state === 'deleting' ? 'vm_unknown' : 'not_holder')
    })

  it('of a machine that there is not is refused', () => {
    assertRefused(new World().run(checkIn()), 'vm_unknown')
  })

  it('may name the present lease; one that is over changes nothing, though the same user holds the machine', () => {
    const world = new World({ vms: [leased] })
    assertRefused(world.run(checkIn({ generation: 3 })), 'generation_stale')
    assertRefused(world.run(checkIn({ generation: 5 })), 'generation_stale')
    assert.deepEqual(world.vm(1), leased)
    accepted(world.run(checkIn({ generation: 4 })))
  })

  it('tells somebody else nothing about the generation', () => {
    const world = new World({ vms: [leased] })
    assertRefused(world.run(checkIn({ actor: actor(3), generation: 3 })), 'not_holder')
  })

  it('is accepted once: the second one in a batch comes from nobody who holds the machine', () => {
    const world = new World({ vms: [leased] })
    const [first, second] = world.batch(checkIn(), checkIn())
    accepted(first)
    assertRefused(second, 'not_holder')
    assert.equal(world.tables.events.length, 1)
  })

  it('is refused to callers who were deleted or have changed their password', () => {
    const users = [aUser(1), aUser(2, { credentialVersion: 2 })]
    const world = new World({ users, vms: [leased] })
    assertRefused(world.run(checkIn({ actor: actor(2, 1) })), 'password_wrong')
    assertRefused(world.run(checkIn({ actor: actor(9) })), 'caller_unknown')
  })
})
