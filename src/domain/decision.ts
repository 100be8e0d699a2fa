/**
 * The shape that every rule has: what it needs loaded, and a pure decision over what was loaded. Deciding never changes
 * anything by itself; it says what would change. Who calls is judged here, the same way for every rule.
 */

import type { Lease } from './lease.ts'
import { type Action, may } from './permission.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import type { Request } from './request.ts'
import { tokenHolds } from './token.ts'
import type { User } from './user.ts'
import type { Vm } from './vm.ts'
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

/** A wish that was judged as far as it can be alone. Whether it is granted is known when its batch is settled (settlement.ts). */
export interface Joiner {
  /** As it would wait; its place in the queue is given by the settlement. */
  readonly request: Request
  readonly user: User
  /** False: refused when it cannot be granted now. */
  readonly waits: boolean
  /** The call that asked, as in the log. */
  readonly callId: string
}

/** What became of a joiner: machines leased now, or a place in the queue, or a refusal. */
export type Joined =
  | { readonly leases: readonly { readonly vm: Vm; readonly lease: Lease }[]; readonly waiting: null }
  | { readonly leases: null; readonly waiting: Request }

/** Neither accepted nor refused yet. */
export class Joining<Reply> {
  readonly joiner: Joiner
  /** The command's answer, given what became of the joiner. */
  readonly conclude: (outcome: Joined | Refusal) => Reply | Refusal

  constructor(joiner: Joiner, conclude: (outcome: Joined | Refusal) => Reply | Refusal) {
    this.joiner = joiner
    this.conclude = conclude
  }
}

export interface Rule<Command, Reply> {
  /** Adds to `needs` every row that `decide` may look at. */
  needs(command: Command, needs: Needs): void
  decide(view: View, command: Command): Decision<Reply> | Joining<Reply>
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
