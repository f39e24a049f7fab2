/** Limits by hand: in handlers and sockets, and for operators. */
import t from 'tap'
import { build, open } from './service.js'

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
  t.match(recorded, [{ type: 'rate_limited', details: { budget: 'check:mails', limit: 3 } }])
  const wait = Number(refused.headers['retry-after'])
  clock.ms += wait * 1000
  t.equal((await call('/')).status, 200)
  await app.limits.check('mails', ['3/hour', '10/day'], 'somebody else')
  t.throws(() => app.limits.check('mails', ['4/hour'], 'ada'), { code: 'FST_BASTION_LIMITS_MISCONFIGURED', message: /check:mails is there already with other terms/ })
  t.throws(() => app.limits.check('mails', ['3/hour', '10/day'], 'ada', 0.5), TypeError)
  t.throws(() => app.limits.check('other', ['often'], 'ada'), { code: 'FST_BASTION_LIMITS_MISCONFIGURED' })
})
