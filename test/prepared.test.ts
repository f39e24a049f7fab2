/** Prepared headers: on the wire, and for whoever asks, they are as if they had been set one by one. */
import { once } from 'node:events'
import { request as ask, ServerResponse, type IncomingHttpHeaders } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify'
import t, { type Test } from 'tap'
import { Type } from '@sinclair/typebox'
import bastion, { server } from '../plugins/index.js'
import { PreparedHeaders, PreparedResponse, setPrepared } from '../plugins/prepared.js'

interface Answer { status: number, pairs: string[], headers: IncomingHttpHeaders, body: string }
type Declare = (app: FastifyInstance) => void

const ORIGIN = 'https://app.example.com'
const open = { schema: { response: { 200: Type.Object({ ok: Type.Boolean() }) } }, config: { access: 'public' } } as const
const raw = { config: { access: 'public', answers: 'raw' } } as const

/** The suite on a real socket; `plain` with Node's own response, which is the control. */
async function build (t: Test, declare: Declare, plain = false, before: Declare = () => {}): Promise<FastifyInstance> {
  const app = Fastify(server({ logger: false, fastify: (plain ? { http: { ServerResponse } } : {}) as object }))
  t.teardown(() => app.close())
  before(app)
  await app.register(bastion, { cors: { origins: [ORIGIN], credentials: true } })
  declare(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

function call (app: FastifyInstance, { method = 'GET', path = '/', headers = {} as Record<string, string> } = {}): Promise<Answer> {
  const { port } = app.server.address() as AddressInfo
  return new Promise((resolve, reject) => {
    ask({ port, host: '127.0.0.1', method, path, headers: { origin: ORIGIN, ...headers } }, response => {
      let body = ''
      response.setEncoding('latin1').on('data', part => { body += part }).on('end', () => {
        const pairs: string[] = []
        for (let i = 0; i < response.rawHeaders.length; i += 2) pairs.push(`${response.rawHeaders[i]!.toLowerCase()}: ${response.rawHeaders[i + 1]}`)
        resolve({ status: response.statusCode!, pairs, headers: response.headers, body })
      })
    }).on('error', reject).end()
  })
}

/** Asserts that both give the same answer, and gives it. */
async function same (t: Test, declare: Declare, question?: Parameters<typeof call>[1], before?: Declare): Promise<Answer> {
  const [prepared, plain] = [await build(t, declare, false, before), await build(t, declare, true, before)]
  const [ours, nodes] = [await call(prepared, question), await call(plain, question)]
  const strip = ({ status, pairs, body }: Answer) => ({
    status,
    pairs: pairs.filter(pair => !pair.startsWith('date:')).sort(),
    body: body.replace(/"requestId":"[^"]+"/, ''),
  })
  t.same(strip(ours), strip(nodes))
  t.ok(ours.headers['x-content-type-options'] === 'nosniff' || question?.path === '/without', 'it has headers')
  return ours
}

t.test('every kind of answer has the head that Node gives it when the headers are set one by one', async t => {
  const answers: Record<string, (app: FastifyInstance) => void> = {
    object: app => app.get('/', open, async () => ({ ok: true })),
    'no content': app => app.get('/', raw, async (_request, reply) => reply.code(204).send()),
    'not modified': app => app.get('/', raw, async (_request, reply) => reply.code(304).send()),
    text: app => app.get('/', raw, async () => 'text'),
    buffer: app => app.get('/', raw, async () => Buffer.from([1, 2, 255])),
    stream: app => app.get('/', raw, async () => Readable.from(['a', 'b'])),
    'web stream': app => app.get('/', raw, async () => new Response('web', { headers: { 'x-web': '1' } })),
    failure: app => app.get('/', open, async () => { throw new Error('no') }),
    'a failing stream': app => app.get('/', raw, async () => new Readable({ read () { this.destroy(new Error('no')) } })),
    redirect: app => app.get('/', raw, async (_request, reply) => reply.redirect('/there')),
    cookies: app => app.get('/', raw, async (_request, reply) => reply.header('set-cookie', ['a=1', 'b=2']).send('x')),
    'an unknown route': () => {},
    'a page with a nonce': app => app.get('/', { config: { ...raw.config, headers: { contentSecurityPolicy: 'page' } } }, async (_request, reply) => {
      reply.header('content-security-policy', String(reply.getHeader('content-security-policy')).replaceAll(reply.scriptNonce, 'N'))
      return 'x'
    }),
    'a hook that fails on the problem too': app => {
      app.get('/', open, async () => { throw new Error('no') })
      app.addHook('onSend', async () => { throw new Error('again') })
    },
  }
  for (const [name, declare] of Object.entries(answers)) await t.test(name, async t => { await same(t, declare) })
  for (const method of ['HEAD', 'OPTIONS', 'PROPFIND']) await t.test(method, async t => { await same(t, answers.object!, { method }) })
  await t.test('a preflight', async t => { await same(t, answers.object!, { method: 'OPTIONS', headers: { 'access-control-request-method': 'GET' } }) })
  await t.test('a malformed URL', async t => { await same(t, answers.object!, { path: '/%zz' }) })
  await t.test('a route without headers', async t => {
    const { headers } = await same(t, app => app.get('/without', { ...open, config: { access: 'public', headers: false } }, async () => ({ ok: true })), { path: '/without' })
    t.notOk('x-frame-options' in headers)
  })
})

t.test('what a service does to a header counts, whenever and however it does it', async t => {
  const touches: Record<string, [(reply: FastifyReply) => void, Record<string, string | undefined>]> = {
    'reply.header': [reply => reply.header('Cache-Control', 'public'), { 'cache-control': 'public' }],
    'reply.headers': [reply => reply.headers({ 'x-frame-options': 'SAMEORIGIN', vary: 'accept' }), { 'x-frame-options': 'SAMEORIGIN', vary: 'accept' }],
    'reply.removeHeader': [reply => reply.removeHeader('X-Frame-Options'), { 'x-frame-options': undefined }],
    'raw.setHeader': [reply => reply.raw.setHeader('Referrer-Policy', 'origin'), { 'referrer-policy': 'origin' }],
    'raw.appendHeader': [reply => reply.raw.appendHeader('Vary', 'accept'), { vary: 'Origin, accept' }],
    'raw.removeHeader': [reply => reply.raw.removeHeader('permissions-policy'), { 'permissions-policy': undefined }],
    'raw.setHeader of another name': [reply => reply.raw.setHeader('x-mine', '1'), { 'x-mine': '1', 'x-frame-options': 'DENY' }],
    'one after the other': [reply => { reply.removeHeader('vary'); reply.header('vary', 'accept').raw.setHeader('cache-control', 'private') }, { vary: 'accept', 'cache-control': 'private' }],
  }
  for (const [name, [touch, expected]] of Object.entries(touches)) {
    await t.test(name, async t => {
      const declare: Declare = app => app.get('/', open, async (_request, reply) => { touch(reply); return { ok: true } })
      // What is done to the raw response has no effect on headers that were set on the reply: there is nothing to compare with.
      const { headers, pairs } = name.startsWith('reply.') ? await same(t, declare) : await call(await build(t, declare))
      for (const [header, value] of Object.entries(expected)) t.equal(headers[header], value)
      const names = pairs.map(pair => pair.slice(0, pair.indexOf(':')))
      t.equal(new Set(names).size, names.length - (name === 'raw.appendHeader' ? 1 : 0), 'no header is there twice, but the one that was appended')
    })
  }

  await t.test('a hook older than the suite is overruled, and what it says of other headers stays', async t => {
    const { headers } = await same(t, app => app.get('/', open, async () => ({ ok: true })), undefined, app => {
      app.addHook('onRequest', async (_request, reply) => { reply.headers({ 'x-frame-options': 'ALLOWALL', vary: 'accept', 'access-control-allow-origin': '*', 'x-old': '1' }) })
    })
    t.match(headers, { 'x-frame-options': 'DENY', vary: 'accept, Origin', 'access-control-allow-origin': ORIGIN, 'x-old': '1' })
  })

  await t.test('so it is where an older hook wrote to the raw response', async t => {
    await same(t, app => app.get('/', open, async () => ({ ok: true })), undefined, app => {
      app.addHook('onRequest', async (_request, reply) => { reply.raw.setHeader('X-Frame-Options', 'ALLOWALL') })
    })
  })
})

t.test('what is written past Fastify has them too, where it says nothing else itself', async t => {
  const writings: Record<string, (raw: ServerResponse) => void> = {
    'without a head': raw => raw.end('by hand'),
    'with a head': raw => raw.writeHead(200, { 'X-Frame-Options': 'SAMEORIGIN' }).end('by hand'),
    'with a reason and a head': raw => raw.writeHead(200, 'Fine', { 'X-Frame-Options': 'SAMEORIGIN' }).end('by hand'),
    'with a head as an array': raw => raw.writeHead(200, ['X-Frame-Options', 'SAMEORIGIN']).end('by hand'),
    'with a head of other names': raw => raw.writeHead(200, { 'x-mine': '1' }).end('by hand'),
    'piece by piece': raw => { raw.setHeader('X-Frame-Options', 'SAMEORIGIN'); raw.write('by '); raw.end('hand') },
    'head first': raw => { raw.flushHeaders(); raw.end('by hand') },
  }
  for (const [name, write] of Object.entries(writings)) {
    const app = await build(t, app => app.get('/', raw, (_request, reply) => { write(reply.hijack().raw) }))
    const { status, headers, pairs, body } = await call(app)
    t.match({ status, body, headers }, { status: 200, body: 'by hand', headers: { 'x-content-type-options': 'nosniff', 'access-control-allow-origin': ORIGIN } }, name)
    const framing = pairs.filter(pair => pair.startsWith('x-frame-options'))
    t.same(framing, [write.toString().includes('SAMEORIGIN') ? 'x-frame-options: SAMEORIGIN' : 'x-frame-options: DENY'])
  }
})

t.test('a body that is sent with the end arrives as it was meant, and is framed so that the next answer begins after it', async t => {
  const utf8AsLatin1 = Buffer.from('čĊx-injected: yesčĊ.txt').toString('latin1')
  const writings: Record<string, [(raw: ServerResponse) => void, string?]> = {
    hexadecimal: [raw => raw.end('68656c6c6f', 'hex')],
    base64: [raw => raw.end('aGVsbG8=', 'base64')],
    'UTF-16': [raw => raw.end('hello', 'utf16le'), 'h\0e\0l\0l\0o\0'],
    'no ASCII': [raw => raw.end('é😀'), Buffer.from('é😀').toString('latin1')],
    'half of a surrogate pair': [raw => raw.end('a\ud800'), Buffer.from('a\ufffd').toString('latin1')],
    chunked: [raw => raw.setHeader('transfer-encoding', 'chunked').end('hello')],
    'without a length': [raw => { raw.removeHeader('content-length'); raw.end('hello') }],
    'with a trailer': [raw => { raw.setHeader('trailer', 'x-t'); raw.addTrailers({ 'x-t': '1' }); raw.end('hello') }],
    'the second of two pieces': [raw => { raw.setHeader('content-length', 5); raw.write('he'); raw.end('llo') }],
    'with a file name that is UTF-8 (CWE-113)': [raw => raw.setHeader('content-disposition', `attachment; filename="${utf8AsLatin1}"`).end('hello')],
    'with its length checked': [raw => { raw.strictContentLength = true; raw.end('hello') }],
  }
  for (const [name, [write, expected = 'hello']] of Object.entries(writings)) {
    await t.test(name, { timeout: 10_000 }, async t => {
      let ended = false
      const app = await build(t, app => app.get('/', raw, (_request, reply) => { write(reply.hijack().raw.on('finish', () => { ended = true })) }))
      const { headers, body } = await call(app)
      t.equal(body, expected)
      t.equal(Number(headers['content-length'] ?? expected.length), expected.length)
      t.notOk('x-injected' in headers)
      t.ok(ended)
    })
  }
})

t.test('what is written past the filter while an earlier answer is still on its way ends the connection after that one', { timeout: 10_000 }, async t => {
  let answer = () => {}
  const app = await build(t, app => {
    app.get('/', open, () => new Promise(resolve => { answer = () => { resolve({ ok: true }) } }))
    app.get('/raw', open, (_request, reply) => { reply.hijack().raw.end('secret'); setImmediate(answer) })
    app.get('/third', open, async () => ({ ok: true }))
  })
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  let answers = ''
  socket.on('data', part => { answers += part }).write(['/', '/raw', '/third'].map(path => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`).join(''))
  await once(socket, 'close')
  t.match(answers, /^HTTP\/1\.1 200 OK\r\n.*\{"ok":true\}$/s)
  t.equal(answers.split('HTTP/1.1').length, 2)
})

t.test('a list of headers says a name as often as it is in it, and what was prepared of that name no more', async t => {
  const lists = [['Set-Cookie', 'a=1', 'set-cookie', 'b=2', 'X-Frame-Options', 'SAMEORIGIN'], [['set-cookie', 'a=1'], ['set-cookie', 'b=2'], ['x-frame-options', 'SAMEORIGIN']]]
  for (const list of lists) {
    const app = await build(t, app => app.get('/', raw, (_request, reply) => { reply.hijack().raw.writeHead(200, list as string[]).end('by hand') }))
    const { pairs } = await call(app)
    t.same(pairs.filter(pair => /^set-cookie|^x-frame/.test(pair)), ['set-cookie: a=1', 'set-cookie: b=2', 'x-frame-options: SAMEORIGIN'])
    t.ok(pairs.includes('x-content-type-options: nosniff'))
  }
})

t.test('under a prototype that another framework gives the response, headers and filter stay (CWE-693)', async t => {
  const strange = (raw: ServerResponse) => Object.setPrototypeOf(raw, ServerResponse.prototype) as ServerResponse
  const app = await build(t, app => {
    app.get('/', raw, (_request, reply) => { strange(reply.hijack().raw).setHeader('X-Frame-Options', 'SAMEORIGIN').end('by hand') })
    app.get('/filtered', open, (_request, reply) => { strange(reply.hijack().raw).end('secret') })
    app.get('/alias', open, (_request, reply) => { (reply.hijack().raw as unknown as { writeHeader: ServerResponse['writeHead'] }).writeHeader(200).end('secret') })
  })
  const { headers, pairs } = await call(app)
  t.match(headers, { 'x-content-type-options': 'nosniff', 'access-control-allow-origin': ORIGIN })
  t.same(pairs.filter(pair => pair.startsWith('x-frame')), ['x-frame-options: SAMEORIGIN'])
  for (const path of ['/filtered', '/alias']) await t.rejects(call(app, { path }), { code: 'ECONNRESET' }, path)
})

t.test('who asks for a prepared header is told it', async t => {
  let seen: unknown
  const app = await build(t, app => app.get('/', open, async (_request, reply) => {
    const { raw } = reply
    t.ok(raw instanceof PreparedResponse)
    raw.setHeader('x-mine', '1')
    seen = [
      reply.getHeader('X-Frame-Options'), reply.hasHeader('vary'), reply.getHeaders()['cache-control'], reply.getHeaders()['x-mine'], reply.hasHeader('x-absent'),
      raw.getHeader('X-Frame-Options'), raw.hasHeader('Vary'), raw.getHeaders()['cache-control'], raw.getHeaderNames().includes('vary'), raw.getHeader('x-absent'),
      raw.getHeader('constructor'), raw.hasHeader('__proto__'),
    ]
    return { ok: true }
  }))
  await call(app)
  t.same(seen, ['DENY', true, 'no-store', '1', false, 'DENY', true, 'no-store', true, undefined, undefined, false])
})

t.test('nothing of one answer is left for the next of its connection', async t => {
  const app = await build(t, app => {
    app.get('/first', open, async (_request, reply) => { reply.header('cache-control', 'public'); return { ok: true } })
    app.get('/', { ...open, config: { access: 'public', headers: { cacheControl: 'private' }, cors: false } }, async () => ({ ok: true }))
  })
  const keepAlive = { connection: 'keep-alive' }
  t.equal((await call(app, { path: '/first', headers: keepAlive })).headers['cache-control'], 'public')
  const { headers } = await call(app, { headers: keepAlive })
  t.equal(headers['cache-control'], 'private')
  t.notOk('access-control-allow-origin' in headers)
})

t.test('a budget is told as it was decided, whatever a service makes of the decision (CWE-113)', async t => {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, {
    limits: {
      refuse (_request, decision) {
        Object.assign(decision, { remaining: '1\r\nx-injected: yes', resetMs: 1e12, window: 1 })
        return Object.assign(new Error('later'), { statusCode: 429 })
      },
    },
  })
  app.get('/', { ...open, config: { access: 'public', limits: ['1/minute', '100/day'] } }, async () => ({ ok: true }))
  await app.listen({ port: 0, host: '127.0.0.1' })
  await call(app)
  const { status, headers } = await call(app)
  t.equal(status, 429)
  t.match(headers, { 'x-ratelimit-limit': '1', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': /^\d{1,3}$/, ratelimit: /^"1\/minute";r=0;t=\d+$/ })
  t.notOk('x-injected' in headers)
})

t.test('app.inject answers with the same headers', async t => {
  const app = await build(t, app => app.get('/', open, async () => ({ ok: true })))
  const wire = await call(app)
  const injected = await app.inject({ url: '/', headers: { origin: ORIGIN, host: '127.0.0.1' } })
  for (const { headers } of [wire, injected]) for (const name of ['date', 'connection', 'keep-alive']) Reflect.deleteProperty(headers, name)
  Object.assign(injected.headers, { 'x-ratelimit-remaining': wire.headers['x-ratelimit-remaining'], ratelimit: wire.headers.ratelimit })
  t.same(injected.headers, wire.headers)
})

t.test('headers that no answer can have, or that Node must see by itself, are not prepared', async t => {
  for (const [name, value] of [['x-a', 'b\r\nx-c: d'], ['x a', 'b'], ['x-a', '\u0000'], ['x-a\r\nx-b', 'c'], ['', 'b']] as const) t.throws(() => new PreparedHeaders({ [name]: value }))
  for (const name of ['connection', 'content-length', 'transfer-encoding', 'date', 'trailer', 'expect', 'set-cookie', 'X-Upper']) {
    t.throws(() => new PreparedHeaders({ [name]: '1' }), { message: /cannot be prepared/ }, name)
  }
  t.throws(() => { (new PreparedHeaders({ 'x-a': 'b' }).set as Record<string, string>)['x-a'] = 'b\r\nc: d' }, TypeError, 'nor changed later')
  t.equal(new PreparedHeaders({ 'x-a': '1', 'x-b': '2' }).text, 'x-a: 1\r\nx-b: 2\r\n')
})

t.test('of two sets with one name the later counts, and the pair is made once', async t => {
  const [first, second] = [new PreparedHeaders({ 'x-a': '1', 'x-b': '2' }), new PreparedHeaders({ 'x-b': '3' })]
  t.same({ ...first.with(second).set }, { 'x-a': '1', 'x-b': '3' })
  t.equal(first.with(second), first.with(second))
})

t.test('without the suite it works on its own, and where the response is not ours the headers are set one by one', async t => {
  for (const http of [{ ServerResponse: PreparedResponse }, {}]) {
    const app = Fastify({ http } as never)
    t.teardown(() => app.close())
    const headers = new PreparedHeaders({ 'x-a': '1' })
    app.get('/', async (_request, reply) => { setPrepared(reply as never, headers); return { ok: true } })
    await app.listen({ port: 0, host: '127.0.0.1' })
    t.equal((await call(app as never)).headers['x-a'], '1')
  }
})
