/**
 * The original API, mounted at the root: its clients go on working unchanged. Every mutation is judged in one order: the body
 * is a JSON object, credentials are there, somebody has them, the role, the fields, the state. Reads take no credentials.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Action, may } from '../../domain/permission.ts'
import { DEFAULT_POOL, POOL_SIZE_MAX } from '../../domain/pool.ts'
import { isRefusal, type Refusal, refusal } from '../../domain/refusal.ts'
import { isStorableText, type UserTextField, userTextRefusal } from '../../domain/user.ts'
import { POWER_STATES } from '../../domain/vm.ts'
import { VM_TYPES, vmTypeNamed } from '../../domain/vm-type.ts'
import { changeAccount, createAccount, deleteAccount, setupCodeFits } from '../../service/account.ts'
import type { Berth } from '../../service/berth.ts'
import type { Caller } from '../../service/credentials.ts'
import { setPoolSize } from '../../service/pool-size.ts'
import { resetInstallation } from '../../service/reset.ts'
import type { Holding, VmFilter } from '../../store/port.ts'
import type { Guard } from '../guard.ts'
import {
  answerOf,
  basicStats,
  EMPTY,
  MESSAGES,
  POOL_SIZE_ALLOWED,
  REFUSAL_ANSWERS,
  type RefusalAnswers,
  userKeys,
  userNotFound,
  userRow,
  vmKeys,
  vmRow,
} from './answers.ts'
import { authOf, type Body, bodyOf, wholeNumber } from './fields.ts'
import { emptyBody, type ListSource, listBody } from './list.ts'

const POOL = DEFAULT_POOL

type WithId = { Params: { id: string } }

export interface OriginalSettings {
  readonly guard: Guard
  /** Reads the body of a request that the framework gives none (GET). Refused: `body_invalid`, `body_too_large`. */
  readonly rawBody: (request: FastifyRequest) => Promise<unknown | Refusal>
}

export function originalRoutes(app: FastifyInstance, berth: Berth, settings: OriginalSettings): void {
  userRoutes(app, berth)
  poolRoutes(app, berth)
  vmRoutes(app, berth)
  leaseRoutes(app, berth)
  resetRoute(app, berth, settings)
}

function userRoutes(app: FastifyInstance, berth: Berth): void {
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
    return reply.code(201).send(MESSAGES.userCreated)
  })

  app.patch('/user', async (request, reply) => {
    const no = REFUSAL_ANSWERS.changeUser
    const body = bodyOf(request)
    if (isRefusal(body)) return refuse(reply, body, no)
    const caller = await callerOf(berth, request, body)
    if (isRefusal(caller)) return refuse(reply, caller, no)
    const userId = wholeNumber(body.id)
    const action = userId === caller.userId ? 'user.change.self' : 'user.change.other'
    if (!may(caller.role, action))
      return refuse(reply, refusal('not_allowed', { action, role: caller.role }), no)
    const { id } = body
    if (id === undefined || id === null) return refuse(reply, refusal('field_missing', { field: 'id' }), no)
    if (userId === null) {
      if (typeof id === 'number' || typeof id === 'string') return answer(reply, userNotFound(id))
      return refuse(reply, refusal('field_invalid', { field: 'id', value: id, allowed: "a user's id" }), no)
    }
    const wanted = { name: null, email: null, password: null } as Record<UserTextField, string | null>
    for (const field of ['name', 'email', 'password'] as const) {
      const value = body[field] ?? null
      const wrong = value === null ? null : userTextRefusal(field, value)
      if (wrong !== null) return refuse(reply, wrong, no)
      wanted[field] = value as string | null
    }
    const changed = await changeAccount(berth, caller, { userId, ...wanted }, request.id)
    if (!isRefusal(changed)) return reply.send(MESSAGES.updateDone)
    if (changed.code === 'user_unknown') return answer(reply, userNotFound(userId))
    // The original crashed on an e-mail that is taken; its clients expect 400 where a field is wrong.
    if (changed.code === 'email_taken') return reply.code(400).send({ message: changed.message })
    return refuse(reply, changed, no)
  })

  app.delete<WithId>('/user/id/:id', async (request, reply) => {
    const no = REFUSAL_ANSWERS.deleteUser
    const body = bodyOf(request)
    if (isRefusal(body)) return refuse(reply, body, no)
    const caller = await callerOf(berth, request, body, 'user.delete')
    if (isRefusal(caller)) return refuse(reply, caller, no)
    const userId = wholeNumber(request.params.id)
    if (userId === null) return reply.send(MESSAGES.recordDeleted)
    const deleted = await deleteAccount(berth, caller, userId, request.id)
    return isRefusal(deleted) ? refuse(reply, deleted, no) : reply.send(MESSAGES.recordDeleted)
  })

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

function poolRoutes(app: FastifyInstance, berth: Berth): void {
  app.post('/create_resource_pool', (request, reply) =>
    sizePool(request, reply, {
      created: [201, MESSAGES.resourcesCreated],
      resized: [201, MESSAGES.resourcesRecreated],
      unchanged: [201, MESSAGES.resourcesRecreated],
    }),
  )
  app.post('/resizevmpool', (request, reply) =>
    sizePool(request, reply, {
      created: [201, MESSAGES.resourcesCreated],
      resized: [200, MESSAGES.poolSizeUpdated],
      unchanged: [200, MESSAGES.nothingToUpdate],
    }),
  )

  async function sizePool(
    request: FastifyRequest,
    reply: FastifyReply,
    answers: Record<'created' | 'resized' | 'unchanged', readonly [number, object]>,
  ): Promise<FastifyReply> {
    const no = REFUSAL_ANSWERS.sizePool
    const body = bodyOf(request)
    if (isRefusal(body)) return refuse(reply, body, no)
    const caller = await callerOf(berth, request, body, 'pool.change')
    if (isRefusal(caller)) {
      const none = caller.code === 'caller_unknown' && !(await berth.reads.anyUser())
      return refuse(reply, none ? refusal('no_users') : caller, no)
    }
    const value = body.pool_size
    if (value === undefined) return refuse(reply, refusal('field_missing', { field: 'pool_size' }), no)
    const size = wholeNumber(value)
    if (size === null || size > POOL_SIZE_MAX) {
      const wrong = { field: 'pool_size', value, allowed: POOL_SIZE_ALLOWED }
      return refuse(reply, refusal('field_invalid', wrong), no)
    }
    const sized = await setPoolSize(berth, caller, POOL, size, request.id)
    if (isRefusal(sized)) return refuse(reply, sized, no)
    const [status, message] = answers[sized.outcome]
    return reply.code(status).send(message)
  }

  app.get('/create_resource_pool/basicstats', async (_request, reply) => {
    const reading = await berth.reads.poolNamed(POOL)
    return reply.send(basicStats(reading?.stats ?? null))
  })
  app.get('/vmpoolsize', async (_request, reply) => {
    const reading = await berth.reads.poolNamed(POOL)
    return reply.send({ 'vm pool size': String(reading?.pool.target ?? 0) })
  })
}

function vmRoutes(app: FastifyInstance, berth: Berth): void {
  const details = { key: 'VM_details', empty: EMPTY, show: vmRow }
  const vms = (filter: VmFilter) => (slice: { afterId: number; rowsMax: number }) =>
    berth.reads.vms(POOL, filter, slice)

  app.get('/vmdetails', (_request, reply) => list(berth, reply, { ...details, read: vms({ by: 'all' }) }))
  app.get<WithId>('/vmdetails/id/:id', async (request, reply) => {
    const id = wholeNumber(request.params.id)
    const vm = id === null ? null : await berth.reads.vm(POOL, id)
    return reply.send({ VM_details: vm === null ? EMPTY : { [vm.id]: vmRow(vm) } })
  })
  app.get<{ Params: { type: string } }>('/vmdetails/type/:type', (request, reply) => {
    const type = vmTypeNamed(request.params.type)
    return list(berth, reply, { ...details, read: type === null ? one(null) : vms({ by: 'type', type }) })
  })
  app.get<{ Params: { status: string } }>('/vmdetails/status/:status', (request, reply) => {
    const wanted = request.params.status.toLowerCase()
    const power = POWER_STATES.find((state) => state === wanted)
    return list(berth, reply, {
      ...details,
      read: power === undefined ? one(null) : vms({ by: power }),
    })
  })
  app.get<{ Params: { email: string } }>('/vmdetails/maped_to/:email', (request, reply) => {
    const { email } = request.params
    const filter: VmFilter =
      email === 'idle' ? { by: 'ready' } : email === 'maintenance' ? { by: 'aside' } : { by: 'holder', email }
    const read = isStorableText(email) ? vms(filter) : one(null)
    return list(berth, reply, { ...details, empty: '', read })
  })
  app.get('/vmdetails/types/:word', (_request, reply) => reply.send({ VM_Types: VM_TYPES }))

  app.delete<WithId>('/vmdetails/id/:id', async (request, reply) => {
    const no = REFUSAL_ANSWERS.deleteVm
    const body = bodyOf(request)
    if (isRefusal(body)) return refuse(reply, body, no)
    const caller = await callerOf(berth, request, body, 'vm.delete')
    if (isRefusal(caller)) return refuse(reply, caller, no)
    const vmId = wholeNumber(request.params.id)
    if (vmId === null) return refuse(reply, refusal('vm_unknown', { vmId: request.params.id }), no)
    const deleted = await berth.submit({ kind: 'deleteVm', actor: caller, vmId, requestId: request.id })
    return isRefusal(deleted) ? refuse(reply, deleted, no) : reply.send(MESSAGES.vmDeleted)
  })

  const maintenance = { key: 'Maintenance_VM_details', empty: EMPTY, show: vmRow }
  app.get('/maintenance', (_request, reply) =>
    list(berth, reply, { ...maintenance, read: vms({ by: 'aside' }) }, 400),
  )
}

function leaseRoutes(app: FastifyInstance, berth: Berth): void {
  app.post('/checkout_vm', async (request, reply) => {
    const no = REFUSAL_ANSWERS.checkout
    const body = bodyOf(request)
    if (isRefusal(body)) return refuse(reply, body, no)
    const caller = await callerOf(berth, request, body)
    if (isRefusal(caller)) return refuse(reply, caller, no)
    const wanted = body.vmid ?? null
    const vmId = wanted === null ? null : wholeNumber(wanted)
    if (wanted !== null && vmId === null) return refuse(reply, refusal('vm_unknown', { vmId: wanted }), no)
    const leased = await berth.submit({
      kind: 'checkout',
      actor: caller,
      pool: POOL,
      vmId,
      type: null,
      requestId: request.id,
    })
    if (isRefusal(leased)) return refuse(reply, leased, no)
    return reply.code(201).send({
      message: 'VM checkout complete.',
      'VM Details': vmKeys(leased.vm),
      'User Details': userKeys(leased.holder),
    })
  })

  app.post('/checkin_vm', async (request, reply) => {
    const no = REFUSAL_ANSWERS.checkIn
    const body = bodyOf(request)
    if (isRefusal(body)) return refuse(reply, body, no)
    const caller = await callerOf(berth, request, body)
    if (isRefusal(caller)) return refuse(reply, caller, no)
    const vmId = wholeNumber(body.vmid)
    if (vmId === null) return refuse(reply, refusal('vm_unknown', { vmId: body.vmid ?? null }), no)
    const given = await berth.submit({
      kind: 'checkIn',
      actor: caller,
      vmId,
      generation: null,
      requestId: request.id,
    })
    if (isRefusal(given)) return refuse(reply, given, no)
    return reply.code(201).send({
      message: 'VM checkin complete.',
      'VM Details': { ...vmKeys(given.vm), 'VM tagged to': 'maintenance' },
    })
  })

  app.post('/maintenance', async (request, reply) => {
    const no = REFUSAL_ANSWERS.maintenance
    const body = bodyOf(request)
    if (isRefusal(body)) return refuse(reply, body, no)
    const caller = await callerOf(berth, request, body)
    if (isRefusal(caller)) return refuse(reply, caller, no)
    const vmId = wholeNumber(body.vmid)
    if (vmId === null) return refuse(reply, refusal('vm_unknown', { vmId: body.vmid ?? null }), no)
    const back = await berth.submit({
      kind: 'maintain',
      actor: caller,
      vmId,
      step: 'clean',
      requestId: request.id,
    })
    if (isRefusal(back)) return refuse(reply, back, no)
    return reply.code(201).send({
      message: 'VM ready to use and available in pool.',
      'VM Details': vmKeys(back.vm),
    })
  })

  app.get<WithId>('/checkout_vm/user/:id', async (request, reply) => {
    const id = wholeNumber(request.params.id)
    return holding(reply, 'VM owned by user', id === null ? null : await berth.reads.heldByUser(POOL, id))
  })
  app.get<WithId>('/checkout_vm/vm/:id', async (request, reply) => {
    const id = wholeNumber(request.params.id)
    return holding(reply, 'VM owner Details', id === null ? null : await berth.reads.holderOf(POOL, id))
  })
}

function resetRoute(app: FastifyInstance, berth: Berth, { guard, rawBody }: OriginalSettings): void {
  // A HEAD of this route would reset as well.
  app.get('/truncate_tables', { exposeHeadRoute: false }, async (request, reply) => {
    const no = REFUSAL_ANSWERS.reset
    const foreign = guard.judgeNoBrowser(request.headers)
    if (foreign !== null) return refuse(reply, foreign, no)
    const body = await rawBody(request)
    if (isRefusal(body)) return refuse(reply, body, no)
    let caller: Caller | null = null
    const auth = typeof body === 'object' && body !== null ? authOf(body as Body) : null
    if (auth !== null && !berth.settings.allowReset && (await berth.reads.anyUser())) {
      const known = await callerOf(berth, request, body as Body, 'installation.reset')
      if (isRefusal(known)) return refuse(reply, known, no)
      caller = known
    }
    const reset = await resetInstallation(berth, caller, request.id)
    if (isRefusal(reset)) return refuse(reply, reset, no)
    if (!reset.done) return refuse(reply, refusal('resetting'), no)
    return reply.code(201).send(MESSAGES.tablesCreated)
  })
}

/**
 * The caller whose credentials the body carries, when their role may do `action`. Refused: `auth_missing`, `caller_unknown`,
 * `password_wrong`, `too_many_attempts`, `overloaded`, `not_allowed`.
 */
async function callerOf(
  berth: Berth,
  request: FastifyRequest,
  body: Body,
  action?: Action,
): Promise<Caller | Refusal> {
  const auth = authOf(body)
  if (auth === null) return refusal('auth_missing')
  const { userId, password } = auth
  const caller =
    berth.credentials.remembered(userId, password) ??
    (await berth.credentials.verify(userId, password, request.ip))
  if (isRefusal(caller) || action === undefined || may(caller.role, action)) return caller
  return refusal('not_allowed', { action, role: caller.role })
}

function setupCodeOf(request: FastifyRequest, body: Body): string | null {
  const code = request.headers['x-setup-code'] ?? body.setup_code
  return typeof code === 'string' ? code : null
}

function refuse(reply: FastifyReply, no: Refusal, answers: RefusalAnswers): FastifyReply {
  if (no.retryAfterSeconds !== null) reply.header('retry-after', no.retryAfterSeconds)
  return answer(reply, answerOf(no, answers))
}

function answer(reply: FastifyReply, { status, body }: { status: number; body: unknown }): FastifyReply {
  return reply.code(status).send(body)
}

function one<Row extends { readonly id: number }>(row: Row | null): () => Promise<Row[]> {
  return async () => (row === null ? [] : [row])
}

async function list<Row extends { readonly id: number }>(
  berth: Berth,
  reply: FastifyReply,
  source: ListSource<Row>,
  statusWhenEmpty = 200,
): Promise<FastifyReply> {
  const body = await listBody(source, berth.schedule)
  reply.header('content-type', 'application/json; charset=utf-8')
  return body === null ? reply.code(statusWhenEmpty).send(emptyBody(source)) : reply.send(body)
}

function holding(reply: FastifyReply, key: string, held: Holding | null): FastifyReply {
  if (held === null) return reply.code(400).send({ [key]: EMPTY })
  return reply.code(201).send({ [key]: vmKeys(held.vm), 'User Details': userKeys(held.holder) })
}
