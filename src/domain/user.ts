/**
 * What a user is, and which names, e-mails and passwords are acceptable. A deleted user stays as a row (ids are never used
 * again, and leases and events point at them): `leaving` while their machines are being taken back, then `gone`.
 */
import type { Quota } from './quota.ts'
import { type Refusal, refusal } from './refusal.ts'
import { isStorableText } from './text.ts'

export type Role = 'admin' | 'user'

export interface User {
  readonly id: number
  readonly name: string
  readonly email: string
  readonly role: Role
  /** PHC string of argon2id. Never leaves the store, the domain and the credential check. */
  readonly passwordHash: string
  /** Grows with each change of the password: what was verified before is void. */
  readonly credentialVersion: number
  /** What they may have at most, over all pools; null: no limits of their own. */
  readonly quota: Quota | null
  readonly state: 'active' | 'leaving' | 'gone'
  readonly createdAtMs: number
}

const LENGTHS_MAX = { name: 200, email: 320, password: 1024 } as const

export type UserTextField = keyof typeof LENGTHS_MAX

/** Listed under these words, the original API shows machines by state; as an e-mail they would name no one. */
const RESERVED_EMAILS = ['idle', 'maintenance']

/** Why `value` cannot be a user's `field`, or null when it can. Passwords are not quoted in the refusal. */
export function userTextRefusal(field: UserTextField, value: unknown): Refusal | null {
  const shown = field === 'password' ? null : value
  if (value === undefined || value === null) return refusal('field_missing', { field })
  if (typeof value !== 'string') return refusal('field_invalid', { field, value: shown, allowed: 'a text' })
  const lengthMax = LENGTHS_MAX[field]
  if (value.trim() === '' || value.length > lengthMax)
    return refusal('field_invalid', {
      field,
      value: shown,
      allowed: `a text of 1 to ${lengthMax} characters`,
    })
  if (!isStorableText(value))
    return refusal('field_invalid', {
      field,
      value: shown,
      allowed: 'well-formed Unicode without control characters',
    })
  if (field === 'email' && RESERVED_EMAILS.includes(value.trim().toLowerCase()))
    return refusal('field_invalid', {
      field,
      value,
      allowed: `an e-mail other than ${RESERVED_EMAILS.join(', ')}`,
    })
  return null
}
