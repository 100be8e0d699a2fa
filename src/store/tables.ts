/**
 * The tables as the database holds them, the same on every store, and the way from their rows to the domain's values and
 * back. Times are epoch milliseconds. Row types never leave src/store.
 */
import type { Answer } from '../domain/answer.ts'
import type { Event, EventType } from '../domain/event.ts'
import type { LeaseEnd } from '../domain/lease.ts'
import {
  countByType,
  DEFAULT_POLICY,
  EMPTY_QUEUE,
  type Pool,
  type PoolPolicy,
  poolStats,
  type QueueState,
  type Tally,
  type TypeMix,
} from '../domain/pool.ts'
import type { Quota } from '../domain/quota.ts'
import type { Priority, RequestState } from '../domain/request.ts'
import type { ReservationState } from '../domain/reservation.ts'
import type { Token } from '../domain/token.ts'
import type { Role, User } from '../domain/user.ts'
import { type PowerState, VM_STATES, type Vm, type VmState } from '../domain/vm.ts'
import type { ClassKey } from '../domain/vm-class.ts'
import { VM_TYPE_NAMES, type VmType, type VmTypeSpec } from '../domain/vm-type.ts'
import type { Installation, ResetRecord } from '../domain/working-set.ts'
import type { PoolReading, VmListing } from './port.ts'

export interface Tables {
  installation: {
    id: number
    state: Installation['state']
    next_user_id: number
    next_vm_id: number
    next_pool_id: number
    /** Specifications by name, smallest first. */
    vm_types: string
    reset: string | null
  }
  user: {
    id: number
    name: string
    email: string
    role: Role
    password_hash: string
    credential_version: number
    state: User['state']
    created_at_ms: number
    quota: string | null
  }
  token: {
    id: string
    user_id: number
    name: string
    hash: string
    credential_version: number
    created_at_ms: number
    expires_at_ms: number | null
    last_used_at_ms: number | null
    revoked_at_ms: number | null
    scopes: string | null
  }
  answer: {
    user_id: number
    key: string
    fingerprint: string
    status: number
    body: string
    headers: string
    at_ms: number
  }
  pool: {
    id: number
    name: string
    target: number
    type_mix: string
    cleaning: Pool['cleaning']
    provider: string
    tally: string
    created_at_ms: number
    /** All policies that have no column of their own. */
    policy: string
    queue: string
  }
  vm: {
    id: number
    pool_id: number
    name: string
    type: VmType
    address: string
    power: PowerState
    state: VmState
    generation: number
    holder_id: number | null
    leased_at_ms: number | null
    due_at_ms: number | null
    claim: number
    busy_until_ms: number | null
    attempts: number
    failure: string | null
    created_at_ms: number
    class: ClassKey
    free_at_ms: number | null
  }
  lease: {
    vm_id: number
    generation: number
    pool_id: number
    user_id: number
    from_ms: number
    ended_at_ms: number | null
    ends_at_ms: number | null
    ended_by: LeaseEnd | null
    request_id: string | null
    reservation_id: string | null
    soft_grace_seconds: number | null
    heartbeat_seconds: number | null
    beat_by_ms: number | null
    due_at_ms: number | null
    /** 1: true. */
    warned: number
    charged_minutes: number
    weight: number
    purpose: string | null
    labels: string | null
    shared_with: string | null
  }
  request: {
    id: string
    pool_id: number
    user_id: number
    seq: number
    wish: string
    terms: string
    priority: Priority
    state: RequestState
    created_at_ms: number
    until_ms: number | null
    ended_at_ms: number | null
    due: number | null
    parked: number
    collect_since_ms: number | null
    reservation_id: string | null
    leases: string
  }
  flow: {
    pool_id: number
    user_id: number
    tag: number
  }
  reservation: {
    id: string
    pool_id: number
    user_id: number
    wish: string
    from_ms: number
    to_ms: number
    pinned: string
    state: ReservationState
    at_risk: number
    missing: number
    confirmed_seq: number
    no_show_seconds: number | null
    claimed: number
    series_id: string | null
    purpose: string | null
    labels: string
    created_at_ms: number
  }
  event: {
    id: number
    at_ms: number
    type: EventType
    actor_id: number | null
    pool_id: number | null
    vm_id: number | null
    user_id: number | null
    request_id: string | null
    data: string | null
  }
}

export type ColumnType = 'integer' | 'real' | 'text'

/** The columns of a table in the order in which they stand in a row that is a list. */
export type ColumnTypes<Row> = { readonly [C in keyof Row]-?: ColumnType }

export function userOf(row: Tables['user']): User {
  return {
    id: row.id,
    name: row.name,
    email: row.email,
    role: row.role,
    passwordHash: row.password_hash,
    credentialVersion: row.credential_version,
    quota: row.quota === null ? null : (JSON.parse(row.quota) as Quota),
    state: row.state,
    createdAtMs: row.created_at_ms,
  }
}

export function tokenOf(row: Tables['token']): Token {
  return {
    id: row.id,
    userId: row.user_id,
    name: row.name,
    hash: row.hash,
    credentialVersion: row.credential_version,
    createdAtMs: row.created_at_ms,
    expiresAtMs: row.expires_at_ms,
    lastUsedAtMs: row.last_used_at_ms,
    revokedAtMs: row.revoked_at_ms,
    scopes: row.scopes,
  }
}

export function answerOf(row: Tables['answer']): Answer {
  return {
    userId: row.user_id,
    key: row.key,
    fingerprint: row.fingerprint,
    status: row.status,
    body: row.body,
    headers: JSON.parse(row.headers) as Record<string, string>,
    atMs: row.at_ms,
  }
}

export function queueOf(row: Pick<Tables['pool'], 'queue'>): QueueState {
  return { ...EMPTY_QUEUE, ...(JSON.parse(row.queue) as Partial<QueueState>) }
}

export function poolOf(row: Tables['pool']): { pool: Pool; tally: Tally } {
  return {
    pool: {
      id: row.id,
      name: row.name,
      target: row.target,
      ...policyOf(row.policy),
      queue: queueOf(row),
      typeMix: JSON.parse(row.type_mix) as TypeMix,
      cleaning: row.cleaning,
      provider: row.provider,
      createdAtMs: row.created_at_ms,
    },
    tally: JSON.parse(row.tally) as Tally,
  }
}

const policies = new Map<string, PoolPolicy>()
const POLICIES_MAX = 1_000

/** Policies change seldom, and are read with each batch. What a text does not say is as in a pool of which nothing was said. */
function policyOf(text: string): PoolPolicy {
  const known = policies.get(text)
  if (known !== undefined) return known
  const policy = { ...DEFAULT_POLICY, ...(JSON.parse(text) as Partial<PoolPolicy>) }
  if (policies.size >= POLICIES_MAX) policies.clear()
  policies.set(text, policy)
  return policy
}

/** The text of all policies that have no column of their own. */
export function policyText(pool: Pool): string {
  const policy: Partial<Record<keyof PoolPolicy, unknown>> = {}
  for (const name of Object.keys(DEFAULT_POLICY) as (keyof PoolPolicy)[])
    if (name !== 'typeMix' && name !== 'cleaning' && name !== 'provider') policy[name] = pool[name]
  return JSON.stringify(policy)
}

export function poolReadingOf(row: Tables['pool']): PoolReading {
  const { pool, tally } = poolOf(row)
  const counted = countByType(tally)
  for (const type of VM_TYPE_NAMES) if (!counted.has(type)) counted.set(type, {})
  const states = [...counted].flatMap(([type, counts]) =>
    VM_STATES.map((state) => ({ type, state, count: counts[state] ?? 0 })),
  )
  return { pool, stats: poolStats(pool, tally), states }
}

/** The columns of a machine in the order in which `vmOf` takes them. */
export const VM_COLUMNS = [
  'id',
  'pool_id',
  'name',
  'type',
  'address',
  'power',
  'state',
  'generation',
  'holder_id',
  'leased_at_ms',
  'due_at_ms',
  'claim',
  'busy_until_ms',
  'attempts',
  'failure',
  'created_at_ms',
  'class',
  'free_at_ms',
] as const satisfies readonly (keyof Tables['vm'])[]

/** A row as a list of its columns: how rows travel between threads, cheaper than objects. */
export type Tuple = readonly (string | number | null)[]

/** A machine's row. */
export type VmTuple = Tuple

export function vmOf(row: VmTuple): Vm {
  return {
    id: row[0] as number,
    poolId: row[1] as number,
    name: row[2] as string,
    type: row[3] as VmType,
    class: row[16] as ClassKey,
    address: row[4] as string,
    power: row[5] as PowerState,
    state: row[6] as VmState,
    generation: row[7] as number,
    holderId: row[8] as number | null,
    leasedAtMs: row[9] as number | null,
    freeAtMs: row[17] as number | null,
    dueAtMs: row[10] as number | null,
    claim: row[11] as number,
    busyUntilMs: row[12] as number | null,
    attempts: row[13] as number,
    failure: row[14] as string | null,
    createdAtMs: row[15] as number,
  }
}

export function vmTuple(vm: Vm): VmTuple {
  return [
    vm.id,
    vm.poolId,
    vm.name,
    vm.type,
    vm.address,
    vm.power,
    vm.state,
    vm.generation,
    vm.holderId,
    vm.leasedAtMs,
    vm.dueAtMs,
    vm.claim,
    vm.busyUntilMs,
    vm.attempts,
    vm.failure,
    vm.createdAtMs,
    vm.class,
    vm.freeAtMs,
  ]
}

export interface VmListingRow {
  id: number
  name: string
  type: VmType
  address: string
  power: PowerState
  state: VmState
  holder_email: string | null
  created_at_ms: number
  holder_id: number | null
}

/** From the columns of `VmListingRow` in their order. */
export function vmListingOf(row: VmTuple): VmListing {
  return {
    id: row[0] as number,
    name: row[1] as string,
    type: row[2] as VmType,
    address: row[3] as string,
    power: row[4] as PowerState,
    state: row[5] as VmState,
    holderEmail: row[6] as string | null,
    createdAtMs: row[7] as number,
  }
}

/** The holder's id in the columns of `VmListingRow`. */
export function holderIdOf(row: VmTuple): number | null {
  return row[8] as number | null
}

export function installationOf(row: Tables['installation']): Installation {
  return {
    state: row.state,
    nextUserId: row.next_user_id,
    nextVmId: row.next_vm_id,
    nextPoolId: row.next_pool_id,
    vmTypes: vmTypesOf(row.vm_types),
    reset: row.reset === null ? null : (JSON.parse(row.reset) as ResetRecord),
  }
}

/** Read with every batch, and hardly ever another. */
let lastVmTypes: { text: string; specs: readonly VmTypeSpec[] } | null = null

function vmTypesOf(text: string): readonly VmTypeSpec[] {
  if (lastVmTypes?.text === text) return lastVmTypes.specs
  const sizes = JSON.parse(text) as Record<string, Omit<VmTypeSpec, 'name'>>
  const specs = Object.entries(sizes).map(([name, size]) => ({ name, ...size }))
  lastVmTypes = { text, specs }
  return specs
}

export function vmTypesText(specs: readonly VmTypeSpec[]): string {
  return JSON.stringify(Object.fromEntries(specs.map(({ name, ...size }) => [name, size])))
}

export function eventOf(row: Tables['event']): Event {
  return {
    id: row.id,
    atMs: row.at_ms,
    type: row.type,
    actorId: row.actor_id,
    ...(row.pool_id === null ? {} : { poolId: row.pool_id }),
    ...(row.vm_id === null ? {} : { vmId: row.vm_id }),
    ...(row.user_id === null ? {} : { userId: row.user_id }),
    ...(row.request_id === null ? {} : { requestId: row.request_id }),
    ...(row.data === null ? {} : { data: JSON.parse(row.data) as Record<string, unknown> }),
  }
}
