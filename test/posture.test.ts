/** Posture: the report is what runs. */
import Fastify, { type FastifyInstance } from 'fastify'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions } from '../plugins/index.js'
import type { Baseline, Guarded } from '../plugins/posture/baseline.js'
import { changesBetween } from '../plugins/posture/changes/index.js'
import { fieldsTaken, fieldsTold } from '../plugins/posture/fields.js'
import { Posture } from '../plugins/posture/index.js'
import { closed } from '../schemas/closed.js'

const schema = { response: { 200: Type.Object({ ok: Type.Boolean() }) } }
const answer = async () => ({ ok: true })

async function build (t: Test, options: BastionOptions = {}, declare: (app: FastifyInstance) => void = () => {}, isOurs = true): Promise<FastifyInstance> {
  const app = isOurs ? Fastify(server({ logger: false })) : Fastify()
  t.teardown(() => app.close())
  await app.register(bastion, { transport: { hosts: ['localhost'] }, ...options })
  declare(app)
  await app.ready()
  return app
}

function findings (app: FastifyInstance): string[] {
  return app.posture().findings.map(({ severity, route, message, fix }) => `${severity} ${route}: ${message}. ${fix}`)
}

t.test('the report has every route with its steps and what each concern promises, and is plain data', async t => {
  const app = await build(t, { access: { roles: { user: { permissions: ['posts:read'] } } }, cors: { origins: ['https://app.example.com'] } }, app => {
    app.get('/posts', { schema, config: { access: { permissions: 'posts:read' }, limits: ['5/second'], audit: 'data_access' } }, answer)
    app.post('/posts', { schema: { ...schema, body: closed({ a: Type.String() }) }, config: { access: 'public' } }, answer)
  })
  const report = app.posture()
  t.ok(Value.Check(Posture, report))
  t.same(JSON.parse(JSON.stringify(report)), report, 'nothing is lost in JSON')
  const routes = report.routes.map(({ method, url, kind }) => `${kind} ${method} ${url}`)
  t.same(routes, ['route OPTIONS *', 'route GET /posts', 'head HEAD /posts', 'route POST /posts', 'not-found * *'])
  const get = report.routes.find(({ method, url }) => method === 'GET' && url === '/posts')!
  t.match(get.controls, {
    access: { permissions: 'posts:read' },
    limits: { windows: ['5/second'] },
    audit: 'data_access',
    cors: { origins: ['https://app.example.com'] },
    transport: { hosts: ['localhost'], https: false },
    headers: { 'x-content-type-options': 'nosniff' },
    exposure: { statuses: ['200'] },
  })
  for (const concern of ['access', 'audit', 'cors', 'exposure', 'headers', 'identity', 'limits', 'transport', 'validation']) t.ok(report.concerns.includes(concern), concern)
})

t.test('what is reported is what the wire does', async t => {
  const app = await build(t, {}, app => {
    app.get('/public', { schema, config: { access: 'public', headers: { cacheControl: 'max-age=9' }, limits: ['2/minute'] } }, answer)
    app.get('/user', { schema, config: { access: 'user', limits: false } }, answer)
  })
  for (const { method, url, kind, controls } of app.posture().routes) {
    if (kind !== 'route' || method !== 'GET') continue
    const { statusCode, headers } = await app.inject(url)
    t.equal(statusCode, controls.access === 'public' ? 200 : 401, url)
    for (const [name, value] of Object.entries(controls.headers as object)) if (name !== 'strict-transport-security') t.equal(headers[name], value)
    t.equal(headers['x-ratelimit-limit'], controls.limits === false ? undefined : '2')
  }
  const before = app.posture()
  t.same(app.plan.routes.map(({ order }) => [...order]), before.routes.slice(0, -1).map(({ order }) => order))
})

t.test('who reads the report cannot change the plan', async t => {
  const app = await build(t, {}, app => { app.get('/', { schema, config: { access: 'user' } }, answer) })
  const report = app.posture()
  for (const route of report.routes) {
    route.order.length = 0
    Object.assign(route.controls, { access: 'public' })
    Object.assign(route.controls.headers as object, { 'x-content-type-options': 'gone' })
    ;(route.controls.transport as { hosts: string[] }).hosts.push('evil.example')
  }
  t.match(app.posture().routes.find(({ url }) => url === '/')!.controls, { access: 'user', headers: { 'x-content-type-options': 'nosniff' }, transport: { hosts: ['localhost'] } })
  t.equal((await app.inject('/')).statusCode, 401)
})

t.test('a service that has nothing to look at has no findings; each weakness is one, and says what to do', async t => {
  t.same(findings(await build(t, {}, app => { app.get('/', { schema, config: { access: 'public' } }, answer) })), [])

  const app = await build(t, { transport: {}, headers: { hsts: false }, cors: { origins: ['http://intranet.example', 'http://localhost:5173', 'https://app.example.com'] } }, app => {
    app.post('/open', { schema: { ...schema, body: closed({ a: Type.String() }) }, config: { access: 'public', limits: false } }, answer)
    app.get('/unlimited', { schema, config: { access: 'user', limits: false } }, answer)
    app.get('/bare', { schema, config: { access: 'public', headers: false } }, answer)
    app.get('/file', { config: { access: 'user', answers: 'raw' } }, answer)
    app.get('/items/:id', { schema, config: { access: 'public' } }, answer)
    app.get('/typed/:id', { schema: { ...schema, params: Type.Object({ id: Type.String() }) }, config: { access: 'public' } }, answer)
  })
  t.match(findings(app), [
    /^medium \*: answers to any host\. List yours in transport\.hosts\.$/,
    /^low \*: sends no Strict-Transport-Security .*hsts: false/,
    /^medium \*: http:\/\/intranet\.example may read.* Serve that page by https/,
    /^high POST \/open: public, changes something, and has no limit\. .*limits: \['10\/minute'\]/,
    /^low GET \/unlimited: has no limit\. Take limits: false out/,
    /^medium GET \/bare: sends no security headers\. Take headers: false out/,
    /^low GET \/file: its answer is not filtered .*schema\.response/,
    /^low GET \/items\/:id: its URL has parameters without a schema\. Describe them in schema\.params\./,
  ])
  t.equal(findings(app).length, 8, 'and nothing for the twins, the unknown route or the preflights')

  t.match(findings(await build(t, { cors: { origins: '*' } })), [/^low \*: any page may read/])
  t.match(findings(await build(t, { cors: false }, undefined, false)), [/^medium \*: a request may take for ever.*server\(\)/])
})

type Verdict = 'weaker' | 'stronger' | 'same'

/** What becomes of a service whose one route is changed. */
function verdictOf (before: Partial<Guarded>, after: Partial<Guarded>, from = 'GET /a', to = from): { verdict: Verdict, lines: string[] } {
  const baseline = (name: string, route: Partial<Guarded>): Baseline => ({ bastion: 1, roles: {}, findings: [], everywhere: {}, routes: { [name]: { controls: { access: 'user' }, input: {}, output: {}, ...route } } })
  const changes = changesBetween(baseline(from, before), baseline(to, after))
  return { verdict: changes.some(({ is }) => is === 'weaker') ? 'weaker' : changes.length > 0 ? 'stronger' : 'same', lines: changes.map(({ is, message }) => `${is}: ${message}`) }
}

const SHARED = { Short: { $id: 'Short', type: 'string', maxLength: 5 }, Long: { $id: 'Long', type: 'string', maxLength: 50 } }
const object = (properties: object, more: object = {}) => ({ type: 'object', additionalProperties: false, properties, ...more })
const of = (a: unknown) => object({ a })
const word = { type: 'string', maxLength: 5, pattern: '^a' }
const list = (more: object = {}) => of({ type: 'array', items: word, maxItems: 3, ...more })
const either = { anyOf: [{ required: ['a'] }, { required: ['b'] }] }
const tree = (maxLength: number) => Type.Recursive(Self => closed({ name: Type.String({ maxLength }), parts: Type.Array(Self) }))

/** What a body takes, before and after. */
const TAKEN: readonly [string, unknown, unknown, Verdict][] = [
  ['fields of any name', of(word), { ...of(word), additionalProperties: true }, 'weaker'],
  ['nothing said of other names', of(word), { type: 'object', properties: { a: word } }, 'weaker'],
  ['the same without a type', { properties: { a: word }, additionalProperties: false }, { properties: { a: word } }, 'weaker'],
  ['other names of one type', of(word), { ...of(word), additionalProperties: word }, 'weaker'],
  ['an object inside that is open', of(object({})), of({ type: 'object' }), 'weaker'],
  ['a pattern of names that is wider', object({}, { patternProperties: { '^x-': word } }), object({}, { patternProperties: { '.*': word } }), 'weaker'],
  ['names that nothing is asked of', object({}, { additionalProperties: word, propertyNames: { pattern: 'x' } }), object({}, { additionalProperties: word }), 'weaker'],
  ['items of any kind', list(), list({ items: undefined }), 'weaker'],
  ['items that may be longer', list(), list({ items: { ...word, maxLength: 6 } }), 'weaker'],
  ['more items', list(), list({ maxItems: 4 }), 'weaker'],
  ['items twice', list({ uniqueItems: true }), list(), 'weaker'],
  ['items behind a tuple', list({ items: [word], additionalItems: false }), list({ items: [word] }), 'weaker'],
  ['null', of(word), of({ ...word, nullable: true }), 'weaker'],
  ['no more null', of({ ...word, nullable: true }), of(word), 'stronger'],
  ['another type', of(word), of({ ...word, type: ['string', 'number'] }), 'weaker'],
  ['fractions', of({ type: 'integer' }), of({ type: 'number' }), 'weaker'],
  ['anything', of(word), of({}), 'weaker'],
  ['true', of(word), of(true), 'weaker'],
  ['one value more', of({ enum: ['a'] }), of({ enum: ['a', 'b'] }), 'weaker'],
  ['one value less', of({ enum: ['a', 'b'] }), of({ enum: ['a'] }), 'stronger'],
  ['any value instead of some', of({ type: 'string', enum: ['a'] }), of({ type: 'string' }), 'weaker'],
  ['some values of those that it took', of(word), of({ enum: ['a', 'abc'] }), 'stronger'],
  ['a value that it refused', of(word), of({ enum: ['a', 'bcdefgh'] }), 'weaker'],
  ['no format', of({ type: 'string', format: 'email' }), of({ type: 'string' }), 'weaker'],
  ['no pattern', of(word), of({ ...word, pattern: undefined }), 'weaker'],
  ['shorter ones', of({ type: 'string', minLength: 8 }), of({ type: 'string', minLength: 1 }), 'weaker'],
  ['what it was not to be', of({ type: 'string', not: { const: 'x' } }), of({ type: 'string' }), 'weaker'],
  ['a bound lowered', of(word), of({ ...word, maxLength: 3 }), 'stronger'],
  ['a field that need not be there', object({ a: word }, { required: ['a'] }), of(word), 'weaker'],
  ['a field that must be there', of(word), object({ a: word }, { required: ['a'] }), 'stronger'],
  ['another branch', of({ anyOf: [word] }), of({ anyOf: [word, { type: 'number' }] }), 'weaker'],
  ['a branch of which nothing must be there', { anyOf: [object({ a: word }, { required: ['a'] })] }, { anyOf: [object({ a: word }, { required: ['a'] }), object({})] }, 'weaker'],
  ['a bound beside branches', of({ ...word, anyOf: [{ format: 'email' }, { format: 'uri' }] }), of({ ...word, maxLength: 500, anyOf: [{ format: 'email' }, { format: 'uri' }] }), 'weaker'],
  ['an open object beside branches', object({ a: word, b: word }, either), { ...object({ a: word, b: word }, either), additionalProperties: true }, 'weaker'],
  ['branches that asked for one of two', object({ a: word, b: word }, either), object({ a: word, b: word }), 'weaker'],
  ['a part of allOf', of({ allOf: [{ type: 'string', maxLength: 5 }, { pattern: '^a' }] }), of({ allOf: [{ type: 'string', maxLength: 5 }] }), 'weaker'],
  ['allOf written as one', of({ allOf: [{ type: 'string', maxLength: 5 }, { pattern: '^a' }] }), of(word), 'same'],
  ['one of two patterns', of({ ...word, allOf: [{ pattern: 'b$' }] }), of(word), 'weaker'],
  ['a reference to what is longer', of({ $ref: 'Short#' }), of({ $ref: 'Long#' }), 'weaker'],
  ['a bound beside a reference', of({ $ref: 'Long#', maxLength: 7 }), of({ $ref: 'Long#' }), 'weaker'],
  ['a reference written out', of({ $ref: 'Short#' }), of({ type: 'string', maxLength: 5 }), 'same'],
  ['a bound in what refers to itself', tree(3), tree(9), 'weaker'],
  ['what refers to itself, made again', tree(3), tree(3), 'same'],
  ['a field of an open object', { type: 'object', properties: { a: word } }, { type: 'object' }, 'weaker'],
  ['a field more in an open object', { type: 'object' }, { type: 'object', properties: { a: word } }, 'stronger'],
  ['an object and what it needed', object({ a: word, b: object({ c: word }, { required: ['c'] }) }), of(word), 'stronger'],
  ['words for people, and the order', object({ a: word, b: word }), object({ b: { ...word, description: 'x', default: 'a' }, a: word }), 'same'],
]

t.test('a body that takes more than it did is weaker, however its schema says it; one that takes the same or less is not [ASVS 2.2.1, 15.3.3]', async t => {
  const body = (schema: unknown) => ({ input: { body: fieldsTaken(JSON.parse(JSON.stringify(schema)), SHARED) } })
  for (const [name, before, after, expected] of TAKEN) {
    const { verdict, lines } = verdictOf(body(before), body(after))
    t.equal(verdict, expected, `${name}: ${lines.join('; ')}`)
  }
  t.match(verdictOf({}, { input: { body: fieldsTaken(of(word), {}) } }).lines, [/^weaker: takes a body now: the whole \/a$/])
})

/** What an answer tells, before and after. */
const TOLD: readonly [string, unknown, unknown, Verdict][] = [
  ['a field', of(word), object({ a: word, b: word }), 'weaker'],
  ['a field of any kind', of(word), object({ a: word, b: {} }), 'weaker'],
  ['fields of any name', of(word), { ...of(word), additionalProperties: true }, 'weaker'],
  ['items of any kind', list(), list({ items: undefined }), 'weaker'],
  ['anything in place of a word', of(word), of({}), 'weaker'],
  ['what a reference hid', of({ $ref: 'Short#', visibleTo: 'x' }), of({ $ref: 'Short#' }), 'weaker'],
  ['what the object around it hid', of(object({ b: word }, { visibleTo: 'x' })), of(object({ b: word })), 'weaker'],
  ['a field less', object({ a: word, b: word }), of(word), 'stronger'],
]

t.test('an answer that tells more than it did is weaker, also where its errors told the same, and where its schema is gone [ASVS 15.3.1]', async t => {
  const told = (schema: unknown) => fieldsTold(JSON.parse(JSON.stringify(schema)), SHARED)
  for (const [name, before, after, expected] of TOLD) {
    const { verdict, lines } = verdictOf({ output: { 200: told(before) } }, { output: { 200: told(after) } })
    t.equal(verdict, expected, `${name}: ${lines.join('; ')}`)
  }
  const problem = told(object({ title: word }))
  t.match(verdictOf({ output: { 200: told(of(word)), 403: problem } }, { output: { 200: told(object({ a: word, title: word })), 403: problem } }), { verdict: 'weaker' })
  t.match(verdictOf({ output: { 200: told(of(word)) } }, { output: { 201: told(of(word)) } }), { verdict: 'same' }, 'another status of success')
  t.match(verdictOf({ output: { 200: told(of(word)) } }, { output: {} }).lines, ['weaker: its answer has no schema any more'])
})

/** Promises of one control, before and after. */
const CONTROLS: readonly [string, string, unknown, unknown][] = [
  ['a burst of the same rate', 'flood', { max: 100, timeWindow: 1000 }, { max: 6000, timeWindow: 60_000 }],
  ['cards', 'cards', 'strict', 'cards'],
  ['one more exempt', 'limits', { windows: ['1/second'], exempt: ['10.0.0.1'] }, { windows: ['1/second'], exempt: ['10.0.0.1', '10.0.0.2'] }],
  ['an overload threshold', 'overload', { maxConcurrent: 10, maxEventLoopDelay: 50 }, { maxConcurrent: 10 }],
  ['a session kept alive', 'sessions', { cookie: '__Host-s', activity: false }, { cookie: '__Host-s' }],
  ['proofs without a nonce', 'dpop', { required: true, nonce: true, algorithms: ['ES256'] }, { required: true, nonce: false, algorithms: ['ES256'] }],
  ['proofs by another algorithm', 'dpop', { required: true, nonce: true, algorithms: ['ES256'] }, { required: true, nonce: true, algorithms: ['ES256', 'RS256'] }],
  ['a version that had gone', 'versions', { status: 'gone' }, { status: 'deprecated' }],
  ['a rule of its own', 'resource', { name: 'post', hidden: true, override: [] }, { name: 'post', hidden: true, override: [], custom: true }],
  ['who passes without owning', 'resource', { name: 'post', hidden: true, override: [] }, { name: 'post', hidden: true, override: ['admin'] }],
  ['active documents', 'uploads', { kinds: ['pdf'], active: 'refuse' }, { kinds: ['pdf'], active: 'keep' }],
  ['no quota', 'uploads', { kinds: ['pdf'], quota: { files: 5, bytes: 100 } }, { kinds: ['pdf'], quota: null }],
  ['a quota raised', 'uploads', { kinds: ['pdf'], quota: { files: 5, bytes: 100 } }, { kinds: ['pdf'], quota: { files: 5, bytes: 200 } }],
]
const HEADERS: readonly [string, string, string | string[], string | string[]][] = [
  ['scripts in line where any source was allowed', 'content-security-policy', 'script-src *', "script-src * 'unsafe-inline'"],
  ['attributes with scripts', 'content-security-policy', "default-src 'none'; script-src 'unsafe-inline'; script-src-attr 'none'", "default-src 'none'; script-src 'unsafe-inline'"],
  ['a sandbox with a hole', 'content-security-policy', 'sandbox', 'sandbox allow-scripts'],
  ['no policy of any kind', 'content-security-policy', "default-src 'none'", "img-src 'none'"],
  ['frames', 'content-security-policy', "default-src 'none'; frame-ancestors 'none'", "default-src 'none'"],
  ['caches of others', 'cache-control', 'max-age=60', 'public, max-age=60'],
  ['caches for long', 'cache-control', 'private, max-age=60', 'private, max-age=6000'],
  ['caches', 'cache-control', 'no-store', 'no-cache'],
  ['a cluster', 'origin-agent-cluster', '?1', '?0'],
  ['what stays in the browser', 'clear-site-data', ['cache', 'cookies'], ['cache']],
]

t.test('a control that promises less is weaker, and its way back is not [ASVS 8.2.1]', async t => {
  const cases = [...CONTROLS, ...HEADERS.map(([name, header, was, is]) => [name, 'headers', { [header]: was }, { [header]: is }] as const)]
  for (const [name, control, was, is] of cases) {
    const of = (promise: unknown) => ({ controls: { access: 'user', [control]: promise } })
    const there = verdictOf(of(was), of(is))
    t.equal(there.verdict, 'weaker', `${name}: ${there.lines.join('; ')}`)
    const back = verdictOf(of(is), of(was))
    t.not(back.verdict, 'weaker', `the way back of: ${name}: ${back.lines.join('; ')}`)
  }
})

t.test('a route that is declared otherwise is the same route: by other names of parameters, and method by method', async t => {
  const asked = (permissions: string) => ({ controls: { access: { permissions } } })
  const held = (name: string) => ({ ...asked('a'), input: { params: fieldsTaken(object({ [name]: word }, { required: [name] }), {}) } })
  t.same(verdictOf(held('id'), held('postId'), 'GET /posts/:id', 'GET /posts/:postId'), { verdict: 'same', lines: [] })
  t.match(verdictOf(asked('a'), { controls: { access: 'user' } }, 'GET /posts/:id', 'GET /posts/:postId').lines, ['weaker: no longer asks for permission a'])
  t.match(verdictOf(asked('a'), { controls: { access: 'user' } }, 'GET,POST /posts', 'POST /posts').lines, ['weaker: no longer asks for permission a', 'stronger: is gone'])
  t.match(verdictOf(asked('a'), asked('a'), 'GET /posts/:id(^\\d+$)', 'GET /posts/:id').lines, ['weaker: its URL takes other values (GET /posts/:id(^\\d+$) before)'])
  t.match(verdictOf({}, { controls: {} }, 'GET /a', 'GET /b').lines, ['weaker: is new, and does not say who may call it', 'stronger: is gone'])
})
