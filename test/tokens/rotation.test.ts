/** Rotation: other keys without a restart, and without a token refused that is good. */
import { createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto'
import jwt from '@fastify/jwt'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import type { TokenKeys, TokenPair } from '../../plugins/tokens/index.js'
import { build, claimsOf, forge, hmac, invalid, pemOf, readPart, refused, text, type Built } from './build.js'

const secrets = (count: number) => Array.from({ length: count }, () => randomBytes(32))
const ecKey = () => generateKeyPairSync('ec', { namedCurve: 'P-256' })

t.test('rotated in place: the new key signs, tokens of the old one go on while it stays', async t => {
  const [old, young, refresh] = secrets(3) as [Buffer, Buffer, Buffer]
  const { app, ask, users } = await build(t, { keys: { access: old, refresh } })
  const before = await app.tokens.issue(users.ada!)
  t.match(await ask(before.access_token), { status: 200 })
  await app.tokens.rotate({ access: [young, old], refresh })
  const after = await app.tokens.issue(users.ada!)
  t.not(readPart(after.access_token, 0).kid, readPart(before.access_token, 0).kid)
  for (const { access_token: token } of [before, after]) t.match(await ask(token), { status: 200 })
})

t.test('a token that was verified and is remembered is refused once its key has left the ring', async t => {
  const [old, young, refresh] = secrets(3) as [Buffer, Buffer, Buffer]
  const { app, ask, users } = await build(t, { keys: { access: old, refresh } })
  const { access_token: token } = await app.tokens.issue(users.ada!)
  for (let i = 0; i < 3; i++) t.match(await ask(token), { status: 200 })
  await app.tokens.rotate({ access: young, refresh })
  t.match(await ask(token), refused)
  t.equal(await app.tokens.inspect(token), null)
  await app.tokens.rotate({ access: [young, old], refresh })
  t.match(await ask(token), { status: 200 }, 'nothing was kept of the refusal')

  t.test('negative control: a cache of whole tokens without it goes on', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    let secret = old
    await app.register(jwt, { secret: async () => secret.toString('hex') })
    const remembered = new Set<string>()
    app.get('/', {
      async onRequest (request) {
        const { authorization = '' } = request.headers
        if (!remembered.has(authorization)) await request.jwtVerify()
        remembered.add(authorization)
      },
    }, async () => 'in')
    const [head, body] = [{ alg: 'HS256' }, { sub: 'ada' }].map(text) as [string, string]
    const ask = async (authorization: string) => (await app.inject({ url: '/', headers: { authorization } })).statusCode
    const signed = `Bearer ${head}.${body}.${hmac(`${head}.${body}`, old.toString('hex'))}`
    t.equal(await ask(signed), 200)
    secret = young
    t.equal(await ask(signed), 200)
    remembered.clear()
    t.equal(await ask(signed), 401)
  })
})

t.test('refresh tokens and links are rotated with their ring', async t => {
  const [access, old, young] = secrets(3) as [Buffer, Buffer, Buffer]
  const { app, users, refresh } = await build(t, { keys: { access, refresh: old } })
  const [kept, lost] = [await app.tokens.issue(users.ada!), await app.tokens.issue(users.ben!)]
  const [first, second] = [app.tokens.links.issue({ purpose: 'reset', subject: 'ada' }), app.tokens.links.issue({ purpose: 'reset', subject: 'ben' })]
  await app.tokens.rotate({ access, refresh: [young, old] })
  const next = await refresh(kept.refresh_token)
  t.not(readPart(next.refresh_token, 0).kid, readPart(kept.refresh_token, 0).kid)
  t.equal(await app.tokens.links.redeem('reset', first), 'ada')
  const late = app.tokens.links.issue({ purpose: 'reset', subject: 'ada' })
  await app.tokens.rotate({ access, refresh: young })
  await t.rejects(refresh(lost.refresh_token), invalid)
  await t.rejects(app.tokens.links.redeem('reset', second), { code: 'FST_BASTION_TOKENS_LINK_INVALID' })
  t.ok(await refresh(next.refresh_token))
  t.equal(await app.tokens.links.redeem('reset', late), 'ada')
})

t.test('the JWK Set shows what verifies now, in order', async t => {
  const [old, young] = [ecKey(), ecKey()]
  const refresh = randomBytes(32)
  const { app, ask, users } = await build(t, { algorithm: 'ES256', keys: { access: pemOf(old), refresh } })
  const { access_token: token } = await app.tokens.issue(users.ada!)
  const [oldKid] = app.tokens.jwks().keys.map(({ kid }) => kid)
  // What is published before it signs may stand there as a public key alone.
  await app.tokens.rotate({ access: [pemOf(old), pemOf(young).public], refresh })
  const published = app.tokens.jwks().keys.map(({ kid }) => kid)
  t.equal(published[0], oldKid)
  await app.tokens.rotate({ access: [pemOf(young), pemOf(old).public], refresh })
  t.same(app.tokens.jwks().keys.map(({ kid }) => kid), [published[1], oldKid])
  t.match(await ask(token), { status: 200 })
  t.equal(readPart((await app.tokens.issue(users.ada!)).access_token, 0).kid, published[1])
  await app.tokens.rotate({ access: pemOf(young), refresh })
  t.same(app.tokens.jwks().keys.map(({ kid }) => kid), [published[1]])
  t.match(await ask(token), refused)
})

t.test('keys that are not good change nothing', async t => {
  const { app, ask, users, keys, refresh } = await build(t)
  const pair = await app.tokens.issue(users.ada!)
  for (const [name, other] of [
    ['none', undefined],
    ['31 bytes', { access: randomBytes(31), refresh: keys.refresh }],
    ['a good access key beside a weak one', { access: [randomBytes(32), randomBytes(8)], refresh: keys.refresh }],
    ['good access keys, a weak refresh key', { access: randomBytes(32), refresh: randomBytes(8) }],
    ['one key for two purposes', { access: keys.access, refresh: keys.access }],
    ['another algorithm', { access: pemOf(ecKey()), refresh: keys.refresh }],
    ['nothing to sign with', { access: [], refresh: keys.refresh }],
  ] as [string, never][]) {
    await t.rejects(app.tokens.rotate(other), { code: 'FST_BASTION_TOKENS_MISCONFIGURED' }, name)
    t.match(await ask(pair.access_token), { status: 200 }, name)
    t.equal(readPart((await app.tokens.issue(users.ada!)).access_token, 0).kid, readPart(pair.access_token, 0).kid)
  }
  t.ok(await refresh(pair.refresh_token))
})

t.test('of rotations that run at once, the last one stays; one that fails in between hinders none', async t => {
  const [one, two, three, refresh] = secrets(4) as [Buffer, Buffer, Buffer, Buffer]
  const { app, ask, users } = await build(t, { keys: { access: one, refresh } })
  const outcomes = await Promise.allSettled([
    app.tokens.rotate({ access: [two, one], refresh }),
    app.tokens.rotate({ access: Buffer.alloc(3), refresh }),
    app.tokens.rotate({ access: three, refresh }),
  ])
  t.same(outcomes.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled'])
  const { access_token: token } = await app.tokens.issue(users.ada!)
  t.match(await ask(forge(token, { ...claimsOf(token), jti: 'x' }, three)), { status: 200 })
})

t.test('a buffer that its owner wipes afterwards goes on signing', async t => {
  const [access, refresh] = secrets(2) as [Buffer, Buffer]
  const { app, ask, users } = await build(t, { keys: { access, refresh } })
  const { access_token: token } = await app.tokens.issue(users.ada!)
  const copy = Buffer.from(access)
  access.fill(0)
  t.match(await ask((await app.tokens.issue(users.ada!)).access_token), { status: 200 })
  t.match(await ask(forge(token, { ...claimsOf(token), jti: 'x' }, access)), refused, 'and is not a key of zeros')
  t.match(await ask(forge(token, { ...claimsOf(token), jti: 'x' }, copy)), { status: 200 })
})

t.test('a fleet of three is rotated in three steps, one process after the other, and refuses no token', async t => {
  for (const algorithm of ['HS256', 'ES256'] as const) {
    const [oldKey, newKey] = algorithm === 'HS256' ? secrets(2) : [pemOf(ecKey()), pemOf(ecKey())]
    const [oldRefresh, newRefresh] = secrets(2) as [Buffer, Buffer]
    const access = (...keys: unknown[]) => keys as TokenKeys['access']
    const steps: TokenKeys[] = [
      { access: access(oldKey, newKey), refresh: [oldRefresh, newRefresh] },
      { access: access(newKey, oldKey), refresh: [newRefresh, oldRefresh] },
      { access: access(newKey), refresh: newRefresh },
    ]
    const fleet = await fleetOf(t, 3, { algorithm, keys: { access: access(oldKey), refresh: oldRefresh } })
    const traffic = fleetTraffic(fleet)
    t.equal(await traffic(), 0)
    for (const [i, keys] of steps.entries()) {
      // Before the old key goes, its last token has expired.
      if (i === 2) for (const { clock } of fleet) clock.ms += 604_806_000
      for (const process of fleet) {
        await process.app.tokens.rotate(keys)
        t.equal(await traffic(), 0, `${algorithm}: step ${i + 1}`)
      }
    }
  }

  t.test('negative control: without the first step, those that do not know the key yet refuse its tokens', async t => {
    const [oldKey, newKey, refresh] = secrets(3) as [Buffer, Buffer, Buffer]
    const fleet = await fleetOf(t, 3, { keys: { access: oldKey, refresh } })
    const traffic = fleetTraffic(fleet)
    await fleet[0]!.app.tokens.rotate({ access: [newKey, oldKey], refresh })
    t.ok(await traffic() > 0)
  })
})

t.test('under traffic no request is refused while the keys change a hundred times', async t => {
  const refresh = randomBytes(32)
  let current = randomBytes(32)
  const { app, ask, users } = await build(t, { keys: { access: current, refresh } })
  const over = new AbortController()
  let asked = 0
  let wrong = 0
  const client = async () => {
    while (!over.signal.aborted) {
      await new Promise(resolve => { setImmediate(resolve) })
      const { access_token: token } = await app.tokens.issue(users.ada!)
      for (let i = 0; i < 3; i++) {
        asked += 1
        if ((await ask(token)).status !== 200) wrong += 1
      }
    }
  }
  const clients = Array.from({ length: 5 }, client)
  // Each step is one of the three: the key that goes is one that signed nothing since the step before the last.
  for (let i = 0; i < 100; i++) {
    const next = randomBytes(32)
    await app.tokens.rotate({ access: [current, next], refresh })
    await app.tokens.rotate({ access: [next, current], refresh })
    await new Promise(resolve => { setImmediate(resolve) })
    current = next
    await Promise.all([0, 1].map(async () => { if ((await ask((await app.tokens.issue(users.ada!)).access_token)).status !== 200) wrong += 1 }))
  }
  over.abort()
  await Promise.all(clients)
  t.equal(wrong, 0, `of ${asked} requests`)
})

t.test('the public halves that others verify with are those of the keys that sign', async t => {
  const key = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const { app } = await build(t, { algorithm: 'RS256', keys: { access: { private: pemOf(key).private }, refresh: randomBytes(32) } })
  const [jwk] = app.tokens.jwks().keys
  t.ok(createPublicKey({ key: jwk as never, format: 'jwk' }).equals(key.publicKey), 'a private key alone is enough')
})

/** Processes that share their state. */
async function fleetOf (t: Test, count: number, options: Parameters<typeof build>[1]): Promise<Built[]> {
  const fleet = await Promise.all(Array.from({ length: count }, () => build(t, options)))
  const shared = Object.entries(fleet[0]!.app.state).filter(([, part]) => typeof part === 'function')
  for (const { app } of fleet.slice(1)) Object.assign(app.state, Object.fromEntries(shared))
  return fleet
}

/** Every process issues, every other one is asked and refreshes, with tokens of now and of before; answers how many were refused. */
function fleetTraffic (fleet: readonly Built[]): () => Promise<number> {
  let pairs: { pair: TokenPair, born: number }[] = []
  return async function traffic (): Promise<number> {
    let refusals = 0
    const next: typeof pairs = []
    const now = fleet[0]!.clock.ms
    for (const { app, users } of fleet) pairs.push({ pair: await app.tokens.issue(users.ada!), born: now })
    for (const [i, { pair, born }] of pairs.entries()) {
      if (now - born > 800_000) continue
      for (const { ask } of fleet) if ((await ask(pair.access_token)).status !== 200) refusals += 1
      const refreshed = await fleet[i % fleet.length]!.refresh(pair.refresh_token).catch(() => null)
      if (refreshed === null) refusals += 1
      else next.push({ pair: refreshed, born: now })
    }
    pairs = next
    return refusals
  }
}

t.test('a key that is given a kid of its own goes on with the tokens from before', async t => {
  const [access, young, refresh] = secrets(3) as [Buffer, Buffer, Buffer]
  const built = await build(t, { keys: { access, refresh } })
  const before = await built.app.tokens.issue(built.users.ada!)
  const named = (secret: Buffer, kid: string) => ({ kty: 'oct', k: secret.toString('base64url'), kid })
  await built.app.tokens.rotate({ access: { keys: [named(young, 'young'), named(access, 'old')] }, refresh: { keys: [named(refresh, 'r')] } } as TokenKeys)
  t.match(await built.ask(before.access_token), { status: 200 })
  t.match(await built.refresh(before.refresh_token), { access_token: /./ })
  t.equal(readPart((await built.app.tokens.issue(built.users.ada!)).access_token, 0).kid, 'young')
})
