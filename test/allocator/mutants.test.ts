/** The allocator's properties find mistakes: the sources are run with one in them, and a property has to fail. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { describe, it } from 'node:test'
import { MUTANTS } from './mutants.ts'
import { PROPERTIES } from './properties.ts'

/** Checks one property on the sources with a mistake in them. */
function checkWith(
  mutant: string,
  property: string,
  runs: number,
): Promise<{ status: unknown; said: string }> {
  const args = ['--import', './test/allocator/mutate.ts', 'test/allocator/check.ts', property, String(runs)]
  const env = { ...process.env, BERTH_MUTANT: mutant }
  return new Promise((resolve) =>
    execFile(process.execPath, args, { env }, (error, out, err) =>
      resolve({ status: error === null ? 0 : error.code, said: out + err }),
    ),
  )
}

describe('the properties of the allocator find that', { concurrency: 2 }, () => {
  for (const [name, { what, breaks, runs }] of Object.entries(MUTANTS))
    it(`${what} (${name})`, async () => {
      const { status, said } = await checkWith(name, breaks, runs)
      assert.equal(status, 1, said)
      assert.match(said, new RegExp(`^BROKEN PROPERTY ${breaks}:`, 'm'))
    })

  it('each of them, at least one', () => {
    const caught = new Set(Object.values(MUTANTS).map(({ breaks }) => breaks))
    assert.deepEqual(
      Object.keys(PROPERTIES).filter((name) => !caught.has(name)),
      [],
    )
  })
})
