/** Runs the simulation on sources with a deliberate mistake in them, in a process of its own. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import { MUTANTS, type Mutant } from './mutants.ts'

/** Runs `scripts/simulate.ts` on the sources with the mistake `name`; returns its exit code and what it said. */
export async function simulateMutant(
  name: string,
  args: readonly string[],
): Promise<{ status: number | null; said: string }> {
  const child = spawn(
    process.execPath,
    ['--import', './test/simulation/mutate.ts', 'scripts/simulate.ts', ...args],
    { env: { ...process.env, BERTH_MUTANT: name }, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
  const [out, err, status] = await Promise.all([text(child.stdout), text(child.stderr), ended])
  return { status, said: out + err }
}

/** Fails unless the simulation finds the mistake `name` within its number of seeds, and by a promise that it breaks. */
export async function assertCaught(name: string): Promise<void> {
  const { breaks, seedsMax, faults } = MUTANTS[name] as Mutant
  const args = ['--seeds', String(seedsMax), '--shrink-seconds', '0']
  if (faults !== undefined) args.push('--faults', faults.join())
  const { status, said } = await simulateMutant(name, args)
  assert.equal(status, 1, `the mistake was not found in ${seedsMax} schedules: ${said}`)
  const broken = /^BROKEN PROMISE ([a-z-]+)/m.exec(said)?.[1]
  assert.ok(
    (breaks as readonly string[]).includes(broken ?? ''),
    `caught by '${broken}', not by ${breaks.join(' or ')}: ${said}`,
  )
}
