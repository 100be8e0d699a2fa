/**
 * How passwords are stored and compared: argon2id with a salt for each, written as a PHC string so that the cost can be
 * raised later. The work runs in the thread pool, and only so many at once: each takes some 20 MB and a core.
 */
import { argon2, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import pLimit from 'p-limit'

/** OWASP's first choice for argon2id (Password Storage Cheat Sheet): 19 MiB, 2 passes, 1 lane. */
const COST = { memory: 19_456, passes: 2, parallelism: 1 } as const
const SALT_BYTES = 16
const TAG_BYTES = 32

const derive = promisify(argon2)

export interface PasswordHasher {
  /** The PHC string for a new password. Rejects with `HasherOverloaded`. */
  hash(password: string): Promise<string>
  /** Whether `password` is the one that `phc` was made from. Rejects with `HasherOverloaded`. */
  verify(password: string, phc: string): Promise<boolean>
  /** Takes as long as a `verify` that says no: for a user that does not exist. */
  verifyNobody(password: string): Promise<false>
}

/** Too many hashes are waiting. */
export class HasherOverloaded extends Error {}

export interface HasherSettings {
  readonly parallelMax: number
  readonly waitingMax: number
  readonly randomBytes: (n: number) => Buffer
}

export function passwordHasher({ parallelMax, waitingMax, randomBytes }: HasherSettings): PasswordHasher {
  const limit = pLimit(parallelMax)

  function run(
    password: string,
    nonce: Buffer,
    cost: typeof COST | Cost,
    tagLength: number,
  ): Promise<Buffer> {
    if (limit.pendingCount >= waitingMax) return Promise.reject(new HasherOverloaded())
    return limit(() => derive('argon2id', { message: password, nonce, ...cost, tagLength }))
  }

  const nobody = randomBytes(SALT_BYTES)
  return {
    async hash(password) {
      const salt = randomBytes(SALT_BYTES)
      const tag = await run(password, salt, COST, TAG_BYTES)
      const { memory, passes, parallelism } = COST
      return `$argon2id$v=19$m=${memory},t=${passes},p=${parallelism}$${base64(salt)}$${base64(tag)}`
    },
    async verify(password, phc) {
      const { cost, salt, tag } = parse(phc)
      return timingSafeEqual(await run(password, salt, cost, tag.length), tag)
    },
    async verifyNobody(password) {
      await run(password, nobody, COST, TAG_BYTES)
      return false
    },
  }
}

interface Cost {
  readonly memory: number
  readonly passes: number
  readonly parallelism: number
}

function parse(phc: string): { cost: Cost; salt: Buffer; tag: Buffer } {
  const match = /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/.exec(phc)
  if (match === null) throw new Error('a stored password hash is not an argon2id PHC string')
  const [, memory, passes, parallelism, salt, tag] = match as unknown as [string, ...string[]]
  return {
    cost: { memory: Number(memory), passes: Number(passes), parallelism: Number(parallelism) },
    salt: Buffer.from(salt ?? '', 'base64'),
    tag: Buffer.from(tag ?? '', 'base64'),
  }
}

function base64(bytes: Buffer): string {
  return bytes.toString('base64').replaceAll('=', '')
}
