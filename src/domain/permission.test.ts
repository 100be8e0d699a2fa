/** Who may do what: every action for every role, written down a second time. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Action, may } from './permission.ts'
import type { Role } from './user.ts'

const MAY: Record<Action, Record<Role, boolean>> = {
  'user.create': { admin: true, user: false },
  'user.list': { admin: true, user: false },
  'user.change.self': { admin: true, user: true },
  'user.change.other': { admin: true, user: false },
  'user.delete': { admin: true, user: false },
  'token.list.other': { admin: true, user: false },
  'token.revoke.self': { admin: true, user: true },
  'token.revoke.other': { admin: true, user: false },
  'vm_type.change': { admin: true, user: false },
  'pool.change': { admin: true, user: false },
  'vm.checkout': { admin: true, user: true },
  'vm.checkin': { admin: true, user: true },
  'lease.release': { admin: true, user: false },
  'vm.maintain': { admin: true, user: false },
  'vm.delete': { admin: true, user: false },
  'installation.reset': { admin: true, user: false },
}

describe('permission', () => {
  for (const [action, roles] of Object.entries(MAY) as [Action, Record<Role, boolean>][])
    for (const [role, allowed] of Object.entries(roles) as [Role, boolean][])
      it(`${allowed ? 'lets' : 'does not let'} the role ${role} do ${action}`, () => {
        assert.equal(may(role, action), allowed)
      })
})
