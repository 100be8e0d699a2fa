/** The original API, mounted at the root: its clients go on working unchanged. Reads take no credentials. */
import type { FastifyInstance } from 'fastify'
import type { Berth } from '../../service/berth.ts'
import { checkoutRoutes } from './checkout.ts'
import { poolRoutes } from './pool.ts'
import { type ResetSettings, resetRoute } from './reset.ts'
import { userRoutes } from './user.ts'
import { vmRoutes } from './vm.ts'

export function originalRoutes(app: FastifyInstance, berth: Berth, settings: ResetSettings): void {
  userRoutes(app, berth)
  poolRoutes(app, berth)
  vmRoutes(app, berth)
  checkoutRoutes(app, berth)
  resetRoute(app, berth, settings)
}
