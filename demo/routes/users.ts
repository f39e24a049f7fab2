/** Users: one's own profile, public profiles, and what an admin may do. */
import { Type, type Static } from '@sinclair/typebox'
import type { Compilable } from 'kysely'
import { createError } from '@fastify/error'
import { StepUpRequired, resourceOf } from '../../plugins/access/index.js'
import { NotFound } from '../../plugins/errors.js'
import { principalOf } from '../../plugins/identity.js'
import { Bio, closed, Email, Id, noBody, page, PageQuery, Phone, Url } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { build, rows } from '../data/tables.js'
import { tell, tellNewName } from '../notices.js'
import { LastAdmin } from '../privacy.js'
import { askToConfirm } from './recovery.js'
import { Name, Order, OwnProfile, PublicProfile, Role, STEP_UP_SECONDS, orderShape, ownProfile, paged, publicProfile, refuseReservedName } from './shapes.js'

const OneselfRefused = createError('FST_PORTAL_NOT_ONESELF', 'This cannot be done to oneself', 400)

const UserParams = closed({ userId: Id })
const asAdmin = { roles: 'admin', stepUp: true } as const
const nothing = { 204: Type.Null() }
const UsersQuery = closed({ ...PageQuery.properties, username: Type.Optional(Type.String({ minLength: 1, maxLength: 50 })) })
const usersPage = { querystring: UsersQuery, response: { 200: page(PublicProfile) } }
const readUsers = { access: { permissions: 'users:read' } } as const

export function userRoutes (portal: Portal): void {
  const { app, sql, accounts, post, signOut, now } = portal
  app.get('/users/me', {
    schema: { response: { 200: OwnProfile } },
    config: { access: { via: ['bearer', 'session', 'key'] } },
  }, async request => ownProfile(await accounts.known(principalOf(request).userId)))

  app.patch('/users/me', {
    schema: {
      body: closed({
        email: Type.Optional(Email),
        username: Type.Optional(Name),
        phone: Type.Optional(Phone),
        website: Type.Optional(Url),
        bio: Type.Optional(Bio),
      }, { minProperties: 1 }),
      response: { 200: OwnProfile },
    },
    config: { access: 'user', audit: 'data_modification' },
  }, async request => {
    const { userId, authTime } = principalOf(request)
    const { email, username, ...rest } = request.body
    if (email !== undefined && now() / 1000 - authTime > STEP_UP_SECONDS) throw new StepUpRequired()
    const before = await accounts.known(userId)
    if (username !== undefined && username !== before.username) refuseReservedName(username)
    const isNewAddress = email !== undefined && email.toLowerCase() !== before.email
    const user = await accounts.change(userId, {
      ...rest,
      ...(username !== undefined && { username }),
      ...(email !== undefined && { email: email.toLowerCase() }),
      ...(isNewAddress && { email_confirmed_at: null }),
    })
    if (user === null) throw new NotFound()
    tellNewName(portal, before, user)
    if (isNewAddress) {
      if (before.email_confirmed_at !== null) {
        const text = `The account ${before.username} has another address from now on. If it was not you, ask an administrator at once to end its sign-ins and take away its second factors and keys.`
        post(async () => ({ to: before.email, subject: 'Your address was changed', text }))
      }
      askToConfirm(portal, user)
    }
    return ownProfile(user)
  })

  app.get('/users', { schema: usersPage, config: readUsers }, listUsers)

  app.get('/api/v2/users', { schema: usersPage, config: readUsers }, listUsers)

  // It told the addresses of all to whoever read it.
  app.get('/api/v1/users', {
    schema: usersPage,
    config: { ...readUsers, version: { deprecated: '2025-01-01', sunset: '2025-07-01', successor: '/api/v2/users' } },
  }, listUsers)

  app.get('/users/:userId', {
    schema: { params: UserParams, response: { 200: PublicProfile } },
    config: { access: { resource: 'user', action: 'read' } },
  }, async request => publicProfile(resourceOf(request, 'user')))

  app.get('/users/:userId/orders', {
    schema: { params: UserParams, querystring: PageQuery, response: { 200: page(Order) } },
    config: { access: { resource: 'ownOrders', action: 'read' } },
  }, async request => {
    const { cursor, limit } = request.query
    const found = await rows(sql, build.selectFrom('orders').selectAll().where('user_id', '=', request.params.userId)
      .$if(cursor !== undefined, query => query.where('id', '>', cursor!)).orderBy('id').limit(limit + 1))
    return paged(found, limit, orderShape)
  })

  app.patch('/users/:userId/role', {
    schema: { params: UserParams, body: closed({ role: Role }), response: { 200: OwnProfile } },
    config: { access: asAdmin },
  }, async request => {
    const { userId } = request.params
    const { role } = request.body
    const user = await accounts.known(userId)
    if (userId === principalOf(request).userId && role !== 'admin') throw new OneselfRefused()
    if (role === 'admin') {
      await accounts.change(userId, { role })
      await signOut(userId)
    } else await keepingAnAdmin(userId, build.updateTable('users').set({ role }).where('id', '=', userId))
    await app.apiKeys.ownerChanged(userId)
    app.events.record('permission_change', request, { user: userId, from: user.role, to: role })
    return ownProfile(await accounts.known(userId))
  })

  app.patch('/users/:userId/active', {
    schema: { params: UserParams, body: closed({ isActive: Type.Boolean() }), response: nothing },
    config: { access: asAdmin },
  }, async (request, reply) => {
    const { userId } = request.params
    const { isActive } = request.body
    await accounts.known(userId)
    if (isActive) await accounts.change(userId, { is_active: true })
    else {
      if (userId === principalOf(request).userId) throw new OneselfRefused()
      await keepingAnAdmin(userId, build.updateTable('users').set({ is_active: false }).where('id', '=', userId))
    }
    await app.apiKeys.ownerChanged(userId)
    app.events.record('permission_change', request, { user: userId, isActive })
    reply.code(204)
  })

  app.post('/users/:userId/unlock', {
    schema: { params: UserParams, body: noBody, response: nothing },
    config: { access: asAdmin },
  }, async (request, reply) => {
    const { id, username } = await accounts.known(request.params.userId)
    await app.signIn.unlock(username)
    await app.mfa.unlock(id)
    app.events.record('account_unlocked', request, { user: id })
    reply.code(204)
  })

  // For who has lost them, or found somebody else's among their own: mails about new factors say so.
  app.delete('/users/:userId/factors', {
    schema: { params: UserParams, response: nothing },
    config: { access: asAdmin },
  }, async (request, reply) => {
    const user = await accounts.known(request.params.userId)
    await app.mfa.disable(user.id, request)
    for (const { id } of await app.passkeys.list(user.id)) await app.passkeys.remove(user.id, id, request)
    for (const { id } of await app.apiKeys.list(user.id)) await app.apiKeys.delete(id, request)
    await signOut(user.id)
    tell(portal, user, 'Your second factors and API keys were taken away', 'An administrator did so')
    reply.code(204)
  })

  app.delete('/users/:userId/sessions', {
    schema: { params: UserParams, response: nothing },
    config: { access: asAdmin },
  }, async (request, reply) => {
    const user = await accounts.known(request.params.userId)
    await signOut(user.id)
    app.events.record('token_revoked', request, { user: user.id })
    reply.code(204)
  })

  app.delete('/users/:userId', {
    schema: { params: UserParams, response: nothing },
    config: { access: asAdmin, audit: 'data_modification' },
  }, async (request, reply) => {
    const { userId } = request.params
    await accounts.known(userId)
    if (userId === principalOf(request).userId) throw new OneselfRefused()
    await app.privacy.erase(userId, request)
    reply.code(204)
  })

  async function listUsers ({ query: { username, cursor, limit } }: { query: Static<typeof UsersQuery> }) {
    const found = await rows(sql, build.selectFrom('users').selectAll()
      .$if(username !== undefined, query => query.where(eb => eb(eb.fn('lower', ['username']), '=', username!.toLowerCase())))
      .$if(cursor !== undefined, query => query.where('id', '>', cursor!))
      .orderBy('id').limit(limit + 1))
    return paged(found, limit, publicProfile)
  }

  /** @throws LastAdmin where no admin would be left */
  async function keepingAnAdmin (id: string, change: Compilable): Promise<void> {
    const isDone = await accounts.unlessLastAdmin(id, async transaction => {
      // Before it is done: where nobody can be signed out, nothing is done, and it can be tried again.
      await signOut(id)
      await rows(transaction, change)
    })
    if (!isDone) throw new LastAdmin()
    // And after: whoever signed in meanwhile was still who they were before.
    await signOut(id)
  }
}
