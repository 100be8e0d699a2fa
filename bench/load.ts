/**
 * The load generator: keep-alive connections over plain sockets, each with one request under way. It does as little as it can
 * for each answer, so that the server is the bottleneck and not the one who measures.
 */
import { connect, type Socket } from 'node:net'

/** What one connection does. */
export interface Client {
  /** The next request, given the answer to the one before (null at first). */
  next(answer: Answer | null): Buffer
  /** True when the last answer left nothing behind that this client has to give back. */
  atRest(): boolean
}

export interface Answer {
  readonly status: number
  /** The whole answer, head and body. */
  readonly text: string
}

export interface LoadResult {
  readonly requests: number
  readonly seconds: number
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  /** Answers with a status of 400 or more. */
  readonly errors: number
  readonly firstError: string | null
}

export interface LoadOptions {
  readonly url: string
  readonly clients: readonly Client[]
  readonly seconds: number
}

/** Runs all clients for a time, then lets each come to rest. */
export async function runLoad({ url, clients, seconds }: LoadOptions): Promise<LoadResult> {
  const { hostname, port } = new URL(url)
  const latencies: number[] = []
  let errors = 0
  let firstError: string | null = null
  const beganMs = performance.now()
  const endMs = beganMs + seconds * 1_000
  await Promise.all(
    clients.map(
      (client) =>
        new Promise<void>((resolve, reject) => {
          const socket: Socket = connect({ host: hostname, port: Number(port), noDelay: true })
          let sentMs = 0
          let pending = ''
          const send = (request: Buffer) => {
            sentMs = performance.now()
            socket.write(request)
          }
          socket.on('connect', () => send(client.next(null)))
          socket.on('error', reject)
          socket.on('close', () => resolve())
          socket.on('data', (chunk) => {
            pending = pending === '' ? chunk.toString('latin1') : pending + chunk.toString('latin1')
            if (!isWhole(pending)) return
            const now = performance.now()
            latencies.push(now - sentMs)
            const status = Number(pending.slice(9, 12))
            const answer = { status, text: pending }
            pending = ''
            if (status >= 400) {
              errors++
              firstError ??= answer.text
            }
            const request = client.next(answer)
            if (now >= endMs && client.atRest()) socket.end()
            else send(request)
          })
        }),
    ),
  )
  const took = (performance.now() - beganMs) / 1_000
  const sorted = Float64Array.from(latencies).sort()
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
  return {
    requests: sorted.length,
    seconds: took,
    perSecond: sorted.length / took,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: sorted.at(-1) ?? 0,
    errors,
    firstError,
  }
}

function isWhole(text: string): boolean {
  const headEnd = text.indexOf('\r\n\r\n')
  if (headEnd < 0) return false
  const at = text.indexOf('content-length: ')
  if (at < 0 || at > headEnd) return text.endsWith('0\r\n\r\n')
  const length = Number(text.slice(at + 16, text.indexOf('\r', at)))
  return text.length >= headEnd + 4 + length
}

/** One HTTP request with a JSON body. */
export function post(path: string, body: object): Buffer {
  const text = JSON.stringify(body)
  return Buffer.from(
    `POST ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  )
}

/** One HTTP GET. */
export function get(path: string): Buffer {
  return Buffer.from(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`)
}

/** A client that sends the same request again and again. */
export function repeating(request: Buffer): Client {
  return { next: () => request, atRest: () => true }
}

/** A client that goes through checkout, check-in and an admin's maintenance with whichever machine it gets. */
export function cycling(
  userid: number,
  password: string,
  admin: { userid: number; password: string },
  /** The pool by name; null: the original API's. */
  pool: string | null = null,
): Client {
  const auth = { userid, password }
  const prefix = pool === null ? '' : `/pool/${pool}`
  const checkout = post(`${prefix}/checkout_vm`, { auth })
  let step = 0
  let vmid = 0
  return {
    next(answer) {
      if (answer !== null && answer.status >= 400) step = 0
      else if (answer !== null) step = (step + 1) % 3
      if (step === 0) return checkout
      if (step === 1) {
        const text = answer?.text ?? ''
        vmid = Number.parseInt(text.slice(text.indexOf('"vm-Id":') + 8), 10)
        return post(`${prefix}/checkin_vm`, { auth, vmid })
      }
      return post(`${prefix}/maintenance`, { auth: admin, vmid })
    },
    atRest: () => step === 0,
  }
}

/** One HTTP request to /api/v1. */
function v1(method: string, path: string, token: string, body: object | null = null): Buffer {
  const text = body === null ? '' : JSON.stringify(body)
  const type =
    body === null ? '' : `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n`
  return Buffer.from(
    `${method} /api/v1${path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer ${token}\r\n${type}\r\n${text}`,
  )
}

function bodyOf({ text }: Answer): unknown {
  return JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4))
}

/** A client of /api/v1 that takes whichever machine is free and gives it back. */
export function leasing(token: string, body: object): Client {
  const ask = v1('POST', '/leases', token, body)
  let lease: string | null = null
  return {
    next(answer) {
      if (answer === null || lease !== null) {
        lease = null
        return ask
      }
      lease = (bodyOf(answer) as { leases: { id: string }[] }).leases[0]?.id ?? ''
      return v1('DELETE', `/leases/${lease}`, token)
    },
    atRest: () => lease === null,
  }
}

/** What clients of a queue went through together. */
export interface QueueLoad {
  grants: number
  /** From a check-in to the answer that grants its machine to somebody who waits. */
  readonly grantMs: number[]
  /** When each machine was given back, until it is granted again. */
  readonly givenBackMs: Map<string, number>
}

/** A client of /api/v1 that asks for a machine, waits for it by long poll, gives it back, and asks again. */
export function queueing(token: string, body: object, shared: QueueLoad): Client {
  const ask = v1('POST', '/leases', token, body)
  let isHeld = false
  let isAsking = true
  const hold = (lease: string) => {
    isHeld = true
    shared.grants++
    return v1('DELETE', `/leases/${lease}`, token)
  }
  const machineOf = (lease: string) => lease.slice(0, lease.indexOf('-'))
  return {
    next(answer) {
      isAsking = answer === null || isHeld
      isHeld = false
      if (answer === null || isAsking) return ask
      const said = bodyOf(answer) as {
        id?: string
        leases?: (string | { id: string })[]
        request?: { id: string }
      }
      const [lease] = said.leases ?? []
      if (typeof lease === 'object') return hold(lease.id)
      if (lease === undefined) return v1('GET', `/requests/${said.request?.id ?? said.id}?wait=PT10S`, token)
      const machine = machineOf(lease)
      const sinceMs = shared.givenBackMs.get(machine)
      if (sinceMs !== undefined) shared.grantMs.push(performance.now() - sinceMs)
      shared.givenBackMs.delete(machine)
      const giveBack = hold(lease)
      shared.givenBackMs.set(machine, performance.now())
      return giveBack
    },
    atRest: () => isAsking,
  }
}
