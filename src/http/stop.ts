/**
 * How the HTTP server ends: it accepts nothing new, answers what is under way, and closes what is only kept open. A request
 * of which a part has arrived gets a moment for the rest; a connection on which nothing was ever sent gets none.
 */
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Schedule } from '../service/schedule.ts'

/** How long requests under way may take before their connections are cut. */
const ANSWER_MS_MAX = 35_000
/** How long the rest of a request may take to arrive. */
const REST_MS_MAX = 1_000
const LOOK_AGAIN_MS = 20

/** Requests that are not answered yet, and connections that are open. */
export class UnderWay {
  readonly #sockets = new Set<Socket>()
  #requests = 0
  #waiting: (() => void)[] = []

  /** Follows all requests and connections of `app`. */
  follow(app: FastifyInstance): void {
    app.server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    })
    app.addHook('onRequest', (_request, reply, next) => {
      this.#requests++
      // Not onResponse: that is not told of answers whose client has gone.
      reply.raw.once('close', () => {
        this.#requests--
        if (this.#requests === 0) for (const resolve of this.#waiting.splice(0)) resolve()
      })
      next()
    })
  }

  /** Resolves when every request is answered. */
  async answered(): Promise<void> {
    while (this.#requests > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  /** Closes connections on which nothing was ever sent. */
  closeUnused(): void {
    for (const socket of this.#sockets) if (socket.bytesRead === 0) socket.destroy()
  }
}

/** Stops `app`; resolves when all its connections are closed. */
export async function stopHttp(app: FastifyInstance, underWay: UnderWay, schedule: Schedule): Promise<void> {
  let ended = false
  const closing = app.close().then(() => {
    ended = true
  })
  const over = new AbortController()
  await Promise.race([underWay.answered(), schedule.sleep(ANSWER_MS_MAX, over.signal)])
  over.abort()
  for (let waitedMs = 0; !ended && waitedMs < REST_MS_MAX; waitedMs += LOOK_AGAIN_MS) {
    app.server.closeIdleConnections()
    underWay.closeUnused()
    await Promise.race([closing, schedule.sleep(LOOK_AGAIN_MS)])
  }
  app.server.closeAllConnections()
  await closing
}
