/**
 * What was answered to a call that carried an Idempotency-Key. It is a row of the same commit as the call's effect, so there is
 * never one without the other: whoever repeats the call gets the answer, and nothing is done twice.
 */
export interface Answer {
  /** Who called; 0: somebody without credentials. */
  readonly userId: number
  readonly key: string
  /** A hash of what was asked for. */
  readonly fingerprint: string
  readonly status: number
  /** JSON, without the secrets that the first answer showed. */
  readonly body: string
  readonly headers: Readonly<Record<string, string>>
  readonly atMs: number
}

/** How long an answer is kept. */
export const ANSWER_KEPT_MS = 24 * 3_600_000

/** Whether an answer is too old to be given again. */
export function isOver(answer: Answer, nowMs: number): boolean {
  return answer.atMs + ANSWER_KEPT_MS <= nowMs
}
