/** Schemas: what each leaf takes and refuses, that all of them are bounded, and that no text makes them slow. */
import { Type, type TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { Ajv } from 'ajv'
import t from 'tap'
import * as schemas from '../schemas/index.js'

const { Age, Amount, Bio, Content, CredentialId, Credentials, Currency, Cursor, Email, Id, Money, PageQuery, PasskeyAssertion, PasskeyCreationOptions, PasskeyRegistration, PasskeyRequestOptions, PasswordInput, Phone, Problem, Slug, Tag, TagList, Title, TokenInput, TokenPair, Url, Username, closed, noBody, page } = schemas
const ajv = new Ajv({ strict: true, strictTypes: false })

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
    good: ['http://a', 'https://a.b-c.example:8443', 'https://a.example?x', 'https://a.example#x', "https://a.example/~b/(c)/d;e=f?g=[h]&i='j'", `https://a.example/${'x'.repeat(2000)}`],
    bad: ['', 'a.example', '//a.example', 'ftp://a.example', 'javascript:alert(1)', 'JAVASCRIPT://a/%0aalert(1)', 'data:text/html,x', 'https://', 'https:///a', 'https://user@a.example', 'https://user:pw@a.example/', 'https://a.example\\@b.example', 'https://.a', 'https://a..b', 'https://-a.b', 'https://a.b-', 'https://a b', 'https://a.example/<script>', 'https://a.example/"onload', 'https://a.example/\n', 'https://a.example/\u0001', 'https://a.example/ä', 'https://a:123456', `https://a.example/${'x'.repeat(2048)}`, ' https://a.example', 'xhttps://a.example'],
  },
  Bio: { schema: Bio, good: ['a\r\n\tb', 'x'.repeat(500), '<b>'], bad: ['x'.repeat(501), 'a\u0000', 'a\u0007', 'a\u007f', 7] },
  Title: { schema: Title, good: ['a', 'a '.repeat(100), '<b>', '  a  '], bad: ['', ' ', '\t ', 'a\nb', '\na', 'a\u0000', 'x'.repeat(201), '\u00a0\u2003'] },
  Content: { schema: Content, good: ['x'.repeat(10_000), 'a\nb\r\nc\td\ne'], bad: ['', 'too short', 'x'.repeat(10_001), `${'x'.repeat(10)}\u0000`] },
  Slug: { schema: Slug, good: ['a', 'a-1-b', 'x'.repeat(100)], bad: ['', '-a', 'a-', 'a--b', 'A', 'a b', 'a/b', '..', 'a\n', 'x'.repeat(101)] },
  Tag: { schema: Tag, good: ['a', '-', 'x'.repeat(50)], bad: ['', 'a b', 'ä', 'a_b', 'a\n', 'x'.repeat(51)] },
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
    const validate = ajv.compile(schema)
    const examples = schema.examples as unknown[] | undefined
    t.ok(examples !== undefined && examples.length > 0, 'has examples')
    for (const value of [...examples!, ...good]) {
      t.ok(validate(value), `takes ${JSON.stringify(value)?.slice(0, 60)}`)
      t.ok(Value.Check(schema, value), 'and so does TypeBox')
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
