/**
 * What a request costs, beside bare Fastify and beside what people use today: `npm run bench -- requests`. Each row is a process of its own;
 * the rows of a scenario alternate. Writes `results/requests.svg` too.
 */
import { execFileSync, spawnSync, type ChildProcess } from 'node:child_process'
import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { asked, check, questions, type Kind } from './asking.js'
import { latency } from './latency.js'
import { NAMES, plot } from './plot.js'
import { alternate, CONNECTIONS, order, PYTHON, root, serve, startLoad, stop, usage, type Server } from './rounds.js'
import { rounded, spread, type Spread } from './statistics.js'
import { writeTable } from './tables.js'

interface Row { name: string, contender: string, kind: Kind, base: string }
interface Round { requests: number, rate: number, cpuMicros: number, busy: number }
export interface Measured { requestsPerSecond: Spread, cpuMicros: Spread, busy: number, ofBase: Spread, ofBaseByCpu: Spread, base: string }
interface Goal { goal: string, measured: number, met: boolean }

const OURS = ['bare', 'suite', 'hand-wired-cached', 'hand-wired']
const PEERS = ['hono', 'express', 'express-key-object', 'nestjs', 'nestjs-key-object', 'fastapi']
const REFUSED = ['order', 'no token', 'powerless', 'over the limit'] as const
/** So many answers make a contender warm; so often it is tried. */
const WARM = 5000
const WARM_UPS = 3
const peers = fileURLToPath(new URL('peers', import.meta.url))
const peersSource = join(root, 'bench/peers')

export async function measure (quick: boolean) {
  const settings = quick ? { passes: 1, rounds: 4, seconds: 0.25, warmUp: 0.5 } : { passes: 2, rounds: 20, seconds: 0.25, warmUp: 1.5 }
  const { present, leftOut } = prepare()
  const everybody = [...OURS, ...present].filter(name => !quick || !/-(?:cached|key-object)$/.test(name))
  const mostly = quick ? ['bare', 'suite'] : everybody
  const load = startLoad()
  const lacking: Record<string, string[]> = {}
  const titles: Record<string, Record<string, Measured>> = {}
  const scenario = async (title: string, rows: Row[]) => {
    titles[title] = await compare(load, title, rows, settings, lacking)
    return titles[title]
  }
  try {
    const scenarios = {
      order: await scenario('authenticated GET, one token', rowsOf('order', everybody)),
      ...!quick && { ordersInTurn: await scenario('authenticated GET, 5,000 tokens in turn', rowsOf('orders in turn', OURS)) },
      public: await scenario('public GET', rowsOf('public', mostly)),
      note: await scenario('POST of 1 kB, validated, answer filtered', rowsOf('note', mostly)),
      refused: await scenario('refused, beside the answered request of the same', (quick ? ['suite'] : ['suite', 'hand-wired-cached']).flatMap(contender =>
        REFUSED.map(kind => ({ name: `${contender}: ${kind}`, contender, kind, base: `${contender}: order` })))),
    }
    const latencies = await latency(load, quick)
    const goals = judge(scenarios, latencies.p99OfBare)
    console.table(goals)
    for (const name of leftOut) console.log(`left out: ${name}`)
    writeFileSync(join(root, 'bench/results/requests.svg'), plot(scenarios.order))
    if (!quick) writeTables(titles, goals)
    return { settings: { ...settings, connections: CONNECTIONS }, peers: versions(), leftOut, lacking, goals, scenarios, latency: latencies }
  } finally {
    load.kill()
  }
}

function rowsOf (kind: Kind, contenders: string[]): Row[] {
  return contenders.map(contender => ({ name: contender, contender, kind, base: 'bare' }))
}

/** Installs the peers where they are not, and tells who takes part. */
function prepare (): { present: string[], leftOut: string[] } {
  const installed = join(peersSource, 'node_modules')
  try {
    if (!existsSync(installed)) execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', peersSource], { stdio: 'inherit' })
  } catch {
    return { present: [], leftOut: PEERS.map(name => `${name}: the packages of bench/peers could not be installed`) }
  }
  if (!existsSync(join(peers, 'node_modules'))) symlinkSync(installed, join(peers, 'node_modules'), 'dir')
  if (spawnSync(PYTHON, ['-c', 'import fastapi, uvicorn, jwt']).status === 0) return { present: PEERS, leftOut: [] }
  return { present: PEERS.filter(name => name !== 'fastapi'), leftOut: [`fastapi: there is no ${PYTHON} with fastapi, uvicorn and pyjwt`] }
}

function versions (): Record<string, string> {
  const read = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as { version: string, dependencies: Record<string, string> }
  const names = Object.keys(read(join(peersSource, 'package.json')).dependencies).filter(name => existsSync(join(peersSource, 'node_modules', name)))
  return Object.fromEntries(names.map(name => [name, read(join(peersSource, 'node_modules', name, 'package.json')).version]))
}

interface Often { passes: number, rounds: number, seconds: number, warmUp: number }

async function compare (load: ChildProcess, title: string, rows: Row[], often: Often, lacking: Record<string, string[]>): Promise<Record<string, Measured>> {
  const all: Record<string, Round[]> = {}
  for (let pass = 0; pass < often.passes; pass++) {
    const servers = new Map<string, Server>()
    try {
      for (const { name, contender, kind } of rows) {
        const server = await serve(contender, asked(kind).settings)
        servers.set(name, server)
        const missing = await check(contender, asked(kind), server)
        if (contender !== 'bare' && missing.length > 0) lacking[`${contender}: ${kind}`] = missing
        for (let i = 0, answered = 0; i < WARM_UPS && answered < WARM; i++) answered += (await ask(load, server, kind, often.warmUp)).requests
      }
      const kinds = new Map(rows.map(({ name, kind }) => [name, kind]))
      const rounds = await alternate([...servers.keys()], often.rounds, name => ask(load, servers.get(name)!, kinds.get(name)!, often.seconds), title)
      for (const [name, measured] of Object.entries(rounds)) (all[name] ??= []).push(...measured)
    } finally {
      for (const server of servers.values()) await stop(server)
    }
  }
  const measured = Object.fromEntries(rows.map(({ name, base }) => [name, summary(all[name]!, all[base]!, base)]))
  print(title, measured)
  return measured
}

async function ask (load: ChildProcess, server: Server, kind: Kind, seconds: number): Promise<Round> {
  const asking = asked(kind)
  const before = await usage(server)
  const { requests, seconds: took, statuses } = await order(load, { port: server.port, questions: questions(asking, server), connections: CONNECTIONS, seconds })
  const cpuMs = (await usage(server)).cpuMs - before.cpuMs
  if (statuses[asking.status] !== requests) throw new Error(`${kind}: not all were answered with ${asking.status}: ${JSON.stringify(statuses)}`)
  return { requests, rate: requests / took, cpuMicros: cpuMs * 1000 / requests, busy: cpuMs / 1000 / took }
}

/** What is compared is the same round of each. */
function summary (rounds: Round[], base: Round[], name: string): Measured {
  return {
    requestsPerSecond: spread(rounds.map(({ rate }) => rate), 0),
    cpuMicros: spread(rounds.map(({ cpuMicros }) => cpuMicros), 2),
    busy: spread(rounds.map(({ busy }) => busy), 2).median,
    ofBase: spread(rounds.map(({ rate }, i) => rate / base[i]!.rate), 3),
    ofBaseByCpu: spread(rounds.map(({ cpuMicros }, i) => base[i]!.cpuMicros / cpuMicros), 3),
    base: name,
  }
}

function print (title: string, measured: Record<string, Measured>): void {
  console.log(`\n${title}`)
  console.table(Object.fromEntries(Object.entries(measured).map(([name, { requestsPerSecond, cpuMicros, busy, ofBase, ofBaseByCpu }]) => [name, {
    'requests/s': requestsPerSecond.median,
    'q1–q3': `${requestsPerSecond.q1}–${requestsPerSecond.q3}`,
    'CPU µs': cpuMicros.median,
    'server busy': busy,
    ratio: ofBase.median,
    'ratio q1–q3': `${ofBase.q1}–${ofBase.q3}`,
    'by CPU': ofBaseByCpu.median,
  }])))
}

function writeTables (titles: Record<string, Record<string, Measured>>, goals: Goal[]): void {
  const cells = (name: string, { cpuMicros, requestsPerSecond, ofBase, ofBaseByCpu }: Measured) => ({
    '': name,
    'µs of processor': rounded(cpuMicros.median, 1),
    'requests a second': requestsPerSecond.median,
    ratio: ofBase.median,
    quartiles: `${ofBase.q1}–${ofBase.q3}`,
    'by processor time': ofBaseByCpu.median,
  })
  const all = Object.entries(titles).flatMap(([title, measured]) => [
    { '': `**${title}**` },
    ...Object.entries(measured).map(([name, row]) => cells(name, row)),
  ])
  writeTable('bench/README.md', 'requests', all)
  writeTable('bench/README.md', 'goals', goals.map(({ goal, measured, met }) => ({ goal, measured, met: met ? 'yes' : 'no' })))
  writeTable('README.md', 'requests', Object.entries(Object.values(titles)[0]!).map(([name, row]) => cells(NAMES[name] ?? name, row)))
}

/** By processor time, which other work on the machine disturbs least. */
function judge ({ order, public: open, note, refused }: Record<'order' | 'public' | 'note' | 'refused', Record<string, Measured>>, p99OfBare: number): Goal[] {
  const handWired = order['hand-wired']!.cpuMicros.median / order.suite!.cpuMicros.median
  const atLeast = (goal: string, measured: number, least: number) => ({ goal: `${goal} ≥ ${least}`, measured: rounded(measured), met: measured >= least })
  return [
    atLeast('authenticated GET, of bare', order.suite!.ofBaseByCpu.median, 0.65),
    atLeast('authenticated GET, × hand-wired', handWired, 2.4),
    atLeast('public GET, of bare', open.suite!.ofBaseByCpu.median, 0.85),
    atLeast('POST of 1 kB, of bare', note.suite!.ofBaseByCpu.median, 0.6),
    ...REFUSED.slice(1).map(kind => atLeast(`refused (${kind}), × its answered`, refused[`suite: ${kind}`]!.ofBaseByCpu.median, 1)),
    { goal: 'p99 at the same load, of bare ≤ 1.5', measured: p99OfBare, met: p99OfBare <= 1.5 },
  ]
}
