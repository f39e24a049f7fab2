/** Limits: the flood guard. */
import type { InjectOptions } from 'fastify'
import t from 'tap'
import { as, build, from, open, passes } from './service.js'

t.test('the flood guard stands before everything, whatever the request is', async t => {
  const { call, handled, recorded } = await build(t, { flood: { max: 5, timeWindow: 60_000 } }, (app, done) => {
    app.get('/none', { config: { ...open, limits: false } }, done)
    app.get('/user', { config: { access: 'user' } }, done)
  })
  const seen = []
  for (const [url, more] of [['/none'], ['/nowhere'], ['/%zz'], ['/user', as('ada', { credential: 'broken' })], ['/user', as('ada')], ['/none'], ['/nowhere'], ['/%zz'], ['/user', as('ada')], ['/none']] as [string, InjectOptions?][]) {
    seen.push((await call(url, more)).status)
  }
  t.same(seen, [200, 404, 400, 401, 200, 429, 429, 429, 429, 429])
  t.equal(handled.count, 2)
  t.equal(Number((await call('/none')).headers['retry-after']) > 0, true)
  t.equal((await call('/none', from('192.0.2.9'))).status, 200)
  t.equal(recorded.filter(({ type, details }) => type === 'rate_limited' && details.budget === 'flood').length, 1, 'a flood of events is one too')
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
