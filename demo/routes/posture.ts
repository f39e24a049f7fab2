/** What protects each route, as the running service says it. */
import { Type } from '@sinclair/typebox'
import { Posture } from '../../plugins/posture/index.js'
import { closed } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { pageOf, PostureTable, tableOf } from '../posture.js'

/** Also while the service has too much to do. */
const guarded = { access: { permissions: 'posture:read' }, overload: false } as const

export function postureRoutes ({ app }: Portal): void {
  app.get('/posture', {
    schema: {
      querystring: closed({ format: Type.Optional(Type.Union([Type.Literal('json'), Type.Literal('html')], { description: 'Default: json' })) }),
      response: { 200: Posture },
    },
    // Raw for its page; the JSON goes by its schema all the same.
    config: { ...guarded, answers: 'raw', headers: { contentSecurityPolicy: 'page' } },
  }, async (request, reply) => {
    if (request.query.format !== 'html') return app.posture()
    reply.type('text/html; charset=utf-8')
    return pageOf(tableOf(app.posture()), reply.scriptNonce) as never
  })

  app.get('/posture/table', {
    schema: { response: { 200: PostureTable } },
    config: guarded,
  }, async () => tableOf(app.posture()))
}
