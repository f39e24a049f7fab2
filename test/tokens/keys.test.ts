/** Keys in the forms that they are kept in; a contradictory one stops boot. */
import { createPrivateKey, createSecretKey, generateKeyPairSync, randomBytes, type JsonWebKey } from 'node:crypto'
import { createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify, type JSONWebKeySet } from 'jose'
import Fastify from 'fastify'
import jwt from '@fastify/jwt'
import t from 'tap'
import type { TokensOptions } from '../../plugins/tokens/index.js'
import { build, pemOf, readPart } from './build.js'

const ALGORITHMS = ['RS256', 'ES256', 'EdDSA'] as const
const pairs = {
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: generateKeyPairSync('ed25519'),
}
const others = { RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }), ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }), EdDSA: generateKeyPairSync('ed25519') }
const privateJwk = (algorithm: typeof ALGORITHMS[number], from = pairs): JsonWebKey => from[algorithm].privateKey.export({ format: 'jwk' })
const publicJwk = (algorithm: typeof ALGORITHMS[number], from = pairs): JsonWebKey => from[algorithm].publicKey.export({ format: 'jwk' })
const oct = (bytes: number, more: object = {}) => ({ kty: 'oct', k: randomBytes(bytes).toString('base64url'), ...more })
const refresh = randomBytes(32)

t.test('private JWKs, PEM keys and pairs sign alike, and jose verifies with the published set', async t => {
  for (const algorithm of ALGORITHMS) {
    const { private: secret, public: open } = pemOf(pairs[algorithm])
    for (const [form, access] of Object.entries({
      'a JWK': privateJwk(algorithm),
      'a JWK that says what it is for': { ...privateJwk(algorithm), alg: algorithm, use: 'sig', key_ops: ['sign'] },
      'a JWK Set': { keys: [privateJwk(algorithm)] },
      'a pair in PEM': { private: secret, public: open },
      'a private PEM alone': { private: secret },
      'the text of a private PEM': secret,
    })) {
      const { app, ask, users } = await build(t, { algorithm, keys: { access, refresh } })
      const { access_token: token } = await app.tokens.issue(users.ada!)
      t.match(await ask(token), { status: 200 }, `${algorithm}: ${form}`)
      const verified = await jwtVerify(token, createLocalJWKSet(app.tokens.jwks() as unknown as JSONWebKeySet), {
        issuer: 'https://issuer.test', audience: 'https://api.test', typ: 'at+jwt', algorithms: [algorithm], currentDate: new Date(1_700_000_000_500),
      })
      t.equal(verified.payload.sub, 'ada')
      t.notMatch(JSON.stringify(app.tokens.jwks()), /"(?:d|p|q|dp|dq|qi|k)":/, 'nothing private')
    }
  }
})

t.test('keys that jose made', async t => {
  for (const algorithm of ALGORITHMS) {
    const { privateKey } = await generateKeyPair(algorithm, { extractable: true })
    const { app, ask, users } = await build(t, { algorithm, keys: { access: { ...await exportJWK(privateKey), alg: algorithm } as JsonWebKey, refresh } })
    t.match(await ask((await app.tokens.issue(users.ada!)).access_token), { status: 200 })
  }
  const { privateKey } = await generateKeyPair('Ed25519', { extractable: true })
  const { app } = await build(t, { algorithm: 'EdDSA', keys: { access: { ...await exportJWK(privateKey), alg: 'Ed25519' } as JsonWebKey, refresh } })
  t.equal(app.tokens.jwks().keys.length, 1, 'under the name of RFC 9864')
})

t.test('a kid of its own is kept; without one it is the thumbprint', async t => {
  for (const kid of ['2026-11', 'ключ', '__proto__', '../../etc/passwd', "' or 1=1 --"]) {
    const { app, ask, users } = await build(t, { algorithm: 'ES256', keys: { access: [{ ...privateJwk('ES256'), kid }, privateJwk('ES256', others)], refresh } })
    const { access_token: token } = await app.tokens.issue(users.ada!)
    t.equal(readPart(token, 0).kid, kid)
    t.match(await ask(token), { status: 200 }, kid)
    t.same(app.tokens.jwks().keys.map(key => key.kid), [kid, app.tokens.jwks().keys[1]!.kid])
    t.match(app.tokens.jwks().keys[1]!.kid, /^[\w-]{43}$/)
  }
  const { app, users } = await build(t, { keys: { access: oct(32, { kid: 'secret-1' }), refresh: oct(32) } as never })
  t.equal(readPart((await app.tokens.issue(users.ada!)).access_token, 0).kid, 'secret-1')
})

t.test('an oct JWK is the secret that it holds', async t => {
  const secret = randomBytes(32)
  const asBuffer = await build(t, { keys: { access: secret, refresh } })
  const asJwk = await build(t, { keys: { access: createSecretKey(secret).export({ format: 'jwk' }), refresh: { kty: 'oct', k: refresh.toString('base64url'), alg: 'HS256', use: 'sig', key_ops: ['sign', 'verify'] } } })
  const { access_token: token } = await asBuffer.app.tokens.issue(asBuffer.users.ada!)
  t.equal(readPart((await asJwk.app.tokens.issue(asJwk.users.ada!)).access_token, 0).kid, readPart(token, 0).kid)
  t.ok(asJwk.app.tokens.jwks().keys.length === 0, 'and is published nowhere')
  await t.rejects(build(t, { keys: { access: secret, refresh: { kty: 'oct', k: secret.toString('base64url') } } }), { message: /one key a purpose/ }, 'whatever it is written in')
})

t.test('after the first one, public keys may stand in the ring: they verify and do not sign', async t => {
  for (const algorithm of ALGORITHMS) {
    const before = await build(t, { algorithm, keys: { access: privateJwk(algorithm, others), refresh } })
    const pair = await before.app.tokens.issue(before.users.ada!)
    for (const form of [publicJwk(algorithm, others), { ...publicJwk(algorithm, others), key_ops: ['verify'] }, pemOf(others[algorithm]).public, { public: pemOf(others[algorithm]).public }]) {
      const { app, ask } = await build(t, { algorithm, keys: { access: [privateJwk(algorithm), form], refresh } })
      Object.assign(app.state, { getMany: before.app.state.getMany })
      t.match(await ask(pair.access_token), { status: 200 })
      t.equal(app.tokens.jwks().keys.length, 2)
    }
    const alone = await build(t, { algorithm, keys: { access: privateJwk(algorithm), refresh } })
    Object.assign(alone.app.state, { getMany: before.app.state.getMany })
    t.match(await alone.ask(pair.access_token), { status: 401 }, 'negative control: without it, they are a stranger\'s')
  }
})

t.test('contradictory, weak and unreadable keys stop boot', async t => {
  const es = privateJwk('ES256')
  const foreign = publicJwk('ES256', others)
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export({ format: 'jwk' })
  for (const [name, options, message] of [
    ['alg of another algorithm', { algorithm: 'RS256', keys: { access: { ...privateJwk('RS256'), alg: 'PS256' }, refresh } }, /keys\.access: its alg is not RS256/],
    ['alg HS256 in an EC key', { algorithm: 'ES256', keys: { access: { ...es, alg: 'HS256' }, refresh } }, /its alg is not ES256/],
    ['use enc', { algorithm: 'ES256', keys: { access: { ...es, use: 'enc' }, refresh } }, /its use is not sig/],
    ['key_ops to verify alone', { algorithm: 'ES256', keys: { access: { ...es, key_ops: ['verify'] }, refresh } }, /key_ops/],
    ['key_ops that encrypt too', { algorithm: 'ES256', keys: { access: { ...es, key_ops: ['sign', 'deriveKey'] }, refresh } }, /key_ops/],
    ['key_ops that are no list', { algorithm: 'ES256', keys: { access: { ...es, key_ops: 'sign' }, refresh } }, /key_ops/],
    ['a public key that may only sign', { algorithm: 'ES256', keys: { access: [es, { ...foreign, key_ops: ['sign'] }], refresh } }, /key_ops/],
    ['a kid that is no text', { algorithm: 'ES256', keys: { access: { ...es, kid: 7 }, refresh } }, /kid: must be a text/],
    ['an empty kid', { algorithm: 'ES256', keys: { access: { ...es, kid: '' }, refresh } }, /kid/],
    ['a kid of 201 characters', { algorithm: 'ES256', keys: { access: { ...es, kid: 'x'.repeat(201) }, refresh } }, /kid/],
    ['one kid for two keys', { algorithm: 'ES256', keys: { access: [{ ...es, kid: 'a' }, { ...foreign, kid: 'a' }], refresh } }, /two keys have the same kid/],
    ['a public key in front', { algorithm: 'ES256', keys: { access: [foreign, es], refresh } }, /first key signs/],
    ['a public PEM in front', { algorithm: 'ES256', keys: { access: pemOf(pairs.ES256).public, refresh } }, /first key signs/],
    ['a public half of another key', { algorithm: 'ES256', keys: { access: { ...es, x: foreign.x, y: foreign.y }, refresh } }, /not a pair|no JWK/],
    ['halves of two kinds', { algorithm: 'ES256', keys: { access: { private: pemOf(pairs.EdDSA).private, public: pemOf(pairs.ES256).public }, refresh } }, /not a pair/],
    ['P-384', { algorithm: 'ES256', keys: { access: p384, refresh } }, /P-256/],
    ['an OKP key for ES256', { algorithm: 'ES256', keys: { access: privateJwk('EdDSA'), refresh } }, /P-256/],
    ['an X25519 key for EdDSA', { algorithm: 'EdDSA', keys: { access: generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' }), refresh } }, /Ed25519/],
    ['an Ed448 key for EdDSA', { algorithm: 'EdDSA', keys: { access: generateKeyPairSync('ed448').privateKey.export({ format: 'jwk' }), refresh } }, /Ed25519/],
    ['RSA of 1024 bits', { algorithm: 'RS256', keys: { access: generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey.export({ format: 'jwk' }), refresh } }, /2048 bits/],
    ['RSA with the exponent 3', { algorithm: 'RS256', keys: { access: generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 }).privateKey.export({ format: 'jwk' }), refresh } }, /exponent/],
    ['an RSA-PSS key for RS256', { algorithm: 'RS256', keys: { access: { private: createPrivateKey(generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).privateKey.export({ format: 'pem', type: 'pkcs8' })).export({ format: 'pem', type: 'pkcs8' }).toString() }, refresh } }, /RSA key/],
    ['no JWK at all', { algorithm: 'ES256', keys: { access: { kty: 'EC', crv: 'P-256', x: 'x' }, refresh } }, /no JWK/],
    ['an empty set', { algorithm: 'ES256', keys: { access: { keys: [] }, refresh } }, /must hold a key/],
    ['an oct JWK for ES256', { algorithm: 'ES256', keys: { access: oct(32), refresh } }, /no JWK that can be read for ES256/],
    ['an EC JWK for HS256', { keys: { access: es, refresh } }, /oct JWK/],
    ['an oct JWK of 31 bytes', { keys: { access: oct(31), refresh } }, /at least 32 bytes/],
    ['an oct JWK in standard base64', { keys: { access: { kty: 'oct', k: Buffer.alloc(33, 0xff).toString('base64') }, refresh } }, /oct JWK/],
    ['an oct JWK for HS512', { keys: { access: oct(64, { alg: 'HS512' }), refresh } }, /its alg is not HS256/],
    ['an oct JWK that encrypts', { keys: { access: oct(32, { use: 'enc' }), refresh } }, /its use is not sig/],
    ['an oct JWK in front that may only verify', { keys: { access: oct(32, { key_ops: ['verify'] }), refresh } }, /key_ops/],
    ['an EC JWK to refresh', { algorithm: 'ES256', keys: { access: es, refresh: privateJwk('ES256', others) } }, /keys\.refresh: must be a Buffer/],
  ] as [string, Partial<TokensOptions>, RegExp][]) {
    const error = await build(t, options).then(() => null, (error: Error & { code: string }) => error)
    t.match(error, { code: 'FST_BASTION_TOKENS_MISCONFIGURED', message }, name)
    for (const part of [es.d!, refresh.toString('base64url')]) t.notMatch(error?.message, part, 'no part of a key')
  }

  t.test('negative control: the official plugin takes a public key for a secret of HS256', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(jwt, { secret: Buffer.from(pemOf(pairs.ES256).public), sign: { algorithm: 'HS256' }, verify: { algorithms: ['HS256'] } })
    await app.ready()
    t.ok(app.jwt.verify(app.jwt.sign({ sub: 'ada' })))
  })
})
