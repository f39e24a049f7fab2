/** Metrics: Prometheus' text, whose numbers are what was done; and labels that no client can multiply. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { createError } from '@fastify/error'
import { Type } from '@sinclair/typebox'
import Fastify, { type FastifyInstance } from 'fastify'
import { Counter } from 'prom-client'
import t, { type Test } from 'tap'
import bastion, { server, type BastionOptions } from '../plugins/index.js'
import { concernOf } from '../plugins/metrics/decisions.js'
import { Tally } from '../plugins/metrics/instruments.js'
import { parse } from './fixtures/prometheus.js'
import { ownRedis } from './services.js'

const schema = { response: { 200: Type.Object({ ok: Type.Boolean() }) } }
const open = { access: 'public' as const }
const NoMore = createError('FST_SHOP_SOLD_OUT', 'Sold out', 409)

async function build (t: Test, options: BastionOptions = {}, declare: (app: FastifyInstance) => void = () => {}): Promise<FastifyInstance> {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, { metrics: {}, limits: { address: ['1000/minute'] }, ...options })
  app.get('/open/:id', { schema, config: open }, async () => ({ ok: true }))
  app.get('/user', { schema, config: { access: 'user' } }, async () => ({ ok: true }))
  app.get('/limited', { schema, config: { ...open, limits: ['2/minute'] } }, async () => ({ ok: true }))
  app.get('/sold', { schema, config: open }, async () => { throw new NoMore() })
  app.get('/broken', { schema, config: open }, async () => { throw new Error('database at db.internal') })
  app.post('/body', { schema: { ...schema, body: Type.Object({ n: Type.Integer() }, { additionalProperties: false }) }, config: open }, async () => ({ ok: true }))
  declare(app)
  await app.ready()
  return app
}

const read = async (app: FastifyInstance) => parse(await app.metrics.text())

t.test('what was done is what the text says: decisions by concern, code and outcome; durations by route, method and class of status', async t => {
  const app = await build(t)
  const ask = async (url: string, times = 1, options = {}) => { for (let i = 0; i < times; i++) await app.inject({ url, ...options }) }
  await ask('/open/1', 5)
  await ask('/open/2?token=s3cret', 2)
  await ask('/open/3', 1, { method: 'HEAD' })
  await ask('/user', 3)
  await ask('/limited', 6)
  await ask('/sold', 2)
  await ask('/broken')
  await ask('/nowhere/9', 4)
  await ask('/%zz')
  await ask('/body', 2, { method: 'POST', payload: { n: 'x' } })
  await ask('/body', 1, { method: 'POST', payload: '{', headers: { 'content-type': 'application/json' } })
  const samples = await read(app)
  const decided = Object.fromEntries([...samples].filter(([key]) => key.startsWith('bastion_decisions_total')).map(([key, value]) => [key.slice(key.indexOf('{')), value]))
  t.strictSame(decided, {
    '{code=,concern=all,outcome=allowed}': 10,
    '{code=FST_BASTION_ACCESS_UNAUTHENTICATED,concern=access,outcome=refused}': 3,
    '{code=FST_BASTION_LIMITS_EXCEEDED,concern=limits,outcome=limited}': 4,
    '{code=FST_SHOP_SOLD_OUT,concern=service,outcome=refused}': 2,
    '{code=FST_BASTION_HTTP_500,concern=service,outcome=failed}': 1,
    '{code=FST_BASTION_ERRORS_NOT_FOUND,concern=errors,outcome=refused}': 4,
    '{code=FST_ERR_BAD_URL,concern=fastify,outcome=refused}': 1,
    '{code=FST_BASTION_VALIDATION_REFUSED,concern=validation,outcome=refused}': 2,
    '{code=FST_ERR_CTP_INVALID_JSON_BODY,concern=fastify,outcome=refused}': 1,
  })
  const count = (route: string, method: string, status: string) => samples.get(`bastion_request_duration_seconds_count{method=${method},route=${route},status=${status}}`)
  t.equal(count('/open/:id', 'GET', '2xx'), 7)
  t.equal(count('/open/:id', 'HEAD', '2xx'), 1)
  t.equal(count('/user', 'GET', '4xx'), 3)
  t.equal(count('/limited', 'GET', '2xx'), 2)
  t.equal(count('/limited', 'GET', '4xx'), 4)
  t.equal(count('/broken', 'GET', '5xx'), 1)
  t.equal(samples.get('bastion_request_duration_seconds_bucket{le=+Inf,method=GET,route=/open/:id,status=2xx}'), 7)
  const buckets = [...samples].filter(([key]) => key.includes('_bucket{') && key.includes('route=/open/:id,') && key.includes('method=GET')).map(([, value]) => value)
  t.equal(buckets.length, 12)
  t.ok(buckets.every((value, i) => value >= (buckets[i - 1] ?? 0)), 'buckets hold what is below them')
  t.ok(samples.get('bastion_request_duration_seconds_sum{method=GET,route=/open/:id,status=2xx}')! > 0)
  t.equal(samples.get('bastion_events_total{type=access_denied}'), 3)
  t.equal(samples.get('bastion_events_total{type=malformed_request}'), 1)
})

t.test('nobody and nothing of a request is in a label [ASVS 16.2.5]', async t => {
  const app = await build(t, {}, app => { app.events.record('access_denied', null, { user: 'u-7777' }) })
  await app.inject({ url: '/open/id-31415?token=s3cret', remoteAddress: '203.0.113.77', headers: { 'user-agent': 'agent-s3cret' } })
  for (let i = 0; i < 50; i++) await app.inject({ url: `/no/such-${i}`, method: i % 2 === 0 ? 'GET' : 'DELETE' })
  const text = await app.metrics.text()
  t.notMatch(text, /31415|s3cret|203\.0|such-|u-7777/)
  t.equal([...parse(text)].filter(([key]) => key.startsWith('bastion_request_duration_seconds_count')).length, 2, 'all that is unknown is one series')
})

t.test('labels are bounded, whoever makes them', async t => {
  const tally = new Tally('bounded_total', 'x', 3)
  for (let i = 0; i < 10; i++) tally.of({ type: `t${i}`, code: 'c' }).value += 1
  t.strictSame(tally.get().values, [
    { labels: { type: 't0', code: 'c' }, value: 1 }, { labels: { type: 't1', code: 'c' }, value: 1 }, { labels: { type: 't2', code: 'c' }, value: 1 },
    { labels: { type: 'other', code: 'other' }, value: 7 },
  ])
  const app = await build(t, {}, app => {
    let n = 0
    app.get('/codes', { schema, config: open }, async () => { throw Object.assign(new Error('x'), { statusCode: 400, code: `FST_SHOP_C${n++}` }) })
  })
  for (let i = 0; i < 700; i++) await app.inject('/codes')
  const decided = [...await read(app)].filter(([key]) => key.startsWith('bastion_decisions_total'))
  t.equal(decided.length, 501)
  t.equal(decided.reduce((sum, [, value]) => sum + value, 0), 700, 'nothing is lost')
})

t.test('one code that is answered with several statuses is counted by what became of it', async t => {
  const statuses = [400, 429, 400, 429, 429]
  const app = await build(t, {}, app => {
    app.get('/busy', { schema, config: open }, async () => { throw Object.assign(new Error('x'), { statusCode: statuses.shift(), code: 'FST_SHOP_BUSY' }) })
  })
  for (let i = 0; i < 5; i++) await app.inject('/busy')
  const samples = await read(app)
  t.equal(samples.get('bastion_decisions_total{code=FST_SHOP_BUSY,concern=service,outcome=refused}'), 2)
  t.equal(samples.get('bastion_decisions_total{code=FST_SHOP_BUSY,concern=service,outcome=limited}'), 3)
})

t.test('the password queue and the durations of hashes are measured', async t => {
  const app = await build(t, { passwords: { concurrency: 1 } })
  const before = (await read(app)).get('bastion_hash_seconds_count{}')!
  const hashes = Array.from({ length: 4 }, () => app.passwords.hash('correct horse battery staple'))
  const during = await read(app)
  t.equal(during.get('bastion_hashes_running{}'), 1)
  t.equal(during.get('bastion_hashes_waiting{}'), 3)
  await Promise.all(hashes)
  const after = await read(app)
  t.equal(after.get('bastion_hashes_waiting{}'), 0)
  t.equal(after.get('bastion_hashes_running{}'), 0)
  t.equal(after.get('bastion_hash_seconds_count{}'), before + 4)
  t.ok(after.get('bastion_hash_seconds_sum{}')! > 0.01)
})

t.test('the latency of shared state, and whether it is away', async t => {
  const redis = await ownRedis(t)
  if (redis === null) return
  const app = await build(t, { state: { redis: redis.url, secret: Buffer.alloc(32, 7) } })
  for (let i = 0; i < 10; i++) await app.inject('/open/1')
  const before = await read(app)
  t.ok(before.get('bastion_state_seconds_count{}')! >= 10)
  t.equal(before.get('bastion_state_away{}'), 0)
  await redis.kill()
  await app.inject('/open/1')
  t.equal((await read(app)).get('bastion_state_away{}'), 1)
  await redis.restart()
  while (!await app.state.answers()) await new Promise(resolve => { setTimeout(resolve, 20) })
  t.equal((await read(app)).get('bastion_state_away{}'), 0)
})

t.test("others register theirs: the suite's concerns by app.metrics, a service with prom-client's classes", async t => {
  const app = await build(t)
  let lag: number | null = null
  app.metrics.gauge('bastion_audit_lag_seconds', 'How far behind', () => lag)
  const add = app.metrics.counter('shop_orders_total', 'Orders')
  const observe = app.metrics.histogram('shop_payment_seconds', 'Payments', [0.1, 1])
  const own = new Counter({ name: 'shop_visits_total', help: 'Visits', labelNames: ['shop'], registers: [app.metrics.registry] })
  add()
  add(4)
  for (const seconds of [0.05, 0.1, 0.5, 3]) observe(seconds)
  own.inc({ shop: 'a"b\\c\nd' })
  t.equal((await read(app)).has('bastion_audit_lag_seconds{}'), false, 'null is no sample')
  lag = 1.5
  const samples = await read(app)
  t.equal(samples.get('bastion_audit_lag_seconds{}'), 1.5)
  t.equal(samples.get('shop_orders_total{}'), 5)
  t.strictSame(['0.1', '1', '+Inf'].map(le => samples.get(`shop_payment_seconds_bucket{le=${le}}`)), [2, 3, 4])
  t.equal(samples.get('shop_visits_total{shop=a\\"b\\\\c\\nd}'), 1)
  app.metrics.gauge('shop_broken_state', 'Fails', () => { throw new Error('gone') })
  const rest = await read(app)
  t.equal(rest.has('shop_broken_state{}'), false, 'one that fails has no sample')
  t.equal(rest.size, samples.size, 'and takes none of the others with it')
  t.throws(() => app.metrics.counter('shop_orders_total', 'again'), { code: 'FST_BASTION_METRICS_MISCONFIGURED', message: /shop_orders_total/ })
  for (const name of ['', 'Shop', 'a b', 'x{y="z"}', 'a\nb_total']) t.throws(() => app.metrics.gauge(name, 'x', () => 1), { code: 'FST_BASTION_METRICS_MISCONFIGURED' })
})

t.test("node: Node's own numbers, by option", async t => {
  const without = await (await build(t)).metrics.text()
  t.notMatch(without, /process_cpu|nodejs_/)
  const app = await build(t, { metrics: { node: true } })
  const samples = await read(app)
  t.ok(samples.get('process_resident_memory_bytes{}')! > 1e6)
  t.ok([...samples.keys()].some(key => key.startsWith('nodejs_eventloop_lag')))
  t.notMatch([...samples.keys()].join(), /version/, 'its version is nobody\'s business [ASVS 13.4.6]')
})

t.test('buckets: the bounds that are asked for', async t => {
  const app = await build(t, { metrics: { buckets: [0.5, 60] } })
  await app.inject('/open/1')
  const bounds = [...await read(app)].filter(([key]) => key.startsWith('bastion_request_duration_seconds_bucket')).map(([key]) => /le=([^,]+)/.exec(key)![1])
  t.strictSame(bounds, ['0.5', '60', '+Inf'])
})

t.test('two applications in one process count apart', async t => {
  const [one, other] = [await build(t), await build(t)]
  await one.inject('/open/1')
  t.equal((await read(one)).get('bastion_decisions_total{code=,concern=all,outcome=allowed}'), 1)
  t.equal((await read(other)).get('bastion_decisions_total{code=,concern=all,outcome=allowed}'), 0)
})

t.test('without the key there are none', async t => {
  const app = await build(t, { metrics: undefined as never })
  t.notOk(app.hasDecorator('metrics'))
  t.equal((await app.inject('/open/1')).statusCode, 200)
})

t.test('every code of the suite belongs to the concern that has it', async t => {
  const root = fileURLToPath(new URL('../plugins/', import.meta.url))
  const files = (await readdir(root, { recursive: true })).filter(name => name.endsWith('.ts'))
  const concerns = new Set(files.map(name => name.replace(/\.ts$/, '').split('/')[0]))
  const codes = new Set<string>()
  for (const name of files) {
    const text = await import(pathToFileURL(join(root, name)).href) as Record<string, unknown>
    for (const value of Object.values(text)) {
      if (typeof value !== 'function' || !/^FastifyError|Error$/.test(value.name)) continue
      try { codes.add(String((new (value as new () => { code: string })()).code)) } catch {}
    }
  }
  const ours = [...codes].filter(code => code.startsWith('FST_BASTION_'))
  t.ok(ours.length > 60, `${ours.length} codes`)
  for (const code of ours) t.ok(concerns.has(concernOf(code)), `${code}: ${concernOf(code)}`)
  t.equal(concernOf('FST_BASTION_HTTP_404'), 'service')
  t.equal(concernOf('FST_ERR_CTP_BODY_TOO_LARGE'), 'fastify')
  t.equal(concernOf('FST_PORTAL_NAME_TAKEN'), 'service')
})

t.test('misconfiguration stops boot', async t => {
  for (const [metrics, message] of [
    [{ nodes: true }, /nodes/], [{ node: 'yes' }, /node/], [{ buckets: [] }, /buckets/], [{ buckets: [1, 0.5] }, /buckets: must rise/], [{ buckets: [0] }, /buckets/],
  ] as const) {
    const app = Fastify()
    await t.rejects(async () => { await app.register(bastion, { metrics: metrics as never }) }, { code: 'FST_BASTION_METRICS_MISCONFIGURED', message })
    await app.close()
  }
})
