/** API keys: their users make and end them; programs read data by them. */
import { Type, type Static } from '@sinclair/typebox'
import { resourceOf, StepUpRequired } from '../../plugins/access/index.js'
import type { ApiKey } from '../../plugins/api-keys/index.js'
import { NotFound } from '../../plugins/errors.js'
import { principalOf } from '../../plugins/identity.js'
import { closed, Id, noBody, page, PageQuery } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { notFoundWhereGone, paged, STEP_UP_SECONDS } from './shapes.js'

const DAY = 86_400_000
const Time = Type.String({ format: 'date-time' })
const MaybeTime = Type.Union([Time, Type.Null()])
const Mode = Type.Union([Type.Literal('live'), Type.Literal('test')])

/** A key as its user sees it: never the key itself. */
export const KeyShape = closed({
  id: Id,
  name: Type.String(),
  prefix: Type.String(),
  mode: Mode,
  scopes: Type.Array(Type.String()),
  allowedIps: Type.Union([Type.Array(Type.String()), Type.Null()]),
  isActive: Type.Boolean(),
  createdAt: Time,
  lastUsedAt: MaybeTime,
  expiresAt: MaybeTime,
  previousUntil: MaybeTime,
})
const IssuedKey = closed({ ...KeyShape.properties, key: Type.String({ description: 'Shown this once' }) })
const KeyParams = closed({ keyId: Id })

export function keyShape ({ id, name, prefix, mode, scopes, allowedAddresses, isActive, createdAt, lastUsedAt, expiresAt, previousUntil }: ApiKey): Static<typeof KeyShape> {
  const time = (date: Date | null) => date === null ? null : date.toISOString()
  return {
    id,
    name,
    prefix,
    mode,
    scopes: [...scopes],
    allowedIps: allowedAddresses === null ? null : [...allowedAddresses],
    isActive,
    createdAt: createdAt.toISOString(),
    lastUsedAt: time(lastUsedAt),
    expiresAt: time(expiresAt),
    previousUntil: time(previousUntil),
  }
}

export function keyRoutes ({ app, sql, now }: Portal): void {
  app.post('/api-keys', {
    schema: {
      body: closed({
        name: Type.String({ minLength: 1, maxLength: 100, pattern: '^[^\\S\\r\\n]*[^\\s\\x00-\\x1f\\x7f][^\\x00-\\x1f\\x7f]*$' }),
        scopes: Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { maxItems: 50, uniqueItems: true }),
        expiresInDays: Type.Optional(Type.Integer({ minimum: 1, maximum: 3650 })),
        allowedIps: Type.Optional(Type.Array(Type.String({ minLength: 2, maxLength: 50 }), { minItems: 1, maxItems: 50, uniqueItems: true })),
        mode: Type.Optional(Mode),
      }),
      response: { 201: IssuedKey },
    },
    config: { access: { stepUp: true } },
  }, async (request, reply) => {
    const { name, scopes, expiresInDays, allowedIps, mode } = request.body
    const expiresAt = expiresInDays === undefined ? null : new Date(now() + expiresInDays * DAY)
    const { text, ...key } = await app.apiKeys.create(principalOf(request), { name: name.trim(), scopes, mode, expiresAt, allowedAddresses: allowedIps }, request).catch(notFoundWhereGone)
    reply.code(201)
    return { ...keyShape(key), key: text }
  })

  app.get('/api-keys', {
    schema: { querystring: PageQuery, response: { 200: page(KeyShape) } },
    config: { access: 'user' },
  }, async request => {
    const { cursor: after, limit } = request.query
    return paged(await app.apiKeys.list(principalOf(request).userId, { after, limit: limit + 1 }), limit, keyShape)
  })

  app.patch('/api-keys/:keyId', {
    schema: { params: KeyParams, body: closed({ isActive: Type.Boolean() }), response: { 200: KeyShape } },
    config: { access: { resource: 'apiKey', action: 'write' } },
  }, async request => {
    const { isActive } = request.body
    // What lets somebody in is asked for by who has just shown themselves; what keeps them out is not.
    if (isActive && now() / 1000 - principalOf(request).authTime > STEP_UP_SECONDS) throw new StepUpRequired()
    const key = await app.apiKeys.setActive(resourceOf(request, 'apiKey').id, isActive, request)
    if (key === null) throw new NotFound()
    return keyShape(key)
  })

  app.post('/api-keys/:keyId/rotate', {
    schema: { params: KeyParams, body: noBody, response: { 200: IssuedKey } },
    config: { access: { resource: 'apiKey', action: 'write', stepUp: true } },
  }, async request => {
    const rotated = await app.apiKeys.rotate(resourceOf(request, 'apiKey').id, { request })
    if (rotated === null) throw new NotFound()
    const { text, ...key } = rotated
    return { ...keyShape(key), key: text }
  })

  app.delete('/api-keys/:keyId', {
    schema: { params: KeyParams, response: { 204: Type.Null() } },
    config: { access: { resource: 'apiKey', action: 'write' } },
  }, async (request, reply) => {
    if (!await app.apiKeys.delete(resourceOf(request, 'apiKey').id, request)) throw new NotFound()
    reply.code(204)
  })

  const Count = Type.Integer({ minimum: 0 })
  app.get('/api/data', {
    schema: { response: { 200: closed({ userId: Id, posts: Count, documents: Count, orders: Count }) } },
    config: { access: { permissions: 'data:read', via: ['key'] }, audit: 'data_access' },
  }, async request => {
    const { userId } = principalOf(request)
    const [counts] = await sql.query<{ posts: number, documents: number, orders: number }>(`select
      (select count(*)::int from posts where author_id = $1) as posts,
      (select count(*)::int from documents where owner_id = $1) as documents,
      (select count(*)::int from orders where user_id = $1) as orders`, [userId])
    return { userId, ...counts! }
  })
}
