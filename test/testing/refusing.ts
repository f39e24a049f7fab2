/** Services that refuse, each for something else than what was promised; what the attack kit is told of them, and what it must say. */
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { AttackOptions, FamilyName, FindingId, Policy } from '../../plugins/testing/index.js'
import { subOf, tokenOf } from './plain.js'

export interface Refusing {
  what: string
  routes: Policy['routes']
  /** Nothing is coerced, by promise. */
  strict?: boolean
  serve: (app: FastifyInstance) => void
  options?: AttackOptions
  families: FamilyName[]
  /** Of these there is no finding, and none is said to hold. */
  unproven?: FindingId[]
  reason?: RegExp
  finds?: FindingId[]
  /** Routes on which each of them is found. */
  on?: string[]
  holds?: FindingId[]
}

const principals = { ada: { token: tokenOf('ada', ['user']) }, bob: { token: tokenOf('bob', ['user']) } }
const Ticket = { type: 'object', required: ['ticket'], properties: { ticket: { type: 'string', pattern: '^zz[0-9]{7}$' } } }
const ODD = `v1.${Buffer.from('{"sub":"eve"}').toString('base64url')}.sig`
const Item = { type: 'object', additionalProperties: false, required: ['item'], properties: { item: { type: 'string', maxLength: 10 } } }
export const signedIn = async (request: FastifyRequest, reply: FastifyReply) => { if (subOf(request) === null) return reply.code(401).send({ error: 'refused' }) }
const none = (reply: FastifyReply) => reply.code(404).send({ error: 'none' })
const idOf = ({ params }: FastifyRequest) => (params as { id: string }).id
const INPUT: FindingId[] = ['input.type', 'input.bounds', 'input.missing', 'assignment.undeclared', 'assignment.prototype', 'mutations.malformed']

export const REFUSING: readonly Refusing[] = [
  {
    what: 'an order that is not there, on a route that nobody guards',
    routes: { 'GET /orders/:id': { access: { resource: 'order' } } },
    serve: app => { app.get('/orders/:id', (request, reply) => idOf(request) === 'o-1' ? reply.send({ id: 'o-1' }) : none(reply)) },
    families: ['authorization', 'credentials'],
    unproven: ['authorization.open', 'authorization.object', 'credentials.garbage', 'credentials.forged'],
  },
  {
    what: 'a route that the policy spells otherwise than the service',
    routes: { 'GET /raports': 'user' },
    serve: app => { app.get('/reports', async () => []) },
    families: ['authorization'],
    unproven: ['authorization.open'],
    finds: ['authorization.unlisted'],
  },
  {
    what: 'objects that do not exist',
    routes: { 'GET /orders/:id': { access: { resource: 'order' } } },
    serve: app => { app.get('/orders/:id', { onRequest: signedIn }, (request, reply) => idOf(request) === 'o-1' ? reply.send({ id: 'o-1' }) : none(reply)) },
    options: { objects: { id: { ada: 'o-8', bob: 'o-9' } } },
    families: ['authorization'],
    unproven: ['authorization.object'],
    holds: ['authorization.open'],
  },
  {
    what: 'objects that an attack has spent',
    routes: { 'DELETE /files/:id': { access: { resource: 'file' } } },
    serve: app => {
      const files = new Set(['a', 'b'])
      app.delete('/files/:id', { onRequest: signedIn }, (request, reply) => files.delete(idOf(request)) ? reply.code(204).send() : none(reply))
    },
    // Each caller's own goes first, and then there is nothing left.
    options: { objects: { id: { ada: 'a', bob: 'a' } } },
    families: ['authorization'],
    unproven: ['authorization.object'],
  },
  {
    what: 'a body that lacks what no schema says, where nothing is looked at besides',
    routes: { 'POST /users': { access: 'user', body: Item } },
    serve: app => { app.post('/users', { onRequest: signedIn }, (request, reply) => (request.body as { coupon?: string } | null)?.coupon === 'WELCOME' ? reply.send(request.body) : reply.code(400).send({ error: 'no coupon' })) },
    families: ['input', 'assignment', 'mutations'],
    unproven: INPUT,
    reason: /no valid request of ada has succeeded/,
  },
  {
    what: 'an object that is not there, where nobody looks at bodies',
    routes: { 'PUT /orders/:id': { access: 'user', body: Item } },
    serve: app => { app.put('/orders/:id', { onRequest: signedIn }, (request, reply) => idOf(request) === 'o-1' ? reply.send(request.body) : none(reply)) },
    families: ['input', 'assignment', 'mutations'],
    unproven: INPUT,
  },
  {
    what: 'nobody is there who passes',
    routes: { 'PUT /me': { access: 'user', body: Item, answers: { 200: Item } } },
    serve: app => { app.put('/me', { onRequest: signedIn }, async request => request.body) },
    options: { principals: {} },
    families: ['authorization', 'input', 'assignment', 'mutations', 'exposure'],
    unproven: ['authorization.open', 'exposure.undeclared', ...INPUT],
    reason: /no principal given passes/,
  },
  {
    what: 'a redirect to where everybody is led',
    routes: { 'POST /transfer': { access: 'user', body: Item } },
    serve: app => { app.post('/transfer', async (_request, reply) => reply.redirect('/done', 303)) },
    families: ['authorization'],
    finds: ['authorization.open'],
  },
  {
    what: 'a redirect to a page where one signs in',
    routes: { 'GET /page': 'user' },
    serve: app => { app.get('/page', async (request, reply) => subOf(request) === null ? reply.redirect('/login', 302) : 'a page') },
    families: ['authorization', 'credentials'],
    holds: ['authorization.open', 'credentials.garbage', 'credentials.forged'],
  },
  {
    what: 'a budget that is spent',
    routes: { 'GET /a': 'user', 'PUT /me': { access: 'public', body: Item } },
    serve: app => {
      let count = 0
      app.addHook('onRequest', async (_request, reply) => { if (++count > 5) return reply.code(429).send({ error: 'too many' }) })
      app.get('/a', { onRequest: signedIn }, async () => ({}))
      app.put('/me', async request => request.body)
    },
    families: ['authorization', 'input', 'assignment'],
    unproven: INPUT.slice(0, 4),
    reason: /429/,
  },
  {
    what: 'a budget of which nothing is left',
    routes: { 'GET /a': { access: 'public', limits: ['5/minute'] } },
    serve: app => { app.get('/a', async (_request, reply) => reply.code(429).header('retry-after', '60').send({ error: 'too many' })) },
    families: ['limits'],
    unproven: ['limits.exceeded'],
    reason: /the very first request of a budget was answered 429/,
    holds: ['limits.retry'],
  },
  {
    what: 'a query of which no value is known',
    routes: { 'GET /a': { access: 'user', query: Ticket, limits: ['5/minute'] } },
    serve: app => {
      let count = 0
      app.get('/a', { onRequest: [signedIn, async (_request, reply) => { if (++count > 5) return reply.code(429).header('retry-after', '60').send({ error: 'too many' }) }], schema: { querystring: Ticket } }, async () => ({}))
    },
    families: ['authorization', 'credentials', 'mutations', 'limits', 'answers', 'leaks'],
    unproven: ['authorization.denied', 'limits.exceeded'],
    reason: /no value is known that fits \/ticket/,
  },
  {
    what: 'a handler that never answers what it did not expect',
    routes: { 'PUT /me': { access: 'user', body: Item } },
    serve: app => { app.put('/me', { onRequest: signedIn }, request => typeof (request.body as { item?: unknown } | null)?.item === 'string' ? Promise.resolve({}) : new Promise(() => {})) },
    options: { timeout: 20 },
    families: ['input', 'leaks'],
    unproven: ['input.type'],
    reason: /there was no answer/,
    finds: ['leaks.failure', 'input.bounds'],
  },
  {
    what: 'a connection that is closed, over a socket',
    routes: { 'PUT /me': { access: 'user', body: Item } },
    serve: app => {
      app.put('/me', { onRequest: signedIn }, request => {
        if (typeof (request.body as { item?: unknown } | null)?.item === 'string') return Promise.resolve({})
        request.raw.socket.destroy()
        return new Promise(() => {})
      })
    },
    options: { over: 'socket' },
    families: ['input', 'leaks'],
    unproven: ['input.type'],
    finds: ['leaks.failure', 'input.bounds'],
  },
  {
    what: 'a token that is none of the usual ones, and keys of a kind that nobody knows',
    routes: { 'GET /a': 'user', 'GET /.well-known/jwks.json': 'public' },
    serve: app => {
      app.get('/a', async (request, reply) => request.headers.authorization === `Bearer ${ODD}` || subOf(request) !== null ? {} : reply.code(401).send({ error: 'refused' }))
      app.get('/.well-known/jwks.json', async () => ({ keys: [{ kty: 'AKP', alg: 'ML-DSA-44', pub: 'x' }] }))
    },
    options: { principals: { ...principals, eve: { token: ODD } } },
    families: ['credentials'],
    holds: ['credentials.garbage'],
  },
]

/** Honest in all but what is looked at. */
export function refusing ({ serve, routes, strict = false, options = {}, families }: Refusing): { app: FastifyInstance, options: AttackOptions } {
  const app = Fastify({ logger: false, forceCloseConnections: true })
  app.addHook('onRequest', async (_request, reply) => { reply.headers({ 'x-content-type-options': 'nosniff', 'x-frame-options': 'DENY', 'cache-control': 'no-store' }) })
  app.setErrorHandler((error: { statusCode?: number }, _request, reply) => { reply.code(error.statusCode ?? 500).send({ error: 'refused' }) })
  serve(app)
  return { app, options: { principals, ...options, families, policy: { routes, strict } } }
}
