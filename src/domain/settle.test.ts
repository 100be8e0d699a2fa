/** Grants and promises: the worked examples of the allocator's design, each with one class, a margin of five minutes and steps of one. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { kindOf, Lab, MINUTE_MS, START_MS } from '../../test/support/lab.ts'
import { NO_QUOTA, UNLIMITED } from './quota.ts'
import { isRefusal } from './refusal.ts'

const [A, B, C, D, H, X, Y, Z] = [1, 2, 3, 4, 8, 24, 25, 26] as const

const WEIGHTS = { weights: { low: 1, normal: 2, high: 4 } }

/** A pool of `count` machines of one class. */
function aLab(count: number): Lab {
  return new Lab({ small: count }, WEIGHTS)
}

/** Who was granted something, and in which minute. */
function told(lab: Lab): string[] {
  return lab.granted.map(({ userId, atMinute }) => `${String.fromCharCode(64 + userId)}@${atMinute}`)
}

function promised(lab: Lab): (readonly [requestId: string, minute: number])[] {
  return lab.book.promises.map(
    ({ requestId, fromMs }) => [requestId, (fromMs - START_MS) / MINUTE_MS] as const,
  )
}

function assertNo(answer: unknown, code: string, details: object): void {
  assert.ok(isRefusal(answer), `not refused: ${JSON.stringify(answer)}`)
  assert.deepEqual({ code: answer.code, details: answer.details }, { code, details })
}

function until(minute: number): string {
  return new Date(START_MS + minute * MINUTE_MS).toISOString()
}

describe('the order of grants', () => {
  it('charges machine-minutes to whoever is granted (example 1)', () => {
    const lab = aLab(2)
    assert.ok(!isRefusal(lab.ask(A, { waits: false })))
    assert.equal(lab.flows.get(A)?.tag, 60)
    assert.equal(lab.pool.queue.v, 0)
  })

  it('takes users in turn (example 2)', () => {
    const lab = aLab(1)
    lab.lease(1, Z, 10)
    for (const user of [A, A, A, B, B, C]) lab.join(user)
    lab.settle()
    lab.advanceTo(500)
    assert.deepEqual(told(lab), ['A@15', 'B@80', 'C@145', 'A@210', 'B@275', 'A@340'])
  })

  it('gives twice as much to twice the weight (example 3)', () => {
    const lab = aLab(1)
    lab.lease(1, Z, 10)
    for (let i = 0; i < 4; i++) {
      lab.ask(A, { priority: 'low' })
      lab.ask(B, { priority: 'normal' })
    }
    lab.advanceTo(600)
    assert.deepEqual(told(lab), ['A@15', 'B@80', 'B@145', 'A@210', 'B@275', 'B@340', 'A@405', 'A@470'])
  })

  it('charges what was used once it is known (example 13)', () => {
    const lab = aLab(1)
    lab.ask(A, { minutes: 120 })
    assert.equal(lab.flows.get(A)?.tag, 120)
    lab.advanceTo(30)
    lab.checkIn(1)
    assert.equal(lab.flows.get(A)?.tag, 30)
  })
})

describe('promises', () => {
  /** Four machines: X has one until 30, Y one until 60. H waits for three, C was given one for 20, D waits for one for 40. */
  function blocked(): { lab: Lab; h: string; c: number } {
    const lab = aLab(4)
    lab.lease(1, X, 30)
    lab.lease(2, Y, 60)
    const h = lab.join(H, { count: 3 })
    lab.settle()
    lab.ask(C, { minutes: 20 })
    lab.ask(D, { minutes: 40 })
    return { lab, h, c: lab.granted[0]?.vmIds[0] as number }
  }

  it('let pass what is back in time, and nothing else (example 4)', () => {
    const { lab, h } = blocked()
    assert.deepEqual(promised(lab), [[h, 35]])
    assert.deepEqual(told(lab), ['C@0'])
    assert.equal(lab.waiting.size, 2)
  })

  it('stand against extensions, which are offered what is possible (example 5)', () => {
    const { lab, c } = blocked()
    assertNo(lab.extend(1, 50), 'extension_promised', { until: null })
    assertNo(lab.extend(c, 40), 'extension_promised', { until: until(30) })
    lab.advanceTo(100)
    assert.deepEqual(told(lab), ['C@0', 'H@35', 'D@65'])
  })

  it('are given through soft leases, whose holders are told (example 12)', () => {
    const lab = aLab(1)
    lab.advanceTo(40)
    lab.lease(1, A, null, 5)
    lab.advanceTo(100)
    const b = lab.join(B)
    lab.settle()
    assert.deepEqual(lab.notices, [{ vmId: 1, endsAtMs: lab.at(105) }])
    assert.deepEqual(promised(lab), [[b, 110]])
    lab.advanceTo(120)
    assert.deepEqual(told(lab), ['B@110'])
  })

  it('end no more soft leases than are needed, the longest held first', () => {
    const lab = aLab(4)
    for (const [vmId, minute] of [
      [3, 1],
      [1, 2],
      [2, 3],
    ] as const) {
      lab.advanceTo(minute)
      lab.lease(vmId, A, null, 5)
    }
    lab.lease(4, X, 60)
    lab.advanceTo(10)
    lab.join(B, { count: 2 })
    lab.settle()
    assert.deepEqual(lab.notices.map(({ vmId }) => vmId).sort(), [1, 3])
  })

  it('look two days ahead; what fits only later keeps a class from longer leases', () => {
    const lab = aLab(2)
    const days = 24 * 60
    lab.lease(1, X, 5 * days)
    const h = lab.join(H, { count: 2 })
    lab.settle()
    assert.deepEqual(promised(lab), [[h, 2 * days]])
    assert.ok(isRefusal(lab.ask(A, { minutes: 2 * days, waits: false })))
    assert.ok(!isRefusal(lab.ask(A, { minutes: days, waits: false })))
  })

  it('are not given where leases have no end, until the request is overdue: then machines are collected for an hour', () => {
    const lab = aLab(2)
    lab.lease(1, X, null)
    const h = lab.join(H, { count: 2 })
    lab.settle()
    assert.deepEqual(promised(lab), [])
    const due = lab.waiting.get(h)?.due as number
    while (lab.pool.queue.departed < due) {
      lab.ask(A, { minutes: 1 })
      lab.advanceTo(lab.minute + 6)
    }
    lab.ask(B)
    assert.equal(lab.book.promises[0]?.kind, 'collected')
    assert.equal(told(lab).at(-1)?.[0], 'A')
    const since = ((lab.waiting.get(h)?.collectSinceMs as number) - START_MS) / MINUTE_MS
    lab.advanceTo(since + 61)
    assert.deepEqual(told(lab).at(-1), `B@${since + 60}`)
    assert.equal(lab.waiting.get(h)?.collectSinceMs, null)
    assert.ok((lab.waiting.get(h)?.due ?? 0) > lab.pool.queue.departed)
  })
})

describe('reservations', () => {
  it('keep away leases that would run into them, which are offered a shorter one (example 6)', () => {
    const lab = aLab(3)
    assert.ok(lab.reserve('small', 2, 120, 180))
    const offer = { offerSeconds: 115 * 60 }
    assertNo(lab.ask(A, { count: 2, minutes: 180, waits: false }), 'lease_reserved', offer)
    assert.ok(!isRefusal(lab.ask(A, { minutes: 180, waits: false })))
    assertNo(lab.ask(B, { minutes: null, waits: false }), 'lease_reserved', offer)
    assert.ok(!isRefusal(lab.ask(B, { minutes: 115, waits: false })))
  })

  it('are refused where leases have no end (example 10)', () => {
    const lab = aLab(2)
    lab.lease(1, X, null)
    assert.equal(lab.reserve('small', 2, 120, 180), false)
    assert.equal(lab.reserve('small', 1, 120, 180), true)
    assertNo(lab.ask(A, { minutes: null, waits: false }), 'lease_reserved', { offerSeconds: 115 * 60 })
  })

  it('shorten a lease by as much as its request allows', () => {
    const lab = aLab(1)
    assert.ok(lab.reserve('small', 1, 120, 180))
    assert.ok(isRefusal(lab.ask(A, { minutes: 180, minutesMin: 116, waits: false })))
    const answer = lab.ask(A, { minutes: 180, minutesMin: 60, waits: false })
    assert.equal(isRefusal(answer) || answer?.durationSeconds, 115 * 60)
  })
})

describe('quotas', () => {
  it('park whoever holds too much beside the queue (example 9)', () => {
    const lab = new Lab({ small: 2 }, { quota: { ...NO_QUOTA, machinesMax: 2 }, ...WEIGHTS })
    lab.lease(1, A, 50)
    lab.lease(2, A, 90)
    const a = lab.join(A, { minutes: 30 })
    lab.settle()
    assert.equal(lab.waiting.get(a)?.parked, true)
    lab.join(B, { minutes: 30 })
    lab.settle()
    lab.advanceTo(49)
    assert.equal(lab.waiting.get(a)?.parked, true)
    lab.advanceTo(50)
    assert.equal(lab.waiting.get(a)?.parked, false)
    lab.advanceTo(200)
    assert.deepEqual(told(lab), ['A@55', 'B@90'])
  })
})

describe('a wish of several kinds', () => {
  it('is served by machines that suit both, if there is a way (example 11)', () => {
    const lab = new Lab({ 'small,os=debian': 1, 'small,os=ubuntu': 1 })
    const wish = [kindOf({ type: 'small' }), kindOf({ labels: { os: 'debian' } })]
    const answer = lab.ask(A, { wish })
    assert.ok(answer !== null && !isRefusal(answer))
    assert.equal(lab.book.queue.size, 0)
    assert.deepEqual(answer.vmIds, [2, 1])
  })
})

describe('a batch', () => {
  it('makes 256 grants to those who waited, and says that there is more', () => {
    const lab = aLab(300)
    for (let vmId = 1; vmId <= 300; vmId++) lab.lease(vmId, Z, 10)
    for (let i = 0; i < 300; i++) lab.join(100 + i)
    lab.settle()
    for (let vmId = 1; vmId <= 300; vmId++) {
      lab.checkIn(vmId)
      lab.ready(vmId)
    }
    const first = lab.settle()
    assert.deepEqual([first.grants.length, first.more], [256, true])
    const second = lab.settle()
    assert.deepEqual([second.grants.length, second.more], [44, false])
  })

  it('grants nothing to whom it does not hold, keeps the machines for them, and says who they are', () => {
    const lab = aLab(1)
    lab.limits = { ...lab.limits, headroom: (userId) => (userId === A ? undefined : UNLIMITED) }
    lab.join(A)
    lab.join(B)
    const { grants, userIds, more } = lab.settle()
    assert.deepEqual([grants, userIds, more], [[], [A], true])
    lab.limits = { ...lab.limits, headroom: () => UNLIMITED }
    lab.setPool({})
    lab.settle()
    assert.deepEqual(told(lab), ['A@0'])
  })

  it('that only brings requests behind others of their owners changes nothing, and is not gone through', () => {
    const lab = aLab(1)
    lab.lease(1, Z, 60)
    lab.ask(A)
    const { promises } = lab.book
    lab.ask(A)
    assert.equal(lab.book.promises, promises)
    lab.ask(B)
    assert.notEqual(lab.book.promises, promises)
  })

  it('leaves alone what a shrink was promised', () => {
    const lab = aLab(3)
    lab.setPool({ target: 1 })
    assertNo(lab.ask(A, { count: 2, waits: false }), 'none_free', { pool: 'default', type: null })
    assert.ok(!isRefusal(lab.ask(A, { waits: false })))
    assertNo(lab.ask(B, { waits: false }), 'none_free', { pool: 'default', type: null })
  })
})

describe('a request that can never be granted, or may not wait, is refused at once:', () => {
  it('the pool has no such machines, or too few', () => {
    const lab = aLab(2)
    assertNo(lab.ask(A, { type: 'large' }), 'wish_impossible', { pool: 'default' })
    assertNo(lab.ask(A, { count: 3 }), 'wish_impossible', { pool: 'default' })
    lab.setPool({ target: 3, typeMix: { small: 1 } })
    assert.equal(lab.ask(A, { count: 3 }), null)
  })

  it('it is for more than the quota', () => {
    const lab = new Lab({ small: 3 }, { quota: { ...NO_QUOTA, machinesMax: 2 } })
    assertNo(lab.ask(A, { count: 3 }), 'quota_never', { count: 3 })
    assert.ok(!isRefusal(lab.ask(A, { count: 2, waits: false })))
    assertNo(lab.ask(A, { waits: false }), 'quota_full', { count: 1 })
  })

  it('too many of its owner wait, unless it can be granted', () => {
    const lab = new Lab({ small: 2 }, { quota: { ...NO_QUOTA, waitingMax: 1 } })
    lab.lease(1, Z, null)
    assert.equal(lab.ask(A, { count: 2 }), null)
    assert.ok(!isRefusal(lab.ask(A)))
    assertNo(lab.ask(A), 'waiting_full', { waitingMax: 1 })
  })

  it('too many kinds of requests wait', () => {
    const lab = new Lab({ small: 300 })
    lab.lease(1, Z, null)
    for (let count = 45; count <= 300; count++) lab.join(A, { count })
    for (let vmId = 2; vmId <= 300; vmId++) lab.lease(vmId, Z, null)
    lab.settle()
    assert.equal(lab.waiting.size, 256)
    assertNo(lab.ask(B, { count: 44 }), 'kinds_full', { groupsMax: 256 })
    assert.equal(lab.ask(B, { count: 45 }), null)
  })
})
