/**
 * Everything that can change an installation: the closed list of commands, each with its rule. While a reset is under way
 * only the workers' commands go on.
 */
import { changeUser, createUser, deleteUser, releaseLeaver } from './account.ts'
import { beatLease } from './beat-lease.ts'
import { cancelRequest } from './cancel-request.ts'
import { checkIn } from './check-in.ts'
import { checkout } from './checkout.ts'
import type { Actor, Decision, Joining, Rule } from './decision.ts'
import { extendLease } from './extend-lease.ts'
import { forgetWish } from './forget-wish.ts'
import { forgetAnswers } from './idempotency.ts'
import { join } from './join.ts'
import { labelVm } from './label-vm.ts'
import { lookAtPool } from './look.ts'
import { deleteVm, maintain } from './maintenance.ts'
import { changePool, createPool, deletePool } from './pool-policy.ts'
import { growPool, shrinkPool, sizePool } from './pool-size.ts'
import { refusal } from './refusal.ts'
import { releaseLease } from './release-lease.ts'
import { cancelReservation, claimReservation, expireReservation } from './reservation-call.ts'
import { reserve } from './reserve.ts'
import { beginReset, continueReset } from './reset.ts'
import { shareLease } from './share-lease.ts'
import { createToken, noteTokenUse, revokeToken } from './sign-in.ts'
import { tickPool } from './tick.ts'
import { transferLease } from './transfer-lease.ts'
import { changeVmType, createVmType, deleteVmType } from './vm-type-change.ts'
import { claimWork, reportWork } from './work.ts'
import type { Needs, View } from './working-set.ts'

const RULES = {
  createUser,
  changeUser,
  deleteUser,
  releaseLeaver,
  createToken,
  revokeToken,
  noteTokenUse,
  forgetAnswers,
  createVmType,
  changeVmType,
  deleteVmType,
  createPool,
  changePool,
  deletePool,
  sizePool,
  growPool,
  shrinkPool,
  checkout,
  checkIn,
  join,
  cancelRequest,
  extendLease,
  releaseLease,
  transferLease,
  shareLease,
  beatLease,
  tickPool,
  lookAtPool,
  reserve,
  claimReservation,
  cancelReservation,
  expireReservation,
  forgetWish,
  maintain,
  labelVm,
  deleteVm,
  claimWork,
  reportWork,
  beginReset,
  continueReset,
}

type Rules = typeof RULES
export type CommandKind = keyof Rules
export type CommandOf<K extends CommandKind> = Rules[K] extends Rule<infer C, unknown> ? C : never
export type ReplyOf<K extends CommandKind> = Rules[K] extends Rule<never, infer R> ? R : never
export type Command = { [K in CommandKind]: CommandOf<K> }[CommandKind]

/** Commands that go on while the installation is being reset. */
const DURING_RESET = {
  createUser: false,
  changeUser: false,
  deleteUser: false,
  releaseLeaver: false,
  createToken: false,
  revokeToken: false,
  noteTokenUse: false,
  forgetAnswers: false,
  createVmType: false,
  changeVmType: false,
  deleteVmType: false,
  createPool: false,
  changePool: false,
  deletePool: false,
  sizePool: false,
  growPool: false,
  shrinkPool: false,
  checkout: false,
  checkIn: false,
  join: false,
  cancelRequest: false,
  extendLease: false,
  releaseLease: false,
  transferLease: false,
  shareLease: false,
  beatLease: false,
  tickPool: false,
  lookAtPool: false,
  reserve: false,
  claimReservation: false,
  cancelReservation: false,
  expireReservation: false,
  forgetWish: false,
  maintain: false,
  labelVm: false,
  deleteVm: false,
  claimWork: true,
  reportWork: true,
  beginReset: false,
  continueReset: true,
} satisfies Record<CommandKind, boolean>

/** Who called; null: nobody, or somebody without credentials. */
export function actorOf(command: Command): Actor | null {
  return 'actor' in command ? command.actor : null
}

function ruleOf(command: Command): Rule<Command, unknown> {
  return RULES[command.kind] as unknown as Rule<Command, unknown>
}

/** Adds to `needs` what deciding `command` needs. */
export function needsOf(command: Command, needs: Needs): void {
  const actor = actorOf(command)
  if (actor?.tokenId !== undefined) needs.tokenIds.add(actor.tokenId)
  ruleOf(command).needs(command, needs)
}

/** Decides one command. Refused as its rule says, and with `resetting` during a reset. */
export function decide(view: View, command: Command): Decision<unknown> | Joining<unknown> {
  if (view.installation.state === 'resetting' && !DURING_RESET[command.kind]) return refusal('resetting')
  return ruleOf(command).decide(view, command)
}
