/**
 * Proves what the original API's calls on the pool answer: making it, resizing it by either call, its statistics; and that
 * no resize takes a machine from anybody or gives an id again.
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
  says,
  stats,
  USER_2,
  vmKeys,
  vmList,
} from '../support/rows.ts'
import { slowProvider, untilEvent } from '../support/slow-provider.ts'
import { seed, startTestServer, type TestServer } from '../support/test-server.ts'

const RESOURCES_CREATED = { message: 'Resources Created.' }
const RECREATED = { message: 'Pool resources recreated.' }
const SIZE_UPDATED = { message: 'Pool size updated successfully' }
const NOTHING_TO_UPDATE = { message: 'Nothing to Update' }
const NO_USERS = { message: 'Please create user first.' }
const INVALID_USER = { message: 'Invalid user' }
const AUTH_FAILED = { Message: 'Authentication or Authorization failed' }
const BELOW_USE = { message: 'Cannot resize as , currently in used VM > expected pool resize value' }
const NONE_FREE = {
  message: "No VM's are available in pool for checkout.Please retry after some time.",
}

const CREATE = 'POST /create_resource_pool'
const RESIZE = 'POST /resizevmpool'
const BOTH = [CREATE, RESIZE] as const
const STATS = 'GET /create_resource_pool/basicstats'
const SIZE = 'GET /vmpoolsize'
const VMS = 'GET /vmdetails'

function poolSize(text: string) {
  return { 'vm pool size': text }
}

const { table } = contract()

for (const call of BOTH)
  table(`nobody is there: ${call}`, null, [
    ['without auth', null, call, { pool_size: 4 }, 400, AUTH_MISSING],
    ['with auth', STRANGER, call, { pool_size: 4 }, 400, NO_USERS],
    ['is judged before the fields', STRANGER, call, {}, 400, NO_USERS],
    ['made no pool', null, SIZE, null, 200, poolSize('0')],
  ])

table('no pool', { machines: 0 }, [
  ['statistics are zeros', null, STATS, null, 200, stats(0, 0, 0)],
  ['the size is 0', null, SIZE, null, 200, poolSize('0')],
  ['no machines', null, VMS, null, 200, { VM_details: '[]' }],
])

const WRONG_SIZES: readonly (readonly [name: string, body: object])[] = [
  ['no pool_size', {}],
  ['a size in another key', { size: 4, Pool_Size: 4 }],
  ['pool_size null', { pool_size: null }],
  ['pool_size negative', { pool_size: -1 }],
  ['pool_size a fraction', { pool_size: 1.5 }],
  ['pool_size above the bound', { pool_size: 1_000_001 }],
  ['pool_size far above the bound', { pool_size: 1e21 }],
  ['pool_size a word', { pool_size: 'ten' }],
  ['pool_size an empty text', { pool_size: '' }],
  ['pool_size white space', { pool_size: '  ' }],
  ['pool_size a negative text', { pool_size: '-1' }],
  ['pool_size a fraction in text', { pool_size: '1.5' }],
  ['pool_size above the bound in text', { pool_size: '1000001' }],
  ['pool_size hexadecimal', { pool_size: '0x4' }],
  ['pool_size with an exponent in text', { pool_size: '1e1' }],
  ['pool_size a boolean', { pool_size: true }],
  ['pool_size a list', { pool_size: [4] }],
  ['pool_size an object', { pool_size: {} }],
]

for (const call of BOTH) {
  const refusals: readonly Row[] = [
    ...PARTIAL_AUTHS.map(([name, who]): Row => [name, who, call, { pool_size: 4 }, 400, AUTH_MISSING]),
    ['an unknown caller', STRANGER, call, { pool_size: 4 }, 400, INVALID_USER],
    ['a wrong password', ADMIN_WRONG, call, { pool_size: 4 }, 401, AUTH_FAILED],
    ['a caller who is no admin', AS_USER_2, call, { pool_size: 4 }, 401, AUTH_FAILED],
    ['a wrong password is judged before the fields', ADMIN_WRONG, call, {}, 401, AUTH_FAILED],
    ['the role is judged before the fields', AS_USER_2, call, { pool_size: -1 }, 401, AUTH_FAILED],
    ...WRONG_SIZES.map(([name, body]): Row => [name, AS_ADMIN, call, body, 400, says(/^pool_size\b/)]),
  ]
  table(`no pool yet: ${call}`, { users: 1, machines: 0 }, [
    ...refusals,
    ['refusals made no pool', null, SIZE, null, 200, poolSize('0')],
    ['makes it', AS_ADMIN, call, { pool_size: 3 }, 201, RESOURCES_CREATED, ['pool.created']],
    ['with that many machines', null, VMS, null, 200, vmList([1, 'idle'], [2, 'idle'], [3, 'idle'])],
    ['which are free', null, STATS, null, 200, stats(3, 0, 0)],
    ['its size is a text', null, SIZE, null, 200, poolSize('3')],
  ])
  table(`a pool: ${call}`, { users: 1, machines: 2 }, [
    ...refusals,
    ['refusals changed nothing', null, STATS, null, 200, stats(2, 0, 0)],
  ])
  table(`a size in text: ${call}`, { machines: 0 }, [
    ['makes a pool', AS_ADMIN, call, { pool_size: '2' }, 201, RESOURCES_CREATED, ['pool.created']],
    ['of that size', null, STATS, null, 200, stats(2, 0, 0)],
  ])
  table(`a size of 0: ${call}`, { machines: 0 }, [
    ['makes a pool', AS_ADMIN, call, { pool_size: 0 }, 201, RESOURCES_CREATED, ['pool.created']],
    ['that exists: nothing to resize', AS_ADMIN, RESIZE, { pool_size: 0 }, 200, NOTHING_TO_UPDATE],
    ['that exists: made again', AS_ADMIN, CREATE, { pool_size: '0' }, 201, RECREATED],
    ['of size 0', null, SIZE, null, 200, poolSize('0')],
    ['without machines', null, STATS, null, 200, stats(0, 0, 0)],
    ['none to check out', AS_ADMIN, 'POST /checkout_vm', {}, 400, NONE_FREE],
    ['and can grow', AS_ADMIN, RESIZE, { pool_size: 1 }, 200, SIZE_UPDATED, ['pool.resized']],
    ['from id 1', null, VMS, null, 200, vmList([1, 'idle'])],
  ])
}

table('statistics', { users: 1, machines: 5, held: { 1: 2 }, aside: [2, 3] }, [
  ['free, under maintenance, allocated', null, STATS, null, 200, stats(2, 2, 1)],
  [
    'to the letter',
    null,
    STATS,
    null,
    200,
    {
      'Pool Stats': {
        total_VM_count_in_pool: '5',
        free_VM_in_pool: 2,
        VM_under_maintenance_in_Pool: 2,
        allocated_VM_in_Pool: 1,
      },
    },
  ],
  ['the size', null, SIZE, null, 200, { 'vm pool size': '5' }],
])

for (const [call, status, done, same] of [
  [CREATE, 201, RECREATED, RECREATED],
  [RESIZE, 200, SIZE_UPDATED, NOTHING_TO_UPDATE],
] as const)
  table(`resizing by ${call}`, { users: 1, machines: 6, held: { 1: 2, 5: 2 }, aside: [3] }, [
    ['to the same size', AS_ADMIN, call, { pool_size: 6 }, status, same],
    ['to the same size in text', AS_ADMIN, call, { pool_size: ' 6 ' }, status, same],
    ['below what is in use', AS_ADMIN, call, { pool_size: 2 }, 400, BELOW_USE],
    ['to 0 with machines in use', AS_ADMIN, call, { pool_size: 0 }, 400, BELOW_USE],
    ['no machine went', null, VMS, null, 200, lists('VM_details', [1, 2, 3, 4, 5, 6])],
    ['a shrink', AS_ADMIN, call, { pool_size: 5 }, status, done, ['pool.resized']],
    ['takes the highest free id', null, VMS, null, 200, lists('VM_details', [1, 2, 3, 4, 5])],
    ['a shrink passes over held machines', AS_ADMIN, call, { pool_size: 4 }, status, done, ['pool.resized']],
    ['and takes the next free id', null, VMS, null, 200, lists('VM_details', [1, 2, 3, 5])],
    ['a shrink to what is in use', AS_ADMIN, call, { pool_size: 3 }, status, done, ['pool.resized']],
    [
      'leaves exactly that',
      null,
      VMS,
      null,
      200,
      vmList([1, USER_2.email], [3, 'maintenance'], [5, USER_2.email]),
    ],
    ['and no more', AS_ADMIN, call, { pool_size: 2 }, 400, BELOW_USE],
    ['none is free', AS_USER_2, 'POST /checkout_vm', {}, 400, NONE_FREE],
    ['the statistics follow', null, STATS, null, 200, stats(0, 1, 2)],
    ['the size follows', null, SIZE, null, 200, poolSize('3')],
    [
      'a holder still holds',
      null,
      'GET /checkout_vm/vm/5',
      null,
      201,
      {
        'VM owner Details': vmKeys(5),
        'User Details': { 'user-Id': 2, 'User-name': USER_2.name, 'user-email': USER_2.email },
      },
    ],
    ['growing', AS_ADMIN, call, { pool_size: 5 }, status, done, ['pool.resized']],
    ['gives ids above every id before', null, VMS, null, 200, lists('VM_details', [1, 3, 5, 7, 8])],
    [
      'machines of the highest ids are deleted',
      AS_ADMIN,
      'DELETE /vmdetails/id/8',
      null,
      200,
      { Message: 'VM deleted' },
      ['vm.removed'],
    ],
    ['growing again', AS_ADMIN, call, { pool_size: 6 }, status, done, ['pool.resized']],
    ['gives no id twice', null, VMS, null, 200, lists('VM_details', [1, 3, 5, 7, 9, 10])],
  ])

table('an emptied pool', { machines: 3 }, [
  ['is shrunk to 0', AS_ADMIN, RESIZE, { pool_size: 0 }, 200, SIZE_UPDATED, ['pool.resized']],
  ['has no machines', null, VMS, null, 200, { VM_details: '[]' }],
  ['still exists', AS_ADMIN, RESIZE, { pool_size: 0 }, 200, NOTHING_TO_UPDATE],
  ['grows', AS_ADMIN, CREATE, { pool_size: 1 }, 201, RECREATED, ['pool.resized']],
  ['with a new id', null, VMS, null, 200, lists('VM_details', [4])],
])

table('a resize makes room again', { users: 1, machines: 1, held: { 1: 2 } }, [
  ['none is free', AS_USER_2, 'POST /checkout_vm', {}, 400, NONE_FREE],
  ['one more', AS_ADMIN, RESIZE, { pool_size: 2 }, 200, SIZE_UPDATED, ['pool.resized']],
  ['is free', AS_USER_2, 'POST /checkout_vm', {}, 201, checkedOut(2, USER_2), ['vm.checked_out']],
])

describe('the largest pool', () => {
  const provider = slowProvider()
  let server: TestServer
  before(async () => {
    server = await startTestServer(provider.settings, { schedule: provider.schedule })
    await seed(server, { users: 0, machines: 0 })
  })
  after(async () => {
    provider.open()
    await server.stop()
  })

  it('has 1,000,000 machines, and can be given up while it is being made', async () => {
    const size = async () => (await server.call('GET', '/vmpoolsize')).body
    const made = server.call('POST', '/create_resource_pool', { ...AS_ADMIN, pool_size: '1000000' })
    await untilEvent(server.berth, 'vm.planned')
    assert.deepEqual(await size(), poolSize('1000000'))
    const resized = server.call('POST', '/resizevmpool', { ...AS_ADMIN, pool_size: 0 })
    await untilEvent(server.berth, 'vm.removed')
    provider.open()
    assert.deepEqual([(await made).status, (await made).body], [201, RESOURCES_CREATED])
    assert.deepEqual([(await resized).status, (await resized).body], [200, SIZE_UPDATED])
    assert.deepEqual(await size(), poolSize('0'))
    assert.deepEqual((await server.call('GET', '/vmdetails')).body, { VM_details: '[]' })
  })
})
