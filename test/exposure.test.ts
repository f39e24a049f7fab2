/** Exposure: what leaves is what was declared for this status, and what this caller may see of it. */
import { once } from 'node:events'
import { request as ask } from 'node:http'
import { connect as connect2 } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { ReadableStream } from 'node:stream/web'
import { gunzipSync, gzipSync } from 'node:zlib'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, type RouteOptions } from 'fastify'
import { Type, type TSchema } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import access, { type AccessOptions } from '../plugins/access/index.js'
import errors from '../plugins/errors.js'
import events, { type SecurityEvent } from '../plugins/events.js'
import exposure from '../plugins/exposure.js'
import identity from '../plugins/identity.js'
import plan from '../plugins/plan/index.js'
import { server, type ServerOptions } from '../plugins/server.js'
import { closed } from '../schemas/closed.js'
import { as, readCallers } from './fixtures/caller.js'

type Handler = (request: FastifyRequest, reply: FastifyReply) => unknown
interface Built {
  app: FastifyInstance
  recorded: SecurityEvent[]
  /** Lines of the log, as objects. */
  log: Record<string, unknown>[]
  /** Declares a public `GET <url>`. */
  get: (url: string, response: Record<string, unknown> | null, handler: Handler, more?: Partial<RouteOptions>) => void
}

const HASH = '$argon2id$v=19$secret'
const NOTES = { resources: { note: { load: (request: FastifyRequest) => NOTE[(request.params as { id: string }).id], owner: (note: { owner: string }) => note.owner, rule: () => true } } }
const NOTE: Record<string, { id: string, owner: string, text: string, secret: string }> = {
  one: { id: 'one', owner: 'alice', text: 'hello', secret: 'alice’s own' },
  two: { id: 'two', owner: 'bob', text: 'hi', secret: 'bob’s own' },
}
const ROLES = { clerk: { permissions: ['people:read'] }, doctor: { inherits: ['clerk'], permissions: ['people:clinical'] }, boss: { permissions: ['people:pay', 'a:a', 'b:b', 'c:c', 'd:d'] } }

async function build (t: Test, options: { server?: ServerOptions, access?: Record<string, unknown> } = {}): Promise<Built> {
  const log: Record<string, unknown>[] = []
  const stream = { write: (line: string) => { log.push(JSON.parse(line) as Record<string, unknown>) } }
  const app = Fastify(server({ logger: { level: 'info', stream }, ...options.server }))
  t.teardown(() => app.close())
  const recorded: SecurityEvent[] = []
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(identity)
  await app.register(access, { roles: ROLES, ...NOTES, ...options.access } as never as AccessOptions)
  await app.register(exposure)
  readCallers(app)
  app.events.listen(event => { recorded.push(event) })
  return {
    app,
    recorded,
    log,
    get (url, response, handler, more = {}) {
      app.route({ method: 'GET', url, handler, ...more, ...(response !== null && { schema: { response } }), config: { access: 'public', ...more.config } as never })
    },
  }
}

/** The same route on plain Fastify. */
async function plain (t: Test, response: Record<string, unknown> | null, handler: Handler) {
  const app = Fastify()
  t.teardown(() => app.close())
  app.route({ method: 'GET', url: '/', handler, ...(response !== null && { schema: { response } }) })
  return app.inject('/')
}

const Person = closed({ id: Type.String(), name: Type.String() })
const record = { id: '1', name: 'Ada', passwordHash: HASH }

t.test('an answer is cut down to the schema of its status [ASVS 8.2.3] [ASVS 15.3.1]', async t => {
  const { app, get } = await build(t)
  get('/one', { 200: Person }, async () => record)
  get('/class', { '2xx': Person }, async (_request, reply) => reply.code(202).send(record))
  get('/CLASS', { '2XX': Person }, async () => record)
  get('/default', { default: Person }, async () => record)
  get('/list', { 200: Type.Array(Person) }, async () => [record, record])
  get('/page', { 200: closed({ items: Type.Array(Person), next: Type.Union([Type.String(), Type.Null()]) }) }, async () => ({ items: [record], next: null, hidden: 1 }))
  get('/nested', { 200: closed({ person: Person, deeper: closed({ person: Person }) }) }, async () => ({ person: record, deeper: { person: record, hidden: HASH } }))
  get('/map', { 200: Type.Record(Type.String(), Person) }, async () => ({ ada: record }))
  get('/optional', { 200: closed({ person: Type.Optional(Person) }) }, async () => ({ hidden: HASH }))
  get('/nullable', { 200: closed({ person: Type.Union([Person, Type.Null()]), none: Type.Union([Person, Type.Null()]) }) }, async () => ({ person: record, none: null }))
  get('/accepted', { 202: Person }, async (_request, reply) => { reply.code(202); return record })
  const clean = { id: '1', name: 'Ada' }
  for (const url of ['/one', '/class', '/CLASS', '/default', '/accepted']) t.same((await app.inject(url)).json(), clean, url)
  t.same((await app.inject('/list')).json(), [clean, clean])
  t.same((await app.inject('/page')).json(), { items: [clean], next: null })
  t.same((await app.inject('/nested')).json(), { person: clean, deeper: { person: clean } })
  t.same((await app.inject('/map')).json(), { ada: clean })
  t.same((await app.inject('/optional')).json(), {})
  t.same((await app.inject('/nullable')).json(), { person: clean, none: null })

  await t.test('while without a schema whole records leave', async t => {
    t.match((await plain(t, null, async () => record)).body, HASH)
  })
})

t.test('unions and intersections are cut down too', async t => {
  const Cat = closed({ kind: Type.Literal('cat'), lives: Type.Integer() })
  const Dog = closed({ kind: Type.Literal('dog'), tricks: Type.Array(Type.String()), owner: Person })
  const { app, get } = await build(t)
  get('/cat', { 200: Type.Union([Cat, Dog]) }, async () => ({ kind: 'cat', lives: 9, chip: HASH }))
  get('/dog', { 200: Type.Union([Cat, Dog]) }, async () => ({ kind: 'dog', tricks: ['sit'], owner: record, chip: HASH }))
  get('/shape', { 200: Type.Array(Type.Union([closed({ a: Type.String() }), closed({ a: Type.String(), b: Type.String() })])) }, async () => [{ a: '1', b: '2' }, { a: '1' }, { a: '1', c: HASH }])
  get('/scalar', { 200: closed({ value: Type.Union([Type.String(), Type.Integer(), Type.Array(Person)]) }) }, async () => ({ value: [record] }))
  get('/neither', { 200: Type.Union([Cat, Dog]) }, async () => ({ kind: 'cow', secret: HASH }))
  get('/both', { 200: Type.Intersect([closed({ person: Person }), closed({ at: Type.String() })]) }, async () => ({ person: record, at: 'home', hidden: HASH }))
  get('/composite', { 200: Type.Composite([closed({ person: Person }), closed({ at: Type.String() })]) }, async () => ({ person: record, at: 'home', hidden: HASH }))
  t.same((await app.inject('/cat')).json(), { kind: 'cat', lives: 9 })
  t.same((await app.inject('/dog')).json(), { kind: 'dog', tricks: ['sit'], owner: { id: '1', name: 'Ada' } })
  t.same((await app.inject('/shape')).json(), [{ a: '1', b: '2' }, { a: '1' }, { a: '1' }], 'what fits exactly goes first')
  t.same((await app.inject('/scalar')).json(), { value: [{ id: '1', name: 'Ada' }] })
  for (const url of ['/both', '/composite']) t.same((await app.inject(url)).json(), { person: { id: '1', name: 'Ada' }, at: 'home' }, url)
  const neither = await app.inject('/neither')
  t.equal(neither.statusCode, 500)
  t.notMatch(neither.body, HASH)

  await t.test('while an intersection of closed parts alone lets the records inside it through', async t => {
    const answer = await plain(t, { 200: Type.Intersect([closed({ person: Person }), closed({ at: Type.String() })]) }, async () => ({ person: record, at: 'home' }))
    t.match(answer.body, HASH)
  })
})

t.test('schemas that are shared by reference are filtered and read like any other', async t => {
  const { app } = await build(t)
  const Local = Type.Unsafe({ $ref: 'Local' })
  app.addSchema({
    $id: 'Branch',
    ...closed({ name: Type.String(), pay: Type.Optional(Type.String({ visibleTo: 'people:pay' })), tree: Type.Unsafe({ $ref: '#/definitions/Node' }) }),
    definitions: { Node: closed({ leaf: Type.String(), below: Type.Array(Type.Unsafe({ $ref: '#/definitions/Node' })) }) },
  })
  app.get('/branch', { schema: { response: { 200: closed({ branch: Type.Unsafe({ $ref: 'Branch#' }) }) } }, config: { access: 'public' } }, async () =>
    ({ branch: { name: 'a', pay: '9', hidden: HASH, tree: { leaf: 'b', hidden: HASH, below: [{ leaf: 'c', hidden: HASH, below: [] }] } } }))
  app.addSchema({ ...closed({ id: Type.String(), pay: Type.Optional(Type.String({ visibleTo: 'people:pay' })) }), $id: 'Employee' })
  app.get('/shared', { schema: { response: { 200: Type.Unsafe({ type: 'array', items: { $ref: 'Employee#' } }) } }, config: { access: 'public' } }, async () => [{ id: '1', pay: '9', hidden: HASH }])
  await app.register(async scope => {
    scope.addSchema({ $id: 'Local', ...closed({ who: Type.Unsafe({ $ref: 'Employee#' }), tag: Type.String() }) })
    scope.get('/local', { schema: { response: { 200: Local } }, config: { access: 'public' } }, async () => ({ who: { id: '1', pay: '9', hidden: HASH }, tag: 'x', hidden: HASH }))
  })
  await app.register(async scope => {
    scope.addSchema({ $id: 'Local', ...closed({ other: Type.String() }) })
    scope.get('/other', { schema: { response: { 200: Local } }, config: { access: 'public' } }, async () => ({ other: 'y', tag: HASH }))
  })
  const Tree = Type.Recursive(Self => closed({ name: Type.String(), children: Type.Array(Self) }))
  app.get('/tree', { schema: { response: { 200: Tree } }, config: { access: 'public' } }, async () => ({ name: 'a', hidden: HASH, children: [{ name: 'b', hidden: HASH, children: [] }] }))
  const boss = as({ roles: ['boss'] })
  t.same((await app.inject('/shared')).json(), [{ id: '1' }])
  t.same((await app.inject({ url: '/shared', headers: boss })).json(), [{ id: '1', pay: '9' }])
  t.same((await app.inject('/local')).json(), { who: { id: '1' }, tag: 'x' })
  t.same((await app.inject({ url: '/local', headers: boss })).json(), { who: { id: '1', pay: '9' }, tag: 'x' })
  t.same((await app.inject('/other')).json(), { other: 'y' }, 'the same name means something else in another scope')
  const tree = { leaf: 'b', below: [{ leaf: 'c', below: [] }] }
  t.same((await app.inject('/branch')).json(), { branch: { name: 'a', tree } }, 'also where another part of it refers to itself')
  t.same((await app.inject({ url: '/branch', headers: boss })).json(), { branch: { name: 'a', pay: '9', tree } })
  t.same((await app.inject('/tree')).json(), { name: 'a', children: [{ name: 'b', children: [] }] })
})

t.test('fields say who sees them [ASVS 8.2.3]', async t => {
  const Patient = closed({
    id: Type.String(),
    name: Type.String({ visibleTo: 'people:read' }),
    ssn: Type.String({ visibleTo: ['people:clinical', 'people:pay'] }),
    file: closed({ ward: Type.String(), diagnosis: Type.String({ visibleTo: 'people:clinical' }) }),
    visits: Type.Array(closed({ day: Type.String(), note: Type.Optional(Type.String({ visibleTo: 'people:clinical' })) })),
    next: Type.Union([closed({ day: Type.String(), reason: Type.String({ visibleTo: 'people:clinical' }) }), Type.Null()]),
    either: Type.Union([closed({ a: Type.String(), secret: Type.String({ visibleTo: 'people:clinical' }) }), closed({ b: Type.String(), secret: Type.String({ visibleTo: 'people:pay' }) })]),
    byDay: Type.Record(Type.String(), closed({ count: Type.Integer(), cost: Type.Integer({ visibleTo: 'people:pay' }) })),
  })
  const patient = {
    id: '1',
    name: 'Max',
    ssn: '123',
    file: { ward: 'B', diagnosis: 'flu', hidden: HASH },
    visits: [{ day: 'mon', note: 'coughs' }],
    next: { day: 'tue', reason: 'worse' },
    either: { b: 'b', secret: 's' },
    byDay: { mon: { count: 1, cost: 2 } },
    hidden: HASH,
  }
  const { app, get } = await build(t)
  get('/patient', { 200: Patient }, async () => patient)
  const seenBy = async (roles: string[] | null, more = {}) => (await app.inject({ url: '/patient', headers: roles === null ? {} : as({ roles, ...more }) })).json()
  const bare = { id: '1', file: { ward: 'B' }, visits: [{ day: 'mon' }], next: { day: 'tue' }, either: { b: 'b' }, byDay: { mon: { count: 1 } } }
  t.same(await seenBy(null), bare, 'a stranger; required fields that are hidden are no error')
  t.same(await seenBy([]), bare, 'somebody without permissions')
  t.same(await seenBy(['clerk']), { ...bare, name: 'Max' })
  t.same(await seenBy(['doctor']), {
    ...bare, name: 'Max', ssn: '123', file: { ward: 'B', diagnosis: 'flu' }, visits: patient.visits, next: patient.next,
  })
  t.same(await seenBy(['boss']), { ...bare, ssn: '123', either: { b: 'b', secret: 's' }, byDay: { mon: { count: 1, cost: 2 } } })
  const { hidden, ...whole } = patient
  t.same(await seenBy(['doctor', 'boss']), { ...whole, file: { ward: 'B', diagnosis: 'flu' } }, `all but ${hidden.length} characters`)
  t.same(await seenBy(['doctor'], { scopes: ['people:read'], via: 'key' }), { ...bare, name: 'Max' }, 'a key that is cut down sees less than its roles')

  await t.test('a credential that was revoked sees what nobody sees, on a public route too', async t => {
    t.same(await seenBy(['doctor'], { standing: 'revoked' }), bare)
    t.match(await seenBy(['doctor'], { standing: 'good' }), { ssn: '123' })
  })

  await t.test('while a schema that does not say it shows them to all', async t => {
    const answer = await plain(t, { 200: closed({ id: Type.String(), ssn: Type.String({ visibleTo: 'people:clinical' }) }) }, async () => patient)
    t.match(answer.body, '123')
  })
})

t.test('the owner sees more of the one object that the route has loaded, and of no other', async t => {
  const Note = closed({ id: Type.String(), text: Type.String(), secret: Type.Optional(Type.String({ visibleTo: ['owner', 'people:pay'] })) })
  const { app } = await build(t)
  const config = { access: { resource: 'note' } } as never
  app.get('/notes/:id', { schema: { response: { 200: Note } }, config }, async request => request.resource as never)
  app.get('/notes/:id/all', { schema: { response: { 200: closed({ one: Note, items: Type.Array(Note), byId: Type.Record(Type.String(), Note), first: Type.Tuple([Note]) }) } }, config },
    async request => ({ one: request.resource, items: Object.values(NOTE), byId: NOTE as never, first: [NOTE.two!] }) as never)
  app.get('/notes', { schema: { response: { 200: Type.Array(Note) } }, config: { access: 'user' } }, async () => Object.values(NOTE))
  app.get('/first', { schema: { response: { 200: Note } }, config: { access: 'user' } }, async () => NOTE.one!)
  const asked = async (url: string, caller: Parameters<typeof as>[0]) => (await app.inject({ url, headers: as(caller) })).body
  t.match(await asked('/notes/one', { id: 'alice' }), 'alice’s own')
  t.notMatch(await asked('/notes/two', { id: 'alice' }), 'own')
  t.match(await asked('/notes/two', { id: 'alice', roles: ['boss'] }), 'bob’s own', 'or who has the permission')
  t.same((await asked('/notes/one/all', { id: 'alice' })).match(/\w+’s own/g), ['alice’s own'], 'who owns one of a list owns no list: only the one outside of it shows')
  t.match(await asked('/notes/one/all', { id: 'alice', roles: ['boss'] }), 'bob’s own')
  t.notMatch(await asked('/notes', { id: 'alice' }), 'own')
  t.notMatch(await asked('/first', { id: 'alice' }), 'own', 'what no route has loaded nobody owns')
})

t.test('what was not declared is a 500 and an event [TRAP 15] [TRAP 24]', async t => {
  const body = JSON.stringify(record)
  const send: Record<string, Handler> = {
    'an undeclared status': (_request, reply) => { reply.code(201).send(record) },
    'an undeclared status without content': (_request, reply) => { reply.code(204).send() },
    'a string': () => body,
    'a string sent as JSON': (_request, reply) => { reply.type('application/json').send(body) },
    'a string under another JSON media type': (_request, reply) => { reply.type('application/hal+json').send(body) },
    'a Buffer': () => Buffer.from(body),
    'a Uint8Array': () => new TextEncoder().encode(body),
    'a stream': () => Readable.from([body]),
    'a web stream': () => new ReadableStream({ start (controller) { controller.enqueue(Buffer.from(body)); controller.close() } }),
    'a Response': () => new Response(body, { status: 200, headers: { 'content-type': 'application/json' } }),
    'a Response under a status that seems harmless': (_request, reply) => { reply.code(404).send(new Response(body, { status: 200 })) },
    'a serializer of its own': (_request, reply) => { reply.serializer(() => body).send({}) },
    'a serializer of its own for a string': (_request, reply) => { reply.type('application/json').serializer(() => body).send('x') },
    'a string that was serialised by a schema of its own': (_request, reply) => { reply.send(reply.serializeInput(record, { type: 'object', additionalProperties: true } as never)) },
    'a redirect with a body': (_request, reply) => { reply.code(302).send(body) },
    'a refusal by hand, with more in it': (_request, reply) => { reply.code(400).type('application/problem+json').send(JSON.stringify({ type: 'about:blank', title: 'x', status: 400, code: 'X', passwordHash: HASH })) },
    'a refusal by hand, with more deep in it': (_request, reply) => { reply.code(400).type('application/problem+json').send(JSON.stringify({ type: 'about:blank', title: 'x', status: 400, code: 'X', errors: [{ path: '', message: '', passwordHash: HASH }] })) },
    'a refusal by hand in plain text': (_request, reply) => { reply.code(400).send(body) },
    'an object under a media type that is none of JSON': (_request, reply) => { reply.type('text/html').send(record) },
  }
  for (const [what, handler] of Object.entries(send)) {
    await t.test(what, async t => {
      const { get, app, recorded, log } = await build(t)
      get('/', { 200: Person }, handler)
      const answer = await app.inject('/')
      t.equal(answer.statusCode, 500)
      t.equal(answer.json().code, 'FST_BASTION_HTTP_500')
      t.match(answer.headers['content-type'], 'application/problem+json')
      t.notMatch(answer.body, /argon2id|Ada|schema|raw/)
      t.match(recorded, [{ type: 'undeclared_answer', route: '/' }])
      t.match(JSON.stringify(log), 'declare that status in schema.response', 'the log says what to do')
    })
    await t.test(`${what}, while plain Fastify lets it pass`, async t => {
      const answer = await plain(t, { 200: Person }, handler)
      if (what.includes('without content')) t.equal(answer.statusCode, 204)
      else if (what.includes('none of JSON')) t.equal(answer.statusCode, 500, 'the one that it refuses, too')
      else t.match(answer.body, HASH)
    })
  }
})

t.test('answers by media type', async t => {
  const content = { 'application/json': { schema: Person }, 'application/vnd.person+json': { schema: closed({ id: Type.String() }) } }
  const { app, get, recorded } = await build(t)
  const typed = (type: string): Handler => (_request, reply) => reply.type(type).send(record)
  get('/json', { 200: { content } }, () => record)
  get('/charset', { 200: { content } }, typed('Application/JSON; charset=utf-8'))
  get('/vendor', { 200: { content } }, typed('application/vnd.person+json'))
  get('/hal', { 200: { content } }, typed('application/hal+json'))
  get('/any', { 200: { content: { '*/*': { schema: Person } } } }, typed('application/hal+json'))
  t.same((await app.inject('/json')).json(), { id: '1', name: 'Ada' })
  t.same((await app.inject('/charset')).json(), { id: '1', name: 'Ada' })
  t.same((await app.inject('/vendor')).json(), { id: '1' })
  t.same((await app.inject('/any')).json(), { id: '1', name: 'Ada' })
  t.equal(recorded.length, 0)
  const undeclared = await app.inject('/hal')
  t.equal(undeclared.statusCode, 500)
  t.notMatch(undeclared.body, HASH)
  t.equal(recorded.length, 1)
  t.match((await plain(t, { 200: { content } }, typed('application/hal+json'))).body, HASH, 'while plain Fastify serialises everything under a type that is not declared [TRAP 24]')
})

t.test('what needs no filter passes: nothing, redirects, not modified, and refusals', async t => {
  const { app, get, recorded } = await build(t)
  get('/nothing', { 204: Type.Null() }, async (_request, reply) => { reply.code(204) })
  get('/null', { 200: Type.Null() }, async () => null)
  get('/empty', { 200: Person }, (_request, reply) => { reply.send() })
  get('/redirect', { 200: Person }, (_request, reply) => { reply.redirect('/nothing') })
  get('/same', { 200: Person }, (_request, reply) => { reply.code(304).send() })
  get('/refusal', { 200: Person }, async () => { throw Object.assign(new Error('Not like this'), { statusCode: 409, code: 'APP_CONFLICT' }) })
  get('/by-hand', { 200: Person }, (_request, reply) => { reply.code(409).send({ type: 'about:blank', title: 'Conflict', status: 409, code: 'APP_CONFLICT', passwordHash: HASH }) })
  get('/own', { 200: Person, 409: closed({ winner: Type.String() }) }, (_request, reply) => { reply.code(409).send({ winner: 'Ada', passwordHash: HASH }) })
  t.equal((await app.inject('/nothing')).statusCode, 204)
  t.equal((await app.inject('/null')).body, 'null')
  t.equal((await app.inject('/empty')).statusCode, 200)
  t.equal((await app.inject('/redirect')).headers.location, '/nothing')
  t.equal((await app.inject('/same')).statusCode, 304)
  t.match((await app.inject('/refusal')).json(), { status: 409, code: 'APP_CONFLICT', detail: 'Not like this' })
  t.same((await app.inject('/by-hand')).json(), { type: 'about:blank', title: 'Conflict', status: 409, code: 'APP_CONFLICT' })
  t.same((await app.inject('/own')).json(), { winner: 'Ada' })
  t.equal((await app.inject('/unknown')).statusCode, 404)
  const head = await app.inject({ method: 'HEAD', url: '/own' })
  t.equal(head.body, '')
  t.equal(head.headers['content-length'], '16', 'of what the GET sends, filtered')
  t.same(recorded, [])
})

t.test('a HEAD is filtered as its GET is', async t => {
  const { app, get, recorded } = await build(t)
  get('/whole', { 200: Person }, () => JSON.stringify(record))
  get('/cut', { 200: Person }, () => record)
  t.equal((await app.inject({ method: 'HEAD', url: '/whole' })).statusCode, 500)
  t.equal(recorded.length, 1)
  t.equal((await app.inject({ method: 'HEAD', url: '/cut' })).headers['content-length'], String((await app.inject('/cut')).body.length))
})

t.test('a raw route sends what it likes', async t => {
  const { app, get, recorded } = await build(t)
  const config = { answers: 'raw' } as never
  get('/string', null, () => '<p>hi</p>', { config })
  get('/stream', null, () => Readable.from(['a', 'b']), { config })
  get('/hijacked', null, (_request, reply) => { reply.hijack(); reply.raw.end('mine') }, { config })
  t.equal((await app.inject('/string')).body, '<p>hi</p>')
  t.equal((await app.inject('/stream')).body, 'ab')
  t.equal((await app.inject('/hijacked')).body, 'mine')
  t.same(recorded, [])
  t.equal(app.plan.routes.find(({ url }) => url === '/string')!.controls.exposure, 'raw')
})

t.test('what is written to the socket itself never arrives [TRAP 24]', async t => {
  const write: Record<string, Handler> = {
    'reply.raw.end': (_request, reply) => { reply.raw.end(HASH) },
    'reply.raw.write': (_request, reply) => { reply.raw.write(HASH); reply.raw.end() },
    'reply.raw.writeHead': (_request, reply) => { reply.raw.writeHead(200, { 'x-hash': HASH }); reply.raw.end() },
    'reply.raw.flushHeaders': (_request, reply) => { reply.raw.setHeader('x-hash', HASH); reply.raw.flushHeaders() },
    hijack: (_request, reply) => { reply.hijack(); reply.raw.end(HASH) },
    'a stream into a hijacked reply': (_request, reply) => { reply.hijack(); Readable.from([HASH]).pipe(reply.raw) },
    'a callback that comes later': (_request, reply) => { setTimeout(() => { reply.raw.end(HASH) }, 5) },
    'an asynchronous handler': async (_request, reply) => { await null; reply.raw.end(HASH); return reply },
  }
  const received = async (app: FastifyInstance): Promise<string> => {
    await app.listen({ host: '127.0.0.1', port: 0 })
    const call = ask({ port: (app.server.address() as AddressInfo).port, host: '127.0.0.1', agent: false })
    call.end()
    try {
      const [answer] = await once(call, 'response')
      let text = JSON.stringify(answer.headers)
      for await (const part of answer) text += String(part)
      return text
    } catch (error) {
      return (error as { code: string }).code
    }
  }
  for (const [way, handler] of Object.entries(write)) {
    await t.test(way, async t => {
      const { app, get, recorded, log } = await build(t)
      get('/', { 200: Person }, handler)
      t.equal(await received(app), 'ECONNRESET')
      t.match(recorded, [{ type: 'undeclared_answer', details: { kind: 'raw' } }])
      t.match(JSON.stringify(log), 'wrote to reply.raw')
    })
    await t.test(`${way}, while plain Fastify lets it pass`, async t => {
      const app = Fastify()
      t.teardown(() => app.close())
      app.get('/', { schema: { response: { 200: Person } } }, handler as never)
      app.addHook('onRequest', async (_request, reply) => { if (way.endsWith('flushHeaders')) setTimeout(() => { reply.raw.end() }, 5) })
      t.match(await received(app), HASH)
    })
  }

  await t.test('over HTTP/2 neither', async t => {
    const { app, get, recorded } = await build(t, { server: { fastify: { http2: true } as never } })
    get('/', { 200: Person }, (_request, reply) => { reply.hijack(); reply.raw.write(HASH); reply.raw.end() })
    get('/good', { 200: Person }, async () => record)
    await app.listen({ host: '127.0.0.1', port: 0 })
    const session = connect2(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
    t.teardown(() => { session.destroy() })
    const fetched = async (path: string) => {
      const stream = session.request({ ':path': path })
      let text = ''
      stream.on('error', () => {})
      stream.on('data', part => { text += String(part) })
      await new Promise(resolve => { stream.on('close', resolve) })
      return text
    }
    t.same(JSON.parse(await fetched('/good')), { id: '1', name: 'Ada' })
    t.equal(await fetched('/'), '')
    t.equal(recorded.length, 1)
  })
})

t.test('errors after an answer was begun', async t => {
  t.test('a serializer that the handler set does not serialise the error that follows', async t => {
    const handler: Handler = async (_request, reply) => {
      reply.serializer(() => HASH)
      throw new Error(`postgres://portal:${HASH}@db`)
    }
    const { app, get } = await build(t)
    get('/', { 200: Person }, handler)
    const answer = await app.inject('/')
    t.equal(answer.statusCode, 500)
    t.notMatch(answer.body, /argon2|postgres/)
    t.match((await plain(t, { 200: Person }, handler)).body, HASH, 'while plain Fastify does just that [TRAP 24]')
  })

  t.test('a record that its schema cannot serialise tells nothing of itself', async t => {
    const { app, get } = await build(t)
    get('/', { 200: closed({ age: Type.Integer() }) }, async () => ({ age: HASH }))
    const answer = await app.inject('/')
    t.equal(answer.statusCode, 500)
    t.notMatch(answer.body, HASH)
    t.match((await plain(t, { 200: closed({ age: Type.Integer() }) }, async () => ({ age: HASH }))).body, HASH, 'while plain Fastify names the value')
  })

  t.test('a hook of the service that fails again and again tells nothing either, on known and unknown routes', async t => {
    const fail = async () => { throw new Error(`postgres://portal:${HASH}@db`) }
    const { app, get } = await build(t)
    app.addHook('onSend', fail)
    get('/', { 200: Person, 503: closed({ ready: Type.Boolean() }) }, async () => record)
    get('/busy', { 200: Person, 503: closed({ ready: Type.Boolean() }) }, async () => { throw Object.assign(new Error(HASH), { statusCode: 503 }) })
    for (const url of ['/', '/busy', '/unknown']) {
      const answer = await app.inject(url)
      t.ok(answer.statusCode >= 400, url)
      t.notMatch(answer.body, /argon2|postgres|Ada/, url)
      if (url !== '/unknown') t.match(answer.json(), { type: 'about:blank', status: answer.statusCode, code: `FST_BASTION_HTTP_${answer.statusCode}` }, 'a problem still')
    }
    const control = Fastify()
    t.teardown(() => control.close())
    control.addHook('onSend', fail)
    control.get('/', async () => record)
    t.match((await control.inject('/')).body, HASH, 'while plain Fastify sends the message of the error')
  })
})

t.test('hooks of the service', async t => {
  t.test('may change a finished answer: compression goes on working', async t => {
    const { app, get } = await build(t)
    app.addHook('onSend', async (_request, reply, payload) => {
      await new Promise(resolve => { setImmediate(resolve) })
      reply.header('content-encoding', 'gzip')
      return gzipSync(String(payload))
    })
    get('/', { 200: Person }, async () => record)
    get('/refused', { 200: Person }, async () => { throw Object.assign(new Error('no'), { statusCode: 409 }) })
    t.same(JSON.parse(gunzipSync((await app.inject('/')).rawPayload).toString()), { id: '1', name: 'Ada' })
    t.match(JSON.parse(gunzipSync((await app.inject('/refused')).rawPayload).toString()), { status: 409 })
  })

  t.test('may change the record, its status and its type before it is serialised, and are filtered by what it became', async t => {
    const { app, get } = await build(t)
    get('/status', { 200: Person, 201: closed({ id: Type.String() }) }, async () => record, { preSerialization: async (_request, reply, payload) => { reply.code(201); return payload } })
    get('/other', { 200: Person }, async () => ({}), { preSerialization: async () => record })
    get('/undeclared', { 200: Person }, async () => record, { preSerialization: async (_request, reply, payload) => { reply.code(203); return payload } })
    get('/serializer', { 200: Person }, async () => record, { preSerialization: async (_request, reply, payload) => { reply.serializer(JSON.stringify as never); return payload } })
    t.same((await app.inject('/status')).json(), { id: '1' })
    t.same((await app.inject('/other')).json(), { id: '1', name: 'Ada' })
    for (const url of ['/undeclared', '/serializer']) {
      const answer = await app.inject(url)
      t.equal(answer.statusCode, 500, url)
      t.notMatch(answer.body, HASH)
    }
  })

  t.test('may answer themselves, and are filtered as the handler is', async t => {
    const { app, get, recorded } = await build(t)
    let runs = 0
    const handler = async () => { runs++; return record }
    get('/object', { 200: Person }, handler, { preHandler: async (_request, reply) => reply.send(record) })
    get('/early', { 200: Person }, handler, { onRequest: async (_request, reply) => reply.send(record) })
    get('/string', { 200: Person }, handler, { preHandler: async (_request, reply) => reply.send(JSON.stringify(record)) })
    t.same((await app.inject('/object')).json(), { id: '1', name: 'Ada' })
    t.same((await app.inject('/early')).json(), { id: '1', name: 'Ada' })
    t.equal((await app.inject('/string')).statusCode, 500)
    t.equal(runs, 0)
    t.equal(recorded.length, 1)
  })

  t.test('that wait never mix up the answers of requests that run at once', async t => {
    const Seen = closed({ n: Type.Integer(), secret: Type.Optional(Type.Integer({ visibleTo: 'people:pay' })) })
    const { app, get, recorded } = await build(t)
    const pause = () => new Promise(resolve => { setTimeout(resolve, Math.random() * 3) })
    app.addHook('preSerialization', async (_request, _reply, payload) => { await pause(); return payload })
    app.addHook('onSend', async (_request, _reply, payload) => { await pause(); return payload })
    get('/:n', { 200: Seen }, async request => {
      await pause()
      const n = Number((request.params as { n: string }).n)
      return { n, secret: n }
    })
    await Promise.all(Array.from({ length: 300 }, async (_none, n) => {
      const answer = await app.inject({ url: `/${n}`, headers: as({ roles: n % 2 === 0 ? ['boss'] : [] }) })
      const expected = n % 2 === 0 ? { n, secret: n } : { n }
      if (JSON.stringify(answer.json()) !== JSON.stringify(expected)) t.fail(`request ${n} got ${answer.body}`)
    }))
    t.equal(recorded.length, 0)
  })

  t.test('that were there before the suite and change an answer stop it', async t => {
    const app = Fastify(server({ logger: false }))
    t.teardown(() => app.close())
    app.addHook('onSend', async () => JSON.stringify(record))
    for (const plugin of [plan, events, errors, identity, access, exposure]) await app.register(plugin as never)
    app.get('/', { schema: { response: { 200: Person } }, config: { access: 'public' } }, async () => record)
    const answer = await app.inject('/')
    t.equal(answer.statusCode, 500)
  })
})

/** Counts what is compiled from now on: Ajv and fast-json-stringify make functions of text. */
function countCompiled (t: Test): { all: number, serializers: number } {
  const compiled = { all: 0, serializers: 0 }
  const Native = globalThis.Function
  const count = (args: unknown[]) => {
    compiled.all++
    if (args.includes('serializer')) compiled.serializers++
  }
  globalThis.Function = new Proxy(Native, {
    construct (target, args) { count(args); return Reflect.construct(target, args) as object },
    apply (target, self, args) { count(args); return Reflect.apply(target, self, args) as object },
  })
  t.teardown(() => { globalThis.Function = Native })
  return compiled
}

t.test('everything is compiled at boot', async t => {
  const { app, get } = await build(t)
  const Either = Type.Union([closed({ a: Type.String() }), closed({ b: Type.String(), c: Type.Optional(Type.String({ visibleTo: 'people:pay' })) })])
  get('/either', { 200: Either, 201: Type.Array(Either) }, (request, reply) => reply.code((request.query as { list?: string }).list === undefined ? 200 : 201).send(
    (request.query as { list?: string }).list === undefined ? { b: '1', c: '2' } : [{ a: '1' }, { b: '1', c: '2' }]))
  get('/refused', { 200: Person }, async () => { throw Object.assign(new Error('no'), { statusCode: 409 }) })
  await app.ready()
  const compiled = countCompiled(t)
  for (const url of ['/either', '/either?list=1', '/refused', '/unknown']) {
    for (const headers of [{}, as({ roles: ['boss'] })]) await app.inject({ url, headers })
  }
  t.equal(compiled.all, 0)
  const late = Fastify()
  t.teardown(() => late.close())
  late.get('/', async (_request, reply) => reply.serializeInput({}, { type: 'object', properties: {} }))
  await late.inject('/')
  t.not(compiled.serializers, 0, 'the count counts')
})

t.test('a schema that many routes share is compiled once', async t => {
  const { app, get } = await build(t)
  const compiled = countCompiled(t)
  const Shared = closed({ id: Type.String(), pay: Type.Optional(Type.String({ visibleTo: 'people:pay' })) })
  for (let i = 0; i < 100; i++) get(`/${i}`, { 200: Shared }, async () => ({ id: '1' }))
  await app.ready()
  t.same(compiled.serializers, 3, 'one for problems, two for the two kinds of caller, whatever the number of routes')
})

t.test('a schema that lets everything through', async t => {
  const open: Record<string, TSchema> = {
    any: Type.Any(),
    unknown: Type.Unknown(),
    'an any inside': closed({ deep: closed({ x: Type.Any() }) }),
    'an object with undeclared fields': Type.Object({ id: Type.String() }, { additionalProperties: true }),
    'an object whose undeclared fields are anything': Type.Object({ id: Type.String() }, { additionalProperties: Type.Any() }),
    'a map of anything': Type.Record(Type.String(), Type.Unknown()),
    'a list of anything': Type.Array(Type.Any()),
    'a list of nothing said': Type.Unsafe({ type: 'array' }),
    'a union with anything': Type.Union([Type.String(), Type.Any()]),
    'an enumeration without a type': Type.Unsafe({ enum: ['a', 'b'] }),
    'what is not something': Type.Not(Type.String()),
    'a property that is true': Type.Unsafe({ type: 'object', properties: { x: true } }),
    'a property that is false': Type.Unsafe({ type: 'object', properties: { x: false } }),
  }
  for (const [title, schema] of Object.entries(open)) {
    await t.test(`stops boot: ${title}`, async t => {
      const { app, get } = await build(t)
      get('/open', { 200: schema }, async () => record)
      await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message: /GET \/open: its 200 lets everything through/ })
    })
  }
  await t.test('boots where it says why, and the reason is in the plan', async t => {
    const { app, get } = await build(t)
    get('/open', { 200: closed({ report: Type.Record(Type.String(), Type.Unknown({ open: 'the report describes itself' })) }) }, async () => ({ report: { a: { b: 1 } }, hidden: HASH }))
    t.same((await app.inject('/open')).json(), { report: { a: { b: 1 } } })
    t.match(app.plan.routes.find(({ url }) => url === '/open')!.controls.exposure, { open: { 200: ['/report/*: the report describes itself'] } })
  })
  await t.test('is nothing to a raw route', async t => {
    const { app, get } = await build(t)
    get('/open', { 200: Type.Any() }, async () => ({ a: 1 }), { config: { answers: 'raw' } as never })
    t.same((await app.inject('/open')).json(), { a: 1 })
  })
})

t.test('misconfiguration stops boot', async t => {
  const objects = (title: string, response: Record<string, unknown> | null, message: RegExp, more: Partial<RouteOptions> = {}) => t.test(title, async t => {
    const { app, get } = await build(t)
    get('/route', response, async () => record, more)
    await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message })
  })
  await objects('no schema for a success', null, /GET \/route: no schema for its success/)
  await objects('a schema for failures only', { 404: Person }, /no schema for its success/)
  await objects('a misspelt raw', { 200: Person }, /answers: "row" is not 'raw'/, { config: { answers: 'row' } as never })
  await objects('a serializer compiler of its own', { 200: Person }, /serializer compiler of its own/, { serializerCompiler: () => () => HASH })
  await objects('a permission that nobody declared', { 200: closed({ a: Type.String({ visibleTo: 'people:raed' }) }) }, /its 200: visibleTo: unknown permission people:raed/)
  await objects('visibleTo nobody', { 200: closed({ a: Type.String({ visibleTo: [] }) }) }, /visibleTo at \/a names nobody/)
  await objects('visibleTo what is no name', { 200: closed({ a: Type.String({ visibleTo: { role: 'x' } }) }) }, /visibleTo at \/a names nobody/)
  await objects('visibleTo at the top', { 200: Type.Object({ a: Type.String() }, { visibleTo: 'people:pay' }) }, /visibleTo at the top is not on a property/)
  await objects('visibleTo on the items of a list', { 200: Type.Array(Type.String({ visibleTo: 'people:pay' })) }, /visibleTo at \/items is not on a property/)
  await objects('visibleTo on a branch', { 200: closed({ a: Type.Union([Type.String({ visibleTo: 'people:pay' }), Type.Null()]) }) }, /visibleTo at \/a is not on a property/)
  await objects('visibleTo on the values of a map', { 200: Type.Record(Type.String(), Type.String({ visibleTo: 'people:pay' })) }, /visibleTo at \/\* is not on a property/)
  await objects('visibleTo beside fields of any name', { 200: Type.Object({ a: Type.String({ visibleTo: 'people:pay' }) }, { additionalProperties: Type.String() }) }, /what is hidden would come back/)
  await objects('visibleTo in what refers to itself', { 200: Type.Recursive(Self => closed({ a: Type.String({ visibleTo: 'people:pay' }), b: Type.Array(Self) })) }, /which refers to itself/)
  await objects('too many kinds of sight', { 200: closed(Object.fromEntries(['people:read', 'people:clinical', 'people:pay', 'a:a', 'b:b', 'c:c'].map((name, i) => [`f${i}`, Type.String({ visibleTo: name })]))) }, /distinguishes 6 kinds of sight, more than 5/)
  await objects('an opening without a reason', { 200: Type.Unknown({ open: true }) }, /open at the top gives no reason/)
  await objects('a reference to nothing', { 200: Type.Unsafe({ $ref: 'Nowhere#' }) }, /nothing is known of Nowhere#/)
  await objects('a type that cannot be serialised', { 200: closed({ at: Type.Date() }) }, /its 200 cannot be serialised/)

  await t.test('every offender is named at once', async t => {
    const { app, get } = await build(t)
    get('/a', { 200: Type.Any() }, async () => record)
    get('/b', { 200: closed({ at: Type.Date() }) }, async () => record)
    get('/c', null, async () => record)
    await t.rejects(async () => { await app.ready() }, { message: /\/a: its 200[^]*\/b: its 200[^]*\/c: no schema/ })
  })

  await t.test('a serializer compiler of a scope', async t => {
    const { app } = await build(t)
    await app.register(async scope => {
      scope.setSerializerCompiler(() => () => HASH)
      scope.get('/scope', { schema: { response: { 200: Person } }, config: { access: 'public' } }, async () => record)
    })
    await t.rejects(async () => { await app.ready() }, { message: /\/scope: a serializer compiler of its own/ })
  })

  await t.test('visibleTo without the plugin that knows who may see what', async t => {
    const app = Fastify(server({ logger: false }))
    t.teardown(() => app.close())
    for (const plugin of [plan, events, errors, exposure]) await app.register(plugin as never)
    app.get('/route', { schema: { response: { 200: closed({ a: Type.String({ visibleTo: 'x:y' }) }) } } }, async () => ({ a: '' }))
    await t.rejects(async () => { await app.ready() }, { message: /visibleTo needs the access plugin/ })
  })
})

t.test('field names that are words of JSON schema are field names', async t => {
  const { app, get } = await build(t)
  const names = ['visibleTo', 'properties', 'required', '$ref', 'items', 'anyOf', 'open', 'type', 'constructor']
  const Odd = closed({ ...Object.fromEntries(names.map(name => [name, Type.String()])), secret: Type.Optional(Type.String({ visibleTo: 'people:pay' })), fixed: Type.Literal('x', { default: 'x' }) })
  const odd = { ...Object.fromEntries(names.map(name => [name, name])), fixed: 'x' }
  get('/odd', { 200: Odd }, async () => ({ ...odd, secret: HASH }))
  t.same((await app.inject('/odd')).json(), odd)
})

t.test('boot reads what was added as schemas as often for forty routes as for twenty; Fastify alone reads all of it for each', async t => {
  /** How often another schema, to which no route refers, was read for so many routes with schemas of their own. */
  async function reads (app: FastifyInstance, routes: number): Promise<number> {
    let count = 0
    app.addSchema({ $id: 'other', type: 'object' })
    Object.defineProperty(app.getSchema('other'), 'properties', { enumerable: true, get () { count++; return {} } })
    for (let i = 0; i < routes; i++) {
      app.addSchema({ $id: `own-${i}`, ...closed({ [`field-${i}`]: Type.String() }) })
      app.get(`/${i}`, { schema: { response: { 200: { $ref: `own-${i}#` } } }, config: { access: 'public' } as never }, async () => ({ [`field-${i}`]: 'x' }))
    }
    const first = await app.inject('/0')
    t.same(first.json(), { 'field-0': 'x' })
    return count
  }
  t.equal(await reads((await build(t)).app, 40), await reads((await build(t)).app, 20))
  const bare = [Fastify(), Fastify()] as const
  t.teardown(async () => { for (const app of bare) await app.close() })
  t.ok(await reads(bare[0], 40) > 1.5 * await reads(bare[1], 20), 'negative control')
})

t.test('each answer with a body says what it is, and a text how it is written [ASVS 4.1.1]', async t => {
  const { app, get } = await build(t)
  const raw = { config: { answers: 'raw' } as never }
  const send = (type: string | null, payload: unknown): Handler => async (_request, reply) => (type === null ? reply : reply.type(type)).send(payload)
  const text = '<p>+ADw-script+AD4-</p>'
  const cases: [url: string, type: string | null, payload: unknown, said: string][] = [
    ['/page', 'text/html', text, 'text/html; charset=utf-8'],
    ['/table', 'text/csv; header=present', Readable.from(['a,b\n']), 'text/csv; header=present; charset=utf-8'],
    ['/drawing', 'image/svg+xml', Buffer.from('<svg/>'), 'image/svg+xml; charset=utf-8'],
    ['/feed', 'application/atom+xml', '<feed/>', 'application/atom+xml; charset=utf-8'],
    ['/xml', 'application/xml', '<a/>', 'application/xml; charset=utf-8'],
    ['/own', 'text/html; Charset=iso-8859-1', text, 'text/html; Charset=iso-8859-1'],
    ['/picture', 'image/png', Buffer.from('png'), 'image/png'],
    ['/events', 'text/event-stream', 'data: 1\n\n', 'text/event-stream'],
    ['/stream', null, Readable.from(['bytes']), 'application/octet-stream'],
    ['/bytes', null, Buffer.from('bytes'), 'application/octet-stream'],
  ]
  for (const [url, type, payload] of cases) get(url, null, send(type, payload), raw)
  get('/declared', { 200: Person }, async () => record)
  get('/empty', null, async (_request, reply) => reply.code(204).send(), raw)
  for (const [url, , , said] of cases) t.equal((await app.inject(url)).headers['content-type'], said, url)
  t.equal((await app.inject('/declared')).headers['content-type'], 'application/json; charset=utf-8')
  t.equal((await app.inject('/empty')).headers['content-type'], undefined)
  t.equal((await app.inject('/nowhere')).headers['content-type'], 'application/problem+json; charset=utf-8')
  t.equal((await plain(t, null, send('text/html', text))).headers['content-type'], 'text/html', 'negative control: plain Fastify leaves it to the browser to guess')
  t.equal((await plain(t, null, send(null, Readable.from(['bytes'])))).headers['content-type'], undefined, 'negative control: plain Fastify')
})
