/** Limits: what is written wrong stops boot, and the message says where and how to write it. */
import t from 'tap'
import { parseWindow } from '../../plugins/limits/windows.js'
import { build, open } from './service.js'

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
  }), { code: 'FST_BASTION_PLAN_REFUSED', message: /GET \/b: limits: the budget group:g is there already with other terms, from GET \/a/ }, 'one group with two budgets')
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
