/**
 * Deliberate mistakes, each of which a test has to find: a test that has never failed proves nothing. A mistake is an edit of a source
 * text that is made while the file is loaded (plant.ts), in a process of its own; the product itself has no switch for any of it.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'

export interface Plant {
  readonly what: string
  /** From the project's folder. */
  readonly file: string
  /** Has to be in the file exactly once. */
  readonly from: string
  readonly to: string
}

/** True in a process that looks for a mistake: it is to be found, not to be shown. */
export const IS_PLANTED = process.env.BERTH_PLANT !== undefined

/** Fails unless the test called `name` in `testFile` fails with the mistake, and passes its checks otherwise. */
export async function assertFound(plant: Plant, testFile: string, name: string): Promise<void> {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const child = spawn(
    process.execPath,
    [
      '--import',
      './test/support/plant.ts',
      '--test-reporter',
      'tap',
      '--test-name-pattern',
      pattern(name),
      testFile,
    ],
    { env: { ...env, BERTH_PLANT: JSON.stringify(plant) }, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr), ended])
  assert.ok(!err.includes('NOT PLANTED'), err)
  const failed = [...out.matchAll(/^ *not ok \d+ - (.*)$/gm)].map(([, title]) => title)
  assert.ok(failed.includes(name.replaceAll('#', '\\#')), `'${name}' did not fail: ${out}${err}`)
}

function pattern(name: string): string {
  return name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}
