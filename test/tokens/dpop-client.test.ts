/** DPoP with an unmodified OAuth2 client (oauth4webapi): POST /token, a resource, nonces and their renewal, introspection. */
import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import argon2 from 'argon2'
import Fastify, { type FastifyInstance } from 'fastify'
import * as oauth from 'oauth4webapi'
import t, { type Test } from 'tap'
import access from '../../plugins/access/index.js'
import errors from '../../plugins/errors.js'
import events, { type SecurityEvent } from '../../plugins/events.js'
import exposure from '../../plugins/exposure.js'
import identity from '../../plugins/identity.js'
import oauth2 from '../../plugins/oauth2.js'
import passwords from '../../plugins/passwords/index.js'
import plan from '../../plugins/plan/index.js'
import { server } from '../../plugins/server.js'
import signIn, { type Account } from '../../plugins/sign-in.js'
import state from '../../plugins/state/index.js'
import tokens, { type TokensOptions } from '../../plugins/tokens/index.js'
import validation from '../../plugins/validation/index.js'

const PASSWORD = 'a right password'
const ada: Account = { id: 'ada', passwordHash: await argon2.hash(PASSWORD, { memoryCost: 1024, timeCost: 2 }), roles: ['user', 'rs'], isActive: true }
const ALGORITHMS = ['ES256', 'Ed25519', 'RS256', 'PS256'] as const

interface Built {
  app: FastifyInstance
  origin: string
  issuer: oauth.AuthorizationServer
  clock: { aheadMs: number }
  recorded: SecurityEvent[]
  hashes: { count: number }
}

const client: oauth.Client = { client_id: 'first-party' }
const insecure = { [oauth.allowInsecureRequests]: true }

async function build (t: Test, dpop: TokensOptions['dpop']): Promise<Built> {
  const clock = { aheadMs: 0 }
  const recorded: SecurityEvent[] = []
  const hashes = { count: 0 }
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors]) await app.register(plugin)
  await app.register(state, {})
  await app.register(identity)
  await app.register(access, { roles: { user: {}, rs: { permissions: ['tokens:introspect'] } } })
  await app.register(validation)
  await app.register(exposure)
  await app.register(passwords, { pepper: undefined } as never)
  await app.register(tokens, {
    issuer: 'https://a.test', audience: 'https://a.test', keys: { access: randomBytes(32), refresh: randomBytes(32) }, dpop, now: () => Date.now() + clock.aheadMs,
  })
  await app.register(signIn, {
    accounts: {
      async findByLogin (login) {
        hashes.count += 1
        return login === 'ada' ? ada : null
      },
      findById: async () => ada,
      savePassword: async () => {},
    },
  })
  await app.register(oauth2, { load: async id => ({ id, roles: ada.roles }), passwordGrant: true, introspection: 'tokens:introspect' })
  app.identity.reader({
    name: 'test key',
    read: ({ headers }) => headers['x-api-key'] === undefined
      ? null
      : { principal: { kind: 'key', id: 'k', userId: 'ada', roles: ['rs'], via: 'key', authTime: 0, credentialId: 'k' } },
  })
  app.get('/me', { schema: { response: { 200: { type: 'object', properties: { id: { type: 'string' } }, additionalProperties: false } } }, config: { access: 'user' } },
    async request => ({ id: request.principal!.id }))
  app.events.listen(event => { recorded.push(event) })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const origin = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  return { app, origin, issuer: { issuer: origin, token_endpoint: `${origin}/token` }, clock, recorded, hashes }
}

const refused = (error: string) => ({ name: 'ResponseBodyError', error, status: 400 })

/** As the client's own documentation has it: once more where the server wants its nonce. */
async function once<Result> (DPoP: oauth.DPoPHandle | undefined, ask: () => Promise<Result>): Promise<Result> {
  return ask().catch(error => {
    if (DPoP === undefined || !oauth.isDPoPNonceError(error)) throw error
    return ask()
  })
}

async function login ({ issuer }: Built, DPoP?: oauth.DPoPHandle) {
  return once(DPoP, async () => oauth.processGenericTokenEndpointResponse(issuer, client,
    await oauth.genericTokenEndpointRequest(issuer, client, oauth.None(), 'password', { username: 'ada', password: PASSWORD }, { ...insecure, DPoP })))
}

async function refresh ({ issuer }: Built, token: string, DPoP?: oauth.DPoPHandle) {
  return once(DPoP, async () => oauth.processRefreshTokenResponse(issuer, client, await oauth.refreshTokenGrantRequest(issuer, client, oauth.None(), token, { ...insecure, DPoP })))
}

async function me ({ origin }: Built, token: string, DPoP?: oauth.DPoPHandle) {
  return once(DPoP, () => oauth.protectedResourceRequest(token, 'GET', new URL(`${origin}/me?fields=all`), undefined, undefined, { ...insecure, DPoP }))
}

for (const nonce of [false, true]) {
  for (const alg of nonce ? ALGORITHMS.slice(0, 1) : ALGORITHMS) {
    t.test(`the client signs in, uses, refreshes and uses again, by ${alg}${nonce ? ', with nonces' : ''}`, async t => {
      const built = await build(t, { nonce })
      const DPoP = oauth.DPoP(client, await oauth.generateKeyPair(alg))
      const first = await login(built, DPoP)
      t.equal(first.token_type, 'dpop')
      t.strictSame(await (await me(built, first.access_token, DPoP)).json(), { id: 'ada' })
      const second = await refresh(built, first.refresh_token!, DPoP)
      t.equal(second.token_type, 'dpop')
      t.equal((await me(built, second.access_token, DPoP)).status, 200)
      t.equal(built.hashes.count, 1, 'who had to come again with a nonce has cost one look-up and one hash')
      t.notOk(built.recorded.some(({ type }) => type === 'proof_replayed' || type === 'token_reused'))
    })
  }
}

t.test('nonces are renewed on the way: who asks often is refused once, and later not at all', async t => {
  const built = await build(t, { nonce: true })
  const timely = { [oauth.modifyAssertion]: (_header: object, payload: Record<string, oauth.JsonValue | undefined>) => { payload.iat = Math.floor((Date.now() + built.clock.aheadMs) / 1000) } }
  const DPoP = oauth.DPoP(client, await oauth.generateKeyPair('ES256'), timely)
  const { access_token: token } = await login(built, DPoP)
  for (let i = 0; i < 12; i++) {
    t.equal((await me(built, token, DPoP)).status, 200)
    built.clock.aheadMs += 60_000
  }
  t.equal(built.recorded.filter(({ type }) => type === 'access_denied').length, 0)
})

t.test('introspection says the key that a token is bound to', async t => {
  const built = await build(t, {})
  const DPoP = oauth.DPoP(client, await oauth.generateKeyPair('ES256'))
  const introspect = async (token: string) => (await built.app.inject({
    method: 'POST', url: '/introspect', payload: new URLSearchParams({ token }).toString(), headers: { 'content-type': 'application/x-www-form-urlencoded', 'x-api-key': 'rs', host: 'localhost' },
  })).json() as Record<string, unknown>
  t.match(await introspect((await login(built, DPoP)).access_token), { active: true, token_type: 'DPoP', cnf: { jkt: await DPoP.calculateThumbprint() } })
  const bearer = await introspect((await login(built)).access_token)
  t.match(bearer, { active: true, token_type: 'Bearer' })
  t.notHas(bearer, { cnf: Object })
})

t.test('attack: tokens of the client in the hands of another', async t => {
  const built = await build(t, {})
  const own = oauth.DPoP(client, await oauth.generateKeyPair('ES256'))
  const thief = oauth.DPoP(client, await oauth.generateKeyPair('ES256'))
  const pair = await login(built, own)
  const challenge = (error: string) => ({ name: 'WWWAuthenticateChallengeError', status: 401, cause: [{ scheme: 'dpop', parameters: { error, algs: 'ES256 EdDSA Ed25519 PS256 RS256' } }] })
  await t.rejects(me(built, pair.access_token, thief), challenge('invalid_dpop_proof'))
  await t.rejects(me(built, pair.access_token), { status: 401, cause: [{ scheme: 'bearer', parameters: { error: 'invalid_token' } }, { scheme: 'dpop' }] }, 'as a bearer token')
  await t.rejects(refresh(built, pair.refresh_token!, thief), refused('invalid_grant'))
  await t.rejects(refresh(built, pair.refresh_token!), refused('invalid_grant'))
  t.notOk(built.recorded.some(({ type }) => type === 'token_reused'))
  t.equal((await refresh(built, pair.refresh_token!, own)).token_type, 'dpop', 'and the owner goes on')

  const off = await build(t, undefined)
  const bearer = await login(off)
  t.equal(bearer.token_type, 'bearer')
  t.equal((await me(off, bearer.access_token)).status, 200, 'the control: with DPoP off whoever has it gets in')
  t.equal((await refresh(off, bearer.refresh_token!)).token_type, 'bearer')
})

t.test('attack: a token request without a proof where one is required, or with one that is none', async t => {
  const built = await build(t, { required: true })
  await t.rejects(login(built), refused('invalid_dpop_proof'))
  const late = oauth.DPoP({ ...client, [oauth.clockSkew]: -120 }, await oauth.generateKeyPair('ES256'))
  await t.rejects(login(built, late), refused('invalid_dpop_proof'))
  t.equal(built.hashes.count, 0, 'no password was looked at')
  const DPoP = oauth.DPoP(client, await oauth.generateKeyPair('ES256'))
  t.equal((await login(built, DPoP)).token_type, 'dpop')
})
