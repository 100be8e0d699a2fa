/** Putting an installation back to its first day, and waiting until it is there. */
import { isRefusal, type Refusal } from '../domain/refusal.ts'
import { ANSWER_WAIT_MS_MAX } from './account.ts'
import type { Berth } from './berth.ts'
import type { Caller } from './credentials.ts'
import { waitUntil } from './feed.ts'

/** Refused as the rule `beginReset` says. Answers once all is wiped, or after 30 s; the reset goes on. */
export async function resetInstallation(
  berth: Berth,
  caller: Caller | null,
  requestId: string,
): Promise<{ done: boolean } | Refusal> {
  const allowed = berth.settings.allowReset
  const answer = await berth.submit({ kind: 'beginReset', actor: caller, allowed, requestId })
  if (isRefusal(answer) || answer.done) return answer
  const done = await waitUntil(
    berth.feed,
    berth.schedule,
    ANSWER_WAIT_MS_MAX,
    async () => (await berth.reads.installation()).state === 'open',
  )
  return { done }
}
