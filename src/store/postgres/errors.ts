/**
 * What an error of the driver or the database means for a batch: it lost against another one, the database cannot take it
 * now, or Berth is wrong. Codes: https://www.postgresql.org/docs/18/errcodes-appendix.html
 */
import { StoreConflict, StoreUnavailable } from '../port.ts'

/** Serialization failure, deadlock, and a unique row that came meanwhile. */
const CONFLICTS = new Set(['40001', '40P01', '23505'])

/** Codes, and classes of codes, that say that the database cannot take this now. */
const UNAVAILABLE: readonly (readonly [string, string])[] = [
  ['08', 'the connection to the database was lost'],
  ['53100', 'the disk of the database is full'],
  ['53300', 'the database has no connection left for this server'],
  ['53', 'the database is out of resources'],
  ['55P03', 'rows that this needs are held for too long by others'],
  ['57014', 'the database did not answer in time'],
  ['57P', 'the database is stopping, starting or recovering'],
  ['25006', 'the database is read-only: it is a standby, or is told to take no changes'],
  ['25P03', 'the transaction was idle for too long'],
  ['25P04', 'the transaction took too long'],
  ['28', 'the database does not let this server in'],
  ['3D000', 'the database does not exist'],
  ['58', 'the database reports an error of its disk'],
]

/** True when the connection is gone, so that what was sent on it may or may not have been done. */
export function isConnectionLost(error: unknown): boolean {
  const code = sqlState(error)
  if (code === null) return lossReason(error) !== undefined
  return code.startsWith('08') || code.startsWith('57P') || code === '25P03' || code === '25P04'
}

/** The store's exception for `error`, or `error` itself when it is a bug. */
export function storeError(error: unknown): unknown {
  if (error instanceof StoreUnavailable || error instanceof StoreConflict) return error
  const code = sqlState(error)
  if (code !== null && CONFLICTS.has(code)) return new StoreConflict(messageOf(error))
  const reason =
    code === null ? lossReason(error) : UNAVAILABLE.find(([start]) => code.startsWith(start))?.[1]
  return reason === undefined ? error : new StoreUnavailable(reason)
}

/** One line for the operator about why the database cannot be used. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0])
  return error instanceof Error ? error.message : String(error)
}

function sqlState(error: unknown): string | null {
  const { code } = error as { code?: unknown }
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : null
}

/** Errors of the socket and of the driver have no class of their own. */
const LOST =
  /terminated|timeout|not queryable|Connection|ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN|ENOENT|socket/i

function lossReason(error: unknown): string | undefined {
  const { code } = error as { code?: unknown }
  const text = `${typeof code === 'string' ? code : ''} ${messageOf(error)}`
  return LOST.test(text) ? `the database cannot be reached (${messageOf(error)})` : undefined
}
