/**
 * Calls a provider for claimed machines and turns whatever comes of it into results to report: answers, failures, a
 * rejection, or no answer within the time limit.
 */
import type { Pool } from '../domain/pool.ts'
import { isStorableText, storableText } from '../domain/text.ts'
import type { Vm } from '../domain/vm.ts'
import type { WorkResult, WorkState } from '../domain/work.ts'
import type { MachineRef, MadeMachine, Outcome, Provider } from '../provider/port.ts'
import type { Schedule } from '../service/schedule.ts'

/** How long calls that were abandoned are waited for. */
const ABANDONED_MS_MAX = 3_000

/** Finds a provider by the name that a pool carries. */
export type Providers = ReadonlyMap<string, Provider>

export interface CallSettings {
  readonly providers: Providers
  readonly schedule: Schedule
  /** How long a provider has for one call; the claim lasts a little longer. */
  readonly callMsMax: number
  readonly claimMs: number
  /** Aborted when the server stops: calls are then abandoned, and their work is due again soon. */
  readonly stopping: AbortSignal
}

/**
 * Makes, cleans or destroys `machines` of one pool, as their state asks. Never rejects. Word of a claim that was asked for at
 * `askedAtMs` may come so late that the call would outlast it: then nothing is done, and the claim is given back.
 */
export async function callProvider(
  { providers, schedule, callMsMax, claimMs, stopping }: CallSettings,
  state: WorkState,
  pool: Pool,
  machines: readonly Vm[],
  askedAtMs: number,
): Promise<WorkResult[]> {
  if (schedule.now() - askedAtMs > claimMs - callMsMax)
    return interrupted(machines, 'word of the claim came too late', 'ended')
  const provider = providers.get(pool.provider)
  if (provider === undefined) return failAll(machines, `this server has no provider '${pool.provider}'`)
  const refs = machines.map((vm) => refOf(vm, pool))
  const over = new AbortController()
  // Ends the waiting: because there is an answer, or because the server stops.
  const waiting = new AbortController()
  const stop = () => waiting.abort()
  stopping.addEventListener('abort', stop)
  if (stopping.aborted) stop()
  const timeout = schedule.sleep(callMsMax, waiting.signal).then(() => {
    over.abort()
    return null
  })
  try {
    const call = act(provider, state, refs, over.signal)
    const outcomes = await Promise.race([call, timeout])
    if (outcomes === null) {
      const stopped = stopping.aborted
      const ended = await endsSoon(call, schedule)
      if (stopped) return interrupted(machines, 'the server was stopped', ended ? 'ended' : 'acting')
      const failed = failAll(machines, `no answer from the provider within ${callMsMax} ms`)
      return ended ? failed : failed.map((result) => ({ ...result, acting: true }))
    }
    return machines.map((vm, i) => resultOf(vm, outcomes[i]))
  } catch (error) {
    return failAll(machines, storableText(error instanceof Error ? error.message : String(error)))
  } finally {
    stopping.removeEventListener('abort', stop)
    waiting.abort()
  }
}

function act(
  provider: Provider,
  state: WorkState,
  refs: readonly MachineRef[],
  signal: AbortSignal,
): Promise<Outcome<MadeMachine | null>[]> {
  const acts = {
    provisioning: () => provider.make(refs, signal),
    maintenance: () => provider.clean(refs, signal),
    deleting: () => provider.destroy(refs, signal),
  } satisfies Record<WorkState, () => Promise<Outcome<MadeMachine | null>[]>>
  return acts[state]()
}

function refOf(vm: Vm, pool: Pool): MachineRef {
  return { vmId: vm.id, pool: pool.name, name: vm.name, type: vm.type, address: vm.address }
}

function resultOf(vm: Vm, outcome: Outcome<MadeMachine | null> | undefined): WorkResult {
  const work = { vmId: vm.id, claim: vm.claim }
  if (outcome === undefined)
    return { ...work, ok: false, failure: 'the provider did not answer for this machine', permanent: false }
  if (!outcome.ok)
    return { ...work, ok: false, failure: storableText(outcome.failure), permanent: outcome.permanent }
  const { value } = outcome
  // A name or an address that no store can keep would break the batch of everybody.
  if (value !== null && !(isStorableText(value.name) && isStorableText(value.address)))
    return {
      ...work,
      ok: false,
      failure: storableText(
        `the provider made it with a name or address that cannot be kept: ${value.name} ${value.address}`,
      ),
      permanent: false,
    }
  return { ...work, ok: true, ...(value === null ? {} : { made: value }) }
}

function failAll(machines: readonly Vm[], failure: string) {
  return machines.map(({ id, claim }) => ({ vmId: id, claim, ok: false, failure, permanent: false }) as const)
}

/** Nothing that the machine could help: it does not count as a try. */
function interrupted(machines: readonly Vm[], failure: string, how: 'ended' | 'acting'): WorkResult[] {
  return failAll(machines, failure).map((result) => ({ ...result, interrupted: how }))
}

/**
 * Whether a call that was abandoned ends within a moment. Until it has, another server must not have its machines: a provider
 * that is still cleaning one would clean it under its next holder.
 */
async function endsSoon(call: Promise<unknown>, schedule: Schedule): Promise<boolean> {
  const over = new AbortController()
  const ended = call.then(
    () => true,
    () => true,
  )
  const late = schedule.sleep(ABANDONED_MS_MAX, over.signal).then(() => false)
  const answer = await Promise.race([ended, late])
  over.abort()
  return answer
}
