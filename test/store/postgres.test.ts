/** The contract of stores, kept by PostgreSQL; each test has a schema of its own. */
import { randomBytes } from 'node:crypto'
import { systemSchedule } from '../../src/cli/system.ts'
import type { Lease } from '../../src/domain/lease.ts'
import { LEASE_COLUMNS, leaseOf } from '../../src/store/lease.ts'
import { openPostgresStore } from '../../src/store/postgres/store.ts'
import { dropSchema, queryPostgres, temporarySchema, testPostgresUrl } from '../support/postgres.ts'
import { allocationContract } from './allocation-contract.ts'
import { type StoreUnderTest, storeContract } from './contract.ts'

const POSTGRES: StoreUnderTest = {
  name: 'PostgreSQL',
  histories: 5,
  async open(now) {
    const schema = await temporarySchema()
    const store = await openPostgresStore({
      urls: [testPostgresUrl()],
      schema,
      connectionsMax: 6,
      schedule: systemSchedule,
      stopwatch: () => performance.now(),
      randomBytes,
      now,
    })
    return { store, leases: () => leasesIn(schema), remove: () => dropSchema(schema) }
  },
}

storeContract(POSTGRES)
allocationContract(POSTGRES)

async function leasesIn(schema: string): Promise<Lease[]> {
  const rows = await queryPostgres(
    `SELECT ${LEASE_COLUMNS.join(', ')} FROM lease ORDER BY vm_id, generation`,
    schema,
  )
  return rows.map((row) => leaseOf(LEASE_COLUMNS.map((column) => row[column] as string | number | null)))
}
