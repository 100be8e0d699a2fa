/**
 * A network between two programs of a test that can be cut: a proxy on a free port of 127.0.0.1 in front of another port.
 * It passes bytes on, until it is told to cut (connections are reset, and new ones too), to swallow (nothing arrives any more,
 * and nobody is told; what was sent arrives late once it is healed, as TCP has it), or to delay.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { after } from 'node:test'

export interface TcpProxy {
  readonly port: number
  /** Connections that are open now. */
  readonly open: number
  /** Resets all connections, and new ones at once, until `heal`. */
  cut(): void
  /** Resets the connections that are open; new ones are passed on. */
  reset(): void
  /** Holds back what is sent, in one direction or in both, until `heal`. New connections get no answer. */
  swallow(direction?: Direction): void
  /** Passes bytes on later. */
  delay(ms: number, direction?: Direction): void
  /**
   * Cuts single connections in the middle of what the client sends: called with each piece, it tells how. It may as well have
   * the network swallow, from that piece on. Until `heal`.
   * - answer: the piece is passed on whole, and the client is cut off before any answer.
   * - piece: only the first half of the piece is passed on, then both sides are cut off.
   */
  cutAt(decide: (piece: Buffer) => 'answer' | 'piece' | null): void
  /** Passes on whatever comes again, and what was held back. */
  heal(): void
  close(): Promise<void>
}

/** toServer: what the client sends; toClient: what the server answers. */
type Direction = 'toServer' | 'toClient'
const DIRECTIONS: readonly Direction[] = ['toServer', 'toClient']

const listening = new Set<Server>()
const links = new Set<Link>()

// What a test that failed has left open would keep it from ending.
after(() => {
  for (const server of listening) server.close()
  for (const link of links) link.reset()
})

export async function startProxy(target: {
  readonly host: string
  readonly port: number
}): Promise<TcpProxy> {
  const own = new Set<Link>()
  const delayMs = { toServer: 0, toClient: 0 }
  const swallowing = new Set<Direction>()
  let isCut = false
  let decide: Parameters<TcpProxy['cutAt']>[0] = () => null

  const server = createServer((client) => {
    if (isCut) {
      client.on('error', () => {})
      client.resetAndDestroy()
      return
    }
    const link = new Link(client, connect(target.port, target.host), {
      delayMs,
      isSwallowed: (direction) => swallowing.has(direction),
      cutAt: (piece) => decide(piece),
      ended() {
        own.delete(link)
        links.delete(link)
      },
    })
    own.add(link)
    links.add(link)
  })
  listening.add(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')

  const reset = () => {
    for (const link of own) link.reset()
  }
  return {
    port: (server.address() as AddressInfo).port,
    get open() {
      return own.size
    },
    cut() {
      isCut = true
      reset()
    },
    reset,
    swallow(direction) {
      for (const one of direction === undefined ? DIRECTIONS : [direction]) swallowing.add(one)
    },
    delay(ms, direction) {
      for (const one of direction === undefined ? DIRECTIONS : [direction]) delayMs[one] = ms
    },
    cutAt(how) {
      decide = how
    },
    heal() {
      isCut = false
      swallowing.clear()
      decide = () => null
      for (const direction of DIRECTIONS) delayMs[direction] = 0
      for (const link of own) link.flush()
    },
    async close() {
      reset()
      listening.delete(server)
      server.close()
      await once(server, 'close')
    },
  }
}

interface LinkSettings {
  readonly delayMs: Readonly<Record<Direction, number>>
  readonly isSwallowed: (direction: Direction) => boolean
  readonly cutAt: (piece: Buffer) => 'answer' | 'piece' | null
  readonly ended: () => void
}

/** One connection from each side. */
class Link {
  readonly #client: Socket
  readonly #server: Socket
  readonly #settings: LinkSettings
  readonly #held: Record<Direction, (Buffer | 'end')[]> = { toServer: [], toClient: [] }
  readonly #lastDueMs: Record<Direction, number> = { toServer: 0, toClient: 0 }
  #isOver = false

  constructor(client: Socket, server: Socket, settings: LinkSettings) {
    this.#client = client
    this.#server = server
    this.#settings = settings
    for (const [from, direction] of [
      [client, 'toServer'],
      [server, 'toClient'],
    ] as const) {
      from.setNoDelay(true)
      from.on('data', (piece: Buffer) => this.#arrived(direction, piece))
      from.on('end', () => this.#arrived(direction, 'end'))
      from.on('error', () => this.#broke(direction))
      from.on('close', () => this.#end())
    }
  }

  reset(): void {
    this.#isOver = true
    this.#client.resetAndDestroy()
    this.#server.resetAndDestroy()
    this.#end()
  }

  flush(): void {
    for (const direction of DIRECTIONS)
      for (const piece of this.#held[direction].splice(0)) this.#pass(direction, piece)
  }

  #arrived(direction: Direction, piece: Buffer | 'end'): void {
    const { delayMs, isSwallowed, cutAt } = this.#settings
    if (this.#isOver) return
    const cut = direction === 'toServer' && piece !== 'end' ? cutAt(piece) : null
    if (cut === null && (isSwallowed(direction) || this.#held[direction].length > 0)) {
      this.#held[direction].push(piece)
      return
    }
    if (cut !== null && piece !== 'end') {
      this.#isOver = true
      this.#client.resetAndDestroy()
      // With what was passed on, so that the server reads it before it learns that nobody listens.
      this.#server.end(cut === 'answer' ? piece : piece.subarray(0, piece.length / 2))
      return
    }
    // Never before what came earlier and is still on its way.
    const nowMs = performance.now()
    const dueMs = Math.max(nowMs + delayMs[direction], this.#lastDueMs[direction])
    if (dueMs <= nowMs) {
      this.#pass(direction, piece)
      return
    }
    this.#lastDueMs[direction] = dueMs
    setTimeout(() => this.#pass(direction, piece), dueMs - nowMs)
  }

  #pass(direction: Direction, piece: Buffer | 'end'): void {
    const to = direction === 'toServer' ? this.#server : this.#client
    if (to.destroyed) return
    if (piece === 'end') to.end()
    else to.write(piece)
  }

  /** One side is gone. While its end is swallowed the other is not told: not before it is healed. */
  #broke(direction: Direction): void {
    if (this.#settings.isSwallowed(direction)) this.#held[direction].push('end')
    else if (!this.#isOver) this.reset()
  }

  #end(): void {
    if (this.#client.destroyed && this.#server.destroyed) this.#settings.ended()
  }
}
