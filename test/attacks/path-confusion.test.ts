/** Path confusion (CWE-22, CWE-178, CWE-436): writing the way to a guarded route so that the guard does not know it. */
import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions } from '../../plugins/index.js'
import { closed } from '../../schemas/index.js'
import { readCallers } from '../fixtures/caller.js'

/** A router that forgives everything, as a service may have it. */
const LENIENT = { caseSensitive: false, ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, useSemicolonDelimiter: true }
const TARGETS = [
  '/admin', '/%61dmin', '/%61%64%6d%69%6e', '/%2561dmin', '//admin', '///admin', '/admin/', '/admin//', '/ADMIN', '/Admin', '/%41dmin', '/admin;', '/admin;x=y', '/admin;/x', '/;/admin', '/admin%3b', '/admin%2f', '/%2fadmin', '/admin%5c',
  '/./admin', '/x/../admin', '/%2e/admin', '/x/%2e%2e/admin', '/x/..;/admin', '/.;/admin', '/admin/.', '/admin/..;/admin', '\\admin', '/\\admin', '/admin\\', '/admin%00', '/admin%20', '/admin%09', '/admin%0a', '/admin.', '/admin.json', '/admin~', '/admin?', '/admin?x', '/admin#', '/admin#x',
  '/admin%', '/%admin', '/%ff', '/admin%c0%af', '/%ef%bd%81dmin', '/\u00e1dmin', 'admin', '*', 'http://localhost/admin', 'http://evil.example/admin', 'https://localhost/admin', '/health/../admin', '/health/%2e%2e%2fadmin', '/health;/../admin', '/health?/admin', '/files/../admin', '/files/%2e%2e/admin', '/files/..%2fadmin',
]

async function build (t: Test, routerOptions: object = {}): Promise<{ app: FastifyInstance, runs: { count: number } }> {
  const runs = { count: 0 }
  const app = Fastify(server({ logger: false, fastify: { routerOptions } }))
  t.teardown(() => app.close())
  await app.register(bastion, { access: { roles: { admin: {} } } } as never as BastionOptions)
  readCallers(app)
  const Ok = closed({ ok: Type.Boolean() })
  const handler = async () => { runs.count++; return { ok: true } }
  for (const url of ['/admin', '/files/*', '/admin/:name']) app.get(url, { schema: { response: { 200: Ok } }, config: { access: { roles: 'admin' } as never } }, handler)
  app.get('/health', { schema: { response: { 200: Ok } }, config: { access: 'public' } }, async () => ({ ok: true }))
  return { app, runs }
}

/** Exactly this request line: clients tidy up what they send. */
async function raw (app: FastifyInstance, target: string, method = 'GET'): Promise<number> {
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  socket.end(`${method} ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`, 'latin1')
  let text = ''
  socket.on('data', part => { text += String(part) })
  await once(socket, 'close')
  return Number(text.slice(9, 12))
}

for (const [name, routerOptions] of Object.entries({ 'as the suite sets it': {}, 'that forgives everything': LENIENT })) {
  t.test(`with a router ${name}, no way of writing the path passes the guard [TRAP 22]`, async t => {
    const { app, runs } = await build(t, routerOptions)
    await app.listen({ host: '127.0.0.1', port: 0 })
    for (const target of TARGETS) {
      const status = await raw(app, target)
      // What the router takes for the public route is that route, and no other.
      const isPublic = status === 200 && /^\/health\b/.test(target)
      t.ok(isPublic || [400, 401, 404].includes(status), `${target}: ${status}`)
    }
    for (const method of ['HEAD', 'OPTIONS', 'POST', 'TRACE', 'get', 'GETX']) t.ok([400, 401, 404, 405].includes(await raw(app, '/admin', method)), method)
    t.equal(runs.count, 0, 'no guarded handler ran')
    t.equal(await raw(app, '/health'), 200, 'while the public route answers')
  })
}

t.test('while a guard that reads the URL is passed by [TRAP 22]', async t => {
  let runs = 0
  const app = Fastify({ routerOptions: LENIENT })
  t.teardown(() => app.close())
  app.addHook('onRequest', async request => { if (request.url.startsWith('/admin')) throw Object.assign(new Error('no'), { statusCode: 401 }) })
  app.get('/admin', async () => { runs++; return {} })
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.equal(await raw(app, '/admin'), 401)
  const passed: string[] = []
  for (const target of ['/%61dmin', '//admin', '/ADMIN', '/Admin', '/%41dmin', '///admin']) if (await raw(app, target) === 200) passed.push(target)
  t.same(passed, ['/%61dmin', '//admin', '/ADMIN', '/Admin', '/%41dmin', '///admin'])
  t.equal(runs, 6)
})

t.test('while a guard that is hung on the exact path is passed by one that is written otherwise', async t => {
  let runs = 0
  const app = Fastify({ routerOptions: LENIENT })
  t.teardown(() => app.close())
  app.addHook('onRequest', async request => { if (['/admin', '/admin/'].includes(request.url.split('?')[0]!)) throw Object.assign(new Error('no'), { statusCode: 401 }) })
  app.get('/admin', async () => { runs++; return {} })
  t.equal((await app.inject('/admin')).statusCode, 401)
  t.equal((await app.inject('/admin;x=y')).statusCode, 200)
  t.equal(runs, 1)
})
