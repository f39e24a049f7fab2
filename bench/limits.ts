/**
 * What one decision of a limiter costs, in memory and on Redis: `npm run bench -- limits`.
 *
 * The suite's limits beside @fastify/rate-limit and rate-limiter-flexible, in one run, in alternating rounds;
 * on Redis with the same client options. Medians of processor time in this process, of the time that passed, and, on
 * Redis, of the server's processor time. `redis-server` must be on the PATH.
 */
import rateLimit from '@fastify/rate-limit'
import Fastify from 'fastify'
import type { Redis } from 'ioredis'
import { RateLimiterMemory, RateLimiterRedis, RateLimiterUnion } from 'rate-limiter-flexible'
import errors from '../plugins/errors.js'
import events from '../plugins/events.js'
import identity from '../plugins/identity.js'
import limits from '../plugins/limits/index.js'
import plan from '../plugins/plan/index.js'
import state, { type Algorithm, type StateOptions } from '../plugins/state/index.js'
import { startRedis } from './redis-server.js'
import { median, rounded } from './statistics.js'

const ROUNDS = 9
const SUBJECTS = 10_000
const IN_MEMORY = 400_000
const ON_REDIS = 30_000
const IN_FLIGHT = 64
/** Too wide for anything here to be refused. */
const WINDOWS = [{ limit: 999_999, ms: 60_000 }, { limit: 9_999_999, ms: 3_600_000 }, { limit: 99_999_999, ms: 43_200_000 }]

type Decide = (subject: string) => unknown
interface Round { cpu: number, wall: number, server: number }

const subjects = Array.from({ length: SUBJECTS }, (_subject, i) => `203.${i >> 16}.${(i >> 8) & 255}.${i & 255}`)
const closing: (() => Promise<unknown>)[] = []

export async function measure () {
  const redis = await startRedis()
  const { client } = redis // one for all
  try {
    const onRedis = { redis: client as never, secret: 'the names of a benchmark are no secret', deadline: 5000 }
    const microseconds = {
      memory: await compare({ ...await ours('memory', {}), ...await official(), ...flexible() }, IN_MEMORY, 1, async () => 0),
      redis: await compare({ ...await ours('redis', onRedis), ...await official(client), ...flexible(client) }, ON_REDIS, IN_FLIGHT, async () => (await redis.used()).cpuMs),
    }
    return {
      redis: redis.version,
      settings: { rounds: ROUNDS, subjects: SUBJECTS, inMemory: IN_MEMORY, onRedis: ON_REDIS, inFlight: IN_FLIGHT },
      microseconds,
    }
  } finally {
    for (const close of closing) await close()
    await redis.stop()
  }
}

/** Each makes a whole decision, by the documented call of its package: the suite's limits, and the counter below them. */
async function ours (kind: string, options: StateOptions): Promise<Record<string, Decide>> {
  const app = Fastify()
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(state, options)
  await app.register(identity)
  await app.register(limits, { flood: false })
  await app.ready()
  closing.push(() => app.close())
  const check = (algorithm: Algorithm, windows: number): Decide => {
    const rule = { windows: WINDOWS.slice(0, windows).map(({ limit, ms }) => `${limit}/${ms / 1000}s`), algorithm }
    const name = `${kind} ${algorithm} ${windows}`
    return subject => app.limits.check(name, rule, subject)
  }
  const counter = app.state.counter({ name: `${kind} alone`, windows: WINDOWS })
  return {
    'suite, fixed window': check('fixed', 1),
    'suite, sliding window': check('sliding', 1),
    'suite, 3 sliding windows': check('sliding', 3),
    'suite, token bucket': check('bucket', 1),
    '(suite, its counter alone, 3 windows)': subject => counter.take(subject),
  }
}

async function official (redis?: Redis): Promise<Record<string, Decide>> {
  const app = Fastify()
  await app.register(rateLimit, { global: false, max: WINDOWS[0]!.limit, timeWindow: WINDOWS[0]!.ms, cache: 1e6, ...(redis !== undefined && { redis, nameSpace: 'f' }) })
  const limit = app.createRateLimit()
  await app.ready()
  closing.push(() => app.close())
  const request = { ip: '', routeOptions: { config: {} } }
  return {
    '@fastify/rate-limit, 1 window': subject => {
      request.ip = subject
      return limit(request as never)
    },
  }
}

function flexible (redis?: Redis): Record<string, Decide> {
  const limiters = WINDOWS.map(({ limit, ms }, i) => redis === undefined
    ? new RateLimiterMemory({ points: limit, duration: ms / 1000, keyPrefix: `m${i}` })
    : new RateLimiterRedis({ storeClient: redis, points: limit, duration: ms / 1000, keyPrefix: `r${i}` }))
  const union = new RateLimiterUnion(...limiters)
  return {
    'rate-limiter-flexible, 1 window': subject => limiters[0]!.consume(subject),
    'rate-limiter-flexible, 3 windows': subject => union.consume(subject),
  }
}

async function compare (contenders: Record<string, Decide>, times: number, inFlight: number, serverTime: () => Promise<number>) {
  const measured = new Map<string, Round[]>()
  for (let round = -1; round < ROUNDS; round++) {
    for (const [name, decide] of Object.entries(contenders)) {
      const result = await decideOften(decide, times, inFlight, serverTime)
      if (round >= 0) measured.set(name, [...measured.get(name) ?? [], result]) // the first round warms up
    }
  }
  const table = Object.fromEntries([...measured].map(([name, rounds]) => [name, {
    cpu: rounded(median(rounds.map(({ cpu }) => cpu)), 3),
    wall: rounded(median(rounds.map(({ wall }) => wall)), 3),
    ...inFlight > 1 && { server: rounded(median(rounds.map(({ server }) => server)), 3) },
  }]))
  console.log(inFlight === 1 ? 'in memory, µs a decision' : `on Redis, ${inFlight} in flight, µs a decision`)
  console.table(table)
  return table
}

async function decideOften (decide: Decide, times: number, inFlight: number, serverTime: () => Promise<number>): Promise<Round> {
  const before = await serverTime()
  const cpu = process.cpuUsage()
  const began = performance.now()
  let next = 0
  await Promise.all(Array.from({ length: inFlight }, async () => {
    while (next < times) {
      const answer = decide(subjects[next++ % SUBJECTS]!)
      if (answer instanceof Promise) await answer
    }
  }))
  const wall = (performance.now() - began) * 1000 / times
  const { user, system } = process.cpuUsage(cpu)
  return { cpu: (user + system) / times, wall, server: (await serverTime() - before) * 1000 / times }
}
