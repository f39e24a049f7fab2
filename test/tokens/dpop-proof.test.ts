/** Proofs of possession, each fault by itself; made with jose. What only checks the signature would take them all. */
import { createHash, generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto'
import { calculateJwkThumbprint, EmbeddedJWK, exportJWK, jwtVerify, SignJWT, UnsecuredJWT, type JWK, type JWTHeaderParameters } from 'jose'
import t from 'tap'
import { PROOF_ALGORITHMS } from '../../plugins/tokens/dpop/jwk.js'
import { makeNonces } from '../../plugins/tokens/dpop/nonces.js'
import { proofReader, type ProofTerms } from '../../plugins/tokens/dpop/proof.js'
import { namesTarget, originOf } from '../../plugins/tokens/dpop/target.js'

type Json = Record<string, unknown>

const TIME = 1_700_000_000
const TOKEN = 'an.access.token'
const ath = createHash('sha256').update(TOKEN).digest('base64url')
const CLAIMS = { jti: 'once', htm: 'POST', htu: 'https://api.test/orders', iat: TIME, ath }
const TERMS: ProofTerms = { method: 'POST', origin: 'https://api.test', target: '/orders?page=2', accessToken: TOKEN }

const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ed = generateKeyPairSync('ed25519')
const KEYS: Record<string, { privateKey: KeyObject, publicKey: KeyObject }> = { ES256: ec, EdDSA: ed, Ed25519: ed, RS256: rsa, PS256: rsa }

const read = proofReader({ algorithms: PROOF_ALGORITHMS, maxAge: 60, clockTolerance: 5, seconds: () => TIME })
const jwkOf = ({ publicKey }: { publicKey: KeyObject }) => exportJWK(publicKey)

async function prove (claims: Json = {}, header: Json = {}, key: KeyObject | Uint8Array = ec.privateKey): Promise<string> {
  const all = { typ: 'dpop+jwt', alg: 'ES256', jwk: await jwkOf(ec), ...header } as JWTHeaderParameters
  return new SignJWT({ ...CLAIMS, ...claims }).setProtectedHeader(all).sign(key)
}

/** What a server takes that checks the signature and the type, and nothing else. */
async function isSigned (proof: string): Promise<boolean> {
  return jwtVerify(proof, EmbeddedJWK, { typ: 'dpop+jwt', currentDate: new Date(TIME * 1000) }).then(() => true, () => false)
}

t.test('a proof by each algorithm is good, and names its key as jose does', async t => {
  for (const alg of PROOF_ALGORITHMS) {
    const jwk = await jwkOf(KEYS[alg]!)
    const proof = await prove({}, { alg, jwk }, KEYS[alg]!.privateKey)
    const expected = { jkt: await calculateJwkThumbprint(jwk), jti: 'once' }
    t.match(read(proof, TERMS), expected, alg)
    t.match(read(proof, { ...TERMS, jkt: expected.jkt }), expected, 'again, now that its key is remembered')
  }
})

t.test('the proof that RFC 9449 shows is good, and its key has the thumbprint that it says', async t => {
  const proof = 'eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19' +
    '.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ' +
    '.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg'
  const then = proofReader({ algorithms: ['ES256'], maxAge: 60, clockTolerance: 5, seconds: () => 1_562_262_616 })
  t.match(then(proof, { method: 'POST', origin: 'https://server.example.com', target: '/token' }), { jkt: '0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I' })
})

t.test('claims that are for something else are refused, which a check of the signature alone takes', async t => {
  const faults: Record<string, [Json, string]> = {
    'no jti': [{ jti: undefined }, 'jti'],
    'an empty jti': [{ jti: '' }, 'jti'],
    'a jti that is a number': [{ jti: 7 }, 'jti'],
    'a jti of 257 characters': [{ jti: 'x'.repeat(257) }, 'jti'],
    'another method': [{ htm: 'GET' }, 'method'],
    'the method in lower case': [{ htm: 'post' }, 'method'],
    'no method': [{ htm: undefined }, 'method'],
    'another host': [{ htu: 'https://evil.test/orders' }, 'URL'],
    'another path': [{ htu: 'https://api.test/orders/1' }, 'URL'],
    'another scheme': [{ htu: 'http://api.test/orders' }, 'URL'],
    'another port': [{ htu: 'https://api.test:8443/orders' }, 'URL'],
    'a path alone': [{ htu: '/orders' }, 'URL'],
    'no URL': [{ htu: undefined }, 'URL'],
    'several URLs': [{ htu: ['https://api.test/orders'] }, 'URL'],
    'a time 61 s ago': [{ iat: TIME - 61 }, 'old'],
    'a time 6 s ahead': [{ iat: TIME + 6 }, 'future'],
    'no time': [{ iat: undefined }, 'old'],
    'a time that is a text': [{ iat: String(TIME) }, 'old'],
    'an end that is past': [{ exp: TIME - 5 }, 'expired'],
    'an end that is a text': [{ exp: 'never' }, 'expired'],
    'a beginning that lies ahead': [{ nbf: TIME + 6 }, 'not good yet'],
    'no hash of the token': [{ ath: undefined }, 'access token'],
    'the hash of another token': [{ ath: createHash('sha256').update('other').digest('base64url') }, 'access token'],
    'the token itself for its hash': [{ ath: TOKEN }, 'access token'],
  }
  for (const [name, [claims, expected]] of Object.entries(faults)) {
    const proof = await prove(claims)
    t.match(read(proof, TERMS), { fault: new RegExp(expected) }, name)
    if (!name.startsWith('a time that is') && !/^an end|^a beginning/.test(name)) t.ok(await isSigned(proof), `${name}: its signature is right`)
  }
  for (const iat of [TIME - 60, TIME + 5, TIME - 0.5]) t.hasProp(read(await prove({ iat }), TERMS), 'jkt', `within its time: ${iat - TIME}`)
  t.hasProp(read(await prove({ ath: undefined }), { ...TERMS, accessToken: undefined }), 'jkt', 'where no token comes with it, none has to be named')
})

t.test('another key than that of the token is refused before its signature is looked at', async t => {
  const jkt = await calculateJwkThumbprint(await jwkOf(ec))
  t.match(read(await prove({}, { alg: 'EdDSA', jwk: await jwkOf(ed) }, ed.privateKey), { ...TERMS, jkt }), { fault: 'is by another key' })
  t.match(read(await prove({}, {}, generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey), { ...TERMS, jkt }), { fault: 'signature is wrong' }, 'nor helps it to show the key of somebody else')
})

t.test('headers that are none of a proof are refused', async t => {
  const jwk = await jwkOf(ec)
  const secret = randomBytes(32)
  const small = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
  const x25519 = generateKeyPairSync('x25519')
  const odd = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 })
  const raw = (header: Json, claims: Json = CLAIMS, signature = 'AAAA') => `${Buffer.from(JSON.stringify(header)).toString('base64url')}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.${signature}`
  const base = { typ: 'dpop+jwt', alg: 'ES256', jwk }
  const faults: Record<string, [string, RegExp]> = {
    'typ of an access token': [await prove({}, { typ: 'at+jwt' }), /typ/],
    'typ JWT': [await prove({}, { typ: 'JWT' }), /typ/],
    'no typ': [await prove({}, { typ: undefined }), /typ/],
    'alg none': [new UnsecuredJWT(CLAIMS).encode(), /JWS/],
    'alg none with a signature': [raw({ ...base, alg: 'none' }), /alg/],
    'alg HS256 by the key it shows': [await prove({}, { alg: 'HS256', jwk: { kty: 'oct', k: secret.toString('base64url') } }, secret), /alg/],
    'alg HS256 by the public key': [await prove({}, { alg: 'HS256' }, ec.publicKey.export({ format: 'der', type: 'spki' })), /alg/],
    'alg of a prototype': [raw({ ...base, alg: 'toString' }), /alg/],
    'alg that is a list': [raw({ ...base, alg: ['ES256'] }), /alg/],
    'a private key': [await prove({}, { jwk: await exportJWK(ec.privateKey) }), /private/],
    'a private RSA key': [await prove({}, { alg: 'RS256', jwk: await exportJWK(rsa.privateKey) }, rsa.privateKey), /private/],
    'no key': [await prove({}, { jwk: undefined }), /jwk/],
    'a list of keys': [raw({ ...base, jwk: [jwk] }), /jwk/],
    'a key off its curve': [raw({ ...base, jwk: { ...jwk, y: jwk.x } }), /key/],
    'a key without a half': [raw({ ...base, jwk: { ...jwk, y: undefined } }), /key/],
    'a key of another curve': [raw({ ...base, jwk: await jwkOf(p384) }), /P-256/],
    'a key of another kind': [raw({ ...base, jwk: await jwkOf(rsa) }), /P-256/],
    'a key for agreement': [raw({ ...base, alg: 'EdDSA', jwk: await jwkOf(x25519) }), /Ed25519/],
    'a key that is meant to encrypt': [raw({ ...base, jwk: { ...jwk, use: 'enc' } }), /meant/],
    'a key that is meant to sign alone': [raw({ ...base, jwk: { ...jwk, key_ops: ['sign'] } }), /meant/],
    'a key of another algorithm': [raw({ ...base, jwk: { ...jwk, alg: 'ES384' } }), /meant/],
    'RSA of 1024 bits': [raw({ ...base, alg: 'RS256', jwk: await jwkOf(small) }), /2048/],
    'RSA with the exponent 3': [await prove({}, { alg: 'RS256', jwk: await jwkOf(odd) }, odd.privateKey), /RSA|exponent/],
    crit: [raw({ ...base, crit: ['b64'], b64: true }), /parameter/],
    'a URL of keys': [await prove({}, { jku: 'https://evil.test/keys' }), /parameter/],
    'a certificate': [await prove({}, { x5c: ['AAAA'] }), /parameter/],
    compression: [raw({ ...base, zip: 'DEF' }), /parameter/],
  }
  for (const [name, [proof, expected]] of Object.entries(faults)) t.match(read(proof, TERMS), { fault: expected }, name)
  t.hasProp(read(await prove({}, { kid: 'mine' }), TERMS), 'jkt', 'a parameter that means nothing here is ignored (RFC 7515, 4)')
  t.hasProp(read(await prove({}, { jwk: { ...jwk, alg: 'ES256', use: 'sig', key_ops: ['verify'], ext: true } }), TERMS), 'jkt', 'what a browser says of its key is understood')
  const only = proofReader({ algorithms: ['ES256'], maxAge: 60, clockTolerance: 5, seconds: () => TIME })
  t.match(only(await prove({}, { alg: 'EdDSA', jwk: await jwkOf(ed) }, ed.privateKey), TERMS), { fault: /alg/ }, 'what is not in the list of algorithms')
})

t.test('texts that are no proof are refused', async t => {
  const proof = await prove()
  const [header, body, signature] = proof.split('.') as [string, string, string]
  // The last character of a signature of 64 bytes carries two bits: the other four are for nothing.
  const twin = `${signature.slice(0, -1)}${String.fromCharCode(signature.charCodeAt(signature.length - 1) + 1)}`
  t.same(Buffer.from(twin, 'base64url'), Buffer.from(signature, 'base64url'), 'two texts of one signature')
  for (const [name, text] of Object.entries({
    'two fields in one': `${proof}, ${proof}`,
    'two fields in one, without a blank': `${proof},${proof}`,
    nothing: '',
    'a blank before': ` ${proof}`,
    'two parts': `${header}.${body}`,
    'four parts': `${proof}.x`,
    'five parts': `${proof}.x.y`,
    padding: `${header}.${body}.${signature}==`,
    'another text of its signature': `${header}.${body}.${twin}`,
    'a signature in DER': `${header}.${body}.${Buffer.concat([Buffer.from([0x30, 0x44]), randomBytes(68)]).toString('base64url')}`,
    'no signature': `${header}.${body}.`,
    'a header that is no object': `${Buffer.from('[]').toString('base64url')}.${body}.${signature}`,
    'a header that is no JSON': `AAAA.${body}.${signature}`,
    'claims that are null': `${header}.${Buffer.from('null').toString('base64url')}.${signature}`,
    'more than 4 KB': await prove({ more: 'x'.repeat(3500) }),
  })) t.hasProp(read(text, TERMS), 'fault', name)
  t.hasProp(read(await prove({ more: 'x'.repeat(1000) }), TERMS), 'jkt', 'a long one')
  t.hasProp(read(proof, TERMS), 'jkt', 'and this is a good one')
})

t.test('a URL is compared as RFC 3986 (6.2.2, 6.2.3) has it', async t => {
  const origin = originOf('https://api.test')!
  const path = '/a%2fb/%C3%A9/c~d'
  for (const same of [
    'https://api.test/a%2fb/%C3%A9/c~d', 'https://API.test/a%2fb/%C3%A9/c~d', 'HTTPS://api.test/a%2fb/%C3%A9/c~d', 'https://api.test:443/a%2fb/%C3%A9/c~d',
    'https://api.test/a%2Fb/%c3%a9/c%7Ed', 'https://api.test/%61%2fb/%C3%A9/c~d', 'https://api.test/x/../a%2fb/./%C3%A9/c~d', 'https://api.test/%2e/a%2fb/%C3%A9/c~d',
    'https://api.test/a%2fb/%C3%A9/c~d?page=1', 'https://api.test/a%2fb/%C3%A9/c~d#top',
  ]) t.ok(namesTarget(same, origin, `${path}?page=2`), same)
  for (const other of [
    'https://api.test/a/b/%C3%A9/c~d', 'https://api.test/a%252fb/%C3%A9/c~d', 'https://api.test/A%2fb/%C3%A9/c~d', 'https://api.test/a%2fb/%C3%A9/c~d/', 'https://api.test//a%2fb/%C3%A9/c~d',
    'https://api.test.evil.test/a%2fb/%C3%A9/c~d', 'https://api.test@evil.test/a%2fb/%C3%A9/c~d', 'https://ada@api.test/a%2fb/%C3%A9/c~d', 'https://:x@api.test/a%2fb/%C3%A9/c~d',
    'https:\\\\api.test/a%2fb/%C3%A9/c~d', 'https:/api.test/a%2fb/%C3%A9/c~d', ' https://api.test/a%2fb/%C3%A9/c~d', 'https://api.test/a%2f\tb/%C3%A9/c~d', 'https://api.test/a%2fb/é/c~d',
    'file://api.test/a%2fb/%C3%A9/c~d', 'api.test/a%2fb/%C3%A9/c~d', 'https://', 'https://api.test:99999/a%2fb/%C3%A9/c~d', '',
  ]) t.notOk(namesTarget(other, origin, path), other)
  t.ok(namesTarget('https://api.test', origin, '/'), 'no path is the root')
  t.ok(namesTarget('https://api.test', origin, 'https://api.test?x'), 'also in a target of absolute form')
  t.ok(namesTarget('https://api.test/a', origin, 'https://api.test/a?b'))
  t.ok(namesTarget('https://[::1]:8443/a', originOf('https://[0:0:0:0:0:0:0:1]:8443')!, '/a'), 'an address is one, however it is spelled')
  t.notOk(namesTarget('https://api.test/b', origin, '/a/../b'), 'a target with dot segments is another resource to the router')
  t.notOk(namesTarget('https://api.test/evil.test/a', origin, '//evil.test/a'), 'a target that looks like an authority is a path')
  t.equal(originOf('https://api.test:443/x'), 'https://api.test')
  for (const none of ['', 'api.test', 'javascript:1', 'https://a b', 'https://[::1']) t.equal(originOf(none), null, none)
})

t.test('nonces are made of a secret and the time, and are good for two periods', async t => {
  let time = 1_700_000_040
  let secrets = [randomBytes(32)]
  const nonces = makeNonces(() => secrets, () => time)
  const first = nonces.current()
  t.match(first, /^[\w-]{22}$/)
  t.ok(nonces.accepted().includes(first))
  time += 120
  const second = nonces.current()
  t.not(second, first)
  t.ok(nonces.accepted().includes(first), 'that of the period before')
  time += 120
  t.notOk(nonces.accepted().includes(first))
  t.ok(nonces.accepted().includes(second))
  const ahead = makeNonces(() => secrets, () => time + 120)
  t.ok(nonces.accepted().includes(ahead.current()), 'that of a process whose clock is ahead')
  const other = makeNonces(() => [randomBytes(32)], () => time)
  t.notOk(nonces.accepted().includes(other.current()), 'none of another secret')
  const old = nonces.current()
  secrets = [randomBytes(32), ...secrets]
  t.not(nonces.current(), old, 'the secret that was put in front makes them at once')
  t.ok(nonces.accepted().includes(old), 'and those of the one behind it are good')
  t.match(read(await prove({ nonce: 'x' }), { ...TERMS, nonces: nonces.accepted() }), { fault: /nonce/, wantsNonce: true })
  t.match(read(await prove({}), { ...TERMS, nonces: nonces.accepted() }), { wantsNonce: true })
  t.match(read(await prove({ nonce: [nonces.current()] }), { ...TERMS, nonces: nonces.accepted() }), { wantsNonce: true })
  t.match(read(await prove({ nonce: nonces.current() }), { ...TERMS, nonces: nonces.accepted() }), { nonce: nonces.current() })
})

t.test('a key is remembered by the whole header: a twin of it is another one', async t => {
  const reader = proofReader({ algorithms: ['ES256'], maxAge: 60, clockTolerance: 5, seconds: () => TIME })
  const others = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const good = await prove()
  t.hasProp(reader(good, TERMS), 'jkt')
  const theirs = await prove({}, { jwk: await jwkOf(others) as JWK }, others.privateKey)
  t.match(reader(theirs, TERMS), { jkt: await calculateJwkThumbprint(await jwkOf(others)) })
  const [header] = good.split('.')
  t.match(reader([header, ...theirs.split('.').slice(1)].join('.'), TERMS), { fault: 'signature is wrong' })
})
