/** The checker of histories accepts what one order explains and nothing else. A checker that accepts everything is worthless. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { mulberry32 } from '../../src/provider/simulated.ts'
import { illegalMachine, type Outcome, type Place, type RecordedCall, settled } from './history.ts'

const ANN = 2
const BOB = 3
const NEVER = Number.POSITIVE_INFINITY

type Line = readonly [
  userId: number,
  what: RecordedCall['what'],
  from: number,
  to: number,
  outcome?: Outcome | { readonly seen: Place },
  vmId?: number | null,
]

function calls(lines: readonly Line[]): RecordedCall[] {
  return lines.map(([userId, what, invokedAtMs, returnedAtMs, told = 'done', vmId = 1], i) => ({
    requestId: `r${i}`,
    client: userId,
    server: 0,
    what,
    userId,
    vmId,
    invokedAtMs,
    returnedAtMs,
    ...(typeof told === 'object' ? { outcome: 'done', seen: told.seen } : { outcome: told }),
  }))
}

const check = (lines: readonly Line[], cleaning: 'manual' | 'automatic' = 'manual', vmIds = [1, 2]) =>
  illegalMachine(calls(lines), { vmIds, cleaning })

const LEGAL: Record<string, readonly Line[]> = {
  'nothing at all': [],
  'one cycle and the next': [
    [ANN, 'checkout', 0, 1],
    [ANN, 'checkIn', 2, 3],
    [ANN, 'maintain', 4, 5],
    [BOB, 'checkout', 6, 7],
  ],
  'calls that overlap, in the only order that works': [
    [BOB, 'checkout', 0, 10],
    [ANN, 'checkout', 1, 9],
    [ANN, 'checkIn', 2, 8],
    [ANN, 'maintain', 3, 7],
  ],
  'a look during a checkout that sees the machine free': [
    [ANN, 'checkout', 0, 10],
    [BOB, 'look', 5, 6, { seen: 'ready' }],
  ],
  'two looks during a checkout, before and after it': [
    [ANN, 'checkout', 0, 10],
    [BOB, 'look', 1, 3, { seen: 'ready' }],
    [BOB, 'look', 4, 6, { seen: ANN }],
  ],
  'a checkout without an answer that took effect': [
    [ANN, 'checkout', 0, NEVER, 'unknown', null],
    [ANN, 'checkIn', 5, 6],
  ],
  'a checkout without an answer that took effect much later': [
    [ANN, 'checkout', 0, NEVER, 'unknown', null],
    [BOB, 'checkout', 1, 2],
    [BOB, 'checkIn', 3, 4],
    [BOB, 'maintain', 5, 6],
    [BOB, 'look', 7, 8, { seen: ANN }],
  ],
  'a checkout without an answer that never took effect': [
    [ANN, 'checkout', 0, NEVER, 'unknown', null],
    [BOB, 'checkout', 5, 6],
  ],
  'a check-in without an answer, and a maintenance that proves it': [
    [ANN, 'checkout', 0, 1],
    [ANN, 'checkIn', 2, NEVER, 'unknown'],
    [ANN, 'maintain', 3, 4],
    [BOB, 'checkout', 5, 6],
  ],
  'a check-in without an answer, refused when repeated': [
    [ANN, 'checkout', 0, 1],
    [ANN, 'checkIn', 2, NEVER, 'unknown'],
    [ANN, 'checkIn', 3, 4, 'refused'],
  ],
  'refusals of what others did': [
    [ANN, 'checkout', 0, 1],
    [BOB, 'checkout', 2, 3, 'refused'],
    [BOB, 'checkIn', 2, 3, 'refused'],
    [BOB, 'maintain', 2, 3, 'refused'],
    [BOB, 'checkout', 2, 3, 'unavailable'],
  ],
  'calls that touch at one moment overlap': [
    [ANN, 'checkout', 0, 5],
    [BOB, 'look', 5, 6, { seen: 'ready' }],
  ],
}

const ILLEGAL: Record<string, readonly Line[]> = {
  'two holders at once': [
    [ANN, 'checkout', 0, 1],
    [BOB, 'checkout', 2, 3],
  ],
  'two holders at once, also when the calls overlap': [
    [ANN, 'checkout', 0, 10],
    [BOB, 'checkout', 1, 9],
  ],
  'a check-in by somebody who never held it': [
    [ANN, 'checkout', 0, 1],
    [BOB, 'checkIn', 2, 3],
  ],
  'a checkout of a machine in maintenance': [
    [ANN, 'checkout', 0, 1],
    [ANN, 'checkIn', 2, 3],
    [BOB, 'checkout', 4, 5],
  ],
  'only the times forbid it: a look that sees what was over': [
    [ANN, 'checkout', 0, 1],
    [BOB, 'look', 2, 3, { seen: 'ready' }],
  ],
  'only the times forbid it: a look that sees what is to come': [
    [BOB, 'look', 0, 1, { seen: ANN }],
    [ANN, 'checkout', 2, 3],
  ],
  'only the times forbid it: back to the old state between two looks': [
    [ANN, 'checkout', 0, 10],
    [BOB, 'look', 1, 3, { seen: ANN }],
    [BOB, 'look', 4, 6, { seen: 'ready' }],
  ],
  'only the times forbid it: the order of overlapping calls runs in a circle': [
    [ANN, 'checkout', 0, 3],
    [ANN, 'checkIn', 4, 8],
    [BOB, 'maintain', 5, 6],
    [BOB, 'look', 7, 9, { seen: ANN }],
  ],
  'a lost acknowledged checkout': [
    [ANN, 'checkout', 0, 1],
    [BOB, 'look', 5, 6, { seen: 'ready' }],
    [BOB, 'checkout', 7, 8],
  ],
  'a refusal that nothing explains': [[BOB, 'checkout', 0, 1, 'refused']],
  'a check-in refused to the holder': [
    [ANN, 'checkout', 0, 1],
    [ANN, 'checkIn', 2, 3, 'refused'],
  ],
  'one call without an answer cannot explain two effects': [
    [ANN, 'checkout', 0, NEVER, 'unknown', 1],
    [ANN, 'checkIn', 1, 2],
    [ANN, 'maintain', 3, 4],
    [ANN, 'checkIn', 5, 6],
  ],
  'a call without an answer has no effect before it was sent': [
    [BOB, 'look', 0, 1, { seen: ANN }],
    [ANN, 'checkout', 2, NEVER, 'unknown', null],
  ],
  'what was refused for lack of a store was not done': [
    [ANN, 'checkout', 0, 1, 'unavailable'],
    [ANN, 'look', 2, 3, { seen: ANN }],
  ],
}

describe('a history is accepted', () => {
  for (const [title, lines] of Object.entries(LEGAL)) it(title, () => assert.equal(check(lines), null))
})

describe('a history is refused', () => {
  for (const [title, lines] of Object.entries(ILLEGAL))
    it(title, () => {
      const found = check(lines)
      assert.ok(found !== null, 'it was accepted')
      assert.equal(found.vmId, 1)
      assert.ok(found.around.includes(found.operation.text))
    })
})

it('automatic cleaning brings a machine back by itself, but never from its holder', () => {
  const given: Line[] = [
    [ANN, 'checkout', 0, 1],
    [ANN, 'checkIn', 2, 3],
  ]
  assert.equal(check([...given, [BOB, 'checkout', 4, 5]], 'automatic'), null)
  assert.equal(check([...given, [BOB, 'look', 4, 5, { seen: 'ready' }]], 'automatic'), null)
  const seenTwice: Line[] = [
    [BOB, 'look', 4, 5, { seen: 'ready' }],
    [BOB, 'look', 6, 7, { seen: 'maintenance' }],
  ]
  assert.notEqual(check([...given, ...seenTwice], 'automatic'), null)
  assert.notEqual(
    check([[ANN, 'checkout', 0, 1] as const, [BOB, 'checkout', 4, 5] as const], 'automatic'),
    null,
  )
})

it('what the database knows of calls without answers settles them', () => {
  const history = calls([
    [ANN, 'checkout', 0, NEVER, 'unknown', null],
    [ANN, 'checkIn', 5, 6],
  ])
  const settings = { vmIds: [1, 2], cleaning: 'manual' } as const
  assert.equal(illegalMachine(history, settings), null)
  assert.equal(
    illegalMachine(
      settled(history, () => ({ vmId: 1 }), 10),
      settings,
    ),
    null,
  )
  assert.notEqual(
    illegalMachine(
      settled(history, () => ({ vmId: 2 }), 10),
      settings,
    ),
    null,
  )
  assert.notEqual(
    illegalMachine(
      settled(history, () => undefined, 10),
      settings,
    ),
    null,
  )
})

/** A machine that really was used by many at once, and what they were told. */
function simulated(seed: number, cycles: number, clients: number): RecordedCall[] {
  const random = mulberry32(seed)
  const history: RecordedCall[] = []
  let atMs = 0
  let state: Place = 'ready'
  for (let i = 0; i < cycles; i++) {
    const userId = 2 + Math.floor(random() * clients)
    const what: RecordedCall['what'] =
      random() < 0.3
        ? 'look'
        : state === 'ready'
          ? 'checkout'
          : state === 'maintenance'
            ? 'maintain'
            : 'checkIn'
    const isMine = what !== 'checkIn' || state === userId
    const lost = random() < 0.02 && what !== 'look'
    const seen = state
    if (isMine && what === 'checkout') state = userId
    else if (isMine && what === 'checkIn') state = 'maintenance'
    else if (what === 'maintain') state = 'ready'
    atMs += 1
    history.push({
      requestId: `s${i}`,
      client: userId,
      server: 0,
      what,
      userId,
      vmId: lost && what === 'checkout' ? null : 1,
      invokedAtMs: atMs - random() * 4,
      returnedAtMs: lost ? NEVER : atMs + random() * 4,
      outcome: lost ? 'unknown' : isMine ? 'done' : 'refused',
      ...(what === 'look' ? { seen } : {}),
    })
  }
  return history
}

it('long histories of many clients are checked in moments, and one wrong answer among them is found', () => {
  const settings = { vmIds: [1], cleaning: 'manual' } as const
  let found = 0
  for (let seed = 1; seed <= 20; seed++) {
    const history = simulated(seed, 2_500, 8)
    assert.equal(illegalMachine(history, settings), null, `seed ${seed}`)
    const at = history.findIndex((call, i) => i > 1_000 && call.what === 'look')
    const wrong = history.map((call, i) => (i === at ? { ...call, seen: 999 } : call))
    if (illegalMachine(wrong, settings) !== null) found++
  }
  assert.equal(found, 20)
})

/** Whether some order explains a history of one machine: all of them are tried. */
function anyOrderExplains(history: readonly RecordedCall[]): boolean {
  function goOn(state: Place, left: readonly RecordedCall[]): boolean {
    if (left.every(({ outcome }) => outcome === 'unknown')) return true
    return left.some((call) => {
      if (left.some((earlier) => earlier.returnedAtMs < call.invokedAtMs)) return false
      const next = stateAfter(state, call)
      return (
        next !== null &&
        goOn(
          next,
          left.filter((one) => one !== call),
        )
      )
    })
  }
  return goOn('ready', history)
}

function stateAfter(state: Place, { what, userId, outcome, seen }: RecordedCall): Place | null {
  if (what === 'look') return state === seen ? state : null
  const from = { checkout: 'ready', checkIn: userId, maintain: 'maintenance' }[what]
  if (outcome === 'refused') return state === from ? null : state
  return state === from
    ? ({ checkout: userId, checkIn: 'maintenance', maintain: 'ready' } as const)[what]
    : null
}

it('it agrees with trying all orders, on many small histories', () => {
  const random = mulberry32(7)
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T
  const counts = { legal: 0, illegal: 0 }
  for (let round = 0; round < 20_000; round++) {
    const history = calls(
      Array.from({ length: 2 + Math.floor(random() * 5) }, (): Line => {
        const what = pick(['checkout', 'checkout', 'checkIn', 'maintain', 'look'] as const)
        const from = Math.floor(random() * 12)
        const to = from + Math.floor(random() * 5)
        const userId = pick([ANN, BOB])
        if (what === 'look')
          return [userId, what, from, to, { seen: pick(['ready', 'maintenance', ANN, BOB] as const) }]
        const outcome = pick(['done', 'done', 'done', 'refused', 'unknown'] as const)
        return [userId, what, from, outcome === 'unknown' ? NEVER : to, outcome]
      }),
    )
    const expected = anyOrderExplains(history)
    counts[expected ? 'legal' : 'illegal']++
    const found = illegalMachine(history, { vmIds: [1], cleaning: 'manual' })
    assert.equal(found === null, expected, JSON.stringify(history, null, 1))
  }
  assert.ok(counts.legal > 1_000 && counts.illegal > 1_000, JSON.stringify(counts))
})
