/**
 * How long the answers take where bare Fastify and the suite get the same load: so many requests a second as are 35 % of what the slower one holds when
 * it is asked as fast as it answers. One request at a time costs a server more than many at once, which it reads and answers in one turn: with more it has no time left.
 *
 * The 99th percentile is that of a tenth of a second, the median of many: a machine that others use takes the processor away for milliseconds, more seldom than that.
 */
import type { ChildProcess } from 'node:child_process'
import { asked, check, questions } from './asking.js'
import type { Outcome } from './load.js'
import { alternate, CONNECTIONS, order, serve, stop, usage, type Server } from './rounds.js'
import { rounded, spread } from './statistics.js'

const CONTENDERS = ['bare', 'suite'] as const
const SHARE = 0.35

export async function latency (load: ChildProcess, quick: boolean) {
  const { rounds, seconds } = quick ? { rounds: 3, seconds: 0.7 } : { rounds: 10, seconds: 3 }
  const servers = { bare: await serve('bare'), suite: await serve('suite') } satisfies Record<string, Server>
  const ask = async (name: typeof CONTENDERS[number], seconds: number, perSecond?: number): Promise<Outcome & { busy: number }> => {
    const before = await usage(servers[name])
    const outcome = await order(load, { port: servers[name].port, questions: questions(asked('order'), servers[name]), connections: CONNECTIONS, seconds, perSecond })
    return { ...outcome, busy: ((await usage(servers[name])).cpuMs - before.cpuMs) / 1000 / outcome.seconds }
  }
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
    const of = (rounds: Awaited<ReturnType<typeof ask>>[]) => ({
      busy: spread(rounds.map(({ busy }) => busy), 2).median,
      p50Ms: spread(rounds.map(({ p50 }) => p50), 3),
      p99Ms: spread(rounds.flatMap(({ p99s }) => p99s), 3),
      wholeP99Ms: spread(rounds.map(({ p99 }) => p99), 3),
    })
    const measured = { perSecond, bare: of(bare), suite: of(suite) }
    console.log(`\nthe same load, ${perSecond} requests a second`)
    console.table(Object.fromEntries(CONTENDERS.map(name => [name, {
      busy: measured[name].busy, 'p50 ms': measured[name].p50Ms.median, 'p99 ms': measured[name].p99Ms.median, 'p99 ms of a round': measured[name].wholeP99Ms.median,
    }])))
    return { ...measured, p99OfBare: rounded(measured.suite.p99Ms.median / measured.bare.p99Ms.median) }
  } finally {
    for (const server of Object.values(servers)) await stop(server)
  }
}
