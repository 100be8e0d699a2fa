/** Commands that run and end: what they printed, and the one line that they end with when they refuse. */
import assert from 'node:assert/strict'
import { type ProgramSettings, startProgram } from './server-process.ts'

/** Below the line that names a wrong option there may be hints, such as where the options are told. */
const HINT = /^\(.*\)$/

interface Ended {
  readonly code: number | null
  readonly stdout: readonly string[]
  readonly stderr: readonly string[]
}

export async function runProgram(args: readonly string[], settings: ProgramSettings = {}): Promise<Ended> {
  const program = startProgram(args, settings)
  const { code } = await program.exited
  return { code, stdout: program.stdout, stderr: program.stderr }
}

/** Runs a command that does what it was asked for, and returns what it printed. */
export async function done(
  args: readonly string[],
  settings: ProgramSettings = {},
): Promise<readonly string[]> {
  const { code, stdout, stderr } = await runProgram(args, settings)
  assert.deepEqual({ code, stderr }, { code: 0, stderr: [] }, stdout.join('\n'))
  return stdout
}

/** Runs a command that cannot do what it was asked for, and returns the one line that says why. */
export async function refused(args: readonly string[], settings: ProgramSettings = {}): Promise<string> {
  const { code, stdout, stderr } = await runProgram(args, settings)
  const lines = stderr.filter((line) => line !== '' && !HINT.test(line))
  assert.deepEqual(
    { code, lines: lines.length, stdout },
    { code: 1, lines: 1, stdout: [] },
    stderr.join('\n'),
  )
  return lines[0] ?? ''
}
