/** How workers take work and report it: claims that run out, reports that come late, pauses that double, and giving up. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  ADMIN,
  accepted,
  aPool,
  aVm,
  NOW_MS,
  USER,
  unversioned,
  vmsOf,
  World,
} from '../../test/support/world.ts'
import { type Command, decide, needsOf } from './command.ts'
import { Joining } from './decision.ts'
import { isRefusal } from './refusal.ts'
import { VM_STATES } from './vm.ts'
import { ATTEMPTS_MAX, leavesWork, pauseMs, WORK_STATES, type WorkResult, type WorkState } from './work.ts'
import { Needs, WorkingSet } from './working-set.ts'

const CLAIM_MS = 60_000

function claim(state: WorkState, machinesMax = 100) {
  return { kind: 'claimWork', poolId: 1, state, machinesMax, claimMs: CLAIM_MS } as const
}

function report(state: WorkState, ...results: WorkResult[]) {
  return { kind: 'reportWork', state, results } as const
}

function ok(vmId: number, claim: number): WorkResult {
  return { vmId, claim, ok: true }
}

function failed(vmId: number, claim: number, permanent = false): WorkResult {
  return { vmId, claim, ok: false, failure: 'no disk', permanent }
}

/** A machine on which a worker is busy since its second claim. */
function busy(id: number, state: WorkState, edit = {}) {
  return aVm(id, {
    state,
    claim: 2,
    attempts: 1,
    dueAtMs: NOW_MS + CLAIM_MS,
    busyUntilMs: NOW_MS + CLAIM_MS,
    ...edit,
  })
}

describe('claiming work', () => {
  for (const state of WORK_STATES)
    it(`takes machines in state ${state} that are due, for a limited time`, () => {
      const vms = VM_STATES.map((state, i) => aVm(i + 1, { state, dueAtMs: NOW_MS }))
      const world = new World({ vms })
      const { pool, claimed } = accepted(world.run(claim(state)))
      assert.deepEqual(pool && unversioned(pool), unversioned(world.pool()))
      const [vm, ...others] = claimed
      assert.ok(vm)
      assert.deepEqual(others, [])
      assert.deepEqual([vm.state, vm.claim, vm.attempts], [state, 2, 1])
      assert.deepEqual([vm.dueAtMs, vm.busyUntilMs], [NOW_MS + CLAIM_MS, NOW_MS + CLAIM_MS])
      assert.deepEqual(world.vm(vm.id), vm)
      assert.deepEqual(world.tables.events, [])
    })

  it('leaves machines that are not due yet, or nobody’s work', () => {
    const vms = [
      aVm(1, { state: 'maintenance' }),
      aVm(2, { state: 'maintenance', dueAtMs: NOW_MS + 1 }),
      aVm(3, { state: 'maintenance', dueAtMs: NOW_MS }),
    ]
    const { claimed } = accepted(new World({ vms }).run(claim('maintenance')))
    assert.deepEqual(
      claimed.map((vm) => vm.id),
      [3],
    )
  })

  it('takes machines of one pool, and none of a pool that is not there', () => {
    const pools = [aPool({ target: 1 }), aPool({ id: 2, name: 'b', target: 1 })]
    const vms = [1, 2].map((id) => aVm(id, { poolId: id, state: 'deleting', dueAtMs: NOW_MS }))
    const world = new World({ vms, pools })
    const answer = accepted(world.run({ ...claim('deleting'), poolId: 2 }))
    assert.deepEqual([answer.pool?.id, answer.claimed.map((vm) => vm.id)], [2, [2]])
    assert.deepEqual(accepted(world.run({ ...claim('deleting'), poolId: 9 })), { pool: null, claimed: [] })
  })

  it('takes at most a slice, those first that are due the longest', () => {
    const vms = [3, 1, 2].map((sinceMs, i) => aVm(i + 1, { state: 'deleting', dueAtMs: NOW_MS - sinceMs }))
    const world = new World({ vms })
    const order = [1, 2, 3, 4].map(() => accepted(world.run(claim('deleting', 1))).claimed.map((vm) => vm.id))
    assert.deepEqual(order, [[1], [3], [2], []])
  })

  it('gives a machine to one of two workers that claim in one batch', () => {
    const vms = [1, 2, 3].map((id) => aVm(id, { state: 'maintenance', dueAtMs: NOW_MS }))
    const answers = new World({ vms }).batch(claim('maintenance', 2), claim('maintenance', 2)) as {
      claimed: { id: number }[]
    }[]
    const ids = answers.map(({ claimed }) => claimed.map((vm) => vm.id).sort())
    assert.deepEqual(ids.flat().sort(), [1, 2, 3])
    assert.equal(new Set(ids.flat()).size, 3)
  })

  it('takes a machine again once the claim has run out, under another number', () => {
    const world = new World({ vms: [busy(1, 'maintenance')] })
    world.nowMs += CLAIM_MS - 1
    assert.deepEqual(accepted(world.run(claim('maintenance'))).claimed, [])
    world.nowMs += 1
    const [again] = accepted(world.run(claim('maintenance'))).claimed
    assert.deepEqual([again?.claim, again?.attempts], [3, 2])
  })
})

describe('reporting work', () => {
  it('makes a machine ready, with the name and address that it was given', () => {
    const world = new World({ vms: [busy(1, 'provisioning', { address: '', power: 'stopped' })] })
    const made = { name: 'vm-000001', address: '10.1.1.1' }
    const answer = accepted(world.run(report('provisioning', { ...ok(1, 2), made } as WorkResult)))
    assert.deepEqual(answer, { accepted: 1, late: 0 })
    assert.deepEqual(world.vm(1), aVm(1, { ...made, claim: world.vm(1).claim, power: 'running' }))
    assert.deepEqual([world.lastEvent.type, world.lastEvent.data], ['vm.made', { vms: [[1, 1]] }])
  })

  it('makes a cleaned machine ready, and a destroyed one disappear', () => {
    const world = new World({ vms: [busy(1, 'maintenance'), busy(2, 'deleting')] })
    accepted(world.run(report('maintenance', ok(1, 2))))
    accepted(world.run(report('deleting', ok(2, 2))))
    assert.deepEqual(world.states(), ['ready'])
    assert.deepEqual(
      world.tables.events.map(({ type }) => type),
      ['vm.cleaned', 'vm.gone'],
    )
    assert.deepEqual(world.tables.pools.get(1)?.tally, {
      small: { maintenance: 0, deleting: 0, ready: 1 },
    })
  })

  it('tells of many machines in one fact for each pool', () => {
    const pools = [aPool({ target: 3 }), aPool({ id: 2, name: 'b', target: 1 })]
    const vms = [1, 2, 3, 4].map((id) => busy(id, 'maintenance', { poolId: id === 3 ? 2 : 1 }))
    const world = new World({ vms, pools })
    accepted(world.run(report('maintenance', ...[4, 3, 2, 1].map((id) => ok(id, 2)))))
    const ranges = [
      [1, 2],
      [4, 4],
    ]
    assert.deepEqual(
      world.tables.events.map(({ type, poolId, data }) => [type, poolId, data]),
      [
        ['vm.cleaned', 1, { vms: ranges }],
        ['vm.cleaned', 2, { vms: [[3, 3]] }],
      ],
    )
  })
})

describe('a late report', () => {
  const late = { accepted: 0, late: 1 }

  it('with a claim that is over changes nothing', () => {
    const vm = busy(1, 'maintenance', { claim: 3 })
    const world = new World({ vms: [vm] })
    for (const result of [ok(1, 2), failed(1, 2), failed(1, 2, true)])
      assert.deepEqual(accepted(world.run(report('maintenance', result))), late)
    assert.deepEqual(world.vm(1), vm)
    assert.deepEqual(world.tables.events, [])
  })

  it('of a machine that has left the state it was claimed in changes nothing', () => {
    for (const state of VM_STATES.filter((state) => state !== 'maintenance')) {
      const world = new World({ vms: [aVm(1, { state, claim: 2 })] })
      assert.deepEqual(accepted(world.run(report('maintenance', ok(1, 2)))), late, state)
      assert.equal(world.vm(1).state, state)
    }
  })

  it('of a machine that is gone changes nothing', () => {
    assert.deepEqual(accepted(new World().run(report('deleting', ok(7, 1)))), late)
  })

  it('changes nothing the second time, and does not spoil the others beside it', () => {
    const world = new World({ vms: [busy(1, 'maintenance'), busy(2, 'maintenance')] })
    const answers = world.batch(
      report('maintenance', ok(1, 2)),
      report('maintenance', ok(1, 2), ok(2, 2), ok(9, 2)),
    )
    assert.deepEqual(answers, [
      { accepted: 1, late: 0 },
      { accepted: 1, late: 2 },
    ])
  })

  it('of a claim that was reported already changes nothing, though the machine still waits for its next try', () => {
    const world = new World({ vms: [busy(1, 'maintenance')] })
    accepted(world.run(report('maintenance', failed(1, 2))))
    const waiting = world.vm(1)
    for (const result of [ok(1, 2), failed(1, 2)])
      assert.deepEqual(accepted(world.run(report('maintenance', result))), late)
    assert.deepEqual(world.vm(1), waiting)
  })

  it('of a cleaning before the machine was used again does not count for the cleaning after it', () => {
    const world = new World({ vms: [busy(1, 'maintenance')] })
    const requestId = 'r'
    // An admin keeps it out of use for a moment: it has to be cleaned anew.
    world.run({ kind: 'maintain', actor: ADMIN, vmId: 1, step: 'cordon', requestId })
    accepted(world.run({ kind: 'maintain', actor: ADMIN, vmId: 1, step: 'uncordon', requestId }))
    assert.deepEqual(accepted(world.run(report('maintenance', ok(1, 2)))), late)
    assert.equal(world.vm(1).state, 'maintenance')
  })
})

describe('a machine that was taken from its worker', () => {
  const until = NOW_MS + CLAIM_MS

  it('is not worked on by another one before the first one’s time is over', () => {
    const world = new World({
      vms: [busy(1, 'maintenance')],
      pools: [aPool({ target: 1, cleaning: 'automatic' })],
    })
    const requestId = 'r'
    world.run({ kind: 'maintain', actor: ADMIN, vmId: 1, step: 'cordon', requestId })
    world.run({ kind: 'maintain', actor: ADMIN, vmId: 1, step: 'uncordon', requestId })
    assert.equal(world.vm(1).dueAtMs, until)
    world.nowMs = until - 1
    assert.deepEqual(accepted(world.run(claim('maintenance'))).claimed, [])
    world.nowMs = until
    assert.equal(accepted(world.run(claim('maintenance'))).claimed.length, 1)
  })

  it('is free for the next one as soon as it has reported', () => {
    const world = new World({ vms: [busy(1, 'maintenance')] })
    accepted(world.run(report('maintenance', ok(1, 2))))
    assert.equal(world.vm(1).busyUntilMs, null)
    world.run({ kind: 'deleteVm', actor: ADMIN, vmId: 1, requestId: 'r' })
    assert.equal(world.vm(1).dueAtMs, NOW_MS)
  })
})

describe('work that failed', () => {
  it('is tried again after a pause', () => {
    const world = new World({ vms: [busy(1, 'provisioning')] })
    assert.deepEqual(accepted(world.run(report('provisioning', failed(1, 2)))), { accepted: 1, late: 0 })
    const { state, dueAtMs, failure, attempts } = world.vm(1)
    assert.deepEqual([state, dueAtMs, failure, attempts], ['provisioning', NOW_MS + 1_000, 'no disk', 1])
    const { type, vmId, data } = world.lastEvent
    assert.deepEqual([type, vmId, data], ['vm.work_failed', 1, { failure: 'no disk', attempt: 1 }])
  })

  it('pauses twice as long after each try: from one second to five minutes', () => {
    assert.deepEqual([1, 2, 3, 4, 5].map(pauseMs), [1_000, 2_000, 4_000, 8_000, 16_000])
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5_000 }), (attempts) => {
        assert.equal(pauseMs(attempts), Math.min(300_000, 1_000 * 2 ** (attempts - 1)))
      }),
    )
    assert.equal(pauseMs(0), 1_000)
  })

  for (const state of ['provisioning', 'maintenance'] as const) {
    it(`is given up in state ${state} after ${ATTEMPTS_MAX} tries`, () => {
      const world = new World({ vms: [aVm(1, { state, dueAtMs: NOW_MS, claim: 0 })] })
      for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
        world.nowMs = world.vm(1).dueAtMs ?? assert.fail('not due any more')
        const [claimed] = accepted(world.run(claim(state))).claimed
        assert.equal(claimed?.attempts, attempt)
        accepted(world.run(report(state, failed(1, attempt))))
        assert.equal(world.vm(1).state, attempt < ATTEMPTS_MAX ? state : 'failed')
      }
      const { failure, dueAtMs, attempts } = world.vm(1)
      assert.deepEqual([failure, dueAtMs, attempts], ['no disk', null, 0])
      assert.deepEqual([world.lastEvent.type, world.lastEvent.data], ['vm.failed', { failure: 'no disk' }])
    })

    it(`is given up in state ${state} when its workers never come back`, () => {
      const world = new World({ vms: [aVm(1, { state, dueAtMs: NOW_MS, claim: 0 })] })
      for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
        assert.equal(accepted(world.run(claim(state))).claimed.length, 1)
        world.nowMs += CLAIM_MS
      }
      assert.deepEqual(accepted(world.run(claim(state))).claimed, [])
      assert.equal(world.vm(1).state, 'failed')
      assert.equal(world.vm(1).failure, 'no answer within the time limit')
    })

    it(`is given up in state ${state} at once when trying again cannot help`, () => {
      const world = new World({ vms: [busy(1, state)] })
      accepted(world.run(report(state, failed(1, 2, true))))
      assert.equal(world.vm(1).state, 'failed')
    })
  }

  it('is never given up where machines are destroyed: one that may still exist is not forgotten', () => {
    const world = new World({ vms: [aVm(1, { state: 'deleting', dueAtMs: NOW_MS, claim: 0 })] })
    for (let attempt = 1; attempt <= 30; attempt++) {
      world.nowMs = world.vm(1).dueAtMs ?? assert.fail('not due any more')
      const [claimed] = accepted(world.run(claim('deleting'))).claimed
      assert.equal(claimed?.attempts, attempt)
      if (attempt % 3 !== 0) accepted(world.run(report('deleting', failed(1, attempt, attempt % 2 === 0))))
      assert.equal(world.vm(1).state, 'deleting')
    }
  })

  it('because its server was stopped does not count, and is due at once, even if it was the last try', () => {
    const world = new World({ vms: [busy(1, 'maintenance', { attempts: ATTEMPTS_MAX })] })
    accepted(world.run(report('maintenance', { ...failed(1, 2), interrupted: 'ended' } as WorkResult)))
    const { state, dueAtMs, attempts, busyUntilMs } = world.vm(1)
    assert.deepEqual([state, dueAtMs, attempts], ['maintenance', NOW_MS, ATTEMPTS_MAX - 1])
    assert.equal(busyUntilMs, null)
    assert.deepEqual(world.tables.events, [])
  })

  describe('while its provider may still act', () => {
    const acting = (attempts = 1) => busy(1, 'maintenance', { attempts, busyUntilMs: NOW_MS + CLAIM_MS })
    const still = { ...failed(1, 2), acting: true } as WorkResult

    it('is not due before that is over', () => {
      const world = new World({ vms: [acting()] })
      accepted(world.run(report('maintenance', still)))
      const { dueAtMs, busyUntilMs, failure } = world.vm(1)
      assert.deepEqual([dueAtMs, busyUntilMs, failure], [NOW_MS + CLAIM_MS, NOW_MS + CLAIM_MS, 'no disk'])
    })

    it('is reported once', () => {
      for (const result of [still, { ...failed(1, 2), interrupted: 'acting' } as WorkResult]) {
        const world = new World({ vms: [acting(3)] })
        accepted(world.run(report('maintenance', result)))
        const before = world.vm(1)
        assert.deepEqual(accepted(world.run(report('maintenance', result))), { accepted: 0, late: 1 })
        assert.deepEqual(world.vm(1), before)
      }
    })

    it('and was the last try leaves a failed machine that is not touched before that is over', () => {
      const world = new World({
        vms: [acting(ATTEMPTS_MAX)],
        pools: [aPool({ cleaning: 'automatic', target: 1 })],
      })
      accepted(world.run(report('maintenance', still)))
      assert.equal(world.vm(1).state, 'failed')
      accepted(world.run({ kind: 'maintain', actor: ADMIN, vmId: 1, step: 'retry', requestId: 'r' }))
      assert.deepEqual([world.vm(1).state, world.vm(1).dueAtMs], ['maintenance', NOW_MS + CLAIM_MS])
    })
  })

  it('of one machine leaves those beside it ready', () => {
    const world = new World({ vms: [busy(1, 'maintenance'), busy(2, 'maintenance')] })
    accepted(world.run(report('maintenance', failed(1, 2), ok(2, 2))))
    assert.deepEqual(world.states(), ['maintenance', 'ready'])
  })

  it('begins to count anew when an admin wants a failed machine tried again', () => {
    const vm = aVm(1, { state: 'failed', failure: 'no disk' })
    const world = new World({ vms: [vm], pools: [aPool({ target: 1, cleaning: 'automatic' })] })
    world.run({ kind: 'maintain', actor: ADMIN, vmId: 1, step: 'retry', requestId: 'r' })
    const [claimed] = accepted(world.run(claim('maintenance'))).claimed
    assert.deepEqual([claimed?.attempts, claimed?.failure], [1, null])
  })
})

describe('work', () => {
  it('ends for every machine, whatever workers answer, unless it is destroyed for ever', () => {
    const answer = fc.constantFrom('ok', 'failed', 'permanent', 'silent')
    fc.assert(
      fc.property(fc.array(answer, { minLength: 8, maxLength: 30 }), (answers) => {
        const world = new World({ vms: vmsOf('provisioning', 'maintenance') })
        world.tables.vms.set(1, { ...world.vm(1), dueAtMs: NOW_MS })
        world.tables.vms.set(2, { ...world.vm(2), dueAtMs: NOW_MS })
        for (const what of answers)
          for (const state of ['provisioning', 'maintenance'] as const) {
            for (const vm of accepted(world.run(claim(state))).claimed)
              if (what === 'ok') world.run(report(state, ok(vm.id, vm.claim)))
              else if (what !== 'silent')
                world.run(report(state, failed(vm.id, vm.claim, what === 'permanent')))
            world.nowMs += CLAIM_MS
          }
        for (const vm of [world.vm(1), world.vm(2)]) {
          assert.ok(vm.state === 'ready' || vm.state === 'failed', vm.state)
          assert.equal(vm.dueAtMs, null)
        }
      }),
    )
  })
})

describe('a batch leaves work', () => {
  const requestId = 'r'
  const manual = aPool({ target: 3 })
  const automatic = aPool({ target: 3, cleaning: 'automatic' })
  const vms = [
    aVm(1),
    aVm(2, { state: 'leased' }),
    aVm(3, { state: 'maintenance', claim: 2, attempts: 1, dueAtMs: NOW_MS, busyUntilMs: NOW_MS }),
  ]
  const checkOut = {
    kind: 'checkout',
    actor: USER,
    pool: 'default',
    vmId: null,
    type: null,
    requestId,
  } as const
  const checkIn = { kind: 'checkIn', actor: USER, vmId: 2, generation: null, requestId } as const
  const cases: [string, boolean, Command, typeof manual][] = [
    ['when a machine was checked out', false, checkOut, manual],
    ['when a machine was given back that waits for an admin', false, checkIn, manual],
    ['when a machine was given back that a worker cleans', true, checkIn, automatic],
    ['when a machine was cleaned', false, report('maintenance', ok(3, 2)), manual],
    ['when cleaning failed and is tried again', true, report('maintenance', failed(3, 2)), manual],
    ['when cleaning was given up', false, report('maintenance', failed(3, 2, true)), manual],
    ['when a machine was claimed, which may have to be claimed again', true, claim('maintenance'), manual],
    ['when a machine was deleted', true, { kind: 'deleteVm', actor: ADMIN, vmId: 1, requestId }, manual],
    ['when a user was deleted', true, { kind: 'deleteUser', actor: ADMIN, userId: 2, requestId }, manual],
    [
      'when a pool is to grow',
      true,
      { kind: 'sizePool', actor: ADMIN, pool: 'default', size: 9, policy: manual, requestId },
      manual,
    ],
    [
      'when a pool is to shrink',
      true,
      { kind: 'sizePool', actor: ADMIN, pool: 'default', size: 2, policy: manual, requestId },
      manual,
    ],
    ['when a reset has begun', true, { kind: 'beginReset', actor: ADMIN, allowed: false, requestId }, manual],
  ]
  for (const [name, expected, command, pool] of cases)
    it(`${name}: ${expected ? 'yes' : 'no'}`, () => {
      const { tables } = new World({ vms, pools: [pool] })
      const needs = new Needs()
      needsOf(command, needs)
      const set = new WorkingSet(tables.load(needs, NOW_MS))
      const decision = decide(set, command)
      if (isRefusal(decision)) assert.fail(decision.message)
      if (decision instanceof Joining) assert.fail('nobody joins')
      set.apply(decision.changes)
      assert.equal(leavesWork(set), expected)
    })
})
