/**
 * The event log of a database as a witness: read from front to back it has to be one legal life of each machine, and
 * it has to hold every call that clients were told was done, once, and none that they were told was not.
 */
import assert from 'node:assert/strict'
import type { EventType } from '../../src/domain/event.ts'
import type { VmState } from '../../src/domain/vm.ts'
import type { RecordedCall } from './history.ts'
import type { Row } from './postgres-query.ts'

export interface LoggedEvent {
  readonly id: number
  readonly atMs: number
  readonly type: EventType
  readonly vmIds: readonly number[]
  readonly userId: number | null
  readonly requestId: string | null
  readonly generation: number | null
}

interface Data {
  readonly vms?: readonly (readonly [number, number])[]
  readonly generation?: number
}

/** All events in the order of their ids; `query` asks the database. */
export async function readEvents(query: (sql: string) => Promise<Row[]>): Promise<LoggedEvent[]> {
  const rows = await query('SELECT id, at_ms, type, vm_id, user_id, request_id, data FROM event ORDER BY id')
  return rows.map((row) => {
    const data: Data = row.data === null ? {} : JSON.parse(String(row.data))
    const ranges = data.vms ?? (row.vm_id === null ? [] : [[Number(row.vm_id), Number(row.vm_id)] as const])
    return {
      id: Number(row.id),
      atMs: Number(row.at_ms),
      type: row.type as EventType,
      vmIds: ranges.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, i) => first + i)),
      userId: row.user_id === null ? null : Number(row.user_id),
      requestId: row.request_id === null ? null : String(row.request_id),
      generation: data.generation ?? null,
    }
  })
}

/** From which states an event may lead where. Other events change no machine's state. */
const STEPS: Partial<
  Record<EventType, { readonly from: readonly (VmState | 'none')[]; readonly to: VmState }>
> = {
  'vm.planned': { from: ['none'], to: 'provisioning' },
  'vm.made': { from: ['provisioning'], to: 'ready' },
  'vm.checked_out': { from: ['ready'], to: 'leased' },
  'vm.checked_in': { from: ['leased'], to: 'maintenance' },
  'vm.cleaned': { from: ['maintenance'], to: 'ready' },
  'vm.returned': { from: ['maintenance'], to: 'ready' },
}

/** Fails unless the log, read in order, is one legal life of each machine: so no work is recorded twice, and none too late. */
export function requireLegalLog(events: readonly LoggedEvent[]): void {
  const machines = new Map<number, { state: VmState; holder: number | null; generation: number }>()
  let lastMs = 0
  for (const event of events) {
    const step = STEPS[event.type]
    if (step === undefined) continue
    assert.ok(event.atMs >= lastMs, `event ${event.id} is earlier than the one before it`)
    lastMs = event.atMs
    for (const vmId of event.vmIds) {
      const { state, holder, generation } = machines.get(vmId) ?? {
        state: 'none',
        holder: null,
        generation: 0,
      }
      assert.ok(
        step.from.includes(state),
        `event ${event.id}: ${event.type} of machine ${vmId}, which was ${state}`,
      )
      if (event.type === 'vm.checked_in')
        assert.equal(
          event.userId,
          holder,
          `event ${event.id}: machine ${vmId} was given back for somebody else`,
        )
      if (event.type === 'vm.checked_out')
        assert.equal(event.generation, generation + 1, `event ${event.id}: the generation of machine ${vmId}`)
      machines.set(vmId, {
        state: step.to,
        holder: step.to === 'leased' ? event.userId : null,
        generation: event.generation ?? generation,
      })
    }
  }
}

const EVENT_OF = {
  checkout: 'vm.checked_out',
  checkIn: 'vm.checked_in',
  maintain: 'vm.returned',
} as const satisfies Partial<Record<RecordedCall['what'], EventType>>

/**
 * Fails unless the log and what clients were told agree: what was done is there once, what was refused or could not be done is
 * not there, what is unknown is there once at most, and calls that came after others were answered are logged after them.
 * Returns the events by the ids of the calls.
 */
export function requireLedger(
  calls: readonly RecordedCall[],
  events: readonly LoggedEvent[],
): ReadonlyMap<string, { readonly id: number; readonly vmId: number }> {
  const byRequest = new Map<string, LoggedEvent[]>()
  for (const event of events)
    if (event.requestId !== null)
      byRequest.set(event.requestId, [...(byRequest.get(event.requestId) ?? []), event])
  const found = new Map<string, { id: number; vmId: number }>()
  for (const call of calls) {
    if (call.what === 'look') continue
    const of = byRequest.get(call.requestId) ?? []
    const text = `${call.what} of ${call.vmId ?? 'any machine'} by user ${call.userId} (${call.requestId}), ${call.outcome}`
    if (call.outcome === 'done') assert.equal(of.length, 1, `${text}: lost, or done more than once`)
    else assert.ok(of.length <= (call.outcome === 'unknown' ? 1 : 0), `${text}: was done ${of.length} times`)
    const [event] = of
    if (event === undefined) continue
    const [vmId] = event.vmIds
    assert.equal(event.type, EVENT_OF[call.what], text)
    assert.ok(
      vmId !== undefined && (call.vmId === null || call.vmId === vmId),
      `${text}: it was machine ${vmId}`,
    )
    if (call.what === 'checkout') assert.equal(event.userId, call.userId, text)
    found.set(call.requestId, { id: event.id, vmId })
  }
  requireOrder(calls, found)
  return found
}

/** Whoever was answered before another called stands before them in the log. */
function requireOrder(
  calls: readonly RecordedCall[],
  found: ReadonlyMap<string, { readonly id: number }>,
): void {
  const logged = calls.flatMap((call) => {
    const id = found.get(call.requestId)?.id
    return id === undefined ? [] : [{ call, id }]
  })
  const byReturn = logged.toSorted((a, b) => a.call.returnedAtMs - b.call.returnedAtMs)
  let newest: (typeof logged)[number] | undefined
  let at = 0
  for (const later of logged.toSorted((a, b) => a.call.invokedAtMs - b.call.invokedAtMs)) {
    for (
      let earlier = byReturn[at];
      earlier !== undefined && earlier.call.returnedAtMs < later.call.invokedAtMs;
      earlier = byReturn[++at]
    )
      if (newest === undefined || earlier.id > newest.id) newest = earlier
    assert.ok(
      newest === undefined || newest.id < later.id,
      `${later.call.requestId} came after ${newest?.call.requestId} was answered, and stands before it in the log`,
    )
  }
}
