/**
 * Who calls with an API token. The secret is 256 random bits, so its plain SHA-256 finds it, and nothing can be guessed or timed. Who
 * stands behind a token is remembered in memory for a while, by the hash of its secret; it is forgotten the moment that user or token
 * changes, on every server, and each batch looks at the token's row again: once a revocation is answered, nothing is changed with the
 * token. Reads with it may go on for about a second on other servers, if their wake-up is lost.
 */
import { hash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { type Refusal, refusal } from '../domain/refusal.ts'
import { type Token, tokenHolds } from '../domain/token.ts'
import type { Reads } from '../store/port.ts'
import type { Caller } from './credentials.ts'
import type { Schedule } from './schedule.ts'

const REMEMBERED_MAX = 10_000
const REMEMBERED_MS_MAX = 15 * 60_000
const SECRET_BYTES = 32
/** Begins every secret, so that scanners for secrets that were published by mistake know one. */
const SECRET_PREFIX = 'berth_'
const SECRET = /^berth_[\w-]{43}$/
/** Begins the secrets that a calendar is read with, and that do nothing else. */
const CALENDAR_PREFIX = 'bcal_'
const CALENDAR_SECRET = /^bcal_[\w-]{43}$/

/** A caller with a token. */
export interface TokenCaller extends Caller {
  readonly tokenId: string
}

interface Remembered {
  readonly caller: TokenCaller
  readonly untilMs: number
}

export interface TokenSettings {
  readonly reads: Reads
  readonly schedule: Schedule
  readonly randomBytes: (n: number) => Buffer
  readonly rememberedMax?: number
}

export interface TokenUse {
  readonly tokenId: string
  readonly userId: number
  readonly atMs: number
}

export class Tokens {
  readonly #settings: TokenSettings
  readonly #remembered: LRUCache<string, Remembered>
  /** Since they were last taken, by token. */
  readonly #uses = new Map<string, TokenUse>()
  /** Grows when something is forgotten: a look-up that was under way then remembers nothing. */
  #forgettings = 0

  constructor(settings: TokenSettings) {
    this.#settings = settings
    this.#remembered = new LRUCache({ max: settings.rememberedMax ?? REMEMBERED_MAX })
  }

  /** A new secret, and the hash that is kept of it. */
  draw(): { secret: string; hash: string } {
    return this.#draw(SECRET_PREFIX)
  }

  /** The same for the link of a calendar: what its beginning says is part of what is hashed, so neither kind passes for the other. */
  drawForCalendar(): { secret: string; hash: string } {
    return this.#draw(CALENDAR_PREFIX)
  }

  /** Whose calendar a secret opens. Refused: `token_invalid`. */
  async calendarOwner(secret: string): Promise<number | Refusal> {
    if (!CALENDAR_SECRET.test(secret)) return refusal('token_invalid')
    const { reads, schedule } = this.#settings
    const token = await reads.tokenByHash(hashOf(secret))
    const user = token === null ? null : await reads.user(token.userId)
    const nowMs = schedule.now()
    if (token === null || user === null || !tokenHolds(token, user, nowMs)) return refusal('token_invalid')
    this.#used({ tokenId: token.id, userId: user.id }, nowMs)
    return user.id
  }

  #draw(prefix: string): { secret: string; hash: string } {
    const secret = prefix + this.#settings.randomBytes(SECRET_BYTES).toString('base64url')
    return { secret, hash: hashOf(secret) }
  }

  /** The caller behind a secret that was looked up lately; null: it has to be looked up. Costs a microsecond or two. */
  remembered(secret: string): TokenCaller | null {
    const key = hashOf(secret)
    const entry = this.#remembered.get(key)
    if (entry === undefined) return null
    const nowMs = this.#settings.schedule.now()
    if (entry.untilMs <= nowMs) {
      this.#remembered.delete(key)
      return null
    }
    this.#used(entry.caller, nowMs)
    return entry.caller
  }

  /** The caller behind a secret. Refused: `token_invalid`. */
  async lookUp(secret: string): Promise<TokenCaller | Refusal> {
    if (!SECRET.test(secret)) return refusal('token_invalid')
    const { reads, schedule } = this.#settings
    const forgettings = this.#forgettings
    const key = hashOf(secret)
    const token = await reads.tokenByHash(key)
    const user = token === null ? null : await reads.user(token.userId)
    const nowMs = schedule.now()
    if (token === null || user === null || !tokenHolds(token, user, nowMs)) return refusal('token_invalid')
    const { credentialVersion, role } = user
    const caller: TokenCaller = { userId: user.id, credentialVersion, role, tokenId: token.id }
    if (forgettings === this.#forgettings)
      this.#remembered.set(key, { caller, untilMs: rememberedUntilMs(token, nowMs) })
    this.#used(caller, nowMs)
    return caller
  }

  /** Forgets who stands behind the tokens of a user. */
  forget(userId: number): void {
    this.#forgettings++
    for (const [key, { caller }] of this.#remembered.entries())
      if (caller.userId === userId) this.#remembered.delete(key)
  }

  forgetAll(): void {
    this.#forgettings++
    this.#remembered.clear()
    this.#uses.clear()
  }

  /** When tokens were last used, as far as that was not taken before. */
  takeUses(): TokenUse[] {
    const uses = [...this.#uses.values()]
    this.#uses.clear()
    return uses
  }

  #used({ tokenId, userId }: Pick<TokenUse, 'tokenId' | 'userId'>, atMs: number): void {
    const use = this.#uses.get(tokenId)
    if (use === undefined) this.#uses.set(tokenId, { tokenId, userId, atMs })
    else (use as { atMs: number }).atMs = atMs
  }
}

function rememberedUntilMs(token: Token, nowMs: number): number {
  return Math.min(token.expiresAtMs ?? Number.POSITIVE_INFINITY, nowMs + REMEMBERED_MS_MAX)
}

function hashOf(secret: string): string {
  return hash('sha256', secret, 'hex')
}
