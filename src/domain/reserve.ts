/**
 * How somebody books machines for windows to come: one window, or those of a series, all of them or, when they say so, as many
 * as can be had. Whether a window can be kept is admission.ts's to say.
 */
import { type Admitted, type AdmittedSeries, admit, admitSeries } from './admission.ts'
import { type Actor, authorized, type Rule } from './decision.ts'
import type { NewEvent } from './event.ts'
import { mayUse } from './join.ts'
import { vcpuOf } from './quota-use.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import type { Reservation } from './reservation.ts'
import type { Vm } from './vm.ts'
import { classOf, type Labels } from './vm-class.ts'
import { matches, type Wish } from './wish.ts'
import type { View } from './working-set.ts'

export interface Reserve {
  readonly kind: 'reserve'
  readonly actor: Actor
  /** The pool's name. */
  readonly pool: string
  readonly wish: Wish
  /** Each with the id that its reservation gets; in order. */
  readonly windows: readonly { readonly id: string; readonly fromMs: number; readonly toMs: number }[]
  /** The id of the series that the windows belong to; null: a single one. */
  readonly seriesId: string | null
  /** True: those windows that cannot be had are left out. */
  readonly partial: boolean
  /** undefined: what the pool says; null: it waits for its holder until it ends. */
  readonly noShowSeconds: number | null | undefined
  readonly purpose: string | null
  readonly labels: Labels
  readonly requestId: string
}

export interface Reserved {
  readonly reservations: readonly Reservation[]
  /** Windows that cannot be had, and why. */
  readonly failed: readonly { readonly fromMs: number; readonly toMs: number; readonly refusal: Refusal }[]
}

/**
 * Refused: `pool_unknown`, `pool_closed_to_you`, `vm_unknown`, `window_empty`, `window_past`, `window_far`, `window_long`,
 * `quota_never`, `quota_full`, `wish_impossible`, `vm_entangled`, `reservation_full`, `series_full`; callers as in decision.ts.
 */
export const reserve: Rule<Reserve, Reserved> = {
  needs(command, needs) {
    needs.userIds.add(command.actor.userId)
    needs.poolNames.add(command.pool)
    needs.books.add(command.pool)
    for (const { vmId } of command.wish) if (vmId !== null) needs.vmIds.add(vmId)
  },

  decide(view, command) {
    const user = authorized(view, command.actor, 'vm.checkout')
    if (isRefusal(user)) return user
    const pool = view.poolNamed(command.pool)
    if (pool === undefined) return refusal('pool_unknown', { pool: command.pool })
    const no = mayUse(pool, user)
    if (no !== null) return no
    const named = namedIn(view, pool.id, command.wish)
    if (isRefusal(named)) return named
    const answer = admitted(view, pool.id, command, named)
    if (isRefusal(answer)) return answer
    const ids = new Map(command.windows.map(({ id, fromMs, toMs }) => [`${fromMs} ${toMs}`, id]))
    const reservations = answer.admitted.map(({ booking, pinned }, i): Reservation => {
      const { fromMs, toMs } = booking
      return {
        id: ids.get(`${fromMs} ${toMs}`) as string,
        poolId: pool.id,
        userId: user.id,
        wish: command.wish,
        fromMs,
        toMs,
        pinned,
        state: 'confirmed',
        atRisk: false,
        missing: 0,
        confirmedSeq: pool.queue.nextSeq + i,
        noShowSeconds: command.noShowSeconds === undefined ? pool.noShowSeconds : command.noShowSeconds,
        claimed: false,
        seriesId: command.seriesId,
        purpose: command.purpose,
        labels: command.labels,
        createdAtMs: view.nowMs,
      }
    })
    const moves = new Map(answer.admitted.flatMap(({ moves }) => moves.map((move) => [move.vmId, move])))
    const nextSeq = pool.queue.nextSeq + reservations.length
    return {
      changes: {
        pools: [{ ...pool, queue: { ...pool.queue, nextSeq } }],
        vms: [...moves.values()].map(({ vmId, classKey }) => ({
          ...(named.get(vmId) as Vm),
          class: classKey,
        })),
        reservations,
        notices: answer.admitted.flatMap(({ notices }) => notices),
        events: reservations.map((reservation): NewEvent => {
          const { id, fromMs, toMs, seriesId } = reservation
          return {
            type: 'reservation.confirmed',
            actorId: user.id,
            poolId: pool.id,
            userId: user.id,
            requestId: command.requestId,
            data: { reservation: id, fromMs, toMs, ...(seriesId === null ? {} : { series: seriesId }) },
          }
        }),
      },
      reply: {
        reservations,
        failed: answer.failed.map(({ booking, refusal: why }) => ({
          fromMs: booking.fromMs,
          toMs: booking.toMs,
          refusal: why,
        })),
      },
    }
  },
}

/** The machines that a wish names, by id. */
function namedIn(view: View, poolId: number, wish: Wish): Map<number, Vm> | Refusal {
  const named = new Map<number, Vm>()
  for (const kind of wish) {
    if (kind.vmId === null) continue
    const vm = view.vm(kind.vmId)
    const fits = vm !== undefined && matches({ ...kind, vmId: null }, classOf(vm.class))
    if (!fits || vm.poolId !== poolId || vm.state === 'deleting')
      return refusal('vm_unknown', { vmId: kind.vmId })
    named.set(vm.id, vm)
  }
  return named
}

function admitted(
  view: View,
  poolId: number,
  { actor, wish, windows, seriesId, partial }: Reserve,
  named: ReadonlyMap<number, Vm>,
): AdmittedSeries | Refusal {
  const book = view.book(poolId)
  if (book === undefined) throw new Error(`the book of pool ${poolId} was not loaded`)
  const facts = { named, vcpuOf: (type: string) => vcpuOf(view, type) }
  const bookings = windows.map(({ fromMs, toMs }) => ({ userId: actor.userId, wish, fromMs, toMs }))
  if (seriesId !== null) return admitSeries(book, bookings, partial, view.nowMs, facts)
  const [booking] = bookings
  if (booking === undefined) throw new Error('a reservation without a window')
  const one: Admitted | Refusal = admit(book, booking, view.nowMs, facts)
  return isRefusal(one) ? one : { admitted: [one], failed: [] }
}
