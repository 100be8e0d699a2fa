/** A server with users for tests of /api/v1, and a client for each of them. */
import assert from 'node:assert/strict'
import { rememberHashes } from './remembered-hashes.ts'
import { until } from './server-process.ts'
import { type Reply, startTestServer, type TestServer } from './test-server.ts'

/** Calls /api/v1 as one user. */
export type V1Client = (
  method: string,
  path: string,
  body?: unknown,
  headers?: Record<string, string>,
) => Promise<Reply>

export interface V1Server {
  readonly server: TestServer
  /** The admin (id 1), and users (ids 2 and 3). */
  readonly ada: V1Client
  readonly bob: V1Client
  readonly eve: V1Client
  /** The secrets of their tokens. */
  readonly secrets: { readonly ada: string; readonly bob: string; readonly eve: string }
}

export async function startV1Server(
  settings: Parameters<typeof startTestServer>[0] = {},
  options: Parameters<typeof startTestServer>[1] = {},
): Promise<V1Server> {
  const server = await startTestServer(settings, options)
  rememberHashes(server.berth.hasher)
  const signUp = async (name: 'ada' | 'bob' | 'eve', as: Record<string, string>) => {
    const credentials = { email: `${name}@example.org`, password: `${name}-pw` }
    assert.equal((await server.call('POST', '/api/v1/users', { name, ...credentials }, as)).status, 201)
    const { body } = await server.call('POST', '/api/v1/tokens', credentials)
    return body.token as string
  }
  const ada = await signUp('ada', {})
  const asAdmin = { authorization: `Bearer ${ada}` }
  const secrets = { ada, bob: await signUp('bob', asAdmin), eve: await signUp('eve', asAdmin) }
  const client =
    (secret: string): V1Client =>
    (method, path, body, headers = {}) =>
      server.call(method, `/api/v1${path}`, body, { authorization: `Bearer ${secret}`, ...headers })
  return {
    server,
    secrets,
    ada: client(secrets.ada),
    bob: client(secrets.bob),
    eve: client(secrets.eve),
  }
}

/** Makes a pool of ready machines, which are cleaned by themselves. */
export async function makePool(
  ada: V1Client,
  name: string,
  size: number,
  policy: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  const body = { name, size, type_mix: { small: 1 }, cleaning: 'automatic', cool_down: 'PT0S', ...policy }
  const made = await ada('POST', '/pools', body)
  assert.equal(made.status, 201, JSON.stringify(made.body))
  await until(async () => (await ada('GET', `/pools/${name}`)).body.machines.free === size)
}

/** The events of an installation of some kinds, in words that tests compare. */
export async function eventsOf({ berth }: TestServer, prefix: string): Promise<string[]> {
  const events = await berth.reads.events({ afterId: 0, rowsMax: 10_000 })
  return events.filter(({ type }) => type.startsWith(prefix)).map(({ type }) => type)
}

export function assertProblem({ status, body, headers }: Reply, expected: number, code: string): void {
  assert.equal(status, expected, JSON.stringify(body))
  assert.equal(body.code, code, JSON.stringify(body))
  assert.match(headers.get('content-type') ?? '', /^application\/problem\+json/)
}
