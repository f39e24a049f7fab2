/** Production as a whole: what is for development is off or refused, and nothing tells what the portal is made of. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, type AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import { collectDefaultMetrics, Registry } from 'prom-client'
import { buildPortal } from '../../demo/app.js'
import { readSettings } from '../../demo/settings.js'
import { developmentCertificate } from '../../plugins/certificates/development.js'
import { APP_SECRET, buildOn, folderOf, freshDatabase } from './portal.js'

const before = process.env.NODE_ENV
process.env.NODE_ENV = 'production'
t.teardown(() => { if (before === undefined) delete process.env.NODE_ENV; else process.env.NODE_ENV = before })

const FAULT = 'connection to postgres://portal:hunter2@db.internal refused'
const sql = await freshDatabase(t)
const fail = (app: FastifyInstance) => app.get('/fails', { config: { access: 'public', answers: 'raw' } }, async () => { throw new Error(FAULT) })
const portal = await buildOn(t, sql, { NODE_ENV: 'production' }, fail)
const { call } = portal
const [admin, alice] = [await portal.token('admin'), await portal.token('alice')]
await portal.app.listen({ host: '127.0.0.1', port: 0 })
const { port } = portal.app.server.address() as AddressInfo

/** What the server answers to these bytes. */
async function send (t: Test, text: string, at = port): Promise<string> {
  const socket = connect(at, '127.0.0.1')
  t.teardown(() => { socket.destroy() })
  let answer = ''
  socket.setEncoding('utf8').on('data', part => { answer += part })
  socket.write(text)
  await once(socket, 'close')
  return answer
}

t.test('no documentation is served: neither the page, nor the document, nor its parts [ASVS 13.4.2] [ASVS 13.4.5]', async t => {
  for (const url of ['/docs', '/docs/', '/docs/json', '/docs/yaml', '/docs/static/swagger-ui.css', '/docs/static/swagger-initializer.js', '/openapi.json', '/documentation']) {
    for (const method of ['GET', 'HEAD']) t.match(await call(method, url, { token: admin }), { status: 404 }, `${method} ${url}`)
  }
  t.notOk(portal.app.hasDecorator('openapi'))
  process.env.NODE_ENV = 'development'
  t.teardown(() => { process.env.NODE_ENV = 'production' })
  const development = await buildOn(t, sql, { NODE_ENV: 'development' })
  t.equal((await development.call('GET', '/docs/json')).status, 200, 'negative control')
})

t.test('what is for operators is for operators: metrics, posture and the trail ask who it is [ASVS 13.4.5]', async t => {
  for (const url of ['/metrics', '/posture', '/audit', '/audit/verify', '/audit/stream']) {
    t.equal((await call('GET', url)).status, 401, url)
    t.equal((await call('GET', url, { token: alice })).status, 403, url)
  }
  for (const url of ['/debug', '/status', '/server-status', '/env', '/actuator', '/.env', '/.git/config', '/package.json', '/node_modules/fastify/package.json']) t.equal((await call('GET', url)).status, 404, url)
})

t.test('a fault shows nothing of itself, whoever asks, and is in the log [ASVS 13.4.2]', async t => {
  for (const headers of [{}, { accept: 'text/html' }, { 'x-debug': '1' }, { authorization: `Bearer ${admin}` }]) {
    const { statusCode, body, headers: told } = await portal.app.inject({ url: '/fails', headers: { host: 'localhost:3000', ...headers } })
    t.equal(statusCode, 500)
    t.match(told['content-type'], /^application\/problem\+json/)
    t.notMatch(body, /hunter2|postgres|db\.internal|stack|refused|\.ts/)
  }
  t.match(portal.log.join(''), 'request failed')
  t.notMatch(portal.log.join(''), 'hunter2')
})

t.test('TRACE is not answered with what was sent, nor are TRACK, DEBUG and CONNECT [ASVS 13.4.4]', async t => {
  const asking = (method: string, target: string) => `${method} ${target} HTTP/1.1\r\nHost: localhost:3000\r\nCookie: session=s3cret\r\nX-Echo: echo-me\r\nConnection: close\r\n\r\n`
  for (const [method, target] of [['TRACE', '/'], ['TRACE', '/posts'], ['TRACE', '*'], ['TRACK', '/'], ['DEBUG', '/'], ['CONNECT', 'localhost:80']] as const) {
    const answer = await send(t, asking(method, target))
    t.notMatch(answer, /^HTTP\/1\.1 2|s3cret|echo-me|message\/http/, `${method} ${target}`)
    t.match(answer, /^HTTP\/1\.1 4\d\d /, `${method} ${target}`)
  }
  t.notOk(portal.app.plan.routes.some(({ method }) => method.includes('TRACE')))

  await t.test('negative control: on plain Fastify a route for all methods, as a page of diagnosis has, answers it with the cookie', async t => {
    const bare = Fastify()
    t.teardown(() => bare.close())
    bare.all('/', async ({ headers }) => headers)
    await bare.listen({ host: '127.0.0.1', port: 0 })
    t.match(await send(t, asking('TRACE', '/'), (bare.server.address() as AddressInfo).port), /^HTTP\/1\.1 200 [^]*s3cret[^]*echo-me/)
  })
})

t.test('nothing tells which components it is made of, in which version: no header, no body, no refusal of the parser [ASVS 13.4.6]', async t => {
  const versionOf = (name: string) => (JSON.parse(readFileSync(new URL(`../../node_modules/${name}/package.json`, import.meta.url), 'utf8')) as { version: string }).version
  const { node, v8, openssl } = process.versions
  const versions = [node, v8, openssl, portal.app.version, ...['pino', 'ajv', '@electric-sql/pglite'].map(versionOf)]
  const answers = [
    ...await Promise.all(['/', '/portal.js', '/posts', '/health', '/nowhere', '/%zz', '/users/me', '/metrics', '/posture', '/audit/verify', '/api/v1/users', '/limits/multi'].map(url => call('GET', url, { token: admin }))),
    await call('OPTIONS', '/posts'),
    await call('POST', '/auth/login', { raw: '{' }),
    await call('POST', '/auth/login', { raw: '<a/>', type: 'text/xml' }),
    await call('POST', '/token', { raw: 'grant_type=x', type: 'application/x-www-form-urlencoded' }),
    { text: (await portal.app.inject('/fails')).body, headers: (await portal.app.inject('/fails')).headers },
  ].map(({ headers, text }) => `${JSON.stringify(headers)}${text}`)
  answers.push(await send(t, 'GARBAGE\r\n\r\n'), await send(t, 'GET / HTTP/1.1\r\nConnection: close\r\n\r\n'), await send(t, 'GET / HTTP/3.9\r\nHost: x\r\n\r\n'), await send(t, `GET /${'a'.repeat(100_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`))
  for (const [i, answer] of answers.entries()) {
    for (const version of versions) if (answer.includes(version)) t.fail(`answer ${i} tells ${version}`)
    t.notMatch(answer.slice(0, 2000), /"?\b(?:server|x-powered-by|via|x-aspnet-version|x-runtime)"?:/i, `answer ${i}`)
    t.notMatch(answer, /(?:fastify|node(?:\.?js)?|pglite|postgresql|pino|openssl)[/ ]v?\d/i, `answer ${i}`)
  }

  await t.test('negative control: plain Fastify with the metrics of prom-client, as its documentation shows them, tells the version of Node', async t => {
    const bare = Fastify()
    t.teardown(() => bare.close())
    const register = new Registry()
    collectDefaultMetrics({ register })
    bare.get('/metrics', async (_request, reply) => reply.type(register.contentType).send(await register.metrics()))
    t.ok((await bare.inject('/metrics')).body.includes(node))
  })
})

t.test('no source map is served, and no script names one [ASVS 13.4.2]', async t => {
  for (const url of ['/portal.js.map', '/index.html.map', '/server.js.map', '/app.ts', '/demo/app.ts', '/dist/plugins/index.js.map']) t.equal((await call('GET', url)).status, 404, url)
  for (const url of ['/', '/portal.js']) {
    const { text, headers } = await call('GET', url)
    t.notMatch(text, /sourceMappingURL|sourceURL/)
    t.notOk('sourcemap' in headers || 'x-sourcemap' in headers)
  }
  const build = JSON.parse(readFileSync(new URL('../../tsconfig.build.json', import.meta.url), 'utf8')) as { compilerOptions: Record<string, unknown> }
  t.notOk(build.compilerOptions.sourceMap === true || build.compilerOptions.inlineSourceMap === true || build.compilerOptions.declarationMap === true, 'nor does the package hold any')
})

t.test('origins, hosts and the log of development are refused [ASVS 13.4.2]', async t => {
  for (const origins of ['http://localhost:5173', 'https://portal.example,http://127.0.0.1:3000']) {
    await t.rejects(buildOn(t, sql, { NODE_ENV: 'production', CORS_ORIGINS: origins }), { code: 'FST_BASTION_CORS_MISCONFIGURED', message: 'is for development' }, origins)
  }
  const read = (origin: string) => call('GET', '/posts', { headers: { origin } }).then(({ headers }) => headers['access-control-allow-origin'])
  t.equal(await read('http://localhost:5173'), undefined, 'none by default')
  for (const host of ['127.0.0.1', '[::1]', 'localhost:80', '0.0.0.0']) t.equal((await call('GET', '/posts', { headers: { host } })).status, 421, host)
  for (const line of portal.log) t.doesNotThrow(() => JSON.parse(line))
  t.notOk(portal.log.some(line => line.includes('\u001b[')), 'lines for machines, without colours')
})

t.test('secrets that are missing, weak, well known or copied from the documentation are refused [ASVS 13.4.2]', async t => {
  for (const APP_SECRET of [undefined, '', 'c2hvcnQ', 'secret', 'change-me-change-me-change-me-change-me-change-me', '0'.repeat(128), 'correcthorsebatterystaplecorrecthorsebatterystaple']) {
    t.throws(() => readSettings({ NODE_ENV: 'production', ...APP_SECRET !== undefined && { APP_SECRET } }), { code: 'FST_BASTION_SETTINGS_REFUSED', message: /APP_SECRET/ }, String(APP_SECRET))
  }
  t.ok(readSettings({ NODE_ENV: 'development' }), 'negative control: development makes its own')
})

t.test('a development certificate is refused, by whichever name it comes [ASVS 13.4.2]', async t => {
  const folder = folderOf(t)
  const files = await developmentCertificate({ folder, production: false })
  t.teardown(() => { process.env.NODE_ENV = 'production' })
  const serve = () => buildPortal({ settings: readSettings({ NODE_ENV: process.env.NODE_ENV, APP_SECRET, DATA_DIR: folder, LOG_LEVEL: 'silent' }), secret: APP_SECRET, sql, origin: 'https://localhost:3000', tls: files })
  await t.rejects(serve(), { code: 'FST_BASTION_CERTIFICATES_REFUSED', message: /is a development certificate/ })
  await t.rejects(developmentCertificate({ folder }), { code: 'FST_BASTION_CERTIFICATES_REFUSED', message: /is not made in production/ })
  process.env.NODE_ENV = 'development'
  const development = await serve()
  t.ok(development.certificates, 'negative control')
  await development.close()
})
