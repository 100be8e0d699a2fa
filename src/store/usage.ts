/**
 * What a user holds, has used in the last seven days, and waits for: asked by batches, where it decides on quotas, and beside
 * them. Each question finds its rows by an index, however long the history of a user is.
 */
import type { Usage } from '../domain/working-set.ts'
import { type Dialect, writtenStatement } from './statement.ts'
import type { Tuple } from './tables.ts'

const WEEK_MS = 7 * 86_400_000

/** The statements that `usageOf` takes the answers of. */
export function usageStatements(dialect: Dialect) {
  return {
    held: writtenStatement(
      dialect,
      'SELECT pool_id, class, count(*) FROM vm WHERE holder_id = :userId GROUP BY pool_id, class',
    ),
    // Leases that ended in these days, and those that run.
    used: writtenStatement(
      dialect,
      `SELECT CAST(coalesce(sum(used_ms), 0) AS bigint) FROM (
         SELECT ended_at_ms - CASE WHEN from_ms > :sinceMs THEN from_ms ELSE :sinceMs END AS used_ms
         FROM lease WHERE user_id = :userId AND ended_at_ms IS NOT NULL AND ended_at_ms > :sinceMs
         UNION ALL
         SELECT :nowMs - CASE WHEN leased_at_ms > :sinceMs THEN leased_at_ms ELSE :sinceMs END
         FROM vm WHERE holder_id = :userId) AS spans`,
    ),
    waiting: writtenStatement(
      dialect,
      `SELECT count(*) FROM request WHERE user_id = :userId AND state = 'waiting'`,
    ),
  }
}

export function usageArguments(userId: number, nowMs: number) {
  return { userId, nowMs, sinceMs: nowMs - WEEK_MS }
}

export interface UsageRows {
  readonly held: readonly Tuple[]
  readonly used: readonly Tuple[]
  readonly waiting: readonly Tuple[]
}

export function usageOf(userId: number, { held, used, waiting }: UsageRows): Usage {
  return {
    userId,
    held: held.map(([poolId, vmClass, count]) => [poolId as number, vmClass as string, count as number]),
    weekMs: used[0]?.[0] as number,
    waiting: waiting[0]?.[0] as number,
  }
}
