/**
 * How workers take work and report it. A machine that is due is claimed for a limited time; the report must present that
 * claim and find the machine in the state it was claimed in, else it is late and changes nothing. Work that failed, or
 * whose worker never came back, is tried again after a pause that doubles; after `ATTEMPTS_MAX` tries the machine is
 * failed. Destroying is never given up: a machine that may still exist must not be forgotten.
 */
import type { Rule } from './decision.ts'
import { idRanges, type NewEvent } from './event.ts'
import { allows, move } from './lifecycle.ts'
import { countExisting, observed, type Pool } from './pool.ts'
import type { Vm, VmState } from './vm.ts'
import type { View, WorkingSet } from './working-set.ts'

/** States in which a machine is work for a worker. */
export const WORK_STATES = ['provisioning', 'maintenance', 'deleting'] as const satisfies readonly VmState[]

export type WorkState = (typeof WORK_STATES)[number]

export const ATTEMPTS_MAX = 5

const PAUSE_MS_MIN = 1_000
const PAUSE_MS_MAX = 300_000

/** How long to wait before the next try, after `attempts` failed ones: 1 s, 2 s, 4 s … up to 5 minutes. */
export function pauseMs(attempts: number): number {
  return Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** Math.max(0, attempts - 1))
}

/** Whether what a batch changed leaves something to do for a worker, now or at a time that it should know of. */
export function leavesWork(set: WorkingSet): boolean {
  for (const vm of set.changedVms.values()) if (vm.dueAtMs !== null) return true
  for (const user of set.changedUsers.values()) if (user.state === 'leaving') return true
  for (const poolId of set.countedPools) {
    const pool = set.pool(poolId)
    if (pool !== undefined && countExisting(set.tally(poolId)) !== pool.target) return true
  }
  return set.installation.state === 'resetting'
}

export interface ClaimWork {
  readonly kind: 'claimWork'
  readonly poolId: number
  readonly state: WorkState
  readonly machinesMax: number
  readonly claimMs: number
}

/** Claims machines of one pool and state that are due. Never refused; the reply may be empty. */
export const claimWork: Rule<ClaimWork, { pool: Pool | null; claimed: Vm[] }> = {
  needs(command, needs) {
    needs.poolIds.add(command.poolId)
    const wanted = needs.due.get(command.poolId) ?? new Map<VmState, number>()
    needs.due.set(command.poolId, wanted)
    wanted.set(command.state, (wanted.get(command.state) ?? 0) + command.machinesMax)
  },

  decide(view, command) {
    const { poolId, state, machinesMax, claimMs } = command
    const due = view
      .vmsWhere(
        (vm) => vm.poolId === poolId && vm.state === state && vm.dueAtMs !== null && vm.dueAtMs <= view.nowMs,
      )
      .slice(0, machinesMax)
    const changed: Vm[] = []
    const events: NewEvent[] = []
    const claimed: Vm[] = []
    for (const vm of due) {
      if (vm.attempts >= ATTEMPTS_MAX && allows(vm.state, 'giveUp')) {
        const failure = vm.failure ?? 'no answer within the time limit'
        changed.push(move(vm, 'giveUp', { failure }))
        events.push(gaveUp(vm, failure))
        continue
      }
      const untilMs = view.nowMs + claimMs
      const claim = { claim: vm.claim + 1, attempts: vm.attempts + 1, dueAtMs: untilMs, busyUntilMs: untilMs }
      const taken = { ...vm, ...claim }
      changed.push(taken)
      claimed.push(taken)
    }
    return { changes: { vms: changed, events }, reply: { pool: view.pool(poolId) ?? null, claimed } }
  },
}

/** What came of one claimed piece of work. */
export type WorkResult =
  | {
      readonly vmId: number
      readonly claim: number
      readonly ok: true
      /** What making it told: how the machine is called and where it is reached. */
      readonly made?: { readonly name: string; readonly address: string }
    }
  | {
      readonly vmId: number
      readonly claim: number
      readonly ok: false
      readonly failure: string
      /** True when trying again cannot help. */
      readonly permanent: boolean
      /**
       * Set when the worker gave up by itself (it was told to stop, say): that is no failure of the machine's, and does not count
       * as a try. ended: nothing acts on the machine any more; acting: something may, until the claim has run out.
       */
      readonly interrupted?: 'ended' | 'acting'
      /** True when something may still act on the machine, until the claim has run out: it did not answer in time, say. */
      readonly acting?: true
    }

export interface ReportWork {
  readonly kind: 'reportWork'
  readonly state: WorkState
  /** How long the provider took; undefined: nobody measured it. */
  readonly tookMs?: number
  readonly results: readonly WorkResult[]
}

/** Records what came of claimed work. Never refused; late reports are counted and change nothing. */
export const reportWork: Rule<ReportWork, { accepted: number; late: number }> = {
  needs(command, needs) {
    for (const { vmId } of command.results) needs.vmIds.add(vmId)
    if (command.state === 'provisioning') needs.finishers += command.results.length
  },

  decide(view, command) {
    const vms: Vm[] = []
    const gone: Vm[] = []
    const failed: NewEvent[] = []
    const doneByPool = new Map<number, number[]>()
    let late = 0
    for (const result of command.results) {
      const reported = view.vm(result.vmId)
      if (
        reported === undefined ||
        reported.state !== command.state ||
        reported.claim !== result.claim ||
        reported.busyUntilMs === null
      ) {
        late++
        continue
      }
      const vm = { ...reported, busyUntilMs: null }
      if (result.ok) {
        const ids = doneByPool.get(vm.poolId) ?? []
        doneByPool.set(vm.poolId, ids)
        ids.push(vm.id)
        if (command.state === 'deleting') gone.push(vm)
        else vms.push(finished(vm, command.state, result.made))
      } else if (result.interrupted === 'ended') {
        vms.push({ ...vm, dueAtMs: view.nowMs, attempts: vm.attempts - 1 })
      } else if (result.interrupted === 'acting') {
        vms.push({ ...stillActing(reported), attempts: reported.attempts - 1 })
      } else if (allows(vm.state, 'giveUp') && (result.permanent || vm.attempts >= ATTEMPTS_MAX)) {
        vms.push(move(result.acting ? reported : vm, 'giveUp', { failure: result.failure }))
        failed.push(gaveUp(vm, result.failure))
      } else {
        const left = result.acting ? stillActing(reported) : vm
        const dueAtMs = Math.max(view.nowMs + pauseMs(vm.attempts), left.busyUntilMs ?? 0)
        vms.push({ ...left, dueAtMs, failure: result.failure })
        const data = { failure: result.failure, attempt: vm.attempts }
        failed.push({ type: 'vm.work_failed', actorId: null, poolId: vm.poolId, vmId: vm.id, data })
      }
    }
    const done = [...doneByPool].map(
      ([poolId, ids]): NewEvent => ({
        type: DONE_EVENTS[command.state],
        actorId: null,
        poolId,
        data: { vms: idRanges(ids) },
      }),
    )
    const pools = timed(view, command, vms)
    return {
      changes: { pools, vms, gone, events: [...done, ...failed] },
      reply: { accepted: command.results.length - late, late },
    }
  },
}

/** Pools with what their queues remember of how long making and cleaning take. */
function timed(view: View, { state, tookMs }: ReportWork, vms: readonly Vm[]): Pool[] {
  if (tookMs === undefined || state === 'deleting') return []
  const what = state === 'maintenance' ? 'cleaning' : 'making'
  const done = new Map<string, Vm>()
  for (const vm of vms) if (vm.state === 'ready') done.set(`${vm.poolId} ${vm.type}`, vm)
  const pools = new Map<number, Pool>()
  for (const { poolId, type } of done.values()) {
    const pool = pools.get(poolId) ?? view.pool(poolId)
    if (pool === undefined) continue
    const times = { ...pool.queue[what], [type]: observed(pool.queue[what][type], tookMs) }
    pools.set(poolId, { ...pool, queue: { ...pool.queue, [what]: times } })
  }
  return [...pools.values()]
}

const DONE_EVENTS = {
  provisioning: 'vm.made',
  maintenance: 'vm.cleaned',
  deleting: 'vm.gone',
} as const satisfies Record<WorkState, NewEvent['type']>

function finished(
  vm: Vm,
  state: Exclude<WorkState, 'deleting'>,
  made: { name: string; address: string } | undefined,
): Vm {
  if (state === 'maintenance') return move(vm, 'clean')
  return move(vm, 'made', {
    power: 'running',
    ...(made === undefined ? {} : { name: made.name, address: made.address }),
  })
}

/** A machine whose worker has let go while its provider may still act: nobody else does before that is over, and it is reported. */
function stillActing(vm: Vm): Vm {
  return { ...vm, claim: vm.claim + 1 }
}

function gaveUp(vm: Vm, failure: string): NewEvent {
  return { type: 'vm.failed', actorId: null, poolId: vm.poolId, vmId: vm.id, data: { failure } }
}
