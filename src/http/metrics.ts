/** What GET /metrics tells, in Prometheus' text format. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { NewEvent } from '../domain/event.ts'
import type { Reads } from '../store/port.ts'

export interface Metrics {
  readonly contentType: string
  text(): Promise<string>
  batch(batch: { commands: number; commitMs: number }): void
  /** What a commit brought. */
  happened(events: readonly NewEvent[]): void
  /** `route`: the route's pattern, never the path. */
  request(method: string, route: string, status: number, seconds: number): void
}

export interface MetricsSources {
  readonly reads: () => Reads
  readonly waiting: () => number
  readonly now: () => number
}

/** Reservations that are under way are counted one by one, up to so many in a pool. */
const ACTIVE_MAX = 10_000

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

  new Gauge({
    name: 'berth_queue_waiting',
    help: 'Requests that wait for machines of a pool.',
    labelNames: ['pool'] as const,
    registers,
    async collect() {
      this.reset()
      for (const { pool } of await sources.reads().pools()) this.set({ pool: pool.name }, pool.queue.waiting)
    },
  })
  new Gauge({
    name: 'berth_queue_oldest_seconds',
    help: 'How long the oldest of the requests that wait for machines of a pool has waited; 0 when none does.',
    labelNames: ['pool'] as const,
    registers,
    async collect() {
      this.reset()
      const reads = sources.reads()
      for (const { pool } of await reads.pools()) {
        // Ids sort by when they were drawn.
        const [oldest] =
          pool.queue.waiting === 0
            ? []
            : await reads.requests({ poolId: pool.id, state: 'waiting' }, { after: '', rowsMax: 1 })
        const waitedMs = oldest === undefined ? 0 : sources.now() - oldest.createdAtMs
        this.set({ pool: pool.name }, Math.max(0, waitedMs) / 1_000)
      }
    },
  })
  new Gauge({
    name: 'berth_reservations',
    help: 'Reservations of a pool that are to come (confirmed) or under way (active).',
    labelNames: ['pool', 'state'] as const,
    registers,
    async collect() {
      this.reset()
      const reads = sources.reads()
      for (const { pool } of await reads.pools()) {
        const { booked } = pool.queue
        const filter = { poolId: pool.id, state: 'active' } as const
        const active =
          booked === 0 ? 0 : (await reads.reservations(filter, { after: '', rowsMax: ACTIVE_MAX })).length
        this.set({ pool: pool.name, state: 'active' }, active)
        this.set({ pool: pool.name, state: 'confirmed' }, Math.max(0, booked - active))
      }
    },
  })
  const grants = new Histogram({
    name: 'berth_grant_seconds',
    help: 'Time from a request to its machines; 0 when they were had at once.',
    buckets: [0, 1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400],
    registers,
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
    happened(events) {
      const atOnce = new Set<string>()
      for (const { type, actorId, userId, requestId, data } of events)
        if (type === 'request.granted') grants.observe(Number(data?.waitedMs ?? 0) / 1_000)
        // Whoever is granted at once has done it themselves; a call may have got several machines.
        else if (type === 'vm.checked_out' && actorId === userId && data?.by === undefined)
          atOnce.add(requestId ?? '')
      for (const _ of atOnce) grants.observe(0)
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
