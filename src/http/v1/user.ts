/** Users: an admin makes, changes and deletes them; everybody sees and changes themselves. The first one makes themselves. */
import { type Static, Type } from 'typebox'
import { userEtag } from '../../domain/account.ts'
import { may } from '../../domain/permission.ts'
import { isRefusal, refusal } from '../../domain/refusal.ts'
import { type User, type UserTextField, userTextRefusal } from '../../domain/user.ts'
import { deleteAccount, passwordHashOf, setupCodeFits } from '../../service/account.ts'
import { ID_KEYS, idAfter, oneOutcome, pageOutcome } from './page.ts'
import { DONE, type Outcome, perform, type Route, route, said } from './route.ts'
import { fields, id, named, page, pageOf, strict, text, time, timeText, words } from './schema.ts'

const properties = {
  id,
  name: Type.String(),
  email: Type.String(),
  role: words(['admin', 'user']),
  created_at: time,
}

const USER = named('User', strict(properties))

const FIELDS = Object.keys(properties)

const password = Type.String({ minLength: 1, maxLength: 1_024, format: 'password' })

const CREATION = named(
  'UserCreation',
  strict({
    name: text(200),
    email: text(320),
    password,
    role: Type.Optional(words(['admin', 'user'], { default: 'user' })),
  }),
)

const CHANGE = named(
  'UserChange',
  strict(
    {
      name: Type.Optional(text(200)),
      email: Type.Optional(text(320)),
      password: Type.Optional({ ...password, description: 'a new one ends all tokens of the user' }),
    },
    { minProperties: 1 },
  ),
)

const byId = strict({ id })

function shown(user: User): Static<typeof USER> {
  return {
    id: user.id,
    name: user.name,
    email: user.email,
    role: user.role,
    created_at: timeText(user.createdAtMs),
  }
}

function outcomeOf(status: number, user: User, headers: Outcome['headers'] = {}): Outcome {
  return said(status, shown(user), { ...headers, etag: userEtag(user) })
}

/** What schemas cannot say of a user's texts. */
function textRefusal(body: Partial<Record<UserTextField, string>>) {
  for (const field of ['name', 'email', 'password'] as const) {
    const value = body[field]
    const no = value === undefined ? null : userTextRefusal(field, value)
    if (no !== null) return no
  }
  return null
}

export const USER_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/users',
    id: 'createUser',
    tag: 'users',
    summary: 'Make a user',
    description:
      'The first user of an installation needs no token and becomes admin; on a server that others reach, the header `X-Setup-Code` has to carry the code that it printed at its start.',
    auth: 'optional',
    action: 'user.create',
    body: CREATION,
    secrets: ['password'],
    answers: { 201: { description: 'the user', schema: USER, headers: ['Location', 'ETag'] } },
    refusals: ['setup_code_wrong', 'email_taken', 'auth_missing'],
    async handle(call) {
      const { berth, caller, body, request, requestId } = call
      const code = request.headers['x-setup-code']
      const mayBeFirst = setupCodeFits(berth, typeof code === 'string' ? code : null)
      if (caller === null) {
        if (await berth.reads.anyUser()) return refusal('token_missing')
        if (!mayBeFirst) return refusal('setup_code_wrong')
      }
      const no = textRefusal(body)
      if (no !== null) return no
      const passwordHash = await passwordHashOf(berth, body.password)
      if (isRefusal(passwordHash)) return passwordHash
      const { name, email, role = 'user' } = body
      return perform(
        call,
        { kind: 'createUser', actor: caller, mayBeFirst, name, email, role, passwordHash, requestId },
        ({ user }) => outcomeOf(201, user, { location: `/api/v1/users/${user.id}` }),
      )
    },
  }),
  route({
    method: 'GET',
    path: '/users',
    id: 'listUsers',
    tag: 'users',
    summary: 'All users',
    auth: 'bearer',
    action: 'user.list',
    query: strict({ ...page, fields }),
    answers: { 200: { description: 'a page of users', schema: pageOf(USER) } },
    async handle({ berth, query }) {
      return pageOutcome(query, {
        keys: ID_KEYS,
        read: (after, rowsMax) => berth.reads.activeUsers({ afterId: idAfter(after), rowsMax }),
        key: (user) => `${user.id}`,
        show: shown,
        fields: FIELDS,
      })
    },
  }),
  route({
    method: 'GET',
    path: '/users/me',
    id: 'getMe',
    tag: 'users',
    summary: 'Whose token this is',
    auth: 'bearer',
    query: strict({ fields }),
    answers: { 200: { description: 'the user', schema: USER, headers: ['ETag'] } },
    refusals: ['user_unknown'],
    async handle({ berth, caller, query }) {
      const user = await berth.reads.user(caller.userId)
      if (user?.state !== 'active') return refusal('user_unknown', { userId: caller.userId })
      return oneOutcome(query, FIELDS, shown(user), { etag: userEtag(user) })
    },
  }),
  route({
    method: 'GET',
    path: '/users/{id}',
    id: 'getUser',
    tag: 'users',
    summary: 'One user: yourself; an admin: anybody',
    auth: 'bearer',
    params: byId,
    query: strict({ fields }),
    answers: { 200: { description: 'the user', schema: USER, headers: ['ETag'] } },
    refusals: ['user_unknown', 'not_allowed'],
    async handle({ berth, caller, params, query }) {
      if (params.id !== caller.userId && !may(caller.role, 'user.list'))
        return refusal('not_allowed', { action: 'user.list', role: caller.role })
      const user = await berth.reads.user(params.id)
      if (user?.state !== 'active') return refusal('user_unknown', { userId: params.id })
      return oneOutcome(query, FIELDS, shown(user), { etag: userEtag(user) })
    },
  }),
  route({
    method: 'PATCH',
    path: '/users/{id}',
    id: 'changeUser',
    tag: 'users',
    summary: 'Change a user: yourself; an admin: anybody',
    auth: 'bearer',
    params: byId,
    body: CHANGE,
    ifMatch: true,
    answers: { 200: { description: 'the user', schema: USER, headers: ['ETag'] } },
    refusals: ['not_allowed', 'user_unknown', 'email_taken'],
    async handle({ berth, caller, params, body, ifMatch, requestId }) {
      const action = params.id === caller.userId ? 'user.change.self' : 'user.change.other'
      if (!may(caller.role, action)) return refusal('not_allowed', { action, role: caller.role })
      const no = textRefusal(body)
      if (no !== null) return no
      const passwordHash = body.password === undefined ? null : await passwordHashOf(berth, body.password)
      if (isRefusal(passwordHash)) return passwordHash
      const { name = null, email = null } = body
      const changed = await berth.submit({
        kind: 'changeUser',
        actor: caller,
        userId: params.id,
        name,
        email,
        passwordHash,
        ifMatch,
        requestId,
      })
      return isRefusal(changed) ? changed : outcomeOf(200, changed.user)
    },
  }),
  route({
    method: 'DELETE',
    path: '/users/{id}',
    id: 'deleteUser',
    tag: 'users',
    summary: 'Delete a user',
    description:
      'Their credentials end at once, and the machines that they hold come back. The answer waits up to 30 s for these.',
    auth: 'bearer',
    action: 'user.delete',
    params: byId,
    answers: { 204: { description: 'they are deleted', schema: null } },
    refusals: ['self_delete', 'user_unknown'],
    async handle({ berth, caller, params, requestId }) {
      return (await deleteAccount(berth, caller, params.id, requestId)) ?? DONE
    },
  }),
]
