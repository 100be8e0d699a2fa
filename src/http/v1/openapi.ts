/** The OpenAPI 3.1 document of /api/v1, made of the table of routes. */
import { STATUS_CODES } from 'node:http'
import type { TSchema } from 'typebox'
import { Type } from 'typebox'
import { REFUSALS, type RefusalCode } from '../../domain/refusal.ts'
import { PARTIAL_TYPE } from './page.ts'
import { PROBLEM_TYPE } from './problem.ts'
import type { Answer, Route } from './route.ts'
import { named, nullable, strict } from './schema.ts'

const PROBLEM = named(
  'Problem',
  strict({
    type: Type.String({ format: 'uri-reference', description: 'where the code is explained' }),
    title: Type.String(),
    status: Type.Integer({ minimum: 400, maximum: 599 }),
    detail: Type.String({ description: 'a sentence for people' }),
    instance: Type.String({ description: 'the id of the request, as in the log and in X-Request-Id' }),
    code: Type.String({
      description: 'what happened, for programs; it never changes its meaning',
      enum: Object.keys(REFUSALS),
    }),
    field: nullable(Type.String({ description: 'the field, parameter or header that it is about' })),
    details: Type.Unsafe<Record<string, unknown>>({
      type: 'object',
      description: 'what `detail` is made of',
    }),
  }),
)

/** What any call may be refused with. */
const ANY: readonly RefusalCode[] = [
  'request_unreadable',
  'path_invalid',
  'field_invalid',
  'field_unknown',
  'foreign_request',
  'host_unknown',
  'head_too_large',
  'request_slow',
  'expectation_unknown',
  'rate_limited',
  'internal_error',
  'overloaded',
  'store_unavailable',
]
const WITH_TOKEN: readonly RefusalCode[] = ['token_missing', 'token_invalid']
const WITH_BODY: readonly RefusalCode[] = [
  'body_invalid',
  'body_too_large',
  'content_type_wrong',
  'field_missing',
]
const CHANGING: readonly RefusalCode[] = ['resetting', 'outcome_unknown']

/** Every refusal of a route. */
export function refusalsOf(route: Route): RefusalCode[] {
  return [
    ...new Set([
      ...ANY,
      ...(route.auth === 'none' ? [] : WITH_TOKEN),
      ...(route.action === undefined ? [] : (['not_allowed'] as const)),
      ...(route.method === 'GET' ? [] : [...WITH_BODY, ...CHANGING]),
      ...(route.method === 'POST' ? (['idempotency_key_reused'] as const) : []),
      ...(route.ifMatch ? (['etag_stale'] as const) : []),
      ...(route.refusals ?? []),
    ]),
  ]
}

const KEY_PARAMETER = {
  name: 'Idempotency-Key',
  in: 'header',
  required: false,
  description:
    'Drawn by the caller for this call. The same call again within a day has the same answer and no second effect; `Idempotency-Replayed: true` tells.',
  schema: { type: 'string', minLength: 1, maxLength: 255 },
}

const IF_MATCH_PARAMETER = {
  name: 'If-Match',
  in: 'header',
  required: false,
  description:
    'The ETag of what is to be changed, as it was read: the call is refused when it has changed since.',
  schema: { type: 'string' },
}

const HEADERS = {
  ETag: { description: 'tells this state of the thing from others', schema: { type: 'string' } },
  Location: { description: 'where the new thing is', schema: { type: 'string', format: 'uri-reference' } },
}

const DESCRIPTION = `Reserve virtual machines from shared pools.

Times are UTC (RFC 3339), durations ISO 8601 in weeks, days, hours, minutes and seconds. Keys are snake_case, and unknown ones are refused.
Lists come in pages: \`limit\`, and \`cursor\` with the \`next\` of the page before. Every refusal is a problem document (RFC 9457) with a stable \`code\`.`

type Json = Record<string, unknown>

/** The document. Schemas with a title are lifted into its components. */
export function openApiOf(routes: readonly Route[]): Json {
  const schemas: Record<string, unknown> = {}
  const lift = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(lift)
    if (typeof value !== 'object' || value === null) return value
    const inner = Object.fromEntries(
      Object.entries(value).map(([key, part]) => [
        key,
        key === 'examples' || key === 'enum' ? part : lift(part),
      ]),
    )
    const { title } = inner
    if (typeof title !== 'string' || inner.type === undefined) return inner
    schemas[title] ??= inner
    return { $ref: `#/components/schemas/${title}` }
  }
  const paths: Record<string, Json> = {}
  for (const route of routes) {
    const path = paths[`/api/v1${route.path}`] ?? {}
    paths[`/api/v1${route.path}`] = path
    path[route.method.toLowerCase()] = operationOf(route, lift)
  }
  const tags = [...new Set(routes.map(({ tag }) => tag))].map((name) => ({ name }))
  lift(PROBLEM)
  return {
    openapi: '3.1.0',
    info: {
      title: 'Berth',
      version: '1.0.0',
      description: DESCRIPTION,
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/' }],
    tags,
    paths,
    components: {
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'an API token, from POST /api/v1/tokens' },
      },
      schemas,
    },
  }
}

function operationOf(route: Route, lift: (value: unknown) => unknown): Json {
  const parameters = [
    ...parametersOf(route.params, 'path', lift),
    ...parametersOf(route.query, 'query', lift),
    ...(route.method === 'POST' ? [KEY_PARAMETER] : []),
    ...(route.ifMatch ? [IF_MATCH_PARAMETER] : []),
  ]
  const responses: Record<string, unknown> = {}
  for (const [status, answer] of Object.entries(route.answers)) {
    const headers = Object.fromEntries((answer.headers ?? []).map((name) => [name, HEADERS[name]]))
    responses[status] = {
      description: answer.description,
      ...(Object.keys(headers).length === 0 ? {} : { headers }),
      ...(answer.schema === null ? {} : { content: contentOf(route, answer, answer.schema, lift) }),
    }
  }
  const byStatus = Map.groupBy(refusalsOf(route), (code) => REFUSALS[code].status)
  for (const [status, codes] of [...byStatus].sort(([a], [b]) => a - b))
    responses[status] = {
      description: `${STATUS_CODES[status]}: ${codes.join(', ')}`,
      content: { [PROBLEM_TYPE]: { schema: { $ref: '#/components/schemas/Problem' } } },
    }
  const security = { bearer: [{ token: [] }], optional: [{}, { token: [] }], none: [] }[route.auth]
  return {
    operationId: route.id,
    tags: [route.tag],
    summary: route.summary,
    ...(route.description === undefined ? {} : { description: route.description }),
    security,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(route.body === undefined
      ? {}
      : { requestBody: { required: true, content: { 'application/json': { schema: lift(route.body) } } } }),
    responses,
  }
}

/** A list or a thing whose fields can be picked has a second type of answer, which promises none of them. */
function contentOf(
  route: Route,
  { streams, type = 'application/json' }: Answer,
  schema: TSchema,
  lift: (value: unknown) => unknown,
): Json {
  const whole = {
    [type]: { schema: lift(schema) },
    ...(streams ? { 'text/event-stream': { schema: { type: 'string' } } } : {}),
  }
  const picks = route.query !== undefined && 'fields' in route.query.properties
  return picks ? { ...whole, [PARTIAL_TYPE]: { schema: { type: 'object' } } } : whole
}

function parametersOf(
  schema: Route['params'],
  place: 'path' | 'query',
  lift: (value: unknown) => unknown,
): Json[] {
  if (schema === undefined) return []
  const required: readonly string[] = schema.required ?? []
  return Object.entries(schema.properties as Record<string, { description?: string }>).map(
    ([name, { description, ...rest }]) => ({
      name,
      in: place,
      required: place === 'path' || required.includes(name),
      ...(description === undefined ? {} : { description }),
      schema: lift(rest),
    }),
  )
}
