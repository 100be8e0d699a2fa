/**
 * What clients asked for and what they were told, with the times of one clock that only goes forward; and whether it could have
 * been so: the holder changes of each machine have to form one legal order within these times (linearizable.ts).
 */
import { type Operation, type State, type Violation, violationOf } from './linearizable.ts'

/** What a list shows of a machine: free, aside, or a user's id. */
export type Place = 'ready' | 'maintenance' | number

/**
 * - done: answered with success.
 * - refused: answered that the rules do not allow it, so something was seen, and nothing was done.
 * - unavailable: answered that nothing was done, for lack of a store.
 * - unknown: not answered, or answered that it is not known: it may still be done later, or never.
 */
export type Outcome = 'done' | 'refused' | 'unavailable' | 'unknown'

export interface RecordedCall {
  /** Sent along as X-Request-Id: the database names it beside what came of it. */
  readonly requestId: string
  readonly client: number
  /** Which server was asked, by its place in the list. */
  readonly server: number
  readonly what: 'checkout' | 'checkIn' | 'maintain' | 'look'
  readonly userId: number
  /** The machine that was named, or given; null: any was asked for, and none is known to have been given. */
  readonly vmId: number | null
  readonly invokedAtMs: number
  /** Infinity for an unknown outcome. */
  readonly returnedAtMs: number
  readonly outcome: Outcome
  /** What a look has seen. */
  readonly seen?: Place
}

export interface MachineViolation extends Violation {
  readonly vmId: number
  /** The calls that concern the machine around the violation, for the report. */
  readonly around: readonly string[]
}

interface HistorySettings {
  /** Every machine that there was, all of them ready when the history begins. */
  readonly vmIds: readonly number[]
  /** automatic: a machine in maintenance becomes ready by itself, at any moment. */
  readonly cleaning: 'manual' | 'automatic'
}

/** The first machine whose calls cannot be explained; null when all can. */
export function illegalMachine(
  calls: readonly RecordedCall[],
  { vmIds, cleaning }: HistorySettings,
): MachineViolation | null {
  const operations = new Map<number, Operation[]>(vmIds.map((id) => [id, []]))
  for (const call of calls) {
    // Which machine was given out, if any was, is not known: it could have been each of them.
    const machines = call.vmId !== null ? [call.vmId] : call.outcome === 'unknown' ? vmIds : []
    for (const vmId of machines) {
      const of = operations.get(vmId)
      if (of === undefined)
        throw new Error(`${call.requestId} concerns machine ${vmId}, which there never was`)
      const operation = operationOf(call)
      if (operation !== null) of.push(operation)
    }
  }
  const spontaneous = (state: State) => (cleaning === 'automatic' && state === 'maintenance' ? ['ready'] : [])
  for (const [vmId, of] of operations) {
    const violation = violationOf('ready', of, spontaneous)
    if (violation !== null) return { ...violation, vmId, around: textsAround(of, violation.operation) }
  }
  return null
}

/** Fails with a readable report unless every machine's calls can be explained. */
export function requireLinearizable(calls: readonly RecordedCall[], settings: HistorySettings): void {
  const found = illegalMachine(calls, settings)
  if (found === null) return
  const { vmId, operation, states, around } = found
  throw new Error(
    `machine ${vmId}: nothing explains "${operation.text}", before which it was ${states.join(' or ')}:\n${around.join('\n')}`,
  )
}

/**
 * The same calls with their unknown outcomes settled by what the database has recorded: where a call left an event it was
 * done, on that machine and at any moment from its invocation on; where it left none it was never done.
 */
export function settled(
  calls: readonly RecordedCall[],
  eventOf: (requestId: string) => { readonly vmId: number } | undefined,
  endMs: number,
): RecordedCall[] {
  return calls.flatMap((call) => {
    if (call.outcome !== 'unknown') return [call]
    const event = eventOf(call.requestId)
    return event === undefined
      ? []
      : [{ ...call, outcome: 'done' as const, vmId: event.vmId, returnedAtMs: endMs }]
  })
}

/** What a call says about the machine it concerns; null when it says nothing. */
function operationOf(call: RecordedCall): Operation | null {
  const { what, outcome, userId, vmId, seen } = call
  if (outcome === 'unavailable' || (outcome === 'unknown' && what === 'look')) return null
  const refused = outcome === 'refused'
  const apply = {
    // A refusal tells that the machine was not free, not this user's, or not in maintenance.
    checkout: (state: State) => (refused ? other('ready', state) : state === 'ready' ? userId : null),
    checkIn: (state: State) => (refused ? other(userId, state) : state === userId ? 'maintenance' : null),
    maintain: (state: State) =>
      refused ? other('maintenance', state) : state === 'maintenance' ? 'ready' : null,
    look: (state: State) => (state === seen ? state : null),
  }[what]
  const told = what === 'look' ? `saw ${seen}` : outcome
  const returned = call.returnedAtMs === Number.POSITIVE_INFINITY ? '' : call.returnedAtMs.toFixed(3)
  return {
    invokedAtMs: call.invokedAtMs,
    returnedAtMs: call.returnedAtMs,
    apply,
    kind: `${what} ${userId} ${vmId}`,
    text: `[${call.invokedAtMs.toFixed(3)}, ${returned}] user ${userId} ${what} ${vmId ?? 'any'} on server ${call.server}: ${told} (${call.requestId})`,
  }
}

function other(excluded: State, state: State): State | null {
  return state === excluded ? null : state
}

const AROUND = 12

function textsAround(operations: readonly Operation[], violation: Operation): string[] {
  const sorted = [...operations].sort((a, b) => a.invokedAtMs - b.invokedAtMs)
  const at = sorted.indexOf(violation)
  return sorted.slice(Math.max(0, at - AROUND), at + AROUND).map(({ text }) => text)
}
