/**
 * Reservations and leases as a calendar, and when a pool has nothing free: iCalendar text (RFC 5545) that calendar programs
 * subscribe to. All times are in UTC. An entry keeps its UID for ever, so programs know it again when it changes; a lease
 * without end is shown until an hour from now, and grows with each refresh.
 */
import type { FreeSpan } from '../domain/free-busy.ts'
import type { Lease } from '../domain/lease.ts'
import type { Reservation } from '../domain/reservation.ts'
import type { Labels } from '../domain/vm-class.ts'
import type { Kind, Wish } from '../domain/wish.ts'

/** What a calendar shows. */
export interface CalendarEntry {
  /** The same for the same thing, for ever. */
  readonly uid: string
  readonly fromMs: number
  readonly toMs: number
  readonly summary: string
  readonly description: string
  readonly location: string
  readonly status: 'CONFIRMED' | 'TENTATIVE' | 'CANCELLED'
}

/** How often calendar programs should ask again. */
const REFRESH = 'PT15M'

const SHOWN_WITHOUT_END_MS = 3_600_000

/** Bytes of a line, without its end. */
const LINE_BYTES_MAX = 75

/** A calendar called `name`, as text. */
export function calendar(name: string, entries: readonly CalendarEntry[], nowMs: number): string {
  return document(
    name,
    entries.flatMap((entry) => eventLines(entry, nowMs)),
  )
}

/** When nothing of a pool is free, as text. Give it only the classes that are asked for. */
export function busyCalendar(name: string, spans: readonly FreeSpan[], host: string, nowMs: number): string {
  const [first, last] = [spans[0], spans.at(-1)]
  if (first === undefined || last === undefined) return document(name, [])
  const busy: { fromMs: number; toMs: number }[] = []
  for (const { fromMs, toMs, free } of spans) {
    if ([...free.values()].some((count) => count > 0)) continue
    const before = busy.at(-1)
    if (before !== undefined && before.toMs === fromMs) before.toMs = toMs
    else busy.push({ fromMs, toMs })
  }
  return document(name, [
    'BEGIN:VFREEBUSY',
    `UID:${escaped(`pool-${name}@${host}`)}`,
    `DTSTAMP:${utc(nowMs)}`,
    `DTSTART:${utc(first.fromMs)}`,
    `DTEND:${utc(last.toMs)}`,
    ...busy.map(({ fromMs, toMs }) => `FREEBUSY;FBTYPE=BUSY:${utc(fromMs)}/${utc(toMs)}`),
    'END:VFREEBUSY',
  ])
}

/** A reservation of the pool called `pool`; `host` is the name of this installation. */
export function reservationEntry(reservation: Reservation, pool: string, host: string): CalendarEntry {
  const { id, fromMs, toMs, wish, state, atRisk, missing, purpose, labels } = reservation
  const machines = wishText(wish)
  return {
    uid: `reservation-${id}@${host}`,
    fromMs,
    toMs,
    summary: purpose ?? `${machines} of ${pool}`,
    description: lines(machines, atRisk ? `At risk: ${missing} missing` : null, labelText(labels), id),
    location: pool,
    status: state === 'cancelled' || state === 'no_show' ? 'CANCELLED' : atRisk ? 'TENTATIVE' : 'CONFIRMED',
  }
}

/** The lease of the machine called `vm`. */
export function leaseEntry(
  lease: Lease,
  vm: string,
  pool: string,
  host: string,
  nowMs: number,
): CalendarEntry {
  const { vmId, generation, fromMs, endsAtMs, endedAtMs, purpose, labels } = lease
  const shownUntilMs = Math.max(fromMs, nowMs) + SHOWN_WITHOUT_END_MS
  return {
    uid: `lease-${vmId}-${generation}@${host}`,
    fromMs,
    toMs: endedAtMs ?? endsAtMs ?? shownUntilMs,
    summary: purpose === null ? `${vm} of ${pool}` : `${vm}: ${purpose}`,
    description: lines(
      `Machine ${vm} of ${pool}`,
      endedAtMs === null && endsAtMs === null ? 'Without end' : null,
      labelText(labels),
    ),
    location: pool,
    status: 'CONFIRMED',
  }
}

function wishText(wish: Wish): string {
  return wish.map(kindText).join(', ')
}

function kindText({ type, labels, vmId, count }: Kind): string {
  if (vmId !== null) return `machine ${vmId}`
  const what = [type ?? 'any', labelText(labels)].filter((part) => part !== null).join(' ')
  return `${count} × ${what}`
}

function labelText(labels: Labels): string | null {
  const pairs = Object.entries(labels)
  return pairs.length === 0 ? null : pairs.map(([name, value]) => `${name}=${value}`).join(' ')
}

function lines(...texts: (string | null)[]): string {
  return texts.filter((text) => text !== null).join('\n')
}

function eventLines(entry: CalendarEntry, nowMs: number): string[] {
  return [
    'BEGIN:VEVENT',
    `UID:${escaped(entry.uid)}`,
    `DTSTAMP:${utc(nowMs)}`,
    `DTSTART:${utc(entry.fromMs)}`,
    `DTEND:${utc(entry.toMs)}`,
    `SUMMARY:${escaped(entry.summary)}`,
    `DESCRIPTION:${escaped(entry.description)}`,
    `LOCATION:${escaped(entry.location)}`,
    `STATUS:${entry.status}`,
    'TRANSP:OPAQUE',
    'END:VEVENT',
  ]
}

function document(name: string, content: readonly string[]): string {
  const all = [
    'BEGIN:VCALENDAR',
    'VERSION:2.0',
    'PRODID:-//Berth//Berth//EN',
    'CALSCALE:GREGORIAN',
    'METHOD:PUBLISH',
    `NAME:${escaped(name)}`,
    `X-WR-CALNAME:${escaped(name)}`,
    `REFRESH-INTERVAL;VALUE=DURATION:${REFRESH}`,
    `X-PUBLISHED-TTL:${REFRESH}`,
    ...content,
    'END:VCALENDAR',
  ]
  return all.map((line) => `${folded(line)}\r\n`).join('')
}

/** To the second: iCalendar has no fractions. */
function utc(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`
}

function escaped(text: string): string {
  return (
    text
      .replace(/[\\;,]/g, (character) => `\\${character}`)
      .replace(/\r?\n/g, '\\n')
      // biome-ignore lint/suspicious/noControlCharactersInRegex: iCalendar text has no control characters but tabs
      .replace(/[\u0000-\u0008\u000a-\u001f\u007f]/g, ' ')
  )
}

/** A line as lines of bearable length, each but the first beginning with a blank; no character is cut in two. */
function folded(line: string): string {
  if (Buffer.byteLength(line) <= LINE_BYTES_MAX) return line
  let text = ''
  let bytes = 0
  for (const character of line) {
    const more = Buffer.byteLength(character)
    if (bytes + more > LINE_BYTES_MAX) {
      text += '\r\n '
      bytes = 1
    }
    text += character
    bytes += more
  }
  return text
}
