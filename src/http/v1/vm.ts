/** Machines: what admins do with those that nobody holds. */
import { type Static, Type } from 'typebox'
import type { CommandOf } from '../../domain/command.ts'
import { isRefusal } from '../../domain/refusal.ts'
import { POWER_STATES, VM_STATES, type Vm } from '../../domain/vm.ts'
import { DONE, perform, type Route, route, said } from './route.ts'
import { id, named, nullable, strict, time, timeText, words } from './schema.ts'

const VM = named(
  'Machine',
  strict({
    id,
    name: Type.String(),
    type: Type.String(),
    address: Type.String(),
    power: words(POWER_STATES),
    state: words(VM_STATES),
    generation: Type.Integer({ minimum: 0, description: 'how often it was leased' }),
    failure: nullable(Type.String({ description: 'what the provider said when it last failed on it' })),
    created_at: time,
  }),
)

const byId = strict({ id })

function shown(vm: Vm): Static<typeof VM> {
  return {
    id: vm.id,
    name: vm.name,
    type: vm.type,
    address: vm.address,
    power: vm.power,
    state: vm.state,
    generation: vm.generation,
    failure: vm.failure,
    created_at: timeText(vm.createdAtMs),
  }
}

const STEPS: Readonly<Record<CommandOf<'maintain'>['step'], string>> = {
  clean: 'Bring a machine back from maintenance: it is clean',
  cordon: 'Keep a machine out of use',
  uncordon: 'Let a machine back that was kept out of use',
  retry: 'Have a failed machine tried again',
}

const steps = Object.entries(STEPS) as [CommandOf<'maintain'>['step'], string][]

export const VM_ROUTES: readonly Route[] = [
  ...steps.map(([step, summary]) =>
    route({
      method: 'POST',
      path: `/machines/{id}/${step}`,
      id: `${step}Machine`,
      tag: 'machines',
      summary,
      auth: 'bearer',
      action: 'vm.maintain',
      params: byId,
      answers: { 200: { description: 'the machine', schema: VM } },
      refusals: ['vm_unknown', 'vm_state_wrong', 'vm_busy'],
      async handle(call) {
        const { caller, params, requestId } = call
        const command = { kind: 'maintain', actor: caller, vmId: params.id, step, requestId } as const
        return perform(call, command, ({ vm }) => said(200, shown(vm)))
      },
    }),
  ),
  route({
    method: 'DELETE',
    path: '/machines/{id}',
    id: 'deleteMachine',
    tag: 'machines',
    summary: 'Destroy a machine that nobody holds; its pool’s size is one less',
    auth: 'bearer',
    action: 'vm.delete',
    params: byId,
    answers: { 204: { description: 'it is being destroyed', schema: null } },
    refusals: ['vm_unknown', 'vm_leased'],
    async handle({ berth, caller, params, requestId }) {
      const done = await berth.submit({ kind: 'deleteVm', actor: caller, vmId: params.id, requestId })
      return isRefusal(done) ? done : DONE
    },
  }),
]
