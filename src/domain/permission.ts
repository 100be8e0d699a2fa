/**
 * Which role may do what. Rules that depend on the thing itself (the holder of a lease, one's own account) stand with
 * the command; they ask here first.
 */
import type { Role } from './user.ts'

export type Action =
  | 'user.create'
  | 'user.list'
  | 'user.change.self'
  | 'user.change.other'
  | 'user.delete'
  | 'token.list.other'
  | 'token.revoke.self'
  | 'token.revoke.other'
  | 'vm_type.change'
  | 'pool.change'
  | 'vm.checkout'
  | 'vm.checkin'
  | 'lease.release'
  | 'vm.maintain'
  | 'vm.delete'
  | 'installation.reset'

const PERMISSIONS = {
  'user.create': ['admin'],
  'user.list': ['admin'],
  'user.change.self': ['admin', 'user'],
  'user.change.other': ['admin'],
  'user.delete': ['admin'],
  'token.list.other': ['admin'],
  'token.revoke.self': ['admin', 'user'],
  'token.revoke.other': ['admin'],
  'vm_type.change': ['admin'],
  'pool.change': ['admin'],
  'vm.checkout': ['admin', 'user'],
  'vm.checkin': ['admin', 'user'],
  'lease.release': ['admin'],
  'vm.maintain': ['admin'],
  'vm.delete': ['admin'],
  'installation.reset': ['admin'],
} satisfies Record<Action, readonly Role[]>

/** True when a user of `role` may do `action`. */
export function may(role: Role, action: Action): boolean {
  return (PERMISSIONS[action] as readonly Role[]).includes(role)
}
