/** The leases that a reservation's holder has by it. */
import type { Lease } from '../domain/lease.ts'
import type { Reservation } from '../domain/reservation.ts'
import type { Reads } from '../store/port.ts'

const ROWS_MAX = 1_000

export async function leasesOf(
  reads: Reads,
  { id, poolId, userId }: Pick<Reservation, 'id' | 'poolId' | 'userId'>,
): Promise<Lease[]> {
  const found: Lease[] = []
  for (let after: Lease | null = null; ; ) {
    const leases: Lease[] = await reads.leases(
      { running: true, poolId, userId },
      { after, rowsMax: ROWS_MAX },
    )
    found.push(...leases.filter(({ reservationId }) => reservationId === id))
    if (leases.length < ROWS_MAX) return found
    after = leases.at(-1) ?? null
  }
}
