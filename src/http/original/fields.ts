/**
 * How the original API reads what its clients send: digit strings count as numbers, with white space around them; only known
 * keys count.
 */
import type { FastifyRequest } from 'fastify'
import { type Refusal, refusal } from '../../domain/refusal.ts'

export type Body = Readonly<Record<string, unknown>>

export interface Auth {
  readonly userId: number
  readonly password: string
}

const DIGITS = /^\s*\d{1,15}\s*$/

/** A whole number from 0 up, given as a number or as digits; null for anything else. */
export function wholeNumber(value: unknown): number | null {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? value : null
  return typeof value === 'string' && DIGITS.test(value) ? Number(value) : null
}

/** The request's body, when it is a JSON object. Refused: `body_invalid`. */
export function bodyOf(request: FastifyRequest): Body | Refusal {
  const { body } = request
  if (body === undefined) return refusal('body_invalid', { reason: 'it is missing' })
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    const is = body === null ? 'null' : Array.isArray(body) ? 'a list' : `a ${typeof body}`
    return refusal('body_invalid', { reason: `it is ${is}` })
  }
  return body as Body
}

/** The credentials in a body; null when they are missing, or of a wrong type. */
export function authOf(body: Body): Auth | null {
  const { auth } = body
  if (typeof auth !== 'object' || auth === null) return null
  const { userid, password } = auth as Record<string, unknown>
  if (typeof password !== 'string') return null
  // A number that is no user's id (negative, say) is a caller that nobody knows, rather than a missing one.
  if (typeof userid === 'number') return Number.isInteger(userid) ? { userId: userid, password } : null
  const userId = typeof userid === 'string' ? wholeNumber(userid) : null
  return userId === null ? null : { userId, password }
}
