/** TLS on real sockets: what is spoken, to whom, and that renewals break nothing. */
import { randomBytes, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import http2 from 'node:http2'
import https from 'node:https'
import { connect as connectPlain, type AddressInfo, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls, { type ConnectionOptions, type TLSSocket } from 'node:tls'
import Fastify, { type FastifyInstance, type FastifyRequest, type FastifyServerOptions } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { principalOf, server, type BastionOptions, type ServerOptions } from '../../plugins/index.js'
import type { SecurityEvent } from '../../plugins/events.js'
import { closed } from '../../schemas/closed.js'
import { authority, issue, write, type Issued } from '../fixtures/authority.js'

t.setTimeout(120_000)
const ca = await authority()
const first = await issue(ca, { name: 'localhost' })
const second = await issue(ca, { name: 'localhost' })
const Ok = Type.Object({ ok: Type.String() })

interface Built { app: FastifyInstance, port: number, recorded: SecurityEvent[], ran: string[], folder: string, files: { cert: string, key: string } }
interface Wanted { issued?: Issued, tls?: object, http2?: boolean, certificates?: BastionOptions['certificates'], suite?: BastionOptions, options?: ServerOptions }

function folderOf (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'tls-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

async function build (t: Test, { issued = first, tls = {}, http2 = true, certificates, suite, options }: Wanted = {}): Promise<Built> {
  const folder = folderOf(t)
  const recorded: SecurityEvent[] = []
  const ran: string[] = []
  const files = write(folder, issued)
  const app = Fastify(server({ logger: false, tls: { ...'certificates' in tls ? {} : files, http2, ...tls } as never, ...options }))
  t.teardown(() => app.close())
  await app.register(bastion, { transport: { hosts: ['localhost', 'a.example', 'b.example'] }, limits: { flood: false }, metrics: {}, certificates: { names: ['localhost'], ...certificates }, access: { roles: { member: { permissions: ['read'] } } }, ...suite } as BastionOptions)
  app.events.listen(event => { recorded.push(event) })
  const handler = (answer: (request: FastifyRequest) => string) => async (request: FastifyRequest) => {
    ran.push(request.url)
    return { ok: answer(request) }
  }
  app.get('/', { schema: { response: { 200: Ok } }, config: { access: 'public', limits: false } }, handler(() => 'yes'))
  app.get('/machine', { schema: { response: { 200: Ok } }, config: { access: { via: ['certificate'] }, limits: false } }, handler(request => principalOf(request).id))
  app.post('/machine', { schema: { body: closed({}), response: { 200: Ok } }, config: { access: { permissions: 'read' as never }, limits: false } }, handler(request => principalOf(request).via))
  app.get('/slow', { schema: { response: { 200: Ok } }, config: { access: 'public', limits: false } }, async () => {
    ran.push('slow')
    await until(() => false, 300)
    return { ok: 'late' }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, port: (app.server.address() as AddressInfo).port, recorded, ran, folder, files }
}

/** The socket of a handshake, or the code of its failure. */
async function shake (t: Test, port: number, options: ConnectionOptions = {}): Promise<TLSSocket | string> {
  const socket = tls.connect({ host: '127.0.0.1', port, servername: 'localhost', ca: ca.cert, ...options })
  t.teardown(() => socket.destroy())
  return new Promise(resolve => {
    socket.once('secureConnect', () => resolve(socket))
    socket.on('error', error => resolve((error as NodeJS.ErrnoException).code ?? error.message))
  })
}

const told = (shaken: TLSSocket | string) => typeof shaken === 'string' ? shaken : [shaken.getProtocol(), shaken.getCipher().name].join(' ')
const serialOf = (shaken: TLSSocket | string) => typeof shaken === 'string' ? shaken : shaken.getPeerCertificate().serialNumber.toLowerCase()

interface Answer { status: number | string, code?: string, ok?: string, version?: string }

/** A request by HTTP/1.1, on a connection of its own unless there is an agent. */
async function ask (port: number, options: https.RequestOptions = {}, body?: string): Promise<Answer> {
  return new Promise(resolve => {
    const request = https.request({ host: '127.0.0.1', port, servername: 'localhost', ca: ca.cert, agent: false, headers: { host: 'localhost', ...body !== undefined && { 'content-type': 'application/json' }, ...options.headers as object }, ...options.agent !== undefined && { agent: options.agent }, method: options.method, path: options.path, cert: options.cert, key: options.key }, async response => {
      let text = ''
      try {
        for await (const chunk of response) text += chunk
        resolve({ status: response.statusCode!, version: response.httpVersion, ...JSON.parse(text) })
      } catch (error) {
        resolve({ status: (error as NodeJS.ErrnoException).code ?? 'broken' })
      }
    })
    request.on('error', error => resolve({ status: (error as NodeJS.ErrnoException).code ?? error.message }))
    request.end(body)
  })
}

function session (t: Test, port: number, options: http2.SecureClientSessionOptions = {}): http2.ClientHttp2Session {
  const opened = http2.connect(`https://localhost:${port}`, { ca: ca.cert, lookup: (_name, _options, done) => { (done as (error: null, address: unknown) => void)(null, [{ address: '127.0.0.1', family: 4 }]) }, ...options })
  opened.on('error', () => {})
  t.teardown(() => opened.destroy())
  return opened
}

/** A request by HTTP/2. */
async function askBy2 (opened: http2.ClientHttp2Session, headers: http2.OutgoingHttpHeaders = {}, body?: string): Promise<Answer> {
  return new Promise(resolve => {
    const stream = opened.request({ ':path': '/', ...headers }, { endStream: body === undefined })
    let status: number | undefined
    let text = ''
    stream.setEncoding('utf8')
    stream.on('response', answer => { status = answer[':status'] })
    stream.on('data', chunk => { text += chunk })
    stream.on('error', error => resolve({ status: (error as NodeJS.ErrnoException).code ?? 'broken' }))
    stream.on('close', () => resolve({ status: status ?? `reset ${stream.rstCode}`, ...text.startsWith('{') && JSON.parse(text) }))
    if (body !== undefined) stream.end(body)
  })
}

/** One GET of /machine with these fields, written by hand: Node's client does not send a field twice. Answers what came, as text. */
async function rawHttp2 (t: Test, port: number, authorizations: readonly string[]): Promise<string> {
  const socket = await shake(t, port, { ALPNProtocols: ['h2'] }) as TLSSocket
  const frame = (type: number, flags: number, stream: number, payload: Buffer) => Buffer.concat([Buffer.from([0, payload.length >> 8, payload.length & 0xff, type, flags, 0, 0, 0, stream]), payload])
  // HPACK, each as a literal that is not indexed (RFC 7541, 6.2.2), by the place of its name in the static table.
  const field = (name: number, value: string) => Buffer.concat([Buffer.from(name < 15 ? [name, value.length] : [15, name - 15, value.length]), Buffer.from(value)])
  const head = Buffer.concat([Buffer.from([0x82, 0x87]), field(4, '/machine'), field(1, 'localhost'), ...authorizations.map(value => field(23, value))])
  socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0, Buffer.alloc(0)), frame(1, 5, 1, head)]))
  let text = ''
  socket.on('data', chunk => { text += chunk.toString('latin1') })
  await until(() => /"code":"\w+"/.test(text))
  return text
}

async function until (isSo: () => boolean | Promise<boolean>, ms = 20_000): Promise<boolean> {
  for (const end = Date.now() + ms; Date.now() < end;) {
    if (await isSo()) return true
    await new Promise(resolve => { setTimeout(resolve, 20) })
  }
  return false
}

for (const http2 of [true, false]) {
  t.test(`TLS 1.3 and 1.2 are spoken, the newest first; nothing older, nothing weak${http2 ? '' : ', without HTTP/2 too'} [ASVS 12.1.1] [ASVS 12.1.2]`, async t => {
    const { port } = await build(t, { http2 })
    const by = async (options: ConnectionOptions) => told(await shake(t, port, options))
    t.equal(await by({}), 'TLSv1.3 TLS_AES_256_GCM_SHA384')
    t.equal(await by({ maxVersion: 'TLSv1.2' }), 'TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384')
    // Whatever the client would rather have.
    t.equal(await by({ maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384' }), 'TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384')
    t.equal(await by({ ciphers: 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384' }), 'TLSv1.3 TLS_AES_256_GCM_SHA384')
    for (const version of ['TLSv1.1', 'TLSv1'] as const) {
      t.match(await by({ minVersion: version, maxVersion: version, ciphers: 'DEFAULT@SECLEVEL=0' }), /^ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION/, version)
    }
    for (const ciphers of ['ECDHE-ECDSA-AES128-SHA', 'ECDHE-ECDSA-AES256-SHA384', 'AES128-GCM-SHA256', 'DHE-RSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-AES256-CCM8']) {
      t.match(await by({ maxVersion: 'TLSv1.2', ciphers: `${ciphers}@SECLEVEL=0` }), /HANDSHAKE_FAILURE/, ciphers)
    }
    t.match(await by({ maxVersion: 'TLSv1.2', ecdhCurve: 'P-521' }), /HANDSHAKE_FAILURE/)
    t.match(await by({ maxVersion: 'TLSv1.2', sigalgs: 'ECDSA+SHA1' }), /^(?:ERR_SSL|ECONNRESET)/)
  })
}

t.test('negative control: https as Node makes it speaks what has no authenticated encryption', async t => {
  const plain = https.createServer({ cert: first.cert, key: first.key, minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' }).listen(0, '127.0.0.1')
  await once(plain, 'listening')
  t.teardown(() => plain.close())
  const { port } = plain.address() as AddressInfo
  t.match(told(await shake(t, port, { maxVersion: 'TLSv1.1', minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' })), /^TLSv1\.1 /)
  t.match(told(await shake(t, port, { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA' })), 'ECDHE-ECDSA-AES128-SHA')
})

t.test('attack: nobody renegotiates', async t => {
  const { port } = await build(t)
  const socket = await shake(t, port, { maxVersion: 'TLSv1.2', ALPNProtocols: ['http/1.1'] }) as TLSSocket
  const error = await new Promise(resolve => {
    socket.removeAllListeners('error').once('error', resolve)
    socket.renegotiate({}, fault => resolve(fault))
  })
  t.ok(error instanceof Error)
})

t.test('ALPN: HTTP/2 for who speaks it, HTTP/1.1 for others; both take the same way', async t => {
  const { port } = await build(t)
  const chosen = async (ALPNProtocols?: string[]) => {
    const socket = await shake(t, port, { ...ALPNProtocols && { ALPNProtocols } })
    return typeof socket === 'string' ? socket : socket.alpnProtocol
  }
  t.same([await chosen(['h2', 'http/1.1']), await chosen(['http/1.1', 'h2']), await chosen(['http/1.1']), await chosen()], ['h2', 'h2', 'http/1.1', false])
  t.match(await chosen(['spdy/3']), /NO_APPLICATION_PROTOCOL/)
  t.match(await ask(port), { status: 200, version: '1.1', ok: 'yes' })
  const opened = session(t, port)
  t.match(await askBy2(opened), { status: 200, ok: 'yes' })
  t.match(await askBy2(opened, { ':path': '/none' }), { status: 404, code: 'FST_BASTION_ERRORS_NOT_FOUND' })
  t.match(await askBy2(opened, { ':path': '/%zz' }), { status: 400, code: 'FST_ERR_BAD_URL' })
  t.match(await askBy2(opened, { ':path': '/machine' }), { status: 401 })
  t.match(await askBy2(opened, { expect: 'miracles' }), { status: 417, code: 'FST_BASTION_SERVER_EXPECTATION' })
})

t.test('http2: false speaks HTTP/1.1 alone', async t => {
  const { port } = await build(t, { http2: false })
  const socket = await shake(t, port, { ALPNProtocols: ['h2', 'http/1.1'] }) as TLSSocket
  t.equal(socket.alpnProtocol, 'http/1.1')
  t.match(await ask(port), { status: 200, version: '1.1' })
})

t.test('attack: over HTTP/2, a Host that differs, two credentials, a tunnel, a trickling body, a bare answer [TRAP 29]', async t => {
  const { port, ran, app } = await build(t, { options: { requestTimeout: 400 } })
  const opened = session(t, port)
  t.match(await askBy2(opened, { ':authority': 'localhost', host: 'evil.example' }), { status: 400, code: 'FST_BASTION_TRANSPORT_HOST_MALFORMED' })
  t.match(await askBy2(opened, { ':authority': 'evil.example' }), { status: 421 })
  t.match(await rawHttp2(t, port, ['Bearer a', 'Bearer b']), /FST_BASTION_IDENTITY_TWO_CREDENTIALS/)
  t.match(await rawHttp2(t, port, ['Bearer a']), /FST_BASTION_ACCESS_UNAUTHENTICATED/)
  t.match(await askBy2(opened, { ':method': 'CONNECT', ':authority': 'localhost', ':path': undefined }), { status: 405, code: 'FST_BASTION_SERVER_TUNNEL' })
  t.same(ran, [])
  const trickling = opened.request({ ':path': '/machine', ':method': 'POST', 'content-type': 'application/json' }, { endStream: false })
  trickling.on('error', () => {})
  trickling.resume()
  trickling.write('{')
  await once(trickling, 'close')
  const large = await askBy2(opened, { 'x-large': 'a'.repeat(20_000) })
  t.not(large.status, 200)
  t.match(await askBy2(session(t, port)), { status: 200 }, 'and others are served')
  t.ok(app)
})

t.test('closing does not wait for idle connections, and lets answers in flight end [TRAP 29]', async t => {
  const { app, port, ran } = await build(t, { options: { closeTimeout: 8000 } })
  const idle = session(t, port)
  t.match(await askBy2(idle), { status: 200 })
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  t.match(await ask(port, { agent }), { status: 200 }, 'an idle connection by HTTP/1.1')
  const inFlight = [askBy2(session(t, port), { ':path': '/slow' }), ask(port, { path: '/slow' })]
  t.ok(await until(() => ran.filter(url => url === 'slow').length === 2))
  const began = Date.now()
  await app.close()
  t.ok(Date.now() - began < 5000, `${Date.now() - began} ms`)
  t.match(await Promise.all(inFlight), [{ status: 200, ok: 'late' }, { status: 200, ok: 'late' }])
  t.ok(await until(() => idle.closed))
})

t.test('attack: connections that never shake hands keep nobody from closing', async t => {
  for (const http2 of [true, false]) {
    const { app, port } = await build(t, { http2, options: { closeTimeout: 300 } })
    const silent = connectPlain(port, '127.0.0.1')
    silent.on('error', () => {})
    await once(silent, 'connect')
    await ask(port) // the server has taken the first one by now
    const gone = once(silent, 'close')
    const began = Date.now()
    await app.close()
    await gone
    t.ok(Date.now() - began < 5000, `${Date.now() - began} ms`)
  }
})

t.test('SNI: each name gets its certificate, exact names before wildcards, and an unknown one the first', async t => {
  const [a, wild, b] = [await issue(ca, { name: 'a.example', names: ['a.example', 'localhost'] }), await issue(ca, { name: '*.c.example' }), await issue(ca, { name: 'b.example' })]
  const folder = folderOf(t)
  const { port } = await build(t, { tls: { certificates: [write(folder, a, 'a'), write(folder, wild, 'wild'), write(folder, b, 'b')] } })
  const served = async (servername: string) => serialOf(await shake(t, port, { servername, checkServerIdentity: () => undefined }))
  const [sa, sw, sb] = [a, wild, b].map(({ certificate }) => certificate.serialNumber)
  t.same([await served('a.example'), await served('B.example'), await served('x.c.example'), await served('evil.test'), await served('')], [sa, sb, sw, sa, sa])
  for (const servername of ['a.example', 'b.example']) {
    t.match(told(await shake(t, port, { servername, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' })), /PROTOCOL_VERSION/, 'the floor is the same for all')
  }
})

t.test('attack: what no host is called, as the name that a client asks for, gets the first certificate and ends nothing', async t => {
  const { port } = await build(t)
  // Of the first OpenSSL says that it can be no address, and Node throws.
  for (const servername of ['fe80::1%eth0', '::1', '192.0.2.1', '[::1]', '.', '*', 'x y', 'a'.repeat(255)]) {
    t.equal(serialOf(await shake(t, port, { servername, checkServerIdentity: () => undefined })), first.certificate.serialNumber, servername.slice(0, 20))
  }
  t.throws(() => new X509Certificate(first.cert).checkIP('fe80::1%eth0'), 'negative control: looked up as it is')
})

t.test('each kind of key that boots is one that hands can be shaken with', async t => {
  for (const algorithm of [{ name: 'Ed448' }, { name: 'Ed25519' }, { name: 'ECDSA', namedCurve: 'P-521', hash: 'SHA-512' }]) {
    const { port } = await build(t, { issued: await issue(ca, { name: 'localhost', algorithm }) })
    for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const) t.match(told(await shake(t, port, { maxVersion })), maxVersion, `${algorithm.name} ${maxVersion}`)
  }
})

t.test('attack: over HTTP/2, answers that nobody takes are not kept for ever', async t => {
  const { port } = await build(t, { options: { fastify: { http2SessionTimeout: 100 } as never } })
  const opened = session(t, port, { settings: { initialWindowSize: 0 } })
  await once(opened, 'remoteSettings')
  t.match(await askBy2(opened), { status: 200, ok: undefined })
  t.ok(await until(() => opened.destroyed))
  const reading = session(t, port)
  t.match(await askBy2(reading, { ':path': '/slow' }), { status: 200, ok: 'late' }, 'whoever waits for an answer gets it')
})

t.test('who connects and says nothing is cut, and is no malformed request', async t => {
  const { app, port, recorded } = await build(t)
  const timeout = Object.getOwnPropertySymbols(app.server).find(symbol => symbol.description === 'handshake-timeout')!
  Object.assign(app.server, { [timeout]: 100 }) // of 10 s
  const silent = connectPlain(port, '127.0.0.1')
  silent.on('error', () => {})
  silent.resume()
  await once(silent, 'close')
  t.same(recorded, [])
})

const clientCa = await authority({ name: 'Client CA' })
const machine = await issue(clientCa, { name: 'billing', usage: 'client' })
const unknown = await issue(clientCa, { name: 'stranger', usage: 'client' })
const expired = await issue(clientCa, { name: 'billing', usage: 'client', from: -30, to: -1 })
const forServers = await issue(clientCa, { name: 'billing', usage: 'server' })
const foreign = await issue(await authority({ name: 'Client CA' }), { name: 'billing', usage: 'client' })

async function buildForClients (t: Test, required: boolean, extra: Wanted = {}): Promise<Built> {
  const folder = folderOf(t)
  writeFileSync(join(folder, 'clients.pem'), clientCa.cert)
  return build(t, {
    tls: {
      clientCertificates: {
        ca: join(folder, 'clients.pem'),
        required,
        principal: (certificate: { subject: string }) => certificate.subject === 'CN=billing' ? { id: 'billing', roles: ['member'] } : null,
      },
    },
    ...extra,
  })
}

t.test('client certificates: a principal by a good one, 401 for every other, and each refusal recorded and counted', async t => {
  const { app, port, recorded, ran } = await buildForClients(t, false)
  const as = (issued: Issued | null, options: https.RequestOptions = {}, body?: string) => ask(port, { path: '/machine', ...issued !== null && { cert: issued.cert, key: issued.key }, ...options }, body)
  t.match(await as(machine), { status: 200, ok: 'billing' })
  t.match(await as(machine, { method: 'POST' }, '{}'), { status: 200, ok: 'certificate' }, 'where permissions are asked for too')
  const opened = session(t, port, { cert: machine.cert, key: machine.key })
  t.match(await askBy2(opened, { ':path': '/machine' }), { status: 200, ok: 'billing' })
  ran.length = 0
  t.match(await as(null), { status: 401, code: 'FST_BASTION_ACCESS_UNAUTHENTICATED' })
  for (const [issued, reason] of [[expired, 'CERT_HAS_EXPIRED'], [forServers, 'INVALID_PURPOSE'], [foreign, /CERT_SIGNATURE_FAILURE|UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_GET_ISSUER_CERT/], [unknown, 'unknown']] as const) {
    recorded.length = 0
    t.match(await as(issued), { status: 401, code: 'FST_BASTION_CERTIFICATES_CLIENT_REFUSED' }, String(reason))
    t.match(recorded[0], { type: 'client_certificate_refused', details: { reason } })
  }
  t.same(ran, [])
  t.match(await app.metrics.text(), /bastion_client_certificates_refused_total 4\n/)
  t.match(await as(foreign, { path: '/' }), { status: 200 }, 'public routes are public')
  t.same(app.posture().routes[0]!.controls.certificates, { http2: true, clientCertificates: 'asked' })
})

t.test('a connection outlives its certificate: it is asked at each request', async t => {
  let now = Date.now()
  const { port } = await buildForClients(t, false, { certificates: { now: () => now } })
  const opened = session(t, port, { cert: machine.cert, key: machine.key })
  t.match(await askBy2(opened, { ':path': '/machine' }), { status: 200 })
  now += 61 * 86_400_000
  t.match(await askBy2(opened, { ':path': '/machine' }), { status: 401, code: 'FST_BASTION_CERTIFICATES_CLIENT_REFUSED' })
})

t.test('misconfiguration: a principal that is none is nobody', async t => {
  const answers: [string, () => unknown][] = [['a promise', async () => null], ['a promise that fails', async () => { throw new Error('x') }], ['without id', () => ({ roles: [] })]]
  for (const [name, principal] of answers) {
    const folder = folderOf(t)
    writeFileSync(join(folder, 'clients.pem'), clientCa.cert)
    const { port, ran } = await build(t, { tls: { clientCertificates: { ca: join(folder, 'clients.pem'), principal } } })
    t.match(await ask(port, { path: '/machine', cert: machine.cert, key: machine.key }), { status: 503, code: 'FST_BASTION_IDENTITY_UNCHECKED' }, name)
    t.same(ran, [])
  }
})

t.test('a client that also sends a credential of its own is that one; another site cannot use the certificate', async t => {
  const { port, ran } = await buildForClients(t, false, { suite: { tokens: { issuer: 'https://localhost', audience: 'https://localhost', keys: { access: randomBytes(48), refresh: randomBytes(48) } } } as never })
  const as = (headers: Record<string, string>, method = 'GET', body?: string) => ask(port, { path: '/machine', method, headers, cert: machine.cert, key: machine.key }, body)
  t.match(await as({ authorization: 'Bearer x' }), { status: 401 })
  for (const headers of [{ 'sec-fetch-site': 'cross-site' }, { 'sec-fetch-site': 'same-site' }, { origin: 'https://evil.example' }, { origin: 'null' }]) {
    t.match(await as(headers as never, 'POST', '{}'), { status: 403, code: 'FST_BASTION_CERTIFICATES_CROSS_SITE' }, JSON.stringify(headers))
  }
  t.same(ran, [])
  t.match(await as({ 'sec-fetch-site': 'same-origin' }, 'POST', '{}'), { status: 200 })
  t.match(await as({ origin: 'https://localhost' }, 'POST', '{}'), { status: 200 })
})

t.test('required: who has no good one does not even shake hands, recorded and counted', async t => {
  const { app, port, recorded, ran } = await buildForClients(t, true)
  for (const issued of [null, expired, forServers, foreign]) {
    recorded.length = 0
    const answer = await ask(port, { path: '/', ...issued !== null && { cert: issued.cert, key: issued.key } })
    t.type(answer.status, 'string', String(answer.status))
    t.ok(await until(() => recorded.length > 0))
    t.match(recorded, [{ type: 'client_certificate_refused' }])
  }
  t.same(ran, [])
  t.match(await ask(port, { path: '/machine', cert: machine.cert, key: machine.key }), { status: 200 })
  for (let i = 0; i < 5; i += 1) await ask(port, { path: '/' })
  t.ok(await until(async () => /bastion_client_certificates_refused_total 9\n/.test(await app.metrics.text())))
  t.equal(recorded.length, 1, 'of the same kind and the same address, in a minute, one')
  t.equal((app.posture().routes[0]!.controls.certificates as { clientCertificates: unknown }).clientCertificates, 'required')
})

t.test('a ticket vouches for no client: with client certificates there is no resumption', async t => {
  const resumes = async ({ port }: Built, options: ConnectionOptions) => {
    const socket = await shake(t, port, options) as TLSSocket
    // That of TLS 1.2 comes with the handshake, those of TLS 1.3 afterwards.
    const ticket = options.maxVersion === 'TLSv1.2'
      ? socket.getSession()
      : new Promise<Buffer | undefined>(resolve => {
        socket.once('session', resolve)
        socket.once('close', () => resolve(undefined))
      })
    socket.write('GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n')
    socket.resume()
    const kept = await ticket
    if (kept === undefined) return false
    const again = await shake(t, port, { ...options, session: kept }) as TLSSocket
    return again.isSessionReused()
  }
  for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const) {
    t.equal(await resumes(await buildForClients(t, false), { maxVersion, cert: machine.cert, key: machine.key }), false, maxVersion)
    t.equal(await resumes(await build(t), { maxVersion }), true, `negative control: ${maxVersion} without them`)
  }
})

t.test('renewed under load of 50 connections: the new one within 2 s, and no request fails', async t => {
  const { app, port, recorded, folder } = await build(t)
  const failures: unknown[] = []
  let count = 0
  const over = new AbortController()
  const agents: https.Agent[] = []
  t.teardown(() => { for (const agent of agents) agent.destroy() })
  const clients = Array.from({ length: 50 }, async (_none, i) => {
    const agent = new https.Agent({ keepAlive: true, maxSockets: 1 })
    agents.push(agent)
    const opened = i % 2 === 0 ? session(t, port) : null
    while (!over.signal.aborted) {
      const answer = opened === null ? await ask(port, { agent }) : await askBy2(opened)
      count += 1
      if (answer.status !== 200) failures.push(answer)
      await new Promise(resolve => { setTimeout(resolve, 100) })
    }
  })
  t.ok(await until(() => count > 100))
  t.equal(serialOf(await shake(t, port)), first.certificate.serialNumber)
  write(folder, second)
  const began = Date.now()
  t.ok(await until(async () => serialOf(await shake(t, port)) === second.certificate.serialNumber))
  const took = Date.now() - began
  t.ok(took < 2000, `${took} ms`)
  t.comment(`the new certificate was served after ${took} ms, ${count} requests`)
  const before = count
  t.ok(await until(() => count > before + 100))
  over.abort()
  await Promise.all(clients)
  t.same(failures, [])
  t.match(recorded.filter(({ type }) => type.startsWith('certificate')), [{ type: 'certificate_reloaded', details: { certificates: [{ fingerprint: app.certificates.list()[0]!.fingerprint }] } }])
})

t.test('links that are replaced, as certbot and Kubernetes do, are followed', async t => {
  const folder = folderOf(t)
  for (const [name, issued] of [['v1', first], ['v2', second]] as const) {
    mkdirSync(join(folder, 'archive', name), { recursive: true })
    write(join(folder, 'archive', name), issued)
  }
  mkdirSync(join(folder, 'live'))
  const link = (to: string) => {
    symlinkSync(join('../archive', to), join(folder, 'live/..new'))
    renameSync(join(folder, 'live/..new'), join(folder, 'live/..data'))
  }
  link('v1')
  for (const name of ['server-cert.pem', 'server-key.pem']) symlinkSync(join('..data', name), join(folder, 'live', name))
  const { port } = await build(t, { tls: { cert: join(folder, 'live/server-cert.pem'), key: join(folder, 'live/server-key.pem') } })
  t.equal(serialOf(await shake(t, port)), first.certificate.serialNumber)
  link('v2')
  t.ok(await until(async () => serialOf(await shake(t, port)) === second.certificate.serialNumber), 'a link beside them')
  write(join(folder, 'archive/v2'), first)
  t.ok(await until(async () => serialOf(await shake(t, port)) === first.certificate.serialNumber), 'where the links lead')
})

t.test('without a watcher, files are looked at now and then', async t => {
  // A folder that is replaced as a whole is another one than that which is watched.
  const folder = folderOf(t)
  const at = (name: string, issued: Issued) => {
    mkdirSync(join(folder, name))
    return write(join(folder, name), issued)
  }
  const files = at('tls', first)
  const { port } = await build(t, { tls: files, certificates: { pollMs: 100 } })
  at('next', second)
  renameSync(join(folder, 'tls'), join(folder, 'old'))
  renameSync(join(folder, 'next'), join(folder, 'tls'))
  t.ok(await until(async () => serialOf(await shake(t, port)) === second.certificate.serialNumber))
})

t.test('attack: a pair that does not fit, or is worse than the old one, is refused, and the old one stays', async t => {
  const { app, port, recorded, files } = await build(t, { certificates: { watch: false } })
  const refusedFor = async (issued: { cert: string, key: string }, reason: RegExp) => {
    recorded.length = 0
    writeFileSync(files.key, issued.key)
    writeFileSync(files.cert, issued.cert)
    t.equal(await app.certificates.reload(), false)
    t.ok(await until(() => recorded.some(({ type }) => type === 'certificate_refused')))
    const { details } = recorded.find(({ type }) => type === 'certificate_refused')!
    t.match(details, { reason, severity: 'critical' })
    t.notMatch(JSON.stringify(details), issued.key.split('\n')[1])
    t.equal(serialOf(await shake(t, port)), first.certificate.serialNumber, 'the old one is served')
  }
  await refusedFor({ cert: second.cert, key: first.key }, /does not belong to the certificate/)
  await refusedFor(await issue(ca, { name: 'localhost', from: -9, to: -1 }), /expired/)
  await refusedFor(await issue(ca, { name: 'other.example' }), /is not good for localhost, as the one before it was/)
  await refusedFor({ cert: second.cert.slice(0, 200), key: second.key }, /no certificate in PEM/)
  write(join(files.cert, '..'), second)
  t.equal(await app.certificates.reload(), true)
  t.equal(serialOf(await shake(t, port)), second.certificate.serialNumber)
  t.equal(app.certificates.list()[0]!.state, 'good')
})

t.test('however often it is asked for, files are read once more at most', async t => {
  const { app } = await build(t)
  const asked = Array.from({ length: 3 }, () => app.certificates.reload())
  t.ok(asked.every(one => one === asked[0]))
  t.same(await Promise.all(asked), [false, false, false])
})

t.test('files that are written one after the other are taken together', async t => {
  const { app, port, recorded, files } = await build(t, { certificates: { watch: false } })
  writeFileSync(files.cert, second.cert)
  const reloading = app.certificates.reload()
  setTimeout(() => { writeFileSync(files.key, second.key) }, 300)
  t.equal(await reloading, true)
  t.equal(serialOf(await shake(t, port)), second.certificate.serialNumber)
  t.same(recorded.map(({ type }) => type), ['certificate_reloaded'])
})

t.test('the CAs of clients are read again too', async t => {
  const folder = folderOf(t)
  const path = join(folder, 'clients.pem')
  writeFileSync(path, clientCa.cert)
  const { app, port } = await build(t, { tls: { clientCertificates: { ca: path, principal: () => ({ id: 'x', roles: [] }) } } })
  const otherCa = await authority({ name: 'Other CA' })
  const other = await issue(otherCa, { name: 'x', usage: 'client' })
  const as = async ({ cert, key }: Issued) => (await ask(port, { path: '/machine', cert, key })).status
  t.same([await as(machine), await as(other)], [200, 401])
  const [opened, open] = [session(t, port, { cert: machine.cert, key: machine.key }), session(t, port, { cert: other.cert, key: other.key })]
  t.match([await askBy2(opened, { ':path': '/machine' }), await askBy2(open)], [{ status: 200 }, { status: 200 }])
  writeFileSync(path, clientCa.cert + otherCa.cert)
  await app.certificates.reload()
  t.match(await askBy2(opened, { ':path': '/machine' }), { status: 200 }, 'one more: nobody loses a connection')
  writeFileSync(path, otherCa.cert)
  await app.certificates.reload()
  t.same([await as(machine), await as(other)], [401, 200])
  t.ok(await until(() => opened.destroyed), 'nor does a connection that stands go on vouching')
  t.match(await askBy2(open), { status: 200 })
})

t.test('after a reload the floor and the suites are what they were, on every socket [TRAP 28] [ASVS 12.1.1]', async t => {
  const folder = folderOf(t)
  const options = server({ logger: false, tls: write(folder, first) }) as FastifyServerOptions & { serverFactory: (handler: () => void, settings: object) => Server }
  const app = Fastify(options)
  await app.register(bastion, { certificates: { watch: false } })
  await app.ready()
  // What Fastify does for each further address of `localhost`.
  const twin = options.serverFactory(() => {}, { http: {}, http2: true, http2SessionTimeout: 1000, requestTimeout: 1000, keepAliveTimeout: 1000 })
  twin.listen(0, '127.0.0.1')
  t.teardown(() => twin.close())
  t.teardown(() => app.close())
  await app.listen({ host: '127.0.0.1', port: 0 })
  write(folder, second)
  t.equal(await app.certificates.reload(), true)
  const old: ConnectionOptions = { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }
  const weak: ConnectionOptions = { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA' }
  for (const { port } of [app.server.address() as AddressInfo, twin.address() as AddressInfo]) {
    t.equal(serialOf(await shake(t, port)), second.certificate.serialNumber)
    t.match(told(await shake(t, port, old)), /PROTOCOL_VERSION/)
    t.match(told(await shake(t, port, weak)), /HANDSHAKE_FAILURE/)
  }
})

t.test('negative control: setSecureContext({ key, cert }) forgets the suites and the floor [TRAP 28]', async t => {
  const options = { minVersion: 'TLSv1.3', ciphers: 'TLS_AES_256_GCM_SHA384' } as const
  const plain = https.createServer({ cert: first.cert, key: first.key, ...options }).listen(0, '127.0.0.1')
  await once(plain, 'listening')
  t.teardown(() => plain.close())
  const { port } = plain.address() as AddressInfo
  const weak: ConnectionOptions = { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA' }
  t.match(told(await shake(t, port, weak)), /PROTOCOL_VERSION/)
  plain.setSecureContext({ cert: second.cert, key: second.key })
  t.equal(told(await shake(t, port, weak)), 'TLSv1.2 ECDHE-ECDSA-AES128-SHA')
})
