import { createHmac } from 'node:crypto'
import cookie from '@fastify/cookie'
import officialSession from '@fastify/session'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { newSessionId } from '../../plugins/sessions/record.js'
import { bastionWith } from './misconfigured.js'
import { SECRET, service } from './service.js'

const NAME = '__Host-session'
const DAY = 86_400_000
const INVALID = { status: 401, code: 'FST_BASTION_SESSIONS_INVALID' }

/** A service on @fastify/session, where whoever signs in is mallory. */
async function official (t: Test, trustProxy: boolean): Promise<FastifyInstance> {
  const app = Fastify({ trustProxy })
  t.teardown(() => app.close())
  await app.register(cookie)
  await app.register(officialSession, { secret: 'a secret of at least thirty-two characters' })
  app.post('/login', async request => {
    (request.session as unknown as { user: string }).user = 'mallory'
    return 'in'
  })
  return app
}

t.test('a sign-in gives a session: its cookie is signed, host-only, for no script and no plain HTTP [ASVS 3.3.1] [ASVS 3.3.3] [ASVS 3.3.4]', async t => {
  const { browser } = await service(t)
  const ada = browser()
  t.match(await ada.ask('GET', '/me'), { status: 401, code: 'FST_BASTION_ACCESS_UNAUTHENTICATED' })
  const { cookies } = await ada.ask('POST', '/login', { value: 'ada' })
  t.equal(cookies.length, 1)
  t.match(cookies[0], /^__Host-session=[\w-]{43}~YWRh\.[^;]+; Path=\/; HttpOnly; Secure; SameSite=Lax$/)
  t.match(await ada.ask('GET', '/me'), { status: 200, value: { kind: 'user', id: 'ada', userId: 'ada', roles: ['user'], via: 'session', amr: ['pwd'], authTime: Date.UTC(2026, 0, 1) / 1000 }, given: 0 })
  t.match(await ada.ask('GET', '/public'), { status: 200, value: 'ada', given: 0 })

  const [session] = [...ada.jar.values()]
  for (const name of ['session', '__Secure-session', '__host-session', 'sessionId']) t.match(await browser({ [name]: session! }).ask('GET', '/public'), { value: null }, `${name}, which a neighbouring host can set, is not read`)
})

t.test('negative control: the cookie of @fastify/session has a name that neighbouring hosts can set, and plants their session', async t => {
  const app = await official(t, true)
  app.get('/me', async request => (request.session as unknown as { user?: string }).user ?? 'nobody')
  const overHttps = { 'x-forwarded-proto': 'https' }
  const [, name, value] = /^([^=]+)=([^;]+)/.exec(String((await app.inject({ method: 'POST', url: '/login', headers: overHttps })).headers['set-cookie']))!
  t.notMatch(name, /^__(?:Host|Secure)-/)
  t.equal((await app.inject({ url: '/me', headers: { ...overHttps, cookie: `${name}=${value}` } })).body, 'mallory')
})

t.test('however much a session holds, and whoever signs in, its cookie stays one that browsers keep [ASVS 3.3.5]', async t => {
  const { browser, people } = await service(t)
  const longest = '漢'.repeat(128)
  people[longest] = people[`${longest}x`] = { roles: ['user'], isActive: true }
  const ada = browser()
  for (let i = 0; i < 20; i++) await ada.ask('POST', '/cart', { value: 'x'.repeat(1000) })
  const { cookies } = await ada.ask('POST', '/login', { value: longest })
  t.match(await ada.ask('GET', '/look'), { value: { cart: { length: 20 } } })
  t.match(await ada.ask('GET', '/me'), { value: { userId: longest } })
  t.equal((await browser().ask('POST', '/login', { value: `${longest}x` })).status, 500, 'a longer name is nobody\'s')
  const sizeOf = (line: string) => Buffer.byteLength(line.slice(0, line.indexOf(';'))) - 1
  t.equal(cookies.length, 1)
  t.ok(sizeOf(cookies[0]!) < 1024, `${sizeOf(cookies[0]!)} bytes`)

  const bare = Fastify()
  t.teardown(() => bare.close())
  await bare.register(cookie, { secret: 'a secret of at least thirty-two characters' })
  bare.get('/', async (_request, reply) => reply.setCookie('cart', JSON.stringify(Array(20).fill('x'.repeat(1000))), { signed: true }).send('kept'))
  t.ok(sizeOf(String((await bare.inject('/')).headers['set-cookie'])) > 4096, 'negative control: a cart that @fastify/cookie keeps is one that browsers drop')
})

t.test('over plain HTTP in development the cookie has another name, because a browser would not take the other one [TRAP 31]', async t => {
  const { browser } = await service(t, { secure: false, sameSite: 'strict', persistent: true, absoluteTtl: 3600, name: 'portal' })
  const ada = browser()
  const { cookies } = await ada.ask('POST', '/login', { value: 'ada' })
  t.match(cookies[0], /^portal=[^;]+; Max-Age=3600; Path=\/; HttpOnly; SameSite=Strict$/)
  t.equal((await ada.ask('GET', '/me')).status, 200)
})

t.test('behind a proxy that ends TLS the cookie goes out too', async t => {
  const { app } = await service(t)
  const answer = await app.inject({ method: 'POST', url: '/login', headers: { host: 'localhost', 'x-forwarded-proto': 'https' }, payload: { value: 'ada' } })
  t.match(answer.headers['set-cookie'], /^__Host-session=/)
})

t.test('negative control: @fastify/session sends no secure cookie where the proxy is not configured', async t => {
  const app = await official(t, false)
  t.equal((await app.inject({ method: 'POST', url: '/login', headers: { 'x-forwarded-proto': 'https' } })).headers['set-cookie'], undefined)
})

t.test('who only looks leaves nothing behind: no cookie, and nothing in the store [TRAP 23]', async t => {
  const { app, browser } = await service(t)
  const before = await app.state.size()
  const visitor = browser()
  for (const url of ['/public', '/look', '/nowhere']) t.strictSame((await visitor.ask('GET', url)).cookies, [], url)
  t.strictSame((await app.state.size()).entries, before.entries)
})

t.test('negative control: @fastify/session, as it comes, keeps a session for everyone who looks', async t => {
  const kept = new Map<string, unknown>()
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cookie)
  await app.register(officialSession, { secret: 'a secret of at least thirty-two characters', cookie: { secure: false }, store: new officialSession.MemoryStore(kept as never) as never })
  app.get('/', async () => 'looked')
  for (let i = 0; i < 5; i++) await app.inject('/')
  t.equal(kept.size, 5)
})

t.test('somebody who has not signed in has a session once something is put into it', async t => {
  const { browser } = await service(t)
  const visitor = browser()
  t.match(await visitor.ask('POST', '/cart', { value: 'book' }), { status: 200, value: ['book'], cookies: [/^__Host-session=[\w-]{43}\./] })
  t.match(await visitor.ask('POST', '/cart', { value: 'pen' }), { status: 200, value: ['book', 'pen'], given: 0 })
  t.match(await visitor.ask('GET', '/look'), { value: { cart: ['book', 'pen'] } })
  t.match(await visitor.ask('GET', '/me'), { status: 401, code: 'FST_BASTION_ACCESS_UNAUTHENTICATED' })
})

t.test('at sign-in the id is fresh, the old one dead, and nothing is carried over but what is named [ASVS 7.2.4] [TRAP 10]', async t => {
  const { browser } = await service(t)
  const mallory = browser()
  await mallory.ask('POST', '/cart', { value: 'book' })
  await mallory.ask('POST', '/theme', { value: 'dark' })
  const planted = mallory.jar.get(NAME)!
  const victim = browser({ [NAME]: planted })
  await victim.signIn()
  t.not(victim.jar.get(NAME), planted)
  t.match(await victim.ask('GET', '/look'), { value: { cart: ['book'], theme: null } })
  t.match(await browser({ [NAME]: planted }).ask('GET', '/me'), INVALID)
  t.match(await browser({ [NAME]: planted }).ask('GET', '/look'), { value: { cart: null } })
  const first = victim.jar.get(NAME)!
  await victim.signIn('bob')
  t.match(await victim.ask('GET', '/me'), { value: { id: 'bob' } })
  t.match(await browser({ [NAME]: first }).ask('GET', '/me'), INVALID, 'a session on top of which somebody signs in ends')
})

t.test('negative control: with @fastify/session the id from before the sign-in is that of the one who signed in', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cookie)
  await app.register(officialSession, { secret: 'a secret of at least thirty-two characters', cookie: { secure: false } })
  app.get('/', async () => 'looked')
  app.post('/login', async request => {
    (request.session as unknown as { user: string }).user = 'ada'
    return 'in'
  })
  app.get('/me', async request => (request.session as unknown as { user?: string }).user ?? 'nobody')
  const planted = String((await app.inject('/')).headers['set-cookie']).split(';')[0]!
  await app.inject({ method: 'POST', url: '/login', headers: { cookie: planted } })
  t.equal((await app.inject({ url: '/me', headers: { cookie: planted } })).body, 'ada')
})

t.test('a change of rights gives a fresh id: data and absolute lifetime stay, the old id is dead [ASVS 7.2.4]', async t => {
  const { browser, people, clock } = await service(t, { idleTtl: 3600, absoluteTtl: 7200 })
  const ada = browser()
  await ada.signIn()
  await ada.ask('POST', '/theme', { value: 'dark' })
  const old = ada.jar.get(NAME)!
  clock.ms += 600_000
  people.ada!.roles = ['admin']
  t.equal((await ada.ask('GET', '/write')).status, 403)
  t.match(await ada.ask('POST', '/renew'), { status: 200, cookies: [/^__Host-session=/] })
  t.match(await ada.ask('GET', '/me'), { value: { roles: ['admin'], amr: ['pwd', 'otp', 'mfa'], authTime: clock.ms / 1000 } })
  t.equal((await ada.ask('GET', '/write')).status, 200)
  t.match(await ada.ask('GET', '/look'), { value: { theme: 'dark' } })
  t.match(await browser({ [NAME]: old }).ask('GET', '/me'), INVALID)
  clock.ms += 3_000_000
  t.equal((await ada.ask('GET', '/me')).status, 200)
  clock.ms += 3_590_000
  t.equal((await ada.ask('GET', '/me')).status, 200)
  clock.ms += 20_000
  t.match(await ada.ask('GET', '/me'), INVALID, 'counted from the sign-in')
})

t.test('a page that is left open and asks by itself does not keep it; the control: as any other request it would [ASVS 7.3.1]', async t => {
  for (const [url, last] of [['/news', INVALID], ['/me', { status: 200 }]] as const) {
    const { browser, clock } = await service(t, { idleTtl: 600, absoluteTtl: 3600 })
    const left = browser()
    await left.signIn()
    for (let minutes = 0; minutes < 9; minutes++) {
      clock.ms += 60_000
      t.equal((await left.ask('GET', url)).status, 200)
    }
    clock.ms += 61_000
    t.match(await left.ask('GET', url), last, url)
  }
})

t.test('it ends when nothing is done for a while, and at the latest after its whole lifetime [ASVS 7.3.1] [ASVS 7.3.2]', async t => {
  const { browser, clock } = await service(t, { idleTtl: 600, absoluteTtl: 3600 })
  const idle = browser()
  await idle.signIn()
  clock.ms += 599_000
  t.equal((await idle.ask('GET', '/me')).status, 200)
  clock.ms += 599_000
  t.equal((await idle.ask('GET', '/me')).status, 200, 'each request counts')
  clock.ms += 601_000
  t.match(await idle.ask('GET', '/me'), { ...INVALID, cookies: [/Max-Age=0/] })
  const busy = browser()
  await busy.signIn()
  for (let minutes = 0; minutes < 59; minutes++) {
    clock.ms += 60_000
    t.equal((await busy.ask('GET', '/me')).status, 200)
  }
  clock.ms += 60_001
  t.match(await busy.ask('GET', '/me'), INVALID)
})

t.test('negative control: with @fastify/session, as it comes, one that is used goes on as long as it is, and one without an age whether it is or not', async t => {
  const { now } = Date
  let ms = now()
  Date.now = () => ms
  t.teardown(() => { Date.now = now })
  for (const maxAge of [600_000, undefined]) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(cookie)
    await app.register(officialSession, { secret: 'a secret of at least thirty-two characters', cookie: { secure: false, ...maxAge !== undefined && { maxAge } } })
    app.post('/login', async request => { Object.assign(request.session, { user: 'ada' }); return 'in' })
    app.get('/me', async request => (request.session as unknown as { user?: string }).user ?? 'nobody')
    const headers = { cookie: String((await app.inject({ method: 'POST', url: '/login' })).headers['set-cookie']).split(';')[0]! }
    const who = async () => (await app.inject({ url: '/me', headers })).body
    for (let hours = 0; hours < 48; hours++) {
      for (let minutes = 0; minutes < 60; minutes += 9) {
        ms += 540_000
        if (maxAge !== undefined) await who()
      }
    }
    t.equal(await who(), 'ada', `${maxAge} ms`)
  }
})

t.test('after the logout the cookie is worth nothing, wherever it was kept [ASVS 7.4.1]', async t => {
  const { browser } = await service(t)
  const ada = browser()
  const stolen = await ada.signIn()
  t.match(await ada.ask('POST', '/logout'), { status: 200, cookies: [/^__Host-session=; Max-Age=0; .*Secure/] })
  t.match(await browser({ [NAME]: stolen }).ask('GET', '/me'), INVALID)
  t.equal(ada.jar.size, 0)
})

t.test('what was ended does not come back through a request in flight [ASVS 7.4.1] [TRAP 23] [GHSA-pj27-2xvp-4qxg]', async t => {
  for (const how of ['logout', 'all', 'expiry'] as const) {
    const { app, browser, wait, clock } = await service(t)
    const ada = browser()
    const stolen = await ada.signIn()
    const slow = browser({ [NAME]: stolen }).ask('POST', '/slow')
    await wait.in()
    if (how === 'logout') await ada.ask('POST', '/logout')
    else if (how === 'all') await app.sessions.endAll('ada')
    else clock.ms += DAY
    wait.go()
    t.match(await slow, { status: 200, given: 0 })
    t.match(await browser({ [NAME]: stolen }).ask('GET', '/me'), INVALID, how)
    t.match(await browser({ [NAME]: stolen }).ask('GET', '/look'), { value: { theme: null } })
  }
})

t.test('nor through one that saves as often as it likes, nor through the old object of a session that has another id', async t => {
  for (const how of ['logout', 'renew', 'all', 'expiry'] as const) {
    const { app, browser, wait, clock } = await service(t)
    const ada = browser()
    const stolen = await ada.signIn()
    const slow = browser({ [NAME]: stolen }).ask('POST', '/slow-twice')
    await wait.in()
    if (how === 'all') await app.sessions.endAll('ada')
    else if (how === 'expiry') clock.ms += DAY
    else t.equal((await ada.ask('POST', `/${how}`)).status, 200)
    wait.go()
    t.equal((await slow).status, 200)
    t.match(await browser({ [NAME]: stolen }).ask('GET', '/me'), INVALID, how)
  }
  for (const value of ['end', 'renew', 'start']) {
    const { browser } = await service(t)
    const stolen = await browser().signIn()
    t.equal((await browser({ [NAME]: stolen }).ask('POST', '/write-after', { value })).status, 200)
    t.match(await browser({ [NAME]: stolen }).ask('GET', '/me'), INVALID, value)
  }
})

t.test('a session that is loaded anew is that of its request, and of nobody else', async t => {
  const { app, browser } = await service(t)
  const [ada, bob] = [browser(), browser()]
  await ada.signIn()
  await bob.signIn('bob')
  for (const value of [undefined, 'write']) {
    t.match(await bob.ask('POST', '/reload', { value }), { status: 200, value: value === undefined ? null : 'reloaded' })
    t.match(await browser({ [NAME]: 'forged' }).ask('GET', '/me'), INVALID)
    t.match(await browser({ [NAME]: `${ada.jar.get(NAME)}x` }).ask('GET', '/me'), INVALID)
    t.match(await bob.ask('GET', '/me'), { status: 200, value: { id: 'bob' } })
    t.match(await ada.ask('GET', '/me'), { status: 200, value: { id: 'ada' } })
  }
  const stolen = bob.jar.get(NAME)!
  await app.sessions.endAll('bob')
  t.equal((await browser({ [NAME]: stolen }).ask('POST', '/reload', { value: 'write' })).status, 200)
  t.match(await browser({ [NAME]: stolen }).ask('GET', '/me'), INVALID)
})

t.test('of two renewals at once the one that comes too late leaves the browser its cookie', async t => {
  const { browser, wait } = await service(t)
  const ada = browser()
  await ada.signIn()
  const slow = browser(Object.fromEntries(ada.jar)).ask('POST', '/slow-renew')
  await wait.in()
  t.equal((await ada.ask('POST', '/renew')).status, 200)
  wait.go()
  t.match(await slow, { ...INVALID, given: 0 })
})

t.test('negative control: with @fastify/session a request in flight undoes the logout', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cookie)
  await app.register(officialSession, { secret: 'a secret of at least thirty-two characters', cookie: { secure: false } })
  let release = () => {}
  let entered = () => {}
  const gate = new Promise<void>(resolve => { release = resolve })
  const inside = new Promise<void>(resolve => { entered = resolve })
  app.post('/login', async request => { Object.assign(request.session, { user: 'ada' }); return 'in' })
  app.post('/slow', async () => { entered(); await gate; return 'done' })
  app.post('/logout', async request => { await request.session.destroy(); return 'out' })
  app.get('/me', async request => (request.session as unknown as { user?: string }).user ?? 'nobody')
  const held = String((await app.inject({ method: 'POST', url: '/login' })).headers['set-cookie']).split(';')[0]!
  const headers = { cookie: held }
  const slow = app.inject({ method: 'POST', url: '/slow', headers }).then(answer => answer)
  await inside
  await app.inject({ method: 'POST', url: '/logout', headers })
  release()
  await slow
  t.equal((await app.inject({ url: '/me', headers })).body, 'ada')
})

t.test('a logout also ends what the session becomes at the same moment', async t => {
  for (const slow of ['/slow-renew', '/slow-logout']) {
    const { app, browser, wait } = await service(t)
    const stolen = await browser().signIn()
    const [one, other] = [browser({ [NAME]: stolen }), browser({ [NAME]: stolen })]
    const waiting = one.ask('POST', slow)
    await wait.in()
    t.equal((await other.ask('POST', slow === '/slow-renew' ? '/logout' : '/renew')).status, 200)
    wait.go()
    t.match(await waiting, slow === '/slow-renew' ? INVALID : { status: 200 })
    for (const { jar } of [one, other, browser({ [NAME]: stolen })]) t.equal((await browser(Object.fromEntries(jar)).ask('GET', '/me')).status, 401, slow)
    t.strictSame(await app.sessions.list('ada'), [])
  }
})

t.test('a tab that was under way when its session got a fresh id does not take the fresh cookie back', async t => {
  const { browser } = await service(t)
  for (const url of ['/renew', '/login']) {
    const ada = browser()
    const old = await ada.signIn()
    await ada.ask('POST', url, { value: 'ada' })
    t.match(await browser({ [NAME]: old }).ask('GET', '/me'), { ...INVALID, given: 0 })
    t.match(await browser({ [NAME]: old }).ask('POST', '/theme', { value: 'x' }), { status: 200, given: 0 })
    t.match(await browser({ [NAME]: old }).ask('POST', '/login', { value: 'bob' }), { status: 200, cookies: [/^__Host-session=/] }, 'but for a sign-in of its own')
  }
})

t.test('of many renewals at once one session is left', async t => {
  const { app, browser } = await service(t)
  const ada = browser()
  const start = await ada.signIn()
  const tabs = Array.from({ length: 50 }, () => browser({ [NAME]: start }))
  const outcomes = await Promise.all(tabs.map(tab => tab.ask('POST', '/renew')))
  t.equal(outcomes.filter(({ status }) => status === 200).length, 1)
  t.equal(outcomes.filter(({ status }) => status === 401).length, 49)
  t.equal((await app.sessions.list('ada')).length, 1)
})

t.test('two requests at once that write different things both keep theirs', async t => {
  const { browser } = await service(t)
  const ada = browser()
  await ada.signIn()
  await Promise.all([ada.ask('POST', '/theme', { value: 'dark' }), ada.ask('POST', '/cart', { value: 'book' })])
  t.match(await ada.ask('GET', '/look'), { value: { theme: 'dark', cart: ['book'] } })
})

t.test('a list of devices: each can be ended, and nobody else\'s [ASVS 7.4.5] [ASVS 7.5.2]', async t => {
  const { app, browser, clock } = await service(t)
  const phone = browser()
  const laptop = browser()
  await phone.ask('POST', '/login', { value: 'ada', headers: { 'user-agent': 'Phone/1' } })
  clock.ms += 120_000
  await laptop.ask('POST', '/login', { value: 'ada', headers: { 'user-agent': `Laptop/${'9'.repeat(1000)}` } })
  await phone.ask('GET', '/me')
  const bob = browser()
  await bob.signIn('bob')
  const [first, second, ...others] = await app.sessions.list('ada')
  t.strictSame(others, [])
  t.match(first, { userAgent: 'Phone/1', address: '127.0.0.1', createdAt: new Date(clock.ms - 120_000), lastSeenAt: new Date(clock.ms), expiresAt: new Date(clock.ms - 120_000 + 43_200_000) })
  t.equal(second!.userAgent.length, 256)
  t.equal(first!.id, (await phone.ask('GET', '/me')).value.credentialId)
  t.notOk([...phone.jar.values()].some(text => text.includes(first!.id)), 'the id in the list is no credential')
  t.equal(await app.sessions.endOne('bob', first!.id), false)
  t.equal((await phone.ask('GET', '/me')).status, 200)
  t.equal(await app.sessions.endOne('ada', first!.id), true)
  t.equal(await app.sessions.endOne('ada', first!.id), false)
  t.equal(await app.sessions.endOne('ada', 'nothing'), false)
  t.match(await phone.ask('GET', '/me'), INVALID)
  t.equal((await laptop.ask('GET', '/me')).status, 200)
  t.strictSame((await app.sessions.list('ada')).map(({ id }) => id), [second!.id])
})

t.test('all of a user\'s sessions end at once, but for one that asked [ASVS 7.4.3]', async t => {
  const { app, browser } = await service(t)
  const tabs = [browser(), browser(), browser()]
  for (const tab of tabs) await tab.signIn()
  const bob = browser()
  await bob.signIn('bob')
  const { credentialId: except } = (await tabs[1]!.ask('GET', '/me')).value
  await app.sessions.endAll('ada', { except })
  t.strictSame((await Promise.all(tabs.map(tab => tab.ask('GET', '/me')))).map(({ status }) => status), [401, 200, 401])
  t.equal((await bob.ask('GET', '/me')).status, 200)
  t.equal((await app.sessions.list('ada')).length, 1)
  await app.sessions.endAll('ada')
  t.match(await tabs[1]!.ask('GET', '/me'), INVALID)
  t.strictSame(await app.sessions.list('ada'), [])
  const again = browser()
  await again.signIn()
  t.equal((await again.ask('GET', '/me')).status, 200)
})

t.test('who is switched off while the password is checked is not signed in, and a sign-in that was under way when all ended counts for nothing', async t => {
  const { app, browser, people } = await service(t)
  people.ada!.isActive = false
  t.match(await browser().ask('POST', '/login', { value: 'ada' }), INVALID)
  people.ada!.isActive = true
  const late = browser()
  t.equal((await late.ask('POST', '/ended-login')).status, 200)
  t.match(await late.ask('GET', '/me'), INVALID)
  t.strictSame(await app.sessions.list('ada'), [])
})

t.test('of too many sessions the oldest end', async t => {
  const { app, browser } = await service(t, { perUser: 3 })
  const tabs = Array.from({ length: 5 }, () => browser())
  for (const tab of tabs) await tab.signIn()
  t.strictSame((await Promise.all(tabs.map(tab => tab.ask('GET', '/me')))).map(({ status }) => status), [401, 401, 200, 200, 200])
  t.equal((await app.sessions.list('ada')).length, 3)
})

t.test('fifty sign-ins of one account at once are all listed', async t => {
  const { app, browser } = await service(t)
  await Promise.all(Array.from({ length: 50 }, () => browser().signIn()))
  t.equal((await app.sessions.list('ada')).length, 50)
})

t.test('a cookie that we did not sign is refused without a look-up [ASVS 7.2.1]', async t => {
  const { app, browser } = await service(t)
  const ada = browser()
  const good = decodeURIComponent(await ada.signIn())
  const id = good.slice(0, good.lastIndexOf('.'))
  const sign = (text: string, key: string | Buffer) => `${text}.${createHmac('sha256', key).update(text).digest('base64').replaceAll('=', '')}`
  t.equal(sign(id, SECRET.toString('base64url')), good, 'the signature is the one below')
  let asked = 0
  const { getMany } = app.state
  app.state.getMany = keys => {
    asked += 1
    return getMany(keys)
  }
  const forged = [
    id, `${id}.`, `${id}.AAAA`, good.slice(0, -1), `${good}A`, sign(id, 'another secret'), sign(id, ''), sign(id.replace('YWRh', 'Ym9i'), 'x'), `.${good}`, 'null', '__proto__', 'x'.repeat(5000), `${'a'.repeat(600)}.b`,
    good.replace('~YWRh', '~Ym9i'), encodeURIComponent(good).toLowerCase(),
  ]
  for (const text of forged) t.match(await browser({ [NAME]: encodeURIComponent(text) }).ask('GET', '/me'), { ...INVALID, cookies: [/Max-Age=0/] }, text.slice(0, 80))
  t.equal(asked, 0)
  t.match(await browser({ [NAME]: encodeURIComponent(sign('x'.repeat(43), SECRET.toString('base64url'))) }).ask('GET', '/me'), INVALID, 'signed, and unknown')
  t.equal(asked, 1)
  t.equal((await ada.ask('GET', '/me')).status, 200)
})

t.test('negative control: a cookie that is read by @fastify/cookie, and believed as it came, is whoever it says', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cookie)
  app.get('/me', async request => Buffer.from(request.cookies[NAME]!.split(/[~.]/)[1]!, 'base64url').toString())
  const good = decodeURIComponent(await (await service(t)).browser().signIn())
  t.equal((await app.inject({ url: '/me', headers: { cookie: `${NAME}=${encodeURIComponent(good.replace('~YWRh', '~Ym9i'))}` } })).body, 'bob')
})

t.test('an id is of 256 bits that nobody can know beforehand, and never comes twice [ASVS 7.2.3]', async t => {
  const { browser } = await service(t)
  const { random } = Math
  Math.random = () => 0.5
  t.teardown(() => { Math.random = random })
  const secrets: string[] = []
  for (let i = 0; i < 20; i++) secrets.push(decodeURIComponent(await browser().signIn()).split('~')[0]!)
  for (let i = 0; i < 2000; i++) secrets.push(newSessionId(null))
  t.equal(new Set(secrets).size, 2020, 'by a clock that stands, and a Math.random that says the same each time')
  const bytes = secrets.map(secret => Buffer.from(secret, 'base64url'))
  t.ok(bytes.every(({ length }) => length === 32))
  const timesSet = Array.from({ length: 256 }, (_none, bit) => bytes.filter(id => (id[bit >> 3]! >> (bit & 7) & 1) === 1).length)
  t.same(timesSet.filter(times => times < 808 || times > 1212), [], 'each bit is set in about half of them')
})

t.test('negative control: with ids that are made of Math.random, whoever knows what it says has the session of who signs in next', async t => {
  const sessions = new Map<string, string>()
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(cookie)
  const makeId = () => Math.random().toString(36).slice(2)
  app.post('/login', async (_request, reply) => {
    const id = makeId()
    sessions.set(id, 'ada')
    return reply.setCookie('session', id).send('in')
  })
  app.get('/me', async request => sessions.get(request.cookies.session ?? '') ?? 'nobody')
  const { random } = Math
  Math.random = () => 0.5
  t.teardown(() => { Math.random = random })
  await app.inject({ method: 'POST', url: '/login' })
  t.equal((await app.inject({ url: '/me', headers: { cookie: `session=${makeId()}` } })).body, 'ada')
})

t.test('two cookies of that name, or a session beside a bearer token, are two credentials', async t => {
  const { app, browser } = await service(t)
  const ada = browser()
  const own = await ada.signIn()
  const other = await browser().signIn('bob')
  const { access_token: token } = await app.tokens.issue({ id: 'ada', roles: ['user'] })
  for (const headers of [
    { cookie: `${NAME}=${own}; ${NAME}=${other}` }, { cookie: `${NAME}=${other};${NAME}=${own}` }, { cookie: `${NAME}=${other}`, authorization: `Bearer ${token}` }, { cookie: `${NAME}=${own}`, authorization: `Bearer ${token}` },
  ]) t.match(await browser().ask('GET', '/me', { headers: headers as unknown as Record<string, string> }), { status: 400, code: 'FST_BASTION_IDENTITY_TWO_CREDENTIALS' })
  t.match(await browser().ask('GET', '/me', { headers: { cookie: `other${NAME}=${other}; ${NAME}=${own}` } }), { status: 200, value: { id: 'ada' } })
})

t.test('secrets rotate: the first signs, all verify, and a cookie of the old one is signed anew', async t => {
  const [old, fresh] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]
  const before = await service(t, { secret: old })
  const ada = before.browser()
  const cookie = await ada.signIn()
  const record = async (from: typeof before, to: typeof before) => { // both stand on one state
    for (const key of ['get', 'getMany', 'set', 'swap', 'claim', 'delete', 'raise'] as const) Object.assign(to.app.state, { [key]: (from.app.state[key] as (...args: unknown[]) => unknown).bind(from.app.state) })
  }
  const both = await service(t, { secret: [fresh, old] })
  await record(before, both)
  const tab = both.browser({ [NAME]: cookie })
  t.match(await tab.ask('GET', '/me'), { status: 200, cookies: [/^__Host-session=/] })
  t.match(await tab.ask('GET', '/me'), { status: 200, given: 0 })
  const after = await service(t, { secret: fresh })
  await record(before, after)
  t.equal((await after.browser(Object.fromEntries(tab.jar)).ask('GET', '/me')).status, 200)
  t.match(await after.browser({ [NAME]: cookie }).ask('GET', '/me'), INVALID)
})

t.test('what a session holds cannot become who it is', async t => {
  const { browser } = await service(t)
  const visitor = browser()
  for (const value of ['{"user":{"id":"ada","roles":["admin"]}}', '__proto__', 'constructor']) await visitor.ask('POST', '/theme', { value })
  t.match(await visitor.ask('GET', '/me'), { status: 401, code: 'FST_BASTION_ACCESS_UNAUTHENTICATED' })
})

t.test('a wrong option stops boot', async t => {
  for (const [options, message] of [
    [{ secret: 'a text of more than thirty-two characters' }, /^sessions: secret: must be a Buffer of at least 32 bytes/],
    [{ secret: Buffer.alloc(31) }, /^sessions: secret/],
    [{ secret: [] }, /^sessions: secret/],
    [{ idleTtl: 100, absoluteTtl: 50 }, /^sessions: idleTtl: must not be longer than absoluteTtl/],
    [{ idleTTL: 100 }, /^sessions: idleTTL/],
    [{ name: 'a b' }, /^sessions: name/],
    [{ sameSite: 'none' }, /^sessions: sameSite/],
    [{ perUser: 0 }, /^sessions: perUser/],
  ] as const) await t.rejects(bastionWith(t, options), { code: 'FST_BASTION_SESSIONS_MISCONFIGURED', message })
})
