/**
 * The bodies of the original API: keys, texts, spaces and the casing of `message` are what its clients read, and are kept to
 * the letter. Each route has its own status and text for the same refusal; what the original had no answer for gets the
 * refusal's own message and status.
 */
import { POOL_SIZE_MAX, type PoolStats } from '../../domain/pool.ts'
import type { Refusal, RefusalCode } from '../../domain/refusal.ts'
import type { User } from '../../domain/user.ts'
import type { VmState } from '../../domain/vm.ts'
import type { VmListing } from '../../store/port.ts'

export interface Answer {
  readonly status: number
  readonly body: unknown
}

export type RefusalAnswers = Partial<Record<RefusalCode, Answer>>

function lower(status: number, message: string): Answer {
  return { status, body: { message } }
}

function upper(status: number, message: string): Answer {
  return { status, body: { Message: message } }
}

/** What a refusal answers on a route. */
export function answerOf(refusal: Refusal, answers: RefusalAnswers): Answer {
  return answers[refusal.code] ?? lower(refusal.status, refusal.message)
}

export const MESSAGES = {
  tablesCreated: { message: 'Tables Created' },
  userCreated: { message: 'User Created.' },
  updateDone: { Message: 'Update done' },
  recordDeleted: { Message: 'Record Deleted' },
  resourcesCreated: { message: 'Resources Created.' },
  resourcesRecreated: { message: 'Pool resources recreated.' },
  poolSizeUpdated: { message: 'Pool size updated successfully' },
  nothingToUpdate: { message: 'Nothing to Update' },
  vmDeleted: { Message: 'VM deleted' },
} as const

const AUTH_FAILED = 'Authentication or Authorization failed'
const AUTH_MISSING = lower(400, 'auth parameters missing')
const CHECKOUT_FAILED = 'Unauthorized! Authentication failed.Or you tried to check out pre owned VM. '
const CHECKIN_FAILED =
  'Unauthorized! Only Owner can check in the VM back to pool.Or you tried to check in someone else VM. '
const MAINTENANCE_FAILED =
  'Unauthorized! Only Admin can bring VM back to pool.Or you tried to checkin VM which is not under maintenance.'

const CREATE_USER: RefusalAnswers = {
  auth_missing: AUTH_MISSING,
  caller_unknown: upper(401, AUTH_FAILED),
  password_wrong: upper(401, AUTH_FAILED),
  not_allowed: upper(401, AUTH_FAILED),
  email_taken: lower(400, 'User with same email already exist,User is not created.'),
}

const CHANGE_USER: RefusalAnswers = {
  auth_missing: AUTH_MISSING,
  caller_unknown: lower(400, AUTH_FAILED),
  password_wrong: upper(400, AUTH_FAILED),
  not_allowed: upper(400, AUTH_FAILED),
}

const DELETE_USER: RefusalAnswers = {
  auth_missing: AUTH_MISSING,
  caller_unknown: lower(400, 'Invalid user'),
  password_wrong: upper(401, AUTH_FAILED),
  not_allowed: upper(401, AUTH_FAILED),
  self_delete: lower(400, 'User self delete not allowed'),
  user_unknown: upper(200, MESSAGES.recordDeleted.Message),
}

const SIZE_POOL: RefusalAnswers = {
  auth_missing: AUTH_MISSING,
  no_users: lower(400, 'Please create user first.'),
  caller_unknown: lower(400, 'Invalid user'),
  password_wrong: upper(401, AUTH_FAILED),
  not_allowed: upper(401, AUTH_FAILED),
  size_below_use: lower(400, 'Cannot resize as , currently in used VM > expected pool resize value'),
}

const DELETE_VM: RefusalAnswers = {
  auth_missing: AUTH_MISSING,
  caller_unknown: lower(400, 'Invalid user.'),
  password_wrong: upper(401, AUTH_FAILED),
  not_allowed: upper(401, AUTH_FAILED),
  vm_unknown: lower(400, 'Invalid VM.'),
  vm_leased: upper(401, 'Cannot delete VM which is use.'),
}

const CHECKOUT: RefusalAnswers = {
  auth_missing: AUTH_MISSING,
  caller_unknown: lower(400, 'Invalid User'),
  password_wrong: lower(401, CHECKOUT_FAILED),
  not_allowed: lower(401, CHECKOUT_FAILED),
  vm_unknown: lower(400, 'Invalid VM'),
  vm_not_free: lower(400, 'VM not available for use,Please select another VM.'),
  none_free: lower(400, "No VM's are available in pool for checkout.Please retry after some time."),
}

const CHECKIN: RefusalAnswers = {
  auth_missing: AUTH_MISSING,
  caller_unknown: lower(400, 'Invalid User'),
  password_wrong: lower(401, CHECKIN_FAILED),
  not_allowed: lower(401, CHECKIN_FAILED),
  not_holder: lower(401, CHECKIN_FAILED),
  vm_unknown: lower(400, 'Invalid VM'),
}

const MAINTENANCE: RefusalAnswers = {
  auth_missing: AUTH_MISSING,
  caller_unknown: lower(400, 'Invalid User'),
  password_wrong: lower(401, MAINTENANCE_FAILED),
  not_allowed: lower(401, MAINTENANCE_FAILED),
  vm_state_wrong: lower(401, MAINTENANCE_FAILED),
  vm_busy: lower(401, MAINTENANCE_FAILED),
  vm_unknown: lower(400, 'Invalid VM'),
}

const RESET: RefusalAnswers = {
  reset_not_allowed: upper(401, AUTH_FAILED),
  auth_missing: upper(401, AUTH_FAILED),
  caller_unknown: upper(401, AUTH_FAILED),
  password_wrong: upper(401, AUTH_FAILED),
  not_allowed: upper(401, AUTH_FAILED),
}

/** What each call answers to each refusal that the original knew. */
export const REFUSAL_ANSWERS = {
  createUser: CREATE_USER,
  changeUser: CHANGE_USER,
  deleteUser: DELETE_USER,
  sizePool: SIZE_POOL,
  deleteVm: DELETE_VM,
  checkout: CHECKOUT,
  checkIn: CHECKIN,
  maintenance: MAINTENANCE,
  reset: RESET,
} as const

/** The text for a target that PATCH /user does not find. */
export function userNotFound(id: number | string): Answer {
  return lower(400, `The user with Id${id} not found`)
}

export const POOL_SIZE_ALLOWED = `a whole number from 0 to ${POOL_SIZE_MAX}`

/** The name under which lists are given when they are empty. */
export const EMPTY = '[]'

type Mapped = 'idle' | 'maintenance' | 'holder'

/** What `vm_map_to` shows for a machine's state. Machines being destroyed are in no list. */
const MAPPED = {
  provisioning: 'maintenance',
  ready: 'idle',
  leased: 'holder',
  maintenance: 'maintenance',
  failed: 'maintenance',
  cordoned: 'maintenance',
  deleting: 'maintenance',
} as const satisfies Record<VmState, Mapped>

/** A machine as the lists show it. */
export function vmRow(vm: VmListing) {
  const mapped = MAPPED[vm.state]
  return {
    id: vm.id,
    vm_name: vm.name,
    vm_type: vm.type,
    vm_ip: vm.address,
    vm_Status: vm.power,
    vm_map_to: mapped === 'holder' ? vm.holderEmail : mapped,
    date_created: httpDate(vm.createdAtMs),
  }
}

/** A machine as the answers to checkout, check-in and maintenance show it. */
export function vmKeys(vm: Pick<VmListing, 'id' | 'name' | 'address' | 'type'>) {
  return { 'vm-Id': vm.id, hostname: vm.name, 'ip-address': vm.address, 'vm type': vm.type }
}

/** A user as the lists show it. */
export function userRow(user: User) {
  return { id: user.id, name: user.name, email: user.email }
}

/** A user as the answers to checkout show it. */
export function userKeys(user: User) {
  return { 'user-Id': user.id, 'User-name': user.name, 'user-email': user.email }
}

export function basicStats(stats: PoolStats | null) {
  return {
    'Pool Stats': {
      total_VM_count_in_pool: String(stats?.existing ?? 0),
      free_VM_in_pool: stats?.free ?? 0,
      VM_under_maintenance_in_Pool: stats?.aside ?? 0,
      allocated_VM_in_Pool: stats?.leased ?? 0,
    },
  }
}

const DAY_MS = 86_400_000
let lastDay = -1
let lastDate = ''

/** The day of a time as an HTTP date at midnight: "Sun, 25 Sep 2022 00:00:00 GMT". Lists show few different days. */
function httpDate(atMs: number): string {
  const day = Math.floor(atMs / DAY_MS)
  if (day !== lastDay) {
    lastDay = day
    lastDate = new Date(day * DAY_MS).toUTCString()
  }
  return lastDate
}
