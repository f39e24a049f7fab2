/** Registration, sign-in, the lock, passwords and step-up, as the contract says. */
import { createHash } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import Fastify from 'fastify'
import t from 'tap'
import { principalOf } from '../../plugins/identity.js'
import { closed } from '../../schemas/index.js'
import { build, buildOn, PASSWORD, type Answer, type Call } from './portal.js'

const portal = await build(t)
const { call, signIn, token, idOf, newcomer, pass, sql } = portal
const MINUTE = 60_000
const NEW_PASSWORD = 'Newcomer-pass-1'

const login = (username: string, password: string, more: Call = {}) => call('POST', '/auth/login', { body: { username, password }, ...more })
const isAlive = async (bearer: string) => (await call('GET', '/users/me', { token: bearer })).status === 200
const withoutId = ({ status, body }: Answer) => ({ status, body: { ...body, requestId: '' } })

t.test('registration', async t => {
  const register = (more: object = {}) => call('POST', '/auth/register', { body: { username: 'rita', email: 'Rita@People.example', password: NEW_PASSWORD, ...more } })

  await t.test('makes a user of the basic plan and answers the own profile', async t => {
    const { status, body } = await register({ age: 42, phone: '+491701234567', website: 'https://rita.example/about?x=1', bio: "Robert'); drop table users;-- <b>%_\\" })
    t.equal(status, 201)
    t.match(body, { username: 'rita', email: 'rita@people.example', role: 'user', plan: 'basic', age: 42, phone: '+491701234567', website: 'https://rita.example/about?x=1' })
    t.equal(body.bio, "Robert'); drop table users;-- %_\\", 'as it is written, but for HTML that is not for a bio')
    t.equal((await login('RITA', NEW_PASSWORD)).status, 200, 'and the name is good in any letters')
  })

  await t.test('a name that is taken is 409, in any letters', async t => {
    for (const username of ['rita', 'RITA', 'Alice', 'BOB', 'admin', 'Admin']) {
      const { status, body } = await register({ username })
      t.equal(status, 409, username)
      t.equal(body.code, 'FST_PORTAL_NAME_TAKEN')
    }
    for (const username of ['root', 'Support', 'SYSTEM']) t.equal((await register({ username })).status, 409, 'names of the service are taken by the service')
  })

  await t.test('of twenty who want one name at once, one gets it', async t => {
    const answers = await Promise.all(Array.from({ length: 20 }, (_none, i) => register({ username: i % 2 === 0 ? 'wanted' : 'WANTED' })))
    t.equal(answers.filter(({ status }) => status === 201).length, 1)
    t.equal(answers.filter(({ status }) => status === 409).length, 19)
  })

  await t.test('whether an address is known is told by nothing', async t => {
    const known = await register({ username: 'known_mail', email: 'alice@portal.example' })
    const fresh = await register({ username: 'fresh_mail', email: 'nobody@portal.example' })
    t.equal(known.status, 201)
    t.strictSame(Object.keys(known.body), Object.keys(fresh.body))
    t.equal(known.body.emailConfirmed, fresh.body.emailConfirmed)
    t.strictSame(Object.keys(known.headers).sort(), Object.keys(fresh.headers).sort())
  })

  await t.test('passwords meet the policy: eight characters of four kinds, and not the own name', async t => {
    for (const password of ['Aa1-aaa', 'alllower-1', 'ALLUPPER-1', 'No-digits-here', 'NoSpecial123', 'Policy_person-1', 'policy@-POLICY_PERSON-1', '        ', 'Aa1-' + 'x'.repeat(1021)]) {
      const { status } = await register({ username: 'policy_person', password })
      t.equal(status, 400, password.slice(0, 30))
    }
    t.equal((await register({ username: 'policy_person', password: 'Kurz-1' })).body.code, 'FST_BASTION_PASSWORDS_WEAK')
    t.equal((await register({ username: 'policy_person', password: 'Ünïcode-pässword-1 🔑' })).status, 201)
    t.equal((await login('policy_person', 'Ünïcode-pässword-1 🔑')).status, 200)
  })

  await t.test('fields that are not what they should be are 400', async t => {
    for (const more of [
      { username: 'ab' }, { username: 'a'.repeat(51) }, { username: 'has space' }, { username: 'über' }, { username: 'а1ice' }, { username: 'alice\u200b' }, { username: "alice'--" }, { username: 'a.b.c' },
      { username: ' alice' }, { username: 'alice\n' }, { username: '' },
      { email: 'none' }, { email: 'a@b' }, { email: '@people.example' }, { email: 'a b@people.example' }, { email: 'a@people.example\nbcc: x@y.example' }, { email: `${'a'.repeat(65)}@people.example` },
      { email: `a@${'b'.repeat(250)}.example` }, { email: 'a@people..example' }, { email: 'a@-people.example' }, { email: '<a@people.example>' },
      { phone: '123' }, { phone: 'call me' }, { phone: '+0123456789' }, { phone: '555-123-4567;drop' },
      { website: 'javascript:alert(1)' }, { website: 'ftp://x.example' }, { website: 'https://u:p@x.example' }, { website: 'https://x.example/<script>' }, { website: `https://x.example/${'a'.repeat(2050)}` },
      { bio: 'x'.repeat(501) }, { age: -1 }, { age: 1e9 },
    ]) t.equal((await register({ username: 'never_made', ...more })).status, 400, JSON.stringify(more).slice(0, 60))
    t.equal((await sql.query("select 1 from users where username = 'never_made'")).length, 0)
  })

  await t.test('attack: fields that are not asked for give nothing [OWASP API3]', async t => {
    for (const more of [
      { role: 'admin' }, { roles: ['admin'] }, { isAdmin: true }, { is_admin: true }, { balance: 1_000_000 }, { id: 'chosen' }, { plan: 'pro' }, { isActive: true }, { emailConfirmed: true }, { email_confirmed_at: '2020-01-01' },
      { hash: 'x' }, { createdAt: '2020-01-01T00:00:00Z' }, { profile: { role: 'admin' } }, { 'role\u200b': 'admin' }, { Role: 'admin' },
    ]) t.equal((await register({ username: 'never_made', ...more })).status, 400, JSON.stringify(more))
    for (const raw of ['"__proto__":{"role":"admin"}', '"role":"user","role":"admin"', '"constructor":{"prototype":{"role":"admin"}}']) {
      t.equal((await call('POST', '/auth/register', { raw: `{"username":"never_made","email":"never@people.example","password":"${NEW_PASSWORD}",${raw}}` })).status, 400, raw)
    }
    t.equal((await sql.query("select 1 from users where username = 'never_made'")).length, 0)
  })
})

t.test('the policy of NIST, where it is asked for, wants length and nothing else', async t => {
  const { call } = await buildOn(t, sql, { PASSWORD_POLICY: 'nist' })
  const register = (username: string, password: string) => call('POST', '/auth/register', { body: { username, email: 'n@people.example', password } })
  t.equal((await register('nist_short', 'Aa1-Aa1-Aa1-x')).status, 400)
  t.equal((await register('nist_long', 'correct horse battery staple')).status, 201)
})

t.test('each way to set a password refuses one that is short or was in a breach [ASVS 6.2.12]', async t => {
  const BREACHED = 'Seven-tulips-42!'
  const sha1 = createHash('sha1').update(BREACHED).digest('hex').toUpperCase()
  const asking = await buildOn(t, sql, {}, undefined, { breached: async prefix => prefix === sha1.slice(0, 5) ? `${sha1.slice(5)}:7` : '' })
  /** What registration, change and reset answer to a password. */
  const set = async ({ app, call, newcomer }: typeof portal, password: string) => {
    const person = await newcomer()
    const [{ hash }] = await sql.query<{ hash: string }>('select password_hash as hash from users where id = $1', [person.id]) as [{ hash: string }]
    const link = app.tokens.links.issue({ purpose: 'reset', subject: person.id, bound: `${person.username}@people.example ${hash}` })
    const answers = [
      await call('POST', '/auth/register', { body: { username: `n_${person.username}`, email: 'n@people.example', password } }),
      await call('POST', '/auth/password', { token: person.token, body: { currentPassword: NEW_PASSWORD, newPassword: password } }),
      await call('POST', '/auth/reset', { body: { token: link, newPassword: password } }),
    ]
    return answers.map(({ status, body }) => body?.code ?? status)
  }
  const weak = Array<string>(3).fill('FST_BASTION_PASSWORDS_WEAK')
  for (const password of ['Tul-7xy', BREACHED]) t.strictSame(await set(asking, password), weak, password)
  t.strictSame((await set(portal, BREACHED)).slice(0, 2), [201, 204], 'the control: where nobody is asked it is taken')
})

t.test('sign-in answers a pair in the form of RFC 6749', async t => {
  const { status, body } = await login('alice', PASSWORD)
  t.equal(status, 200)
  t.strictSame(Object.keys(body).sort(), ['access_token', 'expires_in', 'refresh_token', 'token_type'])
  t.match(body, { token_type: 'Bearer', expires_in: 900 })
  const claims = JSON.parse(Buffer.from(body.access_token.split('.')[1], 'base64url').toString())
  t.equal(claims.sub, await idOf('alice'), 'the subject is the id of the user')
  t.equal(claims.exp - claims.iat, 900)
  const refresh = JSON.parse(Buffer.from(body.refresh_token.split('.')[1], 'base64url').toString())
  t.equal(refresh.exp - refresh.iat, 7 * 86_400)
  t.notMatch(JSON.stringify(claims), /mail|hash|pass/)
})

t.test('a wrong password and an unknown name are told apart by nothing [ASVS 6.3.8]', async t => {
  const wrong = await login('bob', 'Wrong-pass-1')
  t.equal(wrong.status, 401)
  t.equal(wrong.body.code, 'FST_BASTION_SIGN_IN_REFUSED')
  for (const username of ['nobody_here', "' or 1=1 --", 'bob"; drop table users; --', 'bob%', 'b_b', 'bob\\', '*', '用户', 'bob ', ' bob', 'x'.repeat(100)]) {
    const unknown = await login(username, 'Wrong-pass-1')
    t.strictSame(withoutId(unknown), withoutId(wrong), username.slice(0, 20))
    t.strictSame(Object.keys(unknown.headers).sort(), Object.keys(wrong.headers).sort())
  }
  for (const password of ["' or '1'='1", '', PASSWORD.toLowerCase(), `${PASSWORD} `, PASSWORD.slice(0, -1)]) t.not((await login('bob', password)).status, 200, JSON.stringify(password))
})

t.test('an inactive account is 403, but only after the right password', async t => {
  const wrong = await login('ina', 'Wrong-pass-1')
  t.strictSame(withoutId(wrong), withoutId(await login('nobody_here', 'Wrong-pass-1')))
  const right = await login('ina', PASSWORD)
  t.equal(right.status, 403)
  t.equal(right.body.code, 'FST_BASTION_SIGN_IN_INACTIVE')
})

t.test('the lock', async t => {
  const fail = (username: string, address: string) => login(username, 'Wrong-pass-1', { address })
  const times = async <T>(n: number, work: (i: number) => Promise<T>) => { const done: T[] = []; for (let i = 0; i < n; i++) done.push(await work(i)); return done }
  const statuses = (answers: readonly Answer[]) => answers.map(({ status }) => status)

  await t.test('five failures lock a name for that address, also for the right password, for the rest of fifteen minutes [ASVS 6.3.1]', async t => {
    t.strictSame(statuses(await times(5, () => fail('bob', '198.51.100.1'))), [401, 401, 401, 401, 401])
    pass(5 * MINUTE)
    const locked = await login('bob', PASSWORD, { address: '198.51.100.1' })
    t.equal(locked.status, 429)
    t.equal(locked.body.code, 'FST_BASTION_SIGN_IN_LOCKED')
    t.ok(Number(locked.headers['retry-after']) > 590 && Number(locked.headers['retry-after']) <= 600, `Retry-After ${String(locked.headers['retry-after'])}`)
    t.equal((await login('BOB', PASSWORD, { address: '198.51.100.1' })).status, 429, 'however the name is written')
    t.equal((await login('bob', PASSWORD, { address: '198.51.100.2' })).status, 200, 'elsewhere the name is free')
    t.equal((await login('alice', PASSWORD, { address: '198.51.100.1' })).status, 200, 'and the address for other names')
    pass(10 * MINUTE + 1000)
    t.equal((await login('bob', PASSWORD, { address: '198.51.100.1' })).status, 200)
  })

  await t.test('unknown names lock in the same way', async t => {
    t.strictSame(statuses(await times(7, () => fail('nobody_there', '198.51.100.3'))), [401, 401, 401, 401, 401, 429, 429])
  })

  await t.test('an IPv6 network counts as one address', async t => {
    t.strictSame(statuses(await times(6, i => fail('bob', `2001:db8:1:2::${i + 1}`))), [401, 401, 401, 401, 401, 429])
  })

  await t.test('parallel guesses count before they are computed', async t => {
    const answers = await Promise.all(Array.from({ length: 40 }, () => fail('gus', '198.51.100.4')))
    t.equal(answers.filter(({ status }) => status === 401).length, 5)
    t.equal(answers.filter(({ status }) => status === 429).length, 35)
  })

  await t.test('a success resets the name', async t => {
    for (let round = 0; round < 3; round++) {
      t.strictSame(statuses(await times(4, () => fail('mona', '198.51.100.5'))), [401, 401, 401, 401])
      t.equal((await login('mona', PASSWORD, { address: '198.51.100.5' })).status, 200)
    }
  })

  await t.test('twenty failures from anywhere lock the name everywhere', async t => {
    t.strictSame(new Set(statuses(await times(20, i => fail('nora', `198.51.101.${i}`)))), new Set([401]))
    t.equal((await login('nora', PASSWORD, { address: '198.51.102.1' })).status, 429)
    pass(15 * MINUTE + 1000)
    t.equal((await login('nora', PASSWORD, { address: '198.51.102.1' })).status, 200)
  })

  await t.test('thirty failures over ten names lock the address, with a critical event, and successes do not help', async t => {
    const events: { type: string, details: Record<string, unknown> }[] = []
    const stop = portal.app.events.listen(event => { events.push(event) })
    t.teardown(stop)
    for (let i = 0; i < 30; i++) {
      t.equal((await fail(`stuffed_${i % 10}`, '198.51.103.1')).status, 401, `failure ${i + 1}`)
      if (i % 10 === 9 && i < 29) t.equal((await login('alice', PASSWORD, { address: '198.51.103.1' })).status, 200)
    }
    t.equal((await login('alice', PASSWORD, { address: '198.51.103.1' })).status, 429)
    t.equal((await login('never_tried', 'x', { address: '198.51.103.1' })).status, 429)
    t.match(events.findLast(({ type }) => type === 'login_locked')?.details, { severity: 'critical' })
    t.equal((await login('alice', PASSWORD, { address: '198.51.103.2' })).status, 200)
  })

  await t.test('thirty failures over fewer names do not', async t => {
    for (let i = 0; i < 36; i++) t.equal((await fail(`few_${i % 9}`, '198.51.104.1')).status, 401)
    t.equal((await login('alice', PASSWORD, { address: '198.51.104.1' })).status, 200)
    for (let i = 0; i < 9; i++) t.equal((await fail(`few_${i}`, '198.51.104.1')).status, 401)
  })

  await t.test('passwords asked for elsewhere count the same', async t => {
    const { token: bearer, username } = await newcomer()
    const wrong = { token: bearer, address: '198.51.105.1' }
    for (let i = 0; i < 5; i++) {
      const { status } = i % 2 === 0
        ? await call('POST', '/auth/step-up', { body: { password: 'Wrong-pass-1' }, ...wrong })
        : await call('POST', '/auth/password', { body: { currentPassword: 'Wrong-pass-1', newPassword: 'Another-pass-1' }, ...wrong })
      t.equal(status, 401)
    }
    t.equal((await call('POST', '/auth/step-up', { body: { password: NEW_PASSWORD }, ...wrong })).status, 429)
    t.equal((await call('POST', '/auth/password', { body: { currentPassword: NEW_PASSWORD, newPassword: 'Another-pass-1' }, ...wrong })).status, 429)
    t.equal((await login(username, NEW_PASSWORD, { address: '198.51.105.1' })).status, 429)
    t.ok(await isAlive(bearer), 'a lock ends no token')
  })

  await t.test('an admin can unlock', async t => {
    const { id, username } = await newcomer()
    await times(6, () => fail(username, '198.51.106.1'))
    t.equal((await login(username, NEW_PASSWORD, { address: '198.51.106.1' })).status, 429)
    for (const name of ['mona', 'max', 'alice']) t.equal((await call('POST', `/users/${id}/unlock`, { token: await token(name) })).status, 403, name)
    t.equal((await login(username, NEW_PASSWORD, { address: '198.51.106.1' })).status, 429)
    t.equal((await call('POST', `/users/${id}/unlock`, { token: await token('admin') })).status, 204)
    t.equal((await login(username, NEW_PASSWORD, { address: '198.51.106.1' })).status, 200)
    t.equal((await call('POST', '/users/AAAAAAAAAAAAAAAA/unlock', { token: await token('admin') })).status, 404)
  })

  await t.test('the lock knows the address from a trusted proxy only', async t => {
    for (let i = 0; i < 5; i++) await login('dora', 'Wrong-pass-1', { address: '198.51.107.1', headers: { 'x-forwarded-for': `203.0.113.${i}` } })
    t.equal((await login('dora', PASSWORD, { address: '198.51.107.1', headers: { 'x-forwarded-for': '203.0.113.77' } })).status, 429)
  })
})

t.test('logout ends this token and its family, and no other', async t => {
  const [one, two] = [await signIn('alice'), await signIn('alice')]
  for (const [i, more] of [{}, { body: {} }, { raw: '' }].entries()) {
    const { access_token: bearer } = i === 0 ? one : await signIn('alice')
    t.equal((await call('POST', '/auth/logout', { token: bearer, ...more })).status, 204)
    t.notOk(await isAlive(bearer))
    t.equal((await call('POST', '/auth/logout', { token: bearer })).status, 401)
  }
  t.equal((await call('POST', '/auth/refresh', { body: { refresh_token: one.refresh_token } })).status, 401)
  t.ok(await isAlive(two.access_token))
  t.equal((await call('POST', '/auth/logout', { token: two.access_token, body: { all: true } })).status, 400)
  t.equal((await call('POST', '/auth/refresh', { body: { refresh_token: two.refresh_token } })).status, 200)
})

t.test('logout-all ends all of the user, and nobody else', async t => {
  const person = await newcomer()
  const other = await signIn(person.username, NEW_PASSWORD)
  const { access_token: stranger } = await signIn('alice')
  t.equal((await call('POST', '/auth/logout-all', { token: person.token })).status, 204)
  for (const { access_token: bearer, refresh_token: refresh } of [person, other]) {
    t.notOk(await isAlive(bearer))
    t.equal((await call('POST', '/auth/refresh', { body: { refresh_token: refresh } })).status, 401)
  }
  t.ok(await isAlive(stranger))
  t.ok(await isAlive((await signIn(person.username, NEW_PASSWORD)).access_token), 'and signing in again works at once')
})

t.test('a new password [ASVS 6.2.2, 6.2.3]', async t => {
  const CHANGED = 'Changed-pass-2'
  const person = await newcomer()
  const other = await signIn(person.username, NEW_PASSWORD)
  const change = (body: object) => call('POST', '/auth/password', { token: person.token, body })

  t.equal((await change({ currentPassword: 'Wrong-pass-1', newPassword: CHANGED })).status, 401)
  t.equal((await change({ currentPassword: NEW_PASSWORD, newPassword: 'weak' })).status, 400)
  t.equal((await change({ currentPassword: NEW_PASSWORD, newPassword: `${person.username}-A1` })).status, 400)
  t.equal((await change({ currentPassword: NEW_PASSWORD })).status, 400)
  t.equal((await change({ newPassword: CHANGED })).status, 400)
  t.ok(await isAlive(other.access_token), 'a refused change ends nothing')
  t.equal((await login(person.username, CHANGED)).status, 401)
  t.equal((await login(person.username, NEW_PASSWORD)).status, 200, 'the control: while it is not changed, whoever has learnt the old one gets in')

  t.equal((await change({ currentPassword: NEW_PASSWORD, newPassword: CHANGED })).status, 204)
  t.notOk(await isAlive(other.access_token), 'all other tokens are dead')
  t.equal((await call('POST', '/auth/refresh', { body: { refresh_token: other.refresh_token } })).status, 401)
  t.ok(await isAlive(person.token), 'the one that asked lives')
  t.equal((await call('POST', '/auth/refresh', { body: { refresh_token: person.refresh_token } })).status, 200, 'and its family')
  t.equal((await login(person.username, NEW_PASSWORD)).status, 401)
  t.equal((await login(person.username, CHANGED)).status, 200)

  await t.test('negative control: where nobody asks for the old one, a stolen token is enough for a new one', async t => {
    const careless = await buildOn(t, sql, {}, app => {
      app.post<{ Body: { newPassword: string } }>('/careless/password', {
        schema: { body: closed({ newPassword: Type.String({ maxLength: 100 }) }), response: { 204: Type.Null() } }, config: { access: 'user' },
      }, async (request, reply) => {
        await sql.query('update users set password_hash = $1 where id = $2', [await app.passwords.hash(request.body.newPassword), principalOf(request).userId])
        return reply.code(204).send()
      })
    })
    const stolen = await careless.token(person.username, CHANGED)
    t.equal((await careless.call('POST', '/auth/password', { token: stolen, body: { newPassword: 'Mallory-was-here-1' } })).status, 400)
    t.equal((await careless.call('POST', '/careless/password', { token: stolen, body: { newPassword: 'Mallory-was-here-1' } })).status, 204)
    t.equal((await careless.call('POST', '/auth/login', { body: { username: person.username, password: 'Mallory-was-here-1' } })).status, 200)
  })
})

t.test('a password is good for as long as nobody changes it, ten years later too [ASVS 6.2.10]', async t => {
  const { call, newcomer, pass, signIn } = await buildOn(t, sql)
  const { username, token: first } = await newcomer()
  pass(10 * 365 * 86_400_000)
  t.equal((await call('GET', '/users/me', { token: first })).status, 401, 'negative control: what has an end is over by then')
  const { access_token: token } = await signIn(username, NEW_PASSWORD)
  t.equal((await call('GET', '/users/me', { token })).status, 200, 'and nothing else is asked for first')
  t.equal((await call('POST', '/auth/password', { token, body: { currentPassword: NEW_PASSWORD, newPassword: 'Changed-pass-2' } })).status, 204)
  t.equal((await call('POST', '/auth/login', { body: { username, password: NEW_PASSWORD } })).status, 401)
})

t.test('there is no hint and no secret question: none is taken, kept or told [ASVS 6.4.2]', async t => {
  const hints = { hint: 'the usual', passwordHint: 'the usual', question: 'First pet?', secretQuestion: 'First pet?', answer: 'Rex', secretAnswer: 'Rex', securityQuestions: [{ question: 'First pet?', answer: 'Rex' }] }
  const person = await newcomer()
  for (const [name, value] of Object.entries(hints)) {
    for (const [method, url, body] of [
      ['POST', '/auth/register', { username: 'never_made', email: 'never@people.example', password: NEW_PASSWORD }], ['PATCH', '/users/me', {}],
      ['POST', '/auth/forgot', { email: 'alice@portal.example' }], ['POST', '/auth/reset', { token: 'x', newPassword: NEW_PASSWORD }],
    ] as const) t.match(await call(method, url, { token: person.token, body: { ...body, [name]: value } }), { status: 400, body: { code: 'FST_BASTION_VALIDATION_REFUSED' } }, `${name} at ${url}`)
  }
  const columns = await sql.query<{ name: string }>("select column_name as name from information_schema.columns where table_schema = 'public'")
  t.ok(columns.some(({ name }) => name === 'password_hash'))
  t.strictSame(columns.filter(({ name }) => /hint|question|answer/.test(name)), [])
  const routes = portal.app.plan.routes.map(({ url }) => url)
  t.ok(routes.includes('/auth/forgot'))
  t.strictSame(routes.filter(url => /hint|question|answer/i.test(url)), [])

  const bare = Fastify()
  t.teardown(() => bare.close())
  const kept: Record<string, Record<string, unknown>> = {}
  bare.post<{ Body: { username: string } }>('/auth/register', async ({ body }) => { kept[body.username] = body })
  bare.get<{ Params: { name: string } }>('/auth/hint/:name', async ({ params }) => ({ hint: kept[params.name]!.passwordHint }))
  await bare.inject({ method: 'POST', url: '/auth/register', payload: { username: 'rita', password: NEW_PASSWORD, ...hints } })
  t.match((await bare.inject('/auth/hint/rita')).json(), { hint: 'the usual' }, 'negative control: plain Fastify takes a hint, keeps it, and tells it to whoever asks')
})

t.test('an admin has the link of a new password sent to its user, and neither sees it nor chooses the password [ASVS 6.4.6]', async t => {
  const CHOSEN = 'Chosen-by-admin-1'
  const portal = await buildOn(t, sql, {}, app => {
    app.put<{ Params: { userId: string }, Body: { password: string } }>('/careless/users/:userId/password', {
      schema: { params: closed({ userId: Type.String({ maxLength: 50 }) }), body: closed({ password: Type.String({ maxLength: 100 }) }), response: { 204: Type.Null() } }, config: { access: { roles: 'admin' } },
    }, async (request, reply) => {
      await sql.query('update users set password_hash = $1 where id = $2', [await app.passwords.hash(request.body.password), request.params.userId])
      return reply.code(204).send()
    })
  })
  const { call, mails } = portal
  const person = await portal.newcomer()
  await sql.query('update users set email_confirmed_at = now() where id = $1', [person.id])
  const admin = await portal.token('admin')
  const { body: { email } } = await call('GET', `/users/${person.id}`, { token: admin })
  const asked = await call('POST', '/auth/forgot', { token: admin, body: { email } })
  t.match(asked, { status: 202, text: '' })
  const letter = () => mails.find(({ subject }) => subject === 'Choose a new password')
  for (let turns = 0; turns < 2000 && letter() === undefined; turns++) await new Promise(resolve => { setImmediate(resolve) })
  t.equal(letter()?.to, email)
  const [, link] = /\n\n([\w-]+\.[\w-]{43})/.exec(letter()!.text)!
  const signsIn = async (password: string) => (await call('POST', '/auth/login', { body: { username: person.username, password } })).status === 200

  for (const [method, url, body] of [
    ['PATCH', `/users/${person.id}`, { password: CHOSEN }], ['PUT', `/users/${person.id}/password`, { password: CHOSEN }], ['POST', `/users/${person.id}/password`, { newPassword: CHOSEN }],
    ['PATCH', `/users/${person.id}/role`, { role: 'user', password: CHOSEN }], ['PATCH', `/users/${person.id}/active`, { isActive: true, newPassword: CHOSEN }],
    ['POST', '/auth/password', { userId: person.id, currentPassword: PASSWORD, newPassword: CHOSEN }], ['POST', '/auth/reset', { userId: person.id, newPassword: CHOSEN }], ['POST', '/auth/reset', { token: admin, newPassword: CHOSEN }],
    ['POST', '/auth/forgot', { email, newPassword: CHOSEN }],
  ] as const) t.match((await call(method, url, { token: admin, body })).status, /^40[04]$/, `${method} ${url}`)
  t.notOk(await signsIn(CHOSEN))
  t.ok(await signsIn(NEW_PASSWORD), 'until the user does something the old one is good')
  for (const url of [`/users/${person.id}`, '/audit', '/users']) t.notOk((await call('GET', url, { token: admin })).text.includes(link!.split('.')[1]!), url)
  t.equal((await call('POST', '/auth/reset', { body: { token: link, newPassword: 'Chosen-by-user-1' } })).status, 204)
  t.ok(await signsIn('Chosen-by-user-1'))

  t.equal((await call('PUT', `/careless/users/${person.id}/password`, { token: admin, body: { password: CHOSEN } })).status, 204)
  t.ok(await signsIn(CHOSEN), 'negative control: where an admin sets it the admin knows it')
})

t.test('attack: whoever signs in with the old password while it is changed is out when it is [ASVS 7.4.3]', async t => {
  const person = await newcomer()
  const thief = Array.from({ length: 4 }, () => login(person.username, NEW_PASSWORD))
  const changed = await call('POST', '/auth/password', { token: person.token, body: { currentPassword: NEW_PASSWORD, newPassword: 'Changed-pass-2' } })
  t.equal(changed.status, 204)
  for (const { status, body } of await Promise.all(thief)) {
    t.ok(status === 401 || !await isAlive(body.access_token), `${status}`)
  }
})

t.test('step-up', async t => {
  const exported = (bearer: string) => call('GET', '/users/me/export', { token: bearer })
  const stepUp = (bearer: string, password = NEW_PASSWORD) => call('POST', '/auth/step-up', { token: bearer, body: { password } })

  await t.test('a fresh sign-in counts for five minutes', async t => {
    const { token: bearer } = await newcomer()
    pass(299_000)
    t.equal((await exported(bearer)).status, 200)
    pass(3_000)
    const { status, body, headers } = await exported(bearer)
    t.equal(status, 401)
    t.equal(body.code, 'FST_BASTION_STEP_UP_REQUIRED')
    t.match(headers['www-authenticate'], /insufficient_user_authentication/)
    t.ok(await isAlive(bearer), 'for everything else the token is good')
  })

  await t.test('gives a new access token whose auth_time is now; the old one is dead, the family goes on', async t => {
    const person = await newcomer()
    pass(6 * MINUTE)
    t.equal((await exported(person.token)).status, 401)
    t.equal((await stepUp(person.token, 'Wrong-pass-1')).status, 401)
    t.ok(await isAlive(person.token), 'a failure ends nothing')
    const { status, body } = await stepUp(person.token)
    t.equal(status, 200)
    t.strictSame(Object.keys(body).sort(), ['access_token', 'expires_in', 'token_type'])
    t.notOk(await isAlive(person.token))
    t.equal((await stepUp(person.token)).status, 401, 'nor does the old one give another')
    t.equal((await exported(body.access_token)).status, 200)
    const refreshed = await call('POST', '/auth/refresh', { body: { refresh_token: person.refresh_token } })
    t.equal(refreshed.status, 200)
    t.equal((await exported(refreshed.body.access_token)).status, 401, 'refreshing is no proof')
  })

  await t.test('is asked for where the contract says so', async t => {
    const admin = await newcomer('admin')
    const { id } = await newcomer()
    pass(6 * MINUTE)
    for (const [method, url, body] of [
      ['PATCH', '/users/me', { email: 'new@people.example' }], ['GET', '/users/me/export', undefined], ['DELETE', '/users/me', undefined],
      ['PATCH', `/users/${id}/role`, { role: 'moderator' }], ['PATCH', `/users/${id}/active`, { isActive: false }],
      ['POST', `/users/${id}/unlock`, undefined], ['DELETE', `/users/${id}/sessions`, undefined], ['DELETE', `/users/${id}`, undefined],
    ] as const) {
      const answer = await call(method, url, { token: admin.token, ...(body !== undefined && { body }) })
      t.equal(answer.status, 401, `${method} ${url}`)
      t.equal(answer.body.code, 'FST_BASTION_STEP_UP_REQUIRED', `${method} ${url}`)
    }
    for (const [method, url, body] of [['PATCH', '/users/me', { bio: 'x', phone: '555-123-4567', website: 'https://x.example', username: `renamed_${admin.username}` }], ['GET', '/users', undefined]] as const) {
      t.equal((await call(method, url, { token: admin.token, ...(body !== undefined && { body }) })).status, 200, `${method} ${url} does not`)
    }
  })

  await t.test('attack: what ended the token meanwhile ends the new one', async t => {
    for (const end of ['logout-all', 'logout'] as const) {
      const person = await newcomer()
      const other = await signIn(person.username, NEW_PASSWORD)
      const rising = [1, 2, 3].map(() => stepUp(person.token))
      const [ended] = await Promise.all([call('POST', `/auth/${end}`, { token: end === 'logout' ? person.token : other.access_token }), ...rising])
      t.equal(ended.status, 204)
      for (const { body } of await Promise.all(rising)) if (body.access_token !== undefined) t.notOk(await isAlive(body.access_token), end)
    }
  })
})
