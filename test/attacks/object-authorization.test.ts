/** Broken object level authorization (OWASP API1:2023, CWE-639): reaching for what belongs to somebody else. */
import Fastify, { type FastifyInstance, type FastifyRequest, type InjectOptions } from 'fastify'
import jwt from '@fastify/jwt'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions } from '../../plugins/index.js'
import type { SecurityEvent } from '../../plugins/events.js'
import { Id, closed } from '../../schemas/index.js'
import { as, readCallers } from '../fixtures/caller.js'

interface Order { id: string, owner: string, total: number }
const orders = (): Record<string, Order> => ({ a1: { id: 'a1', owner: 'alice', total: 10 }, b1: { id: 'b1', owner: 'bob', total: 20 } })
const Answer = closed({ id: Id, owner: Type.String(), total: Type.Integer() })
const Params = closed({ orderId: Id })
const Body = closed({ id: Type.Optional(Id), owner: Type.Optional(Id), total: Type.Integer() })

async function build (t: Test): Promise<{ app: FastifyInstance, table: Record<string, Order>, recorded: SecurityEvent[], runs: { count: number } }> {
  const table = orders()
  const runs = { count: 0 }
  const recorded: SecurityEvent[] = []
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, {
    access: {
      roles: { user: { permissions: ['orders:read'] } },
      resources: {
        order: { load: (request: FastifyRequest) => { const { orderId } = request.params as { orderId: string }; return Object.hasOwn(table, orderId) ? table[orderId] : null }, owner: (order: Order) => order.owner },
      },
    },
  } as never as BastionOptions)
  readCallers(app)
  app.events.listen(event => { recorded.push(event) })
  const rule = (action: string) => ({ access: { resource: 'order', action } }) as never
  app.get('/orders/:orderId', { schema: { params: Params, response: { 200: Answer } }, config: rule('read') }, async request => { runs.count++; return request.resource as Order })
  app.put('/orders/:orderId', { schema: { params: Params, body: Body, response: { 200: Answer } }, config: rule('write') }, async request => {
    runs.count++
    return Object.assign(request.resource as Order, { total: (request.body as Order).total })
  })
  app.delete('/orders/:orderId', { schema: { params: Params, response: { 204: Type.Null() } }, config: rule('delete') }, async (request, reply) => {
    runs.count++
    delete table[(request.resource as Order).id]
    reply.code(204)
  })
  return { app, table, recorded, runs }
}

/** As the documentation of @fastify/jwt has it: whoever has a token is let in, and the handler takes the id from the path. */
async function handWired (t: Test): Promise<{ app: FastifyInstance, table: Record<string, Order>, token: string }> {
  const table = orders()
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(jwt, { secret: 'an hour of thirty-two bytes, at least' })
  app.addHook('onRequest', async request => { await request.jwtVerify() })
  app.get('/orders/:orderId', async request => table[(request.params as { orderId: string }).orderId])
  app.put('/orders/:orderId', async request => Object.assign(table[(request.params as { orderId: string }).orderId]!, request.body))
  app.delete('/orders/:orderId', async request => { delete table[(request.params as { orderId: string }).orderId]; return {} })
  await app.ready()
  return { app, table, token: app.jwt.sign({ sub: 'mallory' }) }
}

const attacks: Record<string, InjectOptions> = {
  'reads a foreign order': { method: 'GET', url: '/orders/a1' },
  'asks for its head': { method: 'HEAD', url: '/orders/a1' },
  'changes it': { method: 'PUT', url: '/orders/a1', payload: { total: 0 } },
  'deletes it': { method: 'DELETE', url: '/orders/a1' },
  'writes the id in another way': { method: 'GET', url: '/orders/%611' },
  'names a second id in the query': { method: 'GET', url: '/orders/a1?orderId=b1' },
}

t.test('somebody else’s order', async t => {
  for (const [what, request] of Object.entries(attacks)) {
    await t.test(`mallory ${what}: it does not exist for her [ASVS 8.2.2]`, async t => {
      const { app, table, recorded, runs } = await build(t)
      const answer = await app.inject({ ...request, headers: as({ id: 'mallory', roles: ['user'] }) })
      t.equal(answer.statusCode, 404)
      if (request.method !== 'HEAD') t.equal(answer.json().code, 'FST_BASTION_ERRORS_NOT_FOUND')
      t.same(table, orders(), 'nothing was changed')
      t.equal(runs.count, 0)
      t.match(recorded, [{ type: 'access_denied', principal: 'mallory', details: { hidden: true } }])
    })
    await t.test(`negative control: mallory ${what}, and hand-wired as documented she may`, async t => {
      const { app, table, token } = await handWired(t)
      const answer = await app.inject({ ...request, headers: { authorization: `Bearer ${token}` } })
      t.equal(answer.statusCode, 200)
      if (request.method === 'PUT' || request.method === 'DELETE') t.notSame(table, orders())
    })
  }
})

t.test('bob cannot reach alice’s order through his own: what he names beside the path counts for nothing', async t => {
  const { app, table, runs } = await build(t)
  const headers = as({ id: 'bob', roles: ['user'] })
  t.equal((await app.inject({ method: 'PUT', url: '/orders/b1', payload: { id: 'a1', owner: 'bob', total: 7 }, headers })).statusCode, 200)
  t.same(table, { ...orders(), b1: { id: 'b1', owner: 'bob', total: 7 } })
  t.equal(runs.count, 1)
  const { app: control, table: changed, token } = await handWired(t)
  await control.inject({ method: 'PUT', url: '/orders/b1', payload: { id: 'a1', owner: 'mallory', total: 7 }, headers: { authorization: `Bearer ${token}` } })
  t.equal(changed.b1!.owner, 'mallory', 'while hand-wired the owner is whoever the body says')
})

t.test('a thousand guesses tell nothing: what exists and what does not are answered alike', async t => {
  const { app, runs } = await build(t)
  const told = new Set<string>()
  for (let i = 0; i < 1000; i++) {
    const answer = await app.inject({ url: `/orders/${i % 2 === 0 ? 'a1' : `x${i}`}`, headers: as({ id: `mallory-${i % 10}`, roles: ['user'] }) })
    told.add(`${answer.statusCode} ${answer.body.replace(answer.json().requestId, '')} ${Object.keys(answer.headers).sort().join()} ${answer.headers['content-length']}`)
  }
  t.equal(told.size, 1)
  t.equal(runs.count, 0)
})

t.test('names of Object.prototype are no ids', async t => {
  const { app, runs } = await build(t)
  for (const id of ['__proto__', 'constructor', 'toString']) t.equal((await app.inject({ url: `/orders/${id}`, headers: as({ id: 'mallory', roles: ['user'] }) })).statusCode, 404)
  t.equal(runs.count, 0)
})
