/**
 * People and programs that use the servers: they check machines out and in, wait for them, book them, hand them on, maintain,
 * resize, come and go. They remember what they were told and act on it late; their calls are sent to any server, twice, or get lost
 * on the way, and so do the answers. Some calls carry a key, and are made again under it.
 */
import type { Command, CommandOf, ReplyOf } from '../../src/domain/command.ts'
import { EVEN_MIX, type PoolPolicy } from '../../src/domain/pool.ts'
import { isRefusal, type Refusal } from '../../src/domain/refusal.ts'
import { PRIORITIES } from '../../src/domain/request.ts'
import type { User } from '../../src/domain/user.ts'
import type { Vm } from '../../src/domain/vm.ts'
import { VM_TYPE_NAMES } from '../../src/domain/vm-type.ts'
import { deleteAccount } from '../../src/service/account.ts'
import type { Berth } from '../../src/service/berth.ts'
import type { Caller } from '../../src/service/credentials.ts'
import { setPoolSize } from '../../src/service/pool-size.ts'
import { resetInstallation } from '../../src/service/reset.ts'
import type { Details } from './choices.ts'
import type { Call, CallKey } from './promises.ts'
import { type Owner, owner } from './scheduler.ts'
import { type Host, isStoreFault, type Server, textOf, type World } from './server.ts'

export const POOLS = ['default', 'lab'] as const
const SIZE_MAX = 5

/** What pools are like: times are short, so that much ends, begins and comes back within one run. */
export const POOL_POLICY: Partial<PoolPolicy> = {
  typeMix: EVEN_MIX,
  cleaning: 'automatic',
  provider: 'simulated',
  leaseSecondsDefault: 20,
  warnSeconds: 5,
  marginSeconds: 2,
  makeSeconds: 2,
  gridSeconds: 1,
  softGraceSeconds: 2,
  noShowSeconds: 4,
}

/** How often holders look whether somebody waits for what they have no more use for. */
const GIVING_BACK_MS = 20_000

const EMAILS = ['ada', 'bob', 'cy', 'dee', 'eve'].map((name) => `${name}@example.org`)
const STEPS = ['clean', 'cordon', 'uncordon', 'retry'] as const

/** How long a client waits before its next move. */
const THINKING_MS = [30, 0, 3, 200, 1_200] as const
const THINKING_WEIGHTS = [20, 35, 25, 15, 5]

const MOVES = {
  nothing: 2,
  checkoutAny: 16,
  checkoutTyped: 6,
  checkoutNamed: 8,
  giveBack: 18,
  giveBackUnnumbered: 5,
  giveBackOld: 8,
  giveBackAnothers: 2,
  maintain: 12,
  resize: 6,
  deleteMachine: 4,
  createUser: 3,
  changeUser: 4,
  deleteUser: 2,
  reset: 1,
  reportAgain: 5,
  join: 22,
  joinNamed: 3,
  cancelRequest: 3,
  extend: 6,
  release: 10,
  releaseOld: 4,
  transfer: 4,
  share: 1,
  beat: 6,
  reserve: 7,
  claimReservation: 2,
  cancelReservation: 2,
  repeat: 6,
}

type Move = keyof typeof MOVES

/** Moves of those who wait or book: a run has all of them or none. */
const OF_QUEUES: ReadonlySet<Move> = new Set([
  'join',
  'joinNamed',
  'cancelRequest',
  'extend',
  'release',
  'releaseOld',
  'transfer',
  'share',
  'beat',
  'reserve',
  'claimReservation',
  'cancelReservation',
  'repeat',
] as const)

const DURATIONS = [undefined, 2, 10, 40, null] as const
const WAITS = [null, 60, 5, 0] as const
const STARTS_MS = [1_000, 0, 5_000, 30_000] as const
const LENGTHS_MS = [4_000, 1_000, 20_000] as const

interface Lease {
  readonly userId: number
  readonly vmId: number
  readonly generation: number
}

/** A request or a reservation. */
interface Wished {
  readonly id: string
  readonly userId: number
}

/** A call that was made under a key. */
interface KeyedCall {
  readonly key: CallKey
  readonly command: Command
}

/** What a caller learns from an answer. */
interface Told {
  readonly leases: readonly Lease[]
  readonly waiting: Wished | null
  readonly reservations: readonly Wished[]
}

export class Clients {
  readonly #world: World
  readonly #network = owner('network')
  readonly #moves: readonly Move[]
  readonly #weights: readonly number[]
  /** What each client was told that it holds, the newest first; it never forgets. */
  readonly #told: Lease[][]
  readonly #waits: Wished[][]
  readonly #booked: Wished[][]
  readonly #keyed: KeyedCall[][]
  /** Calls that have no answer yet, with the server that has them. */
  readonly #open = new Map<Call, Server>()
  #calls = 0
  #keys = 0

  constructor(world: World, clients: number) {
    this.#world = world
    const lists = <Row>() => Array.from({ length: clients }, (): Row[] => [])
    this.#told = lists()
    this.#waits = lists()
    this.#booked = lists()
    this.#keyed = lists()
    this.#moves = Object.keys(MOVES) as Move[]
    // Resets end everything that went on: most runs have none.
    const resets = world.choices.pick('plan', [3, 1]) === 1
    const queues = world.choices.pick('plan', [1, 1]) === 1
    this.#weights = this.#moves.map((move) =>
      (move === 'reset' && !resets) || (OF_QUEUES.has(move) && !queues) ? 0 : MOVES[move],
    )
  }

  start(): void {
    for (const client of this.#told.keys()) this.#think(client)
  }

  /** Calls that a running server owes an answer. */
  get owed(): Call[] {
    return [...this.#open].filter(([, server]) => !server.process.dead).map(([call]) => call)
  }

  get calls(): number {
    return this.#calls
  }

  #think(client: number): void {
    const { choices, scheduler } = this.#world
    const how = choices.details('clients')
    const ms = THINKING_MS[how.pick(THINKING_WEIGHTS)] ?? 0
    const self: Owner = this.#network
    scheduler.after(self, `client ${client} moves`, ms, () => {
      if (choices.calm) return
      // Calls that come together are decided in one batch.
      const host = how.pick([2, 1]) === 1 ? how.among(this.#world.hosts) : null
      const moves = host === null ? 1 : 2 + how.pick(3)
      for (let i = 0; i < moves; i++) this.#move(client, host, choices.details('clients'))
      this.#think(client)
    })
  }

  /** One call, to `wanted` or to any host. */
  #move(client: number, wanted: Host | null, how: Details): void {
    const { faults, scheduler, hosts } = this.#world
    const move = this.#moves[how.pick(this.#weights)] ?? 'nothing'
    if (move === 'reportAgain') {
      const host = wanted ?? how.among(hosts)
      host.server?.reportAgain(how.pick(8))
      return
    }
    const call = move === 'repeat' ? this.#again(client, how) : this.#call(client, move, how)
    if (call === null) return
    const { command, key } = call
    const times = faults.strikes('callTwice') ? 2 : 1
    for (let i = 0; i < times; i++) {
      const host = wanted ?? how.among(hosts)
      if (faults.strikes('callLost')) continue
      const delayMs = faults.delayMs('callLate')
      const requestId = `r${++this.#calls}`
      scheduler.after(this.#network, 'a call arrives', delayMs, () =>
        this.#arrive(client, host.server, requestId, command, key),
      )
    }
  }

  /** A new call; many of those that may carry a key do. */
  #call(client: number, move: Exclude<Move, 'reportAgain' | 'repeat'>, how: Details) {
    const command = this.#command(client, move, how)
    if (command === null) return null
    const mayBeKeyed = OF_QUEUES.has(move) && how.pick(2) === 1
    if (!mayBeKeyed) return { command, key: null }
    const key = { key: `k${++this.#keys}`, fingerprint: move }
    this.#keyed[client]?.unshift({ key, command })
    return { command, key }
  }

  /** A call that was made before under a key, or another one under the same key. */
  #again(client: number, how: Details): KeyedCall | null {
    const calls = this.#keyed[client] ?? []
    const call = calls[how.pick([6, 2, 1])]
    if (call === undefined || !('actor' in call.command) || call.command.actor === null) return null
    const actor = this.#actorOf(call.command.actor.userId)
    const fingerprint = how.pick([8, 1]) === 1 ? 'another body' : call.key.fingerprint
    return { key: { ...call.key, fingerprint }, command: { ...call.command, actor } as Command }
  }

  /** A user as they would call now. */
  #actorOf(userId: number) {
    const user = this.#world.promises.tables.users.get(userId)
    return { userId, credentialVersion: user?.credentialVersion ?? 1 }
  }

  /**
   * From now on, while somebody waits, whoever holds a machine without end gives it back, at this server, and admins bring back
   * what nobody else cleans.
   */
  giveBack(server: Server): void {
    const { promises, scheduler } = this.#world
    const { leases, requests, users, vms, pools } = promises.tables
    const isAnyWaiting = [...requests.values()].some(({ state }) => state === 'waiting')
    const admin = [...users.values()].find(({ role, state }) => role === 'admin' && state === 'active')
    if (isAnyWaiting && admin !== undefined)
      for (const { id: vmId, poolId, state } of vms.values()) {
        if (state !== 'maintenance' || pools.get(poolId)?.pool.cleaning !== 'manual') continue
        const call = { actor: actorOf(admin), vmId, requestId: '' }
        this.#arrive(0, server, `r${++this.#calls}`, { kind: 'maintain', step: 'clean', ...call }, null)
      }
    if (isAnyWaiting)
      for (const { userId, vmId, generation, endedAtMs, endsAtMs } of leases.values()) {
        if (endedAtMs !== null || endsAtMs !== null) continue
        const actor = this.#actorOf(userId)
        const call = { actor, vmId, generation, ifGeneration: generation, requestId: '', reason: null }
        this.#arrive(0, server, `r${++this.#calls}`, { kind: 'releaseLease', ...call }, null)
      }
    scheduler.after(this.#network, 'holders give back', GIVING_BACK_MS, () => this.giveBack(server))
  }

  #arrive(
    client: number,
    server: Server | null,
    requestId: string,
    command: Command,
    key: CallKey | null,
  ): void {
    const { scheduler, promises } = this.#world
    if (server === null || !server.running || server.berth === null) return
    const frozenMs = server.process.frozenUntilMs - scheduler.nowMs
    if (frozenMs > 0) {
      scheduler.after(this.#network, 'a call waits', frozenMs, () =>
        this.#arrive(client, server, requestId, command, key),
      )
      return
    }
    const named = withIds({ ...command, requestId } as Command, requestId)
    const under = key === null ? '' : ` under ${key.key} (${key.fingerprint})`
    promises.note(() => `client ${client} → ${server.name}: ${requestId} ${describeCommand(named)}${under}`)
    const call = promises.handedIn(requestId, named, key)
    this.#open.set(call, server)
    const { berth } = server
    const answered =
      key === null
        ? submit(berth, named, requestId).then((reply) => {
            promises.answered(call, reply)
            return isRefusal(reply) ? reply : toldBy(named, reply)
          })
        : submitKeyed(berth, named, key).then(({ reply, answer }) => {
            if (isRefusal(answer)) promises.answered(call, answer)
            else promises.answeredKeyed(call, reply, answer)
            return isRefusal(answer) ? answer : (answer.body as Told)
          })
    answered.then(
      (told) => {
        this.#open.delete(call)
        promises.note(() => `${server.name} answers ${requestId}: ${describeTold(told)}`)
        if (!isRefusal(told)) this.#tell(client, told)
      },
      (error) => {
        this.#open.delete(call)
        promises.unanswered(call)
        promises.note(() => `${server.name} fails ${requestId}: ${String(error)}`)
        if (!isStoreFault(error))
          promises.broken('no-bug', `${server.name} failed ${requestId}: ${textOf(error)}`)
      },
    )
  }

  /** The answer travels; what it says is acted on when it arrives. */
  #tell(client: number, { leases, waiting, reservations }: Told): void {
    if (leases.length + reservations.length === 0 && waiting === null) return
    const { faults, scheduler } = this.#world
    const delayMs = faults.delayMs('callLate')
    scheduler.after(this.#network, 'an answer arrives', delayMs, () => {
      this.#told[client]?.unshift(...leases)
      if (waiting !== null) this.#waits[client]?.unshift(waiting)
      this.#booked[client]?.unshift(...reservations)
    })
  }

  /** What a client holds as far as it knows: what it was told, and what its requests and reservations have become. */
  #leasesOf(client: number): Lease[] {
    const { requests, leases } = this.#world.promises.tables
    const granted = (this.#waits[client] ?? []).flatMap(({ id, userId }) =>
      (requests.get(id)?.leases ?? []).map((lease) => ({ ...lease, userId })),
    )
    const ids = new Set(this.#booked[client]?.map(({ id }) => id))
    const begun = [...leases.values()].filter(
      ({ reservationId, endedAtMs }) => endedAtMs === null && ids.has(reservationId ?? ''),
    )
    return [...granted, ...begun, ...(this.#told[client] ?? [])]
  }

  #command(client: number, move: Exclude<Move, 'reportAgain' | 'repeat'>, how: Details): Command | null {
    const { promises } = this.#world
    const pick = (weights: readonly number[] | number) => how.pick(weights)
    const among = <T>(items: readonly T[]): T => how.among(items)
    const { users, vms } = promises.tables
    const requestId = ''
    const active = [...users.values()].filter(({ state }) => state === 'active')
    const admins = active.filter(({ role }) => role === 'admin')
    if (active.length === 0) {
      const account = { name: 'First', email: EMAILS[0] ?? '', role: 'user', passwordHash: 'hash' } as const
      return { kind: 'createUser', actor: null, mayBeFirst: true, ...account, requestId }
    }
    /** Each client is mostly one person; now and then it is somebody else, somebody who is gone, or uses an old password. */
    const self = () => {
      const odd = pick([30, 1, 1, 1])
      if (odd === 1) return actorOf(among([...users.values()]))
      const mine = active[client % active.length] as User
      return { userId: mine.id, credentialVersion: mine.credentialVersion - (odd === 2 ? 1 : 0) }
    }
    const admin = () => (admins.length === 0 || pick([12, 1]) === 1 ? self() : actorOf(among(admins)))
    const vmId = (): number => {
      const ids = [...vms.keys()]
      return ids.length === 0 || pick([25, 1]) === 1 ? promises.tables.installation.nextVmId : among(ids)
    }
    const pool = (): string => POOLS[pick([3, 1])] ?? POOLS[0]
    const checkout = (edit: Partial<CommandOf<'checkout'>>): Command => ({
      kind: 'checkout',
      actor: self(),
      pool: pool(),
      vmId: null,
      type: null,
      requestId,
      ...edit,
    })
    const told = this.#told[client] ?? []
    const held = (lease: Lease | undefined, generation: (lease: Lease) => number | null): Command | null => {
      if (lease === undefined) return null
      const actor = this.#actorOf(lease.userId)
      return { kind: 'checkIn', actor, vmId: lease.vmId, generation: generation(lease), requestId }
    }
    /** A call on a lease: mostly on one that runs, by its holder. */
    const onLease = (old: boolean) => {
      const mine = this.#leasesOf(client)
      const lease = old && mine.length > 0 ? among(mine) : mine[pick([6, 3, 1])]
      if (lease === undefined) return null
      const odd = pick([12, 1, 1])
      const actor = odd === 1 ? self() : odd === 2 ? admin() : this.#actorOf(lease.userId)
      const { vmId, generation } = lease
      return { actor, vmId, generation, ifGeneration: pick(2) === 1 ? generation : null, requestId }
    }
    const join = (vmId: number | null): Command => {
      const typed = pick([2, 1]) === 1
      const kind = {
        type: typed ? among(VM_TYPE_NAMES) : null,
        labels: {},
        vmId: null,
        count: 1 + pick([6, 3, 1]),
      }
      const other = { type: among(VM_TYPE_NAMES), labels: {}, vmId: null, count: 1 }
      const soft = pick([4, 1]) === 1
      return {
        kind: 'join',
        actor: self(),
        id: '',
        pool: pool(),
        wish:
          vmId !== null
            ? [{ ...kind, type: null, vmId, count: 1 }]
            : pick([6, 1]) === 1
              ? [kind, other]
              : [kind],
        terms: {
          durationSeconds: soft ? undefined : DURATIONS[pick([2, 3, 4, 2, 1])],
          durationSecondsMin: pick([4, 1]) === 1 ? 1 : null,
          softGraceSeconds: soft ? 2 : null,
          heartbeatSeconds: pick([3, 1]) === 1 ? 3 : null,
          purpose: null,
          labels: {},
        },
        priority: among(PRIORITIES),
        waitSeconds: WAITS[pick([5, 3, 2, 4])] ?? null,
        requestId,
      }
    }
    const mine = (wished: readonly Wished[]) => {
      const one = wished[pick([4, 2, 1])]
      const actor = one === undefined || pick([12, 1]) === 1 ? self() : this.#actorOf(one.userId)
      return one === undefined ? null : { id: one.id, actor, requestId }
    }
    const booked = this.#booked[client] ?? []
    const commands: Record<Exclude<Move, 'reportAgain' | 'repeat'>, () => Command | null> = {
      nothing: () => null,
      checkoutAny: () => checkout({}),
      checkoutTyped: () => checkout({ type: among(VM_TYPE_NAMES) }),
      checkoutNamed: () => {
        const id = vmId()
        const of = vms.get(id)
        const name = of === undefined ? undefined : promises.tables.pools.get(of.poolId)?.pool.name
        return checkout({ vmId: id, ...(name === undefined ? {} : { pool: name }) })
      },
      giveBack: () => held(told[pick([8, 2, 1])], ({ generation }) => generation),
      giveBackUnnumbered: () => held(told[pick([8, 2, 1])], () => null),
      giveBackOld: () => held(told.length === 0 ? undefined : among(told), ({ generation }) => generation),
      giveBackAnothers: () => ({
        kind: 'checkIn',
        actor: self(),
        vmId: vmId(),
        generation: null,
        requestId,
      }),
      maintain: () => {
        const actor = admin()
        const aside = [...vms.values()].filter(({ state }) => state !== 'ready' && state !== 'leased')
        const id = aside.length > 0 && pick([1, 2]) === 1 ? among(aside).id : vmId()
        // Mostly what fits the machine's state; else what does not.
        const step = fittingStep(vms.get(id), pick(3)) ?? among(STEPS)
        return { kind: 'maintain', actor, vmId: id, step, requestId }
      },
      resize: () => ({
        kind: 'sizePool',
        actor: admin(),
        pool: pool(),
        size: pick(SIZE_MAX + 1),
        policy: { typeMix: EVEN_MIX, cleaning: 'automatic', provider: 'simulated' },
        requestId,
      }),
      deleteMachine: () => ({ kind: 'deleteVm', actor: admin(), vmId: vmId(), requestId }),
      createUser: () => ({
        kind: 'createUser',
        actor: admin(),
        mayBeFirst: true,
        name: 'New',
        email: among(EMAILS),
        role: pick(2) === 0 ? 'admin' : 'user',
        passwordHash: 'hash',
        requestId,
      }),
      changeUser: () => {
        const user = among(active)
        const actor = pick(2) === 0 ? actorOf(user) : admin()
        const email = pick(2) === 0 ? null : among(EMAILS)
        const passwordHash = pick(2) === 0 ? null : 'new hash'
        return { kind: 'changeUser', actor, userId: user.id, name: null, email, passwordHash, requestId }
      },
      deleteUser: () => ({ kind: 'deleteUser', actor: admin(), userId: among(active).id, requestId }),
      reset: () => ({ kind: 'beginReset', actor: admin(), allowed: false, requestId }),
      join: () => join(null),
      joinNamed: () => join(vmId()),
      cancelRequest: () => {
        const call = mine(this.#waits[client] ?? [])
        return call === null ? null : { kind: 'cancelRequest', ...call }
      },
      extend: () => {
        const call = onLease(false)
        const atMs = promises.tables.leases.get(`${call?.vmId} ${call?.generation}`)?.fromMs ?? 0
        const to = [
          { bySeconds: 5 },
          { bySeconds: 60 },
          { endsAtMs: atMs + 8_000 },
          { endsAtMs: null },
        ] as const
        if (call === null) return null
        return { kind: 'extendLease', ...call, to: among(to), override: pick([5, 1]) === 1 }
      },
      release: () => {
        const call = onLease(false)
        return call === null
          ? null
          : { kind: 'releaseLease', ...call, reason: pick(2) === 1 ? 'needed' : null }
      },
      releaseOld: () => {
        const call = onLease(true)
        return call === null ? null : { kind: 'releaseLease', ...call, reason: 'needed' }
      },
      transfer: () => {
        const call = onLease(pick([3, 1]) === 1)
        return call === null ? null : { kind: 'transferLease', ...call, toUserId: among(active).id }
      },
      share: () => {
        const call = onLease(false)
        return call === null ? null : { kind: 'shareLease', ...call, userIds: [among(active).id] }
      },
      beat: () => {
        const call = onLease(pick([3, 1]) === 1)
        return call === null ? null : { kind: 'beatLease', ...call }
      },
      reserve: () => {
        const { scheduler, database } = this.#world
        const fromMs = scheduler.nowMs + database.clockErrorMs + among(STARTS_MS)
        const toMs = fromMs + among(LENGTHS_MS)
        const laterMs = 40_000
        const isSeries = pick([3, 1]) === 1
        const windows = [
          { id: '', fromMs, toMs },
          ...(isSeries ? [{ id: '', fromMs: fromMs + laterMs, toMs: toMs + laterMs }] : []),
        ]
        const named = pick([6, 1]) === 1
        const type = pick([2, 1]) === 1 ? among(VM_TYPE_NAMES) : null
        const kind = { type, labels: {}, vmId: null, count: 1 + pick([4, 2, 1]) }
        return {
          kind: 'reserve',
          actor: self(),
          pool: pool(),
          wish: [named ? { ...kind, type: null, vmId: vmId(), count: 1 } : kind],
          windows,
          seriesId: isSeries ? 'series' : null,
          partial: pick(2) === 1,
          noShowSeconds: [undefined, 1, null][pick(3)],
          purpose: null,
          labels: {},
          requestId,
        }
      },
      claimReservation: () => {
        const call = mine(booked)
        return call === null ? null : { kind: 'claimReservation', ...call }
      },
      cancelReservation: () => {
        const call = mine(booked)
        const begun = this.#leasesOf(client).flatMap(({ vmId, generation }) => {
          const lease = promises.tables.leases.get(`${vmId} ${generation}`)
          return lease !== undefined && lease.reservationId === call?.id ? [vmId] : []
        })
        return call === null ? null : { kind: 'cancelReservation', ...call, vmIds: [...new Set(begun)] }
      },
    }
    return commands[move]()
  }
}

function actorOf({ id, credentialVersion }: User) {
  return { userId: id, credentialVersion }
}

function fittingStep(vm: Vm | undefined, how: number): (typeof STEPS)[number] | null {
  if (vm?.state === 'cordoned') return 'uncordon'
  if (vm?.state === 'failed') return how === 0 ? 'retry' : how === 1 ? 'cordon' : null
  if (vm?.state === 'maintenance') return how === 0 ? 'clean' : 'cordon'
  if (vm?.state === 'ready') return how === 0 ? 'cordon' : null
  return null
}

/** Hands a call in the way the servers' shells do: what takes more than a command goes through its service. */
function submit(berth: Berth, command: Command, requestId: string): Promise<unknown> {
  if (command.kind === 'sizePool')
    return setPoolSize(berth, callerOf(command.actor), command.pool, command.size, requestId)
  if (command.kind === 'deleteUser')
    return deleteAccount(berth, callerOf(command.actor), command.userId, requestId)
  if (command.kind === 'beginReset')
    return resetInstallation(berth, command.actor === null ? null : callerOf(command.actor), requestId)
  return (berth.submit as (command: Command) => Promise<unknown>)(command)
}

/** The same under a key. The reply is the one that was answered, unless that was an earlier one. */
async function submitKeyed(berth: Berth, command: Command, { key, fingerprint }: CallKey) {
  let reply: unknown = null
  const say = (said: unknown) => {
    reply = said
    return { status: 200, body: toldBy(command, said), headers: {} }
  }
  const answer = await berth.submitKeyed(command as never, { key, fingerprint, say } as never)
  return { reply, answer }
}

/** Each call draws ids of its own for what it may make. */
function withIds(command: Command, requestId: string): Command {
  if (command.kind === 'join') return { ...command, id: `req-${requestId}` }
  if (command.kind !== 'reserve') return command
  const windows = command.windows.map((window, i) => ({ ...window, id: `res-${requestId}-${i}` }))
  return { ...command, windows, seriesId: command.seriesId === null ? null : `ser-${requestId}` }
}

function toldBy(command: Command, reply: unknown): Told {
  const userId = ('actor' in command ? command.actor?.userId : null) ?? 0
  const nothing: Told = { leases: [], waiting: null, reservations: [] }
  const leaseOf = ({ id: vmId, generation, holderId }: Vm): Lease => ({
    userId: holderId ?? 0,
    vmId,
    generation,
  })
  if (command.kind === 'join') {
    const { leases, waiting } = reply as ReplyOf<'join'>
    return {
      ...nothing,
      leases: leases?.map(({ vm }) => leaseOf(vm)) ?? [],
      waiting: waiting === null ? null : { id: waiting.id, userId },
    }
  }
  if (command.kind === 'reserve') {
    const { reservations } = reply as ReplyOf<'reserve'>
    return { ...nothing, reservations: reservations.map(({ id }) => ({ id, userId })) }
  }
  if (command.kind !== 'checkout' && command.kind !== 'transferLease') return nothing
  return { ...nothing, leases: [leaseOf((reply as { vm: Vm }).vm)] }
}

function callerOf(actor: { userId: number; credentialVersion: number }): Caller {
  return { ...actor, role: 'admin' }
}

/** What of a command says nothing to whoever reads a schedule. */
const UNSAID = new Set(['kind', 'actor', 'requestId', 'policy', 'mayBeFirst', 'allowed', 'passwordHash'])

function describeCommand(command: Command): string {
  const actor = 'actor' in command ? command.actor : null
  const fields = Object.entries(command)
    .filter(([name, value]) => !UNSAID.has(name) && value !== null)
    .map(([name, value]) => ` ${name} ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`)
  const password = 'passwordHash' in command && command.passwordHash !== null ? ' with a password' : ''
  return `${command.kind}${actor === null ? '' : ` by user ${actor.userId}`}${fields.join('')}${password}`
}

function describeTold(told: Told | Refusal): string {
  if (isRefusal(told)) return `no: ${told.code}`
  const leases = told.leases.map(({ vmId, generation }) => ` machine ${vmId} at generation ${generation}`)
  const wished = [...(told.waiting === null ? [] : [told.waiting]), ...told.reservations].map(
    ({ id }) => ` ${id}`,
  )
  return ['yes', ...leases, ...wished].join('')
}
