/** OAuth 2.0: the token endpoint and its kin, as an unmodified client uses them, and as an attacker does. */
import { randomBytes } from 'node:crypto'
import argon2 from 'argon2'
import Fastify, { type FastifyInstance } from 'fastify'
import * as oauth from 'oauth4webapi'
import t, { type Test } from 'tap'
import access from '../plugins/access/index.js'
import errors from '../plugins/errors.js'
import events, { type SecurityEvent } from '../plugins/events.js'
import exposure from '../plugins/exposure.js'
import identity from '../plugins/identity.js'
import oauth2, { type OAuth2Options } from '../plugins/oauth2.js'
import passwords from '../plugins/passwords/index.js'
import plan from '../plugins/plan/index.js'
import { server } from '../plugins/server.js'
import signIn, { type Account } from '../plugins/sign-in.js'
import state from '../plugins/state/index.js'
import tokens, { type TokenSubject } from '../plugins/tokens/index.js'
import validation from '../plugins/validation/index.js'

const PASSWORD = 'a right password'
const passwordHash = await argon2.hash(PASSWORD, { memoryCost: 1024, timeCost: 2 })
const FORM = { 'content-type': 'application/x-www-form-urlencoded' }

interface Built {
  app: FastifyInstance
  recorded: SecurityEvent[]
  users: Record<string, Account>
  post: (path: string, parameters: Record<string, string> | string, headers?: Record<string, string>) => Promise<{ status: number, headers: Record<string, unknown>, text: string, body: any }>
  get: (path: string, token: string) => Promise<number>
}

async function build (t: Test, options: Partial<OAuth2Options> = { passwordGrant: true }): Promise<Built> {
  const recorded: SecurityEvent[] = []
  const users: Record<string, Account> = {
    ada: { id: 'ada', passwordHash, roles: ['writer'], isActive: true },
    ina: { id: 'ina', passwordHash, roles: ['writer'], isActive: false },
  }
  const find = async (id: string) => users[id] ?? null
  const load = async (id: string): Promise<TokenSubject | null> => users[id]?.isActive === true ? { id, roles: users[id].roles } : null
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors]) await app.register(plugin)
  await app.register(state, {})
  await app.register(identity)
  await app.register(access, { roles: { writer: { permissions: ['posts:read', 'posts:write'] }, rs: { permissions: ['tokens:introspect'] } }, permissions: ['users:delete'] })
  await app.register(validation)
  await app.register(exposure)
  await app.register(passwords, { pepper: undefined } as never)
  await app.register(tokens, { issuer: 'https://a.test', audience: 'https://a.test', keys: { access: randomBytes(32), refresh: randomBytes(32) } })
  await app.register(signIn, { accounts: { findByLogin: find, findById: find, savePassword: async () => {} } })
  await app.register(oauth2, { load, ...options })
  app.identity.reader({
    name: 'test key',
    read: ({ headers }) => headers['x-api-key'] === undefined
      ? null
      : { principal: { kind: 'key', id: 'k', userId: 'ada', roles: ['writer', ...headers['x-api-key'] === 'rs' ? ['rs'] : []], via: 'key', authTime: 0, credentialId: 'k' } },
  })
  const ok = { schema: { response: { 200: { type: 'object', properties: {}, additionalProperties: false } } } }
  app.get('/read', { ...ok, config: { access: { permissions: 'posts:read' as never } } }, async () => ({}))
  app.get('/write', { ...ok, config: { access: { permissions: 'posts:write' as never } } }, async () => ({}))
  app.get('/me', { ...ok, config: { access: 'user' } }, async () => ({}))
  app.events.listen(event => { recorded.push(event) })
  await app.ready()
  return {
    app,
    recorded,
    users,
    async post (path, parameters, headers = {}) {
      const payload = typeof parameters === 'string' ? parameters : new URLSearchParams(parameters).toString()
      const answer = await app.inject({ method: 'POST', url: path, payload, headers: { ...FORM, host: 'localhost', ...headers } })
      return { status: answer.statusCode, headers: answer.headers, text: answer.body, body: answer.body === '' ? null : answer.json() }
    },
    get: async (path, token) => (await app.inject({ url: path, headers: { authorization: `Bearer ${token}`, host: 'localhost' } })).statusCode,
  }
}

const asAda = { grant_type: 'password', username: 'ada', password: PASSWORD }

t.test('an unmodified OAuth2 client gets tokens by password, refreshes and revokes them [ASVS 10.4.4]', async t => {
  const { app, get } = await build(t)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const origin = `http://127.0.0.1:${(app.server.address() as { port: number }).port}`
  const issuer: oauth.AuthorizationServer = { issuer: origin, token_endpoint: `${origin}/token`, revocation_endpoint: `${origin}/revoke` }
  const client: oauth.Client = { client_id: 'first-party' }
  const options = { [oauth.allowInsecureRequests]: true }
  const answer = await oauth.genericTokenEndpointRequest(issuer, client, oauth.None(), 'password', { username: 'ada', password: PASSWORD, scope: 'posts:read' }, options)
  const first = await oauth.processGenericTokenEndpointResponse(issuer, client, answer)
  t.match(first, { token_type: 'bearer', expires_in: 900, scope: 'posts:read' })
  t.equal(await get('/read', first.access_token), 200)
  const again = await oauth.processRefreshTokenResponse(issuer, client, await oauth.refreshTokenGrantRequest(issuer, client, oauth.None(), first.refresh_token!, options))
  t.not(again.refresh_token, first.refresh_token)
  await oauth.processRevocationResponse(await oauth.revocationRequest(issuer, client, oauth.None(), again.refresh_token!, options))
  t.equal(await get('/read', again.access_token), 401)
  const refused = await oauth.genericTokenEndpointRequest(issuer, client, oauth.None(), 'password', { username: 'ada', password: 'wrong' }, options)
  await t.rejects(oauth.processGenericTokenEndpointResponse(issuer, client, refused), { name: 'ResponseBodyError', error: 'invalid_grant', status: 400 })
})

t.test('answers are never kept by a cache, and errors have the form of RFC 6749, 5.2', async t => {
  const { post } = await build(t)
  const good = await post('/token', asAda)
  t.equal(good.status, 200)
  for (const [parameters, error] of [
    [{ ...asAda, password: 'wrong' }, 'invalid_grant'],
    [{ ...asAda, username: 'nobody' }, 'invalid_grant'],
    [{ ...asAda, username: 'ina' }, 'invalid_grant'],
    [{ grant_type: 'password', username: 'ada' }, 'invalid_request'],
    [{ username: 'ada', password: PASSWORD }, 'invalid_request'],
    [{ grant_type: 'authorization_code', code: 'x' }, 'unsupported_grant_type'],
    [{ grant_type: 'client_credentials' }, 'unsupported_grant_type'],
    [{ grant_type: 'refresh_token' }, 'invalid_request'],
    [{ grant_type: 'refresh_token', refresh_token: 'x' }, 'invalid_grant'],
    [{ ...asAda, scope: 'users:delete' }, 'invalid_scope'],
    [{ ...asAda, scope: 'posts:read nonsense' }, 'invalid_scope'],
    [{ ...asAda, scope: 'a  b' }, 'invalid_request'],
    [`grant_type=password&username=ada&username=bob&password=${PASSWORD}`, 'invalid_request'],
    ['grant_type=password&username=%ff&password=x', 'invalid_request'],
    ['grant_type=password&username=a%00b&password=x', 'invalid_request'],
    ['', 'invalid_request'],
  ] as const) {
    const { status, body, headers } = await post('/token', parameters)
    t.equal(status, 400, JSON.stringify(parameters))
    t.equal(body.error, error)
    t.strictSame(Object.keys(body).filter(key => !['error', 'error_description'].includes(key)), [])
    t.match(headers, { 'content-type': /^application\/json/ })
  }
  t.match(await post('/token', JSON.stringify(asAda), { 'content-type': 'application/json' }), { status: 415, body: { error: 'invalid_request' } })
  t.match(await post('/token', { ...asAda, unknown: 'parameter' }), { status: 200 }, 'what is unknown is ignored (RFC 6749, 3.2)')
})

t.test('the password grant is off unless it is switched on', async t => {
  const { post } = await build(t, {})
  t.match(await post('/token', asAda), { status: 400, body: { error: 'unsupported_grant_type' } })
})

t.test('guesses count here as they do at sign-in: five, then 429 for the right password too', async t => {
  const { post, recorded } = await build(t)
  for (let i = 0; i < 5; i++) t.equal((await post('/token', { ...asAda, password: `wrong ${i}` })).status, 400)
  const locked = await post('/token', asAda)
  t.equal(locked.status, 429)
  t.equal(locked.body.error, 'temporarily_unavailable')
  t.ok(Number(locked.headers['retry-after']) > 0)
  t.ok(recorded.some(({ type }) => type === 'login_locked'))
})

t.test('an account with a second factor gets nothing for its password alone', async t => {
  const { post } = await build(t, { passwordGrant: true, mayUsePassword: async ({ id }) => id !== 'ada' })
  t.match(await post('/token', asAda), { status: 400, body: { error: 'invalid_grant' } })
})

t.test('scopes cut a token down, through refresh and never beyond', async t => {
  const { post, get } = await build(t)
  const whole = (await post('/token', asAda)).body
  t.equal(whole.scope, undefined)
  for (const path of ['/read', '/write', '/me']) t.equal(await get(path, whole.access_token), 200)
  const cut = (await post('/token', { ...asAda, scope: 'posts:read' })).body
  t.equal(await get('/read', cut.access_token), 200)
  t.equal(await get('/write', cut.access_token), 403)
  t.equal(await get('/me', cut.access_token), 403, 'where no permission is asked for, a token that is cut down is not enough')
  const beyond = await post('/token', { grant_type: 'refresh_token', refresh_token: cut.refresh_token, scope: 'posts:read posts:write' })
  t.match(beyond, { status: 400, body: { error: 'invalid_scope' } })
  const next = (await post('/token', { grant_type: 'refresh_token', refresh_token: cut.refresh_token })).body
  t.equal(await get('/read', next.access_token), 200, 'which did not spend the token')
  t.equal(await get('/write', next.access_token), 403, 'what was cut down stays so')
  const less = (await post('/token', { grant_type: 'refresh_token', refresh_token: whole.refresh_token, scope: 'posts:write' })).body
  t.equal(await get('/read', less.access_token), 403)
  const whole2 = (await post('/token', { grant_type: 'refresh_token', refresh_token: less.refresh_token })).body
  t.equal(await get('/read', whole2.access_token), 200, 'the family has what it had')
})

t.test('a role that was lost is lost to scopes too', async t => {
  const { post, get, users } = await build(t)
  const { refresh_token: refresh } = (await post('/token', { ...asAda, scope: 'posts:write' })).body
  users.ada = { ...users.ada!, roles: [] }
  const next = (await post('/token', { grant_type: 'refresh_token', refresh_token: refresh })).body
  t.equal(await get('/write', next.access_token), 403)
})

t.test('a refresh token that is used twice ends the family, here too', async t => {
  const { post, get } = await build(t)
  const { refresh_token: refresh } = (await post('/token', asAda)).body
  const answers = await Promise.all(Array.from({ length: 50 }, () => post('/token', { grant_type: 'refresh_token', refresh_token: refresh })))
  const passed = answers.filter(({ status }) => status === 200)
  t.equal(passed.length, 1)
  t.equal(await get('/read', passed[0]!.body.access_token), 401)
})

t.test('revocation answers the same for every text, and ends the family of a token of ours (RFC 7009, 2.2)', async t => {
  const { post, get } = await build(t)
  const { access_token: token, refresh_token: refresh } = (await post('/token', asAda)).body
  for (const text of ['nonsense', 'a.b.c', token]) t.match(await post('/revoke', { token: text, token_type_hint: 'refresh_token' }), { status: 200, text: '' })
  t.equal(await get('/read', token), 401)
  t.match(await post('/token', { grant_type: 'refresh_token', refresh_token: refresh }), { status: 400, body: { error: 'invalid_grant' } })
  t.match(await post('/revoke', {}), { status: 400, body: { code: 'FST_BASTION_VALIDATION_REFUSED' } })
})

t.test('introspection is for keys with the permission, and calls active only what is a good access token (RFC 7662)', async t => {
  const { post, app } = await build(t, { passwordGrant: true, introspection: 'tokens:introspect' })
  t.equal(app.hasRoute({ method: 'POST', url: '/introspect' }), true)
  const { access_token: token, refresh_token: refresh } = (await post('/token', { ...asAda, scope: 'posts:read' })).body
  t.equal((await post('/introspect', { token })).status, 401)
  t.equal((await post('/introspect', { token }, { 'x-api-key': 'other' })).status, 403)
  t.equal((await post('/introspect', { token }, { authorization: `Bearer ${token}` })).status, 403, 'nor does a token vouch for tokens')
  const asKey = { 'x-api-key': 'rs' }
  t.match(await post('/introspect', { token }, asKey), { status: 200, body: { active: true, sub: 'ada', scope: 'posts:read', token_type: 'Bearer', exp: Number, iat: Number, jti: String } })
  for (const text of [refresh, 'nonsense', `${token}x`]) t.strictSame((await post('/introspect', { token: text }, asKey)).body, { active: false })
  await post('/revoke', { token })
  t.strictSame((await post('/introspect', { token }, asKey)).body, { active: false }, 'and nothing more is said of one that was ended')
  const { post: closed } = await build(t)
  t.equal((await closed('/introspect', { token })).status, 404, 'off unless it is switched on')
})

t.test('forms are taken nowhere else', async t => {
  const { app } = await build(t)
  t.equal((await app.inject({ method: 'POST', url: '/nowhere', payload: 'a=b', headers: FORM })).statusCode, 404)
})

t.test('wrong options stop boot, and the message names them', async t => {
  await t.rejects(build(t, { load: undefined as never }), { code: 'FST_BASTION_OAUTH2_MISCONFIGURED', message: /oauth2: load/ })
  await t.rejects(build(t, { passwordGrant: 'yes' } as never), { message: /oauth2: passwordGrant/ })
  await t.rejects(build(t, { introspection: 'tokens:introspct' }), { code: 'FST_BASTION_PLAN_REFUSED', message: /POST \/introspect: unknown permission "tokens:introspct"/ })
})
