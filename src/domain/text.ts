/**
 * Which text every store keeps as it is: well-formed Unicode without control characters (PostgreSQL refuses NUL and lone
 * surrogates). What people send is judged by it; what comes from providers is brought to it.
 */

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this looks for
const CONTROL = /[\u0000-\u001f\u007f]/

/** True for text that every store keeps as it is. */
export function isStorableText(text: string): boolean {
  return text.isWellFormed() && !CONTROL.test(text)
}

const LENGTH_MAX = 2_000

/** `text` as every store keeps it: lines joined, what cannot be kept replaced, cut to 2,000 characters. */
export function storableText(text: string): string {
  const joined = text
    .slice(0, LENGTH_MAX)
    .toWellFormed()
    .replace(/\s*[\r\n]+\s*/g, ' ⏎ ')
    .replace(/\t/g, ' ')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this looks for
  return joined.replace(/[\u0000-\u001f\u007f]/g, '\ufffd')
}
