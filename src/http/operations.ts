/** Routes for whoever operates the server: is it alive, may it be sent requests, how is it doing. */
import type { FastifyInstance } from 'fastify'
import type { Berth } from '../service/berth.ts'
import type { Metrics } from './metrics.ts'

export function operationRoutes(
  app: FastifyInstance,
  berth: Berth,
  metrics: Metrics,
  stopping: () => boolean,
): void {
  app.get('/healthz', (_request, reply) => reply.send({ status: 'ok' }))

  app.get('/readyz', async (_request, reply) => {
    const reason = stopping() ? 'stopping' : await storeProblem(berth)
    if (reason === null) return reply.send({ status: 'ready' })
    return reply.code(503).header('retry-after', 2).send({ status: 'not ready', reason })
  })

  app.get('/metrics', async (_request, reply) => {
    return reply.header('content-type', metrics.contentType).send(await metrics.text())
  })
}

async function storeProblem(berth: Berth): Promise<string | null> {
  try {
    await berth.reads.ping()
    return null
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
