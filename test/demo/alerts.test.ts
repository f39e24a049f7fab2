/** Attacks on the portal, over HTTP, and what its operators are told of them. */
import t, { type Test } from 'tap'
import type { Alert } from '../../plugins/alerts/index.js'
import type { PortalSettings } from '../../demo/settings.js'
import { receiver } from '../alerts/build.js'
import { ownRedis } from '../services.js'
import { build as buildAlone, buildOn, PASSWORD, type PortalUnderTest } from './portal.js'

interface Watched extends PortalUnderTest {
  /** The alerts that are new in its log, once all that was recorded is counted. */
  alerts: () => Promise<Alert[]>
}

async function build (t: Test, settings: Partial<PortalSettings> = {}): Promise<Watched> {
  return watched(await buildAlone(t, settings))
}

function watched (portal: PortalUnderTest): Watched {
  let read = 0
  return {
    ...portal,
    async alerts () {
      await portal.app.alerts.settled()
      const lines = portal.log.slice(read)
      read += lines.length
      return lines.map(line => JSON.parse(line)).filter(({ level }) => level === 60).map(({ alert }) => alert)
    },
  }
}

const portal = await build(t)
t.beforeEach(() => { portal.pass(3_600_000) }) // what was locked is open, and what was quiet is not

const guess = ({ call }: PortalUnderTest, username: string, address: string, n: number) => call('POST', '/auth/login', { body: { username, password: `wrong-${n}` }, address })

t.test('forty guesses at one account are one alert [ASVS 16.3.1]', async t => {
  for (let i = 0; i < 9; i++) await guess(portal, 'alice', '203.0.113.1', i)
  t.strictSame(await portal.alerts(), [], 'not yet')
  for (let i = 9; i < 40; i++) await guess(portal, 'alice', '203.0.113.1', i)
  const alerts = await portal.alerts()
  t.match(alerts, [{ rule: 'brute_force_account', severity: 'critical', by: 'target', subject: /^login [\w-]{22}$/, last: { address: '203.0.113.1', route: '/auth/login' } }])
  t.equal(alerts.length, 1)
  t.notMatch(JSON.stringify(alerts), /alice|wrong-/, 'neither what was typed as name nor as password')
})

t.test('who signs in wrongly now and then is none', async t => {
  for (const username of ['alice', 'bob', 'mona']) {
    for (let i = 0; i < 3; i++) await guess(portal, username, '203.0.113.2', i)
    await portal.signIn(username, PASSWORD, { address: '203.0.113.2' })
  }
  t.strictSame(await portal.alerts(), [])
})

t.test('many names from one address: credential stuffing, and the lock of the address, which is critical, is told', async t => {
  for (let i = 0; i < 45; i++) await guess(portal, `name-${i % 12}`, '203.0.113.3', i)
  const alerts = await portal.alerts()
  t.strictSame(alerts.map(({ rule }) => rule), ['credential_stuffing', 'address_locked'])
  for (const alert of alerts) t.match(alert, { severity: 'critical', subject: '203.0.113.3' })
})

t.test('one name from many addresses', async t => {
  for (let i = 0; i < 10; i++) await guess(portal, 'bob', `203.0.113.${100 + i}`, i)
  t.strictSame((await portal.alerts()).map(({ rule }) => rule).sort(), ['brute_force_account', 'distributed_guessing'])
})

t.test('a refresh token that is used again is one alert, about its user, however often', async t => {
  const { refresh_token: spent } = await portal.signIn('alice')
  const refresh = () => portal.call('POST', '/auth/refresh', { body: { refresh_token: spent } })
  t.equal((await refresh()).status, 200)
  t.strictSame(await portal.alerts(), [])
  for (let i = 0; i < 3; i++) t.equal((await refresh()).status, 401)
  const alerts = await portal.alerts()
  t.match(alerts, [{ rule: 'token_reuse', subject: await portal.idOf('alice'), last: { type: 'token_reused', route: '/auth/refresh' } }])
  t.equal(alerts.length, 1)
})

t.test('somebody becomes an admin: told each time; a moderator is not', async t => {
  const admin = await portal.token('admin')
  for (const [name, role] of [['bob', 'moderator'], ['mona', 'admin'], ['max', 'admin']] as const) {
    t.equal((await portal.call('PATCH', `/users/${await portal.idOf(name)}/role`, { token: admin, body: { role } })).status, 200)
  }
  const alerts = await portal.alerts()
  t.match(alerts, [{ rule: 'privilege_change', subject: await portal.idOf('mona') }, { rule: 'privilege_change', subject: await portal.idOf('max'), last: { principal: await portal.idOf('admin') } }])
  t.equal(alerts.length, 2)
})

t.test('who tries document after document is told of', async t => {
  const [token, id] = [await portal.token('bob'), await portal.idOf('bob')]
  const [document] = await portal.sql.query<{ id: string }>('select id from documents where owner_id = $1', [await portal.idOf('alice')])
  for (let i = 0; i < 60; i++) t.equal((await portal.call('GET', `/documents/${document!.id}`, { token })).status, 404)
  const alerts = await portal.alerts()
  t.match(alerts, [{ rule: 'probing', severity: 'warning', subject: id }])
  t.equal(alerts.length, 1)
})

t.test('the webhook that the settings name gets it, signed; its URL and its secret show nowhere', async t => {
  const { url, got, came } = await receiver(t)
  const secret = `whsec_${Buffer.alloc(32, 4).toString('base64')}`
  const portal = await build(t, { ALERT_WEBHOOK_URL: url, ALERT_WEBHOOK_SECRET: secret })
  for (let i = 0; i < 12; i++) await guess(portal, 'alice', '203.0.113.4', i)
  await came(1)
  t.match(JSON.parse(got[0]!.body), { type: 'alert.raised', data: { rule: 'brute_force_account' } })
  t.match(got[0]!.headers, { 'webhook-signature': /^v1,[\w+/]{43}=$/ })
  t.notMatch(portal.log.join(''), new RegExp(`s3cret-path|${secret.slice(6, 30)}`))
  for (const settings of [{ ALERT_WEBHOOK_URL: url }, { ALERT_WEBHOOK_SECRET: secret }]) await t.rejects(build(t, settings), /ALERT_WEBHOOK_URL and ALERT_WEBHOOK_SECRET/)
  await t.rejects(build(t, { ALERT_WEBHOOK_URL: 'http://alerts.example.com/', ALERT_WEBHOOK_SECRET: secret }), { code: 'FST_BASTION_ALERTS_MISCONFIGURED' })
})

t.test('two portals on one Redis count the guesses together, and one of them tells', async t => {
  const redis = await ownRedis(t)
  if (redis === null) return
  const one = await build(t, { REDIS_URL: redis.url })
  const two = watched(await buildOn(t, one.sql, { REDIS_URL: redis.url }))
  for (let i = 0; i < 9; i++) await guess(i % 2 === 0 ? one : two, 'alice', '203.0.113.5', i)
  const told = [...await one.alerts(), ...await two.alerts()]
  t.strictSame(told, [])
  for (let i = 9; i < 20; i++) {
    await guess(i % 2 === 0 ? one : two, 'alice', '203.0.113.5', i)
    told.push(...await one.alerts(), ...await two.alerts())
  }
  t.match(told, [{ rule: 'brute_force_account' }])
  t.equal(told.length, 1)
  await redis.kill()
  for (let i = 0; i < 3; i++) t.equal((await guess(one, 'bob', '203.0.113.6', i)).status, 503, 'nobody signs in uncounted')
  t.equal((await one.call('GET', '/posts')).status, 200, 'and nothing else is disturbed')
  t.ok((await one.alerts()).some(({ rule, last }) => rule === 'critical_event' && last.type === 'state_away'))
})
