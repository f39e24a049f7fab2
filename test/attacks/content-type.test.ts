/** Content-type confusion (CWE-436, CWE-352): a body that is taken for another kind of body than was checked. */
import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server } from '../../plugins/index.js'
import { closed } from '../../schemas/index.js'
import { as, readCallers } from '../fixtures/caller.js'

const Transfer = closed({ to: Type.String({ maxLength: 20 }), amount: Type.Integer({ minimum: 1, maximum: 100 }) })
const GOOD = JSON.stringify({ to: 'bob', amount: 1 })
const EVIL = JSON.stringify({ to: 'mallory', amount: 1_000_000, approved: true })

async function build (t: Test): Promise<{ app: FastifyInstance, seen: unknown[] }> {
  const seen: unknown[] = []
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, {})
  readCallers(app)
  // A service that also takes forms and text somewhere.
  app.addContentTypeParser(['application/x-www-form-urlencoded', 'text/plain'], { parseAs: 'string' }, ((_request: unknown, body: string, done: (error: null, body: unknown) => void) => {
    done(null, body.startsWith('{') ? JSON.parse(body) : Object.fromEntries(new URLSearchParams(body)))
  }) as never)
  app.post('/transfer', { schema: { body: Transfer, response: { 200: closed({}) } }, config: { access: 'user' } }, async request => { seen.push(request.body); return {} })
  app.post('/login', { schema: { body: { content: { 'application/x-www-form-urlencoded': { schema: closed({ name: Type.String({ maxLength: 20 }) }) } } }, response: { 200: closed({}) } }, config: { access: 'public' } },
    async request => { seen.push(request.body); return {} })
  return { app, seen }
}

/** Exactly these bytes, and the status of the answer. */
async function raw (port: number, path: string, headers: string, body: string): Promise<number> {
  const socket = connect(port, '127.0.0.1')
  socket.end(`POST ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${Object.entries(as({})).map(([name, value]) => `${name}: ${value}\r\n`).join('')}${headers}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`, 'latin1')
  let text = ''
  socket.on('data', part => { text += String(part) })
  await once(socket, 'close')
  return Number(text.slice(9, 12))
}

const headers: Record<string, string> = {
  'a tab after it (GHSA-jx2c-rxcm-jvmq)': 'Content-Type: application/json\ta\r\n',
  'a tab before it': 'Content-Type:\tapplication/json\r\n',
  'a blank before it (GHSA-247c-9743-5963)': 'Content-Type:   application/json\r\n',
  'a blank in it (GHSA-mg2h-6x62-wpwc)': 'Content-Type: application/json ; charset=utf-8\r\n',
  'odd case (GHSA-mg2h-6x62-wpwc)': 'Content-Type: ApPlIcAtIoN/JsOn\r\n',
  'words after it (GHSA-573f-x89g-hqp9)': 'Content-Type: application/json garbage\r\n',
  'a second value': 'Content-Type: application/json, text/plain\r\n',
  'a second header': 'Content-Type: application/json\r\nContent-Type: text/plain\r\n',
  'text, as a form of another site may send it (CWE-352)': 'Content-Type: text/plain\r\n',
  'a form, as another site may send it (CWE-352)': 'Content-Type: application/x-www-form-urlencoded\r\n',
  'multipart, as another site may send it (CWE-352)': 'Content-Type: multipart/form-data; boundary=x\r\n',
  'another kind of JSON': 'Content-Type: application/vnd.api+json\r\n',
  'another charset': 'Content-Type: application/json; charset=utf-16\r\n',
  nothing: '',
  'an empty one': 'Content-Type: \r\n',
}

t.test('no way of writing the media type gets a body past its schema', async t => {
  const { app, seen } = await build(t)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  for (const [what, header] of Object.entries(headers)) {
    const status = await raw(port, '/transfer', header, EVIL)
    t.ok(status === 400 || status === 415, `${what}: ${status}`)
    const onForm = await raw(port, '/login', header, EVIL)
    t.ok(onForm === 400 || onForm === 415, `${what}, where a form is expected: ${onForm}`)
  }
  t.same(seen, [])
  t.equal(await raw(port, '/transfer', 'Content-Type: application/json\r\n', GOOD), 200, 'an honest one passes')
  t.equal(await raw(port, '/login', 'Content-Type: application/x-www-form-urlencoded\r\n', 'name=bob'), 200)

  await t.test('while on plain Fastify simple requests of another site reach the handler, by default as text, and unread where the schema is for another type', async t => {
    const got: unknown[] = []
    const app = Fastify()
    t.teardown(() => app.close())
    app.post('/transfer', async request => { got.push(request.body); return {} })
    app.post('/json-only', { schema: { body: { content: { 'application/json': { schema: Transfer } } } } }, async request => { got.push(request.body); return {} })
    await app.listen({ host: '127.0.0.1', port: 0 })
    const plainPort = (app.server.address() as AddressInfo).port
    t.equal(await raw(plainPort, '/transfer', headers['text, as a form of another site may send it (CWE-352)']!, EVIL), 200)
    t.equal(await raw(plainPort, '/json-only', 'Content-Type: text/plain\r\n', EVIL), 200)
    t.same(got, [EVIL, EVIL])
  })
})

t.test('two lengths, or a length and chunks, are no request (CWE-444)', async t => {
  const { app, seen } = await build(t)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  t.equal(await raw(port, '/transfer', 'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n', `${EVIL.length.toString(16)}\r\n${EVIL}\r\n0\r\n\r\n`), 400)
  t.equal(await raw(port, '/transfer', 'Content-Type: application/json\r\nContent-Length: 5\r\n', EVIL), 400)
  t.same(seen, [])
})
