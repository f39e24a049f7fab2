/**
 * How long the answers take where bare Fastify and the suite get the same load: so many requests a second as are 35 % of what the slower one holds when
 * it is asked as fast as it answers. One request at a time costs a server more than many at once, which it reads and answers in one turn: with more it has no time left.
 *
 * The 99th percentile is that of a tenth of a second, the median of many: a machine that others use takes the processor away for milliseconds, more seldom than that.
 *
 * Where there is time it is asked at other loads, too, and once more of bare Fastify at so many requests more that it is as busy as the suite: what is
 * then left of the difference is no queue.
 */
import type { ChildProcess } from 'node:child_process'
import { asked, check, questions } from './asking.js'
import type { Outcome } from './load.js'
import { alternate, CONNECTIONS, order, serve, stop, usage, type Server } from './rounds.js'
import { rounded, spread } from './statistics.js'

const CONTENDERS = ['bare', 'suite'] as const
const SHARE = 0.35
const SHARES = [0.15, 0.25, 0.35, 0.5, 0.65, 0.8]

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
    const [fast, slow] = [Math.max(...rates), Math.min(...rates)]
    const perSecond = Math.round(SHARE * slow)
    const { bare, suite } = await alternate(CONTENDERS, rounds, name => ask(name, seconds, perSecond), 'the same load')
    const measured = { perSecond, bare: of(bare), suite: of(suite) }
    console.log(`\nthe same load, ${perSecond} requests a second`)
    console.table(Object.fromEntries(CONTENDERS.map(name => [name, {
      busy: measured[name].busy, 'p50 ms': measured[name].p50Ms.median, 'p99 ms': measured[name].p99Ms.median, 'p99 ms of a round': measured[name].wholeP99Ms.median,
    }])))
    const loads = []
    for (const share of quick ? [] : SHARES) {
      const rates = { bare: share * slow, 'bare, as busy': share * fast, suite: share * slow }
      const measured = await alternate(Object.keys(rates) as (keyof typeof rates)[], 6, name => ask(name === 'suite' ? 'suite' : 'bare', 2, Math.round(rates[name])), `${100 * share} %`)
      loads.push({ share, perSecond: Math.round(share * slow), ...Object.fromEntries(Object.entries(measured).map(([name, rounds]) => [name, of(rounds)])) as Record<keyof typeof rates, ReturnType<typeof of>> })
    }
    if (loads.length > 0) {
      console.table(Object.fromEntries(loads.map(({ share, perSecond, bare, suite, 'bare, as busy': asBusy }) => [`${100 * share} %`, {
        'requests/s': perSecond,
        'busy: bare': bare.busy,
        'as busy': asBusy.busy,
        suite: suite.busy,
        'p99 ms: bare': bare.p99Ms.median,
        'p99 as busy': asBusy.p99Ms.median,
        'p99 suite': suite.p99Ms.median,
        'of bare': rounded(suite.p99Ms.median / bare.p99Ms.median),
        'of bare as busy': rounded(suite.p99Ms.median / asBusy.p99Ms.median),
      }])))
    }
    return { ...measured, loads, p99OfBare: rounded(measured.suite.p99Ms.median / measured.bare.p99Ms.median) }
  } finally {
    for (const server of Object.values(servers)) await stop(server)
  }
}

function of (rounds: (Outcome & { busy: number })[]) {
  return {
    busy: spread(rounds.map(({ busy }) => busy), 2).median,
    p50Ms: spread(rounds.map(({ p50 }) => p50), 3),
    p99Ms: spread(rounds.flatMap(({ p99s }) => p99s), 3),
    wholeP99Ms: spread(rounds.map(({ p99 }) => p99), 3),
  }
}
