/** Sizes of machine: everybody sees them, admins make, change and delete them. */
import { type Static, Type } from 'typebox'
import { isRefusal, refusal } from '../../domain/refusal.ts'
import type { VmTypeSpec } from '../../domain/vm-type.ts'
import { vmTypeEtag } from '../../domain/vm-type-change.ts'
import { oneOutcome, pageOutcome } from './page.ts'
import { DONE, type Outcome, perform, type Route, route, said } from './route.ts'
import { fields, name, named, page, pageOf, strict } from './schema.ts'

const vcpu = Type.Integer({ minimum: 1, maximum: 4_096 })
const memory = Type.Integer({ minimum: 1, maximum: 67_108_864, description: 'MiB' })

/** It begins with a letter: sizes are kept by name, in their order, and names that are numbers would come first. */
const typeName = Type.String({
  pattern: '^[a-z](?:[a-z0-9._-]{0,61}[a-z0-9])?$',
  description: '1 to 63 small letters, digits, dots, underscores and dashes, beginning with a letter',
  examples: ['tiny'],
})

const properties = { name: typeName, vcpu, memory_mb: memory }

const VM_TYPE = named('VmType', strict(properties))

const CHANGE = named(
  'VmTypeChange',
  strict({ vcpu: Type.Optional(vcpu), memory_mb: Type.Optional(memory) }, { minProperties: 1 }),
)

const FIELDS = Object.keys(properties)
const byName = strict({ name })

function shown({ name, vcpu, memoryMb }: VmTypeSpec): Static<typeof VM_TYPE> {
  return { name, vcpu, memory_mb: memoryMb }
}

function outcomeOf(status: number, spec: VmTypeSpec, headers: Outcome['headers'] = {}): Outcome {
  return said(status, shown(spec), { ...headers, etag: vmTypeEtag(spec) })
}

export const VM_TYPE_ROUTES: readonly Route[] = [
  route({
    method: 'GET',
    path: '/vm-types',
    id: 'listVmTypes',
    tag: 'vm types',
    summary: 'All sizes of machine, in the order in which they came',
    auth: 'bearer',
    query: strict({ ...page, fields }),
    answers: { 200: { description: 'a page of sizes', schema: pageOf(VM_TYPE) } },
    async handle({ berth, query }) {
      const { vmTypes } = await berth.reads.installation()
      return pageOutcome(query, {
        keys: /^[a-z0-9._-]+$/,
        async read(after, rowsMax) {
          const from = after === null ? 0 : vmTypes.findIndex((spec) => spec.name === after) + 1
          return vmTypes.slice(from, from + rowsMax)
        },
        key: (spec) => spec.name,
        show: shown,
        fields: FIELDS,
      })
    },
  }),
  route({
    method: 'GET',
    path: '/vm-types/{name}',
    id: 'getVmType',
    tag: 'vm types',
    summary: 'One size of machine',
    auth: 'bearer',
    params: byName,
    query: strict({ fields }),
    answers: { 200: { description: 'the size', schema: VM_TYPE, headers: ['ETag'] } },
    refusals: ['vm_type_unknown'],
    async handle({ berth, params, query }) {
      const { vmTypes } = await berth.reads.installation()
      const spec = vmTypes.find(({ name }) => name === params.name)
      if (spec === undefined) return refusal('vm_type_unknown', { name: params.name })
      return oneOutcome(query, FIELDS, shown(spec), { etag: vmTypeEtag(spec) })
    },
  }),
  route({
    method: 'POST',
    path: '/vm-types',
    id: 'createVmType',
    tag: 'vm types',
    summary: 'Make a size of machine',
    auth: 'bearer',
    action: 'vm_type.change',
    body: VM_TYPE,
    answers: { 201: { description: 'the size', schema: VM_TYPE, headers: ['Location', 'ETag'] } },
    refusals: ['vm_type_taken', 'too_many_vm_types'],
    async handle(call) {
      const { caller, body, requestId } = call
      const spec = { name: body.name, vcpu: body.vcpu, memoryMb: body.memory_mb }
      return perform(call, { kind: 'createVmType', actor: caller, spec, requestId }, (reply) =>
        outcomeOf(201, reply.spec, { location: `/api/v1/vm-types/${spec.name}` }),
      )
    },
  }),
  route({
    method: 'PATCH',
    path: '/vm-types/{name}',
    id: 'changeVmType',
    tag: 'vm types',
    summary: 'Change what a size of machine is',
    description: 'Machines that exist stay as they were made.',
    auth: 'bearer',
    action: 'vm_type.change',
    params: byName,
    body: CHANGE,
    ifMatch: true,
    answers: { 200: { description: 'the size', schema: VM_TYPE, headers: ['ETag'] } },
    refusals: ['vm_type_unknown'],
    async handle({ berth, caller, params, body, ifMatch, requestId }) {
      const { vcpu = null, memory_mb: memoryMb = null } = body
      const changed = await berth.submit({
        kind: 'changeVmType',
        actor: caller,
        name: params.name,
        vcpu,
        memoryMb,
        ifMatch,
        requestId,
      })
      return isRefusal(changed) ? changed : outcomeOf(200, changed.spec)
    },
  }),
  route({
    method: 'DELETE',
    path: '/vm-types/{name}',
    id: 'deleteVmType',
    tag: 'vm types',
    summary: 'Delete a size of machine that no pool uses',
    auth: 'bearer',
    action: 'vm_type.change',
    params: byName,
    ifMatch: true,
    answers: { 204: { description: 'it is deleted', schema: null } },
    refusals: ['vm_type_unknown', 'vm_type_fixed', 'vm_type_in_use'],
    async handle({ berth, caller, params, ifMatch, requestId }) {
      const { name } = params
      const done = await berth.submit({ kind: 'deleteVmType', actor: caller, name, ifMatch, requestId })
      return isRefusal(done) ? done : DONE
    },
  }),
]
