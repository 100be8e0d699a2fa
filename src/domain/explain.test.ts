/** Why a request waits: each reason of the catalogue, in the situation that it is for. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Lab, START_MS } from '../../test/support/lab.ts'
import { explain, REASONS, type ReasonCode, type Viewpoint } from './explain.ts'
import { NO_QUOTA } from './quota.ts'

const EVERYTHING: Viewpoint = {
  holderOf: ({ holderId }) => `user ${holderId}`,
  askedFor: new Set(),
  providerErrors: [],
}

/** A pool in which a request waits, and its id. */
type Situation = () => { lab: Lab; id: string; viewpoint?: Viewpoint }

function waiting(lab: Lab, ...wishes: Parameters<Lab['join']>[]): string {
  const ids = wishes.map(([user, wanted]) => lab.join(user, wanted))
  lab.settle()
  return ids.at(-1) as string
}

const SITUATIONS: Readonly<Record<ReasonCode, readonly [Situation, string]>> = {
  ORDER: [
    () => {
      const lab = new Lab({ small: 1 })
      lab.lease(1, 26, 30)
      return { lab, id: waiting(lab, [1], [2]) }
    },
    '1 request is before yours; yours is served when their share is used.',
  ],
  BUSY: [
    () => {
      const lab = new Lab({ small: 2 })
      lab.lease(1, 26, 30)
      return { lab, id: waiting(lab, [1, { count: 2 }]) }
    },
    '1 of 2 small are free; the next are expected back at 2026-01-05T00:35:00.000Z.',
  ],
  PROMISED: [
    () => {
      const lab = new Lab({ small: 2 })
      lab.lease(1, 26, 30)
      return { lab, id: waiting(lab, [1, { count: 2 }], [2, { minutes: 90 }]) }
    },
    '1 machine is ready but promised to a request before yours from 2026-01-05T00:35:00.000Z; a shorter lease may pass.',
  ],
  RESERVED: [
    () => {
      const lab = new Lab({ small: 1 })
      lab.reserve('small', 1, 30, 60)
      return { lab, id: waiting(lab, [1]) }
    },
    '1 machine is ready but reserved for later; a shorter lease may be possible now.',
  ],
  HELD: [
    () => {
      const lab = new Lab({ small: 2 })
      lab.lease(1, 26, null)
      return { lab, id: waiting(lab, [1, { count: 2, dueIn: 0 }], [2, { minutes: 5 }]) }
    },
    'Machines are being collected for a request before yours until 2026-01-05T01:00:00.000Z.',
  ],
  NO_END: [
    () => {
      const lab = new Lab({ small: 1 })
      lab.lease(1, 26, null)
      return { lab, id: waiting(lab, [1]) }
    },
    '1 machine that you need has a lease without an end; no time can be promised.',
  ],
  CLEANING: [
    () => {
      const lab = new Lab({ small: 1 })
      lab.lease(1, 26, 30)
      lab.checkIn(1)
      return { lab, id: waiting(lab, [1]) }
    },
    '1 machine is being cleaned, expected at 2026-01-05T00:05:00.000Z.',
  ],
  MAKING: [
    () => {
      const lab = new Lab({ small: 1 })
      const vm = lab.vms.get(1) ?? assert.fail()
      lab.vms.set(1, { ...vm, state: 'provisioning', freeAtMs: START_MS + 600_000 })
      lab.book = lab.rebuilt()
      return { lab, id: waiting(lab, [1]) }
    },
    '1 machine is being made, expected at 2026-01-05T00:10:00.000Z.',
  ],
  NO_MACHINES: [
    () => {
      const lab = new Lab({ small: 2 })
      lab.fail(1)
      return { lab, id: waiting(lab, [1, { count: 2 }]) }
    },
    'Only 1 usable small exist now, you want 2: 1 failed, 0 cordoned.',
  ],
  QUOTA: [
    () => {
      const lab = new Lab({ small: 2 }, { quota: { ...NO_QUOTA, machinesMax: 1 } })
      lab.lease(1, 1, 30)
      return { lab, id: waiting(lab, [1]) }
    },
    'You hold 1; with 1 more you would be over your quota. Your request waits beside the queue until some are back.',
  ],
  SOFT_NOTICE: [
    () => {
      const lab = new Lab({ small: 1 })
      lab.lease(1, 26, null, 5)
      const id = waiting(lab, [1])
      return { lab, id, viewpoint: { ...EVERYTHING, askedFor: new Set([1]) } }
    },
    'The holder of a machine was asked for it; it comes back by 2026-01-05T00:10:00.000Z.',
  ],
  YOURS: [
    () => {
      // The batch that settled did not hold its owner.
      const lab = new Lab({ small: 1 })
      lab.limits = { ...lab.limits, headroom: () => undefined }
      const id = waiting(lab, [1])
      assert.deepEqual([lab.last?.userIds, lab.last?.more], [[1], true])
      return { lab, id }
    },
    'It is your turn; the next batch grants it.',
  ],
}

describe('a request waits because of', () => {
  for (const [code, [situation, text]] of Object.entries(SITUATIONS))
    it(code, () => {
      const { lab, id, viewpoint = EVERYTHING } = situation()
      const explanation = explain(lab.book, id, viewpoint, lab.nowMs)
      assert.deepEqual([explanation?.code, explanation?.text], [code, text])
    })

  it('nothing, when it does not wait', () => {
    assert.equal(explain(new Lab({ small: 1 }).book, 'r1', EVERYTHING, START_MS), null)
  })

  it('every reason of the catalogue in its time', () => {
    assert.deepEqual(Object.keys(SITUATIONS).sort(), Object.keys(REASONS).sort())
  })
})

describe('an explanation', () => {
  it('says where machines are, and of holders what may be known', () => {
    const lab = new Lab({ small: 3 })
    lab.lease(1, 26, 30)
    lab.lease(2, 27, 60)
    lab.lease(3, 28, 60)
    lab.checkIn(3)
    const id = waiting(lab, [1, { count: 3 }])
    const viewpoint: Viewpoint = {
      holderOf: ({ holderId }) => (holderId === 26 ? 'Zoe' : null),
      askedFor: new Set(),
      providerErrors: ['no space left'],
    }
    const explanation = explain(lab.book, id, viewpoint, lab.nowMs)
    assert.deepEqual(explanation, {
      code: 'BUSY',
      text: '0 of 3 small are free; the next are expected back at 2026-01-05T00:05:00.000Z.',
      sinceMs: lab.nowMs,
      position: 1,
      missing: [{ classKey: 'small', ready: 0, freeAtMs: lab.at(5) }],
      count: 3,
      promisedAtMs: lab.at(65),
      overdueIn: 36,
      holders: [
        { who: 'Zoe', untilMs: lab.at(30) },
        { who: null, untilMs: lab.at(60) },
      ],
      making: [],
      cleaning: [{ expectedAtMs: lab.at(5), late: false }],
      providerErrors: ['no space left'],
    })
  })

  it('says when machines come back, whatever is kept for the request itself', () => {
    const lab = new Lab({ small: 2 })
    lab.lease(1, 26, 30)
    const id = waiting(lab, [1, { count: 2 }])
    const explanation = explain(lab.book, id, EVERYTHING, lab.nowMs)
    assert.deepEqual(explanation?.missing, [{ classKey: 'small', ready: 1, freeAtMs: lab.at(35) }])
  })

  it('has a reason when all machines are there, and a shrink is about to take them', () => {
    const lab = new Lab({ small: 1 })
    lab.lease(1, 26, 30)
    const id = waiting(lab, [1])
    lab.setPool({ target: 0 })
    lab.checkIn(1)
    lab.ready(1)
    lab.settle()
    const explanation = explain(lab.book, id, EVERYTHING, lab.nowMs)
    assert.equal(explanation?.text, 'Only 0 usable small exist now, you want 1: 0 failed, 0 cordoned.')
  })
})
