/** Versions: what is deprecated says so, what is past its sunset is gone for everybody, and who still calls it is known. */
import { Type } from '@sinclair/typebox'
import Fastify, { type FastifyInstance, type RouteOptions } from 'fastify'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions } from '../plugins/index.js'
import type { SecurityEvent } from '../plugins/events.js'
import type { VersionRule } from '../plugins/versions/index.js'
import { parse } from './fixtures/prometheus.js'

const DAY_MS = 86_400_000
const START = Date.parse('2026-03-01T12:00:00Z')
const schema = { response: { 200: Type.Object({ ok: Type.Boolean() }) } }
const READER = { via: 'key' as const, kind: 'key' as const, id: 'k1', userId: 'u1', roles: ['reader'], authTime: 0, credentialId: 'c1' }

interface Service {
  app: FastifyInstance
  ask: (url: string, options?: { method?: string, key?: string, headers?: Record<string, string> }) => Promise<{ status: number, code?: string, detail?: string, headers: Record<string, unknown> }>
  /** How often some handler ran. */
  ran: () => number
  pass: (ms: number) => void
  events: SecurityEvent[]
}

/** Routes by their paths: what each says of its version. Keys in `x-key` are ids of principals. */
async function build (t: Test, routes: Record<string, VersionRule | undefined>, options: BastionOptions = {}, more: Partial<RouteOptions> = {}): Promise<Service> {
  let time = START
  let ran = 0
  const events: SecurityEvent[] = []
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, { access: { roles: { reader: { permissions: ['all:read'] } } }, ...options, versions: { now: () => time, ...options.versions } })
  app.identity.reader({ name: 'key', read: ({ headers }) => headers['x-key'] === undefined ? null : { principal: { ...READER, id: String(headers['x-key']) } } })
  app.events.listen(event => { events.push(event) })
  for (const [url, version] of Object.entries(routes)) {
    app.route({ method: 'GET', url, schema, handler: async () => { ran += 1; return { ok: true } }, ...more, config: { access: 'public', ...more.config, ...version !== undefined && { version } } } as RouteOptions)
  }
  await app.ready()
  return {
    app,
    events,
    ran: () => ran,
    pass: ms => { time += ms },
    async ask (url, { method = 'GET', key, headers = {} } = {}) {
      const answer = await app.inject({ method: method as 'GET', url, headers: { host: 'localhost', ...headers, ...key !== undefined && { 'x-key': key } } })
      const { code, detail } = answer.body === '' ? { code: undefined, detail: undefined } : answer.json()
      return { status: answer.statusCode, code, detail, headers: answer.headers }
    },
  }
}

const V1 = { deprecated: '2026-01-01', sunset: '2026-06-30T22:00:00+02:00', successor: '/v2/users' } as const
const TOLD = { deprecation: '@1767225600', sunset: 'Tue, 30 Jun 2026 20:00:00 GMT', link: '</v2/users>; rel="successor-version"' }

t.test('a deprecated route says since when, until when and what comes after it: Deprecation (RFC 9745), Sunset (RFC 8594), Link (RFC 5829)', async t => {
  const { ask } = await build(t, { '/v1/users': V1, '/v2/users': undefined })
  t.match(await ask('/v1/users'), { status: 200, headers: TOLD })
  t.match(await ask('/v1/users', { method: 'HEAD' }), { status: 200, headers: TOLD }, 'its HEAD too')
  const { headers } = await ask('/v2/users')
  t.same(Object.keys(headers).filter(name => name in TOLD), [], 'others say nothing of it')
})

t.test('also what is refused says it', async t => {
  const { ask, ran } = await build(t, { '/v1/users': V1 }, { transport: { hosts: ['localhost'] } }, { config: { access: { permissions: 'all:read' }, limits: ['2/minute'] } })
  t.match(await ask('/v1/users'), { status: 401, headers: TOLD })
  t.match(await ask('/v1/users', { headers: { host: 'other.example' } }), { status: 421, headers: TOLD })
  await ask('/v1/users')
  t.match(await ask('/v1/users'), { status: 429, headers: TOLD })
  t.equal(ran(), 0)
})

t.test('from its sunset on it answers 410 with its successor, without its handler, for everybody; no restart is needed', async t => {
  const { ask, ran, pass } = await build(t, { '/v1/users': V1 }, {}, { config: { access: { permissions: 'all:read' } } })
  pass(Date.parse(V1.sunset) - START - 1)
  t.equal((await ask('/v1/users', { key: 'k1' })).status, 200)
  pass(1)
  for (const key of ['k1', undefined]) {
    t.match(await ask('/v1/users', { key }), { status: 410, code: 'FST_BASTION_VERSIONS_GONE', detail: 'This is no longer served: use /v2/users', headers: { ...TOLD, 'cache-control': 'no-store' } })
    t.match(await ask('/v1/users', { key, method: 'HEAD' }), { status: 410, headers: TOLD })
  }
  t.equal(ran(), 1)
  pass(-1)
  t.equal((await ask('/v1/users', { key: 'k1' })).status, 200, 'a clock that is set back sets it back')
})

t.test('negative control: a sunset that is only a header, as the RFC alone has it, is served for ever', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get('/v1/users', async (_request, reply) => reply.header('sunset', TOLD.sunset).send({ ok: true }))
  t.equal((await app.inject('/v1/users')).statusCode, 200)
})

t.test('what is gone is counted by the limits, and reads no body', async t => {
  const { ask, ran } = await build(t, { '/v1/users': { removed: true } }, {}, { method: 'POST', config: { limits: ['2/minute'] }, schema: { ...schema, body: Type.Object({ n: Type.Integer() }, { additionalProperties: false }) } })
  const post = () => ask('/v1/users', { method: 'POST', headers: { 'content-type': 'text/xml', 'content-length': '99999999' } })
  t.match([await post(), await post(), await post()].map(({ status }) => status), [410, 410, 429])
  t.equal(ran(), 0)
})

t.test('removed: gone at once; without a successor none is named', async t => {
  const { ask } = await build(t, { '/old': { removed: true }, '/older': { removed: true, deprecated: '2025-01-01', sunset: '2025-06-01', successor: 'https://api.example.com/new?v=2' } })
  const old = await ask('/old')
  t.match(old, { status: 410, detail: 'This is no longer served' })
  t.same(Object.keys(old.headers).filter(name => name in TOLD), [])
  t.match(await ask('/older'), { status: 410, headers: { deprecation: '@1735689600', sunset: 'Sun, 01 Jun 2025 00:00:00 GMT', link: '<https://api.example.com/new?v=2>; rel="successor-version"' } })
})

t.test('a preflight is answered, so that a page of another origin can read the 410 and what it says', async t => {
  const { app, ask } = await build(t, { '/v1/users': { ...V1, sunset: '2026-02-01' } }, { cors: { origins: ['https://app.example.com'] } })
  const preflight = await app.inject({ method: 'OPTIONS', url: '/v1/users', headers: { host: 'localhost', origin: 'https://app.example.com', 'access-control-request-method': 'GET' } })
  t.equal(preflight.statusCode, 204)
  t.match(await ask('/v1/users', { headers: { origin: 'https://app.example.com' } }), {
    status: 410, headers: { 'access-control-allow-origin': 'https://app.example.com', 'access-control-expose-headers': /deprecation, sunset, link/ },
  })
})

t.test('deprecated: a date ahead is announced; true is no later than the start of the process; a Date is a date', async t => {
  const { ask, app } = await build(t, {
    '/ahead': { deprecated: '2026-04-01' }, '/now': { deprecated: true }, '/date': { deprecated: new Date('2026-01-01T00:00:00.999Z') }, '/ended': { deprecated: true, sunset: '2026-02-01' }, '/sunset': { sunset: '2026-05-01' },
  })
  t.equal((await ask('/ahead')).headers.deprecation, `@${Date.parse('2026-04-01') / 1000}`)
  t.equal((await ask('/now')).headers.deprecation, `@${START / 1000}`)
  t.equal((await ask('/date')).headers.deprecation, '@1767225600')
  t.match(await ask('/ended'), { status: 410, headers: { deprecation: `@${Date.parse('2026-02-01') / 1000}` } })
  const sunset = await ask('/sunset')
  t.match(sunset, { status: 200, headers: { sunset: 'Fri, 01 May 2026 00:00:00 GMT' } })
  t.notOk('deprecation' in sunset.headers)
  t.same(app.versions.uses().map(({ route }) => route), ['/now', '/date', '/ended', '/sunset'], 'what is only announced is not counted')
})

t.test('attack: with a parameter that is empty a successor is still of this service', async t => {
  const { ask, pass } = await build(t, { '/v1/:team/:page': { deprecated: true, sunset: '2026-04-01', successor: '/:team/:page' } })
  t.match((await ask('/v1//evil.example')).headers, { link: '</evil.example>; rel="successor-version"' })
  t.match((await ask('/v1/a/evil.example')).headers, { link: '</a/evil.example>; rel="successor-version"' })
  pass(90 * DAY_MS)
  t.match(await ask('/v1//evil.example'), { status: 410, detail: 'This is no longer served: use /evil.example' })
})

t.test('attack: no parameter leads a successor to another place or another scheme [ASVS 1.2.2]', async t => {
  const { ask } = await build(t, { '/v1/:team/:page': { deprecated: true, successor: '/:page/of/:team' } })
  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.get('/v1/:team/:page', async (request, reply) => {
    const { team, page } = request.params as { team: string, page: string }
    return reply.header('link', `<${page}/of/${team}>; rel="successor-version"`).send('old')
  })
  const base = 'https://api.example.com/'
  const targetOf = ({ headers }: { headers: Record<string, unknown> }) => new URL(/^<([^>]*)>/.exec(String(headers.link))![1]!, base)
  for (const page of ['javascript:alert(1)//', 'data:text/html,x', 'https://evil.example', '//evil.example', '\\\\evil.example', '../../admin', 'x?role=admin#', 'https:evil.example']) {
    const url = `/v1/team/${encodeURIComponent(page)}`
    t.equal(targetOf(await ask(url)).href, `https://api.example.com/${encodeURIComponent(page)}/of/team`, page)
    t.not(targetOf(await bare.inject(url)).href, `https://api.example.com/${encodeURIComponent(page)}/of/team`, `negative control: plain Fastify, with the URL that people put together, leads elsewhere by ${page}`)
  }
  for (const answer of [await ask('/v1/team/page'), await bare.inject('/v1/team/page')]) t.equal(targetOf(answer).href, 'https://api.example.com/page/of/team')
  t.equal(targetOf(await bare.inject(`/v1/team/${encodeURIComponent('javascript:alert(1)//')}`)).protocol, 'javascript:')
  t.equal(targetOf(await bare.inject(`/v1/team/${encodeURIComponent('//evil.example')}`)).host, 'evil.example')
  for (const successor of ['javascript:alert(1)', 'data:text/html,x', '//evil.example', 'ftp://files.example']) await t.rejects(build(t, { '/v1': { deprecated: true, successor } }), { code: 'FST_BASTION_PLAN_REFUSED' }, successor)
})

t.test('a successor with parameters is named with those of the request, encoded anew', async t => {
  const { ask, app } = await build(t, { '/v1/users/:userId/:part': { deprecated: true, successor: '/v2/:part/of/:userId' } }, { versions: { deprecationPolicy: 'https://docs.example.com/old' } })
  t.equal((await ask('/v1/users/a%22%3E%2Fb%20%E2%82%AC/x')).headers.link, '</v2/x/of/a%22%3E%2Fb%20%E2%82%AC>; rel="successor-version", <https://docs.example.com/old>; rel="deprecation"; type="text/html"')
  t.match(app.plan.routes.find(({ kind, url }) => kind === 'route' && url !== '*')!.controls.versions, { successor: '/v2/:part/of/:userId' })
  t.match((await ask('/v1/users/%0d%0aset-cookie:%20a=b/x')).headers, { link: /^<\/v2\/x\/of\/%0D%0Aset-cookie%3A%20a%3Db>/, 'set-cookie': undefined })
})

t.test('policies: the pages that tell how it goes are linked', async t => {
  const { ask } = await build(t, { '/v1': { deprecated: true } }, { versions: { deprecationPolicy: '/docs/deprecation', sunsetPolicy: 'https://docs.example.com/sunset' } })
  t.equal((await ask('/v1')).headers.link, '</docs/deprecation>; rel="deprecation"; type="text/html", <https://docs.example.com/sunset>; rel="sunset"; type="text/html"')
})

t.test('links that a handler sets stand beside it, and its own words win for the dates', async t => {
  const { ask } = await build(t, { '/v1/users': V1 }, {}, { handler: async (_request, reply) => { reply.header('link', '</v1/users?page=2>; rel="next"'); return { ok: true } } })
  t.match((await ask('/v1/users')).headers, { ...TOLD, link: `</v1/users?page=2>; rel="next", ${TOLD.link}` })
})

t.test('who uses it is counted by route and caller; who was refused has not used it', async t => {
  const { app, ask, pass } = await build(t, { '/v1/users': V1, '/v2/users': undefined }, { metrics: {} })
  const restricted = await build(t, { '/v1/users': V1 }, {}, { config: { access: { roles: 'reader' } } })
  await restricted.ask('/v1/users')
  t.same(restricted.app.versions.uses(), [])
  for (const key of ['k1', 'k1', 'k2', undefined]) await ask('/v1/users', { key })
  pass(1000)
  await ask('/v1/users', { key: 'k1', method: 'HEAD' })
  await ask('/v2/users', { key: 'k1' })
  const of = { method: 'GET', route: '/v1/users', first: '2026-03-01T12:00:00.000Z', last: '2026-03-01T12:00:00.000Z' }
  t.same(app.versions.uses(), [
    { ...of, caller: 'k1', kind: 'key', uses: 3, last: '2026-03-01T12:00:01.000Z' },
    { ...of, caller: 'k2', kind: 'key', uses: 1 },
    { ...of, caller: null, kind: 'anonymous', uses: 1 },
  ])
  pass(Date.parse(V1.sunset) - START)
  await ask('/v1/users', { key: 'k1' })
  t.equal(app.versions.uses()[0]!.uses, 4, 'who still calls what is gone, too')
  const samples = parse(await app.metrics.text())
  t.same([...samples].filter(([key]) => key.startsWith('bastion_deprecated_requests_total')), [
    ['bastion_deprecated_requests_total{caller=key,method=GET,route=/v1/users,status=deprecated}', 4],
    ['bastion_deprecated_requests_total{caller=anonymous,method=GET,route=/v1/users,status=deprecated}', 1],
    ['bastion_deprecated_requests_total{caller=key,method=GET,route=/v1/users,status=gone}', 1],
  ], 'metrics name nobody')
})

t.test('callers: beyond the bound they are counted together', async t => {
  const { app, ask, events } = await build(t, { '/v1': { deprecated: true } }, { versions: { callers: 2 } })
  for (let i = 0; i < 20; i++) await ask('/v1', { key: `k${i}` })
  t.match(app.versions.uses(), [{ caller: 'k0', uses: 1 }, { caller: 'k1', uses: 1 }, { caller: null, kind: 'others', uses: 18 }])
  t.equal(app.versions.uses().length, 3)
  t.match(events.map(({ details }) => details), [{ times: 1 }, { times: 1 }, { times: 1, shared: true }])
  t.equal(events.length, 3)
})

t.test('a use is an event: the first of a caller, then one in an hour with how many there were', async t => {
  const { ask, events, pass } = await build(t, { '/v1/users': V1 })
  for (let i = 0; i < 5; i++) await ask('/v1/users', { key: 'k1' })
  await ask('/v1/users', { key: 'k2' })
  t.match(events.map(({ type, route, principal, details }) => ({ type, route, principal, times: details.times })), [
    { type: 'deprecated_use', route: '/v1/users', principal: 'k1', times: 1 }, { principal: 'k2', times: 1 },
  ])
  pass(3_600_000)
  await ask('/v1/users', { key: 'k1' })
  t.match(events[2], { principal: 'k1', details: { times: 5, gone: false, sunset: '2026-06-30T20:00:00.000Z', successor: '/v2/users' } })
  t.equal(events.length, 3)
})

t.test('posture lists it as it is when asked, and has a finding for a sunset that is near', async t => {
  const { app, pass } = await build(t, { '/v1/users': V1, '/next': { deprecated: '2027-01-01' } })
  const look = () => {
    const { routes, findings } = app.posture()
    return { versions: routes.find(({ url, kind }) => url === '/v1/users' && kind === 'route')!.controls.versions, findings: findings.filter(({ message }) => message.includes('410')) }
  }
  t.same(look(), { versions: { deprecated: '2026-01-01T00:00:00.000Z', sunset: '2026-06-30T20:00:00.000Z', successor: '/v2/users', status: 'deprecated' }, findings: [] })
  t.match(app.posture().routes.find(({ url }) => url === '/next'), { controls: { versions: { status: 'announced' } } })
  pass(Date.parse(V1.sunset) - START - 30 * DAY_MS)
  t.match(look(), { versions: { status: 'ending' }, findings: [{ severity: 'medium', route: 'GET /v1/users', message: /^answers 410 from 2026-06-30T20:00:00.000Z on/ }] })
  pass(30 * DAY_MS)
  t.match(look(), { versions: { status: 'gone' }, findings: [] })
  const { app: other } = await build(t, { '/soon': { sunset: '2026-03-31' } }, { versions: { nearDays: 10 } })
  t.same(other.posture().findings.filter(({ message }) => message.includes('410')), [])
})

t.test('misconfiguration stops boot, with the name of the route', async t => {
  const wrong = [
    [{ deprecated: '2026-02-01', sunset: '2026-01-31' }, 'sunset: lies before deprecated'],
    [{ deprecated: '2026-02-30' }, 'deprecated: "2026-02-30" is no date'],
    [{ deprecated: '1 May 2026' }, 'is no date'],
    [{ deprecated: '2026-05-01T12:00' }, 'is no date'],
    [{ deprecated: '2026-05-01T25:00Z' }, 'is no date'],
    [{ deprecated: 'yes' }, 'is no date'],
    [{ deprecated: new Date(NaN) }, 'version: deprecated'],
    [{ deprecated: false }, 'version: deprecated'],
    [{ sunset: true }, 'version: sunset'],
    [{ sunset: 1767225600 }, 'version: sunset'],
    [{ sunset: '1969-12-31' }, 'is no date'],
    [{ removed: 'yes' }, 'version: removed'],
    [{ removed: true, sunset: '2026-09-01' }, 'removed: its sunset still lies ahead'],
    [{ deprectated: true }, 'deprectated'],
    [{}, 'says nothing'],
    [{ successor: '/v2' }, 'says nothing'],
    [true, 'version: '],
    [null, 'version: '],
    ...['v2/users', '//evil.example', '/\\evil.example', 'javascript:alert(1)', '/v2>; rel="x"', '/v2 users', '/v2\r\nset-cookie: a=b', 'https://', 'ftp://files.example', ''].map(successor => [{ deprecated: true, successor }, 'is neither a path such as /v2/users nor a URL']),
    [{ deprecated: true, successor: '/v2/users/:id' }, 'this route has no parameter :id'],
  ] as [unknown, string][]
  const refused = await build(t, Object.fromEntries(wrong.map(([version], i) => [`/v1/${i}/:userId`, version as never]))).then(() => null, error => error)
  t.equal(refused?.code, 'FST_BASTION_PLAN_REFUSED')
  for (const [i, [version, message]] of wrong.entries()) {
    const line = refused.message.split('\n').find((line: string) => line.startsWith(`  GET /v1/${i}/:userId: `))
    t.match(line, message, JSON.stringify(version))
  }
  for (const [versions, message] of [
    [{ nearDays: -1 }, 'nearDays'], [{ callers: 0 }, 'callers'], [{ deprecationPolicy: 'docs' }, 'deprecationPolicy'], [{ sunsetPolicy: '/a>b' }, 'sunsetPolicy'], [{ policy: '/x' }, 'policy'],
  ] as const) {
    await t.rejects(build(t, {}, { versions: versions as never }), { code: 'FST_BASTION_VERSIONS_MISCONFIGURED', message }, message)
  }
})
