/** Passkeys that are made and signed in with, and all that is no such thing. */
import { randomBytes } from 'node:crypto'
import { verifyAuthenticationResponse, verifyRegistrationResponse } from '@simplewebauthn/server'
import { Value } from '@sinclair/typebox/value'
import Fastify from 'fastify'
import t from 'tap'
import errors from '../../plugins/errors.js'
import events from '../../plugins/events.js'
import passkeys, { sqlPasskeys, type PasskeysOptions } from '../../plugins/passkeys/index.js'
import plan from '../../plugins/plan/index.js'
import state from '../../plugins/state/index.js'
import { PasskeyAssertion, PasskeyCreationOptions, PasskeyRegistration, PasskeyRequestOptions } from '../../schemas/index.js'
import { redis } from '../services.js'
import { authenticator, ORIGIN, type Wrong } from './authenticator.js'
import { build, MINUTE, outcomesOf, refused, unregistered } from './build.js'

const REFUSED = 'FST_BASTION_PASSKEYS_REFUSED'

t.test('a passkey is made and signed in with, by every kind of key that is offered [ASVS 6.3.3]', async t => {
  const { app, person, clock, recorded } = await build(t)
  for (const kind of ['ES256', 'EdDSA', 'RS256'] as const) {
    const { id } = person()
    const device = authenticator({ kind })
    const options = await app.passkeys.registerOptions({ id, name: 'ada' })
    t.ok(Value.Check(PasskeyCreationOptions, options))
    t.match(options, {
      rp: { id: 'localhost', name: 'Shop' },
      user: { name: 'ada', displayName: 'ada' },
      attestation: 'none',
      timeout: 300_000,
      excludeCredentials: [],
      authenticatorSelection: { residentKey: 'required', userVerification: 'required' },
    })
    t.strictSame(options.pubKeyCredParams.map(({ alg }) => alg), [-7, -8, -257])
    const made = device.create(options)
    t.ok(Value.Check(PasskeyRegistration, made))
    const passkey = await app.passkeys.register(id, made, { name: 'Telephone' })
    t.match(passkey, { userId: id, name: 'Telephone', lastUsedAt: null, isBackedUp: false, createdAt: new Date(clock.ms) })
    t.notOk('publicKey' in passkey || 'userHandle' in passkey || 'credentialId' in passkey)

    clock.ms += MINUTE
    const asked = await app.passkeys.loginOptions()
    t.ok(Value.Check(PasskeyRequestOptions, asked))
    t.match(asked, { rpId: 'localhost', userVerification: 'required', allowCredentials: [] })
    const shown = device.get(asked)
    t.ok(Value.Check(PasskeyAssertion, shown))
    t.match(await app.passkeys.login(shown), { id, isActive: true, amr: ['pop', 'mfa'] }, kind)
    t.match(await app.passkeys.list(id), [{ id: passkey.id, lastUsedAt: new Date(clock.ms) }])
    t.match(recorded.splice(0), [{ type: 'passkey_added', details: { user: id, passkey: passkey.id } }, { type: 'login_success', details: { user: id, passkey: passkey.id } }])
  }
})

t.test('challenges have 256 random bits, and neither they nor users stand in shared state by name', async t => {
  const { app, person } = await build(t)
  const { id } = person()
  const challenges = await Promise.all(Array.from({ length: 100 }, async (_none, i) =>
    (i % 2 === 0 ? await app.passkeys.loginOptions() : await app.passkeys.registerOptions({ id, name: id })).challenge))
  t.equal(new Set(challenges).size, 100)
  for (const challenge of challenges) {
    t.equal(Buffer.from(challenge, 'base64url').length, 32)
    t.equal(await app.state.get(`passkeys:challenge:${challenge}`), null)
  }
})

t.test('the user handle is random bytes, the same for all passkeys of a user, and tells nobody', async t => {
  const { app, person, register, store } = await build(t)
  const [{ id }, { id: other }] = [person(), person()]
  const first = (await app.passkeys.registerOptions({ id, name: id })).user.id
  t.equal(Buffer.from(first, 'base64url').length, 32)
  t.not(first, (await app.passkeys.registerOptions({ id: other, name: other })).user.id)
  await register(id)
  const userHandle = (await store.list(id))[0]!.userHandle
  const again = await app.passkeys.registerOptions({ id, name: id })
  t.equal(again.user.id, userHandle)
  t.match(again.excludeCredentials, [{ type: 'public-key', transports: ['internal', 'hybrid'] }], 'an authenticator that has one is told')
})

t.test('passkeys of a user are listed and removed by their user alone', async t => {
  const { app, holder, register, recorded, login } = await build(t)
  const [ada, ben] = [await holder(), await holder()]
  const second = await register(ada.id)
  t.strictSame((await app.passkeys.list(ada.id)).map(({ id }) => id).sort(), [ada.passkey.id, second.id].sort())
  t.equal(await app.passkeys.remove(ben.id, ada.passkey.id), false)
  t.equal(await app.passkeys.remove(ada.id, ada.passkey.id), true)
  t.equal(await app.passkeys.remove(ada.id, ada.passkey.id), false)
  t.equal(recorded.filter(({ type }) => type === 'passkey_removed').length, 1)
  await t.rejects(login(ada.device), refused)
  t.equal((await login(ben.device)).id, ben.id)
})

t.test('option maxPerUser: so many and no more', async t => {
  const { app, person, register } = await build(t, { maxPerUser: 2 })
  const { id } = person()
  const full = { code: 'FST_BASTION_PASSKEYS_FULL', statusCode: 409 }
  const early = await app.passkeys.registerOptions({ id, name: id })
  for (let i = 0; i < 2; i++) await register(id)
  await t.rejects(register(id), full)
  await t.rejects(app.passkeys.register(id, authenticator().create(early), { name: 'Third' }), full, 'options from before do not help')
  t.equal((await app.passkeys.list(id)).length, 2)
})

t.test('option userVerification: without verification a passkey is one factor, and none where it is required', async t => {
  const device = authenticator({ flags: 1 })
  const lax = await build(t, { userVerification: 'preferred' })
  const { id } = await lax.holder(device)
  t.strictSame((await lax.login(device)).amr, ['pop'])
  t.strictSame((await lax.login(device, { flags: 5 })).amr, ['pop', 'mfa'])
  const strict = await build(t, {}, { accounts: lax.accounts })
  await t.rejects(strict.login(device), refused)
  t.equal((await strict.login(device, { flags: 5 })).id, id, 'negative control: the same passkey, verified')
  await t.rejects(strict.register(strict.person().id, authenticator(), { flags: 1 }), unregistered)
  for (const { login } of [lax, strict]) await t.rejects(login(device, { flags: 4 }), refused, 'nobody was present')
})

t.test('option timeoutMs: a challenge is good for so long', async t => {
  for (const [timeoutMs, ms] of [[undefined, 5 * MINUTE], [10_000, 10_000]] as const) {
    const { app, holder, clock } = await build(t, { timeoutMs })
    const { device } = await holder()
    const options = await Promise.all([app.passkeys.loginOptions(), app.passkeys.loginOptions()])
    t.equal(options[0].timeout, ms)
    clock.ms += ms - 1
    await app.passkeys.login(device.get(options[0]))
    clock.ms += 1
    await t.rejects(app.passkeys.login(device.get(options[1])), refused)
  }
})

t.test('attacks on a sign-in: each is refused alike, and the same passkey signs in without it', async t => {
  const { holder, login, recorded } = await build(t)
  const [ada, ben] = [await holder(), await holder()]
  const handleOf = ({ device }: typeof ada) => device.credentials[0]!.userHandle
  const idOf = ({ device }: typeof ada) => device.credentials[0]!.id.toString('base64url')
  const attacks: [string, Wrong, RegExp][] = [
    ['a false page', { origin: 'http://localhost.example:3000' }, /does not verify/],
    ['another port', { origin: 'http://localhost:3001' }, /does not verify/],
    ['another relying party', { rpId: 'example.com' }, /does not verify/],
    ['a challenge of the attacker', { challenge: randomBytes(32).toString('base64url') }, /no sign-in waits/],
    ['no challenge', { challenge: '' }, /no sign-in waits/],
    ['a response of a registration', { type: 'webauthn.create' }, /does not verify/],
    ['nobody present', { flags: 4 }, /does not verify/],
    ['nobody verified', { flags: 1 }, /does not verify/],
    ['another key', { isForged: true }, /signature/],
    ['a passkey that nobody has', { credentialId: randomBytes(32).toString('base64url') }, /unknown/],
    ["somebody else's id", { credentialId: idOf(ben) }, /does not verify|signature|user handle/],
    ["somebody else's id and handle", { credentialId: idOf(ben), userHandle: handleOf(ben) }, /signature/],
    ["somebody else's handle", { userHandle: handleOf(ben) }, /user handle/],
    ['no handle', { userHandle: undefined }, /user handle/],
    ['a frame in another site', { crossOrigin: true, topOrigin: 'https://evil.example' }, /no sign-in waits/],
    ['a frame whose browser does not say where', { crossOrigin: true }, /no sign-in waits/],
    ['a page that contradicts itself', { topOrigin: 'https://evil.example' }, /no sign-in waits/],
    ['one that may be copied all at once', { flags: 5 | 8 }, /copied/],
    ['one that is copied and may not be', { flags: 5 | 16 }, /does not verify/],
  ]
  for (const [what, wrong, reason] of attacks) {
    recorded.length = 0
    await t.rejects(login(ada.device, wrong), refused, what)
    t.match(recorded, [{ type: 'login_failure', details: { reason } }], what)
  }
  t.equal((await login(ada.device)).id, ada.id, 'negative control')
})

t.test('attacks on a registration: each is refused alike and nothing is kept', async t => {
  const { app, person, holder, register, store } = await build(t)
  const { id } = person()
  const certificate = new Map<string, unknown>([['alg', -7], ['sig', Buffer.alloc(70)], ['x5c', [Buffer.alloc(300)]]])
  const attacks: [string, Wrong][] = [
    ['a false page', { origin: 'http://localhost.example:3000' }],
    ['another relying party', { rpId: 'example.com' }],
    ['a challenge of the attacker', { challenge: randomBytes(32).toString('base64url') }],
    ['a response of a sign-in', { type: 'webauthn.get' }],
    ['nobody present', { flags: 4 }],
    ['nobody verified', { flags: 1 }],
    ['a frame in another site', { crossOrigin: true, topOrigin: 'https://evil.example' }],
    ['a frame', { crossOrigin: true }],
    ['certificates that name where they are looked up', { attestation: { fmt: 'packed', attStmt: certificate } }],
    ['an attestation that nobody asked for', { attestation: { fmt: 'fido-u2f', attStmt: certificate } }],
    ['an attestation of no form', { attestation: { fmt: 'none', attStmt: [] as never } }],
  ]
  for (const [what, wrong] of attacks) await t.rejects(register(id, authenticator(), wrong), unregistered, what)
  t.strictSame(await store.list(id), [])

  const options = await app.passkeys.registerOptions({ id, name: id })
  const made = authenticator().create(options)
  await t.rejects(app.passkeys.register(person().id, made, { name: 'Mine' }), unregistered, "another user's challenge")
  const asked = await app.passkeys.loginOptions()
  await t.rejects(app.passkeys.register(id, authenticator().create({ ...options, challenge: asked.challenge }), { name: 'Mine' }), unregistered, 'the challenge of a sign-in')
  const other = randomBytes(32).toString('base64url')
  await t.rejects(app.passkeys.register(id, { ...authenticator().create(await app.passkeys.registerOptions({ id, name: id })), id: other, rawId: other }, { name: 'Mine' }), unregistered, 'another id than the one that is attested')
  t.strictSame(await store.list(id), [])
  t.equal((await app.passkeys.register(id, made, { name: 'Mine' })).userId, id, 'negative control: the challenge is as good as before for the one whose it is')

  const victim = await holder()
  const taken = victim.device.credentials[0]!.id.toString('base64url')
  await t.rejects(register(id, authenticator(), { credentialId: taken }), unregistered, 'the credential id of somebody else')
  t.equal((await store.find(taken))!.userId, victim.id)
  t.equal((await store.list(id)).length, 1)
})

t.test('negative control: the library alone lets a registration in a frame pass, and a sign-in whose browser does not say in which page', async t => {
  const { app, person, holder } = await build(t)
  const { id } = person()
  const options = await app.passkeys.registerOptions({ id, name: id })
  const expected = { expectedChallenge: options.challenge, expectedOrigin: ORIGIN, expectedRPID: 'localhost' }
  const { verified } = await verifyRegistrationResponse({ ...expected, response: authenticator().create(options, { crossOrigin: true, topOrigin: 'https://evil.example' }) as never })
  t.ok(verified)
  const { device } = await holder()
  const asked = await app.passkeys.loginOptions()
  const credential = { id: device.credentials[0]!.id.toString('base64url'), publicKey: new Uint8Array(device.credentials[0]!.cose), counter: 0 }
  const framed = device.get(asked, { crossOrigin: true })
  t.ok((await verifyAuthenticationResponse({ ...expected, expectedChallenge: asked.challenge, response: framed as never, credential })).verified)
  await t.rejects(app.passkeys.login(framed), refused)
})

t.test('attack: a response is good once; of two hundred at once one signs in', async t => {
  const { app, holder } = await build(t)
  const { device } = await holder(authenticator({ counts: false }))
  const response = device.get(await app.passkeys.loginOptions())
  const outcomes = await outcomesOf(Array.from({ length: 200 }, () => app.passkeys.login(response)))
  t.equal(outcomes.filter(one => one === 'fulfilled').length, 1)
  t.equal(outcomes.filter(one => one === REFUSED).length, 199)
  await t.rejects(app.passkeys.login(response), refused)
  t.equal((await app.passkeys.login(device.get(await app.passkeys.loginOptions()))).isActive, true)

  const id = (await app.passkeys.login(device.get(await app.passkeys.loginOptions()))).id
  const made = authenticator().create(await app.passkeys.registerOptions({ id, name: id }))
  const registrations = await outcomesOf(Array.from({ length: 200 }, () => app.passkeys.register(id, made, { name: 'Again' })))
  t.equal(registrations.filter(one => one === 'fulfilled').length, 1)
})

t.test('negative control: a challenge that is looked up, and forgotten after the check, passes for all who come at once', async t => {
  const { app, holder, store } = await build(t)
  const { device } = await holder(authenticator({ counts: false }))
  const options = await app.passkeys.loginOptions()
  const response = device.get(options)
  const waiting = new Set([options.challenge])
  const { publicKey } = (await store.find(response.id))!
  const passed = await Promise.all(Array.from({ length: 20 }, async () => {
    if (!waiting.has(options.challenge)) return false
    const { verified } = await verifyAuthenticationResponse({
      response: response as never, expectedChallenge: options.challenge, expectedOrigin: ORIGIN, expectedRPID: 'localhost', credential: { id: response.id, publicKey: new Uint8Array(publicKey), counter: 0 },
    })
    waiting.delete(options.challenge)
    return verified
  }))
  t.equal(passed.filter(Boolean).length, 20)
})

t.test('attack: of two hundred uses of one response by two processes on one Redis one signs in', async t => {
  const server = await redis(t)
  if (server === null) return
  const shared = { redis: server.url, secret: randomBytes(32), prefix: `passkeys-${randomBytes(4).toString('hex')}`, deadline: 5000 }
  const one = await build(t, {}, { state: shared })
  const other = await build(t, {}, { state: shared, accounts: one.accounts })
  const { device } = await one.holder(authenticator({ counts: false }))
  const response = device.get(await one.app.passkeys.loginOptions())
  const outcomes = await outcomesOf(Array.from({ length: 200 }, (_none, i) => [one, other][i % 2]!.app.passkeys.login(response)))
  t.equal(outcomes.filter(outcome => outcome === 'fulfilled').length, 1)
  t.equal(outcomes.filter(outcome => outcome === REFUSED).length, 199)
  const apart = await build(t, {}, { state: { ...shared, prefix: `${shared.prefix}-apart` }, accounts: one.accounts })
  await t.rejects(apart.app.passkeys.login(device.get(await one.app.passkeys.loginOptions())), refused, 'a challenge that nobody here has made')
})

t.test('attack: a counter that goes back or stands still refuses, and raises a critical event', async t => {
  const { holder, login, recorded, store } = await build(t)
  const { id, device, passkey } = await holder()
  const copy = device.copy()
  for (let i = 0; i < 3; i++) await login(device)
  recorded.length = 0
  await t.rejects(login(copy), refused)
  t.match(recorded, [{ type: 'passkey_cloned', details: { user: id, passkey: passkey.id, counter: 1, known: 3, severity: 'critical' } }, { type: 'login_failure' }])
  await t.rejects(login(device, { counter: 3 }), refused, 'stands still')
  await t.rejects(login(device, { counter: 0 }), refused, 'does not count any more')
  t.equal((await login(device)).id, id, 'negative control: it goes on')
  t.equal((await store.list(id))[0]!.counter, 6)
})

t.test('attack: whoever knows an id alone accuses nobody of a copy', async t => {
  const { holder, login, recorded } = await build(t)
  const { device } = await holder()
  for (let i = 0; i < 3; i++) await login(device)
  recorded.length = 0
  await t.rejects(login(device, { counter: 1, isForged: true }), refused)
  t.strictSame(recorded.map(({ type }) => type), ['login_failure'])
})

t.test('of parallel sign-ins that say the same counter one passes', async t => {
  const { app, holder } = await build(t)
  const { device } = await holder()
  const responses = await Promise.all(Array.from({ length: 20 }, async () => device.get(await app.passkeys.loginOptions(), { counter: 7 })))
  const outcomes = await outcomesOf(responses.map(response => app.passkeys.login(response)))
  t.equal(outcomes.filter(one => one === 'fulfilled').length, 1)
})

t.test('an account that is switched off is told so only by its own passkey; one that is gone is like none', async t => {
  const { holder, login, accounts, recorded } = await build(t)
  const { id, device } = await holder()
  const account = accounts[id]!
  accounts[id] = { ...account, isActive: false }
  await t.rejects(login(device, { isForged: true }), refused)
  await t.rejects(login(device), { code: 'FST_BASTION_SIGN_IN_INACTIVE', statusCode: 403 })
  delete accounts[id]
  await t.rejects(login(device), refused)
  t.notOk(recorded.some(({ type }) => type === 'login_success'))
  accounts[id] = account
  t.equal((await login(device)).id, id, 'negative control')
})

t.test('a passkey that is shown again is good for its user, for what it was asked for, and for nothing else', async t => {
  const { app, holder } = await build(t)
  const [ada, ben] = [await holder(), await holder()]
  const ask = (boundTo: string) => app.passkeys.secondOptions(ada.id, boundTo)
  const options = await ask('family 1')
  t.strictSame(options.allowCredentials.map(({ id }) => id), [ada.device.credentials[0]!.id.toString('base64url')])
  const response = ada.device.get(options)
  await t.rejects(app.passkeys.verifySecond(ada.id, response, 'family 2'), refused)
  await t.rejects(app.passkeys.verifySecond(ben.id, response, 'family 1'), refused)
  await t.rejects(app.passkeys.login(response), refused, 'it is no sign-in')
  await t.rejects(app.passkeys.verifySecond(ada.id, ada.device.get(await app.passkeys.loginOptions()), 'family 1'), refused, 'and a sign-in is none of it')
  await app.passkeys.verifySecond(ada.id, response, 'family 1')
  await t.rejects(app.passkeys.verifySecond(ada.id, response, 'family 1'), refused, 'once')
  await t.rejects(app.passkeys.verifySecond(ada.id, ben.device.get({ ...await ask('family 1'), allowCredentials: [] }), 'family 1'), refused, "somebody else's passkey")
})

t.test('text that is no response of a browser is refused like every other', async t => {
  const { app, holder } = await build(t)
  const { device } = await holder()
  const good = device.get(await app.passkeys.loginOptions())
  const encoded = (text: string) => Buffer.from(text).toString('base64url')
  for (const clientDataJSON of ['', 'A', encoded('null'), encoded('[]'), encoded('{}'), encoded('{"challenge":{}}'), encoded('{'), randomBytes(64).toString('base64url')]) {
    await t.rejects(app.passkeys.login({ ...good, response: { ...good.response, clientDataJSON } }), refused)
  }
  for (const part of ['authenticatorData', 'signature'] as const) {
    const response = device.get(await app.passkeys.loginOptions())
    await t.rejects(app.passkeys.login({ ...response, response: { ...response.response, [part]: 'AAAA' } }), refused, part)
  }
  const mixed = device.get(await app.passkeys.loginOptions())
  await t.rejects(app.passkeys.login({ ...mixed, rawId: randomBytes(32).toString('base64url') }), refused)
})

t.test('what is too large or too deep is no response by its schema', async t => {
  const { app, person, holder } = await build(t)
  const { id } = person()
  const made = authenticator().create(await app.passkeys.registerOptions({ id, name: id }))
  const { device } = await holder()
  const shown = device.get(await app.passkeys.loginOptions())
  t.ok(Value.Check(PasskeyRegistration, made) && Value.Check(PasskeyAssertion, shown))
  t.ok(Value.Check(PasskeyAssertion, { ...shown, clientExtensionResults: { prf: { results: { first: 'AAAA' } }, uvm: [[2, 4, 2]], appid: false } }), 'extensions answer what they like')
  const response = (more: object) => ({ ...shown, response: { ...shown.response, ...more } })
  for (const wrong of [
    { ...shown, id: 'a'.repeat(1365) }, { ...shown, id: 'a=' }, { ...shown, id: '' }, { ...shown, type: 'password' }, { ...shown, isAdmin: true },
    response({ userHandle: 'a'.repeat(87) }), response({ signature: 'a'.repeat(2049) }), response({ clientDataJSON: 'a'.repeat(4097) }), response({ authenticatorData: 'a'.repeat(8193) }), response({ extra: 1 }),
    { ...shown, clientExtensionResults: Object.fromEntries(Array.from({ length: 17 }, (_none, i) => [`x${i}`, true])) },
    { ...shown, clientExtensionResults: { a: { b: { c: { d: 1 } } } } }, { ...shown, clientExtensionResults: { a: 'a'.repeat(1025) } }, { ...shown, clientExtensionResults: null },
  ]) t.notOk(Value.Check(PasskeyAssertion, wrong), JSON.stringify(wrong).slice(0, 60))
  const registration = (more: object) => ({ ...made, response: { ...made.response, ...more } })
  for (const wrong of [registration({ attestationObject: 'a'.repeat(16_385) }), registration({ transports: Array(17).fill('usb') }), registration({ transports: ['<script>'] }), registration({ userHandle: 'AA' })]) {
    t.notOk(Value.Check(PasskeyRegistration, wrong))
  }
})

t.test('while the database is away nobody passes and no sign-in is lost in silence', async t => {
  const { store, ...good } = await build(t)
  const { device } = await good.holder()
  const { app } = await build(t, { store: { ...store, used: async () => { throw new Error('away') } } }, { accounts: good.accounts })
  await t.rejects(app.passkeys.login(device.get(await app.passkeys.loginOptions())), { message: 'away' })
})

t.test('nothing of a response is in the log at info', async t => {
  const { log, holder, login } = await build(t)
  const { device } = await holder()
  await login(device)
  await login(device, { isForged: true }).catch(() => {})
  const lines = log.filter(line => JSON.parse(line).level >= 30).join('')
  t.match(lines, /passkey_added/)
  for (const { id, userHandle } of device.credentials) {
    t.notOk(lines.includes(id.toString('base64url')))
    t.notOk(lines.includes(userHandle))
  }
})

t.test('misconfiguration stops boot, and names the option', async t => {
  const good: PasskeysOptions = { rpId: 'example.com', rpName: 'Shop', origins: ['https://example.com'], store: sqlPasskeys({} as never), accounts: { findById: async () => null } }
  const boot = async (more: object) => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(plan)
    await app.register(events)
    await app.register(errors)
    await app.register(state, {})
    return app.register(passkeys, { ...good, ...more } as PasskeysOptions).then(() => null, (fault: Error & { code: string }) => fault)
  }
  t.equal(await boot({}), null)
  t.equal(await boot({ origins: ['https://example.com', 'https://app.example.com:8443'] }), null)
  t.equal(await boot({ rpId: 'localhost', origins: ['http://localhost:3000'] }), null)
  const faults: [object, RegExp][] = [
    [{ rpId: undefined }, /rpId/i], [{ rpId: 'https://example.com' }, /rpId/i], [{ rpId: '127.0.0.1' }, /rpId/i], [{ rpId: 'com' }, /rpId/i], [{ rpId: 'Example.com' }, /rpId/i],
    [{ rpName: '' }, /rpName/i], [{ origins: [] }, /origins/], [{ origins: ['https://example.com/'] }, /origins/], [{ origins: ['http://example.com'] }, /origins/],
    [{ origins: ['https://example.org'] }, /origins/], [{ origins: ['https://notexample.com'] }, /origins/], [{ origins: ['https://*.example.com'] }, /origins/], [{ origins: ['http://localhost:3000'] }, /origins/],
    [{ store: undefined }, /store/], [{ store: { find () {} } }, /store/], [{ accounts: {} }, /accounts/], [{ userVerification: 'maybe' }, /userVerification/i], [{ timeoutMs: 1 }, /timeoutMs/i],
    [{ maxPerUser: 0 }, /maxPerUser/i], [{ secondFactor: true }, /secondFactor: needs mfa/], [{ attestation: 'direct' }, /attestation/],
  ]
  for (const [more, named] of faults) {
    const error = await boot(more)
    t.equal(error?.code, 'FST_BASTION_PASSKEYS_MISCONFIGURED', JSON.stringify(more))
    t.match(error?.message, named)
  }
  const before = process.env.NODE_ENV
  t.teardown(() => { if (before === undefined) delete process.env.NODE_ENV; else process.env.NODE_ENV = before })
  process.env.NODE_ENV = 'production'
  t.match((await boot({ rpId: 'localhost', origins: ['http://localhost:3000'] }))?.message, /https/)
})
