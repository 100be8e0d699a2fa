/**
 * When a machine stands in a class of its own: as long as somebody waits for it by name, or has booked it. Counted among others like
 * it, a named machine would be given to somebody who takes any; and counts of its class would be wrong.
 */
import type { Book } from './book.ts'
import { type Refusal, refusal } from './refusal.ts'
import { type Move, type NamedVm, Trial } from './trial.ts'
import { classKeyOf, classOf } from './vm-class.ts'

/**
 * The class of its own that a machine is moved into for a request that waits for it by name; a refusal when the others of its class could
 * not keep what is booked and promised without it; null when it has one.
 */
export function moveAlone(book: Book, vm: NamedVm, nowMs: number): Move | Refusal | null {
  if (classOf(vm.class).soloVmId !== null) return null
  const trial = new Trial(book, nowMs)
  const isMoved = trial.moveAway(vm)
  const [move] = trial.moves
  trial.undo()
  if (isMoved) return move ?? null
  const free = book.classes.get(vm.class)?.timeline.minFree(nowMs, null) ?? 0
  return refusal('vm_entangled', { vmId: vm.id, count: Math.max(0, free) })
}

/** Machines that nobody names any more: they go back among others like them. */
export function movesBack(book: Book): Move[] {
  const alone = [...book.classes.values()].filter(
    ({ key, existing }) => existing > 0 && classOf(key).soloVmId !== null,
  )
  if (alone.length === 0) return []
  const named = new Set<number | null>()
  for (const { wish, pinned } of book.reservations.values()) {
    for (const { vmId } of wish) named.add(vmId)
    for (const [key] of pinned) named.add(classOf(key).soloVmId)
  }
  for (const { wish } of book.queue.groups.values()) for (const { vmId } of wish) named.add(vmId)
  return alone.flatMap(({ key }) => {
    const { type, labels, soloVmId } = classOf(key)
    if (soloVmId === null || named.has(soloVmId)) return []
    return [{ vmId: soloVmId, classKey: classKeyOf(type, labels, null) }]
  })
}
