/** API keys of the portal: made by users, shown once, good for what they were made for and no longer. */
import t from 'tap'
import { build, type Answer } from './portal.js'

const { call, sql, log, token, newcomer, pass, idOf } = await build(t)

const DAY = 86_400_000
const INVALID = { status: 401, body: { code: 'FST_BASTION_API_KEYS_INVALID' } }
const data = (key: string, more: { address?: string } = {}) => call('GET', '/api/data', { headers: { 'x-api-key': key }, ...more })
const signedIn = async (name: string) => ({ token: await token(name) })
const make = (bearer: string, more: object = {}) => call('POST', '/api-keys', { token: bearer, body: { name: 'Nightly', scopes: ['data:read'], ...more } })
async function keyOf (bearer: string, more: object = {}): Promise<{ id: string, key: string }> {
  const { status, body } = await make(bearer, more)
  if (status !== 201) throw new Error(`no key: ${status}`)
  return body
}
const rows = async () => (await sql.query<{ count: number }>('select count(*)::int as count from api_keys'))[0]!.count
/** Every table of the database, as text. */
async function dump (): Promise<string> {
  const tables = await sql.query<{ name: string }>("select table_name as name from information_schema.tables where table_schema = 'public'")
  return (await Promise.all(tables.map(async ({ name }) => JSON.stringify(await sql.query(`select * from "${name}"`))))).join('\n')
}

t.test('a key is shown once, and nothing but its beginning ever after', async t => {
  const { token: bearer } = await newcomer()
  const { status, body, headers } = await make(bearer, { name: ' Nightly ' })
  t.equal(status, 201)
  t.equal(headers['cache-control'], 'no-store')
  t.match(body.key, /^sk_live_[0-9A-Za-z]{81}$/)
  t.match(body, { id: /^\w{16}$/, name: 'Nightly', mode: 'live', scopes: ['data:read'], isActive: true, expiresAt: null, lastUsedAt: null, allowedIps: null })
  t.equal((await data(body.key)).status, 200)
  const listed = await call('GET', '/api-keys', { token: bearer })
  t.match(listed, { status: 200, body: { nextCursor: null } })
  t.strictSame(Object.keys(listed.body.items[0]).sort(),
    ['allowedIps', 'createdAt', 'expiresAt', 'id', 'isActive', 'lastUsedAt', 'mode', 'name', 'prefix', 'previousUntil', 'scopes'])
  t.equal(listed.body.items[0].prefix, `sk_live_${body.id}`)
  t.ok(listed.body.items[0].lastUsedAt, 'that it was used is known at once')
  const secret = body.key.slice(`sk_live_${body.id}`.length)
  await call('GET', `/${body.key}`)
  await call('GET', '/api/data', { headers: { 'x-api-key': `${body.key}x` } })
  await call('GET', '/api/data', { token: body.key })
  for (const [where, text] of [['the list', listed.text], ['the database', await dump()], ['the log', log.join('')]] as const) {
    t.notOk(text.includes(secret) || text.includes(secret.slice(0, 20)), where)
  }
  const { text } = await call('GET', '/users/me/export', { token: bearer })
  t.ok(text.includes('Nightly'), 'the export holds the key')
  t.notOk(text.includes(secret) || /hash/i.test(text))
})

t.test('GET /api/data wants a key with the scope data:read', async t => {
  const { token: bearer, id } = await newcomer()
  const { key } = await keyOf(bearer)
  t.match(await data(key), { status: 200, body: { userId: id, posts: 0, documents: 0, orders: 0 } })
  t.equal((await call('GET', '/api/data', { token: key })).status, 200, 'as a bearer credential')
  t.equal((await call('GET', '/api/data', { token: key, headers: { 'x-api-key': key } })).status, 200, 'twice the same is one')
  t.match(await call('GET', '/api/data'), { status: 401, body: { code: 'FST_BASTION_ACCESS_UNAUTHENTICATED' } })
  for (const unknown of ['', 'sk_live_', 'sk_live_somekey', key.slice(0, -1), `${key}0`, key.replace('live', 'test'), `${key.slice(0, 30)}${key[30] === 'a' ? 'b' : 'a'}${key.slice(31)}`]) {
    t.match(await data(unknown), INVALID, unknown)
  }
  t.match(await call('GET', '/api/data', { token: bearer }), { status: 403 }, 'people have other ways')
  t.match(await data((await keyOf(bearer, { scopes: ['posts:read'] })).key), { status: 403, body: { code: 'FST_BASTION_ACCESS_FORBIDDEN' } })
  t.match(await data((await keyOf(bearer, { scopes: [] })).key), { status: 403 })
})

t.test('two different credentials are a 400', async t => {
  const { token: bearer } = await newcomer()
  const [one, other] = [await keyOf(bearer), await keyOf(bearer)]
  const twice = { status: 400, body: { code: 'FST_BASTION_IDENTITY_TWO_CREDENTIALS' } }
  t.match(await call('GET', '/users/me', { token: bearer, headers: { 'x-api-key': one.key } }), twice)
  t.match(await call('GET', '/users/me', { token: other.key, headers: { 'x-api-key': one.key } }), twice)
  t.match(await call('GET', '/users/me', { headers: { 'x-api-key': `${one.key}, ${other.key}` } }), twice)
})

t.test('a key reads its user\'s profile, and manages nothing', async t => {
  const { token: bearer, id, username } = await newcomer()
  const made = await keyOf(bearer)
  const headers = { 'x-api-key': made.key }
  t.match(await call('GET', '/users/me', { headers }), { status: 200, body: { id, username } })
  for (const [method, url, body] of [
    ['PATCH', '/users/me', { bio: 'x' }], ['DELETE', '/users/me'], ['GET', '/users/me/export'], ['POST', '/auth/password', { currentPassword: 'a', newPassword: 'b' }], ['POST', '/auth/logout-all'],
    ['GET', '/api-keys'], ['POST', '/api-keys', { name: 'x', scopes: [] }], ['PATCH', `/api-keys/${made.id}`, { isActive: true }], ['POST', `/api-keys/${made.id}/rotate`], ['DELETE', `/api-keys/${made.id}`],
  ] as const) t.equal((await call(method, url, { headers, body })).status, 403, `${method} ${url}`)
  t.equal((await data(made.key)).status, 200)
})

t.test('a scope that the creator lacks is a 403, and makes no key', async t => {
  const before = await rows()
  const { token: bearer } = await newcomer()
  for (const scope of ['users:read', 'users:delete', 'posture:read', 'patients:read', '*', 'data:*', 'data:raed', 'DATA:READ']) {
    t.match(await make(bearer, { scopes: ['data:read', scope] }), { status: 403, body: { code: 'FST_BASTION_API_KEYS_EXCEEDS' } }, scope)
  }
  t.equal((await make((await signedIn('gus')).token)).status, 403, 'a guest reads no data')
  t.equal(await rows(), before)
  t.equal((await make((await signedIn('max')).token, { scopes: ['data:read', 'reports:read'] })).status, 201, 'a manager may')
})

t.test('bodies are closed and what is not addresses is refused', async t => {
  const { token: bearer } = await newcomer()
  const before = await rows()
  for (const wrong of [
    { name: '' }, { name: '  ' }, { name: 'a\nb' }, { name: 'x'.repeat(101) }, { name: 7 }, { scopes: 'data:read' }, { scopes: [7] }, { scopes: ['data:read', 'data:read'] }, { expiresInDays: 0 },
    { expiresInDays: 1.5 }, { expiresInDays: '3' }, { mode: 'prod' }, { allowedIps: [] }, { allowedIps: ['nowhere'] }, { allowedIps: ['0.0.0.0/0'] }, { allowedIps: ['10.0.0.0/33'] }, { userId: await idOf('admin') },
    { isActive: true }, { key: 'sk_live_mine' },
  ]) t.equal((await make(bearer, wrong)).status, 400, JSON.stringify(wrong))
  t.equal(await rows(), before)
})

t.test('making a key wants a recent sign-in', async t => {
  const { token: bearer } = await newcomer()
  pass(301_000)
  t.match(await make(bearer), { status: 401, body: { code: 'FST_BASTION_STEP_UP_REQUIRED' } })
  t.equal((await make(await token('alice'))).status, 201)
  t.equal((await call('POST', '/api-keys', { body: { name: 'x', scopes: [] } })).status, 401)
})

t.test('keys belong to their users: to everybody else they do not exist', async t => {
  const { token: bearer } = await newcomer()
  const { id, key } = await keyOf(bearer)
  for (const name of ['bob', 'admin']) {
    const stranger = await signedIn(name)
    for (const [method, url, body] of [['PATCH', `/api-keys/${id}`, { isActive: false }], ['POST', `/api-keys/${id}/rotate`], ['DELETE', `/api-keys/${id}`]] as const) {
      const foreign = await call(method, url, { ...stranger, body })
      const missing = await call(method, url.replace(id, 'AAAAAAAAAAAAAAAA'), { ...stranger, body })
      t.equal(foreign.status, 404)
      t.strictSame({ ...foreign.body, requestId: '' }, { ...missing.body, requestId: '' }, 'like one that never was')
    }
    t.notOk((await call('GET', '/api-keys', stranger)).text.includes(id))
  }
  t.equal((await data(key)).status, 200, 'and nothing happened to it')
})

t.test('a key is switched off and on, and deleted, at once', async t => {
  const { token: bearer } = await newcomer()
  const { id, key } = await keyOf(bearer)
  const change = (isActive: boolean) => call('PATCH', `/api-keys/${id}`, { token: bearer, body: { isActive } })
  t.match(await change(false), { status: 200, body: { id, isActive: false } })
  t.match(await data(key), { status: 403, body: { code: 'FST_BASTION_API_KEYS_DISABLED' } })
  t.equal((await call('GET', '/users/me', { token: key })).status, 403)
  t.match(await change(true), { status: 200, body: { isActive: true } })
  t.equal((await data(key)).status, 200)
  t.equal((await call('DELETE', `/api-keys/${id}`, { token: bearer })).status, 204)
  t.match(await data(key), INVALID)
  t.equal((await call('DELETE', `/api-keys/${id}`, { token: bearer })).status, 404)
})

t.test('after a rotation both texts are good for a day, then only the new one', async t => {
  const { username, token: bearer } = await newcomer()
  const { id, key } = await keyOf(bearer)
  const { status, body } = await call('POST', `/api-keys/${id}/rotate`, { token: bearer })
  t.equal(status, 200)
  t.equal(body.id, id)
  t.not(body.key, key)
  for (const text of [key, body.key]) t.equal((await data(text)).status, 200)
  const again = (await call('POST', `/api-keys/${id}/rotate`, { token: bearer })).body
  t.match(await data(key), INVALID, 'a second rotation ends the first text')
  pass(DAY - 1000)
  for (const text of [body.key, again.key]) t.equal((await data(text)).status, 200)
  pass(1000)
  t.match(await data(body.key), INVALID)
  t.equal((await data(again.key)).status, 200)
  t.equal((await call('DELETE', `/api-keys/${id}`, { token: await token(username, 'Newcomer-pass-1') })).status, 204)
  t.match(await data(again.key), INVALID)
})

t.test('a key expires, and is good only from its addresses', async t => {
  const { token: bearer } = await newcomer()
  const { key } = await keyOf(bearer, { expiresInDays: 2, allowedIps: ['203.0.113.0/24', '2001:db8::/32'] })
  for (const address of ['203.0.113.9', '::ffff:203.0.113.9', '2001:db8::1']) t.equal((await data(key, { address })).status, 200, address)
  for (const address of ['203.0.114.9', '127.0.0.1', '2001:db9::1']) t.match(await data(key, { address }), { status: 403, body: { code: 'FST_BASTION_API_KEYS_ADDRESS' } }, address)
  pass(2 * DAY)
  t.match(await data(key, { address: '203.0.113.9' }), INVALID)
})

t.test('what the user loses, the key loses; with the user it ends', async t => {
  const admin = async () => ({ token: await token('admin') })
  const { id, token: bearer } = await newcomer('manager')
  const { key } = await keyOf(bearer, { scopes: ['data:read', 'users:read'] })
  const users = async (): Promise<Answer> => call('GET', '/users', { headers: { 'x-api-key': key } })
  t.equal((await users()).status, 200)
  t.equal((await call('PATCH', `/users/${id}/role`, { ...await admin(), body: { role: 'user' } })).status, 200)
  t.equal((await users()).status, 403, 'a scope of more than the user has is worth nothing')
  t.equal((await data(key)).status, 200)
  t.equal((await call('PATCH', `/users/${id}/role`, { ...await admin(), body: { role: 'guest' } })).status, 200)
  t.equal((await data(key)).status, 403)
  await call('PATCH', `/users/${id}/role`, { ...await admin(), body: { role: 'manager' } })
  t.equal((await users()).status, 200)
  await call('PATCH', `/users/${id}/active`, { ...await admin(), body: { isActive: false } })
  t.match(await users(), INVALID)
  await call('PATCH', `/users/${id}/active`, { ...await admin(), body: { isActive: true } })
  t.equal((await users()).status, 200)
  t.equal((await call('DELETE', `/users/${id}`, await admin())).status, 204)
  t.match(await users(), INVALID)
})

t.test('a list of many keys comes in pages, and a user has fifty at most', async t => {
  const { token: bearer } = await newcomer()
  for (let i = 0; i < 50; i++) t.equal((await make(bearer, { name: `Key ${i}` })).status, 201)
  t.match(await make(bearer), { status: 409, body: { code: 'FST_BASTION_API_KEYS_FULL' } })
  const ids = new Set<string>()
  let cursor: string | null = ''
  for (let i = 0; cursor !== null && i < 5; i++) {
    const { body }: Answer = await call('GET', `/api-keys?limit=20${cursor === '' ? '' : `&cursor=${cursor}`}`, { token: bearer })
    for (const { id } of body.items) ids.add(id)
    cursor = body.nextCursor
  }
  t.equal(ids.size, 50)
})

t.test('a new text for a key, and a key that is switched on again, are for who has just shown themselves', async t => {
  const { token: bearer } = await newcomer()
  const { id, key } = await keyOf(bearer)
  pass(301_000)
  t.match(await call('POST', `/api-keys/${id}/rotate`, { token: bearer }), { status: 401, body: { code: 'FST_BASTION_STEP_UP_REQUIRED' } })
  t.match(await call('PATCH', `/api-keys/${id}`, { token: bearer, body: { isActive: false } }), { status: 200 }, 'what keeps somebody out needs no more')
  t.match(await call('PATCH', `/api-keys/${id}`, { token: bearer, body: { isActive: true } }), { status: 401, body: { code: 'FST_BASTION_STEP_UP_REQUIRED' } })
  t.equal((await data(key)).status, 403)
})
