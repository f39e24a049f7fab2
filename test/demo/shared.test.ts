/** Three portals on one database and one Redis are one portal; and each of them when Redis is away. */
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { ownRedis } from '../services.js'
import { build, buildOn, PASSWORD } from './portal.js'

const server = await ownRedis(t)
if (server !== null) {
  const first = await build(t, { REDIS_URL: server.url })
  const portals = [first, await buildOn(t, first.sql, { REDIS_URL: server.url }), await buildOn(t, first.sql, { REDIS_URL: server.url })]
  const [one, two, three] = portals as [typeof first, typeof first, typeof first]

  t.test('what is issued at one is good at all, and ended at one it is ended at all [ASVS 7.4.1]', async t => {
    const { access_token: token, refresh_token: refresh } = await one.signIn('alice')
    for (const { call } of portals) t.equal((await call('GET', '/users/me', { token })).status, 200)
    t.equal((await two.call('POST', '/auth/logout', { token })).status, 204)
    for (const { call } of portals) t.equal((await call('GET', '/users/me', { token })).status, 401)
    t.equal((await three.call('POST', '/auth/refresh', { body: { refresh_token: refresh } })).status, 401)
  })

  t.test('a refresh token that was spent at one is spent at all, and ends what it gave', async t => {
    const { refresh_token: refresh } = await one.signIn('alice')
    const { status, body } = await two.call('POST', '/auth/refresh', { body: { refresh_token: refresh } })
    t.equal(status, 200)
    t.equal((await three.call('POST', '/auth/refresh', { body: { refresh_token: refresh } })).status, 401)
    for (const { call } of portals) t.equal((await call('GET', '/users/me', { token: body.access_token })).status, 401)
  })

  t.test('a role that is changed at one ends the tokens at all', async t => {
    const { token, id } = await one.newcomer()
    const admin = await two.token('admin')
    t.equal((await two.call('PATCH', `/users/${id}/role`, { token: admin, body: { role: 'moderator' } })).status, 200)
    for (const { call } of portals) t.equal((await call('GET', '/users/me', { token })).status, 401)
  })

  t.test('guesses count together: thirty at once over three portals, five are tried [ASVS 6.3.1]', async t => {
    const address = '203.0.113.50'
    const guess = (i: number) => portals[i % 3]!.call('POST', '/auth/login', { body: { username: 'bob', password: `wrong-${i}` }, address })
    const statuses = (await Promise.all(Array.from({ length: 30 }, (_guess, i) => guess(i)))).map(({ status }) => status)
    t.equal(statuses.filter(status => status === 401).length, 5)
    t.equal(statuses.filter(status => status === 429).length, 25)
    for (const { call } of portals) t.equal((await call('POST', '/auth/login', { body: { username: 'bob', password: PASSWORD }, address })).status, 429, 'the right one too')
    const admin = await three.token('admin')
    t.equal((await three.call('POST', `/users/${await one.idOf('bob')}/unlock`, { token: admin })).status, 204)
    t.equal((await one.call('POST', '/auth/login', { body: { username: 'bob', password: PASSWORD }, address })).status, 200, 'unlocked at one, unlocked at all')
  })

  t.test('budgets are one budget', async t => {
    const address = '203.0.113.51'
    const statuses = []
    for (let i = 0; i < 12; i++) statuses.push((await portals[i % 3]!.call('GET', '/limits/bucket', { address })).status)
    t.strictSame(statuses, [...Array(10).fill(200), 429, 429])
  })

  t.test('negative control: portals that do not share have ten each, and a token that was ended at another works', async t => {
    const alone = [await buildOn(t, first.sql), await buildOn(t, first.sql)] as const
    const address = '203.0.113.52'
    const statuses = await Promise.all(Array.from({ length: 20 }, (_call, i) => alone[i % 2]!.call('GET', '/limits/bucket', { address })))
    t.ok(statuses.every(({ status }) => status === 200))
    const token = await alone[0].token('alice')
    t.equal((await alone[1].call('GET', '/users/me', { token })).status, 401, 'though without the state that knows its family no token is good')
  })

  t.test('while Redis is away: 503 for who must be known, service for who need not be, and ready says no', async t => {
    const token = await one.token('alice')
    const { access_token: ended } = await two.signIn('alice')
    await two.call('POST', '/auth/logout', { token: ended })
    t.equal((await one.call('GET', '/health/ready')).status, 200)
    await server.stop()
    for (const { call } of portals) {
      for (const bearer of [token, ended]) {
        const { status, body } = await call('GET', '/users/me', { token: bearer })
        t.equal(status, 503)
        t.equal(body.code, 'FST_BASTION_IDENTITY_UNCHECKED')
      }
      t.equal((await call('GET', '/posts')).status, 200)
      t.equal((await call('POST', '/auth/login', { body: { username: 'alice', password: PASSWORD } })).status, 503)
      t.equal((await call('GET', '/health')).status, 200)
      t.equal((await call('GET', '/health/ready')).status, 503)
    }
    await server.resume()
    const until = Date.now() + 10_000
    for (const { call } of portals) while ((await call('GET', '/health/ready')).status !== 200 && Date.now() < until) await pause(20)
    for (const { call } of portals) {
      t.equal((await call('GET', '/users/me', { token })).status, 200)
      t.equal((await call('GET', '/users/me', { token: ended })).status, 401)
    }
    for (const { log } of portals) {
      const said = (what: string) => log.filter(line => line.includes(`"msg":"${what}"`)).length
      // A busy machine may lose sight of it twice.
      t.ok([1, 2].includes(said('state_away')), 'said once, and not by each request')
      t.equal(said('state_back'), said('state_away'))
      t.notOk(log.some(line => line.includes(new URL(server.url).password)), 'and never with the password')
    }
  })
}
