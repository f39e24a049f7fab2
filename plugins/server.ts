/**
 * Server: the constructor options that no plugin can set.
 *
 * Threat: slow and oversized requests (CWE-400), spoofed addresses (CWE-348), secrets in logs (CWE-532), and the
 * answers that Node and the router give by themselves, without headers or limits.
 * Defence: bounded sizes and times, addresses of proxies instead of hop counts, redaction, one line of log a request,
 * and one function that gives router and parser errors the headers, the flood guard and the form of every other refusal.
 * Not covered: what a proxy before the service does.
 */
import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest, FastifyServerOptions } from 'fastify'
import createError from '@fastify/error'
import { LogController } from 'fastify'
import { toProblem } from './errors.js'

/** A server option is wrong or unsafe. */
export const ServerMisconfigured = createError<[string]>('FST_BASTION_SERVER_MISCONFIGURED', '%s', 500, TypeError)
/** What arrived is not HTTP as we speak it. */
export const RequestMalformed = createError('FST_BASTION_SERVER_MALFORMED', 'The request is malformed', 400)
/** The header section is larger than the server takes (RFC 6585, 5). */
export const HeadersTooLarge = createError('FST_BASTION_SERVER_HEADERS_TOO_LARGE', 'The header fields are too large', 431)
/** The request did not arrive in time. */
export const RequestTimeout = createError('FST_BASTION_SERVER_TIMEOUT', 'The request took too long to arrive', 408)

export interface ServerOptions {
  /** Bytes of a body at most (default 262,144). */
  bodyLimit?: number
  /** Addresses or CIDR blocks of proxies whose X-Forwarded-* are believed, or a function (default: none). */
  trustProxy?: string | readonly string[] | ((address: string, hop: number) => boolean)
  /** pino level or options, or false (default `info`). */
  logger?: FastifyServerOptions['logger'] | string
  /** Milliseconds in which a whole request must have arrived (default 30,000). */
  requestTimeout?: number
  /** Milliseconds that an idle connection is kept (default 72,000, longer than common proxies do). */
  keepAliveTimeout?: number
  /** Anything else of Fastify's that is not decided here. */
  fastify?: Omit<FastifyServerOptions, 'trustProxy' | 'logger' | 'frameworkErrors' | 'clientErrorHandler' | 'ajv' | 'genReqId' | 'logController'>
}

/** Names under which secrets travel: their values are replaced in every log line. */
const REDACTED = [
  'authorization', 'cookie', '["set-cookie"]', '["x-api-key"]', '["x-csrf-token"]', '["proxy-authorization"]',
].flatMap(name => ['req.headers', 'res.headers', 'headers'].map(parent => name.startsWith('[') ? `${parent}${name}` : `${parent}.${name}`))
  .concat(['password', 'currentPassword', 'newPassword', 'token', 'refresh_token', 'access_token', 'secret', 'key'].flatMap(name => [name, `*.${name}`, `*.*.${name}`]))

/**
 * Constructor options for Fastify.
 *
 * @throws ServerMisconfigured for a hop count or `true` as `trustProxy`: both can be spoofed (GHSA-3m5p-2c4r-xxw2)
 */
export function server (options: ServerOptions = {}): FastifyServerOptions {
  const { trustProxy, logger = 'info', bodyLimit = 262_144, requestTimeout = 30_000, keepAliveTimeout = 72_000 } = options
  if (typeof trustProxy === 'boolean' || typeof trustProxy === 'number') {
    throw new ServerMisconfigured('server: trustProxy: list the addresses or CIDR blocks of your proxies; true and hop counts can be spoofed')
  }
  return {
    requestTimeout,
    keepAliveTimeout,
    connectionTimeout: 0,
    maxRequestsPerSocket: 0,
    routerOptions: { caseSensitive: true, ignoreTrailingSlash: false, ignoreDuplicateSlashes: false, useSemicolonDelimiter: false, maxParamLength: 200 },
    // Closing: requests that still arrive on open connections are answered, with `connection: close`, instead of a bare 503.
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    ...options.fastify,
    bodyLimit,
    // Node would answer a missing Host by itself, without headers: transport does it.
    http: { requireHostHeader: false, ...(options.fastify as { http?: object } | undefined)?.http },
    trustProxy: (trustProxy === undefined ? false : typeof trustProxy === 'function' ? trustProxy : [...[trustProxy].flat()]) as never,
    genReqId: () => randomUUID(),
    logger: loggerOf(logger),
    logController: new OneLineLog(),
    frameworkErrors: answerUnrouted as never,
    clientErrorHandler: answerUnparsed as never,
  } as FastifyServerOptions
}

function loggerOf (logger: ServerOptions['logger']): FastifyServerOptions['logger'] {
  if (logger === false) return false
  const options = typeof logger === 'string' ? { level: logger } : logger === true ? {} : logger
  return { ...options, redact: { paths: REDACTED, censor: '[redacted]' }, serializers: { err: safeError, ...(options as { serializers?: object }).serializers } } as never
}

/** Errors of libraries carry connection strings and statements: only what locates the fault is logged. */
function safeError (error: Error & { code?: string, statusCode?: number }) {
  return { type: error?.name, message: concealUrls(String(error?.message)), code: error?.code, statusCode: error?.statusCode, stack: concealUrls(String(error?.stack)) }
}

function concealUrls (text: string): string {
  return text.replace(/\b([a-z][a-z0-9+.-]{1,20}:\/\/)[^\s@/'"]{1,512}@/gi, '$1[redacted]@')
}

/** One line a request, when it is over: nothing of bodies, headers or query strings. */
class OneLineLog extends LogController {
  override incomingRequest (): void {}

  override routeNotFound (): void {}

  override requestCompleted (error: Error | null | undefined, request: FastifyRequest, reply: FastifyReply): void {
    const line = {
      method: request.method,
      path: pathOf(request.url),
      status: reply.statusCode,
      ms: Math.round(reply.elapsedTime * 10) / 10,
      address: request.ip,
      ...(request.principal !== null && request.principal !== undefined && { principal: request.principal.id }),
    }
    if (error !== null && error !== undefined) request.log.error({ ...line, err: error }, 'request failed')
    else request.log.info(line, 'request')
  }
}

function pathOf (url: string): string {
  const end = url.indexOf('?')
  return (end === -1 ? url : url.slice(0, end)).slice(0, 512)
}

/** The router's own errors: malformed URL (400), over-long parameter (414). No hook sees these requests. */
function answerUnrouted (error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const app = request.server as FastifyInstance & Partial<Pick<FastifyInstance, 'plan' | 'answerProblem'>>
  let answer = error
  try {
    app.plan?.runUnrouted('edge', request, reply)
    app.plan?.runUnrouted('guard', request, reply)
  } catch (refusal) {
    answer = refusal
  }
  if (app.answerProblem !== undefined) app.answerProblem(answer, request, reply)
  else reply.code((answer as { statusCode?: number }).statusCode ?? 500).send(toProblem(answer, request.id))
}

const SOCKET_HEADERS = [
  'content-type: application/problem+json; charset=utf-8', 'cache-control: no-store', 'x-content-type-options: nosniff',
  "content-security-policy: default-src 'none'; frame-ancestors 'none'", 'x-frame-options: DENY', 'referrer-policy: no-referrer',
  'cross-origin-resource-policy: same-origin', 'connection: close',
].join('\r\n')

/** What Node's parser refuses: there is no request, so the answer is written to the socket. */
function answerUnparsed (this: FastifyInstance, error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const refusal = error.code === 'HPE_HEADER_OVERFLOW' ? new HeadersTooLarge() : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? new RequestTimeout() : new RequestMalformed()
  this.log.debug({ err: error }, 'client error')
  const body = JSON.stringify(toProblem(refusal, randomUUID()))
  socket.end(`HTTP/1.1 ${refusal.statusCode} ${toProblem(refusal).title}\r\n${SOCKET_HEADERS}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
}
