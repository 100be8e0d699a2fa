/** Proves what the original API's calls on users answer: POST, PATCH, DELETE and GET of /user, each success and each failure. */

import {
  ADA,
  ADMIN_WRONG,
  AS_ADMIN,
  AS_USER_2,
  AUTH_MISSING,
  contract,
  listOf,
  PARTIAL_AUTHS,
  type Row,
  STRANGER,
  says,
  stats,
  USER_2,
  USER_2_WRONG,
  USER_3,
  userRow,
  vmList,
} from '../support/rows.ts'
import { auth } from '../support/test-server.ts'

const CREATED = { message: 'User Created.' }
const UPDATED = { Message: 'Update done' }
const DELETED = { Message: 'Record Deleted' }
const AUTH_FAILED = { Message: 'Authentication or Authorization failed' }
const AUTH_FAILED_LOWER = { message: 'Authentication or Authorization failed' }
const EMAIL_TAKEN = { message: 'User with same email already exist,User is not created.' }
const INVALID_USER = { message: 'Invalid user' }
const NO_SELF_DELETE = { message: 'User self delete not allowed' }
const NOBODY = { User_Details: '[]' }

const CARL = { name: 'Carl', email: 'carl@example.org', password: 'carl-pw' }
const DORA = { name: 'Dora', email: 'dora@example.org', password: 'dora-pw' }
const EMIL = { name: 'Emil', email: 'emil@example.org', password: 'emil-pw' }
const { name: _name, ...NAMELESS } = CARL
const { email: _email, ...WITHOUT_EMAIL } = CARL
const { password: _password, ...WITHOUT_PASSWORD } = CARL

function userList(...users: readonly { id: number; name: string; email: string }[]) {
  return listOf('User_Details', users.map(userRow))
}

const { table } = contract()

const WRONG_ACCOUNTS: readonly (readonly [name: string, body: object, answer: unknown])[] = [
  ['no name', NAMELESS, says(/^name is missing/)],
  ['no e-mail', WITHOUT_EMAIL, says(/^email is missing/)],
  ['no password', WITHOUT_PASSWORD, says(/^password is missing/)],
  ['name null', { ...CARL, name: null }, says(/^name is missing/)],
  ['e-mail null', { ...CARL, email: null }, says(/^email is missing/)],
  ['password null', { ...CARL, password: null }, says(/^password is missing/)],
  ['name a number', { ...CARL, name: 7 }, says(/^name 7 is not allowed/)],
  ['e-mail a list', { ...CARL, email: ['carl@example.org'] }, says(/^email .* is not allowed/)],
  ['password a number is not quoted', { ...CARL, password: 70717 }, says(/^password must be(?!.*70717)/)],
  ['e-mail empty', { ...CARL, email: '' }, says(/^email "" is not allowed/)],
  ['the e-mail idle', { ...CARL, email: 'idle' }, says(/^email "idle" is not allowed/)],
  ['the e-mail maintenance', { ...CARL, email: 'maintenance' }, says(/^email "maintenance" is not allowed/)],
]

table('the first user', null, [
  ['nobody is there', null, 'GET /user', null, 200, NOBODY],
  ...WRONG_ACCOUNTS.map(([name, body, answer]): Row => [name, null, 'POST /user', body, 400, answer]),
  ['still nobody is there', null, 'GET /user', null, 200, NOBODY],
  [
    'needs no auth; role and id are ignored',
    null,
    'POST /user',
    { ...CARL, role: 'user', id: 77 },
    201,
    CREATED,
    ['user.created'],
  ],
  ['ids start at 1', null, 'GET /user', null, 200, userList({ id: 1, ...CARL })],
  ['the first user is admin', auth(1, 'carl-pw'), 'POST /user', DORA, 201, CREATED, ['user.created']],
  ['the second needs auth', null, 'POST /user', EMIL, 400, AUTH_MISSING],
  ['the second is no admin', auth(2, 'dora-pw'), 'POST /user', EMIL, 401, AUTH_FAILED],
])

table('the first user with credentials that fit nobody', null, [
  ['auth is not looked at', STRANGER, 'POST /user', ADA, 201, CREATED, ['user.created']],
])

table('the first user with auth in part', null, [
  ['auth is not looked at', { auth: 'x' }, 'POST /user', ADA, 201, CREATED, ['user.created']],
])

table('further users', { users: 1 }, [
  ...PARTIAL_AUTHS.map(([name, who]): Row => [name, who, 'POST /user', CARL, 400, AUTH_MISSING]),
  ['a wrong password', ADMIN_WRONG, 'POST /user', CARL, 401, AUTH_FAILED],
  ['a caller who is no admin', AS_USER_2, 'POST /user', CARL, 401, AUTH_FAILED],
  ['an unknown caller', STRANGER, 'POST /user', CARL, 401, AUTH_FAILED],
  ['a wrong password is judged before the fields', ADMIN_WRONG, 'POST /user', {}, 401, AUTH_FAILED],
  ['the role is judged before the fields', AS_USER_2, 'POST /user', {}, 401, AUTH_FAILED],
  ...WRONG_ACCOUNTS.map(([name, body, answer]): Row => [name, AS_ADMIN, 'POST /user', body, 400, answer]),
  ['the e-mail is taken', AS_ADMIN, 'POST /user', { ...CARL, email: USER_2.email }, 400, EMAIL_TAKEN],
  ['refusals made nobody', null, 'GET /user', null, 200, userList(ADA, USER_2)],
  ['an admin makes a user', AS_ADMIN, 'POST /user', { ...CARL, id: 2 }, 201, CREATED, ['user.created']],
  ['with the next id', null, 'GET /user', null, 200, userList(ADA, USER_2, { id: 3, ...CARL })],
  [
    'an e-mail in another case is another e-mail',
    AS_ADMIN,
    'POST /user',
    { ...CARL, email: 'CARL@example.org' },
    201,
    CREATED,
    ['user.created'],
  ],
  [
    'the same name and password may come again',
    AS_ADMIN,
    'POST /user',
    { ...CARL, email: 'c@example.org' },
    201,
    CREATED,
    ['user.created'],
  ],
])

const ROLES: readonly (readonly [role: unknown, isAdmin: boolean])[] = [
  ['admin', true],
  ['Admin', true],
  ['ADMIN', true],
  ['user', false],
  ['root', false],
  ['', false],
  [null, false],
  [1, false],
  [['admin'], false],
]

table('roles of further users', { users: 0 }, [
  ...ROLES.flatMap(([role, isAdmin], i): Row[] => {
    const id = 2 + i
    const who = auth(id, 'pw')
    const made = { name: 'Rolf', email: `rolf${i}@example.org`, password: 'pw', role }
    const told = isAdmin ? 'makes an admin' : 'makes a plain user'
    return [
      [
        `role ${JSON.stringify(role)} ${told}`,
        AS_ADMIN,
        'POST /user',
        made,
        201,
        CREATED,
        ['user.created'],
      ] as const,
      isAdmin
        ? (['… who may delete', who, 'DELETE /user/id/999', null, 200, DELETED] as const)
        : (['… who may not delete', who, 'DELETE /user/id/999', null, 401, AUTH_FAILED] as const),
    ]
  }),
])

table('changing a user', { users: 2 }, [
  ...PARTIAL_AUTHS.map(
    ([name, who]): Row => [name, who, 'PATCH /user', { id: 1, name: 'X' }, 400, AUTH_MISSING],
  ),
  ['a wrong password', ADMIN_WRONG, 'PATCH /user', { id: 1, name: 'X' }, 400, AUTH_FAILED],
  ['an unknown caller', STRANGER, 'PATCH /user', { id: 1, name: 'X' }, 400, AUTH_FAILED_LOWER],
  ['somebody else, by no admin', AS_USER_2, 'PATCH /user', { id: 3, name: 'X' }, 400, AUTH_FAILED],
  ['the admin, by no admin', AS_USER_2, 'PATCH /user', { id: 1, name: 'X' }, 400, AUTH_FAILED],
  ['an unknown target, by no admin', AS_USER_2, 'PATCH /user', { id: 99, name: 'X' }, 400, AUTH_FAILED],
  ['no id, by no admin', AS_USER_2, 'PATCH /user', { name: 'X' }, 400, AUTH_FAILED],
  ['a wrong password before an unknown target', ADMIN_WRONG, 'PATCH /user', { id: 99 }, 400, AUTH_FAILED],
  ['an unknown target', AS_ADMIN, 'PATCH /user', { id: 99, name: 'X' }, 400, notFound(99)],
  ['an unknown target without changes', AS_ADMIN, 'PATCH /user', { id: 99 }, 400, notFound(99)],
  ['target 0', AS_ADMIN, 'PATCH /user', { id: 0, name: 'X' }, 400, notFound(0)],
  ['a negative target', AS_ADMIN, 'PATCH /user', { id: -1, name: 'X' }, 400, notFound(-1)],
  ['a word as target', AS_ADMIN, 'PATCH /user', { id: 'abc', name: 'X' }, 400, notFound('abc')],
  ['a fraction as target', AS_ADMIN, 'PATCH /user', { id: 2.5, name: 'X' }, 400, notFound(2.5)],
  ['no id', AS_ADMIN, 'PATCH /user', { name: 'X' }, 400, says(/^id is missing/)],
  ['id null', AS_ADMIN, 'PATCH /user', { id: null, name: 'X' }, 400, says(/^id is missing/)],
  ['id a list', AS_ADMIN, 'PATCH /user', { id: [2], name: 'X' }, 400, says(/^id \[2\] is not allowed/)],
  ['id a boolean', AS_ADMIN, 'PATCH /user', { id: true, name: 'X' }, 400, says(/^id true is not allowed/)],
  ['a name that is no text', AS_ADMIN, 'PATCH /user', { id: 2, name: 7 }, 400, says(/^name 7 is not/)],
  ['an e-mail that is no text', AS_ADMIN, 'PATCH /user', { id: 2, email: {} }, 400, says(/^email \{\} is/)],
  [
    'a password that is no text',
    AS_ADMIN,
    'PATCH /user',
    { id: 2, password: 1 },
    400,
    says(/^password must/),
  ],
  ['the e-mail idle', AS_ADMIN, 'PATCH /user', { id: 2, email: 'idle' }, 400, says(/^email "idle"/)],
  [
    'the e-mail maintenance, by oneself',
    AS_USER_2,
    'PATCH /user',
    { id: 2, email: 'maintenance' },
    400,
    says(/^email "maintenance"/),
  ],
  [
    'an e-mail that is taken',
    AS_ADMIN,
    'PATCH /user',
    { id: 2, email: USER_3.email },
    400,
    says(/user3@example\.org/),
  ],
  [
    'one wrong field refuses all',
    AS_ADMIN,
    'PATCH /user',
    { id: 2, name: 'X', email: 7 },
    400,
    says(/^email/),
  ],
  ['refusals changed nobody', null, 'GET /user', null, 200, userList(ADA, USER_2, USER_3)],

  ['nothing but an id changes nothing', AS_ADMIN, 'PATCH /user', { id: 2 }, 200, UPDATED],
  [
    'nulls change nothing',
    AS_USER_2,
    'PATCH /user',
    { id: 2, name: null, email: null, password: null },
    200,
    UPDATED,
  ],
  [
    'the own e-mail again is not taken',
    AS_USER_2,
    'PATCH /user',
    { id: 2, email: USER_2.email },
    200,
    UPDATED,
  ],
  [
    'other keys are ignored, role too',
    AS_ADMIN,
    'PATCH /user',
    { id: 2, role: 'admin', x: 1, state: 'gone' },
    200,
    UPDATED,
  ],
  ['so the user is no admin', AS_USER_2, 'POST /user', CARL, 401, AUTH_FAILED],
  ['none of these changed anybody', null, 'GET /user', null, 200, userList(ADA, USER_2, USER_3)],

  [
    'an admin changes a name',
    AS_ADMIN,
    'PATCH /user',
    { id: 3, name: 'Third' },
    200,
    UPDATED,
    ['user.changed'],
  ],
  ['and it shows', null, 'GET /user/id/3', null, 200, userList({ ...USER_3, name: 'Third' })],
  [
    'users change their own name and e-mail',
    AS_USER_2,
    'PATCH /user',
    { id: 2, name: 'Zoë', email: 'zoë@example.org' },
    200,
    UPDATED,
    ['user.changed'],
  ],
  [
    'and it shows',
    null,
    'GET /user/id/2',
    null,
    200,
    userList({ id: 2, name: 'Zoë', email: 'zoë@example.org' }),
  ],
  [
    'the e-mail that was given up is free',
    AS_ADMIN,
    'PATCH /user',
    { id: 3, email: USER_2.email },
    200,
    UPDATED,
    ['user.changed'],
  ],
  [
    'an e-mail in another case is free',
    AS_ADMIN,
    'PATCH /user',
    { id: 1, email: 'USER2@example.org' },
    200,
    UPDATED,
    ['user.changed'],
  ],
  [
    'users change their own password',
    AS_USER_2,
    'PATCH /user',
    { id: 2, password: 'new' },
    200,
    UPDATED,
    ['user.changed'],
  ],
  ['the old one is void', AS_USER_2, 'PATCH /user', { id: 2 }, 400, AUTH_FAILED],
  ['the new one works', auth(2, 'new'), 'PATCH /user', { id: 2 }, 200, UPDATED],
])

function notFound(id: unknown) {
  return { message: `The user with Id${id} not found` }
}

table('changing an e-mail keeps the machines', { users: 2, machines: 2, held: { 1: 2 } }, [
  [
    'the holder gets another e-mail',
    AS_ADMIN,
    'PATCH /user',
    { id: 2, email: 'new@example.org' },
    200,
    UPDATED,
    ['user.changed'],
  ],
  [
    'the machine is listed under it',
    null,
    'GET /vmdetails/maped_to/new@example.org',
    null,
    200,
    vmList([1, 'new@example.org']),
  ],
  [
    'and no more under the old one',
    null,
    `GET /vmdetails/maped_to/${USER_2.email}`,
    null,
    200,
    { VM_details: '' },
  ],
  [
    'somebody else gets the old one',
    AS_ADMIN,
    'PATCH /user',
    { id: 3, email: USER_2.email },
    200,
    UPDATED,
    ['user.changed'],
  ],
  ['and holds nothing by it', null, 'GET /checkout_vm/user/3', null, 400, { 'VM owned by user': '[]' }],
])

table('deleting a user', { users: 2 }, [
  ...PARTIAL_AUTHS.map(([name, who]): Row => [name, who, 'DELETE /user/id/3', {}, 400, AUTH_MISSING]),
  ['an unknown caller', STRANGER, 'DELETE /user/id/3', null, 400, INVALID_USER],
  ['a wrong password', ADMIN_WRONG, 'DELETE /user/id/3', null, 401, AUTH_FAILED],
  ['a caller who is no admin', AS_USER_2, 'DELETE /user/id/3', null, 401, AUTH_FAILED],
  ['oneself with a wrong password', ADMIN_WRONG, 'DELETE /user/id/1', null, 401, AUTH_FAILED],
  ['oneself, by no admin', AS_USER_2, 'DELETE /user/id/2', null, 401, AUTH_FAILED],
  ['an unknown target, by no admin', AS_USER_2, 'DELETE /user/id/99', null, 401, AUTH_FAILED],
  ['a word, by no admin', AS_USER_2, 'DELETE /user/id/abc', null, 401, AUTH_FAILED],
  ['oneself', AS_ADMIN, 'DELETE /user/id/1', null, 400, NO_SELF_DELETE],
  ['an unknown target', AS_ADMIN, 'DELETE /user/id/99', null, 200, DELETED],
  ['a word', AS_ADMIN, 'DELETE /user/id/abc', null, 200, DELETED],
  ['a negative number', AS_ADMIN, 'DELETE /user/id/-3', null, 200, DELETED],
  ['a fraction', AS_ADMIN, 'DELETE /user/id/2.5', null, 200, DELETED],
  ['everybody is still there', null, 'GET /user', null, 200, userList(ADA, USER_2, USER_3)],
  ['a user', AS_ADMIN, 'DELETE /user/id/3', null, 200, DELETED, ['user.deleted']],
  ['the user is gone from the list', null, 'GET /user', null, 200, userList(ADA, USER_2)],
  ['and by id', null, 'GET /user/id/3', null, 200, NOBODY],
  ['and by e-mail', null, `GET /user/email/${USER_3.email}`, null, 200, NOBODY],
  ['again', AS_ADMIN, 'DELETE /user/id/3', null, 200, DELETED],
  [
    'their credentials are nobody’s',
    auth(3, 'pw-3'),
    'POST /checkout_vm',
    {},
    400,
    { message: 'Invalid User' },
  ],
  ['they cannot be changed', AS_ADMIN, 'PATCH /user', { id: 3, name: 'X' }, 400, notFound(3)],
  [
    'their e-mail is free again',
    AS_ADMIN,
    'POST /user',
    { ...CARL, email: USER_3.email },
    201,
    CREATED,
    ['user.created'],
  ],
  [
    'but their id is not used again',
    null,
    `GET /user/email/${USER_3.email}`,
    null,
    200,
    userList({ id: 4, name: CARL.name, email: USER_3.email }),
  ],
])

table('deleting a user who holds machines', { users: 2, machines: 4, held: { 1: 2, 2: 3, 3: 2 } }, [
  ['the holder is deleted', AS_ADMIN, 'DELETE /user/id/2', null, 200, DELETED, ['user.deleted']],
  [
    'what they held is under maintenance',
    null,
    'GET /vmdetails',
    null,
    200,
    vmList([1, 'maintenance'], [2, USER_3.email], [3, 'maintenance'], [4, 'idle']),
  ],
  ['and counted there', null, 'GET /create_resource_pool/basicstats', null, 200, stats(1, 2, 1)],
  [
    'a machine of theirs has no owner',
    null,
    'GET /checkout_vm/vm/1',
    null,
    400,
    { 'VM owner Details': '[]' },
  ],
  ['they own none', null, 'GET /checkout_vm/user/2', null, 400, { 'VM owned by user': '[]' }],
  [
    'somebody gets their e-mail',
    AS_ADMIN,
    'POST /user',
    { ...CARL, email: USER_2.email },
    201,
    CREATED,
    ['user.created'],
  ],
  ['and none of their machines', null, 'GET /checkout_vm/user/4', null, 400, { 'VM owned by user': '[]' }],
  ['also not by e-mail', null, `GET /vmdetails/maped_to/${USER_2.email}`, null, 200, { VM_details: '' }],
])

table('deleting an admin', { users: 1 }, [
  ['a second admin', AS_ADMIN, 'POST /user', { ...CARL, role: 'admin' }, 201, CREATED, ['user.created']],
  ['deletes the first', auth(3, 'carl-pw'), 'DELETE /user/id/1', null, 200, DELETED, ['user.deleted']],
  ['who is unknown from now on', AS_ADMIN, 'DELETE /user/id/2', null, 400, INVALID_USER],
  ['the last user but one', auth(3, 'carl-pw'), 'DELETE /user/id/2', null, 200, DELETED, ['user.deleted']],
  ['the last one stays', auth(3, 'carl-pw'), 'DELETE /user/id/3', null, 400, NO_SELF_DELETE],
  ['auth is still needed', null, 'POST /user', DORA, 400, AUTH_MISSING],
])

table('reading users', { users: 2 }, [
  ['all, without passwords', null, 'GET /user', null, 200, userList(ADA, USER_2, USER_3)],
  ['by id', null, 'GET /user/id/2', null, 200, userList(USER_2)],
  ['by an unknown id', null, 'GET /user/id/99', null, 200, NOBODY],
  ['by id 0', null, 'GET /user/id/0', null, 200, NOBODY],
  ['by a word', null, 'GET /user/id/abc', null, 200, NOBODY],
  ['by a negative id', null, 'GET /user/id/-1', null, 200, NOBODY],
  ['by a fraction', null, 'GET /user/id/1.5', null, 200, NOBODY],
  ['by an id that no number holds', null, `GET /user/id/${'9'.repeat(30)}`, null, 200, NOBODY],
  ['by e-mail', null, `GET /user/email/${USER_3.email}`, null, 200, userList(USER_3)],
  ['by e-mail, percent-encoded', null, 'GET /user/email/user3%40example.org', null, 200, userList(USER_3)],
  ['by e-mail in another case', null, 'GET /user/email/User3@example.org', null, 200, NOBODY],
  ['by an unknown e-mail', null, 'GET /user/email/nobody@example.org', null, 200, NOBODY],
  ['by part of an e-mail', null, 'GET /user/email/user3', null, 200, NOBODY],
])

const ODD_EMAIL = 'a/b%41?#+ ü@example.org'

table('an e-mail that a path has to encode', { users: 0 }, [
  ['is accepted', AS_ADMIN, 'POST /user', { ...CARL, email: ODD_EMAIL }, 201, CREATED, ['user.created']],
  [
    'and found',
    null,
    `GET /user/email/${encodeURIComponent(ODD_EMAIL)}`,
    null,
    200,
    userList({ ...CARL, id: 2, email: ODD_EMAIL }),
  ],
])

const LONG_EMAIL = `${'é'.repeat(300)}@example.org`

table('an e-mail of many letters beyond ASCII', { users: 0 }, [
  ['is accepted', AS_ADMIN, 'POST /user', { ...CARL, email: LONG_EMAIL }, 201, CREATED, ['user.created']],
  [
    'and found',
    null,
    `GET /user/email/${encodeURIComponent(LONG_EMAIL)}`,
    null,
    200,
    userList({ ...CARL, id: 2, email: LONG_EMAIL }),
  ],
])

table('a wrong password of a plain user', { users: 1 }, [
  ['is the same on POST', USER_2_WRONG, 'POST /user', CARL, 401, AUTH_FAILED],
  ['on PATCH', USER_2_WRONG, 'PATCH /user', { id: 2, name: 'X' }, 400, AUTH_FAILED],
  ['on DELETE', USER_2_WRONG, 'DELETE /user/id/1', null, 401, AUTH_FAILED],
])
