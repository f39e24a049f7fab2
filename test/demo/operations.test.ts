/** Health, posture, the limits to try, the page at the root. */
import { readdirSync } from 'node:fs'
import t from 'tap'
import { authority, DAY, issue, write } from '../fixtures/authority.js'
import { build, buildOn, freshDatabase } from './portal.js'

const { call, token, pass, sql } = await build(t)

t.test('health is public; readiness is yes or no and nothing more', async t => {
  t.strictSame((await call('GET', '/health')).body, { status: 'ok' })
  t.strictSame((await call('GET', '/health/ready')).body, { status: 'ok' })
  const away = await freshDatabase(t)
  let isAway = false
  const portal = await buildOn(t, { ...away, query: (...args) => isAway ? Promise.reject(new Error('connect ECONNREFUSED db.internal:5432')) : away.query(...args) as never })
  t.equal((await portal.call('GET', '/health/ready')).status, 200)
  isAway = true
  const { status, body, text } = await portal.call('GET', '/health/ready')
  t.equal(status, 503)
  t.notMatch(text, /database|ECONN|db\.internal|state/)
  t.match(body, { code: 'FST_PORTAL_NOT_READY', detail: 'Not ready' })
  t.equal((await portal.call('GET', '/health')).status, 200, 'alive all the same')
  isAway = false
  t.equal((await portal.call('GET', '/health/ready')).status, 200)
})

t.test('a database that hangs is not ready, after a deadline', async t => {
  const hanging = await freshDatabase(t)
  let isHanging = false
  const portal = await buildOn(t, { ...hanging, query: (...args) => isHanging ? new Promise(() => {}) : hanging.query(...args) as never })
  isHanging = true
  t.equal((await portal.call('GET', '/health/ready')).status, 503)
})

t.test('an expired certificate is not ready', async t => {
  const folder = t.testdir({})
  const portal = await buildOn(t, await freshDatabase(t), {}, undefined, { tls: write(folder, await issue(await authority(), { name: 'localhost', to: 2 })) })
  t.equal((await portal.call('GET', '/health/ready')).status, 200)
  portal.pass(3 * DAY)
  const { status, text } = await portal.call('GET', '/health/ready')
  t.equal(status, 503)
  t.notMatch(text, /certificate|expired/)
  t.match(portal.app.posture().findings.map(({ message }) => message), [/has expired/])
  t.equal((await portal.call('GET', '/health')).status, 200, 'alive all the same')
})

t.test('GET /limits/multi has three sliding windows at once', async t => {
  const ask = async (address = '192.0.2.10') => call('GET', '/limits/multi', { address })
  const first = await ask()
  t.equal(first.status, 200)
  t.equal(first.headers['x-ratelimit-limit'], '5')
  t.equal(first.headers['ratelimit-policy'], '"5/second";q=5;w=1, "100/minute";q=100;w=60, "1000/hour";q=1000;w=3600')
  for (let i = 0; i < 4; i++) t.equal((await ask()).status, 200)
  const refused = await ask()
  t.equal(refused.status, 429)
  t.match(refused.body, { code: 'FST_BASTION_LIMITS_EXCEEDED', type: /#quota-exceeded$/, 'violated-policies': ['5/second'] })
  t.equal((await ask('192.0.2.11')).status, 200)
  t.equal(refused.headers['retry-after'], '1')
  t.equal((await call('HEAD', '/limits/multi', { address: '192.0.2.10' })).status, 429, 'HEAD spends the same budget')
  pass(999)
  t.equal((await ask()).status, 429, 'a second is a second')
  pass(1)
  for (let i = 0; i < 5; i++) t.equal((await ask()).status, 200, 'after a second all five are there again')
  t.equal((await ask()).status, 429)
  let answered = 0
  for (let second = 0; second < 60; second++) {
    pass(2000)
    for (let i = 0; i < 5; i++) if ((await ask('192.0.2.12')).status === 200) answered += 1
  }
  t.ok(answered <= 200 && answered >= 150, `in two minutes at most two hundred: ${answered}`)
})

t.test('GET /limits/plan has a budget by plan: free 60 a minute, basic 300, pro 1000', async t => {
  const policies = { bob: '"60/minute";q=60;w=60, "1000/day";q=1000;w=86400', mona: '"300/minute";q=300;w=60, "10000/day";q=10000;w=86400', alice: '"1000/minute";q=1000;w=60, "100000/day";q=100000;w=86400' }
  for (const [name, policy] of Object.entries(policies)) {
    const bearer = await token(name)
    const { status, body, headers } = await call('GET', '/limits/plan', { token: bearer })
    t.equal(status, 200)
    t.strictSame(body, { status: 'ok' })
    t.equal(headers['ratelimit-policy'], policy, name)
  }
  t.equal((await call('GET', '/limits/plan')).status, 401)
  const bearer = await token('bob')
  for (let i = 1; i < 60; i++) t.equal((await call('GET', '/limits/plan', { token: bearer })).status, 200)
  const refused = await call('GET', '/limits/plan', { token: bearer })
  t.equal(refused.status, 429)
  t.match(refused.body, { code: 'FST_BASTION_LIMITS_EXCEEDED', 'violated-policies': ['60/minute'] })
  t.equal((await call('GET', '/limits/plan', { token: await token('alice') })).status, 200, 'whoever pays for more has more')
})

t.test('GET /limits/bucket holds ten and gains one a second', async t => {
  const ask = async (address = '192.0.2.20') => (await call('GET', '/limits/bucket', { address })).status
  const burst = async (times: number, address?: string) => {
    let passed = 0
    for (let i = 0; i < times; i++) if (await ask(address) === 200) passed += 1
    return passed
  }
  t.equal(await burst(15), 10)
  t.equal(await burst(2, '192.0.2.21'), 2)
  pass(1000)
  t.equal(await burst(5), 1)
  pass(3500)
  t.equal(await burst(5), 3)
  pass(60_000)
  t.equal(await burst(15), 10, 'never more than it holds')
})

t.test('GET /posture is for posture:read, and is the running plan', async t => {
  const { status, body } = await call('GET', '/posture', { token: await token('admin') })
  t.equal(status, 200)
  t.match(body, { concerns: Array, findings: Array })
  const route = body.routes.find(({ method, url }: { method: string, url: string }) => method === 'GET' && url === '/orders/:orderId')
  t.match(route, { controls: { access: { resource: 'order', action: 'read' } } })
  for (const name of ['mona', 'max', 'dora', 'alice']) t.equal((await call('GET', '/posture', { token: await token(name) })).status, 403, name)
  t.strictSame(body.findings.filter(({ severity }: { severity: string }) => severity === 'high'), [])
})

t.test('GET /posture is a table for people too: as JSON, and as a page without a script', async t => {
  const admin = await token('admin')
  const { body } = await call('GET', '/posture/table', { token: admin })
  const rowOf = (name: string) => body.rows.find(({ method, url }: { method: string, url: string }) => `${method} ${url}` === name)
  t.match(rowOf('GET /orders/:orderId'), {
    kind: 'route', group: 'own', who: 'who may read this order, or role admin, to others it is not there', via: 'bearer, session', body: 'none', answers: '200 by its schema', audit: 'data_access', headers: 'nothing may load, no-store',
  })
  t.match(rowOf('PATCH /users/:userId/role'), { group: 'role', who: 'role admin, proven in the last 300 s', via: 'bearer, session with CSRF token', body: 'closed: application/json' })
  t.match(rowOf('GET /metrics'), { group: 'permission', who: 'permission metrics:read', via: 'bearer, session, key', answers: 'a page, file or stream: not filtered', gaps: [{ severity: 'low', fix: /schema\.response/ }] })
  t.match(rowOf('POST /session/login'), { group: 'anybody', who: 'anybody', via: 'nothing is needed; own origin' })
  t.match(rowOf('POST /upload/image'), { group: 'signed in', body: 'jpeg, png, gif, webp of up to 5 MiB' })
  t.match(rowOf('GET /limits/multi'), { limits: '5/second, 100/minute, 1000/hour by address (exact log)' })
  t.match(rowOf('GET /limits/bucket'), { limits: '10/10s by address (token bucket)' })
  t.match(rowOf('GET /limits/plan'), { limits: /^free: 60\/minute, 1000\/day; basic: .* by caller/ })
  t.match(rowOf('GET /health'), { limits: 'none' })
  t.match(rowOf('GET /api/v1/users'), { answers: '410 since 2025-07-01' })
  t.match(rowOf('GET /users/:userId'), { answers: /some fields for owner or users:read:private alone/ })
  t.match(rowOf('GET /patients'), { audit: 'data_access, before it answers', answers: /kept encrypted/ })
  t.equal(body.counts[0].count, body.rows.filter(({ kind }: { kind: string }) => kind === 'route').length)

  const page = await call('GET', '/posture?format=html', { token: admin })
  t.match(page, { status: 200, headers: { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' } })
  t.notMatch(page.text, '<script')
  t.match(page.text, `<style nonce="${/'nonce-([^']+)'/.exec(String(page.headers['content-security-policy']))![1]}">`)
  t.match(page.text, /<code>GET \/orders\/:orderId<\/code>.*who may read this order/)
  t.equal((await call('GET', '/posture?format=json', { token: admin })).body.routes.length, body.rows.length)
  t.equal((await call('GET', '/posture?format=xml', { token: admin })).status, 400)
  for (const url of ['/posture/table', '/posture?format=html']) {
    t.equal((await call('GET', url)).status, 401)
    t.equal((await call('GET', url, { token: await token('mona') })).status, 403)
  }
})

t.test('GET / is a page whose scripts and styles need its nonce', async t => {
  const [one, two] = [await call('GET', '/'), await call('GET', '/')]
  t.equal(one.status, 200)
  t.match(one.headers['content-type'], /^text\/html/)
  const nonceOf = ({ headers }: typeof one) => /'nonce-([^']+)'/.exec(String(headers['content-security-policy']))?.[1]
  t.ok(nonceOf(one))
  t.not(nonceOf(one), nonceOf(two))
  t.match(one.text, `nonce="${nonceOf(one)}"`)
  t.notMatch(one.text, '{nonce}')
  t.match(one.headers['permissions-policy'], /publickey-credentials-get=\(self\), publickey-credentials-create=\(self\), .*camera=\(\)/)
  t.equal((await sql.query('select 1 from migrations')).length, readdirSync(new URL('../../demo/data/migrations', import.meta.url)).length)
})

// The last one: pressure is that of the process, and so of every portal in it.
t.test('while the event loop hardly turns, health, readiness and posture are answered, and nothing else is', async t => {
  const portal = await buildOn(t, await freshDatabase(t), {}, undefined, { overload: {} })
  const admin = await portal.token('admin')
  while (!portal.app.overload.isUnderPressure()) {
    for (const until = performance.now() + 1100; performance.now() < until;);
    await new Promise(resolve => { setTimeout(resolve, 1) })
  }
  const { status, body, headers } = await portal.call('GET', '/posts')
  t.match({ status, body, headers }, { status: 503, body: { code: 'FST_BASTION_OVERLOAD_REFUSED' }, headers: { 'retry-after': '10' } })
  for (const url of ['/health', '/health/ready']) t.equal((await portal.call('GET', url)).status, 200, url)
  t.equal((await portal.call('GET', '/posture', { token: admin })).status, 200)
})
