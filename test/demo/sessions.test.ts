/** The portal in a browser: sign-in by cookie, CSRF, step-up, devices, and all that ends a session. */
import cookie from '@fastify/cookie'
import jwt from '@fastify/jwt'
import session from '@fastify/session'
import Fastify from 'fastify'
import { TOTP } from 'otpauth'
import t from 'tap'
import { authenticator } from '../passkeys/authenticator.js'
import { build, buildOn, PASSWORD } from './portal.js'
import { tabAt } from './tab.js'

const portal = await build(t)
const { call, token } = portal
const ENDED = { status: 401, body: { code: 'FST_BASTION_SESSIONS_INVALID' } }
const REFUSED = { status: 403, body: { code: 'FST_BASTION_CSRF_REFUSED' } }

const codeOf = (secret: string) => new TOTP({ secret }).generate({ timestamp: portal.now() })

/** A tab in which somebody new is signed in. */
async function newcomer (role = 'user') {
  const { username, id } = await portal.newcomer(role)
  const tab = tabAt(portal)
  await tab.signIn(username, 'Newcomer-pass-1')
  return { tab, username, id }
}

t.test('a sign-in by session: the cookie, the profile, a change of it, the logout', async t => {
  const tab = tabAt(portal)
  const { status, headers, body } = await tab.ask('POST', '/session/login', { body: { username: 'alice', password: PASSWORD } })
  t.equal(status, 200)
  t.match(body.user, { username: 'alice', plan: 'pro' })
  const [cookie, csrf] = headers['set-cookie'] as [string, string]
  t.match([cookie, csrf].sort(), [/^csrf=[\w-]+; Path=\/; HttpOnly; SameSite=Strict$/, /^session=[^;]+; Path=\/; HttpOnly; SameSite=Lax$/])
  t.equal(headers['cache-control'], 'no-store')
  t.match(await tab.ask('GET', '/session/me'), { status: 200, body: { username: 'alice' } })
  t.match(await tab.ask('GET', '/users/me'), { status: 200, body: { username: 'alice' } })
  t.match(await tab.ask('POST', '/session/profile', { body: { bio: 'Hello there' } }), { status: 200, body: { bio: 'Hello there' } })
  t.match(await tab.ask('PATCH', '/users/me', { body: { bio: 'Hello again' } }), { status: 200 })
  t.match(await tab.ask('POST', '/session/profile', { body: { role: 'admin' } }), { status: 400, body: { errors: [{ path: '/role' }] } })
  t.match(await tab.ask('POST', '/session/profile', { body: { email: 'x@people.example' } }), { status: 400 })
  const thief = tab.copy()
  t.equal((await tab.ask('POST', '/session/logout')).status, 204)
  t.notOk(tab.jar.has('session'))
  t.match(await thief.ask('GET', '/session/me'), ENDED)
  t.match(await tab.ask('GET', '/session/me'), { status: 401 })
})

t.test('a bearer token is no session, and a session no bearer token', async t => {
  const { tab } = await newcomer()
  const bearer = await token('alice')
  t.match(await call('GET', '/session/me', { token: bearer }), { status: 403 })
  t.match(await tab.ask('POST', '/auth/logout'), { status: 403 })
  t.match(await tab.ask('GET', '/users/me', { token: bearer }), { status: 400, body: { code: 'FST_BASTION_IDENTITY_TWO_CREDENTIALS' } })
})

t.test('wrong, unknown, inactive and locked as everywhere', async t => {
  const ask = (username: string, password: string, address?: string) => tabAt(portal).ask('POST', '/session/login', { body: { username, password }, ...address !== undefined && { address } })
  t.match(await ask('alice', 'wrong'), { status: 401, body: { code: 'FST_BASTION_SIGN_IN_REFUSED' } })
  t.match(await ask('nobody-at-all', 'wrong'), { status: 401, body: { code: 'FST_BASTION_SIGN_IN_REFUSED' } })
  t.match(await ask('ina', PASSWORD), { status: 403, body: { code: 'FST_BASTION_SIGN_IN_INACTIVE' } })
  const { username } = await portal.newcomer()
  for (let i = 0; i < 5; i++) await ask(username, 'wrong', '203.0.113.77')
  t.match(await ask(username, 'Newcomer-pass-1', '203.0.113.77'), { status: 429 })
})

t.test('unsafe methods want the token and a page of the portal [ASVS 3.5.1]', async t => {
  const { tab } = await newcomer()
  const shown = tab.csrf
  for (const [what, headers] of Object.entries<Record<string, string>>({
    'another site': { 'sec-fetch-site': 'cross-site' },
    'another host of the site': { 'sec-fetch-site': 'same-site' },
    'another origin': { 'sec-fetch-site': '', origin: 'https://evil.example' },
    'an origin that is none': { 'sec-fetch-site': '', origin: 'null' },
    'an origin that begins alike': { 'sec-fetch-site': '', origin: 'http://localhost:3000.evil.example' },
  })) t.match(await tab.ask('POST', '/session/profile', { body: { bio: 'x' }, headers }), REFUSED, what)
  for (const [what, csrf] of [['none', null], ['made up', 'x'.repeat(60)], ['cut', shown!.slice(0, -1)]] as const) {
    tab.csrf = csrf
    t.match(await tab.ask('POST', '/session/profile', { body: { bio: 'x' } }), REFUSED, what)
    t.match(await tab.ask('POST', '/session/logout'), REFUSED, what)
    t.match(await tab.ask('PATCH', '/users/me', { body: { bio: 'x' } }), REFUSED, what)
  }
  tab.csrf = shown
  t.match(await tab.ask('POST', '/session/profile', { body: { bio: 'mine' } }), { status: 200, body: { bio: 'mine' } })
})

t.test('the token of user A is worth nothing with the session of user B, nor is that from before the sign-in [GHSA-qrgf-9gpc-vrxw]', async t => {
  const [{ tab: mallory }, { tab: victim, username }] = [await newcomer(), await newcomer()]
  // The cookie of the double submit too, as a sibling host could plant it.
  victim.jar.set('csrf', mallory.jar.get('csrf')!)
  victim.csrf = mallory.csrf
  t.match(await victim.ask('POST', '/session/profile', { body: { bio: 'x' } }), REFUSED)
  const anonymous = tabAt(portal)
  const { body } = await anonymous.ask('GET', '/csrf-token')
  t.match(body, { csrfToken: /^[\w.-]+$/ })
  await anonymous.signIn(username, 'Newcomer-pass-1')
  const fresh = anonymous.csrf
  anonymous.csrf = body.csrfToken
  t.match(await anonymous.ask('POST', '/session/profile', { body: { bio: 'x' } }), REFUSED)
  anonymous.csrf = fresh
  t.match(await anonymous.ask('POST', '/session/profile', { body: { bio: 'x' } }), { status: 200 })
})

t.test('another site signs nobody in [ASVS 3.5.1]', async t => {
  const body = { username: 'alice', password: PASSWORD }
  for (const url of ['/session/login', '/session/mfa']) {
    const { status, headers } = await tabAt(portal).ask('POST', url, { body: url.endsWith('mfa') ? { mfaToken: 'x', code: '1' } : body, headers: { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' } })
    t.equal(status, 403)
    t.equal(headers['set-cookie'], undefined)
  }
  t.equal((await tabAt(portal).ask('POST', '/session/login', { body, headers: { 'sec-fetch-site': '' } })).status, 200, 'what is no browser does not say from where')
})

t.test('bearer and key requests are not bothered, wherever they come from', async t => {
  const bearer = await token('alice')
  t.match(await call('PATCH', '/users/me', { token: bearer, body: { bio: 'from an app' }, headers: { 'sec-fetch-site': 'cross-site', origin: 'https://app.example' } }), { status: 200 })
})

t.test('a token for a page without a sign-in keeps nothing on the server', async t => {
  const before = await portal.app.state.size()
  const tab = tabAt(portal)
  for (let i = 0; i < 20; i++) t.equal((await tab.ask('GET', '/csrf-token')).status, 200)
  t.strictSame([...tab.jar.keys()], ['csrf'])
  t.equal((await portal.app.state.size()).entries, before.entries)
})

t.test('the session from before the sign-in, of whomever, is not the one after it [ASVS 7.2.4]', async t => {
  const { tab: mallory } = await newcomer()
  const planted = mallory.jar.get('session')!
  const victim = tabAt(portal, [['session', planted]])
  await victim.signIn('bob', PASSWORD)
  t.not(victim.jar.get('session'), planted)
  t.match(await tabAt(portal, [['session', planted]]).ask('GET', '/session/me'), ENDED)
  const invented = tabAt(portal, [['session', 'chosen-by-the-attacker']])
  await invented.signIn('bob', PASSWORD)
  t.not(invented.jar.get('session'), 'chosen-by-the-attacker')
})

t.test('a second factor: the password gives no session, the code does, once; a step-up gives a fresh id', async t => {
  const { tab, username } = await newcomer()
  const elsewhere = tabAt(portal)
  await elsewhere.signIn(username, 'Newcomer-pass-1')
  const { body: { secret } } = await tab.ask('POST', '/mfa/enroll')
  const totp = new TOTP({ secret })
  const code = () => totp.generate({ timestamp: portal.now() })
  t.match(await tab.ask('POST', '/mfa/confirm', { body: { code: code() } }), { status: 200 })
  t.match(await elsewhere.ask('GET', '/session/me'), ENDED, 'whoever else is signed in has shown no second factor')
  t.match(await tab.ask('GET', '/session/me'), { status: 200 }, 'but the one that confirmed stays')

  portal.pass(60_000)
  const fresh = tabAt(portal)
  const { status, body, headers } = await fresh.ask('POST', '/session/login', { body: { username, password: 'Newcomer-pass-1' } })
  t.match({ status, code: body.code, cookie: headers['set-cookie'] }, { status: 401, code: 'FST_BASTION_MFA_REQUIRED', cookie: undefined })
  const answers = await Promise.all(Array.from({ length: 20 }, () => tabAt(portal).ask('POST', '/session/mfa', { body: { mfaToken: body.mfaToken, code: code() } })))
  t.equal(answers.filter(answer => answer.status === 200).length, 1)
  t.equal(answers.filter(answer => answer.headers['set-cookie'] !== undefined).length, 1)

  portal.pass(60_000)
  t.match(await tab.ask('GET', '/users/me/export'), { status: 200 })
  portal.pass(300_000)
  t.match(await tab.ask('GET', '/users/me/export'), { status: 401, body: { code: 'FST_BASTION_STEP_UP_REQUIRED' } })
  t.match(await tab.ask('POST', '/session/step-up', { body: { password: 'Newcomer-pass-1' } }), { status: 401, body: { code: 'FST_BASTION_MFA_REQUIRED' } })
  const stale = tab.copy()
  t.match(await tab.ask('POST', '/session/step-up', { body: { code: code() } }), { status: 200, body: { csrfToken: /./ } })
  t.match(await stale.ask('GET', '/session/me'), ENDED)
  t.match(await tab.ask('GET', '/users/me/export'), { status: 200 })
  t.match(await tab.ask('DELETE', '/mfa'), { status: 204 })
})

t.test('step-up by password; five wrong ones lock', async t => {
  const { tab } = await newcomer()
  portal.pass(301_000)
  t.match(await tab.ask('POST', '/api-keys', { body: { name: 'k', scopes: ['data:read'] } }), { status: 401, body: { code: 'FST_BASTION_STEP_UP_REQUIRED' } })
  const address = '203.0.113.9'
  for (let i = 0; i < 5; i++) t.match(await tab.ask('POST', '/session/step-up', { body: { password: 'wrong' }, address }), { status: 401 })
  t.match(await tab.ask('POST', '/session/step-up', { body: { password: 'Newcomer-pass-1' }, address }), { status: 429 })
  portal.pass(900_001)
  t.match(await tab.ask('POST', '/session/step-up', { body: { password: 'Newcomer-pass-1' }, address }), { status: 200 })
  t.match(await tab.ask('POST', '/api-keys', { body: { name: 'k', scopes: ['data:read'] } }), { status: 201 })
})

t.test('devices: each is listed and can be ended, by its user alone', async t => {
  const { tab, username } = await newcomer()
  const phone = tabAt(portal)
  await phone.signIn(username, 'Newcomer-pass-1')
  const { body: { items } } = await tab.ask('GET', '/sessions', { headers: { 'user-agent': 'laptop' } })
  t.equal(items.length, 2)
  t.strictSame(items.map((device: { isCurrent: boolean }) => device.isCurrent), [true, false])
  const { id } = items[1]
  const { tab: stranger } = await newcomer()
  t.match(await stranger.ask('DELETE', `/sessions/${id}`), { status: 404 })
  t.equal((await phone.ask('GET', '/session/me')).status, 200)
  t.equal((await tab.ask('DELETE', `/sessions/${id}`)).status, 204)
  t.match(await phone.ask('GET', '/session/me'), ENDED)
  t.match(await tab.ask('DELETE', `/sessions/${id}`), { status: 404 })
  t.match(await tab.ask('DELETE', '/sessions/..%2f..'), { status: 400 })
  const { access_token: bearer } = await portal.signIn(username, 'Newcomer-pass-1')
  t.match(await call('GET', '/sessions', { token: bearer }), { status: 200, body: { items: [{ isCurrent: false }], nextCursor: null } })
})

t.test('what ends all sign-ins ends sessions and tokens alike [ASVS 7.4.2] [ASVS 7.4.3] [ASVS 7.4.5]', async t => {
  const admin = async () => token('admin')
  const endings: Record<string, (of: { id: string, username: string, bearer: string }) => Promise<{ status: number }>> = {
    'the password changes': ({ bearer }) => call('POST', '/auth/password', { token: bearer, body: { currentPassword: 'Newcomer-pass-1', newPassword: 'Another-pass-22' } }),
    'the password is chosen anew by a link': async ({ id, username }) => {
      const [user] = await portal.sql.query<{ password_hash: string }>('update users set email_confirmed_at = now() where id = $1 returning password_hash', [id])
      const link = portal.app.tokens.links.issue({ purpose: 'reset', subject: id, lifetime: 600, bound: `${username}@people.example ${user!.password_hash}` })
      return call('POST', '/auth/reset', { body: { token: link, newPassword: 'Another-pass-22' } })
    },
    'an authenticator is added': async ({ bearer }) => {
      const { body: { secret } } = await call('POST', '/mfa/enroll', { token: bearer })
      return call('POST', '/mfa/confirm', { token: bearer, body: { code: codeOf(secret) } })
    },
    'an authenticator is removed': async ({ id, username, bearer }) => {
      const { secret } = await portal.app.mfa.enroll({ id, name: username })
      await portal.app.mfa.confirm(id, codeOf(secret))
      return call('DELETE', '/mfa', { token: bearer })
    },
    'a passkey is added': async ({ bearer }) => {
      const { body } = await call('POST', '/passkeys/register/options', { token: bearer })
      return call('POST', '/passkeys/register', { token: bearer, body: authenticator().create(body) })
    },
    'a passkey is removed': async ({ id, username, bearer }) => {
      const passkey = await portal.app.passkeys.register(id, authenticator().create(await portal.app.passkeys.registerOptions({ id, name: username })), { name: 'Telephone' })
      return call('DELETE', `/passkeys/${passkey.id}`, { token: bearer })
    },
    'logout everywhere': ({ bearer }) => call('POST', '/auth/logout-all', { token: bearer }),
    'the role changes': async ({ id }) => call('PATCH', `/users/${id}/role`, { token: await admin(), body: { role: 'manager' } }),
    'an admin switches the account off': async ({ id }) => call('PATCH', `/users/${id}/active`, { token: await admin(), body: { isActive: false } }),
    'an admin ends the sessions': async ({ id }) => call('DELETE', `/users/${id}/sessions`, { token: await admin() }),
    'an admin deletes the user': async ({ id }) => call('DELETE', `/users/${id}`, { token: await admin() }),
    'the user erases the account': ({ bearer }) => call('DELETE', '/users/me', { token: bearer }),
  }
  for (const [what, end] of Object.entries(endings)) {
    const { tab, username, id } = await newcomer()
    const { access_token: bearer } = await portal.signIn(username, 'Newcomer-pass-1')
    const { access_token: other } = await portal.signIn(username, 'Newcomer-pass-1')
    t.equal((await tab.ask('GET', '/session/me')).status, 200)
    t.match(await end({ id, username, bearer }), { status: /^20[014]$/ }, what)
    t.match(await tab.ask('GET', '/session/me'), ENDED, what)
    t.equal((await call('GET', '/users/me', { token: other })).status, 401, what)
  }

  const everybody = await Promise.all([newcomer(), newcomer(), newcomer('moderator')])
  const bearer = await admin()
  for (const { tab } of everybody) t.equal((await tab.ask('GET', '/session/me')).status, 200)
  for (let cursor = ''; ;) {
    const { body: { items, nextCursor } } = await call('GET', `/users?limit=100${cursor}`, { token: bearer })
    for (const { id, username } of items) if (username !== 'admin') t.equal((await call('DELETE', `/users/${id}/sessions`, { token: bearer })).status, 204)
    if (nextCursor === null) break
    cursor = `&cursor=${encodeURIComponent(nextCursor)}`
  }
  for (const { tab } of everybody) t.match(await tab.ask('GET', '/session/me'), ENDED, 'an admin ends those of all, one user after the other')
})

t.test('negative control: @fastify/jwt and @fastify/session, as they are documented, go on, whatever becomes of the account', async t => {
  const users = new Map([['ada', { password: 'Newcomer-pass-1', isActive: true }]])
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cookie)
  await app.register(session, { secret: 'a secret of at least thirty-two characters', cookie: { secure: false } })
  await app.register(jwt, { secret: 'a secret that is long enough for this' })
  app.post('/login', async request => {
    const { username, password } = request.body as { username: string, password: string }
    if (users.get(username)?.password !== password || users.get(username)?.isActive !== true) throw Object.assign(new Error('no'), { statusCode: 401 })
    Object.assign(request.session, { user: username })
    return { token: app.jwt.sign({ sub: username }) }
  })
  app.get('/tokens/me', { onRequest: async request => { await request.jwtVerify() } }, async request => (request.user as { sub: string }).sub)
  app.get('/session/me', async request => (request.session as unknown as { user?: string }).user ?? 'nobody')
  const login = () => app.inject({ method: 'POST', url: '/login', payload: { username: 'ada', password: 'Newcomer-pass-1' } })
  const stolen = await login()
  const goesOn = async () => [
    (await app.inject({ url: '/tokens/me', headers: { authorization: `Bearer ${stolen.json().token}` } })).body,
    (await app.inject({ url: '/session/me', headers: { cookie: String(stolen.headers['set-cookie']).split(';')[0]! } })).body,
  ]
  const changes: Record<string, () => void> = {
    'the password changes': () => { users.get('ada')!.password = 'Another-pass-22' },
    'an admin switches the account off': () => { users.get('ada')!.isActive = false },
    'an admin deletes the user': () => { users.delete('ada') },
  }
  for (const [what, change] of Object.entries(changes)) {
    change()
    t.equal((await login()).statusCode, 401, what)
    t.strictSame(await goesOn(), ['ada', 'ada'], what)
  }
})

t.test('what rights hang on counts from the next request on: a role, a share [ASVS 8.3.2]', async t => {
  const { tab, username, id } = await newcomer('moderator')
  const { access_token: bearer } = await portal.signIn(username, 'Newcomer-pass-1')
  const { body: { key } } = await call('POST', '/api-keys', { token: bearer, body: { name: 'k', scopes: ['users:read'] } })
  const ways: Record<string, () => Promise<{ status: number }>> = {
    'a token': () => call('GET', '/users', { token: bearer }),
    'a session': () => tab.ask('GET', '/users'),
    'an API key': () => call('GET', '/users', { headers: { 'x-api-key': key } }),
  }
  for (const [what, ask] of Object.entries(ways)) t.equal((await ask()).status, 200, what)
  t.equal((await call('PATCH', `/users/${id}/role`, { token: await token('admin'), body: { role: 'user' } })).status, 200)
  for (const [what, ask] of Object.entries(ways)) t.match(await ask(), { status: /^40[13]$/ }, what)

  const [owner, friend] = [await portal.newcomer(), await portal.newcomer()]
  const { body: { id: documentId } } = await call('POST', '/documents', { token: owner.token, body: { title: 'Notes', content: 'For a friend' } })
  const read = async () => (await call('GET', `/documents/${documentId}`, { token: friend.token })).status
  const write = async () => (await call('PUT', `/documents/${documentId}`, { token: friend.token, body: { title: 'Notes', content: 'By a friend' } })).status
  const share = (actions: string[]) => call('POST', `/documents/${documentId}/shares`, { token: owner.token, body: { userId: friend.id, actions } })
  t.equal(await read(), 404)
  t.match(await share(['read', 'write']), { status: /^20[014]$/ })
  t.strictSame([await read(), await write()], [200, 200])
  t.match(await share(['read']), { status: /^20[014]$/ })
  t.strictSame([await read(), await write()], [200, 403])
  t.equal((await call('DELETE', `/documents/${documentId}/shares/${friend.id}`, { token: owner.token })).status, 204)
  t.strictSame([await read(), await write()], [404, 404])
})

t.test('negative control: with the role in the token, as @fastify/jwt carries it, who was demoted goes on until it ends', async t => {
  const roles = new Map([['max', 'moderator']])
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(jwt, { secret: 'a secret that is long enough for this' })
  app.get('/users', {
    async onRequest (request) {
      const { role } = await request.jwtVerify<{ role: string }>()
      if (role !== 'moderator') throw Object.assign(new Error('no'), { statusCode: 403 })
    },
  }, async () => ({ items: [...roles.keys()] }))
  await app.ready()
  const headers = { authorization: `Bearer ${app.jwt.sign({ sub: 'max', role: roles.get('max') })}` }
  roles.set('max', 'user')
  t.equal((await app.inject({ url: '/users', headers })).statusCode, 200)
})

t.test('a sign-in gives a cookie and a token that were made for it alone and end with it; the key of a program signs nobody in [ASVS 7.2.2]', async t => {
  const { tab, username } = await newcomer()
  const again = tabAt(portal)
  await again.signIn(username, 'Newcomer-pass-1')
  const [one, other] = [await portal.signIn(username, 'Newcomer-pass-1'), await portal.signIn(username, 'Newcomer-pass-1')]
  t.equal(new Set([tab.jar.get('session'), again.jar.get('session'), one.access_token, other.access_token, one.refresh_token, other.refresh_token]).size, 6)
  const { body: { key } } = await call('POST', '/api-keys', { token: other.access_token, body: { name: 'k', scopes: ['data:read'] } })
  t.equal((await call('GET', '/api/data', { headers: { 'x-api-key': key } })).status, 200, 'the key is good for what it is for')
  for (const [method, url] of [['GET', '/session/me'], ['GET', '/sessions'], ['POST', '/auth/logout'], ['POST', '/auth/logout-all'], ['PATCH', '/users/me'], ['POST', '/auth/step-up']] as const) {
    for (const headers of [{ 'x-api-key': key }, { authorization: `Bearer ${key}` }, { cookie: `session=${key}` }]) {
      const { status } = await call(method, url, { headers: headers as unknown as Record<string, string>, ...url === '/users/me' && { body: { bio: 'x' } } })
      t.ok(status === 401 || status === 403, `${method} ${url}: ${status}`)
    }
  }
  const stolen = again.copy()
  t.equal((await again.ask('POST', '/session/logout')).status, 204)
  t.match(await stolen.ask('GET', '/session/me'), ENDED)
  t.equal((await call('POST', '/auth/logout', { token: one.access_token })).status, 204)
  t.equal((await call('GET', '/users/me', { token: one.access_token })).status, 401)
  t.equal((await tab.ask('GET', '/session/me')).status, 200)
  t.equal((await call('GET', '/users/me', { token: other.access_token })).status, 200)
})

t.test('negative control: on plain Fastify with one key for an account, what was noted once is good after every sign-out', async t => {
  const keys = new Map([['sk_of_ada', 'ada']])
  const app = Fastify()
  t.teardown(() => app.close())
  app.post('/login', async () => ({ key: 'sk_of_ada' }))
  app.post('/logout', async () => 'out')
  app.get('/me', async ({ headers }) => keys.get(String(headers['x-api-key'])) ?? 'nobody')
  const { key } = (await app.inject({ method: 'POST', url: '/login' })).json() as { key: string }
  t.equal((await app.inject({ method: 'POST', url: '/login' })).json().key, key, 'the same for each sign-in')
  await app.inject({ method: 'POST', url: '/logout', headers: { 'x-api-key': key } })
  t.equal((await app.inject({ url: '/me', headers: { 'x-api-key': key } })).body, 'ada')
})

t.test('a password that is changed in the browser ends all but this session', async t => {
  const { tab, username } = await newcomer()
  const { access_token: bearer } = await portal.signIn(username, 'Newcomer-pass-1')
  const other = tabAt(portal)
  await other.signIn(username, 'Newcomer-pass-1')
  t.equal((await tab.ask('POST', '/auth/password', { body: { currentPassword: 'Newcomer-pass-1', newPassword: 'Another-pass-22' } })).status, 204)
  t.equal((await tab.ask('GET', '/session/me')).status, 200)
  t.match(await other.ask('GET', '/session/me'), ENDED)
  t.equal((await call('GET', '/users/me', { token: bearer })).status, 401)
})

t.test('a session idles out, and ends at the latest after its whole lifetime [ASVS 7.3.1] [ASVS 7.3.2]', async t => {
  const { tab } = await newcomer()
  portal.pass(1_790_000)
  t.equal((await tab.ask('GET', '/session/me')).status, 200)
  portal.pass(1_810_000)
  t.match(await tab.ask('GET', '/session/me'), ENDED)
  const { tab: busy } = await newcomer()
  for (let minutes = 0; minutes < 12 * 60; minutes += 20) {
    t.equal((await busy.ask('GET', '/session/me')).status, 200)
    portal.pass(1_200_000)
  }
  t.match(await busy.ask('GET', '/session/me'), ENDED)
})

t.test('over HTTPS the cookies have the prefix that browsers hold to their host [ASVS 3.3.3]', async t => {
  const secure = await buildOn(t, portal.sql, { NODE_ENV: 'production' })
  const { headers } = await secure.call('POST', '/session/login', { body: { username: 'alice', password: PASSWORD } })
  t.match([headers['set-cookie']].flat().sort(), [/^__Host-csrf=.*; Secure/, /^__Host-session=.*; Secure/])
})
