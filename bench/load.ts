/**
 * The load, in a process of its own: many connections that each ask with its own share of the tokens, one request at a
 * time. By default a bare socket client, because autocannon reads answers in JavaScript, and for answers with twenty-five
 * headers that costs more than the fastest contender needs to write them: it, not the server, would be measured.
 */
import { connect } from 'node:net'
import { createHistogram, performance } from 'node:perf_hooks'
import autocannon from 'autocannon'
import { BODY, ORIGIN, PATH } from './question.js'

export interface Order { port: number, tokens: string[], connections: number, seconds: number, client: 'socket' | 'autocannon' }
export interface Outcome { requests: number, seconds: number, refused: number, p50: number, p99: number }

const END_OF_HEADERS = Buffer.from('\r\n\r\n')
const BODY_BYTES = Buffer.byteLength(BODY)

process.on('message', async (order: Order) => {
  process.send!(await (order.client === 'socket' ? askBySocket(order) : askByAutocannon(order)))
})

function headersWith (token: string): Record<string, string> {
  return { authorization: `Bearer ${token}`, origin: ORIGIN, accept: 'application/json' }
}

/** The tokens of one connection. */
function shareOf ({ tokens, connections }: Order, connection: number): string[] {
  return tokens.length <= connections ? [tokens[connection % tokens.length]!] : tokens.filter((_token, i) => i % connections === connection)
}

async function askBySocket (order: Order): Promise<Outcome> {
  const latency = createHistogram()
  const end = performance.now() + order.seconds * 1000
  const begin = performance.now()
  let requests = 0
  let refused = 0
  await Promise.all(Array.from({ length: order.connections }, (_none, connection) => new Promise<void>((resolve, reject) => {
    const questions = shareOf(order, connection).map(token => {
      const headers = Object.entries({ host: `127.0.0.1:${order.port}`, ...headersWith(token) })
      return `GET ${PATH} HTTP/1.1\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`
    })
    const buffer = Buffer.allocUnsafe(65_536)
    let next = 0
    let filled = 0
    let asked = 0
    const socket = connect({ port: order.port, host: '127.0.0.1', noDelay: true, onread: { buffer: () => buffer.subarray(filled), callback: read } })
    socket.on('connect', ask)
    socket.on('close', resolve)
    socket.on('error', reject)

    function ask (): void {
      asked = performance.now()
      socket.write(questions[next]!, 'latin1')
      next = (next + 1) % questions.length
    }

    function read (bytes: number): boolean {
      filled += bytes
      const head = buffer.subarray(0, filled).indexOf(END_OF_HEADERS)
      // Only refusals have another length: they end the connection's part in this run.
      const isAccepted = buffer.toString('latin1', 9, 12) === '200'
      if (isAccepted && (head === -1 || filled < head + END_OF_HEADERS.length + BODY_BYTES)) return true
      filled = 0
      const time = performance.now()
      latency.record(Math.max(1, Math.round((time - asked) * 1000)))
      if (isAccepted) requests += 1
      else refused += 1
      if (!isAccepted || time >= end) socket.destroy()
      else ask()
      return true
    }
  })))
  return { requests, seconds: (performance.now() - begin) / 1000, refused, p50: latency.percentile(50) / 1000, p99: latency.percentile(99) / 1000 }
}

async function askByAutocannon (order: Order): Promise<Outcome> {
  let connection = 0
  const result = await autocannon({
    url: `http://127.0.0.1:${order.port}${PATH}`,
    connections: order.connections,
    duration: order.seconds,
    setupClient: client => client.setRequests(shareOf(order, connection++).map(token => ({ method: 'GET', path: PATH, headers: headersWith(token) }))),
  })
  return {
    requests: result.requests.total, seconds: result.duration, refused: result.non2xx + result.errors + result.timeouts, p50: result.latency.p50, p99: result.latency.p99,
  }
}
