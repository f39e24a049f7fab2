/** DPoP (RFC 9449): tokens that are good only with the key that they are bound to; over real sockets, with jose as the client. */
import { createHash, generateKeyPairSync, randomBytes, randomUUID, type KeyObject } from 'node:crypto'
import { request as send, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { calculateJwkThumbprint, decodeJwt, exportJWK, SignJWT } from 'jose'
import t, { type Test } from 'tap'
import access from '../../plugins/access/index.js'
import errors from '../../plugins/errors.js'
import events, { type SecurityEvent } from '../../plugins/events.js'
import identity, { principalOf } from '../../plugins/identity.js'
import limits, { type LimitsOptions } from '../../plugins/limits/index.js'
import plan from '../../plugins/plan/index.js'
import posture from '../../plugins/posture/index.js'
import { server } from '../../plugins/server.js'
import state, { type StateOptions } from '../../plugins/state/index.js'
import tokens, { type SubjectLoader, type TokenPair, type TokensOptions } from '../../plugins/tokens/index.js'

type Json = Record<string, any>
type Headers = Record<string, string | string[]>
interface Client { privateKey: KeyObject, publicKey: KeyObject }
interface Answer { status: number, headers: IncomingHttpHeaders, body: Json }
interface Proven { method?: string, url?: string, token?: string, claims?: Json, header?: Json }

const makeClient = (): Client => generateKeyPairSync('ec', { namedCurve: 'P-256' })
const hash = (text: string) => createHash('sha256').update(text).digest('base64url')
const thumbprintOf = async ({ publicKey }: Client) => calculateJwkThumbprint(await exportJWK(publicKey))

interface Built {
  app: FastifyInstance
  origin: string
  clock: { ms: number }
  recorded: SecurityEvent[]
  handled: string[]
  /** One request as it stands, headers as they are. */
  ask: (method: string, path: string, headers?: Headers, body?: Json) => Promise<Answer>
  prove: (client: Client, proven?: Proven) => Promise<string>
  /** As a client of DPoP asks: with the token and a fresh proof. */
  use: (client: Client, token: string, path?: string, proven?: Proven) => Promise<Answer>
  login: (client: Client | null, path?: string, body?: Json, claims?: Json) => Promise<Answer>
  pair: (client: Client | null) => Promise<TokenPair>
}

interface Others { state?: StateOptions, limits?: LimitsOptions, trustProxy?: string }

async function build (t: Test, options: Partial<TokensOptions> = { dpop: {} }, others: Others = {}): Promise<Built> {
  const clock = { ms: 1_700_000_000_000 }
  const now = () => clock.ms
  const recorded: SecurityEvent[] = []
  const handled: string[] = []
  const app = Fastify(server({ logger: false, trustProxy: others.trustProxy }))
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors]) await app.register(plugin)
  await app.register(state, { now, ...others.state })
  await app.register(identity)
  if (others.limits !== undefined) await app.register(limits, { ...others.limits, now })
  await app.register(access, { roles: { user: { permissions: ['things:read'] } }, now })
  app.identity.reader({
    name: 'test key',
    read: ({ headers }) => headers['x-api-key'] === undefined
      ? null
      : { principal: { kind: 'key', id: 'k', userId: 'ada', roles: ['user'], via: 'key', authTime: 0, credentialId: 'k' } },
  })
  await app.register(tokens, { issuer: 'https://a.test', audience: 'https://a.test', keys: { access: randomBytes(32), refresh: randomBytes(32) }, now, ...options })
  await app.register(posture)
  app.events.listen(event => { recorded.push(event) })
  const isOn = options.dpop !== undefined
  const load: SubjectLoader = async id => ({ id, roles: ['user'] })
  const answer = (request: FastifyRequest) => {
    handled.push(request.url)
    return { ...request.principal }
  }
  const issue = (request: FastifyRequest) => {
    handled.push(request.url)
    return app.tokens.issue({ id: 'ada', roles: ['user'] }, load, request)
  }
  app.get('/', { config: { access: 'user' } }, answer)
  app.post('/', { config: { access: 'user' } }, answer)
  app.get('/public', { config: { access: 'public' } }, answer)
  app.get('/keys', { config: { access: { permissions: 'things:read' } } }, answer)
  app.get('/fresh', { config: { access: { stepUp: true } } }, answer)
  app.get('/files/*', { config: { access: 'user' } }, answer)
  app.post('/login', { config: { access: 'public' } }, issue)
  app.post('/forgetful', { config: { access: 'public' } }, async () => app.tokens.issue({ id: 'ada', roles: ['user'] }))
  app.post('/known', { config: { access: 'public' } }, async request => [await app.tokens.proofOf(request), await app.tokens.proofOf(request)])
  app.post('/refresh', { config: { access: 'public' } }, async request => app.tokens.refresh((request.body as Json).refresh_token, load, request))
  app.post('/step-up', { config: { access: 'user' } }, async request => app.tokens.stepUp(principalOf(request), load))
  if (isOn) {
    app.get('/bound', { config: { access: 'user', dpop: true } }, answer)
    app.get('/bound-keys', { config: { access: { permissions: 'things:read' }, dpop: true } }, answer)
    app.get('/loose', { config: { access: 'user', dpop: false } }, answer)
    app.post('/login-bound', { config: { access: 'public', dpop: true } }, issue)
    app.post('/login-loose', { config: { access: 'public', dpop: false } }, issue)
  }
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const origin = `http://127.0.0.1:${port}`

  async function ask (method: string, path: string, headers: Headers = {}, body?: Json): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const payload = body === undefined ? undefined : JSON.stringify(body)
      const sent = send({ host: '127.0.0.1', port, method, path, headers: { ...headers, ...payload !== undefined && { 'content-type': 'application/json' } } }, answer => {
        let text = ''
        answer.on('data', chunk => { text += chunk })
        answer.on('end', () => resolve({ status: answer.statusCode!, headers: answer.headers, body: text === '' ? {} : JSON.parse(text) }))
      })
      sent.on('error', reject)
      sent.end(payload)
    })
  }

  async function prove ({ privateKey, publicKey }: Client, { method = 'GET', url = '/', token, claims, header }: Proven = {}): Promise<string> {
    const all = { jti: randomUUID(), htm: method, htu: `${origin}${url}`, iat: Math.floor(clock.ms / 1000), ...token !== undefined && { ath: hash(token) }, ...claims }
    return new SignJWT(all).setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk: await exportJWK(publicKey), ...header }).sign(privateKey)
  }

  async function use (client: Client, token: string, path = '/', proven: Proven = {}): Promise<Answer> {
    const { method = 'GET' } = proven
    const dpop = await prove(client, { method, url: path.split('?')[0], token, ...proven })
    return ask(method, path, { authorization: `DPoP ${token}`, dpop })
  }

  async function login (client: Client | null, path = '/login', body: Json = {}, claims: Json = {}): Promise<Answer> {
    return ask('POST', path, client === null ? {} : { dpop: await prove(client, { method: 'POST', url: path, claims }) }, body)
  }

  return { app, origin, clock, recorded, handled, ask, prove, use, login, pair: async client => (await login(client)).body as TokenPair }
}

const invalidToken = { status: 401, body: { code: 'FST_BASTION_TOKENS_INVALID' } }
const invalidProof = { status: 401, body: { code: 'FST_BASTION_TOKENS_PROOF_INVALID' } }
const invalidAtIssue = { status: 400, body: { code: 'FST_BASTION_TOKENS_PROOF_INVALID' } }
const ALGS = 'algs="ES256 EdDSA Ed25519 PS256 RS256"'

t.test('who shows a key gets tokens that are bound to it, and uses them with proofs', async t => {
  const { app, pair, use, handled } = await build(t)
  const client = makeClient()
  const jkt = await thumbprintOf(client)
  const { access_token: token, refresh_token: refresh, token_type: type } = await pair(client)
  t.equal(type, 'DPoP')
  t.strictSame([decodeJwt(token).cnf, decodeJwt(refresh).cnf], [{ jkt }, { jkt }])
  t.match(await use(client, token), { status: 200, body: { id: 'ada', via: 'bearer', jkt } })
  t.match(await use(client, token, '/?page=2'), { status: 200 }, 'a query is not part of the proof')
  t.match(await use(client, token, '/', { method: 'POST' }), { status: 200 })
  t.match(await use(client, token, '/public'), { status: 200, body: { id: 'ada' } }, 'on routes for everybody it is somebody too')
  t.equal(handled.filter(url => url !== '/login').length, 4)
  t.match(await app.tokens.inspect(token), { kind: 'access', userId: 'ada', jkt })
  t.match(await app.tokens.inspect(refresh), { kind: 'refresh', jkt })
})

t.test('who shows none gets bearer tokens as before', async t => {
  const { app, pair, ask } = await build(t)
  const { access_token: token, token_type: type } = await pair(null)
  t.equal(type, 'Bearer')
  t.notOk('cnf' in decodeJwt(token))
  t.match(await ask('GET', '/', { authorization: `Bearer ${token}` }), { status: 200, body: { id: 'ada' } })
  t.notHas(await app.tokens.inspect(token), { jkt: String })
})

t.test('a key that was shown is told to whoever asks, once as often as one likes', async t => {
  const { login } = await build(t)
  const client = makeClient()
  const jkt = await thumbprintOf(client)
  t.strictSame((await login(client, '/known')).body, [{ jkt }, { jkt }])
  t.strictSame((await login(null, '/known')).body, [null, null])
  const { login: loginWithout } = await build(t, {})
  t.strictSame((await loginWithout(client, '/known')).body, [null, null], 'and to nobody where DPoP is off')
})

t.test('the key is shown again when tokens are refreshed or stepped up, and what comes is bound to it', async t => {
  const { pair, login, use, ask, prove, clock } = await build(t)
  const client = makeClient()
  const first = await pair(client)
  const { status, body: second } = await login(client, '/refresh', { refresh_token: first.refresh_token })
  t.equal(status, 200)
  t.equal(second.token_type, 'DPoP')
  t.match(await use(client, second.access_token), { status: 200 })
  clock.ms += 301_000
  const late = await use(client, second.access_token, '/fresh')
  t.match(late, { status: 401, body: { code: 'FST_BASTION_STEP_UP_REQUIRED' } })
  t.equal(late.headers['www-authenticate'], 'DPoP realm="api", error="insufficient_user_authentication", max_age="300"')
  const dpop = await prove(client, { method: 'POST', url: '/step-up', token: second.access_token })
  const third = (await ask('POST', '/step-up', { authorization: `DPoP ${second.access_token}`, dpop })).body
  t.equal(third.token_type, 'DPoP')
  t.match(await use(client, third.access_token, '/fresh'), { status: 200 })
  t.match(await ask('GET', '/', { authorization: `Bearer ${third.access_token}` }), invalidToken)
  t.match(await use(client, second.access_token), invalidToken, 'the one before is dead')
})

t.test('an unbound refresh token becomes a bound one where a key is shown', async t => {
  const { pair, login, ask } = await build(t)
  const client = makeClient()
  const { refresh_token: refresh } = await pair(null)
  const next = (await login(client, '/refresh', { refresh_token: refresh })).body
  t.equal(next.token_type, 'DPoP')
  t.match(await ask('POST', '/refresh', {}, { refresh_token: next.refresh_token }), invalidToken)
})

t.test('required: none but bound tokens are issued and taken, but where a route says otherwise', async t => {
  const { ask, login, pair, use, handled } = await build(t, { dpop: { required: true } })
  const client = makeClient()
  t.match(await login(null), invalidAtIssue)
  t.match(await ask('POST', '/refresh', {}, { refresh_token: (await pair(client)).refresh_token }), invalidAtIssue, 'the key is asked for before the token')
  t.match(await login(client, '/forgetful'), { status: 500 }, 'a service that does not hand the request over is told so, and issues nothing')
  const loose = (await login(null, '/login-loose')).body
  t.equal(loose.token_type, 'Bearer')
  const before = handled.length
  const refused = await ask('GET', '/', { authorization: `Bearer ${loose.access_token}` })
  t.match(refused, { status: 401, body: { code: 'FST_BASTION_TOKENS_UNBOUND' } })
  t.equal(refused.headers['www-authenticate'], `DPoP error="invalid_token", ${ALGS}`)
  t.equal(handled.length, before)
  t.match(await ask('GET', '/loose', { authorization: `Bearer ${loose.access_token}` }), { status: 200 })
  t.match(await ask('GET', '/public', { authorization: `Bearer ${loose.access_token}` }), { status: 200 })
  t.match(await ask('GET', '/keys', { 'x-api-key': 'k' }), { status: 200 }, 'API keys are no access tokens')
  const { access_token: token } = await pair(client)
  for (const path of ['/', '/loose', '/bound']) t.match(await use(client, token, path), { status: 200 }, path)
  t.match(await use(client, loose.access_token), invalidToken, 'an unbound token is not taken by the scheme DPoP either')
})

t.test('required: every access token that is issued is bound, at login, refresh and step-up [ASVS 10.4.14]', async t => {
  const { ask, login, pair, use, prove } = await build(t, { dpop: { required: true } })
  const client = makeClient()
  const jkt = await thumbprintOf(client)
  const first = await pair(client)
  const next = (await ask('POST', '/refresh', { dpop: await prove(client, { method: 'POST', url: '/refresh' }) }, { refresh_token: first.refresh_token })).body
  const { body: stepped } = await use(client, next.access_token, '/step-up', { method: 'POST' })
  for (const grant of [first, next, stepped]) t.match({ ...decodeJwt(grant.access_token), type: grant.token_type }, { cnf: { jkt }, type: 'DPoP' })
  const bare = [await login(null), await login(null, '/forgetful'), await ask('POST', '/refresh', {}, { refresh_token: next.refresh_token }), await ask('POST', '/step-up', { authorization: `Bearer ${stepped.access_token}` })]
  for (const { status, body } of bare) {
    t.ok(status >= 400)
    t.notOk('access_token' in body)
  }

  const off = await build(t, {})
  const unbound = (await off.login(null)).body
  t.equal(unbound.token_type, 'Bearer')
  t.match(await off.ask('GET', '/', { authorization: `Bearer ${unbound.access_token}` }), { status: 200 }, 'the control: with DPoP off whoever has it is let in')
})

t.test('dpop: true on a route: none but bound tokens there, no session and no key; on a public route a proof', async t => {
  const { ask, login, pair, use, handled, recorded } = await build(t)
  const client = makeClient()
  const { access_token: bearer } = await pair(null)
  const { access_token: bound } = await pair(client)
  const before = handled.length
  t.match(await ask('GET', '/bound', { authorization: `Bearer ${bearer}` }), { status: 401, body: { code: 'FST_BASTION_TOKENS_UNBOUND' } })
  t.match(await ask('GET', '/bound-keys', { 'x-api-key': 'k' }), { status: 401, body: { code: 'FST_BASTION_TOKENS_UNBOUND' } })
  t.match(recorded.at(-1), { type: 'access_denied', principal: 'k', details: { reason: 'the credential is not bound to a key' } })
  t.match(await ask('GET', '/bound'), { status: 401, body: { code: 'FST_BASTION_ACCESS_UNAUTHENTICATED' } })
  t.match(await login(null, '/login-bound'), invalidAtIssue)
  t.equal(handled.length, before)
  t.match(await ask('GET', '/keys', { 'x-api-key': 'k' }), { status: 200 }, 'the control: without it they pass')
  t.match(await ask('GET', '/', { authorization: `Bearer ${bearer}` }), { status: 200 })
  t.match(await use(client, bound, '/bound'), { status: 200 })
  t.match(await login(client, '/login-bound'), { status: 200, body: { token_type: 'DPoP' } }, 'its proof is read once, and good for the route and for its tokens')
})

t.test('what a 401 offers: bearer and DPoP, with the algorithms that are accepted', async t => {
  const { ask } = await build(t, { dpop: { algorithms: ['EdDSA', 'ES256'] } })
  t.equal((await ask('GET', '/')).headers['www-authenticate'], 'Bearer realm="api", DPoP algs="EdDSA ES256"')
  t.equal((await ask('GET', '/', { authorization: 'Bearer x' })).headers['www-authenticate'], 'Bearer realm="api", error="invalid_token", DPoP algs="EdDSA ES256"')
  t.equal((await ask('GET', '/', { authorization: 'DPoP x' })).headers['www-authenticate'], 'DPoP error="invalid_token", algs="EdDSA ES256"')
  const { ask: askWithout } = await build(t, {})
  t.equal((await askWithout('GET', '/')).headers['www-authenticate'], 'Bearer realm="api"')
  t.equal((await askWithout('GET', '/', { authorization: 'DPoP x' })).headers['www-authenticate'], 'Bearer realm="api"', 'where it is off, the scheme is none')
})

t.test('maxAge, clockTolerance, algorithms and origin are what they say', async t => {
  const client = makeClient()
  const { login, clock } = await build(t, { dpop: { maxAge: 10 }, clockTolerance: 2 })
  const time = clock.ms / 1000
  for (const [iat, status] of [[time - 10, 200], [time - 11, 400], [time + 2, 200], [time + 3, 400]] as const) t.equal((await login(client, '/login', {}, { iat })).status, status, String(iat - time))
  const { login: loginEd } = await build(t, { dpop: { algorithms: ['EdDSA'] } })
  t.match(await loginEd(client), invalidAtIssue)
  const { login: loginElsewhere } = await build(t, { dpop: { origin: 'https://api.example' } })
  t.match(await loginElsewhere(client), invalidAtIssue, 'the host of the request is not asked')
  t.match(await loginElsewhere(client, '/login', {}, { htu: 'https://api.example/login' }), { status: 200 })
})

t.test('nonce: without one of ours the client is told one; before it runs out, the next', async t => {
  const { ask, login, use, prove, clock, handled } = await build(t, { dpop: { nonce: true } })
  const client = makeClient()
  const unsaid = await login(client)
  t.match(unsaid, { status: 400, body: { code: 'FST_BASTION_TOKENS_NONCE_WANTED' } })
  const nonce = unsaid.headers['dpop-nonce'] as string
  const said = await login(client, '/login', {}, { nonce })
  t.match(said, { status: 200, body: { token_type: 'DPoP' } })
  t.equal(said.headers['dpop-nonce'], undefined, 'it is good for a while')
  const { access_token: token } = said.body as TokenPair
  const before = handled.length
  const asked = await use(client, token)
  t.match(asked, { status: 401, body: { code: 'FST_BASTION_TOKENS_NONCE_WANTED' } })
  t.match(asked.headers, { 'www-authenticate': `DPoP error="use_dpop_nonce", ${ALGS}`, 'dpop-nonce': nonce })
  t.match(await use(client, token, '/', { claims: { nonce: 'x'.repeat(22) } }), { status: 401, body: { code: 'FST_BASTION_TOKENS_NONCE_WANTED' } })
  t.match(await use(client, token, '/', { claims: { nonce, htm: 'PUT' } }), invalidProof, 'what is wrong otherwise is not asked for again')
  t.equal(handled.length, before)
  t.match(await use(client, token, '/', { claims: { nonce } }), { status: 200 })
  clock.ms += 120_000
  const near = await use(client, token, '/', { claims: { nonce } })
  t.equal(near.status, 200)
  const next = near.headers['dpop-nonce'] as string
  t.not(next, nonce)
  const bad = await ask('POST', '/refresh', { dpop: await prove(client, { method: 'POST', url: '/refresh', claims: { nonce } }) }, { refresh_token: 'x' })
  t.notOk(bad.headers['dpop-nonce'], 'where the proof was not asked for, nothing is said of it')
  clock.ms += 120_000
  t.match(await use(client, token, '/', { claims: { nonce } }), { status: 401, body: { code: 'FST_BASTION_TOKENS_NONCE_WANTED' } })
  const after = await use(client, token, '/', { claims: { nonce: next } })
  t.equal(after.status, 200)
  t.ok(after.headers['dpop-nonce'])
})

t.test('nonces outlive a rotation of the keys that they are made of', async t => {
  const keys = { access: randomBytes(32), refresh: randomBytes(32) }
  const { app, login } = await build(t, { keys, dpop: { nonce: true } })
  const client = makeClient()
  const nonce = (await login(client)).headers['dpop-nonce']
  await app.tokens.rotate({ ...keys, refresh: [randomBytes(32), keys.refresh] })
  const still = await login(client, '/login', {}, { nonce })
  t.equal(still.status, 200)
  t.not(still.headers['dpop-nonce'], nonce)
  t.ok(still.headers['dpop-nonce'])
  await app.tokens.rotate({ ...keys, refresh: randomBytes(32) })
  t.match(await login(client, '/login', {}, { nonce }), { status: 400, body: { code: 'FST_BASTION_TOKENS_NONCE_WANTED' } })
})

t.test('posture says where tokens must be bound', async t => {
  const promiseOf = ({ app }: Built, method: string, url: string) => app.posture().routes.find(route => route.method === method && route.url === url)?.controls.dpop
  const algorithms = ['ES256', 'EdDSA', 'Ed25519', 'PS256', 'RS256']
  const built = await build(t)
  t.strictSame(promiseOf(built, 'GET', '/'), { required: false, nonce: false, algorithms })
  t.strictSame(promiseOf(built, 'GET', '/bound'), { required: true, nonce: false, algorithms })
  t.strictSame(promiseOf(built, 'POST', '/login-bound'), { required: true, nonce: false, algorithms })
  t.equal(promiseOf(built, 'GET', '/public'), undefined)
  const strict = await build(t, { dpop: { required: true, nonce: true, algorithms: ['ES256'] } })
  t.strictSame(promiseOf(strict, 'GET', '/'), { required: true, nonce: true, algorithms: ['ES256'] })
  t.strictSame(promiseOf(strict, 'GET', '/loose'), { required: false, nonce: true, algorithms: ['ES256'] })
  t.equal(promiseOf(await build(t, {}), 'GET', '/'), undefined)
})

t.test('attack: a stolen access token [ASVS 10.3.5]', async t => {
  const { ask, pair, use, handled, recorded } = await build(t)
  const client = makeClient()
  const thief = makeClient()
  const { access_token: token } = await pair(client)
  const before = handled.length
  const asBearer = await ask('GET', '/', { authorization: `Bearer ${token}` })
  t.match(asBearer, invalidToken, 'as a bearer token')
  t.equal(asBearer.headers['www-authenticate'], `Bearer realm="api", error="invalid_token", DPoP ${ALGS}`)
  const alone = await ask('GET', '/', { authorization: `DPoP ${token}` })
  t.match(alone, invalidProof, 'without a proof')
  t.equal(alone.headers['www-authenticate'], `DPoP error="invalid_dpop_proof", ${ALGS}`)
  t.match(await use(thief, token), invalidProof, 'with a key of the thief')
  t.match(await use(thief, token, '/', { header: { jwk: await exportJWK(client.publicKey) } }), invalidProof, 'with the key of the owner, and a signature by another')
  t.match(await use(client, token, '/', { token: 'another' }), invalidProof, 'with a proof for another token')
  t.match(await use(client, token, '/', { claims: { ath: undefined } }), invalidProof, 'with a proof for none, such as that of a login')
  t.equal(handled.length, before)
  t.ok(recorded.filter(({ type }) => type === 'access_denied').every(({ principal }) => principal === undefined), 'nor does it count as an attempt of the owner')

  const off = await build(t, {})
  const { access_token: unbound, token_type: type } = await off.pair(client)
  t.equal(type, 'Bearer')
  t.match(await off.ask('GET', '/', { authorization: `Bearer ${unbound}` }), { status: 200 }, 'the control: with DPoP off the thief gets in')
  t.match(await off.use(thief, unbound), { status: 401 }, 'and nobody by the scheme DPoP')
})

t.test('attack: a bound token in a service that has switched DPoP off since', async t => {
  const keys = { access: randomBytes(32), refresh: randomBytes(32) }
  const on = await build(t, { keys, dpop: {} })
  const off = await build(t, { keys })
  const { access_token: token, refresh_token: refresh } = await on.pair(makeClient())
  t.match(await off.ask('GET', '/', { authorization: `Bearer ${token}` }), invalidToken)
  t.match(await off.ask('POST', '/refresh', {}, { refresh_token: refresh }), invalidToken)
})

t.test('attack: a request that was recorded is sent again', async t => {
  const { ask, pair, prove, handled, recorded } = await build(t)
  const client = makeClient()
  const { access_token: token } = await pair(client)
  const headers = { authorization: `DPoP ${token}`, dpop: await prove(client, { token }) }
  t.match(await ask('GET', '/', headers), { status: 200 })
  const before = handled.length
  const again = await ask('GET', '/', headers)
  t.match(again, invalidProof)
  t.equal(again.headers['www-authenticate'], `DPoP error="invalid_dpop_proof", ${ALGS}`)
  t.match(recorded.filter(({ type }) => type === 'proof_replayed'), { length: 1 })
  for (const path of ['/?x', '/#x', '//', '/%2e']) t.notMatch(await ask('GET', path, headers), { status: 200 }, path)
  t.equal(handled.length, before)
  const same = { jti: 'chosen' }
  t.match(await ask('GET', '/', { ...headers, dpop: await prove(client, { token, claims: same }) }), { status: 200 })
  t.match(await ask('GET', '/', { ...headers, dpop: await prove(client, { token, claims: same }) }), invalidProof, 'one jti is one proof, whatever else it says')
  const other = makeClient()
  const { access_token: theirs } = await pair(other)
  t.match(await ask('GET', '/', { authorization: `DPoP ${theirs}`, dpop: await prove(other, { token: theirs, claims: same }) }), { status: 200 }, 'nobody can use up the jti of somebody else')

  const off = await build(t, {})
  const bearer = { authorization: `Bearer ${(await off.pair(null)).access_token}` }
  for (let i = 0; i < 2; i++) t.match(await off.ask('GET', '/', bearer), { status: 200 }, 'the control: with DPoP off it passes as often as one likes')
})

t.test('attack: a proof is remembered until nobody takes it any more', async t => {
  const { ask, pair, prove, clock } = await build(t)
  const client = makeClient()
  const { access_token: token } = await pair(client)
  const iat = clock.ms / 1000 + 5
  const headers = { authorization: `DPoP ${token}`, dpop: await prove(client, { token, claims: { iat } }) }
  t.match(await ask('GET', '/', headers), { status: 200 })
  clock.ms += 65_000
  t.match(await ask('GET', '/', headers), invalidProof, 'at the last moment of a proof of the future')
})

t.test('attack: a login that was recorded is sent again, and two hundred at once', async t => {
  const { ask, prove, handled } = await build(t)
  const client = makeClient()
  const dpop = await prove(client, { method: 'POST', url: '/login' })
  const answers = await Promise.all(Array.from({ length: 200 }, () => ask('POST', '/login', { dpop }, {})))
  t.equal(answers.filter(({ status }) => status === 200).length, 1)
  t.equal(answers.filter(({ status, body }) => status === 400 && body.code === 'FST_BASTION_TOKENS_PROOF_INVALID').length, 199)
  t.equal(handled.length, 200, 'they came in, and went without tokens')
  const bound = await prove(client, { method: 'POST', url: '/login-bound' })
  t.match(await ask('POST', '/login-bound', { dpop: bound }, {}), { status: 200 })
  t.match(await ask('POST', '/login-bound', { dpop: bound }, {}), invalidAtIssue)
  t.equal(handled.length, 201, 'where the route demands a proof, the handler does not run')
})

t.test('attack: proofs that were made for something else', async t => {
  const { app, origin, ask, pair, use, prove, handled } = await build(t)
  const client = makeClient()
  const { access_token: token } = await pair(client)
  const before = handled.length
  const { port } = new URL(origin)
  for (const [name, claims] of Object.entries<Json>({
    'another method': { htm: 'POST' },
    'the method in lower case': { htm: 'get' },
    'another path': { htu: `${origin}/bound` },
    'another host': { htu: `http://evil.test:${port}/` },
    'another port': { htu: 'http://127.0.0.1/' },
    'another scheme': { htu: `https://127.0.0.1:${port}/` },
    'too old': { iat: 1_700_000_000 - 61 },
    'of the future': { iat: 1_700_000_000 + 6 },
  })) t.match(await use(client, token, '/', { claims }), invalidProof, name)
  const good = await prove(client, { token })
  const authorization = `DPoP ${token}`
  t.match(await ask('GET', '/', { authorization, dpop: [good, good] }), invalidProof, 'two header fields')
  t.match(await ask('GET', '/', { authorization, dpop: [good, await prove(makeClient(), { token })] }), invalidProof)
  t.match(await ask('GET', '/', { authorization, dpop: await prove(client, { token, claims: { more: 'x'.repeat(4000) } }) }), invalidProof, 'more than 4 KB')
  t.match(await ask('GET', '/', { authorization, dpop: await prove(client, { token, header: { jwk: await exportJWK(client.privateKey) } }) }), invalidProof, 'a private key')
  t.match(await ask('GET', '/', { authorization, dpop: token }), invalidProof, 'an access token')
  t.match(await ask('GET', '/files/a/../b', { authorization, dpop: await prove(client, { token, url: '/files/b' }) }), invalidProof, 'a target with dot segments')
  t.equal(handled.length, before)
  t.match(await ask('GET', '/', { authorization, dpop: good }), { status: 200 }, 'the control: what was wrong so far was not the rest')
  for (const [name, path, claims] of [
    ['a query', '/?a=b', { htu: `${origin}/?c=d` }],
    ['the case of the host', '/', { htu: `HTTP://127.0.0.1:${port}/` }],
    ['percent-encoding', '/files/%7euser/%c3%a9', { htu: `${origin}/files/~user/%C3%A9` }],
    ['no path', '/', { htu: origin }],
  ] as const) t.match(await use(client, token, path, { claims }), { status: 200 }, `not meant: ${name}`)
  const host = await app.inject({ url: '/', headers: { host: 'API.test:80', authorization, dpop: await prove(client, { token, claims: { htu: 'http://api.test/' } }) } })
  t.equal(host.statusCode, 200, 'the port that a scheme has anyway, and the case of the host in the request')
})

t.test('the URL is that of the client, where a proxy that is trusted says it, and nobody else', async t => {
  const client = makeClient()
  const forwarded = { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'api.test' }
  for (const [trustProxy, outside, inside] of [['127.0.0.1', 200, 401], [undefined, 401, 200]] as const) {
    const { origin, ask, pair, prove } = await build(t, { dpop: {} }, { trustProxy })
    const { access_token: token } = await pair(client)
    const statusOf = async (htu: string) => (await ask('GET', '/', { ...forwarded, authorization: `DPoP ${token}`, dpop: await prove(client, { token, claims: { htu } }) })).status
    t.equal(await statusOf('https://api.test/'), outside)
    t.equal(await statusOf(`${origin}/`), inside)
  }
})

t.test('a HEAD is a method of its own', async t => {
  const { ask, pair, prove } = await build(t)
  const client = makeClient()
  const { access_token: token } = await pair(client)
  const statusOf = async (method: string) => (await ask('HEAD', '/bound', { authorization: `DPoP ${token}`, dpop: await prove(client, { method, url: '/bound', token }) })).status
  t.equal(await statusOf('HEAD'), 200)
  t.equal(await statusOf('GET'), 401)
})

t.test('attack: credentials that are offered in two ways at once, or in a way that is none', async t => {
  const { ask, pair, prove, handled } = await build(t)
  const client = makeClient()
  const { access_token: token } = await pair(client)
  const { access_token: bearer } = await pair(null)
  const before = handled.length
  const dpop = async () => prove(client, { token })
  t.match(await ask('GET', '/', { authorization: [`DPoP ${token}`, `Bearer ${bearer}`], dpop: await dpop() }), { status: 400, body: { code: 'FST_BASTION_IDENTITY_TWO_CREDENTIALS' } })
  t.match(await ask('GET', '/', { authorization: [`Bearer ${bearer}`, `DPoP ${token}`], dpop: await dpop() }), { status: 400, body: { code: 'FST_BASTION_IDENTITY_TWO_CREDENTIALS' } })
  t.match(await ask('GET', '/keys', { authorization: `DPoP ${token}`, dpop: await prove(client, { token, url: '/keys' }), 'x-api-key': 'k' }), { status: 400, body: { code: 'FST_BASTION_IDENTITY_TWO_CREDENTIALS' } })
  t.match(await ask('GET', '/', { authorization: `DPoP ${bearer}`, dpop: await prove(client, { token: bearer }) }), invalidToken, 'an unbound token by the scheme DPoP')
  for (const authorization of ['DPoP', 'DPoP ', `DPoP  ${token}`, `DPoP\t${token}`, `DPoP ${token},${token}`, `DPoP "${token}"`, `DPoPx ${token}`, `Basic ${token}`, token]) {
    t.match(await ask('GET', '/', { authorization, dpop: await dpop() }), { status: 401 }, authorization.slice(0, 12))
  }
  t.match(await ask('GET', '/public', { authorization: `Bearer ${token}` }), { status: 200, body: { id: undefined } }, 'on routes for everybody what is not good is nobody')
  t.equal(handled.length, before + 1)
  t.match(await ask('GET', '/', { authorization: `dpop ${token}`, dpop: await dpop() }), { status: 200 }, 'the scheme is read in any case')
  t.match(await ask('GET', '/', { authorization: `Bearer ${bearer}`, dpop: 'nonsense' }), { status: 200 }, 'the proof of a bearer token is not asked for')
})

t.test('attack: a stolen refresh token is good for nothing, and does not end the family of its owner', async t => {
  const { ask, pair, login, use, recorded } = await build(t)
  const client = makeClient()
  const thief = makeClient()
  const { refresh_token: spent } = await pair(client)
  const { body: current } = await login(client, '/refresh', { refresh_token: spent })
  const body = { refresh_token: current.refresh_token }
  t.match(await ask('POST', '/refresh', {}, body), invalidToken, 'without a key')
  t.match(await login(thief, '/refresh', body), invalidToken, 'with another one')
  t.match(await login(client, '/refresh', body, { htm: 'GET' }), invalidAtIssue, 'with a proof that is none')
  t.match(await login(thief, '/refresh', { refresh_token: spent }), invalidToken, 'one that was spent, with another key')
  t.notOk(recorded.some(({ type }) => type === 'token_reused'))
  t.match(await use(client, current.access_token), { status: 200 })
  t.match(await login(client, '/refresh', body), { status: 200 }, 'the owner goes on')
  t.match(await login(client, '/refresh', { refresh_token: spent }), invalidToken)
  t.ok(recorded.some(({ type }) => type === 'token_reused'), 'with the right key, reuse is reuse')
  t.match(await use(client, current.access_token), invalidToken)

  const off = await build(t, {})
  const { refresh_token: unbound } = await off.pair(client)
  t.match(await off.ask('POST', '/refresh', {}, { refresh_token: unbound }), { status: 200 }, 'the control: with DPoP off the thief refreshes')
})

t.test('attack: a bound token that was ended, or has expired', async t => {
  const { app, pair, use, clock } = await build(t)
  const client = makeClient()
  const first = await pair(client)
  await app.tokens.revokeUser('ada')
  const dead = await use(client, first.access_token)
  t.match(dead, invalidToken)
  t.equal(dead.headers['www-authenticate'], `DPoP error="invalid_token", ${ALGS}`)
  const second = await pair(client)
  t.match(await use(client, second.access_token), { status: 200 })
  clock.ms += 906_000
  t.match(await use(client, second.access_token), invalidToken)
})

t.test('attack: so many proofs that no more can be remembered: then none is taken, and none is forgotten', async t => {
  const { pair, use, ask, prove, handled } = await build(t, { dpop: {} }, { state: { maxEntries: 100 } })
  const client = makeClient()
  const { access_token: token } = await pair(client)
  const headers = { authorization: `DPoP ${token}`, dpop: await prove(client, { token }) }
  t.match(await ask('GET', '/', headers), { status: 200 })
  const statuses = new Set<number>()
  for (let i = 0; i < 60; i++) statuses.add((await use(client, token)).status)
  t.strictSame([...statuses], [200, 503])
  const before = handled.length
  t.match(await use(client, token), { status: 503, body: { code: 'FST_BASTION_IDENTITY_UNCHECKED' }, headers: { 'retry-after': String } })
  t.match(await ask('GET', '/', headers), { status: 401 }, 'the first of them is still known')
  t.equal(handled.length, before)
})

t.test('attack: a flood of good proofs fills nothing beyond the budget of who sends it', async t => {
  const { app, pair, use } = await build(t, { dpop: {} }, { limits: { address: ['100/minute'], principal: ['10/minute'] } })
  const client = makeClient()
  const { access_token: token } = await pair(client)
  const entries = async () => (await app.state.size()).entries
  const before = await entries()
  const statuses = []
  for (let i = 0; i < 30; i++) statuses.push((await use(client, token)).status)
  t.strictSame(statuses, [...Array.from({ length: 10 }, () => 200), ...Array.from({ length: 20 }, () => 429)])
  t.equal(await entries(), before + 10, 'what was refused by a limit is not remembered')
})

t.test('attack: who sends a recorded request again and again spends no budget of its owner', async t => {
  const { pair, use, ask, prove } = await build(t, { dpop: {} }, { limits: { address: ['100/minute'], principal: ['10/minute'] } })
  const client = makeClient()
  const { access_token: token } = await pair(client)
  const headers = { authorization: `DPoP ${token}`, dpop: await prove(client, { token }) }
  t.equal((await ask('GET', '/', headers)).status, 200)
  for (let i = 0; i < 20; i++) t.match(await ask('GET', '/', headers), invalidProof)
  t.equal((await use(client, token)).status, 200)
})

t.test('misconfiguration stops boot', async t => {
  const misconfigured = { code: 'FST_BASTION_TOKENS_MISCONFIGURED' }
  for (const dpop of [true, { requierd: true }, { required: 'yes' }, { nonce: 1 }, { algorithms: [] }, { algorithms: ['HS256'] }, { algorithms: ['none'] }, { algorithms: ['ES256', 'ES256'] },
    { maxAge: 0 }, { maxAge: 601 }, { origin: '' }, { origin: 'api.example' }, { origin: 'https://api.example/' }, { origin: 'https://api.example/path' }, { origin: 'ftp://api.example' }]) {
    await t.rejects(build(t, { dpop: dpop as never }), misconfigured, JSON.stringify(dpop))
  }
  async function boot (config: Json, dpop?: TokensOptions['dpop']): Promise<void> {
    const app = Fastify()
    t.teardown(() => app.close())
    for (const plugin of [plan, events, errors]) await app.register(plugin)
    await app.register(state, {})
    await app.register(identity)
    await app.register(access, {})
    await app.register(tokens, { issuer: 'https://a.test', audience: 'https://a.test', keys: { access: randomBytes(32), refresh: randomBytes(32) }, ...dpop !== undefined && { dpop } })
    app.get('/', { config: { access: 'user', ...config } }, async () => ({}))
    await app.ready()
  }
  await t.rejects(boot({ dpop: true }), { code: 'FST_BASTION_PLAN_REFUSED', message: /GET \/: dpop: no token is bound to a key: switch it on/ })
  for (const dpop of ['yes', 1, null, {}]) {
    await t.rejects(boot({ dpop }, {}), { code: 'FST_BASTION_PLAN_REFUSED', message: /dpop: .* has no meaning/ }, JSON.stringify(dpop))
    await t.rejects(boot({ dpop }), { code: 'FST_BASTION_PLAN_REFUSED' }, JSON.stringify(dpop))
  }
  await t.resolves(boot({ dpop: true }, {}))
  await t.resolves(boot({ dpop: false }, {}))
  await t.resolves(boot({ dpop: false }))
})
