/**
 * How sizes of machine come, change and go. The four that the original API knows stay; another one goes when no pool is made of it
 * and no machine has it. A change of a size is a change of what it says: machines that exist stay as they were made.
 */
import { type Actor, authorized, type Rule } from './decision.ts'
import { etagFits, etagOf } from './etag.ts'
import { countByType, type Pool } from './pool.ts'
import { isRefusal, type Refusal, refusal } from './refusal.ts'
import { FIRST_VM_TYPES, VM_TYPES_MAX, type VmType, type VmTypeSpec } from './vm-type.ts'
import type { Changes, View } from './working-set.ts'

export function vmTypeEtag(spec: VmTypeSpec): string {
  return etagOf([spec.name, spec.vcpu, spec.memoryMb])
}

export interface CreateVmType {
  readonly kind: 'createVmType'
  readonly actor: Actor
  readonly spec: VmTypeSpec
  readonly requestId: string
}

/** Refused: `vm_type_taken`, `too_many_vm_types`; callers as in decision.ts. */
export const createVmType: Rule<CreateVmType, { spec: VmTypeSpec }> = {
  needs({ actor }, needs) {
    needs.userIds.add(actor.userId)
    needs.installation = true
  },

  decide(view, { actor, spec, requestId }) {
    const caller = authorized(view, actor, 'vm_type.change')
    if (isRefusal(caller)) return caller
    const { vmTypes } = view.installation
    if (vmTypes.some(({ name }) => name === spec.name)) return refusal('vm_type_taken', { name: spec.name })
    if (vmTypes.length >= VM_TYPES_MAX) return refusal('too_many_vm_types', { vmTypesMax: VM_TYPES_MAX })
    return {
      changes: {
        ...withTypes(view, [...vmTypes, spec]),
        events: [{ type: 'vm_type.created', actorId: caller.id, requestId, data: { ...spec } }],
      },
      reply: { spec },
    }
  },
}

export interface ChangeVmType {
  readonly kind: 'changeVmType'
  readonly actor: Actor
  readonly name: VmType
  /** null: as it is. */
  readonly vcpu: number | null
  readonly memoryMb: number | null
  readonly ifMatch: readonly string[] | null
  readonly requestId: string
}

/** Refused: `vm_type_unknown`, `etag_stale`; callers as in decision.ts. */
export const changeVmType: Rule<ChangeVmType, { spec: VmTypeSpec }> = {
  needs({ actor }, needs) {
    needs.userIds.add(actor.userId)
    needs.installation = true
  },

  decide(view, command) {
    const caller = authorized(view, command.actor, 'vm_type.change')
    if (isRefusal(caller)) return caller
    const spec = seen(view, command.name, command.ifMatch)
    if (isRefusal(spec)) return spec
    const changed = { ...spec, vcpu: command.vcpu ?? spec.vcpu, memoryMb: command.memoryMb ?? spec.memoryMb }
    if (vmTypeEtag(changed) === vmTypeEtag(spec)) return { changes: { events: [] }, reply: { spec } }
    const vmTypes = view.installation.vmTypes.map((other) => (other.name === spec.name ? changed : other))
    const { requestId } = command
    return {
      changes: {
        ...withTypes(view, vmTypes),
        events: [{ type: 'vm_type.changed', actorId: caller.id, requestId, data: { ...changed } }],
      },
      reply: { spec: changed },
    }
  },
}

export interface DeleteVmType {
  readonly kind: 'deleteVmType'
  readonly actor: Actor
  readonly name: VmType
  readonly ifMatch: readonly string[] | null
  readonly requestId: string
}

/** Refused: `vm_type_unknown`, `etag_stale`, `vm_type_fixed`, `vm_type_in_use`; callers as in decision.ts. */
export const deleteVmType: Rule<DeleteVmType, null> = {
  needs({ actor }, needs) {
    needs.userIds.add(actor.userId)
    needs.installation = true
    needs.allPools = true
  },

  decide(view, { actor, name, ifMatch, requestId }) {
    const caller = authorized(view, actor, 'vm_type.change')
    if (isRefusal(caller)) return caller
    const spec = seen(view, name, ifMatch)
    if (isRefusal(spec)) return spec
    if (FIRST_VM_TYPES.some((first) => first.name === name)) return refusal('vm_type_fixed', { name })
    const users = view.poolsWhere((pool) => !pool.retired && isMadeOf(view, pool, name))
    if (users.length > 0) return refusal('vm_type_in_use', { name, pools: users.map((pool) => pool.name) })
    return {
      changes: {
        ...withTypes(
          view,
          view.installation.vmTypes.filter((other) => other.name !== name),
        ),
        events: [{ type: 'vm_type.deleted', actorId: caller.id, requestId, data: { name } }],
      },
      reply: null,
    }
  },
}

function isMadeOf(view: View, pool: Pool, name: VmType): boolean {
  const states = countByType(view.tally(pool.id)).get(name) ?? {}
  const machines = Object.values(states).some((count) => count > 0)
  return machines || (pool.typeMix[name] ?? 0) > 0 || pool.units[name] !== undefined
}

function seen(view: View, name: VmType, ifMatch: readonly string[] | null): VmTypeSpec | Refusal {
  const spec = view.installation.vmTypes.find((other) => other.name === name)
  if (spec === undefined) return refusal('vm_type_unknown', { name })
  return etagFits(ifMatch, vmTypeEtag(spec))
    ? spec
    : refusal('etag_stale', { etag: (ifMatch ?? []).join(', ') })
}

function withTypes(view: View, vmTypes: readonly VmTypeSpec[]): Pick<Changes, 'installation'> {
  return { installation: { ...view.installation, vmTypes } }
}
