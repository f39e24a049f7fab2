/**
 * What one decision of a limiter costs, in memory and on Redis: `node --import tsx bench/limits.ts`.
 *
 * The suite's counters beside the stores of @fastify/rate-limit and rate-limiter-flexible, in one run, in alternating rounds;
 * on Redis with the same client options. Medians of processor time in this process, of the time that passed, and, on
 * Redis, of the server's processor time. `redis-server` must be on the PATH.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createServer, type AddressInfo } from 'node:net'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import { RateLimiterMemory, RateLimiterRedis, RateLimiterUnion } from 'rate-limiter-flexible'
import { REDIS_OPTIONS } from '../plugins/state/connect.js'
import { memoryState } from '../plugins/state/memory.js'
import type { Algorithm, State } from '../plugins/state/port.js'
import { redisState } from '../plugins/state/redis.js'

const ROUNDS = 9
const SUBJECTS = 10_000
const IN_MEMORY = 400_000
const ON_REDIS = 30_000
const IN_FLIGHT = 64
/** Too wide for anything here to be refused. */
const WINDOWS = [{ limit: 999_999, ms: 60_000 }, { limit: 9_999_999, ms: 3_600_000 }, { limit: 99_999_999, ms: 43_200_000 }]

type Decide = (subject: string) => unknown
interface Round { cpu: number, wall: number, server: number }

const root = fileURLToPath(new URL('..', import.meta.url))
const require = createRequire(import.meta.url)
const Local = require('@fastify/rate-limit/store/LocalStore.js')
const Remote = require('@fastify/rate-limit/store/RedisStore.js')
const subjects = Array.from({ length: SUBJECTS }, (_subject, i) => `203.${i >> 16}.${(i >> 8) & 255}.${i & 255}`)

const memory = memoryState({ maxEntries: 1e6, maxSubjects: 1e6, now: Date.now, refuse () { throw new Error('full') }, forgot () {} })
const port = await freePort()
const directory = mkdtempSync(join(tmpdir(), 'bastion-bench-'))
const server = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', directory], { stdio: ['ignore', 'pipe', 'inherit'] })
for await (const line of server.stdout) if (String(line).includes('Ready to accept')) break
const client = new Redis(port, '127.0.0.1', REDIS_OPTIONS)
await once(client, 'ready')
const fail = (cause: unknown) => cause as Error
const redis = redisState({ client: client as never, isOwn: true, secret: 'the names of a benchmark are no secret', prefix: 'b', deadline: 5000, replicas: 0, local: memory, changed () {}, unavailable: fail, full: fail })

try {
  const results = {
    memory: await compare({ ...ours(memory), ...peersInMemory() }, IN_MEMORY, 1, async () => 0),
    redis: await compare({ ...ours(redis), ...peersOnRedis() }, ON_REDIS, IN_FLIGHT, serverCpu),
  }
  const version = (name: string) => JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8')).version as string
  const report = {
    date: new Date().toISOString(),
    node: process.version,
    machine: { cpu: cpus()[0]?.model, cores: cpus().length },
    versions: Object.fromEntries(['ioredis', '@fastify/rate-limit', 'rate-limiter-flexible'].map(name => [name, version(name)])),
    redis: /redis_version:(\S+)/.exec(await client.info('server'))?.[1],
    settings: { rounds: ROUNDS, subjects: SUBJECTS, inMemory: IN_MEMORY, onRedis: ON_REDIS, inFlight: IN_FLIGHT },
    microseconds: results,
  }
  mkdirSync(join(root, 'bench/results'), { recursive: true })
  writeFileSync(join(root, 'bench/results/limits.json'), `${JSON.stringify(report, null, 2)}\n`)
} finally {
  client.disconnect()
  server.kill()
  await once(server, 'exit')
  rmSync(directory, { recursive: true, force: true })
}

function ours (state: State): Record<string, Decide> {
  const counter = (algorithm: Algorithm, windows: number) => {
    const { take } = bound(state.counter({ name: `bench:${algorithm}:${windows}`, windows: WINDOWS.slice(0, windows), algorithm }))
    return (subject: string) => take(subject)
  }
  return {
    'suite, fixed, 1 window': counter('fixed', 1),
    'suite, sliding, 1 window': counter('sliding', 1),
    'suite, sliding, 3 windows': counter('sliding', 3),
    'suite, bucket, 1 window': counter('bucket', 1),
  }
}

function bound<T extends { take: (subject: string) => unknown }> (counter: T) {
  return { take: (subject: string) => counter.take(subject) }
}

function peersInMemory (): Record<string, Decide> {
  const store = new Local(false, false, 1e6)
  const done = () => {}
  const limiters = WINDOWS.map(({ limit, ms }, i) => new RateLimiterMemory({ points: limit, duration: ms / 1000, keyPrefix: `m${i}` }))
  const union = new RateLimiterUnion(...limiters)
  return {
    '@fastify/rate-limit, 1 window': subject => store.incr(subject, done, WINDOWS[0]!.ms, WINDOWS[0]!.limit),
    'rate-limiter-flexible, 1 window': subject => limiters[0]!.consume(subject),
    'rate-limiter-flexible, 3 windows': subject => union.consume(subject),
  }
}

function peersOnRedis (): Record<string, Decide> {
  const store = new Remote(false, false, client, 'f')
  const limiters = WINDOWS.map(({ limit, ms }, i) => new RateLimiterRedis({ storeClient: client, points: limit, duration: ms / 1000, keyPrefix: `r${i}` }))
  const union = new RateLimiterUnion(...limiters)
  return {
    '@fastify/rate-limit, 1 window': subject => new Promise((resolve, reject) => {
      store.incr(subject, (error: Error | null, result: unknown) => error === null ? resolve(result) : reject(error), WINDOWS[0]!.ms, WINDOWS[0]!.limit)
    }),
    'rate-limiter-flexible, 1 window': subject => limiters[0]!.consume(subject),
    'rate-limiter-flexible, 3 windows': subject => union.consume(subject),
  }
}

async function compare (contenders: Record<string, Decide>, times: number, inFlight: number, serverTime: () => Promise<number>) {
  const measured = new Map<string, Round[]>()
  for (let round = -1; round < ROUNDS; round++) {
    for (const [name, decide] of Object.entries(contenders)) {
      const result = await measure(decide, times, inFlight, serverTime)
      if (round >= 0) measured.set(name, [...measured.get(name) ?? [], result]) // the first round warms up
    }
  }
  const table = Object.fromEntries([...measured].map(([name, rounds]) => [name, {
    cpu: median(rounds.map(({ cpu }) => cpu)),
    wall: median(rounds.map(({ wall }) => wall)),
    ...inFlight > 1 && { server: median(rounds.map(({ server }) => server)) },
  }]))
  console.log(inFlight === 1 ? 'in memory, µs a decision' : `on Redis, ${inFlight} in flight, µs a decision`)
  console.table(table)
  return table
}

async function measure (decide: Decide, times: number, inFlight: number, serverTime: () => Promise<number>): Promise<Round> {
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
  return { cpu: (user + system) / times, wall, server: (await serverTime() - before) * 1e6 / times }
}

/** Seconds of processor time that the Redis server has used. */
async function serverCpu (): Promise<number> {
  return [...(await client.info('cpu')).matchAll(/^used_cpu_(?:user|sys):([\d.]+)/gm)].reduce((sum, [, seconds]) => sum + Number(seconds), 0)
}

function median (numbers: number[]): number {
  return Number(numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!.toFixed(3))
}

async function freePort (): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}
