/** Server: what the constructor settles: whom to believe, how much to take, and what the log may say. */
import { randomBytes } from 'node:crypto'
import { Writable } from 'node:stream'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server, type ServerOptions } from '../plugins/index.js'
import { conceal } from '../plugins/log.js'
import { closed } from '../schemas/closed.js'

interface Built { app: FastifyInstance, log: string[] }

async function build (t: Test, options: ServerOptions = {}, declare: (app: FastifyInstance) => void = () => {}): Promise<Built> {
  const log: string[] = []
  const stream = new Writable({ write (line, _encoding, done) { log.push(String(line)); done() } })
  const app = Fastify(server({ logger: { level: 'trace', stream }, ...options }))
  t.teardown(() => app.close())
  await app.register(bastion, {
    tokens: { issuer: 'https://api.example.com', audience: 'https://api.example.com', keys: { access: randomBytes(32), refresh: randomBytes(32) } },
  })
  app.get('/ip', { schema: { response: { 200: Type.Object({ ip: Type.String(), protocol: Type.String(), host: Type.String() }) } }, config: { access: 'public' } },
    async ({ ip, protocol, host }) => ({ ip, protocol, host }))
  declare(app)
  await app.ready()
  return { app, log }
}

const forwarded = { 'x-forwarded-for': '203.0.113.9', 'x-forwarded-proto': 'https', 'x-forwarded-host': 'evil.example' }

t.test('by default nobody is believed about the address, the protocol and the host [ASVS 4.1.3, 15.3.4]', async t => {
  const { app } = await build(t)
  t.same((await app.inject({ url: '/ip', headers: forwarded })).json(), { ip: '127.0.0.1', protocol: 'http', host: 'localhost:80' })
})

t.test('named proxies are believed, one hop at a time, and only they [TRAP 20]', async t => {
  for (const trustProxy of ['127.0.0.1', ['127.0.0.1', '10.0.0.0/8'], '10.0.0.0/8, 127.0.0.0/8', 'loopback', (address: string) => address === '127.0.0.1'] as ServerOptions['trustProxy'][]) {
    const { app } = await build(t, { trustProxy })
    const ask = async (remoteAddress: string, chain: string) => (await app.inject({ url: '/ip', remoteAddress, headers: { ...forwarded, 'x-forwarded-for': chain } })).json()
    t.match(await ask('127.0.0.1', '203.0.113.9'), { ip: '203.0.113.9', protocol: 'https', host: 'evil.example' }, JSON.stringify(trustProxy))
    t.match(await ask('127.0.0.1', '1.1.1.1, 203.0.113.9'), { ip: '203.0.113.9' }, 'what the client wrote itself is not its address')
    t.match(await ask('198.51.100.7', '203.0.113.9'), { ip: '198.51.100.7', protocol: 'http', host: 'localhost:80' }, 'a stranger is not believed (GHSA-444r-cwp2-x5xf)')
  }
})

t.test('true, hop counts and networks of everybody do not boot: they can be spoofed [TRAP 20]', async t => {
  for (const trustProxy of [true, 0, 1, 2, '0.0.0.0/0', '::/0', ['10.0.0.1', '0.0.0.0/0'], 'proxy.internal', '10.0.0.1/33', '10.0.0.0/08/1', '', '*', {}, null, [1]]) {
    t.throws(() => server({ trustProxy: trustProxy as never }), { code: 'FST_BASTION_SERVER_MISCONFIGURED', message: /trustProxy/ }, JSON.stringify(trustProxy))
  }
  t.doesNotThrow(() => server({ trustProxy: false as never }))

  const app = Fastify({ trustProxy: true })
  t.teardown(() => app.close())
  app.get('/ip', async ({ ip }) => ({ ip }))
  t.same((await app.inject({ url: '/ip', remoteAddress: '198.51.100.7', headers: forwarded })).json(), { ip: '203.0.113.9' }, 'negative control: with true a stranger says who he is')
})

t.test('sizes have limits, and each can be set', async t => {
  const declare = (app: FastifyInstance) => {
    app.post('/', { schema: { body: closed({ a: Type.String() }), response: { 200: Type.Object({ ok: Type.Boolean() }) } }, config: { access: 'public', validation: { maxText: 300_000 } } }, async () => ({ ok: true }))
    app.get('/:id', { schema: { response: { 200: Type.Object({ ok: Type.Boolean() }) } }, config: { access: 'public' } }, async () => ({ ok: true }))
  }
  const post = (app: FastifyInstance, bytes: number) => app.inject({ method: 'POST', url: '/', payload: { a: 'a'.repeat(bytes - 8) } })
  const { app } = await build(t, {}, declare)
  t.equal((await post(app, 262_144)).statusCode, 200)
  t.match((await post(app, 262_145)).json(), { status: 413, code: 'FST_ERR_CTP_BODY_TOO_LARGE' })
  t.equal((await app.inject(`/${'a'.repeat(200)}`)).statusCode, 200)
  t.equal((await app.inject(`/${'a'.repeat(201)}`)).statusCode, 414)
  const { app: small } = await build(t, { bodyLimit: 100, fastify: { routerOptions: { maxParamLength: 3 } } }, declare)
  t.equal((await post(small, 101)).statusCode, 413)
  t.equal((await small.inject('/abcd')).statusCode, 414)
})

t.test('times have limits: Node is given them', async t => {
  const { app } = await build(t)
  t.match(app.server, { requestTimeout: 30_000, headersTimeout: 30_000, keepAliveTimeout: 72_000 })
  const { app: other } = await build(t, { requestTimeout: 90_000, keepAliveTimeout: 5000 })
  t.match(other.server, { requestTimeout: 90_000, headersTimeout: 60_000, keepAliveTimeout: 5000 })
  const plain = Fastify()
  t.teardown(() => plain.close())
  t.equal(plain.server.requestTimeout, 0, 'negative control: plain Fastify waits for ever')
})

t.test('URLs are matched as they are written: case, slashes, semicolons and encodings open nothing [TRAP 22]', async t => {
  const { app } = await build(t, {}, app => {
    app.get('/admin', { schema: { response: { 200: Type.Object({ ok: Type.Boolean() }) } }, config: { access: 'user' } }, async () => ({ ok: true }))
  })
  for (const url of ['/admin', '/%61dmin', '/admin?x=1', '/admin#x']) t.equal((await app.inject(url)).statusCode, 401, `${url} is the route, and the route is guarded`)
  for (const url of ['//admin', '/admin/', '/ADMIN', '/admin;x=1', '/admin%2f', '/%2fadmin', '/./admin%00', '/admin%20']) t.equal((await app.inject(url)).statusCode, 404, url)
})

t.test('nothing secret reaches the log, whoever logs it, and under whatever name [ASVS 16.2.5]', async t => {
  const secret = 'hunter2-s3cret'
  const jwt = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1MSJ9.c2lnbmF0dXJl'
  const { app, log } = await build(t, {}, app => {
    const open = { schema: { response: { 200: Type.Object({ ok: Type.Boolean() }) } }, config: { access: 'public' as const } }
    app.post('/login', { ...open, schema: { ...open.schema, body: closed({ username: Type.String(), password: Type.String({ maxLength: 5 }) }) } }, async () => ({ ok: true }))
    app.get('/throws', open, async () => { throw new Error(`connect postgres://portal:${secret}@db/portal?password=${secret} with ${jwt}`, { cause: new Error(`redis://:${secret}@cache`) }) })
    app.get('/refuses', open, async () => { throw Object.assign(new Error(`see https://x.example/?token=${secret}`), { statusCode: 409 }) })
    app.get('/logs', open, async request => {
      request.log.info({ password: secret, user: { newPassword: secret, refresh_token: secret, deeper: { list: [{ apiKey: secret, 'X-API-Key': secret }] } } }, 'fields')
      request.log.info({ headers: request.headers, cookie: secret, setCookie: [secret] }, 'headers')
      request.log.info({ req: request, res: { headers: { 'set-cookie': secret } } }, 'request')
      request.log.info(`asked for /reset?token=${secret} with password=${secret} and Bearer ${jwt}`)
      request.log.warn(new Error(`mongodb://u:${secret}@db`))
      request.log.warn({ err: new Error(`amqp://u:${secret}@mq`) })
      request.log.info({ note: `postgres://u:${secret}@db` }, 'text %s', `token=${secret}`)
      request.log.child({ part: 'x' }).info({ clientSecret: secret }, 'child')
      app.log.info({ connectionString: secret }, 'app')
      app.events.record('login_failure', request, { username: 'ada', password: secret, reason: `postgres://u:${secret}@db` })
      return { ok: true }
    })
  })
  const headers = { authorization: `Bearer ${jwt}`, cookie: `session=${secret}`, 'x-api-key': secret }
  for (const url of ['/throws', '/refuses', '/logs', '/nowhere']) await app.inject({ url: `${url}?token=${secret}&code=${secret}`, headers })
  await app.inject({ method: 'POST', url: '/login', payload: { username: 'ada', password: secret } })
  await app.inject({ method: 'POST', url: '/login', payload: `{"password":"${secret}`, headers: { 'content-type': 'application/json' } })
  await app.inject(`/%zz?token=${secret}`)
  const all = log.join('')
  t.notMatch(all, new RegExp(secret))
  t.notMatch(all, 'eyJhbGciOiJIUzI1NiJ9')
  t.match(all, /connect postgres:\/\/\[redacted\]@db/, 'and what helps is still there')
  t.match(all, '"msg":"child"')
  t.match(all, '"username":"ada"')
  for (const line of log) t.doesNotThrow(() => JSON.parse(line), 'each line is JSON')

  const lines: string[] = []
  const bare = Fastify({ logger: { stream: new Writable({ write (line, _encoding, done) { lines.push(String(line)); done() } }) } })
  t.teardown(() => bare.close())
  bare.get('/', async () => { throw new Error(`postgres://portal:${secret}@db`) })
  await bare.inject(`/?token=${secret}`)
  t.match(lines.join(''), new RegExp(secret), 'negative control: plain Fastify logs the query and the message')
})

t.test('one line a request: who, what, when, how it ended, and the id that the answer names [ASVS 16.2.1, 16.2.2, 16.2.4]', async t => {
  const { app, log } = await build(t, { logger: undefined })
  t.same(log, [], 'by default pino writes to standard output')
  const { app: logged, log: lines } = await build(t)
  const answer = await logged.inject({ url: '/nowhere?a=b', headers: { 'x-request-id': 'forged', 'request-id': 'forged' } })
  const line = lines.map(text => JSON.parse(text)).find(({ msg }) => msg === 'request')
  t.match(line, { level: 30, time: Number, method: 'GET', path: '/nowhere', status: 404, ms: Number, address: '127.0.0.1', requestId: answer.json().requestId })
  t.equal(lines.filter(text => text.includes('"msg":"request"')).length, 1)
  t.notMatch(lines.join(''), 'forged', 'the id is ours')
  t.ok(app)
})

t.test('pino\'s own options go on working, with the censoring on top of them', async t => {
  const log: string[] = []
  const stream = new Writable({ write (line, _encoding, done) { log.push(String(line)); done() } })
  const logger = {
    level: 'info',
    stream,
    base: { service: 'portal' },
    redact: ['user.email'],
    formatters: { level: (level: string) => ({ level }), log: (line: object) => ({ ...line, password: 'hunter2', extra: true }) },
    hooks: { logMethod (this: unknown, args: unknown[], method: (...args: unknown[]) => void) { method.apply(this, [...args.slice(0, -1), `« ${String(args.at(-1))} »`]) } },
    serializers: { user: (user: { name: string }) => ({ ...user, name: user.name.toUpperCase() }) },
  }
  const { app } = await build(t, { logger: logger as never })
  app.log.info({ user: { name: 'ada', email: 'ada@example.com' } }, 'seen token=hunter2')
  app.log.debug('below the level')
  const line = JSON.parse(log.at(-1)!)
  t.match(line, { level: 'info', service: 'portal', extra: true, password: '[redacted]', msg: '« seen token=[redacted] »', user: { name: 'ADA', email: '[Redacted]' } })
  t.notMatch(log.join(''), /hunter2|ada@example/)
})

t.test('conceal: what it hides and what it leaves', async t => {
  const hidden: [string, string][] = [
    ['postgres://u:p@ss/word@db:5432/x', 'postgres://[redacted]@db:5432/x'],
    ['GET /a?b=c&d=e HTTP', 'GET /a?… HTTP'],
    ['Server=x;Password=p;User=u', 'Server=x;Password=[redacted];User=u'],
    ['Authorization: Bearer abcdefgh.ijkl', 'Authorization: Bearer [redacted]'],
  ]
  for (const [text, expected] of hidden) t.equal(conceal(text), expected)
  for (const text of ['a plain text', 'who? me', 'https://example.com/path', 'a = b', '3 > 2 ? yes : no']) t.equal(conceal(text), text)
  const begun = process.hrtime.bigint()
  for (const part of ['a://', '?', 'password=', 'eyJ', 'Bearer ', '@', 'a'] as const) conceal(`=${part.repeat(20_000)}`)
  t.ok(Number(process.hrtime.bigint() - begun) / 1e6 < 2000, 'no text makes it slow [ASVS 1.3.12]')
})

t.test('misconfiguration is refused where it is written, by name', async t => {
  const wrong: [unknown, RegExp][] = [
    [{ bodyLimitt: 1 }, /bodyLimitt/],
    [{ bodyLimit: '1mb' }, /bodyLimit/],
    [{ requestTimeout: 0 }, /requestTimeout/],
    [{ closeTimeout: -1 }, /closeTimeout/],
    // Node would make one millisecond of it.
    [{ closeTimeout: 2 ** 31 }, /closeTimeout/],
    [{ fastify: { trustProxy: true } }, /fastify\.trustProxy.*decided by server/],
    [{ fastify: { logger: true, genReqId: () => '1' } }, /fastify\.logger, fastify\.genReqId/],
    [{ fastify: { clientErrorHandler: () => {} } }, /clientErrorHandler/],
  ]
  for (const [options, message] of wrong) t.throws(() => server(options as ServerOptions), { code: 'FST_BASTION_SERVER_MISCONFIGURED', message }, JSON.stringify(options))
})

t.test('a wrong option is named and its value is not: it may be a secret', async t => {
  for (const options of [{ bodyLimit: 'hunter2' }, { hunter: 'hunter2' }]) {
    try {
      server(options as never)
      t.fail('it was taken')
    } catch (error) {
      t.notMatch((error as Error).message, 'hunter2')
    }
  }
})

t.test('without the suite router errors still have form and headers', async t => {
  const app = Fastify(server({ logger: false }) as FastifyServerOptions)
  t.teardown(() => app.close())
  app.get('/:id', async () => 1)
  const answer = await app.inject('/%zz')
  t.match({ status: answer.statusCode, type: answer.headers['content-type'], nosniff: answer.headers['x-content-type-options'], code: answer.json().code },
    { status: 400, type: /application\/problem\+json/, nosniff: 'nosniff', code: 'FST_ERR_BAD_URL' })
})

t.test('in production the log is not made pretty [ASVS 13.4.2]', async t => {
  const before = process.env.NODE_ENV
  t.teardown(() => { if (before === undefined) delete process.env.NODE_ENV; else process.env.NODE_ENV = before })
  process.env.NODE_ENV = 'production'
  for (const transport of [{ target: 'pino-pretty' }, { targets: [{ target: 'pino/file' }, { target: 'pino-pretty' }] }]) {
    t.throws(() => server({ logger: { transport } as never }), { code: 'FST_BASTION_SERVER_MISCONFIGURED', message: /pino-pretty is for development/ })
  }
  for (const logger of ['info', false, { level: 'debug' }, { transport: { target: 'pino/file' } }]) t.ok(server({ logger: logger as never }))
  process.env.NODE_ENV = 'development'
  t.ok(server({ logger: { transport: { target: 'pino-pretty' } } as never }), 'negative control')
})
