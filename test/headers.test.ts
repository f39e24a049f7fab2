/** Headers: every answer carries them, the refusals included, and each route says which. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import helmet from '@fastify/helmet'
import { Type } from '@sinclair/typebox'
import { CspEvaluator, STRICTCSP_CHECKS } from 'csp_evaluator'
import { Severity, Type as FindingType } from 'csp_evaluator/dist/finding.js'
import { CspParser } from 'csp_evaluator/dist/parser.js'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions, type ServerOptions } from '../plugins/index.js'
import errors from '../plugins/errors.js'
import events from '../plugins/events.js'
import headers, { type HeadersOptions } from '../plugins/headers/index.js'
import plan from '../plugins/plan/index.js'
import { closed, noBody } from '../schemas/closed.js'

const response = { 200: Type.Object({ ok: Type.Boolean() }) }
const open = { schema: { response }, config: { access: 'public' } } as const
const answer = async () => ({ ok: true })
const page = { config: { access: 'public', answers: 'raw', headers: { contentSecurityPolicy: 'page' } } } as const
const OVER_HTTPS = { 'x-forwarded-proto': 'https' }
const behindTls: ServerOptions = { trustProxy: '127.0.0.1' }

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
    'content-security-policy': "default-src 'none';base-uri 'none';form-action 'none';frame-ancestors 'none'",
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-resource-policy': 'same-origin',
    'x-frame-options': 'DENY',
    'cache-control': 'no-store',
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

for (const [what, name, isRight] of [
  ['browsers come by HTTPS alone for a year or more, to all hosts below [ASVS 3.4.1]', 'strict-transport-security', (value: string) => Number(/^max-age=(\d+); includeSubDomains/.exec(value)?.[1]) >= 31_536_000],
  ['a policy lets nothing load, and of code what has the nonce [ASVS 3.4.3]', 'content-security-policy', (value: string) => /^default-src 'none';/.test(value) && /;base-uri 'none'/.test(value) && !/unsafe|object-src|\*|https?:/.test(value)],
  ['nothing is taken for what it does not say it is [ASVS 3.4.4]', 'x-content-type-options', (value: string) => value === 'nosniff'],
  ['no other site learns whence its visitors come [ASVS 3.4.5]', 'referrer-policy', (value: string) => value === 'no-referrer'],
  ['nobody frames it [ASVS 3.4.6]', 'content-security-policy', (value: string) => value.includes(";frame-ancestors 'none'")],
  ['what a policy stopped is reported [ASVS 3.4.7]', 'content-security-policy', (value: string) => value.endsWith(';report-uri /reports/csp;report-to csp')],
  ['no window of another site has a hold on it [ASVS 3.4.8]', 'cross-origin-opener-policy', (value: string) => value === 'same-origin'],
  ['no cache keeps an answer that does not say so [ASVS 14.3.2]', 'cache-control', (value: string) => value === 'no-store'],
  ['no page of another site loads it [ASVS 3.5.8]', 'cross-origin-resource-policy', (value: string) => value === 'same-origin'],
] as const) {
  t.test(what, async t => {
    const declare = (app: FastifyInstance) => {
      app.get('/page', page, async (_request, reply) => reply.type('text/html').send('<p>page</p>'))
      app.get('/broken', { ...page }, async () => { throw new Error('broken') })
    }
    const app = await build(t, { reports: {} }, declare, behindTls)
    const urls = ['/', '/page', '/nowhere', '/broken', '/%zz']
    for (const url of urls) {
      const value = (await headersOf(app, { url, headers: OVER_HTTPS }))[name]
      t.ok(value !== undefined && isRight(value), `${url}: ${value}`)
    }
    const plain = Fastify({ trustProxy: true })
    t.teardown(() => plain.close())
    declare(plain)
    for (const url of urls) t.equal((await headersOf(plain, { url, headers: OVER_HTTPS }))[name], undefined, `negative control: ${url} of a plain Fastify`)
  })
}

t.test('csp_evaluator of Google finds nothing in the policies [ASVS 3.4.3]', async t => {
  const evaluate = (policy: string) => {
    const { csp } = new CspParser(policy)
    const show = ({ type, severity, directive }: { type: number, severity: number, directive: string }) => `${Severity[severity]} ${FindingType[type]} ${directive}`
    return { found: new CspEvaluator(csp).evaluate().map(show), hints: new CspEvaluator(csp).evaluate([], STRICTCSP_CHECKS).map(show) }
  }
  for (const reports of [undefined, {}]) {
    const app = await build(t, { reports }, app => { app.get('/page', page, async () => 'page') }, behindTls)
    for (const headers of [{}, OVER_HTTPS]) {
      const policyOf = async (url: string) => (await headersOf(app, { url, headers }))['content-security-policy']!
      t.strictSame(evaluate(await policyOf('/')), { found: [], hints: ['INFO REQUIRE_TRUSTED_TYPES_FOR_SCRIPTS require-trusted-types-for'] }, 'api: and no script runs there')
      // Why they are not followed is said in plugins/headers/policy.ts.
      t.strictSame(evaluate(await policyOf('/page')), { found: [], hints: ['STRICT_CSP UNSAFE_INLINE_FALLBACK script-src', 'STRICT_CSP ALLOWLIST_FALLBACK script-src'] }, 'page: and two hints for browsers that know no nonces')
    }
  }
  const helmets = Fastify()
  t.teardown(() => helmets.close())
  await helmets.register(helmet)
  helmets.get('/', answer)
  t.strictSame(evaluate((await headersOf(helmets))['content-security-policy']!).found, ['MEDIUM_MAYBE SCRIPT_ALLOWLIST_BYPASS script-src'], "negative control: helmet's own")
  t.match(evaluate("script-src 'self' 'unsafe-inline' https:").found, [/^HIGH SCRIPT_UNSAFE_INLINE/], 'negative control')
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

t.test('where reports go is said for old browsers and new ones, over HTTPS; over plain HTTP for those that would else report to nowhere', async t => {
  const app = await build(t, { reports: {} }, app => {
    const route = (url: string, headers: object) => app.get(url, { ...open, config: { access: 'public', headers } }, answer)
    route('/elsewhere', { reportUri: 'https://reports.example/csp?app=1' })
    route('/nowhere-at-all', { reportUri: false })
    route('/own', { contentSecurityPolicy: { 'default-src': ["'self'"], 'report-to': 'mine' } })
    route('/none', { contentSecurityPolicy: { 'default-src': ["'self'"], reportUri: '/mine' } })
  }, behindTls)
  const both = async (url: string) => {
    const [plain, secure] = await Promise.all([{}, OVER_HTTPS].map(headers => headersOf(app, { url, headers })))
    return [plain!['content-security-policy'], plain!['reporting-endpoints'], secure!['content-security-policy'], secure!['reporting-endpoints']]
  }
  const policy = "default-src 'none';base-uri 'none';form-action 'none';frame-ancestors 'none'"
  t.strictSame(await both('/'), [`${policy};report-uri /reports/csp`, undefined, `${policy};report-uri /reports/csp;report-to csp`, 'csp="/reports/csp"'])
  const url = 'https://reports.example/csp?app=1'
  t.strictSame(await both('/elsewhere'), [`${policy};report-uri ${url}`, undefined, `${policy};report-uri ${url};report-to csp`, `csp="${url}"`])
  t.strictSame(await both('/nowhere-at-all'), [policy, undefined, policy, undefined])
  t.strictSame(await both('/own'), ["default-src 'self';report-to mine", undefined, "default-src 'self';report-to mine", undefined], 'a policy that says it itself has the last word')
  t.match(await both('/none'), [/;report-uri \/mine$/, undefined, /;report-uri \/mine$/, undefined])
  t.equal((await headersOf(await build(t)))['content-security-policy'], policy, 'without a collector nothing is reported')
})

t.test('a stricter policy is tried beside the one that is enforced, with the same nonce', async t => {
  const tried = { 'default-src': ["'none'"], 'script-src': ["'nonce-{nonce}'"] }
  const app = await build(t, { reports: {}, headers: { contentSecurityPolicyReportOnly: tried } }, app => {
    app.get('/page', page, async (_request, reply) => reply.scriptNonce)
    app.get('/api-tried', { ...open, config: { access: 'public', headers: { contentSecurityPolicy: { 'default-src': ["'self'"] }, contentSecurityPolicyReportOnly: 'api' } } }, answer)
  }, behindTls)
  for (const [proto, end] of [['http', ''], ['https', ';report-to csp']] as const) {
    const { headers, body: nonce } = await app.inject({ url: '/page', headers: { 'x-forwarded-proto': proto } })
    t.equal(nonce.length, 24)
    t.equal(headers['content-security-policy-report-only'], `default-src 'none';script-src 'nonce-${nonce}';report-uri /reports/csp${end}`)
    t.match(headers['content-security-policy'], `'nonce-${nonce}' 'strict-dynamic'`)
  }
  t.match(await headersOf(app, '/api-tried'), { 'content-security-policy': /^default-src 'self';report-uri/, 'content-security-policy-report-only': /^default-src 'none';base-uri/ })
  const alone = await build(t, {}, app => {
    app.get('/alone', { ...open, config: { access: 'public', headers: { contentSecurityPolicyReportOnly: 'api' } } }, answer)
  })
  await t.rejects(async () => { await alone.ready() }, { message: /GET \/alone: headers: contentSecurityPolicyReportOnly: nobody would hear of it/ })
})

t.test('pages are isolated from other origins: each part by option, for what opens or embeds others', async t => {
  const route = (app: FastifyInstance, url: string, headers: object) => app.get(url, { ...open, config: { access: 'public', headers } }, answer)
  const app = await build(t, {}, app => {
    route(app, '/pays', { crossOriginOpenerPolicy: 'same-origin-allow-popups' })
    route(app, '/opens', { crossOriginOpenerPolicy: 'noopener-allow-popups', crossOriginEmbedderPolicy: 'unsafe-none' })
    route(app, '/map', { crossOriginEmbedderPolicy: 'credentialless' })
    route(app, '/widget', { crossOriginOpenerPolicy: 'unsafe-none', crossOriginEmbedderPolicy: 'unsafe-none', crossOriginResourcePolicy: 'cross-origin' })
  })
  const isolation = async (url: string) => {
    const headers = await headersOf(app, url)
    return ['opener', 'embedder', 'resource'].map(part => headers[`cross-origin-${part}-policy`]).concat(headers['origin-agent-cluster'])
  }
  t.strictSame(await isolation('/'), ['same-origin', 'require-corp', 'same-origin', '?1'])
  t.strictSame(await isolation('/pays'), ['same-origin-allow-popups', 'require-corp', 'same-origin', '?1'])
  t.strictSame(await isolation('/opens'), ['noopener-allow-popups', 'unsafe-none', 'same-origin', '?1'])
  t.strictSame(await isolation('/map'), ['same-origin', 'credentialless', 'same-origin', '?1'])
  t.strictSame(await isolation('/widget'), ['unsafe-none', 'unsafe-none', 'cross-origin', '?1'])
})

t.test('the filter of old browsers is off, and on where rules ask for it', async t => {
  const app = await build(t, {}, app => { app.get('/legacy', { ...open, config: { access: 'public', headers: { xssProtection: '1; mode=block' } } }, answer) })
  t.equal((await headersOf(app))['x-xss-protection'], '0')
  t.equal((await headersOf(app, '/legacy'))['x-xss-protection'], '1; mode=block')
  t.equal((await headersOf(await build(t, { headers: { xssProtection: '1; mode=block' } }), '/%zz'))['x-xss-protection'], '1; mode=block')
})

t.test('a sign-out that succeeds has the browser forget; a refused one does not, or other sites could have it done [ASVS 14.3.1]', async t => {
  const forgetting = (app: FastifyInstance) => {
    const config = { access: 'public', headers: { clearSiteData: ['cookies', 'storage'] } } as const
    const schema = { body: noBody, response: { 204: Type.Null(), '3xx': Type.Null() } }
    app.post('/logout', { schema, config }, async (_request, reply) => { reply.code(204) })
    app.post('/logout-and-home', { schema, config }, async (_request, reply) => { reply.redirect('/', 303) })
    app.post('/refused', { schema, config: { ...config, access: 'user' } }, async (_request, reply) => { reply.code(204) })
    app.post('/broken', { schema, config }, async () => { throw new Error('the session could not be ended') })
  }
  const app = await build(t, {}, forgetting, behindTls)
  const told = async (url: string, headers = OVER_HTTPS as object) => {
    const answer = await app.inject({ method: 'POST', url, headers: headers as Record<string, string> })
    return [answer.statusCode, answer.headers['clear-site-data']]
  }
  t.strictSame(await told('/logout'), [204, '"cookies", "storage"'])
  t.strictSame(await told('/logout-and-home'), [303, '"cookies", "storage"'])
  t.strictSame(await told('/logout', {}), [204, undefined], 'over plain HTTP browsers would not')
  t.strictSame(await told('/refused'), [401, undefined])
  t.strictSame(await told('/broken'), [500, undefined])
  t.strictSame(await told('/logout-nowhere'), [404, undefined])
  t.match(app.plan.routes.find(({ url }) => url === '/logout')!.controls, { headers: { 'clear-site-data': '"cookies", "storage"' } }, 'the plan says so')

  const naive = Fastify()
  t.teardown(() => naive.close())
  naive.addHook('onRequest', async (_request, reply) => { reply.header('clear-site-data', '"cookies", "storage"') })
  naive.post('/logout', { preHandler: async () => { throw Object.assign(new Error('CSRF'), { statusCode: 403 }) } }, answer)
  t.equal((await naive.inject({ method: 'POST', url: '/logout' })).headers['clear-site-data'], '"cookies", "storage"', 'negative control: sent with all answers, it goes with the refusal')
})

t.test('what no parser understands is refused with them too; over plain HTTP without what is for HTTPS', async t => {
  const app = await build(t, { reports: {} })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  let text = ''
  socket.on('data', chunk => { text += String(chunk) })
  socket.end('NONSENSE\r\n\r\n')
  await once(socket, 'close')
  t.match(text, /^HTTP\/1\.1 400 /)
  t.match(text, /\r\ncontent-security-policy: default-src 'none'/)
  t.match(text, /\r\ncross-origin-opener-policy: same-origin\r\n/)
  t.notMatch(text, /strict-transport-security|reporting-endpoints|\r\nserver:|x-powered-by/i)
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
    [{ reportUri: 'http://reports.example/' }, /reportUri/],
    [{ reportUri: '//reports.example/' }, /reportUri/],
    [{ reportUri: '/a;script-src *' }, /reportUri/],
    [{ reportUri: '/a", b="//evil.example' }, /reportUri/],
    [{ reportUri: '/a b' }, /reportUri/],
    [{ crossOriginOpenerPolicy: 'none' }, /crossOriginOpenerPolicy/],
    [{ crossOriginEmbedderPolicy: true }, /crossOriginEmbedderPolicy/],
    [{ xssProtection: '1' }, /xssProtection/],
    [{ clearSiteData: ['cookies'] }, /clearSiteData/], // it is for a route
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
    route('/cleared', { clearSiteData: ['everything'] })
    route('/uncleared', { clearSiteData: [] })
  })
  await t.rejects(async () => { await app.ready() }, {
    code: 'FST_BASTION_PLAN_REFUSED',
    message: /7 routes do not boot:\n {2}GET \/unknown: .*noSniff.*\n {2}GET \/true: headers.*\n {2}GET \/directive: headers: .*default-src.*\n {2}GET \/feature: headers: .*permissionsPolicy.*\n {2}GET \/injected: headers: the value for cache-control.*\n {2}GET \/cleared: headers: .*clearSiteData.*\n {2}GET \/uncleared: headers: .*clearSiteData/,
  })
})
