/**
 * A short text that tells one state of a thing from any other that it has been in: what a caller presents to change only what they have
 * seen. 53 bits of a mixing hash (cyrb53) over its JSON; not a secret, and nothing is found by it.
 */
export function etagOf(thing: unknown): string {
  const text = JSON.stringify(thing)
  let a = 0xdeadbeef
  let b = 0x41c6ce57
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    a = Math.imul(a ^ unit, 2_654_435_761)
    b = Math.imul(b ^ unit, 1_597_334_677)
  }
  a = Math.imul(a ^ (a >>> 16), 2_246_822_507) ^ Math.imul(b ^ (b >>> 13), 3_266_489_909)
  b = Math.imul(b ^ (b >>> 16), 2_246_822_507) ^ Math.imul(a ^ (a >>> 13), 3_266_489_909)
  return `"${(4_294_967_296 * (2_097_151 & b) + (a >>> 0)).toString(36)}"`
}

/** Whether the present state is one that the caller has seen; `seen` null: any will do. */
export function etagFits(seen: readonly string[] | null, present: string): boolean {
  return seen === null || seen.includes(present)
}
