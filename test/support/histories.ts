/**
 * Random histories: what users, admins and workers might ask for, batch after batch. Moves are plain numbers, so a history
 * that fails is printed whole and shrinks well; `commandOf` makes a command of a move when it is known what is there.
 */

import fc from 'fast-check'
import type { Command, CommandKind, CommandOf } from '../../src/domain/command.ts'
import type { Actor } from '../../src/domain/decision.ts'
import { EVEN_MIX, type Pool } from '../../src/domain/pool.ts'
import { isRefusal } from '../../src/domain/refusal.ts'
import { PRIORITIES, type Request } from '../../src/domain/request.ts'
import type { Reservation } from '../../src/domain/reservation.ts'
import type { Token } from '../../src/domain/token.ts'
import type { Vm } from '../../src/domain/vm.ts'
import { VM_TYPE_NAMES } from '../../src/domain/vm-type.ts'
import { WORK_STATES, type WorkResult, type WorkState } from '../../src/domain/work.ts'
import type { MemoryTables } from './memory-store.ts'
import { aPool, aUser, aVm, NOW_MS, unversioned, vmsOf, World } from './world.ts'

const POOLS = ['default', 'b']
const MADE_POOLS = [...POOLS, 'lab', 'lab']
const SIZES = ['tiny', 'huge', 'small']
const EMAILS = ['user1@example.org', 'user2@example.org', 'x@example.org', 'y@example.org']
const STEPS = ['clean', 'cordon', 'uncordon', 'retry'] as const
export const CLAIM_MS = 1_000
const requestId = 'r'

/** What a worker was told to work on. */
export interface Claimed {
  readonly state: WorkState
  readonly vmId: number
  readonly claim: number
}

/** What is there before a batch: moves are made concrete by it. */
export interface Situation {
  readonly tables: MemoryTables
  readonly claimed: readonly Claimed[]
}

/** What somebody does next: numbers that `commandOf` makes a command of. */
export interface Move {
  readonly kind: CommandKind
  /** Picks who does it. */
  readonly by: number
  /** Picks whom or what it is done to. */
  readonly at: number
  /** Picks how much, or how. */
  readonly how: number
  readonly flag: boolean
}

/** How often each command is drawn. */
export const WEIGHTS: Record<CommandKind, number> = {
  createUser: 2,
  changeUser: 2,
  deleteUser: 1,
  releaseLeaver: 3,
  createToken: 3,
  revokeToken: 2,
  noteTokenUse: 2,
  forgetAnswers: 1,
  createVmType: 1,
  changeVmType: 1,
  deleteVmType: 1,
  createPool: 2,
  changePool: 2,
  deletePool: 2,
  sizePool: 3,
  growPool: 4,
  shrinkPool: 3,
  checkout: 8,
  checkIn: 6,
  maintain: 6,
  labelVm: 1,
  deleteVm: 2,
  claimWork: 6,
  reportWork: 8,
  beginReset: 1,
  continueReset: 3,
  join: 8,
  cancelRequest: 2,
  extendLease: 3,
  releaseLease: 4,
  transferLease: 2,
  shareLease: 1,
  beatLease: 3,
  tickPool: 5,
  lookAtPool: 1,
  reserve: 3,
  claimReservation: 1,
  cancelReservation: 1,
  expireReservation: 2,
  forgetWish: 1,
}

const any = fc.nat(1_000)

/** Commands after which somebody may wait or have booked: a batch then settles once, at its end. */
const OF_QUEUES: readonly CommandKind[] = ['join', 'reserve']

function moveOf(kinds: readonly CommandKind[]): fc.Arbitrary<Move> {
  const weighted = kinds.map((kind) => ({ weight: WEIGHTS[kind], arbitrary: fc.constant(kind) }))
  return fc.record({
    kind: fc.oneof(...weighted),
    by: any,
    at: any,
    how: any,
    flag: fc.boolean(),
  })
}

function pick<T>(list: readonly T[], at: number): T | undefined {
  return list[at % Math.max(1, list.length)]
}

/** Somebody who may call: mostly a user who is there, with the credentials that they have. */
function actorIn({ tables }: Situation, at: number) {
  const user = pick([...tables.users.values()], at)
  const stale = at % 17 === 0 ? 1 : 0
  return { userId: user?.id ?? 1, credentialVersion: (user?.credentialVersion ?? 1) - stale }
}

/** The same, often with a token: one that holds, or one that does not any more. */
function callerIn(now: Situation, at: number): Actor {
  const { id: tokenId, userId, credentialVersion } = tokenIn(now, at)
  return at % 3 === 0 && userId !== 0 ? { userId, credentialVersion, tokenId } : actorIn(now, at)
}

function tokenIn({ tables }: Situation, at: number): Pick<Token, 'id' | 'userId' | 'credentialVersion'> {
  return pick([...tables.tokens.values()], at) ?? { id: 'tok_0', userId: 0, credentialVersion: 1 }
}

/** Tokens never have the same id: they are drawn. */
let tokensMade = 0

function adminIn({ tables }: Situation, at: number) {
  const admins = [...tables.users.values()].filter(
    ({ role, state }) => role === 'admin' && state === 'active',
  )
  const admin = pick(admins, at)
  return { userId: admin?.id ?? 1, credentialVersion: admin?.credentialVersion ?? 1 }
}

function userIn({ tables }: Situation, at: number): number {
  return pick([...tables.users.keys()], at) ?? 1
}

function poolIn({ tables }: Situation, at: number): number {
  return pick([...tables.pools.keys()], at) ?? 1
}

function vmIn({ tables }: Situation, at: number): Vm {
  return pick([...tables.vms.values()], at) ?? aVm(1)
}

function sliceOf(how: number): number {
  return [1, 2, 100][how % 3] ?? 1
}

export function commandOf(now: Situation, { kind, by, at, how, flag }: Move): Command {
  const email = EMAILS[how % EMAILS.length] ?? ''
  const vmId = vmIn(now, at).id
  const poolId = poolIn(now, at)
  const machinesMax = sliceOf(how)
  const commands: { [K in CommandKind]: () => CommandOf<K> } = {
    createUser: () => ({
      kind: 'createUser',
      actor: by % 5 === 0 ? null : adminIn(now, by),
      mayBeFirst: by % 7 !== 0,
      name: 'New',
      email,
      role: flag ? 'admin' : 'user',
      passwordHash: 'hash',
      requestId,
    }),
    changeUser: () => ({
      kind: 'changeUser',
      actor: by % 2 === 0 ? adminIn(now, by) : actorIn(now, by),
      userId: userIn(now, at),
      name: how % 5 === 0 ? 'Changed' : null,
      email: how % 3 === 0 ? null : email,
      passwordHash: flag ? 'new hash' : null,
      requestId,
    }),
    deleteUser: () => ({ kind: 'deleteUser', actor: adminIn(now, by), userId: userIn(now, at), requestId }),
    releaseLeaver: () => ({ kind: 'releaseLeaver', userId: userIn(now, at), machinesMax }),
    createToken: () => ({
      kind: 'createToken',
      actor: actorIn(now, by),
      id: `tok_${++tokensMade}`,
      name: 'CI',
      hash: `hash ${tokensMade}`,
      lifetimeSeconds: flag ? null : 1,
      requestId,
    }),
    revokeToken: () => {
      const { id: tokenId, userId } = tokenIn(now, at)
      return { kind: 'revokeToken', actor: callerIn(now, by), tokenId, userId, requestId }
    },
    noteTokenUse: () => {
      const { id: tokenId, userId } = tokenIn(now, at)
      return { kind: 'noteTokenUse', uses: [{ tokenId, userId, atMs: how }] }
    },
    forgetAnswers: () => ({ kind: 'forgetAnswers', rowsMax: 100 }),
    createVmType: () => ({
      kind: 'createVmType',
      actor: adminIn(now, by),
      spec: { name: pick(SIZES, how) ?? '', vcpu: 1 + (at % 4), memoryMb: 512 },
      requestId,
    }),
    changeVmType: () => ({
      kind: 'changeVmType',
      actor: adminIn(now, by),
      name: pick(SIZES, how) ?? '',
      vcpu: 1 + (at % 4),
      memoryMb: null,
      ifMatch: flag ? null : ['"stale"'],
      requestId,
    }),
    deleteVmType: () => ({
      kind: 'deleteVmType',
      actor: adminIn(now, by),
      name: pick(SIZES, how) ?? '',
      ifMatch: null,
      requestId,
    }),
    createPool: () => ({
      kind: 'createPool',
      actor: adminIn(now, by),
      name: pick(MADE_POOLS, at) ?? '',
      size: how % 3 === 0 ? how % 4 : 0,
      policy: { typeMix: flag ? { [pick(SIZES, how) ?? '']: 1 } : EVEN_MIX, cleaning: 'automatic' },
      requestId,
    }),
    changePool: () => ({
      kind: 'changePool',
      actor: adminIn(now, by),
      pool: pick(POOLS, at) ?? '',
      size: flag ? how % 10 : null,
      policy:
        how % 3 === 0 ? { aliases: [pick(POOLS, how) ?? '', 'c'].slice(how % 2) } : { warnSeconds: how },
      ifMatch: null,
      requestId,
    }),
    deletePool: () => ({
      kind: 'deletePool',
      actor: adminIn(now, by),
      pool: pick(MADE_POOLS, at) ?? '',
      ifMatch: null,
      requestId,
    }),
    sizePool: () => ({
      kind: 'sizePool',
      actor: adminIn(now, by),
      pool: pick(POOLS, at) ?? '',
      size: how % 10,
      policy: { typeMix: EVEN_MIX, cleaning: flag ? 'automatic' : 'manual', provider: 'simulated' },
      requestId,
    }),
    growPool: () => ({ kind: 'growPool', poolId, machinesMax, claimMs: CLAIM_MS }),
    shrinkPool: () => ({ kind: 'shrinkPool', poolId, machinesMax }),
    checkout: () => ({
      kind: 'checkout',
      actor: callerIn(now, by),
      pool: (how % 4 === 0 ? pick(POOLS, at) : undefined) ?? 'default',
      vmId: flag ? vmId : null,
      type: by % 3 === 0 ? (pick(VM_TYPE_NAMES, how) ?? null) : null,
      requestId,
    }),
    checkIn: () => checkInOf(now, at, how),
    maintain: () => ({
      kind: 'maintain',
      actor: adminIn(now, by),
      vmId,
      step: pick(STEPS, how) ?? 'clean',
      requestId,
    }),
    labelVm: () => ({
      kind: 'labelVm',
      actor: adminIn(now, by),
      vmId,
      labels: flag ? { os: 'debian' } : {},
      requestId,
    }),
    deleteVm: () => ({ kind: 'deleteVm', actor: adminIn(now, by), vmId, requestId }),
    claimWork: () => ({
      kind: 'claimWork',
      poolId,
      state: pick(WORK_STATES, how) ?? 'deleting',
      machinesMax: 100,
      claimMs: CLAIM_MS,
    }),
    reportWork: () =>
      reportOf(now, at, how % 5, flag || by % 3 > 0 ? 'ok' : how % 2 ? 'failed' : 'permanent'),
    beginReset: () => ({
      kind: 'beginReset',
      actor: by % 3 === 0 ? adminIn(now, by) : null,
      allowed: false,
      requestId,
    }),
    continueReset: () => ({ kind: 'continueReset', machinesMax }),
    join: () => ({
      kind: 'join',
      actor: actorIn(now, by),
      id: `req-${at}-${how}-${by}`,
      pool: (how % 4 === 0 ? pick(POOLS, at) : undefined) ?? 'default',
      wish: [
        {
          type: by % 3 === 0 ? (pick(VM_TYPE_NAMES, how) ?? null) : null,
          labels: {},
          vmId: how % 7 === 0 ? vmId : null,
          count: how % 7 === 0 ? 1 : 1 + (how % 3),
        },
        ...(how % 5 === 0 ? [{ type: null, labels: {}, vmId: null, count: 1 }] : []),
      ],
      terms: {
        durationSeconds: pick([undefined, 1, 2, 600, null], at) ?? undefined,
        durationSecondsMin: how % 4 === 1 ? 1 : null,
        softGraceSeconds: by % 5 === 0 ? 1 : null,
        heartbeatSeconds: by % 2 === 0 ? 1 : null,
        purpose: flag ? 'a test' : null,
        labels: flag ? { team: 'a' } : {},
      },
      priority: pick(PRIORITIES, how) ?? 'normal',
      waitSeconds: pick([0, 1, 60, null], by) ?? null,
      requestId,
    }),
    cancelRequest: () => ({
      kind: 'cancelRequest',
      actor: ownerOr(now, waitingIn(now, at)?.userId, by),
      id: waitingIn(now, at)?.id ?? 'req-none',
      requestId,
    }),
    extendLease: () => ({
      kind: 'extendLease',
      ...leaseCall(now, at, how),
      to: flag ? { bySeconds: 1 + (how % 900) } : { endsAtMs: how % 6 === 0 ? null : NOW_MS + how * 100 },
      override: how % 5 === 0,
    }),
    releaseLease: () => ({
      kind: 'releaseLease',
      ...leaseCall(now, at, how),
      reason: flag ? 'needed elsewhere' : null,
    }),
    transferLease: () => ({ kind: 'transferLease', ...leaseCall(now, at, how), toUserId: userIn(now, by) }),
    shareLease: () => ({ kind: 'shareLease', ...leaseCall(now, at, how), userIds: [userIn(now, by)] }),
    beatLease: () => ({ kind: 'beatLease', ...leaseCall(now, at, how) }),
    tickPool: () => ({ kind: 'tickPool', poolId, rowsMax: 100 }),
    lookAtPool: () => ({
      kind: 'lookAtPool',
      pool: 'default',
      requestIds: [],
      why: flag,
      granted: [],
      grantedMinutes: 60,
      providerErrors: [],
      free: null,
    }),
    reserve: () => ({
      kind: 'reserve',
      actor: actorIn(now, by),
      pool: (how % 4 === 0 ? pick(POOLS, at) : undefined) ?? 'default',
      wish: [
        {
          type: null,
          labels: {},
          vmId: how % 9 === 0 ? vmId : null,
          count: how % 9 === 0 ? 1 : 1 + (how % 2),
        },
      ],
      windows: [0, ...(flag ? [7_200_000] : [])].map((behindMs) => {
        const fromMs = NOW_MS + 1_000 * (how % 40) + behindMs
        return { id: `res-${at}-${how}-${by}-${behindMs}`, fromMs, toMs: fromMs + 1_000 * (1 + (at % 20)) }
      }),
      seriesId: flag ? `ser-${at}` : null,
      partial: by % 2 === 0,
      noShowSeconds: pick([undefined, 1, null], at),
      purpose: null,
      labels: {},
      requestId,
    }),
    claimReservation: () => ({
      kind: 'claimReservation',
      actor: ownerOr(now, bookedIn(now, at)?.userId, by),
      id: bookedIn(now, at)?.id ?? 'res-none',
      requestId,
    }),
    cancelReservation: () => ({
      kind: 'cancelReservation',
      actor: ownerOr(now, bookedIn(now, at)?.userId, by),
      id: bookedIn(now, at)?.id ?? 'res-none',
      vmIds: machinesBy(now, bookedIn(now, at)?.id),
      requestId,
    }),
    expireReservation: () => ({
      kind: 'expireReservation',
      id: bookedIn(now, at)?.id ?? 'res-none',
      vmIds: machinesBy(now, bookedIn(now, at)?.id),
    }),
    forgetWish: () => ({
      kind: 'forgetWish',
      requestId: waitingIn(now, at)?.id ?? null,
      reservationId: bookedIn(now, at)?.id ?? null,
    }),
  }
  return commands[kind]()
}

function waitingIn({ tables }: Situation, at: number): Request | undefined {
  return pick([...tables.requests.values()], at)
}

function bookedIn({ tables }: Situation, at: number): Reservation | undefined {
  return pick([...tables.reservations.values()], at)
}

/** The machines of leases that a reservation has become. */
function machinesBy({ tables }: Situation, id: string | undefined): number[] {
  const leases = [...tables.leases.values()].filter((lease) => lease.endedAtMs === null)
  return leases.filter(({ reservationId }) => reservationId === id).map(({ vmId }) => vmId)
}

/** Mostly whose it is. */
function ownerOr(
  now: Situation,
  userId: number | undefined,
  by: number,
): { userId: number; credentialVersion: number } {
  const owner = userId === undefined || by % 4 === 0 ? undefined : now.tables.users.get(userId)
  return owner === undefined
    ? actorIn(now, by)
    : { userId: owner.id, credentialVersion: owner.credentialVersion }
}

/** A call on a lease, mostly on one that runs and by its holder. */
function leaseCall(now: Situation, at: number, how: number) {
  const held = [...now.tables.vms.values()].filter(({ holderId }) => holderId !== null)
  const vm = pick(held, at) ?? vmIn(now, at)
  const generation = how % 5 === 0 ? vm.generation - 1 : vm.generation
  return {
    actor: ownerOr(now, vm.holderId ?? undefined, how),
    vmId: vm.id,
    generation,
    ifGeneration: how % 3 === 0 ? vm.generation : null,
    requestId,
  }
}

/** A check-in, mostly by the holder. */
function checkInOf(now: Situation, at: number, how: number): CommandOf<'checkIn'> {
  const held = [...now.tables.vms.values()].filter(({ holderId }) => holderId !== null)
  const vm = pick(held, at) ?? vmIn(now, at)
  const holder = now.tables.users.get(vm.holderId ?? 1)
  return {
    kind: 'checkIn',
    actor: { userId: holder?.id ?? 1, credentialVersion: holder?.credentialVersion ?? 1 },
    vmId: vm.id,
    generation: how % 3 === 0 ? null : vm.generation - (how % 2),
    requestId,
  }
}

/** A report of some of the machines that were claimed in one state, however long ago. */
function reportOf({ claimed }: Situation, at: number, more: number, what: string): CommandOf<'reportWork'> {
  const first = pick(claimed, at)
  if (first === undefined) return { kind: 'reportWork', state: 'maintenance', results: [] }
  const alike = claimed.filter(({ state }) => state === first.state)
  const from = alike.indexOf(first)
  const vmIds = new Set<number>()
  const results: WorkResult[] = []
  for (const { vmId, claim } of alike.slice(from, from + 1 + more)) {
    if (vmIds.has(vmId)) continue
    vmIds.add(vmId)
    if (what === 'ok') results.push({ vmId, claim, ok: true })
    else results.push({ vmId, claim, ok: false, failure: 'no', permanent: what === 'permanent' })
  }
  return { kind: 'reportWork', state: first.state, results }
}

/** What workers learn from an answer. */
export function claimedIn(command: Command, answer: unknown): Claimed[] {
  if (isRefusal(answer)) return []
  if (command.kind === 'claimWork')
    return (answer as { claimed: Vm[] }).claimed.map((vm) => ({
      state: command.state,
      vmId: vm.id,
      claim: vm.claim,
    }))
  if (command.kind === 'growPool')
    return (answer as { planned: Vm[] }).planned.map((vm) => ({
      state: 'provisioning',
      vmId: vm.id,
      claim: vm.claim,
    }))
  return []
}

/** A history: the moves of each batch, and how much time passes before it. */
export type History = readonly (readonly [readonly Move[], number])[]

const KINDS = Object.keys(WEIGHTS) as CommandKind[]

export const histories: fc.Arbitrary<History> = historiesOf(KINDS)

/** Histories in which nobody waits and nothing is booked. */
export const plainHistories: fc.Arbitrary<History> = historiesOf(
  KINDS.filter((kind) => !OF_QUEUES.includes(kind)),
)

function historiesOf(kinds: readonly CommandKind[]): fc.Arbitrary<History> {
  const batch = fc.tuple(fc.array(moveOf(kinds), { minLength: 1, maxLength: 6 }), fc.nat(1_500))
  return fc.array(batch, { minLength: 1, maxLength: 30 })
}

/** An installation that has been in use for a while, or that is new. */
export function worldOf(used: boolean): World {
  if (!used) return new World({ users: [], pools: [] })
  const vms = vmsOf('ready', 'leased', 'maintenance', 'ready', 'leased', 'ready', 'failed', 'ready').map(
    (vm, i) => ({ ...vm, type: VM_TYPE_NAMES[i % 4] ?? 'small' }),
  )
  const users = [aUser(1), aUser(2), aUser(3), aUser(4, { role: 'admin' })]
  return new World({ users, vms, pools: [aPool({ target: 8, cleaning: 'automatic' })] })
}

/** The command without a limit to how much it does, where it is free to choose which machines it begins with. */
export function wholly(command: Command): Command {
  const chooses = command.kind === 'releaseLeaver' || command.kind === 'continueReset'
  return chooses ? { ...command, machinesMax: 100 } : command
}

/** An answer without the order in which claimed machines come, and without the version of its pool. */
export function comparable(answer: unknown): unknown {
  if (typeof answer !== 'object' || answer === null) return answer
  const { claimed, pool, ...rest } = answer as { claimed?: Vm[]; pool?: Pool }
  return {
    ...rest,
    ...(claimed === undefined ? {} : { claimed: claimed.toSorted((a, b) => a.id - b.id) }),
    ...(pool === undefined || pool === null ? { pool } : { pool: unversioned(pool) }),
  }
}
