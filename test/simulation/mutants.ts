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
        from: "if (named.state !== 'ready' || (",
        to: "if ((named.state !== 'ready' && named.state !== 'leased') || (",
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
  'lease-of-any-generation': {
    what: 'a call on an old lease counts for the present one',
    edits: [
      {
        file: 'src/domain/lease-call.ts',
        from: 'lease === undefined || lease.generation !== generation',
        to: 'lease === undefined',
      },
    ],
    breaks: ['stale-call'],
    seedsMax: 300,
  },
  'heartbeat-never-missed': {
    what: 'a lease without heartbeats goes on',
    edits: [{ file: 'src/domain/tick.ts', from: 'isDue(lease.beatByMs)', to: 'lease.vmId < 0' }],
    breaks: ['converges'],
    seedsMax: 300,
  },
  'ended-when-warned': {
    what: 'a lease ends when its holder should be warned',
    edits: [
      { file: 'src/domain/tick.ts', from: 'if (isDue(lease.endsAtMs))', to: 'if (lease.endsAtMs !== null)' },
    ],
    breaks: ['lease-end'],
    seedsMax: 300,
  },
  'waits-for-ever': {
    what: 'a request does not expire',
    edits: [{ file: 'src/domain/tick.ts', from: 'isDue(request.untilMs)', to: "request.id === ''" }],
    breaks: ['converges'],
    seedsMax: 600,
  },
  'answer-not-kept': {
    what: 'an answer is not saved with its effect',
    edits: [
      {
        file: 'src/service/lane.ts',
        from: '        set.apply({ answers: [answerOf(command, keyed, said, set.nowMs)], events: [] })\n',
        to: '        answerOf(command, keyed, said, set.nowMs)\n',
      },
    ],
    breaks: ['same-key', 'one-effect'],
    seedsMax: 300,
  },
  'same-key-in-one-batch': {
    what: 'a call comes twice in one batch, and both join',
    edits: [{ file: 'src/service/lane.ts', from: 'if (keysWaiting.has(key)) return null', to: '' }],
    breaks: ['same-key', 'no-bug'],
    seedsMax: 3_000,
  },
  'book-not-followed': {
    what: 'a server does not apply what other servers changed of a book',
    edits: [{ file: 'src/service/books.ts', from: '        entry.book.apply(step.change, nowMs)\n', to: '' }],
    breaks: ['book', 'counted', 'no-bug'],
    seedsMax: 300,
  },
  'failed-batch-keeps-its-book': {
    what: 'a batch that was not saved leaves its book as it made it',
    edits: [
      {
        file: 'src/service/books.ts',
        from: '        () => this.#drop(pool.id, entry),\n',
        to: '        () => {},\n',
      },
    ],
    breaks: ['book', 'counted', 'no-bug'],
    faults: ['commitFails'],
    seedsMax: 3_000,
  },
  'booked-and-granted': {
    what: 'a reservation keeps no machines',
    edits: [
      {
        file: 'src/domain/book.ts',
        from: '    for (const interval of booked) this.#layInterval(interval, -1, nowMs)\n',
        to: '',
      },
    ],
    breaks: ['kept', 'book'],
    seedsMax: 1_000,
  },
  'risk-not-told': {
    what: 'nobody is told that their reservation is at risk',
    edits: [
      {
        file: 'src/domain/settlement.ts',
        from: "      ...atRisk.map((reservation) => riskEvent('reservation.at_risk', reservation)),\n",
        to: '',
      },
    ],
    breaks: ['kept'],
    seedsMax: 3_000,
  },
  'margins-of-old': {
    what: 'a book goes on with the cleaning times that it was built with',
    edits: [
      {
        file: 'src/domain/book.ts',
        from: '    else if (margins.some(([key, ms]) => this.marginMsOf(key) !== ms)) this.#layMargins(nowMs)\n',
        to: '    void margins\n',
      },
    ],
    breaks: ['book'],
    seedsMax: 600,
  },
  'queue-not-counted': {
    what: 'a pool does not count its reservations',
    edits: [{ file: 'src/domain/working-set.ts', from: '{ waiting, booked })', to: '{ waiting })' }],
    breaks: ['counted'],
    seedsMax: 300,
  },
  'granted-in-a-reset': {
    what: 'machines are granted after a reset has begun',
    edits: [
      {
        file: 'src/domain/settlement.ts',
        from: "this.#set.installation.state === 'resetting' || this.#set.wiped",
        to: 'this.#set.nowMs < 0',
      },
    ],
    breaks: ['right', 'no-bug', 'one-holder', 'lifecycle'],
    seedsMax: 3_000,
  },
  'granted-to-a-leaver': {
    what: 'somebody who is deleted in the same batch still gets what they asked for',
    edits: [{ file: 'src/domain/settlement.ts', from: '    this.#refuseLeavers()\n', to: '' }],
    breaks: ['right'],
    seedsMax: 3_000,
  },
  'nobody-wakes-the-queue': {
    what: 'a batch that brings machines back does not settle the pool',
    edits: [
      {
        file: 'src/domain/settlement.ts',
        from: 'const poolIds = new Set([...this.#set.bookedPools, ...joiners.keys()])',
        to: 'const poolIds = new Set(joiners.keys())',
      },
    ],
    breaks: ['converges', 'kept'],
    seedsMax: 300,
  },
}
