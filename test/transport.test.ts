/** Transport: the hosts that are ours, and nothing but safe navigations over plain HTTP. */
import { once } from 'node:events'
import { get as getByTls } from 'node:https'
import { connect, createServer, type AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server, type ServerOptions } from '../plugins/index.js'
import errors from '../plugins/errors.js'
import events, { type SecurityEvent } from '../plugins/events.js'
import plan from '../plugins/plan/index.js'
import transport, { type TransportOptions } from '../plugins/transport/index.js'
import { closed } from '../schemas/closed.js'
import { selfSigned } from './wire/certificate.js'

interface Built { app: FastifyInstance, ran: string[], recorded: SecurityEvent[], ask: (request: InjectOptions) => Promise<Answer> }
interface Answer { status: number, code: string | undefined, location: unknown }

async function build (t: Test, options: TransportOptions = {}, serverOptions: ServerOptions = {}): Promise<Built> {
  const ran: string[] = []
  const recorded: SecurityEvent[] = []
  const app = Fastify(server({ logger: false, ...serverOptions }))
  t.teardown(() => app.close())
  await app.register(bastion, { transport: options })
  const response = { 200: Type.Object({ ok: Type.Boolean() }) }
  const handler = async (request: { url: string }) => {
    ran.push(request.url)
    return { ok: true }
  }
  app.get('/*', { schema: { response }, config: { access: 'public' } }, handler)
  app.post('/', { schema: { body: closed({ a: Type.String() }), response }, config: { access: 'public' } }, handler)
  app.get('/health', { schema: { response }, config: { access: 'public', https: false } }, handler)
  app.events.listen(event => { recorded.push(event) })
  await app.ready()
  return {
    app,
    ran,
    recorded,
    async ask (request) {
      const { statusCode, headers, body } = await app.inject(request)
      return { status: statusCode, code: body.startsWith('{') ? JSON.parse(body).code : undefined, location: headers.location }
    },
  }
}

const UNTRUSTED = { status: 421, code: 'FST_BASTION_TRANSPORT_HOST_UNTRUSTED' }
const MALFORMED = { status: 400, code: 'FST_BASTION_TRANSPORT_HOST_MALFORMED' }
const REFUSED = { status: 403, code: 'FST_BASTION_TRANSPORT_HTTPS_REQUIRED' }
const proxied = { trustProxy: '127.0.0.1' }
const https = { 'x-forwarded-proto': 'https' }

t.test('without a list every host that is one is answered', async t => {
  const { ask, ran } = await build(t)
  for (const host of ['a.example', 'A.EXAMPLE:81', '192.0.2.1', '[::1]', '[2001:db8::1]:3000', 'under_score.local', 'a.example.']) t.equal((await ask({ url: '/', headers: { host } })).status, 200, host)
  for (const host of [' ', 'a b', 'a,b', 'a/b', 'a?b', 'a#b', 'u@a', 'a:b', 'a:', 'a:123456', '[::1', '::1', '[gg]', '-a', '.a', 'a\tb', '<script>', 'a:99999', '1.2.3.999', '[1:2]', 'a%2eb', '0x7f.1.1.1.1', 'é.example', `${'a'.repeat(300)}`]) {
    t.match(await ask({ url: '/', headers: { host } }), MALFORMED, JSON.stringify(host))
  }
  t.equal(ran.length, 7)
})

t.test('with a list others are refused, and the handler does not run', async t => {
  const { ask, ran, recorded } = await build(t, { hosts: ['api.example.com', 'LOCALHOST:3000', '192.0.2.1', '[2001:DB8:0:0::1]', '*.tenants.example.com'] })
  const ours = [
    'api.example.com', 'API.Example.COM', 'api.example.com.', 'api.example.com:8443', 'api.example.com.:443', 'localhost:3000', '192.0.2.1', '192.0.2.1:81',
    '[2001:db8::1]', '[2001:0db8:0000::0001]:99', 'a.tenants.example.com', 'A.TENANTS.example.com:8443',
  ]
  for (const host of ours) t.equal((await ask({ url: '/', headers: { host } })).status, 200, host)
  const strange = [
    'evil.example', 'example.com', 'xapi.example.com', 'api.example.com.evil.example', 'evil-api.example.com', 'api-example.com', 'localhost', 'localhost:3001', '192.0.2.10', '[2001:db8::2]',
    'tenants.example.com', 'a.b.tenants.example.com', '.tenants.example.com', 'atenants.example.com', 'a.tenants.example.com.evil.example', '192.0.2.1.evil.example', '3221225985',
  ]
  ran.length = 0
  for (const host of strange) {
    const answer = await ask({ url: '/', headers: { host } })
    t.match(answer, host.startsWith('.') ? MALFORMED : UNTRUSTED, host)
  }
  t.match(await ask({ method: 'POST', url: '/', headers: { host: 'evil.example' }, payload: { a: 'b' } }), UNTRUSTED)
  t.match(await ask({ url: '/nowhere%zz', headers: { host: 'evil.example' } }), UNTRUSTED, 'malformed URLs too')
  t.same(ran, [])
  t.match(recorded[0], { type: 'untrusted_host', details: { host: 'evil.example' } })

  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.get('/', async request => ({ link: `https://${request.host}/reset` }))
  t.same((await bare.inject({ url: '/', headers: { host: 'evil.example' } })).json(), { link: 'https://evil.example/reset' }, 'negative control: plain Fastify builds links from any host')
})

t.test('a forwarded host is believed from a named proxy only, and then it is the one that counts (GHSA-444r-cwp2-x5xf) [ASVS 4.1.3]', async t => {
  const hosts = ['api.example.com']
  const forged = { host: 'evil.example', 'x-forwarded-host': 'api.example.com' }
  const direct = await build(t, { hosts })
  t.match(await direct.ask({ url: '/', headers: forged }), UNTRUSTED, 'nobody is believed by default')
  const { ask, ran } = await build(t, { hosts }, proxied)
  t.match(await ask({ url: '/', headers: forged, remoteAddress: '198.51.100.7' }), UNTRUSTED, 'from a stranger')
  t.same(ran, [])
  t.equal((await ask({ url: '/', headers: { ...forged, host: 'backend:3000' } })).status, 200, 'from the proxy')
  t.match(await ask({ url: '/', headers: { host: 'api.example.com', 'x-forwarded-host': 'evil.example' } }), UNTRUSTED)
  t.match(await ask({ url: '/', headers: { host: 'api.example.com', 'x-forwarded-host': 'evil.example/x' } }), MALFORMED)
  t.equal((await ask({ url: '/', headers: { host: 'backend', 'x-forwarded-host': 'evil.example, api.example.com' } })).status, 200, 'the last one is the proxy\'s own')
})

t.test('hosts may be added when the port is known', async t => {
  const { app, ask } = await build(t, { hosts: ['api.example.com'] })
  t.match(await ask({ url: '/', headers: { host: 'localhost:3000' } }), UNTRUSTED)
  app.trustHosts(['localhost:3000'])
  t.equal((await ask({ url: '/', headers: { host: 'localhost:3000' } })).status, 200)
  t.throws(() => app.trustHosts(['not a host']), { code: 'FST_BASTION_TRANSPORT_MISCONFIGURED' })
  t.match(app.plan.notFound.controls.transport, { hosts: ['api.example.com', 'localhost:3000'] }, 'and the plan says so')
})

t.test('where HTTPS is required, plain HTTP reaches neither parser nor handler; only navigations are sent on [ASVS 4.1.2] [ASVS 12.2.1]', async t => {
  const { ask, ran, recorded } = await build(t, { hosts: ['api.example.com', '[2001:db8::1]'], requireHttps: true }, proxied)
  const host = 'api.example.com'
  for (const method of ['GET', 'HEAD'] as const) {
    t.match(await ask({ method, url: '/page?x=1', headers: { host } }), { status: 308, location: 'https://api.example.com/page?x=1' }, method)
  }
  t.match(await ask({ url: '/', headers: { host: 'api.example.com:8080' } }), { status: 308, location: 'https://api.example.com/' })
  t.match(await ask({ url: '/', headers: { host: '[2001:db8::1]:8080' } }), { status: 308, location: 'https://[2001:db8::1]/' })
  t.equal(recorded.length, 0, 'a first visit is no event')
  const credentials = [{ authorization: 'Bearer x' }, { cookie: 'session=x' }, { 'x-api-key': 'x' }]
  for (const credential of credentials) t.match(await ask({ url: '/', headers: { host, ...credential } }), { ...REFUSED, location: undefined }, 'with a credential')
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const) t.match(await ask({ method, url: '/', headers: { host } }), { ...REFUSED, location: undefined }, method)
  t.match(await ask({ method: 'POST', url: '/', headers: { host, 'content-type': 'application/json' }, payload: '{ not even JSON' }), REFUSED, 'the parser did not see it')
  t.match(await ask({ method: 'GET', url: '/', headers: { host, 'content-length': '2' }, payload: '{}' }), REFUSED, 'a GET with a body')
  t.match(await ask({ url: '/%zz', headers: { host } }), { ...REFUSED, location: undefined }, 'a URL that nobody can read is not repeated')
  t.same(ran, [])
  t.match(recorded[0], { type: 'plain_http_refused' })
  t.equal((await ask({ url: '/', headers: { host, ...https } })).status, 200, 'over HTTPS')
  t.match(await ask({ url: '/', headers: { host, 'x-forwarded-proto': 'http, https' } }), { status: 200 }, 'the last hop counts')
  t.match(await ask({ url: '/', headers: { host, 'x-forwarded-proto': 'https, http' } }), { status: 308 })
  t.match(await ask({ url: '/', headers: { host, ...https, authorization: 'x' }, remoteAddress: '198.51.100.7' }), REFUSED, 'a stranger is not believed')
  t.equal((await ask({ url: '/health', headers: { host } })).status, 200, 'https: false')
  t.equal(ran.length, 3)

  const off = await build(t, { hosts: ['api.example.com'] })
  t.equal((await off.ask({ url: '/', headers: { host, authorization: 'Bearer x' } })).status, 200, 'negative control: without the option the credential travels in clear')
})

t.test('the redirect goes nowhere but to a host that is ours [ASVS 3.7.2]', async t => {
  const { ask } = await build(t, { hosts: ['api.example.com'], requireHttps: true })
  t.match(await ask({ url: '/', headers: { host: 'evil.example' } }), { ...UNTRUSTED, location: undefined })
  for (const url of ['//evil.example/', '/\\evil.example', '/https://evil.example', '/.evil.example']) {
    const { location } = await ask({ url, headers: { host: 'api.example.com' } })
    if (location !== undefined) t.equal(new URL(location as string).host, 'api.example.com', url)
  }
  const unlisted = await build(t, { requireHttps: true })
  t.match(await unlisted.ask({ url: '/', headers: { host: 'evil.example' } }), { ...REFUSED, location: undefined }, 'without a list nobody is redirected')
  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.addHook('onRequest', async ({ host, url }, reply) => reply.redirect(`https://${host}${url}`, 308))
  bare.get('/*', async () => 'never')
  t.match((await bare.inject({ url: '/', headers: { host: 'evil.example' } })).headers, { location: 'https://evil.example/' }, 'negative control: plain Fastify, with the redirect that people write, leads there')
  const moved = await build(t, { hosts: ['api.example.com'], requireHttps: true, redirectStatus: 301 })
  t.match(await moved.ask({ url: '/', headers: { host: 'api.example.com' } }), { status: 301 })
})

t.test('people are redirected to the port that they see, where the host under it is ours', async t => {
  const { ask } = await build(t, { hosts: ['api.example.com:8443', '*.tenants.example.com', 'local.example:8080'], requireHttps: true, httpsPort: 8443 })
  const moved: [string, string][] = [
    ['api.example.com', 'https://api.example.com:8443/x?y=1'],
    ['API.example.com.:8080', 'https://api.example.com:8443/x?y=1'],
    ['a.tenants.example.com:81', 'https://a.tenants.example.com:8443/x?y=1'],
  ]
  for (const [host, location] of moved) t.match(await ask({ url: '/x?y=1', headers: { host } }), { status: 308, location }, host)
  t.match(await ask({ url: '/', headers: { host: 'local.example:8080' } }), { ...REFUSED, location: undefined }, 'ours, but not under that port')
  for (const host of ['evil.example', 'local.example', 'tenants.example.com', 'a.b.tenants.example.com']) t.match(await ask({ url: '/', headers: { host } }), { ...UNTRUSTED, location: undefined }, host)
})

t.test('what a believed proxy forwards must be readable; from others it is not read [ASVS 4.1.3]', async t => {
  const { ask, ran, recorded } = await build(t, { hosts: ['api.example.com'] }, proxied)
  const host = 'api.example.com'
  const unreadable = { status: 400, code: 'FST_BASTION_TRANSPORT_FORWARDED_MALFORMED' }
  for (const proto of ['HTTPS', 'httpss', 'javascript', 'https:', 'https,', 'wss', '"https"', ',', 'on']) t.match(await ask({ url: '/', headers: { host, 'x-forwarded-proto': proto } }), unreadable, proto)
  for (const address of ['unknown', '_hidden', 'evil.example', '999.1.1.1', '1.2.3', '1.2.3.4, x', '[::1', '1.2.3.4:port', '::1::2', '0x7f000001', '2130706433', `${'9'.repeat(5000)}`]) {
    t.match(await ask({ url: '/', headers: { host, 'x-forwarded-for': address } }), unreadable, address.slice(0, 20))
    t.equal((await ask({ url: '/', headers: { host, 'x-forwarded-for': address }, remoteAddress: '198.51.100.7' })).status, 200, 'a stranger may write what it likes')
  }
  t.equal(ran.length, 12)
  for (const address of ['', ' ', ',', '203.0.113.9', 'x, 203.0.113.9', '203.0.113.9:443', '[2001:db8::1]:443', '2001:db8::1', '::ffff:203.0.113.9', 'fe80::1%eth0', Array(1000).fill('127.0.0.1').join()]) {
    t.equal((await ask({ url: '/', headers: { host, 'x-forwarded-for': address } })).status, 200, address.slice(0, 20))
  }
  for (const proto of ['', 'http', 'https', ' https ', 'javascript, https', 'http,https']) t.equal((await ask({ url: '/', headers: { host, 'x-forwarded-proto': proto } })).status, 200, proto)
  t.match(recorded[0], { type: 'malformed_request', details: { code: unreadable.code } })
})

t.test('beside HTTPS a second server speaks plain HTTP, whose requests take the same way [ASVS 4.1.2, 12.2.1]', async t => {
  const certificate = selfSigned(['localhost'])
  async function listening (t: Test, redirectFrom: { port: number, host?: string } = { port: 0 }, port = 0): Promise<Built & { plain: number, secure: number }> {
    const built = await build(t, { hosts: ['localhost:8443'], requireHttps: true, httpsPort: 8443, redirectFrom }, { fastify: { https: certificate } as never })
    await built.app.listen({ port, host: '127.0.0.1' }).catch(error => {
      throw Object.assign(error, { built })
    })
    return { ...built, plain: (built.app.plainServer!.address() as AddressInfo).port, secure: (built.app.server.address() as AddressInfo).port }
  }
  const { app, plain, secure, ran, recorded } = await listening(t)

  /** The first answer to these bytes, whatever would follow. */
  async function send (lines: string[], port = plain): Promise<Answer & { head: string }> {
    const socket = connect(port, '127.0.0.1')
    t.teardown(() => { socket.destroy() })
    socket.write(lines.join('\r\n'))
    let text = ''
    for await (const chunk of socket.setEncoding('latin1')) {
      text += chunk
      if (text.includes('\r\n\r\n')) break
    }
    const [head = '', body = ''] = text.split('\r\n\r\n')
    return { status: Number(head.split(' ')[1]), code: /"code":"(\w+)"/.exec(body)?.[1], location: /^location: (.*)$/m.exec(head)?.[1], head }
  }
  const host = `Host: localhost:${plain}`
  const moved = await send(['GET /x?y=1 HTTP/1.1', host, '', ''])
  t.match(moved, { status: 308, location: 'https://localhost:8443/x?y=1' })
  t.match(moved.head, /x-content-type-options: nosniff/)
  t.notMatch(moved.head, /strict-transport-security/i, 'no HSTS over plain HTTP')
  t.match(await send(['GET / HTTP/1.1', host, 'Authorization: Bearer x', '', '']), { ...REFUSED, location: undefined })
  t.match(await send(['POST / HTTP/1.1', host, 'Content-Type: application/json', 'Content-Length: 100000', '', '{']), REFUSED, 'before its body is there')
  const broken = connect(plain, '127.0.0.1')
  broken.write(`POST / HTTP/1.1\r\n${host}\r\nContent-Length: 100000\r\n\r\n{`)
  let all = ''
  broken.setEncoding('latin1').on('data', chunk => {
    all += chunk
    broken.end()
  })
  await once(broken, 'close')
  t.equal(all.match(/HTTP\/1\.1/g)?.length, 1, 'and once, where the rest of it breaks off')
  t.match(await send(['GET / HTTP/1.1', 'Host: evil.example', '', '']), { ...UNTRUSTED, location: undefined })
  t.match(await send(['GET / HTTP/1.1', '', '']), MALFORMED)
  t.match(await send(['GET / HTTP/1.1', 'Host: localhost', 'X-Forwarded-Proto: https', '', '']), { status: 308 }, 'nobody is believed')
  t.match(await send(['GET /health HTTP/1.1', 'Host: localhost:8443', '', '']), { status: 200 }, 'https: false')
  t.match(await send(['s3cret', '', '']), { status: 400, code: 'FST_BASTION_SERVER_MALFORMED' })
  t.match(await send(['CONNECT a.example:443 HTTP/1.1', host, '', '']), { status: 405, code: 'FST_BASTION_SERVER_TUNNEL' })
  t.match(await send(['GET / HTTP/1.1', 'Host: localhost', 'Expect: x', '', '']), REFUSED)
  t.same(ran, ['/health'])
  app.events.flush()
  const events = recorded.filter(({ type }) => type !== 'malformed_request')
  t.same(events.map(({ type, details }) => [type, details.times]), [['plain_http_refused', 1], ['untrusted_host', 1], ['plain_http_refused', 3]])

  const asked = getByTls({ port: secure, host: '127.0.0.1', servername: 'localhost', ca: certificate.cert, headers: { host: 'localhost:8443' } })
  const [answer] = await once(asked, 'response')
  answer.resume()
  t.match({ status: answer.statusCode, hsts: answer.headers['strict-transport-security'] }, { status: 200, hsts: /max-age/ }, 'and by TLS it answers')

  const taken = createServer().listen(0, '127.0.0.1')
  t.teardown(() => { taken.close() })
  await once(taken, 'listening')
  const { port: busy } = taken.address() as AddressInfo
  await t.rejects(listening(t, { port: busy, host: '127.0.0.1' }), { code: 'EADDRINUSE' }, 'a port that cannot be had stops the start')
  const error = await listening(t, { port: 0 }, busy).catch((error: Error & { code: string, built: Built }) => error)
  t.match(error, { code: 'EADDRINUSE', built: { app: { plainServer: { listening: false } } } }, 'and neither is left alone')
  await app.close()
  const late = connect(plain, '127.0.0.1')
  t.match((await once(late, 'error'))[0], { code: 'ECONNREFUSED' }, 'and it ends with the service')
})

t.test('it works with only plan, events and errors beside it', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors]) await app.register(plugin)
  await app.register(transport, { hosts: ['api.example.com'] })
  app.get('/', async () => ({ ok: true }))
  t.equal((await app.inject({ url: '/', headers: { host: 'api.example.com' } })).statusCode, 200)
  t.equal((await app.inject({ url: '/', headers: { host: 'evil.example' } })).json().code, UNTRUSTED.code)
})

t.test('misconfiguration stops boot, by name', async t => {
  const wrong: [unknown, RegExp][] = [
    [{ host: ['a'] }, /host: unexpected/],
    [{ hosts: 'a' }, /hosts/],
    [{ hosts: ['*'] }, /"\*" is not a host/],
    [{ hosts: ['https://a.example'] }, /"https:\/\/a.example" is not a host/],
    [{ hosts: ['*.com'] }, /top-level/],
    [{ hosts: ['a.*.example'] }, /not a host/],
    [{ hosts: ['*.*.example.com'] }, /not a host/],
    [{ hosts: ['a.example/'] }, /not a host/],
    [{ redirectStatus: 302 }, /redirectStatus/],
    [{ httpsPort: 0 }, /httpsPort/],
    [{ redirectFrom: 80, requireHttps: true }, /redirectFrom/],
    [{ redirectFrom: { port: 80 } }, /redirectFrom: needs requireHttps/],
    [{ redirectFrom: { port: 80 }, requireHttps: true }, /redirectFrom: is for a server that speaks HTTPS itself/],
    [{ peers: ['postgres://a:s3cret@b/c'] }, /peers/],
  ]
  for (const [options, message] of wrong) {
    const app = Fastify()
    t.teardown(() => app.close())
    await t.rejects(async () => { await app.register(bastion, { transport: options as TransportOptions }) }, { code: 'FST_BASTION_TRANSPORT_MISCONFIGURED', message }, JSON.stringify(options))
  }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(bastion)
  app.get('/', { schema: { response: { 200: Type.Object({}) } }, config: { access: 'public', https: true as never } }, async () => ({}))
  await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message: /GET \/: https: only false/ })
})
