/** The route plan: what is compiled is what runs, and what is not guarded does not boot. */
import Fastify, { type FastifyInstance, type FastifyPluginAsync, type FastifyReply, type FastifyRequest, type RouteOptions } from 'fastify'
import cors from '@fastify/cors'
import fp from 'fastify-plugin'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server, withPolicy, type BastionOptions } from '../plugins/index.js'
import errors from '../plugins/errors.js'
import events from '../plugins/events.js'
import plan, { type Contributor, type Stage, type Step } from '../plugins/plan/index.js'
import { closed } from '../schemas/closed.js'

const Ok = Type.Object({ ok: Type.Boolean() })
const open = { schema: { response: { 200: Ok } }, config: { access: 'public' } } as const
const answer = async () => ({ ok: true })

/** An application with the whole suite. */
async function build (t: Test, options: BastionOptions = {}): Promise<FastifyInstance> {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, options)
  return app
}

/** An application with the plan alone, and these concerns. */
async function buildPlan (t: Test, ...contributors: Contributor[]): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(plan)
  for (const contributor of contributors) app.plan.contribute(contributor)
  return app
}

/** The lines of the one error with which `ready()` rejects. */
async function offenders (app: FastifyInstance): Promise<string[]> {
  try {
    await app.ready()
  } catch (error) {
    const { code, message } = error as Error & { code: string }
    if (code !== 'FST_BASTION_PLAN_REFUSED') throw error
    return message.split('\n').slice(1).map(line => line.trim())
  }
  return []
}

function find (app: FastifyInstance, method: string, url: string) {
  return app.plan.routes.find(route => route.method === method && route.url === url)!
}

t.test('the stages run in their order, whatever the order of registration, and in the order that the plan tells', async t => {
  const stages: Stage[] = ['record', 'keep', 'view', 'csrf', 'authorize', 'expose', 'resource', 'body', 'limit', 'identify', 'recall', 'flood', 'transport', 'headers']
  const ran: string[] = []
  const app = await buildPlan(t, ...stages.map((stage, i): Contributor => ({
    concern: `c${i}`,
    stage,
    compile: () => ({ step: () => { ran.push(`${stage}:c${i}`) }, promise: i }),
  })))
  app.get('/', async () => {
    ran.push('handler')
    return { ok: true }
  })
  await app.inject('/')
  const route = find(app, 'GET', '/')
  const expected = ['headers', 'transport', 'flood', 'recall', 'identify', 'limit', 'authorize', 'csrf', 'body', 'resource', 'view', 'expose', 'keep', 'record']
  t.same(route.order.map(name => name.split(':')[0]), expected)
  t.same(ran.filter(name => name !== 'handler'), route.order, 'what ran is what the plan says')
  t.equal(ran.indexOf('handler'), expected.indexOf('resource') + 1, 'the handler after the resource')
  t.match(route.controls, { c0: 0, c13: 13 })
})

t.test('on the wire the suite does what route.order says', async t => {
  const app = await build(t, { tokens: { issuer: 'i', audience: 'a', keys: { access: Buffer.alloc(32, 1), refresh: Buffer.alloc(32, 2) } } })
  app.get('/', { schema: { response: { 200: Ok } }, config: { access: 'user', audit: 'data_access' } }, answer)
  await app.ready()
  const stages = find(app, 'GET', '/').order.map(name => name.split(':')[0])
  const known = ['headers', 'transport', 'flood', 'overload', 'recall', 'identify', 'limit', 'authorize', 'csrf', 'body', 'resource', 'view', 'expose', 'keep', 'record']
  t.same(stages, [...stages].sort((a, b) => known.indexOf(a!) - known.indexOf(b!)), 'in the order of the way of a request')
  for (const stage of ['headers', 'transport', 'flood', 'overload', 'identify', 'limit', 'authorize', 'expose', 'record']) t.ok(stages.includes(stage), stage)
  const refused = await app.inject('/')
  t.match({ status: refused.statusCode, counted: refused.headers['x-ratelimit-remaining'], nosniff: refused.headers['x-content-type-options'] },
    { status: 401, counted: '299', nosniff: 'nosniff' }, 'headers and limit before authorize')
})

t.test('a step that waits is awaited, and none after it runs before it has passed', async t => {
  const ran: string[] = []
  let release = () => {}
  const app = await buildPlan(t,
    { concern: 'first', stage: 'identify', compile: () => ({ step: () => new Promise<void>(resolve => { release = () => { ran.push('first'); resolve() } }) }) },
    { concern: 'second', stage: 'authorize', compile: () => ({ step: () => { ran.push('second') } }) })
  app.get('/', async () => {
    ran.push('handler')
    return 'in'
  })
  const pending = app.inject('/')
  await app.ready()
  while (ran.length === 0) {
    await new Promise(resolve => setImmediate(resolve))
    t.same(ran, [], 'nothing passes it')
    release()
  }
  t.equal((await pending).statusCode, 200)
  t.same(ran, ['first', 'second', 'handler'])
})

t.test('a step that throws denies, at once or later, whatever it throws, and so does one that returns an error: no further step and no handler runs [ASVS 16.5.3]', async t => {
  const refusals: Record<string, Step> = {
    'an error': () => { throw Object.assign(new Error('no'), { statusCode: 403 }) },
    'an error, returned': () => Object.assign(new Error('no'), { statusCode: 403 }),
    'an error, returned later': async () => Object.assign(new Error('no'), { statusCode: 403 }),
    'an error, later': async () => { throw Object.assign(new Error('no'), { statusCode: 403 }) },
    undefined: () => { throw undefined },  // eslint-disable-line no-throw-literal
    'undefined, later': () => Promise.reject(undefined), // eslint-disable-line prefer-promise-reject-errors
    null: () => { throw null }, // eslint-disable-line no-throw-literal
    'an empty text': () => { throw '' }, // eslint-disable-line no-throw-literal
    'zero, later': () => Promise.reject(0), // eslint-disable-line prefer-promise-reject-errors
  }
  for (const stage of ['headers', 'transport', 'identify', 'authorize', 'resource'] as const) {
    for (const [name, step] of Object.entries(refusals)) {
      let ran = 0
      const app = await buildPlan(t,
        { concern: 'denies', stage, compile: () => ({ step }) },
        { concern: 'after', stage: 'resource', compile: () => ({ step: () => { ran += 1 } }) })
      app.get('/', async () => { ran += 1 })
      const { statusCode } = await app.inject('/')
      t.equal(statusCode, name.startsWith('an error') ? 403 : 500, `${stage}: ${name}`)
      t.equal(ran, 0, 'nothing after it ran')
    }
  }
  const bare = Fastify()
  t.teardown(() => bare.close())
  let ran = 0
  bare.addHook('onRequest', (_request: FastifyRequest, _reply: FastifyReply, done: (error?: Error) => void) => { Promise.reject(undefined).catch(done) }) // eslint-disable-line prefer-promise-reject-errors
  bare.get('/', async () => { ran += 1 })
  await bare.inject('/')
  t.equal(ran, 1, 'negative control: in a hook of plain Fastify a rejection without a reason lets the request in')
})

t.test('a denial with a slow onSend does not let the handler run, which reply.send in a hook does [TRAP 21]', async t => {
  const slow = async (_request: unknown, _reply: unknown, payload: unknown) => {
    await new Promise(resolve => setImmediate(resolve))
    return payload
  }
  let ran = 0
  const app = await buildPlan(t, { concern: 'denies', stage: 'authorize', compile: () => ({ step: async () => { throw Object.assign(new Error('no'), { statusCode: 403 }) } }) })
  app.addHook('onSend', slow)
  app.get('/', async () => { ran += 1 })
  t.equal((await app.inject('/')).statusCode, 403)
  await new Promise(resolve => setImmediate(resolve))
  t.equal(ran, 0)

  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.addHook('onSend', slow)
  bare.addHook('onRequest', async (_request, reply) => { reply.code(403).send({ no: true }) })
  bare.get('/', async () => { ran += 1 })
  t.equal((await bare.inject('/')).statusCode, 403)
  await new Promise(resolve => setImmediate(resolve))
  t.equal(ran, 1, 'negative control: denied by reply.send, the client sees 403 and the handler ran')
})

t.test('what Fastify throws after a step that waited answers the request and does not end the process', async t => {
  const app = await build(t)
  app.plan.contribute({ concern: 'waits', stage: 'expose', compile: () => ({ step: async () => {} }) })
  app.get('/', open, async (_request, reply) => {
    reply.header('x-bad', 'a\nb')
    return { ok: true }
  })
  const { statusCode, headers } = await app.inject('/')
  t.match({ statusCode, nosniff: headers['x-content-type-options'] }, { statusCode: 500, nosniff: 'nosniff' })
})

t.test('one error lists every route that is not guarded, with the line to add', async t => {
  const app = await build(t, { access: { roles: { user: { permissions: ['posts:read'] } } } })
  const response = { 200: Ok }
  const declare: Record<string, Partial<RouteOptions>> = {
    'no-access': { schema: { response } },
    'no-success': { config: { access: 'public' } },
    'no-success-but-errors': { schema: { response: { 404: Ok } }, config: { access: 'public' } },
    role: { schema: { response }, config: { access: { roles: 'king' } } },
    permission: { schema: { response }, config: { access: { permissions: ['posts:read', 'posts:eat'] } } },
    resource: { schema: { response }, config: { access: { resource: 'castle' } } },
    'undefined-access': { schema: { response }, config: { access: undefined } },
    hook: { ...open, onRequest: undefined },
    'hook-in-list': { ...open, preHandler: [async () => {}, undefined as never] },
    'hook-null': { ...open, preValidation: null as never },
    attach: { ...open, attachValidation: true },
    validator: { ...open, validatorCompiler: () => () => true },
    serializer: { ...open, serializerCompiler: () => () => '' },
    'headers-option': { ...open, config: { access: 'public', headers: { cacheControll: 'x' } as never } },
  }
  for (const [name, options] of Object.entries(declare)) app.route({ method: 'GET', url: `/${name}`, handler: answer, ...options })
  const posts: Record<string, unknown> = {
    'no-body': undefined,
    open: Type.Object({ a: Type.String() }),
    nested: closed({ a: Type.Object({ b: Type.String() }) }),
    items: closed({ list: Type.Array(Type.Object({ b: Type.String() })) }),
    union: Type.Union([closed({ a: Type.String() }), Type.Object({ b: Type.String() })]),
    anything: Type.Unknown(),
  }
  for (const [name, body] of Object.entries(posts)) app.post(`/body/${name}`, { schema: { body, response }, config: { access: 'public' } }, answer)
  app.register(async child => {
    child.setValidatorCompiler(() => () => true)
    child.get('/child-validator', open, answer)
  })
  app.register(async child => {
    child.setSerializerCompiler(() => () => '')
    child.get('/child-serializer', open, answer)
  })
  app.register(async child => { child.get('/deep', { schema: { response } }, answer) }, { prefix: '/child' })

  const lines = await offenders(app)
  const line = (start: string) => lines.find(text => text.startsWith(start))
  const said: [string, RegExp][] = [
    ['GET /no-access:', /no access policy: add config: \{ access: /],
    ['GET /no-success:', /no schema for its success: add schema: \{ response: \{ 200/],
    ['GET /no-success-but-errors:', /no schema for its success/],
    ['GET /role:', /unknown role "king"/],
    ['GET /permission:', /unknown permission "posts:eat"/],
    ['GET /resource:', /unknown resource "castle"/],
    ['GET /undefined-access:', /no access policy/],
    ['GET /hook:', /onRequest is undefined/],
    ['GET /hook-in-list:', /preHandler is undefined/],
    ['GET /hook-null:', /preValidation is undefined/],
    ['GET /attach:', /attachValidation/],
    ['GET /validator:', /validator compiler of its own/],
    ['GET /serializer:', /serializer compiler of its own/],
    ['GET /headers-option:', /cacheControll/],
    ['POST /body/no-body:', /no schema for the body: add/],
    ['POST /body/open:', /the body is not closed/],
    ['POST /body/nested:', /not closed at \/a/],
    ['POST /body/items:', /not closed at \/list\/items/],
    ['POST /body/union:', /not closed/],
    ['POST /body/anything:', /not closed/],
    ['GET /child-validator:', /validator compiler of its own/],
    ['GET /child-serializer:', /serializer compiler of its own/],
    ['GET /child/deep:', /no access policy/],
  ]
  for (const [start, complaint] of said) t.match(line(start), complaint, start)
  t.equal(lines.length, said.length, 'each route once, and its HEAD not again')
})

t.test('a HEAD is its GET: listed once, counted once, guarded the same', async t => {
  const app = await build(t)
  app.get('/one', open, answer)
  app.get('/alone', { ...open, exposeHeadRoute: false }, answer)
  app.route({ method: ['GET', 'DELETE'], url: '/two', ...open, config: { access: 'public', limits: ['2/minute'] }, handler: answer })
  app.register(async child => { child.get('/', open, answer) }, { prefix: '/child' })
  await app.ready()
  t.equal(find(app, 'HEAD', '/one').twinOf, find(app, 'GET', '/one'))
  t.equal(find(app, 'HEAD', '/one').kind, 'head')
  t.equal(find(app, 'HEAD', '/two').twinOf, find(app, 'GET,DELETE', '/two'), 'of a route with several methods')
  t.equal(find(app, 'HEAD', '/child/').twinOf, find(app, 'GET', '/child'), 'below a prefix, with the slash')
  t.same(find(app, 'HEAD', '/one').order, find(app, 'GET', '/one').order)
  t.equal((await app.inject({ method: 'HEAD', url: '/one' })).statusCode, 200)
  t.equal((await app.inject({ method: 'HEAD', url: '/alone' })).statusCode, 404, 'exposeHeadRoute: false')
  t.equal((await app.inject('/child/')).statusCode, 200)
  const statuses: number[] = []
  for (const method of ['HEAD', 'GET', 'HEAD', 'DELETE'] as const) statuses.push((await app.inject({ method, url: '/two' })).statusCode)
  t.same(statuses, [200, 200, 429, 429], 'one budget')
})

t.test('what is recorded of some routes alone runs once for each of their answers, and is no hook of the others', async t => {
  for (const hasMore of [false, true]) {
    const ran: string[] = []
    const hooks: Record<string, unknown> = {}
    const app = await buildPlan(t, {
      concern: 'some',
      stage: 'record',
      touches: ({ options }) => (options.config as { some?: true }).some === true,
      compile: ({ method, url, options }) => (options.config as { some?: true }).some === true ? { step: () => { ran.push(`some ${method} ${url}`) } } : undefined,
    })
    app.addHook('onRoute', ({ method, url, onResponse }) => { hooks[`${String(method)} ${url}`] = onResponse })
    app.get('/with', { config: { some: true } as never, onResponse: async () => { ran.push('own') } }, async () => 1)
    app.get('/without', async () => 1)
    if (hasMore) app.plan.contribute({ concern: 'all', stage: 'record', compile: ({ url }) => ({ step: () => { ran.push(`all ${url}`) } }) })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const origin = `http://127.0.0.1:${(app.server.address() as { port: number }).port}`
    for (const [method, path] of [['GET', '/with'], ['HEAD', '/with'], ['GET', '/without']] as const) await (await fetch(origin + path, { method })).text()
    await app.close()
    const sorted = (list: readonly string[]) => [...list].sort()
    t.same(sorted(ran.filter(name => !name.startsWith('all'))), sorted(['own', 'own', 'some GET /with', 'some HEAD /with']))
    t.same(sorted(ran.filter(name => name.startsWith('all'))), hasMore ? ['all /with', 'all /with', 'all /without'] : [])
    t.equal(hooks['GET /without'], undefined, 'the other route has no hook')
    t.equal((hooks['GET /with'] as unknown[]).length, 2)
  }
})

t.test('several methods on one route are all guarded', async t => {
  const app = await build(t)
  let ran = 0
  app.all('/all', { schema: { response: { 200: Ok } } }, answer)
  t.match(await offenders(app), [/^GET,HEAD,TRACE,[A-Z,]+ \/all: no access policy/], 'app.all is one route')

  const guarded = await build(t)
  guarded.route({ method: ['GET', 'DELETE'], url: '/many', schema: { response: { 200: Ok } }, config: { access: 'user' }, handler: async () => { ran += 1; return { ok: true } } })
  for (const method of ['GET', 'HEAD', 'DELETE'] as const) t.equal((await guarded.inject({ method, url: '/many' })).statusCode, 401, method)
  t.equal(ran, 0)
})

t.test('a route declared before the suite stops boot, with or without await [TRAP 3, 9]', async t => {
  const before = Fastify()
  t.teardown(() => before.close())
  before.get('/before', answer)
  await t.rejects(async () => { await before.register(bastion) }, { code: 'FST_BASTION_PLAN_TOO_LATE', message: /\/before \(GET, HEAD\)/ })

  const synchronous = Fastify()
  t.teardown(() => synchronous.close())
  synchronous.register(bastion)
  synchronous.get('/at-once', answer)
  await t.rejects(async () => { await synchronous.ready() }, { code: 'FST_BASTION_PLAN_TOO_LATE', message: /\/at-once/ }, 'without await')

  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.get('/before', answer)
  bare.register(fp(async app => { app.addHook('onRoute', options => { options.preHandler = async () => { throw Object.assign(new Error('no'), { statusCode: 401 }) } }) }))
  t.equal((await bare.inject('/before')).statusCode, 200, 'negative control: a guard that is added by onRoute misses it')
})

t.test('a route of a plugin that is older than the suite is refused at run time: no hook could see it', async t => {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  let old!: FastifyInstance
  let ran = 0
  await app.register(async child => { old = child })
  await app.register(bastion)
  old.get('/forgotten', async () => { ran += 1 })
  await app.ready()
  const { statusCode, headers } = await app.inject('/forgotten')
  t.match({ statusCode, nosniff: headers['x-content-type-options'] }, { statusCode: 500, nosniff: 'nosniff' })
  t.equal(ran, 0, 'the handler did not run')
})

t.test('an undefined guard stops boot, where plain Fastify opens the route [TRAP 9]', async t => {
  const app = await build(t)
  app.get('/', { ...open, onRequest: (app as never as { csrfProtection: undefined }).csrfProtection }, answer)
  t.match(await offenders(app), [/^GET \/: onRequest is undefined, so what it should guard is open/])

  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.get('/', { onRequest: (bare as never as { csrfProtection: undefined }).csrfProtection }, answer)
  t.equal((await bare.inject('/')).statusCode, 200, 'negative control')
})

t.test('a compiler of its own or attachValidation stops boot, where plain Fastify lets invalid input in [TRAP 25]', async t => {
  const body = closed({ age: Type.Integer() })
  const skipping = (app: FastifyInstance, config: object, seen: unknown[]) => {
    const handler = async ({ body }: FastifyRequest) => { seen.push(body); return { ok: true } }
    const schema = { body, response: { 200: Ok } }
    app.post('/attached', { schema, config, attachValidation: true }, handler)
    app.post('/compiler', { schema, config, validatorCompiler: () => () => true }, handler)
    app.register(async child => {
      child.setValidatorCompiler(() => () => true)
      child.post('/child', { schema, config }, handler)
    })
  }
  const app = await build(t)
  skipping(app, { access: 'public' }, [])
  t.match(await offenders(app), [/POST \/attached: attachValidation/, /POST \/compiler: a validator compiler/, /POST \/child: a validator compiler/])

  const seen: unknown[] = []
  const bare = Fastify()
  t.teardown(() => bare.close())
  skipping(bare, {}, seen)
  for (const url of ['/attached', '/compiler', '/child']) t.equal((await bare.inject({ method: 'POST', url, payload: { age: 'old', isAdmin: true } })).statusCode, 200, url)
  t.equal(seen.length, 3, 'negative control: the handlers got it')
})

t.test('an onRoute hook of a child may add to config, and may not replace it', async t => {
  const app = await build(t)
  await app.register(async child => {
    child.addHook('onRoute', options => { options.config = { ...options.config, access: 'user' } })
    child.get('/added', { schema: { response: { 200: Ok } } }, answer)
  })
  await app.ready()
  t.equal(find(app, 'GET', '/added').controls.access, 'user')
  t.equal((await app.inject('/added')).statusCode, 401)

  const replaced = await build(t)
  await replaced.register(async child => {
    child.addHook('onRoute', options => { options.config = { access: 'public' } })
    child.get('/replaced', { schema: { response: { 200: Ok } }, config: { access: 'user' } }, answer)
  })
  t.match(await offenders(replaced), [/^GET \/replaced: an onRoute hook replaced its config/])
})

t.test('routes of other people\'s plugins get a policy at registration, with prefixes as the plugin takes them', async t => {
  const routes: FastifyPluginAsync<{ prefix?: string, name?: string }> = async (app, { name = 'ui' }) => {
    app.get(`/${name}`, async () => ({ ok: true, secret: 'x' }))
    app.get(`/${name}/own`, { config: { access: 'user' } }, answer)
    app.register(async nested => { nested.get(`/${name}/nested`, answer) })
  }
  const transparent = fp(async (app: FastifyInstance, { prefix = '' }: { prefix?: string }) => { app.get(`${prefix}/transparent`, answer) })
  const app = await build(t)
  await app.register(withPolicy({ access: 'public', answers: 'raw' }, routes), { prefix: '/docs' })
  await app.register(withPolicy({ access: 'user', answers: 'raw' }, transparent), { prefix: '/files' })
  app.get('/after', { schema: { response: { 200: Ok } }, config: { access: 'user' } }, answer)
  await app.ready()
  const status = async (url: string) => (await app.inject(url)).statusCode
  t.equal(await status('/docs/ui'), 200)
  t.equal(await status('/docs/ui/nested'), 200, 'nested plugins too')
  t.equal(await status('/docs/ui/own'), 401, 'what a route says itself wins')
  t.equal(await status('/files/transparent'), 401, 'a plugin that is transparent takes its prefix itself')
  t.equal(await status('/after'), 401, 'and no other route gets it')
  t.equal(find(app, 'GET', '/docs/ui').controls.access, 'public')

  const without = await build(t)
  await without.register(routes, { prefix: '/docs' })
  t.match(await offenders(without), [/GET \/docs\/ui: no access policy/, /GET \/docs\/ui\/own: no schema/, /GET \/docs\/ui\/nested: no access/], 'without a policy they do not boot')
})

t.test('a real plugin that declares a route boots with a policy, and not without', async t => {
  const app = await build(t, { cors: false })
  await app.register(withPolicy({ access: 'public', answers: 'raw' }, cors), { origin: ['https://partner.example'] })
  await app.ready()
  t.equal(find(app, 'OPTIONS', '*').controls.access, 'public')

  const without = await build(t, { cors: false })
  await without.register(cors, { origin: ['https://partner.example'] })
  t.match(await offenders(without), [/^OPTIONS \*: .*no access policy/])
})

t.test('the routes that @fastify/cors and others of ours bring are in the plan', async t => {
  const app = await build(t, { cors: { origins: ['https://app.example.com'] } })
  await app.ready()
  t.match(find(app, 'OPTIONS', '*').controls, { access: 'public', cors: { origins: ['https://app.example.com'] } })
  t.notOk(app.plan.routes.some(route => route.url.includes('.bastion')), 'the place for unreadable requests is no route')
})

t.test('unknown URLs are guarded below every prefix, and a not-found handler of a plugin does not run', async t => {
  let ran = 0
  const app = await build(t, { limits: { address: ['2/minute'] } })
  await app.register(async child => {
    child.setNotFoundHandler(async () => {
      ran += 1
      return { secret: 'x' }
    })
    child.get('/known', open, answer)
  }, { prefix: '/child' })
  for (const [url, status] of [['/nowhere', 404], ['/child/nowhere', 404], ['/child/other', 429]] as const) {
    const answer = await app.inject({ method: 'POST', url, headers: { 'content-type': 'application/json' }, payload: '{' })
    t.match({ status: answer.statusCode, type: answer.headers['content-type'], nosniff: answer.headers['x-content-type-options'] },
      { status, type: /problem\+json/, nosniff: 'nosniff' }, url)
  }
  t.equal(ran, 0)

  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.register(async child => { child.setNotFoundHandler(async () => { ran += 1; return {} }) }, { prefix: '/child' })
  await bare.inject('/child/nowhere')
  t.equal(ran, 1, 'negative control: plain Fastify runs it')
})

t.test('a concern that comes after a route still compiles it, and declares it', async t => {
  const declared: string[] = []
  const app = await buildPlan(t)
  app.get('/', answer)
  app.plan.contribute({ concern: 'late', stage: 'authorize', declare: ({ url }) => { declared.push(url) }, compile: () => ({ step: () => { throw Object.assign(new Error('no'), { statusCode: 403 }) } }) })
  t.equal((await app.inject('/')).statusCode, 403)
  t.same(declared, ['*', '/', '/'])
})

t.test('a fault inside a concern is not taken for an objection to the route', async t => {
  const app = await buildPlan(t, { concern: 'broken', compile: () => { throw new TypeError('undefined is not a function') } })
  app.get('/', answer)
  await t.rejects(async () => { await app.ready() }, { name: 'TypeError', message: 'undefined is not a function' })
})

t.test('the suite is registered once', async t => {
  const app = await build(t)
  await t.rejects(async () => { await app.register(bastion) }, { code: 'FST_BASTION_PLAN_TWICE' })
})

t.test('a schema is compiled once, however many routes share it: bodies, answers and the suite\'s own problems', async t => {
  const body = closed({ title: Type.String() })
  const answers = Type.Object({ id: Type.String() })
  /** Ajv and fast-json-stringify make each of their functions with `new Function`; the router does too, with other parameters. */
  const compilations = async (routes: number, isShared: boolean) => {
    const Original = globalThis.Function
    let count = 0
    const app = await build(t)
    globalThis.Function = new Proxy(Original, {
      construct (target, args) {
        if (args[0] === 'self' || args[0] === 'validator') count += 1
        return Reflect.construct(target, args)
      },
    })
    try {
      for (let i = 0; i < routes; i++) {
        const schema = { body: isShared ? body : { ...body }, response: { 201: isShared ? answers : { ...answers } } }
        app.post(`/things-${i}`, { schema, config: { access: 'public' } }, async () => ({ id: '1' }))
      }
      await app.ready()
    } finally {
      globalThis.Function = Original
    }
    return count
  }
  const one = await compilations(1, true)
  t.ok(one >= 3, 'a body, an answer, a problem')
  t.equal(await compilations(40, true), one, '40 routes are compiled as one')
  t.equal(await compilations(40, false), one + 39 * 2, 'and what is not shared once: a body and an answer a route')
})

t.test('the plan works with only events and errors beside it', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors]) await app.register(plugin)
  app.get('/', async () => ({ ok: true }))
  t.equal((await app.inject('/')).statusCode, 200)
  t.equal((await app.inject('/nowhere')).json().code, 'FST_BASTION_ERRORS_NOT_FOUND')
})
