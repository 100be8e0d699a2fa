/**
 * How a batch comes to its end: everything that came back in it is there, everybody who asked in it is known, and now each pool
 * grants what can be granted. In a pool where nobody waits and nothing is booked, joiners take what is ready in the order in which they
 * came; else the pool's book decides (settle.ts). Classes and numbers are decided first; then machines are picked, of which the
 * batch may have to load some.
 */
import type { Book } from './book.ts'
import type { Joined, Joiner } from './decision.ts'
import type { NewEvent } from './event.ts'
import { type Lease, planned } from './lease.ts'
import { move } from './lifecycle.ts'
import { countFree, countIn, isContended, marginMs, type Pool } from './pool.ts'
import { isLimited, quotaRefusal, waitingRefusal } from './quota.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import type { Request } from './request.ts'
import { settle } from './settle.ts'
import type { User } from './user.ts'
import type { Vm } from './vm.ts'
import { type ClassKey, classOf } from './vm-class.ts'
import { type Placement, place } from './wish.ts'
import type { MoreNeeds, WorkingSet } from './working-set.ts'

/** A grant whose machines are not picked yet. */
interface Pending {
  readonly request: Request
  readonly joiner: Joiner | null
  readonly placement: Placement
  readonly durationSeconds: number | null
  readonly chargedMinutes: number
  readonly weight: number
}

export class Settlement {
  readonly #set: WorkingSet
  #joiners: Joiner[] = []
  readonly #outcomes = new Map<Joiner, Joined | Refusal>()
  #pending: Pending[] = []
  readonly #settled = new Set<number>()

  constructor(set: WorkingSet) {
    this.#set = set
  }

  add(joiner: Joiner): void {
    this.#joiners.push(joiner)
  }

  /** What became of a joiner, once `step` has returned null. */
  outcomeOf(joiner: Joiner): Joined | Refusal {
    const outcome = this.#outcomes.get(joiner)
    if (outcome === undefined) throw new Error(`request ${joiner.request.id} was not settled`)
    return outcome
  }

  /** Goes as far as it can with what is loaded. Returns what it needs to go on; null: everything is settled. */
  step(): MoreNeeds | null {
    const needs = new More()
    this.#grantFree(needs)
    if (needs.any) return needs.list()
    this.#settlePools(needs)
    if (needs.any) return needs.list()
    this.#pickMachines(needs)
    return needs.any ? needs.list() : null
  }

  /** Joiners of pools where nobody waits and nothing is booked take what is ready, in the order in which they came. */
  #grantFree(needs: More): void {
    const left: Joiner[] = []
    const held = new Set<number>()
    for (const joiner of this.#joiners) {
      const { request, user, waits } = joiner
      const pool = this.#pool(request.poolId)
      // Behind one that has to wait for rows, nobody may overtake it.
      if (held.has(pool.id) || isContended(pool)) {
        left.push(joiner)
        continue
      }
      if (isLimited(pool, user) && this.#set.usage(user.id) === undefined) {
        needs.usageOf.add(user.id)
        held.add(pool.id)
        left.push(joiner)
        continue
      }
      const placement = this.#placeFree(pool, request)
      const no = placement === null ? null : this.#quotaRefusal(pool, user, placement)
      if (placement === null || no !== null) {
        if (no?.code === 'quota_never' || !waits) this.#outcomes.set(joiner, no ?? noneFree(pool, request))
        else {
          held.add(pool.id)
          left.push(joiner)
        }
        continue
      }
      const { durationSeconds } = request.terms
      const pending = { request, joiner, placement, durationSeconds, chargedMinutes: 0, weight: 1 }
      if (this.#missing(pending, needs)) {
        held.add(pool.id)
        left.push(joiner)
      } else this.#lease(pending)
    }
    this.#joiners = left
  }

  /** Which classes serve a wish when nothing but what is ready counts. */
  #placeFree(pool: Pool, { wish }: Request): Placement | null {
    const tally = this.#set.tally(pool.id)
    const wanted = wish.reduce((sum, { count }) => sum + count, 0)
    if (countFree(pool, tally) < wanted) return null
    const ready = new Map<ClassKey, number>()
    for (const [key, states] of Object.entries(tally)) ready.set(key, states?.ready ?? 0)
    return placeNamed(this.#set, wish, ready)
  }

  /** Pools with a book in this batch settle by it, once the joiners that are left have joined. */
  #settlePools(needs: More): void {
    const joiners = Map.groupBy(this.#joiners, ({ request }) => request.poolId)
    for (const poolId of new Set([...this.#set.bookedPools, ...joiners.keys()])) {
      const pool = this.#pool(poolId)
      const joining = joiners.get(poolId) ?? []
      const book = this.#set.book(poolId)
      if (book === undefined) {
        needs.books.add(poolId)
        continue
      }
      for (const { user } of joining)
        if (isLimited(pool, user) && this.#set.usage(user.id) === undefined) needs.usageOf.add(user.id)
      if (needs.any) continue
      this.#settlePool(pool, book, joining)
    }
    if (!needs.any) this.#joiners = []
  }
}
