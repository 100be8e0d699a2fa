/** Statements of tests on any PostgreSQL database, each over a connection of its own. */
import { Client, types } from 'pg'

const INT8 = 20

export type Row = Readonly<Record<string, string | number | boolean | null>>

/** Runs one statement on a connection of its own, in `schema` when one is given. Numbers of eight bytes are numbers. */
export async function query(url: string, sql: string, schema: string | null = null): Promise<Row[]> {
  return withClient(url, schema, async (client) => (await client.query(sql)).rows)
}

/** Runs statements that all see the database as of one moment. */
export async function snapshot(url: string, schema: string, statements: readonly string[]): Promise<Row[][]> {
  return withClient(url, schema, async (client) => {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
    const answers: Row[][] = []
    for (const sql of statements) answers.push((await client.query(sql)).rows)
    await client.query('COMMIT')
    return answers
  })
}

async function withClient<T>(
  url: string,
  schema: string | null,
  use: (client: Client) => Promise<T>,
): Promise<T> {
  const client = new Client({
    connectionString: url,
    types: {
      getTypeParser: (oid: number, format?: 'text' | 'binary') =>
        oid === INT8 ? Number : types.getTypeParser(oid, format as 'text'),
    },
  })
  // Whoever uses it meets the error at its next statement.
  client.on('error', () => {})
  await client.connect()
  try {
    if (schema !== null) await client.query(`SET search_path = ${client.escapeIdentifier(schema)}`)
    return await use(client)
  } finally {
    await client.end()
  }
}
