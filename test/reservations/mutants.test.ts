/** The tests of reservations and of the timeline find mistakes: each is run on sources with one in them, and has to fail. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { describe, it } from 'node:test'
import { MUTANTS } from './mutants.ts'

/** Runs one test on the sources with a mistake in them; the names of the tests that failed, and all that was said. */
function testWith(mutant: string, file: string, name: string): Promise<{ failed: unknown[]; said: string }> {
  const pattern = name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  const args = [
    '--import',
    './test/reservations/mutate.ts',
    '--test-reporter',
    'tap',
    '--test-name-pattern',
    pattern,
  ]
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  return new Promise((resolve) =>
    execFile(
      process.execPath,
      [...args, file],
      { env: { ...env, BERTH_MUTANT: mutant } },
      (_error, out, err) => {
        const failed = [...out.matchAll(/^ *not ok \d+ - (.*)$/gm)].map(([, title]) => title)
        resolve({ failed, said: out + err })
      },
    ),
  )
}

describe('the tests of reservations find that', { concurrency: 2 }, () => {
  for (const [mutant, { what, found }] of Object.entries(MUTANTS))
    it(`${what} (${mutant})`, async () => {
      const { failed, said } = await testWith(mutant, ...found)
      assert.ok(failed.includes(found[1]), said)
      assert.ok(!said.includes(`mutant ${mutant}:`), said)
    })
})
