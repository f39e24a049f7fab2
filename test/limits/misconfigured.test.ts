/** Limits: what is written wrong stops boot, and the message says where and how to write it. */
import t from 'tap'
import { parseSpan, parseWindow } from '../../plugins/limits/windows.js'
import { build, open } from './service.js'

t.test('times, as people write them', async t => {
  for (const [text, ms] of [['15m', 900_000], ['1h', 3_600_000], ['hour', 3_600_000], ['30 seconds', 30_000], ['7d', 604_800_000]] as const) t.equal(parseSpan(text), ms, text)
  for (const text of ['', '0m', '-1m', '1.5h', '15', 'm15', '15M', ' 15m', '15  m', '1/m', '__proto__', '5constructor']) t.equal(parseSpan(text), null, JSON.stringify(text))
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
    [{ windows: ['5/second'], by: 'ip' }, /GET \/: limits: by: "ip" is unknown: write caller, principal, address, key, plan, method, route, a function of the request, or a list of these/],
    [{ windows: ['5/second'], by: ['address', 'ip'] }, /by: "ip" is unknown/],
    [{ windows: ['5/second'], by: ['address', 'address'] }, /by: a list needs one to eight parts, each of them once/],
    [{ windows: ['5/second'], by: [] }, /by: a list needs one/],
    [{ windows: ['5/second'], by: null }, /by: null is unknown/],
    [{ windows: ['5/second'], by: 'toString' }, /by: "toString" is unknown/],
    [{ windows: ['5/second'], by: async () => 'x' }, /by: .* it cannot be async/],
    [{ windows: ['5/second'], algorithm: 'leaky' }, /GET \/: limits: algorithm: "leaky" is unknown: write sliding, fixed, log, bucket/],
    [{ windows: ['10/second', '10001/hour'], algorithm: 'log' }, /10001\/hour: algorithm 'log' keeps the time of each request, so 10000 at most: take 'sliding'/],
    [{ windows: ['5/second'], plans: { free: [] } }, /plans\.free: /],
    [{ windows: ['5/second'], plans: { free: '5/second' } }, /plans\.free: /],
    [{ windows: ['5/second'], plans: { free: ['often'] } }, /often is not of the form/],
    [{ plans: { free: ['5/second'] } }, /windows: /],
    [{ windows: ['5/second'], plans: { free: ['5/second'], pro: ['9/second', '2/minute'] }, cost: 3 }, /a cost of 3 never fits into "2\/minute"/],
    [{ windows: ['999999999/99999d'] }, /limit × milliseconds must be at most/],
    [{ windows: ['5/second'], ban: { after: 0, for: '1h' } }, /ban\.after: /],
    [{ windows: ['5/second'], ban: { after: 3, for: 'long' } }, /ban: for: "long" is not of the form '15m'/],
    [{ windows: ['5/second'], ban: { after: 3, for: '0s' } }, /ban: for: "0s" is not/],
    [{ windows: ['5/second'], ban: { after: 3 } }, /ban\.for: /],
    [{ windows: ['5/second'], refuse: 429 }, /refuse: /],
    [{ windows: ['5/second'], refuse: async () => new Error('x') }, /refuse: .* it cannot be async/],
    [{ windows: ['5/second'], cost: 0 }, /cost: /],
    [{ windows: ['5/second'], cost: 1.5 }, /cost: /],
    [{ windows: ['5/second'], cost: NaN }, /cost: /],
    [{ windows: ['50/second', '5/minute'], cost: 6 }, /a cost of 6 never fits into "5\/minute"/],
    [{ windows: ['5/second'], group: '' }, /group: /],
    [{ windows: Array(9).fill('5/second') }, /windows: /],
  ] as [never, RegExp][]) {
    await t.rejects(build(t, {}, (app, done) => { app.get('/', { config: { ...open, limits: rule } }, done) }), { code: 'FST_BASTION_PLAN_REFUSED', message }, JSON.stringify(rule))
  }
})

t.test('a group has one rule: the cost alone may differ', async t => {
  const one = { windows: ['5/second'], group: 'g', by: 'address' } as const
  const build2 = (other: object) => build(t, {}, (app, done) => {
    app.get('/a', { config: { ...open, limits: one } }, done)
    app.get('/b', { config: { ...open, limits: { ...one, ...other } } }, done)
  })
  for (const other of [
    { windows: ['50/second'] }, { windows: ['5/second', '9/minute'] }, { algorithm: 'fixed' }, { by: 'caller' }, { by: ['address'] }, { by: () => 'x' }, { ban: { after: 3, for: '1h' } }, { plans: { free: ['5/second'] } },
  ]) {
    const message = /GET \/b: limits: the budget group:g is there already with other terms, from GET \/a: who shares it must write the same windows, plans, by, algorithm and ban/
    await t.rejects(build2(other), { code: 'FST_BASTION_PLAN_REFUSED', message }, JSON.stringify(other))
  }
  await build2({ cost: 3, refuse: () => new Error('x') })
  await build2({ algorithm: 'sliding' })
  const by = () => 'x'
  await t.resolves(build(t, {}, (app, done) => {
    for (const url of ['/a', '/b']) app.get(url, { config: { ...open, limits: { windows: ['5/second'], group: 'g', by, plans: url === '/a' ? { a: ['1/s'], b: ['2/s'] } : { b: ['2/s'], a: ['1/s'] } } } }, done)
  }))
})

t.test('wrong options stop boot, and the message names them', async t => {
  for (const [options, message] of [
    [{ address: ['often'] }, /often/],
    [{ address: [] }, /address/],
    [{ principal: '5/second' }, /principal/],
    [{ algorithm: 'leaky' }, /limits: algorithm: "leaky" is unknown: write sliding, fixed, log, bucket/],
    [{ algorithm: 'log', address: ['10001/day'] }, /10001\/day: algorithm 'log' keeps/],
    [{ plans: { free: [] } }, /plans\.free/],
    [{ plans: { free: ['often'] } }, /often is not of the form/],
    [{ plans: ['5/second'] }, /plans/],
    [{ ban: { after: 3, for: 'long' } }, /ban: for: "long"/],
    [{ ban: { after: 3, for: '1h', then: 'more' } }, /ban\.then/],
    [{ exempt: ['10.0.0.0/33'] }, /limits: exempt: "10\.0\.0\.0\/33" is not an address or a CIDR block/],
    [{ exempt: ['0.0.0.0/0'] }, /limits: exempt: "0\.0\.0\.0\/0" is everybody/],
    [{ exempt: '10.0.0.1' }, /exempt/],
    [{ exempt: async () => true }, /exempt: .* it cannot be async/],
    [{ refuse: 'no' }, /refuse/],
    [{ refuse: async () => new Error('x') }, /refuse: .* it cannot be async/],
    [{ deadline: 0 }, /deadline/],
    [{ whenAway: 'wait' }, /whenAway/],
    [{ flood: { max: 'many', timeWindow: 1000 } }, /flood/],
    [{ max: 5 }, /max/],
  ] as const) await t.rejects(build(t, options as never), { code: 'FST_BASTION_LIMITS_MISCONFIGURED', message }, JSON.stringify(options))
})
