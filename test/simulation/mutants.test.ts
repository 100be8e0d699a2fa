/**
 * The simulation finds mistakes: the sources are run with one in them, and a promise has to break. These are the ones it finds
 * within some seconds; test/faults has them all.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
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
  'ended-when-warned',
  'answer-not-kept',
  'book-not-followed',
  'nobody-wakes-the-queue',
]

describe('a deliberate mistake', () => {
  for (const [name, { edits }] of Object.entries(MUTANTS))
    it(`can still be made: ${name}`, () => {
      for (const { file, from } of edits)
        assert.equal(readFileSync(file, 'utf8').split(from).length - 1, 1, `in ${file}: ${from}`)
    })
})

describe('the simulation finds that', () => {
  for (const name of HERE) it(`${MUTANTS[name]?.what} (${name})`, () => assertCaught(name))
})

describe('a broken promise', () => {
  it('is shown with its seed and the shortest schedule that was found, which breaks it again', async () => {
    const name = 'two-holders'
    const { status, said } = await simulateMutant(name, ['--seeds', '10', '--shrink-seconds', '3'])
    assert.equal(status, 1, said)
    assert.match(said, /^after \d+ schedules? \(seed \d+\):$/m)
    assert.match(said, /npm run simulate -- --seed \d+ --steps 400$/m)
    const [, record = '', steps = ''] =
      /npm run simulate -- --replay '([^']*)' --steps (\d+)$/m.exec(said) ?? []
    const [, shortest, whole] = /\((\d+) steps; (\d+) before it was shortened\):$/m.exec(said) ?? []
    assert.ok(Number(shortest) < Number(whole), said)
    const args = ['--replay', record, '--steps', steps, '--shrink-seconds', '0']
    const again = await simulateMutant(name, args)
    assert.equal(again.status, 1, again.said)
    assert.match(again.said, /^BROKEN PROMISE one-holder:/m)
  })
})
