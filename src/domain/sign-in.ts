/**
 * How API tokens come and go. Whoever proved who they are (with their password, or with another token) gets one; its owner or
 * an admin revokes it. A user has a bounded number of tokens that hold; those that do not any more go when the next is made.
 */
import { type Actor, knownCaller, type Rule } from './decision.ts'
import { may } from './permission.ts'
import { isRefusal, refusal } from './refusal.ts'
import { TOKENS_MAX, type Token, tokenHolds } from './token.ts'

export interface CreateToken {
  readonly kind: 'createToken'
  readonly actor: Actor
  readonly id: string
  readonly name: string
  readonly hash: string
  /** null: without end. */
  readonly lifetimeSeconds: number | null
  readonly requestId: string
}

/** Refused: `too_many_tokens`; callers as in decision.ts. */
export const createToken: Rule<CreateToken, { token: Token }> = {
  needs({ actor }, needs) {
    needs.userIds.add(actor.userId)
    // Held alone, so that two servers count its tokens one after the other.
    needs.changedUserIds.add(actor.userId)
    needs.tokensOf.add(actor.userId)
  },

  decide(view, command) {
    const caller = knownCaller(view, command.actor)
    if (isRefusal(caller)) return caller
    const tokens = view.tokensOf(caller.id)
    const gone = tokens.filter((token) => !tokenHolds(token, caller, view.nowMs))
    if (tokens.length - gone.length >= TOKENS_MAX)
      return refusal('too_many_tokens', { tokensMax: TOKENS_MAX })
    const { id, name, hash, lifetimeSeconds, requestId } = command
    const token: Token = {
      id,
      userId: caller.id,
      name,
      hash,
      credentialVersion: caller.credentialVersion,
      createdAtMs: view.nowMs,
      expiresAtMs: lifetimeSeconds === null ? null : view.nowMs + lifetimeSeconds * 1_000,
      lastUsedAtMs: null,
      revokedAtMs: null,
      scopes: null,
    }
    return {
      changes: {
        tokens: [token],
        goneTokens: gone,
        events: [
          {
            type: 'token.created',
            actorId: caller.id,
            userId: caller.id,
            requestId,
            data: { token: id, name },
          },
        ],
      },
      reply: { token },
    }
  },
}

export interface RevokeToken {
  readonly kind: 'revokeToken'
  readonly actor: Actor
  readonly tokenId: string
  /** Its owner. */
  readonly userId: number
  readonly requestId: string
}

/** Refused: `token_unknown` (also one that is not the caller's to revoke); callers as in decision.ts. */
export const revokeToken: Rule<RevokeToken, { token: Token }> = {
  needs({ actor, tokenId, userId }, needs) {
    needs.userIds.add(actor.userId)
    // Whoever acts with the token holds its owner's row too: nothing is done with it once this is committed.
    needs.userIds.add(userId)
    needs.changedUserIds.add(userId)
    needs.tokenIds.add(tokenId)
  },

  decide(view, command) {
    const caller = knownCaller(view, command.actor)
    if (isRefusal(caller)) return caller
    const token = view.token(command.tokenId)
    const action = command.userId === caller.id ? 'token.revoke.self' : 'token.revoke.other'
    if (token === undefined || token.userId !== command.userId || !may(caller.role, action))
      return refusal('token_unknown', { tokenId: command.tokenId })
    if (token.revokedAtMs !== null) return { changes: { events: [] }, reply: { token } }
    const revoked = { ...token, revokedAtMs: view.nowMs }
    return {
      changes: {
        tokens: [revoked],
        events: [
          {
            type: 'token.revoked',
            actorId: caller.id,
            userId: token.userId,
            requestId: command.requestId,
            data: { token: token.id, name: token.name },
          },
        ],
      },
      reply: { token: revoked },
    }
  },
}

export interface NoteTokenUse {
  readonly kind: 'noteTokenUse'
  readonly uses: readonly { readonly tokenId: string; readonly userId: number; readonly atMs: number }[]
}

/** Notes when tokens were last used: their owners look at it. Never refused. */
export const noteTokenUse: Rule<NoteTokenUse, { noted: number }> = {
  needs({ uses }, needs) {
    for (const { tokenId, userId } of uses) {
      needs.tokenIds.add(tokenId)
      needs.userIds.add(userId)
      needs.changedUserIds.add(userId)
    }
  },

  decide(view, { uses }) {
    const used = uses.flatMap(({ tokenId, userId, atMs }): Token[] => {
      const token = view.token(tokenId)
      if (token === undefined || token.userId !== userId || atMs <= (token.lastUsedAtMs ?? 0)) return []
      return [{ ...token, lastUsedAtMs: atMs }]
    })
    return { changes: { tokens: used, events: [] }, reply: { noted: used.length } }
  },
}
