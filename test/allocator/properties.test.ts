/** The allocator's properties on random histories: some hundred thousand steps. */
import { describe, it } from 'node:test'
import { PROPERTIES } from './properties.ts'

const RUNS = Number(process.env.BERTH_ALLOCATOR_RUNS ?? 200)

describe('the allocator', () => {
  for (const [name, { what, check }] of Object.entries(PROPERTIES))
    it(`${what} (${name})`, () => check(RUNS, Number(process.env.BERTH_ALLOCATOR_SEED ?? 1)))
})
