/** Moves whole installations between data folders and PostgreSQL schemas, as the commands do, without their processes. */
import { withConnection } from '../../src/store/postgres/address.ts'
import { makeSchema, migrate } from '../../src/store/postgres/migrations.ts'
import { importIntoPostgres, withPostgresSource } from '../../src/store/postgres/transfer.ts'
import { withFolder, withSnapshot } from '../../src/store/sqlite/beside.ts'
import { importIntoSqlite, sqliteSource } from '../../src/store/sqlite/transfer.ts'
import { exportText, type TransferCounts, type TransferSource } from '../../src/store/transfer.ts'
import { readExport } from '../../src/store/transfer-reader.ts'
import { testPostgresUrl } from './postgres.ts'
import { NOW_MS } from './world.ts'

export async function textOf(source: TransferSource, exportedAtMs = NOW_MS): Promise<string> {
  let text = ''
  for await (const part of exportText(source, exportedAtMs)) text += part
  return text
}

/** An export in chunks of so many bytes. */
async function* chunksOf(text: string | Uint8Array, bytes = 65_536): AsyncGenerator<Uint8Array> {
  const all = Buffer.from(text as string)
  for (let at = 0; at < all.length; at += bytes) yield all.subarray(at, at + bytes)
}

export function exportFolder(folder: string): Promise<string> {
  return withSnapshot(folder, (db, path) => textOf(sqliteSource(db, path)))
}

export function importFolder(folder: string, text: string | Uint8Array): Promise<TransferCounts> {
  return withFolder(folder, NOW_MS, (db) => importIntoSqlite(db, readExport(chunksOf(text)), folder))
}

export function exportSchema(schema: string): Promise<string> {
  return withConnection({ urls: [testPostgresUrl()], schema }, Date.now, (client, shown) =>
    withPostgresSource(client, shown, (source) => textOf(source)),
  )
}

export function importSchema(schema: string, text: string | Uint8Array): Promise<TransferCounts> {
  return withConnection({ urls: [testPostgresUrl()], schema }, Date.now, async (client, shown) => {
    await makeSchema(client, schema)
    await migrate(client, NOW_MS)
    return importIntoPostgres(client, readExport(chunksOf(text)), shown)
  })
}

/** An export without what tells where and when it was made: its header, and the checksum over it. */
export function bodyOf(text: string): string {
  return text.replace(/^[^\n]*\n/, '').replace(/"sha256":"[0-9a-f]{64}"/, '"sha256":""')
}
