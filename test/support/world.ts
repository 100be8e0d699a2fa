/**
 * Rows for tests of rules, and a batch without store and lane around it: the commands' needs are collected, exactly these
 * rows are loaded, each command is decided and applied in order, and what changed is saved. Everything is synchronous.
 */
import assert from 'node:assert/strict'
import { BatchDecisions } from '../../src/domain/batch.ts'
import { Book } from '../../src/domain/book.ts'
import {
  type Command,
  type CommandKind,
  type CommandOf,
  needsOf,
  type ReplyOf,
} from '../../src/domain/command.ts'
import type { Event } from '../../src/domain/event.ts'
import { type Lease, plainLease } from '../../src/domain/lease.ts'
import { DEFAULT_POLICY, DEFAULT_POOL, EMPTY_QUEUE, type Pool, type Tally } from '../../src/domain/pool.ts'
import { isRefusal, type Refusal, type RefusalCode } from '../../src/domain/refusal.ts'
import type { User } from '../../src/domain/user.ts'
import { VM_STATES, type Vm, type VmState } from '../../src/domain/vm.ts'
import { classKeyOf } from '../../src/domain/vm-class.ts'
import {
  type Installation,
  type LoadedBook,
  leaseKey,
  type MoreNeeds,
  type MoreRows,
  Needs,
  WorkingSet,
} from '../../src/domain/working-set.ts'
import type { Batch } from '../../src/store/port.ts'
import { MemoryTables } from './memory-store.ts'

export const NOW_MS = Date.UTC(2026, 0, 1)

/** User 1 is an admin, all others are not. */
export function aUser(id: number, edit: Partial<User> = {}): User {
  return {
    id,
    name: `User ${id}`,
    email: `user${id}@example.org`,
    role: id === 1 ? 'admin' : 'user',
    passwordHash: `hash of ${id}`,
    credentialVersion: 1,
    quota: null,
    state: 'active',
    createdAtMs: NOW_MS,
    ...edit,
  }
}

/** A ready machine; one in the state `leased` is held by user 2. */
export function aVm(id: number, edit: Partial<Vm> = {}): Vm {
  const leased = edit.state === 'leased'
  return {
    id,
    poolId: 1,
    name: `vm-${id}`,
    type: 'small',
    class: classKeyOf(edit.type ?? 'small', {}, null),
    address: `10.0.0.${id}`,
    power: 'running',
    state: 'ready',
    generation: leased ? 1 : 0,
    holderId: leased ? 2 : null,
    leasedAtMs: leased ? NOW_MS : null,
    freeAtMs: null,
    dueAtMs: null,
    claim: 1,
    busyUntilMs: null,
    attempts: 0,
    failure: null,
    createdAtMs: NOW_MS,
    ...edit,
  }
}

/** Machines with ids from 1, one for each state. */
export function vmsOf(...states: VmState[]): Vm[] {
  return states.map((state, i) => aVm(i + 1, { state }))
}

/** The pool `default`, with manual cleaning. */
export function aPool(edit: Partial<Pool> = {}): Pool {
  return {
    ...DEFAULT_POLICY,
    id: 1,
    name: DEFAULT_POOL,
    target: 0,
    cleaning: 'manual',
    provider: 'simulated',
    createdAtMs: NOW_MS,
    queue: EMPTY_QUEUE,
    ...edit,
  }
}

/** A pool without its version, which counts batches and not what they were for. */
export function unversioned(pool: Pool): Pool {
  return { ...pool, queue: { ...pool.queue, version: 0 } }
}

export function actor(userId: number, credentialVersion = 1) {
  return { userId, credentialVersion }
}

export const ADMIN = actor(1)
export const USER = actor(2)

export interface Rows {
  readonly users?: readonly User[]
  /** Unless given: the pool `default` with as many machines as its target. */
  readonly pools?: readonly Pool[]
  readonly vms?: readonly Vm[]
  /** In place of the plain leases of machines that are held. */
  readonly leases?: readonly Lease[]
  readonly installation?: Partial<Installation>
}

/** Tables with these rows, tallies counted, and ids going on after the highest. */
export function tablesOf({
  users = [aUser(1), aUser(2), aUser(3)],
  pools,
  vms = [],
  leases = [],
  installation,
}: Rows) {
  const tables = new MemoryTables()
  for (const user of users) tables.users.set(user.id, user)
  for (const vm of vms) tables.vms.set(vm.id, vm)
  for (const pool of pools ?? [aPool({ target: vms.filter((vm) => vm.state !== 'deleting').length })])
    tables.pools.set(pool.id, { pool, tally: tables.recount(pool.id) })
  for (const { id: vmId, generation, poolId, holderId, leasedAtMs } of vms)
    if (holderId !== null && leasedAtMs !== null) {
      const lease = plainLease({ vmId, generation, poolId, userId: holderId, fromMs: leasedAtMs })
      tables.leases.set(leaseKey(lease), lease)
    }
  for (const lease of leases) tables.leases.set(leaseKey(lease), lease)
  tables.installation = {
    ...tables.installation,
    nextUserId: Math.max(0, ...tables.users.keys()) + 1,
    nextVmId: Math.max(0, ...tables.vms.keys()) + 1,
    nextPoolId: Math.max(0, ...tables.pools.keys()) + 1,
    ...installation,
  }
  return tables
}

/** Decides the commands of a batch and settles it; `load` gives what it turns out to need. Books are built anew for each batch. */
function decideAll(
  set: WorkingSet,
  commands: readonly Command[],
  load: (needs: MoreNeeds) => MoreRows,
): unknown[] {
  const decisions = new BatchDecisions(set)
  const answers = commands.map((command) => decisions.decide(command).answer)
  for (let needs = decisions.settle(); needs !== null; needs = decisions.settle()) {
    const rows = load(needs)
    set.addMore(rows)
    takeBooks(set, rows.books)
  }
  return answers.map((answer) => answer())
}

/** Gives a batch the books that were loaded whole for it. */
function takeBooks(set: WorkingSet, books: readonly LoadedBook[]): void {
  for (const { poolId, whole } of books) {
    assert.ok(whole, `the book of pool ${poolId} was not loaded`)
    set.takeBook(poolId, Book.of(whole, set.nowMs))
  }
}

function loadedIn(set: WorkingSet): Set<number> {
  return new Set(set.vmsWhere(() => true).map(({ id }) => id))
}

type Answer<K extends CommandKind> = ReplyOf<K> | Refusal

export class World {
  readonly tables: MemoryTables
  nowMs = NOW_MS

  constructor(rows: Rows = {}) {
    this.tables = tablesOf(rows)
  }

  /** Runs one command in a batch of its own. */
  run<K extends CommandKind>(command: CommandOf<K> & { kind: K }): Answer<K> {
    return this.batch(command as unknown as Command)[0] as Answer<K>
  }

  /** Runs commands in one batch, and returns their replies and refusals. */
  batch(...commands: Command[]): unknown[] {
    const needs = new Needs()
    for (const command of commands) needsOf(command, needs)
    const rows = this.tables.load(needs, this.nowMs)
    const set = new WorkingSet(rows)
    takeBooks(set, rows.books)
    const answers = decideAll(set, commands, (more) => this.tables.more(more, loadedIn(set), this.nowMs))
    if (set.dirty) this.tables.save(set)
    return answers
  }

  user(id: number): User {
    const user = this.tables.users.get(id)
    assert.ok(user, `there is no user ${id}`)
    return user
  }

  pool(id = 1): Pool {
    const row = this.tables.pools.get(id)
    assert.ok(row, `there is no pool ${id}`)
    return row.pool
  }

  vm(id: number): Vm {
    const vm = this.tables.vms.get(id)
    assert.ok(vm, `there is no VM ${id}`)
    return vm
  }

  /** Each machine's state, by ascending id. */
  states(): VmState[] {
    return this.tables.vmsWhere(() => true).map((vm) => vm.state)
  }

  /** Ids of machines in `state`, ascending. */
  idsIn(state: VmState): number[] {
    return this.tables.vmsWhere((vm) => vm.state === state).map((vm) => vm.id)
  }

  get lastEvent(): Event {
    const event = this.tables.events.at(-1)
    assert.ok(event, 'nothing has happened')
    return event
  }
}

/** The reply of a command that was accepted. */
export function accepted<Reply>(answer: Reply): Exclude<Reply, Refusal> {
  if (isRefusal(answer)) assert.fail(`refused: ${answer.code}: ${answer.message}`)
  return answer as Exclude<Reply, Refusal>
}

/** Fails unless `answer` is the refusal `code`. */
export function assertRefused(answer: unknown, code: RefusalCode): void {
  assert.ok(isRefusal(answer), `accepted, but should be refused with ${code}`)
  assert.equal(answer.code, code)
}

/** A tally without its zeros. */
export function counts(tally: Tally): Record<string, number> {
  const entries = Object.keys(tally).flatMap((key) =>
    VM_STATES.map((state) => [`${key} ${state}`, tally[key]?.[state] ?? 0] as const),
  )
  return Object.fromEntries(entries.filter(([, count]) => count !== 0))
}

/** The same as `decideAll` in a batch of a store. */
export async function decideAllIn(
  batch: Batch,
  set: WorkingSet,
  commands: readonly Command[],
): Promise<unknown[]> {
  takeBooks(set, batch.rows.books)
  const decisions = new BatchDecisions(set)
  const answers = commands.map((command) => decisions.decide(command).answer)
  for (let needs = decisions.settle(); needs !== null; needs = decisions.settle()) {
    const rows = await batch.more(needs)
    set.addMore(rows)
    takeBooks(set, rows.books)
  }
  return answers.map((answer) => answer())
}
