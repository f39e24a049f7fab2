/** What people learn by mail: changes of how their account is signed in to, and sign-ins that look like somebody else's. */
import { Type } from '@sinclair/typebox'
import { Secret, TOTP } from 'otpauth'
import t from 'tap'
import { principalOf } from '../../plugins/identity.js'
import { closed } from '../../schemas/index.js'
import type { Mail } from '../../demo/mail.js'
import { buildOn, freshDatabase, type PortalUnderTest } from './portal.js'

const PASSWORD = 'Newcomer-pass-1'
const sql = await freshDatabase(t)
const nothing = { 204: Type.Null() }
const portal = await buildOn(t, sql, {}, app => {
  app.post<{ Body: { username: string } }>('/silent/name', { schema: { body: closed({ username: Type.String({ maxLength: 50 }) }), response: nothing }, config: { access: 'user' } }, async (request, reply) => {
    await sql.query('update users set username = $1 where id = $2', [request.body.username, principalOf(request).userId])
    return reply.code(204).send()
  })
  app.post<{ Body: { username: string, password: string } }>('/silent/login', { schema: { body: closed({ username: Type.String({ maxLength: 50 }), password: Type.String({ maxLength: 50 }) }), response: { 200: closed({ isIn: Type.Boolean() }) } }, config: { access: 'public' } }, async request => {
    const [{ hash }] = await sql.query<{ hash: string }>('select password_hash as hash from users where username = $1', [request.body.username]) as [{ hash: string }]
    const { valid } = await app.passwords.verify(request.body.password, hash)
    return { isIn: valid }
  })
})
const { call, mails, pass, now } = portal

/** Somebody whose address is confirmed. */
async function person (): Promise<Awaited<ReturnType<PortalUnderTest['newcomer']>> & { mail: (subject: string) => Promise<Mail>, heard: () => string[] }> {
  const one = await portal.newcomer()
  const address = `${one.username}@people.example`
  await sql.query('update users set email_confirmed_at = now() where id = $1', [one.id])
  const own = () => mails.filter(({ to }) => to === address)
  return {
    ...one,
    heard: () => own().map(({ subject }) => subject).filter(subject => subject !== 'Confirm your address'),
    async mail (subject) {
      for (let turns = 0; turns < 2000; turns++) {
        const found = own().find(mail => mail.subject === subject)
        if (found !== undefined) return found
        await new Promise(resolve => { setImmediate(resolve) })
      }
      throw new Error(`${subject}: it did not come`)
    },
  }
}
const login = (username: string, password: string) => call('POST', '/auth/login', { body: { username, password } })
/** Somebody else's change, of which a mail goes out: what was to come before it is there. */
async function afterwards (): Promise<void> {
  const other = await person()
  t.equal((await call('PATCH', '/users/me', { token: other.token, body: { username: `${other.username}_2` } })).status, 200)
  await other.mail('Your name was changed')
}

t.test('whoever changes password, name or address of an account, or adds a factor, its owner hears of it [ASVS 6.3.7]', async t => {
  const one = await person()
  t.equal((await call('POST', '/auth/password', { token: one.token, body: { currentPassword: PASSWORD, newPassword: 'Changed-pass-2' } })).status, 204)
  t.match((await one.mail('Your password was changed')).text, /POST \/auth\/forgot/)

  t.equal((await call('PATCH', '/users/me', { token: one.token, body: { username: `${one.username}_x`, bio: 'mine' } })).status, 200)
  t.match((await one.mail('Your name was changed')).text, `${one.username}_x`)

  const { body: { secret } } = await call('POST', '/mfa/enroll', { token: one.token })
  t.equal((await call('POST', '/mfa/confirm', { token: one.token, body: { code: new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: now() }) } })).status, 200)
  await one.mail('A second factor was added')
  t.equal((await call('DELETE', `/users/${one.id}/factors`, { token: await portal.token('admin') })).status, 204)
  await one.mail('Your second factors and API keys were taken away')

  const { access_token: token } = await portal.signIn(`${one.username}_x`, 'Changed-pass-2')
  t.equal((await call('PATCH', '/users/me', { token, body: { email: 'elsewhere@people.example' } })).status, 200)
  await one.mail('Your address was changed')

  const two = await person()
  t.equal((await call('POST', '/auth/forgot', { body: { email: `${two.username}@people.example` } })).status, 202)
  const [, link] = /\n\n([\w-]+\.[\w-]{43})/.exec((await two.mail('Choose a new password')).text)!
  t.equal((await call('POST', '/auth/reset', { body: { token: link, newPassword: 'Changed-pass-2' } })).status, 204)
  await two.mail('Your password was changed')

  const three = await person()
  const answer = await portal.app.inject({ method: 'POST', url: '/session/login', headers: { host: 'localhost:3000' }, payload: { username: three.username, password: PASSWORD } })
  const cookie = [answer.headers['set-cookie']].flat().map(one => String(one).split(';')[0]).join('; ')
  t.equal((await call('POST', '/session/profile', { body: { username: `${three.username}_y` }, headers: { cookie, 'x-csrf-token': answer.json().csrfToken, origin: 'http://localhost:3000' } })).status, 200)
  await three.mail('Your name was changed')

  const four = await person()
  t.equal((await call('PATCH', '/users/me', { token: four.token, body: { bio: 'no way to sign in' } })).status, 200)
  t.equal((await call('POST', '/silent/name', { token: four.token, body: { username: `${four.username}_z` } })).status, 204)
  await afterwards()
  t.equal((await login(`${four.username}_z`, PASSWORD)).status, 200)
  t.strictSame(four.heard(), [], 'negative control: a name that is changed in the table alone is another one, and nobody hears of it')
})

t.test('the user hears of a password that was right after several that were not, and of a second factor that was not good; at most once an hour [ASVS 6.3.5]', async t => {
  const subject = 'Somebody signs in as you, or tries to'
  const guessed = await person()
  for (let i = 0; i < 3; i++) t.equal((await login(guessed.username, `Guess-pass-${i}`)).status, 401)
  t.equal((await login(guessed.username, PASSWORD)).status, 200)
  t.match((await guessed.mail(subject)).text, /right after 3 that were not, from 10\.\d+\.\d+\.\d+: account .*POST \/auth\/forgot/s)

  const half = await person()
  const { body: { secret } } = await call('POST', '/mfa/enroll', { token: half.token })
  const codeOf = () => new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: now() })
  t.equal((await call('POST', '/mfa/confirm', { token: half.token, body: { code: codeOf() } })).status, 200)
  await half.mail('A second factor was added')
  for (let i = 0; i < 3; i++) {
    const { body: { mfaToken } } = await login(half.username, PASSWORD)
    t.equal((await call('POST', '/auth/mfa', { body: { mfaToken, code: 'AAAA-AAAA-AAAA-AAAA-AAAA-AAAA' } })).status, 401)
  }
  t.match((await half.mail(subject)).text, /as far as the second factor/)
  await afterwards()
  t.strictSame(half.heard(), ['A second factor was added', subject], 'not for each of them')
  pass(2 * 60 * 60_000)
  t.equal((await call('POST', '/auth/mfa', { body: { mfaToken: (await login(half.username, PASSWORD)).body.mfaToken, code: 'AAAA-AAAA-AAAA-AAAA-AAAA-AAAA' } })).status, 401)
  await afterwards()
  t.strictSame(half.heard().slice(1), [subject, subject])

  const calm = await person()
  t.equal((await login(calm.username, 'Mistyped-pass-1')).status, 401)
  t.equal((await login(calm.username, PASSWORD)).status, 200)
  await afterwards()
  t.strictSame(calm.heard(), [], 'who mistypes once hears nothing')

  const unheard = await person()
  for (const [i, password] of ['Guess-pass-0', 'Guess-pass-1', 'Guess-pass-2', PASSWORD].entries()) {
    t.strictSame((await call('POST', '/silent/login', { body: { username: unheard.username, password } })).body, { isIn: i === 3 })
  }
  await afterwards()
  t.strictSame(unheard.heard(), [], 'negative control: where the password alone is compared the same guesses get in, and nobody hears of them')
})
