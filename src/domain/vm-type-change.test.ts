/** Sizes of machine: who makes, changes and deletes them, and which stay. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ADMIN, accepted, aPool, assertRefused, aVm, USER, World } from '../../test/support/world.ts'
import { VM_TYPES_MAX } from './vm-type.ts'
import { vmTypeEtag } from './vm-type-change.ts'

const requestId = 'r'
const TINY = { name: 'tiny', vcpu: 1, memoryMb: 512 }

function create(world: World, spec = TINY, actor = ADMIN) {
  return world.run({ kind: 'createVmType', actor, spec, requestId })
}

function change(world: World, name: string, vcpu: number | null, ifMatch: string[] | null = null) {
  return world.run({ kind: 'changeVmType', actor: ADMIN, name, vcpu, memoryMb: null, ifMatch, requestId })
}

function remove(world: World, name = 'tiny', ifMatch: string[] | null = null) {
  return world.run({ kind: 'deleteVmType', actor: ADMIN, name, ifMatch, requestId })
}

function namesOf(world: World): string[] {
  return world.tables.installation.vmTypes.map(({ name }) => name)
}

describe('sizes of machine', () => {
  it('are the original API’s first, and others come behind them', () => {
    const world = new World()
    accepted(create(world))
    assert.deepEqual(namesOf(world), ['small', 'medium', 'large', 'xlarge', 'tiny'])
    assert.deepEqual(world.lastEvent.data, TINY)
  })

  it('are made by admins, once each, and not without end', () => {
    const world = new World()
    assertRefused(create(world, TINY, USER), 'not_allowed')
    accepted(create(world))
    assertRefused(create(world), 'vm_type_taken')
    for (let i = 0; i < VM_TYPES_MAX - 5; i++) accepted(create(world, { ...TINY, name: `t${i}` }))
    assertRefused(create(world, { ...TINY, name: 'more' }), 'too_many_vm_types')
  })

  it('change in what they say, for whoever has seen them as they are', () => {
    const world = new World()
    accepted(create(world))
    const seen = vmTypeEtag(TINY)
    assert.equal(accepted(change(world, 'tiny', 2, ['"other"', seen])).spec.vcpu, 2)
    assertRefused(change(world, 'tiny', 3, [seen]), 'etag_stale')
    const events = world.tables.events.length
    accepted(change(world, 'tiny', 2))
    assert.equal(world.tables.events.length, events, 'nothing has changed')
    assertRefused(change(world, 'none', 2), 'vm_type_unknown')
  })

  it('go when nothing is made of them', () => {
    const world = new World()
    accepted(create(world))
    assertRefused(remove(world, 'tiny', ['"other"']), 'etag_stale')
    accepted(remove(world))
    assert.ok(!namesOf(world).includes('tiny'))
    assertRefused(remove(world), 'vm_type_unknown')
    assertRefused(remove(world, 'small'), 'vm_type_fixed')
  })

  for (const [why, pool, vms] of [
    ['a pool is made of', aPool({ typeMix: { tiny: 1 } }), []],
    ['a machine has', aPool({ target: 1 }), [aVm(1, { type: 'tiny' })]],
    ['a pool has a cost for', aPool({ units: { tiny: 2 } }), []],
  ] as const)
    it(`stay while ${why} them`, () => {
      const world = new World({ pools: [pool], vms })
      accepted(create(world))
      assertRefused(remove(world), 'vm_type_in_use')
    })

  it('go though a pool once was made of them that was deleted', () => {
    const world = new World({ pools: [aPool({ typeMix: { tiny: 1 } })] })
    accepted(create(world))
    accepted(world.run({ kind: 'deletePool', actor: ADMIN, pool: 'default', ifMatch: null, requestId }))
    accepted(remove(world))
  })
})
