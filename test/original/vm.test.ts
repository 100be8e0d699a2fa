/**
 * Proves what the original API shows of machines and in which words, and what deleting one answers. The last part shows how
 * states that the original never knew (being made, failed, cordoned, being destroyed) look through its calls.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import {
  ADMIN_WRONG,
  AS_ADMIN,
  AS_USER_2,
  AUTH_MISSING,
  checkedOut,
  contract,
  lists,
  PARTIAL_AUTHS,
  type Row,
  STRANGER,
  stats,
  USER_2,
  USER_2_WRONG,
  USER_3,
  vmList,
} from '../support/rows.ts'
import { slowProvider, untilEvent } from '../support/slow-provider.ts'
import { seed, startTestServer, type TestServer } from '../support/test-server.ts'

const NONE = { VM_details: '[]' }
const NONE_MAPPED = { VM_details: '' }
const VM_DELETED = { Message: 'VM deleted' }
const AUTH_FAILED = { Message: 'Authentication or Authorization failed' }
const INVALID_USER = { message: 'Invalid user.' }
const INVALID_VM = { message: 'Invalid VM.' }
const IN_USE = { Message: 'Cannot delete VM which is use.' }
const TYPES = {
  VM_Types: {
    small: { cpu: '2 core', memory: '8 GB' },
    medium: { cpu: '4 core', memory: '16 GB' },
    large: { cpu: '8 core', memory: '64 GB' },
    xlarge: { cpu: '2 x 8 core', memory: '128 GB' },
  },
}

const { table } = contract()

const HELD_3 = 'user2@example.org'

table('reading machines', { users: 2, machines: 6, held: { 3: 2, 4: 3, 6: 2 }, aside: [2] }, [
  [
    'all',
    null,
    'GET /vmdetails',
    null,
    200,
    vmList([1, 'idle'], [2, 'maintenance'], [3, HELD_3], [4, USER_3.email], [5, 'idle'], [6, HELD_3]),
  ],
  ['by id', null, 'GET /vmdetails/id/3', null, 200, vmList([3, HELD_3])],
  ['by an unknown id', null, 'GET /vmdetails/id/99', null, 200, NONE],
  ['by id 0', null, 'GET /vmdetails/id/0', null, 200, NONE],
  ['by a word', null, 'GET /vmdetails/id/abc', null, 200, NONE],
  ['by a negative id', null, 'GET /vmdetails/id/-1', null, 200, NONE],
  ['by a fraction', null, 'GET /vmdetails/id/1.5', null, 200, NONE],
  ['by type', null, 'GET /vmdetails/type/medium', null, 200, vmList([2, 'maintenance'], [6, HELD_3])],
  ['by type in capitals', null, 'GET /vmdetails/type/SMALL', null, 200, vmList([1, 'idle'], [5, 'idle'])],
  ['by type in mixed case', null, 'GET /vmdetails/type/xLarge', null, 200, vmList([4, USER_3.email])],
  ['by an unknown type', null, 'GET /vmdetails/type/huge', null, 200, NONE],
  ['by a type that every object has', null, 'GET /vmdetails/type/constructor', null, 200, NONE],
  ['by status', null, 'GET /vmdetails/status/running', null, 200, lists('VM_details', [1, 2, 3, 4, 5, 6])],
  [
    'by status in capitals',
    null,
    'GET /vmdetails/status/RUNNING',
    null,
    200,
    lists('VM_details', [1, 2, 3, 4, 5, 6]),
  ],
  ['by a status that none has', null, 'GET /vmdetails/status/stopped', null, 200, NONE],
  ['by an unknown status', null, 'GET /vmdetails/status/idle', null, 200, NONE],
  ['by holder', null, `GET /vmdetails/maped_to/${USER_2.email}`, null, 200, vmList([3, HELD_3], [6, HELD_3])],
  [
    'by holder, percent-encoded',
    null,
    'GET /vmdetails/maped_to/user3%40example.org',
    null,
    200,
    vmList([4, USER_3.email]),
  ],
  ['by holder in another case', null, 'GET /vmdetails/maped_to/USER2@example.org', null, 200, NONE_MAPPED],
  ['by an unknown holder', null, 'GET /vmdetails/maped_to/nobody@example.org', null, 200, NONE_MAPPED],
  ['by a user who holds none', null, 'GET /vmdetails/maped_to/ada@example.org', null, 200, NONE_MAPPED],
  ['idle ones', null, 'GET /vmdetails/maped_to/idle', null, 200, vmList([1, 'idle'], [5, 'idle'])],
  [
    'ones under maintenance',
    null,
    'GET /vmdetails/maped_to/maintenance',
    null,
    200,
    vmList([2, 'maintenance']),
  ],
  ['Idle is nobody', null, 'GET /vmdetails/maped_to/Idle', null, 200, NONE_MAPPED],
  ['MAINTENANCE is nobody', null, 'GET /vmdetails/maped_to/MAINTENANCE', null, 200, NONE_MAPPED],
  ['all types', null, 'GET /vmdetails/types/all', null, 200, TYPES],
  ['all types, for any word', null, 'GET /vmdetails/types/banana', null, 200, TYPES],
  ['all types, for a number', null, 'GET /vmdetails/types/1', null, 200, TYPES],
])

table('an installation without machines', null, [
  ['all', null, 'GET /vmdetails', null, 200, NONE],
  ['by id', null, 'GET /vmdetails/id/1', null, 200, NONE],
  ['by type', null, 'GET /vmdetails/type/small', null, 200, NONE],
  ['by status', null, 'GET /vmdetails/status/running', null, 200, NONE],
  ['by holder', null, 'GET /vmdetails/maped_to/ada@example.org', null, 200, NONE_MAPPED],
  ['idle ones', null, 'GET /vmdetails/maped_to/idle', null, 200, NONE_MAPPED],
  ['ones under maintenance', null, 'GET /vmdetails/maped_to/maintenance', null, 200, NONE_MAPPED],
  ['all types', null, 'GET /vmdetails/types/all', null, 200, TYPES],
])

table('deleting a machine', { users: 1, machines: 5, held: { 2: 2, 5: 1 }, aside: [3] }, [
  ...PARTIAL_AUTHS.map(([name, who]): Row => [name, who, 'DELETE /vmdetails/id/1', {}, 400, AUTH_MISSING]),
  ['an unknown caller', STRANGER, 'DELETE /vmdetails/id/1', null, 400, INVALID_USER],
  ['a wrong password', ADMIN_WRONG, 'DELETE /vmdetails/id/1', null, 401, AUTH_FAILED],
  ['a wrong password, an unknown machine', ADMIN_WRONG, 'DELETE /vmdetails/id/99', null, 401, AUTH_FAILED],
  ['a wrong password, a held machine', USER_2_WRONG, 'DELETE /vmdetails/id/2', null, 401, AUTH_FAILED],
  ['a caller who is no admin', AS_USER_2, 'DELETE /vmdetails/id/1', null, 401, AUTH_FAILED],
  ['the role before an unknown machine', AS_USER_2, 'DELETE /vmdetails/id/99', null, 401, AUTH_FAILED],
  ['the role before a word', AS_USER_2, 'DELETE /vmdetails/id/abc', null, 401, AUTH_FAILED],
  ['the role before a held machine', AS_USER_2, 'DELETE /vmdetails/id/2', null, 401, AUTH_FAILED],
  ['an unknown machine', AS_ADMIN, 'DELETE /vmdetails/id/99', null, 400, INVALID_VM],
  ['machine 0', AS_ADMIN, 'DELETE /vmdetails/id/0', null, 400, INVALID_VM],
  ['a word', AS_ADMIN, 'DELETE /vmdetails/id/abc', null, 400, INVALID_VM],
  ['a negative id', AS_ADMIN, 'DELETE /vmdetails/id/-1', null, 400, INVALID_VM],
  ['a fraction', AS_ADMIN, 'DELETE /vmdetails/id/1.5', null, 400, INVALID_VM],
  ['a held machine', AS_ADMIN, 'DELETE /vmdetails/id/2', null, 401, IN_USE],
  ['a machine that one holds oneself', AS_ADMIN, 'DELETE /vmdetails/id/5', null, 401, IN_USE],
  ['refusals deleted nothing', null, 'GET /vmpoolsize', null, 200, { 'vm pool size': '5' }],
  ['a free machine', AS_ADMIN, 'DELETE /vmdetails/id/1', null, 200, VM_DELETED, ['vm.removed']],
  ['is in no list', null, 'GET /vmdetails', null, 200, lists('VM_details', [2, 3, 4, 5])],
  ['nor by id', null, 'GET /vmdetails/id/1', null, 200, NONE],
  ['the size drops by one', null, 'GET /vmpoolsize', null, 200, { 'vm pool size': '4' }],
  ['the statistics follow', null, 'GET /create_resource_pool/basicstats', null, 200, stats(1, 1, 2)],
  ['again', AS_ADMIN, 'DELETE /vmdetails/id/1', null, 400, INVALID_VM],
  ['it cannot be checked out', AS_USER_2, 'POST /checkout_vm', { vmid: 1 }, 400, { message: 'Invalid VM' }],
  ['nor checked in', AS_USER_2, 'POST /checkin_vm', { vmid: 1 }, 400, { message: 'Invalid VM' }],
  ['nor brought back', AS_ADMIN, 'POST /maintenance', { vmid: 1 }, 400, { message: 'Invalid VM' }],
  ['one under maintenance', AS_ADMIN, 'DELETE /vmdetails/id/3', null, 200, VM_DELETED, ['vm.removed']],
  ['the size drops again', null, 'GET /vmpoolsize', null, 200, { 'vm pool size': '3' }],
  [
    'the last free one is given out',
    AS_USER_2,
    'POST /checkout_vm',
    {},
    201,
    checkedOut(4, USER_2),
    ['vm.checked_out'],
  ],
])

describe('states that the original never knew', () => {
  const provider = slowProvider()
  let server: TestServer
  before(async () => {
    server = await startTestServer(provider.settings, { schedule: provider.schedule })
    await seed(server, { users: 1, machines: 0 })
  })
  after(async () => {
    provider.open()
    await server.stop()
  })

  const call = async (method: string, path: string, body?: object) => {
    const reply = await server.call(method, path, body)
    return [reply.status, reply.body]
  }
  const mapped = async () => {
    const { VM_details } = (await server.call('GET', '/vmdetails')).body
    return Object.values(
      VM_details as Record<string, { id: number; vm_Status: string; vm_map_to: string }>,
    ).map((vm) => [vm.id, vm.vm_Status, vm.vm_map_to])
  }
  const actor = { userId: 1, credentialVersion: 1 }
  const NOT_MAINTENANCE = {
    message:
      'Unauthorized! Only Admin can bring VM back to pool.Or you tried to checkin VM which is not under maintenance.',
  }
  const NOT_AVAILABLE = { message: 'VM not available for use,Please select another VM.' }
  let making: Promise<unknown>

  it('a machine that is being made is listed as under maintenance, stopped, and cannot be had', async () => {
    making = call('POST', '/create_resource_pool', { ...AS_ADMIN, pool_size: 3 })
    await untilEvent(server.berth, 'vm.planned')
    assert.deepEqual(await mapped(), [
      [1, 'stopped', 'maintenance'],
      [2, 'stopped', 'maintenance'],
      [3, 'stopped', 'maintenance'],
    ])
    assert.deepEqual(await call('GET', '/create_resource_pool/basicstats'), [200, stats(0, 3, 0)])
    assert.deepEqual(await call('POST', '/checkout_vm', { ...AS_USER_2, vmid: 1 }), [400, NOT_AVAILABLE])
    assert.deepEqual(await call('POST', '/maintenance', { ...AS_ADMIN, vmid: 1 }), [401, NOT_MAINTENANCE])
    assert.deepEqual(await call('GET', '/vmdetails/status/running'), [200, NONE])
    assert.deepEqual((await server.call('GET', '/vmdetails/status/Stopped')).body.VM_details['3'].id, 3)
    assert.deepEqual(Object.keys((await server.call('GET', '/maintenance')).body.Maintenance_VM_details), [
      '1',
      '2',
      '3',
    ])
  })

  it('a machine that failed is listed as under maintenance, and cannot be brought back', async () => {
    const events = await server.berth.reads.events({ afterId: 0, rowsMax: 100 })
    const claim = events.find(({ type }) => type === 'vm.planned')?.atMs ?? 0
    const failed = { vmId: 1, claim, ok: false, failure: 'no power', permanent: true } as const
    await server.berth.submit({ kind: 'reportWork', state: 'provisioning', results: [failed] })
    assert.deepEqual((await mapped())[0], [1, 'stopped', 'maintenance'])
    assert.deepEqual(await call('POST', '/maintenance', { ...AS_ADMIN, vmid: 1 }), [401, NOT_MAINTENANCE])
    assert.deepEqual(await call('POST', '/checkout_vm', { ...AS_USER_2, vmid: 1 }), [400, NOT_AVAILABLE])
  })

  it('a machine that was made runs and is free', async () => {
    provider.open()
    assert.deepEqual(await making, [201, { message: 'Resources Created.' }])
    assert.deepEqual(await mapped(), [
      [1, 'stopped', 'maintenance'],
      [2, 'running', 'idle'],
      [3, 'running', 'idle'],
    ])
  })

  it('a cordoned machine is listed as under maintenance, and cannot be had or brought back', async () => {
    await server.berth.submit({ kind: 'maintain', actor, vmId: 2, step: 'cordon', requestId: 'test' })
    assert.deepEqual((await mapped())[1], [2, 'running', 'maintenance'])
    assert.deepEqual(await call('POST', '/checkout_vm', { ...AS_USER_2, vmid: 2 }), [400, NOT_AVAILABLE])
    assert.deepEqual(await call('POST', '/maintenance', { ...AS_ADMIN, vmid: 2 }), [401, NOT_MAINTENANCE])
    assert.deepEqual(await call('GET', '/create_resource_pool/basicstats'), [200, stats(1, 2, 0)])
    assert.deepEqual(await call('POST', '/resizevmpool', { ...AS_ADMIN, pool_size: 1 }), [
      400,
      { message: 'Cannot resize as , currently in used VM > expected pool resize value' },
    ])
  })

  it('a machine that is being destroyed is neither listed nor counted nor known', async () => {
    provider.shut()
    assert.deepEqual(await call('DELETE', '/vmdetails/id/3', AS_ADMIN), [200, VM_DELETED])
    assert.deepEqual(
      (await mapped()).map(([id]) => id),
      [1, 2],
    )
    assert.deepEqual(await call('GET', '/vmdetails/id/3'), [200, NONE])
    assert.deepEqual(await call('GET', '/vmpoolsize'), [200, { 'vm pool size': '2' }])
    assert.deepEqual(await call('GET', '/create_resource_pool/basicstats'), [200, stats(0, 2, 0)])
    assert.deepEqual(await call('POST', '/checkout_vm', { ...AS_USER_2, vmid: 3 }), [
      400,
      { message: 'Invalid VM' },
    ])
    assert.deepEqual(await call('POST', '/maintenance', { ...AS_ADMIN, vmid: 3 }), [
      400,
      { message: 'Invalid VM' },
    ])
    assert.deepEqual(await call('DELETE', '/vmdetails/id/3', AS_ADMIN), [400, INVALID_VM])
  })
})
