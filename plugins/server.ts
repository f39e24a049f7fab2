/**
 * Server: the constructor options that no plugin can set.
 *
 * Threat: slow and oversized requests (CWE-400), spoofed addresses (CWE-348), secrets in logs (CWE-532), and the
 * answers that Node and the router give by themselves, without headers or limits.
 * Defence: bounded sizes and times, addresses of proxies instead of hop counts, a log without secrets, and router and
 * parser errors that get the headers, the flood guard and the form of every other refusal.
 * Not covered: what a proxy before the service does.
 */
import { isIP } from 'node:net'
import type { FastifyServerOptions } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import { loggerOf, NoLog, OneLineLog, type LoggerOption } from './log.js'
import { TlsListener, type TlsOptions } from './certificates/listener.js'
import { checkOptions } from './options.js'
import { isProduction } from './production.js'
import { requestId } from './request-id.js'
import { answerUnparsed, answerUnrouted, serverFactory } from './sockets.js'

/** A server option is wrong or unsafe. */
export const ServerMisconfigured = createError<[string]>('FST_BASTION_SERVER_MISCONFIGURED', '%s', 500, TypeError)

export const ServerOptions = Type.Object({
  bodyLimit: Type.Optional(Type.Integer({ minimum: 1, description: 'Bytes of a body at most', default: 262_144 })),
  requestTimeout: Type.Optional(Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1, description: 'Milliseconds in which a whole request must have arrived', default: 30_000 })),
  keepAliveTimeout: Type.Optional(Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1, description: 'Milliseconds that an idle connection is kept: longer than proxies do', default: 72_000 })),
  closeTimeout: Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1, description: 'Milliseconds that requests in flight have to finish when the server closes', default: 10_000 })),
}, { additionalProperties: false })

/** What is decided here and nowhere else. */
const DECIDED = ['trustProxy', 'logger', 'frameworkErrors', 'clientErrorHandler', 'serverFactory', 'ajv', 'genReqId', 'logController', 'bodyLimit', 'requestTimeout', 'keepAliveTimeout'] as const

export type ServerOptions = Static<typeof ServerOptions> & {
  /** Addresses or CIDR blocks of proxies whose X-Forwarded-* are believed, or a function (default: none). */
  trustProxy?: string | readonly string[] | ((address: string, hop: number) => boolean)
  /** pino level or options, or false (default `info`). */
  logger?: LoggerOption
  /**
   * HTTPS: TLS 1.2 and 1.3 with forward secrecy alone, HTTP/2 and HTTP/1.1. Its certificates are checked, watched and renewed by the certificates concern.
   * Default: plain HTTP, for a proxy before it that ends TLS.
   */
  tls?: TlsOptions
  /** Anything else of Fastify's that is not decided here: `http`, `https`, `http2`, `routerOptions`, … */
  fastify?: Omit<FastifyServerOptions, typeof DECIDED[number]>
}

/**
 * Constructor options for Fastify.
 *
 * @throws ServerMisconfigured for a hop count, `true` or a network of everybody as `trustProxy`: all can be spoofed (GHSA-3m5p-2c4r-xxw2)
 * @throws CertificateRefused where a file of `tls` cannot be read, or a key is not its certificate's
 */
export function server (options: ServerOptions = {}): FastifyServerOptions {
  const { trustProxy, logger = 'info', tls, fastify = {}, ...numbers } = options
  checkOptions(ServerOptions, numbers, 'server', ServerMisconfigured)
  const { bodyLimit = 262_144, requestTimeout = 30_000, keepAliveTimeout = 72_000, closeTimeout = 10_000 } = numbers
  if (isProduction() && isPretty(logger)) throw new ServerMisconfigured('server: logger: pino-pretty is for development: nobody searches what is written for eyes')
  const taken = DECIDED.filter(name => name in fastify)
  if (taken.length > 0) throw new ServerMisconfigured(`server: fastify.${taken.join(', fastify.')}: is decided by server() itself`)
  if (tls !== undefined && ('https' in fastify || 'http2' in fastify)) throw new ServerMisconfigured('server: fastify.https and fastify.http2: tls decides them: give one or the other')
  const listener = tls === undefined ? null : new TlsListener(tls)
  const { http, routerOptions, ...others } = fastify as FastifyServerOptions & { http?: object }
  return {
    ...others,
    // What Fastify goes by; the server itself gets its options from the listener, which has the newest.
    ...listener !== null && { https: { allowHTTP1: true }, http2: listener.http2 },
    bodyLimit,
    requestTimeout,
    keepAliveTimeout,
    routerOptions: {
      caseSensitive: true,
      ignoreTrailingSlash: false,
      ignoreDuplicateSlashes: false,
      useSemicolonDelimiter: false,
      maxParamLength: 200,
      ...routerOptions,
    },
    // Closing: requests that still arrive on open connections are answered, with `connection: close`, instead of a bare 503.
    return503OnClosing: false,
    // Node would answer a missing Host by itself, without headers: transport does it. And of a field that comes twice
    // (two Authorizations) it would take the first in silence: joined, it is what nobody accepts.
    http: { ...http, requireHostHeader: false, joinDuplicateHeaders: true },
    trustProxy: proxiesOf(trustProxy),
    genReqId: requestId,
    logger: loggerOf(logger),
    logController: logger === false && others.loggerInstance === undefined ? new NoLog() : new OneLineLog(),
    frameworkErrors: answerUnrouted,
    clientErrorHandler: answerUnparsed,
    serverFactory: serverFactory(closeTimeout, listener),
  } as unknown as FastifyServerOptions
}

function isPretty (logger: LoggerOption): boolean {
  const { transport } = (typeof logger === 'object' ? logger : {}) as { transport?: { target?: unknown, targets?: { target?: unknown }[] } }
  return [transport, ...transport?.targets ?? []].some(one => one?.target === 'pino-pretty')
}

/** Addresses that really name somebody: a hop count names nobody, and a network of everybody names everybody. */
function proxiesOf (trustProxy: unknown): string[] | ServerOptions['trustProxy'] | false {
  if (trustProxy === undefined || trustProxy === false) return false
  if (typeof trustProxy === 'function') return trustProxy as never
  const list = typeof trustProxy === 'string' ? trustProxy.split(',') : trustProxy
  if (!Array.isArray(list)) {
    throw new ServerMisconfigured('server: trustProxy: list the addresses or CIDR blocks of your proxies; true and hop counts can be spoofed')
  }
  return list.map(text => {
    const proxy = String(text).trim()
    if (!isNetwork(proxy)) throw new ServerMisconfigured(`server: trustProxy: ${JSON.stringify(proxy)} is not an address or a CIDR block of proxies`)
    return proxy
  })
}

function isNetwork (text: string): boolean {
  if (text === 'loopback' || text === 'linklocal' || text === 'uniquelocal') return true
  const [address = '', bits, ...rest] = text.split('/')
  const family = isIP(address)
  if (family === 0 || rest.length > 0) return false
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) > 0 && Number(bits) <= (family === 4 ? 32 : 128))
}
