/** Which windows a recurrence rule means, above all where clocks change; and which rules are refused, and with which words. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { isRefusal } from '../domain/refusal.ts'
import { HORIZON_MS } from '../domain/timeline.ts'
import { occurrences, type Recurrence } from './recurrence.ts'

const HOUR_MS = 3_600_000

function recurrence(zone: string, from: string, rule: string, hours = 1, except: string[] = []): Recurrence {
  const fromMs = Date.parse(from)
  return {
    fromMs,
    toMs: fromMs + hours * HOUR_MS,
    rule,
    timeZone: zone,
    except: except.map((text) => Date.parse(text)),
  }
}

/** The windows of the first 90 days, as texts. */
function windows(of: Recurrence): string[] {
  const found = occurrences(of, of.fromMs, of.fromMs + HORIZON_MS)
  assert.ok(!isRefusal(found), isRefusal(found) ? found.message : '')
  for (const { fromMs, toMs } of found) assert.equal(toMs - fromMs, of.toMs - of.fromMs)
  return found.map(({ fromMs }) => new Date(fromMs).toISOString().slice(0, 16))
}

const BERLIN = 'Europe/Berlin'
const NEW_YORK = 'America/New_York'

describe('a recurrence rule', () => {
  for (const [what, of, expected] of [
    [
      'keeps the time of day when clocks go forward in Berlin',
      recurrence(BERLIN, '2027-03-27T08:00Z', 'FREQ=DAILY;COUNT=3'),
      ['2027-03-27T08:00', '2027-03-28T07:00', '2027-03-29T07:00'],
    ],
    [
      'keeps it when they go back in Berlin',
      recurrence(BERLIN, '2027-10-30T07:00Z', 'FREQ=DAILY;COUNT=3'),
      ['2027-10-30T07:00', '2027-10-31T08:00', '2027-11-01T08:00'],
    ],
    [
      'keeps it when clocks go forward in New York',
      recurrence(NEW_YORK, '2027-03-13T14:00Z', 'FREQ=DAILY;COUNT=3'),
      ['2027-03-13T14:00', '2027-03-14T13:00', '2027-03-15T13:00'],
    ],
    [
      'keeps it when they go back in New York',
      recurrence(NEW_YORK, '2027-11-06T13:00Z', 'FREQ=DAILY;COUNT=3'),
      ['2027-11-06T13:00', '2027-11-07T14:00', '2027-11-08T14:00'],
    ],
    [
      'leaves out a time of day that a day does not have (half past two in Berlin)',
      recurrence(BERLIN, '2027-03-27T01:30Z', 'FREQ=DAILY;COUNT=3'),
      ['2027-03-27T01:30', '2027-03-29T00:30', '2027-03-30T00:30'],
    ],
    [
      'leaves it out in New York',
      recurrence(NEW_YORK, '2027-03-13T07:30Z', 'FREQ=DAILY;COUNT=3'),
      ['2027-03-13T07:30', '2027-03-15T06:30', '2027-03-16T06:30'],
    ],
    [
      'takes the earlier of two in Berlin',
      recurrence(BERLIN, '2027-10-30T00:30Z', 'FREQ=DAILY;COUNT=3'),
      ['2027-10-30T00:30', '2027-10-31T00:30', '2027-11-01T01:30'],
    ],
    [
      'takes the earlier of two in New York',
      recurrence(NEW_YORK, '2027-11-06T05:30Z', 'FREQ=DAILY;COUNT=3'),
      ['2027-11-06T05:30', '2027-11-07T05:30', '2027-11-08T06:30'],
    ],
    [
      'may begin in the later of two',
      recurrence(BERLIN, '2027-10-31T01:30Z', 'FREQ=DAILY;COUNT=2'),
      ['2027-10-31T01:30', '2027-11-01T01:30'],
    ],
    [
      'does not change its time of day in a zone without changes',
      recurrence('UTC', '2027-03-27T08:00Z', 'FREQ=DAILY;COUNT=3'),
      ['2027-03-27T08:00', '2027-03-28T08:00', '2027-03-29T08:00'],
    ],
    [
      'ends with UNTIL, that instant included',
      recurrence(BERLIN, '2027-10-18T07:00Z', 'FREQ=WEEKLY;BYDAY=MO,WE;UNTIL=20271027T070000Z'),
      ['2027-10-18T07:00', '2027-10-20T07:00', '2027-10-25T07:00', '2027-10-27T07:00'],
    ],
    [
      'counts what is left out',
      recurrence(BERLIN, '2027-10-18T07:00Z', 'FREQ=DAILY;COUNT=4', 1, [
        '2027-10-18T07:00Z',
        '2027-10-20T07:00Z',
      ]),
      ['2027-10-19T07:00', '2027-10-21T07:00'],
    ],
    [
      'knows the first Monday of a month',
      recurrence(BERLIN, '2027-10-04T07:00Z', 'FREQ=MONTHLY;BYDAY=1MO'),
      ['2027-10-04T07:00', '2027-11-01T08:00', '2027-12-06T08:00'],
    ],
    [
      'knows the last working day of a month',
      recurrence(NEW_YORK, '2027-01-29T14:00Z', 'FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1'),
      ['2027-01-29T14:00', '2027-02-26T14:00', '2027-03-31T13:00'],
    ],
    [
      'knows every other week',
      recurrence(BERLIN, '2027-05-04T07:00Z', 'FREQ=WEEKLY;INTERVAL=2;COUNT=3'),
      ['2027-05-04T07:00', '2027-05-18T07:00', '2027-06-01T07:00'],
    ],
    [
      'has windows of the same length of time, over a change of clocks too',
      recurrence(BERLIN, '2027-03-26T21:00Z', 'FREQ=DAILY;COUNT=3', 10),
      ['2027-03-26T21:00', '2027-03-27T21:00', '2027-03-28T20:00'],
    ],
    [
      'goes by the hour',
      recurrence('UTC', '2027-03-27T08:00Z', 'FREQ=HOURLY;INTERVAL=6;COUNT=2'),
      ['2027-03-27T08:00', '2027-03-27T14:00'],
    ],
  ] as const)
    it(what, () => assert.deepEqual(windows(of), [...expected]))

  it('has no window behind the horizon', () => {
    const of = recurrence(BERLIN, '2027-03-01T07:00Z', 'FREQ=DAILY')
    assert.equal(windows(of).length, 91)
    const found = occurrences(of, of.fromMs, of.fromMs + 2 * HORIZON_MS)
    assert.equal((found as []).length, 91)
  })

  it('goes on where it was left, as if it had been followed at once', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(
          'FREQ=DAILY',
          'FREQ=DAILY;COUNT=50',
          'FREQ=WEEKLY;BYDAY=MO,TH',
          'FREQ=DAILY;INTERVAL=3',
          'FREQ=MONTHLY',
        ),
        fc.constantFrom(BERLIN, NEW_YORK, 'UTC', 'Australia/Lord_Howe'),
        fc.integer({ min: 1, max: 89 * 24 }),
        (rule, zone, hours) => {
          const of = recurrence(zone, '2027-09-02T12:15Z', rule)
          const at = of.fromMs + hours * HOUR_MS
          const parts = [occurrences(of, of.fromMs, at - 1), occurrences(of, at, of.fromMs + HORIZON_MS)]
          assert.deepEqual(parts.flat(), occurrences(of, of.fromMs, of.fromMs + HORIZON_MS))
        },
      ),
      { numRuns: 60 },
    )
  })

  it('has no window before its first', () => {
    const of = recurrence(BERLIN, '2027-03-01T07:00Z', 'FREQ=DAILY')
    assert.deepEqual(occurrences(of, of.fromMs - 5 * HOUR_MS, of.fromMs - 1), [])
    assert.equal((occurrences(of, of.fromMs - 5 * HOUR_MS, of.fromMs) as []).length, 1)
  })
})

describe('a rule that is refused', () => {
  const every60 = [...Array(60).keys()].join()
  for (const [rule, value, allowed] of [
    ['FREQ=SECONDLY', 'FREQ=SECONDLY', 'FREQ= and one of HOURLY, DAILY, WEEKLY, MONTHLY, YEARLY'],
    ['FREQ=MINUTELY;INTERVAL=90', 'FREQ=MINUTELY', /^FREQ= and one of/],
    ['', '', /^a part of a recurrence rule/],
    ['every day', 'every day', /^a part of a recurrence rule/],
    ['COUNT=3', 'COUNT=3', 'a recurrence rule with FREQ, such as FREQ=DAILY'],
    ['FREQ=DAILY;FREQ=WEEKLY', 'FREQ=DAILY;FREQ=WEEKLY', 'a rule that says FREQ once'],
    ['FREQ=DAILY;', '', /^a part of a recurrence rule/],
    ['FREQ=DAILY;toString=1', 'toString=1', /^a part of a recurrence rule/],
    ['FREQ=DAILY;COUNT=0', 'COUNT=0', 'COUNT= and from 1 to 400'],
    ['FREQ=DAILY;COUNT=401', 'COUNT=401', 'COUNT= and from 1 to 400'],
    ['FREQ=DAILY;INTERVAL=0', 'INTERVAL=0', 'INTERVAL= and from 1 to 9999'],
    ['FREQ=DAILY;BYHOUR=24', 'BYHOUR=24', 'BYHOUR= and numbers from 0 to 23'],
    ['FREQ=DAILY;BYDAY=XX', 'BYDAY=XX', 'BYDAY= and weekdays such as MO or -1FR'],
    ['FREQ=DAILY;BYSECOND=0,1', 'BYSECOND=0,1', 'BYSECOND= and one number from 0 to 59'],
    ['FREQ=MONTHLY;BYMONTHDAY=0', 'BYMONTHDAY=0', 'BYMONTHDAY= and numbers from 1 to 31 or -1 to -31'],
    ['FREQ=DAILY;UNTIL=20270101', 'UNTIL=20270101', 'UNTIL= and an instant in UTC such as 20271231T235959Z'],
    [
      'FREQ=DAILY;UNTIL=20279999T000000Z',
      'FREQ=DAILY;UNTIL=20279999T000000Z',
      /^a recurrence rule that can be followed/,
    ],
    [
      'FREQ=DAILY;COUNT=2;UNTIL=20271231T235959Z',
      'FREQ=DAILY;COUNT=2;UNTIL=20271231T235959Z',
      'a rule with COUNT or UNTIL, not both',
    ],
    ['FREQ=DAILY\nEXDATE:20270101T000000Z', 'FREQ=DAILY\nEXDATE:20270101T000000Z', /^FREQ= and one of/],
    ['FREQ=HOURLY', 'FREQ=HOURLY', 'a rule with at most 400 windows in 90 days'],
    ['FREQ=HOURLY;COUNT=3;BYHOUR=7', 'FREQ=HOURLY;COUNT=3;BYHOUR=7', /^a rule with UNTIL in place of COUNT/],
    [
      `FREQ=HOURLY;BYMINUTE=${every60}`,
      `FREQ=HOURLY;BYMINUTE=${every60}`,
      /^a recurrence rule that can be followed/,
    ],
    ['FREQ=WEEKLY;BYDAY=TU', 'FREQ=WEEKLY;BYDAY=TU', /^a rule that the first window fits/],
    [`FREQ=DAILY;BYDAY=${'MO,'.repeat(200)}MO`, undefined, 'at most 500 characters'],
  ] as const)
    it(`names what is wrong: ${JSON.stringify(rule).slice(0, 60)}`, () => {
      const monday = recurrence(BERLIN, '2027-10-18T07:00Z', rule)
      const no = occurrences(monday, monday.fromMs, monday.fromMs + HORIZON_MS)
      assert.ok(isRefusal(no))
      assert.equal(no.code, 'field_invalid')
      assert.equal(no.details.field, 'recurrence.rule')
      if (value !== undefined) assert.equal(no.details.value, value)
      if (typeof allowed === 'string') assert.equal(no.details.allowed, allowed)
      else assert.match(String(no.details.allowed), allowed)
    })

  for (const zone of ['Europe/Nowhere', '', '+02:00', 'no zone'])
    it(`names a time zone that does not exist: '${zone}'`, () => {
      const no = occurrences(recurrence(zone, '2027-10-18T07:00Z', 'FREQ=DAILY'), 0, 1)
      assert.ok(isRefusal(no))
      assert.deepEqual([no.details.field, no.details.value], ['recurrence.time_zone', zone])
    })

  it('is refused whatever is sent, never thrown', () => {
    const part = fc.oneof(
      fc.constantFrom(
        'FREQ=DAILY',
        'FREQ=WEEKLY',
        'FREQ=YEARLY',
        'COUNT=5',
        'BYDAY=MO',
        'BYDAY=5MO',
        'BYSETPOS=3',
        'BYWEEKNO=53',
      ),
      fc.constantFrom(
        'BYMONTHDAY=31',
        'BYMONTH=2',
        'BYYEARDAY=366',
        'INTERVAL=9999',
        'UNTIL=00000000T000000Z',
        'WKST=SU',
        'BYHOUR=1,2',
      ),
      fc.string({ maxLength: 12 }),
    )
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
        const of = recurrence(BERLIN, '2027-10-18T07:00Z', parts.join(';'))
        const found = occurrences(of, of.fromMs, of.fromMs + HORIZON_MS)
        assert.ok(isRefusal(found) || found.length <= 400)
      }),
      { numRuns: 150 },
    )
  })
})
