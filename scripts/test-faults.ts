/**
 * `npm run test:faults [-- FILE …]`: the tests that need more than npm packages (a Debian package, or rights that a build
 * machine may not have). A tool that is missing fails them; they are never skipped.
 */
import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'

const wanted = process.argv.slice(2)
const files = (wanted.length > 0 ? wanted : ['test/faults/**/*.test.ts'])
  .flatMap((pattern) => globSync(pattern))
  .sort()
if (files.length === 0) {
  console.error(`no test files match ${wanted.join(' ') || 'test/faults/'}`)
  process.exit(1)
}
const { status } = spawnSync(process.execPath, ['--test', '--test-timeout=240000', ...files], {
  stdio: 'inherit',
})
process.exit(status ?? 1)
