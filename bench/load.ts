/**
 * The load, in a process of its own: many connections, each with its own share of the questions and one request at a time. Bare
 * sockets, because a client that reads answers in JavaScript needs more for twenty-five headers than the fastest contender
 * needs to write them: it, not the server, would be measured.
 */
import { connect } from 'node:net'
import { createHistogram, performance } from 'node:perf_hooks'
import { quantile } from './statistics.js'

export interface Order {
  port: number
  /** Whole requests, each as its text on the wire; a connection asks its share of them in turn. */
  questions: string[]
  connections: number
  seconds: number
  /** Requests a second that arrive, evenly, whatever the answers take. By default a connection asks as soon as it has been answered. */
  perSecond?: number
  /** Something else needs its core too (default false). */
  maySleep?: boolean
}
export interface Outcome {
  requests: number
  seconds: number
  /** How many answers had which status. */
  statuses: Record<string, number>
  /** Milliseconds; where requests arrive at a rate, from the moment each was due. */
  p50: number
  p99: number
  /** The 99th percentile of each {@link WINDOW_MS}. */
  p99s: number[]
}

const END_OF_HEAD = Buffer.from('\r\n\r\n')
const LENGTHS = ['content-length: ', 'Content-Length: '].map(name => Buffer.from(name))
const BUFFER_BYTES = 65_536
/** What else the machine does falls on some windows, and what the server does on each. */
const WINDOW_MS = 100

process.on('message', async (order: Order) => process.send!(await run(order)))

async function run (order: Order): Promise<Outcome> {
  const latency = createHistogram()
  const windows = Array.from({ length: Math.floor(order.seconds * 1000 / WINDOW_MS) }, () => [] as number[])
  const statuses: Record<string, number> = {}
  const begin = performance.now()
  const end = begin + order.seconds * 1000
  let requests = 0

  function answered (status: string, due: number): void {
    requests += 1
    statuses[status] = (statuses[status] ?? 0) + 1
    const ms = performance.now() - due
    latency.record(Math.max(1, Math.round(ms * 1000)))
    windows[Math.floor((due - begin) / WINDOW_MS)]?.push(ms)
  }
  if (order.perSecond === undefined) await askAtOnce(order, end, answered)
  else await askAtRate(order, order.perSecond, end, answered)
  return { requests, seconds: (performance.now() - begin) / 1000, statuses, p50: latency.percentile(50) / 1000, p99: latency.percentile(99) / 1000, p99s: windows.map(window => quantile(window, 0.99)) }
}

async function askAtOnce (order: Order, end: number, answered: (status: string, due: number) => void): Promise<void> {
  if (order.maySleep !== true) stayAwake(end)
  await Promise.all(Array.from({ length: order.connections }, (_none, connection) => new Promise<void>((resolve, reject) => {
    const client = open(order, connection, (status, due) => {
      answered(status, due)
      const now = performance.now()
      if (now >= end) resolve(client.close())
      else client.ask(now)
    }, reject)
    client.ask(performance.now())
  })))
}

/**
 * A load that sleeps has to be woken, which the kernel does at the cost of whoever sends: of the slower contenders alone, because the fastest never
 * lets it sleep.
 */
function stayAwake (end: number): void {
  if (performance.now() < end) setImmediate(stayAwake, end)
}

/** What is due while all connections are busy waits, and its waiting counts. */
async function askAtRate (order: Order, perSecond: number, end: number, answered: (status: string, due: number) => void): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const begin = performance.now()
    const clients = Array.from({ length: order.connections }, (_none, connection) => {
      const client = open(order, connection, (status, due) => {
        answered(status, due)
        idle.push(client)
      }, reject)
      return client
    })
    const idle = [...clients]
    let arrived = 0
    askDue()

    function askDue (): void {
      const now = performance.now()
      for (let due; idle.length > 0 && (due = begin + arrived * 1000 / perSecond) <= Math.min(now, end); arrived++) idle.shift()!.ask(due)
      if (now < end || idle.length < clients.length) setImmediate(askDue)
      else {
        for (const client of clients) client.close()
        resolve()
      }
    }
  })
}

/** A connection that is opened anew where the server has closed it. */
function open ({ port, questions, connections }: Order, connection: number, answered: (status: string, due: number) => void, failed: (error: Error) => void) {
  const share = questions.length <= connections ? [questions[connection % questions.length]!] : questions.filter((_question, i) => i % connections === connection)
  const buffer = Buffer.allocUnsafe(BUFFER_BYTES)
  let next = 0
  let filled = 0
  let asked = 0
  let isWaiting = false
  let socket = dial()

  function dial () {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true, onread: { buffer: () => buffer.subarray(filled), callback: read } })
    return socket.on('error', failed).on('close', hadError => {
      if (isWaiting && !hadError) failed(new Error(`closed without an answer to ${share[next]!.split('\r\n')[0]}`))
    })
  }

  function ask (due: number): void {
    asked = due
    isWaiting = true
    if (socket.destroyed || socket.readableEnded) socket = dial()
    socket.write(share[next]!, 'latin1')
    next = (next + 1) % share.length
  }

  function read (bytes: number): boolean {
    filled += bytes
    const answer = buffer.subarray(0, filled)
    const head = answer.indexOf(END_OF_HEAD)
    if (head === -1 || filled < head + END_OF_HEAD.length + lengthOf(answer)) return true
    filled = 0
    isWaiting = false
    answered(buffer.toString('latin1', 9, 12), asked)
    return true
  }

  function close (): void {
    socket.destroy()
  }

  return { ask, close }
}

/** Bytes of the body: every contender tells them. */
function lengthOf (answer: Buffer): number {
  for (const name of LENGTHS) {
    const at = answer.indexOf(name)
    if (at !== -1) return Number.parseInt(answer.toString('latin1', at + name.length, at + name.length + 8), 10)
  }
  return 0
}
