/** What somebody who asks by a wish is told when it cannot be granted now. */
import { describe, it } from 'node:test'
import { actor, assertRefused, vmsOf, World } from '../../test/support/world.ts'
import type { Join } from './join.ts'
import { ENDLESS } from './new-request.ts'
import type { Kind } from './wish.ts'

const ANY: Kind = { type: null, labels: {}, vmId: null, count: 1 }

function join(wish: readonly Kind[]): Join & { kind: 'join' } {
  return {
    kind: 'join',
    actor: actor(2),
    id: 'req_1',
    pool: 'default',
    wish,
    terms: ENDLESS,
    priority: 'normal',
    waitSeconds: 0,
    requestId: 'r1',
  }
}

describe('a wish that does not wait', () => {
  it('is told which machine is not free, when it names one', () => {
    for (const state of ['leased', 'maintenance', 'cordoned'] as const) {
      const world = new World({ vms: vmsOf(state, 'ready') })
      assertRefused(world.run(join([{ ...ANY, vmId: 1 }])), 'vm_not_free')
      assertRefused(world.run(join([ANY, { ...ANY, vmId: 1 }])), 'vm_not_free')
    }
  })

  it('is told that none is free, when it names none, or too many beside one that is', () => {
    const world = new World({ vms: vmsOf('leased', 'ready') })
    assertRefused(world.run(join([{ ...ANY, count: 2 }])), 'none_free')
    assertRefused(world.run(join([ANY, { ...ANY, vmId: 2 }])), 'none_free')
  })
})
