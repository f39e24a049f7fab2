/** OpenAPI: the document is valid, and says what the plan does; nothing in it was written for it. */
import { randomBytes } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import { Validator } from '@seriousme/openapi-schema-validator'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions } from '../plugins/index.js'
import type { OpenApiDocument, OpenApiOperation } from '../plugins/openapi/index.js'
import { closed, Encrypted, noBody } from '../schemas/index.js'

const DOCUMENT = { title: 'Shop', version: '3' }
const Ok = Type.Object({ ok: Type.Boolean() })
const schema = { response: { 200: Ok } }
const OPEN = { access: 'public' } as const
const handler = async () => ({ ok: true })

async function build (t: Test, declare: (app: FastifyInstance) => void, options: BastionOptions = {}, credentials: readonly string[] = ['bearer', 'session', 'key']): Promise<{ document: OpenApiDocument, at: (method: string, url: string) => OpenApiOperation, app: FastifyInstance }> {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, {
    openapi: DOCUMENT,
    access: { roles: { clerk: { permissions: ['orders:read', 'orders:write'] } }, resources: { order: { load: () => ({}), owner: () => 'u1' } } },
    csrf: { key: randomBytes(32) },
    ...options,
  })
  for (const name of credentials) app.identity.reader({ name, read: () => null })
  if (credentials.includes('session')) app.csrf?.credential(() => null)
  declare(app)
  await app.ready()
  // As it leaves.
  const document = JSON.parse(JSON.stringify(app.openapi())) as OpenApiDocument
  const { valid, errors } = await new Validator().validate(structuredClone(document))
  t.ok(valid, `a valid document: ${JSON.stringify(errors)}`)
  return { document, app, at: (method, url) => document.paths[url]![method]! }
}

const statuses = ({ responses }: OpenApiOperation) => Object.keys(responses).sort()

t.test('off unless it is asked for', async t => {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion)
  await app.ready()
  t.notOk(app.hasDecorator('openapi') || app.hasDecorator('swagger'))
})

t.test('a document of OpenAPI 3.1, with the title, version, text and servers that were given and nothing of what the service is made of [ASVS 13.4.6]', async t => {
  const { document } = await build(t, app => { app.get('/', { schema, config: OPEN }, handler) }, { openapi: { ...DOCUMENT, description: 'Things to buy', servers: ['https://api.example.com/v3', '/v3'] } })
  t.match(document, { openapi: '3.1.0', info: { title: 'Shop', version: '3', description: 'Things to buy' }, servers: [{ url: 'https://api.example.com/v3' }, { url: '/v3' }] })
  t.notMatch(JSON.stringify(document), /fastify|bastion(?!_HTTP)|swagger|typebox|node_modules/)
  t.same(Object.keys(document.paths), ['/'], 'neither the HEAD of a GET nor what the suite declares for itself')
})

t.test('routes that hide are not in it', async t => {
  const { document } = await build(t, app => {
    app.get('/shown', { schema, config: OPEN }, handler)
    app.get('/hidden', { schema: { ...schema, hide: true }, config: OPEN }, handler)
  })
  t.same(Object.keys(document.paths), ['/shown'])
})

t.test('who may call is what access says: kinds of credential, permissions, the token of CSRF where it is asked for', async t => {
  const { document, at } = await build(t, app => {
    app.get('/open', { schema, config: OPEN }, handler)
    app.get('/user', { schema, config: { access: 'user' } }, handler)
    app.post('/user', { schema: { ...schema, body: noBody }, config: { access: 'user' } }, handler)
    app.get('/orders', { schema, config: { access: { permissions: ['orders:read', 'orders:write'], roles: 'clerk' } } }, handler)
    app.get('/keys', { schema, config: { access: { via: ['key'] } } }, handler)
    app.get('/orders/:id', { schema, config: { access: { resource: 'order', action: 'read', stepUp: true } } }, handler)
    app.post('/form', { schema: { ...schema, body: noBody }, config: { ...OPEN, csrf: 'token' } }, handler)
  })
  t.same(at('get', '/open').security, [])
  t.same(at('get', '/user').security, [{ bearer: [] }, { session: [] }])
  t.same(at('post', '/user').security, [{ bearer: [] }, { session: [], csrfToken: [] }])
  const both = ['orders:read', 'orders:write']
  t.same(at('get', '/orders').security, [{ bearer: both }, { session: both }, { key: both }])
  t.same(at('get', '/orders')['x-access'], { permissions: both, roles: 'clerk' })
  t.same(at('get', '/keys').security, [{ key: [] }])
  t.match(at('get', '/orders/{id}'), { security: [{ bearer: [] }, { session: [] }], 'x-access': { resource: 'order', action: 'read', stepUp: true } })
  t.same(at('post', '/form').security, [{ csrfToken: [] }])
  t.match(document.components.securitySchemes, {
    bearer: { type: 'http', scheme: 'bearer' }, session: { type: 'apiKey', in: 'cookie' }, key: { type: 'apiKey', in: 'header', name: 'x-api-key' }, csrfToken: { type: 'apiKey', in: 'header', name: 'x-csrf-token' },
  })
  t.equal(Object.keys(document.components.securitySchemes).length, 4, 'only those that this service takes')
})

t.test('client certificates are mutualTLS; sessions go by the name of their cookie; bound tokens by DPoP', async t => {
  const declare = (app: FastifyInstance) => {
    app.get('/orders', { schema, config: { access: { permissions: 'orders:read' } } }, handler)
    app.get('/bound', { schema, config: { access: 'user', dpop: true } } as never, handler)
  }
  const keys = { access: randomBytes(32), refresh: randomBytes(32) }
  const { document, at } = await build(t, declare, {
    sessions: { secret: randomBytes(32) }, tokens: { issuer: 'https://api.example.com', audience: 'https://api.example.com', keys, dpop: {} } as never,
  }, ['certificate'])
  t.match(document.components.securitySchemes, { session: { name: '__Host-session' }, certificate: { type: 'mutualTLS' }, dpop: { type: 'http', scheme: 'DPoP' } })
  t.same(new Set(at('get', '/orders').security!.flatMap(one => Object.keys(one))), new Set(['bearer', 'dpop', 'session', 'certificate']))
  t.same(at('get', '/bound').security, [{ dpop: [] }, { session: [] }])
})

t.test('refusals are those that the plan says: one schema, one answer of each status, shared', async t => {
  const { document, at } = await build(t, app => {
    app.get('/open', { schema, config: { ...OPEN, limits: false, overload: false } }, handler)
    app.get('/open/:id', { schema, config: OPEN }, handler)
    app.post('/orders', { schema: { ...schema, body: closed({ n: Type.Integer() }) }, config: { access: 'user' } }, handler)
    app.get('/old', { schema, config: { ...OPEN, version: { deprecated: '2026-01-01', sunset: '2999-01-01', successor: '/open' } } }, handler)
  }, { transport: { hosts: ['localhost'] }, limits: { flood: false } })
  t.same(statuses(at('get', '/open')), ['200', '400', '421', '4XX', '5XX'])
  t.same(statuses(at('get', '/open/{id}')), ['200', '400', '404', '421', '429', '4XX', '503', '5XX'])
  t.same(statuses(at('post', '/orders')), ['200', '400', '401', '403', '413', '415', '421', '429', '4XX', '503', '5XX'])
  t.same(at('post', '/orders').responses[415], { $ref: '#/components/responses/Problem415' })
  t.ok(statuses(at('get', '/old')).includes('410'))
  const { responses, schemas } = document.components as { responses: Record<string, any>, schemas: Record<string, any> }
  for (const { content } of Object.values(responses)) t.same(content['application/problem+json'].schema, { $ref: '#/components/schemas/Problem' })
  t.same(Object.keys(responses.Problem429.headers), ['Retry-After', 'RateLimit', 'RateLimit-Policy', 'X-RateLimit-Limit', 'X-RateLimit-Remaining', 'X-RateLimit-Reset'])
  t.same(Object.keys(responses.Problem401.headers), ['WWW-Authenticate'])
  t.same(Object.keys(responses.Problem410.headers), ['Deprecation', 'Sunset', 'Link'])
  t.ok(responses.Problem503.headers['Retry-After'])
  t.same(Object.keys(schemas), ['Problem'])
  t.equal(schemas.Problem.additionalProperties, false)
})

t.test('and they are what the wire answers: headers of a 429, the form of a problem', async t => {
  const { document, app } = await build(t, app => { app.get('/', { schema, config: { ...OPEN, limits: ['1/minute'] } }, handler) })
  await app.inject({ url: '/', headers: { host: 'localhost' } })
  const refused = await app.inject({ url: '/', headers: { host: 'localhost' } })
  t.equal(refused.statusCode, 429)
  const { responses, schemas } = document.components as { responses: Record<string, any>, schemas: Record<string, any> }
  for (const name of Object.keys(responses.Problem429.headers)) t.ok(refused.headers[name.toLowerCase()], name)
  t.match(refused.headers['content-type'], Object.keys(responses.Problem429.content)[0])
  for (const name of Object.keys(refused.json())) t.ok(schemas.Problem.properties[name], name)
})

t.test('what a route declares itself stays as it is, and an own form of refusals is no problem', async t => {
  const { at } = await build(t, app => {
    app.post('/orders', { schema: { tags: ['till'], summary: 'Buys', body: noBody, response: { 201: Ok, 204: Type.Null(), 409: Type.Object({ taken: Type.Boolean() }) } }, config: OPEN }, handler)
    app.post('/token', { schema: { ...schema, body: { content: { 'application/x-www-form-urlencoded': { schema: closed({ code: Type.String() }) } } } as never }, config: { ...OPEN, errorForm: () => ({ error: 'no' }) } }, handler)
    app.get('/file', { config: { ...OPEN, answers: 'raw' } }, async () => 'text')
    app.get('/till', { schema, config: OPEN }, handler)
  })
  const orders = at('post', '/orders')
  t.match(orders, { tags: ['till'], summary: 'Buys', responses: { 201: { description: 'Created' }, 204: { description: 'No Content' }, 409: { description: 'Conflict' } } })
  t.notOk('requestBody' in orders, 'a body that must not be there is none')
  t.match(at('post', '/token'), { requestBody: { content: { 'application/x-www-form-urlencoded': {} } }, responses: { 400: { content: { 'application/json': {} } } } })
  t.same(at('get', '/file').responses[200], { description: 'OK' }, 'bytes that nobody declares are not described')
  t.same(at('get', '/till').tags, ['till'], 'grouped by where they are')
})

t.test('schemas are those of validation, in the words of JSON Schema 2020-12', async t => {
  const { at, document } = await build(t, app => {
    app.addSchema({ $id: 'money', type: 'object', additionalProperties: false, properties: { amount: { type: 'integer' }, pin: { type: 'string', examples: ['1234'] } } })
    app.post('/orders/:id/*', {
      schema: {
        querystring: closed({ limit: Type.Integer({ default: 20 }), kind: Type.Union([Type.Literal('a'), Type.Literal('b')]) }),
        body: closed({
          title: Type.String({ trim: true, normalize: 'NFC', examples: ['Hat'] }),
          pair: Type.Tuple([Type.String(), Type.Integer()]),
          price: Type.Unsafe<object>({ $ref: 'money#' }),
          tags: Type.Array(Type.String(), { distinct: true, maxItems: 3 }),
        }, { rules: [{ path: '/title', message: 'is odd', holds: () => true }] }),
        response: { 200: Type.Object({ ssn: Type.Optional(Encrypted(Type.String({ visibleTo: 'orders:write' } as object))), nothing: Type.Union([Type.String(), Type.Null()]) }) },
      },
      config: OPEN,
    }, async () => ({ nothing: null }))
  })
  const operation = at('post', '/orders/{id}/{*}') as OpenApiOperation & Record<string, any>
  t.match(operation.parameters.map(({ in: place, name, required }: Record<string, unknown>) => `${String(place)} ${String(name)} ${String(required)}`).sort(), ['path * true', 'path id true', 'query kind true', 'query limit false'])
  t.match(operation.parameters.find(({ name }: { name: string }) => name === 'kind').schema, { type: 'string', enum: ['a', 'b'] })
  const body = operation.requestBody.content['application/json'].schema
  t.same(body.properties.title, { type: 'string', examples: ['Hat'] })
  t.match(body.properties.pair, { prefixItems: [{ type: 'string' }, { type: 'integer' }], items: false })
  t.same(body.properties.tags, { type: 'array', maxItems: 3, items: { type: 'string' } })
  t.notOk('rules' in body)
  t.match(body.properties.price, { $ref: /^#\/components\/schemas\// })
  t.same((document.components.schemas[body.properties.price.$ref.split('/').at(-1)] as any).properties.pin, { type: 'string', format: 'password' }, 'schemas that are shared, too')
  t.same((operation.responses[200] as any).content['application/json'].schema.properties.ssn, { type: 'string', 'x-visible-to': ['orders:write'] })
})

t.test('examples hold no secrets, also where these are numbers, one of a list or may be null [ASVS 13.4.2]', async t => {
  const Body = closed({
    password: Type.Union([Type.String({ examples: ['hunter2'] }), Type.Null()]),
    secrets: Type.Array(Type.String({ default: 'hunter2' })),
    pin: Type.Integer({ examples: [4711] }),
    amounts: Type.Array(Type.String({ examples: ['12.50'] })),
  }, { examples: [{ password: null, secrets: ['hunter2'], pin: 4711, amounts: ['12.50'], apiKey: { value: 'hunter2', isOld: true } }] })
  const { document } = await build(t, app => { app.post('/', { schema: { ...schema, body: Body }, config: OPEN }, handler) })
  t.notMatch(JSON.stringify(document), /hunter2|4711/)
  t.match(JSON.stringify(document), /\["12\.50"\].*\["12\.50"\]/, 'other examples are there')
  t.match(JSON.stringify(document), /"password":null,"secrets":\["<secrets>"\],"pin":"<pin>","amounts":\["12\.50"\],"apiKey":\{"value":"<apiKey>","isOld":true\}/)
})

t.test('examples hold no secrets [ASVS 13.4.2]', async t => {
  const Credentials = closed({
    username: Type.String({ examples: ['ada'] }), password: Type.String({ examples: ['hunter2-hunter2'], default: 'hunter2-hunter2' }), nested: closed({ apiKey: Type.String({ examples: ['sk_live_x'] }) }),
  }, { examples: [{ username: 'ada', password: 'hunter2-hunter2', nested: { apiKey: 'sk_live_x' } }] })
  const { document, at } = await build(t, app => {
    app.post('/login', { schema: { body: Credentials, response: { 200: closed({ access_token: Type.String({ examples: ['eyJhbGciOi'] }), token_type: Type.String({ examples: ['Bearer'] }) }) } }, config: OPEN }, async () => ({ access_token: 'x', token_type: 'Bearer' }))
    app.get('/reset', { schema: { ...schema, querystring: closed({ token: Type.String({ examples: ['eyJhbGciOi'] }) }) }, config: OPEN }, handler)
  })
  t.notMatch(JSON.stringify(document), /hunter2|sk_live_x|eyJhbGciOi/)
  const { schema: shown, example } = (at('post', '/login') as any).requestBody.content['application/json']
  t.match(shown.properties, { username: { examples: ['ada'] }, password: { type: 'string', format: 'password' } })
  t.same(example ?? shown.examples[0], { username: 'ada', password: '<password>', nested: { apiKey: '<apiKey>' } })
  t.match(JSON.stringify(document), 'Bearer')

  // The same schema by the official plugin as its documentation shows it.
  const { default: swagger } = await import('@fastify/swagger')
  const plain = Fastify()
  t.teardown(() => plain.close())
  await plain.register(swagger, { openapi: { openapi: '3.1.0' } })
  plain.post('/login', { schema: { body: Credentials } }, async () => ({}))
  await plain.ready()
  t.match(JSON.stringify(plain.swagger()), /hunter2.*sk_live_x/, 'negative control')
})

t.test('limits and ages are told', async t => {
  const { at, document } = await build(t, app => {
    app.get('/limited', { schema, config: { ...OPEN, limits: { windows: ['5/second', '100/minute'], by: 'address' } } }, handler)
    app.get('/free', { schema, config: { ...OPEN, limits: false } }, handler)
    app.get('/v1', { schema, config: { ...OPEN, version: { deprecated: '2026-01-01', sunset: '2999-01-01', successor: '/v2' } } }, handler)
    app.get('/v2', { schema, config: OPEN }, handler)
  }, { limits: { exempt: ['10.20.30.0/24'] } })
  t.match(at('get', '/v2')['x-limits'], { by: 'caller', address: ['300/minute'], principal: ['1000/minute'] })
  t.notMatch(JSON.stringify(document), '10.20.30', 'and not who is exempt')
  t.match(at('get', '/limited')['x-limits'], { windows: ['5/second', '100/minute'], by: 'address' })
  t.notOk('x-limits' in at('get', '/free'))
  t.match(at('get', '/v1'), { deprecated: true, 'x-deprecated': '2026-01-01T00:00:00.000Z', 'x-sunset': '2999-01-01T00:00:00.000Z', 'x-successor': '/v2' })
  t.notOk('deprecated' in at('get', '/v2'))
})

t.test('routes of several methods, and of plugins with a prefix, are all there', async t => {
  const { document, at } = await build(t, app => {
    app.route({ method: ['PUT', 'PATCH'], url: '/both', schema: { ...schema, body: noBody }, config: { access: 'user' }, handler })
    app.register(async inner => { inner.get('/', { schema, config: OPEN }, handler) }, { prefix: '/inner' })
    for (const url of ['/a/:x', '/b/:x', '/c/:x', '/d/:x']) app.get(url, { schema, config: OPEN }, handler)
  })
  t.match([at('put', '/both'), at('patch', '/both')], [{ responses: { 401: {} } }, { responses: { 401: {} } }])
  t.ok(document.paths['/inner'] ?? document.paths['/inner/'])
  for (const place of ['a', 'b', 'c', 'd']) t.match((at('get', `/${place}/{x}`) as any).parameters, [{ in: 'path', name: 'x', required: true }], place)
})

t.test('misconfiguration stops boot', async t => {
  for (const [openapi, message] of [[{}, 'title'], [{ title: 'x' }, 'version'], [{ ...DOCUMENT, servers: ['ftp://x'] }, 'servers.0'], [{ ...DOCUMENT, page: '/docs' }, 'page'], [{ ...DOCUMENT, title: '' }, 'title']] as const) {
    await t.rejects(build(t, () => {}, { openapi: openapi as never }), { code: 'FST_BASTION_OPENAPI_MISCONFIGURED', message }, message)
  }
})
