/** A PostgreSQL of a test's own, for what only that shows: being killed, running out of disk, being cut off. */
import { after } from 'node:test'
import { Client, types } from 'pg'
import { type RunningPostgres, startPostgres } from '../../scripts/embedded-postgres.ts'

const INT8 = 20

const running = new Set<RunningPostgres>()

after(async () => {
  for (const postgres of running) await postgres.stop()
})

/** Starts one that ends with the test file. `parent`: where its folder is made. */
export async function startOwnPostgres(
  flags: readonly string[] = [],
  parent?: string,
): Promise<RunningPostgres> {
  const postgres = await startPostgres(flags, parent)
  running.add(postgres)
  return postgres
}

export type Row = Readonly<Record<string, string | number | boolean | null>>

/** Runs one statement on a connection of its own. Numbers of eight bytes are numbers. */
export async function query(url: string, sql: string, schema: string | null = null): Promise<Row[]> {
  const client = new Client({
    connectionString: url,
    types: {
      getTypeParser: (oid: number, format?: 'text' | 'binary') =>
        oid === INT8 ? Number : types.getTypeParser(oid, format as 'text'),
    },
  })
  client.on('error', () => {})
  await client.connect()
  try {
    if (schema !== null) await client.query(`SET search_path = ${client.escapeIdentifier(schema)}`)
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}
