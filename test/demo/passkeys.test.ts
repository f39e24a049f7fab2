/** The portal's passkeys: made, signed in with, shown beside a password and again. */
import t from 'tap'
import type { PasskeyCreationOptions, PasskeyRequestOptions } from '../../schemas/index.js'
import { authenticator, type Authenticator, type Wrong } from '../passkeys/authenticator.js'
import { Secret, TOTP } from 'otpauth'
import { build, type Call } from './portal.js'

const portal = await build(t)
const { app, call, newcomer, pass, now, sql, log, mails, token: tokenOf, signIn } = portal
const MINUTE = 60_000
const PASSWORD = 'Newcomer-pass-1'
const refused = { status: 401, body: { code: 'FST_BASTION_PASSKEYS_REFUSED' } }
const unregistered = { status: 400, body: { code: 'FST_BASTION_PASSKEYS_NOT_REGISTERED' } }
const required = { status: 401, body: { code: 'FST_BASTION_MFA_REQUIRED' } }
const stepUpRequired = { status: 401, body: { code: 'FST_BASTION_STEP_UP_REQUIRED' } }
const mfaRefused = { status: 401, body: { code: 'FST_BASTION_MFA_REFUSED' } }

const isAlive = async (token: string) => (await call('GET', '/users/me', { token })).status === 200
const claimsOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString())
const password = (username: string) => call('POST', '/auth/login', { body: { username, password: PASSWORD } })
const creation = async (token: string) => (await call('POST', '/passkeys/register/options', { token })).body as PasskeyCreationOptions
const request = async (body?: object, more: Call = {}) => (await call('POST', '/passkeys/login/options', { ...body !== undefined && { body }, ...more })).body as PasskeyRequestOptions

async function register (token: string, device: Authenticator, wrong?: Wrong) {
  return call('POST', '/passkeys/register', { token, body: { ...device.create(await creation(token), wrong), name: 'Telephone' } })
}
async function login (device: Authenticator, wrong?: Wrong) {
  return call('POST', '/passkeys/login', { body: device.get(await request(), wrong) })
}
/** Somebody new with a passkey. */
async function holder (role?: string) {
  const person = await newcomer(role)
  const device = authenticator()
  const { status, body } = await register(person.token, device)
  if (status !== 201) throw new Error(`${person.username} gets no passkey: ${status}`)
  return { ...person, device, passkeyId: body.id as string }
}

t.test('a passkey is made by who has just signed in, and signs in alone, as two factors [ASVS 6.3.3]', async t => {
  const { token, username, id } = await newcomer()
  const device = authenticator()
  const options = await call('POST', '/passkeys/register/options', { token })
  t.equal(options.status, 200)
  t.equal(options.headers['cache-control'], 'no-store')
  t.match(options.body, { rp: { id: 'localhost', name: 'Member portal' }, user: { name: username }, attestation: 'none', authenticatorSelection: { userVerification: 'required' } })
  t.notOk(options.text.includes(id), 'the user handle is no id')
  const { name, ...bare } = { name: 'Telephone', ...device.create(options.body) }
  const made = await call('POST', '/passkeys/register', { token, body: { ...bare, name } })
  t.equal(made.status, 201)
  t.match(made.body, { name: 'Telephone', lastUsedAt: null, isBackedUp: false, createdAt: new Date(now()).toISOString() })
  t.strictSame(Object.keys(made.body).sort(), ['createdAt', 'id', 'isBackedUp', 'lastUsedAt', 'name'])

  const answer = await login(device)
  t.equal(answer.status, 200)
  t.strictSame(Object.keys(answer.body).sort(), ['access_token', 'expires_in', 'refresh_token', 'token_type'])
  t.match(claimsOf(answer.body.access_token), { sub: id, amr: ['pop', 'mfa'] })
  t.match(await call('GET', '/passkeys', { token: answer.body.access_token }), { status: 200, body: { items: [{ id: made.body.id, lastUsedAt: new Date(now()).toISOString() }], nextCursor: null } })
  const refreshed = await call('POST', '/auth/refresh', { body: { refresh_token: answer.body.refresh_token } })
  t.match(claimsOf(refreshed.body.access_token).amr, ['pop', 'mfa'])
  t.equal((await call('POST', '/passkeys/register', { token: answer.body.access_token, body: authenticator().create(await creation(answer.body.access_token)) })).status, 201, 'a name is not needed')
})

t.test('options of a sign-in tell nobody anything: they are the same for everybody', async t => {
  const { token } = await holder()
  const answers = await Promise.all([call('POST', '/passkeys/login/options'), call('POST', '/passkeys/login/options', { body: {} }), call('POST', '/passkeys/login/options', { token })])
  for (const { status, body } of answers) {
    t.equal(status, 200)
    t.strictSame({ ...body, challenge: '' }, { challenge: '', rpId: 'localhost', timeout: 300_000, userVerification: 'required', allowCredentials: [] })
  }
  t.equal((await call('POST', '/passkeys/login/options', { body: { username: 'alice' } })).status, 400)
})

t.test('to make and to remove one wants a fresh proof', async t => {
  const { token, passkeyId, device } = await holder()
  const options = await creation(token)
  pass(6 * MINUTE)
  t.match(await call('POST', '/passkeys/register/options', { token }), stepUpRequired)
  t.match(await call('POST', '/passkeys/register', { token, body: authenticator().create(options) }), stepUpRequired)
  t.match(await call('DELETE', `/passkeys/${passkeyId}`, { token }), stepUpRequired)
  for (const [method, url] of [['POST', '/passkeys/register/options'], ['GET', '/passkeys'], ['DELETE', `/passkeys/${passkeyId}`]] as const) t.equal((await call(method, url)).status, 401)
  const { body: { access_token: fresh } } = await login(device)
  t.equal((await call('DELETE', `/passkeys/${passkeyId}`, { token: fresh })).status, 204, 'negative control')
  t.match(await login(device), refused)
})

t.test('a page of another site does not begin a sign-in; a browser with a session of its own, without a token, does', async t => {
  const { username } = await newcomer()
  const session = String((await call('POST', '/session/login', { body: { username, password: PASSWORD } })).headers['set-cookie']).split(';')[0]!
  const from = (site: string, page: string) => call('POST', '/passkeys/login/options', { headers: { cookie: session, 'sec-fetch-site': site, origin: page } })
  t.equal((await from('cross-site', 'https://evil.example')).status, 403)
  t.equal((await from('same-origin', 'http://localhost:3000')).status, 200)
})

t.test("somebody else's passkey is like none", async t => {
  const [ada, ben] = [await holder(), await holder()]
  t.strictSame((await call('GET', '/passkeys', { token: ben.token })).body.items.map(({ id }: { id: string }) => id), [ben.passkeyId])
  for (const id of [ada.passkeyId, 'unknown']) t.equal((await call('DELETE', `/passkeys/${id}`, { token: ben.token })).status, 404)
  t.equal((await call('DELETE', `/passkeys/${ada.passkeyId}`, { token: await tokenOf('admin') })).status, 404, 'for an admin too')
  t.equal((await login(ada.device)).status, 200)
})

t.test('attacks on a sign-in are refused alike, and the same passkey signs in without them', async t => {
  const [ada, ben] = [await holder(), await holder()]
  const handle = ben.device.credentials[0]!
  const answers = []
  for (const wrong of [
    { origin: 'https://localhost.example' }, { rpId: 'example.com' }, { challenge: 'A'.repeat(43) }, { type: 'webauthn.create' }, { flags: 1 }, { flags: 4 }, { isForged: true },
    { credentialId: handle.id.toString('base64url') }, { userHandle: handle.userHandle }, { userHandle: undefined }, { crossOrigin: true }, { crossOrigin: true, topOrigin: 'https://evil.example' },
  ] as Wrong[]) {
    const answer = await login(ada.device, wrong)
    t.match(answer, refused, JSON.stringify(wrong))
    answers.push(JSON.stringify({ ...answer.body, requestId: '' }))
  }
  t.equal(new Set(answers).size, 1)
  t.equal((await login(ada.device)).status, 200)
})

t.test('attack: a response works once, of two hundred at once', async t => {
  const { device } = await holder()
  const body = device.get(await request())
  const answers = await Promise.all(Array.from({ length: 200 }, () => call('POST', '/passkeys/login', { body })))
  t.equal(answers.filter(({ status }) => status === 200).length, 1)
  t.equal(answers.filter(({ status }) => status === 401).length, 199)
  t.match(await call('POST', '/passkeys/login', { body }), refused)
})

t.test('attack: a copy of an authenticator is refused once the other was used, and it is told', async t => {
  const { device, passkeyId } = await holder()
  const copy = device.copy()
  await login(device)
  await login(device)
  t.match(await login(copy), refused)
  t.match(log.filter(line => line.includes('passkey_cloned')).join(''), new RegExp(`"passkey":"${passkeyId}".*"severity":"critical"`))
  t.equal((await login(device)).status, 200)
})

t.test('attacks on a registration: for another user, twice, with an id that is taken', async t => {
  const [ada, ben] = [await holder(), await newcomer()]
  const options = await creation(ada.token)
  const made = authenticator().create(options)
  t.match(await call('POST', '/passkeys/register', { token: ben.token, body: made }), unregistered, "another user's challenge")
  t.equal((await call('POST', '/passkeys/register', { token: ada.token, body: made })).status, 201, 'negative control')
  t.match(await call('POST', '/passkeys/register', { token: ada.token, body: made }), unregistered, 'twice')
  const credentialId = ada.device.credentials[0]!.id.toString('base64url')
  t.match(await register(ben.token, authenticator(), { credentialId }), unregistered)
  t.equal((await login(ada.device)).status, 200)
  const two = await creation(ada.token)
  t.equal(two.excludeCredentials.length, 2)
})

t.test('who is switched off is told so by the right passkey only, and who is gone is like nobody', async t => {
  const [ada, ben] = [await holder(), await holder()]
  const admin = await tokenOf('admin')
  await call('PATCH', `/users/${ada.id}/active`, { token: admin, body: { isActive: false } })
  t.match(await login(ada.device, { isForged: true }), refused)
  t.match(await login(ada.device), { status: 403, body: { code: 'FST_BASTION_SIGN_IN_INACTIVE' } })
  await call('PATCH', `/users/${ada.id}/active`, { token: admin, body: { isActive: true } })
  t.equal((await login(ada.device)).status, 200)

  t.match((await call('GET', '/users/me/export', { token: ben.token })).body, { passkeys: [{ id: ben.passkeyId, name: 'Telephone' }], hasSecondFactor: true })
  t.equal((await call('DELETE', '/users/me', { token: ben.token })).status, 204)
  t.match(await login(ben.device), refused)
  t.equal((await sql.query('select 1 from passkeys where user_id = $1', [ben.id])).length, 0)
})

t.test('with a passkey the password alone signs nobody in, by no way in', async t => {
  const { username, device, id } = await holder()
  const asked = await password(username)
  t.match(asked, { ...required, body: { factors: ['passkey'], mfaToken: /^[\w-]{43}$/ } })
  t.match(await call('POST', '/session/login', { body: { username, password: PASSWORD } }), required)
  const grant = await app.inject({
    method: 'POST', url: '/token', headers: { host: 'localhost:3000', 'content-type': 'application/x-www-form-urlencoded' }, payload: new URLSearchParams({ grant_type: 'password', username, password: PASSWORD }).toString(),
  })
  t.match(grant.json(), { error: 'invalid_grant' })

  const { mfaToken } = asked.body
  const options = await request({ mfaToken })
  t.equal(options.allowCredentials.length, 1)
  const answer = await call('POST', '/auth/mfa', { body: { mfaToken, passkey: device.get(options) } })
  t.equal(answer.status, 200)
  t.match(claimsOf(answer.body.access_token), { sub: id, amr: ['pwd', 'pop', 'mfa'] })
  t.match(await call('POST', '/auth/mfa', { body: { mfaToken, passkey: device.get(options) } }), mfaRefused)
  t.match(await call('POST', '/passkeys/login/options', { body: { mfaToken } }), mfaRefused, 'nothing waits any more')
})

t.test('a passkey completes a session too, and signs in to one alone', async t => {
  const { username, device, id } = await holder()
  const { body: { mfaToken } } = await call('POST', '/session/login', { body: { username, password: PASSWORD } })
  t.match(await call('POST', '/session/mfa', { body: { mfaToken, passkey: device.get(await request({ mfaToken })) } }), { status: 200, body: { user: { id } } })
  t.match(await call('POST', '/session/passkey', { body: device.get(await request()) }), { status: 200, body: { user: { id } } })
  t.match(await call('POST', '/session/passkey', { body: device.get(await request(), { origin: 'https://evil.example' }) }), refused)
})

t.test('who has both completes a sign-in with either, and wrong ones of both count together [ASVS 6.3.1]', async t => {
  const { username, token, device } = await holder()
  const { body: { secret } } = await call('POST', '/mfa/enroll', { token })
  const code = () => {
    pass(30_000)
    return new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: now() })
  }
  t.equal((await call('POST', '/mfa/confirm', { token, body: { code: code() } })).status, 200)
  const challenge = async () => (await password(username)).body.mfaToken as string
  t.strictSame((await password(username)).body.factors, ['totp', 'passkey'])
  t.equal((await call('POST', '/auth/mfa', { body: { mfaToken: await challenge(), code: code() } })).status, 200)
  const one = await challenge()
  t.equal((await call('POST', '/auth/mfa', { body: { mfaToken: one, passkey: device.get(await request({ mfaToken: one })) } })).status, 200)

  const two = await challenge()
  for (let i = 0; i < 5; i++) {
    const proof = i % 2 === 0 ? { code: 'AAAA-AAAA-AAAA-AAAA-AAAA-AAAA' } : { passkey: device.get(await request({ mfaToken: two }), { isForged: true }) }
    t.match(await call('POST', '/auth/mfa', { body: { mfaToken: two, ...proof } }), mfaRefused)
  }
  for (const proof of [{ code: code() }, { passkey: device.get(await request({ mfaToken: two })) }]) {
    t.match(await call('POST', '/auth/mfa', { body: { mfaToken: two, ...proof } }), { status: 429, body: { code: 'FST_BASTION_MFA_LOCKED' } })
  }
  t.equal((await login(device)).status, 200, 'the passkey alone is no second factor, and guesses nothing')
})

t.test('whatever factor was lost is revoked, by its owner or by an admin: a passkey, an authenticator, its recovery codes [ASVS 6.5.6]', async t => {
  const { id, username, token, device, passkeyId } = await holder()
  const { body: { secret } } = await call('POST', '/mfa/enroll', { token })
  const code = () => {
    pass(30_000)
    return new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: now() })
  }
  const { body: { recoveryCodes } } = await call('POST', '/mfa/confirm', { token, body: { code: code() } })
  const finish = async (proof: object) => call('POST', '/auth/mfa', { body: { mfaToken: (await password(username)).body.mfaToken, ...proof } })
  const signedIn = await login(device)
  t.equal(signedIn.status, 200, 'the control: until then whoever has found the passkey signs in by it')
  t.equal((await finish({ code: code() })).status, 200, 'the control: so does, with the password, who has the authenticator')
  t.equal((await finish({ code: recoveryCodes[0] })).status, 200, 'the control: or the sheet of recovery codes')

  t.equal((await call('DELETE', '/mfa', { token: signedIn.body.access_token })).status, 204)
  for (const lost of [code(), recoveryCodes[1]]) t.match(await finish({ code: lost }), mfaRefused)
  const { body: { mfaToken } } = await password(username)
  t.equal((await call('POST', '/auth/mfa', { body: { mfaToken, passkey: device.get(await request({ mfaToken })) } })).status, 200, 'the other one goes on')

  const spare = authenticator()
  t.equal((await register((await login(device)).body.access_token, spare)).status, 201)
  t.equal((await call('DELETE', `/passkeys/${passkeyId}`, { token: (await login(spare)).body.access_token })).status, 204)
  t.match(await login(device), refused)
  t.equal((await login(spare)).status, 200, 'the control: one that was not revoked signs in')
  t.equal((await call('DELETE', `/users/${id}/factors`, { token: await tokenOf('admin') })).status, 204)
  t.match(await login(spare), refused)
})

t.test('step-up takes the passkey where there is one, and the password alone is not looked at', async t => {
  const [ada, ben] = [await holder(), await holder()]
  const stepUp = (token: string, body: object) => call('POST', '/auth/step-up', { token, body })
  const options = () => request({ stepUp: true }, { token: ada.token })
  const asked = await stepUp(ada.token, { password: PASSWORD })
  t.match(asked, { ...required, body: { factors: ['passkey'] } })
  t.notOk('mfaToken' in asked.body)
  t.equal((await call('POST', '/passkeys/login/options', { body: { stepUp: true } })).status, 401, 'of nobody')

  pass(6 * MINUTE)
  const other = (await login(ada.device)).body.access_token
  const response = ada.device.get(await options())
  t.match(await stepUp(other, { passkey: response }), mfaRefused, 'another sign-in of the same user')
  t.match(await stepUp(ben.token, { passkey: response }), mfaRefused, 'another user')
  t.match(await stepUp(ada.token, { passkey: ada.device.get(await request()) }), mfaRefused, 'a response that signs in')
  t.match(await call('POST', '/passkeys/login', { body: response }), refused, 'it signs nobody in')
  t.match(await call('POST', '/passkeys/register/options', { token: ada.token }), stepUpRequired)
  const { status, body } = await stepUp(ada.token, { passkey: response })
  t.equal(status, 200)
  t.match(claimsOf(body.access_token), { amr: ['pop', 'mfa'] })
  t.equal((await call('POST', '/passkeys/register/options', { token: body.access_token })).status, 200)
  t.match(await stepUp(body.access_token, { passkey: response }), mfaRefused, 'once')
})

t.test('attack: who signed in with the password alone before the owner made a passkey cannot take it away', async t => {
  const owner = await newcomer()
  const thief = await signIn(owner.username, PASSWORD)
  t.ok(await isAlive(thief.access_token), 'negative control: until then it is a sign-in like any other')
  t.equal((await register(owner.token, authenticator())).status, 201)
  t.notOk(await isAlive(thief.access_token))
  t.equal((await call('POST', '/auth/refresh', { body: { refresh_token: thief.refresh_token } })).status, 401)
  t.ok(await isAlive(owner.token), 'who made it stays signed in')
})

t.test('the owner of the account hears of it by mail [ASVS 6.3.7]', async t => {
  const { access_token: token } = await signIn('bob')
  const { body: { id } } = await register(token, authenticator())
  await waitFor(() => mails.find(({ to, subject }) => to === 'bob@portal.example' && subject === 'A passkey was added'))
  t.equal((await call('DELETE', `/passkeys/${id}`, { token })).status, 204)
  const letter = await waitFor(() => mails.find(({ to, subject }) => to === 'bob@portal.example' && subject === 'A passkey was removed'))
  t.match(letter.text, /nothing but the password/)
})

t.test('who has twenty gets no more', async t => {
  const { token } = await newcomer()
  for (let i = 0; i < 20; i++) t.equal((await register(token, authenticator())).status, 201)
  t.match(await call('POST', '/passkeys/register/options', { token }), { status: 409, body: { code: 'FST_BASTION_PASSKEYS_FULL' } })
})

t.test('an address that tries over and over is limited', async t => {
  const { device } = await holder()
  const address = '198.51.100.77'
  const statuses = []
  for (let i = 0; i < 35; i++) statuses.push((await call('POST', '/passkeys/login', { address, body: device.get(await request(), { isForged: true }) })).status)
  t.strictSame(statuses, [...Array(30).fill(401), ...Array(5).fill(429)])
  t.equal((await call('POST', '/passkeys/login', { body: device.get(await request()) })).status, 200, 'negative control: from another one it signs in')
})

t.test('bodies are closed and bounded', async t => {
  const { token, device } = await holder()
  const shown = device.get(await request())
  const made = authenticator().create(await creation(token))
  for (const body of [{}, { ...shown, isAdmin: true }, { ...shown, id: 'a'.repeat(1365) }, { ...shown, type: 'password' }, { ...shown, response: { ...shown.response, extra: 1 } },
    { ...shown, response: { ...shown.response, clientDataJSON: 'a'.repeat(4097) } }, { ...shown, clientExtensionResults: { a: 'a'.repeat(1025) } }, { ...shown, clientExtensionResults: [] }]) {
    t.equal((await call('POST', '/passkeys/login', { body })).status, 400, JSON.stringify(body).slice(0, 80))
  }
  for (const body of [{}, { ...made, name: '' }, { ...made, name: 'a'.repeat(101) }, { ...made, name: 'a\nb' }, { ...made, userId: 'x' }, { ...made, response: { ...made.response, attestationObject: 'a'.repeat(16_385) } }]) {
    t.equal((await call('POST', '/passkeys/register', { token, body })).status, 400, JSON.stringify(body).slice(0, 80))
  }
  for (const body of [{ stepUp: false }, { mfaToken: 'x', stepUp: true }, { mfaToken: 1 }]) t.equal((await call('POST', '/passkeys/login/options', { body })).status, 400)
  t.equal((await call('POST', '/passkeys/login', { body: { ...shown, clientExtensionResults: { prf: { results: { first: 'AAAA' } }, uvm: [[2, 4, 2]] }, authenticatorAttachment: 'platform' } })).status, 200, 'negative control')
})

t.test('nothing that a passkey shows is in the log', async t => {
  const { device, token } = await holder()
  await login(device)
  const options = await creation(token)
  const lines = log.join('')
  for (const text of [device.credentials[0]!.id.toString('base64url'), device.credentials[0]!.userHandle, options.challenge]) t.notOk(lines.includes(text))
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
