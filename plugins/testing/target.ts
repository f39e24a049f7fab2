/** The service that is attacked: asked by `inject`, or over a socket as clients do. */
import { request as requestHttp, Agent } from 'node:http'
import { request as requestHttps, Agent as SecureAgent } from 'node:https'
import { isIP } from 'node:net'
import type { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { isLoopback, TestingMisconfigured } from './checking.js'

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
  /** What the answer stands for, where the service says so inside of it. */
  status: number
  /** What it was sent with, where that is another one. */
  sentStatus?: number
  headers: Readonly<Record<string, string | string[] | undefined>>
  text: string
  /** It did not end in time. */
  isCut: boolean
  /** Nothing was asked: it is switched off there. */
  isUnsent?: true
}

export interface Target {
  /** @param timeout milliseconds after which an answer that does not end is read no further */
  ask: (sent: Sent, timeout: number) => Promise<Received>
  /** Requests come from where they say. */
  hasAddresses: boolean
  /** Where it is, for people: with the path below which it is. */
  origin: string
  /** That path; empty where there is none. */
  base: string
  /** What is sent as `Host` where nobody says otherwise. */
  host: string
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
    base: '',
    host: 'localhost',
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

/**
 * An application of this process on a port of its own, or the one on which it listens already.
 *
 * @throws TestingMisconfigured where it speaks HTTP/2 alone, or listens where there is no port
 */
export async function listening (app: FastifyInstance): Promise<Target> {
  const { http2, https } = app.initialConfig
  if (http2 === true && (typeof https !== 'object' || https.allowHTTP1 !== true)) throw new TestingMisconfigured('testing: over: what speaks HTTP/2 alone is attacked by inject, not over a socket')
  const isOurs = !app.server.listening
  if (isOurs) await app.listen({ host: '127.0.0.1', port: 0 })
  const place = app.server.address()
  if (place === null || typeof place === 'string') throw new TestingMisconfigured('testing: over: the application listens where there is no port: it is attacked by inject, not over a socket')
  const scheme = 'setSecureContext' in app.server ? 'https' : 'http'
  const { address, family, port } = place
  const host = ['0.0.0.0', '::'].includes(address) ? '127.0.0.1' : family === 'IPv6' ? `[${address}]` : address
  // Whoever gave the application closes it. A port that is gone afterwards tells nobody anything.
  const target = remote(new URL(`${scheme}://${host}:${port}`), { servername: 'localhost', rejectUnauthorized: false })
  return { ...target, host: 'localhost', ...isOurs && { origin: `${scheme}://localhost` } }
}

/** @param tls where the certificate is not one for the host of the URL */
export function remote (url: URL, tls?: { servername: string, rejectUnauthorized: boolean }): Target {
  const { protocol, port, origin, host } = url
  const hostname = url.hostname.replace(/^\[|\]$/g, '')
  const base = url.pathname.replace(/\/$/, '')
  const isSecure = protocol === 'https:'
  // Nobody stands between this machine and itself.
  const secure = tls ?? { servername: isIP(hostname) === 0 ? hostname : '', rejectUnauthorized: !isLoopback(url) }
  const agent = isSecure ? new SecureAgent({ keepAlive: true, maxSockets: AT_ONCE }) : new Agent({ keepAlive: true, maxSockets: AT_ONCE })
  return {
    origin: `${origin}${base}`,
    base,
    host,
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
      const options = { agent: by, hostname, port, method, path: `${base}${path}`, headers: { ...headers, ...length }, ...secure }
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
