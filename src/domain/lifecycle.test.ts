/**
 * The lifecycle table, state by state and step by step: the whole product of both is written down here a second time, so a
 * change of the table is a change of this test.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { aVm } from '../../test/support/world.ts'
import { allows, LIFECYCLE, type LifecycleStep, move } from './lifecycle.ts'
import { VM_STATES, type VmState } from './vm.ts'

/** Where each step leads from each state; a state that is missing: the step is not legal there. */
const LEADS: Record<LifecycleStep, Partial<Record<VmState, VmState>>> = {
  made: { provisioning: 'ready' },
  checkOut: { ready: 'leased' },
  checkIn: { leased: 'maintenance' },
  transfer: { leased: 'leased' },
  clean: { maintenance: 'ready' },
  giveUp: { provisioning: 'failed', maintenance: 'failed' },
  retry: { failed: 'maintenance' },
  remake: { failed: 'provisioning', cordoned: 'provisioning' },
  cordon: { ready: 'cordoned', maintenance: 'cordoned', failed: 'cordoned' },
  uncordon: { cordoned: 'maintenance' },
  remove: {
    provisioning: 'deleting',
    ready: 'deleting',
    maintenance: 'deleting',
    failed: 'deleting',
    cordoned: 'deleting',
  },
  wipe: {
    provisioning: 'deleting',
    ready: 'deleting',
    leased: 'deleting',
    maintenance: 'deleting',
    failed: 'deleting',
    cordoned: 'deleting',
    deleting: 'deleting',
  },
}

const STEPS = Object.keys(LIFECYCLE) as LifecycleStep[]

describe('lifecycle', () => {
  it('knows exactly the steps of this table', () => {
    assert.deepEqual(STEPS.sort(), Object.keys(LEADS).sort())
  })

  for (const step of STEPS)
    for (const state of VM_STATES) {
      const to = LEADS[step][state]
      it(to === undefined ? `refuses ${step} in ${state}` : `leads by ${step} from ${state} to ${to}`, () => {
        assert.equal(allows(state, step), to !== undefined)
        const vm = aVm(1, { state })
        if (to === undefined) assert.throws(() => move(vm, step), /is not legal in state/)
        else assert.equal(move(vm, step).state, to)
      })
    }

  it('begins the work fields anew with each step', () => {
    const vm = aVm(1, { state: 'maintenance', dueAtMs: 5, attempts: 3, failure: 'no answer', claim: 7 })
    const { dueAtMs, attempts, failure } = move(vm, 'clean')
    assert.deepEqual({ dueAtMs, attempts, failure }, { dueAtMs: null, attempts: 0, failure: null })
  })

  it('applies the edit last, and leaves the machine that it was given as it was', () => {
    const vm = aVm(1, { state: 'provisioning' })
    assert.equal(move(vm, 'giveUp', { failure: 'no disk' }).failure, 'no disk')
    assert.equal(vm.state, 'provisioning')
    assert.equal(vm.failure, null)
  })

  it('lets nothing lead back from deleting, and every other state to be left', () => {
    assert.deepEqual(
      STEPS.filter((step) => allows('deleting', step)),
      ['wipe'],
    )
    for (const state of VM_STATES)
      assert.ok(
        STEPS.some((step) => allows(state, step)),
        `${state} cannot be left`,
      )
  })

  it('never takes a machine from its holder but by a check-in or a reset', () => {
    assert.deepEqual(STEPS.filter((step) => allows('leased', step)).sort(), ['checkIn', 'transfer', 'wipe'])
  })
})
