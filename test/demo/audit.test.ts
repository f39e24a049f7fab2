/** The portal's audit trail: pages, verification, the stream, who may read it, and what is not in it. */
import { get, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { build, PASSWORD, type PortalUnderTest } from './portal.js'

const portal = await build(t)
const { app, call, token, signIn, idOf, newcomer, sql } = portal
const admin = await token('admin')
const items = async (query = '') => (await call('GET', `/audit?limit=100${query}`, { token: admin })).body.items as Record<string, any>[]

t.test('what was recorded before the request is in the page: who, what, whence, and how it ended [ASVS 16.2.1, 16.3.1]', async t => {
  const tokens = await signIn('alice')
  const [login] = await items(`&type=login_success&userId=${await idOf('alice')}`)
  t.match(login, { type: 'login_success', vocabulary: 'authn_login_success', outcome: 'success', userId: await idOf('alice'), route: '/auth/login', method: 'POST', address: /^10\./, person: /^p_/ })
  await call('POST', '/auth/refresh', { body: { refresh_token: tokens.refresh_token } })
  t.match((await items('&type=token_issued'))[0], { vocabulary: 'authn_token_created', outcome: 'success', userId: await idOf('alice'), route: '/auth/refresh' })
  await call('GET', '/users?username=x', { token: tokens.access_token })
  const [denied] = await items('&type=access_denied')
  t.match(denied, { outcome: 'failure', vocabulary: 'authz_fail', userId: await idOf('alice'), via: 'bearer', route: '/users', details: { reason: 'lacks permission users:read' } })
  const { body: orders } = await call('GET', `/users/${await idOf('alice')}/orders`, { token: tokens.access_token })
  const bob = await token('bob')
  t.equal((await call('GET', `/orders/${orders.items[0].id}`, { token: bob })).status, 404)
  t.match((await items('&type=access_denied'))[0], { userId: await idOf('bob'), resource: { type: 'order', id: orders.items[0].id }, details: { hidden: true } }, 'a hidden object too')
  t.equal((await call('GET', `/orders/${orders.items[0].id}`, { token: tokens.access_token })).status, 200)
  t.match((await items('&type=data_access'))[0], { resource: { type: 'order', id: orders.items[0].id }, status: 200 })
})

t.test('refusals, reuse, locks, changes of role, keys and sessions are recorded by themselves [ASVS 16.3.2, 16.3.3]', async t => {
  const { id, username, refresh_token: spent } = await newcomer()
  await call('POST', '/auth/refresh', { body: { refresh_token: spent } })
  await call('POST', '/auth/refresh', { body: { refresh_token: spent } })
  for (let i = 0; i < 6; i++) await call('POST', '/auth/login', { body: { username, password: 'wrong' }, address: '192.0.2.77' })
  await call('PATCH', `/users/${id}/role`, { token: admin, body: { role: 'moderator' } })
  await call('POST', `/users/${id}/unlock`, { token: admin })
  const mine = await token(username, 'Newcomer-pass-1')
  const { body: key } = await call('POST', '/api-keys', { token: mine, body: { name: 'k', scopes: ['posts:read'] } })
  await call('DELETE', `/api-keys/${key.id}`, { token: mine })
  await call('POST', '/session/login', { body: { username, password: 'Newcomer-pass-1' } })
  await call('GET', '/users/me')
  for (let i = 0; i < 12; i++) await call('GET', '/search?q=x', { address: '192.0.2.78' })
  const types = new Set((await items()).map(({ type }) => type))
  for (const type of ['login_success', 'login_failure', 'login_locked', 'token_reused', 'permission_change', 'account_unlocked', 'key_created', 'key_revoked', 'session_started', 'access_denied', 'rate_limited']) t.ok(types.has(type), type)
  t.match((await items('&type=permission_change'))[0], { userId: await idOf('admin'), subjectId: id, details: { from: 'user', to: 'moderator' } })
})

t.test('whatever is refused to somebody is recorded with who asked, for what, and why; what was read that is sensitive is, too, without it [ASVS 16.3.2]', async t => {
  const [alice, bob, nora, dora] = [await token('alice'), await token('bob'), await token('nora'), await token('dora')]
  const { body: orders } = await call('GET', `/users/${await idOf('alice')}/orders`, { token: alice })
  const { body: patients } = await call('GET', '/patients', { token: dora })
  const { body: key } = await call('POST', '/api-keys', { token: bob, body: { name: 'k', scopes: ['posts:read'] } })
  const before = (await items())[0]!.seq
  const refused = async (status: number, method: string, url: string, more: object) => t.equal((await call(method, url, more)).status, status, `${method} ${url}`)
  await refused(401, 'GET', '/users/me', {})
  await refused(401, 'GET', '/users/me', { token: `${bob}x` })
  await refused(403, 'GET', '/users', { token: bob })
  await refused(404, 'GET', `/orders/${orders.items[0].id}`, { token: bob })
  await refused(403, 'POST', '/patients/search', { token: nora, body: { ssn: '123-45-6789' } })
  await refused(403, 'GET', '/users', { headers: { 'x-api-key': key.key } })
  t.equal((await call('GET', `/patients/${patients.items[0].id}`, { token: dora })).status, 200)
  const [bobs, noras, doras] = [await idOf('bob'), await idOf('nora'), await idOf('dora')]
  const recorded = (await items()).filter(({ seq }) => seq > before).reverse()
  t.match(recorded, [
    { type: 'access_denied', outcome: 'failure', userId: null, route: '/users/me', details: { reason: 'no credential' } },
    { type: 'access_denied', outcome: 'failure', userId: null, route: '/users/me', details: { reason: /^FST_BASTION_/ } },
    { type: 'access_denied', outcome: 'failure', userId: bobs, via: 'bearer', route: '/users', details: { reason: /lacks permission/ } },
    { type: 'access_denied', outcome: 'failure', userId: bobs, route: '/orders/:orderId', resource: { type: 'order', id: orders.items[0].id }, details: { hidden: true } },
    { type: 'access_denied', outcome: 'failure', userId: noras, route: '/patients/search', details: { reason: /lacks permission/ } },
    { type: 'access_denied', outcome: 'failure', userId: bobs, via: 'key', route: '/users' },
    { type: 'data_access', outcome: 'success', userId: doras, resource: { type: 'patient', id: patients.items[0].id } },
  ])
  t.equal(recorded.length, 7)
  t.notMatch(JSON.stringify(recorded), new RegExp([patients.items[0].name, patients.items[0].ssn, patients.items[0].diagnosis].join('|')))

  await t.test('negative control: on plain Fastify whoever tries the orders of others is, in its log, one who found none', async t => {
    const lines: string[] = []
    const bare = Fastify({ logger: { stream: { write: (line: string) => { lines.push(line) } } } })
    t.teardown(() => bare.close())
    bare.get('/orders/:id', async (request, reply) => request.headers.authorization === 'alice' ? { id: 1 } : reply.code(404).send({}))
    for (const url of ['/orders/1', '/orders/nothing']) await bare.inject({ url, headers: { authorization: 'bob' } })
    const [other, none] = lines.map(line => JSON.parse(line)).filter(({ msg }) => msg === 'request completed').map(({ res, level, msg }) => ({ res, level, msg }))
    t.match(other, { res: { statusCode: 404 } })
    t.same(other, none)
    t.notMatch(lines.join(''), 'bob')
  })
})

t.test('names typed at a failed sign-in are in no row and in no line of the log; nor are passwords, tokens and keys', async t => {
  const typed = 'Tr0ub4dor-and-3-that-is-a-password'
  const wrong = 'Another-secret-77'
  await call('POST', '/auth/login', { body: { username: typed, password: wrong } })
  await call('POST', '/token', { raw: `grant_type=password&username=${typed}&password=${wrong}`, type: 'application/x-www-form-urlencoded' })
  const tokens = await signIn('bob')
  const { body: { key } } = await call('POST', '/api-keys', { token: tokens.access_token, body: { name: 'k', scopes: ['posts:read'] } })
  await call('GET', `/users/me?x=${tokens.access_token}`, { headers: { 'user-agent': `curl ${tokens.access_token} ${key} 4111 1111 1111 1111` } })
  await app.audit.flush()
  const rows = JSON.stringify(await sql.query('select * from audit_events'))
  for (const secret of [typed, wrong, PASSWORD, tokens.access_token, tokens.refresh_token, key, '4111 1111']) {
    t.notOk(rows.includes(secret), 'not in the trail')
    t.notOk(portal.log.some(line => line.includes(secret)), 'not in the log')
  }
  const [failure, other] = await items('&type=login_failure')
  t.match(failure!.details.login, /^[\w-]{22}$/)
  t.equal(failure!.details.login, other!.details.login, 'the same name is the same, wherever it was typed')
})

t.test('only who has audit:read reads it, and what is asked is checked', async t => {
  for (const url of ['/audit', '/audit/verify', '/audit/stream']) {
    t.equal((await call('GET', url)).status, 401)
    t.equal((await call('GET', url, { token: await token('max') })).status, 403)
  }
  for (const query of ['outcome=maybe', 'type=Nope', 'from=yesterday', 'cursor=x', 'cursor=-1', 'unknown=1', 'limit=0']) t.equal((await call('GET', `/audit?${query}`, { token: admin })).status, 400, query)
  t.same(await items('&userId=nobody'), [])
})

t.test('where the stream looks again whether its reader may still read, credentials cannot be guessed without end', async t => {
  let status
  for (let i = 0; i < 1001; i++) ({ status } = await call('GET', '/audit/stream/reader', { token: 'guessed', address: '192.0.2.99' }))
  t.equal(status, 429)
})

t.test('pages follow one another without gaps, and end', async t => {
  const seqs: number[] = []
  let cursor = ''
  do {
    const { body } = await call('GET', `/audit?limit=7${cursor}`, { token: admin })
    seqs.push(...body.items.map(({ seq }: { seq: number }) => seq))
    cursor = body.nextCursor === null ? '' : `&cursor=${body.nextCursor}`
  } while (cursor !== '')
  t.same(seqs, [...seqs].sort((a, b) => b - a))
  t.equal(seqs.at(-1), 1)
  t.equal(new Set(seqs).size, seqs.length)
  const [newest] = await items()
  t.same(await items(`&from=${new Date(Date.parse(newest!.time) + 60_000).toISOString()}`), [])
  t.ok((await items(`&to=${newest!.time}`)).every(({ time }) => time < newest!.time))
})

t.test('a page is of those alone that ended so', async t => {
  const of = async (outcome: string) => (await items(`&outcome=${outcome}`)).map(event => event.outcome)
  for (const outcome of ['success', 'failure']) t.same([...new Set(await of(outcome))], [outcome])
  const [failed] = await items('&outcome=failure')
  t.same((await items(`&outcome=success&type=${failed!.type}`)).filter(({ seq }) => seq === failed!.seq), [])
})

t.test('an erased person is a pseudonym, and the chain stays whole', async t => {
  const { id, token: mine } = await newcomer()
  t.ok((await items(`&userId=${id}`)).length > 0)
  const [before] = await items(`&userId=${id}`)
  t.equal((await call('DELETE', '/users/me', { token: mine })).status, 204)
  t.same(await items(`&userId=${id}`), [])
  t.match((await items()).find(({ seq }) => seq === before!.seq), { person: before!.person, userId: null })
  t.notOk(JSON.stringify([await sql.query('select * from audit_events'), await sql.query('select * from audit_people')]).includes(id), 'the id is nowhere in the trail')
  t.match((await call('GET', '/audit/verify', { token: admin })).body, { whole: true, break: null })
})

t.test('a person gets what they did, and nothing of others', async t => {
  const { token: mine } = await newcomer()
  const { body } = await call('GET', '/users/me/export', { token: mine })
  t.match(body.audit[0], { type: 'login_success', outcome: 'success' })
  t.notOk(JSON.stringify(body.audit).includes('"person"'))
})

t.test('GET /audit/verify names the row that was changed', async t => {
  const { id } = await newcomer()
  const [row] = await items(`&userId=${id}`)
  const [{ content } = { content: '' }] = await sql.query<{ content: string }>('select content from audit_events where seq = $1', [row!.seq])
  await sql.query('update audit_events set content = $2 where seq = $1', [row!.seq, content.replace('success', 'failure')])
  t.match((await call('GET', '/audit/verify', { token: admin })).body, { whole: false, break: { seq: row!.seq, kind: 'changed' } })
  await sql.query('update audit_events set content = $2 where seq = $1', [row!.seq, content])
  t.match((await call('GET', '/audit/verify', { token: admin })).body, { whole: true })
})

t.test('the stream tells what happens, goes on after the last event that was read, and ends when its reader may no longer read', { timeout: 30_000 }, async t => {
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { id, username } = await newcomer('admin')
  const mine = await token(username, 'Newcomer-pass-1')
  const first = await open(t, portal, mine)
  await call('POST', '/auth/login', { body: { username: 'alice', password: 'wrong' } })
  const text = await first.until(/event: login_failure\ndata: \{.*\}\n\n/)
  const [, seq] = /id: (\d+)\nevent: login_failure/.exec(text)!
  await call('PATCH', `/users/${id}/role`, { token: admin, body: { role: 'user' } })
  await call('POST', '/auth/login', { body: { username: 'bob', password: 'wrong-too' } })
  await first.ended
  t.notMatch(first.text().slice(text.length), /permission_change|"outcome":"failure","address":"10/, 'nothing that came after')
  const again = await open(t, portal, admin, { 'last-event-id': String(Number(seq) - 1) })
  t.match(await again.until(/event: login_failure/), new RegExp(`id: ${seq}\n`))
  const page = await open(t, portal, admin, {}, `?after=${Number(seq) - 1}&named=false`)
  t.match(await page.until(/data: \{.*\}\n\n/), new RegExp(`^retry: 3000\n\nid: ${seq}\ndata: \\{`), 'for pages, which hear what has no name')
})

async function open (t: Test, { app }: PortalUnderTest, token: string, headers: Record<string, string> = {}, query = '') {
  let text = ''
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = get({ port: (app.server.address() as AddressInfo).port, host: '127.0.0.1', path: `/audit/stream${query}`, headers: { host: 'localhost:3000', authorization: `Bearer ${token}`, ...headers } }, resolve)
    request.on('error', reject)
    t.teardown(() => { request.destroy() })
  })
  t.equal(answer.statusCode, 200)
  t.match(answer.headers['content-type'], 'text/event-stream')
  const ended = new Promise<void>(resolve => { answer.on('close', resolve) })
  answer.setEncoding('utf8').on('data', chunk => { text += chunk }).on('error', () => {})
  async function until (pattern: RegExp): Promise<string> {
    while (!pattern.test(text)) await new Promise(resolve => { answer.once('data', resolve) })
    return text
  }
  await until(/retry/)
  return { until, ended, text: () => text }
}
