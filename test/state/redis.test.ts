/** State on Redis: the same contract, one round trip, nothing readable, nothing for ever. */
import { setTimeout as pause } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import { Cluster, Redis } from 'ioredis'
import t, { type Test } from 'tap'
import bastion, { server } from '../../plugins/index.js'
import events, { type SecurityEvent } from '../../plugins/events.js'
import plan from '../../plugins/plan/index.js'
import state, { REDIS_OPTIONS, StateUnavailable, type StateOptions } from '../../plugins/state/index.js'
import { slotOf } from '../../plugins/state/slot.js'
import { tap } from '../fixtures/tapped-line.js'
import { redis } from '../services.js'
import { holdsContract } from './contract.js'

const secret = 'a secret of at least thirty-two bytes'
let url = ''

interface Built { app: FastifyInstance, recorded: SecurityEvent[] }

async function build (t: Test, options: StateOptions): Promise<Built> {
  const recorded: SecurityEvent[] = []
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  app.events.listen(event => { recorded.push(event) })
  await app.register(state, { secret, deadline: 5000, ...options }) // one that a busy machine does not miss
  return { app, recorded }
}

/** A client of the test's own, to look with. */
function looking (t: Test): Redis {
  const client = new Redis(url)
  t.teardown(() => client.disconnect())
  return client
}

async function keysOf (client: Redis, prefix: string): Promise<string[]> {
  const found: string[] = []
  for await (const keys of client.scanStream({ match: `${prefix}:*`, count: 1000 })) found.push(...keys)
  return found
}

t.test('state on Redis', async t => {
  const service = await redis(t)
  if (service === null) return
  url = service.url

  await holdsContract(t, 'redis', async (t, { prefix }) => {
    const clock = { ms: 1_700_000_000_000 }
    const { app } = await build(t, { redis: url, prefix, now: () => clock.ms, deadline: 5000 })
    return { state: app.state, clock, elapse: ms => pause(ms) }
  }, { rounds: 6 })

  await t.test('time is the server\'s: processes whose clocks disagree share a window', async t => {
    const { app } = await build(t, { redis: url, prefix: 'clock' })
    const wrong = Date.now
    t.teardown(() => { Date.now = wrong })
    const counter = app.state.counter({ name: 'c', windows: [{ limit: 2, ms: 60_000 }] })
    t.equal((await counter.take('a')).allowed, true)
    Date.now = () => wrong() + 3_600_000
    t.equal((await counter.take('a')).allowed, true)
    t.equal((await counter.take('a')).allowed, false)
  })

  await t.test('every key has a time to live, and none of them names an address, a user or a credential [ASVS 14.2.1]', async t => {
    const { app } = await build(t, { redis: url, prefix: 'ttl' })
    const { state } = app
    const ban = { after: 1, ms: 60_000 }
    for (const algorithm of ['fixed', 'sliding', 'log', 'bucket'] as const) {
      const counter = state.counter({ name: `route:GET /${algorithm}`, windows: [{ limit: 1, ms: 60_000 }, { limit: 5, ms: 120_000 }], algorithm, ban })
      await counter.take('203.0.113.77')
      await counter.take('203.0.113.77')
    }
    await state.set('tokens:family:fam-1', 'refresh-token-id 0', 60_000)
    await state.set('tokens:pinned', 'x', 60_000, true)
    await state.claim('mfa:totp:alice:123456', '1', 60_000)
    await state.swap('mfa:totp:alice:123456', '1', '2', 60_000)
    await state.raise('tokens:generation:alice', 5, 60_000)
    await state.add('sign-in:pair:alice:203.0.113.77', 1, 60_000)
    await state.add('sign-in:pair:alice:203.0.113.77', 1, 60_000)
    await state.join('sign-in:names:203.0.113.77', 'alice', 3, 60_000)
    await state.answers()
    const client = looking(t)
    const keys = await keysOf(client, 'ttl')
    t.ok(keys.length >= 14, `${keys.length} keys`)
    for (const key of keys) {
      const ttl = await client.pttl(key)
      t.ok(ttl > 0 && ttl <= 240_000, `${key} lives ${ttl} ms`)
      t.match(key, /^ttl:(?:1:[a-z-]+:\{[\w-]{22}\}:(?:value|tally|count|ban)|boot)$/)
      t.notMatch(key, /203\.0|alice|123456|fam-1/)
    }
    const { app: other } = await build(t, { redis: url, prefix: 'ttl', secret: 'another secret of thirty-two bytes' })
    t.equal(await other.state.get('tokens:pinned'), null, 'the names are an HMAC: who has another secret finds nothing')
    const { app: same } = await build(t, { redis: url, prefix: 'ttl' })
    t.equal(await same.state.get('tokens:pinned'), 'x')
  })

  await t.test('a bearer request makes one round trip, with one look-up and one script', async t => {
    const through = await tap(t, url)
    const key = (byte: number) => Buffer.alloc(32, byte)
    const app = Fastify(server({ logger: false }))
    t.teardown(() => app.close())
    await app.register(bastion, {
      state: { redis: through.url, secret, prefix: 'trip', deadline: 5000 },
      access: { roles: { user: { permissions: [] } } },
      tokens: { issuer: 'https://api.example.com', audience: 'https://api.example.com', keys: { access: key(1), refresh: key(2) } },
    })
    app.get('/', { config: { access: 'user', limits: ['100/second', '1000/minute', '10000/hour'], answers: 'raw' } }, async () => 'in')
    const { access_token: token } = await app.tokens.issue({ id: 'ada', roles: ['user'] })
    const ask = () => app.inject({ url: '/', headers: { authorization: `Bearer ${token}`, host: 'localhost' } })
    t.equal((await ask()).statusCode, 200)
    const client = looking(t)
    await client.call('CONFIG', 'RESETSTAT')
    through.bursts.length = 0
    const requests = 20
    for (let i = 0; i < requests; i++) t.equal((await ask()).statusCode, 200)
    t.equal(through.bursts.length, requests, 'one burst each')
    for (const burst of through.bursts) t.match(burst, /^\*\d+\r\n\$7\r\nevalsha[^]*:tokens:[^]*evalsha[^]*:limits:/i, 'that holds both')
    t.match(String(await client.info('commandstats')), new RegExp(`cmdstat_evalsha:calls=${requests * 2},`))

    const counter = app.state.counter({ name: 'by hand', windows: [{ limit: 1000, ms: 60_000 }] })
    await counter.take('ada')
    through.bursts.length = 0
    for (let i = 0; i < requests; i++) {
      await app.state.get('tokens:denied:x')
      await counter.take('ada')
    }
    t.equal(through.bursts.length, requests * 2, 'negative control: look up, then count, as one writes it by hand')
  })

  await t.test('what is asked in one turn is one write, with one look-up and one script a policy for all, and each gets its own answer', async t => {
    const through = await tap(t, url)
    const ask = async (redis: StateOptions['redis'], prefix: string) => {
      const { app: { state } } = await build(t, { redis: redis!, prefix })
      const windows = [{ limit: 3, ms: 60_000 }]
      const [plain, strict] = [state.counter({ name: 'plain', windows }), state.counter({ name: 'strict', windows, ban: { after: 2, ms: 60_000 } })]
      await Promise.all([...Array.from({ length: 8 }, (_value, i) => state.set(`k:${i}`, `"ü ${i}`, 60_000)), state.get('k:0'), state.add('t:0', 1, 1000), plain.take('x'), strict.take('x')])
      through.bursts.length = 0
      const answers = await Promise.all(Array.from({ length: 20 }, async (_one, i) => {
        const [values, decision, banned, tally] = [state.getMany([`k:${i}`, `k:${i - 1}`]), plain.take(`user ${i % 4}`), strict.take('y'), i === 7 ? state.add('t:1', 1, 1000) : null]
        return { values: await values, decision: await decision, banned: await banned, tally: await tally }
      }))
      for (const [i, { values, decision: { allowed, remaining }, banned, tally }] of answers.entries()) {
        t.strictSame(values, [i, i - 1].map(number => number >= 0 && number < 8 ? `"ü ${number}` : null))
        t.strictSame([allowed, remaining], i < 12 ? [true, 2 - Math.floor(i / 4)] : [false, 0])
        t.strictSame([banned.allowed, banned.banned], [i < 3, i > 3])
        t.equal(tally?.count, i === 7 ? 1 : undefined)
      }
      return { bursts: through.bursts.length, commands: through.bursts.join('').match(/evalsha/gi)?.length }
    }
    t.strictSame(await ask(through.url, 'turn'), { bursts: 1, commands: 4 })

    const client = new Redis(through.url, { enableAutoPipelining: true })
    t.teardown(() => client.disconnect())
    t.equal((await ask(client as never, 'each')).commands, 61, 'negative control: a client that pipelines by itself is left to do so, and each operation is a command')
  })

  await t.test('scripts that the server has forgotten are sent again', async t => {
    const { app } = await build(t, { redis: url, prefix: 'scripts' })
    const counter = app.state.counter({ name: 'c', windows: [{ limit: 3, ms: 60_000 }] })
    await counter.take('a')
    await looking(t).script('FLUSH')
    t.match(await counter.take('a'), { allowed: true, remaining: 1 })
    t.equal(await app.state.raise('g:1', 7, 1000), 7)
  })

  await t.test('a wrong password stops boot, and the message does not hold it', async t => {
    const wrong = new URL(url)
    wrong.password = 'not-the-password'
    await t.rejects(build(t, { redis: wrong.href }), { code: 'FST_BASTION_STATE_MISCONFIGURED', message: /^state: redis: (?!.*not-the-password)/ })
  })

  await t.test('wrong options stop boot, and the message names them', async t => {
    for (const [options, message] of [
      [{ redis: url, secret: undefined }, /state: secret: needs 32 bytes/],
      [{ redis: url, secret: 'short' }, /state: secret/],
      [{ redis: url, prefix: 'a{b}' }, /state: prefix/],
      [{ redis: url, deadline: 0 }, /state: deadline/],
      [{ redis: url, replicas: -1 }, /state: replicas/],
    ] as const) await t.rejects(build(t, options as never), { code: 'FST_BASTION_STATE_MISCONFIGURED', message })
    const { app } = await build(t, { redis: url, prefix: 'wrong' })
    t.throws(() => app.state.counter({ name: 'c', windows: [] }), TypeError)
    app.state.counter({ name: 'd', windows: [{ limit: 1, ms: 1000 }] })
    t.throws(() => app.state.counter({ name: 'd', windows: [{ limit: 2, ms: 1000 }] }), TypeError)
    for (const ttl of [0, -1, NaN, Infinity]) await t.rejects(async () => app.state.set('k', 'v', ttl), { name: 'TypeError', message: /time to live/ })
    await app.state.add('t:number', 1, 10_000)
    await t.rejects(async () => app.state.join('t:number', 'x', 3, 10_000), TypeError)
    await app.state.set('g:text', 'no number', 10_000)
    await t.rejects(async () => app.state.raise('g:text', 1, 10_000), TypeError)
    t.equal(await app.state.answers(), true, 'a mistake in a call does not make the store away')
  })

  await t.test('what names no server, or cannot be read, stops boot; a password in it is nowhere [CWE-532]', async t => {
    for (const redis of ['', 'localhost:6379', 'http://localhost:6379', {}, { password: 'hunter2' }, 'redis://:hunter2/abc+x=@127.0.0.1:7741']) {
      const error = await build(t, { redis } as never).then(() => null, error => error)
      t.equal(error?.code, 'FST_BASTION_STATE_MISCONFIGURED', JSON.stringify(redis))
      t.notMatch(JSON.stringify([error, error?.message, error?.stack, error?.cause, { ...error }]), /hunter2/)
    }
  })

  await t.test('a client that would answer wrongly stops boot', async t => {
    const numbers = new Redis(url, { ...REDIS_OPTIONS, stringNumbers: true })
    const cluster = (options: object) => new Cluster(['redis://127.0.0.1:1'], { lazyConnect: true, ...options })
    t.teardown(() => { numbers.disconnect() })
    for (const [client, message] of [
      [numbers, /redis: stringNumbers/],
      [cluster({ scaleReads: 'slave' }), /redis: scaleReads/],
      [cluster({ enableAutoPipelining: true }), /redis: enableAutoPipelining/],
    ] as const) await t.rejects(build(t, { redis: client }), { code: 'FST_BASTION_STATE_MISCONFIGURED', message })
  })

  await t.test('who may not run scripts is told at boot', async t => {
    await looking(t).call('ACL', 'SETUSER', 'narrow', 'on', '>narrow-password', '~*', '+@all', '-@scripting')
    const narrow = new URL(url)
    narrow.username = 'narrow'
    narrow.password = 'narrow-password'
    await t.rejects(build(t, { redis: narrow.href }), { code: 'FST_BASTION_STATE_MISCONFIGURED', message: /^state: redis: NOPERM (?!.*narrow-password)/ })
  })

  await t.test('what the server says of one operation takes the store from nobody', async t => {
    await looking(t).call('ACL', 'SETUSER', 'partial', 'on', '>partial-password', '~*', '+@all', '-srem')
    const partial = new URL(url)
    partial.username = 'partial'
    partial.password = 'partial-password'
    const { app, recorded } = await build(t, { redis: partial.href, prefix: 'partial' })
    for (let i = 0; i < 5; i++) await t.rejects(async () => app.state.leave('t:names', 'x'), { message: 'state: the server refuses an operation' })
    t.equal(await app.state.get('k:1'), null)
    t.strictSame(recorded, [])
  })

  await t.test('a shorter deadline is late for who set it, and for nobody else', async t => {
    const through = await tap(t, url)
    const { app, recorded } = await build(t, { redis: through.url, prefix: 'short', deadline: 2000 })
    through.delayMs.value = 60
    const hasty = app.state.within(10)
    const answers = await Promise.allSettled([hasty.get('k:1'), app.state.get('k:1'), hasty.get('k:1'), app.state.get('k:1')])
    t.strictSame(answers.map(({ status }) => status), ['rejected', 'fulfilled', 'rejected', 'fulfilled'])
    t.equal(await app.state.get('k:1'), null)
    t.strictSame(recorded, [])
  })

  await t.test('a client that connects with its first command is connected', async t => {
    const client = new Redis(url, { ...REDIS_OPTIONS, lazyConnect: true })
    t.teardown(() => client.disconnect())
    const { app } = await build(t, { redis: client, prefix: 'lazy' })
    t.equal(await app.state.answers(), true)
  })

  await t.test('a client of one\'s own is used, and left open', async t => {
    const client = new Redis(url, { ...REDIS_OPTIONS, enableOfflineQueue: true })
    t.teardown(() => client.disconnect())
    const { app } = await build(t, { redis: client, prefix: 'own' })
    await app.state.set('k:1', 'v', 60_000)
    await app.close()
    t.equal(client.status, 'ready')
    t.ok((await keysOf(client, 'own')).length >= 1)
  })

  await t.test('a server that is late: the first operation waits for its deadline, the next ones do not, and it comes back by itself', async t => {
    const through = await tap(t, url)
    const { app, recorded } = await build(t, { redis: through.url, prefix: 'late', deadline: 60 })
    await app.state.set('k:1', 'v', 60_000)
    through.delayMs.value = 5000
    const timed = async (deadline?: number) => {
      const began = performance.now()
      const on = deadline === undefined ? app.state : app.state.within(deadline)
      await t.rejects(async () => on.get('k:1'), { code: 'FST_BASTION_STATE_UNAVAILABLE', statusCode: 503, headers: { 'retry-after': '2' } })
      return performance.now() - began
    }
    const first = await timed()
    t.ok(first >= 55 && first < 110, `${first.toFixed(0)} ms`)
    const next = await timed()
    t.ok(next < 20, `${next.toFixed(1)} ms`)
    t.equal(await app.state.answers(), false)
    t.equal(app.state.local.answers(), true)
    through.delayMs.value = 0
    const back = performance.now()
    while (!await app.state.answers()) await pause(10)
    t.ok(performance.now() - back < 4000, `back after ${(performance.now() - back).toFixed(0)} ms`)
    t.equal(await app.state.get('k:1'), 'v')
    t.match(recorded, [
      { type: 'state_away', details: { reason: 'no answer within 60 ms', severity: 'critical' } },
      { type: 'state_back', details: { awayMs: Number } },
    ])
    t.equal(recorded.length, 2)
  })

  await t.test('negative control: the client alone, as it comes, waits as long as the server does', async t => {
    const through = await tap(t, url)
    const client = new Redis(through.url)
    t.teardown(() => client.disconnect())
    await client.get('k')
    through.delayMs.value = 1500
    const began = performance.now()
    await client.get('k')
    t.ok(performance.now() - began > 1400)
  })

  await t.test('a process that was busy does not take that for a server that is late', async t => {
    const { app, recorded } = await build(t, { redis: url, prefix: 'busy', deadline: 50 })
    for (let round = 0; round < 3; round++) {
      const answer = app.state.get('k:1')
      const until = performance.now() + 300
      while (performance.now() < until);
      t.equal(await answer, null)
    }
    t.strictSame(recorded, [])
  })

  await t.test('a server without memory: 503 and a loud event, and nothing that is held is lost', async t => {
    const own = await redis(t)
    if (own === null) return
    const { app, recorded } = await build(t, { redis: own.url, prefix: 'full' })
    await app.state.claim('codes:used', '1', 60_000)
    const counter = app.state.counter({ name: 'c', windows: [{ limit: 1, ms: 60_000 }] })
    await counter.take('over')
    const client = new Redis(own.url)
    t.teardown(() => client.disconnect())
    await client.config('SET', 'maxmemory', '1mb')
    await t.rejects(async () => app.state.claim('codes:fresh', '1', 60_000), { code: 'FST_BASTION_STATE_FULL', statusCode: 503 })
    t.match(recorded, [{ type: 'state_full', details: { effect: 'refused' } }])
    t.equal(await app.state.get('codes:used'), '1')
    const [over, fresh] = await Promise.allSettled([counter.take('over'), counter.take('fresh')])
    t.match(over, { value: { allowed: false } }, 'who is over a limit is refused by it, whatever becomes of who asks in the same turn')
    t.match(fresh, { reason: { code: 'FST_BASTION_STATE_FULL' } })
    await client.config('SET', 'maxmemory', '0')
    t.equal(await app.state.claim('codes:used', '1', 60_000), false)
    t.equal(await app.state.claim('codes:fresh', '1', 60_000), true)
  })

  await t.test('a replica that is wanted and not there: what should be ended counts as unknown', async t => {
    const { app, recorded } = await build(t, { redis: url, prefix: 'replicas', replicas: 1, deadline: 1000 }) // an idle server looks for who has waited long enough ten times a second
    t.equal(await app.state.get('k:1'), null)
    const client = looking(t)
    await client.script('FLUSH')
    await client.call('CONFIG', 'RESETSTAT')
    await t.rejects(async () => app.state.raise('g:1', 7, 60_000), StateUnavailable)
    t.notMatch(await client.info('commandstats'), /evalsha/, 'a script that the server might not know yet would be sent again after it was asked for replicas')
    t.match(recorded, [{ type: 'state_unconfirmed', details: { severity: 'critical' } }])
    await t.rejects(async () => app.state.claim('k:1', '1', 60_000), StateUnavailable)
    await t.rejects(async () => app.state.delete('k:1'), StateUnavailable)
    t.equal((await app.state.add('t:1', 1, 1000)).count, 1, 'counting needs none')
  })

  await t.test('slots are those of the server', async t => {
    const client = looking(t)
    const asked = await client.call('CLUSTER', 'KEYSLOT', 'x').then(() => true, () => false)
    if (!asked) {
      t.equal(slotOf('123456789'), 0x31c3 % 16_384, 'the check value of CRC-16/XMODEM')
      return
    }
    for (const tag of ['', 'a', '123456789', 'kQ_3-zz0']) t.equal(slotOf(tag), Number(await client.call('CLUSTER', 'KEYSLOT', `{${tag}}x`)), tag)
  })
})

t.test('a server that is not there at boot: the service starts, refuses, and goes on once it is there', async t => {
  const { app, recorded } = await build(t, { redis: 'redis://127.0.0.1:1', prefix: 'gone' })
  await t.rejects(async () => app.state.get('k'), { code: 'FST_BASTION_STATE_UNAVAILABLE' })
  t.match(recorded, [{ type: 'state_away' }])
})
