/**
 * What a route of /api/v1 is: one row of a table, from which come the Fastify route, its checks, its serializers, and its part of
 * the OpenAPI document. A handler gets what was checked, and gives an answer or a refusal.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Static, TObject, TSchema } from 'typebox'
import type { CommandKind, CommandOf, ReplyOf } from '../../domain/command.ts'
import type { Action } from '../../domain/permission.ts'
import { isRefusal, type Refusal, type RefusalCode } from '../../domain/refusal.ts'
import type { Berth } from '../../service/berth.ts'
import type { Said } from '../../service/lane.ts'
import type { TokenCaller } from '../../service/tokens.ts'

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** What a successful answer of one status is. */
export interface Answer {
  readonly description: string
  /** null: it has no body. */
  readonly schema: TSchema | null
  readonly headers?: readonly ('ETag' | 'Location')[]
  /** What it is, where that is no JSON. */
  readonly type?: string
  /** True: it may be asked for as a stream of events, too. */
  readonly streams?: true
}

/** A call whose parts have been checked. */
export interface Call<Params = unknown, Query = unknown, Body = unknown> {
  readonly berth: Berth
  readonly caller: TokenCaller
  readonly params: Params
  readonly query: Query
  readonly body: Body
  readonly requestId: string
  /** Where it came from. */
  readonly address: string
  /** The Idempotency-Key, and a hash of what is asked for; null: none was given. */
  readonly keyed: { readonly key: string; readonly fingerprint: string } | null
  /** The ETags of which one has to fit; null: any. */
  readonly ifMatch: readonly string[] | null
  readonly request: FastifyRequest
}

/** What is sent back. A body that is a stream or a text is sent as it is. */
export interface Outcome extends Said {
  readonly replayed?: boolean
}

type Part<S> = S extends TObject ? Static<S> : unknown

export interface Route<
  Params extends TObject | undefined = TObject | undefined,
  Query extends TObject | undefined = TObject | undefined,
  Body extends TObject | undefined = TObject | undefined,
> {
  readonly method: Method
  /** As OpenAPI writes it: /pools/{name}. */
  readonly path: string
  /** The operation's name, for clients that are made from the document. */
  readonly id: string
  /** What it belongs to, in the document. */
  readonly tag: string
  readonly summary: string
  readonly description?: string
  /** bearer: a token is needed; optional: it is looked at; none: it is not. */
  readonly auth: 'bearer' | 'optional' | 'none'
  /** What the caller's role has to allow; judged before anything that was sent is looked at. */
  readonly action?: Action
  readonly params?: Params
  readonly query?: Query
  readonly body?: Body
  /** Fields of the body that no hash may be kept of. */
  readonly secrets?: readonly string[]
  /** True: If-Match is looked at. */
  readonly ifMatch?: true
  readonly answers: Readonly<Record<number, Answer>>
  /** What it may be refused with, beside what any call may be refused with. */
  readonly refusals?: readonly RefusalCode[]
  handle(call: Call<Part<Params>, Part<Query>, Part<Body>>, reply: FastifyReply): Promise<Outcome | Refusal>
}

/** A row of the table, with the types of its handler taken from its schemas. */
export function route<
  Params extends TObject | undefined = undefined,
  Query extends TObject | undefined = undefined,
  Body extends TObject | undefined = undefined,
>(row: Route<Params, Query, Body>): Route {
  return row as unknown as Route
}

const NO_HEADERS = {}

export function said(status: number, body: unknown, headers: Said['headers'] = NO_HEADERS): Outcome {
  return { status, body, headers }
}

export const DONE: Outcome = said(204, null)

/**
 * Hands in the command of a call, and says what its reply answers. Under an Idempotency-Key the answer is saved with the effect, so
 * every POST goes this way.
 */
export async function perform<K extends CommandKind>(
  { berth, keyed }: Pick<Call, 'berth' | 'keyed'>,
  command: CommandOf<K> & { kind: K },
  say: (reply: ReplyOf<K>) => Outcome,
): Promise<Outcome | Refusal> {
  if (keyed !== null) return berth.submitKeyed(command, { ...keyed, say })
  const reply = await berth.submit(command)
  return isRefusal(reply) ? reply : say(reply as ReplyOf<K>)
}
