/** Pools: everybody sees them, admins make, change, size and delete them. */
import { type Static, Type } from 'typebox'
import { POOL_SIZE_MAX, type Pool, type PoolPolicy, sizePreview, type Tally } from '../../domain/pool.ts'
import { poolEtag } from '../../domain/pool-policy.ts'
import { isRefusal, type Refusal, refusal } from '../../domain/refusal.ts'
import { PRIORITIES } from '../../domain/request.ts'
import { VM_STATES, type Vm, type VmState } from '../../domain/vm.ts'
import type { Berth } from '../../service/berth.ts'
import type { PoolReading } from '../../store/port.ts'
import { durationSeconds, durationText } from './duration.ts'
import { ID_KEYS, idAfter, oneOutcome, pageOutcome } from './page.ts'
import { DONE, type Outcome, perform, type Route, route, said } from './route.ts'
import {
  duration,
  fields,
  id,
  labels,
  mapOf,
  NAME_PATTERN,
  name,
  named,
  nullable,
  page,
  pageOf,
  strict,
  time,
  timeText,
  timeTextOrNull,
  words,
} from './schema.ts'

const size = Type.Integer({
  minimum: 0,
  maximum: POOL_SIZE_MAX,
  description: 'how many machines it is meant to have',
})
const whole = (maximum: number) => nullable(Type.Integer({ minimum: 1, maximum }))
const share = Type.Integer({ minimum: 0, maximum: 1_000_000 })
const factor = Type.Number({ minimum: 0.001, maximum: 1_000_000 })
const lasting = (description: string) => ({ ...duration, description })
const priority = words(PRIORITIES)

/** What can be said of a pool: policy by policy. */
const policies = {
  type_mix: mapOf(share, {
    propertyNames: { pattern: NAME_PATTERN },
    minProperties: 1,
    maxProperties: 64,
    description: 'shares of the sizes of machine, by name',
    examples: [{ small: 2, large: 1 }],
  }),
  cleaning: words(['manual', 'automatic'], {
    description: 'manual: a machine that came back waits for an admin',
  }),
  provider: Type.String({
    minLength: 1,
    maxLength: 63,
    pattern: '^[a-z0-9-]+$',
    description: 'what makes, cleans and destroys its machines',
    examples: ['simulated'],
  }),
  provider_settings: Type.Unsafe<Record<string, unknown>>({
    type: 'object',
    maxProperties: 100,
    description: 'what the provider is told of this pool',
  }),
  labels,
  aliases: Type.Array(name, {
    maxItems: 16,
    uniqueItems: true,
    description: 'other names that lead to it',
    examples: [['lab-1']],
  }),
  lease_default: nullable(lasting('how long a lease is that says nothing of its length; null: without end')),
  lease_max: nullable(lasting('the longest lease; null: any')),
  warn_before: lasting('how long before the end of a lease its holder is warned'),
  cool_down: lasting('how long a machine rests before it is cleaned'),
  cleaning_time: lasting('how long cleaning takes as long as none was observed'),
  making_time: lasting('how long making a machine takes as long as none was observed'),
  grid: lasting('the step in which the future is planned'),
  soft_grace: lasting('how long the holder of a soft lease keeps the machine once somebody needs it'),
  no_show_after: nullable(
    lasting('how long a reservation that has begun waits for its holder; null: to its end'),
  ),
  users: nullable(
    Type.Array(id, {
      maxItems: 10_000,
      uniqueItems: true,
      description: 'who may use it, by id, beside admins; null: everybody',
    }),
  ),
  quota: strict({
    machines: whole(POOL_SIZE_MAX),
    vcpu: whole(1_000_000_000),
    hours_week: whole(1_000_000_000),
    waiting: whole(1_000_000),
  }),
  units: mapOf(factor, {
    propertyNames: { pattern: NAME_PATTERN },
    maxProperties: 64,
    description: 'what a machine of a size costs in the fair queue; 1 where nothing is said',
  }),
  weights: strict({ low: factor, normal: factor, high: factor }),
  priority_max: strict({ admin: priority, user: priority }),
}

const optional = Object.fromEntries(
  Object.entries(policies).map(([key, schema]) => [key, Type.Optional(schema as unknown as typeof size)]),
) as unknown as { [K in keyof typeof policies]: ReturnType<typeof Type.Optional<(typeof policies)[K]>> }

const count = Type.Integer({ minimum: 0 })
const states = strict(
  Object.fromEntries(VM_STATES.map((state) => [state, count])) as Record<VmState, typeof count>,
)

const properties = {
  name,
  size,
  machines: strict(
    {
      existing: count,
      free: Type.Integer({ minimum: 0, description: 'ready, and not about to be removed' }),
      by_state: states,
      by_type: mapOf(states),
    },
    { description: 'what there is of it now' },
  ),
  waiting: Type.Integer({ minimum: 0, description: 'requests that wait' }),
  booked: Type.Integer({ minimum: 0, description: 'reservations to come or under way' }),
  ...policies,
  created_at: time,
}

const POOL = named('Pool', strict(properties))

const CREATION = named('PoolCreation', strict({ name, size: Type.Optional(size), ...optional }))

const CHANGE = named('PoolChange', strict({ size: Type.Optional(size), ...optional }, { minProperties: 1 }))

/** Machines in the way of a size that are named. */
const IN_THE_WAY_MAX = 100

const SIZE = named(
  'PoolSize',
  strict({
    size,
    existing: count,
    to_make: count,
    to_remove: Type.Integer({ minimum: 0, description: 'that can go at once' }),
    waits_for: mapOf(count, {
      description: 'machines, by state, some of which have to come back before the size is reached',
    }),
    in_the_way: Type.Array(
      strict({
        id,
        state: words(VM_STATES),
        until: nullable(
          Type.String({
            format: 'date-time',
            description: 'when it is expected to be ready again; null: nobody knows',
          }),
        ),
      }),
      {
        description: `the machines behind \`waits_for\`, those that come back first; at most ${IN_THE_WAY_MAX}`,
      },
    ),
    dry_run: Type.Boolean({ description: 'true: this is what would be done' }),
  }),
)

const FIELDS = Object.keys(properties)
const byName = strict({ name })

type Policies = { [K in keyof typeof policies]: Static<(typeof policies)[K]> }

/** The policies that a body names, as the domain has them. */
function policyOf(body: Partial<Policies>): Partial<PoolPolicy> {
  const seconds = (text: string | undefined) =>
    text === undefined ? undefined : (durationSeconds(text) ?? 0)
  const secondsOrNull = (text: string | null | undefined) => (text === null ? null : seconds(text))
  const { quota } = body
  const policy = {
    typeMix: body.type_mix,
    cleaning: body.cleaning,
    provider: body.provider,
    providerSettings: body.provider_settings,
    labels: body.labels,
    aliases: body.aliases,
    leaseSecondsDefault: secondsOrNull(body.lease_default),
    leaseSecondsMax: secondsOrNull(body.lease_max),
    warnSeconds: seconds(body.warn_before),
    coolDownSeconds: seconds(body.cool_down),
    marginSeconds: seconds(body.cleaning_time),
    makeSeconds: seconds(body.making_time),
    gridSeconds: seconds(body.grid),
    softGraceSeconds: seconds(body.soft_grace),
    noShowSeconds: secondsOrNull(body.no_show_after),
    userIds: body.users,
    quota:
      quota === undefined
        ? undefined
        : {
            machinesMax: quota.machines,
            vcpuMax: quota.vcpu,
            hoursWeekMax: quota.hours_week,
            waitingMax: quota.waiting,
          },
    units: body.units,
    weights: body.weights,
    priorityMax: body.priority_max,
  }
  return Object.fromEntries(
    Object.entries(policy).filter(([, value]) => value !== undefined),
  ) as Partial<PoolPolicy>
}

function policiesOf(pool: Pool): Policies {
  const textOrNull = (seconds: number | null) => (seconds === null ? null : durationText(seconds))
  const { quota } = pool
  return {
    type_mix: pool.typeMix as Record<string, number>,
    cleaning: pool.cleaning,
    provider: pool.provider,
    provider_settings: pool.providerSettings,
    labels: pool.labels,
    aliases: [...pool.aliases],
    lease_default: textOrNull(pool.leaseSecondsDefault),
    lease_max: textOrNull(pool.leaseSecondsMax),
    warn_before: durationText(pool.warnSeconds),
    cool_down: durationText(pool.coolDownSeconds),
    cleaning_time: durationText(pool.marginSeconds),
    making_time: durationText(pool.makeSeconds),
    grid: durationText(pool.gridSeconds),
    soft_grace: durationText(pool.softGraceSeconds),
    no_show_after: textOrNull(pool.noShowSeconds),
    users: pool.userIds === null ? null : [...pool.userIds],
    quota: {
      machines: quota.machinesMax,
      vcpu: quota.vcpuMax,
      hours_week: quota.hoursWeekMax,
      waiting: quota.waitingMax,
    },
    units: pool.units as Record<string, number>,
    weights: pool.weights,
    priority_max: pool.priorityMax,
  }
}

const NO_STATES = Object.fromEntries(VM_STATES.map((state) => [state, 0])) as Record<VmState, number>

function machinesOf({ stats, states }: Pick<PoolReading, 'stats' | 'states'>) {
  const byState = { ...NO_STATES }
  const byType: Record<string, Record<VmState, number>> = {}
  for (const { type, state, count } of states) {
    byState[state] += count
    const ofType = byType[type] ?? { ...NO_STATES }
    byType[type] = ofType
    ofType[state] += count
  }
  const above = Math.max(0, stats.existing - stats.target - byState.provisioning)
  return {
    existing: stats.existing,
    free: Math.max(0, byState.ready - above),
    by_state: byState,
    by_type: byType,
  }
}

function shown(reading: PoolReading): Static<typeof POOL> {
  const { pool } = reading
  return {
    name: pool.name,
    size: pool.target,
    machines: machinesOf(reading),
    waiting: pool.queue.waiting,
    booked: pool.queue.booked,
    ...policiesOf(pool),
    created_at: timeText(pool.createdAtMs),
  }
}

function outcomeOf(status: number, reading: PoolReading, headers: Outcome['headers'] = {}): Outcome {
  return said(status, shown(reading), { ...headers, etag: poolEtag(reading.pool) })
}

/** A pool that was just made: nothing of it exists yet. */
function fresh(pool: Pool): PoolReading {
  return { pool, stats: { target: pool.target, existing: 0, free: 0, leased: 0, aside: 0 }, states: [] }
}

/** The pool that a name or an alias leads to. Refused: `pool_unknown`. */
export async function poolCalled(berth: Berth, name: string): Promise<PoolReading | Refusal> {
  const reading =
    (await berth.reads.poolNamed(name)) ??
    (await berth.reads.pools()).find(({ pool }) => pool.aliases.includes(name))
  return reading === undefined || reading.pool.retired ? refusal('pool_unknown', { pool: name }) : reading
}

/** Why a pool cannot have this provider; null: it can, or this server does not know which there are. */
function providerRefusal({ settings }: Berth, provider: string | undefined): Refusal | null {
  const { providers } = settings
  if (provider === undefined || providers === undefined || providers.includes(provider)) return null
  return refusal('field_invalid', {
    field: 'provider',
    value: provider,
    allowed: `one of ${providers.join(', ')}`,
  })
}

/** Machines that have to come back before a size is reached, those first that are expected first. */
async function inTheWay({ reads }: Berth, poolId: number, waitsFor: Partial<Record<VmState, number>>) {
  const vms: Vm[] = []
  for (const state of Object.keys(waitsFor) as VmState[])
    vms.push(...(await reads.vmsOfPool(poolId, { state }, { afterId: 0, rowsMax: IN_THE_WAY_MAX })))
  const freeAtMs = (vm: Vm) => vm.freeAtMs ?? Number.POSITIVE_INFINITY
  return vms
    .sort((a, b) => freeAtMs(a) - freeAtMs(b) || a.id - b.id)
    .slice(0, IN_THE_WAY_MAX)
    .map((vm) => ({ id: vm.id, state: vm.state, until: timeTextOrNull(vm.freeAtMs) }))
}

async function sizeOf(berth: Berth, reading: PoolReading, size: number, dryRun: boolean): Promise<Outcome> {
  const tally: Tally = {}
  for (const { type, state, count } of reading.states) {
    const states = tally[type] ?? {}
    tally[type] = states
    states[state] = count
  }
  const { existing, made, removed, waitsFor } = sizePreview(tally, size)
  const body = {
    size,
    existing,
    to_make: made,
    to_remove: removed,
    waits_for: waitsFor,
    in_the_way: await inTheWay(berth, reading.pool.id, waitsFor),
    dry_run: dryRun,
  }
  return said(200, body, { etag: poolEtag(reading.pool) })
}

export const POOL_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/pools',
    id: 'listPools',
    tag: 'pools',
    summary: 'All pools',
    auth: 'bearer',
    query: strict({ ...page, fields }),
    answers: { 200: { description: 'a page of pools', schema: pageOf(POOL) } },
    async handle({ berth, query }) {
      return pageOutcome(query, {
        keys: ID_KEYS,
        async read(after, rowsMax) {
          const readings = await berth.reads.pools()
          return readings.filter(({ pool }) => pool.id > idAfter(after)).slice(0, rowsMax)
        },
        key: ({ pool }) => `${pool.id}`,
        show: shown,
        fields: FIELDS,
      })
    },
  }),
  route({
    method: 'POST',
    path: '/pools',
    id: 'createPool',
    tag: 'pools',
    summary: 'Make a pool',
    description: 'Its machines are made after the answer; `machines` tells how many there are.',
    auth: 'bearer',
    action: 'pool.change',
    body: CREATION,
    answers: { 201: { description: 'the pool', schema: POOL, headers: ['Location', 'ETag'] } },
    refusals: ['pool_name_taken'],
    async handle(call) {
      const { berth, caller, body, requestId } = call
      const no = providerRefusal(berth, body.provider)
      if (no !== null) return no
      const { name, size = 0, ...said } = body
      const policy = policyOf(said as Partial<Policies>)
      return perform(call, { kind: 'createPool', actor: caller, name, size, policy, requestId }, ({ pool }) =>
        outcomeOf(201, fresh(pool), { location: `/api/v1/pools/${pool.name}` }),
      )
    },
  }),
  route({
    method: 'GET',
    path: '/pools/{name}',
    id: 'getPool',
    tag: 'pools',
    summary: 'One pool, by its name or an alias',
    auth: 'bearer',
    params: byName,
    query: strict({ fields }),
    answers: { 200: { description: 'the pool', schema: POOL, headers: ['ETag'] } },
    refusals: ['pool_unknown'],
    async handle({ berth, params, query }) {
      const reading = await poolCalled(berth, params.name)
      if (isRefusal(reading)) return reading
      return oneOutcome(query, FIELDS, shown(reading), { etag: poolEtag(reading.pool) })
    },
  }),
  route({
    method: 'PATCH',
    path: '/pools/{name}',
    id: 'changePool',
    tag: 'pools',
    summary: 'Change policies or the size of a pool',
    description:
      'What the body does not name stays as it is. A policy that is a list or a map is replaced as a whole.',
    auth: 'bearer',
    action: 'pool.change',
    params: byName,
    body: CHANGE,
    ifMatch: true,
    answers: { 200: { description: 'the pool', schema: POOL, headers: ['ETag'] } },
    refusals: ['pool_unknown', 'pool_name_taken'],
    async handle({ berth, caller, params, body, ifMatch, requestId }) {
      const reading = await poolCalled(berth, params.name)
      if (isRefusal(reading)) return reading
      const no = providerRefusal(berth, body.provider)
      if (no !== null) return no
      const { size = null, ...said } = body
      const policy = policyOf(said as Partial<Policies>)
      const pool = reading.pool.name
      const changed = await berth.submit({
        kind: 'changePool',
        actor: caller,
        pool,
        size,
        policy,
        ifMatch,
        requestId,
      })
      if (isRefusal(changed)) return changed
      return outcomeOf(200, { ...reading, ...(await berth.reads.pool(changed.pool.id)), pool: changed.pool })
    },
  }),
  route({
    method: 'DELETE',
    path: '/pools/{name}',
    id: 'deletePool',
    tag: 'pools',
    summary: 'Delete a pool that is empty',
    description: 'Set its size to 0 and wait until its machines are gone: nobody’s machine is taken away.',
    auth: 'bearer',
    action: 'pool.change',
    params: byName,
    ifMatch: true,
    answers: { 204: { description: 'it is deleted', schema: null } },
    refusals: ['pool_unknown', 'pool_not_empty'],
    async handle({ berth, caller, params, ifMatch, requestId }) {
      const reading = await poolCalled(berth, params.name)
      if (isRefusal(reading)) return reading
      const pool = reading.pool.name
      const done = await berth.submit({ kind: 'deletePool', actor: caller, pool, ifMatch, requestId })
      return isRefusal(done) ? done : DONE
    },
  }),
  route({
    method: 'GET',
    path: '/pools/{name}/size',
    id: 'getPoolSize',
    tag: 'pools',
    summary: 'The size of a pool, and what is still to be done for it',
    auth: 'bearer',
    params: byName,
    answers: { 200: { description: 'the size', schema: SIZE, headers: ['ETag'] } },
    refusals: ['pool_unknown'],
    async handle({ berth, params }) {
      const reading = await poolCalled(berth, params.name)
      return isRefusal(reading) ? reading : sizeOf(berth, reading, reading.pool.target, false)
    },
  }),
  route({
    method: 'PUT',
    path: '/pools/{name}/size',
    id: 'setPoolSize',
    tag: 'pools',
    summary: 'Give a pool another size',
    description:
      'Machines are made and removed after the answer. Nobody’s machine is taken away: what is in use above the new size goes when it comes back.',
    auth: 'bearer',
    action: 'pool.change',
    params: byName,
    query: strict({
      dry_run: Type.Optional(Type.Boolean({ default: false, description: 'only tell what would be done' })),
    }),
    body: named('PoolSizeChange', strict({ size })),
    ifMatch: true,
    answers: { 200: { description: 'what is to be done', schema: SIZE, headers: ['ETag'] } },
    refusals: ['pool_unknown'],
    async handle({ berth, caller, params, query, body, ifMatch, requestId }) {
      const reading = await poolCalled(berth, params.name)
      if (isRefusal(reading)) return reading
      if (query.dry_run) return sizeOf(berth, reading, body.size, true)
      const command = {
        kind: 'changePool',
        actor: caller,
        pool: reading.pool.name,
        ...body,
        policy: {},
      } as const
      const changed = await berth.submit({ ...command, ifMatch, requestId })
      if (isRefusal(changed)) return changed
      return sizeOf(berth, { ...reading, pool: changed.pool }, body.size, false)
    },
  }),
]
