/** Keywords of the suite: what they change is changed once, where a schema says so, and is what is stored; rules between fields; all faults of small bodies. */
import Fastify, { type FastifyInstance, type RouteOptions } from 'fastify'
import { Type, type TSchema } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import errors from '../plugins/errors.js'
import events from '../plugins/events.js'
import { htmlCleaner } from '../plugins/html.js'
import plan from '../plugins/plan/index.js'
import { server } from '../plugins/server.js'
import validation, { type Rule, type ValidationOptions } from '../plugins/validation/index.js'
import { closed, noBody } from '../schemas/closed.js'
import { plainText } from '../schemas/text.js'
import fc from './fixtures/fast-check.js'

const seed = Number(process.env.FAST_CHECK_SEED ?? Date.now() % 2 ** 31)
t.comment(`FAST_CHECK_SEED=${seed}`)

interface Built {
  app: FastifyInstance
  /** What reached a handler. */
  seen: any[]
  take: (url: string, body: TSchema, more?: Partial<RouteOptions>) => void
  send: (url: string, body: unknown) => Promise<{ status: number, problem: any, text: string }>
}

async function build (t: Test, options: ValidationOptions = {}): Promise<Built> {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors]) await app.register(plugin as never)
  await app.register(validation, options)
  const seen: any[] = []
  return {
    app,
    seen,
    take (url, body, more = {}) {
      app.route({ method: 'POST', url, schema: { body }, handler: async request => { seen.push(request.body); return { ok: true } }, ...more })
    },
    async send (url, body) {
      const answer = await app.inject({ method: 'POST', url, payload: JSON.stringify(body), headers: { 'content-type': 'application/json' } })
      return { status: answer.statusCode, problem: answer.json(), text: answer.body }
    },
  }
}

const Optional = Type.Optional

t.test('trim, normalize, html and distinct change what they stand for before its bounds are looked at, and nothing else', async t => {
  const { seen, take, send } = await build(t)
  take('/', closed({
    trimmed: Optional(Type.String({ trim: true, minLength: 1, maxLength: 5 })),
    composed: Optional(Type.String({ normalize: 'NFC', maxLength: 1 })),
    compatible: Optional(Type.String({ normalize: 'NFKC', trim: true, pattern: '^[a-z]+$' })),
    clean: Optional(Type.String({ html: 'inline', trim: true, minLength: 3, maxLength: 30 })),
    tags: Optional(Type.Array(Type.String({ trim: true }), { distinct: true, maxItems: 4, minItems: 2 })),
    lines: Optional(Type.String({ maxLines: 3 })),
    kept: Optional(Type.String()),
    deep: Optional(Type.Array(closed({ text: Type.String({ trim: true }) }))),
    maybe: Optional(Type.Union([Type.String({ trim: true, minLength: 1 }), Type.Null()])),
  }))
  const changed: [sent: Record<string, unknown>, kept: Record<string, unknown>][] = [
    [{ trimmed: `  12345${' '.repeat(50)}\n` }, { trimmed: '12345' }],
    [{ trimmed: '\ufeff\u00a0x\u2003' }, { trimmed: 'x' }],
    [{ composed: 'e\u0301' }, { composed: 'é' }],
    [{ compatible: ' ｆｉne ' }, { compatible: 'fine' }],
    [{ clean: ' <em onclick=x>Hi</em><script>x</script> ' }, { clean: '<em>Hi</em>' }],
    [{ tags: [' a', 'a ', 'b', 'a'] }, { tags: ['a', 'b'] }],
    [{ lines: 'a\r\nb\nc' }, { lines: 'a\r\nb\nc' }],
    [{ kept: ' e\u0301 <b>\n' }, { kept: ' e\u0301 <b>\n' }],
    [{ deep: [{ text: ' a ' }, { text: 'b\t' }] }, { deep: [{ text: 'a' }, { text: 'b' }] }],
    [{ maybe: ' x ' }, { maybe: 'x' }],
    [{ maybe: null }, { maybe: null }],
  ]
  for (const [sent, kept] of changed) {
    t.equal((await send('/', sent)).status, 200, encodeURI(JSON.stringify(sent)))
    t.strictSame(seen.at(-1), kept)
    t.equal((await send('/', kept)).status, 200)
    t.strictSame(seen.at(-1), kept, 'and what is kept is stable')
  }
  seen.length = 0
  const refused: [Record<string, unknown>, RegExp][] = [
    [{ trimmed: '   ' }, /fewer than 1 character/], [{ trimmed: ' 123456 ' }, /more than 5/], [{ trimmed: 7 }, /must be string/], [{ composed: 'e\u0301e' }, /more than 1/], [{ clean: '<script>abc</script>' }, /fewer than 3/],
    [{ clean: `<i>${'<b>'.repeat(20)}abc` }, /twice as long/], [{ clean: '&'.repeat(10) }, /more than 30/], [{ tags: ['a', ' a'] }, /differ/], [{ tags: ['a', 'a', 'a', 'a', 'b'] }, /more than 4/], [{ tags: 'a' }, /must be array/], [{ lines: 'a\nb\rc\u2028d' }, /more than 3 lines/], [{ maybe: ' ' }, /fewer than 1/],
  ]
  for (const [body, message] of refused) {
    const { status, problem } = await send('/', body)
    t.equal(status, 400, encodeURI(JSON.stringify(body)))
    t.match(problem, { code: 'FST_BASTION_VALIDATION_REFUSED', errors: [{ path: String, message: String }] })
    t.ok(problem.errors.some((error: { message: string }) => message.test(error.message)), `${encodeURI(JSON.stringify(body))}: ${JSON.stringify(problem.errors)}`)
  }
  t.strictSame(seen, [])
})

t.test('in queries and parameters too', async t => {
  const { app } = await build(t)
  app.get('/:name', { schema: { params: closed({ name: Type.String({ trim: true, minLength: 1 }) }), querystring: closed({ tag: Optional(Type.Array(Type.String(), { distinct: true })) }) } }, async request => [request.params, request.query])
  t.strictSame((await app.inject('/%20a%20?tag=b&tag=b&tag=c')).json(), [{ name: 'a' }, { tag: ['b', 'c'] }])
  t.equal((await app.inject('/%20')).statusCode, 400)
})

t.test('html takes a list of its own, and cleans before it is trimmed', async t => {
  const { seen, take, send } = await build(t)
  take('/', closed({ text: Type.String({ html: { h2: ['id'], code: [] }, normalize: 'NFC', trim: true, maxLength: 100 }) }))
  await send('/', { text: '<h2 id="a" onclick="x">Cafe\u0301</h2><p>x</p> <script>x</script>' })
  t.strictSame(seen, [{ text: '<h2 id="a">Café</h2>x' }])
})

t.test('what is kept is stable, whatever was sent (fast-check)', async t => {
  const { app, seen, take } = await build(t)
  take('/', closed({ text: plainText({ maxLength: 5000, maxLines: 50, html: 'post' }), tags: Type.Array(Type.String({ trim: true, normalize: 'NFC' }), { distinct: true, maxItems: 20 }) }))
  await app.ready()
  const clean = htmlCleaner({ p: [], a: ['href'] }, { normalize: true })
  t.equal(clean('x'), 'x')
  const text = fc.array(fc.oneof(fc.string({ unit: 'grapheme', maxLength: 4 }), fc.constantFrom('<p>', '</p>', '<a href="https://x.example">', '<script>', '&lt;', '&nbsp;', ' ', '\n', '\u0301', '\u0338', '\ufeff')), { maxLength: 12 }).map(parts => parts.join(''))
  await fc.assert(fc.asyncProperty(text, fc.array(fc.oneof(text, fc.constantFrom('a', ' a', 'a\n', 'é', 'e\u0301')), { maxLength: 8 }), async (text, tags) => {
    const ask = async (body: unknown) => (await app.inject({ method: 'POST', url: '/', payload: JSON.stringify(body), headers: { 'content-type': 'application/json' } })).statusCode
    const status = await ask({ text, tags })
    if (status !== 200) return status === 400
    const kept = seen.pop()
    const isTwice = await ask(kept) === 200
    const again = seen.pop()
    return isTwice && JSON.stringify(again) === JSON.stringify(kept) && new Set(kept.tags).size === kept.tags.length && kept.tags.every((tag: string) => tag === tag.normalize().trim())
  }), { seed, numRuns: 5000, interruptAfterTimeLimit: 3000 })
  t.pass()
})

interface Period { from: string, to?: string, password: string, again: string }
const rules: Rule<Period>[] = [
  { path: '/to', message: 'must not be before from', holds: ({ from, to }) => to === undefined || to >= from },
  { path: '/again', message: 'must be the same as password', holds: ({ password, again }) => password === again },
]
const Booking = closed({ from: Type.String({ format: 'date' }), to: Optional(Type.String({ format: 'date' })), password: Type.String({ maxLength: 20 }), again: Type.String({ maxLength: 20 }) }, { rules })

t.test('rules between fields are asked once each has its form, and tell their place', async t => {
  const { seen, take, send } = await build(t)
  take('/', Booking)
  take('/in', closed({ bookings: Type.Array(Booking) }))
  const good = { from: '2024-01-01', to: '2024-01-02', password: 'a', again: 'a' }
  t.equal((await send('/', good)).status, 200)
  t.equal((await send('/', { from: '2024-01-01', password: 'a', again: 'a' })).status, 200, 'what is optional may be absent')
  t.strictSame((await send('/', { ...good, to: '2023-12-31' })).problem.errors, [{ path: '/to', message: 'must not be before from' }])
  const unlike = await send('/', { ...good, again: 'hunter2' })
  t.strictSame(unlike.problem.errors, [{ path: '/again', message: 'must be the same as password' }])
  t.notMatch(unlike.text, 'hunter2')
  t.strictSame((await send('/in', { bookings: [good, { ...good, again: 'b' }] })).problem.errors, [{ path: '/bookings/1/again', message: 'must be the same as password' }])
  t.match((await send('/', { ...good, to: 7, again: 'b' })).problem.errors, [{ path: '/to', message: 'must be string' }], 'no rule sees what has not its form')
  t.equal(seen.length, 2)
  t.equal(JSON.stringify(Booking).includes('must be the same as password'), true, 'and they stand in the schema that documentation shows')
})

t.test('the first fault, unless a body is as small as the option says: then all of them [TRAP 26]', async t => {
  const Many = closed({ a: Type.Integer(), b: Type.String({ maxLength: 3 }), c: Type.Array(closed({ d: Type.Boolean() })) }, { rules: [{ path: '/a', message: 'is asked', holds: () => false }] })
  const wrong = { a: 'hunter2', b: 'hunter2', c: [{ d: 1 }, { e: 2 }], f: 1 }

  await t.test('by default the first', async t => {
    const { take, send } = await build(t)
    take('/', Many)
    t.equal((await send('/', wrong)).problem.errors.length, 1)
  })

  await t.test('all of a small one, with each path, and no value', async t => {
    const { seen, take, send } = await build(t, { allErrors: 200 })
    take('/', Many)
    take('/off', Many, { config: { validation: { allErrors: 0 } } as never })
    const { status, problem, text } = await send('/', wrong)
    t.equal(status, 400)
    t.same(problem.errors.map(({ path }: { path: string }) => path).sort(), ['/a', '/b', '/c/0/d', '/c/1/d', '/c/1/e', '/f'])
    t.notMatch(text, 'hunter2')
    t.strictSame((await send('/', { a: 1, b: 'x', c: [] })).problem.errors, [{ path: '/a', message: 'is asked' }], 'a rule where nothing else is wrong')
    t.equal((await send('/', { ...wrong, b: 'x'.repeat(200) })).problem.errors.length, 1, 'of a larger one the first')
    t.equal((await send('/off', wrong)).problem.errors.length, 1, 'and where the route says so')
    t.equal((await send('/', 'x')).problem.errors.length, 1)
    t.strictSame(seen, [])
  })

  await t.test('on a route alone, and 32 at most', async t => {
    const { take, send } = await build(t)
    take('/usual', closed({ list: Type.Array(Type.String()) }))
    take('/form', closed({ list: Type.Array(Type.String()) }), { config: { validation: { allErrors: 65_536 } } as never })
    const list = Array(5000).fill(1)
    t.equal((await send('/usual', { list })).problem.errors.length, 1)
    t.equal((await send('/form', { list })).problem.errors.length, 32)
  })
})

t.test('JSON is bounded in fields, lists, texts and depth [ASVS 2.2.1]', async t => {
  const Free = closed({ map: Optional(Type.Record(Type.String({ pattern: '^' }), Type.Integer(), { additionalProperties: false })), list: Optional(Type.Array(Type.Integer())), text: Optional(Type.String()), deep: Optional(Type.Array(Type.Array(Type.Array(Type.Integer())))) })
  const { seen, take, send } = await build(t, { maxKeys: 50, maxItems: 20, maxText: 30 })
  take('/', Free)
  take('/more', Free, { config: { validation: { maxKeys: 200, maxItems: 100, maxText: 100, maxDepth: 3 } } as never })
  const map = (n: number) => Object.fromEntries(Array.from({ length: n }, (_none, i) => [`k${i}`, i]))
  const bodies: [unknown, string | null, string | null][] = [
    [{ map: map(49) }, null, null], [{ map: map(50) }, 'TOO_MUCH', null], [{ map: map(200) }, 'TOO_MUCH', 'TOO_MUCH'],
    [{ list: Array(20).fill(0) }, null, null], [{ list: Array(21).fill(0) }, 'TOO_MUCH', null], [{ list: Array(101).fill(0) }, 'TOO_MUCH', 'TOO_MUCH'],
    [{ text: 'x'.repeat(30) }, null, null], [{ text: 'x'.repeat(31) }, 'TOO_MUCH', null], [{ text: 'x'.repeat(101) }, 'TOO_MUCH', 'TOO_MUCH'], [{ map: { ['x'.repeat(31)]: 1 } }, 'TOO_MUCH', null],
    [{ deep: [[[1]]] }, null, 'TOO_DEEP'],
  ]
  for (const [body, usual, more] of bodies) {
    for (const [url, code] of [['/', usual], ['/more', more]] as const) {
      const { status, problem } = await send(url, body)
      t.equal(status, code === null ? 200 : 400, `${url} ${JSON.stringify(body).slice(0, 40)}`)
      if (code !== null) t.equal(problem.code, `FST_BASTION_VALIDATION_${code}`)
    }
  }
  const before = seen.length
  const flood = await build(t)
  flood.take('/', Free)
  t.equal((await flood.send('/', { map: map(10_001) })).problem.code, 'FST_BASTION_VALIDATION_TOO_MUCH', 'ten thousand where nothing is said')
  t.equal((await flood.send('/', { text: 'x'.repeat(100_001) })).problem.code, 'FST_BASTION_VALIDATION_TOO_MUCH')
  t.equal((await flood.send('/', { map: map(9000), text: '[{":,'.repeat(10_000) })).status, 200, 'and what stands in a text counts as text')
  t.equal(seen.length, before)
})

t.test('attack: one field twice, of which one reader takes the first and another the last (CWE-436) [ASVS 15.3.7]', async t => {
  const { app, seen, take } = await build(t)
  take('/', closed({ role: Optional(Type.String()), deep: Optional(closed({ role: Optional(Type.String()) })), list: Optional(Type.Array(closed({ a: Type.Integer() }))) }))
  const ask = async (payload: string) => {
    const answer = await app.inject({ method: 'POST', url: '/', payload, headers: { 'content-type': 'application/json' } })
    return answer.statusCode === 200 ? 200 : answer.json().code
  }
  for (const body of [
    '{"role":"user","role":"admin"}', '{"role":"user","role":"user"}', '{"role":"user","r\\u006fle":"admin"}', '{"\\u0072ole":"user","role":"admin"}', '{"deep":{"role":"a","role":"b"}}', '{"deep":{},"deep":{"role":"b"}}', '{"list":[{"a":1,"a":2}]}', '{"role":"a" , "role"\n:\t"b"}', '{"1":1,"1":2}',
  ]) t.equal(await ask(body), 'FST_BASTION_VALIDATION_REPEATED', body)
  t.strictSame(seen, [])
  for (const body of ['{"role":"a","deep":{"role":"b"}}', '{"list":[{"a":1},{"a":2}]}', '{"role":"\\"role\\":1,{"}', '{"role":"\\\\","deep":{}}', '{"role":"\\\\\\""}', '\ufeff{"role":"a"}']) t.equal(await ask(body), 200, body)
  t.equal(JSON.parse('{"role":"user","role":"admin"}').role, 'admin', 'while JSON.parse takes the last in silence')
})

t.test('attack: an integer that would become another one', async t => {
  const { app, seen, take } = await build(t)
  take('/', closed({ id: Type.Number() }))
  const ask = async (text: string) => (await app.inject({ method: 'POST', url: '/', payload: `{"id":${text}}`, headers: { 'content-type': 'application/json' } })).json().code
  for (const text of ['9007199254740993', '-9007199254740993', '9007199254740992', '1e20', '123456789012345678901234567890']) t.equal(await ask(text), 'FST_BASTION_VALIDATION_NUMBER', text)
  for (const text of ['1e400', '-1e400']) t.equal(await ask(text), 'FST_BASTION_VALIDATION_REFUSED', text)
  for (const text of ['9007199254740991', '-9007199254740991', '0.1', '1e15', '-0']) t.equal(await ask(text), undefined, text)
  t.equal(seen.length, 5)
  t.equal(JSON.parse('9007199254740993'), 9007199254740992, 'while JSON.parse makes another of it in silence')
})

t.test('any JSON is read as JSON.parse reads it, or refused, and never a failure (fast-check)', async t => {
  const { app, seen, take } = await build(t)
  const Any = Type.Recursive(Self => Type.Union([Type.Null(), Type.Boolean(), Type.Number(), Type.String(), Type.Array(Self), Type.Object({}, { additionalProperties: Self })]))
  take('/', Any)
  await app.ready()
  const piece = fc.constantFrom('{', '}', '[', ']', ':', ',', '"', '\\', '"a"', '"b"', '"a":', '1', '-0', 'null', 'true', ' ', '\\u0000', '"\\ud800"', '"__proto__":', '"constructor":', '1e5', '\n', '\u2028', 'é')
  const text = fc.oneof({ weight: 3, arbitrary: fc.json({ maxDepth: 5 }) }, fc.array(piece, { maxLength: 16 }).map(parts => parts.join('')), fc.string({ minLength: 1 })).filter(payload => payload !== '')
  let taken = 0
  await fc.assert(fc.asyncProperty(text, async payload => {
    const { statusCode } = await app.inject({ method: 'POST', url: '/', payload, headers: { 'content-type': 'application/json' } })
    if (statusCode !== 200) return statusCode === 400
    taken++
    return JSON.stringify(seen.pop()) === JSON.stringify(JSON.parse(payload))
  }), { seed, numRuns: 8000, interruptAfterTimeLimit: 3000 })
  t.ok(taken > 100, `${taken} were taken`)
})

t.test('misconfiguration stops boot', async t => {
  await t.test('options', async t => {
    for (const options of [{ allErrors: -1 }, { allErrors: true }, { allErrors: 1e6 }, { maxDepth: 0 }, { maxDepth: 1000 }, { maxkeys: 1 }, { maxText: '1' }]) await t.rejects(build(t, options as never), { code: 'FST_BASTION_VALIDATION_MISCONFIGURED' }, JSON.stringify(options))
  })
  const objects = (title: string, body: TSchema, message: RegExp, more: Partial<RouteOptions> = {}) => t.test(title, async t => {
    const { app, take } = await build(t)
    take('/route', body, more)
    await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message })
  })
  const text = Type.String({ trim: true })
  await objects('options of a route', closed({}), /POST \/route: validation: maxdepth/, { config: { validation: { maxdepth: 1 } } as never })
  await objects('options of a route that are none', closed({}), /POST \/route: validation: options/, { config: { validation: false } as never })
  await objects('a change of the whole body', text, /POST \/route: a keyword that changes its value cannot stand in the whole body/)
  await objects('a change in a branch of a union that the next would see', closed({ a: Type.Union([Type.String({ trim: true, maxLength: 3 }), Type.String()]) }), /cannot stand in the branches of anyOf/)
  await objects('a change in an object of a union', Type.Union([closed({ a: text }), closed({ b: text })]), /cannot stand in the branches of anyOf/)
  await objects('a change where it only looks', closed({ a: Type.String({ not: { type: 'string', trim: true } }) }), /cannot stand in not/)
  await objects('a change in contains', closed({ a: Type.Array(Type.String(), { contains: text }) }), /cannot stand in contains/)
  await objects('objects that differ', closed({ a: Type.Array(closed({ b: Type.Integer() }), { distinct: true }) }), /cannot stand in a list of what is no text/)
  await objects('an HTML list of no name', closed({ a: Type.String({ html: 'all' }) }), /html: there is no allowlist "all"/)
  await objects('an HTML list that holds scripts', closed({ a: Type.String({ html: { script: [] } }) }), /html: script is no element/)
  await objects('a form that Unicode does not know', closed({ a: Type.String({ normalize: 'NFX' }) }), /its body cannot be validated/)
  await objects('no lines at all', closed({ a: Type.String({ maxLines: 0 }) }), /its body cannot be validated/)
  await objects('a keyword that is misspelt', closed({ a: Type.String({ trimm: true }) }), /its body cannot be validated: .*trimm/)
  await objects('a rule without a question', closed({}, { rules: [{ path: '/a', message: 'x' } as never] }), /rules: each has a path, a message and holds/)

  await t.test('while a change beside null, or in objects that stand in no union, boots', async t => {
    const { app, take } = await build(t)
    take('/a', closed({ a: Type.Union([text, Type.Null()]), b: Type.Array(closed({ c: text })) }))
    take('/b', noBody)
    await app.ready()
    t.pass()
  })
})
