/**
 * Sockets: the HTTP server itself, and the answers that Node would give on its own, without headers or form.
 *
 * Threat: bare answers to what is no HTTP, slow or too large (CWE-400); a shutdown that waits for whoever never ends.
 * Defence: problem details with the application's headers for all of them, an event for each; connections that are
 * still busy some time after closing began are cut.
 * Not covered: what a proxy answers before the request arrives.
 */
import http, { METHODS, type RequestListener, type Server, type ServerResponse } from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { FastifyError } from '@fastify/error'
import type { TlsListener } from './certificates/listener.js'
import { toProblem } from './errors.js'
import { refuseBeforeRouting } from './plan/index.js'
import { PreparedResponse } from './prepared.js'
import { requestId } from './request-id.js'
import { createRefusal } from './refusal.js'

/** What arrived is not HTTP as we speak it. */
export const RequestMalformed = createRefusal('FST_BASTION_SERVER_MALFORMED', 'The request is malformed', 400)
/** The header section is larger than the server takes (RFC 6585, 5). */
export const HeadersTooLarge = createRefusal('FST_BASTION_SERVER_HEADERS_TOO_LARGE', 'The header fields are too large', 431)
/** The request did not arrive in time. */
export const RequestTimeout = createRefusal('FST_BASTION_SERVER_TIMEOUT', 'The request took too long to arrive', 408)
/** An `Expect` other than `100-continue` (RFC 9110, 10.1.1). */
export const ExpectationFailed = createRefusal('FST_BASTION_SERVER_EXPECTATION', 'This expectation cannot be met', 417)
/** CONNECT: this is no proxy. */
export const TunnelRefused = createRefusal('FST_BASTION_SERVER_TUNNEL', 'This service is no proxy', 405)
/** The extensions of a chunked body are larger than Node takes. */
export const ChunkTooLarge = createRefusal('FST_BASTION_SERVER_CHUNK_TOO_LARGE', 'The body is malformed', 413)

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
/** Those that routers know. */
const KNOWN: ReadonlySet<string> = new Set(METHODS)
/** Milliseconds in which a client may take the answer to what it sent malformed. */
const LINGER = 1000

/**
 * HTTP/2 as it is spoken here: as many requests at once as browsers make, heads no larger than those of HTTP/1.1, nothing pushed. Node refuses who floods with resets,
 * settings or pings itself.
 */
const HTTP2: http2.Settings = { maxConcurrentStreams: 100, maxHeaderListSize: http.maxHeaderSize, enablePush: false }

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
 * @param tls What its TLS is served with; null where it has none, or Fastify's own options say it
 */
export function serverFactory (closeTimeout: number, tls: TlsListener | null = null) {
  // Listening on `localhost` makes a second server for the other address family; its errors go where the first one's do.
  const firsts = new WeakMap<object, Server>()

  return function makeServer (answer: RequestListener, settings: Settings): Server {
    const handler = settings.http2 === true ? refuseUnknownMethods(answer) : answer
    const secure = tls === null ? settings.https : tls.options()
    const server = settings.http2 === true ? makeHttp2(handler, settings, secure) : makeHttp1(handler, settings, secure)
    tls?.attach(server as https.Server)
    const first = firsts.get(settings) ?? server
    firsts.set(settings, first)
    if (first !== server) server.on('clientError', (error, socket) => first.emit('clientError', error, socket))
    server.on('connect', function refuseTunnel (request, socket: unknown) {
      if (!(socket instanceof http2.Http2ServerResponse)) return first.emit('clientError', new TunnelRefused(), socket)
      refuseBeforeRouting(request, new TunnelRefused())
      handler(request, socket as unknown as ServerResponse)
    })
    server.on('checkExpectation', function refuseExpectation (request, response) {
      refuseBeforeRouting(request, new ExpectationFailed())
      handler(request, response)
    })
    limitClosing(server, closeTimeout)
    return server
  }
}

/** The parser of HTTP/1.1 takes no other methods. That of HTTP/2 takes any, and no router has a place for them: no hook would see these requests. */
function refuseUnknownMethods (answer: RequestListener): RequestListener {
  return function answerKnownMethod (request, response) {
    if (!KNOWN.has(request.method!)) {
      refuseBeforeRouting(request, new RequestMalformed())
      request.method = 'GET'
    }
    answer(request, response)
  }
}

function makeHttp1 (handler: RequestListener, settings: Settings, secure: Settings['https']): Server {
  const { http: plain, keepAliveTimeout } = settings
  const options = { ServerResponse: PreparedResponse, ...plain, ...timesOf(settings), keepAliveTimeout }
  if (secure === undefined || secure === null) return http.createServer(options, handler)
  const server = https.createServer({ ...options, ...(secure === true ? {} : secure) }, handler)
  endHandshakes(server)
  return server
}

function makeHttp2 (handler: RequestListener, settings: Settings, secure: Settings['https']): Server {
  const { http: plain = {}, http2SessionTimeout, requestTimeout, keepAliveTimeout } = settings
  const options = { settings: HTTP2, Http2ServerRequest: JoinedRequest, Http1ServerResponse: PreparedResponse } as http2.SecureServerOptions
  const server = secure === undefined || secure === null
    ? http2.createServer({ ...plain as http2.ServerOptions, ...options as http2.ServerOptions }, handler as never)
    : http2.createSecureServer({ ...plain, ...options, allowHTTP1: true, ...(secure === true ? {} : secure) } as http2.SecureServerOptions, handler as never)
  // What Node reads from the server itself where it falls back to HTTP/1.1.
  const { maxHeaderSize, requireHostHeader, joinDuplicateHeaders, connectionsCheckingInterval = 30_000 } = plain
  Object.assign(server, timesOf(settings), { keepAliveTimeout, maxHeaderSize, requireHostHeader, joinDuplicateHeaders, connectionsCheckingInterval })
  const sessions = new Set<http2.Http2Session>()
  server.on('session', session => {
    sessions.add(session)
    session.once('close', () => sessions.delete(session))
    const streams = new Set<http2.ServerHttp2Stream>()
    session.on('stream', stream => {
      streams.add(stream)
      stream.once('close', () => streams.delete(stream))
    })
    session.setTimeout(http2SessionTimeout)
    session.on('timeout', () => {
      // Whoever takes nothing of what is ready would have it kept for ever (CVE-2019-9517).
      if ([...streams].some(({ writableLength }) => writableLength > 0)) session.destroy()
      else session.close()
    })
  })
  server.on('stream', stream => limitArrival(stream, requestTimeout))
  const destroyRest = endHandshakes(server as unknown as Server)
  return Object.assign(server, {
    closeHttp2Sessions () { for (const session of sessions) session.close() },
    closeIdleConnections () { http.Server.prototype.closeIdleConnections.call(server) },
    closeAllConnections () {
      for (const session of sessions) session.destroy()
      http.Server.prototype.closeAllConnections.call(server)
      destroyRest()
    },
  }) as unknown as Server
}

function timesOf ({ http: plain, requestTimeout }: Settings): { requestTimeout: number, headersTimeout: number } {
  return { requestTimeout, headersTimeout: Math.min(requestTimeout, plain?.headersTimeout ?? 60_000) }
}

/** HTTP/2 has no time in which a request must have arrived: a body that trickles would hold its handler for ever. */
function limitArrival (stream: http2.ServerHttp2Stream, requestTimeout: number): void {
  if (stream.endAfterHeaders) return
  const timer = setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), requestTimeout)
  stream.once('end', () => clearTimeout(timer))
  stream.once('close', () => clearTimeout(timer))
}

/** Connections on which TLS does not stand yet are nobody's: `closeAllConnections` does not know them. Answers what ends them. */
function endHandshakes (server: Server): () => void {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  const destroy = () => { for (const socket of sockets) socket.destroy() }
  const closeAll = server.closeAllConnections?.bind(server)
  server.closeAllConnections = () => {
    closeAll?.()
    destroy()
  }
  return destroy
}

/** Of a field that comes twice Node takes the first in silence, here too: joined, two Authorizations are what nobody accepts. */
class JoinedRequest extends http2.Http2ServerRequest {
  constructor (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders, options: object, rawHeaders: readonly string[]) {
    super(stream, joined(headers, rawHeaders), options as never, rawHeaders)
  }
}

function joined (headers: http2.IncomingHttpHeaders, rawHeaders: readonly string[]): http2.IncomingHttpHeaders {
  const seen = new Map<string, string>()
  let all = headers
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!
    const first = seen.get(name)
    const value = first === undefined ? rawHeaders[i + 1]! : `${first}, ${rawHeaders[i + 1]}`
    seen.set(name, value)
    // These two Node joins itself, each in its own way.
    if (first === undefined || name === 'cookie' || name === 'set-cookie') continue
    all = { ...all, [name]: value }
  }
  return all
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

/** What Node tells of it, beside the error. */
interface Unparsed extends Error { code?: string, rawPacket?: Buffer, bytesParsed?: number }
type HttpSocket = Socket & { _httpMessage?: ServerResponse | null, parser?: { incoming?: { complete: boolean } | null } | null }

/** What Node's parser refuses: there is no request, so the answer is written to the socket. */
export function answerUnparsed (this: FastifyInstance, error: Unparsed, socket: HttpSocket): void {
  // Who was answered before its body was whole is not answered again when the rest of it breaks off.
  const isAnswered = socket._httpMessage?.headersSent ?? socket.parser?.incoming?.complete === false
  // Nothing can be said: the peer is gone, TLS never stood, or another answer is on its way through this socket.
  if (!socket.writable || error.code === 'ECONNRESET' || error.code?.startsWith('ERR_SSL') === true || error.code === 'ERR_TLS_HANDSHAKE_TIMEOUT' || isAnswered) {
    if (socket.writable) socket.destroy()
    return
  }
  const refusal = error instanceof TunnelRefused ? error as FastifyError : new (UNPARSED[error.code ?? ''] ?? RequestMalformed as never)()
  const id = requestId()
  const app = this as FastifyInstance & Partial<Pick<FastifyInstance, 'events' | 'plan'>>
  app.log.debug({ err: error, requestId: id }, 'client error')
  app.events?.recordUnguarded('malformed_request', { id, ip: socket.remoteAddress }, { code: refusal.code })
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
  socket.end(`HTTP/1.1 ${problem.status} ${problem.title}\r\n${head}\r\n\r\n${isHead(error) ? '' : body}`)
  const linger = setTimeout(() => socket.destroy(), LINGER)
  socket.once('close', () => clearTimeout(linger))
}

/** As far as the packet shows in which the parser gave up: the answer to HEAD has no body (RFC 9110, 9.3.2), or its client takes the body for another answer. */
function isHead ({ rawPacket, bytesParsed }: Unparsed): boolean {
  if (rawPacket === undefined) return false
  const begin = rawPacket.lastIndexOf('\r\n\r\n', Math.max(0, (bytesParsed ?? rawPacket.length) - 4))
  return rawPacket.toString('latin1', begin < 0 ? 0 : begin + 4, (begin < 0 ? 0 : begin + 4) + 5) === 'HEAD '
}
