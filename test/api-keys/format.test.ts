/** The text of a key: one spelling, checkable by everybody, forgeable by nobody. */
import crypto, { createHmac, hkdfSync } from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import { crc32 } from 'node:zlib'
import t from 'tap'
import { isSame, keyFormat } from '../../plugins/api-keys/format.js'
import { typo } from './service.js'

const secret = Buffer.alloc(32, 7)
const format = keyFormat('sk', [secret])
/** What the documentation tells those who look for leaks. */
const SCANNED = /\b[a-z][a-z0-9]{1,15}_(?:live|test)_[0-9A-Za-z]{81}\b/g
const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

/** As a scanner would, from the documentation alone. */
function checksum (text: string): string {
  let number = BigInt(crc32(text))
  let written = ''
  for (let i = 0; i < 6; i++) {
    written = ALPHABET[Number(number % 62n)] + written
    number /= 62n
  }
  return written
}

t.test('a key reads as what it was made', t => {
  for (const mode of ['live', 'test'] as const) {
    const { text, ...made } = format.make(mode)
    t.match(text, new RegExp(`^sk_${mode}_[0-9A-Za-z]{81}$`))
    t.strictSame(format.read(text), made)
    t.equal(format.prefixOf(made), text.slice(0, 24))
    t.equal(made.mode, mode)
  }
  const again = format.make('live', 'A'.repeat(16))
  t.equal(again.id, 'A'.repeat(16))
  t.end()
})

t.test('no two keys are alike, in no part, and their letters are evenly spread', t => {
  const made = Array.from({ length: 2000 }, () => format.make('live'))
  for (const part of [(text: string) => text.slice(8, 24), (text: string) => text.slice(24, 67), (text: string) => text.slice(67, 83)]) t.equal(new Set(made.map(({ text }) => part(text))).size, 2000)
  const counts = new Map<string, number>()
  for (const letter of made.map(({ text }) => text.slice(8, 67)).join('')) counts.set(letter, (counts.get(letter) ?? 0) + 1)
  t.equal(counts.size, 62)
  const mean = 2000 * 59 / 62
  t.ok([...counts.values()].every(count => Math.abs(count - mean) < 6 * Math.sqrt(mean)), 'within six deviations')
  t.ok(Math.log2(62) * 43 >= 256, '43 letters are 256 bits')
  t.end()
})

t.test('a scanner finds leaked keys and tells them from noise offline, by what is documented', t => {
  const { text } = format.make('live')
  const noise = typo(text, 40)
  const found = `KEY=${text}\nother("${noise}") ${text}x`.match(SCANNED)!
  t.strictSame(found, [text, noise])
  t.strictSame(found.map(match => checksum(match.slice(0, -6)) === match.slice(-6)), [true, false])
  t.end()
})

t.test('every typo of one character, and every swap of neighbours, is caught by the checksum', t => {
  const { text } = format.make('live')
  for (let i = 8; i < text.length; i++) {
    t.equal(format.read(typo(text, i)), 'checksum', `at ${i}`)
    if (i + 1 < text.length && text[i] !== text[i + 1]) t.equal(format.read(text.slice(0, i) + text[i + 1]! + text[i]! + text.slice(i + 2)), 'checksum')
  }
  t.end()
})

t.test('what is no key is malformed', t => {
  const { text } = format.make('live')
  for (const junk of ['', 'sk_', 'sk_live_', text.slice(0, -1), `${text}0`, ` ${text}`, `${text}\n`, text.toUpperCase(), text.replace('sk_', 'pk_'), text.replace('live', 'prod'), text.slice(8),
    `${text.slice(0, 20)}-${text.slice(21)}`, `${text.slice(0, 20)}é${text.slice(21)}`, `${text.slice(0, 20)}０${text.slice(21)}`, 'x'.repeat(1_000_000), 'sk_live_'.repeat(1000)]) {
    t.equal(format.read(junk), 'malformed', junk.slice(0, 40))
  }
  t.equal(format.isKey('sk_live_x'), true)
  t.equal(format.isKey('eyJhbGciOiJIUzI1NiJ9.e30.c2ln'), false)
  t.end()
})

t.test('without a key of the service no text passes, whatever its checksum [ASVS 9.1.1]', t => {
  const { text, id } = format.make('live')
  const fix = (body: string) => body + checksum(body)
  const body = text.slice(0, -6)
  for (const [what, forged] of Object.entries({
    'another secret': fix(typo(body, 30)),
    'another id': fix(typo(body, 10)),
    'another tag': fix(typo(body, 70)),
    'a test key made a live one': fix(format.make('test').text.slice(0, -6).replace('test', 'live')),
    'a key of another service': keyFormat('sk', [Buffer.alloc(32, 8)]).make('live', id).text,
    'a key of another prefix': fix(keyFormat('pk', [secret]).make('live').text.slice(0, -6).replace('pk', 'sk')),
  })) t.equal(format.read(forged), 'forged', what)
  t.match(format.read(fix(body)), { id }, 'while the same by hand passes, with nothing changed')
  t.end()
})

t.test('what is kept is a keyed hash: neither the secret nor a plain hash of it, nor the tag', t => {
  const { text, hash } = format.make('live')
  const read = format.read(text)
  t.equal(hash.length, 43)
  t.equal(typeof read === 'object' && read.hash, hash)
  const signed = text.slice(0, -22)
  for (const algorithm of ['sha256', 'sha512']) for (const part of [text, signed, text.slice(24, 67)]) t.not(crypto.createHash(algorithm).update(part).digest('base64url'), hash)
  const key = (purpose: string) => Buffer.from(hkdfSync('sha256', secret, 'fastify-bastion', purpose, 32))
  t.equal(createHmac('sha256', key('api-keys:hash')).update(signed).digest('base64url'), hash, 'HMAC-SHA-256 by a key of its own')
  t.not(createHmac('sha256', key('api-keys:tag')).update(signed).digest('base64url'), hash)
  t.end()
})

t.test('of several secrets the first makes keys, and all read them', t => {
  const old = format.make('live')
  const both = keyFormat('sk', [Buffer.alloc(32, 9), secret])
  const young = both.make('live')
  t.match(both.read(old.text), { id: old.id, hash: old.hash }, 'with the hash that is kept of it')
  t.match(both.read(young.text), { hash: young.hash })
  t.equal(format.read(young.text), 'forged')
  t.equal(keyFormat('sk', [Buffer.alloc(32, 9)]).read(old.text), 'forged', 'once the old one is taken away')
  t.end()
})

t.test('what is secret is compared in constant time', t => {
  const { timingSafeEqual } = crypto
  let compared = 0
  crypto.timingSafeEqual = (one, other) => {
    compared += 1
    return timingSafeEqual(one, other)
  }
  syncBuiltinESMExports()
  t.teardown(() => {
    crypto.timingSafeEqual = timingSafeEqual
    syncBuiltinESMExports()
  })
  const { text } = format.make('live')
  format.read(text)
  t.equal(compared, 1, 'the tag')
  for (const [one, other, same] of [['abc', 'abc', true], ['abc', 'abd', false], ['xbc', 'abc', false]] as const) t.equal(isSame(one, other), same)
  t.equal(compared, 4)
  t.equal(isSame('abc', 'abcd'), false)
  t.end()
})
