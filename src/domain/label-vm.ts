/**
 * How a machine gets other labels. Labels tell which machines are alike, so the machine leaves one class and enters another: what was
 * booked or promised of its old class is healed as if it had failed there. Its lease goes on, if it has one.
 */
import { type Actor, authorized, type Rule } from './decision.ts'
import { countExisting, type Tally } from './pool.ts'
import { isRefusal, refusal } from './refusal.ts'
import type { Vm } from './vm.ts'
import { CLASSES_MAX, type ClassKey, classKeyOf, classOf, type Labels } from './vm-class.ts'

export interface LabelVm {
  readonly kind: 'labelVm'
  readonly actor: Actor
  readonly vmId: number
  /** All of them. */
  readonly labels: Labels
  readonly requestId: string
}

/** Refused: `not_allowed`, `vm_unknown`, `vm_named`, `classes_full`; callers as in decision.ts. */
export const labelVm: Rule<LabelVm, { vm: Vm }> = {
  needs(command, needs) {
    needs.userIds.add(command.actor.userId)
    needs.vmIds.add(command.vmId)
    // A checkout of the same batch may have been loaded this machine for its old labels.
    needs.takers++
  },

  decide(view, command) {
    const caller = authorized(view, command.actor, 'vm.maintain')
    if (isRefusal(caller)) return caller
    const vm = view.vm(command.vmId)
    if (vm === undefined || vm.state === 'deleting') return refusal('vm_unknown', { vmId: command.vmId })
    const key = classKeyOf(vm.type, command.labels, null)
    if (key === vm.class) return { changes: { events: [] }, reply: { vm } }
    if (classOf(vm.class).soloVmId !== null) return refusal('vm_named', { vmId: vm.id })
    if (isOneTooMany(view.tally(vm.poolId), key)) return refusal('classes_full', { classesMax: CLASSES_MAX })
    const labelled = { ...vm, class: key }
    return {
      changes: {
        vms: [labelled],
        events: [
          {
            type: 'vm.labelled',
            actorId: caller.id,
            poolId: vm.poolId,
            vmId: vm.id,
            requestId: command.requestId,
            data: { labels: command.labels },
          },
        ],
      },
      reply: { vm: labelled },
    }
  },
}

/** Whether a pool would have more classes with this one than it may. */
function isOneTooMany(tally: Tally, key: ClassKey): boolean {
  const classes = Object.entries(tally)
    .filter(([other, states]) => classOf(other).soloVmId === null && countExisting({ [other]: states }) > 0)
    .map(([other]) => other)
  return classes.length >= CLASSES_MAX && !classes.includes(key)
}
