/**
 * The pieces of which the schemas of /api/v1 are made. A schema is the one source of what is checked, of the types that the handlers
 * see, of how answers are written, and of the OpenAPI document. Keys are snake_case; times are UTC (RFC 3339), durations ISO 8601.
 */
import { type Static, type TObject, type TProperties, type TSchema, Type } from 'typebox'
import { DURATION_PATTERN } from './duration.ts'

/** An object that has these properties and no others. */
export function strict<P extends TProperties>(properties: P, options: object = {}): TObject<P> {
  return Type.Object(properties, { additionalProperties: false, ...options })
}

/** A schema that stands in the document under a name of its own. */
export function named<S extends TSchema>(title: string, schema: S): S {
  return { ...schema, title }
}

/** A schema that takes null too. */
export function nullable<S extends TSchema>(schema: S) {
  const { type, enum: words } = schema as { type?: string; enum?: unknown[] }
  return Type.Unsafe<Static<S> | null>({
    ...schema,
    type: [type, 'null'],
    ...(words === undefined ? {} : { enum: [...words, null] }),
  })
}

/** One of some words. */
export function words<const W extends readonly string[]>(list: W, options: object = {}) {
  return Type.Unsafe<W[number]>({ type: 'string', enum: [...list], ...options })
}

/** A map from names to values of one kind. */
export function mapOf<S extends TSchema>(value: S, options: object = {}) {
  return Type.Unsafe<Record<string, Static<S>>>({ type: 'object', additionalProperties: value, ...options })
}

export const id = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })

export const time = Type.String({ format: 'date-time', examples: ['2026-11-24T09:00:00.000Z'] })

export const duration = Type.String({
  pattern: DURATION_PATTERN,
  maxLength: 40,
  description: 'ISO 8601, in weeks, days, hours, minutes and seconds',
  examples: ['PT1H'],
})

/** A text without control characters, as every store keeps it. */
export function text(lengthMax: number, options: object = {}) {
  return Type.String({ minLength: 1, maxLength: lengthMax, pattern: STORABLE, ...options })
}

/** Something that is not white space, and no control characters. */
const STORABLE = '^[^\\u0000-\\u001f\\u007f]*[^\\s\\u0000-\\u001f\\u007f][^\\u0000-\\u001f\\u007f]*$'

const LABEL_PART = '[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?'

export const labels = mapOf(Type.String({ pattern: `^${LABEL_PART}$` }), {
  propertyNames: { pattern: `^${LABEL_PART}$` },
  maxProperties: 32,
  examples: [{ os: 'debian' }],
})

/** What the name of a pool or of a size of machine looks like. */
export const NAME_PATTERN = '^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$'

export const name = Type.String({
  pattern: NAME_PATTERN,
  description:
    '1 to 63 small letters, digits, dots, underscores and dashes, beginning and ending with a letter or digit',
  examples: ['default'],
})

export const PAGE_ROWS = 50
const PAGE_ROWS_MAX = 500

/** What every list takes. */
export const page = {
  limit: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: PAGE_ROWS_MAX,
      default: PAGE_ROWS,
      description: 'how many items at most',
    }),
  ),
  cursor: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 200,
      pattern: '^[A-Za-z0-9_-]+$',
      description: '`next` of the page before; none: from the start',
    }),
  ),
}

/** What every read takes. */
export const fields = Type.Optional(
  Type.String({
    minLength: 1,
    maxLength: 500,
    pattern: '^[a-z_]+(?:,[a-z_]+)*$',
    description:
      'the fields wanted, separated by commas; none: all. The answer is then `application/vnd.berth.partial+json`',
    examples: ['id,name'],
  }),
)

/** Several words of a list, separated by commas. */
export function wordList(list: readonly string[], description: string) {
  const one = `(?:${list.join('|')})`
  return Type.String({
    pattern: `^${one}(?:,${one})*$`,
    maxLength: 200,
    description,
    examples: [list.slice(0, 2).join()],
  })
}

/** A page of a list. */
export function pageOf<S extends TSchema>(item: S) {
  return named(
    `${(item as { title?: string }).title}Page`,
    strict({
      items: Type.Array(item),
      next: nullable(Type.String({ description: 'the cursor of the next page; null: this is the last' })),
    }),
  )
}

export function timeText(atMs: number): string {
  return new Date(atMs).toISOString()
}

export function timeTextOrNull(atMs: number | null): string | null {
  return atMs === null ? null : timeText(atMs)
}
