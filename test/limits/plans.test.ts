/** Limits: budgets by commercial plan. */
import t from 'tap'
import { as, build, open, passes } from './service.js'

const plans = { free: ['2/minute', '3/hour'], pro: ['5/minute'] }

t.test('a route has windows for each plan; callers without one, or with an unknown one, have its windows [ASVS 2.4.1]', async t => {
  const { call, clock } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['1/minute'], plans } } }, done)
  })
  t.equal(await passes(9, () => call('/', as('ada', { plan: 'free' }))), 2)
  t.equal(await passes(9, () => call('/', as('ben', { plan: 'free' }))), 2, 'each caller for themselves')
  t.equal(await passes(9, () => call('/', as('cleo', { plan: 'pro' }))), 5)
  t.equal(await passes(9, () => call('/', as('dora'))), 1)
  t.equal(await passes(9, () => call('/')), 1)
  for (const plan of ['gold', '', 'Free', 'free ', '__proto__', 'constructor', 'toString']) t.equal(await passes(9, () => call('/', as(`of ${plan}`, { plan }))), 1, plan)
  t.equal(await passes(9, () => call('/', as('nobody', { plan: null as never }))), 1, 'a column that is empty')
  clock.ms += 120_000
  t.equal(await passes(9, () => call('/', as('ada', { plan: 'free' }))), 1, 'all windows of the plan hold together')
})

t.test('the answer tells the windows of the plan', async t => {
  const { call } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['1/minute'], plans } } }, done)
  })
  t.match((await call('/', as('ada', { plan: 'free' }))).headers, { 'ratelimit-policy': '"2/minute";q=2;w=60, "3/hour";q=3;w=3600', ratelimit: '"2/minute";r=1;t=120' })
  t.match((await call('/', as('ada', { plan: 'pro' }))).headers, { 'ratelimit-policy': '"5/minute";q=5;w=60' })
})

t.test('a plan has counters of its own', async t => {
  const { call } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['1/minute'], plans } } }, done)
  })
  t.equal(await passes(9, () => call('/', as('ada', { plan: 'free' }))), 2)
  t.equal(await passes(9, () => call('/', as('ada', { plan: 'pro' }))), 5, 'who pays for more has more at once')
})

t.test('plans of the default budget', async t => {
  const { call } = await build(t, { principal: ['3/minute'], plans }, (app, done) => {
    app.get('/', { config: open }, done)
    app.get('/other', { config: open }, done)
  })
  t.equal(await passes(9, i => call(i % 2 === 0 ? '/' : '/other', as('ada', { plan: 'free' }))), 2)
  t.equal(await passes(9, () => call('/', as('ben', { plan: 'pro' }))), 5)
  t.equal(await passes(9, () => call('/', as('cleo', { plan: 'gold' }))), 3)
  t.equal(await passes(9, () => call('/', as('dora', { kind: 'key', via: 'key', plan: 'free' }))), 2, 'keys have a plan too')

  t.test('they hold where others have no limit', async t => {
    const { call } = await build(t, { principal: false, plans }, (app, done) => {
      app.get('/', { config: open }, done)
    })
    t.equal(await passes(9, () => call('/', as('ada', { plan: 'free' }))), 2)
    t.equal(await passes(9, () => call('/', as('cleo', { plan: 'gold' }))), 9)
  })
})

t.test('by plan and with plans: each plan together, with its windows', async t => {
  const { call } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows: ['1/minute'], plans, by: 'plan' } } }, done)
  })
  t.equal(await passes(9, i => call('/', as(`user${i}`, { plan: 'pro' }))), 5)
  t.equal(await passes(9, i => call('/', as(`user${i}`, { plan: 'free' }))), 2)
})

t.test('negative control: without plans everybody has the same', async t => {
  const { call } = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: ['5/minute'] } }, done)
  })
  t.equal(await passes(9, () => call('/', as('ada', { plan: 'free' }))), 5)
})
