/** What a failed simulation says: which promise broke and how, the shortest schedule that was found, and how to run it again. */
import { encodeRecord } from './choices.ts'
import { PROMISES } from './promises.ts'
import type { RunResult } from './run.ts'

export interface Failure {
  readonly seed: number | null
  readonly steps: number
  /** Options that were given, beside seed and steps. */
  readonly options: string
  readonly failed: RunResult
  readonly shortest: RunResult
}

export function failureText({ seed, steps, options, failed, shortest }: Failure): string {
  const { breach } = shortest
  if (breach === null) return 'no promise broke'
  const again = seed === null ? [] : [`  npm run simulate -- --seed ${seed} --steps ${steps}${options}`]
  return [
    '',
    `BROKEN PROMISE ${breach.promise}: ${PROMISES[breach.promise]}`,
    '',
    breach.text,
    '',
    `The shortest schedule that was found (${shortest.steps} steps; ${failed.steps} before it was shortened):`,
    '',
    ...shortest.lines.map((line) => `  ${line}`),
    '',
    'To run it again, whole and shortened:',
    ...again,
    `  npm run simulate -- --replay '${encodeRecord(shortest.record)}' --steps ${shortest.steps}${options}`,
    '',
  ].join('\n')
}
