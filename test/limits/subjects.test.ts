/** Limits: who shares a budget, and that nobody spends or opens that of another. */
import { createServer } from 'node:http'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify, { type InjectOptions } from 'fastify'
import rateLimit from '@fastify/rate-limit'
import t from 'tap'
import { addressKey } from '../../plugins/address.js'
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
