/** The load, in a process of its own: many connections that each ask with its own share of the tokens. */
import autocannon from 'autocannon'
import { ORIGIN, PATH } from './question.js'

export interface Order { port: number, tokens: string[], connections: number, seconds: number }
export interface Outcome { requests: number, seconds: number, refused: number, p50: number, p99: number }

process.on('message', async ({ port, tokens, connections, seconds }: Order) => {
  let next = 0
  const result = await autocannon({
    url: `http://127.0.0.1:${port}${PATH}`,
    connections,
    duration: seconds,
    setupClient (client) {
      const share = next++
      const own = tokens.length <= connections ? [tokens[share % tokens.length]!] : tokens.filter((_token, i) => i % connections === share)
      client.setRequests(own.map(token => ({ method: 'GET', path: PATH, headers: headersWith(token) })))
    },
  })
  process.send!({
    requests: result.requests.total,
    seconds: result.duration,
    refused: result.non2xx + result.errors + result.timeouts,
    p50: result.latency.p50,
    p99: result.latency.p99,
  } satisfies Outcome)
})

export function headersWith (token: string): Record<string, string> {
  return { authorization: `Bearer ${token}`, origin: ORIGIN, accept: 'application/json' }
}
