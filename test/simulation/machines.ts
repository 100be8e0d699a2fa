/**
 * The world outside: which machines exist, and which have been used since they were cleaned. Its providers fail, reject, hang,
 * answer late, answer for fewer machines than they were asked about, and act although nobody hears their answer any more. They
 * keep to the contract of the port: a call that was abandoned settles only once nothing of it acts any more, and soon.
 */
import type { MachineRef, MadeMachine, Outcome, Provider } from '../../src/provider/port.ts'
import { delayMs, type FaultPlan } from './faults.ts'
import type { Outside, Promises } from './promises.ts'
import { owner, type Scheduler } from './scheduler.ts'
import type { Server } from './server.ts'

/** How long a provider has for one call. */
export const CALL_MS_MAX = 6_000

/** How long a call takes that goes well. */
const PACES_MS = [0, 5, 40, 500] as const

const NEVER_MS = 10_000_000

/** How long an abandoned call may go on, at most: a claim lasts so much longer than a call. */
const ENDING_MS_MAX = 29_000

type Verb = 'make' | 'clean' | 'destroy'

export class Machines implements Outside {
  /** By machine: true when it was used and not cleaned since. */
  readonly #used = new Map<number, boolean>()
  /** Calls that may still have an effect. */
  acting = 0
  readonly #scheduler: Scheduler
  readonly #faults: FaultPlan
  readonly #promises: Promises
  readonly #self = owner('outside')

  constructor(scheduler: Scheduler, faults: FaultPlan, promises: Promises) {
    this.#scheduler = scheduler
    this.#faults = faults
    this.#promises = promises
  }

  exists(vmId: number): boolean {
    return this.#used.has(vmId)
  }

  clean(vmId: number): boolean {
    return this.#used.get(vmId) === false
  }

  used(vmId: number): void {
    this.#used.set(vmId, true)
  }

  vouched(vmId: number): void {
    this.#used.set(vmId, false)
  }

  wiped(): number {
    const left = this.#used.size
    this.#used.clear()
    return left
  }

  /** The provider as one server sees it. */
  provider(server: Server): Provider {
    const made = ({ vmId }: MachineRef): MadeMachine => ({ name: `vm-${vmId}`, address: `10.0.0.${vmId}` })
    return {
      name: 'simulated',
      make: (machines, signal) => this.#call(server, 'make', machines, signal, made),
      clean: (machines, signal) => this.#call(server, 'clean', machines, signal, () => null),
      destroy: (machines, signal) => this.#call(server, 'destroy', machines, signal, () => null),
    }
  }

  async #call<Value>(
    server: Server,
    verb: Verb,
    machines: readonly MachineRef[],
    signal: AbortSignal,
    value: (machine: MachineRef) => Value,
  ): Promise<Outcome<Value>[]> {
    const faults = this.#faults
    const ids = machines.map(({ vmId }) => vmId)
    const what = `${verb} ${ids.join(', ')}`
    this.#promises.note(() => `${server.name} has the provider ${what}`)
    for (const { vmId } of machines) this.#checkClaim(server, verb, vmId)

    if (faults.strikes('providerRejects')) throw new Error(`simulated: the provider rejects ${what}`)
    const hangs = faults.strike('providerHangs')
    const late = faults.strike('providerLate')
    const fails = faults.strike('providerFails')
    const slow = faults.strike('providerEndsLate')
    // A call that fails or hangs may have had its effect all the same.
    const acts = (hangs ?? fails)?.pick(2) !== 0
    const { wipes, jumps } = this.#promises
    const abandoned = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
    const label = `provider: ${what}`
    this.acting++
    if (slow !== null) {
      // It takes longer than it may, and cannot be stopped.
      await this.#scheduler.park(this.#self, label, Math.min(delayMs(slow), CALL_MS_MAX + ENDING_MS_MAX))
    } else {
      const paceMs = late === null ? faults.details().among(PACES_MS) : Math.min(CALL_MS_MAX, delayMs(late))
      await Promise.race([this.#scheduler.park(this.#self, label, paceMs), abandoned])
    }
    this.acting--
    if (acts && (!signal.aborted || slow !== null) && wipes === this.#promises.wipes) {
      this.#promises.note(() => `the provider has done ${what}`)
      for (const { vmId } of machines) this.#take(verb, vmId, jumps)
    }
    // Its answer travels, if it gives one.
    if (!signal.aborted) {
      const answerMs = hangs !== null ? NEVER_MS : late !== null ? delayMs(late) : 0
      await Promise.race([this.#scheduler.park(server.process, `answer of ${label}`, answerMs), abandoned])
    }
    const outcomes = machines.map((machine): Outcome<Value> => {
      if (fails !== null) {
        const permanent = fails.pick(3) === 2
        return { ok: false, failure: `simulated: no ${verb} of ${machine.vmId}`, permanent }
      }
      if (verb === 'clean' && !this.exists(machine.vmId))
        return { ok: false, failure: 'simulated: there is no such machine', permanent: false }
      return { ok: true, value: value(machine) }
    })
    return faults.strikes('providerShort') ? outcomes.slice(1) : outcomes
  }

  #take(verb: Verb, vmId: number, jumps: number): void {
    const row = this.#promises.tables.vms.get(vmId)
    if (
      row !== undefined &&
      (row.state === 'ready' || row.state === 'leased') &&
      jumps === this.#promises.jumps
    )
      this.#promises.broken(
        'hands',
        `the provider's ${verb} took effect on machine ${vmId}, which is ${row.state}${row.holderId === null ? '' : ` for user ${row.holderId}`}`,
      )
    if (verb === 'destroy') this.#used.delete(vmId)
    else if (verb === 'make') this.#used.set(vmId, false)
    else if (this.#used.has(vmId)) this.#used.set(vmId, false)
  }

  /** A call begins under the claim that the server was told of, and within its time. */
  #checkClaim(server: Server, verb: Verb, vmId: number): void {
    const told = server.claims.get(vmId)
    if (told === undefined || told.wipes !== this.#promises.wipes) return
    // Clocks that jumped meanwhile may have ended the claim early, or hidden that it ended.
    if (told.jumps !== this.#promises.jumps || told.clockJumps !== server.host.clockJumps) return
    if (told.untilMs < this.#scheduler.nowMs)
      this.#promises.broken(
        'claim',
        `${server.name} has the provider ${verb} machine ${vmId} ${this.#scheduler.nowMs - told.untilMs} ms after its claim ran out`,
      )
  }
}
