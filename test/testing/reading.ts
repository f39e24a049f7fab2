/** Services that are honest where it is seldom looked, and flaws where it is seldom looked; what the attack kit is told of them, and what it must say. */
import cors from '@fastify/cors'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { signedIn, type Refusing } from './refusing.js'

const closed = (properties: Record<string, object>, required: string[] = []) => ({ type: 'object', additionalProperties: false, required, properties })
const Named = closed({ name: { type: 'string', maxLength: 20 } }, ['name'])
const Person = closed({ id: { type: 'string' }, name: { type: 'string' } })
const Settings = closed({ age: { type: 'integer', minimum: 0, maximum: 150 }, active: { type: 'boolean' }, tags: { type: 'array', items: { type: 'string' }, maxItems: 3 }, size: { type: 'string', default: 'm' } }, ['size'])
const Search = closed({ tags: { type: 'array', items: { type: 'string' } }, n: { type: 'integer', maximum: 5 }, on: { type: 'boolean' } })
const person = { id: '1', name: 'a', internalScore: 3 }

/** As often as it says in so many milliseconds. */
function counted (...windows: readonly [limit: number, ms: number][]) {
  const times = new Map<string, number[]>()
  return async ({ ip }: FastifyRequest, reply: FastifyReply) => {
    const asked = times.get(ip) ?? []
    const isSpent = windows.some(([limit, ms]) => asked.filter(time => time > performance.now() - ms).length >= limit)
    if (isSpent) return reply.code(429).header('retry-after', '1').send({ error: 'too many' })
    times.set(ip, [...asked, performance.now()])
  }
}

export const HONEST: readonly Refusing[] = [
  {
    what: 'values that Ajv coerces, as Fastify has it',
    routes: { 'PATCH /me': { access: 'user', body: Settings }, 'GET /search': { access: 'user', query: Search } },
    serve: app => {
      app.patch('/me', { onRequest: signedIn, schema: { body: Settings } }, async () => ({ age: 1 }))
      app.get('/search', { onRequest: signedIn, schema: { querystring: Search } }, async () => ({}))
    },
    families: ['input'],
    holds: ['input.type', 'input.bounds', 'input.query'],
  },
  {
    what: 'answers that say anyway what an attacker would have them say',
    routes: { 'POST /orders/:id/pay': { access: 'user', body: Named }, 'POST /users': { access: 'user', body: Named } },
    serve: app => {
      app.post('/orders/:id/pay', { onRequest: signedIn, schema: { body: Named } }, async ({ body }) => ({ ...body as object, status: 'paid' }))
      app.post('/users', { onRequest: signedIn, schema: { body: Named } }, async ({ body }) => ({ ...body as object, isActive: true }))
    },
    families: ['assignment'],
    holds: ['assignment.undeclared'],
  },
  {
    what: 'a page for every path, and a star for what is public',
    routes: { 'GET /reports': 'user', 'GET /prices': 'public' },
    serve: app => {
      app.get('/reports', { onRequest: signedIn }, async () => ({ total: 1 }))
      app.get('/prices', async (_request, reply) => reply.header('access-control-allow-origin', '*').send([]))
      app.setNotFoundHandler(({ method }, reply) => method === 'GET' || method === 'HEAD' ? reply.type('text/html').send('<!doctype html><div id=app>') : reply.code(404).send({ error: 'none' }))
    },
    families: ['authorization', 'mutations', 'answers'],
    holds: ['authorization.method', 'mutations.path', 'answers.cors'],
  },
  {
    what: 'sentences that begin as statements do',
    routes: { 'GET /a': 'user', 'GET /b': 'user' },
    serve: app => {
      app.get('/a', { onRequest: signedIn }, async (_request, reply) => reply.code(400).send({ error: 'Please select a date from the list, or update your settings where you set it' }))
      app.get('/b', { onRequest: signedIn }, async (_request, reply) => reply.code(400).send({ error: 'Select one or more from these. To delete from your basket, go where it is' }))
    },
    families: ['leaks'],
    holds: ['leaks.internal'],
  },
  {
    what: 'answers and bodies that are declared by classes of statuses, or as anything at all',
    routes: { 'GET /class': { access: 'user', answers: { '2XX': Person } }, 'GET /any': { access: 'user', answers: { 200: { type: 'object' } } }, 'PUT /notes': { access: 'user', body: { type: 'object' } }, 'PUT /fields': { access: 'user', body: { ...Named, additionalProperties: true } } },
    serve: app => {
      app.get('/class', { onRequest: signedIn }, async () => ({ id: '1' }))
      app.get('/any', { onRequest: signedIn }, async () => person)
      app.put('/notes', { onRequest: signedIn, schema: { body: { type: 'object' } } }, async ({ body }) => body)
      app.put('/fields', { onRequest: signedIn, schema: { body: { ...Named, additionalProperties: true } } }, async ({ body }) => body)
    },
    families: ['authorization', 'exposure', 'assignment', 'mutations'],
    holds: ['exposure.undeclared'],
  },
  {
    what: 'budgets that count what is let in, and what is well formed',
    routes: { 'POST /notes': { access: 'public', body: Named, limits: ['5/minute'] }, 'GET /me': { access: 'user', limits: ['5/minute'] } },
    serve: app => {
      app.post('/notes', { schema: { body: Named }, preHandler: counted([5, 60_000]) }, async () => ({}))
      app.get('/me', { onRequest: [signedIn, counted([5, 60_000])] }, async () => ({}))
    },
    families: ['limits'],
    holds: ['limits.exceeded'],
  },
  {
    what: 'two windows, and both are kept',
    routes: { 'GET /s': { access: 'public', limits: ['3/second', '5/hour'] } },
    serve: app => { app.get('/s', { onRequest: counted([3, 1000], [5, 3_600_000]) }, async () => ({})) },
    families: ['limits'],
    holds: ['limits.exceeded'],
  },
  {
    what: 'preflights, two colons, and a parameter with a pattern',
    routes: { 'GET /orders': 'user', 'POST /jobs::cancel': 'user', 'GET /o/:id(^\\d+$)': 'user' },
    serve: app => {
      app.register(cors, { origin: 'https://a.example' })
      app.get('/orders', { onRequest: signedIn }, async () => [])
      app.post('/jobs::cancel', { onRequest: signedIn }, async () => ({}))
      app.get('/o/:id(^\\d+$)', { onRequest: signedIn }, async () => ({}))
    },
    options: { objects: { id: { '*': '7' } } },
    families: ['authorization'],
    holds: ['authorization.open'],
  },
  {
    what: 'a path that is not of ASCII, and parameters that may be left out',
    routes: { 'GET /über/:id': 'user', 'GET /pages/:page?': 'user' },
    serve: app => {
      app.get('/über/:id', { onRequest: signedIn }, async () => [])
      app.get('/pages/:page?', { onRequest: signedIn }, async () => [])
    },
    options: { over: 'socket' },
    families: ['authorization', 'leaks', 'answers'],
    holds: ['authorization.open', 'authorization.denied', 'answers.headers'],
  },
  {
    what: 'patterns without Unicode, and texts that may be null',
    routes: { 'PUT /me': { access: 'user', body: closed({ name: { type: 'string', pattern: '^[\\w-.]{1,20}$', nullable: true } }) } },
    strict: true,
    serve: app => {
      const isRight = (name: unknown) => name === null || name === undefined || (typeof name === 'string' && /^[\w\-.]{1,20}$/.test(name))
      app.put('/me', { onRequest: signedIn }, async ({ body }, reply) => {
        const { name, ...others } = Object(body) as { name?: unknown }
        return reply.code(typeof body === 'object' && body !== null && !Array.isArray(body) && Object.keys(others).length === 0 && isRight(name) ? 200 : 400).send({})
      })
    },
    families: ['input'],
    holds: ['input.bounds'],
  },
]

const asked = (path: string, answers: object) => ({ [`GET ${path}`]: { access: 'user' as const, answers: { 200: answers } } })

export const HIDDEN: readonly Refusing[] = [
  {
    what: 'the second of two windows is not kept',
    routes: { 'GET /s': { access: 'public', limits: ['3/second', '5/hour'] } },
    serve: app => { app.get('/s', { onRequest: counted([3, 1000]) }, async () => ({})) },
    families: ['limits'],
    finds: ['limits.exceeded'],
  },
  {
    what: 'a window that is not reached in a while',
    routes: { 'GET /s': { access: 'public', limits: ['3/minute', '5/hour'] } },
    serve: app => { app.get('/s', { onRequest: counted([3, 60_000]) }, async () => ({})) },
    families: ['limits'],
    reason: /5\/hour is not reached/,
    holds: ['limits.exceeded'],
  },
  ...['allof', 'refers', 'many', 'text', 'lines'].map((path): Refusing => ({
    what: `a field that nobody declared: ${path}`,
    routes: asked(`/${path}`, path === 'allof' ? { allOf: [Person] } : path === 'refers' ? { $ref: '#/definitions/person', definitions: { person: Person } } : path === 'many' ? { type: 'array', items: Person } : Person),
    serve: app => {
      app.get(`/${path}`, { onRequest: signedIn }, async (_request, reply) => {
        if (path === 'many') return Array.from({ length: 25 }, (_none, i) => i < 24 ? { id: '1' } : person)
        return path === 'text' ? reply.type('text/plain').send(JSON.stringify(person)) : path === 'lines' ? reply.type('application/x-ndjson').send(`{"id":"1"}\n${JSON.stringify(person)}\n`) : person
      })
    },
    families: ['authorization', 'exposure'],
    finds: ['exposure.undeclared'],
  })),
  {
    what: 'an answer that is too long to be read',
    routes: asked('/long', Person),
    serve: app => { app.get('/long', { onRequest: signedIn }, async () => ({ long: 'x'.repeat(4_500_000), ...person })) },
    options: { over: 'socket' },
    families: ['authorization', 'exposure'],
    reason: /too long/,
    unproven: ['exposure.undeclared'],
  },
  {
    what: 'lists, objects that may be null, and objects inside, of which nobody looks at what is in them',
    routes: { 'POST /list': { access: 'user', body: { type: 'array', items: Named } }, 'POST /null': { access: 'user', body: { oneOf: [Named, { type: 'null' }] } }, 'POST /inside': { access: 'user', body: closed({ profile: closed({ bio: { type: 'string', maxLength: 10 } }, ['bio']) }, ['profile']) } },
    serve: app => {
      for (const path of ['/list', '/null', '/inside']) app.post(path, { onRequest: signedIn }, async ({ body }) => body)
    },
    families: ['input', 'assignment'],
    finds: ['input.type', 'input.bounds', 'input.missing', 'assignment.undeclared', 'assignment.prototype'],
    on: ['POST /list', 'POST /null', 'POST /inside'],
  },
  {
    what: 'a field that is taken, and seen only where the object is asked for',
    routes: { 'POST /users': { access: 'user', body: Named }, 'GET /users/:userId': 'user' },
    serve: app => {
      const users = new Map<string, object>()
      app.post('/users', { onRequest: signedIn }, async ({ body }, reply) => {
        const id = `u${users.size + 1}`
        users.set(id, { id, role: 'user', ...body as object })
        return reply.code(201).send({ id })
      })
      app.get('/users/:userId', { onRequest: signedIn }, async ({ params }, reply) => users.get((params as { userId: string }).userId) ?? reply.code(404).send({ error: 'none' }))
    },
    families: ['assignment'],
    finds: ['assignment.undeclared'],
  },
  {
    what: 'a field of which no answer shows what became of it',
    routes: { 'POST /users': { access: 'user', body: Named } },
    serve: app => { app.post('/users', { onRequest: signedIn }, async (_request, reply) => reply.code(204).send()) },
    families: ['assignment'],
    unproven: ['assignment.undeclared'],
    reason: /no answer shows/,
  },
  {
    what: 'routes that the policy does not know, of other methods, versions and hosts',
    routes: { 'GET /orders': 'user' },
    serve: app => {
      app.addHttpMethod('M-SEARCH')
      app.get('/orders', { onRequest: signedIn }, async () => [])
      app.get('/versioned', { constraints: { version: '1.0.0' } }, async () => [])
      app.get('/hosted', { constraints: { host: 'a.example' } }, async () => [])
      app.route({ method: 'M-SEARCH', url: '/find', handler: async () => [] })
      app.head('/probe', async () => '')
      app.options('/options', async () => '')
    },
    families: ['authorization'],
    finds: ['authorization.unlisted'],
    on: ['GET /versioned', 'GET /hosted', 'M-SEARCH /find', 'HEAD /probe', 'OPTIONS /options'],
  },
]
