/**
 * What becomes of a call that carries a key which its caller has used before: the same call gets the answer that it had, another
 * one is refused. A refusal is no answer in this sense: it changed nothing, so the call is decided anew. Answers are kept for a day.
 */
import { type Answer, isOver } from './answer.ts'
import { type Actor, knownCaller, type Rule } from './decision.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import type { View } from './working-set.ts'

/**
 * What was answered to this key before; null: nothing, the call is to be decided. Refused: `idempotency_key_reused`; callers as in
 * decision.ts, since an answer is given to nobody who may not call any more.
 */
export function earlierAnswer(
  view: View,
  actor: Actor | null,
  key: string,
  fingerprint: string,
): Answer | Refusal | null {
  const caller = actor === null ? null : knownCaller(view, actor)
  if (isRefusal(caller)) return caller
  const earlier = view.answer(caller?.id ?? 0, key)
  if (earlier === undefined || isOver(earlier, view.nowMs)) return null
  return earlier.fingerprint === fingerprint ? earlier : refusal('idempotency_key_reused', { key })
}

export interface ForgetAnswers {
  readonly kind: 'forgetAnswers'
  readonly rowsMax: number
}

/** Drops answers that are too old to be given again. Never refused; replies how many it dropped. */
export const forgetAnswers: Rule<ForgetAnswers, { forgotten: number }> = {
  needs({ rowsMax }, needs) {
    needs.oldestAnswers = Math.max(needs.oldestAnswers, rowsMax)
  },

  decide(view, { rowsMax }) {
    const over = view.answersWhere((answer) => isOver(answer, view.nowMs)).slice(0, rowsMax)
    return { changes: { goneAnswers: over, events: [] }, reply: { forgotten: over.length } }
  },
}
