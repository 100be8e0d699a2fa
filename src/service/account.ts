/** Making, changing and deleting users: passwords are hashed before the batch, and a deletion waits for its machines. */
import { timingSafeEqual } from 'node:crypto'
import { isRefusal, type Refusal, refusal } from '../domain/refusal.ts'
import type { Role, User } from '../domain/user.ts'
import type { Berth } from './berth.ts'
import type { Caller } from './credentials.ts'
import { waitUntil } from './feed.ts'
import { HasherOverloaded } from './password.ts'

/** How long an answer waits for work that goes on by itself. */
export const ANSWER_WAIT_MS_MAX = 30_000

export interface NewAccount {
  readonly name: string
  readonly email: string
  readonly password: string
  readonly role: Role
}

/** Whether `code` lets its bearer become the first user. */
export function setupCodeFits(berth: Berth, code: string | null): boolean {
  const setupCode = berth.settings.setupCode()
  if (setupCode === null) return true
  if (code === null) return false
  const given = Buffer.from(code)
  const expected = Buffer.from(setupCode)
  return given.length === expected.length && timingSafeEqual(given, expected)
}

/** Refused as the rule `createUser` says, and `overloaded`. */
export async function createAccount(
  berth: Berth,
  caller: Caller | null,
  account: NewAccount,
  mayBeFirst: boolean,
  requestId: string,
): Promise<{ user: User } | Refusal> {
  const passwordHash = await passwordHashOf(berth, account.password)
  if (typeof passwordHash !== 'string') return passwordHash
  const { name, email, role } = account
  return berth.submit({
    kind: 'createUser',
    actor: caller,
    mayBeFirst,
    name,
    email,
    role,
    passwordHash,
    requestId,
  })
}

export interface AccountChange {
  readonly userId: number
  readonly name: string | null
  readonly email: string | null
  readonly password: string | null
}

/** Refused as the rule `changeUser` says, and `overloaded`. */
export async function changeAccount(
  berth: Berth,
  caller: Caller,
  change: AccountChange,
  requestId: string,
): Promise<{ user: User } | Refusal> {
  const passwordHash = change.password === null ? null : await passwordHashOf(berth, change.password)
  if (passwordHash !== null && typeof passwordHash !== 'string') return passwordHash
  const { userId, name, email } = change
  return berth.submit({ kind: 'changeUser', actor: caller, userId, name, email, passwordHash, requestId })
}

/** Refused as the rule `deleteUser` says. Answers once the user's machines are back, or after 30 s; taking them back goes on. */
export async function deleteAccount(
  berth: Berth,
  caller: Caller,
  userId: number,
  requestId: string,
): Promise<null | Refusal> {
  const answer = await berth.submit({ kind: 'deleteUser', actor: caller, userId, requestId })
  if (isRefusal(answer)) return answer
  await waitUntil(berth.feed, berth.schedule, ANSWER_WAIT_MS_MAX, async () => {
    const user = await berth.reads.user(userId)
    return user === null || user.state === 'gone'
  })
  return null
}

/** Refused: `overloaded`. */
export async function passwordHashOf(berth: Berth, password: string): Promise<string | Refusal> {
  try {
    return await berth.hasher.hash(password)
  } catch (error) {
    if (error instanceof HasherOverloaded) return refusal('overloaded')
    throw error
  }
}
