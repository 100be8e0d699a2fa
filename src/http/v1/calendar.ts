/**
 * A user's reservations and leases as a calendar that other programs subscribe to. Such programs send no token, so the link holds a
 * secret of its own, which opens the calendar and nothing else. It is listed and revoked as a token.
 */
import { Type } from 'typebox'
import { isRefusal, type Refusal } from '../../domain/refusal.ts'
import { calendar, leaseEntry, reservationEntry } from '../../service/calendar.ts'
import { calendarOutcome } from './reservation.ts'
import { type Outcome, perform, type Route, route, said } from './route.ts'
import { named, nullable, strict } from './schema.ts'
import { poolNames } from './whose.ts'

const LINK = named(
  'CalendarLink',
  strict({
    token_id: Type.String({ description: 'by which the link is revoked: `DELETE /tokens/{id}`' }),
    url: nullable(
      Type.String({
        format: 'uri-reference',
        description: 'the secret link, shown this once; null where the answer is a replay',
      }),
    ),
  }),
)

/** What has ended is shown for so long. */
const PAST_MS = 30 * 86_400_000
const ENTRIES_MAX = 1_000

export const CALENDAR_ROUTES: readonly Route[] = [
  route({
    method: 'POST',
    path: '/calendar-links',
    id: 'createCalendarLink',
    tag: 'calendar',
    summary: 'Make a secret link to the calendar of your reservations and leases',
    description:
      'Whoever has the link sees the calendar and can do nothing else. It holds until it is revoked or your password changes.',
    auth: 'bearer',
    answers: { 201: { description: 'the link', schema: LINK } },
    refusals: ['too_many_tokens', 'caller_unknown'],
    async handle(call) {
      const { berth, caller, requestId } = call
      const { secret, hash } = berth.tokens.drawForCalendar()
      const command = {
        kind: 'createToken',
        actor: caller,
        id: berth.newId('tok'),
        name: 'calendar',
        hash,
        lifetimeSeconds: null,
        requestId,
      } as const
      return perform(call, command, ({ token }): Outcome => {
        const body = { token_id: token.id, url: `/api/v1/calendar.ics?key=${secret}` }
        return { ...said(201, body, { 'cache-control': 'no-store' }), kept: { ...body, url: null } }
      })
    },
  }),
  route({
    method: 'GET',
    path: '/calendar.ics',
    id: 'getCalendar',
    tag: 'calendar',
    summary: 'The calendar behind a secret link, as iCalendar',
    auth: 'none',
    query: strict({
      key: Type.String({
        pattern: '^bcal_[A-Za-z0-9_-]{43}$',
        description: 'the secret of the link',
        examples: ['bcal_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'],
      }),
    }),
    answers: { 200: { description: 'the calendar', schema: Type.String(), type: 'text/calendar' } },
    refusals: ['token_invalid'],
    async handle({ berth, query, request }): Promise<Outcome | Refusal> {
      const userId = await berth.tokens.calendarOwner(query.key)
      if (isRefusal(userId)) return userId
      const { reads, schedule } = berth
      const nowMs = schedule.now()
      const host = request.hostname
      const [reservations, leases] = await Promise.all([
        reads.reservations({ userId, fromMs: nowMs - PAST_MS }, { after: '', rowsMax: ENTRIES_MAX }),
        reads.leases({ running: true, userId }, { after: null, rowsMax: ENTRIES_MAX }),
      ])
      // Those of a reservation are in its entry.
      const alone = leases.filter(({ reservationId }) => reservationId === null)
      const pools = await poolNames(
        berth,
        [...reservations, ...alone].map(({ poolId }) => poolId),
      )
      const vms = await Promise.all(alone.map(({ vmId }) => reads.vmById(vmId)))
      const poolOf = ({ poolId }: { readonly poolId: number }) => pools.get(poolId) ?? ''
      const entries = [
        ...reservations.map((reservation) => reservationEntry(reservation, poolOf(reservation), host)),
        ...alone.map((lease, i) =>
          leaseEntry(lease, vms[i]?.name ?? `machine ${lease.vmId}`, poolOf(lease), host, nowMs),
        ),
      ]
      return calendarOutcome(calendar('Berth', entries, nowMs))
    },
  }),
]
