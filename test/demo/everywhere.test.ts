/** The contract's section "Everywhere": what holds of every route, whatever it does. */
import { runInNewContext } from 'node:vm'
import Fastify from 'fastify'
import t from 'tap'
import type { Posture } from '../../plugins/posture/index.js'
import { build, buildOn, freshDatabase } from './portal.js'
import { tabAt } from './tab.js'

const portal = await build(t)
const { app, call, token, idOf, newcomer } = portal

const routes = app.posture().routes.filter(({ kind, url }) => kind === 'route' && url !== '*')
const pathOf = (url: string) => url.replace(/:\w+/g, 'AAAAAAAAAAAAAAAA')
const bodies = routes.flatMap(({ method, url, controls }) => (controls.validation as { body: string | null } | undefined)?.body === 'closed' ? [{ method, url, ofBrowsers: isForSessions(controls.access) }] : [])
function isForSessions (access: unknown): boolean {
  return String((access as { via?: string[] }).via) === 'session'
}
const isGone = ({ controls }: Posture['routes'][number]) => (controls.versions as { status: string } | undefined)?.status === 'gone'
const isPublic = ({ controls }: Posture['routes'][number]) => controls.access === 'public'

t.test('every route that is not public is 401 without a credential, with a challenge, before the body is read; what is gone is 410', async t => {
  for (const { method, url } of routes.filter(isGone)) t.equal((await call(method, pathOf(url))).status, 410, `${method} ${url}`)
  const guarded = routes.filter(route => !isPublic(route) && !isGone(route))
  t.ok(guarded.length >= 20, `${guarded.length} guarded routes`)
  for (const { method, url } of guarded) {
    const { status, headers, body } = await call(method, pathOf(url), method === 'GET' || method === 'DELETE' ? {} : { raw: '{ not json' })
    t.equal(status, 401, `${method} ${url}`)
    t.equal(body.code, 'FST_BASTION_ACCESS_UNAUTHENTICATED')
    t.match(headers['www-authenticate'], /^Bearer/)
  }
})

t.test('a bad credential is 401 with the reason that RFC 6750 has for it', async t => {
  for (const credential of ['garbage', 'a.b.c', '', ' ', 'x'.repeat(5000), 'eyJhbGciOiJub25lIn0.e30.']) {
    const { status, headers, body } = await call('GET', '/users/me', { headers: { authorization: `Bearer ${credential}` } })
    t.equal(status, 401)
    t.equal(body.code, 'FST_BASTION_TOKENS_INVALID')
    t.match(headers['www-authenticate'], /error="invalid_token"/)
  }
  t.equal((await call('GET', '/users/me', { headers: { authorization: 'Basic YWxpY2U6eA==' } })).status, 401)
})

t.test('what router and parser refuse are problems too', async t => {
  const bearer = await token('alice')
  const post = (more: object) => call('POST', '/posts', { token: bearer, ...more })
  for (const [what, answer, status] of [
    ['unknown path', await call('GET', '/nowhere'), 404],
    ['unknown method of a path', await call('DELETE', '/auth/login'), 404],
    ['path in other letters', await call('GET', '/USERS/me'), 404],
    ['doubled slash', await call('GET', '//users/me'), 404],
    ['trailing slash', await call('GET', '/users/me/'), 404],
    ['encoded slash', await call('GET', '/users%2fme'), 404],
    ['malformed URL', await call('GET', '/users/%ZZ'), 400],
    ['invalid UTF-8 in the path', await call('GET', '/posts/%ED%A0%80'), 400],
    ['NUL in the path', await call('GET', '/posts/a%00'), 400],
    ['over-long parameter', await call('GET', `/posts/${'a'.repeat(300)}`), 414],
    ['over-long id', await call('GET', `/posts/${'a'.repeat(100)}`), 400],
    ['broken JSON', await post({ raw: '{"title":' }), 400],
    ['JSON of another kind', await post({ raw: '[]' }), 400],
    ['no JSON', await post({ raw: 'null' }), 400],
    ['no body', await post({}), 400],
    ['empty body', await post({ raw: '' }), 400],
    ['text', await post({ raw: 'title=x', type: 'text/plain' }), 415],
    ['a form', await post({ raw: 'title=x', type: 'application/x-www-form-urlencoded' }), 415],
    ['XML', await post({ raw: '<post/>', type: 'application/xml' }), 415],
    ['a media type that only looks like JSON', await post({ raw: '{}', type: 'application/jsonx' }), 415],
    ['a large body', await post({ body: { title: 'x', content: 'x'.repeat(300_000) } }), 413],
    ['deep nesting', await post({ raw: '['.repeat(100_000) }), 400],
    ['a strange host', await call('GET', '/health', { headers: { host: 'evil.example' } }), 421],
    ['a host that is none', await call('GET', '/health', { headers: { host: 'evil example' } }), 400],
    ['a forwarded host is not believed', await call('GET', '/health', { headers: { host: 'evil.example', 'x-forwarded-host': 'localhost:3000' } }), 421],
  ] as const) t.equal(answer.status, status, what)
})

t.test('the media type of JSON may be written in any way that means it', async t => {
  for (const type of ['application/json', 'application/json; charset=utf-8', 'Application/JSON', 'application/json;charset=UTF-8']) {
    t.equal((await call('POST', '/auth/login', { raw: '{"username":"nobody","password":"x"}', type })).status, 401, type)
  }
  // GHSA-mg2h-6x62-wpwc and its kin: what is not taken for JSON must not be taken without validation.
  for (const type of ['application/json\t', ' application/json', 'application/json ; charset=utf-8', 'application/json;foo']) {
    const { status } = await call('POST', '/auth/login', { raw: '{"username":"nobody","password":"x","role":"admin"}', type })
    t.ok(status === 400 || status === 415, `${JSON.stringify(type)}: ${status}`)
  }
})

/** Take forms or reports, and no JSON; what is for keys alone is refused before. */
const FORMS: Readonly<Record<string, number>> = { '/token': 415, '/revoke': 415, '/introspect': 403, '/upload/image': 415, '/upload/document': 415, '/reports/csp': 415 }

t.test('bodies are closed: an unknown field is refused on every route that takes one', async t => {
  const admin = await newcomer('admin')
  t.ok(bodies.length >= 10, `${bodies.length} routes with a body`)
  const tab = tabAt(portal)
  await tab.signIn(admin.username, 'Newcomer-pass-1')
  for (const { method, url, ofBrowsers } of bodies) {
    const ask = (raw: string) => ofBrowsers ? tab.ask(method, path, { raw }) : call(method, path, { token: admin.token, raw })
    const path = pathOf(url).replace('AAAAAAAAAAAAAAAA', await resourceFor(url, admin.id))
    for (const raw of [
      '{"isAdmin":true}', '{"role_":"admin"}', '{"__proto__":{"role":"admin"}}', '{"constructor":{"prototype":{"isAdmin":true}}}', '{"\\u0000":1}', '{"toString":"x"}', '[{}]', '"text"', '7', 'true',
    ]) t.equal((await ask(raw)).status, FORMS[url] ?? 400, `${method} ${url} ${raw}`)
  }
  t.notOk(({} as Record<string, unknown>).isAdmin)
})

async function resourceFor (url: string, userId: string): Promise<string> {
  if (url.startsWith('/users')) return userId
  if (url.startsWith('/posts')) return (await portal.sql.query<{ id: string }>('select id from posts limit 1'))[0]!.id
  if (!url.startsWith('/documents')) return 'AAAAAAAAAAAAAAAA'
  const id = `document${(await portal.sql.query('select id from documents')).length}`
  await portal.sql.query('insert into documents (id, owner_id, title, content) values ($1, $2, $3, $4)', [id, userId, 'Own', ''])
  return id
}

t.test('nothing is coerced or dropped in silence', async t => {
  const { token: bearer } = await newcomer()
  const register = (more: object) => call('POST', '/auth/register', { body: { username: 'never_made', email: 'never@people.example', password: 'Newcomer-pass-1', ...more } })
  for (const more of [
    { age: '42' }, { age: 42.5 }, { age: null }, { age: 12 }, { username: 12345 }, { username: ['never_made'] }, { username: { $gt: '' } }, { password: true }, { email: null }, { bio: 7 }, { phone: 491701234567 },
  ]) t.equal((await register(more)).status, 400, JSON.stringify(more))
  for (const body of [{ username: ['alice'], password: 'x' }, { username: 'alice', password: 1 }, { username: { ne: null }, password: { ne: null } }, { username: 'alice' }, { password: 'x' }, {}]) {
    t.equal((await call('POST', '/auth/login', { body })).status, 400, JSON.stringify(body))
  }
  t.equal((await call('POST', '/posts', { token: bearer, body: { title: 7, content: 'Long enough content' } })).status, 400)
  t.equal((await call('POST', '/posts', { token: bearer, body: { title: 'x', content: 'Long enough content', tags: 'one' } })).status, 400)
  t.equal((await portal.sql.query("select 1 from users where username = 'never_made'")).length, 0)
})

t.test('a refused value is never echoed', async t => {
  const MARK = 'zqxwvMARKzqxwv'
  const { token: bearer } = await newcomer('admin')
  for (const answer of [
    await call('POST', '/auth/register', { body: { username: MARK + '!', email: MARK, password: MARK, age: MARK, website: `javascript:${MARK}` } }),
    await call('POST', '/auth/login', { body: { username: MARK, password: MARK } }),
    await call('POST', '/auth/login', { raw: `{"password":"${MARK}", ` }),
    await call('POST', '/auth/refresh', { body: { refresh_token: MARK } }),
    await call('PATCH', '/users/me', { token: bearer, body: { phone: MARK } }),
    await call('GET', `/users?username=${MARK.repeat(9)}`, { token: bearer }),
    await call('GET', `/posts?limit=${MARK}`),
    await call('GET', `/posts/${MARK}%00`),
    await call('GET', `/${MARK}`),
    await call('GET', `/%ZZ${MARK}`),
    await call('GET', '/users/me', { token: MARK }),
  ]) {
    t.ok(answer.status >= 400)
    t.notMatch(answer.text, MARK)
  }
})

t.test('a validation problem names the place and what is wrong', async t => {
  const { body } = await call('POST', '/auth/register', { body: { username: 'fine_name', email: 'fine@people.example', password: 'Newcomer-pass-1', age: 'x' } })
  t.match(body, { code: 'FST_BASTION_VALIDATION_REFUSED', errors: [{ path: '/age', message: /integer/ }] })
  t.match((await call('POST', '/auth/login', { body: { username: 'x', password: 'y', admin: true } })).body.errors, [{ path: '/admin' }])
})

t.test('text that PostgreSQL cannot hold is refused on every route that takes text', async t => {
  const admin = await newcomer('admin')
  for (const bad of ['\\u0000', 'x\\u0000y', '\\ud800', '\\udc00x', '\\ude00\\ud83d']) {
    const text = `Quite long text ${bad}`
    for (const [method, url, raw] of [
      ['POST', '/auth/login', `{"username":"${bad}","password":"x"}`],
      ['POST', '/auth/login', `{"username":"alice","password":"${bad}"}`],
      ['POST', '/auth/register', `{"username":"never_made","email":"never@people.example","password":"Newcomer-pass-1","bio":"${text}"}`],
      ['POST', '/posts', `{"title":"${text}","content":"Long enough content"}`],
      ['POST', '/posts', `{"title":"Title","content":"${text}"}`],
      ['PATCH', '/users/me', `{"bio":"${text}"}`],
      ['POST', '/auth/password', `{"currentPassword":"${text}","newPassword":"${text}"}`],
      ['POST', '/auth/refresh', `{"refresh_token":"${bad}"}`],
    ] as const) t.equal((await call(method, url, { token: admin.token, raw })).status, 400, `${method} ${url} ${bad}`)
  }
  t.equal((await call('GET', '/users?username=%00', { token: admin.token })).status, 400)
  t.equal((await call('GET', '/users?cursor=%00', { token: admin.token })).status, 400)
  // What only looks like it, and what is whole, is text like any other.
  t.equal((await call('PATCH', '/users/me', { token: admin.token, raw: '{"bio":"\\\\u0000 and \\ud83d\\ude00 and é漢"}' })).body.bio, '\\u0000 and 😀 and é漢')
})

t.test('HEAD answers as GET does, without a body', async t => {
  const bearer = await token('alice')
  for (const url of ['/health', '/posts', '/', '/users/me', '/nowhere', `/users/${await idOf('bob')}`, '/posture']) {
    const [get, head] = [await call('GET', url, { token: bearer }), await call('HEAD', url, { token: bearer })]
    t.equal(head.status, get.status, url)
    t.equal(head.headers['content-type'], get.headers['content-type'])
  }
  t.equal((await call('HEAD', '/users/me')).status, 401)
})

t.test('what was authenticated or carries a token is never stored', async t => {
  const { access_token: bearer, refresh_token: refresh } = await portal.signIn('alice')
  for (const answer of [
    await call('POST', '/auth/login', { body: { username: 'alice', password: 'Seeded-pass-1' } }),
    await call('POST', '/auth/refresh', { body: { refresh_token: refresh } }),
    await call('GET', '/users/me', { token: bearer }),
    await call('GET', '/posts', { token: bearer }),
  ]) {
    t.equal(answer.status, 200)
    t.equal(answer.headers['cache-control'], 'no-store')
  }
})

t.test('ids are opaque', async t => {
  const bearer = await token('admin')
  const { body } = await call('GET', '/users?limit=100', { token: bearer })
  for (const { id } of body.items) t.match(id, /^[\w-]{16}$/)
  t.equal(new Set(body.items.map(({ id }: { id: string }) => id)).size, body.items.length)
  for (const id of ['1', '-1', '0', 'admin', '00000000-0000-0000-0000-000000000000', 'constructor', '__proto__']) {
    t.equal((await call('GET', `/users/${id}`, { token: bearer })).status, 404, id)
  }
})

t.test('lists are { items, nextCursor }; junk in limit and cursor is refused', async t => {
  const bearer = await token('admin')
  for (const url of ['/posts', '/users', `/users/${await idOf('alice')}/orders`]) {
    t.strictSame(Object.keys((await call('GET', url, { token: bearer })).body), ['items', 'nextCursor'], url)
    for (const query of [
      'limit=0', 'limit=-1', 'limit=101', 'limit=1e9', 'limit=1.5', 'limit=x', 'limit=', 'limit=1&limit=2', 'limit[]=1', 'limit=NaN', 'limit=Infinity', 'limit=9007199254740993',
      'cursor=', "cursor=' or 1=1--", 'cursor=%00', 'cursor=a;drop%20table%20users', `cursor=${'a'.repeat(513)}`, 'cursor=a&cursor=b', 'cursor[$ne]=x', 'unknown=1', '__proto__[x]=1',
    ]) t.equal((await call('GET', `${url}?${encodeURI(query)}`, { token: bearer })).status, 400, `${url}?${query}`)
  }
})

t.test('pages hold everything once, in order, to the end', async t => {
  const { token: bearer } = await newcomer()
  await Promise.all(Array.from({ length: 30 }, (_none, i) => call('POST', '/posts', { token: bearer, body: { title: `Burst ${i}`, content: 'Posts of the same moment' } })))
  const all = (await call('GET', '/posts?limit=100')).body.items.map(({ id }: { id: string }) => id)
  const seen: string[] = []
  for (let cursor: string | null = null, page = 0; page === 0 || cursor !== null; page++) {
    const { body } = await call('GET', `/posts?limit=7${cursor === null ? '' : `&cursor=${cursor}`}`)
    seen.push(...body.items.map(({ id }: { id: string }) => id))
    cursor = body.nextCursor
  }
  t.strictSame(seen, all)
})

t.test('an anonymous address has 300 requests a minute, whatever it asks for; random paths count and carry headers', async t => {
  const statuses: number[] = []
  for (let i = 0; i < 310; i++) {
    const { status, headers } = await call(i % 2 === 0 ? 'GET' : 'HEAD', `/random/${i}`, { address: '192.0.2.1' })
    statuses.push(status)
    t.match(headers['x-ratelimit-limit'], '300')
    t.match(headers.ratelimit, /^"300\/minute";r=\d+;t=\d+$/)
  }
  t.equal(statuses.filter(status => status === 404).length, 300)
  t.equal(statuses.filter(status => status === 429).length, 10)
  t.equal((await call('GET', '/posts', { address: '192.0.2.1' })).status, 429, 'also where there is a route')
  t.equal((await call('GET', '/%ZZ', { address: '192.0.2.1' })).status, 429, 'also for what no route sees')
  t.equal((await call('GET', '/health', { address: '192.0.2.1' })).status, 200, 'health is exempt')
  t.equal((await call('GET', '/health/ready', { address: '192.0.2.1' })).status, 200)
  t.equal((await call('GET', '/posts', { address: '192.0.2.2' })).status, 200, 'the neighbour is not touched')
  t.equal((await call('GET', '/users/me', { address: '192.0.2.1', token: await token('alice') })).status, 200, 'nor who signed in')
  portal.pass(120_000)
  t.equal((await call('GET', '/posts', { address: '192.0.2.1' })).status, 200)
})

t.test('a principal has 1000 requests a minute, from wherever they come', async t => {
  const { token: bearer } = await newcomer()
  const statuses = []
  for (let i = 0; i < 1001; i++) statuses.push((await call('GET', '/users/me', { token: bearer })).status)
  t.equal(statuses.filter(status => status === 200).length, 1000)
  t.equal(statuses.at(-1), 429)
})

t.test('a preflight from a known origin is answered, from a strange one it allows nothing', async t => {
  const preflight = (origin: string) => call('OPTIONS', '/users/me', { headers: { origin, 'access-control-request-method': 'GET', 'access-control-request-headers': 'authorization' } })
  const known = await preflight('http://localhost:5173')
  t.equal(known.status, 204)
  t.equal(known.headers['access-control-allow-origin'], 'http://localhost:5173')
  for (const origin of ['https://evil.example', 'null', 'http://localhost:5173.evil.example', 'http://localhost:51730']) t.equal((await preflight(origin)).headers['access-control-allow-origin'], undefined, origin)
  const answer = await call('GET', '/posts', { headers: { origin: 'https://evil.example' } })
  t.equal(answer.headers['access-control-allow-origin'], undefined)
})

t.test('what fails inside shows nothing of it: 500 for a fault, 503 with Retry-After for a database that is away', async t => {
  const sql = await freshDatabase(t)
  let fault: (Error & { code?: string }) | null = null
  const failing = await buildOn(t, {
    ...sql,
    query: (...args) => { if (fault !== null) throw fault; return sql.query(...args) as never },
  })
  const bearer = await failing.token('alice')
  fault = Object.assign(new Error('relation "users" at postgres://portal:hunter2@db.internal/portal'), { code: 'XX000' })
  const requests = [['GET', '/posts', {}], ['GET', '/users/me', { token: bearer }], ['POST', '/auth/login', { body: { username: 'alice', password: 'x' } }]] as const
  for (const [method, url, more] of requests) {
    const answer = await failing.app.inject({
      method, url, headers: { host: 'localhost:3000', ...('token' in more && { authorization: `Bearer ${more.token}` }) }, ...('body' in more && { payload: more.body }),
    })
    t.equal(answer.statusCode, 500, url)
    t.match(answer.headers['content-type'], /^application\/problem\+json/)
    t.notMatch(answer.body, /hunter2|db\.internal|users"|XX000/)
    t.equal(answer.json().code, 'FST_BASTION_HTTP_500')
  }
  t.notMatch(failing.log.join(''), 'hunter2', 'nor does the log show the password of the database')
  t.match(failing.log.join(''), 'relation', 'though the log says what it was')
})

t.test('the log has one line a request, with its id, and nothing secret in it', async t => {
  const before = portal.log.length
  const { token: bearer } = await newcomer()
  const { body } = await call('GET', `/nowhere?access_token=${bearer}`, { token: bearer })
  await new Promise(setImmediate) // the line is written once the answer has left
  const lines = portal.log.slice(before).map(line => JSON.parse(line))
  t.equal(lines.filter(line => line.msg === 'request' && line.requestId === body.requestId).length, 1)
  t.match(lines.find(line => line.requestId === body.requestId && line.msg === 'request'), { method: 'GET', path: '/nowhere', status: 404 })
  const all = portal.log.join('')
  for (const secret of [bearer, bearer.split('.')[2]!, 'Newcomer-pass-1', 'Seeded-pass-1', '$argon2']) t.notOk(all.includes(secret), secret.slice(0, 12))
})

/** What of a schema has no bound: a text without a length or a list of values, a number without a range, a list or an object without an end. */
function unbounded (schema: any, path: string): string[] {
  if (schema === undefined || schema === null || schema.const !== undefined || schema.enum !== undefined || schema.type === 'boolean' || schema.type === 'null') return []
  const branches = [...schema.anyOf ?? [], ...schema.oneOf ?? [], ...schema.allOf ?? []]
  if (branches.length > 0) return branches.flatMap(part => unbounded(part, path))
  if (schema.type === 'string') return schema.maxLength === undefined && schema.pattern === undefined && schema.contentMediaType === undefined ? [path] : []
  if (schema.type === 'integer' || schema.type === 'number') return schema.minimum === undefined || schema.maximum === undefined ? [path] : []
  if (schema.type === 'array') return [...schema.maxItems === undefined ? [path] : [], ...unbounded(schema.items, `${path}/*`)]
  if (![schema.type].flat().includes('object')) return [path]
  const { additionalProperties: others, properties = {}, patternProperties = {} } = schema
  const fields = [...Object.entries(properties), ...Object.entries(patternProperties)].flatMap(([name, part]) => unbounded(part, `${path}/${name}`))
  return [...fields, ...others === false ? [] : schema.maxProperties === undefined || others === undefined || others === true ? [path] : unbounded(others, `${path}/*`)]
}

function inputsOf (url: string, { schema = {}, handler }: { schema?: any, handler: unknown }): string[] {
  const query = schema.querystring ?? schema.query
  const contents = schema.body?.content === undefined ? [schema.body] : Object.values<any>(schema.body.content).map(content => content.schema)
  const unnamed = [...url.matchAll(/:(\w+)|\*/g)].filter(([, name = '*']) => schema.params?.properties?.[name] === undefined)
  return [
    ...contents.flatMap(body => unbounded(body, 'body')), ...unbounded(schema.params, 'params'), ...unbounded(query, 'query'), ...unnamed.map(([name]) => `params/${name}`),
    ...query === undefined && /\brequest\.query\b/.test(String(handler)) ? ['query'] : [], ...schema.body === undefined && /\brequest\.body\b/.test(String(handler)) ? ['body'] : [],
  ]
}

t.test('all that is sent is held to values, patterns, lengths and ranges: on every route, or it is a 400 [ASVS 2.2.1]', async t => {
  const declared = app.plan.routes.filter(({ kind, url }) => kind === 'route' && url !== '*')
  t.ok(declared.length >= 60, `${declared.length} routes`)
  t.strictSame(declared.flatMap(({ method, url, options }) => inputsOf(url, options as never).map(path => `${method} ${url}: ${path}`)), [])

  const { token: bearer } = await newcomer()
  const good = { title: 'A post', content: 'Long enough content' }
  const posts: object[] = [{ ...good, title: '' }, { ...good, title: 'x'.repeat(201) }, { ...good, content: 'short' }, { ...good, content: 'x'.repeat(10_001) }, { ...good, tags: ['no tag'] }, { ...good, tags: Array(11).fill('a') }, { ...good, title: 7 }, { ...good, title: 'a\u0000' }, { ...good, authorId: 'AAAAAAAAAAAAAAAA' }]
  const queries = ['limit=0', 'limit=101', 'limit=1e3', 'limit=many', "cursor='", `cursor=${'a'.repeat(600)}`, 'order=drop']
  for (const body of posts) t.equal((await call('POST', '/posts', { token: bearer, body })).status, 400, JSON.stringify(body).slice(0, 60))
  for (const query of queries) t.equal((await call('GET', `/posts?${query}`)).status, 400, query)

  const seen: unknown[] = []
  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.post('/posts', async request => { seen.push(request.body); return 'kept' })
  bare.get('/posts', async request => { seen.push(request.query); return 'listed' })
  for (const payload of posts) await bare.inject({ method: 'POST', url: '/posts', payload })
  t.strictSame(seen, posts, 'negative control: plain Fastify hands all of it to the handler')
  for (const query of queries) t.equal((await bare.inject(`/posts?${query}`)).statusCode, 200, `negative control: plain Fastify takes ${query}`)
  t.strictSame(inputsOf('/posts/:id', { handler: (request: { query: unknown }) => request.query }), ['params/:id', 'query'])
})

t.test('attack: no answer is a program that calls what a page of another site names: JSONP is nowhere [ASVS 3.5.6]', async t => {
  const { token: bearer } = await newcomer('admin')
  const isCall = ({ headers, text }: { headers: Record<string, unknown>, text: string }) => /script/.test(String(headers['content-type'])) || /^[^\w]*stolen\W/.test(text)
  const NAMES = ['callback', 'jsonp', 'cb', 'jsonpcallback', '_callback']
  const all = NAMES.map(name => `${name}=stolen`).join('&')
  // What is a stream has no end, and the program of the pages is the same for everybody.
  const reads = routes.filter(({ method, url }) => method === 'GET' && !url.endsWith('/stream') && !url.startsWith('/web/'))
  t.ok(reads.length >= 30, `${reads.length} routes`)
  let answered = 0
  for (const { url } of reads) {
    const path = pathOf(url).replace('*', 'nothing')
    for (const query of [all, 'callback=stolen']) {
      const answer = await call('GET', `${path}?${query}`, isPublic(routes.find(route => route.url === url)!) ? {} : { token: bearer })
      if (answer.status === 200) answered++
      if (isCall(answer)) t.fail(`GET ${path}?${query}: ${answer.text.slice(0, 80)}`)
    }
  }
  t.ok(answered >= 10, `${answered} of them did what they are for`)
  const jsonp = Fastify()
  t.teardown(() => jsonp.close())
  jsonp.get('/users/me', async (request, reply) => reply.type('text/javascript').send(`${(request.query as { callback: string }).callback}(${JSON.stringify({ email: 'ada@people.example' })})`))
  const { headers, body } = await jsonp.inject('/users/me?callback=stolen')
  let stolen: unknown
  runInNewContext(body, { stolen: (data: unknown) => { stolen = data } })
  t.same([isCall({ headers, text: body }), stolen], [true, { email: 'ada@people.example' }], 'negative control: plain Fastify, with JSONP as it was written, gives it to the page of another site')
})
