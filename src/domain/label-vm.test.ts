/** Labels of machines: which class a machine is of afterwards, and who may say so. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { actor, assertRefused, aVm, vmsOf, World } from '../../test/support/world.ts'
import type { LabelVm } from './label-vm.ts'
import { isRefusal } from './refusal.ts'
import { CLASSES_MAX, classKeyOf, type Labels } from './vm-class.ts'

function label(vmId: number, labels: Labels, by = 1): LabelVm & { kind: 'labelVm' } {
  return { kind: 'labelVm', actor: actor(by), vmId, labels, requestId: 'r1' }
}

describe('labels of a machine', () => {
  it('make it one of another class, in whatever state it is', () => {
    for (const state of ['ready', 'leased', 'maintenance', 'failed', 'cordoned'] as const) {
      const world = new World({ vms: vmsOf(state, 'ready') })
      const answer = world.run(label(1, { rack: '7', os: 'debian' }))
      assert.ok(!isRefusal(answer), state)
      assert.equal(answer.vm.class, 'small,os=debian,rack=7')
      const again = world.run(label(1, {}))
      assert.ok(!isRefusal(again))
      assert.equal(again.vm.class, 'small')
    }
  })

  it('that it has already change nothing', () => {
    const world = new World({ vms: vmsOf('ready') })
    world.run(label(1, { os: 'debian' }))
    const events = world.tables.events.length
    world.run(label(1, { os: 'debian' }))
    assert.equal(world.tables.events.length, events)
  })

  it('are admins’ to say, of machines that are there', () => {
    const world = new World({ vms: vmsOf('ready', 'deleting') })
    assertRefused(world.run(label(1, { os: 'debian' }, 2)), 'not_allowed')
    assertRefused(world.run(label(2, { os: 'debian' })), 'vm_unknown')
    assertRefused(world.run(label(9, { os: 'debian' })), 'vm_unknown')
  })

  it('stay while somebody waits for it by name or has booked it', () => {
    const world = new World({ vms: [aVm(1, { class: classKeyOf('small', {}, 1) })] })
    assertRefused(world.run(label(1, { os: 'debian' })), 'vm_named')
  })

  it('make no more classes than a pool may have', () => {
    const vms = Array.from({ length: CLASSES_MAX }, (_, i) =>
      aVm(i + 1, { class: classKeyOf('small', { n: `${i}` }, null) }),
    )
    const world = new World({ vms: [...vms, aVm(99, { class: classKeyOf('small', { n: '0' }, null) })] })
    assertRefused(world.run(label(99, { n: 'new' })), 'classes_full')
    const known = world.run(label(99, { n: '5' }))
    assert.ok(!isRefusal(known))
  })
})
