/** What GET /metrics tells, in Prometheus' text format. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { Reads } from '../store/port.ts'

export interface Metrics {
  readonly contentType: string
  text(): Promise<string>
  batch(batch: { commands: number; commitMs: number }): void
  /** `route`: the route's pattern, never the path. */
  request(method: string, route: string, status: number, seconds: number): void
}

export interface MetricsSources {
  readonly reads: () => Reads
  readonly waiting: () => number
}

export function createMetrics(sources: MetricsSources): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })

  const requests = new Histogram({
    name: 'berth_http_request_duration_seconds',
    help: 'Time from the first byte of a request to the end of its answer.',
    labelNames: ['method', 'route', 'status'] as const,
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30],
    registers,
  })
  const commands = new Histogram({
    name: 'berth_batch_commands',
    help: 'Commands in a batch that changed something.',
    buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256],
    registers,
  })
  const commits = new Histogram({
    name: 'berth_commit_duration_seconds',
    help: 'Time to save a batch and sync it to disk.',
    buckets: [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1],
    registers,
  })
  const committed = new Counter({
    name: 'berth_commands_total',
    help: 'Commands in committed batches.',
    registers,
  })
  new Gauge({
    name: 'berth_commands_waiting',
    help: 'Commands that wait for a batch.',
    registers,
    collect() {
      this.set(sources.waiting())
    },
  })
  new Gauge({
    name: 'berth_pool_machines',
    help: 'Machines of a pool by type and state.',
    labelNames: ['pool', 'type', 'state'] as const,
    registers,
    async collect() {
      this.reset()
      for (const { pool, states } of await sources.reads().pools())
        for (const { type, state, count } of states) this.set({ pool: pool.name, type, state }, count)
    },
  })
  new Gauge({
    name: 'berth_pool_target_machines',
    help: 'The size that a pool is meant to have.',
    labelNames: ['pool'] as const,
    registers,
    async collect() {
      this.reset()
      for (const { pool } of await sources.reads().pools()) this.set({ pool: pool.name }, pool.target)
    },
  })

  // Looking a child up by its labels costs more than observing it.
  const children = new Map<string, ReturnType<typeof requests.labels>>()
  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    batch(batch) {
      commands.observe(batch.commands)
      commits.observe(batch.commitMs / 1_000)
      committed.inc(batch.commands)
    },
    request(method, route, status, seconds) {
      const key = `${method} ${route} ${status}`
      let child = children.get(key)
      if (child === undefined) {
        child = requests.labels(method, route, `${status}`)
        children.set(key, child)
      }
      child.observe(seconds)
    },
  }
}
