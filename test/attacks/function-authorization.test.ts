/** Broken function level authorization (OWASP API5:2023, CWE-862): calling what is for others to call. */
import Fastify, { type FastifyInstance, type FastifyRequest, type InjectOptions } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server, withPolicy, type BastionOptions } from '../../plugins/index.js'
import type { SecurityEvent } from '../../plugins/events.js'
import { closed, noBody } from '../../schemas/index.js'
import { as, readCallers } from '../fixtures/caller.js'

const Ok = closed({ ok: Type.Boolean() })

async function build (t: Test, policy?: 'user'): Promise<{ app: FastifyInstance, runs: { count: number }, recorded: SecurityEvent[] }> {
  const runs = { count: 0 }
  const recorded: SecurityEvent[] = []
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, { access: { roles: { user: { permissions: ['posts:write'] }, admin: { permissions: ['*'] } }, permissions: ['users:delete'] } } as never as BastionOptions)
  readCallers(app)
  app.events.listen(event => { recorded.push(event) })
  const handler = async () => { runs.count++; return { ok: true } }
  const admin = (policy ?? { roles: 'admin' }) as never
  app.get('/admin/users', { schema: { response: { 200: Ok } }, config: { access: admin } }, handler)
  app.delete('/admin/users/:userId', { schema: { response: { 200: Ok } }, config: { access: (policy ?? { permissions: 'users:delete' }) as never } }, handler)
  app.post('/admin/promote', { schema: { body: noBody, response: { 200: Ok } }, config: { access: admin } }, handler)
  app.route({ method: ['PUT', 'PATCH'], url: '/admin/many', schema: { body: noBody, response: { 200: Ok } }, config: { access: admin }, handler })
  app.get('/posts', { schema: { response: { 200: Ok } }, config: { access: 'public' } }, handler)
  await app.register(withPolicy({ access: admin, answers: 'raw' }, async child => { child.get('/console', async () => { runs.count++; return 'console' }) }))
  return { app, runs, recorded }
}

t.test('nobody but an administrator calls what is for administrators [ASVS 8.2.1]', async t => {
  const { app, runs, recorded } = await build(t)
  const functions: InjectOptions[] = [
    { method: 'GET', url: '/admin/users' }, { method: 'HEAD', url: '/admin/users' }, { method: 'DELETE', url: '/admin/users/7' }, { method: 'POST', url: '/admin/promote' },
    { method: 'PUT', url: '/admin/many' }, { method: 'PATCH', url: '/admin/many' }, { method: 'GET', url: '/console' }, { method: 'HEAD', url: '/console' },
  ]
  for (const request of functions) {
    t.equal((await app.inject(request)).statusCode, 401, `a stranger: ${request.method} ${String(request.url)}`)
    t.equal((await app.inject({ ...request, headers: as({ roles: ['user'] }) })).statusCode, 403, `a user: ${request.method} ${String(request.url)}`)
  }
  t.equal(runs.count, 0)
  t.equal(recorded.filter(({ type }) => type === 'access_denied').length, functions.length * 2)
  for (const request of functions) t.equal((await app.inject({ ...request, headers: as({ roles: ['admin'] }) })).statusCode, 200)
  t.equal(runs.count, functions.length)

  const open = await build(t, 'user')
  for (const request of functions) t.equal((await open.app.inject({ ...request, headers: as({ roles: ['user'] }) })).statusCode, 200, `negative control: where it is enough to be signed in: ${request.method} ${String(request.url)}`)
})

t.test('nothing that a caller says of itself makes it an administrator [ASVS 8.3.1]', async t => {
  const { app, runs } = await build(t)
  const user = as({ roles: ['user'] })
  const tries: InjectOptions[] = [
    { method: 'GET', url: '/posts', headers: { 'x-original-url': '/admin/users', 'x-rewrite-url': '/admin/users' } },
    { method: 'GET', url: '/posts', headers: { 'x-http-method-override': 'DELETE', 'x-method-override': 'DELETE' } },
  ]
  for (const request of tries) t.equal((await app.inject({ ...request, headers: { ...request.headers, ...user } })).statusCode, 200, 'the public route, and nothing else')
  t.equal(runs.count, 2)
  for (const url of ['/admin/users?role=admin', '/admin/users?roles=admin&roles=user', '/admin/users?access=public', '/admin/users?_method=POST', '/admin/users?isAdmin=true']) {
    t.equal((await app.inject({ url, headers: user })).statusCode, 403, url)
  }
  for (const headers of [{ 'x-role': 'admin' }, { 'x-user-roles': 'admin' }, { 'x-forwarded-for': '127.0.0.1' }, { 'x-forwarded-user': 'admin' }, { cookie: 'role=admin' }, { 'x-http-method-override': 'OPTIONS' }]) {
    t.equal((await app.inject({ url: '/admin/users', headers: { ...headers, ...user } })).statusCode, 403, JSON.stringify(headers))
  }
  t.equal((await app.inject({ method: 'POST', url: '/admin/promote', payload: { role: 'admin' }, headers: user })).statusCode, 403)
  t.equal((await app.inject({ method: 'OPTIONS', url: '/admin/users', headers: user })).statusCode, 404, 'and a method that no route has is no way in')
  t.equal(runs.count, 2)
})

t.test('negative control: on plain Fastify a guard that believes what the request says of its caller lets the same requests in', async t => {
  let runs = 0
  const app = Fastify({ rewriteUrl: ({ url, headers }) => String(headers['x-original-url'] ?? url) })
  t.teardown(() => app.close())
  const guard = async ({ headers, query, body }: FastifyRequest) => {
    const said = JSON.stringify([headers['x-role'], headers['x-user-roles'], headers['x-forwarded-user'], headers.cookie, query, body])
    if (!said.includes('admin')) throw Object.assign(new Error('no'), { statusCode: 403 })
  }
  const handler = async () => { runs++; return { ok: true } }
  app.get('/posts', async () => ({ ok: true }))
  app.get('/admin/users', { preHandler: guard }, handler)
  app.post('/admin/promote', { preHandler: guard }, handler)
  const user = as({ roles: ['user'] })
  t.equal((await app.inject({ url: '/admin/users', headers: user })).statusCode, 403)
  for (const request of [
    { url: '/admin/users?role=admin' }, { url: '/admin/users?roles=admin&roles=user' }, { url: '/posts', headers: { 'x-original-url': '/admin/users', 'x-role': 'admin' } },
    ...[{ 'x-role': 'admin' }, { 'x-user-roles': 'admin' }, { 'x-forwarded-user': 'admin' }, { cookie: 'role=admin' }].map(headers => ({ url: '/admin/users', headers })),
    { method: 'POST', url: '/admin/promote', payload: { role: 'admin' } },
  ] as InjectOptions[]) t.equal((await app.inject({ ...request, headers: { ...request.headers, ...user } })).statusCode, 200, JSON.stringify(request))
  t.equal(runs, 8)
})

t.test('a refusal ends the request, however slowly it is sent [TRAP 21]', async t => {
  const later = () => new Promise(resolve => { setTimeout(resolve, 10) })
  const { app, runs } = await build(t)
  app.addHook('onSend', later)
  t.equal((await app.inject({ method: 'DELETE', url: '/admin/users/7', headers: as({ roles: ['user'] }) })).statusCode, 403)
  await later()
  t.equal(runs.count, 0)

  await t.test('while a hook that answers by reply.send lets the handler run', async t => {
    let deleted = 0
    const app = Fastify()
    t.teardown(() => app.close())
    app.addHook('onRequest', async (request, reply) => { if (request.headers['x-admin'] === undefined) reply.code(403).send({ error: 'forbidden' }) })
    app.addHook('onSend', later)
    app.delete('/users/:id', async () => { deleted++; return { ok: true } })
    t.equal((await app.inject({ method: 'DELETE', url: '/users/7' })).statusCode, 403, 'the caller is told no')
    await later()
    t.equal(deleted, 1, 'and the user is gone')
  })
})

t.test('a route that somebody forgot to guard does not boot', async t => {
  const { app } = await build(t)
  app.delete('/forgotten', { schema: { response: { 200: Ok } } }, async () => ({ ok: true }))
  await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message: /DELETE \/forgotten: no access policy/ })

  await t.test('while it does on plain Fastify, open to all', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(async guarded => {
      guarded.addHook('onRequest', async () => { throw Object.assign(new Error('no'), { statusCode: 401 }) })
      guarded.get('/guarded', async () => ({}))
    })
    app.delete('/forgotten', async () => ({ ok: true }))
    t.equal((await app.inject({ method: 'DELETE', url: '/forgotten' })).statusCode, 200)
  })
})
