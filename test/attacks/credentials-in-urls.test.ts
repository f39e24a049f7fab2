/** Credentials in URLs (CWE-598): what stands in an address stands in logs, histories and Referer. */
import Fastify from 'fastify'
import jwt from '@fastify/jwt'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { principalOf, server } from '../../plugins/index.js'
import { closed, noBody } from '../../schemas/index.js'

const KEY = (byte: number) => Buffer.alloc(32, byte)
const NAMES = ['access_token', 'token', 'jwt', 'authorization', 'Authorization', 'bearer', 'api_key', 'apikey', 'key', 'x-api-key', 'session', '__Host-session', 'sessionId', 'sid', 'cookie', 'auth']

async function build (t: Test) {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, {
    sessions: { secret: KEY(3) },
    csrf: { key: KEY(4) },
    tokens: { issuer: 'https://api.example.com', audience: 'https://api.example.com', keys: { access: KEY(1), refresh: KEY(2) } },
    access: { roles: { member: {} } } as never,
  })
  let ran = 0
  const Me = { schema: { response: { 200: closed({ id: Type.String() }) } } }
  app.post('/sign-in', { schema: { ...Me.schema, body: noBody }, config: { access: 'public', csrf: false } }, async request => {
    await app.sessions.start(request, { id: 'ada', roles: ['member'] })
    return { id: 'ada' }
  })
  app.get('/me', { ...Me, config: { access: 'user' } }, async request => { ran++; return { id: principalOf(request).userId } })
  await app.ready()
  const { access_token: token } = await app.tokens.issue({ id: 'ada', roles: ['member'] })
  const [cookie = ''] = String((await app.inject({ method: 'POST', url: '/sign-in' })).headers['set-cookie']).split(';')
  return { app, token, cookie, ran: () => ran }
}

t.test('a credential in the URL is none, whatever its name [ASVS 14.2.1]', async t => {
  const { app, token, cookie, ran } = await build(t)
  const session = cookie.slice(cookie.indexOf('=') + 1)
  t.equal((await app.inject({ url: '/me', headers: { authorization: `Bearer ${token}` } })).statusCode, 200, 'in its header the token is good')
  t.equal((await app.inject({ url: '/me', headers: { cookie } })).statusCode, 200, 'in its cookie the session is good')
  for (const name of NAMES) {
    for (const value of [token, `Bearer ${token}`, session, cookie]) {
      for (const url of [`/me?${name}=${encodeURIComponent(value)}`, `/me;${name}=${encodeURIComponent(value)}`]) {
        const { statusCode } = await app.inject(url)
        t.ok([401, 404].includes(statusCode), `${name}: ${statusCode}`)
      }
    }
  }
  t.equal(ran(), 2)

  const official = Fastify()
  t.teardown(() => official.close())
  await official.register(jwt, { secret: 'a secret that is long enough for this', verify: { extractToken: request => (request.query as { token?: string }).token } })
  official.get('/me', { onRequest: async request => { await request.jwtVerify() } }, async () => 'in')
  await official.ready()
  t.equal((await official.inject(`/me?token=${official.jwt.sign({ sub: 'ada' })}`)).statusCode, 200, 'negative control: the official plugin takes one from the query, where its option says so')
})
