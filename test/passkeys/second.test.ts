/** A passkey as the second factor of a password, and the package that is not there. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { TYPESCRIPT_BRIEFLY } from '../fixtures/typescript.js'
import { authenticator } from './authenticator.js'
import { build, MINUTE, outcomesOf, type Built } from './build.js'

const refused = { code: 'FST_BASTION_MFA_REFUSED', statusCode: 401 }
const locked = { code: 'FST_BASTION_MFA_LOCKED', statusCode: 429 }
const required = { code: 'FST_BASTION_MFA_REQUIRED', statusCode: 401 }

type Holder = Awaited<ReturnType<Built['holder']>>
const prove = async ({ app }: Built, { id, device }: Holder, mfaToken: string, wrong = {}) =>
  app.mfa.redeem(mfaToken, { factor: 'passkey', response: device.get(await app.passkeys.secondOptions(id, mfaToken), wrong) })

t.test('with secondFactor the password of an account that has a passkey asks for it; without, the password is enough', async t => {
  const built = await build(t, { secondFactor: true })
  const { app, accounts, holder, person } = built
  const ada = await holder()
  await t.rejects(app.mfa.demand(accounts[ada.id]!), required)
  t.strictSame(await app.mfa.factors(ada.id), ['passkey'])
  t.equal(await app.mfa.isEnrolled(ada.id), true)
  t.strictSame(await app.mfa.demand(person()), { amr: ['pwd'] }, 'who has none')
  const mfaToken = await app.mfa.challenge(accounts[ada.id]!)
  t.equal(await app.mfa.pending(mfaToken), ada.id)
  t.match(await prove(built, ada, mfaToken), { id: ada.id, amr: ['pwd', 'pop', 'mfa'] })
  await t.rejects(app.mfa.pending(mfaToken), refused)
  await app.passkeys.remove(ada.id, ada.passkey.id)
  t.strictSame(await app.mfa.demand(accounts[ada.id]!), { amr: ['pwd'] })

  const off = await build(t)
  const ben = await off.holder()
  t.strictSame(await off.app.mfa.demand(off.accounts[ben.id]!), { amr: ['pwd'] })
  await t.rejects(prove(off, ben, await off.app.mfa.challenge(off.accounts[ben.id]!)), refused)
})

t.test('attack: a response is good for one sign-in, of one user, once, in parallel too, and a replay locks nobody', async t => {
  const built = await build(t, { secondFactor: true })
  const { app, accounts, holder } = built
  const [ada, ben] = [await holder(), await holder()]
  const [one, two] = [await app.mfa.challenge(accounts[ada.id]!), await app.mfa.challenge(accounts[ada.id]!)]
  const response = ada.device.get(await app.passkeys.secondOptions(ada.id, one))
  await t.rejects(app.mfa.redeem(two, { factor: 'passkey', response }), refused, 'another sign-in')
  await t.rejects(app.mfa.redeem(two, { factor: 'passkey', response, boundTo: one }), refused, 'whatever it says it is bound to')
  await t.rejects(app.mfa.redeem(await app.mfa.challenge(accounts[ben.id]!), { factor: 'passkey', response }), refused, 'another user')
  await t.rejects(app.passkeys.login(response), { code: 'FST_BASTION_PASSKEYS_REFUSED' }, 'no sign-in by itself')
  const alone = ada.device.get(await app.passkeys.loginOptions())
  await t.rejects(app.mfa.redeem(one, { factor: 'passkey', response: alone }), refused, 'and a sign-in by itself is none of it')
  await t.rejects(app.mfa.redeem(one, { factor: 'paper', response }), refused, 'a factor that nobody brings')
  const outcomes = await outcomesOf(Array.from({ length: 200 }, () => app.mfa.redeem(one, { factor: 'passkey', response })))
  t.equal(outcomes.filter(outcome => outcome === 'fulfilled').length, 1)
  t.equal(outcomes.filter(outcome => outcome === refused.code).length, 199)
  t.equal((await prove(built, ada, two)).id, ada.id, 'nobody is locked')
})

t.test('wrong answers count with wrong codes, and lock both [ASVS 6.3.1]', async t => {
  const built = await build(t, { secondFactor: true })
  const { app, accounts, holder, clock } = built
  const ada = await holder()
  const mfaToken = await app.mfa.challenge(accounts[ada.id]!)
  for (let i = 0; i < 3; i++) await t.rejects(prove(built, ada, mfaToken, { isForged: true }), refused)
  const [stranger] = [await holder()]
  const foreign = stranger.device.get({ ...await app.passkeys.secondOptions(ada.id, mfaToken), allowCredentials: [] })
  await t.rejects(app.mfa.redeem(mfaToken, { factor: 'passkey', response: foreign }), refused, "somebody else's passkey")
  await t.rejects(prove(built, ada, mfaToken, { origin: 'https://evil.example' }), refused)
  await t.rejects(prove(built, ada, mfaToken), locked, 'the right one too')
  await t.rejects(app.mfa.verify(ada.id, '123456'), locked)
  clock.ms += 15 * MINUTE
  t.equal((await prove(built, ada, await app.mfa.challenge(accounts[ada.id]!))).id, ada.id)
})

t.test('attack: of parallel wrong answers no more are looked at than the lock allows', async t => {
  const built = await build(t, { secondFactor: true })
  const { app, accounts, holder, recorded } = built
  const ada = await holder(authenticator({ counts: false }))
  const mfaToken = await app.mfa.challenge(accounts[ada.id]!)
  const responses = await Promise.all(Array.from({ length: 40 }, async () => ada.device.get(await app.passkeys.secondOptions(ada.id, mfaToken), { isForged: true })))
  const outcomes = await outcomesOf(responses.map(response => app.mfa.redeem(mfaToken, { factor: 'passkey', response })))
  t.equal(outcomes.filter(outcome => outcome === refused.code).length, 5)
  t.equal(outcomes.filter(outcome => outcome === locked.code).length, 35)
  t.equal(recorded.filter(({ type, details }) => type === 'mfa_failure' && details.reason === 'wrong passkey').length, 5)
})

t.test('a passkey that was removed, and a password that changed, meanwhile complete nothing', async t => {
  const built = await build(t, { secondFactor: true })
  const { app, accounts, holder } = built
  const ada = await holder()
  const mfaToken = await app.mfa.challenge(accounts[ada.id]!)
  accounts[ada.id] = { ...accounts[ada.id]!, passwordHash: 'another' }
  await t.rejects(prove(built, ada, mfaToken), refused)
  const next = await app.mfa.challenge(accounts[ada.id]!)
  const response = ada.device.get(await app.passkeys.secondOptions(ada.id, next))
  await app.passkeys.remove(ada.id, ada.passkey.id)
  await t.rejects(app.mfa.redeem(next, { factor: 'passkey', response }), refused)
})

t.test('without the optional package boot stops and says what to install', async t => {
  const plugins = fileURLToPath(new URL('../../plugins/', import.meta.url))
  const hide = "export async function resolve (name, context, next) { if (name.startsWith('@simplewebauthn/')) throw Object.assign(new Error('not found'), { code: 'ERR_MODULE_NOT_FOUND' }); return next(name, context) }"
  const program = `
    import { register } from 'node:module'
    if (process.argv[1] === 'hidden') register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(hide)}))
    const { default: Fastify } = await import('fastify')
    const { default: bastion } = await import('${plugins}index.ts')
    const store = Object.fromEntries(['find', 'list', 'add', 'used', 'remove'].map(name => [name, async () => null]))
    const app = Fastify()
    const passkeys = { rpId: 'example.com', rpName: 'Shop', origins: ['https://example.com'], store, accounts: { findById: async () => null } }
    console.log(await app.register(bastion, { passkeys }).then(() => 'boots', error => error.code + ': ' + error.message))
    await app.close()
  `
  const run = async (...more: string[]) =>
    (await promisify(execFile)(process.execPath, [...TYPESCRIPT_BRIEFLY, '--input-type=module', '-e', program, ...more], { cwd: fileURLToPath(new URL('../../', import.meta.url)), env: { ...process.env, NODE_OPTIONS: '' } })).stdout.trim()
  t.match(await run('hidden'), /^FST_BASTION_PASSKEYS_MISCONFIGURED: .*npm i @simplewebauthn\/server/)
  t.equal(await run(), 'boots', 'negative control')
})
