/** Headers: every answer carries them, the refusals included, and each route says which. */
import { createHash } from 'node:crypto'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import helmet from '@fastify/helmet'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions, type ServerOptions } from '../plugins/index.js'
import errors from '../plugins/errors.js'
import events from '../plugins/events.js'
import headers, { type HeadersOptions } from '../plugins/headers/index.js'
import plan from '../plugins/plan/index.js'
import { closed } from '../schemas/closed.js'

const response = { 200: Type.Object({ ok: Type.Boolean() }) }
const open = { schema: { response }, config: { access: 'public' } } as const
const answer = async () => ({ ok: true })

async function build (t: Test, options: BastionOptions = {}, declare: (app: FastifyInstance) => void = () => {}, serverOptions: ServerOptions = {}): Promise<FastifyInstance> {
  const app = Fastify(server({ logger: false, ...serverOptions }))
  t.teardown(() => app.close())
  await app.register(bastion, options)
  app.get('/', open, answer)
  declare(app)
  return app
}

async function headersOf (app: FastifyInstance, request: string | InjectOptions = '/') {
  return (await app.inject(request as InjectOptions)).headers as Record<string, string | undefined>
}

t.test('by default an answer may load nothing, be framed by nobody, be stored nowhere and be taken for nothing else', async t => {
  const app = await build(t)
  t.match(await headersOf(app), {
    'content-security-policy': "default-src 'none';base-uri 'none';form-action 'none';frame-ancestors 'none'", // [ASVS 3.4.3, 3.4.6]
    'x-content-type-options': 'nosniff', // [ASVS 3.4.4]
    'referrer-policy': 'no-referrer', // [ASVS 3.4.5]
    'cross-origin-opener-policy': 'same-origin', // [ASVS 3.4.8]
    'cross-origin-resource-policy': 'same-origin',
    'x-frame-options': 'DENY',
    'cache-control': 'no-store', // [ASVS 14.3.2]
    'permissions-policy': /camera=\(\), .*geolocation=\(\), .*microphone=\(\)/,
    'x-powered-by': undefined,
    server: undefined,
  })
  t.equal((await headersOf(app))['strict-transport-security'], undefined, 'HSTS not over plain HTTP')
})

t.test('the headers are helmet\'s own, and the two that it does not set [TRAP 18]', async t => {
  const bare = Fastify()
  t.teardown(() => bare.close())
  await bare.register(helmet)
  bare.get('/', answer)
  const helmets = await headersOf(bare)
  t.equal(helmets['permissions-policy'], undefined, 'negative control: helmet sets no Permissions-Policy')
  t.equal(helmets['cache-control'], undefined, 'negative control: nor Cache-Control')
  const ours = await headersOf(await build(t))
  for (const name of Object.keys(helmets).filter(name => name !== 'strict-transport-security')) t.ok(ours[name], `${name} is there`)
  t.ok(ours['permissions-policy'])
  t.ok(ours['cache-control'])
})

t.test('every refusal carries them [ASVS 3.4.3] [ASVS 3.4.4] [ASVS 3.4.5] [ASVS 3.4.6] [ASVS 14.3.2]', async t => {
  const app = await build(t, { limits: { address: ['20/minute'] }, transport: { hosts: ['localhost'] } }, app => {
    app.get('/user', { schema: { response }, config: { access: 'user' } }, answer)
    app.get('/forbidden', open, async () => { throw Object.assign(new Error('no'), { statusCode: 403 }) })
    app.get('/broken', open, async () => { throw new Error('broken') })
    app.get('/empty', { ...open, schema: { response: { 204: Type.Null() } } }, async (_request, reply) => { reply.code(204 as never) })
    app.post('/', { schema: { body: closed({ a: Type.String() }), response }, config: { access: 'public' }, bodyLimit: 20 }, answer)
  })
  const post = (payload: string, type = 'application/json'): InjectOptions => ({ method: 'POST', url: '/', payload, headers: { 'content-type': type } })
  const requests: [number, string | InjectOptions][] = [
    [200, '/'], [204, '/empty'], [401, '/user'], [403, '/forbidden'], [404, '/nowhere'], [400, '/%zz'], [500, '/broken'],
    [400, post('{')], [400, post('{"b":1}')], [413, post('{"a":"aaaaaaaaaaaaaaaaaaaaaaaaaa"}')], [415, post('<a/>', 'text/xml')],
    [421, { url: '/', headers: { host: 'evil.example' } }], [400, { url: '/', headers: { host: 'a b' } }],
    [204, { method: 'OPTIONS', url: '/', headers: { origin: 'https://evil.example', 'access-control-request-method': 'GET' } }],
  ]
  const names = ['content-security-policy', 'x-content-type-options', 'referrer-policy', 'cache-control', 'permissions-policy', 'x-frame-options']
  const check = async (status: number, request: string | InjectOptions) => {
    const { statusCode, headers } = await app.inject(request as InjectOptions)
    t.equal(statusCode, status, JSON.stringify(request))
    t.same(names.filter(name => headers[name] === undefined), [], `${status}: nothing is missing`)
  }
  for (const [status, request] of requests) await check(status, request)
  for (let i = 0; i < 20; i++) await app.inject('/')
  await check(429, '/')
  await check(429, '/%zz')
})

t.test('HSTS is sent over HTTPS only, at the service itself or at a proxy that is believed [ASVS 3.4.1]', async t => {
  const secure = { 'x-forwarded-proto': 'https' }
  const sts = async (app: FastifyInstance, request: InjectOptions) => (await headersOf(app, request))['strict-transport-security']
  const behind = await build(t, {}, undefined, { trustProxy: '127.0.0.1' })
  t.equal(await sts(behind, { url: '/', headers: secure }), 'max-age=63072000; includeSubDomains')
  t.equal(await sts(behind, { url: '/nowhere', headers: secure }), 'max-age=63072000; includeSubDomains', 'refusals too')
  t.equal(await sts(behind, { url: '/' }), undefined)
  t.equal(await sts(behind, { url: '/', headers: secure, remoteAddress: '198.51.100.7' }), undefined, 'a stranger is not believed')
  t.equal(await sts(await build(t), { url: '/', headers: secure }), undefined)

  const own = await build(t, { headers: { hsts: { maxAge: 31536000, includeSubDomains: false, preload: true } } }, undefined, { trustProxy: '127.0.0.1' })
  t.equal(await sts(own, { url: '/', headers: secure }), 'max-age=31536000; preload')
  const none = await build(t, { headers: { hsts: false } }, undefined, { trustProxy: '127.0.0.1' })
  t.equal(await sts(none, { url: '/', headers: secure }), undefined)
})

t.test('a route says what differs; the others keep what the suite says', async t => {
  const app = await build(t, { headers: { cacheControl: 'private, no-cache', crossOriginResourcePolicy: 'same-site' } }, app => {
    app.get('/cached', { ...open, config: { access: 'public', headers: { cacheControl: 'public, max-age=60' } } }, answer)
    app.get('/directives', { ...open, config: { access: 'public', headers: { contentSecurityPolicy: { 'default-src': ["'self'"], 'frame-ancestors': "'none'" } } } }, answer)
    app.get('/features', { ...open, config: { access: 'public', headers: { permissionsPolicy: 'camera=(self)' } } }, answer)
    app.get('/reported', { ...open, config: { access: 'public', headers: { reportUri: 'https://reports.example/csp' } } }, answer)
    app.get('/none', { ...open, config: { access: 'public', headers: false } }, answer)
    app.get('/handler', open, async (_request, reply) => {
      reply.header('cache-control', 'max-age=5')
      return { ok: true }
    })
  })
  t.match(await headersOf(app), { 'cache-control': 'private, no-cache', 'cross-origin-resource-policy': 'same-site' })
  t.match(await headersOf(app, '/cached'), { 'cache-control': 'public, max-age=60', 'cross-origin-resource-policy': 'same-site' })
  t.match(await headersOf(app, '/directives'), { 'content-security-policy': "default-src 'self';frame-ancestors 'none'", 'cache-control': 'private, no-cache' })
  t.equal((await headersOf(app, '/features'))['permissions-policy'], 'camera=(self)')
  t.match((await headersOf(app, '/reported'))['content-security-policy'], /;report-uri https:\/\/reports\.example\/csp$/, '[ASVS 3.4.7]')
  t.equal((await headersOf(app, '/handler'))['cache-control'], 'max-age=5', 'a handler has the last word')
  const none = await headersOf(app, '/none')
  t.same(['content-security-policy', 'x-content-type-options', 'cache-control'].filter(name => none[name] !== undefined), [])
  t.equal(app.plan.routes.find(({ url }) => url === '/none')!.controls.headers, false)
})

t.test('a page may run its own code, by a nonce that no two answers share', async t => {
  const app = await build(t, {}, app => {
    app.get('/page', { config: { access: 'public', answers: 'raw', headers: { contentSecurityPolicy: 'page' } } }, async (_request, reply) =>
      reply.type('text/html; charset=utf-8').send(`<script nonce="${reply.scriptNonce}">1</script>`))
    app.get('/own', { config: { access: 'public', answers: 'raw', headers: { contentSecurityPolicy: { 'default-src': ["'none'"], 'style-src': ["'nonce-{nonce}'"] } } } }, async (_request, reply) => reply.scriptNonce)
    app.get('/api', open, async (_request, reply) => ({ ok: reply.scriptNonce === '' }))
  })
  const nonces = new Set<string>()
  for (let i = 0; i < 50; i++) {
    const { body, headers } = await app.inject('/page')
    const nonce = /nonce="([^"]+)"/.exec(body)![1]!
    nonces.add(nonce)
    const policy = String(headers['content-security-policy'])
    t.ok(policy.includes(`'nonce-${nonce}'`) && !policy.includes('{nonce}'))
    t.notMatch(policy, /unsafe-inline|unsafe-eval/)
    t.equal(Buffer.from(nonce, 'base64').length, 16, '128 bits [ASVS 11.5.1]')
  }
  t.equal(nonces.size, 50)
  const { body, headers } = await app.inject('/own')
  t.equal(headers['content-security-policy'], `default-src 'none';style-src 'nonce-${body}'`, 'directives of one\'s own may ask for it')
  t.same((await app.inject('/api')).json(), { ok: true }, 'where nothing asks for one there is none')
  t.match((await headersOf(app, '/%zz'))['content-security-policy'], "default-src 'none'")
})

t.test('a page names the features that it uses; the others stay off', async t => {
  const app = await build(t, {}, app => {
    app.get('/passkeys', { ...open, config: { access: 'public', headers: { permissionsPolicy: ['publickey-credentials-get', 'clipboard-write'] } } }, answer)
    app.get('/none', { ...open, config: { access: 'public', headers: { permissionsPolicy: [] } } }, answer)
  })
  const featuresOf = async (url: string) => (await headersOf(app, url))['permissions-policy']!.split(', ')
  const all = await featuresOf('/')
  for (const feature of ['publickey-credentials-get', 'publickey-credentials-create']) t.ok(all.includes(`${feature}=()`), `${feature} is off`)
  const own = ['publickey-credentials-get=(self)', 'clipboard-write=(self)']
  t.strictSame((await featuresOf('/passkeys')).sort(), [...own, ...all.filter(feature => !feature.startsWith('publickey-credentials-get='))].sort())
  t.strictSame(await featuresOf('/none'), all)
})

t.test('what is in the plan is what is sent: computed once a policy', async t => {
  const app = await build(t, {}, app => {
    for (let i = 0; i < 5; i++) app.get(`/same-${i}`, { ...open, config: { access: 'public', headers: { cacheControl: 'max-age=1' } } }, answer)
  }, { trustProxy: '127.0.0.1' })
  await app.ready()
  const sent = await headersOf(app, { url: '/', headers: { 'x-forwarded-proto': 'https' } })
  const { headers: promised } = app.plan.routes.find(({ method, url }) => method === 'GET' && url === '/')!.controls as { headers: Record<string, string> }
  for (const [name, value] of Object.entries(promised)) t.equal(sent[name], value, name)
  const digest = (set: object) => createHash('sha256').update(JSON.stringify(set)).digest('hex')
  t.equal(new Set(app.plan.routes.filter(({ url }) => url.startsWith('/same')).map(({ controls }) => digest(controls.headers as object))).size, 1)
})

t.test('headers that a hook older than the suite has set are kept', async t => {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  app.addHook('onRequest', async (_request, reply) => { reply.header('x-before', '1') })
  await app.register(bastion)
  app.get('/', open, answer)
  t.match(await headersOf(app), { 'x-before': '1', 'x-content-type-options': 'nosniff' })
})

t.test('two answers share no headers object', async t => {
  const app = await build(t, {}, app => {
    app.get('/one', open, async (_request, reply) => {
      reply.header('x-one', '1').removeHeader('x-frame-options')
      return { ok: true }
    })
  })
  await app.inject('/one')
  t.match(await headersOf(app), { 'x-one': undefined, 'x-frame-options': 'DENY' })
})

t.test('it works with only plan, events and errors beside it', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors, headers]) await app.register(plugin)
  app.get('/', answer)
  t.match(await headersOf(app), { 'x-content-type-options': 'nosniff' })
  t.match(await headersOf(app, '/nowhere'), { 'x-content-type-options': 'nosniff' })
})

t.test('misconfiguration stops boot, by name: options at once, routes in the list', async t => {
  const wrong: [unknown, RegExp][] = [
    [{ cacheControll: 'x' }, /cacheControll/],
    [{ hsts: { maxAge: '1 year' } }, /hsts/],
    [{ hsts: true }, /hsts/],
    [{ contentSecurityPolicy: 'none' }, /contentSecurityPolicy/],
  ]
  for (const [options, message] of wrong) {
    const app = Fastify()
    t.teardown(() => app.close())
    await t.rejects(async () => { await app.register(bastion, { headers: options as HeadersOptions }) }, { code: 'FST_BASTION_HEADERS_MISCONFIGURED', message })
  }
  const app = await build(t, {}, app => {
    const route = (url: string, headers: unknown) => app.get(url, { ...open, config: { access: 'public', headers: headers as never } }, answer)
    route('/unknown', { noSniff: false })
    route('/true', true)
    route('/directive', { contentSecurityPolicy: { 'default-src': ["'self'; script-src *"] } })
    route('/feature', { permissionsPolicy: ['camera=*'] })
    route('/injected', { cacheControl: 'no-store\r\nset-cookie: a=b' })
  })
  await t.rejects(async () => { await app.ready() }, {
    code: 'FST_BASTION_PLAN_REFUSED',
    message: /5 routes do not boot:\n {2}GET \/unknown: .*noSniff.*\n {2}GET \/true: headers.*\n {2}GET \/directive: headers: .*default-src.*\n {2}GET \/feature: headers: .*permissionsPolicy.*\n {2}GET \/injected: headers: the value for cache-control/,
  })
})
