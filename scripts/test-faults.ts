/**
 * `npm run test:faults [-- FILE …]`: real faults of real processes (kills, pauses, a full disk, a cut network), and tests that need
 * a Debian package or rights that a build machine may not have. A tool that is missing fails them; they are never skipped. One
 * file after the other, as they measure times, and each starts what it needs.
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
const { status } = spawnSync(
  process.execPath,
  ['--test', '--test-concurrency=1', '--test-timeout=300000', ...files],
  { stdio: 'inherit' },
)
process.exit(status ?? 1)
