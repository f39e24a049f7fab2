/** Wrong signatures without pause: the address is cut, and nobody else pays for it. */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import t from 'tap'
import type { TokensOptions } from '../../plugins/tokens/index.js'
import { build, claimsOf, forge, pemOf, text, type Built } from './build.js'

const GUESSER = '203.0.113.9'
const guessed = { status: 429, code: 'FST_BASTION_TOKENS_GUESSED' }
const invalid = { status: 401, code: 'FST_BASTION_TOKENS_INVALID' }
const PAIRS = {
  rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ed25519: generateKeyPairSync('ed25519'),
  'P-256': generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  'P-384': generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  'P-521': generateKeyPairSync('ec', { namedCurve: 'P-521' }),
}
const FAMILIES = { RS: 'rsa', PS: 'rsa', Ed: 'ed25519' } as const
const CURVES = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' } as const
const BYTES = { rsa: 256, ed25519: 64, 'P-256': 64, 'P-384': 96, 'P-521': 132 } as const

async function ask ({ app }: Built, token: string, remoteAddress = GUESSER, url = '/') {
  const answer = await app.inject({ url, remoteAddress, headers: { authorization: `Bearer ${token}` } })
  return { status: answer.statusCode, code: (answer.json() as { code?: string }).code, retryAfter: answer.headers['retry-after'] }
}

/** So many different tokens that are good but for their signature. */
function wrong (like: string, count: number): string[] {
  const [head, claims, signature] = like.split('.') as [string, string, string]
  return Array.from({ length: count }, () => {
    const bytes = randomBytes(Buffer.from(signature, 'base64url').length)
    bytes[0] = 1 // below every modulus and order
    return `${head}.${claims}.${bytes.toString('base64url')}`
  })
}

/** Signatures that were looked at until now. */
async function signatures ({ app }: Built): Promise<number> {
  return Number(/^bastion_token_signatures_total (\d+)$/m.exec(await app.metrics.text())?.[1] ?? 0)
}

async function inTurn (built: Built, tokens: string[], address?: string) {
  const answers = []
  for (const token of tokens) answers.push(await ask(built, token, address))
  return answers
}

const issue = async ({ app }: Built, id = 'ada') => (await app.tokens.issue({ id, roles: ['user'] })).access_token

for (const algorithm of ['HS256', 'RS256', 'ES256', 'EdDSA'] as const) {
  const pair = { HS256: null, RS256: PAIRS.rsa, ES256: PAIRS['P-256'], EdDSA: PAIRS.ed25519 }[algorithm]
  const options: Partial<TokensOptions> = { algorithm, ...pair !== null && { keys: { access: pemOf(pair), refresh: randomBytes(32) } } }

  t.test(`${algorithm}: after a hundred wrong signatures of an address none of its tokens is looked at [ASVS 2.4.1]`, async t => {
    const built = await build(t, options)
    const token = await issue(built)
    t.match(await inTurn(built, wrong(token, 100)), Array(100).fill(invalid))
    t.equal(await signatures(built), 100)
    const cut = await Promise.all(wrong(token, 40).map(forged => ask(built, forged)))
    t.match(cut, Array(40).fill({ ...guessed, retryAfter: '60' }))
    t.equal(await signatures(built), 100, 'not one more')
    t.same(built.handled, [])
    t.match(await ask(built, wrong(token, 1)[0]!, GUESSER, '/public'), guessed, 'nor where nobody need say who they are')
  })

  t.test(`negative control: ${algorithm}: without guesses each costs a signature`, async t => {
    const built = await build(t, { ...options, guesses: false })
    const answers = await inTurn(built, wrong(await issue(built), 120))
    t.match(answers, Array(120).fill(invalid))
    t.equal(await signatures(built), 120)
  })
}

t.test('tokens of another issuer are guesses too, whatever they are signed with', async t => {
  for (const algorithm of ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'] as const) {
    const kind = CURVES[algorithm as keyof typeof CURVES] ?? FAMILIES[algorithm.slice(0, 2) as keyof typeof FAMILIES]
    const jwk = { ...PAIRS[kind].publicKey.export({ format: 'jwk' }), kid: 'one' }
    const built = await build(t, {
      guesses: 3,
      issuers: [{ issuer: 'https://other.test', audience: 'https://api.test', algorithms: [algorithm], jwks: { keys: [jwk as never] }, principal: ({ sub }) => ({ id: `other:${sub as string}`, roles: ['user'] }) }],
    })
    const time = Math.floor(built.clock.ms / 1000)
    const like = (head: object) => `${text({ alg: algorithm, typ: 'at+jwt', ...head })}.${text({ iss: 'https://other.test', aud: 'https://api.test', sub: 'eve', iat: time, exp: time + 60 })}.${Buffer.alloc(BYTES[kind]).toString('base64url')}`
    t.match(await inTurn(built, wrong(like({ kid: 'unknown' }), 5)), Array(5).fill(invalid), `${algorithm}: a key that nobody knows costs nothing`)
    t.match(await inTurn(built, wrong(like({ kid: 'one' }), 4)), [invalid, invalid, invalid, guessed], algorithm)
    t.equal(await signatures(built), 3, algorithm)
  }
})

t.test('who shares the address gets through who was seen, or signed in here; from elsewhere everybody does', async t => {
  const built = await build(t)
  const seen = await issue(built)
  const unseen = forge(seen, { ...claimsOf(seen), sub: 'ben', jti: 'elsewhere' }, built.keys.access) // signed by another process of this service
  t.match(await ask(built, seen), { status: 200 })
  await inTurn(built, wrong(seen, 101))
  const before = await signatures(built)
  t.match(await ask(built, seen), { status: 200 })
  t.match(await ask(built, await issue(built, 'ben')), { status: 200 }, 'signed in during the flood')
  t.equal(await signatures(built), before, 'and it costs no signature')
  t.match(await ask(built, unseen), guessed, 'what was never seen waits')
  t.match(await ask(built, unseen, '198.51.100.7'), { status: 200 })
  t.equal((await built.app.inject({ url: '/public', remoteAddress: GUESSER })).statusCode, 200, 'who shows no token is not asked')
  built.clock.ms += 60_000
  t.match(await ask(built, unseen), { status: 200 }, 'a minute later all is forgotten')
})

t.test('a token that is known is asked about all the same: what was ended is ended', async t => {
  const built = await build(t)
  const token = await issue(built)
  await built.app.tokens.revokeUser('ada')
  t.match(await ask(built, token), invalid)
  await built.app.tokens.rotate({ access: randomBytes(32), refresh: randomBytes(32) })
  t.match(await ask(built, await issue(built)), { status: 200 })
  t.equal(await signatures(built), 0)
})

t.test('what costs no signature is no guess: none, unknown keys, expired, of others, oversize, garbage', async t => {
  const built = await build(t, { guesses: 1 })
  const token = await issue(built)
  const claims = claimsOf(token)
  const head = { typ: 'at+jwt', kid: 'unknown' }
  const cheap = [
    forge(token, claims, 'x', { alg: 'none', ...head }),
    forge(token, claims, 'x', { alg: 'HS256', ...head }),
    forge(token, { ...claims, exp: 1 }, 'x'),
    forge(token, { ...claims, aud: 'https://other.test' }, 'x'),
    `${token}.${'x'.repeat(5000)}`,
    'x.y.z',
  ]
  for (const one of cheap) t.match(await ask(built, one), invalid, one.slice(0, 60))
  t.equal(await signatures(built), 0)
  t.match(await ask(built, forge(token, claims, 'x')), invalid)
  t.match(await ask(built, cheap[0]!), guessed, 'until there was one')
})

t.test('a flood from many addresses: each has a guess, and all together a hundred a second', async t => {
  const built = await build(t)
  const token = await issue(built)
  const addresses = Array.from({ length: 64 }, (_none, i) => `198.51.100.${i}`)
  const answers = await Promise.all(addresses.flatMap(address => wrong(token, 20).map(forged => ask(built, forged, address))))
  t.ok(await signatures(built) <= 64 + 100, `${await signatures(built)} signatures`)
  t.equal(answers.filter(({ status }) => status === 429).length, 64 * 20 - await signatures(built))
  const unseen = forge(token, { ...claimsOf(token), jti: 'elsewhere' }, built.keys.access)
  t.match(await ask(built, unseen, '192.0.2.1'), { status: 200 }, 'who has not guessed is looked at')
})

t.test('a flood is one event a minute, with how many there were', async t => {
  const built = await build(t, { guesses: 1 })
  await inTurn(built, wrong(await issue(built), 1))
  await Promise.all(wrong(await issue(built), 20).map(forged => ask(built, forged)))
  built.app.events.flush()
  const told = built.recorded.filter(({ type }) => type === 'rate_limited')
  t.same(told.map(({ details }) => details), [{ budget: 'tokens:guesses', limit: 1, times: 1 }, { budget: 'tokens:guesses', limit: 1, times: 19 }])
  t.match(told, [{ address: GUESSER }])
})

t.test('wrong guesses stop boot', async t => {
  for (const guesses of [0, -1, 1.5, true, '30']) await t.rejects(build(t, { guesses: guesses as never }), { code: 'FST_BASTION_TOKENS_MISCONFIGURED', message: /guesses/ })
})
