/** Redis is killed, stopped, slow, emptied, replaced, under load on real sockets: nobody hangs, and nobody gets in. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import rateLimit from '@fastify/rate-limit'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import type { LineReport } from '../fixtures/late-line.js'
import { oneProcess, PASSWORD, type Answer, type Process } from '../fixtures/processes.js'
import { clock, stalledMs, watchStalls } from '../fixtures/stalls.js'
import { TYPESCRIPT } from '../fixtures/typescript.js'
import { ownRedis, redisSentinel } from '../services.js'

/** The deadline of shared state, and what a request may take beyond it. */
const BOUND_MS = 150
/** What a refusal is held beyond that, where an address is refused as often as all of these together. */
const HELD_MS = 300
/** Milliseconds after which all is well again. */
const WELL_MS = 2000
/** Milliseconds that Redis may take for an answer of its own, while it is well. */
const DISTURBED_MS = 60
/** Milliseconds of load before and after an outage. */
const CALM_MS = 1200
/** Milliseconds between two requests of one client. */
const BREATH_MS = 15
/** `/limited`: so many a second from one address. */
const BUDGET = 30
/** Milliseconds before a failover of which a replica that nobody waits for may know nothing. */
const LOST_MS = 100
/** Bytes by which what is held may differ between two looks. */
const HEAP_SLACK = 6_000_000

/** What no answer may name: clients and servers of Redis, and what they say. */
const INTERNAL = /redis|ECONN|READONLY|NOSCRIPT|max ?retries|LOADING|CLUSTERDOWN|MOVED|MASTERDOWN|socket|stream|connection|within \d+ ms/i

const LATE_LINE = fileURLToPath(new URL('../fixtures/late-line.ts', import.meta.url))

const stalls = watchStalls()
const value = (text: string) => JSON.stringify({ value: text })

interface Pair { access_token: string, refresh_token: string }
const pairOf = ({ body }: Answer) => JSON.parse(JSON.parse(body).value) as Pair

/** Who asks; of what each of them is answered when all is well. */
type Who = 'anonymous' | 'good' | 'revoked' | 'refreshing' | 'leaving' | 'signing in' | 'operator'
interface Seen extends Answer { who: Who, to: number }

interface Load {
  seen: Seen[]
  /** Access tokens whose end was confirmed, and when. */
  ended: { token: string, at: number }[]
  stop: () => Promise<void>
}

/** Sixteen callers of all kinds, each of which waits for its answer. What they do is all that is going on. */
async function load (service: Process): Promise<Load> {
  const seen: Seen[] = []
  const ended: Load['ended'] = []
  const state = { isOver: false }

  async function ask (who: Who, path: string, more?: { body?: string, token?: string }): Promise<Answer> {
    const answer = await service.call(path, more)
    seen.push({ ...answer, who, to: answer.from + answer.ms })
    return answer
  }
  async function issue (who: Who): Promise<Pair | null> {
    const answer = await ask(who, '/issue', { body: value(who) })
    return answer.status === 200 ? pairOf(answer) : null
  }
  async function end (token: string): Promise<void> {
    if ((await ask('leaving', '/logout', { body: value(''), token })).status === 200) ended.push({ token, at: clock() })
  }
  async function repeat (step: () => Promise<unknown>, breath = BREATH_MS): Promise<void> {
    while (!state.isOver) {
      await step()
      await pause(breath)
    }
  }

  const good = (await issue('good'))!.access_token
  const revoked = (await issue('leaving'))!.access_token
  await end(revoked)
  let family = await issue('refreshing')
  const clients = [
    ...Array.from({ length: 4 }, () => repeat(() => ask('anonymous', '/limited'))),
    ...Array.from({ length: 5 }, () => repeat(() => ask('good', '/whole', { token: good }))),
    ...Array.from({ length: 2 }, () => repeat(() => ask('revoked', '/whole', { token: revoked }))),
    repeat(async () => {
      if (family === null) family = await issue('refreshing')
      if (family === null) return
      const answer = await ask('refreshing', '/refresh', { body: value(family.refresh_token) })
      if (answer.status === 200) family = pairOf(answer)
      // After a 503 the token may be spent, and then it is reuse: one signs in again.
      else if (answer.status === 401) family = null
    }),
    repeat(async () => {
      const pair = await issue('leaving')
      if (pair !== null) await end(pair.access_token)
      for (const { token } of ended.slice(-2)) await ask('revoked', '/whole', { token })
    }),
    repeat(() => ask('signing in', '/sign-in', { body: value(PASSWORD) }), 200),
    ...Array.from({ length: 2 }, () => repeat(() => ask('operator', '/ready'), 30)),
  ]
  return {
    seen,
    ended,
    async stop () {
      state.isOver = true
      await Promise.all(clients)
    },
  }
}

/** What the answers of one kind of caller were within a time: those that were asked and answered in it. */
function statuses (seen: readonly Seen[], who: Who, from: number, to: number): number[] {
  const found = seen.filter(answer => answer.who === who && answer.from >= from && answer.to <= to)
  return [...new Set(found.map(({ status }) => status))].sort((a, b) => a - b)
}

/** Asks Redis itself, past the service, and tells how long it took at most while this process ran: a machine that is too busy makes it away in truth. */
function witness (url: string): () => number {
  const client = new Redis(url)
  client.on('error', () => {})
  let slowest = 0
  const told = { isOver: false }
  const asking = (async () => {
    while (!told.isOver) {
      const from = clock()
      await client.ping()
      const to = clock()
      slowest = Math.max(slowest, to - from - stalledMs(stalls, from, to))
      await pause(10)
    }
  })()
  asking.catch(() => {}) // it was still asking when it was sent away
  return () => {
    told.isOver = true
    client.disconnect()
    return slowest
  }
}

interface Outage {
  /** Where the witness asks, before and after. */
  urls: [before: string, after: string]
  /** What happens; answers once Redis does not answer any more. */
  begin: () => Promise<unknown>
  /** How it is that long. */
  ms: number
  /** Answers when it is back: a time of the clock. */
  end: () => Promise<number>
  /** What good tokens get once it is back: 401 where what was known of them is gone. */
  goodAfter: 200 | 401
  /** Whether it is away for the process at all. */
  isAway?: boolean
  whenAway?: { tokens?: 'accept', limits?: 'allow' | 'refuse' }
  /** Another server takes over, which may have missed the last of what was ended. */
  isFailover?: boolean
}

/** One outage under load, from before until after; once more where Redis was late by itself, because then there were two. */
async function survives (t: Test, service: Process, outage: Outage): Promise<void> {
  for (let left = outage.isFailover === true ? 0 : 2; !await goesThrough(t, service, outage, left === 0); left--);
}

/** False where it has to be done again. */
async function goesThrough (t: Test, service: Process, {
  urls, begin, ms, end, goodAfter, isAway = true, whenAway = {}, isFailover = false,
}: Outage, isLast: boolean): Promise<boolean> {
  const told = (await service.inside()).events.length
  const started = clock()
  const { seen, ended, stop } = await load(service)
  const before = witness(urls[0])
  await pause(CALM_MS)
  const slowestBefore = before()
  const { heapUsed: heapBefore } = await service.inside()
  const leaves = clock()
  await begin()
  const away = clock()
  await pause(ms)
  const { heapUsed: heapDuring } = await service.inside()
  const returns = clock()
  const back = await end()
  const after = witness(urls[1])
  const lastAway = () => Math.max(back, ...seen.filter(({ status }) => status === 503).map(({ to }) => to))
  while (clock() - lastAway() < CALM_MS && clock() - back < WELL_MS + CALM_MS) await pause(50)
  const slowestRedis = Math.max(slowestBefore, after())
  await stop()
  if (slowestRedis > DISTURBED_MS && !isLast) {
    t.comment(`Redis itself took ${slowestRedis.toFixed(0)} ms for an answer: once more`)
    return false
  }
  const { heapUsed: heapAfter, events, stalls: theirs, failures } = await service.inside()
  const allStalls = [...stalls, ...theirs]

  // Deadlines.
  const phases = { before: [started, leaves], during: [leaves, back], after: [back, Infinity] } as const
  const slowestSignIn = Math.max(...seen.filter(({ who, to }) => who === 'signing in' && to < leaves).map(({ ms }) => ms))
  const figures: string[] = []
  for (const [phase, [from, to]] of Object.entries(phases)) {
    const asked = seen.filter(answer => answer.to >= from && answer.to < to)
    // A sign-in computes a hash, with shared state before and after it.
    const quick = asked.filter(({ who }) => who !== 'signing in')
    const own = new Map(quick.filter(({ ms }) => ms > BOUND_MS / 2).map(answer => [answer, answer.ms - stalledMs(allStalls, answer.from, answer.to)]))
    const late = [...own].filter(([{ status }, ms]) => ms > BOUND_MS + (status === 401 ? HELD_MS : 0))
    t.strictSame(late.map(([{ who, status, ms }, own]) => ({ who, status, ms, own })), [], `${phase}: no answer takes longer than ${BOUND_MS} ms`)
    const signIns = asked.filter(({ who, from, to, ms }) => who === 'signing in' && ms - stalledMs(allStalls, from, to) > BOUND_MS + slowestSignIn)
    t.strictSame(signIns.map(({ ms }) => ms), [], `${phase}: nor one that computes a hash, beyond what the hash takes`)
    figures.push(`${phase} ${Math.max(...quick.map(({ ms }) => ms)).toFixed(0)} ms of ${asked.length}${own.size === 0 ? '' : ` (${Math.max(...own.values()).toFixed(0)} of them not stalled)`}`)
  }

  // What is said.
  const refusals = seen.filter(({ status }) => status >= 400)
  t.strictSame([...new Set(seen.map(({ status }) => status))].filter(status => ![200, 401, 429, 503].includes(status)), [], 'nothing but 200, 401, 429 and 503')
  t.strictSame(refusals.filter(({ body }) => INTERNAL.test(body)).map(({ body }) => body).slice(0, 3), [], 'no answer tells what is behind it')
  const problems = refusals.filter(({ who, status }) => status === 503 && who !== 'operator')
  t.strictSame(problems.filter(({ headers }) => !/^application\/problem\+json/.test(String(headers['content-type'])) || !(Number(headers['retry-after']) >= 1)).slice(0, 3), [],
    'every 503 is a problem that says when to come again')

  // Who gets in.
  const accepts = whenAway.tokens === 'accept'
  const revokedIn = seen.filter(({ who, status, to }) => who === 'revoked' && status === 200 && !(accepts && to >= leaves && to <= back + WELL_MS))
  t.strictSame(revokedIn.map(({ from }) => from - leaves), [], 'what was ended is never accepted')
  const forgotten: string[] = []
  for (const { token, at } of ended) {
    const { status } = await service.call('/whole', { token })
    if (status !== 401 && !(isFailover && at > leaves - LOST_MS && at <= away)) forgotten.push(`${(at - leaves).toFixed(0)} ms: ${status}`)
  }
  t.strictSame(forgotten, [], `none of the ${ended.length} tokens whose end was confirmed works afterwards`)
  t.strictSame(statuses(seen, 'good', started, leaves), [200])
  t.strictSame(statuses(seen, 'revoked', started, leaves), [401])
  t.strictSame(statuses(seen, 'signing in', started, leaves), [200])
  if (isAway) {
    const limitsRefuse = whenAway.limits === 'refuse'
    t.strictSame(statuses(seen, 'good', away, returns), limitsRefuse ? [503] : accepts ? [200] : [503], 'good tokens while it is away')
    const notKnown = limitsRefuse || !accepts ? 503 : 200
    t.strictSame(statuses(seen, 'revoked', away, returns).filter(status => status !== 401 && status !== notKnown), [], 'ended ones, where nobody can ask: 401 by who knows')
    for (const who of ['refreshing', 'signing in', 'operator'] as const) t.strictSame(statuses(seen, who, away, returns), [503], `${who} while it is away`)
    t.strictSame(statuses(seen, 'anonymous', away, returns), limitsRefuse ? [503] : whenAway.limits === 'allow' ? [200] : [200, 429], 'the anonymous while it is away')
    if (whenAway.limits === undefined) {
      const passed = seen.filter(({ who, status, from, to }) => who === 'anonymous' && status === 200 && from >= away && to <= returns).length
      t.ok(passed <= BUDGET * (2 + (returns - away) / 1000), `the process counts for itself: ${passed} passed`)
    }
  }

  // All is well.
  const last503 = lastAway()
  t.ok(last503 - back <= WELL_MS, `all is well ${(last503 - back).toFixed(0)} ms after its return`)
  // Where tokens are accepted meanwhile the last 503 does not tell when that ended: readiness does.
  const ready = Math.min(...seen.filter(({ who, status, from }) => who === 'operator' && status === 200 && from > last503).map(({ to }) => to))
  t.strictSame(statuses(seen, 'good', ready, Infinity), [goodAfter])
  t.strictSame(statuses(seen, 'revoked', ready, Infinity), [401])
  t.strictSame(statuses(seen, 'operator', ready, Infinity), [200])
  const again = seen.filter(({ who, from, status }) => from > last503 && who === 'signing in' && status === 200)
  t.ok(again.length > 0, 'who signs in, is in')
  const { access_token: fresh } = pairOf(await service.call('/sign-in', { body: value(PASSWORD) }))
  t.equal((await service.call('/whole', { token: fresh })).status, 200)

  // What is recorded and what is held.
  const recorded = events.slice(told).filter(({ type }) => type === 'state_away' || type === 'state_back')
  // ioredis breaks a connection again where a second sentinel tells of the same failover.
  t.match(recorded.map(({ type }) => type).join(), isAway ? isFailover ? /^state_away,state_back(?:,state_away,state_back)?$/ : /^state_away,state_back$/ : /^$/)
  t.ok(heapDuring - heapBefore < HEAP_SLACK && heapAfter - heapBefore < HEAP_SLACK, 'what is held does not grow with the outage')
  t.ok(service.isRunning(), 'the process needed no restart')
  t.comment(`slowest: ${figures.join(', ')}; well after ${(last503 - back).toFixed(0)} ms; heap ${[heapBefore, heapDuring, heapAfter].map(bytes => (bytes / 1e6).toFixed(1)).join(' → ')} MB; ` +
    `${failures} failures logged; ${JSON.stringify(recorded.map(({ details }) => details))}; Redis itself at most ${slowestRedis.toFixed(0)} ms`)
  return true
}

async function isReady (service: Process): Promise<boolean> {
  return (await service.call('/ready')).status === 200
}

interface LateLine {
  port: number
  /** From now on answers come so late; answers how many bytes were sent to the server until then. */
  delay: (ms: number) => Promise<number>
  connected: () => Promise<void>
}

/** A way to a server on which its answers can be made late. */
async function lateLine (t: Test, port: number): Promise<LateLine> {
  const child = fork(LATE_LINE, [String(port)], { execArgv: TYPESCRIPT })
  t.teardown(async () => {
    child.disconnect()
    await once(child, 'exit')
  })
  const [said] = await once(child, 'message') as [LineReport]
  child.on('message', report => { Object.assign(said, report) })
  const until = async (isSo: () => boolean) => { while (!isSo()) await pause(5) }
  return {
    port: said.port,
    async delay (ms) {
      const { orders } = said
      child.send(ms)
      await until(() => said.orders > orders)
      return said.sentBytes
    },
    async connected () {
      const { connections } = said
      await until(() => said.connections > connections)
    },
  }
}

t.test('one process and its Redis', async t => {
  const redis = await ownRedis(t)
  if (redis === null) return
  const service = await oneProcess(t, redis.url)

  await t.test('Redis is killed, and comes back without its memory: 503 for credentials meanwhile, then they are unknown', async t => {
    await survives(t, service, {
      urls: [redis.url, redis.url],
      begin: () => redis.kill(),
      ms: 2000,
      async end () {
        const back = clock()
        await redis.restart()
        return back
      },
      goodAfter: 401,
    })
  })

  await t.test('Redis stops, and goes on: nothing of what it did meanwhile lets anybody in', async t => {
    await survives(t, service, {
      urls: [redis.url, redis.url],
      begin: () => redis.stop(),
      ms: 2500,
      async end () {
        const back = clock()
        await redis.resume()
        return back
      },
      goodAfter: 200,
    })
  })

  await t.test('Redis is emptied: nobody is known any more, and who signs in is in', async t => {
    const client = new Redis(redis.url)
    await survives(t, service, { urls: [redis.url, redis.url], begin: () => client.flushall(), ms: 500, end: async () => clock(), goodAfter: 401, isAway: false })
    client.disconnect()
  })
})

t.test('Redis is so slow that each answer comes five seconds late, then fast again; who accepts and allows meanwhile, does', async t => {
  const redis = await ownRedis(t)
  if (redis === null) return
  const line = await lateLine(t, redis.port)
  const near = new URL(redis.url)
  near.port = String(line.port)
  const service = await oneProcess(t, near.href, { OPTIONS: JSON.stringify({ tokens: { whenAway: 'accept' }, limits: { whenAway: 'allow' } }) })
  let sent = 0
  await survives(t, service, {
    urls: [near.href, near.href],
    async begin () {
      await line.delay(5000)
      // What is on its way still counts; from then on there are only probes, and attempts to connect.
      await pause(BOUND_MS)
      sent = await line.delay(5000)
    },
    ms: 2500,
    async end () {
      // The worst moment: a new connection has just asked, and its answers will be five seconds in coming.
      await line.connected()
      await pause(50)
      const sentMeanwhile = await line.delay(0) - sent
      t.ok(sentMeanwhile < 20_000, `${sentMeanwhile} bytes are sent to a Redis that does not answer`)
      return clock()
    },
    goodAfter: 200,
    whenAway: { tokens: 'accept', limits: 'allow' },
  })
})

t.test('the master is killed and sentinels put its replica in its place: no restart; who refuses what cannot be counted, does', async t => {
  const group = await redisSentinel(t)
  if (group === null) return
  const { sentinels, name, password, master, replica } = group
  const settings = { sentinels: sentinels.map(({ host, port }) => ({ host, port })), name, password, sentinelPassword: password }
  const service = await oneProcess(t, JSON.stringify(settings), { OPTIONS: JSON.stringify({ limits: { whenAway: 'refuse' } }) })
  const watchers = [sentinels[0]!, replica].map(({ url }) => new Redis(url))
  const [sentinel, heir] = watchers as [Redis, Redis]
  t.teardown(() => { for (const client of watchers) client.disconnect() })
  let killed = 0
  await survives(t, service, {
    urls: [master.url, replica.url],
    async begin () {
      await master.kill()
      killed = clock()
    },
    ms: 450,
    async end () {
      while ((await heir.role())[0] !== 'master') await pause(10)
      t.comment(`the replica is master ${(clock() - killed).toFixed(0)} ms after the master was killed`)
      // Until then nobody can know where it is.
      while (Number((await sentinel.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name) as string[])[1]) !== replica.port) await pause(10)
      t.comment(`a sentinel says so ${(clock() - killed).toFixed(0)} ms after the master was killed`)
      return clock()
    },
    goodAfter: 200,
    whenAway: { limits: 'refuse' },
    isFailover: true,
  })
})

t.test('a Redis that is stopped keeps no process from closing, nor from starting, and is used once it goes on', async t => {
  const redis = await ownRedis(t)
  if (redis === null) return
  const first = await oneProcess(t, redis.url)
  const { access_token: token } = pairOf(await first.call('/issue', { body: value('ada') }))
  await redis.stop()
  const asked = [first.call('/whole', { token }), first.call('/limited')]
  const began = clock()
  t.equal(await first.end(), 0)
  const closing = clock() - began
  t.ok(closing < 3000, `closed after ${closing.toFixed(0)} ms`)
  t.strictSame((await Promise.all(asked)).map(({ status }) => status), [503, 200], 'and what was asked is answered')

  const second = await oneProcess(t, redis.url)
  t.equal((await second.call('/limited')).status, 200)
  t.match(await second.call('/issue', { body: value('ada') }), { status: 503, headers: { 'retry-after': '2' } })
  t.equal(await isReady(second), false)
  await redis.resume()
  const resumed = clock()
  while (!await isReady(second)) await pause(10)
  t.ok(clock() - resumed < WELL_MS, `ready ${(clock() - resumed).toFixed(0)} ms after it goes on`)
  t.equal((await second.call('/issue', { body: value('ada') })).status, 200)
  t.strictSame((await second.inside()).events.map(({ type }) => type), ['state_away', 'state_back'])

  await redis.kill()
  const third = await oneProcess(t, redis.url)
  t.equal(await isReady(third), false)
  await redis.restart()
  const restarted = clock()
  while (!await isReady(third)) await pause(10)
  t.ok(clock() - restarted < WELL_MS, `ready ${(clock() - restarted).toFixed(0)} ms after its start`)
  t.equal((await third.call('/issue', { body: value('ada') })).status, 200)
})

t.test('negative control: @fastify/rate-limit hangs with ioredis as it comes, and with no queue tells what the client says [TRAP 6]', async t => {
  const redis = await ownRedis(t)
  if (redis === null) return
  async function limited (options: object): Promise<string> {
    const client = new Redis(redis!.url, options)
    client.on('error', () => {})
    const app = Fastify()
    t.teardown(async () => {
      client.disconnect()
      app.server.closeAllConnections()
      await app.close()
    })
    await app.register(rateLimit, { redis: client, max: 1000 })
    app.get('/', async () => 'in')
    await once(client, 'ready')
    return app.listen({ host: '127.0.0.1', port: 0 })
  }
  const hanging = await limited({})
  const telling = await limited({ enableOfflineQueue: false, maxRetriesPerRequest: 0 })
  t.equal((await fetch(hanging)).status, 200)
  t.equal((await fetch(telling)).status, 200)
  await redis.stop()
  await t.rejects(fetch(hanging, { signal: AbortSignal.timeout(1500) }), { name: 'TimeoutError' }, 'it hangs on a Redis that is stopped')
  await redis.kill()
  await t.rejects(fetch(hanging, { signal: AbortSignal.timeout(1500) }), { name: 'TimeoutError' }, 'and on one that is gone')
  const told = await fetch(telling)
  t.equal(told.status, 500)
  t.match(await told.text(), INTERNAL)
})
