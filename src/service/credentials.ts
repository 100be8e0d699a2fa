/**
 * Who a caller is. The original API sends user id and password with every call, and checking a password takes tens of
 * milliseconds by design; so a pair that was right is remembered for a while, in memory only, as a keyed hash. What is
 * remembered is forgotten the moment that user changes, and each batch checks the credential's version again.
 */
import { hash, timingSafeEqual } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Actor } from '../domain/decision.ts'
import { type Refusal, refusal } from '../domain/refusal.ts'
import type { Role } from '../domain/user.ts'
import type { Reads } from '../store/port.ts'
import type { Attempts } from './attempts.ts'
import { HasherOverloaded, type PasswordHasher } from './password.ts'
import type { Schedule } from './schedule.ts'

const REMEMBERED_MAX = 10_000
const REMEMBERED_MS_MAX = 15 * 60_000

/** A caller whose password was right. */
export interface Caller extends Actor {
  readonly role: Role
}

interface Remembered {
  readonly caller: Caller
  readonly mac: Buffer
  readonly untilMs: number
}

export interface CredentialSettings {
  readonly reads: Reads
  readonly hasher: PasswordHasher
  readonly attempts: Attempts
  readonly schedule: Schedule
  /** 32 random bytes, different for each process. */
  readonly key: Buffer
  /** How many callers are remembered; room for all of them is made at the start. */
  readonly rememberedMax?: number
}

export class Credentials {
  readonly #settings: CredentialSettings
  readonly #key: string
  readonly #remembered: LRUCache<number, Remembered>
  /** Checks under way: a client that opens many connections at once has its password checked once. */
  readonly #checking = new Map<string, Promise<Caller | Refusal>>()
  /** Grows when a user is forgotten: a check that was under way then remembers nothing. */
  #forgettings = 0

  constructor(settings: CredentialSettings) {
    this.#remembered = new LRUCache({ max: settings.rememberedMax ?? REMEMBERED_MAX })
    this.#settings = settings
    this.#key = settings.key.toString('base64')
  }

  /** The caller, when this pair was right lately; null: it has to be verified. Costs microseconds. */
  remembered(userId: number, password: string): Caller | null {
    const entry = this.#remembered.get(userId)
    if (entry === undefined) return null
    if (entry.untilMs <= this.#settings.schedule.now()) {
      this.#remembered.delete(userId)
      return null
    }
    return timingSafeEqual(entry.mac, this.#mac(password)) ? entry.caller : null
  }

  /**
   * The caller behind user id and password. Refused: `caller_unknown`, `password_wrong` (after the same time),
   * `too_many_attempts`, `overloaded`.
   */
  verify(userId: number, password: string, address: string): Promise<Caller | Refusal> {
    // A check that began before somebody changed says nothing about attempts after it.
    const key = `${this.#forgettings} ${userId} ${address} ${this.#mac(password).toString('base64')}`
    const known = this.#checking.get(key)
    if (known !== undefined) return known
    const checking = this.#verify(userId, password, address).finally(() => this.#checking.delete(key))
    this.#checking.set(key, checking)
    return checking
  }

  async #verify(userId: number, password: string, address: string): Promise<Caller | Refusal> {
    const { reads, attempts, schedule } = this.#settings
    const waitMs = attempts.begin(userId, address)
    if (waitMs === null) return refusal('too_many_attempts')
    if (waitMs > 0) await schedule.sleep(waitMs)
    const forgettings = this.#forgettings
    const user = await reads.user(userId)
    const known = user !== null && user.state === 'active'
    const right = await this.#check(password, known ? user.passwordHash : null)
    if (typeof right === 'object') return right
    attempts.end(userId, address, right)
    if (!known) return refusal('caller_unknown', { userId })
    if (!right) return refusal('password_wrong')
    const caller: Caller = { userId, credentialVersion: user.credentialVersion, role: user.role }
    if (forgettings === this.#forgettings)
      this.#remembered.set(userId, {
        caller,
        mac: this.#mac(password),
        untilMs: schedule.now() + REMEMBERED_MS_MAX,
      })
    return caller
  }

  /** Forgets what is remembered of a user. */
  forget(userId: number): void {
    this.#forgettings++
    this.#remembered.delete(userId)
  }

  forgetAll(): void {
    this.#forgettings++
    this.#remembered.clear()
  }

  async #check(password: string, phc: string | null): Promise<boolean | Refusal> {
    const { hasher } = this.#settings
    try {
      return phc === null ? await hasher.verifyNobody(password) : await hasher.verify(password, phc)
    } catch (error) {
      if (error instanceof HasherOverloaded) return refusal('overloaded')
      throw error
    }
  }

  // SHA-512/256 cannot be extended from its result, so with the key in front it is a keyed hash; one call to it costs a
  // microsecond where node's HMAC objects cost twenty.
  #mac(password: string): Buffer {
    return hash('sha512-256', this.#key + password, 'buffer')
  }
}
