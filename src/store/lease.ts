/** A lease as a row, and back. Most leases have no labels and are shared with nobody: nothing stands in their rows then. */
import type { Lease, LeaseEnd } from '../domain/lease.ts'
import type { Labels } from '../domain/vm-class.ts'
import type { ColumnTypes, Tables, Tuple } from './tables.ts'

/** The columns of a lease in the order in which `leaseOf` takes them. */
export const LEASE: ColumnTypes<Tables['lease']> = {
  vm_id: 'integer',
  generation: 'integer',
  pool_id: 'integer',
  user_id: 'integer',
  from_ms: 'integer',
  ended_at_ms: 'integer',
  ends_at_ms: 'integer',
  ended_by: 'text',
  request_id: 'text',
  reservation_id: 'text',
  soft_grace_seconds: 'integer',
  heartbeat_seconds: 'integer',
  beat_by_ms: 'integer',
  due_at_ms: 'integer',
  warned: 'integer',
  charged_minutes: 'real',
  weight: 'real',
  purpose: 'text',
  labels: 'text',
  shared_with: 'text',
}

export const LEASE_COLUMNS = Object.keys(LEASE) as (keyof Tables['lease'])[]

export function leaseOf(row: Tuple): Lease {
  return {
    vmId: row[0] as number,
    generation: row[1] as number,
    poolId: row[2] as number,
    userId: row[3] as number,
    fromMs: row[4] as number,
    endedAtMs: row[5] as number | null,
    endsAtMs: row[6] as number | null,
    endedBy: row[7] as LeaseEnd | null,
    requestId: row[8] as string | null,
    reservationId: row[9] as string | null,
    softGraceSeconds: row[10] as number | null,
    heartbeatSeconds: row[11] as number | null,
    beatByMs: row[12] as number | null,
    dueAtMs: row[13] as number | null,
    warned: row[14] === 1,
    chargedMinutes: row[15] as number,
    weight: row[16] as number,
    purpose: row[17] as string | null,
    labels: row[18] === null ? {} : (JSON.parse(row[18] as string) as Labels),
    sharedWith: row[19] === null ? [] : (JSON.parse(row[19] as string) as number[]),
  }
}

export function leaseTuple(lease: Lease): Tuple {
  return [
    lease.vmId,
    lease.generation,
    lease.poolId,
    lease.userId,
    lease.fromMs,
    lease.endedAtMs,
    lease.endsAtMs,
    lease.endedBy,
    lease.requestId,
    lease.reservationId,
    lease.softGraceSeconds,
    lease.heartbeatSeconds,
    lease.beatByMs,
    lease.dueAtMs,
    lease.warned ? 1 : 0,
    lease.chargedMinutes,
    lease.weight,
    lease.purpose,
    Object.keys(lease.labels).length === 0 ? null : JSON.stringify(lease.labels),
    lease.sharedWith.length === 0 ? null : JSON.stringify(lease.sharedWith),
  ]
}
