/**
 * Who waits in a pool, in order. Requests for the same kinds and length are a group: what fits one of them fits all, so a group
 * is asked once. The requests of one user (flow) in a group are a row, which stands at the place of its first request. Everything
 * here is found without looking at all that waits: each group keeps its rows sorted by tag and by when they are overdue.
 *
 * A parked row (its owner holds too much) has no place in these orders: it blocks nobody.
 */
import { Line } from './line.ts'
import { compareDues, comparePlaces, compareRequests, compareTags, isOverdue, type Place } from './order.ts'
import type { Request } from './request.ts'
import { countWished, stepMs, type Wish, wishKey } from './wish.ts'

/** Requests that get the same answer to "does it fit now". */
export interface Group {
  readonly key: string
  readonly wish: Wish
  /** How many machines each of its requests is for. */
  readonly count: number
  /** How long a lease counts as; null: for ever. */
  readonly lengthMs: number | null
  /** The shortest lease that its requests take; null: not shorter than they asked for. */
  readonly lengthMsMin: number | null
  /** False: of one request that is granted at once or refused. */
  readonly waits: boolean
  readonly rows: ReadonlyMap<number, Row>
}

/** The waiting requests of one flow in one group. */
export interface Row {
  readonly group: Group
  readonly flow: QueueFlow
  /** By priority, then by arrival; never empty. */
  readonly requests: readonly Request[]
  /** At how many departures it is overdue; null: never, as it is parked, or there are not enough machines for it. */
  readonly due: number | null
  readonly parked: boolean
  readonly collectSinceMs: number | null
}

/** A user's place in the fair queue. */
export interface QueueFlow {
  readonly userId: number
  readonly tag: number
  readonly rows: ReadonlySet<Row>
}

type Writable<T> = { -readonly [K in keyof T]: T[K] }

interface OwnRow extends Place {
  group: OwnGroup
  flow: OwnFlow
  requests: Request[]
  tag: number
  due: number | null
  seq: number
  parked: boolean
  collectSinceMs: number | null
}

interface OwnGroup extends Writable<Group> {
  rows: Map<number, OwnRow>
  byTag: Line<OwnRow>
  byDue: Line<OwnRow>
}

interface OwnFlow extends Writable<QueueFlow> {
  rows: Set<OwnRow>
  /** How many of them are not parked. */
  active: number
}

/** The first of a row, which stands for it. */
export function headOf(row: Row): Request {
  return row.requests[0] as Request
}

export class Queue {
  readonly #groups = new Map<string, OwnGroup>()
  readonly #flows = new Map<number, OwnFlow>()
  readonly #rowOf = new Map<string, OwnRow>()
  /** Flows with rows that are not parked. */
  readonly #active = new Line<OwnFlow>(compareFlows)
  /** Flows without rows. */
  readonly #idle = new Line<OwnFlow>(compareFlows)
  /** How many rows are overdue from a departure on. */
  readonly #dues = new Map<number, number>()
  /** Rows that machines are collected for. */
  readonly #collecting = new Set<OwnRow>()
  /** Requests that may not say what their rows say. */
  readonly #unwritten = new Set<string>()
  #activeRows = 0

  get groups(): ReadonlyMap<string, Group> {
    return this.#groups
  }

  get flows(): ReadonlyMap<number, QueueFlow> {
    return this.#flows
  }

  /** Requests that wait. */
  get size(): number {
    return this.#rowOf.size
  }

  /** Rows that are not parked. */
  get activeRows(): number {
    return this.#activeRows
  }

  rowOf(requestId: string): Row | null {
    return this.#rowOf.get(requestId) ?? null
  }

  rowsOf(userId: number): ReadonlySet<Row> {
    return this.#flows.get(userId)?.rows ?? NO_ROWS
  }

  /** The row of a group that comes first; null: all are parked. */
  firstOf(group: Group, departures: number): Row | null {
    const { byTag, byDue } = group as OwnGroup
    const longest = byDue.first
    if (longest !== undefined && isOverdue(longest, departures)) return longest
    return byTag.first ?? null
  }

  /** Those who have something parked. */
  parkedUserIds(): Set<number> {
    const userIds = new Set<number>()
    for (const { userId, rows } of this.#flows.values())
      for (const { parked } of rows) if (parked) userIds.add(userId)
    return userIds
  }

  /** All that wait. */
  *requests(): Iterable<Request> {
    for (const { requests } of new Set(this.#rowOf.values())) yield* requests
  }

  /** Owners of the rows of a group that may come first: so many by tag, and so many of those that have waited longest. */
  nextUserIds(group: Group, count: number): number[] {
    const { byTag, byDue } = group as OwnGroup
    const rows = [...byTag.entries.slice(0, count), ...byDue.entries.slice(0, count)]
    return rows.map(({ flow }) => flow.userId)
  }

  /** Before 0: `a` comes before `b`. */
  comparePlaces(a: Row, b: Row, departures: number): number {
    return comparePlaces(a as OwnRow, b as OwnRow, departures)
  }

  isOverdue(row: Row, departures: number): boolean {
    return isOverdue(row as OwnRow, departures)
  }

  /** Whether some row is overdue since this departure. */
  becomesOverdue(departures: number): boolean {
    return this.#dues.has(departures)
  }

  /** Rows that machines are collected for. */
  get collecting(): Iterable<Row> {
    return [...this.#collecting]
  }

  /** The rows of a group that are not parked, and have a departure at which they are overdue, or have none. */
  rowsDue(group: Group, isDue: boolean): Row[] {
    const { byTag, byDue } = group as OwnGroup
    if (isDue) return [...byDue.entries]
    return byTag.entries.length === byDue.entries.length
      ? []
      : byTag.entries.filter(({ due }) => due === null)
  }

  /** The least tag that waits and is not parked. */
  get leastTag(): number {
    return this.#active.first?.tag ?? Number.POSITIVE_INFINITY
  }

  /** Whether a user waits with a row that is not parked. */
  isActive(userId: number): boolean {
    return (this.#flows.get(userId)?.active ?? 0) > 0
  }

  /** The tag of a user's flow; `v` when it has none. */
  tagOf(userId: number, v: number): number {
    return this.#flows.get(userId)?.tag ?? v
  }

  /** The groups that its requests make, and one more for each request that does not wait. */
  groupKeyOf(request: Request, waits: boolean): string {
    if (!waits) return `once ${request.id}`
    const { durationSeconds, durationSecondsMin } = request.terms
    const min = durationSecondsMin === null ? '' : ` ${stepMs(durationSecondsMin)}`
    return `${wishKey(request.wish)} ${stepMs(durationSeconds)}${min}`
  }

  /** A request joins, or is replaced by its newer version. A request that does not wait is asked for its exact length, in a group of its own. */
  put(request: Request, waits = true): Row {
    const known = this.#rowOf.get(request.id)
    if (known !== undefined) {
      this.#edit(known, true, () => {
        known.requests = known.requests.filter(({ id }) => id !== request.id)
        insert(known.requests, request)
      })
      return known
    }
    const flow = this.#flow(request.userId, 0)
    const group = this.#group(request, waits)
    let row = group.rows.get(flow.userId)
    if (row === undefined) {
      const { due, parked, collectSinceMs } = request
      const { tag } = flow
      row = { group, flow, requests: [request], tag, due, seq: request.seq, parked, collectSinceMs }
      group.rows.set(flow.userId, row)
      const joined = row
      this.#changeFlow(flow, () => flow.rows.add(joined))
      if (collectSinceMs !== null) this.#collecting.add(row)
      this.#enter(row)
    } else
      this.#edit(row, compareRequests(request, headOf(row)) < 0, ({ requests }) => insert(requests, request))
    this.#rowOf.set(request.id, row)
    this.#unwritten.add(request.id)
    return row
  }

  /** A request leaves. Its row keeps its place: the next one does not wait anew because its owner gave one up. */
  take(requestId: string): void {
    const row = this.#rowOf.get(requestId)
    if (row === undefined) return
    this.#rowOf.delete(requestId)
    const index = row.requests.findIndex(({ id }) => id === requestId)
    if (row.requests.length > 1) {
      this.#edit(row, index === 0, ({ requests }) => requests.splice(index, 1))
      return
    }
    this.#leave(row)
    this.#collecting.delete(row)
    const { group, flow } = row
    this.#changeFlow(flow, () => flow.rows.delete(row))
    group.rows.delete(flow.userId)
    if (group.rows.size === 0) this.#groups.delete(group.key)
  }

  /** What the first request of a row says of the row counts. */
  believe(row: Row): void {
    const { due, parked, collectSinceMs } = headOf(row)
    this.setRow(row, { due, parked, collectSinceMs })
  }

  setTag(userId: number, tag: number): void {
    const flow = this.#flow(userId, tag)
    if (flow.tag === tag) return
    this.#changeFlow(flow, () => {
      flow.tag = tag
    })
    for (const row of flow.rows) {
      if (!row.parked) row.group.byTag.remove(row)
      row.tag = tag
      if (!row.parked) row.group.byTag.add(row)
    }
  }

  setRow(row: Row, edit: Partial<Pick<Row, 'due' | 'parked' | 'collectSinceMs'>>): void {
    const own = row as OwnRow
    const { due, parked, collectSinceMs } = { ...own, ...edit }
    if (own.due === due && own.parked === parked && own.collectSinceMs === collectSinceMs) return
    this.#change(own, () => Object.assign(own, { due, parked, collectSinceMs }))
    if (collectSinceMs === null) this.#collecting.delete(own)
    else this.#collecting.add(own)
    this.#unwritten.add(headOf(own).id)
  }

  /** Flows without requests whose tag says no more than `v` does are forgotten. */
  forgetFlows(v: number): void {
    for (let flow = this.#idle.first; flow !== undefined && flow.tag <= v; flow = this.#idle.first) {
      this.#idle.remove(flow)
      this.#flows.delete(flow.userId)
    }
  }

  /** Writes what rows say into their requests, and returns the requests that said something else. */
  write(): Request[] {
    const written: Request[] = []
    for (const id of this.#unwritten) {
      const row = this.#rowOf.get(id)
      if (row === undefined) continue
      const i = row.requests.findIndex((request) => request.id === id)
      const request = row.requests[i] as Request
      const first = i === 0
      const due = first ? row.due : null
      const parked = first && row.parked
      const collectSinceMs = first ? row.collectSinceMs : null
      if (request.due === due && request.parked === parked && request.collectSinceMs === collectSinceMs)
        continue
      row.requests[i] = { ...request, due, parked, collectSinceMs }
      written.push(row.requests[i])
    }
    this.#unwritten.clear()
    return written
  }

  #flow(userId: number, tag: number): OwnFlow {
    let flow = this.#flows.get(userId)
    if (flow === undefined) {
      flow = { userId, tag, rows: new Set(), active: 0 }
      this.#flows.set(userId, flow)
      this.#idle.add(flow)
    }
    return flow
  }

  #group(request: Request, waits: boolean): OwnGroup {
    const key = this.groupKeyOf(request, waits)
    let group = this.#groups.get(key)
    if (group === undefined) {
      const { wish, terms } = request
      const { durationSeconds, durationSecondsMin } = terms
      const lengthOf = waits ? stepMs : (seconds: number) => seconds * 1_000
      group = {
        key,
        wish,
        count: countWished(wish),
        lengthMs: durationSeconds === null ? null : lengthOf(durationSeconds),
        lengthMsMin: durationSecondsMin === null ? null : lengthOf(durationSecondsMin),
        waits,
        rows: new Map(),
        byTag: new Line<OwnRow>((a, b) => compareTags(a, b)),
        byDue: new Line<OwnRow>((a, b) => compareDues(a, b)),
      }
      this.#groups.set(key, group)
    }
    return group
  }

  #enter(row: OwnRow): void {
    const { group, flow, due } = row
    row.seq = headOf(row).seq
    if (row.parked) return
    this.#activeRows++
    this.#countActive(flow, 1)
    group.byTag.add(row)
    if (due === null) return
    group.byDue.add(row)
    this.#dues.set(due, (this.#dues.get(due) ?? 0) + 1)
  }

  #leave(row: OwnRow): void {
    const { group, flow, due } = row
    if (row.parked) return
    this.#activeRows--
    this.#countActive(flow, -1)
    group.byTag.remove(row)
    if (due === null) return
    group.byDue.remove(row)
    const others = (this.#dues.get(due) as number) - 1
    if (others === 0) this.#dues.delete(due)
    else this.#dues.set(due, others)
  }

  #countActive(flow: OwnFlow, by: 1 | -1): void {
    const staysActive = flow.active > 0 && flow.active + by > 0
    if (staysActive) flow.active += by
    else
      this.#changeFlow(flow, () => {
        flow.active += by
      })
  }

  /** A flow changes, and is in the right line before and after. */
  #changeFlow(flow: OwnFlow, edit: () => void): void {
    this.#lineOf(flow)?.remove(flow)
    edit()
    this.#lineOf(flow)?.add(flow)
  }

  #lineOf({ rows, active }: OwnFlow): Line<OwnFlow> | null {
    return active > 0 ? this.#active : rows.size === 0 ? this.#idle : null
  }

  #change(row: OwnRow, edit: () => void): void {
    this.#leave(row)
    edit()
    this.#enter(row)
  }

  /** Requests of a row change, perhaps the first of them, at whose place the row stands. */
  #edit(row: OwnRow, isFirst: boolean, edit: (row: OwnRow) => void): void {
    if (!isFirst) {
      edit(row)
      return
    }
    this.#unwritten.add(headOf(row).id)
    this.#change(row, () => edit(row))
    this.#unwritten.add(headOf(row).id)
  }
}

function compareFlows(a: OwnFlow, b: OwnFlow): number {
  return a.tag - b.tag || a.userId - b.userId
}

const NO_ROWS: ReadonlySet<Row> = new Set()

/** Puts a request to its place among those of its row. */
function insert(requests: Request[], request: Request): void {
  let from = 0
  let to = requests.length
  while (from < to) {
    const middle = (from + to) >>> 1
    if (compareRequests(requests[middle] as Request, request) < 0) from = middle + 1
    else to = middle
  }
  requests.splice(from, 0, request)
}
