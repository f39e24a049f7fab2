/** Limits: budgets that count what they should, once, for whom they should. */
import { createServer } from 'node:http'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify, { type FastifyInstance, type FastifyServerOptions, type InjectOptions } from 'fastify'
import { createError } from '@fastify/error'
import rateLimit, { normalizeIP } from '@fastify/rate-limit'
import t, { type Test } from 'tap'
import access from '../plugins/access/index.js'
import { addressKey } from '../plugins/address.js'
import errors from '../plugins/errors.js'
import events, { type SecurityEvent } from '../plugins/events.js'
import identity from '../plugins/identity.js'
import limits, { type LimitsOptions } from '../plugins/limits/index.js'
import { parseWindow } from '../plugins/limits/windows.js'
import plan from '../plugins/plan/index.js'
import { server } from '../plugins/server.js'
import state from '../plugins/state/index.js'

interface Built { app: FastifyInstance, clock: { ms: number }, recorded: SecurityEvent[], handled: { count: number }, call: (url: string, more?: InjectOptions) => Promise<Answer> }
interface Answer { status: number, code: string | undefined, headers: Record<string, unknown> }

const Wrong = createError('FST_TEST_WRONG', 'wrong', 401)

async function build (t: Test, options: LimitsOptions = {}, routes: (app: FastifyInstance, done: () => unknown) => void | Promise<void> = () => {}, fastify: FastifyServerOptions = {}): Promise<Built> {
  const clock = { ms: 1_700_000_000_000 }
  const recorded: SecurityEvent[] = []
  const handled = { count: 0 }
  const app = Fastify(server({ logger: false, fastify }))
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(state, { now: () => clock.ms })
  await app.register(identity)
  await app.register(limits, options)
  await app.register(access, {})
  app.identity.reader({
    name: 'test',
    read ({ headers }) {
      const name = headers['x-user'] as string | undefined
      if (name === undefined) return null
      if (name === 'wrong') return { failure: new Wrong() }
      const kind = name.startsWith('key') ? 'key' as const : 'user' as const
      return { principal: { kind, id: name.replace('key ', ''), userId: name, roles: [], via: kind === 'key' ? 'key' : 'bearer', authTime: 0, credentialId: name } }
    },
  })
  app.events.listen(event => { recorded.push(event) })
  await routes(app, () => {
    handled.count += 1
    return 'in'
  })
  await app.ready()
  return {
    app,
    clock,
    recorded,
    handled,
    async call (url, more = {}) {
      const answer = await app.inject({ url, ...more })
      let code
      try { code = answer.json().code } catch {}
      return { status: answer.statusCode, code, headers: answer.headers }
    },
  }
}

async function passes (times: number, call: () => Promise<{ status: number }>): Promise<number> {
  let passed = 0
  for (let i = 0; i < times; i++) if ((await call()).status < 400) passed += 1
  return passed
}

const open = { access: 'public' } as const
const from = (remoteAddress: string): InjectOptions => ({ remoteAddress })
const as = (user: string): InjectOptions => ({ headers: { 'x-user': user } })

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
  t.equal((await call('/', as('key ada'))).status, 200, 'a key is not the user of the same id')
  clock.ms += 120_000
  t.equal((await call('/')).status, 200)
})

t.test('every answer tells the budget, in both vocabularies', async t => {
  const { call, clock } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: ['2/second', '3/minute'] } }, done)
  })
  t.match((await call('/')).headers, {
    'x-ratelimit-limit': '2',
    'x-ratelimit-remaining': '1',
    'x-ratelimit-reset': '2',
    'ratelimit-policy': '"w0";q=2;w=1, "w1";q=3;w=60',
    ratelimit: '"w0";r=1;t=2',
    'retry-after': undefined,
  })
  await call('/')
  const { status, headers } = await call('/')
  t.equal(status, 429)
  t.match(headers, { 'x-ratelimit-limit': '2', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '2', 'retry-after': '2', ratelimit: '"w0";r=0;t=2', 'ratelimit-policy': /w1/ })
  clock.ms += 2000
  t.match((await call('/')).headers, { 'x-ratelimit-limit': '3', 'x-ratelimit-remaining': '0', ratelimit: '"w1";r=0;t=118' }, 'the window nearest to its limit is told')
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

t.test('by address, by principal, by what a service says', async t => {
  const { call } = await build(t, {}, (app, done) => {
    const limited = (by: 'address' | 'principal' | ((request: { headers: Record<string, unknown> }) => string)) => ({ ...open, limits: { windows: ['2/minute'], by } })
    app.get('/address', { config: limited('address') }, done)
    app.get('/principal', { config: limited('principal') }, done)
    app.get('/custom', { config: limited(({ headers }) => headers['x-tenant'] as string) }, done)
  })
  t.equal(await passes(1, () => call('/address', as('ada'))), 1)
  t.equal(await passes(1, () => call('/address', as('ben'))), 1)
  t.equal(await passes(1, () => call('/address', as('cleo'))), 0, 'an address, whoever signs in from it')

  t.equal(await passes(3, () => call('/principal', as('ada'))), 2)
  t.equal(await passes(3, () => call('/principal', { ...as('ada'), ...from('192.0.2.9') })), 0)
  t.equal(await passes(3, () => call('/principal', as('ben'))), 2)
  t.equal(await passes(3, () => call('/principal')), 2, 'nobody counts by address')

  const tenant = (name: string): InjectOptions => ({ headers: { 'x-tenant': name } })
  t.equal(await passes(3, () => call('/custom', tenant('red'))), 2)
  t.equal(await passes(3, () => call('/custom', tenant('blue'))), 2)
})

t.test('a custom key that is empty, no text, or very long does not open a budget', async t => {
  const keys: unknown[] = []
  const { call } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['2/minute'], by: () => keys.shift() as string } } }, done)
  })
  keys.push(undefined, {}, [], '', 5)
  t.equal(await passes(5, () => call('/')), 2, 'they count with the address of the caller')
  keys.push({}, undefined)
  t.equal(await passes(2, () => call('/', from('192.0.2.9'))), 2)
  const long = 'k'.repeat(10_000)
  keys.push(long, long, long, `${long}x`)
  t.equal(await passes(4, () => call('/')), 3)
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc') as () => void
  const used = () => {
    collectGarbage()
    return process.memoryUsage().heapUsed
  }
  const before = used()
  for (let i = 0; i < 2000; i++) {
    keys.push(Buffer.alloc(100_000, `${i} `).toString())
    await call('/')
  }
  t.ok(used() - before < 60e6, `${used() - before} bytes are kept of two hundred million`)
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

t.test('IPv6: a network of 2⁶⁴ addresses is one caller, with custom keys too [TRAP 8]', async t => {
  const { call, app } = await build(t, { address: ['3/minute'] }, (app, done) => {
    app.get('/', { config: open }, done)
    app.get('/custom', { config: { ...open, limits: { windows: ['3/minute'], by: request => request.ip } } }, done)
    app.get('/part', { config: { ...open, limits: { windows: ['3/minute'], by: request => `${addressKey(request.ip)} part` } } }, done)
    app.get('/check', { config: { ...open, limits: false } }, async request => {
      await app.limits.check('checked', ['3/minute'], request.ip)
      return done()
    })
  })
  for (const url of ['/', '/custom', '/part', '/check']) {
    let i = 0
    t.equal(await passes(50, () => call(url, from(`2001:db8:0:1:${(i++).toString(16)}:${i * 7}::${i}`))), 3, url)
    t.equal(await passes(1, () => call(url, from('2001:db8:0:2::1'))), 1, 'the next network is another caller')
    t.equal(await passes(3, () => call(url, from('192.0.2.1'))), 3)
    t.equal(await passes(3, () => call(url, from('::ffff:192.0.2.1'))), 0, 'one IPv4 address in two clothes')
  }
  t.ok(app)

  t.test('negative control: the official plugin with a key function of one\'s own', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(rateLimit, { max: 3, timeWindow: 60_000, keyGenerator: request => request.ip })
    app.get('/', async () => 'in')
    for (let i = 0; i < 50; i++) t.equal((await app.inject({ url: '/', remoteAddress: `2001:db8:0:1::${i}` })).statusCode, 200)
  })
})

t.test('addressKey: the same network is the same key, however it is written', async t => {
  for (const [addresses, key] of [
    [['192.0.2.1', '::ffff:192.0.2.1', '::FFFF:192.0.2.1', '0:0:0:0:0:ffff:c000:201', '192.0.2.1:4711', '[::ffff:192.0.2.1]:4711'], '192.0.2.1'],
    [['2001:db8::1', '2001:DB8:0:0:ffff::', '2001:0db8:0000:0000:1:2:3:4', '[2001:db8::1]:443', '[2001:db8::1]', '2001:db8::192.0.2.1'], '2001:db8:0:0::/64'],
    [['::1', '::', '::ffff:abcd', '::192.0.2.1'], '0:0:0:0::/64'],
    [['fe80::1%eth0', 'fe80::2%1'], 'fe80:0:0:0::/64'],
    [['unknown', undefined as never], 'unknown'],
    [['_hidden:5'], '_hidden:5'],
  ] as [string[], string][]) for (const address of addresses) t.equal(addressKey(address), key, address)

  // The official plugin's own function says the same of random addresses.
  const keys = new Map<string, string>()
  for (let i = 0; i < 2000; i++) {
    const groups = Array.from({ length: 8 }, () => Math.random() < 0.5 ? 0 : Math.floor(Math.random() * 4))
    const text = groups.map(group => group.toString(16)).join(':')
    const address = Math.random() < 0.5 ? text : text.replace(/(?:^|:)0(?::0)+(?::|$)/, '::')
    const theirs = normalizeIP(address, 64)
    const known = keys.get(theirs) ?? addressKey(address)
    keys.set(theirs, known)
    if (known !== addressKey(address)) t.fail(`${address}: ${known} and ${addressKey(address)}`)
  }
  t.equal(new Set(keys.values()).size, keys.size)
})

t.test('failed credentials are counted before they are refused [TRAP 1, ASVS 6.3.1]', async t => {
  const { call, handled } = await build(t, { address: ['5/minute'] }, (app, done) => {
    app.get('/', { config: { access: 'user' } }, done)
  })
  const seen = []
  for (let i = 0; i < 50; i++) seen.push((await call('/', as('wrong'))).status)
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
  }, fastify)
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

t.test('the flood guard stands before everything, whatever the request is', async t => {
  const { call, handled, recorded } = await build(t, { flood: { max: 5, timeWindow: 60_000 } }, (app, done) => {
    app.get('/none', { config: { ...open, limits: false } }, done)
    app.get('/user', { config: { access: 'user' } }, done)
  })
  const seen = []
  for (const [url, more] of [['/none'], ['/nowhere'], ['/%zz'], ['/user', as('wrong')], ['/user', as('ada')], ['/none'], ['/nowhere'], ['/%zz'], ['/user', as('ada')], ['/none']] as [string, InjectOptions?][]) {
    seen.push((await call(url, more)).status)
  }
  t.same(seen, [200, 404, 400, 401, 200, 429, 429, 429, 429, 429])
  t.equal(handled.count, 2)
  t.equal(Number((await call('/none')).headers['retry-after']) > 0, true)
  t.equal((await call('/none', from('192.0.2.9'))).status, 200)
  t.equal(recorded.filter(({ type, details }) => type === 'rate_limited' && details.flood === true).length, 1, 'a flood of events is one too')
  let i = 0
  t.equal(await passes(20, () => call('/none', from(`2001:db8::${i++}`))), 5)
})

t.test('without the flood guard the budgets hold', async t => {
  const { call } = await build(t, { flood: false, address: ['3/minute'] }, (app, done) => {
    app.get('/', { config: open }, done)
    app.get('/none', { config: { ...open, limits: false } }, done)
  })
  t.equal(await passes(100, () => call('/none')), 100)
  t.equal(await passes(5, () => call('/')), 3)
})

t.test('what a service says to @fastify/rate-limit goes on working', async t => {
  const { call, app } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: false, rateLimit: { max: 2, timeWindow: 60_000 } } }, done)
  })
  t.equal(await passes(2, () => call('/')), 2)
  const refused = await app.inject('/')
  t.equal(refused.statusCode, 429)
  t.match(refused.headers['content-type'], /problem\+json/)
  t.ok(refused.headers['retry-after'])
})

t.test('app.limits.check: a budget by hand', async t => {
  const { app, call, clock, recorded } = await build(t, {}, app => {
    app.get('/', { config: { ...open, limits: false } }, async request => {
      const { cost } = request.query as { cost?: string }
      const { remaining } = await app.limits.check('mails', ['3/hour', '10/day'], 'ada@example.test', cost === undefined ? 1 : Number(cost))
      return { remaining }
    })
  })
  t.equal((await app.inject('/')).json().remaining, 2)
  t.equal((await app.inject('/?cost=2')).json().remaining, 0)
  const refused = await call('/')
  t.match(refused, { status: 429, code: 'FST_BASTION_LIMITS_EXCEEDED' })
  t.match(recorded, [{ type: 'rate_limited', details: { name: 'mails', limit: 3 } }])
  const wait = Number(refused.headers['retry-after'])
  clock.ms += wait * 1000
  t.equal((await call('/')).status, 200)
  await app.limits.check('mails', ['3/hour', '10/day'], 'somebody else')
  t.throws(() => app.limits.check('mails', ['4/hour'], 'ada'), TypeError)
  t.throws(() => app.limits.check('mails', ['3/hour', '10/day'], 'ada', 0.5), TypeError)
  t.throws(() => app.limits.check('other', ['often'], 'ada'), { code: 'FST_BASTION_LIMITS_MISCONFIGURED' })
})

t.test('over a real socket that listens on both families, an IPv4 client is its IPv4 address', async t => {
  const { app } = await build(t, { address: ['3/minute'] }, app => {
    app.get('/', { config: open }, async request => request.ip)
  })
  const probe = createServer()
  const hasIPv6 = await new Promise(resolve => probe.once('error', () => resolve(false)).listen(0, '::', () => probe.close(() => resolve(true))))
  const url = await app.listen({ port: 0, host: hasIPv6 === true ? '::' : '127.0.0.1' })
  const { port } = new URL(url)
  const seen = []
  for (let i = 0; i < 5; i++) seen.push((await fetch(`http://127.0.0.1:${port}/`)).status)
  t.same(seen, [200, 200, 200, 429, 429])
})

t.test('windows, as people write them', async t => {
  for (const [text, limit, ms] of [
    ['5/second', 5, 1000], ['5/s', 5, 1000], ['100/minute', 100, 60_000], ['30/15m', 30, 900_000], ['30/15 minutes', 30, 900_000],
    ['1/hour', 1, 3_600_000], ['10/2h', 10, 7_200_000], ['1000/day', 1000, 86_400_000], ['7/7d', 7, 604_800_000],
  ] as const) t.same(parseWindow(text), { limit, ms }, text)
  for (const text of ['', '5', '5/', '/second', '0/second', '-1/second', '5/0s', '1.5/second', '5/fortnight', '5/SECOND', ' 5/second', '5 /second', '1e3/second', '5/second ', '5/constructor', '5/__proto__']) {
    t.equal(parseWindow(text), null, JSON.stringify(text))
  }
})

t.test('a wrong budget of a route stops boot, and the message says which', async t => {
  for (const [rule, message] of [
    [['often'], /GET \/: limits: often is not of the form '5\/second'/],
    [[], /GET \/: limits: .*windows/],
    [true, /GET \/: limits: write windows/],
    [null, /GET \/: limits: write windows/],
    [100, /GET \/: limits: write windows/],
    ['5/second', /GET \/: limits: write windows/],
    [{ max: 5 }, /windows: /],
    [{ windows: ['5/second'], by: 'ip' }, /by: /],
    [{ windows: ['5/second'], algorithm: 'leaky' }, /algorithm: /],
    [{ windows: ['5/second'], cost: 0 }, /cost: /],
    [{ windows: ['5/second'], cost: 1.5 }, /cost: /],
    [{ windows: ['5/second'], cost: NaN }, /cost: /],
    [{ windows: ['50/second', '5/minute'], cost: 6 }, /a cost of 6 never fits into "5\/minute"/],
    [{ windows: ['5/second'], group: '' }, /group: /],
    [{ windows: Array(9).fill('5/second') }, /windows: /],
  ] as [never, RegExp][]) {
    await t.rejects(build(t, {}, (app, done) => { app.get('/', { config: { ...open, limits: rule } }, done) }), { code: 'FST_BASTION_PLAN_REFUSED', message }, JSON.stringify(rule))
  }
  await t.rejects(build(t, {}, (app, done) => {
    app.get('/a', { config: { ...open, limits: { windows: ['5/second'], group: 'g' } } }, done)
    app.get('/b', { config: { ...open, limits: { windows: ['50/second'], group: 'g' } } }, done)
  }), { code: 'FST_BASTION_PLAN_REFUSED', message: /GET \/b: counter limits:group:g: is there already/ }, 'one group with two budgets')
})

t.test('wrong options stop boot, and the message names them', async t => {
  for (const [options, message] of [
    [{ address: ['often'] }, /often/],
    [{ address: [] }, /address/],
    [{ principal: '5/second' }, /principal/],
    [{ algorithm: 'leaky' }, /algorithm/],
    [{ flood: { max: 'many', timeWindow: 1000 } }, /flood/],
    [{ max: 5 }, /max/],
  ] as const) await t.rejects(build(t, options as never), { code: 'FST_BASTION_LIMITS_MISCONFIGURED', message }, JSON.stringify(options))
})
