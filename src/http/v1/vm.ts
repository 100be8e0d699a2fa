/**
 * Machines: everybody sees what there is, admins do what is done with machines that nobody holds. Where a machine is reached, and who
 * holds it, is for its holder and for admins.
 */
import { type Static, Type } from 'typebox'
import type { CommandOf } from '../../domain/command.ts'
import { isRefusal, refusal } from '../../domain/refusal.ts'
import { POWER_STATES, VM_STATES, type Vm, type VmState } from '../../domain/vm.ts'
import { classOf } from '../../domain/vm-class.ts'
import type { Berth } from '../../service/berth.ts'
import type { TokenCaller } from '../../service/tokens.ts'
import { ID_KEYS, idAfter, oneOutcome, pageOutcome } from './page.ts'
import { poolCalled } from './pool.ts'
import { DONE, perform, type Route, route, said } from './route.ts'
import {
  fields,
  id,
  labels,
  name,
  named,
  nullable,
  page,
  pageOf,
  strict,
  time,
  timeText,
  timeTextOrNull,
  wordList,
  words,
} from './schema.ts'

const properties = {
  id,
  name: Type.String(),
  pool: Type.String(),
  type: Type.String(),
  labels,
  state: words(VM_STATES),
  power: words(POWER_STATES),
  generation: Type.Integer({ minimum: 0, description: 'how often it was leased' }),
  address: nullable(Type.String({ description: 'for its holder and admins' })),
  holder_id: nullable(Type.Integer({ description: 'for its holder and admins' })),
  free_at: nullable(
    Type.String({
      format: 'date-time',
      description: 'when it is expected to be ready again; null: it is, or nobody knows',
    }),
  ),
  failure: nullable(
    Type.String({ description: 'for admins: what the provider said when it last failed on it' }),
  ),
  created_at: time,
}

const VM = named('Machine', strict(properties))

const FIELDS = Object.keys(properties)
const byId = strict({ id })

/** Shows machines to one caller; their pools by id. */
function shownTo({ userId, role }: TokenCaller, pools: ReadonlyMap<number, string>) {
  return (vm: Vm): Static<typeof VM> => {
    const admin = role === 'admin'
    const mine = admin || vm.holderId === userId
    return {
      id: vm.id,
      name: vm.name,
      pool: pools.get(vm.poolId) ?? '',
      type: vm.type,
      labels: { ...classOf(vm.class).labels },
      state: vm.state,
      power: vm.power,
      generation: vm.generation,
      address: mine ? vm.address : null,
      holder_id: mine ? vm.holderId : null,
      free_at: timeTextOrNull(vm.freeAtMs),
      failure: admin ? vm.failure : null,
      created_at: timeText(vm.createdAtMs),
    }
  }
}

async function poolNames(berth: Berth): Promise<ReadonlyMap<number, string>> {
  return new Map((await berth.reads.pools()).map(({ pool }) => [pool.id, pool.name]))
}

/** Machines of some pools in some states, by ascending id: each list is in that order, so only their heads have to be looked at. */
async function machinesIn(
  berth: Berth,
  poolIds: readonly number[],
  states: readonly (VmState | null)[],
  type: string | null,
  label: string | null,
  slice: { afterId: number; rowsMax: number },
): Promise<Vm[]> {
  const lists: Vm[][] = []
  for (const poolId of poolIds)
    for (const state of states) {
      const filter = {
        ...(state === null ? {} : { state }),
        ...(type === null ? {} : { type }),
        ...(label === null ? {} : { label }),
      }
      lists.push(await berth.reads.vmsOfPool(poolId, filter, slice))
    }
  return lists
    .flat()
    .sort((a, b) => a.id - b.id)
    .slice(0, slice.rowsMax)
}

const STEPS: Readonly<Record<CommandOf<'maintain'>['step'], string>> = {
  clean: 'Bring a machine back from maintenance: it is clean',
  cordon: 'Keep a machine out of use',
  uncordon: 'Let a machine back that was kept out of use',
  retry: 'Have a failed machine tried again',
}

const steps = Object.entries(STEPS) as [CommandOf<'maintain'>['step'], string][]

export const VM_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/machines',
    id: 'listMachines',
    tag: 'machines',
    summary: 'Machines, by pool, state, size and label',
    auth: 'bearer',
    query: strict({
      pool: Type.Optional({ ...name, description: 'of this pool, by its name or an alias; none: of all' }),
      state: Type.Optional(wordList(VM_STATES, 'in one of these states, separated by commas')),
      type: Type.Optional({ ...name, description: 'of this size' }),
      label: Type.Optional(
        Type.String({
          pattern: '^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}=[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$',
          description: 'with this label',
          examples: ['os=debian'],
        }),
      ),
      ...page,
      fields,
    }),
    answers: { 200: { description: 'a page of machines', schema: pageOf(VM) } },
    refusals: ['pool_unknown'],
    async handle({ berth, caller, query }) {
      const pools = await poolNames(berth)
      let poolIds: readonly number[] = [...pools.keys()]
      if (query.pool !== undefined) {
        const reading = await poolCalled(berth, query.pool)
        if (isRefusal(reading)) return reading
        poolIds = [reading.pool.id]
      }
      const states = query.state === undefined ? [null] : [...new Set(query.state.split(',') as VmState[])]
      return pageOutcome(query, {
        keys: ID_KEYS,
        read: (after, rowsMax) =>
          machinesIn(berth, poolIds, states, query.type ?? null, query.label ?? null, {
            afterId: idAfter(after),
            rowsMax,
          }),
        key: (vm) => `${vm.id}`,
        show: shownTo(caller, pools),
        fields: FIELDS,
      })
    },
  }),
  route({
    method: 'GET',
    path: '/machines/{id}',
    id: 'getMachine',
    tag: 'machines',
    summary: 'One machine',
    auth: 'bearer',
    params: byId,
    query: strict({ fields }),
    answers: { 200: { description: 'the machine', schema: VM } },
    refusals: ['vm_unknown'],
    async handle({ berth, caller, params, query }) {
      const vm = await berth.reads.vmById(params.id)
      if (vm === null) return refusal('vm_unknown', { vmId: params.id })
      return oneOutcome(query, FIELDS, shownTo(caller, await poolNames(berth))(vm))
    },
  }),
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
        const { berth, caller, params, requestId } = call
        const shown = shownTo(caller, await poolNames(berth))
        const command = { kind: 'maintain', actor: caller, vmId: params.id, step, requestId } as const
        return perform(call, command, ({ vm }) => said(200, shown(vm)))
      },
    }),
  ),
  route({
    method: 'PATCH',
    path: '/machines/{id}',
    id: 'changeMachine',
    tag: 'machines',
    summary: 'Give a machine other labels',
    description:
      'All of them are replaced. A lease on it goes on; a reservation that needs a machine with the old labels is kept by others where that is possible.',
    auth: 'bearer',
    action: 'vm.maintain',
    params: byId,
    body: named('MachineChange', strict({ labels })),
    answers: { 200: { description: 'the machine', schema: VM } },
    refusals: ['vm_unknown', 'vm_named', 'classes_full'],
    async handle({ berth, caller, params, body, requestId }) {
      const { labels } = body
      const done = await berth.submit({ kind: 'labelVm', actor: caller, vmId: params.id, labels, requestId })
      if (isRefusal(done)) return done
      return said(200, shownTo(caller, await poolNames(berth))(done.vm))
    },
  }),
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
