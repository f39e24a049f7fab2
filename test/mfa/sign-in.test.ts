/** Sign-ins whose second factor is still to come, and options that stop boot. */
import { createHash, randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import t from 'tap'
import errors from '../../plugins/errors.js'
import events from '../../plugins/events.js'
import mfa, { sqlMfaStore, type MfaOptions } from '../../plugins/mfa/index.js'
import plan from '../../plugins/plan/index.js'
import state from '../../plugins/state/index.js'
import { build, MINUTE, outcomesOf, STEP, type Built } from './build.js'

const refused = { code: 'FST_BASTION_MFA_REFUSED', statusCode: 401 }
const locked = { code: 'FST_BASTION_MFA_LOCKED', statusCode: 429 }
const begin = ({ app, accounts }: Built, id: string) => app.mfa.challenge(accounts[id]!)

t.test('demand lets pass who has no second factor, and refuses the others with a token in the problem', async t => {
  const built = await build(t)
  const { app, accounts, codeOf, enrolled } = built
  const { id, secret } = await enrolled()
  t.strictSame(await app.mfa.demand({ id: 'nobody', passwordHash: null }), { amr: ['pwd'] })
  const refusal = await app.mfa.demand(accounts[id]!).then(() => null, error => error)
  t.match(refusal, { code: 'FST_BASTION_MFA_REQUIRED', statusCode: 401 })
  t.notOk(JSON.stringify({ ...refusal, message: refusal.message }).includes('mfaToken'), 'nothing of it is in the error for a log')

  app.get('/', { config: { access: 'public' } as never }, async () => app.mfa.demand(accounts[id]!))
  const { statusCode, headers, body } = await app.inject('/')
  t.equal(statusCode, 401)
  t.ok(headers['www-authenticate'])
  const { mfaToken, ...problem } = JSON.parse(body)
  t.match(problem, { type: 'about:blank', code: 'FST_BASTION_MFA_REQUIRED', status: 401, factors: ['totp'] })
  t.match(mfaToken, /^[\w-]{43}$/)
  t.equal((await app.mfa.redeem(mfaToken, codeOf(secret))).id, id)
})

t.test('a token is good once, for one account and for five minutes; only its hash is kept', async t => {
  const built = await build(t)
  const { app, clock, accounts, codeOf, enrolled } = built
  const { id, secret } = await enrolled()
  const token = await begin(built, id)
  t.equal(await app.state.get(`mfa:pending:${token}`), null)
  t.ok(await app.state.get(`mfa:pending:${createHash('sha256').update(token).digest('base64url')}`))
  t.strictSame(await app.mfa.redeem(token, codeOf(secret)), { ...accounts[id], amr: ['pwd', 'otp', 'mfa'] })
  await t.rejects(app.mfa.redeem(token, codeOf(secret, 1)), refused)
  const other = await enrolled()
  await t.rejects(app.mfa.redeem(await begin(built, other.id), codeOf(secret)), refused)
  for (const text of ['', 'x', token.slice(1), `${token}A`, randomBytes(32).toString('base64url'), '../../x', '\0']) await t.rejects(app.mfa.redeem(text, codeOf(secret)), refused)
  const late = await begin(built, id)
  clock.ms += 5 * MINUTE
  await t.rejects(app.mfa.redeem(late, codeOf(secret)), refused)
})

t.test('attack: of parallel uses of one token with different good codes one signs in', async t => {
  const built = await build(t)
  const { app, codeOf, enrolled } = built
  const { id, secret, recoveryCodes } = await enrolled()
  const token = await begin(built, id)
  const outcomes = await outcomesOf([codeOf(secret, -1), codeOf(secret), codeOf(secret, 1), recoveryCodes[0]!, recoveryCodes[1]!].map(code => app.mfa.redeem(token, code)))
  t.equal(outcomes.filter(one => one === 'fulfilled').length, 1)
})

t.test('the token dies when its codes were wrong too often, also where the lock ends before it would', async t => {
  const built = await build(t)
  const { app, clock, codeOf, wrongFor, enrolled } = built
  const { id, secret } = await enrolled()
  for (let i = 0; i < 4; i++) await t.rejects(app.mfa.verify(id, wrongFor(secret)), refused)
  clock.ms += 14 * MINUTE
  const token = await begin(built, id)
  await t.rejects(app.mfa.redeem(token, wrongFor(secret)), refused)
  for (let i = 0; i < 3; i++) await t.rejects(app.mfa.redeem(token, codeOf(secret)), locked)
  clock.ms += MINUTE
  await t.rejects(app.mfa.redeem(token, codeOf(secret)), refused)
  t.equal((await app.mfa.redeem(await begin(built, id), codeOf(secret))).id, id, 'another one does')
})

t.test('the account is looked up anew: gone, with another password, switched off', async t => {
  const built = await build(t)
  const { app, clock, accounts, codeOf, wrongFor, enrolled } = built
  const { id, secret } = await enrolled()
  const known = accounts[id]!
  const tokens = await Promise.all([1, 2, 3, 4].map(() => begin(built, id)))
  const next = () => {
    clock.ms += STEP
    return codeOf(secret)
  }
  delete accounts[id]
  await t.rejects(app.mfa.redeem(tokens[0]!, next()), refused)
  accounts[id] = { ...known, passwordHash: 'another' }
  await t.rejects(app.mfa.redeem(tokens[1]!, next()), refused)
  accounts[id] = { ...known, isActive: false }
  await t.rejects(app.mfa.redeem(tokens[2]!, wrongFor(secret)), refused, 'that it is off is told only after the right code')
  await t.rejects(app.mfa.redeem(tokens[2]!, next()), { code: 'FST_BASTION_SIGN_IN_INACTIVE', statusCode: 403 })
  accounts[id] = known
  t.equal((await app.mfa.redeem(tokens[3]!, next())).id, id)
})

t.test('a factor that was ended meanwhile completes nothing', async t => {
  const built = await build(t)
  const { app, codeOf, enrolled } = built
  const { id, secret } = await enrolled()
  const token = await begin(built, id)
  await app.mfa.disable(id)
  await t.rejects(app.mfa.redeem(token, codeOf(secret)), refused)
})

t.test('misconfiguration stops boot, and names the option', async t => {
  const good: MfaOptions = { issuer: 'Shop', accounts: { findById: async () => null }, store: sqlMfaStore({} as never), key: randomBytes(32) }
  const faults: [Record<string, unknown>, RegExp][] = [
    [{ issuer: undefined }, /issuer/], [{ issuer: '' }, /issuer/], [{ issuer: 'a:b' }, /issuer/], [{ accounts: undefined }, /accounts/], [{ accounts: {} }, /accounts/],
    [{ store: undefined }, /store/], [{ store: { find () {} } }, /store/], [{ key: undefined }, /key/], [{ key: [] }, /key/], [{ key: randomBytes(31) }, /key/],
    [{ key: 'x'.repeat(64) }, /key/], [{ key: [randomBytes(32), randomBytes(16)] }, /key/], [{ drift: -1 }, /drift/], [{ drift: 11 }, /drift/], [{ drift: 0.5 }, /drift/],
    [{ attempts: 0 }, /attempts/], [{ windowMs: 1 }, /windowms/i], [{ windowMs: 31 * 86_400_000 }, /windowMs/], [{ challengeMs: '5m' }, /challengems/i], [{ digits: 8 }, /digits/],
  ]
  for (const [more, named] of faults) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(plan)
    await app.register(events)
    await app.register(errors)
    await app.register(state, {})
    const error = await app.register(mfa, { ...good, ...more } as MfaOptions).then(() => null, (fault: Error & { code: string }) => fault)
    t.equal(error?.code, 'FST_BASTION_MFA_MISCONFIGURED', JSON.stringify(more))
    t.match(error?.message, named)
    t.notMatch(error?.message, /x{8}/, 'never the value')
  }
})
