/** Values: encrypted for their place, by a ring of keys. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import cipher, { newDataKey, type Cipher, type Kms, type Place } from '../../plugins/cipher/index.js'
import { sealOf } from '../../plugins/mfa/seal.js'
import { build, KEY, NEXT, PLACE, type Built } from './build.js'
import { hkdfByWebCrypto, xaesByWebCrypto } from './web-crypto.js'

const TEXT = '123-45-6789'
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
const FAILED = { code: 'FST_BASTION_CIPHER_FAILED', statusCode: 500, message: 'A stored value cannot be read' }
const material = (key: typeof KEY) => (key as { key: Buffer }).key

/** It is not decrypted, the event says so, and nothing of it stands there. */
function isRefused (t: Test, { app, recorded }: Built, envelope: string, place: Place, what: string): void {
  const before = recorded.length
  try {
    app.cipher.decrypt(envelope, place)
    t.fail(`${what}: was decrypted`)
  } catch (error) {
    const { code, statusCode, message } = error as typeof FAILED
    if (code !== FAILED.code || statusCode !== FAILED.statusCode || message !== FAILED.message || 'cause' in (error as object)) t.same(error, FAILED, what)
  }
  if (recorded.length !== before + 1 || recorded.at(-1)!.type !== 'decryption_failed') t.fail(`${what}: no event`)
}

t.test('what was encrypted for a place is decrypted there', async t => {
  const { app, recorded, log } = await build(t)
  for (const text of [TEXT, '', ' ', 'Größe 漢字 😀', '\u0000', 'b1.k1.AAAA', 'x'.repeat(1_000_000)]) {
    const envelope = app.cipher.encrypt(text, PLACE)
    t.match(envelope, /^b1\.k1\.[\w-]{54,}$/)
    t.equal(app.cipher.decrypt(envelope, PLACE), text)
    t.not(app.cipher.encrypt(text, PLACE), envelope, 'twice the same text is two envelopes')
  }
  for (const row of [7, 7n, '7', Number.MAX_SAFE_INTEGER, 2n ** 63n]) t.equal(app.cipher.decrypt(app.cipher.encrypt(TEXT, { ...PLACE, row }), { ...PLACE, row: String(row) }), TEXT, 'a number is the same row as its text')
  t.equal(recorded.length, 0)
  t.notMatch(log.join(''), TEXT)
})

t.test('WebCrypto reads the envelope: key, form and place are what is said of them [ASVS 11.3.2]', async t => {
  const { app } = await build(t)
  const envelope = app.cipher.encrypt(TEXT, PLACE)
  const bytes = Buffer.from(envelope.split('.')[2]!, 'base64url')
  const additional = Buffer.concat(['fastify-bastion/cipher', 'b1', 'k1', 'patients', 'ssn', 'p1'].flatMap(part => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(part.length)
    return [length, Buffer.from(part)]
  }))
  const sealed = await xaesByWebCrypto(await hkdfByWebCrypto(material(KEY), 'cipher:values'), bytes.subarray(0, 24), Buffer.from(TEXT), additional)
  t.ok(sealed.equals(bytes.subarray(24)))
})

t.test('attack: a value that was moved to another row, column or table is not decrypted', async t => {
  const built = await build(t)
  const { app, recorded } = built
  const envelope = app.cipher.encrypt(TEXT, PLACE)
  for (const place of [
    { ...PLACE, row: 'p2' }, { ...PLACE, column: 'diagnosis' }, { ...PLACE, table: 'people' }, { ...PLACE, row: 'P1' }, { ...PLACE, row: 'p1 ' }, { ...PLACE, row: 1 },
    // The same letters, cut elsewhere.
    { table: 'patientsssn', column: 'p', row: '1' }, { table: 'patient', column: 'sssn', row: 'p1' }, { table: 'patients', column: 'ssnp', row: '1' },
  ]) isRefused(t, built, envelope, place, JSON.stringify(place))
  t.match(recorded[0], { type: 'decryption_failed', details: { table: 'patients', column: 'ssn', row: 'p2', reason: 'it was changed, or encrypted for another place' } })

  t.test('two rows whose values were swapped', async t => {
    const other = app.cipher.encrypt('987-65-4321', { ...PLACE, row: 'p2' })
    isRefused(t, built, other, PLACE, 'the first')
    isRefused(t, built, envelope, { ...PLACE, row: 'p2' }, 'the second')
  })

  t.test('negative control: without additional data the moved value is read', async t => {
    const key = randomBytes(32)
    const nonce = randomBytes(12)
    const sealed = createCipheriv('aes-256-gcm', key, nonce).update(TEXT) // as most samples have it
    t.equal(createCipheriv('aes-256-gcm', key, nonce).update(sealed).toString(), TEXT, 'in whatever row it stands')
  })
})

t.test('attack: an envelope that was changed is not decrypted, whichever of its letters it is [ASVS 11.3.3]', async t => {
  const built = await build(t, { keys: [KEY, NEXT] })
  const envelope = built.app.cipher.encrypt(TEXT, PLACE)
  let tried = 0
  for (let i = 0; i < envelope.length; i++) {
    for (const letter of [...ALPHABET, '.', '=', '+', '/', ' ', '\n', '\u0000', 'é']) {
      if (letter === envelope[i]) continue
      isRefused(t, built, envelope.slice(0, i) + letter + envelope.slice(i + 1), PLACE, `letter ${i} as ${JSON.stringify(letter)}`)
      tried++
    }
    isRefused(t, built, envelope.slice(0, i), PLACE, `cut to ${i}`)
    isRefused(t, built, envelope.slice(i + 1), PLACE, `without the first ${i + 1}`)
    isRefused(t, built, envelope.slice(0, i) + envelope.slice(i + 1), PLACE, `without letter ${i}`)
  }
  t.ok(tried > 5000, `${tried} changes`)
  const bytes = Buffer.from(envelope.split('.')[2]!, 'base64url')
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const changed = Buffer.from(bytes)
    changed[bit >> 3]! ^= 1 << (bit & 7)
    isRefused(t, built, `b1.k1.${changed.toString('base64url')}`, PLACE, `bit ${bit}`)
  }
  for (const other of [
    `${envelope}A`, `${envelope}=`, `${envelope}.`, ` ${envelope}`, `${envelope}\n`, `${envelope}${envelope}`, envelope.replace('b1', 'b2'), envelope.replace('b1', 'B1'), envelope.replace('k1', 'k2'), envelope.replace('k1', 'k9'),
    envelope.replace('k1', '__proto__'), `b1..${bytes.toString('base64url')}`, `b1.k1.${bytes.toString('hex')}`, 'b1.k1.', 'b1.k1', 'b1', '', TEXT, 'null', `b1.${'k'.repeat(33)}.${bytes.toString('base64url')}`,
  ]) isRefused(t, built, other, PLACE, other.slice(0, 40))
  for (const none of [null, undefined, 7, {}, [envelope], Buffer.from(envelope)]) isRefused(t, built, none as never, PLACE, typeof none)
  t.equal(built.app.cipher.decrypt(envelope, PLACE), TEXT, 'and as it was, it is')

  t.test('and a sealed secret of a second factor opens after none of these changes', async t => {
    const { seal, open } = sealOf([randomBytes(32)])
    const sealed = seal('ada', Buffer.from(TEXT))
    const bytes = Buffer.from(sealed.slice(3), 'base64url')
    const opened: unknown[] = []
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      if (open('ada', `v1.${changed.toString('base64url')}`) !== null) opened.push(bit)
    }
    for (let length = 0; length < bytes.length; length++) if (open('ada', `v1.${bytes.subarray(0, length).toString('base64url')}`) !== null) opened.push({ length })
    t.same(opened, [])
    t.equal(open('ada', sealed)?.toString(), TEXT)
  })

  t.test('negative control: without a tag, who knows what stands in the row writes another value over it', async t => {
    const [key, nonce] = [randomBytes(32), randomBytes(16)]
    const changed = createCipheriv('aes-256-ctr', key, nonce).update(TEXT)
    for (const [i, byte] of Buffer.from('987-65-4321').entries()) changed[i]! ^= byte ^ Buffer.from(TEXT)[i]!
    t.equal(createDecipheriv('aes-256-ctr', key, nonce).update(changed).toString(), '987-65-4321')
  })
})

t.test('a failure is one error whatever its cause, and tells nothing [ASVS 11.2.5]', async t => {
  const built = await build(t)
  const { app, recorded, log } = built
  app.get<{ Querystring: { value: string } }>('/', async request => ({ text: app.cipher.decrypt(request.query.value, PLACE, request) }))
  const envelope = app.cipher.encrypt(TEXT, PLACE)
  const answers = []
  for (const value of [TEXT, '', `${envelope}=`, envelope.replace('k1', 'k9'), app.cipher.encrypt(TEXT, { ...PLACE, row: 'p2' }), 'b1.k1.AAAA']) {
    const { statusCode, body } = await app.inject({ url: '/', query: { value } })
    answers.push({ statusCode, body: { ...JSON.parse(body) as object, requestId: 0 } })
  }
  t.equal(answers[0]!.statusCode, 500)
  t.match(answers[0]!.body, { code: 'FST_BASTION_HTTP_500' })
  for (const answer of answers) t.strictSame(answer, answers[0])
  t.notMatch(JSON.stringify(answers[0]), /cipher|key|tag|envelope|changed/i)
  t.same(recorded.map(({ details }) => details.reason), [
    'it is no envelope', 'it is no envelope', 'it is no envelope', 'its key k9 is not in the ring', 'it was changed, or encrypted for another place', 'it is no envelope',
  ])
  t.match(recorded[0], { route: '/', method: 'GET', requestId: /./ }, 'the operator sees whose request it was')
  t.notMatch(log.filter(line => line.includes('decryption_failed')).join(''), TEXT)
})

t.test('keys rotate: the first encrypts, all decrypt, one that is gone reads nothing [ASVS 11.2.2] [ASVS 13.3.4]', async t => {
  const built = await build(t, { keys: [KEY] })
  const { app, recorded } = built
  const old = app.cipher.encrypt(TEXT, PLACE)
  t.equal(app.cipher.isStale(old), false)
  await app.cipher.rotate([NEXT, KEY])
  t.equal(app.cipher.decrypt(old, PLACE), TEXT)
  t.equal(app.cipher.isStale(old), true)
  const fresh = app.cipher.encrypt(app.cipher.decrypt(old, PLACE), PLACE)
  t.match(fresh, /^b1\.k2\./)
  t.equal(app.cipher.isStale(fresh), false)
  for (const text of ['', TEXT, 'b1.k2.AAAA', `${fresh}=`, null]) t.equal(app.cipher.isStale(text as never), true, 'what is no envelope is stale')
  await app.cipher.rotate([NEXT])
  t.equal(app.cipher.decrypt(fresh, PLACE), TEXT)
  isRefused(t, built, old, PLACE, 'the old key is gone')
  t.match(recorded.filter(({ type }) => type === 'encryption_rotated'), [{ details: { keys: ['k2', 'k1'] } }, { details: { keys: ['k2'] } }])
  await app.cipher.rotate([NEXT, KEY])
  t.equal(app.cipher.decrypt(old, PLACE), TEXT, 'and back: an id belongs to its key')

  t.test('what is not good changes nothing', async t => {
    for (const keys of [[], null, [{ id: 'k2', key: randomBytes(32) }], [{ id: 'k3', key: randomBytes(31) }], [NEXT, NEXT], [{ id: 'k3', wrapped: 'AAAA' }]]) {
      await t.rejects(app.cipher.rotate(keys as never), { code: 'FST_BASTION_CIPHER_MISCONFIGURED' })
      t.same(app.cipher.usage().map(({ id }) => id), ['k2', 'k1'])
      t.equal(app.cipher.decrypt(old, PLACE), TEXT)
    }
    await t.rejects(app.cipher.rotate([{ id: 'k2', key: randomBytes(32) }]), { message: 'encryption: keys: the id k2 is that of another key: give the new one an id of its own' })
    await t.rejects(app.cipher.rotate([NEXT], [KEY]), { message: /index: its keys are missing/ })
    t.same(app.cipher.usage().map(({ id }) => id), ['k2', 'k1'])
  })
})

t.test('no nonce comes twice in 100 000 values, and no two begin alike [ASVS 11.3.4]', async t => {
  const { app } = await build(t)
  const nonces = new Set<string>()
  const halves = new Set<string>()
  for (let i = 0; i < 100_000; i++) {
    const bytes = Buffer.from(app.cipher.encrypt('', PLACE).slice('b1.k1.'.length), 'base64url')
    nonces.add(bytes.toString('latin1', 0, 24))
    halves.add(bytes.toString('latin1', 0, 12))
  }
  t.equal(nonces.size, 100_000)
  t.equal(halves.size, 100_000, 'each has a key of its own')
  t.same(app.cipher.usage(), [{ id: 'k1', messages: 100_000 }])

  t.test('negative control: with nonces of 24 bits it would be seen', async t => {
    t.ok(new Set(Array.from({ length: 100_000 }, () => randomBytes(3).toString('latin1'))).size < 100_000)
  })
})

t.test('a key encrypts as many values as it may, and reads on', async t => {
  const { app, recorded } = await build(t, { keys: [KEY, NEXT], maxMessages: 3 })
  const envelopes = [1, 2, 3].map(() => app.cipher.encrypt(TEXT, PLACE))
  for (let i = 0; i < 2; i++) t.throws(() => app.cipher.encrypt(TEXT, PLACE), { code: 'FST_BASTION_CIPHER_EXHAUSTED', statusCode: 500 })
  t.match(recorded[0], { type: 'encryption_exhausted', details: { key: 'k1', messages: 3 } })
  t.equal(app.cipher.decrypt(envelopes[0]!, PLACE), TEXT)
  await app.cipher.rotate([NEXT, KEY])
  t.equal(app.cipher.decrypt(app.cipher.encrypt(TEXT, PLACE), PLACE), TEXT, 'a new key in front goes on')
  await app.cipher.rotate([KEY, NEXT])
  t.throws(() => app.cipher.encrypt(TEXT, PLACE), { code: 'FST_BASTION_CIPHER_EXHAUSTED' }, 'the old one stays spent')
  t.same(app.cipher.usage(), [{ id: 'k1', messages: 3 }, { id: 'k2', messages: 1 }])
  await app.cipher.rotate([NEXT])
  await app.cipher.rotate([KEY, NEXT])
  t.throws(() => app.cipher.encrypt(TEXT, PLACE), { code: 'FST_BASTION_CIPHER_EXHAUSTED' }, 'also one that had left the ring')
})

t.test('of two rotations at once the later one stays, whichever its KMS answers first', async t => {
  const unwrap: Kms['unwrap'] = (wrapped, { key }) => key === 'd1' ? new Promise(resolve => { setImmediate(resolve, wrapped) }) : wrapped
  const { app } = await build(t, { kms: { unwrap } })
  const [one, two] = ['d1', 'd2'].map(id => ({ id, wrapped: randomBytes(32).toString('base64url') }))
  const first = app.cipher.rotate([one!, KEY])
  await t.rejects(app.cipher.rotate([]), { code: 'FST_BASTION_CIPHER_MISCONFIGURED' }, 'one that fails stops none')
  await Promise.all([first, app.cipher.rotate([two!, KEY])])
  t.same(app.cipher.usage().map(({ id }) => id), ['d2', 'k1'])
})

t.test('mistakes of a caller are told as such, before anything is encrypted', async t => {
  const { app, recorded } = await build(t)
  const { encrypt, decrypt } = app.cipher
  const wrong: [Partial<Record<keyof Place, unknown>>, RegExp][] = [
    [{ table: '' }, /table: must be/], [{ table: undefined }, /table/], [{ table: 'x'.repeat(256) }, /table/], [{ column: '' }, /column: must be/], [{ column: 7 }, /column/], [{ column: '\ud800' }, /column/],
    [{ row: '' }, /row: must be/], [{ row: null }, /row/], [{ row: undefined }, /row/], [{ row: 1.5 }, /row/], [{ row: Number.NaN }, /row/], [{ row: 2 ** 53 }, /row/], [{ row: {} }, /row/], [{ row: ['p1'] }, /row/], [{ row: true }, /row/], [{ row: 'p\udfff' }, /row/],
  ]
  for (const [part, message] of wrong) {
    t.throws(() => encrypt(TEXT, { ...PLACE, ...part } as never), { code: 'FST_BASTION_CIPHER_MISCONFIGURED', message })
    t.throws(() => decrypt('b1.k1.AAAA', { ...PLACE, ...part } as never), { code: 'FST_BASTION_CIPHER_MISCONFIGURED', message })
  }
  for (const text of [null, undefined, 7, Buffer.from(TEXT), {}, [TEXT], new Date(), '\ud800', 'x\udc00y']) {
    t.throws(() => encrypt(text as never, PLACE), { code: 'FST_BASTION_CIPHER_MISCONFIGURED', message: /text/ })
  }
  t.throws(() => app.cipher.index(TEXT, PLACE), { message: /index: its keys are missing/ })
  t.throws(() => app.cipher.indexes(TEXT, PLACE), { message: /index: its keys are missing/ })
  t.equal(recorded.length, 0)
  t.same(app.cipher.usage(), [{ id: 'k1', messages: 0 }])
})

/** A key management service in this process: it keeps its own key, and knows of each thing what it is for. */
function kmsOf (): Kms & { calls: string[] } {
  const master = randomBytes(32)
  const calls: string[] = []
  const open = async (wrapped: Buffer, context: object) => {
    const { createDecipheriv } = await import('node:crypto')
    const decipher = createDecipheriv('aes-256-gcm', master, wrapped.subarray(0, 12)).setAAD(Buffer.from(JSON.stringify(context))).setAuthTag(wrapped.subarray(-16))
    return Buffer.concat([decipher.update(wrapped.subarray(12, -16)), decipher.final()])
  }
  return {
    calls,
    wrap (key, context) {
      calls.push(`wrap ${context.key}`)
      const nonce = randomBytes(12)
      const sealing = createCipheriv('aes-256-gcm', master, nonce).setAAD(Buffer.from(JSON.stringify(context)))
      return Buffer.concat([nonce, sealing.update(key), sealing.final(), sealing.getAuthTag()])
    },
    async unwrap (wrapped, context) {
      calls.push(`unwrap ${context.key}`)
      return open(wrapped, context)
    },
  }
}

t.test('data keys are wrapped by a KMS, which is asked at boot and never again', async t => {
  const kms = kmsOf()
  const [one, two] = [await newDataKey(kms, 'd1'), await newDataKey(kms, 'd2')]
  t.match(one, { id: 'd1', wrapped: /^[\w-]{80}$/ })
  const { app, log } = await build(t, { kms, keys: [one] })
  const { app: other } = await build(t, { kms, keys: [two, one] })
  const envelope = app.cipher.encrypt(TEXT, PLACE)
  for (let i = 0; i < 100; i++) app.cipher.encrypt(TEXT, PLACE)
  t.equal(other.cipher.decrypt(envelope, PLACE), TEXT, 'another process reads it')
  await app.cipher.rotate([two, one])
  t.match(app.cipher.encrypt(TEXT, PLACE), /^b1\.d2\./)
  t.same(kms.calls, ['wrap d1', 'wrap d2', 'unwrap d1', 'unwrap d2', 'unwrap d1', 'unwrap d2', 'unwrap d1'])
  t.notMatch(log.join(''), one.wrapped)

  t.test('attack: a wrapped key under the id of another is not unwrapped', async t => {
    await t.rejects(build(t, { kms, keys: [{ id: 'd3', wrapped: one.wrapped }] }), { message: 'encryption: keys.0 (d3): the kms did not unwrap it' })
  })

  t.test('a KMS that is away, late, or answers nonsense stops boot, and says nothing of the key', async t => {
    const stops = async (unwrap: Kms['unwrap'], message: RegExp) => {
      const error = await build(t, { kms: { unwrap }, keys: [one], kmsDeadline: 20 }).then(() => null, (fault: Error) => fault)
      t.match(error, { code: 'FST_BASTION_CIPHER_MISCONFIGURED', message })
      t.notMatch(error?.message, one.wrapped)
    }
    await stops(async () => { throw new Error('connect ECONNREFUSED') }, /keys\.0 \(d1\): the kms did not unwrap it/)
    await stops(() => { throw new Error('at once') }, /did not unwrap/)
    await stops(() => new Promise(() => {}), /did not unwrap/)
    await stops(async () => randomBytes(16), /at least 32 bytes/)
    for (const nonsense of [undefined, randomBytes(32).toString('base64'), [...randomBytes(32)], new ArrayBuffer(32)]) await stops(async () => nonsense as never, /did not unwrap/)
    await t.rejects(newDataKey({ ...kms, wrap: async () => 'wrapped' as never }, 'd1'), { message: 'cipher: kms: wrap must answer bytes' })
    await t.rejects(build(t, { keys: [one] }), { message: /is wrapped, and there is no kms/ })
    await t.rejects(newDataKey({ unwrap: async () => randomBytes(32) }, 'd1'), { message: /kms: must be an object with wrap/ })
    await t.rejects(newDataKey(kms, 'no id'), { message: /id of a key/ })
  })
})

t.test('misconfiguration stops boot, with a message that names the option and nothing of a key', async t => {
  const stops = async (options: unknown, message: RegExp) => {
    const { default: Fastify } = await import('fastify')
    const { default: plan } = await import('../../plugins/plan/index.js')
    const { default: events } = await import('../../plugins/events.js')
    const app = Fastify()
    t.teardown(() => app.close())
    const error = await (async () => {
      await app.register(plan)
      await app.register(events)
      await app.register(cipher, options as never)
    })().then(() => null, (fault: Error) => fault)
    t.match(error, { code: 'FST_BASTION_CIPHER_MISCONFIGURED', message })
    t.ok(error instanceof TypeError)
  }
  const text = randomBytes(32).toString('hex')
  await stops({}, /^encryption: keys: must be a list/)
  await stops({ keys: [] }, /^encryption: keys: must be a list/)
  await stops({ keys: KEY }, /^encryption: keys: must be a list/)
  await stops({ keys: [material(KEY)] }, /^encryption: keys\.0: id: must be/)
  await stops({ keys: [{ id: 'a.b', key: material(KEY) }] }, /keys\.0: id/)
  await stops({ keys: [{ id: '', key: material(KEY) }] }, /keys\.0: id/)
  await stops({ keys: [{ id: 'x'.repeat(33), key: material(KEY) }] }, /keys\.0: id/)
  await stops({ keys: [KEY, { id: 'k2', key: text }] }, /^encryption: keys\.1 \(k2\): must be a Buffer of at least 32 bytes$/)
  await stops({ keys: [{ id: 'k1', key: randomBytes(31) }] }, /at least 32 bytes/)
  await stops({ keys: [{ id: 'k1' }] }, /at least 32 bytes/)
  await stops({ keys: [KEY, { ...NEXT, id: 'k1' }] }, /^encryption: keys: the id k1 stands there twice$/)
  await stops({ keys: [KEY, { ...KEY, id: 'k2' }] }, /^encryption: keys: k2 is the same key as another one$/)
  await stops({ keys: [KEY], kms: {} }, /^encryption: kms: must be/)
  await stops({ keys: [KEY], maxMessages: 0 }, /^encryption: maxMessages/)
  await stops({ keys: [KEY], maxMessages: 2 ** 49 }, /^encryption: maxMessages/)
  await stops({ keys: [KEY], maxMessage: 5 }, /^encryption: maxMessage/)
  await stops({ keys: [KEY], kmsDeadline: 0 }, /^encryption: kmsDeadline/)
})

t.test('what a value costs', async t => {
  const { app } = await build(t)
  const { encrypt, decrypt }: Cipher = app.cipher
  const diagnosis = 'Essential hypertension, stage 1; lifestyle changes advised.'
  const envelope = encrypt(diagnosis, PLACE)
  const microseconds = (work: () => unknown) => {
    for (let i = 0; i < 2000; i++) work()
    const from = process.hrtime.bigint()
    for (let i = 0; i < 10_000; i++) work()
    return Number(process.hrtime.bigint() - from) / 10_000 / 1000
  }
  const [there, back] = [microseconds(() => encrypt(diagnosis, PLACE)), microseconds(() => decrypt(envelope, PLACE))]
  t.comment(`60 bytes: encrypted in ${there.toFixed(1)} µs, decrypted in ${back.toFixed(1)} µs`)
  t.ok(there < 500 && back < 500, 'microseconds, and no milliseconds')
})
