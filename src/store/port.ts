/**
 * What the rest of Berth may ask of a store. Two halves: `begin` opens a batch for changes (load, then commit or release),
 * and `reads` answers questions beside it. All of it is asynchronous at every step, for every store. A store knows rows, not
 * rules: which changes are legal was decided before `commit` is called.
 */
import type { Event } from '../domain/event.ts'
import type { Lease } from '../domain/lease.ts'
import type { Pool, PoolStats } from '../domain/pool.ts'
import type { Request, RequestState } from '../domain/request.ts'
import type { Reservation, ReservationState } from '../domain/reservation.ts'
import type { Token } from '../domain/token.ts'
import type { User } from '../domain/user.ts'
import type { PowerState, Vm, VmState } from '../domain/vm.ts'
import type { ClassKey } from '../domain/vm-class.ts'
import type { VmType } from '../domain/vm-type.ts'
import type {
  Installation,
  LoadedRows,
  MoreNeeds,
  MoreRows,
  Needs,
  Usage,
  WorkingSet,
} from '../domain/working-set.ts'

export interface Store {
  /**
   * Begins a batch: holds what it may change and loads every row that `needs` names, with the store's time. Throws
   * `StoreUnavailable` or `StoreConflict`; nothing is held then.
   */
  begin(needs: Needs): Promise<Batch>
  readonly reads: Reads
  /** Other servers on the same database, or null when there can be none. Batches on different pools then run side by side. */
  readonly neighbours: Neighbours | null
  /** Ends the store; what is under way is finished first. */
  close(): Promise<void>
}

export interface Batch {
  readonly rows: LoadedRows
  /**
   * Loads what the batch needs beside, once its commands were decided; before it is committed. Books are those of pools that it
   * holds. Throws as `begin` does, and the batch has ended then.
   */
  more(needs: MoreNeeds): Promise<MoreRows>
  /**
   * Saves what changed in the working set, with its events, and returns once it is durable. Each changed machine is guarded
   * by the state and generation it was loaded with; a mismatch is a bug and aborts the batch with an exception. Throws
   * `StoreUnavailable` or `StoreConflict` when nothing of it was done, `OutcomeUnknown` when that cannot be told.
   */
  commit(workingSet: WorkingSet): Promise<Committed>
  /** Ends a batch that changes nothing. */
  release(): Promise<void>
}

export interface Committed {
  /** The id of the newest event in the store. */
  readonly lastEventId: number
  /** How long saving and syncing took, as the store measured it. */
  readonly commitMs: number
}

/** Word between servers on one database: a wake-up and nothing more. It may come late, twice, or not at all. */
export interface Neighbours {
  /** Tells the others that something was committed here. */
  tell(news: News): void
  /** From now on `heard` is called when another server committed something, or may have while nobody listened. */
  listen(heard: (news: News) => void): void
}

export interface News {
  /** True when there may be something to do for a worker. */
  readonly leftWork: boolean
  /** True when there may be new account events. */
  readonly accountsChanged: boolean
}

/** The store cannot take changes or answer now (disk full, database away); nothing of the batch was done. */
export class StoreUnavailable extends Error {
  override readonly name = 'StoreUnavailable'
}

/** The batch lost against another one (a deadlock, a row that came meanwhile); nothing of it was done, and it may be tried again. */
export class StoreConflict extends Error {
  override readonly name = 'StoreConflict'
}

/** The connection was lost during a commit, and what became of it could not be found out in time. */
export class OutcomeUnknown extends Error {
  override readonly name = 'OutcomeUnknown'
}

/** The store cannot be opened, for a reason that the operator can mend. The message is one line for them. */
export class StoreRefusesToOpen extends Error {
  override readonly name = 'StoreRefusesToOpen'
}

/** A machine as lists show it. */
export interface VmListing {
  readonly id: number
  readonly name: string
  readonly type: VmType
  readonly address: string
  readonly power: PowerState
  readonly state: VmState
  /** The holder's e-mail; null when nobody holds it. */
  readonly holderEmail: string | null
  readonly createdAtMs: number
}

/** Which machines a list shows. Machines that are being destroyed are in none. */
export type VmFilter =
  | { readonly by: 'all' }
  | { readonly by: 'type'; readonly type: VmType }
  | { readonly by: PowerState }
  | { readonly by: 'ready' }
  | { readonly by: 'aside' }
  | { readonly by: 'holder'; readonly email: string }

/** Where a list goes on: rows with ids above `afterId`, at most `rowsMax` of them, by ascending id. */
export interface Slice {
  readonly afterId: number
  readonly rowsMax: number
}

/** Where a list whose rows have text ids goes on: ids behind `after` ('': from the start). */
export interface TextSlice {
  readonly after: string
  readonly rowsMax: number
}

/** Which leases a list shows: those that run, by machine; or those that ended: of a user, by their end, else by machine and generation. */
export interface LeaseFilter {
  readonly running: boolean
  readonly userId?: number
  readonly poolId?: number
}

/** Where a list of leases goes on: behind this lease, the last of the slice before. */
export interface LeaseSlice {
  readonly after: Pick<Lease, 'vmId' | 'generation' | 'endedAtMs'> | null
  readonly rowsMax: number
}

export interface RequestFilter {
  readonly userId?: number
  readonly poolId?: number
  readonly state?: RequestState
}

export interface ReservationFilter {
  readonly userId?: number
  readonly poolId?: number
  readonly seriesId?: string
  readonly state?: ReservationState
  /** Those whose window ends after this. */
  readonly fromMs?: number
  /** Those whose window begins before this. */
  readonly toMs?: number
}

/** Which machines of a pool a list shows, in whatever state they are unless one is named. */
export interface VmOfPoolFilter {
  readonly class?: ClassKey
  readonly type?: VmType
  readonly state?: VmState
  /** A label that they have, as it stands in a class: `name=value`. */
  readonly label?: string
}

export interface Holding {
  readonly vm: VmListing
  readonly holder: User
}

export interface Reads {
  /** Any user, also one who is leaving or gone. */
  user(id: number): Promise<User | null>
  /** An active user, matched case-sensitively. */
  userByEmail(email: string): Promise<User | null>
  activeUsers(slice: Slice): Promise<User[]>
  anyUser(): Promise<boolean>
  token(id: string): Promise<Token | null>
  /** The token with this hash of its secret. */
  tokenByHash(hash: string): Promise<Token | null>
  /** All tokens of a user that are kept, by id: in the order in which they were made. */
  tokensOf(userId: number): Promise<Token[]>
  /** Ids of users whose machines are being taken back. */
  leavers(rowsMax: number): Promise<number[]>
  pool(id: number): Promise<PoolReading | null>
  poolNamed(name: string): Promise<PoolReading | null>
  /** All that were not deleted. */
  pools(): Promise<PoolReading[]>
  vm(pool: string, id: number): Promise<VmListing | null>
  vms(pool: string, filter: VmFilter, slice: Slice): Promise<VmListing[]>
  /** The machine with the lowest id that an active user holds in a pool. */
  heldByUser(pool: string, userId: number): Promise<Holding | null>
  holderOf(pool: string, vmId: number): Promise<Holding | null>
  /** When the next machine of `state` in a pool is due for a worker; null: none will be. */
  nextDueAtMs(poolId: number, state: VmState): Promise<number | null>
  /** A machine as it is, in whatever state. */
  vmById(id: number): Promise<Vm | null>
  /** Machines of a pool by ascending id. */
  vmsOfPool(poolId: number, filter: VmOfPoolFilter, slice: Slice): Promise<Vm[]>
  lease(vmId: number, generation: number): Promise<Lease | null>
  leases(filter: LeaseFilter, slice: LeaseSlice): Promise<Lease[]>
  request(id: string): Promise<Request | null>
  requests(filter: RequestFilter, slice: TextSlice): Promise<Request[]>
  reservation(id: string): Promise<Reservation | null>
  reservations(filter: ReservationFilter, slice: TextSlice): Promise<Reservation[]>
  /** When time alone gives a worker something to do with a pool’s leases, waiting requests and reservations; null: never. */
  nextTickAtMs(poolId: number): Promise<number | null>
  /** What a user holds, waits for, and has used in the seven days before `nowMs`. */
  usage(userId: number, nowMs: number): Promise<Usage>
  installation(): Promise<Installation>
  /** Events after a cursor, in order. An event that commits late is never passed: it has a higher id than any that was read. */
  events(slice: Slice): Promise<Event[]>
  /** The same, of the types that end what is remembered of users and tokens (`ACCOUNT_EVENTS`). */
  accountEvents(slice: Slice): Promise<Event[]>
  /** The newest cursor: every event up to it has been committed, or never will be. */
  lastEventId(): Promise<number>
  /** Whether the store answers at all. Throws when it does not. */
  ping(): Promise<void>
}

export interface PoolReading {
  readonly pool: Pool
  readonly stats: PoolStats
  /** Machines by type and state. */
  readonly states: readonly { readonly type: VmType; readonly state: VmState; readonly count: number }[]
}
