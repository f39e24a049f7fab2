/** Security events: what happened is told once, completely, to the log and to whoever listens. */
import { Writable } from 'node:stream'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions } from '../plugins/index.js'
import { skewCheck } from '../plugins/doctor/services.js'
import events, { type SecurityEvent } from '../plugins/events.js'
import plan from '../plugins/plan/index.js'

interface Built { app: FastifyInstance, recorded: SecurityEvent[], log: Record<string, unknown>[] }

const schema = { response: { 200: Type.Object({ ok: Type.Boolean() }) } }

async function build (t: Test, declare: (app: FastifyInstance) => void = () => {}, options: BastionOptions = {}): Promise<Built> {
  const recorded: SecurityEvent[] = []
  const log: Record<string, unknown>[] = []
  const stream = new Writable({ write (line, _encoding, done) { log.push(JSON.parse(String(line))); done() } })
  const app = Fastify(server({ logger: { level: 'info', stream } }))
  t.teardown(() => app.close())
  await app.register(bastion, { transport: { hosts: ['localhost'] }, limits: { address: ['3/minute'] }, ...options })
  app.events.listen(event => { recorded.push(event) })
  declare(app)
  await app.ready()
  return { app, recorded, log }
}

t.test('an event says when, who, where and why, and is one line of the log under the request id [ASVS 16.2.1, 16.2.2]', async t => {
  const { app, recorded, log } = await build(t, app => {
    app.get('/orders/:id', { schema, config: { access: 'public' } }, async request => {
      request.principal = { kind: 'user', id: 'u1', userId: 'u1', roles: [], via: 'bearer', authTime: 0, credentialId: 'c1' }
      app.events.record('data_access', request, { fields: ['total'] })
      app.events.record('access_denied', request, { reason: 'test' })
      return { ok: true }
    })
  })
  const { headers } = await app.inject('/orders/s3cret-id?token=s3cret')
  t.ok(headers)
  const [routine, refusal] = recorded
  t.match(routine, { type: 'data_access', time: /^\d{4}-\d\d-\d\dT[\d:.]+Z$/, requestId: /^[\da-f]{32}$/, method: 'GET', route: '/orders/:id', address: '127.0.0.1', principal: 'u1', details: { fields: ['total'] } })
  t.notMatch(JSON.stringify(recorded), 's3cret', 'the pattern, never the URL')
  t.match(log.find(({ msg }) => msg === 'data_access'), { level: 30, requestId: routine!.requestId, event: { type: 'data_access' } }, 'routine at info')
  t.match(log.find(({ msg }) => msg === 'access_denied'), { level: 40, requestId: refusal!.requestId, event: { time: refusal!.time, principal: 'u1', address: '127.0.0.1', method: 'GET', route: '/orders/:id', details: { reason: 'test' } } }, 'the rest at warn')

  const lines: string[] = []
  const bare = Fastify({ logger: { stream: { write: (line: string) => { lines.push(line) } } } })
  t.teardown(() => bare.close())
  bare.get('/orders/:id', async request => {
    Object.assign(request, { account: { id: 'u1' } })
    throw Object.assign(new Error('test'), { statusCode: 403 })
  })
  await bare.inject('/orders/7')
  t.match(lines.join(''), '"statusCode":403')
  t.notMatch(lines.join(''), /"u1"|access_denied|\/orders\/:id/, 'negative control: of plain Fastify no line tells who was refused, what, and at which route')
})

t.test('when it happened is one instant in whatever zone a process runs, also in the hour that comes twice; a clock that differs from those of the services beside it is told [ASVS 16.2.2]', async t => {
  const { app, recorded, log } = await build(t)
  const [clock, zone] = [Date.now, process.env.TZ]
  t.teardown(() => {
    Date.now = clock
    if (zone === undefined) delete process.env.TZ
    else process.env.TZ = zone
  })
  const lines: string[] = []
  const bare = Fastify({ logger: { timestamp: () => `,"time":"${new Date(Date.now()).toLocaleString('sv')}"`, stream: { write: (line: string) => { lines.push(line) } } } })
  t.teardown(() => bare.close())
  // New York sets its clocks back between the two.
  const instants = ['2026-11-01T05:30:00.000Z', '2026-11-01T06:30:00.000Z']
  for (const at of ['America/New_York', 'Asia/Kathmandu']) {
    process.env.TZ = at
    for (const instant of instants) {
      Date.now = () => Date.parse(instant)
      app.events.record('logout', null)
      bare.log.info('logout')
    }
  }
  t.same(recorded.map(({ time }) => time), [...instants, ...instants])
  t.same(log.filter(({ msg }) => msg === 'logout').map(({ time }) => new Date(time as number).toISOString()), [...instants, ...instants])
  for (const [theirs, state] of [[10_500, 'good'], [12_000, 'warning'], [60_000, 'bad']] as const) t.equal(skewCheck('redis', theirs, 10_000, 10_000).state, state)

  const times = lines.map(line => (JSON.parse(line) as { time: string }).time)
  t.same(times.slice(0, 2), ['2026-11-01 01:30:00', '2026-11-01 01:30:00'], 'negative control: of local times two that are an hour apart are the same')
  t.not(times[2], times[0], 'and one instant is two in two zones')
})

t.test('without a request there is no request in it', async t => {
  const { app, recorded } = await build(t)
  app.events.record('state_full', null, { entries: 5 })
  app.events.record('malformed_request', { id: 'r1', ip: '192.0.2.1' })
  t.same(recorded.map(({ time, ...rest }) => rest), [
    { type: 'state_full', details: { entries: 5 } },
    { type: 'malformed_request', details: {}, requestId: 'r1', address: '192.0.2.1' },
  ])
})

t.test('attempts to get around the controls are events [ASVS 16.3.2, 16.3.3]', async t => {
  const { app, recorded } = await build(t, app => {
    app.get('/user', { schema, config: { access: 'user' } }, async () => ({ ok: true }))
    app.get('/undeclared', { schema, config: { access: 'public' } }, async (_request, reply) => { reply.code(202 as never).send({ secret: 1 } as never) })
  })
  for (const url of ['/user', '/undeclared', '/%zz', '/user']) await app.inject(url)
  await app.inject({ url: '/user', headers: { host: 'evil.example' } })
  t.same(recorded.map(({ type }) => type), ['access_denied', 'undeclared_answer', 'malformed_request', 'rate_limited', 'untrusted_host'])
  t.match(recorded.map(({ route }) => route), ['/user', '/undeclared', '*', '/user', '/user'])
})

t.test('a route names the event that its success is; a refusal is not one', async t => {
  const { app, recorded } = await build(t, app => {
    app.get('/read', { schema, config: { access: 'public', audit: 'data_access' } }, async () => ({ ok: true }))
    app.get('/fails', { schema, config: { access: 'public', audit: 'data_access' } }, async () => { throw new Error('x') })
  })
  await app.inject('/read')
  await app.inject('/fails')
  t.match(recorded, [{ type: 'data_access', route: '/read', details: { status: 200 } }])
  t.equal(recorded.length, 1)
})

t.test('every 401 and 403 is an event, also where a handler refuses by itself; once', async t => {
  const { app, recorded } = await build(t, app => {
    for (const status of [401, 403, 404]) app.get(`/${status}`, { schema, config: { access: 'public', limits: false } }, async () => { throw Object.assign(new Error('no'), { statusCode: status }) })
    app.get('/told', { schema, config: { access: 'user', limits: false } }, async () => ({ ok: true }))
  })
  for (const url of ['/401', '/403', '/404', '/told']) await app.inject(url)
  t.match(recorded, [{ type: 'access_denied', route: '/401', details: { status: 401 } }, { type: 'access_denied', route: '/403' }, { type: 'access_denied', route: '/told', details: { reason: 'no credential' } }])
  t.equal(recorded.length, 3)
})

t.test('a name that was typed is kept as a keyed hash: of this process, or of a key that is the same everywhere', async t => {
  const [one, other] = [(await build(t)).app, (await build(t)).app]
  t.equal(one.events.nameOf('ada'), one.events.nameOf('ada'))
  t.not(one.events.nameOf('ada'), other.events.nameOf('ada'))
  for (const { events } of [one, other]) events.keyNames(Buffer.alloc(32, 1))
  t.equal(one.events.nameOf('ada'), other.events.nameOf('ada'))
})

t.test('durable is for services that keep their events: without the audit plugin it stops boot', async t => {
  await t.rejects(build(t, app => { app.get('/', { schema, config: { access: 'public', audit: { type: 'data_access', durable: true } } }, async () => ({ ok: true })) }), { code: 'FST_BASTION_PLAN_REFUSED', message: /durable needs the audit plugin/ })
})

t.test('a listener that fails, now or later, disturbs neither the request, nor the others, nor the process [ASVS 16.5.2]', async t => {
  const { app, recorded, log } = await build(t)
  app.events.listen(() => { throw new Error('at once') })
  app.events.listen(async () => { throw new Error('later') })
  const late: SecurityEvent[] = []
  const stop = app.events.listen(event => { late.push(event) })
  app.events.record('logout', null)
  await new Promise(resolve => setImmediate(resolve))
  t.equal(late.length, 1)
  t.equal(recorded.length, 1)
  t.match(log.filter(({ msg }) => msg === 'a security event listener failed').map(line => (line.err as { message: string }).message), ['at once', 'later'])
  stop()
  app.events.record('logout', null)
  t.equal(late.length, 1, 'who no longer listens is told nothing')
})

/** How many of a type were recorded, and how many they stand for. */
function sum (recorded: SecurityEvent[], type: string) {
  const events = recorded.filter(event => event.type === type)
  return { events: events.length, times: events.reduce((all, { details }) => all + (details.times as number ?? 1), 0) }
}

t.test('attack: thousands of requests to hosts that are not ours, over plain HTTP, or that nobody can read, from one address, are a few events that count them all', async t => {
  const suites: [string, BastionOptions, InjectOptions, number, number][] = [
    ['untrusted_host', { transport: { hosts: ['localhost'] } }, { headers: { host: 'evil.example', origin: 'https://evil.example' } }, 421, 10_000],
    ['plain_http_refused', { transport: { requireHttps: true } }, { headers: { authorization: 'Bearer x' } }, 403, 1000],
    ['malformed_request', {}, { url: '/%zz' }, 400, 1000],
  ]
  for (const [type, suite, request, status, times] of suites) {
    const { app, recorded } = await build(t, () => {}, { limits: { address: false }, ...suite })
    for (let i = 0; i < times; i++) {
      const { statusCode } = await app.inject({ url: '/', ...request })
      if (statusCode !== status) return t.equal(statusCode, status, type)
    }
    await app.close()
    t.strictSame(sum(recorded, type), { events: 2, times }, type)
    t.equal(recorded.length, 2, 'and no other event stands for what was left out')
    t.match(recorded[1], { address: '127.0.0.1', method: 'GET', time: /Z$/ }, 'the last one says who, too')
  }

  const app = Fastify()
  t.teardown(() => app.close())
  let recorded = 0
  await app.register(plan)
  await app.register(events)
  app.events.listen(() => { recorded += 1 })
  app.addHook('onRequest', async request => {
    app.events.record('untrusted_host', request, { host: request.host })
    throw Object.assign(new Error('no'), { statusCode: 421 })
  })
  app.get('/', async () => 1)
  for (let i = 0; i < 1000; i++) await app.inject({ url: '/', headers: { host: 'evil.example' } })
  t.equal(recorded, 1000, 'negative control: recorded one by one')
})

t.test('attack: from many addresses they are bounded, and what there is no room for is counted in one; addresses of one IPv6 network are one', async t => {
  const { app, recorded } = await build(t, () => {}, { limits: { address: false } })
  const ask = (remoteAddress: string) => app.inject({ url: '/', remoteAddress, headers: { host: 'evil.example' } })
  for (let i = 0; i < 5000; i++) for (let n = 0; n < 2; n++) await ask(`10.0.${i >> 8}.${i & 255}`)
  t.strictSame(sum(recorded, 'untrusted_host'), { events: 1001, times: 1001 })
  t.equal(recorded.filter(({ details }) => details.shared === true).length, 1)
  await app.close()
  t.strictSame(sum(recorded, 'untrusted_host'), { events: 1001 + 101, times: 10_000 }, 'at the end a hundred by themselves, and the rest in one')

  const { app: other, recorded: heard } = await build(t)
  for (let i = 0; i < 100; i++) await other.inject({ url: '/', remoteAddress: `2001:db8::${i.toString(16)}`, headers: { host: 'evil.example' } })
  t.equal(heard.length, 1)
})

t.test('a run that is over is told of to its end without another request; forgetting one has the next recorded', async t => {
  const { app, recorded } = await build(t)
  const clock = { ms: 1000 }
  const runs = app.events.runs('key_refused', { quietMs: 20, max: 2, now: () => clock.ms })
  const times = () => recorded.map(({ details: { times, kind = 'shared' } }) => [kind, times])
  for (let i = 0; i < 5; i++) runs.record('a', null, { kind: 'a' })
  await new Promise(resolve => { setTimeout(resolve, 60) })
  t.same(times(), [['a', 1]], 'not before its time')
  clock.ms += 20
  for (let i = 0; i < 500 && recorded.length < 2; i++) await new Promise(resolve => { setTimeout(resolve, 10) })
  t.same(times(), [['a', 1], ['a', 4]])

  recorded.length = 0
  clock.ms += 20
  for (const kind of ['a', 'b', 'c', 'd', 'd', 'a']) runs.record(kind, null, { kind }, { shared: {} })
  t.same(times(), [['a', 1], ['b', 1], ['shared', 1]])
  runs.forget('a')
  runs.record('a', null, { kind: 'a' })
  t.same(times().slice(-2), [['a', 1], ['a', 1]])
  runs.record('a', null, { kind: 'a' }, { isGrave: true, quietMs: 50 })
  runs.record('a', null, { kind: 'a' }, { isGrave: true })
  t.same(times().at(-1), ['a', 1], 'what is grave is told at once, and once')

  recorded.length = 0
  clock.ms += 20
  for (const kind of ['e', 'f', 'g']) runs.record(kind, null, { kind }, { shared: {} })
  t.same(times(), [['shared', 2], ['e', 1]], 'runs that are over make room, and what was left out of others is not lost')
  clock.ms -= 500
  runs.record('e', null, { kind: 'e' })
  t.same(times().at(-1), ['e', 1], 'a clock that is set back silences nobody')
  recorded.length = 0
  app.events.flush()
  t.same(times(), [['a', 1], ['shared', 2]])
  app.events.flush()
  t.equal(recorded.length, 2, 'once')
})

t.test('misconfiguration stops boot: an event is named by a text', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  app.get('/', { config: { audit: 42 as never } }, async () => 1)
  await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message: /GET \/: audit/ })
})
