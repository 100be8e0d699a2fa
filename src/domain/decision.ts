/**
 * The shape that every rule has: what it needs loaded, and a pure decision over what was loaded. Deciding never changes
 * anything by itself; it says what would change. Who calls is judged here, the same way for every rule.
 */
import { type Action, may } from './permission.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import { tokenHolds } from './token.ts'
import type { User } from './user.ts'
import type { Changes, Needs, View } from './working-set.ts'

/** A caller whose password or token was verified before the batch: the version tells whether it still holds. */
export interface Actor {
  readonly userId: number
  readonly credentialVersion: number
  /** The API token that they call with; its row is looked at in each batch, so that a revoked one changes nothing. */
  readonly tokenId?: string
}

/** Accepted: what changes, and what the caller is told. Refused: why. */
export type Decision<Reply> = { readonly changes: Changes; readonly reply: Reply } | Refusal

export interface Rule<Command, Reply> {
  /** Adds to `needs` every row that `decide` may look at. */
  needs(command: Command, needs: Needs): void
  decide(view: View, command: Command): Decision<Reply>
}

/**
 * The active user behind `actor`, when their role may do `action`. Refused: `caller_unknown` (deleted meanwhile),
 * `password_wrong` (changed since it was verified), `token_invalid`, `not_allowed`.
 */
export function authorized(view: View, actor: Actor, action: Action): User | Refusal {
  const user = knownCaller(view, actor)
  if (isRefusal(user)) return user
  if (!may(user.role, action)) return refusal('not_allowed', { action, role: user.role })
  return user
}

/** The active user behind `actor`, whatever they may do. Refused: `caller_unknown`, `password_wrong`; with a token: `token_invalid`. */
export function knownCaller(view: View, actor: Actor): User | Refusal {
  const user = view.user(actor.userId)
  if (actor.tokenId !== undefined) {
    const token = view.token(actor.tokenId)
    if (user === undefined || token === undefined || !tokenHolds(token, user, view.nowMs))
      return refusal('token_invalid')
    return user
  }
  if (user === undefined || user.state !== 'active')
    return refusal('caller_unknown', { userId: actor.userId })
  if (user.credentialVersion !== actor.credentialVersion) return refusal('password_wrong')
  return user
}
