/** Limits by hand: in handlers and sockets, and for operators. */
import t from 'tap'
import { subjects } from '../../plugins/limits/index.js'
import { as, build, from, open, passes } from './service.js'

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
  t.match(refused, { status: 429, code: 'FST_BASTION_LIMITS_EXCEEDED', body: { type: /#quota-exceeded$/, 'violated-policies': ['3/hour'] } })
  t.match(recorded, [{ type: 'rate_limited', details: { budget: 'check:mails', limit: 3 } }])
  const wait = Number(refused.headers['retry-after'])
  clock.ms += wait * 1000
  t.equal((await call('/')).status, 200)
  await app.limits.check('mails', ['3/hour', '10/day'], 'somebody else')
  t.throws(() => app.limits.check('mails', ['4/hour'], 'ada'), { code: 'FST_BASTION_LIMITS_MISCONFIGURED', message: /check:mails is there already with other terms/ })
  t.throws(() => app.limits.check('mails', ['3/hour', '10/day'], 'ada', 0.5), TypeError)
  t.throws(() => app.limits.check('other', ['often'], 'ada'), { code: 'FST_BASTION_LIMITS_MISCONFIGURED' })
})

t.test('app.limits.check takes a rule: algorithm, ban, cost', async t => {
  const { app, clock, recorded } = await build(t)
  const check = (cost?: number) => app.limits.check('sms', { windows: ['10/10s'], algorithm: 'bucket', cost: 5, ban: { after: 2, for: '1h' } }, '203.0.113.9', cost)
  t.match(check(), { allowed: true, remaining: 5 })
  t.match(check(1), { allowed: true, remaining: 4 }, 'a cost of the call comes first')
  t.throws(() => check(), { code: 'FST_BASTION_LIMITS_EXCEEDED', statusCode: 429, headers: { 'retry-after': '1' } })
  t.throws(() => check(), { code: 'FST_BASTION_LIMITS_EXCEEDED', headers: { 'retry-after': '3600' } })
  clock.ms += 1_800_000
  t.throws(() => check(1), { code: 'FST_BASTION_LIMITS_EXCEEDED', headers: { 'retry-after': '1800' } })
  t.match(recorded, [{ details: { budget: 'check:sms', times: 1 } }, { details: { budget: 'check:sms', banned: true, severity: 'critical' } }])
  t.equal(recorded.length, 3, 'a ban is told again after ten minutes, with how many were refused')
  t.match(recorded[2], { details: { times: 1, banned: true } })
  t.match(app.limits.check('sms', { windows: ['10/10s'], algorithm: 'bucket', ban: { after: 2, for: '1h' } }, '203.0.113.10'), { allowed: true, remaining: 9 }, 'the cost is not one of its terms')
})

t.test('a name always has the same terms', async t => {
  const { app } = await build(t)
  const rule = { windows: ['3/hour'], algorithm: 'fixed', ban: { after: 2, for: '1h' } } as const
  app.limits.check('mails', rule, 'ada')
  app.limits.check('mails', { ...rule, windows: [...rule.windows], ban: { ...rule.ban } }, 'ada')
  t.match(app.limits.check('mails', rule, 'ada'), { remaining: 0 })
  for (const other of [['3/hour'], { ...rule, windows: ['3/hour', '4/day'] }, { ...rule, algorithm: 'log' }, { ...rule, ban: { after: 3, for: '1h' } }, { ...rule, ban: undefined }]) {
    t.throws(() => app.limits.check('mails', other as never, 'ada'), { code: 'FST_BASTION_LIMITS_MISCONFIGURED', message: /check:mails is there already with other terms, from app\.limits\.check\("mails"\)/ })
  }
  for (const [wrong, message] of [
    [{ windows: ['3/hour'], by: 'address' }, /check wrong: by/],
    [{ windows: [] }, /check wrong: windows/],
    [{ windows: ['3/hour'], algorithm: 'leaky' }, /"leaky" is unknown: write sliding, fixed, log, bucket/],
    [{ windows: ['3/hour'], cost: 4 }, /a cost of 4 never fits into "3\/hour"/],
    [undefined, /check wrong/],
    [null, /check wrong/],
    ['3/hour', /check wrong/],
  ] as [never, RegExp][]) t.throws(() => app.limits.check('wrong', wrong, 'ada'), { code: 'FST_BASTION_LIMITS_MISCONFIGURED', message }, JSON.stringify(wrong))
})

t.test('a socket is limited by what it sends', async t => {
  const { app } = await build(t)
  /** As a WebSocket's listener does: there is no request and no reply any more. */
  const received = (from: string) => {
    try {
      app.limits.check('messages', ['5/second'], from)
      return 'taken'
    } catch (error) {
      return (error as { code: string }).code
    }
  }
  t.strictSame(Array.from({ length: 7 }, () => received('socket 1')), [...Array(5).fill('taken'), ...Array(2).fill('FST_BASTION_LIMITS_EXCEEDED')])
  t.equal(received('socket 2'), 'taken')
})

const plans = { free: ['2/minute'] }

t.test('budgets: every budget with its terms', async t => {
  const { app } = await build(t, { plans, ban: { after: 9, for: '1h' } }, (app, done) => {
    app.get('/posts', { config: { ...open, limits: ['5/second', '100/minute'] } }, done)
    app.get('/search', { config: { ...open, limits: { windows: ['9/minute'], group: 'search', by: [() => 'x', 'method'], algorithm: 'log', plans, cost: 2 } } }, done)
    app.get('/none', { config: { ...open, limits: false } }, done)
  })
  app.limits.check('mails', ['3/hour'], 'ada')
  const ban = { after: 9, for: '1h' }
  t.strictSame(app.limits.budgets(), [
    { name: 'default-address', by: 'caller', windows: ['300/minute'], algorithm: 'sliding', ban },
    { name: 'default-principal', by: 'caller', windows: ['1000/minute'], algorithm: 'sliding', plans, ban },
    { name: 'route:GET /posts', by: 'caller', windows: ['5/second', '100/minute'], algorithm: 'sliding' },
    { name: 'group:search', by: ['custom', 'method'], windows: ['9/minute'], algorithm: 'log', plans },
    { name: 'check:mails', by: 'custom', windows: ['3/hour'], algorithm: 'sliding' },
  ])
  const { app: bare } = await build(t, { address: false, principal: false })
  t.strictSame(bare.limits.budgets(), [])
})

t.test('inspect: what a subject has left, of each plan, and nothing is counted by looking', async t => {
  const { app, call } = await build(t, { principal: ['3/minute'], plans, address: ['3/minute'] }, (app, done) => {
    app.get('/', { config: open }, done)
    app.get('/both', { config: { ...open, limits: { windows: ['3/minute'], by: ['address', 'method'] } } }, done)
  })
  await passes(1, () => call('/', as('ada', { plan: 'free' })))
  for (let i = 0; i < 9; i++) {
    t.match(await app.limits.inspect('default-principal', 'user:ada'), [
      { plan: null, allowed: true, limit: 3, remaining: 2, banned: false },
      { plan: 'free', allowed: true, limit: 2, remaining: 0 },
    ])
  }
  await passes(9, () => call('/', as('ada', { plan: 'free' })))
  t.match(await app.limits.inspect('default-principal', subjects.user('ada')), [{ plan: null, allowed: true }, { plan: 'free', allowed: false, violated: [0] }])

  await passes(9, () => call('/', from('2001:db8::1')))
  for (const subject of ['address:2001:db8::ffff', subjects.address('2001:db8::2')]) t.match(await app.limits.inspect('default-address', subject), [{ allowed: false }], subject)
  await passes(9, () => call('/both', from('2001:db8::1')))
  t.match(await app.limits.inspect('route:GET /both', 'address:2001:db8::5|method:GET'), [{ allowed: false }])
  t.match(await app.limits.inspect('route:GET /both', 'address:2001:db8::5|method:POST'), [{ allowed: true }])

  app.limits.check('mails', ['1/hour'], '2001:db8::1')
  t.match(await app.limits.inspect('check:mails', subjects.custom('2001:db8::9')), [{ allowed: false }])
})

t.test('reset: forgets what was spent, in every plan, and bans; recorded', async t => {
  const { app, call, recorded } = await build(t, { address: ['2/minute'], principal: ['2/minute'], plans: { free: ['1/minute'] }, ban: { after: 1, for: '1d' } }, (app, done) => {
    app.get('/', { config: open }, done)
    app.post('/reset', { config: { ...open, limits: false } }, async request => {
      await app.limits.reset('default-address', 'address:127.0.0.1', request)
      return done()
    })
  })
  await passes(9, () => call('/'))
  await passes(9, () => call('/', from('192.0.2.1')))
  await passes(9, () => call('/', as('ada')))
  await passes(9, () => call('/', as('ada', { plan: 'free' })))
  recorded.length = 0
  await call('/reset', { method: 'POST', ...as('root') })
  t.match(recorded, [
    { type: 'rate_limited', details: { times: 6 } }, // what was counted, before it is forgotten
    { type: 'limit_reset', principal: 'root', route: '/reset', details: { budget: 'default-address', subject: 'address:127.0.0.1' } },
  ])
  recorded.length = 0
  t.equal(await passes(9, () => call('/')), 2)
  t.equal((await call('/', from('192.0.2.1'))).status, 429, 'nobody else is forgiven')

  t.match(recorded.filter(({ type }) => type === 'rate_limited'), [{ details: { budget: 'default-address', banned: true } }], 'a ban after the reset is a new one')

  await app.limits.reset('default-principal', subjects.user('ada'))
  t.match(recorded.filter(({ type }) => type === 'limit_reset').at(-1), { details: { budget: 'default-principal', subject: 'user:ada' } })
  t.equal(await passes(9, () => call('/', as('ada'))), 2)
  t.equal(await passes(9, () => call('/', as('ada', { plan: 'free' }))), 1)

  app.limits.check('mails', { windows: ['1/hour'], ban: { after: 1, for: '1d' } }, 'ada@example.test')
  t.throws(() => app.limits.check('mails', { windows: ['1/hour'], ban: { after: 1, for: '1d' } }, 'ada@example.test'))
  await app.limits.reset('check:mails', 'custom:ada@example.test')
  t.match(app.limits.check('mails', { windows: ['1/hour'], ban: { after: 1, for: '1d' } }, 'ada@example.test'), { allowed: true })
})

t.test('a name that is no budget is a clear error', async t => {
  const { app } = await build(t)
  for (const name of ['nothing', '', 'mails', '__proto__', 'route:GET /']) {
    await t.rejects(app.limits.inspect(name, 'user:ada'), { code: 'FST_BASTION_LIMITS_UNKNOWN', statusCode: 404, message: /app\.limits\.budgets\(\) lists them/ })
    await t.rejects(app.limits.reset(name, 'user:ada'), { code: 'FST_BASTION_LIMITS_UNKNOWN' })
  }
})

t.test('a subject that is no text is a mistake, and shares no budget with others that are none', async t => {
  const { app } = await build(t)
  for (const who of [1, 2, undefined, null, {}, '']) {
    t.throws(() => app.limits.check('ids', ['1/minute'], who as never), { name: 'TypeError', message: /app.limits.check\("ids"\): the subject must be a text/ })
  }
  t.equal((app.limits.check('ids', ['1/minute'], '1') as { allowed: boolean }).allowed, true)
})
