/**
 * How an installation goes back to its first day. A reset begins by closing the installation to everybody but the
 * workers; these mark all machines for destruction, a slice a batch, and destroy them through their providers; when none
 * is left, everything is wiped in one batch: users, pools, leases, events, and the counters of ids. The new event log
 * begins with the reset: who, when, how much there was.
 */
import { type Actor, authorized, type Rule } from './decision.ts'
import { removed } from './maintenance.ts'
import { isRefusal, refusal } from './refusal.ts'
import { FIRST_VM_TYPES } from './vm-type.ts'
import type { Changes, Installation, ResetRecord, View } from './working-set.ts'

/** The installation on its first day. */
export const FIRST_DAY: Installation = {
  state: 'open',
  nextUserId: 1,
  nextVmId: 1,
  nextPoolId: 1,
  vmTypes: FIRST_VM_TYPES,
  reset: null,
}

export interface BeginReset {
  readonly kind: 'beginReset'
  readonly actor: Actor | null
  /** True on a server that lets anybody reset it. */
  readonly allowed: boolean
  readonly requestId: string
}

/** Refused: `reset_not_allowed`, `not_allowed`; callers as in decision.ts. Replies whether it is done already. */
export const beginReset: Rule<BeginReset, { done: boolean }> = {
  needs(command, needs) {
    if (command.actor !== null) needs.userIds.add(command.actor.userId)
    needs.installation = true
    needs.allPools = true
    needs.census = true
  },

  decide(view, command) {
    const { census, installation } = view
    if (census === null) throw new Error('the census was not loaded')
    let actorId: number | null = null
    if (census.users > 0 && !command.allowed) {
      if (command.actor === null) return refusal('reset_not_allowed')
      const caller = authorized(view, command.actor, 'installation.reset')
      if (isRefusal(caller)) return caller
      actorId = caller.id
    }
    const record: ResetRecord = { actorId, requestId: command.requestId, atMs: view.nowMs, ...census }
    if (census.vms === 0) return { changes: wiped(record), reply: { done: true } }
    return {
      changes: {
        installation: { ...installation, state: 'resetting', reset: record },
        events: [
          { type: 'installation.reset_begun', actorId, requestId: command.requestId, data: { ...census } },
        ],
      },
      reply: { done: false },
    }
  },
}

export interface ContinueReset {
  readonly kind: 'continueReset'
  readonly machinesMax: number
}

/** The workers' part: marks machines for destruction, or wipes when none is left. Never refused. */
export const continueReset: Rule<ContinueReset, { marked: number; done: boolean }> = {
  needs(command, needs) {
    needs.installation = true
    needs.allPools = true
    needs.census = true
    needs.standing = Math.max(needs.standing, command.machinesMax)
  },

  decide(view, command) {
    const { installation } = view
    if (installation.state !== 'resetting' || installation.reset === null)
      return { changes: { events: [] }, reply: { marked: 0, done: true } }
    if (view.census?.vms === 0)
      return { changes: wiped(installation.reset), reply: { marked: 0, done: true } }
    const marked = standing(view, command.machinesMax)
    return { changes: { vms: marked, events: [] }, reply: { marked: marked.length, done: false } }
  },
}

function standing(view: View, machinesMax: number) {
  const vms = view.vmsWhere((vm) => vm.state !== 'deleting').slice(0, machinesMax)
  return vms.map((vm) => removed(vm, view.nowMs, 'wipe'))
}

function wiped(record: ResetRecord): Changes {
  const { actorId, requestId, ...data } = record
  return {
    wipe: true,
    installation: FIRST_DAY,
    events: [{ type: 'installation.reset', actorId, ...(requestId === null ? {} : { requestId }), data }],
  }
}
