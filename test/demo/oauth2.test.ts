/** The portal's OAuth2 endpoints, as its contract says. */
import t from 'tap'
import { build, PASSWORD } from './portal.js'

const portal = await build(t)
const { call, token, newcomer } = portal
const FORM = 'application/x-www-form-urlencoded'
const post = (path: string, parameters: Record<string, string>, headers: Record<string, string> = {}) =>
  call('POST', path, { raw: new URLSearchParams(parameters).toString(), type: FORM, headers })

t.test('POST /token gives tokens by password and by refresh token, never to be cached', async t => {
  const { status, body, headers } = await post('/token', { grant_type: 'password', username: 'alice', password: PASSWORD })
  t.equal(status, 200)
  t.match(body, { token_type: 'Bearer', expires_in: 900 })
  t.equal(headers['cache-control'], 'no-store')
  t.equal((await call('GET', '/users/me', { token: body.access_token })).body.username, 'alice')
  const next = await post('/token', { grant_type: 'refresh_token', refresh_token: body.refresh_token })
  t.equal(next.status, 200)
  t.match(await post('/token', { grant_type: 'refresh_token', refresh_token: body.refresh_token }), { status: 400, body: { error: 'invalid_grant' } })
  t.equal((await call('GET', '/users/me', { token: next.body.access_token })).status, 401, 'reuse ends the family')
})

t.test('unknown, wrong and inactive are one answer, and guesses lock as they do at login', async t => {
  const refused = []
  for (const username of ['nobody', 'bob', 'ina']) refused.push((await post('/token', { grant_type: 'password', username, password: 'wrong' })).body)
  t.same(refused[0], refused[1])
  t.same(refused[0], refused[2])
  t.equal(refused[0].error, 'invalid_grant')
  t.equal((await post('/token', { grant_type: 'password', username: 'ina', password: PASSWORD })).body.error, 'invalid_grant')
  const address = '203.0.113.60'
  const guess = (password: string) => call('POST', '/token', { raw: new URLSearchParams({ grant_type: 'password', username: 'max', password }).toString(), type: FORM, address })
  for (let i = 0; i < 5; i++) t.equal((await guess(`wrong ${i}`)).status, 400)
  t.equal((await guess(PASSWORD)).status, 429)
  t.equal((await call('POST', '/auth/login', { body: { username: 'max', password: PASSWORD }, address })).status, 429, 'one lock for both')
})

t.test('a token of some scopes does what they say, and no more than its user may', async t => {
  const { body } = await post('/token', { grant_type: 'password', username: 'alice', password: PASSWORD, scope: 'posts:read posts:write' })
  t.equal(body.scope, 'posts:read posts:write')
  t.equal((await call('POST', '/posts', { token: body.access_token, body: { title: 'By scope', content: 'written with a scope' } })).status, 201)
  t.equal((await call('GET', '/limits/plan', { token: body.access_token })).status, 403, 'where no permission is asked for, it is not enough')
  t.equal((await post('/token', { grant_type: 'password', username: 'alice', password: PASSWORD, scope: 'users:delete' })).body.error, 'invalid_scope')
})

t.test('introspection is for keys with the scope, which only an admin can give', async t => {
  const admin = await token('admin')
  const { body: made } = await call('POST', '/api-keys', { token: admin, body: { name: 'resource server', scopes: ['tokens:introspect'] } })
  const user = await newcomer()
  t.equal((await call('POST', '/api-keys', { token: user.token, body: { name: 'not mine to give', scopes: ['tokens:introspect'] } })).status, 403)
  const { body: plain } = await call('POST', '/api-keys', { token: user.token, body: { name: 'plain', scopes: ['data:read'] } })
  const ask = (text: string, key: string) => post('/introspect', { token: text }, { 'x-api-key': key })
  t.match((await ask(user.token, made.key)).body, { active: true, sub: user.id, token_type: 'Bearer' })
  t.strictSame((await ask(user.refresh_token, made.key)).body, { active: false })
  t.equal((await ask(user.token, plain.key)).status, 403)
  t.equal((await post('/introspect', { token: user.token })).status, 401)
  t.equal((await post('/revoke', { token: user.refresh_token })).status, 200)
  t.strictSame((await ask(user.token, made.key)).body, { active: false })
})
