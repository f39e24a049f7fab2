/** Outbound: what users have the service fetch, and what they must not reach by it. */
import { lookup } from 'node:dns/promises'
import http from 'node:http'
import { createServer, type Socket, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { Type } from '@sinclair/typebox'
import Fastify from 'fastify'
import t from 'tap'
import bastion, { server } from '../../plugins/index.js'
import type { OutboundFault, OutboundInit, OutboundOptions, OutboundReason } from '../../plugins/outbound/index.js'
import { selfSigned } from '../wire/certificate.js'
import { build, LOOPBACK_SPELLINGS, METADATA_SPELLINGS, refusalOf, serve } from './build.js'

const isHttpLoopback = (port: number): OutboundOptions => ({ allowHttp: true, allowLoopback: true, ports: [port] })
/** In these tests no public address is ever connected to. */
const PUBLIC = '203.0.114.7'

t.test('https, a known port, a public address: all else is refused before anything is connected', async t => {
  const asked: string[] = []
  const { app, recorded, log } = await build(t, { resolve: async name => { asked.push(name); return ['10.0.0.1'] } })
  for (const [url, reason] of [
    ['http://example.com/', 'protocol'], ['ftp://example.com/', 'protocol'], ['file:///etc/passwd', 'protocol'], ['gopher://example.com/_x', 'protocol'], ['data:text/plain,x', 'protocol'], ['javascript:x', 'protocol'],
    ['blob:https://example.com/x', 'protocol'], ['ws://example.com', 'protocol'], ['dict://example.com:11211/stat', 'protocol'], ['jar:https://example.com!/', 'protocol'],
    ['https://user@example.com/', 'credentials'], ['https://user:secret@example.com/', 'credentials'], ['https://:secret@example.com/', 'credentials'], ['https://example.com@evil.example/', 'credentials'],
    ['https://example.com:22/', 'port'], ['https://example.com:8443/', 'port'], ['https://example.com:6379/', 'port'], ['https://example.com:0/', 'port'],
    ['', 'url'], ['example.com', 'url'], ['//example.com', 'url'], ['/x', 'url'], ['https://', 'url'], ['https://exa mple.com', 'url'], ['https://[::1', 'url'], ['https://1.2.3.4.5/', 'url'], ['https://256.0.0.1/', 'url'], ['https://example.com:99999/', 'url'],
    ['https://[fe80::1%25lo]/', 'url'], [`https://example.com/${'x'.repeat(2048)}`, 'url'], ['https://exam\0ple.com/', 'url'],
    ['https://-x.example/', 'host'], ['https://a_b.example/', 'host'], ['https://x..example/', 'host'], ['https://example.com./', 'host'], [`https://${'a'.repeat(64)}.example/`, 'host'],
    ['https://example.com/', 'address'], ['https://EXAMPLE.com:443/x?y#z', 'address'], ['https://example.com:80/', 'address'],
  ] as [string, OutboundReason][]) t.equal((await refusalOf(t, app.outbound.fetch(url), url)).reason, reason, url.slice(0, 60))
  t.strictSame(asked, ['example.com', 'example.com', 'example.com'], 'a name is looked up only where all else is right')
  t.ok(recorded.length > 30 && recorded.every(({ type }) => type === 'outbound_refused'))
  t.strictSame(recorded.at(-1)!.details, { reason: 'address', host: 'example.com:80', address: '10.0.0.1', kind: 'private' })
  t.notMatch(JSON.stringify(recorded) + log.join(), 'secret', 'no credentials in events')
})

t.test('it answers status, headers and the whole body, over https to the name that the certificate holds [ASVS 12.3.2]', async t => {
  const tls = selfSigned(['hooks.example'])
  const far = await serve(t, (_request, response) => { response.writeHead(201, { 'x-seen': 'yes', 'set-cookie': ['a=1', 'b=2'] }).end('{"ok":true}') }, { tls })
  const names: (string | false)[] = []
  far.server.on('secureConnection', socket => names.push(socket.servername))
  const options: OutboundOptions = { allowLoopback: true, ports: [far.port], ca: tls.cert, resolve: async () => ['127.0.0.1'] }
  const { app, recorded } = await build(t, options)
  const answer = await app.outbound.fetch(new URL(`https://hooks.example:${far.port}/a%20b?c=d#e`), { method: 'POST', headers: { 'Content-Type': 'application/json', 'X-Signature': 'abc' }, body: '{"n":1}' })
  t.match(answer, { status: 201, headers: { 'x-seen': 'yes', 'set-cookie': ['a=1', 'b=2'] }, body: Buffer.from('{"ok":true}'), url: `https://hooks.example:${far.port}/a%20b?c=d` })
  t.match(far.visits, [{ method: 'POST', url: '/a%20b?c=d', body: '{"n":1}', headers: { host: `hooks.example:${far.port}`, 'content-type': 'application/json', 'x-signature': 'abc', 'accept-encoding': 'identity', connection: 'close', 'content-length': '7' } }])
  t.strictSame(names, ['hooks.example'], 'SNI is the name')
  t.strictSame(recorded, [])

  t.equal((await refusalOf(t, app.outbound.fetch(`https://other.example:${far.port}/`), 'another name than that of the certificate')).reason, 'unreachable')
  t.equal((await refusalOf(t, app.outbound.fetch(`https://127.0.0.1:${far.port}/`), 'an address that the certificate does not hold')).reason, 'unreachable')
  const { app: strict } = await build(t, { ...options, ca: undefined })
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
  t.teardown(() => { delete process.env.NODE_TLS_REJECT_UNAUTHORIZED })
  t.equal((await refusalOf(t, strict.outbound.fetch(`https://hooks.example:${far.port}/`), 'nobody vouches for it')).reason, 'unreachable', 'the environment does not switch that off')
  const warn = process.listeners('warning')
  process.removeAllListeners('warning')
  t.equal((await fetch(`https://127.0.0.1:${far.port}/`)).status, 201, 'negative control: for plain fetch it does')
  for (const listener of warn) process.on('warning', listener)
  t.equal(far.visits.length, 2)
})

t.test('a backend whose certificate is not its own, a control that fails and an error that nobody foresaw are in the log, whatever is done with them [ASVS 16.3.4]', async t => {
  const far = await serve(t, (_request, response) => { response.end('{}') }, { tls: selfSigned(['hooks.example']) })
  const outbound: OutboundOptions = { allowLoopback: true, ports: [far.port], ca: selfSigned(['hooks.example']).cert, resolve: async () => ['127.0.0.1'] }
  const url = `https://hooks.example:${far.port}/`
  const log: Record<string, any>[] = []
  const app = Fastify(server({ logger: { level: 'info', stream: { write: (line: string) => { log.push(JSON.parse(line)) } } } }))
  t.teardown(() => app.close())
  await app.register(bastion, { outbound })
  const route = { schema: { response: { 200: Type.Object({ ok: Type.Boolean() }) } }, config: { access: 'public' as const } }
  app.get('/calls', route, async request => ({ ok: await app.outbound.fetch(url, {}, { request }).then(() => true, () => false) }))
  app.get('/records', route, async request => { app.events.record('logout', request); return { ok: true } })
  app.get('/fails', route, async () => { throw new TypeError('nobody foresaw this') })
  app.events.listen(() => { throw new Error('the listener is broken') })
  const lineOf = async (path: string, msg: string) => {
    log.length = 0
    const { headers } = await app.inject(path)
    t.ok(headers)
    return log.find(line => line.msg === msg)
  }
  t.match(await lineOf('/calls', 'an outbound request failed'), { requestId: /./, outbound: { reason: 'unreachable', host: `hooks.example:${far.port}` }, code: /CERT|SIGN/ })
  t.match(await lineOf('/records', 'a security event listener failed'), { level: 50, err: { message: 'the listener is broken' } })
  t.match(await lineOf('/fails', 'request failed'), { level: 50, requestId: /./, err: { type: 'TypeError', message: 'nobody foresaw this', stack: /fetch\.test/ } })
  t.equal(far.visits.length, 0)

  const lines: string[] = []
  const bare = Fastify({ logger: { stream: { write: (line: string) => { lines.push(line) } } } })
  t.teardown(() => bare.close())
  bare.get('/calls', async () => ({ ok: await fetch(`https://127.0.0.1:${far.port}/`).then(() => true, () => false) }))
  t.same((await bare.inject('/calls')).json(), { ok: false })
  t.equal(far.visits.length, 0)
  t.notMatch(lines.join(''), /CERT|SIGN|fetch|127\.0\.0\.1:/, 'negative control: plain Fastify and plain fetch leave no line of it')
})

t.test('attack: no spelling of a loopback address or of the metadata service gets through [ASVS 1.3.6]', async t => {
  const near = await serve(t, (_request, response) => { response.end('inside') })
  const { app, recorded } = await build(t, { allowHttp: true, ports: [near.port, 443, 80] })
  for (const host of [...LOOPBACK_SPELLINGS, ...METADATA_SPELLINGS]) {
    for (const url of [`http://${host}:${near.port}/`, `https://${host}/`, `http://${host}`]) {
      const { reason } = await refusalOf(t, app.outbound.fetch(url), url)
      if (!['address', 'url', 'host'].includes(reason)) t.fail(`${url}: ${reason}`)
    }
  }
  t.strictSame(near.visits, [])
  t.equal(recorded.length, 3 * (LOOPBACK_SPELLINGS.length + METADATA_SPELLINGS.length))

  let reached = 0
  for (const host of LOOPBACK_SPELLINGS) await fetch(`http://${host}:${near.port}/`, { signal: AbortSignal.timeout(500) }).then(async answer => { if (await answer.text() === 'inside') reached++ }, () => {})
  t.ok(reached >= 25, `negative control: plain fetch gets inside by ${reached} of them`)
})

t.test('attack: a name that leads inside, alone or among others, is refused [ASVS 1.3.6]', async t => {
  const near = await serve(t, (_request, response) => { response.end('inside') })
  let answers: string[] = []
  const { app, recorded } = await build(t, { allowHttp: true, ports: [near.port], resolve: async () => answers })
  for (answers of [
    ['127.0.0.1'], ['::1'], [PUBLIC, '127.0.0.1'], ['127.0.0.1', PUBLIC], [PUBLIC, PUBLIC, '::ffff:127.0.0.1'], ['10.1.2.3'], ['169.254.169.254'], ['fd00:ec2::254'], ['64:ff9b::7f00:1'], ['::ffff:10.0.0.1'], ['0.0.0.0'],
    ['127.1'], ['localhost'], ['2606:4700::1%lo'], [''],
  ]) t.equal((await refusalOf(t, app.outbound.fetch(`http://inside.example:${near.port}/`), answers.join())).reason, 'address')
  t.match(recorded[2], { type: 'outbound_refused', details: { reason: 'address', address: '127.0.0.1', kind: 'loopback', host: `inside.example:${near.port}` } })
  const { app: system } = await build(t, { allowHttp: true, ports: [near.port] })
  t.equal((await refusalOf(t, system.outbound.fetch(`http://localhost:${near.port}/`), 'localhost, by the system')).reason, 'address')
  t.strictSame(near.visits, [])
  t.equal(await (await fetch(`http://localhost:${near.port}/`)).text(), 'inside', 'negative control: plain fetch gets there')
})

t.test('attack: a name that leads elsewhere at the second look-up is looked up once (DNS rebinding) [ASVS 1.3.6]', async t => {
  const outside = await serve(t, (_request, response) => { response.end('outside') }, { host: '127.0.0.2' })
  const inside = await serve(t, (_request, response) => { response.end('inside') }, { host: '127.0.0.3', port: outside.port })
  let lookups = 0
  const rebinding = async (): Promise<[string]> => [['127.0.0.2'], ['127.0.0.3']][Math.min(lookups++, 1)] as [string]
  const url = `http://rebind.example:${outside.port}/`
  const { app } = await build(t, { ...isHttpLoopback(outside.port), resolve: rebinding })
  t.equal((await app.outbound.fetch(url)).body.toString(), 'outside')
  t.equal(lookups, 1)
  t.strictSame([outside.visits.length, inside.visits.length], [1, 0])
  t.equal(outside.visits[0]!.headers.host, `rebind.example:${outside.port}`)

  // Looked up, found harmless, and handed on by its name: as guards do that only look.
  lookups = 0
  const [checked] = await rebinding()
  t.equal(checked, '127.0.0.2', 'negative control: what such a guard sees is harmless')
  const got = await new Promise<string>((resolve, reject) => {
    http.get(url, { lookup: (_name, _options, done) => { rebinding().then(([address]) => { done(null, [{ address, family: 4 }]) }, reject) } }, async response => {
      let body = ''
      for await (const chunk of response) body += chunk
      resolve(body)
    }).on('error', reject)
  })
  t.equal(got, 'inside', 'negative control: and then it gets inside')
})

t.test('all addresses of a name are tried, and no others', async t => {
  const far = await serve(t, (_request, response) => { response.end('here') }, { host: '127.0.0.4' })
  const { app } = await build(t, { ...isHttpLoopback(far.port), resolve: async name => name === 'two.example' ? ['127.0.0.5', '127.0.0.4'] : name === 'one.example' ? ['127.0.0.5'] : [] })
  t.equal((await app.outbound.fetch(`http://two.example:${far.port}/`)).body.toString(), 'here')
  t.equal((await refusalOf(t, app.outbound.fetch(`http://one.example:${far.port}/`), 'nobody listens')).reason, 'unreachable')
  t.equal((await refusalOf(t, app.outbound.fetch(`http://none.example:${far.port}/`), 'no addresses')).reason, 'unresolved')
})

t.test('no redirect is followed unless it is said; then each is checked as the first URL was [ASVS 15.3.2]', async t => {
  const inside = await serve(t, (_request, response) => { response.end('inside') }, { host: '127.0.0.3' })
  let location = ''
  let status = 302
  const far = await serve(t, (request, response) => {
    if (request.url === '/') response.writeHead(status, { location }).end()
    else if (request.url === '/loop') response.writeHead(302, { location: '/loop' }).end()
    else response.end(`at ${request.url}`)
  }, { host: '127.0.0.2' })
  // The one server stands for the internet, and the other, of which nothing is allowed, for what is inside.
  const resolve = async (name: string) => name === 'inside.example' ? ['10.0.0.1'] : ['127.0.0.2']
  const { app, recorded } = await build(t, { ...isHttpLoopback(far.port), resolve })
  const start = `http://start.example:${far.port}/`

  location = '/there'
  t.match(await app.outbound.fetch(start), { status: 302, headers: { location: '/there' } }, 'by default the redirect is the answer')
  t.match(await app.outbound.fetch(start, {}, { maxRedirects: 1 }), { status: 200, body: Buffer.from('at /there'), url: `${start}there` })
  for (const last of [1, 2, 5]) {
    const before = far.visits.length
    t.equal((await refusalOf(t, app.outbound.fetch(`${start}loop`, {}, { maxRedirects: last }), 'a loop')).reason, 'redirect')
    t.equal(far.visits.length - before, last + 1)
  }
  for (const [target, reason] of [
    [`http://inside.example:${far.port}/`, 'address'], [`http://10.0.0.1:${far.port}/`, 'address'], [`http://[fd00::1]:${far.port}/`, 'address'], [`http://169.254.169.254:${far.port}/latest/meta-data/`, 'address'], ['http://0xa9fea9fe/', 'port'],
    [`http://127.0.0.3:${inside.port}/`, 'port'], [`//127.0.0.3:${inside.port}/`, 'port'], ['file:///etc/passwd', 'protocol'], ['gopher://x/', 'protocol'], ['javascript:alert(1)', 'protocol'], [`http://u:p@start.example:${far.port}/`, 'credentials'],
    ['http://[', 'url'], [`/${'x'.repeat(3000)}`, 'url'], [`http://a_b.example:${far.port}/`, 'host'],
  ] as [string, OutboundReason][]) {
    location = target
    t.equal((await refusalOf(t, app.outbound.fetch(start, {}, { maxRedirects: 3 }), target)).reason, reason, target.slice(0, 60))
  }
  t.strictSame(inside.visits, [])
  t.ok(recorded.length >= 14)
  location = `http://127.0.0.3:${inside.port}/`
  t.equal(await (await fetch(`http://127.0.0.2:${far.port}/`)).text(), 'inside', 'negative control: plain fetch follows it inside')
  status = 307
  t.equal(await (await fetch(`http://127.0.0.2:${far.port}/`, { method: 'POST', body: 'x' })).text(), 'inside')
})

t.test('attack: a redirect does not take credentials to another origin, nor from https to http', async t => {
  const tls = selfSigned(['a.example', 'b.example'])
  const plainServer = await serve(t, (_request, response) => { response.end('plain') })
  let location = ''
  let status = 302
  const far = await serve(t, (request, response) => {
    if (request.url === '/') response.writeHead(status, { location }).end()
    else response.end('there')
  }, { tls })
  const { app } = await build(t, { allowHttp: true, allowLoopback: true, ports: [far.port, plainServer.port], ca: tls.cert, maxRedirects: 2, resolve: async () => ['127.0.0.1'] })
  const headers = { Authorization: 'Bearer secret', Cookie: 'a=secret', 'X-Api-Key': 'secret', 'X-Hub-Signature': 'secret', Accept: 'text/plain', 'Content-Type': 'text/plain' }
  const go = async (to: string, init: OutboundInit = {}) => {
    location = to
    await app.outbound.fetch(`https://a.example:${far.port}/`, { headers, ...init })
    return far.visits.at(-1)!
  }
  t.match((await go('/there')).headers, { authorization: 'Bearer secret', cookie: 'a=secret', 'x-api-key': 'secret', accept: 'text/plain' }, 'the same origin is the same')
  const elsewhere = await go(`https://b.example:${far.port}/there`)
  t.equal(elsewhere.headers.host, `b.example:${far.port}`)
  t.equal(elsewhere.headers.accept, 'text/plain')
  t.notMatch(JSON.stringify(elsewhere.headers), 'secret')

  for (const [code, method, then, body] of [[301, 'POST', 'GET', ''], [302, 'POST', 'GET', ''], [303, 'POST', 'GET', ''], [303, 'PUT', 'GET', ''], [302, 'PUT', 'PUT', 'body'], [307, 'POST', 'POST', 'body'], [308, 'PATCH', 'PATCH', 'body']] as const) {
    status = code
    const seen = await go('/there', { method, body: 'body' })
    t.match(seen, { method: then, body }, `${code} ${method}`)
    t.equal(seen.headers['content-type'], then === 'GET' ? undefined : 'text/plain')
  }
  for (const code of [301, 302, 303, 307, 308]) {
    status = code
    t.equal((await refusalOf(t, go(`http://a.example:${plainServer.port}/`), `${code} to http`)).reason, 'redirect')
  }
  status = 300
  t.equal((await go('/there')).url, '/', 'other statuses are answers')
  t.strictSame(plainServer.visits, [])
})

t.test('an answer is bounded: what it says will come, what comes, and its headers', async t => {
  let endless = 0
  const far = await serve(t, (request, response) => {
    switch (request.url) {
      case '/said': response.writeHead(200, { 'content-length': 10_000_000_000 }).write('x'); break
      case '/endless': {
        const more = () => { if (!response.destroyed) { endless++; response.write('x'.repeat(1000), () => setImmediate(more)) } }
        more()
        break
      }
      case '/headers': response.writeHead(200, { 'x-much': 'x'.repeat(20_000) }).end(); break
      case '/half': response.writeHead(200, { 'content-length': 100 }).write('half', () => { response.destroy() }); break
      case '/packed': response.writeHead(200, { 'content-encoding': 'gzip' }).end(Buffer.from('1f8b', 'hex')); break
      case '/nothing': response.socket!.end(); break
      case '/upgrade': response.socket!.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n'); break
      case '/garbage': response.socket!.end('SSH-2.0-OpenSSH_9.6\r\n'); break
      default: response.writeHead(200, { 'content-length': 1000 }).end(request.method === 'HEAD' ? '' : 'x'.repeat(1000))
    }
  })
  const { app, recorded, log } = await build(t, { ...isHttpLoopback(far.port), maxBytes: 1000 })
  const go = (path: string, options = {}) => app.outbound.fetch(`http://127.0.0.1:${far.port}${path}`, {}, options)
  t.equal((await go('/exact')).body.length, 1000)
  t.equal((await app.outbound.fetch(`http://127.0.0.1:${far.port}/`, { method: 'HEAD' }, { maxBytes: 10 })).status, 200, 'HEAD has no body that could be too large')
  t.equal((await go('/packed')).body.toString('hex'), '1f8b', 'nothing is unpacked')
  for (const [path, reason] of [['/said', 'too-large'], ['/endless', 'too-large'], ['/headers', 'unreachable'], ['/half', 'unreachable'], ['/nothing', 'unreachable'], ['/upgrade', 'unreachable'], ['/garbage', 'unreachable']] as const) {
    t.equal((await refusalOf(t, go(path), path)).reason, reason, path)
  }
  t.equal((await refusalOf(t, go('/exact', { maxBytes: 999 }), 'by the request')).reason, 'too-large')
  t.ok(endless < 2000, `it stopped after ${endless} parts`)
  t.strictSame(recorded, [], 'failures of others are no security events')
  t.equal(log.filter(line => line.includes('an outbound request failed')).length, 8)
})

t.test('all of it is over in time, whatever hangs', async t => {
  const silent = createServer(socket => { sockets.add(socket); socket.on('error', () => {}).resume() })
  const sockets = new Set<Socket>()
  silent.listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => { for (const socket of sockets) socket.destroy(); silent.close() })
  const { port } = silent.address() as AddressInfo
  const slow = await serve(t, (request, response) => {
    if (request.url === '/again') { setTimeout(() => { response.writeHead(302, { location: '/again' }).end() }, 30); return }
    response.write('x')
    const timer = setInterval(() => { response.write('x') }, 20)
    response.on('close', () => { clearInterval(timer) })
  })
  let isHanging = false
  const { app } = await build(t, { allowHttp: true, allowLoopback: true, ports: [port, slow.port], timeout: 150, maxRedirects: 20, resolve: () => isHanging ? new Promise(() => {}) : Promise.resolve(['127.0.0.1']) })
  for (const [what, url] of [['no answer', `http://a.example:${port}/`], ['drops', `http://a.example:${slow.port}/`], ['redirects', `http://a.example:${slow.port}/again`]] as const) {
    const began = performance.now()
    t.equal((await refusalOf(t, app.outbound.fetch(url), what)).reason, 'timeout', what)
    t.ok(performance.now() - began < 2000, what)
  }
  isHanging = true
  t.equal((await refusalOf(t, app.outbound.fetch(`http://a.example:${port}/`), 'a look-up')).reason, 'timeout')
  isHanging = false
  while ([...sockets].some(socket => !socket.destroyed)) await new Promise(resolve => setImmediate(resolve))
  t.pass('connections are closed')

  const ending = new AbortController()
  const aborted = refusalOf(t, app.outbound.fetch(`http://a.example:${port}/`, { signal: ending.signal }, { timeout: 60_000 }), 'aborted')
  ending.abort()
  t.equal((await aborted).reason, 'aborted')
  t.equal((await refusalOf(t, app.outbound.fetch(`http://a.example:${port}/`, { signal: ending.signal }), 'aborted before')).reason, 'aborted')
  const closed = refusalOf(t, app.outbound.fetch(`http://a.example:${port}/`, {}, { timeout: 60_000 }), 'closing')
  await app.close()
  t.equal((await closed).reason, 'aborted', 'a service that closes does not wait for it')
})

t.test('the proxy of the environment is not asked', async t => {
  const proxy = await serve(t, (_request, response) => { response.end('proxy') })
  const far = await serve(t, (_request, response) => { response.end('far') })
  const env = { HTTP_PROXY: '', http_proxy: '', ALL_PROXY: '', NODE_USE_ENV_PROXY: '1' }
  for (const name of Object.keys(env)) process.env[name] = name === 'NODE_USE_ENV_PROXY' ? '1' : `http://127.0.0.1:${proxy.port}`
  t.teardown(() => { for (const name of Object.keys(env)) delete process.env[name] })
  const { app } = await build(t, isHttpLoopback(far.port))
  t.equal((await app.outbound.fetch(`http://127.0.0.1:${far.port}/`)).body.toString(), 'far')
  t.strictSame(proxy.visits, [])
})

t.test('hosts: only those that are listed; a request may narrow the list, and never widens it', async t => {
  const far = await serve(t, (_request, response) => { response.end('far') })
  const { app } = await build(t, { ...isHttpLoopback(far.port), hosts: ['API.example', '*.hooks.example', 'bücher.example', '127.0.0.1'], resolve: async () => ['127.0.0.1'] })
  const go = (host: string, options = {}) => app.outbound.fetch(`http://${host}:${far.port}/`, {}, options)
  for (const host of ['api.example', 'API.EXAMPLE', 'a.hooks.example', 'a.b.hooks.example', 'xn--bcher-kva.example', 'BÜCHER.example', '127.0.0.1', '0x7f.1']) t.equal((await go(host)).status, 200, host)
  for (const host of ['hooks.example', 'evilhooks.example', 'api.example.evil.example', 'xapi.example', 'a.api.example', '127.0.0.2', 'localhost', '[::1]', '.hooks.example']) {
    t.match((await refusalOf(t, go(host), host)).reason, /^(?:host|url)$/, host)
  }
  t.equal((await go('api.example', { hosts: ['api.example', 'other.example'] })).status, 200)
  for (const [host, hosts] of [['other.example', ['other.example']], ['a.hooks.example', ['api.example']]] as const) t.equal((await refusalOf(t, go(host, { hosts }), host)).reason, 'host')
})

t.test('resolve gives addresses that are checked, for those who connect by other means', async t => {
  let answers: string[] = []
  const { app, recorded } = await build(t, { resolve: async name => { if (name === 'gone.example') throw Object.assign(new Error('x'), { code: 'ENOTFOUND' }); return answers } })
  answers = [PUBLIC, '2606:4700::1']
  t.strictSame(await app.outbound.resolve('Example.com'), answers)
  t.strictSame(await app.outbound.resolve(PUBLIC), [PUBLIC])
  t.strictSame(await app.outbound.resolve('2606:4700::1'), ['2606:4700::1'])
  for (const [host, reason] of [
    ['gone.example', 'unresolved'], ['127.0.0.1', 'address'], ['::1', 'address'], ['::ffff:8.8.8.8', 'address'], ['10.0.0.1', 'address'], ['2130706433', 'host'], ['0x7f000001', 'host'], ['127.1', 'host'], ['0177.0.0.1', 'host'],
    ['[::1]', 'host'], ['2606:4700::1%lo', 'host'], ['example.com.', 'host'], ['example.com/x', 'host'], ['example.com:80', 'host'], ['u@example.com', 'host'], ['', 'host'], [' ', 'host'], ['-rf', 'host'], ['a;id', 'host'], ['a\nb', 'host'], ['a\0b', 'host'], ['x'.repeat(100_000), 'host'],
  ] as [string, OutboundReason][]) t.equal((await refusalOf(t, app.outbound.resolve(host), host)).reason, reason, host.slice(0, 30))
  answers = [PUBLIC, '192.168.0.1']
  t.equal((await refusalOf(t, app.outbound.resolve('example.com'), 'one of several')).reason, 'address')
  t.ok(recorded.every(({ details }) => String(details.host).length <= 253))
  const { app: listed } = await build(t, { hosts: ['2606:4700::1', 'a.example'].map(host => host.includes(':') ? `[${host}]` : host), resolve: async () => [PUBLIC] })
  t.strictSame(await listed.outbound.resolve('2606:4700:0::1'), ['2606:4700:0::1'])
  t.equal((await refusalOf(t, listed.outbound.resolve('b.example'), 'not listed')).reason, 'host')
})

t.test('all refusals are one to the caller, on a real route too', async t => {
  const { default: bastion, server } = await import('../../plugins/index.js')
  const { default: Fastify } = await import('fastify')
  const { Type } = await import('@sinclair/typebox')
  const near = await serve(t, (_request, response) => { response.end('inside') })
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, { transport: { hosts: ['localhost'] }, outbound: { timeout: 300, ports: [443, near.port], resolve: async name => { if (name === 'gone.example') throw new Error('x'); return ['10.0.0.1'] } } })
  const events: unknown[] = []
  app.events.listen(({ type, route, address, details }) => { events.push({ type, route, address, details }) })
  app.get('/preview', {
    schema: { querystring: Type.Object({ url: Type.String() }), response: { 200: Type.Object({ status: Type.Integer() }) } }, config: { access: 'public' },
  }, async request => app.outbound.fetch((request.query as { url: string }).url, {}, { request }))
  const bodies = new Set<string>()
  for (const url of [`https://127.0.0.1:${near.port}/`, 'https://gone.example/', 'https://inside.example/', 'ftp://x/', 'nonsense', 'https://example.com:22/']) {
    const answer = await app.inject({ url: `http://localhost/preview?url=${encodeURIComponent(url)}`, remoteAddress: '198.51.100.9' })
    t.equal(answer.statusCode, 400, url)
    bodies.add(JSON.stringify({ ...answer.json(), requestId: '' }))
  }
  t.equal(bodies.size, 1)
  t.match([...bodies][0], 'FST_BASTION_OUTBOUND_REFUSED')
  t.match(events[0], { type: 'outbound_refused', route: '/preview', address: '198.51.100.9', details: { reason: 'address', kind: 'loopback' } })
  t.strictSame(near.visits, [])
})

t.test('mistakes of the program are told to the program', async t => {
  const far = await serve(t, (_request, response) => { response.end() })
  const { app } = await build(t, isHttpLoopback(far.port))
  const go = (init: object, options: object = {}) => app.outbound.fetch(`http://127.0.0.1:${far.port}/`, init, options)
  for (const init of [
    { method: 'get' }, { method: 'CONNECT' }, { method: 'TRACE' }, { method: 'GET\r\nx: y' }, { body: 'x' }, { method: 'HEAD', body: 'x' }, { method: 'POST', body: {} }, { headers: { Host: 'evil.example' } }, { headers: { 'transfer-encoding': 'chunked' } },
    { headers: { 'content-length': '1' } }, { headers: { connection: 'upgrade' } }, { headers: { 'accept-encoding': 'gzip' } }, { headers: { 'x-a': 'b\r\nx-injected: 1' } }, { headers: { 'x a': 'b' } }, { headers: { 'x-a': undefined } },
  ]) await t.rejects(go(init), TypeError, JSON.stringify(init))
  for (const options of [{ maxBytes: NaN }, { maxBytes: -1 }, { timeout: 0 }, { timeout: '5' }, { timeout: 2 ** 31 }, { maxRedirects: 21 }, { hosts: [] }, { hosts: ['http://x'] }, { allowHttp: true }, { ports: [22] }, { allowLoopback: true }]) {
    await t.rejects(go({}, options), { code: 'FST_BASTION_OUTBOUND_MISCONFIGURED', statusCode: 500 }, JSON.stringify(options))
  }
  t.strictSame(far.visits, [])
})

t.test('a wrong option stops boot', async t => {
  for (const [options, name] of [
    [{ port: [1] }, 'port'], [{ ports: [] }, 'ports'], [{ ports: [0] }, 'ports.0'], [{ ports: ['443'] }, 'ports.0'], [{ timeout: 0 }, 'timeout'], [{ maxBytes: -1 }, 'maxBytes'], [{ maxRedirects: true }, 'maxRedirects'], [{ allowLoopback: 1 }, 'allowLoopback'],
    [{ hosts: [] }, 'hosts'], [{ hosts: [''] }, 'hosts.0'], [{ hosts: ['*'] }, 'hosts'], [{ hosts: ['https://example.com'] }, 'hosts'], [{ hosts: ['example.com:443'] }, 'hosts'], [{ hosts: ['example.com/x'] }, 'hosts'], [{ hosts: ['*.10.0.0.1'] }, 'hosts'], [{ hosts: ['a.*.example'] }, 'hosts'],
    [{ maxHeaderBytes: 1 }, 'maxHeaderBytes'], [{ resolve: true }, 'resolve'], [{ ca: Buffer.from('x') }, 'ca'],
  ] as [OutboundOptions, string][]) {
    await t.rejects(build(t, options), { code: 'FST_BASTION_OUTBOUND_MISCONFIGURED', message: new RegExp(`^outbound: ${name}`) }, JSON.stringify(options))
  }
  process.env.NODE_ENV = 'production'
  t.teardown(() => { delete process.env.NODE_ENV })
  await t.rejects(build(t, { allowLoopback: true }), { message: 'outbound: allowLoopback: is for development' })
})

t.test('what it says of the system is so: localhost is a loopback address', async t => {
  const found = await lookup('localhost', { all: true })
  const { app } = await build(t, { allowLoopback: true })
  t.strictSame((await app.outbound.resolve('localhost')).sort(), found.map(({ address }) => address).sort())
  const fault: OutboundFault = await refusalOf(t, (await build(t)).app.outbound.resolve('localhost'), 'localhost')
  t.match(fault, { reason: 'address', details: { kind: 'loopback' } })
})
