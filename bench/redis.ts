/**
 * What shared state on Redis costs beside the same in memory: `npm run bench -- redis`.
 *
 * The service has a core of its own, as it has in memory; Redis, which elsewhere has a machine of its own, shares the other core with the load. So
 * what is compared is what the service does in both cases, as long as the other core is not full: that it is not is seen in how busy the service is.
 * Round trips are counted with one connection, where nothing is shared: how often Redis read something, for each request.
 */
import type { ChildProcess } from 'node:child_process'
import { asked, check, questions } from './asking.js'
import { startRedis, type RedisServer } from './redis-server.js'
import { alternate, CONNECTIONS, LOAD_CORE, order, serve, startLoad, stop, usage, type Server } from './rounds.js'
import { rounded, spread } from './statistics.js'

interface Round { rate: number, cpuMicros: number, busy: number, redisMicros: number, reads: number, p50: number, p99: number }

const CONTENDERS = ['suite', 'suite-redis', 'hand-wired-redis'] as const
type Name = typeof CONTENDERS[number]
const GOAL = 0.8
const ORDER = asked('order')

export async function measure (quick: boolean) {
  const settings = quick ? { rounds: 6, seconds: 0.4, warmUp: 1 } : { rounds: 12, seconds: 2, warmUp: 3 }
  const redis = await startRedis(LOAD_CORE)
  process.env.BENCH_REDIS = redis.url
  const load = startLoad()
  const servers = new Map<Name, Server>()
  try {
    for (const name of CONTENDERS) {
      const server = await serve(name, ORDER.settings)
      servers.set(name, server)
      await check(name, ORDER, server)
      await ask(load, redis, server, CONNECTIONS, settings.warmUp)
    }
    const alone = await alternate(CONTENDERS, 1, name => ask(load, redis, servers.get(name)!, 1, 0.5))
    const rounds = await alternate(CONTENDERS, settings.rounds, name => ask(load, redis, servers.get(name)!, CONNECTIONS, settings.seconds), 'Redis')
    const measured = Object.fromEntries(CONTENDERS.map(name => [name, summary(rounds[name], rounds.suite, alone[name][0]!)]))
    print(measured)
    const { ofMemory, ofMemoryByCpu, roundTrips } = measured['suite-redis']!
    const goals = [
      { goal: `throughput, of memory ≥ ${GOAL}`, measured: ofMemory.median, met: ofMemory.median >= GOAL },
      { goal: `by processor time, of memory ≥ ${GOAL}`, measured: ofMemoryByCpu.median, met: ofMemoryByCpu.median >= GOAL },
      { goal: 'one round trip', measured: roundTrips, met: roundTrips < 1.05 },
    ]
    console.table(goals)
    return { redis: redis.version, settings: { ...settings, connections: CONNECTIONS }, goals, measured }
  } finally {
    for (const server of servers.values()) await stop(server)
    load.kill()
    await redis.stop()
  }
}

async function ask (load: ChildProcess, redis: RedisServer, server: Server, connections: number, seconds: number): Promise<Round> {
  const [before, redisBefore] = [await usage(server), await redis.used()]
  const { requests, seconds: took, statuses, p50, p99 } = await order(load, { port: server.port, questions: questions(ORDER, server), connections, seconds, maySleep: true })
  const [after, redisAfter] = [await usage(server), await redis.used()]
  if (statuses[ORDER.status] !== requests) throw new Error(`not all were answered with ${ORDER.status}: ${JSON.stringify(statuses)}`)
  const cpuMs = after.cpuMs - before.cpuMs
  return {
    rate: requests / took,
    cpuMicros: cpuMs * 1000 / requests,
    busy: cpuMs / 1000 / took,
    redisMicros: (redisAfter.cpuMs - redisBefore.cpuMs) * 1000 / requests,
    reads: (redisAfter.reads - redisBefore.reads) / requests,
    p50,
    p99,
  }
}

/** What is compared is the same round of each. */
function summary (rounds: Round[], memory: Round[], { reads }: Round) {
  return {
    requestsPerSecond: spread(rounds.map(({ rate }) => rate), 0),
    cpuMicros: spread(rounds.map(({ cpuMicros }) => cpuMicros), 2),
    busy: spread(rounds.map(({ busy }) => busy), 2).median,
    redisMicros: spread(rounds.map(({ redisMicros }) => redisMicros), 2).median,
    roundTrips: rounded(reads),
    readsOfRedis: spread(rounds.map(({ reads }) => reads), 3).median,
    p50Ms: spread(rounds.map(({ p50 }) => p50), 2).median,
    p99Ms: spread(rounds.map(({ p99 }) => p99), 2).median,
    ofMemory: spread(rounds.map(({ rate }, i) => rate / memory[i]!.rate), 3),
    ofMemoryByCpu: spread(rounds.map(({ cpuMicros }, i) => memory[i]!.cpuMicros / cpuMicros), 3),
  }
}

function print (measured: Record<string, ReturnType<typeof summary>>): void {
  console.log(`\nauthenticated GET, ${CONNECTIONS} connections`)
  console.table(Object.fromEntries(Object.entries(measured).map(([name, { requestsPerSecond, cpuMicros, busy, redisMicros, roundTrips, readsOfRedis, p50Ms, p99Ms, ofMemory, ofMemoryByCpu }]) => [name, {
    'requests/s': requestsPerSecond.median,
    'CPU µs': cpuMicros.median,
    busy,
    'Redis µs': redisMicros,
    'round trips': roundTrips,
    'reads of Redis': readsOfRedis,
    'p50 ms': p50Ms,
    'p99 ms': p99Ms,
    'of memory': ofMemory.median,
    'q1–q3': `${ofMemory.q1}–${ofMemory.q3}`,
    'by CPU': ofMemoryByCpu.median,
  }])))
}
