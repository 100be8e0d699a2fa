/**
 * Proves what holds for all calls of the original API: how a body is read, in which order a call is judged, which texts count
 * as numbers, which keys count, and what a path or a method that nobody knows answers.
 */

import {
  AS_ADMIN,
  AS_USER_2,
  AUTH_MISSING,
  backInPool,
  checkedIn,
  checkedOut,
  contract,
  listOf,
  type Row,
  raw,
  STRANGER,
  says,
  stats,
  USER_2,
  USER_2_WRONG,
  userKeys,
  userRow,
  vmKeys,
  vmList,
} from '../support/rows.ts'
import { ADMIN } from '../support/test-server.ts'

const UPPER_FAILED = { Message: 'Authentication or Authorization failed' }
const LOWER_FAILED = { message: 'Authentication or Authorization failed' }
const CHECKOUT_FAILED = {
  message: 'Unauthorized! Authentication failed.Or you tried to check out pre owned VM. ',
}
const CHECKIN_FAILED = {
  message:
    'Unauthorized! Only Owner can check in the VM back to pool.Or you tried to check in someone else VM. ',
}
const MAINTENANCE_FAILED = {
  message:
    'Unauthorized! Only Admin can bring VM back to pool.Or you tried to checkin VM which is not under maintenance.',
}
const INVALID_VM = { message: 'Invalid VM' }

type Call = Row[2]
type Judged = readonly [status: number, answer: unknown]

/** Each mutation, with what it answers when everything from one step of the order on is wrong. */
const MUTATIONS: readonly {
  readonly call: Call
  /** Fields that are wrong, in each call's own way. */
  readonly wrong: object
  readonly nobodyThere: Judged
  readonly unknownCaller: Judged
  readonly wrongPassword: Judged
  /** A caller who is no admin; null: the role makes no difference. */
  readonly wrongRole: Judged | null
  readonly wrongField: Judged
}[] = [
  {
    call: 'POST /user',
    wrong: { name: 1 },
    // On an empty installation the fields are the first thing that is judged.
    nobodyThere: [400, says(/^name 1 is not allowed/)],
    unknownCaller: [401, UPPER_FAILED],
    wrongPassword: [401, UPPER_FAILED],
    wrongRole: [401, UPPER_FAILED],
    wrongField: [400, says(/^name 1 is not allowed/)],
  },
  {
    call: 'PATCH /user',
    wrong: { id: [] },
    nobodyThere: [400, LOWER_FAILED],
    unknownCaller: [400, LOWER_FAILED],
    wrongPassword: [400, UPPER_FAILED],
    wrongRole: [400, UPPER_FAILED],
    wrongField: [400, says(/^id \[\] is not allowed/)],
  },
  {
    call: 'DELETE /user/id/abc',
    wrong: {},
    nobodyThere: [400, { message: 'Invalid user' }],
    unknownCaller: [400, { message: 'Invalid user' }],
    wrongPassword: [401, UPPER_FAILED],
    wrongRole: [401, UPPER_FAILED],
    wrongField: [200, { Message: 'Record Deleted' }],
  },
  ...(['POST /create_resource_pool', 'POST /resizevmpool'] as const).map((call) => ({
    call,
    wrong: { pool_size: 'x' },
    nobodyThere: [400, { message: 'Please create user first.' }] as const,
    unknownCaller: [400, { message: 'Invalid user' }] as const,
    wrongPassword: [401, UPPER_FAILED] as const,
    wrongRole: [401, UPPER_FAILED] as const,
    wrongField: [
      400,
      says(/^pool_size "x" is not allowed: it must be a whole number from 0 to 1000000$/),
    ] as const,
  })),
  {
    call: 'DELETE /vmdetails/id/abc',
    wrong: {},
    nobodyThere: [400, { message: 'Invalid user.' }],
    unknownCaller: [400, { message: 'Invalid user.' }],
    wrongPassword: [401, UPPER_FAILED],
    wrongRole: [401, UPPER_FAILED],
    wrongField: [400, { message: 'Invalid VM.' }],
  },
  {
    call: 'POST /checkout_vm',
    wrong: { vmid: {} },
    nobodyThere: [400, { message: 'Invalid User' }],
    unknownCaller: [400, { message: 'Invalid User' }],
    wrongPassword: [401, CHECKOUT_FAILED],
    wrongRole: null,
    wrongField: [400, INVALID_VM],
  },
  {
    call: 'POST /checkin_vm',
    wrong: { vmid: {} },
    nobodyThere: [400, { message: 'Invalid User' }],
    unknownCaller: [400, { message: 'Invalid User' }],
    wrongPassword: [401, CHECKIN_FAILED],
    wrongRole: null,
    wrongField: [400, INVALID_VM],
  },
  {
    call: 'POST /maintenance',
    wrong: { vmid: {} },
    nobodyThere: [400, { message: 'Invalid User' }],
    unknownCaller: [400, { message: 'Invalid User' }],
    wrongPassword: [401, MAINTENANCE_FAILED],
    // The one exception: the machine is judged before the role.
    wrongRole: null,
    wrongField: [400, INVALID_VM],
  },
]

const CALLS = MUTATIONS.map(({ call }) => call)
const NOT_AN_OBJECT = /^the body must be a JSON object: /

const { table } = contract()

table('the order of judgement', { users: 1, machines: 1 }, [
  ...MUTATIONS.flatMap((of): Row[] => {
    const { call, wrong } = of
    return [
      ['1. a JSON object', null, call, raw('['), 400, says(NOT_AN_OBJECT)],
      ['2. credentials', null, call, wrong, 400, AUTH_MISSING],
      ['3. a caller that is known', STRANGER, call, wrong, ...of.unknownCaller],
      ['4. the password', USER_2_WRONG, call, wrong, ...of.wrongPassword],
      ['5. the role', AS_USER_2, call, wrong, ...(of.wrongRole ?? of.wrongField)],
      ['6. the fields', AS_ADMIN, call, wrong, ...of.wrongField],
    ]
  }),
])

table('the order of judgement where nobody is', null, [
  ...MUTATIONS.flatMap(({ call, wrong, nobodyThere }): Row[] => [
    ['1. a JSON object', null, call, raw('['), 400, says(NOT_AN_OBJECT)],
    ...(call === 'POST /user'
      ? []
      : [['2. credentials', null, call, wrong, 400, AUTH_MISSING] as const satisfies Row]),
    ['3. somebody is there', STRANGER, call, wrong, ...nobodyThere],
  ]),
])

const NO_OBJECTS: readonly (readonly [name: string, body: object])[] = [
  ['no body', raw(undefined, null)],
  ['no body, though JSON is announced', raw(undefined)],
  ['an empty body', raw('')],
  ['white space', raw('  ')],
  ['broken JSON', raw('{"auth": {"userid": 1')],
  ['JSON with a comma too many', raw('{"vmid": 1,}')],
  ['JSON in single quotes', raw("{'vmid': 1}")],
  ['not JSON at all', raw('vmid=1')],
  ['two objects', raw('{}{}')],
  ['null', raw('null')],
  ['a list', raw('[{"vmid": 1}]')],
  ['a number', raw('1')],
  ['a text', raw('"vmid"')],
  ['a boolean', raw('true')],
  ['no content type', raw('{}', null)],
  ['a form', raw('vmid=1', 'application/x-www-form-urlencoded')],
  ['JSON as text', raw('{}', 'text/plain')],
  ['JSON as octets', raw('{}', 'application/octet-stream')],
  ['a content type that is none', raw('{}', 'json')],
  ['an empty content type', raw('{}', '')],
]

table('a body that is no JSON object', { users: 1, machines: 1 }, [
  ...CALLS.flatMap((call) =>
    NO_OBJECTS.map(([name, body]): Row => [name, null, call, body, 400, says(NOT_AN_OBJECT)]),
  ),
  ...CALLS.map(
    (call): Row => [
      'too large',
      null,
      call,
      raw(JSON.stringify({ x: 'x'.repeat(70_000) })),
      413,
      says(/65536 bytes/),
    ],
  ),
])

table('content types of JSON', { users: 1, machines: 3 }, [
  ...['application/json; charset=utf-8', 'application/json;charset=UTF-8', 'Application/JSON'].map(
    (type): Row => [
      type,
      null,
      'POST /checkin_vm',
      raw(JSON.stringify({ ...AS_USER_2, vmid: 99 }), type),
      400,
      INVALID_VM,
    ],
  ),
])

const OTHER_KEYS = {
  x: 1,
  code: 'password_wrong',
  message: 'hello',
  Message: 'hello',
  status: 200,
  details: {},
  retryAfterSeconds: 1,
  constructor: { name: 'x' },
  hasOwnProperty: 1,
  toString: 'x',
}

table('keys that a call does not know are ignored', { users: 1, machines: 2 }, [
  [
    'code and message alone are no credentials',
    null,
    'POST /checkout_vm',
    { code: 'x', message: 'y' },
    400,
    AUTH_MISSING,
  ],
  ...CALLS.map(
    (call): Row => ['code, message and status are no credentials', null, call, OTHER_KEYS, 400, AUTH_MISSING],
  ),
  ...CALLS.map(
    (call): Row => [
      'keys of every object are no credentials',
      null,
      call,
      raw('{"__proto__": {"auth": {"userid": 1, "password": "ada-pw"}}, "constructor": 1}'),
      400,
      AUTH_MISSING,
    ],
  ),
  [
    'checkout',
    AS_USER_2,
    'POST /checkout_vm',
    { ...OTHER_KEYS, type: 'large' },
    201,
    checkedOut(1, USER_2),
    ['vm.checked_out'],
  ],
  [
    'check-in',
    AS_USER_2,
    'POST /checkin_vm',
    { ...OTHER_KEYS, vmid: 1, generation: 7 },
    201,
    checkedIn(1),
    ['vm.checked_in'],
  ],
  [
    'maintenance',
    AS_ADMIN,
    'POST /maintenance',
    { ...OTHER_KEYS, vmid: 1, step: 'cordon' },
    201,
    backInPool(1),
    ['vm.returned'],
  ],
  [
    'making a pool',
    AS_ADMIN,
    'POST /create_resource_pool',
    { ...OTHER_KEYS, pool_size: 2 },
    201,
    { message: 'Pool resources recreated.' },
  ],
  [
    'resizing',
    AS_ADMIN,
    'POST /resizevmpool',
    { ...OTHER_KEYS, pool_size: 2 },
    200,
    { message: 'Nothing to Update' },
  ],
  ['changing a user', AS_ADMIN, 'PATCH /user', { ...OTHER_KEYS, id: 2 }, 200, { Message: 'Update done' }],
  [
    'deleting a machine',
    AS_ADMIN,
    'DELETE /vmdetails/id/2',
    OTHER_KEYS,
    200,
    { Message: 'VM deleted' },
    ['vm.removed'],
  ],
  [
    'deleting a user',
    AS_ADMIN,
    'DELETE /user/id/2',
    OTHER_KEYS,
    200,
    { Message: 'Record Deleted' },
    ['user.deleted'],
  ],
  [
    'making a user',
    AS_ADMIN,
    'POST /user',
    { ...OTHER_KEYS, ...USER_2 },
    201,
    { message: 'User Created.' },
    ['user.created'],
  ],
  [
    'a reset',
    AS_ADMIN,
    'GET /truncate_tables',
    OTHER_KEYS,
    201,
    { message: 'Tables Created' },
    ['installation.reset'],
  ],
  [
    'the first user',
    null,
    'POST /user',
    { ...OTHER_KEYS, ...ADMIN },
    201,
    { message: 'User Created.' },
    ['user.created'],
  ],
])

const DIGITS_2 = { auth: { userid: '2', password: USER_2.password } }
const SPACED_2 = { auth: { userid: '\t2 \n', password: USER_2.password } }
const OWNER_KEYS = { 'User Details': userKeys(USER_2) }

table('digits in text are numbers', { users: 2, machines: 4, held: { 2: 2 } }, [
  ['userid', DIGITS_2, 'POST /checkout_vm', { vmid: '1' }, 201, checkedOut(1, USER_2), ['vm.checked_out']],
  [
    'userid with white space',
    SPACED_2,
    'POST /checkin_vm',
    { vmid: '\n1\t' },
    201,
    checkedIn(1),
    ['vm.checked_in'],
  ],
  [
    'userid with leading zeros',
    { auth: { userid: '002', password: 'pw-2' } },
    'POST /checkout_vm',
    { vmid: '003' },
    201,
    checkedOut(3, USER_2),
    ['vm.checked_out'],
  ],
  [
    'a vmid with a fraction of zero',
    AS_ADMIN,
    'POST /maintenance',
    raw('{"auth":{"userid":1.0,"password":"ada-pw"},"vmid":1.0}'),
    201,
    backInPool(1),
    ['vm.returned'],
  ],
  [
    'id',
    AS_ADMIN,
    'PATCH /user',
    { id: ' 2 ', name: 'Two' },
    200,
    { Message: 'Update done' },
    ['user.changed'],
  ],
  [
    'one’s own id',
    DIGITS_2,
    'PATCH /user',
    { id: '2', name: USER_2.name },
    200,
    { Message: 'Update done' },
    ['user.changed'],
  ],
  ['pool_size', AS_ADMIN, 'POST /resizevmpool', { pool_size: '\t4 ' }, 200, { message: 'Nothing to Update' }],
  ['signs are none', AS_ADMIN, 'POST /maintenance', { vmid: '+1' }, 400, INVALID_VM],
  ['hexadecimal digits are none', AS_ADMIN, 'POST /maintenance', { vmid: '0x1' }, 400, INVALID_VM],
  ['exponents are none', AS_ADMIN, 'POST /maintenance', { vmid: '1e0' }, 400, INVALID_VM],
  ['digits of other scripts are none', AS_ADMIN, 'POST /maintenance', { vmid: '١' }, 400, INVALID_VM],
  ['white space inside is none', AS_ADMIN, 'POST /maintenance', { vmid: '1 1' }, 400, INVALID_VM],
  ['in paths: a user', null, 'GET /user/id/%202%20', null, 200, listOf('User_Details', [userRow(USER_2)])],
  ['in paths: a machine', null, 'GET /vmdetails/id/02', null, 200, vmList([2, USER_2.email])],
  [
    'in paths: an owner',
    null,
    'GET /checkout_vm/vm/%202',
    null,
    201,
    { 'VM owner Details': vmKeys(2), ...OWNER_KEYS },
  ],
  [
    'in paths: a holder',
    null,
    'GET /checkout_vm/user/02',
    null,
    201,
    { 'VM owned by user': vmKeys(2), ...OWNER_KEYS },
  ],
  [
    'in paths: to delete a machine',
    AS_ADMIN,
    'DELETE /vmdetails/id/%204',
    null,
    200,
    { Message: 'VM deleted' },
    ['vm.removed'],
  ],
  [
    'in paths: to delete a user',
    AS_ADMIN,
    'DELETE /user/id/03',
    null,
    200,
    { Message: 'Record Deleted' },
    ['user.deleted'],
  ],
])

const NOT_IDS = [
  'abc',
  '-1',
  '1.5',
  '1e3',
  '0x1',
  '1;2',
  '1%00',
  '%F0%9F%9A%A2',
  '__proto__',
  '9'.repeat(400),
]

table('a word where a path wants an id', { users: 1, machines: 2, held: { 1: 2 } }, [
  ...NOT_IDS.flatMap((word): Row[] => [
    ['no user', null, `GET /user/id/${word}`, null, 200, { User_Details: '[]' }],
    ['no machine', null, `GET /vmdetails/id/${word}`, null, 200, { VM_details: '[]' }],
    ['no holder', null, `GET /checkout_vm/user/${word}`, null, 400, { 'VM owned by user': '[]' }],
    ['no owner', null, `GET /checkout_vm/vm/${word}`, null, 400, { 'VM owner Details': '[]' }],
    ['nothing to delete', AS_ADMIN, `DELETE /user/id/${word}`, null, 200, { Message: 'Record Deleted' }],
    ['no machine to delete', AS_ADMIN, `DELETE /vmdetails/id/${word}`, null, 400, { message: 'Invalid VM.' }],
  ]),
  ['nothing was deleted', null, 'GET /create_resource_pool/basicstats', null, 200, stats(1, 0, 1)],
])

table('paths that nobody knows', { users: 1, machines: 1 }, [
  ...(
    [
      'GET /',
      'GET /nothing',
      'GET /users',
      'GET /User',
      'GET /vmdetails/',
      'GET /vmdetails/1',
      'GET /user/id/1/2',
      'POST /user/',
      'DELETE /user/id',
      'GET /..%2f',
      'PUT /nothing',
      'OPTIONS /nothing',
    ] as const
  ).map((call): Row => ['404 with a message', null, call, null, 404, says(/^there is no [A-Z]+ "\//)]),
  ['HEAD', null, 'HEAD /nothing', null, 404, null],
  ['a broken percent-encoding', null, 'GET /user/id/%zz', null, 400, says(/percent-encoded/)],
  [
    'a body makes no difference',
    AS_ADMIN,
    'POST /nothing',
    { vmid: 1 },
    404,
    says(/^there is no POST "\/nothing"/),
  ],
])

const OTHER_METHODS: readonly Call[] = [
  'PUT /user',
  'DELETE /user',
  'OPTIONS /user',
  'POST /user/id/1',
  'PATCH /user/id/1',
  'POST /user/email/a@example.org',
  'GET /create_resource_pool',
  'PATCH /create_resource_pool',
  'POST /create_resource_pool/basicstats',
  'GET /resizevmpool',
  'POST /vmpoolsize',
  'POST /vmdetails',
  'DELETE /vmdetails',
  'PUT /vmdetails/id/1',
  'POST /vmdetails/type/small',
  'POST /vmdetails/types/all',
  'GET /checkout_vm',
  'DELETE /checkout_vm/vm/1',
  'GET /checkin_vm',
  'PUT /maintenance',
  'POST /truncate_tables',
  'DELETE /truncate_tables',
]

table('a wrong method on a known path', { users: 1, machines: 1 }, [
  ...OTHER_METHODS.flatMap((call): Row[] => [
    ['405 with a message', null, call, null, 405, says(/ is not possible here, only [A-Z, ]+$/)],
    [
      'also with credentials',
      AS_ADMIN,
      call,
      { pool_size: 1 },
      405,
      says(/ is not possible here, only [A-Z, ]+$/),
    ],
  ]),
  ['HEAD of a call that changes something', null, 'HEAD /checkin_vm', null, 405, null],
  ['HEAD of a list', null, 'HEAD /vmdetails', null, 200, null],
  ['a query changes nothing', null, 'GET /vmpoolsize?x=1&pool_size=7', null, 200, { 'vm pool size': '1' }],
])
