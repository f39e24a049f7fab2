/** Services that are honest, and the same with a flaw where one easily looks past it. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { AttackOptions, FamilyName, FindingId, Policy } from '../../plugins/testing/index.js'
import { PLANTED, subOf, tokenOf } from './plain.js'
import { signedIn } from './refusing.js'

interface Overlooked {
  what: string
  finds: FindingId
  routes: Policy['routes']
  serve: (app: FastifyInstance, isFlawed: boolean) => void
  options?: AttackOptions
  families: FamilyName[]
}

const none = (reply: FastifyReply) => reply.code(404).send({ error: 'none' })
const ACCOUNTS: Readonly<Record<string, { owner: string, total: number }>> = { 'a-1': { owner: 'ada', total: 10 }, 'b-1': { owner: 'bob', total: 20 }, 'r-1': { owner: 'root', total: 30 } }
const PEOPLE = { ada: { token: tokenOf('ada', ['user']) }, bob: { token: tokenOf('bob', ['user']) } }
const COOKIE = 'user=a-session-of-ada'
const OWN = tokenOf('ada', ['user'])
const OPAQUE = 'f3c1a9d2e4b58760'
const Text = { type: 'object', additionalProperties: false, required: ['text'], properties: { text: { type: 'string', minLength: 1, maxLength: 20 } } }
const Either = { type: 'object', additionalProperties: false, properties: { name: { type: 'string', nullable: true, maxLength: 10 }, code: { type: 'string', maxLength: 10 } } }
const accounts = { accountId: { ada: 'a-1', bob: 'b-1' } }
const AccountId = { type: 'object', additionalProperties: false, required: ['accountId'], properties: { accountId: { type: 'string', maxLength: 10 } } }

/** How what was planted may come back. */
const WRITTEN: Readonly<Record<string, (text: string) => string>> = {
  'with escapes of JSON': text => text.replace(/./g, one => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`),
  'with escapes of HTML': text => text.replace(/./g, one => `&#x${one.charCodeAt(0).toString(16)};`),
  'with escapes of URLs': text => `next=${text.replace(/./g, one => `%${one.charCodeAt(0).toString(16)}`)}`,
  'in hex': text => Buffer.from(text).toString('hex').toUpperCase(),
  'in base64': text => Buffer.from(text).toString('base64'),
  'in base64, behind something': text => Buffer.from(`x:${text}:y`).toString('base64url'),
}

const asAdmin = async (request: FastifyRequest, reply: FastifyReply) => { if (subOf(request) !== 'root') return reply.code(403).send({ error: 'refused' }) }

/** Answers an account of the caller's own, or anybody's where it is flawed. */
function account (id: string, request: FastifyRequest, reply: FastifyReply, isFlawed: boolean) {
  const found = ACCOUNTS[id]
  return found === undefined || (found.owner !== subOf(request) && !isFlawed) ? none(reply) : reply.send({ total: found.total })
}

export const OVERLOOKED: readonly Overlooked[] = [
  ...Object.entries(WRITTEN).map(([how, write]): Overlooked => ({
    what: `what was planted, ${how}`,
    finds: 'exposure.canary',
    routes: { 'GET /page': 'user', 'GET /search': { access: 'user', query: { type: 'object', required: ['q'], properties: { q: { type: 'string' } } } } },
    serve: (app, isFlawed) => {
      app.get('/page', { onRequest: signedIn }, async () => isFlawed ? write(PLANTED) : 'words')
      // Whoever sends it knows it.
      app.get<{ Querystring: { q: string } }>('/search', { onRequest: signedIn }, async ({ query: { q } }) => ({ q }))
    },
    options: { canaries: [PLANTED], routes: { 'GET /search': { query: { q: PLANTED } } } },
    families: ['exposure'],
  })),
  {
    what: 'who is signed in, where all refusals are said in a 200',
    finds: 'authorization.open',
    routes: { 'POST /graph': { access: 'user', body: Text } },
    serve: (app, isFlawed) => {
      app.post('/graph', async request => subOf(request) === null && !isFlawed ? { errors: [{ code: 'UNAUTHENTICATED' }] } : { data: {} })
    },
    options: { statusOf: ({ status, json }) => status === 200 && (json as { errors?: { code: string }[] } | undefined)?.errors?.[0]?.code === 'UNAUTHENTICATED' ? 401 : undefined },
    families: ['authorization'],
  },
  {
    what: 'a body that asks for one of two fields, of which nobody looks at what is in them',
    finds: 'input.bounds',
    routes: { 'POST /find': { access: 'user', body: { ...Either, anyOf: [{ required: ['name'] }, { required: ['code'] }] } } },
    serve: (app, isFlawed) => {
      const body = { ...Either, anyOf: [{ required: ['name'] }, { required: ['code'] }] }
      const open = { ...body, properties: { name: { type: 'string', nullable: true }, code: { type: 'string' } } }
      app.post('/find', { onRequest: signedIn, schema: { body: isFlawed ? open : body } }, async () => ({}))
    },
    families: ['input'],
  },
  {
    what: 'a document of somebody else, in a folder of the caller’s own',
    finds: 'authorization.object',
    routes: { 'GET /folders/:folderId/documents/:documentId': { access: { resource: 'document' } } },
    serve: (app, isFlawed) => {
      const documents: Record<string, string> = { 'd-1': 'ada', 'd-2': 'bob' }
      app.get<{ Params: { folderId: string, documentId: string } }>('/folders/:folderId/documents/:documentId', { onRequest: signedIn }, (request, reply) => {
        const { folderId, documentId } = request.params
        const isOwn = folderId === `f-${subOf(request)}` && (isFlawed ? documents[documentId] !== undefined : documents[documentId] === subOf(request))
        return isOwn ? reply.send({ text: documents[documentId] }) : none(reply)
      })
    },
    options: { objects: { folderId: { ada: 'f-ada', bob: 'f-bob' }, documentId: { ada: 'd-1', bob: 'd-2' } } },
    families: ['authorization'],
  },
  {
    what: 'an account of another kind of person than the first other',
    finds: 'authorization.object',
    routes: { 'GET /accounts/:accountId': { access: { resource: 'account' } } },
    serve: (app, isFlawed) => {
      app.get<{ Params: { accountId: string } }>('/accounts/:accountId', { onRequest: signedIn }, (request, reply) => account(request.params.accountId, request, reply, isFlawed && request.params.accountId === 'r-1'))
    },
    // Who comes by another way is nobody else.
    options: { principals: { ...PEOPLE, root: { token: tokenOf('root', ['auditor']) }, again: { headers: { authorization: `Bearer ${tokenOf('bob', ['user'])}` }, id: 'bob', roles: ['user'] } }, objects: { accountId: { ada: 'a-1', bob: 'b-1', root: 'r-1' } } },
    families: ['authorization'],
  },
  {
    what: 'a body of an auditor, at which nobody looks',
    finds: 'input.bounds',
    routes: { 'POST /notes': { access: 'user', body: Text } },
    serve: (app, isFlawed) => {
      app.post('/notes', { onRequest: signedIn, schema: { body: Text }, attachValidation: true }, (request, reply) => {
        const { text = '' } = (request.body ?? {}) as { text?: unknown }
        const isUnread = isFlawed && subOf(request) === 'root' && typeof text === 'string' && text !== ''
        return reply.code(request.validationError === undefined || isUnread ? 200 : 400).send({})
      })
    },
    options: { principals: { ...PEOPLE, root: { token: tokenOf('root', ['auditor']) } } },
    families: ['input'],
  },
  {
    what: 'a field that an auditor may set unasked',
    finds: 'assignment.undeclared',
    routes: { 'PUT /me': { access: 'user', body: Text } },
    serve: (app, isFlawed) => {
      app.put('/me', { onRequest: signedIn }, async request => isFlawed && subOf(request) === 'root' ? request.body : { text: (request.body as { text: string }).text })
    },
    options: { principals: { ...PEOPLE, root: { token: tokenOf('root', ['auditor']) } } },
    families: ['assignment'],
  },
  {
    what: 'an id in the query',
    finds: 'authorization.object',
    routes: { 'GET /statement': { access: 'user', query: AccountId } },
    serve: (app, isFlawed) => { app.get<{ Querystring: { accountId: string } }>('/statement', { onRequest: signedIn }, (request, reply) => account(request.query.accountId, request, reply, isFlawed)) },
    options: { objects: accounts },
    families: ['authorization'],
  },
  {
    what: 'an id in a query that only narrows a list',
    finds: 'authorization.object',
    routes: { 'GET /totals': { access: 'user', query: { ...AccountId, required: [] } } },
    serve: (app, isFlawed) => {
      app.get<{ Querystring: { accountId?: string } }>('/totals', { onRequest: signedIn }, async request => Object.entries(ACCOUNTS)
        .filter(([id, { owner }]) => (isFlawed || owner === subOf(request)) && id === (request.query.accountId ?? id)).map(([, { total }]) => ({ total })))
    },
    options: { objects: accounts },
    families: ['authorization'],
  },
  {
    what: 'an id in the body',
    finds: 'authorization.object',
    routes: { 'POST /statement': { access: { resource: 'account' }, body: AccountId } },
    serve: (app, isFlawed) => { app.post<{ Body: { accountId: string } }>('/statement', { onRequest: signedIn, schema: { body: AccountId } }, (request, reply) => account(request.body.accountId, request, reply, isFlawed)) },
    options: { objects: accounts },
    families: ['authorization'],
  },
  {
    what: 'a list of everybody’s',
    finds: 'authorization.object',
    routes: { 'GET /accounts': { access: { resource: 'account' } }, 'GET /accounts/:accountId': { access: { resource: 'account' } } },
    serve: (app, isFlawed) => {
      app.get('/accounts', { onRequest: signedIn }, async request => Object.entries(ACCOUNTS).filter(([, { owner }]) => isFlawed || owner === subOf(request)).map(([id, { total }]) => ({ id, total })))
      app.get<{ Params: { accountId: string } }>('/accounts/:accountId', { onRequest: signedIn }, (request, reply) => account(request.params.accountId, request, reply, false))
    },
    options: { objects: accounts },
    families: ['authorization'],
  },
  {
    what: 'a path in capitals, for who is signed in and sends what is valid',
    finds: 'mutations.path',
    routes: { 'POST /admin/notices': { access: { roles: 'admin' }, body: Text } },
    serve: (app, isFlawed) => {
      const post = async () => ({})
      app.post('/admin/notices', { onRequest: [signedIn, asAdmin], schema: { body: Text } }, post)
      app.post('/ADMIN/NOTICES', { onRequest: isFlawed ? signedIn : [signedIn, asAdmin], schema: { body: Text } }, post)
    },
    options: { principals: { root: { token: tokenOf('root', ['admin']) }, ada: { token: tokenOf('ada', ['user']) } } },
    families: ['mutations'],
  },
  {
    what: 'signatures, where there are no routes but those that change something',
    finds: 'credentials.algorithm',
    routes: { 'POST /notes': { access: 'user', body: Text } },
    serve: (app, isFlawed) => {
      const isUnsigned = ({ headers: { authorization = '' } }: FastifyRequest) => isFlawed && Buffer.from(authorization.slice('Bearer '.length).split('.')[0]!, 'base64url').toString().includes('"alg":"none"')
      app.post('/notes', { onRequest: async (request, reply) => isUnsigned(request) ? undefined : signedIn(request, reply), schema: { body: Text } }, async () => ({}))
    },
    families: ['credentials'],
  },
  {
    what: 'a token in a header of its own, whose signature nobody looks at',
    finds: 'credentials.forged',
    routes: { 'GET /notes': 'user' },
    serve: (app, isFlawed) => {
      app.get('/notes', async (request, reply) => {
        const { 'x-auth-token': token = '' } = request.headers
        const isIn = token === OWN || (isFlawed && String(token).slice(0, -43) === OWN.slice(0, -43))
        return isIn ? [] : reply.code(401).send({ error: 'refused' })
      })
    },
    options: { principals: { ada: { headers: { 'x-auth-token': OWN } } } },
    families: ['credentials'],
  },
  {
    what: 'an opaque token, of which half is enough',
    finds: 'credentials.forged',
    routes: { 'GET /notes': 'user' },
    serve: (app, isFlawed) => { app.get('/notes', async ({ headers: { 'x-auth-token': token = '' } }, reply) => (isFlawed ? String(token).startsWith(OPAQUE.slice(0, 8)) : token === OPAQUE) ? [] : reply.code(401).send({ error: 'refused' })) },
    options: { principals: { ada: { headers: { 'x-auth-token': OPAQUE } } } },
    families: ['credentials'],
  },
  {
    what: 'a page of another site, where a cookie is all that is asked for',
    finds: 'credentials.csrf',
    routes: { 'POST /transfers': 'user', 'PUT /transfers/last': { access: 'user', body: Text } },
    serve: (app, isFlawed) => {
      const withCookie = async ({ headers: { cookie, 'sec-fetch-site': site } }: FastifyRequest, reply: FastifyReply) => {
        if (cookie !== COOKIE) return reply.code(401).send({ error: 'refused' })
        if (site === 'cross-site' && !isFlawed) return reply.code(403).send({ error: 'refused' })
      }
      app.post('/transfers', { onRequest: withCookie }, async () => ({}))
      // Before this one browsers ask, and nobody answers them.
      app.put('/transfers/last', { onRequest: withCookie, schema: { body: Text } }, async () => ({}))
    },
    options: { principals: { ada: { cookie: COOKIE, id: 'ada' } } },
    families: ['credentials'],
  },
  {
    what: 'a sign-in that goes on with the cookie that a visitor has, where no route asks who calls',
    finds: 'credentials.fixation',
    routes: { 'GET /': 'public', 'POST /sign-in': { access: 'public', body: Text } },
    serve: (app, isFlawed) => {
      const issued = new Set<string>()
      const give = (reply: FastifyReply) => {
        issued.add(`s-${issued.size}`)
        return reply.header('set-cookie', `user=s-${issued.size - 1}; HttpOnly; SameSite=Lax`)
      }
      const has = ({ headers: { cookie = '' } }: FastifyRequest) => issued.has(cookie.replace('user=', ''))
      app.get('/', async (request, reply) => { if (!has(request)) give(reply); return {} })
      app.post('/sign-in', { schema: { body: Text } }, async (request, reply) => { if (!isFlawed || !has(request)) give(reply); return {} })
    },
    options: { principals: { ada: { cookie: 'user=s-of-ada', id: 'ada' } } },
    families: ['credentials'],
  },
  {
    what: 'a valid body of any type',
    finds: 'mutations.media-type',
    routes: { 'POST /notes': { access: 'user', body: Text } },
    serve: (app, isFlawed) => {
      app.removeContentTypeParser('text/plain')
      if (isFlawed) app.addContentTypeParser('text/plain', { parseAs: 'string' }, (_request, body, done) => { done(null, JSON.parse(String(body))) })
      app.post('/notes', { onRequest: signedIn, schema: { body: Text } }, async () => ({}))
    },
    families: ['mutations'],
  },
  {
    what: 'a query that says where to go next',
    finds: 'answers.redirect',
    routes: { 'GET /next': { access: 'public', query: { type: 'object', properties: { to: { type: 'string' } } } } },
    serve: (app, isFlawed) => { app.get<{ Querystring: { to?: string } }>('/next', async ({ query: { to = '/' } }, reply) => reply.redirect(isFlawed || /^\/[a-z]*$/.test(to) ? to : '/')) },
    families: ['answers'],
  },
  {
    what: 'a page that repeats its query',
    finds: 'answers.markup',
    routes: { 'GET /find': { access: 'user', query: { type: 'object', properties: { text: { type: 'string' } } } } },
    serve: (app, isFlawed) => { app.get<{ Querystring: { text?: string } }>('/find', { onRequest: signedIn }, async ({ query: { text = '' } }, reply) => reply.type('text/html').send(`<p>${isFlawed ? text : text.replaceAll('<', '&lt;')}</p>`)) },
    families: ['answers'],
  },
  {
    what: 'an origin whose name begins as the service’s own',
    finds: 'answers.cors',
    routes: { 'GET /': 'public' },
    serve: (app, isFlawed) => {
      app.get('/', async ({ headers: { origin = '' } }, reply) => {
        if (isFlawed ? origin.startsWith('https://localhost') : origin === 'https://localhost') reply.header('access-control-allow-origin', origin)
        return {}
      })
    },
    families: ['answers'],
  },
  {
    what: 'a cookie that nothing but its callers tells to be one of a sign-in',
    finds: 'answers.cookie',
    routes: { 'POST /sign-in': { access: 'public', body: Text }, 'GET /notes': 'user' },
    serve: (app, isFlawed) => {
      app.post('/sign-in', { schema: { body: Text } }, async (_request, reply) => reply.header('set-cookie', `${COOKIE}; SameSite=Lax; ${isFlawed ? 'HttpOnly' : 'HttpOnly; Secure'}`).send({}))
      app.get('/notes', async ({ headers: { cookie } }, reply) => cookie === COOKIE ? [] : reply.code(401).send({ error: 'refused' }))
    },
    options: { principals: { ada: { cookie: COOKIE, id: 'ada' } }, headers: { 'x-forwarded-proto': 'https' } },
    families: ['authorization', 'answers'],
  },
]
