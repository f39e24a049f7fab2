/**
 * Those who ask, each kind in a process of its own: somebody who reads an order at a fixed rate and measures how long it took, and a flood of
 * clients who ask again as soon as they have their answer. Answers are not looked into further than to their end.
 */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { setPriority } from 'node:os'
import { performance } from 'node:perf_hooks'

interface Asked { port: number, seconds: number }
export type Steady = Asked & { kind: 'steady', token: string, rate: number }
export type Flood = Asked & { clients: number, addresses: number } & (
  | { kind: 'logins', names: number }
  | { kind: 'tokens', unsigned: string, signatureBytes: number }
  | { kind: 'texts', authorization: string }
)
export type Order = Steady | Flood
/** How often each status was answered; how long each answer took, in milliseconds. */
export interface Outcome { seconds: number, answered: number, statuses: Record<string, number>, took: number[] }

const END_OF_HEADERS = Buffer.from('\r\n\r\n')
const IDLE_SOCKETS = 32
/** Where the reader is: nobody of the flood is there. */
const READER = '127.0.3.1'

process.on('message', async (order: Order) => {
  // The one who measures comes first on the core that they share.
  if (order.kind !== 'steady') setPriority(10)
  process.send!(order.kind === 'steady' ? await steadily(order) : await flood(order))
})

class Tally {
  readonly #took: number[] = []
  readonly statuses: Record<string, number> = {}
  readonly #began = performance.now()
  answered = 0

  add (status: string, ms: number): void {
    this.answered += 1
    this.statuses[status] = (this.statuses[status] ?? 0) + 1
    this.#took.push(ms)
  }

  get outcome (): Outcome {
    return { seconds: (performance.now() - this.#began) / 1000, answered: this.answered, statuses: this.statuses, took: this.#took }
  }
}

/** One connection, which asks one thing at a time. */
class Line {
  readonly #socket: Socket
  #buffered: Buffer[] = []
  #asked = 0
  #answered: (status: string, ms: number) => void = () => {}

  constructor (port: number, localAddress: string | undefined, lost: () => void) {
    this.#socket = connect({ port, host: '127.0.0.1', noDelay: true, ...localAddress !== undefined && { localAddress } })
    this.#socket.on('data', bytes => this.#read(bytes))
    this.#socket.on('error', () => {})
    this.#socket.on('close', lost)
  }

  ask (question: string, answered: (status: string, ms: number) => void): void {
    this.#answered = answered
    this.#asked = performance.now()
    this.#socket.write(question, 'latin1')
  }

  close (): void { this.#socket.destroy() }

  #read (bytes: Buffer): void {
    this.#buffered.push(bytes)
    const all = this.#buffered.length === 1 ? bytes : Buffer.concat(this.#buffered)
    const head = all.indexOf(END_OF_HEADERS)
    if (head === -1) return
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(all.toString('latin1', 0, head))?.[1] ?? 0)
    if (all.length < head + END_OF_HEADERS.length + length) return
    this.#buffered = []
    this.#answered(all.toString('latin1', 9, 12), performance.now() - this.#asked)
  }
}

/** So many a second, whatever becomes of those before. */
async function steadily ({ port, token, rate, seconds }: Steady): Promise<Outcome> {
  const tally = new Tally()
  const question = get(port, `Bearer ${token}`)
  const idle: Line[] = []
  const open = () => new Line(port, READER, () => {})
  for (let i = 0; i < IDLE_SOCKETS; i++) idle.push(open())
  const began = performance.now()
  let asked = 0
  let pending = 0
  await new Promise<void>(resolve => {
    const timer = setInterval(() => {
      const passed = performance.now() - began
      const due = Math.min(passed, seconds * 1000) * rate / 1000
      for (; asked < due; asked++) {
        const line = idle.pop() ?? open()
        pending += 1
        line.ask(question, (status, ms) => {
          pending -= 1
          tally.add(status, ms)
          idle.push(line)
        })
      }
      if (passed < seconds * 1000 || (pending > 0 && passed < seconds * 1000 + 5000)) return
      clearInterval(timer)
      resolve()
    }, 1)
  })
  for (const line of idle) line.close()
  if (pending > 0) tally.statuses.none = pending
  return tally.outcome
}

async function flood (order: Flood): Promise<Outcome> {
  const tally = new Tally()
  const end = performance.now() + order.seconds * 1000
  const lines: Line[] = []
  await Promise.all(Array.from({ length: order.clients }, (_none, client) => new Promise<void>(resolve => {
    const address = order.addresses === 1 ? undefined : `127.0.1.${1 + client % order.addresses}`
    const next = questionsOf(order, client)
    const line = new Line(order.port, address, resolve)
    lines.push(line)
    const ask = () => line.ask(next(), (status, ms) => {
      tally.add(status, ms)
      if (performance.now() < end) ask()
      else resolve()
    })
    ask()
    setTimeout(resolve, order.seconds * 1000 + 1000)
  })))
  for (const line of lines) line.close()
  return tally.outcome
}

function questionsOf (order: Flood, client: number): () => string {
  if (order.kind === 'logins') {
    const body = JSON.stringify({ username: `user-${client % order.names}`, password: 'a wrong password of theirs' })
    const question = `POST /login HTTP/1.1\r\nhost: 127.0.0.1:${order.port}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
    return () => question
  }
  if (order.kind === 'texts') {
    const question = get(order.port, order.authorization)
    return () => question
  }
  const { port, unsigned, signatureBytes } = order
  const signature = randomBytes(signatureBytes)
  signature[0] = 1 // below every modulus and order
  return () => {
    signature.writeUInt32LE((signature.readUInt32LE(8) + 1) >>> 0, 8)
    return get(port, `Bearer ${unsigned}.${signature.toString('base64url')}`)
  }
}

function get (port: number, authorization: string): string {
  return `GET /orders/ord_7f3a HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\nauthorization: ${authorization}\r\naccept: application/json\r\n\r\n`
}
