/** Forgets answers to Idempotency-Keys when they are too old to be given again, a slice a batch. */
import { isRefusal } from '../domain/refusal.ts'
import type { Submit } from '../service/lane.ts'
import type { Schedule } from '../service/schedule.ts'
import type { Sweep } from './sweep.ts'

const EVERY_MS = 60_000
const ROWS_MAX = 500

export function answerSweep({
  submit,
  schedule,
}: {
  submit: Submit
  schedule: Pick<Schedule, 'now'>
}): Sweep {
  let nextMs = schedule.now() + EVERY_MS
  return {
    name: 'answers',
    async run() {
      if (schedule.now() < nextMs) return { atMs: nextMs }
      const answer = await submit({ kind: 'forgetAnswers', rowsMax: ROWS_MAX })
      if (!isRefusal(answer) && answer.forgotten === ROWS_MAX) return { at: 'once' }
      nextMs = schedule.now() + EVERY_MS
      return { atMs: nextMs }
    },
  }
}
