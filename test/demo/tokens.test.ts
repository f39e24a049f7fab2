/** Tokens over the real routes: rotation, reuse, lifetimes, and tokens that somebody else made. */
import { createHmac, createSign, generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import jwt from '@fastify/jwt'
import Fastify from 'fastify'
import t from 'tap'
import { makeKeys } from '../../demo/keys.js'
import { APP_SECRET, build, buildOn, ORIGIN, type PortalUnderTest } from './portal.js'

const portal = await build(t)
const { call, signIn, newcomer, pass, now, token, idOf, sql: database } = portal
const MINUTE = 60_000
const DAY = 86_400_000

const refresh = (refreshToken: string) => call('POST', '/auth/refresh', { body: { refresh_token: refreshToken } })
const me = (bearer: string) => call('GET', '/users/me', { token: bearer })
const isAlive = async (bearer: string) => (await me(bearer)).status === 200
const b64 = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
const partsOf = (jwt: string) => jwt.split('.').slice(0, 2).map(part => JSON.parse(Buffer.from(part, 'base64url').toString())) as [Record<string, unknown>, Record<string, unknown>]
const hs256 = (header: object, payload: object, key: Buffer | string) => {
  const input = `${b64(header)}.${b64(payload)}`
  return `${input}.${createHmac('sha256', key).update(input).digest('base64url')}`
}

t.test('refreshing', async t => {
  await t.test('spends the old token for a new pair, from the body or as bearer', async t => {
    const { access_token: first, refresh_token: one } = await signIn('alice')
    const second = await refresh(one)
    t.equal(second.status, 200)
    t.strictSame(Object.keys(second.body).sort(), ['access_token', 'expires_in', 'refresh_token', 'token_type'])
    t.not(second.body.refresh_token, one)
    t.ok(await isAlive(second.body.access_token))
    t.ok(await isAlive(first), 'the access token before it lives on')
    for (const more of [{}, { body: {} }, { raw: '' }, { raw: 'null' }]) {
      const { refresh_token: next } = await signIn('alice')
      t.equal((await call('POST', '/auth/refresh', { token: next, ...more })).status, 200, JSON.stringify(more))
    }
    const { refresh_token: both } = await signIn('alice')
    t.equal((await call('POST', '/auth/refresh', { token: both, body: { refresh_token: both } })).status, 200, 'or both, where they are the same')
  })

  await t.test('is 400 where body and bearer differ, or none is there, and spends nothing', async t => {
    const [{ refresh_token: one, access_token: bearer }, { refresh_token: two }] = [await signIn('alice'), await signIn('alice')]
    t.equal((await call('POST', '/auth/refresh', { token: two, body: { refresh_token: one } })).status, 400)
    t.equal((await call('POST', '/auth/refresh', { token: bearer, body: { refresh_token: one } })).status, 400)
    for (const more of [{}, { body: {} }, { raw: '' }]) t.equal((await call('POST', '/auth/refresh', more)).status, 400)
    for (const body of [{ refresh_token: 7 }, { refresh_token: null }, { refresh_token: '' }, { refresh_token: [one] }, { refreshToken: one }, { refresh_token: one, scope: 'admin' }]) {
      t.equal((await call('POST', '/auth/refresh', { body })).status, 400, JSON.stringify(body).slice(0, 30))
    }
    t.equal((await refresh(one)).status, 200)
    t.equal((await refresh(two)).status, 200)
  })

  await t.test('a spent token that comes again kills the family and its access tokens, and no other family [ASVS 10.4.5]', async t => {
    const [victim, neighbour] = [await signIn('alice'), await signIn('alice')]
    const { body: second } = await refresh(victim.refresh_token)
    const { body: third } = await refresh(second.refresh_token)
    const reused = await refresh(victim.refresh_token)
    t.equal(reused.status, 401)
    t.equal(reused.body.code, 'FST_BASTION_TOKENS_INVALID')
    for (const bearer of [victim.access_token, second.access_token, third.access_token]) t.notOk(await isAlive(bearer))
    t.equal((await refresh(third.refresh_token)).status, 401, 'the newest one too')
    t.ok(await isAlive(neighbour.access_token))
    t.equal((await refresh(neighbour.refresh_token)).status, 200)
  })

  await t.test('negative control: refresh tokens of @fastify/jwt, as they are documented, are taken again, and whoever stole one goes on', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(jwt, { secret: 'a secret that is long enough for this' })
    app.post('/refresh', async request => app.jwt.sign({ sub: (await request.jwtVerify<{ sub: string }>()).sub, use: 'refresh', jti: randomBytes(8).toString('hex') }))
    await app.ready()
    const spend = async (token: string) => (await app.inject({ method: 'POST', url: '/refresh', headers: { authorization: `Bearer ${token}` } }))
    const one = app.jwt.sign({ sub: 'alice', use: 'refresh' })
    const [owners, thiefs] = [await spend(one), await spend(one)]
    t.not(owners.body, thiefs.body)
    for (const { body } of [owners, thiefs]) t.equal((await spend(body)).statusCode, 200)
  })

  await t.test('of two hundred parallel refreshes of one token exactly one succeeds, and afterwards all is dead [GHSA-392p-2q2v-4372]', async t => {
    const { access_token: first, refresh_token: one } = await signIn('alice')
    const answers = await Promise.all(Array.from({ length: 200 }, () => refresh(one)))
    const won = answers.filter(({ status }) => status === 200)
    t.equal(won.length, 1)
    t.equal(answers.filter(({ status }) => status === 401).length, 199)
    t.notOk(await isAlive(first))
    t.notOk(await isAlive(won[0]!.body.access_token))
    t.equal((await refresh(won[0]!.body.refresh_token)).status, 401)
  })

  await t.test('gives the roles of now', async t => {
    const person = await newcomer()
    await portal.sql.query("update users set role = 'moderator', plan = 'pro' where id = $1", [person.id])
    const { body } = await refresh(person.refresh_token)
    t.match(partsOf(body.access_token)[1], { roles: ['moderator'], plan: 'pro' })
  })

  await t.test('is refused to who is gone or switched off', async t => {
    const [gone, off] = [await newcomer(), await newcomer()]
    await portal.sql.query('delete from users where id = $1', [gone.id])
    await portal.sql.query('update users set is_active = false where id = $1', [off.id])
    t.equal((await refresh(gone.refresh_token)).status, 401)
    t.equal((await refresh(off.refresh_token)).status, 401)
    t.notOk(await isAlive(off.token), 'and the family is dead')
  })
})

t.test('whose a token is hangs on what is never given to anybody else, and not on names, which change hands [ASVS 10.3.3]', async t => {
  const [first, second] = [await newcomer(), await newcomer()]
  const rename = (bearer: string, username: string) => call('PATCH', '/users/me', { token: bearer, body: { username } })
  const [, { iss, sub }] = partsOf(first.token)
  t.strictSame({ iss, sub }, { iss: ORIGIN, sub: first.id })
  t.notMatch(JSON.stringify(partsOf(first.token)), first.username)
  const { body: { id: documentId } } = await call('POST', '/documents', { token: first.token, body: { title: 'Notes', content: 'For nobody else' } })
  t.equal((await rename(first.token, `former_${first.username}`)).status, 200)
  t.equal((await rename(second.token, first.username)).status, 200)
  t.match((await me(first.token)).body, { id: first.id, username: `former_${first.username}` })
  t.match((await me(second.token)).body, { id: second.id, username: first.username })
  t.equal((await call('GET', `/documents/${documentId}`, { token: second.token })).status, 404, 'nor has the new bearer of the name what the old one had')
  t.equal((await call('GET', `/documents/${documentId}`, { token: first.token })).status, 200)

  t.equal((await call('DELETE', '/users/me', { token: first.token })).status, 204)
  const { status, body: third } = await call('POST', '/auth/register', { body: { username: `former_${first.username}`, email: `${first.username}@people.example`, password: 'Newcomer-pass-1' } })
  t.equal(status, 201)
  t.not(third.id, first.id, 'name and address of who is gone come back, the id does not')
  t.equal((await me(first.token)).status, 401)
})

t.test('negative control: behind @fastify/jwt with the name as subject the old token is that of who has the name now', async t => {
  const users = new Map([['ada', { id: 1 }]])
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(jwt, { secret: 'a secret that is long enough for this' })
  app.get('/me', { onRequest: async request => { await request.jwtVerify() } }, async request => users.get((request.user as { sub: string }).sub)!)
  await app.ready()
  const headers = { authorization: `Bearer ${app.jwt.sign({ sub: 'ada' })}` }
  users.set('former_ada', users.get('ada')!).set('ada', { id: 2 })
  t.strictSame((await app.inject({ url: '/me', headers })).json(), { id: 2 })
})

t.test('lifetimes: access fifteen minutes, refresh seven days, a family thirty days at most', async t => {
  const { access_token: bearer, refresh_token: first } = await signIn('alice')
  pass(14 * MINUTE + 50_000)
  t.ok(await isAlive(bearer))
  pass(20_000)
  const late = await me(bearer)
  t.equal(late.status, 401)
  t.match(late.headers['www-authenticate'], /invalid_token/)
  const { refresh_token: unused } = await signIn('alice')
  let current = first
  for (let day = 6; day < 30; day += 6) {
    pass(6 * DAY)
    const { status, body } = await refresh(current)
    t.equal(status, 200, `day ${day}`)
    current = body.refresh_token
    t.ok(await isAlive(body.access_token))
  }
  t.equal((await refresh(unused)).status, 401, 'seven days unused is too long')
  pass(5 * DAY)
  const last = await refresh(current)
  t.equal(last.status, 200, 'day 29')
  const { exp, iat } = partsOf(last.body.refresh_token)[1] as { exp: number, iat: number }
  t.ok(exp - iat <= 86_400, 'which lives no longer than its family')
  pass(2 * DAY)
  t.equal((await refresh(last.body.refresh_token)).status, 401, 'day 31')
})

t.test('attack: tokens of one kind for another', async t => {
  const { access_token: bearer, refresh_token: one } = await signIn('alice')
  t.equal((await me(one)).status, 401, 'refresh as access')
  t.equal((await refresh(bearer)).status, 401, 'access as refresh')
  t.equal((await call('POST', '/auth/refresh', { token: bearer })).status, 401)
  t.equal((await call('POST', '/auth/logout', { token: one })).status, 401)
  t.ok(await isAlive(bearer))
})

t.test('attack: tokens that were changed or made by others', async t => {
  const { access_token: bearer } = await signIn('alice')
  const [header, payload] = partsOf(bearer)
  const [head, body, signature] = bearer.split('.') as [string, string, string]
  const admin = { ...payload, roles: ['admin'], sub: await idOf('admin') }
  const access = makeKeys(APP_SECRET, { JWT_ALGORITHM: 'HS256' }).tokens.access as Buffer
  const { refresh: refreshKey } = makeKeys(APP_SECRET, { JWT_ALGORITHM: 'HS256' }).tokens
  const seconds = Math.floor(now() / 1000)

  t.ok(await isAlive(hs256(header, { ...payload }, access)), 'the forge of this test works: with the right key and the right claims a token is good')
  const forged: Record<string, string> = {
    'alg none': `${b64({ ...header, alg: 'none' })}.${b64(admin)}.`,
    'alg None with a signature': `${b64({ ...header, alg: 'None' })}.${b64(admin)}.${signature}`,
    'no signature': `${head}.${body}.`,
    'no third part': `${head}.${body}`,
    'changed payload': `${head}.${b64(admin)}.${signature}`,
    'another secret': hs256(header, admin, randomBytes(32)),
    'the secret `secret`': hs256(header, admin, 'secret'),
    'an empty secret': hs256(header, admin, ''),
    'the key of refresh tokens': hs256(header, admin, refreshKey as Buffer),
    'another typ': hs256({ ...header, typ: 'JWT' }, payload, access),
    'typ of refresh tokens': hs256({ ...header, typ: 'rt+jwt' }, payload, access),
    'no typ': hs256({ alg: 'HS256' }, payload, access),
    'unknown crit': hs256({ ...header, crit: ['b64'], b64: false }, payload, access),
    'a key in the header': hs256({ ...header, jwk: { kty: 'oct', k: b64('secret') } }, admin, 'secret'),
    'a path as kid': hs256({ ...header, kid: '../../../../dev/null' }, admin, ''),
    'SQL as kid': hs256({ ...header, kid: "x' union select 'secret' --" }, admin, 'secret'),
    jku: hs256({ ...header, jku: 'https://evil.example/jwks.json' }, admin, 'secret'),
    expired: hs256(header, { ...payload, iat: seconds - 2000, exp: seconds - 1000 }, access),
    'from the future': hs256(header, { ...payload, iat: seconds + 1000, exp: seconds + 2000 }, access),
    'no exp': hs256(header, { ...payload, exp: undefined }, access),
    'exp as text': hs256(header, { ...payload, exp: String(payload.exp) }, access),
    'exp without end': hs256(header, payload, access).replace(/\.[^.]+\./, `.${b64(JSON.stringify(payload).replace(/"exp":\d+/, '"exp":1e999'))}.`),
    'another issuer': hs256(header, { ...payload, iss: 'https://evil.example' }, access),
    'another audience': hs256(header, { ...payload, aud: 'https://evil.example' }, access),
    'several audiences': hs256(header, { ...payload, aud: [ORIGIN, 'https://evil.example'] }, access),
    'no subject': hs256(header, { ...payload, sub: undefined }, access),
    'a family that is none': hs256(header, { ...payload, fam: 'AAAA' }, access),
    'roles as text': hs256(header, { ...payload, roles: 'admin' }, access),
    'a space in it': `${head} .${body}.${signature}`,
    'a fourth part': `${bearer}.x`,
    'twice the padding': `${bearer}==`,
    'another text of the same bytes': `${head}.${body}.${otherText(signature)}`,
    'JSON serialisation': JSON.stringify({ protected: head, payload: body, signature }),
  }
  for (const [name, jwt] of Object.entries(forged)) t.equal((await me(jwt)).status, 401, name)
  t.ok(await isAlive(bearer))
})

/** Base64url of 32 bytes has two spare bits in its last letter. */
function otherText (signature: string): string {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const last = letters.indexOf(signature.at(-1)!)
  return signature.slice(0, -1) + letters[last ^ 1]!
}

t.test('the other algorithms', async t => {
  const me = ({ call }: PortalUnderTest, bearer: string) => call('GET', '/users/me', { token: bearer })

  await t.test('EdDSA is derived from the master secret, its public key is in the JWK Set, and signs nothing as an HMAC secret', async t => {
    const portal = await buildOn(t, database, { JWT_ALGORITHM: 'EdDSA' })
    const bearer = await portal.token('alice')
    const [header, payload] = partsOf(bearer)
    t.match(header, { alg: 'EdDSA', typ: 'at+jwt' })
    t.equal((await me(portal, bearer)).status, 200)
    const { body, headers } = await portal.call('GET', '/.well-known/jwks.json')
    t.match(body.keys, [{ kty: 'OKP', crv: 'Ed25519', alg: 'EdDSA', use: 'sig', kid: header.kid }])
    t.notOk('d' in body.keys[0], 'nothing private')
    t.match(headers['cache-control'], 'public')
    const pair = (makeKeys(APP_SECRET, { JWT_ALGORITHM: 'EdDSA' }).tokens.access as unknown as { public: string }[])[0]!
    for (const key of [pair.public, pair.public.trim(), body.keys[0].x, Buffer.from(body.keys[0].x, 'base64url'), JSON.stringify(body.keys[0])]) {
      t.equal((await me(portal, hs256({ ...header, alg: 'HS256' }, { ...payload, roles: ['admin'] }, key))).status, 401, 'HS256 with the public key')
      t.equal((await me(portal, hs256(header, { ...payload, roles: ['admin'] }, key))).status, 401)
    }
  })

  await t.test('RS256 from JWT_KEYS: the first key signs, all verify', async t => {
    const [older, newer] = [1, 2].map(() => generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey) as [KeyObject, KeyObject]
    const signed = (input: string, key: KeyObject) => `${input}.${createSign('sha256').update(input).sign(key, 'base64url')}`
    const path = join(t.testdir({}), 'keys.json')
    const portalWith = async (...keys: KeyObject[]) => {
      writeFileSync(path, JSON.stringify({ keys: keys.map(key => key.export({ format: 'jwk' })) }))
      return buildOn(t, database, { JWT_ALGORITHM: 'RS256', JWT_KEYS: path })
    }
    const before = await portalWith(older)
    const after = await portalWith(newer, older)
    const [olderHeader] = (await before.token('alice')).split('.')
    const bearer = await after.token('alice')
    const [newerHeader, payload] = bearer.split('.') as [string, string]
    t.not(newerHeader, olderHeader, 'they differ in kid')
    t.equal((await me(after, bearer)).status, 200)
    const { body } = await after.call('GET', '/.well-known/jwks.json')
    t.equal(body.keys.length, 2)
    t.notMatch(JSON.stringify(body), /"[dpq]":/, 'nothing private')
    t.equal((await me(after, signed(`${olderHeader}.${payload}`, older))).status, 200, 'the older key still verifies')
    t.equal((await me(after, signed(`${olderHeader}.${payload}`, newer))).status, 401, 'under its own name only')
    t.equal((await me(after, signed(`${newerHeader}.${payload}`, generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey))).status, 401)
  })

  await t.test('what does not fit stops the start', async t => {
    await t.rejects(buildOn(t, database, { JWT_ALGORITHM: 'RS256' }), /JWT_ALGORITHM=RS256 needs JWT_KEYS/)
    await t.rejects(buildOn(t, database, { JWT_ALGORITHM: 'ES256', JWT_KEYS: join(t.testdir({}), 'missing.json') }), /JWT_KEYS: .+ is not a readable JWK Set/)
    const path = join(t.testdir({ 'keys.json': JSON.stringify({ keys: [generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' })] }) }), 'keys.json')
    await t.rejects(buildOn(t, database, { JWT_ALGORITHM: 'RS256', JWT_KEYS: path }), /no private key for RS256/)
  })
})

t.test('HS256 publishes no key', async t => {
  const { status, body } = await call('GET', '/.well-known/jwks.json')
  t.equal(status, 200)
  t.strictSame(body, { keys: [] })
})

t.test('a token whose family is unknown here is dead: lost state means signing in again', async t => {
  const other = await buildOn(t, database)
  t.equal((await other.call('GET', '/users/me', { token: await token('alice') })).status, 401)
})
