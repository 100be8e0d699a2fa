/** Signing in with e-mail and password, as whoever gets a token by that does. */
import { isRefusal, type Refusal, refusal } from '../domain/refusal.ts'
import type { Berth } from './berth.ts'
import type { Caller } from './credentials.ts'

/** An id that no user has: an e-mail that nobody has is checked as long, and counted against its address, as a wrong password is. */
const NOBODY = 0

/** Refused: `email_or_password_wrong` (which of them is not told), `too_many_attempts`, `overloaded`. */
export async function signIn(
  berth: Berth,
  email: string,
  password: string,
  address: string,
): Promise<Caller | Refusal> {
  const { reads, credentials } = berth
  const userId = (await reads.userByEmail(email))?.id ?? NOBODY
  const caller =
    credentials.remembered(userId, password) ?? (await credentials.verify(userId, password, address))
  if (isRefusal(caller) && (caller.code === 'caller_unknown' || caller.code === 'password_wrong'))
    return refusal('email_or_password_wrong')
  return caller
}
