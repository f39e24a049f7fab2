/** Alerts: rules, their edges, and that nobody can make the process pay for them. */
import { mock } from 'node:test'
import t from 'tap'
import type { AlertRule } from '../../plugins/alerts/index.js'
import { Tallies } from '../../plugins/alerts/tallies.js'
import { build, NONE } from './build.js'

const guesses = { name: 'guesses', events: ['login_failure'], by: 'address', threshold: 5, windowMs: 60_000 } as const satisfies AlertRule

t.test('an alert says what was counted, by whom, and which event it was that reached the threshold', async t => {
  const { see, told, log, recorded } = await build(t)
  await see('token_reused', { details: { user: 'u1', family: 'f1', severity: 'critical' } })
  t.equal(told.length, 1)
  const [alert] = told
  t.match(alert, {
    id: /^[\da-f-]{36}$/,
    time: '2023-11-14T22:13:20.000Z',
    rule: 'token_reuse',
    severity: 'critical',
    by: 'target',
    subject: 'u1',
    threshold: 1,
    windowMs: 300_000,
    untold: 0,
    last: { type: 'token_reused', requestId: 'r1', address: '192.0.2.1' },
  })
  t.notOk('details' in alert!.last, 'its details stay in the log and the audit trail')
  t.match(log.filter(({ level }) => level === 60), [{ msg: 'alert: token_reuse', alert: { id: alert!.id } }])
  t.match(recorded.at(-1), { type: 'alert_raised', details: { alert: alert!.id, rule: 'token_reuse', severity: 'critical', subject: 'u1' } })
})

t.test('the threshold: one less is nothing, the one that reaches it tells, and then it is quiet', async t => {
  const { see, names, clock } = await build(t, { builtIn: NONE, rules: [{ ...guesses, quietMs: 120_000 }] })
  await see('login_failure', { times: 4 })
  t.strictSame(names(), [])
  await see('login_failure')
  t.strictSame(names(), ['guesses'])
  await see('login_failure', { times: 50 })
  clock.ms += 119_999
  await see('login_failure', { times: 50 })
  t.strictSame(names(), [], 'quiet')
  clock.ms += 1
  await see('login_failure', { times: 5 })
  t.strictSame(names(), ['guesses'], 'it goes on, and is told again')
})

t.test('an event that stands for many counts as many; one that stands for those of many subjects counts once', async t => {
  const { see, names } = await build(t, { builtIn: NONE, rules: [guesses] })
  await see('login_failure', { details: { times: 3 } })
  for (const details of [{ times: 99, shared: true }, { times: 0 }, { times: -5 }, { times: '99' }, { times: NaN }] as const) await see('login_failure', { address: '192.0.2.2', details: { ...details } })
  t.strictSame(names(), ['guesses'], 'five of the second address')
  await see('login_failure')
  t.strictSame(names(), [])
  await see('login_failure')
  t.strictSame(names(), ['guesses'])
})

t.test('attack: from more addresses than are told of by themselves: what they share counts in full where all are counted together', async t => {
  const { see, names } = await build(t, { builtIn: NONE, rules: [{ ...guesses, by: 'all' }] })
  await see('login_failure', { details: { times: 4, shared: true } })
  t.strictSame(names(), [])
  await see('login_failure')
  t.strictSame(names(), ['guesses'])
})

t.test('what is counted and not told yet when the service closes counts too', async t => {
  const { app, names } = await build(t, { builtIn: NONE, rules: [{ ...guesses, events: ['malformed_request'] }] })
  for (let i = 0; i < 5; i++) app.events.recordUnguarded('malformed_request', { id: 'r1', ip: '192.0.2.1' })
  await app.alerts.settled()
  t.strictSame(names(), [])
  await app.close()
  t.strictSame(names(), ['guesses'])
})

t.test('the window is exact, also across any seam: the threshold within it, and never what is older', async t => {
  const { see, names, clock } = await build(t, { builtIn: NONE, rules: [guesses] })
  await see('login_failure')
  clock.ms += 30_000
  await see('login_failure', { times: 3 })
  clock.ms += 30_000
  await see('login_failure')
  t.strictSame(names(), [], 'the first is over: there are four')
  clock.ms += 29_999
  await see('login_failure')
  t.strictSame(names(), ['guesses'], 'three that are nearly over, one, and one')
})

t.test('slow enough is never told', async t => {
  const { see, names, clock } = await build(t, { builtIn: NONE, rules: [guesses] })
  for (let i = 0; i < 100; i++) {
    await see('login_failure')
    clock.ms += 15_000
  }
  t.strictSame(names(), [])
})

t.test('each address is counted for itself, an IPv6 network as one; principals, targets and all together', async t => {
  const rules: AlertRule[] = [
    { ...guesses, threshold: 3 },
    { name: 'by_target', events: ['mfa_failure'], by: 'target', threshold: 3, windowMs: 60_000 },
    { name: 'by_all', events: ['csrf_refused'], by: 'all', threshold: 3, windowMs: 60_000 },
    { name: 'by_function', events: ['upload_refused'], by: ({ details }) => details.code as string | null, threshold: 3, windowMs: 60_000 },
  ]
  const { see, names, told } = await build(t, { builtIn: NONE, rules })
  for (const address of ['192.0.2.1', '192.0.2.2', '192.0.2.3']) await see('login_failure', { address, times: 2 })
  t.strictSame(names(), [])
  for (const address of ['2001:db8::1', '2001:db8::ffff:2', '2001:db8:0:0:abcd::3']) await see('login_failure', { address })
  t.strictSame(names(), ['guesses'])
  t.equal(told.at(-1)!.subject, '2001:db8:0:0::/64')
  for (const user of ['a', 'b', 'a', 'b', 'b']) await see('mfa_failure', { details: { user } })
  t.strictSame(names(), ['by_target'])
  t.equal(told.at(-1)!.subject, 'b')
  for (const address of ['192.0.2.7', '192.0.2.8', '192.0.2.9']) await see('csrf_refused', { address })
  t.strictSame(names(), ['by_all'])
  for (const code of ['x', null, 'x', 'y', null, null, 7, 'x']) await see('upload_refused', { details: { code } })
  t.strictSame(names(), ['by_function'], 'what has no subject is not counted')
  t.match(told.at(-1), { by: 'function', subject: 'x', severity: 'warning' })
})

t.test('distinct: how many different ones, not how many', async t => {
  const { see, names, clock } = await build(t, { builtIn: NONE, rules: [{ ...guesses, distinct: 'target' }] })
  await see('login_failure', { times: 100, details: { login: 'one' } })
  for (const login of ['two', 'three', 'four']) await see('login_failure', { details: { login } })
  t.strictSame(names(), [])
  clock.ms += 60_000
  await see('login_failure', { details: { login: 'five' } })
  t.strictSame(names(), [], 'the others are over')
  for (const login of ['six', 'seven', 'eight', 'nine']) await see('login_failure', { details: { login } })
  t.strictSame(names(), ['guesses'])
})

t.test('quietMs 0 tells each one', async t => {
  const { see, names } = await build(t, { builtIn: NONE, rules: [{ ...guesses, threshold: 2, quietMs: 0 }] })
  for (let i = 0; i < 4; i++) await see('login_failure')
  t.strictSame(names(), ['guesses', 'guesses', 'guesses'])
})

t.test('where: only those that it takes; a rule of the service that fails disturbs no other', async t => {
  const rules: AlertRule[] = [
    { name: 'broken', events: ['access_denied'], by: 'all', threshold: 1, windowMs: 1000, where () { throw new Error('of a service') } },
    { name: 'hidden', events: ['access_denied'], by: 'all', threshold: 1, windowMs: 1000, where: ({ details }) => details.hidden === true },
    { name: 'truthy', events: ['access_denied'], by: 'all', threshold: 1, windowMs: 1000, where: () => 'yes' as never },
  ]
  const { see, names, log } = await build(t, { builtIn: NONE, rules })
  await see('access_denied', { details: { hidden: false } })
  t.strictSame(names(), [])
  await see('access_denied', { details: { hidden: true } })
  t.strictSame(names(), ['hidden'])
  t.equal(log.filter(({ msg }) => msg === 'an event was not counted for alerts').length, 2)
})

t.test("the suite's rules tell of the attacks that they are named after, once, and not of one event less [ASVS 16.3.1]", async t => {
  const login = (n: number) => ({ details: { login: `name-${n}` } })
  const attacks: Record<string, (see: Awaited<ReturnType<typeof build>>['see'], times: number) => Promise<void>> = {
    brute_force_account: async (see, times) => { for (let i = 0; i < times; i++) await see(i < 5 ? 'login_failure' : 'login_locked', { address: `198.51.100.${i % 5}`, ...login(1) }) },
    brute_force_address: async (see, times) => { for (let i = 0; i < times; i++) await see('login_failure', login(i % 9)) },
    credential_stuffing: async (see, times) => { for (let i = 0; i < times; i++) await see('login_failure', login(i)) },
    distributed_guessing: async (see, times) => { for (let i = 0; i < times; i++) await see('login_failure', { address: `198.51.100.${i}`, ...login(1) }) },
    address_locked: async (see, times) => { await see('login_locked', { details: { login: 'n', locks: ['name', ...times > 0 ? ['address'] : []], severity: times > 0 ? 'critical' : 'warning' } }) },
    token_reuse: async (see, times) => { await see('token_reused', { times, details: { user: 'u', severity: 'critical' } }) },
    privilege_change: async (see, times) => { await see('permission_change', { details: { user: 'u', from: 'user', to: times > 0 ? 'admin' : 'moderator' } }) },
    cross_site_requests: async (see, times) => { await see('csrf_refused', { times }) },
    critical_event: async (see, times) => { await see('passkey_cloned', { times: 3, details: { user: 'u', severity: times > 0 ? 'critical' : 'warning' } }) },
  }
  const thresholds: Record<string, number> = { brute_force_account: 10, brute_force_address: 50, credential_stuffing: 10, distributed_guessing: 10, cross_site_requests: 20 }
  for (const [name, attack] of Object.entries(attacks)) {
    const threshold = thresholds[name] ?? 1
    // Guesses at one name are a brute force and, from many addresses, a distributed one.
    const expected = name === 'distributed_guessing' ? ['brute_force_account', name] : [name]
    const below = await build(t)
    await attack(below.see, threshold - 1)
    t.strictSame(below.names(), [], `${name}: nothing below the threshold`)
    const at = await build(t)
    await attack(at.see, threshold)
    t.strictSame(at.names(), expected, name)
    await attack(at.see, threshold)
    t.strictSame(at.names().filter(again => expected.includes(again)), name === 'privilege_change' ? expected : [], `${name}: once`)
    const off = await build(t, { builtIn: { [name]: false } })
    await attack(off.see, threshold)
    t.strictSame(off.names(), expected.filter(other => other !== name), `${name}: switched off`)
  }
})

t.test('mass export and probing are counted by principal', async t => {
  for (const [type, name, threshold] of [['data_access', 'mass_export', 200], ['access_denied', 'probing', 50]] as const) {
    const { app, names } = await build(t)
    const seen = (id: string, times: number) => {
      for (let i = 0; i < times; i++) app.events.record(type, { id: 'r1', ip: '192.0.2.1', raw: {}, method: 'GET', headers: {}, routeOptions: { config: {} }, log: app.log, principal: { id, userId: id, via: 'bearer' } } as never)
      return app.alerts.settled()
    }
    await seen('u1', threshold - 1)
    await seen('u2', threshold - 1)
    t.strictSame(names(), [])
    await seen('u1', 1)
    t.strictSame(names(), [name])
  }
})

t.test('attack: whoever makes a key for every few reads is one all the same', async t => {
  const { app, told } = await build(t)
  const read = (id: string, userId: string) => {
    app.events.record('data_access', { id: 'r1', ip: '192.0.2.1', raw: {}, method: 'GET', headers: {}, routeOptions: { config: {} }, log: app.log, principal: { id, userId, via: 'key' } } as never)
  }
  for (let i = 0; i < 199; i++) {
    read(`key ${i % 10}`, 'mallory')
    read('key 1', `user ${i}`)
  }
  await app.alerts.settled()
  t.strictSame(told, [])
  read('key 10', 'mallory')
  await app.alerts.settled()
  t.match(told, [{ rule: 'mass_export', by: 'principal', subject: 'mallory' }])
})

t.test('a rule of the suite is tuned by its name; adminRoles names what is watched', async t => {
  const { see, names, told, app } = await build(t, { builtIn: { cross_site_requests: { threshold: 2, severity: 'critical', quietMs: 0 } }, adminRoles: ['root', 'owner'] })
  await see('csrf_refused', { times: 1 })
  await see('csrf_refused', { times: 1 })
  t.strictSame(names(), ['cross_site_requests'])
  t.equal(told.at(-1)!.severity, 'critical')
  t.match(app.alerts.rules.find(({ name }) => name === 'cross_site_requests'), { threshold: 2, windowMs: 900_000, quietMs: 0 })
  for (const to of ['admin', 'user', ['user', 'owner'], 'root']) await see('permission_change', { details: { user: 'u', to } })
  t.strictSame(names(), ['privilege_change', 'privilege_change'])
})

t.test('an alert is no event for alerts', async t => {
  const { see, told } = await build(t, { rules: [{ name: 'everything', events: '*', by: 'all', threshold: 1, windowMs: 1000, quietMs: 0 }], builtIn: NONE })
  await see('logout')
  t.equal(told.length, 1)
})

t.test('an attack from many addresses is not as many alerts: twenty a minute of one rule, and then how many there were', async t => {
  const { app, see, told, clock } = await build(t, { builtIn: NONE, rules: [{ ...guesses, threshold: 1 }] })
  for (let i = 0; i < 500; i++) app.events.record('login_failure', { id: 'r', ip: `10.0.${i >> 8}.${i & 255}` })
  await app.alerts.settled()
  t.equal(told.length, 20)
  clock.ms += 60_000
  await see('login_failure', { address: '192.0.2.99' })
  t.equal(told.length, 21)
  t.match(told.at(-1), { subject: '192.0.2.99', untold: 480 })
})

t.test('attack: decoys hide nobody: whoever comes after the twenty of a minute is in the trail at once, and told when it is over, or the service closes', async t => {
  for (const isClosing of [false, true]) {
    mock.timers.enable({ apis: ['setTimeout'] })
    t.teardown(() => { mock.timers.reset() })
    const { app, told, clock, recorded } = await build(t)
    for (let i = 0; i < 25; i++) app.events.record('token_reused', { id: 'r', ip: '192.0.2.1' }, { user: i === 24 ? 'victim' : `decoy ${i}` })
    await app.alerts.settled()
    t.equal(told.length, 20)
    t.equal(recorded.filter(({ type }) => type === 'alert_raised').length, 25)
    t.match(recorded.at(-1), { type: 'alert_raised', details: { rule: 'token_reuse', subject: 'victim' } })
    if (isClosing) await app.close()
    else {
      clock.ms += 59_999
      mock.timers.tick(59_999)
      t.equal(told.length, 20)
      clock.ms += 1
      mock.timers.tick(1)
    }
    t.match(told.slice(20), [{ subject: 'victim', untold: 4 }])
    mock.timers.reset()
  }
})

t.test('notify that fails, now or later, ends nothing; log: false leaves it to the others', async t => {
  for (const notify of [() => { throw new Error('now') }, async () => { throw new Error('later') }]) {
    const { see, log } = await build(t, { notify, log: false })
    await see('token_reused', { details: { user: 'u' } })
    await new Promise(resolve => { setImmediate(resolve) })
    t.match(log.filter(({ msg }) => msg === 'notify of alerts failed'), [{ level: 50 }])
    t.notOk(log.some(({ level }) => level === 60))
  }
})

t.test('a request waits for none of it: recording does no counting', async t => {
  const { app, told } = await build(t, { builtIn: NONE, rules: [{ ...guesses, threshold: 1 }] })
  app.events.record('login_failure', { id: 'r', ip: '192.0.2.1' })
  await Promise.resolve()
  t.equal(told.length, 0)
  await app.alerts.settled()
  t.equal(told.length, 1)
})

t.test('more subjects at once than are held: some are not counted, and memory stays what it is', async t => {
  const { app, told } = await build(t, { builtIn: NONE, rules: [{ ...guesses, threshold: 2 }] })
  for (let i = 0; i < 50_000; i++) app.events.record('login_failure', { id: 'r', ip: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}` })
  for (let i = 0; i < 2; i++) app.events.record('login_failure', { id: 'r', ip: '10.0.0.1' })
  await app.alerts.settled()
  t.strictSame(told.map(({ subject }) => subject), ['10.0.0.1'], 'those that are held are counted on')
})

t.test('attack: a flood of subjects of one rule keeps no other rule from counting', async t => {
  const { app, names } = await build(t)
  for (let i = 0; i < 20_000; i++) app.events.record('login_failure', { id: 'r', ip: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}` }, { login: `name ${i}` })
  app.events.record('permission_change', { id: 'r', ip: '192.0.2.1' }, { user: 'mallory', to: 'admin' })
  app.events.record('token_reused', { id: 'r', ip: '192.0.2.1' }, { user: 'victim' })
  await app.alerts.settled()
  t.strictSame(names().sort(), ['privilege_change', 'token_reuse'])
})

t.test('bounded: of those that stand longest the one with the least is forgotten, never one that was told', async t => {
  const tallies = new Tallies({ threshold: 10, windowMs: 60_000, quietMs: 600_000 }, 100)
  for (let i = 0; i < 9; i++) tallies.add('heavy', 1, i)
  tallies.add('told', 10, 10)
  t.ok(tallies.claim('told', 10))
  for (let i = 0; i < 5000; i++) tallies.add(`one of many ${i}`, 1, 20)
  t.equal(tallies.size, 100)
  t.ok(tallies.add('heavy', 1, 30), 'its nine are remembered')
  t.notOk(tallies.claim('told', 30), 'and so is that this was told')
})

t.test('a clock that is set back forgets nothing and repeats nothing', async t => {
  const { see, names, clock } = await build(t, { builtIn: NONE, rules: [guesses] })
  await see('login_failure', { times: 4 })
  clock.ms -= 3_600_000
  await see('login_failure')
  t.strictSame(names(), ['guesses'])
  await see('login_failure', { times: 5 })
  t.strictSame(names(), [])
})

t.test('misconfiguration stops boot', async t => {
  const key = Buffer.alloc(32, 1)
  const url = 'https://alerts.example.com/'
  for (const [options, message] of [
    [{ rule: [] }, /rule/],
    [{ builtIn: { brute_forse: false } }, /builtIn/],
    [{ builtIn: { mass_export: { threshold: 0 } } }, /builtIn/],
    [{ builtIn: { mass_export: true } }, /builtIn/],
    [{ rules: [{ ...guesses, name: 'Not Good' }] }, /rules/],
    [{ rules: [{ ...guesses, threshold: 10_001 }] }, /rules/],
    [{ rules: [{ ...guesses, by: 'everybody' }] }, /rules/],
    [{ rules: [{ ...guesses, events: [] }] }, /rules/],
    [{ rules: [{ ...guesses, tresh: 1 }] }, /rules/],
    [{ rules: [guesses, guesses] }, /guesses: there are two/],
    [{ rules: [{ ...guesses, name: 'token_reuse' }] }, /token_reuse: there are two/],
    [{ rules: [{ ...guesses, events: ['alert_raised'] }] }, /alerts are no events/],
    [{ rules: [{ ...guesses, distinct: 'address' }] }, /never more than one/],
    [{ rules: [{ ...guesses, distinct: 'target', threshold: 1 }] }, /counts nothing/],
    [{ adminRoles: [] }, /adminRoles/],
    [{ notify: 'me' }, /notify/],
    [{ nameKey: Buffer.alloc(8) }, /nameKey/],
    [{ log: false, notify: undefined }, /nobody is told/],
    [{ webhook: { key } }, /webhook/],
    [{ webhook: { url, key: Buffer.alloc(16) } }, /webhook: key/],
    [{ webhook: { url } }, /webhook: key/],
    [{ webhook: { url: 'http://alerts.example.com/', key } }, /webhook: url: must be https/],
    [{ webhook: { url: 'http://127.0.0.1.example.com/', key } }, /webhook: url: must be https/],
    [{ webhook: { url: 'ftp://127.0.0.1/', key } }, /webhook: url: must be https/],
    [{ webhook: { url: 'https://u:s3cret@alerts.example.com/', key } }, /without credentials/],
    [{ webhook: { url: 'no url', key } }, /webhook: url/],
    [{ webhook: { url, key, retries: 3 } }, /webhook/],
    [{ drainMs: -1 }, /drainMs/],
  ] as const) {
    await t.rejects(build(t, options as never), { code: 'FST_BASTION_ALERTS_MISCONFIGURED', message }, JSON.stringify(options))
    try { await build(t, options as never) } catch (error) { t.notMatch((error as Error).message, 's3cret') }
  }
  for (const good of ['http://localhost:9000/', 'http://127.0.0.1/', 'http://[::1]:80/', 'https://10.0.0.7/hook']) await build(t, { webhook: { url: good, key } })
})
