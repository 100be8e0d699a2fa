/** The calendar's text is read back with another program's parser, and its lines are held against RFC 5545. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import ICAL from 'ical.js'
import type { Lease } from '../domain/lease.ts'
import type { Reservation } from '../domain/reservation.ts'
import { busyCalendar, type CalendarEntry, calendar, leaseEntry, reservationEntry } from './calendar.ts'

const NOW_MS = Date.parse('2027-03-01T12:00:00Z')
const HOUR_MS = 3_600_000

function read(text: string): ICAL.Component {
  return new ICAL.Component(ICAL.parse(text))
}

function textOf(component: ICAL.Component, name: string): unknown {
  return component.getFirstPropertyValue(name)
}

function msOf(component: ICAL.Component, name: string): number {
  const time = component.getFirstPropertyValue(name)
  assert.ok(time instanceof ICAL.Time)
  assert.equal(time.zone, ICAL.Timezone.utcTimezone)
  return time.toJSDate().getTime()
}

const entry: CalendarEntry = {
  uid: 'reservation-res_1@berth.example',
  fromMs: NOW_MS,
  toMs: NOW_MS + HOUR_MS,
  summary: 'Nightly',
  description: '2 × small',
  location: 'default',
  status: 'CONFIRMED',
}

describe('a calendar', () => {
  it('says what it was given, whatever the text is', () => {
    const text = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 200 }),
      fc
        .array(fc.constantFrom('\\', ';', ',', '\n', ':', '"', 'x', 'ü', '😀', '\\n', ' '), {
          maxLength: 120,
        })
        .map((all) => all.join('')),
    )
    const second = fc.integer({ min: 0, max: 2e9 }).map((s) => s * 1_000)
    fc.assert(
      fc.property(
        fc.array(fc.tuple(text, text, text, second, second), { maxLength: 4 }),
        text,
        (all, name) => {
          const entries = all.map(([summary, description, location, fromMs, toMs], i) => {
            return { ...entry, uid: `${i}@berth`, summary, description, location, fromMs, toMs }
          })
          const written = calendar(name, entries, NOW_MS)
          assert.ok(written.endsWith('END:VCALENDAR\r\n'))
          for (const line of written.split('\r\n')) {
            assert.ok(Buffer.byteLength(line) <= 75, line)
            assert.ok(line.isWellFormed())
            assert.ok(!/[\r\n]/.test(line))
          }
          const found = read(written)
          const events = found.getAllSubcomponents('vevent')
          assert.equal(events.length, entries.length)
          events.forEach((event, i) => {
            const { uid, summary, description, location, fromMs, toMs, status } = entries[i] as CalendarEntry
            for (const [key, value] of Object.entries({ uid, summary, description, location, status }))
              assert.equal(textOf(event, key), value)
            assert.deepEqual(
              [msOf(event, 'dtstart'), msOf(event, 'dtend'), msOf(event, 'dtstamp')],
              [fromMs, toMs, NOW_MS],
            )
          })
        },
      ),
      { numRuns: 200 },
    )
  })

  it('has no control characters, whatever it was given', () => {
    const summary = 'a\u0000b\r\nc\rd\u007fe\tf'
    const event = read(calendar('lab', [{ ...entry, summary }], NOW_MS)).getFirstSubcomponent('vevent')
    assert.ok(event !== null)
    assert.equal(textOf(event, 'summary'), 'a b\nc d e\tf')
  })

  it('has a name', () => {
    assert.equal(textOf(read(calendar('lab', [], NOW_MS)), 'x-wr-calname'), 'lab')
  })
})

const reservation: Reservation = {
  id: 'res_1',
  poolId: 1,
  userId: 2,
  wish: [
    { type: 'small', labels: {}, vmId: null, count: 2 },
    { type: null, labels: { os: 'debian', rack: '7' }, vmId: null, count: 1 },
    { type: null, labels: {}, vmId: 41, count: 1 },
  ],
  fromMs: NOW_MS,
  toMs: NOW_MS + HOUR_MS,
  pinned: [['small', 2]],
  state: 'confirmed',
  atRisk: false,
  missing: 0,
  confirmedSeq: 1,
  noShowSeconds: null,
  claimed: false,
  seriesId: null,
  purpose: null,
  labels: {},
  createdAtMs: NOW_MS,
}

describe('the entry of a reservation', () => {
  it('names its machines and its pool', () => {
    const { uid, summary, location, description } = reservationEntry(reservation, 'lab', 'berth.example')
    assert.equal(uid, 'reservation-res_1@berth.example')
    assert.equal(summary, '2 × small, 1 × any os=debian rack=7, machine 41 of lab')
    assert.equal(description, '2 × small, 1 × any os=debian rack=7, machine 41\nres_1')
    assert.equal(location, 'lab')
  })

  it('is called what it is for', () => {
    assert.equal(reservationEntry({ ...reservation, purpose: 'demo' }, 'lab', 'h').summary, 'demo')
  })

  for (const [change, status] of [
    [{}, 'CONFIRMED'],
    [{ state: 'active' }, 'CONFIRMED'],
    [{ state: 'ended' }, 'CONFIRMED'],
    [{ atRisk: true, missing: 1 }, 'TENTATIVE'],
    [{ state: 'cancelled' }, 'CANCELLED'],
    [{ state: 'no_show' }, 'CANCELLED'],
  ] as const)
    it(`is ${status} when it is ${JSON.stringify(change)}`, () => {
      assert.equal(reservationEntry({ ...reservation, ...change }, 'lab', 'h').status, status)
    })

  it('says how many are missing', () => {
    const { description } = reservationEntry({ ...reservation, atRisk: true, missing: 2 }, 'lab', 'h')
    assert.match(description, /\nAt risk: 2 missing\n/)
  })
})

describe('the entry of a lease', () => {
  const lease: Lease = {
    vmId: 41,
    generation: 3,
    poolId: 1,
    userId: 2,
    fromMs: NOW_MS - HOUR_MS,
    endsAtMs: NOW_MS + HOUR_MS,
    endedAtMs: null,
    endedBy: null,
    requestId: null,
    reservationId: null,
    softGraceSeconds: null,
    heartbeatSeconds: null,
    beatByMs: null,
    dueAtMs: null,
    warned: false,
    chargedMinutes: 0,
    weight: 1,
    purpose: 'build',
    labels: { job: '17' },
    sharedWith: [],
  }

  for (const [what, change, toMs] of [
    ['until its end', {}, NOW_MS + HOUR_MS],
    ['until it was given back', { endedAtMs: NOW_MS - 60_000 }, NOW_MS - 60_000],
    ['an hour from now when it has no end', { endsAtMs: null }, NOW_MS + HOUR_MS],
    [
      'an hour from its start when it is to come',
      { endsAtMs: null, fromMs: NOW_MS + HOUR_MS },
      NOW_MS + 2 * HOUR_MS,
    ],
  ] as const)
    it(`is shown ${what}`, () => {
      assert.equal(leaseEntry({ ...lease, ...change }, 'vm-41', 'lab', 'h', NOW_MS).toMs, toMs)
    })

  it('names the machine and what it is for', () => {
    const { uid, summary, description } = leaseEntry(lease, 'vm-41', 'lab', 'h', NOW_MS)
    assert.deepEqual(
      [uid, summary, description],
      ['lease-41-3@h', 'vm-41: build', 'Machine vm-41 of lab\njob=17'],
    )
    const bare = leaseEntry(
      { ...lease, purpose: null, endsAtMs: null, labels: {} },
      'vm-41',
      'lab',
      'h',
      NOW_MS,
    )
    assert.deepEqual([bare.summary, bare.description], ['vm-41 of lab', 'Machine vm-41 of lab\nWithout end'])
  })
})

describe('the busy times of a pool', () => {
  it('are those at which no class has anything free, joined where they meet', () => {
    const span = (from: number, to: number, small: number, large: number) => ({
      fromMs: NOW_MS + from * HOUR_MS,
      toMs: NOW_MS + to * HOUR_MS,
      free: new Map([
        ['small', small],
        ['large', large],
      ]),
    })
    const spans = [span(0, 1, 0, 0), span(1, 2, 0, -1), span(2, 3, 0, 1), span(3, 4, 2, 0), span(4, 5, 0, 0)]
    const found = read(busyCalendar('lab', spans, 'h', NOW_MS)).getFirstSubcomponent('vfreebusy')
    assert.ok(found !== null)
    assert.equal(textOf(found, 'uid'), 'pool-lab@h')
    assert.deepEqual([msOf(found, 'dtstart'), msOf(found, 'dtend')], [NOW_MS, NOW_MS + 5 * HOUR_MS])
    const periods = found.getAllProperties('freebusy').map((property) => `${property.getFirstValue()}`)
    assert.deepEqual(periods, [
      '2027-03-01T12:00:00Z/2027-03-01T14:00:00Z',
      '2027-03-01T16:00:00Z/2027-03-01T17:00:00Z',
    ])
  })

  it('are none where nothing is known', () => {
    assert.equal(read(busyCalendar('lab', [], 'h', NOW_MS)).getFirstSubcomponent('vfreebusy'), null)
  })
})
