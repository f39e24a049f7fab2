/**
 * What a million costs: clients of a limiter, sessions, revocations, and ten thousand roles; bytes of each, how long the process stands
 * still while they come and go, and what a decision costs among them. Each figure is of a process of its own: `npm run bench -- scale`.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { LIMITERS } from './scale/limiters.js'
import type { Bytes, Pauses } from './scale/turns.js'
import { rounded, type Spread } from './statistics.js'

interface Filled { bytes: Bytes, coming: Pauses, flood?: Pauses, expiring?: Pauses, growth?: Bytes, bound?: { isHeld: boolean, growth: Bytes, offenders: number, washedOut: number } }
type Roles = Record<string, Spread & { bootMs: number }>

const MILLION = 1_000_000
const AMONG = [1000, 10_000, 100_000, MILLION]
const OURS = Object.keys(LIMITERS)[0]!

function figureOf<Figure> (what: string, whose: string, entries: number): Figure {
  const args = ['--expose-gc', '--max-old-space-size=4096', fileURLToPath(new URL('scale/one.js', import.meta.url)), what, whose, String(entries)]
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`scale: ${what} ${whose}: ${stderr}`)
  return JSON.parse(stdout) as Figure
}

export async function measure (quick: boolean) {
  const many = quick ? MILLION / 5 : MILLION
  const clients = Object.fromEntries(Object.keys(LIMITERS).map(name => [name, figureOf<Filled>('clients', name, many)]))
  const kept: Record<string, Filled> = { ...clients, sessions: figureOf<Filled>('sessions', '', quick ? many / 4 : many), 'revocations of users': figureOf<Filled>('revocations', '', many) }
  console.table(Object.fromEntries(Object.entries(kept).map(([name, { bytes }]) => [`${name}: bytes of one`, bytes])))
  console.table(Object.fromEntries(Object.entries(kept).flatMap(([name, { coming, flood, expiring }]) => [
    [`${name}: they come`, coming],
    ...flood === undefined ? [] : [[`${name}: others come when it is full`, flood]],
    ...expiring === undefined ? [] : [[`${name}: all expire, others come`, expiring]],
  ])))
  console.table({ 'at the bound': clients[OURS]!.bound })

  const among = quick ? [AMONG[0]!, MILLION] : AMONG
  const nanoseconds = Object.fromEntries(Object.keys(LIMITERS).slice(0, quick ? 1 : undefined).map(name => {
    const costs = among.map(entries => figureOf<{ nanoseconds: number }>('cost', name, entries).nanoseconds)
    return [name, { ...Object.fromEntries(among.map((entries, i) => [`among ${entries}`, costs[i]!])), ratio: rounded(costs.at(-1)! / costs[0]!, 1) }]
  }))
  console.table(nanoseconds)

  const roles = figureOf<Roles>('roles', '', quick ? 500 : 3000)
  console.table(roles)
  return { entries: many, kept, nanosecondsOfADecision: nanoseconds, microsecondsOfARequest: roles }
}
