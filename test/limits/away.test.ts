/** Limits where shared state is away or too slow. */
import { createError } from '@fastify/error'
import t, { type Test } from 'tap'
import type { LimitsOptions } from '../../plugins/limits/index.js'
import { StateUnavailable } from '../../plugins/state/index.js'
import type { Counter, State } from '../../plugins/state/port.js'
import { as, build, memory, open, passes } from './service.js'

const Full = createError('FST_BASTION_STATE_FULL', 'full', 503)

/** A store that is elsewhere: it answers by promises, and is away when it is told to be. Beside it, this process's own. */
function remote (now: () => number) {
  const [far, local] = [memory(now), memory(now)]
  const told = { fault: null as Error | null, throwsAtOnce: false, deadlines: [] as number[], asked: 0 }
  const unavailable = () => Object.assign(new StateUnavailable(), { expose: true, headers: { 'retry-after': '2' } })
  function answer<T> (ask: () => T): Promise<T> {
    told.asked += 1
    if (told.fault !== null && told.throwsAtOnce) throw told.fault
    return told.fault === null ? new Promise(resolve => { setImmediate(() => resolve(ask())) }) : Promise.reject(told.fault)
  }
  const counterOf = (counter: Counter): Counter => ({
    windows: counter.windows,
    take: (subject, cost) => answer(() => counter.take(subject, cost)) as Promise<never>,
    peek: subject => answer(() => counter.peek(subject)) as Promise<never>,
    reset: subject => answer(() => counter.reset(subject)) as Promise<never>,
  })
  const store: State = {
    ...far,
    kind: 'remote',
    local,
    within (ms) {
      told.deadlines.push(ms)
      return store
    },
    counter: options => counterOf(far.counter(options)),
  }
  return { store, told, unavailable }
}

async function service (t: Test, options: LimitsOptions = {}) {
  let far!: ReturnType<typeof remote>
  const built = await build(t, { address: ['3/minute'], ...options }, (app, done) => {
    app.get('/', { config: open }, done)
    app.get('/banning', { config: { ...open, limits: { windows: ['3/minute'], ban: { after: 2, for: '1h' } } } }, done)
    app.get('/check', { config: { ...open, limits: false } }, async () => {
      await app.limits.check('mails', ['3/minute'], 'ada')
      return done()
    })
  }, {
    store (now) {
      far = remote(now)
      return far.store
    },
  })
  return { ...built, told: far.told, unavailable: far.unavailable }
}

t.test('a store that is elsewhere decides as one in memory does', async t => {
  const { call, handled, recorded } = await service(t)
  for (const url of ['/', '/check']) {
    t.equal(await passes(9, () => call(url)), 3, url)
    t.match(await call(url), { status: 429, code: 'FST_BASTION_LIMITS_EXCEEDED', headers: { 'retry-after': /^\d+$/ } })
  }
  t.equal(handled.count, 6)
  t.match(recorded, [{ type: 'rate_limited', details: { budget: 'default-address' } }, { type: 'rate_limited', details: { budget: 'check:mails' } }])
  t.match((await call('/', as('ada'))).headers, { 'x-ratelimit-limit': '1000', 'x-ratelimit-remaining': '999' })
  t.equal(await passes(5, () => call('/banning')), 3)
  t.match(await call('/banning'), { status: 429, body: { type: /#abnormal-usage-detected$/ } })
})

for (const throwsAtOnce of [false, true]) {
  t.test(`by default the process counts for itself while the store is away, and the store goes on where it was${throwsAtOnce ? ' (a store that throws at once)' : ''}`, async t => {
    const { call, told, unavailable } = await service(t)
    t.equal(await passes(2, () => call('/')), 2)
    Object.assign(told, { fault: unavailable(), throwsAtOnce })
    t.equal(await passes(9, () => call('/')), 3, 'nobody is let through without a limit, nobody gets a 5xx')
    const refused = await call('/')
    t.match(refused, { status: 429, headers: { 'retry-after': /^\d+$/, 'x-ratelimit-limit': '3', ratelimit: /^"3\/minute";r=0/ }, body: { 'violated-policies': ['3/minute'] } })
    t.equal(await passes(9, () => call('/check')), 3)
    told.fault = null
    t.equal(await passes(9, () => call('/')), 1, 'of its three two were spent before')
    told.fault = unavailable()
    t.equal(await passes(9, () => call('/')), 0, 'and what was counted here is still counted')
  })
}

t.test('a ban that was made while the store was away holds while it is', async t => {
  const { call, told, unavailable, clock } = await service(t)
  told.fault = unavailable()
  await passes(6, () => call('/banning'))
  clock.ms += 600_000
  t.match(await call('/banning'), { status: 429, body: { type: /#abnormal-usage-detected$/ }, headers: { 'retry-after': '3000' } })
})

t.test('whenAway refuse: 503 with Retry-After, and no handler runs', async t => {
  const { call, told, unavailable, handled, recorded } = await service(t, { whenAway: 'refuse' })
  told.fault = unavailable()
  for (const url of ['/', '/banning', '/check', '/nowhere', '/%zz']) {
    t.match(await call(url), { status: 503, code: 'FST_BASTION_STATE_UNAVAILABLE', headers: { 'retry-after': /^[1-9]\d*$/ } }, url)
  }
  t.equal(handled.count, 0)
  t.strictSame(recorded.filter(({ type }) => type === 'rate_limited'), [], 'nobody was over a limit')
  told.fault = null
  t.equal((await call('/')).status, 200, 'and it goes on without a restart')
})

t.test('whenAway allow: whoever asks is let in, is told nothing, and still meets the flood guard', async t => {
  const { call, told, unavailable } = await service(t, { whenAway: 'allow', flood: { max: 20, timeWindow: 60_000 } })
  told.fault = unavailable()
  t.equal(await passes(9, () => call('/')), 9)
  t.equal(await passes(9, () => call('/check')), 9)
  t.equal((await call('/')).headers['x-ratelimit-limit'], undefined)
  t.equal(await passes(9, () => call('/')), 1)
  told.fault = null
})

t.test('a store that has no memory left is as good as away', async t => {
  for (const [whenAway, status] of [['local', 200], ['allow', 200], ['refuse', 503]] as const) {
    const { call, told } = await service(t, { whenAway })
    told.fault = Object.assign(new Full(), { expose: true, headers: { 'retry-after': '10' } })
    for (const url of ['/', '/check']) t.equal((await call(url)).status, status, `${whenAway} ${url}`)
  }
})

t.test('only a store that is away is one: every other error is thrown on', async t => {
  for (const whenAway of ['local', 'allow', 'refuse'] as const) {
    const { call, told, handled } = await service(t, { whenAway })
    told.fault = new TypeError('a fault of ours')
    for (const url of ['/', '/check']) t.match(await call(url), { status: 500, code: 'FST_BASTION_HTTP_500' }, url)
    t.equal(handled.count, 0)
  }
})

t.test('a deadline of its own is asked of the store; without one the store\'s holds', async t => {
  t.strictSame((await service(t)).told.deadlines, [])
  t.strictSame((await service(t, { deadline: 25 })).told.deadlines, [25])
})

t.test('operators are told that the store is away', async t => {
  const { app, told, unavailable } = await service(t)
  told.fault = unavailable()
  await t.rejects(app.limits.inspect('default-address', 'address:127.0.0.1'), { code: 'FST_BASTION_STATE_UNAVAILABLE' })
  await t.rejects(app.limits.reset('default-address', 'address:127.0.0.1'), { code: 'FST_BASTION_STATE_UNAVAILABLE' })
})

t.test('in memory nothing waits: the decision is there at once', async t => {
  const { app } = await build(t, {}, () => {})
  t.match(app.limits.check('mails', ['3/minute'], 'ada'), { allowed: true, remaining: 2 })
  app.limits.check('mails', ['3/minute'], 'ada')
  app.limits.check('mails', ['3/minute'], 'ada')
  t.throws(() => app.limits.check('mails', ['3/minute'], 'ada'), { code: 'FST_BASTION_LIMITS_EXCEEDED' })
})
