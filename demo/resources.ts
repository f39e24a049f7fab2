/** The objects of the portal: how each is found, who owns it, with whom it is shared. */
import type { FastifyRequest } from 'fastify'
import type { AccessOptions } from '../plugins/access/index.js'
import type { Sql } from '../plugins/sql.js'
import type { UploadRecords } from '../plugins/uploads/index.js'
import { build, first } from './data/tables.js'

export function portalResources (sql: Sql, uploads: UploadRecords): NonNullable<AccessOptions['resources']> {
  const param = (request: FastifyRequest, name: string) => (request.params as Record<string, string>)[name]!
  const userOf = (request: FastifyRequest) => first(sql, build.selectFrom('users').selectAll().where('id', '=', param(request, 'userId')))

  return {
    // Public profiles: every signed-in user may read them; what is private is hidden field by field.
    user: { load: userOf, owner: user => user.id, rule: (_user, _principal, action) => action === 'read', hidden: false },
    ownOrders: { load: userOf, owner: user => user.id, override: 'admin', hidden: false },
    post: {
      load: request => first(sql, build.selectFrom('posts').selectAll().where('id', '=', param(request, 'postId'))),
      owner: post => post.author_id,
      override: 'admin',
      hidden: false,
    },
    document: {
      load: request => first(sql, build.selectFrom('documents').selectAll().where('id', '=', param(request, 'documentId'))),
      owner: document => document.owner_id,
      async shares (document, principal) {
        const share = await first(sql, build.selectFrom('document_shares').select('actions')
          .where('document_id', '=', document.id).where('user_id', '=', principal.userId))
        return share?.actions ?? []
      },
    },
    file: { load: request => uploads.find(param(request, 'name') ?? param(request, '*')), owner: file => file.owner },
    apiKey: { load: request => request.server.apiKeys.find(param(request, 'keyId')), owner: key => key.userId },
    // Which of them may read what, and who may write, is for the permissions of the routes.
    patient: {
      load: request => first(sql, build.selectFrom('patients').selectAll().where('id', '=', param(request, 'patientId'))),
      override: ['nurse', 'admin'],
      hidden: false,
    },
    order: {
      load: request => first(sql, build.selectFrom('orders').selectAll().where('id', '=', param(request, 'orderId'))),
      owner: order => order.user_id,
      override: 'admin',
    },
  }
}
