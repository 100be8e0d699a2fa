/** Checkout, check-in and maintenance, and who holds what, as the original API has them. */
import type { FastifyInstance, FastifyReply } from 'fastify'
import { DEFAULT_POOL as POOL } from '../../domain/pool.ts'
import { isRefusal, refusal } from '../../domain/refusal.ts'
import type { Berth } from '../../service/berth.ts'
import type { Holding } from '../../store/port.ts'
import { EMPTY, REFUSAL_ANSWERS, userKeys, vmKeys } from './answers.ts'
import { mutation, say, type WithId } from './call.ts'
import { wholeNumber } from './fields.ts'

export function checkoutRoutes(app: FastifyInstance, berth: Berth): void {
  app.post(
    '/checkout_vm',
    mutation(berth, REFUSAL_ANSWERS.checkout, null, async ({ request, body, caller }) => {
      const wanted = body.vmid ?? null
      const vmId = wanted === null ? null : wholeNumber(wanted)
      if (wanted !== null && vmId === null) return refusal('vm_unknown', { vmId: wanted })
      const leased = await berth.submit({
        kind: 'checkout',
        actor: caller,
        pool: POOL,
        vmId,
        type: null,
        requestId: request.id,
      })
      if (isRefusal(leased)) return leased
      return {
        status: 201,
        body: {
          message: 'VM checkout complete.',
          'VM Details': vmKeys(leased.vm),
          'User Details': userKeys(leased.holder),
        },
      }
    }),
  )

  app.post(
    '/checkin_vm',
    mutation(berth, REFUSAL_ANSWERS.checkIn, null, async ({ request, body, caller }) => {
      const vmId = wholeNumber(body.vmid)
      if (vmId === null) return refusal('vm_unknown', { vmId: body.vmid ?? null })
      const given = await berth.submit({
        kind: 'checkIn',
        actor: caller,
        vmId,
        generation: null,
        requestId: request.id,
      })
      if (isRefusal(given)) return given
      return {
        status: 201,
        body: {
          message: 'VM checkin complete.',
          'VM Details': { ...vmKeys(given.vm), 'VM tagged to': 'maintenance' },
        },
      }
    }),
  )

  app.post(
    '/maintenance',
    mutation(berth, REFUSAL_ANSWERS.maintenance, null, async ({ request, body, caller }) => {
      const vmId = wholeNumber(body.vmid)
      if (vmId === null) return refusal('vm_unknown', { vmId: body.vmid ?? null })
      const back = await berth.submit({
        kind: 'maintain',
        actor: caller,
        vmId,
        step: 'clean',
        requestId: request.id,
      })
      if (isRefusal(back)) return back
      return {
        status: 201,
        body: {
          message: 'VM ready to use and available in pool.',
          'VM Details': vmKeys(back.vm),
        },
      }
    }),
  )

  app.get<WithId>('/checkout_vm/user/:id', async (request, reply) => {
    const id = wholeNumber(request.params.id)
    return holding(reply, 'VM owned by user', id === null ? null : await berth.reads.heldByUser(POOL, id))
  })
  app.get<WithId>('/checkout_vm/vm/:id', async (request, reply) => {
    const id = wholeNumber(request.params.id)
    return holding(reply, 'VM owner Details', id === null ? null : await berth.reads.holderOf(POOL, id))
  })
}

function holding(reply: FastifyReply, key: string, held: Holding | null): unknown {
  if (held === null) return say(reply, { status: 400, body: { [key]: EMPTY } })
  return say(reply, { status: 201, body: { [key]: vmKeys(held.vm), 'User Details': userKeys(held.holder) } })
}
