/**
 * The benchmark: contenders on one core, load on the other, in alternating rounds.
 *
 * `npm run bench` (about ten minutes) or `npm run bench -- --quick` (under three). `--only a,b` takes some contenders, `--profile suite`
 * writes a CPU profile of one of them, `--client autocannon` asks with autocannon. What is compared is the same round of each contender, so that whatever else the machine
 * does falls on all of them.
 */
import { execFileSync, fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Order, Outcome } from './load.js'
import { BODY, ORIGIN, PATH } from './question.js'
import type { Serving, Usage } from './serve.js'

const CONTENDERS = ['bare', 'hand-wired', 'hand-wired-cached', 'suite'] as const
const SCENARIOS = { 'one token': 1, '5000 tokens': 5000 } as const
const CONNECTIONS = 64
const SERVER_CORE = 0
const LOAD_CORE = 1
const COMPARED = ['fastify', '@fastify/helmet', '@fastify/cors', '@fastify/rate-limit', '@fastify/jwt', 'autocannon']

type Name = typeof CONTENDERS[number]
interface Round { rate: number, cpuMicros: number, busy: number, p99: number }
interface Server extends Serving { child: ChildProcess }

const root = fileURLToPath(new URL('..', import.meta.url))
const compiled = join(root, 'dist/bench/bench')
const { values: given } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, only: { type: 'string' }, rounds: { type: 'string' }, seconds: { type: 'string' }, profile: { type: 'string' }, client: { type: 'string', default: 'socket' } },
})
const passes = given.quick ? 1 : 3
const rounds = Number(given.rounds ?? (given.quick ? 5 : 8))
const seconds = Number(given.seconds ?? (given.quick ? 2 : 3))
const names = CONTENDERS.filter(name => given.only === undefined || given.only.split(',').includes(name))
const hasTaskset = existsSync('/usr/bin/taskset') && cpus().length > 1

// What runs is the compiled suite, as it is published: a loader's transformations would be measured too.
execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'bench/tsconfig.json'), '--noCheck'], { stdio: 'inherit' })

if (given.profile !== undefined) await profile(given.profile as Name)
else await compare()

async function compare (): Promise<void> {
  const results: Record<string, Partial<Record<Name, Round[]>>> = {}
  const answers: Partial<Record<Name, string[]>> = {}
  const load = start('load.js', [], LOAD_CORE)
  for (const [scenario, people] of Object.entries(SCENARIOS)) {
    const measured: Partial<Record<Name, Round[]>> = results[scenario] = {}
    for (let pass = 0; pass < passes; pass++) {
      const servers = new Map<Name, Server>()
      for (const name of names) servers.set(name, await serve(name, people))
      for (const [name, server] of servers) {
        answers[name] = await check(name, server)
        await ask(load, server, 2)
      }
      for (let round = 0; round < rounds; round++) {
        for (const [name, server] of servers) (measured[name] ??= []).push(await measure(load, server))
        process.stderr.write(`\r${scenario}: round ${pass * rounds + round + 1} of ${passes * rounds} `)
      }
      for (const { child } of servers.values()) child.send('stop')
    }
    process.stderr.write('\n')
    print(scenario, measured)
  }
  load.kill()
  save(results, answers)
}

/** Runs the file on one core. */
function start (file: string, args: string[], core: number, execArgv: string[] = []): ChildProcess {
  const pinned = hasTaskset ? { execPath: '/usr/bin/taskset', execArgv: ['-c', String(core), process.execPath, ...execArgv] } : { execArgv }
  return fork(join(compiled, file), args, { ...pinned, env: { ...process.env, NODE_ENV: 'production' } })
}

async function serve (name: Name, people: number, execArgv: string[] = []): Promise<Server> {
  const child = start('serve.js', [name, String(people)], SERVER_CORE, execArgv)
  const [serving] = await once(child, 'message') as [Serving]
  return { ...serving, child }
}

/** The same answer from everyone, with the headers that the contender promises; answers the names of its headers. */
async function check (name: Name, { port, tokens }: Server): Promise<string[]> {
  const url = `http://127.0.0.1:${port}${PATH}`
  const answer = await fetch(url, { headers: { authorization: `Bearer ${tokens[0]}`, origin: ORIGIN } })
  const body = await answer.text()
  if (answer.status !== 200 || body !== BODY) throw new Error(`${name} answered ${answer.status} ${body}`)
  if (name === 'bare') return [...answer.headers.keys()]
  for (const header of ['content-security-policy', 'x-content-type-options', 'access-control-allow-origin', 'x-ratelimit-remaining']) {
    if (!answer.headers.has(header)) throw new Error(`${name} sent no ${header}`)
  }
  for (const authorization of [undefined, `Bearer ${tokens[0]!.slice(0, -4)}AAAA`]) {
    const refused = await fetch(url, { headers: { origin: ORIGIN, ...(authorization !== undefined && { authorization }) } })
    if (refused.status !== 401) throw new Error(`${name} let somebody in: ${refused.status}`)
  }
  return [...answer.headers.keys()]
}

async function ask (load: ChildProcess, { port, tokens }: Server, duration: number): Promise<Outcome> {
  load.send({ port, tokens, connections: CONNECTIONS, seconds: duration, client: given.client as Order['client'] } satisfies Order)
  const [outcome] = await once(load, 'message') as [Outcome]
  if (outcome.refused > 0) throw new Error(`${outcome.refused} requests were refused or failed`)
  return outcome
}

async function measure (load: ChildProcess, server: Server): Promise<Round> {
  const before = await usage(server)
  const { requests, seconds: took, p99 } = await ask(load, server, seconds)
  const cpuMs = (await usage(server)).cpuMs - before.cpuMs
  return { rate: requests / took, cpuMicros: cpuMs * 1000 / requests, busy: cpuMs / 1000 / took, p99 }
}

async function usage ({ child }: Server): Promise<Usage> {
  child.send('usage')
  return (await once(child, 'message'))[0] as Usage
}

async function profile (name: Name): Promise<void> {
  const load = start('load.js', [], LOAD_CORE)
  const server = await serve(name, 1, ['--cpu-prof', '--cpu-prof-dir', join(root, 'dist/bench')])
  await check(name, server)
  await ask(load, server, 10)
  server.child.send('stop')
  await once(server.child, 'exit')
  load.kill()
}

function median (numbers: number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Median and the quartiles, rounded. */
function spread (numbers: number[], digits: number) {
  const sorted = numbers.toSorted((a, b) => a - b)
  const round = (n: number) => Number(n.toFixed(digits))
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!
  return { median: round(median(numbers)), q1: round(at(0.25)), q3: round(at(0.75)) }
}

function summary (measured: Partial<Record<Name, Round[]>>) {
  const relative = (of: Round[], to: Round[] | undefined, value: (round: Round) => number) =>
    to === undefined ? undefined : spread(of.map((round, i) => value(round) / value(to[i]!)), 3)
  return Object.fromEntries((Object.entries(measured) as [Name, Round[]][]).map(([name, all]) => [name, {
    requestsPerSecond: spread(all.map(({ rate }) => rate), 0),
    cpuMicrosPerRequest: spread(all.map(({ cpuMicros }) => cpuMicros), 2),
    serverBusy: spread(all.map(({ busy }) => busy), 2).median,
    p99Ms: median(all.map(({ p99 }) => p99)),
    toBare: relative(all, measured.bare, ({ rate }) => rate),
    toHandWired: relative(all, measured['hand-wired'], ({ rate }) => rate),
    toBareByCpu: relative(all, measured.bare, ({ cpuMicros }) => 1 / cpuMicros),
  }]))
}

function print (scenario: string, measured: Partial<Record<Name, Round[]>>): void {
  console.log(`\n${scenario}, ${CONNECTIONS} connections, ${passes * rounds} rounds of ${seconds} s`)
  console.table(Object.fromEntries(Object.entries(summary(measured)).map(([name, s]) => [name, {
    'requests/s': s.requestsPerSecond.median,
    'q1–q3': `${s.requestsPerSecond.q1}–${s.requestsPerSecond.q3}`,
    'CPU µs': s.cpuMicrosPerRequest.median,
    'server busy': s.serverBusy,
    'of bare': s.toBare?.median,
    'of bare q1–q3': `${s.toBare?.q1}–${s.toBare?.q3}`,
    'by CPU': s.toBareByCpu?.median,
    '× hand-wired': s.toHandWired?.median,
  }])))
}

function save (results: Record<string, Partial<Record<Name, Round[]>>>, answers: Partial<Record<Name, string[]>>): void {
  const versionOf = (name: string) => (JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8')) as { version: string }).version
  const git = (...args: string[]) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim()
  const report = {
    date: new Date().toISOString(),
    commit: `${git('rev-parse', '--short', 'HEAD')}${git('status', '--porcelain', 'plugins', 'schemas') === '' ? '' : ' with changes'}`,
    node: process.version,
    machine: { cpu: cpus()[0]?.model, cores: cpus().length, platform: `${process.platform} ${process.arch}`, pinned: hasTaskset },
    versions: Object.fromEntries(COMPARED.map(name => [name, versionOf(name)])),
    settings: { passes, rounds, seconds, connections: CONNECTIONS, client: given.client },
    headersSent: answers,
    results: Object.fromEntries(Object.entries(results).map(([scenario, measured]) => [scenario, summary(measured)])),
    rounds: Object.fromEntries(Object.entries(results).map(([scenario, measured]) =>
      [scenario, Object.fromEntries(Object.entries(measured).map(([name, all]) => [name, all.map(({ rate }) => Math.round(rate))]))])),
  }
  mkdirSync(join(root, 'bench/results'), { recursive: true })
  writeFileSync(join(root, 'bench/results/latest.json'), `${JSON.stringify(report, null, 2)}\n`)
  console.log('\nwritten to bench/results/latest.json')
}
