/** GET /metrics: for those who may, as Prometheus reads it, and with nobody in it. */
import t from 'tap'
import { parse } from '../fixtures/prometheus.js'
import { build, PASSWORD } from './portal.js'

const { call, token, signIn, idOf } = await build(t)
const admin = await token('admin')

const read = async () => parse((await call('GET', '/metrics', { token: admin })).text)
/** What was added to each sample while `act` was done. */
async function growth (act: () => Promise<unknown>): Promise<(key: string) => number> {
  const before = await read()
  await act()
  const after = await read()
  return key => (after.get(key) ?? 0) - (before.get(key) ?? 0)
}

t.test('GET /metrics is for metrics:read, and no cache keeps it', async t => {
  const { status, headers, text } = await call('GET', '/metrics', { token: admin })
  t.equal(status, 200)
  t.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8')
  t.equal(headers['cache-control'], 'no-store')
  t.ok(parse(text).size > 30)
  t.match(await call('GET', '/metrics'), { status: 401, body: { code: 'FST_BASTION_ACCESS_UNAUTHENTICATED' } })
  for (const name of ['gus', 'alice', 'mona', 'max', 'dora']) t.match(await call('GET', '/metrics', { token: await token(name) }), { status: 403, body: { code: 'FST_BASTION_ACCESS_FORBIDDEN' } }, name)
  t.equal((await call('HEAD', '/metrics', { token: await token('alice') })).status, 403)
})

t.test('an API key with that scope reads it, as Prometheus sends it, and reads nothing else', async t => {
  const { body: { key } } = await call('POST', '/api-keys', { token: admin, body: { name: 'Prometheus', scopes: ['metrics:read'] } })
  t.equal((await call('GET', '/metrics', { token: key })).status, 200)
  t.equal((await call('GET', '/posture', { token: key })).status, 403)
})

t.test('counts equal what was done', async t => {
  const grew = await growth(async () => {
    for (let i = 0; i < 7; i++) await call('GET', '/posts')
    for (let i = 0; i < 4; i++) await call('GET', '/users/me')
    for (let i = 0; i < 3; i++) await call('POST', '/auth/login', { body: { username: 'bob', password: 'wrong' } })
    for (let i = 0; i < 2; i++) await call('POST', '/auth/login', { body: { username: 'bob', password: PASSWORD } })
    for (let i = 0; i < 8; i++) await call('GET', '/limits/multi', { address: '192.0.2.44' })
    for (let i = 0; i < 5; i++) await call('GET', `/nothing/${i}`)
  })
  const answered = (method: string, route: string, status: string) => grew(`bastion_request_duration_seconds_count{method=${method},route=${route},status=${status}}`)
  t.equal(answered('GET', '/posts', '2xx'), 7)
  t.equal(answered('GET', '/users/me', '4xx'), 4)
  t.equal(answered('POST', '/auth/login', '4xx'), 3)
  t.equal(answered('POST', '/auth/login', '2xx'), 2)
  t.equal(answered('GET', '/limits/multi', '2xx'), 5)
  t.equal(answered('GET', '/limits/multi', '4xx'), 3)
  const refused = (concern: string, code: string, outcome = 'refused') => grew(`bastion_decisions_total{code=${code},concern=${concern},outcome=${outcome}}`)
  t.equal(refused('access', 'FST_BASTION_ACCESS_UNAUTHENTICATED'), 4)
  t.equal(refused('sign-in', 'FST_BASTION_SIGN_IN_REFUSED'), 3)
  t.equal(refused('limits', 'FST_BASTION_LIMITS_EXCEEDED', 'limited'), 3)
  t.equal(refused('errors', 'FST_BASTION_ERRORS_NOT_FOUND'), 5)
  t.equal(refused('all', '', 'allowed'), 7 + 2 + 5 + 1, 'and the one that read the metrics before')
  t.equal(grew('bastion_events_total{type=login_failure}'), 3)
  t.equal(grew('bastion_events_total{type=login_success}'), 2)
  t.equal(grew('bastion_hash_seconds_count{}'), 5)
})

t.test('no id, name, address or credential is in it', async t => {
  const { access_token: bearer } = await signIn('alice')
  const id = await idOf('alice')
  await call('GET', `/users/${id}?q=s3cret-query`, { token: bearer, address: '198.51.100.77' })
  await call('GET', `/documents/${id}`, { token: bearer })
  const { text } = await call('GET', '/metrics', { token: admin })
  for (const secret of [id, 'alice', '198.51.100', 's3cret', bearer, admin]) t.notOk(text.includes(secret), 'nothing of a request')
  t.notMatch(text, /[\w.]+@[\w.]+/)
})

t.test('asking for ever new URLs and methods makes no series', async t => {
  const before = (await read()).size
  for (let i = 0; i < 40; i++) await call(['GET', 'PUT', 'DELETE', 'PATCH'][i % 4]!, `/made-up-${i}/x?y=${i}`)
  t.ok((await read()).size - before < 20)
})
