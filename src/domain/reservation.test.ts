/** How a reservation goes on: by itself, by its holder, and by its leases. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { isRefusal } from './refusal.ts'
import {
  begins,
  claimed,
  expired,
  givenBack,
  givenUp,
  type Reservation,
  type ReservationState,
  reservationDueAtMs,
} from './reservation.ts'

const FROM_MS = 1_000_000
const TO_MS = 5_000_000

const reservation: Reservation = {
  id: 'res_1',
  poolId: 1,
  userId: 2,
  wish: [],
  fromMs: FROM_MS,
  toMs: TO_MS,
  pinned: [],
  state: 'confirmed',
  atRisk: true,
  missing: 1,
  confirmedSeq: 1,
  noShowSeconds: 1_000,
  claimed: false,
  seriesId: null,
  purpose: null,
  labels: {},
  createdAtMs: 0,
}
const SHOW_MS = FROM_MS + 1_000_000

const OVER: readonly ReservationState[] = ['ended', 'cancelled', 'no_show']

describe('a reservation by itself', () => {
  for (const [what, edit, nowMs, dueAtMs, begun, state] of [
    ['is to come', {}, FROM_MS - 1, FROM_MS, false, null],
    ['begins at its start', {}, FROM_MS, FROM_MS, true, null],
    ['begins later when nobody looked', {}, TO_MS - 1, FROM_MS, true, null],
    ['is over when nobody looked at all', {}, TO_MS, FROM_MS, false, 'ended'],
    ['is active', { state: 'active' }, SHOW_MS - 1, SHOW_MS, false, null],
    ['is over when nobody used it', { state: 'active' }, SHOW_MS, SHOW_MS, false, 'no_show'],
    ['goes on when it was used', { state: 'active', claimed: true }, SHOW_MS, TO_MS, false, null],
    [
      'goes on when it need not be used',
      { state: 'active', noShowSeconds: null },
      SHOW_MS,
      TO_MS,
      false,
      null,
    ],
    ['ends with its window', { state: 'active', claimed: true }, TO_MS, TO_MS, false, 'ended'],
    [
      'ends before it could be missed',
      { state: 'active', noShowSeconds: 9_000 },
      TO_MS,
      TO_MS,
      false,
      'ended',
    ],
    [
      'ends rather than being missed',
      { state: 'active', noShowSeconds: 4_000 },
      TO_MS,
      TO_MS,
      false,
      'ended',
    ],
    ...OVER.map((over) => [`stays ${over}`, { state: over }, TO_MS, null, false, null] as const),
  ] as const)
    it(what, () => {
      const it = { ...reservation, ...edit } as Reservation
      assert.equal(reservationDueAtMs(it), dueAtMs)
      assert.equal(begins(it, nowMs), begun)
      const after = expired(it, nowMs)
      assert.deepEqual(after, state === null ? null : { ...it, state, atRisk: false, missing: 0 })
    })
})

describe('a holder', () => {
  for (const [state, after] of [
    ['confirmed', 'cancelled'],
    ['active', 'ended'],
  ] as const)
    it(`gives up a reservation that is ${state}`, () => {
      const given = givenUp({ ...reservation, state })
      assert.deepEqual(given, { ...reservation, state: after, atRisk: false, missing: 0 })
    })

  for (const state of ['confirmed', 'active'] as const)
    it(`uses a reservation that is ${state}`, () => {
      const used = claimed({ ...reservation, state })
      assert.deepEqual(used, { ...reservation, state, claimed: true })
      assert.equal(claimed(used as Reservation), used)
    })

  for (const state of OVER)
    it(`cannot give up or use one that is ${state}`, () => {
      for (const no of [givenUp({ ...reservation, state }), claimed({ ...reservation, state })]) {
        assert.ok(isRefusal(no))
        assert.deepEqual([no.code, no.details], ['reservation_over', { id: 'res_1', state }])
      }
    })
})

describe('a lease that ends', () => {
  const active: Reservation = { ...reservation, state: 'active' }
  for (const [leases, waiting, state] of [
    [1, 0, null],
    [0, 1, null],
    [0, 0, 'ended'],
  ] as const)
    it(`leaves ${leases} leases and ${waiting} machines waited for: ${state ?? 'it goes on'}`, () => {
      assert.equal(givenBack(active, leases, waiting)?.state ?? null, state)
    })

  it('changes nothing of a reservation that is not active', () => {
    for (const state of ['confirmed', ...OVER] as const)
      assert.equal(givenBack({ ...reservation, state }, 0, 0), null)
  })
})
