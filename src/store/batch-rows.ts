/**
 * What one batch sends to the database and gets back: rows as lists of columns and plain values, since each batch crosses a
 * border (to SQLite's thread, to another machine) twice in each direction.
 */
import type { NewEvent } from '../domain/event.ts'
import type { Tally } from '../domain/pool.ts'
import type { Vm, VmState } from '../domain/vm.ts'
import type { VmType } from '../domain/vm-type.ts'
import type { LoadedRows, MoreNeeds, MoreRows, Needs, Usage, WorkingSet } from '../domain/working-set.ts'
import { type FoundBook, loadedBook } from './book.ts'
import { leaseOf, leaseTuple } from './lease.ts'
import { flowTuple, requestOf, requestTuple } from './request.ts'
import { reservationOf, reservationTuple } from './reservation.ts'
import {
  answerOf,
  installationOf,
  policyText,
  poolOf,
  type Tables,
  type Tuple,
  tokenOf,
  userOf,
  type VmTuple,
  vmOf,
  vmTuple,
  vmTypesText,
} from './tables.ts'

/** `Needs` as plain values. */
export interface WantedRows {
  readonly userIds: readonly number[]
  readonly changedUserIds: readonly number[]
  readonly installation: boolean
  readonly allPools: boolean
  readonly emails: readonly string[]
  readonly tokenIds: readonly string[]
  readonly tokensOf: readonly number[]
  /** User id and key. */
  readonly answers: readonly (readonly [number, string])[]
  readonly oldestAnswers: number
  readonly poolNames: readonly string[]
  readonly poolIds: readonly number[]
  readonly vmIds: readonly number[]
  readonly takers: number
  readonly finishers: number
  readonly readyAny: readonly string[]
  readonly readyOfType: readonly (readonly [string, VmType])[]
  readonly removable: readonly (readonly [number, number])[]
  /** Pool, state, how many. */
  readonly due: readonly (readonly [number, VmState, number])[]
  readonly heldBy: readonly (readonly [number, number])[]
  /** Pool, how many. */
  readonly dueLeases: readonly (readonly [number, number])[]
  readonly dueRequests: readonly (readonly [number, number])[]
  readonly requestIds: readonly string[]
  readonly reservationIds: readonly string[]
  /** Names of pools. */
  readonly usageOf: readonly number[]
  readonly books: readonly string[]
  /** Pool, version. */
  readonly bookVersions: readonly (readonly [number, number])[]
  readonly standing: number
  readonly census: boolean
  readonly nowMs: number
}

export function wantedRows(needs: Needs, nowMs: number): WantedRows {
  return {
    userIds: [...needs.userIds],
    changedUserIds: [...needs.changedUserIds],
    installation: needs.installation,
    allPools: needs.allPools,
    emails: [...needs.emails],
    tokenIds: [...needs.tokenIds],
    tokensOf: [...needs.tokensOf],
    answers: [...needs.answers.values()],
    oldestAnswers: needs.oldestAnswers,
    poolNames: [...needs.poolNames],
    poolIds: [...needs.poolIds],
    vmIds: [...needs.vmIds],
    takers: needs.takers,
    finishers: needs.finishers,
    readyAny: [...needs.readyAny],
    readyOfType: [...needs.readyOfType].flatMap(([pool, types]) =>
      [...types].map((type) => [pool, type] as const),
    ),
    removable: [...needs.removable],
    due: [...needs.due].flatMap(([poolId, states]) =>
      [...states].map(([state, rowsMax]) => [poolId, state, rowsMax] as const),
    ),
    heldBy: [...needs.heldBy],
    dueLeases: [...needs.dueLeases],
    dueRequests: [...needs.dueRequests],
    requestIds: [...needs.requestIds],
    reservationIds: [...needs.reservationIds],
    usageOf: [...needs.usageOf],
    books: [...needs.books],
    bookVersions: [...needs.bookVersions],
    standing: needs.standing,
    census: needs.census,
    nowMs,
  }
}

/** Rows as the writer found them. */
export interface FoundRows {
  readonly nowMs: number
  readonly installation: Tables['installation']
  readonly users: readonly Tables['user'][]
  readonly tokens: readonly Tables['token'][]
  readonly answers: readonly Tables['answer'][]
  readonly pools: readonly Tables['pool'][]
  readonly vms: readonly VmTuple[]
  readonly leases: readonly Tuple[]
  readonly requests: readonly Tuple[]
  readonly reservations: readonly Tuple[]
  readonly usage: readonly Usage[]
  readonly books: readonly FoundBook[]
  readonly ready: readonly { poolId: number; type: VmType | null; vmIds: readonly number[] }[]
  readonly census: { readonly users: number; readonly vms: number } | null
}

export function loadedRows(found: FoundRows): LoadedRows {
  return {
    nowMs: found.nowMs,
    installation: installationOf(found.installation),
    users: found.users.map(userOf),
    tokens: found.tokens.map(tokenOf),
    answers: found.answers.map(answerOf),
    pools: found.pools.map(poolOf),
    vms: found.vms.map(vmOf),
    leases: found.leases.map(leaseOf),
    requests: found.requests.map(requestOf),
    reservations: found.reservations.map(reservationOf),
    usage: found.usage,
    books: found.books.map(loadedBook),
    ready: found.ready,
    census: found.census,
  }
}

/** Rows that a batch asked for later. Ready machines are those of a class with the lowest ids, more than were asked for. */
export interface FoundMore {
  readonly books: readonly FoundBook[]
  readonly ready: readonly (readonly VmTuple[])[]
  /** Machines that were named, and the leases that run on them. */
  readonly vms: readonly VmTuple[]
  readonly leases: readonly Tuple[]
  readonly users: readonly Tables['user'][]
  readonly usage: readonly Usage[]
}

/** `MoreNeeds` with as many more ready machines of each class as the batch has already. */
export function wantedMore(needs: MoreNeeds, had: readonly Vm[]): MoreNeeds {
  return {
    ...needs,
    ready: needs.ready.map(([poolId, vmClass, count]) => {
      const alike = had.filter((vm) => vm.poolId === poolId && vm.class === vmClass && vm.state === 'ready')
      return [poolId, vmClass, count + alike.length] as const
    }),
  }
}

/** What was found, without the machines that the batch has and those beyond what it asked for. */
export function moreRows(found: FoundMore, needs: MoreNeeds, had: readonly Vm[]): MoreRows {
  const known = new Set(had.map(({ id }) => id))
  return {
    books: found.books.map(loadedBook),
    vms: [
      ...found.vms.filter((row) => !known.has(row[0] as number)).map(vmOf),
      ...found.ready.flatMap((rows, i) => {
        const fresh = rows.filter((row) => !known.has(row[0] as number))
        return fresh.slice(0, needs.ready[i]?.[2] ?? 0).map(vmOf)
      }),
    ],
    leases: found.leases.map(leaseOf),
    users: found.users.map(userOf),
    usage: found.usage,
  }
}

type CountedPool = Pick<Tables['pool'], 'id' | 'tally' | 'queue'>

/** What a batch changed. */
export interface ChangedRows {
  readonly wiped: boolean
  readonly installation: Tables['installation'] | null
  readonly newUsers: readonly Tables['user'][]
  readonly users: readonly Tables['user'][]
  readonly newTokens: readonly Tables['token'][]
  readonly tokens: readonly Tables['token'][]
  readonly goneTokenIds: readonly string[]
  readonly newAnswers: readonly Tables['answer'][]
  /** User id and key; they go before the new ones come. */
  readonly goneAnswers: readonly (readonly [number, string])[]
  readonly newPools: readonly Tables['pool'][]
  readonly pools: readonly Tables['pool'][]
  /** Pools of which nothing changed but what is counted in them. */
  readonly counted: readonly CountedPool[]
  readonly newVms: readonly VmTuple[]
  /** Each with the state and generation it was loaded with. */
  readonly vms: readonly (readonly [VmTuple, VmState, number])[]
  readonly goneVmIds: readonly number[]
  readonly newLeases: readonly Tuple[]
  readonly leases: readonly Tuple[]
  /** New ones and changed ones. */
  readonly requests: readonly Tuple[]
  readonly flows: readonly Tuple[]
  readonly reservations: readonly Tuple[]
  /** type, actor, pool, vm, user, request, data. */
  readonly events: readonly (readonly (string | number | null)[])[]
  readonly nowMs: number
}

export function changedRows(set: WorkingSet): ChangedRows {
  const newVms: VmTuple[] = []
  const vms: [VmTuple, VmState, number][] = []
  for (const vm of set.changedVms.values()) {
    const loaded = set.loadedVms.get(vm.id)
    if (loaded === undefined) newVms.push(vmTuple(vm))
    else vms.push([vmTuple(vm), loaded.state, loaded.generation])
  }
  const users = [...set.changedUsers.values()]
  const leases = [...set.changedLeases]
  const tokens = [...set.changedTokens.values()]
  const { installation } = set
  const rowsOfPools = [...set.changedPools.values()].map((pool) => poolRow(pool, set.tally(pool.id)))
  return {
    wiped: set.wiped,
    installation: set.installationChanged
      ? {
          id: 1,
          state: installation.state,
          next_user_id: installation.nextUserId,
          next_vm_id: installation.nextVmId,
          next_pool_id: installation.nextPoolId,
          vm_types: vmTypesText(installation.vmTypes),
          reset: installation.reset === null ? null : JSON.stringify(installation.reset),
        }
      : null,
    newUsers: users.filter((user) => set.newUserIds.has(user.id)).map(userRow),
    users: users.filter((user) => !set.newUserIds.has(user.id)).map(userRow),
    newTokens: tokens.filter((token) => set.newTokenIds.has(token.id)).map(tokenRow),
    tokens: tokens.filter((token) => !set.newTokenIds.has(token.id)).map(tokenRow),
    goneTokenIds: [...set.goneTokens.keys()],
    newAnswers: [...set.newAnswers.values()].map(answerRow),
    goneAnswers: [...set.goneAnswers.values()].map(({ userId, key }) => [userId, key]),
    newPools: rowsOfPools.filter((row) => set.newPoolIds.has(row.id)),
    pools: rowsOfPools.filter((row) => !set.newPoolIds.has(row.id)),
    counted: [...set.countedPools]
      .filter((id) => !set.changedPools.has(id))
      .flatMap((id) => counted(set, id)),
    newVms,
    vms,
    goneVmIds: [...set.goneVms],
    newLeases: leases.filter(([key]) => set.newLeases.has(key)).map(([, lease]) => leaseTuple(lease)),
    leases: leases.filter(([key]) => !set.newLeases.has(key)).map(([, lease]) => leaseTuple(lease)),
    requests: [...set.changedRequests.values()].map(requestTuple),
    flows: [...set.changedFlows.values()].map(flowTuple),
    reservations: [...set.changedReservations.values()].map(reservationTuple),
    events: set.events.map(eventTuple),
    nowMs: set.nowMs,
  }
}

function counted(set: WorkingSet, id: number): CountedPool[] {
  const pool = set.pool(id)
  if (pool === undefined) return []
  return [{ id, tally: JSON.stringify(set.tally(id)), queue: JSON.stringify(pool.queue) }]
}

export interface ChangedBook {
  readonly poolId: number
  /** The pool’s version after the batch. */
  readonly version: number
  readonly change: string
}

/** What the batch changed of each pool whose book it has. */
export function changedBooks(set: WorkingSet): ChangedBook[] {
  return [...set.bookedPools].flatMap((poolId) => {
    const pool = set.pool(poolId)
    if (pool === undefined || !set.countedPools.has(poolId)) return []
    return [{ poolId, version: pool.queue.version, change: JSON.stringify(set.bookChange(poolId)) }]
  })
}

function eventTuple(event: NewEvent): (string | number | null)[] {
  return [
    event.type,
    event.actorId,
    event.poolId ?? null,
    event.vmId ?? null,
    event.userId ?? null,
    event.requestId ?? null,
    event.data === undefined ? null : JSON.stringify(event.data),
  ]
}

function userRow(user: ReturnType<typeof userOf>): Tables['user'] {
  return {
    id: user.id,
    name: user.name,
    email: user.email,
    role: user.role,
    password_hash: user.passwordHash,
    credential_version: user.credentialVersion,
    state: user.state,
    created_at_ms: user.createdAtMs,
    quota: user.quota === null ? null : JSON.stringify(user.quota),
  }
}

function tokenRow(token: ReturnType<typeof tokenOf>): Tables['token'] {
  return {
    id: token.id,
    user_id: token.userId,
    name: token.name,
    hash: token.hash,
    credential_version: token.credentialVersion,
    created_at_ms: token.createdAtMs,
    expires_at_ms: token.expiresAtMs,
    last_used_at_ms: token.lastUsedAtMs,
    revoked_at_ms: token.revokedAtMs,
    scopes: token.scopes,
  }
}

function answerRow(answer: ReturnType<typeof answerOf>): Tables['answer'] {
  return {
    user_id: answer.userId,
    key: answer.key,
    fingerprint: answer.fingerprint,
    status: answer.status,
    body: answer.body,
    headers: JSON.stringify(answer.headers),
    at_ms: answer.atMs,
  }
}

function poolRow(pool: ReturnType<typeof poolOf>['pool'], tally: Tally): Tables['pool'] {
  return {
    id: pool.id,
    name: pool.name,
    target: pool.target,
    type_mix: JSON.stringify(pool.typeMix),
    cleaning: pool.cleaning,
    provider: pool.provider,
    tally: JSON.stringify(tally),
    created_at_ms: pool.createdAtMs,
    policy: policyText(pool),
    queue: JSON.stringify(pool.queue),
  }
}
