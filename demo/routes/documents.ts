/** Documents, which their owners share with others. */
import { Type } from '@sinclair/typebox'
import { createError } from '@fastify/error'
import { resourceOf } from '../../plugins/access/index.js'
import { NotFound } from '../../plugins/errors.js'
import { closed, Id, Title } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { build, first, rows } from '../data/tables.js'
import { Document, documentShape, notFoundWhereGone } from './shapes.js'

const UnknownUser = createError('FST_PORTAL_UNKNOWN_USER', 'There is no such user to share with', 400)

const DocumentParams = closed({ documentId: Id })
const Actions = Type.Array(Type.Union([Type.Literal('read'), Type.Literal('write')]), { minItems: 1, maxItems: 2, uniqueItems: true })
const Share = Type.Object({ userId: Id, actions: Actions }, { additionalProperties: false })

export function documentRoutes ({ app, sql, accounts }: Portal): void {
  app.get('/documents/:documentId', {
    schema: { params: DocumentParams, response: { 200: Document } },
    config: { access: { resource: 'document', action: 'read' }, audit: 'data_access' },
  }, async request => documentShape(resourceOf(request, 'document')))

  app.put('/documents/:documentId', {
    schema: {
      params: DocumentParams,
      body: closed({ title: Title, content: Type.String({ maxLength: 100_000 }) }),
      response: { 200: Document },
    },
    config: { access: { resource: 'document', action: 'write' }, audit: 'data_modification' },
  }, async request => {
    const { id } = resourceOf(request, 'document')
    const { title, content } = request.body
    const document = await first(sql, build.updateTable('documents').set({ title, content, updated_at: new Date() }).where('id', '=', id).returningAll())
    if (document === null) throw new NotFound()
    return documentShape(document)
  })

  app.post('/documents/:documentId/shares', {
    schema: { params: DocumentParams, body: closed({ userId: Id, actions: Actions }), response: { 201: Share } },
    config: { access: { resource: 'document', action: 'share' } },
  }, async (request, reply) => {
    const { id, owner_id: owner } = resourceOf(request, 'document')
    const { userId, actions } = request.body
    if (userId === owner || await accounts.byId(userId) === null) throw new UnknownUser()
    await rows(sql, build.insertInto('document_shares').values({ document_id: id, user_id: userId, actions })
      .onConflict(conflict => conflict.columns(['document_id', 'user_id']).doUpdateSet({ actions }))).catch(notFoundWhereGone)
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
