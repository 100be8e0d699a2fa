/**
 * When a machine stands alone. Who waits for a machine by name, or books it, cannot be counted among the others of its class, so
 * the machine is set apart in a class of its own, if the rest of its class keeps its bookings and promises without it. When
 * nobody names it any more, it goes back.
 */
import type { Book } from './book.ts'
import { type Refusal, refusal } from './refusal.ts'
import { Trial } from './trial.ts'
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

/** Why machines cannot be set apart: `vm_entangled`; null: they can. */
export function setApartRefusal(book: Book, vms: readonly Vm[], nowMs: number): Refusal | null {
  const trial = new Trial(book, nowMs)
  const stuck = vms.find((vm) => !trial.moveAway(vm))
  trial.undo()
  return stuck === undefined ? null : refusal('vm_entangled', { vmId: stuck.id, count: 0 })
}

/** The machines of a pool's solo classes that no request and no reservation names any more. */
export function noLongerNamed(book: Book, vms: readonly Vm[]): Vm[] {
  const named = new Set<number | null>()
  for (const group of book.queue.groups.values()) for (const { vmId } of group.wish) named.add(vmId)
  for (const { wish } of book.reservations.values()) for (const { vmId } of wish) named.add(vmId)
  return vms.filter((vm) => classOf(vm.class).soloVmId !== null && !named.has(vm.id))
}
