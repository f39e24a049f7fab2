/** Excessive data exposure (OWASP API3:2023, CWE-200): getting out what was only ever meant to stay in. */
import { Readable } from 'node:stream'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions } from '../../plugins/index.js'
import type { SecurityEvent } from '../../plugins/events.js'
import { Id, closed, page } from '../../schemas/index.js'
import { as, readCallers } from '../fixtures/caller.js'

const row = (id: string) => ({ id, username: id, email: `${id}@example.com`, passwordHash: '$argon2id$', sessions: [{ token: 'sess_1' }], __v: 3 })
const SECRETS = /argon2id|sess_1|passwordHash|__v/
const Public = closed({ id: Id, username: Type.String(), email: Type.Optional(Type.String({ visibleTo: ['owner', 'users:read:private'] })) })
type Handler = (request: FastifyRequest, reply: FastifyReply) => unknown

/** Ways in which a handler gives away a whole row. */
const leaks: Record<string, Handler> = {
  'the whole row': async () => row('alice'),
  'the whole row with another status': async (_request, reply) => { reply.code(201); return row('alice') },
  'the row as a string': async () => JSON.stringify(row('alice')),
  'the row as a JSON string': async (_request, reply) => reply.type('application/json').send(JSON.stringify(row('alice'))),
  'the row under another media type': async (_request, reply) => reply.type('application/hal+json').send(row('alice')),
  'the row as bytes': async () => Buffer.from(JSON.stringify(row('alice'))),
  'the row as a stream': async () => Readable.from([JSON.stringify(row('alice'))]),
  'the row as a Response': async () => Response.json(row('alice')),
  'the row with a serializer of its own': async (_request, reply) => reply.serializer(JSON.stringify as never).send(row('alice')),
  'an object of a class': async () => new (class { id = 'alice'; username = 'alice'; passwordHash = '$argon2id$'; toJSON () { return { ...this, sessions: row('x').sessions } } })(),
  'an error with the row in it': async () => { throw Object.assign(new Error(`duplicate key: ${JSON.stringify(row('alice'))}`), { row: row('alice') }) },
  'an error that says it is harmless': async () => { throw Object.assign(new Error('no'), { statusCode: 409, validation: undefined, row: row('alice'), headers: { 'x-row': JSON.stringify(row('alice')) } }) },
  'a refusal by hand': async (_request, reply) => reply.code(400).send(row('alice')),
}

async function build (t: Test): Promise<{ app: FastifyInstance, recorded: SecurityEvent[] }> {
  const recorded: SecurityEvent[] = []
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, {
    access: {
      roles: { user: {}, support: { permissions: ['users:read:private'] } },
      resources: { user: { load: (request: FastifyRequest) => row((request.params as { userId: string }).userId), owner: ({ id }: { id: string }) => id, rule: () => true } },
    },
  } as never as BastionOptions)
  readCallers(app)
  app.events.listen(event => { recorded.push(event) })
  return { app, recorded }
}

t.test('whatever a handler answers, only what was declared leaves [ASVS 15.3.1] [TRAP 15] [TRAP 24]', async t => {
  for (const [what, handler] of Object.entries(leaks)) {
    await t.test(what, async t => {
      const { app } = await build(t)
      app.get('/', { schema: { response: { 200: Public } }, config: { access: 'public' } }, handler as never)
      const answer = await app.inject('/')
      t.notMatch(`${answer.body} ${JSON.stringify(answer.headers)}`, SECRETS)
      t.notMatch(answer.body, 'alice@example.com', 'a stranger sees no address either')
    })
    await t.test(`${what}: plain Fastify`, async t => {
      const app = Fastify()
      t.teardown(() => app.close())
      app.get('/', { schema: { response: { 200: Type.Object({ id: Type.String(), username: Type.String(), email: Type.Optional(Type.String()) }) } } }, handler as never)
      const answer = await app.inject('/')
      const isFiltered = what === 'the whole row' || what === 'an object of a class' || what === 'the row under another media type'
      if (isFiltered) t.notMatch(answer.body, SECRETS, 'filters these, and shows the address to all')
      else t.match(`${answer.body} ${JSON.stringify(answer.headers)}`, SECRETS, 'lets it out')
      if (what === 'the whole row') t.match(answer.body, 'alice@example.com')
    })
  }
})

t.test('private fields are for their owner, one object at a time, and for those who may [ASVS 8.2.3]', async t => {
  const { app } = await build(t)
  app.get('/users/:userId', { schema: { response: { 200: Public } }, config: { access: { resource: 'user' } as never } }, async request => request.resource as ReturnType<typeof row>)
  app.get('/users', { schema: { response: { 200: page(Public) } }, config: { access: 'user' } }, async () => ({ items: ['alice', 'bob'].map(row), nextCursor: null }))
  const written: Record<string, unknown> = { alice: row('alice') }
  app.patch('/users/:userId', { schema: { body: closed({ username: Type.Optional(Type.String({ maxLength: 50 })) }), response: { 200: Public } }, config: { access: { resource: 'user', action: 'write' } as never } },
    async request => Object.assign(written.alice as object, request.body) as never)
  app.put('/users/:userId/email', { schema: { body: closed({ email: Type.String({ maxLength: 50 }) }), response: { 200: Public } }, config: { access: { permissions: 'users:read:private' } as never } },
    async request => Object.assign(written.alice as object, request.body) as never)
  const seen = async (url: string, caller: Parameters<typeof as>[0]) => [...(await app.inject({ url, headers: as(caller) })).body.matchAll(/(\w+)@example/g)].map(([, name]) => name)
  t.same(await seen('/users/alice', { id: 'alice' }), ['alice'])
  t.same(await seen('/users/bob', { id: 'alice' }), [])
  t.same(await seen('/users', { id: 'alice' }), [])
  t.same(await seen('/users', { id: 'sue', roles: ['support'] }), ['alice', 'bob'])
  t.same(await seen('/users/bob', { id: 'sue', roles: ['support'], scopes: [], via: 'key' }), [])
  for (const url of ['/users/bob?userId=alice', '/users/bob?fields=email', '/users/bob?include=email', '/users/bob?_debug=1']) t.same(await seen(url, { id: 'alice' }), [], url)

  const write = async (method: 'PATCH' | 'PUT', url: string, payload: object, caller: Parameters<typeof as>[0]) => (await app.inject({ method, url, payload, headers: as(caller) })).statusCode
  for (const field of ['email', 'passwordHash', 'id', '__v']) t.equal(await write('PATCH', '/users/alice', { username: 'al', [field]: 'x' }, { id: 'alice' }), 400, `no writing of ${field}`)
  t.equal(await write('PUT', '/users/alice/email', { email: 'x' }, { id: 'alice' }), 403)
  t.same(written, { alice: row('alice') })
  t.equal(await write('PATCH', '/users/alice', { username: 'al' }, { id: 'alice' }), 200)
  t.equal(await write('PUT', '/users/alice/email', { email: 'al@example.com' }, { id: 'sue', roles: ['support'] }), 200)
  t.match(written, { alice: { username: 'al', email: 'al@example.com' } })
})

t.test('negative control: on plain Fastify, with the same fields declared, everybody reads the address and writes what nobody meant', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  const alice = row('alice')
  const response = { 200: Type.Object({ id: Type.String(), username: Type.String(), email: Type.Optional(Type.String()) }) }
  app.get('/users/:userId', { schema: { response } }, async () => alice)
  app.patch('/users/:userId', { schema: { body: Type.Object({ username: Type.Optional(Type.String()) }), response } }, async request => Object.assign(alice, request.body))
  t.match((await app.inject('/users/alice')).body, 'alice@example.com')
  await app.inject({ method: 'PATCH', url: '/users/alice', payload: { username: 'al', passwordHash: 'x' } })
  t.equal(alice.passwordHash, 'x')
})

t.test('a route that does not say what it answers does not boot', async t => {
  const { app } = await build(t)
  app.get('/forgotten', { config: { access: 'public' } }, async () => row('alice'))
  app.get('/everything', { schema: { response: { 200: Type.Object({}, { additionalProperties: true }) } }, config: { access: 'public' } }, async () => row('alice'))
  await t.rejects(async () => { await app.ready() }, { message: /GET \/forgotten: no schema for its success[^]*GET \/everything: its 200 lets everything through/ })
})
