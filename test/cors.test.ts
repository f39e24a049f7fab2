/** CORS: only listed origins read answers, and no preflight is ever asked who it is. */
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import cors from '@fastify/cors'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions } from '../plugins/index.js'
import bastionCors, { type CorsOptions } from '../plugins/cors.js'
import errors from '../plugins/errors.js'
import events from '../plugins/events.js'
import identity from '../plugins/identity.js'
import plan from '../plugins/plan/index.js'

const APP = 'https://app.example.com'
const response = { 200: Type.Object({ ok: Type.Boolean() }) }
interface Built { app: FastifyInstance, ran: string[], ask: (request: InjectOptions) => Promise<Answer> }
interface Answer { status: number, body: string, headers: Record<string, string | undefined>, origin: string | undefined }

async function build (t: Test, options: CorsOptions | false = {}, declare: (app: FastifyInstance, ran: string[]) => void = () => {}, suite: BastionOptions = {}): Promise<Built> {
  const ran: string[] = []
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, { cors: options, ...suite })
  for (const method of ['GET', 'PUT'] as const) {
    app.route({ method, url: '/mine', schema: { response, ...(method === 'PUT' && { body: Type.Null() }) }, config: { access: 'user' }, handler: async () => { ran.push(`${method} /mine`); return { ok: true } } })
  }
  app.get('/', { schema: { response }, config: { access: 'public' } }, async () => { ran.push('/'); return { ok: true } })
  declare(app, ran)
  await app.ready()
  return {
    app,
    ran,
    async ask (request) {
      const { statusCode, headers, body } = await app.inject(request)
      return { status: statusCode, body, headers: headers as Answer['headers'], origin: headers['access-control-allow-origin'] as string | undefined }
    },
  }
}

function preflight (origin: string, method = 'PUT', url = '/mine'): InjectOptions {
  return { method: 'OPTIONS', url, headers: { origin, 'access-control-request-method': method, 'access-control-request-headers': 'authorization' } }
}

t.test('by default no other origin reads anything', async t => {
  const { ask } = await build(t)
  t.match(await ask({ url: '/', headers: { origin: APP } }), { status: 200, origin: undefined })
  t.match(await ask(preflight(APP)), { status: 204, origin: undefined, body: '' })
})

t.test('a listed origin reads answers, refusals among them, and a preflight tells what it may do', async t => {
  const { ask } = await build(t, { origins: [APP, 'http://localhost:5173'], credentials: true })
  for (const origin of [APP, 'http://localhost:5173']) {
    t.match(await ask({ url: '/', headers: { origin } }), { status: 200, origin, headers: { vary: 'Origin', 'access-control-allow-credentials': 'true', 'access-control-expose-headers': /ratelimit, .*retry-after/ } })
    t.match(await ask({ url: '/mine', headers: { origin } }), { status: 401, origin }, 'a page may read why it was refused')
    t.match(await ask({ url: '/nowhere', headers: { origin } }), { status: 404, origin })
    t.match(await ask(preflight(origin)), {
      status: 204,
      origin,
      headers: {
        'access-control-allow-methods': 'GET, HEAD, POST, PUT, PATCH, DELETE',
        'access-control-allow-headers': 'authorization, content-type, x-api-key, x-csrf-token',
        'access-control-allow-credentials': 'true',
        'access-control-max-age': '600',
        'x-content-type-options': 'nosniff',
      },
    })
  }
  t.match(await ask({ url: '/' }), { status: 200, origin: undefined, headers: { vary: 'Origin' } }, 'without an origin the answer still varies by it')
})

t.test('each option is what is sent', async t => {
  const { ask } = await build(t, { origins: '*', methods: ['GET'], allowedHeaders: ['x-one'], exposedHeaders: ['x-two'], maxAge: 5 })
  t.match(await ask(preflight(APP)), {
    origin: '*',
    headers: { 'access-control-allow-methods': 'GET', 'access-control-allow-headers': 'x-one', 'access-control-expose-headers': 'x-two', 'access-control-max-age': '5', 'access-control-allow-credentials': undefined },
  })
  const { ask: off, app } = await build(t, false)
  t.match(await off({ url: '/', headers: { origin: APP } }), { status: 200, origin: undefined }, 'the concern can be left out')
  t.notOk(app.plan.routes.some(({ method }) => method === 'OPTIONS'))
})

t.test('an origin that only looks like a listed one gets nothing [ASVS 3.4.2]', async t => {
  const { ask } = await build(t, { origins: [APP], credentials: true })
  const strange = [
    'null', 'https://app.example.com.evil.example', 'https://evil-app.example.com', 'https://evilapp.example.com', 'http://app.example.com', 'https://app.example.com:8443', 'https://app.example.com/',
    'https://APP.example.com', 'https://example.com', 'https://app_example.com', 'https://app.example.com%60.evil.example', 'https://app.example.com@evil.example', 'https://app.example.com, https://evil.example', '',
    'file://', 'https://app.example.com evil', '*',
  ]
  for (const origin of strange) {
    t.equal((await ask({ url: '/', headers: { origin } })).origin, undefined, JSON.stringify(origin))
    t.equal((await ask(preflight(origin))).origin, undefined, `preflight ${JSON.stringify(origin)}`)
  }
  const bare = Fastify()
  t.teardown(() => bare.close())
  await bare.register(cors, { origin: /app\.example\.com/, credentials: true })
  bare.get('/', async () => ({ secret: 1 }))
  t.equal((await bare.inject({ url: '/', headers: { origin: 'https://app.example.com.evil.example' } })).headers['access-control-allow-origin'], 'https://app.example.com.evil.example',
    'negative control: a regular expression without anchors boots with the official plugin [TRAP 12]')
})

t.test('a preflight is never met with a 401, whatever it asks for [TRAP 11]', async t => {
  const { ask, ran } = await build(t, { origins: [APP], credentials: true })
  for (const url of ['/mine', '/nowhere', '/']) {
    for (const method of ['GET', 'PUT', 'DELETE', 'POST']) t.match(await ask(preflight(APP, method, url)), { status: 204, origin: APP }, `${method} ${url}`)
  }
  t.equal((await ask(preflight('https://evil.example'))).status, 204, 'of a strange origin neither: it just allows nothing')
  t.match(await ask({ ...preflight(APP), headers: { ...preflight(APP).headers, authorization: 'Bearer wrong' } }), { status: 204, origin: APP })
  t.same(ran, [])

  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.addHook('onRequest', async request => { if (request.headers.authorization === undefined) throw Object.assign(new Error('no'), { statusCode: 401 }) })
  await bare.register(cors, { origin: [APP] })
  bare.get('/mine', async () => ({ ok: true }))
  t.equal((await bare.inject(preflight(APP))).statusCode, 401, 'negative control: an authentication hook before CORS answers it')
})

t.test('preflights spend no budget, and the flood guard counts them all the same', async t => {
  const { ask } = await build(t, { origins: [APP] }, undefined, { limits: { address: ['2/minute'], flood: { max: 6, timeWindow: 60_000 } } })
  for (let i = 0; i < 4; i++) t.equal((await ask(preflight(APP))).status, 204)
  t.equal((await ask({ url: '/' })).status, 200)
  t.equal((await ask({ url: '/' })).status, 200)
  t.equal((await ask(preflight(APP))).status, 429)
})

t.test('a route can be closed to other origins: its answers, and what needs a preflight', async t => {
  const { ask, app } = await build(t, { origins: [APP], credentials: true }, (app, ran) => {
    const run = (name: string) => async () => { ran.push(name); return { ok: true } }
    app.get('/closed', { schema: { response }, config: { access: 'public', cors: false } }, run('GET /closed'))
    app.put('/closed', { schema: { body: Type.Null(), response }, config: { access: 'public', cors: false } }, run('PUT /closed'))
    app.delete('/closed', { schema: { response }, config: { access: 'public' } }, run('DELETE /closed'))
    app.register(async child => {
      child.put('/', { schema: { body: Type.Null(), response }, config: { access: 'public', cors: false } }, run('PUT /child'))
    }, { prefix: '/child' })
  })
  t.match(await ask({ url: '/closed', headers: { origin: APP } }), { status: 200, origin: undefined, headers: { 'access-control-allow-credentials': undefined } })
  for (const [method, url] of [['PUT', '/closed'], ['GET', '/closed'], ['PUT', '/child'], ['PUT', '/child/']] as const) {
    const answer = await ask(preflight(APP, method, url))
    t.match(answer, { status: 204, origin: undefined }, `${method} ${url}`)
    t.same(Object.keys(answer.headers).filter(name => name.startsWith('access-control')), [])
  }
  t.match(await ask(preflight(APP, 'DELETE', '/closed')), { status: 204, origin: APP }, 'another method of the same URL is open')
  t.match(await ask({ method: 'OPTIONS', url: '/closed' }), { status: 404 }, 'OPTIONS itself is no route')
  t.equal(app.plan.routes.find(({ method, url }) => method === 'PUT' && url === '/closed')!.controls.cors, false)
})

t.test('OPTIONS that is no preflight is an ordinary request: guarded where it is a route, unknown where not', async t => {
  const { ask, ran } = await build(t, { origins: [APP] }, (app, ran) => {
    app.options('/guarded', { schema: { response }, config: { access: 'user' } }, async () => { ran.push('OPTIONS'); return { ok: true } })
    app.options('/open', { schema: { response }, config: { access: 'public' } }, async () => { ran.push('OPTIONS'); return { ok: true } })
  })
  t.equal((await ask({ method: 'OPTIONS', url: '/guarded', headers: { origin: APP } })).status, 401)
  t.equal((await ask({ method: 'OPTIONS', url: '/mine', headers: { origin: APP } })).status, 404)
  t.same(ran, [])
  t.match(await ask({ method: 'OPTIONS', url: '/open', headers: { origin: APP } }), { status: 200, body: '{"ok":true}' })
  t.equal((await ask(preflight(APP, 'GET', '/guarded'))).status, 204)
})

t.test('the route that @fastify/cors adds has its policy, and no other route gets one by it', async t => {
  const { app } = await build(t, { origins: [APP] })
  t.match(app.plan.routes.find(({ method, url }) => method === 'OPTIONS' && url === '*')!.controls, { access: 'public', exposure: 'raw', cors: { origins: [APP], credentials: false } })
  t.match(app.plan.routes.find(({ url }) => url === '/mine')!.controls.cors, { origins: [APP] })

  const other = Fastify()
  t.teardown(() => other.close())
  for (const plugin of [plan, events, errors]) await other.register(plugin)
  other.options('/early*', async () => 1)
  await other.register(bastionCors, {})
  await other.ready()
  t.same(Object.keys(other.plan.routes.find(({ url }) => url === '/early*')!.options.config as object), [], 'a route that came before CORS is not made public')
})

t.test('what would open the API to any page does not boot [TRAP 12]', async t => {
  const wrong: [unknown, RegExp][] = [
    [{ origins: '*', credentials: true }, /any page act as the user/],
    [{ origin: true, credentials: true }, /origin: unexpected/],
    [{ origins: true }, /origins/],
    [{ origins: [/app\.example\.com/] }, /origins/],
    [{ origins: ['*'] }, /"\*" is not an exact origin/],
    [{ origins: ['null'] }, /"null"/],
    [{ origins: ['https://*.example.com'] }, /not an exact origin/],
    [{ origins: ['https://app.example.com/'] }, /not an exact origin/],
    [{ origins: ['https://app.example.com/path'] }, /not an exact origin/],
    [{ origins: ['app.example.com'] }, /not an exact origin/],
    [{ origins: ['HTTPS://app.example.com'] }, /not an exact origin/],
    [{ origins: ['https://app.example.com:443'] }, /not an exact origin/],
    [{ origins: ['file:///x'] }, /not an exact origin/],
    [{ origins: [APP], methods: ['GET\r\nx: y'] }, /methods/],
    [{ origins: [APP], allowedHeaders: ['*'] }, /allowedHeaders/],
    [{ origins: [APP], maxAge: -1 }, /maxAge/],
  ]
  for (const [options, message] of wrong) {
    const app = Fastify()
    t.teardown(() => app.close())
    await t.rejects(async () => { await app.register(bastion, { cors: options as CorsOptions }) }, { code: 'FST_BASTION_CORS_MISCONFIGURED', message }, JSON.stringify(options))
  }
  const bare = Fastify()
  t.teardown(() => bare.close())
  await bare.register(cors, { origin: true, credentials: true })
  bare.get('/', async () => ({ secret: 1 }))
  t.match((await bare.inject({ url: '/', headers: { origin: 'https://evil.example' } })).headers,
    { 'access-control-allow-origin': 'https://evil.example', 'access-control-allow-credentials': 'true' }, 'negative control: the official plugin boots with it, and reflects any origin')
})

t.test('registered after those who ask who it is, it answers preflights before them all the same', async t => {
  const late = Fastify()
  t.teardown(() => late.close())
  for (const plugin of [plan, events, errors, identity]) await late.register(plugin)
  late.plan.contribute({ concern: 'guard', stage: 'authorize', compile: () => ({ step: () => { throw Object.assign(new Error('no'), { statusCode: 401 }) } }) })
  await late.register(bastionCors, { origins: [APP] })
  late.put('/mine', async () => ({ ok: true }))
  t.match(await late.inject(preflight(APP)), { statusCode: 204, headers: { 'access-control-allow-origin': APP } })
  t.equal((await late.inject({ ...preflight(APP), method: 'PUT' })).statusCode, 401)
})

t.test('misread, it does not boot', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(bastion, { cors: { origins: [APP] } })
  app.get('/', { schema: { response }, config: { access: 'public', cors: { origin: true } as never } }, async () => ({ ok: true }))
  await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message: /GET \/: cors: a route can only switch it off/ })
})

t.test('in production pages of somebody\'s own machine are not listed: whatever runs there would be the application [ASVS 13.4.2]', async t => {
  const before = process.env.NODE_ENV
  t.teardown(() => { if (before === undefined) delete process.env.NODE_ENV; else process.env.NODE_ENV = before })
  const own = ['http://localhost:5173', 'https://localhost', 'http://127.0.0.1:8080', 'http://[::1]:3000', 'http://app.localhost:3000']
  for (const environment of ['production', 'prod']) {
    process.env.NODE_ENV = environment
    for (const origin of own) await t.rejects(build(t, { origins: [APP, origin] }), { code: 'FST_BASTION_CORS_MISCONFIGURED', message: `cors: origins: ${origin} is for development` }, origin)
    t.equal((await (await build(t, { origins: [APP, 'https://localhost.example.com'] })).ask(preflight(APP))).origin, APP)
  }
  process.env.NODE_ENV = 'development'
  t.equal((await (await build(t, { origins: own })).ask(preflight(own[0]!))).origin, own[0], 'negative control: development has them')
})
