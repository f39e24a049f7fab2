/** Limits: what each algorithm lets through, at its seams above all. */
import t, { type Test } from 'tap'
import { build, open, passes } from './service.js'

type Algorithm = 'fixed' | 'sliding' | 'log' | 'bucket'

async function burst (t: Test, algorithm: Algorithm, windows = ['10/10s']) {
  const built = await build(t, {}, (app, done) => {
    app.get('/', { config: { ...open, limits: { windows, algorithm } } }, done)
  })
  return { ...built, ask: (times: number) => passes(times, () => built.call('/')) }
}

t.test('the double burst at a window\'s seam does not pass', async t => {
  /** One at the beginning, nine at the end, ten after the seam: what passes in the two seconds around it. */
  async function aroundSeam (algorithm: Algorithm): Promise<number> {
    const { ask, clock } = await burst(t, algorithm)
    await ask(1)
    clock.ms += 9_000
    const before = await ask(9)
    clock.ms += 1_000
    return before + await ask(10)
  }
  t.equal(await aroundSeam('log'), 10, 'the log is exact: what came first is ten seconds old by then')
  t.equal(await aroundSeam('sliding'), 9, 'the approximation errs to the safe side here')
  t.equal(await aroundSeam('bucket'), 9 + 2, 'a bucket has gained two in two seconds')
  t.equal(await aroundSeam('fixed'), 19, 'negative control: of a fixed window it passes, twice the limit but for one')
})

t.test('log: never more than the limit in any window, and back exactly when Retry-After says', async t => {
  const { ask, call, clock } = await burst(t, 'log')
  const times: number[] = []
  for (let i = 0; i < 400; i++) {
    if (await ask(1) === 1) times.push(clock.ms)
    clock.ms += 170
  }
  for (const time of times) t.ok(times.filter(other => other >= time && other < time + 10_000).length <= 10)
  clock.ms += 20_000
  t.equal(await ask(10), 10)
  clock.ms += 4_500
  const { headers, status } = await call('/')
  t.equal(status, 429)
  t.equal(headers['retry-after'], '6')
  clock.ms += 5_499
  t.equal(await ask(1), 0)
  clock.ms += 1
  t.equal(await ask(11), 10)
})

t.test('bucket: holds the limit, fills evenly', async t => {
  const { ask, call, clock } = await burst(t, 'bucket')
  t.equal(await ask(15), 10)
  t.match((await call('/')).headers, { 'retry-after': '1', ratelimit: '"10/10s";r=0;t=10', 'ratelimit-policy': '"10/10s";q=10;w=10' })
  for (let second = 0; second < 5; second++) {
    clock.ms += 1000
    t.equal(await ask(3), 1)
  }
  clock.ms += 100_000
  t.equal(await ask(15), 10)
})

t.test('an algorithm is an option for all, and a rule says its own', async t => {
  const { call, clock } = await build(t, { algorithm: 'bucket', address: ['10/10s'] }, (app, done) => {
    app.get('/default', { config: open }, done)
    app.get('/list', { config: { ...open, limits: ['10/10s'] } }, done)
    app.get('/own', { config: { ...open, limits: { windows: ['10/10s'], algorithm: 'fixed' } } }, done)
  })
  for (const [url, later] of [['/default', 2], ['/list', 2], ['/own', 0]] as const) {
    t.equal(await passes(11, () => call(url)), 10)
    clock.ms += 2000
    t.equal(await passes(11, () => call(url)), later, url)
  }
})

for (const algorithm of ['fixed', 'sliding', 'log', 'bucket'] as const) {
  t.test(`${algorithm}: several windows hold together, what one refuses is counted in none, and nobody comes back too early`, async t => {
    const { ask, call, clock } = await burst(t, algorithm, ['3/second', '20/minute'])
    let passed = 0
    for (let i = 0; i < 200; i++) passed += await ask(1)
    t.equal(passed, 3, 'refusals did not eat the minute')
    clock.ms += 200_000
    let total = 0
    for (let i = 0; i < 300; i++) {
      const { status, headers } = await call('/')
      if (status === 200) {
        total += 1
        t.equal(headers['retry-after'], undefined)
        continue
      }
      const seconds = Number(headers['retry-after'])
      t.ok(Number.isInteger(seconds) && seconds >= 1)
      clock.ms += seconds * 1000
      t.equal((await call('/')).status, 200, `after ${seconds} s`)
      total += 1
    }
    t.ok(total > 100)
  })
}
