/** Proves what checking a machine out answers, which machine one gets, and how the two reads tell who holds what. */

import {
  ADA,
  ADMIN_WRONG,
  AS_ADMIN,
  AS_USER_2,
  AS_USER_3,
  AUTH_MISSING,
  backInPool,
  checkedIn,
  checkedOut,
  contract,
  PARTIAL_AUTHS,
  type Row,
  STRANGER,
  USER_2,
  USER_2_WRONG,
  USER_3,
  userKeys,
  vmKeys,
  vmList,
} from '../support/rows.ts'
import { auth } from '../support/test-server.ts'

const INVALID_USER = { message: 'Invalid User' }
const INVALID_VM = { message: 'Invalid VM' }
const NOT_AVAILABLE = { message: 'VM not available for use,Please select another VM.' }
const NONE_FREE = {
  message: "No VM's are available in pool for checkout.Please retry after some time.",
}
const AUTH_FAILED = {
  message: 'Unauthorized! Authentication failed.Or you tried to check out pre owned VM. ',
}
const OWNS_NONE = { 'VM owned by user': '[]' }
const NO_OWNER = { 'VM owner Details': '[]' }

const CHECKOUT = 'POST /checkout_vm'
const TAKEN = ['vm.checked_out'] as const

const { table } = contract()

const NO_MACHINES: readonly (readonly [name: string, vmid: unknown])[] = [
  ['an unknown machine', 99],
  ['machine 0', 0],
  ['a negative number', -1],
  ['a fraction', 1.5],
  ['a number beyond all ids', 1e21],
  ['an empty text', ''],
  ['white space', ' '],
  ['a word', 'abc'],
  ['a negative text', '-1'],
  ['a fraction in text', '1.5'],
  ['an object', {}],
  ['a list', []],
  ['a list of a machine', [1]],
  ['a boolean', true],
  ['false', false],
]

table('checking out', { users: 2, machines: 6, held: { 1: 3 }, aside: [2] }, [
  ...PARTIAL_AUTHS.map(([name, who]): Row => [name, who, CHECKOUT, { vmid: 3 }, 400, AUTH_MISSING]),
  ['an unknown caller', STRANGER, CHECKOUT, { vmid: 3 }, 400, INVALID_USER],
  ['a wrong password', USER_2_WRONG, CHECKOUT, { vmid: 3 }, 401, AUTH_FAILED],
  ['a wrong password for any', ADMIN_WRONG, CHECKOUT, {}, 401, AUTH_FAILED],
  ['a wrong password, an unknown machine', USER_2_WRONG, CHECKOUT, { vmid: 99 }, 401, AUTH_FAILED],
  ['a wrong password, a held machine', USER_2_WRONG, CHECKOUT, { vmid: 1 }, 401, AUTH_FAILED],
  ['a wrong password, no machine at all', USER_2_WRONG, CHECKOUT, { vmid: {} }, 401, AUTH_FAILED],
  ['an unknown caller, an unknown machine', STRANGER, CHECKOUT, { vmid: 99 }, 400, INVALID_USER],
  ...NO_MACHINES.map(([name, vmid]): Row => [name, AS_USER_2, CHECKOUT, { vmid }, 400, INVALID_VM]),
  ['a machine that somebody holds', AS_USER_2, CHECKOUT, { vmid: 1 }, 400, NOT_AVAILABLE],
  ['a machine that one holds oneself', AS_USER_3, CHECKOUT, { vmid: 1 }, 400, NOT_AVAILABLE],
  ['a machine under maintenance', AS_USER_2, CHECKOUT, { vmid: 2 }, 400, NOT_AVAILABLE],
  ['one that the admin wants and somebody holds', AS_ADMIN, CHECKOUT, { vmid: 1 }, 400, NOT_AVAILABLE],
  [
    'refusals changed nothing',
    null,
    'GET /vmdetails',
    null,
    200,
    vmList([1, USER_3.email], [2, 'maintenance'], [3, 'idle'], [4, 'idle'], [5, 'idle'], [6, 'idle']),
  ],
  ['any: the free one with the lowest id', AS_USER_2, CHECKOUT, {}, 201, checkedOut(3, USER_2), TAKEN],
  ['a named one', AS_USER_2, CHECKOUT, { vmid: 5 }, 201, checkedOut(5, USER_2), TAKEN],
  ['null means any', AS_USER_3, CHECKOUT, { vmid: null }, 201, checkedOut(4, USER_3), TAKEN],
  ['admins too, a name in digits', AS_ADMIN, CHECKOUT, { vmid: ' 6 ' }, 201, checkedOut(6, ADA), TAKEN],
  [
    'and it shows',
    null,
    'GET /vmdetails',
    null,
    200,
    vmList(
      [1, USER_3.email],
      [2, 'maintenance'],
      [3, USER_2.email],
      [4, USER_3.email],
      [5, USER_2.email],
      [6, ADA.email],
    ),
  ],
  ['none is left', AS_USER_2, CHECKOUT, {}, 400, NONE_FREE],
  ['a wrong password, none is left', USER_2_WRONG, CHECKOUT, {}, 401, AUTH_FAILED],
  ['a named one of none', AS_USER_2, CHECKOUT, { vmid: 3 }, 400, NOT_AVAILABLE],
  ['an unknown one of none', AS_USER_2, CHECKOUT, { vmid: 99 }, 400, INVALID_VM],
  ['given back', AS_USER_2, 'POST /checkin_vm', { vmid: 5 }, 201, checkedIn(5), ['vm.checked_in']],
  ['it is not free yet', AS_USER_3, CHECKOUT, {}, 400, NONE_FREE],
  ['brought back', AS_ADMIN, 'POST /maintenance', { vmid: 5 }, 201, backInPool(5), ['vm.returned']],
  ['it is free', AS_USER_3, CHECKOUT, {}, 201, checkedOut(5, USER_3), TAKEN],
])

table('a checkout to the letter', { users: 1, machines: 1 }, [
  [
    'the keys with their hyphens and spaces',
    AS_USER_2,
    CHECKOUT,
    { vmid: 1 },
    201,
    {
      message: 'VM checkout complete.',
      'VM Details': {
        'vm-Id': 1,
        hostname: 'vm-000001',
        'ip-address': '100.119.121.178',
        'vm type': 'small',
      },
      'User Details': { 'user-Id': 2, 'User-name': 'User 2', 'user-email': 'user2@example.org' },
    },
    TAKEN,
  ],
])

table('checking out without a pool', { users: 1 }, [
  ['any', AS_USER_2, CHECKOUT, {}, 400, NONE_FREE],
  ['a named one', AS_USER_2, CHECKOUT, { vmid: 1 }, 400, INVALID_VM],
])

table('checking out on an empty installation', null, [
  ['without auth', null, CHECKOUT, {}, 400, AUTH_MISSING],
  ['with auth', auth(1, 'x'), CHECKOUT, {}, 400, INVALID_USER],
])

table('who holds what', { users: 3, machines: 4, held: { 4: 2, 2: 2, 3: 3 }, aside: [1] }, [
  [
    'the first machine by id of a user',
    null,
    'GET /checkout_vm/user/2',
    null,
    201,
    { 'VM owned by user': vmKeys(2), 'User Details': userKeys(USER_2) },
  ],
  ['a user who holds none', null, 'GET /checkout_vm/user/4', null, 400, OWNS_NONE],
  ['an unknown user', null, 'GET /checkout_vm/user/99', null, 400, OWNS_NONE],
  ['a word', null, 'GET /checkout_vm/user/abc', null, 400, OWNS_NONE],
  ['a negative number', null, 'GET /checkout_vm/user/-2', null, 400, OWNS_NONE],
  [
    'the owner of a machine',
    null,
    'GET /checkout_vm/vm/3',
    null,
    201,
    { 'VM owner Details': vmKeys(3), 'User Details': userKeys(USER_3) },
  ],
  [
    'not only of the first',
    null,
    'GET /checkout_vm/vm/4',
    null,
    201,
    { 'VM owner Details': vmKeys(4), 'User Details': userKeys(USER_2) },
  ],
  ['a machine that nobody holds', null, 'GET /checkout_vm/vm/1', null, 400, NO_OWNER],
  ['an unknown machine', null, 'GET /checkout_vm/vm/99', null, 400, NO_OWNER],
  ['a word for a machine', null, 'GET /checkout_vm/vm/abc', null, 400, NO_OWNER],
  [
    'the first one is given back',
    AS_USER_2,
    'POST /checkin_vm',
    { vmid: 2 },
    201,
    checkedIn(2),
    ['vm.checked_in'],
  ],
  ['it has no owner', null, 'GET /checkout_vm/vm/2', null, 400, NO_OWNER],
  [
    'the next one is the first',
    null,
    'GET /checkout_vm/user/2',
    null,
    201,
    { 'VM owned by user': vmKeys(4), 'User Details': userKeys(USER_2) },
  ],
])
