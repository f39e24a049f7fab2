/** API keys over several processes: what one of them changes, all of them know at once; and what happens while shared state is away. */
import { randomBytes } from 'node:crypto'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import type { ApiKeysOptions } from '../../plugins/api-keys/index.js'
import { tap } from '../fixtures/tapped-line.js'
import { ownRedis, redis } from '../services.js'
import { database, DISABLED, INVALID, service, type Service } from './service.js'

const sql = await database(t)

/** So many processes' worth of services on one Redis, or each for itself. */
async function services (t: Test, url: string | null, options: Partial<ApiKeysOptions> = {}, count = 2): Promise<Service[]> {
  const prefix = randomBytes(6).toString('hex')
  const state = url === null ? {} : { redis: url, secret: Buffer.alloc(32, 3), prefix, deadline: 2000 }
  return Promise.all(Array.from({ length: count }, () => service(t, sql, options, { state })))
}

t.test('what one process changes, the others know at once', async t => {
  const server = await redis(t)
  if (server === null) return
  const [here, there] = await services(t, server.url) as [Service, Service]
  const both = (people: Partial<Service['people']>) => { for (const { people: known } of [here, there]) Object.assign(known, people) }
  const { id, text } = await here.make({ scopes: ['things:write'] })
  const ask = () => there.ask('/write', text)
  t.equal((await ask()).status, 200)
  await here.app.apiKeys.setActive(id, false)
  t.match(await ask(), DISABLED)
  t.strictSame((await there.ask('/public', text)).principal, null, 'on routes for everybody it is nobody')
  await here.app.apiKeys.setActive(id, true)
  t.match(await ask(), { status: 200, principal: { userId: 'ada', scopes: ['things:write'], roles: ['editor'], plan: 'pro' } })
  both({ ada: { isActive: true, roles: ['reader'] } })
  await here.app.apiKeys.ownerChanged('ada')
  t.match(await ask(), { status: 403, code: 'FST_BASTION_ACCESS_FORBIDDEN' })
  both({ ada: { isActive: false, roles: ['editor'] } })
  await here.app.apiKeys.ownerChanged('ada')
  t.match(await ask(), INVALID)
  both({ ada: { isActive: true, roles: ['editor'] } })
  await here.app.apiKeys.ownerChanged('ada')
  t.equal((await ask()).status, 200)
  const { text: rotated } = (await here.app.apiKeys.rotate(id, { overlap: 0 }))!
  t.match(await ask(), INVALID)
  t.equal((await there.ask('/write', rotated)).status, 200)
  await here.app.apiKeys.delete(id)
  t.match(await there.ask('/write', rotated), INVALID)
})

t.test('a request with a key that is known makes one round trip: whether it was changed, and its limits, in one write', async t => {
  const server = await redis(t)
  if (server === null) return
  const through = await tap(t, server.url)
  const [one] = await services(t, through.url, {}, 1) as [Service]
  const { text } = await one.make()
  t.equal((await one.ask('/read', text)).status, 200)
  through.bursts.length = 0
  for (let i = 0; i < 10; i++) t.equal((await one.ask('/read', text)).status, 200)
  t.equal(through.bursts.length, 10)
  for (const burst of through.bursts) t.match(burst, /evalsha[^]*:api-keys:[^]*evalsha[^]*:limits:/i)
})

t.test('the control: without shared state the other process goes on for as long as it remembers', async t => {
  const [here, there] = await services(t, null) as [Service, Service]
  const { id, text } = await here.make()
  t.equal((await there.ask('/read', text)).status, 200)
  await here.app.apiKeys.setActive(id, false)
  t.match(await here.ask('/read', text), DISABLED)
  t.equal((await there.ask('/read', text)).status, 200)
  there.clock.ms += 60_000
  t.match(await there.ask('/read', text), DISABLED)
})

t.test('two hundred requests at once to two processes are a read or two each, and none passes once the key is disabled', async t => {
  const server = await redis(t)
  if (server === null) return
  const both = await services(t, server.url, {}) as [Service, Service]
  const [here] = both
  const { id, text } = await here.make()
  for (const { asked } of both) asked.statements.length = 0
  const flood = () => Promise.all(Array.from({ length: 200 }, (_none, i) => both[i % 2]!.ask('/read', text)))
  t.ok((await flood()).every(({ status }) => status === 200))
  const reads = both.map(({ asked }) => asked.statements.length)
  t.ok(reads.every(count => count <= 3), `reads: ${reads}`)
  for (const { asked } of both) asked.statements.length = 0
  t.ok((await flood()).every(({ status }) => status === 200))
  // What announces that it was made may come late.
  t.ok(both.every(({ asked }) => asked.statements.length <= 1), `reads: ${both.map(({ asked }) => asked.statements.length)}`)
  const during = flood()
  await here.app.apiKeys.setActive(id, false)
  const after = await flood()
  t.ok(after.every(({ status }) => status === 403), 'all that came after the change')
  t.ok((await during).every(({ status }) => status === 200 || status === 403))
})

t.test('two different credentials are nobody, also when the record comes later', async t => {
  const server = await redis(t)
  if (server === null) return
  const [{ app, make, ask }] = await services(t, server.url, {}, 1) as [Service]
  const { text } = await make()
  const { access_token: bearer } = await app.tokens.issue({ id: 'ben', roles: ['reader'] })
  for (let i = 0; i < 2; i++) {
    const headers = { 'x-api-key': text, authorization: `Bearer ${bearer}` }
    t.strictSame((await ask('/public', headers)).principal, null)
    t.equal((await ask('/read', headers)).status, 400)
  }
  t.equal((await ask('/read', text)).status, 200)
})

t.test('nothing in Redis names a key or its user', async t => {
  const server = await ownRedis(t)
  if (server === null) return
  const [{ make, ask }] = await services(t, server.url, {}, 1) as [Service]
  const { id, text } = await make()
  t.equal((await ask('/read', text)).status, 200)
  const client = new Redis(server.url)
  t.teardown(() => client.disconnect())
  const keys = await client.keys('*')
  t.ok(keys.length >= 2)
  for (const key of keys) t.ok(await client.pttl(key) > 0, 'everything ends')
  const values = await Promise.all(keys.map(key => client.get(key).catch(() => '')))
  for (const secret of [id, 'ada', text.slice(24, 40)]) t.notOk([...keys, ...values].some(one => one?.includes(secret)))
})

t.test('what Redis forgets is read again, and not believed', async t => {
  const server = await ownRedis(t)
  if (server === null) return
  const [here, there] = await services(t, server.url) as [Service, Service]
  const { id, text } = await here.make()
  t.equal((await there.ask('/read', text)).status, 200)
  await here.app.apiKeys.setActive(id, false)
  const client = new Redis(server.url)
  t.teardown(() => client.disconnect())
  await client.flushall()
  t.match(await there.ask('/read', text), DISABLED)
})

t.test('while Redis is away keys are a 503, nothing is changed, and all goes on when it is back', async t => {
  const server = await ownRedis(t)
  if (server === null) return
  const [one] = await services(t, server.url, {}, 1) as [Service]
  const { id, text } = await one.make()
  t.equal((await one.ask('/read', text)).status, 200)
  await server.kill()
  one.handled.length = 0
  t.match(await one.ask('/read', text), { status: 503, code: 'FST_BASTION_IDENTITY_UNCHECKED', headers: { 'retry-after': /^\d+$/ } })
  t.match(await one.ask('/read', 'sk_live_junk'), INVALID, 'what is no key needs no state to be none')
  t.strictSame(one.handled, [])
  const { setActive, rotate, delete: remove, ownerChanged } = one.app.apiKeys
  for (const change of [() => setActive(id, false), () => rotate(id), () => remove(id), () => ownerChanged('ada')]) {
    t.equal(await change().then(() => null, (error: { statusCode: number }) => error.statusCode), 503)
  }
  await server.restart()
  for (let tries = 0; tries < 100 && !await one.app.state.answers(); tries++) await new Promise(resolve => { setTimeout(resolve, 50) })
  t.equal((await one.ask('/read', text)).status, 200, 'as it was')
})

t.test("option whenAway 'ask': the store is asked at every request, and is believed", async t => {
  const server = await ownRedis(t)
  if (server === null) return
  const [one] = await services(t, server.url, { whenAway: 'ask' }, 1) as [Service]
  const { id, text } = await one.make()
  t.equal((await one.ask('/read', text)).status, 200)
  await server.kill()
  one.asked.statements.length = 0
  for (let i = 0; i < 3; i++) t.match(await one.ask('/read', text), { status: 200, principal: { userId: 'ada' } })
  t.equal(one.asked.statements.length, 3)
  await sql.query('update api_keys set is_active = false where id = $1', [id])
  t.match(await one.ask('/read', text), DISABLED)
  one.people.ada!.isActive = false
  t.match(await one.ask('/read', text), INVALID)
})
