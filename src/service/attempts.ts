/**
 * How wrong passwords are slowed down without locking anybody out. Failures are counted for each address and for each user
 * and fade with time. Whoever calls from an address that has failed often waits in that address's line, and is refused when
 * the line is too long. A user that is being guessed at from many addresses makes each guess wait a little; nobody has to
 * queue behind the guessers. A pair of user and address that was right before has a count of its own, so what strangers do
 * touches it in no way. (Idea of the trusted pair: OWASP, "Slow down online guessing attacks with device cookies".)
 */
import { LRUCache } from 'lru-cache'

const FREE_FAILURES = 5
const DELAY_MS_MIN = 100
const ADDRESS_DELAY_MS_MAX = 5_000
const USER_DELAY_MS_MAX = 1_000
const LINE_MS_MAX = 10_000
const HALF_LIFE_MS = 60_000
const KEYS_MAX = 50_000

interface Count {
  failures: number
  atMs: number
  /** When the next attempt in this line may begin. */
  nextMs: number
}

export class Attempts {
  readonly #now: () => number
  readonly #counts: LRUCache<string, Count>
  readonly #trusted: LRUCache<string, true>

  constructor(now: () => number, keysMax = KEYS_MAX) {
    this.#now = now
    this.#counts = new LRUCache({ max: keysMax })
    this.#trusted = new LRUCache({ max: keysMax })
  }

  /** How long an attempt has to wait before the password is looked at, in milliseconds; null: refused. */
  begin(userId: number, address: string): number | null {
    const lineMs = this.#joinLine(this.#lineOf(userId, address))
    if (lineMs === null) return null
    if (this.#trusted.has(pair(userId, address))) return lineMs
    return Math.max(lineMs, delayMs(this.#failures(`user ${userId}`), USER_DELAY_MS_MAX))
  }

  /** Called when the password of an attempt was right or wrong. */
  end(userId: number, address: string, right: boolean): void {
    if (right) {
      this.#trusted.set(pair(userId, address), true)
      return
    }
    this.#fail(this.#lineOf(userId, address))
    this.#fail(`user ${userId}`)
  }

  #lineOf(userId: number, address: string): string {
    const key = pair(userId, address)
    return this.#trusted.has(key) ? key : `address ${networkOf(address)}`
  }

  #joinLine(key: string): number | null {
    const count = this.#counts.get(key)
    if (count === undefined) return 0
    const now = this.#now()
    const begins = Math.max(now, count.nextMs)
    if (begins - now > LINE_MS_MAX) return null
    count.nextMs = begins + delayMs(this.#failures(key), ADDRESS_DELAY_MS_MAX)
    return begins - now
  }

  #fail(key: string): void {
    const now = this.#now()
    const failures = this.#failures(key) + 1
    const delay = delayMs(failures, ADDRESS_DELAY_MS_MAX)
    const nextMs = Math.max(this.#counts.get(key)?.nextMs ?? 0, now + delay)
    this.#counts.set(key, { failures, atMs: now, nextMs })
  }

  #failures(key: string): number {
    const count = this.#counts.get(key)
    if (count === undefined) return 0
    return count.failures * 2 ** (-(this.#now() - count.atMs) / HALF_LIFE_MS)
  }
}

function delayMs(failures: number, max: number): number {
  return failures < FREE_FAILURES ? 0 : Math.min(max, DELAY_MS_MIN * 2 ** (failures - FREE_FAILURES))
}

function pair(userId: number, address: string): string {
  return `${userId} ${networkOf(address)}`
}

/** Whoever has one IPv6 address usually has its whole /64; an IPv4 address stands for itself, also when mapped. */
export function networkOf(address: string): string {
  if (!address.includes(':')) return address
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)
  if (mapped !== null) return mapped[1] ?? address
  const [head = '', tail] = (address.split('%', 1)[0] ?? '').split('::')
  const groups = (part: string) => (part === '' ? [] : part.split(':'))
  const before = groups(head)
  const after = groups(tail ?? '')
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - before.length - after.length)
  const all = [...before, ...Array<string>(zeros).fill('0'), ...after]
  return all
    .slice(0, 4)
    .map((group) => group.toLowerCase().replace(/^0+(?=.)/, ''))
    .join(':')
}
