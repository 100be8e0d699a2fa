/**
 * Makes tests with many users fast: each password is hashed, and compared with each hash, once a server. The answers are
 * those of the real hasher. Not for tests of hashing itself: equal passwords get equal hashes.
 */
import type { PasswordHasher } from '../../src/service/password.ts'

export function rememberHashes(hasher: PasswordHasher): void {
  const { hash, verify, verifyNobody } = hasher
  const known = new Map<string, Promise<unknown>>()
  function once<T>(key: string, make: () => Promise<T>): Promise<T> {
    const made = (known.get(key) as Promise<T> | undefined) ?? make()
    known.set(key, made)
    return made
  }
  hasher.hash = (password) => once(`hash ${password}`, () => hash(password))
  hasher.verify = (password, phc) => once(`verify ${phc} ${password}`, () => verify(password, phc))
  hasher.verifyNobody = (password) => once(`nobody ${password}`, () => verifyNobody(password))
}
