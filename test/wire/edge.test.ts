/** The edge, on real sockets: nothing that reaches the port gets a bare answer, and nothing of it reaches a handler. */
import { once } from 'node:events'
import http2 from 'node:http2'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { Writable } from 'node:stream'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions, type ServerOptions } from '../../plugins/index.js'
import type { SecurityEvent } from '../../plugins/events.js'
import { closed } from '../../schemas/closed.js'

interface Edge { app: FastifyInstance, port: number, ran: string[], recorded: SecurityEvent[], log: string[] }
interface Answer { status: number, headers: Record<string, string>, body: string, problem: { code?: string, status?: number, requestId?: string } }

async function build (t: Test, options: BastionOptions = {}, serverOptions: ServerOptions = {}): Promise<Edge> {
  const ran: string[] = []
  const recorded: SecurityEvent[] = []
  const log: string[] = []
  const stream = new Writable({ write (line, _encoding, done) { log.push(String(line)); done() } })
  const app = Fastify(server({ logger: { level: 'info', stream }, ...serverOptions }))
  t.teardown(() => app.close())
  await app.register(bastion, options)
  const response = { 200: Type.Object({ ok: Type.Boolean() }) }
  const run = (name: string) => async () => {
    ran.push(name)
    return { ok: true }
  }
  app.get('/', { schema: { response }, config: { access: 'public' } }, run('/'))
  app.get('/items/:id', { schema: { response }, config: { access: 'public' } }, run('/items'))
  app.post('/', { schema: { body: closed({ a: Type.String() }), response }, config: { access: 'public' } }, run('POST /'))
  app.get('/slow', { schema: { response }, config: { access: 'public' } }, async () => {
    ran.push('/slow')
    await new Promise(resolve => setTimeout(resolve, 50))
    return { ok: true }
  })
  app.events.listen(event => { recorded.push(event) })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, port: (app.server.address() as AddressInfo).port, ran, recorded, log }
}

function open (t: Test, port: number): Socket {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  t.teardown(() => { socket.destroy() })
  return socket
}

/** Sends bytes as they are, and reads until the server has said everything. */
async function send (t: Test, port: number, text: string): Promise<string> {
  const socket = open(t, port)
  let received = ''
  socket.setEncoding('latin1').on('data', chunk => {
    received += chunk
    if (isComplete(received)) socket.end()
  })
  socket.write(text, 'latin1')
  await once(socket, 'close')
  return received
}

function isComplete (text: string): boolean {
  const end = text.indexOf('\r\n\r\n')
  const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? NaN)
  return end !== -1 && text.length - end - 4 >= length
}

function parse (text: string): Answer {
  const [head = '', ...rest] = text.split('\r\n\r\n')
  const [line = '', ...fields] = head.split('\r\n')
  const headers = Object.fromEntries(fields.map(field => [field.slice(0, field.indexOf(':')).toLowerCase(), field.slice(field.indexOf(':') + 1).trim()]))
  const body = rest.join('\r\n\r\n')
  return { status: Number(line.split(' ')[1]), headers, body, problem: body.startsWith('{') ? JSON.parse(body) : {} }
}

const HEADERS = {
  'x-content-type-options': 'nosniff',
  'content-security-policy': /frame-ancestors 'none'/,
  'cache-control': 'no-store',
  'permissions-policy': /camera=\(\)/,
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
}

/** Asserts a refusal: its status and code, the form, every header, and that it says nothing of what was sent. */
function isRefusal (t: Test, text: string, status: number, code: string, name: string): Answer {
  const answer = parse(text)
  t.match({ status: answer.status, type: answer.headers['content-type'], code: answer.problem.code }, { status, type: 'application/problem+json; charset=utf-8', code }, name)
  t.match(answer.headers, HEADERS, 'with the security headers')
  t.equal(answer.problem.status, status)
  t.match(answer.problem.requestId, /^[\da-f]{32}$/)
  t.notMatch(text, /s3cret|node|fastify\/|express/i, 'it says nothing of the request, nor of what answers [ASVS 13.4.6]')
  return answer
}

const HOST = 'Host: localhost\r\n'

t.test('what is no HTTP, too large or too odd gets a problem with headers, an event, and no handler [TRAP 2, 27, ASVS 16.3.3]', async t => {
  const cases: [string, string, number, string][] = [
    ['a malformed URL', `GET /%zz-s3cret HTTP/1.1\r\n${HOST}\r\n`, 400, 'FST_ERR_BAD_URL'],
    ['a malformed URL with a query', `GET /%?s3cret=1 HTTP/1.1\r\n${HOST}\r\n`, 400, 'FST_ERR_BAD_URL'],
    ['a malformed URL with a body', `POST /%zz HTTP/1.1\r\n${HOST}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`, 400, 'FST_ERR_BAD_URL'],
    ['an over-long parameter', `GET /items/${'s3cret'.repeat(50)} HTTP/1.1\r\n${HOST}\r\n`, 414, 'FST_ERR_MAX_PARAM_LENGTH'],
    ['an odd expectation', `POST / HTTP/1.1\r\n${HOST}Expect: s3cret\r\nContent-Length: 0\r\n\r\n`, 417, 'FST_BASTION_SERVER_EXPECTATION'],
    ['header fields too large', `GET / HTTP/1.1\r\n${HOST}X: ${'s3cret'.repeat(4000)}\r\n\r\n`, 431, 'FST_BASTION_SERVER_HEADERS_TOO_LARGE'],
    ['a URL that is too long', `GET /${'s3cret'.repeat(4000)} HTTP/1.1\r\n${HOST}\r\n`, 431, 'FST_BASTION_SERVER_HEADERS_TOO_LARGE'],
    ['no HTTP at all', 's3cret\r\n\r\n', 400, 'FST_BASTION_SERVER_MALFORMED'],
    ['TLS on a plain port', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400, 'FST_BASTION_SERVER_MALFORMED'],
    ['an unknown method', `STEAL / HTTP/1.1\r\n${HOST}\r\n`, 400, 'FST_BASTION_SERVER_MALFORMED'],
    ['an unknown version', `GET / HTTP/7.3\r\n${HOST}\r\n`, 400, 'FST_BASTION_SERVER_MALFORMED'],
    ['a space in a field name', `GET / HTTP/1.1\r\n${HOST}X Y: s3cret\r\n\r\n`, 400, 'FST_BASTION_SERVER_MALFORMED'],
    ['both lengths', `POST / HTTP/1.1\r\n${HOST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400, 'FST_BASTION_SERVER_MALFORMED'],
    ['two lengths', `POST / HTTP/1.1\r\n${HOST}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde`, 400, 'FST_BASTION_SERVER_MALFORMED'],
    ['a tunnel', `CONNECT s3cret.internal:443 HTTP/1.1\r\n${HOST}\r\n`, 405, 'FST_BASTION_SERVER_TUNNEL'],
  ]
  for (const [name, text, status, code] of cases) {
    const { port, ran, recorded } = await build(t)
    const { problem } = isRefusal(t, await send(t, port, text), status, code, name)
    const event = recorded.find(({ requestId }) => requestId === problem.requestId)
    t.match(event, { type: 'malformed_request', address: '127.0.0.1', details: { code } }, 'and an event under the same id')
    t.same(ran, [])
  }
  const { port: bare } = await bareFastify(t)
  const malformed = parse(await send(t, bare, `GET /%zz HTTP/1.1\r\n${HOST}\r\n`))
  t.match({ status: malformed.status, nosniff: malformed.headers['x-content-type-options'] }, { status: 400, nosniff: undefined }, 'negative control: plain Fastify answers without headers')
  t.equal(await send(t, bare, `CONNECT a.b:443 HTTP/1.1\r\n${HOST}\r\n`), '', 'negative control: and to CONNECT nothing')
  t.match(await send(t, bare, `POST / HTTP/1.1\r\n${HOST}Expect: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`), /^HTTP\/1.1 417 Expectation Failed\r\n(?!.*nosniff)/s, 'negative control: Node answers 417 by itself')
})

t.test('the answer to HEAD has no body, though nobody could read the request', async t => {
  const { port } = await build(t)
  const cases: [string, string, number][] = [
    ['header fields too large', ` / HTTP/1.1\r\n${HOST}X: ${'a'.repeat(20_000)}\r\n\r\n`, 431],
    ['a byte that no path has', ` /\xff HTTP/1.1\r\n${HOST}\r\n`, 400],
    ['a field without a colon', ` / HTTP/1.1\r\n${HOST}X\r\n\r\n`, 400],
  ]
  for (const [name, text, status] of cases) {
    const head = await untilClosed(`HEAD${text}`)
    t.match(parse(head), { status, headers: { ...HEADERS, 'content-type': 'application/problem+json; charset=utf-8' }, body: '' }, name)
    t.match(parse(await untilClosed(`GET${text}`)), { status, problem: { status } }, 'and to GET one')
  }

  /** All that comes until the server closes: whoever waits for a body that was announced would wait here. */
  async function untilClosed (text: string): Promise<string> {
    const socket = open(t, port)
    let received = ''
    socket.setEncoding('latin1').on('data', chunk => { received += chunk })
    socket.write(text, 'latin1')
    await once(socket, 'close')
    return received
  }
})

t.test('a request names one host, in every version of HTTP [TRAP 27]', async t => {
  const { port, ran } = await build(t)
  const refused: [string, string][] = [
    ['none, in HTTP/1.1', 'GET / HTTP/1.1\r\n\r\n'],
    ['none, in HTTP/1.0', 'GET / HTTP/1.0\r\n\r\n'],
    ['an empty one', 'GET / HTTP/1.1\r\nHost:\r\n\r\n'],
    ['two', 'GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n'],
    ['the same twice', 'GET / HTTP/1.1\r\nHost: localhost\r\nhOST: localhost\r\n\r\n'],
    ['two in one field', 'GET / HTTP/1.1\r\nHost: localhost, evil.example\r\n\r\n'],
    ['one with a path', 'GET / HTTP/1.1\r\nHost: localhost/evil\r\n\r\n'],
    ['one with a user', 'GET / HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n'],
    ['another than the target in absolute form', `GET http://evil.example/ HTTP/1.1\r\n${HOST}\r\n`],
    ['a target with a user', `GET http://localhost@evil.example/ HTTP/1.1\r\n${HOST}\r\n`],
  ]
  for (const [name, text] of refused) isRefusal(t, await send(t, port, text), 400, 'FST_BASTION_TRANSPORT_HOST_MALFORMED', name)
  t.same(ran, [])
  for (const text of [`GET http://LOCALHOST/ HTTP/1.1\r\n${HOST}\r\n`, `GET / HTTP/1.0\r\n${HOST}\r\n`]) {
    t.match(parse(await send(t, port, text)), { status: 200, body: '{"ok":true}' })
  }
  const { port: bare } = await bareFastify(t)
  t.match(await send(t, bare, 'GET / HTTP/1.1\r\n\r\n'), /^HTTP\/1.1 400 Bad Request\r\n(?!.*nosniff)/s, 'negative control: Node answers a missing host by itself')
  t.equal(parse(await send(t, bare, 'GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n')).status, 200, 'negative control: and takes the first of two')
})

t.test('methods without a route, and OPTIONS for the whole server, are unknown', async t => {
  const { port, ran } = await build(t)
  for (const method of ['TRACE', 'PROPFIND', 'PURGE', 'DELETE']) isRefusal(t, await send(t, port, `${method} / HTTP/1.1\r\n${HOST}\r\n`), 404, 'FST_BASTION_ERRORS_NOT_FOUND', method)
  const star = parse(await send(t, port, `OPTIONS * HTTP/1.1\r\n${HOST}\r\n`))
  t.ok(star.status >= 400 && star.problem.code !== undefined, 'OPTIONS *')
  t.match(star.headers, HEADERS)
  t.same(ran, [])
})

t.test('malformed URLs are counted for the address that sends them [TRAP 2]', async t => {
  const { port } = await build(t, { limits: { address: ['3/minute'] } })
  const statuses: number[] = []
  for (let i = 0; i < 5; i++) statuses.push(parse(await send(t, port, `GET /%zz${i} HTTP/1.1\r\n${HOST}\r\n`)).status)
  t.same(statuses, [400, 400, 400, 429, 429])
  const limited = isRefusal(t, await send(t, port, `GET /items/${'a'.repeat(300)} HTTP/1.1\r\n${HOST}\r\n`), 429, 'FST_BASTION_LIMITS_EXCEEDED', 'the next kind spends the same budget')
  t.match(limited.headers['retry-after'], /^\d+$/)
})

t.test('behind a trusted proxy they are counted for the client, not for the proxy', async t => {
  const { port, recorded } = await build(t, { limits: { address: ['1/minute'] } }, { trustProxy: '127.0.0.1' })
  const malformed = (client: string) => send(t, port, `GET /%zz HTTP/1.1\r\n${HOST}X-Forwarded-For: ${client}\r\n\r\n`)
  t.equal(parse(await malformed('192.0.2.1')).status, 400)
  t.equal(parse(await malformed('192.0.2.1')).status, 429)
  t.equal(parse(await malformed('192.0.2.2')).status, 400, 'another client')
  t.equal(recorded[0]?.address, '192.0.2.1')
})

t.test('the flood guard counts them before anything else', async t => {
  const { port } = await build(t, { limits: { flood: { max: 2, timeWindow: 60_000 } } })
  const statuses: number[] = []
  for (let i = 0; i < 4; i++) statuses.push(parse(await send(t, port, `GET /%zz HTTP/1.1\r\n${HOST}\r\n`)).status)
  t.same(statuses, [400, 400, 429, 429])
})

t.test('a request that does not arrive in time is answered 408, head and body alike [ASVS 15.2.2]', async t => {
  const fastify = { http: { connectionsCheckingInterval: 20 } } as FastifyServerOptions
  const { app, port, ran, recorded } = await build(t, {}, { requestTimeout: 60, fastify })
  isRefusal(t, await send(t, port, `GET / HTTP/1.1\r\n${HOST}X-Slow: `), 408, 'FST_BASTION_SERVER_TIMEOUT', 'half a head')
  isRefusal(t, await send(t, port, `POST / HTTP/1.1\r\n${HOST}Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{"a":`), 408, 'FST_BASTION_SERVER_TIMEOUT', 'half a body')
  t.same(ran, [])
  app.events.flush()
  t.strictSame(recorded.map(({ details }) => details), [{ code: 'FST_BASTION_SERVER_TIMEOUT', times: 1 }, { code: 'FST_BASTION_SERVER_TIMEOUT', times: 1 }])
})

t.test('Expect: 100-continue is met, and a refusal comes all the same', async t => {
  const { port, ran } = await build(t)
  const post = (body: string) => `POST / HTTP/1.1\r\n${HOST}Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  t.match(await send(t, port, post('{"a":"b"}')), /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 OK/)
  t.match(await send(t, port, post('{"b":"b"}')), /HTTP\/1.1 400 Bad Request.*FST_BASTION_VALIDATION_REFUSED/s)
  t.same(ran, ['POST /'])
})

t.test('what breaks in the middle of an answer is not answered into it', async t => {
  const { port } = await build(t)
  const socket = open(t, port)
  let received = ''
  socket.setEncoding('latin1').on('data', chunk => { received += chunk })
  socket.write(`GET /slow HTTP/1.1\r\n${HOST}\r\n${'\x00'.repeat(8)}`)
  await once(socket, 'close')
  t.equal(received.match(/HTTP\/1\.1/g)?.length ?? 0, 1, 'one answer at most on the connection')
  t.match(parse(received), { status: 400, headers: HEADERS })
})

t.test('a closing server answers what still arrives, with headers, and ends [TRAP 27]', async t => {
  const { app, port, ran } = await build(t)
  const socket = open(t, port)
  let received = ''
  socket.setEncoding('latin1').on('data', chunk => { received += chunk })
  socket.write(`GET /slow HTTP/1.1\r\n${HOST}\r\n`)
  while (ran.length === 0) await new Promise(resolve => setImmediate(resolve))
  const closing = app.close()
  await new Promise(resolve => setImmediate(resolve))
  socket.write(`GET / HTTP/1.1\r\n${HOST}\r\n`)
  await Promise.all([closing, once(socket, 'close')])
  const [first = '', second = ''] = received.split(/(?=HTTP\/1\.1 \d)/)
  t.match(parse(first), { status: 200, headers: HEADERS }, 'the request in flight')
  t.notMatch(second, /Service Unavailable/, 'no bare 503')
  if (second !== '') t.match(parse(second), { status: 200, headers: { ...HEADERS, connection: 'close' } }, 'the next one')
})

t.test('negative control: closing, plain Fastify answers with a bare 503', async t => {
  const { app, port } = await bareFastify(t)
  const socket = open(t, port)
  let received = ''
  socket.setEncoding('latin1').on('data', chunk => { received += chunk })
  socket.write(`GET /slow HTTP/1.1\r\n${HOST}\r\nGET / HTTP/1.1\r\n${HOST}\r\n`)
  await new Promise(resolve => setTimeout(resolve, 10))
  const closing = app.close()
  await new Promise(resolve => setImmediate(resolve))
  socket.write(`GET / HTTP/1.1\r\n${HOST}\r\n`)
  await Promise.all([closing, once(socket, 'close')])
  const last = parse(received.split(/(?=HTTP\/1\.1 \d)/).at(-1)!)
  t.match({ status: last.status, nosniff: last.headers['x-content-type-options'] }, { status: 503, nosniff: undefined })
})

t.test('closing does not wait for idle connections, nor for ever for those that send nothing whole', async t => {
  const { app, port } = await build(t, {}, { closeTimeout: 40 })
  const silent = open(t, port)
  const half = open(t, port)
  const idle = open(t, port)
  half.write(`GET / HTTP/1.1\r\n${HOST}X-Half:`)
  idle.write(`GET / HTTP/1.1\r\n${HOST}\r\n`)
  await once(idle, 'data')
  const ended = Promise.all([silent, half, idle].map(socket => socket.closed ? null : once(socket, 'close')))
  await app.close()
  await ended
  t.pass('it closed, and so did they')
})

t.test('on localhost both address families are covered by the same answers', async t => {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion)
  await app.listen({ port: 0, host: 'localhost' })
  for (const { address, port } of app.addresses() as AddressInfo[]) {
    const socket = connect(port, address)
    t.teardown(() => { socket.destroy() })
    socket.write('s3cret\r\n\r\n')
    const [chunk] = await once(socket, 'data')
    isRefusal(t, String(chunk), 400, 'FST_BASTION_SERVER_MALFORMED', address)
  }
})

t.test('HTTP/2: a host that differs from the authority is refused; closing ends idle sessions [TRAP 29]', async t => {
  const app = Fastify(server({ logger: false, fastify: { http2: true } as never })) as unknown as FastifyInstance
  t.teardown(() => app.close())
  await app.register(bastion)
  app.get('/', { schema: { response: { 200: Type.Object({ ok: Type.Boolean() }) } }, config: { access: 'public' } }, async () => ({ ok: true }))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const session = http2.connect(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
  t.teardown(() => { session.destroy() })
  const ask = async (headers: http2.OutgoingHttpHeaders) => {
    const stream = session.request(headers)
    let body = ''
    stream.setEncoding('utf8').on('data', chunk => { body += chunk })
    const [answer] = await once(stream, 'response') as [http2.IncomingHttpHeaders]
    await once(stream, 'end')
    return { status: answer[':status'], nosniff: answer['x-content-type-options'], code: JSON.parse(body).code }
  }
  t.match(await ask({ ':path': '/' }), { status: 200, nosniff: 'nosniff' })
  t.match(await ask({ ':path': '/', ':authority': 'localhost', host: 'evil.example' }), { status: 400, nosniff: 'nosniff', code: 'FST_BASTION_TRANSPORT_HOST_MALFORMED' })
  t.match(await ask({ ':path': '/%zz' }), { status: 400, nosniff: 'nosniff', code: 'FST_ERR_BAD_URL' })
  const ended = once(session, 'close')
  await app.close()
  await ended
})

t.test('HTTP/2: a method that no router knows is malformed, counted, and leaves no hook out', async t => {
  const { port, recorded, log } = await build(t, { limits: { address: ['4/minute'] } }, { fastify: { http2: true } as never })
  const session = http2.connect(`http://127.0.0.1:${port}`)
  t.teardown(() => { session.destroy() })
  for (const method of ['FOO', 'get', 'GET2', '__proto__', 'constructor']) {
    const answer = await askOverHttp2(session, { ':method': method, ':path': '/', ...method === 'get' && { expect: 'the unexpected' } })
    const isOver = method === 'constructor'
    t.equal(answer.status, isOver ? 429 : 400, method)
    t.match(answer.headers, { 'content-type': /^application\/problem\+json/, 'x-content-type-options': 'nosniff', 'content-security-policy': /default-src 'none'/, 'cache-control': 'no-store' }, method)
    t.match(answer.problem, { code: isOver ? 'FST_BASTION_LIMITS_EXCEEDED' : 'FST_BASTION_SERVER_MALFORMED', requestId: String }, method)
  }
  t.ok(recorded.some(({ type }) => type === 'malformed_request'))
  t.notMatch(log.join(''), /likely a fastify bug/)

  await t.test('while plain Fastify leaves its hooks out, and prints all of its routes into the log', async t => {
    const lines: string[] = []
    const app = Fastify({ http2: true, logger: { level: 'warn', stream: new Writable({ write (line, _encoding, done) { lines.push(String(line)); done() } }) } } as never) as unknown as FastifyInstance
    t.teardown(() => app.close())
    let hooks = 0
    app.addHook('onRequest', async () => { hooks++ })
    app.get('/', async () => 'x')
    await app.listen({ port: 0, host: '127.0.0.1' })
    const session = http2.connect(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
    t.teardown(() => { session.destroy() })
    t.equal((await askOverHttp2(session, { ':method': 'FOO', ':path': '/' })).status, 404)
    t.equal(hooks, 0)
    t.match(lines.join(''), /likely a fastify bug/)
  })
})

async function askOverHttp2 (session: http2.ClientHttp2Session, headers: http2.OutgoingHttpHeaders): Promise<Answer> {
  const stream = session.request(headers)
  const [answer] = await once(stream, 'response') as [http2.IncomingHttpHeaders]
  let body = ''
  for await (const chunk of stream.setEncoding('utf8')) body += chunk
  return { status: Number(answer[':status']), headers: answer as Record<string, string>, body, problem: body.startsWith('{') ? JSON.parse(body) : {} }
}

t.test('one line of log a request, with its id, and the client\'s address', async t => {
  const { port, log } = await build(t)
  await send(t, port, `GET /items/7?token=s3cret HTTP/1.1\r\n${HOST}\r\n`)
  await send(t, port, `GET http://user:s3cret@localhost/%zz?token=s3cret HTTP/1.1\r\n${HOST}\r\n`)
  const lines = log.map(line => JSON.parse(line)).filter(({ msg }) => msg === 'request')
  t.equal(lines.length, 2)
  t.match(lines[0], { method: 'GET', path: '/items/7', status: 200, address: '127.0.0.1', requestId: /^[\da-f]{32}$/ })
  t.match(lines[1], { path: '/%zz', status: 400 })
  t.notMatch(log.join(''), /s3cret/)
})

async function bareFastify (t: Test): Promise<{ app: FastifyInstance, port: number }> {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get('/', async () => ({ ok: true }))
  app.post('/', async () => ({ ok: true }))
  app.get('/slow', async () => {
    await new Promise(resolve => setTimeout(resolve, 50))
    return { ok: true }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, port: (app.server.address() as AddressInfo).port }
}
