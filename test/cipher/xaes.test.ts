/** XAES-256-GCM: the published answers, and WebCrypto's. */
import { createCipheriv, createHash, randomBytes, webcrypto } from 'node:crypto'
import t from 'tap'
import { xaes } from '../../plugins/cipher/xaes.js'
import { xaesByWebCrypto } from './web-crypto.js'

const NONCE = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWX')
const TEXT = 'XAES-256-GCM'

t.test('the known answers of its specification', async t => {
  for (const { key, additional, sealed } of [
    { key: Buffer.alloc(32, 1), additional: '', sealed: 'ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271' },
    { key: Buffer.alloc(32, 3), additional: 'c2sp.org/XAES-256-GCM', sealed: '986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d' },
  ]) {
    const aead = xaes(key)
    t.equal(aead.seal(NONCE, TEXT, Buffer.from(additional)).toString('hex'), sealed)
    t.equal(aead.open(NONCE, Buffer.from(sealed, 'hex'), Buffer.from(additional)).toString(), TEXT)
    t.equal((await xaesByWebCrypto(key, NONCE, Buffer.from(TEXT), Buffer.from(additional))).toString('hex'), sealed, 'and WebCrypto says the same')
  }
})

t.test('the hash of its 10 000 answers to a deterministic stream', async t => {
  // Keys, nonces, texts and additional data are what SHAKE-128 of nothing gives; the answers go into another SHAKE-128.
  const stream = createHash('shake128', { outputLength: 10_000 * (32 + 24 + 256 + 256) }).digest()
  t.equal(stream.subarray(0, 16).toString('hex'), '7f9c2ba4e88f827d616045507605853e')
  let at = 0
  const take = (length: number) => {
    at += length
    return stream.subarray(at - length, at)
  }
  const all = createHash('shake128', { outputLength: 32 })
  for (let i = 0; i < 10_000; i++) {
    const [key, nonce] = [take(32), take(24)]
    const text = take(take(1)[0]!)
    const additional = take(take(1)[0]!)
    const aead = xaes(key)
    const sealed = aead.seal(nonce, text, additional)
    if (!aead.open(nonce, sealed, additional).equals(text)) t.fail(`message ${i} does not come back`)
    all.update(sealed)
  }
  t.equal(all.digest('hex'), 'e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939')
})

t.test('one key at work answers as WebCrypto does, whatever came before', async t => {
  const key = randomBytes(32)
  const aead = xaes(key)
  for (const length of [0, 1, 15, 16, 17, 31, 32, 33, 1000, 65_537]) {
    const [nonce, text, additional] = [randomBytes(24), randomBytes(length), randomBytes(length % 77)]
    const sealed = aead.seal(nonce, text, additional)
    t.ok((await xaesByWebCrypto(key, nonce, text, additional)).equals(sealed), `${length} bytes`)
    t.equal(sealed.length, length + 16)
    t.ok(aead.open(nonce, sealed, additional).equals(text))
  }
})

t.test('each of its parts is authenticated, to the bit', async t => {
  const aead = xaes(randomBytes(32))
  const additional = Buffer.from('place')
  const sealed = aead.seal(NONCE, TEXT, additional)
  const parts: Record<'nonce' | 'sealed' | 'additional', Buffer> = { nonce: NONCE, sealed, additional }
  for (const [name, bytes] of Object.entries(parts)) {
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      const { nonce, sealed: text, additional: more } = { ...parts, [name]: changed } as typeof parts
      t.throws(() => aead.open(nonce, text, more), `${name}, bit ${bit}`)
    }
  }
  for (let length = 0; length < sealed.length; length++) t.throws(() => aead.open(NONCE, sealed.subarray(0, length), additional), `cut to ${length}`)
})

t.test('a nonce that differs in its first half is another key: the text is masked anew', async t => {
  const aead = xaes(Buffer.alloc(32, 7))
  const other = Buffer.from(NONCE)
  other[0]! ^= 1
  const masks = [NONCE, other].map(nonce => aead.seal(nonce, Buffer.alloc(16), Buffer.alloc(0)).toString('hex'))
  t.not(masks[0], masks[1])

  await t.test('negative control: in GCM itself a nonce that comes twice gives the difference of two texts away', async t => {
    const encrypt = (text: string) => createCipheriv('aes-256-gcm', Buffer.alloc(32, 7), NONCE.subarray(0, 12)).update(text)
    const [one, two] = [encrypt('123-45-6789'), encrypt('987-65-4321')]
    const known = Buffer.from('123-45-6789')
    t.equal(Buffer.from(two.map((byte, i) => byte ^ one[i]! ^ known[i]!)).toString(), '987-65-4321', 'who knows one text reads the other')
  })
})

t.test('WebCrypto is another path: it knows nothing of this module', async t => {
  t.equal(typeof webcrypto.subtle.encrypt, 'function')
  await t.rejects(xaesByWebCrypto(Buffer.alloc(16), NONCE, Buffer.alloc(1), Buffer.alloc(0)), 'a key of 16 bytes is none')
})
