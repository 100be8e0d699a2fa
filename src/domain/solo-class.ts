/**
 * When a machine stands alone. Who waits for a machine by name, or books it, cannot be counted among the others of its class, so
 * the machine is set apart in a class of its own, if the rest of its class keeps its bookings and promises without it. When
 * nobody names it any more, it goes back.
 */
import type { Book } from './book.ts'
import { type Refusal, refusal } from './refusal.ts'
import type { Vm } from './vm.ts'
import { classKeyOf, classOf } from './vm-class.ts'

/** The machine in a class of its own. */
export function setApart(vm: Vm): Vm {
  const { type, labels } = classOf(vm.class)
  return { ...vm, class: classKeyOf(type, labels, vm.id) }
}

/** The machine among the others of its type and labels. */
export function putBack(vm: Vm): Vm {
  const { type, labels } = classOf(vm.class)
  return { ...vm, class: classKeyOf(type, labels, null) }
}

/** Why machines cannot be set apart: `named_conflict`; null: they can. */
export function setApartRefusal(book: Book, vms: readonly Vm[]): Refusal | null {
  const leaving = new Map<string, Vm[]>()
  for (const vm of vms)
    if (setApart(vm).class !== vm.class) leaving.set(vm.class, [...(leaving.get(vm.class) ?? []), vm])
  for (const [key, some] of leaving) {
    const timeline = book.classes.get(key)?.timeline
    if (timeline === undefined) continue
    for (const vm of some) {
      const fromMs = vm.state === 'ready' ? Number.NEGATIVE_INFINITY : vm.freeAtMs
      // What never comes back is in nobody's plans.
      if (fromMs !== null && timeline.minFree(fromMs, null) < some.length)
        return refusal('named_conflict', { vmId: vm.id })
    }
  }
  return null
}

/** The machines of a pool's solo classes that no request and no reservation names any more. */
export function noLongerNamed(book: Book, vms: readonly Vm[]): Vm[] {
  const named = new Set<number | null>()
  for (const group of book.queue.groups.values()) for (const { vmId } of group.wish) named.add(vmId)
  for (const { wish } of book.reservations.values()) for (const { vmId } of wish) named.add(vmId)
  return vms.filter((vm) => classOf(vm.class).soloVmId !== null && !named.has(vm.id))
}
