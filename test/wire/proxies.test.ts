/** Proxies: a real nginx and a real Caddy with the files of docs/, in front of the suite. What the service believes is what the proxy knows. */
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import http2 from 'node:http2'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import rateLimit from '@fastify/rate-limit'
import Fastify, { type FastifyInstance } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server } from '../../plugins/index.js'
import { closed } from '../../schemas/closed.js'
import { caddy, nginx, type Proxy } from '../services.js'
import { selfSigned } from './certificate.js'

t.setTimeout(120_000)
const HOST = 'api.example.com'
const certificate = selfSigned([HOST])
/** Whom the proxies see: Linux has all of 127.0.0.0/8. The service trusts 127.0.0.1 alone. */
const CLIENT = '127.0.0.2'
const OTHER = '127.0.0.3'
const FORGED = ['X-Forwarded-For: 192.0.2.66', 'X-Forwarded-Proto: http', 'X-Forwarded-Host: evil.example', 'X-Forwarded-Port: 81', 'X-Real-IP: 192.0.2.66', 'Forwarded: for=192.0.2.66;host=evil.example;proto=http']
/** Milliseconds after which a connection that says nothing more is given up. */
const SILENT_MS = 20_000

interface Answer { status: number, headers: Record<string, string>, body: string, json: Record<string, unknown> }
interface Sent { from?: string, plain?: boolean, port?: number, silentMs?: number }
interface Service { app: FastifyInstance, port: number, ran: string[], log: Record<string, unknown>[], arrived: () => number }

async function build (t: Test): Promise<Service> {
  const ran: string[] = []
  const log: Record<string, unknown>[] = []
  const app = Fastify(server({ logger: { level: 'info', stream: { write: (line: string) => { log.push(JSON.parse(line)) } } }, trustProxy: '127.0.0.1' }))
  t.teardown(() => app.close())
  await app.register(bastion, { transport: { hosts: [HOST], requireHttps: true }, validation: { maxText: 250_000 } })
  const Who = Type.Object({ path: Type.String(), ip: Type.String(), protocol: Type.String(), host: Type.String(), more: Type.Array(Type.String()) })
  const open = { schema: { response: { 200: Who } }, config: { access: 'public' as const } }
  const who = async ({ url, ip, protocol, host, headers }: { url: string, ip: string, protocol: string, host: string, headers: object }) => {
    ran.push(url)
    return { path: url, ip, protocol, host, more: Object.keys(headers).filter(name => /^(?:forwarded|proxy|x-)/.test(name)).sort() }
  }
  app.get('/*', open, who)
  app.get('/open', { ...open, config: { ...open.config, https: false } }, who)
  app.get('/limited', { ...open, config: { ...open.config, limits: { windows: ['2/minute'], by: 'address' } } }, who)
  app.post('/*', { ...open, schema: { ...open.schema, body: closed({ a: Type.String({ maxLength: 250_000 }) }) } }, who)
  let arrived = 0
  app.server.on('request', () => { arrived += 1 })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, port: (app.server.address() as AddressInfo).port, ran, log, arrived: () => arrived }
}

/** With paths and ports of this machine, and less patience with slow heads. */
function documented (name: 'nginx.conf' | 'Caddyfile', folder: string, changes: [string | RegExp, string][]): string {
  writeFileSync(join(folder, 'api.pem'), certificate.cert)
  writeFileSync(join(folder, 'api.key'), certificate.key)
  let text = readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8')
  for (const [from, to] of [['/etc/ssl/', `${folder}/`], ...changes] as [string | RegExp, string][]) {
    const changed = text.replaceAll(from, to)
    if (changed === text) throw new Error(`${name}: ${String(from)} is not in it`)
    text = changed
  }
  return text
}

const PROXIES: Record<string, (t: Test, service: number, changes?: [string, string][]) => Promise<Proxy | null>> = {
  nginx: (t, service, changes = []) => nginx(t, ({ plainPort, tlsPort }, folder) => documented('nginx.conf', folder, [
    ...changes,
    ['127.0.0.1:3000', `127.0.0.1:${service}`], ['listen 80', `listen 127.0.0.1:${plainPort}`], ['listen 443', `listen 127.0.0.1:${tlsPort}`],
    ['client_header_timeout 15s', 'client_header_timeout 4s'],
  ])),
  Caddy: (t, service) => caddy(t, ({ plainPort, tlsPort }, folder) => documented('Caddyfile', folder, [
    ['127.0.0.1:3000', `127.0.0.1:${service}`], ['http://api.example.com {', `http://api.example.com:${plainPort} {`], ['https://api.example.com {', `https://api.example.com:${tlsPort} {`],
    [/^http:\/\/ \{/gm, `http://:${plainPort} {`], [/^https:\/\/ \{/gm, `https://:${tlsPort} {`], ['admin off', 'admin off\n\tdefault_bind 127.0.0.1'], ['read_header 15s', 'read_header 4s'],
  ])),
}

for (const [name, start] of Object.entries(PROXIES)) {
  t.test(`${name}, as docs/ has it`, async t => {
    const service = await build(t)
    const proxy = await start(t, service.port)
    if (proxy === null) return
    const { ran } = service

    /** Sends bytes as they are, by TLS unless told otherwise, and nothing more once an answer is there; answers all that came. */
    async function send (text: string, { from = CLIENT, plain = false, port = plain ? proxy!.plainPort : proxy!.tlsPort, silentMs = SILENT_MS }: Sent = {}): Promise<Answer[]> {
      const raw = connect({ port, host: '127.0.0.1', localAddress: from })
      raw.on('error', () => {})
      const socket: Socket = plain ? raw : connectTls({ socket: raw, servername: HOST, ca: certificate.cert, ALPNProtocols: ['http/1.1'] })
      t.teardown(() => { raw.destroy() })
      let received = ''
      socket.on('error', () => {}).setEncoding('latin1').on('data', chunk => {
        received += chunk
        if (parse(received).length > 0) socket.end()
      })
      socket.setTimeout(silentMs, () => { socket.destroy() })
      socket.write(text, 'latin1')
      await new Promise(resolve => { socket.once('close', resolve) })
      return parse(received)
    }
    const get = async (path: string, { lines = [], ...more }: Sent & { lines?: string[] } = {}) => (await send(`GET ${path} HTTP/1.1\r\n${[`Host: ${HOST}`, ...lines].join('\r\n')}\r\n\r\n`, more))[0]!
    const post = async (path: string, body: string, { lines = [], ...more }: Sent & { lines?: string[] } = {}) =>
      (await send(`POST ${path} HTTP/1.1\r\n${[`Host: ${HOST}`, 'Content-Type: application/json', `Content-Length: ${body.length}`, ...lines].join('\r\n')}\r\n\r\n${body}`, more))[0]!

    await t.test('the service knows address, protocol and host of the client, and HSTS goes out [ASVS 4.1.3, 3.4.1]', async t => {
      const answer = await get('/a//b/%2e%2e/c?x=1')
      t.match(answer, { status: 200, json: { path: '/a//b/%2e%2e/c?x=1', ip: CLIENT, protocol: 'https', host: HOST } }, 'the URL arrives as it was sent')
      t.match(answer.headers, { 'strict-transport-security': /max-age=63072000/, 'x-content-type-options': 'nosniff', 'content-security-policy': /default-src 'none'/ })
      t.match((await get('/', { from: OTHER })).json, { ip: OTHER })
    })

    await t.test('forged X-Forwarded-* and Forwarded of a client are replaced [ASVS 4.1.3]', async t => {
      for (const lines of [FORGED, ['X-Forwarded-For: 127.0.0.1, 127.0.0.1'], ['X-Forwarded-Proto: https, http', 'X-Forwarded-For: ', 'X-Forwarded-Host: '], FORGED.flatMap(line => [line, line]), ['X_Forwarded_For: 192.0.2.66']]) {
        const { status, json } = await get('/', { lines })
        t.match({ status, json }, { status: 200, json: { ip: CLIENT, protocol: 'https', host: HOST } }, lines.join())
        t.same((json.more as string[]).filter(header => !['x-forwarded-for', 'x-forwarded-proto'].includes(header)), [], 'and nothing else of the kind arrives')
      }
      const careless = Fastify({ trustProxy: true })
      t.teardown(() => careless.close())
      careless.get('/', async ({ ip, host }) => ({ ip, host }))
      await careless.listen({ port: 0, host: '127.0.0.1' })
      t.match(await get('/', { lines: FORGED, plain: true, port: (careless.server.address() as AddressInfo).port }), { json: { ip: '192.0.2.66', host: 'evil.example' } }, 'negative control: a service that trusts everybody, and has no proxy')
    })

    await t.test('limits count the client, and not the proxy, and the log names it, whatever it says of itself [TRAP 20] [ASVS 15.3.4]', async t => {
      const ask = async (port?: number) => {
        const statuses: number[] = []
        for (let i = 0; i < 3; i++) statuses.push((await get('/limited', { lines: [`X-Forwarded-For: 192.0.2.${i}`, `X-Real-IP: 192.0.2.${i}`, `Forwarded: for=192.0.2.${i}`], ...port !== undefined && { port, plain: true } })).status)
        return statuses
      }
      service.log.length = 0
      t.same(await ask(), [200, 200, 429], 'another address in the header is no other client')
      t.equal((await get('/limited', { from: OTHER })).status, 200)
      t.same(service.log.filter(({ msg }) => msg === 'request').map(({ address }) => address), [CLIENT, CLIENT, CLIENT, OTHER])
      t.match(service.log.find(({ msg }) => msg === 'rate_limited'), { event: { address: CLIENT } })
      t.notMatch(JSON.stringify(service.log), '192.0.2.')

      const lines: string[] = []
      const careless = Fastify({ trustProxy: true, logger: { stream: { write: (line: string) => { lines.push(line) } } } })
      t.teardown(() => careless.close())
      await careless.register(rateLimit, { max: 2, timeWindow: 60_000 })
      careless.get('/limited', async () => 'in')
      await careless.listen({ port: 0, host: '127.0.0.1' })
      t.same(await ask((careless.server.address() as AddressInfo).port), [200, 200, 200], 'negative control: the official limiter where everybody is believed')
      t.match(lines.join(''), '"remoteAddress":"192.0.2.2"', 'and so is the log')
    })

    await t.test('plain HTTP: safe navigations are redirected, the rest is refused before its body is there [ASVS 4.1.2, 12.2.1]', async t => {
      ran.length = 0
      const moved = await get('/page?x=1', { plain: true, lines: ['X-Forwarded-Proto: https'] })
      t.match({ status: moved.status, location: moved.headers.location, hsts: moved.headers['strict-transport-security'] }, { status: 308, location: `https://${HOST}/page?x=1`, hsts: undefined })
      const refusal = { status: 403, json: { code: 'FST_BASTION_TRANSPORT_HTTPS_REQUIRED' } }
      t.match(await get('/', { plain: true, lines: ['Authorization: Bearer x'] }), refusal)
      t.match(await post('/', '{"a":"b"}', { plain: true, lines: FORGED }), refusal)
      // Caddy hands on what it has read when it is done with it.
      if (name === 'nginx') {
        const [early] = await send(`POST / HTTP/1.1\r\nHost: ${HOST}\r\nContent-Type: application/json\r\nContent-Length: 200000\r\n\r\n{`, { plain: true })
        t.match(early, refusal, 'with one byte of what was announced')
      }
      t.match(await get('/open', { plain: true }), { status: 200, json: { protocol: 'http', ip: CLIENT } }, 'https: false')
      t.same(ran, ['/open'])
    })

    await t.test('past the proxy nobody is believed', async t => {
      const direct = { plain: true, port: service.port }
      ran.length = 0
      t.match(await post('/', '{"a":"b"}', { ...direct, lines: ['X-Forwarded-Proto: https', 'Authorization: Bearer x'] }), { status: 403, json: { code: 'FST_BASTION_TRANSPORT_HTTPS_REQUIRED' } })
      t.same(ran, [])
      t.match(await get('/open', { ...direct, lines: FORGED }), { status: 200, json: { ip: CLIENT, protocol: 'http', host: HOST } })
      t.match(await get('/open', { ...direct, lines: FORGED, from: '127.0.0.1' }), { status: 421 }, 'negative control: from where the proxy is, all of it is')
    })

    await t.test('other hosts are refused, by certificate and by name', async t => {
      ran.length = 0
      for (const plain of [true, false]) {
        for (const host of ['evil.example', `${HOST}.evil.example`, '127.0.0.1']) {
          const [answer] = await send(`GET /open HTTP/1.1\r\nHost: ${host}\r\n\r\n`, { plain })
          t.equal(answer?.status, 421, `${host} ${plain ? 'plain' : 'by TLS'}`)
        }
        for (const target of ['http://evil.example/open', 'https://evil.example/open']) {
          const [answer] = await send(`GET ${target} HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`, { plain })
          t.ok(answer === undefined || (answer.status >= 400 && answer.status < 500), `${target} ${plain ? 'plain' : 'by TLS'}: ${answer?.status}`)
        }
      }
      t.same(ran, [])
      const socket = connectTls({ port: proxy.tlsPort, host: '127.0.0.1', servername: 'evil.example', rejectUnauthorized: false })
      const [error] = await once(socket, 'error')
      t.match(error.code, /^ERR_SSL/, 'a name that is not ours gets no certificate')
      for (const headers of [{ ':authority': HOST, host: 'evil.example' }, { ':authority': 'evil.example', host: HOST }]) {
        const session = http2.connect(`https://127.0.0.1:${proxy.tlsPort}`, { servername: HOST, ca: certificate.cert, localAddress: CLIENT } as object)
        t.teardown(() => { session.destroy() })
        const stream = session.request({ ':path': '/', ...headers })
        let body = ''
        stream.on('error', () => {}).setEncoding('utf8').on('data', chunk => { body += chunk })
        await once(stream, 'close')
        session.close()
        t.notMatch(body, 'evil.example', `HTTP/2 ${JSON.stringify(headers)}`)
      }
    })

    await t.test('proxy and service agree where a request ends', async t => {
      const smuggled = `GET /smuggled HTTP/1.1\r\nHost: ${HOST}\r\nX: `
      const head = `POST /first HTTP/1.1\r\nHost: ${HOST}\r\nContent-Type: application/json\r\n`
      const shapes: [string, string][] = [
        ['both lengths', `${head}Content-Length: ${smuggled.length + 5}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`],
        ['both lengths, the other way', `${head}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n${smuggled}\r\n0\r\n\r\n`],
        ['two lengths', `${head}Content-Length: 0\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`],
        ['two lengths in one field', `${head}Content-Length: 0, ${smuggled.length}\r\n\r\n${smuggled}`],
        ['a signed length', `${head}Content-Length: +${smuggled.length}\r\n\r\n${smuggled}`],
        ['a length in hex', `${head}Content-Length: 0x10\r\n\r\n${smuggled}`],
        ['an unknown coding', `${head}Content-Length: 0\r\nTransfer-Encoding: xchunked\r\n\r\n${smuggled}`],
        ['a coding after a space', `${head}Content-Length: 0\r\nTransfer-Encoding : chunked\r\n\r\n${smuggled}`],
        ['a coding after a tab', `${head}Content-Length: ${smuggled.length}\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n${smuggled}`],
        ['a coding behind a vertical tab', `${head}Content-Length: 0\r\nTransfer-Encoding: \x0bchunked\r\n\r\n${smuggled}`],
        ['two codings', `${head}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n${smuggled}`],
        ['a folded coding', `${head}Content-Length: 0\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n${smuggled}`],
        ['a chunk size that is none', `${head}Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n${smuggled}`],
        ['a chunk size that overflows', `${head}Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n${smuggled}`],
        ['an extension with a line feed', `${head}Transfer-Encoding: chunked\r\n\r\n0;a\nb\r\n\r\n${smuggled}`],
        ['a coding in HTTP/1.0', `POST /first HTTP/1.0\r\nHost: ${HOST}\r\nConnection: keep-alive\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n${smuggled}`],
        ['a body of a GET', `GET /first HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`],
        ['a carriage return alone', `GET /first HTTP/1.1\r\nHost: ${HOST}\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n${smuggled}`],
        ['a null', `GET /first HTTP/1.1\r\nHost: ${HOST}\r\nX: a\x00b\r\n\r\n`],
        ['a line feed in the target', `GET /first\nX: HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`],
      ]
      for (const [name, text] of shapes) {
        const before = service.arrived()
        // What follows a whole request is the next one of the same client, and lacks its end: it never is one.
        const answers = await send(text, { silentMs: 1000 })
        t.ok(answers.every(({ status, json }) => status < 500 || json.code === undefined), `${name}: ${answers.map(({ status }) => status).join() || 'no answer'}`)
        t.ok(service.arrived() - before <= 1, 'it was one request at most')
        t.match(await get('/victim', { from: OTHER }), { status: 200, json: { path: '/victim', ip: OTHER } }, 'and the next client gets its own answer')
      }
      t.notOk(ran.includes('/smuggled'))
    })

    await t.test('sizes have limits, and so have times', async t => {
      ran.length = 0
      const whole = await post('/', JSON.stringify({ a: 'a'.repeat(200_000) }))
      t.match({ status: whole.status, json: whole.json }, { status: 200, json: { path: '/' } })
      const { status } = await post('/', JSON.stringify({ a: 'a'.repeat(300_000) }))
      t.equal(status, 413)
      const [large] = await send(`GET / HTTP/1.1\r\nHost: ${HOST}\r\nX: ${'x'.repeat(40_000)}\r\n\r\n`)
      t.ok(large === undefined || [400, 431, 494].includes(large.status), `a large head: ${large?.status}`)
      t.equal(ran.length, 1)
      const began = Date.now()
      const [slow] = await send(`GET / HTTP/1.1\r\nHost: ${HOST}\r\nX: `)
      t.ok(slow === undefined || slow.status === 408 || slow.status === 400, `half a head: ${slow?.status}`)
      t.ok(Date.now() - began < SILENT_MS, 'is not waited for')
    })

    await t.test('a service that is away is a 502 or 503, and says nothing else', async t => {
      await service.app.close()
      const { status, headers, body } = await get('/')
      t.ok(status === 502 || status === 503, String(status))
      if (name === 'nginx') t.match({ headers, body }, { headers: { 'content-type': 'application/problem+json', 'retry-after': '5' }, body: /"code":"FST_BASTION_HTTP_503"/ })
      t.notMatch(body, /127\.0\.0\.1|nginx/)
    })
  })
}

t.test('negative control: an nginx that only passes on lets its clients say who they are', async t => {
  const service = await build(t)
  const careless = await PROXIES.nginx!(t, service.port, [['proxy_set_header X-Forwarded-Host "";', ''], ['X-Forwarded-For $remote_addr', 'X-Forwarded-For $http_x_forwarded_for']])
  if (careless === null) return
  async function ask (line: string): Promise<Answer> {
    const socket = connect({ port: careless!.plainPort, host: '127.0.0.1', localAddress: CLIENT })
    let received = ''
    socket.setEncoding('latin1').on('data', chunk => {
      received += chunk
      if (parse(received).length > 0) socket.destroy()
    })
    socket.write(`GET /open HTTP/1.1\r\nHost: ${HOST}\r\n${line}\r\n\r\n`)
    await once(socket, 'close')
    return parse(received)[0]!
  }
  t.match(await ask('X-Forwarded-For: 192.0.2.66'), { status: 200, json: { ip: '192.0.2.66' } }, 'an address of their choice')
  t.match(await ask('X-Forwarded-Host: evil.example'), { status: 421 }, 'the host that they forward counts: the list of hosts still stands')
})

t.test('attack: a cache between proxy and service keeps nothing that one user was answered for another [ASVS 14.2.2]', async t => {
  const cached = (service: number) => nginx(t, ({ plainPort, tlsPort }) => `proxy_cache_path cache keys_zone=answers:1m;
server {
  listen 127.0.0.1:${plainPort};
  listen 127.0.0.1:${tlsPort};
  location / {
    proxy_pass http://127.0.0.1:${service};
    proxy_cache answers;
    proxy_cache_key $host$request_uri;
    proxy_cache_valid any 1m;
  }
}`)
  /** What two users get, one after the other, from the same URL. */
  async function secondOf (app: FastifyInstance, path: string): Promise<string[] | null> {
    await app.listen({ port: 0, host: '127.0.0.1' })
    const cache = await cached((app.server.address() as AddressInfo).port)
    if (cache === null) return null
    const ask = async (user: string) => (await fetch(`http://127.0.0.1:${cache.plainPort}${path}`, { headers: { cookie: `user=${user}` } })).text()
    return [await ask('ada'), await ask('ben')]
  }
  const mine = async ({ headers }: { headers: { cookie?: string } }) => ({ mine: `diagnosis of ${headers.cookie}` })
  const app = Fastify(server({ logger: false, trustProxy: '127.0.0.1' }))
  t.teardown(() => app.close())
  await app.register(bastion, {})
  app.get('/mine', { schema: { response: { 200: Type.Object({ mine: Type.String() }) } }, config: { access: 'public' } }, mine)
  const answers = await secondOf(app, '/mine')
  if (answers === null) return
  t.same(answers, ['{"mine":"diagnosis of user=ada"}', '{"mine":"diagnosis of user=ben"}'])

  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.get('/mine', mine)
  t.same(await secondOf(bare, '/mine'), ['{"mine":"diagnosis of user=ada"}', '{"mine":"diagnosis of user=ada"}'], 'negative control: behind plain Fastify the second one reads what is of the first')
})

/** All answers in what arrived; interim ones are none. */
function parse (text: string): Answer[] {
  const found: Answer[] = []
  for (let rest = text; rest.startsWith('HTTP/');) {
    const end = rest.indexOf('\r\n\r\n')
    if (end === -1) break
    const [line = '', ...fields] = rest.slice(0, end).split('\r\n')
    const headers = Object.fromEntries(fields.map(field => [field.slice(0, field.indexOf(':')).toLowerCase(), field.slice(field.indexOf(':') + 1).trim()]))
    const status = Number(line.split(' ')[1])
    rest = rest.slice(end + 4)
    if (status < 200) continue
    const chunked = headers['transfer-encoding'] === 'chunked'
    const length = chunked ? rest.indexOf('0\r\n\r\n') + 5 : Number(headers['content-length'] ?? 0)
    if (rest.length < length || (chunked && length === 4)) break
    const body = rest.slice(0, length)
    rest = rest.slice(length)
    const isJson = /json/.test(headers['content-type'] ?? '') && body.startsWith('{')
    found.push({ status, headers, body, json: isJson ? JSON.parse(body) : {} })
  }
  return found
}
