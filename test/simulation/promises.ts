/**
 * What Berth promises, checked after each commit and each answer. Beside the rows stands a simple model that is made from the
 * events alone: who is there, which machine is in which state and in whose hands. The rows have to say the same, and what
 * each caller was told has to be in them. The first promise that breaks ends the run.
 */
import { Book } from '../../src/domain/book.ts'
import { actorOf, type Command, type CommandKind } from '../../src/domain/command.ts'
import type { Joined } from '../../src/domain/decision.ts'
import type { EventType, NewEvent } from '../../src/domain/event.ts'
import { countByType, countExisting, countFree, countIn, isContended } from '../../src/domain/pool.ts'
import { isRefusal } from '../../src/domain/refusal.ts'
import { reservationDueAtMs } from '../../src/domain/reservation.ts'
import { VM_STATES, type Vm, type VmState } from '../../src/domain/vm.ts'
import { VM_TYPE_NAMES } from '../../src/domain/vm-type.ts'
import { place } from '../../src/domain/wish.ts'
import type { WorkResult, WorkState } from '../../src/domain/work.ts'
import { leaseKey, type WorkingSet } from '../../src/domain/working-set.ts'
import { wholeBook } from '../support/allocation-rows.ts'
import { bookTexts } from '../support/book-texts.ts'
import type { MemoryTables } from '../support/memory-store.ts'

export const PROMISES = {
  'one-holder': 'a machine never has two holders; its lease rows, its row and its events agree',
  generation: 'the generation of a machine grows by one with each lease, and never otherwise',
  answered: 'what was answered with success had been committed, and says the same',
  'one-effect': 'each call that was handed in has one effect at most',
  refused: 'a call that was refused changes nothing, before and after',
  'stale-call': 'a call that means another lease changes nothing',
  'same-key': 'calls with the same key have one effect, and the same answer',
  'lease-end':
    'a lease ends by itself only when its time is over, no heartbeat came or nobody used the reservation',
  kept: 'a reservation whose holder was told nothing begins complete, as far as machines are not late',
  book: 'what a server has in memory of a pool is what its rows say',
  counted: 'a pool says how many requests wait and how many reservations stand',
  right: 'nobody acts without being there, with an old password, or beyond their role',
  lifecycle: 'machines change as the life of a machine says, and rows and events tell the same',
  tally: 'the tallies of a pool equal a recount',
  email: 'an e-mail belongs to one active user',
  events: 'event ids grow strictly, and who follows them sees each event once and in order',
  claim: 'a machine is worked on by one worker at a time, under a claim that holds',
  'late-report': 'the report of a claim that was taken over, reported or voided changes nothing',
  hands: 'no provider call touches a machine that is ready or in somebody’s hands',
  prepared: 'a machine that becomes ready exists, has an address, and was cleaned since it was last used',
  destroyed: 'a machine whose row goes was destroyed',
  'none-free': 'nobody is told that no machine is free while one is, all along',
  'held-rows': 'a batch changes only rows that it holds alone',
  deadlock: 'batches never wait for each other in a circle',
  converges:
    'when faults stop and time passes, pools reach their size, nothing is stuck, nobody starves, every call is answered',
  stores: 'the real store and the model hold the same rows',
  pace: 'no worker asks for work again and again without a pause when there is none',
  'no-bug': 'nothing throws that is not a fault of the store',
} as const

export type PromiseName = keyof typeof PROMISES

/** More than there are sweeps and pools. */
const VAIN_MAX = 20

export interface Breach {
  readonly promise: PromiseName
  readonly text: string
}

export interface CallKey {
  readonly key: string
  readonly fingerprint: string
}

/** One call that was handed in at a server. A call that came twice is two of them. */
export interface Call {
  readonly requestId: string
  readonly command: Command
  /** The key that it came with, and what it asked for as that key counts it; null: none. */
  readonly key: CallKey | null
  /** How much had been committed then. */
  readonly atCommit: number
  readonly atWipe: number
  answer: 'open' | 'accepted' | 'refused' | 'unknown'
}

interface ModelUser {
  readonly role: string
  readonly version: number
  readonly email: string
  readonly state: 'active' | 'leaving'
}

interface ModelVm {
  readonly state: VmState
  readonly holderId: number | null
  readonly generation: number
}

interface Claim {
  readonly claim: number
  readonly state: VmState
  /** Until when it holds, by the true time. */
  readonly untilMs: number
  /** How often the database's clock had jumped when it was made: a jump ends claims early. */
  readonly jumps: number
}

/** The fact that each kind of call leaves. */
const FACTS: Partial<Record<CommandKind, readonly EventType[]>> = {
  createUser: ['user.created'],
  changeUser: ['user.changed'],
  deleteUser: ['user.deleted'],
  sizePool: ['pool.created', 'pool.resized'],
  checkout: ['vm.checked_out'],
  checkIn: ['vm.checked_in'],
  maintain: ['vm.returned', 'vm.cordoned', 'vm.uncordoned', 'vm.retried'],
  deleteVm: ['vm.removed'],
  beginReset: ['installation.reset_begun', 'installation.reset'],
  join: ['vm.checked_out', 'request.waiting'],
  cancelRequest: ['request.cancelled'],
  extendLease: ['lease.extended'],
  releaseLease: ['vm.checked_in'],
  transferLease: ['vm.checked_in', 'vm.checked_out'],
  shareLease: ['lease.shared'],
  reserve: ['reservation.confirmed'],
  cancelReservation: ['reservation.cancelled', 'reservation.ended', 'vm.checked_in'],
}

/** Kinds of calls that leave several facts of one commit. */
const OF_MANY_FACTS: ReadonlySet<CommandKind> = new Set([
  'join',
  'transferLease',
  'reserve',
  'cancelReservation',
] as const)

/** Kinds of calls that may be accepted and leave no fact: things were so already, or it is none that is told. */
const OF_NO_FACT: ReadonlySet<CommandKind> = new Set([
  'sizePool',
  'changeUser',
  'cancelRequest',
  'extendLease',
  'transferLease',
  'beatLease',
  'claimReservation',
] as const)

/** What those do whom it concerns, and admins. */
const CONCERNED_DO: ReadonlySet<EventType> = new Set<EventType>([
  'vm.checked_in',
  'lease.extended',
  'lease.shared',
  'request.cancelled',
  'reservation.cancelled',
  'reservation.ended',
])

/** What only admins do. */
const ADMINS_DO: ReadonlySet<EventType> = new Set<EventType>([
  'user.created',
  'user.deleted',
  'pool.created',
  'pool.resized',
  'vm.returned',
  'vm.cordoned',
  'vm.uncordoned',
  'vm.retried',
  'vm.removed',
  'installation.reset_begun',
])

/** From which states each event leads, and to which. */
const MOVES: Partial<Record<EventType, readonly [readonly VmState[], VmState]>> = {
  // Retried and made in one batch: the model learns from the row that it was made anew.
  'vm.made': [['provisioning', 'maintenance'], 'ready'],
  'vm.checked_out': [['ready'], 'leased'],
  'vm.checked_in': [['leased'], 'maintenance'],
  'vm.cleaned': [['maintenance'], 'ready'],
  'vm.returned': [['maintenance'], 'ready'],
  'vm.failed': [['provisioning', 'maintenance'], 'failed'],
  'vm.retried': [['failed'], 'maintenance'],
  'vm.cordoned': [['ready', 'maintenance', 'failed'], 'cordoned'],
  'vm.uncordoned': [['cordoned'], 'maintenance'],
  'vm.removed': [['provisioning', 'ready', 'maintenance', 'failed', 'cordoned'], 'deleting'],
}

/** What the world outside looks like; who keeps it (machines.ts) tells of it. */
export interface Outside {
  exists(vmId: number): boolean
  clean(vmId: number): boolean
  used(vmId: number): void
  /** An admin vouches for it. */
  vouched(vmId: number): void
  wiped(): number
}

export class Promises {
  /** The first promise that broke. */
  breach: Breach | null = null
  commits = 0
  wipes = 0
  /** How often the database's clock jumped forward. */
  jumps = 0
  readonly counts = new Map<string, number>()
  note: (text: () => string) => void = () => {}
  #tables: MemoryTables | null = null
  #outside: Outside | null = null

  readonly #users = new Map<number, ModelUser>()
  readonly #vms = new Map<number, ModelVm>()
  readonly #targets = new Map<number, number>()
  readonly #openLeases = new Map<number, { generation: number; userId: number }>()
  /** The claim that each machine is under. */
  readonly #claims = new Map<number, Claim>()
  /** All that were made, by machine and number. */
  readonly #claimsMade = new Map<string, Claim>()
  #resetting = false
  /** The commit that began the reset. */
  #resetAt = 0

  readonly #calls = new Map<string, Call>()
  /** The first event that each call left, and the commit. */
  readonly #effects = new Map<string, { readonly event: NewEvent; readonly atCommit: number }>()
  /** By user and key: the call that had the effect, and what was answered. */
  readonly #effectOfKey = new Map<string, string>()
  readonly #answerOfKey = new Map<string, { readonly text: string; readonly wipes: number }>()
  /** How often workers of each server asked for work in vain, one time after the other. */
  readonly #vain = new WeakMap<object, { readonly atMs: number; readonly commits: number; times: number }>()
  /** Reservations whose holders were told that they are at risk. */
  readonly #toldAtRisk = new Set<unknown>()
  /** Users who are changed by this commit, with the versions of their credentials before it. */
  readonly #changedNow = new Map<number, number>()
  /** Machines that the events of the last commit tell of. */
  readonly #touched = new Set<number>()
  /** Event ids in the order of their commits, and where the last wipe stands among them. */
  readonly #eventIds: number[] = []
  readonly #placeOfEvent = new Map<number, number>()
  #wipedBefore = 0
  /** By pool and type: the last commit after which no machine was free. */
  readonly #emptyAt = new Map<string, number>()

  watch(tables: MemoryTables, outside: Outside): void {
    this.#tables = tables
    this.#outside = outside
  }

  get tables(): MemoryTables {
    if (this.#tables === null) throw new Error('nothing is watched yet')
    return this.#tables
  }

  get outside(): Outside {
    if (this.#outside === null) throw new Error('nothing is watched yet')
    return this.#outside
  }

  broken(promise: PromiseName, text: string): void {
    if (this.breach !== null) return
    this.breach = { promise, text }
    this.note(() => `BROKEN: ${promise}: ${text}`)
  }

  /** Counts that the run got somewhere, so that a test can require that runs do. */
  reached(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1)
  }

  // ---- calls

  handedIn(requestId: string, command: Command, key: CallKey | null = null): Call {
    const { commits: atCommit, wipes: atWipe } = this
    const call: Call = { requestId, command, key, atCommit, atWipe, answer: 'open' }
    this.#calls.set(requestId, call)
    return call
  }

  answered(call: Call, reply: unknown): void {
    const effect = this.#effects.get(call.requestId)?.event
    if (isRefusal(reply)) {
      if (reply.code === 'outcome_unknown') {
        call.answer = 'unknown'
        return
      }
      call.answer = 'refused'
      this.reached(`refused: ${reply.code}`)
      if (effect !== undefined)
        this.broken(
          'refused',
          `${call.requestId} was refused (${reply.code}), but ${effect.type} had been committed`,
        )
      if (reply.code === 'none_free') this.#checkNoneFree(call)
      return
    }
    call.answer = 'accepted'
    this.reached(`accepted: ${call.command.kind}`)
    if (effect === undefined) {
      // What a wipe that came right after it took away.
      if (OF_NO_FACT.has(call.command.kind) || this.wipes > call.atWipe) return
      this.broken(
        'answered',
        `${call.requestId} (${call.command.kind}) was answered with success, and nothing was committed for it`,
      )
      return
    }
    if (call.command.kind === 'checkout') {
      const { vm } = reply as { vm: Vm }
      if (
        effect.vmId !== vm.id ||
        effect.data?.generation !== vm.generation ||
        vm.holderId !== call.command.actor.userId
      )
        this.broken(
          'answered',
          `${call.requestId} was given machine ${vm.id} at generation ${vm.generation} for user ${vm.holderId}; committed: ${JSON.stringify(effect)}`,
        )
    }
    if (call.command.kind === 'join') this.#checkJoined(call, effect, reply as Joined)
    if (call.command.kind === 'createUser') {
      const { user } = reply as { user: { id: number } }
      if (effect.userId !== user.id)
        this.broken('answered', `${call.requestId} made user ${effect.userId}, not ${user.id}`)
    }
  }

  #checkJoined({ requestId, command }: Call, effect: NewEvent, { leases, waiting }: Joined): void {
    const [first] = leases ?? []
    const isSame =
      first === undefined
        ? effect.type === 'request.waiting' && effect.data?.request === waiting?.id
        : effect.type === 'vm.checked_out' &&
          effect.vmId === first.vm.id &&
          effect.data?.generation === first.lease.generation &&
          first.lease.userId === actorOf(command)?.userId
    if (!isSame)
      this.broken(
        'answered',
        `${requestId} was told ${first === undefined ? `that ${waiting?.id} waits` : `of machine ${first.vm.id} at generation ${first.lease.generation}`}; committed: ${JSON.stringify(effect)}`,
      )
  }

  /** A call under a key was answered with success: as before, if it was answered before. */
  answeredKeyed(call: Call, reply: unknown, answer: { readonly body: unknown; readonly replayed: boolean }) {
    const { requestId } = call
    const key = keyOf(call)
    if (answer.replayed) {
      call.answer = 'accepted'
      this.reached('an answer is given again')
      const hasEffect = this.#effectOfKey.has(key) || OF_NO_FACT.has(call.command.kind)
      if (this.#effects.has(requestId))
        this.broken('same-key', `${requestId} was given an earlier answer, and had an effect of its own`)
      if (!hasEffect && this.wipes === call.atWipe)
        this.broken('same-key', `${requestId} was given an earlier answer, and nothing had been committed`)
    } else this.answered(call, reply)
    const text = JSON.stringify(answer.body)
    const earlier = this.#answerOfKey.get(key)
    if (earlier?.wipes === this.wipes && earlier.text !== text)
      this.broken('same-key', `${requestId} was answered ${text}, and the same call ${earlier.text} before`)
    if (this.wipes === call.atWipe) this.#answerOfKey.set(key, { text, wipes: this.wipes })
  }

  /** The answer never came, or it was an exception. */
  unanswered(call: Call): void {
    call.answer = 'unknown'
  }

  #checkNoneFree(call: Call): void {
    if (call.command.kind !== 'checkout') return
    const { pool, type } = call.command
    const emptyAt = this.#emptyAt.get(`${pool} ${type}`) ?? -1
    const known = [...this.tables.pools.values()].some((row) => row.pool.name === pool)
    if (known && emptyAt < call.atCommit)
      this.broken(
        'none-free',
        `${call.requestId} was told that no machine (${type ?? 'any'}) of pool '${pool}' is free; one was, all along`,
      )
  }

  // ---- claims

  /** How many of these results belong to claims that are over. */
  voidOnes(state: WorkState, results: readonly WorkResult[]): number {
    return results.filter(({ vmId, claim }) => {
      const held = this.#claims.get(vmId)
      return held === undefined || held.claim !== claim || held.state !== state
    }).length
  }

  reported(
    results: readonly WorkResult[],
    voidOnes: number,
    reply: { accepted: number; late: number },
  ): void {
    if (voidOnes > 0) this.reached('a late report')
    if (reply.late < voidOnes)
      this.broken(
        'late-report',
        `of ${results.length} reported results ${voidOnes} belonged to claims that were over, and only ${reply.late} were called late: ${results.map(({ vmId, claim }) => `machine ${vmId} claim ${claim}`).join(', ')}`,
      )
  }

  /** A worker was told that it has claimed this machine. Returns the claim, unless it was void from the start. */
  toldOfClaim({ id, claim }: Pick<Vm, 'id' | 'claim'>): Claim | null {
    const row = this.tables.vms.get(id)
    if (row === undefined ? id >= this.tables.installation.nextVmId : row.claim < claim)
      this.broken(
        'answered',
        `a worker was told that it has claimed machine ${id} (claim ${claim}), and nothing was committed`,
      )
    return this.#claimsMade.get(`${id} ${claim}`) ?? null
  }

  /** A worker of a server asked for work and got none. */
  askedInVain(server: object, nowMs: number): void {
    const vain = this.#vain.get(server)
    if (vain === undefined || vain.atMs !== nowMs || vain.commits !== this.commits)
      this.#vain.set(server, { atMs: nowMs, commits: this.commits, times: 1 })
    else if (++vain.times > VAIN_MAX)
      this.broken(
        'pace',
        `a server asked for work ${vain.times} times within a millisecond, got none, and nothing changed`,
      )
  }

  // ---- commits

  /**
   * A batch was committed: the tables are as after it, `before` holds the rows as before. `loadedAtMs` is the true time at
   * which it was given its own.
   */
  committed(server: string, set: WorkingSet, before: Before, loadedAtMs: number): void {
    this.commits++
    this.note(() => `${server} commits #${this.commits}: ${describe(set, before)}`)
    const takes = new Map<number, number>()
    this.#touched.clear()
    this.#changedNow.clear()
    for (const event of set.events) this.#event(event, takes)
    this.#checkEnds(set)
    this.#checkStarts(set, before)
    this.#checkEventIds(set.events.length)
    if (this.#resetting)
      for (const vm of set.changedVms.values())
        if (vm.state === 'deleting')
          this.#vms.set(vm.id, { state: 'deleting', holderId: null, generation: vm.generation })
    this.#followLeases(set)
    for (const vm of set.changedVms.values()) {
      this.#checkRow(vm, set.wiped ? undefined : before.vms.get(vm.id), set.nowMs)
      this.#followClaim(vm, set.wiped ? undefined : before.vms.get(vm.id), set.nowMs, loadedAtMs)
    }
    for (const id of set.goneVms) this.#claims.delete(id)
    for (const user of set.changedUsers.values()) {
      const model = this.#users.get(user.id)
      const state = model?.state ?? 'gone'
      if (
        state !== user.state ||
        (model !== undefined && (model.version !== user.credentialVersion || model.role !== user.role))
      )
        this.broken('lifecycle', `the row of user ${user.id} says ${user.state}, the events say ${state}`)
    }
    this.#checkPools(set, takes, before)
    this.#noteEmpty()
    this.#checkEmails(set)
    this.#checkBooks(server, set)
  }

  /** Leases that Berth itself ended. */
  #checkEnds(set: WorkingSet): void {
    for (const { vmId, type, actorId, data } of set.events) {
      if (type !== 'vm.checked_in' || actorId !== null || vmId === undefined) continue
      const lease = set.changedLeases.get(leaseKey({ vmId, generation: Number(data?.generation) }))
      const by = data?.by
      const reservation = this.tables.reservations.get(lease?.reservationId ?? '')
      const { nowMs } = set
      const isOver = (ms: number | null | undefined) => ms != null && ms <= nowMs
      const mayEnd =
        by === 'expired'
          ? isOver(lease?.endsAtMs) || isOver(reservation?.toMs)
          : by === 'heartbeat_missed'
            ? isOver(lease?.beatByMs)
            : by === 'no_show'
              ? reservation?.state === 'no_show' && !reservation.claimed
              : by === 'user_deleted'
      if (!mayEnd)
        this.broken(
          'lease-end',
          `the lease of machine ${vmId} ended (${by}) at ${nowMs}, its row says ${JSON.stringify(lease)}`,
        )
      if (by !== undefined) this.reached(`a lease ends: ${by}`)
    }
  }

  /** Reservations that begin: what is missing was told before, or is late. */
  #checkStarts(set: WorkingSet, before: Before): void {
    const told = this.#toldAtRisk
    for (const { type, poolId, data } of set.events) {
      if (type === 'reservation.at_risk') told.add(data?.reservation)
      if (type === 'reservation.safe') told.delete(data?.reservation)
      if (type !== 'reservation.started') continue
      const missing = Number(data?.missing)
      const row = before.reservations.get(String(data?.reservation))
      if (missing > 0) this.reached('a reservation begins short')
      if (missing === 0 || told.has(data?.reservation)) continue
      const late = [...before.vms.values()].filter(
        (vm) =>
          vm.poolId === poolId && vm.state !== 'ready' && vm.freeAtMs !== null && vm.freeAtMs <= set.nowMs,
      )
      if (missing > late.length)
        this.broken(
          'kept',
          `reservation ${row?.id} began without ${missing} of its machines, its holder was told nothing, and ${late.length} machines are late`,
        )
    }
  }

  /** What the server has in memory of pools, against what it would read. */
  #checkBooks(server: string, set: WorkingSet): void {
    for (const poolId of set.bookedPools) {
      const row = this.tables.pools.get(poolId)
      const book = set.book(poolId)
      if (row === undefined || book === undefined) continue
      const [kept, read] = [book, Book.of(wholeBook(this.tables, row), set.nowMs)].map((one) =>
        bookTexts(one, set.nowMs),
      )
      this.reached('a book is compared')
      for (const [what, text] of Object.entries(kept ?? {}))
        if (text !== read?.[what])
          this.broken(
            'book',
            `${server} has ${what} of pool ${poolId} as ${text}; its rows say ${read?.[what]}`,
          )
    }
  }

  #event(event: NewEvent, takes: Map<number, number>): void {
    const { type, requestId } = event
    this.reached(`event: ${type}`)
    if (type === 'installation.reset') this.#wipe()
    if (requestId !== undefined) this.#checkCall(event, requestId)
    const user = event.userId === undefined ? undefined : this.#users.get(event.userId)
    if (type === 'user.created' && event.userId !== undefined) {
      const { role, email } = event.data as { role: string; email: string }
      this.#users.set(event.userId, { role, email, version: 1, state: 'active' })
    } else if (type === 'user.changed' && event.userId !== undefined && user !== undefined) {
      const { email, password } = event.data as { email?: [string, string]; password?: true }
      if (!this.#changedNow.has(event.userId)) this.#changedNow.set(event.userId, user.version)
      this.#users.set(event.userId, {
        ...user,
        email: email?.[1] ?? user.email,
        version: user.version + (password ? 1 : 0),
      })
    } else if (type === 'user.deleted' && event.userId !== undefined && user !== undefined)
      this.#users.set(event.userId, { ...user, state: 'leaving', version: user.version + 1 })
    else if (type === 'user.gone' && event.userId !== undefined) this.#users.delete(event.userId)
    else if (type === 'pool.created' && event.poolId !== undefined)
      this.#targets.set(event.poolId, (event.data as { size: number }).size)
    else if (type === 'pool.resized' && event.poolId !== undefined) {
      const { from, to } = event.data as { from: number; to: number }
      if (this.#targets.get(event.poolId) !== from)
        this.broken(
          'lifecycle',
          `pool ${event.poolId} was resized from ${from}, but its size was ${this.#targets.get(event.poolId)}`,
        )
      this.#targets.set(event.poolId, to)
      takes.set(event.poolId, 1_000)
    } else if (type === 'installation.reset_begun') {
      this.#resetting = true
      this.#resetAt = this.commits
    }
    for (const vmId of machinesOf(event)) this.#machine(event, vmId, takes)
  }

  /** What one event says of one machine. */
  #machine(event: NewEvent, vmId: number, takes: Map<number, number>): void {
    this.#touched.add(vmId)
    const { type } = event
    const vm = this.#vms.get(vmId)
    if (type === 'vm.planned') {
      if (vm !== undefined) this.broken('lifecycle', `machine ${vmId} was planned, but it is there already`)
      this.#vms.set(vmId, { state: 'provisioning', holderId: null, generation: 0 })
      return
    }
    if (type === 'vm.work_failed') return
    if (vm === undefined) {
      this.broken('lifecycle', `${type} tells of machine ${vmId}, which is not there`)
      return
    }
    if (type === 'vm.gone') {
      if (vm.state !== 'deleting')
        this.broken('lifecycle', `machine ${vmId} is gone from the state ${vm.state}`)
      if (this.outside.exists(vmId) && this.jumps === 0)
        this.broken('destroyed', `machine ${vmId} is gone from the pool, but was never destroyed`)
      this.#vms.delete(vmId)
      return
    }
    const move = MOVES[type]
    if (move === undefined) return
    if (event.data?.by === 'transferred') {
      this.#transfer(event, vmId, vm)
      return
    }
    if (!move[0].includes(vm.state)) {
      const promise = type === 'vm.checked_out' && vm.state === 'leased' ? 'one-holder' : 'lifecycle'
      this.broken(
        promise,
        `${type} of machine ${vmId}, which is ${vm.state}${vm.holderId === null ? '' : ` (held by user ${vm.holderId})`}`,
      )
    }
    if (vm.state === 'ready' && event.poolId !== undefined)
      takes.set(event.poolId, (takes.get(event.poolId) ?? 0) + 1)
    let { holderId, generation } = vm
    if (type === 'vm.checked_out') {
      generation++
      holderId = event.userId ?? null
      if (event.data?.generation !== generation)
        this.broken(
          'generation',
          `machine ${vmId} was leased at generation ${event.data?.generation}, after ${vm.generation}`,
        )
      this.outside.used(vmId)
    } else if (type === 'vm.checked_in') {
      if (event.data?.generation !== generation || event.userId !== holderId)
        this.broken(
          'one-holder',
          `machine ${vmId} of user ${holderId} at generation ${generation} was given back as ${JSON.stringify(event)}`,
        )
      const isOfLeaver = event.data?.by === undefined || event.data.by === 'user_deleted'
      if (event.actorId === null && isOfLeaver && this.#users.get(holderId ?? 0)?.state !== 'leaving')
        this.broken('right', `machine ${vmId} was taken from user ${holderId}, who was not deleted`)
      holderId = null
    } else if (type === 'vm.returned') this.outside.vouched(vmId)
    if ((type === 'vm.cleaned' || type === 'vm.made') && this.jumps === 0) {
      if (!this.outside.exists(vmId))
        this.broken('prepared', `${type} of machine ${vmId}, which the provider never made`)
      else if (!this.outside.clean(vmId))
        this.broken('prepared', `${type} of machine ${vmId}, which was not cleaned since somebody used it`)
    }
    if (type === 'vm.removed' && event.vmId !== undefined && event.poolId !== undefined)
      this.#targets.set(event.poolId, Math.max(0, (this.#targets.get(event.poolId) ?? 0) - 1))
    this.#vms.set(vmId, { state: move[1], holderId, generation })
  }

  /** One half of a machine's way from hand to hand: it is given up under one generation, and had under the next. */
  #transfer(event: NewEvent, vmId: number, { state, holderId, generation }: ModelVm): void {
    const isGiven = event.type === 'vm.checked_in'
    const isRight = isGiven
      ? state === 'leased' && event.userId === holderId && event.data?.generation === generation
      : state === 'leased' && holderId === null
    if (!isRight)
      this.broken(
        'one-holder',
        `machine ${vmId} of user ${holderId} (${state}) at ${generation}: ${JSON.stringify(event)}`,
      )
    if (!isGiven && event.data?.generation !== generation + 1)
      this.broken(
        'generation',
        `machine ${vmId} was handed on at ${event.data?.generation}, after ${generation}`,
      )
    if (isGiven) this.#vms.set(vmId, { state, holderId: null, generation })
    else this.#vms.set(vmId, { state, holderId: event.userId ?? null, generation: generation + 1 })
  }

  /** An event that a call left: the call was handed in, had no effect yet, and whoever called may do it. */
  #checkCall(event: NewEvent, requestId: string): void {
    const { type, actorId } = event
    const call = this.#calls.get(requestId)
    if (call === undefined) {
      this.broken('one-effect', `${type} tells of the call ${requestId}, which nobody made`)
      return
    }
    const before = this.#effects.get(requestId)
    const again =
      before !== undefined && !(OF_MANY_FACTS.has(call.command.kind) && before.atCommit === this.commits)
    if (again && type !== 'installation.reset')
      this.broken('one-effect', `${requestId} had an effect twice: ${before.event.type}, and then ${type}`)
    if (call.key !== null) {
      const earlier = this.#effectOfKey.get(keyOf(call))
      if (earlier !== undefined && earlier !== requestId)
        this.broken(
          'same-key',
          `${requestId} left ${type}, and ${earlier} with the same key had an effect before`,
        )
      this.#effectOfKey.set(keyOf(call), requestId)
    }
    if (!FACTS[call.command.kind]?.includes(type))
      this.broken('one-effect', `${requestId} (${call.command.kind}) left the event ${type}`)
    if (call.answer === 'refused')
      this.broken('refused', `${requestId} was refused, and then ${type} was committed`)
    if (before === undefined || type === 'installation.reset')
      this.#effects.set(requestId, { event, atCommit: this.commits })
    this.#checkRight(event, call)
    const { command } = call
    const { kind } = command
    if (
      kind === 'extendLease' ||
      kind === 'releaseLease' ||
      kind === 'transferLease' ||
      kind === 'shareLease'
    ) {
      const generation = command.generation + (type === 'vm.checked_out' ? 1 : 0)
      if (command.vmId !== event.vmId || event.data?.generation !== generation)
        this.broken(
          'stale-call',
          `${requestId} (${kind}) named machine ${command.vmId} at generation ${command.generation}, and ${type} was committed for machine ${event.vmId} at generation ${event.data?.generation}`,
        )
    }
    if (
      command.kind === 'checkIn' &&
      (command.vmId !== event.vmId ||
        (command.generation !== null && command.generation !== event.data?.generation))
    )
      this.broken(
        'stale-call',
        `${requestId} gave back machine ${command.vmId} at generation ${command.generation}, and ended the lease of machine ${event.vmId} at generation ${event.data?.generation} of user ${event.userId}`,
      )
    if (command.kind === 'checkout' && command.vmId !== null && command.vmId !== event.vmId)
      this.broken('answered', `${requestId} asked for machine ${command.vmId} and got ${event.vmId}`)
    if (
      actorId !== null &&
      actorId !== (command as { actor?: { userId: number } | null }).actor?.userId &&
      type !== 'installation.reset'
    )
      this.broken('right', `${requestId} was made by user ${actorId}, says ${type}`)
  }

  #checkRight(event: NewEvent, call: Call): void {
    const { type, actorId, requestId } = event
    if (type === 'installation.reset') return
    const { actor } = call.command as { actor?: { userId: number; credentialVersion: number } | null }
    if (actorId === null) {
      const anyUser = [...this.#users.values()].some(({ state }) => state === 'active')
      const open = (type === 'user.created' || type === 'installation.reset_begun') && !anyUser
      if (!open) this.broken('right', `${type} (${requestId}) was done by nobody`)
      return
    }
    const user = this.#users.get(actorId)
    if (user === undefined || user.state !== 'active') {
      this.broken('right', `${type} (${requestId}) was done by user ${actorId}, who is not there`)
      return
    }
    // Joiners are judged when they come, and told at the end of their batch.
    const before = call.command.kind === 'join' || call.command.kind === 'checkout' ? this.#changedNow : null
    if (actor?.credentialVersion !== (before?.get(actorId) ?? user.version))
      this.broken(
        'right',
        `${type} (${requestId}) was done by user ${actorId} with a password that was changed before`,
      )
    const others = type === 'user.changed' && event.userId !== actorId
    if ((others || ADMINS_DO.has(type)) && user.role !== 'admin')
      this.broken('right', `${type} (${requestId}) was done by user ${actorId}, who is no admin`)
    const isOwn =
      type === 'vm.checked_in'
        ? this.#vms.get(event.vmId ?? 0)?.holderId === actorId
        : event.userId === actorId
    const mayForOthers = user.role === 'admin' && call.command.kind !== 'checkIn'
    if (CONCERNED_DO.has(type) && !isOwn && !mayForOthers)
      this.broken('right', `${type} (${requestId}) was done by user ${actorId}, whom it does not concern`)
    // A batch that is about users alone holds no row of a reset: it may have been decided before, and be committed after.
    const ofUsers = type === 'user.changed' || type === 'user.deleted'
    if (this.#resetting && !(ofUsers && call.atCommit < this.#resetAt))
      this.broken('right', `${type} (${requestId}) was done during a reset`)
  }

  #wipe(): void {
    this.wipes++
    for (const map of [this.#users, this.#vms, this.#targets, this.#openLeases, this.#claims]) map.clear()
    for (const map of [this.#claimsMade, this.#emptyAt, this.#effectOfKey, this.#answerOfKey]) map.clear()
    this.#toldAtRisk.clear()
    this.#resetting = false
    this.#wipedBefore = this.#eventIds.length
    const left = this.outside.wiped()
    if (left > 0 && this.jumps === 0)
      this.broken('destroyed', `the reset is done, and ${left} machines were never destroyed`)
  }

  #checkEventIds(n: number): void {
    if (n === 0) return
    const { events } = this.tables
    for (const { id } of events.slice(events.length - n)) {
      const last = this.#eventIds.at(-1) ?? 0
      if (id <= last) this.broken('events', `event ${id} was committed after event ${last}`)
      this.#placeOfEvent.set(id, this.#eventIds.length)
      this.#eventIds.push(id)
    }
  }

  /** Somebody who had read up to `afterId` read these events. Returns up to which event they have read now. */
  read(who: string, afterId: number, events: readonly { readonly id: number }[]): number {
    let place = this.#placeOfEvent.get(afterId) ?? -1
    for (const { id } of events) {
      const at = this.#placeOfEvent.get(id)
      if (at === undefined) this.broken('events', `${who} read event ${id}, which was never committed`)
      else if (at <= place)
        this.broken('events', `${who} read event ${id} twice or out of order, after ${afterId}`)
      else if (at > place + 1 && place + 1 >= this.#wipedBefore)
        this.broken(
          'events',
          `${who} read event ${id} after ${afterId} and passed ${this.#eventIds.slice(place + 1, at).join(', ')}`,
        )
      if (at !== undefined) place = at
    }
    return events.at(-1)?.id ?? afterId
  }

  get lastEventId(): number {
    return this.#eventIds.at(-1) ?? 0
  }

  #followLeases(set: WorkingSet): void {
    for (const [key, { vmId, generation, userId, endedAtMs }] of set.changedLeases) {
      const open = this.#openLeases.get(vmId)
      if (set.newLeases.has(key)) {
        if (open !== undefined)
          this.broken(
            'one-holder',
            `machine ${vmId} was leased to user ${userId}, and user ${open.userId} holds it`,
          )
        this.#openLeases.set(vmId, { generation, userId })
      } else {
        if (open === undefined || open.generation !== generation || open.userId !== userId)
          this.broken(
            'one-holder',
            `the lease of machine ${vmId} at generation ${generation} changed, which was not open`,
          )
      }
      if (endedAtMs !== null) this.#openLeases.delete(vmId)
    }
  }

  #checkRow(vm: Vm, before: Vm | undefined, nowMs: number): void {
    const model = this.#vms.get(vm.id)
    if (model === undefined) {
      this.broken('lifecycle', `machine ${vm.id} has a row, and no event says so`)
      return
    }
    const open = this.#openLeases.get(vm.id)
    if (
      vm.holderId !== model.holderId ||
      (vm.state === 'leased') !== (open !== undefined) ||
      (open !== undefined && (open.userId !== vm.holderId || open.generation !== vm.generation))
    )
      this.broken(
        'one-holder',
        `machine ${vm.id} is ${vm.state} for user ${vm.holderId} at generation ${vm.generation}; its events say user ${model.holderId}, its open lease ${JSON.stringify(open)}`,
      )
    if (vm.state === 'provisioning' && model.state === 'maintenance' && this.#touched.has(vm.id)) {
      // What an admin tries again or lets back is made when it never was; the event does not say so.
      if (vm.address !== '')
        this.broken('lifecycle', `machine ${vm.id} is made anew, though it was made before`)
      this.#vms.set(vm.id, { ...model, state: 'provisioning' })
    } else if (vm.state !== model.state)
      this.broken('lifecycle', `machine ${vm.id} is ${vm.state}, its events say ${model.state}`)
    if (vm.generation !== model.generation)
      this.broken(
        'generation',
        `machine ${vm.id} is at generation ${vm.generation}, its events say ${model.generation}`,
      )
    if (before !== undefined && vm.claim < before.claim)
      this.broken('claim', `the claims of machine ${vm.id} went back from ${before.claim} to ${vm.claim}`)
    if (vm.state === 'ready' || vm.state === 'leased') {
      if (vm.busyUntilMs !== null && vm.busyUntilMs > nowMs)
        this.broken(
          'claim',
          `machine ${vm.id} is ${vm.state} while a worker may act on it for another ${vm.busyUntilMs - nowMs} ms`,
        )
      if (vm.address === '')
        this.broken('prepared', `machine ${vm.id} is ${vm.state} and has no address: it was never made`)
    }
  }

  #followClaim(vm: Vm, before: Vm | undefined, nowMs: number, loadedAtMs: number): void {
    // A claim that is made void grows the number too, and leaves the time.
    const isNewTime = vm.busyUntilMs !== before?.busyUntilMs
    const made = vm.claim > (before?.claim ?? 0) && (isNewTime || vm.dueAtMs === vm.busyUntilMs)
    if (made && vm.busyUntilMs !== null) {
      const alone =
        vm.state === before?.state && vm.attempts === before.attempts + 1 && !this.#touched.has(vm.id)
      if (alone && isNewTime && before.busyUntilMs !== null && before.busyUntilMs > nowMs)
        this.broken(
          'claim',
          `machine ${vm.id} was claimed while another worker may act on it for ${before.busyUntilMs - nowMs} ms`,
        )
      const untilMs = loadedAtMs + (vm.busyUntilMs - nowMs)
      const claim = { claim: vm.claim, state: vm.state, untilMs, jumps: this.jumps }
      this.#claims.set(vm.id, claim)
      this.#claimsMade.set(`${vm.id} ${vm.claim}`, claim)
    } else if (vm.busyUntilMs === null || vm.state !== before?.state || vm.claim !== before.claim)
      this.#claims.delete(vm.id)
  }

  #checkPools(set: WorkingSet, takes: Map<number, number>, before: Before): void {
    for (const id of new Set([...set.countedPools, ...set.changedPools.keys()])) {
      const row = this.tables.pools.get(id)
      if (row === undefined) continue
      const { pool, tally } = row
      const waiting = [...this.tables.requests.values()].filter(
        (request) => request.poolId === id && request.state === 'waiting',
      ).length
      const booked = [...this.tables.reservations.values()].filter(
        ({ poolId, state }) => poolId === id && (state === 'confirmed' || state === 'active'),
      ).length
      if (waiting !== pool.queue.waiting || booked !== pool.queue.booked)
        this.broken(
          'counted',
          `pool ${id} says that ${pool.queue.waiting} wait and ${pool.queue.booked} are booked; there are ${waiting} and ${booked}`,
        )
      if (pool.target !== this.#targets.get(id))
        this.broken(
          'lifecycle',
          `the size of pool ${id} is ${pool.target}, its events say ${this.#targets.get(id)}`,
        )
      const counted = this.tables.recount(id)
      for (const key of new Set([...Object.keys(tally), ...Object.keys(counted)])) {
        for (const state of VM_STATES) {
          const kept = tally[key]?.[state] ?? 0
          const real = counted[key]?.[state] ?? 0
          if (kept !== real)
            this.broken('tally', `pool ${id} counts ${kept} ${key} machines as ${state}; there are ${real}`)
        }
      }
      // In the middle of a batch that takes machines there may have been none for a moment.
      const taken = takes.get(id) ?? 0
      const rowBefore = before.pools.get(id)
      const freeBefore = rowBefore === undefined ? 0 : countFree(rowBefore.pool, rowBefore.tally)
      if (taken >= freeBefore) this.#emptyAt.set(`${pool.name} null`, this.commits)
      if (taken > 0) for (const type of VM_TYPE_NAMES) this.#emptyAt.set(`${pool.name} ${type}`, this.commits)
    }
  }

  /** Notes which pools have no free machine after this commit. */
  #noteEmpty(): void {
    for (const { pool, tally } of this.tables.pools.values()) {
      // While others wait or have booked, what is ready may be for them.
      const free = isContended(pool) ? 0 : countFree(pool, tally)
      if (free === 0) this.#emptyAt.set(`${pool.name} null`, this.commits)
      for (const type of VM_TYPE_NAMES)
        if (free === 0 || (countByType(tally).get(type)?.ready ?? 0) === 0)
          this.#emptyAt.set(`${pool.name} ${type}`, this.commits)
    }
  }

  #checkEmails(set: WorkingSet): void {
    if (set.changedUsers.size === 0) return
    const seen = new Map<string, number>()
    for (const [id, { email, state }] of this.#users) {
      if (state !== 'active') continue
      const other = seen.get(email)
      if (other !== undefined) this.broken('email', `users ${other} and ${id} both have the e-mail ${email}`)
      seen.set(email, id)
    }
  }

  // ---- the end

  /** What is not as it should be when faults have stopped and time has passed; null: all is well. */
  unsettled(nowMs: number): string | null {
    const { installation, pools, users, vms } = this.tables
    if (installation.state !== 'open') return 'the reset does not end'
    for (const user of users.values()) if (user.state === 'leaving') return `user ${user.id} is still leaving`
    for (const vm of vms.values()) {
      const automatic = pools.get(vm.poolId)?.pool.cleaning === 'automatic'
      if (vm.state === 'provisioning' || vm.state === 'deleting' || (vm.state === 'maintenance' && automatic))
        return `machine ${vm.id} is still in ${vm.state} (attempt ${vm.attempts}, due ${vm.dueAtMs}, busy until ${vm.busyUntilMs})`
    }
    for (const { pool, tally } of pools.values()) {
      const existing = countExisting(tally)
      if (existing < pool.target) return `pool '${pool.name}' has ${existing} machines of ${pool.target}`
      if (existing > pool.target && countIn(tally, 'ready') > 0)
        return `pool '${pool.name}' has ${existing} machines of ${pool.target}, and ready ones to remove`
    }
    return this.#overdue(nowMs) ?? this.#starving()
  }

  /** What time alone should have ended. */
  #overdue(nowMs: number): string | null {
    const { leases, requests, reservations } = this.tables
    const isOver = (ms: number | null) => ms !== null && ms <= nowMs
    for (const { vmId, generation, endedAtMs, endsAtMs, beatByMs } of leases.values())
      if (endedAtMs === null && (isOver(endsAtMs) || isOver(beatByMs)))
        return `lease ${vmId}-${generation} should have ended (end ${endsAtMs}, heartbeat by ${beatByMs})`
    for (const { id, state, untilMs } of requests.values())
      if (state === 'waiting' && isOver(untilMs)) return `request ${id} should have expired at ${untilMs}`
    for (const { id, state, fromMs, toMs } of reservations.values())
      if (state === 'confirmed' || state === 'active')
        return `reservation ${id} (${fromMs} to ${toMs}) is ${state}`
    return null
  }

  /** Somebody who waits for machines that there are: once all others give back theirs, they have to get them. */
  #starving(): string | null {
    const { pools, requests, users } = this.tables
    const isAnyAdmin = [...users.values()].some(({ role, state }) => role === 'admin' && state === 'active')
    for (const { id, poolId, userId, state, wish } of requests.values()) {
      const row = pools.get(poolId)
      if (state !== 'waiting' || row === undefined || users.get(userId)?.state !== 'active') continue
      // What is stuck in cleaning may be promised to somebody: it comes back some day.
      if (!isAnyAdmin && row.pool.cleaning === 'manual') continue
      const usable = Object.entries(row.tally).map(([key, states = {}]) => {
        const { ready = 0, leased = 0, provisioning = 0, maintenance = 0 } = states
        return [key, ready + leased + provisioning + maintenance] as const
      })
      if (place(wish, new Map(usable)) !== null)
        return `request ${id} of user ${userId} waits for ${JSON.stringify(wish)}, and there are ${JSON.stringify(row.tally)}`
    }
    return null
  }

  /** When something is due for a worker, by the store's clock; null: none will be. */
  nextDueAtMs(): number | null {
    let nextMs = Number.POSITIVE_INFINITY
    const { vms, leases, requests, reservations, pools } = this.tables
    const times = [
      ...[...vms.values(), ...leases.values()].map(({ dueAtMs }) => dueAtMs),
      ...[...requests.values()].map(({ state, untilMs }) => (state === 'waiting' ? untilMs : null)),
      ...[...reservations.values()].map(reservationDueAtMs),
      ...[...pools.values()].map(({ pool }) => pool.queue.settleAtMs),
    ]
    for (const ms of times) if (ms !== null) nextMs = Math.min(nextMs, ms)
    return nextMs === Number.POSITIVE_INFINITY ? null : nextMs
  }
}

/** Rows as they were before a commit. */
export type Before = Pick<MemoryTables, 'vms' | 'users' | 'pools' | 'reservations'>

function keyOf({ command, key }: Call): string {
  return `${actorOf(command)?.userId} ${key?.key}`
}

/** The machines that an event tells of: one, or ranges of them. */
function machinesOf({ vmId, data }: NewEvent): number[] {
  if (vmId !== undefined) return [vmId]
  const ranges = (data?.vms ?? []) as [number, number][]
  if (!Array.isArray(ranges)) return []
  return ranges.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, i) => first + i))
}

/** A batch in a few words, for the schedule that is printed. */
function describe(set: WorkingSet, before: Before): string {
  const events = set.events.map((event) => {
    const about = [
      event.requestId,
      event.userId === undefined ? null : `user ${event.userId}`,
      machinesOf(event).length > 0 ? `machine ${machinesOf(event).join(',')}` : null,
      event.data?.generation === undefined ? null : `generation ${event.data.generation}`,
    ]
    return `${event.type} (${about.filter((word) => word != null).join(', ')})`
  })
  const moves = [...set.changedVms.values()].map((vm) => {
    const from = before.vms.get(vm.id)
    const state = from?.state === vm.state ? vm.state : `${from?.state ?? 'new'} → ${vm.state}`
    return `machine ${vm.id} ${state}${vm.claim !== from?.claim ? ` claim ${vm.claim - vm.createdAtMs}` : ''}`
  })
  return [...events, ...moves].join('; ') || 'nothing'
}
