/** The tests of /api/v1 once more, on PostgreSQL. */
import { runOn } from '../support/test-server.ts'

runOn('postgres')
for (const tests of [
  './v1.test.ts',
  './v1-conformance.test.ts',
  './v1-leases.test.ts',
  './v1-requests.test.ts',
  './v1-reservations.test.ts',
])
  await import(tests)
