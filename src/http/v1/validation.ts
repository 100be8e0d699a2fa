/**
 * Checks what was sent against a schema, and says in a refusal which field is wrong and what it may be. Nothing is repaired and
 * nothing is dropped: a field that nobody knows is refused, as it is most likely a misspelt one. What comes in a path or a query is
 * text, and is read as numbers and yes or no where the schema wants those.
 */
import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js'
import type { TObject } from 'typebox'
import { type Refusal, refusal } from '../../domain/refusal.ts'

const options = {
  strict: false,
  allErrors: false,
  verbose: true,
  useDefaults: true,
  formats: { 'date-time': isTime, password: true },
} as const
const exact = new Ajv2020(options)
const fromText = new Ajv2020({ ...options, coerceTypes: true })

/** Checks a value, and fills in defaults. */
export type Check = (value: unknown) => Refusal | null

/** `part`: what a field is called by when it is the whole value. */
export function checkOf(schema: TObject, part: 'body' | 'query' | 'path'): Check {
  const validate: ValidateFunction = (part === 'body' ? exact : fromText).compile(schema)
  const known = Object.keys(schema.properties).join(', ')
  return (value) => {
    if (validate(value)) return null
    const [error] = validate.errors ?? []
    if (error === undefined) throw new Error('a check failed without saying why')
    return refusalOf(error, part, known)
  }
}

/** A time as RFC 3339 has it, in UTC or with its distance from it. */
function isTime(text: string): boolean {
  return (
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/.test(text) &&
    !Number.isNaN(Date.parse(text))
  )
}

function refusalOf(error: ErrorObject, part: string, known: string): Refusal {
  const inside = error.instancePath
    .slice(1)
    .split('/')
    .filter((key) => key !== '')
    .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'))
  const params = error.params as Record<string, unknown>
  const field = (key?: unknown) => [...inside, ...(key === undefined ? [] : [String(key)])].join('.')
  if (error.keyword === 'required') return refusal('field_missing', { field: field(params.missingProperty) })
  if (error.keyword === 'additionalProperties') {
    const siblings = Object.keys((error.parentSchema as { properties?: object }).properties ?? {}).join(', ')
    const words = siblings === '' && inside.length === 0 ? known : siblings
    return refusal('field_unknown', {
      field: field(params.additionalProperty).slice(0, 100),
      known: words === '' ? 'nothing' : words,
    })
  }
  if (error.instancePath === '' && error.keyword === 'type')
    return refusal('body_invalid', {
      reason: `it is ${error.data === undefined ? 'missing' : kindOf(error.data)}`,
    })
  const named = field() === '' ? part : field()
  const secret = /password|token|secret/.test(named)
  return refusal('field_invalid', {
    field: named,
    value: secret || error.data === undefined ? null : error.data,
    allowed: allowedBy(error),
  })
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'a list' : `a ${typeof value}`
}

/** What a value may be, in the words of the rule that it broke. */
function allowedBy({ keyword, params, parentSchema, schema }: ErrorObject): string {
  const of = (parentSchema ?? {}) as Record<string, unknown>
  const { description, minimum, maximum, minLength, maxLength, minItems, maxItems } = of
  switch (keyword) {
    case 'type':
      return [params.type]
        .flat()
        .map((type) => TYPES[String(type)] ?? type)
        .join(' or ')
    case 'minimum':
    case 'maximum':
    case 'exclusiveMinimum':
      if (minimum !== undefined && maximum !== undefined) return `from ${minimum} to ${maximum}`
      return minimum !== undefined ? `${minimum} or more` : `at most ${maximum}`
    case 'minLength':
    case 'maxLength':
      return `a text of ${minLength ?? 0} to ${maxLength ?? 'any number of'} characters`
    case 'minItems':
    case 'maxItems':
      return `a list of ${minItems ?? 0} to ${maxItems ?? 'any number of'} items`
    case 'minProperties':
      return `an object with at least ${params.limit} of the known fields`
    case 'maxProperties':
      return `an object with at most ${params.limit} fields`
    case 'uniqueItems':
      return 'a list without repetitions'
    case 'enum':
      return `one of ${(schema as unknown[]).filter((word) => word !== null).join(', ')}`
    case 'const':
      return JSON.stringify(schema)
    case 'format':
      return 'a time as RFC 3339 has it'
    case 'propertyNames':
      return 'an object whose keys match the rule of this field'
    default:
      return typeof description === 'string' ? description : `as ${JSON.stringify(schema)}`
  }
}

const TYPES: Readonly<Record<string, string>> = {
  string: 'a text',
  integer: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  object: 'an object',
  array: 'a list',
  null: 'null',
}
