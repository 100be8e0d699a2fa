/**
 * One connection for a command that is not a server, on the first address that takes changes. What the operator can mend is
 * told in one line that names the database, and never a password.
 */
import type { Client } from 'pg'
import { StoreRefusesToOpen, StoreUnavailable } from '../port.ts'
import { Connections } from './connections.ts'
import { messageOf, storeError } from './errors.ts'

export interface PostgresTarget {
  /** postgres:// URLs; the first of them that takes changes is used. */
  readonly urls: readonly string[]
  /** The schema of Berth's tables; null: the first of the user's search path. */
  readonly schema: string | null
}

/** A URL as it may be shown: without the password. */
export function withoutPassword(url: string): string {
  if (!URL.canParse(url)) return 'postgres://***'
  const shown = new URL(url)
  if (shown.password !== '') shown.password = '***'
  for (const name of new Set(shown.searchParams.keys()))
    if (/pass/i.test(name)) shown.searchParams.set(name, '***')
  return shown.href
}

/** Connects and ends the connection when `work` is done. Throws `StoreRefusesToOpen` and `StoreUnavailable` with one line. */
export async function withConnection<T>(
  target: PostgresTarget,
  now: () => number,
  work: (client: Client, shown: string) => Promise<T>,
): Promise<T> {
  const { client, shown } = await connect(target, now)
  try {
    return await work(client, shown)
  } catch (error) {
    throw told(error, shown)
  } finally {
    await client.end().catch(() => {})
  }
}

async function connect(
  { urls, schema }: PostgresTarget,
  now: () => number,
): Promise<{ client: Client; shown: string }> {
  const reasons: string[] = []
  for (const url of urls) {
    const connections = new Connections({ urls: [url], schema, batchesMax: 1, readsMax: 1, now })
    try {
      return { client: await connections.single(), shown: withoutPassword(url) }
    } catch (error) {
      reasons.push(`${withoutPassword(url)}: ${messageOf(error)}`)
    } finally {
      await connections.close()
    }
  }
  throw new StoreUnavailable(reasons.join('; '))
}

const NOT_ALLOWED = '42501'

function told(error: unknown, shown: string): unknown {
  if ((error as { code?: unknown }).code === NOT_ALLOWED)
    return new StoreRefusesToOpen(`${shown}: ${messageOf(error)}`)
  const known = storeError(error)
  return known instanceof StoreUnavailable ? new StoreUnavailable(`${shown}: ${known.message}`) : known
}
