/** Users, as the original API makes, changes, deletes and shows them. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { may } from '../../domain/permission.ts'
import { isRefusal, refusal } from '../../domain/refusal.ts'
import { isStorableText } from '../../domain/text.ts'
import { type UserTextField, userTextRefusal } from '../../domain/user.ts'
import { changeAccount, createAccount, deleteAccount, setupCodeFits } from '../../service/account.ts'
import type { Berth } from '../../service/berth.ts'
import type { Caller } from '../../service/credentials.ts'
import { EMPTY, MESSAGES, REFUSAL_ANSWERS, userNotFound, userRow } from './answers.ts'
import { callerOf, list, mutation, one, refuse, say, type WithId } from './call.ts'
import { type Body, bodyOf, wholeNumber } from './fields.ts'

export function userRoutes(app: FastifyInstance, berth: Berth): void {
  const recordDeleted = { status: 200, body: MESSAGES.recordDeleted }
  app.post('/user', async (request, reply) => {
    const no = REFUSAL_ANSWERS.createUser
    const body = bodyOf(request)
    if (isRefusal(body)) return refuse(reply, body, no)
    let caller: Caller | null = null
    const mayBeFirst = setupCodeFits(berth, setupCodeOf(request, body))
    if (await berth.reads.anyUser()) {
      const known = await callerOf(berth, request, body, 'user.create')
      if (isRefusal(known)) return refuse(reply, known, no)
      caller = known
    } else if (!mayBeFirst) return refuse(reply, refusal('setup_code_wrong'), no)
    for (const field of ['name', 'email', 'password'] as const) {
      const wrong = userTextRefusal(field, body[field])
      if (wrong !== null) return refuse(reply, wrong, no)
    }
    const { name, email, password, role } = body as Record<UserTextField, string> & { role: unknown }
    const isAdmin = typeof role === 'string' && role.toLowerCase() === 'admin'
    const account = { name, email, password, role: isAdmin ? 'admin' : 'user' } as const
    const made = await createAccount(berth, caller, account, mayBeFirst, request.id)
    if (isRefusal(made)) return refuse(reply, made, no)
    return say(reply, { status: 201, body: MESSAGES.userCreated })
  })

  app.patch(
    '/user',
    mutation(berth, REFUSAL_ANSWERS.changeUser, null, async ({ request, body, caller }) => {
      const userId = wholeNumber(body.id)
      const action = userId === caller.userId ? 'user.change.self' : 'user.change.other'
      if (!may(caller.role, action)) return refusal('not_allowed', { action, role: caller.role })
      const { id } = body
      if (id === undefined || id === null) return refusal('field_missing', { field: 'id' })
      if (userId === null) {
        if (typeof id === 'number' || typeof id === 'string') return userNotFound(id)
        return refusal('field_invalid', { field: 'id', value: id, allowed: "a user's id" })
      }
      const wanted = { name: null, email: null, password: null } as Record<UserTextField, string | null>
      for (const field of ['name', 'email', 'password'] as const) {
        const value = body[field] ?? null
        const wrong = value === null ? null : userTextRefusal(field, value)
        if (wrong !== null) return wrong
        wanted[field] = value as string | null
      }
      const changed = await changeAccount(berth, caller, { userId, ...wanted }, request.id)
      if (!isRefusal(changed)) return { status: 200, body: MESSAGES.updateDone }
      if (changed.code === 'user_unknown') return userNotFound(userId)
      // The original crashed on an e-mail that is taken; its clients expect 400 where a field is wrong.
      if (changed.code === 'email_taken') return { status: 400, body: { message: changed.message } }
      return changed
    }),
  )

  app.delete<WithId>(
    '/user/id/:id',
    mutation<WithId>(berth, REFUSAL_ANSWERS.deleteUser, 'user.delete', async ({ request, caller }) => {
      const userId = wholeNumber(request.params.id)
      if (userId === null) return recordDeleted
      const deleted = await deleteAccount(berth, caller, userId, request.id)
      return isRefusal(deleted) ? deleted : recordDeleted
    }),
  )

  const users = { key: 'User_Details', empty: EMPTY, show: userRow }
  app.get('/user', (_request, reply) =>
    list(berth, reply, { ...users, read: (slice) => berth.reads.activeUsers(slice) }),
  )
  app.get<WithId>('/user/id/:id', async (request, reply) => {
    const id = wholeNumber(request.params.id)
    const user = id === null ? null : await berth.reads.user(id)
    return list(berth, reply, { ...users, read: one(user?.state === 'active' ? user : null) })
  })
  app.get<{ Params: { email: string } }>('/user/email/:email', async (request, reply) => {
    const { email } = request.params
    const user = isStorableText(email) ? await berth.reads.userByEmail(email) : null
    return list(berth, reply, { ...users, read: one(user) })
  })
}

function setupCodeOf(request: FastifyRequest, body: Body): string | null {
  const code = request.headers['x-setup-code'] ?? body.setup_code
  return typeof code === 'string' ? code : null
}
