/** Limits: who shares a budget, and that nobody spends or opens that of another. */
import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify, { type FastifyRequest, type InjectOptions } from 'fastify'
import rateLimit from '@fastify/rate-limit'
import t from 'tap'
import { addressKey } from '../../plugins/address.js'
import { subjects } from '../../plugins/limits/index.js'
import { as, build, from, open, passes } from './service.js'

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

t.test('by key: each API key has a budget of its own, everybody else counts as a caller', async t => {
  const { call } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['2/minute'], by: 'key' } } }, done)
  })
  const key = (credentialId: string) => as('k1', { kind: 'key', via: 'key', userId: 'ada', credentialId })
  t.equal(await passes(3, () => call('/', key('one'))), 2)
  t.equal(await passes(3, () => call('/', key('two'))), 2, 'of the same user')
  t.equal(await passes(3, () => call('/', as('ada'))), 2, 'and the user has theirs')
  t.equal(await passes(3, () => call('/', as('k1', { credentialId: 'one' }))), 2, 'a user of the same id and credential is no key')
  t.equal(await passes(3, () => call('/')), 2)
})

t.test('by plan: all callers of a plan together; who has none, for themselves', async t => {
  const { call } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['3/minute'], by: 'plan' } } }, done)
  })
  t.equal(await passes(5, i => call('/', as(`user${i}`, { plan: 'free' }))), 3)
  t.equal(await passes(5, i => call('/', as(`user${i}`, { plan: 'pro' }))), 3)
  t.equal(await passes(4, i => call('/', as(`user${i}`))), 4)
  t.equal(await passes(4, i => call('/', as(`other${i}`, { plan: null as never }))), 4)
  t.equal(await passes(4, i => call('/', from(`192.0.2.${i}`))), 4)
})

t.test('by route: everybody together, on that route', async t => {
  const { call } = await build(t, {}, (app, done) => {
    const config = { ...open, limits: { windows: ['3/minute'], by: 'route', group: 'g' } } as const
    app.get('/a', { config }, done)
    app.get('/b', { config }, done)
    app.get('/a/', { config }, done)
  })
  t.equal(await passes(5, i => call(i % 2 === 0 ? '/a' : '/a/', { ...from(`192.0.2.${i}`), ...(i > 2 && as(`user${i}`)) })), 3)
  t.equal(await passes(5, i => call('/b', from(`192.0.2.${i}`))), 3, 'another route of the group has its own')
  t.equal(await passes(2, () => call('/a', { method: 'HEAD' })), 0)
})

t.test('by address and method: the methods of a route, or of a group, do not share', async t => {
  const { call } = await build(t, {}, (app, done) => {
    app.route({ method: ['GET', 'POST', 'DELETE'], url: '/one', config: { ...open, limits: { windows: ['2/minute'], by: ['address', 'method'] } }, handler: done })
    const config = { ...open, limits: { windows: ['2/minute'], by: ['method', 'address', 'route'], group: 'g' } } as const
    app.get('/a', { config }, done)
    app.post('/a', { config }, done)
    app.get('/shared', { config: { ...open, limits: { windows: ['2/minute'], by: 'method', group: 'm' } } }, done)
    app.post('/shared', { config: { ...open, limits: { windows: ['2/minute'], by: 'method', group: 'm' } } }, done)
  })
  for (const url of ['/one', '/a']) {
    t.equal(await passes(3, () => call(url)), 2)
    t.equal(await passes(3, () => call(url, { method: 'HEAD' })), 0, 'a HEAD is a GET')
    t.equal(await passes(3, () => call(url, { method: 'POST' })), 2)
    t.equal(await passes(3, () => call(url, from('192.0.2.9'))), 2)
  }
  t.equal(await passes(3, i => call('/shared', from(`192.0.2.${i}`))), 2)
  t.equal(await passes(3, i => call('/shared', { method: 'POST', ...from(`192.0.2.${i}`) })), 2)
})

t.test('no text that a client chooses spends the budget of somebody else', async t => {
  const tenant = ({ headers }: FastifyRequest) => headers['x-tenant'] as string
  const shop = ({ headers }: FastifyRequest) => headers['x-shop'] as string
  const said = (name: string): InjectOptions => ({ headers: { 'x-tenant': name }, ...from('192.0.2.66') })
  const { call } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['2/minute'], by: tenant } } }, done)
    app.get('/both', { config: { ...open, limits: { windows: ['2/minute'], by: [tenant, 'caller'] } } }, done)
    app.get('/two', { config: { ...open, limits: { windows: ['2/minute'], by: [tenant, shop] } } }, done)
  })
  for (const text of ['192.0.2.1', 'address:192.0.2.1', 'address:192.0.2.1|', 'custom:', '127.0.0.1']) await passes(3, () => call('/', said(text)))
  t.equal(await passes(3, () => call('/', from('192.0.2.1'))), 2, 'who names no tenant counts by address, and has all of it')

  const long = 'k'.repeat(200)
  t.equal(await passes(3, () => call('/', said(long))), 2)
  const hash = createHash('sha256').update(long).digest('base64url')
  for (const text of [hash, `sha256:${hash}`, `custom-sha256:${hash}`, `-sha256:${hash}`]) t.equal(await passes(3, () => call('/', said(text))), 2, 'the hash of a long text is another text')

  // `red|address:192.0.2.1` and the rest of it is neither `red` from that address, nor with another end.
  for (const text of ['red|address:192.0.2.1', 'red|user:ada', 'red%7Cuser:ada']) t.equal(await passes(3, () => call('/both', said(text))), 2)
  t.equal(await passes(3, () => call('/both', { ...as('ada'), headers: { ...as('ada').headers, 'x-tenant': 'red' } })), 2)

  // Two texts of the client: what ends one must not begin the other.
  for (const [one, other] of [['x', 'y|custom:z'], ['x|custom:y', 'z'], ['x%7Ccustom:y', 'z'], ['x', 'y%7Ccustom:z']]) {
    t.equal(await passes(3, () => call('/two', { headers: { 'x-tenant': one!, 'x-shop': other! } })), 2, `${one} and ${other}`)
  }

  const { call: ask } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['2/minute'], by: ['principal', 'method'] } } }, done)
  })
  for (const id of ['ada|method:GET', 'ada%7Cmethod:GET', 'ada', 'address:127.0.0.1', 'ada|user:ada']) t.equal(await passes(3, () => ask('/', as(id))), 2, id)
  t.equal(await passes(3, () => ask('/')), 2)

  t.test('negative control: the key function that the documentation of the official plugin shows', async t => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(rateLimit, { max: 2, timeWindow: 60_000, keyGenerator: request => request.headers['x-tenant'] as string ?? request.ip })
    app.get('/', async () => 'in')
    for (let i = 0; i < 2; i++) await app.inject({ url: '/', ...said('192.0.2.1') })
    t.equal((await app.inject({ url: '/', remoteAddress: '192.0.2.1' })).statusCode, 429, 'the victim is shut out by a stranger')
  })
})

t.test('a function that answers a promise is no subject, and its rejection ends no process', async t => {
  const { call } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['2/minute'], by: () => Promise.reject(new Error('away')) as never } } }, done)
  })
  t.equal(await passes(3, () => call('/')), 2, 'it counts by address')
  await new Promise(setImmediate)
})

t.test('what a function throws is an error of the request: the handler does not run', async t => {
  const { call, handled } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['2/minute'], by: () => { throw new Error('no tenant') } } } }, done)
  })
  t.match(await call('/'), { status: 500, code: 'FST_BASTION_HTTP_500' })
  t.equal(handled.count, 0)
})

t.test('subjects are written as they are counted', async t => {
  t.equal(subjects.address('203.0.113.9'), 'address:203.0.113.9')
  t.equal(subjects.address('::ffff:203.0.113.9'), 'address:203.0.113.9')
  t.equal(subjects.address('2001:db8::1'), 'address:2001:db8:0:0::/64')
  t.equal(subjects.custom('2001:db8::1'), 'custom:2001:db8:0:0::/64')
  for (const address of ['203.0.113.9', '203.0.113.9:1', '203.0.113.9:65535', '::ffff:203.0.113.9']) t.equal(subjects.custom(address), 'custom:203.0.113.9', 'a port makes no new subject')
  for (const address of ['[2001:db8::1]:443', '[2001:db8::7]', '2001:db8::1%eth0']) t.equal(subjects.custom(address), 'custom:2001:db8:0:0::/64')
  for (const text of ['a:b', 'tenant:7:2001', '12:30', ':', '203.0.113.9:1:2']) t.equal(subjects.custom(text), `custom:${text}`, 'what is no address stays as it is')
  t.equal(subjects.user('ada'), 'user:ada')
  t.equal(subjects.method('HEAD'), 'method:GET')
  t.equal(subjects.all(subjects.user('a|b%'), subjects.method('PUT')), 'user:a%7Cb%25|method:PUT')
  t.match(subjects.custom('k'.repeat(129)), /^custom-sha256:[\w-]{43}$/)
  t.equal(subjects.custom('k'.repeat(128)), `custom:${'k'.repeat(128)}`)
})
