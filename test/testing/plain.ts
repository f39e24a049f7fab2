/** A service on plain Fastify, once as it should be and once with a flaw in each place; and the policy that both are held to. */
import { createHmac } from 'node:crypto'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Policy } from '../../plugins/testing/index.js'

export const FLAWS = ['object', 'open', 'role', 'assignment', 'exposure', 'headers', 'limits', 'leak', 'signature', 'path', 'head', 'media-type', 'override', 'decoded', 'traversal', 'checks'] as const
export type Flaw = typeof FLAWS[number]

/** Lies beside the files that are served. */
export const PLANTED = 'planted-beside-the-files'
const SECRET = 'the secret of this test, which is long enough'
const order = { type: 'object', additionalProperties: false, properties: { id: { type: 'string' }, owner: { type: 'string' }, item: { type: 'string' } } }
const profile = { type: 'object', additionalProperties: false, properties: { id: { type: 'string' }, name: { type: 'string' }, role: { type: 'string' } } }
const ProfileBody = { type: 'object', additionalProperties: false, required: ['name'], properties: { name: { type: 'string', minLength: 1, maxLength: 50 } } }
const id = { type: 'object', properties: { orderId: { type: 'string', maxLength: 20 } } }

export const policy: Policy = {
  roles: { user: {}, admin: { inherits: ['user'], permissions: ['users:read'] } },
  headers: { 'x-content-type-options': 'nosniff', framing: true },
  routes: {
    'GET /orders/:orderId': { access: { resource: 'order' }, override: 'admin', answers: { 200: order }, params: id },
    'PUT /orders/:orderId': { access: { resource: 'order' }, override: 'admin', body: { type: 'object', required: ['item'], properties: { item: { type: 'string', minLength: 1, maxLength: 50 } } }, answers: { 200: order } },
    'PATCH /me': { access: 'user', body: ProfileBody, answers: { 200: profile } },
    'GET /me': { access: 'user', answers: { 200: profile } },
    'GET /admin/users': { permissions: 'users:read' },
    'GET /reports': 'user',
    'POST /reports': 'user',
    'DELETE /reports': { roles: 'admin' },
    'GET /me/export': { access: 'user', answers: { 200: profile } },
    'GET /files/*': { access: 'user', answers: 'raw' },
    'GET /search': { access: 'public', limits: ['5/minute'] },
    'GET /items/:itemId': 'public',
  },
}

interface User { id: string, name: string, role: string, passwordHash: string }

/** @param later seconds */
export function tokenOf (sub: string, roles: readonly string[], later = 0): string {
  const text = [{ alg: 'HS256', typ: 'JWT' }, { sub, roles, exp: Math.floor(Date.now() / 1000) + 600 + later }].map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`
}

/** Whose token it is; null where it is nobody's. */
export function subOf ({ headers: { authorization = '' } }: FastifyRequest, isAnySignature = false): string | null {
  const [head, body = '', signature] = authorization.replace(/^Bearer /, '').split('.')
  const right = createHmac('sha256', SECRET).update(`${head}.${body}`).digest('base64url')
  if (signature !== right && !(isAnySignature && signature !== undefined)) return null
  try {
    return (JSON.parse(Buffer.from(body, 'base64url').toString()) as { sub: string }).sub
  } catch {
    return null
  }
}

export function plainService (...flaws: Flaw[]): FastifyInstance {
  const has = (flaw: Flaw) => flaws.includes(flaw)
  const app = Fastify({ logger: false, routerOptions: { ignoreTrailingSlash: has('path'), caseSensitive: !has('path') } })
  const users = new Map<string, User>([['ada', 'user'], ['bob', 'user'], ['root', 'admin']].map(([id, role]) => [id!, { id: id!, name: id!, role: role!, passwordHash: 'hash-of-a-password' }]))
  const orders = new Map([['o-1', 'ada'], ['o-2', 'bob']].map(([id, owner]) => [id!, { id: id!, owner: owner!, item: 'Lamp' }]))
  const counts = new Map<string, number>()

  app.decorateRequest('caller', null)
  app.addHook('onRequest', async (request, reply) => {
    if (!has('headers')) reply.headers({ 'x-content-type-options': 'nosniff', 'x-frame-options': 'DENY', 'cache-control': 'no-store' })
    request.caller = userIn(request)
  })
  if (has('path')) app.addHook('onRequest', async (request, reply) => { if (request.url === '/reports' && request.caller === null) return refuse(reply, 401) })
  if (!has('leak')) app.setErrorHandler((error: { statusCode?: number, validation?: unknown }, _request, reply) => { reply.code(error.statusCode ?? 500).send({ error: error.validation === undefined ? 'failed' : 'invalid' }) })
  if (has('media-type')) app.addContentTypeParser('text/plain', { parseAs: 'string' }, (_request, body, done) => { done(null, body) })

  const refuse = (reply: FastifyReply, status: number) => reply.code(status).send({ error: 'refused' })
  const signedIn = async (request: FastifyRequest, reply: FastifyReply) => { if (request.caller === null) return refuse(reply, 401) }
  const owning = async (request: FastifyRequest, reply: FastifyReply) => {
    if (request.caller === null) return refuse(reply, 401)
    const found = orders.get((request.params as { orderId: string }).orderId)
    if (found === undefined || (found.owner !== request.caller.id && request.caller.role !== 'admin' && !has('object'))) return refuse(reply, 404)
  }
  const asAdmin = async (request: FastifyRequest, reply: FastifyReply) => { if (request.caller?.role !== 'admin') return refuse(reply, request.caller === null ? 401 : 403) }

  app.get('/orders/:orderId', { onRequest: owning, schema: { params: id } }, async request => orders.get((request.params as { orderId: string }).orderId))
  app.put('/orders/:orderId', { onRequest: owning }, async request => {
    const found = orders.get((request.params as { orderId: string }).orderId)!
    if (typeof (request.body as { item?: unknown } | null)?.item !== 'string' || (request.body as { item: string }).item.length > 50 || (request.body as { item: string }).item === '') throw Object.assign(new Error('invalid'), { statusCode: 400 })
    return Object.assign(found, { item: (request.body as { item: string }).item })
  })
  app.patch('/me', { onRequest: signedIn, ...!has('assignment') && !has('media-type') && !has('checks') && { schema: { body: ProfileBody } }, ...has('media-type') && { schema: { body: { content: { 'application/json': { schema: ProfileBody } } } } } }, async request => {
    const user = users.get(request.caller!.id)!
    const { name } = request.body as { name?: unknown }
    if (has('checks') && request.headers['content-type'] === 'application/json' && (typeof name !== 'string' || name.length > 50 || name === '')) throw Object.assign(new Error('invalid'), { statusCode: 400 })
    if (has('checks')) return Object.assign(user, { name: String(name) })
    Object.assign(user, request.body)
    return shown(user)
  })
  app.get('/me', { onRequest: signedIn }, async request => shown(users.get(request.caller!.id)!))
  app.get('/admin/users', has('role') ? { onRequest: signedIn } : { onRequest: asAdmin }, async () => [...users.values()].map(({ id, name }) => ({ id, name })))
  app.get('/reports', has('open') || has('path') ? {} : { onRequest: signedIn, exposeHeadRoute: !has('head') }, async () => ({ total: 2 }))
  if (has('head')) app.head('/reports', async () => '')
  app.post('/reports', { onRequest: signedIn }, async (request, reply) => reply.code(has('override') && request.headers['x-http-method-override'] === 'DELETE' ? 204 : 202).send())
  app.delete('/reports', { onRequest: asAdmin }, async (_request, reply) => reply.code(204).send())
  app.get('/me/export', has('decoded') ? {} : { onRequest: signedIn }, async (request, reply) => {
    const [, claims = ''] = (request.headers.authorization ?? '').split('.')
    const caller = has('decoded') ? users.get((JSON.parse(Buffer.from(claims, 'base64url').toString() || '{}') as { sub?: string }).sub ?? '') : request.caller
    return caller === undefined || caller === null ? refuse(reply, 401) : shown(caller)
  })
  app.get('/files/*', { onRequest: signedIn }, async (request, reply) => {
    const { '*': name } = request.params as { '*': string }
    return has('traversal') && name.endsWith('../.env') ? reply.type('text/plain').send(PLANTED) : refuse(reply, 404)
  })
  app.get('/search', async (request, reply) => {
    const count = (counts.get(request.ip) ?? 0) + 1
    counts.set(request.ip, count)
    if (count > 5 && !has('limits')) return reply.header('retry-after', '60').code(429).send({ error: 'too many' })
    return []
  })
  app.get('/items/:itemId', async (request, reply) => {
    const { itemId } = request.params as { itemId: string }
    if (itemId.includes("'") && has('leak')) throw new Error(`syntax error at or near "'" in select * from items where id = '${itemId}'`)
    return reply.code(404).send({ error: 'nothing' })
  })
  return app

  function userIn (request: FastifyRequest): User | null {
    return users.get(subOf(request, has('signature')) ?? '') ?? null
  }

  function shown ({ passwordHash, ...user }: User) {
    return has('exposure') ? { ...user, passwordHash } : user
  }
}

declare module 'fastify' {
  interface FastifyRequest { caller: User | null }
}
