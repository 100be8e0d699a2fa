/**
 * People and programs that use the servers: they check machines out and in, maintain, resize, come and go. They remember what
 * they were told and act on it late; their calls are sent to any server, twice, or get lost on the way, and so do the answers.
 */
import type { Command, CommandOf } from '../../src/domain/command.ts'
import { EVEN_MIX } from '../../src/domain/pool.ts'
import { isRefusal } from '../../src/domain/refusal.ts'
import type { User } from '../../src/domain/user.ts'
import type { Vm } from '../../src/domain/vm.ts'
import { VM_TYPE_NAMES } from '../../src/domain/vm-type.ts'
import { deleteAccount } from '../../src/service/account.ts'
import type { Berth } from '../../src/service/berth.ts'
import type { Caller } from '../../src/service/credentials.ts'
import { setPoolSize } from '../../src/service/pool-size.ts'
import { resetInstallation } from '../../src/service/reset.ts'
import type { Details } from './choices.ts'
import type { Call } from './promises.ts'
import { type Owner, owner } from './scheduler.ts'
import { type Host, isStoreFault, type Server, textOf, type World } from './server.ts'

export const POOLS = ['default', 'lab'] as const
const SIZE_MAX = 5

const EMAILS = ['ada', 'bob', 'cy', 'dee', 'eve'].map((name) => `${name}@example.org`)
const STEPS = ['clean', 'cordon', 'uncordon', 'retry'] as const

/** How long a client waits before its next move. */
const THINKING_MS = [30, 0, 3, 200, 1_200] as const
const THINKING_WEIGHTS = [20, 35, 25, 15, 5]

const MOVES = {
  nothing: 2,
  checkoutAny: 16,
  checkoutTyped: 6,
  checkoutNamed: 8,
  giveBack: 18,
  giveBackUnnumbered: 5,
  giveBackOld: 8,
  giveBackAnothers: 2,
  maintain: 12,
  resize: 6,
  deleteMachine: 4,
  createUser: 3,
  changeUser: 4,
  deleteUser: 2,
  reset: 1,
  reportAgain: 5,
}

type Move = keyof typeof MOVES

interface Lease {
  readonly userId: number
  readonly vmId: number
  readonly generation: number
}

export class Clients {
  readonly #world: World
  readonly #network = owner('network')
  readonly #moves: readonly Move[]
  readonly #weights: readonly number[]
  /** What each client was told that it holds, the newest first; it never forgets. */
  readonly #told: Lease[][]
  /** Calls that have no answer yet, with the server that has them. */
  readonly #open = new Map<Call, Server>()
  #calls = 0

  constructor(world: World, clients: number) {
    this.#world = world
    this.#told = Array.from({ length: clients }, () => [])
    this.#moves = Object.keys(MOVES) as Move[]
    // Resets end everything that went on: most runs have none.
    const resets = world.choices.pick('plan', [3, 1]) === 1
    this.#weights = this.#moves.map((move) => (move === 'reset' && !resets ? 0 : MOVES[move]))
  }

  start(): void {
    for (const client of this.#told.keys()) this.#think(client)
  }

  /** Calls that a running server owes an answer. */
  get owed(): Call[] {
    return [...this.#open].filter(([, server]) => !server.process.dead).map(([call]) => call)
  }

  get calls(): number {
    return this.#calls
  }

  #think(client: number): void {
    const { choices, scheduler } = this.#world
    const how = choices.details('clients')
    const ms = THINKING_MS[how.pick(THINKING_WEIGHTS)] ?? 0
    const self: Owner = this.#network
    scheduler.after(self, `client ${client} moves`, ms, () => {
      if (choices.calm) return
      // Calls that come together are decided in one batch.
      const host = how.pick([2, 1]) === 1 ? how.among(this.#world.hosts) : null
      const moves = host === null ? 1 : 2 + how.pick(3)
      for (let i = 0; i < moves; i++) this.#move(client, host, choices.details('clients'))
      this.#think(client)
    })
  }

  /** One call, to `wanted` or to any host. */
  #move(client: number, wanted: Host | null, how: Details): void {
    const { faults, scheduler, hosts } = this.#world
    const move = this.#moves[how.pick(this.#weights)] ?? 'nothing'
    if (move === 'reportAgain') {
      const host = wanted ?? how.among(hosts)
      host.server?.reportAgain(how.pick(8))
      return
    }
    const command = this.#command(client, move, how)
    if (command === null) return
    const times = faults.strikes('callTwice') ? 2 : 1
    for (let i = 0; i < times; i++) {
      const host = wanted ?? how.among(hosts)
      if (faults.strikes('callLost')) continue
      const delayMs = faults.delayMs('callLate')
      const requestId = `r${++this.#calls}`
      scheduler.after(this.#network, 'a call arrives', delayMs, () =>
        this.#arrive(client, host.server, requestId, command),
      )
    }
  }

  #arrive(client: number, server: Server | null, requestId: string, command: Command): void {
    const { scheduler, promises } = this.#world
    if (server === null || !server.running || server.berth === null) return
    const frozenMs = server.process.frozenUntilMs - scheduler.nowMs
    if (frozenMs > 0) {
      scheduler.after(this.#network, 'a call waits', frozenMs, () =>
        this.#arrive(client, server, requestId, command),
      )
      return
    }
    const named = { ...command, requestId } as Command
    promises.note(() => `client ${client} → ${server.name}: ${requestId} ${describeCommand(named)}`)
    const call = promises.handedIn(requestId, named)
    this.#open.set(call, server)
    submit(server.berth, named, requestId).then(
      (reply) => {
        this.#open.delete(call)
        promises.note(() => `${server.name} answers ${requestId}: ${describeReply(reply)}`)
        promises.answered(call, reply)
        this.#tell(client, named, reply)
      },
      (error) => {
        this.#open.delete(call)
        promises.unanswered(call)
        promises.note(() => `${server.name} fails ${requestId}: ${String(error)}`)
        if (!isStoreFault(error))
          promises.broken('no-bug', `${server.name} failed ${requestId}: ${textOf(error)}`)
      },
    )
  }

  /** The answer travels; what it says is acted on when it arrives. */
  #tell(client: number, command: Command, reply: unknown): void {
    if (command.kind !== 'checkout' || isRefusal(reply)) return
    const { vm } = reply as { vm: Vm }
    const { faults, scheduler } = this.#world
    const delayMs = faults.delayMs('callLate')
    scheduler.after(this.#network, 'an answer arrives', delayMs, () =>
      this.#told[client]?.unshift({ userId: command.actor.userId, vmId: vm.id, generation: vm.generation }),
    )
  }

  #command(client: number, move: Exclude<Move, 'reportAgain'>, how: Details): Command | null {
    const { promises } = this.#world
    const pick = (weights: readonly number[] | number) => how.pick(weights)
    const among = <T>(items: readonly T[]): T => how.among(items)
    const { users, vms } = promises.tables
    const requestId = ''
    const active = [...users.values()].filter(({ state }) => state === 'active')
    const admins = active.filter(({ role }) => role === 'admin')
    if (active.length === 0) {
      const account = { name: 'First', email: EMAILS[0] ?? '', role: 'user', passwordHash: 'hash' } as const
      return { kind: 'createUser', actor: null, mayBeFirst: true, ...account, requestId }
    }
    /** Each client is mostly one person; now and then it is somebody else, somebody who is gone, or uses an old password. */
    const self = () => {
      const odd = pick([30, 1, 1, 1])
      if (odd === 1) return actorOf(among([...users.values()]))
      const mine = active[client % active.length] as User
      return { userId: mine.id, credentialVersion: mine.credentialVersion - (odd === 2 ? 1 : 0) }
    }
    const admin = () => (admins.length === 0 || pick([12, 1]) === 1 ? self() : actorOf(among(admins)))
    const vmId = (): number => {
      const ids = [...vms.keys()]
      return ids.length === 0 || pick([25, 1]) === 1 ? promises.tables.installation.nextVmId : among(ids)
    }
    const pool = (): string => POOLS[pick([3, 1])] ?? POOLS[0]
    const checkout = (edit: Partial<CommandOf<'checkout'>>): Command => ({
      kind: 'checkout',
      actor: self(),
      pool: pool(),
      vmId: null,
      type: null,
      requestId,
      ...edit,
    })
    const told = this.#told[client] ?? []
    const held = (lease: Lease | undefined, generation: (lease: Lease) => number | null): Command | null => {
      if (lease === undefined) return null
      const user = users.get(lease.userId)
      const actor = { userId: lease.userId, credentialVersion: user?.credentialVersion ?? 1 }
      return { kind: 'checkIn', actor, vmId: lease.vmId, generation: generation(lease), requestId }
    }
    const commands: Record<Exclude<Move, 'reportAgain'>, () => Command | null> = {
      nothing: () => null,
      checkoutAny: () => checkout({}),
      checkoutTyped: () => checkout({ type: among(VM_TYPE_NAMES) }),
      checkoutNamed: () => {
        const id = vmId()
        const of = vms.get(id)
        const name = of === undefined ? undefined : promises.tables.pools.get(of.poolId)?.pool.name
        return checkout({ vmId: id, ...(name === undefined ? {} : { pool: name }) })
      },
      giveBack: () => held(told[pick([8, 2, 1])], ({ generation }) => generation),
      giveBackUnnumbered: () => held(told[pick([8, 2, 1])], () => null),
      giveBackOld: () => held(told.length === 0 ? undefined : among(told), ({ generation }) => generation),
      giveBackAnothers: () => ({
        kind: 'checkIn',
        actor: self(),
        vmId: vmId(),
        generation: null,
        requestId,
      }),
      maintain: () => {
        const actor = admin()
        const aside = [...vms.values()].filter(({ state }) => state !== 'ready' && state !== 'leased')
        const id = aside.length > 0 && pick([1, 2]) === 1 ? among(aside).id : vmId()
        // Mostly what fits the machine's state; else what does not.
        const step = fittingStep(vms.get(id), pick(3)) ?? among(STEPS)
        return { kind: 'maintain', actor, vmId: id, step, requestId }
      },
      resize: () => ({
        kind: 'sizePool',
        actor: admin(),
        pool: pool(),
        size: pick(SIZE_MAX + 1),
        policy: { typeMix: EVEN_MIX, cleaning: 'automatic', provider: 'simulated' },
        requestId,
      }),
      deleteMachine: () => ({ kind: 'deleteVm', actor: admin(), vmId: vmId(), requestId }),
      createUser: () => ({
        kind: 'createUser',
        actor: admin(),
        mayBeFirst: true,
        name: 'New',
        email: among(EMAILS),
        role: pick(2) === 0 ? 'admin' : 'user',
        passwordHash: 'hash',
        requestId,
      }),
      changeUser: () => {
        const user = among(active)
        const actor = pick(2) === 0 ? actorOf(user) : admin()
        const email = pick(2) === 0 ? null : among(EMAILS)
        const passwordHash = pick(2) === 0 ? null : 'new hash'
        return { kind: 'changeUser', actor, userId: user.id, name: null, email, passwordHash, requestId }
      },
      deleteUser: () => ({ kind: 'deleteUser', actor: admin(), userId: among(active).id, requestId }),
      reset: () => ({ kind: 'beginReset', actor: admin(), allowed: false, requestId }),
    }
    return commands[move]()
  }
}

function actorOf({ id, credentialVersion }: User) {
  return { userId: id, credentialVersion }
}

function fittingStep(vm: Vm | undefined, how: number): (typeof STEPS)[number] | null {
  if (vm?.state === 'cordoned') return 'uncordon'
  if (vm?.state === 'failed') return how === 0 ? 'retry' : how === 1 ? 'cordon' : null
  if (vm?.state === 'maintenance') return how === 0 ? 'clean' : 'cordon'
  if (vm?.state === 'ready') return how === 0 ? 'cordon' : null
  return null
}

/** Hands a call in the way the servers' shells do: what takes more than a command goes through its service. */
function submit(berth: Berth, command: Command, requestId: string): Promise<unknown> {
  if (command.kind === 'sizePool')
    return setPoolSize(berth, callerOf(command.actor), command.pool, command.size, requestId)
  if (command.kind === 'deleteUser')
    return deleteAccount(berth, callerOf(command.actor), command.userId, requestId)
  if (command.kind === 'beginReset')
    return resetInstallation(berth, command.actor === null ? null : callerOf(command.actor), requestId)
  return (berth.submit as (command: Command) => Promise<unknown>)(command)
}

function callerOf(actor: { userId: number; credentialVersion: number }): Caller {
  return { ...actor, role: 'admin' }
}

/** What of a command says nothing to whoever reads a schedule. */
const UNSAID = new Set(['kind', 'actor', 'requestId', 'policy', 'mayBeFirst', 'allowed', 'passwordHash'])

function describeCommand(command: Command): string {
  const actor = 'actor' in command ? command.actor : null
  const fields = Object.entries(command)
    .filter(([name, value]) => !UNSAID.has(name) && value !== null)
    .map(([name, value]) => ` ${name} ${String(value)}`)
  const password = 'passwordHash' in command && command.passwordHash !== null ? ' with a password' : ''
  return `${command.kind}${actor === null ? '' : ` by user ${actor.userId}`}${fields.join('')}${password}`
}

function describeReply(reply: unknown): string {
  if (isRefusal(reply)) return `no: ${reply.code}`
  const { vm } = (reply ?? {}) as { vm?: Vm }
  return vm === undefined ? 'yes' : `yes: machine ${vm.id} ${vm.state} at generation ${vm.generation}`
}
