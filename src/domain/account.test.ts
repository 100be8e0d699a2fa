/** How users come, change and go: the first one, e-mails that belong to one user, and leavers whose machines are taken back. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  ADMIN,
  accepted,
  actor,
  aPool,
  assertRefused,
  aUser,
  aVm,
  USER,
  World,
} from '../../test/support/world.ts'
import type { ChangeUser, CreateUser, DeleteUser } from './account.ts'

function createUser(edit: Partial<CreateUser> = {}): CreateUser {
  return {
    kind: 'createUser',
    actor: ADMIN,
    mayBeFirst: true,
    name: 'Eve',
    email: 'eve@example.org',
    role: 'user',
    passwordHash: 'hash of eve',
    requestId: 'r1',
    ...edit,
  }
}

function changeUser(edit: Partial<ChangeUser> = {}): ChangeUser {
  return {
    kind: 'changeUser',
    actor: USER,
    userId: 2,
    name: null,
    email: null,
    passwordHash: null,
    requestId: 'r1',
    ...edit,
  }
}

function deleteUser(userId: number, edit: Partial<DeleteUser> = {}): DeleteUser {
  return { kind: 'deleteUser', actor: ADMIN, userId, requestId: 'r1', ...edit }
}

function release(userId: number, machinesMax = 100) {
  return { kind: 'releaseLeaver', userId, machinesMax } as const
}

describe('the first user', () => {
  it('becomes admin without credentials, whatever role was asked for', () => {
    const world = new World({ users: [] })
    const { user } = accepted(world.run(createUser({ actor: null })))
    assert.deepEqual(user, {
      id: 1,
      name: 'Eve',
      email: 'eve@example.org',
      role: 'admin',
      passwordHash: 'hash of eve',
      credentialVersion: 1,
      quota: null,
      state: 'active',
      createdAtMs: world.nowMs,
    })
    assert.equal(world.lastEvent.actorId, null)
    assert.deepEqual(world.lastEvent.data, { name: 'Eve', email: 'eve@example.org', role: 'admin' })
  })

  it('is refused without the setup code where one is asked for', () => {
    const world = new World({ users: [] })
    assertRefused(world.run(createUser({ actor: null, mayBeFirst: false })), 'setup_code_wrong')
  })

  it('is one: of two that come in one batch, the second needs credentials', () => {
    const world = new World({ users: [] })
    const [first, second] = world.batch(
      createUser({ actor: null }),
      createUser({ actor: null, email: 'mallory@example.org' }),
    )
    accepted(first)
    assertRefused(second, 'auth_missing')
    assert.equal(world.tables.users.size, 1)
  })

  it('is not who comes after users that have left', () => {
    const world = new World({ users: [aUser(1), aUser(2, { state: 'gone' })] })
    assertRefused(world.run(createUser({ actor: null })), 'auth_missing')
  })
})

describe('making a user', () => {
  it('gives ids that were never used, and the role that was asked for', () => {
    const world = new World({ users: [aUser(1), aUser(2, { state: 'gone' })] })
    const { user } = accepted(world.run(createUser({ role: 'admin' })))
    assert.deepEqual([user.id, user.role], [3, 'admin'])
    assert.equal(world.tables.installation.nextUserId, 4)
  })

  it('is for admins', () => {
    const world = new World()
    assertRefused(world.run(createUser({ actor: USER })), 'not_allowed')
    assertRefused(world.run(createUser({ actor: actor(9) })), 'caller_unknown')
    assertRefused(world.run(createUser({ actor: null })), 'auth_missing')
    assertRefused(world.run(createUser({ actor: actor(1, 2) })), 'password_wrong')
  })

  it('never tells the password or its hash in the fact that it leaves behind', () => {
    const world = new World()
    world.run(createUser({ passwordHash: 'secret-hash' }))
    assert.ok(!JSON.stringify(world.tables.events).includes('secret-hash'))
  })
})

describe('an e-mail', () => {
  it('belongs to one active user, with its case', () => {
    const world = new World()
    assertRefused(world.run(createUser({ email: 'user2@example.org' })), 'email_taken')
    accepted(world.run(createUser({ email: 'User2@example.org' })))
  })

  it('goes to the first of two users that are made in one batch', () => {
    const world = new World()
    const [first, second] = world.batch(createUser(), createUser({ name: 'Other' }))
    accepted(first)
    assertRefused(second, 'email_taken')
  })

  it('goes to the first of two users who take it in one batch', () => {
    const world = new World()
    const [first, second] = world.batch(
      changeUser({ email: 'x@example.org' }),
      changeUser({ actor: actor(3), userId: 3, email: 'x@example.org' }),
    )
    accepted(first)
    assertRefused(second, 'email_taken')
  })

  it('is free once its user took another, also within one batch', () => {
    const world = new World()
    const [, second] = world.batch(
      changeUser({ email: 'new@example.org' }),
      createUser({ email: 'user2@example.org' }),
    )
    assert.equal(accepted(second as { user: { id: number } }).user.id, 4)
  })

  it('is free once its user was deleted, also while the machines are still being taken back', () => {
    const world = new World({ vms: [aVm(1, { state: 'leased' })] })
    const [, second] = world.batch(deleteUser(2), createUser({ email: 'user2@example.org' }))
    accepted(second)
    assert.equal(world.user(2).state, 'leaving')
  })

  it('stays with who has it now when its former user is gone at last', () => {
    const users = [aUser(1), aUser(2, { state: 'leaving' }), aUser(3, { email: 'user2@example.org' })]
    const world = new World({ users })
    const [, answer] = world.batch(release(2), createUser({ email: 'user2@example.org' }))
    assertRefused(answer, 'email_taken')
  })
})

describe('changing a user', () => {
  it('changes what is given and leaves the rest, with a fact that tells both', () => {
    const world = new World()
    const { user } = accepted(world.run(changeUser({ name: 'New', email: 'new@example.org' })))
    assert.deepEqual(user, { ...aUser(2), name: 'New', email: 'new@example.org' })
    assert.deepEqual(world.user(2), user)
    assert.deepEqual(world.lastEvent.data, {
      name: ['User 2', 'New'],
      email: ['user2@example.org', 'new@example.org'],
    })
  })

  it('voids what was verified before when the password changes, and only then', () => {
    const world = new World()
    world.run(changeUser({ name: 'New' }))
    assert.equal(world.user(2).credentialVersion, 1)
    const { user } = accepted(world.run(changeUser({ passwordHash: 'new hash' })))
    assert.deepEqual([user.passwordHash, user.credentialVersion], ['new hash', 2])
    assertRefused(world.run(changeUser({ name: 'Late' })), 'password_wrong')
    accepted(world.run(changeUser({ actor: actor(2, 2), name: 'In time' })))
    assert.ok(!JSON.stringify(world.tables.events).includes('new hash'))
  })

  it('refuses what was verified before the change in the very same batch', () => {
    const world = new World()
    const [first, second] = world.batch(
      changeUser({ passwordHash: 'new hash' }),
      changeUser({ name: 'Late' }),
    )
    accepted(first)
    assertRefused(second, 'password_wrong')
  })

  it('records nothing when nothing changes: the own e-mail and the own name may be given again', () => {
    const world = new World()
    accepted(world.run(changeUser()))
    accepted(world.run(changeUser({ name: 'User 2', email: 'user2@example.org' })))
    assert.deepEqual(world.tables.events, [])
  })

  it('is for oneself, and for admins', () => {
    const world = new World()
    assertRefused(world.run(changeUser({ userId: 3, name: 'X' })), 'not_allowed')
    assertRefused(world.run(changeUser({ userId: 99, name: 'X' })), 'not_allowed')
    accepted(world.run(changeUser({ actor: ADMIN, userId: 3, name: 'X' })))
    accepted(world.run(changeUser({ actor: ADMIN, userId: 1, name: 'X' })))
  })

  it('of somebody who is not there, is leaving or is gone is refused', () => {
    const users = [aUser(1), aUser(2, { state: 'leaving' }), aUser(3, { state: 'gone' })]
    const world = new World({ users })
    for (const userId of [2, 3, 9])
      assertRefused(world.run(changeUser({ actor: ADMIN, userId, name: 'X' })), 'user_unknown')
  })

  it('to an e-mail of another user is refused', () => {
    assertRefused(new World().run(changeUser({ email: 'user1@example.org' })), 'email_taken')
  })

  it('keeps the machines of who changes the e-mail theirs', () => {
    const world = new World({ vms: [aVm(1, { state: 'leased' })] })
    accepted(world.run(changeUser({ email: 'new@example.org' })))
    accepted(world.run({ kind: 'checkIn', actor: USER, vmId: 1, generation: null, requestId: 'r' }))
  })
})

describe('deleting a user', () => {
  const vms = [1, 2, 3].map((id) => aVm(id, { state: 'leased', generation: id }))

  it('voids their credentials at once, and keeps their row until their machines are back', () => {
    const world = new World({ vms })
    accepted(world.run(deleteUser(2)))
    assert.deepEqual(world.user(2), {
      ...aUser(2),
      state: 'leaving',
      passwordHash: '',
      credentialVersion: 2,
    })
    assertRefused(
      world.run({ kind: 'checkIn', actor: USER, vmId: 1, generation: null, requestId: 'r' }),
      'caller_unknown',
    )
    assert.deepEqual(world.lastEvent.data, { name: 'User 2', email: 'user2@example.org' })
  })

  it('is for admins, never for oneself, and of users who are there', () => {
    const world = new World({ users: [aUser(1), aUser(2), aUser(3, { state: 'gone' })] })
    assertRefused(world.run(deleteUser(2, { actor: USER })), 'not_allowed')
    assertRefused(world.run(deleteUser(1)), 'self_delete')
    assertRefused(world.run(deleteUser(3)), 'user_unknown')
    assertRefused(world.run(deleteUser(9)), 'user_unknown')
  })

  it('leaves an admin: of two who delete each other in one batch, the first one stays', () => {
    const world = new World({ users: [aUser(1), aUser(2, { role: 'admin' })] })
    const [first, second] = world.batch(deleteUser(2), deleteUser(1, { actor: actor(2) }))
    accepted(first)
    assertRefused(second, 'caller_unknown')
    assert.equal(world.user(1).state, 'active')
  })

  it('takes their machines back a slice at a time, and then they are gone', () => {
    const world = new World({ vms, pools: [aPool({ target: 3, cleaning: 'automatic' })] })
    accepted(world.run(deleteUser(2)))
    assert.deepEqual(accepted(world.run(release(2, 2))), { done: false })
    assert.deepEqual(world.states(), ['maintenance', 'maintenance', 'leased'])
    assert.equal(world.vm(1).dueAtMs, world.nowMs)
    assert.deepEqual(accepted(world.run(release(2, 2))), { done: false })
    assert.deepEqual(accepted(world.run(release(2, 2))), { done: true })
    assert.equal(world.user(2).state, 'gone')
    assert.deepEqual(
      world.tables.events.map(({ type, actorId, userId, vmId }) => [type, actorId, userId, vmId]),
      [
        ['user.deleted', 1, 2, undefined],
        ['vm.checked_in', null, 2, 1],
        ['vm.checked_in', null, 2, 2],
        ['vm.checked_in', null, 2, 3],
        ['user.gone', null, 2, undefined],
      ],
    )
  })

  it('forgets no machine when two slices are taken in one batch', () => {
    const world = new World({ vms })
    accepted(world.run(deleteUser(2)))
    world.batch(release(2, 1), release(2, 1))
    assert.equal(world.user(2).state, 'leaving')
    while (!accepted(world.run(release(2, 1))).done);
    assert.deepEqual(world.idsIn('leased'), [])
  })

  it('has nothing to take back from who is active or gone', () => {
    const world = new World({ users: [aUser(1), aUser(2), aUser(3, { state: 'gone' })], vms })
    for (const userId of [2, 3, 9]) assert.deepEqual(accepted(world.run(release(userId))), { done: true })
    assert.deepEqual(world.states(), ['leased', 'leased', 'leased'])
  })
})
