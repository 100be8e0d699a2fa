/**
 * Checkout, check-in and maintenance on any pool, as the original API has them for its one pool: the same credentials, commands
 * and shapes. Only for measuring several pools.
 */
import type { FastifyInstance } from 'fastify'
import { isRefusal } from '../src/domain/refusal.ts'
import type { Berth } from '../src/service/berth.ts'

interface Call {
  readonly auth: { readonly userid: number; readonly password: string }
  readonly vmid?: number
}

export function poolRoutes(app: FastifyInstance, berth: () => Berth): void {
  const caller = async ({ auth }: Call, address: string) => {
    const { credentials } = berth()
    return (
      credentials.remembered(auth.userid, auth.password) ??
      (await credentials.verify(auth.userid, auth.password, address))
    )
  }
  for (const kind of ['checkout_vm', 'checkin_vm', 'maintenance'] as const)
    app.post<{ Params: { pool: string }; Body: Call }>(`/pool/:pool/${kind}`, async (request, reply) => {
      const { body, params, id: requestId } = request
      const actor = await caller(body, request.ip)
      if (isRefusal(actor)) return reply.code(actor.status).send({ message: actor.message })
      const vmId = body.vmid ?? 0
      const { submit } = berth()
      const answer =
        kind === 'checkout_vm'
          ? await submit({ kind: 'checkout', actor, pool: params.pool, vmId: null, type: null, requestId })
          : kind === 'checkin_vm'
            ? await submit({ kind: 'checkIn', actor, vmId, generation: null, requestId })
            : await submit({ kind: 'maintain', actor, vmId, step: 'clean', requestId })
      if (isRefusal(answer)) return reply.code(answer.status).send({ message: answer.message })
      const { vm } = answer
      reply.code(201)
      return {
        message: 'done',
        'VM Details': { 'vm-Id': vm.id, hostname: vm.name, 'ip-address': vm.address, 'vm type': vm.type },
      }
    })
}
