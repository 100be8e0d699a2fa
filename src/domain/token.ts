/**
 * What an API token is: a secret that stands for one user without their password. Only its hash is kept. It holds until it is
 * revoked or over, or until that user's password changes or they are deleted.
 */
import type { User } from './user.ts'

export interface Token {
  readonly id: string
  readonly userId: number
  /** What its owner calls it. */
  readonly name: string
  /** SHA-256 of the secret, in hexadecimal. The secret has 256 random bits, so nothing slower is needed. */
  readonly hash: string
  /** The version of the owner's credential when it was made: another one voids it. */
  readonly credentialVersion: number
  readonly createdAtMs: number
  /** null: without end. */
  readonly expiresAtMs: number | null
  /** To the minute or so. */
  readonly lastUsedAtMs: number | null
  readonly revokedAtMs: number | null
  /** What it is limited to; null: it may do what its owner may. */
  readonly scopes: string | null
}

/** Tokens that one user may have that still hold. */
export const TOKENS_MAX = 100

/** Whether `token` still stands for `user`. */
export function tokenHolds(token: Token, user: User | null | undefined, nowMs: number): boolean {
  return (
    user?.state === 'active' &&
    token.userId === user.id &&
    token.credentialVersion === user.credentialVersion &&
    token.revokedAtMs === null &&
    (token.expiresAtMs === null || token.expiresAtMs > nowMs)
  )
}
