/** Parts of the small service in which callers have budgets of their own: a reader of keys, a route by plan, and a route that gives keys their scopes. */
import { setImmediate } from 'node:timers/promises'
import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { Forbidden } from '../../plugins/access/index.js'
import { LimitExceeded } from '../../plugins/limits/index.js'
import { principalOf } from '../../plugins/index.js'
import { closed } from '../../schemas/index.js'

export const KEY = 'key-of-bob'
/** Of a minute. */
export const QUOTA = { windows: ['8/minute'], plans: { free: ['4/minute'] } }

export interface Quotas {
  /** What is asked for is given. */
  givesAll?: boolean
  /** What is asked is counted after a pause. */
  countsLate?: boolean
}

export function quotas (app: FastifyInstance, weak: Quotas, config: (name: string, own: object) => object): void {
  app.identity.reader({
    name: 'keys',
    read: ({ headers }) => (headers['x-api-key'] === KEY
      ? { principal: { kind: 'key', id: 'key-1', userId: 'bob', roles: ['member'], scopes: ['notes:write'], via: 'key', credentialId: 'key-1' } }
      : null) as never,
  })
  app.get('/quota', { schema: { response: { 200: closed({ left: Type.Boolean() }) } }, config: config('GET /quota', { access: { via: ['bearer', 'session', 'key'] }, limits: QUOTA }) as never }, async () => ({ left: true }))

  const NewKey = closed({ name: Type.String({ minLength: 1, maxLength: 50 }), scopes: Type.Array(Type.String({ minLength: 1, maxLength: 40 }), { maxItems: 5 }) })
  app.post('/keys', { schema: { body: NewKey, response: { 201: closed({ scopes: Type.Array(Type.String()) }) } }, config: config('POST /keys', { access: 'user' }) as never }, async (request, reply) => {
    const { scopes } = request.body as { scopes: string[] }
    if (weak.givesAll !== true && !scopes.every(scope => app.access.can(principalOf(request), scope as never))) throw new Forbidden()
    reply.code(201)
    return { scopes }
  })

  if (weak.countsLate !== true) return
  const counts = new Map<string, number>()
  app.addHook('preValidation', async ({ url, principal }, reply) => {
    if (!url.startsWith('/quota')) return
    const who = principal?.id ?? ''
    const count = counts.get(who) ?? 0
    if (count >= 4) {
      reply.header('retry-after', '60')
      throw new LimitExceeded()
    }
    await setImmediate()
    counts.set(who, (counts.get(who) ?? 0) + 1)
  })
}
