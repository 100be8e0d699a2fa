/**
 * The shortest schedule that still breaks the same promise: the record of a failed run is replayed with parts left out or put
 * back to the plain choice, again and again, for as long as that is worth it. What is found is not the shortest there is, but
 * short enough to read.
 */
import { type ChoiceRecord, STREAMS, type Stream } from './choices.ts'
import { type RunResult, type RunSettings, simulate } from './run.ts'

export interface ShrinkLimits {
  readonly runsMax: number
  /** Asked before each run: false ends it. */
  readonly goOn: () => boolean
}

/** A shorter run that breaks the same promise; the same one when none was found. */
export async function shrink(
  failed: RunResult,
  settings: Pick<RunSettings, 'store' | 'faults'>,
  limits: ShrinkLimits,
): Promise<RunResult> {
  const promise = failed.breach?.promise
  let best = failed
  let runs = 0
  const store = settings.store ?? failed.store

  /** Replays a record; when it breaks the same promise it is the best from now on. */
  async function tries(record: ChoiceRecord, steps: number): Promise<boolean> {
    if (runs >= limits.runsMax || !limits.goOn()) return false
    runs++
    const run = await simulate({
      source: { record: trimmed(record) },
      steps,
      ...settings,
      traced: false,
    })
    if (run.breach?.promise !== promise || run.store !== store) return false
    best = run
    return true
  }

  for (let before = -1; before !== cost(best); ) {
    before = cost(best)
    // Fewer steps before the faults stop, where the breach is not of those.
    for (let cut = best.steps >> 1; cut >= 1; cut >>= 1)
      while (best.steps > cut && (await tries(best.record, best.steps - cut))) {
        // Again.
      }
    for (const stream of ['plan', 'faults', 'clients', 'order'] as const) {
      for (let size = longest(best, stream); size >= 1; size >>= 1) {
        for (let at = best.record[stream].length - size; at > -size; at -= size) {
          const list = best.record[stream]
          const from = Math.max(0, at)
          const part = list.slice(from, at + size)
          if (part.length === 0) continue
          const zeros = part.map(() => 0)
          if (
            part.some((choice) => choice !== 0) &&
            (await tries(edited(best.record, stream, from, part.length, zeros), best.steps))
          )
            continue
          if (stream !== 'plan') await tries(edited(best.record, stream, from, part.length, []), best.steps)
        }
        if (runs >= limits.runsMax || !limits.goOn()) break
      }
    }
  }
  const traced = await simulate({
    source: { record: trimmed(best.record) },
    steps: best.steps,
    ...settings,
    traced: true,
  })
  return traced.breach === null ? best : traced
}

/** What is to become small: choices other than the plain ones, then the length. */
function cost({ record, steps }: RunResult): number {
  let sum = steps
  for (const stream of STREAMS) for (const choice of record[stream]) if (choice !== 0) sum += 100
  return sum
}

function longest({ record }: RunResult, stream: Stream): number {
  let size = 1
  while (size * 2 <= record[stream].length) size *= 2
  return size
}

function edited(
  record: ChoiceRecord,
  stream: Stream,
  from: number,
  n: number,
  by: readonly number[],
): ChoiceRecord {
  return { ...record, [stream]: record[stream].toSpliced(from, n, ...by) }
}

/** Without the plain choices at the end of each stream, which are taken anyway. */
function trimmed(record: ChoiceRecord): ChoiceRecord {
  const trim = (list: readonly number[]) => list.slice(0, list.findLastIndex((choice) => choice !== 0) + 1)
  const { plan, clients, order, faults } = record
  return { plan: trim(plan), clients: trim(clients), order: trim(order), faults: trim(faults) }
}
