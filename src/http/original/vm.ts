/** Machines, as the original API lists and deletes them. */
import type { FastifyInstance } from 'fastify'
import { DEFAULT_POOL as POOL } from '../../domain/pool.ts'
import { isRefusal, refusal } from '../../domain/refusal.ts'
import { isStorableText } from '../../domain/text.ts'
import { POWER_STATES } from '../../domain/vm.ts'
import { VM_TYPES, vmTypeNamed } from '../../domain/vm-type.ts'
import type { Berth } from '../../service/berth.ts'
import type { Slice, VmFilter } from '../../store/port.ts'
import { EMPTY, MESSAGES, REFUSAL_ANSWERS, vmRow } from './answers.ts'
import { list, mutation, one, type WithId } from './call.ts'
import { wholeNumber } from './fields.ts'

export function vmRoutes(app: FastifyInstance, berth: Berth): void {
  const details = { key: 'VM_details', empty: EMPTY, show: vmRow }
  const vms = (filter: VmFilter) => (slice: Slice) => berth.reads.vms(POOL, filter, slice)

  app.get('/vmdetails', (_request, reply) => list(berth, reply, { ...details, read: vms({ by: 'all' }) }))
  app.get<WithId>('/vmdetails/id/:id', async (request) => {
    const id = wholeNumber(request.params.id)
    const vm = id === null ? null : await berth.reads.vm(POOL, id)
    return { VM_details: vm === null ? EMPTY : { [vm.id]: vmRow(vm) } }
  })
  app.get<{ Params: { type: string } }>('/vmdetails/type/:type', (request, reply) => {
    const type = vmTypeNamed(request.params.type)
    return list(berth, reply, { ...details, read: type === null ? one(null) : vms({ by: 'type', type }) })
  })
  app.get<{ Params: { status: string } }>('/vmdetails/status/:status', (request, reply) => {
    const wanted = request.params.status.toLowerCase()
    const power = POWER_STATES.find((state) => state === wanted)
    return list(berth, reply, {
      ...details,
      read: power === undefined ? one(null) : vms({ by: power }),
    })
  })
  app.get<{ Params: { email: string } }>('/vmdetails/maped_to/:email', (request, reply) => {
    const { email } = request.params
    const filter: VmFilter =
      email === 'idle' ? { by: 'ready' } : email === 'maintenance' ? { by: 'aside' } : { by: 'holder', email }
    const read = isStorableText(email) ? vms(filter) : one(null)
    return list(berth, reply, { ...details, empty: '', read })
  })
  app.get('/vmdetails/types/:word', async () => ({ VM_Types: VM_TYPES }))

  app.delete<WithId>(
    '/vmdetails/id/:id',
    mutation<WithId>(berth, REFUSAL_ANSWERS.deleteVm, 'vm.delete', async ({ request, caller }) => {
      const vmId = wholeNumber(request.params.id)
      if (vmId === null) return refusal('vm_unknown', { vmId: request.params.id })
      const deleted = await berth.submit({ kind: 'deleteVm', actor: caller, vmId, requestId: request.id })
      return isRefusal(deleted) ? deleted : { status: 200, body: MESSAGES.vmDeleted }
    }),
  )

  const maintenance = { key: 'Maintenance_VM_details', empty: EMPTY, show: vmRow }
  app.get('/maintenance', (_request, reply) =>
    list(berth, reply, { ...maintenance, read: vms({ by: 'aside' }) }, 400),
  )
}
