/**
 * Every "no" that Berth can say: the closed catalogue. A refusal is a value, not an exception; exceptions mean bugs or a
 * broken world. Each entry has the HTTP status of Berth's own API and a text that quotes the field, the value and what is
 * allowed. The original API's texts and codes for the same refusals are in http/original. docs/REFUSALS.md lists the
 * catalogue, and a test holds the two against each other in both directions.
 */

interface Entry {
  readonly status: number
  // biome-ignore lint/suspicious/noExplicitAny: each entry has details of its own; `refusal` checks them by code
  readonly text: (details: any) => string
  /** Set when trying again later may help. */
  readonly retryAfterSeconds?: number
}

export const REFUSALS = {
  // who calls
  auth_missing: {
    status: 401,
    text: () =>
      'auth parameters missing: auth must be an object with userid (a whole number) and password (a text)',
  },
  caller_unknown: { status: 401, text: (d: { userId: number }) => `auth.userid ${d.userId} is no user` },
  password_wrong: { status: 401, text: () => 'auth.password is wrong' },
  token_missing: {
    status: 401,
    text: () => 'this call needs an API token: Authorization: Bearer <token>',
  },
  token_invalid: { status: 401, text: () => 'the API token is unknown, revoked or over' },
  email_or_password_wrong: { status: 401, text: () => 'no user has this email and password' },
  not_allowed: {
    status: 403,
    text: (d: { action: string; role: string }) => `the role ${d.role} may not do ${d.action}`,
  },
  too_many_attempts: {
    status: 429,
    retryAfterSeconds: 5,
    text: () => 'too many wrong passwords from this address: try again later',
  },
  setup_code_wrong: {
    status: 401,
    text: () =>
      'the first user needs the one-time setup code that the server printed at its start, as the header X-Setup-Code or the key setup_code',
  },
  foreign_request: {
    status: 403,
    text: (d: { origin: string }) => `a page of another site (${d.origin}) may not send requests here`,
  },
  host_unknown: {
    status: 403,
    text: (d: { host: string }) =>
      `Host ${quote(d.host)} is not a name of this server: start it with --allowed-hosts to add one`,
  },

  // what was sent
  body_invalid: {
    status: 400,
    text: (d: { reason: string }) => `the body must be a JSON object: ${d.reason}`,
  },
  body_too_large: {
    status: 413,
    text: (d: { bytesMax: number }) => `the body is larger than ${d.bytesMax} bytes`,
  },
  head_too_large: { status: 431, text: () => 'the head of the request is larger than this server reads' },
  request_slow: { status: 408, text: () => 'the request did not arrive in time' },
  request_unreadable: {
    status: 400,
    text: (d: { reason: string }) => `this is no HTTP request: ${d.reason}`,
  },
  path_invalid: { status: 400, text: () => 'the path is not valid percent-encoded text' },
  field_missing: { status: 400, text: (d: { field: string }) => `${d.field} is missing` },
  field_invalid: {
    status: 400,
    text: (d: { field: string; value: unknown; allowed: string }) =>
      d.value === null
        ? `${d.field} must be ${d.allowed}`
        : `${d.field} ${quote(d.value)} is not allowed: it must be ${d.allowed}`,
  },
  field_unknown: {
    status: 400,
    text: (d: { field: string; known: string }) => `${d.field} is not known here, only ${d.known}`,
  },
  content_type_wrong: {
    status: 415,
    text: (d: { contentType: string }) => `content-type ${quote(d.contentType)} is not application/json`,
  },
  idempotency_key_reused: {
    status: 422,
    text: (d: { key: string }) => `Idempotency-Key ${quote(d.key)} was used before for another call`,
  },
  etag_stale: {
    status: 412,
    text: (d: { etag: string }) => `If-Match ${d.etag} is over: it has changed since you read it`,
  },
  rate_limited: {
    status: 429,
    retryAfterSeconds: 1,
    text: (d: { policy: string; perMinute: number }) =>
      `more than ${d.perMinute} calls a minute (${d.policy}): slow down`,
  },
  expectation_unknown: {
    status: 417,
    text: (d: { expect: string }) => `Expect ${quote(d.expect)} cannot be met, only 100-continue`,
  },
  route_unknown: {
    status: 404,
    text: (d: { method: string; path: string }) => `there is no ${d.method} ${quote(d.path)}`,
  },
  method_wrong: {
    status: 405,
    text: (d: { method: string; allowed: string }) => `${d.method} is not possible here, only ${d.allowed}`,
  },

  // users
  no_users: { status: 409, text: () => 'there are no users yet: create one first' },
  user_unknown: { status: 404, text: (d: { userId: number | string }) => `id ${quote(d.userId)} is no user` },
  email_taken: {
    status: 409,
    text: (d: { email: string }) => `email ${quote(d.email)} belongs to another user`,
  },
  self_delete: { status: 409, text: () => 'users cannot delete themselves' },

  token_unknown: {
    status: 404,
    text: (d: { tokenId: string }) => `${quote(d.tokenId)} is no token of yours`,
  },
  too_many_tokens: {
    status: 409,
    text: (d: { tokensMax: number }) => `you have ${d.tokensMax} tokens already: revoke one first`,
  },

  // pools and machines
  size_below_use: {
    status: 409,
    text: (d: { size: number; sizeMin: number }) =>
      `pool_size ${d.size} is less than the ${d.sizeMin} machines that are in use`,
  },
  pool_unknown: { status: 404, text: (d: { pool: string }) => `${quote(d.pool)} is no pool` },
  pool_name_taken: {
    status: 409,
    text: (d: { name: string }) =>
      `${quote(d.name)} is the name or an alias of another pool, or is given twice`,
  },
  pool_not_empty: {
    status: 409,
    text: (d: { pool: string; size: number; machines: number; waiting: number; booked: number }) =>
      `pool ${quote(d.pool)} is not empty (size ${d.size}, machines ${d.machines}, waiting requests ${d.waiting}, reservations ${d.booked}): set its size to 0 first`,
  },
  vm_type_unknown: { status: 404, text: (d: { name: string }) => `${quote(d.name)} is no size of machine` },
  vm_type_taken: { status: 409, text: (d: { name: string }) => `there is a size ${quote(d.name)} already` },
  vm_type_fixed: {
    status: 409,
    text: (d: { name: string }) => `size ${quote(d.name)} is one of the original API's and stays`,
  },
  vm_type_in_use: {
    status: 409,
    text: (d: { name: string; pools: readonly string[] }) =>
      `size ${quote(d.name)} is in use by the pools ${d.pools}`,
  },
  too_many_vm_types: {
    status: 409,
    text: (d: { vmTypesMax: number }) => `there are ${d.vmTypesMax} sizes already: delete one first`,
  },
  none_free: {
    status: 409,
    retryAfterSeconds: 5,
    text: (d: { pool: string; type: string | null }) =>
      `no ${d.type === null ? '' : `${d.type} `}machine of pool ${quote(d.pool)} is free`,
  },
  vm_unknown: { status: 404, text: (d: { vmId: unknown }) => `vmid ${quote(d.vmId)} is no machine` },
  vm_not_free: { status: 409, text: (d: { vmId: number }) => `machine ${d.vmId} is not free` },
  vm_leased: { status: 409, text: (d: { vmId: number }) => `machine ${d.vmId} is checked out` },
  not_holder: { status: 403, text: (d: { vmId: number }) => `machine ${d.vmId} is not checked out by you` },
  generation_stale: {
    status: 412,
    text: (d: { vmId: number; generation: number }) =>
      `generation ${d.generation} of machine ${d.vmId} is over: the machine has been leased again since`,
  },
  pool_closed_to_you: {
    status: 403,
    text: (d: { pool: string }) => `pool ${quote(d.pool)} is open to certain users only`,
  },

  // leases and requests
  lease_unknown: { status: 404, text: (d: { lease: string }) => `${quote(d.lease)} is no lease` },
  lease_over: {
    status: 410,
    text: (d: { lease: string }) =>
      `lease ${d.lease} is over: the machine was given back, or has been leased again since`,
  },
  lease_too_long: {
    status: 422,
    text: (d: { durationSeconds: number | null; leaseSecondsMax: number }) =>
      `a lease ${d.durationSeconds === null ? 'without end' : `of ${d.durationSeconds} s`} is longer than this pool allows: at most ${d.leaseSecondsMax} s in all`,
  },
  lease_end_past: {
    status: 422,
    text: (d: { endsAt: string }) =>
      `the end ${d.endsAt} is not in the future: give the machine back instead`,
  },
  lease_endless: {
    status: 409,
    text: (d: { lease: string }) => `lease ${d.lease} has no end that could be moved: say when it is to end`,
  },
  heartbeat_not_agreed: {
    status: 409,
    text: (d: { lease: string }) => `lease ${d.lease} was taken without heartbeats`,
  },
  reason_missing: {
    status: 422,
    text: () => 'reason is missing: who takes a machine from its holder has to say why',
  },
  request_unknown: { status: 404, text: (d: { id: string }) => `${quote(d.id)} is no request` },
  request_over: {
    status: 409,
    text: (d: { id: string; state: string }) => `request ${d.id} no longer waits: it is ${d.state}`,
  },
  priority_too_high: {
    status: 403,
    text: (d: { priority: string; priorityMax: string }) =>
      `priority ${quote(d.priority)} is not for your role in this pool: at most ${quote(d.priorityMax)}`,
  },
  vm_busy: {
    status: 409,
    retryAfterSeconds: 5,
    text: (d: { vmId: number }) => `a worker is busy with machine ${d.vmId}`,
  },
  vm_named: {
    status: 409,
    text: (d: { vmId: number }) =>
      `machine ${d.vmId} is reserved or waited for by name: its labels stay as long as it is`,
  },
  classes_full: {
    status: 409,
    text: (d: { classesMax: number }) =>
      `the pool has machines of ${d.classesMax} combinations of size and labels already`,
  },
  vm_state_wrong: {
    status: 409,
    text: (d: { vmId: number; state: string; allowed: string }) =>
      `machine ${d.vmId} is ${d.state}; that is possible only for ${d.allowed}`,
  },

  // what waits and what is promised
  lease_promised: {
    status: 409,
    retryAfterSeconds: 5,
    text: (d: { offerSeconds: number | null }) =>
      `machines are free, but promised to a request that came before${offer(d.offerSeconds)}`,
  },
  lease_reserved: {
    status: 409,
    retryAfterSeconds: 5,
    text: (d: { offerSeconds: number | null }) =>
      `machines are free, but reserved for later${offer(d.offerSeconds)}`,
  },
  extension_promised: {
    status: 409,
    text: (d: { until: string | null }) =>
      `the machine is promised to a request that waits${offerUntil(d.until)}`,
  },
  extension_reserved: {
    status: 409,
    text: (d: { until: string | null }) => `the machine is reserved for later${offerUntil(d.until)}`,
  },
  quota_full: {
    status: 409,
    text: (d: { count: number }) =>
      `with ${d.count} more machines you would hold more than your quota allows`,
  },
  hours_full: {
    status: 409,
    text: (d: { hours: number }) => `${d.hours} more hours would be more than your quota of this week allows`,
  },
  quota_never: {
    status: 409,
    text: (d: { count: number }) => `${d.count} machines at once are more than your quota allows`,
  },
  waiting_full: {
    status: 409,
    text: (d: { waitingMax: number }) => `no more than ${d.waitingMax} of your requests may wait`,
  },
  wish_impossible: {
    status: 409,
    text: (d: { pool: string }) => `pool ${quote(d.pool)} has no such machines, or fewer of them`,
  },
  queue_busy: {
    status: 409,
    retryAfterSeconds: 1,
    text: (d: { pool: string }) =>
      `too many ask about the queue of pool ${quote(d.pool)} at this moment: ask again`,
  },
  kinds_full: {
    status: 409,
    retryAfterSeconds: 60,
    text: (d: { groupsMax: number }) =>
      `requests for ${d.groupsMax} different kinds and lengths are waiting already: wait for one of these`,
  },

  // what is booked
  window_empty: {
    status: 400,
    text: (d: { field: 'to'; from: string; to: string }) => `to ${d.to} must be after from ${d.from}`,
  },
  window_past: {
    status: 400,
    text: (d: { field: 'from'; from: string; to: string; now: string }) =>
      `from ${d.from} must not be in the past: it is ${d.now}`,
  },
  window_far: {
    status: 400,
    text: (d: { field: 'to'; from: string; to: string; until: string }) =>
      `to ${d.to} is too far ahead: machines can be reserved until ${d.until}`,
  },
  window_long: {
    status: 409,
    text: (d: { field: 'to'; from: string; to: string; secondsMax: number }) =>
      `from ${d.from} to ${d.to} is too long: the pool gives machines away for at most ${d.secondsMax} s`,
  },
  reservation_full: {
    status: 409,
    text: (d: { countMax: number; earliestFrom: string | null; otherTypes: readonly string[] }) =>
      `only ${d.countMax} of these machines are free then${earliestFrom(d.earliestFrom)}${otherTypes(d.otherTypes)}`,
  },
  vm_entangled: {
    status: 409,
    text: (d: { vmId: number; count: number }) =>
      `machine ${d.vmId} cannot be asked for by name, as what others have booked or wait for needs it; ${d.count} machines like it are free then`,
  },
  series_full: {
    status: 409,
    text: (d: { failed: number; count: number; windows: readonly unknown[] }) =>
      `${d.failed} of the ${d.count} windows cannot be reserved`,
  },
  reservation_unknown: { status: 404, text: (d: { id: string }) => `${quote(d.id)} is no reservation` },
  series_unknown: { status: 404, text: (d: { id: string }) => `${quote(d.id)} is no series of reservations` },
  reservation_over: {
    status: 409,
    text: (d: { id: string; state: string }) => `reservation ${quote(d.id)} is over: ${d.state}`,
  },

  // the installation
  internal_error: {
    status: 500,
    text: (d: { requestId: string }) => `internal error; see the log for request ${d.requestId}`,
  },
  reset_not_allowed: {
    status: 401,
    text: () => 'a reset needs an admin (auth), or a server that was started with --allow-reset',
  },
  resetting: { status: 503, retryAfterSeconds: 1, text: () => 'the installation is being reset' },
  overloaded: { status: 503, retryAfterSeconds: 1, text: () => 'too many requests are waiting' },
  store_unavailable: {
    status: 503,
    retryAfterSeconds: 2,
    text: (d: { reason: string }) => `the store cannot take changes now: ${d.reason}`,
  },
  outcome_unknown: {
    status: 503,
    retryAfterSeconds: 10,
    text: () =>
      'the connection to the database was lost while this was being saved, and whether it was done could not be found out: look before you try again',
  },
} as const satisfies Record<string, Entry>

export type RefusalCode = keyof typeof REFUSALS

/** A class, so that nothing that somebody sends can look like one. */
export class Refusal {
  readonly code: RefusalCode
  readonly status: number
  /** A sentence for people. */
  readonly message: string
  /** What the sentence was made of, for programs. */
  readonly details: Readonly<Record<string, unknown>>
  readonly retryAfterSeconds: number | null

  constructor(code: RefusalCode, details: Readonly<Record<string, unknown>>) {
    const entry: Entry = REFUSALS[code]
    this.code = code
    this.status = entry.status
    this.message = entry.text(details)
    this.details = details
    this.retryAfterSeconds = entry.retryAfterSeconds ?? null
  }
}

export function isRefusal(value: unknown): value is Refusal {
  return value instanceof Refusal
}

type Details<C extends RefusalCode> = Parameters<(typeof REFUSALS)[C]['text']>

/** The refusal `code`, with the details that its text quotes. */
export function refusal<C extends RefusalCode>(code: C, ...details: Details<C>): Refusal {
  return new Refusal(code, (details[0] ?? {}) as Record<string, unknown>)
}

function offer(seconds: number | null): string {
  return seconds === null ? '' : `; a lease of at most ${seconds} s is possible now`
}

function earliestFrom(time: string | null): string {
  return time === null ? '' : `; all of them are from ${time}`
}

function otherTypes(types: readonly string[]): string {
  return types.length === 0 ? '' : `; as many are free of ${types}`
}

function offerUntil(time: string | null): string {
  return time === null ? '' : `; its lease can be extended until ${time}`
}

const QUOTED_LENGTH_MAX = 100

/** A value as a message shows it: JSON, cut to a bearable length. */
function quote(value: unknown): string {
  let text: string
  try {
    text = JSON.stringify(value) ?? String(value)
  } catch {
    text = typeof value
  }
  if (text.length <= QUOTED_LENGTH_MAX) return text
  // Not in the middle of a character.
  return `${text.slice(0, QUOTED_LENGTH_MAX).replace(/[\ud800-\udbff]$/, '')}…`
}
