/**
 * `npm run simulate -- --seed N --seeds N --steps N`: simulates whole installations from seeds, with faults at every step, until a
 * promise breaks (see docs/RELIABILITY.md). A failure prints the shortest schedule that was found, and how to run it again.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { type ChoiceSource, decodeRecord } from '../test/simulation/choices.ts'
import { FAULT_KINDS, type FaultKind } from '../test/simulation/faults.ts'
import { failureText } from '../test/simulation/report.ts'
import { type RunResult, type StoreKind, simulate } from '../test/simulation/run.ts'
import { shrink } from '../test/simulation/shrink.ts'

const STEPS = 400

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '1' },
    steps: { type: 'string', default: String(STEPS) },
    store: { type: 'string' },
    faults: { type: 'string' },
    replay: { type: 'string' },
    jobs: { type: 'string', default: '1' },
    'shrink-seconds': { type: 'string', default: '30' },
    trace: { type: 'boolean', default: false },
    counts: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) {
  process.stdout.write(`npm run simulate -- [options]
  --seed N            the first seed (1)
  --seeds N           how many seeds, one run each (1)
  --steps N           steps of each run in which faults may strike (${STEPS})
  --store KIND        model (several servers) or sqlite (one server); else as each seed says
  --faults KINDS      only these kinds, separated by commas: ${FAULT_KINDS.join(', ')}
  --replay RECORD     runs a recorded schedule instead
  --jobs N            processes that share the seeds (1)
  --shrink-seconds N  how long a failed schedule is shortened (30; 0: not at all)
  --trace             prints what happened
  --counts            prints how often what was reached\n`)
  process.exit(0)
}

const first = whole('seed', 0)
const seeds = whole('seeds', 1)
const steps = whole('steps', 1)
const jobs = whole('jobs', 1)
const shrinkSeconds = whole('shrink-seconds', 0)
const store = storeKind()
const faults = faultKinds()
const options = [
  store === null ? '' : ` --store ${store}`,
  faults === null ? '' : ` --faults ${faults.join()}`,
].join('')

process.exitCode = jobs > 1 && seeds > 1 ? await share() : await run()

function whole(name: 'seed' | 'seeds' | 'steps' | 'jobs' | 'shrink-seconds', min: number): number {
  const value = Number(values[name])
  if (Number.isSafeInteger(value) && value >= min) return value
  console.error(`--${name} must be a whole number from ${min} on, not '${values[name]}'`)
  process.exit(2)
}

function storeKind(): StoreKind | null {
  if (values.store === undefined) return null
  if (values.store === 'model' || values.store === 'sqlite') return values.store
  console.error(`--store must be model or sqlite, not '${values.store}'`)
  process.exit(2)
}

function faultKinds(): FaultKind[] | null {
  if (values.faults === undefined) return null
  const words = values.faults.split(',').filter((word) => word !== '')
  const unknown = words.find((word) => !(FAULT_KINDS as readonly string[]).includes(word))
  if (unknown === undefined) return words as FaultKind[]
  console.error(`--faults: '${unknown}' is none of ${FAULT_KINDS.join(', ')}`)
  process.exit(2)
}

/** Runs all seeds until one fails. Returns the exit code. */
async function run(): Promise<number> {
  const began = performance.now()
  const totals = { steps: 0, commits: 0, calls: 0 }
  const counts = new Map<string, number>()
  const sources: Iterable<ChoiceSource> =
    values.replay === undefined ? seedsFrom(first, seeds) : [{ record: decodeRecord(values.replay) }]
  let runs = 0
  for (const source of sources) {
    const result = await simulate({ source, steps, store, faults, traced: values.trace })
    runs++
    totals.steps += result.stepsInAll
    totals.commits += result.commits
    totals.calls += result.calls
    for (const [what, count] of result.counts) counts.set(what, (counts.get(what) ?? 0) + count)
    if (values.trace) console.log(result.lines.join('\n'))
    if (result.breach !== null) {
      const seed = 'seed' in source ? source.seed : null
      console.error(
        `after ${runs} ${runs === 1 ? 'schedule' : 'schedules'}${seed === null ? '' : ` (seed ${seed})`}:`,
      )
      console.error(failureText({ seed, steps, options, failed: result, shortest: await shortened(result) }))
      return 1
    }
  }
  const seconds = (performance.now() - began) / 1_000
  console.log(
    `${runs} schedules from seed ${first} on, ${totals.steps} steps, ${totals.calls} calls, ${totals.commits} commits, ${seconds.toFixed(1)} s: no promise broke`,
  )
  if (values.counts)
    for (const [what, count] of [...counts].sort()) console.log(`${String(count).padStart(9)} ${what}`)
  return 0
}

function* seedsFrom(from: number, n: number): Iterable<ChoiceSource> {
  for (let seed = from; seed < from + n; seed++) yield { seed }
}

async function shortened(failed: RunResult): Promise<RunResult> {
  const ends = performance.now() + shrinkSeconds * 1_000
  return shrink(failed, { store, faults }, { runsMax: 20_000, goOn: () => performance.now() < ends })
}

/** Shares the seeds among processes like this one. */
async function share(): Promise<number> {
  const each = Math.ceil(seeds / jobs)
  const children = Array.from({ length: Math.ceil(seeds / each) }, (_, i) => {
    const from = first + i * each
    const share = Math.min(each, first + seeds - from)
    const args = ['--seed', String(from), '--seeds', String(share), '--steps', String(steps)]
    if (store !== null) args.push('--store', store)
    if (faults !== null) args.push('--faults', faults.join())
    args.push('--shrink-seconds', String(shrinkSeconds), ...(values.counts ? ['--counts'] : []))
    return spawn(process.execPath, [...process.execArgv, process.argv[1] ?? '', ...args], {
      stdio: 'inherit',
    })
  })
  const codes = await Promise.all(
    children.map(async (child) => (await once(child, 'exit'))[0] as number | null),
  )
  return codes.every((code) => code === 0) ? 0 : 1
}
