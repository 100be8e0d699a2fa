/**
 * Reads an export (transfer.ts). It trusts nothing: each value, what rows say of each other (transfer-wholeness.ts), and the end
 * are checked, and whoever imports commits only when there was nothing wrong up to the end.
 */
import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import {
  type Column,
  columnEntries,
  columnsOf,
  keyOf,
  noRows,
  shown,
  TRANSFER_TABLES,
  TransferRefused,
  type TransferRow,
  type TransferSlice,
  type TransferTable,
  VERSION,
} from './transfer.ts'
import { Wholeness } from './transfer-wholeness.ts'

const SLICE_ROWS = 2_000
const NEWLINE = 10
const LINE_BYTES_MAX = 64 * 1024 * 1024
const END = Buffer.from('{"end":')

/**
 * Reads an export. Throws `TransferRefused`, with the line and the column, when anything is wrong with it; that is only known
 * when the last slice was taken and the generator has ended.
 */
export async function* readExport(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<TransferSlice> {
  const reader = new ExportReader()
  const hash = createHash('sha256')
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk])
    if (reader.lines === 0) requirePlain(rest)
    const last = rest.lastIndexOf(NEWLINE) + 1
    if (last === 0 && rest.length > LINE_BYTES_MAX)
      refuse(reader.lines + 1, 'it is longer than any line of an export')
    yield* readLines(rest.subarray(0, last), reader, hash)
    rest = rest.subarray(last)
  }
  yield* readLines(rest, reader, hash)
  reader.finish()
}

/** Reads whole lines. What is hashed ends where the footer begins. */
function* readLines(
  bytes: Buffer,
  reader: ExportReader,
  hash: ReturnType<typeof createHash>,
): Generator<TransferSlice> {
  if (!isUtf8(bytes)) refuse(reader.lines + 1, 'from here on it is no UTF-8')
  let hashedTo = 0
  for (let from = 0; from < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, from)
    const to = newline === -1 ? bytes.length : newline
    if (bytes.subarray(from, from + END.length).equals(END) && !reader.ended) {
      hash.update(bytes.subarray(hashedTo, from))
      hashedTo = bytes.length
      reader.end(bytes.toString('utf8', from, to), hash.digest('hex'))
    } else reader.read(bytes.toString('utf8', from, to))
    const slice = reader.take()
    if (slice !== null) yield slice
    from = to + 1
  }
  if (!reader.ended) hash.update(bytes.subarray(hashedTo))
}

function requirePlain(bytes: Buffer): void {
  if (bytes[0] === 0x1f && bytes[1] === 0x8b)
    throw new TransferRefused('the export is compressed: unpack it first (gunzip -c FILE | berth import)')
}

function refuse(lineNumber: number, reason: string): never {
  throw new TransferRefused(`line ${lineNumber} of the export: ${reason}`)
}

/** Checks line after line, and collects rows into slices. */
class ExportReader {
  lines = 0
  ended = false
  readonly #counts = noRows()
  readonly #whole = new Wholeness()
  #at = -1
  #checks: readonly ((value: unknown) => string | null)[] = []
  #names: readonly string[] = []
  #lastKey: Key = []
  #rows: TransferRow[] = []
  #ready: TransferSlice | null = null

  read(lineText: string): void {
    const lineNumber = ++this.lines
    if (this.ended) refuse(lineNumber, 'there is something behind the end')
    const value = parsed(lineText, lineNumber)
    if (lineNumber === 1) readHeader(value)
    else if (Array.isArray(value)) this.#row(value)
    else this.#table(value)
  }

  /** The footer. `sha256` is that of the lines that were read before it. */
  end(lineText: string, sha256: string): void {
    const lineNumber = ++this.lines
    if (lineNumber === 1) readHeader(parsed(lineText, lineNumber))
    const footer = parsed(lineText, lineNumber)
    if (this.#at !== TRANSFER_TABLES.length - 1) refuse(lineNumber, `there is no table ${this.#next()}`)
    this.#flush()
    const { rows, sha256: expected } = footer as { rows?: Record<string, unknown>; sha256?: unknown }
    for (const table of TRANSFER_TABLES) {
      const said = rows?.[table]
      const found = this.#counts[table]
      if (said !== found)
        refuse(lineNumber, `it says that ${table} has ${shown(said)} rows, and there are ${found}`)
    }
    if (expected !== sha256) refuse(lineNumber, 'the checksum is another: the export was changed or damaged')
    const reason = this.#whole.reason()
    if (reason !== null) throw new TransferRefused(`the export does not agree with itself: ${reason}`)
    this.ended = true
  }

  finish(): void {
    if (this.lines === 0) throw new TransferRefused('the export is empty')
    if (!this.ended)
      throw new TransferRefused(`the export ends in the middle: there is no end after line ${this.lines}`)
  }

  /** A slice that is full, or the last of its table. */
  take(): TransferSlice | null {
    const slice = this.#ready
    this.#ready = null
    return slice
  }

  #next(): string {
    return TRANSFER_TABLES[this.#at + 1] ?? 'more'
  }

  #table(value: unknown): void {
    const { table, columns } = (value ?? {}) as { table?: unknown; columns?: unknown }
    if (table === undefined) refuse(this.lines, 'it is no row, no table and no end')
    const known = TRANSFER_TABLES.find((name) => name === table)
    if (known === undefined) refuse(this.lines, `this program knows no table ${shown(table)}`)
    if (known !== this.#next()) refuse(this.lines, `table ${known} stands where ${this.#next()} should`)
    this.#flush()
    const wrong = wrongColumns(known, columns)
    if (wrong !== null) refuse(this.lines, `${known}: ${wrong}`)
    this.#at++
    this.#names = columnsOf(known)
    this.#checks = columnEntries(known).map(([, column]) => checkOf(column))
    this.#lastKey = []
  }

  #row(row: readonly unknown[]): void {
    const table = TRANSFER_TABLES[this.#at]
    if (table === undefined) refuse(this.lines, 'a row before the first table')
    if (row.length !== this.#checks.length)
      refuse(this.lines, `a row of ${table} has ${this.#checks.length} values, and this one ${row.length}`)
    for (let i = 0; i < row.length; i++) {
      const reason = this.#checks[i]?.(row[i]) ?? null
      if (reason !== null) refuse(this.lines, `${table}.${this.#names[i]} ${reason}`)
    }
    const key = row.slice(0, keyOf(table).length) as Key
    if (!ascends(this.#lastKey, key))
      refuse(this.lines, `${table}.${keyOf(table).join(', ')} ${key.join(', ')} does not ascend`)
    this.#lastKey = key
    const reason = this.#whole.add(table, row as TransferRow)
    if (reason !== null) refuse(this.lines, reason)
    this.#counts[table]++
    this.#rows.push(row as TransferRow)
    if (this.#rows.length >= SLICE_ROWS) this.#flush()
  }

  #flush(): void {
    const table = TRANSFER_TABLES[this.#at]
    if (table !== undefined && this.#rows.length > 0) this.#ready = { table, rows: this.#rows }
    this.#rows = []
  }
}

function parsed(lineText: string, lineNumber: number): unknown {
  try {
    return JSON.parse(lineText)
  } catch {
    return refuse(lineNumber, lineNumber === 1 ? 'this is no export of Berth' : 'it is no JSON')
  }
}

function readHeader(value: unknown): void {
  const { berth, version, exportedAtMs, from, migration } = (value ?? {}) as Record<string, unknown>
  if (berth !== 'export') refuse(1, 'this is no export of Berth')
  if (typeof version === 'number' && version > VERSION)
    refuse(
      1,
      `it was written by a newer Berth (format ${version}, this program knows ${VERSION}): use the newer program`,
    )
  if (version !== VERSION) refuse(1, `version is ${shown(version)}, and this program reads ${VERSION}`)
  if (!Number.isSafeInteger(exportedAtMs))
    refuse(1, `exportedAtMs is ${shown(exportedAtMs)}, no whole number`)
  if (from !== 'sqlite' && from !== 'postgres')
    refuse(1, `from is ${shown(from)}, and should be sqlite or postgres`)
  if (!Number.isSafeInteger(migration)) refuse(1, `migration is ${shown(migration)}, no whole number`)
}

function wrongColumns(table: TransferTable, columns: unknown): string | null {
  if (!Array.isArray(columns)) return 'its columns are not named'
  const known = columnsOf(table)
  const unknown = columns.find((name) => !known.includes(name))
  if (unknown !== undefined) return `this program knows no column ${shown(unknown)}`
  const missing = known.find((name) => !columns.includes(name))
  if (missing !== undefined) return `there is no column ${missing}`
  return columns.length === known.length && columns.every((name, i) => name === known[i])
    ? null
    : `its columns should be ${known.join(', ')}, in this order`
}

/** What is wrong with a value of a column; null when nothing is. */
function checkOf({
  type,
  nullable,
  min,
  max,
  among,
  json,
  secret,
}: Column): (value: unknown) => string | null {
  const seen = (value: unknown) => (secret ? 'something else' : shown(value))
  return (value) => {
    if (value === null && nullable) return null
    if (type !== 'text') {
      if (type === 'integer' && !Number.isSafeInteger(value)) return `is ${seen(value)}, no whole number`
      if (!Number.isFinite(value)) return `is ${seen(value)}, no number`
      if (max !== undefined && (value as number) > max) return `is ${seen(value)}, more than ${max}`
      return min !== undefined && (value as number) < min ? `is ${seen(value)}, less than ${min}` : null
    }
    if (typeof value !== 'string') return `is ${seen(value)}, no text`
    if (among !== undefined)
      return among.includes(value) ? null : `is ${seen(value)}, none of ${among.join(', ')}`
    if (!value.isWellFormed() || value.includes('\0')) return 'holds characters that cannot be stored'
    return json !== undefined && kindOfJson(value) !== json ? `is not the text of a JSON ${json}` : null
  }
}

function kindOfJson(value: string): 'object' | 'list' | null {
  try {
    const found: unknown = JSON.parse(value)
    if (Array.isArray(found)) return 'list'
    return typeof found === 'object' && found !== null ? 'object' : null
  } catch {
    return null
  }
}

type Key = readonly (number | string)[]

/** Texts are compared as both databases compare them: byte by byte, which for the ASCII of our ids is as JavaScript does. */
function ascends(before: Key, key: Key): boolean {
  for (const [i, part] of key.entries()) {
    const other = before[i]
    if (other === undefined || part > other) return true
    if (part < other) return false
  }
  return false
}
