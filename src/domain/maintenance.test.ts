/** What an admin may do with machines by hand, in which order it is judged, and what deleting does to the pool's size. */
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
  NOW_MS,
  USER,
  vmsOf,
  World,
} from '../../test/support/world.ts'
import type { EventType } from './event.ts'
import { allows, LIFECYCLE } from './lifecycle.ts'
import { type DeleteVm, type Maintain, removed } from './maintenance.ts'
import { isRefusal } from './refusal.ts'
import { VM_STATES } from './vm.ts'

function maintain(step: Maintain['step'], edit: Partial<Maintain> = {}): Maintain {
  return { kind: 'maintain', actor: ADMIN, vmId: 1, step, requestId: 'r1', ...edit }
}

function deleteVm(edit: Partial<DeleteVm> = {}): DeleteVm {
  return { kind: 'deleteVm', actor: ADMIN, vmId: 1, requestId: 'r1', ...edit }
}

const FACTS: Record<Maintain['step'], EventType> = {
  clean: 'vm.returned',
  cordon: 'vm.cordoned',
  uncordon: 'vm.uncordoned',
  retry: 'vm.retried',
}

describe('a machine that was never made', () => {
  it('is made, not cleaned, when an admin wants it tried again', () => {
    for (const cleaning of ['automatic', 'manual'] as const) {
      const world = new World({
        vms: [aVm(1, { state: 'failed', address: '' })],
        pools: [aPool({ cleaning, target: 1 })],
      })
      accepted(world.run(maintain('retry')))
      assert.deepEqual([world.vm(1).state, world.vm(1).dueAtMs], ['provisioning', NOW_MS])
    }
  })

  it('is made when it is let back after it was kept out of use', () => {
    const world = new World({ vms: [aVm(1, { state: 'failed', address: '' })] })
    accepted(world.run(maintain('cordon')))
    accepted(world.run(maintain('uncordon')))
    assert.deepEqual([world.vm(1).state, world.vm(1).dueAtMs], ['provisioning', NOW_MS])
  })
})

describe('a machine that a worker is cleaning', () => {
  it('is not brought back by an admin before that worker’s time is over', () => {
    const busy = aVm(1, {
      state: 'maintenance',
      claim: 2,
      attempts: 1,
      dueAtMs: NOW_MS + 9,
      busyUntilMs: NOW_MS + 9,
    })
    const world = new World({ vms: [busy] })
    assertRefused(world.run(maintain('clean')), 'vm_busy')
    world.nowMs += 9
    assert.equal(isRefusal(world.run(maintain('clean'))), false)
    assert.equal(world.vm(1).state, 'ready')
  })
})

describe('maintenance', () => {
  for (const [step, fact] of Object.entries(FACTS) as [Maintain['step'], EventType][])
    for (const state of VM_STATES)
      it(`${step} of a machine in state ${state} ${allows(state, step) ? 'is accepted' : 'is refused'}`, () => {
        const world = new World({ vms: [aVm(1, { state })] })
        const answer = world.run(maintain(step))
        if (state === 'deleting') assertRefused(answer, 'vm_unknown')
        else if (!allows(state, step)) assertRefused(answer, 'vm_state_wrong')
        else {
          assert.equal(accepted(answer).vm.state, LIFECYCLE[step].to)
          assert.deepEqual(world.vm(1), accepted(answer).vm)
          assert.equal(world.lastEvent.type, fact)
          assert.equal(world.lastEvent.requestId, 'r1')
        }
      })

  it('judges the caller first, then the machine, then the role, then the state', () => {
    const users = [aUser(1), aUser(2)]
    const world = new World({ users, vms: vmsOf('ready', 'maintenance') })
    assertRefused(world.run(maintain('clean', { actor: actor(9), vmId: 9 })), 'caller_unknown')
    assertRefused(world.run(maintain('clean', { actor: actor(2, 9), vmId: 9 })), 'password_wrong')
    assertRefused(world.run(maintain('clean', { actor: USER, vmId: 9 })), 'vm_unknown')
    assertRefused(world.run(maintain('clean', { actor: USER, vmId: 1 })), 'not_allowed')
    assertRefused(world.run(maintain('clean', { actor: USER, vmId: 2 })), 'not_allowed')
    assertRefused(world.run(maintain('clean', { vmId: 1 })), 'vm_state_wrong')
    accepted(world.run(maintain('clean', { vmId: 2 })))
  })

  it('names the state and what is allowed when the state is wrong', () => {
    const answer = new World({ vms: [aVm(1)] }).run(maintain('retry'))
    assertRefused(answer, 'vm_state_wrong')
    assert.deepEqual('details' in answer && answer.details, { vmId: 1, state: 'ready', allowed: 'failed' })
  })

  it('sends machines that are tried again or let back through a worker where cleaning is automatic', () => {
    for (const [step, state] of [
      ['retry', 'failed'],
      ['uncordon', 'cordoned'],
    ] as const)
      for (const cleaning of ['automatic', 'manual'] as const) {
        const world = new World({ vms: [aVm(1, { state })], pools: [aPool({ target: 1, cleaning })] })
        world.run(maintain(step))
        assert.equal(world.vm(1).dueAtMs, cleaning === 'automatic' ? NOW_MS : null, `${step}, ${cleaning}`)
      }
  })

  it('leaves nothing for a worker to do with a machine that is ready or kept out of use', () => {
    const vms = [aVm(1, { state: 'maintenance', dueAtMs: NOW_MS }), aVm(2, { state: 'failed' })]
    const world = new World({ vms, pools: [aPool({ target: 2, cleaning: 'automatic' })] })
    world.run(maintain('clean'))
    world.run(maintain('cordon', { vmId: 2 }))
    assert.equal(world.vm(1).dueAtMs, null)
    assert.equal(world.vm(2).dueAtMs, null)
  })
})

describe('deleting a machine', () => {
  for (const state of VM_STATES)
    it(`in state ${state} is ${allows(state, 'remove') ? 'accepted' : 'refused'}`, () => {
      const world = new World({ vms: [aVm(1, { state })] })
      const target = world.pool().target
      const answer = world.run(deleteVm())
      if (state === 'deleting') assertRefused(answer, 'vm_unknown')
      else if (state === 'leased') assertRefused(answer, 'vm_leased')
      else {
        accepted(answer)
        assert.equal(world.vm(1).state, 'deleting')
        assert.equal(world.vm(1).dueAtMs, NOW_MS)
        assert.equal(world.pool().target, target - 1)
        assert.deepEqual(
          [world.lastEvent.type, world.lastEvent.vmId, world.lastEvent.actorId],
          ['vm.removed', 1, 1],
        )
      }
    })

  it('judges the role before the machine', () => {
    const world = new World({ vms: [aVm(1, { state: 'leased' })] })
    assertRefused(world.run(deleteVm({ actor: USER, vmId: 9 })), 'not_allowed')
    assertRefused(world.run(deleteVm({ vmId: 9 })), 'vm_unknown')
    assertRefused(world.run(deleteVm()), 'vm_leased')
  })

  it('shrinks the pool by one a machine, never below nothing', () => {
    const world = new World({ vms: vmsOf('ready', 'ready', 'ready'), pools: [aPool({ target: 2 })] })
    world.batch(deleteVm({ vmId: 1 }), deleteVm({ vmId: 2 }), deleteVm({ vmId: 3 }))
    assert.equal(world.pool().target, 0)
    assert.deepEqual(world.states(), ['deleting', 'deleting', 'deleting'])
  })

  it('deletes a machine once, though it is asked for twice in a batch', () => {
    const world = new World({ vms: vmsOf('ready', 'ready') })
    const [, second] = world.batch(deleteVm(), deleteVm())
    assertRefused(second, 'vm_unknown')
    assert.equal(world.pool().target, 1)
  })
})

describe('a machine on its way out', () => {
  it('is due at once when no worker is busy with it', () => {
    assert.equal(removed(aVm(1), NOW_MS).dueAtMs, NOW_MS)
    const waiting = aVm(1, { state: 'maintenance', dueAtMs: NOW_MS - 5, attempts: 0 })
    assert.equal(removed(waiting, NOW_MS).dueAtMs, NOW_MS)
  })

  it('is due when the claim of the worker that is busy with it has run out', () => {
    const until = NOW_MS + 900
    const busy = aVm(1, { state: 'provisioning', dueAtMs: until, busyUntilMs: until, attempts: 1 })
    assert.equal(removed(busy, NOW_MS).dueAtMs, until)
    assert.equal(removed({ ...busy, busyUntilMs: NOW_MS - 900 }, NOW_MS).dueAtMs, NOW_MS)
  })

  it('waits for that worker also when it was kept out of use in between', () => {
    const until = NOW_MS + 900
    const busy = aVm(1, { state: 'maintenance', dueAtMs: until, busyUntilMs: until, attempts: 1 })
    const world = new World({ vms: [busy] })
    world.batch(maintain('cordon'), deleteVm())
    assert.equal(world.vm(1).dueAtMs, until)
  })

  it('is held by nobody', () => {
    const wiped = removed(aVm(1, { state: 'leased' }), NOW_MS, 'wipe')
    assert.deepEqual([wiped.holderId, wiped.leasedAtMs, wiped.state], [null, null, 'deleting'])
  })
})
