/**
 * Floods: what somebody who reads an order, at a steady rate, notices of those who guess passwords or make tokens up without pause:
 * `npm run bench -- floods`.
 *
 * One who reads, with an answer's time at the 99th percentile alone and beside the flood, in turn; the flood in a process of its own that lets the
 * reader's go first. Under forged tokens the service has one core and both others share the second, as nothing but the event loop is asked; a control
 * sends the same flood to another server, on the core of the load: what the reader notices then is the generator. Under logins the service has all
 * cores, because hashes are computed by threads, and it is compared with argon2 alone at the same concurrency.
 */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import { availableParallelism } from 'node:os'
import type { Flood, Order, Outcome, Steady } from './floods/clients.js'
import type { Order as HashOrder } from './floods/hashing.js'
import { PASSWORD, SELF, STRANGER, type Serving, type Settings, type Usage } from './floods/settings.js'
import { answerOf, CONNECTIONS, LOAD_CORE, SERVER_CORE, start } from './rounds.js'
import { median, quantile, rounded } from './statistics.js'

type Flooding = Flood extends infer F ? F extends Flood ? Omit<F, 'port' | 'seconds' | 'unsigned' | 'signatureBytes'> : never : never
interface Case { name: string, isQuick?: true, settings: Settings, flood: Flooding }
interface Round {
  idle: Outcome
  beside: Outcome
  control: Outcome | null
  flooded: Outcome
  /** Processor time of the service for each request of the flood. */
  floodMicros: number
  rssMb: number
  mostWaiting: number
  hashesPerSecond: number
  /** The same of argon2 alone. */
  raw: number
}

const RATE = 400
/** A service that nobody has asked anything is slow for other reasons than a flood. */
const WARM_RATE = 4000
const ALL_CORES = `${SERVER_CORE},${LOAD_CORE}`
/** Milliseconds that the service holds a refusal. */
const HELD = '250'
const GOAL = { ratio: 2, ofRaw: 0.9 }
const OWN = ['HS256', 'RS256', 'ES256', 'EdDSA'] as const
const OTHERS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'] as const
const CONCURRENCY = Math.max(1, Math.min(availableParallelism(), Number(process.env.UV_THREADPOOL_SIZE) || 4) - 1)

const forged = { kind: 'tokens', clients: CONNECTIONS, addresses: 1 } as const
const logins = { kind: 'logins', clients: CONNECTIONS, addresses: 1, names: 48 } as const
const isOpen = true
const time = Math.floor(Date.now() / 1000)
const headOf = (head: object) => `Bearer ${[{ typ: 'at+jwt', ...head }, { iss: STRANGER, aud: SELF, sub: 'eve', iat: time, exp: time + 3600 }].map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')}.`

const TOKENS: readonly Case[] = [
  ...OWN.map(algorithm => ({ name: `own, ${algorithm}`, settings: { algorithm }, flood: forged, ...algorithm === 'EdDSA' && { isQuick: true as const } })),
  ...OTHERS.map(issuer => ({ name: `another issuer's, ${issuer}`, settings: { issuer }, flood: forged })),
  { name: 'own, EdDSA, 64 addresses', isQuick: true, settings: { algorithm: 'EdDSA' }, flood: { ...forged, addresses: 64 } },
  { name: "another issuer's, ES512, 64 addresses", settings: { issuer: 'ES512' }, flood: { ...forged, addresses: 64 } },
  { name: 'own, HS256, more clients than are held', settings: {}, flood: { ...forged, clients: 1500 } },
  { name: 'unknown key', settings: { issuer: 'RS256' }, flood: { ...forged, kind: 'texts', authorization: `${headOf({ alg: 'RS256', kid: 'unknown' })}AAAA` } },
  { name: 'none', settings: {}, flood: { ...forged, kind: 'texts', authorization: headOf({ alg: 'none' }) } },
  { name: 'oversize', settings: {}, flood: { ...forged, kind: 'texts', authorization: `Bearer ${'A'.repeat(8000)}` } },
  { name: 'own, EdDSA, not cut', settings: { algorithm: 'EdDSA', isOpen, tokens: { guesses: false } }, flood: forged },
]
const LOGINS: readonly Case[] = [
  { name: 'different names', isQuick: true, settings: { isOpen }, flood: logins },
  { name: 'one name', settings: { isOpen }, flood: { ...logins, names: 1 } },
  { name: '64 addresses', settings: { isOpen }, flood: { ...logins, addresses: 64 } },
  { name: '256 clients, so that the queue is full', settings: { isOpen }, flood: { ...logins, clients: 256 } },
  { name: 'with budgets and locks', settings: {}, flood: { ...logins, addresses: 64 } },
  { name: 'as many hashes as cores', settings: { isOpen, passwords: { concurrency: availableParallelism() } }, flood: logins },
]

export async function measure (quick: boolean) {
  const { rounds, seconds, warmUp } = quick ? { rounds: 1, seconds: 1.5, warmUp: 2 } : { rounds: 4, seconds: 2.5, warmUp: 3 }
  const processes = {
    steady: start('floods/clients.js', [], LOAD_CORE),
    flooder: start('floods/clients.js', [], LOAD_CORE),
    sink: start('floods/sink.js', [HELD], LOAD_CORE),
    raw: start('floods/hashing.js', [], ALL_CORES),
  }
  const [{ port: sink }] = await Promise.all([answerOf<{ port: number }>(processes.sink), answerOf(processes.raw)])
  try {
    const run = async (of: readonly Case[]) => {
      const measured = []
      for (const one of of) {
        if (quick && one.isQuick !== true) continue
        measured.push({ name: one.name, ...await measureCase(one, { ...processes, sinkPort: quick ? null : sink, rounds, seconds, warmUp }) })
      }
      return measured
    }
    const tokens = await run(TOKENS)
    console.log(`\nforged tokens by ${CONNECTIONS} clients without pause, beside ${RATE} reads a second`)
    console.table(Object.fromEntries(tokens.map(({ name, idleP50, besideP50, idleP99, besideP99, ratio, control, floodMicros, perSecond, statuses }) => [name, {
      'p50 idle': idleP50, 'p50 beside': besideP50, 'p99 idle': idleP99, beside: besideP99, ratio, 'control ratio': control, 'flood/s': perSecond, 'µs each': floodMicros, answers: statuses,
    }])))
    const signIns = await run(LOGINS)
    console.log(`\nwrong passwords, beside ${RATE} reads a second; by default ${CONCURRENCY} at once`)
    console.table(Object.fromEntries(signIns.map(({ name, idleP50, besideP50, idleP99, besideP99, ratio, hashesPerSecond, ofRaw, mostWaiting, rssMb, afterwards, statuses }) => [name, {
      'p50 idle': idleP50,
      'p50 beside': besideP50,
      'p99 idle': idleP99,
      beside: besideP99,
      ratio,
      'hashes/s': hashesPerSecond,
      'of argon2': ofRaw,
      waiting: mostWaiting,
      'MB after each round': rssMb.join(', '),
      afterwards,
      answers: statuses,
    }])))
    return { rate: RATE, clients: CONNECTIONS, secondsOfARound: seconds, rounds, goal: GOAL, tokens, signIns }
  } finally {
    for (const child of Object.values(processes)) child.kill()
  }
}

interface Beside { steady: ChildProcess, flooder: ChildProcess, raw: ChildProcess, sinkPort: number | null, rounds: number, seconds: number, warmUp: number }

async function measureCase ({ name, settings, flood }: Case, { steady, flooder, raw, sinkPort, rounds, seconds, warmUp }: Beside) {
  const isLogin = flood.kind === 'logins'
  const service = start('floods/service.js', [JSON.stringify(settings)], isLogin ? ALL_CORES : SERVER_CORE)
  const { port, token, unsigned, signatureBytes } = await answerOf<Serving>(service)
  const read = (duration: number, rate = RATE) => tell<Outcome>(steady, { kind: 'steady', port, token, rate, seconds: duration } satisfies Steady)
  const pour = (to: number) => tell<Outcome>(flooder, { ...flood, port: to, seconds, unsigned, signatureBytes } as Order)
  const measured: Round[] = []
  await read(warmUp, WARM_RATE)
  for (let round = 0; round < rounds; round++) {
    const hashesPerSecond = isLogin ? await tell<number>(raw, { concurrency: settings.passwords?.concurrency ?? CONCURRENCY, seconds } satisfies HashOrder) : 0
    const start = await usage()
    const idle = await read(seconds)
    const before = await usage()
    const [beside, flooded, mostWaiting] = await Promise.all([read(seconds), pour(port), watch()])
    const after = await usage()
    const control = sinkPort === null || isLogin ? null : (await Promise.all([read(seconds), pour(sinkPort)]))[0]
    const own = before.cpuMs - start.cpuMs
    measured.push({
      idle,
      beside,
      control,
      flooded,
      mostWaiting,
      raw: hashesPerSecond,
      floodMicros: (after.cpuMs - before.cpuMs - own) * 1000 / flooded.answered,
      rssMb: after.rssMb,
      hashesPerSecond: (flooded.statuses['401'] ?? 0) / flooded.seconds,
    })
  }
  const afterwards = isLogin ? await signIn(port) : null
  service.kill()
  process.stderr.write(`\r${name}          `)
  const of = (value: (round: Round) => number, digits = 2) => rounded(median(measured.map(value)), digits)
  // Of all rounds together: of the answers of one the slowest hundredth are a dozen.
  const took = (who: 'idle' | 'beside' | 'control', share: number) => quantile(measured.flatMap(round => round[who]?.took ?? []), share)
  const [idleP99, besideP99] = [took('idle', 0.99), took('beside', 0.99)]
  return {
    idleP50: rounded(took('idle', 0.5), 3),
    besideP50: rounded(took('beside', 0.5), 3),
    idleP99: rounded(idleP99),
    besideP99: rounded(besideP99),
    ratio: rounded(besideP99 / idleP99),
    ofRounds: measured.map(({ idle, beside }) => rounded(quantile(beside.took, 0.99) / quantile(idle.took, 0.99))),
    ...measured[0]!.control !== null && { control: rounded(took('control', 0.99) / idleP99) },
    notRead: measured.reduce((sum, { beside }) => sum + Math.round(RATE * seconds) - (beside.statuses['200'] ?? 0), 0),
    perSecond: of(({ flooded }) => flooded.answered / flooded.seconds, 0),
    floodMicros: of(({ floodMicros }) => floodMicros, 1),
    statuses: measured.at(-1)!.flooded.statuses,
    ...isLogin && { hashesPerSecond: of(round => round.hashesPerSecond, 1), ofRaw: of(round => round.hashesPerSecond / round.raw) },
    mostWaiting: Math.max(...measured.map(round => round.mostWaiting)),
    rssMb: measured.map(round => round.rssMb),
    afterwards,
  }

  async function usage (): Promise<Usage> {
    return tell<Usage>(service, 'usage')
  }

  /** The longest queue, as the service tells it from time to time. */
  async function watch (): Promise<number> {
    let most = 0
    if (!isLogin) return most
    for (const end = performance.now() + seconds * 1000; performance.now() < end;) {
      await new Promise(resolve => { setTimeout(resolve, 300) })
      most = Math.max(most, (await usage()).waiting)
    }
    return most
  }
}

/** Somebody who was not among those that were tried, from an address of his own, once the flood is over; who is told to come back does. */
async function signIn (port: number, tries = 3): Promise<number> {
  const asked = request({ port, host: '127.0.0.1', localAddress: '127.0.2.1', method: 'POST', path: '/login', headers: { 'content-type': 'application/json' } })
  asked.end(JSON.stringify({ username: 'user-60', password: PASSWORD }))
  const [{ statusCode, headers }] = await once(asked, 'response') as [IncomingMessage]
  asked.destroy()
  if (statusCode !== 503 || tries === 0) return statusCode!
  await new Promise(resolve => { setTimeout(resolve, Number(headers['retry-after']) * 1000) })
  return signIn(port, tries - 1)
}

async function tell<T> (child: ChildProcess, what: string | object): Promise<T> {
  child.send(what)
  return answerOf<T>(child)
}
