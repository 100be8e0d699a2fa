/**
 * Deliberate mistakes, each of which the simulation has to find: a test that has never failed proves nothing. A mistake is an
 * edit of a source text that support/mistake.ts makes while the file is loaded; the product itself has no switch for any of it.
 */
import type { Edit } from '../support/mistake.ts'
import type { FaultKind } from './faults.ts'
import type { PromiseName } from './promises.ts'

export interface Mutant {
  readonly what: string
  readonly edits: readonly Edit[]
  /** The promises that it may be caught by. */
  readonly breaks: readonly PromiseName[]
  /** Only these kinds of faults, where it would take long to find it among all. */
  readonly faults?: readonly FaultKind[]
  /** Within how many schedules it has to be found: a few times as many as it takes. */
  readonly seedsMax: number
}

export const MUTANTS: Readonly<Record<string, Mutant>> = {
  'no-generation-check': {
    what: 'a check-in that names an old lease ends the present one',
    edits: [
      {
        file: 'src/domain/check-in.ts',
        from: 'command.generation !== null && command.generation !== vm.generation',
        to: 'Number(command.generation) < 0',
      },
    ],
    breaks: ['stale-call'],
    seedsMax: 1_000,
  },
  'two-holders': {
    what: 'a checkout of a named machine takes one that somebody holds',
    edits: [
      {
        file: 'src/domain/checkout.ts',
        from: "vm.state !== 'ready' || free === 0 ||",
        to: "(vm.state !== 'ready' && vm.state !== 'leased') ||",
      },
      {
        file: 'src/domain/lifecycle.ts',
        from: "checkOut: { from: ['ready'], to: 'leased' }",
        to: "checkOut: { from: ['ready', 'leased'], to: 'leased' }",
      },
    ],
    // The store's own guard may be quicker.
    breaks: ['one-holder', 'no-bug'],
    seedsMax: 300,
  },
  'answer-before-commit': {
    what: 'a lane answers when it has decided',
    edits: [
      {
        file: 'src/service/lane.ts',
        from: '      this.#committing += commands.length\n',
        to: '      this.#committing += commands.length\n      for (const answer of answers) answer()\n',
      },
    ],
    breaks: ['answered'],
    seedsMax: 300,
  },
  'report-without-claim': {
    what: 'a report is taken from whoever claimed the machine before',
    edits: [{ file: 'src/domain/work.ts', from: 'reported.claim !== result.claim ||', to: '' }],
    breaks: ['late-report', 'prepared', 'destroyed'],
    seedsMax: 1_000,
  },
  'report-twice': {
    what: 'a report is taken a second time',
    edits: [{ file: 'src/domain/work.ts', from: 'reported.busyUntilMs === null', to: 'reported.id < 0' }],
    breaks: ['late-report', 'prepared', 'destroyed', 'no-bug'],
    seedsMax: 1_000,
  },
  'claim-not-void': {
    what: 'a claim outlives the state it was made in',
    edits: [
      {
        file: 'src/domain/lifecycle.ts',
        from: 'return { ...moved, dueAtMs, claim: vm.claim + 1 }',
        to: 'return { ...moved, dueAtMs }',
      },
    ],
    breaks: ['late-report', 'claim', 'prepared', 'destroyed'],
    seedsMax: 1_000,
  },
  'claimed-too-early': {
    what: 'a machine is due again before its worker’s time is over',
    edits: [
      {
        file: 'src/domain/lifecycle.ts',
        from: 'Math.max(moved.dueAtMs, vm.busyUntilMs)',
        to: 'moved.dueAtMs',
      },
    ],
    breaks: ['claim', 'hands'],
    seedsMax: 300,
  },
  'returned-while-busy': {
    what: 'an admin may bring back a machine that a worker is cleaning',
    edits: [
      {
        file: 'src/domain/maintenance.ts',
        from: 'vm.busyUntilMs !== null && vm.busyUntilMs > view.nowMs',
        to: 'vm.id < 0',
      },
    ],
    breaks: ['claim', 'hands'],
    seedsMax: 600,
  },
  'late-word-acted-on': {
    what: 'a worker acts on a claim that has run out by the time it learns of it',
    edits: [
      {
        file: 'src/worker/provider-call.ts',
        from: 'schedule.now() - askedAtMs > claimMs - callMsMax',
        to: 'claimMs < 0',
      },
    ],
    breaks: ['claim', 'hands'],
    faults: ['slow', 'freeze'],
    seedsMax: 300,
  },
  'beside-a-call-that-goes-on': {
    what: 'a machine is tried again while the call that was given up may still act',
    edits: [
      {
        file: 'src/worker/provider-call.ts',
        from: 'return ended ? failed :',
        to: 'return ended || true ? failed :',
      },
    ],
    breaks: ['hands', 'claim', 'prepared', 'destroyed'],
    faults: ['providerEndsLate'],
    seedsMax: 500,
  },
  'given-back-too-early': {
    what: 'a server that stops gives back machines on which its provider still acts',
    edits: [{ file: 'src/worker/provider-call.ts', from: "ended ? 'ended' : 'acting'", to: "'ended'" }],
    breaks: ['hands', 'claim', 'prepared', 'destroyed'],
    faults: ['stop', 'providerEndsLate'],
    seedsMax: 10_000,
  },
  'unmade-machine-cleaned': {
    what: 'a machine that could not be made is cleaned when it is tried again',
    edits: [{ file: 'src/domain/maintenance.ts', from: "vm.address === ''", to: 'vm.id < 0' }],
    breaks: ['prepared'],
    seedsMax: 300,
  },
  'checkout-without-pool': {
    what: 'a checkout does not say which pool it needs',
    edits: [
      {
        file: 'src/domain/checkout.ts',
        from: '    needs.poolNames.add(command.pool)\n',
        to: '',
      },
    ],
    breaks: ['none-free', 'held-rows'],
    seedsMax: 300,
  },
  'delete-user-shared': {
    what: 'deleting a user does not hold their row alone',
    edits: [
      {
        file: 'src/domain/account.ts',
        from: `export const deleteUser: Rule<DeleteUser, null> = {
  needs(command, needs) {
    needs.userIds.add(command.actor.userId)
    needs.userIds.add(command.userId)
    needs.changedUserIds.add(command.userId)`,
        to: `export const deleteUser: Rule<DeleteUser, null> = {
  needs(command, needs) {
    needs.userIds.add(command.actor.userId)
    needs.userIds.add(command.userId)`,
      },
    ],
    breaks: ['held-rows'],
    seedsMax: 300,
  },
  'grow-without-installation': {
    what: 'ids are given to new machines without holding the installation',
    edits: [
      {
        file: 'src/domain/pool-size.ts',
        from: '    needs.poolIds.add(command.poolId)\n    needs.installation = true\n',
        to: '    needs.poolIds.add(command.poolId)\n',
      },
    ],
    breaks: ['held-rows'],
    seedsMax: 300,
  },
  'old-password': {
    what: 'a password that was changed meanwhile still counts',
    edits: [
      {
        file: 'src/domain/decision.ts',
        from: 'user.credentialVersion !== actor.credentialVersion',
        to: 'user.credentialVersion < 0',
      },
    ],
    breaks: ['right'],
    seedsMax: 300,
  },
  'everybody-deletes': {
    what: 'every user may delete machines',
    edits: [
      {
        file: 'src/domain/permission.ts',
        from: "'vm.delete': ['admin'],",
        to: "'vm.delete': ['admin', 'user'],",
      },
    ],
    breaks: ['right'],
    seedsMax: 1_000,
  },
  'unknown-outcome-retried': {
    what: 'a batch whose outcome is unknown is tried again',
    edits: [
      {
        file: 'src/service/lane.ts',
        from: '!(error instanceof StoreConflict) || tries',
        to: "!(error instanceof StoreConflict || (error as Error).name === 'OutcomeUnknown') || tries",
      },
    ],
    breaks: ['one-effect', 'refused', 'no-bug'],
    seedsMax: 300,
  },
  'unknown-outcome-called-no': {
    what: 'callers are told that nothing was done when that is unknown',
    edits: [
      {
        file: 'src/service/store-refusal.ts',
        from: "return refusal('outcome_unknown')",
        to: "return refusal('store_unavailable', { reason: '' })",
      },
    ],
    breaks: ['refused'],
    seedsMax: 300,
  },
  'tally-not-kept': {
    what: 'a machine that changes is still counted where it was',
    edits: [
      {
        file: 'src/domain/working-set.ts',
        from: 'if (before !== undefined) this.#count(before, -1)',
        to: 'if (before?.id === -1) this.#count(before, -1)',
      },
    ],
    breaks: ['tally'],
    seedsMax: 300,
  },
  'failure-never-tried-again': {
    what: 'work that failed is not due again',
    edits: [
      {
        file: 'src/domain/work.ts',
        from: '...left, dueAtMs, failure',
        to: '...left, dueAtMs: null, failure',
      },
    ],
    breaks: ['converges'],
    seedsMax: 300,
  },
  'waits-to-be-woken': {
    what: 'a worker that found nothing sleeps until it is woken',
    edits: [{ file: 'src/worker/sweep.ts', from: 'Math.min(SLEEP_MS_MAX, sleepMs)', to: '1e12' }],
    breaks: ['converges'],
    seedsMax: 300,
  },
  'deletion-not-told': {
    what: 'a batch that deletes a machine does not load another for the checkout behind it',
    edits: [
      {
        file: 'src/domain/maintenance.ts',
        from: '    needs.vmIds.add(command.vmId)\n    needs.takers++\n',
        to: '    needs.vmIds.add(command.vmId)\n',
      },
    ],
    breaks: ['none-free'],
    faults: [],
    seedsMax: 10_000,
  },
}
