/** `node test/allocator/check.ts PROPERTY RUNS`: checks one property; fails when it finds a history that breaks it. */
import { PROPERTIES } from './properties.ts'

const [name = '', runs] = process.argv.slice(2)
const property = PROPERTIES[name]
if (property === undefined) throw new Error(`there is no property '${name}'`)
try {
  property.check(Number(runs), 1)
} catch (error) {
  console.log(`BROKEN PROPERTY ${name}: ${(error as Error).message}`)
  process.exitCode = 1
}
