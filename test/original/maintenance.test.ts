/** Proves that only an admin brings machines back from maintenance, what that answers, and what is listed meanwhile. */
import {
  ADMIN_WRONG,
  AS_ADMIN,
  AS_USER_2,
  AUTH_MISSING,
  backInPool,
  checkedIn,
  checkedOut,
  contract,
  listOf,
  PARTIAL_AUTHS,
  type Row,
  STRANGER,
  USER_2,
  USER_2_WRONG,
  vmRow,
} from '../support/rows.ts'

const INVALID_USER = { message: 'Invalid User' }
const INVALID_VM = { message: 'Invalid VM' }
const NOT_ALLOWED = {
  message:
    'Unauthorized! Only Admin can bring VM back to pool.Or you tried to checkin VM which is not under maintenance.',
}
const NONE = { Maintenance_VM_details: '[]' }

const MAINTENANCE = 'POST /maintenance'
const RETURNED = ['vm.returned'] as const

const { table } = contract()

const NO_MACHINES: readonly (readonly [name: string, body: object])[] = [
  ['no vmid', {}],
  ['vmid null', { vmid: null }],
  ['an unknown machine', { vmid: 99 }],
  ['machine 0', { vmid: 0 }],
  ['a negative number', { vmid: -1 }],
  ['a fraction', { vmid: 1.5 }],
  ['an empty text', { vmid: '' }],
  ['a word', { vmid: 'abc' }],
  ['an object', { vmid: {} }],
  ['a list', { vmid: [3] }],
  ['a boolean', { vmid: true }],
]

table('bringing back from maintenance', { users: 1, machines: 4, held: { 1: 2, 2: 1 }, aside: [3] }, [
  ...PARTIAL_AUTHS.map(([name, who]): Row => [name, who, MAINTENANCE, { vmid: 3 }, 400, AUTH_MISSING]),
  ['an unknown caller', STRANGER, MAINTENANCE, { vmid: 3 }, 400, INVALID_USER],
  ['a wrong password', ADMIN_WRONG, MAINTENANCE, { vmid: 3 }, 401, NOT_ALLOWED],
  ['a wrong password, an unknown machine', ADMIN_WRONG, MAINTENANCE, { vmid: 99 }, 401, NOT_ALLOWED],
  ['a wrong password, no vmid', USER_2_WRONG, MAINTENANCE, {}, 401, NOT_ALLOWED],
  ['an unknown caller, an unknown machine', STRANGER, MAINTENANCE, { vmid: 99 }, 400, INVALID_USER],
  ['a caller who is no admin', AS_USER_2, MAINTENANCE, { vmid: 3 }, 401, NOT_ALLOWED],
  ['no admin, a free machine', AS_USER_2, MAINTENANCE, { vmid: 4 }, 401, NOT_ALLOWED],
  ['no admin, a machine of their own', AS_USER_2, MAINTENANCE, { vmid: 1 }, 401, NOT_ALLOWED],
  ...NO_MACHINES.flatMap(([name, body]): Row[] => [
    [name, AS_ADMIN, MAINTENANCE, body, 400, INVALID_VM],
    [`${name}, by no admin: the machine is judged first`, AS_USER_2, MAINTENANCE, body, 400, INVALID_VM],
  ]),
  ['a machine that somebody holds', AS_ADMIN, MAINTENANCE, { vmid: 1 }, 401, NOT_ALLOWED],
  ['a machine that one holds oneself', AS_ADMIN, MAINTENANCE, { vmid: 2 }, 401, NOT_ALLOWED],
  ['a free machine', AS_ADMIN, MAINTENANCE, { vmid: 4 }, 401, NOT_ALLOWED],
  [
    'refusals changed nothing',
    null,
    'GET /maintenance',
    null,
    200,
    listOf('Maintenance_VM_details', [vmRow(3, 'maintenance')]),
  ],
  ['one is given back', AS_USER_2, 'POST /checkin_vm', { vmid: 1 }, 201, checkedIn(1), ['vm.checked_in']],
  [
    'all are listed',
    null,
    'GET /maintenance',
    null,
    200,
    listOf('Maintenance_VM_details', [vmRow(1, 'maintenance'), vmRow(3, 'maintenance')]),
  ],
  ['an admin brings one back', AS_ADMIN, MAINTENANCE, { vmid: 3 }, 201, backInPool(3), RETURNED],
  ['again', AS_ADMIN, MAINTENANCE, { vmid: 3 }, 401, NOT_ALLOWED],
  ['it is free', null, 'GET /vmdetails/id/3', null, 200, listOf('VM_details', [vmRow(3, 'idle')])],
  ['the other in digits', AS_ADMIN, MAINTENANCE, { vmid: ' 1' }, 201, backInPool(1), RETURNED],
  ['none is left', null, 'GET /maintenance', null, 400, NONE],
  ['it can be had again', AS_USER_2, 'POST /checkout_vm', {}, 201, checkedOut(1, USER_2), ['vm.checked_out']],
])

table('maintenance of an installation without machines', null, [
  ['none', null, 'GET /maintenance', null, 400, NONE],
  ['without auth', null, MAINTENANCE, { vmid: 1 }, 400, AUTH_MISSING],
  ['with auth', AS_ADMIN, MAINTENANCE, { vmid: 1 }, 400, INVALID_USER],
])

table('bringing back to the letter', { users: 1, machines: 1, aside: [1] }, [
  [
    'the keys with their hyphens and spaces',
    AS_ADMIN,
    MAINTENANCE,
    { vmid: 1 },
    201,
    {
      message: 'VM ready to use and available in pool.',
      'VM Details': {
        'vm-Id': 1,
        hostname: 'vm-000001',
        'ip-address': '100.119.121.178',
        'vm type': 'small',
      },
    },
    RETURNED,
  ],
])
