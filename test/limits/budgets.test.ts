/** Limits: budgets that count what they should, once, for whom they should. */
import { readFile } from 'node:fs/promises'
import { runInNewContext } from 'node:vm'
import Fastify from 'fastify'
import { createError } from '@fastify/error'
import rateLimit from '@fastify/rate-limit'
import t from 'tap'
import type { LimitRule } from '../../plugins/limits/index.js'
import { as, build, from, open, passes } from './service.js'

const Wrong = createError('FST_TEST_WRONG', 'wrong', 401)

t.test('by default an anonymous address has 300 a minute, a principal 1000 [ASVS 2.4.1]', async t => {
  const { call, clock, handled, recorded } = await build(t, {}, (app, done) => {
    app.get('/', { config: open }, done)
  })
  t.equal(await passes(300, () => call('/')), 300)
  const refused = await call('/')
  t.match(refused, { status: 429, code: 'FST_BASTION_LIMITS_EXCEEDED' })
  t.equal(handled.count, 300, 'the handler did not run')
  t.match(recorded, [{ type: 'rate_limited', route: '/', details: { limit: 300 } }])
  t.equal((await call('/', from('192.0.2.9'))).status, 200, 'another address has its own')
  t.equal(await passes(1000, () => call('/', as('ada'))), 1000, 'a principal does not spend what its address has')
  t.equal((await call('/', as('ada'))).status, 429)
  t.equal((await call('/', { ...as('ada'), ...from('192.0.2.9') })).status, 429, 'and takes its budget along to another address')
  t.equal((await call('/', as('ada', { kind: 'key', via: 'key' }))).status, 200, 'a key is not the user of the same id')
  clock.ms += 120_000
  t.equal((await call('/')).status, 200)
})

t.test('a number that is told is the same on the wire and beside it, however many digits it has', async t => {
  const limits = [1, 10, 100, 999, 1000, 1001, 1100, 10_000, 100_001, 1_000_000, 1_000_001, 12_345_678]
  const { app, call } = await build(t, {}, (app, done) => {
    for (const limit of limits) app.get(`/${limit}`, { config: { ...open, limits: [`${limit}/day`] } }, done)
  })
  const url = await app.listen({ port: 0 })
  for (const limit of limits) {
    const told = (remaining: number) => ({ remaining: String(remaining), reset: String(2 * 86_400), structured: `"${limit}/day";r=${remaining};t=${2 * 86_400}` })
    const read = (header: (name: string) => unknown) => ({ remaining: header('x-ratelimit-remaining'), reset: header('x-ratelimit-reset'), structured: header('ratelimit') })
    const wire = await fetch(`${url}/${limit}`)
    t.same(read(name => wire.headers.get(name)), told(limit - 1))
    const { headers } = await call(`/${limit}`, from('192.0.2.9'))
    t.same(read(name => headers[name]), told(limit - 1))
  }
})

t.test('every answer tells the budget, in both vocabularies', async t => {
  const { call, clock } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: ['2/second', '3/minute'] } }, done)
  })
  t.match((await call('/')).headers, {
    'x-ratelimit-limit': '2',
    'x-ratelimit-remaining': '1',
    'x-ratelimit-reset': '2',
    'ratelimit-policy': '"2/second";q=2;w=1, "3/minute";q=3;w=60',
    ratelimit: '"2/second";r=1;t=2',
    'retry-after': undefined,
  })
  await call('/')
  const { status, headers } = await call('/')
  t.equal(status, 429)
  t.match(headers, { 'x-ratelimit-limit': '2', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '2', 'retry-after': '2', ratelimit: '"2/second";r=0;t=2', 'ratelimit-policy': /3\/minute/ })
  clock.ms += 2000
  t.match((await call('/')).headers, { 'x-ratelimit-limit': '3', 'x-ratelimit-remaining': '0', ratelimit: '"3/minute";r=0;t=118' }, 'the window nearest to its limit is told')
  const later = await call('/')
  t.equal(later.status, 429)
  const wait = Number(later.headers['retry-after'])
  clock.ms += (wait - 1) * 1000
  t.equal((await call('/')).status, 429)
  clock.ms += 1000
  t.equal((await call('/')).status, 200, 'who comes back when Retry-After says passes')
})

t.test('a route has its own windows, or none', async t => {
  const { call, clock } = await build(t, { address: ['2/minute'] }, (app, done) => {
    app.get('/default', { config: open }, done)
    app.get('/own', { config: { ...open, limits: ['1/second', '4/minute'] } }, done)
    app.get('/none', { config: { ...open, limits: false } }, done)
  })
  t.equal(await passes(50, () => call('/none')), 50)
  t.equal((await call('/none')).headers['x-ratelimit-limit'], undefined)
  t.equal(await passes(5, () => call('/default')), 2)
  t.equal(await passes(5, () => call('/own')), 1, 'it does not share the default budget')
  clock.ms += 2000
  t.equal(await passes(5, () => call('/own')), 1)
})

t.test('a default budget can be switched off', async t => {
  const { call } = await build(t, { address: false, principal: ['1/minute'] }, (app, done) => {
    app.get('/', { config: open }, done)
  })
  t.equal(await passes(400, () => call('/')), 400)
  t.equal(await passes(3, () => call('/', as('ada'))), 1)
})

t.test('several windows on one route hold together [TRAP 5]', async t => {
  const { call, clock } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['2/second', '5/minute'], algorithm: 'fixed' } } }, done)
  })
  let passed = 0
  for (let second = 0; second < 10; second++) {
    passed += await passes(10, () => call('/'))
    clock.ms += 1000
  }
  t.equal(passed, 5, 'two, two, one; and what was refused cost nothing of the minute')

  t.test('negative control: a second official limiter on a route is skipped', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(rateLimit, { global: false })
    app.get('/', { onRequest: [app.rateLimit({ max: 100, timeWindow: 1000 }), app.rateLimit({ max: 5, timeWindow: 60_000 })] }, async () => 'in')
    let inside = 0
    for (let i = 0; i < 20; i++) if ((await app.inject('/')).statusCode === 200) inside += 1
    t.equal(inside, 20, 'five a minute were meant')
  })
})

t.test('routes of one group share one budget', async t => {
  const { call } = await build(t, {}, (app, done) => {
    const config = { ...open, limits: { windows: ['3/minute'], group: 'search' } }
    app.get('/a', { config }, done)
    app.post('/b', { config }, done)
    app.get('/alone', { config: { ...open, limits: ['3/minute'] } }, done)
  })
  t.equal(await passes(2, () => call('/a')), 2)
  t.equal(await passes(3, () => call('/b', { method: 'POST' })), 1)
  t.equal(await passes(5, () => call('/alone')), 3)
})

t.test('a request may cost more than one', async t => {
  const { call } = await build(t, {}, (app, done) => {
    app.get('/search', { config: { ...open, limits: { windows: ['10/minute'], cost: 3 } } }, done)
    app.get('/a', { config: { ...open, limits: { windows: ['10/minute'], group: 'g', cost: 4 } } }, done)
    app.get('/b', { config: { ...open, limits: { windows: ['10/minute'], group: 'g' } } }, done)
  })
  t.equal(await passes(10, () => call('/search')), 3)
  t.equal(await passes(2, () => call('/a')), 2)
  t.equal(await passes(10, () => call('/b')), 2)
})

t.test('a HEAD spends the budget of its GET [TRAP 4]', async t => {
  const { call } = await build(t, {}, (app, done) => {
    app.get('/twin', { config: { ...open, limits: ['4/minute'] } }, done)
    app.head('/own', { config: { ...open, limits: ['4/minute'] } }, done)
    app.get('/own', { config: { ...open, limits: ['4/minute'] } }, done)
  })
  for (const url of ['/twin', '/own']) {
    t.equal(await passes(3, () => call(url, { method: 'HEAD' })), 3)
    t.equal(await passes(3, () => call(url)), 1)
    t.equal(await passes(3, () => call(url, { method: 'HEAD' })), 0)
  }

  t.test('negative control: with the official plugin the twin has a budget of its own', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(rateLimit, { global: false })
    app.get('/', { config: { rateLimit: { max: 4, timeWindow: 60_000 } } }, async () => 'in')
    let inside = 0
    for (let i = 0; i < 10; i++) {
      for (const method of ['GET', 'HEAD'] as const) if ((await app.inject({ method, url: '/' })).statusCode === 200) inside += 1
    }
    t.equal(inside, 8)
  })
})

t.test('unknown URLs, malformed ones and over-long parameters are counted [TRAP 2]', async t => {
  const { call } = await build(t, { address: ['3/minute'] }, (app, done) => {
    app.get('/known/:id', { config: open }, done)
  })
  const seen: unknown[] = []
  for (const url of ['/nowhere', '/%zz', `/known/${'x'.repeat(300)}`, '/nowhere/else', '/%zz', `/known/${'x'.repeat(300)}`, '/known/1']) {
    const { status, code } = await call(url)
    seen.push(status, code)
  }
  t.same(seen, [
    404, 'FST_BASTION_ERRORS_NOT_FOUND', 400, 'FST_ERR_BAD_URL', 414, 'FST_ERR_MAX_PARAM_LENGTH',
    ...Array(4).fill([429, 'FST_BASTION_LIMITS_EXCEEDED']).flat(),
  ])

  t.test('negative control: the official plugin lets a scanner ask for a hundred', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(rateLimit, { max: 3, timeWindow: 60_000 })
    app.get('/known', async () => 'in')
    for (let i = 0; i < 100; i++) t.equal((await app.inject(i % 2 === 0 ? '/nowhere' : '/%zz')).statusCode, i % 2 === 0 ? 404 : 400)
  })
})

t.test('failed credentials are counted before they are refused [TRAP 1, ASVS 6.3.1]', async t => {
  const { call, handled } = await build(t, { address: ['5/minute'] }, (app, done) => {
    app.get('/', { config: { access: 'user' } }, done)
  })
  const seen = []
  for (let i = 0; i < 50; i++) seen.push((await call('/', as('ada', { credential: 'broken' }))).status)
  t.same([...new Set(seen.slice(0, 5))], [401])
  t.same([...new Set(seen.slice(5))], [429])
  t.equal((await call('/')).status, 429, 'so is no credential at all')
  t.equal(handled.count, 0)
  t.equal((await call('/', as('ada'))).status, 200, 'who is known is not locked out by a neighbour')

  t.test('negative control: an authentication hook and the official plugin, as their documentation shows them', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(rateLimit, { max: 5, timeWindow: 60_000 })
    app.addHook('onRequest', async request => { if (request.headers['x-user'] === 'wrong') throw new Wrong() })
    app.get('/', async () => 'in')
    for (let i = 0; i < 50; i++) t.equal((await app.inject({ url: '/', headers: { 'x-user': 'wrong' } })).statusCode, 401)
  })
})

t.test('every spelling of a URL that reaches a route spends the route\'s budget [TRAP 22]', async t => {
  const spellings = ['/search', '/SEARCH', '/%73earch', '/search/', '/search?x=1', '/sEaRcH;a=1', '//search']
  const fastify = { routerOptions: { caseSensitive: false, ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, useSemicolonDelimiter: true } }
  const { call, handled } = await build(t, {}, (app, done) => {
    app.get('/search', { config: { ...open, limits: ['3/minute'] } }, done)
  }, { fastify })
  let i = 0
  t.equal(await passes(70, () => call(spellings[i++ % spellings.length]!)), 3)
  t.equal(handled.count, 3)

  t.test('the two routes that a prefix makes are one budget', async t => {
    const { call } = await build(t, {}, async (app, done) => {
      await app.register(async scope => { scope.get('/', { config: { ...open, limits: ['3/minute'] } }, done) }, { prefix: '/v1' })
    })
    t.equal(await passes(4, () => call('/v1')), 3)
    t.equal(await passes(4, () => call('/v1/')), 0)
    for (const url of ['/v1', '/v1/']) t.equal(await passes(2, () => call(url, { method: 'HEAD' })), 0, 'and so are their twins')
  })

  t.test('negative control: a budget that hangs on the text of the URL', async t => {
    const app = Fastify(fastify)
    t.teardown(() => app.close())
    await app.register(rateLimit, { max: 3, timeWindow: 60_000, keyGenerator: request => `${request.ip} ${request.url}` })
    app.get('/search', async () => 'in')
    for (const url of spellings) for (let n = 0; n < 3; n++) t.equal((await app.inject(url)).statusCode, 200)
  })
})

t.test('the rule that README shows does what it says', async t => {
  const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8')
  const sample = /### Limits\n\n```ts\nconfig: (\{[\s\S]*?\n\})\n```/.exec(readme)?.[1]
  t.ok(sample, 'the sample is in README')
  const { limits } = runInNewContext(`(${sample})`) as { limits: LimitRule }
  const { app, call, clock } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: JSON.parse(JSON.stringify(limits)) } }, done)
  })
  t.equal(await passes(9, () => call('/', as('ada', { plan: 'free' }))), 9)
  t.equal(await passes(9, () => call('/', as('ada', { plan: 'free' }))), 3, 'sixty a minute, at five each')
  t.equal(await passes(99, () => call('/')), 1, 'five a second')
  clock.ms += 10_000
  t.match(await call('/'), { status: 429, body: { type: /#abnormal-usage-detected$/ } }, 'twenty refusals are a ban')
  t.match(app.limits.budgets().at(-1), { name: 'group:search', by: ['caller', 'method'] })
})
