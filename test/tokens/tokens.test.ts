/** Tokens: none but ours, each for its purpose, in its time, and dead when it is said to be. */
import { createHash, generateKeyPairSync, randomBytes, sign, verify } from 'node:crypto'
import Fastify from 'fastify'
import jwt from '@fastify/jwt'
import { CompactEncrypt } from 'jose'
import t from 'tap'
import { Remembered } from '../../plugins/remembered.js'
import { TokenInvalid } from '../../plugins/tokens/index.js'
import { build, claimsOf, forge, hmac, invalid, pemOf, readPart, refused, text, type Built, type Json } from './build.js'

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const ed = generateKeyPairSync('ed25519')
const ALGORITHMS = { HS256: randomBytes(32), RS256: pemOf(rsa), ES256: pemOf(ec), EdDSA: pemOf(ed) } as const

/** Keys of somebody else. */
const OTHERS = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
} as const

t.test('a pair: an access token that is a principal, a refresh token that is none', async t => {
  const { app, ask, users } = await build(t)
  const pair = await app.tokens.issue(users.ada!)
  t.match(pair, { token_type: 'Bearer', expires_in: 900 })
  t.match((await ask(pair.access_token)).body, { kind: 'user', id: 'ada', userId: 'ada', roles: ['user'], plan: 'pro', via: 'bearer', authTime: 1_700_000_000 })
  t.match(await ask(pair.refresh_token), refused)
  t.match(claimsOf(pair.access_token), { iss: 'https://issuer.test', aud: 'https://api.test', sub: 'ada', iat: 1_700_000_000, exp: 1_700_000_900 })
  t.match(claimsOf(pair.refresh_token), { iss: 'https://issuer.test', aud: 'https://issuer.test', sub: 'ada', exp: 1_700_604_800 })
  t.notHas(claimsOf(pair.refresh_token), { roles: ['user'] })
  t.equal(Buffer.from(claimsOf(pair.refresh_token).jti as string, 'base64url').length, 16, '128 bits of randomness [ASVS 7.2.3]')
})

t.test('the scheme is read in any case, and what is no token is refused', async t => {
  const { app, users, handled } = await build(t)
  const { access_token: token } = await app.tokens.issue(users.ada!)
  const ask = async (authorization: string) => (await app.inject({ url: '/', headers: { authorization } })).statusCode
  for (const scheme of ['Bearer', 'bearer', 'BEARER']) t.equal(await ask(`${scheme} ${token}`), 200)
  const before = handled.length
  for (const value of [
    'Bearer', 'Bearer ', `Bearer  ${token}`, `Bearer\t${token}`, `Bearer ${token} `.concat('x'), `Bearer ${token},${token}`, `Bearer "${token}"`,
    `Bearer ${token};`, `Basic ${token}`, token, `Bearer ${'x'.repeat(10_000)}`, `Bearer ${token}${'x'.repeat(4096)}`, 'Bearer ..', 'Bearer a.b.c', 'Bearer é',
  ]) t.equal(await ask(value), 401, JSON.stringify(value.slice(0, 40)))
  t.equal(handled.length, before)
})

for (const algorithm of Object.keys(ALGORITHMS) as (keyof typeof ALGORITHMS)[]) {
  t.test(`${algorithm}: signed, verified, and nobody else's [ASVS 9.1.1]`, async t => {
    const refresh = randomBytes(32)
    const { app, ask, users, refresh: spend } = await build(t, { algorithm, keys: { access: ALGORITHMS[algorithm], refresh } })
    const pair = await app.tokens.issue(users.ada!)
    t.match(readPart(pair.access_token, 0), { alg: algorithm, typ: 'at+jwt', kid: /./ })
    t.match(readPart(pair.refresh_token, 0), { alg: 'HS256', typ: 'rt+jwt', kid: /./ })
    t.match(await ask(pair.access_token), { status: 200 })
    t.match(await ask((await spend(pair.refresh_token)).access_token), { status: 200 })
    const [head, body, signature] = pair.access_token.split('.') as [string, string, string]
    const other = text({ ...claimsOf(pair.access_token), roles: ['admin'] })
    t.match(await ask(`${head}.${other}.${signature}`), refused, 'changed claims')
    const flipped = Buffer.from(signature, 'base64url')
    flipped[0]! ^= 1
    t.match(await ask(`${head}.${body}.${flipped.toString('base64url')}`), refused, 'a changed signature')
    t.match(await ask(`${head}.${body}.`), refused, 'no signature')

    const { app: stranger, users: theirs } = await build(t, {
      algorithm,
      keys: { access: algorithm === 'HS256' ? randomBytes(32) : pemOf(OTHERS[algorithm]()), refresh: randomBytes(32) },
    })
    const foreign = await stranger.tokens.issue(theirs.ada!)
    t.match(await ask(foreign.access_token), refused, 'another key')
    const [, theirBody, theirSignature] = foreign.access_token.split('.')
    t.match(await ask(`${head}.${theirBody}.${theirSignature}`), refused, 'another key under our key\'s name')
  })
}

t.test('the public keys are published, with the name that tokens call them by', async t => {
  for (const [algorithm, expected] of Object.entries({ RS256: { kty: 'RSA' }, ES256: { kty: 'EC', crv: 'P-256' }, EdDSA: { kty: 'OKP', crv: 'Ed25519' } })) {
    const { app, users } = await build(t, { algorithm: algorithm as never, keys: { access: ALGORITHMS[algorithm as 'RS256'], refresh: randomBytes(32) } })
    const { keys } = app.tokens.jwks()
    const { access_token: token } = await app.tokens.issue(users.ada!)
    t.match(keys, [{ ...expected, alg: algorithm, use: 'sig', kid: readPart(token, 0).kid }])
    for (const secret of ['d', 'p', 'q', 'k']) t.notOk(secret in keys[0]!)
    const { createPublicKey } = await import('node:crypto')
    const [head, body, signature] = token.split('.') as [string, string, string]
    const key = createPublicKey({ key: keys[0] as never, format: 'jwk' })
    t.ok(verify(algorithm === 'EdDSA' ? null : 'sha256', Buffer.from(`${head}.${body}`), algorithm === 'ES256' ? { key, dsaEncoding: 'ieee-p1363' } : key, Buffer.from(signature, 'base64url')), 'others verify with it')
    app.tokens.jwks().keys.pop()
    t.equal(app.tokens.jwks().keys.length, 1)
  }
  const { app } = await build(t)
  t.same(app.tokens.jwks(), { keys: [] })
  const { app: known } = await build(t, { algorithm: 'EdDSA', keys: { access: pemOf(ed), refresh: randomBytes(32) } })
  const { crv, kty, x } = ed.publicKey.export({ format: 'jwk' })
  t.equal(known.tokens.jwks().keys[0]!.kid, createHash('sha256').update(`{"crv":"${crv}","kty":"${kty}","x":"${x}"}`).digest('base64url'), 'RFC 7638')
})

t.test('a key ring: the first signs, all verify, what was taken away does not', async t => {
  const [old, young] = [randomBytes(32), randomBytes(32)]
  const [oldRefresh, youngRefresh] = [randomBytes(32), randomBytes(32)]
  const before = await build(t, { keys: { access: old, refresh: oldRefresh } })
  const pair = await before.app.tokens.issue(before.users.ada!)
  const during = await build(t, { keys: { access: [young, old], refresh: [youngRefresh, oldRefresh] } })
  // One shared state, as two processes would have it.
  const family = claimsOf(pair.access_token).fam as string
  during.app.state.set(`tokens:family:${family}`, await before.app.state.get(`tokens:family:${family}`) as string, 1e6)
  t.match(await during.ask(pair.access_token), { status: 200 })
  const next = await during.refresh(pair.refresh_token)
  t.not(readPart(next.access_token, 0).kid, readPart(pair.access_token, 0).kid)
  t.match(await during.ask(next.access_token), { status: 200 })
  const after = await build(t, { keys: { access: [young], refresh: youngRefresh } })
  after.app.state.set(`tokens:family:${family}`, await during.app.state.get(`tokens:family:${family}`) as string, 1e6)
  t.match(await after.ask(next.access_token), { status: 200 })
  t.match(await after.ask(pair.access_token), refused)
  await t.rejects(after.refresh(pair.refresh_token), invalid)

  const ring = await build(t, { algorithm: 'ES256', keys: { access: [pemOf(generateKeyPairSync('ec', { namedCurve: 'P-256' })), pemOf(ec)], refresh: randomBytes(32) } })
  t.equal(ring.app.tokens.jwks().keys.length, 2)
})

t.test('of two services with the same keys neither takes what was issued for the other: each token says for whom it is [ASVS 9.2.4]', async t => {
  const keys = { access: randomBytes(32), refresh: randomBytes(32) }
  const [one, other, twin] = await Promise.all(['https://one.test', 'https://other.test', 'https://one.test'].map(audience => build(t, { keys, audience }))) as [Built, Built, Built]
  const pair = await one.app.tokens.issue(one.users.ada!)
  const next = await one.refresh(pair.refresh_token)
  const { body: { access_token: stepped } } = await one.ask(next.access_token, '/step-up')
  // One shared state, as they would have it.
  const family = `tokens:family:${claimsOf(pair.access_token).fam as string}`
  for (const { app } of [other, twin]) await app.state.set(family, await one.app.state.get(family) as string, 1e6)
  for (const token of [pair.access_token, stepped as string]) {
    t.equal(claimsOf(token).aud, 'https://one.test')
    t.match(await one.ask(token), { status: 200 })
    t.match(await other.ask(token), refused)
    t.match(await twin.ask(token), { status: 200 }, 'where all but the audience is the same, nothing else keeps it out')
  }

  t.test('negative control: with the official plugin and one secret a token for one is good at the other', async t => {
    const services = await Promise.all([1, 2].map(async () => {
      const app = Fastify()
      t.teardown(() => app.close())
      await app.register(jwt, { secret: 'a secret that is long enough for this' })
      app.get('/', { onRequest: async request => { await request.jwtVerify() } }, async () => 'in')
      return app.ready().then(() => app)
    }))
    const token = services[0]!.jwt.sign({ sub: 'ada' })
    t.equal((await services[1]!.inject({ url: '/', headers: { authorization: `Bearer ${token}` } })).statusCode, 200)
  })
})

t.test('refresh hands out a new pair, with what the user is now', async t => {
  const { app, ask, clock, refresh, users } = await build(t)
  const first = await app.tokens.issue(users.ada!)
  clock.ms += 60_000
  users.ada = { id: 'ada', roles: ['user', 'admin'] }
  t.match(await ask(first.access_token, '/admin'), { status: 403 })
  const second = await refresh(first.refresh_token)
  t.match(await ask(second.access_token, '/admin'), { status: 200, body: { roles: ['user', 'admin'], authTime: 1_700_000_000 } })
  t.notHas((await ask(second.access_token)).body, { plan: 'pro' })
  t.match(await ask(first.access_token), { status: 200 }, 'the older access token lives on, to its end')
  users.ada = { id: 'ada', roles: ['user'] }
  t.match(await ask((await refresh(second.refresh_token)).access_token, '/admin'), { status: 403 }, 'a role that was taken away is gone')
})

t.test('who is gone or inactive gets nothing, and the family is dead [ASVS 7.4.2]', async t => {
  const { app, ask, refresh, users } = await build(t)
  const pair = await app.tokens.issue(users.ada!)
  users.ada = null
  await t.rejects(refresh(pair.refresh_token), invalid)
  t.match(await ask(pair.access_token), refused)
  users.ada = { id: 'ada', roles: [] }
  await t.rejects(refresh(pair.refresh_token), invalid, 'and stays so')
  await t.rejects(app.tokens.issue(users.ben!, async () => null), invalid)
})

t.test('a loader that fails spends nothing', async t => {
  const { app, refresh, users } = await build(t)
  const pair = await app.tokens.issue(users.ada!)
  await t.rejects(app.tokens.refresh(pair.refresh_token, async () => { throw new Error('the database is away') }), { message: 'the database is away' })
  t.ok(await refresh(pair.refresh_token))
})

t.test('a refresh token that is used twice kills its family, access tokens too [ASVS 7.4.1]', async t => {
  const { app, ask, refresh, users, recorded } = await build(t)
  const first = await app.tokens.issue(users.ada!)
  const bystander = await app.tokens.issue(users.ada!)
  const second = await refresh(first.refresh_token)
  const third = await refresh(second.refresh_token)
  for (const { access_token: token } of [first, second, third]) t.match(await ask(token), { status: 200 })
  await t.rejects(refresh(first.refresh_token), invalid)
  t.match(recorded.filter(({ type }) => type === 'token_reused'), [{ details: { user: 'ada', family: claimsOf(first.access_token).fam } }])
  for (const { access_token: token } of [first, second, third]) t.match(await ask(token), refused)
  for (const { refresh_token: token } of [second, third]) await t.rejects(refresh(token), invalid)
  t.match(await ask(bystander.access_token), { status: 200 }, 'other devices stay signed in')
  t.ok(await refresh(bystander.refresh_token))
})

t.test('two hundred parallel refreshes of one token: exactly one pair, then the family is dead [GHSA-392p-2q2v-4372]', async t => {
  for (const isSlow of [false, true]) {
    const { app, ask, users, recorded } = await build(t)
    const pair = await app.tokens.issue(users.ada!)
    const load = async (id: string) => {
      if (isSlow) await new Promise(resolve => { setTimeout(resolve, Math.random() * 20) })
      return users[id] ?? null
    }
    const outcomes = await Promise.allSettled(Array.from({ length: 200 }, () => app.tokens.refresh(pair.refresh_token, load)))
    const winners = outcomes.filter(outcome => outcome.status === 'fulfilled')
    t.equal(winners.length, 1)
    for (const outcome of outcomes) if (outcome.status === 'rejected') t.match(outcome.reason, invalid) || t.bailout()
    t.match(await ask(winners[0]!.value.access_token), refused, 'nobody can tell the thief from the owner')
    t.match(await ask(pair.access_token), refused)
    t.ok(recorded.some(({ type }) => type === 'token_reused'))
  }

  t.test('negative control: look up, then store, as one writes it by hand', async t => {
    const spent = new Set<string>()
    const refresh = async (token: string) => {
      if (spent.has(token)) throw new Error('spent')
      await new Promise(resolve => { setImmediate(resolve) }) // the database
      spent.add(token)
      return 'a new pair'
    }
    const outcomes = await Promise.allSettled(Array.from({ length: 200 }, () => refresh('token')))
    t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 200)
  })
})

t.test('ending a family ends all of it, and nothing else [ASVS 7.4.1]', async t => {
  const { app, ask, refresh, users, handled } = await build(t)
  const mine = await app.tokens.issue(users.ada!)
  const next = await refresh(mine.refresh_token)
  const other = await app.tokens.issue(users.ada!)
  t.match(await ask(next.access_token), { status: 200 })
  await app.tokens.revokeFamily(claimsOf(mine.access_token).fam as string)
  handled.length = 0
  for (const { access_token: token } of [mine, next]) t.match(await ask(token), refused)
  t.match(await ask(next.access_token, '/public'), { status: 200, body: {} }, 'nobody, on a public route')
  t.same(handled, ['/public'])
  await t.rejects(refresh(next.refresh_token), invalid)
  t.match(await ask(other.access_token), { status: 200 })

  t.test('negative control: with the official plugin a token outlives its logout [TRAP 13]', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(jwt, { secret: 'a secret that is long enough for this' })
    app.get('/', { onRequest: async request => { await request.jwtVerify() } }, async () => 'in')
    const token = app.jwt.sign({ sub: 'ada' })
    t.equal(claimsOf(token).exp, undefined, 'and has no end')
    t.equal((await app.inject({ url: '/', headers: { authorization: `Bearer ${token}` } })).statusCode, 200)
  })
})

t.test('ending all of a user\'s tokens tells before from after within one millisecond [TRAP 30]', async t => {
  const { app, ask, clock, refresh, users } = await build(t)
  const before = await app.tokens.issue(users.ada!)
  const ben = await app.tokens.issue(users.ben!)
  await app.tokens.revokeUser('ada')
  const after = await app.tokens.issue(users.ada!)
  t.match(await ask(before.access_token), refused)
  await t.rejects(refresh(before.refresh_token), invalid)
  t.match(await ask(after.access_token), { status: 200 })
  await app.tokens.revokeUser('ada')
  t.match(await ask(after.access_token), refused, 'once more, still the same millisecond')
  const later = await app.tokens.issue(users.ada!)
  t.match(await ask(later.access_token), { status: 200 })
  t.match(await ask((await refresh(later.refresh_token)).access_token), { status: 200 })
  t.match(await ask(ben.access_token), { status: 200 })
  clock.ms -= 3_600_000
  const early = await app.tokens.issue(users.ben!)
  t.match(await ask(early.access_token), { status: 200 })
  await app.tokens.revokeUser('ben')
  t.match(await ask(early.access_token), refused, 'a clock that was set back changes nothing')

  t.test('negative control: "not before", by iat in seconds', async t => {
    const issued = (ms: number) => ({ iat: Math.floor(ms / 1000) })
    const notBefore = Math.floor(1_700_000_000_500 / 1000)
    t.ok(issued(1_700_000_000_100).iat >= notBefore, 'what was issued before lives on')
  })
})

t.test('what is refreshed while the user\'s tokens are ended is dead too', async t => {
  const { app, ask, users } = await build(t)
  const pair = await app.tokens.issue(users.ada!)
  const next = await app.tokens.refresh(pair.refresh_token, async id => {
    await app.tokens.revokeUser('ada')
    return users[id] ?? null
  })
  t.match(await ask(next.access_token), refused)
  const signedIn = await app.tokens.issue(users.ada!, async id => {
    await app.tokens.revokeUser('ada')
    return users[id] ?? null
  })
  t.match(await ask(signedIn.access_token), refused)
})

t.test('the family that asks may stay when all others are ended, refreshed meanwhile or not [ASVS 7.4.3]', async t => {
  const { app, ask, refresh, users, recorded } = await build(t)
  const mine = await app.tokens.issue(users.ada!)
  const others = await Promise.all([app.tokens.issue(users.ada!), app.tokens.issue(users.ada!)])
  const family = claimsOf(mine.access_token).fam as string
  await app.tokens.revokeUser('ada', { except: family })
  t.match(await ask(mine.access_token), { status: 200 })
  for (const { access_token: token, refresh_token: refreshToken } of others) {
    t.match(await ask(token), refused)
    await t.rejects(refresh(refreshToken), invalid)
  }
  const next = await app.tokens.refresh(mine.refresh_token, async id => {
    await app.tokens.revokeUser('ada', { except: family })
    return users[id] ?? null
  })
  t.match(await ask(next.access_token), { status: 200 }, 'a refresh in between is no reuse')
  t.notOk(recorded.some(({ type }) => type === 'token_reused'))
  t.ok(await refresh(next.refresh_token))
  await app.tokens.revokeUser('ada', { except: 'a family that is not there' })
  t.match(await ask(next.access_token), refused)
})

t.test('a family lives to its last day, however often it is refreshed [ASVS 7.3.2] [ASVS 10.4.8]', async t => {
  const { app, ask, clock, refresh, users } = await build(t, { refreshTtl: 100, familyTtl: 250, accessTtl: 60 })
  let pair = await app.tokens.issue(users.ada!)
  for (const expected of [60, 60, 70 - 20]) {
    clock.ms += expected === 50 ? 40_000 : 80_000
    pair = await refresh(pair.refresh_token)
    t.equal(pair.expires_in, expected, 'the client is told the truth')
  }
  t.equal(claimsOf(pair.access_token).exp, 1_700_000_250)
  t.equal(claimsOf(pair.refresh_token).exp, 1_700_000_250)
  clock.ms += 49_000
  t.match(await ask(pair.access_token), { status: 200 })
  clock.ms += 6500
  t.match(await ask(pair.access_token), refused)
  await t.rejects(refresh(pair.refresh_token), invalid)
})

t.test('negative control: refresh tokens of the official plugin, each good for seven days, slide on for years', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(jwt, { secret: 'a secret that is long enough for this', sign: { expiresIn: '7d' } })
  app.post('/refresh', async request => app.jwt.sign({ sub: (await request.jwtVerify<{ sub: string }>()).sub }))
  const { now } = Date
  let ms = now()
  Date.now = () => ms
  t.teardown(() => { Date.now = now })
  const refresh = (token: string) => app.inject({ method: 'POST', url: '/refresh', headers: { authorization: `Bearer ${token}` } })
  let token = app.jwt.sign({ sub: 'ada' })
  for (let days = 0; days < 730; days += 6) {
    ms += 6 * 86_400_000
    token = (await refresh(token)).body
  }
  t.equal((await refresh(token)).statusCode, 200)
  ms += 8 * 86_400_000
  t.equal((await refresh(token)).statusCode, 401, 'but for one that nobody used')
})

t.test('an access token is good to its end and the tolerance, a refresh token to its own [ASVS 7.3.1, 9.2.1]', async t => {
  const { app, ask, clock, keys, refresh, users } = await build(t, { clockTolerance: 5, accessTtl: 900, refreshTtl: 1000 })
  const pair = await app.tokens.issue(users.ada!)
  const later = forge(pair.access_token, { ...claimsOf(pair.access_token), nbf: 1_700_000_010 }, keys.access)
  t.match(await ask(later), refused, 'nor before its time')
  clock.ms = 1_700_000_004_999
  t.match(await ask(later), refused)
  clock.ms = 1_700_000_005_000
  t.match(await ask(later), { status: 200 })
  clock.ms = 1_700_000_904_999
  t.match(await ask(pair.access_token), { status: 200 })
  clock.ms = 1_700_000_905_000
  t.match(await ask(pair.access_token), refused)
  clock.ms = 1_700_001_000_600
  await t.rejects(refresh(pair.refresh_token), invalid)
  const strict = await build(t, { clockTolerance: 0 })
  const { access_token: token } = await strict.app.tokens.issue(strict.users.ada!)
  strict.clock.ms = 1_700_000_900_000
  t.match(await strict.ask(token), refused)
})

t.test('negative control: the official plugin, where it is told not to look at the times, takes what is over and what is not yet', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(jwt, { secret: 'a secret that is long enough for this', verify: { ignoreExpiration: true, ignoreNotBefore: true } })
  app.get('/', { onRequest: async request => { await request.jwtVerify() } }, async () => 'in')
  for (const claims of [{ exp: 1_700_000_000 }, { nbf: 9_999_999_999 }]) {
    t.equal((await app.inject({ url: '/', headers: { authorization: `Bearer ${app.jwt.sign({ sub: 'ada', ...claims })}` } })).statusCode, 200, JSON.stringify(claims))
  }
})

t.test('a token is remembered, and still judged on each request [GHSA-rp9m-7r4c-75qg]', async t => {
  for (const remembered of [0, 1, 10_000]) {
    const { app, ask, clock, users } = await build(t, { remembered })
    const [ada, ben] = [await app.tokens.issue(users.ada!), await app.tokens.issue(users.ben!)]
    for (let i = 0; i < 6; i++) {
      t.match(await ask(ada.access_token), { status: 200, body: { id: 'ada' } })
      t.match(await ask(ben.access_token), { status: 200, body: { id: 'ben' } }, 'never another token\'s claims')
    }
    // The same signature under other claims, the same claims under another signature.
    const [head, , signature] = ada.access_token.split('.')
    t.match(await ask(`${head}.${ben.access_token.split('.')[1]}.${signature}`), refused)
    t.match(await ask(`${ada.access_token.slice(0, -1)}${ada.access_token.endsWith('A') ? 'E' : 'A'}`), refused)
    await app.tokens.revokeFamily(claimsOf(ben.access_token).fam as string)
    t.match(await ask(ben.access_token), refused)
    clock.ms += 906_000
    t.match(await ask(ada.access_token), refused)
    t.match(await ask(ada.access_token), refused)
  }
})

t.test('what is remembered is bounded', async t => {
  const remembered = new Remembered<number>(100)
  let held = 0
  for (let i = 0; i < 10_000; i++) {
    remembered.set(`token ${i}`, i)
    remembered.get('token 0')
  }
  for (let i = 0; i < 10_000; i++) if (remembered.get(`token ${i}`) === i) held += 1
  t.ok(held <= 200, `${held} of ten thousand`)
  t.equal(remembered.get('token 0'), 0, 'what is asked for stays')
  remembered.delete('token 0')
  t.equal(remembered.get('token 0'), undefined)
})

t.test('no request can change the principal of the next one', async t => {
  const { app, ask, users } = await build(t)
  const { access_token: token } = await app.tokens.issue(users.ada!)
  for (let i = 0; i < 2; i++) t.match(await ask(token, '/presumptuous'), { status: 200, body: { refused: 2 } })
  t.match(await ask(token), { body: { id: 'ada', roles: ['user'] } })
  t.match(await ask(token, '/admin'), { status: 403 })
})

t.test('lost state ends tokens, it never revives them', async t => {
  const { app, ask, refresh, users, keys } = await build(t)
  const revoked = await app.tokens.issue(users.ada!)
  const good = await app.tokens.issue(users.ada!)
  await app.tokens.revokeFamily(claimsOf(revoked.access_token).fam as string)
  const restarted = await build(t, { keys })
  for (const pair of [revoked, good]) {
    t.match(await restarted.ask(pair.access_token), refused)
    await t.rejects(restarted.refresh(pair.refresh_token), invalid)
  }
  t.match(await ask(good.access_token), { status: 200 })
  t.ok(await refresh(good.refresh_token))

  t.test('so does a family that had to be forgotten', async t => {
    const { app, ask, users } = await build(t, {}, { maxEntries: 100 })
    const first = await app.tokens.issue(users.ada!)
    for (let i = 0; i < 50; i++) await app.tokens.issue(users.ben!)
    t.match(await ask(first.access_token), refused)
  })

  t.test('negative control: a denylist that is lost lets everybody in again', async t => {
    const denied = new Set(['revoked'])
    t.ok(denied.has('revoked'))
    t.notOk(new Set().has('revoked'), 'after a restart the revoked token is good')
  })
})

t.test('step-up: a new token with a new auth_time, the presented one is dead [ASVS 7.2.4, 7.5.3]', async t => {
  const { app, ask, clock, refresh, users } = await build(t)
  const pair = await app.tokens.issue(users.ada!)
  t.match(await ask(pair.access_token, '/fresh'), { status: 200 }, 'a fresh sign-in counts')
  clock.ms += 400_000
  t.match(await ask(pair.access_token, '/fresh'), { status: 401, code: 'FST_BASTION_STEP_UP_REQUIRED' })
  users.ada = { id: 'ada', roles: ['user', 'admin'] }
  const { status, body } = await ask(pair.access_token, '/step-up')
  t.equal(status, 200)
  t.match(body, { token_type: 'Bearer', expires_in: 900 })
  const stepped = body.access_token as string
  t.match(claimsOf(stepped), { auth_time: 1_700_000_400, fam: claimsOf(pair.access_token).fam, fam_exp: claimsOf(pair.access_token).fam_exp, roles: ['user', 'admin'] })
  t.match(await ask(stepped, '/fresh'), { status: 200 })
  t.match(await ask(pair.access_token), refused, 'the old one is dead')
  t.match(await ask(pair.access_token, '/step-up'), refused)
  const next = await refresh(pair.refresh_token)
  t.match(await ask(next.access_token, '/fresh'), { status: 401, code: 'FST_BASTION_STEP_UP_REQUIRED' }, 'a refresh proves nobody')
  await app.tokens.revokeFamily(claimsOf(stepped).fam as string)
  t.match(await ask(stepped), refused)
})

t.test('what was shown goes with the tokens: a refresh keeps it, a step-up may say it anew [RFC 8176; RFC 9068, 2.2.1]', async t => {
  const { app, ask, keys, refresh, users } = await build(t)
  const pair = await app.tokens.issue({ ...users.ada!, amr: ['pwd'] }, async () => ({ ...users.ada!, amr: ['otp'] }))
  t.match(claimsOf(pair.access_token), { amr: ['pwd'] }, 'what the one who signed in has shown, not what the loader says')
  t.match((await ask(pair.access_token)).body, { amr: ['pwd'] })
  t.same((await app.tokens.inspect(pair.refresh_token))!.amr, ['pwd'])
  users.ada = { ...users.ada!, amr: ['pop'] }
  const next = await refresh(pair.refresh_token)
  t.match((await ask(next.access_token)).body, { amr: ['pwd'] })
  const asIs = await ask(next.access_token, '/step-up-as-is')
  t.notOk('amr' in claimsOf(asIs.body.access_token as string), 'what was shown before was not shown now')
  const stepped = await ask(asIs.body.access_token as string, '/step-up?amr=pwd,otp,mfa')
  t.same(claimsOf(stepped.body.access_token as string).amr, ['pwd', 'otp', 'mfa'])
  t.match((await ask((await refresh(next.refresh_token)).access_token)).body, { amr: ['pwd'] }, 'of that token alone')

  const silent = await app.tokens.issue(users.ben!)
  t.notOk('amr' in claimsOf(silent.access_token) || 'amr' in claimsOf(silent.refresh_token) || 'amr' in (await ask(silent.access_token)).body)
  for (const amr of ['mfa', { 0: 'mfa' }, [1], [['mfa']], null, true]) t.match(await ask(forge(pair.access_token, { ...claimsOf(pair.access_token), amr }, keys.access)), refused, JSON.stringify(amr))
  t.match(await ask(forge(pair.access_token, { ...claimsOf(pair.access_token), amr: [] }, keys.access)), { status: 200 }, 'control: a list of none')
})

t.test('step-up without looking the user up prolongs nothing', async t => {
  const { app, ask, clock, users } = await build(t)
  const pair = await app.tokens.issue(users.ada!)
  clock.ms += 800_000
  const { body } = await ask(pair.access_token, '/step-up-as-is')
  t.equal(body.expires_in, 100)
  t.equal(claimsOf(body.access_token as string).exp, claimsOf(pair.access_token).exp)
})

t.test('fifty parallel step-ups with one token: exactly one', async t => {
  const { app, ask, users } = await build(t)
  const pair = await app.tokens.issue(users.ada!)
  const answers = await Promise.all(Array.from({ length: 50 }, () => ask(pair.access_token, '/step-up')))
  t.equal(answers.filter(({ status }) => status === 200).length, 1)
})

t.test('step-up does not bring back what was ended meanwhile', async t => {
  for (const end of ['revokeFamily', 'revokeUser', 'gone'] as const) {
    const { app, ask, users } = await build(t)
    const pair = await app.tokens.issue(users.ada!)
    const family = claimsOf(pair.access_token).fam as string
    const ada = users.ada!
    Object.defineProperty(users, 'ada', {
      get () {
        if (end === 'gone') return null
        if (end === 'revokeFamily') app.tokens.revokeFamily(family)
        else app.tokens.revokeUser('ada')
        return ada
      },
    })
    const { status, body } = await ask(pair.access_token, '/step-up')
    t.equal(status, end === 'gone' ? 401 : 200)
    if (status === 200) t.match(await ask(body.access_token as string), refused)
    t.match(await ask(pair.access_token), refused)
  }
})

t.test('what was ended while the password was checked steps up to nothing', async t => {
  for (const how of ['family', 'user', 'token']) {
    const { app, ask, users } = await build(t)
    const pair = await app.tokens.issue(users.ada!)
    t.match(await ask(pair.access_token, `/ended-meanwhile/${how}`), refused, how)
    t.match(await ask(pair.access_token, '/ended-meanwhile/nothing'), refused)
  }
  const { app, ask, users } = await build(t)
  t.match(await ask((await app.tokens.issue(users.ada!)).access_token, '/ended-meanwhile/nothing'), { status: 200 })
})

t.test('a principal that somebody made up, or copied, steps up to nothing', async t => {
  const { app, ask, users } = await build(t)
  const pair = await app.tokens.issue(users.ada!)
  const copied = (await ask(pair.access_token)).body
  await t.rejects(app.tokens.stepUp(copied as never), invalid)
})

t.test('inspect tells what a token says, while it is good', async t => {
  const { app, clock, refresh, users } = await build(t)
  const pair = await app.tokens.issue(users.ada!)
  const { fam, jti } = claimsOf(pair.access_token)
  t.match(await app.tokens.inspect(pair.access_token), { kind: 'access', userId: 'ada', familyId: fam, id: jti, issuedAt: 1_700_000_000, expiresAt: 1_700_000_900, roles: ['user'] })
  t.match(await app.tokens.inspect(pair.refresh_token), { kind: 'refresh', userId: 'ada', familyId: fam, roles: undefined })
  for (const other of ['', 'x', 'a.b.c', `${pair.access_token}x`, '..']) t.equal(await app.tokens.inspect(other), null)
  const next = await refresh(pair.refresh_token)
  t.equal(await app.tokens.inspect(pair.refresh_token), null, 'spent')
  t.ok(await app.tokens.inspect(next.refresh_token))
  clock.ms += 1_000_000
  t.equal(await app.tokens.inspect(pair.access_token), null, 'expired')
  await app.tokens.revokeFamily(fam as string)
  t.equal(await app.tokens.inspect(next.refresh_token), null, 'ended')
})

t.test('a pending state is awaited, and a state that is away refuses', async t => {
  const { app, ask, users, handled } = await build(t)
  const pair = await app.tokens.issue(users.ada!)
  const getMany = app.state.getMany
  app.state.getMany = keys => new Promise(resolve => { setImmediate(() => { resolve(getMany(keys) as (string | null)[]) }) })
  t.match(await ask(pair.access_token), { status: 200 })
  await app.tokens.revokeFamily(claimsOf(pair.access_token).fam as string)
  t.match(await ask(pair.access_token), refused)
  t.match(await ask(pair.access_token, '/public'), { status: 200, body: {} })
  const { access_token: good } = await app.tokens.issue(users.ada!)
  handled.length = 0
  app.state.getMany = async () => { throw new Error('redis://user:secret@away/') }
  t.match(await ask(good), { status: 503, code: 'FST_BASTION_IDENTITY_UNCHECKED' })
  t.match(await ask(pair.access_token), refused, 'one that is known to have been ended stays so')
  t.same(handled, [])
})

t.test('a token that was ended counts for its address, and is not asked about for a while', async t => {
  const { app, ask, users, clock } = await build(t)
  const { access_token: stolen } = await app.tokens.issue(users.ada!)
  const getMany = app.state.getMany
  let asked = 0
  app.state.getMany = keys => {
    asked += 1
    return new Promise(resolve => { setImmediate(() => { resolve(getMany(keys) as (string | null)[]) }) })
  }
  await app.tokens.revokeUser('ada')
  for (let i = 0; i < 20; i++) t.match(await ask(stolen), refused)
  t.equal(asked, 1, 'twenty times presented, once asked')
  clock.ms += 5000
  t.match(await ask(stolen), refused)
  t.equal(asked, 2)
})

t.test('a family that stays while the others end is alive at every moment', async t => {
  const { app, ask, users } = await build(t)
  const pair = await app.tokens.issue(users.ada!)
  const other = await app.tokens.issue(users.ada!)
  const raise = app.state.raise
  const before: number[] = []
  app.state.raise = async (...terms) => {
    before.push((await ask(pair.access_token)).status)
    const raised = await raise(...terms)
    before.push((await ask(pair.access_token)).status)
    return raised
  }
  await app.tokens.revokeUser('ada', { except: claimsOf(pair.access_token).fam as string })
  t.same(before, [200, 200])
  t.match(await ask(pair.access_token), { status: 200 })
  t.match(await ask(other.access_token), refused)
})

t.test('a refresh whose outcome nobody knows may come again, once, and is no reuse', async t => {
  for (const took of [true, false]) {
    const { app, ask, users, refresh, recorded } = await build(t)
    const pair = await app.tokens.issue(users.ada!)
    const swap = app.state.swap
    app.state.swap = async (...terms) => {
      app.state.swap = swap
      if (took) await swap(...terms) // the server did it, and was too late to say so
      throw Object.assign(new Error('late'), { code: 'FST_BASTION_STATE_UNAVAILABLE', statusCode: 503 })
    }
    await t.rejects(refresh(pair.refresh_token), { code: 'FST_BASTION_STATE_UNAVAILABLE' })
    const next = await refresh(pair.refresh_token)
    t.match(await ask(next.access_token), { status: 200 })
    t.notOk(recorded.some(({ type }) => type === 'token_reused'))
    await t.rejects(refresh(pair.refresh_token), invalid)
    t.ok(recorded.some(({ type }) => type === 'token_reused'), 'the third time it is')
    t.match(await ask(next.access_token), refused)
  }
})

t.test('what somebody else put into the family meanwhile is not what nobody has seen', async t => {
  const { app, users, refresh, clock } = await build(t)
  const pair = await app.tokens.issue(users.ada!)
  const swap = app.state.swap
  app.state.swap = async () => {
    app.state.swap = swap
    throw Object.assign(new Error('late'), { code: 'FST_BASTION_STATE_UNAVAILABLE', statusCode: 503 })
  }
  await t.rejects(refresh(pair.refresh_token))
  await refresh(pair.refresh_token) // the thief was faster
  await t.rejects(refresh(pair.refresh_token), invalid)
  const late = await app.tokens.issue(users.ada!)
  app.state.swap = async (...terms) => {
    app.state.swap = swap
    await swap(...terms)
    throw Object.assign(new Error('late'), { code: 'FST_BASTION_STATE_UNAVAILABLE', statusCode: 503 })
  }
  await t.rejects(refresh(late.refresh_token))
  clock.ms += 60_000
  await t.rejects(refresh(late.refresh_token), invalid, 'nor for ever')
})

t.test('forged and twisted tokens are refused, each of them [ASVS 9.1.2, 9.1.3, 9.2.2, 9.2.3, 10.3.1]', async t => {
  const { app, ask, keys, users, handled, refresh } = await build(t)
  const { access_token: real, refresh_token: realRefresh } = await app.tokens.issue(users.ada!)
  const claims = claimsOf(real)
  const header = readPart(real, 0)
  const [head, body, signature] = real.split('.') as [string, string, string]
  const forgeText = (head: string, payload: Json, key: Buffer) => forge(`${Buffer.from(head).toString('base64url')}.`, payload, key)
  const without = (name: string) => Object.fromEntries(Object.entries(claims).filter(([key]) => key !== name))

  // Each one of these is signed with the right key: the harness itself can forge what is accepted.
  t.match(await ask(forge(real, { ...claims, jti: 'another' }, keys.access)), { status: 200 }, 'control: right key, right header, right claims')

  const attacks: Record<string, string> = {
    'alg none, no signature': `${text({ ...header, alg: 'none' })}.${body}.`,
    'alg none, old signature': `${text({ ...header, alg: 'none' })}.${body}.${signature}`,
    'alg None': `${text({ ...header, alg: 'None' })}.${body}.`,
    'alg HS512 named, HS256 signed': forge(real, claims, keys.access, { ...header, alg: 'HS512' }),
    'alg RS256 named, HS256 signed': forge(real, claims, keys.access, { ...header, alg: 'RS256' }),
    'no alg': forge(real, claims, keys.access, { typ: header.typ, kid: header.kid }),
    'another key': forge(real, claims, randomBytes(32)),
    'the refresh key': forge(real, claims, keys.refresh),
    'an empty key': forge(real, claims, Buffer.alloc(1)),
    'the kid of the refresh key': forge(real, claims, keys.refresh, readPart(realRefresh, 0)),
    'the kid of nobody': forge(real, claims, keys.access, { ...header, kid: 'nobody' }),
    'a kid that is a path': forge(real, claims, '', { ...header, kid: '../../dev/null' }),
    'a kid that is SQL': forge(real, claims, 'key', { ...header, kid: "' UNION SELECT 'key' --" }),
    'a kid of the prototype': forge(real, claims, '', { ...header, kid: 'constructor' }),
    'a kid in a list': forge(real, claims, keys.access, { ...header, kid: [header.kid] }),
    'a header on the prototype': forgeText(`{"__proto__":${JSON.stringify(header)}}`, claims, keys.access),
    'a header twice, none last': forgeText(`${JSON.stringify(header).slice(0, -1)},"alg":"none"}`, claims, keys.access),
    'a header twice, its own last': forgeText(`{"alg":"none",${JSON.stringify(header).slice(1)}`, claims, keys.access),
    'a header with a blank': forgeText(`${JSON.stringify(header)} `, claims, keys.access),
    zip: forge(real, claims, keys.access, { ...header, zip: 'DEF' }),
    'b64 false': forge(real, claims, keys.access, { ...header, b64: false, crit: ['b64'] }),
    'a JWE': await new CompactEncrypt(Buffer.from(JSON.stringify(claims))).setProtectedHeader({ alg: 'dir', enc: 'A128CBC-HS256', typ: 'at+jwt' }).encrypt(keys.access),
    'an ID token': forge(real, { ...claims, aud: 'client-1', nonce: 'n' }, keys.access, { ...header, typ: 'JWT' }),
    'no kid': forge(real, claims, keys.access, { alg: 'HS256', typ: 'at+jwt' }),
    'typ JWT': forge(real, claims, keys.access, { ...header, typ: 'JWT' }),
    'typ of a refresh token': forge(real, claims, keys.access, { ...header, typ: 'rt+jwt' }),
    'no typ': forge(real, claims, keys.access, { alg: header.alg, kid: header.kid }),
    'unknown crit': forge(real, claims, keys.access, { ...header, crit: ['exp'] }),
    'crit with its extension': forge(real, claims, keys.access, { ...header, crit: ['b64'], b64: true }),
    'an empty crit': forge(real, claims, keys.access, { ...header, crit: [] }),
    jku: forge(real, claims, keys.access, { ...header, jku: 'https://attacker.test/jwks.json' }),
    jwk: forge(real, claims, keys.access, { ...header, jwk: { kty: 'oct', k: keys.access.toString('base64url') } }),
    x5u: forge(real, claims, keys.access, { ...header, x5u: 'https://attacker.test/cert.pem' }),
    x5c: forge(real, claims, keys.access, { ...header, x5c: ['MII='] }),
    'header in another order': forge(real, claims, keys.access, Object.fromEntries(Object.entries(header).reverse())),
    'another issuer': forge(real, { ...claims, iss: 'https://attacker.test' }, keys.access),
    'issuer in a list': forge(real, { ...claims, iss: [claims.iss] }, keys.access),
    'another audience': forge(real, { ...claims, aud: 'https://other.test' }, keys.access),
    'audience among others': forge(real, { ...claims, aud: [claims.aud, 'https://other.test'] }, keys.access),
    'audience of a refresh token': forge(real, { ...claims, aud: claims.iss }, keys.access),
    'issuer with a slash': forge(real, { ...claims, iss: `${claims.iss as string}/` }, keys.access),
    expired: forge(real, { ...claims, exp: 1_700_000_000 - 6 }, keys.access),
    'issued in the future': forge(real, { ...claims, iat: 1_700_000_000 + 60 }, keys.access),
    'not before later': forge(real, { ...claims, nbf: 1_700_000_000 + 60 }, keys.access),
    'exp as a fraction': forge(real, { ...claims, exp: 1_700_000_900.5 }, keys.access),
    'exp as text': forge(real, { ...claims, exp: '1700000900' }, keys.access),
    'exp too large': forge(real, { ...claims, exp: 1e300 }, keys.access),
    'exp null': forge(real, { ...claims, exp: null }, keys.access),
    'exp in an array': forge(real, { ...claims, exp: [1_700_000_900] }, keys.access),
    'iat as text': forge(real, { ...claims, iat: '0' }, keys.access),
    'gen as text': forge(real, { ...claims, gen: '9'.repeat(15) }, keys.access),
    'gen infinite': forge(real, { ...claims, gen: 1e308 }, keys.access),
    'sub empty': forge(real, { ...claims, sub: '' }, keys.access),
    'sub a number': forge(real, { ...claims, sub: 1 }, keys.access),
    'sub an object': forge(real, { ...claims, sub: { id: 'ada' } }, keys.access),
    'roles as text': forge(real, { ...claims, roles: 'admin' }, keys.access),
    'roles that are no text': forge(real, { ...claims, roles: [{ toString: 'admin' }] }, keys.access),
    'auth_time as text': forge(real, { ...claims, auth_time: '9999999999' }, keys.access),
    'another family': forge(real, { ...claims, fam: 'none' }, keys.access),
    'family of the prototype': forge(real, { ...claims, fam: '__proto__' }, keys.access),
    'a refresh token': realRefresh,
    'an empty signature': `${head}.${body}.`,
    'no signature part': `${head}.${body}`,
    'a longer signature': `${real}A`,
    'another writing of the same signature': real.slice(0, -1) + 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'[('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'.indexOf(real.at(-1)!) ^ 1)],
    'padding after it': `${real}=`,
    'trailing garbage': `${real}.x`,
    'doubled dots': `${head}..${body}.${signature}`,
    'a leading dot': `.${real}`,
    'an empty header': `.${body}.${signature}`,
    'an empty payload': `${head}..${hmac(`${head}.`, keys.access)}`,
    'a payload that is no object': `${head}.${text([claims])}.${hmac(`${head}.${text([claims])}`, keys.access)}`,
    'a payload that is no JSON': `${head}.eHg.${hmac(`${head}.eHg`, keys.access)}`,
    'a JSON serialization': Buffer.from(JSON.stringify({ protected: head, payload: body, signature })).toString('base64url'),
    'standard base64': real.replaceAll('-', '+').replaceAll('_', '/') + (/[-_]/.test(real) ? '' : '+'),
    'ten kilobytes': forge(real, { ...claims, jti: 'x'.repeat(10_000) }, keys.access),
    'a header of four kilobytes': forge(real, claims, keys.access, { ...header, pad: 'x'.repeat(3000) }),
  }
  for (const alg of ['NONE', 'nOnE', 'none ', ' none', '']) attacks[`alg ${JSON.stringify(alg)}`] = `${text({ ...header, alg })}.${body}.`
  for (const name of ['iss', 'aud', 'sub', 'exp', 'iat', 'jti', 'fam', 'gen', 'auth_time', 'fam_exp', 'roles']) attacks[`without ${name}`] = forge(real, without(name), keys.access)
  const before = handled.length
  for (const [name, token] of Object.entries(attacks)) {
    const { status, code, challenge } = await ask(token)
    t.match({ status, code }, refused, name)
    t.match(challenge, /^Bearer .*error="invalid_token"/)
    t.match(await ask(token, '/public'), { status: 200, body: {} }, `${name}: nobody on a public route`)
  }
  t.equal(handled.filter(url => url === '/').length, before, 'no handler ran')

  // The other way round: nothing but a refresh token refreshes.
  const refreshClaims = claimsOf(realRefresh)
  for (const [name, token] of Object.entries({
    'an access token': real,
    'the access key': forge(realRefresh, refreshClaims, keys.access),
    'an access header under the access key': forge(real, refreshClaims, keys.access),
    'audience of the API': forge(realRefresh, { ...refreshClaims, aud: claims.aud }, keys.refresh),
    'without exp': forge(realRefresh, Object.fromEntries(Object.entries(refreshClaims).filter(([key]) => key !== 'exp')), keys.refresh),
    'alg none': `${text({ alg: 'none', typ: 'rt+jwt' })}.${realRefresh.split('.')[1]}.`,
    empty: '',
    whitespace: ` ${realRefresh}`,
    'a line after it': `${realRefresh}\n`,
  })) await t.rejects(refresh(token), invalid, name)
  t.ok(await refresh(realRefresh), 'none of them has spent it')
})

t.test('negative control: what @fastify/jwt accepts, set up as its documentation shows [TRAP 13]', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(jwt, { secret: 'supersecret' })
  app.get('/', { onRequest: async request => { await request.jwtVerify() } }, async request => request.user)
  const ask = async (token: string) => (await app.inject({ url: '/', headers: { authorization: `Bearer ${token}` } })).statusCode
  const real = app.jwt.sign({ sub: 'ada' })
  for (const [name, token] of Object.entries({
    'a weak secret': real,
    'no exp': forge(real, { sub: 'ada' }, 'supersecret'),
    'a refresh token': app.jwt.sign({ sub: 'ada', use: 'refresh' }),
    'an ID token': app.jwt.sign({ sub: 'ada', aud: 'client-1', nonce: 'n' }),
    jku: forge(real, { sub: 'ada' }, 'supersecret', { alg: 'HS256', typ: 'JWT', jku: 'https://attacker.test' }),
    'another issuer and audience': forge(real, { sub: 'ada', iss: 'https://attacker.test', aud: 'somebody else' }, 'supersecret'),
    'another typ': forge(real, { sub: 'ada' }, 'supersecret', { alg: 'HS256', typ: 'rt+jwt' }),
    'exp as a fraction': forge(real, { sub: 'ada', exp: 9_999_999_999.5 }, 'supersecret'),
    'issued in the future': forge(real, { sub: 'ada', iat: 9_999_999_999 }, 'supersecret'),
  })) t.equal(await ask(token), 200, name)
})

t.test('HS256 under the public key of an asymmetric one [GHSA-mvf2-f6gm-w987, GHSA-ww5h-9m49-7xx4]', async t => {
  /** Verifies as many did: the token says how. */
  function believe (token: string, key: string): boolean {
    const [head, body, signature] = token.split('.') as [string, string, string]
    const { alg } = readPart(token, 0)
    if (alg === 'none') return true
    if (alg === 'HS256') return hmac(`${head}.${body}`, key) === signature
    return verify('sha256', Buffer.from(`${head}.${body}`), key, Buffer.from(signature, 'base64url'))
  }
  for (const algorithm of ['RS256', 'ES256', 'EdDSA'] as const) {
    const pair = ALGORITHMS[algorithm]
    const { app, ask, users } = await build(t, { algorithm, keys: { access: pair, refresh: randomBytes(32) } })
    const { access_token: real } = await app.tokens.issue(users.ada!)
    const header = readPart(real, 0)
    const claims = { ...claimsOf(real), roles: ['admin'] }
    const [jwk] = app.tokens.jwks().keys
    for (const secret of [JSON.stringify(jwk), JSON.stringify(app.tokens.jwks()), Buffer.from(jwk!.n ?? jwk!.x!, 'base64url'), pair.public, pair.public.trim(), `\n${pair.public}`, pair.public.replaceAll('\n', '\r\n'), pair.public.replace(/-----[^-]+-----|\s/g, '')]) {
      for (const forged of [forge(real, claims, secret, { ...header, alg: 'HS256' }), forge(real, claims, secret)]) t.match(await ask(forged, '/admin'), refused)
    }
    // Of zeros (CVE-2022-21449), of the order of the curve, and in the other form of ECDSA.
    const bytes = algorithm === 'RS256' ? 256 : 64
    for (const signature of [Buffer.alloc(bytes), Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551'.repeat(bytes / 32), 'hex'), Buffer.from('3006020100020100', 'hex'), Buffer.alloc(bytes, 1)]) {
      t.match(await ask(`${real.split('.')[0]}.${text(claims)}.${signature.toString('base64url')}`, '/admin'), refused, 'a signature that nobody made')
    }
    if (algorithm === 'ES256') {
      const input = `${real.split('.')[0]}.${text(claims)}`
      t.match(await ask(`${input}.${sign('sha256', Buffer.from(input), ec.privateKey).toString('base64url')}`, '/admin'), refused, 'the right key, DER')
      t.match(await ask(`${input}.${sign('sha256', Buffer.from(input), { key: ec.privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`, '/admin'), { status: 200 }, 'control: the right key, as it is meant')
    }
    const { privateKey: theirs } = OTHERS[algorithm]()
    const other = sign(algorithm === 'EdDSA' ? null : 'sha256', Buffer.from(`${real.split('.')[0]}.${text(claims)}`), algorithm === 'ES256' ? { key: theirs, dsaEncoding: 'ieee-p1363' } : theirs)
    t.match(await ask(`${real.split('.')[0]}.${text(claims)}.${other.toString('base64url')}`, '/admin'), refused)
    if (algorithm === 'RS256') {
      t.ok(believe(forge(real, claims, pair.public, { ...header, alg: 'HS256' }), pair.public), 'negative control: a verifier that believes `alg`')
      t.ok(believe(`${text({ alg: 'none' })}.${text(claims)}.`, pair.public), 'negative control: none')
    }
  }
})

t.test('weak, equal and wrong keys stop boot [TRAP 13]', async t => {
  const good = randomBytes(32)
  const weakRsa = pemOf(generateKeyPairSync('rsa', { modulusLength: 1024 }))
  const p384 = pemOf(generateKeyPairSync('ec', { namedCurve: 'P-384' }))
  for (const [name, options, message] of [
    ['no keys', { keys: undefined }, /tokens: keys: must be \{ access, refresh \}/],
    ['31 bytes', { keys: { access: randomBytes(31), refresh: good } }, /keys\.access: must be a Buffer of at least 32 bytes/],
    ['31 bytes to refresh', { keys: { access: good, refresh: randomBytes(31) } }, /keys\.refresh: must be a Buffer of at least 32 bytes/],
    ['an empty one', { keys: { access: Buffer.alloc(0), refresh: good } }, /keys\.access/],
    ['text', { keys: { access: 'a text that is longer than thirty-two bytes', refresh: good } }, /keys\.access/],
    ['none to refresh', { keys: { access: good } }, /keys\.refresh/],
    ['an empty ring', { keys: { access: [], refresh: good } }, /keys\.access: must hold a key/],
    ['equal keys', { keys: { access: good, refresh: Buffer.from(good) } }, /one key a purpose/],
    ['equal keys in the rings', { keys: { access: [randomBytes(32), good], refresh: [randomBytes(32), good] } }, /one key a purpose/],
    ['a key twice', { keys: { access: [good, good], refresh: randomBytes(32) } }, /twice/],
    ['a pair for HS256', { keys: { access: pemOf(ec), refresh: good } }, /keys\.access: must be a Buffer/],
    ['a secret for RS256', { algorithm: 'RS256', keys: { access: good, refresh: randomBytes(32) } }, /PEM for RS256/],
    ['no PEM', { algorithm: 'RS256', keys: { access: { private: 'x', public: 'y' }, refresh: good } }, /no PEM/],
    ['1024 bits', { algorithm: 'RS256', keys: { access: weakRsa, refresh: good } }, /at least 2048 bits/],
    ['an EC key for RS256', { algorithm: 'RS256', keys: { access: pemOf(ec), refresh: good } }, /RSA key/],
    ['P-384 for ES256', { algorithm: 'ES256', keys: { access: p384, refresh: good } }, /P-256/],
    ['an RSA key for EdDSA', { algorithm: 'EdDSA', keys: { access: pemOf(rsa), refresh: good } }, /Ed25519/],
    ['no pair', { algorithm: 'EdDSA', keys: { access: { private: pemOf(ed).private, public: pemOf(generateKeyPairSync('ed25519')).public }, refresh: good } }, /not a pair/],
    ['an unknown algorithm', { algorithm: 'none' }, /algorithm/],
    ['HS512', { algorithm: 'HS512' }, /algorithm/],
    ['no issuer', { issuer: '' }, /issuer/],
    ['no audience', { audience: undefined }, /audience/],
    ['a tolerance of an hour', { clockTolerance: 3600 }, /clockTolerance/],
    ['a life of 0', { accessTtl: 0 }, /accessTtl/],
    ['an access token that outlives its family', { accessTtl: 3600, refreshTtl: 1800 }, /accessTtl: must not be longer/],
    ['a misspelt option', { acessTtl: 60 }, /acessTtl/],
  ] as [string, never, RegExp][]) await t.rejects(build(t, options), { code: 'FST_BASTION_TOKENS_MISCONFIGURED', message }, name)
  const message = await build(t, { keys: { access: Buffer.from('a secret that is short'), refresh: good } }).then(() => '', (error: Error) => error.message)
  t.notMatch(message, /secret that/, 'the message holds no part of a key')

  t.test('negative control: the official plugin boots with `secret` as its secret', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(jwt, { secret: 'secret' })
    await app.ready()
    t.ok(app.jwt.sign({ sub: 'ada' }))
  })
})

t.test('keys in their older forms are understood', async t => {
  const keys = { private: ec.privateKey.export({ format: 'pem', type: 'sec1' }).toString(), public: pemOf(ec).public }
  const { app, ask, users } = await build(t, { algorithm: 'ES256', keys: { access: keys, refresh: randomBytes(32) } })
  t.match(await ask((await app.tokens.issue(users.ada!)).access_token), { status: 200 })
  const pkcs1 = { private: rsa.privateKey.export({ format: 'pem', type: 'pkcs1' }).toString(), public: rsa.publicKey.export({ format: 'pem', type: 'pkcs1' }).toString() }
  const other = await build(t, { algorithm: 'RS256', keys: { access: pkcs1, refresh: randomBytes(32) } })
  t.match(await other.ask((await other.app.tokens.issue(other.users.ada!)).access_token), { status: 200 })
  t.equal(new TokenInvalid().statusCode, 401)
})
