/** Every test of the original API once more, on PostgreSQL. */
import { runOn } from '../support/test-server.ts'

runOn('postgres')
for (const tests of [
  './check-in.test.ts',
  './checkout.test.ts',
  './conventions.test.ts',
  './maintenance.test.ts',
  './pool.test.ts',
  './reset.test.ts',
  './streaming.test.ts',
  './user.test.ts',
  './vm.test.ts',
])
  await import(tests)
