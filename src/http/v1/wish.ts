/** How calls of /api/v1 say which machines they want, and of which pools. */
import { type Static, Type } from 'typebox'
import { isRefusal, type Refusal, refusal } from '../../domain/refusal.ts'
import { KINDS_MAX, type Kind, type Wish } from '../../domain/wish.ts'
import type { Berth } from '../../service/berth.ts'
import type { PoolReading } from '../../store/port.ts'
import { poolCalled } from './pool.ts'
import { id, labels, name, named, nullable, strict } from './schema.ts'

const COUNT_MAX = 1_000

const type = { ...name, description: 'a size of machine; none: any' }
const selector = { ...labels, description: 'labels that a machine must have' }
const machine = { ...id, description: 'one machine, by id' }
const count = Type.Integer({
  minimum: 1,
  maximum: COUNT_MAX,
  description: 'how many; 1 when nothing is said',
})

const KIND = named(
  'KindWish',
  strict({
    type: Type.Optional(type),
    selector: Type.Optional(selector),
    machine: Type.Optional(machine),
    count: Type.Optional(count),
  }),
)

/** The fields of a body that say which machines: either of one kind, or kinds. */
export const wishFields = {
  type: Type.Optional(type),
  selector: Type.Optional(selector),
  machine: Type.Optional(machine),
  count: Type.Optional(count),
  kinds: Type.Optional(
    Type.Array(KIND, {
      minItems: 1,
      maxItems: KINDS_MAX,
      description:
        'machines of several kinds, all or nothing; in place of `type`, `selector`, `machine`, `count`',
    }),
  ),
}

type KindWish = Static<typeof KIND>
type WishFields = KindWish & { readonly kinds?: readonly KindWish[] }

/** What a body asks for. Refused: `field_invalid`. */
export function wishOf(body: WishFields): Wish | Refusal {
  const { kinds, ...rest } = body
  const short = (['type', 'selector', 'machine', 'count'] as const).find((key) => rest[key] !== undefined)
  if (kinds !== undefined && short !== undefined)
    return refusal('field_invalid', {
      field: short,
      value: null,
      allowed: 'inside of kinds, when there are any',
    })
  const wish = (kinds ?? [rest]).map(kindOf)
  const vmIds = wish.flatMap(({ vmId }) => vmId ?? [])
  const allowed = 'one machine once, with count 1'
  const isOnce = new Set(vmIds).size === vmIds.length
  if (!isOnce || wish.some(({ vmId, count }) => vmId !== null && count !== 1))
    return refusal('field_invalid', { field: 'machine', value: null, allowed })
  return wish
}

function kindOf({ type, selector, machine, count }: KindWish): Kind {
  return { type: type ?? null, labels: selector ?? {}, vmId: machine ?? null, count: count ?? 1 }
}

/** A kind of machines as answers show it. */
export const KIND_SHOWN = named(
  'Kind',
  strict({ type: nullable(Type.String()), selector: labels, machine: nullable(id), count: Type.Integer() }),
)

export function shownKinds(wish: Wish): Static<typeof KIND_SHOWN>[] {
  return wish.map(({ type, labels, vmId, count }) => ({
    type,
    selector: { ...labels },
    machine: vmId,
    count,
  }))
}

/** The fields of a body that say of which pool. */
export const poolFields = {
  pool: Type.Optional({ ...name, description: 'a pool, by its name or an alias' }),
  pools: Type.Optional(
    Type.Array(name, {
      minItems: 1,
      maxItems: 8,
      uniqueItems: true,
      description: 'pools in order of preference, in place of `pool`',
    }),
  ),
  pool_selector: Type.Optional({
    ...labels,
    minProperties: 1,
    description: 'labels of pools, in place of `pool`: the pool with the most free machines is tried first',
  }),
}

interface PoolFields {
  readonly pool?: string
  readonly pools?: readonly string[]
  readonly pool_selector?: Readonly<Record<string, string>>
}

/** The pools that a body names, in the order in which they are tried. Refused: `field_missing`, `field_invalid`, `pool_unknown`. */
export async function poolsOf(
  berth: Berth,
  { pool, pools, pool_selector: selector }: PoolFields,
): Promise<PoolReading[] | Refusal> {
  const ways = Object.entries({ pool, pools, pool_selector: selector }).filter(([, way]) => way !== undefined)
  const [first, second] = ways
  if (first === undefined) return refusal('field_missing', { field: 'pool' })
  if (second !== undefined)
    return refusal('field_invalid', { field: second[0], value: null, allowed: `left out beside ${first[0]}` })
  if (selector !== undefined) return selected(berth, selector)
  const found: PoolReading[] = []
  for (const called of pools ?? [pool ?? '']) {
    const reading = await poolCalled(berth, called)
    if (isRefusal(reading)) return reading
    if (!found.some((other) => other.pool.id === reading.pool.id)) found.push(reading)
  }
  return found
}

async function selected(
  { reads }: Berth,
  selector: Readonly<Record<string, string>>,
): Promise<PoolReading[] | Refusal> {
  const wanted = Object.entries(selector)
  const found = (await reads.pools())
    .filter(({ pool }) => wanted.every(([label, value]) => pool.labels[label] === value))
    .sort((a, b) => b.stats.free - a.stats.free || a.pool.id - b.pool.id)
  if (found.length > 0) return found
  return refusal('field_invalid', {
    field: 'pool_selector',
    value: selector,
    allowed: 'labels that a pool has',
  })
}
