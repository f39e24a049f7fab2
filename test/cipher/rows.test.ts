/** Rows and answers: what a schema marks is encrypted, decrypted, and shown to those whom it names. */
import { randomBytes } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { encryptedColumns } from '../../plugins/cipher/index.js'
import type { SecurityEvent } from '../../plugins/events.js'
import bastion from '../../plugins/index.js'
import { closed, Encrypted, noBody } from '../../schemas/index.js'
import { build, INDEX_KEY, KEY } from './build.js'
import { hkdfByWebCrypto, hmacByWebCrypto } from './web-crypto.js'

const Person = Type.Object({
  id: Type.String(),
  name: Type.String(),
  ssn: Encrypted(Type.String(), { index: 'ssn_index' }),
  note: Type.Optional(Encrypted(Type.Union([Type.String(), Type.Null()]))),
  weights: Type.Optional(Encrypted(Type.Array(Type.Number()))),
  isInsured: Type.Optional(Encrypted(Type.Boolean())),
})
const AT = { table: 'people', row: 'p1' }
const INDEX = { keys: [INDEX_KEY] }

t.test('what is marked is sealed and opened, and nothing else is touched', async t => {
  const { app } = await build(t, { index: INDEX })
  const row = { id: 'p1', name: 'Ada', ssn: '123-45-6789', note: 'a note', weights: [61.5, 62], isInsured: false, other: { kept: true } }
  const sealed = app.cipher.sealRow(Person, AT, row)
  t.match(sealed, { id: 'p1', name: 'Ada', ssn: /^b1\.k1\./, ssn_index: /^i1\.[\w-]{22}$/, note: /^b1\.k1\./, weights: /^b1\.k1\./, isInsured: /^b1\.k1\./, other: { kept: true } })
  t.equal(sealed.ssn_index, app.cipher.index('123-45-6789', { table: 'people', column: 'ssn' }))
  t.strictSame(app.cipher.openRow(Person, AT, sealed), { ...row, ssn_index: sealed.ssn_index })
  t.equal(row.ssn, '123-45-6789', 'what was given is not changed')
  t.strictSame(app.cipher.openRow(Person, AT, { id: 'p1', ssn: sealed.ssn }), { id: 'p1', ssn: '123-45-6789' }, 'columns that are not there stay away')
  t.equal(app.cipher.decrypt(sealed.ssn, { ...AT, column: 'ssn' }), '123-45-6789', 'a text is encrypted as it is')
  t.strictSame(app.cipher.sealRow(Person, AT, { name: 'Ada' }), { name: 'Ada' })
  const empty = app.cipher.sealRow(Person, AT, { ssn: null, note: null, weights: null, isInsured: undefined })
  t.strictSame(empty, { ssn: null, ssn_index: null, note: null, weights: null, isInsured: undefined })
  t.strictSame(app.cipher.openRow(Person, AT, empty), empty)
  t.same(encryptedColumns(Person), [{ column: 'ssn', index: 'ssn_index', isText: true }, { column: 'note', isText: true }, { column: 'weights', isText: false }, { column: 'isInsured', isText: false }])
})

t.test('attack: fields that change places in their row are not opened', async t => {
  const { app, recorded } = await build(t, { index: INDEX })
  const sealed = app.cipher.sealRow(Person, AT, { ssn: '123-45-6789', note: 'a note' })
  t.throws(() => app.cipher.openRow(Person, AT, { ...sealed, ssn: sealed.note, note: sealed.ssn }), { code: 'FST_BASTION_CIPHER_FAILED' })
  t.throws(() => app.cipher.openRow(Person, { ...AT, row: 'p2' }, sealed), { code: 'FST_BASTION_CIPHER_FAILED' })
  t.throws(() => app.cipher.openRow(Person, AT, { ssn: '123-45-6789' }), { code: 'FST_BASTION_CIPHER_FAILED' }, 'text that was never encrypted')
  t.throws(() => app.cipher.openRow(Person, AT, { weights: app.cipher.encrypt('no json', { ...AT, column: 'weights' }) }), { code: 'FST_BASTION_CIPHER_FAILED' })
  t.same(recorded.map(({ type, details }) => `${type} ${String(details.column)}`), ['decryption_failed ssn', 'decryption_failed ssn', 'decryption_failed ssn', 'decryption_failed weights'])
  t.throws(() => app.cipher.sealRow(Person, AT, { ssn: 123456789 }), { message: 'cipher: people.ssn: must be a text' })
  t.throws(() => app.cipher.sealRow(Type.Object({ a: Type.String() }), AT, {}), { message: /marks no field/ })
  t.throws(() => Encrypted(Type.Array(Type.String()), { index: 'x' }), TypeError)
})

t.test('attack: a text that has the form of an encrypted value is not taken, for no answer could hold it', async t => {
  const { app } = await build(t, { index: INDEX })
  const sealed = app.cipher.sealRow(Person, AT, { ssn: '123-45-6789', note: 'a note' })
  const Either = Type.Object({ either: Encrypted(Type.Union([Type.String(), Type.Number()])) })
  for (const envelope of [sealed.ssn, sealed.note, `b1.nobody.${'A'.repeat(54)}`]) {
    t.throws(() => app.cipher.sealRow(Person, AT, { note: envelope }), { code: 'FST_BASTION_CIPHER_ENVELOPE', statusCode: 400 })
    t.throws(() => app.cipher.sealRow(Either, AT, { either: envelope }), { code: 'FST_BASTION_CIPHER_ENVELOPE' })
  }
  t.throws(() => app.cipher.sealRow(Person, AT, sealed), { code: 'FST_BASTION_CIPHER_ENVELOPE' }, 'nor is a row sealed twice')
  const like = { note: `see b1.k1.${'A'.repeat(54)}`, weights: [1] }
  t.strictSame(app.cipher.openRow(Person, AT, app.cipher.sealRow(Person, AT, like)), like)
})

t.test('a mark that would encrypt nothing, or lose something, is a mistake that is told', async t => {
  const { app } = await build(t, { index: INDEX })
  const text = Encrypted(Type.String())
  for (const [name, part] of Object.entries({
    union: Type.Union([text, Type.Null()]), list: Type.Array(text), object: Type.Object({ street: text }), record: Type.Record(Type.String(), text), deep: Type.Optional(Type.Array(Type.Object({ a: Type.Union([text, Type.Null()]) }))),
  })) {
    for (const schema of [Type.Object({ [name]: part }), Type.Object({ ssn: text, [name]: part })]) {
      t.throws(() => app.cipher.sealRow(schema, AT, { [name]: 'in clear' }), { code: 'FST_BASTION_CIPHER_MISCONFIGURED', message: `cipher: ${name}: Encrypted stands inside of it, where nothing is encrypted: mark the column itself, all of it` })
    }
  }
  t.throws(() => encryptedColumns(Type.Intersect([Type.Object({ ssn: text }), Type.Object({})]) as never), { message: /cipher: the schema: Encrypted stands inside/ })
  const whole = Type.Object({ address: Encrypted(Type.Object({ street: text })), maybe: Encrypted(Type.Union([text, Type.Null()])) })
  t.match(app.cipher.sealRow(whole, AT, { address: { street: 'Main' }, maybe: 'x' }), { address: /^b1\./, maybe: /^b1\./ }, 'inside of what is encrypted as a whole it may stand')

  const indexed = (index: string) => Encrypted(Type.String(), { index })
  for (const schema of [Type.Object({ ssn: indexed('ssn') }), Type.Object({ ssn: indexed('note'), note: text }), Type.Object({ ssn: indexed('one'), tax: indexed('one') })]) {
    t.throws(() => encryptedColumns(schema), { code: 'FST_BASTION_CIPHER_MISCONFIGURED', message: /a blind index needs a column to itself/ })
  }
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, new Date(Number.NaN), () => 1]) {
    t.throws(() => app.cipher.sealRow(Type.Object({ weight: Encrypted(Type.Number()) }), AT, { weight: value }), { code: 'FST_BASTION_CIPHER_MISCONFIGURED', message: 'cipher: people.weight: is nothing that JSON can hold' })
  }
})

t.test('a blind index is the same for what is the same, and for one column alone [ASVS 11.4.1]', async t => {
  const { app } = await build(t, {
    index: { keys: [INDEX_KEY], columns: { 'people.ssn': { normalize: 'digits' }, 'people.code': { normalize: 'exact', bytes: 2 }, 'people.odd': { normalize: text => text.replaceAll('-', ''), bytes: 32 } } },
  })
  const index = (text: string, column: string, table = 'people') => app.cipher.index(text, { table, column })
  for (const same of ['123-45-6789', '123456789', ' 123 45 6789 ', '１２３-45-6789']) t.equal(index(same, 'ssn'), index('123-45-6789', 'ssn'), same)
  t.not(index('123-45-6788', 'ssn'), index('123-45-6789', 'ssn'))
  for (const same of ['ÅSA@example.com', ' åsa@example.com ', 'A\u030asa@EXAMPLE.com']) t.equal(index(same, 'email'), index('åsa@example.com', 'email'), same)
  for (const [one, same] of [['ΟΔΥΣΣΕΥΣ', 'Οδυσσευς'], ['οδος', 'οδοσ'], ['\u0390', '\u03aa\u0301'], ['\u01f0', 'J\u030c'], ['STRAẞE', 'straße']] as const) t.equal(index(one, 'email'), index(same, 'email'), one)
  for (const [one, other] of [['mıke@example.com', 'mike@example.com'], ['straße@example.com', 'strasse@example.com'], ['MİKE@example.com', 'mike@example.com']] as const) t.not(index(one, 'email'), index(other, 'email'), `${one} is another one (CVE-2019-19844)`)
  t.not(index('A', 'code'), index('a', 'code'))
  t.match([index('x', 'email'), index('x', 'code'), index('a-b', 'odd')], [/^i1\.[\w-]{22}$/, /^i1\.[\w-]{3}$/, /^i1\.[\w-]{43}$/])
  t.equal(index('a-b', 'odd'), index('ab', 'odd'))
  t.equal(new Set(['email', 'mail', 'e'].map(column => index('x', column))).size, 3, 'columns cannot be compared')
  t.not(index('x', 'email'), index('x', 'email', 'staff'), 'nor tables')
  t.not(index('x', 'bc', 'a'), index('x', 'c', 'ab'), 'nor names that are cut elsewhere')

  const length = (part: string) => Buffer.concat([Buffer.from([0, 0, 0, part.length]), Buffer.from(part)])
  const root = await hkdfByWebCrypto((INDEX_KEY as { key: Buffer }).key, 'cipher:indexes')
  const key = await hkdfByWebCrypto(root, Buffer.concat(['fastify-bastion/cipher:index', 'people', 'email'].map(length)))
  t.equal(index('X', 'email'), `i1.${(await hmacByWebCrypto(key, 'x')).subarray(0, 16).toString('base64url')}`, 'WebCrypto says the same')

  await t.test('keys rotate: searches go by all, what is stored by the first', async t => {
    const place = { table: 'people', column: 'email' }
    const old = app.cipher.index('x', place)
    await app.cipher.rotate([KEY], [{ id: 'i2', key: randomBytes(32) }, INDEX_KEY])
    t.match(app.cipher.index('x', place), /^i2\./)
    t.strictSame(app.cipher.indexes('x', place), [app.cipher.index('x', place), old])
    t.equal(app.cipher.isIndexStale(old, place), true)
    t.equal(app.cipher.isIndexStale(app.cipher.index('x', place), place), false)
    t.equal(app.cipher.isIndexStale(app.cipher.index('x', place), { ...place, column: 'code' }), true, 'one of another length is stale too')
    await t.rejects(app.cipher.rotate([KEY], [{ id: 'i2', key: randomBytes(32) }]), { message: 'encryption: index.keys: the id i2 is that of another key: give the new one an id of its own' })
  })

  await t.test('few bytes find others too: that is what they are for', async t => {
    const found = new Map<string, number>()
    for (let i = 0; i < 200_000; i++) {
      const one = index(String(i), 'code')
      found.set(one, (found.get(one) ?? 0) + 1)
    }
    const mean = 200_000 / found.size
    t.ok(mean > 2.5 && mean < 4, `${mean.toFixed(1)} values have one index, of ${found.size}`)
  })

  await t.test('misconfiguration stops boot', async t => {
    for (const [options, message] of [
      [{ keys: [] }, /^encryption: index\.keys: must be a list/], [{}, /index\.keys/], [{ keys: [{ id: 'i1', key: randomBytes(16) }] }, /index\.keys\.0 \(i1\)/], [{ keys: [INDEX_KEY], bytes: 1 }, /index: bytes/],
      [{ keys: [INDEX_KEY], bytes: 33 }, /bytes/], [{ keys: [INDEX_KEY], normalize: 'lower' }, /normalize/], [{ keys: [INDEX_KEY], columns: { ssn: {} } }, /index\.columns\.ssn: must be named table\.column/],
      [{ keys: [INDEX_KEY], columns: { 'people.ssn': { byte: 3 } } }, /index\.columns\.people\.ssn: byte/], [{ keys: [INDEX_KEY], lenght: 3 }, /index: lenght/],
    ] as const) await t.rejects(build(t, { index: options as never }), { code: 'FST_BASTION_CIPHER_MISCONFIGURED', message })
  })
})

const sight = { visibleTo: 'people:clinical' }
const Answer = closed({ id: Type.String(), name: Type.String(), ssn: Type.Optional(Encrypted(Type.String(sight))) })

/** The suite with one route that answers this. */
async function answering (t: Test, response: object, answer: unknown, encryption: object | null = { keys: [KEY] }): Promise<{ app: FastifyInstance, recorded: SecurityEvent[] }> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(bastion, { access: { roles: { doctor: { permissions: ['people:clinical'] }, nurse: {} } }, ...encryption !== null && { encryption: encryption as never } })
  const recorded: SecurityEvent[] = []
  app.events.listen(event => { recorded.push(event) })
  app.identity.reader({
    name: 'test',
    read: ({ headers: { role } }) => typeof role === 'string' ? { principal: { kind: 'user', id: 'u1', userId: 'u1', roles: [role], via: 'bearer', authTime: 0, credentialId: 'c1' } } : null,
  })
  app.get('/', { schema: { response: { 200: response } }, config: { access: 'user' } }, async () => typeof answer === 'function' ? answer(app) : answer)
  app.post('/', { schema: { body: closed({ ssn: Encrypted(Type.String({ maxLength: 11 })) }), response: { 200: noBody } }, config: { access: 'user' } }, async () => null)
  return { app, recorded }
}
const ask = async (app: FastifyInstance, role: string) => app.inject({ url: 'http://localhost/', headers: { role } })

t.test('an encrypted field leaves opened, for those whom it names, or not at all', async t => {
  const opened = { id: 'p1', name: 'Ada', ssn: '123-45-6789' }
  const { app } = await answering(t, Answer, opened)
  t.equal((await ask(app, 'doctor')).body, JSON.stringify(opened))
  t.equal((await ask(app, 'nurse')).body, '{"id":"p1","name":"Ada"}', 'also where a handler opened it for everybody')
  t.equal((await app.inject({ method: 'POST', url: 'http://localhost/', headers: { role: 'nurse' }, payload: { ssn: 'x' } })).statusCode, 200, 'in a body the mark is a remark')
  t.equal((await app.inject({ method: 'POST', url: 'http://localhost/', headers: { role: 'nurse' }, payload: { ssn: 'x'.repeat(12) } })).statusCode, 400)

  const sealing = (app: FastifyInstance) => app.cipher.sealRow(Answer, AT, opened)
  const unopened = await answering(t, Answer, sealing)
  const refused = await ask(unopened.app, 'doctor')
  t.equal(refused.statusCode, 500)
  t.match(refused.headers['content-type'], 'application/problem+json')
  t.notMatch(refused.body, /b1\.|Ada|123/)
  t.match(unopened.recorded, [{ type: 'undeclared_answer', details: { kind: 'sealed' } }])
  t.equal((await ask(unopened.app, 'nurse')).body, '{"id":"p1","name":"Ada"}', 'what is not shown need not be opened')

  const lists = await answering(t, closed({ items: Type.Array(Answer), byId: Type.Record(Type.String(), Answer), either: Type.Union([Answer, Type.Null()]) }), (app: FastifyInstance) => ({ items: [opened, sealing(app)], byId: {}, either: null }))
  t.equal((await ask(lists.app, 'doctor')).statusCode, 500)
  t.equal((await ask(lists.app, 'nurse')).statusCode, 200)

  await t.test('what people write elsewhere is theirs: a name that looks like an envelope is a name', async t => {
    const odd = (app: FastifyInstance) => ({ ...opened, name: sealing(app).ssn })
    const { app } = await answering(t, Answer, odd)
    t.equal((await ask(app, 'doctor')).statusCode, 200)
  })

  await t.test('what is no JSON is not parsed, and not quoted in the log', async t => {
    const log: string[] = []
    const app = Fastify({ logger: { level: 'trace', stream: { write: (line: string) => { log.push(line) } } } })
    t.teardown(() => app.close())
    await app.register(bastion, { access: { roles: { doctor: { permissions: ['people:clinical'] } } }, encryption: { keys: [KEY] } })
    app.get('/csv', { schema: { response: { 200: Answer } }, config: { access: 'public', answers: 'raw' } }, async (_request, reply) => {
      reply.type('text/csv')
      return `Ada Lovelace,"${app.cipher.encrypt('123-45-6789', { ...AT, column: 'ssn' })}"`
    })
    t.equal((await app.inject('http://localhost/csv')).statusCode, 500)
    t.ok(log.some(line => line.includes('FST_BASTION_CIPHER_SEALED')))
    t.notMatch(log.join(''), 'Ada')
  })

  await t.test('negative control: without the concern the same answer leaves as it is', async t => {
    const envelope = unopened.app.cipher.encrypt('123-45-6789', { ...AT, column: 'ssn' })
    const { app } = await answering(t, closed({ ssn: Encrypted(Type.String(sight)) }), { ssn: envelope }, null)
    t.equal((await ask(app, 'doctor')).body, JSON.stringify({ ssn: envelope }))
  })
})

t.test('a route that answers an encrypted field and does not say who sees it does not boot', async t => {
  for (const [schema, message] of [
    [closed({ ssn: Encrypted(Type.String()) }), /GET \/: its 200: \/ssn is encrypted where it is kept: say who sees it with visibleTo/],
    [closed({ items: Type.Array(closed({ ssn: Encrypted(Type.String()) })) }), /its 200: \/items\/\*\/ssn is encrypted/],
    [closed({ byDay: Type.Record(Type.String(), closed({ ssn: Encrypted(Type.String()) })) }), /\/byDay\/\*\/ssn is encrypted/],
    [closed({ a: Type.Union([closed({ ssn: Encrypted(Type.String()) }), closed({ ssn: Encrypted(Type.String(sight)) })]) }), /\/a\/ssn is encrypted/],
  ] as const) {
    const { app } = await answering(t, schema, {})
    await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message })
  }
  const { app } = await answering(t, { content: { 'application/json': { schema: closed({ ssn: Encrypted(Type.String()) }) } } }, {})
  await t.rejects(async () => { await app.ready() }, { message: /\/ssn is encrypted/ })
  const { app: shared } = await answering(t, Type.Unsafe({ $ref: 'Person#' }), {})
  shared.addSchema({ ...closed({ ssn: Encrypted(Type.String()) }), $id: 'Person' })
  await t.rejects(async () => { await shared.ready() }, { message: /\/ssn is encrypted/ })
})
