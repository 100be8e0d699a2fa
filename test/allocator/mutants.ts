/**
 * Deliberate mistakes in the allocator, each of which a property of properties.ts has to find: a test that has never failed
 * proves nothing.
 */
import type { Edit } from '../support/mistake.ts'

export interface Mutant {
  readonly what: string
  readonly edits: readonly Edit[]
  /** The property that has to fail. */
  readonly breaks: string
  /** With how many histories it has to be found. */
  readonly runs: number
}

function edit(file: string, from: string, to: string): readonly Edit[] {
  return [{ file: `src/domain/${file}`, from, to }]
}

export const MUTANTS: Readonly<Record<string, Mutant>> = {
  'return-too-early': {
    what: 'a machine that comes back counts as free a step of the grid too early',
    edits: edit('book.ts', 'Math.ceil(ms / this.gridMs)', 'Math.floor(ms / this.gridMs)'),
    breaks: 'book',
    runs: 200,
  },
  'not-told': {
    what: 'another server does not take over what a row says of its age and of being parked',
    edits: edit(
      'book.ts',
      'if (row !== null && headOf(row).id === id) this.queue.believe(row)',
      'if (row === null) return',
    ),
    breaks: 'book',
    runs: 300,
  },
  'cleaning-forgotten': {
    what: 'a grant does not count the time in which its machine is cleaned',
    edits: edit('fit.ts', 'nowMs + lengthMs + book.marginMs(classes)', 'nowMs + lengthMs'),
    breaks: 'kept',
    runs: 500,
  },
  'promise-forgotten': {
    what: 'a promise takes nothing from what is free',
    edits: edit('settle.ts', '      book.promise(promise)\n', ''),
    breaks: 'complete',
    runs: 200,
  },
  'promise-too-short': {
    what: 'a promise holds only for a grant at the beginning of its step of the grid',
    edits: edit(
      'fit.ts',
      'book.marginMs(book.classesOf(group)) + book.gridMs',
      'book.marginMs(book.classesOf(group))',
    ),
    breaks: 'step',
    runs: 200,
  },
  'promises-pile-up': {
    what: 'promises of the pass before stand beside those of the next',
    edits: edit('settle.ts', '    book.clearPromises()\n    const agenda', '    const agenda'),
    breaks: 'complete',
    runs: 200,
  },
  'one-pass': {
    what: 'settle goes through the queue once',
    edits: edit(
      'settle.ts',
      'while (this.#pass()) this.#parkOrUnpark()',
      'if (this.#pass()) this.#parkOrUnpark()',
    ),
    breaks: 'idempotent',
    runs: 500,
  },
  'late-counts-as-ready': {
    what: 'a machine that should be back is granted though it is not ready',
    edits: edit(
      'fit.ts',
      'ready === 0 ? 0 : Math.min(ready, timeline.minFree(nowMs, untilMs))',
      'ready === 0 ? 0 : timeline.minFree(nowMs, untilMs)',
    ),
    breaks: 'late',
    runs: 500,
  },
  'overdue-passed-by': {
    what: 'a pass goes on though a request became overdue in it',
    edits: edit(
      'settle.ts',
      'if (!book.queue.becomesOverdue(departed)) continue',
      'if (departed >= 0) continue',
    ),
    breaks: 'prompt',
    runs: 200,
  },
  'extension-over-promise': {
    what: 'an extension does not see promises',
    edits: edit(
      'extension.ts',
      'const tooFewAtMs = timeline.firstBelow(fromMs, untilMs, 1)',
      'const tooFewAtMs = book.withoutPromises(() => timeline.firstBelow(fromMs, untilMs, 1))',
    ),
    breaks: 'steady',
    runs: 2_000,
  },
  'offer-without-margin': {
    what: 'the end that is offered for an extension leaves no time for cleaning',
    edits: edit('extension.ts', 'tooFewAtMs - marginMs', 'tooFewAtMs'),
    breaks: 'offers',
    runs: 500,
  },
  'quota-off-by-one': {
    what: 'a quota may be exceeded by one machine',
    edits: edit('quota.ts', 'usage.machines <= limit.machines', 'usage.machines <= limit.machines + 1'),
    breaks: 'quota',
    runs: 200,
  },
  'parked-for-ever': {
    what: 'who was over quota stays parked when machines come back',
    edits: edit(
      'settle.ts',
      'if (parked === row.parked) continue',
      'if (parked === row.parked || row.parked) continue',
    ),
    breaks: 'quota',
    runs: 500,
  },
  'refused-leaves-its-place': {
    what: 'a request that is refused stays in the queue',
    edits: edit(
      'settle.ts',
      '    this.#refused.push({ request, refusal: why })\n    this.#joined.delete(request.id)\n    this.#book.queue.take(request.id)\n',
      '    this.#refused.push({ request, refusal: why })\n    this.#joined.delete(request.id)\n    this.#park(row)\n',
    ),
    breaks: 'refused',
    runs: 200,
  },
  'refused-leaves-promise': {
    what: 'a request that does not wait is promised something',
    edits: edit(
      'settle.ts',
      '      if (!group.waits) {\n        this.#refuse(row)\n        continue\n      }\n',
      '      if (!group.waits) {\n        const promise = this.#promiseFor(row)\n        if (promise !== null) book.promise(promise)\n        this.#refuse(row)\n        continue\n      }\n',
    ),
    breaks: 'complete',
    runs: 500,
  },
  'nothing-back': {
    what: 'a lease that ends early stays charged',
    edits: edit('order.ts', 'tag + (used - lease.chargedMinutes) / lease.weight', 'tag'),
    breaks: 'returned',
    runs: 200,
  },
  'saved-up': {
    what: 'whoever has not waited begins with an old tag',
    edits: edit('order.ts', 'return Math.max(tag, v)', 'return Math.min(tag, v - 1)'),
    breaks: 'monotone',
    runs: 200,
  },
  'time-runs-ahead': {
    what: 'a small request that passes a large one takes the virtual time along',
    edits: edit('order.ts', 'Math.max(queue.v, Math.min(tag, leastTag))', 'Math.max(queue.v, tag)'),
    breaks: 'monotone',
    runs: 500,
  },
  'cancel-costs': {
    what: 'a cancelled request sends its row back to the end',
    edits: edit(
      'queue.ts',
      '({ requests }) => requests.splice(index, 1))\n',
      '({ requests }) => requests.splice(index, 1))\n      this.setTag(row.flow.userId, row.flow.tag + 10_000)\n',
    ),
    breaks: 'cancel',
    runs: 500,
  },
  'by-arrival': {
    what: 'requests are granted by arrival',
    edits: edit('order.ts', 'return a.tag - b.tag || a.seq - b.seq', 'return a.seq - b.seq'),
    breaks: 'arrival',
    runs: 500,
  },
  'free-of-charge': {
    what: 'grants to high priorities cost nothing',
    edits: edit('order.ts', 'tag + minutes / weight', 'tag + (weight > 2 ? 0 : minutes / weight)'),
    breaks: 'fair',
    runs: 200,
  },
  ageless: {
    what: 'nobody is ever overdue',
    edits: edit(
      'order.ts',
      'return place.due !== null && place.due <= departures',
      'return place.due !== null && departures < 0',
    ),
    breaks: 'aged',
    runs: 200,
  },
  'no-way-round': {
    what: 'kinds that were served do not move to other machines',
    edits: edit(
      'wish.ts',
      'if (other !== kind && !leaves.has(other) && (counts[i] as number) > 0) {',
      'if (other < 0 && (counts[i] as number) > 0) {',
    ),
    breaks: 'place',
    runs: 200,
  },
}
