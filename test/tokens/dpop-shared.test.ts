/** DPoP over several processes: a proof is good once in all of them, and good nowhere while nobody can know. */
import { createHash, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import { exportJWK, SignJWT } from 'jose'
import t, { type Test } from 'tap'
import access from '../../plugins/access/index.js'
import errors from '../../plugins/errors.js'
import events from '../../plugins/events.js'
import identity from '../../plugins/identity.js'
import plan from '../../plugins/plan/index.js'
import { server } from '../../plugins/server.js'
import state, { type StateOptions } from '../../plugins/state/index.js'
import tokens, { type TokensOptions } from '../../plugins/tokens/index.js'
import { ownRedis, redis } from '../services.js'

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const jwk = await exportJWK(publicKey)
const keys = { access: randomBytes(32), refresh: randomBytes(32) }

async function build (t: Test, stateOptions: StateOptions, options: Partial<TokensOptions> = {}): Promise<{ app: FastifyInstance, handled: string[] }> {
  const handled: string[] = []
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors]) await app.register(plugin)
  await app.register(state, stateOptions)
  await app.register(identity)
  await app.register(access, { roles: { user: {} } })
  await app.register(tokens, { issuer: 'https://a.test', audience: 'https://a.test', keys, dpop: {}, ...options })
  app.get('/', { config: { access: 'user' } }, async request => {
    handled.push(request.url)
    return { id: request.principal!.id }
  })
  app.post('/login', { config: { access: 'public' } }, async request => app.tokens.issue({ id: 'ada', roles: ['user'] }, undefined, request))
  await app.ready()
  return { app, handled }
}

async function prove (method: string, url: string, token?: string): Promise<string> {
  const ath = token === undefined ? {} : { ath: createHash('sha256').update(token).digest('base64url') }
  return new SignJWT({ jti: randomUUID(), htm: method, htu: `http://api.test${url}`, iat: Math.floor(Date.now() / 1000), ...ath }).setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk }).sign(privateKey)
}

const login = async (app: FastifyInstance, isBound = true) =>
  (await app.inject({ method: 'POST', url: '/login', headers: { host: 'api.test', ...isBound && { dpop: await prove('POST', '/login') } } })).json().access_token as string
const ask = async (app: FastifyInstance, headers: Record<string, string>) => app.inject({ url: '/', headers: { host: 'api.test', ...headers } })
const proven = async (token: string) => ({ authorization: `DPoP ${token}`, dpop: await prove('GET', '/', token) })

t.test('one recorded request, two hundred times at once to two processes: exactly one passes', async t => {
  const service = await redis(t)
  if (service === null) return
  const shared = { redis: service.url, secret: randomBytes(32), prefix: randomBytes(6).toString('hex'), deadline: 5000 }
  const all = await Promise.all([build(t, shared), build(t, shared)])
  const headers = await proven(await login(all[0].app))
  const answers = await Promise.all(Array.from({ length: 200 }, (_none, i) => ask(all[i % 2]!.app, headers)))
  t.equal(answers.filter(({ statusCode }) => statusCode === 200).length, 1)
  t.equal(answers.filter(answer => answer.statusCode === 401 && answer.json().code === 'FST_BASTION_TOKENS_PROOF_INVALID').length, 199)
  t.equal(all[0].handled.length + all[1].handled.length, 1)
  for (const { app } of all) t.equal((await ask(app, headers)).statusCode, 401)
})

t.test('the control: where nothing is shared, it passes once in each process', async t => {
  const all = await Promise.all([build(t, {}), build(t, {})])
  const token = await login(all[0].app)
  const { fam, sub } = JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()) as { fam: string, sub: string }
  t.equal(sub, 'ada')
  await all[1].app.state.set(`tokens:family:${fam}`, 'known 0', 60_000)
  const headers = await proven(token)
  const statuses = (await Promise.all([0, 0, 1, 1].map(i => ask(all[i]!.app, headers)))).map(({ statusCode }) => statusCode)
  t.strictSame(statuses.sort(), [200, 200, 401, 401])
})

t.test('while shared state is away no proof is taken, not even where tokens are; when it is back, they are', async t => {
  const service = await ownRedis(t)
  if (service === null) return
  const shared = { redis: service.url, secret: randomBytes(32), prefix: 'x' }
  const { app, handled } = await build(t, shared, { whenAway: 'accept' })
  const again = async (make: () => Promise<string | undefined>) => {
    for (let i = 0; i < 50; i++) {
      const token = await make()
      if (token !== undefined) return token
    }
    throw new Error('the server does not answer')
  }
  const bound = await again(() => login(app))
  const bearer = await again(() => login(app, false))
  await service.stop()
  const used = await ask(app, await proven(bound))
  t.equal(used.statusCode, 503)
  t.match(used.headers, { 'retry-after': '2' })
  t.equal(handled.length, 0)
  t.equal((await ask(app, { authorization: `Bearer ${bearer}` })).statusCode, 200, 'the control: a token of which nothing has to be remembered')
  t.equal((await app.inject({ method: 'POST', url: '/login', headers: { host: 'api.test', dpop: await prove('POST', '/login') } })).statusCode, 503)
  await service.resume()
  let status = 0
  for (let i = 0; i < 200 && status !== 200; i++) {
    await app.state.answers()
    status = (await ask(app, await proven(bound))).statusCode
  }
  t.equal(status, 200)
})
