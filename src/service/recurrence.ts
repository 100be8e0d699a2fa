/**
 * What a recurring reservation comes to: an iCalendar rule (RFC 5545) in a time zone, and the windows that it means. Every
 * window has the length of the first one in hours that pass; its start has the first one's time of day in the zone, whatever
 * the offset is there and then. A time of day that the zone does not have on a day (clocks go forward) has no window on
 * that day, and of one that it has twice the earlier is meant, as the RFC says.
 *
 * The first window has to be one of the rule: what a rule means whose start it does not hold is not defined. Rules by the
 * minute or second, and those with very many windows, are refused; so is a rule that would take long to find out about.
 */
import { RRuleTemporal } from 'rrule-temporal'
import { type Refusal, refusal } from '../domain/refusal.ts'
import { HORIZON_MS } from '../domain/timeline.ts'

export interface Recurrence {
  /** The first window. */
  readonly fromMs: number
  readonly toMs: number
  /** The parts of an iCalendar recurrence rule, for instance `FREQ=WEEKLY;BYDAY=MO,WE;COUNT=10`. */
  readonly rule: string
  /** An IANA name. */
  readonly timeZone: string
  /** Starts of windows that are left out. */
  readonly except: readonly number[]
}

export interface Window {
  readonly fromMs: number
  readonly toMs: number
}

/** The most windows that a rule may have in a horizon, and the highest COUNT. */
export const OCCURRENCES_MAX = 400

const RULE_LENGTH_MAX = 500
const PERIODS_MAX = 20_000
const CANDIDATES_MAX = 20_000

const FREQUENCIES = ['HOURLY', 'DAILY', 'WEEKLY', 'MONTHLY', 'YEARLY']
const WEEKDAY = 'MO|TU|WE|TH|FR|SA|SU'

/** What each part of a rule may be: the test of one value, whether there may be several, and in words. */
const PARTS: Readonly<
  Record<string, readonly [test: (value: string) => boolean, several: boolean, words: string]>
> = {
  FREQ: [(value) => FREQUENCIES.includes(value), false, `one of ${FREQUENCIES.join(', ')}`],
  INTERVAL: [number(1, 9_999), false, 'from 1 to 9999'],
  COUNT: [number(1, OCCURRENCES_MAX), false, `from 1 to ${OCCURRENCES_MAX}`],
  UNTIL: [(value) => /^\d{8}T\d{6}Z$/.test(value), false, 'an instant in UTC such as 20271231T235959Z'],
  BYSECOND: [number(0, 59), false, 'one number from 0 to 59'],
  BYMINUTE: [number(0, 59), true, 'numbers from 0 to 59'],
  BYHOUR: [number(0, 23), true, 'numbers from 0 to 23'],
  BYDAY: [matches(`(?:[+-]?[1-9]\\d?)?(?:${WEEKDAY})`), true, 'weekdays such as MO or -1FR'],
  BYMONTHDAY: [fromEitherEnd(31), true, 'numbers from 1 to 31 or -1 to -31'],
  BYYEARDAY: [fromEitherEnd(366), true, 'numbers from 1 to 366 or -1 to -366'],
  BYWEEKNO: [fromEitherEnd(53), true, 'numbers from 1 to 53 or -1 to -53'],
  BYMONTH: [number(1, 12), true, 'numbers from 1 to 12'],
  BYSETPOS: [fromEitherEnd(366), true, 'numbers from 1 to 366 or -1 to -366'],
  WKST: [matches(WEEKDAY), false, 'a weekday such as MO'],
}

function number(min: number, max: number): (value: string) => boolean {
  return (value) => /^\d{1,4}$/.test(value) && Number(value) >= min && Number(value) <= max
}

function fromEitherEnd(max: number): (value: string) => boolean {
  const inRange = number(1, max)
  return (value) => inRange(value.replace(/^[+-]/, ''))
}

function matches(pattern: string): (value: string) => boolean {
  const whole = new RegExp(`^(?:${pattern})$`)
  return (value) => whole.test(value)
}

/** The windows of a rule that begin from `afterMs` to `untilMs`, in their order; at most a horizon's. */
export function occurrences(recurrence: Recurrence, afterMs: number, untilMs: number): Window[] | Refusal {
  const wrong = wrongZone(recurrence.timeZone) ?? wrongRule(recurrence.rule)
  if (wrong !== null) return wrong
  const { fromMs, toMs, rule: text, timeZone } = recurrence
  let starts: number[]
  try {
    const rule = new RRuleTemporal({
      rruleString: `RRULE:${text}`,
      // The instant and its zone; nothing else of a Temporal.ZonedDateTime is looked at.
      dtstart: { timeZoneId: timeZone, toString: () => `${new Date(fromMs).toISOString()}[${timeZone}]` },
      strict: true,
      cache: false,
      maxIterations: PERIODS_MAX,
      maxCandidateEvaluations: CANDIDATES_MAX,
    })
    const first = rule.between(new Date(fromMs), new Date(fromMs), true)
    if (first.length === 0)
      return wrongPart(text, 'a rule that the first window fits: its start is not one of the rule’s')
    const last = Math.min(untilMs, afterMs + HORIZON_MS)
    const after = Math.max(afterMs, fromMs)
    starts =
      last < after
        ? []
        : rule
            .between(new Date(after), new Date(last), true)
            .map(({ epochMilliseconds }) => epochMilliseconds)
  } catch (error) {
    return wrongPart(text, `a recurrence rule that can be followed (${(error as Error).message})`)
  }
  if (starts.length > OCCURRENCES_MAX)
    return wrongPart(
      text,
      `a rule with at most ${OCCURRENCES_MAX} windows in ${HORIZON_MS / 86_400_000} days`,
    )
  const except = new Set(recurrence.except)
  return starts.filter((ms) => !except.has(ms)).map((ms) => ({ fromMs: ms, toMs: ms + (toMs - fromMs) }))
}

function wrongZone(timeZone: string): Refusal | null {
  try {
    // Offsets are no names: they know of no change of clocks.
    if (/^[a-z]/i.test(timeZone)) {
      new Intl.DateTimeFormat('en', { timeZone })
      return null
    }
  } catch {
    // no such zone
  }
  const allowed = 'the name of a time zone such as Europe/Berlin or UTC'
  return refusal('field_invalid', { field: 'recurrence.time_zone', value: timeZone, allowed })
}

function wrongRule(text: string): Refusal | null {
  if (text.length > RULE_LENGTH_MAX) return wrongPart(text, `at most ${RULE_LENGTH_MAX} characters`)
  const seen = new Set<string>()
  for (const part of text.split(';')) {
    const [name = '', value, ...more] = part.split('=')
    const known = Object.hasOwn(PARTS, name) ? PARTS[name] : undefined
    if (known === undefined || value === undefined || more.length > 0)
      return wrongPart(
        part,
        `a part of a recurrence rule such as FREQ=DAILY, one of ${Object.keys(PARTS).join(', ')}`,
      )
    if (seen.has(name)) return wrongPart(text, `a rule that says ${name} once`)
    seen.add(name)
    const [test, several, words] = known
    const values = several ? value.split(',') : [value]
    if (!values.every(test)) return wrongPart(part, `${name}= and ${words}`)
  }
  if (!seen.has('FREQ')) return wrongPart(text, 'a recurrence rule with FREQ, such as FREQ=DAILY')
  if (seen.has('COUNT') && seen.has('UNTIL')) return wrongPart(text, 'a rule with COUNT or UNTIL, not both')
  // Where to go on would have to be counted hour by hour from its beginning.
  if (text.includes('FREQ=HOURLY') && seen.has('COUNT') && [...seen].some((name) => name.startsWith('BY')))
    return wrongPart(
      text,
      'a rule with UNTIL in place of COUNT, because it goes by the hour and has BY… parts',
    )
  return null
}

function wrongPart(value: string, allowed: string): Refusal {
  return refusal('field_invalid', { field: 'recurrence.rule', value, allowed })
}
