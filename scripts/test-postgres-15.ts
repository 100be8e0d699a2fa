/**
 * `npm run test:postgres-15`: everything that runs on PostgreSQL once more, on Debian's PostgreSQL 15, the oldest version that is
 * supported. `npm test` has it on the newest.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { startDebianPostgres } from './debian-postgres.ts'

const TESTS = [
  'test/store/postgres.test.ts',
  'test/store/postgres-servers.test.ts',
  'test/store/postgres-addresses.test.ts',
  'test/store/postgres-migrations.test.ts',
  'test/original/on-postgres.test.ts',
  'test/promises/several-servers.test.ts',
  'test/moving/round-trip.test.ts',
]

const postgres = await startDebianPostgres()
try {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'test.ts'), ...TESTS], {
    stdio: 'inherit',
    env: { ...process.env, BERTH_TEST_POSTGRES: postgres.url },
  })
  const [status] = await once(child, 'exit')
  process.exitCode = status ?? 1
} finally {
  await postgres.remove()
}
