/** Limits: who is not counted, and who is. */
import Fastify from 'fastify'
import rateLimit from '@fastify/rate-limit'
import t from 'tap'
import { as, build, from, open, passes } from './service.js'

const windows = ['2/minute']

t.test('addresses and blocks are not counted, however they are written; others are', async t => {
  const { call } = await build(t, { address: windows, principal: windows, exempt: ['203.0.113.9', '10.0.0.0/8', '2001:db8::/32'] }, (app, done) => {
    app.get('/', { config: open }, done)
    app.get('/own', { config: { ...open, limits: windows } }, done)
  })
  for (const url of ['/', '/own']) {
    for (const address of ['203.0.113.9', '::ffff:203.0.113.9', '10.1.2.3', '::ffff:10.1.2.3', '2001:db8:1::1']) {
      t.equal(await passes(5, () => call(url, from(address))), 5, address)
      t.equal(await passes(5, () => call(url, { ...as('ada'), ...from(address) })), 5, 'whoever asks from there')
    }
    for (const address of ['203.0.113.10', '11.0.0.1', '::ffff:12.0.0.1', '2001:db9::1', '::10.0.0.1']) t.equal(await passes(5, () => call(url, from(address))), 2, address)
  }
  t.equal((await call('/', from('10.1.2.3'))).headers['x-ratelimit-limit'], undefined, 'they are told no budget')
})

t.test('a function may say who is not counted', async t => {
  const { call } = await build(t, { address: windows, principal: windows, exempt: ({ principal }) => principal?.id === 'monitor' }, (app, done) => {
    app.get('/', { config: open }, done)
  })
  t.equal(await passes(5, () => call('/', as('monitor'))), 5)
  t.equal(await passes(5, () => call('/', as('ada'))), 2)
  t.equal(await passes(5, () => call('/')), 2)
})

t.test('anything but true is no exemption: what fails, waits, or only looks like it', async t => {
  const answers = [
    () => { throw new Error('no') }, () => Promise.resolve(true), () => Promise.reject(new Error('no')), () => 'true', () => 1, () => ({}), () => [true], () => Object(true), () => undefined,
  ] as (() => never)[]
  for (const exempt of answers) {
    const { call, log } = await build(t, { address: windows, exempt }, (app, done) => {
      app.get('/', { config: open }, done)
    })
    t.equal(await passes(5, () => call('/')), 2, exempt.toString())
    if (exempt === answers[0]) t.match(log.join(''), 'whether a request is exempt from limits could not be decided', 'the log says so')
  }
  await new Promise(setImmediate)
})

t.test('a header that a client sends makes nobody exempt', async t => {
  const options = { address: windows, exempt: ['10.0.0.0/8'] }
  const declare: Parameters<typeof build>[2] = (app, done) => { app.get('/', { config: open }, done) }
  const spoofed = { headers: { 'x-forwarded-for': '10.0.0.1', 'x-real-ip': '10.0.0.1', forwarded: 'for=10.0.0.1' }, remoteAddress: '198.51.100.7' }
  const { call } = await build(t, options, declare)
  t.equal(await passes(5, () => call('/', spoofed)), 2)
  const { call: proxied } = await build(t, options, declare, { trustProxy: '192.0.2.1' })
  t.equal(await passes(5, () => proxied('/', spoofed)), 2, 'a stranger is no proxy')
  t.equal(await passes(5, () => proxied('/', { ...spoofed, remoteAddress: '192.0.2.1' })), 5, 'what the proxy says counts')

  t.test('negative control: the official allowList beside trustProxy: true', async t => {
    const app = Fastify({ trustProxy: true })
    t.teardown(() => app.close())
    await app.register(rateLimit, { max: 2, timeWindow: 60_000, allowList: ['10.0.0.1'] })
    app.get('/', async () => 'in')
    for (let i = 0; i < 5; i++) t.equal((await app.inject({ url: '/', ...spoofed })).statusCode, 200, 'any client says that it is exempt')
  })
})

t.test('whoever is exempt still meets the flood guard', async t => {
  const { call, handled } = await build(t, { address: windows, exempt: ['10.0.0.0/8'], flood: { max: 4, timeWindow: 60_000 } }, (app, done) => {
    app.get('/', { config: open }, done)
  })
  t.equal(await passes(9, () => call('/', from('10.0.0.1'))), 4)
  t.equal(handled.count, 4)
})

t.test('posture says who is exempt', async t => {
  const exempt = ['10.0.0.0/8']
  const promiseOf = async (options: Parameters<typeof build>[1]) => {
    const { app } = await build(t, options, (app, done) => {
      app.get('/', { config: open }, done)
      app.get('/own', { config: { ...open, limits: windows } }, done)
    })
    return app.plan.routes.filter(({ kind, method }) => kind === 'route' && method === 'GET').map(({ controls }) => (controls.limits as { exempt: unknown }).exempt)
  }
  t.strictSame(await promiseOf({ exempt }), [exempt, exempt])
  t.strictSame(await promiseOf({ exempt: () => false }), ['custom', 'custom'])
  t.strictSame(await promiseOf({}), [undefined, undefined])
})

t.test('an empty list exempts nobody', async t => {
  const { call } = await build(t, { address: windows, exempt: [] }, (app, done) => {
    app.get('/', { config: open }, done)
  })
  t.equal(await passes(5, () => call('/')), 2)
})
