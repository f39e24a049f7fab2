/**
 * Sockets: the HTTP server itself, and the answers that Node would give on its own, without headers or form.
 *
 * Threat: bare answers to what is no HTTP, slow or too large (CWE-400); a shutdown that waits for whoever never ends.
 * Defence: problem details with the application's headers for all of them, an event for each; connections that are
 * still busy some time after closing began are cut.
 * Not covered: what a proxy answers before the request arrives.
 */
import { randomUUID } from 'node:crypto'
import http, { type RequestListener, type Server, type ServerResponse } from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { createError, type FastifyError } from '@fastify/error'
import { toProblem } from './errors.js'
import { refuseBeforeRouting } from './plan/index.js'
import { PreparedResponse } from './prepared.js'

/** What arrived is not HTTP as we speak it. */
export const RequestMalformed = createError('FST_BASTION_SERVER_MALFORMED', 'The request is malformed', 400)
/** The header section is larger than the server takes (RFC 6585, 5). */
export const HeadersTooLarge = createError('FST_BASTION_SERVER_HEADERS_TOO_LARGE', 'The header fields are too large', 431)
/** The request did not arrive in time. */
export const RequestTimeout = createError('FST_BASTION_SERVER_TIMEOUT', 'The request took too long to arrive', 408)
/** An `Expect` other than `100-continue` (RFC 9110, 10.1.1). */
export const ExpectationFailed = createError('FST_BASTION_SERVER_EXPECTATION', 'This expectation cannot be met', 417)
/** CONNECT: this is no proxy. */
export const TunnelRefused = createError('FST_BASTION_SERVER_TUNNEL', 'This service is no proxy', 405)
/** The extensions of a chunked body are larger than Node takes. */
export const ChunkTooLarge = createError('FST_BASTION_SERVER_CHUNK_TOO_LARGE', 'The body is malformed', 413)

const UNPARSED: Record<string, new () => FastifyError> = {
  HPE_HEADER_OVERFLOW: HeadersTooLarge as never,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: ChunkTooLarge as never,
  ERR_HTTP_REQUEST_TIMEOUT: RequestTimeout as never,
}
/** Headers of an answer that is written to a socket before the application knows its own. */
const BARE: Record<string, string> = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
}
/** Milliseconds in which a client may take the answer to what it sent malformed. */
const LINGER = 1000

/** What Fastify hands to its server factory, as far as it matters here. */
interface Settings {
  http?: http.ServerOptions
  https?: https.ServerOptions | true
  http2?: boolean
  http2SessionTimeout: number
  requestTimeout: number
  keepAliveTimeout: number
}

/**
 * Makes the server factory of one `server()`.
 *
 * @param closeTimeout Milliseconds that requests in flight have to finish once closing began
 */
export function serverFactory (closeTimeout: number) {
  // Listening on `localhost` makes a second server for the other address family; its errors go where the first one's do.
  const firsts = new WeakMap<object, Server>()

  return function makeServer (handler: RequestListener, settings: Settings): Server {
    const server = settings.http2 === true ? makeHttp2(handler, settings) : makeHttp1(handler, settings)
    const first = firsts.get(settings) ?? server
    firsts.set(settings, first)
    if (first !== server) server.on('clientError', (error, socket) => first.emit('clientError', error, socket))
    server.on('connect', (_request, socket) => first.emit('clientError', new TunnelRefused(), socket))
    server.on('checkExpectation', function refuseExpectation (request, response) {
      refuseBeforeRouting(request, new ExpectationFailed())
      handler(request, response)
    })
    limitClosing(server, closeTimeout)
    return server
  }
}

function makeHttp1 (handler: RequestListener, { http: plain, https: secure, requestTimeout, keepAliveTimeout }: Settings): Server {
  const options = { ServerResponse: PreparedResponse, ...plain, requestTimeout, headersTimeout: Math.min(requestTimeout, plain?.headersTimeout ?? 60_000), keepAliveTimeout }
  return secure === undefined || secure === null ? http.createServer(options, handler) : https.createServer({ ...options, ...(secure === true ? {} : secure) }, handler)
}

function makeHttp2 (handler: RequestListener, { http: plain, https: secure, http2SessionTimeout }: Settings): Server {
  const server = secure === undefined || secure === null
    ? http2.createServer(plain as http2.ServerOptions, handler as never)
    : http2.createSecureServer({ ...plain, ...(secure === true ? {} : secure) } as http2.SecureServerOptions, handler as never)
  const sessions = new Set<http2.Http2Session>()
  server.on('session', session => {
    sessions.add(session)
    session.once('close', () => sessions.delete(session))
    session.setTimeout(http2SessionTimeout, () => session.close())
  })
  return Object.assign(server, {
    closeHttp2Sessions () { for (const session of sessions) session.close() },
    closeIdleConnections () {},
    closeAllConnections () { for (const session of sessions) session.destroy() },
  }) as unknown as Server
}

/** Node waits for a request that never ends as long as it takes: here only as long as `closeTimeout` says. */
function limitClosing (server: Server, closeTimeout: number): void {
  const close = server.close.bind(server)
  server.close = function closeInTime (done) {
    const timer = setTimeout(() => server.closeAllConnections(), closeTimeout)
    server.once('close', () => clearTimeout(timer))
    return close(error => {
      clearTimeout(timer)
      done?.(error)
    })
  }
}

/** The router's own errors: malformed URL (400), over-long parameter (414). No hook would see these requests. */
export function answerUnrouted (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const app = request.server
  if (!app.hasDecorator('plan')) {
    reply.code(error.statusCode ?? 500).type('application/problem+json').headers(BARE).send(JSON.stringify(toProblem(error, request.id)))
    return
  }
  refuseBeforeRouting(request.raw, error)
  app.routing(request.raw, reply.raw)
}

/** What is for HTTPS alone stays there (RFC 6797, 7.2). */
function headersFor (socket: Socket & { encrypted?: boolean }, headers: Record<string, string>): Record<string, string> {
  if (socket.encrypted === true) return headers
  const { 'strict-transport-security': _hsts, 'reporting-endpoints': _endpoints, ...others } = headers
  return others
}

/** What Node's parser refuses: there is no request, so the answer is written to the socket. */
export function answerUnparsed (this: FastifyInstance, error: Error & { code?: string }, socket: Socket & { _httpMessage?: ServerResponse }): void {
  // Nothing can be said: the peer is gone, TLS never stood, or another answer is on its way through this socket.
  if (!socket.writable || error.code === 'ECONNRESET' || error.code?.startsWith('ERR_SSL') === true || socket._httpMessage?.headersSent === true) {
    if (socket.writable) socket.destroy()
    return
  }
  const refusal = error instanceof TunnelRefused ? error as FastifyError : new (UNPARSED[error.code ?? ''] ?? RequestMalformed as never)()
  const id = randomUUID()
  const app = this as FastifyInstance & Partial<Pick<FastifyInstance, 'events' | 'plan'>>
  app.log.debug({ err: error, requestId: id }, 'client error')
  app.events?.record('malformed_request', { id, ip: socket.remoteAddress }, { code: refusal.code })
  const problem = toProblem(refusal, id)
  const body = JSON.stringify(problem)
  const headers = {
    ...headersFor(socket, (app.plan?.notFound.controls.headers ?? BARE) as Record<string, string>),
    'content-type': 'application/problem+json; charset=utf-8',
    'content-length': String(Buffer.byteLength(body)),
    ...(problem.status === 405 && { allow: '' }),
    connection: 'close',
  }
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}`).join('\r\n')
  socket.end(`HTTP/1.1 ${problem.status} ${problem.title}\r\n${head}\r\n\r\n${body}`)
  const linger = setTimeout(() => socket.destroy(), LINGER)
  socket.once('close', () => clearTimeout(linger))
}
