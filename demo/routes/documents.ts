/** Documents, which their owners share with others. */
import { Type } from '@sinclair/typebox'
import { createError } from '@fastify/error'
import { resourceOf } from '../../plugins/access/index.js'
import { NotFound } from '../../plugins/errors.js'
import { principalOf } from '../../plugins/identity.js'
import { closed, Id, page, PageQuery, Title } from '../../schemas/index.js'
import { newId } from '../accounts.js'
import type { Portal } from '../app.js'
import { build, first, rows } from '../data/tables.js'
import { Document, documentShape, Name, notFoundWhereGone, paged } from './shapes.js'

const UnknownUser = createError('FST_PORTAL_UNKNOWN_USER', 'There is no such user to share with', 400)
const TooManyDocuments = createError<[number]>('FST_PORTAL_TOO_MANY_DOCUMENTS', 'One person has %s documents at most', 409)
const TooManyShares = createError<[number]>('FST_PORTAL_TOO_MANY_SHARES', 'One document is shared with %s people at most', 409)

/** Documents of one owner. */
export const MAX_DOCUMENTS = 100
/** People with whom one document is shared. */
export const MAX_SHARES = 50

const DocumentParams = closed({ documentId: Id })
const DocumentBody = closed({ title: Title, content: Type.String({ maxLength: 100_000 }) })
const Action = Type.Union([Type.Literal('read'), Type.Literal('write')])
const Actions = Type.Array(Action, { minItems: 1, maxItems: 2, uniqueItems: true })
const Share = Type.Object({ userId: Id, actions: Actions }, { additionalProperties: false })
const NamedShare = closed({ userId: Id, username: Type.String(), actions: Actions })
/** One of a list: what is in it is read one by one. */
const DocumentEntry = closed({
  id: Id, ownerId: Id, ownerName: Type.String(), title: Type.String(), updatedAt: Type.String({ format: 'date-time' }), actions: Type.Array(Action, { description: 'What the one who asks may do' }),
})

export function documentRoutes ({ app, sql, accounts }: Portal): void {
  // Own ones, and those that others share with the one who asks.
  app.get('/documents', {
    schema: { querystring: PageQuery, response: { 200: page(DocumentEntry) } },
    config: { access: 'user' },
  }, async request => {
    const { userId } = principalOf(request)
    const { cursor, limit } = request.query
    const found = await rows(sql, build.selectFrom('documents').innerJoin('users', 'users.id', 'owner_id')
      .leftJoin('document_shares', join => join.onRef('document_id', '=', 'documents.id').on('user_id', '=', userId))
      .select(['documents.id', 'owner_id', 'username', 'title', 'updated_at', 'actions'])
      .where(eb => eb.or([eb('owner_id', '=', userId), eb('user_id', 'is not', null)]))
      .$if(cursor !== undefined, query => query.where('documents.id', '>', cursor!))
      .orderBy('documents.id').limit(limit + 1))
    return paged(found, limit, ({ id, owner_id: ownerId, username: ownerName, title, updated_at: updated, actions }) =>
      ({ id, ownerId, ownerName, title, updatedAt: updated.toISOString(), actions: ownerId === userId ? ACTIONS : actionsOf(actions) }))
  })

  app.post('/documents', {
    schema: { body: DocumentBody, response: { 201: Document } },
    config: { access: { permissions: 'documents:write' }, audit: 'data_modification' },
  }, async (request, reply) => {
    const { userId } = principalOf(request)
    const document = await sql.transaction(async transaction => {
      // One owner's come one after another: two at once would both find room.
      const owner = await first(transaction, build.selectFrom('users').select('id').where('id', '=', userId).forNoKeyUpdate())
      if (owner === null) throw new NotFound()
      const own = await rows(transaction, build.selectFrom('documents').select('id').where('owner_id', '=', userId).limit(MAX_DOCUMENTS))
      if (own.length === MAX_DOCUMENTS) throw new TooManyDocuments(MAX_DOCUMENTS)
      return first(transaction, build.insertInto('documents').values({ id: newId(), owner_id: userId, ...request.body }).returningAll())
    })
    reply.code(201)
    return documentShape(document!)
  })

  app.get('/documents/:documentId', {
    schema: { params: DocumentParams, response: { 200: Document } },
    config: { access: { resource: 'document', action: 'read' }, audit: 'data_access' },
  }, async request => documentShape(resourceOf(request, 'document')))

  app.put('/documents/:documentId', {
    schema: { params: DocumentParams, body: DocumentBody, response: { 200: Document } },
    config: { access: { resource: 'document', action: 'write' }, audit: 'data_modification' },
  }, async request => {
    const { id } = resourceOf(request, 'document')
    const { title, content } = request.body
    const document = await first(sql, build.updateTable('documents').set({ title, content, updated_at: new Date() }).where('id', '=', id).returningAll())
    if (document === null) throw new NotFound()
    return documentShape(document)
  })

  app.delete('/documents/:documentId', {
    schema: { params: DocumentParams, response: { 204: Type.Null() } },
    config: { access: { resource: 'document', action: 'delete' }, audit: 'data_modification' },
  }, async (request, reply) => {
    const document = await first(sql, build.deleteFrom('documents').where('id', '=', resourceOf(request, 'document').id).returning('id'))
    if (document === null) throw new NotFound()
    reply.code(204)
  })

  app.get('/documents/:documentId/shares', {
    schema: { params: DocumentParams, response: { 200: page(NamedShare) } },
    config: { access: { resource: 'document', action: 'share' } },
  }, async request => {
    const found = await rows(sql, build.selectFrom('document_shares').innerJoin('users', 'users.id', 'user_id').select(['user_id as userId', 'username', 'actions'])
      .where('document_id', '=', resourceOf(request, 'document').id).orderBy('username'))
    return { items: found.map(share => ({ ...share, actions: actionsOf(share.actions) })), nextCursor: null }
  })

  // With somebody by id, or by name: not everybody may look up ids.
  app.post('/documents/:documentId/shares', {
    schema: {
      params: DocumentParams,
      body: closed({ userId: Type.Optional(Id), username: Type.Optional(Name), actions: Actions }, { minProperties: 2, maxProperties: 2 }),
      response: { 201: Share },
    },
    config: { access: { resource: 'document', action: 'share' } },
  }, async (request, reply) => {
    const { id, owner_id: owner } = resourceOf(request, 'document')
    const { userId: given, username, actions } = request.body
    const user = username === undefined ? await accounts.byId(given!) : await accounts.findByLogin(username)
    if (user === null || user.id === owner) throw new UnknownUser()
    const userId = user.id
    await sql.transaction(async transaction => {
      const document = await first(transaction, build.selectFrom('documents').select('id').where('id', '=', id).forNoKeyUpdate())
      if (document === null) throw new NotFound()
      const others = await rows(transaction, build.selectFrom('document_shares').select('user_id').where('document_id', '=', id).where('user_id', '<>', userId).limit(MAX_SHARES))
      if (others.length === MAX_SHARES) throw new TooManyShares(MAX_SHARES)
      await rows(transaction, build.insertInto('document_shares').values({ document_id: id, user_id: userId, actions })
        .onConflict(conflict => conflict.columns(['document_id', 'user_id']).doUpdateSet({ actions })))
    }).catch(notFoundWhereGone)
    app.events.record('permission_change', request, { document: id, user: userId, actions })
    reply.code(201)
    return { userId, actions }
  })

  app.delete('/documents/:documentId/shares/:userId', {
    schema: { params: closed({ documentId: Id, userId: Id }), response: { 204: Type.Null() } },
    config: { access: { resource: 'document', action: 'share' } },
  }, async (request, reply) => {
    const { id } = resourceOf(request, 'document')
    const share = await first(sql, build.deleteFrom('document_shares').where('document_id', '=', id).where('user_id', '=', request.params.userId).returning('user_id'))
    if (share === null) throw new NotFound()
    app.events.record('permission_change', request, { document: id, user: request.params.userId, actions: [] })
    reply.code(204)
  })
}

const ACTIONS: ('read' | 'write')[] = ['read', 'write']

function actionsOf (kept: readonly string[] | null): typeof ACTIONS {
  return ACTIONS.filter(action => kept?.includes(action))
}
