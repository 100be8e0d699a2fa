/**
 * How somebody asks for machines: by a wish that is granted at once or, if they will wait, joins the pool's queue. What is
 * judged here is who asks and for what; whether it is granted is for the settlement of the batch to say (settlement.ts), after
 * all that came back in the same batch.
 */
import { type Actor, authorized, type Joined, Joining, type Rule } from './decision.ts'
import { newRequest } from './new-request.ts'
import { countExisting, type Pool, type Tally } from './pool.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import { type LeaseTerms, PRIORITIES, type Priority } from './request.ts'
import type { User } from './user.ts'
import { type ClassKey, classOf } from './vm-class.ts'
import { matches, place, type Wish } from './wish.ts'
import type { View } from './working-set.ts'

export interface Join {
  readonly kind: 'join'
  readonly actor: Actor
  /** The id that the request gets if it has to wait. */
  readonly id: string
  /** The pool's name, or one of its aliases resolved before. */
  readonly pool: string
  readonly wish: Wish
  /** `durationSeconds` undefined: the pool's default. */
  readonly terms: Omit<LeaseTerms, 'durationSeconds'> & {
    readonly durationSeconds: number | null | undefined
  }
  readonly priority: Priority
  /** How long it may wait; 0: it is refused when it cannot be granted at once; null: for ever. */
  readonly waitSeconds: number | null
  readonly requestId: string
}

/**
 * Refused: `pool_unknown`, `pool_closed_to_you`, `lease_too_long`, `priority_too_high`, `vm_unknown`, `wish_impossible`, and what the
 * settlement says: `none_free`, `vm_not_free`, `vm_entangled`, `lease_promised`, `lease_reserved`, `quota_full`, `quota_never`,
 * `waiting_full`, `kinds_full`; callers as in decision.ts.
 */
export const join: Rule<Join, Joined> = {
  needs(command, needs) {
    needs.userIds.add(command.actor.userId)
    needs.poolNames.add(command.pool)
    for (const kind of command.wish) {
      needs.takers += kind.count
      if (kind.vmId !== null) needs.vmIds.add(kind.vmId)
      else if (Object.keys(kind.labels).length > 0) continue
      else if (kind.type === null) needs.readyAny.add(command.pool)
      else
        needs.readyOfType.set(command.pool, (needs.readyOfType.get(command.pool) ?? new Set()).add(kind.type))
    }
  },

  decide(view, command) {
    const user = authorized(view, command.actor, 'vm.checkout')
    if (isRefusal(user)) return user
    const pool = view.poolNamed(command.pool)
    if (pool === undefined) return refusal('pool_unknown', { pool: command.pool })
    const terms = termsIn(pool, command)
    const no =
      mayUse(pool, user) ?? lengthRefusal(pool, terms) ?? priorityRefusal(pool, user, command.priority)
    if (no !== null) return no
    const never =
      namedRefusal(view, pool, command.wish) ?? impossible(pool, view.tally(pool.id), command.wish)
    if (never !== null) return never
    const request = newRequest(view, pool, user.id, { ...command, terms })
    const waits = command.waitSeconds !== 0
    return new Joining({ request, user, waits, callId: command.requestId }, (outcome) => outcome)
  },
}

function termsIn(pool: Pool, { terms }: Join): LeaseTerms {
  const { durationSeconds } = terms
  // A soft lease has no end until somebody needs its machine.
  if (durationSeconds === undefined)
    return { ...terms, durationSeconds: terms.softGraceSeconds === null ? pool.leaseSecondsDefault : null }
  return { ...terms, durationSeconds }
}

/** Why `user` may not use `pool`; null: they may. */
export function mayUse(pool: Pool, user: User): Refusal | null {
  if (pool.userIds === null || user.role === 'admin' || pool.userIds.includes(user.id)) return null
  return refusal('pool_closed_to_you', { pool: pool.name })
}

function lengthRefusal(pool: Pool, { durationSeconds, softGraceSeconds }: LeaseTerms): Refusal | null {
  const { leaseSecondsMax } = pool
  if (leaseSecondsMax === null || softGraceSeconds !== null) return null
  if (durationSeconds !== null && durationSeconds <= leaseSecondsMax) return null
  return refusal('lease_too_long', { durationSeconds, leaseSecondsMax })
}

function priorityRefusal(pool: Pool, user: User, priority: Priority): Refusal | null {
  const most = pool.priorityMax[user.role]
  if (PRIORITIES.indexOf(priority) <= PRIORITIES.indexOf(most)) return null
  return refusal('priority_too_high', { priority, priorityMax: most })
}

/** Why a machine that is named cannot be had; null: it may be, or none is. */
function namedRefusal(view: View, pool: Pool, wish: Wish): Refusal | null {
  for (const kind of wish) {
    if (kind.vmId === null) continue
    const vm = view.vm(kind.vmId)
    if (vm === undefined || vm.poolId !== pool.id || vm.state === 'deleting')
      return refusal('vm_unknown', { vmId: kind.vmId })
    if (!matches({ ...kind, vmId: null }, classOf(vm.class)))
      return refusal('wish_impossible', { pool: pool.name })
  }
  return null
}

/** A wish for more machines than the pool has, or will have once it is brought to its size. */
function impossible(pool: Pool, tally: Tally, wish: Wish): Refusal | null {
  const counts = new Map<ClassKey, number>()
  for (const [key, states] of Object.entries(tally)) counts.set(key, countExisting({ [key]: states }))
  const missing = pool.target - countExisting(tally)
  if (missing > 0)
    for (const type of Object.keys(pool.typeMix)) counts.set(type, (counts.get(type) ?? 0) + missing)
  const unnamed = wish.map((kind) => (kind.vmId === null ? kind : { ...kind, vmId: null }))
  return place(unnamed, counts) === null ? refusal('wish_impossible', { pool: pool.name }) : null
}
