/** Schemas: what each leaf takes and refuses, that all of them are bounded, and that no text makes them slow. */
import { FormatRegistry, Type, type TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { Ajv } from 'ajv'
import formats from 'ajv-formats'
import t from 'tap'
import { addKeywords } from '../plugins/validation/index.js'
import * as schemas from '../schemas/index.js'
import fc from './fixtures/fast-check.js'

const { Age, Amount, Bio, Comment, Content, CredentialId, Credentials, Currency, Cursor, Email, Hostname, Id, Ipv4, Ipv6, IsoDate, IsoDateTime, Money, PageQuery, PasskeyAssertion, PasskeyCreationOptions, PasskeyRegistration, PasskeyRequestOptions, PasswordInput, PaymentToken, Phone, Problem, Slug, Tag, TagList, Title, TokenInput, TokenPair, Url, Username, Uuid, closed, comparableEmail, noBody, page } = schemas
const ajv = addKeywords(new Ajv({ strict: true, strictTypes: false }))
;(formats as unknown as (ajv: Ajv) => void)(ajv)
for (const format of ['date', 'date-time']) FormatRegistry.Set(format, text => ajv.validate({ type: 'string', format }, text))

const shown = PasskeyAssertion.examples[0]
const made = PasskeyRegistration.examples[0]

/** What each takes beside its examples, and what it refuses. */
const cases: Record<string, { schema: TSchema, good: unknown[], bad: unknown[] }> = {
  Username: {
    schema: Username,
    good: ['abc', 'A_1', 'x'.repeat(50), 'administrators', 'rooted', '___'],
    bad: ['', 'ab', 'x'.repeat(51), 'a b', 'a-b', 'a.b', 'älice', 'alice\n', ' alice', 'al\u0456ce', '<script>', "a'--", 'admin', 'ADMIN', 'aDmIn', 'root', 'system', 'support', 'null', 'undefined', '__proto__ ', 7, null, ['alice']],
  },
  Email: {
    schema: Email,
    good: ['a@b.de', "o'hara@example.com", `${'a'.repeat(64)}@example.com`, `a@${'b'.repeat(63)}.example`, 'A@EXAMPLE.COM'],
    bad: ['', 'a', 'a@b', '@b.de', 'a@', 'a@@b.de', 'a@b@c.de', 'a b@c.de', 'a@b .de', '.a@b.de', 'a.@b.de', 'a..b@c.de', 'a@-b.de', 'a@b-.de', 'a@b..de', 'a@.de', 'a@b.d', 'a@127.0.0.1', 'a@[127.0.0.1]', '"a b"@c.de', 'a@b.de\n', 'a@b.de\r\nbcc: x@y.de', 'ä@b.de', `${'a'.repeat(65)}@b.de`, `a@${'b'.repeat(64)}.de`, `a@${'b.'.repeat(126)}de`, null],
  },
  PasswordInput: { schema: PasswordInput, good: ['a', '\u0000', '🦄'.repeat(200), 'x'.repeat(1024)], bad: ['', 'x'.repeat(1025), 7, null, {}] },
  Age: { schema: Age, good: [42], bad: [12, 151, -1, 42.5, '42', null, Infinity] },
  Phone: { schema: Phone, good: ['+1234567', '+123456789012345'], bad: ['', '123', '+0123456', '+123456', '+1234567890123456', '5551234567', '555-1234-567', '+49 170 1234567', '555-123-4567\n', 'tel:+491701234567', 5551234567] },
  Url: {
    schema: Url,
    good: ['http://a', 'http://127.0.0.1:65535/', 'https://a.b-c.example:8443', 'https://a.example?x', 'https://a.example#x', "https://a.example/~b/(c)/d;e=f?g=[h]&i='j'", `https://a.example/${'x'.repeat(2000)}`],
    bad: ['', 'a.example', '//a.example', 'ftp://a.example', 'javascript:alert(1)', 'JAVASCRIPT://a/%0aalert(1)', 'data:text/html,x', 'https://', 'https:///a', 'https://user@a.example', 'https://user:pw@a.example/', 'https://a.example\\@b.example', 'https://.a', 'https://a..b', 'https://-a.b', 'https://a.b-', 'https://a b', 'https://a.example/<script>', 'https://a.example/"onload', 'https://a.example/\n', 'https://a.example/\u0001', 'https://a.example/ä', 'https://a:123456', 'https://a:65536', 'https://a:0', 'https://1.2.3', 'https://2130706433', 'https://0x7f.1/', 'https://1.2.3.999', 'https://[::1]/', `https://a.example/${'x'.repeat(2048)}`, ' https://a.example', 'xhttps://a.example'],
  },
  Bio: { schema: Bio, good: ['a\r\n\tb', 'x'.repeat(500), '<p>a</p>', 'a\n'.repeat(20)], bad: ['x'.repeat(501), 'a\u0000', 'a\u0007', 'a\u007f', `a${'\n'.repeat(20)}b`, '&'.repeat(200), 7] },
  Title: { schema: Title, good: ['a', 'a '.repeat(100), '<b>', '  a  ', '\na\t', `${' '.repeat(900)}a`, '\ud83d\ude00'.repeat(100)], bad: ['', ' ', '\t ', 'a\nb', 'a\u0000', 'x'.repeat(201), '\u00a0\u2003', '\u200b', '\u200d\u2060', 7] },
  Comment: { schema: Comment, good: ['a', '<script>', 'a\n'.repeat(100)], bad: ['', ' \n ', 'x'.repeat(2001), `a${'\n'.repeat(100)}b`, 'a\u0000', 7, ['a']] },
  Content: { schema: Content, good: ['x'.repeat(10_000), 'a\nb\r\nc\td\ne', '<p>ten letter</p>'], bad: ['', 'too short', ' '.repeat(20), 'x'.repeat(10_001), `${'x'.repeat(10)}\u0000`, '<script>ten letters</script>', '&'.repeat(2001), `<b>${'<'.repeat(20_000)}`, 7] },
  Slug: { schema: Slug, good: ['a', 'a-1-b', 'x'.repeat(100)], bad: ['', '-a', 'a-', 'a--b', 'A', 'a b', 'a/b', '..', 'a\n', 'x'.repeat(101)] },
  Tag: { schema: Tag, good: ['a', '-', 'x'.repeat(50)], bad: ['', 'a b', 'ä', 'a_b', 'a\n', 'x'.repeat(51)] },
  Hostname: {
    schema: Hostname,
    good: ['a', '1a.b-c', '3com.example', `${'a'.repeat(63)}.example`, 'A.EXAMPLE', '0xyz.example', '1.2.3.4.example'],
    bad: ['', '.', 'a.', '.a', 'a..b', '-a', 'a-', 'a_b', 'a b', 'a/b', 'ä', 'a:80', '127.0.0.1', '127.1', '2130706433', '0x7f000001', '0x7f.1', '017700000001', '[::1]', '::1', 'a\n', '-c 1', '$(id)', 'a;id', `${'a'.repeat(64)}.example`, `${'a.'.repeat(126)}ab`, 7],
  },
  Ipv4: { schema: Ipv4, good: ['0.0.0.0', '127.0.0.1', '10.20.30.199'], bad: ['', '1.2.3', '1.2.3.4.5', '256.1.1.1', '01.2.3.4', '0x7f.0.0.1', '127.1', '2130706433', '1.2.3.4\n', ' 1.2.3.4', '1.2.3.4/8', '1.2.3.-4', 7] },
  Ipv6: {
    schema: Ipv6,
    good: ['::1', '1::', 'fe80::1', '1:2:3:4:5:6:7:8', '1::8', '1:2:3:4:5:6:7::', '::2:3:4:5:6:7:8', '1:2::7:8', '64:ff9b::192.0.2.33', '1:2:3:4:5:6:1.2.3.4', '::1.2.3.4', 'ABCD::ef'],
    bad: ['', ':', ':::', '1', '1:2', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '1::2::3', '12345::', 'g::', '::1%eth0', '[::1]', '::1\n', ' ::1', '1:2:3:4:5:6:7:8::', '::256.1.1.1', '::1.2.3', '1.2.3.4', '1:2:3:4:5:6:7:1.2.3.4', 7],
  },
  IsoDate: { schema: IsoDate, good: ['2000-02-29'], bad: ['', '2023-02-29', '1900-02-29', '2024-13-01', '2024-00-10', '2024-01-32', '2024-1-1', '24-01-01', '2024-02-29T00:00:00Z', '2024-02-29\n', '20240229', 20240229, null] },
  IsoDateTime: { schema: IsoDateTime, good: ['2024-12-31T23:59:59-11:00'], bad: ['', '2024-02-29', '2024-02-29T10:00:00', '2024-02-30T10:00:00Z', '2024-02-29T25:00:00Z', '2024-02-29T10:00:00Z\n', 1709200800, null] },
  Uuid: { schema: Uuid, good: ['00000000-0000-0000-0000-000000000000', '018f3b1c-1e6f-7c53-9b3c-0b1d4a5b6c7d'], bad: ['', '8F3B1C1E-6F0B-4C53-9B3C-0B1D4A5B6C7D', '8f3b1c1e6f0b4c539b3c0b1d4a5b6c7d', '{8f3b1c1e-6f0b-4c53-9b3c-0b1d4a5b6c7d}', '8f3b1c1e-6f0b-4c53-9b3c-0b1d4a5b6c7g', '8f3b1c1e-6f0b-4c53-9b3c-0b1d4a5b6c7d\n', 7] },
  PaymentToken: { schema: PaymentToken, good: ['tok_1234', `tok_${'x'.repeat(251)}`], bad: ['', 'tok_', 'tok_123', 'TOK_1234', 'pay_12345678', 'tok_12 34', 'tok_1234\n', '4111111111111111', `tok_${'x'.repeat(252)}`, 7] },
  TagList: { schema: TagList, good: [Array(10).fill('a')], bad: [Array(11).fill('a'), ['a', ''], ['a', 7], 'a', { 0: 'a' }] },
  Amount: { schema: Amount, good: [1, 1e12], bad: [-1, 0.5, '1', 1e12 + 1, null, 2 ** 53] },
  Currency: { schema: Currency, good: ['USD'], bad: ['', 'usd', 'EURO', 'EU', 'E R', '€', 'EUR\n'] },
  Money: { schema: Money, good: [{ amount: 0, currency: 'EUR' }], bad: [{ amount: 1 }, { amount: 1, currency: 'EUR', more: 1 }, { amount: 1.5, currency: 'EUR' }] },
  Id: { schema: Id, good: ['a', '-_', 'x'.repeat(64)], bad: ['', 'x'.repeat(65), 'a b', 'a/b', '../a', 'a.b', 'a%2fb', 'a\n', "1' or '1'='1", 1] },
  Cursor: { schema: Cursor, good: ['a', 'x'.repeat(512)], bad: ['', 'x'.repeat(513), 'a=', 'a b'] },
  PageQuery: { schema: PageQuery, good: [{ limit: 1 }], bad: [{ limit: 0 }, { limit: 101 }, { limit: 5, offset: 1 }, { limit: 5, cursor: '' }] },
  Credentials: { schema: Credentials, good: [{ username: "x' or 1=1", password: 'p' }], bad: [{ username: 'a' }, { password: 'p' }, { username: '', password: 'p' }, { username: 'a', password: '' }, { username: 'a', password: 'p', role: 'admin' }, { username: 'x'.repeat(255), password: 'p' }, { username: { $ne: null }, password: 'p' }] },
  TokenInput: { schema: TokenInput, good: ['a', 'a.b.c==', 'x'.repeat(4096)], bad: ['', 'x'.repeat(4097), 'a b', 'a=b', 'a\n', '='] },
  CredentialId: { schema: CredentialId, good: ['a', '-_', 'x'.repeat(1364)], bad: ['', 'x'.repeat(1365), 'a=', 'a+', 'a/b', 'a\n', 1] },
  PasskeyAssertion: {
    schema: PasskeyAssertion,
    good: [{ ...shown, clientExtensionResults: { appid: false, uvm: [[2, 4, 2]], prf: { results: { first: 'AAAA' } } } }, { ...shown, authenticatorAttachment: 'cross-platform' }, { ...shown, response: { ...shown.response, userHandle: 'a'.repeat(86) } }],
    bad: [
      {}, null, [], { ...shown, id: '' }, { ...shown, type: 'password' }, { ...shown, more: 1 }, { ...shown, response: { ...shown.response, more: 1 } }, { ...shown, response: { ...shown.response, userHandle: 'a'.repeat(87) } },
      { ...shown, response: { ...shown.response, signature: 'a'.repeat(2049) } }, { ...shown, clientExtensionResults: { a: { b: { c: { d: 1 } } } } }, { ...shown, clientExtensionResults: { a: 'x'.repeat(1025) } },
      { ...shown, clientExtensionResults: Object.fromEntries(Array.from({ length: 17 }, (_none, i) => [`x${i}`, 1])) }, { ...shown, clientExtensionResults: { a: Array(17).fill(1) } },
    ],
  },
  PasskeyRegistration: {
    schema: PasskeyRegistration,
    good: [{ ...made, response: { ...made.response, authenticatorData: 'SZYN', publicKey: 'MFkw', publicKeyAlgorithm: -7 } }, { ...made, authenticatorAttachment: 'platform' }],
    bad: [
      {}, shown, { ...made, more: 1 }, { ...made, response: { ...made.response, attestationObject: 'a'.repeat(16_385) } }, { ...made, response: { ...made.response, transports: Array(17).fill('usb') } },
      { ...made, response: { ...made.response, transports: ['<b>'] } }, { ...made, response: { ...made.response, publicKeyAlgorithm: '-7' } },
    ],
  },
}

for (const [name, { schema, good, bad }] of Object.entries(cases)) {
  t.test(name, async t => {
    // In a field, because what changes is changed there.
    const field = ajv.compile(closed({ value: schema }))
    const validate = (value: unknown) => field(structuredClone({ value }))
    const examples = schema.examples as unknown[] | undefined
    t.ok(examples !== undefined && examples.length > 0, 'has examples')
    for (const value of [...examples!, ...good]) {
      t.ok(validate(value), `takes ${JSON.stringify(value)?.slice(0, 60)}`)
      const kept = structuredClone({ value })
      t.ok(field(kept) && Value.Check(schema, kept.value), 'and so does TypeBox take what is kept')
      t.ok(field(kept), 'and what is kept is taken again')
    }
    for (const value of bad) t.notOk(validate(value), `refuses ${JSON.stringify(value)?.slice(0, 60)}`)
  })
}

t.test('every leaf that takes input is in the table above', async t => {
  const answers: unknown[] = [PasskeyCreationOptions, PasskeyRequestOptions, Problem, TokenPair, noBody]
  const named = Object.entries(schemas).filter(([, value]) => typeof value === 'object' && !answers.includes(value)).map(([name]) => name)
  t.same(named.sort(), Object.keys(cases).sort())
})

t.test('every text, list and number that is taken has its bounds [ASVS 2.2.1]', async t => {
  const unbounded = (schema: TSchema): string[] => {
    if (schema.const !== undefined) return []
    if (schema.type === 'string') return schema.maxLength === undefined ? ['maxLength'] : []
    if (schema.type === 'integer' || schema.type === 'number') return ['minimum', 'maximum'].filter(name => schema[name] === undefined)
    if (schema.type === 'array') return [...schema.maxItems === undefined ? ['maxItems'] : [], ...unbounded(schema.items as TSchema)]
    return Object.values(schema.properties as Record<string, TSchema> ?? {}).flatMap(unbounded)
  }
  for (const [name, { schema }] of Object.entries(cases)) t.same(unbounded(schema), [], name)
})

t.test('no text makes a pattern slow (CWE-1333)', async t => {
  const patterns = Object.entries(cases).flatMap(([name, { schema }]) => typeof schema.pattern === 'string' ? [[name, new RegExp(schema.pattern, 'u')] as const] : [])
  t.ok(patterns.length > 10)
  const pieces = ['a', 'a.', 'a-', '-', '.', 'a@', 'a@a.', '+1', '1', 'A', ' ', '\t', '=', 'https://a', 'https://a.a-', '%20', 'xn--', 'é', '/', '\n']
  for (const [name, pattern] of patterns) {
    let slowest = 0
    for (const piece of pieces) {
      for (const text of [piece.repeat(20_000), `${piece.repeat(20_000)}!`, `a@${piece.repeat(20_000)}\u0000`, `https://${piece.repeat(20_000)}\u0000`, `${'a'.repeat(60)}@${piece.repeat(20_000)}\n`]) {
        const start = process.hrtime.bigint()
        pattern.test(text)
        slowest = Math.max(slowest, Number(process.hrtime.bigint() - start) / 1e6)
      }
    }
    t.ok(slowest < 250, `${name}: ${slowest.toFixed(1)} ms for twenty thousand pieces, which its maximum of ${String((cases[name]!.schema as { maxLength?: number }).maxLength)} never lets through`)
  }

  await t.test('while nested repetition does', async t => {
    const start = process.hrtime.bigint()
    t.notOk(/^(?:[a-z]+)*$/u.test(`${'a'.repeat(24)}!`))
    t.ok(Number(process.hrtime.bigint() - start) / 1e6 > 250)
  })
})

t.test('shapes', async t => {
  await t.test('closed objects take nothing else, whatever their options say', async t => {
    const Closed = closed({ a: Type.String() }, { additionalProperties: true, description: 'x' })
    t.equal(Closed.additionalProperties, false)
    t.equal(Closed.description, 'x')
  })
  await t.test('a page holds its items and where the next one begins', async t => {
    const validate = ajv.compile(page(Id))
    t.ok(validate({ items: ['a'], nextCursor: 'b' }))
    t.ok(validate({ items: [], nextCursor: null }))
    for (const bad of [{ items: [] }, { nextCursor: null }, { items: [], nextCursor: '' }, { items: ['a b'], nextCursor: null }, { items: [], nextCursor: null, total: 1 }]) t.notOk(validate(bad), JSON.stringify(bad))
  })
  await t.test('no body is nothing, or as good as nothing', async t => {
    const validate = ajv.compile(noBody)
    t.ok(validate(null))
    t.ok(validate({}))
    for (const bad of [{ a: 1 }, [], '', 0, false]) t.notOk(validate(bad))
  })
  await t.test('a token pair is what RFC 6749 (5.1) says', async t => {
    const validate = ajv.compile(TokenPair)
    t.ok(validate({ access_token: 'a', refresh_token: 'r', token_type: 'Bearer', expires_in: 900 }))
    t.ok(validate({ access_token: 'a', refresh_token: 'r', token_type: 'DPoP', expires_in: 900 }))
    t.notOk(validate({ access_token: 'a', refresh_token: 'r', token_type: 'bearer', expires_in: 900 }))
  })
  await t.test('a problem is a 4xx or a 5xx', async t => {
    const validate = ajv.compile(Problem)
    const problem = { type: 'about:blank', title: 'Conflict', status: 409, code: 'APP_CONFLICT' }
    t.ok(validate(problem))
    t.notOk(validate({ ...problem, status: 200 }))
    t.notOk(validate({ ...problem, stack: 'x' }))
  })
})

t.test('what is kept is what the schema says, and nothing else is changed', async t => {
  const kept = (schema: TSchema, value: unknown) => {
    const body = { value }
    t.ok(ajv.validate(closed({ value: schema }), body), JSON.stringify(value))
    return body.value
  }
  t.equal(kept(Title, ' Cafe\u0301\t'), 'Caf\u00e9')
  t.equal(kept(Bio, ' <p onclick="x">Hi <a href="https://x.example">there</a> <em>you</em></p><script>x</script> '), '<p>Hi there <em>you</em></p>')
  t.equal(kept(Content, '<p>See <a href="https://x.example" onclick="x">there</a></p><img src=x>'), '<p>See <a href="https://x.example">there</a></p>')
  t.equal(kept(Comment, ' <b>bold</b> & \n'), '<b>bold</b> &', 'plain text keeps what looks like HTML')
  t.same(kept(TagList, ['b', 'a', 'b', 'B']), ['b', 'a', 'B'])
  for (const [schema, value] of [[Username, 'Bob_42'], [Email, 'A@B.de'], [PasswordInput, ' e\u0301 '], [Url, 'https://A.example/%7e'], [Phone, '555-123-4567']] as const) t.equal(kept(schema, value), value)
  t.equal(comparableEmail('Alice@Example.COM'), 'alice@example.com')
})

t.test('whatever a URL schema takes, URL parsers read as such, with nobody\'s credentials in it (fast-check)', async t => {
  const pattern = new RegExp(Url.pattern!, 'u')
  const part = fc.constantFrom('http', 'https', ':', '//', '@', 'a.example', 'user', 'pw', '/', '\\', '?', '#', '127.0.0.1', '[::1]', '1', '.', '0x7f', '%40', ':80', ' ', '\t', 'javascript', 'xn--a')
  fc.assert(fc.property(fc.oneof(fc.webUrl({ withQueryParameters: true, withFragments: true }), fc.array(part, { maxLength: 8 }).map(parts => parts.join('')), fc.array(part, { maxLength: 6 }).map(parts => `https://${parts.join('')}`)), text => {
    if (!pattern.test(text) || text.includes('xn--')) return
    const { protocol, username, password, hostname } = new URL(text)
    return (protocol === 'http:' || protocol === 'https:') && username === '' && password === '' && text.toLowerCase().includes(hostname)
  }), { interruptAfterTimeLimit: 3000, numRuns: 20_000 })
  t.pass()
})

t.test('addresses are those that Node knows (fast-check)', async t => {
  const { isIPv4, isIPv6 } = await import('node:net')
  const [four, six] = [new RegExp(Ipv4.pattern!, 'u'), new RegExp(Ipv6.pattern!, 'u')]
  const part = fc.constantFrom(':', '::', '0', '1', 'ffff', 'abcd1', 'g', '.', '192.0.2.1', '256.0.0.1', '01.2.3.4', '')
  fc.assert(fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), fc.ipV4Extended(), fc.array(part, { maxLength: 16 }).map(parts => parts.join('')), fc.array(fc.constantFrom('1', 'a', '', '1.2.3.4'), { maxLength: 9 }).map(parts => parts.join(':'))),
    text => four.test(text) === isIPv4(text) && six.test(text) === isIPv6(text)), { interruptAfterTimeLimit: 3000, numRuns: 20_000 })
  t.pass()
})
