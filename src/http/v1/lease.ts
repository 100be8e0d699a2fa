/**
 * Leases: machines asked for, kept for longer or shorter, handed on, shared, and given back. A lease is named by its machine and the
 * generation that the machine got with it, so a name never means a later lease of the same machine.
 */
import { type Static, Type } from 'typebox'
import type { Joined } from '../../domain/decision.ts'
import type { Join } from '../../domain/join.ts'
import { LEASE_ENDS, type Lease, leaseId } from '../../domain/lease.ts'
import { may } from '../../domain/permission.ts'
import { isRefusal, type Refusal, type RefusalCode, refusal } from '../../domain/refusal.ts'
import { PRIORITIES } from '../../domain/request.ts'
import { SHARED_WITH_MAX } from '../../domain/share-lease.ts'
import type { Vm } from '../../domain/vm.ts'
import { classOf } from '../../domain/vm-class.ts'
import type { Berth } from '../../service/berth.ts'
import type { LeaseFilter, PoolReading } from '../../store/port.ts'
import { DURATION_PATTERN, durationSeconds, durationText } from './duration.ts'
import { oneOutcome, pageOutcome } from './page.ts'
import { REQUEST, shownRequest } from './request.ts'
import { type Call, type Outcome, perform, type Route, route, said } from './route.ts'
import {
  duration,
  fields,
  id,
  labels,
  named,
  nullable,
  page,
  pageOf,
  strict,
  text,
  time,
  timeText,
  timeTextOrNull,
  words,
} from './schema.ts'
import { listed, poolNameOf, poolNames, scope } from './whose.ts'
import { poolFields, poolsOf, wishFields, wishOf } from './wish.ts'

const LEASE_ID_PATTERN = '^[1-9]\\d{0,15}-[1-9]\\d{0,15}$'

const leaseName = Type.String({
  pattern: LEASE_ID_PATTERN,
  description: 'machine and generation',
  examples: ['41-3'],
})

const properties = {
  id: leaseName,
  pool: Type.String(),
  user_id: id,
  machine: strict({
    id,
    name: nullable(Type.String({ description: 'null: the machine is gone' })),
    type: nullable(Type.String()),
    labels: nullable(labels),
    address: nullable(Type.String({ description: 'null once the lease is over' })),
  }),
  generation: Type.Integer({ minimum: 1, description: 'also its ETag' }),
  started_at: time,
  ends_at: nullable(Type.String({ format: 'date-time', description: 'null: without end' })),
  ended_at: nullable(Type.String({ format: 'date-time', description: 'null: it runs' })),
  ended_by: nullable(words(LEASE_ENDS)),
  soft: Type.Boolean({ description: 'kept as long as nobody else needs the machine' }),
  soft_grace: nullable(duration),
  heartbeat: nullable({ ...duration, description: 'it ends when no heartbeat came for so long' }),
  heartbeat_by: nullable(time),
  request_id: nullable(Type.String()),
  reservation_id: nullable(Type.String()),
  purpose: nullable(Type.String()),
  labels,
  shared_with: Type.Array(id, { description: 'users who see the machine and may send heartbeats, by id' }),
}

const LEASE = named('Lease', strict(properties))

const FIELDS = Object.keys(properties)

/** A lease; `vm` null: its machine is gone. */
function shownLease(lease: Lease, vm: Vm | null, pool: string): Static<typeof LEASE> {
  const { softGraceSeconds, heartbeatSeconds, endedAtMs } = lease
  const runs = endedAtMs === null
  return {
    id: leaseId(lease),
    pool,
    user_id: lease.userId,
    machine: {
      id: lease.vmId,
      name: vm?.name ?? null,
      type: vm?.type ?? null,
      labels: vm === null ? null : { ...classOf(vm.class).labels },
      address: runs ? (vm?.address ?? null) : null,
    },
    generation: lease.generation,
    started_at: timeText(lease.fromMs),
    ends_at: timeTextOrNull(lease.endsAtMs),
    ended_at: timeTextOrNull(endedAtMs),
    ended_by: lease.endedBy,
    soft: softGraceSeconds !== null,
    soft_grace: softGraceSeconds === null ? null : durationText(softGraceSeconds),
    heartbeat: heartbeatSeconds === null ? null : durationText(heartbeatSeconds),
    heartbeat_by: runs ? timeTextOrNull(lease.beatByMs) : null,
    request_id: lease.requestId,
    reservation_id: lease.reservationId,
    purpose: lease.purpose,
    labels: { ...lease.labels },
    shared_with: [...lease.sharedWith],
  }
}

function etagOf({ generation }: Pick<Lease, 'generation'>): string {
  return `"${generation}"`
}

function outcomeOf(status: number, lease: Lease, vm: Vm | null, pool: string): Outcome {
  return said(status, shownLease(lease, vm, pool), { etag: etagOf(lease) })
}

const LEASE_SECONDS_MAX = 100 * 366 * 86_400
const HEARTBEAT_SECONDS_MIN = 5

const CREATION = named(
  'LeaseCreation',
  strict({
    ...poolFields,
    ...wishFields,
    duration: Type.Optional(
      nullable({ ...duration, description: 'null: without end; what the pool says when it is left out' }),
    ),
    min_duration: Type.Optional({
      ...duration,
      description: 'a shorter lease will do, down to this: it is taken when nothing else fits',
    }),
    soft: Type.Optional(
      Type.Boolean({
        description: 'without end, until somebody else needs the machine; then you have the grace to leave',
      }),
    ),
    soft_grace: Type.Optional({
      ...duration,
      description: 'of a soft lease; what the pool says when it is left out',
    }),
    heartbeat: Type.Optional({
      ...duration,
      description: 'the lease ends when you have sent no heartbeat for so long',
    }),
    purpose: Type.Optional(text(500)),
    labels: Type.Optional(labels),
    priority: Type.Optional(words(PRIORITIES)),
    wait: Type.Optional(
      Type.String({
        pattern: `^(?:forever|${DURATION_PATTERN.slice(1, -1)})$`,
        maxLength: 40,
        description:
          'how long to wait in the queue when nothing is free: a duration, or `forever`; not at all when it is left out',
        examples: ['PT0S'],
      }),
    ),
  }),
)

const GRANTED = named('LeasesGranted', strict({ leases: Type.Array(LEASE) }))
const QUEUED = named('RequestQueued', strict({ request: REQUEST }))

/** Refusals after which another pool, or waiting, may help. */
const MAY_PASS: ReadonlySet<RefusalCode> = new Set([
  'none_free',
  'vm_not_free',
  'lease_promised',
  'lease_reserved',
  'quota_full',
])

/** Refusals of one pool that say nothing of another. */
const OF_POOL: ReadonlySet<RefusalCode> = new Set([
  ...MAY_PASS,
  'pool_unknown',
  'pool_closed_to_you',
  'lease_too_long',
  'priority_too_high',
  'vm_unknown',
  'wish_impossible',
  'vm_entangled',
  'quota_never',
  'waiting_full',
  'kinds_full',
])

type Creation = Static<typeof CREATION>

/** Seconds of a duration in a body, within bounds. Refused: `field_invalid`. */
function secondsIn(field: string, value: string, min: number, max = LEASE_SECONDS_MAX): number | Refusal {
  const seconds = durationSeconds(value) ?? 0
  if (seconds >= min && seconds <= max) return seconds
  const allowed = `from ${durationText(min)} to ${durationText(max)}`
  return refusal('field_invalid', { field, value, allowed })
}

type Asked = Pick<Join, 'wish' | 'priority' | 'waitSeconds'> & {
  readonly terms: Omit<Join['terms'], 'softGraceSeconds'>
  /** undefined: what the pool says. */
  readonly softGraceSeconds: number | null | undefined
}

/** What a body asks for, as the domain has it. Refused: `field_invalid`. */
function askedIn(body: Creation): Asked | Refusal {
  const wish = wishOf(body)
  if (isRefusal(wish)) return wish
  const { duration, soft = false, soft_grace: grace, min_duration: min, heartbeat, wait } = body
  if (soft && duration !== undefined && duration !== null)
    return refusal('field_invalid', {
      field: 'duration',
      value: duration,
      allowed: 'left out of a soft lease',
    })
  if (!soft && grace !== undefined)
    return refusal('field_invalid', {
      field: 'soft_grace',
      value: grace,
      allowed: 'left out unless soft is true',
    })
  const lasting = duration === undefined || duration === null ? duration : secondsIn('duration', duration, 1)
  if (isRefusal(lasting)) return lasting
  const most = typeof lasting === 'number' ? lasting : LEASE_SECONDS_MAX
  const shortest = min === undefined ? null : secondsIn('min_duration', min, 1, most)
  if (isRefusal(shortest)) return shortest
  const graceSeconds = grace === undefined ? undefined : secondsIn('soft_grace', grace, 0)
  if (isRefusal(graceSeconds)) return graceSeconds
  const beat = heartbeat === undefined ? null : secondsIn('heartbeat', heartbeat, HEARTBEAT_SECONDS_MIN)
  if (isRefusal(beat)) return beat
  const waitSeconds = wait === undefined ? 0 : wait === 'forever' ? null : secondsIn('wait', wait, 0)
  if (isRefusal(waitSeconds)) return waitSeconds
  return {
    wish,
    priority: body.priority ?? 'normal',
    waitSeconds,
    softGraceSeconds: soft ? graceSeconds : null,
    terms: {
      durationSeconds: lasting,
      durationSecondsMin: shortest,
      heartbeatSeconds: beat,
      purpose: body.purpose ?? null,
      labels: body.labels ?? {},
    },
  }
}

/**
 * Asks each pool in turn for what it has now; when none has it and the caller will wait, the first that may have it later has them
 * wait.
 */
async function ask(call: Call<unknown, unknown, Creation>, pools: readonly PoolReading[], asked: Asked) {
  let waits: PoolReading | null = null
  let no: Refusal | null = null
  for (const reading of pools) {
    const isOnly = pools.length === 1
    const answer = await joinPool(call, reading, asked, isOnly ? asked.waitSeconds : 0)
    if (isOnly || !isRefusal(answer) || !OF_POOL.has(answer.code)) return answer
    if (MAY_PASS.has(answer.code)) waits ??= reading
    // What may pass says more than what never will.
    if (no === null || (MAY_PASS.has(answer.code) && !MAY_PASS.has(no.code))) no = answer
  }
  if (waits !== null && asked.waitSeconds !== 0) return joinPool(call, waits, asked, asked.waitSeconds)
  return no ?? refusal('pool_unknown', { pool: '' })
}

function joinPool(
  call: Call<unknown, unknown, Creation>,
  { pool }: PoolReading,
  { terms, softGraceSeconds, ...asked }: Asked,
  waitSeconds: number | null,
): Promise<Outcome | Refusal> {
  const { berth, caller, requestId } = call
  const grace = softGraceSeconds === undefined ? pool.softGraceSeconds : softGraceSeconds
  const command = {
    kind: 'join',
    actor: caller,
    id: berth.newId('req'),
    pool: pool.name,
    ...asked,
    waitSeconds,
    terms: { ...terms, softGraceSeconds: grace },
    requestId,
  } as const
  return perform(call, command, (joined) => joinedOutcome(joined, pool.name))
}

function joinedOutcome({ leases, waiting }: Joined, pool: string): Outcome {
  if (waiting === null)
    return said(201, { leases: leases.map(({ lease, vm }) => shownLease(lease, vm, pool)) })
  const location = `/api/v1/requests/${waiting.id}`
  return said(202, { request: shownRequest(waiting, pool, null) }, { location })
}

/** Machine and generation of a lease's name. */
function partsOf(name: string): { vmId: number; generation: number } {
  const [vmId, generation] = name.split('-').map(Number)
  return { vmId: vmId ?? 0, generation: generation ?? 0 }
}

/** The generation that a call presents as a condition: the lease's own if one of its ETags fits. */
function conditionOf(ifMatch: readonly string[] | null, generation: number): number | null {
  if (ifMatch === null || ifMatch.includes(etagOf({ generation })))
    return ifMatch === null ? null : generation
  return Number(/^"(\d{1,15})"$/.exec(ifMatch[0] ?? '')?.[1] ?? 0)
}

/** What every call on a lease hands in. */
function callOn({ caller, params, ifMatch, requestId }: Call<{ id: string }>) {
  const { vmId, generation } = partsOf(params.id)
  return {
    actor: caller,
    vmId,
    generation,
    ifGeneration: conditionOf(ifMatch, generation),
    requestId,
  } as const
}

const LEASE_REFUSALS = ['lease_unknown', 'lease_over', 'generation_stale', 'not_allowed'] as const

/** Answers a call that changed a lease. */
async function changed(
  berth: Berth,
  answer: { readonly lease: Lease; readonly vm: Vm } | Refusal,
): Promise<Outcome | Refusal> {
  if (isRefusal(answer)) return answer
  return outcomeOf(200, answer.lease, answer.vm, await poolNameOf(berth, answer.lease.poolId))
}

/** Calls that are POSTs: the pool's name has to be known before, as answers are made when the command was decided. */
async function performOn(
  call: Call<{ id: string }>,
  command: (on: ReturnType<typeof callOn>) => Parameters<typeof perform<LeaseCommand>>[1],
): Promise<Outcome | Refusal> {
  const on = callOn(call)
  const lease = await call.berth.reads.lease(on.vmId, on.generation)
  const pool = lease === null ? '' : await poolNameOf(call.berth, lease.poolId)
  return perform<LeaseCommand>(call, command(on), (reply) => outcomeOf(200, reply.lease, reply.vm, pool))
}

type LeaseCommand = 'beatLease' | 'transferLease' | 'shareLease'

const EXTENSION = named(
  'LeaseChange',
  strict(
    {
      ends_at: Type.Optional(nullable({ ...time, description: 'the new end; null: without end' })),
      extend_by: Type.Optional({
        ...duration,
        description: 'in place of `ends_at`: so much later than it ends now',
      }),
      override: Type.Optional(
        Type.Boolean({
          description:
            'an admin: also when the machine is promised to a request that waits; never when it is reserved',
        }),
      ),
    },
    { minProperties: 1 },
  ),
)

const byId = strict({ id: leaseName })
const LIST_QUERY = strict({
  state: Type.Optional(words(['running', 'ended'], { default: 'running' })),
  ...scope,
  ...page,
  fields,
})

async function shownAll(berth: Berth, leases: readonly Lease[]): Promise<Map<Lease, Static<typeof LEASE>>> {
  const pools = await poolNames(
    berth,
    leases.map(({ poolId }) => poolId),
  )
  const vms = await Promise.all(leases.map(({ vmId }) => berth.reads.vmById(vmId)))
  return new Map(
    leases.map((lease, i) => [lease, shownLease(lease, vms[i] ?? null, pools.get(lease.poolId) ?? '')]),
  )
}

export const LEASE_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/leases',
    id: 'createLease',
    tag: 'leases',
    summary: 'Ask for machines: all of them or none',
    description:
      'When they are not free and you `wait`, you get a place in the queue: a request. Several pools are tried in turn; you wait in the first that can have what you want.',
    auth: 'bearer',
    body: CREATION,
    answers: {
      201: { description: 'the leases that begin now', schema: GRANTED },
      202: { description: 'the request that waits', schema: QUEUED, headers: ['Location'] },
    },
    refusals: [
      'pool_unknown',
      'pool_closed_to_you',
      'lease_too_long',
      'priority_too_high',
      'vm_unknown',
      'wish_impossible',
      'none_free',
      'vm_not_free',
      'vm_entangled',
      'lease_promised',
      'lease_reserved',
      'quota_full',
      'quota_never',
      'waiting_full',
      'kinds_full',
    ],
    async handle(call) {
      const asked = askedIn(call.body)
      if (isRefusal(asked)) return asked
      const pools = await poolsOf(call.berth, call.body)
      return isRefusal(pools) ? pools : ask(call, pools, asked)
    },
  }),
  route({
    method: 'GET',
    path: '/leases',
    id: 'listLeases',
    tag: 'leases',
    summary: 'Your leases; an admin: anybody’s',
    auth: 'bearer',
    query: LIST_QUERY,
    answers: { 200: { description: 'a page of leases', schema: pageOf(LEASE) } },
    refusals: ['not_allowed', 'pool_unknown'],
    async handle(call) {
      const { berth, query } = call
      const whose = await listed(call, query)
      if (isRefusal(whose)) return whose
      const filter: LeaseFilter = { running: query.state !== 'ended', ...whose }
      let shown = new Map<Lease, Static<typeof LEASE>>()
      return pageOutcome(query, {
        keys: /^\d{1,16}-\d{1,16}-\d{1,16}$/,
        async read(key, rowsMax) {
          const leases = await berth.reads.leases(filter, {
            after: key === null ? null : afterOf(key),
            rowsMax,
          })
          shown = await shownAll(berth, leases)
          return leases
        },
        key: ({ vmId, generation, endedAtMs }) => `${vmId}-${generation}-${endedAtMs ?? 0}`,
        show: (lease) => shown.get(lease),
        fields: FIELDS,
      })
    },
  }),
  route({
    method: 'GET',
    path: '/leases/{id}',
    id: 'getLease',
    tag: 'leases',
    summary: 'One lease of yours, or one that is shared with you',
    auth: 'bearer',
    params: byId,
    query: strict({ fields }),
    answers: { 200: { description: 'the lease', schema: LEASE, headers: ['ETag'] } },
    refusals: ['lease_unknown'],
    async handle({ berth, caller, params, query }) {
      const { vmId, generation } = partsOf(params.id)
      const lease = await berth.reads.lease(vmId, generation)
      const isTheirs = lease?.userId === caller.userId || lease?.sharedWith.includes(caller.userId)
      if (lease === null || (!isTheirs && !may(caller.role, 'lease.release')))
        return refusal('lease_unknown', { lease: params.id })
      const [vm, pool] = await Promise.all([berth.reads.vmById(vmId), poolNameOf(berth, lease.poolId)])
      return oneOutcome(query, FIELDS, shownLease(lease, vm, pool), { etag: etagOf(lease) })
    },
  }),
  route({
    method: 'PATCH',
    path: '/leases/{id}',
    id: 'changeLease',
    tag: 'leases',
    summary: 'Give a lease another end, later or earlier',
    description:
      'A later one is refused when the machine is promised or reserved by then; `details.until` says until when it would be possible.',
    auth: 'bearer',
    params: byId,
    body: EXTENSION,
    ifMatch: true,
    answers: { 200: { description: 'the lease', schema: LEASE, headers: ['ETag'] } },
    refusals: [
      ...LEASE_REFUSALS,
      'lease_endless',
      'lease_end_past',
      'lease_too_long',
      'extension_promised',
      'extension_reserved',
    ],
    async handle(call) {
      const { ends_at: endsAt, extend_by: by, override = false } = call.body
      if ((endsAt === undefined) === (by === undefined))
        return refusal('field_invalid', {
          field: 'ends_at',
          value: null,
          allowed: 'said, or extend_by, not both',
        })
      const bySeconds = by === undefined ? 0 : secondsIn('extend_by', by, 1)
      if (isRefusal(bySeconds)) return bySeconds
      const endsAtMs = endsAt === undefined || endsAt === null ? null : Date.parse(endsAt)
      const to = by === undefined ? { endsAtMs } : { bySeconds }
      const command = { kind: 'extendLease', ...callOn(call), to, override } as const
      return changed(call.berth, await call.berth.submit(command))
    },
  }),
  route({
    method: 'DELETE',
    path: '/leases/{id}',
    id: 'endLease',
    tag: 'leases',
    summary: 'Give a machine back; an admin: take it from its holder, saying why',
    auth: 'bearer',
    params: byId,
    query: strict({
      reason: Type.Optional(text(500, { description: 'why an admin takes it from its holder' })),
    }),
    ifMatch: true,
    answers: { 200: { description: 'the lease, which is over', schema: LEASE, headers: ['ETag'] } },
    refusals: [...LEASE_REFUSALS, 'reason_missing'],
    async handle(call) {
      const reason = call.query.reason ?? null
      const command = { kind: 'releaseLease', ...callOn(call), reason } as const
      return changed(call.berth, await call.berth.submit(command))
    },
  }),
  route({
    method: 'POST',
    path: '/leases/{id}/heartbeat',
    id: 'beatLease',
    tag: 'leases',
    summary: 'Say that whoever works on a machine is still there',
    auth: 'bearer',
    params: byId,
    ifMatch: true,
    answers: { 200: { description: 'the lease', schema: LEASE, headers: ['ETag'] } },
    refusals: [...LEASE_REFUSALS, 'heartbeat_not_agreed'],
    async handle(call) {
      return performOn(call, (on) => ({ kind: 'beatLease', ...on }))
    },
  }),
  route({
    method: 'POST',
    path: '/leases/{id}/transfer',
    id: 'transferLease',
    tag: 'leases',
    summary: 'Hand a machine on to another user',
    description:
      'The machine gets a new generation: the lease that you had is over, and the answer is theirs.',
    auth: 'bearer',
    params: byId,
    body: named('LeaseTransfer', strict({ user: { ...id, description: 'who gets it, by id' } })),
    ifMatch: true,
    answers: { 200: { description: 'the lease of the other user', schema: LEASE, headers: ['ETag'] } },
    refusals: [...LEASE_REFUSALS, 'user_unknown', 'pool_closed_to_you', 'quota_full', 'quota_never'],
    async handle(call) {
      return performOn(call, (on) => ({ kind: 'transferLease', ...on, toUserId: call.body.user }))
    },
  }),
  route({
    method: 'POST',
    path: '/leases/{id}/share',
    id: 'shareLease',
    tag: 'leases',
    summary: 'Say who else sees the machine and may send heartbeats',
    auth: 'bearer',
    params: byId,
    body: named(
      'LeaseShare',
      strict({
        users: Type.Array(id, {
          maxItems: SHARED_WITH_MAX,
          uniqueItems: true,
          description: 'all of them, by id; []: nobody else',
        }),
      }),
    ),
    ifMatch: true,
    answers: { 200: { description: 'the lease', schema: LEASE, headers: ['ETag'] } },
    refusals: [...LEASE_REFUSALS, 'user_unknown'],
    async handle(call) {
      return performOn(call, (on) => ({ kind: 'shareLease', ...on, userIds: call.body.users }))
    },
  }),
]

function afterOf(key: string): { vmId: number; generation: number; endedAtMs: number } {
  const [vmId, generation, endedAtMs] = key.split('-').map(Number)
  return { vmId: vmId ?? 0, generation: generation ?? 0, endedAtMs: endedAtMs ?? 0 }
}
