/**
 * `npm test [-- FOLDER-OR-FILE …]`: runs every test beside the sources and under test/, but those that need more than npm
 * packages (test/faults, see `npm run test:faults`).
 */
import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'

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
const { status } = spawnSync(process.execPath, ['--test', '--test-timeout=240000', ...files], {
  stdio: 'inherit',
})
process.exit(status ?? 1)
