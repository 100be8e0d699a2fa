/** Proves that only the holder gives a machine back, what that answers, and that it waits for an admin from then on. */
import {
  ADA,
  ADMIN_WRONG,
  AS_ADMIN,
  AS_USER_2,
  AS_USER_3,
  AUTH_MISSING,
  checkedIn,
  checkedOut,
  contract,
  PARTIAL_AUTHS,
  type Row,
  STRANGER,
  stats,
  USER_2_WRONG,
  USER_3,
  vmList,
} from '../support/rows.ts'

const INVALID_USER = { message: 'Invalid User' }
const INVALID_VM = { message: 'Invalid VM' }
const NOT_YOURS = {
  message:
    'Unauthorized! Only Owner can check in the VM back to pool.Or you tried to check in someone else VM. ',
}

const CHECKIN = 'POST /checkin_vm'
const GIVEN = ['vm.checked_in'] as const

const { table } = contract()

const NO_MACHINES: readonly (readonly [name: string, body: object])[] = [
  ['no vmid', {}],
  ['vmid in another key', { vmId: 1, id: 1 }],
  ['vmid null', { vmid: null }],
  ['an unknown machine', { vmid: 99 }],
  ['machine 0', { vmid: 0 }],
  ['a negative number', { vmid: -1 }],
  ['a fraction', { vmid: 1.5 }],
  ['an empty text', { vmid: '' }],
  ['a word', { vmid: 'abc' }],
  ['an object', { vmid: {} }],
  ['a list', { vmid: [1] }],
  ['a boolean', { vmid: true }],
]

table('checking in', { users: 2, machines: 5, held: { 1: 2, 2: 3, 5: 2 }, aside: [3] }, [
  ...PARTIAL_AUTHS.map(([name, who]): Row => [name, who, CHECKIN, { vmid: 1 }, 400, AUTH_MISSING]),
  ['an unknown caller', STRANGER, CHECKIN, { vmid: 1 }, 400, INVALID_USER],
  ['a wrong password', USER_2_WRONG, CHECKIN, { vmid: 1 }, 401, NOT_YOURS],
  ['a wrong password, an unknown machine', ADMIN_WRONG, CHECKIN, { vmid: 99 }, 401, NOT_YOURS],
  ['a wrong password, no vmid', USER_2_WRONG, CHECKIN, {}, 401, NOT_YOURS],
  ['an unknown caller, no vmid', STRANGER, CHECKIN, {}, 400, INVALID_USER],
  ...NO_MACHINES.map(([name, body]): Row => [name, AS_USER_2, CHECKIN, body, 400, INVALID_VM]),
  ['somebody else’s machine', AS_USER_2, CHECKIN, { vmid: 2 }, 401, NOT_YOURS],
  ['somebody else’s machine, by an admin', AS_ADMIN, CHECKIN, { vmid: 1 }, 401, NOT_YOURS],
  ['a free machine', AS_USER_2, CHECKIN, { vmid: 4 }, 401, NOT_YOURS],
  ['a machine under maintenance', AS_USER_2, CHECKIN, { vmid: 3 }, 401, NOT_YOURS],
  ['refusals changed nothing', null, 'GET /create_resource_pool/basicstats', null, 200, stats(1, 1, 3)],
  ['by the holder', AS_USER_2, CHECKIN, { vmid: 1 }, 201, checkedIn(1), GIVEN],
  ['again', AS_USER_2, CHECKIN, { vmid: 1 }, 401, NOT_YOURS],
  ['by the holder, in digits', AS_USER_2, CHECKIN, { vmid: '5' }, 201, checkedIn(5), GIVEN],
  [
    'they are under maintenance',
    null,
    'GET /vmdetails',
    null,
    200,
    vmList([1, 'maintenance'], [2, USER_3.email], [3, 'maintenance'], [4, 'idle'], [5, 'maintenance']),
  ],
  ['the statistics follow', null, 'GET /create_resource_pool/basicstats', null, 200, stats(1, 3, 1)],
])

table('checking in after the e-mail changed', { users: 2, machines: 1, held: { 1: 2 } }, [
  [
    'the holder’s e-mail goes to somebody else',
    AS_ADMIN,
    'PATCH /user',
    { id: 2, email: 'moved@example.org' },
    200,
    { Message: 'Update done' },
    ['user.changed'],
  ],
  [
    'who takes it',
    AS_USER_3,
    'PATCH /user',
    { id: 3, email: 'user2@example.org' },
    200,
    { Message: 'Update done' },
    ['user.changed'],
  ],
  ['they are not the holder', AS_USER_3, CHECKIN, { vmid: 1 }, 401, NOT_YOURS],
  ['the holder still is', AS_USER_2, CHECKIN, { vmid: 1 }, 201, checkedIn(1), GIVEN],
])

table('an admin’s own machine', { machines: 1 }, [
  ['is taken', AS_ADMIN, 'POST /checkout_vm', { vmid: 1 }, 201, checkedOut(1, ADA), ['vm.checked_out']],
  ['and given back', AS_ADMIN, CHECKIN, { vmid: 1 }, 201, checkedIn(1), GIVEN],
])

table('a check-in to the letter', { users: 1, machines: 1, held: { 1: 2 } }, [
  [
    'the keys with their hyphens and spaces',
    AS_USER_2,
    CHECKIN,
    { vmid: 1 },
    201,
    {
      message: 'VM checkin complete.',
      'VM Details': {
        'vm-Id': 1,
        hostname: 'vm-000001',
        'ip-address': '100.119.121.178',
        'vm type': 'small',
        'VM tagged to': 'maintenance',
      },
    },
    GIVEN,
  ],
])
