/** Mass assignment (OWASP API3:2023, CWE-915): setting what was never asked for. */
import Fastify, { type FastifyInstance } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { principalOf, server } from '../../plugins/index.js'
import { Bio, Email, Username, closed } from '../../schemas/index.js'
import { as, readCallers } from '../fixtures/caller.js'

const Profile = closed({ email: Type.Optional(Email), bio: Type.Optional(Bio), address: Type.Optional(closed({ city: Type.String({ maxLength: 50 }) })), links: Type.Optional(Type.Array(closed({ name: Username }), { maxItems: 3 })) })
const user = () => ({ id: 'alice', email: 'alice@example.com', bio: '', role: 'user', isAdmin: false, balance: 10 })

async function build (t: Test): Promise<{ app: FastifyInstance, users: Record<string, ReturnType<typeof user>>, runs: { count: number } }> {
  const users = { alice: user() }
  const runs = { count: 0 }
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, {})
  readCallers(app)
  app.patch('/me', { schema: { body: Profile, response: { 200: closed({ id: Type.String() }) } }, config: { access: 'user' } }, async request => {
    runs.count++
    // What every vulnerable handler does; here it is harmless.
    return Object.assign((users as Record<string, ReturnType<typeof user>>)[principalOf(request).userId]!, request.body)
  })
  return { app, users, runs }
}

const attacks: Record<string, string> = {
  'a role': '{"bio":"hi","role":"admin"}',
  'a flag': '{"isAdmin":true}',
  'a balance': '{"balance":1000000}',
  'an id': '{"id":"bob"}',
  'a password hash': '{"passwordHash":"$argon2id$"}',
  'something inside': '{"address":{"city":"x","verified":true}}',
  'something inside a list': '{"links":[{"name":"abc","verified":true}]}',
  'another spelling': '{"Email":"x@example.com"}',
  'a name that looks the same': '{"ema\u0456l":"x@example.com"}',
  'a path': '{"address.city":"x","address[city]":"x"}',
  'a prototype': '{"__proto__":{"isAdmin":true}}',
  'a prototype, escaped': '{"\\u005f\\u005fproto\\u005f\\u005f":{"isAdmin":true}}',
  'a prototype by its constructor': '{"constructor":{"prototype":{"isAdmin":true}}}',
  'a prototype inside': '{"address":{"city":"x","__proto__":{"verified":true}}}',
  'an operator of a database': '{"email":{"$ne":null}}',
  'a list for a value': '{"email":["a@example.com","b@example.com"]}',
  'a number for a text': '{"bio":7}',
  'null for a text': '{"bio":null}',
  'the same field twice, the second one unknown': '{"bio":"x","bio":"y","role":"admin"}',
  'a list for the body': '[{"role":"admin"}]',
  'a text for the body': '"{\\"role\\":\\"admin\\"}"',
}

t.test('what was not declared is refused, not dropped [ASVS 15.3.3] [TRAP 16]', async t => {
  const { app, users, runs } = await build(t)
  const send = (payload: string) => app.inject({ method: 'PATCH', url: '/me', payload, headers: { 'content-type': 'application/json', ...as({}) } })
  for (const [what, payload] of Object.entries(attacks)) {
    const answer = await send(payload)
    t.equal(answer.statusCode, 400, what)
    t.match(answer.json().code, /^FST_BASTION_VALIDATION_(?:REFUSED|NAME|REPEATED)$/)
  }
  t.equal(runs.count, 0)
  t.same(users, { alice: user() })
  t.equal(({} as { isAdmin?: boolean }).isAdmin, undefined)
  t.equal((await send('{"bio":"hi","address":{"city":"x"}}')).statusCode, 200, 'what was declared passes')
  t.equal(users.alice!.bio, 'hi')

  await t.test('nor does the query set what the body may not', async t => {
    await app.inject({ method: 'PATCH', url: '/me?role=admin&isAdmin=true', payload: '{"bio":"hi"}', headers: { 'content-type': 'application/json', ...as({}) } })
    t.equal(users.alice!.role, 'user')
  })

  await t.test('while plain Fastify with an open schema takes what it is given', async t => {
    const users = { alice: user() }
    const app = Fastify()
    t.teardown(() => app.close())
    app.patch('/me', { schema: { body: Type.Object({ email: Type.Optional(Type.String()), bio: Type.Optional(Type.String()) }) } }, async request => Object.assign(users.alice, request.body))
    for (const what of ['a role', 'a flag', 'a balance', 'an id', 'a number for a text', 'a list for a value'] as const) {
      t.equal((await app.inject({ method: 'PATCH', url: '/me', payload: attacks[what]!, headers: { 'content-type': 'application/json' } })).statusCode, what === 'a list for a value' ? 400 : 200, what)
    }
    t.match(users.alice, { role: 'admin', isAdmin: true, balance: 1_000_000, id: 'bob', bio: '7' })
  })
})

t.test('a body that would take more than it declares does not boot', async t => {
  const { app } = await build(t)
  app.post('/open', { schema: { body: Type.Object({ bio: Bio }), response: { 200: closed({ id: Type.String() }) } }, config: { access: 'user' } }, async () => ({ id: '' }))
  await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message: /POST \/open: the body is not closed/ })
})
