/**
 * Three thousand simulated schedules, and every deliberate mistake. Needs nothing but time: some minutes on two cores, more than
 * `npm test` should take.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { assertCaught } from '../simulation/mutant-run.ts'
import { MUTANTS } from '../simulation/mutants.ts'

const SCHEDULES = 3_000
const JOBS = 2
const TIMEOUT_MS = 2_700_000

describe('simulation', { timeout: TIMEOUT_MS }, () => {
  it(`keeps every promise in ${SCHEDULES} schedules`, { timeout: TIMEOUT_MS }, async () => {
    const args = ['scripts/simulate.ts', '--seeds', String(SCHEDULES), '--jobs', String(JOBS)]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'] })
    const [status] = await once(child, 'exit')
    assert.equal(status, 0, 'a promise broke: see above')
  })

  for (const [name, { what }] of Object.entries(MUTANTS))
    it(`finds that ${what} (${name})`, () => assertCaught(name))
})
