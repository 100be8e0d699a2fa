/**
 * The simulation finds mistakes: the sources are run with one in them, and a promise has to break. These are the ones it finds
 * within some seconds; test/faults has them all.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { assertCaught, simulateMutant } from './mutant-run.ts'
import { MUTANTS } from './mutants.ts'

const HERE = [
  'no-generation-check',
  'two-holders',
  'answer-before-commit',
  'report-without-claim',
  'claimed-too-early',
  'delete-user-shared',
  'checkout-without-pool',
]

describe('the simulation finds that', () => {
  for (const name of HERE) it(`${MUTANTS[name]?.what} (${name})`, () => assertCaught(name))
})

describe('a broken promise', () => {
  it('is shown with its seed and the shortest schedule that was found, which breaks it again', async () => {
    const name = 'no-generation-check'
    const { status, said } = await simulateMutant(name, ['--seeds', '300', '--shrink-seconds', '4'])
    assert.equal(status, 1, said)
    assert.match(said, /^after \d+ schedules? \(seed \d+\):$/m)
    assert.match(said, /npm run simulate -- --seed \d+ --steps 400$/m)
    const [, record = '', steps = ''] =
      /npm run simulate -- --replay '([^']*)' --steps (\d+)$/m.exec(said) ?? []
    assert.ok(Number(steps) < 200, `${steps} steps are too many to read: ${said}`)
    const args = ['--replay', record, '--steps', steps, '--shrink-seconds', '0']
    const again = await simulateMutant(name, args)
    assert.equal(again.status, 1, again.said)
    assert.match(again.said, /^BROKEN PROMISE stale-call:/m)
  })
})
