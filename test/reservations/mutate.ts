/** `node --import ./test/reservations/mutate.ts …`: loads the sources with the deliberate mistake that BERTH_MUTANT names. */
import { makeMistake } from '../support/mistake.ts'
import { MUTANTS } from './mutants.ts'

const name = process.env.BERTH_MUTANT ?? ''
const mutant = MUTANTS[name]
if (mutant === undefined)
  throw new Error(`BERTH_MUTANT is '${name}': it must be one of ${Object.keys(MUTANTS).join(', ')}`)
makeMistake(name, mutant.edits)
