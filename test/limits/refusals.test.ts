/** Limits: what the refused are told, bans, and what is recorded of it all. */
import Fastify from 'fastify'
import { createError } from '@fastify/error'
import rateLimit from '@fastify/rate-limit'
import t from 'tap'
import { Value } from '@sinclair/typebox/value'
import { Problem } from '../../schemas/problem.js'
import { as, build, from, open, passes, type Built } from './service.js'

const QUOTA = 'https://iana.org/assignments/http-problem-types#quota-exceeded'
const ABNORMAL = 'https://iana.org/assignments/http-problem-types#abnormal-usage-detected'
const limited = (recorded: Built['recorded']) => recorded.filter(({ type }) => type === 'rate_limited').map(({ details }) => details)

t.test('the problem names the policies that refuse, as the header names them', async t => {
  const { call, clock } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['2/second', '2/minute', '9/hour'], algorithm: 'fixed' } } }, done)
  })
  await passes(2, () => call('/'))
  const both = await call('/')
  t.match(both, { status: 429, code: 'FST_BASTION_LIMITS_EXCEEDED', headers: { 'retry-after': '60', 'ratelimit-policy': '"2/second";q=2;w=1, "2/minute";q=2;w=60, "9/hour";q=9;w=3600' } })
  t.strictSame(both.body.type, QUOTA)
  t.strictSame(both.body['violated-policies'], ['2/second', '2/minute'])
  t.ok(Value.Check(Problem, both.body), 'it has the declared form')
  clock.ms += 1000
  t.strictSame((await call('/')).body['violated-policies'], ['2/minute'])
})

t.test('a ban: who is refused so often is refused everything for a time [ASVS 2.4.1, ASVS 6.3.1]', async t => {
  const declare: Parameters<typeof build>[2] = (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['2/second'], algorithm: 'fixed', ban: { after: 3, for: '15m' } } } }, done)
    app.get('/free', { config: { ...open, limits: { windows: ['2/second'], algorithm: 'fixed' } } }, done)
  }
  const { call, clock, recorded, handled } = await build(t, {}, declare)
  t.equal(await passes(4, () => call('/')), 2)
  const start = await call('/')
  t.match(start, { status: 429, code: 'FST_BASTION_LIMITS_EXCEEDED', body: { type: ABNORMAL }, headers: { 'retry-after': '900' } })
  t.equal(start.body['violated-policies'], undefined)
  t.match(limited(recorded).at(-1), { budget: 'route:GET /', banned: true, severity: 'critical', retryMs: 900_000 })
  handled.count = 0
  clock.ms += 60_000
  const later = await call('/')
  t.match(later, { status: 429, body: { type: ABNORMAL }, headers: { 'retry-after': '840' } })
  for (let i = 0; i < 800; i++) {
    clock.ms += 1000
    if ((await call('/')).status !== 429) t.fail(`in after ${i} s`)
  }
  t.equal(handled.count, 0, 'no handler ran, though the window had room again')
  t.equal(limited(recorded).filter(({ banned }) => banned === true).length, 2, 'recorded when it starts, and once in ten minutes')
  t.equal(limited(recorded).length, 3, 'and nothing else is, while it lasts')
  t.equal((await call('/', from('192.0.2.9'))).status, 200, 'the neighbour is not banned')
  t.equal((await call('/free')).status, 200, 'nor are other budgets')
  clock.ms += 40_000
  t.equal((await call('/')).status, 200, 'a ban ends when it was said to, whatever was tried meanwhile')

  await passes(4, () => call('/'))
  t.equal(limited(recorded).filter(({ banned }) => banned === true).length, 3, 'a second one is recorded too')

  t.test('negative control: without a ban a window lets the same client in again and again', async t => {
    const { call, clock } = await build(t, {}, declare)
    let passed = 0
    for (let second = 0; second < 100; second++) {
      passed += await passes(5, () => call('/free'))
      clock.ms += 1000
    }
    t.equal(passed, 200)
  })
})

t.test('a ban of the default budgets, by option', async t => {
  const { call, clock } = await build(t, { address: ['2/second'], principal: ['2/second'], plans: { free: ['1/second'] }, ban: { after: 2, for: '1h' } }, (app, done) => {
    app.get('/', { config: open }, done)
    app.get('/own', { config: { ...open, limits: ['2/second'] } }, done)
  })
  for (const who of [from('192.0.2.1'), as('ada'), as('ben', { plan: 'free' })]) {
    await passes(9, () => call('/', who))
    clock.ms += 10_000
    t.match(await call('/', who), { status: 429, body: { type: ABNORMAL }, headers: { 'retry-after': '3590' } })
    t.equal((await call('/nowhere', who)).status, 429)
    t.equal((await call('/own', who)).status, 200)
  }
})

t.test('refusals are recorded, but are no flood of events: the first of a run, then one in ten seconds, with how many there were', async t => {
  const { call, clock, recorded } = await build(t, { address: ['1/day'] }, (app, done) => {
    app.get('/', { config: open }, done)
    app.get('/own', { config: { ...open, limits: ['1/day'] } }, done)
  })
  await call('/')
  for (let i = 0; i < 100; i++) {
    await call('/')
    clock.ms += 300
  }
  t.match(limited(recorded), [{ budget: 'default-address', limit: 1, times: 1 }, { times: 34 }, { times: 34 }])
  t.equal(limited(recorded).length, 3, 'in thirty seconds')
  t.equal(recorded[0]!.address, '127.0.0.1')

  recorded.length = 0
  await passes(3, () => call('/', from('192.0.2.1')))
  await passes(3, () => call('/own'))
  t.match(limited(recorded), [{ budget: 'default-address', times: 1 }, { budget: 'route:GET /own', times: 1 }], 'another subject, another budget: another run')

  recorded.length = 0
  clock.ms -= 3_600_000
  await call('/')
  t.equal(limited(recorded).length, 1, 'a clock that is set back silences nobody')
})

t.test('a flood from many addresses is no flood of events, and nothing grows with it', async t => {
  const { call, clock, recorded } = await build(t, { address: false, flood: { max: 1, timeWindow: 60_000 } }, (app, done) => {
    app.get('/', { config: open }, done)
  })
  const ask = async (i: number) => call('/', from(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`))
  // A few addresses at once: refusals are held a moment.
  for (let first = 0; first < 10_500; first += 2100) {
    for (let n = 0; n < 3; n++) await Promise.all(Array.from({ length: 2100 }, (_none, i) => ask(first + i)))
  }
  t.equal(limited(recorded).filter(({ shared }) => shared !== true).length, 10_000)
  const shared = limited(recorded).filter(details => details.shared === true)
  t.equal(shared.length, 1, 'what there is no room for shares one event in ten seconds')
  clock.ms += 10_000
  await ask(10_499)
  t.match(limited(recorded).at(-1), { budget: 'flood', limit: 1 })
  await Promise.all(Array.from({ length: 200 }, (_none, i) => ask(10_300 + i)))
  t.ok(limited(recorded).length > 10_002, 'and runs that are over make room')

  t.test('negative control: an event for each refusal, by the hook that the official plugin has', async t => {
    let events = 0
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(rateLimit, { max: 1, timeWindow: 60_000, onExceeded: () => { events += 1 } })
    app.get('/', async () => 'in')
    for (let i = 0; i < 101; i++) await app.inject('/')
    t.equal(events, 100)
  })
})

const Slow = createError('FST_SHOP_SLOW_DOWN', 'Buy the larger plan', 402)

t.test('refuse: an error of the service\'s own; headers and Retry-After stay', async t => {
  const { call, handled } = await build(t, { address: ['1/minute'], refuse: (_request, { retryMs }) => Object.assign(new Slow(), { message: `come back in ${retryMs} ms` }) }, (app, done) => {
    app.get('/', { config: open }, done)
    app.get('/list', { config: { ...open, limits: ['1/minute'] } }, done)
    app.get('/own', { config: { ...open, limits: { windows: ['1/minute'], refuse: () => Object.assign(new Error('busy'), { statusCode: 503 }) } } }, done)
  })
  for (const url of ['/', '/list']) {
    await call(url)
    t.match(await call(url), {
      status: 402,
      code: 'FST_SHOP_SLOW_DOWN',
      body: { type: 'about:blank', detail: /^come back in \d+ ms$/ },
      headers: { 'retry-after': /^\d+$/, 'x-ratelimit-remaining': '0', ratelimit: /^"1\/minute";r=0/, 'ratelimit-policy': '"1/minute";q=1;w=60' },
    }, url)
  }
  await call('/own')
  t.match(await call('/own'), { status: 503, headers: { 'retry-after': /^\d+$/ } }, 'a rule\'s own comes first')
  t.equal(handled.count, 3)
})

t.test('refuse: whatever else it does, the request is refused with 429', async t => {
  const answers = [
    () => { throw new Slow() }, () => undefined, () => null, () => 'no', () => ({ statusCode: 403 }), () => new Error('without a status'), () => Object.assign(new Error('fine'), { statusCode: 200 }),
    () => Object.assign(new Error('elsewhere'), { statusCode: 302, headers: { location: 'https://evil.example' } }), () => Object.assign(new Error('text'), { statusCode: '403' }),
    () => Promise.resolve(new Slow()), () => Promise.reject(new Slow()), () => Object.assign(new Error('x'), { statusCode: 600 }),
  ] as (() => never)[]
  for (const refuse of answers) {
    const { call, handled, log } = await build(t, { address: ['1/minute'], refuse }, (app, done) => {
      app.get('/', { config: open }, done)
    })
    await call('/')
    t.match(await call('/'), { status: 429, code: 'FST_BASTION_LIMITS_EXCEEDED', body: { type: QUOTA }, headers: { 'retry-after': /^\d+$/, location: undefined } }, refuse.toString())
    t.equal(handled.count, 1)
    t.match(log.join(''), 'limits: refuse', 'the log says why')
  }
  await new Promise(setImmediate)
})

t.test('only errors of this suite say more in a problem: what others hold is not shown', async t => {
  const { call } = await build(t, { address: ['1/minute'], refuse: () => Object.assign(new Slow(), { type: QUOTA, 'violated-policies': ['secret'], violatedPolicies: ['secret'], problem: { type: QUOTA } }) }, (app, done) => {
    app.get('/', { config: open }, done)
  })
  await call('/')
  const { status, body } = await call('/')
  t.equal(status, 402)
  t.strictSame(Object.keys(body).sort(), ['code', 'detail', 'requestId', 'status', 'title', 'type'])
  t.equal(body.type, 'about:blank')
})
