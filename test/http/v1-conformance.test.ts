/**
 * /api/v1 against its own document: every operation is sent bodies, queries, paths and headers that are right and that are wrong in
 * each way that its schemas know, and whatever is answered has to be in the document, by status, type and schema. Nothing is
 * answered 5xx, and every 4xx names the field. No route is missing from the document, and none is in it that is not there.
 */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { rememberHashes } from '../support/remembered-hashes.ts'
import { until } from '../support/server-process.ts'
import { startTestServer, type TestServer } from '../support/test-server.ts'

interface Schema {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly enum?: readonly unknown[]
  readonly examples?: readonly unknown[]
  readonly default?: unknown
  readonly format?: string
  readonly pattern?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly items?: Schema
  readonly minItems?: number
  readonly maxItems?: number
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean | Schema
  readonly minProperties?: number
}

interface Parameter {
  readonly name: string
  readonly in: 'path' | 'query' | 'header'
  readonly required: boolean
  readonly schema: Schema
}

interface Operation {
  readonly operationId: string
  readonly security: readonly object[]
  readonly parameters?: readonly Parameter[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> }
  readonly responses: Readonly<
    Record<
      string,
      { readonly headers?: object; readonly content?: Readonly<Record<string, { readonly schema: Schema }>> }
    >
  >
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
}

/** What is sent. */
interface Sent {
  readonly path: string
  readonly token: string | null
  /** A text is sent as it is. */
  readonly body?: unknown
  readonly contentType?: string
  readonly headers?: Readonly<Record<string, string>>
}

const PASSWORD = 'correct horse'
/** Parts of paths, bodies and queries that name what is there. */
const KNOWN: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  createToken: { email: 'ada@example.org', password: PASSWORD },
  createUser: { name: 'Someone', email: 'someone@example.org', password: PASSWORD },
  changePool: { size: 4 },
  setPoolSize: { size: 4 },
  createPool: { size: 0, aliases: [] },
  changeUser: { email: 'changed@example.org', password: PASSWORD },
  // Of several ways to say something, one.
  createLease: {
    pool: 'default',
    pools: undefined,
    pool_selector: undefined,
    selector: undefined,
    machine: undefined,
    kinds: undefined,
    soft: undefined,
    soft_grace: undefined,
    labels: {},
  },
  changeLease: { ends_at: undefined },
  createReservation: {
    from: new Date(Date.now() + 3_600_000).toISOString(),
    to: undefined,
    selector: undefined,
    machine: undefined,
    kinds: undefined,
    recurrence: undefined,
    partial: undefined,
  },
}

/** What there is to name, new for each test, by the place at which it is named. */
const names: Record<string, string> = {}

let server: TestServer
let document: Document
const registered = new Set<string>()
const tokens = { admin: '', user: '' }
let secondToken = ''
const ajv = new Ajv2020({
  strict: false,
  allErrors: true,
  formats: { 'date-time': isTime, password: true, 'uri-reference': true },
})

function isTime(text: string): boolean {
  return !Number.isNaN(Date.parse(text)) && text.endsWith('Z')
}

function resolved(schema: Schema): Schema {
  if (schema.$ref === undefined) return schema
  const name = schema.$ref.split('/').at(-1) ?? ''
  return resolved(document.components.schemas[name] ?? assert.fail(`no schema ${schema.$ref}`))
}

/** A value that the schema takes. */
function sample(given: Schema): unknown {
  const schema = resolved(given)
  if (schema.examples !== undefined) return schema.examples[0]
  if (schema.enum !== undefined) return schema.enum[0]
  if (schema.default !== undefined) return schema.default
  const [type] = [schema.type].flat()
  if (type === 'object') {
    const inner = Object.entries(schema.properties ?? {})
    return Object.fromEntries(inner.map(([name, of]) => [name, sample(of)]))
  }
  if (type === 'array') return schema.items === undefined ? [] : [sample(schema.items)]
  if (type === 'integer' || type === 'number') return schema.minimum ?? 1
  if (type === 'boolean') return true
  if (schema.format === 'date-time') return '2026-11-24T09:00:00Z'
  return 'text'.padEnd(schema.minLength ?? 0, 'x')
}

/** Values that the schema does not take. */
function wrongs(given: Schema): unknown[] {
  const schema = resolved(given)
  const types = [schema.type].flat()
  const values: unknown[] = []
  const others: [string, unknown][] = [
    ['string', 'x'.repeat(3)],
    ['integer', 17],
    ['boolean', true],
    ['array', [1]],
    ['object', { strange: 1 }],
    ['null', null],
  ]
  for (const [type, value] of others)
    if (!types.includes(type) && !(type === 'integer' && types.includes('number'))) values.push(value)
  if (schema.enum !== undefined) values.push('no such word')
  if (types.includes('integer')) values.push(1.5)
  if (schema.minimum !== undefined) values.push(schema.minimum - 1)
  if (schema.maximum !== undefined) values.push(schema.maximum * 2)
  if (types.includes('string') && schema.enum === undefined) {
    if ((schema.minLength ?? 0) > 0) values.push('')
    if (schema.maxLength !== undefined) values.push('x'.repeat(schema.maxLength + 1))
    if (schema.pattern !== undefined) values.push('\u0000', ' ')
    values.push('\ud800')
  }
  if (types.includes('array') && schema.items !== undefined) {
    for (const wrong of wrongs(schema.items)) values.push([wrong])
    if (schema.maxItems !== undefined && schema.maxItems < 100)
      values.push(Array(schema.maxItems + 1).fill(sample(schema.items)))
  }
  if (types.includes('object') && schema.additionalProperties === false) {
    const right = sample(schema) as Record<string, unknown>
    for (const body of wrongObjects(schema, right)) values.push(body)
  }
  return values
}

/** Objects that are wrong in one place each. */
function wrongObjects(schema: Schema, right: Record<string, unknown>): unknown[] {
  const values: unknown[] = [
    { ...right, strange: 1 },
    { ...right, __proto__x: {} },
  ]
  for (const name of schema.required ?? []) {
    const { [name]: _, ...rest } = right
    values.push(rest)
  }
  for (const [name, of] of Object.entries(schema.properties ?? {}))
    for (const wrong of wrongs(of)) values.push({ ...right, [name]: wrong })
  if ((schema.minProperties ?? 0) > 0) values.push({})
  return values
}

const validators = new Map<string, ValidateFunction>()

function validatorOf(schema: Schema): ValidateFunction {
  const key = JSON.stringify(schema)
  let known = validators.get(key)
  if (known === undefined) {
    // References lead into the document.
    known = ajv.compile({ ...schema, components: document.components })
    validators.set(key, known)
  }
  return known
}

/** Sends a call, and holds the answer to the document. Returns its status. */
async function send(method: string, operation: Operation, sent: Sent): Promise<number> {
  const { path, token, body, contentType = 'application/json', headers = {} } = sent
  const text = body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body)
  const response = await fetch(server.url + path, {
    method: method.toUpperCase(),
    headers: {
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(text === null ? {} : { 'content-type': contentType }),
      ...headers,
    },
    ...(text === null ? {} : { body: text }),
  })
  const answer = await response.text()
  const { status } = response
  const told = `${method} ${path} ${text?.slice(0, 300) ?? ''} ${JSON.stringify(headers)} → ${status} ${answer.slice(0, 500)}`
  assert.ok(status < 500, told)
  const expected = operation.responses[status]
  assert.ok(expected, `not in the document: ${told}`)
  if (expected.content === undefined) {
    assert.equal(answer, '', told)
    return status
  }
  const type = (response.headers.get('content-type') ?? '').split(';')[0] ?? ''
  const content = expected.content[type]
  assert.ok(content, `type ${type} is not in the document: ${told}`)
  const value = (type.endsWith('json') ? JSON.parse(answer) : answer) as Record<string, unknown>
  const validate = validatorOf(content.schema)
  assert.ok(validate(value), `${ajv.errorsText(validate.errors)}: ${told}`)
  if (status >= 400) {
    assert.equal(value.status, status, told)
    assert.equal(typeof value.field, 'string', `it names no field: ${told}`)
    assert.equal(value.instance, response.headers.get('x-request-id'), told)
  }
  for (const name of Object.keys(expected.headers ?? {}))
    assert.ok(response.headers.get(name), `no ${name}: ${told}`)
  return status
}

before(async () => {
  server = await startTestServer(
    {},
    {
      extend(app) {
        app.addHook('onRoute', ({ method, url }) => {
          for (const one of [method].flat()) if (one !== 'HEAD') registered.add(`${one.toLowerCase()} ${url}`)
        })
      },
    },
  )
  rememberHashes(server.berth.hasher)
  const ada = { name: 'Ada', email: 'ada@example.org', password: PASSWORD }
  assert.equal((await server.call('POST', '/api/v1/users', ada)).status, 201)
  const signIn = async (email: string) =>
    (await server.call('POST', '/api/v1/tokens', { email, password: PASSWORD })).body.token as string
  tokens.admin = await signIn(ada.email)
  const asAdmin = { authorization: `Bearer ${tokens.admin}` }
  const bob = { name: 'Bob', email: 'bob@example.org', password: PASSWORD }
  assert.equal((await server.call('POST', '/api/v1/users', bob, asAdmin)).status, 201)
  tokens.user = await signIn(bob.email)
  const made = await server.call('POST', '/api/v1/pools', { name: 'default', size: 4 }, asAdmin)
  assert.equal(made.status, 201)
  const other = await server.call('POST', '/api/v1/tokens', { name: 'other' }, asAdmin)
  secondToken = other.body.id
  document = (await server.call('GET', '/api/v1/openapi.json')).body
  for (const [name, size] of [
    ['held', 1],
    ['ample', 20],
  ] as const) {
    await server.call('POST', '/api/v1/pools', { name, size, type_mix: { small: 1 } }, asAdmin)
    await until(
      async () =>
        (await server.call('GET', `/api/v1/pools/${name}`, undefined, asAdmin)).body.machines.free === size,
    )
  }
  await made201('/leases', { pool: 'held' })
  const link = await made201('/calendar-links')
  names.calendar = link.url.split('key=')[1] ?? ''
})

/** Makes something as the admin. */
async function made201(path: string, body?: object) {
  const reply = await server.call('POST', `/api/v1${path}`, body, { authorization: `Bearer ${tokens.admin}` })
  assert.ok(reply.status < 300, JSON.stringify(reply.body))
  return reply.body
}

let hours = 0

/** A new thing of each kind, for operations that name one. */
async function renewNames(): Promise<void> {
  names.leases = (await made201('/leases', { pool: 'ample', duration: 'PT1H' })).leases[0].id
  names.requests = (await made201('/leases', { pool: 'held', duration: 'PT1H', wait: 'forever' })).request.id
  const from = new Date(Date.now() + ++hours * 86_400_000).toISOString()
  const window = { pool: 'ample', from, duration: 'PT1H' }
  names.reservations = (await made201('/reservations', window)).reservations[0].id
  const recurrence = { rule: 'FREQ=DAILY;COUNT=2', time_zone: 'UTC' }
  names.series = (await made201('/reservations', { ...window, recurrence })).series_id
}

after(() => server.stop())

/** Every operation, those that take things away last. */
function operations(): [string, string, Operation][] {
  const all = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): [string, string, Operation] => [
      method,
      path,
      operation,
    ]),
  )
  return all.sort(([a], [b]) => Number(a === 'delete') - Number(b === 'delete'))
}

/** The path with what is there, for parameters that name something. */
function pathOf(path: string, operation: Operation): string {
  return (
    path.replace(/\{(\w+)\}/g, (_, name: string) => {
      if (path.startsWith('/api/v1/tokens/')) return secondToken
      if (path.startsWith('/api/v1/vm-types/')) return 'small'
      const [, , , place = ''] = path.split('/')
      if (names[place] !== undefined) return names[place]
      const parameter = operation.parameters?.find((one) => one.in === 'path' && one.name === name)
      return name === 'id' && path.includes('/users/') ? '2' : String(sample(parameter?.schema ?? {}))
    }) + queryOf(path)
  )
}

/** What has to be in the query. */
function queryOf(path: string): string {
  return path === '/api/v1/calendar.ics' ? `?key=${names.calendar}` : ''
}

/** A path with one more parameter in its query; another one of the same name goes. */
function withQuery(path: string, name: string, ...values: readonly string[]): string {
  const [at = '', query = ''] = path.split('?')
  const others = query.split('&').filter((pair) => pair !== '' && !pair.startsWith(`${name}=`))
  return `${at}?${[...others, ...values.map((value) => `${name}=${value}`)].join('&')}`
}

function rightBody(operation: Operation): Record<string, unknown> | undefined {
  const schema = operation.requestBody?.content['application/json']?.schema
  if (schema === undefined) return undefined
  return { ...(sample(schema) as object), ...KNOWN[operation.operationId] }
}

/** Runs `check` for every operation, and tells which of them failed. */
async function forEach(
  check: (method: string, path: string, operation: Operation) => Promise<void>,
): Promise<void> {
  await renewNames()
  const failures: string[] = []
  for (const [method, path, operation] of operations())
    await check(method, path, operation).catch((error: Error) =>
      failures.push(`${operation.operationId}: ${error.message}`),
    )
  assert.deepEqual(failures, [])
}

describe('the document of /api/v1', () => {
  it('names every route of the server, and no other', () => {
    const ours = [...registered]
      .filter((route) => route.includes(' /api/v1'))
      .map((route) => route.replace(/:(\w+)/g, '{$1}'))
    const documented = operations().map(([method, path]) => `${method} ${path}`)
    assert.ok(documented.length > 20)
    assert.deepEqual(documented.sort(), ours.sort())
  })

  it('is OpenAPI 3.1, names each operation once, and each reference leads somewhere', () => {
    assert.equal((document as unknown as { openapi: string }).openapi, '3.1.0')
    const ids = operations().map(([, , { operationId }]) => operationId)
    assert.equal(new Set(ids).size, ids.length)
    for (const [, ref] of JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g))
      assert.ok(document.components.schemas[ref ?? ''], `${ref} is nowhere`)
    for (const schema of Object.values(document.components.schemas)) validatorOf(schema)
  })
})

describe('every operation of /api/v1', () => {
  it('refuses callers without a token, or with one that does not hold', () =>
    forEach(async (method, path, operation) => {
      const needed = operation.security.length > 0 && operation.security.every((one) => 'token' in one)
      for (const [token, headers] of [
        [null, {}],
        [`berth_${'x'.repeat(43)}`, {}],
        [null, { authorization: 'Basic YTpi' }],
        [null, { authorization: 'Bearer' }],
        ['x', {}],
      ] as const) {
        const status = await send(method, operation, {
          path: pathOf(path, operation),
          token,
          headers,
          body: rightBody(operation),
        })
        if (needed) assert.equal(status, 401)
      }
    }))

  it('answers users and admins as the document says, whatever is right in the call', () =>
    forEach(async (method, path, operation) => {
      for (const token of [tokens.user, tokens.admin]) {
        if (method === 'delete' && token === tokens.admin) continue
        const status = await send(method, operation, {
          path: pathOf(path, operation),
          token,
          body: rightBody(operation),
        })
        if (token === tokens.admin) assert.ok(status < 400 || status === 409, `${status}`)
      }
    }))

  it('refuses paths and queries that are wrong', () =>
    forEach(async (method, path, operation) => {
      const token = tokens.admin
      const right = pathOf(path, operation)
      const body = rightBody(operation)
      const bad = async (wrong: string, status: number | null = null) => {
        const got = await send(method, operation, { path: wrong, token, body })
        assert.ok(status === null ? got >= 400 : got === status, `${wrong} was answered ${got}`)
      }
      await bad(withQuery(right, 'strange', '1'), 400)
      for (const parameter of operation.parameters ?? []) {
        if (parameter.in === 'query')
          for (const wrong of wrongs(parameter.schema)) {
            // In a query everything is text, so what is a number elsewhere may be a right text.
            if (typeof wrong === 'object' || typeof wrong === 'boolean') continue
            // Half a character cannot be written in a query.
            if (typeof wrong === 'string' && !wrong.isWellFormed()) continue
            if (parameter.schema.type === 'string' && typeof wrong === 'number') continue
            const text = encodeURIComponent(String(wrong))
            await bad(withQuery(right, parameter.name, text))
            await bad(withQuery(right, parameter.name, '1', '2'))
          }
        if (parameter.in === 'path')
          for (const wrong of [
            '%00',
            '%F0%9F%9A%80',
            '..%2f',
            '-1',
            'A'.repeat(300),
            '1.5',
            '99999999999999999999',
          ])
            await bad(path.replace(`{${parameter.name}}`, wrong))
      }
    }))

  it('refuses bodies that are wrong in one place', () =>
    forEach(async (method, path, operation) => {
      const schema = operation.requestBody?.content['application/json']?.schema
      if (method === 'get') return
      const at = { path: pathOf(path, operation), token: tokens.admin }
      const right = rightBody(operation)
      const wrong: unknown[] = ['{', '', '"text"', 'null', '[]', '17', '{"a":1,}', '{"__proto__":{"x":1}}']
      if (schema !== undefined) wrong.push(...wrongObjects(resolved(schema), right ?? {}))
      for (const body of wrong) {
        if (schema === undefined && body === 'null') continue
        // Naming a type without sending anything is no body at all.
        if (method === 'delete' && body === '') continue
        const status = await send(method, operation, { ...at, body })
        assert.ok(status >= 400, `${JSON.stringify(body)} was answered ${status}`)
      }
      const huge = await send(method, operation, {
        ...at,
        body: JSON.stringify({ name: 'x'.repeat(70_000) }),
      })
      assert.equal(huge, 413)
      for (const contentType of [
        'text/plain',
        'application/x-www-form-urlencoded',
        'application/jsonx',
        'multipart/form-data; boundary=x',
      ]) {
        const status = await send(method, operation, {
          ...at,
          body: JSON.stringify(right ?? {}),
          contentType,
        })
        assert.equal(status, 415, contentType)
      }
    }))

  it('answers whatever JSON is sent without a failure', () =>
    forEach(async (method, path, operation) => {
      if (method === 'get' || method === 'delete') return
      const right = rightBody(operation) ?? {}
      const names = Object.keys(right)
      const anything = fc.jsonValue({ maxDepth: 2 })
      const field = names.length === 0 ? fc.string() : fc.oneof(fc.constantFrom(...names), fc.string())
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.tuple(field, anything), { maxLength: 3 }),
          fc.boolean(),
          async (edits, whole) => {
            const { email: _, ...harmless } = right
            const body = { ...(whole ? harmless : {}), ...Object.fromEntries(edits) }
            await send(method, operation, { path: pathOf(path, operation), token: tokens.admin, body })
          },
        ),
        { numRuns: 25 },
      )
    }))

  it('refuses keys and ETags that are none, and those that do not fit', () =>
    forEach(async (method, path, operation) => {
      const names = (operation.parameters ?? []).map(({ name }) => name)
      const at = { path: pathOf(path, operation), token: tokens.admin, body: rightBody(operation) }
      if (names.includes('Idempotency-Key'))
        for (const key of ['', 'with space', 'x'.repeat(256), 'ü'])
          assert.equal(
            await send(method, operation, { ...at, headers: { 'idempotency-key': key } }),
            400,
            key,
          )
      if (names.includes('If-Match')) {
        for (const etag of ['', 'x', '"a" "b"'])
          assert.equal(await send(method, operation, { ...at, headers: { 'if-match': etag } }), 400, etag)
        assert.equal(
          await send(method, operation, { ...at, headers: { 'if-match': '"stale", W/"weak"' } }),
          412,
        )
      }
    }))

  it('refuses other methods, and other paths, as problems too', async () => {
    for (const [, path, operation] of operations()) {
      const response = await fetch(server.url + pathOf(path, operation), { method: 'OPTIONS' })
      assert.equal(response.status, 405, path)
      assert.match(response.headers.get('content-type') ?? '', /^application\/problem\+json/)
      assert.equal(((await response.json()) as { code: string }).code, 'method_wrong')
    }
    for (const path of [
      '/api/v1',
      '/api/v1/',
      '/api/v1/none',
      '/api/v1/pools/a/b/c',
      '/api/v1?x=1',
      '/api/v1/%zz',
    ]) {
      const response = await fetch(server.url + path)
      assert.ok([400, 404].includes(response.status), path)
      assert.match(response.headers.get('content-type') ?? '', /^application\/problem\+json/, path)
    }
  })

  it('takes things away as the document says', () =>
    forEach(async (method, path, operation) => {
      if (method !== 'delete') return
      for (let i = 0; i < 2; i++) {
        const status = await send(method, operation, { path: pathOf(path, operation), token: tokens.admin })
        assert.ok([200, 204, 404, 409, 410].includes(status), `${status}`)
      }
    }))
})
