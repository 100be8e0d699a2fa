/**
 * Lists of the original API: one object keyed by id. Short ones are answered at once; long ones are streamed slice by slice,
 * so memory stays flat and other calls are answered in between. A list is not one snapshot: each slice is as of its reading.
 */
import { Readable } from 'node:stream'
import type { Schedule } from '../../service/schedule.ts'
import type { Slice } from '../../store/port.ts'

const SLICE_ROWS_MAX = 200

export interface ListSource<Row extends { readonly id: number }> {
  /** The key that the list stands under. */
  readonly key: string
  /** What stands there when nothing is found. */
  readonly empty: string
  read(slice: Slice): Promise<Row[]>
  show(row: Row): unknown
}

/** The answer's text, or a stream of it; null when nothing is found. */
export async function listBody<Row extends { readonly id: number }>(
  source: ListSource<Row>,
  schedule: Schedule,
): Promise<string | Readable | null> {
  const first = await source.read({ afterId: 0, rowsMax: SLICE_ROWS_MAX })
  if (first.length === 0) return null
  const head = `{${JSON.stringify(source.key)}:{${textOf(first, source)}`
  if (first.length < SLICE_ROWS_MAX) return `${head}}}`
  return Readable.from(parts(head, first, source, schedule), { objectMode: false, highWaterMark: 65_536 })
}

export function emptyBody(source: Pick<ListSource<{ id: number }>, 'key' | 'empty'>): string {
  return JSON.stringify({ [source.key]: source.empty })
}

async function* parts<Row extends { readonly id: number }>(
  head: string,
  first: readonly Row[],
  source: ListSource<Row>,
  schedule: Schedule,
): AsyncGenerator<string> {
  yield head
  let last = first.at(-1)
  while (last !== undefined) {
    await schedule.pause()
    const rows = await source.read({ afterId: last.id, rowsMax: SLICE_ROWS_MAX })
    if (rows.length > 0) yield `,${textOf(rows, source)}`
    last = rows.length < SLICE_ROWS_MAX ? undefined : rows.at(-1)
  }
  yield '}}'
}

function textOf<Row extends { readonly id: number }>(rows: readonly Row[], source: ListSource<Row>): string {
  return rows.map((row) => `"${row.id}":${JSON.stringify(source.show(row))}`).join(',')
}
