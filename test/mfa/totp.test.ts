/** Codes of authenticators: those of the standard, in their time, once; and what is shown to enrol one. */
import crypto, { createHash } from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import { Secret } from 'otpauth'
import decodeQr from 'qr/decode.js'
import t from 'tap'
import { newRecoveryCodes, plainCode } from '../../plugins/mfa/recovery.js'
import { describeTotp, newSecret, stepOf } from '../../plugins/mfa/totp.js'
import type { State } from '../../plugins/state/index.js'
import { makeLinks } from '../../plugins/tokens/links.js'
import { build, STEP } from './build.js'

const refused = { code: 'FST_BASTION_MFA_REFUSED', statusCode: 401 }

t.test('the test vectors of RFC 6238 (appendix B, SHA-1), in their last six digits', async t => {
  const secret = Buffer.from('12345678901234567890')
  for (const [seconds, code] of [[59, '94287082'], [1111111109, '07081804'], [1111111111, '14050471'], [1234567890, '89005924'], [2000000000, '69279037'], [20000000000, '65353130']] as const) {
    const step = Math.floor(seconds / 30)
    t.equal(stepOf(secret, code.slice(2), seconds * 1000, 0), step, String(seconds))
    t.equal(stepOf(secret, code.slice(2), step * STEP, 0), step, 'from the first millisecond of the step')
    t.equal(stepOf(secret, code.slice(2), step * STEP + STEP - 1, 0), step, 'to its last')
    t.equal(stepOf(secret, code.slice(2), (step + 1) * STEP, 0), null)
    t.equal(stepOf(secret, code.slice(2), (step + 1) * STEP, 1), step, 'a step later by drift')
    t.equal(stepOf(secret, code.slice(2), (step - 1) * STEP, 1), step, 'a step earlier too')
    t.equal(stepOf(secret, code.slice(2), (step + 2) * STEP, 1), null)
  }
  for (const code of ['', '28708', '2870820', '94287082', '２８７０８２', 'abcdef']) t.equal(stepOf(secret, code, 59_000, 1), null, code)
})

t.test('a code is good in its own thirty seconds and in those before and after, or as `drift` says [ASVS 6.5.5]', async t => {
  for (const [drift, accepted] of [[undefined, [-1, 0, 1]], [0, [0]], [2, [-2, -1, 0, 1, 2]]] as const) {
    const { app, codeOf, enrolled } = await build(t, { ...drift !== undefined && { drift }, attempts: 100 })
    for (const steps of [-3, -2, -1, 0, 1, 2, 3]) {
      const { id, secret } = await enrolled()
      const verified = app.mfa.verify(id, codeOf(secret, steps))
      if ((accepted as readonly number[]).includes(steps)) t.equal(await verified, 'totp', `drift ${drift}, ${steps} steps`)
      else await t.rejects(verified, refused, `drift ${drift}, ${steps} steps`)
    }
  }
})

t.test('with `drift: 0` a code is good for its thirty seconds, and a link of ten minutes for these [ASVS 6.5.5]', async t => {
  const lifetimeOf = async (drift: 0 | 1) => {
    const { app, clock, codeOf, enrolled } = await build(t, { drift })
    const { id, secret } = await enrolled()
    const step = Math.ceil(clock.ms / STEP) * STEP
    const seen = []
    for (const ms of [-1, 0, STEP - 1, STEP]) {
      clock.ms = step
      const code = codeOf(secret, seen.length * 10)
      clock.ms = step + seen.length * 10 * STEP + ms
      seen.push(await app.mfa.verify(id, code).then(() => ms, () => null))
    }
    return seen.filter(ms => ms !== null)
  }
  t.same(await lifetimeOf(0), [0, STEP - 1])
  t.same(await lifetimeOf(1), [-1, 0, STEP - 1, STEP], 'negative control: with `drift: 1` the same code is taken a step before and after')

  let seconds = 1_700_000_000
  const links = makeLinks(() => secrets, { claim: async () => true } as unknown as State, () => seconds)
  const [short, long] = [links.issue({ purpose: 'sign-in', subject: 'ada', lifetime: 600 }), links.issue({ purpose: 'sign-in', subject: 'ada' })]
  seconds += 599
  t.equal(await links.read('sign-in', short), 'ada')
  seconds += 1
  await t.rejects(links.redeem('sign-in', short), { code: 'FST_BASTION_TOKENS_LINK_INVALID' })
  t.equal(await links.redeem('sign-in', long), 'ada', 'negative control: one without such a lifetime is good after ten minutes')
})

t.test('a code may be typed as apps show it, with a blank', async t => {
  const { app, codeOf, enrolled } = await build(t)
  const { id, secret } = await enrolled()
  const code = codeOf(secret)
  t.equal(await app.mfa.verify(id, ` ${code.slice(0, 3)} ${code.slice(3)}`), 'totp')
})

t.test('what is no code is wrong, and nothing breaks', async t => {
  const { app, enrolled } = await build(t, { attempts: 100 })
  const { id } = await enrolled()
  for (const code of ['', ' ', '12345', '1234567', '１２３４５６', "' or 1=1 --", '\0\0\0\0\0\0', '0x1234', '1e5', '-12345', 'Z'.repeat(24), 'U'.repeat(24), '-'.repeat(10_000)]) {
    await t.rejects(app.mfa.verify(id, code), refused, JSON.stringify(code.slice(0, 30)))
  }
})

t.test('secrets are 160 random bits [ASVS 6.5.3]', async t => {
  const { app } = await build(t)
  const secrets = await Promise.all(Array.from({ length: 200 }, (_none, i) => app.mfa.enroll({ id: `u${i}`, name: 'ada' })))
  t.equal(new Set(secrets.map(({ secret }) => secret)).size, 200)
  for (const { secret } of secrets) t.equal(Secret.fromBase32(secret).bytes.length, 20)
})

t.test('seeds, recovery codes and links are made of bytes of the cryptographic generator, 120 bits of them at least, and do not follow Math.random or the clock [ASVS 6.5.3, 6.5.4]', t => {
  const links = makeLinks(() => secrets, {} as State, () => 1_700_000_000)
  const nonceOf = (link: string) => (JSON.parse(Buffer.from(link.split('.')[0]!, 'base64url').toString()) as string[])[3]!
  const make = () => ({ seed: newSecret().toString('hex'), codes: newRecoveryCodes(), nonce: nonceOf(links.issue({ purpose: 'reset', subject: 'ada' })) })
  const naive = () => Math.random().toString(36).slice(2, 10)

  const [one, two] = [foreseen(make), foreseen(make)]
  t.not(one.seed, two.seed)
  t.not(one.nonce, two.nonce)
  t.equal(new Set([...one.codes, ...two.codes]).size, 20)
  t.equal(foreseen(naive), foreseen(naive), 'negative control: who knows the state of Math.random foretells what was made by it')

  const given: Buffer[] = []
  const { seed, codes, nonce } = generating(given, make)
  t.equal(seed, given[0]!.toString('hex'))
  t.same(codes.map(plainCode), given.slice(1, 11).map(crockford), 'each bit of a code is one of the generator')
  t.equal(nonce, given[11]!.toString('base64url'))
  t.same(given.map(bytes => bytes.length * 8), [160, ...Array<number>(10).fill(120), 128])
  t.end()
})

t.test('who tries codes meets none of ten recovery codes [ASVS 6.5.4]', t => {
  const ours = new Set(newRecoveryCodes().map(plainCode))
  const all = Array.from({ length: 10_000 }, (_none, i) => String(i).padStart(4, '0'))
  t.notOk(all.some(code => ours.has(plainCode(code))), 'those of four digits')
  t.notOk(all.some(code => ours.has(code.padStart(24, '0'))), 'nor those with as many letters as ours')
  t.notOk(Array.from({ length: 300 }, newRecoveryCodes).flat().some(code => ours.has(plainCode(code))), 'nor three thousand others of the same kind')
  const short = new Set(Array.from({ length: 10 }, () => String(crypto.randomInt(10_000)).padStart(4, '0')))
  t.same(new Set(all.filter(code => short.has(code))), short, 'negative control: codes of four digits are met, all of them')
  t.end()
})

t.test('the URL is that of the Key URI format, whatever the name is', async t => {
  const secret = Buffer.from('12345678901234567890')
  t.equal(describeTotp(secret, 'Shop & Co', 'ada').otpauthUrl,
    'otpauth://totp/Shop%20%26%20Co:ada?issuer=Shop%20%26%20Co&secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&algorithm=SHA1&digits=6&period=30')
  const odd = describeTotp(secret, 'Shop', 'a?secret=AAAA&issuer=Bank#"><script>').otpauthUrl
  t.equal(new URL(odd).searchParams.get('issuer'), 'Shop')
  t.equal(new URL(odd).searchParams.getAll('secret').length, 1)
})

t.test('the QR code reads as that URL, dark on light, and holds no text', async t => {
  for (const name of ['a', 'ada@example.com', 'x'.repeat(200), '漢字 😀', '"><script>alert(1)</script>']) {
    const { otpauthUrl, qr } = describeTotp(Buffer.from('12345678901234567890'), 'Shop', name)
    t.equal(decodeQr(imageOf(qr)), otpauthUrl, name.slice(0, 30))
    t.match(qr, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" viewBox="0 0 \d+ \d+" shape-rendering="crispEdges" role="img" aria-label="QR code"><path fill="#fff" d="[MHhVvz\d ]+"\/><path stroke="#000" d="[Mh\d. ]+"\/><\/svg>$/)
  }
})

const secrets = [Buffer.from('a key of links that is long enough')]

/** What is made while Math.random and the clock are the attacker's. */
function foreseen<Made> (make: () => Made): Made {
  const { random } = Math
  const { now } = Date
  let state = 7
  try {
    Math.random = () => (state = state * 48_271 % 2_147_483_647) / 2_147_483_647
    Date.now = () => 1_700_000_000_000
    return make()
  } finally {
    Math.random = random
    Date.now = now
  }
}

/** What is made while the generator gives known bytes, which it keeps in `given`. */
function generating<Made> (given: Buffer[], make: () => Made): Made {
  const { randomBytes } = crypto
  try {
    crypto.randomBytes = ((size: number) => {
      const bytes = createHash('sha512').update(String(given.length)).digest().subarray(0, size)
      given.push(bytes)
      return bytes
    }) as typeof randomBytes
    syncBuiltinESMExports()
    return make()
  } finally {
    crypto.randomBytes = randomBytes
    syncBuiltinESMExports()
  }
}

/** In Crockford's base 32, by arithmetic. */
function crockford (bytes: Buffer): string {
  let [rest, letters] = [BigInt(`0x${bytes.toString('hex')}`), '']
  for (let i = 0; i < bytes.length * 8 / 5; i++, rest >>= 5n) letters = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'[Number(rest & 31n)]! + letters
  return letters
}

/** The SVG as a screen shows it. */
function imageOf (svg: string): { width: number, height: number, data: Uint8Array } {
  const scale = 4
  const size = Number(/viewBox="0 0 (\d+)/.exec(svg)![1]) * scale
  const data = new Uint8Array(size * size * 4).fill(255)
  for (const [, x, y, run] of svg.matchAll(/M(\d+) (\d+)\.5h(\d+)/g)) {
    for (let row = Number(y) * scale; row < (Number(y) + 1) * scale; row++) {
      for (let column = Number(x) * scale; column < (Number(x) + Number(run)) * scale; column++) data.fill(0, (row * size + column) * 4, (row * size + column) * 4 + 3)
    }
  }
  return { width: size, height: size, data }
}
