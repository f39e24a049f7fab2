/** The second factor of the portal, as the contract says. */
import { Type } from '@sinclair/typebox'
import jwt from '@fastify/jwt'
import Fastify from 'fastify'
import { Secret, TOTP } from 'otpauth'
import t from 'tap'
import { closed, TokenPair } from '../../schemas/index.js'
import { build, buildOn, PASSWORD, type Call } from './portal.js'

const portal = await build(t)
const { call, signIn, token: tokenOf, newcomer, pass, now, sql, log, mails, idOf } = portal
const MINUTE = 60_000
const STEP = 30_000
const NEW_PASSWORD = 'Newcomer-pass-1'
const WRONG = '000000'
const required = { status: 401, body: { code: 'FST_BASTION_MFA_REQUIRED' } }
const refused = { status: 401, body: { code: 'FST_BASTION_MFA_REFUSED' } }
const locked = { status: 429, body: { code: 'FST_BASTION_MFA_LOCKED' } }

const login = (username: string, password = NEW_PASSWORD, more: Call = {}) => call('POST', '/auth/login', { body: { username, password }, ...more })
const complete = (mfaToken: string, code: string, more: Call = {}) => call('POST', '/auth/mfa', { body: { mfaToken, code }, ...more })
const stepUp = (token: string, body: object) => call('POST', '/auth/step-up', { token, body })
const isAlive = async (token: string) => (await call('GET', '/users/me', { token })).status === 200

/** What an authenticator app shows. */
const codeOf = (secret: string, steps = 0) => new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: now() + steps * STEP })
/** A code that is none of those that are good around now. */
const wrongFor = (secret: string) => [-2, -1, 0, 1, 2].some(steps => codeOf(secret, steps) === WRONG) ? '000001' : WRONG

async function enrolled (role?: string) {
  const person = await newcomer(role)
  const { body: { secret } } = await call('POST', '/mfa/enroll', { token: person.token })
  const confirmed = await call('POST', '/mfa/confirm', { token: person.token, body: { code: codeOf(secret) } })
  if (confirmed.status !== 200) throw new Error(`${person.username} cannot enrol: ${confirmed.status}`)
  pass(2 * STEP)
  return {
    ...person,
    secret: secret as string,
    recoveryCodes: confirmed.body.recoveryCodes as string[],
    /** The token of a sign-in that waits for a code. */
    challenge: async () => (await login(person.username)).body.mfaToken as string,
    /** A code that was not used yet. */
    fresh () {
      pass(STEP)
      return codeOf(secret)
    },
  }
}

t.test('an enrolment shows its secret three ways, and counts for nothing until a code confirms it', async t => {
  const { token, username } = await newcomer()
  const begun = await call('POST', '/mfa/enroll', { token })
  t.equal(begun.status, 200)
  t.equal(begun.headers['cache-control'], 'no-store')
  t.match(begun.body.secret, /^[A-Z2-7]{32}$/, '160 bits')
  const url = new URL(begun.body.otpauthUrl)
  t.equal(`${url.protocol}//${url.host}`, 'otpauth://totp')
  t.equal(decodeURIComponent(url.pathname), `/Member portal:${username}`)
  t.match(Object.fromEntries(url.searchParams), { secret: begun.body.secret, issuer: 'Member portal', algorithm: 'SHA1', digits: '6', period: '30' })
  t.match(begun.body.qr, /^<svg [^<>]*>(?:<path [^<>]*\/>)+<\/svg>$/)
  t.equal((await login(username)).status, 200, 'the password is still enough')

  const wrong = await call('POST', '/mfa/confirm', { token, body: { code: wrongFor(begun.body.secret) } })
  t.match(wrong, refused)
  t.equal((await login(username)).status, 200)
  const confirmed = await call('POST', '/mfa/confirm', { token, body: { code: codeOf(begun.body.secret) } })
  t.equal(confirmed.status, 200)
  t.equal(new Set(confirmed.body.recoveryCodes).size, 10)
  for (const code of confirmed.body.recoveryCodes) t.match(code, /^[0-9A-Z]{4}(?:-[0-9A-Z]{4}){5}$/)
  t.match(await login(username), required)
  t.match(await call('POST', '/mfa/confirm', { token, body: { code: codeOf(begun.body.secret, 1) } }), { status: 409, body: { code: 'FST_BASTION_MFA_NOT_ENROLLING' } }, 'once')
})

t.test('an enrolment that was not confirmed in fifteen minutes is gone', async t => {
  const { token: first, refresh_token: refreshToken } = await newcomer()
  const { body: { secret } } = await call('POST', '/mfa/enroll', { token: first })
  pass(14 * MINUTE)
  const { body: { access_token: token } } = await call('POST', '/auth/refresh', { body: { refresh_token: refreshToken } })
  pass(MINUTE)
  t.match(await call('POST', '/mfa/confirm', { token, body: { code: codeOf(secret) } }), { status: 409, body: { code: 'FST_BASTION_MFA_NOT_ENROLLING' } })
})

t.test('the password gives a token for the code, and only the right one does', async t => {
  const { username, challenge, fresh } = await enrolled()
  const asked = await login(username)
  t.match(asked, required)
  t.match(asked.body.mfaToken, /^[\w-]{43}$/)
  t.notOk('access_token' in asked.body)
  const wrong = await login(username, 'Wrong-pass-1')
  t.match(wrong, { status: 401, body: { code: 'FST_BASTION_SIGN_IN_REFUSED' } })
  t.notOk('mfaToken' in wrong.body)
  t.strictSame(Object.keys((await login('nobody_here')).body).sort(), Object.keys(wrong.body).sort())

  const { status, body } = await complete(await challenge(), fresh())
  t.equal(status, 200)
  t.strictSame(Object.keys(body).sort(), ['access_token', 'expires_in', 'refresh_token', 'token_type'])
  t.ok(await isAlive(body.access_token))
  t.equal((await call('POST', '/auth/refresh', { body: { refresh_token: body.refresh_token } })).status, 200)
})

t.test('a code works once, and so does the token of a sign-in [ASVS 6.5.1]', async t => {
  const { challenge, fresh, secret } = await enrolled()
  const [one, two] = [await challenge(), await challenge()]
  const code = fresh()
  t.equal((await complete(one, code)).status, 200)
  t.match(await complete(two, code), refused, 'the code is spent')
  t.match(await complete(one, codeOf(secret, 1)), refused, 'the token is spent')
  t.equal((await complete(two, codeOf(secret, 1))).status, 200)
})

t.test('attack: of two hundred parallel sign-ins with one code one passes, and nobody is locked', async t => {
  const { challenge, fresh, secret } = await enrolled()
  const tokens = await Promise.all(Array.from({ length: 20 }, challenge))
  const code = fresh()
  const answers = await Promise.all(Array.from({ length: 200 }, (_none, i) => complete(tokens[i % 20]!, code)))
  t.equal(answers.filter(({ status }) => status === 200).length, 1)
  t.equal(answers.filter(({ status }) => status === 401).length, 199)
  t.equal((await complete(await challenge(), codeOf(secret, 1))).status, 200)
})

t.test('a recovery code works once, however it is typed, and in parallel too', async t => {
  const { challenge, recoveryCodes: [first, second, third] } = await enrolled()
  t.equal((await complete(await challenge(), first!)).status, 200)
  t.match(await complete(await challenge(), first!), refused)
  t.equal((await complete(await challenge(), second!.toLowerCase().replaceAll('-', ' '))).status, 200)
  const tokens = await Promise.all(Array.from({ length: 20 }, challenge))
  const answers = await Promise.all(tokens.map(one => complete(one, third!)))
  t.strictSame(answers.map(({ status }) => status).sort(), [200, ...Array(19).fill(401)])
})

t.test('whatever is shown once is good once: a code, a recovery code, the link of a mail [ASVS 6.5.1]', async t => {
  const { id, username, secret, challenge, fresh, recoveryCodes: [recovery] } = await enrolled()
  const code = fresh()
  for (const shown of [code, recovery!]) {
    t.equal((await complete(await challenge(), shown)).status, 200)
    t.match(await complete(await challenge(), shown), refused)
  }
  const [{ hash }] = await sql.query<{ hash: string }>('select password_hash as hash from users where id = $1', [id]) as [{ hash: string }]
  const link = portal.app.tokens.links.issue({ purpose: 'reset', subject: id, bound: `${username}@people.example ${hash}` })
  t.equal((await call('POST', '/auth/reset', { body: { token: link, newPassword: 'Another-pass-2' } })).status, 204)
  t.match(await call('POST', '/auth/reset', { body: { token: link, newPassword: 'Another-pass-3' } }), { status: 400, body: { code: 'FST_BASTION_TOKENS_LINK_INVALID' } })
  const confirmation = portal.app.tokens.links.issue({ purpose: 'confirm', subject: id, bound: `${username}@people.example` })
  t.strictSame([(await call('POST', '/auth/confirm', { body: { token: confirmation } })).status, (await call('POST', '/auth/confirm', { body: { token: confirmation } })).status], [204, 400])

  await t.test('negative control: plain Fastify with otpauth, a list of codes and @fastify/jwt, as they are documented, takes each of them twice', async t => {
    const bare = Fastify()
    t.teardown(() => bare.close())
    await bare.register(jwt, { secret: 'a secret that is long enough to sign links' })
    bare.post<{ Body: { code: string } }>('/totp', async request => new TOTP({ secret: Secret.fromBase32(secret) }).validate({ token: request.body.code, timestamp: now() }) === null ? 'no' : 'in')
    bare.post<{ Body: { code: string } }>('/recovery', async request => [recovery].includes(request.body.code) ? 'in' : 'no')
    bare.post<{ Body: { code: string } }>('/link', async request => bare.jwt.verify<{ sub: string }>(request.body.code).sub === id ? 'in' : 'no')
    for (const [url, shown] of [['/totp', code], ['/recovery', recovery], ['/link', bare.jwt.sign({ sub: id }, { expiresIn: '10m' })]] as const) {
      for (const use of [1, 2]) t.equal((await bare.inject({ method: 'POST', url, payload: { code: shown } })).body, 'in', `${url}, use ${use}`)
    }
  })
})

t.test('a code is good by the clock of the portal, whatever time a request names [ASVS 6.5.8]', async t => {
  const { challenge, secret, fresh } = await enrolled()
  const long = 60 * STEP
  const [old, then] = [codeOf(secret, -60), now() - long]
  const times = { date: new Date(then).toUTCString(), 'x-date': new Date(then).toISOString(), 'x-timestamp': String(then), 'x-time': String(then / 1000), 'x-request-start': String(then) }
  t.match(await complete(await challenge(), old, { headers: times }), refused)
  for (const more of [{ timestamp: then }, { time: then }, { date: new Date(then).toISOString() }]) {
    t.equal((await call('POST', '/auth/mfa', { body: { mfaToken: await challenge(), code: old, ...more } })).status, 400)
  }
  t.not((await call('POST', `/auth/mfa?timestamp=${then}`, { body: { mfaToken: await challenge(), code: old } })).status, 200)
  t.equal((await complete(await challenge(), fresh(), { headers: times })).status, 200, 'and the right one is right')

  const bare = Fastify()
  t.teardown(() => bare.close())
  bare.post<{ Body: { code: string } }>('/totp', async request => new TOTP({ secret: Secret.fromBase32(secret) }).validate({ token: request.body.code, timestamp: Date.parse(request.headers.date!) }) === null ? 'no' : 'in')
  t.equal((await bare.inject({ method: 'POST', url: '/totp', headers: times, payload: { code: old } })).body, 'in', 'negative control: where the time of the request is believed an old code is good again')
})

t.test('five wrong codes lock, whatever the factor: 429 with Retry-After for the right code too, until fifteen minutes are over [ASVS 6.3.1]', async t => {
  const { challenge, fresh, secret, recoveryCodes } = await enrolled()
  const one = await challenge()
  for (let i = 0; i < 4; i++) t.match(await complete(i % 2 === 0 ? one : await challenge(), wrongFor(secret)), refused)
  t.match(await complete(one, 'AAAA-AAAA-AAAA-AAAA-AAAA-AAAA'), refused)
  const refusal = await complete(one, codeOf(secret))
  t.match(refusal, locked)
  t.ok(Number(refusal.headers['retry-after']) > 14 * 60 && Number(refusal.headers['retry-after']) <= 15 * 60)
  t.match(await complete(await challenge(), recoveryCodes[0]!), locked)
  pass(15 * MINUTE)
  t.match(await complete(one, fresh()), refused, 'the sign-in in which it was locked is over')
  t.equal((await complete(await challenge(), codeOf(secret))).status, 200)
})

t.test('a replay of a used code counts for no lock, and a success forgets what was wrong', async t => {
  const { challenge, fresh, secret } = await enrolled()
  const code = fresh()
  t.equal((await complete(await challenge(), code)).status, 200)
  for (let i = 0; i < 12; i++) t.match(await complete(await challenge(), code), refused)
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 4; i++) t.match(await complete(await challenge(), wrongFor(secret)), refused)
    t.equal((await complete(await challenge(), fresh())).status, 200)
  }
})

t.test('an admin lifts the lock', async t => {
  const { id, challenge, secret, fresh } = await enrolled()
  const one = await challenge()
  for (let i = 0; i < 5; i++) await complete(one, wrongFor(secret))
  t.match(await complete(await challenge(), codeOf(secret)), locked)
  t.equal((await call('POST', `/users/${id}/unlock`, { token: await tokenOf('admin') })).status, 204)
  t.equal((await complete(await challenge(), fresh())).status, 200)
})

t.test('attack: no kind of token passes for another', async t => {
  const { challenge, fresh, secret, token, refresh_token: refresh } = await enrolled()
  const mfaToken = await challenge()
  t.equal((await call('GET', '/users/me', { token: mfaToken })).status, 401, 'it is no access token')
  t.equal((await call('POST', '/auth/refresh', { body: { refresh_token: mfaToken } })).status, 401, 'no refresh token')
  t.equal((await call('GET', '/users/me', { headers: { 'x-api-key': mfaToken } })).status, 401, 'no key')
  t.equal((await call('POST', '/auth/confirm', { body: { token: mfaToken } })).status, 400, 'no link')
  for (const other of [token, refresh, `${mfaToken}=`, mfaToken.slice(1), `${mfaToken}.`, 'x']) t.match(await complete(other, codeOf(secret)), refused)
  t.match(await complete(await (await enrolled()).challenge(), codeOf(secret)), refused, "the token of somebody else's sign-in")
  t.equal((await complete(mfaToken, fresh())).status, 200)
})

t.test('the token of a sign-in lives five minutes', async t => {
  const { challenge, fresh } = await enrolled()
  const one = await challenge()
  pass(5 * MINUTE)
  t.match(await complete(one, fresh()), refused)
})

t.test('an account that was switched off between password and code is told so only after the right code', async t => {
  const { id, challenge, secret, fresh } = await enrolled()
  const one = await challenge()
  const admin = await tokenOf('admin')
  t.equal((await call('PATCH', `/users/${id}/active`, { token: admin, body: { isActive: false } })).status, 204)
  t.match(await complete(one, wrongFor(secret)), refused)
  t.match(await complete(one, fresh()), { status: 403, body: { code: 'FST_BASTION_SIGN_IN_INACTIVE' } })
  t.equal((await login((await sql.query<{ username: string }>('select username from users where id = $1', [id]))[0]!.username)).status, 403, 'and one that is off gets no token for a code')
})

t.test('a password that changed between password and code ends the sign-in', async t => {
  const { token, challenge, fresh, username } = await enrolled()
  const one = await challenge()
  t.equal((await call('POST', '/auth/password', { token, body: { currentPassword: NEW_PASSWORD, newPassword: 'Another-pass-2' } })).status, 204)
  t.match(await complete(one, fresh()), refused)
  t.equal((await complete((await login(username, 'Another-pass-2')).body.mfaToken, fresh())).status, 200)
})

t.test('the password grant is refused like a wrong password where there is a second factor, until it is ended', async t => {
  const { username, fresh, challenge } = await enrolled()
  const grant = (password: string) => portal.app.inject({
    method: 'POST', url: '/token', headers: { host: 'localhost:3000', 'content-type': 'application/x-www-form-urlencoded' }, payload: new URLSearchParams({ grant_type: 'password', username, password }).toString(),
  })
  const refusal = await grant(NEW_PASSWORD)
  t.equal(refusal.statusCode, 400)
  t.equal(refusal.json().error, 'invalid_grant')
  t.strictSame(refusal.json(), (await grant('Wrong-pass-1')).json())
  const { body: { access_token: token } } = await complete(await challenge(), fresh())
  t.equal((await call('DELETE', '/mfa', { token })).status, 204)
  t.equal((await grant(NEW_PASSWORD)).statusCode, 200, 'negative control: without it the password is enough')
})

t.test('a forgotten password that was reset does not get round the second factor [ASVS 6.4.3]', async t => {
  const { id, username, fresh } = await enrolled()
  await sql.query('update users set email_confirmed_at = now() where id = $1', [id])
  t.equal((await call('POST', '/auth/forgot', { body: { email: `${username}@people.example` } })).status, 202)
  const letter = await waitFor(() => mails.find(({ to, subject }) => to === `${username}@people.example` && subject === 'Choose a new password'))
  const token = /\n\n(\S{20,})\n\n/.exec(letter.text)![1]!
  t.equal((await call('POST', '/auth/reset', { body: { token, newPassword: 'Another-pass-2' } })).status, 204)
  const asked = await login(username, 'Another-pass-2')
  t.match(asked, required)
  t.equal((await complete(asked.body.mfaToken, fresh())).status, 200)

  const hasty = await buildOn(t, sql, {}, app => {
    app.post<{ Body: { token: string } }>('/hasty/reset', { schema: { body: closed({ token: Type.String({ maxLength: 1000 }) }), response: { 200: TokenPair } }, config: { access: 'public' } }, async request =>
      app.tokens.issue({ id: await app.tokens.links.redeem('hasty', request.body.token), roles: ['user'] }))
  })
  const { body: { access_token: within } } = await hasty.call('POST', '/hasty/reset', { body: { token: hasty.app.tokens.links.issue({ purpose: 'hasty', subject: id }) } })
  t.match(await hasty.call('GET', '/users/me', { token: within }), { status: 200, body: { username } }, 'negative control: a reset that signs in at once gets round it')
})

t.test('step-up takes the code where there is a second factor, and the password alone is not even looked at', async t => {
  const { token, fresh, secret } = await enrolled()
  for (let i = 0; i < 8; i++) {
    const answer = await stepUp(token, { password: i % 2 === 0 ? NEW_PASSWORD : 'Wrong-pass-1' })
    t.match(answer, required)
    t.notOk('mfaToken' in answer.body, 'nothing waits to be completed')
  }
  const { status, body } = await stepUp(token, { code: fresh() })
  t.equal(status, 200)
  t.notOk(await isAlive(token))
  t.ok(await isAlive(body.access_token))
  t.match(await stepUp(body.access_token, { code: codeOf(secret) }), refused, 'the code is spent')
  t.equal((await stepUp(body.access_token, { password: NEW_PASSWORD, code: codeOf(secret, 1) })).status, 400, 'one of them, not both')
  t.equal((await stepUp(body.access_token, {})).status, 400)
})

t.test('failed codes of a step-up count towards the lock, and a recovery code does', async t => {
  const { token, challenge, fresh, secret, recoveryCodes } = await enrolled()
  t.equal((await stepUp(token, { code: recoveryCodes[0]! })).status, 200)
  const { access_token: next } = (await complete(await challenge(), fresh())).body
  for (let i = 0; i < 3; i++) t.match(await stepUp(next, { code: wrongFor(secret) }), refused)
  const one = await challenge()
  for (let i = 0; i < 2; i++) t.match(await complete(one, wrongFor(secret)), refused)
  t.match(await stepUp(next, { code: fresh() }), locked)
  t.match(await complete(await challenge(), codeOf(secret)), locked, 'there and here')
})

t.test('step-up of an account without a second factor takes the password and no code', async t => {
  const { token } = await newcomer()
  t.match(await stepUp(token, { code: '123456' }), refused)
  t.equal((await stepUp(token, { password: NEW_PASSWORD })).status, 200)
})

t.test('to enrol and to end it wants a fresh proof, with the factor where there is one [ASVS 7.5.1]', async t => {
  const { token, username, fresh } = await enrolled()
  pass(6 * MINUTE)
  for (const [method, url] of [['POST', '/mfa/enroll'], ['DELETE', '/mfa']] as const) {
    t.match(await call(method, url, { token }), { status: 401, body: { code: 'FST_BASTION_STEP_UP_REQUIRED' } })
    t.equal((await call(method, url)).status, 401)
  }
  t.match(await login(username), required)
  const { body: { access_token: proven } } = await stepUp(token, { code: fresh() })
  t.equal((await call('DELETE', '/mfa', { token: proven })).status, 204)
  t.equal((await login(username)).status, 200, 'the password is enough again')
  t.equal((await call('DELETE', '/mfa', { token: proven })).status, 204, 'twice is no fault')
})

t.test('attack: who signed in with the password alone before the owner enrolled cannot take the factor away', async t => {
  const owner = await newcomer()
  const thief = await signIn(owner.username, NEW_PASSWORD)
  const { body: { secret } } = await call('POST', '/mfa/enroll', { token: owner.token })
  t.ok(await isAlive(thief.access_token), 'negative control: until then it is a sign-in like any other')
  t.equal((await call('POST', '/mfa/confirm', { token: owner.token, body: { code: codeOf(secret) } })).status, 200)
  t.equal((await call('DELETE', '/mfa', { token: thief.access_token })).status, 401)
  t.equal((await call('POST', '/auth/refresh', { body: { refresh_token: thief.refresh_token } })).status, 401)
  t.ok(await isAlive(owner.token), 'who confirmed stays signed in')
})

t.test('a new authenticator replaces the old one only once it is confirmed', async t => {
  const { token, challenge, fresh, secret, recoveryCodes } = await enrolled()
  const { body: { secret: next } } = await call('POST', '/mfa/enroll', { token })
  t.not(next, secret)
  t.match(await complete(await challenge(), codeOf(next)), refused, 'not yet')
  t.equal((await complete(await challenge(), fresh())).status, 200, 'the old one still')
  t.equal((await call('POST', '/mfa/confirm', { token, body: { code: codeOf(next) } })).status, 200)
  pass(STEP)
  t.match(await complete(await challenge(), codeOf(secret)), refused)
  t.match(await complete(await challenge(), recoveryCodes[0]!), refused, 'old recovery codes are gone too')
  t.equal((await complete(await challenge(), codeOf(next))).status, 200)
})

t.test('of parallel confirmations one gives recovery codes', async t => {
  const { token } = await newcomer()
  const { body: { secret } } = await call('POST', '/mfa/enroll', { token })
  const answers = await Promise.all([-1, 0, 1, 0, 1].map(steps => call('POST', '/mfa/confirm', { token, body: { code: codeOf(secret, steps) } })))
  t.equal(answers.filter(({ status }) => status === 200).length, 1)
  t.strictSame([...new Set(answers.map(({ status }) => status))].filter(status => ![200, 401, 409].includes(status)), [])
})

t.test('the owner of the account hears of it by mail', async t => {
  const id = await idOf('bob')
  const { access_token: token } = await signIn('bob')
  const { body: { secret } } = await call('POST', '/mfa/enroll', { token })
  await call('POST', '/mfa/confirm', { token, body: { code: codeOf(secret) } })
  await waitFor(() => mails.find(({ to, subject }) => to === 'bob@portal.example' && subject === 'A second factor was added'))
  await call('DELETE', '/mfa', { token })
  await waitFor(() => mails.find(({ to, subject }) => to === 'bob@portal.example' && subject === 'The second factor was removed'))
  t.equal((await sql.query('select 1 from mfa_recovery_codes where user_id = $1', [id])).length, 0)
  t.equal((await login('bob', PASSWORD)).status, 200)
})

t.test('an erasure ends the factor with the person, and an export tells that there is one', async t => {
  const { id, challenge, fresh } = await enrolled()
  const one = await challenge()
  const { body: { access_token: token } } = await complete(await challenge(), fresh())
  t.equal((await call('GET', '/users/me/export', { token })).body.hasSecondFactor, true)
  t.equal((await call('DELETE', '/users/me', { token })).status, 204)
  t.match(await complete(one, fresh()), refused)
  for (const table of ['mfa_enrolments', 'mfa_recovery_codes']) t.equal((await sql.query(`select 1 from ${table} where user_id = $1`, [id])).length, 0)
})

t.test('bodies are closed', async t => {
  const { token } = await newcomer()
  for (const body of [{}, { mfaToken: 'x' }, { code: '123456' }, { mfaToken: 'x', code: 123456 }, { mfaToken: 'x', code: '' }, { mfaToken: 'x', code: '1'.repeat(65) }, { mfaToken: ['x'], code: '123456' }, { mfaToken: 'x', code: '1', remember: true }]) {
    t.equal((await call('POST', '/auth/mfa', { body })).status, 400, JSON.stringify(body))
  }
  t.equal((await call('POST', '/mfa/enroll', { token, body: { secret: 'AAAA' } })).status, 400)
  t.equal((await call('POST', '/mfa/confirm', { token, body: { code: '123456', secret: 'AAAA' } })).status, 400)
})

t.test('no secret and no code is in the log or, plain, in the database', async t => {
  const { secret, recoveryCodes, challenge, fresh } = await enrolled()
  const mfaToken = await challenge()
  const code = fresh()
  t.equal((await complete(mfaToken, recoveryCodes[0]!)).status, 200)
  t.equal((await complete(await challenge(), code)).status, 200)
  const bytes = Buffer.from(Secret.fromBase32(secret).buffer)
  const plain = [secret, bytes.toString('hex'), bytes.toString('base64'), bytes.toString('base64url'), ...recoveryCodes, ...recoveryCodes.map(one => one.replaceAll('-', '')), mfaToken]
  const tables = await sql.query<{ name: string }>("select table_name as name from information_schema.tables where table_schema = 'public'")
  let dump = ''
  for (const { name } of tables) dump += (await sql.query<{ rows: string }>(`select coalesce(json_agg(t)::text, '') as rows from ${name} t`))[0]!.rows
  t.ok(dump.includes('v1.'), 'the dump holds the sealed ones')
  const lines = log.join('')
  t.match(lines, /"type":"recovery_code_used"/)
  for (const text of plain) {
    t.notOk(dump.includes(text), 'the database')
    t.notOk(lines.includes(text), 'the log')
  }
  t.notOk(lines.includes(`"${code}"`), 'the log')
})

/** Mails are sent beside the requests. */
async function waitFor<Found> (find: () => Found | undefined): Promise<Found> {
  for (let turns = 0; turns < 200; turns++) {
    const found = find()
    if (found !== undefined) return found
    await new Promise(resolve => { setImmediate(resolve) })
  }
  throw new Error('it did not come')
}
