/** Requests that fetch cannot send: a body on a GET, headers of a browser, any bytes at all. */
import { type Agent, type IncomingHttpHeaders, request } from 'node:http'
import { connect } from 'node:net'

export interface RawReply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
}

interface RawRequest {
  readonly method: string
  readonly path: string
  readonly headers?: Record<string, string>
  /** Sent as it is, with its length. */
  readonly body?: string | undefined
  /** false: over a connection of its own. */
  readonly agent?: Agent | false
  /** How long the server may be silent; 15 s unless given. */
  readonly silenceMsMax?: number
}

/** A server that is silent for so long has forgotten the request. */
const SILENCE_MS_MAX = 15_000

/** Sends a request as it is given, without anything of its own but Host and Content-Length. */
export function rawRequest(
  url: string,
  { method, path, headers, body, agent, silenceMsMax = SILENCE_MS_MAX }: RawRequest,
): Promise<RawReply> {
  const { hostname, port } = new URL(url)
  const length: Record<string, number> =
    body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }
  return new Promise((resolve, reject) => {
    const sent = request({
      hostname,
      port,
      method,
      path,
      headers: { ...length, ...headers },
      ...(agent === undefined ? {} : { agent }),
    })
    sent.setTimeout(silenceMsMax, () => sent.destroy(new Error(`silence for ${silenceMsMax} ms`)))
    sent.once('error', reject)
    sent.once('response', (reply) => {
      const chunks: Buffer[] = []
      reply.on('data', (chunk: Buffer) => chunks.push(chunk))
      reply.once('error', reject)
      reply.once('end', () =>
        resolve({
          status: reply.statusCode ?? 0,
          headers: reply.headers,
          text: Buffer.concat(chunks).toString(),
        }),
      )
    })
    sent.end(body)
  })
}

/** Sends bytes over a connection of their own, and returns all that came back until the server closed it. */
export function rawBytes(url: string, bytes: string | Buffer): Promise<string> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const socket = connect(Number(port), hostname, () => socket.end(bytes))
    socket.on('data', (chunk) => chunks.push(chunk))
    socket.once('error', reject)
    socket.once('close', () => resolve(Buffer.concat(chunks).toString()))
  })
}
