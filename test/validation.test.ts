/** Validation: what arrives has exactly the declared form; nothing is dropped, nothing is changed, nothing passes unread. */
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect, type AddressInfo } from 'node:net'
import { createGunzip, gzipSync } from 'node:zlib'
import { join } from 'node:path'
import Fastify, { type FastifyInstance, type InjectOptions, type RouteOptions } from 'fastify'
import { Type, type TSchema } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import ts from 'typescript'
import errors from '../plugins/errors.js'
import events from '../plugins/events.js'
import plan from '../plugins/plan/index.js'
import { server } from '../plugins/server.js'
import validation, { type ValidationOptions } from '../plugins/validation/index.js'
import { closed, noBody } from '../schemas/closed.js'

interface Built {
  app: FastifyInstance
  /** What reached a handler. */
  seen: { body: unknown, query: unknown, params: unknown }[]
  /** Declares a route whose handler keeps what it gets. */
  take: (method: string | string[], url: string, schema?: Record<string, unknown>, more?: Partial<RouteOptions>) => void
}

async function build (t: Test, options: ValidationOptions = {}): Promise<Built> {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors]) await app.register(plugin as never)
  await app.register(validation, options)
  const seen: Built['seen'] = []
  return {
    app,
    seen,
    take (method, url, schema, more = {}) {
      app.route({
        method: method as never,
        url,
        ...(schema !== undefined && { schema }),
        handler: async ({ body, query, params }) => { seen.push({ body, query, params }); return { ok: true } },
        ...more,
      })
    },
  }
}

/** The same route on plain Fastify. */
async function plain (t: Test, schema: Record<string, unknown> | undefined, request: InjectOptions, prepare: (app: FastifyInstance) => void = () => {}) {
  const app = Fastify()
  t.teardown(() => app.close())
  const seen: Built['seen'] = []
  prepare(app)
  app.route({
    method: (request.method ?? 'POST') as never,
    url: '/',
    ...(schema !== undefined && { schema }),
    handler: async ({ body, query, params }) => { seen.push({ body, query, params }); return { ok: true } },
  })
  const answer = await app.inject({ method: 'POST', url: '/', ...request })
  return { status: answer.statusCode, seen }
}

const send = (app: FastifyInstance, url: string, payload: unknown, headers: Record<string, string> = {}) =>
  app.inject({ method: 'POST', url, payload: typeof payload === 'string' ? payload : JSON.stringify(payload), headers: { 'content-type': 'application/json', ...headers } })

const Name = Type.String({ minLength: 1, maxLength: 20 })

t.test('an unknown field is refused wherever it stands [ASVS 15.3.3] [TRAP 16]', async t => {
  const Pet = closed({ name: Name })
  const bodies: Record<string, { schema: TSchema, good: unknown, bad: Record<string, unknown> }> = {
    'at the top': { schema: closed({ name: Name }), good: { name: 'a' }, bad: { '/isAdmin': { name: 'a', isAdmin: true } } },
    'in an object': { schema: closed({ pet: Pet }), good: { pet: { name: 'a' } }, bad: { '/pet/owner': { pet: { name: 'a', owner: 1 } } } },
    'in a list': { schema: closed({ pets: Type.Array(Pet) }), good: { pets: [{ name: 'a' }] }, bad: { '/pets/0/owner': { pets: [{ name: 'a', owner: 1 }] } } },
    'in a list at the top': { schema: Type.Array(Pet), good: [{ name: 'a' }], bad: { '/0/owner': [{ name: 'a', owner: 1 }] } },
    'in a tuple': { schema: closed({ two: Type.Tuple([Pet, Type.Integer()]) }), good: { two: [{ name: 'a' }, 1] }, bad: { '/two/0/owner': { two: [{ name: 'a', owner: 1 }, 1] }, '/two': { two: [{ name: 'a' }, 1, 'more'] } } },
    'in a union': { schema: closed({ it: Type.Union([Pet, Type.Null()]) }), good: { it: null }, bad: { '/it/owner': { it: { name: 'a', owner: 1 } } } },
    'in a map': { schema: Type.Record(Type.String({ pattern: '^[a-z]+$' }), Pet, { additionalProperties: false }), good: { x: { name: 'a' } }, bad: { '/x/owner': { x: { name: 'a', owner: 1 } }, '/X': { X: { name: 'a' } } } },
    'in a composite': { schema: Type.Composite([closed({ a: Name }), closed({ b: Name })], { additionalProperties: false }), good: { a: 'a', b: 'b' }, bad: { '/c': { a: 'a', b: 'b', c: 1 } } },
    'in what refers to itself': { schema: Type.Recursive(Self => closed({ name: Name, next: Type.Optional(Self) })), good: { name: 'a', next: { name: 'b' } }, bad: { '/next/x': { name: 'a', next: { name: 'b', x: 1 } } } },
  }
  for (const [place, { schema, good, bad }] of Object.entries(bodies)) {
    await t.test(place, async t => {
      const { app, seen, take } = await build(t)
      take('POST', '/', { body: schema })
      t.equal((await send(app, '/', good)).statusCode, 200)
      t.same(seen[0]!.body, good)
      for (const [path, body] of Object.entries(bad)) {
        const answer = await send(app, '/', body)
        t.equal(answer.statusCode, 400)
        t.equal(answer.json().code, 'FST_BASTION_VALIDATION_REFUSED')
        t.match(answer.json().errors[0].path, path)
      }
      t.equal(seen.length, 1, 'no handler saw it')
    })
  }

  await t.test('while plain Fastify drops it in silence where the body is closed, and lets it pass where it is not', async t => {
    const body = { name: 'a', isAdmin: true }
    t.same((await plain(t, { body: closed({ name: Name }) }, { payload: body })).seen[0]!.body, { name: 'a' })
    t.same((await plain(t, { body: Type.Object({ name: Name }) }, { payload: body })).seen[0]!.body, body)
  })
})

t.test('references are followed, in the scope in which they stand', async t => {
  const { app, seen, take } = await build(t)
  app.addSchema({ $id: 'Pet', ...closed({ name: Name }), definitions: { Tag: closed({ tag: Name }) } })
  take('POST', '/shared', { body: closed({ pet: Type.Unsafe({ $ref: 'Pet#' }), tag: Type.Unsafe({ $ref: 'Pet#/definitions/Tag' }) }) })
  for (const [scope, field] of [['/a', 'left'], ['/b', 'right']] as const) {
    await app.register(async child => {
      child.addSchema({ $id: 'Thing', ...closed({ [field]: Name }) })
      child.post(scope, { schema: { body: Type.Unsafe({ $ref: 'Thing#' }) } }, async request => { seen.push(request as never); return {} })
    })
  }
  t.equal((await send(app, '/shared', { pet: { name: 'a' }, tag: { tag: 'b' } })).statusCode, 200)
  t.equal((await send(app, '/shared', { pet: { name: 'a', x: 1 }, tag: { tag: 'b' } })).statusCode, 400)
  t.equal((await send(app, '/shared', { pet: { name: 'a' }, tag: { tag: 'b', x: 1 } })).statusCode, 400)
  t.equal((await send(app, '/a', { left: 'x' })).statusCode, 200)
  t.equal((await send(app, '/a', { right: 'x' })).statusCode, 400)
  t.equal((await send(app, '/b', { right: 'x' })).statusCode, 200)
  t.equal((await send(app, '/b', { right: 'x', left: 'x' })).statusCode, 400)
  t.equal((await send(app, '/b', { right: 7 })).statusCode, 400, 'a scope with schemas of its own coerces nothing either')
  t.equal(seen.length, 3)

  await t.test('while plain Fastify gives a scope that adds schemas a compiler of its own, whatever the root has set', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    app.setValidatorCompiler(() => () => false)
    await app.register(async child => {
      child.addSchema({ $id: 'Thing', ...closed({ name: Name }) })
      child.post('/', { schema: { body: Type.Unsafe({ $ref: 'Thing#' }) } }, async request => request.body)
    })
    t.same((await app.inject({ method: 'POST', url: '/', payload: { name: 7, more: 1 } })).json(), { name: '7' })
  })
})

/** Where a value of another type would be equal, or taken for a number, in what the suite and the portal run. */
function looseComparisons (): string[] {
  const root = new URL('../', import.meta.url).pathname
  const files = ['plugins', 'schemas', 'demo'].flatMap(folder => readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map(name => `${folder}/${name}`))
  return files.filter(name => /\.[jt]s$/.test(name) && !name.startsWith('demo/vulnerable/')).flatMap(name => looseIn(name, readFileSync(join(root, name), 'utf8')))
}

function looseIn (name: string, text: string): string[] {
  if (!/[^=!<>]==[^=]|!=[^=]/.test(text)) return []
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.ES2022)
  const found: string[] = []
  function visit (node: ts.Node): void {
    if (ts.isBinaryExpression(node) && [ts.SyntaxKind.EqualsEqualsToken, ts.SyntaxKind.ExclamationEqualsToken].includes(node.operatorToken.kind)) found.push(`${name}: ${node.getText(source)}`)
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

t.test('nothing in a body is coerced, and nothing is compared but with its type [TRAP 16] [ASVS 15.3.5]', async t => {
  const Body = closed({ flag: Type.Optional(Type.Boolean()), count: Type.Optional(Type.Integer()), text: Type.Optional(Type.String()), none: Type.Optional(Type.Null()), list: Type.Optional(Type.Array(Type.String())) })
  const wrong: Record<string, unknown>[] = [
    { flag: 'true' }, { flag: 1 }, { flag: '' }, { count: '7' }, { count: true }, { count: 7.5 }, { count: null }, { text: 7 }, { text: ['x'] }, { text: null }, { text: { a: 1 } },
    { none: '' }, { none: 0 }, { none: false }, { list: 'x' }, { list: { 0: 'x', length: 1 } }, { list: [1] },
  ]
  const { app, seen, take } = await build(t)
  take('POST', '/', { body: Body })
  for (const body of wrong) t.equal((await send(app, '/', body)).statusCode, 400, JSON.stringify(body))
  for (const body of ['"x"', '7', 'true', '[]', 'null', '[{}]']) t.equal((await send(app, '/', body)).statusCode, 400, body)
  t.equal(seen.length, 0)
  const right = { flag: true, count: 7, text: 'x', none: null, list: ['x'] }
  t.equal((await send(app, '/', right)).statusCode, 200)
  t.same(seen[0]!.body, right)
  for (const body of [{ flag: 'true' }, { count: '7' }, { text: 7 }]) t.equal((await plain(t, { body: Body }, { payload: body })).status, 200, 'while plain Fastify does')

  t.same(looseComparisons(), [])
  t.same(looseIn('x.js', 'if (code == 0) a = b != c; // d == e\nconst text = "f == g" === h'), ['x.js: code == 0', 'x.js: b != c'], 'others would be seen')

  await t.test('negative control: a code that is compared without its type, on plain Fastify, is passed by what is none', async t => {
    const bare = Fastify()
    t.teardown(() => bare.close())
    bare.post('/', async request => ({ isRight: (request.body as { code: unknown }).code == '000000' })) // eslint-disable-line eqeqeq
    for (const code of [0, false, ['000000']]) t.same((await bare.inject({ method: 'POST', url: '/', payload: { code } })).json(), { isRight: true }, JSON.stringify(code))
    const { app, seen, take } = await build(t)
    take('POST', '/', { body: closed({ code: Type.String() }) })
    for (const code of [0, false, ['000000']]) t.equal((await send(app, '/', { code })).statusCode, 400)
    t.same(seen, [])
  })
})

t.test('query and parameters are text, and are coerced, one value to one name', async t => {
  const Query = closed({ q: Type.Optional(Type.String({ maxLength: 10 })), limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }), exact: Type.Boolean({ default: false }), ratio: Type.Optional(Type.Number()), tag: Type.Optional(Type.Array(Name)), ids: Type.Optional(Type.Array(Type.Integer())) })
  const { app, seen, take } = await build(t)
  take('GET', '/search/:id', { querystring: Query, params: closed({ id: Type.Integer() }) })
  const get = (path: string) => app.inject(`/search/${path}`)
  t.equal((await get('7?q=x&limit=5&exact=true&ratio=-1.5e2&tag=a&ids=1&ids=2')).statusCode, 200)
  t.same(seen[0], { body: undefined, query: { q: 'x', limit: 5, exact: true, ratio: -150, tag: ['a'], ids: [1, 2] }, params: { id: 7 } })
  t.equal((await get('7?tag=a&tag=b')).statusCode, 200)
  t.same(seen[1]!.query, { limit: 20, exact: false, tag: ['a', 'b'] }, 'defaults are filled in')
  const refused = [
    '7?q=a&q=b', '7?limit=5&limit=6', '7?exact=true&exact=false', '7?exact=1', '7?exact=yes', '7?limit=', '7?limit=0', '7?limit=101', '7?limit=5.5', '7?limit=five', '7?limit=0x10', '7?limit=%207', '7?limit=+7', '7?limit=07',
    '7?limit=1e1000', '7?ratio=Infinity', '7?ratio=1e999', '7?ratio=NaN', '7?ratio=-', '7?ids=1&ids=x', '7?ids=Infinity', '7?unknown=1', '7?q=12345678901', '7?__proto__=1', '7?constructor=1', '9007199254740993', 'x', '7.5', '%207',
  ]
  for (const path of refused) {
    const answer = await get(path)
    t.equal(answer.statusCode, 400, path)
    t.equal(answer.json().code, 'FST_BASTION_VALIDATION_REFUSED')
  }
  t.equal(seen.length, 2)

  await t.test('while in plain Fastify a name that is repeated becomes a list, where nothing says that it must not [ASVS 15.3.7]', async t => {
    const { seen } = await plain(t, undefined, { method: 'GET', query: 'q=a&q=b' as never })
    t.same(seen[0]!.query, { q: ['a', 'b'] })
  })
})

t.test('defaults are filled in, in bodies too, and formats are checked', async t => {
  const { app, seen, take } = await build(t)
  const formats = { date: '2024-02-29', time: '10:00:00Z', 'date-time': '2024-02-29T10:00:00Z', duration: 'P1D', email: 'a@b.de', hostname: 'a.example', ipv4: '127.0.0.1', ipv6: '::1', uri: 'https://a.example/x', uuid: '8f3b1c1e-6f0b-4c53-9b3c-0b1d4a5b6c7d' }
  take('POST', '/defaults', { body: closed({ plan: Type.String({ default: 'free' }), deep: closed({ on: Type.Boolean({ default: false }) }) }) })
  take('POST', '/formats', { body: closed(Object.fromEntries(Object.keys(formats).map(format => [format, Type.Optional(Type.String({ format }))]))) })
  t.equal((await send(app, '/defaults', { deep: {} })).statusCode, 200)
  t.same(seen[0]!.body, { plan: 'free', deep: { on: false } })
  t.equal((await send(app, '/formats', formats)).statusCode, 200)
  for (const format of Object.keys(formats)) t.equal((await send(app, '/formats', { [format]: 'no such thing' })).statusCode, 400, format)
  t.equal((await send(app, '/formats', { date: '2023-02-29' })).statusCode, 400, 'a day that never was')
})

t.test('the first fault is told with its place, the value never is', async t => {
  const { app, take } = await build(t)
  take('POST', '/', { body: closed({ name: Name, pin: Type.String({ pattern: '^\\d{4}$' }), kind: Type.Union([Type.Literal('a'), Type.Literal('b')]) }) })
  const answer = await send(app, '/', { name: 'x', pin: 'hunter2', kind: 'c' })
  t.equal(answer.json().errors.length, 1, 'all of them would be a service to nobody but a flood (CVE-2020-8192)')
  t.match(answer.json().errors[0], { path: '/pin', message: 'must match pattern "^\\d{4}$"' })
  t.notMatch(answer.body, 'hunter2')
  const several = await send(app, '/', { name: 'hunter2'.repeat(9), pin: 'hunter2', kind: 'hunter2', hunter3: 1 })
  t.notMatch(several.body, 'hunter2')
  t.equal((await send(app, '/', { name: 'x', pin: '1234' })).json().errors[0].path, '/kind', 'what is missing is named')
  const queries = await app.inject({ method: 'POST', url: '/?a=hunter2', payload: {} })
  t.notMatch(queries.body, 'hunter2')
})

const JSON_BODY = JSON.stringify({ name: 'a' })

t.test('media types', async t => {
  const { app, seen, take } = await build(t)
  take('POST', '/', { body: closed({ name: Name }) })

  await t.test('JSON is taken, as it may be written', async t => {
    for (const type of ['application/json', 'Application/JSON', 'application/json; charset=utf-8', 'application/json;charset=UTF-8', 'application/json; charset="utf-8"', 'application/json; charset=utf8', 'application/json ; charset=utf-8', 'application/json; version=1', 'application/json;']) {
      t.equal((await send(app, '/', JSON_BODY, { 'content-type': type })).statusCode, 200, type)
    }
    t.equal(seen.length, 9)
  })

  const refused = [
    'text/plain', 'text/json', 'application/xml', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'application/jsonx', 'application/json-patch+json', 'application/vnd.api+json', 'application/ld+json',
    'application', '/', 'application/', '/json', 'json', '*/*', 'application/*', 'application/json, text/plain', 'application/json/x', 'application json', 'undefined', 'null',
    'application/json; charset=utf-16', 'application/json; charset=utf-7', 'application/json; charset="iso-8859-1"', 'application/json; charset=utf-8; charset=utf-16', 'application/json;x=y;charset=us-ascii', 'application/json; charset=', 'text/html;application/json',
  ]
  await t.test('whatever else is refused with 415, before it is read', async t => {
    for (const type of refused) {
      const answer = await send(app, '/', JSON_BODY, { 'content-type': type })
      t.equal(answer.statusCode, 415, type)
      t.equal(answer.json().code, 'FST_BASTION_VALIDATION_MEDIA_TYPE', type)
      t.equal(answer.headers.accept, 'application/json', 'and what would be taken is told (RFC 9110, 15.5.16)')
    }
    const none = await app.inject({ method: 'POST', url: '/', payload: Buffer.from(JSON_BODY) })
    t.equal(none.statusCode, 415, 'content without a media type')
    t.equal(none.json().code, 'FST_BASTION_VALIDATION_MEDIA_TYPE')
    t.equal(seen.length, 9, 'no handler saw it')
  })

  await t.test('nothing but JSON is parsed where the service adds no parser', async t => {
    t.same(['application/json', 'text/plain', 'application/xml'].filter(type => app.hasContentTypeParser(type)), ['application/json'])
  })

  await t.test('no body is not a body of the declared form', async t => {
    t.equal((await app.inject({ method: 'POST', url: '/' })).statusCode, 400)
    t.equal((await send(app, '/', '')).statusCode, 400)
    t.equal((await send(app, '/', 'null')).statusCode, 400)
    t.equal(seen.length, 9)
  })

  await t.test('a body in a content coding that nobody undoes is refused with 415, before it is read', async t => {
    for (const coding of ['gzip', 'br', 'deflate', 'GZIP', 'identity, gzip', 'gzip, identity', 'x', 'gzip;q=0']) {
      const answer = await send(app, '/', JSON_BODY, { 'content-encoding': coding })
      t.equal(answer.statusCode, 415, coding)
      t.equal(answer.json().code, 'FST_BASTION_VALIDATION_CODING', coding)
      t.equal(answer.headers['accept-encoding'], 'identity', 'and what would be taken is told (RFC 9110, 15.5.16)')
    }
    t.equal(seen.length, 9, 'no handler saw it')
    for (const coding of ['identity', 'Identity']) t.equal((await send(app, '/', JSON_BODY, { 'content-encoding': coding })).statusCode, 200, coding)

    await t.test('but where a hook of the service undoes it', async t => {
      const { app, seen, take } = await build(t, { codings: ['gzip'] })
      app.addHook('preParsing', async (request, _reply, payload) => {
        if (request.headers['content-encoding'] !== 'gzip') return payload
        delete request.headers['content-length']
        return payload.pipe(createGunzip())
      })
      take('POST', '/', { body: closed({ name: Name }) })
      const sent = (coding: string) => app.inject({ method: 'POST', url: '/', headers: { 'content-type': 'application/json', 'content-encoding': coding }, payload: gzipSync(JSON_BODY) })
      t.equal((await sent('gzip')).statusCode, 200)
      t.same(seen.map(({ body }) => body), [{ name: 'a' }])
      t.match(await sent('br'), { statusCode: 415, headers: { 'accept-encoding': 'gzip' } })
    })

    await t.test('while plain Fastify reads what is said to be compressed as it is', async t => {
      const { seen } = await plain(t, { body: closed({ name: Name }) }, { payload: { name: 'a' }, headers: { 'content-encoding': 'gzip' } })
      t.same(seen[0]!.body, { name: 'a' })
    })
  })

  await t.test('a parser that the service adds opens no route that does not declare its type', async t => {
    const { app, seen, take } = await build(t)
    const form = (_request: unknown, body: string, done: (error: null, body: unknown) => void) => { done(null, Object.fromEntries(new URLSearchParams(body))) }
    app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, form as never)
    app.addContentTypeParser(/^application\/.*xml/, { parseAs: 'string' }, ((_request: unknown, _body: string, done: (error: null, body: unknown) => void) => { done(null, { name: 'xml' }) }) as never)
    app.addContentTypeParser('*', ((_request: unknown, _stream: unknown, done: (error: null, body: unknown) => void) => { done(null, { name: 'anything' }) }) as never)
    take('POST', '/json', { body: closed({ name: Name }) })
    take('POST', '/token', { body: { content: { 'application/x-www-form-urlencoded': { schema: closed({ name: Name }) } } } })
    take('POST', '/both', { body: { content: { 'application/json': { schema: closed({ name: Name }) }, 'application/x-www-form-urlencoded': { schema: closed({ name: Name, from: Name }) } } } })
    take('POST', '/none', { body: noBody })
    const as = (url: string, type: string, payload: string) => send(app, url, payload, { 'content-type': type })
    const FORM = 'application/x-www-form-urlencoded'
    t.equal((await as('/json', FORM, 'name=a')).statusCode, 415)
    t.equal((await as('/json', 'application/soap+xml', '<a/>')).statusCode, 415)
    t.equal((await as('/json', 'text/anything', 'x')).statusCode, 415)
    t.equal((await as('/token', 'application/json', JSON_BODY)).statusCode, 415, 'nor is JSON taken where a form is declared')
    t.equal((await as('/token', 'text/anything', 'x')).statusCode, 415)
    t.equal((await app.inject({ method: 'POST', url: '/token' })).statusCode, 415, 'nor nothing')
    t.equal((await as('/token', FORM, 'name=a&isAdmin=1')).statusCode, 400, 'each type is validated by its own schema')
    t.equal((await as('/both', 'application/json', JSON.stringify({ name: 'a', from: 'b' }))).statusCode, 400)
    t.equal((await as('/none', FORM, 'a=1')).statusCode, 415)
    t.equal(seen.length, 0)
    t.equal((await as('/token', `${FORM}; charset=utf-8`, 'name=a')).statusCode, 200)
    t.equal((await as('/both', FORM.toUpperCase(), 'name=a&from=b')).statusCode, 200)
    t.same(seen.map(({ body }) => body), [{ name: 'a' }, { name: 'a', from: 'b' }])

    await t.test('while plain Fastify lets a type for which there is no schema pass unread', async t => {
      const unread = await plain(t, { body: { content: { [FORM]: { schema: closed({ name: Name }) } } } }, { payload: { isAdmin: true } })
      t.same(unread.seen[0]!.body, { isAdmin: true })
      t.same((await plain(t, { body: { content: { 'application/json': { schema: closed({ name: Name }) } } } }, {})).seen[0]!.body, undefined, 'and nothing at all, too')
    })
  })
})

t.test('however the media type is written, no body passes unread', async t => {
  const tricks: [advisory: string, header: string][] = [
    ['GHSA-mg2h-6x62-wpwc', 'application/json ; charset=utf-8'], ['GHSA-mg2h-6x62-wpwc', 'APPLICATION/JSON;charset=utf-8'], ['GHSA-mg2h-6x62-wpwc', 'application/ json'], ['GHSA-mg2h-6x62-wpwc', 'application /json'],
    ['GHSA-jx2c-rxcm-jvmq', 'application/json\ta'], ['GHSA-jx2c-rxcm-jvmq', 'application/json\t; charset=utf-8'], ['GHSA-jx2c-rxcm-jvmq', '\tapplication/json'], ['GHSA-jx2c-rxcm-jvmq', 'application/json\t'],
    ['GHSA-247c-9743-5963', ' application/json'], ['GHSA-247c-9743-5963', 'application/json '], ['GHSA-247c-9743-5963', 'application/json  ;'],
    ['GHSA-573f-x89g-hqp9', 'application/json garbage'], ['GHSA-573f-x89g-hqp9', 'application/json\u00a0'], ['GHSA-573f-x89g-hqp9', 'application/json;;'], ['GHSA-573f-x89g-hqp9', '"application/json"'], ['GHSA-573f-x89g-hqp9', 'application\\/json'],
  ]
  const EVIL = JSON.stringify({ name: 'a', isAdmin: true })
  const { app, seen, take } = await build(t)
  take('POST', '/one', { body: closed({ name: Name }) })
  take('POST', '/map', { body: { content: { 'application/json': { schema: closed({ name: Name }) } } } })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo

  const raw = async (url: string, header: string, body: string): Promise<number> => {
    const socket = connect(port, '127.0.0.1')
    socket.end(`POST ${url} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${header}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`, 'latin1')
    let text = ''
    socket.on('data', part => { text += String(part) })
    await once(socket, 'close')
    return Number(text.slice(9, 12))
  }

  for (const url of ['/one', '/map']) {
    await t.test(`on ${url}`, async t => {
      for (const [advisory, type] of tricks) {
        const injected = (await app.inject({ method: 'POST', url, payload: Buffer.from(EVIL), headers: { 'content-type': type } })).statusCode
        const sent = await raw(url, `Content-Type: ${type}\r\n`, EVIL)
        t.ok(injected === 400 || injected === 415, `${advisory} ${JSON.stringify(type)}: ${injected} by inject`)
        t.ok(sent === 400 || sent === 415, `${advisory} ${JSON.stringify(type)}: ${sent} over a socket`)
      }
      t.equal(await raw(url, '', EVIL), 415, 'none at all')
      t.equal(await raw(url, 'Content-Type:\r\n', EVIL), 415, 'an empty one')
      t.equal(await raw(url, 'Content-Type: application/json\r\nContent-Type: text/plain\r\n', EVIL), 415, 'two of them are none')
      t.equal(await raw(url, 'Content-Type: text/plain\r\nContent-Type: application/json\r\n', EVIL), 415)
      t.same(seen, [])
    })
  }
  t.equal(await raw('/one', 'Content-Type: application/json\r\n', JSON_BODY), 200, 'while the honest one passes')

  await t.test('while a parser that reads the header less closely than the validator lets it pass, as the advisories say', async t => {
    const loose = (app: FastifyInstance) => { app.addContentTypeParser(/^application\/json/i, { parseAs: 'string' }, ((_request: unknown, body: string, done: (error: null, body: unknown) => void) => { done(null, JSON.parse(body)) }) as never) }
    const { seen } = await plain(t, { body: { content: { 'application/json': { schema: closed({ name: Name }) } } } }, { payload: EVIL, headers: { 'content-type': 'application/json-x' } }, loose)
    t.same(seen[0]!.body, { name: 'a', isAdmin: true })
  })
})

t.test('attack: what is encoded twice, or otherwise than is expected, is decoded once and then looked at [ASVS 1.1.1]', async t => {
  const OneName = '^[^/\\\\]*$'
  const params = closed({ name: Type.String({ pattern: OneName }) })
  const querystring = closed({ name: Type.Optional(Type.String({ pattern: OneName })) })
  const body = closed({ name: Type.String({ normalize: 'NFKC', pattern: OneName }) })
  const { app, seen, take } = await build(t)
  take('GET', '/:name', { params, querystring })
  take('POST', '/', { body })
  const kept = async (request: InjectOptions) => {
    seen.length = 0
    const { statusCode } = await app.inject(request)
    return statusCode === 200 ? seen[0] : statusCode
  }
  for (const name of ['..%2fsecret', '%2e%2e%2fsecret', '%2e%2e%5csecret']) {
    t.equal(await kept({ url: `/${name}` }), 400, `${name} in a path`)
    t.equal(await kept({ url: `/x?name=${name}` }), 400, `${name} in a query`)
  }
  for (const [sent, once] of [['%252e%252e%252fsecret', '%2e%2e%2fsecret'], ['..%25252fsecret', '..%252fsecret'], ['&#46;&#46;&#47;secret'.replaceAll('&', '%26').replaceAll('#', '%23'), '&#46;&#46;&#47;secret'], ['%255cu002fsecret', '%5cu002fsecret']] as const) {
    t.match(await kept({ url: `/${sent}` }), { params: { name: once } }, `${sent} in a path`)
    t.match(await kept({ url: `/x?name=${sent}` }), { query: { name: once } }, `${sent} in a query`)
  }
  const posted = (payload: string) => kept({ method: 'POST', url: '/', payload, headers: { 'content-type': 'application/json' } })
  for (const text of ['\\u002e\\u002e\\u002fsecret', '..\\/secret', '\uff0e\uff0e\uff0fsecret', '..\uff3csecret']) t.equal(await posted(`{"name":"${text}"}`), 400, text)
  for (const text of ['%2e%2e%2fsecret', '&#47;secret', '..&sol;secret']) t.match(await posted(`{"name":"${text}"}`), { body: { name: text } }, `${text} is no code of JSON`)

  const again = Fastify()
  t.teardown(() => again.close())
  again.get('/:name', { schema: { params } }, async request => decodeURIComponent((request.params as { name: string }).name))
  again.post('/', { schema: { body: Type.Object({ name: Type.String({ pattern: OneName }) }) } }, async request => (request.body as { name: string }).name.normalize('NFKC'))
  t.equal((await again.inject('/%252e%252e%252fsecret')).body, '../secret', 'negative control: plain Fastify with a handler that decodes once more, behind the same pattern')
  t.equal((await again.inject({ method: 'POST', url: '/', payload: { name: '\uff0e\uff0e\uff0fsecret' } })).body, '../secret', 'negative control: plain Fastify with a handler that composes what was looked at')
})

t.test('the server asks for itself what the form of a page asks, of whoever sends past it [ASVS 2.2.2]', async t => {
  const form = '<form method=post><input name=email type=email required maxlength=30><input name=count type=number min=1 max=10><select name=plan><option>free<option>pro</select></form>'
  const body = closed({ email: Type.String({ format: 'email', maxLength: 30 }), count: Type.Integer({ minimum: 1, maximum: 10 }), plan: Type.Union([Type.Literal('free'), Type.Literal('pro')]) })
  const good = { email: 'ada@people.example', count: 3, plan: 'free' }
  const past = [{}, { ...good, email: 'ada' }, { ...good, email: `${'a'.repeat(30)}@people.example` }, { ...good, email: ['ada@people.example'] }, { ...good, count: 0 }, { ...good, count: 11 }, { ...good, count: -3 }, { ...good, count: 1.5 }, { ...good, count: '3' }, { ...good, plan: 'owner' }, { ...good, isPaid: true }]
  const { app, seen, take } = await build(t)
  take('POST', '/', { body })
  for (const order of past) t.equal((await send(app, '/', order)).statusCode, 400, JSON.stringify(order))
  t.same(seen, [], 'no handler saw it')
  t.equal((await send(app, '/', good)).statusCode, 200)
  const trusting = await build(t)
  trusting.take('POST', '/')
  await t.rejects(async () => { await trusting.app.ready() }, { message: /no schema for the body/ }, 'nor does a route boot that would leave it to the page')

  const page = (app: FastifyInstance) => { app.get('/form', async (_request, reply) => reply.type('text/html').send(form)) }
  for (const order of past) t.same((await plain(t, undefined, { payload: order }, page)).seen[0]?.body, order, 'negative control: plain Fastify, whose page alone asks')
})

t.test('attack: an object of a type that the client names is none that is made [ASVS 1.5.2]', async t => {
  const { app, seen, take } = await build(t)
  take('POST', '/', { body: closed({ note: Type.String(), at: Type.Optional(Type.String()), plan: Type.Optional(Type.Union([closed({ kind: Type.Literal('free') }), closed({ kind: Type.Literal('pro'), seats: Type.Integer() })])) }) })
  const attacks: unknown[] = [
    { note: { $type: 'Function', $args: ['return process'] } }, { $type: 'Function', note: 'x' }, { note: 'x', '@class': 'java.lang.Runtime' }, { note: 'x', rce: '_$$ND_FUNC$$_function (){return process}()' }, { note: { $ne: null } }, { note: ['x'] },
    { note: 'x', plan: { kind: 'owner' } }, { note: 'x', plan: { kind: 'free', seats: 7 } }, { note: 'x', plan: { $type: 'Map', kind: 'free' } }, { note: 'x', plan: 'pro' },
  ]
  for (const attack of attacks) t.equal((await send(app, '/', attack)).json().code, 'FST_BASTION_VALIDATION_REFUSED', JSON.stringify(attack))
  for (const type of ['application/x-java-serialized-object', 'application/x-msgpack', 'application/yaml', 'application/xml', 'application/vnd.php.serialized', 'application/octet-stream']) {
    t.equal((await send(app, '/', '{"note":"x"}', { 'content-type': type })).statusCode, 415, type)
  }
  t.same(seen, [])
  t.equal((await send(app, '/', { note: '!!js/function "x"', at: '2024-01-01' })).statusCode, 200)
  t.strictSame(seen[0]!.body, { note: '!!js/function "x"', at: '2024-01-01' }, 'and what is a text stays one')

  const made: unknown[] = []
  const revive = (_name: string, value: unknown) => typeof value === 'object' && value !== null && '$type' in value && '$args' in value
    ? new (globalThis as unknown as Record<string, new (...args: unknown[]) => () => unknown>)[String(value.$type)]!(...value.$args as unknown[])
    : value
  const { status } = await plain(t, undefined, { payload: attacks[0] as object }, app => {
    app.addHook('preHandler', async ({ body }) => { made.push((JSON.parse(JSON.stringify(body), revive) as { note: () => unknown }).note()) })
  })
  t.equal(status, 200)
  t.equal(made[0], process, 'negative control: plain Fastify with a reader that makes what the client names runs its code')
})

/** As settings are often merged: into the objects that are there. */
function merge (into: Record<string, any>, from: unknown): void {
  for (const [name, value] of Object.entries(from as object)) {
    if (typeof value === 'object' && into[name] !== undefined) merge(into[name], value)
    else into[name] = value
  }
}

t.test('JSON that is more than data is refused', async t => {
  const { app, seen, take } = await build(t)
  const Deep = Type.Recursive(Self => closed({ a: Type.Optional(Self) }))
  take('POST', '/map', { body: Type.Record(Type.String(), Type.Union([Type.String(), closed({ x: Type.Optional(Type.String()) })]), { additionalProperties: false }) })
  take('POST', '/deep', { body: Deep }, { bodyLimit: 2_000_000 })
  take('POST', '/text', { body: closed({ text: Type.String() }) })
  take('GET', '/query', { querystring: closed({ q: Type.Optional(Type.String()) }) })

  await t.test('prototypes (CWE-1321) [ASVS 15.3.6]', async t => {
    for (const body of ['{"__proto__":{"x":"y"}}', '{"a":{"__proto__":{"x":"y"}}}', '{"constructor":{"prototype":{"x":"y"}}}', '{"constructor":"x"}', '{"a":{"\\u0063onstructor":"x"}}', '{"\\u005f_proto__":{"x":"y"}}', '{"__proto__":"x"}']) {
      const answer = await send(app, '/map', body)
      t.equal(answer.statusCode, 400, body)
      t.equal(answer.json().code, 'FST_BASTION_VALIDATION_NAME')
    }
    for (const name of ['__proto__', '__proto__[x]', '__proto__.x', 'constructor', 'constructor[prototype][x]', 'constructor.prototype.x', '%5F_proto__[x]']) t.equal((await app.inject(`/query?${name}=y`)).statusCode, 400, name)
    t.equal(({} as { x?: string }).x, undefined)
    t.same(seen, [])

    const body = '{"constructor":{"prototype":{"x":"y"}}}'
    const unguarded = Fastify({ onConstructorPoisoning: 'ignore' })
    t.teardown(() => unguarded.close())
    const settings = {}
    unguarded.post('/', async request => merge(settings, request.body))
    await unguarded.inject({ method: 'POST', url: '/', payload: body, headers: { 'content-type': 'application/json' } })
    const polluted = ({} as { x?: string }).x
    delete (Object.prototype as { x?: string }).x
    t.equal(polluted, 'y', 'negative control: where it is let through, a handler that merges it changes every object')
  })

  await t.test('nesting beyond 64 levels (CWE-674)', async t => {
    const nested = (levels: number) => '{"a":'.repeat(levels) + '{}' + '}'.repeat(levels)
    t.equal((await send(app, '/deep', nested(63))).statusCode, 200)
    for (const body of [nested(64), nested(100_000), '['.repeat(1000), `{"a":${'['.repeat(200)}`]) {
      const answer = await send(app, '/deep', body)
      t.equal(answer.statusCode, 400)
      t.equal(answer.json().code, 'FST_BASTION_VALIDATION_TOO_DEEP')
    }
    t.equal((await send(app, '/text', { text: '{['.repeat(200) })).statusCode, 200, 'brackets in text are text')
    t.equal((await send(app, '/text', { text: '\\"{['.repeat(200) })).statusCode, 200)
    const Plain = { $id: 'plain', type: 'object', properties: { a: { $ref: '#' } } }
    t.equal((await plain(t, { body: Plain }, { payload: nested(100_000), headers: { 'content-type': 'application/json' } })).status, 500, 'while plain Fastify runs out of stack')
  })

  await t.test('text that cannot be stored as it is (CWE-158, CWE-176)', async t => {
    const bodies = [Buffer.from('{"text":"\\u0000"}'), Buffer.from('{"text":"\\ud800"}'), Buffer.from('{"text":"\\udc00\\ud800"}'), Buffer.from('{"te\\u0000xt":"a"}'), Buffer.from([...Buffer.from('{"text":"'), 0xff, 0xfe, ...Buffer.from('"}')]), Buffer.from([...Buffer.from('{"text":"'), 0xc0, 0xaf, ...Buffer.from('"}')])]
    for (const payload of bodies) {
      const answer = await app.inject({ method: 'POST', url: '/text', payload, headers: { 'content-type': 'application/json' } })
      t.equal(answer.statusCode, 400, payload.toString())
      t.equal(answer.json().code, 'FST_BASTION_VALIDATION_TEXT')
    }
    t.equal((await send(app, '/text', '{"text":"\\ud83d\\ude00"}')).statusCode, 200, 'a whole pair is a character')
  })
  await t.test('malformed', async t => {
    for (const body of ['{', '{"text":}', "{'text':'a'}", '{"text":"a"}x', '{"text":NaN}', '\u00ef\u00bb']) t.equal((await send(app, '/text', body)).json().code, 'FST_ERR_CTP_INVALID_JSON_BODY', body)
  })
})

t.test('text in queries and paths cannot hold what no database stores', async t => {
  const { app, seen, take } = await build(t)
  take('GET', '/:id', { params: closed({ id: Type.String() }), querystring: closed({ q: Type.Optional(Type.String()), tag: Type.Optional(Type.Array(Type.String())) }) })
  for (const url of ['/a%00b', '/a?q=%00', '/a?tag=x&tag=%00', '/a?tag=%00', '/a?q=%ff', '/a?q=%c0%80', '/a?q=%ed%a0%80', '/a?q=100%', '/a?tag=x&tag=%zz', '/a?%ff=x']) {
    const answer = await app.inject(url)
    t.equal(answer.statusCode, 400, url)
    t.equal(answer.json().code, 'FST_BASTION_VALIDATION_TEXT')
  }
  t.same(seen, [])
})

t.test('a body over the limit of its route is a 413', async t => {
  const { app, seen, take } = await build(t)
  take('POST', '/small', { body: closed({ text: Type.String() }) }, { bodyLimit: 100 })
  take('POST', '/usual', { body: closed({ text: Type.String() }) })
  t.equal((await send(app, '/small', { text: 'x'.repeat(50) })).statusCode, 200)
  t.equal((await send(app, '/small', { text: 'x'.repeat(100) })).statusCode, 413)
  t.equal((await send(app, '/usual', { text: 'x'.repeat(100) })).statusCode, 200)
  t.equal((await send(app, '/usual', { text: 'x'.repeat(300_000) })).statusCode, 413, 'a quarter of a mebibyte where nothing is said')
  t.equal(seen.length, 2)
})

t.test('a route that takes no body takes none', async t => {
  const { app, seen, take } = await build(t)
  take('POST', '/logout', { body: noBody })
  take('DELETE', '/thing')
  take('OPTIONS', '/thing')
  take(['GET', 'DELETE'], '/both')
  for (const [method, url] of [['POST', '/logout'], ['DELETE', '/thing'], ['OPTIONS', '/thing'], ['DELETE', '/both']] as const) {
    await t.test(`${method} ${url}`, async t => {
      seen.length = 0
      const ask = (payload?: string, type?: string) => app.inject({ method, url, ...(payload !== undefined && { payload: Buffer.from(payload) }), headers: type === undefined ? {} : { 'content-type': type } })
      t.equal((await ask()).statusCode, 200, 'nothing')
      t.equal((await ask('', 'application/json')).statusCode, 200, 'nothing, called JSON')
      t.equal((await ask('{}', 'application/json')).statusCode, 200, 'an empty object, as some clients always send')
      t.equal((await ask('null', 'application/json')).statusCode, 200)
      t.equal(seen.length, 4)
      t.equal((await ask('{"isAdmin":true}', 'application/json')).statusCode, 400)
      t.equal((await ask('[]', 'application/json')).statusCode, 400)
      t.equal((await ask('"x"', 'application/json')).statusCode, 400)
      t.equal((await ask('x', 'text/plain')).statusCode, 415)
      t.equal((await ask('{}')).statusCode, 415)
      t.equal(seen.length, 4)
    })
  }
  t.same((await plain(t, undefined, { method: 'DELETE', payload: { isAdmin: true } })).seen[0]!.body, { isAdmin: true }, 'while plain Fastify hands the body of a DELETE to the handler unread')
  t.equal((await app.inject({ method: 'GET', url: '/both', payload: '{"a":1}', headers: { 'content-type': 'application/json' } })).statusCode, 200)
  t.same(seen.at(-1)!.body, undefined, 'the content of a GET is never read')
})

t.test('what the plan says of a route', async t => {
  const { app, take } = await build(t)
  take('POST', '/json', { body: closed({ name: Name }), params: closed({}) })
  take('POST', '/form', { body: { content: { 'application/x-www-form-urlencoded': { schema: closed({ name: Name }) } } } })
  take('DELETE', '/none', { querystring: closed({}) })
  await app.ready()
  const promised = (url: string) => app.plan.routes.find(route => route.url === url)!.controls.validation
  t.same(promised('/json'), { body: 'closed', mediaTypes: ['application/json'], params: true, query: false })
  t.same(promised('/form'), { body: 'closed', mediaTypes: ['application/x-www-form-urlencoded'], params: false, query: false })
  t.same(promised('/none'), { body: null, params: false, query: true })
})

t.test('one schema is compiled once, however many routes share it, and at boot', async t => {
  const Native = globalThis.Function
  let compiled = 0
  globalThis.Function = new Proxy(Native, {
    construct (target, args) { if (args.includes('self')) compiled++; return Reflect.construct(target, args) as object },
  })
  t.teardown(() => { globalThis.Function = Native })
  const compiledFor = async (routes: number) => {
    const { app, take } = await build(t)
    const Shared = closed({ name: Name })
    for (let i = 0; i < routes; i++) take('POST', `/${i}`, { body: Shared })
    const before = compiled
    await app.ready()
    const booted = compiled
    for (let i = 0; i < routes; i++) await send(app, `/${i}`, { name: 'a' })
    t.equal(compiled, booted, 'nothing is compiled at a request')
    return booted - before
  }
  const one = await compiledFor(1)
  t.ok(one > 0)
  t.equal(await compiledFor(50), one)
})

t.test('misconfiguration stops boot', async t => {
  const objects = (title: string, schema: Record<string, unknown> | undefined, message: RegExp, more: Partial<RouteOptions> = {}) => t.test(title, async t => {
    const { app, take } = await build(t)
    take('POST', '/route', schema, more)
    await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message })
  })
  const open: Record<string, [TSchema, RegExp]> = {
    'an open object': [Type.Object({ a: Name }), /POST \/route: the body is not closed/],
    'an object that says true': [Type.Object({ a: Name }, { additionalProperties: true }), /the body is not closed/],
    'an open object inside': [closed({ a: Type.Object({ b: Name }) }), /the body is not closed at \/a:/],
    'an open object in a list': [closed({ a: Type.Array(Type.Object({ b: Name })) }), /not closed at \/a\/items:/],
    'an open branch of a union': [closed({ a: Type.Union([closed({ b: Name }), Type.Object({ c: Name })]) }), /not closed at \/a:/],
    'an open map': [Type.Record(Type.String(), Name), /the body is not closed/],
    'a map of open objects': [Type.Record(Type.String(), Type.Object({}), { additionalProperties: false }), /not closed at \/\*:/],
    'fields of any name that are anything': [Type.Object({}, { additionalProperties: Type.Any() }), /not closed at \/\*:/],
    'an intersection': [Type.Intersect([closed({ a: Name }), closed({ b: Name })]), /the body is not closed/],
    anything: [Type.Any(), /the body is not closed/],
    'anything inside': [closed({ a: Type.Unknown() }), /not closed at \/a:/],
    'what is not something': [closed({ a: Type.Not(Type.String()) }), /not closed at \/a:/],
    'a list of anything': [closed({ a: Type.Array(Type.Any()) }), /not closed at \/a\/items:/],
    'a list of nothing said': [Type.Unsafe({ type: 'array' }), /the body is not closed/],
    'an open tuple': [Type.Unsafe({ type: 'array', items: [{ type: 'string' }], minItems: 1 }), /the body is not closed/],
    'properties without a type': [Type.Unsafe({ properties: { a: { type: 'string' } }, additionalProperties: false }), /the body is not closed/],
    'a property that is true': [Type.Unsafe({ type: 'object', properties: { a: true }, additionalProperties: false }), /not closed at \/a:/],
    'a reference to nothing': [closed({ a: Type.Unsafe({ $ref: 'Nowhere#' }) }), /not closed at \/a:/],
    'an open schema that refers to itself': [Type.Recursive(Self => Type.Object({ a: Type.Optional(Self) })), /the body is not closed/],
  }
  for (const [title, [schema, message]] of Object.entries(open)) await objects(title, { body: schema }, message)
  await objects('an open body of one media type', { body: { content: { 'application/json': { schema: closed({}) }, 'text/xml': { schema: Type.Object({ a: Name }) } } } }, /the body \(text\/xml\) is not closed/)
  await objects('no schema for the body', undefined, /no schema for the body: add schema: \{ body \}, or body: noBody/)
  for (const type of ['application/*', '*/*', 'Application/JSON', 'application/json; charset=utf-8', 'json']) {
    await objects(`the media type ${type}`, { body: { content: { [type]: { schema: closed({}) } } } }, /is no media type that a body could be matched with/)
  }
  await objects('attachValidation', { body: closed({}) }, /attachValidation lets invalid input reach the handler/, { attachValidation: true })
  await objects('a validator compiler of its own', { body: closed({}) }, /a validator compiler of its own would skip strict validation/, { validatorCompiler: () => () => true })
  for (const [title, schema] of Object.entries({ Date: Type.Date(), RegExp: Type.RegExp(/a/), BigInt: Type.BigInt(), Undefined: Type.Undefined(), 'unknown keyword': Type.Unsafe({ type: 'string', minLenght: 1 }), 'unknown format': Type.String({ format: 'colour' }), 'broken pattern': Type.String({ pattern: '(' }) })) {
    await objects(`what cannot be validated in JSON: ${title}`, { body: closed({ a: schema }) }, /POST \/route: .*its body cannot be validated/)
  }
  await objects('a query that cannot be validated', { body: noBody, querystring: closed({ at: Type.Date() }) }, /its querystring cannot be validated/)
  await objects('a transform, which nobody would run', { body: closed({ at: Type.Transform(Type.String()).Decode(value => new Date(value)).Encode(value => value.toISOString()) }) }, /a Transform is not run/)

  await t.test('every offender is named at once', async t => {
    const { app, take } = await build(t)
    take('POST', '/a', { body: Type.Object({}) })
    take('POST', '/b', { body: closed({ at: Type.Date() }) })
    take('PUT', '/c')
    await t.rejects(async () => { await app.ready() }, { message: /3 routes do not boot[^]*\/a[^]*\/b[^]*\/c/ })
  })

  await t.test('a validator compiler of a scope', async t => {
    const { app } = await build(t)
    await app.register(async scope => {
      scope.post('/scope', { schema: { body: closed({}) } }, async () => ({}))
      scope.setValidatorCompiler(() => () => true)
    })
    await t.rejects(async () => { await app.ready() }, { message: /\/scope: a validator compiler of its own/ })
  })

  await t.test('while a closed body, a fixed value, an enumeration and no value at all boot', async t => {
    const { app, take } = await build(t)
    for (const [i, schema] of [closed({}), Type.Literal('a'), Type.Unsafe({ enum: ['a', { b: 1 }] }), Type.Never(), closed({ a: Type.Optional(Name), b: Type.Optional(Name) }, { anyOf: [{ required: ['a'] }, { required: ['b'] }] })].entries()) take('POST', `/${i}`, { body: schema })
    await app.ready()
    t.equal((await send(app, '/4', {})).statusCode, 400)
    t.equal((await send(app, '/4', { a: 'x' })).statusCode, 200)
    t.equal((await send(app, '/4', { a: 'x', c: 1 })).statusCode, 400)
  })
})

t.test('a body over the limit is refused at once, over a socket, without reading the rest', async t => {
  const { app, seen, take } = await build(t)
  take('POST', '/small', { body: closed({ text: Type.String() }) }, { bodyLimit: 1000 })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const HEAD = 'POST /small HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'

  /** Sends, and goes on sending `more` until the server has closed: what was answered, and how many bytes went out. */
  const send = async (head: string, more: Buffer | null) => {
    const socket = connect(port, '127.0.0.1')
    let answer = ''
    socket.on('data', part => { answer += String(part) })
    socket.on('error', () => {}) // the server ends what it does not read
    const ended = new Promise(resolve => { socket.once('close', resolve) })
    socket.write(head)
    const pump = () => { if (more !== null && answer === '') socket.write(more, () => { setImmediate(pump) }) }
    pump()
    await ended
    return { answer, sent: socket.bytesWritten }
  }

  const declared = await send(`${HEAD}Content-Length: 10737418240\r\n\r\n{"text":"`, null)
  t.match(declared.answer, /^HTTP\/1\.1 413 /, 'ten GiB are refused before they are sent')
  t.match(declared.answer, /"code":"FST_ERR_CTP_BODY_TOO_LARGE"/)
  t.match(declared.answer, /connection: close/i)
  const chunk = Buffer.from(`4000\r\n${'x'.repeat(0x4000)}\r\n`)
  const chunked = await send(`${HEAD}Transfer-Encoding: chunked\r\n\r\n`, chunk)
  t.match(chunked.answer, /^HTTP\/1\.1 413 /, 'and so is what has no length')
  t.ok(chunked.sent < 50_000_000, `${chunked.sent} bytes were sent`)
  t.match((await send(`${HEAD}Content-Length: 12\r\nConnection: close\r\n\r\n{"text":"x"}`, null)).answer, /^HTTP\/1\.1 200 /)
  t.strictSame(seen.length, 1)
})

t.test('a body that does not come in time is given up', async t => {
  const app = Fastify(server({ logger: false, requestTimeout: 300, fastify: { http: { connectionsCheckingInterval: 50 } } as never }))
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors, validation]) await app.register(plugin as never)
  let ran = false
  app.post('/', { schema: { body: closed({ text: Type.String() }) } }, async () => { ran = true; return {} })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  let answer = ''
  socket.on('data', part => { answer += String(part) })
  socket.on('error', () => {})
  socket.write('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{')
  const drip = setInterval(() => { socket.write(' ') }, 40)
  await new Promise(resolve => { socket.once('close', resolve) })
  clearInterval(drip)
  t.match(answer, /^HTTP\/1\.1 408 /)
  t.notOk(ran)
})
