/**
 * `npm test [-- FOLDER-OR-FILE …]`: runs every test beside the sources and under test/, but those that need more than npm
 * packages (test/faults, see `npm run test:faults`). They have a PostgreSQL: the one that BERTH_TEST_POSTGRES names, else one
 * that is started for them.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync } from 'node:fs'
import { startPostgres } from './embedded-postgres.ts'

const wanted = process.argv.slice(2)
const patterns =
  wanted.length > 0
    ? wanted.flatMap((path) => (path.endsWith('.ts') ? [path] : [`${path}/**/*.test.ts`]))
    : ['src/**/*.test.ts', 'test/**/*.test.ts']
const files = patterns
  .flatMap((pattern) => globSync(pattern))
  .filter((file) => wanted.length > 0 || !file.startsWith('test/faults/'))
  .sort()
if (files.length === 0) {
  console.error(`no test files match ${patterns.join(' ')}`)
  process.exit(1)
}

const given = process.env.BERTH_TEST_POSTGRES
const postgres = given === undefined ? await startPostgres(['-c', 'max_connections=300']) : null
const child = spawn(process.execPath, ['--test', '--test-timeout=240000', ...files], {
  stdio: 'inherit',
  env: { ...process.env, BERTH_TEST_POSTGRES: given ?? postgres?.url },
})
const [status] = await once(child, 'exit')
await postgres?.stop()
process.exit(status ?? 1)
