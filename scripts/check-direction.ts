/**
 * `npm run check:direction`: who may import whom (.dependency-cruiser.json), and that nothing but src/cli reads clocks, sets
 * timers or draws random numbers. A check that looks at nothing finds nothing wrong, so this one also has to look at every
 * file, and to find what is planted in test/fixtures/direction: at least one violation of each rule.
 */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { cruise, type IConfiguration, type ICruiseResult } from 'dependency-cruiser'

const FIXTURE = 'test/fixtures/direction'
const { forbidden = [], options = {} } = JSON.parse(
  readFileSync('.dependency-cruiser.json', 'utf8'),
) as IConfiguration

interface Violation {
  readonly rule: string
  readonly text: string
}

/** The violations of the rules under `folder`/src. Throws when not every source file was looked at. */
async function wrongImports(folder: string): Promise<Violation[]> {
  const { output } = await cruise(['src'], {
    ...options,
    baseDir: folder,
    ruleSet: { forbidden },
    validate: true,
  })
  const { modules, summary } = output as ICruiseResult
  const seen = new Set(modules.map(({ source }) => source))
  const missed = sourcesOf(folder).filter((file) => !seen.has(file))
  if (seen.size === 0 || missed.length > 0)
    throw new Error(`not looked at in ${folder}: ${missed.length > 0 ? missed.join(', ') : 'everything'}`)
  return summary.violations.map(({ rule, from, to, cycle }) => ({
    rule: rule.name,
    text: `${from} → ${cycle === undefined ? to : cycle.map(({ name }) => name).join(' → ')}`,
  }))
}

/** Sources under `folder`/src but tests, as paths from `folder` on. */
function sourcesOf(folder: string): string[] {
  return globSync('src/**/*.ts', { cwd: folder }).filter((file) => !file.endsWith('.test.ts'))
}

/** The world outside, which a simulation has to be able to hold still. */
const WORLD: readonly (readonly [string, RegExp])[] = [
  ['the clock', /\bDate\.now\b|\bnew Date\(\s*\)|\bDate\(\s*\)/],
  ['a stopwatch', /\bperformance\.now\b|\bprocess\.hrtime\b|\bprocess\.uptime\b/],
  ['a timer', /\bset(?:Timeout|Interval|Immediate)\b|\bAbortSignal\.timeout\b|['"]node:timers/],
  ['chance', /\bMath\.random\b|\bcrypto\.random|\bgetRandomValues\b|\brandomUUID\b/],
  ['chance', /import\s*\{[^}]*\brandom\w*\b[^}]*\}\s*from\s*['"]node:crypto['"]/],
]

/** Where the outside world may be touched, and why: nothing is decided by it. */
const ALLOWED = new Map([['src/store/sqlite/writer-thread.ts', 'a stopwatch']])

function touchesOfWorld(folder: string): Violation[] {
  const found = sourcesOf(folder)
    .filter((file) => !file.startsWith('src/cli/'))
    .flatMap((file) => {
      const text = readFileSync(join(folder, file), 'utf8')
      return WORLD.filter(([, pattern]) => pattern.test(text)).map(([what]) => ({ file, what }))
    })
  const unused = [...ALLOWED].filter(
    ([file, what]) => !found.some((of) => of.file === file && of.what === what),
  )
  if (folder === '.' && unused.length > 0)
    throw new Error(`no longer needed in ALLOWED: ${unused.join('; ')}`)
  return found
    .filter(({ file, what }) => ALLOWED.get(file) !== what)
    .map(({ file, what }) => ({ rule: 'only-cli-touches-the-world', text: `${file} uses ${what} by itself` }))
}

async function violationsIn(folder: string): Promise<Violation[]> {
  return [...(await wrongImports(folder)), ...touchesOfWorld(folder)]
}

const planted = new Set((await violationsIn(FIXTURE)).map(({ rule }) => rule))
const rules = [...forbidden.map(({ name }) => name ?? ''), 'only-cli-touches-the-world']
const blind = rules.filter((rule) => !planted.has(rule))
const violations = await violationsIn('.')

for (const { rule, text } of violations) console.error(`${rule}: ${text}`)
for (const rule of blind) console.error(`${rule}: does not find what is planted in ${FIXTURE}`)
if (violations.length + blind.length > 0) process.exit(1)
console.log(
  `direction: ${sourcesOf('.').length} files, ${rules.length} rules, each of which finds what is planted`,
)
