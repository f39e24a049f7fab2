/** Errors: every refusal and failure in one form, and nothing internal in any of them. */
import { METHODS, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Writable } from 'node:stream'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import { createError } from '@fastify/error'
import t, { type Test } from 'tap'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import bastion, { server } from '../plugins/index.js'
import errors, { NotFound, toProblem } from '../plugins/errors.js'
import events from '../plugins/events.js'
import { textOf } from '../plugins/problem-text.js'
import plan from '../plugins/plan/index.js'
import { closed, noBody } from '../schemas/closed.js'
import { Problem } from '../schemas/problem.js'

/** What a driver says when its database is away. */
const LEAK = 'connect ECONNREFUSED postgres://portal:s3cret-of-db@db.internal:5432/portal'
const route = { schema: { response: { 200: Type.Object({ ok: Type.Boolean() }) } }, config: { access: 'public' } } as const

async function build (t: Test, declare: (app: FastifyInstance) => void): Promise<{ app: FastifyInstance, log: string[] }> {
  const log: string[] = []
  const stream = new Writable({ write (line, _encoding, done) { log.push(String(line)); done() } })
  const app = Fastify(server({ logger: { level: 'debug', stream } }))
  t.teardown(() => app.close())
  await app.register(bastion)
  declare(app)
  await app.ready()
  return { app, log }
}

/** Asserts that the answer is a problem, with headers, and that nothing of the leak is in it. */
function isProblem (t: Test, answer: Awaited<ReturnType<FastifyInstance['inject']>>, status: number, code: string, name?: string): Problem {
  const problem = answer.json() as Problem
  t.match({ status: answer.statusCode, type: answer.headers['content-type'], code: problem.code }, { status, type: 'application/problem+json; charset=utf-8', code }, name ?? `${status} ${code}`)
  t.equal(problem.status, status)
  t.ok(Value.Check(Problem, problem), 'it has the declared form')
  t.equal(answer.headers['x-content-type-options'], 'nosniff')
  t.notMatch(answer.body, /s3cret|postgres|ECONN|node_modules|at \w+ \(/)
  return problem
}

t.test('whatever a handler throws becomes a 500 that tells nothing, and the log tells all under the request id [ASVS 16.5.1, TRAP 14]', async t => {
  const thrown: Record<string, () => unknown> = {
    error: () => new Error(LEAK),
    text: () => LEAK,
    null: () => null,
    undefined: () => undefined,
    number: () => 42,
    cause: () => new Error('failed', { cause: new Error(LEAK) }),
    aggregate: () => new AggregateError([new Error(LEAK)], LEAK),
    unreadable: () => new Proxy(new Error(LEAK), { get () { throw new Error(LEAK) } }),
    pg: () => Object.assign(new Error(LEAK), { code: '23505', detail: LEAK, severity: 'ERROR' }),
    axios: () => Object.assign(new Error(LEAK), { code: 'ERR_BAD_REQUEST', status: 404, response: { data: LEAK } }),
    'a status in text': () => Object.assign(new Error(LEAK), { statusCode: '404' }),
    'a status of success': () => Object.assign(new Error(LEAK), { statusCode: 200 }),
    'a redirect to nowhere': () => Object.assign(new Error(LEAK), { statusCode: 302 }),
    'a status out of range': () => Object.assign(new Error(LEAK), { statusCode: 999 }),
    'no number': () => Object.assign(new Error(LEAK), { statusCode: NaN }),
    'half a status': () => Object.assign(new Error(LEAK), { statusCode: 404.5 }),
    'a library with validation of its own': () => Object.assign(new Error(LEAK), { validation: { field: LEAK } }),
    'a 5xx with a code': () => Object.assign(new Error(LEAK), { statusCode: 502, code: 'FST_PORTAL_UPSTREAM' }),
  }
  const { app, log } = await build(t, app => {
    for (const [name, make] of Object.entries(thrown)) app.get(`/${encodeURIComponent(name)}`, route, async () => { throw make() })
    app.get('/after-code', route, async (_request, reply) => {
      reply.code(201 as never)
      throw new Error(LEAK)
    })
  })
  for (const name of Object.keys(thrown)) {
    const status = name === 'a 5xx with a code' ? 502 : 500
    const problem = isProblem(t, await app.inject(`/${encodeURIComponent(encodeURIComponent(name))}`), status, `FST_BASTION_HTTP_${status}`, name)
    t.match(problem.requestId, /^[\da-f]{32}$/)
    t.ok(log.some(line => line.includes(problem.requestId!) && line.includes('request failed')), 'the log knows the request')
  }
  isProblem(t, await app.inject('/after-code'), 500, 'FST_BASTION_HTTP_500', 'thrown after reply.code(201)')
  const cause = JSON.parse(log.find(line => line.includes('"failed"') || line.includes('"message":"failed"'))!)
  t.match(cause.err, { message: 'failed', cause: { message: /ECONNREFUSED/ } }, 'the log has the cause')
  t.notMatch(log.join(''), /s3cret-of-db/, 'without the password in it')

  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.get('/', async () => { throw new Error(LEAK) })
  t.match((await bare.inject('/')).body, 's3cret-of-db', 'negative control: plain Fastify tells the message of the 500')
})

t.test('attack: no refusal is kept by a cache and shown to others, whatever its route lets caches keep [ASVS 14.3.2]', async t => {
  const { app } = await build(t, app => {
    app.get('/kept', { ...route, config: { access: 'public', headers: { cacheControl: 'public, max-age=300' } } }, async () => ({ ok: true }))
    app.get('/fails', { ...route, config: { access: 'public', headers: { cacheControl: 'public, max-age=300' } } }, async (_request, reply) => {
      reply.header('cache-control', 'public, max-age=60')
      throw new Error(LEAK)
    })
    app.get('/bare', { ...route, config: { access: 'public', headers: false } }, async () => { throw new NotFound() })
  })
  t.equal((await app.inject('/kept')).headers['cache-control'], 'public, max-age=300')
  const refused = await app.inject({ url: '/kept', headers: { host: 'a b' } })
  t.equal(refused.statusCode, 400)
  t.equal(refused.headers['cache-control'], 'no-store')
  for (const url of ['/fails', '/bare']) t.equal((await app.inject(url)).headers['cache-control'], 'no-store', url)

  await t.test('while what the route says is what a refusal of plain Fastify says', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    app.addHook('onRequest', async (_request, reply) => { reply.header('cache-control', 'public, max-age=300') })
    app.get('/kept', async () => { throw Object.assign(new Error('no'), { statusCode: 400 }) })
    t.match(await app.inject('/kept'), { statusCode: 400, headers: { 'cache-control': 'public, max-age=300' } })
  })
})

t.test('errors outside the handler have the same form: hooks, serialiser, stream, header, timeout', async t => {
  const { app } = await build(t, app => {
    app.get('/prehandler', { ...route, preHandler: async () => { throw new Error(LEAK) } }, async () => ({ ok: true }))
    app.get('/onsend-once', { ...route, onSend: once(LEAK) }, async () => ({ ok: true }))
    app.get('/serialiser', route, async () => ({ get ok () { throw new Error(LEAK) } }) as never)
    app.get('/own-serialiser', route, async (_request, reply) => {
      reply.serializer(() => { throw new Error(LEAK) })
      return { ok: true }
    })
    app.get('/header', route, async (_request, reply) => {
      reply.header('x-note', 'a\r\nset-cookie: b=c')
      return { ok: true }
    })
    app.get('/redirect', route, async (_request, reply) => reply.redirect('/\u{1F600}'))
    app.get('/slow', { ...route, handlerTimeout: 20 } as never, () => new Promise(() => {}))
  })
  for (const url of ['/prehandler', '/onsend-once', '/serialiser', '/own-serialiser', '/header', '/redirect']) {
    const answer = await app.inject(url)
    isProblem(t, answer, 500, 'FST_BASTION_HTTP_500', url)
    t.equal(answer.headers['set-cookie'], undefined)
  }
  isProblem(t, await app.inject('/slow'), 503, 'FST_BASTION_HTTP_503', 'a handler that does not end')
})

t.test('a hook that fails on every answer, the problem too, does not bring its own message out [ASVS 16.5.4]', async t => {
  const fail = async () => { throw new Error(LEAK) }
  const { app } = await build(t, app => {
    app.get('/', { ...route, onSend: fail }, async () => ({ ok: true }))
    app.register(async child => {
      child.addHook('onSend', fail)
      child.get('/below', route, async () => { throw new NotFound() })
    })
  })
  isProblem(t, await app.inject('/'), 500, 'FST_BASTION_HTTP_500')
  isProblem(t, await app.inject('/below'), 500, 'FST_BASTION_HTTP_500', 'not a half-told 404')

  const alone = Fastify()
  t.teardown(() => alone.close())
  for (const plugin of [plan, events, errors]) await alone.register(plugin)
  alone.addHook('onSend', fail)
  alone.get('/', async () => ({ ok: true }))
  t.notMatch((await alone.inject('/')).body, /s3cret/, 'also where this concern stands alone')
  t.notMatch((await alone.inject('/nowhere')).body, /s3cret/)

  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.setErrorHandler((_error, _request, reply) => { reply.code(500).send({ message: 'failed' }) })
  bare.addHook('onSend', fail)
  bare.get('/', async () => ({ ok: true }))
  t.match((await bare.inject('/')).body, 's3cret-of-db', 'negative control: an error handler alone does not prevent it')
})

t.test('a serialiser that the handler set does not get the problem, nor the raw error [TRAP 24]', async t => {
  const declare = (app: FastifyInstance) => {
    app.get('/', route, async (_request, reply) => {
      reply.serializer((payload: unknown) => JSON.stringify({ wrapped: payload }))
      throw new Error(LEAK)
    })
  }
  const { app } = await build(t, declare)
  isProblem(t, await app.inject('/'), 500, 'FST_BASTION_HTTP_500')

  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.setErrorHandler((error, _request, reply) => { reply.code(500).send({ message: 'failed', was: (error as Error).name }) })
  declare(bare)
  t.match((await bare.inject('/')).body, '"wrapped"', 'negative control: the handler\'s serialiser is still there when the error handler answers')
})

t.test('a 4xx is shown with its message and code, and may say in headers only what an error says', async t => {
  const Taken = createError('FST_PORTAL_NAME_TAKEN', 'This name is taken', 409)
  const { app } = await build(t, app => {
    app.get('/coded', route, async () => { throw new Taken() })
    app.get('/plain', route, async () => { throw Object.assign(new Error('No such plan'), { statusCode: 402 }) })
    app.get('/odd-code', route, async () => { throw Object.assign(new Error('Gone'), { statusCode: 410, code: 'x<script>' }) })
    app.get('/upstream', route, async () => {
      throw Object.assign(new Error('Response status code 401'), {
        statusCode: 401, code: 'UND_ERR_RESPONSE', headers: { 'set-cookie': 'sid=stolen', 'content-length': '5000', 'x-powered-by': 'upstream', 'WWW-Authenticate': 'Bearer' }, body: LEAK,
      })
    })
    app.get('/later', route, async () => { throw Object.assign(new Error(LEAK), { statusCode: 503, headers: { 'retry-after': '5' } }) })
    app.get('/exposed', route, async () => { throw Object.assign(new Error('Try again later'), { statusCode: 503, expose: true, code: 'FST_PORTAL_BUSY' }) })
    app.get('/elsewhere', route, async () => { throw Object.assign(new Error('Moved'), { statusCode: 308, headers: { location: '/coded' } }) })
  })
  t.equal(isProblem(t, await app.inject('/coded'), 409, 'FST_PORTAL_NAME_TAKEN').detail, 'This name is taken')
  t.equal(isProblem(t, await app.inject('/plain'), 402, 'FST_BASTION_HTTP_402').detail, 'No such plan')
  isProblem(t, await app.inject('/odd-code'), 410, 'FST_BASTION_HTTP_410', 'a code that is none')
  const upstream = await app.inject('/upstream')
  isProblem(t, upstream, 401, 'UND_ERR_RESPONSE')
  t.match(upstream.headers, { 'www-authenticate': 'Bearer', 'set-cookie': undefined, 'x-powered-by': undefined })
  const later = await app.inject('/later')
  isProblem(t, later, 503, 'FST_BASTION_HTTP_503')
  t.equal(later.headers['retry-after'], '5')
  t.equal(isProblem(t, await app.inject('/exposed'), 503, 'FST_PORTAL_BUSY').detail, 'Try again later', 'a 5xx that is meant to be read')
  const elsewhere = await app.inject('/elsewhere')
  t.match({ status: elsewhere.statusCode, location: elsewhere.headers.location, body: elsewhere.body }, { status: 308, location: '/coded', body: '' })
})

t.test('parser and validation refuse with path and message, and never echo the value', async t => {
  let ran = 0
  const { app } = await build(t, app => {
    const body = closed({ name: Type.String({ maxLength: 10 }), kind: Type.Optional(Type.Union([Type.Literal('a'), Type.Literal('b')])), list: Type.Optional(Type.Array(closed({ n: Type.Integer() }))) })
    app.post('/items/:id', {
      schema: { body, params: Type.Object({ id: Type.Integer() }), querystring: Type.Object({ page: Type.Optional(Type.Integer()) }, { additionalProperties: false }), response: { 200: Type.Object({ ok: Type.Boolean() }) } },
      config: { access: 'public' },
      bodyLimit: 200,
    }, async () => {
      ran += 1
      return { ok: true }
    })
  })
  const post = (payload: InjectOptions['payload'], more: InjectOptions = {}) => app.inject({ method: 'POST', url: '/items/7', payload, ...more })
  const json = { 'content-type': 'application/json' }
  const faults: [string, InjectOptions['payload'], InjectOptions, string, RegExp][] = [
    ['a wrong type', { name: 424242 }, {}, '/name', /must be string/],
    ['too long', { name: 'hunter2-hunter2' }, {}, '/name', /more than 10 characters/],
    ['an unknown field', { name: 'a', isAdmin: 'hunter2' }, {}, '/isAdmin', /additional properties/],
    ['an unknown field with a slash', { name: 'a', 'a/b~c': 'hunter2' }, {}, '/a~1b~0c', /additional properties/],
    ['a missing field', {}, {}, '/name', /required/],
    ['a nested one', { name: 'a', list: [{ n: 1 }, { n: 'hunter2' }] }, {}, '/list/1/n', /must be integer/],
    ['a value that is not among those', { name: 'a', kind: 'hunter2' }, {}, '/kind', /./],
    ['a parameter', { name: 'a' }, { url: '/items/hunter2' }, '/id', /must be integer/],
    ['a query', { name: 'a' }, { url: '/items/7?page=hunter2' }, '/page', /must be integer/],
    ['an unknown query', { name: 'a' }, { url: '/items/7?debug=hunter2' }, '/debug', /additional properties/],
  ]
  for (const [name, payload, more, path, message] of faults) {
    const answer = await post(payload, more)
    const problem = isProblem(t, answer, 400, 'FST_BASTION_VALIDATION_REFUSED', name)
    t.match(problem.errors, [{ path, message }], name)
    t.notMatch(answer.body, /hunter2|424242/, 'the value is not in the answer')
  }
  isProblem(t, await post('{"name":"hunter2"', { headers: json }), 400, 'FST_ERR_CTP_INVALID_JSON_BODY', 'no JSON')
  isProblem(t, await post('{"__proto__":{"a":1},"name":"a"}', { headers: json }), 400, 'FST_BASTION_VALIDATION_NAME', 'a poisoned prototype')
  isProblem(t, await post(JSON.stringify({ name: 'a'.repeat(300) }), { headers: json }), 413, 'FST_ERR_CTP_BODY_TOO_LARGE')
  for (const type of ['text/plain', 'application/xml', 'application/json-hunter2', 'a/b; charset=hunter2']) {
    const answer = await post('name=hunter2', { headers: { 'content-type': type } })
    isProblem(t, answer, 415, 'FST_BASTION_VALIDATION_MEDIA_TYPE', type)
    t.notMatch(answer.body, /hunter2/)
  }
  t.equal(ran, 0, 'the handler did not run')
  t.equal((await post({ name: 'a' })).statusCode, 200)
})

t.test('what no route takes is a 404, before its body is read, whichever method it has [ASVS 13.4.4]', async t => {
  const { app } = await build(t, app => {
    app.get('/known', route, async () => ({ ok: true }))
    app.get('/hands-over', route, async (_request, reply) => reply.callNotFound())
  })
  for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'TRACE', 'PROPFIND', 'QUERY'] as const) {
    const problem = isProblem(t, await app.inject({ method: method as 'GET', url: '/nowhere/s3cret' }), 404, 'FST_BASTION_ERRORS_NOT_FOUND', method)
    t.equal(problem.detail, 'There is nothing here', 'the URL is not repeated')
  }
  isProblem(t, await app.inject({ method: 'POST', url: '/nowhere', headers: { 'content-type': 'text/xml' }, payload: '<a/>' }), 404, 'FST_BASTION_ERRORS_NOT_FOUND', 'no 415 for what is not there')
  isProblem(t, await app.inject({ method: 'DELETE', url: '/known' }), 404, 'FST_BASTION_ERRORS_NOT_FOUND')
  isProblem(t, await app.inject('/hands-over'), 404, 'FST_BASTION_ERRORS_NOT_FOUND', 'reply.callNotFound()')
  const head = await app.inject({ method: 'HEAD', url: '/nowhere' })
  t.match({ status: head.statusCode, nosniff: head.headers['x-content-type-options'] }, { status: 404, nosniff: 'nosniff' })
})

t.test('of all methods that Node reads a route answers to its own, and HEAD where it has GET [ASVS 4.1.4]', async t => {
  const ran: string[] = []
  const { app } = await build(t, app => {
    app.get('/read', route, async ({ method }) => { ran.push(method); return { ok: true } })
    app.delete('/gone', { ...route, schema: { ...route.schema, body: noBody } }, async ({ method }) => { ran.push(method); return { ok: true } })
  })
  const answered = async (app: FastifyInstance, url: string) => {
    if (!app.server.listening) await app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = app.server.address() as AddressInfo
    const taken: string[] = []
    for (const method of METHODS.filter(method => method !== 'CONNECT')) {
      const status = await new Promise<number>((resolve, reject) => {
        request({ host: '127.0.0.1', port, path: url, method, agent: false }, response => { response.resume().on('end', () => { resolve(response.statusCode!) }) }).on('error', reject).end()
      })
      if (status !== 404) taken.push(method)
    }
    return taken.sort()
  }
  t.strictSame(await answered(app, '/read'), ['GET', 'HEAD'])
  t.strictSame(await answered(app, '/gone'), ['DELETE'])
  t.strictSame(ran.sort(), ['DELETE', 'GET', 'HEAD'])
  await t.rejects(build(t, app => { app.all('/any', route, async () => ({ ok: true })) }), { code: 'FST_BASTION_PLAN_REFUSED', message: /TRACE[^\n]* \/any/ })

  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.all('/any', route, async () => ({ ok: true }))
  const taken = await answered(bare, '/any')
  for (const method of ['DELETE', 'HEAD', 'OPTIONS', 'PUT', 'TRACE']) t.ok(taken.includes(method), `negative control: plain Fastify answers to ${method}, by a route of which nobody said so`)
})

t.test('what Fastify says with the client\'s own words is said without them [TRAP 2]', async t => {
  const { app } = await build(t, app => { app.get('/items/:id', route, async () => ({ ok: true })) })
  t.equal(isProblem(t, await app.inject('/items/%zz%3Cs3cret'), 400, 'FST_ERR_BAD_URL').detail, 'The URL is malformed')
  t.equal(isProblem(t, await app.inject(`/items/${'s3cret'.repeat(100)}`), 414, 'FST_ERR_MAX_PARAM_LENGTH').detail, 'A URL parameter is too long')
  isProblem(t, await app.inject('/.bastion/unreadable'), 404, 'FST_BASTION_ERRORS_NOT_FOUND', 'the place where these go is unknown to everybody else')

  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.get('/items/:id', async () => 1)
  const echoed = await bare.inject('/items/%zz%3Cs3cret')
  t.match(echoed.body, 's3cret', 'negative control: plain Fastify echoes the URL')
  t.equal(echoed.headers['x-content-type-options'], undefined)
})

t.test('a hook older than the suite that refuses still gets a problem with headers', async t => {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  app.addHook('onRequest', async request => { if (request.headers['x-fail'] !== undefined) throw new Error(LEAK) })
  await app.register(bastion)
  let ran = 0
  app.get('/', route, async () => {
    ran += 1
    return { ok: true }
  })
  isProblem(t, await app.inject({ url: '/', headers: { 'x-fail': '1' } }), 500, 'FST_BASTION_HTTP_500')
  isProblem(t, await app.inject({ url: '/nowhere', headers: { 'x-fail': '1' } }), 500, 'FST_BASTION_HTTP_500')
  t.equal(ran, 0)
  t.equal((await app.inject('/')).statusCode, 200)
})

t.test('toProblem: status, code and detail of an error, whatever it is', async t => {
  t.match(toProblem(new NotFound(), 'r1'), { type: 'about:blank', title: 'Not Found', status: 404, code: 'FST_BASTION_ERRORS_NOT_FOUND', requestId: 'r1' })
  t.match(toProblem(undefined), { status: 500, title: 'Internal Server Error', requestId: undefined })
  t.match(toProblem(Object.assign(new Error('x'), { statusCode: 599 })), { status: 599, title: 'Error' })
})

t.test('misconfiguration stops boot: an error handler of its own, on the route or on its plugin; the suite after the route', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(bastion)
  app.get('/own', { ...route, errorHandler: () => {} }, async () => ({ ok: true }))
  app.register(async child => {
    child.setErrorHandler(() => {})
    child.get('/child', route, async () => ({ ok: true }))
  })
  await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message: /2 routes do not boot:\n {2}GET \/own: an error handler[^\n]*\n {2}GET \/child: an error handler[^\n]*$/ })

  const late = Fastify()
  t.teardown(() => late.close())
  await late.register(plan)
  await late.register(events)
  late.get('/early', async () => 1)
  await t.rejects(async () => { await late.register(errors) }, { code: 'FST_BASTION_PLAN_TOO_LATE', message: /GET \/early/ })
})

t.test('texts of problems are made once for what is alike, and never stand for what differs in anything', t => {
  const shared = Object.freeze({ type: 'https://example.com/quota', violatedPolicies: ['5/second'] })
  const alike = (requestId: string, detail: string, status = 403): Problem => ({ type: 'about:blank', title: 'Forbidden', status, code: 'FST_ONE', requestId, detail })
  const problems: [Problem, object?][] = [
    [alike('r1', 'no')], [alike('r2', 'no')], [alike('r3', 'other')], [alike('r4', 'no', 401)], [alike('r5', 'no')],
    [alike('a"b\\', 'no')], [alike('', 'no')], [alike('ü', 'no')], [alike('x'.repeat(65), 'no')],
    [{ ...alike('r6', 'no'), errors: [{ path: '/a', message: 'is wrong' }] }], [{ ...alike('r7', 'no'), code: 'FST_NEW', errors: [{ path: '/a', message: 'is wrong' }] }],
    [{ ...alike('r8', 'no'), code: 'FST_NEW' }], [{ ...alike('r9', 'quoted "\u2028" \ud800'), code: 'FST_QUOTED' }],
    [{ ...alike('s1', 'no'), type: shared.type, 'violated-policies': shared.violatedPolicies }, shared],
    [{ ...alike('s2', 'no'), type: shared.type, 'violated-policies': shared.violatedPolicies }, shared],
    [{ ...alike('s3', 'no'), code: 'FST_OTHER', type: shared.type, 'violated-policies': shared.violatedPolicies }, shared],
    [{ ...alike('m1', 'no'), mfaToken: 'one' }, { mfaToken: 'one' }], [{ ...alike('m2', 'no'), mfaToken: 'two' }, { mfaToken: 'two' }],
  ]
  for (const [problem, members] of [...problems, ...problems]) t.strictSame(JSON.parse(textOf(problem, members)), problem, `of ${problem.requestId}`)
  t.equal(textOf(alike('r1', 'no')), textOf(alike('r2', 'no')).replace('r2', 'r1'), 'nothing but the request id differs')
  t.end()
})

/** A hook that fails the first time only. */
function once (message: string) {
  const seen = new WeakSet<object>()
  return async function failOnce (request: object, _reply: unknown, payload: unknown) {
    if (seen.has(request)) return payload
    seen.add(request)
    throw new Error(message)
  }
}
