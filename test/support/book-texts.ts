/** What a book in memory says, so that it can be compared with one that is built from the rows. */
import type { Book } from '../../src/domain/book.ts'

/** What a book says, as texts that can be compared. Promises are made anew by each settlement, and not part of it. */
export function bookTexts(book: Book, nowMs: number): Record<string, string> {
  const { queue } = book
  const classes = [...book.classes.values()].filter(({ existing }) => existing > 0)
  const rows = [...queue.groups.values()].flatMap((group) =>
    [...group.rows.values()].map(({ flow, due, parked, collectSinceMs, requests }) => ({
      group: group.key,
      userId: flow.userId,
      tag: flow.tag,
      due,
      parked,
      collectSinceMs,
      requests: requests.map(({ id }) => id),
    })),
  )
  const sorted = (texts: readonly string[]) => texts.toSorted().join('; ')
  return book.withoutPromises(() => ({
    // How many wait and are booked is counted from it, and its version stands beside it.
    'the pool': JSON.stringify({
      ...book.pool,
      queue: { ...book.pool.queue, waiting: null, booked: null, version: null },
    }),
    classes: sorted(
      classes.map(({ key, ready, usable, existing, soft }) =>
        JSON.stringify({ key, ready, usable, existing, soft: [...soft.keys()].sort() }),
      ),
    ),
    timelines: sorted(
      classes.map(({ key, timeline }) => `${key} ${JSON.stringify([...timeline.steps(nowMs, null)])}`),
    ),
    requests: sorted(rows.map((row) => JSON.stringify(row))),
    reservations: sorted([...book.reservations.values()].map((reservation) => JSON.stringify(reservation))),
  }))
}
