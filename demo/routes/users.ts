/** Users: one's own profile, public profiles, and what an admin may do. */
import { Type } from '@sinclair/typebox'
import type { Compilable } from 'kysely'
import { createError } from '@fastify/error'
import { StepUpRequired, resourceOf } from '../../plugins/access/index.js'
import { NotFound } from '../../plugins/errors.js'
import { principalOf } from '../../plugins/identity.js'
import { Bio, closed, Email, Id, noBody, page, PageQuery, Phone, Url } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { build, rows } from '../data/tables.js'
import { fileShape, StoredFile } from './files.js'
import { askToConfirm } from './recovery.js'
import { KeyShape, keyShape } from './keys.js'
import { tell } from './mfa.js'
import { PasskeyShape, passkeyShape } from './passkeys.js'
import { DeviceShape, deviceShape } from './sessions.js'
import {
  Comment, Document, Name, Order, OwnProfile, Post, PublicProfile, Role, STEP_UP_SECONDS,
  commentShape, documentShape, orderShape, ownProfile, paged, postShape, publicProfile, refuseReservedName,
} from './shapes.js'
import { WebhookShape, webhookShape } from './webhooks.js'

const LastAdmin = createError('FST_PORTAL_LAST_ADMIN', 'The last admin must stay one', 400)
const OneselfRefused = createError('FST_PORTAL_NOT_ONESELF', 'This cannot be done to oneself', 400)

/** Everything that is held about a person, in the forms in which it is shown elsewhere. */
const Export = Type.Object({
  exportedAt: Type.String(),
  profile: OwnProfile,
  posts: Type.Array(Post),
  comments: Type.Array(Comment),
  documents: Type.Array(Document),
  shares: Type.Array(Type.Object({ documentId: Id, userId: Id, actions: Type.Array(Type.String()) }, { additionalProperties: false }), { description: 'given and received' }),
  orders: Type.Array(Order),
  files: Type.Array(StoredFile),
  apiKeys: Type.Array(KeyShape),
  passkeys: Type.Array(PasskeyShape),
  hasSecondFactor: Type.Boolean(),
  sessions: Type.Array(DeviceShape),
  webhook: Type.Union([WebhookShape, Type.Null()]),
}, { additionalProperties: false })

const UserParams = closed({ userId: Id })
const asAdmin = { roles: 'admin', stepUp: true } as const
const nothing = { 204: Type.Null() }

export function userRoutes (portal: Portal): void {
  const { app, sql, accounts, uploads, webhooks, post, signOut, now } = portal
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
    if (isNewAddress) {
      if (before.email_confirmed_at !== null) {
        const text = `The account ${before.username} has another address from now on. If it was not you, ask an administrator at once to end its sign-ins and take away its second factors and keys.`
        post(async () => ({ to: before.email, subject: 'Your address was changed', text }))
      }
      askToConfirm(portal, user)
    }
    return ownProfile(user)
  })

  app.get('/users/me/export', {
    schema: { response: { 200: Export } },
    config: { access: { stepUp: true }, audit: 'data_access' },
  }, async request => {
    const { userId, credentialId } = principalOf(request)
    const given = await rows(sql, build.selectFrom('document_shares').innerJoin('documents', 'documents.id', 'document_id')
      .select(['document_id as documentId', 'user_id as userId', 'actions']).where('owner_id', '=', userId))
    const taken = await rows(sql, build.selectFrom('document_shares').select(['document_id as documentId', 'user_id as userId', 'actions']).where('user_id', '=', userId))
    const webhook = await webhooks.find(userId)
    return {
      exportedAt: new Date(now()).toISOString(),
      profile: ownProfile(await accounts.known(userId)),
      posts: (await rows(sql, build.selectFrom('posts').selectAll().where('author_id', '=', userId))).map(postShape),
      comments: (await rows(sql, build.selectFrom('comments').selectAll().where('author_id', '=', userId))).map(commentShape),
      documents: (await rows(sql, build.selectFrom('documents').selectAll().where('owner_id', '=', userId))).map(documentShape),
      shares: [...given, ...taken],
      orders: (await rows(sql, build.selectFrom('orders').selectAll().where('user_id', '=', userId))).map(orderShape),
      files: (await uploads.list(userId)).map(fileShape),
      apiKeys: (await app.apiKeys.list(userId)).map(keyShape),
      passkeys: (await app.passkeys.list(userId)).map(passkeyShape),
      hasSecondFactor: await app.mfa.isEnrolled(userId),
      sessions: (await app.sessions.list(userId)).map(device => deviceShape(device, credentialId)),
      webhook: webhook === null ? null : webhookShape(webhook),
    }
  })

  app.delete('/users/me', {
    schema: { response: nothing },
    config: { access: { stepUp: true }, audit: 'data_modification' },
  }, async (request, reply) => {
    const { userId } = principalOf(request)
    await eraseUser(userId)
    reply.code(204)
  })

  app.get('/users', {
    schema: {
      querystring: closed({ ...PageQuery.properties, username: Type.Optional(Type.String({ minLength: 1, maxLength: 50 })) }),
      response: { 200: page(PublicProfile) },
    },
    config: { access: { permissions: 'users:read' } },
  }, async request => {
    const { username, cursor, limit } = request.query
    const found = await rows(sql, build.selectFrom('users').selectAll()
      .$if(username !== undefined, query => query.where(eb => eb(eb.fn('lower', ['username']), '=', username!.toLowerCase())))
      .$if(cursor !== undefined, query => query.where('id', '>', cursor!))
      .orderBy('id').limit(limit + 1))
    return paged(found, limit, publicProfile)
  })

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
    await eraseUser(userId)
    reply.code(204)
  })

  /** Posts, comments, documents and files go with the person; orders stay, without a name. */
  async function eraseUser (id: string): Promise<void> {
    const files = await uploads.list(id)
    await keepingAnAdmin(id, build.deleteFrom('users').where('id', '=', id))
    await app.apiKeys.ownerChanged(id)
    // Their records went with the user. One that is on its way finds no owner any more, and leaves nothing either.
    for (const { name } of files) await app.uploads.remove(name)
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
