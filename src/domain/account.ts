/**
 * How users come, change and go. The first user of an installation becomes admin without credentials (where a setup code
 * is asked for, with it). An e-mail belongs to one active user. Deleting a user voids their credentials at once; the
 * machines that they hold go to maintenance, a slice a batch, and only then the user is gone.
 */
import { leasesEnded } from './check-in.ts'
import { type Actor, authorized, knownCaller, type Rule } from './decision.ts'
import { etagFits, etagOf } from './etag.ts'
import { may } from './permission.ts'
import { isRefusal, refusal } from './refusal.ts'
import type { Role, User } from './user.ts'

export interface CreateUser {
  readonly kind: 'createUser'
  /** null: the caller presented no credentials. */
  readonly actor: Actor | null
  /** True when the caller may become the first user: no setup code is asked for, or the right one was given. */
  readonly mayBeFirst: boolean
  readonly name: string
  readonly email: string
  readonly role: Role
  readonly passwordHash: string
  readonly requestId: string
}

/** Refused: `auth_missing`, `setup_code_wrong`, `email_taken`; callers as in decision.ts. */
export const createUser: Rule<CreateUser, { user: User }> = {
  needs(command, needs) {
    if (command.actor !== null) needs.userIds.add(command.actor.userId)
    needs.emails.add(command.email)
    needs.installation = true
    needs.census = true
  },

  decide(view, command) {
    const first = view.census?.users === 0
    let creatorId: number | null = null
    if (first) {
      if (!command.mayBeFirst) return refusal('setup_code_wrong')
    } else {
      if (command.actor === null) return refusal('auth_missing')
      const caller = authorized(view, command.actor, 'user.create')
      if (isRefusal(caller)) return caller
      creatorId = caller.id
    }
    if (view.userByEmail(command.email) !== undefined) return refusal('email_taken', { email: command.email })
    const { installation } = view
    const user: User = {
      id: installation.nextUserId,
      name: command.name,
      email: command.email,
      role: first ? 'admin' : command.role,
      passwordHash: command.passwordHash,
      credentialVersion: 1,
      quota: null,
      state: 'active',
      createdAtMs: view.nowMs,
    }
    return {
      changes: {
        installation: { ...installation, nextUserId: user.id + 1 },
        users: [user],
        events: [
          {
            type: 'user.created',
            actorId: creatorId,
            userId: user.id,
            requestId: command.requestId,
            data: { name: user.name, email: user.email, role: user.role },
          },
        ],
      },
      reply: { user },
    }
  },
}

export interface ChangeUser {
  readonly kind: 'changeUser'
  readonly actor: Actor
  readonly userId: number
  readonly name: string | null
  readonly email: string | null
  readonly passwordHash: string | null
  /** Tags of states that the caller has seen; none: whatever it is. */
  readonly ifMatch?: readonly string[] | null
  readonly requestId: string
}

/** Tells what a user is called from what they were called before. */
export function userEtag(user: User): string {
  return etagOf([user.id, user.name, user.email, user.role])
}

/** Refused: `not_allowed`, `user_unknown`, `etag_stale`, `email_taken`; callers as in decision.ts. */
export const changeUser: Rule<ChangeUser, { user: User }> = {
  needs(command, needs) {
    needs.userIds.add(command.actor.userId)
    needs.userIds.add(command.userId)
    needs.changedUserIds.add(command.userId)
    if (command.email !== null) needs.emails.add(command.email)
  },

  decide(view, command) {
    const caller = knownCaller(view, command.actor)
    if (isRefusal(caller)) return caller
    const action = command.userId === caller.id ? 'user.change.self' : 'user.change.other'
    if (!may(caller.role, action)) return refusal('not_allowed', { action, role: caller.role })
    const user = view.user(command.userId)
    if (user === undefined || user.state !== 'active')
      return refusal('user_unknown', { userId: command.userId })
    if (!etagFits(command.ifMatch ?? null, userEtag(user)))
      return refusal('etag_stale', { etag: (command.ifMatch ?? []).join(', ') })
    const owner = command.email === null ? undefined : view.userByEmail(command.email)
    if (owner !== undefined && owner.id !== user.id)
      return refusal('email_taken', { email: command.email ?? '' })
    const changed: User = {
      ...user,
      name: command.name ?? user.name,
      email: command.email ?? user.email,
      passwordHash: command.passwordHash ?? user.passwordHash,
      credentialVersion: user.credentialVersion + (command.passwordHash === null ? 0 : 1),
    }
    const data = {
      ...(changed.name === user.name ? {} : { name: [user.name, changed.name] }),
      ...(changed.email === user.email ? {} : { email: [user.email, changed.email] }),
      ...(command.passwordHash === null ? {} : { password: true }),
    }
    if (Object.keys(data).length === 0) return { changes: { events: [] }, reply: { user } }
    const { requestId } = command
    return {
      changes: {
        users: [changed],
        events: [{ type: 'user.changed', actorId: caller.id, userId: user.id, requestId, data }],
      },
      reply: { user: changed },
    }
  },
}

export interface DeleteUser {
  readonly kind: 'deleteUser'
  readonly actor: Actor
  readonly userId: number
  readonly requestId: string
}

/** Refused: `not_allowed`, `self_delete`, `user_unknown`; callers as in decision.ts. */
export const deleteUser: Rule<DeleteUser, null> = {
  needs(command, needs) {
    needs.userIds.add(command.actor.userId)
    needs.userIds.add(command.userId)
    needs.changedUserIds.add(command.userId)
  },

  decide(view, command) {
    const caller = authorized(view, command.actor, 'user.delete')
    if (isRefusal(caller)) return caller
    if (command.userId === caller.id) return refusal('self_delete')
    const user = view.user(command.userId)
    if (user === undefined || user.state !== 'active')
      return refusal('user_unknown', { userId: command.userId })
    return {
      changes: {
        users: [
          { ...user, state: 'leaving', passwordHash: '', credentialVersion: user.credentialVersion + 1 },
        ],
        events: [
          {
            type: 'user.deleted',
            actorId: caller.id,
            userId: user.id,
            requestId: command.requestId,
            data: { name: user.name, email: user.email },
          },
        ],
      },
      reply: null,
    }
  },
}

export interface ReleaseLeaver {
  readonly kind: 'releaseLeaver'
  readonly userId: number
  readonly machinesMax: number
}

/** Takes back machines of a user who was deleted; when none is left, the user is gone. Never refused. */
export const releaseLeaver: Rule<ReleaseLeaver, { done: boolean }> = {
  needs(command, needs) {
    needs.userIds.add(command.userId)
    needs.changedUserIds.add(command.userId)
    const wanted = needs.heldBy.get(command.userId) ?? 0
    needs.heldBy.set(command.userId, wanted + command.machinesMax)
  },

  decide(view, command) {
    const user = view.user(command.userId)
    if (user?.state !== 'leaving') return { changes: { events: [] }, reply: { done: true } }
    const held = view.vmsWhere((vm) => vm.holderId === user.id).slice(0, command.machinesMax)
    if (held.length > 0)
      return {
        changes: leasesEnded(
          view,
          held.map((vm) => ({ vm, by: 'user_deleted', actorId: null })),
        ),
        reply: { done: false },
      }
    return {
      changes: {
        users: [{ ...user, state: 'gone' }],
        events: [{ type: 'user.gone', actorId: null, userId: user.id }],
      },
      reply: { done: true },
    }
  },
}
