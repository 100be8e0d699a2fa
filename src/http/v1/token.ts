/** API tokens: made by signing in or with another token, listed and revoked by their owners. */
import { type Static, Type } from 'typebox'
import type { Actor } from '../../domain/decision.ts'
import { may } from '../../domain/permission.ts'
import { isRefusal, type Refusal, refusal } from '../../domain/refusal.ts'
import type { Token } from '../../domain/token.ts'
import { signIn } from '../../service/sign-in.ts'
import { durationSeconds } from './duration.ts'
import { oneOutcome, pageOutcome } from './page.ts'
import { type Call, DONE, type Outcome, perform, type Route, route, said } from './route.ts'
import {
  duration,
  fields,
  id,
  named,
  nullable,
  page,
  pageOf,
  strict,
  text,
  time,
  timeText,
  timeTextOrNull,
} from './schema.ts'

const LIFETIME_SECONDS = 90 * 86_400

const tokenId = Type.String({ pattern: '^tok_[0-9a-z]{26}$', examples: ['tok_01kdvdna00zzzzzzzzzzzzzzzz'] })

const properties = {
  id: tokenId,
  user_id: id,
  name: Type.String(),
  created_at: time,
  expires_at: nullable(Type.String({ format: 'date-time', description: 'null: without end' })),
  last_used_at: nullable(Type.String({ format: 'date-time', description: 'to the minute or so' })),
  revoked_at: nullable(time),
}

const TOKEN = named('Token', strict(properties))

const NEW_TOKEN = named(
  'NewToken',
  strict({
    ...properties,
    token: nullable(
      Type.String({
        description:
          'The secret, shown this once; null where the answer is a replay (`Idempotency-Replayed`).',
        examples: ['berth_3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'],
      }),
    ),
    replayed: Type.Boolean({
      description: 'True: this token was made by the same call before, and its secret is not shown again.',
    }),
  }),
)

const CREATION = named(
  'TokenCreation',
  strict({
    email: Type.Optional(
      text(320, {
        description: 'with `password`: who signs in; without: the bearer of the token that is sent',
      }),
    ),
    password: Type.Optional(Type.String({ minLength: 1, maxLength: 1_024, format: 'password' })),
    name: Type.Optional(text(100, { default: 'token', description: 'what you call it' })),
    expires_in: Type.Optional(
      nullable({
        ...duration,
        description: 'how long it holds; null: without end; 90 days when nothing is said',
      }),
    ),
  }),
)

const FIELDS = Object.keys(properties)

function shown(token: Token): Static<typeof TOKEN> {
  return {
    id: token.id,
    user_id: token.userId,
    name: token.name,
    created_at: timeText(token.createdAtMs),
    expires_at: timeTextOrNull(token.expiresAtMs),
    last_used_at: timeTextOrNull(token.lastUsedAtMs),
    revoked_at: timeTextOrNull(token.revokedAtMs),
  }
}

/** Who asks for a token. Refused: as `signIn`, `token_missing`, `field_missing`. */
async function ownerOf({
  berth,
  caller,
  body,
  address,
}: Call<unknown, unknown, Static<typeof CREATION>>): Promise<Actor | Refusal> {
  const { email, password } = body
  if (email === undefined && password === undefined) return caller ?? refusal('token_missing')
  if (email === undefined) return refusal('field_missing', { field: 'email' })
  if (password === undefined) return refusal('field_missing', { field: 'password' })
  return signIn(berth, email, password, address)
}

export const TOKEN_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/tokens',
    id: 'createToken',
    tag: 'tokens',
    summary: 'Sign in with e-mail and password, or make another token with one that you have',
    description:
      'The secret is in the answer and nowhere else: only its hash is kept. A change of the password ends all tokens of the user.',
    auth: 'optional',
    body: CREATION,
    secrets: ['password'],
    answers: { 201: { description: 'the token', schema: NEW_TOKEN, headers: ['Location'] } },
    refusals: [
      'email_or_password_wrong',
      'too_many_attempts',
      'too_many_tokens',
      'caller_unknown',
      'password_wrong',
    ],
    async handle(call) {
      const { berth, body, requestId } = call
      const lifetimeSeconds =
        body.expires_in === undefined
          ? LIFETIME_SECONDS
          : body.expires_in === null
            ? null
            : durationSeconds(body.expires_in)
      if (lifetimeSeconds === 0)
        return refusal('field_invalid', {
          field: 'expires_in',
          value: body.expires_in,
          allowed: 'longer than PT0S',
        })
      const actor = await ownerOf(call)
      if (isRefusal(actor)) return actor
      const { secret, hash } = berth.tokens.draw()
      const { name = 'token' } = body
      const command = {
        kind: 'createToken',
        actor,
        id: berth.newId('tok'),
        name,
        hash,
        lifetimeSeconds,
        requestId,
      } as const
      return perform(call, command, ({ token }): Outcome => {
        const body = { ...shown(token), token: secret, replayed: false }
        const headers = { location: `/api/v1/tokens/${token.id}`, 'cache-control': 'no-store' }
        return { ...said(201, body, headers), kept: { ...body, token: null, replayed: true } }
      })
    },
  }),
  route({
    method: 'GET',
    path: '/tokens',
    id: 'listTokens',
    tag: 'tokens',
    summary: 'Your tokens, or with `user` those of somebody else',
    auth: 'bearer',
    query: strict({
      user: Type.Optional({ ...id, description: 'a user by id; for admins' }),
      ...page,
      fields,
    }),
    answers: { 200: { description: 'a page of tokens', schema: pageOf(TOKEN) } },
    refusals: ['not_allowed'],
    async handle({ berth, caller, query }) {
      const userId = query.user ?? caller.userId
      const action = 'token.list.other'
      if (userId !== caller.userId && !may(caller.role, action))
        return refusal('not_allowed', { action, role: caller.role })
      const tokens = await berth.reads.tokensOf(userId)
      return pageOutcome(query, {
        keys: /^tok_[0-9a-z]+$/,
        read: async (after, rowsMax) => tokens.filter((token) => token.id > (after ?? '')).slice(0, rowsMax),
        key: (token) => token.id,
        show: shown,
        fields: FIELDS,
      })
    },
  }),
  route({
    method: 'GET',
    path: '/tokens/{id}',
    id: 'getToken',
    tag: 'tokens',
    summary: 'One token of yours',
    auth: 'bearer',
    params: strict({ id: tokenId }),
    query: strict({ fields }),
    answers: { 200: { description: 'the token', schema: TOKEN } },
    refusals: ['token_unknown'],
    async handle({ berth, caller, params, query }) {
      const token = await berth.reads.token(params.id)
      if (token === null || (token.userId !== caller.userId && !may(caller.role, 'token.list.other')))
        return refusal('token_unknown', { tokenId: params.id })
      return oneOutcome(query, FIELDS, shown(token))
    },
  }),
  route({
    method: 'DELETE',
    path: '/tokens/{id}',
    id: 'revokeToken',
    tag: 'tokens',
    summary: 'Revoke a token of yours; an admin: anybody’s',
    description: 'Once this is answered, nothing is changed with the token, on no server.',
    auth: 'bearer',
    params: strict({ id: tokenId }),
    answers: { 204: { description: 'it is revoked', schema: null } },
    refusals: ['token_unknown'],
    async handle({ berth, caller, params, requestId }) {
      const token = await berth.reads.token(params.id)
      if (token === null) return refusal('token_unknown', { tokenId: params.id })
      const { id: tokenId, userId } = token
      const done = await berth.submit({ kind: 'revokeToken', actor: caller, tokenId, userId, requestId })
      return isRefusal(done) ? done : DONE
    },
  }),
]
