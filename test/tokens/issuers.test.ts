/** Tokens of other issuers, by the keys that they publish on a real server. */
import { createHash, createHmac, generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import jwt from '@fastify/jwt'
import Fastify, { type FastifyRequest } from 'fastify'
import { calculateJwkThumbprint, CompactEncrypt, exportJWK, SignJWT, UnsecuredJWT, type JWTPayload } from 'jose'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions } from '../../plugins/index.js'
import type { IssuerOptions } from '../../plugins/tokens/index.js'
import { closed, noBody } from '../../schemas/index.js'
import { build, pemOf, type Built, type Json } from './build.js'

const NOW = 1_700_000_000
const ISSUER = 'https://login.example'
const AUDIENCE = 'https://api.test'
const refused = { status: 401, code: 'FST_BASTION_TOKENS_INVALID' }
const unchecked = { status: 503, code: 'FST_BASTION_IDENTITY_UNCHECKED' }

interface Pair { privateKey: KeyObject, publicKey: KeyObject }
const makers = {
  RS256: (): Pair => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: (): Pair => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: (): Pair => generateKeyPairSync('ed25519'),
}
const pairs = { RS256: makers.RS256(), ES256: makers.ES256(), EdDSA: makers.EdDSA() }
type Alg = keyof typeof pairs

const jwkOf = async (key: KeyObject, more: object = {}) => ({ ...await exportJWK(key), ...more })
const claims = (more: Json = {}): JWTPayload => ({ iss: ISSUER, aud: AUDIENCE, sub: 'u-7', jti: 'j1', iat: NOW, exp: NOW + 300, ...more }) as JWTPayload
const signed = (payload: JWTPayload, { alg = 'ES256', key = pairs[alg as Alg]?.privateKey, kid = `${alg}-1`, typ = 'at+jwt', header = {} }: {
  alg?: string, key?: KeyObject | Uint8Array, kid?: string | null, typ?: string | null, header?: object
} = {}) => new SignJWT(payload).setProtectedHeader({ alg, ...kid !== null && { kid }, ...typ !== null && { typ }, ...header }).sign(key)

interface Published {
  url: string
  /** What it answers with: keys, or anything at all. */
  keys: unknown[]
  fetches: number
  cacheControl: string | undefined
  answer: ((request: IncomingMessage, response: ServerResponse) => void) | null
}

/** A server that publishes keys. */
async function publisher (t: Test, ...keys: unknown[]): Promise<Published> {
  const published: Published = { url: '', keys, fetches: 0, cacheControl: undefined, answer: null }
  const server = createServer((request, response) => {
    published.fetches += 1
    if (published.answer !== null) return published.answer(request, response)
    if (published.cacheControl !== undefined) response.setHeader('cache-control', published.cacheControl)
    response.setHeader('content-type', 'application/jwk-set+json').end(JSON.stringify({ keys: published.keys }))
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => new Promise(resolve => {
    server.closeAllConnections()
    server.close(resolve)
  }))
  published.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`
  return published
}

const all = () => Promise.all((Object.keys(pairs) as Alg[]).map(alg => jwkOf(pairs[alg].publicKey, { kid: `${alg}-1`, alg })))
const principal: IssuerOptions['principal'] = ({ sub, roles }) => ({ id: `login:${String(sub)}`, roles: (roles as string[] | undefined) ?? ['user'] })

function taking (t: Test, issuer: Partial<IssuerOptions> & Pick<IssuerOptions, 'jwks'>, more: Parameters<typeof build>[1] = {}): Promise<Built> {
  return build(t, { issuers: [{ issuer: ISSUER, audience: AUDIENCE, principal, ...issuer }], ...more })
}

t.test('an access token of an issuer that is taken is a principal, by the keys that it publishes', async t => {
  const published = await publisher(t, ...await all())
  const { app, ask, users } = await taking(t, { jwks: published.url })
  for (const alg of ['RS256', 'ES256', 'EdDSA']) {
    const { status, body } = await ask(await signed(claims({ auth_time: NOW - 20, amr: ['pwd', 'otp'] }), { alg }))
    t.equal(status, 200, alg)
    t.same(body, { kind: 'user', id: 'login:u-7', userId: 'login:u-7', roles: ['user'], via: 'bearer', authTime: NOW - 20, amr: ['pwd', 'otp'], credentialId: 'j1' })
  }
  t.equal(published.fetches, 1)
  t.match(await ask((await app.tokens.issue(users.ada!)).access_token), { status: 200, body: { id: 'ada' } }, 'our own are taken as before')
  t.match(await ask(await signed(claims({ aud: ['https://other.test', AUDIENCE] }))), { status: 200 }, 'audiences in a list')
  t.match(await ask(await signed(claims({ iat: NOW + 5, nbf: NOW + 5, exp: NOW - 4 }))), { status: 200 }, 'the tolerance')
  t.match(await ask(await signed(claims(), { typ: 'application/at+jwt' })), { status: 200 })
  t.match(await ask(await signed(claims({ jti: undefined }))), { status: 200, body: { credentialId: '', authTime: 0 } })

  t.test('negative control: without the option it is a stranger\'s', async t => {
    const plain = await build(t)
    t.match(await plain.ask(await signed(claims())), refused)
  })
})

t.test('who it is here is for the service to say', async t => {
  const published = await publisher(t, ...await all())
  const answers: Record<string, unknown> = {
    full: { id: 'x', roles: ['admin'], plan: 'pro', scopes: ['posts:read'] },
    nobody: null,
    'no id': { roles: [] },
    'an empty id': { id: '', roles: [] },
    'roles as text': { id: 'x', roles: 'admin' },
    'scopes as text': { id: 'x', roles: [], scopes: 'all' },
    'a promise': Promise.resolve({ id: 'x', roles: [] }),
    undefined,
  }
  let seen: unknown
  const { ask, handled } = await taking(t, {
    jwks: published.url,
    principal (given) {
      seen = given
      return answers[String(given.sub)] as never
    },
  })
  const answered = async (sub: string, url?: string) => ask(await signed(claims({ sub, tenant: 't1' })), url)
  t.match(await answered('full', '/public'), { status: 200, body: { id: 'x', userId: 'x', roles: ['admin'], plan: 'pro', scopes: ['posts:read'], via: 'bearer' } })
  t.match(seen, { sub: 'full', tenant: 't1', iss: ISSUER })
  t.match(await answered('nobody'), refused)
  handled.length = 0
  for (const sub of ['no id', 'an empty id', 'roles as text', 'scopes as text', 'a promise', 'undefined']) t.match(await answered(sub), unchecked, sub)
  t.same(handled, [])
})

t.test('whose a token is, its scopes and its authorization details are part of every decision, whoever has issued it [ASVS 10.3.2]', async t => {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  const owners: Record<string, string> = { own: 'ada', foreign: 'login:u-7', others: 'ben' }
  const known = ['notes:read', 'notes:write']
  await app.register(bastion, {
    access: {
      roles: { user: { permissions: known } },
      resources: { note: { load: (request: FastifyRequest) => owners[(request.params as { id: string }).id], owner: (owner: string) => owner } },
    },
    tokens: {
      issuer: 'https://issuer.test',
      audience: AUDIENCE,
      keys: { access: randomBytes(32), refresh: randomBytes(32) },
      now: () => NOW * 1000,
      issuers: [{
        issuer: ISSUER,
        audience: AUDIENCE,
        jwks: { keys: await all() },
        principal ({ sub, scope = '', authorization_details: details = [] }: Json) {
          const granted = details as { type: string, actions: string[] }[]
          // What is not understood is not granted (RFC 9396, 5).
          if (granted.some(({ type }) => type !== 'notes')) return null
          return { id: `login:${String(sub)}`, roles: ['user'], scopes: [...String(scope).split(' '), ...granted.flatMap(({ actions }) => actions.map(action => `notes:${action}`))] }
        },
      }],
    },
  } as never as BastionOptions)
  let runs = 0
  for (const [method, permission] of [['GET', known[0]], ['PUT', known[1]]] as const) {
    app.route({
      method,
      url: '/notes/:id',
      schema: { response: { 200: closed({}) }, ...method === 'PUT' && { body: noBody } },
      config: { access: { resource: 'note', permissions: permission } as never },
      handler: async () => { runs += 1; return {} },
    })
  }
  const statuses = async (token: string, id: string) =>
    Promise.all((['GET', 'PUT'] as const).map(async method => (await app.inject({ method, url: `/notes/${id}`, headers: { authorization: `Bearer ${token}` } })).statusCode))
  await app.ready()
  const own = async (scopes?: string[]) => (await app.tokens.issue({ id: 'ada', roles: ['user'], ...scopes !== undefined && { scopes } })).access_token
  for (const [what, token, mine, expected] of [
    ['our own, whole', await own(), 'own', [200, 200]],
    ['our own, for reading', await own(['notes:read']), 'own', [200, 403]],
    ['our own, for nothing', await own([]), 'own', [403, 403]],
    ['theirs, for reading', await signed(claims({ scope: 'notes:read' })), 'foreign', [200, 403]],
    ['theirs, for writing by its details', await signed(claims({ authorization_details: [{ type: 'notes', actions: ['write'] }] })), 'foreign', [403, 200]],
    ['theirs, with details that mean nothing here', await signed(claims({ scope: 'notes:read', authorization_details: [{ type: 'payments', actions: ['write'] }] })), 'foreign', [401, 401]],
  ] as const) {
    runs = 0
    t.same(await statuses(token, mine), expected, what)
    const passed = runs
    for (const id of ['own', 'foreign', 'others'].filter(id => id !== mine)) t.ok((await statuses(token, id)).every(status => status >= 401), `${what}: the note of somebody else`)
    t.equal(runs, passed)
  }

  t.test('negative control: behind the official plugin a token for reading writes what is somebody else\'s', async t => {
    const plain = Fastify()
    t.teardown(() => plain.close())
    await plain.register(jwt, { secret: 'a secret that is long enough for this' })
    plain.put('/notes/:id', { onRequest: async request => { await request.jwtVerify() } }, async () => ({}))
    await plain.ready()
    const token = plain.jwt.sign({ sub: 'ada', scope: 'notes:read', authorization_details: [{ type: 'payments', actions: ['write'] }] })
    t.equal((await plain.inject({ method: 'PUT', url: '/notes/others', headers: { authorization: `Bearer ${token}` } })).statusCode, 200)
  })
})

t.test('a principal of another issuer steps up to nothing, and no request changes that of the next one', async t => {
  const published = await publisher(t, ...await all())
  const { ask, app } = await taking(t, { jwks: published.url })
  const token = await signed(claims({ auth_time: NOW + 9999 }))
  t.match(await ask(token, '/step-up'), refused)
  t.match(await ask(token, '/presumptuous'), { body: { refused: 2 } })
  t.equal((await ask(token)).body.authTime, 0, 'a time to come is none')
  t.equal((await ask(await signed(claims({ auth_time: NOW + 3 })))).body.authTime, NOW, 'but for clocks that differ')
  t.equal(await app.tokens.inspect(token), null)
  t.match(await ask(await signed(claims()), '/fresh'), { status: 401, code: 'FST_BASTION_STEP_UP_REQUIRED' }, 'nor was who is not said to have been seen')
})

t.test('where a route asks for a factor or for a recent sign-in, the claims of the issuer decide, and what they do not say was not shown [ASVS 6.8.4]', async t => {
  const { ask, handled } = await taking(t, { jwks: { keys: await all() as never } })
  t.match(await ask(await signed(claims({ amr: ['pwd', 'otp'], auth_time: NOW - 60 })), '/proven'), { status: 200 })
  const weak: Record<string, Json> = {
    'says nothing': {},
    'the password alone': { amr: ['pwd'], auth_time: NOW },
    'no factor is named': { auth_time: NOW },
    'an empty list': { amr: [], auth_time: NOW },
    'no time is named': { amr: ['pwd', 'otp'] },
    'an old sign-in': { amr: ['pwd', 'otp'], auth_time: NOW - 302 },
    'a time to come': { amr: ['pwd', 'otp'], auth_time: NOW + 60 },
    'a name that nobody agreed on': { acr: 'urn:high', auth_time: NOW },
  }
  handled.length = 0
  for (const [name, said] of Object.entries(weak)) {
    const token = await signed(claims(said))
    t.match(await ask(token, '/proven'), { status: 401, code: 'FST_BASTION_STEP_UP_REQUIRED', challenge: /insufficient_user_authentication.*acr_values="otp", max_age="300"/ }, name)
    t.match(await ask(token), { status: 200 }, `${name}: elsewhere it is a sign-in`)
  }
  t.notOk(handled.includes('/proven'), 'no handler ran')

  t.test('negative control: @fastify/jwt with the key of the issuer, as its documentation shows it, asks for no more than a signature', async t => {
    const bare = Fastify()
    t.teardown(() => bare.close())
    await bare.register(jwt, { secret: { public: pemOf(pairs.ES256).public }, verify: { algorithms: ['ES256'], allowedIss: ISSUER, allowedAud: AUDIENCE, clockTimestamp: NOW * 1000 } })
    bare.get('/proven', { onRequest: async request => { await request.jwtVerify() } }, async () => 'in')
    for (const [name, said] of Object.entries(weak)) {
      t.match(await bare.inject({ url: '/proven', headers: { authorization: `Bearer ${await signed(claims(said))}` } }), { statusCode: 200, body: 'in' }, name)
    }
  })
})

t.test('ten thousand kids that nobody knows cause one fetch a cool-down', async t => {
  const published = await publisher(t, ...await all())
  const { ask, clock, handled } = await taking(t, { jwks: published.url })
  const good = await signed(claims())
  t.match(await ask(good), { status: 200 })
  t.equal(published.fetches, 1)
  const [head, body, signature] = good.split('.') as [string, string, string]
  const header = JSON.parse(Buffer.from(head, 'base64url').toString()) as Json
  const flood = async (count: number, from = 0) => {
    const tokens = Array.from({ length: count }, (_, i) => `${Buffer.from(JSON.stringify({ ...header, kid: `k${from + i}` })).toString('base64url')}.${body}.${signature}`)
    let wrong = 0
    for (let i = 0; i < tokens.length; i += 500) {
      const outcomes = await Promise.all(tokens.slice(i, i + 500).map(token => ask(token)))
      wrong += outcomes.filter(({ status, code }) => status !== 401 || code !== 'FST_BASTION_TOKENS_INVALID').length
    }
    return wrong
  }
  handled.length = 0
  t.equal(await flood(5000), 0)
  t.equal(published.fetches, 1, 'within the cool-down of the first fetch: none')
  clock.ms += 30_000
  t.equal(await flood(5000, 5000), 0)
  t.equal(published.fetches, 2, 'after it: one')
  t.same(handled, [])
  t.match(await ask(good), { status: 200 }, 'and who has a good one is not touched by it')
  clock.ms += 30_000
  await Promise.all(Array.from({ length: 200 }, (_, i) => flood(1, i)))
  t.equal(published.fetches, 3, 'two hundred at once: one')

  t.test('negative control: a verifier that fetches for each kid that it does not know', async t => {
    const known = new Set<string>()
    const before = published.fetches
    for (let i = 0; i < 50; i++) if (!known.has(`k${i}`)) await fetch(published.url).then(answer => answer.text())
    t.equal(published.fetches - before, 50)
  })
})

t.test('what does not say that it is for us, of that issuer and good now causes no fetch', async t => {
  const published = await publisher(t, ...await all())
  const { ask } = await taking(t, { jwks: published.url })
  for (const [name, token] of Object.entries({
    'another issuer': await signed(claims({ iss: 'https://other.example' })),
    'another audience': await signed(claims({ aud: 'https://other.test' })),
    expired: await signed(claims({ exp: NOW - 10 })),
    'another algorithm': await signed(claims(), { alg: 'PS256', key: pairs.RS256.privateKey }),
    'no JWS': 'a.b.c',
    'another typ': await signed(claims(), { typ: 'JWT' }),
  })) t.match(await ask(token), refused, name)
  t.equal((await ask('')).status, 401)
  t.equal(published.fetches, 0)
})

t.test('a key that is published later is found, and one that is withdrawn verifies no more', async t => {
  const young = makers.ES256()
  const published = await publisher(t, ...await all())
  const { ask, clock } = await taking(t, { jwks: published.url })
  const old = await signed(claims({ exp: NOW + 9000 }))
  t.match(await ask(old), { status: 200 })
  published.keys.push(await jwkOf(young.publicKey, { kid: 'young' }))
  const next = await signed(claims({ exp: NOW + 9000 }), { key: young.privateKey, kid: 'young' })
  t.match(await ask(next), refused, 'within the cool-down')
  clock.ms += 30_000
  t.match(await ask(next), { status: 200 })
  t.equal(published.fetches, 2)
  published.keys = published.keys.filter(key => (key as Json).kid === 'young')
  clock.ms += 300_000
  t.match(await ask(old), { status: 200 }, 'this one begins the fetch in the background')
  for (let i = 0; published.fetches < 3 && i < 2000; i++) await new Promise(resolve => { setTimeout(resolve, 5) })
  for (let i = 0; (await ask(old)).status === 200 && i < 2000; i++) await new Promise(resolve => { setTimeout(resolve, 5) })
  t.match(await ask(old), refused, 'remembered or not')
  t.match(await ask(next), { status: 200 })
  t.equal(published.fetches, 3)
})

t.test('a set is fresh for as long as it says, within five minutes and a day', async t => {
  for (const [cacheControl, fresh] of [
    [undefined, 300], ['no-store', 300], ['max-age=1', 300], ['public, max-age=3600', 3600], ['max-age=31536000', 86_400], ['s-maxage=7200', 300], ['MAX-AGE="900"', 900], ['max-age=-5', 300],
    [`max-age=${'9'.repeat(400)}`, 86_400],
  ] as [string | undefined, number][]) {
    const published = await publisher(t, ...await all())
    published.cacheControl = cacheControl
    const { ask, clock } = await taking(t, { jwks: published.url })
    const token = await signed(claims({ exp: NOW + 1_000_000 }))
    await ask(token)
    clock.ms += fresh * 1000 - 1
    t.match(await ask(token), { status: 200 })
    t.equal(published.fetches, 1, `${cacheControl}: still fresh`)
    clock.ms += 1
    t.match(await ask(token), { status: 200 })
    for (let i = 0; published.fetches < 2 && i < 2000; i++) await new Promise(resolve => { setTimeout(resolve, 5) })
    t.equal(published.fetches, 2, `${cacheControl}: not fresh any more`)
  }
})

t.test('while the issuer is away its keys go on, for a while; then its tokens get a 503, and never pass', async t => {
  const published = await publisher(t, ...await all())
  const { ask, clock, handled } = await taking(t, { jwks: published.url, staleFor: 600 })
  const token = await signed(claims({ exp: NOW + 1_000_000 }))
  t.match(await ask(token), { status: 200 })
  published.answer = (_request, response) => { response.writeHead(500).end() }
  for (const seconds of [300, 300, 299]) {
    clock.ms += seconds * 1000
    for (let i = 0; i < 5; i++) t.match(await ask(token), { status: 200 })
  }
  clock.ms += 1000
  handled.length = 0
  t.match(await ask(token), unchecked)
  t.match(await ask(token, '/public'), { body: {} })
  const before = published.fetches
  for (let i = 0; i < 50; i++) t.match(await ask(await signed(claims({ jti: `j${i}` }))), { status: 401 }, 'expired by now')
  for (let i = 0; i < 50; i++) t.match(await ask(await signed(claims({ jti: `j${i}`, exp: NOW + 1_000_000 }))), unchecked)
  t.equal(published.fetches, before, 'not asked again for each')
  t.notOk(handled.includes('/'))
  clock.ms += 5000
  t.match(await ask(token), unchecked)
  t.equal(published.fetches, before + 1, 'while nothing is known, every five seconds')
  clock.ms += 5000
  published.answer = null
  t.match(await ask(token), { status: 200 }, 'recovery needs no restart')
})

t.test('kids that nobody knows cause one fetch a cool-down also while the issuer is away', async t => {
  const published = await publisher(t, ...await all())
  const { ask, clock } = await taking(t, { jwks: published.url })
  t.match(await ask(await signed(claims())), { status: 200 })
  published.answer = (_request, response) => { response.writeHead(500).end() }
  for (let seconds = 5; seconds <= 60; seconds += 5) {
    clock.ms += 5000
    for (let i = 0; i < 20; i++) t.match(await ask(await signed(claims(), { kid: `k${seconds}-${i}` })), refused)
    t.equal(published.fetches, 1 + Math.floor(seconds / 30), `after ${seconds} s`)
  }
  clock.ms -= 3_600_000
  published.answer = null
  published.keys.push(await jwkOf(pairs.ES256.publicKey, { kid: 'young' }))
  t.match(await ask(await signed(claims({ iat: NOW - 3600 }), { kid: 'young' })), { status: 200 }, 'a clock that was set back stops no fetch')
})

t.test('a token that is bound to a key is taken with a proof by that key, and never without', async t => {
  const published = await publisher(t, ...await all())
  const client = makers.ES256()
  const jwk = await exportJWK(client.publicKey)
  const bound = await signed(claims({ cnf: { jkt: await calculateJwkThumbprint(jwk) } }))
  const { app, handled } = await taking(t, { jwks: published.url }, { dpop: { origin: 'https://api.test' } })
  let proofs = 0
  const prove = (key: KeyObject, token: string) => new SignJWT({ jti: `p${++proofs}`, htm: 'GET', htu: 'https://api.test/', iat: NOW, ath: createHash('sha256').update(token).digest('base64url') })
    .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk }).sign(key)
  const ask = async (scheme: string, token: string, proof?: string) => {
    const answer = await app.inject({ url: '/', headers: { authorization: `${scheme} ${token}`, ...proof !== undefined && { dpop: proof } } })
    return { status: answer.statusCode, body: answer.json() as Json }
  }
  t.match(await ask('DPoP', bound, await prove(client.privateKey, bound)), { status: 200, body: { id: 'login:u-7', jkt: await calculateJwkThumbprint(jwk) } })
  const once = await prove(client.privateKey, bound)
  t.match(await ask('DPoP', bound, once), { status: 200 })
  handled.length = 0
  t.equal((await ask('DPoP', bound, once)).status, 401, 'a proof twice')
  t.equal((await ask('Bearer', bound)).status, 401)
  t.equal((await ask('Bearer', bound, await prove(client.privateKey, bound))).status, 401)
  t.equal((await ask('DPoP', bound)).status, 401)
  t.equal((await ask('DPoP', bound, await prove(makers.ES256().privateKey, bound))).status, 401, 'a proof by another key')
  const unbound = await signed(claims())
  t.equal((await ask('DPoP', unbound, await prove(client.privateKey, unbound))).status, 401, 'and one that is not bound is no DPoP token')
  const certificate = await signed(claims({ cnf: { jkt: await calculateJwkThumbprint(jwk), 'x5t#S256': 'x' } }))
  t.equal((await ask('DPoP', certificate, await prove(client.privateKey, certificate))).status, 401, 'bound to a certificate as well')
  t.same(handled, [])
  t.match(await ask('Bearer', unbound), { status: 200 }, 'control')
})

t.test('answers that are no key set are none: nothing is known, so 503', async t => {
  const published = await publisher(t, ...await all())
  const target = await publisher(t, ...await all())
  const token = await signed(claims())
  const set = JSON.stringify({ keys: await all() })
  for (const [name, answer] of Object.entries({
    'a redirect': (_request, response) => { response.writeHead(302, { location: target.url }).end() },
    'a permanent redirect': (_request, response) => { response.writeHead(308, { location: target.url }).end() },
    'status 404': (_request, response) => { response.writeHead(404).end(set) },
    'status 203': (_request, response) => { response.writeHead(203).end(set) },
    'no JSON': (_request, response) => { response.end('<html>') },
    'no set': (_request, response) => { response.end('{"keys":{}}') },
    null: (_request, response) => { response.end('null') },
    'no UTF-8': (_request, response) => { response.end(Buffer.concat([Buffer.from([0xff]), Buffer.from(set)])) },
    'too many bytes': (_request, response) => { response.end(JSON.stringify({ keys: JSON.parse(set).keys, pad: 'x'.repeat(131_072) })) },
    'bytes without an end': (_request, response) => {
      const send = () => { while (!response.destroyed && response.write(' '.repeat(65_536))); }
      response.on('drain', send)
      send()
    },
    'too many keys': (_request, response) => { response.end(JSON.stringify({ keys: Array.from({ length: 51 }, () => JSON.parse(set).keys[0]) })) },
    'a connection that is cut': (_request, response) => {
      response.write('{"keys":[')
      setImmediate(() => { response.destroy() })
    },
    silence: () => {},
    'a body that stops': (_request, response) => { response.write('{"keys":[') },
  } as Record<string, Published['answer']>)) {
    published.answer = answer
    const { ask, handled } = await taking(t, { jwks: published.url, timeout: name === 'silence' || name === 'a body that stops' ? 200 : 3000 })
    t.match(await ask(token), unchecked, name)
    t.same(handled, [], name)
  }
  t.equal(target.fetches, 0, 'no redirect was followed')
  published.answer = null
  t.match(await (await taking(t, { jwks: published.url })).ask(token), { status: 200 }, 'control: the same server with a good answer')

  t.test('negative control: fetch as it is follows the redirect', async t => {
    published.answer = (_request, response) => { response.writeHead(302, { location: target.url }).end() }
    t.equal((await fetch(published.url)).status, 200)
    t.equal(target.fetches, 1)
  })
})

t.test('a fetch that never ends, whatever it is told, is given up: others wait no longer, and the next one finds the keys', async t => {
  const published = await publisher(t, ...await all())
  const { ask, clock } = await taking(t, { jwks: published.url, timeout: 100 })
  const real = globalThis.fetch
  t.teardown(() => { globalThis.fetch = real })
  globalThis.fetch = () => new Promise(() => {})
  const token = await signed(claims())
  for (const answer of await Promise.all([ask(token), ask(token)])) t.match(answer, unchecked)
  globalThis.fetch = real
  clock.ms += 5000
  t.match(await ask(token), { status: 200 })
})

t.test('nobody there at all: 503, at once', async t => {
  const { ask } = await taking(t, { jwks: 'http://127.0.0.1:1/jwks.json' })
  t.match(await ask(await signed(claims())), unchecked)
})

t.test('unfit keys of a published set are left out', async t => {
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const three = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 })
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
  const secret = randomBytes(32)
  const spare = makers.ES256()
  const es = pairs.ES256
  for (const [name, jwk, token] of [
    // jose refuses to sign with 1024 bits.
    ['use enc', await jwkOf(es.publicKey, { use: 'enc' }), await signed(claims(), { kid: 'x' })],
    ['key_ops to sign', await jwkOf(es.publicKey, { key_ops: ['sign'] }), await signed(claims(), { kid: 'x' })],
    ['alg of another', await jwkOf(es.publicKey, { alg: 'ES384' }), await signed(claims(), { kid: 'x' })],
    ['a private key', await jwkOf(es.privateKey), await signed(claims(), { kid: 'x' })],
    ['an exponent of 3', await jwkOf(three.publicKey), await signed(claims(), { alg: 'RS256', key: three.privateKey, kid: 'x' })],
    ['P-384 for ES384, which is not accepted', await jwkOf(p384.publicKey), await signed(claims(), { alg: 'ES384', key: p384.privateKey, kid: 'x' })],
    ['a symmetric one', { kty: 'oct', k: secret.toString('base64url') }, await signed(claims(), { alg: 'HS256', key: secret, kid: 'x' })],
    ['a point that is not on the curve', { ...await jwkOf(es.publicKey), x: (await jwkOf(spare.publicKey)).x }, await signed(claims(), { kid: 'x' })],
    ['no JWK', 'x', await signed(claims(), { kid: 'x' })],
    ['null', null, await signed(claims(), { kid: 'x' })],
  ] as [string, object, string][]) {
    const published = await publisher(t, ...await all(), jwk !== null && typeof jwk === 'object' ? { ...jwk, kid: 'x' } : jwk)
    const { ask } = await taking(t, { jwks: published.url })
    t.match(await ask(token), refused, name)
    t.match(await ask(await signed(claims())), { status: 200 }, `${name}: the others are used`)
  }
  const published = await publisher(t, await jwkOf(weak.publicKey, { kid: 'weak' }), await jwkOf(es.publicKey, { kid: 'x' }))
  const { ask } = await taking(t, { jwks: published.url })
  const input = `${Buffer.from('{"alg":"RS256","kid":"weak","typ":"at+jwt"}').toString('base64url')}.${Buffer.from(JSON.stringify(claims())).toString('base64url')}`
  const { sign } = await import('node:crypto')
  t.match(await ask(`${input}.${sign('sha256', Buffer.from(input), weak.privateKey).toString('base64url')}`), refused, 'RSA of 1024 bits')
  t.match(await ask(await signed(claims(), { kid: 'x' })), { status: 200 }, 'control: the same key, fit')
})

t.test('which key is meant must be clear', async t => {
  const other = makers.ES256()
  const published = await publisher(t, await jwkOf(pairs.ES256.publicKey), await jwkOf(pairs.EdDSA.publicKey))
  const { ask } = await taking(t, { jwks: published.url })
  t.match(await ask(await signed(claims(), { kid: null })), { status: 200 }, 'the only one for this algorithm')
  t.match(await ask(await signed(claims(), { kid: 'x' })), refused, 'a name that no key has')
  const two = await publisher(t, await jwkOf(pairs.ES256.publicKey, { kid: 'a' }), await jwkOf(other.publicKey, { kid: 'a' }), await jwkOf(pairs.EdDSA.publicKey, { kid: 'a' }))
  const ambiguous = await taking(t, { jwks: two.url })
  t.match(await ambiguous.ask(await signed(claims(), { kid: null })), refused)
  t.match(await ambiguous.ask(await signed(claims(), { kid: 'a' })), refused, 'a name that two keys have')
  t.match(await ambiguous.ask(await signed(claims(), { alg: 'EdDSA', kid: 'a' })), { status: 200 }, 'but one for this algorithm')
})

t.test('typ by option', async t => {
  const published = await publisher(t, ...await all())
  for (const [option, accepted] of [[undefined, ['at+jwt', 'AT+JWT', 'application/at+jwt']], ['JWT', ['at+jwt', 'JWT', 'jwt', 'application/JWT']], ['any', ['at+jwt', 'JWT', null]]] as const) {
    const { ask } = await taking(t, { jwks: published.url, ...option !== undefined && { typ: option } })
    for (const typ of ['at+jwt', 'AT+JWT', 'application/at+jwt', 'JWT', 'jwt', 'application/JWT', null, 'logout+jwt', 'dpop+jwt', 'rt+jwt', 'id_token', '', 'at+jwt ', 'secevent+jwt']) {
      const isExpected = (accepted as readonly unknown[]).includes(typ) || (option === 'JWT' && ['AT+JWT', 'application/at+jwt'].includes(typ!)) ||
        (option === 'any' && ['AT+JWT', 'application/at+jwt', 'jwt', 'application/JWT'].includes(typ!))
      t.equal((await ask(await signed(claims(), { typ }))).status, isExpected ? 200 : 401, `${option}: ${typ}`)
    }
  }
})

t.test('keys that the service holds itself need no fetch', async t => {
  const { ask } = await taking(t, { jwks: { keys: await all() as never }, algorithms: ['ES256', 'PS256', 'EdDSA', 'RS256'] })
  for (const alg of ['ES256', 'RS256', 'EdDSA']) t.match(await ask(await signed(claims(), { alg })), { status: 200 })
  t.match(await ask(await signed(claims(), { kid: 'nobody' })), refused)
  const ps = await taking(t, { jwks: { keys: [await jwkOf(pairs.RS256.publicKey)] as never }, algorithms: ['PS256', 'PS384', 'PS512', 'RS384', 'RS512'] })
  for (const alg of ['PS256', 'PS384', 'PS512', 'RS384', 'RS512']) t.match(await ps.ask(await signed(claims(), { alg, key: pairs.RS256.privateKey, kid: null })), { status: 200 }, alg)
  t.match(await ps.ask(await signed(claims(), { alg: 'RS256', kid: null })), refused, 'its own algorithms alone')
  for (const [alg, namedCurve] of [['ES384', 'P-384'], ['ES512', 'P-521']] as const) {
    const pair = generateKeyPairSync('ec', { namedCurve })
    const one = await taking(t, { jwks: { keys: [await jwkOf(pair.publicKey)] as never }, algorithms: [alg] })
    t.match(await one.ask(await signed(claims(), { alg, key: pair.privateKey, kid: null })), { status: 200 }, alg)
  }
})

t.test('two issuers, each by its own keys', async t => {
  const mine = await publisher(t, ...await all())
  const other = makers.ES256()
  const theirs = await publisher(t, await jwkOf(other.publicKey, { kid: 'ES256-1' }))
  const { ask } = await build(t, {
    issuers: [
      { issuer: ISSUER, audience: AUDIENCE, jwks: mine.url, principal },
      { issuer: 'https://partner.example', audience: 'urn:partner', jwks: theirs.url, principal: ({ sub }) => ({ id: `partner:${String(sub)}`, roles: [] }) },
    ],
  })
  const partner = claims({ iss: 'https://partner.example', aud: 'urn:partner' })
  t.match(await ask(await signed(partner, { key: other.privateKey })), { status: 200, body: { id: 'partner:u-7', roles: [] } })
  t.match(await ask(await signed(partner)), refused, 'the key of the other issuer under the same kid')
  t.match(await ask(await signed(claims(), { key: other.privateKey })), refused)
  t.match(await ask(await signed(claims({ aud: 'urn:partner' }))), refused, 'the audience of the other one')
})

t.test('one service of ours takes the tokens of another one, whose keys rotate in three steps', async t => {
  const [old, young] = [makers.ES256(), makers.ES256()].map(pemOf)
  const refresh = randomBytes(32)
  for (const isPublishedFirst of [true, false]) {
    const issuing = await build(t, { algorithm: 'ES256', keys: { access: old!, refresh } })
    const published = await publisher(t)
    published.answer = (_request, response) => { response.setHeader('cache-control', 'public, max-age=300').end(JSON.stringify(issuing.app.tokens.jwks())) }
    const resource = await build(t, { issuer: 'https://resource.test', issuers: [{ issuer: 'https://issuer.test', audience: 'https://api.test', jwks: published.url, principal }] })
    const pass = (ms: number) => { for (const { clock } of [issuing, resource]) clock.ms += ms }
    const taken: number[] = []
    const before = await issuing.app.tokens.issue(issuing.users.ada!)
    const use = async (token: string) => { taken.push((await resource.ask(token)).status) }
    await use(before.access_token)
    if (isPublishedFirst) {
      await issuing.app.tokens.rotate({ access: [old!, young!], refresh })
      pass(300_000)
      await use(before.access_token) // begins the fetch
      for (let i = 0; published.fetches < 2 && i < 2000; i++) await new Promise(resolve => { setTimeout(resolve, 5) })
      await new Promise(resolve => { setTimeout(resolve, 20) })
    }
    await issuing.app.tokens.rotate({ access: [young!, old!], refresh })
    const after = await issuing.app.tokens.issue(issuing.users.ada!)
    await use(before.access_token)
    await use(after.access_token)
    if (isPublishedFirst) {
      pass(306_000)
      for (let i = 0; i < 3; i++) await use((await issuing.app.tokens.issue(issuing.users.ada!)).access_token)
      pass(905_000)
      await issuing.app.tokens.rotate({ access: young!, refresh })
      await use((await issuing.app.tokens.issue(issuing.users.ada!)).access_token)
      t.notOk(taken.includes(401), `${taken.length} tokens, none refused`)
    } else t.same(taken, [200, 200, 401], 'negative control: in front at once, its first tokens are a stranger\'s for as long as the cool-down')
  }
})

t.test('a verified token is remembered, bounded, and still judged on each request', async t => {
  const published = await publisher(t, ...await all())
  for (const remembered of [0, 1, 100]) {
    let asked = 0
    const { ask, clock } = await taking(t, {
      jwks: published.url,
      principal (given) {
        asked += 1
        return principal(given)
      },
    }, { remembered })
    const [one, other] = [await signed(claims()), await signed(claims({ sub: 'u-8' }))]
    for (let i = 0; i < 5; i++) {
      t.match(await ask(one), { status: 200, body: { id: 'login:u-7' } })
      t.match(await ask(other), { status: 200, body: { id: 'login:u-8' } }, 'never another one\'s claims')
    }
    t.equal(asked, remembered === 0 ? 10 : 2)
    const [head, , signature] = one.split('.')
    t.match(await ask(`${head}.${other.split('.')[1]}.${signature}`), refused)
    clock.ms += 305_000
    t.match(await ask(one), refused, 'expired')
  }
})

t.test('forged and twisted tokens are refused, each of them [RFC 8725, 3; ASVS 6.8.2, 9.1.1, 9.1.2, 9.1.3]', async t => {
  const published = await publisher(t, ...await all())
  const { ask, handled } = await taking(t, { jwks: published.url, algorithms: ['RS256', 'ES256', 'EdDSA'] })
  const real = await signed(claims())
  const realRsa = await signed(claims(), { alg: 'RS256' })
  const [head, body, signature] = real.split('.') as [string, string, string]
  const base = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
  const { sign } = await import('node:crypto')
  const byHand = (header: unknown, payload: unknown = claims()) => {
    const input = `${base(header)}.${base(payload)}`
    return `${input}.${sign('sha256', Buffer.from(input), { key: pairs.ES256.privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
  }
  const header = { alg: 'ES256', kid: 'ES256-1', typ: 'at+jwt' }
  const pem = pairs.RS256.publicKey.export({ format: 'pem', type: 'spki' }).toString()
  const rsaJwk = JSON.stringify(published.keys[0])
  const hs = (secret: string | Buffer, more: object = {}) => {
    const input = `${base({ alg: 'HS256', kid: 'RS256-1', typ: 'at+jwt', ...more })}.${body}`
    return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`
  }
  // The harness itself can forge what is accepted.
  t.match(await ask(byHand(header)), { status: 200 }, 'control: right key, right header, right claims')

  const attacks: Record<string, string> = {
    'no signature': new UnsecuredJWT(claims()).encode(),
    'a JWE': await new CompactEncrypt(Buffer.from(real)).setProtectedHeader({ alg: 'ECDH-ES', enc: 'A128GCM', typ: 'at+jwt' }).encrypt(pairs.ES256.publicKey),
    'the public key in PEM as secret': hs(pem),
    'the public key in PEM, trimmed': hs(pem.trim()),
    'the public key in DER': hs(pairs.RS256.publicKey.export({ format: 'der', type: 'spki' })),
    'the published JWK as secret': hs(rsaJwk),
    'the modulus as secret': hs(String((published.keys[0] as Json).n)),
    'an empty secret': hs(''),
    'HS256 named, RS256 signed': `${base({ alg: 'HS256', kid: 'RS256-1', typ: 'at+jwt' })}.${realRsa.split('.').slice(1).join('.')}`,
    'RS256 named, ES256 signed': byHand({ ...header, alg: 'RS256' }),
    'ES256 under the key of RS256': byHand({ ...header, kid: 'RS256-1' }),
    'PS256 with the key of RS256': await signed(claims(), { alg: 'PS256', key: pairs.RS256.privateKey, kid: 'RS256-1' }),
    'alg in small letters': byHand({ ...header, alg: 'es256' }),
    'alg in a list': byHand({ ...header, alg: ['ES256'] }),
    'no alg': byHand({ kid: header.kid, typ: header.typ }),
    'a psychic signature': `${head}.${body}.${Buffer.alloc(64).toString('base64url')}`,
    'r of the order': `${head}.${body}.${Buffer.concat([Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex'), Buffer.alloc(32, 1)]).toString('base64url')}`,
    'a DER signature': `${head}.${body}.${sign('sha256', Buffer.from(`${head}.${body}`), pairs.ES256.privateKey).toString('base64url')}`,
    'a longer signature': `${head}.${body}.${Buffer.concat([Buffer.from(signature, 'base64url'), Buffer.alloc(1)]).toString('base64url')}`,
    'a shorter signature': `${head}.${body}.${Buffer.from(signature, 'base64url').subarray(1).toString('base64url')}`,
    'an empty signature': `${head}.${body}.`,
    'two parts': `${head}.${body}`,
    'four parts': `${real}.x`,
    'a key of its own': byHand({ ...header, jwk: (await all())[1] }),
    jku: byHand({ ...header, jku: published.url }),
    x5u: byHand({ ...header, x5u: published.url }),
    x5c: byHand({ ...header, x5c: ['MII='] }),
    'unknown crit': byHand({ ...header, crit: ['exp'], exp: 1 }),
    'an empty crit': byHand({ ...header, crit: [] }),
    'b64 false': byHand({ ...header, b64: false, crit: ['b64'] }),
    zip: byHand({ ...header, zip: 'DEF' }),
    'kid as a number': byHand({ ...header, kid: 1 }),
    'kid null': byHand({ ...header, kid: null }),
    'kid in a list': byHand({ ...header, kid: ['ES256-1'] }),
    'kid as a path': byHand({ ...header, kid: '../../../../dev/null' }),
    'kid as SQL': byHand({ ...header, kid: "' UNION SELECT 'key' --" }),
    'kid as a command': byHand({ ...header, kid: '| cat /etc/passwd' }),
    'kid __proto__': byHand('{"alg":"ES256","typ":"at+jwt","kid":"__proto__"}'),
    'kid constructor': byHand({ ...header, kid: 'constructor' }),
    'kid of another key': byHand({ ...header, kid: 'EdDSA-1' }),
    'a header on the prototype': byHand('{"__proto__":{"alg":"ES256","typ":"at+jwt","kid":"ES256-1"}}'),
    'a header twice, none last': byHand('{"alg":"ES256","typ":"at+jwt","kid":"ES256-1","alg":"none"}'),
    'a header of five kilobytes': byHand({ ...header, pad: 'x'.repeat(3700) }),
    'a header that is no object': byHand('[]'),
    'a header that is no JSON': byHand('{'),
    'no UTF-8': `${Buffer.concat([Buffer.from(JSON.stringify(header).slice(0, -1)), Buffer.from(',"x":"'), Buffer.from([0xff]), Buffer.from('"}')]).toString('base64url')}.${body}.${signature}`,
    'a payload that is no object': byHand(header, '["x"]'),
    'a payload that is no JSON': byHand(header, 'x'),
    'padding after it': `${real}=`,
    'standard base64': `${head}.${body}.${Buffer.from(signature, 'base64url').toString('base64')}`,
    'changed claims': `${head}.${base(claims({ sub: 'admin' }))}.${signature}`,
    'another issuer': await signed(claims({ iss: `${ISSUER}/` })),
    'issuer in a list': await signed(claims({ iss: [ISSUER] })),
    'our own issuer': await signed(claims({ iss: 'https://issuer.test' })),
    'issuer __proto__': await signed(claims({ iss: '__proto__' })),
    'another audience': await signed(claims({ aud: 'https://other.test' })),
    'audiences without ours': await signed(claims({ aud: ['a', 'b'] })),
    'an audience that is no text': await signed(claims({ aud: [AUDIENCE, 1] })),
    'an audience in a list of lists': await signed(claims({ aud: [[AUDIENCE]] })),
    'an ID token': await signed(claims({ aud: 'client-1', nonce: 'n' }), { typ: 'JWT' }),
    'an ID token for our audience': await signed(claims({ nonce: 'n' }), { typ: 'JWT' }),
    'a logout token': await signed(claims(), { typ: 'logout+jwt' }),
    'no typ': await signed(claims(), { typ: null }),
    'typ in a list': byHand({ ...header, typ: ['at+jwt'] }),
    expired: await signed(claims({ exp: NOW - 5 })),
    'not good yet': await signed(claims({ nbf: NOW + 6 })),
    'issued in the future': await signed(claims({ iat: NOW + 6 })),
    'exp as text': byHand(header, claims({ exp: `${NOW + 300}` })),
    'exp as a fraction': byHand(header, claims({ exp: NOW + 300.5 })),
    'exp too large': byHand(header, claims({ exp: 1e300 })),
    'sub empty': byHand(header, claims({ sub: '' })),
    'sub a number': byHand(header, claims({ sub: 7 })),
    'jti a number': byHand(header, claims({ jti: 7 })),
    'amr as text': byHand(header, claims({ amr: 'mfa' })),
    'auth_time as text': byHand(header, claims({ auth_time: 'now' })),
    'bound to a certificate': await signed(claims({ cnf: { 'x5t#S256': 'x' } })),
    'bound to a key, where nobody checks it': await signed(claims({ cnf: { jkt: 'x' } })),
    'cnf null': byHand(header, claims({ cnf: null })),
    'ten kilobytes': await signed(claims({ pad: 'x'.repeat(10_000) })),
  }
  for (const spelling of ['none', 'None', 'NONE', 'nOnE', ' none', 'none ', '']) {
    attacks[`alg ${JSON.stringify(spelling)}, no signature`] = `${base({ ...header, alg: spelling })}.${body}.`
    attacks[`alg ${JSON.stringify(spelling)}, the old one`] = `${base({ ...header, alg: spelling })}.${body}.${signature}`
  }
  for (const name of ['iss', 'aud', 'sub', 'exp', 'iat']) attacks[`without ${name}`] = byHand(header, claims({ [name]: undefined }))
  const last = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  attacks['another writing of the same signature'] = real.slice(0, -1) + last[last.indexOf(real.at(-1)!) ^ 1]
  handled.length = 0
  for (const [name, token] of Object.entries(attacks)) t.match(await ask(token), refused, name)
  t.same(handled, [], 'no handler ran')

  t.test('negative control: a verifier that believes what the token says takes the confused, the unsigned and the self-signed', async t => {
    const { createHmac, createPublicKey, verify } = await import('node:crypto')
    const believe = (token: string): boolean => {
      const [head, body, signature] = token.split('.') as [string, string, string]
      const { alg, jwk } = JSON.parse(Buffer.from(head, 'base64url').toString()) as { alg: string, jwk?: object }
      if (alg.toLowerCase() === 'none') return true
      if (alg === 'HS256') return createHmac('sha256', pem).update(`${head}.${body}`).digest('base64url') === signature
      const key = jwk === undefined ? pairs.ES256.publicKey : createPublicKey({ key: jwk as never, format: 'jwk' })
      return verify('sha256', Buffer.from(`${head}.${body}`), { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url'))
    }
    for (const name of ['alg "none", no signature', 'alg "nOnE", the old one', 'the public key in PEM as secret', 'a key of its own', 'unknown crit', 'b64 false', 'no typ', 'another audience', 'a logout token', 'jku']) {
      t.ok(believe(attacks[name]!), name)
    }
  })
})

t.test('what cannot be taken safely stops boot', async t => {
  const keys = { keys: await all() as never }
  const good = { issuer: ISSUER, audience: AUDIENCE, jwks: 'https://login.example/jwks.json', principal }
  for (const [name, issuers, message] of [
    ['http', [{ ...good, jwks: 'http://login.example/jwks.json' }], /https URL/],
    ['http to a private address', [{ ...good, jwks: 'http://10.0.0.1/jwks.json' }], /https URL/],
    ['a name that only begins like loopback', [{ ...good, jwks: 'http://localhost.attacker.test/jwks.json' }], /https URL/],
    ['another scheme', [{ ...good, jwks: 'file:///etc/passwd' }], /https URL/],
    ['data', [{ ...good, jwks: 'data:application/json,{"keys":[]}' }], /https URL/],
    ['credentials', [{ ...good, jwks: 'https://a:b@login.example/jwks.json' }], /https URL without credentials/],
    ['no URL', [{ ...good, jwks: 'jwks.json' }], /https URL/],
    ['HS256', [{ ...good, algorithms: ['HS256'] }], /algorithms/],
    ['none', [{ ...good, algorithms: ['none'] }], /algorithms/],
    ['no algorithms', [{ ...good, algorithms: [] }], /algorithms/],
    ['no audience', [{ ...good, audience: undefined }], /audience/],
    ['no keys', [{ ...good, jwks: undefined }], /jwks/],
    ['an empty set', [{ ...good, jwks: { keys: [] } }], /jwks/],
    ['a symmetric key', [{ ...good, jwks: { keys: [{ kty: 'oct', k: 'x' }] } }], /not fit/],
    ['a private key', [{ ...good, jwks: { keys: [await jwkOf(pairs.ES256.privateKey)] } }], /not fit/],
    ['RSA of 16384 bits, which costs whoever verifies', [{ ...good, jwks: { keys: [{ kty: 'RSA', e: 'AQAB', n: Buffer.alloc(2048, 0xff).toString('base64url') }] } }], /not fit/],
    ['an exponent of 2049 bits', [{ ...good, jwks: { keys: [{ kty: 'RSA', e: Buffer.alloc(256, 0xff).toString('base64url'), n: Buffer.alloc(256, 0xff).toString('base64url') }] } }], /not fit/],
    ['a key for another algorithm', [{ ...good, jwks: keys, algorithms: ['ES256'] }], /not fit/],
    ['no principal', [{ ...good, principal: undefined }], /principal: must be a function/],
    ['an unknown typ', [{ ...good, typ: 'jose' }], /typ/],
    ['a misspelt option', [{ ...good, algorithm: ['ES256'] }], /algorithm/],
    ['an issuer twice', [good, good], /twice/],
    ['our own issuer', [{ ...good, issuer: 'https://issuer.test' }], /our own/],
    ['no list', good, /must be a list/],
    ['null', [null], /issuer/],
  ] as [string, never, RegExp][]) await t.rejects(build(t, { issuers }), { code: 'FST_BASTION_TOKENS_MISCONFIGURED', message }, name)
  t.ok(await build(t, { issuers: [good] }), 'control')
  t.ok(await build(t, { issuers: [{ ...good, jwks: { keys: [{ kty: 'RSA', e: 'AQAB', n: Buffer.alloc(512, 0xff).toString('base64url') }] } }] }), 'control: RSA of 4096 bits')
  t.ok(await build(t, { issuers: [{ ...good, jwks: 'http://[::1]:3/jwks.json' }] }), 'loopback in development')

  t.test('loopback over http is for development alone', async t => {
    const before = process.env.NODE_ENV
    process.env.NODE_ENV = 'production'
    t.teardown(() => { if (before === undefined) delete process.env.NODE_ENV; else process.env.NODE_ENV = before })
    await t.rejects(build(t, { issuers: [{ ...good, jwks: 'http://localhost:3000/jwks.json' }] }), { code: 'FST_BASTION_TOKENS_MISCONFIGURED' })
  })
})

t.test('closing ends a fetch that is under way', async t => {
  const published = await publisher(t)
  published.answer = () => {}
  const { app, ask } = await taking(t, { jwks: published.url, timeout: 60_000 })
  const asked = signed(claims()).then(token => ask(token))
  while (published.fetches === 0) await new Promise(resolve => { setTimeout(resolve, 5) })
  await app.close()
  t.match(await asked, { status: 503 })
})
