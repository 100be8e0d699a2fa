/**
 * What makes, cleans and destroys machines. A provider acts on the world outside; workers call it, never a request. Every
 * call may come twice for the same machine (a worker that died in between is repeated), and must then have the effect of one.
 */
import type { VmType } from '../domain/vm-type.ts'

/** The machine that a provider is asked about. */
export interface MachineRef {
  readonly vmId: number
  readonly pool: string
  readonly name: string
  readonly type: VmType
  readonly address: string
}

/** What came of one machine. */
export type Outcome<Value> =
  | { readonly ok: true; readonly value: Value }
  /** `permanent`: trying again cannot help. */
  | { readonly ok: false; readonly failure: string; readonly permanent: boolean }

export interface MadeMachine {
  readonly name: string
  readonly address: string
}

/**
 * Each call takes a list and answers in its order. A call is abandoned when `signal` is aborted (its time is over, or the server
 * stops); what it answers then is ignored, but it has to settle, soon, and only once nothing of it acts on the machines any more. A rejection counts as a failure of every machine in the list.
 */
export interface Provider {
  readonly name: string
  /** Makes machines and starts them; answers once they can be reached. */
  make(machines: readonly MachineRef[], signal: AbortSignal): Promise<Outcome<MadeMachine>[]>
  /** Brings machines back to the state in which they were made. */
  clean(machines: readonly MachineRef[], signal: AbortSignal): Promise<Outcome<null>[]>
  /** Destroys machines; one that is not there counts as destroyed. */
  destroy(machines: readonly MachineRef[], signal: AbortSignal): Promise<Outcome<null>[]>
}
