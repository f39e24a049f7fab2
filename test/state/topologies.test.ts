/** State on Redis in its other forms: a cluster, a group of sentinels, replicas, a client of one's own, Valkey. */
import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import { Cluster, Redis } from 'ioredis'
import t, { type Test } from 'tap'
import events, { type SecurityEvent } from '../../plugins/events.js'
import plan from '../../plugins/plan/index.js'
import state, { REDIS_OPTIONS, StateUnavailable, type RedisConnection, type State, type StateOptions } from '../../plugins/state/index.js'
import { Names } from '../../plugins/state/names.js'
import { slotOf } from '../../plugins/state/slot.js'
import { clock, stalledMs, watchStalls } from '../fixtures/stalls.js'
import { ownRedis, redis, redisCluster, redisSentinel, type OwnServer } from '../services.js'
import { holdsContract } from './contract.js'

const secret = 'a secret of at least thirty-two bytes'
const DEADLINE_MS = 100
/** What an operation may take beyond its deadline. */
const SLACK_MS = 50
const LONG = 60_000
const SLOTS = 16_384

const stalls = watchStalls()

interface Built { app: FastifyInstance, recorded: SecurityEvent[] }

async function build (t: Test, options: StateOptions): Promise<Built> {
  const recorded: SecurityEvent[] = []
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  app.events.listen(event => { recorded.push(event) })
  await app.register(state, { secret, ...options })
  return { app, recorded }
}

/** A client of the test's own, to look with. */
function looking (t: Test, { url }: { url: string }): Redis {
  const client = new Redis(url)
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  return client
}

async function holds (t: Test, name: string, connection: RedisConnection): Promise<void> {
  await holdsContract(t, name, async (t, { prefix }) => {
    const clock = { ms: 1_700_000_000_000 }
    const { app } = await build(t, { redis: connection, prefix, now: () => clock.ms, deadline: 5000 })
    return { state: app.state, clock, elapse: ms => pause(ms) }
  }, { rounds: 1 })
}

/** Where an operation came to, and how long it took while this process ran. */
interface Outcome { from: number, to: number, ownMs: number, error: unknown, answer: unknown }

async function outcomeOf (operation: () => unknown): Promise<Outcome> {
  const from = clock()
  let [answer, error]: unknown[] = [undefined, null]
  try {
    answer = await operation()
  } catch (caught) {
    error = caught
  }
  const to = clock()
  return { from, to, ownMs: to - from, error, answer }
}

/** Does it again and again until it is told to stop. */
function repeating (operation: () => unknown, everyMs = 10): { seen: Outcome[], stop: () => Promise<void> } {
  const seen: Outcome[] = []
  const told = { isOver: false }
  const running = (async () => {
    while (!told.isOver) {
      seen.push(await outcomeOf(operation))
      await pause(everyMs)
    }
  })()
  return {
    seen,
    async stop () {
      told.isOver = true
      await running
    },
  }
}

/** Those that took longer than their deadline allows, although this process was not in the way. */
function late (seen: readonly Outcome[]): number[] {
  return seen.filter(({ from, to }) => to - from > DEADLINE_MS + SLACK_MS).map(({ from, to }) => to - from - stalledMs(stalls, from, to)).filter(ms => ms > DEADLINE_MS + SLACK_MS)
}

const slowest = (seen: readonly Outcome[]) => Math.max(...seen.map(({ ownMs }) => ownMs)).toFixed(0)
const last503 = (seen: readonly Outcome[]) => Math.max(0, ...seen.filter(({ error }) => error !== null).map(({ to }) => to))

async function until (isSo: () => Promise<boolean>): Promise<number> {
  while (!await isSo()) await pause(10)
  return clock()
}

/** A server becomes the replica of another. */
async function follow (t: Test, replica: OwnServer, master: OwnServer): Promise<void> {
  const client = looking(t, replica)
  await client.config('SET', 'masterauth', new URL(master.url).password)
  await client.call('REPLICAOF', master.host, master.port)
  await until(async () => /^master_link_status:up/m.test(await client.info('replication')))
}

/** A master and its replica, without anybody who replaces one by the other. */
async function pair (t: Test): Promise<[OwnServer, OwnServer] | null> {
  const [master, replica] = await Promise.all([ownRedis(t), ownRedis(t)])
  if (master === null || replica === null) return null
  await follow(t, replica, master)
  return [master, replica]
}

t.test('a Redis Cluster', async t => {
  const cluster = await redisCluster(t)
  if (cluster === null) return
  const { nodes, password } = cluster
  const connection = { cluster: nodes.map(({ host, port }) => ({ host, port })), password }

  await holds(t, 'cluster', connection)

  await t.test('slots are those of the cluster, and all keys of one script are in one of them', async t => {
    const client = looking(t, nodes[0]!)
    const names = new Names('p', secret)
    const keys = Array.from({ length: 50 }, (_key, i) => names.of('count', `limits:c\0${i}`))
    for (const { name, slot } of keys) t.equal(slot, Number(await client.call('CLUSTER', 'KEYSLOT', name)))
    for (const tag of ['', 'a', '123456789', 'kQ_3-zz0']) t.equal(slotOf(tag), Number(await client.call('CLUSTER', 'KEYSLOT', tag)), tag)
    t.equal(names.of('ban', 'limits:c\0x').slot, names.of('count', 'limits:c\0x').slot)
  })

  await t.test('a client of one\'s own, and replicas that cannot be waited for', async t => {
    const client = new Cluster(connection.cluster, { redisOptions: { ...REDIS_OPTIONS, password } })
    t.teardown(() => client.disconnect())
    const { app } = await build(t, { redis: client as never, prefix: 'own' })
    await app.state.set('k:1', 'v', LONG)
    t.same(await app.state.getMany(['k:1', 'k:2']), ['v', null])
    await t.rejects(build(t, { redis: connection, replicas: 1 }), { code: 'FST_BASTION_STATE_MISCONFIGURED', message: /^state: replicas/ })
  })

  await t.test('a master is killed: those of the others go on, its own fail in time and come back by themselves', async t => {
    // As an operator has it for whom half a service is better than none: else all of them stop until it is replaced.
    for (const node of nodes) await looking(t, node).config('SET', 'cluster-require-full-coverage', 'no')
    const { app, recorded } = await build(t, { redis: connection, prefix: 'kill' })
    const names = new Names('kill', secret)
    const keyOn = (master: number) => {
      for (let i = 0; ; i++) if (Math.floor(names.of('value', `k:${i}`).slot * 3 / SLOTS) === master) return `k:${i}`
    }
    const keys = [0, 1, 2].map(keyOn)
    for (const key of keys) await app.state.set(key, 'v', LONG)
    const loads = keys.map(key => repeating(() => app.state.get(key)))
    const counter = app.state.counter({ name: 'c', windows: [{ limit: 1_000_000, ms: LONG }] })
    const counting = repeating(() => counter.take('somebody'))
    await pause(500)
    const killed = clock()
    await nodes[0]!.kill()
    const heir = looking(t, nodes[3]!)
    const replaced = await until(async () => (await heir.role())[0] === 'master')
    await until(async () => clock() - last503(loads[0]!.seen) > 500 || clock() - replaced > 5000)
    for (const load of [...loads, counting]) await load.stop()
    const [dead, ...alive] = loads.map(({ seen }) => seen) as [Outcome[], Outcome[], Outcome[]]

    t.strictSame(alive.flat().filter(({ error }) => error !== null).map(({ from, error }) => [from - killed, String(error)]), [], 'the others are not away')
    t.strictSame(late([...dead, ...alive.flat(), ...counting.seen]), [], 'nothing takes longer than its deadline')
    const failed = dead.filter(({ error }) => error !== null)
    t.ok(failed.length > 10 && failed.every(({ error }) => error instanceof StateUnavailable), `${failed.length} of ${dead.length} were refused`)
    t.ok(dead.every(({ error, answer }) => error !== null || answer === 'v'), 'and what was answered is what was there')
    const wellMs = last503(dead) - replaced
    t.ok(wellMs < 2000, `well ${wellMs.toFixed(0)} ms after the replica took over`)
    t.strictSame(recorded.map(({ type }) => type), ['state_away', 'state_back'])
    t.equal(await app.state.answers(), true)
    t.comment(`replaced after ${(replaced - killed).toFixed(0)} ms, well ${wellMs.toFixed(0)} ms later; slowest: of the dead ${slowest(dead)} ms, of the others ${slowest(alive.flat())} ms`)
  })
})

t.test('a group of sentinels', async t => {
  const group = await redisSentinel(t)
  if (group === null) return
  const { sentinels, name, password, master, replica } = group
  const connection = { sentinels: sentinels.map(({ host, port }) => ({ host, port })), name, password, sentinelPassword: password }

  await holds(t, 'sentinel', connection)

  await t.test('the master is killed while tokens are ended: what was ended stays so, what could not be said to be ended was refused', async t => {
    const { app, recorded } = await build(t, { redis: connection, prefix: 'failover', replicas: 1 })
    const { state } = app
    const alive = Array.from({ length: 3000 }, (_family, i) => `tokens:family:${i}`)
    await Promise.all(alive.map(family => state.within(5000).set(family, 'alive', LONG)))
    const ended: string[] = []
    let next = 0
    const ending = Array.from({ length: 4 }, () => repeating(async () => {
      const family = alive[next++]!
      await state.delete(family)
      ended.push(family)
    }, 2))
    const reading = repeating(() => state.get(alive.at(-1)!))
    await pause(400)
    const killed = clock()
    await master.kill()
    const sentinel = looking(t, sentinels[0]!)
    const replaced = await until(async () => Number((await sentinel.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name) as string[])[1]) === replica.port)
    await until(async () => clock() - last503(reading.seen) > 300 || clock() - replaced > 5000)
    const endings = ending.flatMap(({ seen }) => seen)
    const before = ended.length
    await pause(300)
    for (const load of [...ending, reading]) await load.stop()

    const found = await state.within(5000).getMany(ended)
    t.ok(before > 10, `${before} were ended before`)
    t.strictSame(found.filter(value => value !== null), [], `none of ${ended.length} is alive on the one that took over`)
    t.strictSame(late([...endings, ...reading.seen]), [], 'nothing takes longer than its deadline')
    t.ok(reading.seen.every(({ error }) => error === null || error instanceof StateUnavailable))
    const wellMs = last503(reading.seen) - replaced
    t.ok(wellMs < 2000, `what is read is well ${wellMs.toFixed(0)} ms after sentinels named the replica`)
    t.equal(ended.length, before, 'with no replica left nothing is said to be ended')
    await t.rejects(async () => state.delete(alive.at(-1)!), StateUnavailable)
    t.equal((await state.add('sign-in:name', 1, LONG)).count, 1, 'and what needs none goes on')
    // ioredis breaks a connection again where a second sentinel tells of the same failover.
    const told = recorded.map(({ type }) => type)
    t.match(told.filter(type => type !== 'state_unconfirmed').join(), /^state_away,state_back(?:,state_away,state_back)?$/)
    t.equal(told.filter(type => type === 'state_unconfirmed').length, 1, 'that nothing can be confirmed any more is said once')

    const another = await ownRedis(t)
    await follow(t, another!, replica)
    await until(async () => (await outcomeOf(() => state.delete(alive.at(-1)!))).error === null)
    t.equal(await state.get(alive.at(-1)!), null, 'and with another replica it goes on, without a restart')
    t.comment(`named after ${(replaced - killed).toFixed(0)} ms, well ${wellMs.toFixed(0)} ms later; ${ended.length} ended before; slowest ${slowest(endings)} ms (ending), ${slowest(reading.seen)} ms (reading)`)
  })
})

/** Ends families one after the other until it is killed; answers how many were said to be ended, and how many of those live on the replica. */
async function endUntilKilled (t: Test, [master, replica]: [OwnServer, OwnServer], options: StateOptions, killing: () => Promise<unknown>): Promise<[ended: number, alive: number]> {
  const { app } = await build(t, { redis: master.url, ...options })
  const families = Array.from({ length: 5000 }, (_family, i) => `tokens:family:${i}`)
  await Promise.all(families.map(family => app.state.within(5000).set(family, 'alive', LONG)))
  const heir = looking(t, replica)
  await until(async () => await heir.dbsize() >= families.length)
  const ended: string[] = []
  let next = 0
  const loads = Array.from({ length: 4 }, () => repeating(async () => {
    const family = families[next++]!
    await app.state.delete(family)
    ended.push(family)
  }, 1))
  await until(async () => ended.length > 50)
  await killing()
  await pause(50)
  for (const load of loads) await load.stop()
  await replica.resume()
  await heir.call('REPLICAOF', 'NO', 'ONE')
  const { app: after } = await build(t, { redis: replica.url, prefix: options.prefix! })
  const found = await after.state.within(5000).getMany(ended)
  return [ended.length, found.filter(value => value !== null).length]
}

t.test('what a replica must have before it counts as done: five masters are killed, nothing comes back to life', async t => {
  for (let round = 0; round < 5; round++) {
    const servers = await pair(t)
    if (servers === null) return
    const [ended, alive] = await endUntilKilled(t, servers, { prefix: `r${round}`, replicas: 1 }, () => servers[0].kill())
    t.equal(alive, 0, `none of ${ended} is alive`)
  }
})

t.test('a replica that is gone, or that hangs: what should be ended is refused, what needs none goes on', async t => {
  const servers = await pair(t)
  if (servers === null) return
  const [master, replica] = servers
  const { app, recorded } = await build(t, { redis: master.url, prefix: 'gone', replicas: 1 })
  const { state } = app
  const refuses = async (state: State, family: string) => {
    const outcome = await outcomeOf(() => state.delete(family))
    t.ok(outcome.error instanceof StateUnavailable)
    t.strictSame(late([outcome]), [], `after ${outcome.ownMs.toFixed(0)} ms`)
    t.equal(await state.get('tokens:family:2'), 'alive')
    t.equal((await state.counter({ name: 'c', windows: [{ limit: 1000, ms: LONG }] }).take('a')).allowed, true)
  }
  await state.set('tokens:family:1', 'alive', LONG)
  await state.set('tokens:family:2', 'alive', LONG)
  await state.set('tokens:family:3', 'alive', LONG)
  await until(async () => (await outcomeOf(() => state.delete('tokens:family:4'))).error === null)
  await replica.stop()
  await refuses(state, 'tokens:family:1')
  await replica.resume()
  await until(async () => (await outcomeOf(() => state.delete('tokens:family:1'))).error === null)
  await replica.kill()
  await refuses(state, 'tokens:family:3')
  t.strictSame(recorded.filter(({ details }) => details.severity === undefined && details.awayMs === undefined), [])
})

t.test('negative control: without replicas a failover brings back what was ended', async t => {
  const servers = await pair(t)
  if (servers === null) return
  const [master, replica] = servers
  // A replica that stands still, and has lost its connection, hears no more of the master.
  const [ended, alive] = await endUntilKilled(t, servers, { prefix: 'none' }, async () => {
    await replica.stop()
    await looking(t, master).call('CLIENT', 'KILL', 'TYPE', 'replica')
    await pause(150)
    await master.kill()
  })
  t.ok(alive > 0, `${alive} of ${ended} that were ended are alive`)
})

t.test('a client of one\'s own that pipelines by itself', async t => {
  const server = await redis(t)
  if (server === null) return
  const client = new Redis(server.url, { ...REDIS_OPTIONS, enableAutoPipelining: true })
  t.teardown(() => client.disconnect())
  await holds(t, 'autopipelining', client as never)
})

t.test('a client of one\'s own that pipelines by itself: a Redis that hangs costs a deadline, and is used once it goes on', async t => {
  const server = await ownRedis(t)
  if (server === null) return
  const client = new Redis(server.url, { ...REDIS_OPTIONS, enableAutoPipelining: true })
  t.teardown(() => client.disconnect())
  const { app, recorded } = await build(t, { redis: client as never, prefix: 'auto' })
  await app.state.set('k:1', 'v', LONG)
  await server.stop()
  const outcomes = await Promise.all(Array.from({ length: 50 }, () => outcomeOf(() => app.state.get('k:1'))))
  t.ok(outcomes.every(({ error }) => error instanceof StateUnavailable))
  t.strictSame(late(outcomes), [])
  await server.resume()
  const resumed = clock()
  const well = await until(async () => app.state.answers() as Promise<boolean>)
  t.ok(well - resumed < 2000, `well after ${(well - resumed).toFixed(0)} ms`)
  t.equal(await app.state.get('k:1'), 'v')
  t.strictSame(recorded.map(({ type }) => type), ['state_away', 'state_back'])
})

t.test('a client that has given up connects again', async t => {
  const server = await ownRedis(t)
  if (server === null) return
  const { host, port, url } = server
  const { app, recorded } = await build(t, { redis: { host, port, password: new URL(url).password, retryStrategy: () => null }, prefix: 'revived' })
  await app.state.set('k:1', 'v', LONG)
  await server.kill()
  await t.rejects(async () => app.state.get('k:1'), StateUnavailable)
  await pause(300)
  await server.restart()
  const restarted = clock()
  const well = await until(async () => app.state.answers() as Promise<boolean>)
  t.ok(well - restarted < 2000, `well after ${(well - restarted).toFixed(0)} ms`)
  t.strictSame(recorded.map(({ type }) => type), ['state_away', 'state_back'])
})

const valkey = (process.env.PATH ?? '').split(delimiter).map(folder => join(folder, 'valkey-server')).find(path => existsSync(path))

t.test('Valkey', { skip: valkey === undefined && 'needs valkey-server on the PATH' }, async t => {
  const folder = mkdtempSync(join(tmpdir(), 'bastion-valkey-'))
  t.teardown(() => { rmSync(folder, { recursive: true }) })
  symlinkSync(valkey!, join(folder, 'valkey-server'))
  const server = await ownRedis(t, { env: { PATH: folder } })
  if (server === null) return
  t.match(await looking(t, server).info('server'), /^valkey_version:/m)
  await holds(t, 'valkey', server.url)
})
