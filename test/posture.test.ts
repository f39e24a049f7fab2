/** Posture: the report is what runs. */
import Fastify, { type FastifyInstance } from 'fastify'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions } from '../plugins/index.js'
import { Posture } from '../plugins/posture/index.js'
import { closed } from '../schemas/closed.js'

const schema = { response: { 200: Type.Object({ ok: Type.Boolean() }) } }
const answer = async () => ({ ok: true })

async function build (t: Test, options: BastionOptions = {}, declare: (app: FastifyInstance) => void = () => {}, isOurs = true): Promise<FastifyInstance> {
  const app = isOurs ? Fastify(server({ logger: false })) : Fastify()
  t.teardown(() => app.close())
  await app.register(bastion, { transport: { hosts: ['localhost'] }, ...options })
  declare(app)
  await app.ready()
  return app
}

function findings (app: FastifyInstance): string[] {
  return app.posture().findings.map(({ severity, route, message, fix }) => `${severity} ${route}: ${message}. ${fix}`)
}

t.test('the report has every route with its steps and what each concern promises, and is plain data', async t => {
  const app = await build(t, { access: { roles: { user: { permissions: ['posts:read'] } } }, cors: { origins: ['https://app.example.com'] } }, app => {
    app.get('/posts', { schema, config: { access: { permissions: 'posts:read' }, limits: ['5/second'], audit: 'data_access' } }, answer)
    app.post('/posts', { schema: { ...schema, body: closed({ a: Type.String() }) }, config: { access: 'public' } }, answer)
  })
  const report = app.posture()
  t.ok(Value.Check(Posture, report))
  t.same(JSON.parse(JSON.stringify(report)), report, 'nothing is lost in JSON')
  const routes = report.routes.map(({ method, url, kind }) => `${kind} ${method} ${url}`)
  t.same(routes, ['route OPTIONS *', 'route GET /posts', 'head HEAD /posts', 'route POST /posts', 'not-found * *'])
  const get = report.routes.find(({ method, url }) => method === 'GET' && url === '/posts')!
  t.match(get.controls, {
    access: { permissions: 'posts:read' },
    limits: { windows: ['5/second'] },
    audit: 'data_access',
    cors: { origins: ['https://app.example.com'] },
    transport: { hosts: ['localhost'], https: false },
    headers: { 'x-content-type-options': 'nosniff' },
    exposure: { statuses: ['200'] },
  })
  for (const concern of ['access', 'audit', 'cors', 'exposure', 'headers', 'identity', 'limits', 'transport', 'validation']) t.ok(report.concerns.includes(concern), concern)
})

t.test('what is reported is what the wire does', async t => {
  const app = await build(t, {}, app => {
    app.get('/public', { schema, config: { access: 'public', headers: { cacheControl: 'max-age=9' }, limits: ['2/minute'] } }, answer)
    app.get('/user', { schema, config: { access: 'user', limits: false } }, answer)
  })
  for (const { method, url, kind, controls } of app.posture().routes) {
    if (kind !== 'route' || method !== 'GET') continue
    const { statusCode, headers } = await app.inject(url)
    t.equal(statusCode, controls.access === 'public' ? 200 : 401, url)
    for (const [name, value] of Object.entries(controls.headers as object)) if (name !== 'strict-transport-security') t.equal(headers[name], value)
    t.equal(headers['x-ratelimit-limit'], controls.limits === false ? undefined : '2')
  }
  const before = app.posture()
  t.same(app.plan.routes.map(({ order }) => [...order]), before.routes.slice(0, -1).map(({ order }) => order))
})

t.test('who reads the report cannot change the plan', async t => {
  const app = await build(t, {}, app => { app.get('/', { schema, config: { access: 'user' } }, answer) })
  const report = app.posture()
  for (const route of report.routes) {
    route.order.length = 0
    Object.assign(route.controls, { access: 'public' })
    Object.assign(route.controls.headers as object, { 'x-content-type-options': 'gone' })
    ;(route.controls.transport as { hosts: string[] }).hosts.push('evil.example')
  }
  t.match(app.posture().routes.find(({ url }) => url === '/')!.controls, { access: 'user', headers: { 'x-content-type-options': 'nosniff' }, transport: { hosts: ['localhost'] } })
  t.equal((await app.inject('/')).statusCode, 401)
})

t.test('a service that has nothing to look at has no findings; each weakness is one, and says what to do', async t => {
  t.same(findings(await build(t, {}, app => { app.get('/', { schema, config: { access: 'public' } }, answer) })), [])

  const app = await build(t, { transport: {}, headers: { hsts: false }, cors: { origins: ['http://intranet.example', 'http://localhost:5173', 'https://app.example.com'] } }, app => {
    app.post('/open', { schema: { ...schema, body: closed({ a: Type.String() }) }, config: { access: 'public', limits: false } }, answer)
    app.get('/unlimited', { schema, config: { access: 'user', limits: false } }, answer)
    app.get('/bare', { schema, config: { access: 'public', headers: false } }, answer)
    app.get('/file', { config: { access: 'user', answers: 'raw' } }, answer)
    app.get('/items/:id', { schema, config: { access: 'public' } }, answer)
    app.get('/typed/:id', { schema: { ...schema, params: Type.Object({ id: Type.String() }) }, config: { access: 'public' } }, answer)
  })
  t.match(findings(app), [
    /^medium \*: answers to any host\. List yours in transport\.hosts\.$/,
    /^low \*: sends no Strict-Transport-Security .*hsts: false/,
    /^medium \*: http:\/\/intranet\.example may read.* Serve that page by https/,
    /^high POST \/open: public, changes something, and has no limit\. .*limits: \['10\/minute'\]/,
    /^low GET \/unlimited: has no limit\. Take limits: false out/,
    /^medium GET \/bare: sends no security headers\. Take headers: false out/,
    /^low GET \/file: its answer is not filtered .*schema\.response/,
    /^low GET \/items\/:id: its URL has parameters without a schema\. Describe them in schema\.params\./,
  ])
  t.equal(findings(app).length, 8, 'and nothing for the twins, the unknown route or the preflights')

  t.match(findings(await build(t, { cors: { origins: '*' } })), [/^low \*: any page may read/])
  t.match(findings(await build(t, { cors: false }, undefined, false)), [/^medium \*: a request may take for ever.*server\(\)/])
})
