/** How long the answers take where bare Fastify and the suite get the same load: as many requests a second as 60 % of what the slower one holds. */
import type { ChildProcess } from 'node:child_process'
import { asked, check, questions } from './asking.js'
import { alternate, CONNECTIONS, order, serve, stop, type Server } from './rounds.js'
import { spread } from './statistics.js'

const CONTENDERS = ['bare', 'suite'] as const
const SHARE = 0.6

export async function latency (load: ChildProcess, quick: boolean) {
  const { rounds, seconds } = quick ? { rounds: 3, seconds: 0.7 } : { rounds: 10, seconds: 3 }
  const servers = { bare: await serve('bare'), suite: await serve('suite') } satisfies Record<string, Server>
  const ask = (name: typeof CONTENDERS[number], seconds: number, perSecond?: number) =>
    order(load, { port: servers[name].port, questions: questions(asked('order'), servers[name]), connections: CONNECTIONS, seconds, perSecond })
  try {
    const rates: number[] = []
    for (const name of CONTENDERS) {
      await check(name, asked('order'), servers[name])
      await ask(name, 1)
      const { requests, seconds } = await ask(name, 1)
      rates.push(requests / seconds)
    }
    const perSecond = Math.round(SHARE * Math.min(...rates))
    const { bare, suite } = await alternate(CONTENDERS, rounds, name => ask(name, seconds, perSecond), 'the same load')
    const measured = {
      perSecond,
      bare: { p50Ms: spread(bare.map(({ p50 }) => p50), 3), p99Ms: spread(bare.map(({ p99 }) => p99), 3) },
      suite: { p50Ms: spread(suite.map(({ p50 }) => p50), 3), p99Ms: spread(suite.map(({ p99 }) => p99), 3) },
      p99OfBare: spread(suite.map(({ p99 }, i) => p99 / bare[i]!.p99), 2),
    }
    console.log(`\nthe same load, ${perSecond} requests a second`)
    console.table(Object.fromEntries(CONTENDERS.map(name => [name, { 'p50 ms': measured[name].p50Ms.median, 'p99 ms': measured[name].p99Ms.median }])))
    return measured
  } finally {
    for (const server of Object.values(servers)) await stop(server)
  }
}
