/** `berth import`: puts an exported installation into a database that is empty, all of it or nothing. */
import { type FileHandle, open } from 'node:fs/promises'
import { withConnection } from '../store/postgres/address.ts'
import { makeSchema, migrate } from '../store/postgres/migrations.ts'
import { importIntoPostgres } from '../store/postgres/transfer.ts'
import { withFolder } from '../store/sqlite/beside.ts'
import { importIntoSqlite } from '../store/sqlite/transfer.ts'
import { TRANSFER_TABLES, type TransferCounts } from '../store/transfer.ts'
import { readExport } from '../store/transfer-reader.ts'
import type { DatabaseSettings } from './database-options.ts'
import { CommandRefused, forOperator } from './operator.ts'
import { systemSchedule } from './system.ts'

/** `file` undefined or -: standard input. */
export function importInstallation(file: string | undefined, settings: DatabaseSettings): Promise<void> {
  return forOperator(async () => {
    const counts = await withInput(file, (chunks) => importFrom(chunks, settings))
    const said = TRANSFER_TABLES.slice(1).map((table) => `${counts[table]} ${NOUNS[table]}`)
    process.stdout.write(`imported ${said.join(', ')}\n`)
  })
}

const CHUNK_BYTES = 256 * 1024

const NOUNS: Record<keyof TransferCounts, string> = {
  installation: 'installations',
  user: 'users',
  token: 'tokens',
  pool: 'pools',
  vm: 'machines',
  lease: 'leases',
  request: 'requests',
  flow: 'places in queues',
  reservation: 'reservations',
  event: 'events',
}

function importFrom(
  chunks: AsyncIterable<Uint8Array>,
  { data, database, databaseSchema }: DatabaseSettings,
): Promise<TransferCounts> {
  const slices = readExport(chunks)
  const nowMs = systemSchedule.now()
  if (database === null) return withFolder(data, nowMs, (db) => importIntoSqlite(db, slices, data))
  const target = { urls: database, schema: databaseSchema }
  return withConnection(target, systemSchedule.now, async (client, shown) => {
    await makeSchema(client, databaseSchema)
    await migrate(client, nowMs)
    return importIntoPostgres(client, slices, shown)
  })
}

async function withInput<T>(
  file: string | undefined,
  read: (chunks: AsyncIterable<Uint8Array>) => Promise<T>,
): Promise<T> {
  if (file === undefined || file === '-') {
    if (process.stdin.isTTY)
      throw new CommandRefused('there is nothing to import: name a file, or pipe one in')
    return read(process.stdin)
  }
  // Opened first: no database is made for a file that is not there.
  const opened = await open(file)
  try {
    return await read(chunksOf(opened))
  } finally {
    await opened.close()
  }
}

async function* chunksOf(file: FileHandle): AsyncGenerator<Uint8Array> {
  yield* file.createReadStream({ highWaterMark: CHUNK_BYTES, autoClose: false })
}
