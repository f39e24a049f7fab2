/** Alerts of several processes: counted together, told once; and while shared state is away each goes on alone. */
import t, { type Test } from 'tap'
import type { AlertRule, AlertsOptions } from '../../plugins/alerts/index.js'
import { ownRedis } from '../services.js'
import { build, NONE, type Built } from './build.js'

const rules: AlertRule[] = [
  { name: 'guesses', events: ['login_failure'], by: 'address', threshold: 10, windowMs: 60_000 },
  { name: 'names', events: ['mfa_failure'], by: 'address', distinct: 'target', threshold: 6, windowMs: 60_000 },
  { name: 'once', events: ['token_reused'], by: 'target', threshold: 1, windowMs: 60_000 },
]
const secret = Buffer.alloc(32, 3)
let prefixes = 0

async function two (t: Test, options: AlertsOptions = {}): Promise<{ one: Built, other: Built, redis: NonNullable<Awaited<ReturnType<typeof ownRedis>>> } | null> {
  const redis = await ownRedis(t)
  if (redis === null) return null
  const prefix = `alerts-${++prefixes}`
  const state = { redis: redis.url, secret, prefix }
  const [one, other] = [await build(t, { builtIn: NONE, rules, ...options }, state), await build(t, { builtIn: NONE, rules, ...options }, state)]
  return { one, other, redis }
}

t.test('two processes count together, and one of them tells', async t => {
  const both = await two(t)
  if (both === null) return
  const { one, other } = both
  for (let i = 0; i < 9; i++) await (i % 2 === 0 ? one : other).see('login_failure')
  t.strictSame([...one.names(), ...other.names()], [])
  await other.see('login_failure')
  t.strictSame([...one.names(), ...other.names()], ['guesses'])
  await Promise.all([one.see('login_failure', { times: 30 }), other.see('login_failure', { times: 30 })])
  t.strictSame([...one.names(), ...other.names()], [], 'quiet in both')
})

t.test('different ones are counted together; what needs no count is told once too', async t => {
  const both = await two(t)
  if (both === null) return
  const { one, other } = both
  for (let i = 0; i < 5; i++) for (const app of [one, other]) await app.see('mfa_failure', { details: { user: `u${i}` } })
  t.strictSame([...one.names(), ...other.names()], [])
  await one.see('mfa_failure', { details: { user: 'u5' } })
  t.strictSame([...one.names(), ...other.names()], ['names'])
  await Promise.all([one.see('token_reused', { details: { user: 'u1' } }), other.see('token_reused', { details: { user: 'u1' } })])
  t.strictSame([...one.names(), ...other.names()], ['once'])
})

t.test('many at once, in both: one alert', async t => {
  const both = await two(t)
  if (both === null) return
  const { one, other } = both
  await Promise.all([one, other].map(app => app.see('login_failure', { times: 500 })))
  t.strictSame([...one.names(), ...other.names()], ['guesses'])
})

t.test('names that are typed are one in all processes that have the same key, and not without [negative control]', async t => {
  const guess = async ({ app, see }: Built) => see('login_failure', { details: { login: app.events.nameOf('ada') } })
  for (const [options, number] of [[{ nameKey: Buffer.alloc(32, 5) }, 1], [{}, 0]] as const) {
    const both = await two(t, { rules: [{ name: 'at_a_name', events: ['login_failure'], by: 'target', threshold: 4, windowMs: 60_000 }], ...options })
    if (both === null) return
    for (const app of [both.one, both.other, both.one, both.other]) await guess(app)
    t.equal(both.one.told.length + both.other.told.length, number)
  }
})

t.test('state that goes away disturbs nothing: each process counts for itself, and together again when it is back', async t => {
  const both = await two(t)
  if (both === null) return
  const { one, other, redis } = both
  await one.see('login_failure', { times: 5 })
  await redis.kill()
  await one.see('login_failure', { times: 9 })
  await other.see('login_failure', { times: 9 })
  t.strictSame([...one.names(), ...other.names()], [])
  await one.see('login_failure')
  t.strictSame([...one.names(), ...other.names()], ['guesses'])
  await one.see('login_failure', { times: 20 })
  t.strictSame([...one.names(), ...other.names()], [], 'quiet without it too')
  await other.see('token_reused', { details: { user: 'u1' } })
  t.strictSame(other.names(), ['once'])
  t.notOk(one.log.some(({ msg }) => msg === 'an event was not counted for alerts'))
  await redis.restart()
  while (!await one.app.state.answers() || !await other.app.state.answers()) await new Promise(resolve => { setTimeout(resolve, 20) })
  for (let i = 0; i < 10; i++) await (i % 2 === 0 ? one : other).see('login_failure', { address: '192.0.2.50' })
  t.strictSame([...one.names(), ...other.names()], ['guesses'])
})

t.test('that state is away is told, if the rule is on', async t => {
  const both = await two(t, { builtIn: {}, rules: [] })
  if (both === null) return
  const { one, redis } = both
  await redis.kill()
  await one.see('csrf_refused')
  while (one.told.length === 0) {
    await one.see('csrf_refused')
    await new Promise(resolve => { setTimeout(resolve, 10) })
  }
  t.match(one.told, [{ rule: 'critical_event', subject: 'state_away *', last: { type: 'state_away' } }])
})

t.test('a state that hangs delays no request: recording returns at once', async t => {
  const both = await two(t)
  if (both === null) return
  const { one, redis } = both
  await one.see('login_failure')
  await redis.stop()
  const began = performance.now()
  for (let i = 0; i < 1000; i++) one.app.events.record('login_failure', { id: 'r', ip: '192.0.2.1' })
  const took = performance.now() - began
  await one.app.alerts.settled()
  await redis.resume()
  t.ok(took < 1000, `${took} ms`)
  t.strictSame(one.names(), ['guesses'])
})
