/**
 * The rules as a whole: random commands of users, admins and workers, in batches, from the first day on. Whatever is
 * asked for in whatever order, the rows agree with each other; and a batch is worth as much as its commands one by one.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  CLAIM_MS,
  type Claimed,
  claimedIn,
  commandOf,
  comparable,
  type History,
  histories,
  plainHistories,
  WEIGHTS,
  wholly,
  worldOf,
} from '../../test/support/histories.ts'
import type { MemoryTables } from '../../test/support/memory-store.ts'
import { counts, unversioned, World } from '../../test/support/world.ts'
import type { Command } from './command.ts'
import type { EventType } from './event.ts'
import { countExisting, countIn } from './pool.ts'
import { isRefusal } from './refusal.ts'

const EVENT_TYPES: EventType[] = [
  'user.gone',
  'pool.resized',
  'vm.made',
  'vm.checked_out',
  'vm.checked_in',
  'vm.cleaned',
  'vm.work_failed',
  'vm.failed',
  'vm.cordoned',
  'vm.removed',
  'vm.gone',
  'installation.reset',
]

/** What holds between the rows at any time. */
function checkRows(tables: MemoryTables): void {
  const { pools, vms, users, leases } = tables
  for (const [id, { tally }] of pools)
    assert.deepEqual(counts(tally), counts(tables.recount(id)), `tally of pool ${id}`)
  const open = [...leases.values()].filter(({ endedAtMs }) => endedAtMs === null)
  assert.equal(new Set(open.map(({ vmId }) => vmId)).size, open.length, 'a machine has two open leases')
  const leased = [...vms.values()].filter(({ state }) => state === 'leased')
  assert.deepEqual(
    open.map(({ vmId, generation, userId, fromMs }) => ({ vmId, generation, userId, fromMs })).sort(byVm),
    leased
      .map((vm) => ({
        vmId: vm.id,
        generation: vm.generation,
        userId: vm.holderId,
        fromMs: vm.leasedAtMs,
      }))
      .sort(byVm),
  )
  for (const vm of vms.values()) {
    assert.equal(vm.state === 'leased', vm.holderId !== null, `VM ${vm.id}: leased and held differ`)
    assert.equal(vm.leasedAtMs !== null, vm.holderId !== null, `VM ${vm.id}: when, but not by whom`)
    assert.ok(vm.holderId === null || users.get(vm.holderId)?.state !== 'gone', `VM ${vm.id} is forgotten`)
    if (vm.state === 'deleting') assert.ok(vm.dueAtMs !== null, `VM ${vm.id} is never destroyed`)
  }
  const active = [...users.values()].filter(({ state }) => state === 'active')
  assert.ok(active.length === 0 || active.some(({ role }) => role === 'admin'), 'no admin is left')
}

function byVm(a: { vmId: number }, b: { vmId: number }): number {
  return a.vmId - b.vmId
}

/** What holds between the rows before a command and after it. */
function checkStep(before: MemoryTables, after: MemoryTables): void {
  const wiped = after.events.some(({ id, type }) => id > before.lastEventId && type === 'installation.reset')
  for (const [i, event] of after.events.entries()) {
    const previous = after.events[i - 1]
    assert.ok(previous === undefined || (event.id > previous.id && event.atMs >= previous.atMs))
  }
  if (wiped) return
  for (const [id, vm] of after.vms) {
    const old = before.vms.get(id)
    if (old === undefined) assert.ok(id >= before.installation.nextVmId, `id ${id} is used again`)
    else {
      assert.ok(vm.generation >= old.generation, `the generation of VM ${id} falls`)
      assert.ok(vm.claim >= old.claim, `the claim of VM ${id} falls`)
      assert.ok(vm.state === 'deleting' || old.state !== 'deleting', `VM ${id} comes back`)
      assert.deepEqual([vm.poolId, vm.type, vm.createdAtMs], [old.poolId, old.type, old.createdAtMs])
    }
    assert.ok(id < after.installation.nextVmId)
  }
  for (const [id, user] of after.users) {
    const old = before.users.get(id)
    if (old === undefined) assert.ok(id >= before.installation.nextUserId, `id ${id} is used again`)
    else if (old.state !== 'active') assert.notEqual(user.state, 'active', `user ${id} comes back`)
    assert.ok(id < after.installation.nextUserId)
  }
  for (const [id, { pool, tally }] of after.pools) {
    const old = before.pools.get(id)
    const existing = countExisting(tally)
    const existed = old === undefined ? 0 : countExisting(old.tally)
    assert.ok(existing <= pool.target || existing <= existed, `pool ${id} grows above its target`)
    const leased = countIn(tally, 'leased') - (old === undefined ? 0 : countIn(old.tally, 'leased'))
    const left = countIn(tally, 'ready') + countIn(tally, 'provisioning')
    if (old !== undefined && leased > 0 && pool.target <= old.pool.target && cordonedNone(before, after, id))
      assert.ok(existing - left <= pool.target, `checkouts of pool ${id} eat up a shrink`)
  }
}

/** True when no machine was kept out of use, or failed: these may stand in a shrink's way, and a checkout may not. */
function cordonedNone(before: MemoryTables, after: MemoryTables, poolId: number): boolean {
  const out = (tables: MemoryTables) =>
    tables.vmsWhere((vm) => vm.poolId === poolId && (vm.state === 'cordoned' || vm.state === 'failed')).length
  return out(after) === 0 && out(before) === 0
}

/** Runs batch after batch; `run` runs one and returns its answers. */
function play(used: boolean, list: History, run: (world: World, commands: Command[]) => unknown[]): World {
  const world = worldOf(used)
  const claimed: Claimed[] = []
  for (const [moves, passMs] of list) {
    world.nowMs += passMs
    const before = world.tables.copy()
    const commands = moves.map((move) => commandOf({ tables: before, claimed }, move))
    try {
      const answers = run(world, commands)
      for (const [i, command] of commands.entries()) claimed.push(...claimedIn(command, answers[i]))
    } catch (cause) {
      throw new Error(`in the batch ${JSON.stringify(commands)}`, { cause })
    }
  }
  return world
}

describe('any commands in any order', () => {
  it('keep the rows in agreement: tallies, leases, holders, generations, ids, sizes', () => {
    const seen = new Set<string>()
    const agree = fc.property(fc.boolean(), histories, (used, list) => {
      play(used, list, (world, commands) => {
        return commands.map((command) => {
          const before = world.tables.copy()
          const [answer] = world.batch(command)
          checkRows(world.tables)
          checkStep(before, world.tables)
          if (!isRefusal(answer)) seen.add(command.kind)
          for (const { type } of world.tables.events) seen.add(type)
          return answer
        })
      })
    })
    fc.assert(agree, { numRuns: 200 })
    // Once more with histories that are known to get everywhere.
    seen.clear()
    fc.assert(agree, { numRuns: 400, seed: 11 })
    // A test that never gets to a rule proves nothing about it.
    for (const what of [...Object.keys(WEIGHTS), ...EVENT_TYPES]) assert.ok(seen.has(what), `never: ${what}`)
  })

  it('leave pools that workers can bring to their size, as far as what is in use allows', () => {
    fc.assert(
      fc.property(fc.boolean(), plainHistories, (used, list) => {
        const world = play(used, list, (world, commands) => world.batch(...commands))
        if (world.tables.installation.state !== 'open') return
        for (const poolId of world.tables.pools.keys()) {
          world.run({ kind: 'growPool', poolId, machinesMax: 100, claimMs: CLAIM_MS })
          world.run({ kind: 'shrinkPool', poolId, machinesMax: 100 })
          const tally = world.tables.recount(poolId)
          const existing = countExisting(tally)
          const { target } = world.pool(poolId)
          assert.ok(existing >= target, `pool ${poolId} does not grow to ${target}`)
          const removable = countIn(tally, 'ready') + countIn(tally, 'provisioning')
          assert.ok(existing === target || removable === 0, `pool ${poolId} does not shrink to ${target}`)
        }
      }),
      { numRuns: 200 },
    )
  })
})

describe('a batch', () => {
  it('is worth as much as its commands one by one where nobody waits: the same answers, and the same rows after it', () => {
    fc.assert(
      fc.property(fc.boolean(), plainHistories, (used, list) => {
        play(used, list, (world, given) => {
          const commands = given.map(wholly)
          const alone = new World()
          Object.assign(alone, { tables: world.tables.copy(), nowMs: world.nowMs })
          const expected = commands.map((command) => alone.batch(command)[0])
          const answers = world.batch(...commands)
          assert.deepEqual(answers.map(comparable), expected.map(comparable))
          assert.deepEqual(rowsOf(world.tables), rowsOf(alone.tables))
          return answers
        })
      }),
      { numRuns: 1_000 },
    )
  })
})

function rowsOf({ installation, users, pools, vms, leases, events }: MemoryTables) {
  return {
    installation,
    users,
    pools: new Map(
      [...pools].map(([id, { pool, tally }]) => [id, { pool: unversioned(pool), counts: counts(tally) }]),
    ),
    vms,
    leases,
    // Events that are wiped in the batch that they happened in never get an id; and rules that change many machines are free
    // in their order.
    events: events.map(({ id: _, ...event }) => JSON.stringify(event)).sort(),
  }
}
