/**
 * What the calls of the original API have in common: every mutation is judged in one order (the body is a JSON object,
 * credentials are there, somebody has them, the role, then the fields and the state, which are each call's own), and refusals
 * become the answers that its clients know.
 */
import type { FastifyReply, FastifyRequest, RouteGenericInterface } from 'fastify'
import { type Action, may } from '../../domain/permission.ts'
import { isRefusal, type Refusal, refusal } from '../../domain/refusal.ts'
import type { Berth } from '../../service/berth.ts'
import type { Caller } from '../../service/credentials.ts'
import { type Answer, answerOf, type RefusalAnswers } from './answers.ts'
import { authOf, type Body, bodyOf } from './fields.ts'
import { emptyBody, type ListSource, listBody } from './list.ts'

export type WithId = { Params: { id: string } }

export interface Call<Route extends RouteGenericInterface> {
  readonly request: FastifyRequest<Route>
  readonly body: Body
  readonly caller: Caller
}

/**
 * The handler of a mutation: `act` is called once the caller's password was right and their role may do `action` (null: the
 * call judges that itself), and gives its answer or a refusal.
 */
export function mutation<Route extends RouteGenericInterface = RouteGenericInterface>(
  berth: Berth,
  answers: RefusalAnswers,
  action: Action | null,
  act: (call: Call<Route>) => Promise<Answer | Refusal>,
) {
  return async (request: FastifyRequest<Route>, reply: FastifyReply): Promise<unknown> => {
    const body = bodyOf(request as FastifyRequest)
    if (isRefusal(body)) return refuse(reply, body, answers)
    const caller = await callerOf(berth, request as FastifyRequest, body, action)
    if (isRefusal(caller)) return refuse(reply, caller, answers)
    const done = await act({ request, body, caller })
    return isRefusal(done) ? refuse(reply, done, answers) : say(reply, done)
  }
}

/**
 * The caller whose credentials the body carries, when their role may do `action`. Refused: `auth_missing`, `caller_unknown`,
 * `password_wrong`, `too_many_attempts`, `overloaded`, `not_allowed`.
 */
export async function callerOf(
  berth: Berth,
  request: FastifyRequest,
  body: Body,
  action: Action | null,
): Promise<Caller | Refusal> {
  const auth = authOf(body)
  if (auth === null) return refusal('auth_missing')
  const { userId, password } = auth
  const caller =
    berth.credentials.remembered(userId, password) ??
    (await berth.credentials.verify(userId, password, request.ip))
  if (isRefusal(caller) || action === null || may(caller.role, action)) return caller
  return refusal('not_allowed', { action, role: caller.role })
}

/** Prepares the answer that a call has for a refusal; returns the body to send. */
export function refuse(reply: FastifyReply, no: Refusal, answers: RefusalAnswers): unknown {
  if (no.retryAfterSeconds !== null) reply.header('retry-after', no.retryAfterSeconds)
  return say(reply, answerOf(no, answers))
}

/** Prepares an answer; returns the body to send. Handlers return bodies: a reply that they return is waited for at a price. */
export function say(reply: FastifyReply, { status, body }: Answer): unknown {
  reply.code(status)
  return body
}

/** A list of one row or none. */
export function one<Row extends { readonly id: number }>(row: Row | null): () => Promise<Row[]> {
  return async () => (row === null ? [] : [row])
}

export async function list<Row extends { readonly id: number }>(
  berth: Berth,
  reply: FastifyReply,
  source: ListSource<Row>,
  statusWhenEmpty = 200,
): Promise<unknown> {
  const body = await listBody(source, berth.schedule)
  reply.header('content-type', 'application/json; charset=utf-8')
  return body ?? say(reply, { status: statusWhenEmpty, body: emptyBody(source) })
}
