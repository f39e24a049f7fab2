/** The attack kit on services that do not run the suite, by a policy file, over inject and over a socket; and on those that use only some of it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Type } from '@sinclair/typebox'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import headers from '../../plugins/headers/index.js'
import errors from '../../plugins/errors.js'
import events from '../../plugins/events.js'
import plan from '../../plugins/plan/index.js'
import { server } from '../../plugins/server.js'
import { asJson, asSarif, asTap, asText, attack, type AttackOptions, type FindingId, type Policy } from '../../plugins/testing/index.js'
import { OVERLOOKED } from './overlooking.js'
import { HIDDEN, HONEST } from './reading.js'
import { REFUSING, refusing, type Refusing } from './refusing.js'
import { FLAWS, PLANTED, plainService, policy, subOf, tokenOf, type Flaw } from './plain.js'
import { TAKING_FLAWS, takingPolicy, takingService, type TakingFlaw } from './taking.js'
import { trusting, TRUSTING_FLAWS, trustingService, type TrustingFlaw } from './trusting.js'

t.setTimeout(600_000)

const options: AttackOptions = {
  policy,
  canaries: [PLANTED],
  principals: { ada: { token: tokenOf('ada', ['user']) }, bob: { token: tokenOf('bob', ['user']) }, root: { token: tokenOf('root', ['admin']) } },
  objects: { orderId: { ada: 'o-1', bob: 'o-2' } },
}

const FOUND: Readonly<Record<Flaw, FindingId>> = {
  object: 'authorization.object',
  open: 'authorization.open',
  role: 'authorization.role',
  assignment: 'assignment.undeclared',
  exposure: 'exposure.undeclared',
  headers: 'answers.headers',
  limits: 'limits.exceeded',
  leak: 'leaks.internal',
  signature: 'credentials.forged',
  path: 'mutations.path',
  head: 'authorization.head',
  'media-type': 'mutations.media-type',
  override: 'authorization.method',
  decoded: 'credentials.forged',
  traversal: 'exposure.canary',
  checks: 'mutations.media-type',
}

t.test('a plain service that does what its policy says has no finding, by inject and over a socket', async t => {
  for (const over of ['inject', 'socket'] as const) {
    const app = plainService()
    t.teardown(() => app.close())
    const report = await attack(app, { ...options, over })
    t.strictSame(report.findings, [], asText(report))
    t.ok(report.checks.some(({ id, state, reason }) => id === 'leaks.canary' && state === 'not applicable' && reason !== ''), 'what is absent is said to be absent, and not to hold')
  }
})

t.test('each flaw is found by its right name, and with it none that is not there', async t => {
  for (const flaw of FLAWS) {
    const app = plainService(flaw)
    t.teardown(() => app.close())
    const { findings } = await attack(app, options)
    const ids = [...new Set(findings.map(({ id }) => id))]
    t.ok(ids.includes(FOUND[flaw]), `${flaw}: ${ids.join(', ')}`)
    const kin: Partial<Record<Flaw, FindingId[]>> = { open: ['answers.cache'], assignment: ['input.type', 'input.bounds', 'input.missing', 'mutations.malformed', 'mutations.media-type', 'exposure.undeclared', 'assignment.prototype', 'leaks.failure'], leak: ['leaks.failure'], signature: ['credentials.algorithm', 'credentials.garbage'], 'media-type': ['exposure.undeclared'], headers: ['answers.cache'], path: ['authorization.head', 'authorization.method'], decoded: ['credentials.algorithm', 'credentials.garbage'], checks: ['input.type', 'mutations.malformed', 'exposure.undeclared', 'assignment.prototype', 'leaks.failure'] }
    t.strictSame(ids.filter(id => id !== FOUND[flaw] && !(kin[flaw] ?? []).includes(id)), [], flaw)
  }
})

/** By flaw: what is found, and where. */
const TAKEN: Readonly<Record<TakingFlaw, readonly [id: FindingId, route: string]>> = {
  password: ['input.password', 'POST /accounts'],
  'own name': ['input.password', 'POST /accounts'],
  markup: ['input.markup', 'POST /articles'],
  'markup shown': ['input.markup', 'GET /articles/:articleId'],
  content: ['uploads.content', 'POST /pictures'],
  name: ['uploads.name', 'POST /pictures'],
  size: ['uploads.size', 'POST /pictures'],
  pattern: ['slowness.pattern', 'POST /tags'],
  trimming: ['slowness.pattern', 'POST /tags'],
  url: ['outbound.reached', 'POST /previews'],
  'url later': ['outbound.reached', 'PUT /hook'],
  lengths: ['framing.lengths', 'POST /accounts'],
}
const taking: AttackOptions = {
  policy: takingPolicy,
  families: ['input', 'uploads', 'outbound', 'slowness', 'framing'],
  values: { name: 'ada-of-the-tests', password: 'the right password', tag: 'news', note: 'words' },
  // Other findings of this family are of schemas, which are checked here where they matter alone.
  routes: Object.fromEntries(Object.keys(takingPolicy.routes).map(name => [name, { skip: Object.fromEntries((['type', 'bounds', 'missing', 'injection', 'query'] as const).map(id => [`input.${id}`, 'not the matter of this test'])) }])),
}

t.test('passwords, HTML, files, patterns, URLs and lengths: each flaw of theirs is found by its name, and none without it', async t => {
  for (const flaw of [undefined, ...TAKING_FLAWS]) {
    const app = takingService(flaw)
    t.teardown(() => app.close())
    const report = await attack(app, taking)
    const found = [...new Set(report.findings.map(({ id, route }) => `${id} ${route}`))]
    t.strictSame(found, flaw === undefined ? [] : [TAKEN[flaw].join(' ')], flaw ?? asText(report))
    t.strictSame(report.unproven, [])
    for (const id of new Set(Object.values(TAKEN).map(([id]) => id))) t.not(report.checks.find(check => check.id === id)!.tried, 0, id)
    t.notOk(app.server.listening, 'what listened for the attack listens no more')
  }
})

/** By flaw: what is found, where, and what it says. */
const TRUSTED: Readonly<Record<TrustingFlaw, readonly [id: FindingId, route: string, says: string]>> = {
  'own key': ['credentials.algorithm', 'GET /me', 'it brings its own key'],
  'key by its address': ['credentials.algorithm', 'GET /me', 'it names where its key is'],
  'public key as secret': ['credentials.algorithm', 'GET /me', 'the public key is the secret'],
  'two credentials': ['credentials.several', 'GET /me', 'the answer of one credential'],
  host: ['mutations.host', 'GET /', 'the host is not one of this service'],
  csrf: ['credentials.csrf', 'POST /profile', 'no token'],
  'other sites': ['credentials.csrf', 'POST /profile', 'it comes from another'],
  names: ['limits.exceeded', 'POST /sign-in', 'each about another name'],
}

t.test('keys that a token brings, two credentials, hosts, pages of other sites, and one password on many names: each flaw is found by its name, and none without it', async t => {
  for (const flaw of [undefined, ...TRUSTING_FLAWS]) {
    const app = trustingService(flaw)
    t.teardown(() => app.close())
    const report = await attack(app, trusting)
    const [id, route, says] = flaw === undefined ? [] : TRUSTED[flaw]
    t.strictSame([...new Set(report.findings.map(one => `${one.id} ${one.route}`))], flaw === undefined ? [] : [`${id} ${route}`], flaw ?? asText(report))
    t.equal(report.findings.some(({ expected }) => expected.includes(says ?? '')), flaw !== undefined, `${says}`)
    for (const [id] of Object.values(TRUSTED)) t.not(report.checks.find(check => check.id === id)!.tried, 0, id)
  }
})

t.test('over a URL what only this process sees is not applicable, and requests of raw bytes are sent there', async t => {
  const app = takingService('lengths')
  t.teardown(() => app.close())
  const { findings, checks } = await attack(await app.listen({ host: '127.0.0.1', port: 0 }), { ...taking, families: ['slowness', 'framing', 'outbound'] })
  t.strictSame([...new Set(findings.map(({ id }) => id))], ['framing.lengths'])
  t.match(findings[0]!.reproduce, /^curl telnet:\/\/127\.0\.0\.1:\d+ < <\(printf .*POST \/accounts HTTP\/1\.1/)
  t.match(checks.find(({ id }) => id === 'slowness.pattern'), { state: 'not applicable', reason: /another process/ })
})

t.test('a refusal for something else proves nothing: it is unproven with its reason, and neither held nor a finding', async t => {
  for (const one of REFUSING) await judge(t, one)
})

t.test('what is honest in an unusual way is no finding', async t => {
  for (const one of HONEST) await judge(t, one)
})

t.test('what is hidden in an unusual place is found there, and unproven where it cannot be seen', async t => {
  for (const one of HIDDEN) await judge(t, one)
})

async function judge (t: Test, one: Refusing): Promise<void> {
  const { app, options } = refusing(one)
  t.teardown(() => app.close())
  const { findings, checks, unproven, aborted } = await attack(app, options)
  t.equal(aborted, undefined)
  t.strictSame([...new Set(findings.map(({ id }) => id))].sort(), [...one.finds ?? []].sort(), one.what)
  for (const route of one.on ?? []) t.strictSame(new Set(findings.filter(finding => finding.route === route).map(({ id }) => id)), new Set(one.finds), `${one.what}: ${route}`)
  const states = Object.fromEntries(checks.map(({ id, state }) => [id, state]))
  t.match(states, { ...Object.fromEntries([...one.unproven ?? []].map(id => [id, 'unproven'])), ...Object.fromEntries([...one.holds ?? []].map(id => [id, 'held'])) }, one.what)
  if (one.reason !== undefined) t.ok(unproven.some(({ reason }) => one.reason!.test(reason)), `${one.what}: ${unproven.map(({ reason }) => reason).join()}`)
  for (const id of one.unproven ?? []) t.ok(unproven.some(({ what, reason }) => what === id && (one.reason ?? /./).test(reason)), `${one.what}: ${id}`)
}

t.test('what is easily overlooked is found by its name, and nothing where it is as it should be', async t => {
  for (const { what, finds, serve, ...one } of OVERLOOKED) {
    for (const isFlawed of [false, true]) {
      const { app, options } = refusing({ ...one, what, serve: app => { serve(app, isFlawed) } })
      t.teardown(() => app.close())
      const { findings, checks } = await attack(app, options)
      t.strictSame([...new Set(findings.map(({ id }) => id))], isFlawed ? [finds] : [], `${what}, ${isFlawed ? 'flawed' : 'honest'}`)
      t.equal(checks.find(({ id }) => id === finds)!.state, isFlawed ? 'broken' : 'held', what)
    }
  }
})

t.test('what is unproven stands in every report; a service that goes away ends the run and not the report', async t => {
  const { app, options } = refusing(REFUSING[0]!)
  t.teardown(() => app.close())
  const report = await attack(app, options)
  t.match(report.checks.find(({ id }) => id === 'authorization.open'), { state: 'unproven', unproven: 1, reason: /the same request has not succeeded/ })
  t.match(asTap(report), /\nok \d+ - authorization\.open on GET \/orders\/:id # SKIP unproven: the same request/)
  t.match(asText(report), /Not proven:\n(?:.*\n)* {2}GET \/orders\/:id: the same request has not succeeded .*authorization\.open/)
  t.match(JSON.parse(asSarif(report)), { runs: [{ invocations: [{ executionSuccessful: true, toolExecutionNotifications: [{ level: 'warning', message: { text: /is not proven on GET \/orders\/:id/ } }] }] }] })

  const gone = Fastify({ logger: false })
  const url = await gone.listen({ host: '127.0.0.1', port: 0 })
  await gone.close()
  const ended = await attack(url, { policy: { routes: { 'GET /a': 'user', 'GET /b': 'public' } } })
  t.match(ended, { findings: [], aborted: /cannot be reached/ })
  t.strictSame(ended.checks.filter(({ state }) => state !== 'unproven'), [])
  t.match(asText(ended), /Ended before its time: /)
  t.match(asTap(ended), /\nBail out! /)
  t.match(JSON.parse(asSarif(ended)), { runs: [{ invocations: [{ executionSuccessful: false }] }] })
})

t.test('what a service promises nothing about is not said to hold: a 401 without a challenge', async t => {
  const { app, options } = refusing(REFUSING[0]!)
  t.teardown(() => app.close())
  const { checks } = await attack(app, { ...options, families: ['answers'] })
  t.equal(checks.find(({ id }) => id === 'answers.challenge')!.state, 'not applicable')
})

t.test('routes that the policy does not know are told of; what is switched off is told with its reason', async t => {
  const app = plainService('open')
  t.teardown(() => app.close())
  const { 'GET /items/:itemId': _unlisted, ...routes } = policy.routes
  const report = await attack(app, { ...options, policy: { ...policy, routes }, families: ['authorization'], routes: { 'GET /reports': { skip: { authorization: 'moves behind the gateway in May' } } } })
  t.strictSame(report.findings.map(({ id, route }) => `${id} ${route}`), ['authorization.unlisted GET /items/:itemId'])
  t.strictSame(report.skipped, [{ route: 'GET /reports', what: 'authorization', reason: 'moves behind the gateway in May' }])
  t.match(asText(report), 'moves behind the gateway in May')
})

t.test('the same seed sends the same requests and finds the same', async t => {
  const runs = []
  for (const seed of [7, 7]) {
    const app = plainService('object', 'leak')
    t.teardown(() => app.close())
    const { findings, requests } = await attack(app, { ...options, seed })
    runs.push({ findings, requests })
  }
  t.strictSame(runs[0], runs[1])
})

t.test('reports for people, test runners and code scanning; no credential is in them', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'policy-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  const file = join(folder, 'policy.json')
  writeFileSync(file, JSON.stringify(policy))
  const app = plainService('object')
  t.teardown(() => app.close())
  const report = await attack(app, { ...options, policy: file, families: ['authorization', 'answers', 'exposure'] })
  const [finding] = report.findings
  t.match(finding, { id: 'authorization.object', severity: 'critical', route: 'GET /orders/:orderId', principal: 'ada', got: '200', reproduce: /^curl -i --path-as-is (?:--globoff )?-X GET 'http:\/\/localhost\/orders\/o-2' .*"authorization: Bearer \$ADA_AUTHORIZATION"/ })
  const texts = [asText(report), asTap(report), asSarif(report), asJson(report)]
  for (const text of texts) {
    t.notOk(text.includes('eyJ'), 'no token')
    t.ok(text.includes('authorization.object'))
  }
  t.match(texts[0], /^12 routes, \d+ requests in [\d.]+ s, seed 1: \d findings/)
  t.match(texts[1], /^TAP version 14\n1\.\.\d+\n/)
  t.match(texts[1], /not ok 3 - authorization\.object \(\d+ tried\)\n {2}---\n/)
  t.match(texts[1], /ok \d+ - authorization\.step-up \(0 tried\) # SKIP not applicable/)
  const { version, runs: [run] } = JSON.parse(texts[2]!) as { version: string, runs: [{ tool: { driver: { rules: { id: string, properties: { tags: string[] } }[] } }, results: { ruleId: string, ruleIndex: number, level: string }[] }] }
  t.equal(version, '2.1.0')
  t.match(run.results[0], { ruleId: 'authorization.object', level: 'error', locations: [{ logicalLocations: [{ name: 'GET /orders/:orderId' }] }] })
  t.equal(run.tool.driver.rules[run.results[0]!.ruleIndex]!.id, 'authorization.object')
  t.ok(run.tool.driver.rules[0]!.properties.tags.includes('external/cwe/cwe-639'))
  const { duration, ...lasting } = report
  t.ok(duration > 0)
  t.strictSame(JSON.parse(texts[3]!), JSON.parse(JSON.stringify(lasting)))
})

t.test('a service that uses some of the suite is attacked where it promises something, and the rest is not said to hold', async t => {
  const app = Fastify(server({ logger: false }))
  for (const part of [plan, events, errors, headers]) await app.register(part)
  app.get('/things', { schema: { querystring: { type: 'object', additionalProperties: false, properties: { n: { type: 'integer' } } }, response: { 200: Type.Array(Type.String()) } } }, async () => ['thing'])
  const answer = { schema: { response: { 200: Type.Array(Type.String()) } } }
  app.get('/versions', { ...answer, constraints: { version: '2.0.0' } }, async () => ['thing'])
  app.get('/hosts', { ...answer, constraints: { host: 'things.example' } }, async () => ['thing'])
  app.get('/things::count', answer, async () => ['1'])
  t.teardown(() => app.close())
  const report = await attack(app, { policy: { routes: Object.fromEntries(['/versions', '/hosts', '/things::count'].map(path => [`GET ${path}`, { access: 'public' }])) } })
  t.strictSame(report.findings.filter(({ id }) => id !== 'authorization.unlisted'), [], asText(report))
  t.notOk(report.unproven.some(({ route, reason }) => route !== 'GET /things' && reason.includes('404')), 'what asks for a version or a host is sent it, and two colons are one')
  const states = Object.fromEntries(report.checks.map(({ id, state }) => [id, state]))
  t.match(states, { 'answers.headers': 'held', 'answers.form': 'held', 'authorization.role': 'unproven', 'limits.exceeded': 'not applicable', 'credentials.forged': 'not applicable', 'exposure.hidden': 'not applicable', 'assignment.undeclared': 'not applicable' })
})

t.test('a guard that is not the suite\'s may refuse in its own way: 404, 403, or a body that it reads first', async t => {
  const app = Fastify(server({ logger: false }))
  for (const part of [plan, events, errors, headers]) await app.register(part)
  const body = Type.Object({ name: Type.String({ maxLength: 20 }) }, { additionalProperties: false })
  const guards: Readonly<Record<string, number>> = { hidden: 404, forbidden: 403 }
  for (const [name, status] of Object.entries(guards)) {
    app.get(`/${name}`, { onRequest: async (request, reply) => { if (subOf(request) === null) return reply.code(status).send() } }, async () => 'here')
  }
  app.post('/late', { schema: { body }, preHandler: async (request, reply) => { if (subOf(request) === null) return reply.code(401).header('www-authenticate', 'Bearer').send() } }, async () => 'here')
  t.teardown(() => app.close())
  const { findings, checks, unproven } = await attack(app, { principals: options.principals, families: ['authorization', 'credentials'], policy: { headers: false, routes: { 'GET /hidden': 'user', 'GET /forbidden': 'user', 'POST /late': { access: 'user', body } } } })
  t.strictSame(findings, [])
  t.match(checks.find(({ id }) => id === 'authorization.open'), { state: 'held', unproven: 0 })
  t.strictSame(unproven, [])
})

t.test('misconfiguration is refused: no plan and no policy, misspelt options, routes and principals that do not exist', async t => {
  const app = plainService()
  t.teardown(() => app.close())
  for (const [wrong, message] of [
    [{}, /no route plan/],
    [{ ...options, sed: 1 }, /sed/],
    [{ ...options, only: ['GET /order'] }, /there is no route "GET \/order"/],
    [{ ...options, routes: { 'GET /order': { skip: 'x' } } }, /there is no route/],
    [{ ...options, families: ['magic'] }, /there is no "magic"/],
    [{ ...options, objects: { orderId: { eve: 'o-1' } } }, /"eve" is none of the principals/],
    [{ ...options, policy: {} as Policy }, /routes/],
  ] as const) await t.rejects(attack(app, wrong as AttackOptions), { code: 'FST_BASTION_TESTING_MISCONFIGURED', message })
})
