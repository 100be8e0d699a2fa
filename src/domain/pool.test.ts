/**
 * How a pool counts its machines, and which types new machines get: for any tally and any mix, not for chosen ones only.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { aPool } from '../../test/support/world.ts'
import {
  countExisting,
  countFree,
  countIn,
  countUp,
  EMPTY_QUEUE,
  type Estimate,
  EVEN_MIX,
  marginMs,
  nextTypes,
  observed,
  poolStats,
  sizeMin,
  surplus,
  type Tally,
  type TypeMix,
} from './pool.ts'
import { VM_STATES, type VmState } from './vm.ts'
import { VM_TYPE_NAMES, type VmType } from './vm-type.ts'

const type = fc.constantFrom(...VM_TYPE_NAMES)
const state = fc.constantFrom(...VM_STATES)
const machines = fc.array(fc.tuple(type, state), { maxLength: 60 })
const mix = fc
  .record({
    small: fc.integer({ min: 0, max: 100 }),
    medium: fc.integer({ min: 0, max: 100 }),
    large: fc.integer({ min: 0, max: 100 }),
    xlarge: fc.integer({ min: 0, max: 100 }),
  })
  .filter((shares) => Object.values(shares).some((share) => share > 0))

function tallyOf(list: readonly (readonly [VmType, VmState])[]): Tally {
  const tally: Tally = {}
  for (const [type, state] of list) countUp(tally, type, state, 1)
  return tally
}

describe('tally', () => {
  it('counts machines by type and state, as many as there are', () => {
    fc.assert(
      fc.property(machines, (list) => {
        const tally = tallyOf(list)
        for (const state of VM_STATES)
          assert.equal(countIn(tally, state), list.filter(([, is]) => is === state).length)
        assert.equal(countExisting(tally), list.filter(([, is]) => is !== 'deleting').length)
      }),
    )
  })

  it('is back where it was after each machine was counted out again', () => {
    fc.assert(
      fc.property(machines, (list) => {
        const tally = tallyOf(list)
        for (const [type, state] of list) countUp(tally, type, state, -1)
        for (const state of VM_STATES) assert.equal(countIn(tally, state), 0)
      }),
    )
  })

  it('sums up to what exists: free, leased and aside, without those being destroyed', () => {
    fc.assert(
      fc.property(machines, fc.nat(80), (list, target) => {
        const stats = poolStats(aPool({ target }), tallyOf(list))
        assert.equal(stats.free + stats.leased + stats.aside, stats.existing)
        assert.equal(stats.target, target)
        assert.ok(stats.aside >= 0)
      }),
    )
  })
})

describe('surplus and free machines', () => {
  const cases: [string, number, Partial<Record<VmState, number>>, { surplus: number; free: number }][] = [
    ['a pool at its target', 3, { ready: 3 }, { surplus: 0, free: 3 }],
    ['a pool that grows', 9, { ready: 3, provisioning: 2 }, { surplus: 0, free: 3 }],
    ['a shrink of ready machines', 2, { ready: 3 }, { surplus: 1, free: 2 }],
    ['a shrink that machines being made cover', 3, { ready: 3, provisioning: 2 }, { surplus: 2, free: 3 }],
    ['a shrink that they cover in part', 2, { ready: 3, provisioning: 2 }, { surplus: 3, free: 2 }],
    ['a shrink to nothing', 0, { ready: 3 }, { surplus: 3, free: 0 }],
    ['a shrink down to what is leased', 2, { ready: 1, leased: 2 }, { surplus: 1, free: 0 }],
    ['a shrink under what is leased', 1, { ready: 1, leased: 2 }, { surplus: 2, free: 0 }],
    ['machines being destroyed', 2, { ready: 2, deleting: 5 }, { surplus: 0, free: 2 }],
  ]
  for (const [name, target, states, expected] of cases)
    it(`has ${expected.free} free and ${expected.surplus} too many in ${name}`, () => {
      const pool = aPool({ target })
      const tally: Tally = { small: states }
      assert.deepEqual({ surplus: surplus(pool, tally), free: countFree(pool, tally) }, expected)
    })

  it('never gives out what a shrink needs: whatever is free may be leased, and the target can still be reached', () => {
    fc.assert(
      fc.property(machines, fc.nat(80), (list, wanted) => {
        const tally = tallyOf(list)
        const pool = aPool({ target: Math.max(wanted, sizeMin(tally)) })
        const free = countFree(pool, tally)
        assert.ok(free >= 0 && free <= countIn(tally, 'ready'))
        const leftToRemove = countIn(tally, 'ready') - free + countIn(tally, 'provisioning')
        assert.ok(leftToRemove >= surplus(pool, tally))
      }),
    )
  })

  it('can shrink to what is neither ready nor being made', () => {
    fc.assert(
      fc.property(machines, (list) => {
        const inTheWay = list.filter(([, is]) => !['ready', 'provisioning', 'deleting'].includes(is))
        assert.equal(sizeMin(tallyOf(list)), inTheWay.length)
      }),
    )
  })
})

describe('types of the next machines', () => {
  function counted(types: readonly VmType[]): Record<VmType, number> {
    const counts: Record<VmType, number> = { small: 0, medium: 0, large: 0, xlarge: 0 }
    for (const type of types) counts[type] = (counts[type] ?? 0) + 1
    return counts
  }

  /** How far the worst type is from its share of `n` machines. */
  function farthest(mix: TypeMix, types: readonly VmType[]): number {
    const counts = counted(types)
    const shares = VM_TYPE_NAMES.map((type) => mix[type] ?? 0)
    const all = shares.reduce((sum, share) => sum + share)
    return Math.max(
      ...VM_TYPE_NAMES.map((type, i) =>
        Math.abs((counts[type] ?? 0) - (types.length * (shares[i] ?? 0)) / all),
      ),
    )
  }

  it('go round in an even mix', () => {
    assert.deepEqual(nextTypes(EVEN_MIX, {}, 6), ['small', 'medium', 'large', 'xlarge', 'small', 'medium'])
  })

  it('follow the shares of a weighted mix', () => {
    assert.deepEqual(counted(nextTypes({ small: 2, large: 1 }, {}, 9)), {
      small: 6,
      medium: 0,
      large: 3,
      xlarge: 0,
    })
  })

  it('are within one of their share after any number of machines of an even mix', () => {
    fc.assert(
      fc.property(fc.nat(200), (n) => {
        assert.ok(farthest(EVEN_MIX, nextTypes(EVEN_MIX, {}, n)) <= 1)
      }),
    )
  })

  it('are within one of their share after any number of machines of a weighted mix', () => {
    fc.assert(
      fc.property(mix, fc.nat(200), (mix, n) => {
        const types = nextTypes(mix, {}, n)
        const off = farthest(mix, types)
        assert.ok(off <= 1, `${n} machines of ${JSON.stringify(mix)}: ${JSON.stringify(counted(types))}`)
      }),
    )
  })

  it('are as many as were asked for, and none outside the mix', () => {
    fc.assert(
      fc.property(mix, machines, fc.nat(50), (mix, list, n) => {
        const types = nextTypes(mix, tallyOf(list), n)
        assert.equal(types.length, n)
        for (const type of types) assert.ok((mix[type as keyof typeof mix] ?? 0) > 0)
      }),
    )
  })

  it('are the same whether they are planned at once or one by one', () => {
    fc.assert(
      fc.property(mix, machines, fc.nat(30), (mix, list, n) => {
        const tally = tallyOf(list)
        const one: VmType[] = []
        for (let i = 0; i < n; i++) {
          const [type] = nextTypes(mix, tally, 1)
          assert.ok(type)
          countUp(tally, type, 'provisioning', 1)
          one.push(type)
        }
        assert.deepEqual(nextTypes(mix, tallyOf(list), n), one)
      }),
    )
  })

  it('make up first for the types that the pool lacks, and count no machine that is being destroyed', () => {
    const tally = tallyOf([
      ['small', 'ready'],
      ['small', 'leased'],
      ['medium', 'ready'],
      ['xlarge', 'deleting'],
    ])
    assert.deepEqual(nextTypes(EVEN_MIX, tally, 4), ['large', 'xlarge', 'medium', 'large'])
  })
})

describe('the margin of a pool', () => {
  const learned = (times: readonly number[]) => {
    let estimate: Estimate | undefined
    for (const ms of times) estimate = observed(estimate, ms)
    const cleaning = estimate === undefined ? {} : { small: estimate }
    return marginMs(aPool({ cleaning: 'automatic', queue: { ...EMPTY_QUEUE, cleaning } }), 'small')
  }

  it("is the pool's own as long as nothing was observed, and where cleaning is manual", () => {
    assert.equal(learned([]), aPool().marginSeconds * 1_000)
    const manual = aPool({ queue: { ...EMPTY_QUEUE, cleaning: { small: { meanMs: 1, deviationMs: 0 } } } })
    assert.equal(marginMs(manual, 'small'), manual.marginSeconds * 1_000)
  })

  it('covers what was observed, and settles near it when that hardly differs', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3_600_000 }), (ms) => {
        const margin = learned(Array.from({ length: 60 }, () => ms))
        assert.ok(margin >= ms && margin <= 1.26 * ms + 2, `${ms} → ${margin}`)
      }),
    )
  })

  it('stays the same while times differ a little', () => {
    const times = Array.from({ length: 400 }, (_, i) => 100_000 + (i % 2) * 1_000)
    const margins = new Set(times.slice(200).map((_, i) => learned(times.slice(0, 200 + i))))
    assert.ok(margins.size <= 2, [...margins].join())
  })
})
