/**
 * Ids that are drawn, not counted: a prefix that tells what it names, the time in milliseconds and 80 random bits, in Crockford's
 * base32 (digits and small letters without i, l, o, u). So ids of one kind sort by when they were drawn, servers need not ask each
 * other, and nobody can guess one.
 */
const DIGITS = '0123456789abcdefghjkmnpqrstvwxyz'
const TIME_DIGITS = 10
const RANDOM_BYTES = 10

export type NewId = (prefix: string) => string

export function idMaker(now: () => number, randomBytes: (n: number) => Buffer): NewId {
  return (prefix) => `${prefix}_${timeText(now())}${randomText(randomBytes(RANDOM_BYTES))}`
}

function timeText(ms: number): string {
  let rest = Math.max(0, Math.floor(ms))
  let text = ''
  for (let i = 0; i < TIME_DIGITS; i++) {
    text = `${DIGITS[rest % 32]}${text}`
    rest = Math.floor(rest / 32)
  }
  return text
}

/** Five bits a digit. */
function randomText(bytes: Buffer): string {
  let text = ''
  let bits = 0
  let held = 0
  for (const byte of bytes) {
    held = (held << 8) | byte
    bits += 8
    while (bits >= 5) {
      bits -= 5
      text += DIGITS[(held >> bits) & 31]
    }
    held &= (1 << bits) - 1
  }
  return text
}
