/**
 * How somebody asks for machines: by a wish that is granted at once or, if they will wait, joins the pool's queue. What is
 * judged here is who asks and for what; whether it is granted is for the settlement of the batch to say (settlement.ts), after
 * all that came back in the same batch.
 */
import { type Actor, authorized, type Joined, Joining, type Rule } from './decision.ts'
import { countExisting, type Pool, type Tally } from './pool.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import { PRIORITIES, type LeaseTerms, type Priority, type Request } from './request.ts'
import type { User } from './user.ts'
import { classOf } from './vm-class.ts'
import type { View } from './working-set.ts'
import { type Kind, matches, type Wish } from './wish.ts'

export interface Join {
  readonly kind: 'join'
  readonly actor: Actor
  /** The id that the request gets if it has to wait. */
  readonly id: string
  /** The pool's name, or one of its aliases resolved before. */
  readonly pool: string
  readonly wish: Wish
  /** `durationSeconds` undefined: the pool's default. */
  readonly terms: Omit<LeaseTerms, 'durationSeconds'> & { readonly durationSeconds: number | null | undefined }
  readonly priority: Priority
  /** How long it may wait; 0: it is refused when it cannot be granted at once; null: for ever. */
  readonly waitSeconds: number | null
  readonly requestId: string
}

/**
 * Refused: `pool_unknown`, `pool_closed_to_you`, `lease_too_long`, `priority_too_high`, `no_such_machines`, `quota_never`, and what the
 * settlement says: `none_free`, `machines_promised`, `machines_reserved`, `quota_full`, `queue_quota_full`, `kinds_too_many`; callers as in decision.ts.
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
      else needs.readyOfType.set(command.pool, (needs.readyOfType.get(command.pool) ?? new Set()).add(kind.type))
    }
  },

  decide(view, command) {
    const user = authorized(view, command.actor, 'vm.checkout')
    if (isRefusal(user)) return user
    const pool = view.poolNamed(command.pool)
    if (pool === undefined) return refusal('pool_unknown', { pool: command.pool })
    const terms = termsIn(pool, command)
    const no = mayUse(pool, user) ?? lengthRefusal(pool, terms) ?? priorityRefusal(pool, user, command.priority)
    if (no !== null) return no
    const exists = existence(view, pool, command.wish)
    if (exists !== null) return exists
    const { nowMs } = view
    const { waitSeconds } = command
    const request: Request = {
      id: command.id,
      poolId: pool.id,
      userId: user.id,
      seq: 0,
      wish: command.wish,
      terms,
      priority: command.priority,
      state: 'waiting',
      createdAtMs: nowMs,
      untilMs: waitSeconds === null ? null : nowMs + waitSeconds * 1_000,
      endedAtMs: null,
      due: null,
      parked: false,
      collectSinceMs: null,
      reservationId: null,
      leases: [],
    }
    return new Joining({ request, user, waits: waitSeconds !== 0, callId: command.requestId }, (outcome) => outcome)
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

/** Whether there can ever be machines for each kind of a wish. */
function existence(view: View, pool: Pool, wish: Wish): Refusal | null {
  const tally = view.tally(pool.id)
  for (const [i, kind] of wish.entries()) {
    if (kind.vmId !== null) {
      const vm = view.vm(kind.vmId)
      if (vm === undefined || vm.poolId !== pool.id || vm.state === 'deleting' || !matches(kind, classOf(vm.class)))
        return refusal('no_such_machines', { field: `wish[${i}]`, count: kind.count, exist: 0 })
      continue
    }
    const exist = existing(kind, tally)
    if (exist < kind.count && exist < pool.target)
      return refusal('no_such_machines', { field: `wish[${i}]`, count: kind.count, exist })
  }
  return null
}

/** Machines of the classes that `kind` matches, whatever they are doing. */
function existing(kind: Kind, tally: Tally): number {
  const matching = Object.entries(tally).filter(([key]) => matches(kind, classOf(key)))
  return countExisting(Object.fromEntries(matching))
}
