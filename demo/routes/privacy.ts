/** Privacy: what a user may have at any time: all that is held, its end, and a say in what it is used for. */
import { Type, type Static } from '@sinclair/typebox'
import { principalOf } from '../../plugins/identity.js'
import type { Consent } from '../../plugins/privacy/index.js'
import { closed, page } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { FORGOTTEN, notFoundWhereGone } from './shapes.js'

const Version = Type.String({ minLength: 1, maxLength: 64, pattern: '^[\\w.-]+$' })
const Time = Type.String({ format: 'date-time' })

/** A purpose as the user stands to it. */
const ConsentShape = closed({
  purpose: Type.String(),
  description: Type.String(),
  version: Type.String({ description: 'Of the text that is asked for now' }),
  given: Type.Boolean({ description: 'To this version' }),
  open: Type.Boolean({ description: 'Nothing was decided about this version' }),
  decided: Type.Union([closed({ version: Type.String(), given: Type.Boolean(), at: Time, source: Type.String() }), Type.Null()], { description: 'The latest decision' }),
})

export function privacyRoutes ({ app, accounts }: Portal): void {
  const { consents } = app.privacy

  app.get('/users/me/export', {
    config: { access: { stepUp: true }, audit: 'data_access', answers: 'raw', limits: { windows: ['10/minute'] } },
  }, async (request, reply) => {
    const { id } = await accounts.known(principalOf(request).userId)
    reply.type('application/json; charset=utf-8').header('content-disposition', 'attachment; filename="export.json"')
    return app.privacy.export(id, request)
  })

  app.delete('/users/me', {
    schema: { response: { 204: Type.Null() } },
    config: { access: { stepUp: true }, audit: 'data_modification', headers: FORGOTTEN },
  }, async (request, reply) => {
    await app.privacy.erase(principalOf(request).userId, request)
    reply.code(204)
  })

  app.get('/users/me/consents', {
    schema: { response: { 200: page(ConsentShape) } },
    config: { access: 'user' },
  }, async request => {
    const { id } = await accounts.known(principalOf(request).userId)
    return { items: (await consents.list(id)).map(consentShape), nextCursor: null }
  })

  // One route for yes and no: to withdraw is as easy as to give.
  app.put('/users/me/consents/:purpose', {
    schema: {
      params: closed({ purpose: Type.String({ minLength: 1, maxLength: 64 }) }),
      body: closed({ version: Version, given: Type.Boolean() }),
      response: { 200: ConsentShape },
    },
    config: { access: 'user' },
  }, async request => {
    const { userId, via } = principalOf(request)
    const { purpose } = request.params
    const { version, given } = request.body
    const terms = { version, source: via === 'session' ? 'web' : 'api', request }
    await (given ? consents.give(userId, purpose, terms) : consents.withdraw(userId, purpose, terms)).catch(notFoundWhereGone)
    const found = (await consents.list(userId)).find(consent => consent.purpose === purpose)
    return consentShape(found!)
  })
}

function consentShape ({ purpose, description = '', version, isGiven, isOpen, latest }: Consent): Static<typeof ConsentShape> {
  const decided = latest === null ? null : { version: latest.version, given: latest.isGiven, at: latest.decidedAt.toISOString(), source: latest.source }
  return { purpose, description, version, given: isGiven, open: isOpen, decided }
}
