/** What is kept of an event: no secret, whatever its name or its shape, and never more than there is room for. */
import { generateKeyPairSync, randomBytes, createHash } from 'node:crypto'
import t from 'tap'
import { entryMaker, usersOf, withPseudonyms } from '../../plugins/audit/content.js'
import { outcomeOf, VOCABULARY, vocabularyOf } from '../../plugins/audit/vocabulary.js'
import type { SecurityEvent } from '../../plugins/events.js'
import { readFile } from 'node:fs/promises'

const entryOf = entryMaker({ emails: true, people: new Set(['user']) })
const keep = (details: Record<string, unknown>, more: Partial<SecurityEvent> = {}, make = entryOf) =>
  JSON.parse(withPseudonyms(make({ type: 'data_access', time: new Date().toISOString(), details, ...more }).content, id => `<${id}>`)) as Record<string, any>

const JWT = `eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.${Buffer.from('{"sub":"1234567890"}').toString('base64url')}.${randomBytes(32).toString('base64url')}`
const SECRETS: Record<string, string> = {
  'an access token': JWT,
  'a token in a sentence': `refused ${JWT}, as it was spent`,
  'an API key': `sk_live_${'aB3'.repeat(27)}`,
  'a key in a URL': `https://api.example/x?key=sk_test_${'Zz9'.repeat(27)}`,
  'a bearer header': 'Bearer abcdefgh12345678',
  'a basic header': `basic ${Buffer.from('ada:password').toString('base64')}`,
  'a card number': '4111 1111 1111 1111',
  'a card number in digits of another script': '４１１１１１１１１１１１１１１１',
  'a card number in a text': 'paid with 5500-0000-0000-0004 yesterday',
  'a hexadecimal key': randomBytes(32).toString('hex'),
  'a digest': createHash('md5').update('password').digest('hex'),
  'a base64 key': Buffer.alloc(48, 'aB3x').toString('base64'),
  'a private key': generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  'a connection string': 'postgres://ada:hunter2@db.internal/portal',
  'an assignment': 'password=hunter2hunter2',
  'an e-mail address': 'ada.lovelace@people.example',
}

for (const [what, secret] of Object.entries(SECRETS)) {
  t.test(`${what} is taken out wherever it stands [ASVS 16.2.5, 14.2.4]`, async t => {
    const core = /[A-Za-z0-9+/@.４１]{6,}$/.exec(secret.trim().split(/\s|yesterday|-----/).filter(part => part.length > 5 && !['refused', 'Bearer', 'spent', 'PRIVATE'].includes(part)).at(-1) ?? secret)?.[0] ?? secret
    const places = [
      keep({ note: secret }), keep({ deep: { list: [1, { note: secret }] } }), keep({ [secret]: 'as a name' }), keep({}, { userAgent: secret }), keep({ error: Object.assign(new Error('x'), { code: secret }) }),
      keep({ long: `${'word '.repeat(95)} ${secret} ${'word '.repeat(200)}` }),
    ]
    for (const kept of places) {
      t.notOk(JSON.stringify(kept).includes(secret))
      t.notOk(JSON.stringify(kept).includes(core), core)
    }
  })
}

t.test('negative control: with JSON alone each of them would stand there', async t => {
  for (const [what, secret] of Object.entries(SECRETS)) t.ok(JSON.stringify({ details: { note: secret } }).includes(JSON.stringify(secret).slice(1, -1)), what)
})

t.test('what stands under the name of a secret is taken out, whatever it looks like', async t => {
  const names = ['password', 'newPassword', 'refresh_token', 'X-API-Key', 'set-cookie', 'authorization', 'client_secret', 'cvv', 'pin', 'privateKey']
  for (const name of names) t.strictSame(keep({ inner: { [name]: 'plain' } }).details.inner[name], '[redacted]', name)
  t.strictSame(keep({ keyId: 'k1', tokens: 3, hasPassword: true }).details, { keyId: 'k1', tokens: 3, hasPassword: true })
})

t.test('what is no secret stays: ids, words, paths, counts, times', async t => {
  const plain = {
    reason: 'lacks permission users:read',
    id: '5f1b2c3d-1111-4222-8333-444455556666',
    name: 'report-2026-11.pdf',
    route: '/users/:userId/orders',
    count: 42,
    ok: true,
    none: null,
    at: '2026-11-21T14:00:00.000Z',
    opaque: randomBytes(12).toString('base64url'),
    words: 'the quick brown fox jumps over the lazy dog',
    list: ['posts:read'],
    amount: 1999,
    ms: 12.5,
  }
  t.strictSame(keep(plain).details, plain)
})

t.test('e-mail addresses stay where that is wanted', async t => {
  t.equal(keep({ to: 'ada@people.example' }, {}, entryMaker({ emails: false, people: new Set() })).details.to, 'ada@people.example')
})

t.test('it is bounded: depth, number, length, whatever is recorded', async t => {
  const circular: Record<string, unknown> = {}
  circular.self = circular
  let deep: Record<string, unknown> = {}
  for (let i = 0; i < 100; i++) deep = { deep }
  const wide = Object.fromEntries(Array.from({ length: 1000 }, (_none, i) => [`n${i}`, Array.from({ length: 1000 }, () => 'x'.repeat(300))]))
  for (const details of [circular, deep, wide, { text: 'x'.repeat(1e6) }, { list: new Array(1e5).fill('word word') }]) {
    const { content } = entryOf({ type: 'data_access', time: new Date().toISOString(), details })
    t.ok(content.length <= 8192, String(content.length))
  }
  t.match(keep({ text: 'word '.repeat(300) }).details.text, /…$/)
  t.equal(keep({ list: new Array(100).fill(1) }).details.list.length, 33)
})

t.test('what cannot be read, or is no data, disturbs nothing', async t => {
  const hostile = { get boom () { throw new Error('no') } }
  const details = keep({ hostile, fn: () => 1, when: new Date(0), bytes: Buffer.from('x'), big: 10n, nan: NaN, toJSON: () => 'secret', proto: JSON.parse('{"__proto__":{"x":1}}'), nul: 'a\0b\u001bc', lone: '\ud800' }).details
  t.match(details, { hostile: '[unreadable]', when: '1970-01-01T00:00:00.000Z', bytes: '[redacted]', big: '10', nul: 'a b c' })
  t.equal(({} as Record<string, unknown>).x, undefined)
})

t.test('what the database could not keep to the letter is not given to it', async t => {
  const { type, actor, subject, content } = entryOf({ type: 'bad\0type \ud800' as never, time: new Date().toISOString(), user: 'u\0', details: { user: 'a\ud800', status: 'odd', resource: 'a text' } })
  t.match(type, /^[\w.-]+$/)
  t.same([actor, subject], [null, null])
  t.notMatch(content, /[\0\p{Cs}]/u)
  t.match(JSON.parse(content).details, { status: 'odd', resource: 'a text', user: '[redacted]' })
})

t.test('users stand in it by marks alone: who did it, to whom, and wherever else their ids are', async t => {
  const entry = entryOf({ type: 'permission_change', time: new Date().toISOString(), user: 'u1', principal: 'u1', via: 'bearer', resource: { type: 'user', id: 'u2' }, details: { user: 'u2', by: 'u1', users: ['u3'], subject: 'user:u4|method:GET', userId: ['u5'], note: 'u6' } })
  t.match(entry, { actor: 'u1', subject: 'u2' })
  const kept = JSON.parse(withPseudonyms(entry.content, id => `<${id}>`))
  t.match(kept, { resource: { type: 'user', id: '<u2>' }, details: { user: '<u2>', by: '<u1>', subject: 'user:<u4>|method:GET', userId: ['<u5>'], note: 'u6' } })
  t.same([...new Set(usersOf(entry))].sort(), ['u1', 'u2', 'u4', 'u5'])
  t.equal(keep({}, { user: 'u1', principal: 'key-1', via: 'key' }).keyId, 'key-1')
  const forged = keep({ note: '\u0001u9\u0002', 'na\u0001me': 'x' }, { user: 'a"\\b' })
  t.notMatch(JSON.stringify(forged), /<u9>/, 'nobody else makes such marks')
  t.same(usersOf(entryOf({ type: 'data_access', time: '', user: 'a"\\b', details: { user: 'a"\\b' } })), ['a"\\b', 'a"\\b'])
})

t.test('marks in letters, as JSON writes them, are letters: who sends them stops nothing and is nobody', async t => {
  for (const text of ['\\u0001victim\\u0002', 'x\\u0001', '\\u0002', '\\\\u0001victim\\\\u0002', '\\u0001a\\\\u0002 "\\u0001', `"\\u0001${'\\'.repeat(9)}u0002`]) {
    const entry = entryOf({ type: 'data_access', time: '', userAgent: text, user: `a${text}b`, details: { host: text, [text]: 1, user: 'u1', subject: `user:${text}` } })
    const users = [`a${text}b`, 'u1', text]
    t.same([...new Set(usersOf(entry))].sort(), users.sort(), text)
    t.match(JSON.parse(withPseudonyms(entry.content, id => `<${users.indexOf(id)}>`)), { userAgent: text, details: { host: text, [text]: 1, user: `<${users.indexOf('u1')}>`, subject: `user:<${users.indexOf(text)}>` } }, text)
  }
})

t.test('nobody is made known by what a client wrote', async t => {
  const forged = Array.from({ length: 20 }, (_none, i) => `user:a${i}`).join('|')
  t.same(usersOf(entryOf({ type: 'data_access', time: '', userAgent: forged, details: { host: forged, [forged]: forged, list: [forged] } })), [])
  t.equal(keep({ host: forged }, { userAgent: forged }).userAgent, forged)
  const long = 'u'.repeat(100)
  t.same(Object.keys(keep({ [long]: 1 }, { user: long }).details), ['[redacted]'], 'half a mark is none')
})

t.test('a status that is no status is a detail: whoever reads the trail expects an integer', async t => {
  for (const status of [NaN, 1.5, 'odd']) {
    const kept = keep({ status })
    t.notOk('status' in kept)
    t.ok('status' in kept.details)
  }
  t.equal(keep({ status: 204 }).status, 204)
})

t.test('every event of the suite is in the vocabulary, with an outcome; a type of a service says its own', async t => {
  const source = await readFile(new URL('../../plugins/events.ts', import.meta.url), 'utf8')
  const types = [...source.slice(source.indexOf('interface SecurityEventTypes'), source.indexOf('export type SecurityEventType ')).matchAll(/^ {2}(\w+): true$/gm)].map(([, type]) => type!)
  t.ok(types.length > 50)
  t.same(types.filter(type => !Object.hasOwn(VOCABULARY, type)), [])
  t.same(Object.keys(VOCABULARY).filter(type => !types.includes(type)), [])
  t.equal(vocabularyOf('login_success'), 'authn_login_success')
  t.equal(vocabularyOf('toString'), null)
  t.equal(outcomeOf('access_denied', {}), 'failure')
  t.equal(outcomeOf('invoice_sent' as never, {}), 'unknown')
  t.equal(outcomeOf('invoice_sent' as never, { outcome: 'success' }), 'success')
})
