/**
 * The rows that one batch works on. Commands are decided against it in order; what an accepted command changes is applied
 * before the next one is decided, so all commands of a batch see each other as if they had come one after the other.
 * Applying keeps the pools' tallies and the lists of ready machines right, so no rule has to. It holds no clock and does no I/O.
 */
import type { Notice } from './admission.ts'
import type { Answer } from './answer.ts'
import { Book, type BookChange, type BookVm } from './book.ts'
import type { NewEvent } from './event.ts'
import { type Lease, type LeaseEnd, plainLease } from './lease.ts'
import { countUp, type Pool, type Tally } from './pool.ts'
import type { Flow, Request } from './request.ts'
import type { Reservation } from './reservation.ts'
import type { Token } from './token.ts'
import type { User } from './user.ts'
import type { Vm, VmState } from './vm.ts'
import type { ClassKey } from './vm-class.ts'
import type { VmType, VmTypeSpec } from './vm-type.ts'

export interface Installation {
  /** resetting: an admin asked for a reset, and machines are being destroyed; only the workers' commands go on. */
  readonly state: 'open' | 'resetting'
  /** Ids given to users and machines grow only, until a reset. */
  readonly nextUserId: number
  readonly nextVmId: number
  readonly nextPoolId: number
  /** The sizes of machine that there are, smallest first. */
  readonly vmTypes: readonly VmTypeSpec[]
  /** Who asked for the reset under way, and what was there then. */
  readonly reset: ResetRecord | null
}

export interface ResetRecord {
  readonly actorId: number | null
  readonly requestId: string | null
  readonly atMs: number
  readonly users: number
  readonly vms: number
}

/**
 * What one batch needs, collected from its commands before it is loaded: which rows it has to see, and which of them it may
 * change. A store that several servers share holds these rows for the batch: the installation when ids are given, every pool
 * that is named or has a machine that is, users as readers or, when they may change, alone.
 */
export class Needs {
  readonly userIds: Set<number> = new Set()
  /** Those of `userIds` whose rows may change. */
  readonly changedUserIds: Set<number> = new Set()
  /** True when ids may be given to new users, pools or machines, or the installation may change otherwise. */
  installation = false
  /** True when every pool is concerned: a reset. */
  allPools = false
  readonly emails: Set<string> = new Set()
  /** Tokens by id. They change only where their owner is among `changedUserIds`. */
  readonly tokenIds: Set<string> = new Set()
  /** Users all of whose tokens are wanted. */
  readonly tokensOf: Set<number> = new Set()
  /** Answers by user id and key. */
  readonly answers: Map<string, readonly [userId: number, key: string]> = new Map()
  /** How many of the oldest answers are wanted. */
  oldestAnswers = 0
  readonly poolNames: Set<string> = new Set()
  readonly poolIds: Set<number> = new Set()
  readonly vmIds: Set<number> = new Set()
  /** How many commands of the batch may take a ready machine of a pool: so many are loaded, the lowest ids first. */
  takers = 0
  /** How many machines that are being made the batch may finish or give up: a shrink of the same batch is given as many more. */
  finishers = 0
  /** Pools, by name, whose lowest ready machines of any type are wanted. */
  readonly readyAny: Set<string> = new Set()
  /** The same by type. */
  readonly readyOfType: Map<string, Set<VmType>> = new Map()
  /** By pool id: how many removable machines are wanted, the highest ids first. */
  readonly removable: Map<number, number> = new Map()
  /** By pool id and state: how many machines that are due for a worker are wanted, the longest due first. */
  readonly due: Map<number, Map<VmState, number>> = new Map()
  /** By user id: how many of the machines that they hold are wanted. */
  readonly heldBy: Map<number, number> = new Map()
  /** By pool id: how many leases that are due for a worker are wanted with their machines, the longest due first. */
  readonly dueLeases: Map<number, number> = new Map()
  /** By pool id: how many waiting requests whose time to wait is over are wanted. */
  readonly dueRequests: Map<number, number> = new Map()
  /** Requests by id, whatever their state. Their pools are held. */
  readonly requestIds: Set<string> = new Set()
  /** Reservations by id, whatever their state. Their pools are held. */
  readonly reservationIds: Set<string> = new Set()
  /** Users of whom it is wanted what they hold, wait for and have used. */
  readonly usageOf: Set<number> = new Set()
  /** Pools, by name, whose book is wanted even while they are not contended. */
  readonly books: Set<string> = new Set()
  /** By pool id: the version of its book that this server has in memory. */
  readonly bookVersions: Map<number, number> = new Map()
  /** How many machines in any state but deleting are wanted, whichever. */
  standing = 0
  /** True when somebody asks whether there are any users, or how many rows there are; machines are exact with `allPools` only. */
  census = false
}

/** What the store loads for `Needs`. Rows may come in any order and more than once. */
export interface LoadedRows {
  readonly nowMs: number
  readonly installation: Installation
  readonly users: readonly User[]
  readonly pools: readonly { pool: Pool; tally: Tally }[]
  readonly vms: readonly Vm[]
  /** Each machine that is leased comes with its lease. */
  readonly leases: readonly Lease[]
  readonly requests: readonly Request[]
  readonly reservations: readonly Reservation[]
  readonly usage: readonly Usage[]
  /** The books of the pools that are contended or whose book was asked for. */
  readonly books: readonly LoadedBook[]
  readonly tokens: readonly Token[]
  readonly answers: readonly Answer[]
  /** Ids of ready machines by pool id, ascending; `type` null: of any type. */
  readonly ready: readonly { poolId: number; type: VmType | null; vmIds: readonly number[] }[]
  /** Active users and all machines; null unless asked for. */
  readonly census: { readonly users: number; readonly vms: number } | null
}

/** What a store knows of a pool beyond the version that a server has: what every batch since changed, or all there is. */
export interface LoadedBook {
  readonly poolId: number
  readonly version: number
  /** In order; each with the version after it. */
  readonly changes: readonly { readonly version: number; readonly change: BookChange }[]
  /** Set when the changes since the server's version are not to be had, or it has none. */
  readonly whole: BookChange | null
}

/** What a batch finds out that it needs only once its commands were decided. Nothing new may change but users' leases. */
export interface MoreNeeds {
  /** Books by pool id, with the version that this server has (0: none). */
  readonly books: readonly (readonly [poolId: number, version: number])[]
  /** Ready machines of a class: so many, those with the lowest ids that the batch does not have. */
  readonly ready: readonly (readonly [poolId: number, vmClass: ClassKey, count: number])[]
  /** Machines by id, with the leases that run on them. */
  readonly vmIds: readonly number[]
  /** Users to whom machines may be leased: held as readers. */
  readonly userIds: readonly number[]
  /** Users of whom it is wanted what they hold, wait for and have used. */
  readonly usageOf: readonly number[]
}

/** What one user holds and has used, over all pools. */
export interface Usage {
  readonly userId: number
  readonly held: readonly (readonly [poolId: number, vmClass: ClassKey, count: number])[]
  /** Machine-milliseconds of the last seven days; what still runs is counted until now. */
  readonly weekMs: number
  /** Requests that wait. */
  readonly waiting: number
}

export interface MoreRows {
  readonly books: readonly LoadedBook[]
  readonly vms: readonly Vm[]
  readonly leases: readonly Lease[]
  readonly users: readonly User[]
  readonly usage: readonly Usage[]
}

/** What an accepted command changes. New rows and changed rows are told apart by whether the working set has them. */
export interface Changes {
  readonly installation?: Installation
  readonly users?: readonly User[]
  readonly tokens?: readonly Token[]
  /** Tokens whose rows go. */
  readonly goneTokens?: readonly Token[]
  readonly answers?: readonly Answer[]
  /** Answers whose rows go. */
  readonly goneAnswers?: readonly Answer[]
  readonly pools?: readonly Pool[]
  readonly vms?: readonly Vm[]
  /** Leases with more to them than that a hold began or ended; what follows from `vms` alone needs no row here. */
  readonly leases?: readonly Lease[]
  /** Why the leases end whose machines change hands here; missing: they were checked in. */
  readonly endedBy?: LeaseEnd
  readonly requests?: readonly Request[]
  readonly flows?: readonly Flow[]
  readonly reservations?: readonly Reservation[]
  /** Soft leases that are to end, as somebody needs their machines: the settlement of the batch carries it out. */
  readonly notices?: readonly Notice[]
  /** Pools of which it is looked for what time alone may have changed. */
  readonly lookAgain?: readonly number[]
  /** Machines whose rows go. */
  readonly gone?: readonly Vm[]
  /** All rows go, but the events to come: the end of a reset. */
  readonly wipe?: true
  readonly events: readonly NewEvent[]
}

/** The part of the working set that rules may look at. */
export interface View {
  readonly nowMs: number
  readonly installation: Installation
  readonly census: { readonly users: number; readonly vms: number } | null
  user(id: number): User | undefined
  userByEmail(email: string): User | undefined
  token(id: string): Token | undefined
  tokensOf(userId: number): Token[]
  answer(userId: number, key: string): Answer | undefined
  answersWhere(test: (answer: Answer) => boolean): Answer[]
  pool(id: number): Pool | undefined
  poolNamed(name: string): Pool | undefined
  poolsWhere(test: (pool: Pool) => boolean): Pool[]
  tally(poolId: number): Tally
  vm(id: number): Vm | undefined
  /** The lease that runs on a machine. */
  lease(vmId: number): Lease | undefined
  leasesWhere(test: (lease: Lease) => boolean): Lease[]
  request(id: string): Request | undefined
  requestsWhere(test: (request: Request) => boolean): Request[]
  reservation(id: string): Reservation | undefined
  /** The pool's book; undefined: the pool is not contended, and it was not asked for. */
  book(poolId: number): Book | undefined
  usage(userId: number): Usage | undefined
  vmsWhere(test: (vm: Vm) => boolean): Vm[]
  /** Ids of the ready machines of a class that are loaded, ascending. */
  readyOf(poolId: number, vmClass: ClassKey): readonly number[]
  /** The ready machine with the lowest id in the pool, of `type` or of any type. */
  lowestReady(poolId: number, type: VmType | null): Vm | undefined
}

export class WorkingSet implements View {
  readonly nowMs: number
  installation: Installation
  census: { users: number; vms: number } | null
  readonly #users = new Map<number, User>()
  readonly #usersByEmail = new Map<string, User>()
  readonly #tokens = new Map<string, Token>()
  readonly #answers = new Map<string, Answer>()
  readonly #pools = new Map<number, Pool>()
  readonly #poolsByName = new Map<string, Pool>()
  readonly #tallies = new Map<number, Tally>()
  readonly #vms = new Map<number, Vm>()
  /** Leases that run, by machine. */
  readonly #leases = new Map<number, Lease>()
  readonly #requests = new Map<string, Request>()
  readonly #reservations = new Map<string, Reservation>()
  readonly #books = new Map<number, Book>()
  readonly #usage = new Map<number, Usage>()
  readonly #ready = new Map<string, number[]>()
  /** By pool and class, as far as it was asked for; machines that became ready since are put in. */
  readonly #readyByClass = new Map<string, number[]>()

  /** Rows as they were loaded: save guards each changed machine by the state and generation it had. */
  readonly loadedVms: Map<number, Vm> = new Map()
  readonly changedUsers: Map<number, User> = new Map()
  readonly newUserIds: Set<number> = new Set()
  readonly changedTokens: Map<string, Token> = new Map()
  readonly newTokenIds: Set<string> = new Set()
  readonly goneTokens: Map<string, Token> = new Map()
  readonly newAnswers: Map<string, Answer> = new Map()
  /** Answers whose rows go, before those of `newAnswers` come. */
  readonly goneAnswers: Map<string, Answer> = new Map()
  readonly changedPools: Map<number, Pool> = new Map()
  readonly newPoolIds: Set<number> = new Set()
  /** Pools whose tally changed. */
  readonly countedPools: Set<number> = new Set()
  readonly changedVms: Map<number, Vm> = new Map()
  readonly goneVms: Set<number> = new Set()
  /** By machine and generation. */
  readonly changedLeases: Map<string, Lease> = new Map()
  readonly newLeases: Set<string> = new Set()
  readonly changedRequests: Map<string, Request> = new Map()
  readonly changedReservations: Map<string, Reservation> = new Map()
  /** By pool and user. */
  readonly changedFlows: Map<string, Flow> = new Map()
  readonly events: NewEvent[] = []
  /** Pools that the settlement looks at for what time alone may have changed. */
  readonly lookedAgain: Set<number> = new Set()
  /** Soft leases that are yet to be told that they end. */
  readonly notices: Notice[] = []
  installationChanged = false
  /** Grows when a change begins to be applied. */
  changeCount = 0
  wiped = false

  constructor(rows: LoadedRows) {
    this.nowMs = rows.nowMs
    this.installation = rows.installation
    this.census = rows.census === null ? null : { ...rows.census }
    for (const user of rows.users) this.#putUser(user)
    for (const token of rows.tokens) this.#tokens.set(token.id, token)
    for (const answer of rows.answers) this.#answers.set(answerKey(answer.userId, answer.key), answer)
    for (const { pool, tally } of rows.pools) {
      this.#putPool(pool)
      this.#tallies.set(pool.id, tally)
    }
    for (const vm of rows.vms) this.#putLoadedVm(vm)
    for (const lease of rows.leases) this.#leases.set(lease.vmId, lease)
    for (const usage of rows.usage) this.#usage.set(usage.userId, usage)
    for (const request of rows.requests) this.#requests.set(request.id, request)
    for (const reservation of rows.reservations) this.#reservations.set(reservation.id, reservation)
    for (const { poolId, type, vmIds } of rows.ready) this.#ready.set(readyKey(poolId, type), [...vmIds])
  }

  user(id: number): User | undefined {
    return this.#users.get(id)
  }

  userByEmail(email: string): User | undefined {
    return this.#usersByEmail.get(email)
  }

  token(id: string): Token | undefined {
    return this.#tokens.get(id)
  }

  tokensOf(userId: number): Token[] {
    return [...this.#tokens.values()].filter((token) => token.userId === userId)
  }

  answer(userId: number, key: string): Answer | undefined {
    return this.#answers.get(answerKey(userId, key))
  }

  answersWhere(test: (answer: Answer) => boolean): Answer[] {
    return [...this.#answers.values()].filter(test)
  }

  pool(id: number): Pool | undefined {
    return this.#pools.get(id)
  }

  poolNamed(name: string): Pool | undefined {
    return this.#poolsByName.get(name)
  }

  poolsWhere(test: (pool: Pool) => boolean): Pool[] {
    return [...this.#pools.values()].filter(test)
  }

  tally(poolId: number): Tally {
    return this.#tallies.get(poolId) ?? {}
  }

  vm(id: number): Vm | undefined {
    return this.#vms.get(id)
  }

  lease(vmId: number): Lease | undefined {
    return this.#leases.get(vmId)
  }

  leasesWhere(test: (lease: Lease) => boolean): Lease[] {
    return [...this.#leases.values()].filter(test)
  }

  request(id: string): Request | undefined {
    return this.#requests.get(id)
  }

  requestsWhere(test: (request: Request) => boolean): Request[] {
    return [...this.#requests.values()].filter(test)
  }

  reservation(id: string): Reservation | undefined {
    return this.#reservations.get(id)
  }

  book(poolId: number): Book | undefined {
    return this.#books.get(poolId)
  }

  usage(userId: number): Usage | undefined {
    return this.#usage.get(userId)
  }

  vmsWhere(test: (vm: Vm) => boolean): Vm[] {
    return [...this.#vms.values()].filter(test)
  }

  readyOf(poolId: number, vmClass: ClassKey): readonly number[] {
    const key = `${poolId} ${vmClass}`
    const isReady = (vm: Vm | undefined) =>
      vm?.state === 'ready' && vm.poolId === poolId && vm.class === vmClass
    const known = this.#readyByClass.get(key)
    const ids =
      known?.filter((id) => isReady(this.#vms.get(id))) ??
      [...this.#vms.values()].flatMap((vm) => (isReady(vm) ? vm.id : [])).sort((a, b) => a - b)
    this.#readyByClass.set(key, ids)
    return ids
  }

  lowestReady(poolId: number, type: VmType | null): Vm | undefined {
    const ids = this.#ready.get(readyKey(poolId, type))
    while (ids !== undefined && ids.length > 0) {
      const vm = this.#vms.get(ids[0] as number)
      if (vm?.state === 'ready') return vm
      // Taken earlier in this batch: a machine that becomes ready again is put back by `apply`.
      ids.shift()
    }
    return undefined
  }

  /** Takes the book of a pool, as it is when this batch begins; what the batch changes is applied to it. */
  takeBook(poolId: number, book: Book): void {
    this.#books.set(poolId, book)
    if (this.countedPools.has(poolId)) book.apply(this.bookChange(poolId), this.nowMs)
  }

  /** Pools whose books this batch has. */
  get bookedPools(): Iterable<number> {
    return this.#books.keys()
  }

  /** Adds rows that were asked for later. What the batch has already stays as it is. */
  addMore(rows: MoreRows): void {
    for (const vm of rows.vms) if (!this.#vms.has(vm.id) && !this.goneVms.has(vm.id)) this.#putLoadedVm(vm)
    for (const lease of rows.leases) if (!this.#leases.has(lease.vmId)) this.#leases.set(lease.vmId, lease)
    for (const user of rows.users) if (!this.#users.has(user.id)) this.#putUser(user)
    for (const usage of rows.usage) this.#usage.set(usage.userId, usage)
  }

  /** What the batch has changed until now of a pool's book. */
  bookChange(poolId: number): BookChange {
    return this.#bookChange(poolId, {
      vms: [...this.changedVms.values()],
      gone: [...this.goneVms],
      requests: [...this.changedRequests.values()],
      flows: [...this.changedFlows.values()],
      reservations: [...this.changedReservations.values()],
    })
  }

  /** Applies what an accepted command changes. */
  apply(changes: Changes): void {
    this.changeCount++
    if (changes.wipe) this.#wipe()
    if (changes.installation !== undefined) {
      this.installation = changes.installation
      this.installationChanged = true
    }
    for (const user of changes.users ?? []) this.#changeUser(user)
    for (const token of changes.tokens ?? []) this.#changeToken(token)
    for (const token of changes.goneTokens ?? []) this.#removeToken(token)
    for (const answer of changes.goneAnswers ?? []) this.#removeAnswer(answer)
    for (const answer of changes.answers ?? []) this.#addAnswer(answer)
    for (const pool of changes.pools ?? []) this.#changePool(pool)
    const leases = new Map((changes.leases ?? []).map((lease) => [leaseKey(lease), lease]))
    for (const vm of changes.vms ?? []) this.#changeVm(vm, leases, changes.endedBy ?? 'checked_in')
    for (const vm of changes.gone ?? []) this.#removeVm(vm)
    for (const lease of leases.values()) this.#changeLease(lease)
    for (const request of changes.requests ?? []) this.#changeRequest(request)
    for (const reservation of changes.reservations ?? []) this.#changeReservation(reservation)
    for (const flow of changes.flows ?? []) {
      this.changedFlows.set(`${flow.poolId} ${flow.userId}`, flow)
      this.#touchPool(flow.poolId)
    }
    for (const poolId of changes.lookAgain ?? []) this.lookedAgain.add(poolId)
    for (const notice of changes.notices ?? []) this.notices.push(notice)
    for (const event of changes.events) this.events.push(event)
    for (const [poolId, book] of this.#books) {
      if (!touches(changes, poolId)) continue
      const { vms = [], gone = [], requests = [], flows = [], reservations = [] } = changes
      const change = { vms, gone: gone.map((vm) => vm.id), requests, flows, reservations }
      book.apply(this.#bookChange(poolId, change), this.nowMs)
      this.#countBook(poolId, book)
    }
  }

  /** True when there is anything to save. */
  get dirty(): boolean {
    return (
      this.events.length > 0 ||
      this.changedVms.size > 0 ||
      this.changedTokens.size > 0 ||
      this.newAnswers.size > 0 ||
      this.goneAnswers.size > 0 ||
      this.installationChanged ||
      this.changedPools.size > 0 ||
      this.changedLeases.size > 0 ||
      this.changedRequests.size > 0 ||
      this.changedReservations.size > 0 ||
      this.changedFlows.size > 0
    )
  }

  #putUser(user: User): void {
    this.#users.set(user.id, user)
    if (user.state === 'active') this.#usersByEmail.set(user.email, user)
  }

  #changeUser(user: User): void {
    const before = this.#users.get(user.id)
    if (before === undefined) {
      this.newUserIds.add(user.id)
      if (this.census !== null) this.census.users++
    } else {
      // Somebody else may have it by now.
      if (this.#usersByEmail.get(before.email)?.id === before.id) this.#usersByEmail.delete(before.email)
      if (this.census !== null && before.state === 'active' && user.state !== 'active') this.census.users--
    }
    this.#putUser(user)
    this.changedUsers.set(user.id, user)
  }

  #changeToken(token: Token): void {
    if (!this.#tokens.has(token.id)) this.newTokenIds.add(token.id)
    this.#tokens.set(token.id, token)
    this.changedTokens.set(token.id, token)
  }

  #removeToken(token: Token): void {
    this.#tokens.delete(token.id)
    this.changedTokens.delete(token.id)
    if (!this.newTokenIds.delete(token.id)) this.goneTokens.set(token.id, token)
  }

  /** An answer that is there already is too old to be given again: it makes room. */
  #addAnswer(answer: Answer): void {
    const before = this.#answers.get(answerKey(answer.userId, answer.key))
    if (before !== undefined) this.#removeAnswer(before)
    const key = answerKey(answer.userId, answer.key)
    this.#answers.set(key, answer)
    this.newAnswers.set(key, answer)
  }

  #removeAnswer(answer: Answer): void {
    const key = answerKey(answer.userId, answer.key)
    if (!this.#answers.delete(key)) return
    if (!this.newAnswers.delete(key)) this.goneAnswers.set(key, answer)
  }

  #putPool(pool: Pool): void {
    const before = this.#pools.get(pool.id)
    if (before !== undefined && before.name !== pool.name) this.#poolsByName.delete(before.name)
    this.#pools.set(pool.id, pool)
    this.#poolsByName.set(pool.name, pool)
  }

  #changePool(pool: Pool): void {
    const before = this.#pools.get(pool.id)
    if (before === undefined) this.newPoolIds.add(pool.id)
    // Whatever a rule made of it: the version is counted here.
    const version = before?.queue.version ?? this.nowMs * VERSIONS_PER_MS
    const changed = { ...pool, queue: { ...pool.queue, version } }
    this.#putPool(changed)
    const isNew = !this.#tallies.has(pool.id)
    if (isNew) this.#tallies.set(pool.id, {})
    this.changedPools.set(pool.id, changed)
    this.#touchPool(pool.id)
    // Nothing of it is in the store yet.
    if (isNew) this.#books.set(pool.id, Book.of(this.bookChange(pool.id), this.nowMs))
  }

  /** The first time that a batch changes anything of a pool, its version grows. */
  #touchPool(poolId: number): void {
    if (this.countedPools.has(poolId)) return
    this.countedPools.add(poolId)
    const pool = this.#pools.get(poolId)
    if (pool === undefined) throw new Error(`pool ${poolId} was not loaded`)
    this.#putQueue(pool, { version: pool.queue.version + 1 })
  }

  #putQueue(pool: Pool, edit: Partial<Pool['queue']>): void {
    const changed = { ...pool, queue: { ...pool.queue, ...edit } }
    this.#putPool(changed)
    if (this.changedPools.has(pool.id)) this.changedPools.set(pool.id, changed)
  }

  #putLoadedVm(vm: Vm): void {
    this.#readyByClass.delete(`${vm.poolId} ${vm.class}`)
    this.loadedVms.set(vm.id, vm)
    this.#vms.set(vm.id, vm)
  }

  #changeVm(vm: Vm, leases: Map<string, Lease>, endedBy: LeaseEnd): void {
    const before = this.#vms.get(vm.id)
    if (before !== undefined) this.#count(before, -1)
    else if (this.census !== null) this.census.vms++
    this.#count(vm, 1)
    this.#trackLease(before, vm, leases, endedBy)
    if (vm.state === 'ready' && before?.state !== 'ready') this.#becameReady(vm)
    this.#trackUsage(before, vm)
    this.#vms.set(vm.id, vm)
    this.changedVms.set(vm.id, vm)
  }

  #removeVm(vm: Vm): void {
    this.#count(vm, -1)
    if (this.census !== null) this.census.vms--
    this.#vms.delete(vm.id)
    this.changedVms.delete(vm.id)
    this.goneVms.add(vm.id)
  }

  #count(vm: Vm, by: number): void {
    const tally = this.#tallies.get(vm.poolId)
    if (tally === undefined) throw new Error(`pool ${vm.poolId} of VM ${vm.id} was not loaded`)
    countUp(tally, vm.class, vm.state, by)
    this.#touchPool(vm.poolId)
  }

  #trackLease(before: Vm | undefined, vm: Vm, leases: Map<string, Lease>, endedBy: LeaseEnd): void {
    if (before !== undefined && before.holderId !== null) {
      const same = vm.holderId === before.holderId && vm.generation === before.generation
      if (!same) {
        const lease = this.#leases.get(vm.id)
        if (lease === undefined) throw new Error(`the lease of VM ${vm.id} was not loaded`)
        const last = leases.get(leaseKey(lease)) ?? lease
        leases.delete(leaseKey(lease))
        this.#changeLease({
          ...last,
          endedAtMs: this.nowMs,
          endedBy: last.endedBy ?? endedBy,
          dueAtMs: null,
        })
      }
    }
    if (vm.holderId !== null && vm.leasedAtMs !== null && vm.generation !== before?.generation) {
      const key = leaseKey({ vmId: vm.id, generation: vm.generation })
      const { id: vmId, generation, poolId, holderId: userId, leasedAtMs: fromMs } = vm
      this.newLeases.add(key)
      this.#changeLease(leases.get(key) ?? plainLease({ vmId, generation, poolId, userId, fromMs }))
      leases.delete(key)
    }
  }

  /** What users hold, as far as it was asked for, stays right within the batch. */
  #trackUsage(before: Vm | undefined, vm: Vm): void {
    if (this.#usage.size === 0 || before?.holderId === vm.holderId) return
    for (const [held, by] of [
      [before, -1],
      [vm, 1],
    ] as const) {
      const usage = held?.holderId == null ? undefined : this.#usage.get(held.holderId)
      if (usage === undefined || held === undefined) continue
      this.#usage.set(usage.userId, { ...usage, held: [...usage.held, [held.poolId, held.class, by]] })
    }
  }

  #changeLease(lease: Lease): void {
    if (lease.endedAtMs === null) this.#leases.set(lease.vmId, lease)
    else this.#leases.delete(lease.vmId)
    this.changedLeases.set(leaseKey(lease), lease)
    this.#touchPool(lease.poolId)
  }

  #changeRequest(request: Request): void {
    this.#requests.set(request.id, request)
    this.changedRequests.set(request.id, request)
    this.#touchPool(request.poolId)
  }

  #changeReservation(reservation: Reservation): void {
    this.#reservations.set(reservation.id, reservation)
    this.changedReservations.set(reservation.id, reservation)
    this.#touchPool(reservation.poolId)
  }

  /** How many wait and how many reservations stand is what the book counts: without one, nobody and none. */
  #countBook(poolId: number, book: Book): void {
    const pool = this.#pools.get(poolId)
    if (pool === undefined) throw new Error(`pool ${poolId} was not loaded`)
    const waiting = book.queue.size
    const booked = book.reservations.size
    if (waiting !== pool.queue.waiting || booked !== pool.queue.booked)
      this.#putQueue(pool, { waiting, booked })
  }

  #bookChange(
    poolId: number,
    changed: Omit<BookChange, 'pool' | 'tally' | 'vms'> & { vms: readonly Vm[] },
  ): BookChange {
    const pool = this.#pools.get(poolId)
    if (pool === undefined) throw new Error(`pool ${poolId} was not loaded`)
    const ofPool = (row: { poolId: number }) => row.poolId === poolId
    return {
      pool,
      tally: this.tally(poolId),
      vms: changed.vms.filter(ofPool).map((vm) => bookVmOf(vm, this.#leases.get(vm.id))),
      gone: changed.gone,
      requests: changed.requests.filter(ofPool),
      flows: changed.flows.filter(ofPool),
      reservations: changed.reservations.filter(ofPool),
    }
  }

  #becameReady(vm: Vm): void {
    const lists = [readyKey(vm.poolId, null), readyKey(vm.poolId, vm.type)].map((key) => this.#ready.get(key))
    for (const ids of [...lists, this.#readyByClass.get(`${vm.poolId} ${vm.class}`)]) {
      if (ids === undefined) continue
      let at = 0
      while (at < ids.length && (ids[at] as number) < vm.id) at++
      if (ids[at] !== vm.id) ids.splice(at, 0, vm.id)
    }
  }

  #wipe(): void {
    this.wiped = true
    for (const map of [this.#users, this.#usersByEmail, this.#pools, this.#poolsByName]) map.clear()
    for (const map of [this.#tokens, this.#answers, this.changedTokens, this.goneTokens]) map.clear()
    for (const map of [this.newAnswers, this.goneAnswers]) map.clear()
    for (const map of [this.#tallies, this.#vms, this.#ready, this.#leases, this.#books]) map.clear()
    for (const map of [this.#requests, this.#reservations, this.#usage, this.#readyByClass]) map.clear()
    for (const map of [this.changedUsers, this.changedPools, this.changedVms, this.loadedVms]) map.clear()
    this.newTokenIds.clear()
    for (const set of [this.newUserIds, this.newPoolIds, this.countedPools, this.goneVms]) set.clear()
    for (const map of [this.changedLeases, this.changedRequests, this.changedReservations]) map.clear()
    this.newLeases.clear()
    this.changedFlows.clear()
    this.events.length = 0
    if (this.census !== null) this.census = { users: 0, vms: 0 }
  }
}

/**
 * A new pool’s versions begin where no pool before it has been: ids are given again after a reset, and no server must take the
 * book of the old pool for one of the new. No pool has so many batches in a millisecond.
 */
const VERSIONS_PER_MS = 1_000

/** How a lease is named: machine and generation. */
export function leaseKey({ vmId, generation }: Pick<Lease, 'vmId' | 'generation'>): string {
  return `${vmId} ${generation}`
}

function touches(changes: Changes, poolId: number): boolean {
  const ofPool = (row: { poolId: number }) => row.poolId === poolId
  const { vms, gone, requests, flows, reservations, pools } = changes
  return (
    [vms, gone, requests, flows, reservations].some((rows) => rows?.some(ofPool)) ||
    pools?.some(({ id }) => id === poolId) === true
  )
}

function bookVmOf(vm: Vm, lease: Lease | undefined): BookVm {
  const { id, class: vmClass, state, freeAtMs, holderId } = vm
  const soft =
    lease === undefined || lease.softGraceSeconds === null || lease.endsAtMs !== null
      ? null
      : { graceSeconds: lease.softGraceSeconds, fromMs: lease.fromMs }
  return { id, class: vmClass, state, freeAtMs, holderId, soft }
}

function readyKey(poolId: number, type: VmType | null): string {
  return type === null ? `${poolId}` : `${poolId} ${type}`
}

function answerKey(userId: number, key: string): string {
  return `${userId} ${key}`
}
