/**
 * How /api/v1 says no: RFC 9457 problem documents, made of refusals. `type` is where the code is explained, and `code` never changes
 * its meaning; `field` names what was wrong with what was sent, wherever it was something that was sent.
 */
import { STATUS_CODES } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { Refusal } from '../../domain/refusal.ts'

export const PROBLEM_TYPE = 'application/problem+json'

/** True for paths on which every answer is this API's. */
export function isV1(url: string): boolean {
  return url.startsWith('/api/v1') && (url.length === 7 || url[7] === '/' || url[7] === '?')
}

/** Where the documentation of a code is. */
function problemUri(code: string): string {
  return `/docs#${code}`
}

/** What each refusal is about, where it does not say so itself. */
const FIELDS: Readonly<Record<string, string>> = {
  body_invalid: 'body',
  body_too_large: 'body',
  content_type_wrong: 'content-type',
  path_invalid: 'path',
  route_unknown: 'path',
  method_wrong: 'method',
  host_unknown: 'host',
  foreign_request: 'origin',
  expectation_unknown: 'expect',
  token_missing: 'authorization',
  token_invalid: 'authorization',
  rate_limited: 'authorization',
  not_allowed: 'authorization',
  auth_missing: 'authorization',
  caller_unknown: 'authorization',
  password_wrong: 'authorization',
  email_or_password_wrong: 'password',
  too_many_attempts: 'password',
  setup_code_wrong: 'x-setup-code',
  idempotency_key_reused: 'idempotency-key',
  etag_stale: 'if-match',
  email_taken: 'email',
  user_unknown: 'id',
  self_delete: 'id',
  token_unknown: 'id',
  too_many_tokens: 'name',
  pool_unknown: 'name',
  pool_name_taken: 'name',
  pool_not_empty: 'name',
  vm_type_unknown: 'name',
  vm_type_taken: 'name',
  vm_type_fixed: 'name',
  vm_type_in_use: 'name',
  too_many_vm_types: 'name',
  vm_unknown: 'id',
  vm_not_free: 'id',
  vm_leased: 'id',
  vm_busy: 'id',
  vm_state_wrong: 'id',
  vm_named: 'id',
  classes_full: 'labels',
  lease_unknown: 'id',
  lease_over: 'id',
  generation_stale: 'if-match',
  pool_closed_to_you: 'pool',
  lease_too_long: 'duration',
  lease_end_past: 'ends_at',
  lease_endless: 'extend_by',
  heartbeat_not_agreed: 'id',
  reason_missing: 'reason',
  request_unknown: 'id',
  request_over: 'id',
  priority_too_high: 'priority',
  none_free: 'wait',
  lease_promised: 'duration',
  lease_reserved: 'duration',
  extension_promised: 'ends_at',
  extension_reserved: 'ends_at',
  quota_full: 'count',
  quota_never: 'count',
  waiting_full: 'wait',
  wish_impossible: 'type',
  kinds_full: 'kinds',
  queue_busy: 'id',
  vm_entangled: 'machine',
  reservation_full: 'from',
  series_full: 'recurrence',
  window_long: 'to',
  reservation_unknown: 'id',
  reservation_over: 'id',
  series_unknown: 'id',
}

export function problemOf(no: Refusal, instance: string): Record<string, unknown> {
  const { field = FIELDS[no.code] ?? null, ...details } = no.details
  return {
    type: problemUri(no.code),
    title: STATUS_CODES[no.status] ?? 'Error',
    status: no.status,
    detail: no.message,
    instance,
    code: no.code,
    field,
    details,
  }
}

/** Prepares the answer to a refusal; returns the text to send. */
export function sayProblem(reply: FastifyReply, no: Refusal): string {
  reply.code(no.status)
  reply.header('content-type', `${PROBLEM_TYPE}; charset=utf-8`)
  if (no.status === 401) reply.header('www-authenticate', 'Bearer')
  if (no.retryAfterSeconds !== null && !reply.hasHeader('retry-after'))
    reply.header('retry-after', no.retryAfterSeconds)
  return JSON.stringify(problemOf(no, String(reply.request.id)))
}
