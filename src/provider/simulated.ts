/**
 * Machines that exist in name only: for trying Berth out, for demonstrations and for tests. Names and addresses follow from
 * the seed and the machine's id, so a repeated call gives the same machine. Delays and faults are drawn from the seed; the
 * default is instant and faultless.
 */
import type { MachineRef, MadeMachine, Outcome, Provider } from './port.ts'

export interface SimulatedSettings {
  readonly seed: number
  /** How long each call takes, in milliseconds: between half of this and one and a half times. */
  readonly delayMs: number
  /** The share of machines on which a call fails, 0 to 1. */
  readonly faultRate: number
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>
}

export function simulatedProvider(settings: SimulatedSettings): Provider {
  const random = mulberry32(settings.seed)

  async function act<Value>(
    machines: readonly MachineRef[],
    signal: AbortSignal,
    verb: string,
    value: (machine: MachineRef) => Value,
  ): Promise<Outcome<Value>[]> {
    if (settings.delayMs > 0) await settings.sleep(Math.round(settings.delayMs * (0.5 + random())), signal)
    return machines.map((machine) =>
      settings.faultRate > 0 && random() < settings.faultRate
        ? { ok: false, failure: `simulated fault: ${machine.name} could not be ${verb}`, permanent: false }
        : { ok: true, value: value(machine) },
    )
  }

  return {
    name: 'simulated',
    make: (machines, signal) => act(machines, signal, 'made', (machine) => made(settings.seed, machine)),
    clean: (machines, signal) => act(machines, signal, 'cleaned', () => null),
    destroy: (machines, signal) => act(machines, signal, 'destroyed', () => null),
  }
}

/** Distinct for each id below 2^22, in the shared address space of RFC 6598 (100.64.0.0/10): no real network's. */
function made(seed: number, { vmId }: MachineRef): MadeMachine {
  const host = (Math.imul(vmId, 2_654_435_761) + seed) & 0x3f_ffff
  const address = `100.${64 + (host >>> 16)}.${(host >>> 8) & 0xff}.${host & 0xff}`
  return { name: `vm-${String(vmId).padStart(6, '0')}`, address }
}

/** A small seeded generator of numbers in [0, 1) (mulberry32, by Tommy Ettinger, public domain). */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}
