/** Sessions over several processes on one Redis: what one of them ends is ended at all, and what happens while it is away. */
import t from 'tap'
import { tap } from '../fixtures/tapped-line.js'
import { ownRedis, redis } from '../services.js'
import { onRedis, service } from './service.js'

const NAME = '__Host-session'
const INVALID = { status: 401, code: 'FST_BASTION_SESSIONS_INVALID' }

t.test('what one process starts, changes or ends, the others know at once', async t => {
  const server = await redis(t)
  if (server === null) return
  const shared = onRedis(server.url)
  const [here, there] = [await service(t, {}, shared), await service(t, {}, shared)]
  const ada = here.browser()
  await ada.signIn()
  const elsewhere = there.browser(Object.fromEntries(ada.jar))
  t.match(await elsewhere.ask('GET', '/me'), { status: 200, value: { id: 'ada' } })
  await elsewhere.ask('POST', '/theme', { value: 'dark' })
  t.match(await ada.ask('GET', '/look'), { value: { theme: 'dark' } })
  await Promise.all([ada.ask('POST', '/cart', { value: 'book' }), elsewhere.ask('POST', '/theme', { value: 'light' })])
  t.match(await ada.ask('GET', '/look'), { value: { theme: 'light', cart: ['book'] } })
  t.equal((await there.app.sessions.list('ada')).length, 1)
  await elsewhere.ask('POST', '/logout')
  t.match(await ada.ask('GET', '/me'), INVALID)
  const again = here.browser()
  await again.signIn()
  await there.app.sessions.endAll('ada')
  t.match(await again.ask('GET', '/me'), INVALID)
})

t.test('of two hundred renewals at two processes at once one session is left', async t => {
  const server = await redis(t)
  if (server === null) return
  const shared = onRedis(server.url)
  const both = [await service(t, {}, shared), await service(t, {}, shared)] as const
  const ada = both[0].browser()
  await ada.signIn()
  const tabs = Array.from({ length: 200 }, (_tab, i) => both[i % 2]!.browser(Object.fromEntries(ada.jar)))
  const outcomes = await Promise.all(tabs.map(tab => tab.ask('POST', '/renew')))
  t.equal(outcomes.filter(({ status }) => status === 200).length, 1)
  t.equal(outcomes.filter(({ status }) => status === 401).length, 199)
  t.equal((await both[1].app.sessions.list('ada')).length, 1)
  const winner = tabs[outcomes.findIndex(({ status }) => status === 200)]!
  t.equal((await winner.ask('GET', '/me')).status, 200)
})

t.test('a request with a session makes two round trips, one without its cookie none for it', async t => {
  const server = await redis(t)
  if (server === null) return
  const through = await tap(t, server.url)
  const { browser } = await service(t, {}, onRedis(through.url))
  const ada = browser()
  await ada.signIn()
  await ada.ask('GET', '/me')
  through.bursts.length = 0
  for (let i = 0; i < 20; i++) t.equal((await ada.ask('GET', '/me')).status, 200)
  t.equal(through.bursts.length, 40)
  for (const [i, burst] of through.bursts.entries()) t.match(burst, i % 2 === 0 ? /evalsha[^]*:sessions:/i : /evalsha[^]*:limits:/i)
  through.bursts.length = 0
  for (let i = 0; i < 20; i++) await browser().ask('GET', '/public')
  t.notOk(through.bursts.some(burst => burst.includes(':sessions:')))
})

t.test('while Redis is away a session is neither good nor ended: 503, on a public route for who looks into it, and all is well afterwards', async t => {
  const server = await ownRedis(t)
  if (server === null) return
  const { browser } = await service(t, {}, onRedis(server.url, { deadline: 300 }))
  const ada = browser()
  await ada.signIn()
  const cookie = ada.jar.get(NAME)
  await server.stop()
  t.match(await ada.ask('GET', '/me'), { status: 503, code: 'FST_BASTION_IDENTITY_UNCHECKED', given: 0 })
  t.match(await ada.ask('GET', '/public'), { status: 200, value: null })
  t.match(await ada.ask('GET', '/look'), { status: 503, given: 0 })
  t.match(await ada.ask('POST', '/logout'), { status: 503, given: 0 })
  t.match(await browser().ask('POST', '/login', { value: 'ada' }), { status: 503, given: 0 })
  t.match(await browser().ask('GET', '/public'), { status: 200 })
  t.equal(ada.jar.get(NAME), cookie)
  await server.resume()
  for (let tries = 0; tries < 100 && (await ada.ask('GET', '/me')).status !== 200; tries++) await new Promise(resolve => setTimeout(resolve, 50))
  t.equal((await ada.ask('GET', '/me')).status, 200)
})
