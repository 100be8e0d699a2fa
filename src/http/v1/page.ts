/** How every list of /api/v1 is given in pages, and how fields are picked. */
import { type Refusal, refusal } from '../../domain/refusal.ts'
import { type Outcome, said } from './route.ts'
import { PAGE_ROWS } from './schema.ts'

export const PARTIAL_TYPE = 'application/vnd.berth.partial+json'

export interface PageQuery {
  readonly limit?: number
  readonly cursor?: string
  readonly fields?: string
}

interface PageSource<Row> {
  /** What keys look like. */
  readonly keys: RegExp
  /** Rows behind `after` (null: from the start), at most so many, in the order of their keys. */
  read(after: string | null, rowsMax: number): Promise<readonly Row[]>
  /** What a row is found by; a page begins behind one. */
  key(row: Row): string
  show(row: Row): unknown
  /** The fields that an item has. */
  readonly fields: readonly string[]
}

/** A page of a list. Refused: `field_invalid` (a cursor that was not given by us, a field that there is none of). */
export async function pageOutcome<Row>(
  query: PageQuery,
  source: PageSource<Row>,
): Promise<Outcome | Refusal> {
  const limit = query.limit ?? PAGE_ROWS
  const after = query.cursor === undefined ? null : cursorKey(query.cursor)
  if (query.cursor !== undefined && (after === null || !source.keys.test(after)))
    return refusal('field_invalid', {
      field: 'cursor',
      value: query.cursor,
      allowed: '`next` of another page',
    })
  const rows = await source.read(after, limit + 1)
  const shown = rows.slice(0, limit)
  const last = shown.at(-1)
  const next = rows.length > limit && last !== undefined ? cursorOf(source.key(last)) : null
  const items = shown.map((row) => source.show(row))
  if (query.fields === undefined) return said(200, { items, next })
  const picked = pickerOf(query.fields, source.fields)
  if (typeof picked !== 'function') return picked
  return partial({ items: items.map(picked), next })
}

/** One thing, or some of its fields. Refused: `field_invalid`. */
export function oneOutcome(
  query: Pick<PageQuery, 'fields'>,
  known: readonly string[],
  body: object,
  headers: Outcome['headers'] = {},
): Outcome | Refusal {
  if (query.fields === undefined) return said(200, body, headers)
  const picked = pickerOf(query.fields, known)
  return typeof picked === 'function' ? partial(picked(body), headers) : picked
}

/** Keys that are ids which were counted. */
export const ID_KEYS = /^[1-9]\d{0,15}$/

/** Ids behind this one are on the page; 0: all. */
export function idAfter(after: string | null): number {
  return after === null ? 0 : Number(after)
}

function partial(body: unknown, headers: Outcome['headers'] = {}): Outcome {
  return said(200, JSON.stringify(body), { ...headers, 'content-type': `${PARTIAL_TYPE}; charset=utf-8` })
}

function pickerOf(fields: string, known: readonly string[]): ((item: unknown) => object) | Refusal {
  const wanted = fields.split(',')
  const unknown = wanted.find((field) => !known.includes(field))
  if (unknown !== undefined)
    return refusal('field_invalid', {
      field: 'fields',
      value: unknown,
      allowed: `some of ${known.join(', ')}`,
    })
  return (item) =>
    Object.fromEntries(wanted.map((field) => [field, (item as Record<string, unknown>)[field]]))
}

const CURSOR = 'k1.'

function cursorOf(key: string): string {
  return Buffer.from(CURSOR + key).toString('base64url')
}

function cursorKey(cursor: string): string | null {
  const text = Buffer.from(cursor, 'base64url').toString()
  // A cursor of ours comes out the same when it is written again, and its key is printable.
  if (!/^k1\.[\x21-\x7e]{1,120}$/.test(text) || cursorOf(text.slice(CURSOR.length)) !== cursor) return null
  return text.slice(CURSOR.length)
}
