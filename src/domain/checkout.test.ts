/** Who gets which machine: named, by type or any; what is not free; and how commands of one batch see each other. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  ADMIN,
  accepted,
  actor,
  aPool,
  assertRefused,
  aUser,
  aVm,
  USER,
  vmsOf,
  World,
} from '../../test/support/world.ts'
import type { Checkout } from './checkout.ts'
import { isRefusal } from './refusal.ts'
import { VM_STATES } from './vm.ts'
import { VM_TYPE_NAMES, type VmType } from './vm-type.ts'

function checkout(edit: Partial<Checkout> = {}): Checkout {
  return { kind: 'checkout', actor: USER, pool: 'default', vmId: null, type: null, requestId: 'r1', ...edit }
}

/** The id of the machine that was given out. */
function given(answer: unknown): number {
  return accepted(answer as { vm: { id: number } }).vm.id
}

describe('checkout of any machine', () => {
  it('takes the free machine with the lowest id', () => {
    const world = new World({ vms: vmsOf('leased', 'maintenance', 'ready', 'ready') })
    assert.equal(given(world.run(checkout())), 3)
  })

  it('makes the caller the holder, and records when', () => {
    const world = new World({ vms: [aVm(1)] })
    world.nowMs += 500
    const { vm, holder } = accepted(world.run(checkout()))
    assert.equal(holder.id, 2)
    assert.deepEqual(vm, {
      ...aVm(1),
      state: 'leased',
      holderId: 2,
      leasedAtMs: world.nowMs,
      generation: 1,
      claim: vm.claim,
    })
    assert.deepEqual(world.vm(1), vm)
  })

  it('leaves one fact behind, with the generation and the request', () => {
    const world = new World({ vms: [aVm(1, { generation: 4 })] })
    world.run(checkout({ requestId: 'r7' }))
    assert.deepEqual(world.tables.events, [
      {
        id: 1,
        atMs: world.nowMs,
        type: 'vm.checked_out',
        actorId: 2,
        poolId: 1,
        vmId: 1,
        userId: 2,
        requestId: 'r7',
        data: { generation: 5 },
      },
    ])
  })

  it('is refused when no machine is free, or there is no such pool', () => {
    assertRefused(new World({ vms: vmsOf('leased', 'maintenance') }).run(checkout()), 'none_free')
    assertRefused(new World({ pools: [] }).run(checkout()), 'none_free')
    assertRefused(new World({ vms: [aVm(1)] }).run(checkout({ pool: 'other' })), 'none_free')
  })

  it('gives each command of a batch another machine, the lowest first, and refuses those that come too late', () => {
    const world = new World({ vms: vmsOf('ready', 'leased', 'ready', 'ready') })
    const answers = world.batch(checkout(), checkout({ actor: actor(3) }), checkout(), checkout())
    assert.deepEqual(answers.slice(0, 3).map(given), [1, 3, 4])
    assertRefused(answers[3], 'none_free')
    assert.equal(world.vm(3).holderId, 3)
  })
})

describe('checkout of a type', () => {
  const vms = [aVm(1, { type: 'small' }), aVm(2, { type: 'large' }), aVm(3, { type: 'large' })]

  it('takes the free machine of that type with the lowest id', () => {
    assert.equal(given(new World({ vms }).run(checkout({ type: 'large' }))), 2)
  })

  it('is refused when only other types are free', () => {
    const world = new World({ vms })
    assertRefused(world.run(checkout({ type: 'medium' })), 'none_free')
  })

  it('and of any machine see each other in one batch', () => {
    const world = new World({ vms })
    const answers = world.batch(
      checkout({ type: 'large' }),
      checkout(),
      checkout(),
      checkout({ type: 'large' }),
    )
    assert.deepEqual(answers.slice(0, 3).map(given), [2, 1, 3])
    assertRefused(answers[3], 'none_free')
  })
})

describe('checkout of a named machine', () => {
  it('takes that one, though others with lower ids are free', () => {
    assert.equal(given(new World({ vms: vmsOf('ready', 'ready') }).run(checkout({ vmId: 2 }))), 2)
  })

  for (const state of VM_STATES)
    it(`of state ${state} is ${state === 'ready' ? 'accepted' : 'refused'}`, () => {
      const answer = new World({ vms: [aVm(1, { state }), aVm(2)] }).run(checkout({ vmId: 1 }))
      if (state === 'ready') assert.equal(given(answer), 1)
      else assertRefused(answer, state === 'deleting' ? 'vm_unknown' : 'vm_not_free')
    })

  it('is refused when there is none of this id, or it is of another pool', () => {
    const vms = [aVm(1), aVm(2, { poolId: 2 })]
    const pools = [aPool({ target: 1 }), aPool({ id: 2, name: 'other', target: 1 })]
    const world = new World({ vms, pools })
    assertRefused(world.run(checkout({ vmId: 9 })), 'vm_unknown')
    assertRefused(world.run(checkout({ vmId: 2 })), 'vm_unknown')
    assert.equal(given(world.run(checkout({ vmId: 2, pool: 'other' }))), 2)
  })

  it('is refused when it is of another type than asked for', () => {
    assertRefused(new World({ vms: [aVm(1)] }).run(checkout({ vmId: 1, type: 'large' })), 'vm_not_free')
  })

  it('is refused when it was given out earlier in the batch', () => {
    const world = new World({ vms: [aVm(1), aVm(2)] })
    const [first, second] = world.batch(checkout(), checkout({ actor: actor(3), vmId: 1 }))
    assert.equal(given(first), 1)
    assertRefused(second, 'vm_not_free')
    assert.equal(world.vm(1).holderId, 2)
  })
})

describe('machines that a shrink is about to remove', () => {
  it('are not given out, however they are asked for', () => {
    const world = new World({ vms: vmsOf('ready', 'ready', 'ready'), pools: [aPool({ target: 1 })] })
    assert.equal(given(world.run(checkout())), 1)
    assertRefused(world.run(checkout()), 'none_free')
    assertRefused(world.run(checkout({ type: 'small' })), 'none_free')
    assertRefused(world.run(checkout({ vmId: 3 })), 'vm_not_free')
  })

  it('are given out again once the pool may be larger', () => {
    const world = new World({ vms: vmsOf('ready', 'ready'), pools: [aPool({ target: 0 })] })
    assertRefused(world.run(checkout()), 'none_free')
    const policy = world.pool()
    world.run({ kind: 'sizePool', actor: ADMIN, pool: 'default', size: 2, policy, requestId: 'r' })
    assert.equal(given(world.run(checkout())), 1)
  })
})

describe('generation', () => {
  it('rises by one with each checkout of a machine, and never falls', () => {
    const world = new World({ vms: [aVm(1)] })
    for (let round = 1; round <= 4; round++) {
      assert.equal(accepted(world.run(checkout())).vm.generation, round)
      world.run({ kind: 'checkIn', actor: USER, vmId: 1, generation: null, requestId: 'r' })
      assert.equal(world.vm(1).generation, round)
      world.run({ kind: 'maintain', actor: ADMIN, vmId: 1, step: 'clean', requestId: 'r' })
      assert.equal(world.vm(1).generation, round)
    }
  })
})

describe('callers', () => {
  it('who are unknown, were deleted, or have changed their password are refused', () => {
    const users = [aUser(1), aUser(2, { credentialVersion: 3 }), aUser(3, { state: 'leaving' })]
    const world = new World({ users, vms: [aVm(1)] })
    assertRefused(world.run(checkout({ actor: actor(9) })), 'caller_unknown')
    assertRefused(world.run(checkout({ actor: actor(3) })), 'caller_unknown')
    assertRefused(world.run(checkout({ actor: actor(2, 2) })), 'password_wrong')
    assert.equal(given(world.run(checkout({ actor: actor(2, 3) }))), 1)
  })
})

describe('one batch', () => {
  const requests = fc.array(
    fc.oneof(
      fc.record({ vmId: fc.integer({ min: 1, max: 12 }) }),
      fc.record({ type: fc.constantFrom<VmType>(...VM_TYPE_NAMES) }),
      fc.constant({}),
    ),
    { maxLength: 15 },
  )
  const rows = fc.array(fc.tuple(fc.constantFrom(...VM_STATES), fc.constantFrom(...VM_TYPE_NAMES)), {
    maxLength: 12,
  })

  it('gives the same answers as the same commands in batches of their own', () => {
    fc.assert(
      fc.property(rows, requests, fc.nat(12), (list, wanted, target) => {
        const vms = list.map(([state, type], i) => aVm(i + 1, { state, type }))
        const commands = wanted.map((edit) => checkout(edit))
        const pools = [aPool({ target })]
        const together = new World({ vms, pools }).batch(...commands)
        const alone = new World({ vms, pools })
        for (const [i, command] of commands.entries()) {
          const answer = alone.run(command)
          const other = together[i]
          if (isRefusal(answer)) assertRefused(other, answer.code)
          else assert.equal(given(other), answer.vm.id)
        }
      }),
    )
  })

  it('finds free machines although others were kept out of use earlier in it', () => {
    const world = new World({ vms: vmsOf('ready', 'ready') })
    const [, answer] = world.batch(
      { kind: 'maintain', actor: ADMIN, vmId: 1, step: 'cordon', requestId: 'r' },
      checkout(),
    )
    assert.equal(given(answer), 2)
  })

  it('finds free machines although others were deleted earlier in it', () => {
    const world = new World({ vms: vmsOf('ready', 'ready') })
    const [, answer] = world.batch({ kind: 'deleteVm', actor: ADMIN, vmId: 1, requestId: 'r' }, checkout())
    assert.equal(given(answer), 2)
  })

  it('finds a machine that became ready earlier in it, in the order of ids', () => {
    const world = new World({ vms: vmsOf('maintenance', 'ready') })
    const [, answer] = world.batch(
      { kind: 'maintain', actor: ADMIN, vmId: 1, step: 'clean', requestId: 'r' },
      checkout(),
    )
    assert.equal(given(answer), 1)
  })
})
