/** Giving a pool its size, and waiting until it has it. */
import { isFitted } from '../domain/pool-size.ts'
import { isRefusal, type Refusal } from '../domain/refusal.ts'
import { ANSWER_WAIT_MS_MAX } from './account.ts'
import type { Berth } from './berth.ts'
import type { Caller } from './credentials.ts'
import { waitUntil } from './feed.ts'

/** Refused as the rule `sizePool` says. Answers once all machines are ready, or after 30 s; the work goes on. */
export async function setPoolSize(
  berth: Berth,
  caller: Caller,
  pool: string,
  size: number,
  requestId: string,
): Promise<{ outcome: 'created' | 'resized' | 'unchanged' } | Refusal> {
  const policy = berth.settings.poolPolicy
  const answer = await berth.submit({ kind: 'sizePool', actor: caller, pool, size, policy, requestId })
  if (isRefusal(answer)) return answer
  if (answer.outcome !== 'unchanged')
    await waitUntil(berth.feed, berth.schedule, ANSWER_WAIT_MS_MAX, async () => {
      const reading = await berth.reads.pool(answer.poolId)
      if (reading === null) return true
      const provisioning = reading.states
        .filter(({ state }) => state === 'provisioning')
        .reduce((sum, { count }) => sum + count, 0)
      return isFitted(reading.stats, provisioning)
    })
  return { outcome: answer.outcome }
}
