/** The service that is attacked: asked by `inject`, or over a socket as clients do. */
import { request as requestHttp, Agent } from 'node:http'
import { request as requestHttps, Agent as SecureAgent } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'

export interface Sent {
  method: string
  /** Path and query as they are sent. */
  path: string
  headers: Readonly<Record<string, string>>
  body?: string | Buffer
  /** What is written to a connection instead. */
  raw?: Buffer
  /** From which it seems to come; by `inject` alone. */
  address: string
}

export interface Received {
  status: number
  headers: Readonly<Record<string, string | string[] | undefined>>
  text: string
  /** It did not end in time. */
  isCut: boolean
}

export interface Target {
  /** @param timeout milliseconds after which an answer that does not end is read no further */
  ask: (sent: Sent, timeout: number) => Promise<Received>
  /** Requests come from where they say. */
  hasAddresses: boolean
  /** Where it is, for people. */
  origin: string
  close: () => Promise<void>
}

const MAX_TEXT = 4_000_000
/** Times the timeout, in which an answer must have begun. */
const PATIENCE = 10
/** Connections. */
const AT_ONCE = 32
/** Stands for no answer: the connection was closed, or nothing came in time (`isCut`); no service says it. */
export const CLOSED = 499

/** The service is not there any more, or answers nobody. */
export class Unreachable extends Error {}

export function injected (app: FastifyInstance): Target {
  return {
    origin: 'http://localhost',
    hasAddresses: true,
    close: async () => {},
    async ask ({ method, path, headers, body, address }, timeout) {
      const response = await inTime(app.inject({ method: method as 'GET', url: path, headers: { ...headers }, remoteAddress: address, payloadAsStream: true, ...body !== undefined && { payload: body } }), timeout)
      if ('isCut' in response) return response
      const { text, isCut } = await read(response.stream(), timeout)
      return { status: response.statusCode, headers: response.headers as Received['headers'], text, isCut }
    },
  }
}

/** Nothing at all where it takes too long, or the connection is closed. */
async function inTime<T> (answer: Promise<T>, timeout: number): Promise<T | Received> {
  const nothing = { status: CLOSED, headers: {}, text: '' }
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<Received>(resolve => { timer = setTimeout(() => { resolve({ ...nothing, isCut: true }) }, timeout * PATIENCE) })
  try {
    return await Promise.race([answer, late])
  } catch (error) {
    const { code, message } = error as { code?: string, message: string }
    if (code !== undefined && AWAY.has(code)) throw new Unreachable(`it cannot be reached: ${message}`)
    if (code === undefined || !RESET.has(code)) throw error
    return { ...nothing, isCut: false }
  } finally {
    clearTimeout(timer)
  }
}

/** An application of this process on a port of its own, or the one on which it listens already. */
export async function listening (app: FastifyInstance): Promise<Target> {
  const isOurs = !app.server.listening
  if (isOurs) await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const scheme = 'setSecureContext' in app.server ? 'https' : 'http'
  // Whoever gave the application closes it.
  return remote(`${scheme}://127.0.0.1:${port}`)
}

export function remote (url: string): Target {
  const { protocol, hostname, port, origin } = new URL(url)
  const isSecure = protocol === 'https:'
  const agent = isSecure ? new SecureAgent({ keepAlive: true, maxSockets: AT_ONCE }) : new Agent({ keepAlive: true, maxSockets: AT_ONCE })
  return {
    origin,
    hasAddresses: false,
    close: async () => { agent.destroy() },
    async ask (sent, timeout) {
      // An idle connection may end in the very moment in which it is used again.
      const received = await inTime(askOnce(sent, timeout, agent), timeout)
      if (received.status !== CLOSED || received.isCut) return received
      return inTime(askOnce(sent, timeout, false), timeout)
    },
  }

  function askOnce ({ method, path, headers, body }: Sent, timeout: number, by: Agent | SecureAgent | false): Promise<Received> {
    return new Promise((resolve, reject) => {
      const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
      const options = { agent: by, hostname: hostname.replace(/^\[|\]$/g, ''), port, method, path, headers: { ...headers, ...length }, servername: 'localhost' }
      const request = (isSecure ? requestHttps : requestHttp)(options, response => {
        read(response, timeout).then(({ text, isCut }) => {
          if (isCut) response.destroy()
          resolve({ status: response.statusCode!, headers: response.headers, text, isCut })
        }, reject)
      })
      request.on('error', reject)
      request.setTimeout(timeout * PATIENCE + 1000, () => { request.destroy() })
      request.end(body)
    })
  }
}

const RESET: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'LIGHT_ECONNRESET'])
const AWAY: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT'])

/** All of it, or what has come in the time that there is. */
function read (stream: Readable, timeout: number): Promise<{ text: string, isCut: boolean }> {
  return new Promise(resolve => {
    const chunks: Buffer[] = []
    let length = 0
    const timer = setTimeout(() => { end(true) }, timeout)
    const end = (isCut: boolean) => {
      clearTimeout(timer)
      resolve({ text: Buffer.concat(chunks).toString(), isCut })
      if (isCut) stream.destroy()
    }
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      length += chunk.length
      if (length > MAX_TEXT) end(true)
    })
    stream.on('end', () => { end(false) })
    stream.on('error', () => { end(true) })
  })
}
