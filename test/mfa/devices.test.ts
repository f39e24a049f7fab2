/** Devices that are remembered: a password alone passes where the second factor was shown lately, and nowhere else. */
import { createHash, randomBytes } from 'node:crypto'
import t from 'tap'
import { redis } from '../services.js'
import { build, STEP, type Built } from './build.js'

const DAY = 86_400_000
const required = { code: 'FST_BASTION_MFA_REQUIRED', statusCode: 401 }
const on = { rememberDevice: { days: 30 } }

/** Signs in with a code; answers the account as it was answered. */
async function complete ({ app, accounts, clock, codeOf }: Built, { id, secret }: { id: string, secret: string }) {
  clock.ms += STEP
  return app.mfa.redeem(await app.mfa.challenge(accounts[id]!), codeOf(secret))
}

/** Somebody with a second factor, and a device that is remembered. */
async function remembered (built: Built) {
  const person = await built.enrolled()
  const device = await built.app.mfa.trust(await complete(built, person))
  return { ...person, device }
}

t.test('by default no device is remembered', async t => {
  const built = await build(t)
  const person = await built.enrolled()
  await t.rejects(built.app.mfa.trust(await complete(built, person)), { name: 'TypeError', message: /rememberDevice is off/ })
  await t.rejects(built.app.mfa.demand(built.accounts[person.id]!, { device: randomBytes(32).toString('base64url') }), required)
})

t.test('with rememberDevice the password passes there, as what it is: one factor, and no time of authentication for a step-up', async t => {
  const built = await build(t, on)
  const { app, accounts, recorded } = built
  const { id, device } = await remembered(built)
  t.match(device, /^[\w-]{43}$/)
  await t.rejects(app.mfa.demand(accounts[id]!), required, 'negative control: elsewhere it does not')
  t.strictSame(await app.mfa.demand(accounts[id]!, { device }), { amr: ['pwd'], authTime: 0 })
  t.strictSame(await app.mfa.demand(accounts[id]!, { device }), { amr: ['pwd'], authTime: 0 }, 'again and again')
  t.match(recorded.map(({ type }) => type).filter(type => type === 'mfa_device_remembered'), ['mfa_device_remembered'])
  t.match(recorded.at(-1), { type: 'mfa_success', details: { user: id, factor: 'remembered device' } })
  t.strictSame(await app.mfa.demand({ id: 'nobody', passwordHash: null }, { device }), { amr: ['pwd'] }, 'who has no second factor needs none')
})

t.test('only its hash is kept, and the log does not hold it', async t => {
  const built = await build(t, on)
  const { device } = await remembered(built)
  t.equal(await built.app.state.get(`mfa:device:${device}`), null)
  const kept = await built.app.state.get(`mfa:device:${createHash('sha256').update(device).digest('base64url')}`)
  t.match(kept, /^[\w-]{43}$/, 'and what it depends on, as a hash')
  t.notOk(built.log.join('').includes(device))
})

t.test('attack: who has shown no second factor gets no token', async t => {
  const built = await build(t, on)
  const { app, accounts } = built
  const person = await built.enrolled()
  const proven = await complete(built, person)
  await t.rejects(app.mfa.trust(accounts[person.id]!), { name: 'TypeError' }, 'an account of the store')
  await t.rejects(app.mfa.trust({ ...proven }), { name: 'TypeError' }, 'a copy')
  t.ok(await app.mfa.trust(proven), 'negative control')
})

t.test("attack: somebody else's token, one that was changed, one that was made up", async t => {
  const built = await build(t, on)
  const { app, accounts } = built
  const [ada, ben] = [await remembered(built), await remembered(built)]
  await t.rejects(app.mfa.demand(accounts[ada.id]!, { device: ben.device }), required)
  const last = ada.device.at(-1) === 'A' ? 'Q' : 'A'
  for (const device of ['', 'x', ada.device.slice(1), `${ada.device}A`, `${ada.device}=`, ada.device.slice(0, -1) + last, randomBytes(32).toString('base64url'), '../../x', '\0']) {
    await t.rejects(app.mfa.demand(accounts[ada.id]!, { device }), required)
  }
  t.ok(await app.mfa.demand(accounts[ada.id]!, { device: ada.device }), 'negative control')
})

t.test('it ends after its days', async t => {
  const built = await build(t, on)
  const { app, accounts, clock } = built
  const { id, device } = await remembered(built)
  clock.ms += 30 * DAY - 1
  t.ok(await app.mfa.demand(accounts[id]!, { device }))
  clock.ms += 1
  await t.rejects(app.mfa.demand(accounts[id]!, { device }), required, 'also where it was used meanwhile')
})

t.test('a later device lives its own days, whatever came before', async t => {
  const built = await build(t, on)
  const { app, accounts, clock } = built
  const { device: first, ...person } = await remembered(built)
  clock.ms += 20 * DAY
  const second = await app.mfa.trust(await complete(built, person))
  clock.ms += 20 * DAY
  await t.rejects(app.mfa.demand(accounts[person.id]!, { device: first }), required)
  t.ok(await app.mfa.demand(accounts[person.id]!, { device: second }))
})

t.test('it ends with the password, and does not come back with the old one under another hash', async t => {
  const built = await build(t, on)
  const { app, accounts } = built
  const { id, device } = await remembered(built)
  const before = accounts[id]!
  accounts[id] = { ...before, passwordHash: 'another' }
  await t.rejects(app.mfa.demand(accounts[id]!, { device }), required)
  t.ok(await app.mfa.demand(before, { device }), 'negative control')
})

t.test('it ends with the second factor, and with a new one', async t => {
  const built = await build(t, on)
  const { app, accounts, codeOf, clock } = built
  const ada = await remembered(built)
  const { secret } = await app.mfa.enroll({ id: ada.id, name: 'ada' })
  t.ok(await app.mfa.demand(accounts[ada.id]!, { device: ada.device }), 'negative control: begun is not done')
  await app.mfa.confirm(ada.id, codeOf(secret))
  await t.rejects(app.mfa.demand(accounts[ada.id]!, { device: ada.device }), required)

  const ben = await remembered(built)
  await app.mfa.disable(ben.id)
  t.strictSame(await app.mfa.demand(accounts[ben.id]!), { amr: ['pwd'] })
  clock.ms += STEP
  const { secret: next } = await app.mfa.enroll({ id: ben.id, name: 'ben' })
  await app.mfa.confirm(ben.id, codeOf(next))
  await t.rejects(app.mfa.demand(accounts[ben.id]!, { device: ben.device }), required)
})

t.test('forgetDevices forgets all of a user, for good, and those of nobody else', async t => {
  const built = await build(t, on)
  const { app, accounts } = built
  const [ada, ben] = [await remembered(built), await remembered(built)]
  await app.mfa.forgetDevices(ada.id)
  await t.rejects(app.mfa.demand(accounts[ada.id]!, { device: ada.device }), required)
  const next = await app.mfa.trust(await complete(built, ada))
  t.ok(await app.mfa.demand(accounts[ada.id]!, { device: next }))
  await t.rejects(app.mfa.demand(accounts[ada.id]!, { device: ada.device }), required, 'a new one brings back no old one')
  t.ok(await app.mfa.demand(accounts[ben.id]!, { device: ben.device }))
})

t.test('a factor that another concern brings counts: what changes there ends the device', async t => {
  const built = await build(t, on)
  const { app, accounts } = built
  const enrolled = new Map<string, string>()
  app.mfa.factor({ name: 'ring', amr: 'hwk', enrolment: async id => enrolled.get(id) ?? null, take: async () => async () => true })
  const { id, device } = await remembered(built)
  t.ok(await app.mfa.demand(accounts[id]!, { device }))
  enrolled.set(id, 'first')
  await t.rejects(app.mfa.demand(accounts[id]!, { device }), required)
  t.strictSame(await app.mfa.factors(id), ['totp', 'ring'])
  const proven = await app.mfa.redeem(await app.mfa.challenge(accounts[id]!), { factor: 'ring', response: {} })
  t.strictSame(proven.amr, ['pwd', 'hwk', 'mfa'])
  const next = await app.mfa.trust(proven)
  t.ok(await app.mfa.demand(accounts[id]!, { device: next }))
  enrolled.set(id, 'second')
  await t.rejects(app.mfa.demand(accounts[id]!, { device: next }), required)
})

t.test('processes that share a Redis remember and forget together', async t => {
  const server = await redis(t)
  if (server === null) return
  const shared = { redis: server.url, secret: randomBytes(32), prefix: `devices-${randomBytes(4).toString('hex')}`, deadline: 5000 }
  const one = await build(t, on, { state: shared })
  const other = await build(t, on, { state: shared })
  const { id, device } = await remembered(one)
  t.ok(await other.app.mfa.demand(one.accounts[id]!, { device }))
  await other.app.mfa.forgetDevices(id)
  await t.rejects(one.app.mfa.demand(one.accounts[id]!, { device }), required)
})

t.test('misconfiguration stops boot', async t => {
  for (const rememberDevice of [{}, { days: 0 }, { days: 91 }, { days: 1.5 }, true, { days: 30, forever: true }]) {
    await t.rejects(build(t, { rememberDevice } as never), { code: 'FST_BASTION_MFA_MISCONFIGURED', message: /rememberDevice/i }, JSON.stringify(rememberDevice))
  }
})
