/**
 * `npm run bench -- day`: a synthetic day of a pool, replayed with different orders: how long who waits, and how well the machines
 * are used. 60 small and 20 large machines, cleaned in 3 minutes; one user asks for 1,000 hours at 01:00 (and gives each machine
 * back after 35 minutes on average), 40 users ask for one machine an hour each, and some 28 requests are for 25 small machines, or
 * for 10 small and 8 large.
 *
 * First come, first served is a loop of its own here. With each request as a user of its own the allocator is first come, first
 * served with passing: then nobody has a share.
 */
import { kindOf, Lab } from '../test/support/lab.ts'

const SMALL = 60
const LARGE = 20
const CLEAN_MINUTES = 3
const DAY_MINUTES = 24 * 60

type Who = 'light' | 'big' | 'flood'

interface Job {
  readonly who: Who
  readonly userId: number
  readonly atMinute: number
  readonly small: number
  readonly large: number
  /** How long the lease may be, and how long it is held. */
  readonly minutes: number
  readonly heldMinutes: number
}

/** Numbers in [0, 1) that are the same for the same seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const FLOOD_USER = 1

function jobsOf(seed: number): Job[] {
  const random = randomOf(seed)
  const job = (
    who: Who,
    userId: number,
    atMinute: number,
    small: number,
    large: number,
    minutes: number,
  ): Job => {
    const share = who === 'flood' ? 1 / 6 + random() * (5 / 6) : 0.3 + random() * 0.7
    return { who, userId, atMinute, small, large, minutes, heldMinutes: minutes * share }
  }
  const jobs = Array.from({ length: 1_000 }, () => job('flood', FLOOD_USER, 60, 1, 0, 60))
  for (let user = 0; user < 40; user++)
    for (let hour = 0; hour < 24; hour++) {
      const isLarge = random() < 0.2
      const minutes = [20, 30, 60][Math.floor(random() * 3)] ?? 60
      jobs.push(job('light', 10 + user, (hour + random()) * 60, isLarge ? 0 : 1, isLarge ? 1 : 0, minutes))
    }
  for (let i = 0; i < 28; i++) {
    const [small, large] = random() < 0.5 ? [25, 0] : [10, 8]
    jobs.push(job('big', 100 + (i % 7), random() * DAY_MINUTES, small, large, 60))
  }
  return jobs.sort((a, b) => a.atMinute - b.atMinute)
}

/** Somebody who hands out machines: told what happens, it says who is granted theirs. */
interface Desk {
  join(job: Job, minute: number): void
  giveBack(job: Job, minute: number): void
  clean(job: Job, minute: number): void
  grant(minute: number): Job[]
}

class FirstComeDesk implements Desk {
  readonly #queue: Job[] = []
  #small = SMALL
  #large = LARGE

  join(job: Job): void {
    this.#queue.push(job)
  }

  giveBack(): void {}

  clean(job: Job): void {
    this.#small += job.small
    this.#large += job.large
  }

  grant(): Job[] {
    const granted: Job[] = []
    for (let job = this.#queue[0]; job !== undefined; job = this.#queue[0]) {
      if (job.small > this.#small || job.large > this.#large) break
      this.#queue.shift()
      this.#small -= job.small
      this.#large -= job.large
      granted.push(job)
    }
    return granted
  }
}

class AllocatorDesk implements Desk {
  readonly #lab = new Lab(
    { small: SMALL, large: LARGE },
    { gridSeconds: 60, marginSeconds: CLEAN_MINUTES * 60 },
  )
  readonly #jobs = new Map<string, Job>()
  readonly #vmIds = new Map<Job, readonly number[]>()
  readonly #shares: boolean

  constructor(shares: boolean) {
    this.#shares = shares
  }

  join(job: Job, minute: number): void {
    this.#lab.nowMs = this.#lab.at(minute)
    const wish = [
      ...(job.small > 0 ? [kindOf({ type: 'small', count: job.small })] : []),
      ...(job.large > 0 ? [kindOf({ type: 'large', count: job.large })] : []),
    ]
    const userId = this.#shares ? job.userId : 1_000 + this.#jobs.size
    this.#jobs.set(this.#lab.join(userId, { wish, minutes: job.minutes }), job)
  }

  giveBack(job: Job, minute: number): void {
    this.#lab.nowMs = this.#lab.at(minute)
    for (const vmId of this.#vmIds.get(job) ?? []) this.#lab.checkIn(vmId)
  }

  clean(job: Job, minute: number): void {
    this.#lab.nowMs = this.#lab.at(minute)
    for (const vmId of this.#vmIds.get(job) ?? []) this.#lab.ready(vmId)
  }

  grant(minute: number): Job[] {
    this.#lab.nowMs = this.#lab.at(minute)
    const before = this.#lab.granted.length
    this.#lab.settleAll()
    return this.#lab.granted.slice(before).flatMap(({ id, vmIds }) => {
      const job = this.#jobs.get(id)
      if (job === undefined) return []
      this.#vmIds.set(job, vmIds)
      return [job]
    })
  }
}

interface Outcome {
  readonly waits: Record<Who, number[]>
  /** Small machines leased while anybody waited, of all. */
  readonly used: number
}

function replay(desk: Desk, jobs: readonly Job[]): Outcome {
  /** What is to happen, by minute: sorted, latest first. */
  const events: { minute: number; act: () => void }[] = []
  const at = (minute: number, act: () => void) => {
    let index = events.length
    while (index > 0 && (events[index - 1]?.minute ?? 0) < minute) index--
    events.splice(index, 0, { minute, act })
  }
  const waits: Outcome['waits'] = { light: [], big: [], flood: [] }
  let waiting = 0
  let leased = 0
  let usedMinutes = 0
  let waitedMinutes = 0
  let last = 0
  for (const job of [...jobs].reverse())
    events.push({
      minute: job.atMinute,
      act: () => {
        waiting++
        desk.join(job, job.atMinute)
      },
    })
  for (let event = events.pop(); event !== undefined; event = events.pop()) {
    const { minute } = event
    if (waiting > 0) {
      usedMinutes += leased * (minute - last)
      waitedMinutes += minute - last
    }
    last = minute
    event.act()
    // Whoever asks in the same moment is in the same batch.
    if (events.at(-1)?.minute === minute) continue
    for (const job of desk.grant(minute)) {
      waiting--
      leased += job.small
      waits[job.who].push(minute - job.atMinute)
      const end = minute + job.heldMinutes
      at(end, () => {
        leased -= job.small
        desk.giveBack(job, end)
      })
      at(end + CLEAN_MINUTES, () => desk.clean(job, end + CLEAN_MINUTES))
    }
  }
  return { waits, used: waitedMinutes === 0 ? 0 : usedMinutes / (waitedMinutes * SMALL) }
}

const ORDERS: readonly { readonly what: string; desk(): Desk }[] = [
  { what: 'first come, first served', desk: () => new FirstComeDesk() },
  { what: 'the same, with passing', desk: () => new AllocatorDesk(false) },
  { what: 'fair shares, with passing', desk: () => new AllocatorDesk(true) },
]

/** Prints waits in minutes (mean / 95th percentile / longest) and how well machines were used, over `days` days. */
export function benchDay(days: number): void {
  console.log(`| order | light users | big requests | flood | small machines leased while anybody waits |`)
  console.log('|---|---|---|---|---|')
  for (const { what, desk } of ORDERS) {
    const outcomes = Array.from({ length: days }, (_, i) => replay(desk(), jobsOf(i + 1)))
    const cell = (who: Who) => summary(outcomes.flatMap(({ waits }) => waits[who]))
    const used = outcomes.reduce((sum, outcome) => sum + outcome.used, 0) / days
    console.log(
      `| ${what} | ${cell('light')} | ${cell('big')} | ${cell('flood')} | ${(used * 100).toFixed(1)} % |`,
    )
  }
}

function summary(waits: number[]): string {
  const sorted = [...waits].sort((a, b) => a - b)
  const mean = sorted.reduce((sum, wait) => sum + wait, 0) / sorted.length
  const p95 = sorted[Math.ceil(sorted.length * 0.95) - 1] ?? 0
  return [mean, p95, sorted.at(-1) ?? 0].map((minutes) => minutes.toFixed(minutes < 10 ? 1 : 0)).join(' / ')
}
